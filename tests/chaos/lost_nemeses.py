"""A replica of which META knows and the node's log does not: it is lost, and comes back under another raft id."""

import os
import shutil
import signal

from store_nemeses import StoreNemesis
from nemeses import restart, wait_healthy
from weir_net import NetCluster
from workloads import STREAM


class BornCluster(NetCluster):
    """Of each node's log there is a copy from before the first stream, in `newborn_log`."""

    def start(self):
        super().start()
        for node in self.nodes:
            node.newborn_log = os.path.join(node.folder, "newborn-log")
            node.stop()
            shutil.copytree(self.log_of(node), node.newborn_log)
        restart(self.nodes)
        return self.wait_ready(timeout=30)

    @staticmethod
    def log_of(node):
        return os.path.join(node.folder, "js", "weir", "wal")


class LostReplica(StoreNemesis):
    """One node's log forgets all streams and their records, while nobody remembers how long it was and another node may be
    behind: the node's replicas count for nothing, and are made anew."""
    cluster = BornCluster
    needs = {"lost replicas": 1, "leader changes": 1}

    def episode(self):
        victim, behind, other = self.rng.sample(self.c.nodes, 3)
        before = self.raft_ids(victim)
        is_behind = self.rng.random() < 0.5
        if is_behind:
            self.kill([behind])
            self.hold(0.2, 1)
        self.hit(self.c.nodes)
        victim.signal(signal.SIGTERM)  # What it has acknowledged is in its store.
        assert victim.wait_exit(40) == 0, victim.log()
        if not is_behind:
            self.hold(0, 1)
        self.kill([n for n in (behind, other) if n.process.poll() is None], self.c.nodes)
        shutil.rmtree(self.c.log_of(victim))
        shutil.copytree(victim.newborn_log, self.c.log_of(victim))
        self.restart(self.c.nodes)
        wait_healthy(self.c)
        self.settle()
        now = self.raft_ids(victim)
        self.counts["lost replicas"] += sum(now[s] > before[s] for s in now if s in before)
        assert now[STREAM] > before[STREAM], (before, now)

    def raft_ids(self, node):
        return {r["stream"]: r["raft_id"] for r in node.json("/replicaz")["replicas"]}


ALL = {"lost-replica": LostReplica}
