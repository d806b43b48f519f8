#include "broker/subject_table.h"

#include <assert.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "storage/base/buf.h"

#define SLOTS_MIN 8u

uint64_t subject_hash(struct slice subject)
{
    return XXH3_64bits(subject.ptr, subject.len);
}

void subject_table_init(struct subject_table *t)
{
    *t = (struct subject_table){.free_head = SUBJECT_NONE};
}

void subject_table_close(struct subject_table *t)
{
    for (uint32_t i = 0; i < t->entries_count; i++) {
        free(t->entries[i].text);
    }
    free(t->entries);
    free(t->slots);
    subject_table_init(t);
}

static void put_slot(struct subject_table *t, uint32_t id)
{
    uint32_t mask = t->slots_cap - 1;
    uint32_t at = (uint32_t)t->entries[id].hash & mask;
    while (t->slots[at] != SUBJECT_NONE) {
        at = (at + 1) & mask;
    }
    t->slots[at] = id;
}

static void resize_slots(struct subject_table *t, uint32_t cap)
{
    free(t->slots);
    t->slots_cap = cap;
    t->slots = xmalloc((size_t)cap * sizeof *t->slots);
    memset(t->slots, 0xff, (size_t)cap * sizeof *t->slots);
    for (uint32_t id = 0; id < t->entries_count; id++) {
        if (t->entries[id].text != NULL) {
            put_slot(t, id);
        }
    }
}

uint32_t subject_table_find(const struct subject_table *t, struct slice subject, uint64_t hash)
{
    if (t->slots_cap == 0) {
        return SUBJECT_NONE;
    }
    uint32_t mask = t->slots_cap - 1;
    for (uint32_t at = (uint32_t)hash & mask; t->slots[at] != SUBJECT_NONE; at = (at + 1) & mask) {
        const struct subject_entry *s = &t->entries[t->slots[at]];
        if (s->hash == hash && s->text_len == subject.len &&
            memcmp(s->text, subject.ptr, subject.len) == 0) {
            return t->slots[at];
        }
    }
    return SUBJECT_NONE;
}

static uint32_t take_id(struct subject_table *t)
{
    if (t->free_head != SUBJECT_NONE) {
        uint32_t id = t->free_head;
        t->free_head = (uint32_t)t->entries[id].first_seq;
        return id;
    }
    if (t->entries_count == t->entries_cap) {
        t->entries_cap = t->entries_cap == 0 ? 4 : t->entries_cap * 2;
        t->entries = xrealloc(t->entries, (size_t)t->entries_cap * sizeof *t->entries);
    }
    return t->entries_count++;
}

uint32_t subject_table_add(struct subject_table *t, struct slice subject, uint64_t hash)
{
    uint32_t id = subject_table_find(t, subject, hash);
    if (id != SUBJECT_NONE) {
        return id;
    }
    id = take_id(t);
    t->births++;
    if (t->births == 0 || t->births > INT32_MAX) { /* Filters keep 31 bits of it. */
        t->births = 1;
        t->epoch++;
    }
    t->entries[id] = (struct subject_entry){.text = xslicedup(subject),
                                            .hash = hash,
                                            .text_len = (uint32_t)subject.len,
                                            .birth = t->births};
    t->live_count++;
    if (t->live_count * 4ull > t->slots_cap * 3ull) {
        resize_slots(t, t->slots_cap == 0 ? SLOTS_MIN : t->slots_cap * 2);
    } else {
        put_slot(t, id);
    }
    return id;
}

/* Close the gap at @at, so that every probe still finds its entry (Knuth 6.4, algorithm R). */
static void close_slot(struct subject_table *t, uint32_t at)
{
    uint32_t mask = t->slots_cap - 1;
    for (uint32_t i = (at + 1) & mask; t->slots[i] != SUBJECT_NONE; i = (i + 1) & mask) {
        uint32_t home = (uint32_t)t->entries[t->slots[i]].hash & mask;
        if (((i - home) & mask) >= ((i - at) & mask)) {
            t->slots[at] = t->slots[i];
            at = i;
        }
    }
    t->slots[at] = SUBJECT_NONE;
}

void subject_table_remove(struct subject_table *t, uint32_t id)
{
    struct subject_entry *s = &t->entries[id];
    assert(s->text != NULL);
    assert(s->count == 0);
    uint32_t mask = t->slots_cap - 1;
    uint32_t at = (uint32_t)s->hash & mask;
    while (t->slots[at] != id) {
        assert(t->slots[at] != SUBJECT_NONE);
        at = (at + 1) & mask;
    }
    close_slot(t, at);
    free(s->text);
    *s = (struct subject_entry){.text = NULL, .first_seq = t->free_head};
    t->free_head = id;
    t->live_count--;
}
