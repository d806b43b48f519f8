"""JetStream over the raw client of weir_cluster.py: requests, publishes with acks, pulls. Every reply of the API
is validated against its schema.

    with JsCluster(3) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s.>"], replicas=3)
        js.publish("s.a", b"hello")
"""

import json
import os
import time

import schemas
from weir_cluster import Cluster, finish, wait_until

_serial = [0]


def inbox():
    _serial[0] += 1
    return "_INBOX.%x.%x" % (os.getpid(), _serial[0])


def folders(i, cluster):
    return ["-js", "-sd", cluster.stores.get(i) or os.path.join(cluster.folder, "n%d" % i, "js")]


class JsCluster(Cluster):
    """Nodes with JetStream; entered once the meta group has a leader that all know. `stores`: folders elsewhere,
    by number of node."""

    def __init__(self, count, args=(), seeds=None, born=True, stores=None, **options):
        self.is_born = born
        self.stores = stores or {}
        super().__init__(count, args, seeds, folders, **options)

    def start(self):
        super().start()
        if self.is_born:
            self.wait_ready()
        return self

    def wait_ready(self, nodes=None, timeout=60.0):
        for node in nodes or self.nodes:
            wait_until("%s to be healthy" % node.name,
                       lambda: node.http("/healthz")[0] == 200, timeout)
        return self

    def leader(self, stream, timeout=30.0, among=None):
        """The node that says it leads the stream, and that nobody else of the live ones contradicts."""
        def check():
            for node in among or self.nodes:
                if node.process is None or node.process.poll() is not None:
                    continue
                try:
                    r = node.json("/replicaz?stream=" + stream)
                except (AssertionError, OSError):
                    continue
                if r["role"] == "leader" and r["is_led"]:
                    return node
            return None
        return wait_until("a leader of " + stream, check, timeout)

    def same(self, stream, nodes=None, timeout=60.0):
        """Waits until all replicas have applied the same and have the same hash; returns one of them."""
        nodes = nodes or self.nodes
        seen = []

        def check():
            got = [n.http("/replicaz?stream=" + stream) for n in nodes]
            seen[:] = [json.loads(body) for status, body in got if status == 200]
            if len(seen) < len(nodes):
                return False
            keys = {(r["applied"], r["hash"], r["messages"], r["last_seq"], r["state"]) for r in seen}
            return len(keys) == 1 and seen[0]["state"] == "ok"
        try:
            wait_until("equal replicas of " + stream, check, timeout)
        except AssertionError as e:
            raise AssertionError("%s: %s" % (e, seen))
        return seen[0]


class Js:
    """A client of one node."""

    def __init__(self, node, timeout=10.0):
        self.node = node
        self.timeout = timeout
        self.client = node.client()
        self.client.sock.settimeout(timeout)

    def close(self):
        self.client.close()

    def api(self, subject, body=None, timeout=None):
        text = b"" if body is None else json.dumps(body).encode()
        got = self.client.request("$JS.API." + subject, text, timeout or self.timeout)
        schemas.check(got[4])
        return json.loads(got[4])

    def ok(self, subject, body=None, timeout=None):
        reply = self.api(subject, body, timeout)
        assert "error" not in reply, (subject, reply["error"])
        return reply

    def create(self, name, subjects, replicas=1, timeout=None, **config):
        body = dict({"name": name, "subjects": subjects, "num_replicas": replicas,
                     "retention": "limits", "storage": "file"}, **config)
        return self.ok("STREAM.CREATE." + name, body, timeout)

    def delete(self, name):
        return self.ok("STREAM.DELETE." + name)

    def info(self, name, timeout=None):
        return self.ok("STREAM.INFO." + name, None, timeout)

    def consumer(self, stream, name, **config):
        body = dict({"durable_name": name, "ack_policy": "explicit"}, **config)
        return self.ok("CONSUMER.DURABLE.CREATE.%s.%s" % (stream, name),
                       {"stream_name": stream, "config": body})

    def publish(self, subject, payload=b"", header=None, timeout=None):
        """The PubAck, or None for a 503; TimeoutError when nothing comes."""
        got = self.client.request(subject, payload, timeout or self.timeout, header)
        if got[3].startswith(b"NATS/1.0 503"):
            return None
        return json.loads(got[4])

    def get(self, stream, seq):
        return self.api("STREAM.MSG.GET." + stream, {"seq": seq})

    def pull(self, stream, consumer, batch=1, to=None, **options):
        """Sends the request; returns the inbox, to which the client is subscribed."""
        to = to or inbox()
        sid = self.client.sub(to, "p" + to.split(".")[-1])
        self.client.pub("$JS.API.CONSUMER.MSG.NEXT.%s.%s" % (stream, consumer),
                        json.dumps(dict({"batch": batch}, **options)), to)
        return to, sid

    def fetch(self, stream, consumer, batch=1, expires=2.0):
        """Messages until the batch is complete or a status ends it: [(seq, payload, reply)]."""
        _, sid = self.pull(stream, consumer, batch, expires=int(expires * 1e9))
        got = []
        try:
            while len(got) < batch:
                m = self.client.msg(expires + 3)
                if m[1] != sid:
                    continue
                if m[3].startswith(b"NATS/1.0 ") and m[2] is None:
                    break
                got.append((int(m[2].split(".")[5]), m[4], m[2]))
        finally:
            self.client.send("UNSUB %s\r\n" % sid)
        return got

    def ack(self, reply, timeout=None):
        """A confirmed ack."""
        got = self.client.request(reply, b"+ACK", timeout or self.timeout)
        assert got[4] == b"", got


class Publisher:
    """Publishes without waiting and collects what comes back: acks[i] is the answer to message i."""

    def __init__(self, node):
        self.node = node
        self.client = node.client()
        self.prefix = inbox()
        self.client.sub(self.prefix + ".*", "acks")
        self.sent = 0
        self.acks = {}

    def close(self):
        self.client.close()

    def send(self, subject, payload, header=None):
        self.client.pub(subject, payload, "%s.%d" % (self.prefix, self.sent), header)
        self.sent += 1

    def take(self, timeout):
        m = self.client.msg(timeout)
        n = int(m[0].rsplit(".", 1)[1])
        assert n not in self.acks, "message %d was answered twice: %r, %r" % (n, self.acks[n], m)
        self.acks[n] = None if m[3].startswith(b"NATS/1.0 503") else json.loads(m[4])

    def drain(self, timeout=20.0):
        """Waits for all answers."""
        end = time.monotonic() + timeout
        while len(self.acks) < self.sent:
            left = end - time.monotonic()
            assert left > 0, "%d of %d answers" % (len(self.acks), self.sent)
            self.take(max(left, 0.001))

    def poll(self, seconds):
        """Takes what comes for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and len(self.acks) < self.sent:
            try:
                self.take(max(0.001, end - time.monotonic()))
            except TimeoutError:
                return


def dump(node, stream, first=1):
    """The messages of a replica, as they lie there: {seq: payload}."""
    import base64
    status, body = node.http("/replicaz?stream=%s&dump=%d" % (stream, first), 60)
    assert status == 200, body
    got = {}
    for line in body.splitlines():
        m = json.loads(line)
        got[m["seq"]] = base64.b64decode(m["data"])
    return got
