// What the kill test runs: publishers that never send a message twice, and consumers with double acks.
import { openSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const WINDOW = 50;
const PAUSE_MS = 300;
const ACK_LIMIT_MS = 10000;

function loadConnect(name, url, urls) {
  return connect({
    name,
    servers: [url, ...urls.filter((u) => u !== url)],
    noRandomize: true,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 50,
    waitOnFirstConnect: true,
  });
}

// One connection: bursts of asynchronous publishes, each burst settled before the next.
async function publisher(report, stop, name, url, urls) {
  const nc = await loadConnect(name, url, urls);
  const js = jetstream(nc);
  for (let i = 0; !stop.is; i += WINDOW) {
    const acks = [];
    for (let k = i; k < i + WINDOW; k++) {
      report(`P ${name} ${k}`);
      acks.push(
        js.publish(`kills.${name}`, `${name}:${k}`, { retries: 1, timeout: ACK_LIMIT_MS }).then(
          (ack) => report(`A ${name} ${k} ${ack.seq} ${Date.now()} ${nc.getServer()}`),
          (err) => report(`E ${name} ${k} ${err.message}`),
        ),
      );
    }
    await Promise.all(acks);
    await sleep(PAUSE_MS);
  }
  await nc.close();
}

// Confirms an ack, repeating the same one: it is idempotent.
async function confirm(report, stop, name, nc, m) {
  report(`S ${name} ${m.seq} ${m.info.deliveryCount} ${Date.now()}`);
  for (let attempt = 0; attempt < 10 && !stop.is; attempt++) {
    try {
      // m.ackAck() answers false at once the second time, so the request is made by hand.
      await nc.request(m.reply, "+ACK", { timeout: 1000 });
      report(`C ${name} ${m.seq} ${Date.now()}`);
      return;
    } catch {
      await sleep(50);
    }
  }
  report(`U ${name} ${m.seq}`);
}

async function consumer(report, stop, name, url, urls) {
  const nc = await loadConnect(name, url, urls);
  const consumer = await jetstream(nc).consumers.get("KILLS", name);
  while (!stop.is) {
    try {
      const confirmed = [];
      for await (const m of await consumer.fetch({ max_messages: 200, expires: 1000 })) {
        confirmed.push(confirm(report, stop, name, nc, m));
      }
      await Promise.all(confirmed);
    } catch {
      await sleep(50);
    }
  }
  await nc.close();
}

export async function load(what, path, urls) {
  const fd = openSync(path, "w");
  const stop = { is: false };
  const report = (line) => writeSync(fd, line + "\n");
  const jobs = what === "publish"
    ? urls.map((url, i) => publisher(report, stop, `js${i}`, url, urls))
    : [consumer(report, stop, "cjs", urls[0], urls)];
  process.stdin.once("data", () => stop.is = true);
  process.stdin.once("end", () => stop.is = true);
  await Promise.all(jobs);
}
