/* Advisories (reference/jetstream-api.md 1.7): a message each, sent once by the node that decided
 * what it tells, and not when nobody listens and no stream takes it. They are gathered while
 * entries are applied and sent in the turn of the loop behind it; who must not miss one asks for
 * the state. */
#include "cluster/js_advisory.h"

#include <stdlib.h>

#include "broker/consumer.h"
#include "broker/json_fields.h"
#include "broker/stream.h"
#include "broker/stream_config.h"
#include "cluster/js_api.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_meta_effects.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/router.h"
#include "storage/base/buf.h"
#include "storage/base/list.h"

#define TYPE "io.nats.jetstream.advisory.v1."
#define SUBJECT "$JS.EVENT.ADVISORY."
#define WAITING_MAX 4096u /* Of one turn; what is more is dropped. */
#define ID_CHARS 22       /* As many as the reference's. */

struct js_advisory {
    struct list link;
    struct buf subject;
    struct buf payload;
};

static bool is_wanted(struct js *js, struct slice subject)
{
    return router_is_interest(js->ctx->router, subject) || js_meta_stream_of(js, subject) != NULL;
}

static void advisory_free(struct js *js, struct js_advisory *a)
{
    list_remove(&a->link);
    js->advisories_count--;
    buf_close(&a->subject);
    buf_close(&a->payload);
    free(a);
}

static void print_id(struct buf *out)
{
    static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t r = 0;
    for (int i = 0; i < ID_CHARS; i++) {
        r = i % 10 == 0 ? node_random() : r / 62;
        buf_append_u8(out, (uint8_t)alphabet[r % 62]);
    }
}

/* Begin one of @type: the members all have, and those that name what it is about. NULL: nobody
 * wants it. @consumer may be empty. */
static struct js_advisory *begin(struct js *js, const char *subject, const char *type,
                                 struct slice stream, struct slice consumer)
{
    struct buf text = BUF_EMPTY;
    buf_printf(&text, SUBJECT "%s.%.*s", subject, SLICE_ARG(stream));
    if (consumer.len > 0) {
        buf_printf(&text, ".%.*s", SLICE_ARG(consumer));
    }
    if (js->advisories_count >= WAITING_MAX || !is_wanted(js, buf_slice(&text))) {
        buf_close(&text);
        return NULL;
    }
    struct js_advisory *a = xcalloc(1, sizeof *a);
    a->subject = text;
    buf_printf(&a->payload, "{\"type\":\"" TYPE "%s\",\"id\":\"", type);
    print_id(&a->payload);
    buf_append_str(&a->payload, "\",\"timestamp\":\"");
    json_print_time(&a->payload, js_now_ns(js));
    buf_append_str(&a->payload, "\",\"stream\":");
    json_print_string(&a->payload, stream);
    if (consumer.len > 0) {
        buf_append_str(&a->payload, ",\"consumer\":");
        json_print_string(&a->payload, consumer);
    }
    list_push_back(&js->advisories, &a->link);
    js->advisories_count++;
    loop_again(js->loop);
    return a;
}

static void print_action(struct js_advisory *a, enum js_action action)
{
    static const char *const words[] = {"create", "modify", "delete"};
    if (a != NULL) {
        buf_printf(&a->payload, ",\"action\":\"%s\"}", words[action]);
    }
}

void js_advisory_stream(struct js *js, struct slice stream, enum js_action action)
{
    static const char *const subjects[] = {"STREAM.CREATED", "STREAM.UPDATED", "STREAM.DELETED"};
    print_action(begin(js, subjects[action], "stream_action", stream, SLICE_EMPTY), action);
}

void js_advisory_leader(struct js_stream *st)
{
    if (stream_get_config(st->machine)->replicas_count <= 1) {
        return;
    }
    struct js_advisory *a = begin(st->js, "STREAM.LEADER_ELECTED", "stream_leader_elected",
                                  slice_str(st->name), SLICE_EMPTY);
    if (a != NULL) {
        buf_append_str(&a->payload, ",\"leader\":");
        json_print_string(&a->payload, slice_str(st->js->ctx->server_name));
        buf_append_str(&a->payload, ",\"replicas\":");
        js_api_print_replicas(st, &a->payload);
        buf_append_u8(&a->payload, '}');
    }
}

void js_advisory_consumer(struct js_stream *st, struct slice consumer, enum js_action action)
{
    const char *subject = action == JS_ACTION_CREATE ? "CONSUMER.CREATED" : "CONSUMER.DELETED";
    print_action(begin(st->js, subject, "consumer_action", slice_str(st->name), consumer), action);
}

void js_advisory_message(struct js_stream *st, const struct effect_advisory *effect)
{
    static const struct {
        const char *subject;
        const char *type;
    } kinds[] = {[ADVISORY_MAX_DELIVER] = {"CONSUMER.MAX_DELIVERIES", "max_deliver"},
                 [ADVISORY_TERMINATED] = {"CONSUMER.MSG_TERMINATED", "terminated"},
                 [ADVISORY_NAK] = {"CONSUMER.MSG_NAKED", "nak"}};
    const struct consumer *c = consumers_by_id(stream_get_consumers(st->machine), effect->consumer);
    struct js_advisory *a =
        c == NULL ? NULL
                  : begin(st->js, kinds[effect->type].subject, kinds[effect->type].type,
                          slice_str(st->name), slice_str(c->name));
    if (a == NULL) {
        return;
    }
    if (effect->type != ADVISORY_MAX_DELIVER) {
        buf_printf(&a->payload, ",\"consumer_seq\":%llu", (unsigned long long)effect->consumer_seq);
    }
    buf_printf(&a->payload, ",\"stream_seq\":%llu,\"deliveries\":%llu",
               (unsigned long long)effect->seq, (unsigned long long)effect->delivery_count);
    if (effect->type == ADVISORY_TERMINATED && effect->text.len > 0) {
        buf_append_str(&a->payload, ",\"reason\":");
        json_print_string(&a->payload, effect->text);
    }
    buf_append_u8(&a->payload, '}');
}

void js_advisory_turn(struct js *js)
{
    struct list now;
    list_init(&now);
    list_splice(&now, &js->advisories); /* Sending may have a stream take it, and tell more. */
    LIST_FOR_SAFE(it, tmp, &now)
    {
        struct js_advisory *a = container_of(it, struct js_advisory, link);
        router_send(js->ctx->router, buf_slice(&a->subject), SLICE_EMPTY, SLICE_EMPTY,
                    buf_slice(&a->payload));
        advisory_free(js, a);
    }
}

void js_advisory_close(struct js *js)
{
    LIST_FOR_SAFE(it, tmp, &js->advisories)
    {
        advisory_free(js, container_of(it, struct js_advisory, link));
    }
}
