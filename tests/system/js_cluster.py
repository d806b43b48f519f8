"""Three nodes with JetStream, what they say of a stream, and schemas for what they answer."""

import base64
import json
import os

import schemas
from weir_cluster import Cluster, wait_until


class JsCluster(Cluster):
    """Ready when each node sees the meta group's leader."""

    def __init__(self, count=3, **options):
        super().__init__(count, args=["-js"], node_args=self._store, name="JS", **options)

    @staticmethod
    def _store(i, cluster):
        return ["-sd", os.path.join(cluster.folder, "store%d" % i)]

    @property
    def urls(self):
        return ["nats://127.0.0.1:%d" % n.port for n in self.nodes]

    def start(self):
        super().start()
        self.wait_mesh()
        for node in self.nodes:
            wait_until("a meta leader at " + node.name, lambda: is_healthy(node), 60)
        return self


def is_healthy(node):
    try:
        return node.http("/healthz")[0] == 200
    except OSError:
        return False


def api(client, subject, body=None, timeout=5.0):
    """A JetStream API request over a raw connection; its reply as an object."""
    text = json.dumps(body) if body is not None else ""
    payload = client.request("$JS.API." + subject, text, timeout)[4]
    schemas.check(payload)
    return json.loads(payload)


def replica(node, stream):
    """/replicaz of a stream, or None when the node does not answer or has no such replica."""
    try:
        status, body = node.http("/replicaz?stream=" + stream, 2)
    except OSError:
        return None
    return json.loads(body) if status == 200 else None


def dump(node, stream):
    """The replica's own messages: {seq: (subject, payload)}."""
    status, body = node.http("/replicaz?stream=%s&dump=1" % stream, 60)
    assert status == 200, (status, body[:200])
    messages = {}
    for line in body.splitlines():
        m = json.loads(line)
        assert m["seq"] not in messages, "%s has sequence %d twice" % (node.name, m["seq"])
        messages[m["seq"]] = (m["subject"], base64.b64decode(m["data"]))
    return messages


def leader(nodes, stream):
    """The node that serves the stream as its leader, or None."""
    found = [(r["term"], n) for n in nodes for r in [replica(n, stream)] if r and r["is_led"]]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def wait_equal(nodes, stream, timeout=60):
    """All replicas have applied the same entries; their common hash."""
    seen = {}

    def check():
        states = [replica(n, stream) for n in nodes]
        seen["states"] = states
        if any(s is None or s["state"] != "ok" for s in states):
            return None
        if len({(s["applied"], s["last_seq"]) for s in states}) != 1:
            return None
        return states
    try:
        states = wait_until("equal replicas of " + stream, check, timeout, 0.1)
    except AssertionError as e:
        raise AssertionError("%s: %s" % (e, json.dumps(seen["states"])))
    assert len({s["hash"] for s in states}) == 1, "hashes differ: %s" % json.dumps(states)
    return states[0]["hash"]
