// The scenarios of tests/clients/scenarios.txt with nats.js.
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import {
  AckPolicy,
  DeliverPolicy,
  DiscardPolicy,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
} from "@nats-io/jetstream";
import { connect, createInbox, headers as makeHeaders, nanos } from "@nats-io/transport-node";

const SCENARIO_LIMIT_MS = 30000;

class Failure extends Error {}

function check(is, text) {
  if (!is) {
    throw new Failure(text);
  }
}

const show = (v) => JSON.stringify(v);

function connectTo(url, options = {}) {
  return connect({ servers: url, reconnectTimeWait: 50, maxReconnectAttempts: -1, ...options });
}

// What a scenario has: a connection to each node, and a stream name of its own. With one node, three
// connections to it.
class World {
  constructor(urls, name, replicas) {
    this.isAlone = urls.length === 1;
    this.urls = this.isAlone ? [urls[0], urls[0], urls[0]] : urls;
    this.name = name;
    this.replicas = replicas;
  }

  async open() {
    this.nc = await Promise.all(this.urls.map((url) => connectTo(url)));
    this.js = this.nc.map((nc) => jetstream(nc));
    this.jsm = await Promise.all(this.nc.map((nc) => jetstreamManager(nc)));
  }

  async close() {
    await Promise.all(this.nc.map((nc) => nc.close()));
  }

  // Interest reaches the other nodes before a later message of the same connection does.
  async settle() {
    await Promise.all(this.nc.map((nc) => nc.flush()));
    for (const from of this.nc) {
      for (const to of this.nc) {
        const inbox = createInbox();
        const sub = listen(to, inbox);
        await to.flush();
        let attempt = 0;
        do {
          check(attempt++ < 50, "interest does not arrive");
          from.publish(inbox);
        } while (await sub.next(100) === null);
        sub.stop();
      }
    }
  }

  async stream(config = {}) {
    const info = await this.jsm[0].streams.add({
      name: this.name,
      subjects: [`${this.name}.>`],
      num_replicas: this.replicas,
      ...config,
    });
    for (const js of this.js) {
      await eventually("a node knows the stream", () => this.isKnown(js));
    }
    return info;
  }

  // The node that was asked knows a stream at once, others a little later; a publish there fails until then.
  async isKnown(js) {
    try {
      const expect = { streamName: "another" };
      return await codeOf(js.publish(`${this.name}.x`, "", { expect })) === 10060;
    } catch (err) {
      check(err.cause?.isNoResponders?.(), `${err}`);
      return false;
    }
  }

  info(options) {
    return this.jsm[0].streams.info(this.name, options);
  }

  async state() {
    return (await this.info()).state;
  }

  async publish(count) {
    for (let i = 1; i <= count; i++) {
      const ack = await this.js[1].publish(`${this.name}.${i % 3}`, `m${i}`);
      check(ack.seq === i, `sequence ${ack.seq} of message ${i}`);
    }
  }

  async consumer(name, config = {}) {
    await this.jsm[2].consumers.add(this.name, {
      durable_name: name,
      ack_policy: AckPolicy.Explicit,
      ...config,
    });
    return this.js[2].consumers.get(this.name, name);
  }
}

// A subscription whose messages are taken one by one, with a limit for the wait.
function listen(nc, subject, options = {}) {
  const queue = [];
  let wake = () => {};
  const sub = nc.subscribe(subject, {
    ...options,
    callback: (err, m) => {
      queue.push(m);
      wake();
    },
  });
  return {
    async next(limitMs) {
      if (queue.length === 0) {
        await new Promise((done) => {
          const timer = setTimeout(done, limitMs);
          wake = () => {
            clearTimeout(timer);
            done();
          };
        });
      }
      return queue.shift() ?? null;
    },
    stop: () => sub.unsubscribe(),
  };
}

async function nextOf(sub) {
  const m = await sub.next(3000);
  check(m !== null, "expected a message");
  return m;
}

// The messages of one fetch; this client waits a second at least.
async function fetch(c, count, waitMs) {
  const got = [];
  for await (const m of await c.fetch({ max_messages: count, expires: Math.max(1000, waitMs) })) {
    got.push(m);
  }
  return got;
}

async function fetchOne(c) {
  const m = await c.next({ expires: 3000 });
  check(m !== null, "expected a message");
  return m;
}

function expectSeq(m, seq, delivered) {
  const { streamSequence, deliveryCount } = m.info;
  check(
    streamSequence === seq && deliveryCount === delivered,
    `got sequence ${streamSequence}, delivery ${deliveryCount}; expected ${seq}, ${delivered}`,
  );
}

// The API's error code, 0 when there is no error. Other errors go on.
async function codeOf(promise) {
  try {
    await promise;
    return 0;
  } catch (err) {
    if (err.name === "TimeoutError" || typeof err.code !== "number") {
      throw err;
    }
    return err.code;
  }
}

async function eventually(what, is) {
  for (let i = 0; i < 100; i++) {
    if (await is()) {
      return;
    }
    await sleep(50);
  }
  check(false, `${what}: not in 5 s`);
}

const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// The test that started us kills and starts nodes, and says when it is done.
async function ask(line) {
  console.log(line);
  await input.next();
}

// ---- Core ----

async function pubsub(w) {
  const sub = listen(w.nc[1], "js.pubsub.>");
  await w.settle();
  for (let i = 0; i < 100; i++) {
    w.nc[0].publish("js.pubsub.x", `${i}`);
  }
  for (let i = 0; i < 100; i++) {
    const m = await nextOf(sub);
    check(m.string() === `${i}`, `got ${m.string()} in place ${i}`);
  }
}

async function request(w) {
  w.nc[2].subscribe("js.service", { callback: (_, m) => m.respond(`re:${m.string()}`) });
  await w.settle();
  for (let i = 0; i < 100; i++) {
    const m = await w.nc[i % 3].request("js.service", `${i}`, { timeout: 3000 });
    check(m.string() === `re:${i}`, `got ${m.string()}`);
  }
}

async function noResponders(w) {
  const began = Date.now();
  let err;
  try {
    await w.nc[0].request("js.nobody", "", { timeout: 5000 });
  } catch (e) {
    err = e;
  }
  check(err?.isNoResponders?.(), `got ${err}`);
  check(Date.now() - began < 4000, "it was not told");
}

async function queueGroups(w) {
  const subs = w.nc.map((nc) => listen(nc, "js.queue", { queue: "group" }));
  await w.settle();
  for (let i = 0; i < 300; i++) {
    w.nc[0].publish("js.queue");
  }
  await w.nc[0].flush();
  let count = 0;
  for (const sub of subs) {
    while (await sub.next(300) !== null) {
      count++;
    }
  }
  check(count === 300, `${count} of 300 arrived`);
}

async function headers(w) {
  const sub = listen(w.nc[1], "js.headers");
  await w.settle();
  const h = makeHeaders();
  h.append("A", "1");
  h.append("A", "2");
  h.append("Long-Name", "with spaces, and: colons");
  w.nc[0].publish("js.headers", "data", { headers: h });
  const m = await nextOf(sub);
  check(
    show(m.headers.values("A")) === '["1","2"]' &&
      m.headers.get("Long-Name") === "with spaces, and: colons" && m.string() === "data",
    `got ${m.headers}`,
  );
}

async function drain(w) {
  const nc = await connectTo(w.urls[1]);
  let count = 0;
  const sub = nc.subscribe("js.drain");
  const handled = (async () => {
    for await (const _ of sub) {
      count++;
      await sleep(1);
    }
  })();
  await nc.flush();
  for (let i = 0; i < 100; i++) {
    w.nc[1].publish("js.drain");
  }
  await w.nc[1].flush();
  await nc.drain();
  await handled;
  check(nc.isClosed(), "not closed");
  check(count === 100, `${count} of 100 were handled`);
}

async function reconnect(w) {
  const nc = await connectTo(w.urls[2]);
  const sub = listen(nc, "js.reconnect");
  await nc.flush();
  check(nc.info.connect_urls?.length > 0, "no other servers in INFO");
  const back = (async () => {
    for await (const s of nc.status()) {
      if (s.type === "reconnect") {
        return true;
      }
    }
  })();
  await ask("kill 2");
  check(await Promise.race([back, sleep(10000)]), "does not reconnect");
  nc.publish("js.reconnect", "hello");
  const m = await nextOf(sub);
  check(m.string() === "hello", `got ${m.string()}`);
  await nc.close();
  await ask("start 2");
}

// ---- JetStream ----

async function account(w) {
  const before = await w.jsm[0].getAccountInfo();
  w.replicas = w.isAlone ? 1 : 3; // So far a node counts what it has a replica of.
  await w.stream();
  await w.consumer("d");
  // Consumers live in the streams, so other nodes hear of them a little later.
  await eventually("account information counts them", async () => {
    const info = await w.jsm[0].getAccountInfo();
    return info.streams === before.streams + 1 && info.consumers === before.consumers + 1;
  });
}

async function refused(w) {
  await w.stream();
  const { streams } = w.jsm[0];
  const tries = {
    "mirror": () => streams.add({ name: `${w.name}m`, mirror: { name: w.name } }),
    "source": () => streams.add({ name: `${w.name}s`, sources: [{ name: w.name }] }),
    "work queue": () =>
      streams.add({
        name: `${w.name}w`,
        subjects: [`${w.name}w`],
        retention: RetentionPolicy.Workqueue,
      }),
  };
  for (const [what, attempt] of Object.entries(tries)) {
    check(await codeOf(attempt()) !== 0, `${what} was not refused`);
  }
}

async function streams(w) {
  const api = w.jsm[1].streams;
  await w.stream({ description: "first", max_msgs: 10 });
  const { config, cluster } = await w.info();
  check(
    config.description === "first" && config.max_msgs === 10 && config.num_replicas === w.replicas,
    `configuration ${show(config)}`,
  );
  check(
    w.isAlone || (cluster.leader && (cluster.replicas?.length ?? 0) === w.replicas - 1),
    `cluster ${show(cluster)}`,
  );
  await w.stream({ description: "first", max_msgs: 10 }); // The same again is no error.
  let code = await codeOf(
    api.add({ name: w.name, subjects: [`other.${w.name}`], num_replicas: w.replicas }),
  );
  check(code === 10058, `another configuration: ${code}`);
  code = await codeOf(api.add({ name: `${w.name}x`, subjects: [`${w.name}.a`] }));
  check(code === 10065, `overlapping subjects: ${code}`);
  const updated = await w.jsm[2].streams.update(w.name, {
    description: "second",
    subjects: [...config.subjects, `${w.name}-more`],
  });
  check(
    updated.config.description === "second" && updated.config.subjects.length === 2,
    "not updated",
  );
  await w.js[2].publish(`${w.name}-more`); // The node that was asked knows it at once.
  code = await codeOf(api.update(`${w.name}-none`, { subjects: ["none"] }));
  check(code === 10059, `update of none: ${code}`);
  let has = false;
  for await (const name of api.names()) {
    has = has || name === w.name;
  }
  check(has, "not in the names");
  const listed = [];
  for await (const i of api.list(`${w.name}.>`)) {
    listed.push(i.config.name);
  }
  check(show(listed) === show([w.name]), `listed ${listed}`);
  check(await api.find(`${w.name}.x`) === w.name, "name by subject");
  check(await api.delete(w.name), "not deleted");
  check(await codeOf(w.jsm[2].streams.info(w.name)) === 10059, "there after the delete");
  check(await codeOf(api.delete(w.name)) === 10059, "deleted twice");
}

async function publish(w) {
  await w.stream();
  await w.publish(30);
  const acks = await Promise.all(
    Array.from({ length: 500 }, () => w.js[2].publish(`${w.name}.a`, "async")),
  );
  acks.forEach((ack, i) => {
    check(ack.seq === 31 + i && ack.stream === w.name, `ack ${i}: ${show(ack)}`);
  });
  const { state } = await w.info({ subjects_filter: ">" });
  check(
    state.messages === 530 && state.last_seq === 530 && state.num_subjects === 4 &&
      state.subjects[`${w.name}.a`] === 500,
    `state ${show(state)}`,
  );
  let err;
  try {
    await w.js[0].publish("nothing.has.this");
  } catch (e) {
    err = e;
  }
  check(err?.cause?.isNoResponders?.(), `no stream: ${err}`);
}

async function dedup(w) {
  await w.stream({ duplicate_window: nanos(30000) });
  for (const [i, msgID] of ["a", "b", "a", "b", "c"].entries()) {
    const ack = await w.js[i % 3].publish(`${w.name}.x`, "", { msgID });
    check(
      ack.seq === " abc".indexOf(msgID) && ack.duplicate === (i === 2 || i === 3),
      `${i}: ${show(ack)}`,
    );
  }
}

async function expectations(w) {
  await w.stream();
  const pub = (subject, expect, msgID) =>
    w.js[1].publish(`${w.name}.${subject}`, "", { expect, msgID });
  await pub("a", { lastSequence: 0 }, "one");
  await pub("b", { lastSequence: 1, streamName: w.name });
  check(await codeOf(pub("b", { lastSequence: 1 })) === 10071, "last sequence");
  await pub("a", { lastSubjectSequence: 1 }, "two");
  check(await codeOf(pub("a", { lastSubjectSequence: 1 })) === 10071, "last of the subject");
  await pub("c", { lastSubjectSequence: 0 });
  check(await codeOf(pub("a", { streamName: "other" })) === 10060, "stream");
  check(await codeOf(pub("a", { lastMsgID: "one" })) === 10070, "message id");
  const { messages } = await w.state();
  check(messages === 4, `${messages} messages`);
}

async function getDelete(w) {
  await w.stream();
  await w.publish(12);
  const api = w.jsm[2].streams;
  const m = await api.getMessage(w.name, { seq: 5 });
  check(m.string() === "m5" && m.subject === `${w.name}.2` && m.seq === 5, `message 5: ${m.subject}`);
  const ageMs = Date.now() - m.time.getTime();
  check(ageMs > -1000 && ageMs < 60000, `time ${m.timestamp}`);
  const last = await api.getMessage(w.name, { last_by_subj: `${w.name}.1` });
  check(last.seq === 10, "last of a subject");
  await api.deleteMessage(w.name, 5, false);
  await api.deleteMessage(w.name, 6, true);
  check(await api.getMessage(w.name, { seq: 5 }) === null, "a deleted message");
  check(await codeOf(api.deleteMessage(w.name, 5)) !== 0, "deleted twice");
  let { state } = await w.info({ deleted_details: true });
  check(state.num_deleted === 2 && show(state.deleted) === "[5,6]", `state ${show(state)}`);
  const { purged } = await api.purge(w.name, { filter: `${w.name}.0` }); // 3, 9, 12; 6 is gone.
  check(purged === 3 && (await w.state()).messages === 7, "purge of a subject");
  await api.purge(w.name, { seq: 4 }); // 1, 2
  check((await w.state()).first_seq === 4, "purge below a sequence");
  await api.purge(w.name, { keep: 2 });
  state = await w.state();
  check(state.messages === 2 && state.first_seq === 10, `purge but 2: ${show(state)}`);
  await api.purge(w.name);
  state = await w.state();
  check(
    state.messages === 0 && state.last_seq === 12 && state.first_seq === 13,
    `purge: ${show(state)}`,
  );
}

// This client has no pull without wait; a heartbeat that is missing ends the fetch with an error.
async function fetches(w) {
  await w.stream();
  await w.publish(20);
  const c = await w.consumer("d");
  const all = await fetch(c, 7, 3000);
  check(all.length === 7, `${all.length} of 7`);
  all.forEach((m, i) => {
    expectSeq(m, i + 1, 1);
    m.ack();
  });
  let count = 0; // Subjects and replies count.
  try {
    for await (const _ of await c.fetch({ max_bytes: 300, expires: 1000 })) {
      count++;
    }
    check(false, "the message beyond max_bytes is not told");
  } catch (err) {
    check(err.code === 409, `max_bytes: ${err}`);
  }
  check(count >= 1 && count <= 4, `300 bytes are ${count} messages`);
  const rest = await fetch(c, 100, 1000);
  check(rest.length === 20 - 7 - count, `rest is ${rest.length} after ${count}`);
  let began = Date.now();
  check((await fetch(c, 1, 1000)).length === 0, "an empty pull has a message");
  check(Date.now() - began > 800, "the pull did not wait");
  check(await c.next({ expires: 1000 }) === null, "an empty pull has a message");
  began = Date.now();
  for await (const _ of await c.fetch({ max_messages: 1, expires: 3000, idle_heartbeat: 500 })) {
    check(false, "an empty pull has a message");
  }
  check(Date.now() - began > 2500, "the pull did not wait through its heartbeats");
}

async function consume(w) {
  await w.stream();
  const c = await w.consumer("d");
  const acks = Array.from({ length: 2000 }, (_, i) => w.js[0].publish(`${w.name}.x`, `${i}`));
  const messages = await c.consume({ max_messages: 100 });
  let count = 0;
  const stuck = setTimeout(() => messages.stop(new Failure(`stuck at ${count}`)), 15000);
  for await (const m of messages) {
    count++;
    expectSeq(m, count, 1);
    m.ack();
    if (count === 2000) {
      break;
    }
  }
  clearTimeout(stuck);
  check(count === 2000, `${count} of 2000`);
  await messages.close();
  await Promise.all(acks);
  await eventually("everything acked", async () => {
    const info = await c.info();
    return info.num_ack_pending === 0 && info.ack_floor.stream_seq === 2000;
  });
  // The same with a callback. The test listens to all inboxes, so a pull that was given up still takes a
  // message: another consumer.
  const other = await w.consumer("e", { deliver_policy: DeliverPolicy.New });
  const got = [];
  const calls = await other.consume({ callback: (m) => got.push(m.string()) });
  await w.js[0].publish(`${w.name}.x`, "last");
  await eventually("the callback is called", () => got.length > 0);
  check(show(got) === '["last"]', `got ${got}`);
  await calls.close();
}

async function acks(w) {
  await w.stream();
  await w.publish(6);
  const c = await w.consumer("d", { ack_wait: nanos(5000) });
  const m = await fetch(c, 6, 3000);
  check(m.length === 6, `${m.length} of 6`);
  m[0].ack();
  check(await m[1].ackAck(), "double ack");
  m[2].nak();
  let again = await fetchOne(c);
  expectSeq(again, 3, 2);
  again.ack();
  const began = Date.now();
  m[3].nak(700);
  again = await fetchOne(c);
  expectSeq(again, 4, 2);
  check(Date.now() - began > 600, "nak with delay came at once");
  check(await again.ackAck(), "double ack of a message that came again");
  m[4].term();
  for (let i = 0; i < 4; i++) {
    m[5].working();
    await sleep(1500);
  }
  check((await fetch(c, 1, 1000)).length === 0, "redelivered in spite of in progress");
  check(await m[5].ackAck(), "double ack after in progress");
  const info = await c.info();
  check(
    info.num_ack_pending === 0 && info.ack_floor.stream_seq === 6 &&
      info.delivered.stream_seq === 6 && info.num_pending === 0,
    `info ${show(info)}`,
  );
}

async function redelivery(w) {
  await w.stream();
  await w.publish(2);
  const c = await w.consumer("d", { ack_wait: nanos(400), max_deliver: 3 });
  for (let delivery = 1; delivery <= 3; delivery++) {
    const m = await fetch(c, 2, 2000);
    check(m.length === 2, `${m.length} messages in delivery ${delivery}`);
    expectSeq(m[0], 1, delivery);
    expectSeq(m[1], 2, delivery);
  }
  check((await fetch(c, 2, 1000)).length === 0, "delivered more often than max_deliver");
}

async function filters(w) {
  await w.stream();
  await w.publish(12);
  const one = await w.consumer("one", { filter_subject: `${w.name}.1` });
  const { num_pending } = await one.info(true);
  check(num_pending === 4, `pending ${num_pending}`);
  const got = await fetch(one, 10, 1000);
  check(got.length === 4, `one filter: ${got.length}`);
  got.forEach((m, i) => expectSeq(m, 3 * i + 1, 1));
  const others = [
    ["two", { filter_subjects: [`${w.name}.0`, `${w.name}.2`] }, 8],
    ["late", { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: 11 }, 2],
    ["last", { deliver_policy: DeliverPolicy.Last }, 1],
    ["per", { deliver_policy: DeliverPolicy.LastPerSubject, filter_subject: `${w.name}.>` }, 3],
  ];
  for (const [name, config, count] of others) {
    const got = await fetch(await w.consumer(name, config), 20, 1000);
    check(got.length === count, `${name}: ${got.length} of ${count}`);
    if (name === "last") {
      expectSeq(got[0], 12, 1);
    }
  }
}

async function consumers(w) {
  const api = w.jsm[1].consumers;
  await w.stream();
  await w.publish(3);
  await w.consumer("d", { description: "first" });
  await w.consumer("d", { description: "first" }); // The same again is no error.
  let info = await api.info(w.name, "d");
  check(info.name === "d" && info.stream_name === w.name, `info ${show(info)}`);
  let code = await codeOf(api.add(w.name, {
    durable_name: "d",
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(60000),
  }));
  check(code === 10148, `another configuration: ${code}`);
  info = await api.update(w.name, "d", { description: "second" });
  check(info.config.description === "second", "not updated");
  code = await codeOf(api.update(w.name, "none", { description: "second" }));
  check(code === 10014, `update of none: ${code}`);
  const ephemeral = await w.jsm[2].consumers.add(w.name, {
    ack_policy: AckPolicy.Explicit,
    inactive_threshold: nanos(30000),
  });
  const c = await w.js[2].consumers.get(w.name, ephemeral.name);
  check((await fetch(c, 3, 1000)).length === 3, "ephemeral");
  await api.add(w.name, {
    name: "short",
    ack_policy: AckPolicy.Explicit,
    inactive_threshold: nanos(500),
  });
  const names = [];
  for await (const i of api.list(w.name)) {
    names.push(i.name);
  }
  check(show(names.sort()) === show(["d", "short", ephemeral.name].sort()), `listed ${names}`);
  await eventually(
    "an idle ephemeral consumer ends",
    async () => await codeOf(api.info(w.name, "short")) === 10014,
  );
  check(await api.delete(w.name, "d"), "not deleted");
  check(await codeOf(api.info(w.name, "d")) === 10014, "there after the delete");
  check(await codeOf(api.delete(w.name, "d")) === 10014, "deleted twice");
  check(await codeOf(api.info(`${w.name}none`, "d")) === 10059, "consumer of no stream");
  // The ordered consumer of this client: without acks, made by the client itself.
  const ordered = await w.js[0].consumers.get(w.name);
  const seqs = (await fetch(ordered, 3, 1000)).map((m) => m.seq);
  check(show(seqs) === "[1,2,3]", `ordered: ${seqs}`);
}

async function limits(w) {
  const api = w.jsm[1].streams;
  const js = w.js[1];
  const subject = `${w.name}.x`;
  await w.stream({ max_msgs: 5 });
  await w.publish(8);
  let state = await w.state();
  check(state.messages === 5 && state.first_seq === 4, `discard old: ${show(state)}`);
  await api.delete(w.name);
  await w.stream({ max_msgs: 5, discard: DiscardPolicy.New });
  await w.publish(5);
  check(await codeOf(js.publish(subject)) === 10077, "discard new");
  await api.deleteMessage(w.name, 2);
  check((await js.publish(subject)).seq === 6, "after a delete");
  await api.delete(w.name);
  await w.stream({ max_msgs_per_subject: 2 });
  await w.publish(9);
  state = await w.state();
  check(state.messages === 6 && state.first_seq === 4, `per subject: ${show(state)}`);
  await api.delete(w.name);
  await w.stream({ max_bytes: 1000, max_msg_size: 200 });
  for (let i = 0; i < 20; i++) {
    await js.publish(subject, new Uint8Array(100));
  }
  state = await w.state();
  check(
    state.bytes <= 1000 && state.messages >= 5 && state.messages < 20,
    `max_bytes: ${show(state)}`,
  );
  check(await codeOf(js.publish(subject, new Uint8Array(201))) === 10054, "max_msg_size");
  await api.delete(w.name);
  await w.stream({ max_age: nanos(1000), duplicate_window: nanos(1000) });
  await w.publish(5);
  await eventually("max_age", async () => (await w.state()).messages === 0);
  state = await w.state();
  check(state.first_seq === 6 && state.last_seq === 5, `after max_age: ${show(state)}`);
}

// ---- Running ----

const list = [
  ["pubsub", pubsub, false],
  ["request", request, false],
  ["no_responders", noResponders, false],
  ["queue_groups", queueGroups, false],
  ["headers", headers, false],
  ["drain", drain, false],
  ["reconnect", reconnect, false],
  ["account", account, false],
  ["refused", refused, false],
  ["streams", streams, true],
  ["publish", publish, true],
  ["dedup", dedup, true],
  ["expectations", expectations, true],
  ["get_delete", getDelete, true],
  ["fetch", fetches, true],
  ["consume", consume, true],
  ["acks", acks, true],
  ["redelivery", redelivery, true],
  ["filters", filters, true],
  ["consumers", consumers, true],
  ["limits", limits, true],
];

function limited(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Failure("takes too long")), SCENARIO_LIMIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function runOne(label, f, w) {
  const began = Date.now();
  try {
    await w.open();
    try {
      await limited(f(w));
    } finally {
      await codeOf(w.jsm[0].streams.delete(w.name));
      await w.close();
    }
  } catch (err) {
    console.log(`FAIL ${label}: ${err instanceof Failure ? err.message : err.stack.replaceAll("\n", " ")}`);
    return;
  }
  console.log(`ok ${label} ${((Date.now() - began) / 1000).toFixed(2)} s`);
}

// Those named, or all that the nodes allow.
export async function scenarios(names, urls) {
  const isAlone = urls.length === 1;
  for (const [name, f, isJs] of list) {
    if ((names.length > 0 && !names.includes(name)) || (isAlone && name === "reconnect")) {
      continue;
    }
    for (const replicas of isJs && !isAlone ? [1, 3] : [1]) {
      const label = isJs ? `${name} R${replicas}` : name;
      await runOne(label, f, new World(urls, `JS_${label.replace(" ", "_")}`, replicas));
    }
  }
}
