"""Nodes whose wall clocks are set by the test: wrong_clock.c, preloaded, reads an offset from a file."""

import mmap
import os
import struct

from weir_cluster import binary

HOUR = 3600
YEARS_10 = 10 * 365 * 24 * HOUR
OFFS = (HOUR, -HOUR, YEARS_10, -YEARS_10)


def library():
    """From the build that the node is of."""
    build = os.path.dirname(os.path.dirname(os.path.realpath(binary())))
    return os.environ.get("WRONG_CLOCK_LIBRARY", os.path.join(build, "tests", "system", "wrong_clock.so"))


def fit(cluster):
    """Before its nodes start."""
    for node in cluster.nodes:
        path = os.path.join(cluster.folder, node.name + ".clock")
        with open(path, "wb") as f:
            f.write(bytes(8))
        with open(path, "r+b") as f:
            node.clock = mmap.mmap(f.fileno(), 8)
        node.env = dict(node.env, LD_PRELOAD=library(), WRONG_CLOCK=path)


def set_clock(node, seconds):
    """Its wall clock is off by so much from now on."""
    node.clock[:8] = struct.pack("=q", int(seconds * 1e9))


def clock_of(node):
    """What the node says of it."""
    return node.json("/varz")["jetstream"]["clock"]
