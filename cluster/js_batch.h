/* Items to and from other nodes, one frame per node and turn. */
#ifndef CLUSTER_JS_BATCH_H
#define CLUSTER_JS_BATCH_H
#include <stdint.h>

#include "storage/base/slice.h"

struct buf;
struct js;
struct reader;

enum js_item_type {
    JS_ITEM_PUBLISH = 1,   /* gid, n, subject, reply-less message */
    JS_ITEM_ANSWER = 2,    /* gid, n, result */
    JS_ITEM_LEADER = 3,    /* gid, term: the sender leads the stream */
    JS_ITEM_API = 4,       /* a request for whom the sender thinks responsible */
    JS_ITEM_REPLY = 5,     /* its reply, for a client of the receiver or of another node */
    JS_ITEM_ACK = 6,       /* a message on an ack subject */
    JS_ITEM_DELIVER = 7,   /* a message of a stream for a subscriber at the receiver */
    JS_ITEM_DIGEST = 8,    /* gid, index, machine version, hash of the sender's replica there */
    JS_ITEM_MOVE = 9,      /* gid, node: meta's leader asks the stream's to hand over to it */
    JS_ITEM_MEMBERS = 10,  /* gid, placement, index, count, members: of a leader, for meta */
    JS_ITEM_LOST = 11,     /* gid, raft id: the sender has lost this replica */
    JS_ITEM_MEND_ASK = 12, /* gid, question, count, ranges of sequences the sender lacks */
    JS_ITEM_MENDED = 13,   /* gid, question, where it goes on, records and verdicts */
    JS_ITEM_CHECK = 14,    /* gid: something damaged came from the receiver, it is to look */
    JS_ITEM_DIVERGED = 15, /* gid, index, machine version, hash of the majority there */
};

/* Begin an item for @node_id; append its fields to what is returned, then js_batch_end. Items for
 * this node itself are handled at the end of the turn like all others. */
struct buf *js_batch_begin(struct js *js, uint64_t node_id, enum js_item_type type);
void js_batch_end(struct js *js, uint64_t node_id);
void js_batch_put_slice(struct buf *b, struct slice s);
struct slice js_batch_take_slice(struct reader *r);
void js_batch_flush(struct js *js); /* LOOP_PHASE_PROPOSE and _FRAMES */
void js_batch_start(struct js *js);
void js_batch_close(struct js *js);
#endif
