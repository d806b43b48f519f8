"""Today's build on data directories that earlier builds left (tests/golden): every stream, message, consumer and hash is
what it was when they were recorded, and all of it goes on from there."""

import glob
import os
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))

from golden_data import DATA, ask, cluster_on, meta_hashes, unpack, wait_led  # noqa: E402
from weir_cluster import run, wait_until  # noqa: E402
from weir_js import Js  # noqa: E402

WAIT = 60  # Whatever else this machine does.
WHAT_TO_DO = """%s
This build does not read what earlier builds wrote as they did. If a format has changed: read the old one too. If what
apply does has changed: that needs a new machine version (tests/golden/README.md). Do not record these data anew."""


def same(what, now, then):
    """Goes down to what differs, so that the message is short."""
    if isinstance(now, dict) and isinstance(then, dict):
        for key in sorted(set(now) | set(then)):
            same("%s, %s" % (what, key), now.get(key), then.get(key))
    else:
        assert now == then, WHAT_TO_DO % ("%s: now %.300r, then %.300r" % (what, now, then))


def logged(node, what):
    """{(stream, index): hash}"""
    pattern = r"Stream (\S+): %s at index (\d+), hash (\w+)" % what
    return {(s, int(i)): h for s, i, h in re.findall(pattern, node.log())}


def check_hashes(c, then):
    """Of the checkpoints that were loaded, and of states on the way through the log."""
    for node in c.nodes:
        restored = logged(node, "restored")
        for stream, at in then["flushed"][node.name].items():
            same("hash of %s's checkpoint on %s" % (stream, node.name), restored.get((stream, at["index"])), at["hash"])
        for stream, at in then["digests"][node.name].items():
            if at["index"] <= then["flushed"][node.name][stream]["index"]:
                continue  # The log from there is not read again.
            key = (stream, at["index"])
            wait_until("%s's digest at index %d on %s" % (stream, at["index"], node.name),
                       lambda: key in logged(node, "digest"), WAIT)
            same("hash of %s at index %d on %s" % (stream, at["index"], node.name), logged(node, "digest")[key],
                 at["hash"])
        assert "replicas differ" not in node.log() and "stops on this node" not in node.log(), \
            WHAT_TO_DO % node.log()[-3000:]
        assert "Damage in" not in node.log(), node.log()


def check_meta(c, then):
    """The state of the meta group at the end of its log, some of which no checkpoint has."""
    for node in c.nodes:
        at = then.get("meta", {}).get(node.name)
        if at is None:
            continue  # Of a build that did not log it.
        restored = meta_hashes(node, "restored at")
        assert restored and max(restored) < at["index"], (node.name, restored, at)
        wait_until("meta's index %d on %s" % (at["index"], node.name),
                   lambda: at["index"] in meta_hashes(node, "applied"), WAIT)
        same("hash of meta at index %d on %s" % (at["index"], node.name), meta_hashes(node, "applied")[at["index"]],
             at["hash"])


def check_reads(c, then):
    """Messages as clients get them, at each node."""
    for node in c.nodes:
        js = Js(node, timeout=WAIT)
        for stream, s in then["streams"].items():
            for seq, (subject, headers, data, time) in s["messages"].items():
                got = js.ok("STREAM.MSG.GET." + stream, {"seq": int(seq)})["message"]
                same("message %s of %s" % (seq, stream), [got["subject"], got.get("hdrs", ""), got.get("data", ""),
                                                          got["time"]], [subject, headers, data, time])
        js.close()


def check_goes_on(c, then):
    """Ids are still known, sequences go on, consumers too, and replicas stay equal."""
    js = Js(c.nodes[0], timeout=WAIT)
    for stream, ids in then["ids"].items():
        for name, seq in ids.items():
            ack = js.publish(then["streams"][stream]["config"]["subjects"][0].replace(">", "again"), b"again",
                             "NATS/1.0\r\nNats-Msg-Id: %s\r\n\r\n" % name)
            same("answer to id " + name, (ack.get("duplicate"), ack["seq"]), (True, seq))
    for stream, s in then["streams"].items():
        if s["config"]["sealed"]:
            continue
        last = s["state"]["last_seq"]
        subject = s["config"]["subjects"][0].replace(">", "x").replace("*", "a")
        same("next sequence of " + stream, js.publish(subject, b"on")["seq"], last + 1)
        for name, consumer in s["consumers"].items():
            if consumer["num_pending"] > 0 and consumer["config"]["ack_policy"] == "explicit":
                seq, data, reply = js.fetch(stream, name, 1)[0]
                assert seq > consumer["delivered"]["stream_seq"], (stream, name, seq, consumer)
                js.ack(reply)
        if len(s["places"]) > 1:
            c.same(stream, [n for n in c.nodes if n.name in s["places"]], WAIT)
    js.close()


def check(path):
    folder = tempfile.mkdtemp(prefix="weir-golden-")
    try:
        then = unpack(path, folder)
        with cluster_on(folder, then["nodes"]) as c:
            same("streams", sorted(wait_led(c, WAIT)), sorted(then["streams"]))
            check_hashes(c, then)
            check_meta(c, then)
            wait_until("all replicas to have applied", lambda: all(
                r["applied"] == r["commit"] and r["state"] == "ok"
                for n in c.nodes for r in n.json("/replicaz")["replicas"]), WAIT)
            same(os.path.basename(path), ask(c), then["streams"])
            check_reads(c, then)
            check_goes_on(c, then)
            print("     %s: %d streams, %d messages" % (os.path.basename(path), len(then["streams"]),
                                                       sum(len(s["messages"]) for s in then["streams"].values())))
    finally:
        shutil.rmtree(folder)


def test_data_of_earlier_builds():
    paths = sorted(glob.glob(os.path.join(DATA, "*.tar.xz")))
    assert len(paths) >= 3, paths
    for path in paths:
        check(path)


if __name__ == "__main__":
    run(globals())
