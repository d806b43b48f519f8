"""An allocation that fails, once, anywhere in a node: whoever asked for the memory, the node goes on, or it stops
with a message and comes back with all it had acknowledged."""

import http.client
import mmap
import os
import random
import struct
import sys
import tempfile

from weir_cluster import Node, binary, finish, run, wait_until
from weir_js import Js, JsCluster, Publisher, dump

LIBRARY = os.environ.get("ALLOC_FAULT_LIBRARY", os.path.join(os.path.dirname(os.path.dirname(binary())), "tests",
                                                             "lib", "alloc_fault.so"))
SEED = int(os.environ.get("WEIR_SEED", "1"))
STARTS = int(os.environ.get("WEIR_ALLOC_STARTS", "60"))
ROUNDS = int(os.environ.get("WEIR_ALLOC_ROUNDS", "25"))
MESSAGES = ("out of memory", "Out of memory", "not enough memory", "Cannot allocate memory")


class Memory:
    """The preloaded allocator of one node, see tests/lib/alloc_fault.h."""

    def __init__(self, node):
        self.node = node
        path = os.path.join(node.folder, "alloc")
        with open(path, "wb") as f:
            f.write(bytes(24))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 24)
        node.env = dict(node.env, LD_PRELOAD=LIBRARY, WEIR_ALLOC_FAULT=path)

    def calls(self):
        return struct.unpack_from("<Q", self.map, 0)[0]

    def has_failed(self):
        return struct.unpack_from("<Q", self.map, 16)[0] > 0

    def reset(self):
        self.map[:] = bytes(24)

    def arm(self, nth):
        """The nth call from the next on, or one soon after: the node does not wait for us."""
        struct.pack_into("<Q", self.map, 16, 0)
        struct.pack_into("<Q", self.map, 8, self.calls() + nth)

    def disarm(self):
        struct.pack_into("<Q", self.map, 8, 0)

    def passed(self):
        """The call that was to fail was one that had been made when it was armed."""
        return self.calls() > struct.unpack_from("<Q", self.map, 8)[0] and not self.has_failed()


def check_stopped(node):
    """It ended of itself, and said why."""
    code = node.process.wait(10)
    log = node.log()
    assert any(m in log for m in MESSAGES), "%s ended with %s:\n%s" % (node.name, code, log[-3000:])
    for bad in ("Segmentation", "Assertion"):
        assert bad not in log, log[-3000:]
    assert code in (1, -6), (code, log[-3000:])


def load(js, rounds):
    """Publishes, a consumer, the API. Returns when the node is gone, or after so many rounds."""
    p = Publisher(js.node)
    payloads = {}
    try:
        for i in range(rounds):
            for _ in range(20):
                payloads[p.sent] = b"%d " % p.sent + os.urandom(1 + p.sent % 300)
                p.send("s.%d" % (p.sent % 7), payloads[p.sent])
            p.poll(0.05)
            for _, _, reply in js.fetch("S", "C", 10, 0.5):
                js.ack(reply)
            if i % 3 == 0:
                js.info("S")
                js.node.http("/jsz?streams=1")
        p.drain(10)
    except (OSError, EOFError, AssertionError, http.client.HTTPException):
        if js.node.process.poll() is None:
            wait_until("it to be gone", lambda: js.node.process.poll() is not None, 5)
    try:
        while len(p.acks) < p.sent:
            p.take(0.1)
    except (OSError, EOFError):
        pass
    return {a["seq"]: payloads[n] for n, a in p.acks.items() if a and "seq" in a}


class Alone:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="weir-")
        self.node = Node(self.folder, ["-js", "-sd", os.path.join(self.folder, "js")])
        self.memory = Memory(self.node)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        finish([self.node], self.folder, kind)

    def start_whole(self, acked):
        """A clean start, with all that was acknowledged."""
        self.memory.reset()
        self.node.start()
        wait_until("health", lambda: self.node.http("/healthz")[0] == 200, 10)
        lies = dump(self.node, "S")
        lost = [s for s, text in acked.items() if lies.get(s) != text]
        assert not lost, "lost: %s of %d" % (lost[:5], len(acked))


def test_each_allocation_of_a_start_may_fail():
    rng = random.Random("%d/start" % SEED)
    with Alone() as a:
        a.node.start()
        js = Js(a.node)
        js.create("S", ["s.>"], max_msgs_per_subject=-1)
        js.consumer("S", "C")
        acked = load(js, 10)
        assert len(acked) == 200, len(acked)
        a.node.kill()
        a.start_whole(acked)
        total = a.memory.calls()
        a.node.kill()
        stopped = survived = 0
        for i in range(STARTS):
            a.memory.reset()
            a.memory.arm(1 + total * i // STARTS + rng.randrange(max(1, total // STARTS)))
            a.node.start(ready=False)
            wait_until("an end or health", lambda: a.node.process.poll() is not None or is_healthy(a.node), 10)
            a.memory.disarm()
            try:
                lies = dump(a.node, "S")
            except (OSError, http.client.HTTPException):  # It has ended by now.
                check_stopped(a.node)
                stopped += 1
            else:
                survived += 1
                assert all(lies.get(seq) == text for seq, text in acked.items())
                a.node.kill()
            if i % 10 == 9:
                a.start_whole(acked)
                a.node.kill()
        a.start_whole(acked)
        print("     %d allocations in a start; of %d that failed %d stopped it, %d did not"
              % (total, STARTS, stopped, survived))
        assert stopped > STARTS // 2


def is_healthy(node):
    try:
        return node.http("/healthz", 1)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_an_allocation_under_load_fails_and_what_was_acknowledged_is_there():
    rng = random.Random("%d/load" % SEED)
    with Alone() as a:
        a.node.start()
        js = Js(a.node, timeout=3)
        js.create("S", ["s.>"])
        js.consumer("S", "C")
        acked = load(js, 3)
        stopped = 0
        for _ in range(ROUNDS):
            a.memory.arm(rng.randrange(1, 4000))
            acked.update(load(js, 40))
            if a.node.process.poll() is None:
                assert a.memory.has_failed() or a.memory.passed(), a.memory.calls()
                a.node.kill()
            else:
                check_stopped(a.node)
                stopped += 1
            a.start_whole(acked)
            js = Js(a.node, timeout=3)
        print("     %d messages acknowledged, %d of %d failures stopped the node" % (len(acked), stopped, ROUNDS))
        assert stopped > ROUNDS // 2


def test_one_of_three_stops_for_want_of_memory_and_nothing_is_lost():
    rng = random.Random("%d/three" % SEED)
    c = JsCluster(3)
    memories = {n.name: Memory(n) for n in c.nodes}
    with c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        acked = {}
        stopped = 0
        for i in range(max(4, ROUNDS // 3)):
            leader = c.leader("S")
            victim = leader if i % 2 else next(n for n in c.nodes if n is not leader)
            at = next(n for n in c.nodes if n is not victim)
            p = Publisher(at)
            memories[victim.name].arm(rng.randrange(1, 3000))
            for k in range(60):
                for _ in range(20):
                    p.send("s", b"%d %d" % (i, p.sent))
                p.poll(0.02)
                if victim.process.poll() is not None:
                    break
            p.drain(20)
            for n, ack in p.acks.items():
                if ack and "seq" in ack:
                    assert ack["seq"] not in acked
                    acked[ack["seq"]] = b"%d %d" % (i, n)
            p.close()
            memories[victim.name].disarm()
            if victim.process.poll() is not None:
                check_stopped(victim)
                stopped += 1
                memories[victim.name].reset()
                victim.start()
            c.wait_ready()
            c.same("S")
        for n in c.nodes:
            lies = dump(n, "S")
            assert all(lies.get(s) == text for s, text in acked.items()), n.name
        print("     %d messages acknowledged, a node stopped %d times" % (len(acked), stopped))
        assert stopped >= 2, stopped


if __name__ == "__main__":
    run(globals())
