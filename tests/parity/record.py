"""Asks nats-server ($WEIR) and writes its answers to tests/data/parity: on one node, and R3 on three."""

import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "system"))

from test_parity import CONVERSATIONS, golden_path, names, tagged_cluster, wait_for_streams  # noqa: E402
from player import Player, read_cases, render  # noqa: E402
from weir_cluster import Single  # noqa: E402


def record(port, replicas, wanted):
    for name in names(wanted, replicas):
        # nats-server needs a moment: a stream of a name just deleted may find the old one's messages,
        # and a node of three may not know yet that it exists.
        player = Player(port, replicas, 0.3)
        lines = []
        for case in read_cases(os.path.join(CONVERSATIONS, name + ".txt")):
            lines += render(case[0], player.play(case))
        with open(golden_path(name, replicas), "w") as f:
            f.write("\n".join(lines) + "\n")
        print("%s: %d lines" % (os.path.basename(golden_path(name, replicas)), len(lines)), flush=True)


def main(args):
    wanted = [a for a in args if not a.startswith("--")]
    if "--r3" not in args:
        with tempfile.TemporaryDirectory(prefix="weir-") as store:
            with Single("-js", "-sd", store) as node:
                record(node.port, 1, wanted)
    if "--r1" not in args:
        with tagged_cluster() as cluster:
            wait_for_streams(cluster.nodes[1])
            record(cluster.nodes[1].port, 3, wanted)


main(sys.argv[1:])
