/* uthash, which stops the process with a message when memory is out, as all of us do. Its own way
 * is to exit without a word. */
#ifndef STORAGE_BASE_HASH_H
#define STORAGE_BASE_HASH_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"

/* Most keys are numbers of 64 bits, looked up for each message: a multiplication will do. */
static inline unsigned hash_of_u64(const void *key)
{
    uint64_t v;
    memcpy(&v, key, sizeof v);
    v = (v ^ v >> 32) * UINT64_C(0x9e3779b97f4a7c15);
    return (unsigned)(v >> 32);
}

#define HASH_FUNCTION(key, len, hash)                                                              \
    do {                                                                                           \
        if ((len) == sizeof(uint64_t)) {                                                           \
            (hash) = hash_of_u64(key);                                                             \
        } else {                                                                                   \
            HASH_JEN(key, len, hash);                                                              \
        }                                                                                          \
    } while (0)

#define uthash_malloc(bytes) xmalloc(bytes)
#define uthash_free(ptr, bytes) free(ptr)
#include <uthash.h>
#endif
