/* Records of the group host in the WAL (raft-guide 7.3): what each says, and its bytes.
 *
 * The WAL carries type and gid beside the payload. Integers are little-endian, v = LEB128 varint.
 *
 *   APPEND      v first_index, v term of the entry before (0: unknown, or there is none), v count,
 *               then per entry: v term, u8 type, v len, bytes.
 *   CARRY       as APPEND: entries written again, so that old segments can go. On replay it never
 *               drops what follows: it fills in what is missing at the front or the end.
 *   AGAIN       as CARRY, of a few entries: those before and behind it are not written with it.
 *   TRUNCATE    v from: entries at and above it are void.
 *   META        v term, v voted_for.
 *   BASE        v index, v term, v conf_index, v conf_len, conf: the store holds all up to index.
 *   IMAGE       as BASE: the store is about to switch to an image of that base (C6).
 *   RESET       as BASE: all entries are void, the base is this.
 *   CREATE      v raft_id: the replica was born here.
 *   DELETE      nothing: the replica is gone; CREATE of another one may follow.
 *   SUSPECT     u8 flags. 1: may have lost what it acknowledged (G11), else no longer; 2: never a
 *               voter; 4: its base may tell members of before (G19).
 *   BROKEN      nothing: replay met records of the group that made no sense. They may be trimmed
 *               since; what is left must not pass for a whole log.
 *   CHECKPOINT  v raft_id, v term, v voted_for, u8 flags as SUSPECT's, then as BASE: all a group
 *               needs beside entries.
 *
 * The term of the entry before shows at replay when what cut or replaced it is lost: index and term
 * name an entry and all before it, so entries that follow another one are not of this log.
 *
 * Indexes and terms are at most RECORD_NUMBER_MAX. A base of index 0 has term 0, another has not;
 * its configuration is not above it. No entry is appended at or below the base.
 *
 * conf is a configuration in libraft's own encoding, with its padding zeroed; empty: none. An
 * APPEND whose first index is at or below the last index overwrites from there on. */
#ifndef RAFT_RECORDS_H
#define RAFT_RECORDS_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/buf.h"
#include "storage/wal.h"

enum record_type {
    RECORD_APPEND = WAL_TYPE_HOST_MIN,
    RECORD_CARRY,
    RECORD_TRUNCATE,
    RECORD_META,
    RECORD_BASE,
    RECORD_IMAGE,
    RECORD_RESET,
    RECORD_CREATE,
    RECORD_DELETE,
    RECORD_CHECKPOINT,
    RECORD_SUSPECT,
    RECORD_BROKEN,
    RECORD_AGAIN,
};

#define RECORD_TYPE_MAX RECORD_AGAIN

#define RECORD_NUMBER_MAX                                                                          \
    (UINT64_C(1) << 61) /* Sums of two cannot wrap, and there is room above. */

enum { RECORD_ENTRY_COMMAND = 1, RECORD_ENTRY_BARRIER = 2, RECORD_ENTRY_CHANGE = 3 };

struct record_base {
    uint64_t index;
    uint64_t term;
    uint64_t conf_index;
    struct slice conf; /* Borrowed from the payload. */
};

struct record_flags {
    bool is_suspect;  /* May have lost what it acknowledged. */
    bool is_newcomer; /* Has never been a voter. */
    bool is_doubtful; /* A suspect: its base may tell members of before. */
};

/* A decoded record; which fields count depends on the type. */
struct record {
    enum record_type type;
    uint64_t raft_id;          /* CREATE, CHECKPOINT. */
    uint64_t term;             /* META, CHECKPOINT; of the entry before APPEND and CARRY, or 0. */
    uint64_t voted_for;        /* META, CHECKPOINT. */
    struct record_flags flags; /* SUSPECT, CHECKPOINT. */
    uint64_t index;            /* First index of APPEND and CARRY, from of TRUNCATE. */
    uint64_t count;            /* Entries of APPEND and CARRY. */
    struct slice entries;      /* Their bytes, for record_entry_next. */
    struct record_base base;
};

struct record_entry {
    uint64_t term;
    uint8_t type; /* RECORD_ENTRY_. */
    struct slice bytes;
};

/* 0, or ERR_CORRUPT when the payload is not what the type says, or ERR_UNSUPPORTED for a type that
 * is none of the host's. Entries are checked by record_entry_next. */
int record_decode(uint8_t type, struct slice payload, struct record *ret_record);
/* Take the next entry off @rec->entries. 0, ERR_NOTFOUND at the end, ERR_CORRUPT. */
int record_entry_next(struct record *rec, struct record_entry *ret_entry);

/* Append the payload to @out. */
void record_put_entries_head(struct buf *out, uint64_t first_index, uint64_t prev_term,
                             uint64_t count);
void record_put_entry_head(struct buf *out, uint64_t term, uint8_t type, uint64_t len);
void record_put_truncate(struct buf *out, uint64_t from);
void record_put_meta(struct buf *out, uint64_t term, uint64_t voted_for);
void record_put_base(struct buf *out, const struct record_base *base);
void record_put_create(struct buf *out, uint64_t raft_id);
void record_put_checkpoint(struct buf *out, uint64_t raft_id, uint64_t term, uint64_t voted_for,
                           struct record_flags flags, const struct record_base *base);
void record_put_suspect(struct buf *out, struct record_flags flags);
#endif
