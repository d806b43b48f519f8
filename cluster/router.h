/* Routing of messages within a node: whoever publishes calls router_publish, and the message
 * reaches the clients, internal subscribers and peers interested in its subject, and the stream
 * that takes it.
 *
 * Every subscriber is a router_sub with a sink. A sink's `deliver` runs in the middle of the walk
 * and must not change interest; internal subscribers, whose callbacks may do anything, run after
 * it. Nothing is allocated per message.
 *
 * Slices of a message are borrowed until the call returns. Loop thread only. */
#ifndef CLUSTER_ROUTER_H
#define CLUSTER_ROUTER_H
#include <stdbool.h>
#include <stdint.h>

#include "broker/interest.h"
#include "storage/base/list.h"
#include "storage/base/slice.h"

#define ROUTER_QUEUES_MAX 1024 /* Queue groups one message may reach over one peer. */
#define ROUTER_DEPTH_MAX 16    /* Publishes from within callbacks of publishes. */

struct router;

struct router_msg {
    struct slice subject;
    struct slice reply;   /* Empty: none. */
    struct slice header;  /* The whole block, empty: none. */
    struct slice payload; /* Without the header block. */
    struct slice shown;   /* What subscribers read as its subject; empty: the subject. A stream's
                           * message   goes to an inbox and shows the subject it was stored under. */
};

enum router_origin_kind {
    ROUTER_FROM_NODE,   /* The node itself: API replies, deliveries, advisories. */
    ROUTER_FROM_CLIENT, /* `id` is the client's cid. */
    ROUTER_FROM_PEER,   /* `id` is the peer's node_id. */
};

/* Where a message comes from. */
struct router_origin {
    enum router_origin_kind kind;
    uint64_t id;
    const void *skip_owner; /* Subscriptions with this `owner` do not get it: echo off. */
    /* From a peer: only members of these queue groups get it, beside plain subscribers. */
    const struct slice *queues;
    uint32_t queues_count;
};

#define ROUTER_ORIGIN_NODE ((struct router_origin){.kind = ROUTER_FROM_NODE})

/* ---- Publishing ---- */

/* Deliver @msg. Returns how many took it: subscribers, peers with interest, a stream. 0 means no
 * responders. Messages from a peer go to local subscribers only and never to streams. */
uint32_t router_publish(struct router *r, const struct router_msg *msg,
                        const struct router_origin *origin);

/* router_publish from the node itself, for replies. */
uint32_t router_send(struct router *r, struct slice subject, struct slice reply,
                     struct slice header, struct slice payload);

/* Whether anybody, here or at a peer, is subscribed to the literal @subject. */
bool router_is_interest(struct router *r, struct slice subject);

/* Whether a member of the queue group @queue, here or at a peer, is subscribed to it. */
bool router_is_group_interest(struct router *r, struct slice subject, struct slice queue);

/* ---- Internal subscribers: the JetStream API, acks, deliveries ---- */

typedef void (*router_cb)(void *arg, const struct router_msg *msg,
                          const struct router_origin *origin);

struct router_internal;

/* Call @cb for each message matching @pattern; with @queue not empty, as a member of that group.
 * @is_announced: peers learn of the interest, as they do of a client's; otherwise only messages
 * published on this node arrive. @cb may publish, subscribe and unsubscribe, itself included.
 * Returns 0 or the error of interest_insert. */
int router_subscribe_internal(struct router *r, struct slice pattern, struct slice queue,
                              bool is_announced, router_cb cb, void *arg,
                              struct router_internal **ret_sub);
void router_unsubscribe_internal(struct router_internal *sub); /* NULL is fine. */

/* ---- Streams ---- */

/* Offered every message published on this node, by clients or by the node itself, never one from a
 * peer; returns whether a stream's subjects match it and it was taken (then the publisher is not
 * told 'no responders'). Copies what it keeps. Must not publish before it returns. */
typedef bool (*router_stream_cb)(void *arg, const struct router_msg *msg,
                                 const struct router_origin *origin);
void router_set_stream_hook(struct router *r, router_stream_cb cb, void *arg);

/* ---- For those who own subscribers: clients and peers ---- */

struct router_sub;

struct router_sink {
    /* Deliver to @sub; false when it could not take it (a queue group then tries another). Must not
     * change interest nor free subscriptions: remember it, and do it at LOOP_PHASE_COLLECT. */
    bool (*deliver)(struct router_sub *sub, const struct router_msg *msg);
};

/* A subscription; embed it in what owns it. `interest.owner` is compared with skip_owner. */
struct router_sub {
    struct interest_sub interest;
    const struct router_sink *sink; /* NULL for the subscriptions of a router_remote. */
};

/* Add a client's subscription. Errors as interest_insert. */
int router_subscribe(struct router *r, struct router_sub *sub, struct slice pattern,
                     struct slice queue);
void router_unsubscribe(struct router *r, struct router_sub *sub);
/* The first plain subscription of @owner that matches the literal @subject, or NULL. */
struct router_sub *router_find_plain(struct router *r, const void *owner, struct slice subject);

/* A peer node as the router sees it: its subscriptions have `kind` INTEREST_REMOTE and `owner`
 * this. It gets each message once, with the names of the queue groups whose member it was chosen
 * for. */
struct router_remote {
    void (*send)(struct router_remote *remote, const struct router_msg *msg,
                 const struct slice *queues, uint32_t queues_count);

    uint64_t serial; /* Private: the walk it was last reached by. */
    struct slice *queues;
    uint32_t queues_count;
    uint32_t queues_cap;
};
void router_remote_close(struct router_remote *remote); /* Frees what the router allocated. */
int router_subscribe_remote(struct router *r, struct router_remote *remote, struct router_sub *sub,
                            struct slice pattern, struct slice queue, uint32_t weight);

/* Called when what this node's subscribers want changes, see interest_local_cb: what peers are
 * told. router_each_local repeats all of it for a new peer. */
void router_set_interest_cb(struct router *r, interest_local_cb cb, void *ctx);
void router_each_local(struct router *r, interest_local_cb cb, void *ctx);

/* ---- The router itself ---- */

struct router_stats {
    uint64_t subs, sets;
    uint64_t inserts, removes, matches;
    uint64_t cache_hits, cache_misses;
};

struct router *router_new(uint64_t seed);
/* All subscribers but internal ones must be gone. */
void router_free(struct router *r);
struct router_stats router_stats(const struct router *r);
#endif
