"""Fifty kills: publishers of every official client, the leader's node killed with -9 again and again.

Nothing is published twice and no Nats-Msg-Id is used, so: every acknowledged message is stored under
its sequence, no message is stored twice, sequences follow the order of publishing, all replicas are
equal, and consumers see everything at least once and confirm it once.

KILLS=N makes it another number of kills; KEEP=1 leaves the reports where they are.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import clients
from js_cluster import JsCluster, api, dump, is_healthy, leader, replica, wait_equal
from weir_cluster import run, wait_until

KILLS = int(os.environ.get("KILLS", "50"))
STREAM = "KILLS"


class CliPublisher(threading.Thread):
    """Runs of `nats pub --jetstream`, one connection each, at the three nodes in turn."""

    def __init__(self, command, path, urls):
        super().__init__()
        self.command, self.urls, self.out = command, urls, open(path, "w", buffering=1)
        self.is_stopping = False
        self.name = "cli publish"

    def run(self):
        at = 0
        while not self.is_stopping:
            at += 1
            name = "cli%d" % at
            for k in range(1, 21):
                self.out.write("P %s %d\n" % (name, k))
            done = subprocess.run(
                self.command + ["-s", self.urls[at % len(self.urls)], "--timeout", "5s",
                                "pub", "--jetstream", "--count", "20", "--sleep", "10ms",
                                "kills." + name, name + ":{{Count}}"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
            k = 0
            for line in done.stdout.splitlines():
                if "Sequence:" in line:
                    k += 1
                    seq = int(line.split("Sequence:")[1].split()[0].replace(",", ""))
                    self.out.write("A %s %d %d 0 -\n" % (name, k, seq))
            if k == 0:
                time.sleep(0.1)

    def stop(self):
        self.is_stopping = True
        self.join(60)
        self.out.close()


class Program:
    """A client's publishers or consumer; ends when its standard input does."""

    def __init__(self, name, command, what, path, urls):
        self.name = "%s %s" % (name, what)
        self.process = subprocess.Popen(command + [what, path] + urls, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def stop(self):
        try:
            text, _ = self.process.communicate("", 40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("%s did not stop" % self.name)
        assert self.process.returncode == 0, "%s ended with %d:\n%s" % (
            self.name, self.process.returncode, text[-3000:])

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Reports:
    """What publishers and consumers wrote down."""

    def __init__(self, folder):
        self.published = {}   # (name, i): place in the order of publishing
        self.acked = {}       # (name, i): (seq, time in ms, port of the node)
        self.refused = {}     # (name, i): text
        self.seen = {}        # consumer: {seq: times}
        self.confirmed = {}   # consumer: {seq: times}
        self.after = []       # (consumer, seq): seen again after its confirmation
        for file in sorted(os.listdir(folder)):
            with open(os.path.join(folder, file)) as f:
                for line in f:
                    if line.endswith("\n"):
                        self._line(line.split())

    def _line(self, w):
        if w[0] == "P":
            self.published[w[1], int(w[2])] = len(self.published)
        elif w[0] == "A":
            assert (w[1], int(w[2])) not in self.acked, "acknowledged twice: %s" % w
            self.acked[w[1], int(w[2])] = (int(w[3]), int(w[4]), w[-1].split(":")[-1].strip("/"))
        elif w[0] == "E":
            self.refused[w[1], int(w[2])] = " ".join(w[3:])
        elif w[0] == "S":
            seen = self.seen.setdefault(w[1], {})
            seen[int(w[2])] = seen.get(int(w[2]), 0) + 1
            if int(w[2]) in self.confirmed.get(w[1], {}):
                self.after.append((w[1], int(w[2])))
        elif w[0] == "C":
            confirmed = self.confirmed.setdefault(w[1], {})
            confirmed[int(w[2])] = confirmed.get(int(w[2]), 0) + 1


def judge(reports, dumps):
    """All complaints, as text."""
    bad = []
    stored = {}
    first = dumps[0]
    for seq, (_, data) in first.items():
        name, i = data.decode().split(":")
        key = (name, int(i))
        if key in stored:
            bad.append("doubled: %s:%d at %d and %d" % (*key, stored[key], seq))
        if key not in reports.published:
            bad.append("stored but never published: %s:%d at %d" % (*key, seq))
        stored[key] = seq
    for at, other in enumerate(dumps[1:], 1):
        if other != first:
            for seq in sorted(set(first) | set(other)):
                if first.get(seq) != other.get(seq):
                    bad.append("replicas 0 and %d differ at %d: %r, %r"
                               % (at, seq, first.get(seq), other.get(seq)))
                    break
    for key, (seq, _, _) in reports.acked.items():
        if key not in stored:
            bad.append("lost: %s:%d, acknowledged as %d; there is %r"
                       % (*key, seq, first.get(seq)))
        elif stored[key] != seq:
            bad.append("%s:%d is at %d, acknowledged as %d" % (*key, stored[key], seq))
    last = {}
    for (name, i), (seq, _, _) in sorted(reports.acked.items()):
        if name in last and last[name][1] >= seq:
            bad.append("order: %s:%d at %d, but %s:%d at %d" % (name, i, seq, name, *last[name]))
        last[name] = (i, seq)
    return bad


def judge_consumers(reports, names, first_seq, last_seq):
    bad = []
    for name in names:
        seen, confirmed = reports.seen.get(name, {}), reports.confirmed.get(name, {})
        unseen = [s for s in range(first_seq, last_seq + 1) if s not in seen]
        if unseen:
            bad.append("%s has not seen %d messages, the first %d" % (name, len(unseen), unseen[0]))
        unconfirmed = [s for s in range(first_seq, last_seq + 1) if s not in confirmed]
        if unconfirmed:
            bad.append("%s: %d acks not confirmed, the first of %d"
                       % (name, len(unconfirmed), unconfirmed[0]))
    for name, seq in reports.after[:20]:
        bad.append("%s got %d again after its confirmation" % (name, seq))
    return bad


def kill_round(cluster, at):
    """Kills and brings back; returns (when, name of the killed node, whether it led)."""
    nodes = cluster.nodes
    led = wait_until("a leader before kill %d" % at, lambda: leader(nodes, STREAM), 20)
    time.sleep(random.uniform(0.1, 0.5))
    victim = led
    if at % 7 == 6:
        victim = random.choice([n for n in nodes if n is not led])
    when = int(time.time() * 1000)
    victim.kill()
    others = [n for n in nodes if n is not victim]
    wait_until("a leader after kill %d" % at, lambda: leader(others, STREAM), 20)
    time.sleep(random.uniform(0.0, 0.3))
    victim.start(timeout=20)
    try:
        wait_until("%s to be back after kill %d" % (victim.name, at),
                   lambda: is_caught_up(cluster, victim), 20)
    except AssertionError as e:
        raise AssertionError("%s: %s" % (e, [(replica(n, STREAM), n.http("/healthz")) for n in nodes]))
    return when, victim, victim is led


def is_caught_up(cluster, node):
    own = replica(node, STREAM)
    others = [replica(n, STREAM) for n in cluster.nodes if n is not node]
    if own is None or None in others or not is_healthy(node):
        return False
    return own["state"] == "ok" and own["applied"] + 500 >= max(o["commit"] for o in others)


def gaps_of(reports, kills):
    """For each kill of a leader the time to the first ack after it: the worst of the connections to the
    nodes that lived. That a client must reconnect is another matter."""
    times = {}
    for (name, _), (_, ms, port) in reports.acked.items():
        if ms:
            times.setdefault(name, []).append((ms, port))
    gaps = []
    for when, victim, was_leader in kills:
        pauses = []
        for acks in times.values():
            before = max((a for a in acks if a[0] <= when), default=None)
            after = min((a for a in acks if a[0] > when), default=None)
            if before and after and not any(str(v.port) == before[1] and before[0] <= w <= after[0]
                                            for w, v, _ in kills):
                pauses.append(after[0] - when)
        if was_leader and pauses:
            gaps.append(max(pauses))
    return gaps


def histogram(gaps):
    bounds = (200, 300, 400, 500, 600, 800, 1000, 1500, 2000, 5000)
    text = []
    low = 0
    for high in bounds + (10 ** 9,):
        n = sum(low <= g < high for g in gaps)
        if n:
            text.append("%s ms: %d" % ("%d-%d" % (low, high) if high < 10 ** 9 else ">%d" % low, n))
        low = high
    return "first ack after the kill of a leader, worst connection: max %s ms; %s" % (
        max(gaps, default="-"), ", ".join(text))


def start_programs(cluster, folder):
    """Publishers of all clients and consumers of those that have one, and the consumers' names."""
    programs, consumers = [], []
    path = lambda name: os.path.join(folder, name)
    api_client = cluster.nodes[0].client()
    for name in ("go", "py", "js"):
        command = clients.get_or_skip(name, "kills")
        if command is None:
            continue
        made = api(api_client, "CONSUMER.CREATE.%s.c%s" % (STREAM, name), {
            "stream_name": STREAM, "action": "create",
            "config": {"name": "c" + name, "durable_name": "c" + name, "ack_policy": "explicit",
                       "ack_wait": 5_000_000_000, "max_ack_pending": 5000}})
        assert "error" not in made, made
        consumers.append("c" + name)
        programs.append(Program(name, command, "consume", path("c" + name), cluster.urls))
        programs.append(Program(name, command, "publish", path(name), cluster.urls))
    command = clients.get_or_skip("cli", "kills")
    if command is not None:
        cli = CliPublisher(command, path("cli"), cluster.urls)
        cli.start()
        programs.append(cli)
    return programs, consumers


def settle(cluster, programs, consumers, folder):
    """Ends all programs once everything is consumed; what they reported, and all complaints."""
    for p in programs:
        if "consume" not in p.name:
            p.stop()
    wait_consumed(cluster, consumers)
    for p in programs:
        if "consume" in p.name:
            p.stop()
    hash_ = wait_equal(cluster.nodes, STREAM, 60)
    dumps = [dump(n, STREAM) for n in cluster.nodes]
    reports = Reports(folder)
    bad = judge(reports, dumps) + judge_consumers(reports, consumers, min(dumps[0]), max(dumps[0]))
    print("  %d published, %d acknowledged, %d refused, %d stored; hash %s" % (
        len(reports.published), len(reports.acked), len(reports.refused), len(dumps[0]), hash_))
    for text, count in top(reports.refused.values()):
        print("    refused %d times: %s" % (count, text))
    return reports, bad


def end_programs(programs):
    """Also in the middle of something."""
    for p in programs:
        if isinstance(p, Program):
            p.kill()
        else:
            p.stop()


def create_stream(cluster):
    made = api(cluster.nodes[0].client(), "STREAM.CREATE." + STREAM,
               {"name": STREAM, "subjects": ["kills.>"], "num_replicas": 3})
    assert "error" not in made, made


def test_fifty_kills_lose_double_and_reorder_nothing():
    folder = tempfile.mkdtemp(prefix="weir-kills-")
    programs = []
    with JsCluster(3) as cluster:
        try:
            create_stream(cluster)
            programs, consumers = start_programs(cluster, folder)
            time.sleep(1)
            began = time.monotonic()
            kills = []
            for at in range(KILLS):
                kills.append(kill_round(cluster, at))
                if at % 10 == 9:
                    print("  %d kills in %.0f s" % (at + 1, time.monotonic() - began), flush=True)
            time.sleep(1)
            reports, bad = settle(cluster, programs, consumers, folder)
            gaps = gaps_of(reports, kills)
            print("  " + histogram(gaps), flush=True)
            assert not bad, "%d complaints:\n%s" % (len(bad), "\n".join(bad[:30]))
            assert len(reports.acked) > 50 * KILLS, "too little was published to mean anything"
            assert len(gaps) > KILLS // 4, "too few leaders were killed to mean anything"
        finally:
            end_programs(programs)
            if os.environ.get("KEEP"):
                print("  reports and stores: %s" % folder)
                for n in cluster.nodes:
                    shutil.copy(n.log_path, os.path.join(tempfile.gettempdir(), "weir-%s.log" % n.name))
            else:
                shutil.rmtree(folder, ignore_errors=True)


def top(texts):
    counts = {}
    for t in texts:
        counts[t[:120]] = counts.get(t[:120], 0) + 1
    return sorted(counts.items(), key=lambda kv: -kv[1])[:5]


def wait_consumed(cluster, consumers):
    """Until the consumers have acked everything, however long it takes while they go on."""
    client = cluster.nodes[0].client()
    for name in consumers:
        def acked():
            info = api(client, "CONSUMER.INFO.%s.%s" % (STREAM, name))
            return None if "error" in info else (info["num_pending"] + info["num_ack_pending"],
                                                 info["ack_floor"]["stream_seq"])
        now = None
        while now is None or now[0] > 0:
            before = now
            now = wait_until("%s to go on after %s" % (name, before), lambda: acked() not in (None, before)
                             and acked(), 60, 0.2)


if __name__ == "__main__":
    run(globals())
