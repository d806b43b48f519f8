"""Links that fail without a word: the isolated side confirms nothing that does not stand."""

import sys
import time

from weir_cluster import run, wait_until
from weir_js import Js, Publisher, dump
from weir_net import NetCluster, inside, is_possible


def check(c, publishers, marks, node):
    """What was acknowledged lies there under its sequence, once, in the order of its publisher."""
    got = dump(node, "S")
    for p, mark in zip(publishers, marks):
        for i, a in p.acks.items():
            if a is not None:
                assert got.get(a["seq"]) == mark + b"%d" % i, (mark, i, a, got.get(a["seq"]))
        stored = [int(v[1:]) for s, v in sorted(got.items()) if v[:1] == mark]
        assert stored == sorted(set(stored)), mark
        refused = {i for i, a in p.acks.items() if a is None}
        assert not refused & set(stored), "stored after a 503: %s" % sorted(refused & set(stored))[:5]


def test_an_isolated_leader():
    with NetCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        leader = c.leader("S")
        others = [n for n in c.nodes if n is not leader]
        inner, outer = Publisher(leader), Publisher(others[0])
        for i in range(500):
            inner.send("s.i", b"i%d" % i)
            outer.send("s.o", b"o%d" % i)
        inner.drain()
        outer.drain()
        leader.isolate()
        for i in range(500, 1000):
            inner.send("s.i", b"i%d" % i)
            outer.send("s.o", b"o%d" % i)
        outer.drain(20)
        assert all(a for a in outer.acks.values())
        inner.poll(1)
        assert len(inner.acks) == 500, "the isolated leader confirmed something"
        wait_until("the isolated leader to see it",
                   lambda: not leader.json("/replicaz?stream=S")["is_led"], 10)
        for i in range(1000, 1200):
            inner.send("s.i", b"i%d" % i)
        inner.poll(7)
        assert all(inner.acks.get(i) is None for i in range(500, 1200))
        assert all(i in inner.acks for i in range(1000, 1200)), "no 503 after five seconds"
        leader.heal()
        for i in range(1000, 1100):
            outer.send("s.o", b"o%d" % i)
        outer.drain(20)
        c.wait_ready(timeout=30)
        inner.poll(5)
        assert all(inner.acks.get(i) for i in range(500, 1000)), "what was sent is answered at last"
        c.same("S")
        check(c, (inner, outer), (b"i", b"o"), others[1])


def test_a_link_that_comes_and_goes():
    """Isolations shorter and longer than what makes a node down, of all nodes in turn, under load."""
    with NetCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        publishers = [Publisher(n) for n in c.nodes]
        n = 0
        for round_ in range(9):
            victim = c.nodes[round_ % 3]
            victim.isolate()
            for _ in range(150):
                for k, p in enumerate(publishers):
                    p.send("s.%d" % k, b"abc"[k:k + 1] + b"%d" % p.sent)
            time.sleep((0.2, 0.5, 0.7, 1.0, 1.6)[round_ % 5])
            victim.heal()
            for p in publishers:
                p.poll(0.3)
        c.wait_ready(timeout=30)
        for p in publishers:
            p.drain(30)
        c.same("S")
        check(c, publishers, (b"a", b"b", b"c"), c.nodes[0])
        # And everybody finds the leader.
        for node in c.nodes:
            assert Js(node).publish("s.end", b"z%d" % n), node.name
            n += 1


def test_a_link_that_works_in_one_direction():
    """One side thinks the other is down, the other does not: both agree again when it heals."""
    with NetCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        publishers = [Publisher(n) for n in c.nodes]
        for round_ in range(8):
            leader = c.leader("S")
            from_, to = leader, c.nodes[(c.nodes.index(leader) + 1 + round_ % 2) % 3]
            if round_ % 4 >= 2:
                from_, to = to, from_
            from_.mute(c.nodes.index(to))
            for _ in range(100):
                for k, p in enumerate(publishers):
                    p.send("s.%d" % k, b"abc"[k:k + 1] + b"%d" % p.sent)
            time.sleep((0.4, 0.9, 1.5)[round_ % 3])
            from_.mute(c.nodes.index(to), False)
            for p in publishers:
                p.poll(0.3)
            c.wait_ready(timeout=30)
            for node in c.nodes:
                at = Js(node)
                assert at.publish("s.end", b"z%d" % time.monotonic_ns(), timeout=9), (round_, node.name)
                at.close()
        for p in publishers:
            p.drain(30)
        c.same("S")
        check(c, publishers, (b"a", b"b", b"c"), c.nodes[0])


def tcp_counts(node):
    """(connections begun, SYNs repeated) in its namespace."""
    fields = {}
    for name in ("snmp", "netstat"):
        with inside(node.namespace), open("/proc/thread-self/net/" + name) as f:
            rows = [line.split() for line in f]
        for names, values in zip(rows[::2], rows[1::2]):
            fields.update(zip(names, values))
    return int(fields["ActiveOpens"]), int(fields["TCPSynRetrans"])


def test_a_dial_into_the_void_is_begun_anew():
    """A lost SYN is repeated after a second, then two: for as long a node that was back was not found."""
    with NetCluster(3) as c:
        node, gone = c.nodes[0], c.nodes[2]
        for number in (0, 1):
            gone.mute(number)
        node.wait_log(r"peer_down name=n2")
        opens, repeats = tcp_counts(node)
        wait_until("20 dials", lambda: tcp_counts(node)[0] >= opens + 20, 60)
        opens, repeats = (now - before for now, before in zip(tcp_counts(node), (opens, repeats)))
        assert repeats < opens / 2, "%d dials, %d SYNs repeated" % (opens, repeats)
        for number in (0, 1):
            gone.mute(number, False)
        c.wait_ready(timeout=30)


if __name__ == "__main__":
    if not is_possible():
        print("SKIP: needs root and ip")
        sys.exit(77)
    run(globals())
