/* Memory for many small things that are freed about in the order in which they came.
 *
 * Blocks are cut from chunks one after the other; a chunk is used again when its last block is
 * freed. So a block costs no search and no splitting, and one that stays keeps its chunk, no more.
 * Not thread-safe. */
#ifndef STORAGE_BASE_ARENA_H
#define STORAGE_BASE_ARENA_H
#include <stddef.h>

#define ARENA_CHUNK_BYTES (64u * 1024)

struct arena_chunk;

struct arena {
    struct arena_chunk *current;
    struct arena_chunk *spare;
};

#define ARENA_EMPTY ((struct arena){NULL, NULL})

/* A block of @bytes, aligned as by malloc. Larger ones than a quarter of a chunk have one of their
 * own. Out of memory stops the process. */
void *arena_alloc(struct arena *a, size_t bytes);
/* @block came from @a, and was not freed yet. */
void arena_free(struct arena *a, void *block);
/* Every block must have been freed. */
void arena_close(struct arena *a);
#endif
