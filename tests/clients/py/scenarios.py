"""The scenarios of tests/clients/scenarios.txt with nats-py."""

import asyncio
import datetime
import sys
import time
import traceback

import nats
import nats.errors
from nats.js import api
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

SCENARIO_LIMIT_S = 30
_list = []


def scenario(name=None, is_js=True):
    """In the order of the file; those about JetStream are done with one replica and with three."""
    def add(f):
        _list.append((name or f.__name__, f, is_js))
        return f
    return add


class Failure(Exception):
    pass


def check(is_so, text, *values):
    if not is_so:
        raise Failure(text % values)


async def no_report(_):
    pass


async def connect(url, **options):
    return await nats.connect(url, reconnect_time_wait=0.05, max_reconnect_attempts=-1,
                              error_cb=no_report, **options)


class World:
    """What a scenario has: a connection to each node, and a stream name of its own.

    With one node, three connections to it."""

    def __init__(self, urls, name, replicas):
        self.is_alone = len(urls) == 1
        self.urls, self.name, self.replicas = urls * 3 if self.is_alone else urls, name, replicas

    async def __aenter__(self):
        self.nc = [await connect(url) for url in self.urls]
        self.js = [nc.jetstream() for nc in self.nc]
        return self

    async def __aexit__(self, *_):
        for nc in self.nc:
            await nc.close()

    async def settle(self):
        """Interest reaches the other nodes before a later message of the same connection does."""
        for nc in self.nc:
            await nc.flush()
        for source in self.nc:
            for target in self.nc:
                inbox = target.new_inbox()
                sub = await target.subscribe(inbox)
                await target.flush()
                for _ in range(50):
                    await source.publish(inbox)
                    if await next_or_none(sub, 0.1) is not None:
                        break
                else:
                    raise Failure("interest does not arrive")
                await sub.unsubscribe()

    async def stream(self, **config):
        config.setdefault("subjects", [self.name + ".>"])
        info = await self.js[0].add_stream(name=self.name, num_replicas=self.replicas, **config)
        for js in self.js:
            await eventually("a node knows the stream", lambda: self.is_known(js))
        return info

    async def is_known(self, js):
        """The node that was asked knows a stream at once, others a little later; a publish there fails until then."""
        try:
            return await code_of(js.publish(self.name + ".x", stream="another")) == 10060
        except NoStreamResponseError:
            return False

    async def info(self, **options):
        return await self.js[0].stream_info(self.name, **options)

    async def publish(self, count):
        for i in range(1, count + 1):
            ack = await self.js[1].publish("%s.%d" % (self.name, i % 3), b"m%d" % i)
            check(ack.seq == i, "sequence %d of message %d", ack.seq, i)

    async def consumer(self, name, **config):
        await self.js[2].add_consumer(self.name, durable_name=name,
                                      ack_policy=api.AckPolicy.EXPLICIT, **config)
        return await self.js[2].pull_subscribe_bind(name, self.name)


async def next_or_none(sub, timeout):
    try:
        return await sub.next_msg(timeout)
    except asyncio.TimeoutError:
        return None


async def fetch(sub, count, timeout):
    """The messages of one or more fetches, until the count is reached or the time is over."""
    end = time.monotonic() + timeout
    got = []
    while len(got) < count:
        left = end - time.monotonic()
        if left < 0.01:
            break
        try:  # Its own TimeoutError is one of asyncio's, which a fetch raises as well when its time is just over.
            got += await sub.fetch(count - len(got), timeout=left)
        except asyncio.TimeoutError:
            break
    return got


async def fetch_one(sub):
    got = await fetch(sub, 1, 3)
    check(len(got) == 1, "expected a message")
    return got[0]


def expect_seq(m, seq, delivered):
    meta = m.metadata
    check(meta.sequence.stream == seq and meta.num_delivered == delivered,
          "got sequence %d, delivery %d; expected %d, %d", meta.sequence.stream, meta.num_delivered,
          seq, delivered)


async def code_of(job):
    """The API's error code, 0 when there is no error."""
    try:
        await job
    except APIError as e:
        return e.err_code
    return 0


async def eventually(what, is_so):
    for _ in range(100):
        if await is_so():
            return
        await asyncio.sleep(0.05)
    raise Failure("%s: not in 5 s" % what)


async def ask(line):
    """The test that started us kills and starts nodes, and says when it is done."""
    print(line, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


# ---- Core ----

@scenario(is_js=False)
async def pubsub(w):
    sub = await w.nc[1].subscribe("py.pubsub.>")
    await w.settle()
    for i in range(100):
        await w.nc[0].publish("py.pubsub.x", b"%d" % i)
    for i in range(100):
        m = await sub.next_msg(3)
        check(m.data == b"%d" % i, "got %s in place %d", m.data, i)


@scenario(is_js=False)
async def request(w):
    async def answer(m):
        await m.respond(b"re:" + m.data)
    await w.nc[2].subscribe("py.service", cb=answer)
    await w.settle()
    for i in range(100):
        m = await w.nc[i % 3].request("py.service", b"%d" % i, timeout=3)
        check(m.data == b"re:%d" % i, "got %s", m.data)


@scenario(is_js=False)
async def no_responders(w):
    began = time.monotonic()
    try:
        await w.nc[0].request("py.nobody", timeout=5)
        raise Failure("somebody answered")
    except nats.errors.NoRespondersError:
        pass
    check(time.monotonic() - began < 4, "it was not told")


@scenario(is_js=False)
async def queue_groups(w):
    subs = [await nc.subscribe("py.queue", "group") for nc in w.nc]
    await w.settle()
    for _ in range(300):
        await w.nc[0].publish("py.queue")
    await w.nc[0].flush()
    count = 0
    for sub in subs:
        while await next_or_none(sub, 0.3) is not None:
            count += 1
    check(count == 300, "%d of 300 arrived", count)


@scenario(is_js=False)
async def headers(w):
    """This client has one value for a name."""
    sub = await w.nc[1].subscribe("py.headers")
    await w.settle()
    sent = {"A": "1", "Long-Name": "with spaces, and: colons"}
    await w.nc[0].publish("py.headers", b"data", headers=sent)
    m = await sub.next_msg(3)
    check(m.headers == sent and m.data == b"data", "got %s", m.headers)


@scenario(is_js=False)
async def drain(w):
    count = 0

    async def handle(_):
        nonlocal count
        count += 1
        await asyncio.sleep(0.001)
    nc = await connect(w.urls[1])
    await nc.subscribe("py.drain", cb=handle)
    await nc.flush()
    for _ in range(100):
        await w.nc[1].publish("py.drain")
    await w.nc[1].flush()
    await asyncio.wait_for(nc.drain(), 5)
    check(nc.is_closed, "not closed")
    check(count == 100, "%d of 100 were handled", count)


@scenario(is_js=False)
async def reconnect(w):
    back = asyncio.Event()

    async def on_back():
        back.set()
    nc = await connect(w.urls[2], reconnected_cb=on_back)
    sub = await nc.subscribe("py.reconnect")
    await nc.flush()
    check(len(nc.discovered_servers) > 0, "no other servers in INFO")
    await ask("kill 2")
    await asyncio.wait_for(back.wait(), 10)
    await nc.publish("py.reconnect", b"hello")
    m = await sub.next_msg(3)
    check(m.data == b"hello", "got %s", m.data)
    await nc.close()
    await ask("start 2")


# ---- JetStream ----

@scenario(is_js=False)
async def account(w):
    before = await w.js[0].account_info()
    w.replicas = 1 if w.is_alone else 3  # So far a node counts what it has a replica of.
    await w.stream()
    await w.consumer("d")

    async def is_counted():
        info = await w.js[0].account_info()
        return info.streams == before.streams + 1 and info.consumers == before.consumers + 1
    # Consumers live in the streams, so other nodes hear of them a little later.
    await eventually("account information counts them", is_counted)


@scenario(is_js=False)
async def refused(w):
    await w.stream()
    js = w.js[0]
    for what, attempt in (
            ("mirror", lambda: js.add_stream(name=w.name + "m", mirror=api.StreamSource(name=w.name))),
            ("source", lambda: js.add_stream(name=w.name + "s", sources=[api.StreamSource(name=w.name)])),
            ("work queue", lambda: js.add_stream(name=w.name + "w", subjects=[w.name + "w"],
                                                 retention=api.RetentionPolicy.WORK_QUEUE))):
        check(await code_of(attempt()) != 0, "%s was not refused", what)


@scenario()
async def streams(w):
    await w.stream(description="first", max_msgs=10)
    info = await w.info()
    check(info.config.description == "first" and info.config.max_msgs == 10 and
          info.config.num_replicas == w.replicas, "configuration %s", info.config)
    check(w.is_alone or (info.cluster.leader and len(info.cluster.replicas or []) == w.replicas - 1),
          "cluster %s", info.cluster)
    await w.stream(description="first", max_msgs=10)  # The same again is no error.
    code = await code_of(w.js[1].add_stream(name=w.name, subjects=["other." + w.name],
                                            num_replicas=w.replicas))
    check(code == 10058, "another configuration: %d", code)
    code = await code_of(w.js[1].add_stream(name=w.name + "x", subjects=[w.name + ".a"]))
    check(code == 10065, "overlapping subjects: %d", code)
    config = info.config.evolve(description="second", subjects=info.config.subjects + [w.name + "-more"])
    info = await w.js[2].update_stream(config)
    check(info.config.description == "second" and len(info.config.subjects) == 2, "not updated")
    await w.js[2].publish(w.name + "-more")  # The node that was asked knows it at once.
    code = await code_of(w.js[0].update_stream(name=w.name + "-none", subjects=["none"]))
    check(code == 10059, "update of none: %d", code)
    listed = [i.config.name for i in await w.js[1].streams_info()]
    check(w.name in listed, "listed %s", listed)
    found = await w.js[0].find_stream_name_by_subject(w.name + ".x")
    check(found == w.name, "name by subject: %s", found)
    await w.js[1].delete_stream(w.name)
    check(await code_of(w.js[2].stream_info(w.name)) == 10059, "there after the delete")
    check(await code_of(w.js[1].delete_stream(w.name)) == 10059, "deleted twice")


@scenario()
async def publish(w):
    await w.stream()
    await w.publish(30)
    futures = [await w.js[2].publish_async(w.name + ".a", b"async") for _ in range(500)]
    acks = await asyncio.wait_for(asyncio.gather(*futures), 10)
    for i, ack in enumerate(acks):
        check(ack.seq == 31 + i and ack.stream == w.name, "ack %d: %s", i, ack)
    state = (await w.info(subjects_filter=">")).state
    check(state.messages == 530 and state.last_seq == 530 and len(state.subjects) == 4 and
          state.subjects[w.name + ".a"] == 500, "state %s", state)
    try:
        await w.js[0].publish("nothing.has.this")
        raise Failure("acknowledged by no stream")
    except NoStreamResponseError:
        pass


@scenario()
async def dedup(w):
    await w.stream(duplicate_window=30)
    for i, id in enumerate("ababc"):
        ack = await w.js[i % 3].publish(w.name + ".x", headers={api.Header.MSG_ID.value: id})
        check(ack.seq == " abc".index(id) and bool(ack.duplicate) == (i in (2, 3)), "%d: %s", i, ack)


@scenario()
async def expectations(w):
    await w.stream()

    def pub(subject, **headers):
        named = {getattr(api.Header, k).value: str(v) for k, v in headers.items()}
        return w.js[1].publish("%s.%s" % (w.name, subject), headers=named)
    await pub("a", EXPECTED_LAST_SEQUENCE=0, MSG_ID="one")
    await pub("b", EXPECTED_LAST_SEQUENCE=1, EXPECTED_STREAM=w.name)
    check(await code_of(pub("b", EXPECTED_LAST_SEQUENCE=1)) == 10071, "last sequence")
    await pub("a", EXPECTED_LAST_SUBJECT_SEQUENCE=1, MSG_ID="two")
    check(await code_of(pub("a", EXPECTED_LAST_SUBJECT_SEQUENCE=1)) == 10071, "last of the subject")
    await pub("c", EXPECTED_LAST_SUBJECT_SEQUENCE=0)
    check(await code_of(pub("a", EXPECTED_STREAM="other")) == 10060, "stream")
    check(await code_of(pub("a", EXPECTED_LAST_MSG_ID="one")) == 10070, "message id")
    messages = (await w.info()).state.messages
    check(messages == 4, "%d messages", messages)


@scenario()
async def get_delete(w):
    await w.stream()
    await w.publish(12)
    js = w.js[2]
    m = await js.get_msg(w.name, seq=5)
    check(m.data == b"m5" and m.subject == w.name + ".2" and m.seq == 5, "message 5: %s", m)
    age = datetime.datetime.now(datetime.timezone.utc) - m.time
    check(-1 < age.total_seconds() < 60, "time %s", m.time)
    check((await js.get_last_msg(w.name, w.name + ".1")).seq == 10, "last of a subject")
    check((await js.get_msg(w.name, seq=6, subject=w.name + ".1", next=True)).seq == 7,
          "next of a subject")
    await js.delete_msg(w.name, 5)
    await js.delete_msg(w.name, 6)
    check(await code_of(js.get_msg(w.name, seq=5)) == 10037, "a deleted message")
    check(await code_of(js.delete_msg(w.name, 5)) != 0, "deleted twice")
    check((await w.info()).state.num_deleted == 2, "number of deleted")
    await js.purge_stream(w.name, subject=w.name + ".0")  # 3, 9, 12; 6 is gone.
    check((await w.info()).state.messages == 7, "purge of a subject")
    await js.purge_stream(w.name, seq=4)  # 1, 2
    check((await w.info()).state.first_seq == 4, "purge below a sequence")
    await js.purge_stream(w.name, keep=2)
    state = (await w.info()).state
    check(state.messages == 2 and state.first_seq == 10, "purge but 2: %s", state)
    await js.purge_stream(w.name)
    state = (await w.info()).state
    check(state.messages == 0 and state.last_seq == 12 and state.first_seq == 13, "purge: %s", state)


@scenario("fetch")
async def fetches(w):
    """This client asks with no wait first, on its own, and has no max_bytes."""
    await w.stream()
    await w.publish(20)
    sub = await w.consumer("d")
    got = await sub.fetch(7, timeout=3)
    check(len(got) == 7, "%d of 7", len(got))
    for i, m in enumerate(got):
        expect_seq(m, i + 1, 1)
        await m.ack()
    one = (await sub.fetch(1, timeout=3))[0]
    expect_seq(one, 8, 1)
    began = time.monotonic()
    rest = await sub.fetch(100, timeout=3)
    check(len(rest) == 12 and time.monotonic() - began < 2, "rest of %d", len(rest))
    for batch in (1, 5):
        began = time.monotonic()
        try:
            await sub.fetch(batch, timeout=0.7)
            raise Failure("an empty pull has a message")
        except asyncio.TimeoutError:
            check(time.monotonic() - began > 0.5, "the pull of %d did not wait", batch)
    try:
        await sub.fetch(1, timeout=2, heartbeat=0.3)
        raise Failure("an empty pull has a message")
    except nats.js.errors.FetchTimeoutError:
        pass  # Only when heartbeats came.
    except asyncio.TimeoutError:
        raise Failure("no heartbeats")


@scenario()
async def consume(w):
    """This client has no endless pull: it fetches again and again."""
    await w.stream()
    sub = await w.consumer("d")
    futures = [await w.js[0].publish_async(w.name + ".x", b"%d" % i) for i in range(2000)]
    seen = 0
    while seen < 2000:
        got = await fetch(sub, 100, 5)
        check(len(got) > 0, "stuck at %d", seen)
        for m in got:
            seen += 1
            expect_seq(m, seen, 1)
            await m.ack()
    await asyncio.gather(*futures)

    async def is_acked():
        info = await sub.consumer_info()
        return info.num_ack_pending == 0 and info.ack_floor.stream_seq == 2000
    await eventually("everything acked", is_acked)


@scenario()
async def acks(w):
    await w.stream()
    await w.publish(6)
    sub = await w.consumer("d", ack_wait=5)
    m = await fetch(sub, 6, 3)
    check(len(m) == 6, "%d of 6", len(m))
    await m[0].ack()
    await m[1].ack_sync()
    await m[2].nak()
    again = await fetch_one(sub)
    expect_seq(again, 3, 2)
    await again.ack()
    began = time.monotonic()
    await m[3].nak(delay=0.7)
    again = await fetch_one(sub)
    expect_seq(again, 4, 2)
    check(time.monotonic() - began > 0.6, "nak with delay came at once")
    await again.ack_sync()
    await m[4].term()
    for _ in range(4):
        await m[5].in_progress()
        await asyncio.sleep(1.5)
    check(len(await fetch(sub, 1, 0.3)) == 0, "redelivered in spite of in progress")
    await m[5].ack_sync()
    info = await sub.consumer_info()
    check(info.num_ack_pending == 0 and info.ack_floor.stream_seq == 6 and
          info.delivered.stream_seq == 6 and info.num_pending == 0, "info %s", info)


@scenario()
async def redelivery(w):
    await w.stream()
    await w.publish(2)
    sub = await w.consumer("d", ack_wait=0.4, max_deliver=3)
    for delivery in range(1, 4):
        m = await fetch(sub, 2, 2)
        check(len(m) == 2, "%d messages in delivery %d", len(m), delivery)
        expect_seq(m[0], 1, delivery)
        expect_seq(m[1], 2, delivery)
    check(len(await fetch(sub, 2, 1)) == 0, "delivered more often than max_deliver")


@scenario()
async def filters(w):
    await w.stream()
    await w.publish(12)
    one = await w.consumer("one", filter_subject=w.name + ".1")
    check((await one.consumer_info()).num_pending == 4, "pending of a filter")
    got = await fetch(one, 10, 0.5)
    check(len(got) == 4, "one filter: %d", len(got))
    for i, m in enumerate(got):
        expect_seq(m, 3 * i + 1, 1)
    for name, config, count in (
            ("two", {"filter_subjects": [w.name + ".0", w.name + ".2"]}, 8),
            ("late", {"deliver_policy": api.DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": 11}, 2),
            ("last", {"deliver_policy": api.DeliverPolicy.LAST}, 1),
            ("per", {"deliver_policy": api.DeliverPolicy.LAST_PER_SUBJECT,
                     "filter_subject": w.name + ".>"}, 3)):
        sub = await w.consumer(name, **config)
        got = await fetch(sub, 20, 0.5)
        check(len(got) == count, "%s: %d of %d", name, len(got), count)
        if name == "last":
            expect_seq(got[0], 12, 1)


@scenario()
async def consumers(w):
    await w.stream()
    await w.publish(3)
    js = w.js[1]
    await w.consumer("d", description="first")
    await w.consumer("d", description="first")  # The same again is no error.
    info = await js.consumer_info(w.name, "d")
    check(info.name == "d" and info.stream_name == w.name and info.config.description == "first",
          "info %s", info)
    # Without an action, which this client does not send, a consumer that is there is updated.
    info = await js.add_consumer(w.name, info.config.evolve(description="second"))
    check(info.config.description == "second", "not updated")
    code = await code_of(js.add_consumer(w.name, info.config.evolve(
        deliver_policy=api.DeliverPolicy.NEW)))
    check(code == 10012, "another deliver policy: %d", code)
    ephemeral = await w.js[2].add_consumer(w.name, ack_policy=api.AckPolicy.EXPLICIT,
                                           inactive_threshold=30)
    sub = await w.js[2].pull_subscribe_bind(ephemeral.name, w.name)
    check(len(await fetch(sub, 3, 1)) == 3, "ephemeral")
    await js.add_consumer(w.name, name="short", ack_policy=api.AckPolicy.EXPLICIT,
                          inactive_threshold=0.5)
    names = sorted(i.name for i in await js.consumers_info(w.name))
    check(names == sorted(["d", "short", ephemeral.name]), "listed %s", names)

    async def is_gone():
        return await code_of(js.consumer_info(w.name, "short")) == 10014
    await eventually("an idle ephemeral consumer ends", is_gone)
    await js.delete_consumer(w.name, "d")
    check(await code_of(js.consumer_info(w.name, "d")) == 10014, "there after the delete")
    check(await code_of(js.delete_consumer(w.name, "d")) == 10014, "deleted twice")
    check(await code_of(js.consumer_info(w.name + "none", "d")) == 10059, "consumer of no stream")


@scenario()
async def limits(w):
    js = w.js[1]
    await w.stream(max_msgs=5)
    await w.publish(8)
    state = (await w.info()).state
    check(state.messages == 5 and state.first_seq == 4, "discard old: %s", state)
    await js.delete_stream(w.name)
    await w.stream(max_msgs=5, discard=api.DiscardPolicy.NEW)
    await w.publish(5)
    check(await code_of(js.publish(w.name + ".x")) == 10077, "discard new")
    await js.delete_msg(w.name, 2)
    check((await js.publish(w.name + ".x")).seq == 6, "after a delete")
    await js.delete_stream(w.name)
    await w.stream(max_msgs_per_subject=2)
    await w.publish(9)
    state = (await w.info()).state
    check(state.messages == 6 and state.first_seq == 4, "per subject: %s", state)
    await js.delete_stream(w.name)
    await w.stream(max_bytes=1000, max_msg_size=200)
    for _ in range(20):
        await js.publish(w.name + ".x", bytes(100))
    state = (await w.info()).state
    check(state.bytes <= 1000 and 5 <= state.messages < 20, "max_bytes: %s", state)
    check(await code_of(js.publish(w.name + ".x", bytes(201))) == 10054, "max_msg_size")
    await js.delete_stream(w.name)
    await w.stream(max_age=1, duplicate_window=1)
    await w.publish(5)

    async def is_empty():
        return (await w.info()).state.messages == 0
    await eventually("max_age", is_empty)
    state = (await w.info()).state
    check(state.first_seq == 6 and state.last_seq == 5, "after max_age: %s", state)


# ---- Running ----

async def run_one(label, f, urls, name, replicas):
    began = time.monotonic()
    try:
        async with World(urls, name, replicas) as w:
            try:
                await asyncio.wait_for(f(w), SCENARIO_LIMIT_S)
            finally:
                try:
                    await w.js[0].delete_stream(name)
                except NotFoundError:
                    pass
    except Exception as e:
        print("FAIL %s: %s" % (label, e if isinstance(e, Failure) else repr(e)), flush=True)
        traceback.print_exc()
        return
    print("ok %s %.2f s" % (label, time.monotonic() - began), flush=True)


async def run(names, urls):
    """Those named, or all that the nodes allow."""
    is_alone = len(urls) == 1
    for name, f, is_js in _list:
        if (names and name not in names) or (is_alone and name == "reconnect"):
            continue
        for replicas in (1, 3) if is_js and not is_alone else (1,):
            label = "%s R%d" % (name, replicas) if is_js else name
            await run_one(label, f, urls, "PY_" + label.replace(" ", "_"), replicas)
