"""Members and leaders change by request, also while nodes die: PEER.REMOVE and LEADER.STEPDOWN."""

import signal

from nemeses import Nemesis, holders, wait_healthy
from weir_cluster import wait_until
from workloads import STREAM


class MemberNemesis(Nemesis):
    def streams(self):
        """Those of the workload that stay."""
        names = self.js.ok("STREAM.NAMES")["streams"]
        return sorted(n for n in names if n.startswith(STREAM))

    def disturb(self):
        """Any node but that of the API's client dies, sleeps, or is cut off; or nothing happens."""
        victim = self.rng.choice([n for n in self.c.nodes if n is not self.js.node])
        what = self.rng.choice(("nothing", "kill", "pause", "cut"))
        if what == "kill":
            self.kill([victim])
            self.hold(0, 1)
            self.restart([victim])
        elif what == "pause":
            self.stop_process(victim)
            try:
                self.hold(0.1, 2)
            finally:
                victim.signal(signal.SIGCONT)
        elif what == "cut":
            self.hit([victim])
            self.cut(victim.isolate, victim.heal, 0.3, 2)


class PeerRemove(MemberNemesis):
    """PEER.REMOVE of any replica of three, the leader's too, on five nodes; another one takes its place, also while a node
    dies, sleeps or is cut off."""
    nodes = 5
    needs = {"replaced replicas": 1}

    def episode(self):
        stream = self.rng.choice(self.streams())
        gone = self.rng.choice(holders(self.c, stream))[0]
        was_leading = gone is self.c.leader(stream, 20)
        assert self.js.ok("STREAM.PEER.REMOVE." + stream, {"peer": gone.name}, 10)["success"]
        self.hit([gone])
        self.hold(0, 0.3)
        self.disturb()
        wait_healthy(self.c)
        wait_until("three replicas of %s without %s" % (stream, gone.name),
                   lambda: self.is_settled(stream, gone.name), 60, 0.1)
        self.counts["replaced replicas"] += 1
        self.counts["of leaders"] += was_leading

    def is_settled(self, stream, gone):
        got = holders(self.c, stream)
        names = sorted(n.name for n, _ in got)
        return (len(got) == 3 and gone not in names and any(r["is_led"] for _, r in got) and all(
            sorted(m["server"] for m in r["members"]) == names
            and all(m["role"] == "voter" for m in r["members"]) for _, r in got))


class StepDown(MemberNemesis):
    """LEADER.STEPDOWN of a stream, of a consumer, of meta, several in a row, with and without a node of choice; and a node
    dies, sleeps or is cut off between."""
    needs = {"stream leaders moved": 1, "meta leaders moved": 1, "leader changes": 1}

    def episode(self):
        for _ in range(self.rng.randint(1, 4)):
            self.rng.choice((self.stream, self.consumer, self.meta))()
            self.hold(0, 0.5)
        self.disturb()

    def body(self, leader):
        """For anybody, or for a node."""
        if self.rng.random() < 0.5:
            return None
        return {"placement": {"preferred": self.rng.choice([n.name for n in self.c.nodes if n.name != leader])}}

    def moves(self, what, subject, leader):
        """leader(): its name, "" for none. The one that was told gives up; somebody is the leader then."""
        before = wait_until("a leader of " + what, leader, 10)
        self.hit([n for n in self.c.nodes if n.name == before])
        assert self.js.ok(subject, self.body(before), 10)["success"]
        now = wait_until("another leader of " + what, lambda: leader() not in ("", before) and leader(), 10)
        self.counts[what + " leaders moved"] += now != before

    def stream(self):
        stream = self.rng.choice(self.streams())
        self.moves("stream", "STREAM.LEADER.STEPDOWN." + stream, lambda: self.c.leader(stream, 10).name)

    def consumer(self):
        names = self.js.ok("CONSUMER.NAMES." + STREAM)["consumers"] or []
        if not names:
            return self.stream()
        self.moves("consumer", "CONSUMER.LEADER.STEPDOWN.%s.%s" % (STREAM, self.rng.choice(names)),
                   lambda: self.c.leader(STREAM, 10).name)

    def meta(self):
        self.moves("meta", "META.LEADER.STEPDOWN", self.meta_leader)

    def meta_leader(self):
        """Who says so of itself; "" while nobody does, or two."""
        led = [n.name for n in self.c.nodes if n.json("/jsz")["meta_cluster"].get("leader") == n.name]
        return led[0] if len(led) == 1 else ""


ALL = {"peer-remove": PeerRemove, "step-down": StepDown}
