"""Rolling upgrades to a build with a newer machine version, and back, under load. The newer build is weir_next: of a
stream with max_msgs it keeps one less, once its version is in force. Replicas are equal throughout."""

import os
import shutil
import sys
import tempfile
import time

import js_cluster
from test_disks import LIBRARY, DiskCluster
from test_kills import STREAM, create_stream, end_programs, settle, start_programs
from test_stops import stored_of
from weir_cluster import binary, run, wait_until
from weir_js import Js, JsCluster, Publisher, dump
from weir_load import Load

NEXT = os.environ.get("WEIR_NEXT", os.path.join(os.path.dirname(os.path.dirname(binary())), "tests", "system",
                                                "weir_next"))
LOADS = 3
VERSION = 5  # Of weir_next.
# How long weir_next waits before it raises the version: never while a test goes back, however long that takes.
NEVER = {"WEIR_STANDS_MS": "3600000"}
REFUSAL = "of a newer machine version than this build knows; start a newer build"


def switch(c, node, path):
    node.stop()
    node.binary = path
    node.start()
    c.wait_ready(timeout=30)


def streams(c):
    return sorted(r["stream"] for r in c.nodes[0].json("/replicaz")["replicas"])


def versions(c):
    return {(r["stream"], r["machine_version"]) for n in c.nodes for r in n.json("/replicaz")["replicas"]}


def check_equal(c, version):
    for name in streams(c):
        c.same(name)
    assert versions(c) == {(name, version) for name in streams(c)}, versions(c)
    for node in c.nodes:
        assert "replicas differ" not in node.log() and "built anew" not in node.log(), node.log()[-3000:]


def fill(js):
    """Of stream KEPT, which keeps 50: how many it has now."""
    for _ in range(60):
        assert js.publish("kept", b"x")["seq"] > 0
    return js.info("KEPT")["state"]["messages"]


def test_up_and_down_and_up_for_good():
    with JsCluster(3) as c:
        for node in c.nodes:
            node.env = dict(node.env, **NEVER)
        js = Js(c.nodes[0])
        loads = []
        for k in range(LOADS):
            js.create("S%d" % k, ["s%d" % k], 3)
            loads.append(Load(c.nodes, "s%d" % k, at=k, rate=400))
        js.create("KEPT", ["kept"], 3, max_msgs=50)
        js.consumer("KEPT", "C")
        for node in c.nodes:
            wait_until("all streams", lambda: len(node.json("/replicaz")["replicas"]) == LOADS + 1)
        for load in loads:
            load.start()
        assert fill(js) == 50
        for i, node in enumerate(c.nodes):
            switch(c, node, NEXT)
            js = Js(c.nodes[(i + 1) % 3])
            js.create("NEW%d" % i, ["new%d" % i], 3, max_msgs=50)  # By the rules that all know.
            assert js.publish("new%d" % i, b"x")["seq"] == 1
            assert len(js.fetch("KEPT", "C", 5)) == 5
        assert fill(js) == 50
        for node in c.nodes:
            switch(c, node, binary())
            assert fill(Js(node)) == 50
        check_equal(c, 1)
        print("     up and down: %d acks" % sum(len(x.acks) for x in loads))
        for node in c.nodes:
            node.env = {k: v for k, v in node.env.items() if k not in NEVER}
            switch(c, node, NEXT)
        began = time.monotonic()
        wait_until("the newer version", lambda: {v for _, v in versions(c)} == {VERSION}, 60)
        print("     version %d in force after %.1f s" % (VERSION, time.monotonic() - began))
        js = Js(c.nodes[0])
        wait_until("one less", lambda: js.info("KEPT")["state"]["messages"] == 49)
        assert fill(js) == 49
        check_equal(c, VERSION)
        # No way back: the old build says so, leads nothing, and leaves everything as it is.
        victim = next(n for n in c.nodes if n is not c.leader("KEPT"))
        victim.stop()
        victim.binary = binary()
        victim.start()
        victim.wait_log(REFUSAL)
        others = [n for n in c.nodes if n is not victim]
        wait_until("leaders elsewhere", lambda: not any(r["is_led"] for r in victim.json("/replicaz")["replicas"]))
        assert fill(Js(others[0])) == 49
        switch(c, victim, NEXT)
        for load in loads:
            load.finish()
            assert not load.failed, load.failed[:3]
        check_equal(c, VERSION)
        for k, load in enumerate(loads):
            load.check(stored_of(c.nodes[k], "S%d" % k, "s%d" % k))
        print("     %d acks, %d messages published again" % (sum(len(x.acks) for x in loads),
                                                           sum(x.again for x in loads)))


def test_a_replica_that_stops_at_a_version_takes_so_much_and_no_more():
    """The older build has a state from before the newer version, and meets it in its log. What comes after that it takes
    while memory has room, 32 MiB; no more, or its log would fill the disk. Nothing is lost when a newer build is back."""
    with DiskCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        js.create("OTHER", ["other"], 3)
        for node in c.nodes:
            switch(c, node, NEXT)
        for node in c.nodes:
            c.disk(node, "store stuck")  # So that the newer version is not flushed.
        wait_until("the newer version", lambda: {v for _, v in versions(c)} == {VERSION}, 60)
        victim = next(n for n in c.nodes if n not in (c.leader("S"), c.leader("OTHER")))
        victim.kill()
        for node in c.nodes:
            c.disk(node, 0)
        victim.binary = binary()
        victim.start()
        victim.wait_log("Stream S stops on this node at index")
        others = [n for n in c.nodes if n is not victim]

        def here():
            return js_cluster.replica(victim, "S")

        assert here()["state"] == "stopped", here()
        wait_until("what it applied to be flushed", lambda: here()["flushed"] == here()["applied"], 15)
        p = Publisher(others[0])
        for i in range(10):
            p.send("s", b"%d" % i)
        p.drain()
        last = max(r["last"] for r in (js_cluster.replica(n, "S") for n in others))
        wait_until("it to take what comes", lambda: here()["last"] >= last)
        for i in range(10, 100):
            p.send("s", b"%d " % i + b"x" * 500000)
            if i % 10 == 9:
                p.drain(60)
        victim.wait_log("its log is full and it stops at", timeout=20)
        last = here()["last"]
        for i in range(100, 110):
            p.send("s", b"%d" % i)
            p.send("other", b"%d" % i)
        p.drain(30)
        assert all(a is not None and a.get("seq") for a in p.acks.values())
        assert here()["last"] == last and "built anew" not in victim.log()
        switch(c, victim, NEXT)
        c.same("S", timeout=60)
        c.same("OTHER", timeout=60)
        assert [m.split(b" ")[0] for m in dump(victim, "S").values()] == [b"%d" % i for i in range(110)]


def lines_of(folder):
    """How many acks each publisher and how many confirmations each consumer has reported: {file: count}."""
    counts = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name)) as f:
            counts[name] = sum(line[0] in "AC" for line in f)
    return counts


def wait_work(folder, what):
    """Everybody publishes and consumes, after this moment too."""
    before = lines_of(folder)
    wait_until("all clients to go on " + what, lambda: all(
        count > before[name] for name, count in lines_of(folder).items()), 60, 0.2)


def test_official_clients_up_and_back():
    """None of their messages is lost, doubled or reordered, nor delivered again after its confirmation."""
    folder = tempfile.mkdtemp(prefix="weir-upgrade-")
    programs = []
    with js_cluster.JsCluster(3) as c:
        try:
            for node in c.nodes:
                node.env = dict(node.env, **NEVER)
            create_stream(c)
            programs, consumers = start_programs(c, folder)
            if not programs:
                return  # Each was reported as skipped.
            wait_until("reports of all", lambda: len(lines_of(folder)) == len(programs), 60)
            wait_work(folder, "before")
            for path in (NEXT, binary()):
                for node in c.nodes:
                    node.stop(30)
                    node.binary = path
                    node.start(timeout=60)
                    wait_until(node.name + " to be healthy", lambda: js_cluster.is_healthy(node), 60)
                    wait_work(folder, "when %s runs %s" % (node.name, os.path.basename(path)))
            reports, bad = settle(c, programs, consumers, folder)
            assert not bad, "%d complaints:\n%s" % (len(bad), "\n".join(bad[:30]))
            assert {r["machine_version"] for n in c.nodes for r in n.json("/replicaz")["replicas"]
                    if r["stream"] == STREAM} == {1}
        finally:
            end_programs(programs)
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if not os.path.exists(NEXT):
        print("SKIP: the newer build is not there")
        sys.exit(77)
    if not os.path.exists(LIBRARY):
        print("SKIP: needs a library that makes disks slow")
        sys.exit(77)
    run(globals())
