"""Each kind of file in a node's data directory damaged while the node is stopped: a flipped bit, half of it gone, empty,
missing. The node starts and has everything, or it says which file is damaged and what to do, and ends. The table in
docs/reliability.md is this one."""

import contextlib
import glob
import json
import os
import shutil
import tempfile

from damage import NO_SCRUB, fill, overwrite, payload, start_all, stop_all
from weir_cluster import Single, run, wait_until
from weir_js import Js, JsCluster, dump

FEW = 300


def newest(pattern):
    def find(weir):
        return [sorted(glob.glob(os.path.join(weir, pattern)))[-1]]
    return find


def these(*names):
    return lambda weir: [os.path.join(weir, n) for n in names]


# (what, its files, what a flipped bit, half of it gone, an empty one and a missing one do, log of a refusal)
FILES = [
    ("identity", these("identity"), "HHHH", None),
    ("copy of the identity", these("identity.copy"), "HHHH", None),
    ("lock", these("lock"), "HHHH", None),
    ("reserve", these("reserve"), "HHHH", None),
    ("journal of checkpoints", newest("store/ckpt-*.journal"), "HHHH", None),
    ("copy of the journal", newest("store/ckpt-*.mirror"), "HHHH", None),
    ("both identities", these("identity", "identity.copy"), "RRRR", r"/identity (is corrupt|and its copy are)"),
    ("all of the log", these("wal"), "---R", r"log in .*/wal does not know the meta group"),
    ("all of the store", these("store"), "---R", r"checkpoints in .*/store hold less"),
]
ALONE = [  # Each start begins a segment: what is in the store is known to the others.
    ("newest segment of the log", newest("wal/wal-*.log"), "HHHH", None),
]
OF_CLUSTERS = [
    ("birth record", these("birth"), "HHHH", None),
    ("copy of the birth record", these("birth.copy"), "HHHH", None),
    ("both birth records", these("birth", "birth.copy"), "RRRR", r"birth record .*/birth (cannot be read|is missing)"),
    ("block", newest("store/data-*.wblk"), "HHHH", None),  # From other nodes.
    ("newest segment of the log", newest("wal/wal-*.log"), "H---", None),
]


def flip(path):
    size = os.path.getsize(path)
    if size == 0:
        with open(path, "wb") as f:  # A lock says nothing.
            f.write(b"x")
        return
    # Of large files in the first frame or block, where something is.
    at = 200 if path.endswith(".wblk") else 4096 + 60 if size > 4096 else size // 2
    overwrite(path, at, lambda b: bytes([b[0] ^ 1]), 1)


def cut(path):
    os.truncate(path, os.path.getsize(path) // 2)


def empty(path):
    os.truncate(path, 0)


def lose(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def check_heals(node, expected, what):
    node.start()
    wait_until("%s to be healthy with damage to its %s" % (node.name, what),
               lambda: node.http("/healthz")[0] == 200 and node.http("/replicaz?stream=S")[0] == 200, 30)
    assert dump(node, "S") == expected, what
    node.stop()
    node.start()  # And nothing of it is left.
    wait_until("another start", lambda: node.http("/healthz")[0] == 200, 30)
    assert "Damage in" not in node.log() and "is damaged" not in node.log(), (what, node.log())
    node.stop()


def check_refuses(node, weir, what, log):
    node.start(ready=False)
    assert node.wait_exit(20) == 1, (what, node.log())
    node.wait_log(log, 1)
    node.wait_log(r"[Mm]ove .*/weir aside and start again|back from a backup; or move it aside", 1)


def each_damage(node, weir, expected, files):
    for what, find, outcomes, log in files:
        for change, outcome in zip((flip, cut, empty, lose), outcomes):
            paths = find(weir)
            is_empty = os.path.isfile(paths[0]) and os.path.getsize(paths[0]) == 0
            if outcome == "-" or (change in (cut, empty) and is_empty):
                continue
            case = "%s, %s" % (what, change.__name__)
            kept = weir + ".kept"
            shutil.copytree(weir, kept)
            for path in paths:
                change(path)
            if outcome == "H":
                check_heals(node, expected, case)
                shutil.rmtree(kept)
            else:
                check_refuses(node, weir, case, log)
                shutil.rmtree(weir)  # It never ran on it: nothing is set back.
                os.rename(kept, weir)
            print("     %s: %s" % (case, "heals" if outcome == "H" else "refuses"), flush=True)


def test_each_file_of_one_of_three_nodes():
    with JsCluster(3, config=NO_SCRUB) as c:
        expected = fill(c, FEW)
        stop_all(c)
        node = c.nodes[2]
        c.nodes[0].start()
        c.nodes[1].start()
        c.wait_ready(c.nodes[:2], timeout=30)
        weir = os.path.join(c.folder, "n2", "js", "weir")
        each_damage(node, weir, expected, FILES + OF_CLUSTERS)
        # Its end is gone, and others have seen it: as a disk that was set back. What the node says then helps.
        lose(newest("wal/wal-*.log")(weir)[0])
        node.start(ready=False)

        assert node.wait_exit(60) == 1, node.log()
        node.wait_log(r"Remove .*/weir to let the node join", 1)
        os.rename(weir, weir + ".aside")
        node.start()
        c.wait_ready(timeout=60)
        wait_until("a replica", lambda: node.http("/replicaz?stream=S")[0] == 200, 60)
        c.same("S", timeout=60)
        assert dump(node, "S") == expected


@contextlib.contextmanager
def lone():
    with tempfile.TemporaryDirectory(prefix="weir-") as store, \
            Single(config='jetstream { store_dir: "%s", scrub_rate: 0 }' % store) as node:
        wait_until("JetStream", lambda: node.http("/healthz")[0] == 200)
        yield node, os.path.join(store, "weir")


def test_each_file_of_a_node_without_a_cluster():
    with lone() as (node, weir):
        js = Js(node)
        js.create("S", ["s.>"])
        expected = {}
        for n in range(1, FEW + 1):
            assert js.publish("s.a", payload(n))
            expected[n] = payload(n)
        js.close()
        node.stop()
        each_damage(node, weir, expected, FILES + ALONE)


def test_a_block_without_other_replicas_is_named_and_the_rest_is_served():
    with lone() as (node, weir):
        js = Js(node)
        js.create("S", ["s.>"])
        js.create("T", ["t.>"])
        for n in range(1, FEW + 1):
            assert js.publish("s.a", payload(n)) and js.publish("t.a", payload(n))
        js.close()
        node.stop()
        path = newest("store/data-*.wblk")(weir)[0]
        with open(path, "rb") as f:
            data = f.read()
        at = data.index(payload(150))
        overwrite(path, at, lambda b: bytes([b[0] ^ 1]), 1)
        node.start()
        wait_until("JetStream", lambda: node.http("/healthz")[0] == 200)
        js = Js(node)
        got = {name: [js.get(name, n) for n in range(1, FEW + 1)] for name in "ST"}
        bad = [(name, n + 1) for name in "ST" for n in range(FEW) if "error" in got[name][n]]
        assert len(bad) == 1 and bad[0][1] == 150, bad
        assert "damaged" in got[bad[0][0]][149]["error"]["description"], got
        node.wait_log(r"Damage in .*\.wblk: .* \(stream %s, group \d+, sequences 150 to 150\)" % bad[0][0], 5)


def test_messages_that_no_index_knows_any_more_are_damaged_and_not_unknown():
    """Half of a block is gone, and its index with it, where there is no other replica."""
    with lone() as (node, weir):
        js = Js(node)
        js.create("S", ["s.>"], allow_direct=True)
        for n in range(1, FEW + 1):
            assert js.publish("s.a", payload(n))
        js.close()
        node.stop()
        node.start()
        wait_until("JetStream", lambda: node.http("/healthz")[0] == 200)
        js = Js(node)
        js.ok("STREAM.MSG.DELETE.S", {"seq": 299})  # In the journal, not in the block: that one is known to be gone.
        node.stop()
        cut(newest("store/data-*.wblk")(weir)[0])
        for _ in range(2):
            node.start()
            wait_until("JetStream", lambda: node.http("/healthz")[0] == 200)
            wait_until("the loss to be told", lambda: node.json("/replicaz?stream=S")["lost"], 20)
            js = Js(node)
            lost = [n for first, last in node.json("/replicaz?stream=S")["lost"] for n in range(first, last + 1)]
            assert len(lost) > 20 and 300 in lost and 299 not in lost, lost
            node.wait_log(r"Stream S: the messages from \d+ to 300 are damaged on every replica", 5)
            for n in range(1, FEW + 1, 7):
                got = js.get("S", n)
                assert ("error" in got) == (n in lost), (n, got)
                assert n not in lost or "damaged" in got["error"]["description"], got
            assert js.get("S", 300)["error"]["err_code"] == 10051
            assert js.get("S", 299)["error"]["err_code"] == 10037
            status, body = node.http("/replicaz?stream=S&dump=1", 60)
            lines = [json.loads(line) for line in body.splitlines()]
            assert status == 200 and [m["seq"] for m in lines if "error" in m] == lost
            node.stop()


if __name__ == "__main__":
    run(globals())
