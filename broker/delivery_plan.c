/* Which message goes to which pull: redeliveries first, then new ones in stream order, one message
 * to each pull in turn. */
#include <assert.h>
#include <stdlib.h>

#include "broker/delivery_state.h"

#define POSITION_NS 1000000000ll
#define MESSAGE_OVERHEAD 30u /* jetstream-api.md 2.3 */

struct plan {
    struct delivery *d;
    struct delivery_queue *q;
    struct consumer *c;
    int64_t now_ns;
    uint64_t budget;
    bool is_logged; /* Not ack none. */

    /* The message that comes next. */
    bool has_next;
    bool is_first;
    struct msg_info next;
    struct pending_entry *entry; /* Of a redelivery. */
    size_t queue_at;

    /* Deliveries in a row to one pull, to be proposed as one item. */
    struct flight run;
    uint64_t run_before;
};

/* ---- Ack none ---- */

void plan_begin_lead(struct delivery_queue *q, struct consumer *c)
{
    if (c->lead_seq == 0) {
        c->lead_seq = c->delivered.stream_seq + 1;
        c->lead_count = c->pending_count;
        q->lead_consumer_seq = c->delivered.consumer_seq;
        q->sent_ns = c->delivered_ns;
    }
}

uint64_t plan_lead_pending(const struct delivery *d, const struct consumer *c)
{
    return c->has_rank ? msg_index_count_from(d->cs->index, c->lead_seq) : c->lead_count;
}

static void send_now(struct plan *p, struct pull *pull, uint64_t cost)
{
    struct consumer *c = p->c;
    c->lead_seq = p->next.seq + 1;
    c->lead_count -= c->lead_count > 0;
    p->q->lead_consumer_seq++;
    p->q->sent_ns = p->now_ns;
    p->q->is_moved = true;
    struct effect_deliver e = {
        .consumer = c->id,
        .node = pull->node,
        .destination = pull_inbox(pull),
        .seq = p->next.seq,
        .time_ns = p->next.time_ns,
        .consumer_seq = p->q->lead_consumer_seq,
        .delivery_count = 1,
        .pending_count = plan_lead_pending(p->d, c),
    };
    if (pull->heartbeat_ns > 0) {
        pull->heartbeat_at_ns = add_ns(p->now_ns, pull->heartbeat_ns);
    }
    p->q->flow_sent += pull->is_push ? cost : 0;
    p->d->options.deliver(p->d->options.ctx, &e);
}

void plan_log_position(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                       int64_t now_ns)
{
    if (!q->is_moved || now_ns - q->position_ns < POSITION_NS) {
        return;
    }
    q->is_moved = false;
    q->position_ns = now_ns;
    struct progress_item item = {.kind = PROGRESS_POSITION,
                                 .seq = c->lead_seq - 1,
                                 .count = 1,
                                 .consumer_seq = q->lead_consumer_seq};
    d->options.propose(d->options.ctx, q->id, &item);
}

/* ---- What comes next ---- */

uint64_t plan_available(const struct delivery *d, struct delivery_queue *q, struct consumer *c)
{
    if (c->config.ack_policy == ACK_NONE) {
        plan_begin_lead(q, c);
        return plan_lead_pending(d, c);
    }
    uint64_t pending = consumer_num_pending(c, d->cs->index);
    uint64_t queued = c->queue.count;
    return (pending > q->firsts ? pending - q->firsts : 0) +
           (queued > q->agains ? queued - q->agains : 0);
}

/* NEXT_SEARCHING: goes on in the next turn. */
enum next { NEXT_FOUND, NEXT_NONE, NEXT_BLOCKED, NEXT_SEARCHING };

static enum next next_again(struct plan *p)
{
    const struct seq_ring *queue = &p->c->queue;
    for (; p->queue_at < queue->count; p->queue_at++) {
        uint64_t seq = ring_at(queue, p->queue_at);
        struct pending_entry *entry = consumer_pending(p->c, seq);
        assert(entry != NULL);
        if (entry->planned == 0 && msg_index_get(p->d->cs->index, seq, &p->next)) {
            p->entry = entry;
            p->is_first = false;
            p->queue_at++;
            return NEXT_FOUND;
        }
    }
    return NEXT_NONE;
}

/* Replay at the original pace: not yet. */
static bool is_too_early(struct plan *p)
{
    struct delivery_queue *q = p->q;
    if (p->c->config.replay_policy != REPLAY_ORIGINAL || q->replay_time_ns == 0 ||
        p->next.seq > q->replay_upto || p->next.time_ns <= q->replay_time_ns) {
        return false;
    }
    int64_t due_ns = add_ns(q->replay_sent_ns, p->next.time_ns - q->replay_time_ns);
    if (due_ns <= p->now_ns) {
        return false;
    }
    q->due_ns = min_ns(q->due_ns, due_ns);
    return true;
}

static enum next next_first(struct plan *p)
{
    const struct consumer *c = p->c;
    uint64_t after = p->is_logged ? p->q->after : c->lead_seq - 1;
    if (p->is_logged) {
        uint64_t held = c->pending.live + p->q->firsts;
        bool is_full = c->config.max_ack_pending > 0 && held >= (uint64_t)c->config.max_ack_pending;
        if (p->q->is_resync || is_full) {
            return NEXT_BLOCKED;
        }
    }
    if (p->d->scan_left == 0) {
        return NEXT_SEARCHING;
    }
    uint64_t seq = consumer_seek(p->c, p->d->cs->index, after, &p->d->scan_left);
    if (seq == 0) {
        return p->d->scan_left == 0 ? NEXT_SEARCHING : NEXT_NONE;
    }
    bool is_live = msg_index_get(p->d->cs->index, seq, &p->next);
    assert(is_live);
    p->is_first = true;
    return is_too_early(p) ? NEXT_BLOCKED : NEXT_FOUND;
}

static enum next find_next(struct plan *p)
{
    enum next found = p->has_next ? NEXT_FOUND : next_again(p);
    if (found == NEXT_NONE) {
        found = next_first(p);
    }
    p->has_next = found == NEXT_FOUND;
    return found;
}

/* What the message takes of max_bytes: subject, ack reply, headers, payload. The index counts the
 * four together with what storing costs; whether there are headers (4 bytes more) and how long they
 * are it does not know, so with headers_only they are not counted. */
static uint64_t cost_of(const struct plan *p)
{
    struct ack_subject a = {
        .stream = slice_str(p->d->stream_name),
        .consumer = slice_str(p->c->name),
        .delivered = p->is_first ? 1 : p->entry->count + 1u,
        .stream_seq = p->next.seq,
        .consumer_seq = (p->is_logged ? p->c->delivered.consumer_seq + p->q->firsts + p->q->agains
                                      : p->q->lead_consumer_seq) +
                        1,
        .time_ns = p->next.time_ns,
        .pending = plan_available(p->d, p->q, p->c),
    };
    a.pending -= p->is_first && a.pending > 0;
    uint64_t bytes = p->next.size > MESSAGE_OVERHEAD ? p->next.size - MESSAGE_OVERHEAD : 0;
    if (p->c->config.headers_only) {
        uint64_t payload = bytes - p->next.subject.len;
        bytes = p->next.subject.len + strlen("NATS/1.0\r\nNats-Msg-Size: \r\n\r\n") + 1;
        for (; payload >= 10; payload /= 10) {
            bytes++;
        }
    }
    return bytes + ack_subject_size(&a);
}

/* ---- Runs ---- */

static struct flight *push_flight(struct delivery *d)
{
    if (d->flights_count == d->flights_cap) {
        size_t cap = d->flights_cap == 0 ? 64 : d->flights_cap * 2;
        struct flight *flights = xmalloc(cap * sizeof *flights);
        for (size_t i = 0; i < d->flights_count; i++) {
            flights[i] = *flight_at(d, i);
        }
        free(d->flights);
        d->flights = flights;
        d->flights_head = 0;
        d->flights_cap = cap;
    }
    return flight_at(d, d->flights_count++);
}

static void propose_run(struct plan *p)
{
    struct delivery *d = p->d;
    struct flight *run = &p->run;
    if (run->left == 0) {
        return;
    }
    run->id = ++d->last_flight;
    *push_flight(d) = *run;
    struct progress_item item = {.kind = PROGRESS_DELIVER,
                                 .seq = run->seq,
                                 .count = run->left,
                                 .consumer_seq = run->is_first ? p->run_before : 0,
                                 .delay_ns = (int64_t)(run->id << 1 | run->is_first),
                                 .node = run->pull->node,
                                 .text = pull_inbox(run->pull)};
    run->left = 0;
    d->options.propose(d->options.ctx, p->q->id, &item);
}

static void join_run(struct plan *p, struct pull *pull, uint64_t cost)
{
    struct flight *run = &p->run;
    bool is_joined = run->left > 0 && run->pull == pull && run->is_first == p->is_first &&
                     run->seq + run->left == p->next.seq;
    if (!is_joined) {
        propose_run(p);
        *run = (struct flight){
            .queue = p->q, .pull = pull, .seq = p->next.seq, .is_first = p->is_first};
        p->run_before = p->q->after;
    }
    run->left++;
    run->bytes += p->next.size;
    run->cost += cost;
    if (p->is_first) {
        p->q->after = p->next.seq;
        p->q->firsts++;
    } else {
        p->entry->planned = 1;
        p->q->agains++;
    }
    pull->in_flight++;
    p->q->push_bytes += pull->is_push ? cost : 0;
    p->d->in_flight++;
    p->d->in_flight_bytes += p->next.size;
}

/* ---- Matching ---- */

/* The first pull that can be served now; those that cannot any more end. */
static struct pull *first_pull(struct plan *p)
{
    while (!list_is_empty(&p->q->waiting)) {
        struct pull *pull = container_of(p->q->waiting.next, struct pull, link);
        if (pull->deadline_ns <= p->now_ns) {
            pull_finish(p->d, p->q, pull, PULL_TIMEOUT);
        } else if (!pull_is_heard(p->d, pull, p->now_ns)) {
            pull_finish(p->d, p->q, pull, PULL_SILENT);
        } else {
            return pull;
        }
    }
    return NULL;
}

/* Nothing is left: who did not want to wait is done; who may linger has to have got something. */
static void end_no_waits(struct plan *p)
{
    if (p->q->no_wait_count == 0) {
        return;
    }
    LIST_FOR_SAFE(it, tmp, &p->q->waiting)
    {
        struct pull *pull = container_of(it, struct pull, link);
        if (pull->no_wait && (pull->served > 0 || pull->deadline_ns == INT64_MAX)) {
            pull_finish(p->d, p->q, pull, PULL_NO_MESSAGES);
        }
    }
}

static void serve(struct plan *p, struct pull *pull, uint64_t cost)
{
    p->has_next = false;
    p->budget--;
    if (p->is_first) {
        p->q->replay_time_ns = p->next.time_ns;
        p->q->replay_sent_ns = p->now_ns;
    }
    pull_take(p->q, pull, 1);
    if (pull->is_push) {
        push_planned(p->d, p->q, p->c, cost, p->now_ns);
    }
    if (p->is_logged) {
        join_run(p, pull, cost);
    } else {
        send_now(p, pull, cost);
    }
    bool is_spent = pull->has_bytes && pull->bytes_left == cost;
    pull->bytes_left -= pull->has_bytes ? cost : 0;
    if (pull->left == 0 || is_spent) {
        pull_finish(p->d, p->q, pull, PULL_BATCH);
    } else if (p->q->waiting_count > 1) {
        list_remove(&pull->link);
        list_push_back(&p->q->waiting, &pull->link);
    }
}

uint64_t plan_match(struct delivery *d, struct delivery_queue *q, struct consumer *c,
                    uint64_t budget, int64_t now_ns)
{
    struct plan p = {.d = d,
                     .q = q,
                     .c = c,
                     .now_ns = now_ns,
                     .budget = budget,
                     .is_logged = c->config.ack_policy != ACK_NONE};
    if (!p.is_logged) {
        plan_begin_lead(q, c);
    } else if (q->firsts == 0) {
        q->after = c->delivered.stream_seq;
        q->is_resync = false;
    }
    struct pull *pull;
    while (p.budget > 0 && (pull = first_pull(&p)) != NULL) {
        enum next found = find_next(&p);
        if (found != NEXT_FOUND) {
            if (found == NEXT_NONE) {
                end_no_waits(&p);
            }
            break;
        }
        if (p.is_logged &&
            (d->in_flight >= DELIVERY_IN_FLIGHT_MAX || d->in_flight_bytes >= DELIVERY_BYTES_MAX)) {
            break; /* Goes on when something is committed. */
        }
        uint64_t cost = pull->has_bytes || pull->is_push ? cost_of(&p) : 0;
        if (pull->is_push && !push_has_room(d, q, c, cost, now_ns)) {
            break;
        }
        if (pull->has_bytes && cost > pull->bytes_left) {
            pull_finish(d, q, pull, PULL_TOO_LARGE);
            continue;
        }
        serve(&p, pull, cost);
    }
    propose_run(&p);
    return p.budget;
}
