/* What of an image a replica has already (design 5: catch-up by delta).
 *
 * A replica that is behind has applied a part of what the image is the state of. So whatever is
 * live in the image and not younger than its own durable blocks is in these, byte for byte the
 * same: a sequence is given to one message, and one that was removed does not come back. A block of
 * the image is therefore own, and not fetched, if the durable blocks here hold each sequence that
 * is live in it. At the switch the durable blocks stay, less what is not live in an own block of
 * the image.
 *
 * The image tells which sequences of a block are not live (store_image.c). */
#include <assert.h>
#include <stdlib.h>

#include "storage/stage_internal.h"

/* ---- Planning ---- */

static bool is_sound(const struct block *b)
{
    return b->state == BLOCK_DISK && !b->is_unreadable && !b->is_reported && !b->is_fixed;
}

/* Of @count sequences from @seq on, those of the first 64 that are in @set; the lowest bit is
 * @seq's. */
static uint64_t some_of(const struct bitset *set, uint64_t first_seq, uint64_t seq, uint64_t count)
{
    uint64_t word = bitset_word(set, (uint32_t)(seq - first_seq));
    return count >= 64 ? word : word & ((UINT64_C(1) << count) - 1);
}

/* Is each sequence from @seq to @last_seq dead, or live in @b? NULL: in none. */
static bool are_dead_or_in(const struct block *want, const struct bitset *dead, uint64_t seq,
                           uint64_t last_seq, const struct block *b)
{
    for (; seq <= last_seq; seq += 64) {
        uint64_t count = last_seq - seq + 1;
        uint64_t all = count >= 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;
        uint64_t missing = b == NULL ? all : some_of(&b->gone, b->first_seq, seq, count);
        if ((missing & ~some_of(dead, want->first_seq, seq, count)) != 0) {
            return false;
        }
    }
    return true;
}

/* Do the durable blocks of @s hold each live sequence of @want? */
static bool is_here(const struct store_stream *s, const struct block *want,
                    const struct bitset *dead)
{
    if (want->records_count + dead->count < block_span(want)) {
        return false; /* What was absent when it was written is not told. */
    }
    uint64_t seq = want->first_seq;
    for (size_t i = blocks_search(s, seq); i < s->end && seq <= want->last_seq; i++) {
        const struct block *b = s->blocks[i];
        uint64_t end = blocks_end(s, i);
        end = end < want->last_seq ? end : want->last_seq;
        if (seq < b->first_seq) {
            uint64_t last = b->first_seq - 1 < want->last_seq ? b->first_seq - 1 : want->last_seq;
            if (!are_dead_or_in(want, dead, seq, last, NULL)) {
                return false;
            }
            seq = last + 1;
        }
        if (seq <= end && !are_dead_or_in(want, dead, seq, end, is_sound(b) ? b : NULL)) {
            return false;
        }
        seq = end >= seq ? end + 1 : seq;
    }
    return are_dead_or_in(want, dead, seq, want->last_seq, NULL);
}

/* The own blocks are the image's first: so the own and the fetched ones meet at one place only. */
static void plan_own(struct store_stage *sg)
{
    const struct store_stream *s = store_find(sg->st, sg->gid);
    if (s == NULL || s->sid != sg->sid || !s->is_loaded) {
        return;
    }
    struct block **sorted = xcalloc(sg->blocks_count + 1u, sizeof(struct block *));
    for (uint32_t n = 0; n < sg->blocks_count; n++) {
        sorted[n] = sg->blocks[n];
    }
    qsort(sorted, sg->blocks_count, sizeof(struct block *), block_by_first_seq);
    for (uint32_t i = 0; i < sg->blocks_count; i++) {
        uint32_t n = stage_block_of(sg, sorted[i]->id);
        if (!is_here(s, sg->blocks[n], &sg->deads[n])) {
            break;
        }
        sg->parts[n + 1].is_own = true;
    }
    free(sorted);
}

void stage_plan(struct store_stage *sg)
{
    if (sg->is_planned) {
        return;
    }
    sg->is_planned = true;
    if (stage_parse(sg) == 0) {
        plan_own(sg);
    }
    sg->files_count = 0;
    stage_left_adopt(sg);
    stage_layout(sg);
}

bool store_stage_has(struct store_stage *sg, uint32_t part)
{
    assert(part > 0);
    assert(part < sg->parts_count);
    stage_plan(sg);
    return sg->parts[part].is_own || sg->parts[part].is_fetched;
}

uint32_t store_stage_own_count(const struct store_stage *sg)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i < sg->parts_count; i++) {
        count += sg->parts[i].is_own;
    }
    return count;
}

/* ---- The switch ---- */

struct own_range {
    uint64_t first;
    uint64_t last;
    const struct bitset *dead;
};

static int by_first(const void *a, const void *b)
{
    uint64_t x = ((const struct own_range *)a)->first;
    uint64_t y = ((const struct own_range *)b)->first;
    return (x > y) - (x < y);
}

/* In order of sequence, each up to where the next begins (the image of a replica that caught up by
 * delta itself has blocks that reach into the next); the sum of what is live in them in *ret_live.
 */
static struct own_range *own_ranges(const struct store_stage *sg, size_t *ret_count,
                                    uint64_t *ret_live)
{
    struct own_range *ranges = xcalloc(sg->blocks_count + 1u, sizeof *ranges);
    *ret_count = 0;
    *ret_live = 0;
    for (uint32_t n = 0; n < sg->blocks_count; n++) {
        const struct block *b = sg->blocks[n];
        if (sg->parts[n + 1].is_own) {
            ranges[(*ret_count)++] = (struct own_range){b->first_seq, b->last_seq, &sg->deads[n]};
            *ret_live += block_span(b) - sg->deads[n].count;
        }
    }
    qsort(ranges, *ret_count, sizeof *ranges, by_first);
    for (size_t i = 1; i < *ret_count; i++) {
        if (ranges[i - 1].last >= ranges[i].first) {
            ranges[i - 1].last = ranges[i].first - 1;
        }
    }
    return ranges;
}

/* What of @b is not live in the image's own blocks, in addition to what is gone here. */
static void gone_after(const struct block *b, const struct own_range *ranges, size_t count,
                       struct bitset *gone)
{
    size_t lo = 0;
    size_t hi = count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ranges[mid].last < b->first_seq) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    bitset_copy(gone, &b->gone);
    gone->bits = block_span(b);
    uint64_t seq = b->first_seq;
    for (size_t i = lo; i < count && ranges[i].first <= b->last_seq; i++) {
        const struct own_range *r = &ranges[i];
        if (seq < r->first) {
            bitset_set_range(gone, (uint32_t)(seq - b->first_seq),
                             (uint32_t)(r->first - 1 - b->first_seq));
            seq = r->first;
        }
        uint64_t end = r->last < b->last_seq ? r->last : b->last_seq;
        for (uint64_t k = seq; r->dead->count > 0 && k <= end; k += 64) {
            bitset_set_word(gone, (uint32_t)(k - b->first_seq),
                            some_of(r->dead, r->first, k, end - k + 1));
        }
        seq = end + 1;
    }
    if (seq <= b->last_seq) {
        bitset_set_range(gone, (uint32_t)(seq - b->first_seq),
                         (uint32_t)(b->last_seq - b->first_seq));
    }
}

static void keep(struct store_stage *sg, const struct block *b, const struct bitset *gone)
{
    uint8_t value[BLOCK_VALUE_BYTES];
    uint64_t number;
    struct block *kept = block_new(NULL);
    block_encode(b, b->file->number, value);
    bool ok = block_decode(kept, &number, slice_of(value, sizeof value));
    assert(ok);
    (void)ok;
    kept->id = b->id;
    kept->gone = *gone;
    sg->kept = xrealloc(sg->kept, (sg->kept_count + 1) * sizeof *sg->kept);
    sg->kept[sg->kept_count++] = (struct stage_kept){kept, b->file};
}

static void forget_kept(struct store_stage *sg)
{
    for (size_t i = 0; i < sg->kept_count; i++) {
        block_free(sg->kept[i].block);
    }
    free(sg->kept);
    sg->kept = NULL;
    sg->kept_count = 0;
}

bool stage_keep(struct store_stage *sg, const struct store_stream *old)
{
    forget_kept(sg);
    size_t count;
    uint64_t wanted;
    struct own_range *ranges = own_ranges(sg, &count, &wanted);
    uint64_t live = 0;
    for (size_t i = old == NULL ? 0 : old->head; count > 0 && old != NULL && i < old->end; i++) {
        const struct block *b = old->blocks[i];
        if (!is_sound(b)) {
            continue;
        }
        struct bitset gone = {0};
        gone_after(b, ranges, count, &gone);
        if (gone.count == block_span(b)) {
            bitset_close(&gone);
            continue;
        }
        live += block_span(b) - gone.count;
        keep(sg, b, &gone);
    }
    free(ranges);
    return live == wanted;
}

bool store_stage_is_whole(struct store_stage *sg)
{
    return stage_keep(sg, store_find(sg->st, sg->gid));
}

void stage_own_close(struct store_stage *sg)
{
    forget_kept(sg);
}
