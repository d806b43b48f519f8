/* $JS.API wherever it is asked (reference/jetstream-api.md 0.4, 1.1): each request finds its way to
 * the leader of the meta group or of its stream, and its reply back.
 *
 * A request is parsed on the node of the client, handled by js_api_meta.c or js_api_stream.c on the
 * leader, and its reply is handed to the client once this node has applied what it rests on. A
 * request for which no leader is known waits for one, at most API_WAIT_MS. */
#include "cluster/js_api.h"

#include <stdlib.h>

#include "broker/ack.h"
#include "broker/api_error.h"
#include "broker/api_reply.h"
#include "broker/api_request.h"
#include "broker/headers.h"
#include "broker/meta.h"
#include "broker/subject.h"
#include "cluster/js_api_internal.h"
#include "cluster/js_batch.h"
#include "cluster/js_calls.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_leader.h"
#include "cluster/js_meta.h"
#include "cluster/js_meta_effects.h"
#include "cluster/js_pull.h"
#include "cluster/js_stream.h"
#include "cluster/js_wait.h"
#include "cluster/loop.h"
#include "cluster/router.h"
#include "cluster/watchdog.h"
#include "storage/base/buf.h"
#include "storage/base/list.h"
#include "storage/store.h"

#define API_WAIT_MS 4000 /* So long a request waits for one. */
#define HOPS_MAX 4
/* As the reference takes by default. What a request says goes into one op, which must fit into an
 * entry also with every byte escaped. */
#define BODY_BYTES_MAX (1u << 20)
#define WAITING_MAX 10000 /* As the reference's queue of API requests. */

/* A request or an ack without a leader, or a reply ahead of the meta index. */
struct api_waiting {
    struct list link;
    uint64_t asker;
    unsigned hops;
    bool is_ack;
    uint64_t until_ms;
    uint64_t meta_index; /* A reply: wait for it; 0: a request. */
    struct buf subject;
    struct buf inbox;
    struct buf header;
    struct buf body;
};

/* ---- Subjects ---- */

/* In the order of enum js_api_op. `tokens` beyond the prefix; -1: that many or more. */
static const struct {
    const char *text;
    enum js_api_op op;
    bool is_meta;
} forms[] = {
    {"INFO", JS_API_INFO, true},
    {"STREAM.CREATE.*", JS_API_STREAM_CREATE, true},
    {"STREAM.UPDATE.*", JS_API_STREAM_UPDATE, true},
    {"STREAM.DELETE.*", JS_API_STREAM_DELETE, true},
    {"STREAM.NAMES", JS_API_STREAM_NAMES, true},
    {"STREAM.LIST", JS_API_STREAM_LIST, true},
    {"STREAM.INFO.*", JS_API_STREAM_INFO, false},
    {"STREAM.PURGE.*", JS_API_STREAM_PURGE, false},
    {"STREAM.MSG.GET.*", JS_API_MSG_GET, false},
    {"STREAM.MSG.DELETE.*", JS_API_MSG_DELETE, false},
    {"CONSUMER.CREATE.*", JS_API_CONSUMER_CREATE, false},
    {"CONSUMER.CREATE.*.*", JS_API_CONSUMER_CREATE, false},
    {"CONSUMER.CREATE.*.*.>", JS_API_CONSUMER_CREATE, false},
    {"CONSUMER.DURABLE.CREATE.*.*", JS_API_CONSUMER_DURABLE, false},
    {"CONSUMER.NAMES.*", JS_API_CONSUMER_NAMES, false},
    {"CONSUMER.LIST.*", JS_API_CONSUMER_LIST, false},
    {"CONSUMER.INFO.*.*", JS_API_CONSUMER_INFO, false},
    {"CONSUMER.DELETE.*.*", JS_API_CONSUMER_DELETE, false},
    {"CONSUMER.MSG.NEXT.*.*", JS_API_MSG_NEXT, false},
    {"DIRECT.GET.*", JS_API_DIRECT_GET, false},
    {"DIRECT.GET.*.>", JS_API_DIRECT_GET, false},
    {"STREAM.LEADER.STEPDOWN.*", JS_API_STREAM_STEPDOWN, false},
    {"CONSUMER.LEADER.STEPDOWN.*.*", JS_API_CONSUMER_STEPDOWN, false},
    {"META.LEADER.STEPDOWN", JS_API_META_STEPDOWN, true},
    {"STREAM.PEER.REMOVE.*", JS_API_PEER_REMOVE, true},
    {"SERVER.REMOVE", JS_API_SERVER_REMOVE, true},
    /* Ours: one stream's info for the meta leader's STREAM.LIST. */
    {"WEIR.INFO.*", JS_API_LIST_INFO, false},
    /* Ours: a STREAM.UPDATE on its way by the stream's leader, and back with its consent. */
    {"WEIR.LIMITS.CHECK.*", JS_API_LIMITS_CHECK, false},
    {"WEIR.LIMITS.CHECKED.*", JS_API_LIMITS_CHECKED, true},
};

static const char *const types[] = {
    [JS_API_INFO] = "account_info_response",
    [JS_API_STREAM_CREATE] = "stream_create_response",
    [JS_API_STREAM_UPDATE] = "stream_update_response",
    [JS_API_STREAM_DELETE] = "stream_delete_response",
    [JS_API_STREAM_NAMES] = "stream_names_response",
    [JS_API_STREAM_LIST] = "stream_list_response",
    [JS_API_STREAM_INFO] = "stream_info_response",
    [JS_API_STREAM_PURGE] = "stream_purge_response",
    [JS_API_MSG_GET] = "stream_msg_get_response",
    [JS_API_MSG_DELETE] = "stream_msg_delete_response",
    [JS_API_CONSUMER_CREATE] = "consumer_create_response",
    [JS_API_CONSUMER_DURABLE] = "consumer_create_response",
    [JS_API_CONSUMER_NAMES] = "consumer_names_response",
    [JS_API_CONSUMER_LIST] = "consumer_list_response",
    [JS_API_CONSUMER_INFO] = "consumer_info_response",
    [JS_API_CONSUMER_DELETE] = "consumer_delete_response",
    [JS_API_MSG_NEXT] = NULL,
    [JS_API_DIRECT_GET] = NULL,
    [JS_API_LIST_INFO] = "stream_info_response",
    [JS_API_LIMITS_CHECK] = "stream_update_response",
    [JS_API_LIMITS_CHECKED] = "stream_update_response",
    [JS_API_STREAM_STEPDOWN] = "stream_leader_stepdown_response",
    [JS_API_CONSUMER_STEPDOWN] = "consumer_leader_stepdown_response",
    [JS_API_META_STEPDOWN] = "meta_leader_stepdown_response",
    [JS_API_PEER_REMOVE] = "stream_remove_peer_response",
    [JS_API_SERVER_REMOVE] = "meta_server_remove_response",
};

const char *js_api_type(enum js_api_op op)
{
    return types[op];
}

/* Where the stream's name stands in the tail of the subject, by what comes before it. */
static size_t name_position(enum js_api_op op)
{
    switch (op) {
    case JS_API_MSG_GET:
    case JS_API_MSG_DELETE:
    case JS_API_MSG_NEXT:
    case JS_API_CONSUMER_DURABLE:
    case JS_API_STREAM_STEPDOWN:
    case JS_API_CONSUMER_STEPDOWN:
    case JS_API_PEER_REMOVE:
    case JS_API_LIMITS_CHECK:
    case JS_API_LIMITS_CHECKED:
        return 3;
    default:
        return 2;
    }
}

bool js_api_parse(struct slice subject, struct js_api_call *ret_call, bool *ret_is_meta)
{
    struct slice tail = slice_from(subject, sizeof "$JS.API." - 1);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (!subject_match(tail, slice_str(forms[i].text))) {
            continue;
        }
        size_t at = name_position(forms[i].op);
        size_t count = subject_token_count(tail);
        ret_call->op = forms[i].op;
        *ret_is_meta = forms[i].is_meta;
        if (count > at) {
            ret_call->stream = subject_token(tail, at);
        }
        if (count > at + 1 && forms[i].op != JS_API_DIRECT_GET) {
            ret_call->consumer = subject_token(tail, at + 1);
        }
        size_t rest = forms[i].op == JS_API_DIRECT_GET ? at + 1 : at + 2;
        if (count > rest) {
            const uint8_t *from = subject_token(tail, rest).ptr;
            ret_call->rest = slice_of(from, (size_t)(tail.ptr + tail.len - from));
        }
        return true;
    }
    return false;
}

/* ---- Replies ---- */

void js_api_reply_by(struct js *js, uint64_t by_node_id, uint64_t node_id, struct slice inbox,
                     uint64_t meta_index, struct slice header, struct slice payload)
{
    if (inbox.len == 0) {
        return;
    }
    struct buf *b = js_batch_begin(js, by_node_id, JS_ITEM_REPLY);
    buf_append_u64(b, node_id);
    buf_append_u64(b, meta_index);
    js_batch_put_slice(b, inbox);
    js_batch_put_slice(b, header);
    js_batch_put_slice(b, payload);
    js_batch_end(js, by_node_id);
    loop_again(js->loop);
}

void js_api_reply(struct js *js, uint64_t node_id, struct slice inbox, uint64_t meta_index,
                  struct slice header, struct slice payload)
{
    js_api_reply_by(js, node_id, node_id, inbox, meta_index, header, payload);
}

void js_api_refuse(struct js *js, const struct js_api_call *call, const struct api_error *e)
{
    struct buf b = BUF_EMPTY;
    js->api_errors++;
    api_reply_error(&b, js_api_type(call->op), e);
    js_api_reply(js, call->asker, call->inbox, 0, SLICE_EMPTY, buf_slice(&b));
    buf_close(&b);
}

void js_api_no_responders(struct js *js, uint64_t asker, struct slice inbox, struct slice subject)
{
    struct buf b = BUF_EMPTY;
    buf_append_str(&b, "NATS/1.0 503\r\n");
    headers_add(&b, "Nats-Subject", subject);
    headers_end(&b);
    js_api_reply(js, asker, inbox, 0, buf_slice(&b), SLICE_EMPTY);
    buf_close(&b);
}

static struct api_waiting *wait_new(struct js *js, struct slice inbox, struct slice header,
                                    struct slice body, bool is_ack)
{
    struct api_waiting *w = xcalloc(1, sizeof *w);
    w->until_ms = loop_now_ms(js->loop) + API_WAIT_MS;
    buf_append_slice(&w->inbox, inbox);
    buf_append_slice(&w->header, header);
    buf_append_slice(&w->body, body);
    list_push_back(&js->api_waiting, &w->link);
    w->is_ack = is_ack;
    *(is_ack ? &js->acks_waiting_count : &js->api_waiting_count) += 1;
    return w;
}

static void wait_free(struct js *js, struct api_waiting *w)
{
    list_remove(&w->link);
    *(w->is_ack ? &js->acks_waiting_count : &js->api_waiting_count) -= 1;
    buf_close(&w->subject);
    buf_close(&w->inbox);
    buf_close(&w->header);
    buf_close(&w->body);
    free(w);
}

static void hand_over(struct js *js, uint64_t for_node_id, struct slice inbox, uint64_t meta_index,
                      struct slice header, struct slice payload)
{
    if (for_node_id != js->ctx->node_id) {
        js_api_reply(js, for_node_id, inbox, meta_index, header, payload);
        return;
    }
    js_pull_status(js, inbox, header);
    if (!js_calls_answered(js, inbox)) {
        return;
    }
    if (!js_api_list_arrived(js, inbox, payload)) {
        router_send(js->ctx->router, inbox, SLICE_EMPTY, header, payload);
    }
}

void js_api_reply_arrived(struct js *js, uint64_t for_node_id, struct slice inbox,
                          uint64_t meta_index, struct slice header, struct slice payload)
{
    /* A reply is late, never wrong: when too many wait it goes out at once. */
    if (meta_index <= js->meta_index || js->api_waiting_count >= WAITING_MAX) {
        hand_over(js, for_node_id, inbox, meta_index, header, payload);
    } else {
        struct api_waiting *w = wait_new(js, inbox, header, payload, false);
        w->asker = for_node_id;
        w->meta_index = meta_index;
    }
}

/* ---- Requests ---- */

static void send_on(struct js *js, uint64_t node_id, uint64_t asker, unsigned hops,
                    const struct router_msg *msg)
{
    struct buf *b = js_batch_begin(js, node_id, JS_ITEM_API);
    buf_append_u64(b, asker);
    buf_append_u8(b, (uint8_t)(hops + 1));
    js_batch_put_slice(b, msg->subject);
    js_batch_put_slice(b, msg->reply);
    js_batch_put_slice(b, msg->header);
    js_batch_put_slice(b, msg->payload);
    js_batch_end(js, node_id);
    loop_again(js->loop);
}

static void wait_for_leader(struct js *js, uint64_t asker, unsigned hops,
                            const struct router_msg *msg)
{
    if (js->api_waiting_count >= WAITING_MAX) {
        return; /* As the reference: dropped, the client times out. */
    }
    struct api_waiting *w = wait_new(js, msg->reply, msg->header, msg->payload, false);
    buf_append_slice(&w->subject, msg->subject);
    w->asker = asker;
    w->hops = hops;
}

void js_api_later(struct js *js, const struct js_api_call *call)
{
    struct api_error e;
    if (call->hops < HOPS_MAX) {
        struct router_msg msg = {.subject = call->subject,
                                 .reply = call->inbox,
                                 .header = call->header,
                                 .payload = call->body};
        wait_for_leader(js, call->asker, call->hops + 1, &msg);
    } else if (js_api_type(call->op) != NULL) {
        api_error_set(&e, API_ERROR_CLUSTER_NOT_AVAIL, NULL);
        js_api_refuse(js, call, &e);
    }
}

/* Is there, after all that was decided before this request, no such stream? Only meta's leader
 * says, once it has proven that it is. */
static void stream_missing(struct js *js, struct js_stream *none, const struct js_api_call *call)
{
    struct api_error e;
    struct api_paging page;
    (void)none;
    if (meta_stream_find(js->meta, call->stream) != NULL) {
        js_api_later(js, call);
        return;
    }
    if (call->op == JS_API_MSG_NEXT || call->op == JS_API_DIRECT_GET) {
        js_api_no_responders(js, call->asker, call->inbox, call->subject);
        return;
    }
    if (call->op == JS_API_STREAM_INFO) {
        /* The reference reads this request before it looks for the stream. */
        if (api_read_paging(call->body, API_PAGING_STREAM_INFO, &page, &e) != 0) {
            js_api_refuse(js, call, &e);
            return;
        }
        api_paging_close(&page);
    }
    api_error_set(&e, API_ERROR_STREAM_NOT_FOUND, NULL);
    js_api_refuse(js, call, &e);
}

static bool route_meta(struct js *js, const struct js_api_call *call, unsigned hops,
                       const struct router_msg *msg)
{
    if (js->is_meta_leader) {
        js_calls_sent(js, call, js->ctx->node_id, js->meta_leader_term, msg);
        js_api_meta(js, call);
        return true;
    }
    if (js->meta_leader_id != 0 && js->meta_leader_id != js->ctx->node_id && hops < HOPS_MAX) {
        js_calls_sent(js, call, js->meta_leader_id, js->meta_leader_term, msg);
        send_on(js, js->meta_leader_id, call->asker, hops, msg);
        return true;
    }
    return false;
}

static bool route_stream(struct js *js, const struct js_api_call *call, unsigned hops,
                         const struct router_msg *msg)
{
    const struct meta_stream *s = meta_stream_find(js->meta, call->stream);
    if (s == NULL) {
        if (js->is_meta_leader) {
            js_api_prove(js, NULL, call, stream_missing);
            return true;
        }
        return route_meta(js, call, hops, msg);
    }
    struct js_stream *st = js_stream_find(js, s->gid);
    if (st != NULL && st->is_led) {
        js_calls_sent(js, call, js->ctx->node_id, 0, msg);
        js_api_stream(st, call);
        return true;
    }
    uint64_t leader = js_lane_leader_of(js, s->gid);
    if (leader != 0 && leader != js->ctx->node_id && hops < HOPS_MAX) {
        if (call->op == JS_API_MSG_NEXT && call->asker == js->ctx->node_id) {
            js_pull_passed_on(js, s->gid, leader, call->inbox, call->body);
        }
        js_calls_sent(js, call, leader, 0, msg);
        send_on(js, leader, call->asker, hops, msg);
        return true;
    }
    if (leader == 0) {
        js_wait_set(js, s->gid, true);
    }
    return false;
}

/* An ack goes to the leader of its stream, or waits for one; false: there is none. */
static bool route_ack(struct js *js, const struct router_msg *msg)
{
    struct ack_subject a;
    struct slice consumer;
    struct slice id;
    bool is_flow = ack_is_flow(msg->subject);
    bool is_ack = is_flow ? ack_flow_parse(msg->subject, &a.stream, &consumer, &id)
                          : ack_subject_parse(msg->subject, &a);
    const struct meta_stream *s = is_ack ? meta_stream_find(js->meta, a.stream) : NULL;
    if (s == NULL && is_flow) {
        return true;
    }
    if (s == NULL) {
        /* A consumer hears every subject of nine tokens, whatever they are. */
        if (is_ack || subject_token_count(msg->subject) != 9) {
            js_api_no_responders(js, js->ctx->node_id, msg->reply, msg->subject);
        }
        return true;
    }
    struct js_stream *st = js_stream_find(js, s->gid);
    if (st != NULL && st->is_led) {
        js_leader_ack(st, js->ctx->node_id, msg);
        return true;
    }
    uint64_t leader = js_lane_leader_of(js, s->gid);
    if (leader == 0 || leader == js->ctx->node_id) {
        return false;
    }
    struct buf *b = js_batch_begin(js, leader, JS_ITEM_ACK);
    buf_append_u64(b, s->gid);
    js_batch_put_slice(b, msg->subject);
    js_batch_put_slice(b, msg->reply);
    js_batch_put_slice(b, msg->header);
    js_batch_put_slice(b, msg->payload);
    js_batch_end(js, leader);
    return true;
}

static bool try_route(struct js *js, uint64_t asker, unsigned hops, const struct router_msg *msg)
{
    struct js_api_call call = {.asker = asker,
                               .hops = hops,
                               .subject = msg->subject,
                               .inbox = msg->reply,
                               .header = msg->header,
                               .body = msg->payload};
    bool is_meta;
    if (!slice_has_prefix(msg->subject, SLICE_LIT("$JS.API.")) ||
        !js_api_parse(msg->subject, &call, &is_meta)) {
        /* The reference listens to these for each consumer and stream; any other subject it
         * swallows. */
        if (slice_has_prefix(msg->subject, SLICE_LIT("$JS.API.CONSUMER.MSG.NEXT.")) ||
            slice_has_prefix(msg->subject, SLICE_LIT("$JS.API.DIRECT.GET"))) {
            js_api_no_responders(js, asker, msg->reply, msg->subject);
        }
        return true;
    }
    if (msg->payload.len > BODY_BYTES_MAX && js_api_type(call.op) != NULL) {
        struct api_error e;
        api_error_set(&e, API_ERROR_BAD_REQUEST, NULL);
        js_api_refuse(js, &call, &e);
        return true;
    }
    bool is_stepdown = call.op == JS_API_STREAM_STEPDOWN || call.op == JS_API_CONSUMER_STEPDOWN ||
                       call.op == JS_API_META_STEPDOWN;
    if (is_stepdown && js->ctx->peers == NULL) {
        struct api_error e;
        api_error_set(&e, API_ERROR_CLUSTER_REQUIRED, NULL);
        js_api_refuse(js, &call, &e);
        return true;
    }
    return is_meta ? route_meta(js, &call, hops, msg) : route_stream(js, &call, hops, msg);
}

void js_api_route(struct js *js, uint64_t asker, unsigned hops, const struct router_msg *msg)
{
    if (!try_route(js, asker, hops, msg)) {
        wait_for_leader(js, asker, hops, msg);
    }
}

void js_api_pass_on(struct js *js, const struct js_api_call *call, const char *prefix)
{
    struct buf subject = BUF_EMPTY;
    buf_printf(&subject, "%s.%.*s", prefix, SLICE_ARG(call->stream));
    struct router_msg msg = {.subject = buf_slice(&subject),
                             .reply = call->inbox,
                             .header = call->header,
                             .payload = call->body};
    js_api_route(js, call->asker, 0, &msg);
    buf_close(&subject);
}

/* A request that asks for a level we do not have (0.1): answered. */
static bool is_level_refused(struct js *js, const struct router_msg *msg)
{
    struct slice level;
    if (msg->header.len == 0 || !headers_find_str(msg->header, "Nats-Required-Api-Level", &level) ||
        slice_eq_str(level, "0")) {
        return false;
    }
    struct js_api_call call = {.asker = js->ctx->node_id, .inbox = msg->reply};
    struct api_error e;
    bool is_meta;
    if (!js_api_parse(msg->subject, &call, &is_meta)) {
        return false;
    }
    if (js_api_type(call.op) == NULL) {
        js_api_reply(js, call.asker, call.inbox, 0,
                     SLICE_LIT("NATS/1.0 412 Required Api Level\r\n\r\n"), SLICE_EMPTY);
        return true;
    }
    api_error_set(&e, API_ERROR_REQUIRED_API_LEVEL, NULL);
    js_api_refuse(js, &call, &e);
    return true;
}

static void on_request(void *arg, const struct router_msg *msg, const struct router_origin *origin)
{
    struct js *js = arg;
    (void)origin;
    js->api_total++;
    struct watchdog_at was = loop_enter(js->loop, WATCHDOG_API, 0);
    js_lock(js);
    js_calls_asked(js, msg->reply);
    if (!is_level_refused(js, msg)) {
        js_api_route(js, js->ctx->node_id, 0, msg);
    }
    js_unlock(js);
    loop_leave(js->loop, was);
}

/* ---- Acks ---- */

static void on_ack(void *arg, const struct router_msg *msg, const struct router_origin *origin)
{
    struct js *js = arg;
    (void)origin;
    /* Acks are idempotent: one that finds no room comes again with its message. */
    if (!route_ack(js, msg) && js->acks_waiting_count < WAITING_MAX) {
        struct api_waiting *w = wait_new(js, msg->reply, msg->header, msg->payload, true);
        buf_append_slice(&w->subject, msg->subject);
    }
}

/* ---- Publishes ---- */

static bool on_publish(void *arg, const struct router_msg *msg, const struct router_origin *origin)
{
    struct js *js = arg;
    const struct meta_stream *s = js_meta_stream_of(js, msg->subject);
    /* A subject with a wildcard token is no subject to store under: nobody responds. */
    return s != NULL && !js->is_stopping && subject_is_literal(msg->subject) &&
           msg->subject.len <= STORE_SUBJECT_BYTES_MAX && js_lane_publish(js, s, msg, origin);
}

/* ---- Time ---- */

void js_api_wake(struct js *js)
{
    js->is_api_woken = true;
    loop_again(js->loop);
}

static void refuse_late(struct js *js, const struct api_waiting *w)
{
    struct js_api_call call = {.asker = w->asker, .inbox = buf_slice(&w->inbox)};
    struct api_error e;
    bool is_meta;
    if (!w->is_ack && js_api_parse(buf_slice(&w->subject), &call, &is_meta) &&
        js_api_type(call.op) != NULL) {
        api_error_set(&e, API_ERROR_CLUSTER_NOT_AVAIL, NULL);
        js_api_refuse(js, &call, &e);
    }
}

static void retry(struct js *js, struct api_waiting *w, uint64_t now)
{
    if (w->meta_index != 0) {
        /* A reply is late, never wrong: past the deadline it goes out all the same. */
        if (w->meta_index <= js->meta_index || now >= w->until_ms) {
            hand_over(js, w->asker, buf_slice(&w->inbox), w->meta_index, buf_slice(&w->header),
                      buf_slice(&w->body));
            wait_free(js, w);
        }
        return;
    }
    struct router_msg msg = {.subject = buf_slice(&w->subject),
                             .reply = buf_slice(&w->inbox),
                             .header = buf_slice(&w->header),
                             .payload = buf_slice(&w->body)};
    if (w->is_ack ? route_ack(js, &msg) : try_route(js, w->asker, w->hops, &msg)) {
        wait_free(js, w);
    } else if (now >= w->until_ms) {
        refuse_late(js, w);
        wait_free(js, w);
    }
}

void js_api_tick(struct js *js)
{
    uint64_t now = loop_now_ms(js->loop);
    bool is_woken = js->is_api_woken;
    js->is_api_woken = false;
    js_lock(js);
    LIST_FOR_SAFE(it, tmp, &js->api_waiting)
    {
        retry(js, container_of(it, struct api_waiting, link), now);
    }
    js_calls_tick(js, is_woken);
    js_unlock(js);
    js_api_list_tick(js);
}

/* ---- Life ---- */

int js_api_start(struct js *js)
{
    struct router *r = js->ctx->router;
    int rv = router_subscribe_internal(r, SLICE_LIT("$JS.API.>"), SLICE_EMPTY, false, on_request,
                                       js, &js->api_sub);
    if (rv == 0) {
        rv = router_subscribe_internal(r, SLICE_LIT("$JS.ACK.>"), SLICE_EMPTY, false, on_ack, js,
                                       &js->ack_sub);
    }
    if (rv == 0) {
        rv = router_subscribe_internal(r, SLICE_LIT("$JS.FC.>"), SLICE_EMPTY, false, on_ack, js,
                                       &js->flow_sub);
    }
    if (rv == 0) {
        router_set_stream_hook(r, on_publish, js);
    }
    return rv;
}

void js_api_close(struct js *js)
{
    router_set_stream_hook(js->ctx->router, NULL, NULL);
    router_unsubscribe_internal(js->api_sub);
    router_unsubscribe_internal(js->ack_sub);
    router_unsubscribe_internal(js->flow_sub);
    LIST_FOR_SAFE(it, tmp, &js->api_waiting)
    {
        wait_free(js, container_of(it, struct api_waiting, link));
    }
    js_calls_close(js);
    js_api_list_close(js);
}
