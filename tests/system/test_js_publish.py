"""Publishes: what is acknowledged is there once and in order, whatever the sizes and the load."""

import time

from weir_cluster import run, wait_until
from weir_js import Js, JsCluster, Publisher, dump


def test_many_large_messages_without_waiting():
    """More than the group takes at once: the leader queues, within bounds, and never gets stuck."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        leader = c.leader("S")
        follower = next(n for n in c.nodes if n is not leader)
        for node in (leader, follower):
            p = Publisher(node)
            for i in range(600):
                p.send("s.%d" % i, bytes([i % 256]) * 65536)
            p.drain(60)
            seqs = [p.acks[i]["seq"] for i in range(600)]
            assert seqs == sorted(seqs) and len(set(seqs)) == 600, seqs[:20]
        assert c.same("S")["messages"] == 1200


def test_a_message_beyond_what_a_stream_takes_is_refused():
    """A core message may be larger than a stream's: the stream refuses it and goes on."""
    with JsCluster(3, ["--max_payload", str(32 << 20), "--max_pending", str(128 << 20)]) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        for node in c.nodes:
            at = Js(node)
            reply = at.publish("s.big", b"x" * (12 << 20), timeout=20)
            assert reply["error"]["err_code"] == 10054, reply
            assert "seq" in at.publish("s.small", b"y"), node.name
            assert "seq" in at.publish("s.large", b"x" * (8 << 20), timeout=20), node.name
        # Nor may a request become an op that fits into no entry.
        big = "x" * (12 << 20)
        for subject, body in (("STREAM.PURGE.S", {"filter": big}),
                              ("CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": {
                                  "durable_name": "C", "description": big}}),
                              ("STREAM.CREATE.T", {"name": "T", "subjects": [big]})):
            reply = js.api(subject, body, 20)
            assert reply["error"]["err_code"] == 10003, reply
        assert "seq" in js.publish("s.small", b"y")
        c.same("S")


def test_order_and_numbers_of_one_publisher():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        p = Publisher(c.nodes[1])
        for i in range(20000):
            p.send("s.x", b"%d" % i)
        p.drain(60)
        assert [p.acks[i]["seq"] for i in range(20000)] == list(range(1, 20001))
        got = dump(c.nodes[2], "S")
        assert [int(got[s]) for s in sorted(got)] == list(range(20000))


def test_without_leader_a_publisher_hears_503():
    """Held for five seconds, then 503, and never stored afterwards."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        c.leader("S")
        js.publish("s.a", b"first")
        lone = c.nodes[0]
        for node in c.nodes[1:]:
            node.kill()
        js = Js(lone)
        # As long as the node believes in a leader, be it itself, nobody knows what becomes of a
        # message, and silence is right. What comes after is never stored.
        wait_until("the lone node to know of no leader",
                   lambda: lone.json("/replicaz?stream=S")["leader"] == "", 10)
        began = time.monotonic()
        assert js.publish("s.b", b"lost", timeout=20) is None
        assert time.monotonic() - began > 4, "a leader may yet come"
        for node in c.nodes[1:]:
            node.start()
        c.leader("S")
        wait_until("a publish", lambda: js.publish("s.c", b"last", timeout=9), 20)
        c.same("S")
        assert sorted(dump(lone, "S").values()) == [b"first", b"last"]


def test_answers_survive_the_death_of_the_leader():
    """Publishers on the other nodes: every message is answered, stored once and in order."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        leader = c.leader("S")
        others = [n for n in c.nodes if n is not leader]
        js = Js(others[0])
        publishers = [Publisher(n) for n in others]
        for i in range(12000):
            for k, p in enumerate(publishers):
                p.send("s.%d" % k, b"%d" % i)
            if i == 6000:
                leader.kill()
        for p in publishers:
            p.drain(60)
        got = dump(others[0], "S")
        for k, p in enumerate(publishers):
            seqs = [p.acks[i]["seq"] for i in range(12000)]
            assert seqs == sorted(seqs), k
            assert len(set(seqs)) == 12000, k
            assert all(int(got[seqs[i]]) == i for i in range(12000)), k
        assert len(got) == 24000
        leader.start()
        assert c.same("S")["messages"] == 24000


def test_refusals_keep_their_place_across_leaders():
    """Expectations: the answers of refused messages come again from the new leader."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        leader = c.leader("S")
        other = next(n for n in c.nodes if n is not leader)
        p = Publisher(other)
        for i in range(3000):
            expect = i // 2 if i % 2 == 0 else 999999
            p.send("s.x", b"%d" % i,
                   "NATS/1.0\r\nNats-Expected-Last-Sequence: %d\r\n\r\n" % expect)
            if i == 1500:
                leader.kill()
        p.drain(60)
        for i in range(3000):
            if i % 2 == 0:
                assert p.acks[i].get("seq") == i // 2 + 1, (i, p.acks[i])
            else:
                assert p.acks[i]["error"]["err_code"] == 10071, (i, p.acks[i])


def test_duplicates_are_known_to_the_next_leader():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        leader = c.leader("S")
        other = next(n for n in c.nodes if n is not leader)
        js = Js(other)
        first = js.publish("s.x", b"1", "NATS/1.0\r\nNats-Msg-Id: a\r\n\r\n")
        leader.kill()
        c.leader("S", among=[n for n in c.nodes if n is not leader])
        again = js.publish("s.x", b"1", "NATS/1.0\r\nNats-Msg-Id: a\r\n\r\n")
        assert again["seq"] == first["seq"] and again["duplicate"] is True, again


def test_a_stop_in_the_middle_of_publishing():
    """SIGTERM with proposals under way: a clean end, and what was acknowledged is there."""
    import signal
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        for victim in (c.leader("S"), next(n for n in c.nodes if n is not c.leader("S"))):
            p = Publisher(victim)
            for i in range(5000):
                p.send("s.x", b"x" * 512)
                if i == 3000:
                    victim.signal(signal.SIGTERM)
                    break
            try:
                p.poll(3)
            except (EOFError, ConnectionError):
                pass
            assert victim.wait_exit(10) == 0, victim.log()[-2000:]
            acked = max([a["seq"] for a in p.acks.values() if a], default=0)
            victim.start()
            c.wait_ready()
            state = c.same("S")
            assert state["last_seq"] >= acked, (state, acked)


def test_what_was_sent_once_is_not_sent_again_by_who_applies_it_anew():
    """A restart applies the log once more, and a new leader what it had not yet: nothing of it is republished, nor
    told in an advisory. What follows is, under the rules in force."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.*"], 3, subject_transform={"src": "s.*", "dest": "t.{{left(1,1)}}.$1"},
                  republish={"src": "t.>", "dest": "re.>"})
        for i in range(20):
            assert js.publish("s.x%d" % i, b"x")["seq"] == i + 1
        for n in c.nodes:
            n.kill()
        for n in c.nodes:
            n.start(ready=False)
        for n in c.nodes:
            wait_until("a client at " + n.name, lambda: can_connect(n), 30)
        listener = c.nodes[1].client()
        listener.sub("re.>")
        for kind in ("CREATED", "UPDATED", "DELETED"):
            listener.sub("$JS.EVENT.ADVISORY.STREAM.%s.>" % kind)
        listener.ping()
        c.wait_ready(timeout=30)
        js = Js(c.nodes[0])
        for i in range(2):
            c.leader("S", timeout=30)
            assert js.publish("s.last%d" % i, b"y", timeout=20)["seq"] == 21 + i
            subject, _, _, header, _ = listener.msg(10)
            assert subject == "re.l.last%d" % i and b"Nats-Subject: t.l.last" in header, (subject, header)
            leader = c.leader("S")
            if leader is not c.nodes[0] and leader is not c.nodes[1]:
                leader.kill()
                leader.start()
        listener.silent(0.5)


def can_connect(node):
    try:
        node.client().close()
        return True
    except OSError:
        return False


if __name__ == "__main__":
    run(globals())
