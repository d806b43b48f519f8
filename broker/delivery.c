#include "broker/delivery.h"

#include <assert.h>
#include <stdlib.h>

#include "broker/delivery_state.h"

#define ACK_RUN_MAX 4096u
#define REASON_BYTES_MAX 4096u
#define IDLE_SCAN_NS 250000000ll
#define PUSH_LOOK_NS 50000000ll /* So often for interest in deliver subjects. */
#define DELETE_AGAIN_NS 60000000000ll

/* ---- Life ---- */

struct delivery *delivery_new(struct consumers *cs, struct slice stream_name,
                              const struct delivery_options *options)
{
    struct delivery *d = xcalloc(1, sizeof *d);
    d->cs = cs;
    d->stream_name = xslicedup(stream_name);
    d->options = *options;
    d->due_ns = INT64_MAX;
    d->idle_due_ns = INT64_MAX;
    list_init(&d->active);
    list_init(&d->ready);
    return d;
}

static void free_queue(struct delivery *d, struct delivery_queue *q)
{
    list_remove(&q->active);
    HASH_DEL(d->queues, q);
    free(q->push_subject);
    free(q);
}

/* Forget all that is planned. Pulls get @status, as pulls_drop() says. */
static void reset(struct delivery *d, const char *status)
{
    pulls_finish_ready(d);
    struct delivery_queue *q;
    struct delivery_queue *tmp;
    HASH_ITER(hh, d->queues, q, tmp)
    {
        pulls_drop(d, q, status, false);
        free_queue(d, q);
    }
    d->flights_head = 0;
    d->flights_count = 0;
    d->in_flight = 0;
    d->in_flight_bytes = 0;
    d->due_ns = INT64_MAX;
    d->idle_due_ns = INT64_MAX;
    d->idle_count = 0;
    d->idle_last_id = 0;
}

void delivery_free(struct delivery *d)
{
    if (d == NULL) {
        return;
    }
    struct delivery_queue *q;
    struct delivery_queue *tmp;
    HASH_ITER(hh, d->queues, q, tmp)
    {
        pulls_drop(d, q, NULL, false);
        free_queue(d, q);
    }
    struct list *it;
    while ((it = list_pop_front(&d->ready)) != NULL) {
        free(container_of(it, struct pull, link));
    }
    free(d->flights);
    free(d->stream_name);
    buf_close(&d->header);
    free(d);
}

/* Marks in the machine's entries are of an earlier leadership. */
static void unmark_all(struct delivery *d)
{
    for (size_t i = 0; i < d->cs->count; i++) {
        struct consumer *c = d->cs->items[i];
        c->lead_seq = 0;
        c->lead_count = 0;
        for (size_t k = 0; k < c->queue.count; k++) {
            consumer_pending(c, ring_at(&c->queue, k))->planned = 0;
        }
    }
}

void delivery_lead(struct delivery *d, int64_t now_ns)
{
    reset(d, "409 Leadership Change");
    unmark_all(d);
    d->is_leading = true;
    d->scan_left = DELIVERY_TURN_SCANNED;
    d->idle_scan_ns = now_ns;
    d->due_ns = now_ns;
}

void delivery_unlead(struct delivery *d)
{
    reset(d, "409 Leadership Change");
    unmark_all(d);
    d->is_leading = false;
}

void delivery_shutdown(struct delivery *d)
{
    pulls_finish_ready(d);
    for (struct delivery_queue *q = d->queues; q != NULL; q = q->hh.next) {
        const struct consumer *c = consumers_by_id(d->cs, q->id);
        if (c != NULL && c->config.replicas_count <= 1) {
            pulls_drop(d, q, "409 Server Shutdown", true);
        }
    }
    reset(d, "409 Leadership Change");
    unmark_all(d);
    d->is_leading = false;
}

/* ---- Queues ---- */

struct delivery_queue *delivery_queue_find(const struct delivery *d, uint64_t consumer)
{
    struct delivery_queue *q;
    HASH_FIND(hh, d->queues, &consumer, sizeof consumer, q);
    return q;
}

struct delivery_queue *delivery_queue_get(struct delivery *d, const struct consumer *c,
                                          int64_t now_ns)
{
    struct delivery_queue *q = delivery_queue_find(d, c->id);
    if (q != NULL) {
        return q;
    }
    q = xcalloc(1, sizeof *q);
    q->id = c->id;
    q->after = c->delivered.stream_seq;
    q->due_ns = INT64_MAX;
    q->swept_ns = INT64_MIN / 2;
    q->delete_ns = INT64_MIN / 2;
    q->position_ns = INT64_MIN / 2;
    q->used_ns = now_ns;
    q->replay_upto = stream_last_seq(d->cs->stream);
    list_init(&q->active);
    list_init(&q->waiting);
    list_init(&q->ended);
    HASH_ADD(hh, d->queues, id, sizeof q->id, q);
    return q;
}

void delivery_activate(struct delivery *d, struct delivery_queue *q, int64_t now_ns)
{
    if (list_is_empty(&q->active)) {
        list_push_back(&d->active, &q->active);
    }
    d->due_ns = min_ns(d->due_ns, now_ns);
}

/* ---- Acks ---- */

void delivery_flush_acks(struct delivery *d, struct delivery_queue *q)
{
    if (q->ack_count == 0) {
        return;
    }
    struct progress_item item = {.kind = PROGRESS_ACK, .seq = q->ack_seq, .count = q->ack_count};
    q->ack_count = 0;
    d->options.propose(d->options.ctx, q->id, &item);
}

/* Acks in a row become one item. */
static void add_ack(struct delivery *d, struct delivery_queue *q, uint64_t seq)
{
    if (q->ack_count > 0 && seq == q->ack_seq + q->ack_count && q->ack_count < ACK_RUN_MAX) {
        q->ack_count++;
        return;
    }
    delivery_flush_acks(d, q);
    q->ack_seq = seq;
    q->ack_count = 1;
}

static void propose(struct delivery *d, struct delivery_queue *q, const struct progress_item *item)
{
    delivery_flush_acks(d, q); /* In the order in which they came. */
    d->options.propose(d->options.ctx, q->id, item);
}

static void confirm(struct delivery *d, struct delivery_queue *q, uint64_t seq, uint64_t node,
                    struct slice reply)
{
    if (reply.len > 0) {
        propose(d, q,
                &(struct progress_item){
                    .kind = PROGRESS_CONFIRM, .seq = seq, .count = 1, .node = node, .text = reply});
    }
}

void delivery_ack(struct delivery *d, uint64_t consumer, uint64_t seq, uint64_t node,
                  struct slice reply, struct slice payload, int64_t now_ns)
{
    struct consumer *c = consumers_by_id(d->cs, consumer);
    /* Nobody listens to the ack subjects of a consumer without acks. */
    if (!d->is_leading || c == NULL || c->config.ack_policy == ACK_NONE || seq == 0 ||
        seq > UINT64_MAX / 2 || reply.len > DELIVERY_INBOX_BYTES_MAX) {
        return;
    }
    struct delivery_queue *q = delivery_queue_get(d, c, now_ns);
    struct ack_payload a;
    struct progress_item item = {.seq = seq, .count = 1};
    bool is_immediate = false;
    ack_payload_parse(payload, &a);
    q->used_ns = now_ns;
    switch (a.kind) {
    case ACK_KIND_ACK:
        add_ack(d, q, seq);
        confirm(d, q, seq, node, reply);
        break;
    case ACK_KIND_TERM:
        item.kind = PROGRESS_TERM;
        item.text = a.reason;
        item.text.len = a.reason.len < REASON_BYTES_MAX ? a.reason.len : REASON_BYTES_MAX;
        propose(d, q, &item);
        confirm(d, q, seq, node, reply);
        break;
    case ACK_KIND_NAK:
        item.kind = PROGRESS_NAK;
        item.delay_ns = a.delay_ns;
        propose(d, q, &item);
        is_immediate = true;
        break;
    case ACK_KIND_WPI:
        item.kind = PROGRESS_WPI;
        propose(d, q, &item);
        is_immediate = true;
        break;
    case ACK_KIND_NEXT:
        add_ack(d, q, seq);
        delivery_pull(d, consumer, node, reply, a.body, now_ns);
        break;
    case ACK_KIND_OTHER:
        is_immediate = true;
        break;
    }
    if (is_immediate && reply.len > 0) {
        d->options.status(d->options.ctx, node, reply, SLICE_EMPTY);
    }
    delivery_activate(d, q, now_ns);
}

/* ---- Commits ---- */

/* @n deliveries of the flight are over, one way or the other; ends it when they were the last. */
static void land(struct delivery *d, struct flight *f, uint64_t n)
{
    uint64_t bytes = n == f->left ? f->bytes : f->bytes / f->left * n;
    f->bytes -= bytes;
    f->left -= n;
    f->seq += n;
    if (f->queue == NULL) {
        return;
    }
    d->in_flight -= n;
    d->in_flight_bytes -= bytes;
    *(f->is_first ? &f->queue->firsts : &f->queue->agains) -= n;
}

/* The same for its pull, after what concerns the pull itself. */
static void land_pull(struct delivery *d, struct pull *p, uint64_t n)
{
    p->in_flight -= n;
    if (p->in_flight == 0 && p->end != PULL_OPEN) {
        list_remove(&p->link);
        list_push_back(&d->ready, &p->link);
    }
}

static uint64_t take_cost(struct flight *f, uint64_t n)
{
    uint64_t cost = n == f->left ? f->cost : f->cost / f->left * n;
    f->cost -= cost;
    return cost;
}

/* @n deliveries of the flight did not happen. */
static void undo(struct delivery *d, struct flight *f, uint64_t n, int64_t now_ns)
{
    struct delivery_queue *q = f->queue;
    uint64_t seq = f->seq;
    uint64_t cost = take_cost(f, n);
    land(d, f, n);
    if (q == NULL) {
        return;
    }
    q->push_bytes -= f->pull->is_push ? cost : 0;
    struct consumer *c = consumers_by_id(d->cs, q->id);
    for (uint64_t i = 0; i < n && c != NULL && !f->is_first; i++) {
        struct pending_entry *entry = consumer_pending(c, seq + i);
        if (entry != NULL) {
            entry->planned = 0;
        }
    }
    q->is_resync = q->is_resync || f->is_first;
    pull_give_back(d, q, f->pull, n, cost, now_ns);
    land_pull(d, f->pull, n);
    delivery_activate(d, q, now_ns);
}

static void pop_flight(struct delivery *d)
{
    d->flights_head = (d->flights_head + 1) & (d->flights_cap - 1);
    d->flights_count--;
}

/* The flight of a token. Those proposed before it and not finished were lost. */
static struct flight *find_flight(struct delivery *d, uint64_t id, int64_t now_ns)
{
    while (d->flights_count > 0 && flight_at(d, 0)->id < id) {
        struct flight *f = flight_at(d, 0);
        if (f->left > 0) {
            undo(d, f, f->left, now_ns);
        }
        pop_flight(d);
    }
    return d->flights_count > 0 && flight_at(d, 0)->id == id ? flight_at(d, 0) : NULL;
}

bool delivery_commit(struct delivery *d, const struct effect_deliver *effect, int64_t now_ns)
{
    struct flight *f = d->is_leading ? find_flight(d, effect->token >> 1, now_ns) : NULL;
    if (f == NULL) {
        return false;
    }
    uint64_t n = effect->is_skipped && effect->pending_count > 0 ? effect->pending_count : 1;
    n = n < f->left ? n : f->left;
    struct delivery_queue *q = f->queue;
    struct pull *p = f->pull;
    bool is_sent = false;
    uint64_t cost = 0;
    if (effect->is_skipped) {
        undo(d, f, n, now_ns);
    } else {
        cost = take_cost(f, n);
        land(d, f, n);
    }
    if (!effect->is_skipped && q != NULL) {
        is_sent = pull_is_heard(d, p, now_ns);
        q->used_ns = now_ns;
        if (p->is_push) {
            q->push_bytes -= cost;
            q->flow_sent += is_sent && q->push == p ? cost : 0;
        }
        if (!is_sent) {
            propose(
                d, q,
                &(struct progress_item){.kind = PROGRESS_RETURN, .seq = effect->seq, .count = 1});
        } else if (p->heartbeat_ns > 0) {
            p->heartbeat_at_ns = add_ns(now_ns, p->heartbeat_ns);
        }
        land_pull(d, p, n);
        delivery_activate(d, q, now_ns);
    }
    if (f->left == 0) {
        pop_flight(d);
    }
    return is_sent;
}

void delivery_consumer_deleted(struct delivery *d, uint64_t consumer)
{
    struct delivery_queue *q = delivery_queue_find(d, consumer);
    if (q == NULL) {
        return;
    }
    pulls_finish_ready(d);
    for (size_t i = 0; i < d->flights_count; i++) {
        struct flight *f = flight_at(d, i);
        if (f->queue == q) {
            d->in_flight -= f->left;
            d->in_flight_bytes -= f->bytes;
            f->queue = NULL;
            f->pull = NULL;
        }
    }
    pulls_drop(d, q, "409 Consumer Deleted", false);
    free_queue(d, q);
}

/* ---- Turns ---- */

static bool has_work(const struct delivery_queue *q)
{
    return q->waiting_count > 0 || q->is_moved;
}

static int64_t due_of(const struct delivery_queue *q)
{
    return q->is_moved ? min_ns(q->due_ns, add_ns(q->position_ns, 1000000000ll)) : q->due_ns;
}

/* Is anybody still there: a pull that is listened to, or a delivery that may still be acked? If
 * not, since when (INT64_MAX: somebody is). */
static int64_t idle_since(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                          int64_t now_ns)
{
    LIST_FOR(it, &q->waiting)
    {
        if (pull_is_heard(d, container_of(it, struct pull, link), now_ns)) {
            return INT64_MAX;
        }
    }
    int64_t since_ns = q->used_ns;
    for (size_t i = c->pending.head; i < c->pending.tail; i++) {
        const struct pending_entry *entry = &c->pending.entries[i];
        if (entry->state == PENDING_WAITING && entry->deadline_ns > since_ns) {
            since_ns = entry->deadline_ns;
        }
    }
    return since_ns;
}

/* Propose to delete who was not used for long. */
static void scan_idle(struct delivery *d, int64_t now_ns)
{
    int64_t next_ns = INT64_MAX;
    for (size_t i = 0; i < d->cs->count; i++) {
        const struct consumer *c = d->cs->items[i];
        int64_t threshold_ns = c->config.inactive_threshold_ns;
        bool is_push = c->config.deliver_subject != NULL;
        if (threshold_ns <= 0 && !is_push) {
            continue;
        }
        struct delivery_queue *q = delivery_queue_get(d, c, now_ns);
        if (is_push) {
            push_look(d, q, c, now_ns);
            next_ns = min_ns(next_ns, add_ns(now_ns, PUSH_LOOK_NS));
            if (threshold_ns <= 0) {
                continue;
            }
        }
        int64_t due_ns = add_ns(q->used_ns, threshold_ns);
        if (due_ns <= now_ns && !is_push) {
            int64_t since_ns = idle_since(d, q, c, now_ns);
            q->used_ns = since_ns == INT64_MAX ? now_ns : since_ns;
            due_ns = add_ns(q->used_ns, threshold_ns);
        }
        if (due_ns <= now_ns) {
            due_ns = add_ns(q->delete_ns, DELETE_AGAIN_NS);
            if (due_ns <= now_ns) {
                q->delete_ns = now_ns;
                due_ns = add_ns(now_ns, DELETE_AGAIN_NS);
                d->options.propose_delete(d->options.ctx, c->id, slice_str(c->name));
            }
        }
        next_ns = min_ns(next_ns, due_ns);
    }
    d->idle_due_ns = next_ns;
    d->idle_scan_ns = now_ns;
}

void delivery_time_sure(struct delivery *d, int64_t shift_ns)
{
    struct delivery_queue *q, *tmp;
    HASH_ITER(hh, d->queues, q, tmp)
    {
        q->used_ns = add_ns(q->used_ns, shift_ns);
    }
}

/* Consumers come, go and change by the log: look when they did, and a little after each turn. */
static void look_for_idle(struct delivery *d, int64_t now_ns)
{
    uint64_t last_id = d->cs->count == 0 ? 0 : d->cs->items[d->cs->count - 1]->id;
    bool is_changed = d->cs->count != d->idle_count || last_id != d->idle_last_id;
    d->idle_count = d->cs->count;
    d->idle_last_id = last_id;
    if (is_changed || now_ns >= d->idle_due_ns || now_ns - d->idle_scan_ns >= IDLE_SCAN_NS) {
        scan_idle(d, now_ns);
    } else if (d->cs->count > 0) {
        d->idle_due_ns = min_ns(d->idle_due_ns, add_ns(d->idle_scan_ns, IDLE_SCAN_NS));
    }
}

void delivery_turn(struct delivery *d, int64_t now_ns)
{
    struct list now;
    struct list unserved;
    uint64_t budget = DELIVERY_TURN_MAX;
    d->scan_left = DELIVERY_TURN_SCANNED;
    if (!d->is_leading) {
        return;
    }
    pulls_finish_ready(d);
    look_for_idle(d, now_ns);
    list_init(&now);
    list_init(&unserved);
    list_splice(&now, &d->active);
    d->due_ns = d->idle_due_ns;
    struct list *it;
    while ((it = list_pop_front(&now)) != NULL) {
        struct delivery_queue *q = container_of(it, struct delivery_queue, active);
        struct consumer *c = consumers_by_id(d->cs, q->id);
        if (c == NULL) {
            continue; /* Deleted; delivery_consumer_deleted() will come. */
        }
        delivery_flush_acks(d, q);
        if (q->due_ns <= now_ns) {
            pulls_sweep(d, q, c, now_ns);
        }
        if (q->waiting_count > 0 && budget > 0) {
            budget = plan_match(d, q, c, budget, now_ns);
        }
        push_ask_flow(d, q, c, now_ns);
        plan_log_position(d, q, c, now_ns);
        if (has_work(q)) {
            bool is_served = budget > 0 && d->scan_left > 0;
            list_push_back(is_served ? &d->active : &unserved, &q->active);
            d->due_ns = min_ns(d->due_ns, due_of(q));
        }
    }
    /* Those who got nothing, or not all, come first in the next turn. */
    if (!list_is_empty(&unserved)) {
        list_splice(&unserved, &d->active);
        list_splice(&d->active, &unserved);
        d->due_ns = now_ns;
    }
}

bool delivery_is_searching(const struct delivery *d)
{
    return d->is_leading && d->scan_left == 0;
}

int64_t delivery_next_due(const struct delivery *d)
{
    return d->is_leading ? d->due_ns : INT64_MAX;
}

/* ---- Questions ---- */

uint64_t delivery_num_waiting(struct delivery *d, uint64_t consumer)
{
    const struct delivery_queue *q = delivery_queue_find(d, consumer);
    return q == NULL || q->push != NULL ? 0 : q->waiting_count;
}

void delivery_get_info(struct delivery *d, uint64_t consumer, struct consumer_info *ret_info)
{
    struct consumer *c = consumers_by_id(d->cs, consumer);
    const struct delivery_queue *q = delivery_queue_find(d, consumer);
    if (c == NULL) {
        *ret_info = (struct consumer_info){0};
        return;
    }
    consumer_get_info(c, d->cs->index, ret_info);
    if (c->lead_seq != 0 && q != NULL) {
        ret_info->delivered = (struct sequence_pair){q->lead_consumer_seq, c->lead_seq - 1};
        ret_info->floor = ret_info->delivered;
        ret_info->delivered_ns = q->sent_ns;
        ret_info->num_pending = plan_lead_pending(d, c);
    }
}

void delivery_ack_reply(const struct delivery *d, const struct effect_deliver *effect,
                        struct buf *out)
{
    const struct consumer *c = consumers_by_id(d->cs, effect->consumer);
    if (c == NULL) {
        return;
    }
    struct ack_subject a = {
        .stream = slice_str(d->stream_name),
        .consumer = slice_str(c->name),
        .delivered = effect->delivery_count,
        .stream_seq = effect->seq,
        .consumer_seq = effect->consumer_seq,
        .time_ns = effect->time_ns,
        .pending = effect->pending_count,
    };
    ack_subject_print(out, &a);
}
