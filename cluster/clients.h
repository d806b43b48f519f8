/* The clients of this node: listener, connections, core NATS (implemented by uv_client*.c).
 *
 * A client is named by its cid, which is never used again, so that who keeps one cannot be left
 * with a dangling pointer. Loop thread only. */
#ifndef CLUSTER_CLIENTS_H
#define CLUSTER_CLIENTS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "storage/base/buf.h"
#include "storage/base/slice.h"

struct clients;
struct node_context;

/* Counters of the node, from the start. */
struct clients_stats {
    uint64_t in_msgs, in_bytes, out_msgs, out_bytes;
    uint64_t total_connections;
    uint64_t slow_consumers, stale_connections, stalled_clients;
    uint64_t connections, subscriptions; /* Now. */
};

/* Nothing listens yet. @ctx outlives it. */
struct clients *clients_new(struct node_context *ctx);
void clients_free(struct clients *cs); /* All connections are closed before, by clients_stop. */

/* Bind and listen; the port chosen is in ctx->client_port. Returns 0 or ERR_IO, with errno. */
int clients_listen(struct clients *cs);
void clients_close_listener(struct clients *cs);
bool clients_is_listening(const struct clients *cs);
/* Close the listener and every connection, as Server Shutdown; they end within some turns. */
void clients_stop(struct clients *cs);

struct clients_stats clients_stats(const struct clients *cs);

/* Stop reading from a client, for flow control, and go on again. Calls nest; an unknown cid is
 * ignored. A paused client is read again after at most @max_ms even without clients_resume. */
void clients_pause(struct clients *cs, uint64_t cid, uint64_t max_ms);
void clients_resume(struct clients *cs, uint64_t cid);

/* Read nothing more from any client, for good; what was read is still served. Before a stop: what
 * they sent and hear no answer to was never taken. */
void clients_stop_reading(struct clients *cs);

/* Close every connection, as Server Shutdown, while the loop goes on: each when its client has read
 * what was sent to it, or soon after. */
void clients_close_all(struct clients *cs);
bool clients_are_gone(const struct clients *cs);

/* Send the INFO to every client that understands it (protocol 1, first PONG sent): connect_urls
 * changed, or lame duck. */
void clients_broadcast_info(struct clients *cs);
/* Lame duck: close clients evenly over @over_ms and then call @done. With no client at once. Each
 * is not read any more for a moment before, in which it hears the answers to what it sent. */
void clients_evict(struct clients *cs, uint64_t over_ms, void (*done)(void *arg), void *arg);
/* After a reload of the authorization: close who would not be let in now. */
void clients_recheck_auth(struct clients *cs);

/* Fill the `connections` and totals of /connz. */
struct clients_connz {
    const char *sort;
    bool is_auth;
    bool has_subs, has_subs_detail;
    uint64_t offset, limit;
    uint64_t cid; /* 0: all. */
    const char *user;
    int state; /* 0 open, 1 closed, 2 any. */
};
/* A new JSON object; NULL for an unknown sort key. */
json_t *clients_connz(struct clients *cs, const struct clients_connz *query);
/* An array of subscriptions as /subsz lists them, those matching the literal @test if not NULL. */
json_t *clients_subsz(struct clients *cs, const char *test, uint64_t offset, uint64_t limit,
                      uint64_t *ret_total);
#endif
