"""What must hold of streams that remove messages, and of a catalog that changes. Pure, like checks.py."""

import bisect
import collections
import dataclasses
import math

from checks import ACKED, REFUSED, UNKNOWN, places, short


@dataclasses.dataclass
class Put:
    """One publish; its payload is its own."""
    subject: str
    payload: bytes
    outcome: str = UNKNOWN
    seq: int = 0
    sent: float = 0.0


@dataclasses.dataclass
class Sight:
    """Of a replica: what lies below @first was gone when it answered, at @when at the latest."""
    node: str
    when: float
    first: int


@dataclasses.dataclass
class Delete:
    """Of one message."""
    seq: int
    outcome: str = UNKNOWN


@dataclasses.dataclass
class Purge:
    """Of the messages of a subject before a sequence."""
    subject: str
    before: int
    outcome: str = UNKNOWN


@dataclasses.dataclass
class Name:
    """A stream of the catalog by one client. `is_clear`: each change of it was answered, so that what it must
    be is known; a request without an answer may come to pass at any time, and makes it unclear for good."""
    name: str
    is_clear: bool = True
    life: int = 0  # Number of creations; 0: never.
    exists: bool = False
    puts: list = dataclasses.field(default_factory=list)  # Of this life, since the last purge.
    unknown: set = dataclasses.field(default_factory=set)  # Payloads without an answer, of any life.
    consumers: set = dataclasses.field(default_factory=set)


def check_limited(puts, deletes, purges, stored, per_subject=None, max_msgs=None, is_new_discarded=False):
    """Of one stream: what is missing was deleted, purged or pushed out by what came later, and nothing else is;
    what was deleted or purged is missing; no limit is passed."""
    bad = []
    at = places(stored)
    of = {p.payload: p for p in puts}
    subject_of = {}
    for payload, seqs in at.items():
        if payload not in of:
            bad.append("never published: %s at %s" % (short(payload), seqs))
            continue
        if len(seqs) > 1:
            bad.append("doubled: %s at %s" % (short(payload), seqs))
        for seq in seqs:
            subject_of[seq] = of[payload].subject
    first_of = {}
    for seq in sorted(subject_of, reverse=True):
        first_of[subject_of[seq]] = seq
    counts = collections.Counter(subject_of.values())
    if max_msgs is not None and len(stored) > max_msgs:
        bad.append("%d messages, but %d at most" % (len(stored), max_msgs))
    for subject, count in counts.items():
        if per_subject is not None and count > per_subject:
            bad.append("%d messages of %s, but %d at most" % (count, subject, per_subject))
    for d in deletes:
        if d.outcome == ACKED and d.seq in stored:
            bad.append("%d was deleted, and is there: %s" % (d.seq, short(stored[d.seq])))
    deleted = {d.seq for d in deletes}
    purged = collections.defaultdict(int)
    for p in purges:
        purged[p.subject] = max(purged[p.subject], p.before)
        if p.outcome == ACKED and first_of.get(p.subject, p.before) < p.before:
            bad.append("%s was purged before %d, but begins with %d" % (p.subject, p.before, first_of[p.subject]))
    unknown = collections.Counter(p.subject for p in puts if p.outcome == UNKNOWN)
    acked = sorted((p for p in puts if p.outcome == ACKED), key=lambda p: -p.seq)
    later, later_of = 0, collections.Counter()  # Acknowledged with a higher sequence.
    for p in acked:
        if stored.get(p.seq) != p.payload and p.seq in stored:
            bad.append("moved: %s, acknowledged as %d, where %s is" % (short(p.payload), p.seq, short(stored[p.seq])))
        elif p.payload in at and p.seq not in at[p.payload]:
            bad.append("moved: %s, acknowledged as %d, is at %s" % (short(p.payload), p.seq, at[p.payload]))
        elif p.payload not in at and p.seq not in deleted and not purged[p.subject] > p.seq:
            is_out = (per_subject is not None and later_of[p.subject] + unknown[p.subject] >= per_subject
                      and first_of.get(p.subject, p.seq + 1) > p.seq)
            is_out |= (max_msgs is not None and not is_new_discarded and later + sum(unknown.values()) >= max_msgs
                       and min(stored, default=p.seq + 1) > p.seq)
            if not is_out:
                bad.append("lost: %s, acknowledged as %d" % (short(p.payload), p.seq))
        later += 1
        later_of[p.subject] += 1
    for p in puts:
        if p.outcome == REFUSED and p.payload in at:
            bad.append("refused, but stored: %s at %s" % (short(p.payload), at[p.payload]))
    return bad


def check_ages(puts, sights, age):
    """Of a stream that removes by age only: nothing was gone on any replica before its time."""
    bad = []
    for node in sorted({s.node for s in sights}):
        reached = []  # (first, when): the earliest time at which it was so far.
        for s in sorted((s for s in sights if s.node == node), key=lambda s: s.when):
            if not reached or s.first > reached[-1][0]:
                reached.append((s.first, s.when))
        for p in puts:
            at = bisect.bisect_right(reached, (p.seq, math.inf))
            if p.outcome == ACKED and at < len(reached) and reached[at][1] < p.sent + age:
                bad.append("removed before its age, after %.3f s at the latest, on %s: %s at %d"
                           % (reached[at][1] - p.sent, node, short(p.payload), p.seq))
    return bad


def check_catalogs(catalogs):
    """{node: {stream: its consumers}}, all equal."""
    bad = []
    names = sorted(catalogs)
    for other in names[1:]:
        for stream in sorted(set(catalogs[names[0]]) | set(catalogs[other])):
            one, two = catalogs[names[0]].get(stream), catalogs[other].get(stream)
            if one != two:
                bad.append("catalogs differ: %s of %s is %s, of %s %s" % (stream, names[0], one, other, two))
    return bad


def check_names(names, catalog, dumps):
    """What exists is what the last answers say, and holds the messages of its present life and no others.
    @dumps: {stream: stored} of those that exist."""
    bad = []
    for n in names:
        if not n.is_clear:
            continue
        if n.exists != (n.name in catalog):
            bad.append("%s: its %s was acknowledged, but it %s" % (
                n.name, "creation" if n.exists else "deletion",
                "is there" if n.name in catalog else "is not there"))
            continue
        if not n.exists:
            continue
        if catalog[n.name] != n.consumers:
            bad.append("%s has the consumers %s, but should have %s"
                       % (n.name, sorted(catalog[n.name]), sorted(n.consumers)))
        at = places(dumps[n.name])
        wanted = {p.payload for p in n.puts if p.outcome == ACKED}
        for payload in wanted - set(at):
            bad.append("lost: %s of %s" % (short(payload), n.name))
        for payload, seqs in at.items():
            if payload not in wanted and payload not in n.unknown:
                bad.append("of another life, purged or never published: %s in %s" % (short(payload), n.name))
            elif len(seqs) > 1:
                bad.append("doubled: %s at %s in %s" % (short(payload), seqs, n.name))
    return bad
