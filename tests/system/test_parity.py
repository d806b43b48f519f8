"""Conversations of tests/parity against this server; what nats-server v2.15.2 answered is in tests/data/parity.

    test_parity.py [--r3] [FILE ...]     compare; names without .txt, all by default

The goldens are written by scripts/parity --record. A step under `differs` is compared with the text given there.
"""

import json
import os
import sys
import tempfile
import time

from weir_cluster import ROOT, Cluster, Single

sys.path.insert(0, os.path.join(ROOT, "tests", "parity"))
from player import Player, read_cases, render  # noqa: E402

CONVERSATIONS = os.path.join(ROOT, "tests", "parity")
GOLDENS = os.path.join(ROOT, "tests", "data", "parity")


def names(wanted, replicas):
    found = sorted(n[:-4] for n in os.listdir(CONVERSATIONS) if n.endswith(".txt"))
    if wanted:
        return [n for n in found if n in wanted]
    # On three nodes: what goes through a stream's log. Core protocol is the same everywhere.
    # Placement is about several nodes.
    return [n for n in found if not n.startswith("core" if replicas == 3 else "placement")]


def golden_path(name, replicas):
    return os.path.join(GOLDENS, name + (".r3" if replicas == 3 else "") + ".golden")


def read_golden(name, replicas):
    with open(golden_path(name, replicas)) as f:
        return f.read().split("\n")


def flat(v, path=""):
    """{path: value} of a JSON value."""
    if isinstance(v, dict) and v:
        return {k: x for key in v for k, x in flat(v[key], path + "." + key).items()}
    return {path: v}


def difference(want, got):
    """What differs, short: of two JSON objects only the members that do."""
    if len(want) == 1 and len(got) == 1 and want[0][:1] == "{" and got[0][:1] == "{":
        want, got = json.loads(want[0]), json.loads(got[0])
        if ("error" in want) != ("error" in got):
            want, got = [v.get("error", "no error") for v in (want, got)]
        a, b = flat(want), flat(got)
        keys = [k for k in sorted(set(a) | set(b)) if a.get(k, "none") != b.get(k, "none")]
        want = ["%s=%s" % (k[1:], json.dumps(a[k]) if k in a else "(not there)") for k in keys]
        got = ["%s=%s" % (k[1:], json.dumps(b[k]) if k in b else "(not there)") for k in keys]
    return "  nats %s\n  weir %s" % ("\n       ".join(want), "\n       ".join(got))


def compare(name, player, replicas):
    """The differences of one file, and how many steps it has."""
    golden = read_golden(name, replicas)
    at = 0
    steps = 0
    found = []
    for case in read_cases(os.path.join(CONVERSATIONS, name + ".txt"), replicas):
        title = case[0]
        if golden[at] != "== " + title:
            return ["%s: the golden is not of this conversation (%r): record it again" % (name, title)], 1
        at += 1
        for number, line, differs, answers in player.play(case):
            steps += 1
            assert golden[at].startswith(line[:400]), (name, number, golden[at])
            at += 1
            want = []
            while at < len(golden) and golden[at].startswith("    "):
                want.append(golden[at][4:])
                at += 1
            if differs is not None:
                if not any(differs in a for a in answers):
                    found.append("%s.txt:%d (%s): %s\n  is to have %s\n  weir %s"
                                 % (name, number, title, line, differs, "\n       ".join(answers)))
            elif answers != want:
                found.append("%s.txt:%d (%s): %s\n%s"
                             % (name, number, title, line[:300], difference(want, answers)))
    return found, steps


def play_all(nodes, replicas, wanted):
    failed = 0
    total = 0
    for name in names(wanted, replicas):
        # Through the second node where there are three: requests have a way to go.
        player = Player(nodes[min(1, len(nodes) - 1)].port, replicas)
        found, steps = compare(name, player, replicas)
        total += steps
        failed += len(found)
        for text in found:
            print(text)
        print("%s %s, %d replicas: %d steps, %d differ"
              % ("FAIL" if found else "ok  ", name, replicas, steps, len(found)), flush=True)
    print("%d steps passed, %d failed" % (total - failed, failed))
    return failed


def main(args):
    replicas = 3 if "--r3" in args else 1
    wanted = [a for a in args if not a.startswith("--")]
    if replicas == 1:
        with tempfile.TemporaryDirectory(prefix="weir-") as store:
            with Single("-js", "-sd", store) as node:
                return play_all([node], 1, wanted)
    with tagged_cluster() as cluster:
        cluster.wait_mesh()
        wait_for_streams(cluster.nodes[1])
        return play_all(cluster.nodes, 3, wanted)


TAGS = (["SSD", " zone:a ", "all"], ["ssd", "zone:b", "all"], ["hdd", "zone:b", "all", "Mixed Case"])


def tagged_cluster():
    """Three nodes with the tags that placement.txt is about."""
    def args(i, cluster):
        path = os.path.join(cluster.folder, "tags%d" % i)
        with open(path, "w") as f:
            f.write("server_tags: %s\n" % json.dumps(TAGS[i]))
        return ["-js", "-sd", os.path.join(cluster.folder, "sd%d" % i), "-c", path]
    return Cluster(3, node_args=args, name="C")


def wait_for_streams(node):
    """JetStream is there once a stream of three can be made."""
    end = time.monotonic() + 30
    while True:
        c = node.client()
        answer = None
        try:
            body = '{"name":"READY","subjects":["ready"],"num_replicas":3}'
            answer = json.loads(c.request("$JS.API.STREAM.CREATE.READY", body, 5)[4])
            if "error" not in answer:
                c.request("$JS.API.STREAM.DELETE.READY")
                return
        except (OSError, EOFError, ValueError):
            pass
        finally:
            c.close()
        assert time.monotonic() < end, answer
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
