#include "storage/bitset.h"

#include <assert.h>
#include <stdlib.h>

static size_t words_of(uint32_t bits)
{
    return ((size_t)bits + 63) / 64;
}

void bitset_close(struct bitset *b)
{
    free(b->words);
    *b = (struct bitset){0};
}

void bitset_copy(struct bitset *to, const struct bitset *from)
{
    *to = *from;
    if (from->words != NULL) {
        to->words = xmalloc(words_of(from->bits) * 8);
        memcpy(to->words, from->words, words_of(from->bits) * 8);
    }
}

void bitset_resize(struct bitset *b, uint32_t bits)
{
    size_t have = words_of(b->bits);
    size_t want = words_of(bits);
    if (b->words != NULL && want > have) {
        b->words = xrealloc(b->words, want * 8);
        memset(b->words + have, 0, (want - have) * 8);
    }
    b->bits = bits;
}

bool bitset_set(struct bitset *b, uint32_t i)
{
    assert(i < b->bits);
    if (b->words == NULL) {
        b->words = xcalloc(words_of(b->bits), 8);
    }
    uint64_t bit = UINT64_C(1) << (i % 64);
    if ((b->words[i / 64] & bit) != 0) {
        return false;
    }
    b->words[i / 64] |= bit;
    b->count++;
    return true;
}

static void set_in_word(struct bitset *b, size_t i, uint64_t bits)
{
    b->count += (uint32_t)__builtin_popcountll(bits & ~b->words[i]);
    b->words[i] |= bits;
}

void bitset_set_word(struct bitset *b, uint32_t at, uint64_t word)
{
    if (word == 0) {
        return;
    }
    assert(at < b->bits);
    assert(63u - (uint32_t)__builtin_clzll(word) < b->bits - at);
    if (b->words == NULL) {
        b->words = xcalloc(words_of(b->bits), 8);
    }
    uint32_t shift = at % 64;
    set_in_word(b, at / 64, word << shift);
    if (shift > 0 && word >> (64 - shift) != 0) {
        set_in_word(b, at / 64 + 1, word >> (64 - shift));
    }
}

uint32_t bitset_set_range(struct bitset *b, uint32_t first, uint32_t last)
{
    assert(first <= last);
    assert(last < b->bits);
    uint32_t before = b->count;
    for (uint64_t i = first; i <= last; i += 64) {
        uint64_t left = last - i + 1;
        bitset_set_word(b, (uint32_t)i, left >= 64 ? UINT64_MAX : (UINT64_C(1) << left) - 1);
    }
    return b->count - before;
}

void bitset_merge(struct bitset *b, const struct bitset *from, uint32_t shift)
{
    for (size_t i = 0; from->words != NULL && i < words_of(from->bits); i++) {
        bitset_set_word(b, (uint32_t)(i * 64) + shift, from->words[i]);
    }
}

void bitset_encode(const struct bitset *b, struct buf *out)
{
    if (b->count == 0) {
        return;
    }
    size_t begin = out->len;
    size_t raw_bytes = 1 + ((size_t)b->bits + 7) / 8;
    buf_append_u8(out, 0);
    uint32_t i = 0;
    uint32_t left = b->count;
    while (left > 0 && out->len - begin < raw_bytes) {
        uint32_t from = i;
        while (!bitset_has(b, i)) {
            /* Whole words of nothing are common in long sets. */
            i += i % 64 == 0 && b->words[i / 64] == 0 ? 64 : 1;
        }
        buf_append_varint(out, i - from);
        from = i;
        while (i < b->bits && bitset_has(b, i)) {
            i++;
        }
        buf_append_varint(out, i - from);
        left -= i - from;
    }
    if (left > 0) {
        out->len = begin;
        buf_append_u8(out, 1);
        buf_append(out, b->words, raw_bytes - 1);
    }
}

static bool decode_runs(struct bitset *b, struct reader *r)
{
    uint64_t i = 0;
    while (r->len > 0) {
        uint64_t skip = reader_varint(r);
        uint64_t run = reader_varint(r);
        if (r->failed || skip > b->bits || run > b->bits || run == 0 || i + skip + run > b->bits) {
            return false;
        }
        i += skip;
        bitset_set_range(b, (uint32_t)i, (uint32_t)(i + run - 1));
        i += run;
    }
    return true;
}

bool bitset_decode(struct bitset *b, uint32_t bits, struct slice in)
{
    *b = (struct bitset){.bits = bits};
    if (in.len == 0) {
        return true;
    }
    struct reader r = reader_of(in);
    uint8_t form = reader_u8(&r);
    bool ok = false;
    if (form == 0) {
        ok = decode_runs(b, &r);
    } else if (form == 1 && r.len == ((size_t)bits + 7) / 8) {
        ok = true;
        for (size_t i = 0; i < r.len * 8 && ok; i++) {
            if ((r.ptr[i / 8] >> (i % 8) & 1) != 0) {
                ok = i < bits;
                if (ok) {
                    bitset_set(b, (uint32_t)i);
                }
            }
        }
    }
    if (!ok) {
        bitset_close(b);
    }
    return ok;
}
