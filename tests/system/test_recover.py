"""weir recover: a majority of the disks is lost for good, and one node goes on alone with what it has."""

import os
import shutil
import subprocess
import tempfile
import time

from weir_cluster import Node, binary, free_port, run, wait_until
from weir_js import Js, JsCluster, dump
from test_js_members import meta_voters, replica, settle, wait_meta, wipe


def recover(node, *more):
    """(exit status, what it printed, what it complained of)"""
    p = subprocess.run([binary(), "recover", "--store_dir", os.path.join(node.folder, "js")] + list(more),
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    return p.returncode, p.stdout, p.stderr


def add_node(c, i, route):
    folder = os.path.join(c.folder, "n%d" % i)
    own = ["--cluster", "nats://127.0.0.1:%d" % free_port(), "--cluster_name", "C", "--routes",
           "nats://127.0.0.1:%d" % route, "-js", "-sd", os.path.join(folder, "js")]
    c.nodes.append(Node(folder, own, "n%d" % i))
    return c.nodes[-1].start()


def acked(js, stream, consumer, count):
    for _, _, reply in js.fetch(stream, consumer, count, 5):
        js.ack(reply)


def test_one_of_three_goes_on_alone_and_grows_again():
    with JsCluster(3) as c:
        left, lost, old = c.nodes
        js = Js(left)
        js.create("S", ["s"], 3)
        js.create("T", ["t"], 3)
        js.consumer("S", "C")
        for k in range(4):
            js.create("R%d" % k, ["r%d" % k], 1)
            assert js.publish("r%d" % k, b"r")
        for i in range(300):
            if i == 200:
                acked(js, "S", "C", 100)
                time.sleep(6.5)  # A flush: some of it is in the store, the rest in the log alone.
            assert js.publish("s", b"%d" % i)
            assert js.publish("t", b"%d" % i)
        c.same("S")
        here = {k for k in range(4) if replica(left, "R%d" % k)}
        js.close()

        status, _, err = recover(left, "--confirm")
        assert status == 1 and "a node runs on it" in err, (status, err)
        for n in c.nodes:
            n.kill()
        wipe(lost)
        assert recover(lost, "--confirm")[0] == 1

        # A look changes nothing: the node alone has no majority, before and after.
        status, out, err = recover(left)
        assert status == 0 and "Nothing was changed" in out, (status, out, err)
        assert " n1, n2" in out or " n2, n1" in out, out
        for k in range(4):
            line = next(x for x in out.splitlines() if x.split()[:1] == ["R%d" % k])
            assert ("keeps everything" in line) == (k in here), line
            assert ("ALL ITS MESSAGES ARE LOST" in line) == (k not in here), line
        assert sum("what was acknowledged above this index is lost" in x for x in out.splitlines()) == 3, out
        left.start()
        time.sleep(2)
        assert left.http("/healthz")[0] != 200
        left.kill()

        # Nor does its disk start that was set back, as the lost ones knew; what is recovered is what it has.
        open(os.path.join(left.folder, "js", "weir", "set-back"), "w").close()
        left.start(ready=False)
        assert left.wait_exit(20) != 0 and "disk was set back" in left.log(), left.log()

        status, out, err = recover(left, "--confirm")
        assert status == 0 and "Done" in out, (status, out, err)
        left.start()
        c.wait_ready([left], 30)
        js = Js(left)
        for stream in ("S", "T"):
            wait_until("a leader of " + stream, lambda: replica(left, stream)["is_led"], 10)
            assert len(dump(left, stream)) == 300
        info = js.ok("CONSUMER.INFO.S.C")
        assert info["ack_floor"]["stream_seq"] == 100 and info["num_pending"] == 200, info
        for i in range(300, 400):
            assert js.publish("s", b"%d" % i)["seq"] == i + 1
        for k in set(range(4)) - here:
            assert js.ok("STREAM.DELETE.R%d" % k)["success"]

        # Two new nodes: the streams of three have three replicas again, and any one may go.
        c.nodes = [left, add_node(c, 3, c.cluster_ports[0])]
        add_node(c, 4, c.cluster_ports[0])
        c.wait_ready(timeout=40)
        for stream in ("S", "T"):
            nodes = settle(c, stream, 3)
            c.same(stream, nodes)
        wait_meta(c, ["n0", "n3", "n4"])
        wait_until("three voters", lambda: meta_voters(c) == ["n0", "n3", "n4"], 30)

        # A node of the old cluster, with a disk that was not lost after all: it is told, and has no say.
        c.nodes.append(old)
        old.start()
        for n in (left, old):
            n.wait_log("Rejecting connection, cluster uuid", 20)
        old.wait_log("it belongs to another cluster; if that one was recovered", 20)
        time.sleep(4)  # More than an election.
        assert left.json("/varz")["remotes"] == 2 and old.json("/varz")["remotes"] == 0
        assert old.http("/healthz")[0] != 200
        assert not (replica(old, "S") or {"is_led": False})["is_led"]
        assert js.publish("s", b"400")["seq"] == 401
        old.kill()

        # Wiped it is a new one, and may take the first one's place.
        wipe(old)
        old.start()
        c.wait_ready(timeout=40)
        wait_meta(c, ["n0", "n2", "n3", "n4"])
        left.kill()
        js = Js(c.nodes[1])
        wait_until("a publish", lambda: js.publish("s", b"401", timeout=9), 20)
        c.same("S", c.nodes[1:3])  # A follower applies it a moment after the ack.
        assert sorted(dump(c.nodes[1], "S").items()) == [(i + 1, b"%d" % i) for i in range(402)]
        acked(js, "S", "C", 100)
        assert js.ok("CONSUMER.INFO.S.C")["ack_floor"]["stream_seq"] == 200


def test_what_cannot_be_recovered_is_left_alone():
    folder = tempfile.mkdtemp(prefix="weir-")
    try:
        alone = Node(folder, ["-js", "-sd", os.path.join(folder, "js")])
        alone.start().kill()
        status, _, err = recover(alone, "--confirm")
        assert status == 1 and "belongs to no cluster" in err, (status, err)
    finally:
        shutil.rmtree(folder)
    for words in ((), ("--store_dir",), ("--store_dir", "/nonexistent/weir", "--confirm"), ("--confirm",)):
        p = subprocess.run([binary(), "recover"] + list(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, timeout=10)
        assert p.returncode == 1 and p.stderr, words


def test_a_store_has_one_process():
    with JsCluster(1, born=False) as c:
        node = c.nodes[0]
        other = Node(os.path.join(c.folder, "other"), ["-js", "-sd", os.path.join(node.folder, "js")], "other")
        c.nodes.append(other)
        other.start(ready=False)
        assert other.wait_exit(10) != 0
        assert "another process uses it" in other.log(), other.log()
        node.kill()
        node.start()


if __name__ == "__main__":
    run(globals())
