"""A disk that is stuck or slow: the node's leaderships go to nodes whose disks are fine, its clients go on through
it, and when the disk is well again the node is a full member."""

import glob
import os
import sys
import time

from weir_cluster import binary, run, wait_until
from damage import COUNT, fill, payload
from weir_js import Js, JsCluster, dump
from weir_load import Load
from test_stops import STREAMS, finish_load, led_by, meta_leader, start_load

LIBRARY = os.environ.get("SLOW_DISK_LIBRARY", os.path.join(os.path.dirname(os.path.dirname(binary())), "tests",
                                                           "system", "slow_disk.so"))


class DiskCluster(JsCluster):
    """disk(node, "stuck"), disk(node, 50), disk(node, 0)"""

    def __init__(self, count):
        super().__init__(count)
        for node in self.nodes:
            node.disk_path = os.path.join(self.folder, node.name + ".disk")
            node.env = dict(node.env, LD_PRELOAD=LIBRARY, SLOW_DISK=node.disk_path)

    def disk(self, node, how):
        with open(node.disk_path + ".new", "w") as f:
            f.write(str(how))
        os.rename(node.disk_path + ".new", node.disk_path)


def give_up(c, victim, how, seconds):
    """The victim's disk becomes so; how long until others lead all streams and meta."""
    others = [n for n in c.nodes if n is not victim]
    c.disk(victim, how)
    began = time.monotonic()
    wait_until("others to lead all",
               lambda: sum(len(led_by(n)) for n in others) == STREAMS and not led_by(victim)
               and meta_leader(others) not in ("", victim.name), seconds, 0.01)
    return time.monotonic() - began


def most_loaded(c):
    wait_until("leaders of all", lambda: sum(len(led_by(n)) for n in c.nodes) == STREAMS)
    return max(c.nodes, key=lambda n: len(led_by(n)))


def test_a_stuck_disk_gives_up_its_leaderships():
    with DiskCluster(3) as c:
        loads = start_load(c, rate=500)
        for round_ in range(2):
            victim = most_loaded(c)
            js = Js(victim)
            if meta_leader(c.nodes) != victim.name:
                js.ok("META.LEADER.STEPDOWN", {"placement": {"preferred": victim.name}})
                wait_until("meta to be led there", lambda: meta_leader(c.nodes) == victim.name)
            took = give_up(c, victim, "stuck", 20)
            # Its clients reach the new leaders through it, and its connections stand.
            for k in range(STREAMS):
                assert js.publish("s%d" % k, b"through")["seq"] > 0
            js.create("NEW", ["new"], 1, timeout=8)
            js.delete("NEW")
            status, text = victim.http("/healthz")
            assert status == 503 and "disk takes nothing" in text, (status, text)
            assert all("peer_down" not in n.log() for n in c.nodes), "a connection was cut"
            c.disk(victim, 0)
            c.wait_ready(timeout=30)
            print("     stuck: others led %.2f s after the disk took nothing" % took)
        for load in loads:  # Beside those published through the victim.
            load.finish()
            assert not load.failed, load.failed[:3]
        for k in range(STREAMS):
            assert c.same("S%d" % k)["messages"] == loads[k].sent + 2


def test_a_slow_disk_hands_its_leaderships_over():
    with DiskCluster(3) as c:
        loads = start_load(c, rate=500)
        time.sleep(1)
        victim = most_loaded(c)
        took = give_up(c, victim, 60, 20)
        print("     slow: others led %.2f s after syncs took 60 ms" % took)
        time.sleep(2)
        assert not led_by(victim), "it took some again"
        assert "is slow" in victim.log()
        c.disk(victim, 0)
        finish_load(c, loads, "a slow disk")
        js = Js(c.nodes[0])
        for n in range(60):  # Something has to be written for the disk to show that it is well.
            if "is not slow any more" in victim.log():
                break
            js.publish("s0", b"x")
            time.sleep(0.25)
        victim.wait_log("is not slow any more")


def test_disks_that_are_all_slow_move_nothing():
    with DiskCluster(3) as c:
        loads = start_load(c, rate=200)
        led = [sorted(led_by(n)) for n in c.nodes]
        for n in c.nodes:
            c.disk(n, 40)
        time.sleep(4)
        assert led == [sorted(led_by(n)) for n in c.nodes]
        for n in c.nodes:
            c.disk(n, 0)
        finish_load(c, loads, "all slow")


def test_all_disks_stuck_for_a_while():
    """Nothing is acknowledged meanwhile, and everything goes on after."""
    with DiskCluster(3) as c:
        loads = start_load(c, rate=500)
        for n in c.nodes:
            c.disk(n, "stuck")
        time.sleep(2.5)
        at = [len(load.acks) for load in loads]
        time.sleep(0.5)
        assert at == [len(load.acks) for load in loads]
        for n in c.nodes:
            c.disk(n, 0)
        c.wait_ready(timeout=30)
        wait_until("acks again", lambda: all(len(x.acks) > a for x, a in zip(loads, at)), 20)
        finish_load(c, loads, "all stuck for 3 s")


def test_a_replica_is_mended_before_it_starts_beside_a_slow_flush():
    """Its state is read in one go once its blocks are whole, which is not the time of a flush pass."""
    with DiskCluster(3) as c:
        expected = fill(c)
        js = Js(c.nodes[0])
        js.create("T", ["t"], 3)
        for seq in range(COUNT + 1, COUNT + 9):
            assert js.publish("s.x", payload(seq))["seq"] == seq
            expected[seq] = payload(seq)
            c.same("S")
            c.nodes[1].stop()  # One more block.
            c.nodes[1].start()
            c.wait_ready(timeout=30)
        for n in range(2):
            c.nodes[1].stop()
            for path in glob.glob(os.path.join(c.nodes[1].folder, "js", "weir", "store", "data-*.wblk")):
                os.truncate(path, 100)
            for k in range(200):
                assert js.publish("t", b"t")  # What the node gets when it is back, and flushes.
            c.disk(c.nodes[1], "store 300")
            c.nodes[1].start(timeout=30)
            c.wait_ready(timeout=60)
            c.disk(c.nodes[1], 0)
            assert "is mended, and starts" in c.nodes[1].log(), c.nodes[1].log()
            c.same("S", timeout=60)
            assert dump(c.nodes[1], "S") == expected


if __name__ == "__main__":
    if not os.path.exists(LIBRARY) or "/asan/" in binary() or "/tsan/" in binary():
        print("SKIP: needs a node that a library can be preloaded into")
        sys.exit(77)
    run(globals())
