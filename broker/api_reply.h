/* Replies of the JetStream API: from plain structs to the reference's JSON.
 *
 * Every function appends one whole JSON object, or what its comment says. Strings are borrowed.
 * Order and omission of members follow reference/jetstream-api.md 2.2, 2.3, 3.3, 11.3 and 12.1. */
#ifndef BROKER_API_REPLY_H
#define BROKER_API_REPLY_H
#include "broker/api_error.h"
#include "broker/consumer_config.h"
#include "broker/stream_config.h"

/* Times are ns since 1970; INT64_MIN prints as Go's zero time. */
struct api_stream_state {
    uint64_t messages;
    uint64_t bytes;
    uint64_t first_seq;
    int64_t first_time_ns;
    uint64_t last_seq;
    int64_t last_time_ns;
    uint64_t subjects_count;
    uint64_t deleted_count;
    struct slice deleted;  /* The JSON array, or empty. */
    struct slice subjects; /* The JSON object, or empty. */
    uint64_t consumers_count;
};

struct api_peer {
    const char *name;
    const char *peer; /* The 8 characters of its id. */
    bool is_current;
    bool is_offline;
    int64_t active_ns;
    uint64_t lag;
};

/* Absent when `name` is NULL (standalone). */
struct api_cluster {
    const char *name;
    const char *raft_group;       /* NULL for R1. */
    const char *leader;           /* "" when there is none. */
    const struct api_peer *peers; /* Others than the leader, sorted by name. */
    size_t peers_count;
};

struct api_stream_info {
    const struct stream_config *config;
    int64_t created_ns;
    int64_t now_ns;
    struct api_stream_state state;
    struct api_cluster cluster;
};

struct api_consumer_info {
    const char *stream_name;
    const char *name;
    const struct consumer_config *config;
    int64_t created_ns;
    int64_t now_ns;
    uint64_t delivered_consumer_seq;
    uint64_t delivered_stream_seq;
    int64_t delivered_active_ns; /* INT64_MIN = never. */
    uint64_t floor_consumer_seq;
    uint64_t floor_stream_seq;
    int64_t floor_active_ns; /* INT64_MIN = never. */
    uint64_t ack_pending_count;
    uint64_t redelivered_count;
    uint64_t waiting_count;
    uint64_t pending_count;
    struct api_cluster cluster;
    bool is_push_bound;
};

struct api_account_info {
    uint64_t memory_bytes;
    uint64_t storage_bytes;
    uint64_t streams_count;
    uint64_t consumers_count;
    uint64_t api_total;
    uint64_t api_errors;
    int64_t max_memory; /* -1 = unlimited */
    int64_t max_storage;
};

/* {"type":"io.nats.jetstream.api.v1.@type" and, if @error is not NULL and set, the error. Leaves
 * the object open: append members beginning with a comma, then "}". */
void api_reply_open(struct buf *out, const char *type, const struct api_error *error);
/* A whole reply that only tells an error, or success:true with @error NULL. */
void api_reply_error(struct buf *out, const char *type, const struct api_error *error);
void api_reply_success(struct buf *out, const char *type);

/* [{...}, ...], each peer. */
void api_print_peers(struct buf *out, const struct api_cluster *c);
/* Members config, created, state, cluster, ts; without braces and without a leading comma. */
void api_print_stream_info(struct buf *out, const struct api_stream_info *info);
void api_print_stream_state(struct buf *out, const struct api_stream_state *state);
/* Members stream_name … ts; without braces and without a leading comma. */
void api_print_consumer_info(struct buf *out, const struct api_consumer_info *info);
/* "total":…,"offset":…,"limit":… */
void api_print_page(struct buf *out, uint64_t total, uint64_t offset, uint64_t limit);

void api_reply_account_info(struct buf *out, const struct api_account_info *info);
/* STREAM.MSG.GET. The payload's and headers' bytes are printed as base64; empty ones are omitted.
 */
void api_reply_message(struct buf *out, struct slice subject, uint64_t seq, struct slice headers,
                       struct slice payload, int64_t time_ns);
void api_reply_purge(struct buf *out, uint64_t purged_count);

/* PubAck: success, or with @error set the error form. @val and domains come with later features. */
void api_puback(struct buf *out, const char *stream, uint64_t seq, bool is_duplicate);
/* The same in two steps: what all acks of a stream begin with, and the rest. */
void api_puback_begin(struct buf *out, const char *stream);
void api_puback_end(struct buf *out, uint64_t seq, bool is_duplicate);
void api_puback_error(struct buf *out, const char *stream, const struct api_error *error);

/* The reference's getHash: 8 characters of SHA-256 of a name. Used for peer ids and consumer names.
 * @digest is the SHA-256, computed by the caller (this folder links no crypto). */
void api_hash_text(const uint8_t digest[32], char ret_text[9]);
#endif
