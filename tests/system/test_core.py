"""Core NATS on one node: verbs, error texts, chunking, authentication, limits, slow consumers."""

import json
import socket
import time

from weir_cluster import Client, Single, run, wait_until


def test_the_first_info_has_what_clients_read():
    with Single() as n:
        c = n.raw()
        c.sock.settimeout(2)
        while b"\r\n" not in c.buf:
            c._fill(2)
        assert c.buf.startswith(b"INFO {") and c.buf.endswith(b"} \r\n"), c.buf
        i = json.loads(c.buf[5:])
        assert len(i["server_id"]) == 56 and i["server_id"][0] == "N", i
        assert check_nkey(i["server_id"])
        assert i["server_name"] == "n0" and i["port"] == n.port and i["proto"] == 1
        assert i["headers"] is True and i["max_payload"] == 1048576
        assert "auth_required" not in i and "connect_urls" not in i
        assert i["client_id"] == 1 and i["client_ip"] == "127.0.0.1"


def check_nkey(text):
    import base64
    raw = base64.b32decode(text)
    crc = 0
    for byte in raw[:-2]:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return raw[0] == 13 << 3 and crc == raw[-2] | raw[-1] << 8


def test_connect_is_optional_and_verbose_before_it():
    with Single() as n:
        c = n.raw()
        c.info()
        c.send("SUB foo 1\r\nPUB foo 2\r\nhi\r\nPING\r\n")
        assert [c.line() for _ in range(3)] == ["+OK", "+OK", "MSG foo 1 2"]
        assert c.line() == "hi" and c.line() == "PONG"


def test_every_verb_in_any_case_and_any_cut():
    session = (b'CoNnEcT {"verbose":false,"headers":true,"protocol":1}\r\nsub\tfoo.* \t 1\r\n'
               b"SUB bar workers 2\nUNSUB 1 3\r\npub foo.a  5\r\nhello\r\nHPUB foo.b in 14 16\r\n"
               b"NATS/1.0\r\nA\r\n\r\nhi\r\nPUB bar 0\r\n\r\npUb foo.c 1\r\nx\r\nPUB foo.d 1\r\ny\r\n"
               b"ping junk\r\n")
    expect = (b"MSG foo.a 1 5\r\nhello\r\nHMSG foo.b 1 in 14 16\r\nNATS/1.0\r\nA\r\n\r\nhi\r\n"
              b"MSG bar 2 0\r\n\r\nMSG foo.c 1 1\r\nx\r\nPONG\r\n")
    session = session.replace(b"14 16", b"15 17")
    expect = expect.replace(b"14 16", b"15 17")
    with Single() as n:
        for step in (1, 2, 3, 7, len(session)):
            c = n.raw()
            c.info()
            for i in range(0, len(session), step):
                c.send(session[i:i + step])
            got = c.exactly(len(expect))
            assert got == expect, (step, got)
            assert c.info()["connect_info"] is True
            c.close()


def test_large_payloads_arrive_whole_however_they_are_cut():
    with Single("--max_payload", "8000000") as n:
        c, s = n.client(), n.client()
        s.sub("big", 1)
        s.ping()
        for size in (1, 4096, 65535, 131072, 131073, 1048576, 8000000):
            data = bytes((i * 7 + size) & 255 for i in range(1000)) * (size // 1000 + 1)
            data = data[:size]
            head = b"PUB big %d\r\n" % size
            whole = head + data + b"\r\nPING\r\n"
            at = 0
            while at < len(whole):
                piece = max(1, min(len(whole) - at, len(whole) // 7))
                c.send(whole[at:at + piece])
                at += piece
            assert s.msg(20)[4] == data, size
            assert c.line() == "PONG"


def test_errors_that_close_and_their_texts():
    cases = [
        ("FOO\r\n", "-ERR 'Unknown Protocol Operation'\r\n"),
        ("MSG foo 1 2\r\nhi\r\n", "-ERR 'Unknown Protocol Operation'\r\n"),
        ("PUB foo 2000000\r\n", "-ERR 'Maximum Payload Violation'\r\n"),
        ("PUB foo abc\r\n", ""),
        ("PUB foo\r\n", ""),
        ("SUB foo\r\n", ""),
        ("CONNECT {bad\r\n", ""),
        ('CONNECT {"verbose":"yes"}\r\n', ""),
        ('CONNECT {"verbose":false}\r\nHPUB foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n', ""),
        ('CONNECT {"verbose":false,"protocol":7}\r\n', "-ERR 'invalid client protocol'\r\n"),
        ('CONNECT {"verbose":false,"no_responders":true}\r\n',
         "-ERR 'no responders requires headers support'\r\n"),
        ("SUB " + "a" * 5000 + " 1\r\n", "-ERR 'maximum control line exceeded'\r\n"),
        ("A" * 3, "-ERR 'Unknown Protocol Operation'\r\n"),
        ('CONNECT {"verbose":false}\r\n-ERR \'x\'\r\n', ""),
    ]
    with Single() as n:
        for text, expect in cases:
            c = n.raw()
            c.info()
            c.send(text)
            got = c.until_closed()
            assert got == expect, (text[:60], got)


def test_errors_that_keep_the_connection():
    with Single("--max_subscriptions", "3") as n:
        c = n.client(pedantic=True)
        for subject in ("foo..bar", ".foo", "foo.", "foo.>.bar"):
            c.send("SUB %s 1\r\n" % subject)
            assert c.line() == "-ERR 'Invalid Subject'", subject
        c.send("PUB foo.* 1\r\nx\r\n")
        assert c.line() == "-ERR 'Invalid Publish Subject'"
        for sid in range(3):
            c.sub("ok.%d" % sid, sid)
        c.sub("more", 9)
        assert c.line() == "-ERR 'maximum subscriptions exceeded'"
        c.pub("foo", "x", reply="$JS.ACK.x")
        assert c.line() == "-ERR 'Permissions Violation for Publish with Reply of \"$JS.ACK.x\"'"
        c.pub("$NRG.x", "x")
        assert c.line() == "-ERR 'Permissions Violation for Publish to \"$NRG.x\"'"
        c.ping()


def test_a_sid_used_again_is_ignored_and_unsub_of_an_unknown_one_too():
    with Single() as n:
        c = n.client()
        c.sub("a", 1)
        c.sub("b", 1)
        c.send("UNSUB 77\r\nUNSUB 77 5\r\n")
        c.pub("b", "x")
        c.pub("a", "y")
        assert c.msg()[4] == b"y"
        c.silent()


def test_auto_unsubscribe_counts_from_the_subscription_on():
    with Single() as n:
        c = n.client()
        c.sub("a", 1)
        for i in range(3):
            c.pub("a", str(i))
        c.send("UNSUB 1 5\r\n")
        for i in range(3, 9):
            c.pub("a", str(i))
        assert [c.msg()[4] for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        c.silent()
        assert n.json("/connz")["connections"][0]["subscriptions"] == 0
        c.sub("a", 1)
        c.send("UNSUB 1 1\r\n")
        c.pub("a", "x")
        c.sub("a", 1)  # In the same read as the delivery that ended the former.
        c.pub("a", "y")
        assert [c.msg()[4] for _ in range(2)] == [b"x", b"y"]


def test_queue_groups_share_and_plain_subscribers_all_get():
    with Single() as n:
        c = n.client()
        for sid in range(4):
            c.sub("q", "g%d" % sid, "g")
        c.sub("q", "h", "h")
        c.sub("q.>", "no")
        c.sub("*", "p")
        for i in range(200):
            c.pub("q", str(i))
        seen = {}
        for _ in range(600):
            sid = c.msg()[1]
            seen[sid] = seen.get(sid, 0) + 1
        c.silent(0.1)
        assert seen["h"] == 200 and seen["p"] == 200, seen
        assert sum(seen["g%d" % i] for i in range(4)) == 200, seen
        assert all(seen.get("g%d" % i, 0) > 10 for i in range(4)), seen


def test_echo_off_keeps_own_messages_away():
    with Single() as n:
        c, d = n.client(echo=False), n.client()
        c.sub("a", 1)
        c.ping()
        c.pub("a", "own")
        d.pub("a", "other")
        assert c.msg()[4] == b"other"
        c.silent()


def test_headers_are_stripped_for_who_does_not_understand_them():
    with Single() as n:
        c, d = n.client(), n.client(headers=False, no_responders=False)
        c.sub("a", 1)
        d.sub("a", 1)
        c.ping()
        d.ping()
        c.pub("a", "body", header="NATS/1.0\r\nX: 1\r\n\r\n")
        assert c.msg()[3:] == (b"NATS/1.0\r\nX: 1\r\n\r\n", b"body")
        assert d.msg()[3:] == (b"", b"body")


def test_no_responders_goes_to_the_subscription_of_the_reply():
    with Single() as n:
        c = n.client()
        c.sub("_INBOX.*", "in")
        c.pub("nobody.here", "x", reply="_INBOX.1")
        subject, sid, reply, header, payload = c.msg()
        assert (subject, sid, reply, payload) == ("_INBOX.1", "in", None, b"")
        assert header == b"NATS/1.0 503\r\nNats-Subject: nobody.here\r\n\r\n", header
        c.pub("nobody.here", "x", reply="elsewhere")
        c.silent()
        d = n.client(no_responders=False)
        d.sub("_INBOX.*", "in")
        d.pub("nobody.here", "x", reply="_INBOX.1")
        d.silent()


def refused(node, **options):
    c = node.raw()
    assert c.info()["auth_required"] is True
    c.send("CONNECT " + json.dumps(dict({"verbose": False}, **options)) + "\r\nPING\r\n")
    return c.until_closed() == "-ERR 'Authorization Violation'\r\n"


def test_user_and_password():
    with Single("--user", "ann", "--pass", "secret") as n:
        assert refused(n)
        assert refused(n, user="ann", **{"pass": "wrong"})
        assert refused(n, user="bob", **{"pass": "secret"})
        assert refused(n, auth_token="secret")
        n.client(user="ann", **{"pass": "secret"}).ping()
        c = n.raw()
        c.info()
        c.send("PING\r\n")
        assert c.until_closed() == "-ERR 'Authorization Violation'\r\n"


def test_token_and_bcrypt():
    hashed = "$2a$04$OrGpyNvlAxmiDnFPWQzdj.hpWGbpnEpUuqASBexGwuOnQBRiB1Vra"
    with Single("--auth", "tok") as n:
        assert refused(n, auth_token="no")
        n.client(auth_token="tok").ping()
    import subprocess
    made = subprocess.run(["python3", "-W", "ignore", "-c",
                           "import crypt; print(crypt.crypt('s3cret', '$2b$04$abcdefghijklmnopqrstuu'))"],
                          capture_output=True, text=True).stdout.strip()
    hashed = made if made.startswith("$2b$") else hashed
    with Single("--user", "u", "--pass", hashed) as n:
        assert refused(n, user="u", **{"pass": hashed})
        assert refused(n, user="u", **{"pass": "x" * 200})
        if made.startswith("$2b$"):
            c = n.client(user="u", **{"pass": "s3cret"})
            c.sub("a", 1)
            c.pub("a", "x")
            assert c.msg()[4] == b"x"


def test_who_does_not_authenticate_is_closed_after_two_seconds():
    with Single("--auth", "tok") as n:
        c = n.raw()
        c.info()
        began = time.monotonic()
        assert c.until_closed(20) == "-ERR 'Authentication Timeout'\r\n"
        assert time.monotonic() - began > 1.5


def test_max_connections():
    with Single("--max_connections", "2") as n:
        kept = [n.client(), n.client()]
        c = n.raw()
        c.info()
        assert c.until_closed() == "-ERR 'maximum connections exceeded'\r\n"
        kept[0].close()
        wait_until("a place", lambda: n.json("/varz")["connections"] == 1)
        n.client().ping()


def test_ping_after_connect_and_stale_connections():
    with Single("--ping_interval_ms", "150") as n:
        c = n.client()
        assert c.line(3) == "PING"
        c.send("PONG\r\n")
        d = n.client()
        text = d.until_closed(5)
        assert text.endswith("-ERR 'Stale Connection'\r\n"), text
        assert n.json("/varz")["stale_connections"] >= 1


def test_a_slow_consumer_is_cut_off_and_others_go_on():
    with Single("--max_pending", "4000000", "--max_payload", "1000000") as n:
        slow, fast, p = n.client(), n.client(), n.client()
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sub("x", 1)
        fast.sub("y", 1)
        slow.ping()
        fast.ping()
        data = b"z" * 500000
        for _ in range(60):
            p.pub("x", data)
        p.ping(20)
        wait_until("the slow consumer to go", lambda: n.json("/varz")["slow_consumers"] == 1)
        closed = n.json("/connz?state=closed")["connections"]
        assert closed[0]["reason"] == "Slow Consumer (Pending Bytes)", closed
        p.pub("y", "still here")
        assert fast.msg()[4] == b"still here"


def test_a_consumer_that_reads_nothing_misses_the_write_deadline():
    with Single("--write_deadline_ms", "300", "--max_payload", "1000000") as n:
        slow, p = n.client(), n.client()
        slow.sub("x", 1)
        slow.ping()
        for _ in range(40):
            p.pub("x", b"z" * 500000)
        p.ping(20)
        wait_until("the deadline", lambda: n.json("/varz")["slow_consumers"] == 1)
        closed = n.json("/connz?state=closed")["connections"]
        assert closed[0]["reason"] == "Slow Consumer (Write Deadline)", closed


def test_order_holds_under_load_from_one_publisher():
    with Single() as n:
        c, s = n.client(), n.client()
        s.sub("x", 1)
        s.ping()
        count = 50000
        c.send(b"".join(b"PUB x 6\r\n%06d\r\n" % i for i in range(count)))
        for i in range(count):
            assert int(s.msg(10)[4]) == i


if __name__ == "__main__":
    run(globals())
