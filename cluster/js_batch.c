/* Items between nodes: all that one turn has for a node leaves in one message on the client lane.
 *
 *   item: type u8, length u32, fields
 *
 * What this node has for itself takes the same way, without the network, so that there is one path.
 */
#include "cluster/js_batch.h"

#include <assert.h>
#include <stdlib.h>

#include "broker/stream.h"
#include "broker/subject.h"
#include "cluster/js_api.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_leader.h"
#include "cluster/js_members.h"
#include "cluster/js_mend.h"
#include "cluster/js_meta.h"
#include "cluster/js_propose.h"
#include "cluster/js_pull.h"
#include "cluster/js_rebuild.h"
#include "cluster/js_scrub.h"
#include "cluster/js_spread.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/peers.h"
#include "cluster/router.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/hash.h"
#include "storage/base/log.h"
#include "storage/store.h"

#define SEND_BYTES (256u * 1024) /* More does not wait for the end of the turn. */
#define OUT_KEEP_BYTES (4u << 20)
#define LANE_N_MAX (UINT64_MAX / 2)
#define SELF_ROUNDS_MAX 8 /* Items for ourselves that make items for ourselves, in one turn. */

struct js_out {
    uint64_t node_id;
    struct buf items;
    size_t item_at; /* Where the open item's length stands. */
    UT_hash_handle hh;
};

static void send_out(struct js *js, struct js_out *o);

static struct js_out *out_of(struct js *js, uint64_t node_id)
{
    struct js_out *o;
    HASH_FIND(hh, js->outs, &node_id, sizeof node_id, o);
    if (o == NULL) {
        o = xcalloc(1, sizeof *o);
        o->node_id = node_id;
        HASH_ADD(hh, js->outs, node_id, sizeof o->node_id, o);
    }
    return o;
}

struct buf *js_batch_begin(struct js *js, uint64_t node_id, enum js_item_type type)
{
    struct js_out *o = out_of(js, node_id);
    buf_append_u8(&o->items, (uint8_t)type);
    o->item_at = o->items.len;
    buf_append_u32(&o->items, 0);
    return &o->items;
}

void js_batch_end(struct js *js, uint64_t node_id)
{
    struct js_out *o = out_of(js, node_id);
    size_t len = o->items.len - o->item_at - 4;
    assert(len <= UINT32_MAX);
    for (size_t i = 0; i < 4; i++) {
        o->items.ptr[o->item_at + i] = (uint8_t)(len >> (8 * i));
    }
    if (o->items.len >= SEND_BYTES && node_id != js->ctx->node_id) {
        send_out(js, o);
    }
}

void js_batch_put_slice(struct buf *b, struct slice s)
{
    buf_append_varint(b, s.len);
    buf_append_slice(b, s);
}

struct slice js_batch_take_slice(struct reader *r)
{
    uint64_t len = reader_varint(r);
    if (len > r->len) {
        r->failed = true;
        return SLICE_EMPTY;
    }
    return reader_bytes(r, (size_t)len);
}

/* ---- Receiving ---- */

/* What a client could have published to. */
static bool is_subject(struct slice s)
{
    return subject_is_word(s) && s.len <= STORE_SUBJECT_BYTES_MAX && subject_is_literal(s);
}

/* What stands on a line to a client, if it is there. */
static void check_word(struct reader *r, struct slice s)
{
    r->failed = r->failed || (s.len > 0 && !subject_is_word(s));
}

static void take_publish(struct js *js, uint64_t node_id, struct reader *r)
{
    uint64_t gid = reader_u64(r);
    uint64_t origin = reader_u64(r);
    uint64_t n = reader_u64(r);
    struct router_msg msg = {0};
    msg.subject = js_batch_take_slice(r);
    msg.header = js_batch_take_slice(r);
    msg.payload = js_batch_take_slice(r);
    /* It goes into the log, where a malformed op would stop every replica. */
    if (r->failed || origin == 0 || n == 0 || n > LANE_N_MAX || !is_subject(msg.subject)) {
        r->failed = true;
        return;
    }
    struct js_stream *st = js_stream_find(js, gid);
    if (st != NULL && st->is_leader) {
        js_propose_publish(st, node_id, origin, n, &msg);
    }
}

static void take_answer(struct js *js, struct reader *r)
{
    uint64_t gid = reader_u64(r);
    uint64_t origin = reader_u64(r);
    struct js_answer a = {0};
    a.n = reader_u64(r);
    a.seq = reader_u64(r);
    a.err_code = (int)reader_u32(r);
    uint8_t flags = reader_u8(r);
    a.is_duplicate = (flags & 1) != 0;
    a.is_gap = (flags & 2) != 0;
    a.is_forgotten = (flags & 4) != 0;
    a.last_n = reader_u64(r);
    a.text = js_batch_take_slice(r);
    /* Answers to what an earlier start of this node sent are nobody's. */
    if (!r->failed && origin == js->origin) {
        js_lane_answer(js, gid, &a);
    }
}

static void take_message(struct reader *r, struct router_msg *ret_msg)
{
    ret_msg->subject = js_batch_take_slice(r);
    ret_msg->reply = js_batch_take_slice(r);
    ret_msg->header = js_batch_take_slice(r);
    ret_msg->payload = js_batch_take_slice(r);
    check_word(r, ret_msg->subject);
    check_word(r, ret_msg->reply);
}

static void take_api(struct js *js, uint64_t node_id, struct reader *r)
{
    struct router_msg msg = {0};
    uint64_t asker = reader_u64(r);
    uint8_t hops = reader_u8(r);
    take_message(r, &msg);
    (void)node_id;
    if (!r->failed) {
        js_api_route(js, asker, hops, &msg);
    }
}

static void take_deliver(struct js *js, struct reader *r)
{
    struct slice inbox = js_batch_take_slice(r);
    struct router_msg msg = {0};
    take_message(r, &msg);
    if (!r->failed && is_subject(inbox)) {
        msg.shown = msg.subject;
        msg.subject = inbox;
        js_pull_delivered(js, inbox);
        router_publish(js->ctx->router, &msg, &ROUTER_ORIGIN_NODE);
    }
}

static void take_ack(struct js *js, uint64_t node_id, struct reader *r)
{
    struct router_msg msg = {0};
    uint64_t gid = reader_u64(r);
    take_message(r, &msg);
    struct js_stream *st = js_stream_find(js, gid);
    if (!r->failed && st != NULL && st->is_led) {
        js_leader_ack(st, node_id, &msg);
    }
}

static void take_digest(struct js *js, uint64_t node_id, bool is_verdict, struct reader *r)
{
    struct js_stream *st = js_stream_find(js, reader_u64(r));
    struct effect_digest d = {0};
    d.index = reader_u64(r);
    d.machine_version = reader_u32(r);
    d.hash = reader_u64(r);
    if (!r->failed && st != NULL && is_verdict) {
        js_rebuild_judged(st, node_id, &d);
    } else if (!r->failed && st != NULL && st->is_led) {
        js_rebuild_digest(st, node_id, &d);
    }
}

static bool take_item(struct js *js, uint64_t node_id, uint8_t type, struct slice fields)
{
    struct reader r = reader_of(fields);
    switch (type) {
    case JS_ITEM_PUBLISH:
        take_publish(js, node_id, &r);
        break;
    case JS_ITEM_ANSWER:
        take_answer(js, &r);
        break;
    case JS_ITEM_LEADER: {
        uint64_t gid = reader_u64(&r);
        uint64_t term = reader_u64(&r);
        if (!r.failed) {
            js_lane_leader(js, gid, node_id, term);
        }
        break;
    }
    case JS_ITEM_API:
        take_api(js, node_id, &r);
        break;
    case JS_ITEM_REPLY: {
        uint64_t for_node_id = reader_u64(&r);
        uint64_t meta_index = reader_u64(&r);
        struct slice inbox = js_batch_take_slice(&r);
        struct slice header = js_batch_take_slice(&r);
        struct slice payload = js_batch_take_slice(&r);
        if (!r.failed && is_subject(inbox)) { /* Clients name what they like. */
            js_api_reply_arrived(js, for_node_id, inbox, meta_index, header, payload);
        }
        break;
    }
    case JS_ITEM_ACK:
        take_ack(js, node_id, &r);
        break;
    case JS_ITEM_DELIVER:
        take_deliver(js, &r);
        break;
    case JS_ITEM_DIGEST:
    case JS_ITEM_DIVERGED:
        take_digest(js, node_id, type == JS_ITEM_DIVERGED, &r);
        break;
    case JS_ITEM_MOVE: {
        uint64_t gid = reader_u64(&r);
        uint64_t to = reader_u64(&r);
        if (!r.failed) {
            js_spread_asked(js, gid, to);
        }
        break;
    }
    case JS_ITEM_MEMBERS:
        js_members_take(js, &r);
        break;
    case JS_ITEM_MEND_ASK:
        js_mend_asked(js, node_id, &r);
        break;
    case JS_ITEM_MENDED:
        js_mend_take(js, node_id, &r);
        break;
    case JS_ITEM_CHECK: {
        uint64_t gid = reader_u64(&r);
        if (!r.failed && js_stream_find(js, gid) != NULL) {
            js_scrub_stream(js, gid);
        }
        break;
    }
    case JS_ITEM_LOST:
        js_members_take_lost(js, node_id, &r);
        break;
    default:
        return false;
    }
    return !r.failed;
}

static int take_items(struct js *js, uint64_t node_id, struct slice items)
{
    struct reader r = reader_of(items);
    while (r.len > 0) {
        uint8_t type = reader_u8(&r);
        uint32_t len = reader_u32(&r);
        struct slice fields = reader_bytes(&r, len);
        if (r.failed || !take_item(js, node_id, type, fields)) {
            log_err("Malformed item of type %u from node %s", type, js_node_name(js, node_id));
            return ERR_PROTO;
        }
    }
    return 0;
}

static int on_batch(void *ctx, uint64_t node_id, struct slice body)
{
    struct js *js = ctx;
    js_lock(js);
    int rv = take_items(js, node_id, body);
    js_unlock(js);
    return rv;
}

/* ---- Sending ---- */

/* No connection: lost, and so is the memory. Lanes number and send again, requests time out. */
static void send_out(struct js *js, struct js_out *o)
{
    struct slice part = buf_slice(&o->items);
    bool is_sent = js->ctx->peers != NULL &&
                   peers_client_send(js->ctx->peers, o->node_id, JS_PEER_TYPE_BATCH, &part, 1) == 0;
    buf_clear(&o->items);
    if (!is_sent || o->items.cap > OUT_KEEP_BYTES) {
        buf_close(&o->items);
    }
}

static void flush_self(struct js *js)
{
    struct js_out *o = out_of(js, js->ctx->node_id);
    for (int round = 0; round < SELF_ROUNDS_MAX && o->items.len > 0; round++) {
        struct buf items = o->items;
        o->items = BUF_EMPTY;
        (void)take_items(js, o->node_id, buf_slice(&items));
        buf_close(&items);
    }
    if (o->items.len > 0) {
        loop_again(js->loop);
    }
}

void js_batch_flush(struct js *js)
{
    js_lock(js);
    flush_self(js);
    js_unlock(js);
    struct js_out *o;
    struct js_out *next;
    HASH_ITER(hh, js->outs, o, next)
    {
        if (o->node_id == js->ctx->node_id || o->items.len == 0) {
            continue;
        }
        send_out(js, o);
        if (o->items.cap == 0) {
            HASH_DEL(js->outs, o); /* Not connected: a peer may name any node. */
            free(o);
        }
    }
}

void js_batch_start(struct js *js)
{
    if (js->ctx->peers != NULL) {
        peers_register(js->ctx->peers, JS_PEER_TYPE_BATCH, on_batch, js);
    }
}

void js_batch_close(struct js *js)
{
    struct js_out *o;
    struct js_out *next;
    HASH_ITER(hh, js->outs, o, next)
    {
        HASH_DEL(js->outs, o);
        buf_close(&o->items);
        free(o);
    }
}
