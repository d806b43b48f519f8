"""The official clients against three nodes: tests/clients/scenarios.txt.

test_clients.py CLIENT [SCENARIO...] runs them with go or cli. Exits 77 when its toolchain
is missing. Every JetStream API reply that goes to an inbox is validated against its schema on the way.
"""

import os
import subprocess
import sys

import clients
from cli_scenarios import CliScenarios
from js_cluster import JsCluster
from schemas import Spy

JS_FROM = "streams"  # From here on each scenario is done with one replica and with three.


def listed(client):
    """What this client has to do, as it reports it: "publish R3"."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients", "scenarios.txt")
    names, is_js = [], False
    with open(path) as f:
        for line in f:
            if line.startswith("#") or not line.strip():
                continue
            name, second = line.split()[:2]
            is_js = is_js or name == JS_FROM
            if client != "cli" or second == "cli":
                names += [name + " R1", name + " R3"] if is_js else [name]
    return names


def converse(cluster, process, lines):
    """Collects what a program reports, and kills and starts nodes when it asks for that."""
    for line in process.stdout:
        words = line.split()
        if words[:1] == ["kill"]:
            cluster.nodes[int(words[1])].kill()
        elif words[:1] == ["start"]:
            cluster.nodes[int(words[1])].start()
            cluster.wait_mesh()
        else:
            print(line, end="", flush=True)
            lines.append(line.strip())
            continue
        process.stdin.write("done\n")
        process.stdin.flush()
    assert process.wait(20) == 0, "the client's program ended with %d" % process.returncode


def main():
    client, wanted = sys.argv[1], sys.argv[2:]
    command = clients.get_or_skip(client, "test_clients")
    names = [n for n in listed(client) if not wanted or n.split()[0] in wanted]
    if command is None:
        for n in names:
            print("skipped: %s: %s" % (client, n))
        sys.exit(clients.SKIPPED)
    lines = []
    try:
        with JsCluster(3) as cluster, Spy(cluster.nodes[0]) as spy:
            if client == "cli":
                CliScenarios(command, cluster.urls).run(names, lines.append)
            else:
                process = subprocess.Popen(
                    command + ["scenarios", ",".join(wanted)] + cluster.urls, text=True, bufsize=1,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                try:
                    converse(cluster, process, lines)
                finally:
                    if process.poll() is None:
                        process.kill()
                        process.wait()
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
