/* Messages of a stream on their way out: read from the tail or the cache at once, or through the
 * pool, in the order in which they were asked for. */
#include "cluster/js_send.h"

#include <stdlib.h>

#include "broker/consumer.h"
#include "broker/delivery.h"
#include "broker/headers.h"
#include "broker/stream.h"
#include "cluster/js_batch.h"
#include "cluster/js_internal.h"
#include "cluster/js_leader.h"
#include "cluster/js_mend.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/router.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/list.h"
#include "storage/base/log.h"
#include "storage/store.h"

#define SKIP_TELL_MS 1000u
#define MEND_WAIT_MS 5000u /* So long a reader waits for what is damaged here. */

/* One message that waits for its block, or behind one that does. */
struct js_send {
    struct list link;
    struct js_stream *st; /* NULL once the stream is gone. */
    uint64_t seq;         /* 0: nothing to read, only its turn is waited for. */
    js_read_cb cb;
    void *arg;
    bool is_reading;
    uint64_t damaged_ms; /* Since when it waits to be mended; 0: it does not. */
    struct store_read read;
};

/* What a delivery needs when its bytes are there. */
struct delivery_out {
    uint64_t node;
    uint64_t consumer;
    uint64_t seq;
    uint64_t delivery_count;
    bool is_headers_only;
    bool is_push; /* With acks, which make it needless. */
    struct buf inbox;
    struct buf reply;
};

static void pump(struct js_stream *st);

static void answer(struct js_stream *st, struct js_send *s, int status, const struct store_view *v)
{
    list_remove(&s->link);
    st->sends_count--;
    s->cb(st, s->arg, status, v);
    free(s);
}

static void on_read(void *arg)
{
    struct js_send *s = arg;
    struct js_stream *st = s->st;
    s->is_reading = false;
    int rv = store_read_done(&s->read);
    if (st == NULL) {
        s->cb(NULL, s->arg, ERR_NOTFOUND, NULL);
        free(s);
        return;
    }
    if (rv != 0 && rv != ERR_AGAIN && rv != ERR_CORRUPT) {
        answer(st, s, rv, NULL);
    }
    pump(st);
    if (st->is_led) {
        js_leader_turn_wanted(st); /* Deliveries may have waited for room. */
    }
}

static void run_read(void *arg)
{
    struct js_send *s = arg;
    store_read_run(&s->read);
}

/* A damaged message is waited for while another replica may have it: nothing behind it overtakes,
 * and nobody hears that it is not there. */
static bool waits_for_mending(struct js_stream *st, struct js_send *s)
{
    uint64_t now = loop_now_ms(st->js->loop);
    if (js_mend_is_lost(st, s->seq)) {
        return false;
    }
    s->damaged_ms = s->damaged_ms == 0 ? now : s->damaged_ms;
    if (now - s->damaged_ms >= MEND_WAIT_MS) {
        return false;
    }
    js_mend_wanted(st);
    return true;
}

/* Serve from the front as long as it takes no waiting. */
static void pump(struct js_stream *st)
{
    while (!list_is_empty(&st->sends)) {
        struct js_send *s = container_of(st->sends.next, struct js_send, link);
        struct store_view view;
        if (s->is_reading) {
            return;
        }
        if (s->seq == 0) {
            answer(st, s, 0, NULL);
            continue;
        }
        int rv = store_read(st->store, s->seq, &view);
        if (rv == ERR_AGAIN) {
            rv = store_read_start(st->store, s->seq, &s->read);
            if (rv == 0) {
                s->is_reading = true;
                loop_work(st->js->loop, run_read, on_read, s);
                return;
            }
            if (rv == ERR_EXISTS) {
                continue;
            }
        }
        if (rv == ERR_CORRUPT && waits_for_mending(st, s)) {
            return;
        }
        answer(st, s, rv, rv == 0 ? &view : NULL);
    }
}

void js_send_resume(struct js_stream *st)
{
    pump(st);
    if (st->is_led) {
        js_leader_turn_wanted(st);
    }
}

void js_send_read(struct js_stream *st, uint64_t seq, js_read_cb cb, void *arg)
{
    struct js_send *s = xcalloc(1, sizeof *s);
    s->st = st;
    s->seq = seq;
    s->cb = cb;
    s->arg = arg;
    list_push_back(&st->sends, &s->link);
    st->sends_count++;
    pump(st);
}

void js_send_close(struct js_stream *st)
{
    st->sends_count = 0;
    LIST_FOR_SAFE(it, tmp, &st->sends)
    {
        struct js_send *s = container_of(it, struct js_send, link);
        list_remove(&s->link);
        s->st = NULL;
        if (!s->is_reading) {
            s->cb(NULL, s->arg, ERR_NOTFOUND, NULL);
            free(s);
        }
    }
}

/* ---- Deliveries ---- */

static void put_out(struct js *js, uint64_t node, struct slice inbox, struct slice reply,
                    const struct store_view *v, bool is_headers_only)
{
    struct buf header = BUF_EMPTY;
    struct router_msg msg = {
        .subject = v->subject, .reply = reply, .header = v->header, .payload = v->payload};
    if (is_headers_only) {
        char digits[24];
        int n = snprintf(digits, sizeof digits, "%zu", v->payload.len);
        headers_append(&header, v->header, "Nats-Msg-Size", slice_of(digits, (size_t)n));
        msg.header = buf_slice(&header);
        msg.payload = SLICE_EMPTY;
    }
    if (node == js->ctx->node_id) {
        msg.shown = msg.subject;
        msg.subject = inbox;
        router_publish(js->ctx->router, &msg, &ROUTER_ORIGIN_NODE);
    } else {
        struct buf *b = js_batch_begin(js, node, JS_ITEM_DELIVER);
        js_batch_put_slice(b, inbox);
        js_batch_put_slice(b, msg.subject);
        js_batch_put_slice(b, msg.reply);
        js_batch_put_slice(b, msg.header);
        js_batch_put_slice(b, msg.payload);
        js_batch_end(js, node);
    }
    buf_close(&header);
}

void js_send_tell_skipped(struct js_stream *st)
{
    struct js_skipped *s = &st->skipped;
    if (s->count == 0) {
        return;
    }
    const struct consumer *c = consumers_by_id(stream_get_consumers(st->machine), s->consumer);
    log_err("messages_skipped stream=%s consumer=%s first=%llu last=%llu count=%llu: damaged, not "
            "mended in time, and not delivered again",
            st->name, c == NULL ? "" : c->name, (unsigned long long)s->first_seq,
            (unsigned long long)s->last_seq, (unsigned long long)s->count);
    s->count = 0;
}

void js_send_tick(struct js_stream *st)
{
    if (st->skipped.count > 0 && loop_now_ms(st->js->loop) - st->skipped.since_ms >= SKIP_TELL_MS) {
        js_send_tell_skipped(st);
    }
}

/* The deadline brings a message back, but not to a consumer without acks, nor at the last of the
 * deliveries it may have. Its numbers show a gap; the log says what is missing. */
static void note_skipped(struct js_stream *st, const struct delivery_out *d)
{
    struct js_skipped *s = &st->skipped;
    const struct consumer *c = consumers_by_id(stream_get_consumers(st->machine), d->consumer);
    bool is_last =
        c != NULL &&
        (c->config.ack_policy == ACK_NONE ||
         (c->config.max_deliver > 0 && d->delivery_count >= (uint64_t)c->config.max_deliver));
    if (!is_last) {
        return;
    }
    if (s->count > 0 && (s->consumer != d->consumer || d->seq < s->last_seq)) {
        js_send_tell_skipped(st);
    }
    if (s->count == 0) {
        *s = (struct js_skipped){
            .consumer = d->consumer, .first_seq = d->seq, .since_ms = loop_now_ms(st->js->loop)};
    }
    s->last_seq = d->seq;
    s->count++;
}

/* Acknowledged while it was read: its confirmation is out, and the message must not follow it. A
 * pull counts on what it was promised, and gets it all the same. */
static bool is_needless(struct js_stream *st, const struct delivery_out *d)
{
    if (!d->is_push) {
        return false;
    }
    const struct consumer *c = consumers_by_id(stream_get_consumers(st->machine), d->consumer);
    return c == NULL || consumer_pending(c, d->seq) == NULL;
}

static void on_late(struct js_stream *st, void *arg, int status, const struct store_view *view)
{
    struct delivery_out *d = arg;
    if (st != NULL && view != NULL && !is_needless(st, d)) {
        put_out(st->js, d->node, buf_slice(&d->inbox), buf_slice(&d->reply), view,
                d->is_headers_only);
    } else if (st != NULL && status == ERR_CORRUPT) {
        note_skipped(st, d); /* Else it is gone meanwhile. */
    }
    buf_close(&d->inbox);
    buf_close(&d->reply);
    free(d);
}

void js_send_deliver(struct js_stream *st, const struct effect_deliver *e)
{
    struct consumer *c = consumers_by_id(stream_get_consumers(st->machine), e->consumer);
    bool is_headers_only = c != NULL && c->config.headers_only;
    struct store_view view;
    if (list_is_empty(&st->sends) && store_read(st->store, e->seq, &view) == 0) {
        struct buf *reply = &st->ack_reply;
        buf_clear(reply);
        delivery_ack_reply(st->delivery, e, reply);
        put_out(st->js, e->node, e->destination, buf_slice(reply), &view, is_headers_only);
        return;
    }
    struct delivery_out *d = xcalloc(1, sizeof *d);
    d->node = e->node;
    d->consumer = e->consumer;
    d->seq = e->seq;
    d->delivery_count = e->delivery_count;
    d->is_headers_only = is_headers_only;
    d->is_push = c != NULL && c->config.deliver_subject != NULL && c->config.ack_policy != ACK_NONE;
    buf_append_slice(&d->inbox, e->destination);
    delivery_ack_reply(st->delivery, e, &d->reply);
    js_send_read(st, e->seq, on_late, d);
}

/* ---- Statuses of push consumers ---- */

struct status_out {
    struct buf subject;
    struct buf reply;
    struct buf header;
};

static void on_status_turn(struct js_stream *st, void *arg, int status,
                           const struct store_view *view)
{
    (void)status;
    (void)view;
    struct status_out *o = arg;
    if (st != NULL) {
        router_send(st->js->ctx->router, buf_slice(&o->subject), buf_slice(&o->reply),
                    buf_slice(&o->header), SLICE_EMPTY);
    }
    buf_close(&o->subject);
    buf_close(&o->reply);
    buf_close(&o->header);
    free(o);
}

/* One that overtakes a message counts that message as delivered already, and who reads in order
 * would take it for lost. */
void js_send_status(struct js_stream *st, struct slice subject, struct slice reply,
                    struct slice header)
{
    if (list_is_empty(&st->sends)) {
        router_send(st->js->ctx->router, subject, reply, header, SLICE_EMPTY);
        return;
    }
    struct status_out *o = xcalloc(1, sizeof *o);
    buf_append_slice(&o->subject, subject);
    buf_append_slice(&o->reply, reply);
    buf_append_slice(&o->header, header);
    js_send_read(st, 0, on_status_turn, o);
}
