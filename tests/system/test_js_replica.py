"""Replicas that come back: by the log or by an image, under load, with deletes; restarts; disk errors."""

import json
import os
import random
import re
import resource
import signal
import tempfile
import time

from weir_cluster import Single, run, wait_until
from weir_js import Js, JsCluster, Publisher, dump, inbox

READ_MIB_MAX = 512  # Of a start: what is not in blocks yet, and segments of the log that it begins and ends in.


def entries(node, subject, count, payload=b"x" * 200):
    """As many log entries: one publish each, waited for."""
    js = Js(node)
    for _ in range(count):
        assert js.publish(subject, payload)
    js.close()


def wait_flushed(nodes):
    """All that S has is in blocks: its log begins behind."""
    def check():
        states = [n.json("/replicaz?stream=S") for n in nodes]
        return all(r["flushed"] == r["applied"] == states[0]["applied"] for r in states)
    wait_until("a flush pass", check, 60, 0.1)


def fall_behind(c, js, victim, rounds=1):
    """The victim misses more than the others keep in memory and in their logs."""
    victim.kill()
    others = [n for n in c.nodes if n is not victim]
    wait_until("a publish", lambda: Js(others[0]).publish("s.0", b"x", timeout=9), 20)
    for _ in range(rounds):
        entries(others[0], "s.k", 1500)
    entries(others[0], "s.big", 60, b"y" * 900_000)  # More than 48 MiB.
    wait_flushed(others)
    return others


def test_a_replica_left_behind_comes_back_under_load():
    """By image, while messages are published and deleted, and with a consumer's state. What it has it keeps."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        js.consumer("S", "C")
        entries(c.nodes[0], "s.old", 300)
        wait_flushed(c.nodes)  # A block is here already if all of it is.
        victim = next(n for n in c.nodes[1:] if n is not c.leader("S"))
        others = fall_behind(c, js, victim)
        js = Js(others[0])
        got = js.fetch("S", "C", 100, 5)
        for g in got[:50]:
            js.ack(g[2])
        for seq in range(200, 260):
            js.ok("STREAM.MSG.DELETE.S", {"seq": seq})
        js.ok("STREAM.PURGE.S", {"seq": 20})
        victim.start()
        p = Publisher(others[1])
        for i in range(6000):
            p.send("s.load", b"y%d" % i)
            if i % 500 == 0:
                p.poll(0.02)
                js.ok("STREAM.MSG.DELETE.S", {"seq": 300 + i // 500})
        p.drain(60)
        c.wait_ready(timeout=60)
        c.same("S", timeout=60)
        assert re.search("caught up by image", victim.log()), victim.log()[-3000:]
        assert re.search("parts were here already", victim.log()), victim.log()[-3000:]
        assert dump(victim, "S") == dump(others[0], "S")
        # It may lead, and it knows everything.
        others[0].kill()
        js = Js(victim)
        wait_until("a publish", lambda: js.publish("s.z", b"z", timeout=9), 20)
        info = js.ok("CONSUMER.INFO.S.C")
        assert info["num_ack_pending"] == 50 and info["ack_floor"]["stream_seq"] >= 50, info


def test_a_fetch_that_was_cut_short_goes_on():
    """The process is killed while it fetches some 300 MB, in some 3 s; the next one fetches the rest only."""
    with JsCluster(3, config="jetstream { catchup_rate: 100M }\n") as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        victim = next(n for n in c.nodes[1:] if n is not c.leader("S"))
        victim.kill()
        other = next(n for n in c.nodes if n is not victim)
        wait_until("a publish", lambda: Js(other).publish("s.0", b"x", timeout=9), 20)
        for batch in range(8):
            p = Publisher(other)
            for i in range(600):
                p.send("s.big", b"%d %d" % (batch, i) + b"z" * 65536)
            p.drain(60)
            p.close()
        wait_flushed([n for n in c.nodes if n is not victim])
        victim.start()
        store = os.path.join(victim.folder, "js", "weir", "store")

        def staged():
            try:
                sizes = [os.path.getsize(os.path.join(store, n)) for n in os.listdir(store) if n.endswith(".stage")]
            except FileNotFoundError:  # It was renamed just now.
                return False
            return sum(sizes) > 100_000_000

        wait_until("a third of it", staged, 30, 0.005)
        victim.kill()
        victim.start()
        c.wait_ready(timeout=60)
        c.same("S", timeout=60)
        log = victim.log()
        found = re.search(r"S: (\d+) of these parts were fetched before", log)
        assert found and int(found[1]) >= 50, log[-3000:]
        assert not [n for n in os.listdir(store) if n.endswith(".stage")]
        assert "Damage" not in log


def test_catch_up_keeps_to_its_rate():
    """The limit of who sends and who takes; and it does get there."""
    with JsCluster(3, config="jetstream { catchup_rate: 16M }\n") as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 2)
        fall = Publisher(c.nodes[0])
        for i in range(1200):  # 75 MiB.
            fall.send("s.big", b"%d" % i + b"z" * 65536)
        fall.drain(60)
        node = next(n for n in c.nodes if n.http("/replicaz?stream=S")[0] != 200)
        began = time.monotonic()
        js.ok("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "num_replicas": 3})
        node.wait_log("S: caught up by image", 120)
        took = time.monotonic() - began
        assert took > 4, "%.2f s" % took
        c.same("S", timeout=60)


def test_replicas_compare_their_states():
    """The leader hears the others' hashes at an index of the log; idle streams are left alone."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        leader = c.leader("S")

        def agreed():
            return leader.json("/replicaz?stream=S")["agreed"]
        wait_until("the replicas to agree", agreed, 15)
        first = agreed()
        entries(c.nodes[1], "s.x", 50)
        wait_until("the replicas to agree again", lambda: agreed() > first + 40, 15)
        idle = leader.json("/replicaz?stream=S")["last"]
        time.sleep(6)
        assert leader.json("/replicaz?stream=S")["last"] == idle
        for node in c.nodes:
            assert "replicas differ" not in node.log()


def test_a_stream_is_deleted_while_its_image_travels():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        for round_ in range(4):
            js.create("S", ["s.>"], 3)
            victim = next(n for n in c.nodes[1:] if n is not c.leader("S"))
            others = fall_behind(c, js, victim) if round_ == 0 else None
            if others is None:
                victim.kill()
                others = [n for n in c.nodes if n is not victim]
                wait_until("a publish", lambda: Js(others[0]).publish("s.0", b"x", timeout=9), 20)
                entries(others[0], "s.k", 1200)
            js = Js(others[0])
            p = Publisher(others[0])
            for i in range(900):  # More than is kept in memory.
                p.send("s.big", b"z" * 65536)
            p.drain(60)
            p.close()
            victim.start()
            time.sleep(0.15 * (round_ + 1))
            wait_until("the delete", lambda: "error" not in js.api("STREAM.DELETE.S", timeout=9), 20)
            c.wait_ready(timeout=60)
            for node in c.nodes:
                wait_until("%s to forget" % node.name,
                           lambda: node.json("/replicaz")["replicas"] == [], 20)
        victim.kill()
        victim.start()
        c.wait_ready(timeout=60)
        assert "Damage" not in victim.log()


def test_a_leader_that_slept_answers_nothing_old():
    """It wakes with requests in its sockets, and does not know yet that there is another leader."""
    asked = (("STREAM.MSG.GET.S", json.dumps({"last_by_subj": "s.k"}), lambda a: a["message"]["seq"]),
             ("STREAM.INFO.S", "", lambda a: a["state"]["last_seq"]),
             ("CONSUMER.INFO.S.C", "", lambda a: a["num_pending"] + 1),  # All but the first are.
             ("CONSUMER.LIST.S", "", lambda a: a["consumers"][0]["num_pending"] + 1))
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        assert js.publish("s.a", b"first")
        js.consumer("S", "C", filter_subject="s.k")
        for _ in range(5):
            leader = c.leader("S")
            others = [n for n in c.nodes if n is not leader]
            js = Js(others[0])
            assert js.publish("s.k", b"old")
            readers = [leader.client() for _ in asked]
            leader.signal(signal.SIGSTOP)
            try:
                c.leader("S", among=others)
                seq = js.publish("s.k", b"new")["seq"]
                for r, (subject, body, _) in zip(readers, asked):
                    to = inbox()
                    r.sub(to, "r")
                    r.pub("$JS.API." + subject, body, to)
            finally:
                leader.signal(signal.SIGCONT)
            for r, (subject, _, told) in zip(readers, asked):
                answer = json.loads(r.msg(10)[4])
                if "error" in answer:
                    assert answer["error"]["err_code"] == 10008, answer
                else:
                    assert told(answer) >= seq, (subject, answer, seq)
                r.close()
            js.close()
            c.wait_ready()
        assert Js(c.nodes[0]).get("S", 1)["message"]["seq"] == 1


def test_a_full_disk_stops_the_node_and_nothing_is_lost():
    """A write that fails is never tried again: file and errno are named, and what was acked stands."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], 3)
        victim = next(n for n in c.nodes[1:] if n is not c.leader("S"))
        for i in range(200):
            assert js.publish("s.a", b"%d" % i)
        # No file of the victim may grow beyond what its log's segment has now.
        limit = 8 << 20
        resource.prlimit(victim.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        p = Publisher(c.nodes[0])
        for i in range(600):
            p.send("s.b", b"x" * 65536)
        p.drain(60)
        assert all("seq" in a for a in p.acks.values())
        assert victim.wait_exit(20) == 1
        assert re.search(r"weir/(wal|store)/\S+: .*File too large", victim.log()), victim.log()[-2000:]
        victim.start()
        c.wait_ready(timeout=60)
        assert c.same("S", timeout=60)["messages"] == 800


def test_a_million_messages_are_there_soon_after_a_start():
    with tempfile.TemporaryDirectory(prefix="weir-") as store, Single("-js", "-sd", store) as node:
        js = Js(node)
        js.create("S", ["s.>"], 1)
        p = Publisher(node)
        for i in range(1000000):
            p.send("s.%d" % (i % 1000), b"0123456789abcdef")
            if i % 4000 == 3999:
                while p.sent - len(p.acks) > 8000:
                    p.take(20)
        p.drain(60)
        p.close()
        node.stop(30)
        began = time.monotonic()
        node.start(timeout=30)
        js = Js(node)
        assert js.info("S", 20)["state"]["messages"] == 1000000
        print("     a clean restart with 1,000,000 messages: %.2f s" % (time.monotonic() - began))
        p = Publisher(node)
        for i in range(200000):
            p.send("s.%d" % (i % 1000), b"0123456789abcdef")
            if i % 4000 == 3999:
                while p.sent - len(p.acks) > 8000:
                    p.take(20)
        p.drain(60)
        node.kill()
        began = time.monotonic()
        node.start(timeout=30)
        js = Js(node)
        assert js.info("S", 20)["state"]["messages"] == 1200000
        print("     after kill -9, 200,000 of 1,200,000 in the log: %.2f s" % (time.monotonic() - began))


def read_mib(node):
    """How much it has read since it was started."""
    with open("/proc/%d/io" % node.process.pid) as f:
        return int(re.search(r"rchar: (\d+)", f.read())[1]) >> 20


def test_a_gibibyte_is_there_soon_after_a_kill():
    """A start reads the log, and nothing of what is in blocks."""
    with tempfile.TemporaryDirectory(prefix="weir-") as store, Single("-js", "-sd", store) as node:
        js = Js(node)
        js.create("S", ["s.>"], 1)
        payload = b"0123456789abcdef" * 4096
        p = Publisher(node)
        for i in range((1 << 30) // len(payload)):
            p.send("s.%d" % (i % 1000), payload)
            while p.sent - len(p.acks) > 64:
                p.take(30)
        p.drain(60)
        p.close()
        node.kill()
        took = []
        for _ in range(2):  # With a log behind the last checkpoint, and with what the first start made of it.
            began = time.monotonic()
            node.start(timeout=30)
            assert Js(node).info("S", 20)["state"]["messages"] == p.sent
            took.append(time.monotonic() - began)
            assert read_mib(node) < READ_MIB_MAX, read_mib(node)
            node.kill()
        print("     after kill -9, 1 GiB in a stream: %s s" % ", ".join("%.2f" % t for t in took))


def test_churn():
    """Streams and consumers come and go, nodes die and come back, from one seed; then all agree."""
    seed = int(os.environ.get("SEED", "1"))
    rng = random.Random(seed)
    print("     SEED=%d" % seed)
    with JsCluster(3) as c:
        acked = {}
        dead = None
        end = time.monotonic() + float(os.environ.get("CHURN_S", "20"))
        serial = 0
        while time.monotonic() < end:
            alive = [n for n in c.nodes if n is not dead]
            js = Js(rng.choice(alive), timeout=6)
            name = "S%d" % rng.randrange(4)
            action = rng.random()
            try:
                if action < 0.2:
                    if name not in acked:
                        js.create(name, [name.lower() + ".>"], rng.choice((1, 3, 3)))
                        acked[name] = {}
                elif action < 0.27 and name in acked:
                    del acked[name]
                    js.delete(name)
                elif action < 0.7 and name in acked:
                    p = Publisher(js.node)
                    base = serial
                    for _ in range(rng.randrange(1, 400)):
                        p.send(name.lower() + ".x", b"%d" % serial)
                        serial += 1
                    try:
                        p.poll(rng.choice((0.02, 0.2, 1.0)))
                    finally:
                        for i, a in p.acks.items():
                            if a and "seq" in a:
                                acked[name][a["seq"]] = b"%d" % (base + i)
                        p.close()
                elif action < 0.85 and name in acked:
                    durable = "C%d" % rng.randrange(2)
                    js.consumer(name, durable, ack_wait=int(1e9))
                    for g in js.fetch(name, durable, rng.randrange(1, 200), 0.3):
                        js.client.pub(g[2], b"+ACK")
                elif action < 0.86:
                    for node in c.nodes:
                        node.kill()
                    dead = None
                    for node in rng.sample(c.nodes, 3):
                        node.start()
                    c.wait_ready(timeout=60)
                elif action < 0.92:
                    if dead is not None:
                        dead.start()
                        dead = None
                        c.wait_ready(timeout=60)
                    else:
                        dead = rng.choice(c.nodes)
                        dead.kill()
                elif name in acked:
                    js.api("STREAM.PURGE." + name, {"seq": 1})
                    js.info(name, 6)
            except (TimeoutError, EOFError, ConnectionError, AssertionError) as e:
                if name in acked and "DELETE" in str(e):
                    acked.pop(name, None)
                if action < 0.2:
                    acked.pop(name, None)  # Created or not, nobody knows: leave it alone.
                for bad in ("came after", "answered twice"):
                    assert bad not in str(e), e
            finally:
                js.close()
        if dead is not None:
            dead.start()
        c.wait_ready(timeout=60)
        known = {}
        for node in c.nodes:
            for r in node.json("/replicaz")["replicas"]:
                known.setdefault(r["stream"], []).append(node)
        for node in c.nodes:
            assert "replicas differ" not in node.log(), node.log()[-3000:]
        for name, nodes in sorted(known.items()):
            c.same(name, nodes, 60)
            got = dump(nodes[0], name)
            for seq, payload in acked.get(name, {}).items():
                assert got.get(seq) == payload, (name, seq, payload, got.get(seq))


if __name__ == "__main__":
    run(globals())
