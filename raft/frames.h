/* What peers' group hosts say to each other: frames of items (raft-guide 7.5).
 *
 *   frame     u8 version (1), then items to the end
 *   item      u8 kind, u32 length, body. Integers in bodies are LEB128 varints unless said.
 *   body      gid, then, but for FRAGMENT and TABLE: from raft id, to raft id, then:
 *     ENTRIES      term, prev index, prev term, commit, count, per entry: term, u8 type, len, bytes
 *     RESULT       term, rejected, last index
 *     VOTE         term, last index, last term, u8 flags (1 disrupt leader, 2 pre-vote)
 *     VOTE_RESULT  term, u8 flags (1 granted, 2 pre-vote)
 *     TIMEOUT_NOW  term, last index, last term
 *     PING, PONG   term, seq
 *     OFFER        offer, term, index, index term, conf index, conf len, conf, parts
 *     PULL         offer, part, offset, length
 *     CHUNK        offer, part, offset, u32 crc32c, bytes to the end
 *     NAK          offer
 *     DONE         offer, u8 status (0 is well)
 *   FRAGMENT  gid, item id, total, offset, bytes to the end: a piece of an item (kind, length and
 *             body) too large for one frame
 *   TABLE     gid, from raft id, term, last index, last term, commit, u8 flags (1 suspect, 2 answer
 * with yours)
 *
 * An ENTRIES item with count 0 is a heartbeat: some 20 bytes, packed with the other groups'.
 * Decoding checks every length against the bytes received, and bounds every number; what it hands
 * out never needs another check of form. Slices point into the frame. */
#ifndef RAFT_FRAMES_H
#define RAFT_FRAMES_H
#include <stdbool.h>
#include <stdint.h>

#include "raft/conf.h"
#include "storage/base/buf.h"

#define FRAME_VERSION 1
#define FRAME_ITEM_HEAD_BYTES 5
#define FRAME_NUMBER_MAX (1ull << 62) /* Of indexes and terms: sums of two cannot wrap. */

enum frame_kind {
    FRAME_ENTRIES = 1,
    FRAME_RESULT,
    FRAME_VOTE,
    FRAME_VOTE_RESULT,
    FRAME_TIMEOUT_NOW,
    FRAME_PING,
    FRAME_PONG,
    FRAME_OFFER,
    FRAME_PULL,
    FRAME_CHUNK,
    FRAME_NAK,
    FRAME_DONE,
    FRAME_FRAGMENT,
    FRAME_TABLE,
};

#define FRAME_PART_TABLE UINT32_MAX /* As a part: the list of parts, 12 bytes each. */

/* One item, decoded or to be encoded; which fields count depends on the kind. */
struct frame_item {
    enum frame_kind kind;
    uint64_t gid;
    uint64_t from;
    uint64_t to;
    uint64_t term;
    uint64_t index;      /* prev index, rejected, last index, offer's index, TABLE's last. */
    uint64_t index_term; /* Term at it. */
    uint64_t commit;
    uint64_t last_index; /* RESULT. */
    uint64_t seq;        /* PING, PONG; offer id; FRAGMENT's item id. */
    uint64_t count;      /* Entries; parts of an offer. */
    uint64_t conf_index;
    uint64_t part;
    uint64_t offset;
    uint64_t length; /* PULL; FRAGMENT's total. */
    uint32_t crc;
    uint8_t flags;      /* As above; DONE's status. */
    struct slice bytes; /* Entries, conf, chunk or fragment. */
};

#define FRAME_VOTE_DISRUPT 1u
#define FRAME_VOTE_PRE 2u
#define FRAME_RESULT_GRANTED 1u
#define FRAME_RESULT_PRE 2u
#define FRAME_TABLE_SUSPECT 1u
#define FRAME_TABLE_ASKING 2u

struct frame_entry {
    uint64_t term;
    uint8_t type;
    struct slice bytes;
};

/* Begin an empty frame. */
void frame_begin(struct buf *frame);
/* Append @item. For ENTRIES only its head: the caller appends the entries (see frame_entry_head)
 * and then calls frame_item_end with what this returned. The others are complete, which
 * frame_item_end would not change. */
size_t frame_put(struct buf *frame, const struct frame_item *item);
void frame_item_end(struct buf *frame, size_t item_at);
void frame_entry_head(struct buf *frame, uint64_t term, uint8_t type, uint64_t len);
/* Upper bound of an item's bytes without entries, conf, chunk or fragment. */
#define FRAME_HEAD_BYTES_MAX 128

/* Walk a frame: 0 and an item, ERR_NOTFOUND at the end, ERR_PROTO. frame_open takes the version. */
int frame_open(struct slice frame, struct reader *ret_reader);
int frame_next(struct reader *r, struct frame_item *ret_item);
/* One item outside a frame (reassembled). */
int frame_decode_item(struct slice item, struct frame_item *ret_item);
/* Take the next entry off @item->bytes: 0, ERR_NOTFOUND at the end, ERR_PROTO. */
int frame_entry_next(struct frame_item *item, struct frame_entry *ret_entry);
#endif
