"""Bytes rot on the disks of real nodes, while they run and while they are stopped: what a replica lost it gets back
from the others; what all lost is told, and nothing else is lost with it."""

import glob
import json
import os
import signal
import struct
import time

from weir_cluster import run, wait_until
from weir_js import Js, JsCluster, Publisher, dump

COUNT = 3000


def config(rate="64M", interval="1s"):
    return "jetstream { scrub_rate: %s, scrub_interval: \"%s\" }\n" % (rate, interval)


NO_SCRUB = config("0")


def replica(node, stream="S"):
    return node.json("/replicaz?stream=" + stream)


def payload(n):
    return b"message %d " % n + bytes((n * 7 + k) % 251 for k in range(n % 300))


def fill(c, count=COUNT, **options):
    """So many messages on three replicas, all of them in blocks."""
    js = Js(c.nodes[0])
    js.create("S", ["s.>"], 3, **options)
    p = Publisher(c.nodes[0])
    for n in range(1, count + 1):
        p.send("s.%d" % (n % 5), payload(n))
        if n % 1000 == 0:
            p.drain()
    p.drain()
    p.close()
    js.close()
    return {n: payload(n) for n in range(1, count + 1)}


def stop_all(c):
    """A planned stop flushes, and leaves no block in memory."""
    for node in c.nodes:
        node.stop()


def cut_all(c):
    """All at once, with the same in their logs and stores."""
    def check():
        seen = [replica(n) for n in c.nodes]
        return len({r["applied"] for r in seen}) == 1 and all(r["flushed"] == r["applied"] for r in seen)
    wait_until("all to be flushed", check, 20, 0.1)
    for node in c.nodes:  # Or those that are left would go on, and what they differ in goes with their image.
        node.signal(signal.SIGSTOP)
    for node in c.nodes:
        node.kill()


def start_all(c):
    for node in c.nodes:
        node.start()
    c.wait_ready(timeout=30)


class Blocks:
    """The message blocks in the store of a node (storage/block_format.h)."""

    def __init__(self, c, i):
        self.records = {}  # seq -> [(path, offset, bytes)]
        self.blocks = []   # (path, offset, offset of the index, first seq, last seq)
        for path in sorted(glob.glob(os.path.join(c.folder, "n%d" % i, "js", "weir", "store", "data-*.wblk"))):
            with open(path, "rb") as f:
                data = f.read()
            at = data.find(b"WBK1")
            while at >= 0:
                self._block(path, data, at)
                at = data.find(b"WBK1", at + 64)

    def _block(self, path, data, at):
        first, last = struct.unpack_from("<QQ", data, at + 32)
        count, = struct.unpack_from("<I", data, at + 56)
        off = at + 64
        for _ in range(count):
            subject, header, body, seq = struct.unpack_from("<HIIQ", data, off + 6)
            size = 32 + subject + header + body
            self.records.setdefault(seq, []).append((path, off, size))
            off += size
        end = data.find(b"WBKF", off) + 96
        assert end > 96
        self.blocks.append((path, at, off, end, first, last))

    def flip(self, seq):
        """One bit of a message."""
        for path, off, size in self.records[seq]:
            overwrite(path, off + size - 1, lambda b: bytes([b[0] ^ 4]), 1)

    def zero(self, first, last):
        """Whole sectors, from the first message to the last."""
        for path, off, _ in self.records[first]:
            to = max(o + s for p, o, s in self.records[last] if p == path)
            overwrite(path, off, lambda b: bytes(len(b)), to - off)

    def ruin_index(self, n):
        """Of the n-th block, and with it a fifth of its messages: nobody can tell then what is live in it."""
        path, at, index, end, first, last = self.blocks[n]
        overwrite(path, index, lambda b: bytes(len(b)), end - index)
        overwrite(path, at + 64, lambda b: b"\xff" * len(b), (index - at) // 5)
        return first, last


def overwrite(path, off, change, size):
    with open(path, "r+b") as f:
        f.seek(off)
        old = f.read(size)
        new = change(old)
        assert new != old
        f.seek(off)
        f.write(new)
        f.flush()
        os.fsync(f.fileno())


def wait_mended(c, least, timeout=30):
    """Each node has mended so many blocks, and all are written anew."""
    seen = []

    def check():
        seen[:] = [replica(n) for n in c.nodes]
        return all(r["mended_blocks"] >= m and r["damaged_blocks"] == 0 for r, m in zip(seen, least))
    try:
        wait_until("all damage to be mended", check, timeout)
    except AssertionError as e:
        raise AssertionError("%s: %s" % (e, json.dumps(seen)))


def check_whole(c, expected):
    """Every replica has every message, and what is on the disks is sound."""
    c.same("S", timeout=30)
    for node in c.nodes:
        assert dump(node, "S") == expected, node.name
    stop_all(c)
    start_all(c)
    for node in c.nodes:
        assert dump(node, "S") == expected, node.name
        assert "Damage in" not in node.log(), node.log()
    c.same("S")


CRC32C = []
for _n in range(256):
    for _ in range(8):
        _n = (_n >> 1) ^ (0x82f63b78 if _n & 1 else 0)
    CRC32C.append(_n)


def crc32c(data):
    crc = 0xffffffff
    for b in data:
        crc = CRC32C[(crc ^ b) & 0xff] ^ (crc >> 8)
    return crc ^ 0xffffffff


def journals(c, i):
    return sorted(glob.glob(os.path.join(c.folder, "n%d" % i, "js", "weir", "store", "ckpt-*.journal")))


def change_state(c, i, gid, bit):
    """As a fault of the machine would: another hash of the payloads in the stream's counters, all checksums right
    (storage/checkpoint.h, broker/stream_checkpoint.c)."""
    path = journals(c, i)[-1]
    with open(path, "rb") as f:
        data = bytearray(f.read())
    at, prev, changed = 4096, 0, 0
    while data[at:at + 4] == b"WCKF":
        size, = struct.unpack_from("<Q", data, at + 24)
        item, end = at + 48, at + 48 + size
        while item < end:
            kind, key, value, owner = struct.unpack_from("<xBHIQ", data, item)
            total = 20 + key + value
            if owner == gid and kind == 4 and data[item + 20:item + 20 + key] == b"s":
                data[item + 20 + key + 55] ^= 1 << bit
                data[item + 16:item + 20] = bytes(4)
                struct.pack_into("<I", data, item + 16, crc32c(data[item:item + total]))
                changed += 1
            item += total
        struct.pack_into("<I", data, at + 32, crc32c(data[at + 48:end]))
        struct.pack_into("<I", data, at + 36, prev)
        data[at + 4:at + 8] = bytes(4)
        prev = crc32c(data[at:at + 48])
        struct.pack_into("<I", data, at + 4, prev)
        at = (end + 4095) // 4096 * 4096
    assert changed
    with open(path, "wb") as f:
        f.write(data)


def set_aside(c, i):
    return glob.glob(os.path.join(c.folder, "n%d" % i, "js", "weir", "quarantine", "*.image"))


def check_rebuilt(c, i, old, expected):
    """The node has another replica of the stream, equal to the others', and kept what the old one held."""
    def check():
        status, body = c.nodes[i].http("/replicaz?stream=S")  # For a moment there is none.
        return status == 200 and json.loads(body)["raft_id"] != old
    wait_until("another replica", check, 30)
    c.same("S", timeout=60)
    assert len(set_aside(c, i)) == 1
    with open(set_aside(c, i)[0], "rb") as f:
        kept = f.read()
    assert kept[:4] == b"WQRN" and payload(7) in kept and payload(COUNT) in kept
    for node in c.nodes:
        assert dump(node, "S") == expected, node.name
        assert sorted(m["role"] for m in replica(node)["members"]) == ["voter"] * 3


def diverge(is_leader):
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        gid = replica(c.nodes[0])["gid"]
        ids = [replica(n)["raft_id"] for n in c.nodes]
        cut_all(c)
        start_all(c)
        # Elections after a restart go by rank: who leads now will again, most likely.
        i = (c.nodes.index(c.leader("S")) + (0 if is_leader else 1)) % 3
        cut_all(c)
        change_state(c, i, gid, 3)
        start_all(c)
        check_rebuilt(c, i, ids[i], expected)
        log = c.nodes[i].log()
        assert "it differs from the majority" in log
        print("     it %s" % ("led" if "new stream leader for '$G > S'" in log else "followed"))


def test_a_replica_that_differs_is_set_aside_and_built_anew():
    diverge(False)


def test_a_leader_that_differs_hands_over_and_is_built_anew():
    diverge(True)


def test_without_a_majority_nothing_is_rebuilt():
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        gid = replica(c.nodes[0])["gid"]
        ids = [replica(n)["raft_id"] for n in c.nodes]
        cut_all(c)
        change_state(c, 0, gid, 1)
        change_state(c, 2, gid, 2)
        start_all(c)
        leader = c.leader("S")
        leader.wait_log(r"no majority agrees", 20)
        time.sleep(1)
        assert [replica(n)["raft_id"] for n in c.nodes] == ids
        for i, node in enumerate(c.nodes):
            assert dump(node, "S") == expected, node.name
            assert not set_aside(c, i)


def test_a_replica_whose_log_has_a_gap_is_built_anew():
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        follower = next(n for n in c.nodes if n is not c.leader("S"))
        i = c.nodes.index(follower)
        js = Js(c.leader("S"))
        wait_until("a flush", lambda: replica(follower)["flushed"] >= replica(follower)["applied"] - 2, 15)
        for n in range(COUNT + 1, COUNT + 401):
            assert js.publish("s.1", payload(n))["seq"] == n
            expected[n] = payload(n)
        c.same("S")
        old = replica(follower)["raft_id"]
        follower.kill()  # None of the 400 is in its store.
        wal = glob.glob(os.path.join(c.folder, "n%d" % i, "js", "weir", "wal", "wal-*.log"))
        marks = {}
        for path in wal:
            with open(path, "rb") as f:
                data = f.read()
            marks[path] = data.find(b"message %d " % (COUNT + 150))
        path = next(p for p in wal if marks[p] >= 0)
        overwrite(path, marks[path] // 4096 * 4096, lambda b: b"\x5a" * len(b), 4096)
        follower.start()
        c.wait_ready(timeout=60)
        c.same("S", timeout=60)
        for node in c.nodes:
            assert dump(node, "S") == expected, node.name
        print("     it came back %s" % ("as another one" if replica(follower)["raft_id"] != old else "as the same"))


def test_a_node_whose_journal_is_damaged_says_how_to_join_again():
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        stop_all(c)
        overwrite(journals(c, 1)[-1], 4096 + 60, lambda b: bytes([b[0] ^ 1]), 1)
        c.nodes[0].start()
        c.nodes[2].start()
        c.nodes[1].start(ready=False)
        assert c.nodes[1].wait_exit(10) != 0
        c.nodes[1].wait_log(r"move .*/weir aside and start again")
        js = Js(c.nodes[0])
        assert js.publish("s.x", b"more")["seq"] == COUNT + 1  # The others go on.
        expected[COUNT + 1] = b"more"
        folder = os.path.join(c.folder, "n1", "js", "weir")
        os.rename(folder, folder + ".aside")
        c.nodes[1].start()
        c.wait_ready(timeout=60)
        wait_until("a replica", lambda: c.nodes[1].http("/replicaz?stream=S")[0] == 200, 60)
        c.same("S", timeout=60)
        for node in c.nodes:
            assert dump(node, "S") == expected, node.name


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


if __name__ == "__main__":
    run(globals())
