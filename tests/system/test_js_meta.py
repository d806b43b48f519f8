"""The meta group: birth, placement, races, restarts in any order, streams that come and go."""

import json
import os
import re
import shutil
import signal
import time

from weir_cluster import run, wait_until
from weir_js import Js, JsCluster, Publisher, dump, inbox


def meta_leader(c):
    """The node that all nodes know as the leader of meta."""
    def check():
        told = {n.json("/jsz")["meta_cluster"].get("leader") for n in c.nodes}
        return next((n for n in c.nodes if told == {n.name}), None)
    return wait_until("a leader of meta", check)


def names(node):
    """None while meta has no leader, or it has just gone with the request."""
    js = Js(node)
    try:
        reply = js.api("STREAM.NAMES", timeout=5)
    except TimeoutError:
        return None
    finally:
        js.close()
    return None if "error" in reply else sorted(reply["streams"] or [])


def wait_streams(node, expected, timeout=20):
    """This node itself knows these streams, by its own meta replica."""
    def check():
        got = node.json("/replicaz")["replicas"]
        return sorted(r["stream"] for r in got if r["state"] == "ok") == expected
    try:
        wait_until("%s to have %s" % (node.name, expected), check, timeout)
    except AssertionError as e:
        raise AssertionError("%s: %s" % (e, node.json("/replicaz")))


def test_three_replicas_need_three_nodes():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("A", ["a.>"], 3)
        c.nodes[2].kill()
        c.wait_mesh(c.nodes[:2])
        wait_until("a leader of meta", lambda: names(c.nodes[0]) is not None, 20)
        reply = js.api("STREAM.CREATE.B", {"name": "B", "subjects": ["b"], "num_replicas": 3})
        assert reply["error"]["err_code"] == 10005, reply
        assert "seq" in js.publish("a.1", b"still works")
        c.nodes[2].start()
        c.wait_ready()
        js.create("B", ["b"], 3)


def test_creating_the_same_stream_from_all_nodes_at_once():
    with JsCluster(3) as c:
        clients = [n.client() for n in c.nodes]
        for round_ in range(10):
            for i, cl in enumerate(clients):
                cl.sub("r%d.%d" % (round_, i), str(round_))
                cl.pub("$JS.API.STREAM.CREATE.S%d" % round_,
                       '{"name":"S%d","subjects":["s%d.>"],"num_replicas":3%s}'
                       % (round_, round_, ',"max_msgs":7' if i == 2 and round_ % 2 else ""),
                       "r%d.%d" % (round_, i))
            replies = [cl.msg(10)[4] for cl in clients]
            refused = [r for r in replies if b'"err_code":10058' in r]
            assert all(b'"config"' in r or r in refused for r in replies), replies
            if round_ % 2 == 0:
                assert not refused, replies
            else:
                assert len(refused) in (1, 2), replies


def test_a_stream_is_created_and_published_to_at_once():
    """Whatever node the client is on: once the reply is there, its node knows the stream."""
    with JsCluster(3) as c:
        for k in range(30):
            js = Js(c.nodes[k % 3])
            js.create("S%d" % k, ["s%d" % k], 3)
            ack = js.publish("s%d" % k, b"x")
            assert ack and ack["seq"] == 1, (k, ack)
            js.close()


def test_a_name_used_again_is_a_new_stream():
    """Deleted and created anew, again and again, with publishes under way: nothing of the old one."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        noise = Publisher(c.nodes[1])
        for k in range(25):
            js.create("S", ["s.>"], 3)
            assert js.publish("s.a", b"%d" % k)["seq"] == 1 or True
            for _ in range(50):
                noise.send("s.noise", b"x" * 100)
            js.consumer("S", "C")
            info = js.info("S")
            assert info["state"]["consumer_count"] == 1
            js.delete("S")
        js.create("S", ["s.>"], 3)
        noise.poll(1)
        c.same("S")
        gids = {n.json("/replicaz?stream=S")["gid"] for n in c.nodes}
        assert len(gids) == 1
        for node in c.nodes:
            assert [r["stream"] for r in node.json("/replicaz")["replicas"]] == ["S"]


def test_a_deleted_stream_is_gone_at_every_node():
    """Once the delete is confirmed nobody answers for the stream, nor does the node that led it and is slow."""
    with JsCluster(3) as c:
        clients = {n.name: Js(n) for n in c.nodes}
        meta = c.nodes[0].json("/jsz")["meta_cluster"]["leader"]
        deleter = clients[meta].client
        slow_count = 0
        for k in range(12):
            clients["n0"].create("S%d" % k, ["s%d" % k], 3)
        for k in range(12):
            leader = c.leader("S%d" % k)
            asker = clients[leader.name].client
            to = inbox()
            deleter.sub(to + ".deleted")
            asker.sub(to + ".info")
            asker.ping()
            is_slow = leader.name != meta
            if is_slow:
                slow_count += 1
                leader.signal(signal.SIGSTOP)
            deleter.pub("$JS.API.STREAM.DELETE.S%d" % k, "", to + ".deleted")
            try:
                reply = deleter.msg(0.15)
            except TimeoutError:
                reply = None
            if reply is None:
                leader.signal(signal.SIGCONT)
                reply = deleter.msg(5)
            assert b'"success":true' in reply[4], reply
            asker.pub("$JS.API.STREAM.INFO.S%d" % k, "", to + ".info")
            leader.signal(signal.SIGCONT)
            reply = json.loads(asker.msg(5)[4])
            assert reply.get("error", {}).get("err_code") == 10059, (k, leader.name, reply)
        assert slow_count > 0


def test_restarts_in_any_order():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        for k in range(5):
            js.create("S%d" % k, ["s%d.>" % k], 3)
            js.publish("s%d.a" % k, b"1")
        every = ["S%d" % k for k in range(5)]
        for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
            for node in c.nodes:
                node.kill()
            for i in order:
                c.nodes[i].start()
                time.sleep(0.3)
            c.wait_ready(timeout=30)
            for node in c.nodes:
                wait_streams(node, every)
            js = Js(c.nodes[order[0]])
            for k in range(5):
                assert js.publish("s%d.a" % k, b"2"), k
        for k in range(5):
            assert c.same("S%d" % k)["messages"] == 4


def test_a_node_that_missed_all_of_meta_catches_up():
    """Down while streams came and went; the others restart meanwhile, so that their logs begin later."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("GONE", ["gone"], 3)
        js.create("KEPT", ["kept"], 3)
        js.publish("kept", b"1")
        c.same("KEPT")
        late, others = c.nodes[2], c.nodes[:2]
        late.kill()
        c.wait_mesh(others)  # Nothing is placed on it any more.
        js = Js(others[0])
        wait_until("a leader of meta", lambda: names(c.nodes[0]) is not None, 20)
        for k in range(5):
            js.create("R%d" % k, ["r%d" % k], 1)
        js.delete("GONE")
        js.publish("kept", b"2")
        time.sleep(6)  # What is dirty is flushed after 5 s: the logs of meta begin behind all of it.
        for node in others:
            node.kill()
        for node in others:
            node.start()
        wait_until("a leader of meta", lambda: names(others[0]), 20)
        late.start()
        c.wait_ready(timeout=30)
        wait_streams(late, ["KEPT"])
        c.same("KEPT")
        # It is a full member: it takes new replicas, and the others may go.
        js = Js(late)
        js.create("NEW", ["new"], 3)
        others[0].kill()
        wait_until("a publish", lambda: js.publish("new", b"x", timeout=9), 20)
        wait_until("a leader of meta", lambda: names(late) is not None, 20)
        assert names(late) == sorted(["KEPT", "NEW"] + ["R%d" % k for k in range(5)])
        # And again after a restart of its own.
        late.kill()
        others[0].start()
        late.start()
        c.wait_ready(timeout=30)
        wait_streams(late, ["KEPT", "NEW"])


def test_deletes_are_final_whenever_the_node_dies():
    """kill -9 around deletes: no replica comes back, and nothing of it is left in the log."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("STAY", ["stay"], 3)
        for k in range(6):
            victim = c.nodes[1 + k % 2]
            js.create("D%d" % k, ["d%d" % k], 3)
            js.publish("d%d" % k, b"x" * 1000)
            js.client.pub("$JS.API.STREAM.DELETE.D%d" % k, b"", "nobody")
            time.sleep(0.001 * (k * 3))
            victim.kill()

            def deleted():
                # Nobody answers for what the dead node had not passed on yet: as a client does, ask again.
                js.client.pub("$JS.API.STREAM.DELETE.D%d" % k, b"", "nobody")
                return "D%d" % k not in (names(c.nodes[0]) or ["D%d" % k])

            wait_until("the delete", deleted, 20)
            victim.start()
            c.wait_ready(timeout=30)
            wait_streams(victim, ["STAY"])
        for node in c.nodes:
            assert "is lost" not in node.log(), node.log()


def test_nobody_is_left_out_of_the_birth():
    """A node that was seen and has gone again is waited for."""
    c = JsCluster(3, born=False)
    try:
        for node in c.nodes:
            os.makedirs(node.folder, exist_ok=True)
        c.nodes[0].start()
        c.nodes[2].start()
        c.wait_mesh([c.nodes[0], c.nodes[2]])
        c.nodes[2].kill()
        c.nodes[1].start()
        c.wait_mesh(c.nodes[:2])
        time.sleep(1.5)
        for node in c.nodes[:2]:
            assert node.http("/healthz")[0] == 503, node.http("/healthz")
        c.nodes[2].start()
        c.wait_ready()
        Js(c.nodes[2]).create("S", ["s"], 3)
        c.same("S")
    finally:
        c.__exit__(None, None, None)


def test_a_route_that_only_one_node_names_is_waited_for():
    """The others do not know of it: the node that does has a say."""
    c = JsCluster(3, born=False, seeds=[0])
    routes = ",".join("nats://127.0.0.1:%d" % p for p in c.cluster_ports)
    at = c.nodes[0].args.index("--routes")
    c.nodes[0].args[at + 1] = routes
    try:
        c.nodes[0].start()
        c.nodes[1].start()
        c.wait_mesh(c.nodes[:2])
        time.sleep(1.5)
        assert c.nodes[1].http("/healthz")[0] == 503
        c.nodes[2].start()
        c.wait_ready()
        Js(c.nodes[1]).create("S", ["s"], 3)
        c.same("S")
    finally:
        c.__exit__(None, None, None)


def test_a_wiped_node_outvotes_nobody():
    """It has lost what it promised: it is another node now, and no member."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        js.publish("s", b"1")
        c.same("S")
        wiped, others = c.nodes[2], c.nodes[:2]
        wiped.kill()
        shutil.rmtree(os.path.join(c.folder, "n2", "js"))
        others[1].kill()
        wiped.start()
        # One member of three and a stranger: no majority.
        wait_until("the last member to know of no leader",
                   lambda: others[0].json("/replicaz?stream=S")["leader"] == "", 10)
        assert Js(others[0]).publish("s", b"2", timeout=9) is None
        others[1].start()
        wait_until("a publish", lambda: Js(others[0]).publish("s", b"3", timeout=9), 20)
        assert sorted(dump(others[0], "S").values()) == [b"1", b"3"]
        wiped.kill()


def test_updates_reach_the_stream_and_are_never_taken_back():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3, max_msgs=1)
        for k in range(2, 12):
            leader = c.leader("S")
            for _ in range(3):
                js.publish("s", b"x")
            js.ok("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "num_replicas": 3,
                                      "max_msgs": k, "storage": "file", "retention": "limits"})
            if k % 3 == 0:
                victim = leader if leader is not c.nodes[0] else c.nodes[1]
                victim.kill()
                wait_until("a publish", lambda: js.publish("s", b"y", timeout=9), 20)
                victim.start()
                c.wait_ready(timeout=30)
            assert js.info("S")["config"]["max_msgs"] == k
        c.same("S")


def test_without_a_leader_of_meta_requests_are_answered():
    with JsCluster(3) as c:
        for node in c.nodes[1:]:
            node.kill()
        js = Js(c.nodes[0])
        wait_until("no leader", lambda: not c.nodes[0].json("/jsz")["meta_cluster"].get("leader"), 15)
        reply = js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]}, timeout=20)
        assert reply["error"]["err_code"] == 10008, reply


def test_a_leader_that_stood_still_takes_nothing_back():
    """SIGSTOP: the others go on; the former leader wakes up, confirms nothing false, and agrees."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        leader = c.leader("S")
        others = [n for n in c.nodes if n is not leader]
        p = Publisher(others[0])
        own = Publisher(leader)
        for i in range(4000):
            p.send("s.p", b"p%d" % i)
            own.send("s.o", b"o%d" % i)
            if i == 2000:
                leader.signal(signal.SIGSTOP)
                break
        for i in range(2000):
            p.send("s.p", b"p%d" % (2001 + i))
        p.drain(30)
        leader.signal(signal.SIGCONT)
        own.drain(30)
        state = c.same("S")
        got = dump(others[0], "S")
        for q, mark in ((p, b"p"), (own, b"o")):
            for i, a in q.acks.items():
                if a is not None:
                    assert got[a["seq"]] == mark + b"%d" % i, (i, a, got.get(a["seq"]))
            stored = [int(v[1:]) for s, v in sorted(got.items()) if v[:1] == mark]
            assert stored == sorted(set(stored)), mark
        assert state["messages"] == len(got)


def test_a_lame_duck_hands_its_leaderships_over():
    """Nobody waits for a timeout, and nothing that is published meanwhile is lost or doubled."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        for k in range(6):
            js.create("S%d" % k, ["s%d" % k], 3)
        duck = c.leader("S0")
        others = [n for n in c.nodes if n is not duck]
        p = Publisher(others[0])
        for i in range(200):
            p.send("s0", b"%d" % i)
        duck.signal(signal.SIGUSR2)
        for i in range(200, 3000):
            p.send("s0", b"%d" % i)
        for k in range(6):
            assert c.leader("S%d" % k, 3, others) in others
        wait_until("another leader of meta",
                   lambda: others[0].json("/jsz")["meta_cluster"]["leader"] not in ("", duck.name), 3)
        p.drain(20)
        assert [p.acks[i]["seq"] for i in range(3000)] == list(range(1, 3001))


def test_a_request_on_its_way_to_a_leader_that_dies_is_answered():
    """What may be asked twice is asked again; of the rest the client hears soon that nobody knows."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        js.publish("s", b"1")
        for is_killed in (False, True):
            leader = meta_leader(c)
            js = Js(next(n for n in c.nodes if n is not leader))
            to = {what: inbox() for what in ("create", "info", "delete", "names")}
            for what, box in to.items():
                js.client.sub(box, what)
            js.client.ping()
            leader.signal(signal.SIGSTOP)
            began = time.monotonic()
            new = "T%d" % is_killed
            for what, subject, body in (
                    ("create", "STREAM.CREATE." + new, json.dumps({"name": new, "subjects": [new]})),
                    ("names", "STREAM.NAMES", ""), ("info", "STREAM.INFO.S", ""),
                    ("delete", "STREAM.DELETE.S", "")):
                js.client.pub("$JS.API." + subject, body, to[what])
            if is_killed:
                time.sleep(0.1)  # All of them are there, and in no log.
                leader.kill()
            got = {}
            try:
                while len(got) < 4:
                    m = js.client.msg(max(0.01, 4.5 - (time.monotonic() - began)))
                    assert m[1] not in got, m
                    got[m[1]] = json.loads(m[4])
            finally:
                if is_killed:
                    leader.start()
                else:
                    leader.signal(signal.SIGCONT)
            assert "error" not in got["create"] and got["create"]["config"]["name"] == new, got
            assert "S" in got["names"]["streams"], got
            assert got["info"]["state"]["last_seq"] == 1, got
            assert got["delete"]["error"]["err_code"] == 10008, got
            js.client.silent(1)
            c.wait_ready(timeout=30)
        assert Js(c.nodes[0]).ok("STREAM.NAMES")["streams"] == ["S", "T0", "T1"]


def test_a_request_whose_leader_has_no_successor_is_answered():
    with JsCluster(3) as c:
        leader = meta_leader(c)
        at, other = [n for n in c.nodes if n is not leader]
        js = Js(at)
        leader.signal(signal.SIGSTOP)
        try:
            other.kill()
            reply = js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"]}, timeout=20)
        finally:
            leader.signal(signal.SIGCONT)
        assert reply["error"]["err_code"] == 10008, reply
        js.client.silent(1)


def test_a_member_that_falls_silent_right_after_the_birth_stays_a_member():
    """It may not be registered yet, as the first leader, which registers, is silent itself."""
    for _ in range(2):
        with JsCluster(3, born=False) as c:
            first = wait_until("a leader of meta", lambda: next(
                (n for n in c.nodes if re.search("new metadata leader", n.log())), None), step=0.002)
            first.signal(signal.SIGSTOP)
            try:
                others = [n for n in c.nodes if n is not first]
                wait_until("another leader", lambda: any("new metadata leader" in n.log() for n in others))
                time.sleep(1)
            finally:
                first.signal(signal.SIGCONT)
            c.wait_ready()
            for n in c.nodes:
                m = n.json("/jsz")["meta_cluster"]
                assert m["voters"] == m["cluster_size"] == 3, (n.name, m)
                assert "is removed" not in n.log(), n.log()


def test_a_leader_of_meta_that_slept_lists_nothing_old():
    with JsCluster(3) as c:
        for k in range(3):
            leader = meta_leader(c)
            js = Js(next(n for n in c.nodes if n is not leader))
            readers = [leader.client() for _ in range(3)]
            leader.signal(signal.SIGSTOP)
            try:
                js.create("T%d" % k, ["t%d" % k], 2)
                for r, subject in zip(readers, ("STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.T%d" % k)):
                    to = inbox()
                    r.sub(to, 1)
                    r.pub("$JS.API." + subject, "", to)
            finally:
                leader.signal(signal.SIGCONT)
            names, streams, info = (json.loads(r.msg(10)[4]) for r in readers)
            assert "T%d" % k in names.get("streams", ()), (names, streams, info)
            assert "T%d" % k in [s["config"]["name"] for s in streams["streams"]], streams
            assert info["config"]["name"] == "T%d" % k, info
            c.wait_ready()


def next_to_get(c, js):
    """Another node than that of @js, the meta leader's: the next stream of one replica would be placed there."""
    for k in range(2):  # Who gets the first, or the second if the leader got that, is next again once it is deleted.
        js.create("S%d" % k, ["s%d" % k], 1)
        node = next(n for n in c.nodes if n.http("/replicaz?stream=S%d" % k)[0] == 200)
        if node is not js.node:
            js.delete("S%d" % k)
            return node


def test_nothing_is_placed_on_a_node_that_has_just_gone_silent():
    """It is up yet, as far as the others know; on a slow machine it may be known to be down, which is right, too."""
    with JsCluster(3) as c:
        js = Js(meta_leader(c))
        silent = next_to_get(c, js)
        silent.signal(signal.SIGSTOP)
        try:
            time.sleep(0.35)
            js.create("T", ["t"], 1)
        finally:
            silent.signal(signal.SIGCONT)


def test_nothing_is_placed_on_a_node_that_has_just_died():
    """Its connections are closed. That it is down is known only when nobody listens there any more, or after a silence."""
    with JsCluster(3) as c:
        leader = meta_leader(c)
        js = Js(leader)
        victim = next_to_get(c, js)
        to = inbox()
        js.client.sub(to)
        js.client.ping()
        # It hears of both at once, as on a busy machine.
        leader.signal(signal.SIGSTOP)
        try:
            victim.kill()
            js.client.pub("$JS.API.STREAM.CREATE.T", '{"name":"T","subjects":["t"]}', to)
        finally:
            leader.signal(signal.SIGCONT)
        reply = json.loads(js.client.msg(10)[4])
        assert reply.get("config", {}).get("name") == "T", reply


if __name__ == "__main__":
    run(globals())
