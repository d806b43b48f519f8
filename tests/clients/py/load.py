"""What the kill test runs: publishers that never send a message twice, and consumers with double acks."""

import asyncio
import sys
import time

import nats
import nats.errors

WINDOW = 50
PAUSE_S = 0.3
ACK_LIMIT_S = 10


def now_ms():
    return int(time.time() * 1000)


async def no_report(_):
    pass


async def connect(name, url, urls):
    order = [url] + [u for u in urls if u != url]
    return await nats.connect(order, name=name, dont_randomize=True, max_reconnect_attempts=-1,
                              reconnect_time_wait=0.05, error_cb=no_report)


async def publisher(report, stop, name, url, urls):
    """One connection: bursts of asynchronous publishes, each burst settled before the next."""
    nc = await connect(name, url, urls)
    js = nc.jetstream()
    i = 0
    while not stop.is_set():
        futures = []
        for k in range(i, i + WINDOW):
            report("P %s %d" % (name, k))
            try:
                future = await js.publish_async("kills." + name, b"%s:%d" % (name.encode(), k))
                future.add_done_callback(lambda f, k=k: done(report, nc, name, k, f))
                futures.append(future)
            except Exception as e:
                report("E %s %d %r" % (name, k, e))
        if futures:
            _, late = await asyncio.wait(futures, timeout=ACK_LIMIT_S)
            for f in late:
                f.cancel()
        i += WINDOW
        await asyncio.sleep(PAUSE_S)
    await nc.close()


def done(report, nc, name, k, future):
    if future.cancelled():
        report("E %s %d no ack" % (name, k))
    elif future.exception():
        report("E %s %d %r" % (name, k, future.exception()))
    else:
        server = nc.connected_url.netloc if nc.connected_url else "-"
        report("A %s %d %d %d %s" % (name, k, future.result().seq, now_ms(), server))


async def confirm(report, stop, name, msg):
    """Confirms an ack, repeating the same one: it is idempotent."""
    meta = msg.metadata
    seq = meta.sequence.stream
    report("S %s %d %d %d" % (name, seq, meta.num_delivered, now_ms()))
    for _ in range(10):
        if stop.is_set():
            break
        try:
            await msg.ack_sync(timeout=1)
            report("C %s %d %d" % (name, seq, now_ms()))
            return
        except Exception:
            await asyncio.sleep(0.05)
    report("U %s %d" % (name, seq))


async def consumer(report, stop, name, url, urls):
    nc = await connect(name, url, urls)
    js = nc.jetstream()
    sub = await js.pull_subscribe_bind(name, stream="KILLS")
    while not stop.is_set():
        try:
            msgs = await sub.fetch(200, timeout=1)
        except Exception:
            await asyncio.sleep(0.05)
            continue
        await asyncio.gather(*(confirm(report, stop, name, m) for m in msgs))
    await nc.close()


async def run(what, path, urls):
    stop = asyncio.Event()
    with open(path, "w", buffering=1) as out:
        def report(line):
            out.write(line + "\n")
        if what == "publish":
            jobs = [publisher(report, stop, "py%d" % i, u, urls) for i, u in enumerate(urls)]
        else:
            jobs = [consumer(report, stop, "cpy", urls[2], urls)]
        tasks = [asyncio.create_task(j) for j in jobs]
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        stop.set()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if error is not None:
                raise error
