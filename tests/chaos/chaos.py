"""Workloads under faults on real nodes; see README.md. Entered through scripts/chaos."""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "system")]

import checks
import clock_nemeses
import damage_nemeses
import disk_nemeses
import disks
import lost_nemeses
import member_nemeses
import nemeses
import readers
import slow_nemeses
import store_nemeses
import stream_workloads
import upgrade_nemeses
import wire_nemeses
import workloads
from weir_cluster import ROOT
from weir_js import Js, dump
from workloads import STREAM

NEMESES = {name: kind for module in (nemeses, disk_nemeses, wire_nemeses, clock_nemeses, store_nemeses, damage_nemeses,
                                    slow_nemeses, lost_nemeses, member_nemeses, upgrade_nemeses)
           for name, kind in module.ALL.items()}
# Bugs, and the complaint that shows that one was found. A cluster that lost all has no stream any more.
PLANTS = {"no-sync": "lost: |a leader of " + STREAM, "lying-disks": "lost: "}
WORKLOADS = {**workloads.ALL, **readers.ALL, **stream_workloads.ALL}
LEDGER = os.path.join(HERE, "ledger.tsv")
HELD_S = 6  # A node refuses a publish after 5 s without a leader.


class Run:
    """One workload under one nemesis."""

    def __init__(self, seed, seconds, workload, nemesis, plant=None):
        self.seed, self.seconds, self.plant = seed, seconds, plant
        self.workload_name, self.nemesis_name = workload, nemesis
        self.complaints = []
        self.unproven = []
        self.counts = {}
        self.ops = 0
        self.load = None

    def result(self):
        return "failed" if self.complaints else "void" if self.unproven else "ok"

    def go(self):
        kind = NEMESES[self.nemesis_name]
        cluster = kind.cluster(kind.nodes)
        if self.plant == "no-sync":
            for n in cluster.nodes:
                n.env["LD_PRELOAD"] = disks.built("no_sync.so")
        with cluster as c:
            self.nodes = c.nodes
            self.js = Js(c.nodes[0])
            self.load = WORKLOADS[self.workload_name](self)
            self.load.create(kind.replicas)
            c.leader(STREAM)
            nemesis = kind(c, ApiOfLiving(c), random.Random("%s/nemesis" % self.seed))
            self.load.start()
            if self.plant == "lying-disks":
                for n in c.nodes:
                    n.disk.lie()
            try:
                nemesis.run(self.seconds)
            finally:
                self.counts = dict(nemesis.counts)
                self.unproven = nemesis.unproven()
                self.load.stop_writers()
                self.ops = self.load.ops()
                waits = sorted(checks.gaps(nemesis.moments, self.load.connections()))
                if waits:
                    self.counts["gap ms median"] = round(waits[len(waits) // 2] * 1000)
                    self.counts["gap ms most"] = round(waits[-1] * 1000)
            nemeses.wait_healthy(c)
            self.js = ApiOfLiving(c)
            self.wait_given_up()
            self.load.drain()
            self.judge(c)

    def wait_given_up(self):
        """What a client left without an answer a node holds for so long: it may still come to pass."""
        left = [when for when in (c.gave_up for c in self.load.connections()) if when is not None]
        if left:
            time.sleep(max(0.0, max(left) + HELD_S - time.monotonic()))

    def judge(self, c):
        """Of each replica as it is, and once more after all were killed and came back."""
        if self.ops == 0:
            self.complaints.append("nothing was answered in the whole run")
        self.complaints += self.load.errors()
        stored = self.read(c)
        self.complaints += self.load.judge(stored)
        for n in c.nodes:
            n.kill()
        nemeses.restart(c.nodes)
        nemeses.wait_healthy(c)
        c.leader(STREAM, 30)
        if self.read(c) != stored:
            self.complaints.append("another log after all nodes were killed")
        self.complaints += self.load.judge_consumer()

    def read(self, c):
        """{stream: {sequence: payload}}, of replicas that were compared."""
        stored = {}
        for stream in self.load.streams():
            nodes = [n for n, _ in nemeses.holders(c, stream)]
            if len(nodes) != 3:
                self.complaints.append("%s has %d replicas: %s" % (stream, len(nodes), [n.name for n in nodes]))
            dumps = self.dumps(c, stream, nodes)
            self.complaints += checks.check_replicas(dumps)
            stored[stream] = dumps[nodes[0].name]
        return stored


    def dumps(self, c, stream, nodes):
        """{node: {sequence: payload}}, all of one state: a publish for whose answer nobody waits any more may come to
        pass between two."""
        for _ in range(5):
            before = c.same(stream, nodes, 60)
            got = {n.name: dump(n, stream) for n in nodes}
            after = c.same(stream, nodes, 60)
            if all(before[k] == after[k] for k in ("first_seq", "last_seq", "messages")):
                return got
            self.counts["late publishes"] = self.counts.get("late publishes", 0) + 1
        raise AssertionError("%s does not come to rest" % stream)


class ApiOfLiving:
    """Js whose connection is new each time: its node may have been killed since."""

    def __init__(self, c):
        self.node = c.nodes[0]

    def ok(self, *args):
        js = Js(self.node)
        try:
            return js.ok(*args)
        finally:
            js.close()

    def info(self, name):
        return self.ok("STREAM.INFO." + name)


def commit():
    git = lambda *words: subprocess.run(("git", "-C", ROOT) + words, capture_output=True, text=True).stdout
    is_dirty = any(not line.endswith("ledger.tsv") for line in git("status", "--porcelain", "-uno").splitlines())
    return git("rev-parse", "--short=10", "HEAD").strip() + ("+" if is_dirty else "")


def one(seed, args, workload, nemesis):
    run = Run(seed, args.seconds, workload, nemesis, args.plant)
    began = time.monotonic()
    try:
        run.go()
    except Exception as e:
        run.complaints.append("%s: %s" % (type(e).__name__, e))
        traceback.print_exc()
    took = time.monotonic() - began
    faults = ", ".join("%s %d" % (k, v) for k, v in sorted(run.counts.items()))
    print("%-6s %-8s x %-11s seed %d, %3.0f s: %d ops; %s"
          % (run.result(), workload, nemesis, seed, took, run.ops, faults), flush=True)
    for text in run.complaints[:30] + ["did not bite: " + u for u in run.unproven]:
        print("       " + text, flush=True)
    if len(run.complaints) > 30:
        print("       and %d more complaints" % (len(run.complaints) - 30), flush=True)
    if args.plant:
        return "ok" if any(re.search(PLANTS[args.plant], c) for c in run.complaints) else "missed"
    if not args.no_ledger:
        with open(LEDGER, "a") as f:
            f.write("\t".join([time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()), args.commit, str(seed), workload,
                               nemesis, str(args.seconds), str(run.ops), faults, run.result()]) + "\n")
    return run.result()


def names(text, known, what):
    if text == "all":
        return list(known)
    for name in text.split(","):
        if name not in known:
            sys.exit("chaos: there is no %s %r; there are: %s" % (what, name, ", ".join(known)))
    return text.split(",")


def main():
    p = argparse.ArgumentParser(prog="scripts/chaos", description="workloads under faults on real nodes")
    p.add_argument("--workload", default="publish", help="one, some with commas, or all")
    p.add_argument("--nemesis", default="kill-leader", help="one, some with commas, or all")
    p.add_argument("--seconds", type=int, default=20, help="of faults in each run")
    p.add_argument("--seed", type=int, default=None, help="of the first run; the next has the next")
    p.add_argument("--runs", type=int, default=1, help="of each pair")
    p.add_argument("--list", action="store_true", help="workloads and nemeses")
    p.add_argument("--no-ledger", action="store_true", help="leave tests/chaos/ledger.tsv as it is")
    p.add_argument("--plant", choices=PLANTS, help="a bug that has to be found: the run passes when it is")
    args = p.parse_args()
    if args.list:
        for what, known in (("workloads", WORKLOADS), ("nemeses", NEMESES)):
            print(what + ":")
            for name, kind in known.items():
                print("  %-15s %s" % (name, " ".join(kind.__doc__.split())))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that namespaces and nodes go too.
    workload_names = names(args.workload, WORKLOADS, "workload")
    nemesis_names = names(args.nemesis, NEMESES, "nemesis")
    for name in nemesis_names:
        kind = NEMESES[name].cluster
        if not kind.is_possible():
            print("SKIP: %s needs %s" % (name, kind.NEEDS))
            return 77
    args.commit = commit()
    seed = args.seed if args.seed is not None else random.randrange(1, 10 ** 6)
    results = []
    for _ in range(args.runs):
        for w in workload_names:
            for n in nemesis_names:
                results.append(one(seed, args, w, n))
                seed += 1
    print("%d runs: " % len(results) + ", ".join("%d %s" % (results.count(r), r) for r in ("ok", "failed", "void",
                                                                                          "missed")))
    return 1 if "failed" in results or "missed" in results else 2 if "void" in results else 0


if __name__ == "__main__":
    sys.exit(main())
