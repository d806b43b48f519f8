/* Ack subjects, ack payloads and the bodies of pull requests: jetstream-api.md 1.6, 4.1, 5.
 *
 * All input is from outside and may be anything. Pure. */
#ifndef BROKER_ACK_H
#define BROKER_ACK_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/buf.h"

struct ack_subject {
    struct slice stream; /* Borrowed from the subject parsed. */
    struct slice consumer;
    struct slice domain;  /* v2 only; empty for "_". */
    struct slice account; /* v2 only: its hash. */
    uint64_t delivered;   /* Delivery count, from 1. */
    uint64_t stream_seq;
    uint64_t consumer_seq;
    int64_t time_ns; /* Of the message. */
    uint64_t pending;
};
/* `$JS.FC.<stream>.<consumer>.<id>`: answers to flow control requests. @ret_stream may be NULL. */
bool ack_is_flow(struct slice subject);
bool ack_flow_parse(struct slice subject, struct slice *ret_stream, struct slice *ret_consumer,
                    struct slice *ret_id);
/* Append `$JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<ts>.<pending>` (v1). */
void ack_subject_print(struct buf *out, const struct ack_subject *a);
/* v1: exactly 9 tokens; v2: 11 or more. False if it is neither. */
bool ack_subject_parse(struct slice subject, struct ack_subject *ret_a);
/* The bytes ack_subject_print() would append. */
size_t ack_subject_size(const struct ack_subject *a);

enum ack_kind {
    ACK_KIND_ACK,
    ACK_KIND_NAK,
    ACK_KIND_WPI,
    ACK_KIND_TERM,
    ACK_KIND_NEXT,
    ACK_KIND_OTHER
};
struct ack_payload {
    enum ack_kind kind;
    int64_t delay_ns;    /* NAK; 0: at once. */
    struct slice reason; /* TERM, trimmed. */
    struct slice body;   /* NEXT: the pull request. */
};
void ack_payload_parse(struct slice payload, struct ack_payload *ret_a);

#define PULL_BODY_BYTES_MAX 65536u
struct pull_request {
    uint64_t batch;     /* At least 1. */
    int64_t short_by;   /* Asked for so many less, zero or fewer: what statuses then say. */
    int64_t expires_ns; /* From receipt; 0: none. */
    int64_t heartbeat_ns;
    int64_t max_bytes; /* 0: no budget. */
    bool no_wait;
    /* Of priority groups, which no consumer here has: only there to be refused. */
    int64_t min_pending, min_ack_pending, priority;
    bool has_id;
    char error[160]; /* When the parser says so. */
};
/* Returns NULL, or what stands behind "400 Bad Request - ": as Go's decoder words it, held by
 * @ret_r or static, one line. Unknown fields are ignored; what is not JSON is a batch of 1, or of
 * the number that stands there. */
const char *pull_request_parse(struct slice body, struct pull_request *ret_r);

/* A Go duration such as 1m30s or 1.5s or -2h. False if it is none. */
bool duration_parse(struct slice text, int64_t *ret_ns);
/* Append as Go prints it. */
void duration_print(struct buf *out, int64_t ns);
#endif
