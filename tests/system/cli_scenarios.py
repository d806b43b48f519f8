"""The scenarios that the nats CLI can do."""

import json
import subprocess
import time


class CliScenarios:
    def __init__(self, command, urls):
        self.command, self.urls = command, urls

    def nats(self, node, *args, stdin="", fails=False):
        done = subprocess.run(self.command + ["-s", self.urls[node], "--timeout", "5s"] + list(args),
                              input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=30)
        assert (done.returncode != 0) == fails, "nats %s ended with %d:\n%s%s" % (
            " ".join(args), done.returncode, done.stdout, done.stderr)
        return done.stdout + (done.stderr if fails else "")

    def json(self, node, *args):
        return json.loads(self.nats(node, *args, "--json"))

    def listen(self, node, *args):
        process = subprocess.Popen(self.command + ["-s", self.urls[node]] + list(args), text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for line in process.stdout:
            if "ubscribing on" in line or "istening on" in line:
                return process
        raise AssertionError("nats %s ended" % " ".join(args))

    def stream(self, name, replicas, *args):
        self.nats(0, "stream", "add", name, "--subjects", name + ".>", "--replicas", str(replicas),
                  "--defaults", *args)

    def state(self, name):
        return self.json(1, "stream", "info", name)["state"]

    def run(self, names, report):
        for full in names:
            name, _, replicas = full.partition(" R")
            began = time.monotonic()
            try:
                getattr(self, name)("CLI_" + full.replace(" ", "_"), int(replicas or 1))
                line = "ok %s %.2f s" % (full, time.monotonic() - began)
            except Exception as e:
                line = "FAIL %s: %s" % (full, e)
            print(line, flush=True)
            report(line)

    def pubsub(self, _name, _replicas):
        sub = self.listen(1, "sub", "cli.pubsub", "--count", "5")
        time.sleep(0.3)  # Until the other node knows the interest: the CLI does not tell.
        self.nats(0, "pub", "cli.pubsub", "hello {{Count}}", "--count", "5")
        text, _ = sub.communicate(timeout=10)
        assert all("hello %d" % i in text for i in range(1, 6)), text

    def request(self, _name, _replicas):
        service = self.listen(2, "reply", "cli.service", "answer")
        try:
            time.sleep(0.3)
            assert "answer" in self.nats(0, "request", "cli.service", "question")
        finally:
            service.terminate()
            service.communicate(timeout=10)

    def account(self, _name, _replicas):
        assert "Streams" in self.nats(1, "account", "info")

    def streams(self, name, replicas):
        self.stream(name, replicas, "--max-msgs", "10", "--description", "first")
        info = self.json(1, "stream", "info", name)
        assert info["config"]["max_msgs"] == 10 and info["config"]["num_replicas"] == replicas, info
        self.nats(2, "stream", "edit", name, "--description", "second", "--force")
        assert self.json(0, "stream", "info", name)["config"]["description"] == "second"
        assert name in self.nats(1, "stream", "ls", "--names")
        assert name in self.nats(1, "stream", "report")
        self.nats(0, "stream", "rm", name, "--force")
        assert name not in self.nats(1, "stream", "ls", "--names").split()
        self.subjects(name, replicas)

    def subjects(self, name, replicas):
        """Stored under another subject, published again under a third; its consumers are limited."""
        self.stream(name, replicas, "--transform-source", name + ".*", "--transform-destination", name + ".$1.{{left(1,2)}}",
                    "--republish-source", name + ".>", "--republish-destination", "re." + name + ".>",
                    "--limit-consumer-max-pending", "7", "--limit-consumer-inactive", "1m")
        sub = self.listen(1, "sub", "re." + name + ".>", "--count", "2")
        time.sleep(0.3)
        for word in ("hello", "world"):
            self.nats(2, "pub", "-J", "%s.%s" % (name, word), "says " + word)
        text, _ = sub.communicate(timeout=10)
        assert "re.%s.hello.he" % name in text and "says world" in text and "Nats-Last-Sequence" in text, text
        assert "says hello" in self.nats(0, "stream", "get", name, "--last-for", name + ".hello.he")
        self.nats(2, "consumer", "add", name, "c", "--pull", "--defaults")
        config = self.json(0, "consumer", "info", name, "c")["config"]
        assert config["max_ack_pending"] == 7 and config["inactive_threshold"] == 60000000000, config
        self.nats(0, "stream", "rm", name, "--force")

    def publish(self, name, replicas):
        self.stream(name, replicas)
        self.nats(1, "pub", "-J", name + ".x", "m{{Count}}", "--count", "50")
        self.nats(2, "bench", "js", "pub", "async", name + ".b", "--stream", name, "--msgs", "2000",
                  "--size", "128", "--no-progress")
        state = self.state(name)
        assert state["messages"] == 2050 and state["last_seq"] == 2050, state
        self.nats(0, "stream", "rm", name, "--force")

    def get_delete(self, name, replicas):
        self.stream(name, replicas)
        self.nats(1, "pub", "-J", name + ".x", "m{{Count}}", "--count", "5")
        assert "m3" in self.nats(2, "stream", "get", name, "3")
        assert "m5" in self.nats(2, "stream", "get", name, "--last-for", name + ".x")
        self.nats(0, "stream", "rmm", name, "3", "--force")
        assert "no message found" in self.nats(0, "stream", "get", name, "3", fails=True)
        self.nats(0, "stream", "purge", name, "--keep", "2", "--force")
        assert self.state(name)["messages"] == 2
        self.nats(0, "stream", "purge", name, "--force")
        assert self.state(name)["messages"] == 0
        self.nats(0, "stream", "rm", name, "--force")

    def consume(self, name, replicas):
        self.stream(name, replicas)
        self.nats(1, "pub", "-J", name + ".x", "m{{Count}}", "--count", "5")
        self.nats(2, "consumer", "add", name, "c", "--pull", "--defaults")
        for i in range(1, 6):
            assert "m%d" % i in self.nats(i % 3, "consumer", "next", name, "c")
        info = self.json(0, "consumer", "info", name, "c")
        assert info["num_pending"] == 0 and info["ack_floor"]["stream_seq"] == 5, info
        self.nats(0, "stream", "rm", name, "--force")

    def consumers(self, name, replicas):
        self.stream(name, replicas)
        self.nats(2, "consumer", "add", name, "c", "--pull", "--defaults", "--filter", name + ".x")
        info = self.json(0, "consumer", "info", name, "c")
        assert info["config"]["filter_subject"] == name + ".x", info
        assert "c" in self.nats(1, "consumer", "ls", name, "--names")
        self.nats(1, "consumer", "report", name)
        self.nats(0, "consumer", "rm", name, "c", "--force")
        assert "c" not in self.nats(1, "consumer", "ls", name, "--names").split()
        self.nats(0, "stream", "rm", name, "--force")
