/* What the delivery planner keeps; private to delivery*.c.
 *
 *   pull:   waiting --(planned: in_flight)--> ended --(all committed)--> ready --> status, freed
 *             ^---- a planned delivery did not happen ----/
 *   flight: a run that was proposed; committed in the order of proposals */
#ifndef BROKER_DELIVERY_STATE_H
#define BROKER_DELIVERY_STATE_H

#include "broker/delivery.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"

enum pull_end {
    PULL_OPEN,
    PULL_SILENT,      /* Nobody listens. */
    PULL_BATCH,       /* Got all it asked for. */
    PULL_NO_MESSAGES, /* no_wait, and nothing is left. */
    PULL_TIMEOUT,
    PULL_TOO_LARGE, /* The next message is beyond its bytes. */
};

struct pull {
    struct list link; /* In waiting, ended or ready. */
    uint64_t node;
    uint64_t left;       /* Messages not planned yet. */
    uint64_t bytes_left; /* When has_bytes. */
    int64_t short_by;    /* See pull_request. */
    uint64_t served;     /* Planned and not undone. */
    uint64_t in_flight;  /* Planned and not committed. */
    int64_t deadline_ns; /* INT64_MAX: none. */
    int64_t heartbeat_ns;
    int64_t heartbeat_at_ns; /* INT64_MAX: none. */
    int64_t listened_ns;     /* When has_listener was asked last. */
    bool has_listener;
    bool has_bytes;
    bool no_wait;
    bool is_push; /* A push consumer's subject: without end. */
    enum pull_end end;
    size_t inbox_len;
    size_t group_len;
    uint8_t inbox[]; /* And the queue group. */
};

/* The planner's side of a consumer. */
struct delivery_queue {
    UT_hash_handle hh;
    uint64_t id;
    struct list active; /* In delivery.active while a turn has something to do here. */

    struct list waiting; /* First in, first served; after each message at the end. */
    size_t waiting_count;
    size_t no_wait_count; /* Of those. */
    uint64_t demand;      /* Sum of left of those, stopping at UINT64_MAX. */
    struct list ended;    /* With deliveries in flight. */
    int64_t due_ns;       /* No deadline or heartbeat of those waiting is before it. */
    int64_t swept_ns;     /* When dead pulls were looked for because there was no room. */

    uint64_t after;  /* Stream sequence of the last first delivery planned; of committed state when
                        firsts is 0. */
    uint64_t firsts; /* First deliveries in flight. */
    uint64_t agains; /* Redeliveries in flight. */
    bool is_resync;  /* A run did not happen: plan first deliveries again when firsts is 0. */

    uint64_t ack_seq; /* Acks in a row, not proposed yet. */
    uint64_t ack_count;

    int64_t used_ns; /* Last sign of life of its users. */
    int64_t delete_ns;

    uint64_t lead_consumer_seq; /* Ack none: what was sent. */
    int64_t sent_ns;
    int64_t position_ns; /* When its position was logged. */
    bool is_moved;       /* Since then. */

    /* Push (delivery_push.c). */
    struct pull *push;    /* In waiting while somebody listens. */
    char *push_subject;   /* Where deliveries went last. */
    uint64_t push_bytes;  /* In flight. */
    uint64_t flow_window; /* Bytes that may be sent and not confirmed. */
    uint64_t flow_sent;   /* Those that are. */
    uint64_t flow_asked;  /* Of those: what the request under way confirms. */
    uint64_t flow_id;     /* That request's; 0: none. */
    int64_t rate_free_ns; /* Rate limit: when the bucket is full again. */

    uint64_t replay_upto; /* Replay at the original pace as far as this. */
    int64_t replay_time_ns;
    int64_t replay_sent_ns;
};

struct flight {
    uint64_t id;
    struct delivery_queue *queue; /* NULL: void, its consumer is gone. */
    struct pull *pull;
    uint64_t left; /* Messages not committed. */
    uint64_t seq;  /* Of the first of those. */
    uint64_t bytes;
    uint64_t cost; /* Against the pull's bytes. */
    bool is_first;
};

struct delivery {
    struct consumers *cs;
    char *stream_name;
    struct delivery_options options;
    bool is_leading;
    struct delivery_queue *queues;
    struct list active;
    struct list ready; /* Pulls to finish. */

    struct flight *flights; /* A ring; cap is a power of two. */
    size_t flights_head, flights_count, flights_cap;
    uint64_t last_flight;
    uint64_t last_flow;
    uint64_t in_flight;
    uint64_t in_flight_bytes;
    uint64_t scan_left; /* In this turn. */

    int64_t due_ns;
    int64_t idle_due_ns;
    int64_t idle_scan_ns;
    size_t idle_count;
    uint64_t idle_last_id;
    struct buf header;
};

static inline struct slice pull_inbox(const struct pull *p)
{
    return slice_of(p->inbox, p->inbox_len);
}
static inline struct slice pull_group(const struct pull *p)
{
    return slice_of(p->inbox + p->inbox_len, p->group_len);
}
static inline struct flight *flight_at(const struct delivery *d, size_t i)
{
    return &d->flights[(d->flights_head + i) & (d->flights_cap - 1)];
}
static inline int64_t min_ns(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
/* Saturates. @ns is not negative. */
static inline int64_t add_ns(int64_t at, int64_t ns)
{
    return ns > 0 && at > INT64_MAX - ns ? INT64_MAX : at + ns;
}

/* delivery.c */
struct delivery_queue *delivery_queue_find(const struct delivery *d, uint64_t consumer);
struct delivery_queue *delivery_queue_get(struct delivery *d, const struct consumer *c,
                                          int64_t now_ns);
void delivery_activate(struct delivery *d, struct delivery_queue *q, int64_t now_ns);
void delivery_flush_acks(struct delivery *d, struct delivery_queue *q);

/* delivery_pull.c */
void pull_wait(struct delivery_queue *q, struct pull *p);
bool pull_is_heard(struct delivery *d, struct pull *p, int64_t now_ns);
void pull_take(struct delivery_queue *q, struct pull *p, uint64_t n); /* From what it waits for. */
void pull_give_back(struct delivery *d, struct delivery_queue *q, struct pull *p, uint64_t n,
                    uint64_t cost, int64_t now_ns);
/* It waits no more: status and free now, or once all that is in flight is committed. */
void pull_finish(struct delivery *d, struct delivery_queue *q, struct pull *p, enum pull_end end);
/* Status and free those that are ready. */
void pulls_finish_ready(struct delivery *d);
/* Deadlines, heartbeats, listeners of all that wait. */
void pulls_sweep(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                 int64_t now_ns);
/* End all of them with @status (a line without NATS/1.0), or silently if NULL. */
void pulls_drop(struct delivery *d, struct delivery_queue *q, const char *status,
                bool with_pending);

/* delivery_push.c */
/* Begin or end delivering as its subject's interest and configuration say. */
void push_look(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
               int64_t now_ns);
/* May a message of @cost bytes go now? If not for its rate, q->due_ns says when. */
bool push_has_room(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                   uint64_t cost, int64_t now_ns);
void push_planned(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                  uint64_t cost, int64_t now_ns);
/* Ask for confirmation when half of the window is sent. */
void push_ask_flow(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                   int64_t now_ns);
void push_heartbeat(struct delivery *d, const struct delivery_queue *q, const struct consumer *c,
                    const struct pull *p);
/* Append the headers that say how far @c is. */
void delivery_print_last(const struct delivery_queue *q, const struct consumer *c, struct buf *out);

/* delivery_plan.c */
/* Messages there for a pull now. */
uint64_t plan_available(const struct delivery *d, struct delivery_queue *q, struct consumer *c);
/* Match what waits, at most @budget messages; returns what is left of it. */
uint64_t plan_match(struct delivery *d, struct delivery_queue *q, struct consumer *c,
                    uint64_t budget, int64_t now_ns);
/* Ack none: this leader's position begins at the logged one. */
void plan_begin_lead(struct delivery_queue *q, struct consumer *c);
uint64_t plan_lead_pending(const struct delivery *d, const struct consumer *c);
/* Log an ack none consumer's position, at most once a second. */
void plan_log_position(struct delivery *d, struct delivery_queue *q, const struct consumer *c,
                       int64_t now_ns);
#endif
