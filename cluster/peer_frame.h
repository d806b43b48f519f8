/* The wire between nodes.
 *
 * The dialler sends 8 bytes `WEIRPEER`, then frames; the other side answers with frames. A frame:
 *
 *    0  4  length of the body, little-endian
 *    4  1  type
 *    5  1  flags, 0
 *    6  2  protocol version, 2
 *    8  4  CRC-32C of bytes 0 to 8 and the body
 *   12     body
 *
 * The first frame is AUTH (user, password), at most PEER_FRAME_AUTH_BYTES_MAX, within 2 s; nothing
 * else is looked at before it was accepted. Then the dialler sends HELLO, and the other side its
 * own. Of two nodes the one with the lower node_id decides whether the connection is taken into
 * service: it sends BEGIN, or CLOSE when there is one already. Before BEGIN nothing else is sent,
 * so that no connection that carries frames is given up for another one. A length is checked
 * against the bound of its lane before anything is allocated.
 *
 * Strings in bodies are a varint length and the bytes; numbers are varints unless said otherwise.
 * Decoding borrows from the body and accepts any bytes. */
#ifndef CLUSTER_PEER_FRAME_H
#define CLUSTER_PEER_FRAME_H
#include <stdbool.h>
#include <stdint.h>

#include "cluster/router.h"
#include "storage/base/buf.h"
#include "storage/base/slice.h"

#define PEER_FRAME_MAGIC "WEIRPEER"
#define PEER_FRAME_MAGIC_BYTES 8
#define PEER_FRAME_HEAD_BYTES 12
#define PEER_FRAME_VERSION 2
#define PEER_FRAME_AUTH_BYTES_MAX 4096
#define PEER_FRAME_HELLO_BYTES_MAX 65536
#define PEER_FRAME_LIST_MAX 256 /* URLs in one list. */

enum peer_frame_type {
    PEER_FRAME_AUTH = 1,  /* user, password */
    PEER_FRAME_HELLO,     /* struct peer_hello */
    PEER_FRAME_CLOSE,     /* why: a text; the sender closes. */
    PEER_FRAME_GOSSIP,    /* a cluster URL that the sender is connected to */
    PEER_FRAME_UPDATE,    /* struct peer_update */
    PEER_FRAME_INTEREST,  /* account, subject, queue, weight; weight 0 ends it */
    PEER_FRAME_MSG,       /* account, subject, reply, queues, header; the rest is the payload */
    PEER_FRAME_HEARTBEAT, /* struct peer_heartbeat */
    PEER_FRAME_RAFT,      /* a frame of raft/host */
    PEER_FRAME_BULK,      /* the same on the bulk lane */
    PEER_FRAME_BEGIN,     /* empty: the connection is in service */
    PEER_FRAME_DELIVER,   /* the subject to show, then as MSG; to who knows machine version 4 */
    PEER_FRAME_USER = 64, /* PEERS_TYPE_USER: registered types, client lane */
};

struct peer_list {
    struct slice items[PEER_FRAME_LIST_MAX];
    uint32_t count;
};

struct peer_hello {
    uint8_t lane;
    bool is_jetstream;
    uint8_t uuid[16];
    uint8_t cluster_uuid[16];
    uint64_t incarnation; /* Random, of this start. */
    uint64_t boot_count;
    uint64_t start_lsn; /* peers_health.start_lsn */
    uint16_t machine_version_max;
    struct slice cluster_name, server_name, server_id, version;
    struct slice cluster_url; /* `host:port`, or `:port` for where the connection comes from. */
    struct peer_list client_urls, routes, known;
    /* From here on older nodes send nothing: version 1 and no tags. */
    uint16_t meta_version_max;
    struct peer_list tags;
};

struct peer_update {
    uint8_t cluster_uuid[16];
    struct peer_list client_urls;
    struct peer_list tags;
};

struct peer_heartbeat {
    uint64_t turns;   /* Of the sender's loop. */
    int64_t clock_ns; /* The sender's, not before 1970. */
    uint64_t durable_lsn;
    uint64_t sync_us; /* What a sync took of late, as a rule; 0: there was none. */
    uint8_t flags;    /* PEER_HEARTBEAT_* */
};
#define PEER_HEARTBEAT_LEAVING 1u       /* It stops soon: it wants no leaderships. */
#define PEER_HEARTBEAT_DISK_SLOW 2u     /* Nor does it now. */
#define PEER_HEARTBEAT_DISK_STUCK 4u    /* It can neither lead nor vote. */
#define PEER_HEARTBEAT_DISK_FULL 8u     /* Nobody is to publish what it has to store. */
#define PEER_HEARTBEAT_CLOCK_SKEWED 16u /* It wants no leaderships. */
#define PEER_HEARTBEAT_CLOCK_SURE 32u   /* Its clock is right, and the agreed one stands. */
#define PEER_HEARTBEAT_DISK_BEHIND 64u  /* Nobody is to publish now what it has to store, */
#define PEER_HEARTBEAT_DISK_LAGS 128u   /* or little. */

/* Begin a frame at the end of @out and return its offset; append the body; end it. */
size_t peer_frame_begin(struct buf *out, uint8_t type);
void peer_frame_end(struct buf *out, size_t at);

struct peer_frame_head {
    uint32_t body_bytes;
    uint8_t type;
    uint8_t flags;
    uint16_t version;
    uint32_t crc;
};
/* Needs PEER_FRAME_HEAD_BYTES. */
struct peer_frame_head peer_frame_head(const uint8_t *ptr);
/* Whether the frame at @ptr, head and body, has the CRC it says. */
bool peer_frame_is_intact(const uint8_t *ptr, uint32_t body_bytes);

void peer_frame_string(struct buf *out, struct slice s);
struct slice peer_frame_read_string(struct reader *r);

void peer_frame_hello(struct buf *out, const struct peer_hello *h);
/* Returns 0 or ERR_PROTO. */
int peer_frame_read_hello(struct slice body, struct peer_hello *ret_hello);
void peer_frame_update(struct buf *out, const struct peer_update *u);
int peer_frame_read_update(struct slice body, struct peer_update *ret_update);
void peer_frame_heartbeat(struct buf *out, const struct peer_heartbeat *h);
int peer_frame_read_heartbeat(struct slice body, struct peer_heartbeat *ret_heartbeat);
/* The body of a MSG. @queues has room for ROUTER_QUEUES_MAX. What is read is fit for clients:
 * subject and reply are words on a line of their protocol. */
void peer_frame_msg(struct buf *out, const struct router_msg *msg, const struct slice *queues,
                    uint32_t queues_count);
/* The body of a DELIVER: a MSG with msg->shown. */
int peer_frame_read_deliver(struct slice body, struct router_msg *ret_msg, struct slice *queues,
                            uint32_t *ret_queues_count);
int peer_frame_read_msg(struct slice body, struct router_msg *ret_msg, struct slice *queues,
                        uint32_t *ret_queues_count);
#endif
