"""Each call on a node's files failing once, from its start to its end: with EIO, with ENOSPC where room is taken, and as
a write that stores half. The node goes on, or it stops with the file and the reason; the next start is clean and has all
that was acknowledged."""

import contextlib
import json
import mmap
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

from weir_cluster import Node, binary, run, wait_until
from weir_js import Js, JsCluster, dump

LIBRARY = os.environ.get("IO_FAULT_LIBRARY", os.path.join(os.path.dirname(os.path.dirname(binary())), "tests", "lib",
                                                          "io_fault.so"))
FAULTS = ("EIO", "ENOSPC", "short write")
# What a node says that could not read or write: the file, and why.
MESSAGE = r"(?i)(\[FTL\]|\[ERR\]).*(%s|input/output error|no space left|read or write failed|disk is full)"


class Faults:
    """The preloaded library of one node, see tests/lib/io_fault.c."""

    def __init__(self, node, below):
        path = os.path.join(node.folder, "io")
        with open(path, "wb") as f:
            f.write(bytes(32))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 32)
        node.env = dict(node.env, LD_PRELOAD=LIBRARY, WEIR_IO_FAULT=path, WEIR_IO_FAULT_PATH=below)

    def arm(self, nth, fault=0):
        """The nth call of the next start; 0: none."""
        self.map[:] = struct.pack("<4Q", 0, nth, 0, fault)

    def calls(self):
        return struct.unpack_from("<Q", self.map, 0)[0]

    def has_failed(self):
        return struct.unpack_from("<Q", self.map, 16)[0] > 0


def check_stopped(node, folder, what):
    """It ended of itself, and said why."""
    code = node.process.wait(20)
    log = node.log()
    assert code == 1, (what, code, log[-3000:])
    assert re.search(MESSAGE % re.escape(folder), log), (what, log[-3000:])


class Lone:
    """A node without a cluster, with all its files below one folder, and what it acknowledged."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "files")
        os.makedirs(os.path.join(self.folder, "run"))
        config = 'jetstream { store_dir: "%s/js", scrub_interval: "1s", scrub_rate: 64M, disk_reserve: 1M }\n' \
            'ports_file_dir: "%s/run"\n' % (self.folder, self.folder)
        self.node = Node(os.path.join(folder, "n"), config=config)
        self.faults = Faults(self.node, self.folder)
        self.acked = 0
        self.sent = 0

    def keep(self):
        """As it is now, for reset()."""
        self.kept = (self.acked, self.sent)
        shutil.copytree(self.folder, self.folder + ".kept")

    def reset(self):
        self.acked, self.sent = self.kept
        shutil.rmtree(self.folder)
        shutil.copytree(self.folder + ".kept", self.folder)

    def start(self, what):
        """False: it refused to."""
        node = self.node
        node.start(ready=False)

        def check():
            return node.process.poll() is not None or "Server is ready" in node.log()
        wait_until("%s: a start, or its end" % what, check, 30)
        return node.process.poll() is None

    def use(self, what):
        """A publish, and a look at what there is. It may end meanwhile."""
        node = self.node
        try:
            wait_until("health", lambda: node.process.poll() is not None or node.http("/healthz")[0] == 200, 20)
            js = Js(node)
            if self.sent == 0:
                js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]})
            self.sent += 1
            if "seq" in js.publish("s", b"%d" % self.sent):
                self.acked += 1
            state = js.info("S")["state"]
            assert self.acked <= state["messages"] <= self.sent, (what, self.acked, self.sent, state)
            js.close()
        except (OSError, EOFError, KeyError, TypeError, AssertionError) as e:
            if node.process.poll() is None:
                try:
                    node.process.wait(5)  # It was about to.
                except subprocess.TimeoutExpired:
                    raise AssertionError("%s: %r\n%s" % (what, e, node.log()[-3000:]))

    def stop(self, what):
        node = self.node
        if node.process.poll() is None:
            node.process.terminate()
            node.process.wait(20)
        if node.process.returncode != 0:
            check_stopped(node, self.folder, what)

    def clean(self, what):
        """Without a fault it starts, has everything and stops."""
        self.faults.arm(0)
        assert self.start(what), (what, self.node.log()[-3000:])
        self.use(what)
        self.node.process.terminate()
        assert self.node.process.wait(20) == 0, (what, self.node.log()[-3000:])


def each_call(lone, fault):
    """Returns how many were hit, and how many of these ended the node."""
    nth, hit, ended = 1, 0, 0
    while True:
        what = "call %d: %s" % (nth, FAULTS[fault])
        lone.reset()
        lone.faults.arm(nth, fault)
        if lone.start(what):
            lone.use(what)
        lone.stop(what)
        if not lone.faults.has_failed():
            return hit, ended
        hit += 1
        ended += lone.node.process.returncode != 0
        lone.clean("after " + what)
        nth += 1


def test_each_call_of_a_node_failing_once():
    with tempfile.TemporaryDirectory(prefix="weir-") as folder:
        lone = Lone(folder)
        lone.clean("the first start")
        lone.clean("the second start")
        lone.keep()
        for fault, name in enumerate(FAULTS):
            hit, ended = each_call(lone, fault)
            print("     %s: %d calls, %d ended the node" % (name, hit, ended), flush=True)
            assert hit >= 5 and (fault == 2 or ended >= 5), (hit, ended)


def test_each_call_of_a_first_start_failing_once():
    nth, ended = 1, 0
    while True:
        with tempfile.TemporaryDirectory(prefix="weir-") as folder:
            lone = Lone(folder)
            lone.faults.arm(nth)
            what = "call %d of the first start" % nth
            if lone.start(what):
                lone.use(what)
            lone.stop(what)
            failed = lone.faults.has_failed()
            ended += lone.node.process.returncode != 0
            lone.clean("after " + what)
        if not failed:
            break
        nth += 2
    assert ended > 10, ended


def is_born(weir):
    """The last that is written into both copies (cluster/js_birth.c)."""
    states = set()
    for name in ("birth", "birth.copy"):
        with open(os.path.join(weir, name), "rb") as f:
            states.add(f.read()[8])
    return states == {2}


def test_each_call_on_birth_records_failing_once():
    """A cluster is born all the same, once the node is started again."""
    nth = 1
    while True:
        with JsCluster(3, born=False) as c:
            node = c.nodes[2]
            node.kill()
            weir = os.path.join(c.folder, "n2", "js", "weir")
            faults = Faults(node, "/weir/birth")
            faults.arm(nth)
            node.start(ready=False)
            what = "call %d on birth records" % nth

            def check():
                if node.process.poll() is not None:
                    return True
                with contextlib.suppress(OSError):  # The port is not open yet.
                    return all(n.http("/healthz")[0] == 200 for n in c.nodes) and is_born(weir)
                return False
            wait_until(what, check, 30)
            failed = faults.has_failed()
            if node.process.poll() is not None:
                check_stopped(node, weir, what)
                faults.arm(0)
                node.start()
            c.wait_ready(timeout=30)
            assert Js(node).ok("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "num_replicas": 3})
        if not failed:
            break
        nth += 1
    assert nth > 10, nth


NOT_KEPT = r"S: what is fetched cannot be kept in \S+\.stage: .*Input/output error"


def holders(c):
    return [n for n in c.nodes if n.http("/replicaz?stream=S")[0] == 200]


def scale(c, js, replicas):
    """Wait for so many replicas, whole and voting, with nothing of a fetch left."""
    js.ok("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "num_replicas": replicas}, 30)

    def check():
        try:
            have = [json.loads(body) for status, body in (n.http("/replicaz?stream=S") for n in c.nodes
                                                         if n.process.poll() is None) if status == 200]
        except OSError:  # One is just ending.
            return False
        return len(have) == replicas and all(
            r["state"] == "ok" and [m["role"] for m in r["members"]] == ["voter"] * replicas for r in have)
    return check


def test_each_call_on_files_of_a_fetch_failing_once():
    """What a replica fetches of an image lies in files of its own until it is whole. The fetch is begun anew, or the
    node stops; either way what is there in the end is what the other one has."""
    with JsCluster(2) as c:
        faults = {}
        for node in c.nodes:
            node.stop()
            faults[node.name] = Faults(node, ".stage")
            node.start()
        c.wait_ready(timeout=30)
        js = Js(c.nodes[0], timeout=30)
        js.create("S", ["s.>"], 1)
        owner, = holders(c)
        for i in range(60):  # More than the log keeps: who is new fetches an image.
            assert js.publish("s.big", b"%d " % i + os.urandom(700_000))
        js.ok("STREAM.PURGE.S", {"keep": 4})
        wait_until("a flush", lambda: len({owner.json("/replicaz?stream=S")[k] for k in ("flushed", "applied")}) == 1, 30)
        hit, ended, told = 0, 0, 0
        for nth in range(1, 200):
            owner, = holders(c)
            new = next(n for n in c.nodes if n is not owner)
            what = "call %d on staged files of %s" % (nth, new.name)
            expected = dump(owner, "S")
            before = len(re.findall(NOT_KEPT, new.log()))
            faults[new.name].arm(nth)
            js = Js(owner, timeout=30)
            check = scale(c, js, 2)
            wait_until(what, lambda: check() or new.process.poll() is not None, 60, 0.05)
            failed = faults[new.name].has_failed()
            if new.process.poll() is not None:
                check_stopped(new, new.folder, what)
                ended += 1
                faults[new.name].arm(0)
                new.start()
                wait_until("both after " + what, check, 60, 0.1)
            assert dump(new, "S") == expected, what
            assert "caught up by image" in new.log() and "Damage in" not in new.log(), what
            told += len(re.findall(NOT_KEPT, new.log())) > before
            hit += failed
            js.close()
            js = Js(owner, timeout=30)
            wait_until("one after " + what, scale(c, js, 1), 60, 0.05)
            if not failed:
                break
        print("     %d calls, %d ended the node, %d told" % (hit, ended, told))
        assert not failed and hit >= 10 and told + ended >= 10, (hit, ended, told)


if __name__ == "__main__":
    if not os.path.exists(LIBRARY):
        print("skipped: %s is not built" % LIBRARY)
        sys.exit(77)
    run(globals())
