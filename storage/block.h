/* Blocks in memory: the tail's arena, building a block's bytes, and reading them back with every
 * check. No files here; any thread, each object by one thread at a time. */
#ifndef STORAGE_BLOCK_H
#define STORAGE_BLOCK_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/buf.h"
#include "storage/bitset.h"
#include "storage/block_format.h"
#include "storage/store.h"

struct mem_chunk;

/* The records of one block: of the tail (a growing arena) or read from disk (one chunk). The
 * records never move. Counted by the loop thread. */
struct store_mem {
    uint32_t refs;
    uint32_t span; /* Slots of records. */
    uint32_t cap;
    uint32_t damaged_count;  /* Slots that are RECORD_DAMAGED. */
    uint64_t first_seq;      /* Of slot 0. */
    const uint8_t **records; /* Per sequence; NULL: none. */
    struct mem_chunk *chunks;
    size_t bytes; /* Of the memory, about. */
};
/* Stands in a slot whose record is known to be there and cannot be read. */
extern const uint8_t block_record_damaged[1];
#define RECORD_DAMAGED block_record_damaged

struct store_mem *mem_new(uint64_t first_seq);
/* With @span slots, all RECORD_DAMAGED: nothing of the block could be read. */
struct store_mem *mem_new_damaged(uint64_t first_seq, uint32_t span);
/* Put a copy of @record, which is valid, into the slot of its sequence. */
void mem_put(struct store_mem *mem, struct slice record);
/* Copy a message to the end as a record; @m->seq minus first_seq must be below BLOCK_SPAN_MAX.
 * Returns the record. */
const uint8_t *mem_append(struct store_mem *mem, uint64_t sid, const struct store_message *m);
void mem_ref(struct store_mem *mem);
void mem_unref(struct store_mem *mem);

/* What the checkpoint says about a block, and what building it found. */
struct block_meta {
    uint64_t first_seq;
    uint64_t last_seq;
    int64_t time_min_ns;
    int64_t time_max_ns;
    uint32_t count; /* Records. */
    uint32_t index_off;
    uint32_t bytes; /* Of the whole block. */
    uint32_t crc;   /* crc32c of the whole block. */
};

struct block_owner {
    uint64_t gid;
    uint64_t sid;
    uint32_t machine_version;
};

/* Append the block made of @records (those not NULL, in sequence order) to @out. At least one. */
void block_build(struct buf *out, const struct block_owner *owner, const uint8_t *const *records,
                 size_t records_count, struct block_meta *ret_meta);

/* Whether @r is a record of the stream by its own checksum, @left bytes long at most. */
bool record_is_valid(const uint8_t *r, uint64_t left, uint64_t sid);

/* Take over @raw (of malloc, @meta->bytes long), check it and find the records. Returns 0, or
 * ERR_CORRUPT when the bytes are not as the checkpoint says: then everything that can be proven by
 * its own checksum is in *ret_mem all the same, *ret_is_index_bad tells whether sequences had to be
 * found by scanning. Slots without proof of absence hold RECORD_DAMAGED. */
int block_load(uint8_t *raw, const struct block_owner *owner, const struct block_meta *meta,
               struct store_mem **ret_mem, bool *ret_is_index_bad);

/* Index, subject table and absent set, borrowed from @tail: the bytes from index_off on. */
struct block_index {
    const uint8_t *entries;
    uint32_t count;
    struct bitset absent;
    struct slice *subjects;
    uint32_t subjects_count;
};
/* Returns 0 or ERR_CORRUPT; close it after 0. */
int block_index_parse(struct slice tail, const struct block_owner *owner,
                      const struct block_meta *meta, struct block_index *ret_index);
void block_index_close(struct block_index *ix);
#endif
