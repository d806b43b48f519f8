"""Faults of wall clocks, by wrong_clock.c of tests/system under the nodes."""

import os
import time

from nemeses import Nemesis, restart, wait_healthy
from weir_cluster import wait_until
from weir_net import NetCluster
from wrong_clock import OFFS, clock_of, fit, library, set_clock


class ClockCluster(NetCluster):
    NEEDS = "root, ip and a build of tests/system/wrong_clock.c"

    @staticmethod
    def is_possible():
        return NetCluster.is_possible() and os.path.exists(library())

    def start(self):
        fit(self)
        return super().start()


class Clocks(Nemesis):
    """Wall clocks of one node, of the leader or of all jump by an hour or by ten years, flicker or run too fast or slow;
    or one node starts with a wrong one."""
    cluster = ClockCluster
    needs = {"wrong clocks": 1}

    def episode(self):
        off = self.rng.choice(OFFS)
        self.rng.choice((self.jump, self.jump, self.flicker, self.drift, self.start))(off)

    def victims(self):
        return list(self.c.nodes) if self.rng.random() < 0.3 else [self.leader_or_any()]

    def set(self, nodes, seconds):
        for n in nodes:
            set_clock(n, seconds)

    def prove(self, nodes, off):
        """Those nodes that see another wall clock than they go by."""
        for n in nodes:
            self.counts["wrong clocks"] += abs(clock_of(n)["wall_offset_ms"] - off * 1000) < 60_000

    def jump(self, off):
        nodes = self.victims()
        self.hit(nodes)
        self.set(nodes, off)
        try:
            self.hold(0.5, 2)
            self.prove(nodes, off)
        finally:
            self.set(nodes, 0)

    def flicker(self, off):
        nodes = self.victims()
        self.hit(nodes)
        try:
            for _ in range(self.rng.randint(3, 8)):
                self.set(nodes, off)
                self.hold(0.05, 0.3)
                self.set(nodes, 0)
                self.hold(0.05, 0.3)
        finally:
            self.set(nodes, 0)

    def drift(self, off):
        """By 5 %."""
        nodes = self.victims()
        self.hit(nodes)
        began, seconds = time.monotonic(), self.rng.uniform(1, 3)
        try:
            while time.monotonic() < began + seconds:
                self.set(nodes, (time.monotonic() - began) * (0.05 if off > 0 else -0.05))
                time.sleep(0.01)
        finally:
            self.set(nodes, 0)

    def start(self, off):
        """It says so, leads nothing, and is right again when its clock is."""
        victim = self.leader_or_any()
        self.kill([victim])
        self.set([victim], off)
        try:
            restart([victim])
            wait_healthy(self.c)
            wait_until("%s to know that its clock is wrong" % victim.name, lambda: clock_of(victim)["skewed"], 20)
            self.counts["wrong starts"] += 1
            self.counts["wrong clocks"] += 1
            self.hold(0.5, 2)
        finally:
            self.set([victim], 0)
        wait_until("the clock of %s to be right" % victim.name, lambda: not clock_of(victim)["skewed"], 20)


ALL = {"clocks": Clocks}
