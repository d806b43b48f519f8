"""A publisher that outlives its node: whatever was not answered when its connection went is published
again through another node, under the same Nats-Msg-Id.

    load = Load(c.nodes, "S", "s.a")
    load.start()
    ...
    load.finish()
    load.check(dump(c.nodes[0], "S"))
"""

import json
import selectors
import threading
import time

from weir_cluster import Client
from weir_js import inbox


class Load(threading.Thread):
    """`window` messages under way, at most `rate` a second. With `heeds_ldm` it leaves a node that says it is
    a lame duck, as clients that understand it do: a new connection first, then the old one's last answers."""

    def __init__(self, nodes, subject, at=0, window=50, rate=2000, heeds_ldm=False):
        super().__init__(daemon=True)
        self.nodes = nodes
        self.subject = subject
        self.at = at
        self.window = window
        self.rate = rate
        self.heeds_ldm = heeds_ldm
        self.acks = {}       # Number of the message: sequence.
        self.failed = []     # (number, answer): a refusal, or silence on a connection that stands.
        self.gaps = []       # Seconds without any answer while some were awaited: on one connection,
        self.move_gaps = []  # and over a move to another node.
        self.moves = 0       # To another node.
        self.again = 0       # Messages published again.
        self.duplicates = 0  # Answers that said so.
        self.sent = 0
        self.open = {}       # Number: when it was sent.
        self.client = None
        self.error = None
        self.is_ending = threading.Event()

    # The connection.

    def connect(self):
        """To the next node that lets it in."""
        end = time.monotonic() + 10
        while True:
            try:
                self.client = Client(self.nodes[self.at].port, timeout=1).connect()
                break
            except (OSError, EOFError, AssertionError):
                assert time.monotonic() < end, "no node lets %s in" % self.subject
                self.at = (self.at + 1) % len(self.nodes)
        self.prefix = inbox()
        self.client.sub(self.prefix + ".*", "a")

    def publish(self, number):
        self.open[number] = time.monotonic()
        header = b"NATS/1.0\r\nNats-Msg-Id: %s-%d\r\n\r\n" % (self.subject.encode(), number)
        self.client.pub(self.subject, b"%d" % number, "%s.%d" % (self.prefix, number), header)

    def move(self):
        """The connection is gone: the same again elsewhere, but for what was answered before."""
        try:
            while True:
                self.take(self.client, 0.5)
        except (EOFError, OSError):
            pass
        self.client.close()
        self.at = (self.at + 1) % len(self.nodes)
        self.moves += 1
        self.has_moved = True
        again = sorted(self.open)
        self.connect()
        self.again += len(again)
        for number in again:
            self.publish(number)

    def leave(self):
        """The node said that it goes."""
        old, prefix = self.client, self.prefix
        self.at = (self.at + 1) % len(self.nodes)
        self.moves += 1
        self.has_moved = True
        self.connect()
        end = time.monotonic() + 3
        waits = set(self.open)
        try:
            while waits & set(self.open) and time.monotonic() < end:
                self.take(old, 0.5)
        except (EOFError, OSError):
            pass
        old.close()
        left = sorted(waits & set(self.open))
        self.again += len(left)
        for number in left:
            self.publish(number)

    # Answers.

    def take(self, client, timeout):
        """One operation from the server; true if it says that it is a lame duck."""
        line = client.line(timeout)
        if line == "PING":
            client.send("PONG\r\n")
            return False
        if line.startswith("INFO "):
            return bool(json.loads(line[5:]).get("ldm"))
        words = line.split(" ")
        if words[0] not in ("MSG", "HMSG"):
            return False
        header_len = int(words[-2]) if words[0] == "HMSG" else 0
        body = client.exactly(int(words[-1]) + 2)[header_len:-2]
        number = int(words[1].rsplit(".", 1)[1])
        now = time.monotonic()
        if self.last is not None:
            (self.move_gaps if self.has_moved else self.gaps).append(now - self.last)
        self.last = now
        self.has_moved = False
        self.open.pop(number, None)
        answer = json.loads(body) if body else None
        if answer is None or "seq" not in answer:
            self.failed.append((number, line if answer is None else answer))
        else:
            assert self.acks.setdefault(number, answer["seq"]) == answer["seq"], \
                "%s %d has two sequences" % (self.subject, number)
            self.duplicates += "duplicate" in answer
        return False

    def silence(self, now):
        for number, since in list(self.open.items()):
            if now - since > 8:
                del self.open[number]
                self.failed.append((number, "no answer"))

    def run(self):
        try:
            self.loop()
        except Exception as e:  # Told by finish().
            self.error = e

    def loop(self):
        self.last = None
        self.has_moved = False
        self.connect()
        began = time.monotonic()
        while not self.is_ending.is_set() or self.open:
            now = time.monotonic()
            try:
                while (not self.is_ending.is_set() and len(self.open) < self.window
                       and self.sent < (now - began) * self.rate):
                    self.sent += 1
                    self.publish(self.sent)
                if not self.open:
                    self.last = None  # Nothing is awaited.
                is_ldm = False
                while self.has_input(0.001):
                    is_ldm = self.take(self.client, 1) or is_ldm
                self.silence(now)
                if is_ldm and self.heeds_ldm:
                    self.leave()
            except (EOFError, OSError):
                self.move()
        self.client.close()

    def has_input(self, timeout):
        if b"\r\n" in self.client.buf:
            return True
        with selectors.DefaultSelector() as s:
            s.register(self.client.sock, selectors.EVENT_READ)
            return bool(s.select(timeout))

    # The end.

    def finish(self, timeout=30):
        self.is_ending.set()
        self.join(timeout)
        assert not self.is_alive(), "%s: %d answers are missing" % (self.subject, len(self.open))
        if self.error is not None:
            raise self.error
        return self

    def check(self, stored):
        """Against {sequence: payload} of its subject: none failed, lost or doubled."""
        assert not self.failed, "%s: failed: %s" % (self.subject, self.failed[:5])
        assert len(self.acks) == self.sent, (len(self.acks), self.sent)
        for number, seq in self.acks.items():
            assert stored.get(seq) == b"%d" % number, (self.subject, number, seq, stored.get(seq))
        assert len(stored) == self.sent, "%s: %d stored, %d sent" % (self.subject, len(stored), self.sent)
