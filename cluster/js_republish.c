/* Republish (reference/jetstream-api.md 6.7): each message that was stored goes out once more, to
 * all who are subscribed, under the subject its transform makes, with headers that say where it is
 * from.
 *
 * It goes out after it was applied, from the node that proposed it, and only once: what a leader
 * stored and had not sent when it died nobody sends. Who must have every message reads the stream.
 */
#include "cluster/js_republish.h"

#include <stdio.h>

#include "broker/headers.h"
#include "broker/json_fields.h"
#include "broker/stream.h"
#include "broker/stream_config.h"
#include "broker/subject.h"
#include "broker/subject_transform.h"
#include "cluster/js_internal.h"
#include "cluster/js_stream.h"
#include "cluster/node.h"
#include "cluster/router.h"
#include "storage/base/buf.h"
#include "storage/store.h"

void js_republish_close(struct js_stream *st)
{
    subject_transform_free(st->republish);
    st->republish = NULL;
}

void js_republish_config(struct js_stream *st)
{
    js_republish_close(st);
    /* Refused by whoever reads a configuration. */
    (void)stream_config_republish(stream_get_config(st->machine), &st->republish);
}

static void add_number(struct buf *out, const char *name, uint64_t value)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    headers_add(out, name, slice_of(text, (size_t)len));
}

static void add_headers(const struct js_stream *st, const struct effect_store *m,
                        bool is_headers_only, struct buf *out)
{
    struct buf time = BUF_EMPTY;
    json_print_time(&time, m->time_ns);
    if (headers_is_valid(m->header)) {
        buf_append(out, m->header.ptr, m->header.len - 2); /* Without the empty line at its end. */
    } else {
        headers_begin(out);
    }
    headers_add(out, "Nats-Stream", slice_str(st->name));
    headers_add(out, "Nats-Subject", m->subject);
    add_number(out, "Nats-Sequence", m->seq);
    headers_add(out, "Nats-Time-Stamp", buf_slice(&time));
    add_number(out, "Nats-Last-Sequence", m->last_subject_seq);
    if (is_headers_only) {
        add_number(out, "Nats-Msg-Size", m->payload.len);
    }
    headers_end(out);
    buf_close(&time);
}

void js_republish(struct js_stream *st, const struct effect_store *effect)
{
    struct router *router = st->js->ctx->router;
    struct buf subject = BUF_EMPTY;
    if (st->republish != NULL &&
        subject_transform_apply(st->republish, effect->subject, node_random(),
                                STORE_SUBJECT_BYTES_MAX, &subject) == TRANSFORM_DONE &&
        subject_is_literal(buf_slice(&subject))) {
        bool is_headers_only = stream_get_config(st->machine)->republish.headers_only;
        struct buf header = BUF_EMPTY;
        add_headers(st, effect, is_headers_only, &header);
        router_send(router, buf_slice(&subject), SLICE_EMPTY, buf_slice(&header),
                    is_headers_only ? SLICE_EMPTY : effect->payload);
        buf_close(&header);
    }
    buf_close(&subject);
}
