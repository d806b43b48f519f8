"""What the monitoring endpoints of three nodes show: names, types and steady values of all fields.

    fields, answers = look()    # {"/varz": {"cluster.urls[]": (types, values)}}, {"/connz?sort=x": "400 ..."}

The scene is the same for weir and for nats-server: three nodes with a user, an R3 stream with a consumer, connections
that subscribe, one that ended. Fields are those of all nodes together, since some are shown by a leader only.
"""

import json
import os
import re
import time

from weir_cluster import Cluster, wait_until

ENDPOINTS = (
    "/varz", "/connz", "/connz?subs=1&auth=1", "/connz?subs=detail", "/connz?state=closed&auth=1",
    "/routez", "/routez?subs=1", "/routez?subs=detail", "/subsz", "/subsz?subs=1", "/healthz",
    "/healthz?details=1", "/jsz", "/jsz?accounts=1", "/jsz?streams=1&config=1",
    "/jsz?consumers=1&config=1", "/jsz?consumers=1&raft=1",
)
# Answered with the same words everywhere.
QUERIES = (
    "/healthz?account=NONE", "/healthz?account=$G", "/healthz?account=$G&stream=NONE",
    "/healthz?account=$G&stream=S", "/healthz?account=$G&stream=S&consumer=NONE",
    "/healthz?account=$G&stream=S&consumer=C", "/healthz?account=NONE&details=1",
    "/healthz?account=$G&stream=NONE&details=1", "/healthz?account=$G&stream=S&consumer=NONE&details=1",
    "/healthz?stream=S", "/healthz?stream=S&details=1", "/healthz?account=$G&consumer=C",
    "/healthz?js-server-only=1", "/healthz?js-enabled-only=1", "/healthz?js-meta-only=true",
    "/healthz?details=x", "/jsz?accounts=x", "/jsz?offset=x", "/connz?sort=x", "/connz?state=x",
    "/connz?limit=x", "/connz?cid=x", "/connz?subs=x", "/connz?sort=stop", "/connz?auth=x", "/routez?subs=x",
    "/subsz?test=foo.*", "/subsz?offset=x", "/none",
)
# Objects whose keys are data.
_MAPS = {"http_req_stats", "metadata"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
_DURATION = re.compile(r"(\d+(\.\d+)?(ns|µs|ms|y|d|h|m|s))+$")
_USER = {"user": "weir", "pass": "test"}


def kind(v):
    if isinstance(v, bool):
        return "boolean"
    if isinstance(v, (int, float)):
        return "number"
    if isinstance(v, str):
        return "time" if _TIME.match(v) else "duration" if _DURATION.match(v) else "string"
    return {dict: "object", list: "array"}.get(type(v), "null")


def flatten(v, path, out):
    """Adds {path: (types, values)} of one reply."""
    types, values = out.setdefault(path, (set(), set())) if path else (set(), set())
    types.add(kind(v))
    if isinstance(v, dict):
        for key, item in v.items():
            name = "*" if path.rsplit(".")[-1] in _MAPS else key
            flatten(item, path + "." + name if path else name, out)
    elif isinstance(v, list):
        for item in v:
            flatten(item, path + "[]", out)
    else:
        values.add(json.dumps(v))


def _request(client, subject, body=""):
    text = body if isinstance(body, str) else json.dumps(body)
    reply = json.loads(client.request("$JS.API." + subject, text)[4])
    assert "error" not in reply, (subject, reply)
    return reply


def _ready(node):
    try:
        return node.http("/healthz")[0] == 200
    except OSError:
        return False


def _fill(cluster):
    """Connections that stay; closing them is the caller's."""
    a, b, asker = (node.client(**_USER) for node in cluster.nodes)
    gone = cluster.nodes[0].client(name="gone", **_USER)
    gone.sub("gone")
    gone.ping()
    gone.close()
    for client in (a, b):
        client.sub("plain.*")
        client.sub("queue.*", queue="q")
        client.send("UNSUB %s 10\r\n" % client.sub("max.*"))
        client.ping()
    time.sleep(0.5)  # Until the other nodes know what is subscribed to.
    a.pub("plain.x", "message")
    a.msg()
    b.msg()
    _request(asker, "STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "num_replicas": 3,
                                        "description": "d", "metadata": {"a": "b"}})
    _request(asker, "CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": {
        "durable_name": "C", "ack_policy": "explicit", "filter_subject": "s.x"}})
    for _ in range(5):
        asker.request("s.x", "data")
    delivered = asker.request("$JS.API.CONSUMER.MSG.NEXT.S.C", "1")
    asker.request(delivered[2], "+ACK")
    asker.request("$JS.API.CONSUMER.MSG.NEXT.S.C", "1")
    _request(asker, "STREAM.MSG.DELETE.S", {"seq": 3})
    return [a, b, asker]


def look():
    config = 'authorization { user: "%s", password: "%s" }' % (_USER["user"], _USER["pass"])
    with Cluster(3, name="M", config=config,
                 node_args=lambda i, c: ["-js", "-sd", os.path.join(c.folder, "sd%d" % i)]) as c:
        c.wait_mesh()
        for node in c.nodes:
            wait_until("%s to be healthy" % node.name, lambda: _ready(node), 20)
        clients = _fill(c)
        time.sleep(3)  # The server's first ping, which shows the round trip.
        for node in c.nodes:
            wait_until("%s to be healthy again" % node.name, lambda: _ready(node), 20)
        found = {}
        for endpoint in ENDPOINTS:
            for node in c.nodes:
                flatten(node.json(endpoint), "", found.setdefault(endpoint, {}))
        answers = {q: "%d %s" % c.nodes[0].http(q) for q in QUERIES}
        for client in clients:
            client.close()
        return found, {q: text.strip().replace("\n", "\\n") for q, text in answers.items()}
