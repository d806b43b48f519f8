"""The manners of the process: flags, log lines, files, signals, and the monitoring port."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile

from weir_cluster import Client, Node, Single, binary, run, wait_until
from weir_js import Js


BCRYPT_OF_TWO = "$2b$04$abcdefghijklmnopqrstuuIHDRnKw4Zdb/3/EAZQMg/2vwJPJBL7u"


def test_version_and_bad_flags():
    for flag in ("-v", "--version", "version"):
        r = subprocess.run([binary(), flag], capture_output=True, text=True, timeout=10)
        assert r.returncode == 0 and r.stdout.startswith("nats-server: v2."), r
    r = subprocess.run([binary(), "nonsense"], capture_output=True, text=True, timeout=10)
    assert r.returncode == 1 and 'unrecognized command: "nonsense"' in r.stderr, r


def refused(text, *flags, name="bad.conf"):
    """What the server says to a configuration that it refuses; it must be one message on stderr."""
    with tempfile.TemporaryDirectory(prefix="weir-") as folder:
        path = os.path.join(folder, name)
        with open(path, "w") as f:
            f.write(text)
        r = subprocess.run([binary(), "-c", path, *flags], capture_output=True, text=True, timeout=10)
        assert r.returncode == 1 and r.stdout == "", r
        assert r.stderr.startswith("nats-server: ") and r.stderr.endswith("\n"), r
        return r.stderr[len("nats-server: "):-1].replace(path, name)


def test_a_bad_configuration_is_one_message_and_status_1():
    for text, message in (
            ("nonsense: 1", 'bad.conf:1:0: unknown field "nonsense"'),
            ("port: x", "bad.conf:1:0: interface conversion: interface {} is string, not int64"),
            ("port: 99999", "bad.conf:1:0: invalid port 99999: it must be -1 to 65535"),
            ("port: 5\n tls { cert_file: x }", 'bad.conf:2:2: weir does not have "tls" yet'),
            ("port: [", "Parse error on line 1: 'Unexpected EOF processing array.'"),
            ("max_payload: 65MB\nfoo {}", "bad.conf:1:0: max_payload value is too big: the limit is "
             '67108864\nbad.conf:2:1: unknown field "foo"')):
        for flags in ([], ["-t"]):
            assert refused(text, *flags) == message, (text, refused(text, *flags))
    r = subprocess.run([binary(), "-c", "/none"], capture_output=True, text=True, timeout=10)
    assert (r.returncode, r.stderr) == (1, "nats-server: open /none: no such file or directory\n"), r
    r = subprocess.run([binary(), "-c", "/tmp"], capture_output=True, text=True, timeout=10)
    assert r.returncode == 1 and "is a directory" in r.stderr, r
    with open("/dev/urandom", "rb") as f, tempfile.NamedTemporaryFile(prefix="weir-") as t:
        for size in (10, 1000, 100000):
            t.write(f.read(size))
            t.flush()
            r = subprocess.run([binary(), "-t", "-c", t.name], capture_output=True, timeout=10)
            assert r.returncode == 1 and r.stderr.startswith(b"nats-server: "), r


def test_bad_flags_say_so_and_show_the_usage():
    for flags, message in (
            (["-foo"], "flag provided but not defined: -foo"),
            (["-p", "abc"], 'invalid value "abc" for flag -p: parse error'),
            (["-p"], "flag needs an argument: -p"),
            (["-js=maybe"], 'invalid boolean value "maybe" for -js: parse error')):
        r = subprocess.run([binary(), *flags], capture_output=True, text=True, timeout=10)
        assert r.returncode == 1 and r.stderr.startswith(message + "\n\nUsage: nats-server"), r
    for flags in (["-h"], ["--help"], ["help"]):
        r = subprocess.run([binary(), *flags], capture_output=True, text=True, timeout=10)
        assert r.returncode == 0 and "Usage: nats-server" in r.stdout and r.stderr == "", r


def test_a_configuration_can_be_checked_without_starting():
    with tempfile.TemporaryDirectory(prefix="weir-") as folder:
        path = os.path.join(folder, "good.conf")
        with open(path, "w") as f:
            f.write('{"port": -1, "jetstream": {"store_dir": "%s/js"}}' % folder)
        r = subprocess.run([binary(), "-c", path, "-t"], capture_output=True, text=True, timeout=10)
        assert r.returncode == 0 and r.stdout == "", r
        assert r.stderr == "nats-server: configuration file %s is valid\n" % path, r
        assert os.listdir(folder) == ["good.conf"]
        with open(path, "w") as f:
            f.write("ping_interval: 5")
        r = subprocess.run([binary(), "-c", path, "-t"], capture_output=True, text=True, timeout=10)
        assert r.returncode == 1 and "should be converted to a duration" in r.stderr, r


def test_configuration_files_include_each_other_and_use_the_environment():
    with Single() as n0:
        folder = n0.folder
        os.makedirs(os.path.join(folder, "part"))
        with open(os.path.join(folder, "part", "one.conf"), "w") as f:
            f.write("include ./two.conf\nserver_name: $NAME_OF_TEST\n")
        with open(os.path.join(folder, "part", "two.conf"), "w") as f:
            f.write("authorization { user: $USER_OF_TEST, password: p }\n")
        path = os.path.join(folder, "main.conf")
        with open(path, "w") as f:
            f.write("port: -1, http: 127.0.0.1:-1\ninclude part/one.conf\n"
                    "ports_file_dir: '%s'\n" % folder)
        # Without flags but -c: all is in the file. A path in it is relative to where it was started.
        n = Node(os.path.join(folder, "x"), env={"USER_OF_TEST": "someone", "NAME_OF_TEST": "from-env"})
        n.command = lambda: ["/x/y/nats-server", "-c", path]
        n.start()
        try:
            with open(os.path.join(folder, "nats-server_%d.ports" % n.process.pid)) as f:
                ports = json.load(f)
            for urls in ports.values():
                assert urls and all(int(u.split(":")[-1]) > 0 for u in urls), ports
            assert sorted(ports) == ["monitoring", "nats"], ports
            assert any(u.startswith("nats://127.0.0.1:") for u in ports["nats"]), ports
            c = Client(int(ports["nats"][0].split(":")[-1]))
            assert c.info()["server_name"] == "from-env" and c.infos[0]["auth_required"] is True
            c.connect(user="someone", **{"pass": "p"}).ping()
            assert "Using configuration file: " + path in n.log()
            n.stop()
        finally:
            n.kill()


def test_what_has_no_effect_is_logged_once_and_a_doubtful_value_warns_on_stderr():
    config = 'ping_interval: 5\njetstream { store_dir: "%s", sync_interval: always }\n'
    with tempfile.TemporaryDirectory(prefix="weir-") as store:
        with Single(config=config % store) as n:
            log = n.log()
            assert log.count("jetstream.sync_interval has no effect: ") == 1, log
            assert ":1:0: invalid use of field \"ping_interval\": ping_interval should be converted " \
                "to a duration\n" in log, log


def test_random_ports_of_all_listeners_are_in_the_ports_file():
    with tempfile.TemporaryDirectory(prefix="weir-") as folder:
        config = 'ports_file_dir: "%s"\nhttp: "127.0.0.1:-1"\ncluster { listen: "127.0.0.1:-1", name: ' \
            'C }\n' % folder
        n = Node(os.path.join(folder, "x"), config=config, argv0="/some/where/nats-server")
        n.command = lambda: [n.argv0, "-a", "127.0.0.1", "-p", "-1", "-c", n.config_path]
        n.start()
        try:
            path = os.path.join(folder, "nats-server_%d.ports" % n.process.pid)
            with open(path) as f:
                text = f.read()
            ports = json.loads(text)
            assert "\n" not in text.strip() and sorted(ports) == ["cluster", "monitoring", "nats"], text
            for key, scheme in (("nats", "nats"), ("monitoring", "http"), ("cluster", "nats")):
                m = re.fullmatch(scheme + r"://127\.0\.0\.1:(\d+)", ports[key][0])
                with socket.create_connection(("127.0.0.1", int(m[1])), 2):
                    pass
            n.stop()
            assert not os.path.exists(path)
        finally:
            n.kill()


def test_every_line_of_the_log_has_the_same_form_and_a_log_file_takes_all():
    for flags, times in (([], True), (["-T=false"], False), (["--logtime_utc", "-DV"], True)):
        with Single() as n0:
            path = os.path.join(n0.folder, "server.log")
            n = Node(os.path.join(n0.folder, "x"), ["-l", path, *flags])
            n.start(ready=False)
            try:
                wait_until("ready", lambda: os.path.exists(path) and "is ready" in open(path).read())
                n.client().ping()
                n.stop()
            finally:
                n.kill()
            assert n.log() == "", n.log()  # stdout and stderr
            with open(path) as f:
                lines = f.read().splitlines()
            time_form = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} " if times else ""
            form = re.compile(r"\[%d\] %s\[(INF|WRN|ERR|DBG|TRC)\] .*" % (n.process.pid, time_form))
            for line in lines:
                assert form.fullmatch(line), line


def test_nobody_else_writes_lines_into_the_log():
    with Single() as n:
        for text in (b"\n[1] 2026/01/01 00:00:00.000000 [INF] forged", b"a\x1b[2Jb\rc\x7f"):
            c = n.client()
            c.send(b"-ERR " + text + b"\r\n")
            c.until_closed()
        wait_until("the clients' errors", lambda: n.log().count("Client Error") == 2)
        form = re.compile(r"\[%d\] \d{4}/\d\d/\d\d [0-9:.]{15} \[(INF|WRN|ERR)\] [^\x00-\x1f\x7f]*" % n.process.pid)
        for line in n.log().split("\n")[:-1]:
            assert form.fullmatch(line), repr(line)


def test_a_log_or_pid_file_that_cannot_be_written_prevents_the_start():
    r = subprocess.run([binary(), "-p", "-1", "-l", "/none/log"], capture_output=True, text=True,
                       timeout=10)
    assert r.returncode == 1 and "error opening file: open /none/log: No such file" in r.stderr, r
    with Single() as n0:
        n = Node(os.path.join(n0.folder, "x"), ["-P", "/none/pid"])
        n.start(ready=False)
        assert n.wait_exit() == 1 and "[FTL] Could not write pidfile: " in n.log()
        n = Node(os.path.join(n0.folder, "y"), port=n0.port)
        n.start(ready=False)
        assert n.wait_exit() == 1
        assert "[FTL] Error listening on port: 127.0.0.1:%d" % n0.port in n.log(), n.log()


def test_the_protocol_is_traced_without_secrets():
    with Single("-DV") as n:
        c = n.client(**{"pass": "hunter2", "auth_token": "hunter3"})
        c.sub("foo.bar", 7)
        c.pub("foo.bar", "he\"llo\r\n\x01", reply="r")
        c.msg()
        c.send("UNSUB 7\r\nUNSUB 8 5\r\n")
        c.ping()
        log = n.log()
        for line in ("<<- [SUB foo.bar 7]", "<<- [PUB foo.bar r 9]", "->> [MSG foo.bar 7 r 9]",
                     '<<- MSG_PAYLOAD: ["he\\"llo\\r\\n\\x01"]', "<<- [UNSUB 7]", "<<- [UNSUB 8 5]",
                     "<<- [PING]", "->> [PONG]"):
            assert re.search(r"\[TRC\] 127\.0\.0\.1:\d+ - cid:\d+ - " + re.escape(line) + "\n", log), \
                (line, log)
        assert "hunter" not in log and log.count("[REDACTED]") == 2, log
    with Single() as n:
        n.client().ping()
        assert "[TRC]" not in n.log() and "[DBG]" not in n.log()


def test_the_listener_is_up_at_once():
    """Harnesses begin to connect as soon as the process exists and give up after two seconds."""
    with Single() as n0:
        n = Node(os.path.join(n0.folder, "x"), ["-js", "-sd", os.path.join(n0.folder, "js")])
        n.start(ready=False)
        try:
            wait_until("the port", lambda: can_connect(n.port), timeout=2.0)
            assert n.http("/varz")[0] == 200
        finally:
            n.kill()


def can_connect(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def test_the_version_is_one_everywhere():
    r = subprocess.run([binary(), "-v"], capture_output=True, text=True, timeout=10)
    version = re.fullmatch(r"nats-server: v(\d+\.\d+\.\d+)\n", r.stdout)[1]
    with Single() as n:
        assert n.client().infos[0]["version"] == version
        assert n.json("/varz")["version"] == version
        assert "[INF]   Version:  %s\n" % version in n.log()


def rewrite(n, text):
    with open(n.config_path, "w") as f:
        f.write(text)
    n.signal(signal.SIGHUP)


def test_reload_of_authorization():
    with Single(config="authorization { user: a, password: one }\nserver_name: n0") as n:
        kept = n.client(user="a", **{"pass": "one"})
        rewrite(n, "authorization { users: [ {user: a, password: one}, {user: b, password: \"%s\"} ] }"
                % BCRYPT_OF_TWO)
        n.wait_log("Reloaded server configuration")
        kept.ping()
        b = n.client(user="b", **{"pass": "two"})
        b.ping()
        # Who is no longer there, or has another password now, is disconnected.
        rewrite(n, "authorization { users: [ {user: a, password: three}, {user: b, password: \"%s\"} ] }"
                % BCRYPT_OF_TWO)
        assert kept.line() == "-ERR 'Authorization Violation'"
        kept.until_closed()
        b.ping()
        rewrite(n, "authorization { token: t }")
        assert b.line() == "-ERR 'Authorization Violation'"
        n.client(auth_token="t").ping()
        # Another thing that changed refuses the whole.
        rewrite(n, "authorization { token: u }\nmax_pending: 1234567")
        n.wait_log("Failed to reload server configuration: config reload not supported for MaxPending: "
                   "old=67108864, new=1234567")
        n.client(auth_token="t").ping()
        rewrite(n, "authorization { token: u }\nfoo: 1")
        n.wait_log('Failed to reload server configuration: .*:1?2:1: unknown field "foo"')
        n.client(auth_token="t").ping()
        os.unlink(n.config_path)
        n.signal(signal.SIGHUP)
        n.wait_log("Failed to reload server configuration: open .*: no such file or directory")
        n.client(auth_token="t").ping()


def test_reload_of_the_log():
    with Single(config="debug: false") as n:
        path = os.path.join(n.folder, "other.log")
        rewrite(n, 'debug: true, logtime: false, log_file: "%s"' % path)
        wait_until("the new log", lambda: os.path.exists(path) and "Reloaded server" in open(path).read())
        n.client().ping()
        wait_until("a debug line", lambda: "[DBG] " in open(path).read())
        rewrite(n, "debug: false")
        n.wait_log("Reloaded server configuration")


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
            n.signal(signum)
            assert n.wait_exit() == 0
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
        assert "restore" not in n.log(), "it cannot"
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
        for name in ("identity", "identity.copy"):  # One of them is not missed: test_files.py.
            with open(os.path.join(store, "weir", name), "wb") as f:
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


def test_a_long_answer_is_whole_and_may_be_given_up():
    with tempfile.TemporaryDirectory(prefix="weir-") as store, Single("-js", "-sd", store) as n:
        js = Js(n)
        for k in range(120):
            js.create("S%d" % k, ["s%d.>" % k], metadata={"m": "x" * 4000})
            js.consumer("S%d" % k, "C")
        details = n.json("/jsz?consumers=1&config=1")["account_details"][0]["stream_detail"]
        assert sorted(d["name"] for d in details) == sorted("S%d" % k for k in range(120))
        assert all(len(d["consumer_detail"]) == 1 and d["config"]["metadata"]["m"] for d in details)
        assert not any("config" in d for d in n.json("/jsz?streams=1")["account_details"][0]["stream_detail"])
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", n.http_port)) as gone:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                gone.sendall(b"GET /jsz?consumers=1&config=1 HTTP/1.1\r\nHost: x\r\n\r\n")
                gone.recv(100)
        assert n.json("/jsz")["streams"] == 120


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
