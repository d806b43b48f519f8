"""Push consumers: across nodes, in groups, with flow control, at a rate, across the death of their leader."""

import time

from weir_cluster import run, wait_until
from weir_js import Js, JsCluster, Publisher


def fill(node, subject, count, payload=b"x"):
    p = Publisher(node)
    for i in range(count):
        p.send(subject, b"%d " % i + payload)
    p.drain(60)
    p.close()


def is_status(m):
    return m[3].startswith(b"NATS/1.0 100")


def number(m):
    return int(m[4].split()[0])


def bound(js, stream, consumer):
    return js.ok("CONSUMER.INFO.%s.%s" % (stream, consumer)).get("push_bound", False)


def test_who_listens_at_another_node_sees_the_subjects_of_the_stream():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        leader = c.leader("S")
        listeners = [n.client() for n in c.nodes]
        for client in listeners:
            client.sub("deliver.here")
            client.ping()
        js.publish("s.1", b"one")
        js.consumer("S", "C", deliver_subject="deliver.here")
        for node, client in zip(c.nodes, listeners):
            m = client.msg()
            assert m[0] == "s.1" and m[4] == b"one" and m[2].startswith("$JS.ACK.S.C.1.1.1."), (node.name, m)
        # An ack through a node that does not lead.
        other = Js(next(n for n in c.nodes if n is not leader))
        other.ack(m[2])
        assert js.ok("CONSUMER.INFO.S.C")["num_ack_pending"] == 0
        c.same("S")


def test_each_message_goes_to_one_member_of_the_group_and_none_without_members():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        plain = c.nodes[1].client()
        plain.sub("d")
        plain.ping()
        js.consumer("S", "C", deliver_subject="d", deliver_group="g")
        js.publish("s.1", b"0")
        plain.silent(0.5)
        assert not bound(js, "S", "C")
        members = [n.client() for n in c.nodes]
        for m in members:
            m.sub("d", None, "g")
            m.ping()
        fill(c.nodes[0], "s.x", 60)
        got = []
        for client in members:
            while True:
                try:
                    got.append(client.msg(0.5)[2].split(".")[5])
                except TimeoutError:
                    break
        assert sorted(map(int, got)) == list(range(1, 62)), got


def test_nothing_is_sent_beyond_the_window_until_the_client_confirms():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        fill(c.nodes[0], "s.x", 100, b"x" * 60000)
        leader = c.leader("S")
        client = next(n for n in c.nodes if n is not leader).client()
        client.sub("d")
        client.ping()
        js.ok("CONSUMER.CREATE.S", {"stream_name": "S", "config": {
            "deliver_subject": "d", "ack_policy": "none", "flow_control": True,
            "idle_heartbeat": int(0.5e9)}})
        seen, requests, stalled = [], [], None
        while stalled is None:
            m = client.msg(5)
            if not is_status(m):
                seen.append(number(m))
            elif b"FlowControl Request" in m[3]:
                requests.append(m[2])
            else:
                stalled = m[3]
        assert seen == list(range(len(seen))) and 30 < len(seen) < 40, seen
        assert len(requests) == 1 and b"Nats-Consumer-Stalled: " + requests[0].encode() in stalled, stalled
        client.pub("$JS.FC.S.nobody.1")
        client.pub(requests[0])
        while len(seen) < 100:
            m = client.msg(5)
            if not is_status(m):
                seen.append(number(m))
            elif m[2]:
                client.pub(m[2])
        assert seen == list(range(100)), seen


def test_it_goes_at_its_rate_and_at_the_pace_of_the_stream():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3, max_msg_size=20000)
        fill(c.nodes[0], "s.x", 6, b"x" * 10000)
        js.client.sub("d", "d")
        began = time.monotonic()
        js.consumer("S", "C", deliver_subject="d", rate_limit_bps=160000)
        # The bucket is full at first: two of ten thousand bytes; then one takes half a second.
        times = []
        for i in range(6):
            m = js.client.msg(5)
            assert m[1] == "d" and number(m) == i, m
            times.append(time.monotonic() - began)
        assert times[0] < 0.4 and 1.5 < times[5] < 3.5, times
        js.create("P", ["p.>"], 3)
        for i in range(3):
            js.publish("p.x", b"%d" % i)
            time.sleep(0.4)
        js.client.sub("e", "e")
        began = time.monotonic()
        js.consumer("P", "C", deliver_subject="e", replay_policy="original")
        assert [number(js.client.msg(5)) for _ in range(3)] == [0, 1, 2]
        assert 0.7 < time.monotonic() - began < 2, time.monotonic() - began


def test_it_goes_on_when_its_leader_dies_and_confirmed_acks_stand():
    """Acks and messages on one connection: what comes behind a confirmation was sent behind it."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        leader = c.leader("S")
        node = next(n for n in c.nodes if n is not leader)
        js = Js(node)
        client = node.client()
        client.sub("d", "d")
        client.sub("acks.*", "acks")
        client.ping()
        js.consumer("S", "C", deliver_subject="d", ack_wait=int(2e9), max_ack_pending=50)
        fill(node, "s.x", 400)
        confirmed, seen = set(), {}
        end = time.monotonic() + 60
        while len(confirmed) < 400:
            assert time.monotonic() < end, (len(confirmed), len(seen))
            try:
                m = client.msg(3)
            except TimeoutError:  # Confirmations that died with the leader.
                for n in set(seen) - confirmed:
                    client.pub(seen[n], b"+ACK", "acks.%d" % n)
                continue
            if m[1] == "acks":
                confirmed.add(int(m[0].split(".")[1]))
                continue
            n = number(m)
            assert n not in confirmed, n
            seen[n] = m[2]
            client.pub(m[2], b"+ACK", "acks.%d" % n)
            if len(seen) == 150 and leader is not None:
                leader.kill()
                leader = None
        assert leader is None and len(seen) == 400
        client.silent(2.5)
        i = js.ok("CONSUMER.INFO.S.C")
        assert i["num_ack_pending"] == 0 and i["num_pending"] == 0 and i["ack_floor"]["stream_seq"] == 400, i


def test_one_is_created_while_a_node_is_down():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        leader = c.leader("S")
        victim = next(n for n in c.nodes[1:] if n is not leader)
        victim.kill()
        leader.wait_log("peer_down name=" + victim.name, 10)
        client = c.nodes[0].client()
        client.sub("d")
        client.ping()
        js.consumer("S", "C", deliver_subject="d")
        js.publish("s.1", b"one")
        assert client.msg(10)[4] == b"one"
        victim.start()
        c.wait_ready(timeout=30)
        c.same("S")


def test_an_ephemeral_one_lives_as_long_as_somebody_listens():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        client = c.nodes[1].client()
        client.sub("d", "1")
        client.ping()
        js.ok("CONSUMER.CREATE.S.E", {"stream_name": "S", "config": {
            "name": "E", "deliver_subject": "d", "inactive_threshold": int(1e9)}})
        time.sleep(2.5)
        assert bound(js, "S", "E")
        client.close()
        wait_until("E to go", lambda: "error" in js.api("CONSUMER.INFO.S.E"), 5)


def test_a_subject_that_moves_takes_what_is_not_acknowledged_along():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        js.publish("s.1", b"0 x")
        client = c.nodes[0].client()
        client.sub("d", "1")
        client.ping()
        js.consumer("S", "C", deliver_subject="d")
        assert client.msg()[2].startswith("$JS.ACK.S.C.1.1.1.")
        client.sub("e", "2")
        client.send("UNSUB 1\r\n")
        client.ping()
        js.consumer("S", "C", deliver_subject="e")
        m = client.msg()
        assert m[1] == "2" and m[2].startswith("$JS.ACK.S.C.2.1.2."), m


if __name__ == "__main__":
    run(globals())
