/* The configuration of a consumer: reference/jetstream-api.md 3.2, with the fields of API level 0.
 *
 * Normalised, strings owned, NULL is "absent"; see stream_config.h. */
#ifndef BROKER_CONSUMER_CONFIG_H
#define BROKER_CONSUMER_CONFIG_H
#include "broker/stream_config.h"

enum deliver_policy {
    DELIVER_ALL,
    DELIVER_LAST,
    DELIVER_NEW,
    DELIVER_BY_START_SEQUENCE,
    DELIVER_BY_START_TIME,
    DELIVER_LAST_PER_SUBJECT
};
enum ack_policy { ACK_NONE, ACK_ALL, ACK_EXPLICIT };
enum replay_policy { REPLAY_INSTANT, REPLAY_ORIGINAL };

struct consumer_config {
    char *name;         /* Always set once created: durable, named or generated. */
    char *durable_name; /* NULL for an ephemeral one. */
    char *description;
    enum deliver_policy deliver_policy;
    enum ack_policy ack_policy;
    enum replay_policy replay_policy;
    uint64_t opt_start_seq;
    int64_t opt_start_time_ns; /* INT64_MIN = absent. */
    int64_t ack_wait_ns;       /* 0 with ACK_NONE. */
    int64_t max_deliver;       /* -1 = unlimited. */
    int64_t *backoff_ns;
    size_t backoff_count;
    char *
        filter_subject; /* Set if it came by the single key; then it is also the list's only one. */
    char **filter_subjects; /* All filters, whichever key they came from; none = everything. */
    size_t filter_subjects_count;
    uint64_t rate_limit_bps;
    char *sample_freq;
    int64_t max_waiting;
    int64_t max_ack_pending; /* -1 = unlimited. */
    bool flow_control;
    bool headers_only;
    int64_t max_batch; /* 0 = no cap, as for the two below. */
    int64_t max_expires_ns;
    int64_t max_bytes;
    char *deliver_subject; /* NULL for pull. */
    char *deliver_group;
    int64_t idle_heartbeat_ns;
    int64_t inactive_threshold_ns; /* 0 = never. */
    int replicas_count;            /* 0 = as the stream. */
    bool mem_storage;
    struct metadata_item *metadata; /* Sorted by key. */
    size_t metadata_count;
};

/* Everything at the defaults of an empty request. */
void consumer_config_init(struct consumer_config *c);
void consumer_config_close(struct consumer_config *c);
bool consumer_config_eq(const struct consumer_config *a, const struct consumer_config *b);

/* Append the canonical JSON: what CONSUMER_SET ops, checkpoints and API replies carry. */
void consumer_config_print(const struct consumer_config *c, struct buf *out);
/* Read what consumer_config_print wrote. Returns 0 or ERR_INVALID; @c is untouched on error. */
int consumer_config_parse(struct consumer_config *ret_c, struct slice json);
#endif
