"""Faults of disks: power cuts, errors, no space. Their nodes lie on disks.PowerDisk."""

import errno
import os
import shutil
import signal

from disks import DiskCluster
from nemeses import Nemesis, restart
from weir_cluster import wait_until


class DiskNemesis(Nemesis):
    cluster = DiskCluster

    def lose_power(self, victims):
        """Process or disk first: in the second case the node may see its disk fail."""
        self.hit(victims)
        order = self.rng.choice(("process", "disk", "disk, and later the process"))
        if order != "process":
            self.cut_disks(victims)
        if order == "disk, and later the process":
            self.hold(0, 0.02)
        for n in victims:
            n.process.kill()
        if order == "process":
            self.cut_disks(victims)
        for n in victims:
            n.process.wait(20)

    def cut_disks(self, victims):
        for n in victims:  # All before anything else: each moment more lets a sync end.
            n.disk.cut(self.rng)
        for n in victims:
            lost, kept = n.disk.lost()
            self.counts["power cuts"] += 1
            self.counts["lost sectors"] += lost
            self.counts["kept sectors"] += kept

    def power(self, victims):
        for n in victims:
            n.disk.restore()
        self.restart(victims)


class Power(DiskNemesis):
    """The power of one node is cut, mostly the leader's: un-synced sectors are lost in random subsets."""
    needs = {"power cuts": 1, "lost sectors": 1}

    def victims(self):
        return [self.leader_or_any()]

    def episode(self):
        victims = self.victims()
        self.lose_power(victims)
        self.hold(0, 1)
        self.power(victims)


class PowerMost(Power):
    """The power of two nodes is cut at once."""

    def victims(self):
        return self.rng.sample(self.c.nodes, 2)


class PowerAll(Power):
    """The power of all nodes is cut at once; they come back in any order."""
    needs = {"power cuts": 3, "lost sectors": 1, "leader changes": 1}

    def victims(self):
        return list(self.c.nodes)


class PausePower(DiskNemesis):
    """A sleeps while B and C go on, C's power is cut, B sleeps and A wakes: A and C alone must have it all."""
    needs = {"power cuts": 1, "pauses": 2}

    def episode(self):
        a, b, c = self.rng.sample(self.c.nodes, 3)
        self.stop_process(a)
        try:
            self.hold(1, 2.5)
            self.lose_power([c])
            self.stop_process(b)
        finally:
            a.signal(signal.SIGCONT)
        try:
            self.power([c])
            self.hold(2, 4)
        finally:
            b.signal(signal.SIGCONT)


class DiskErrors(DiskNemesis):
    """Writes and syncs of one node fail with EIO: it has to stop by itself, and says why."""
    needs = {"stopped": 1}

    def episode(self):
        victim = self.leader_or_any()
        victim.disk.tell("fail")
        status = victim.wait_exit(20)
        assert status not in (0, -signal.SIGKILL), "%s ended with %d" % (victim.name, status)
        assert "Input/output error" in victim.log(), "%s did not say why it stopped" % victim.name
        self.counts["stopped"] += 1
        self.hold(0, 1)
        self.cut_disks([victim])
        victim.disk.tell("well")
        self.power([victim])


class DiskFull(DiskNemesis):
    """One node's disk is full for a while, or all are. A node may stop, and is started again then."""
    needs = {"full": 1}

    def episode(self):
        victims = list(self.c.nodes) if self.rng.random() < 0.3 else [self.leader_or_any()]
        ballast = {n: os.path.join(n.folder, "js", "ballast") for n in victims}
        at = {n: os.path.getsize(n.log_path) for n in victims}
        try:
            for n in victims:
                self.fill(ballast[n])
            for n in victims:
                self.counts["full"] += self.has_noticed(n, at[n])
            self.hold(0, 2)
        finally:
            for path in ballast.values():
                self.empty(path)
        self.hold(0, 0.3)
        stopped = [n for n in victims if n.process.poll() is not None]
        self.counts["stopped"] += len(stopped)
        restart(stopped)

    def has_noticed(self, node, at, seconds=15):
        """Not before it needs room: files are made larger than what is in them."""
        def check():
            with open(node.log_path, errors="replace") as f:
                f.seek(at)
                text = f.read()
            return node.process.poll() is not None or "No space left" in text or " is full: " in text
        try:
            return wait_until("", check, seconds)
        except AssertionError:
            return False

    def fill(self, path):
        with open(path, "wb") as f:
            while True:
                at = os.statvfs(path)
                left = at.f_bavail * at.f_frsize
                if left < 1 << 16:
                    return
                try:
                    os.posix_fallocate(f.fileno(), os.fstat(f.fileno()).st_size, max(4096, left // 2))
                except OSError:
                    return

    def empty(self, path):
        os.unlink(path)


class DiskInodes(DiskFull):
    """No file can be made on one node's disk for a while, or on all: it has no inodes left."""

    def fill(self, path):
        os.mkdir(path)
        try:
            for i in range(1 << 20):
                os.close(os.open(os.path.join(path, "%d" % i), os.O_CREAT | os.O_WRONLY))
        except OSError as e:
            assert e.errno == errno.ENOSPC and os.statvfs(path).f_favail == 0, e

    def empty(self, path):
        shutil.rmtree(path, ignore_errors=True)


ALL = {"power": Power, "power-most": PowerMost, "power-all": PowerAll, "pause-power": PausePower,
       "disk-errors": DiskErrors, "disk-full": DiskFull, "disk-inodes": DiskInodes}
