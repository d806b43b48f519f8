/* uthash, which stops the process with a message when memory is out, as all of us do. Its own way
 * is to exit without a word. */
#ifndef STORAGE_BASE_HASH_H
#define STORAGE_BASE_HASH_H
#include <stdlib.h>

#include "storage/base/buf.h"

#define uthash_malloc(bytes) xmalloc(bytes)
#define uthash_free(ptr, bytes) free(ptr)
#include <uthash.h>
#endif
