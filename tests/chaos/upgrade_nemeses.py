"""Nodes of two builds: weir_next of tests/system has a newer machine version, and of a stream with max_msgs it keeps one
less once that is in force."""

import os
import signal

from disks import built
from nemeses import Nemesis, restart, wait_healthy
from weir_cluster import binary
from weir_net import NetCluster

STANDS_MS = "3600000"  # The version is not raised while a run lasts: all nodes can go back.


def next_binary():
    return os.path.join(os.path.dirname(os.path.dirname(built("x"))), "system", "weir_next")


class TwoBuilds(NetCluster):
    NEEDS = "root, ip and a build of weir_next"

    @staticmethod
    def is_possible():
        return NetCluster.is_possible() and os.path.exists(next_binary())

    def __init__(self, count):
        super().__init__(count)
        for n in self.nodes:
            n.env = dict(n.env, WEIR_STANDS_MS=STANDS_MS)


class Upgrade(Nemesis):
    """A rolling upgrade to a build with a newer machine version, and back: of all nodes or of some before the others go
    back, by SIGTERM or after kill -9."""
    cluster = TwoBuilds
    needs = {"upgrades": 2, "downgrades": 2, "leader changes": 1}

    def episode(self):
        nodes = list(self.c.nodes)
        self.rng.shuffle(nodes)
        upgraded = nodes[:self.rng.choice((1, 2, 3, 3))]
        for n in upgraded:
            self.switch(n, next_binary(), "upgrades")
        self.hold(0, 1)
        self.rng.shuffle(upgraded)
        for n in upgraded:
            self.switch(n, binary(), "downgrades")

    def switch(self, node, path, what):
        if self.rng.random() < 0.7:
            self.hit([node])
            node.signal(signal.SIGTERM)
            assert node.wait_exit(40) == 0, "%s ended with %s" % (node.name, node.process.returncode)
        else:
            self.kill([node])
        node.binary = path
        restart([node])
        wait_healthy(self.c)
        self.counts[what] += os.path.samefile("/proc/%d/exe" % node.process.pid, path)


ALL = {"upgrade": Upgrade}
