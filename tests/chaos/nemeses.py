"""Faults. A nemesis does episodes, each of which ends what it began, and proves that they bit:
`counts` says what was seen to happen, `needs` what must have been, or the run counts as not done."""

import collections
import json
import signal
import subprocess
import threading
import time

from weir_cluster import wait_until
from weir_net import NetCluster, inside, ip
from workloads import STREAM


def live(nodes):
    return [n for n in nodes if n.process is not None and n.process.poll() is None]


def blocked_packets(nodes):
    """Packets without a route and segments sent again, in all namespaces."""
    total = 0
    for node in nodes:
        with inside(node.namespace), open("/proc/thread-self/net/snmp") as f:
            rows = [line.split() for line in f]
        for names, values in zip(rows[::2], rows[1::2]):
            fields = dict(zip(names, values))
            total += int(fields.get("OutNoRoutes", 0)) + int(fields.get("RetransSegs", 0))
    return total


def wait_healthy(c, timeout=60):
    def is_healthy(node):
        try:
            return node.http("/healthz")[0] == 200
        except OSError:
            return False
    for node in c.nodes:
        wait_until("%s to be healthy" % node.name, lambda: is_healthy(node), timeout, 0.05)


def restart(nodes):
    for n in nodes:
        n.start(ready=False)
    for n in nodes:
        n.wait_log("Server is ready", 30)


class Watch(threading.Thread):
    """Counts who led the stream when, as one node says; one thread a node, since a node may be stopped."""

    def __init__(self, node, terms):
        super().__init__(daemon=True)
        self.node, self.terms = node, terms
        self.is_ending = threading.Event()

    def run(self):
        while not self.is_ending.wait(0.1):
            try:
                status, body = self.node.http("/replicaz?stream=" + STREAM, 1)
                r = json.loads(body)
                if status == 200 and r["role"] == "leader" and r["is_led"]:
                    self.terms.add(r["term"])
            except (OSError, ValueError, KeyError, EOFError):
                pass


class Nemesis:
    cluster = NetCluster  # Of which kind.
    nodes = 3
    replicas = 3
    needs = {}  # What was counted: at least how often.

    def __init__(self, cluster, js, rng):
        self.c, self.js, self.rng = cluster, js, rng
        self.counts = collections.Counter()
        self.moments = []  # (when, names of the nodes that were hit)
        self.terms = set()  # Of the stream in which a leader was seen to serve.
        self.watches = [Watch(n, self.terms) for n in cluster.nodes]

    def run(self, seconds):
        """Episodes for so long; between them everybody is healthy."""
        for w in self.watches:
            w.start()
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                time.sleep(self.rng.uniform(0.3, 1.0))
                self.episode()
                self.counts["faults"] += 1
                wait_healthy(self.c)
                self.c.leader(STREAM, 30)
            time.sleep(0.3)
        finally:
            for w in self.watches:
                w.is_ending.set()
            for w in self.watches:
                w.join(5)
            self.counts["leader changes"] = max(0, len(self.terms) - 1)

    def unproven(self):
        return ["%s: %d of %d" % (what, self.counts[what], least)
                for what, least in self.needs.items() if self.counts[what] < least]

    # For episodes.

    def leader(self):
        return self.c.leader(STREAM, 20)

    def any(self):
        return self.rng.choice(self.c.nodes)

    def leader_or_any(self):
        return self.leader() if self.rng.random() < 0.7 else self.any()

    def hold(self, low, high):
        time.sleep(self.rng.uniform(low, high))

    def hit(self, nodes):
        self.moments.append((time.monotonic(), {n.name for n in nodes}))

    def kill(self, nodes, waiting=None):
        """@waiting: nodes whose clients have to wait too, as there is no majority."""
        self.hit(waiting or nodes)
        for n in nodes:
            n.process.kill()
        for n in nodes:
            self.counts["kills"] += n.process.wait(10) == -signal.SIGKILL

    def restart(self, nodes):
        nodes = list(nodes)
        self.rng.shuffle(nodes)
        restart(nodes)

    def stop_process(self, node):
        self.hit([node])
        node.signal(signal.SIGSTOP)

        def is_stopped():
            with open("/proc/%d/stat" % node.process.pid) as f:
                return f.read().rsplit(")", 1)[1].split()[0] == "T"
        wait_until("%s to stop" % node.name, is_stopped, 5)
        self.counts["pauses"] += 1

    def cut(self, begin, end, low, high):
        """A fault of links, and what it blocked."""
        before = blocked_packets(self.c.nodes)
        begin()
        try:
            self.hold(low, high)
            self.counts["blocked packets"] += blocked_packets(self.c.nodes) - before
        finally:
            end()
        self.counts["cuts"] += 1


class Nothing(Nemesis):
    """No fault, for comparison."""

    def episode(self):
        time.sleep(1)


class KillLeader(Nemesis):
    """kill -9 of the stream's leader."""
    needs = {"kills": 1, "leader changes": 1}

    def episode(self):
        victim = self.leader()
        self.kill([victim])
        self.hold(0, 1.5)
        self.restart([victim])


class KillRandom(Nemesis):
    """kill -9 of any node, at times again while it starts."""
    needs = {"kills": 1}

    def episode(self):
        victim = self.any()
        self.kill([victim])
        self.hold(0, 1)
        for _ in range(self.rng.choice((0, 0, 2))):
            victim.start(ready=False)
            self.hold(0, 0.1)
            self.kill([victim])
        self.restart([victim])


class KillMost(Nemesis):
    """kill -9 of two nodes at once; then they come back, together or one after the other, or instead of the third."""
    needs = {"kills": 2, "without a majority": 1, "leader changes": 1}

    def episode(self):
        victims = self.rng.sample(self.c.nodes, 2)
        left = next(n for n in self.c.nodes if n not in victims)
        self.kill(victims, self.c.nodes)
        self.hold(0, 2)
        self.counts["without a majority"] += self.serves_nobody(left)
        if self.rng.random() < 0.3:
            self.kill([left], self.c.nodes)
            self.restart(victims)
            self.hold(0, 1)
            victims = [left]
        elif self.rng.random() < 0.5:
            self.restart([victims.pop()])
            self.hold(0, 1)
        self.restart(victims)

    def serves_nobody(self, node):
        """It does not lead, or does not any more once it has noticed."""
        def check():
            status, body = node.http("/replicaz?stream=" + STREAM)
            return status == 200 and not json.loads(body)["is_led"]
        return wait_until("%s to know that it is alone" % node.name, check, 10)


class KillAll(Nemesis):
    """kill -9 of all nodes at once; they come back in any order."""
    needs = {"kills": 3, "leader changes": 1}

    def episode(self):
        self.kill(self.c.nodes)
        self.hold(0, 0.5)
        self.restart(self.c.nodes)


class Pause(Nemesis):
    """SIGSTOP, mostly of the leader, shorter and longer than an election takes."""
    needs = {"pauses": 1}

    def episode(self):
        victim = self.leader_or_any()
        self.stop_process(victim)
        try:
            self.hold(0.1, 3)
        finally:
            victim.signal(signal.SIGCONT)


class PauseKill(Nemesis):
    """One node sleeps, another is killed, the first wakes: who was behind must not lead."""
    needs = {"pauses": 1, "kills": 1}

    def episode(self):
        sleeper, victim = self.rng.sample(self.c.nodes, 2)
        self.stop_process(sleeper)
        try:
            self.hold(0.5, 1.5)
            self.kill([victim])
            self.hold(0, 0.3)
        finally:
            sleeper.signal(signal.SIGCONT)
        self.hold(0, 1)
        self.restart([victim])


class Isolate(Nemesis):
    """One node is cut off from the majority, mostly the leader."""
    needs = {"blocked packets": 1}

    def episode(self):
        victim = self.leader_or_any()
        self.hit([victim])
        self.cut(victim.isolate, victim.heal, 0.3, 4)


class Shatter(Nemesis):
    """No node reaches another: there is no majority anywhere."""
    needs = {"blocked packets": 1}

    def episode(self):
        self.cut(lambda: [n.isolate() for n in self.c.nodes], lambda: [n.heal() for n in self.c.nodes], 0.5, 4)


class OneWay(Nemesis):
    """What one node sends to another is lost, and what comes back is not."""
    needs = {"blocked packets": 1}

    def episode(self):
        leader, other = self.leader(), self.any()
        while other is leader:
            other = self.any()
        from_, to = (leader, other) if self.rng.random() < 0.5 else (other, leader)
        number = self.c.nodes.index(to)
        self.cut(lambda: from_.mute(number), lambda: from_.mute(number, False), 0.3, 4)


class Flap(Nemesis):
    """A link that comes and goes every 200 ms or so."""
    needs = {"blocked packets": 1}

    def episode(self):
        victim = self.leader_or_any()
        for _ in range(self.rng.randint(3, 8)):
            self.cut(victim.isolate, victim.heal, 0.05, 0.35)
            self.hold(0.05, 0.35)


class Slow(Nemesis):
    """A node's link carries little: a token bucket with a long queue, which is delay and then loss."""
    needs = {"held packets": 1}

    def episode(self):
        victim = self.leader_or_any()
        rate = self.rng.choice(("200kbit", "1mbit", "4mbit"))
        tc = ["ip", "netns", "exec", victim.namespace, "tc"]
        where = ["dev", "eth0", "root"]
        subprocess.run(tc + ["qdisc", "add"] + where + ["tbf", "rate", rate, "burst", "8kb", "latency", "300ms"],
                       check=True)
        try:
            self.hold(1, 4)
            told = subprocess.run(tc + ["-s", "qdisc", "show", "dev", "eth0"], check=True,
                                  capture_output=True, text=True).stdout
            self.counts["held packets"] += int(told.split("overlimits ")[1].split()[0])
        finally:
            subprocess.run(tc + ["qdisc", "del"] + where, check=True)


class Rolling(Nemesis):
    """All nodes in turn, by SIGTERM."""
    needs = {"stops": 3, "leader changes": 1}

    def episode(self):
        nodes = list(self.c.nodes)
        self.rng.shuffle(nodes)
        for n in nodes:
            n.signal(signal.SIGTERM)
            assert n.wait_exit(40) == 0, "%s ended with %s" % (n.name, n.process.returncode)
            self.counts["stops"] += 1
            n.start(timeout=30)
            wait_healthy(self.c)


class Scale(Nemesis):
    """Three replicas, five, three again."""
    nodes = 5
    needs = {"moves": 2}

    def disturb(self):
        pass

    def episode(self):
        for count in (5, 3):
            config = self.js.info(STREAM)["config"]
            self.js.ok("STREAM.UPDATE." + STREAM, dict(config, num_replicas=count), 10)
            self.disturb()
            wait_healthy(self.c)
            wait_until("%d replicas" % count, lambda: self.is_settled(count), 60, 0.1)
            self.counts["moves"] += 1
            self.hold(0.2, 1)

    def is_settled(self, count):
        got = holders(self.c)
        names = sorted(n.name for n, _ in got)
        return (len(got) == count and any(r["is_led"] for _, r in got) and all(
            sorted(m["server"] for m in r["members"]) == names
            and all(m["role"] == "voter" for m in r["members"]) for _, r in got))


class ScaleKill(Scale):
    """Scale, and any node but that of the API's client is killed while members change."""
    needs = {"moves": 2, "kills": 1}

    def disturb(self):
        self.hold(0, 0.3)
        victim = self.rng.choice([n for n in self.c.nodes if n is not self.js.node])
        self.kill([victim])
        self.hold(0, 1)
        self.restart([victim])


class Mixed(Nemesis):
    """Any of those that need three nodes and nothing else, in turn."""
    needs = {"faults": 3, "leader changes": 1}

    def episode(self):
        kind = self.rng.choice([k for k in ALL.values() if k.nodes == 3 and k not in (Mixed, Nothing)])
        other = object.__new__(kind)  # Its episode, with methods of its own, on what is this run's.
        other.__dict__ = self.__dict__
        other.episode()


def holders(c, stream=STREAM):
    """(node, what it says) of those that have a replica."""
    got = []
    for n in live(c.nodes):
        status, body = n.http("/replicaz?stream=" + stream)
        if status == 200:
            got.append((n, json.loads(body)))
    return got


ALL = {"nothing": Nothing, "kill-leader": KillLeader, "kill-random": KillRandom, "kill-most": KillMost,
       "kill-all": KillAll, "pause": Pause, "pause-kill": PauseKill, "isolate": Isolate, "shatter": Shatter,
       "one-way": OneWay, "flap": Flap, "slow": Slow, "rolling": Rolling, "scale": Scale, "scale-kill": ScaleKill,
       "mixed": Mixed}
