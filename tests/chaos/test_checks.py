"""The checks find what they are for: a clean history passes, each planted fault is named."""

import dataclasses
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "system")]

from checks import (ACKED, REFUSED, UNKNOWN, Connection, Delivery, Once, Op, Write, check_deliveries, check_once,
                    check_registers, check_replicas, check_writes, gaps)
from read_checks import Known, Look, check_looks, check_ordered
from readers import Ordered
from stream_checks import (Delete, Name, Purge, Put, Sight, check_ages, check_catalogs, check_limited,
                           check_names)
from weir_cluster import run


def one(bad, text):
    assert len(bad) == 1 and text in bad[0], bad


def test_writes():
    writes = [Write("c", 0, b"a", ACKED, 1), Write("c", 1, b"b", UNKNOWN), Write("c", 2, b"c", ACKED, 3),
              Write("c", 3, b"d", REFUSED), Write("d", 0, b"e", UNKNOWN)]
    stored = {1: b"a", 2: b"b", 3: b"c"}
    assert check_writes(writes, stored) == []
    one(check_writes(writes, {2: b"b", 3: b"c"}), "lost: a")
    one(check_writes(writes, {**stored, 4: b"a"}), "doubled: a")
    one(check_writes(writes, {**stored, 4: b"d"}), "refused, but stored: d")
    one(check_writes(writes, {**stored, 4: b"x"}), "never published: x")
    one(check_writes(writes, {1: b"a", 3: b"c", 4: b"b"}), "order on c")
    assert any("moved: c" in b for b in check_writes(writes, {1: b"a", 2: b"b", 4: b"c"}))
    twice = writes + [Write("e", 0, b"f", ACKED, 3)]
    assert any("two acks" in b for b in check_writes(twice, {**stored, 4: b"f"}))


def test_replicas():
    assert check_replicas({"n0": {1: b"a"}, "n1": {1: b"a"}}) == []
    one(check_replicas({"n0": {1: b"a"}, "n1": {1: b"b"}}), "differ at 1")
    one(check_replicas({"n0": {1: b"a"}, "n1": {}}), "differ at 1")


def test_deliveries():
    seen = [Delivery(1, b"a", 0.0), Delivery(1, b"a", 1.0), Delivery(2, b"b", 2.0)]
    confirmed, wanted = {1: 1.5, 2: 2.5}, {1: b"a", 2: b"b"}
    assert check_deliveries(seen, confirmed, set(), wanted) == []
    one(check_deliveries(seen + [Delivery(1, b"a", 1.6)], confirmed, set(), wanted), "came again")
    one(check_deliveries(seen, {1: 1.5}, set(), wanted), "never confirmed")
    assert check_deliveries(seen, {1: 1.5}, {2}, wanted) == []
    one(check_deliveries(seen + [Delivery(2, b"x", 2.0)], confirmed, set(), wanted), "dirty")
    assert any("never delivered" in b for b in check_deliveries(seen[:2], confirmed, set(), wanted))


def history():
    return [Op("k", 0, 0, b"a", 1, ACKED, 1), Op("k", 2, None, b"", 3, ACKED, 1),
            Op("k", 2, 1, b"b", returned=4, outcome=ACKED, version=2),
            Op("k", 2.5, 1, b"c", returned=5, outcome=REFUSED, version=2),
            Op("k", 4.5, 2, b"d"), Op("k", 6, None, b"", 7, ACKED, 3)]


def test_registers():
    stored = {1: b"a", 2: b"b", 3: b"d"}
    assert check_registers(history(), stored) == []
    # A read that overlaps a write may see either.
    assert check_registers(history() + [Op("k", 2.1, None, b"", 3.9, ACKED, 2)], stored) == []
    one(check_registers(history() + [Op("k", 8, None, b"", 9, ACKED, 2)], stored), "stale")
    one(check_registers(history() + [Op("k", 4.2, None, b"", 9, ACKED, 1)], stored), "stale")
    one(check_registers(history() + [Op("k", 8, None, b"", 9, ACKED, 9)], stored), "dirty")
    # Read before it was invoked.
    assert any("stale" in b for b in
               check_registers(history() + [Op("k", 4.2, None, b"", 4.3, ACKED, 3)], stored))
    # Two that expected the same both stand.
    assert any("CAS" in b for b in check_registers(
        history() + [Op("k", 5, 2, b"e", returned=6, outcome=ACKED, version=4)], {**stored, 4: b"e"}))
    assert any("lost" in b for b in check_registers(history(), {1: b"a", 3: b"d"}))
    assert any("refused, but" in b for b in check_registers(history(), {**stored, 4: b"c"}))
    wrong = history()
    wrong[3] = dataclasses.replace(wrong[3], version=1)
    assert any("refused what it expected" in b for b in check_registers(wrong, stored))


def test_once():
    ids = [Once(b"a", [(1, False), (1, True)]), Once(b"b", [(2, True)]), Once(b"c")]
    stored = {1: b"a", 2: b"b"}
    assert check_once(ids, stored) == []
    one(check_once(ids, {1: b"a"}), "lost: b")
    one(check_once(ids, {**stored, 3: b"a"}), "doubled")
    one(check_once(ids + [Once(b"d", [(9, True)])], {**stored, 3: b"d"}), "acknowledged as")
    one(check_once([Once(b"a", [(1, False), (1, False)])], {1: b"a"}), "new twice")


def test_ordered():
    stored = {1: b"a", 2: b"b", 4: b"d"}
    seen = [(1, b"a"), (2, b"b"), (4, b"d")]
    assert check_ordered("o", seen, stored) == []
    one(check_ordered("o", seen + [(4, b"d")], stored), "4 came after 4")
    one(check_ordered("o", [seen[0], seen[2], seen[1]], stored), "2 came after 4")
    one(check_ordered("o", seen[:1] + seen[2:], stored), "left out 1 messages, the first 2")
    one(check_ordered("o", seen + [(5, b"e")], stored), "dirty: 5 was e, but is nothing")
    one(check_ordered("o", seen[:1] + [(2, b"x")] + seen[2:], stored), "dirty: 2 was x")


def test_looks():
    stored = {1: b"a-1", 2: b"b-1", 3: b"a-2", 5: b"a-3"}
    acks = [Known("a", 1, 1.0, "x/0"), Known("a", 3, 2.0, "x/0"), Known("a", 5, 3.0, "y/0")]

    def check(*looks):
        return check_looks(looks, acks, stored, lambda payload: payload.split(b"-")[0].decode())

    def last(is_direct, stay, invoked, seq, payload=None):
        found = stored.get(seq, b"") if payload is None else payload
        return Look(stay, is_direct, "a", invoked, invoked + 0.1, seq, found)

    def exact(is_direct, stay, invoked, asked, seq):
        return Look(stay, is_direct, "a", invoked, invoked + 0.1, seq, stored.get(seq, b""), asked, True)

    assert check(last(False, "z/0", 3.5, 5), exact(False, "z/0", 2.5, 3, 3), last(True, "x/0", 2.5, 3)) == ([], 0)
    assert check(last(False, "z/0", 2.9, 3), last(False, "z/0", 2.95, 5)) == ([], 0)  # Not acknowledged yet: either.
    one(check(last(False, "z/0", 3.5, 3))[0], "stale: the last of a was read as 3")
    one(check(exact(False, "z/0", 2.5, 3, 0))[0], "stale: 3 was read as 0")
    one(check(last(False, "z/0", 2.5, 5), last(False, "y/0", 2.7, 3))[0], "stale")  # It had been seen.
    # Direct: not behind its own stay, be it by an ack or a look; behind others, which counts.
    assert check(last(True, "x/0", 3.5, 3), exact(True, "z/0", 3.5, 5, 0)) == ([], 2)
    one(check(last(True, "x/0", 2.5, 1))[0], "stale: the last of a was read as 1 by direct get in x/0, where 3")
    one(check(exact(True, "y/0", 3.5, 5, 0))[0], "stale: 5 was read as 0")
    one(check(last(True, "z/0", 3.5, 5), last(True, "z/0", 3.7, 3))[0], "stale")
    assert check(last(True, "z/0", 3.5, 5), last(True, "z/1", 3.7, 3)) == ([], 1)
    # Whatever lies elsewhere or nowhere, is of another subject, or was not asked for.
    assert any("dirty" in b for b in check(last(True, "x/0", 3.5, 9, b"a-9"))[0])
    assert any("dirty" in b for b in check(last(True, "x/0", 3.5, 3, b"a-9"))[0])
    assert any("was asked for, and b-1 came" in b for b in check(last(True, "x/0", 0.5, 2))[0])
    one(check(exact(False, "z/0", 3.5, 3, 5))[0], "3 was asked for, and 5 came")
    after = Look("z/0", True, "a", 3.5, 3.6, 3, b"a-2", 2)
    assert check(after) == ([], 0)
    one(check(dataclasses.replace(after, seq=5, payload=b"a-3"))[0], "3 is the first of a from 2 on, but 5")
    one(check(dataclasses.replace(after, is_direct=False, seq=0, payload=b""))[0], "stale: a from 2 on was read as 0")


def test_gaps():
    a = Connection("n0", [1.0, 1.1, 1.5, 1.6])
    b = Connection("n1", [1.0, 1.1], gave_up=4.0)
    same = lambda got, wanted: len(got) == len(wanted) and all(abs(g - w) < 1e-9 for g, w in zip(got, wanted))
    assert same(gaps([(1.2, {"n1"})], [a, b]), [0.4])
    assert same(gaps([(1.2, {"n0"})], [a, b]), [2.9])
    assert same(gaps([(1.05, {"n1"}), (1.55, {"n1"})], [a, b], window_s=0.01), [0.1, 0.1])
    assert same(gaps([(1.2, {"n1"}), (1.3, {"n0"})], [a, b]), [0.2, 2.9])  # Not longer by the second.
    assert gaps([(0.5, set()), (2.0, {"n1"})], [a, b]) == []  # Nobody was there before; nobody after.


def test_limits():
    puts = [Put("s", b"%d" % i, ACKED, i) for i in range(1, 7)]
    all_ = {i: b"%d" % i for i in range(1, 7)}
    last = {4: b"4", 5: b"5", 6: b"6"}
    assert check_limited(puts, [], [], last, per_subject=3) == []
    assert check_limited(puts, [], [], last, max_msgs=3) == []
    one(check_limited(puts, [], [], all_, per_subject=5), "5 at most")
    one(check_limited(puts, [], [], all_, max_msgs=5), "5 at most")
    # Out of the middle, and one too many at the beginning.
    one(check_limited(puts, [], [], {3: b"3", 4: b"4", 6: b"6"}, max_msgs=4, per_subject=4), "lost: 5")
    one(check_limited(puts, [], [], {5: b"5", 6: b"6"}, per_subject=3), "lost: 4")
    one(check_limited(puts, [], [], {5: b"5", 6: b"6"}, max_msgs=3), "lost: 4")
    assert check_limited(puts + [Put("s", b"x")], [], [], {5: b"5", 6: b"6"}, max_msgs=3) == []
    assert any("lost: 1" in b for b in check_limited(puts, [], [], last, max_msgs=3, is_new_discarded=True))
    assert check_limited(puts, [Delete(2), Delete(3, ACKED)], [], {i: all_[i] for i in (1, 4, 5, 6)}) == []
    one(check_limited(puts, [Delete(3, ACKED)], [], all_), "3 was deleted")
    assert check_limited(puts, [], [Purge("s", 4, ACKED)], last) == []
    assert check_limited(puts, [], [Purge("s", 4)], all_) == []
    one(check_limited(puts, [], [Purge("s", 5, ACKED)], last), "purged before 5")
    one(check_limited(puts, [], [Purge("s", 4, ACKED)], {5: b"5", 6: b"6"}), "lost: 4")
    one(check_limited(puts + [Put("s", b"r", REFUSED)], [], [], {**all_, 7: b"r"}), "refused, but stored")
    one(check_limited(puts, [], [], {**all_, 7: b"6"}), "doubled: 6")
    assert any("moved: 2" in b for b in check_limited(puts, [], [], {**all_, 2: b"3", 3: b"2"}))


def test_ages():
    puts = [Put("s", b"a", ACKED, 1, 10.0), Put("s", b"b", ACKED, 2, 11.0), Put("s", b"c", UNKNOWN, 0, 11.5)]
    seen = [Sight("n0", 10.5, 1), Sight("n0", 14.1, 2), Sight("n0", 15.1, 3), Sight("n1", 16.0, 3),
            Sight("n1", 16.1, 1)]
    assert check_ages(puts, seen, 4.0) == []
    one(check_ages(puts, seen + [Sight("n1", 14.5, 3)], 4.0), "after 3.500 s at the latest, on n1: b at 2")
    # A replica that is built anew begins at the beginning; what it had removed before counts.
    one(check_ages(puts, seen + [Sight("n0", 13.9, 2)], 4.0), "a at 1")


def test_catalogs():
    assert check_catalogs({"n0": {"A": {"c"}}, "n1": {"A": {"c"}}}) == []
    one(check_catalogs({"n0": {"A": {"c"}}, "n1": {"A": set()}}), "catalogs differ: A")
    one(check_catalogs({"n0": {"A": set()}, "n1": {}}), "catalogs differ: A")
    old, new = b"A life 1", b"A life 2"
    a = Name("A", True, 2, True, [Put("A.x", new, ACKED, 1)], set(), {"c"})
    assert check_names([a], {"A": {"c"}}, {"A": {1: new}}) == []
    one(check_names([a], {}, {}), "creation was acknowledged")
    one(check_names([a], {"A": set()}, {"A": {1: new}}), "has the consumers")
    one(check_names([a], {"A": {"c"}}, {"A": {}}), "lost")
    one(check_names([a], {"A": {"c"}}, {"A": {1: old, 2: new}}), "of another life")
    one(check_names([a], {"A": {"c"}}, {"A": {1: new, 2: new}}), "doubled")
    gone = Name("B", True, 1, False)
    assert check_names([gone], {}, {}) == []
    one(check_names([gone], {"B": set()}, {"B": {}}), "deletion was acknowledged")
    assert check_names([dataclasses.replace(gone, is_clear=False)], {"B": set()}, {"B": {}}) == []


class Line:
    """A connection on which the messages 1, 3 and 4 of each consumer come at once."""

    def __init__(self):
        self.coming, self.sids = [], {}

    def sub(self, to, sid=None):
        self.sids[to] = sid or "r"
        return self.sids[to]

    def send(self, text):
        pass

    def pub(self, subject, payload, to):
        sid = self.sids[to]
        self.coming += ([("", sid, None, b"", b"{}")] if "CREATE" in subject else
                        [("", sid, "$JS.ACK.CHAOS.o.1.%d.%d.0.0" % (n, n), b"", b"w0-%d" % n) for n in (1, 3, 4)])

    def request(self, subject, payload, _):
        self.sub("r")
        self.pub(subject, payload, "r")
        return self.msg(0)

    def msg(self, _):
        return self.coming.pop(0)


def test_ordered_reader_behind_a_gap():
    """What the consumer that was given up still sends is not taken for the answer about the next one."""
    class Run:
        nodes, seed = [None], 1
    reader, line = Ordered(Run, "o0", 0), Line()
    reader.consume(line)
    reader.consume(line)
    assert reader.consumers == 2 and reader.last == 1


if __name__ == "__main__":
    run(globals())
