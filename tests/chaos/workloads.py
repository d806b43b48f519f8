"""What clients do during the faults, and what they remember of it.

A workload creates its stream, starts its workers, stops those that write, lets the others finish, and
judges the final log by checks.py. An answer that did not come, or that does not tell whether the message
stands, leaves the outcome unknown.
"""

import json
import random
import re
import threading
import time
import traceback

import checks
from checks import ACKED, REFUSED, UNKNOWN, Connection, Delivery, Once, Op, Write
from weir_cluster import wait_until
from weir_js import Js, Publisher, inbox

STREAM = "CHAOS"
DROPPED = (OSError, EOFError, AssertionError)  # A timeout too is an OSError.
ANSWER_S = 3.0  # An answer that takes longer makes a client try elsewhere.
WRONG_LAST_SEQUENCE = 10071
NO_MESSAGE = 10037


class Silence(Exception):
    """No answer: the outcome is unknown."""


def pub_ack(header, payload):
    """The answer to a publish that was stored; None: it says that it was not, or that nobody is there."""
    answer = {} if header else json.loads(payload)
    return answer if "seq" in answer and "error" not in answer else None


def delivered(reply):
    """(sequence in the stream, number in the consumer, times delivered), by a message's ack subject."""
    words = reply.split(".")
    return int(words[5]), int(words[6]), int(words[4])


class Worker(threading.Thread):
    """Talks to one node, and when that one does not let it in or does not answer to the next, and back."""

    def __init__(self, run, name, at):
        super().__init__(daemon=True, name=name)
        self.nodes = run.nodes
        self.rng = random.Random("%s/%s" % (run.seed, name))
        self.home = self.at = at % len(self.nodes)
        self.is_ending = threading.Event()
        self.error = None

    def run(self):
        try:
            self.work()
        except Exception:
            self.error = "%s ended:\n%s" % (self.name, traceback.format_exc())

    def connection(self, make):
        """make(node) of the first node that lets it in; None at the end of the run."""
        while not self.is_ending.is_set():
            try:
                return make(self.nodes[self.at])
            except DROPPED:
                self.move()
        return None

    def move(self):
        """To the next node, or from there home again: else all would be at one node after some faults, and those
        of others would hit nobody."""
        self.at = self.home if self.at != self.home else (self.home + 1) % len(self.nodes)
        time.sleep(0.05)

    def stop(self):
        self.is_ending.set()
        self.join(60)
        if self.is_alive():
            self.error = self.name + " does not end"


def stop_all(workers):
    for w in workers:
        w.is_ending.set()
    for w in workers:
        w.stop()


class Writer(Worker):
    """Publishes with a window. What is not acknowledged is published again, as another attempt."""

    WINDOW = 32
    RATE = 150

    def __init__(self, run, name, at):
        super().__init__(run, name, at)
        self.subject = "chaos." + name
        self.writes = []
        self.connections = []
        self.number = 0
        self.retries = []  # (number, attempt)

    def payload(self, number, attempt):
        text = b"%s-%d-%d " % (self.name.encode(), number, attempt)
        return (text * 200)[:self.rng.choice((64, 256, 256, 1024, 4096))]

    def next(self):
        if self.retries:
            number, attempt = self.retries.pop(0)
            return number, attempt + 1
        self.number += 1
        return self.number, 1

    def work(self):
        while not self.is_ending.is_set():
            publisher = self.connection(Publisher)
            if publisher is not None:
                self.use(publisher)
                self.move()

    def use(self, publisher):
        """Until the connection fails or is silent for too long; then what is open has no outcome."""
        self.connections.append(Connection(publisher.node.name))
        open_ = {}  # Place: (when, number, attempt, write)
        due = time.monotonic()
        try:
            while open_ or not self.is_ending.is_set():
                now = time.monotonic()
                if open_ and now - min(o[0] for o in open_.values()) > ANSWER_S:
                    break
                if now >= due and len(open_) < self.WINDOW and not self.is_ending.is_set():
                    number, attempt = self.next()
                    write = Write("%s/%d" % (self.name, len(self.connections)), publisher.sent,
                                  self.payload(number, attempt))
                    self.writes.append(write)
                    open_[publisher.sent] = (now, number, attempt, write)
                    publisher.send(self.subject, write.payload)
                    due = max(due + 1 / self.RATE, now - 0.1)
                wait = 0.02 if len(open_) >= self.WINDOW else max(0.0005, min(0.02, due - now))
                self.take(publisher, open_, wait)
        except DROPPED:
            pass
        finally:
            if open_:
                self.connections[-1].gave_up = time.monotonic()
            self.retries += [(number, attempt) for _, number, attempt, _ in open_.values()]
            publisher.close()

    def take(self, publisher, open_, wait):
        try:
            publisher.take(wait)
        except TimeoutError:
            return
        place, answer = publisher.acks.popitem()
        _, number, attempt, write = open_.pop(place)
        if answer is not None and "error" not in answer:
            write.outcome, write.seq = ACKED, answer["seq"]
            self.connections[-1].acks.append(time.monotonic())
            return
        if answer is None:
            write.outcome = REFUSED
        self.retries.append((number, attempt))
        time.sleep(0.02)


class Puller(Worker):
    """Pulls batches of a durable and has every ack confirmed. Some messages it leaves or gives back the
    first times, so that they come again."""

    BATCH = 64

    def __init__(self, run, name, at, durable, is_careless=False):
        super().__init__(run, name, at)
        self.durable = durable
        self.is_careless = is_careless
        self.deliveries = []
        self.confirmed = {}  # Sequence: when first.
        self.unanswered = set()

    def work(self):
        while not self.is_ending.is_set():
            client = self.connection(lambda node: node.client())
            if client is None:
                return
            try:
                acks = inbox()
                client.sub(acks + ".*", "acks")
                while not self.is_ending.is_set():
                    self.pull(client, acks)
            except DROPPED:
                self.move()
            finally:
                client.close()

    def pull(self, client, acks):
        to, open_, got, is_over = inbox(), set(), 0, False
        sid = client.sub(to, "p" + to.split(".")[-1])
        asked = time.monotonic()
        client.pub("$JS.API.CONSUMER.MSG.NEXT.%s.%s" % (STREAM, self.durable),
                   json.dumps({"batch": self.BATCH, "expires": 500_000_000}), to)
        while open_ or not is_over:
            subject, by, reply, header, payload = client.msg(ANSWER_S)
            if by == "acks":
                seq = int(subject.rsplit(".", 1)[1])
                open_.discard(seq)
                if not header:
                    self.unanswered.discard(seq)
                    self.confirmed.setdefault(seq, time.monotonic())
            elif by == sid and reply is None:
                is_over = True  # A status.
                if header.startswith(b"NATS/1.0 503"):
                    time.sleep(0.1)
            elif by == sid:
                got += 1
                is_over = got == self.BATCH
                seq, _, count = delivered(reply)
                self.deliveries.append(Delivery(seq, payload, asked))
                if self.is_careless and count < 3 and self.rng.random() < 0.1:
                    if self.rng.random() < 0.5:
                        client.pub(reply, b"-NAK")
                else:
                    client.pub(reply, b"+ACK", "%s.%d" % (acks, seq))
                    open_.add(seq)
                    self.unanswered.add(seq)
        client.send("UNSUB %s\r\n" % sid)


class Caller(Worker):
    """One request at a time."""

    client = None

    def call(self, subject, payload, header=None):
        """(header, payload) of the answer. After silence the connection is another one, as a late answer
        must not be taken for that of the next request."""
        if self.client is None:
            self.client = self.connection(lambda node: node.client())
            if self.client is None:
                raise Silence
        try:
            got = self.client.request(subject, payload, ANSWER_S, header)
            return got[3], got[4]
        except DROPPED:
            self.client.close()
            self.client = None
            self.move()
            raise Silence

    def call_api(self, subject, body):
        header, payload = self.call("$JS.API." + subject, json.dumps(body).encode())
        if header:
            raise Silence  # Nobody there.
        return json.loads(payload)


class Registrar(Caller):
    """Reads registers and writes them by compare and set, on what it last saw."""

    KEYS = 6

    def __init__(self, run, name, at):
        super().__init__(run, name, at)
        self.ops = []
        self.seen = {}

    def work(self):
        while not self.is_ending.is_set():
            key = "k%d" % self.rng.randrange(self.KEYS)
            op = Op(key, time.monotonic())
            try:
                if key in self.seen and self.rng.random() < 0.6:
                    self.write(op)
                else:
                    self.read(op)
            except Silence:
                self.seen.pop(key, None)
            time.sleep(self.rng.uniform(0, 0.01))

    def note(self, op, outcome, version):
        op.returned, op.outcome, op.version = time.monotonic(), outcome, version
        if version is not None:
            self.seen[op.key] = version

    def read(self, op):
        self.ops.append(op)
        answer = self.call_api("STREAM.MSG.GET." + STREAM, {"last_by_subj": "chaos." + op.key})
        if "message" in answer:
            self.note(op, ACKED, answer["message"]["seq"])
        elif answer["error"]["err_code"] == NO_MESSAGE:
            self.note(op, ACKED, 0)

    def write(self, op):
        op.expected = self.seen[op.key]
        op.payload = b"%s-%d of %s after %d" % (self.name.encode(), len(self.ops), op.key.encode(), op.expected)
        self.ops.append(op)
        header, payload = self.call("chaos." + op.key, op.payload, "NATS/1.0\r\nNats-Expected-Last-Subject-"
                                    "Sequence: %d\r\n\r\n" % op.expected)
        if header:
            self.note(op, REFUSED, None)
            time.sleep(0.05)
            return
        answer = json.loads(payload)
        if "error" not in answer:
            self.note(op, ACKED, answer["seq"])
        elif answer["error"]["err_code"] == WRONG_LAST_SEQUENCE:
            found = re.search(r"sequence: (\d+)", answer["error"]["description"])
            self.note(op, REFUSED, int(found.group(1)) if found else None)
        else:
            self.seen.pop(op.key, None)


class Repeater(Caller):
    """Publishes each id one to four times through any nodes, and on silence again until it is answered."""

    PATIENCE_S = 60  # Well inside the window of duplicates, two minutes.

    def __init__(self, run, name, at):
        super().__init__(run, name, at)
        self.ids = []

    def work(self):
        while not self.is_ending.is_set():
            once = Once(b"%s-%d" % (self.name.encode(), len(self.ids)))
            self.ids.append(once)
            wanted, began = self.rng.choice((1, 1, 2, 4)), time.monotonic()
            while (len(once.answers) < wanted and not self.is_ending.is_set()
                   and time.monotonic() - began < self.PATIENCE_S):
                self.publish(once)
                if self.rng.random() < 0.3 and self.client is not None:
                    self.client.close()
                    self.client, self.at = None, self.rng.randrange(len(self.nodes))

    def publish(self, once):
        try:
            header, payload = self.call("chaos." + self.name, once.payload,
                                        "NATS/1.0\r\nNats-Msg-Id: %s\r\n\r\n" % once.payload.decode())
        except Silence:
            return
        answer = pub_ack(header, payload)
        if answer:
            once.answers.append((answer["seq"], answer.get("duplicate", False)))
        else:
            time.sleep(0.05)


class Workload:
    """@run has nodes, seed and js, a client for the API. judge() takes {stream: {sequence: payload}}."""

    durable = None

    def __init__(self, run):
        self.run = run
        self.writers, self.pullers = [], []
        self.make()

    def create(self, replicas):
        self.run.js.create(STREAM, ["chaos.>"], replicas)
        if self.durable:
            self.run.js.consumer(STREAM, self.durable, ack_wait=3_000_000_000, max_ack_pending=2000)

    def streams(self):
        """Those that exist at the end."""
        return [STREAM]

    def start(self):
        for w in self.writers + self.pullers:
            w.start()

    def stop_writers(self):
        stop_all(self.writers)

    def drain(self):
        """Until the consumer has nothing left, by its own word; then the pullers stop."""
        if not self.durable:
            return
        try:
            wait_until("the consumer to be done", lambda: not self.judge_consumer(), 60, 0.2)
        except AssertionError as e:
            raise AssertionError("%s: %s" % (e, self.judge_consumer()))
        finally:
            stop_all(self.pullers)

    def judge_consumer(self):
        """What it still has to do, by its own word."""
        if not self.durable:
            return []
        info = self.run.js.ok("CONSUMER.INFO.%s.%s" % (STREAM, self.durable))
        last = self.run.js.info(STREAM)["state"]["last_seq"]
        if info["num_pending"] == 0 and info["num_ack_pending"] == 0 and info["ack_floor"]["stream_seq"] == last:
            return []
        return ["the consumer is not done: %s; the stream ends with %d" % (info, last)]

    def errors(self):
        return [w.error for w in self.writers + self.pullers if w.error]

    def deliveries(self):
        """(deliveries, confirmed, unanswered) of all pullers together."""
        all_, confirmed, unanswered = [], {}, set()
        for p in self.pullers:
            all_ += p.deliveries
            unanswered |= p.unanswered
            for seq, when in p.confirmed.items():
                confirmed[seq] = min(when, confirmed.get(seq, when))
        return all_, confirmed, unanswered

    def writes(self):
        return [w for writer in self.writers for w in writer.writes]

    def connections(self):
        return [c for w in self.writers if isinstance(w, Writer) for c in w.connections]

    def ops(self):
        """How many were answered well."""
        return sum(w.outcome == ACKED for w in self.writes())


class Publish(Workload):
    """Eight writers with windows through all nodes; every attempt has a payload of its own."""

    def make(self):
        self.writers = [Writer(self.run, "w%d" % i, i) for i in range(8)]

    def judge(self, stored):
        return checks.check_writes(self.writes(), stored[STREAM])


class Consume(Publish):
    """Publish, and a durable with explicit acks that is pulled through another node at the same time."""

    durable = "d"

    def make(self):
        self.writers = [Writer(self.run, "w%d" % i, i) for i in range(3)]
        self.pullers = [Puller(self.run, "p%d" % i, i + 1, self.durable) for i in range(2)]

    def judge(self, stored):
        return super().judge(stored) + checks.check_deliveries(*self.deliveries(), stored[STREAM])


class Work(Consume):
    """Work for three pullers of one durable; they leave some acks out and give some messages back."""

    def make(self):
        self.writers = [Writer(self.run, "w%d" % i, i) for i in range(3)]
        self.pullers = [Puller(self.run, "p%d" % i, i, self.durable, True) for i in range(3)]


class Register(Workload):
    """Six writers compare and set six registers, and read them through the leader."""

    def make(self):
        self.writers = [Registrar(self.run, "r%d" % i, i) for i in range(6)]

    def all_ops(self):
        return [o for w in self.writers for o in w.ops]

    def judge(self, stored):
        return checks.check_registers(self.all_ops(), stored[STREAM])

    def ops(self):
        return sum(o.outcome != UNKNOWN for o in self.all_ops())


class Dedup(Workload):
    """Six writers publish every id several times, through any node."""

    def make(self):
        self.writers = [Repeater(self.run, "d%d" % i, i) for i in range(6)]

    def all_ids(self):
        return [o for w in self.writers for o in w.ids]

    def judge(self, stored):
        return checks.check_once(self.all_ids(), stored[STREAM])

    def ops(self):
        return sum(len(o.answers) for o in self.all_ids())


ALL = {c.__name__.lower(): c for c in (Publish, Consume, Register, Dedup, Work)}
