"""Replicas come and go: other numbers of them, other nodes, nodes that are dead, replicas that are lost."""

import base64
import json
import os
import shutil
import signal
import time

from weir_cluster import Node, free_port, run, wait_until
from weir_js import Js, JsCluster, dump
from weir_load import Load


def live(c):
    return [n for n in c.nodes if n.process is not None and n.process.poll() is None]


def replica(node, stream):
    status, body = node.http("/replicaz?stream=" + stream)
    return json.loads(body) if status == 200 else None


def holders(c, stream):
    """Nodes that have a replica."""
    return [n for n in live(c) if replica(n, stream) is not None]


def settle(c, stream, count, timeout=60.0):
    """Waits until the stream has so many replicas, all of them voters, and nothing else lives anywhere."""
    seen = []

    def check():
        found = [(n.name, replica(n, stream)) for n in live(c)]
        seen[:] = [(name, r) for name, r in found if r is not None]
        names = sorted(name for name, _ in seen)
        if len(seen) != count or not any(r["is_led"] for _, r in seen):
            return False
        for _, r in seen:
            if sorted(m["server"] for m in r["members"]) != names:
                return False
            if any(m["role"] != "voter" for m in r["members"]):
                return False
        return True
    try:
        wait_until("%d replicas of %s" % (count, stream), check, timeout, 0.1)
    except AssertionError as e:
        raise AssertionError("%s: %s" % (e, seen))
    return [n for n in live(c) if n.name in {name for name, _ in seen}]


def update(c, node, stream, subjects, replicas):
    js = Js(node)
    try:
        return js.ok("STREAM.UPDATE." + stream,
                     {"name": stream, "subjects": subjects, "num_replicas": replicas,
                      "retention": "limits", "storage": "file"}, 10)
    finally:
        js.close()


def stored(node, stream):
    status, body = node.http("/replicaz?stream=%s&dump=1" % stream, 60)
    assert status == 200, body
    return {m["seq"]: base64.b64decode(m["data"]) for m in map(json.loads, body.splitlines())}


def finish(c, load, stream, nodes):
    load.finish()
    c.same(stream, nodes, 30)
    first = stored(nodes[0], stream)
    load.check(first)
    for n in nodes[1:]:
        assert stored(n, stream) == first, n.name
    assert load.duplicates == 0 or load.moves > 0, load.duplicates
    gaps = sorted(load.gaps, reverse=True)[:3]
    print("     %d acks, none failed, the same on %d nodes; largest gaps %s ms"
          % (len(load.acks), len(nodes), [round(1000 * g) for g in gaps]))


def test_a_stream_is_scaled_up_and_down_under_load():
    with JsCluster(5) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 1)
        load = Load(c.nodes, "s", rate=500)
        load.start()
        for count in (3, 5, 3, 1, 2, 4, 1):
            info = update(c, c.nodes[count % 5], "S", ["s"], count)
            assert info["config"]["num_replicas"] == count, info
            nodes = settle(c, "S", count)
            time.sleep(0.3)
        finish(c, load, "S", nodes)
        assert len(Js(c.nodes[2]).info("S")["cluster"].get("replicas") or []) == 0


def test_peers_are_removed_under_load():
    """All of a stream's replicas move, the leader's too, until none is where it began."""
    with JsCluster(5) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        load = Load(c.nodes, "s", rate=500)
        load.start()
        first = {n.name for n in settle(c, "S", 3)}
        for name in sorted(first):
            assert js.ok("STREAM.PEER.REMOVE.S", {"peer": name})["success"]
            wait_until("%s without S" % name,
                       lambda: name not in {n.name for n in holders(c, "S")}, 60, 0.1)
            settle(c, "S", 3)
        nodes = settle(c, "S", 3)
        finish(c, load, "S", nodes)
        for body, code in (({"peer": "nobody"}, 10040), ({"peer": ""}, 10003), (None, 10003)):
            assert js.api("STREAM.PEER.REMOVE.S", body)["error"]["err_code"] == code
        assert js.api("STREAM.PEER.REMOVE.T", {"peer": "n1"})["error"]["err_code"] == 10059
        js.create("R5", ["r5"], 5)
        assert js.api("STREAM.PEER.REMOVE.R5", {"peer": "n1"})["error"]["err_code"] == 10075
        assert js.api("STREAM.UPDATE.R5", {"name": "R5", "subjects": ["r5"], "num_replicas": 6}
                      )["error"]["err_code"] == 10052


def test_a_dead_peer_is_replaced():
    with JsCluster(4) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        for i in range(200):
            assert js.publish("s", b"%d" % i)
        dead = next(n for n in holders(c, "S") if n is not c.nodes[0])
        dead.kill()
        wait_until("a publish", lambda: js.publish("s", b"on", timeout=9), 20)
        wait_until("the removal", lambda: js.api("STREAM.PEER.REMOVE.S", {"peer": dead.name}
                                                 ).get("success"), 20)
        nodes = settle(c, "S", 3)
        assert dead not in nodes
        c.same("S", nodes)
        # What it has is no member's any more: it goes when the node is back.
        dead.start()
        c.wait_ready(timeout=30)
        settle(c, "S", 3)
        assert replica(dead, "S") is None
        assert len(dump(nodes[0], "S")) == 201


def test_a_half_done_move_is_completed_after_restarts():
    with JsCluster(5) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 1)
        for i in range(300):
            assert js.publish("s", b"%d" % i)
        for count in (5, 1, 3):
            update(c, c.leader("S"), "S", ["s"], count)
            time.sleep(0.05)
            for n in c.nodes:
                n.kill()
            for n in c.nodes:
                n.start()
            c.wait_ready(timeout=40)
            nodes = settle(c, "S", count)
            c.same("S", nodes)
            assert len(dump(nodes[0], "S")) == 300


def meta_leader(node):
    """Whom the node thinks to lead the meta group; "" while nobody does."""
    try:
        return node.json("/jsz").get("meta_cluster", {}).get("leader", "")
    except (AssertionError, OSError):
        return ""


def wait_meta(c, names):
    """The meta group has these members, by its leader."""
    seen = []

    def check():
        for n in live(c):
            if meta_leader(n) == n.name:
                replicas = n.json("/jsz")["meta_cluster"].get("replicas", [])
                seen[:] = sorted([n.name] + [r["name"] for r in replicas])
                return seen == names
        return False
    try:
        wait_until("meta's members", check, 30)
    except AssertionError as e:
        raise AssertionError("%s: %s" % (e, seen))


def meta_voters(c):
    """Those of the meta group that vote, by its leader; None: nobody says."""
    for n in live(c):
        m = n.json("/jsz")["meta_cluster"]
        if m.get("leader") == n.name:
            voters = sorted([n.name] + [r["name"] for r in m.get("replicas", []) if not r.get("observer")])
            assert len(voters) == m["voters"] and m["quorum_needed"] == m["voters"] // 2 + 1, m
            return voters
    return None


def wipe(node):
    """Its store directory is gone: what comes back is another node, under the same name."""
    shutil.rmtree(os.path.join(node.folder, "js"))


def test_a_wiped_node_takes_the_place_of_the_one_that_is_gone():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        js.create("T", ["t"], 3)
        load = Load([c.nodes[0], c.nodes[2]], "s", rate=300)
        load.start()
        time.sleep(0.5)
        for _ in range(2):
            victim = c.nodes[1]
            victim.kill()
            wipe(victim)
            victim.start()
            c.wait_ready(timeout=40)
            nodes = settle(c, "S", 3)
            settle(c, "T", 3)
            assert victim in nodes
        finish(c, load, "S", nodes)
        wait_meta(c, ["n0", "n1", "n2"])

        # The newest member may stand by yet. Once it votes, each of the three may go.
        wait_until("three voters", lambda: meta_voters(c) == ["n0", "n1", "n2"], 20)
        c.nodes[0].kill()
        js = Js(c.nodes[1])
        wait_until("a publish", lambda: js.publish("t", b"on", timeout=9), 20)
        for n in c.nodes[1:]:  # Who places it may not have heard yet.
            n.wait_log("peer_down name=n0", 10)
        js.create("U", ["u"], 2)


def test_wiped_nodes_that_start_first_give_birth_to_nothing():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        for i in range(50):
            assert js.publish("s", b"%d" % i)
        c.same("S")
        time.sleep(7)  # A flush: what was decided is in the durable state of each node.
        for n in c.nodes:
            n.kill()
        wipe(c.nodes[0])
        wipe(c.nodes[1])
        c.nodes[0].start()
        c.nodes[1].start()
        time.sleep(3)
        for n in c.nodes[:2]:
            assert n.http("/healthz")[0] != 200
            assert not meta_leader(n)
        # With the survivor there are two of three that have nothing: no majority, and nothing is made up.
        c.nodes[2].start()
        time.sleep(4)
        for n in c.nodes:
            assert n.http("/healthz")[0] != 200
            assert not meta_leader(n), n.name
        assert len(dump(c.nodes[2], "S")) == 50
        assert replica(c.nodes[0], "S") is None


def test_a_dead_server_is_removed():
    with JsCluster(4) as c:
        js = Js(c.nodes[0])
        for k in range(4):
            js.create("S%d" % k, ["s%d" % k], 3)
            assert js.publish("s%d" % k, b"x")
        assert js.api("SERVER.REMOVE", {"peer": "nobody"})["error"]["err_code"] == 10044
        assert js.api("SERVER.REMOVE", {})["error"]["err_code"] == 10003
        dead = c.nodes[3]
        dead.kill()
        wait_until("the removal", lambda: js.api("SERVER.REMOVE", {"peer": "n3"}).get("success"), 20)
        for k in range(4):
            nodes = settle(c, "S%d" % k, 3)
            assert dead not in nodes
        wait_meta(c, ["n0", "n1", "n2"])
        assert js.api("SERVER.REMOVE", {"peer": "n3"})["error"]["err_code"] == 10044
        wait_until("a stream of three", lambda: "error" not in js.api(
            "STREAM.CREATE.T", {"name": "T", "subjects": ["t"], "num_replicas": 3}), 20)


def test_a_server_that_lives_is_removed():
    """What it had is elsewhere before it is out of the meta group, and it keeps nothing; nothing is placed there."""
    with JsCluster(4) as c:
        js = Js(c.nodes[0])
        for k in range(4):
            js.create("S%d" % k, ["s%d" % k], (3, 1)[k % 2])
            for i in range(20):
                assert js.publish("s%d" % k, b"%d" % i)
        gone = c.nodes[2]
        assert js.ok("SERVER.REMOVE", {"peer": "n2"})["success"]
        wait_until("n2 without replicas", lambda: not gone.json("/replicaz")["replicas"], 30)
        wait_meta(c, ["n0", "n1", "n3"])
        for k in range(4):
            nodes = settle(c, "S%d" % k, (3, 1)[k % 2])
            assert gone not in nodes
            assert len(dump(nodes[0], "S%d" % k)) == 20
        js.create("T", ["t"], 3)
        assert gone not in settle(c, "T", 3)
        assert js.api("STREAM.CREATE.U", {"name": "U", "subjects": ["u"], "num_replicas": 4}
                      )["error"]["err_code"] == 10005


def test_a_lost_replica_is_replaced():
    """The log of a node is an older one: a stream's replica was born since, and its records are gone. Its
    others have it; meta, which is behind its own store, goes on there."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("R", ["r"], 3)
        victim = c.nodes[2]
        log, copy = os.path.join(victim.folder, "js", "weir", "wal"), os.path.join(victim.folder, "copy")
        victim.stop()
        shutil.copytree(log, copy)
        victim.start()
        c.wait_ready(timeout=30)
        js.create("S", ["s"], 3)
        for i in range(100):
            assert js.publish("s", b"%d" % i)
        c.same("S")
        before = replica(victim, "S")["raft_id"]
        wait_until("what is below it to be in the store", lambda: all(
            r["flushed"] == r["applied"] for r in (replica(n, "S") for n in c.nodes)), 60)
        for n in c.nodes:  # All, so that none remembers how long the log was.
            n.stop()
        shutil.rmtree(log)
        shutil.copytree(copy, log)
        for n in c.nodes:
            n.start()
        nodes = settle(c, "S", 3)
        c.wait_ready(timeout=40)
        c.same("S", nodes)
        assert replica(victim, "S")["raft_id"] > before
        assert len(dump(victim, "S")) == 100


def test_a_disk_that_was_set_back_is_recognised():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        assert js.publish("s", b"before")
        victim = c.nodes[2]
        store, copy = os.path.join(victim.folder, "js"), os.path.join(victim.folder, "copy")
        victim.stop()
        shutil.copytree(store, copy)
        for start in (2, 3):  # Starts that the copy knows nothing of.
            victim.start()
            c.nodes[0].wait_log("Node n2 is registered, start %d of" % start, 20)
            c.wait_ready(timeout=30)
            assert js.publish("s", b"since")
            c.same("S")
            victim.stop()
        shutil.rmtree(store)
        shutil.copytree(copy, store)
        victim.start(ready=False)
        assert victim.wait_exit(20) != 0
        assert "disk was set back" in victim.log(), victim.log()
        assert js.publish("s", b"on")
        # As it says: without that directory it is a new node.
        wipe(victim)
        victim.start()
        c.wait_ready(timeout=40)
        nodes = settle(c, "S", 3)
        c.same("S", nodes)
        assert len(dump(victim, "S")) == 4


def test_a_disk_that_was_set_back_to_after_its_last_start_is_recognised():
    """The count of starts does not tell it: those that heard how far its log had come do. It is not forgotten either."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        victim = c.nodes[2]
        store, copy = os.path.join(victim.folder, "js"), os.path.join(victim.folder, "copy")
        stored = 0
        for is_running in (True, False):
            if is_running:
                victim.signal(signal.SIGSTOP)
                shutil.copytree(store, copy)
                victim.signal(signal.SIGCONT)
            else:
                victim.kill()
                shutil.copytree(store, copy)
                victim.start()
                c.wait_ready(timeout=30)
            for _ in range(20):
                assert js.publish("s", b"since")
                stored += 1
            c.same("S")
            time.sleep(1)  # Some heartbeats.
            victim.kill()
            shutil.rmtree(store)
            shutil.copytree(copy, store)
            for _ in range(3):
                victim.start(ready=False)
                assert victim.wait_exit(20) != 0
                assert "disk was set back" in victim.log(), victim.log()
            shutil.rmtree(copy)
            wipe(victim)
            victim.start()
            c.wait_ready(timeout=40)
            c.same("S", settle(c, "S", 3))
            assert len(dump(victim, "S")) == stored


def test_a_cluster_grows():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        assert js.publish("s", b"x")
        routes = ",".join("nats://127.0.0.1:%d" % p for p in c.cluster_ports)
        for i in (3, 4):
            folder = os.path.join(c.folder, "n%d" % i)
            own = ["--cluster", "nats://127.0.0.1:%d" % free_port(), "--cluster_name", "C", "--routes", routes,
                   "-js", "-sd", os.path.join(folder, "js")]
            c.nodes.append(Node(folder, own, "n%d" % i))
            c.nodes[-1].start()
        c.wait_ready(timeout=40)
        wait_meta(c, ["n0", "n1", "n2", "n3", "n4"])
        wait_until("five voters", lambda: len(meta_voters(c) or ()) == 5, 30)
        wait_until("five replicas", lambda: "error" not in js.api(
            "STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "num_replicas": 5, "retention": "limits",
                                "storage": "file"}), 20)
        nodes = settle(c, "S", 5)
        c.same("S", nodes)


if __name__ == "__main__":
    run(globals())
