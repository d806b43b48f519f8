"""Damage on all three nodes at once, in different places: each message is whole on one of them at least."""

import os
import signal
import struct

from damage import Blocks, journal, overwrite
from nemeses import restart, wait_healthy
from store_nemeses import StoreNemesis
from weir_cluster import wait_until

RUN = 50  # Sequences. Which node's copy of such a run is damaged goes by its number.


class WholeBlocks(Blocks):
    """Those that can be read: dead ones may lie there that were damaged before, and one that is written just now."""

    def _block(self, path, data, at):
        before, self.records = self.records, {}
        is_whole = True
        try:
            super()._block(path, data, at)
            first, last = self.blocks[-1][4:]
            is_whole = all(first <= seq <= last for seq in self.records)
            if not is_whole:
                self.blocks.pop()
        except (AssertionError, struct.error):
            is_whole = False
        for seq, at_ in self.records.items() if is_whole else ():
            before.setdefault(seq, []).extend(at_)
        self.records = before


class RotAll(StoreNemesis):
    """Blocks of all three nodes rot at once, in different places, while they run or are down; when down, also indexes of
    blocks, and on each node one copy of the journal."""
    needs = {"damaged places": 3, "found on all": 1}

    def episode(self):
        is_down = self.rng.random() < 0.5
        if is_down:
            self.stop_all()
        at = {n: os.path.getsize(n.log_path) for n in self.c.nodes}
        damaged = self.damage(is_down)
        if is_down:
            self.restart(self.c.nodes)
            wait_healthy(self.c)
        if damaged:
            self.wait_found(at, damaged)
        self.settle()

    def stop_all(self):
        if self.rng.random() < 0.5:
            self.kill(self.c.nodes)
            return
        self.hit(self.c.nodes)
        for n in self.c.nodes:
            n.signal(signal.SIGTERM)
        for n in self.c.nodes:
            assert n.wait_exit(40) == 0, n.log()
            self.counts["stops"] += 1

    def damage(self, is_down):
        """The nodes where something is damaged now."""
        blocks = [self.blocks(i) for i in range(3)]
        damaged, ruined = set(), []
        for i, (node, b) in enumerate(zip(self.c.nodes, blocks)):
            if is_down and self.rng.random() < 0.4:
                copy = journal(self.c, i)[self.rng.randrange(2)]
                overwrite(copy, os.path.getsize(copy) - 1, lambda x: bytes([x[0] ^ 1]), 1)
                self.damaged(damaged, node, "journals")
            if is_down and self.rng.random() < 0.3:
                if self.ruin_index(b, ruined):
                    self.damaged(damaged, node, "indexes")
                continue  # Messages are damaged with it, and nothing else on this node.
            for _ in range(self.rng.choice((1, 2, 4))):
                if self.damage_messages(b, i, ruined):
                    self.damaged(damaged, node, "messages")
        return damaged

    def damaged(self, nodes, node, what):
        nodes.add(node)
        self.counts["damaged places"] += 1
        self.counts["damaged " + what] += 1

    def blocks(self, i):
        """As they lie there, while files come and go."""
        def read():
            try:
                return WholeBlocks(self.c, i)
            except FileNotFoundError:
                return None
        return wait_until("blocks of n%d" % i, read, 20, 0.1)

    def damage_messages(self, blocks, i, ruined):
        """Some in a row, where the others have theirs."""
        mine = sorted(s for s in blocks.records if s // RUN % 3 == i
                      and not any(first <= s <= last for first, last in ruined))
        if not mine:
            return False
        first = self.rng.choice(mine)
        path, off, size = self.rng.choice(blocks.records[first])
        try:
            if self.rng.random() < 0.5:
                overwrite(path, off + size - 1, lambda b: bytes([b[0] ^ 4]), 1)
            else:
                overwrite(path, off, lambda b: bytes(len(b)), self.end_of_run(blocks, first, path, off + size) - off)
        except FileNotFoundError:  # A block that was written anew meanwhile.
            return False
        return True

    def end_of_run(self, blocks, seq, path, end):
        """Of some messages that follow each other there and are no other node's to lose."""
        ends = [end]
        while (seq + 1) // RUN == seq // RUN:
            seq += 1
            size = next((s for p, o, s in blocks.records.get(seq, []) if (p, o) == (path, end)), None)
            if size is None:
                break
            end += size
            ends.append(end)
        return self.rng.choice(ends)

    def ruin_index(self, blocks, ruined):
        """Of a block whose messages no other node has in such a one."""
        free = [n for n, b in enumerate(blocks.blocks) if b[5] - b[4] > RUN and
                not any(b[4] <= last and b[5] >= first for first, last in ruined)]
        if not free:
            return False
        ruined.append(blocks.ruin_index(self.rng.choice(free)))
        return True

    def wait_found(self, at, damaged):
        """By the scrub, at the latest."""
        def has_found(node):
            with open(node.log_path, "rb") as f:
                f.seek(at[node])
                return b"Damage in " in f.read()
        try:
            wait_until("the damage to be found", lambda: all(has_found(n) for n in damaged), 20, 0.1)
        except AssertionError:
            pass  # Blocks may have been written anew, or what was in them was removed.
        found = [n for n in damaged if has_found(n)]
        self.counts["found"] += len(found)
        self.counts["found on all"] += len(found) == 3


ALL = {"rot-all": RotAll}
