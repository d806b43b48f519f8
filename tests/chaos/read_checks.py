"""What must hold of what readers saw. Pure, like checks.py."""

import bisect
import collections
import dataclasses

from checks import short


@dataclasses.dataclass
class Look:
    """One answer about one message of @subject. @stay: one connection of one client to one node."""
    stay: str
    is_direct: bool
    subject: str
    invoked: float
    returned: float
    seq: int  # Found; 0: there is none.
    payload: bytes = b""
    asked: int = 0  # This sequence or a later one of the subject; 0: the last one.
    is_exact: bool = False  # This sequence alone.


@dataclasses.dataclass
class Known:
    """A message of @subject that was acknowledged, when the ack was there, and in which stay."""
    subject: str
    seq: int
    when: float
    stay: str


def check_ordered(reader, seen, stored):
    """@seen, [(sequence, payload)], is the stream from its beginning to its end."""
    bad = []
    last = 0
    for seq, payload in seen:
        if seq <= last:
            bad.append("%s: %d came after %d" % (reader, seq, last))
        if stored.get(seq) != payload:
            bad.append("%s, dirty: %d was %s, but is %s"
                       % (reader, seq, short(payload), short(stored.get(seq, b"nothing"))))
        last = max(last, seq)
    missing = set(stored) - {seq for seq, _ in seen}
    if missing:
        bad.append("%s: left out %d messages, the first %d" % (reader, len(missing), min(missing)))
    return bad


def check_looks(looks, acks, stored, subject_of):
    """Of a stream that removes nothing; @subject_of tells the subject of a payload. What was seen is what lies there,
    and nothing of the subject lies between what was asked for and what was found. MSG.GET is not behind any ack or
    look of anybody that had ended before; a direct get not behind acks and looks of its own stay. Returns complaints,
    and how many direct gets were behind what others knew, which is allowed."""
    bad = []
    of = collections.defaultdict(list)
    for seq, payload in sorted(stored.items()):
        of[subject_of(payload)].append(seq)
    for l in looks:
        if l.seq and stored.get(l.seq) != l.payload:
            bad.append("dirty: %d was read as %s, but is %s"
                       % (l.seq, short(l.payload), short(stored.get(l.seq, b"nothing"))))
        elif l.seq and l.subject != subject_of(l.payload):
            bad.append("%s was asked for, and %s came" % (l.subject, short(l.payload)))
        elif l.is_exact and l.seq and l.seq != l.asked:
            bad.append("%d was asked for, and %d came" % (l.asked, l.seq))
        elif l.asked and not l.is_exact and l.seq:
            at = bisect.bisect_left(of[l.subject], l.asked)
            if of[l.subject][at] != l.seq:
                bad.append("%d is the first of %s from %d on, but %d was found"
                           % (of[l.subject][at], l.subject, l.asked, l.seq))
    behind = 0
    for subject, seqs in of.items():
        mine = [l for l in looks if l.subject == subject]
        events = sorted([(k.when, k.seq, k.stay) for k in acks if k.subject == subject]
                        + [(l.returned, l.seq, l.stay) for l in mine if l.seq], key=lambda e: e[0])
        behind += _check_behind(subject, mine, events, seqs, bad)
    return bad, behind


def _check_behind(subject, looks, events, seqs, bad):
    """@events: (when, sequence, stay) of what somebody knew to be there."""
    behind = at = 0
    all_, of_stay = _Known(), collections.defaultdict(_Known)
    for l in sorted(looks, key=lambda l: l.invoked):
        while at < len(events) and events[at][0] < l.invoked:
            _, seq, stay = events[at]
            all_.add(seq)
            of_stay[stay].add(seq)
            at += 1
        if not all_.is_behind(l, seqs):
            continue
        if l.is_direct and not of_stay[l.stay].is_behind(l, seqs):
            behind += 1
            continue
        what = ("%d" % l.asked if l.is_exact else "%s from %d on" % (subject, l.asked) if l.asked
                else "the last of " + subject)
        bad.append("stale: %s was read as %d by %s in %s, where %s was known"
                   % (what, l.seq, "direct get" if l.is_direct else "MSG.GET", l.stay,
                      (of_stay[l.stay] if l.is_direct else all_).highest))
    return behind


class _Known:
    def __init__(self):
        self.highest = 0
        self.seqs = set()

    def add(self, seq):
        self.highest = max(self.highest, seq)
        self.seqs.add(seq)

    def is_behind(self, l, seqs):
        """@seqs: all of the subject. What is found too late is the business of check_looks."""
        if l.is_exact:
            return l.seq == 0 and l.asked in self.seqs
        if l.asked:
            return l.seq == 0 and self.highest >= l.asked
        return l.seq < self.highest
