/* Inside of the clients: one connection, and what all of them share.
 *
 *   uv_clients.c         listener, the list, pausing, eviction
 *   uv_client.c          life of one connection: reading, timers, closing
 *   uv_client_proto.c    what each operation does
 *   uv_client_out.c      output: chunks, one write per turn
 *   uv_client_monitor.c  /connz and /subsz
 *
 * A connection is OPEN until something dooms it: then it takes and delivers nothing any more, and
 * at LOOP_PHASE_COLLECT its subscriptions go and it LINGERS, so that the client can read a last
 * -ERR; then its handles close and it is freed. So nobody is freed in the middle of a walk. */
#ifndef CLUSTER_UV_CLIENT_H
#define CLUSTER_UV_CLIENT_H
#include <netinet/in.h>

#include <uv.h>

#include "broker/protocol.h"
#include "cluster/client_info.h"
#include "cluster/clients.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/node_options.h"
#include "cluster/router.h"
#include "storage/base/buf.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"

#define CLIENT_READ_BYTES (128u * 1024u) /* Of the read buffer that all share. */
#define CLIENT_TAIL_SHARED_MAX (16u * 1024u)
#define CLIENT_CHUNK_BYTES (64u * 1024u)
#define CLIENT_CHUNKS_FREE_MAX 64
#define CLIENT_IOVECS_MAX 64
#define CLIENT_FLUSH_BYTES (512u * 1024u) /* So much output does not wait for the turn's end. */
#define CLIENT_LINGER_MS 250
#define CLIENT_EVICT_MS 100 /* An evicted client is not read for so long before it is closed. */
#define CLIENT_FIRST_PING_MS 2000
#define CLIENT_FIRST_PING_JITTER_MS 400
#define CLIENT_STALL_MS 5

enum client_state { CLIENT_OPEN, CLIENT_DOOMED, CLIENT_LINGERING, CLIENT_CLOSING };

struct client_chunk {
    struct list link;
    struct buf buf; /* Never grows: what does not fit goes to another. */
    size_t sent_bytes;
};

struct client_sub {
    struct router_sub sub;
    struct client *client;
    UT_hash_handle hh; /* By sid. */
    struct list done_link;
    uint64_t delivered;
    uint64_t max; /* 0: no limit. */
    bool is_done; /* Reached max: goes at LOOP_PHASE_COLLECT. */
    uint32_t sid_len;
    uint8_t sid[];
};

struct client {
    uv_tcp_t tcp;
    uv_timer_t timer; /* Authentication, then pings, then leaving, then lingering. */
    uv_write_t write;
    uv_shutdown_t shutdown;
    unsigned handles_open;
    struct clients *cs;
    UT_hash_handle hh; /* By cid. */
    struct list dirty_link, doomed_link, paused_link, writing_link;
    uint64_t cid;
    enum client_state state;
    enum protocol_error doom;

    struct protocol parser;
    struct buf tail; /* Bytes that are not a whole operation yet. */
    unsigned holds;  /* Reasons not to read and parse now. */
    bool is_reading;
    bool is_in_parse;
    bool is_leaving;          /* Evicted: read no more, closed soon. */
    uint64_t paused_until_ms; /* 0: not paused. */

    struct list chunks;
    size_t pending_bytes;
    size_t unflushed_bytes;
    size_t inflight_bytes; /* Of the uv_write under way; 0: none. */
    uint64_t write_began_ms;

    struct client_sub *subs;
    uint32_t subs_count;

    struct client_connect connect;
    bool is_connected; /* CONNECT was accepted. */
    bool is_pong_sent; /* The first one: async INFO may follow. */
    bool is_auth_running;
    int pings_out;
    uint64_t ping_sent_ns;
    uint64_t rtt_ns;
    uint64_t rtt_at_ms;
    bool is_active; /* Something came since the last ping. */

    char ip[INET6_ADDRSTRLEN];
    uint16_t port;
    int64_t start_ns, last_ns;
    uint64_t in_msgs, in_bytes, out_msgs, out_bytes, stalls;
};

/* A connection that has ended, for /connz?state=closed. */
struct client_record {
    uint64_t cid;
    char ip[INET6_ADDRSTRLEN];
    uint16_t port;
    int64_t start_ns, last_ns, stop_ns;
    const char *reason; /* NULL: still open. */
    uint64_t rtt_ns, pending_bytes, in_msgs, in_bytes, out_msgs, out_bytes, stalls, subs_count;
    char *name, *lang, *version, *user;
    const struct client *client; /* NULL when closed. */
};

struct clients {
    struct node_context *ctx;
    uv_tcp_t listener;
    bool is_listening;
    struct client *by_cid;
    uint64_t cid_last;
    struct list dirty, doomed, paused, writing, done_subs;
    struct loop_timer *paused_timer;
    struct loop_timer *writing_timer;
    uint8_t *read_buf; /* CLIENT_READ_BYTES */
    struct list chunks_free;
    unsigned chunks_free_count;
    struct clients_stats stats;
    bool is_stall_hit; /* A delivery of this publish met a consumer near its bound. */

    struct client_record *closed; /* A ring. */
    uint32_t closed_count, closed_cap, closed_at;

    struct loop_timer *evict_timer;
    uint64_t evict_end_ms;
    void (*evict_done)(void *arg);
    void *evict_arg;
};

/* uv_client.c */
void client_accept(struct clients *cs);
/* End the connection for @why; its text is sent. Safe anywhere. */
void client_doom(struct client *c, enum protocol_error why);
/* Take part in the next turn end: doomed ones close, finished subscriptions go. */
void clients_collect(struct clients *cs);
void client_evict(struct client *c);  /* Read it no more, and close it in a moment. */
void client_hold(struct client *c);   /* Stop reading and parsing. */
void client_unhold(struct client *c); /* Parse what waited, read on. */
/* Close at once, saying nothing. */
void client_abort(struct client *c);
void client_start_pings(struct client *c);
void client_pause(struct client *c, uint64_t max_ms);
void client_unpause(struct client *c);

/* uv_client_proto.c */
/* Parse and carry out what is whole of @input; returns the bytes used. Stops when @c is doomed or
 * held. */
size_t client_parse(struct client *c, struct slice input);
void client_send_info(struct client *c, bool is_connect_info);
void client_remove_sub(struct client *c, struct client_sub *sub);
/* Whether the credentials of this client would be refused now. */
bool client_is_refused(struct client *c);

/* uv_client_out.c */
/* Room for @bytes_max more; append at most so many, then call client_out_done. */
struct buf *client_out(struct client *c, size_t bytes_max);
/* @bytes were appended. May doom the client (slow consumer). */
void client_out_done(struct client *c, size_t bytes);
/* Log an operation, for LOG_LEVEL_TRC. @arrow as in client_trace. */
void client_trace_op(const struct client *c, const char *arrow, struct slice op);
/* Write what waits now, as far as the socket takes it. */
void client_flush(struct client *c);
void client_out_close(struct client *c);
void clients_flush(struct clients *cs);         /* Everybody with output. */
void clients_check_writing(struct clients *cs); /* Write deadlines. */
void clients_free_chunks(struct clients *cs);

/* uv_client_monitor.c */
void client_record_closed(struct client *c);
void clients_free_records(struct clients *cs);
#endif
