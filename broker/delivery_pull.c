/* Pull requests: arrival, waiting, and how they end. Rules and texts: jetstream-api.md 4.1 to 4.3.
 */
#include <assert.h>
#include <stdlib.h>

#include "broker/delivery_state.h"

#define SWEEP_NS 1000000000ll /* A full queue looks for dead pulls once in this time. */
#define WAITING_DEFAULT 512u

/* ---- Status messages ---- */

static void send_header(struct delivery *d, uint64_t node, struct slice inbox)
{
    d->options.status(d->options.ctx, node, inbox, buf_slice(&d->header));
}

static void refuse(struct delivery *d, uint64_t node, struct slice inbox, const char *status)
{
    buf_clear(&d->header);
    buf_printf(&d->header, "NATS/1.0 %s\r\n\r\n", status);
    send_header(d, node, inbox);
}

static void send_pending(struct delivery *d, const struct pull *p, const char *status)
{
    buf_clear(&d->header);
    buf_printf(&d->header,
               "NATS/1.0 %s\r\nNats-Pending-Messages: %lld\r\nNats-Pending-Bytes: %llu\r\n\r\n",
               status, (long long)p->left - (long long)p->short_by,
               (unsigned long long)(p->has_bytes ? p->bytes_left : 0));
    send_header(d, p->node, pull_inbox(p));
}

void delivery_print_last(const struct delivery_queue *q, const struct consumer *c, struct buf *out)
{
    struct sequence_pair last = c->delivered;
    if (c->lead_seq != 0) {
        last = (struct sequence_pair){q->lead_consumer_seq, c->lead_seq - 1};
    }
    buf_printf(out, "Nats-Last-Consumer: %llu\r\nNats-Last-Stream: %llu\r\n",
               (unsigned long long)last.consumer_seq, (unsigned long long)last.stream_seq);
}

static void send_heartbeat(struct delivery *d, const struct pull *p, const struct delivery_queue *q,
                           const struct consumer *c)
{
    if (p->is_push) {
        push_heartbeat(d, q, c, p);
        return;
    }
    buf_clear(&d->header);
    buf_append_str(&d->header, "NATS/1.0 100 Idle Heartbeat\r\n");
    delivery_print_last(q, c, &d->header);
    buf_append_str(&d->header, "\r\n");
    send_header(d, p->node, pull_inbox(p));
}

static void send_end(struct delivery *d, const struct pull *p)
{
    switch (p->end) {
    case PULL_OPEN:
    case PULL_SILENT:
        break;
    case PULL_BATCH:
        if (p->has_bytes && p->bytes_left > 0) {
            send_pending(d, p, "409 Batch Completed");
        }
        break;
    case PULL_NO_MESSAGES:
        refuse(d, p->node, pull_inbox(p), "404 No Messages");
        break;
    case PULL_TIMEOUT:
        send_pending(d, p, "408 Request Timeout");
        break;
    case PULL_TOO_LARGE:
        send_pending(d, p, "409 Message Size Exceeds MaxBytes");
        break;
    }
}

/* ---- Waiting ---- */

static uint64_t add_capped(uint64_t a, uint64_t b)
{
    return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

static void enter_waiting(struct delivery_queue *q, struct pull *p)
{
    p->end = PULL_OPEN;
    q->waiting_count++;
    q->no_wait_count += p->no_wait;
    q->demand = add_capped(q->demand, p->left);
    q->due_ns = min_ns(q->due_ns, min_ns(p->deadline_ns, p->heartbeat_at_ns));
}

void pull_wait(struct delivery_queue *q, struct pull *p)
{
    enter_waiting(q, p);
    list_push_back(&q->waiting, &p->link);
}

static void leave_waiting(struct delivery_queue *q, struct pull *p)
{
    assert(p->end == PULL_OPEN);
    list_remove(&p->link);
    q->waiting_count--;
    q->no_wait_count -= p->no_wait;
    q->demand = q->demand == UINT64_MAX ? q->demand : q->demand - p->left;
    if (q->waiting_count == 0) {
        q->demand = 0;
        q->due_ns = INT64_MAX;
    }
}

void pull_take(struct delivery_queue *q, struct pull *p, uint64_t n)
{
    assert(p->left >= n);
    p->left -= n;
    p->served += n;
    q->demand = q->demand == UINT64_MAX ? q->demand : q->demand - n;
}

void pull_give_back(struct delivery *d, struct delivery_queue *q, struct pull *p, uint64_t n,
                    uint64_t cost, int64_t now_ns)
{
    p->served -= n;
    if (p->has_bytes) {
        p->bytes_left += cost;
    }
    if (p->end == PULL_BATCH) { /* It had all it wanted, and now has not. */
        p->left += n;
        list_remove(&p->link);
        enter_waiting(q, p);
        list_push_front(&q->waiting, &p->link);
        delivery_activate(d, q, now_ns);
        return;
    }
    p->left = add_capped(p->left, n);
    if (p->end == PULL_OPEN) {
        q->demand = add_capped(q->demand, n);
    }
}

/* Asked once per moment: what is planned or committed together shares the answer. */
bool pull_is_heard(struct delivery *d, struct pull *p, int64_t now_ns)
{
    if (p->is_push) {
        if (d->options.has_push_interest != NULL && p->listened_ns != now_ns) {
            p->has_listener =
                d->options.has_push_interest(d->options.ctx, pull_inbox(p), pull_group(p));
            p->listened_ns = now_ns;
        }
    } else if (d->options.has_interest != NULL && p->listened_ns != now_ns) {
        p->has_listener = d->options.has_interest(d->options.ctx, p->node, pull_inbox(p));
        p->listened_ns = now_ns;
    }
    return p->has_listener;
}

void pull_finish(struct delivery *d, struct delivery_queue *q, struct pull *p, enum pull_end end)
{
    leave_waiting(q, p);
    if (q->push == p) {
        q->push = NULL;
    }
    p->end = end;
    if (p->in_flight > 0) {
        list_push_back(&q->ended, &p->link);
        return;
    }
    send_end(d, p);
    free(p);
}

void pulls_finish_ready(struct delivery *d)
{
    struct list *it;
    while ((it = list_pop_front(&d->ready)) != NULL) {
        struct pull *p = container_of(it, struct pull, link);
        send_end(d, p);
        free(p);
    }
}

void pulls_sweep(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                 int64_t now_ns)
{
    int64_t due_ns = INT64_MAX;
    LIST_FOR_SAFE(it, tmp, &q->waiting)
    {
        struct pull *p = container_of(it, struct pull, link);
        if (p->deadline_ns <= now_ns) {
            pull_finish(d, q, p, PULL_TIMEOUT);
            continue;
        }
        if (!pull_is_heard(d, p, now_ns)) {
            pull_finish(d, q, p, PULL_SILENT);
            continue;
        }
        if (p->heartbeat_at_ns <= now_ns) {
            send_heartbeat(d, p, q, c);
            p->heartbeat_at_ns = add_ns(now_ns, p->heartbeat_ns);
        }
        due_ns = min_ns(due_ns, min_ns(p->deadline_ns, p->heartbeat_at_ns));
    }
    q->due_ns = due_ns;
}

static void drop_list(struct delivery *d, struct list *pulls, const char *status, bool with_pending)
{
    struct list *it;
    while ((it = list_pop_front(pulls)) != NULL) {
        struct pull *p = container_of(it, struct pull, link);
        if (p->is_push) {
            free(p); /* Clients of push consumers see the silence. */
            continue;
        }
        if (status != NULL && with_pending) {
            send_pending(d, p, status);
        } else if (status != NULL) {
            refuse(d, p->node, pull_inbox(p), status);
        }
        free(p);
    }
}

void pulls_drop(struct delivery *d, struct delivery_queue *q, const char *status, bool with_pending)
{
    drop_list(d, &q->waiting, status, with_pending);
    drop_list(d, &q->ended, status, with_pending);
    q->push = NULL;
    q->waiting_count = 0;
    q->no_wait_count = 0;
    q->demand = 0;
    q->due_ns = INT64_MAX;
}

/* ---- Arrival ---- */

/* Beyond what the consumer allows: answered. */
static bool exceeds_caps(struct delivery *d, const struct consumer_config *config, uint64_t node,
                         struct slice inbox, const struct pull_request *r)
{
    buf_clear(&d->header);
    buf_append_str(&d->header, "NATS/1.0 409 Exceeded ");
    if (config->max_batch > 0 && r->batch > (uint64_t)config->max_batch) {
        buf_printf(&d->header, "MaxRequestBatch of %lld", (long long)config->max_batch);
    } else if (config->max_expires_ns > 0 && r->expires_ns > config->max_expires_ns) {
        buf_append_str(&d->header, "MaxRequestExpires of ");
        duration_print(&d->header, config->max_expires_ns);
    } else if (config->max_bytes > 0 && r->max_bytes > config->max_bytes) {
        buf_printf(&d->header, "MaxRequestMaxBytes of %lld", (long long)config->max_bytes);
    } else {
        return false;
    }
    buf_append_str(&d->header, "\r\n\r\n");
    send_header(d, node, inbox);
    return true;
}

static size_t waiting_max(const struct consumer *c)
{
    int64_t max = c->config.max_waiting > 0 ? c->config.max_waiting : WAITING_DEFAULT;
    return max < (int64_t)DELIVERY_WAITING_MAX ? (size_t)max : DELIVERY_WAITING_MAX;
}

/* A request that does not want to wait, when there is nothing for it: answered. */
static bool is_refused_no_wait(struct delivery *d, struct delivery_queue *q, struct consumer *c,
                               uint64_t node, struct slice inbox, const struct pull_request *r,
                               int64_t now_ns)
{
    uint64_t available = plan_available(d, q, c);
    if (available == 0 && r->expires_ns == 0) {
        q->used_ns = now_ns;
        refuse(d, node, inbox, "404 No Messages");
        return true;
    }
    if (available == 0 || available >= q->demand) {
        return false;
    }
    pulls_sweep(d, q, c, now_ns); /* Not for those who are gone. */
    if (available >= q->demand) {
        return false;
    }
    q->used_ns = now_ns;
    refuse(d, node, inbox, "408 Requests Pending");
    return true;
}

static void add_waiting(struct delivery_queue *q, uint64_t node, struct slice inbox,
                        const struct pull_request *r, int64_t now_ns)
{
    struct pull *p = xcalloc(1, sizeof *p + inbox.len);
    p->node = node;
    p->left = r->batch;
    p->short_by = r->short_by;
    p->has_bytes = r->max_bytes > 0;
    p->bytes_left = (uint64_t)r->max_bytes;
    p->deadline_ns = INT64_MAX;
    if (r->expires_ns > 0) {
        p->deadline_ns = add_ns(now_ns, r->expires_ns);
    } else if (r->expires_ns < 0) {
        p->deadline_ns = now_ns;
    }
    p->heartbeat_ns = r->heartbeat_ns;
    p->heartbeat_at_ns = r->heartbeat_ns > 0 ? add_ns(now_ns, r->heartbeat_ns) : INT64_MAX;
    p->listened_ns = INT64_MIN;
    p->has_listener = true;
    p->no_wait = r->no_wait;
    p->inbox_len = inbox.len;
    memcpy(p->inbox, inbox.ptr, inbox.len);
    pull_wait(q, p);
}

void delivery_pull(struct delivery *d, uint64_t consumer, uint64_t node, struct slice inbox,
                   struct slice body, int64_t now_ns)
{
    struct consumer *c = consumers_by_id(d->cs, consumer);
    if (!d->is_leading || c == NULL || inbox.len == 0 || inbox.len > DELIVERY_INBOX_BYTES_MAX) {
        return;
    }
    if (c->config.deliver_subject != NULL) {
        refuse(d, node, inbox, "409 Consumer is push based");
        return;
    }
    struct pull_request r;
    const char *error = pull_request_parse(body, &r);
    if (error != NULL) {
        buf_clear(&d->header);
        buf_printf(&d->header, "NATS/1.0 400 Bad Request - %s\r\n\r\n", error);
        send_header(d, node, inbox);
        return;
    }
    if (exceeds_caps(d, &c->config, node, inbox, &r)) {
        return;
    }
    struct delivery_queue *q = delivery_queue_get(d, c, now_ns);
    if (q->waiting_count >= waiting_max(c) && now_ns - q->swept_ns >= SWEEP_NS) {
        q->swept_ns = now_ns;
        pulls_sweep(d, q, c, now_ns);
    }
    if (r.no_wait && is_refused_no_wait(d, q, c, node, inbox, &r, now_ns)) {
        return;
    }
    if (q->waiting_count >= waiting_max(c)) {
        /* With heartbeats silence is the better answer: else the client asks again at once. */
        if (r.heartbeat_ns == 0) {
            refuse(d, node, inbox, "409 Exceeded MaxWaiting");
        }
        return;
    }
    add_waiting(q, node, inbox, &r, now_ns);
    q->used_ns = now_ns;
    delivery_activate(d, q, now_ns);
}
