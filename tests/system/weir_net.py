"""Nodes in network namespaces of their own, so that links can fail without a word. Needs root and `ip`.

All namespaces, the bridge between them too, carry the test's pid in their names and go with it.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile

from weir_cluster import Client, Node, finish
from weir_js import JsCluster

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def is_possible():
    return os.geteuid() == 0 and shutil.which("ip") is not None


def ip(*words):
    subprocess.run(("ip",) + words, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def inside(namespace):
    """Sockets made here belong to the namespace, and so do processes. Of this thread, not of others."""
    with open("/proc/thread-self/ns/net") as home, open("/run/netns/" + namespace) as other:
        if _libc.setns(other.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            _libc.setns(home.fileno(), CLONE_NEWNET)


class NetNode(Node):
    def __init__(self, namespace, *args, **options):
        super().__init__(*args, **options)
        self.namespace = namespace

    def start(self, ready=True, timeout=60.0):
        with inside(self.namespace):
            return super().start(ready, timeout)

    def raw(self):
        with inside(self.namespace):
            return Client(self.port)

    def client(self, **options):
        return self.raw().connect(**options)

    def http(self, path, timeout=5.0):
        with inside(self.namespace):
            return super().http(path, timeout)

    def isolate(self):
        """Nothing goes in or out any more, and nobody is told."""
        ip("-n", self.namespace, "link", "set", "eth0", "down")

    def mute(self, number, is_muted=True):
        """What it sends to node @number is lost; what comes from there arrives."""
        ip("-n", self.namespace, "route", "add" if is_muted else "del", "blackhole",
           "10.77.0.%d/32" % (number + 1))

    def heal(self):
        ip("-n", self.namespace, "link", "set", "eth0", "up")


class NetCluster(JsCluster):
    NEEDS = "root and ip"
    is_possible = staticmethod(is_possible)

    def __init__(self, count, args=(), name="C", config=None):
        self.folder = tempfile.mkdtemp(prefix="weir-")
        self.is_born = True
        self.names = ["weir%d-%d" % (os.getpid(), i) for i in range(count)]
        self.bridge = "weir%d-br" % os.getpid()
        self.nodes = []
        routes = ",".join("nats://10.77.0.%d:6222" % (i + 1) for i in range(count))
        for i in range(count):
            own = ["--cluster", "nats://10.77.0.%d:6222" % (i + 1), "--cluster_name", name,
                   "--routes", routes, "-js", "-sd", os.path.join(self.folder, "n%d" % i, "js")]
            self.nodes.append(NetNode(self.names[i], os.path.join(self.folder, "n%d" % i),
                                      own + list(args), "n%d" % i, config=config))

    def start(self):
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        self.link()
        return super().start()

    def link(self):
        """Connects the namespaces: eth0 in each, on one bridge."""
        ip("netns", "add", self.bridge)
        ip("-n", self.bridge, "link", "add", "br0", "type", "bridge")
        ip("-n", self.bridge, "link", "set", "br0", "up")
        for i, name in enumerate(self.names):
            ip("-n", self.bridge, "link", "add", "v%d" % i, "type", "veth", "peer", "name", "eth0",
               "netns", name)
            ip("-n", self.bridge, "link", "set", "v%d" % i, "master", "br0", "up")
            ip("-n", name, "addr", "add", "10.77.0.%d/24" % (i + 1), "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")

    def __exit__(self, kind, value, trace):
        try:
            finish(self.nodes, self.folder, kind)
        finally:
            for name in self.names + [self.bridge]:
                subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
