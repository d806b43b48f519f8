/* A fixed number of bits, and their compact encoding (block_format.h, "Absent set"). */
#ifndef STORAGE_BITSET_H
#define STORAGE_BITSET_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/buf.h"

/* All zero is an empty set without memory: no bit is set. */
struct bitset {
    uint64_t *words; /* NULL: all clear. */
    uint32_t bits;   /* Bits there are; set by whoever makes it. */
    uint32_t count;  /* Bits set. */
};

void bitset_close(struct bitset *b);
void bitset_copy(struct bitset *to, const struct bitset *from);
/* Returns whether it was clear. */
bool bitset_set(struct bitset *b, uint32_t i);
/* Returns how many were clear. */
uint32_t bitset_set_range(struct bitset *b, uint32_t first, uint32_t last);
/* Set the bits of @word, the lowest at @at. */
void bitset_set_word(struct bitset *b, uint32_t at, uint64_t word);
/* Set @from's bits, moved up by @shift; they must fit. */
void bitset_merge(struct bitset *b, const struct bitset *from, uint32_t shift);
/* Grow or set the number of bits; none beyond it may be set. */
void bitset_resize(struct bitset *b, uint32_t bits);

static inline bool bitset_has(const struct bitset *b, uint32_t i)
{
    return b->words != NULL && i < b->bits && (b->words[i / 64] >> (i % 64) & 1) != 0;
}

/* The 64 bits from @at on; clear beyond the last. */
static inline uint64_t bitset_word(const struct bitset *b, uint32_t at)
{
    if (b->words == NULL || at >= b->bits) {
        return 0;
    }
    uint32_t shift = at % 64;
    uint64_t word = b->words[at / 64] >> shift;
    bool has_next = shift > 0 && b->bits - at > 64 - shift;
    return has_next ? word | b->words[at / 64 + 1] << (64 - shift) : word;
}

/* Nothing is appended for an empty set. */
void bitset_encode(const struct bitset *b, struct buf *out);
/* Into an empty set of @bits bits. False for bytes that encode no such set. */
bool bitset_decode(struct bitset *b, uint32_t bits, struct slice in);
#endif
