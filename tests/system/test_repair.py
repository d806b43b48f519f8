"""Bytes rot on the disks of real nodes, while they run and while they are stopped: what a replica lost it gets back
from the others; what all lost is told, and nothing else is lost with it."""

import hashlib
import json
import os
import subprocess

import clients
from damage import (COUNT, NO_SCRUB, Blocks, check_whole, config, fill, journal, overwrite, payload, replica, start_all,
                    stop_all, wait_mended)
from weir_cluster import run, wait_until
from weir_js import Js, JsCluster, Publisher, dump


def test_damage_in_different_places_on_all_three_is_found_while_they_run_and_mended():
    with JsCluster(3, config=config()) as c:
        expected = fill(c)
        stop_all(c)
        start_all(c)
        Blocks(c, 0).flip(100)
        Blocks(c, 1).zero(1000, 1100)
        Blocks(c, 2).flip(2000)
        Blocks(c, 2).flip(2500)
        wait_mended(c, [1, 1, 1])
        scrub = c.nodes[0].json("/replicaz")["scrub"]
        assert scrub["damaged_blocks"] >= 1 and scrub["bytes"] > 0, scrub
        js = Js(c.nodes[0])
        assert js.publish("s.x", b"more")
        expected[COUNT + 1] = b"more"
        check_whole(c, expected)


def test_damaged_indexes_on_all_three_are_mended_before_the_stream_starts():
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        for n in range(3):  # Several blocks, and holes in them.
            js = Js(c.nodes[0])
            for k in range(40):
                seq = 1 + n * 1000 + k * 17
                assert "error" not in js.api("STREAM.MSG.DELETE.S", {"seq": seq})
                del expected[seq]
            js.close()
            p = Publisher(c.nodes[0])
            for k in range(600):
                seq = COUNT + n * 600 + k + 1
                expected[seq] = payload(seq)
                p.send("s.y", payload(seq))
            p.drain()
            p.close()
            c.same("S")
            stop_all(c)
            start_all(c)
        stop_all(c)
        damaged = []
        for i in range(3):
            blocks = Blocks(c, i)
            for n, b in enumerate(blocks.blocks):
                overlaps = any(b[4] <= last and b[5] >= first for first, last in damaged)
                if not overlaps and b[5] - b[4] > 50:
                    damaged.append(blocks.ruin_index(n))
                    break
        assert len(damaged) == 3, damaged
        start_all(c)
        wait_mended(c, [1, 1, 1])
        for node in c.nodes:
            assert "is mended, and starts" in node.log(), node.log()
        check_whole(c, expected)


def test_a_truncated_and_a_missing_file_of_a_minority_come_back():
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        stop_all(c)
        paths = sorted({b[0] for b in Blocks(c, 1).blocks})
        os.truncate(paths[-1], os.path.getsize(paths[-1]) // 3)
        if len(paths) > 1:
            os.rename(paths[0], paths[0] + ".gone")
        start_all(c)
        wait_mended(c, [0, 1, 0])
        check_whole(c, expected)


def test_readers_of_a_damaged_leader_get_every_message_in_order():
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        stop_all(c)
        start_all(c)
        leader = c.leader("S")
        i = c.nodes.index(leader)
        blocks = Blocks(c, i)
        for seq in (1, 700, 701, 1500, COUNT):
            blocks.flip(seq)
        js = Js(leader)
        got = js.get("S", 700)
        assert "error" not in got, got
        js.consumer("S", "C", ack_policy="none")
        messages = []
        while len(messages) < COUNT:
            batch = js.fetch("S", "C", 500, expires=10)
            assert batch, len(messages)
            messages += batch
        assert [m[0] for m in messages] == list(range(1, COUNT + 1))
        assert {m[0]: m[1] for m in messages} == expected
        assert c.leader("S") is leader
        wait_mended(c, [1 if n is leader else 0 for n in c.nodes])
        check_whole(c, expected)


def flip_journal(c, i, copy):
    """One bit in the newest frame of one copy of the journal of checkpoints."""
    path = journal(c, i)[copy]
    overwrite(path, os.path.getsize(path) - 1, lambda b: bytes([b[0] ^ 1]), 1)


def test_a_damaged_copy_of_the_journal_costs_nothing():
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        stop_all(c)
        for i in range(3):  # On all at once.
            flip_journal(c, i, i % 2)
        start_all(c)
        for i, node in enumerate(c.nodes):
            assert "written anew from its other copy" in node.log(), node.log()
        check_whole(c, expected)  # And no damage is left: each stop writes the journal.


def test_a_damaged_copy_of_the_journal_is_found_while_they_run_and_mended():
    with JsCluster(3, config=config()) as c:
        expected = fill(c)
        stop_all(c)
        start_all(c)
        for i in range(3):
            flip_journal(c, i, i % 2)
        for node in c.nodes:
            wait_until("the damage to be found by " + node.name,
                       lambda: node.json("/replicaz")["scrub"]["journal_damaged"] >= 1, 20)
            wait_until("it to be mended", lambda: quiet(node), 20)
        check_whole(c, expected)


def quiet(node):
    """The scrub has been over the journal three times and found nothing more."""
    before = node.json("/replicaz")["scrub"]
    wait_until("more passes", lambda: node.json("/replicaz")["scrub"]["journal_checks"] >= before["journal_checks"] + 3, 20)
    return node.json("/replicaz")["scrub"]["journal_damaged"] == before["journal_damaged"]


NATS_PY = """
import asyncio, hashlib, json, sys
import nats

async def main(url, count, seqs):
    nc = await nats.connect(url)
    js = nc.jetstream()
    got = [hashlib.sha256((await js.get_msg("S", seq)).data).hexdigest() for seq in seqs]
    sub = await js.pull_subscribe("s.>", stream="S", durable="P")
    data, last = hashlib.sha256(), 0
    while last < count:
        for m in await sub.fetch(500, timeout=15):
            assert m.metadata.sequence.stream == last + 1, (m.metadata.sequence.stream, last)
            last += 1
            data.update(m.data)
            await m.ack()
    await nc.close()
    print(json.dumps([got, data.hexdigest()]))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])))
"""


def test_nats_py_reads_all_of_a_damaged_stream():
    command = clients.get_or_skip("py", "reading a damaged stream")
    if command is None:
        return
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        stop_all(c)
        seqs = [10, 1010, 2010]
        for i in range(3):
            Blocks(c, i).zero(1 + 1000 * i, 100 + 1000 * i)
        start_all(c)
        leader = c.leader("S")
        done = subprocess.run([command[0], "-c", NATS_PY, "nats://127.0.0.1:%d" % leader.port, str(COUNT),
                               json.dumps(seqs)], text=True, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        got, everything = json.loads(done.stdout)
        assert got == [hashlib.sha256(expected[s]).hexdigest() for s in seqs]
        assert everything == hashlib.sha256(b"".join(expected[s] for s in sorted(expected))).hexdigest()
        for node in c.nodes:  # Each reads its own: the followers' damage is found and mended now.
            assert dump(node, "S") == expected, node.name
        wait_mended(c, [1, 1, 1])
        c.same("S")


def test_what_all_have_lost_is_named_and_costs_nothing_else():
    with JsCluster(3, config=config()) as c:
        expected = fill(c)
        stop_all(c)
        start_all(c)
        for i in range(3):
            blocks = Blocks(c, i)
            blocks.flip(1234)         # On all,
            blocks.flip(500 + 10 * i)  # and each something of its own in the same block, most likely.
        for node in c.nodes:
            wait_until("the loss to be told by " + node.name, lambda: replica(node)["lost"] == [[1234, 1234]], 30)
            assert "from 1234 to 1234 are damaged on every replica" in node.log()
        js = Js(c.nodes[1])
        got = js.get("S", 1234)
        assert got["error"]["err_code"] == 10051 and "damaged" in got["error"]["description"], got
        for seq in (500, 510, 520, 1233, 1235):
            assert "error" not in js.get("S", seq), seq
        status, body = c.nodes[2].http("/replicaz?stream=S&dump=1", 60)
        lines = [json.loads(line) for line in body.splitlines()]
        assert status == 200 and len(lines) == COUNT
        assert [m["seq"] for m in lines if "error" in m] == [1234]
        assert js.info("S")["state"]["messages"] == COUNT
        assert js.publish("s.x", b"goes on")
        # No deadline brings it back to these: that they passed it is said once.
        js.consumer("S", "NONE", ack_policy="none")
        js.consumer("S", "ONCE", max_deliver=1, max_ack_pending=2 * COUNT)
        js.consumer("S", "AGAIN", max_ack_pending=2 * COUNT)
        leader = c.leader("S")
        wanted = [seq for seq in range(1200, 1301) if seq != 1234]
        for name in ("NONE", "ONCE", "AGAIN"):
            js.pull("S", name, 1300, expires=int(30e9))
            seen = [int(js.client.msg()[2].split(".")[5]) for _ in range(1299)]  # The one that is missing counts.
            assert [seq for seq in seen if 1200 <= seq <= 1300] == wanted, (name, seen)
        for name in ("NONE", "ONCE"):
            text = "messages_skipped stream=S consumer=%s first=1234 last=1234 count=1" % name
            leader.wait_log(text, 5)
            assert leader.log().count(text) == 1
        assert "consumer=AGAIN" not in leader.log()


if __name__ == "__main__":
    run(globals())
