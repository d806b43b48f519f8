"""Wrong clocks: nothing goes before its time by the agreed clock, and nothing stays two seconds longer, whatever
the wall clock of a follower, of the leader or of all nodes shows, at their start or while they run."""

import json
import os
import re
import sys
import threading
import time

from weir_cluster import binary, run, wait_until
from weir_js import Js, JsCluster
from wrong_clock import HOUR, OFFS, YEARS_10, clock_of, fit, library, set_clock

NEXT = os.environ.get("WEIR_NEXT", os.path.join(os.path.dirname(library()), "weir_next"))
AGE = 2.0    # max_age of the stream that is watched.
LATE = 2.0   # So much longer a message may live.


class ClockCluster(JsCluster):
    def __init__(self, count, **options):
        super().__init__(count, **options)
        fit(self)

    def restart(self, nodes, seconds):
        """With wall clocks that are off from the start."""
        for n in nodes:
            n.stop()
        for n in nodes:
            set_clock(n, seconds)
        for n in nodes:
            n.start()
        self.wait_ready(timeout=30)


def version_of(node, stream):
    status, body = node.http("/replicaz?stream=" + stream)
    return json.loads(body).get("machine_version", 0) if status == 200 else 0


def now():
    return time.strftime(", at %H:%M:%S", time.gmtime())


class Watch:
    """Publishes ten messages a second into stream AGED and watches on each replica when they go."""

    def __init__(self, cluster, late=LATE):
        self.cluster = cluster
        self.late = late
        self.sent, self.acked, self.errors = {}, {}, []
        self.polls = self.removed = 0
        self.is_ended = False
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self.publish, self.poll)]
        for t in self.threads:
            t.start()

    def publish(self):
        js = None
        at = 0
        while not self.is_ended:
            sent = time.monotonic()
            try:
                if js is None:
                    at += 1
                    js = Js(self.cluster.nodes[at % len(self.cluster.nodes)], timeout=3)
                seq = js.publish("aged", b"x", timeout=3)["seq"]
                self.sent[seq], self.acked[seq] = sent, time.monotonic()
            except (OSError, EOFError, TypeError, KeyError):
                js = None  # Its node is gone, or answers that there is no leader.
            time.sleep(0.1)

    def poll(self):
        while not self.is_ended:
            for node in self.cluster.nodes:
                began = time.monotonic()
                try:
                    status, text = node.http("/replicaz?stream=AGED")
                except OSError:
                    continue
                if status == 200:
                    self.look(node, text, began, time.monotonic())
            time.sleep(0.03)

    def look(self, node, text, began, ended):
        r = json.loads(text)
        if r["state"] != "ok":
            return
        self.polls += 1
        is_current = r["applied"] == r["commit"] and r["leader"] != ""
        for seq, sent in list(self.sent.items()):
            is_gone = seq < r["first_seq"] or (r["messages"] == 0 and seq <= r["last_seq"])
            acked = self.acked.get(seq)
            if is_gone and ended < sent + AGE:
                self.errors.append("%s: message %d is gone after %.2f s" % (node.name, seq, ended - sent) + now())
            if not is_gone and is_current and acked and seq <= r["last_seq"] and began > acked + AGE + self.late:
                self.errors.append("%s: message %d is there after %.2f s" % (node.name, seq, began - acked) + now())
            if is_gone and acked and ended > acked + AGE + self.late + 5:
                self.removed += 1
                self.sent.pop(seq, None)

    def end(self):
        self.is_ended = True
        for t in self.threads:
            t.join()
        self.check()
        assert self.polls > 50 and len(self.acked) > 20, (self.polls, len(self.acked))
        return self

    def check(self):
        for node in self.cluster.nodes if self.errors else []:
            lines = [s for s in node.log().splitlines() if re.search("leader|clock_|ready|peer_", s)]
            print("---- %s\n%s" % (node.name, "\n".join(lines[-30:])))
        assert not self.errors, self.errors[:5]


def make(c):
    js = Js(c.nodes[0])
    js.create("AGED", ["aged"], 3, max_age=int(AGE * 1e9))
    js.create("WORK", ["work"], 3, duplicate_window=int(2e9))
    js.consumer("WORK", "w", ack_wait=int(2e9))
    return js


def start_timers(js, name):
    """A message that is delivered and neither acked nor naked, one that is to come again in 2 s, one with an id."""
    began = time.monotonic()
    for what in ("wait", "nak"):
        assert js.publish("work", ("%s-%s" % (what, name)).encode())["seq"]
    got = js.fetch("WORK", "w", 2)
    assert len(got) == 2, got
    js.client.pub(got[1][2], b'-NAK {"delay": 2000000000}')
    id_header = "NATS/1.0\r\nNats-Msg-Id: %s\r\n\r\n" % name
    assert not js.publish("work", b"id", id_header).get("duplicate")
    extra = js.fetch("WORK", "w", 1)  # The one with the id; acked, so that it does not come again.
    js.client.pub(extra[0][2], b"+ACK")
    return began, id_header, [m[0] for m in got]


def end_timers(js, began, id_header, seqs):
    """All three 2 s after, and none before."""
    assert js.publish("work", b"id", id_header).get("duplicate"), "the window closed too soon"
    left = set(seqs)
    while left:
        got = js.fetch("WORK", "w", 1, expires=5)
        now = time.monotonic()
        assert got, "messages %s did not come again" % left
        assert got[0][0] in left, (got, left)
        assert now - began >= 1.95, "message %d came again after %.2f s" % (got[0][0], now - began)
        assert now - began <= 2 + LATE + 1, "message %d came again after %.2f s" % (got[0][0], now - began)
        js.client.pub(got[0][2], b"+ACK")
        left.remove(got[0][0])
    time.sleep(max(0.0, began + 2 + LATE - time.monotonic()))
    ack = js.publish("work", b"id", id_header)
    assert not ack.get("duplicate"), "the window does not close"
    for m in js.fetch("WORK", "w", 1):
        js.client.pub(m[2], b"+ACK")


def test_wall_clocks_that_jump_while_nodes_run():
    """On a follower, the leader, and all; there and back, while timers run."""
    with ClockCluster(3) as c:
        js = make(c)
        watch = Watch(c)
        for off in OFFS:
            leader = c.leader("AGED")
            follower = next(n for n in c.nodes if n is not leader)
            for nodes in ([follower], [leader], c.nodes):
                timers = start_timers(js, "%d-%d" % (off, len(nodes) + (nodes[0] is leader)))
                for n in nodes:
                    set_clock(n, off)
                time.sleep(0.6)
                for n in nodes:
                    set_clock(n, 0 if n is not leader else off / 2)
                end_timers(js, *timers)
                for n in nodes:
                    set_clock(n, 0)
                watch.check()
        watch.end()
        assert c.same("WORK") and c.same("AGED")
        for n in c.nodes:
            assert "clock_wall" in n.log() and "clock_skew" not in n.log(), n.name
            assert abs(clock_of(n)["offset_ms"]) < 500, clock_of(n)


def test_a_node_that_starts_with_a_wrong_clock_leads_nothing_until_it_is_right():
    with ClockCluster(3) as c:
        make(c)
        watch = Watch(c, LATE + 2)  # Leaders are killed: nothing goes until there is another one.
        for off in OFFS:
            leader = c.leader("AGED")
            c.restart([leader], off)
            wait_until("the alarm", lambda: clock_of(leader)["skewed"], 10)
            seen = clock_of(leader)
            assert abs(seen["offset_ms"] - off * 1000) < 1000, seen
            leader.wait_log("clock_skew: this node's clock is")
            other = next(n for n in c.nodes if n is not leader)
            # Meta's leader may ask it to lead, and it may win an election: it hands over.
            seen = wait_until("the others to know", lambda: [
                p for p in clock_of(other)["peers"] if p["server"] == leader.name and p["skewed"]])
            assert abs(seen[0]["offset_ms"] - off * 1000) < 1000, seen
            if c.leader("AGED") is not other:
                Js(other).ok("STREAM.LEADER.STEPDOWN.AGED", {"placement": {"preferred": other.name}})
            other.kill()
            wait_until("the last right node to lead",
                       lambda: c.leader("AGED", among=[n for n in c.nodes if n is not other]) is not leader, 10)
            other.start()
            c.wait_ready(timeout=30)
            time.sleep(AGE)
            watch.check()
            set_clock(leader, 0)
            wait_until("the clock to be right again", lambda: not clock_of(leader)["skewed"], 10)
            leader.wait_log("clock_set: this node's clock was set to the wall clock")
            assert abs(clock_of(leader)["offset_ms"]) < 500
        watch.end()
        c.same("AGED")


def test_what_is_published_right_after_a_stop_of_all_lives_its_time():
    """It counts from when it was published, not from the last stamp before the stop."""
    with ClockCluster(3) as c:
        js = make(c)
        js.publish("aged", b"x")
        for node in c.nodes:
            node.stop()
        time.sleep(2 * AGE)
        for node in c.nodes:
            node.start()
        watch = Watch(c, LATE + 2)
        time.sleep(3 * AGE)
        watch.end()


def test_all_nodes_start_with_a_wrong_clock():
    """A day's jump, there and back, is not believed before it has stood for a minute; and log time never goes back."""
    with ClockCluster(3) as c:
        js = make(c)
        js.create("HOURS", ["hours"], 3, max_age=int(2 * HOUR * 1e9))
        first = js.publish("hours", b"1")["seq"]
        for off in (HOUR, -HOUR, -YEARS_10):
            c.restart(c.nodes, off)
            js = Js(c.nodes[0])
            watch = Watch(c)
            time.sleep(AGE + LATE + 1)
            watch.end()
            assert "error" not in js.get("HOURS", first), "gone at %d" % off
            assert all(not clock_of(n)["skewed"] for n in c.nodes)
            times = [js.ok("STREAM.MSG.GET.HOURS", {"seq": js.publish("hours", b"x")["seq"]})["message"]["time"]
                     for _ in range(2)]
            assert times == sorted(times)
        c.same("HOURS")
        before = js.info("HOURS")["state"]["messages"]
        began = time.monotonic()
        c.restart(c.nodes, YEARS_10)
        js = Js(c.nodes[0])
        leader = c.leader("HOURS")
        leader.wait_log("clock_doubt: the clock is")
        while time.monotonic() < began + 55:
            assert js.info("HOURS")["state"]["messages"] == before, time.monotonic() - began
            time.sleep(1)
        # Since the last node heard a majority; and it is an agreed clock of which ten years have passed.
        wait_until("the messages to go", lambda: js.info("HOURS")["state"]["messages"] == 0, 20)
        assert time.monotonic() - began >= 60
        print("     ten years later: gone after %.1f s" % (time.monotonic() - began))
        assert js.publish("aged", b"ten years later")["seq"]
        c.restart(c.nodes, 0)
        watch = Watch(c)
        time.sleep(AGE + LATE + 1)
        watch.end()
        ahead = c.leader("AGED").json("/replicaz?stream=AGED")["time_ahead_ms"]
        assert ahead > (YEARS_10 - HOUR) * 1000, ahead
        c.leader("AGED").wait_log("clock_ahead: the time of stream 'AGED'")
        c.same("AGED")


def test_what_is_published_while_a_jump_is_doubted():
    """All nodes were down for a day, by their clocks: what is published before that is believed is young all the same,
    its id is known, and the ack of who got it is waited for. By the rules of machine versions 2 and 3, which weir_next has
    in force within seconds."""
    with ClockCluster(3) as c:
        for n in c.nodes:
            n.stop()
            n.binary = NEXT
            n.start()
        c.wait_ready(timeout=60)
        js = Js(c.nodes[0], timeout=60)
        js.create("HOURS", ["hours"], 3, max_age=int(2 * HOUR * 1e9), duplicate_window=int(HOUR * 1e9))
        wait_until("version 3", lambda: all(version_of(n, "HOURS") >= 3 for n in c.nodes), 60)
        before = js.publish("hours", b"before")["seq"]
        c.restart(c.nodes, 24 * HOUR)
        js = Js(c.nodes[0], timeout=60)
        c.leader("HOURS", 60).wait_log("clock_doubt: the clock is")
        header = "NATS/1.0\r\nNats-Msg-Id: doubted\r\n\r\n"
        seq = js.publish("hours", b"doubted", header)["seq"]
        idle = dict(ack_policy="explicit", inactive_threshold=int(HOUR * 1e9))
        js.consumer("HOURS", "IDLE", **idle)
        js.consumer("HOURS", "C", ack_wait=int(HOUR / 2 * 1e9), **idle)
        got = js.fetch("HOURS", "C", 2, 10)
        assert [m[0] for m in got] == [before, seq], got
        assert "error" not in js.get("HOURS", before), "the jump is believed too soon to test anything"
        wait_until("the jump to be believed", lambda: "error" in js.get("HOURS", before), 180, 0.5)
        stored = js.ok("STREAM.MSG.GET.HOURS", {"seq": seq})["message"]["time"]
        later = js.publish("hours", b"later")["seq"]
        now_is = js.ok("STREAM.MSG.GET.HOURS", {"seq": later})["message"]["time"]
        assert stored[:10] < now_is[:10], (stored, now_is)  # Its stamp is of the day before,
        ack = js.publish("hours", b"doubted", header)       # and yet it is there, and its id known.
        assert ack.get("duplicate") and ack["seq"] == seq, ack
        time.sleep(2)
        for name, pending in (("IDLE", 0), ("C", 1)):
            info = js.ok("CONSUMER.INFO.HOURS." + name)
            assert (info["num_ack_pending"], info["num_redelivered"]) == (pending, 0), info
        assert [m[0] for m in js.fetch("HOURS", "C", 5, 2)] == [later]
        c.same("HOURS", timeout=60)
        for n in c.nodes:  # What is restored from a checkpoint knows it too.
            n.stop()
            n.start()
        c.wait_ready(timeout=60)
        js = Js(c.nodes[0], timeout=60)
        wait_until("a leader", lambda: "error" not in js.api("STREAM.INFO.HOURS"), 60)
        assert "error" not in js.get("HOURS", seq)
        c.same("HOURS", timeout=60)


if __name__ == "__main__":
    if not os.path.exists(library()) or "/asan/" in binary() or "/tsan/" in binary():
        print("SKIP: needs a node that a library can be preloaded into")
        sys.exit(77)
    run(globals())
