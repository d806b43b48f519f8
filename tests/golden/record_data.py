#!/usr/bin/python3
"""Records golden data directories with the build of this tree: record_data.py VERSION writes data/one_vVERSION.tar.xz
and data/three_vVERSION.tar.xz, unless they are there; record_data.py meta VERSION data/meta_vVERSION.tar.xz, of
streams that are where tags say, and of a server that was removed."""

import os
import re
import shutil
import signal
import sys
import tempfile
import time

import golden_data
from golden_data import YEARS_20, ask, cluster_on, meta_hashes, pack, replicas, wait_led
from weir_cluster import wait_until
from weir_js import Js, Publisher

MESSAGES = 120
IDS = 20
CHANGED = ("KV", "WORK", "LOG")  # By change().


def header(i, **more):
    lines = "".join("%s: %s\r\n" % (k.replace("_", "-"), v) for k, v in more.items())
    return "NATS/1.0\r\nNumber: %d\r\n%s\r\n" % (i, lines)


def publish(js, subjects, count, first=0, ids=None):
    """To one after the other; the sequences by message id, if there are @ids."""
    p = Publisher(js.node)
    for i in range(first, first + count):
        subject = subjects[i % len(subjects)]
        body = (b"%s %d " % (subject.encode(), i)) * (1 + i % 40)
        more = {"Nats_Msg_Id": ids[i - first]} if ids else {}
        p.send(subject, body, header(i, **more) if ids or i % 3 == 0 else None)
    p.drain()
    p.close()
    assert all("seq" in ack for ack in p.acks.values()), p.acks
    return {name: p.acks[i]["seq"] for i, name in enumerate(ids or ())}


def consume(js, stream, name, acks):
    """Deliver so many messages and do with each what acks says: + ack, - nak, ! term, = in progress, . nothing."""
    got = js.fetch(stream, name, len(acks))
    assert len(got) == len(acks), (stream, name, len(got))
    for what, (_, _, reply) in zip(acks, got):
        body = {"+": b"+ACK", "-": b'-NAK {"delay": %d}' % YEARS_20, "!": b"+TERM no use", "=": b"+WPI"}.get(what)
        if body is not None:
            js.client.request(reply, body)


def fill(js, r):
    """Streams of all kinds, with up to @r replicas, and the ids of messages in their window: {stream: {id: seq}}."""
    wait = {"ack_wait": YEARS_20}
    js.create("KV", ["kv.>"], r, max_msgs_per_subject=2, allow_rollup_hdrs=True, duplicate_window=YEARS_20,
              metadata={"of": "gold"}, description="a few of each key", allow_direct=True)
    js.consumer("KV", "all", **wait)
    js.consumer("KV", "upto", ack_policy="all", **wait)
    js.consumer("KV", "none", ack_policy="none")
    js.consumer("KV", "lasts", deliver_policy="last_per_subject", filter_subject="kv.>", **wait)
    js.consumer("KV", "some", filter_subject="kv.1", max_deliver=3, backoff=[YEARS_20, YEARS_20], max_ack_pending=50)
    publish(js, ["kv.%d" % i for i in range(20)], MESSAGES)
    ids = {"KV": publish(js, ["kv.id.a", "kv.id.b"], IDS, ids=["early-%d" % i for i in range(IDS)])}
    js.publish("kv.3", b"rolled up", header(0, Nats_Rollup="sub"))
    consume(js, "KV", "all", "++.+-!=+")
    consume(js, "KV", "upto", "...+..")
    consume(js, "KV", "lasts", "+.+")
    consume(js, "KV", "some", "+")

    js.create("WORK", ["work.*"], r, discard="new", max_msgs=5 * MESSAGES, max_bytes=1 << 20, max_msg_size=4096,
              max_consumers=3, duplicate_window=0)
    js.consumer("WORK", "a", filter_subject="work.a", **wait)
    js.consumer("WORK", "b", filter_subject="work.b", deliver_policy="by_start_sequence", opt_start_seq=20, **wait)
    js.consumer("WORK", "new", deliver_policy="new", **wait)
    publish(js, ["work.a", "work.b"], MESSAGES)
    consume(js, "WORK", "a", "+++..+-+")
    consume(js, "WORK", "b", "!+=.+")
    consume(js, "WORK", "new", "+.++++.+")

    js.create("LOG", ["log.>"], r, first_seq=1000, max_msgs=100, storage="memory", compression="none")
    publish(js, ["log.%d.x" % i for i in range(5)], MESSAGES)
    for seq in (1050, 1051, 1060):
        js.ok("STREAM.MSG.DELETE.LOG", {"seq": seq})
    js.ok("STREAM.PURGE.LOG", {"filter": "log.2.x", "keep": 3})
    js.consumer("LOG", "gone")
    js.ok("CONSUMER.DELETE.LOG.gone")

    js.create("SEALED", ["sealed"], 1)
    publish(js, ["sealed"], 10)
    js.ok("STREAM.UPDATE.SEALED", {"name": "SEALED", "subjects": ["sealed"], "sealed": True})

    js.create("DELETED", ["deleted"], r)
    publish(js, ["deleted"], 10)
    js.delete("DELETED")
    js.create("EMPTY", ["empty"], r)
    publish(js, ["empty"], 10)
    js.ok("STREAM.PURGE.EMPTY")
    return ids


def change(js, ids):
    """What is in the write-ahead log alone when the nodes are killed."""
    late = ["late-%d" % i for i in range(IDS)]
    ids["KV"].update(publish(js, ["kv.id.b", "kv.id.c"], IDS, ids=late))
    publish(js, ["kv.5"], 3, 900)
    js.ok("STREAM.MSG.DELETE.KV", {"seq": ids["KV"][late[-1]]})
    consume(js, "KV", "all", "+.+")
    publish(js, ["work.a"], 5, 900)
    consume(js, "WORK", "a", "+-+")
    publish(js, ["log.7.x"], 30, 900)
    js.ok("STREAM.PURGE.LOG", {"filter": "log.1.x"})
    js.consumer("LOG", "late", ack_wait=YEARS_20)
    consume(js, "LOG", "late", "+.")


def places(c, stream):
    return {n.name for n in c.nodes if stream in replicas(n)}


def move(c, js):
    """Membership that is not what it was at birth."""
    js.create("MOVED", ["moved"], 1)
    publish(js, ["moved"], 40)
    first = places(c, "MOVED")
    js.ok("STREAM.PEER.REMOVE.MOVED", {"peer": min(first)})
    wait_until("MOVED elsewhere", lambda: len(places(c, "MOVED")) == 1 and places(c, "MOVED") != first, 60)
    publish(js, ["moved"], 10, 40)
    for name, before, after in (("GROWN", 1, 3), ("SHRUNK", 3, 2)):
        subject = name.lower()
        js.create(name, [subject], before)
        publish(js, [subject], 40)
        js.ok("STREAM.UPDATE." + name, {"name": name, "subjects": [subject], "num_replicas": after})
        wait_until("%s on %d nodes" % (name, after), lambda: len(places(c, name)) == after, 60)
        publish(js, [subject], 10, 40)


def quiet(c):
    """All replicas have flushed what they have applied, and applied what is committed."""
    def check():
        all_of_them = [r for n in c.nodes for r in replicas(n).values()]
        return all(r["state"] == "ok" and r["flushed"] == r["applied"] == r["commit"] for r in all_of_them)
    wait_until("all to be flushed", check, 60, 0.1)
    return {n.name: {s: {"index": r["flushed"], "hash": r["hash"]} for s, r in replicas(n).items()} for n in c.nodes}


def digests(node):
    """The last of each stream: {stream: {index, hash}}."""
    pattern = r"Stream (\S+): digest at index (\d+), hash (\w+)"
    return {s: {"index": int(i), "hash": h} for s, i, h in re.findall(pattern, node.log())}


def record(path, count):
    folder = tempfile.mkdtemp(prefix="weir-golden-")
    try:
        with cluster_on(folder, count) as c:
            js = Js(c.nodes[0])
            ids = fill(js, count)
            if count > 1:
                move(c, js)
            js.close()
            quiet(c)
            for node in c.nodes:  # Second boots, and LEAD entries in the logs.
                node.stop()
            for node in c.nodes:
                node.start()
            c.wait_ready()
            wait_led(c)
            js = Js(c.nodes[0])
            time.sleep(6)  # After the digests that follow an election the next ones come at once.
            flushed = quiet(c)
            began = time.monotonic()
            change(js, ids)
            if count > 1:
                for s in CHANGED:
                    wait_until("the digest of " + s, lambda: all(
                        digests(n).get(s, {"index": 0})["index"] > flushed[n.name][s]["index"]
                        for n in c.nodes if s in flushed[n.name]), 4)
            streams = ask(c)
            tails = {n.name: {} for n in c.nodes}
            for node in c.nodes:
                for s, r in replicas(node).items():
                    assert r["flushed"] == flushed[node.name][s]["index"], \
                        "%s on %s was flushed meanwhile: try again" % (s, node.name)
                    tails[node.name][s] = r["commit"] - r["flushed"]
                node.signal(signal.SIGSTOP)  # None flushes while others are killed.
            print("%.1f s of changes; entries in the log alone: %s" % (time.monotonic() - began, tails))
            for node in c.nodes:
                assert all(tails[node.name].get(s, 1) > 0 for s in CHANGED), tails
                node.kill()
            expected = {"nodes": count, "streams": streams, "flushed": flushed, "ids": ids,
                        "digests": {n.name: digests(n) for n in c.nodes}}
        pack(path, folder, expected)
        print("%s: %d bytes" % (path, os.path.getsize(path)))
    finally:
        shutil.rmtree(folder)


# ---- The meta group's own ----

TAGS = (["ssd", "az:a"], ["ssd", "az:b"], ["hdd", "az:c"], ["gone"])


def placed(js, name, replicas, tags, verb="CREATE", **more):
    """As soon as meta has heard of the nodes' tags."""
    body = dict({"name": name, "subjects": [name.lower()], "num_replicas": replicas, "retention": "limits",
                 "storage": "file", "placement": {"tags": tags}}, **more)
    wait_until(name + " to be placed", lambda: "error" not in js.api("STREAM.%s.%s" % (verb, name), body), 30, 0.1)


def remove_last(c, js):
    """A server goes for good, and what it had is elsewhere."""
    js.create("WIDE", ["wide"], 3)
    publish(js, ["wide"], 20)
    gone = c.nodes.pop()
    gone.kill()
    wait_until("the removal", lambda: js.api("SERVER.REMOVE", {"peer": gone.name}).get("success"), 30, 0.1)
    wait_until("WIDE elsewhere", lambda: len(places(c, "WIDE")) == 3, 60, 0.1)


def record_meta(path):
    folder = tempfile.mkdtemp(prefix="weir-golden-")
    try:
        with cluster_on(folder, 4, tags=TAGS) as c:
            js = Js(c.nodes[0])
            placed(js, "FAST", 2, ["ssd"])
            placed(js, "MOVED", 1, ["az:a"])
            placed(js, "DELETED", 1, ["gone"])
            js.delete("DELETED")
            for subject in ("fast", "moved"):
                publish(js, [subject], 20)
            placed(js, "MOVED", 1, ["az:c"], "UPDATE")
            wait_until("MOVED on n2", lambda: places(c, "MOVED") == {"n2"}, 60, 0.1)
            remove_last(c, js)
            flushed = quiet(c)
            time.sleep(12)  # Checkpoints of meta are written.
            quiet(c)
            placed(js, "LATE", 2, ["ssd"], description="after a checkpoint")
            placed(js, "FAST", 2, ["ssd"], "UPDATE", max_msgs=1000)
            js.delete("WIDE")
            publish(js, ["late"], 5)
            streams = ask(c)
            time.sleep(12)
            for i in range(3):  # In the log alone.
                placed(js, "GHOST%d" % i, 2, ["ssd"])
            for i in range(3):
                js.delete("GHOST%d" % i)
            for node in c.nodes:
                node.signal(signal.SIGSTOP)
            for node in c.nodes:
                node.kill()
            meta = {n.name: max(meta_hashes(n, "applied").items()) for n in c.nodes}
            assert len(set(meta.values())) == 1, meta
            for node in flushed:
                flushed[node] = {s: at for s, at in flushed[node].items() if s == "MOVED"}  # It stays as it was.
            expected = {"nodes": 3, "streams": streams, "ids": {}, "digests": {n.name: {} for n in c.nodes},
                        "flushed": flushed, "meta": {n: {"index": i, "hash": h} for n, (i, h) in meta.items()}}
        shutil.rmtree(os.path.join(folder, "n3"))
        pack(path, folder, expected)
        print("%s: %d bytes" % (path, os.path.getsize(path)))
    finally:
        shutil.rmtree(folder)


def main():
    os.makedirs(golden_data.DATA, exist_ok=True)
    if sys.argv[1] == "meta":
        path = os.path.join(golden_data.DATA, "meta_v%s.tar.xz" % sys.argv[2])
        if os.path.exists(path):
            print("%s is there already" % path)
        else:
            record_meta(path)
        return
    for name, count in (("one", 1), ("three", 3)):
        path = os.path.join(golden_data.DATA, "%s_v%s.tar.xz" % (name, sys.argv[1]))
        if os.path.exists(path):
            print("%s is there already" % path)
        else:
            record(path, count)


if __name__ == "__main__":
    main()
