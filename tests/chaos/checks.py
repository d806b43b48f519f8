"""What must hold at the end of a run. Pure functions of histories; each returns complaints as text.

A write has one of three outcomes: acked, refused (it must not stand) or unknown (it may, once). `stored`
is the final log of one replica: {sequence: payload}.
"""

import bisect
import collections
import dataclasses
import math

ACKED, REFUSED, UNKNOWN = "acked", "refused", "unknown"


@dataclasses.dataclass
class Write:
    """One publish. Each has a payload of its own, a retry too, so that a double shows."""
    connection: str
    place: int  # In the order of sending on its connection.
    payload: bytes
    outcome: str = UNKNOWN
    seq: int = 0


@dataclasses.dataclass
class Delivery:
    seq: int
    payload: bytes
    asked: float  # When the pull request was sent that it answers.


@dataclasses.dataclass
class Op:
    """On a register: `expected` is None for a read. Versions are sequences; 0 is before the first write."""
    key: str
    invoked: float
    expected: int = None
    payload: bytes = b""
    returned: float = math.inf
    outcome: str = UNKNOWN
    version: int = None  # What was written or read; of a refused CAS, what it found, if it told.


@dataclasses.dataclass
class Once:
    """All publishes of one Nats-Msg-Id."""
    payload: bytes
    answers: list = dataclasses.field(default_factory=list)  # (sequence, whether it said duplicate)


@dataclasses.dataclass
class Connection:
    """Of a publisher that always has something to send: when it was answered, and whether it gave up."""
    node: str
    acks: list = dataclasses.field(default_factory=list)
    gave_up: float = None


def gaps(moments, connections, window_s=8.0):
    """For each fault, (when, nodes it hit): the longest time that a connection to another node was without an
    answer, beginning before or within the window. What the next fault adds is its own. A connection that gave
    up waited until then."""
    longest = []
    for (when, hit), (next_, hit_next) in zip(moments, moments[1:] + [(math.inf, set())]):
        most = None
        until = min(when + window_s, next_)
        for c in connections:
            if c.node in hit or not c.acks or c.acks[0] > when:
                continue
            times = c.acks + ([c.gave_up] if c.gave_up is not None else [])
            at = bisect.bisect_right(times, when)
            while at < len(times) and times[at - 1] < until:
                end = min(times[at], next_) if c.node in hit_next else times[at]
                most = max(most or 0, end - times[at - 1])
                at += 1
        if most is not None:
            longest.append(most)
    return longest


def short(payload):
    return payload[:40].decode("utf-8", "replace")


def places(stored):
    """{payload: [sequences]}"""
    at = collections.defaultdict(list)
    for seq, payload in sorted(stored.items()):
        at[payload].append(seq)
    return at


def check_writes(writes, stored):
    """Nothing lost, doubled, invented or out of the order of its connection."""
    bad = []
    at = places(stored)
    known = {w.payload for w in writes}
    for payload, seqs in at.items():
        if payload not in known:
            bad.append("never published: %s at %s" % (short(payload), seqs))
        elif len(seqs) > 1:
            bad.append("doubled: %s at %s" % (short(payload), seqs))
    owner = {}
    for w in writes:
        seqs = at.get(w.payload, [])
        if w.outcome == ACKED:
            if w.seq in owner:
                bad.append("one sequence, two acks: %s and %s at %d"
                           % (short(owner[w.seq].payload), short(w.payload), w.seq))
            owner[w.seq] = w
            if not seqs:
                bad.append("lost: %s, acknowledged as %d" % (short(w.payload), w.seq))
            elif w.seq not in seqs:
                bad.append("moved: %s, acknowledged as %d, is at %s" % (short(w.payload), w.seq, seqs))
        elif w.outcome == REFUSED and seqs:
            bad.append("refused, but stored: %s at %s" % (short(w.payload), seqs))
    last = {}
    for w in sorted(writes, key=lambda w: (w.connection, w.place)):
        seq = w.seq if w.outcome == ACKED else (at.get(w.payload) or [0])[0]
        if seq == 0:
            continue
        before = last.get(w.connection)
        if before and before[0] >= seq:
            bad.append("order on %s: %s is at %d, %s at %d"
                       % (w.connection, short(before[1].payload), before[0], short(w.payload), seq))
        last[w.connection] = (seq, w)
    return bad


def check_replicas(dumps):
    """{node: stored}, all equal."""
    bad = []
    names = sorted(dumps)
    first = dumps[names[0]]
    for name in names[1:]:
        other = dumps[name]
        if other == first:
            continue
        for seq in sorted(set(first) | set(other)):
            if first.get(seq) != other.get(seq):
                bad.append("replicas differ at %d: %s has %r, %s has %r; they end with %d and %d"
                           % (seq, names[0], first.get(seq, b"")[:40], name, other.get(seq, b"")[:40],
                              max(first, default=0), max(other, default=0)))
                break
    return bad


def check_deliveries(deliveries, confirmed, unanswered, wanted):
    """Everything wanted ({sequence: payload}) was seen and confirmed; nothing else was seen; and nothing
    came again on a request that was sent after its confirmation. `confirmed`: {sequence: when first};
    `unanswered`: those with an ack that was sent and may have come to pass without a word."""
    bad = []
    seen = set()
    for d in deliveries:
        seen.add(d.seq)
        if wanted.get(d.seq) != d.payload:
            bad.append("dirty: %d was delivered as %s, but is %s"
                       % (d.seq, short(d.payload), short(wanted.get(d.seq, b"nothing"))))
        if d.asked > confirmed.get(d.seq, math.inf):
            bad.append("%d came again, asked for %.3f s after its confirmation"
                       % (d.seq, d.asked - confirmed[d.seq]))
    for what, missing in (("never delivered", set(wanted) - seen), ("never confirmed", set(wanted) - set(confirmed) - unanswered)):
        if missing:
            bad.append("%s: %d messages, the first %d" % (what, len(missing), min(missing)))
    return bad


def check_registers(ops, stored):
    """Linearizable, by the order of versions. The log tells the order of all writes of a key, so that the
    order of all operations is known: each write, then the reads of it. It only has to respect real time:
    no operation stands before one that had returned when it was invoked. The order is total but for reads
    of one version, so this is exact."""
    bad = []
    at = places(stored)
    by_key = collections.defaultdict(list)
    versions = collections.defaultdict(list)
    known = {o.payload: o for o in ops if o.expected is not None}
    for payload, seqs in at.items():
        if payload not in known:
            bad.append("never written: %s at %s" % (short(payload), seqs))
        elif len(seqs) > 1:
            bad.append("doubled: %s at %s" % (short(payload), seqs))
        else:
            versions[known[payload].key].append((seqs[0], known[payload]))
    for key, writes in versions.items():
        before = 0
        for seq, o in sorted(writes, key=lambda w: w[0]):
            if o.expected != before:
                bad.append("CAS: %s at %d of %s expected %d, but followed %d"
                           % (short(o.payload), seq, key, o.expected, before))
            before = seq
    for o in ops:
        if o.expected is None:
            if o.outcome == ACKED:
                by_key[o.key].append((o.version, 1, o))
            continue
        seqs = at.get(o.payload, [])
        if o.outcome == ACKED and o.version not in seqs:
            bad.append("lost: %s, acknowledged as %d, is at %s" % (short(o.payload), o.version, seqs))
        if o.outcome == REFUSED:
            if seqs:
                bad.append("refused, but stored: %s at %s" % (short(o.payload), seqs))
            elif o.version is not None:
                by_key[o.key].append((o.version, 1, o))
                if o.version == o.expected:
                    bad.append("refused what it expected: %s, %d" % (short(o.payload), o.version))
        elif seqs:
            by_key[o.key].append((seqs[0], 0, o))
    for key, placed in by_key.items():
        real = {0} | {seq for seq, _ in versions[key]}
        for version, is_read, o in placed:
            if is_read and version not in real:
                bad.append("dirty: %s was read at version %d, which is none" % (key, version))
        bad += _check_real_time(key, placed)
    return bad


def _check_real_time(key, placed):
    bad = []
    ended = sorted(placed, key=lambda p: p[2].returned)
    highest, at = None, 0
    for p in sorted(placed, key=lambda p: p[2].invoked):
        while at < len(ended) and ended[at][2].returned < p[2].invoked:
            if highest is None or ended[at][:2] > highest[:2]:
                highest = ended[at]
            at += 1
        if highest is not None and highest[:2] > p[:2]:
            bad.append("stale: %s, version %d %s, invoked %.3f s after version %d was %s"
                       % (key, p[0], "read" if p[1] else "written", p[2].invoked - highest[2].returned,
                          highest[0], "read" if highest[1] else "written"))
    return bad


def check_once(ids, stored):
    """Each id at most once; each acknowledged one exactly there where all its acks say."""
    bad = []
    at = places(stored)
    known = {o.payload for o in ids}
    for payload, seqs in at.items():
        if payload not in known:
            bad.append("never published: %s at %s" % (short(payload), seqs))
        elif len(seqs) > 1:
            bad.append("doubled: %s at %s" % (short(payload), seqs))
    for o in ids:
        seqs = at.get(o.payload, [])
        if o.answers and not seqs:
            bad.append("lost: %s, answers %s" % (short(o.payload), o.answers))
        elif any(seq not in seqs for seq, _ in o.answers):
            bad.append("%s is at %s, but was acknowledged as %s" % (short(o.payload), seqs, o.answers))
        if sum(not is_duplicate for _, is_duplicate in o.answers) > 1:
            bad.append("%s was new twice: %s" % (short(o.payload), o.answers))
    return bad
