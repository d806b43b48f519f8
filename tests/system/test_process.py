"""The manners of the process: flags, log lines, files, signals, and the monitoring port."""

import json
import os
import signal
import socket
import subprocess
import time

from weir_cluster import Client, Node, Single, binary, run, wait_until


def test_version_and_bad_flags():
    for flag in ("-v", "--version", "version"):
        r = subprocess.run([binary(), flag], capture_output=True, text=True, timeout=10)
        assert r.returncode == 0 and r.stdout.startswith("nats-server: v2."), r
    r = subprocess.run([binary(), "nonsense"], capture_output=True, text=True, timeout=10)
    assert r.returncode == 1 and 'unrecognized command: "nonsense"' in r.stderr, r


def test_log_lines_that_harnesses_read():
    with Single() as n:
        log = n.log()
        assert "[INF] Listening for client connections on 127.0.0.1:%d\n" % n.port in log
        assert "[INF] Starting http monitor on " in log
        assert log.index("Listening for client") < log.index("Server is ready")
        first = log.split("\n")[0]
        assert first.startswith("[%d] " % n.process.pid), first


def test_pid_and_ports_files_with_random_ports():
    with Single("-P", "/tmp/weir-test-%d.pid" % os.getpid(), "--ports_file_dir", "/tmp",
                argv0="nats-server", port=-1) as n:
        pid_path = "/tmp/weir-test-%d.pid" % os.getpid()
        with open(pid_path) as f:
            assert f.read() == str(n.process.pid)
        os.unlink(pid_path)
        path = "/tmp/nats-server_%d.ports" % n.process.pid
        with open(path) as f:
            ports = json.load(f)
        url = ports["nats"][0]
        assert url.startswith("nats://127.0.0.1:") and int(url.split(":")[-1]) > 0, ports
        assert ports["monitoring"][0].startswith("http://127.0.0.1:"), ports
        Client(int(url.split(":")[-1])).connect().ping()
        n.signal(signal.SIGTERM)
        assert n.wait_exit() == 0
        assert not os.path.exists(path)


def test_sigint_and_sigterm_end_it_promptly_with_status_0():
    for signum in (signal.SIGINT, signal.SIGTERM):
        with Single() as n:
            clients = [n.client() for _ in range(5)]
            clients[0].sub("a", 1)
            began = time.monotonic()
            n.signal(signum)
            assert n.wait_exit() == 0
            assert time.monotonic() - began < 1.0
            clients[0].until_closed()


def test_hup_without_a_config_is_an_error_in_the_log_only():
    with Single() as n:
        n.signal(signal.SIGHUP)
        n.wait_log("Failed to reload server configuration: ")
        n.client().ping()


def test_usr1_opens_the_log_again():
    with Single() as n0:
        folder = n0.folder
        path = os.path.join(folder, "server.log")
        n = Node(os.path.join(folder, "x"), ["-l", path, "-P", os.path.join(folder, "pid")])
        n.start(ready=False)
        try:
            wait_until("the log", lambda: os.path.exists(path) and "is ready" in open(path).read())
            os.rename(path, path + ".1")
            n.signal(signal.SIGUSR1)
            wait_until("a new log", lambda: os.path.exists(path))
            r = subprocess.run([binary(), "--signal", "quit=" + os.path.join(folder, "pid")],
                               capture_output=True, text=True, timeout=10)
            assert r.returncode == 0, r
            assert n.wait_exit() == 0
        finally:
            n.kill()


def test_signal_command_and_its_errors():
    with Single() as n:
        run_signal = lambda word: subprocess.run([binary(), "-sl", word], capture_output=True,
                                                 text=True, timeout=10)
        r = run_signal("dance=1")
        assert r.returncode == 1 and 'unknown signal "dance"' in r.stderr, r
        r = run_signal("quit=abc")
        assert r.returncode == 1 and "invalid pid: abc" in r.stderr, r
        r = run_signal("ldm=%d" % n.process.pid)
        assert r.returncode == 0, r
        assert n.wait_exit() == 0  # No clients: it exits at once.


def test_lame_duck_tells_clients_closes_the_listener_and_evicts():
    config = 'lame_duck_grace_period: "300ms"\nlame_duck_duration: "30s"\n'
    with Single(config=config) as n:
        a, b = n.client(), n.client()
        n.signal(signal.SIGUSR2)
        assert a.info()["ldm"] is True
        assert b.info()["ldm"] is True
        try:
            Client(n.port, timeout=1)
            raise AssertionError("the listener is open")
        except ConnectionRefusedError:
            pass
        status, body = n.http("/healthz")
        assert status == 500 and json.loads(body)["status"] == "error", (status, body)
        n.signal(signal.SIGTERM)  # Ignored now.
        a.pub("x", "")
        a.ping()
        a.until_closed()
        b.until_closed()
        assert n.wait_exit() == 0


def test_a_nats_server_store_is_refused_and_untouched():
    with Single() as n0:
        store = os.path.join(n0.folder, "store")
        os.makedirs(os.path.join(store, "jetstream", "$G", "streams", "ORDERS"))
        n = Node(os.path.join(n0.folder, "x"), ["-js", "-sd", store])
        n.start(ready=False)
        assert n.wait_exit() == 1
        assert "[FTL] " in n.log()
        assert "holds data of a nats-server" in n.log() and "ORDERS" in n.log(), n.log()
        assert os.listdir(store) == ["jetstream"]


def test_a_store_keeps_the_identity_of_its_node():
    with Single() as n0:
        store = os.path.join(n0.folder, "store")
        identities = []
        for _ in range(2):
            n = Node(os.path.join(n0.folder, "x"), ["-js", "-sd", store])
            n.start()
            n.stop()
            with open(os.path.join(store, "weir", "identity"), "rb") as f:
                identities.append(f.read())
        assert identities[0][8:24] == identities[1][8:24]
        assert (identities[0][24], identities[1][24]) == (1, 2)
        with open(os.path.join(store, "weir", "identity"), "wb") as f:
            f.write(identities[0][:20])
        n = Node(os.path.join(n0.folder, "x"), ["-js", "-sd", store])
        n.start(ready=False)
        assert n.wait_exit() == 1 and "is corrupt" in n.log()


def test_varz_and_connz_count_right():
    with Single() as n:
        a, b = n.client(name="alpha"), n.client(name="beta")
        b.sub("x.*", 1)
        b.ping()
        for i in range(10):
            a.pub("x.1", "12345")
        for i in range(10):
            b.msg()
        v = n.json("/varz")
        for key, value in (("connections", 2), ("total_connections", 2), ("in_msgs", 10),
                           ("in_bytes", 50), ("out_msgs", 10), ("out_bytes", 50),
                           ("subscriptions", 1), ("slow_consumers", 0), ("routes", 0),
                           ("server_name", "n0"), ("port", n.port), ("max_payload", 1048576)):
            assert v[key] == value, (key, v[key])
        for key in ("cluster", "gateway", "leaf", "mqtt", "websocket", "jetstream"):
            assert isinstance(v[key], dict), key
        assert v["mem"] > 0 and v["cores"] > 0 and v["http_req_stats"]["/varz"] == 1
        c = n.json("/connz?subs=1&sort=msgs_to")
        assert c["num_connections"] == 2 and c["total"] == 2
        first = c["connections"][0]
        assert first["name"] == "beta" and first["subscriptions_list"] == ["x.*"], first
        assert first["out_msgs"] == 10 and first["out_bytes"] == 50
        one = n.json("/connz?cid=%d&subs=detail" % first["cid"])["connections"]
        assert len(one) == 1
        assert one[0]["subscriptions_list_detail"][0]["sid"] == "1"
        a.close()
        wait_until("alpha to be gone", lambda: n.json("/connz")["total"] == 1)
        gone = n.json("/connz?state=closed")["connections"][0]
        assert gone["name"] == "alpha" and gone["reason"] == "Client Closed" and gone["stop"]
        assert n.http("/connz?sort=nonsense")[0] == 400
        assert n.http("/connz?limit=x")[0] == 400
        s = n.json("/subsz?subs=1&test=x.y")
        assert s["num_subscriptions"] == 1 and s["subscriptions_list"][0]["subject"] == "x.*"


def test_monitoring_paths():
    with Single() as n:
        assert n.http("/healthz") == (200, '{"status":"ok"}')
        assert n.http("/healthz?js-server-only=true") == (200, '{"status":"ok"}')
        assert n.http("/healthz?stream=S")[0] == 400
        assert n.http("/healthz?details=maybe")[0] == 400
        assert n.http("/nothing")[0] == 404
        status, body = n.http("/")
        assert status == 200 and "/varz" in body
        assert n.json("/routez")["num_routes"] == 0


def test_the_monitoring_port_survives_bad_requests():
    with Single() as n:
        def ask(data, wait=2):
            with socket.create_connection(("127.0.0.1", n.http_port), 5) as s:
                s.sendall(data)
                s.settimeout(wait)
                got = b""
                try:
                    while True:
                        more = s.recv(65536)
                        if not more:
                            return got
                        got += more
                except (socket.timeout, ConnectionError):
                    return got
        assert b"400" in ask(b"\0\0\0\r\n\r\n")
        ask(b"GET /varz HTTP/1.1\r\nX: " + b"a" * 100000 + b"\r\n\r\n")
        two = ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2, 0.5)
        assert two.count(b"HTTP/1.1 200 OK") == 2, two
        many = ask(b"GET / HTTP/1.1\r\n\r\n" * 500, 1)
        assert many.count(b"HTTP/1.1 200 OK") == 500, many.count(b"HTTP/1.1 200 OK")
        one = ask(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert one.endswith(b'{"status":"ok"}'), one
        assert n.http("/healthz")[0] == 200


if __name__ == "__main__":
    run(globals())
