/* The other nodes of the cluster: who they are, whether they live, and frames to and from them.
 *
 * Three connections per pair of nodes. CLIENT: interest, core messages, and the message types
 * registered here; FIFO. RAFT: raft/host frames and node heartbeats; liveness is judged on it
 * alone. BULK: catch-up. Frames sent in one turn leave in one write. The wire is described in
 * peer_frame.h.
 *
 * A node is named by its node_id: the first 8 bytes of its uuid, never 0. Loop thread only. */
#ifndef CLUSTER_PEERS_H
#define CLUSTER_PEERS_H
#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "broker/tags.h"
#include "storage/base/buf.h"
#include "storage/base/slice.h"

#define PEERS_MAX 64                          /* Nodes of a cluster. */
#define PEERS_FRAME_BYTES_MAX (72u << 20)     /* The largest core message and its names. */
#define PEERS_RAFT_FRAME_BYTES_MAX (8u << 20) /* A frame on RAFT or BULK. */
#define PEERS_CLIENT_QUEUE_MAX (64u << 20)    /* Beyond it core messages are dropped. */
#define PEERS_PAUSE_BYTES (16u << 20)         /* Beyond it sources are paused ... */
#define PEERS_RESUME_BYTES (4u << 20)         /* ... until it is down to this. */
#define PEERS_RAFT_QUEUE_MAX (64u << 20)      /* Beyond it frames of the lane are refused. */
#define PEERS_HEARTBEAT_MS 100
#define PEERS_SILENCE_MS 600

enum peers_lane { PEERS_LANE_CLIENT, PEERS_LANE_RAFT, PEERS_LANE_BULK, PEERS_LANE_COUNT };

/* Types of messages on the client lane that other modules own: PEERS_TYPE_USER to 255. */
#define PEERS_TYPE_USER 64

struct peers;
struct node_context;

struct peers *peers_new(struct node_context *ctx);
void peers_free(struct peers *p);

/* Listen on the cluster port and connect to the routes. Returns 0 or ERR_IO. */
int peers_start(struct peers *p);
/* Close everything; ends within some turns. No callback follows. */
void peers_stop(struct peers *p);
bool peers_is_listening(const struct peers *p);

/* ---- Frames ---- */

/* Send a frame made of @parts to a node. Copied. Returns 0, ERR_NOTFOUND (not connected: lost) or
 * ERR_FULL (the lane's bound). */
int peers_send(struct peers *p, uint64_t node_id, enum peers_lane lane, const struct slice *parts,
               unsigned parts_count);
/* A frame of RAFT or BULK came in. @frame is borrowed. ERR_PROTO closes the connection. */
typedef int (*peers_frame_cb)(void *ctx, uint64_t node_id, enum peers_lane lane,
                              struct slice frame);
void peers_set_frame_cb(struct peers *p, enum peers_lane lane, peers_frame_cb cb, void *ctx);

/* Send a message of @type (PEERS_TYPE_USER and above) on the client lane: in order with interest,
 * core messages and others of its kind, and never dropped while the connection stands. Copied.
 * Returns 0 or ERR_NOTFOUND (no connection). What was sent when a connection breaks may be lost:
 * the lane above numbers and resends. */
int peers_client_send(struct peers *p, uint64_t node_id, uint8_t type, const struct slice *parts,
                      unsigned parts_count);
/* One handler per type. ERR_PROTO closes the connection. */
typedef int (*peers_type_cb)(void *ctx, uint64_t node_id, struct slice body);
void peers_register(struct peers *p, uint8_t type, peers_type_cb cb, void *ctx);
/* The client lane to a node is above PEERS_PAUSE_BYTES (stop your sources), or below
 * PEERS_RESUME_BYTES again. */
typedef void (*peers_paused_cb)(void *ctx, uint64_t node_id, bool is_paused);
void peers_add_paused_cb(struct peers *p, peers_paused_cb cb, void *ctx);

/* ---- Liveness ---- */

/* Up: all three lanes stand. Down: the raft connection closed and a reconnect was refused, or
 * nothing was heard for PEERS_SILENCE_MS. Callbacks run in the order they were added. */
struct peers_liveness {
    void (*up)(void *ctx, uint64_t node_id);
    void (*down)(void *ctx, uint64_t node_id);
    /* Its disk takes nothing, or does so again; also down ends it. May be NULL. */
    void (*stuck)(void *ctx, uint64_t node_id, bool is_stuck);
    /* A lane of a node that is up has a new connection: what was sent on the old one may be lost.
     * May be NULL. */
    void (*renewed)(void *ctx, uint64_t node_id, enum peers_lane lane);
};
void peers_add_liveness(struct peers *p, const struct peers_liveness *cbs, void *ctx);

/* What this node says of itself in heartbeats and HELLO; asked for each. */
struct peers_health {
    uint64_t durable_lsn;
    uint64_t start_lsn;   /* Where the log ended when this node started; UINT64_MAX: it was damaged,
                           * and says so itself. */
    uint64_t sync_us;     /* What a sync took of late, as a rule; 0: there was none. */
    bool is_leaving;      /* Stops soon, and takes no leaderships. */
    bool is_disk_slow;    /* Takes none now: its disk is slow, or has little room. */
    bool is_disk_full;    /* Nobody is to publish what it has to store. */
    bool is_disk_behind;  /* Nor now: it has much in memory that is to be flushed. */
    bool is_disk_lagging; /* Or little: what it has takes its disk a while. */
    bool is_disk_stuck;   /* Can neither lead nor vote now: others take over. */
    bool is_clock_skewed; /* Takes no leaderships. */
    bool is_clock_sure;   /* agreed_time.is_sure */
};
typedef void (*peers_health_cb)(void *ctx, struct peers_health *ret_health);
void peers_set_health_cb(struct peers *p, peers_health_cb cb, void *ctx);

/* ---- Who is there ---- */

struct peers_info {
    uint64_t node_id;
    uint8_t uuid[16];
    uint8_t cluster_uuid[16]; /* All zero: none yet. */
    const char *name;         /* server_name */
    const char *server_id;
    const char *version;
    const char *cluster_url; /* host:port */
    const char *const *client_urls;
    uint32_t client_urls_count;
    const char *const *routes; /* host:port configured there. */
    uint32_t routes_count;
    uint64_t boot_count;
    /* It starts with less than it once said it had: its disk was set back. These it must have at
     * least. */
    bool is_set_back;
    uint64_t least_boot_count;
    uint64_t least_lsn;
    int64_t clock_base_ns; /* broker/log_time.h; while has_clock. */
    int64_t active_ns;     /* Since its last heartbeat, never 0; by peers_get only. */
    uint16_t machine_version_max;
    uint16_t meta_version_max;
    struct tag_list tags; /* server_tags, as last heard. */
    bool is_jetstream;
    bool is_up;
    bool is_linked;   /* All lanes are open; by peers_get only. */
    uint64_t sync_us; /* This and what follows: as it said of itself last. */
    bool is_leaving;
    bool is_disk_slow;
    bool is_disk_full;
    bool is_disk_behind;
    bool is_disk_lagging;
    bool is_disk_stuck;
    bool is_clock_skewed;
    bool is_clock_sure;
    bool has_clock;
};
/* Every node ever seen, up or not, in order of node_id. False ends the walk; returns nothing. */
typedef bool (*peers_each_cb)(void *ctx, const struct peers_info *info);
void peers_each(struct peers *p, peers_each_cb cb, void *ctx);
/* False when it was never seen. The strings belong to the peers and hold until the next turn. */
bool peers_get(const struct peers *p, uint64_t node_id, struct peers_info *ret_info);
/* A configured route whose node was reached at least once, or the reason why not (valid until the
 * next turn); for the birth of a cluster. */
struct peers_route {
    const char *url;  /* host:port */
    uint64_t node_id; /* 0: not reached yet; this node's own id: a self-route. */
    const char *error;
};
typedef void (*peers_route_cb)(void *ctx, const struct peers_route *route);
void peers_each_route(struct peers *p, peers_route_cb cb, void *ctx);
/* Tell the others the cluster uuid that this node has adopted from now on. */
void peers_announce_cluster_uuid(struct peers *p, const uint8_t uuid[16]);
/* Send heartbeats now: what this node says of itself has changed. */
void peers_announce_health(struct peers *p);
/* Tell them the tags that this node has from now on. */
void peers_announce_tags(struct peers *p);
/* Tell them that clients should not come here any more; ctx->is_lame_duck is set before. */
void peers_announce_lame_duck(struct peers *p);

/* ---- For INFO and monitoring ---- */

/* Append the client URLs of the nodes that are up. */
void peers_client_urls(struct peers *p, json_t *array);
/* The body of /routez. */
json_t *peers_routez(struct peers *p, bool has_subs, bool has_detail);
struct peers_stats {
    uint64_t connections; /* Route connections open. */
    uint64_t remotes;     /* Nodes connected. */
    uint64_t in_msgs, in_bytes, out_msgs, out_bytes;
    uint64_t dropped_msgs; /* Core messages dropped at the bound. */
};
struct peers_stats peers_stats(const struct peers *p);
#endif
