"""The README's commands: scripts/cluster with its demonstration, and those of the `nats` CLI.

The demonstration kills the stream's leader while messages are published, and judges by itself that each
acknowledged message is on every replica once; it ends with 0 only if so.
"""

import os
import re
import shutil
import subprocess
import tempfile
import urllib.request

from weir_cluster import ROOT, binary, run, wait_until

SCRIPT = os.path.join(ROOT, "scripts", "cluster")


class Script:
    """scripts/cluster in a folder of its own, wiped at the end whatever happens."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="weir-")
        self.env = dict(os.environ, WEIR_CLUSTER=os.path.join(self.folder, "cluster"),
                        WEIR_SERVER=binary())
        self.env.setdefault("WEIR_DEMO", os.path.join(os.path.dirname(binary()), "..", "tests",
                                                      "demo", "weir_demo"))
        return self

    def __exit__(self, kind, value, trace):
        r = self.run("wipe")
        left = os.listdir(self.env["WEIR_CLUSTER"]) if os.path.exists(self.env["WEIR_CLUSTER"]) else []
        shutil.rmtree(self.folder, ignore_errors=True)
        if kind is None:
            assert r.returncode == 0 and left == [], (r, left)

    def run(self, *args, timeout=120):
        return subprocess.run([SCRIPT, *args], env=self.env, capture_output=True, text=True,
                              timeout=timeout, stdin=subprocess.DEVNULL)

    def must(self, *args):
        r = self.run(*args)
        assert r.returncode == 0, (args, r.stdout[-3000:], r.stderr[-3000:])
        return r.stdout

    def nodes(self):
        """name: (client, http) from `status`; and the lines."""
        lines = self.run("status").stdout.splitlines()
        found = {}
        for line in lines:
            m = re.match(r"(n\d)\s+nats://127.0.0.1:(\d+)\s+http://127.0.0.1:(\d+)\s+pid (\S+)\s+(.*)", line)
            found[m[1]] = (int(m[2]), int(m[3]), m[4], m[5])
        return found


def check_demo(messages):
    with Script() as s:
        out = s.must("demo", "--messages", str(messages))
        assert "killed with -9 when" in out, out
        assert "OK: %d messages, each acknowledged, stored on every replica and confirmed exactly " \
            "once" % messages in out, out
        hashes = re.findall(r"^replica n\d %d messages, sequences 1 to %d, 0 missing, 0 doubled, "
                            r"hash (\w+)" % (messages, messages), out, re.M)
        assert len(hashes) == 3 and len(set(hashes)) == 1, out
        # The cluster stays up. The node that was away may hear of its leader with the next heartbeat only.
        wait_until("three healthy nodes", lambda: all(n[3].startswith("healthy")
                                                      for n in s.nodes().values()), timeout=5)


def test_the_demonstration():
    check_demo(5000)


def test_the_demonstration_with_100000_messages():
    check_demo(100000)


def test_status_kill_start_stop_and_wipe():
    with Script() as s:
        r = s.run("status")
        assert r.returncode != 0 and "no cluster yet" in r.stderr, r
        s.must("start")
        before = s.nodes()
        assert sorted(before) == ["n1", "n2", "n3"]
        assert all(n[3].startswith("healthy") for n in before.values()), before
        s.must("kill", "n2")
        r = s.run("status")
        assert r.returncode == 1 and s.nodes()["n2"][2:] == ("-", "not running"), r
        assert s.run("kill", "n2").returncode != 0
        assert s.run("kill", "n9").returncode != 0
        s.must("start", "n2")
        after = s.nodes()
        assert after["n2"][3].startswith("healthy") and after["n2"][:2] == before["n2"][:2], after
        assert after["n1"] == before["n1"][:3] + (after["n1"][3],), (before, after)
        s.must("stop", "n1")
        assert s.nodes()["n1"][3] == "not running"
        s.must("start")
        assert all(n[3].startswith("healthy") for n in s.nodes().values()), s.nodes()
        s.must("stop")
        assert all(n[2] == "-" for n in s.nodes().values()), s.nodes()
        with open(os.path.join(s.env["WEIR_CLUSTER"], "n3.log")) as f:
            assert "Server Exiting.." in f.read()
        assert s.run("dance").returncode == 2


def nats_cli():
    peers = os.environ.get("WEIR_PEERS", "")
    return shutil.which("nats", path=os.pathsep.join([peers, os.environ.get("PATH", "")]))


def readme_commands():
    """The block after the sentence on any NATS client."""
    with open(os.path.join(ROOT, "README.md")) as f:
        text = f.read()
    block = text[text.index("## Three nodes"):].split("```")[3]
    return [line for line in block.strip().split("\n") if line]


def test_the_readme_s_commands_with_the_nats_cli():
    cli = nats_cli()
    if cli is None:
        print("skipped: no nats CLI in PATH or WEIR_PEERS")
        return
    with Script() as s, tempfile.TemporaryDirectory(prefix="weir-") as home:
        s.must("start")
        nodes = s.nodes()
        ports = {str(4222 + i): str(nodes["n%d" % (i + 1)][0]) for i in range(3)}
        ports.update({str(8222 + i): str(nodes["n%d" % (i + 1)][1]) for i in range(3)})
        env = dict(os.environ, HOME=home, XDG_CONFIG_HOME=home)
        outputs = []
        for command in readme_commands():
            command = re.sub(r"\b(4222|4223|4224|8222|8223|8224)\b", lambda m: ports[m[1]], command)
            command = re.sub(r"^nats ", cli + " ", command)
            r = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True,
                               timeout=30, stdin=subprocess.DEVNULL)
            assert r.returncode == 0, (command, r)
            outputs.append(r.stdout + r.stderr)
        everything = "\n".join(outputs)
        for expected in ("Stream ORDERS was created", "Stored in Stream: ORDERS Sequence: 1",
                         "hello", '"messages": 1'):
            assert expected in everything, (expected, everything)
        assert re.search(r"Replica: n\d, current, seen", outputs[0]), outputs[0]
        for name, node in nodes.items():
            with urllib.request.urlopen("http://127.0.0.1:%d/healthz" % node[1], timeout=5) as f:
                assert f.status == 200, name


if __name__ == "__main__":
    run(globals())
