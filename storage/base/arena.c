#include "storage/base/arena.h"

#include <assert.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

#include "storage/base/buf.h"

#define OWN_BYTES (ARENA_CHUNK_BYTES / 4)

struct arena_chunk {
    size_t blocks;
    size_t len;
    size_t cap;
    alignas(max_align_t) uint8_t bytes[];
};

/* Before each block. */
struct head {
    alignas(max_align_t) struct arena_chunk *chunk;
};

static size_t aligned(size_t bytes)
{
    const size_t to = alignof(max_align_t);
    assert(bytes < SIZE_MAX / 2);
    return (bytes + to - 1) / to * to;
}

static struct arena_chunk *chunk_new(size_t cap)
{
    struct arena_chunk *c = xmalloc(sizeof *c + cap);
    c->blocks = 0;
    c->len = 0;
    c->cap = cap;
    return c;
}

static void *cut(struct arena_chunk *c, size_t bytes)
{
    struct head *h = (struct head *)(c->bytes + c->len);
    c->len += bytes;
    c->blocks++;
    h->chunk = c;
    return h + 1;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    size_t need = sizeof(struct head) + aligned(bytes);
    if (need > OWN_BYTES) {
        return cut(chunk_new(need), need);
    }
    if (a->current == NULL || a->current->cap - a->current->len < need) {
        a->current = a->spare != NULL ? a->spare : chunk_new(ARENA_CHUNK_BYTES);
        a->spare = NULL;
    }
    return cut(a->current, need);
}

void arena_free(struct arena *a, void *block)
{
    struct arena_chunk *c = ((struct head *)block - 1)->chunk;
    assert(c->blocks > 0);
    if (--c->blocks > 0) {
        return;
    }
    c->len = 0;
    if (c == a->current) {
        return;
    }
    if (a->spare == NULL && c->cap == ARENA_CHUNK_BYTES) {
        a->spare = c;
    } else {
        free(c);
    }
}

void arena_close(struct arena *a)
{
    assert(a->current == NULL || a->current->blocks == 0);
    free(a->current);
    free(a->spare);
    *a = ARENA_EMPTY;
}
