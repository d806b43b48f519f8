"""The official clients against three nodes and against one: tests/clients/scenarios.txt.

test_clients.py [--one] CLIENT [SCENARIO...] runs them with py, js, go or cli. Exits 77 when its toolchain
is missing. Every JetStream API reply that goes to an inbox is validated against its schema on the way.
"""

import contextlib
import os
import subprocess
import sys
import tempfile

import clients
from cli_scenarios import CliScenarios
from js_cluster import JsCluster, is_healthy
from schemas import Spy
from weir_cluster import Single, wait_until

JS_FROM = "streams"  # From here on each scenario is done with one replica and with three.


@contextlib.contextmanager
def one_node():
    with tempfile.TemporaryDirectory(prefix="weir-") as store, Single("-js", "-sd", store) as node:
        yield None, [node]


@contextlib.contextmanager
def three_nodes():
    with JsCluster(3) as cluster:
        yield cluster, cluster.nodes


def listed(client, is_one):
    """What this client has to do, as it reports it: "publish R3"."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients", "scenarios.txt")
    names, is_js = [], False
    with open(path) as f:
        for line in f:
            if line.startswith("#") or not line.strip():
                continue
            name, second = line.split()[:2]
            is_js = is_js or name == JS_FROM
            if (client == "cli" and second != "cli") or (is_one and name == "reconnect"):
                continue
            names += [name + " R%d" % r for r in ((1,) if is_one else (1, 3))] if is_js else [name]
    return names


def converse(cluster, process, lines):
    """Collects what a program reports, and kills and starts nodes when it asks for that."""
    for line in process.stdout:
        words = line.split()
        if words[:1] == ["kill"]:
            cluster.nodes[int(words[1])].kill()
        elif words[:1] == ["start"]:
            node = cluster.nodes[int(words[1])]
            node.start()
            cluster.wait_mesh()
            wait_until("a meta leader at " + node.name, lambda: is_healthy(node), 20)
        else:
            print(line, end="", flush=True)
            lines.append(line.strip())
            continue
        process.stdin.write("done\n")
        process.stdin.flush()
    assert process.wait(20) == 0, "the client's program ended with %d" % process.returncode


def main():
    is_one = sys.argv[1] == "--one"
    client, *wanted = sys.argv[2 if is_one else 1:]
    command = clients.get_or_skip(client, "test_clients")
    names = [n for n in listed(client, is_one) if not wanted or n.split()[0] in wanted]
    if command is None:
        for n in names:
            print("skipped: %s: %s" % (client, n))
        sys.exit(clients.SKIPPED)
    lines = []
    try:
        with (one_node if is_one else three_nodes)() as (cluster, nodes), Spy(nodes[0]) as spy:
            urls = ["nats://127.0.0.1:%d" % n.port for n in nodes]
            if client == "cli":
                CliScenarios(command, (urls * 3)[:3]).run(names, lines.append)
            else:
                process = subprocess.Popen(
                    command + ["scenarios", ",".join(wanted)] + urls, text=True, bufsize=1,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                try:
                    converse(cluster, process, lines)
                finally:
                    if process.poll() is None:
                        process.kill()
                        process.wait()
            if any(line.startswith("FAIL") for line in lines):
                for node in nodes:
                    print("---- %s\n%s" % (node.name, node.log()[-4000:]))
            spy.judge()
            print("ok schemas: %s" % spy.counts())
            lines.append("ok schemas")
    except Exception as e:
        print("FAIL %s: %s" % (client, e))
        lines.append("FAIL")
    names.append("schemas")
    passed = [n for n in names if any(line == "ok " + n or line.startswith("ok %s " % n) for line in lines)]
    for n in names:
        if n not in passed:
            print("not passed: %s: %s" % (client, n))
    print("%d passed, %d failed" % (len(passed), len(names) - len(passed)))
    sys.exit(1 if len(passed) < len(names) or any(line.startswith("FAIL") for line in lines) else 0)


main()
