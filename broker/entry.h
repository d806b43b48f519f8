/* The entries of a stream's log: what a leader proposes and every replica applies (design 4).
 *
 * An entry is a msgpack array
 *
 *   [format, machine_version, leader_time_ns, [op, ...]]        each op: [number, field, ...]
 *
 * with the fields in the order of the structs below. Absent strings are nil. Numbers are never
 * reused; ops and options that a machine does not know make it stop, it never guesses.
 *
 *   LEAD               [1, node, version_max]
 *   PUBLISH            [2, node, origin, first_n, [message, ...]]
 *   CONSUMER_SET       [6, request, name, config], config: canonical JSON
 *   CONSUMER_DELETE    [7, request, name]
 *   CONSUMER_PROGRESS  [8, consumer, [item, ...]]
 *   PURGE              [9, request, filter | nil, seq, keep]
 *   DELETE_MSG         [10, request, seq]
 *   CONFIG             [11, request, config] or [11, request, config, version]
 *   SEAL               [12, request]
 *   JOB_STEP           [13]
 *   CLOCK              [14]
 *   DIGEST             [15]
 *   VERSION            [16, version]
 *   REBASE_TIME        [17, time_ns]
 *   TIME_UNSURE        [21, lag_ns]     from machine version 2 on
 *   TIME_SURE          [22, shift_ns]
 *
 *   message            [subject, headers | nil, payload]
 *                      [subject, headers | nil, payload, {option: value}]
 *   refused message    [err_code, text]: has its place in the lane, is answered, stores nothing
 *   item               [kind, seq, count, consumer_seq, delay_ns, node, text | nil]
 *
 * Reserved: STORE_AT 3, BATCH_PART 4, BATCH_COMMIT 5, BATCH_ABORT 18, RESTORE_BEGIN 19,
 * RESTORE_END 20; the message options TTL, INCR, SCHEDULE, SOURCE.
 *
 * Pure, single-threaded. Decoding allocates nothing: slices point into the entry. */
#ifndef BROKER_ENTRY_H
#define BROKER_ENTRY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/buf.h"

#define ENTRY_FORMAT 1u
#define ENTRY_MACHINE_VERSION_FIRST 1u /* The oldest rules this build knows: of new streams. */
#ifdef WEIR_NEXT_MACHINE               /* Only in tests/system/test_upgrade.py. */
#define ENTRY_MACHINE_VERSION 5u
#else
#define ENTRY_MACHINE_VERSION 4u /* The newest. */
#endif
#define ENTRY_MACHINE_VERSION_SHIFTS 2u    /* Stamps can be unsure: stream_shift.c. */
#define ENTRY_MACHINE_VERSION_DEADLINES 3u /* So can deadlines that begin with them. */
/* Consumers can be push. No new rules, but leaders of older builds would not deliver. */
#define ENTRY_MACHINE_VERSION_PUSH 4u
#define ENTRY_OPS_MAX 65536u

enum op_type {
    OP_LEAD = 1,
    OP_PUBLISH = 2,
    OP_STORE_AT = 3,     /* Reserved. */
    OP_BATCH_PART = 4,   /* Reserved. */
    OP_BATCH_COMMIT = 5, /* Reserved. */
    OP_CONSUMER_SET = 6,
    OP_CONSUMER_DELETE = 7,
    OP_CONSUMER_PROGRESS = 8,
    OP_PURGE = 9,
    OP_DELETE_MSG = 10,
    OP_CONFIG = 11,
    OP_SEAL = 12,
    OP_JOB_STEP = 13,
    OP_CLOCK = 14,
    OP_DIGEST = 15,
    OP_VERSION = 16,
    OP_REBASE_TIME = 17,
    OP_BATCH_ABORT = 18,   /* Reserved. */
    OP_RESTORE_BEGIN = 19, /* Reserved. */
    OP_RESTORE_END = 20,   /* Reserved. */
    OP_TIME_UNSURE = 21,
    OP_TIME_SURE = 22,
};

/* Keys of a message's option map. */
enum publish_option {
    PUBLISH_MSG_ID = 1,
    PUBLISH_EXPECT_STREAM = 2,
    PUBLISH_EXPECT_LAST_SEQ = 3,
    PUBLISH_EXPECT_LAST_SUBJECT_SEQ = 4,
    PUBLISH_EXPECT_SUBJECT = 5, /* Replaces the subject of the option above; wildcards allowed. */
    PUBLISH_EXPECT_LAST_MSG_ID = 6,
    PUBLISH_ROLLUP = 7,
    PUBLISH_TTL = 8,       /* Reserved, and so are those below. */
    PUBLISH_INCR = 9,      /* Reserved. */
    PUBLISH_SCHEDULE = 10, /* Reserved. */
    PUBLISH_SOURCE = 11,   /* Reserved. */
};
#define PUBLISH_HAS(option) (1u << (option))

enum publish_rollup { ROLLUP_NONE = 0, ROLLUP_SUBJECT = 1, ROLLUP_ALL = 2 };

/* One message of a PUBLISH run. For an ordinary message fill subject, header, payload and zero the
 * rest. Expectations are parsed from the headers by the leader; the headers themselves stay in
 * @header unchanged. */
struct publish_message {
    struct slice subject;
    struct slice header; /* The raw block with NATS/1.0 and the closing empty line; empty: none. */
    struct slice payload;
    uint32_t options; /* PUBLISH_HAS() of what is set below. */
    struct slice msg_id;
    struct slice expect_stream;
    uint64_t expect_last_seq;
    uint64_t expect_last_subject_seq;
    struct slice expect_subject;
    struct slice expect_last_msg_id;
    enum publish_rollup rollup; /* Set with PUBLISH_HAS(PUBLISH_ROLLUP). */
    int refused_code;          /* Not 0: the leader refuses it with this error (api_error_map.h). */
    struct slice refused_text; /* What replaces the braces of the error's text; may be empty. */
};

struct op_publish {
    uint64_t node;    /* Where the origin runs; 0 with origin 0. */
    uint64_t origin;  /* Incarnation of that node; larger is newer. 0: no lane. */
    uint64_t first_n; /* Of the first message; they count on from there. 0 with origin 0. */
    uint32_t count;
    struct reader messages; /* For entry_next_message(). */
};

/* One change of a consumer. What each kind means is consumer.h's; the codec only carries it. */
struct progress_item {
    uint32_t kind;         /* enum of consumer.h */
    uint64_t seq;          /* Stream sequence, the first of @count in a row. */
    uint64_t count;        /* At least 1. */
    uint64_t consumer_seq; /* Of the first. */
    int64_t delay_ns;
    uint64_t node;     /* Destination of a delivery, or who confirms an ack. */
    struct slice text; /* Destination or reply subject. */
};
struct op_progress {
    uint64_t consumer; /* Id that the machine gave it; a deleted one's is never reused. */
    uint32_t count;
    struct reader items; /* For entry_next_item(). */
};

struct op {
    enum op_type type;
    uint64_t request;        /* Admin ops: returned in the effect ADMIN_REPLY; 0: nobody waits. */
    uint64_t config_version; /* CONFIG: only what is above the present one counts; 0: always. */
    union {
        struct {
            uint64_t node;
            uint32_t version_max; /* Newest machine version that every member knows. */
        } lead;
        struct op_publish publish;
        struct {
            struct slice name;
            struct slice config; /* Empty for CONSUMER_DELETE. */
        } consumer;
        struct op_progress progress;
        struct {
            struct slice filter; /* Empty: all subjects. */
            uint64_t seq;        /* Purge below it; 0: no bound. Excludes keep. */
            uint64_t keep;       /* Newest messages to keep. */
        } purge;
        uint64_t seq;        /* DELETE_MSG */
        struct slice config; /* CONFIG */
        uint32_t version;    /* VERSION */
        int64_t time_ns;     /* REBASE_TIME */
        int64_t shift_ns;    /* TIME_UNSURE, TIME_SURE: not negative */
    } u;
};

/* ---- Decoding ---- */

struct entry_reader {
    uint32_t machine_version;
    int64_t time_ns;
    uint32_t ops_left;
    struct reader bytes;
};

/* Begin to decode. Returns 0, ERR_VERSION (another format or a newer machine version) or
 * ERR_INVALID. */
int entry_open(struct entry_reader *e, struct slice bytes);
/* Decode the next op. Returns 1, 0 at the end, ERR_UNSUPPORTED (an op this machine version does not
 * know) or ERR_INVALID (malformed, also what is inside runs, and bytes after the end). A run that
 * was returned is well-formed throughout. */
int entry_next(struct entry_reader *e, struct op *ret_op);
/* The next message or item of a run that entry_next() returned; false at its end. */
bool entry_next_message(struct op_publish *p, struct publish_message *ret_m);
bool entry_next_item(struct op_progress *p, struct progress_item *ret_item);
/* Check all of an entry without applying it: 0 or what entry_open() or entry_next() said. */
int entry_check(struct slice bytes);

/* ---- Encoding: the open batch ---- */

struct entry_builder {
    struct buf bytes;
    uint32_t ops_count;
    size_t run_at; /* Private from here on: where the open run's count stands, 0: none. */
    uint32_t run_count;
    enum op_type run_type;
    uint64_t run_node; /* Of a CONSUMER_PROGRESS run: the consumer. */
    uint64_t run_origin;
    uint64_t run_next_n;
};
#define ENTRY_BUILDER_EMPTY ((struct entry_builder){BUF_EMPTY, 0, 0, 0, OP_LEAD, 0, 0, 0})

/* Start over; keeps the memory. */
void entry_begin(struct entry_builder *b, uint32_t machine_version);
void entry_close(struct entry_builder *b); /* Free the memory. */
/* Bytes so far: an open batch closes at 256 KiB or one op. */
static inline size_t entry_size(const struct entry_builder *b)
{
    return b->bytes.len;
}
/* Stamp and finish. The slice is the builder's, until the next begin or close. */
struct slice entry_end(struct entry_builder *b, int64_t time_ns);

/* Append a message; it joins the open run if that is of the same origin and ends at n - 1. */
void entry_publish(struct entry_builder *b, uint64_t node, uint64_t origin, uint64_t n,
                   const struct publish_message *m);
/* Append a change of a consumer; it joins the open run of that consumer. */
void entry_progress(struct entry_builder *b, uint64_t consumer, const struct progress_item *item);
void entry_lead(struct entry_builder *b, uint64_t node, uint32_t version_max);
void entry_consumer_set(struct entry_builder *b, uint64_t request, struct slice name,
                        struct slice config);
void entry_consumer_delete(struct entry_builder *b, uint64_t request, struct slice name);
void entry_purge(struct entry_builder *b, uint64_t request, struct slice filter, uint64_t seq,
                 uint64_t keep);
void entry_delete_msg(struct entry_builder *b, uint64_t request, uint64_t seq);
/* @version grows with each change of the configuration; 0: none. */
void entry_config(struct entry_builder *b, uint64_t request, struct slice config, uint64_t version);
void entry_seal(struct entry_builder *b, uint64_t request);
void entry_job_step(struct entry_builder *b);
void entry_clock(struct entry_builder *b);
void entry_digest(struct entry_builder *b);
void entry_version(struct entry_builder *b, uint32_t version);
void entry_rebase_time(struct entry_builder *b, int64_t time_ns);
/* From here on stamps may be too early, by @lag_ns if that is right, 0: nobody knows. Until here
 * they were, by @shift_ns. */
void entry_time_unsure(struct entry_builder *b, int64_t lag_ns);
void entry_time_sure(struct entry_builder *b, int64_t shift_ns);
#endif
