/* Inside of the peers:
 *
 *   uv_peer.c          one connection: dial, accept, authorization, frames in and out
 *   peers.c            the table of nodes, liveness, frames
 *   peers_hello.c      HELLO, binding of connections
 *   peers_dial.c       whom to dial and when: routes, gossip, missing lanes
 *   peers_interest.c   interest and core messages
 *   peers_query.c      what others ask: nodes, routes, /routez, counters
 *
 * A pair of nodes may dial each other at once. The node with the lower node_id decides which
 * connection of a lane is kept, the first that it hears a HELLO on, and says so by BEGIN; the other
 * one waits for that. So what carries frames is not replaced while it stands, and no frame is lost
 * between two connections. A connection of a newer incarnation replaces an older one's. */
#ifndef CLUSTER_PEERS_INTERNAL_H
#define CLUSTER_PEERS_INTERNAL_H
#include <netinet/in.h>

#include "broker/log_time.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/node_options.h"
#include "cluster/peer_frame.h"
#include "cluster/peers.h"
#include "cluster/router.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"

#define PEERS_URL_BYTES_MAX 300
#define PEERS_HANDSHAKE_MS 2000
/* A SYN that was lost is sent again after 1 s, then 2: a new dial comes sooner. */
#define PEERS_CONNECT_MS 500
#define PEERS_TICK_MS 50
#define PEERS_STALL_MS 200            /* A tick later than this: the loop stood still. */
#define PEERS_BACKOFF_MAX_MS 1000     /* Of a route, */
#define PEERS_NODE_BACKOFF_MAX_MS 250 /* and of a node that is known: it may be back. */
#define PEERS_ROUTES_MAX 256
#define PEERS_IMPLICIT_TRIES_MAX 20
#define PEERS_LIVENESS_MAX 8
#define PEERS_SUBS_MAX (4u << 20) /* Subscriptions of one peer. */

struct peer;

/* One connection. Made by dialling or accepting, freed by uv_peer.c after peers_on_closed. */
struct peer_conn {
    struct peers *peers;
    struct peer *peer;               /* Set once bound. */
    struct peers_route_entry *route; /* That it was dialled for, or NULL. */
    uint64_t dial_node_id;           /* The node it was dialled for, or 0. */
    enum peers_lane lane;
    bool is_dialler;
    bool is_bound;
    bool is_refused; /* The dial was refused: nobody listens there. */
    bool is_closing; /* peers_on_closed comes at the end of the turn. */
    const char *error;
    char ip[INET6_ADDRSTRLEN];
    uint16_t port;
    char url[PEERS_URL_BYTES_MAX]; /* Dialled. */
    uint64_t rid;
    uint64_t incarnation;
    int64_t start_ns, last_ns;
    uint64_t in_msgs, in_bytes, out_msgs, out_bytes;
    struct list link; /* In peers->conns. */
};

/* A URL to dial: configured, or heard of. */
struct peers_route_entry {
    char url[PEERS_URL_BYTES_MAX]; /* host:port */
    char *user, *pass;             /* From its userinfo. */
    bool is_configured;
    bool is_self;
    bool is_dialling;
    unsigned failures;
    uint64_t next_ms;
    uint64_t node_id;
    char error[128];
    struct list link;
};

struct peer_sub {
    struct router_sub sub;
    UT_hash_handle hh; /* By key: queue length, queue, subject. */
    uint32_t key_len;
    uint8_t key[];
};

struct peer {
    struct peers *peers;
    UT_hash_handle hh; /* By node_id. */
    uint64_t node_id;
    struct peers_info info; /* Strings are owned. */
    char **client_urls;
    char **routes;
    char address[PEERS_URL_BYTES_MAX]; /* Where it is dialled. */
    struct peer_conn *lanes[PEERS_LANE_COUNT];
    bool is_dialling[PEERS_LANE_COUNT];
    unsigned failures;
    uint64_t next_ms;
    uint64_t incarnation;
    uint64_t durable_lsn; /* The highest heard of it, over all its starts. */
    uint64_t heard_ms;
    struct heard_clock clock;
    bool is_paused;

    struct router_remote remote;
    struct peer_sub *subs;
    uint32_t subs_count;
};

struct peers {
    struct node_context *ctx;
    struct peer *table;
    struct list conns;
    struct list routes;
    unsigned routes_count;
    uint64_t rid_last;
    uint64_t incarnation;
    uint8_t cluster_uuid[16];
    bool is_listening, is_stopping;
    char cluster_url[PEERS_URL_BYTES_MAX]; /* As HELLO says it. */
    struct loop_timer *tick;
    uint64_t heartbeat_ms; /* The next. */
    uint64_t ticked_ms;
    char **client_urls; /* This node's. */
    uint32_t client_urls_count;

    peers_frame_cb frame_cb[PEERS_LANE_COUNT];
    void *frame_ctx[PEERS_LANE_COUNT];
    peers_type_cb type_cb[256];
    void *type_ctx[256];
    struct {
        struct peers_liveness cbs;
        void *ctx;
    } liveness[PEERS_LIVENESS_MAX];
    unsigned liveness_count;
    struct {
        peers_paused_cb cb;
        void *ctx;
    } paused[PEERS_LIVENESS_MAX];
    unsigned paused_count;
    peers_health_cb health_cb;
    void *health_ctx;

    struct slice *queues; /* ROUTER_QUEUES_MAX, for decoding. */
    struct peers_stats stats;
    struct uv_peers *uv; /* uv_peer.c: the listener. */
};

/* ---- uv_peer.c ---- */
struct uv_peers *uv_peers_new(struct peers *p);
void uv_peers_free(struct uv_peers *u);
int uv_peers_listen(struct uv_peers *u);
void uv_peers_close_listener(struct uv_peers *u);
/* Write what every connection has gathered. */
void uv_peers_flush(struct uv_peers *u);
/* Dial @url for @lane; peers_on_closed comes if it fails. */
struct peer_conn *peer_conn_dial(struct peers *p, const char *url, enum peers_lane lane,
                                 const char *user, const char *pass);
/* The buffer to append a frame to, and its end: peer_frame_begin and peer_frame_end between. */
struct buf *peer_conn_out(struct peer_conn *c);
void peer_conn_out_done(struct peer_conn *c);
size_t peer_conn_queued(const struct peer_conn *c);
/* Close; with @why a CLOSE frame is sent first. peers_on_closed comes later, from the loop. */
void peer_conn_close(struct peer_conn *c, const char *why);

/* The node, or NULL. */
struct peer *peers_find(const struct peers *p, uint64_t node_id);
bool peer_is_linked(const struct peer *peer);

/* A lane of it has a new connection: tell, if it is up. */
void peers_tell_renewed(struct peer *peer, enum peers_lane lane);
/* It is not there any more: close its lanes and tell. */
void peers_mark_down(struct peer *peer, const char *why);

/* ---- peers_hello.c ---- */
#define PEERS_DUPLICATE "duplicate connection"
void peers_free_list(char **items, uint32_t count);
void peers_free_strings(struct peer *peer);
void peers_set_client_urls(struct peer *peer, const struct peer_list *list);
void peers_set_tags(struct peer *peer, const struct peer_list *list);
/* This node's, as it tells the others. */
void peers_fill_client_urls(const struct peers *p, struct peer_list *list);
void peers_fill_tags(const struct peers *p, struct peer_list *list);

/* ---- called by uv_peer.c ---- */
/* This node's HELLO on @lane. Slices point into the peers. */
struct peers_health peers_health(const struct peers *p);
void peers_fill_hello(struct peers *p, enum peers_lane lane, struct peer_hello *ret_hello);
/* The other side's HELLO. NULL, or why the connection is closed. */
const char *peers_check_hello(struct peer_conn *c, const struct peer_hello *h);
/* Is it this node that decides which connection to the other side is kept? */
bool peers_decides(const struct peer_conn *c, const struct peer_hello *h);
/* Take the connection into service: by this node's decision, or by the other side's BEGIN. NULL, or
 * why not. */
const char *peers_bind(struct peer_conn *c, const struct peer_hello *h);
/* A frame of a bound connection. ERR_PROTO closes it. */
int peers_on_frame(struct peer_conn *c, uint8_t type, struct slice body);
void peers_on_closed(struct peer_conn *c);
void peers_on_drained(struct peer_conn *c);

/* ---- peers_dial.c ---- */
void peers_add_route(struct peers *p, const char *url, bool is_configured);
void peers_dial_due(struct peers *p);
void peers_dial_closed(struct peer_conn *c);
void peers_dial_free(struct peers *p);
void peers_dial_lane(struct peers *p, struct peer *peer, enum peers_lane lane);

/* ---- peers_interest.c ---- */
void peers_interest_start(struct peers *p);
void peers_interest_new_peer(struct peer *peer); /* Tell it all of ours; forget what was its. */
void peers_interest_forget(struct peer *peer);
int peers_interest_frame(struct peer *peer, struct slice body);
int peers_msg_frame(struct peer_conn *c, uint8_t type, struct slice body);
#endif
