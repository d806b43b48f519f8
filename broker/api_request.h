/* Requests of the JetStream API: from JSON to checked, normalised values, or the reference's error.
 *
 * Everything that depends on the request alone is decided here; what depends on other streams, on
 * placement or on a stream's state is the caller's. Source of rules and texts: reference/
 * jetstream-api.md 1 to 3, and the answers of nats-server where it leaves doubt. */
#ifndef BROKER_API_REQUEST_H
#define BROKER_API_REQUEST_H
#include "broker/api_error.h"
#include "broker/consumer_config.h"
#include "broker/stream_config.h"

#define API_NAME_BYTES_MAX 255
#define API_DESCRIPTION_BYTES_MAX 4096
#define API_METADATA_BYTES_MAX (128 * 1024)
#define API_REPLICAS_MAX 5

/* What the server that answers is like. */
struct api_limits {
    bool is_clustered;
    int64_t max_ack_pending;         /* Server limit for consumers; 0 = none. */
    int64_t duplicate_window_max_ns; /* 0 = none. */
};

/* The body of STREAM.CREATE or STREAM.UPDATE for the stream @name of the subject. On success the
 * caller closes *ret_config. All functions here return 0, or ERR_INVALID with *ret_error filled. */
int api_read_stream_config(struct slice body, struct slice name, const struct api_limits *limits,
                           bool is_update, struct stream_config *ret_config,
                           struct api_error *ret_error);
/* May a stream with @old become one with @wanted? (jetstream-api.md 2.4) */
int api_check_stream_update(const struct stream_config *old, const struct stream_config *wanted,
                            struct api_error *ret_error);
/* What sealing a stream sets besides; nothing if @c does not seal. */
void api_seal_stream(struct stream_config *c);
/* Drop what the reference's server says itself in metadata: clients send back what they read. */
void api_drop_reserved_metadata(struct metadata_item *items, size_t *count);

enum consumer_action { CONSUMER_ACTION_ANY, CONSUMER_ACTION_CREATE, CONSUMER_ACTION_UPDATE };

/* The four subject forms of consumer creation. */
struct api_consumer_subject {
    struct slice stream;
    struct slice name;    /* Empty for an unnamed one. */
    struct slice filter;  /* Empty if the subject has none. */
    bool is_durable_form; /* CONSUMER.DURABLE.CREATE */
};

/* The body of a consumer creation. @stream is the configuration of the stream, NULL when it does
 * not exist (then only what comes before that check fails otherwise than with E10059). The name is
 * empty in *ret_config->name when the caller must generate one. */
int api_read_consumer_config(struct slice body, const struct api_consumer_subject *subject,
                             const struct api_limits *limits, const struct stream_config *stream,
                             struct consumer_config *ret_config, enum consumer_action *ret_action,
                             struct api_error *ret_error);
/* Does it ask for more than a stream with @limits has for its consumers? */
bool api_exceeds_limits(const struct consumer_config *c, const struct consumer_limits *limits);
/* How long it lives unused when the request did not say. @old: what it replaces, or NULL; a durable
 * consumer that is named without that word stays what it is. */
void api_default_inactive(struct consumer_config *c, const struct consumer_config *old);
/* May a consumer with @old become one with @wanted? (jetstream-api.md 3.2, column Upd) */
int api_check_consumer_update(const struct consumer_config *old,
                              const struct consumer_config *wanted, struct api_error *ret_error);

/* STREAM.NAMES, STREAM.LIST, STREAM.INFO, CONSUMER.NAMES, CONSUMER.LIST. Strings are owned. */
struct api_paging {
    int64_t offset; /* Not negative. */
    char *subject;  /* NULL = none. */
    char *subjects_filter;
    bool deleted_details;
};
enum api_paging_kind { API_PAGING_STREAMS, API_PAGING_STREAM_INFO, API_PAGING_CONSUMERS };
int api_read_paging(struct slice body, enum api_paging_kind kind, struct api_paging *ret_paging,
                    struct api_error *ret_error);
void api_paging_close(struct api_paging *p);

struct api_purge {
    char *filter; /* NULL = all. */
    uint64_t seq;
    uint64_t keep;
};
int api_read_purge(struct slice body, struct api_purge *ret_purge, struct api_error *ret_error);
void api_purge_close(struct api_purge *p);

struct api_msg_delete {
    uint64_t seq;
    bool no_erase;
};
int api_read_msg_delete(struct slice body, struct api_msg_delete *ret_delete,
                        struct api_error *ret_error);

/* STREAM.MSG.GET and the single forms of DIRECT.GET. */
struct api_msg_get {
    uint64_t seq;
    char *last_by_subj;
    char *next_by_subj;
    int64_t start_time_ns; /* INT64_MIN = absent. */
    bool no_hdr;
    bool is_none; /* It names no message. */
};
int api_read_msg_get(struct slice body, struct api_msg_get *ret_get, struct api_error *ret_error);
void api_msg_get_close(struct api_msg_get *g);

/* Body of STREAM.PEER.REMOVE and SERVER.REMOVE: a server's name, or the id it has in replies. */
struct api_peer_request {
    char *peer; /* One of them may be NULL. */
    char *peer_id;
};
int api_read_peer_request(struct slice body, struct api_peer_request *ret_request,
                          struct api_error *ret_error);
void api_peer_request_close(struct api_peer_request *p);

/* The body of LEADER.STEPDOWN: where leadership is to go; the caller closes it. */
int api_read_stepdown(struct slice body, struct placement *ret_placement,
                      struct api_error *ret_error);

/* The body counts as empty: nothing, {} or an object without members. */
bool api_is_empty_body(struct slice body);
#endif
