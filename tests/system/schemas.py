"""Validates JetStream API replies against the schemas in tests/data/schemas.

    check(payload)      # one reply
    with Spy(node) as spy:
        ...
        spy.judge()     # fails when a reply broke its schema, or when there was none at all

jsonschema is Debian's package for /usr/bin/python3. An interpreter without it checks nothing, unless CI is set.
"""

import json
import os
import threading

from weir_cluster import ROOT, Client

try:
    import jsonschema
except ImportError:
    if os.environ.get("CI"):
        raise
    jsonschema = None

_FOLDER = os.path.join(ROOT, "tests", "data", "schemas")
_PREFIX = "io.nats.jetstream.api.v1."
_validators = {}


def _validator(name):
    if name not in _validators:
        path = os.path.join(_FOLDER, name + ".json")
        if os.path.exists(path):
            with open(path) as f:
                _validators[name] = jsonschema.Draft7Validator(json.load(f))
        else:
            _validators[name] = None
    return _validators[name]


def complaint(payload):
    """(schema name, what is wrong or None) of a reply, or None when it is not an API reply."""
    if jsonschema is None or not payload.startswith(b"{"):
        return None
    try:
        reply = json.loads(payload)
    except ValueError:
        return None
    if str(reply.get("type", "")).startswith(_PREFIX):
        name = reply["type"][len(_PREFIX):]
    elif "stream" in reply and ("seq" in reply or "error" in reply):
        name = "pub_ack_response"
    else:
        return None
    validator = _validator(name)
    if validator is None:
        return name, "there is no schema for %s" % reply["type"]
    error = jsonschema.exceptions.best_match(validator.iter_errors(reply))
    if error is None:
        return name, None
    return name, "%s: at %s: %s in %s" % (name, "/".join(map(str, error.absolute_path)),
                                          error.message[:300], payload[:1500].decode())


def check(payload):
    """Fails when this is an API reply that breaks its schema."""
    found = complaint(payload)
    assert found is None or found[1] is None, found[1]


class Spy(threading.Thread):
    """Listens to all inboxes through a connection of its own. Acks of publishes: the first thousand."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.client = Client(node.port).connect()
        self.client.sub("_INBOX.>", 1)
        self.client.ping()
        self.seen, self.bad, self.is_stopping = {}, [], False

    def run(self):
        while not self.is_stopping:
            try:
                payload = self.client.msg(0.2)[4]
            except TimeoutError:
                continue
            except (EOFError, OSError):
                return
            is_ack = payload.startswith(b'{"stream"')
            if is_ack and self.seen.get("pub_ack_response", 0) >= 1000:
                continue
            found = complaint(payload)
            if found is not None:
                self.seen[found[0]] = self.seen.get(found[0], 0) + 1
                if found[1] is not None:
                    self.bad.append(found[1])

    def counts(self):
        return ", ".join("%d %s" % (n, name) for name, n in sorted(self.seen.items()))

    def judge(self):
        self.stop()
        assert self.seen, "no API reply was seen"
        unique = sorted(set(self.bad), key=lambda t: t.split(": at ")[0])
        assert not unique, "%d replies break their schema:\n%s" % (len(self.bad), "\n".join(unique[:10]))

    def stop(self):
        self.is_stopping = True
        if self.is_alive():
            self.join(5)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self.client.close()
