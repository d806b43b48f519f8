/* Message ids seen within the duplicate window, in order of time, with a hash table over them.
 *
 * Ids leave at the old end, lazily: one that is past the window is no duplicate even while it is
 * still here. Positions count on for ever, so that checkpoints can write the ids in chunks. */
#ifndef BROKER_STREAM_DEDUP_H
#define BROKER_STREAM_DEDUP_H
#include <stdbool.h>

#include "storage/base/buf.h"

#define DEDUP_IDS_MAX (8u * 1024 * 1024) /* The oldest gives way. */
#define DEDUP_CHUNK 1024u                /* Ids in a checkpoint item. */

struct dedup_id {
    uint64_t hash;
    uint64_t seq;
    int64_t time_ns;
    uint64_t text_at; /* Absolute, like positions. */
    uint32_t text_len;
};

struct dedup {
    struct dedup_id *ids; /* Circular by position. */
    uint64_t cap;
    uint64_t head; /* Positions in [head, tail) are held. */
    uint64_t tail;
    struct buf texts; /* From text_base on. */
    uint64_t text_base;
    uint64_t *slots; /* position + 1; 0: free. */
    uint64_t slots_cap;
    uint64_t sum;        /* Of the hashes of what is held. */
    uint64_t saved_head; /* As of the last checkpoint. */
    uint64_t saved_tail;
    bool is_shifted; /* Since then, from this position on. */
    uint64_t shifted_from;
};

void dedup_close(struct dedup *d);
/* The newest holder of @id, or NULL. */
const struct dedup_id *dedup_find(const struct dedup *d, struct slice id);
void dedup_add(struct dedup *d, struct slice id, uint64_t seq, int64_t time_ns);
/* Drop up to @max ids from before or at @time_ns. */
void dedup_drop(struct dedup *d, int64_t time_ns, uint64_t max);
/* Those of messages in [first_seq, last_seq] are younger than was thought. */
void dedup_shift(struct dedup *d, uint64_t first_seq, uint64_t last_seq, int64_t shift_ns);
void dedup_clear(struct dedup *d);
const struct dedup_id *dedup_at(const struct dedup *d, uint64_t pos);
struct slice dedup_text(const struct dedup *d, const struct dedup_id *id);
void dedup_check(const struct dedup *d);
#endif
