"""Replicas that are of no use any more, broken or different from the others, are set aside and built anew."""

import glob
import json
import os
import shutil
import signal
import struct
import time

from damage import COUNT, NO_SCRUB, Blocks, fill, journal, overwrite, payload, replica, start_all, stop_all
from weir_cluster import run, wait_until
from weir_js import Js, JsCluster, dump


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


def change_state(c, i, gid, bit):
    """As a fault of the machine would: another hash of the payloads in the stream's counters, all checksums right
    (storage/checkpoint.h, broker/stream_checkpoint.c)."""
    with open(journal(c, i)[0], "rb") as f:
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
    for path in journal(c, i):
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
        # The newcomer is level before it is promoted, and each hears of that with the next entries.
        wait_until("three voters", lambda: sorted(m["role"] for m in replica(node)["members"]) == ["voter"] * 3, 10, 0.1)


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


def test_a_replica_that_cannot_be_set_aside_is_flushed_and_waits():
    """It would hold the log of the whole node for as long."""
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        gid = replica(c.nodes[0])["gid"]
        i = (c.nodes.index(c.leader("S")) + 1) % 3
        old = replica(c.nodes[i])["raft_id"]
        cut_all(c)
        change_state(c, i, gid, 3)
        there = os.path.dirname(os.path.dirname(journal(c, i)[0]))
        assert os.path.basename(there) == "weir", there
        with open(os.path.join(there, "quarantine"), "w"):
            pass
        for node in c.nodes:
            node.start()
        c.wait_ready([n for n in c.nodes if n is not c.nodes[i]], 30)
        c.nodes[i].wait_log("the replica on this node is not replaced, it cannot be set aside", 30)
        r = replica(c.nodes[i])
        assert r["raft_id"] == old and r["state"] == "damaged", r
        wait_until("what it applied to be flushed", lambda: replica(c.nodes[i])["flushed"] == r["applied"], 15)
        os.unlink(os.path.join(there, "quarantine"))
        check_rebuilt(c, i, old, expected)


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


def wal_of(c, i):
    found = {}
    for path in glob.glob(os.path.join(c.folder, "n%d" % i, "js", "weir", "wal", "wal-*.log")):
        with open(path, "rb") as f:
            found[path] = f.read()
    return found


def test_a_replica_whose_log_lost_a_change_of_members_is_built_anew():
    """Its store knows more than what is left of its log, which tells of members of before."""
    with JsCluster(4, config=NO_SCRUB) as c:
        expected = fill(c)
        leader = c.leader("S")
        js = Js(leader)
        js.create("T", ["t.>"], 4)
        held = [n for n in c.nodes if n.http("/replicaz?stream=S")[0] == 200]
        victim, gone = [n for n in held if n is not leader]
        i = c.nodes.index(victim)

        def is_flushed():
            r = replica(victim)
            return r["flushed"] == r["applied"]
        wait_until("a flush", is_flushed, 20, 0.1)
        before = wal_of(c, i)
        js.ok("STREAM.PEER.REMOVE.S", {"peer": gone.name}, 10)
        new = next(n for n in c.nodes if n not in held)

        def is_moved():
            return all(n.http("/replicaz?stream=S")[0] == 200 and
                       sorted((m["server"], m["role"]) for m in replica(n)["members"]) ==
                       sorted((m.name, "voter") for m in (leader, victim, new)) for n in (leader, victim, new))
        wait_until("the move", is_moved, 30, 0.1)
        for n in range(COUNT + 1, COUNT + 51):
            assert js.publish("s.1", payload(n))["seq"] == n
            expected[n] = payload(n)
        wait_until("a flush", is_flushed, 20, 0.1)
        lost = wal_of(c, i)
        js.publish("t.1", b"behind what is lost")  # Or it would be a disk that was set back.
        wait_until("T", lambda: b"behind what is lost" in b"".join(wal_of(c, i).values()), 10, 0.1)
        old = replica(victim)["raft_id"]
        victim.kill()
        for path, data in lost.items():
            was = before.get(path, bytes(len(data)))
            changed = [at for at in range(4096, len(data), 4096) if data[at:at + 4096] != was[at:at + 4096]]
            for at in changed:
                overwrite(path, at, lambda b: b"\x5a" * len(b), 4096)
        victim.start()
        c.wait_ready(timeout=60)
        victim.wait_log(r"its log lost a change of its members", 30)
        wait_until("another replica", lambda: victim.http("/replicaz?stream=S")[0] == 200 and
                   replica(victim)["raft_id"] != old, 30, 0.1)
        nodes = [leader, victim, new]
        c.same("S", nodes=nodes, timeout=60)
        wait_until("its members", is_moved, 30, 0.1)
        for node in nodes:
            assert dump(node, "S") == expected, node.name


def test_logs_that_are_rotten_at_the_end_on_all_three_come_back():
    """None of them can prove that it lacks nothing: neither the replicas of meta nor those of the stream, which wait for
    meta's word on who they are."""
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        c.same("S")
        time.sleep(0.5)
        for node in c.nodes:
            node.signal(signal.SIGSTOP)
        for node in c.nodes:
            node.kill()
        for i, node in enumerate(c.nodes):
            path, data = max(wal_of(c, i).items())
            last = max(at for at in range(4096, len(data), 4096) if any(data[at:at + 4096]))
            overwrite(path, last + 40, lambda b: bytes([b[0] ^ 0x10]), 1)
        began = time.monotonic()
        start_all(c)
        for node in c.nodes:
            node.wait_log(r"may have lost|rotten|damage", 10)
        c.wait_ready(timeout=30)
        c.same("S", timeout=30)
        print("     level after %.1f s" % (time.monotonic() - began))
        for node in c.nodes:
            assert dump(node, "S") == expected, node.name
            assert not set_aside(c, c.nodes.index(node))
        assert Js(c.nodes[0]).publish("s.1", b"on")["seq"] == COUNT + 1


def test_a_node_whose_journal_is_damaged_in_both_copies_says_how_to_join_again():
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        stop_all(c)
        for path in journal(c, 1):
            overwrite(path, 4096 + 60, lambda b: bytes([b[0] ^ 1]), 1)
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


def test_a_node_whose_log_lost_its_beginning_starts_or_says_how_to_join_again():
    """Also where there are records of the meta group, and those that say whose they are were lost."""
    with JsCluster(3, config=NO_SCRUB) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        for i in range(20):
            assert js.publish("s", b"%d" % i)
        for i in range(5):  # Meta's records are in the rest of the log too.
            js.create("T%d" % i, ["t%d" % i], 1)
        victim = c.nodes[2]
        victim.kill()
        folder, copy = os.path.join(victim.folder, "js"), os.path.join(victim.folder, "copy")
        shutil.copytree(folder, copy)
        refused = 0
        for pages in range(1, 8):
            shutil.rmtree(folder)
            shutil.copytree(copy, folder)
            path, = glob.glob(os.path.join(folder, "weir", "wal", "wal-*.log"))
            overwrite(path, 4096, lambda b: bytes(len(b)), pages * 4096)
            victim.start(ready=False)
            wait_until("a start or an end", lambda: victim.process.poll() is not None
                       or "Server is ready" in victim.log(), 20)
            if victim.process.poll() is not None:
                refused += 1
                assert "Remove " in victim.log() or " aside and start again" in victim.log(), victim.log()
            victim.kill()
        assert refused > 0
        shutil.rmtree(folder)
        victim.start()
        c.wait_ready(timeout=60)
        wait_until("a replica", lambda: victim.http("/replicaz?stream=S")[0] == 200, 60)
        c.same("S", timeout=60)


def test_a_replica_that_cannot_be_mended_because_the_others_went_on_is_built_anew():
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c)
        old = replica(c.nodes[1])["raft_id"]
        stop_all(c)
        first, last = Blocks(c, 1).ruin_index(0)
        c.nodes[0].start()
        c.nodes[2].start()
        c.wait_ready([c.nodes[0], c.nodes[2]], timeout=30)
        js = Js(c.nodes[0])
        # Some of those that are damaged there go: what was live at node 1's checkpoint nobody can tell any more.
        for seq in range(first, first + 20):
            js.ok("STREAM.MSG.DELETE.S", {"seq": seq})
            del expected[seq]
        c.nodes[1].start()

        def check():
            status, body = c.nodes[1].http("/replicaz?stream=S")
            return status == 200 and json.loads(body)["raft_id"] != old
        wait_until("another replica", check, 60)
        c.same("S", timeout=60)
        assert len(set_aside(c, 1)) == 1
        for node in c.nodes:
            assert dump(node, "S") == expected, node.name


if __name__ == "__main__":
    run(globals())
