"""Disks that are slow, that hang, and that cannot be read, by disks.PowerDisk."""

import glob
import os
import time

import damage
from disk_nemeses import DiskNemesis
from disks import DiskCluster
from nemeses import live, restart
from weir_cluster import wait_until
from workloads import STREAM

US = 1_000_000


class SlowDisk(DiskNemesis):
    """Syncs of one node's disk, mostly the leader's, or of all disks take 10 ms to 5 s for a while."""
    needs = {"slow syncs": 3}

    def episode(self):
        victims = list(self.c.nodes) if self.rng.random() < 0.3 else [self.leader_or_any()]
        seconds = self.rng.choice((0.01, 0.05, 0.2, 1, 5))
        before = self.figures("slow", victims)
        self.hit(victims)
        for n in victims:
            n.disk.tell("take %d" % (seconds * US))
        try:
            self.hold(max(1, 2 * seconds), max(4, 3 * seconds))
        finally:
            for n in victims:
                n.disk.tell("take 1000")
        wait_until("the last slow sync to end", lambda: self.figures("slow", victims) > before, 20)
        self.counts["slow syncs"] += self.figures("slow", victims) - before
        self.counts["disks slow at once"] = max(self.counts["disks slow at once"], len(victims))

    def figures(self, name, nodes):
        return sum(n.disk.figures()[name] for n in nodes)


class HangingDisk(SlowDisk):
    """One node's disk, mostly the leader's, takes and gives nothing for 3 to 30 s: others lead."""
    needs = {"hung calls": 1, "others led": 1}

    def episode(self):
        victim = self.leader_or_any()
        before = self.figures("hung", [victim])
        was_leading = victim is self.leader()
        self.hit([victim])
        victim.disk.tell("hang")
        try:
            end = time.monotonic() + self.rng.choice((3, 3, 8, 30))
            others = [n for n in self.c.nodes if n is not victim]
            self.c.leader(STREAM, 10, others)
            self.counts["others led"] += was_leading
            time.sleep(max(0, end - time.monotonic()))
            self.c.leader(STREAM, 10, others)
        finally:
            victim.disk.tell("go")
        self.counts["hung calls"] += self.figures("hung", [victim]) - before


class ScrubbedDiskCluster(DiskCluster):
    """Nodes that read all their blocks each second, past the page cache."""

    def __init__(self, count):
        super().__init__(count, config=damage.config())


class UnreadableDisk(SlowDisk):
    """Reads of one node's disk fail with EIO for a while. It says so; and so it does, or does not start, when it is started
    meanwhile."""
    cluster = ScrubbedDiskCluster
    needs = {"failed reads": 1, "told": 1}

    def episode(self):
        victim = self.leader_or_any()
        before = self.figures("read_errors", [victim])
        at = os.path.getsize(victim.log_path)
        is_restarted = self.rng.random() < 0.4
        if is_restarted:
            self.kill([victim])
        victim.disk.tell("unreadable")
        try:
            self.forget(victim)
            if is_restarted:
                victim.start(ready=False)
            self.hold(1, 4)
            wait_until("reads to fail", lambda: self.figures("read_errors", [victim]) > before, 15)
            wait_until("%s to say so" % victim.name, lambda: self.has_told(victim, at), 15)
            self.counts["told"] += 1
        finally:
            victim.disk.tell("readable")
        self.counts["failed reads"] += self.figures("read_errors", [victim]) - before
        if victim not in live(self.c.nodes):
            self.counts["stopped"] += 1
            restart([victim])

    def forget(self, node):
        """What the kernel keeps of its files and has written already."""
        for path in glob.glob(os.path.join(node.folder, "js", "weir", "**", "*"), recursive=True):
            try:
                fd = os.open(path, os.O_RDONLY)
            except OSError:
                continue
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)

    def has_told(self, node, at):
        with open(node.log_path, errors="replace") as f:
            f.seek(at)
            text = f.read()
        return "cannot be read" in text or "Input/output error" in text


ALL = {"slow-disk": SlowDisk, "hanging-disk": HangingDisk, "unreadable-disk": UnreadableDisk}
