/* Requests of this node's clients that are under way to a leader, until they are answered.
 *
 * A leader that dies takes with it what it was asked: on the way to it, in its hands, or proposed
 * and lost. So the node of the client remembers the request. When somebody else leads, what may be
 * asked twice is asked again; when nobody does for long, its client hears that. Of the rest, once
 * the node that was asked is gone, nobody knows what became, and the client hears that at once.
 * What was asked twice is answered once. */
#include "cluster/js_calls.h"

#include <stdlib.h>

#include "broker/api_error.h"
#include "broker/meta.h"
#include "cluster/js_api.h"
#include "cluster/js_api_internal.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_meta.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/router.h"
#include "storage/base/buf.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"

#define CALLS_MAX 10000u /* Beyond it the client's patience is the net. */
#define CALL_MS 5000     /* So long clients wait, as a rule. */
#define LEADER_MS 4000   /* So long for a leader, as requests that never had one (js_api.c). */
#define LOOK_MS 100

struct js_call {
    struct list link;
    uint64_t node_id; /* Who was asked, */
    uint64_t term;    /* as meta's leader of this term; 0: as a stream's. */
    uint64_t until_ms;
    bool is_again;    /* Was asked more than once, */
    bool is_answered; /* and once answered. */
    bool is_shared;   /* Its inbox had another request under way. */
    struct buf subject;
    struct buf header;
    struct buf body;
    UT_hash_handle hh; /* By inbox. */
    size_t inbox_len;
    uint8_t inbox[];
};

static void call_free(struct js *js, struct js_call *c)
{
    list_remove(&c->link);
    HASH_DEL(js->calls, c);
    buf_close(&c->subject);
    buf_close(&c->header);
    buf_close(&c->body);
    free(c);
}

static struct js_call *find(struct js *js, struct slice inbox)
{
    struct js_call *c = NULL;
    if (js->calls != NULL && inbox.len > 0) {
        HASH_FIND(hh, js->calls, inbox.ptr, inbox.len, c);
    }
    return c;
}

static struct js_call *call_new(struct js *js, struct slice inbox)
{
    struct js_call *c = xcalloc(1, sizeof *c + inbox.len);
    c->inbox_len = inbox.len;
    memcpy(c->inbox, inbox.ptr, inbox.len);
    list_init(&c->link);
    list_push_back(&js->calls_list, &c->link);
    HASH_ADD_KEYPTR(hh, js->calls, c->inbox, c->inbox_len, c);
    return c;
}

static bool is_same(const struct js_call *c, const struct router_msg *msg)
{
    return slice_eq(buf_slice(&c->subject), msg->subject) &&
           slice_eq(buf_slice(&c->body), msg->payload);
}

void js_calls_sent(struct js *js, const struct js_api_call *call, uint64_t node_id, uint64_t term,
                   const struct router_msg *msg)
{
    if (call->asker != js->ctx->node_id || call->inbox.len == 0 || js_api_type(call->op) == NULL) {
        return;
    }
    struct js_call *c = find(js, call->inbox);
    if (c == NULL) {
        if (HASH_COUNT(js->calls) >= CALLS_MAX) {
            return;
        }
        c = call_new(js, call->inbox);
        buf_append_slice(&c->subject, msg->subject);
        buf_append_slice(&c->header, msg->header);
        buf_append_slice(&c->body, msg->payload);
        c->until_ms = loop_now_ms(js->loop) + CALL_MS;
    } else if (!is_same(c, msg)) {
        return; /* Two at once for one inbox: the first is remembered. */
    }
    c->node_id = node_id;
    c->term = term;
}

void js_calls_asked(struct js *js, struct slice inbox)
{
    struct js_call *c = find(js, inbox);
    if (c != NULL && c->is_answered) {
        call_free(js, c);
    } else if (c != NULL) {
        c->is_shared = true;
    }
}

bool js_calls_answered(struct js *js, struct slice inbox)
{
    struct js_call *c = find(js, inbox);
    if (c == NULL || c->is_shared) {
        return true;
    }
    bool is_first = !c->is_answered;
    if (c->is_again) {
        c->is_answered = true;
    } else {
        call_free(js, c);
    }
    return is_first;
}

/* Asking twice does what asking once does. */
static bool is_repeatable(const struct js_api_call *call)
{
    switch (call->op) {
    case JS_API_INFO:
    case JS_API_STREAM_CREATE:
    case JS_API_STREAM_UPDATE:
    case JS_API_STREAM_NAMES:
    case JS_API_STREAM_LIST:
    case JS_API_STREAM_INFO:
    case JS_API_LIST_INFO:
    case JS_API_MSG_GET:
    case JS_API_CONSUMER_NAMES:
    case JS_API_CONSUMER_LIST:
    case JS_API_CONSUMER_INFO:
        return true;
    case JS_API_CONSUMER_CREATE:
    case JS_API_CONSUMER_DURABLE:
        return call->consumer.len > 0; /* Else each has a name of its own. */
    default:
        return false;
    }
}

/* Who is to be asked now; 0: nobody known. */
static uint64_t leader_of(struct js *js, const struct js_api_call *call, bool is_meta)
{
    const struct meta_stream *s = is_meta ? NULL : meta_stream_find(js->meta, call->stream);
    if (s == NULL) {
        return js->is_meta_leader ? js->ctx->node_id : js->meta_leader_id;
    }
    struct js_stream *st = js_stream_find(js, s->gid);
    return st != NULL && st->is_led ? js->ctx->node_id : js_lane_leader_of(js, s->gid);
}

static void look_at(struct js *js, struct js_call *c)
{
    bool is_meta;
    struct js_api_call call = {.asker = js->ctx->node_id,
                               .subject = buf_slice(&c->subject),
                               .inbox = slice_of(c->inbox, c->inbox_len),
                               .header = buf_slice(&c->header),
                               .body = buf_slice(&c->body)};
    if (!js_api_parse(call.subject, &call, &is_meta)) {
        return;
    }
    uint64_t leader = leader_of(js, &call, is_meta);
    bool is_led_on = leader == c->node_id && (c->term == 0 || c->term == js->meta_leader_term);
    if (is_led_on) {
        return;
    }
    bool is_late = loop_now_ms(js->loop) + CALL_MS - LEADER_MS >= c->until_ms;
    bool is_lost = is_repeatable(&call) ? leader == 0 && is_late : !js_node_is_up(js, c->node_id);
    if (is_lost) {
        struct api_error e;
        api_error_set(&e, API_ERROR_CLUSTER_NOT_AVAIL, NULL);
        c->is_again = true; /* Whatever still comes is too late. */
        js_api_refuse(js, &call, &e);
    } else if (is_repeatable(&call) && leader != 0) {
        c->is_again = true;
        struct router_msg msg = {.subject = call.subject,
                                 .reply = call.inbox,
                                 .header = call.header,
                                 .payload = call.body};
        js_api_route(js, js->ctx->node_id, 0, &msg);
    }
}

void js_calls_tick(struct js *js, bool is_now)
{
    uint64_t now = loop_now_ms(js->loop);
    if (!is_now && now - js->calls_ms < LOOK_MS) {
        return;
    }
    js->calls_ms = now;
    LIST_FOR_SAFE(it, tmp, &js->calls_list)
    {
        struct js_call *c = container_of(it, struct js_call, link);
        if (now >= c->until_ms) {
            call_free(js, c);
        } else if (!c->is_answered) {
            look_at(js, c);
        }
    }
}

void js_calls_close(struct js *js)
{
    LIST_FOR_SAFE(it, tmp, &js->calls_list)
    {
        call_free(js, container_of(it, struct js_call, link));
    }
}
