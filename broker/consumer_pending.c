#include <assert.h>
#include <stdlib.h>

#include "broker/consumer.h"

#define PENDING_CAP_MIN 64u
#define RING_CAP_MIN 16u

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdull;
    h ^= h >> 29;
    h *= 0xc4ceb9fe1a85ec53ull;
    return h ^ (h >> 32);
}

uint64_t pending_entry_hash(const struct pending_entry *entry)
{
    uint64_t h = entry->seq * 0x9e3779b97f4a7c15ull + entry->consumer_seq;
    h = h * 0xd6e8feb86659fd93ull + (uint64_t)entry->deadline_ns;
    return mix(h ^ ((uint64_t)entry->count << 34) ^ ((uint64_t)entry->state << 32) ^
               ((uint64_t)entry->is_unsure << 31));
}

void pending_close(struct pending_map *p)
{
    free(p->entries);
    *p = (struct pending_map){0};
}

/* Squeeze out what is gone, then grow if that was not much. */
static void make_room(struct pending_map *p)
{
    size_t to = 0;
    for (size_t i = p->head; i < p->tail; i++) {
        if (p->entries[i].state != PENDING_GONE) {
            p->entries[to++] = p->entries[i];
        }
    }
    assert(to == p->live);
    p->head = 0;
    p->tail = to;
    if (to * 2 >= p->cap) {
        p->cap = p->cap == 0 ? PENDING_CAP_MIN : p->cap * 2;
        p->entries = xrealloc(p->entries, p->cap * sizeof *p->entries);
    }
}

struct pending_entry *pending_add(struct pending_map *p, const struct pending_entry *entry)
{
    if (p->tail == p->cap) {
        make_room(p);
    }
    assert(p->tail == p->head || p->entries[p->tail - 1].seq < entry->seq);
    struct pending_entry *added = &p->entries[p->tail++];
    *added = *entry;
    p->live++;
    pending_end(p, added);
    return added;
}

struct pending_entry *pending_find(const struct pending_map *p, uint64_t seq)
{
    if (p->live == 0 || seq < p->entries[p->head].seq || seq > p->entries[p->tail - 1].seq) {
        return NULL;
    }
    /* Sequences are distinct, so it stands at most this far from the head; without gaps, there. */
    size_t low = p->head;
    size_t high = p->tail - 1;
    if (seq - p->entries[low].seq < high - low) {
        high = low + (size_t)(seq - p->entries[low].seq);
    }
    if (p->entries[high].seq != seq) {
        while (low < high) {
            size_t mid = low + (high - low) / 2;
            if (p->entries[mid].seq < seq) {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
    }
    struct pending_entry *entry = &p->entries[high];
    return entry->seq == seq && entry->state != PENDING_GONE ? entry : NULL;
}

struct pending_entry *pending_head(const struct pending_map *p)
{
    return p->live == 0 ? NULL : &p->entries[p->head];
}

void pending_kill(struct pending_map *p, struct pending_entry *entry)
{
    assert(entry->state != PENDING_GONE);
    pending_begin(p, entry);
    entry->state = PENDING_GONE;
    p->live--;
}

void pending_trim(struct pending_map *p)
{
    if (p->live == 0) {
        p->head = 0;
        p->tail = 0;
        return;
    }
    while (p->entries[p->head].state == PENDING_GONE) {
        p->head++;
    }
    while (p->entries[p->tail - 1].state == PENDING_GONE) {
        p->tail--;
    }
}

void ring_push(struct seq_ring *r, uint64_t seq)
{
    if (r->count == r->cap) {
        size_t cap = r->cap == 0 ? RING_CAP_MIN : r->cap * 2;
        uint64_t *seqs = xmalloc(cap * sizeof *seqs);
        for (size_t i = 0; i < r->count; i++) {
            seqs[i] = ring_at(r, i);
        }
        free(r->seqs);
        r->seqs = seqs;
        r->cap = cap;
        r->head = 0;
    }
    r->seqs[(r->head + r->count++) & (r->cap - 1)] = seq;
}

/* Mostly the first: redeliveries go in order. */
void ring_remove(struct seq_ring *r, uint64_t seq)
{
    size_t i = 0;
    while (i < r->count && ring_at(r, i) != seq) {
        i++;
    }
    assert(i < r->count);
    if (i == 0) {
        r->head = (r->head + 1) & (r->cap - 1);
    } else {
        for (; i + 1 < r->count; i++) {
            r->seqs[(r->head + i) & (r->cap - 1)] = ring_at(r, i + 1);
        }
    }
    r->count--;
}
