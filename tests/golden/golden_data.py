"""Golden data directories: what is asked of a cluster before they are packed, and of today's build on a copy.

    data/NAME.tar.xz    n0/, n1/, ...: the store directory of each node; expected.json: what was true
"""

import json
import os
import re
import sys
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))

from weir_cluster import Node, finish, wait_until  # noqa: E402
from weir_js import Js, JsCluster  # noqa: E402

DATA = os.path.join(HERE, "data")
YEARS_20 = 20 * 365 * 24 * 3600 * 1000000000  # Nothing is due while it is looked at, whenever that is.
CONFIG = "jetstream { scrub_rate: 0 }\n"      # Nobody works in the background.


class Lone:
    """One node without a cluster block, with the interface of JsCluster."""

    def __init__(self, folder, store, args):
        self.folder = folder
        self.nodes = [Node(os.path.join(folder, "n0"), list(args) + ["-js", "-sd", store], "n0", config=CONFIG)]

    def __enter__(self):
        try:
            self.nodes[0].start()
            return self.wait_ready()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def __exit__(self, kind, value, trace):
        finish(self.nodes, self.folder, kind)

    def wait_ready(self, nodes=None, timeout=60.0):
        wait_until("n0 to be healthy", lambda: self.nodes[0].http("/healthz")[0] == 200, timeout)
        return self


def cluster_on(folder, count, args=(), tags=None):
    """Of nodes with the stores folder/n0 ..., and hashes in their logs; @tags: of each node."""
    stores = {i: os.path.join(folder, "n%d" % i) for i in range(count)}
    if count == 1:
        return Lone(os.path.join(folder, "run"), stores[0], ["-D"] + list(args))
    c = JsCluster(count, ["-D"] + list(args), stores=stores, config=CONFIG)
    for node, own in zip(c.nodes, tags or ()):
        with open(node.config_path, "a") as f:
            f.write("server_tags: %s\n" % json.dumps(own))
    return c


def unpack(path, folder):
    """Into @folder; what is expected."""
    with tarfile.open(path) as tar:
        tar.extractall(folder)
    with open(os.path.join(folder, "expected.json")) as f:
        return json.load(f)


def pack(path, folder, expected):
    with open(os.path.join(folder, "expected.json"), "w") as f:
        json.dump(expected, f, sort_keys=True)
    with tarfile.open(path, "w:xz", preset=9) as tar:
        for name in sorted(n for n in os.listdir(folder) if n != "run"):
            tar.add(os.path.join(folder, name), name)


def replicas(node):
    return {r["stream"]: r for r in node.json("/replicaz")["replicas"]}


def meta_hashes(node, what):
    """By index, as the node's log has them: "restored at" or "applied"."""
    return {int(i): h for i, h in re.findall(r"Meta: %s index (\d+), hash (\w+)" % what, node.log())}


def stored(node, stream):
    """What a replica has in its store: {seq: [subject, headers, payload, time]}."""
    status, body = node.http("/replicaz?stream=%s&dump=1" % stream, 60)
    assert status == 200, body
    lines = [json.loads(line) for line in body.splitlines()]
    return {str(m["seq"]): [m["subject"], m.get("hdrs", ""), m["data"], m["time"]] for m in lines}


def consumers_of(js, stream):
    got = {}
    for c in js.ok("CONSUMER.LIST." + stream, {})["consumers"] or []:
        # What waits and who leads is not of the state.
        kept = ("name", "created", "config", "delivered", "ack_floor", "num_ack_pending", "num_redelivered",
                "num_pending")
        got[c["name"]] = {k: c[k] for k in kept}
    return got


def ask_stream(js, name):
    info = js.ok("STREAM.INFO." + name, {"deleted_details": True, "subjects_filter": ">"})
    return dict({k: info[k] for k in ("config", "created", "state")}, consumers=consumers_of(js, name))


def ask(c):
    """Everything that the cluster says of its streams, in few requests."""
    js = Js(c.nodes[-1], timeout=60)
    try:
        streams = {name: ask_stream(js, name) for name in js.ok("STREAM.NAMES", {})["streams"]}
    finally:
        js.close()
    on_nodes = {n.name: {s: stored(n, s) for s in replicas(n)} for n in c.nodes}
    for name in streams:
        streams[name]["places"] = sorted(n for n in on_nodes if name in on_nodes[n])
        streams[name]["messages"] = on_nodes[streams[name]["places"][0]][name]
        for node in streams[name]["places"]:
            assert on_nodes[node][name] == streams[name]["messages"], "%s on %s" % (name, node)
    return streams


def wait_led(c, timeout=30):
    """All streams answer."""
    js = Js(c.nodes[0], timeout=60)
    try:
        names = js.ok("STREAM.NAMES", {})["streams"]
        wait_until("all streams", lambda: all("error" not in js.api("STREAM.INFO." + s) for s in names), timeout, 0.1)
    finally:
        js.close()
    return names
