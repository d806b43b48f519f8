"""Clients that read while others write: ordered consumers, MSG.GET and direct gets; see read_checks.py."""

import base64
import json
import time

import checks
import read_checks
from checks import ACKED
from read_checks import Known, Look
from weir_cluster import wait_until
from weir_js import inbox
from workloads import (ANSWER_S, DROPPED, NO_MESSAGE, STREAM, Caller, Publish, Silence, Worker, Writer, delivered,
                       pub_ack, stop_all)

HEARTBEAT_NS = 500_000_000


class Gap(Exception):
    """The consumer is of no use any more."""


class Ordered(Worker):
    """Reads the stream from its beginning to its end by consumers without acks, as clients do that call themselves
    ordered: at any gap, silence or refusal another consumer goes on behind the last message."""

    BATCH = 200

    def __init__(self, run, name, at):
        super().__init__(run, name, at)
        self.seen = []  # (sequence, payload)
        self.last = 0
        self.consumers = 0

    def work(self):
        while not self.is_ending.is_set():
            client = self.connection(lambda node: node.client())
            if client is None:
                return
            try:
                while not self.is_ending.is_set():
                    self.consume(client)
            except DROPPED:
                self.move()
            finally:
                client.close()

    def consume(self, client):
        self.consumers += 1
        name = "%s-%d" % (self.name, self.consumers)
        start = {"deliver_policy": "by_start_sequence", "opt_start_seq": self.last + 1}
        config = dict({"name": name, "ack_policy": "none", "mem_storage": True, "num_replicas": 1, "max_deliver": 1,
                       "inactive_threshold": 5_000_000_000}, **(start if self.last else {"deliver_policy": "all"}))
        header, payload = self.ask(client, "CONSUMER.CREATE.%s.%s" % (STREAM, name),
                                   {"stream_name": STREAM, "config": config, "action": "create"})
        if header or "error" in json.loads(payload):
            time.sleep(0.1)
            return
        to, expected = inbox(), 1
        sid = client.sub(to, "o" + to.split(".")[-1])
        try:
            while not self.is_ending.is_set():
                expected = self.pull(client, name, to, sid, expected)
        except Gap:
            pass
        client.send("UNSUB %s\r\n" % sid)

    @staticmethod
    def ask(client, api, body):
        """The answer; what the consumer before has sent still comes on the same connection, and is none."""
        to = inbox()
        sid = client.sub(to, "a" + to.split(".")[-1])
        client.send("UNSUB %s 1\r\n" % sid)
        client.pub("$JS.API." + api, json.dumps(body), to)
        end = time.monotonic() + ANSWER_S
        while True:
            _, by, _, header, payload = client.msg(end - time.monotonic())
            if by == sid:
                return header, payload

    def pull(self, client, name, to, sid, expected):
        """Returns the consumer's next number."""
        client.pub("$JS.API.CONSUMER.MSG.NEXT.%s.%s" % (STREAM, name), json.dumps(
            {"batch": self.BATCH, "expires": 2_000_000_000, "idle_heartbeat": HEARTBEAT_NS}), to)
        got = 0
        while got < self.BATCH:
            _, by, reply, header, payload = client.msg(3 * HEARTBEAT_NS / 1e9)
            if by != sid:
                continue
            if reply is None or not reply.startswith("$JS.ACK."):
                if header.startswith(b"NATS/1.0 100"):
                    continue
                if header.startswith(b"NATS/1.0 408"):
                    return expected
                raise Gap
            seq, number, _ = delivered(reply)
            if number != expected:
                raise Gap
            expected, got = expected + 1, got + 1
            self.seen.append((seq, payload))
            self.last = max(self.last, seq)
        return expected


class Getter(Caller):
    """Publishes to a subject of its own, and reads single messages of its own and of others by MSG.GET and by direct
    get, of the node it is connected to for as long as that answers."""

    def __init__(self, run, name, at, writers):
        super().__init__(run, name, at)
        self.subject = "chaos." + name
        self.others = writers
        self.looks, self.acks, self.puts = [], [], []
        self.stays = 0

    def move(self):
        super().move()
        self.stays += 1

    def stay(self):
        return "%s/%d" % (self.name, self.stays)

    def work(self):
        while not self.is_ending.is_set():
            try:
                if self.rng.random() < 0.2:
                    self.put()
                else:
                    self.look()
            except Silence:
                pass
            time.sleep(self.rng.uniform(0, 0.01))

    def put(self):
        write = checks.Write("%s" % self.name, len(self.puts), b"%s-%d " % (self.name.encode(), len(self.puts)) * 9)
        self.puts.append(write)
        write.connection = self.stay()
        header, payload = self.call(self.subject, write.payload)
        answer = pub_ack(header, payload)
        if answer:
            write.outcome, write.seq = ACKED, answer["seq"]
            self.acks.append(Known(self.subject, write.seq, time.monotonic(), self.stay()))
        elif header:
            write.outcome = checks.REFUSED

    def target(self):
        """(subject, a sequence of it that was acknowledged)"""
        if self.acks and self.rng.random() < 0.6:
            return self.subject, self.rng.choice(self.acks[-20:]).seq
        writer = self.rng.choice(self.others)
        acked = [w.seq for w in writer.writes[-50:] if w.outcome == ACKED]
        return writer.subject, self.rng.choice(acked) if acked else 0

    def look(self):
        subject, seq = self.target()
        is_direct, what = self.rng.random() < 0.6, self.rng.choice(("last", "last", "exact", "next"))
        if what == "next":
            seq = max(1, seq - self.rng.randrange(200))
        if seq == 0:
            what = "last"
        body = {"last": {"last_by_subj": subject}, "exact": {"seq": seq},
                "next": {"seq": seq, "next_by_subj": subject}}[what]
        began = time.monotonic()
        found = (self.direct if is_direct else self.api)(body)
        self.looks.append(Look(self.stay(), is_direct, subject, began, time.monotonic(), *found,
                               0 if what == "last" else seq, what == "exact"))

    def api(self, body):
        answer = self.call_api("STREAM.MSG.GET." + STREAM, body)
        if "message" in answer:
            return answer["message"]["seq"], base64.b64decode(answer["message"].get("data", ""))
        if answer["error"]["err_code"] == NO_MESSAGE:
            return 0, b""
        raise Silence

    def direct(self, body):
        if "last_by_subj" in body and self.rng.random() < 0.5:
            header, payload = self.call("$JS.API.DIRECT.GET.%s.%s" % (STREAM, body["last_by_subj"]), b"")
        else:
            header, payload = self.call("$JS.API.DIRECT.GET." + STREAM, json.dumps(body).encode())
        if header.startswith(b"NATS/1.0 404"):
            return 0, b""
        if not header.startswith(b"NATS/1.0\r\n"):
            raise Silence
        fields = dict(line.split(b": ", 1) for line in header.split(b"\r\n") if b": " in line)
        return int(fields[b"Nats-Sequence"]), payload


class Read(Publish):
    """Publish, and beside it ordered consumers, MSG.GET and direct gets through other nodes."""

    def make(self):
        writers = [Writer(self.run, "w%d" % i, i) for i in range(3)]
        self.getters = [Getter(self.run, "g%d" % i, i, writers) for i in range(3)]
        self.writers = writers + self.getters
        self.readers = [Ordered(self.run, "o%d" % i, i + 1) for i in range(3)]
        self.pullers = self.readers

    def create(self, replicas):
        self.run.js.create(STREAM, ["chaos.>"], replicas, allow_direct=True)

    def drain(self):
        last = self.run.js.info(STREAM)["state"]["last_seq"]
        try:
            wait_until("ordered readers to be at %d" % last, lambda: all(r.last >= last for r in self.readers), 60)
        except AssertionError as e:
            raise AssertionError("%s: %s" % (e, {r.name: r.error or r.last for r in self.readers}))
        finally:
            stop_all(self.readers)

    def writes(self):
        return [w for writer in self.writers if isinstance(writer, Writer) for w in writer.writes] + [
            w for g in self.getters for w in g.puts]

    def judge(self, stored):
        log = stored[STREAM]
        bad = checks.check_writes(self.writes(), log)
        for r in self.readers:
            bad += read_checks.check_ordered(r.name, r.seen, log)
        complaints, behind = read_checks.check_looks(
            [l for g in self.getters for l in g.looks], [k for g in self.getters for k in g.acks], log,
            lambda payload: "chaos." + payload.split(b"-", 1)[0].decode())
        self.run.counts["direct gets behind"] = behind
        self.run.counts["ordered consumers"] = sum(r.consumers for r in self.readers)
        return bad + complaints

    def ops(self):
        return super().ops() + sum(len(g.looks) for g in self.getters)


ALL = {"read": Read}
