"""Damage to the files of nodes, and what it is checked against."""

import glob
import json
import os
import struct

from weir_cluster import wait_until
from weir_js import Js, Publisher, dump

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


def journal(c, i):
    """Both copies of the newest journal of checkpoints."""
    store = os.path.join(c.folder, "n%d" % i, "js", "weir", "store")
    newest = sorted(glob.glob(os.path.join(store, "ckpt-*.journal")))[-1]
    return [newest, newest.replace(".journal", ".mirror")]
