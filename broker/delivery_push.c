/* Push consumers: who listens, flow control, rate limit. Rules: jetstream-api.md 4.5.
 *
 * A push consumer is served as if one pull without end waited, for as long as there is interest in
 * its deliver subject. Flow control:
 *
 *   sent, sent, ... more than half of the window --> request, to be confirmed as far as sent
 *     --> confirmed: the window doubles --> ...           beyond the window nothing is sent
 *
 * All of this is the leader's alone and begins anew with each leader. */
#include <stdlib.h>

#include "broker/delivery_state.h"

#define WINDOW_BYTES_FIRST (2u << 20)
#define WINDOW_BYTES_MAX (32u << 20)
#define NS_PER_S 1000000000ull

static struct slice text_or_empty(const char *text)
{
    return text == NULL ? SLICE_EMPTY : slice_str(text);
}

static bool is_listened_to(const struct delivery *d, const struct consumer *c)
{
    return d->options.has_push_interest == NULL ||
           d->options.has_push_interest(d->options.ctx, slice_str(c->config.deliver_subject),
                                        text_or_empty(c->config.deliver_group));
}

bool delivery_is_bound(struct delivery *d, uint64_t consumer)
{
    const struct consumer *c = consumers_by_id(d->cs, consumer);
    return d->is_leading && c != NULL && c->config.deliver_subject != NULL && is_listened_to(d, c);
}

/* ---- Who listens ---- */

static void begin(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                  int64_t now_ns)
{
    struct slice subject = slice_str(c->config.deliver_subject);
    struct slice group = text_or_empty(c->config.deliver_group);
    int64_t heartbeat_ns = c->config.idle_heartbeat_ns;
    struct pull *p = xcalloc(1, sizeof *p + subject.len + group.len);
    p->node = d->options.node;
    p->left = UINT64_MAX;
    p->deadline_ns = INT64_MAX;
    p->heartbeat_ns = heartbeat_ns;
    p->heartbeat_at_ns = heartbeat_ns > 0 ? add_ns(now_ns, heartbeat_ns) : INT64_MAX;
    p->listened_ns = now_ns;
    p->has_listener = true;
    p->is_push = true;
    p->inbox_len = subject.len;
    p->group_len = group.len;
    memcpy(p->inbox, subject.ptr, subject.len);
    if (group.len > 0) {
        memcpy(p->inbox + subject.len, group.ptr, group.len);
    }
    q->push = p;
    q->flow_window = WINDOW_BYTES_FIRST;
    q->flow_sent = 0;
    q->flow_asked = 0;
    q->flow_id = 0;
    pull_wait(q, p);
    delivery_activate(d, q, now_ns);
}

/* Who listens now has seen nothing of what is under way. */
static void deliver_again(struct delivery *d, struct delivery_queue *q, const struct consumer *c)
{
    delivery_flush_acks(d, q);
    for (size_t i = c->pending.head; i < c->pending.tail; i++) {
        const struct pending_entry *entry = &c->pending.entries[i];
        if (entry->state == PENDING_WAITING) {
            d->options.propose(
                d->options.ctx, q->id,
                &(struct progress_item){.kind = PROGRESS_NAK, .seq = entry->seq, .count = 1});
        }
    }
}

void push_look(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
               int64_t now_ns)
{
    struct slice subject = slice_str(c->config.deliver_subject);
    struct slice group = text_or_empty(c->config.deliver_group);
    bool is_elsewhere = q->push_subject != NULL && !slice_eq_str(subject, q->push_subject);
    bool is_heard = is_listened_to(d, c);
    if (q->push != NULL && (!is_heard || is_elsewhere || !slice_eq(pull_group(q->push), group))) {
        pull_finish(d, q, q->push, PULL_SILENT);
    }
    if (is_elsewhere) {
        deliver_again(d, q, c);
    }
    if (is_elsewhere || q->push_subject == NULL) {
        free(q->push_subject);
        q->push_subject = xslicedup(subject);
    }
    if (is_heard && q->push == NULL) {
        begin(d, q, c, now_ns);
    }
    if (is_heard) {
        q->used_ns = now_ns;
    }
}

/* ---- How much at once ---- */

/* How long @bytes take at the consumer's rate. */
static int64_t rate_ns(const struct consumer *c, uint64_t bytes)
{
    double ns = (double)bytes * 8.0 * (double)NS_PER_S / (double)c->config.rate_limit_bps;
    return ns < 1e18 ? (int64_t)ns : (int64_t)1e18;
}

static uint64_t burst_bytes(const struct delivery *d)
{
    int64_t max = stream_get_config(d->cs->stream)->max_msg_size;
    return max > 0 ? (uint64_t)max : d->options.payload_bytes;
}

bool push_has_room(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                   uint64_t cost, int64_t now_ns)
{
    if (c->config.flow_control && q->flow_sent + q->push_bytes > q->flow_window) {
        return false; /* Goes on when the client confirms. */
    }
    if (c->config.rate_limit_bps == 0) {
        return true;
    }
    /* What is larger than the bucket goes when that is full. */
    uint64_t burst = burst_bytes(d);
    uint64_t spare = cost < burst ? burst - cost : 0;
    int64_t wait_ns = q->rate_free_ns - now_ns - rate_ns(c, spare);
    if (wait_ns > 0) {
        q->due_ns = min_ns(q->due_ns, add_ns(now_ns, wait_ns));
        return false;
    }
    return true;
}

void push_planned(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                  uint64_t cost, int64_t now_ns)
{
    (void)d;
    if (c->config.rate_limit_bps > 0) {
        int64_t from_ns = q->rate_free_ns > now_ns ? q->rate_free_ns : now_ns;
        q->rate_free_ns = add_ns(from_ns, rate_ns(c, cost));
    }
}

/* ---- Flow control and heartbeats ---- */

static void print_flow_subject(const struct delivery *d, const struct delivery_queue *q,
                               const struct consumer *c, struct buf *out)
{
    buf_printf(out, "$JS.FC.%s.%s.%llx", d->stream_name, c->name, (unsigned long long)q->flow_id);
}

void push_ask_flow(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                   int64_t now_ns)
{
    if (q->push == NULL || !c->config.flow_control || q->flow_id != 0 ||
        q->flow_sent <= q->flow_window / 2) {
        return;
    }
    /* Not one of an earlier leader's: that confirmed something else. */
    uint64_t id = (uint64_t)now_ns;
    d->last_flow = id > d->last_flow ? id : d->last_flow + 1;
    q->flow_id = d->last_flow;
    q->flow_asked = q->flow_sent;
    buf_clear(&d->header);
    print_flow_subject(d, q, c, &d->header);
    d->options.push_status(d->options.ctx, pull_inbox(q->push), buf_slice(&d->header),
                           SLICE_LIT("NATS/1.0 100 FlowControl Request\r\n\r\n"));
}

void delivery_flow(struct delivery *d, uint64_t consumer, struct slice id, int64_t now_ns)
{
    struct delivery_queue *q = delivery_queue_find(d, consumer);
    char expected[24];
    if (!d->is_leading || q == NULL || q->flow_id == 0) {
        return;
    }
    int len = snprintf(expected, sizeof expected, "%llx", (unsigned long long)q->flow_id);
    if (!slice_eq(id, slice_of(expected, (size_t)len))) {
        return; /* Only the latest counts. */
    }
    q->flow_window = q->flow_window < WINDOW_BYTES_MAX ? q->flow_window * 2 : WINDOW_BYTES_MAX;
    q->flow_sent -= q->flow_asked;
    q->flow_asked = 0;
    q->flow_id = 0;
    q->used_ns = now_ns;
    delivery_activate(d, q, now_ns);
}

void push_heartbeat(struct delivery *d, const struct delivery_queue *q, const struct consumer *c,
                    const struct pull *p)
{
    buf_clear(&d->header);
    buf_append_str(&d->header, "NATS/1.0 100 Idle Heartbeat\r\n");
    delivery_print_last(q, c, &d->header);
    if (q->flow_id != 0) {
        buf_append_str(&d->header, "Nats-Consumer-Stalled: ");
        print_flow_subject(d, q, c, &d->header);
        buf_append_str(&d->header, "\r\n");
    }
    buf_append_str(&d->header, "\r\n");
    d->options.push_status(d->options.ctx, pull_inbox(p), SLICE_EMPTY, buf_slice(&d->header));
}
