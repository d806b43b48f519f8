"""A full disk refuses publishes and nothing else, and takes them again when there is room. The disks are small file
systems of their own, in a mount namespace that goes with the test."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time

from test_stops import led_by
from weir_cluster import Single, binary, run, wait_until
from weir_js import Js, JsCluster, Publisher

DISK_MIB = 512
REFUSED = 10023  # insufficient resources
CONFIG = 'jetstream { store_dir: "%s", disk_reserve: 256M }'


@contextlib.contextmanager
def disk(inodes=None):
    """A file system of DISK_MIB, of so many inodes or as many as usual; its folder."""
    base = tempfile.mkdtemp(prefix="weir-")
    options = "size=%dm" % DISK_MIB + (",nr_inodes=%d" % inodes if inodes else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", base], check=True)
    try:
        yield base
    finally:
        subprocess.run(["umount", "-l", base], check=True)
        os.rmdir(base)


def free_mib(folder):
    v = os.statvfs(folder)
    return v.f_bavail * v.f_frsize / (1 << 20)


def fill(folder, leave_mib=0):
    """Others use the disk, down to so much, or until nothing is left. At once: what takes its time takes also what the node
    gives way of its reserve meanwhile."""
    with open(os.path.join(folder, "others"), "ab", buffering=0) as f:
        v = os.statvfs(folder)
        size = v.f_bavail * v.f_frsize - (leave_mib << 20)
        while size >= v.f_frsize:
            try:
                os.posix_fallocate(f.fileno(), os.fstat(f.fileno()).st_size, size)
                return
            except OSError as e:  # The node has taken some of it since.
                assert e.errno == errno.ENOSPC
                size -= 1 << 20


def publish_until_refused(node, subject, most):
    """How many were taken; the rest was refused, in the order of publishing."""
    p = Publisher(node)
    payload = os.urandom(64 << 10)
    while p.sent < most:
        for _ in range(50):
            p.send(subject, payload)
        p.drain(60)
        if any(a is None or "error" in a for a in p.acks.values()):
            break
    taken = [n for n, a in p.acks.items() if a is not None and "error" not in a]
    refused = [a for a in p.acks.values() if a is None or "error" in a]
    p.close()
    assert refused, "%d publishes were taken" % p.sent
    assert all(a is not None and a["error"]["err_code"] == REFUSED for a in refused), refused[:3]
    return len(taken)


def is_refused(js, subject):
    reply = js.publish(subject, b"x" * 100)
    assert reply is not None
    if "error" in reply:
        assert reply["error"]["err_code"] == REFUSED and reply["error"]["code"] == 503, reply
    return "error" in reply


def is_flushed(node, stream):
    r = node.json("/replicaz?stream=" + stream)
    return r["flushed"] == r["applied"]


def everything_else(js, stream, consumer, tag):
    """What is no publish."""
    got = js.fetch(stream, consumer, 5, 3)
    assert len(got) == 5, len(got)
    for seq, _, reply in got:
        assert "error" not in js.get(stream, seq)
        js.ack(reply)
    js.consumer(stream, "T" + tag)
    assert len(js.fetch(stream, "T" + tag, 3, 3)) == 3
    js.ok("CONSUMER.DELETE.%s.T%s" % (stream, tag))
    js.ok("STREAM.MSG.DELETE.%s" % stream, {"seq": got[0][0]})
    info = js.info(stream)
    js.ok("STREAM.UPDATE." + stream, dict(info["config"], description=tag))


def test_a_full_disk_refuses_publishes_only():
    with disk() as d, Single(config=CONFIG % d) as node:
        wait_until("JetStream", lambda: node.http("/healthz")[0] == 200)
        js = Js(node)
        js.create("S", ["s"])
        js.create("OTHER", ["other"])
        js.consumer("S", "C")
        taken = publish_until_refused(node, "s", 10000)
        print("     %d MiB were taken of %d, %d are free" % (taken / 16, DISK_MIB, free_mib(d)))
        assert taken / 16 > 64
        state = js.info("S")["state"]
        assert state["messages"] == taken, (state, taken)
        assert is_refused(js, "other")
        assert js.api("STREAM.CREATE.NEW", {"name": "NEW", "subjects": ["new"]})["error"]["err_code"] == 10047
        everything_else(js, "S", "C", "a")
        # What was taken needs its room in blocks first: a node whose writes find none stops.
        wait_until("a flush", lambda: is_flushed(node, "S"), 30)
        fill(d)
        for i in range(3):
            everything_else(js, "S", "C", "b%d" % i)
            time.sleep(0.5)
        assert is_refused(js, "s")
        messages = js.info("S")["state"]["messages"]
        # A node starts on a full disk, too.
        node.stop()
        node.start()
        wait_until("JetStream", lambda: node.http("/healthz")[0] == 200)
        js = Js(node)
        assert js.info("S")["state"]["messages"] == messages
        assert is_refused(js, "s")
        everything_else(js, "S", "C", "c")
        # Room made by a purge, while the others stay.
        os.truncate(os.path.join(d, "others"), 1)
        js.ok("STREAM.PURGE.S")
        wait_until("publishes to be taken", lambda: not is_refused(js, "s"), 30, 0.2)
        assert "has room again" in node.log()
        js.close()


def test_a_disk_that_takes_few_more_files_refuses_publishes_only():
    with disk(inodes=2000) as d, Single(config=CONFIG % d) as node:
        wait_until("JetStream", lambda: node.http("/healthz")[0] == 200)
        js = Js(node)
        js.create("S", ["s"])
        js.consumer("S", "C")
        for _ in range(30):
            assert not is_refused(js, "s")
        others = os.path.join(d, "others")
        os.mkdir(others)
        while os.statvfs(d).f_favail > 100:
            os.close(os.open(os.path.join(others, "%d" % os.statvfs(d).f_favail), os.O_CREAT | os.O_WRONLY))
        wait_until("refusals", lambda: is_refused(js, "s"), 5)
        assert "more files" in node.log()
        for i in range(2):
            everything_else(js, "S", "C", "f%d" % i)
            assert is_refused(js, "s")
            time.sleep(4)  # Flush passes.
        node.stop()
        node.start()
        wait_until("JetStream", lambda: node.http("/healthz")[0] == 200)
        js = Js(node)
        assert is_refused(js, "s")
        log = node.log()  # Not one publish is taken before it looks.
        assert log.index("more files") < log.index("new stream leader"), log
        everything_else(js, "S", "C", "g")
        shutil.rmtree(others)
        wait_until("publishes to be taken", lambda: not is_refused(js, "s"), 5, 0.2)
        assert "has room again" in node.log()
        js.close()


def test_one_full_disk_of_three():
    with disk() as d, JsCluster(3, stores={0: d}, config="jetstream { disk_reserve: 256M }") as c:
        full, others = c.nodes[0], c.nodes[1:]
        js = Js(others[0])
        for k in range(3):
            js.create("S%d" % k, ["s%d" % k], 3)
            js.consumer("S%d" % k, "C")
            for _ in range(60):
                js.publish("s%d" % k, b"m")
        wait_until("it to lead", lambda: led_by(full), 15)
        # Little room: others lead, and publishing goes on.
        fill(d, 70)
        wait_until("others to lead", lambda: not led_by(full) and
                   sum(len(led_by(n)) for n in others) == 3, 15)
        wait_until("publishes", lambda: not any(is_refused(js, "s%d" % k) for k in range(3)))
        # No room: what it has to store is not published any more.
        fill(d)
        wait_until("refusals", lambda: all(is_refused(js, "s%d" % k) for k in range(3)), 10)
        for k in range(3):
            everything_else(js, "S%d" % k, "C", "a")
        js.create("R1", ["r1"], 1)
        assert not is_refused(js, "r1") or c.leader("R1") is full
        before = c.leader("S0")
        js.ok("STREAM.LEADER.STEPDOWN.S0")
        wait_until("another leader", lambda: c.leader("S0") is not before)
        victim = c.leader("S1")  # The full one votes.
        victim.kill()
        left = next(n for n in others if n is not victim)
        c.leader("S1", 15, [left])
        js = Js(left)
        everything_else(js, "S1", "C", "b")
        victim.start()
        c.wait_ready(timeout=30)
        os.truncate(os.path.join(d, "others"), 0)
        for k in range(3):
            wait_until("publishes to be taken", lambda: not is_refused(js, "s%d" % k), 20, 0.2)
            c.same("S%d" % k)
        assert full.process.poll() is None
        js.close()


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("SKIP: needs root for a file system of its own")
        sys.exit(77)
    if "WEIR_OWN_MOUNTS" not in os.environ:
        os.environ["WEIR_OWN_MOUNTS"] = "1"
        os.execvp("unshare", ["unshare", "-m", sys.executable] + sys.argv)
    run(globals())
