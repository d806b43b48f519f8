"""Three times what the nodes can take: memory stays bounded, nothing acknowledged is lost, and who publishes one message
after another goes on. Publishers without windows, a disk that is slow or a replica that is dead, subscribers that do not
read, and pulls by the thousand."""

import json
import os
import socket
import sys
import threading
import time

from test_disks import LIBRARY, DiskCluster
from weir_cluster import binary, run, wait_until
from weir_js import Js, dump, inbox

MIB = 1 << 20
SECONDS = float(os.environ.get("WEIR_OVERLOAD_SECONDS", "5"))
BLASTERS = 9  # Connections that publish as fast as they are read, three on each node.
RSS_MAX = 700 * MIB  # See docs/reliability.md for what it is made of.


def rss(node):
    with open("/proc/%d/statm" % node.process.pid) as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


class Blaster(threading.Thread):
    """Publishes without waiting for anything; acks are counted as they come."""

    def __init__(self, node, subject, payload):
        super().__init__(daemon=True)
        self.payload = payload
        self.client = node.client()
        self.subject = subject
        self.sent = self.refused = 0
        self.acked = set()  # Sequences.
        self.is_over = threading.Event()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.prefix = inbox()
        self.client.sub(self.prefix, "a")
        self.reader.start()

    def run(self):
        block = b"".join([b"PUB %s %s %d\r\n%s\r\n" % (self.subject.encode(), self.prefix.encode(), self.payload,
                                                      b"x" * self.payload)] * 50)
        self.client.sock.settimeout(15)
        while not self.is_over.is_set():
            try:
                self.client.sock.sendall(block)
            except (OSError, socket.timeout):
                return
            self.sent += 50

    def read(self):
        sock, data = self.client.sock.dup(), b""
        while True:
            try:
                more = sock.recv(1 << 16)
            except socket.timeout:
                continue
            except OSError:
                return
            if not more:
                return
            data += more
            *lines, data = data.split(b"\r\n")
            for line in lines:
                if line.startswith(b'{"stream"') and b'"seq":' in line:
                    self.acked.add(json.loads(line)["seq"])
                elif b'"error"' in line:
                    self.refused += 1
                elif line == b"PING":
                    self.client.sock.sendall(b"PONG\r\n")

    def finish(self):
        self.is_over.set()
        self.join(20)
        assert not self.is_alive()


class Honest(threading.Thread):
    """One message after the other, each answered before the next."""

    def __init__(self, node, subject):
        super().__init__(daemon=True)
        self.js = Js(node, timeout=40)
        self.subject = subject
        self.took, self.seqs, self.refused = [], [], 0
        self.error = None
        self.is_over = threading.Event()

    def run(self):
        try:
            while not self.is_over.is_set():
                began = time.monotonic()
                reply = self.js.publish(self.subject, b"honest")
                self.took.append(time.monotonic() - began)
                if reply is None or "error" in reply:
                    self.refused += 1
                else:
                    self.seqs.append(reply["seq"])
                time.sleep(0.01)
        except Exception as e:  # Shown by finish().
            self.error = e

    def finish(self):
        self.is_over.set()
        self.join(45)
        assert not self.is_alive() and self.error is None, self.error
        self.took.sort()
        return self.took[len(self.took) // 2], self.took[int(len(self.took) * 0.99)], self.took[-1]


def overload(c, trouble, payload=1024):
    """Everything at once for SECONDS; the highest RSS by node."""
    nodes = [n for n in c.nodes if n.process.poll() is None]
    js = Js(nodes[0])
    js.create("S", ["s.>"], 3, max_bytes=512 * MIB)
    js.create("H", ["h"], 3)
    js.consumer("S", "C")
    deaf = [n.client() for n in nodes]
    for d in deaf:
        d.sub("s.>")
    pulls = [n.client() for n in nodes]
    for k, p in enumerate(pulls):
        p.sub("_INBOX.pull%d.*" % k)
        for i in range(3000):
            p.pub("$JS.API.CONSUMER.MSG.NEXT.S.C", b'{"batch":1000,"expires":30000000000}', "_INBOX.pull%d.%d" % (k, i))
    honest = [Honest(n, s) for n in nodes for s in ("s.h", "h")]
    trouble()
    nodes = [n for n in nodes if n.process.poll() is None]
    honest = [h for h in honest if h.js.node in nodes]
    blasters = [Blaster(nodes[i % len(nodes)], "s.x", payload) for i in range(BLASTERS)]
    before = [rss(n) for n in nodes]
    for t in blasters + honest:
        t.start()
    top = list(before)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        top = [max(a, rss(n)) for a, n in zip(top, nodes)]
        time.sleep(0.05)
    latencies = [h.finish() for h in honest]
    for b in blasters:
        b.finish()
    sent = sum(b.sent for b in blasters)
    print("     %d sent, %d acked, %d refused; RSS %s MiB" % (
        sent, sum(len(b.acked) for b in blasters), sum(b.refused for b in blasters),
        ", ".join("%d" % (t / MIB) for t in top)))
    for h, (p50, p99, most) in zip(honest, latencies):
        print("     one by one on %s: %5d, %d refused, p50 %.0f ms, p99 %.0f ms, most %.0f ms"
              % (h.subject, len(h.seqs), h.refused, p50 * 1e3, p99 * 1e3, most * 1e3))
    assert max(top) < RSS_MAX, top
    for n in nodes:
        assert n.process.poll() is None
    return nodes, blasters, honest


def check(c, nodes, blasters, honest):
    """Every acknowledged message is there, on all."""
    time.sleep(1)
    acked = [seq for b in blasters for seq in list(b.acked)]  # Before the state: what still waits is acknowledged meanwhile.
    state = c.same("S", nodes, 60)
    assert len(acked) == len(set(acked)), "one sequence was acknowledged twice"
    assert not acked or max(acked) <= state["last_seq"], (max(acked), state)
    stored = dump(nodes[0], "S", state["first_seq"])
    lost = [seq for seq in acked if seq >= state["first_seq"] and seq not in stored]
    assert not lost, "%d acknowledged messages are lost: %s" % (len(lost), lost[:5])
    held = dump(nodes[0], "H")
    for h in honest:
        if h.subject == "h":
            assert all(held.get(seq) == b"honest" for seq in h.seqs)
        # Each is answered, none waits for as long as its client does; how many and how long is printed above, not judged.
        assert h.took, h.subject


def test_overload():
    with DiskCluster(3) as c:
        check(c, *overload(c, lambda: None))


def test_overload_with_a_slow_disk():
    with DiskCluster(3) as c:
        check(c, *overload(c, lambda: c.disk(c.nodes[2], 40)))


def test_overload_with_slow_disks():
    with DiskCluster(3) as c:
        check(c, *overload(c, lambda: [c.disk(n, 30) for n in c.nodes]))


def test_overload_with_a_slow_flush_on_all():
    """What is acknowledged is in memory until it is in blocks: when those come too slowly, publishers wait."""
    with DiskCluster(3) as c:
        check(c, *overload(c, lambda: [c.disk(n, "store 60") for n in c.nodes], 16 << 10))


def test_overload_with_a_slow_flush_on_a_follower():
    with DiskCluster(3) as c:
        check(c, *overload(c, lambda: c.disk(next(n for n in c.nodes if n is not c.leader("S")), "store 60"), 16 << 10))


def test_overload_with_a_dead_replica():
    with DiskCluster(3) as c:
        check(c, *overload(c, lambda: c.nodes[2].kill()))


if __name__ == "__main__":
    if not os.path.exists(LIBRARY) or "/asan/" in binary() or "/tsan/" in binary():
        print("SKIP: needs a node that a library can be preloaded into")
        sys.exit(77)
    run(globals())
