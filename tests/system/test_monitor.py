"""The monitoring endpoints show what nats-server v2.15.2's show: tests/data/monitor.fields.

    test_monitor.py            compare
    test_monitor.py --record   ask nats-server ($WEIR) and write the file (scripts/parity --record)

A line of the file is `ENDPOINT FIELD TYPES [VALUE]`, a value when it was the same at all nodes of two clusters, or
`? QUERY STATUS BODY`. What weir does not have, has beside, or shows with another value stands in docs/compatibility.md under
Monitoring with its reason, and nothing stands there in vain.
"""

import json
import os
import re
import sys

from monitor_fields import look
from weir_cluster import ROOT

FILE = os.path.join(ROOT, "tests", "data", "monitor.fields")
DOCS = os.path.join(ROOT, "docs", "compatibility.md")
# Features later than 2.10, which weir does not report, and what differs from one process to the next.
LATER = {"allow_msg_ttl", "subject_delete_marker_ttl", "persist_mode", "allow_atomic",
         "allow_msg_schedules", "allow_batched", "allow_msg_counter"}
LOCAL = {"cpu", "mem", "cores", "gomaxprocs", "cid", "sid", "rid", "peer", "port", "go", "in_msgs", "in_bytes",
         "out_msgs", "out_bytes", "num_inserts", "num_removes", "num_matches", "subscriptions",
         "num_subscriptions", "routes", "num_routes", "max_storage", "max_memory", "total", "leader",
         "did_solicit", "is_configured"}


def last(path):
    return re.split(r"[.\[]", path.replace("[]", ""))[-1]


def write():
    (first, answers), (second, _) = look(), look()
    lines = ["? %s %s" % item for item in answers.items()]
    for endpoint in first:
        for path in sorted(set(first[endpoint]) | set(second[endpoint])):
            if last(path) in LATER:
                continue
            a, b = (found[endpoint].get(path, (set(), set())) for found in (first, second))
            types = sorted(a[0] | b[0])
            is_steady = len(a[1]) == 1 and a == b and last(path) not in LOCAL and \
                not set(types) & {"time", "duration"}
            lines.append(" ".join([endpoint, path, "|".join(types)] + ([a[1].pop()] if is_steady else [])))
    with open(FILE, "w") as f:
        f.write("\n".join(lines) + "\n")
    print("%s: %d fields" % (os.path.basename(FILE), len(lines)))


def recorded():
    """{endpoint: {path: (types, value or None)}}, {query: answer}"""
    found, answers = {}, {}
    with open(FILE) as f:
        for line in f:
            if line.startswith("? "):
                query, answer = line[2:].rstrip("\n").split(" ", 1)
                answers[query] = answer
                continue
            endpoint, path, types, *value = line.rstrip("\n").split(" ", 3)
            found.setdefault(endpoint, {})[path] = (set(types.split("|")),
                                                    json.loads(value[0]) if value else None)
    return found, answers


def documented():
    """{kind: {(path, field)}} of the table: `| /varz | missing | `a`, `b` | why |`."""
    found = {}
    with open(DOCS) as f:
        for line in f:
            cells = [c.strip() for c in line.strip().strip("|").split("|")]
            if len(cells) == 4 and cells[0].startswith("/"):
                for field in re.findall(r"`([^`]+)`", cells[2]):
                    for endpoint in cells[0].split():
                        found.setdefault(cells[1], set()).add((endpoint, field))
    return found


def differences(want, got):
    """(kind, endpoint, field, text) of everything that is not the same."""
    for endpoint in want:
        a, b = want[endpoint], got[endpoint]
        plain = endpoint.partition("?")[0]
        for path in sorted(set(a) | set(b)):
            if last(path) in LATER:
                continue
            if path not in b:
                yield "missing", plain, path, "%s of nats-server" % "|".join(a[path][0])
            elif path not in a:
                yield "ours", plain, path, "not nats-server's"
            elif not b[path][0] <= a[path][0]:
                yield "type", plain, path, "%s, nats-server %s" % (b[path][0], a[path][0])
            elif a[path][1] is not None and {a[path][1]} != set(map(json.loads, b[path][1])):
                yield "value", plain, path, "%s, nats-server %s" % (b[path][1], a[path][1])


def main():
    if "--record" in sys.argv:
        write()
        return
    (want, want_answers), known = recorded(), documented()
    got, answers = look()
    used, bad = set(), {}
    count = sum(len(fields) for fields in got.values()) + len(answers)
    for query, text in want_answers.items():
        if answers[query] != text:
            bad["%s is answered with %s, not with %s" % (query, answers[query], text)] = True
    for kind, endpoint, path, text in differences(want, got):
        # A field stands for what is below it, too.
        entry = next(((e, f) for e, f in known.get(kind, ()) if e == endpoint and
                      (path == f or path.startswith((f + ".", f + "[]")))), None)
        if entry is None:
            bad["%s %s is %s: %s" % (endpoint, path, kind, text)] = True
        else:
            used.add((kind,) + entry)
    for kind, entries in known.items():
        for entry in entries:
            if (kind,) + entry not in used:
                bad["%s `%s` stands as %s in the documentation, but is not" % (entry + (kind,))] = True
    for text in bad:
        print("FAIL " + text)
    print("%d passed, %d failed" % (count - len(bad), len(bad)))
    sys.exit(1 if bad else 0)


main()
