"""Plays the conversations of tests/parity/*.txt against a server and returns what it answered, normalised.

A conversation file holds cases; each begins with no stream and a new connection:

    == title                        a case
    api SUBJECT [BODY]              request to $JS.API.SUBJECT
    req SUBJECT [[HEADERS]] [BODY]  request; HEADERS as `Name: value; Name: value`
    pub SUBJECT [[HEADERS]] [BODY]  the same without a reply subject
    pull STREAM CONSUMER N [BODY]   MSG.NEXT; N messages and statuses are awaited, more are shown
    more N                          N more messages of the pulls so far
    ack K [BODY]                    request to the reply subject of the K-th delivered message of the case
    watch SUBJECT / seen N          subscribe, to several too; show N messages that came
    sleep MS
    > TEXT                          a line for a connection of its own, with escapes; `>>` without a line end
    <                               sends a PING behind and shows what came up to its PONG or the end
    quiet                           shows what comes within 200 ms, without a PING
    differs TEXT | REASON           the next step's answer differs on purpose: weir's has TEXT in it
    differs3 TEXT | REASON          the same, on three nodes only

%{x*100} repeats, $R is the number of replicas. Lines that begin with # are comments.
"""

import json
import os
import re
import socket
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "system"))

from weir_cluster import Client  # noqa: E402

# Of features later than 2.10, which weir does not report.
LATER_KEYS = {"allow_msg_ttl", "subject_delete_marker_ttl", "persist_mode", "allow_atomic",
              "allow_msg_schedules", "allow_batched", "allow_msg_counter", "leader_since",
              "traffic_account", "system_account"}
TIMES = {"created", "ts", "time", "first_ts", "last_ts", "last_active", "timestamp"}
# Where two implementations cannot agree: numbers of this very process.
LOCAL = {"id", "server_id", "raft_group", "active", "lag", "peer", "total_api", "start", "rtt", "client"}
WAIT_S = 3.0


def read_cases(path, replicas=1):
    """[(title, [(line number, text, differs or None)])]"""
    cases = []
    differs = None
    with open(path) as f:
        for number, line in enumerate(f, 1):
            line = line.rstrip("\n")
            if line.startswith("== "):
                cases.append((line[3:], []))
            elif line.startswith(("differs ", "differs3 ")):
                word, _, rest = line.partition(" ")
                text, _, reason = rest.partition(" | ")
                assert reason, "%s:%d: a difference needs a reason" % (path, number)
                differs = text if word == "differs" or replicas == 3 else differs
            elif line and not line.startswith("#"):
                cases[-1][1].append((number, line, differs))
                differs = None
    return cases


def expand(text, replicas):
    text = re.sub(r"%\{(.+?)\*(\d+)\}", lambda m: m.group(1) * int(m.group(2)), text)
    return text.replace("$R", str(replicas))


def short(text):
    """Long runs of one character are shown by their length."""
    return re.sub(r"(.)\1{63,}", lambda m: "%%{%s*%d}" % (m.group(1), len(m.group(0))), text)


class Player:
    def __init__(self, port, replicas=1, settle_s=0.0):
        self.port = port
        self.replicas = replicas
        self.settle_s = settle_s

    # ---- Normalising ----

    def json_value(self, v, key=None):
        if isinstance(v, dict):
            out = {}
            for k, item in v.items():
                if k in LATER_KEYS:
                    continue
                if k == "metadata" and isinstance(item, dict):
                    item = {a: b for a, b in item.items() if not a.startswith("_nats.")}
                    if not item:
                        continue
                if k == "cluster" and isinstance(item, dict):
                    if self.replicas == 1:
                        continue
                    item = {"leader": "<node>", "name": item.get("name"),
                            "replicas": len(item.get("replicas") or [])}
                    if "ack_floor" in v:
                        del item["replicas"]  # A consumer of ours lives where its stream does.
                    out[k] = item
                    continue
                if k == "api" and isinstance(item, dict):
                    # Counts of requests depend on who asks; the level is what it is on purpose.
                    item = {a: 0 for a in item if a in ("total", "errors")}
                out[k] = self.json_value(item, k)
            return out
        if key == "replicas" and isinstance(v, list):
            return len(v)
        if isinstance(v, list):
            return [self.json_value(i, key) for i in v]
        if key in TIMES and isinstance(v, str) and not v.startswith("0001-"):
            return "<time>"
        if key in LOCAL:
            return "<%s>" % key
        if key == "leader" and isinstance(v, str):
            return "<node>"
        if isinstance(v, str):
            if key in ("name", "consumers", "consumer", "durable_name") and v not in self.known:
                return "<auto>" if re.fullmatch(r"[0-9A-Za-z]{8}", v) else v
            if key == "description":
                v = re.sub(r"^(invalid JSON: )(?!json: unknown field).*", r"\1<words>", v)
            return self.text(v)
        return v

    def text(self, s):
        s = s.replace(self.inbox, "<inbox>")
        s = re.sub(r"\$JS\.ACK\.([^.]+)\.([^.]+)\.(\d+)\.(\d+)\.(\d+)\.\d{19}\.(\d+)",
                   r"$JS.ACK.\1.\2.\3.\4.\5.<ns>.\6", s)
        s = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>", s)
        return s

    def payload(self, data):
        text = data.decode("utf-8", "backslashreplace")
        if text.startswith("{"):
            try:
                v = self.json_value(json.loads(text))
                return short(json.dumps(v, sort_keys=True, ensure_ascii=True))
            except ValueError:
                pass
        return short(self.text(text))

    def message(self, m):
        """One message in one line: the subject where it is not the inbox, reply, headers, payload."""
        subject, _, reply, header, payload = m
        parts = []
        subject = re.sub(re.escape(self.inbox) + r"\.\d+", "<inbox>", subject)
        if subject != "<inbox>":
            parts.append(subject)
        if reply:
            if reply.startswith("$JS.ACK."):
                self.acks.append(reply)
            parts.append("reply=" + self.text(reply))
        if header:
            parts.append("[" + "|".join(header.decode("utf-8", "replace").rstrip("\r\n").split("\r\n"))
                         + "]")
            parts[-1] = self.text(parts[-1])
        if payload:
            parts.append(self.payload(payload))
        return " ".join(parts) or "(empty)"

    # ---- Steps ----

    def new_inbox(self):
        self.inboxes += 1
        return "%s.%d" % (self.inbox, self.inboxes)

    def next_message(self, seconds, inbox=None):
        """The next message: to this inbox, or to none that a request waits on. The others are kept."""
        end = time.monotonic() + seconds
        for i, m in enumerate(self.kept):
            if (m[0] == inbox) if inbox else (m[0] not in self.request_inboxes):
                return self.kept.pop(i)
        while True:
            try:
                m = self.client.msg(max(0.001, end - time.monotonic()))
            except (TimeoutError, socket.timeout, EOFError, ConnectionError):
                return None
            # A delivery shows the stream's subject, whatever it was sent to: it is no request's.
            is_mine = m[0] == inbox if inbox else m[0] not in self.request_inboxes
            if is_mine or (inbox and m[2] and inbox in self.next_inboxes):
                return m
            self.kept.append(m)

    def collect(self, wanted, grace=0.03):
        lines = []
        end = time.monotonic() + WAIT_S
        while len(lines) < wanted:
            m = self.next_message(max(0.001, end - time.monotonic()))
            if m is None:
                lines.append("nothing more")
                return lines
            lines.append(self.message(m))
        while True:
            m = self.next_message(grace)
            if m is None:
                return lines
            lines.append("more: " + self.message(m))

    def request(self, subject, payload, header=None, seconds=WAIT_S):
        inbox = self.new_inbox()
        self.request_inboxes.add(inbox)
        if payload.startswith("+NXT") or ".MSG.NEXT." in subject:
            self.next_inboxes.add(inbox)
        self.client.pub(subject, payload, inbox, header)
        m = self.next_message(seconds, inbox)
        return [self.message(m)] if m is not None else ["no answer"]

    @staticmethod
    def split_header(rest):
        """`SUBJECT [HEADERS] BODY` in its parts."""
        subject, _, rest = rest.partition(" ")
        header = None
        if rest.startswith("["):
            inner, _, rest = rest[1:].partition("]")
            header = "NATS/1.0\r\n" + "".join(h.strip() + "\r\n" for h in inner.split(";")) + "\r\n"
            rest = rest[1:] if rest.startswith(" ") else rest
        return subject, header, rest

    def raw_read(self, is_ping):
        """What the connection of its own says, line by line."""
        if self.raw is None:
            return ["no connection"]
        pongs = self.pings + (1 if is_ping else 0)
        self.pings = 0
        closed = False
        try:
            self.raw.send(self.pending + (b"PING\r\n" if is_ping else b""))
        except (BrokenPipeError, ConnectionError):
            closed = True
        self.pending = b""
        end = time.monotonic() + (1.0 if is_ping else 0.2)
        while not closed and time.monotonic() < end:
            if is_ping and len(re.findall(rb"(?m)^PONG\r$", self.raw.buf)) >= pongs:
                break
            try:
                self.raw._fill(max(0.001, end - time.monotonic()))
            except (TimeoutError, socket.timeout):
                break
            except (EOFError, ConnectionError):
                closed = True
        data, self.raw.buf = self.raw.buf, b""
        out = []
        for line in data.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n").split("\n"):
            if line.startswith("INFO "):
                line = "INFO"
            if line not in ("PING", "INFO") and (line or out):
                out.append(short(re.sub(re.escape(self.inbox) + r"\.\d+", "<inbox>", line)))
        while is_ping and out and out[-1] == "PONG" and not closed:
            out.pop()
            break
        if closed:
            out.append("(closed)")
            self.raw.close()
            self.raw = None
        return out or ["(nothing)"]

    def raw_write(self, text):
        if self.raw is None:
            self.raw = Client(self.port)
            self.raw.info()
            self.pending = b""
            self.pings = 0
        data = text.encode("utf-8").decode("unicode_escape").encode("latin-1")
        self.pending += data
        self.pings += len(re.findall(rb"(?im)^ping", data))

    def step(self, line):
        word, _, rest = line.partition(" ")
        if word == "<":
            rest = ""
        if word == "api":
            subject, _, body = rest.partition(" ")
            answers = self.request("$JS.API." + subject, body)
            if subject.startswith(("STREAM.CREATE", "STREAM.UPDATE")):
                time.sleep(self.settle_s)
            return answers
        if word == "req":
            subject, header, body = self.split_header(rest)
            return self.request(subject, body, header)
        if word == "pub":
            subject, header, body = self.split_header(rest)
            self.client.pub(subject, body, None, header)
            return []
        if word == "pull":
            stream, consumer, count, *body = rest.split(" ", 3)
            self.client.pub("$JS.API.CONSUMER.MSG.NEXT.%s.%s" % (stream, consumer),
                            body[0] if body else b"", self.new_inbox())
            return self.collect(int(count))
        if word == "more":
            return self.collect(int(rest))
        if word == "ack":
            number, _, body = rest.partition(" ")
            if int(number) > len(self.acks):
                return ["no such message"]
            return self.request(self.acks[int(number) - 1], body, None, 0.4)
        if word == "watch":
            self.client.sub(rest, "w" + rest)
            return []
        if word == "seen":
            return self.collect(int(rest))
        if word == "sleep":
            time.sleep(int(rest) / 1000)
            return []
        if word in (">", ">>"):
            self.raw_write(rest + ("\\r\\n" if word == ">" else ""))
            return []
        if word == "<":
            return self.raw_read(True)
        if word == "quiet":
            return self.raw_read(False)
        raise ValueError("unknown step: " + line)

    def begin(self, text):
        self.known = set(re.findall(r"[0-9A-Za-z_-]+", text))
        self.inbox = "_INBOX.p%x" % time.monotonic_ns()
        self.inboxes = 0
        self.kept = []
        self.request_inboxes = set()
        self.next_inboxes = set()
        self.acks = []
        self.raw = None
        self.client = Client(self.port).connect()
        self.client.sub(self.inbox + ".*", "i")

    def end(self):
        if self.raw is not None:
            self.raw.close()
        self.client.close()

    def clear(self):
        """No stream is left for the next case."""
        c = Client(self.port).connect()
        names = json.loads(c.request("$JS.API.STREAM.NAMES")[4]).get("streams") or []
        for name in names:
            c.request("$JS.API.STREAM.DELETE." + name)
        c.close()
        if names:
            time.sleep(self.settle_s)

    def play(self, case):
        """[(number, line, differs, [answers])]"""
        title, steps = case
        self.begin("\n".join(line for _, line, _ in steps))
        out = []
        try:
            for number, line, differs in steps:
                out.append((number, line, differs, self.step(expand(line, self.replicas))))
        finally:
            self.end()
            self.clear()
        return out


def render(title, played):
    lines = ["== " + title]
    for _, line, _, answers in played:
        lines.append(line if len(line) < 400 else line[:400] + "...")
        lines += ["    " + a for a in answers]
    return lines
