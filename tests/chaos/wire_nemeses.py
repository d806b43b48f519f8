"""Faults of links that lose, delay, reorder and double packets, by wire.c in the place of the bridge."""

import os
import subprocess

from disks import built
from nemeses import Nemesis
from weir_net import NetCluster, ip


class Wire:
    """For a kind of NetCluster: wire between its namespaces."""

    FIGURES = ("packets", "lost packets", "doubled packets", "delayed packets", "reordered packets")

    def link(self):
        self.wire = subprocess.Popen([built("wire")] + self.names, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self.wire.stdout.readline() == "ok\n"
        for i, name in enumerate(self.names):
            ip("-n", name, "addr", "add", "10.77.0.%d/24" % (i + 1), "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")

    def tell_wire(self, text):
        self.wire.stdin.write(text + "\n")
        answer = self.wire.stdout.readline()
        assert answer, "wire ended with %s" % self.wire.wait(5)
        return answer

    def figures(self):
        return dict(zip(self.FIGURES, map(int, self.tell_wire("figures").split())))

    def set_link(self, from_, to, delay_ms=0.0, jitter_ms=0.0, loss=0.0, double=0.0, kbyte_s=0):
        self.tell_wire("link %d %d %d %d %d %d %d" % (from_, to, delay_ms * 1000, jitter_ms * 1000, loss * 1000,
                                                      double * 1000, kbyte_s * 1000))

    def __exit__(self, kind, value, trace):
        try:
            super().__exit__(kind, value, trace)
        finally:
            if hasattr(self, "wire"):
                self.wire.stdin.close()
                self.wire.wait(5)


class WireCluster(Wire, NetCluster):
    NEEDS = "root, ip and TUN devices"

    @staticmethod
    def is_possible():
        return NetCluster.is_possible() and os.path.exists("/dev/net/tun")


class WireNemesis(Nemesis):
    """Links that are bad for a while: those of one node, or one way of one, or all."""
    cluster = WireCluster

    def quality(self):
        """Arguments of set_link, drawn for each link."""
        raise NotImplementedError

    def scope(self):
        count = len(self.c.nodes)
        pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
        node = self.c.nodes.index(self.leader_or_any())
        return self.rng.choice((pairs, [p for p in pairs if node in p], [self.rng.choice(pairs)]))

    def episode(self):
        self.c.tell_wire("seed %d" % self.rng.randrange(1 << 32))
        links = self.scope()
        before = self.c.figures()
        for a, b in links:
            self.c.set_link(a, b, **self.quality())
        try:
            self.hold(1, 4)
        finally:
            for a, b in links:
                self.c.set_link(a, b)
            for name, value in self.c.figures().items():
                self.counts[name] += value - before[name]


class Delay(WireNemesis):
    """Packets take 1 to 150 ms, each by itself, so that they overtake each other."""
    needs = {"delayed packets": 100, "reordered packets": 1}

    def quality(self):
        return {"delay_ms": self.rng.choice((1, 10, 50, 100)), "jitter_ms": self.rng.choice((0, 1, 10, 50))}


class Loss(WireNemesis):
    """From 1 to 30 % of the packets are lost."""
    needs = {"lost packets": 10}

    def quality(self):
        return {"loss": self.rng.choice((0.01, 0.05, 0.1, 0.3))}


class Double(WireNemesis):
    """Packets come twice, and out of order."""
    needs = {"doubled packets": 10}

    def quality(self):
        return {"double": self.rng.choice((0.05, 0.3)), "jitter_ms": self.rng.choice((0.2, 2, 10))}


class Rate(WireNemesis):
    """A link carries 20 to 500 kB/s."""
    needs = {"delayed packets": 100}

    def quality(self):
        return {"kbyte_s": self.rng.choice((20, 100, 500))}


class Weather(WireNemesis):
    """Delay, jitter, loss, doubles and a rate, of each link another mixture."""
    needs = {"delayed packets": 100, "lost packets": 1, "doubled packets": 1}

    def quality(self):
        return {"delay_ms": self.rng.choice((0, 1, 20, 80)), "jitter_ms": self.rng.choice((0, 2, 20)),
                "loss": self.rng.choice((0, 0.01, 0.1)), "double": self.rng.choice((0, 0.05)),
                "kbyte_s": self.rng.choice((0, 0, 500))}


ALL = {"delay": Delay, "loss": Loss, "double": Double, "rate": Rate, "weather": Weather}
