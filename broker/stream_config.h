/* The configuration of a stream: reference/jetstream-api.md 2.1, with every field of API level 0.
 *
 * The struct is complete and normalised: limits are -1 or positive, defaults are filled in. Strings
 * are owned and NUL-terminated; NULL is "absent". Its JSON codec and checks stand in
 * stream_config.c. */
#ifndef BROKER_STREAM_CONFIG_H
#define BROKER_STREAM_CONFIG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/placement.h"
#include "storage/base/buf.h"

enum stream_retention { RETENTION_LIMITS, RETENTION_INTEREST, RETENTION_WORKQUEUE };
enum stream_discard { DISCARD_OLD, DISCARD_NEW };
enum stream_storage { STORAGE_FILE, STORAGE_MEMORY };

struct metadata_item {
    char *key;
    char *value;
};

/* What holds for the consumers of a stream: what they take when they do not say, and what they may
 * say at most. 0 = nothing is said. */
struct consumer_limits {
    int64_t inactive_threshold_ns;
    int64_t max_ack_pending;
};

/* Under which subject messages are stored: subject_transform.h. */
struct transform_config {
    char *source;
    char *destination;
};

/* What is stored is published again. */
struct republish_config {
    char *source;
    char *destination; /* NULL: it is not. */
    bool headers_only;
};

struct stream_config {
    char *name;
    char *description;
    char **subjects;
    size_t subjects_count;
    enum stream_retention retention;
    enum stream_discard discard;
    enum stream_storage storage;
    int64_t max_consumers; /* -1 = unlimited, as for all limits here. */
    int64_t max_msgs;
    int64_t max_bytes;
    int64_t max_msgs_per_subject;
    int32_t max_msg_size;        /* Headers and payload. */
    int64_t max_age_ns;          /* 0 = off. */
    int64_t duplicate_window_ns; /* 0 = off. */
    int replicas_count;          /* 1 to 5. */
    uint64_t first_seq;          /* 0 = absent. */
    struct placement placement;
    struct consumer_limits consumer_limits;
    struct transform_config transform;
    struct republish_config republish;
    bool discard_new_per_subject;
    bool no_ack;
    bool allow_direct;
    bool mirror_direct;
    bool sealed;
    bool deny_delete;
    bool deny_purge;
    bool allow_rollup_hdrs;
    struct metadata_item *metadata; /* Sorted by key. */
    size_t metadata_count;
};

/* Everything at the defaults of an empty request: limits -1, file, limits retention, R1, 2 min
 * window. */
void stream_config_init(struct stream_config *c);
void stream_config_close(struct stream_config *c);
void stream_config_copy(struct stream_config *to, const struct stream_config *from);
bool stream_config_eq(const struct stream_config *a, const struct stream_config *b);

/* The version of the meta machine (meta.h) that knows all of @c, and in *ret_feature the field that
 * asks for it, NULL when any version does. Older builds cannot read such a configuration at all. */
unsigned stream_config_version(const struct stream_config *c, const char **ret_feature);

/* Append the canonical JSON: what CONFIG ops, checkpoints and API replies carry. */
void stream_config_print(const struct stream_config *c, struct buf *out);
/* Compile what it says of subjects; NULL: nothing. 0, or ERR_INVALID, which stream_config_parse()
 * and the API refuse. */
struct subject_transform;
int stream_config_transform(const struct stream_config *c,
                            struct subject_transform **ret_transform);
/* The same, of what is published again. */
int stream_config_republish(const struct stream_config *c,
                            struct subject_transform **ret_transform);
/* Read what stream_config_print wrote. Returns 0 or ERR_INVALID; @c is untouched on error. */
int stream_config_parse(struct stream_config *ret_c, struct slice json);
#endif
