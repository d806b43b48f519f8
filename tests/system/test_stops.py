"""Planned stops: leaderships go to other nodes first, nothing that was accepted goes unanswered, and a node
stops in bounded time whatever the others do."""

import base64
import json
import re
import signal
import subprocess
import tempfile
import time

import clients
from weir_cluster import Single, run, wait_until
from weir_js import Js, JsCluster, Publisher, dump
from weir_load import Load

STREAMS = 5


def stored_of(node, stream, subject):
    status, body = node.http("/replicaz?stream=%s&dump=1" % stream, 60)
    assert status == 200, body
    lines = [json.loads(line) for line in body.splitlines()]
    return {m["seq"]: base64.b64decode(m["data"]) for m in lines if m["subject"] == subject}


def start_load(c, **options):
    """A stream for each publisher, publishers spread over the nodes."""
    js = Js(c.nodes[0])
    loads = []
    for k in range(STREAMS):
        js.create("S%d" % k, ["s%d" % k], 3)
        loads.append(Load(c.nodes, "s%d" % k, at=k % len(c.nodes), **options))
    for node in c.nodes:  # The one that answered knows them; the others do in a moment.
        wait_until("%s to know the streams" % node.name,
                   lambda: len(node.json("/replicaz")["replicas"]) == STREAMS)
    for load in loads:
        load.start()
    time.sleep(0.3)
    return loads


def largest(gaps):
    return [round(1000 * g) for g in sorted(gaps, reverse=True)[:4]]


def finish_load(c, loads, what, is_planned=True):
    for load in loads:
        load.finish()
    for k, load in enumerate(loads):
        c.same("S%d" % k)
        load.check(stored_of(c.nodes[k % len(c.nodes)], "S%d" % k, "s%d" % k))
    # What a node had taken it answered: what was published again is new to the stream.
    assert not is_planned or all(load.duplicates == 0 for load in loads), [load.duplicates for load in loads]
    print("     %s: %d acks, none failed; %d moves of publishers, %d messages published again; largest gaps "
          "%s ms, over a move to another node %s ms"
          % (what, sum(len(x.acks) for x in loads), sum(x.moves for x in loads), sum(x.again for x in loads),
             largest(g for x in loads for g in x.gaps), largest(g for x in loads for g in x.move_gaps)))


def led_by(node):
    try:
        return [r["stream"] for r in node.json("/replicaz")["replicas"] if r["is_led"]]
    except OSError:
        return []


def stop_and_return(c, node, signum):
    """Stops it; its leaderships are elsewhere before it goes: nobody's election had to find out."""
    others = [n for n in c.nodes if n is not node]
    before = [len(n.log()) for n in others]
    node.signal(signum)
    assert node.wait_exit(15) == 0, node.log()
    handed = re.search(r"JetStream hands (\d+) leaderships over", node.log())
    assert "not handed over" not in node.log(), node.log()
    for n, at in zip(others, before):
        log = n.log()[at:]
        down = log.find("peer_down name=%s" % node.name)
        if down >= 0:
            assert "new stream leader" not in log[down:] and "new metadata leader" not in log[down:], log
    node.start()
    c.wait_ready(timeout=30)
    return int(handed.group(1)) if handed else 0


def test_a_rolling_restart_under_load_fails_no_ack():
    with JsCluster(3) as c:
        loads = start_load(c)
        handed = 0
        for node in c.nodes:
            handed += stop_and_return(c, node, signal.SIGTERM)
            time.sleep(0.5)
        assert handed >= STREAMS, "each stream was led by some node when that stopped"
        finish_load(c, loads, "rolling restart with SIGTERM")


def test_a_rolling_restart_of_lame_ducks_fails_no_ack():
    """Clients that understand it leave by themselves; the others are closed one after the other."""
    config = 'lame_duck_grace_period: "500ms"\nlame_duck_duration: "30s"\n'
    with JsCluster(3, config=config) as c:
        loads = start_load(c, heeds_ldm=True)
        for node in c.nodes:
            stop_and_return(c, node, signal.SIGUSR2)
        assert all(load.again == 0 for load in loads), "answers were missing after an announced end"
        finish_load(c, loads, "rolling restart of lame ducks")


def leads(nodes):
    return [len(led_by(n)) for n in nodes]


def test_leaders_spread_again_after_a_node_returns():
    """It gets its share back, one stream at a time, and then nothing moves any more."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        loads = start_load(c, rate=300)
        for k in range(STREAMS, 9):
            js.create("S%d" % k, ["s%d" % k], 3)
        wait_until("leaders of all", lambda: sum(leads(c.nodes)) == 9)
        before = leads(c.nodes)
        back = c.nodes[1]
        back.kill()
        time.sleep(1)
        back.start()
        c.wait_ready(timeout=30)
        assert leads(c.nodes)[1] == 0, "at once: %s" % leads(c.nodes)
        wait_until("it to lead its share", lambda: sum(leads(c.nodes)) == 9
                   and max(leads(c.nodes)) - min(leads(c.nodes)) <= 1, 60, 0.5)
        after = leads(c.nodes)
        terms = {r["stream"]: r["term"] for r in back.json("/replicaz")["replicas"]}
        time.sleep(5)
        assert terms == {r["stream"]: r["term"] for r in back.json("/replicaz")["replicas"]}, "it goes on"
        finish_load(c, loads, "leaders %s, without one node 0, then %s" % (before, after),
                    is_planned=False)


def ends_within(node, signum, seconds):
    began = time.monotonic()
    node.signal(signum)
    assert node.wait_exit(seconds) == 0, node.log()
    return time.monotonic() - began


def test_a_node_alone_answers_what_it_took_and_stops_at_once():
    with tempfile.TemporaryDirectory(prefix="weir-") as store, Single("-js", "-sd", store) as n:
        js = Js(n)
        js.create("S", ["s"], 1)
        for signum in (signal.SIGTERM, signal.SIGINT):
            p = Publisher(n)
            for i in range(3000):
                p.send("s", b"%d" % i)
            n.signal(signum)
            stored = {}
            try:
                while True:
                    p.take(5)
            except EOFError:
                pass
            assert n.wait_exit(3) == 0
            n.start()
            wait_until("health", lambda: n.http("/healthz")[0] == 200)
            stored = dump(n, "S")
            assert len(stored) >= len(p.acks)
            answered = {a["seq"] for a in p.acks.values()}
            assert set(stored) == answered, "stored and not answered: %s" % (set(stored) - answered)
            Js(n).ok("STREAM.PURGE.S")


def test_without_a_majority_a_node_stops_all_the_same():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        js.publish("s", b"x")
        last = c.leader("S")
        for n in c.nodes:
            if n is not last:
                n.kill()
        p = Publisher(last)
        for i in range(10):
            p.send("s", b"%d" % i)
        took = ends_within(last, signal.SIGTERM, 8)
        print("     without a majority: stopped in %.2f s" % took)
        for n in c.nodes:
            n.start()
        c.wait_ready(timeout=30)
        c.same("S")


def test_all_at_once_stop():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        for k in range(9):
            js.create("S%d" % k, ["s%d" % k], 3)
        for n in c.nodes:
            n.signal(signal.SIGTERM)
        for n in c.nodes:
            assert n.wait_exit(8) == 0, n.log()
        for n in c.nodes:
            n.start()
        c.wait_ready(timeout=30)
        for k in range(9):
            assert Js(c.nodes[k % 3]).publish("s%d" % k, b"x")["seq"] == 1


def test_a_second_signal_cuts_it_short():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        leader = c.leader("S")
        others = [n for n in c.nodes if n is not leader]
        for n in others:
            n.signal(signal.SIGSTOP)  # For as long as it takes to notice, it waits for them.
        leader.signal(signal.SIGTERM)
        leader.wait_log("Initiating Shutdown")
        leader.signal(signal.SIGTERM)
        assert leader.wait_exit(2) == 0
        for n in others:
            n.signal(signal.SIGCONT)


def test_a_leadership_goes_to_a_replica_that_is_up_to_date():
    """One follower is back from a long absence and still fetches; the other one gets it."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        leader = c.leader("S")
        late, good = [n for n in c.nodes if n is not leader]
        late.signal(signal.SIGSTOP)
        Js(leader).publish("s", b"x" * 1000)
        assert stop_and_return_of_leader(c, leader, good) == good.name
        late.signal(signal.SIGCONT)
        leader.start()
        c.wait_ready(timeout=30)
        c.same("S")


def stop_and_return_of_leader(c, leader, watcher):
    leader.signal(signal.SIGTERM)
    assert leader.wait_exit(8) == 0, leader.log()
    found = re.search(r"new stream leader for '\$G > S'", watcher.log())
    assert found, watcher.log()
    return watcher.name


def test_health_is_not_ok_before_a_node_has_caught_up():
    """It said ok when it knew its leaders, and then 503 while it fetched what it had missed."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        for k in range(3):
            js.create("S%d" % k, ["s%d" % k], 3)
        late = c.nodes[2]
        for round_ in range(3):
            late.kill()
            p = Publisher(c.nodes[0])
            for i in range(1500):
                p.send("s%d" % (i % 3), b"x" * (200 if round_ else 10))
            p.drain()
            c.wait_mesh(c.nodes[:2])  # Nothing is placed on it.
            wait_until("another leader of meta",
                       lambda: meta_leader(c.nodes[:2]) not in ("", late.name), 10)
            js.create("NEW%d" % round_, ["new%d" % round_], 1)
            late.start()
            states = []
            end = time.monotonic() + 30  # On a slow computer it takes long to be ready; then it stays so.
            while time.monotonic() < end:
                states.append(late.http("/healthz"))
                if states[-1][0] == 200:
                    if not any(s[0] == 200 for s in states[:-1]):
                        end = time.monotonic() + 3
                    got = late.json("/replicaz")["replicas"]
                    assert all(r["last_seq"] == 500 * (round_ + 1) for r in got
                               if r["stream"][0] == "S"), got
                time.sleep(0.005)
            ok = [i for i, s in enumerate(states) if s[0] == 200]
            assert ok, states[-1]
            later = [s for s in states[ok[0]:] if s[0] != 200]
            assert not later, "ok, and then: %s" % (later[:3],)


def meta_leader(nodes):
    """Its name, when all say the same."""
    seen = {n.json("/jsz")["meta_cluster"].get("leader", "") for n in nodes}
    return seen.pop() if len(seen) == 1 else ""


def test_leaders_step_down_on_request_from_any_node():
    with JsCluster(3) as c:
        js = [Js(n) for n in c.nodes]
        js[0].create("S", ["s"], 3)
        js[0].create("ONE", ["one"], 1)
        js[0].consumer("S", "C")
        p = Publisher(c.nodes[0])
        moved = 0
        for i in range(12):
            for k in range(50):
                p.send("s", b"%d" % p.sent)
            old = c.leader("S")
            others = [n for n in c.nodes if n is not old]
            what = "STREAM.LEADER.STEPDOWN.S" if i % 2 else "CONSUMER.LEADER.STEPDOWN.S.C"
            wanted = others[i % 2] if i % 3 == 0 else None
            body = {"placement": {"preferred": wanted.name}} if wanted else None
            assert js[i % 3].ok(what, body)["success"] is True
            wait_until("another leader", lambda: c.leader("S") is not old, 5)
            assert wanted is None or c.leader("S") is wanted, (c.leader("S").name, wanted.name)
            info = js[(i + 1) % 3].ok("CONSUMER.INFO.S.C")
            assert info["cluster"]["leader"] == c.leader("S").name, info["cluster"]
            moved += 1
        p.drain()
        assert [p.acks[i]["seq"] for i in range(p.sent)] == list(range(1, p.sent + 1))
        # What a leader refuses.
        at = c.leader("S").name
        for body, text in (({"placement": {"preferred": at}}, 'preferred server "%s" is already leader' % at),
                           ({"placement": {"preferred": "x"}}, 'preferred server "x" not known'),
                           ({"placement": {"tags": ["ssd"]}}, "no replacement peer connected")):
            error = js[0].api("STREAM.LEADER.STEPDOWN.S", body)["error"]
            assert (error["err_code"], error["description"]) == (10005, text), error
        assert js[1].ok("STREAM.LEADER.STEPDOWN.ONE")["success"] is True
        # One that is asked for, and down.
        down = next(n for n in c.nodes if n.name != at)
        down.kill()
        up = next(x for x, n in zip(js, c.nodes) if n is not down)
        wait_until("it to be seen", lambda: "error" in up.api(
            "STREAM.LEADER.STEPDOWN.S", {"placement": {"preferred": down.name}}), 5)


def test_the_leader_of_meta_steps_down_on_request():
    with JsCluster(3) as c:
        for i in range(6):
            old = wait_until("a meta leader", lambda: meta_leader(c.nodes), 10)
            others = [n.name for n in c.nodes if n.name != old]
            body = {"placement": {"preferred": others[1]}} if i % 2 else None
            js = Js(c.nodes[i % 3])
            assert js.ok("META.LEADER.STEPDOWN", body)["success"] is True
            new = wait_until("another one", lambda: meta_leader(c.nodes) not in ("", old)
                             and meta_leader(c.nodes), 5)
            assert body is None or new == others[1], (new, others)
            js.create("S%d" % i, ["s%d" % i], 3)
            js.close()


def test_pulls_that_wait_are_told_and_work_goes_on():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        js.consumer("S", "C")
        for i in range(4):
            _, sid = js.pull("S", "C", 1, expires=int(20e9))
            js2 = Js(c.nodes[1])
            wait_until("the pull to wait", lambda: js2.ok("CONSUMER.INFO.S.C")["num_waiting"] == 1)
            js2.ok("CONSUMER.LEADER.STEPDOWN.S.C")
            m = js.client.msg(5)
            assert m[1] == sid and b"409 Leadership Change" in m[3], m
            assert js2.publish("s", b"%d" % i)
            got = js.fetch("S", "C", 1, 5)
            assert [g[1] for g in got] == [b"%d" % i], got
            js.ack(got[0][2])


def waiting_pull(node, batch):
    js = Js(node)
    _, sid = js.pull("S", "C", batch, expires=int(60e9))
    return js, sid


def hears_shutdown_once(js, sid, batch, is_closed):
    m = js.client.msg(5)
    assert m[1] == sid and m[3] == (b"NATS/1.0 409 Server Shutdown\r\nNats-Pending-Messages: %d\r\n"
                                    b"Nats-Pending-Bytes: 0\r\n\r\n" % batch), m
    if not is_closed:
        js.client.silent(1.5)


def test_pulls_that_wait_hear_that_the_server_stops():
    """As in the reference; nobody else can serve them."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        with tempfile.TemporaryDirectory(prefix="weir-") as store, Single("-js", "-sd", store) as node:
            js = Js(node)
            js.create("S", ["s"])
            js.consumer("S", "C")
            pulls = [waiting_pull(node, n) for n in (1, 7)]
            wait_until("them to wait", lambda: js.ok("CONSUMER.INFO.S.C")["num_waiting"] == 2)
            node.signal(signum)
            for (waits, sid), batch in zip(pulls, (1, 7)):
                hears_shutdown_once(waits, sid, batch, True)
            assert node.wait_exit(15) == 0, node.log()


def test_pulls_that_wait_at_other_nodes_hear_it_once_too():
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 1)
        js.consumer("S", "C")
        leader = c.leader("S")
        pulls = [waiting_pull(node, 5) for node in c.nodes]
        wait_until("them to wait", lambda: js.ok("CONSUMER.INFO.S.C")["num_waiting"] == 3)
        leader.signal(signal.SIGTERM)
        for (waits, sid), node in zip(pulls, c.nodes):
            hears_shutdown_once(waits, sid, 5, node is leader)
        assert leader.wait_exit(15) == 0, leader.log()


def test_pulls_that_wait_for_a_stream_that_others_take_over_are_told_so():
    """Not that the server stops: whoever asks again is served."""
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        js.consumer("S", "C")
        leader = c.leader("S")
        pulls = [waiting_pull(node, 5) for node in c.nodes]
        wait_until("them to wait", lambda: js.ok("CONSUMER.INFO.S.C")["num_waiting"] == 3)
        leader.signal(signal.SIGTERM)
        for waits, sid in pulls:
            m = waits.client.msg(5)
            assert m[1] == sid and m[3].startswith(b"NATS/1.0 409 Leadership Change"), m
        assert leader.wait_exit(15) == 0, leader.log()


def test_the_nats_cli_steps_leaders_down():
    command = clients.get_or_skip("cli", "step-down")
    if command is None:
        return
    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        js.consumer("S", "C")

        def nats(node, *args):
            url = "nats://127.0.0.1:%d" % node.port
            done = subprocess.run(command + ["-s", url] + list(args), text=True, timeout=20,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert done.returncode == 0, done.stdout
            return done.stdout
        for i in range(3):
            assert "New leader elected" in nats(c.nodes[i], "stream", "cluster", "step-down", "S")
            assert "New leader elected" in nats(c.nodes[i], "consumer", "cluster", "step-down", "S", "C")


if __name__ == "__main__":
    run(globals())
