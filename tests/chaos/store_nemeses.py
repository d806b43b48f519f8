"""Faults of what lies on a node's disk: it rots, is gone, or is an old copy. One node at a time; the next episode begins
when every stream has its replicas again."""

import glob
import os
import shutil
import signal

import damage
from nemeses import Nemesis, restart
from weir_cluster import wait_until
from weir_net import NetCluster

PAGE = 4096


class ScrubbedCluster(NetCluster):
    """Nodes that read all their blocks each second."""

    def __init__(self, count):
        super().__init__(count, config=damage.config())


class StoreNemesis(Nemesis):
    cluster = ScrubbedCluster

    def folder(self, node):
        return os.path.join(node.folder, "js")

    def wipe(self, node):
        """What comes back is another node, under the same name."""
        was = self.identity(node)
        shutil.rmtree(os.path.join(self.folder(node), "weir"))
        restart([node])
        assert self.identity(node) != was
        self.counts["new identities"] += 1

    def identity(self, node):
        with open(os.path.join(self.folder(node), "weir", "identity"), "rb") as f:
            return f.read()[8:24]

    def settle(self):
        """Each stream has replicas on all nodes, whole, current and voting, and meta has these nodes as voters."""
        why = []

        def check():
            why[:] = self.unsettled()
            return not why
        try:
            wait_until("replicas to be whole", check, 90, 0.1)
        except AssertionError as e:
            raise AssertionError("%s: %s" % (e, why))

    def unsettled(self):
        names = sorted(n.name for n in self.c.nodes)
        streams = {}
        for n in self.c.nodes:
            status, body = n.http("/healthz")
            if status != 200:
                return ["%s: %s" % (n.name, body)]
            for r in n.json("/replicaz")["replicas"]:
                streams.setdefault(r["stream"], []).append(r)
        for stream, replicas in streams.items():
            if len(replicas) != len(names):
                return ["%s is on %s" % (stream, [r["server"] for r in replicas])]
            for r in replicas:
                if (r["state"] != "ok" or r["damaged_blocks"] or r["lost"]
                        or sorted(m["server"] for m in r["members"]) != names
                        or any(m["role"] != "voter" for m in r["members"])):
                    return [r]
        metas = [n.json("/jsz")["meta_cluster"] for n in self.c.nodes]
        if not any(m.get("voters") == len(names) and len(m.get("replicas", [])) == len(names) - 1 for m in metas):
            return metas
        return []


class Rot(StoreNemesis):
    """Files of one node rot while it runs or is down: flipped bits, sectors of zeros or from elsewhere, short and missing
    files. What was there is fetched from the others; a node that cannot start says so, and comes back empty."""
    needs = {"rotten files": 1, "found": 1}

    KINDS = {"block": "store/data-*.wblk", "log": "wal/wal-*.log", "journal": "store/ckpt-*.journal",
             "identity": "identity", "birth": "birth"}

    def episode(self):
        victim = self.leader_or_any()
        self.hit([victim])
        kind = self.rng.choice(("block",) * 6 + ("log",) * 4 + ("journal", "identity", "birth"))
        before = victim.json("/replicaz")
        if kind == "block" and self.rng.random() < 0.5:
            self.rot(victim, kind, self.rng.choice((self.flip, self.zero, self.other)))
            self.hold(1, 3)  # The scrub comes by.
        else:
            if self.rng.random() < 0.5:
                victim.signal(signal.SIGTERM)
                assert victim.wait_exit(40) == 0, victim.log()
            else:
                self.kill([victim])
            self.rot(victim, kind, self.rng.choice((self.flip, self.flip, self.zero, self.other, self.shorten,
                                                    self.remove)))
            self.start(victim)
        self.settle()
        self.look(victim, before)

    def rot(self, node, kind, change):
        paths = [p for p in glob.glob(os.path.join(self.folder(node), "weir", self.KINDS[kind]))
                 if os.path.getsize(p) > 0]
        for path in self.rng.sample(paths, min(len(paths), self.rng.choice((1, 1, 2)))):
            try:
                change(path)
            except FileNotFoundError:  # A block that was written anew meanwhile.
                continue
            self.counts["rotten files"] += 1
            self.counts["rotten " + kind] += 1

    def start(self, node):
        """It may refuse, and says then what to do."""
        node.start(ready=False)
        if not self.is_up(node):
            self.counts["refused starts"] += 1
            self.counts["found"] += 1
            assert any(text in node.log() for text in ("Remove ", " aside and start again", "is corrupt; it is left")), (
                node.log())
            self.wipe(node)

    def is_up(self, node):
        return wait_until("%s to start or to end" % node.name, lambda: "up" if self.is_healthy(node) else
                          "ended" if node.process.poll() is not None else None, 90, 0.1) == "up"

    def is_healthy(self, node):
        try:
            return node.http("/healthz")[0] == 200
        except OSError:
            return False

    def look(self, node, before):
        log = node.log()
        for what, text in (("damaged logs", "The write-ahead log is damaged in"), ("damage", "Damage in "),
                           ("mended blocks", " is mended, with "), ("rebuilt replicas", " is to be built anew: ")):
            count = log.count(text)
            self.counts[what] += count
            self.counts["found"] += what.startswith("damage") and count
        ids = {r["stream"]: r["raft_id"] for r in before["replicas"]}
        self.counts["new replicas"] += sum(ids.get(r["stream"], r["raft_id"]) != r["raft_id"]
                                           for r in node.json("/replicaz")["replicas"])

    def change(self, path, off, new):
        with open(path, "r+b") as f:
            f.seek(off)
            f.write(new)
            f.flush()
            os.fsync(f.fileno())

    def read(self, path, off, size):
        with open(path, "rb") as f:
            f.seek(off)
            return f.read(size)

    def used(self, path):
        """Bytes up to the last that is not zero: files may be made larger than what is in them."""
        with open(path, "rb") as f:
            return max(1, len(f.read().rstrip(b"\0")))

    def flip(self, path):
        used = self.used(path)
        for _ in range(self.rng.choice((1, 2, 8))):
            off = self.rng.randrange(used)
            self.change(path, off, bytes([self.read(path, off, 1)[0] ^ 1 << self.rng.randrange(8)]))

    def page(self, path):
        return self.rng.randrange((self.used(path) + PAGE - 1) // PAGE) * PAGE

    def zero(self, path):
        off = self.page(path)
        self.change(path, off, bytes(len(self.read(path, off, PAGE))))

    def other(self, path):
        """A page from elsewhere in the file."""
        off = self.page(path)
        page = self.read(path, self.page(path), PAGE)
        self.change(path, off, page[:len(self.read(path, off, PAGE))])

    def shorten(self, path):
        os.truncate(path, self.rng.randrange(self.used(path)))

    def remove(self, path):
        os.unlink(path)


class Wipe(StoreNemesis):
    """One node loses all it has, and comes back under its name as another one while the others serve."""
    needs = {"new identities": 1}

    def episode(self):
        victim = self.leader_or_any()
        self.kill([victim])
        self.hold(0, 1)
        self.wipe(victim)
        self.settle()


class SetBack(StoreNemesis):
    """One node comes back with an old copy of its disk, made while it ran or was down. It is told, stops, and joins as a
    new one."""
    needs = {"recognised": 1}

    def episode(self):
        victim = self.leader_or_any()
        store, copy = self.folder(victim), os.path.join(victim.folder, "copy")
        shutil.rmtree(copy, ignore_errors=True)
        if self.rng.random() < 0.5:
            self.stop_process(victim)
            try:
                shutil.copytree(store, copy)
            finally:
                victim.signal(signal.SIGCONT)
        else:
            self.kill([victim])
            shutil.copytree(store, copy)
            restart([victim])
        self.settle()
        for _ in range(self.rng.choice((0, 1, 2))):
            self.kill([victim])
            restart([victim])
            self.settle()
        self.hold(0.5, 2)
        self.kill([victim])
        shutil.rmtree(store)
        shutil.copytree(copy, store)
        victim.start(ready=False)
        assert victim.wait_exit(30) != 0
        assert "disk was set back" in victim.log(), victim.log()
        self.counts["recognised"] += 1
        self.wipe(victim)
        self.settle()


ALL = {"rot": Rot, "wipe": Wipe, "set-back": SetBack}
