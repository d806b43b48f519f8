"""Streams with limits, and a catalog that changes."""

import json
import threading
import time

import stream_checks
from checks import ACKED, REFUSED, UNKNOWN
from stream_checks import Delete, Name, Purge, Put, Sight
from weir_cluster import wait_until
from workloads import NO_MESSAGE, STREAM, Caller, Publish, Silence, Workload, Writer

AGE_S = 4.0


def publish(caller, put):
    """Its outcome is noted, if it has one."""
    put.sent = time.monotonic()
    header, payload = caller.call(put.subject, put.payload)
    answer = {"refused": True} if header else json.loads(payload)
    if "seq" in answer and "error" not in answer:
        put.outcome, put.seq = ACKED, answer["seq"]
    elif header or "exceeded" in answer["error"]["description"]:
        put.outcome = REFUSED
        time.sleep(0.01)


class Limiter(Caller):
    """Publishes to streams with limits, deletes, purges, and reads what must not be too old to be there."""

    def __init__(self, run, name, at):
        super().__init__(run, name, at)
        self.puts = {s: [] for s in (STREAM, "CHAOS_OLD", "CHAOS_NEW", "CHAOS_AGE")}
        self.deletes, self.purges = [], []
        self.young = []  # Puts of late.
        self.complaints = []

    def work(self):
        while not self.is_ending.is_set():
            try:
                self.rng.choice((self.put, self.put, self.put, self.put, self.put, self.put, self.delete, self.purge,
                                 self.read))()
            except Silence:
                pass
            time.sleep(self.rng.uniform(0, 0.008))

    def put(self):
        stream = self.rng.choice(list(self.puts))
        word = {STREAM: "chaos"}.get(stream, stream)
        puts = self.puts[stream]
        text = b"%s-%d to %s " % (self.name.encode(), len(puts), stream.encode())
        put = Put("%s.%s%d" % (word, self.name, self.rng.randrange(3)), text * self.rng.choice((1, 4, 40)))
        puts.append(put)
        publish(self, put)
        if stream == "CHAOS_AGE" and put.outcome == ACKED:
            self.young = self.young[-20:] + [put]

    def delete(self):
        mine = [p.seq for p in self.puts["CHAOS_NEW"] if p.outcome == ACKED]
        mine = [s for s in mine if s not in {d.seq for d in self.deletes}]
        for seq in mine[:5]:
            d = Delete(seq)
            self.deletes.append(d)
            if self.call_api("STREAM.MSG.DELETE.CHAOS_NEW", {"seq": seq}).get("success"):
                d.outcome = ACKED

    def purge(self):
        mine = [p for p in self.puts[STREAM] if p.outcome == ACKED]
        if mine and self.rng.random() < 0.3:
            at = self.rng.choice(mine[-10:])
            p = Purge(at.subject, at.seq + self.rng.choice((0, 1)))
            self.purges.append(p)
            if self.call_api("STREAM.PURGE." + STREAM, {"filter": p.subject, "seq": p.before}).get("success"):
                p.outcome = ACKED

    def read(self):
        if self.young:
            put = self.rng.choice(self.young)
            answer = self.call_api("STREAM.MSG.GET.CHAOS_AGE", {"seq": put.seq})
            age = time.monotonic() - put.sent
            if answer.get("error", {}).get("err_code") == NO_MESSAGE and age < AGE_S:
                self.complaints.append("removed before its age, after %.3f s: %s" % (age, put))


class AgeWatch(threading.Thread):
    """Sees how far a node's replica has removed what had its age."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.sights = []
        self.is_ending = threading.Event()

    def run(self):
        while not self.is_ending.wait(0.05):
            try:
                status, body = self.node.http("/replicaz?stream=CHAOS_AGE", 1)
                when, r = time.monotonic(), json.loads(body)
                if status == 200 and r["state"] == "ok":
                    self.sights.append(Sight(self.node.name, when, r["first_seq"] if r["messages"] else r["last_seq"] + 1))
            except (OSError, ValueError, KeyError, EOFError):
                pass


class Limits(Workload):
    """Streams with limits by number, subject and age, old and new discarded; deletes and purges."""

    LIMITS = {STREAM: {"max_msgs_per_subject": 5}, "CHAOS_OLD": {"max_msgs": 200},
              "CHAOS_NEW": {"max_msgs": 60, "discard": "new"}, "CHAOS_AGE": {"max_age": int(AGE_S * 1e9)}}

    def make(self):
        self.writers = [Limiter(self.run, "l%d" % i, i) for i in range(6)]
        self.watches = [AgeWatch(n) for n in self.run.nodes]

    def start(self):
        super().start()
        for w in self.watches:
            w.start()

    def create(self, replicas):
        for stream, limits in self.LIMITS.items():
            self.run.js.create(stream, ["chaos.>" if stream == STREAM else stream + ".>"], replicas, **limits)

    def streams(self):
        return list(self.LIMITS)

    def drain(self):
        wait_until("all to have passed its age", lambda: self.run.js.info("CHAOS_AGE")["state"]["messages"] == 0,
                   AGE_S + 2, 0.1)
        for w in self.watches:
            w.is_ending.set()
        for w in self.watches:
            w.join(5)

    def gathered(self, stream):
        return [p for w in self.writers for p in w.puts[stream]]

    def judge(self, stored):
        deletes = [d for w in self.writers for d in w.deletes]
        purges = [p for w in self.writers for p in w.purges]
        bad = [text for w in self.writers for text in w.complaints]
        sights = [s for w in self.watches for s in w.sights]
        bad += stream_checks.check_ages(self.gathered("CHAOS_AGE"), sights, AGE_S)
        if max((s.first for s in sights), default=1) == 1:
            bad.append("nothing was seen to go by its age")
        check = stream_checks.check_limited
        bad += check(self.gathered(STREAM), [], purges, stored[STREAM], per_subject=5)
        bad += check(self.gathered("CHAOS_OLD"), [], [], stored["CHAOS_OLD"], max_msgs=200)
        bad += check(self.gathered("CHAOS_NEW"), deletes, [], stored["CHAOS_NEW"], max_msgs=60, is_new_discarded=True)
        return bad

    def ops(self):
        return sum(p.outcome != UNKNOWN for s in self.LIMITS for p in self.gathered(s)) + sum(
            x.outcome == ACKED for w in self.writers for x in w.deletes + w.purges)


class Churner(Caller):
    """Creates, fills, purges and deletes streams and consumers of its own, under two names again and again. A name
    with a request that was not answered is left alone from then on."""

    def __init__(self, run, name, at):
        super().__init__(run, name, at)
        self.names = []
        self.used = [self.another(), self.another()]
        self.answered = 0
        self.complaints = []

    def another(self):
        self.names.append(Name("CHURN-%s-%d" % (self.name, len(self.names))))
        return self.names[-1]

    def work(self):
        while not self.is_ending.is_set():
            place = self.rng.randrange(2)
            n = self.used[place]
            try:
                self.step(n)
            except Silence:
                n.is_clear = False
            if not n.is_clear:
                self.used[place] = self.another()
            time.sleep(self.rng.uniform(0, 0.05))

    def change(self, n, subject, body):
        """True when it was done. An error that does not say so leaves it open whether it was."""
        answer = self.call_api(subject, body)
        if "error" in answer:
            n.is_clear = False
            code = answer["error"].get("err_code")
            if code == 10059 and n.exists:
                self.complaints.append("%s, life %d, is not found by %s" % (n.name, n.life, subject))
            return False
        self.answered += 1
        return True

    def step(self, n):
        config = {"name": n.name, "subjects": [n.name + ".>"], "num_replicas": 3, "storage": "file",
                  "retention": "limits"}
        if not n.exists:
            if self.change(n, "STREAM.CREATE." + n.name, config):
                n.exists, n.puts, n.consumers = True, [], set()
                n.life += 1
            return
        what = self.rng.random()
        if what < 0.5:
            for _ in range(self.rng.randrange(1, 8)):
                self.fill(n)
        elif what < 0.6:
            self.change(n, "STREAM.UPDATE." + n.name, dict(config, max_msgs=self.rng.choice((-1, 100_000, 200_000))))
        elif what < 0.7:
            if self.change(n, "STREAM.PURGE." + n.name, {}):
                n.puts = []
        elif what < 0.85:
            self.consumer(n)
        elif self.change(n, "STREAM.DELETE." + n.name, {}):
            n.exists = False

    def consumer(self, n):
        if n.consumers and self.rng.random() < 0.5:
            name = self.rng.choice(sorted(n.consumers))
            if self.change(n, "CONSUMER.DELETE.%s.%s" % (n.name, name), {}):
                n.consumers.discard(name)
            return
        name = "c%d" % self.rng.randrange(4)
        if self.change(n, "CONSUMER.DURABLE.CREATE.%s.%s" % (n.name, name), {
                "stream_name": n.name, "config": {"durable_name": name, "ack_policy": "explicit"}}):
            n.consumers.add(name)

    def fill(self, n):
        put = Put("%s.x" % n.name, b"%s life %d number %d, %d" % (n.name.encode(), n.life, len(n.puts), self.answered))
        n.puts.append(put)
        n.unknown.add(put.payload)
        try:
            publish(self, put)
        finally:
            self.answered += put.outcome != UNKNOWN
            if put.outcome != UNKNOWN:
                n.unknown.discard(put.payload)


class Churn(Publish):
    """Streams and consumers are created, changed, purged and deleted under the same names; two publish beside."""

    def make(self):
        self.churners = [Churner(self.run, "c%d" % i, i) for i in range(4)]
        self.writers = [Writer(self.run, "w%d" % i, i) for i in range(2)] + self.churners

    def catalogs(self):
        """{node: {stream: consumers}}"""
        got = {}
        for node in self.run.nodes:
            client = node.client()
            try:
                listed, catalog = 0, {}
                while True:
                    answer = json.loads(client.request("$JS.API.STREAM.NAMES", json.dumps({"offset": listed}), 10)[4])
                    for name in answer["streams"] or []:
                        consumers = json.loads(client.request("$JS.API.CONSUMER.NAMES." + name, b"", 10)[4])
                        catalog[name] = set(consumers["consumers"] or [])
                    listed += len(answer["streams"] or [])
                    if listed >= answer["total"]:
                        break
                got[node.name] = catalog
            finally:
                client.close()
        return got

    def streams(self):
        return sorted(next(iter(self.catalogs().values())))

    def judge(self, stored):
        catalogs = self.catalogs()
        names = [n for w in self.churners for n in w.names]
        return (super().judge(stored) + stream_checks.check_catalogs(catalogs)
                + [text for w in self.churners for text in w.complaints]
                + stream_checks.check_names(names, next(iter(catalogs.values())), stored))

    def ops(self):
        return super().ops() + sum(w.answered for w in self.churners)

    def writes(self):
        return [w for writer in self.writers if isinstance(writer, Writer) for w in writer.writes]


ALL = {"limits": Limits, "churn": Churn}
