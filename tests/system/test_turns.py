"""No turn of the loop works for more than 20 ms beside a stream of many messages: filters, consumers, purges, lowered
limits, expiry, deletion, images of it. What counts is the time of the processor, as /varz tells it: other processes
take turns too.

    WEIR_TURNS_MESSAGES=10000000 python3 tests/system/test_turns.py
"""

import contextlib
import os
import re
import sys
import tempfile
import time

import damage
from weir_cluster import Single, binary, run, wait_until
from weir_js import Js, JsCluster

MESSAGES = int(os.environ.get("WEIR_TURNS_MESSAGES", "500000"))
SUBJECTS = 1000  # Of each kind.
SCALE = max(1.0, MESSAGES / 1e6)


def fill(node, count, subject="s.%d.x", subjects=SUBJECTS):
    """Without asking for acks, so the wire is not what takes the time; returns when all is stored."""
    js = Js(node, timeout=60)
    before = js.info("S")["state"]["last_seq"]
    block = b"".join(b"PUB %s 16\r\n0123456789abcdef\r\n" % (subject % (i % subjects)).encode()
                     for i in range(min(10000, count)))
    lines = block.count(b"PUB ")
    for _ in range(count // lines):
        js.client.send(block)
    js.client.ping(60)
    wait_until("%d messages" % count,
               lambda: js.info("S")["state"]["last_seq"] == before + count // lines * lines, 120 * SCALE)
    js.close()


class Watch:
    """with Watch(node, "what", failures): the turns meanwhile."""

    def __init__(self, node, what, failures):
        self.node, self.what, self.failures = node, what, failures

    def counters(self):
        return self.node.json("/varz")["weir"]["loop"]

    def __enter__(self):
        self.before = self.counters()
        self.log_at = len(self.node.log())
        self.began = time.monotonic()
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            return
        took = time.monotonic() - self.began
        time.sleep(0.05)
        after = self.counters()
        long_turns = after["long_turns"] - self.before["long_turns"]
        busy = after["busy_turns"] - self.before["busy_turns"]
        lines = re.findall("A turn of the loop took.*", self.node.log()[self.log_at:])
        print("     %-34s %6.2f s, %d turns above 20 ms, %d of them at work; longest so far %.1f ms"
              % (self.what, took, long_turns, busy, after["longest_turn"]["cpu_us"] / 1000), flush=True)
        if busy > 0:
            self.failures.append("%s: %d turns, %s" % (self.what, busy, lines or after["longest_turn"]))
            for line in lines[:3]:
                print("        " + line)


def wait_messages(js, count):
    wait_until("%d messages in S" % count, lambda: js.info("S")["state"]["messages"] == count, 120 * SCALE)


def consumers(js, w):
    base = {"ack_policy": "explicit"}
    shapes = {
        "literal": {"filter_subject": "s.7.x"},
        "wildcard": {"filter_subject": "s.7.*"},
        "no_match": {"filter_subject": "s.none.*"},
        "several": {"filter_subjects": ["s.1.x", "s.2.*", "s.3.>"]},
        "most": {"filter_subject": "s.*.x"},
        "last": {"filter_subject": "s.7.*", "deliver_policy": "last"},
        "last_per_subject": {"filter_subject": "s.*.x", "deliver_policy": "last_per_subject"},
        "by_seq": {"filter_subject": "s.*.x", "deliver_policy": "by_start_sequence", "opt_start_seq": MESSAGES // 2},
        "by_time": {"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"},
    }
    for name, shape in shapes.items():
        with w("consumer create, %s" % name):
            js.ok("CONSUMER.DURABLE.CREATE.S." + name,
                  {"stream_name": "S", "config": dict(base, durable_name=name, **shape)})
        with w("its info"):
            js.ok("CONSUMER.INFO.S." + name)
        with w("and a fetch"):
            js.fetch("S", name, 5, 0.5)
    for filter_subject in ("s.8.*", "s.none2.*", "s.*.x", "s.9.x"):
        with w("filter changed to " + filter_subject):
            js.ok("CONSUMER.DURABLE.CREATE.S.wildcard", {"stream_name": "S", "action": "", "config": dict(
                base, durable_name="wildcard", filter_subject=filter_subject)})
            js.fetch("S", "wildcard", 5, 0.5)


def reads(node, js, w):
    with w("stream info, subjects"):
        js.ok("STREAM.INFO.S", {"subjects_filter": ">"})
    with w("last by subject"):
        js.ok("STREAM.MSG.GET.S", {"last_by_subj": "s.7.x"})
    with w("last by wildcard, none"):
        js.api("STREAM.MSG.GET.S", {"last_by_subj": "s.none.*"})
    with w("next by subject"):
        js.ok("STREAM.MSG.GET.S", {"seq": MESSAGES // 2, "next_by_subj": "s.7.*"})
    with w("next by subject, none"):
        js.api("STREAM.MSG.GET.S", {"seq": 1, "next_by_subj": "s.none3.*"})
    for path in ("/jsz?consumers=1&config=1", "/replicaz?stream=S", "/healthz", "/varz"):
        with w(path):
            node.json(path)


def update(js, **more):
    return js.ok("STREAM.UPDATE.S", dict({"name": "S", "subjects": ["s.>"], "num_replicas": 1}, **more))


def scene(node, failures):
    def w(what):
        return Watch(node, what, failures)

    js = Js(node, timeout=60)
    js.create("S", ["s.>"], 1, duplicate_window=int(100e6))
    with w("fill"):
        fill(node, MESSAGES)
    reads(node, js, w)
    consumers(js, w)
    with w("/jsz with the consumers"):
        node.json("/jsz?consumers=1&config=1")
    count = js.info("S")["state"]["messages"]
    with w("purge by filter, one subject"):
        js.ok("STREAM.PURGE.S", {"filter": "s.7.x"})
    with w("purge by filter, keep"):
        js.ok("STREAM.PURGE.S", {"filter": "s.8.*", "keep": 10})
    with w("purge by filter, none"):
        js.ok("STREAM.PURGE.S", {"filter": "s.none.*"})
    with w("consumer deletes"):
        for name in ("wildcard", "most", "literal"):
            js.ok("CONSUMER.DELETE.S." + name)
    with w("max_msgs_per_subject lowered"):
        per_subject = MESSAGES // SUBJECTS // 2
        update(js, max_msgs_per_subject=per_subject)
        wait_messages(js, per_subject * (SUBJECTS - 2) + 10)
    with w("max_msgs lowered"):
        update(js, max_msgs=MESSAGES // 4)
        wait_messages(js, MESSAGES // 4)
    with w("purge by filter, nearly all"):
        js.ok("STREAM.PURGE.S", {"filter": "s.*.x"})
    update(js)
    with w("fill again"):
        fill(node, MESSAGES)
    with w("purge below a sequence"):
        js.ok("STREAM.PURGE.S", {"seq": js.info("S")["state"]["last_seq"] - MESSAGES // 2})
    with w("purge, keep"):
        js.ok("STREAM.PURGE.S", {"keep": MESSAGES // 4})
    with w("expiry"):
        update(js, max_age=int(1e9), duplicate_window=int(100e6))
        wait_messages(js, 0)
    update(js)
    with w("fill again"):
        fill(node, MESSAGES)
    with w("purge of all"):
        js.ok("STREAM.PURGE.S")
        wait_messages(js, 0)
    with w("fill again"):
        fill(node, MESSAGES)
    with w("stream delete"):
        js.delete("S")
        js.create("T", ["t"])
    js.close()


def test_no_long_turn_beside_a_large_stream():
    failures = []
    with tempfile.TemporaryDirectory(prefix="weir-") as store, Single("-js", "-sd", store) as node:
        wait_until("JetStream", lambda: node.http("/healthz")[0] == 200)
        scene(node, failures)
    assert not failures, "\n".join(failures)


def set_replicas(js, count):
    js.ok("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "num_replicas": count}, 60)
    wait_until("%d replicas" % count, lambda: len(js.info("S")["cluster"]["replicas"]) == count - 1, 60)


def wait_image(node, before):
    wait_until("%s to have caught up by image" % node.name,
               lambda: node.log().count("caught up by image") > before, 120 * SCALE)


def outgrow_log(node):
    """More than is kept of the log, and blocks of it."""
    js = Js(node, timeout=60)
    for _ in range(60):
        assert js.publish("s.big", b"y" * 900_000, timeout=30)
    js.close()
    time.sleep(6)  # A flush pass.


def catch_up(c, failures):
    """A replica from nothing, and one that comes back after it has missed much: of some subjects all is gone, of
    others some, so that there is a set of what is gone in each block."""
    js = Js(c.nodes[0], timeout=60)
    js.create("S", ["s.>"], 2, duplicate_window=int(100e6))
    fill(c.leader("S"), MESSAGES)
    js.ok("STREAM.PURGE.S", {"filter": "s.7.x"})
    js.ok("STREAM.PURGE.S", {"filter": "s.8.x", "keep": 10})
    js.consumer("S", "C", filter_subject="s.9.*")
    outgrow_log(c.leader("S"))
    newcomer = next(n for n in c.nodes if n.http("/replicaz?stream=S")[0] != 200)
    with contextlib.ExitStack() as watches:
        for n in c.nodes:
            watches.enter_context(Watch(n, "a new replica, on " + n.name, failures))
        set_replicas(js, 3)
        wait_image(newcomer, 0)
    c.same("S", timeout=60 * SCALE)
    victim = next(n for n in c.nodes if n is not c.leader("S"))
    others = [n for n in c.nodes if n is not victim]
    js = Js(others[0], timeout=60)
    victim.kill()
    js.ok("STREAM.PURGE.S", {"filter": "s.10.x"})
    outgrow_log(c.leader("S", among=others))
    victim.start()
    with contextlib.ExitStack() as watches:
        for n in c.nodes:
            watches.enter_context(Watch(n, "an old replica, on " + n.name, failures))
        wait_image(victim, 0)
    c.same("S", timeout=60 * SCALE)


def catch_up_by_log(c, failures):
    """A follower that comes back gets in one piece all it has missed, and what its disk had not in blocks yet. All nodes
    that were down at once have the same to do."""
    js = Js(c.nodes[0], timeout=60)
    js.create("S", ["s.>"], 3, duplicate_window=int(100e6))
    js.close()
    count = min(MESSAGES, 250000)  # What the leader keeps in memory.
    victim = next(n for n in c.nodes if n is not c.leader("S"))
    for what, down in (("a follower", [victim]), ("all nodes", c.nodes)):
        if down == [victim]:
            victim.kill()
        fill(c.leader("S", among=[n for n in c.nodes if n is not victim] if down == [victim] else c.nodes), count)
        for n in down:
            n.kill()
        for n in down:
            n.start()
        c.same("S", timeout=60 * SCALE)
        for n in down:
            loop = n.json("/varz")["weir"]["loop"]
            print("     %-34s %d turns above 20 ms, %d of them at work; longest %.1f ms" % (
                what + " by log, on " + n.name, loop["long_turns"], loop["busy_turns"],
                loop["longest_turn"]["cpu_us"] / 1000), flush=True)
            if loop["busy_turns"] > 0:
                failures.append("%s by log, %s: %s" % (what, n.name, loop))


def test_no_long_turn_while_a_replica_catches_up_by_log():
    failures = []
    with JsCluster(3) as c:
        catch_up_by_log(c, failures)
    assert not failures, "\n".join(failures)


def test_no_long_turn_while_a_replica_catches_up():
    failures = []
    with JsCluster(3) as c:
        catch_up(c, failures)
    assert not failures, "\n".join(failures)


def mend(c, failures):
    """The index of a block is ruined on one node: until it is mended the replica does not know what is live, and then it
    begins with all messages."""
    js = Js(c.nodes[0], timeout=60)
    js.create("S", ["s.>"], 3, duplicate_window=int(100e6))
    js.close()
    fill(c.leader("S"), MESSAGES)
    victim = next(n for n in c.nodes if n is not c.leader("S"))
    victim.stop()
    blocks = damage.Blocks(c, c.nodes.index(victim))
    biggest = max(range(len(blocks.blocks)), key=lambda n: blocks.blocks[n][5] - blocks.blocks[n][4])
    blocks.ruin_index(biggest)
    victim.start()
    wait_until("the replica to be mended", lambda: "is mended, and starts" in victim.log(), 120 * SCALE)
    c.same("S", timeout=60 * SCALE)
    for n in c.nodes:
        loop = n.json("/varz")["weir"]["loop"]
        print("     %-34s %d turns above 20 ms, %d of them at work; longest %.1f ms" % (
            "a mended index, on " + n.name, loop["long_turns"], loop["busy_turns"],
            loop["longest_turn"]["cpu_us"] / 1000), flush=True)
        if n is victim and loop["busy_turns"] > 0:
            failures.append("a mended index, %s: %s" % (n.name, loop))


def test_no_long_turn_while_a_damaged_index_is_mended():
    failures = []
    with JsCluster(3, config=damage.NO_SCRUB) as c:
        mend(c, failures)
    assert not failures, "\n".join(failures)


if __name__ == "__main__":
    if "/asan/" in binary() or "/tsan/" in binary():
        print("SKIP: sanitizers are slow")
        sys.exit(77)
    run(globals())
