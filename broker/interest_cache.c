#include "broker/interest_cache.h"

#include <stdlib.h>

#include "storage/base/buf.h"

struct cached {
    uint64_t hash;
    uint64_t generation; /* 0: free. */
    uint8_t *subject;
    uint32_t subject_len;
    uint32_t subject_cap;
    struct interest_found found;
};

/* Of two neighbouring slots, by the upper half of the hash: what is in them, and what was missed
 * there last. Apart from the slots, so that a miss, the lot of every reply subject, touches one
 * line of memory. */
struct marks {
    uint32_t held[2];
    uint32_t missed[2];
};

struct interest_cache {
    struct cached *slots;
    struct marks *marks; /* Half as many. */
    uint64_t mask;
    uint64_t generation;       /* Of what counts. */
    const struct cached *last; /* Found last; NULL: none since something was put. */
    bool is_used;
};

static uint32_t mark_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

static struct marks *marks_of(const struct interest_cache *cache, uint64_t hash)
{
    return &cache->marks[(hash & cache->mask) / 2];
}

void interest_found_close(struct interest_found *f)
{
    free(f->result.plain);
    free(f->result.queues);
    *f = (struct interest_found){.is_multi = false};
}

struct interest_cache *interest_cache_new(uint32_t slots)
{
    struct interest_cache *cache = xcalloc(1, sizeof *cache);
    uint64_t count = 2;
    while (count < slots) {
        count *= 2;
    }
    cache->slots = xcalloc(count, sizeof *cache->slots);
    cache->marks = xcalloc(count / 2, sizeof *cache->marks);
    cache->mask = count - 1;
    cache->generation = 1;
    return cache;
}

void interest_cache_free(struct interest_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    for (uint64_t i = 0; cache->is_used && i <= cache->mask; i++) {
        struct cached *c = &cache->slots[i];
        if (c->subject != NULL || c->generation != 0) { /* Most were never used. */
            free(c->subject);
            interest_found_close(&c->found);
        }
    }
    free(cache->slots);
    free(cache->marks);
    free(cache);
}

static bool is_of(const struct interest_cache *cache, const struct cached *c, struct slice subject)
{
    return c->generation == cache->generation &&
           slice_eq(slice_of(c->subject, c->subject_len), subject);
}

const struct interest_result *interest_cache_last(const struct interest_cache *cache,
                                                  struct slice subject)
{
    const struct cached *c = cache->last;
    return c != NULL && is_of(cache, c, subject) ? &c->found.result : NULL;
}

const struct interest_result *interest_cache_find(struct interest_cache *cache,
                                                  struct slice subject, uint64_t hash)
{
    const struct marks *marks = marks_of(cache, hash);
    for (uint64_t way = 0; way < 2; way++) {
        uint64_t slot = (hash & cache->mask) ^ way;
        const struct cached *c = &cache->slots[slot];
        if (marks->held[slot & 1] == mark_of(hash) && c->hash == hash && is_of(cache, c, subject)) {
            cache->last = c;
            return &c->found.result;
        }
    }
    return NULL;
}

bool interest_cache_is_asked_again(struct interest_cache *cache, uint64_t hash)
{
    uint32_t *last = &marks_of(cache, hash)->missed[hash & 1];
    bool is_again = *last == mark_of(hash);
    *last = mark_of(hash);
    return is_again;
}

const struct interest_result *interest_cache_put(struct interest_cache *cache, struct slice subject,
                                                 uint64_t hash, struct interest_found *found)
{
    struct cached *c = &cache->slots[hash & cache->mask];
    struct cached *other = &cache->slots[(hash & cache->mask) ^ 1];
    uint32_t *held = marks_of(cache, hash)->held;
    cache->last = NULL; /* Slots change places. */
    if (c->generation == cache->generation) {
        struct cached moved = *other;
        *other = *c;
        *c = moved;
        held[(hash & 1) ^ 1] = mark_of(other->hash);
    }
    held[hash & 1] = mark_of(hash);
    if (c->subject_cap < subject.len) {
        c->subject = xrealloc(c->subject, subject.len);
        c->subject_cap = (uint32_t)subject.len;
    }
    memcpy(c->subject, subject.ptr, subject.len);
    c->subject_len = (uint32_t)subject.len;
    c->hash = hash;
    c->generation = cache->generation;
    struct interest_found moved = c->found;
    c->found = *found;
    *found = moved;
    cache->is_used = true;
    return &c->found.result;
}

void interest_cache_forget(struct interest_cache *cache, uint64_t hash)
{
    for (uint64_t way = 0; way < 2; way++) {
        struct cached *c = &cache->slots[(hash & cache->mask) ^ way];
        if (c->hash == hash) {
            c->generation = 0;
        }
    }
}

void interest_cache_forget_all(struct interest_cache *cache)
{
    cache->generation++;
}
