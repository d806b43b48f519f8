#include "broker/stream_dedup.h"

#include <assert.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static uint64_t id_sum(const struct dedup_id *id)
{
    uint64_t fields[3] = {id->hash, id->seq, (uint64_t)id->time_ns};
    return XXH3_64bits(fields, sizeof fields);
}

const struct dedup_id *dedup_at(const struct dedup *d, uint64_t pos)
{
    return &d->ids[pos & (d->cap - 1)];
}

struct slice dedup_text(const struct dedup *d, const struct dedup_id *id)
{
    return slice_of(d->texts.ptr + (id->text_at - d->text_base), id->text_len);
}

void dedup_close(struct dedup *d)
{
    free(d->ids);
    free(d->slots);
    buf_close(&d->texts);
    memset(d, 0, sizeof *d);
}

void dedup_clear(struct dedup *d)
{
    if (d->slots_cap > 0) {
        memset(d->slots, 0, d->slots_cap * sizeof *d->slots);
    }
    d->text_base += d->texts.len;
    buf_clear(&d->texts);
    d->head = d->tail;
    d->sum = 0;
}

/* The slot that holds @id or the free one where it belongs. */
static uint64_t slot_of(const struct dedup *d, struct slice id, uint64_t hash)
{
    uint64_t at = hash & (d->slots_cap - 1);
    while (d->slots[at] != 0) {
        const struct dedup_id *held = dedup_at(d, d->slots[at] - 1);
        if (held->hash == hash && slice_eq(dedup_text(d, held), id)) {
            break;
        }
        at = (at + 1) & (d->slots_cap - 1);
    }
    return at;
}

const struct dedup_id *dedup_find(const struct dedup *d, struct slice id)
{
    if (d->head == d->tail) {
        return NULL;
    }
    uint64_t slot = d->slots[slot_of(d, id, XXH3_64bits(id.ptr, id.len))];
    return slot == 0 ? NULL : dedup_at(d, slot - 1);
}

static void grow(struct dedup *d)
{
    uint64_t cap = d->cap == 0 ? 16 : d->cap * 2;
    struct dedup_id *ids = xmalloc(cap * sizeof *ids);
    for (uint64_t pos = d->head; pos < d->tail; pos++) {
        ids[pos & (cap - 1)] = *dedup_at(d, pos);
    }
    free(d->ids);
    d->ids = ids;
    d->cap = cap;
    free(d->slots);
    d->slots_cap = cap * 2;
    d->slots = xcalloc(d->slots_cap, sizeof *d->slots);
    for (uint64_t pos = d->head; pos < d->tail; pos++) { /* Later ones replace their elders. */
        const struct dedup_id *id = dedup_at(d, pos);
        d->slots[slot_of(d, dedup_text(d, id), id->hash)] = pos + 1;
    }
}

static void drop_first(struct dedup *d)
{
    const struct dedup_id *id = dedup_at(d, d->head);
    uint64_t mask = d->slots_cap - 1;
    uint64_t at = slot_of(d, dedup_text(d, id), id->hash);
    if (d->slots[at] == d->head + 1) { /* Else a younger message with this id took its place. */
        for (uint64_t i = (at + 1) & mask; d->slots[i] != 0; i = (i + 1) & mask) {
            uint64_t home = dedup_at(d, d->slots[i] - 1)->hash & mask;
            if (((i - home) & mask) >= ((i - at) & mask)) {
                d->slots[at] = d->slots[i];
                at = i;
            }
        }
        d->slots[at] = 0;
    }
    d->sum -= id_sum(id);
    uint64_t end = id->text_at + id->text_len - d->text_base;
    d->head++;
    if (end == d->texts.len || (end > 65536 && end * 2 > d->texts.len)) {
        buf_consume(&d->texts, end);
        d->text_base += end;
    }
}

void dedup_add(struct dedup *d, struct slice id, uint64_t seq, int64_t time_ns)
{
    if (d->tail - d->head == DEDUP_IDS_MAX) {
        drop_first(d);
    }
    if (d->tail - d->head == d->cap) {
        grow(d);
    }
    struct dedup_id *new = &d->ids[d->tail & (d->cap - 1)];
    *new = (struct dedup_id){XXH3_64bits(id.ptr, id.len), seq, time_ns, d->text_base + d->texts.len,
                             (uint32_t)id.len};
    buf_append_slice(&d->texts, id);
    d->slots[slot_of(d, id, new->hash)] = d->tail + 1;
    d->tail++;
    d->sum += id_sum(new);
}

void dedup_drop(struct dedup *d, int64_t time_ns, uint64_t max)
{
    while (max-- > 0 && d->head < d->tail && dedup_at(d, d->head)->time_ns <= time_ns) {
        drop_first(d);
    }
}

void dedup_shift(struct dedup *d, uint64_t first_seq, uint64_t last_seq, int64_t shift_ns)
{
    uint64_t pos = d->tail;
    for (; pos > d->head && dedup_at(d, pos - 1)->seq >= first_seq; pos--) {
        struct dedup_id *id = &d->ids[(pos - 1) & (d->cap - 1)];
        if (id->seq > last_seq) {
            continue;
        }
        d->sum -= id_sum(id);
        id->time_ns = id->time_ns > INT64_MAX - shift_ns ? INT64_MAX : id->time_ns + shift_ns;
        d->sum += id_sum(id);
    }
    d->shifted_from = d->is_shifted && d->shifted_from < pos ? d->shifted_from : pos;
    d->is_shifted = true;
}

void dedup_check(const struct dedup *d)
{
    uint64_t sum = 0;
    for (uint64_t pos = d->head; pos < d->tail; pos++) {
        const struct dedup_id *id = dedup_at(d, pos);
        sum += id_sum(id);
        const struct dedup_id *found = dedup_find(d, dedup_text(d, id));
        assert(found != NULL);
        assert(found->seq >= id->seq);
    }
    assert(sum == d->sum);
}
