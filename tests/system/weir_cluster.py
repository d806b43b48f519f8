"""Starts nodes, talks the NATS protocol over raw sockets, and leaves nothing behind.

    with Cluster(3) as cluster:
        cluster.wait_mesh()
        a, b = cluster.nodes[0].client(), cluster.nodes[1].client()
        b.sub("foo", 1)
        ...

The binary is $WEIR, or the newest build/*/cluster/weir of this tree. Every wait is bounded; the bounds
end what hangs, also where a machine gives a node a twentieth of one core. Each node has a folder of its
own under a temporary directory: log, store, ports file.
"""

import atexit
import fcntl
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def binary():
    if os.environ.get("WEIR"):
        return os.environ["WEIR"]
    found = []
    for preset in ("release", "debug", "asan"):
        path = os.path.join(ROOT, "build", preset, "cluster", "weir")
        if os.path.exists(path):
            found.append((os.path.getmtime(path), path))
    if not found:
        raise RuntimeError("no weir binary: build first, or set WEIR")
    return max(found)[1]


# Test programs run side by side, and a node that is down for a moment must find its port free again: each
# program has a slice of the ports to itself, by a lock that ends with it. Below the range of outgoing
# connections, which could take a port before its node does.
_SLICES, _SLICE_PORTS, _FIRST_PORT = 100, 200, 12000
_slice = None  # The next port, and the end of the slice.
_locks = []    # Held until the program ends.


def _take_slice():
    for i in random.sample(range(_SLICES), _SLICES):
        try:
            lock = open(os.path.join(tempfile.gettempdir(), "weir-ports-%d.lock" % i), "a")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # Somebody has it, or it is another user's.
            continue
        _locks.append(lock)
        first = _FIRST_PORT + i * _SLICE_PORTS
        return [first, first + _SLICE_PORTS]
    raise RuntimeError("%d test programs run already" % _SLICES)


def free_port():
    global _slice
    while True:
        if _slice is None or _slice[0] == _slice[1]:
            _slice = _take_slice()
        port = _slice[0]
        _slice[0] += 1
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def wait_until(what, check, timeout=30.0, step=0.02):
    """Polls check() until it is true; its value, or an error that names what was awaited."""
    end = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("timed out waiting for " + what)
        time.sleep(step)


class Client:
    """A raw connection. Messages are tuples (subject, sid, reply, header, payload)."""

    def __init__(self, port, host="127.0.0.1", timeout=5.0):
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b""
        self.infos = []
        self.sids = 0

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def _fill(self, timeout):
        self.sock.settimeout(timeout)
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError("connection closed")
        self.buf += data

    def line(self, timeout=5.0):
        end = time.monotonic() + timeout
        while b"\r\n" not in self.buf:
            self._fill(max(0.001, end - time.monotonic()))
        line, self.buf = self.buf.split(b"\r\n", 1)
        return line.decode("utf-8", "replace")

    def exactly(self, count, timeout=5.0):
        end = time.monotonic() + timeout
        while len(self.buf) < count:
            self._fill(max(0.001, end - time.monotonic()))
        data, self.buf = self.buf[:count], self.buf[count:]
        return data

    def info(self, timeout=5.0):
        line = self.line(timeout)
        assert line.startswith("INFO "), line
        self.infos.append(json.loads(line[5:]))
        return self.infos[-1]

    def connect(self, **options):
        """Reads INFO, sends CONNECT and PING, and returns once the PONG and its INFO are there."""
        if not self.infos:
            self.info()
        fields = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True,
                  "protocol": 1, "lang": "raw", "version": "1", "name": "test"}
        fields.update(options)
        self.send("CONNECT " + json.dumps(fields) + "\r\nPING\r\n")
        line = self.line()
        if line == "+OK":
            line = self.line()
        assert line == "PONG", line
        if fields["protocol"] == 1:
            info = self.info()
            assert info.get("connect_info") is True, info
        return self

    def ping(self, timeout=5.0):
        """Everything sent before was processed when this returns. Expects nothing in between."""
        self.send("PING\r\n")
        line = self.line(timeout)
        while line == "PING" or line.startswith("INFO "):
            if line == "PING":
                self.send("PONG\r\n")
            else:
                self.infos.append(json.loads(line[5:]))
            line = self.line(timeout)
        assert line == "PONG", line

    def sub(self, subject, sid=None, queue=None):
        if sid is None:
            self.sids += 1
            sid = self.sids
        self.send("SUB %s %s%s\r\n" % (subject, queue + " " if queue else "", sid))
        return str(sid)

    def pub(self, subject, payload=b"", reply=None, header=None):
        payload = payload.encode() if isinstance(payload, str) else payload
        reply = " " + reply if reply else ""
        if header is None:
            head = "PUB %s%s %d\r\n" % (subject, reply, len(payload))
            self.send(head.encode() + payload + b"\r\n")
        else:
            header = header.encode() if isinstance(header, str) else header
            head = "HPUB %s%s %d %d\r\n" % (subject, reply, len(header), len(header) + len(payload))
            self.send(head.encode() + header + payload + b"\r\n")

    def msg(self, timeout=5.0):
        """The next message; pings are answered and INFOs kept on the way."""
        end = time.monotonic() + timeout
        while True:
            line = self.line(max(0.001, end - time.monotonic()))
            if line == "PING":
                self.send("PONG\r\n")
            elif line.startswith("INFO "):
                self.infos.append(json.loads(line[5:]))
            else:
                break
        words = line.split(" ")
        assert words[0] in ("MSG", "HMSG"), line
        if words[0] == "MSG":
            header_len, total = 0, int(words[-1])
            names = words[1:-1]
        else:
            header_len, total = int(words[-2]), int(words[-1])
            names = words[1:-2]
        data = self.exactly(total + 2)
        assert data.endswith(b"\r\n"), data
        reply = names[2] if len(names) > 2 else None
        return names[0], names[1], reply, data[:header_len], data[header_len:total]

    def silent(self, seconds=0.2):
        """Asserts that no message comes for so long."""
        try:
            got = self.msg(seconds)
        except (TimeoutError, socket.timeout):
            return
        raise AssertionError("unexpected message %r" % (got,))

    def request(self, subject, payload=b"", timeout=5.0, header=None):
        """One request with an inbox of its own; returns the reply as msg() does."""
        inbox = "_INBOX.%x%x" % (os.getpid(), time.monotonic_ns())
        sid = self.sub(inbox, "r%x" % time.monotonic_ns())
        self.send("UNSUB %s 1\r\n" % sid)
        self.pub(subject, payload, inbox, header)
        return self.msg(timeout)

    def until_closed(self, timeout=5.0):
        """Everything until the server closes, as text."""
        end = time.monotonic() + timeout
        try:
            while time.monotonic() < end:
                self._fill(max(0.001, end - time.monotonic()))
        except (EOFError, ConnectionError):
            data, self.buf = self.buf, b""
            return data.decode("utf-8", "replace")
        raise AssertionError("still open; got %r" % self.buf)


def settings_to_config(args, config):
    """Moves `--max_payload 5` and its like, which are keys of the configuration and no flags, from
    args to the configuration. A name that ends in _ms is a duration."""
    lines = []
    for at in range(len(args) - 2, -1, -1):
        name = args[at].lstrip("-")
        if args[at].startswith("--max_") or (args[at].startswith("--") and name.endswith("_ms")):
            is_ms = name.endswith("_ms")
            lines.append('%s: %s' % (name[:-3] if is_ms else name,
                                     '"%sms"' % args[at + 1] if is_ms else args[at + 1]))
            del args[at:at + 2]
    return config if not lines else "\n".join(lines) + "\n" + (config or "")


class Node:
    def __init__(self, folder, args=(), name="n0", port=None, config=None, env=None, argv0=None):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.name = name
        self.port = port or free_port()
        self.http_port = free_port()
        self.log_path = os.path.join(folder, "log")
        self.args = list(args)
        self.argv0 = argv0
        self.binary = binary()
        self.env = dict(os.environ, **(env or {}))
        self.process = None
        config = settings_to_config(self.args, config)
        if config is not None:
            self.config_path = os.path.join(folder, "conf")
            with open(self.config_path, "w") as f:
                f.write(config)
            self.args += ["-c", self.config_path]

    def command(self):
        return [self.argv0 or self.binary, "-a", "127.0.0.1", "-p", str(self.port),
                "-m", str(self.http_port), "-n", self.name] + self.args

    def start(self, ready=True, timeout=60.0):
        self.log_from = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(self.command(), executable=self.binary, stdout=log, stderr=log,
                                        stdin=subprocess.DEVNULL, env=self.env)
        log.close()
        atexit.register(self.kill)  # Also when a test fails before it comes to the end.
        if ready:
            self.wait_log(r"Server is ready", timeout)
        return self

    def log(self):
        with open(self.log_path, "r", errors="replace") as f:
            f.seek(self.log_from)
            return f.read()

    def wait_log(self, pattern, timeout=30.0):
        def check():
            found = re.search(pattern, self.log())
            if not found and self.process.poll() is not None:
                raise AssertionError("%s ended with %s:\n%s"
                                     % (self.name, self.process.returncode, self.log()))
            return found
        return wait_until("%r in the log of %s" % (pattern, self.name), check, timeout)

    def client(self, **options):
        return Client(self.port).connect(**options)

    def raw(self):
        return Client(self.port)

    def signal(self, signum):
        os.kill(self.process.pid, signum)

    def wait_exit(self, timeout=5.0):
        return self.process.wait(timeout)

    def kill(self):
        """kill -9, and gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def stop(self, timeout=30.0):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("%s did not stop:\n%s" % (self.name, self.log()))

    def http(self, path, timeout=5.0):
        """(status, body text)"""
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.http_port, path),
                                        timeout=timeout) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def json(self, path):
        status, body = self.http(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def check_clean(self):
        """Nothing of a sanitizer, an assertion or a crash in the log."""
        with open(self.log_path, "r", errors="replace") as f:
            text = f.read()
        for bad in ("AddressSanitizer", "LeakSanitizer", "runtime error:", "Assertion"):
            assert bad not in text, "%s:\n%s" % (self.name, text[-6000:])


class Single:
    """One node alone."""

    def __init__(self, *args, **options):
        self.folder = tempfile.mkdtemp(prefix="weir-")
        self.node = Node(self.folder, args, **options)

    def __enter__(self):
        try:
            return self.node.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def __exit__(self, kind, value, trace):
        finish([self.node], self.folder, kind)


class Cluster:
    """`count` nodes with a cluster block; `seeds` says which of them the others have as routes."""

    def __init__(self, count, args=(), seeds=None, node_args=None, name="C", auth="", config=None):
        self.folder = tempfile.mkdtemp(prefix="weir-")
        self.cluster_ports = [free_port() for _ in range(count)]
        seeds = range(count) if seeds is None else seeds
        routes = ",".join("nats://%s127.0.0.1:%d" % (auth, self.cluster_ports[i]) for i in seeds)
        self.nodes = []
        for i in range(count):
            own = ["--cluster", "nats://%s127.0.0.1:%d" % (auth, self.cluster_ports[i]),
                   "--cluster_name", name, "--routes", routes]
            own += list(args) + (list(node_args(i, self)) if node_args else [])
            self.nodes.append(Node(os.path.join(self.folder, "n%d" % i), own, "n%d" % i,
                                   config=config))

    def start(self):
        for node in self.nodes:
            node.start()
        return self

    def wait_mesh(self, nodes=None, timeout=30.0):
        nodes = nodes or self.nodes
        for node in nodes:
            wait_until("%s to see %d nodes" % (node.name, len(nodes) - 1),
                       lambda: node.json("/varz")["remotes"] == len(nodes) - 1, timeout)
        return self

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def __exit__(self, kind, value, trace):
        finish(self.nodes, self.folder, kind)


def finish(nodes, folder, kind):
    """Stops all; after a failure shows the logs. The folder goes when nothing failed."""
    try:
        if kind is not None:
            for node in nodes:
                if os.path.exists(node.log_path):
                    with open(node.log_path, errors="replace") as f:
                        sys.stderr.write("---- %s\n%s\n" % (node.name, f.read()[-4000:]))
        for node in nodes:
            if kind is None:
                node.stop()
                node.check_clean()
            else:
                node.kill()
    finally:
        for node in nodes:
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def run(tests, argv=None):
    """Runs the functions named test_*; a name on the command line runs those that contain it."""
    wanted = (argv or sys.argv)[1:]
    failed = 0
    names = [n for n in tests if n.startswith("test_") and callable(tests[n])]
    for w in wanted:
        if not any(w in n for n in names):
            sys.exit("no test has %r in its name" % w)
    names = [n for n in names if not wanted or any(w in n for w in wanted)]
    for name in names:
        began = time.monotonic()
        try:
            tests[name]()
            print("ok   %s (%.2f s)" % (name, time.monotonic() - began), flush=True)
        except Exception as e:
            failed += 1
            import traceback
            traceback.print_exc()
            print("FAIL %s: %s" % (name, e), flush=True)
    print("%d passed, %d failed" % (len(names) - failed, failed))
    sys.exit(1 if failed else 0)
