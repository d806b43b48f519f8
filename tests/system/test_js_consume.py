"""Pull consumers across the death of their stream's leader, and streams that go while they are read."""

import time

from weir_cluster import run, wait_until
from weir_js import Js, JsCluster, Publisher


def fill(node, subject, count, size=32):
    p = Publisher(node)
    for i in range(count):
        p.send(subject, b"%d " % i + b"x" * size)
    p.drain(60)
    p.close()


def test_a_waiting_pull_hears_that_the_leader_is_gone():
    """The leader cannot say it; the node of the client does, once, and not to who has been served."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        js.consumer("S", "C")
        leader = c.leader("S")
        js = Js(next(n for n in c.nodes if n is not leader))
        js.publish("s.1", b"x")
        served, sid_served = js.pull("S", "C", 1, expires=int(30e9))
        assert js.client.msg()[1] == sid_served
        ended, sid_ended = js.pull("S", "C", 1, no_wait=True)
        m = js.client.msg()
        assert m[1] == sid_ended and m[3].startswith(b"NATS/1.0 404"), m
        _, sid = js.pull("S", "C", 5, expires=int(30e9), idle_heartbeat=int(5e9))
        asker = Js(js.node)
        wait_until("the pull to wait", lambda: asker.ok("CONSUMER.INFO.S.C")["num_waiting"] == 1)
        leader.kill()
        m = js.client.msg(10)  # It waits 30 s for messages.
        assert m[1] == sid and m[3].startswith(b"NATS/1.0 409 Leadership Change"), m
        js.client.silent(1.0)
        # The new leader serves.
        c.leader("S", among=[n for n in c.nodes if n is not leader])
        js.publish("s.2", b"y")
        assert [g[1] for g in js.fetch("S", "C", 1, 5)] == [b"y"]


def test_nothing_is_lost_or_acked_falsely_when_leaders_die():
    """Confirmed acks stand: no such message comes again, and every message comes at least once."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        js.consumer("S", "C", ack_wait=int(2e9), max_ack_pending=100)
        fill(c.nodes[0], "s.x", 600)
        confirmed, seen = set(), set()
        kills = 0
        end = time.monotonic() + 60
        node = c.nodes[0]
        while len(confirmed) < 600:
            assert time.monotonic() < end, (len(confirmed), len(seen))
            try:
                got = js.fetch("S", "C", 40, 1.0)
            except (TimeoutError, EOFError, ConnectionError):
                got = []
            for i, (seq, payload, reply) in enumerate(got):
                assert seq not in confirmed, "message %d came after its confirmed ack" % seq
                assert int(payload.split()[0]) == seq - 1
                seen.add(seq)
                try:
                    js.ack(reply, 3)
                    confirmed.add(seq)
                except TimeoutError:
                    js.close()
                    js = Js(node)
                    break
                if kills < 2 and len(confirmed) == 150 * (kills + 1):
                    kills += 1
                    victim = c.leader("S")
                    victim.kill()
                    if victim is node:
                        node = c.nodes[1] if node is c.nodes[0] else c.nodes[0]
                        js = Js(node)
                    wait_until("a leader", lambda: c.leader("S", 20, [n for n in c.nodes if n is not victim]))
                    victim.start()
                    c.wait_ready(timeout=30)
                    break
        info = Js(c.nodes[2]).ok("CONSUMER.INFO.S.C")
        assert info["num_ack_pending"] == 0 and info["num_pending"] == 0, info
        c.same("S")


def test_what_is_pending_counts_across_a_failover():
    """max_ack_pending and delivery counts are the log's, not a leader's."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        js.consumer("S", "C", ack_wait=int(4e9), max_ack_pending=10)
        fill(c.nodes[0], "s.x", 50)
        leader = c.leader("S")
        other = next(n for n in c.nodes if n is not leader)
        js = Js(other)
        first = js.fetch("S", "C", 10, 2)
        assert len(first) == 10
        leader.kill()
        c.leader("S", among=[n for n in c.nodes if n is not leader])
        assert js.fetch("S", "C", 10, 1.0) == []
        again = js.fetch("S", "C", 10, 8.0)
        assert sorted(g[0] for g in again) == list(range(1, 11))
        assert all(g[2].split(".")[4] == "2" for g in again), again
        for g in again:
            js.ack(g[2])
        more = js.fetch("S", "C", 10, 2)
        assert sorted(g[0] for g in more) == list(range(11, 21))


def test_acks_given_while_nobody_leads_are_kept():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        js.consumer("S", "C", ack_wait=int(60e9))
        fill(c.nodes[0], "s.x", 20)
        leader = c.leader("S")
        other = next(n for n in c.nodes if n is not leader)
        js = Js(other)
        got = js.fetch("S", "C", 20, 3)
        assert len(got) == 20
        leader.kill()
        # At once: the node knows of the death, and of nobody else yet.
        wait_until("the node to know", lambda: other.json("/replicaz?stream=S")["leader"] != leader.name, 5, 0.002)
        for g in got:
            js.client.pub(g[2], b"+ACK")
        c.leader("S", among=[n for n in c.nodes if n is not leader])
        wait_until("all to be acked",
                   lambda: js.ok("CONSUMER.INFO.S.C")["num_ack_pending"] == 0, 5)


def test_streams_go_while_they_are_read_and_written():
    """Deleted with deliveries, reads from disk, requests and publishes under way, many times."""
    with JsCluster(3) as c:
        watcher = Js(c.nodes[1])
        for k in range(8):
            js = Js(c.nodes[k % 3])
            js.create("S", ["s.>"], 3 if k % 2 else 1)
            js.consumer("S", "C")
            fill(c.nodes[0], "s.x", 3000, 500)
            p = Publisher(c.nodes[2])
            for i in range(200):
                p.send("s.x", b"y" * 1000)
            js.pull("S", "C", 3000, expires=int(20e9))
            js.pull("S", "C", 100, expires=int(20e9))
            for seq in range(1, 60):
                watcher.client.pub("$JS.API.STREAM.MSG.GET.S", b'{"seq":%d}' % seq, "nobody.x")
                watcher.client.pub("$JS.API.CONSUMER.CREATE.S.e%d" % seq,
                                   b'{"stream_name":"S","config":{"name":"e%d","ack_policy":"none"}}' % seq,
                                   "nobody.y")
                watcher.client.pub("$JS.API.STREAM.PURGE.S", b'{"keep":2900}', "nobody.z")
            deleter = Js(c.nodes[(k + 1) % 3])
            deleter.delete("S")
            p.close()
            js.close()
            deleter.close()
        js = Js(c.nodes[0])
        assert js.ok("STREAM.NAMES")["total"] == 0
        for node in c.nodes:
            wait_until("%s to forget all" % node.name, lambda: node.json("/replicaz")["replicas"] == [], 10)


def test_a_waiting_pull_hears_that_its_stream_is_deleted():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        js.consumer("S", "C")
        waiting = [Js(n) for n in c.nodes]
        sids = [w.pull("S", "C", 5, expires=int(30e9))[1] for w in waiting]
        wait_until("the pulls to wait", lambda: js.ok("CONSUMER.INFO.S.C")["num_waiting"] == 3, 5)
        js.delete("S")
        for w, sid in zip(waiting, sids):
            m = w.client.msg(5)
            assert m[1] == sid and m[3].startswith(b"NATS/1.0 409 Consumer Deleted"), m


def test_a_slow_client_of_another_node_costs_no_memory_of_the_leader():
    """It asked for all there is and reads nothing: what the leader sends is bounded."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 1)
        js.consumer("S", "C", max_ack_pending=-1)
        leader = c.leader("S")
        fill(c.nodes[0], "s.x", 3000, 64 << 10)
        other = next(n for n in c.nodes if n is not leader)
        slow = Js(other)
        slow.client.sock.setsockopt(1, 8, 4096)
        before = leader.json("/varz")["mem"]
        slow.pull("S", "C", 3000, expires=int(20e9))
        time.sleep(3)
        assert leader.json("/varz")["mem"] - before < 160 << 20
        assert leader.http("/healthz")[0] == 200


if __name__ == "__main__":
    run(globals())
