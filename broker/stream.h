/* The stream machine: a pure function from log entries to effects (design 2 to 5, house-style 5).
 *
 * Every replica applies the same entries in the same order and reaches the same state, the same
 * effects and the same hash: no clock, no randomness, no I/O, no failure. Out of memory stops the
 * process. All calls belong to one thread.
 *
 *   stream_new or stream_restore_*  ->  stream_step(entry) -> effects, carried out by the embedder
 *                                       stream_checkpoint() -> changed items for the store
 *
 * The machine knows each live message's sequence, time, subject and size; the bytes are the
 * store's. Messages: jetstream-api.md 6.1 to 6.3 (in the R3 order of 6.2 whatever the replication)
 * and 8. */
#ifndef BROKER_STREAM_H
#define BROKER_STREAM_H
#include "broker/entry.h"
#include "broker/stream_config.h"
#include "broker/stream_filter.h"

#define STREAM_JOB_STEP_MESSAGES 10000u /* A JOB_STEP removes or examines at most so many. */
#define STREAM_JOB_STEP_SCANNED                                                                    \
    500000u                       /* Messages of other subjects that it looks at, at most.         \
                                   */
#define STREAM_JOBS_MAX 64u       /* Purges waiting; the next is refused. */
#define STREAM_LANE_ANSWERS 4096u /* Answers kept per origin. */
#define STREAM_ORIGIN_FORGET_NS (3600ll * 1000000000ll)
#define STREAM_DUE_NEVER INT64_MAX
#define STREAM_DUE_SHARED_NS 250000000ll /* Due times closer than this share one CLOCK. */

struct stream;
struct consumers; /* The stream's consumers: consumer.h. */

/* ---- Effects ---- */

/* Slices point into the entry or into the effects, and live until the next step or clear. */

/* Put the message into the store. All replicas. */
struct effect_store {
    uint64_t seq;
    int64_t time_ns;
    struct slice subject;
    struct slice header;
    struct slice payload;
    uint64_t last_subject_seq; /* Of the message before it on its subject; 0: there is none. Only
                                * where the configuration says republish. */
};
/* Remove live messages in [first_seq, last_seq] from the store, after all STOREs of the step. All
 * replicas. */
struct effect_remove {
    uint64_t first_seq;
    uint64_t last_seq;
};
/* Answer message @n of an origin. Leader only. */
struct effect_reply {
    uint64_t node;
    uint64_t origin; /* 0: no lane. */
    uint64_t n;      /* Without lane: the message's place in the entry, from 0. */
    uint64_t seq;    /* When err_code is 0. */
    int err_code;    /* enum api_error_code; 0: stored. */
    bool is_duplicate;
    bool is_gap;       /* n is beyond last + 1: nothing happened, send again from last_n + 1. */
    bool is_forgotten; /* n was answered so long ago that the answer is gone. */
    uint64_t last_n;   /* With is_gap: the last n seen of this origin. */
    struct slice text; /* Replaces the braces of the error's text; else empty. */
};
/* An admin op is done. Leader only, when it knows the request. */
struct effect_admin_reply {
    uint64_t request;
    enum op_type type;
    int err_code; /* enum api_error_code; 0: success. */
    struct slice text;
    uint64_t purged;   /* PURGE. */
    uint64_t consumer; /* CONSUMER_SET, CONSUMER_DELETE: its id. */
    bool is_created;   /* CONSUMER_SET: it did not exist. */
};
/* Send message @seq to @destination. The leader of this term, on @node. Filled by consumer.c. */
struct effect_deliver {
    uint64_t consumer;
    uint64_t node;
    struct slice destination; /* Where the message goes. */
    struct slice ack_reply;   /* Its reply subject; empty: the embedder builds it from the rest. */
    uint64_t seq;
    int64_t time_ns; /* Of the message. */
    uint64_t consumer_seq;
    uint64_t delivery_count;
    uint64_t pending_count; /* Messages after it that match. */
    uint64_t token;  /* The planner's. Give the effect to delivery_commit() before sending. */
    bool is_skipped; /* It did not happen, nor did pending_count - 1 after it: only tell the
                        planner. */
};
/* A message on `$JS.EVENT.ADVISORY...` or an answer to a confirmed ack. Leader only. */
enum advisory_type {
    ADVISORY_ACK_CONFIRM = 1, /* Publish an empty message to @text on @node. */
    ADVISORY_MAX_DELIVER = 2,
    ADVISORY_TERMINATED = 3, /* text: the reason. */
    ADVISORY_NAK = 4,
    ADVISORY_CONSUMER_DELETED = 5,
};
struct effect_advisory {
    enum advisory_type type;
    uint64_t consumer;
    uint64_t node;
    uint64_t seq;
    uint64_t consumer_seq;
    uint64_t delivery_count;
    struct slice text;
};
struct effect_digest {
    uint64_t index;
    uint64_t hash;
    uint32_t machine_version;
};

/* Reusable arrays: zero-initialise once, free with stream_effects_close. */
struct stream_effects {
    struct effect_store *stores;
    size_t stores_count, stores_cap;
    struct effect_remove *removes;
    size_t removes_count, removes_cap;
    struct effect_reply *replies;
    size_t replies_count, replies_cap;
    struct effect_admin_reply *admin_replies;
    size_t admin_replies_count, admin_replies_cap;
    struct effect_deliver *delivers;
    size_t delivers_count, delivers_cap;
    struct effect_advisory *advisories;
    size_t advisories_count, advisories_cap;
    bool has_digest;
    struct effect_digest digest;
    bool is_leader_changed; /* The entry holds a LEAD op. */
    bool is_config_changed;
    bool is_unsure_told; /* It holds TIME_UNSURE, */
    bool is_sure_told;   /* or TIME_SURE, */
    int64_t shift_ns;    /* with this shift. */
    uint8_t **texts;     /* Private. */
    size_t texts_count, texts_cap;
};
void stream_effects_clear(struct stream_effects *e);
void stream_effects_close(struct stream_effects *e);
/* Append one, zeroed, to fill in at once. */
struct effect_store *effects_store(struct stream_effects *e);
struct effect_reply *effects_reply(struct stream_effects *e);
struct effect_admin_reply *effects_admin_reply(struct stream_effects *e);
struct effect_deliver *effects_deliver(struct stream_effects *e);
struct effect_advisory *effects_advisory(struct stream_effects *e);
/* Joins the range before it where it can. */
void effects_remove(struct stream_effects *e, uint64_t first_seq, uint64_t last_seq);
/* A copy of @s that lives as long as the effects of this step. */
struct slice effects_text(struct stream_effects *e, struct slice s);

/* ---- Consumers inside the stream ---- */

typedef void (*stream_item_cb)(void *arg, struct slice key, struct slice value, bool is_deleted);

/* What the stream calls; consumer.h supplies it as `consumer_ops`. All pure, all deterministic.
 * They may ask the stream by the queries below and remove messages by stream_remove_message(). */
struct stream_consumer_ops {
    struct consumers *(*create)(struct stream *s);
    void (*destroy)(struct consumers *cs);
    void (*lead)(struct consumers *cs, uint64_t node, struct stream_effects *e);
    /* Each answers by effects_admin_reply() if op->request is not 0. */
    void (*set)(struct consumers *cs, const struct op *op, struct stream_effects *e);
    void (*remove)(struct consumers *cs, const struct op *op, struct stream_effects *e);
    void (*progress)(struct consumers *cs, struct op_progress *op, struct stream_effects *e);
    /* 0, or ERR_INVALID if the op cannot be applied by anybody; before anything of its entry is. */
    int (*check)(const struct op *op);
    /* Message @seq is in the index now. */
    void (*stored)(struct consumers *cs, uint64_t seq, uint32_t subject_id);
    /* Messages in the range are about to leave the index: they can still be asked about. */
    void (*removing)(struct consumers *cs, uint64_t first_seq, uint64_t last_seq);
    /* After the stream's configuration changed. */
    void (*config_changed)(struct consumers *cs);
    /* Time passed (stream_time_ns), at the beginning of each entry. */
    void (*clock)(struct consumers *cs, struct stream_effects *e);
    /* Stamps are sure again: what is marked as unsure was too early by @shift_ns. */
    void (*time_sure)(struct consumers *cs, int64_t shift_ns);
    /* When a CLOCK would change something visible; STREAM_DUE_NEVER. */
    int64_t (*next_due)(const struct consumers *cs);
    uint64_t (*hash)(const struct consumers *cs);
    uint64_t (*count)(const struct consumers *cs);
    /* Items changed since the last call; keys begin with "c". */
    void (*checkpoint)(struct consumers *cs, bool is_full, stream_item_cb cb, void *arg);
    /* 0 or ERR_INVALID. All live messages are in the index already. */
    int (*restore_item)(struct consumers *cs, struct slice key, struct slice value);
    void (*restore_end)(struct consumers *cs);
    void (*check_invariants)(const struct consumers *cs);
};

/* What a deadline that begins now is counted from. */
struct stream_now {
    int64_t ns;       /* Log time. */
    int64_t shift_ns; /* It is too early by that. */
    bool is_unsure;   /* By how much is not known yet; time_sure will tell. */
};
struct stream_now stream_now(const struct stream *s);

/* The next consumer id; never used again. */
uint64_t stream_take_consumer_id(struct stream *s);
/* Remove one message on a consumer's behalf (interest, work queue); false if it is not live. Emits
 * REMOVE and calls `removing`. */
bool stream_remove_message(struct stream *s, uint64_t seq, struct stream_effects *e);

/* ---- Life ---- */

/* A new, empty stream from canonical configuration JSON. @created_ns is also its first log time;
 * both come from the log (CREATE), so that all replicas begin alike. @ops may be NULL (tests): no
 * consumers. Returns 0 or ERR_INVALID. */
int stream_new(struct slice config_json, int64_t created_ns, const struct stream_consumer_ops *ops,
               struct stream **ret_stream);
/* Any thread, if nothing else knows it: of millions of messages it takes long. */
void stream_free(struct stream *s);
/* What removing all messages left to be freed, by msg_garbage_free() in any thread; NULL: nothing.
 */
struct msg_garbage *stream_take_garbage(struct stream *s);

/* Apply one committed entry; @e is cleared first. Returns 0, or what entry_check() says: then the
 * entry was not touched, and the replica stops applying and says so. Entries without ops only move
 * time. @index is above all before it. */
int stream_step(struct stream *s, uint64_t index, uint64_t term, struct slice entry,
                struct stream_effects *e);

/* ---- What a leader asks ---- */

/* Log time at which a CLOCK would change something visible (expiry, consumers); STREAM_DUE_NEVER. A
 * leader waits at least STREAM_DUE_SHARED_NS between two. */
int64_t stream_next_due(const struct stream *s);
/* Its stamps are known to be unsure: TIME_UNSURE is applied, and TIME_SURE not yet. With the lag
 * that was told last, 0: none. */
bool stream_is_unsure(const struct stream *s, int64_t *ret_lag_ns);
/* Work is left for a JOB_STEP: propose one, one at a time. */
bool stream_wants_job_step(const struct stream *s);

/* ---- Queries ---- */

struct stream_info {
    uint64_t messages;
    uint64_t bytes;
    uint64_t first_seq;    /* Empty: last_seq + 1, or 0 for a new stream. */
    int64_t first_time_ns; /* 0: none. */
    uint64_t last_seq;
    int64_t last_time_ns; /* Of the last message stored, also when it is gone; 0: none. */
    uint64_t num_subjects;
    uint64_t num_deleted; /* Gaps between first and last. */
    uint64_t consumer_count;
    int64_t created_ns;
    uint64_t applied_index;
    uint64_t applied_term;
    uint32_t machine_version;
    uint64_t dedup_ids;
    uint64_t origins;
    uint64_t jobs;
};
void stream_get_info(const struct stream *s, struct stream_info *ret_info);
/* By which rules entries are applied. */
uint32_t stream_machine_version(const struct stream *s);
const struct stream_config *stream_get_config(const struct stream *s);
/* Of the last CONFIG op that had one; 0: none had. */
uint64_t stream_get_config_version(const struct stream *s);
struct consumers *stream_get_consumers(const struct stream *s);
const struct msg_index *stream_index(const struct stream *s);
int64_t stream_time_ns(const struct stream *s);
uint64_t stream_last_seq(const struct stream *s);
uint64_t stream_first_seq(const struct stream *s);

/* False if @seq is not live. */
bool stream_get_message(const struct stream *s, uint64_t seq, struct msg_info *ret_info);
/* The last live message on exactly @subject; 0: none. */
uint64_t stream_last_by_subject(const struct stream *s, struct slice subject);
/* The first live message matching @filter (wildcards allowed, empty: all) at or above @from. */
uint64_t stream_next_by_subject(const struct stream *s, struct slice filter, uint64_t from);
/* The first live message not older than @time_ns; 0: none. */
uint64_t stream_seq_at_time(const struct stream *s, int64_t time_ns);
/* The sequences missing between first and last, ascending; returns how many of them exist. */
uint64_t stream_deleted(const struct stream *s, uint64_t *ret_seqs, size_t max);

struct stream_subject {
    struct slice subject; /* Borrowed until the next step. */
    uint64_t count;
    uint64_t first_seq;
    uint64_t last_seq;
};
/* Subjects that match @filter (empty: all), sorted by name, from the @offset-th on, at most @max.
 * Returns how many match in all. For STREAM.INFO subjects_filter. */
size_t stream_subjects(const struct stream *s, struct slice filter, size_t offset,
                       struct stream_subject *ret_subjects, size_t max);

/* ---- Digest and checkpoint ---- */

/* Hash of the whole state; equal on equal replicas, also after a restore. */
uint64_t stream_hash(const struct stream *s);

/* Emit the items changed since the last call, or all of them with @is_full. Keys and values are
 * borrowed during the callback. */
void stream_checkpoint(struct stream *s, bool is_full, stream_item_cb cb, void *arg);

/* Rebuild: begin, each live message in sequence order, each item in any order, end. Messages and
 * items are of the same applied index. */
struct stream_restore;
struct stream_restore *stream_restore_begin(const struct stream_consumer_ops *ops);
void stream_restore_message(struct stream_restore *r, uint64_t seq, int64_t time_ns,
                            struct slice subject, uint32_t header_bytes, uint32_t payload_bytes);
void stream_restore_item(struct stream_restore *r, struct slice key, struct slice value);
/* Frees @r. 0, ERR_INVALID (items missing, malformed, or not fitting the messages), ERR_VERSION.
 * With ERR_CORRUPT *ret_stream is set too: sound, but its messages are not those of the checkpoint
 * (the store lost some); the embedder decides. */
int stream_restore_end(struct stream_restore *r, struct stream **ret_stream);

/* Assert all invariants; slow. For tests and the simulator. */
void stream_check(const struct stream *s);
#endif
