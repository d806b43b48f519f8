/* What the targets share. A target is any function of bytes that may never crash, hang, read what
 * is not its own, or break what it promises; see README.md. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise that was broken. */
#define require(cond)                                                                              \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #cond);                     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Inputs that build something are scripts: steps out of small numbers, so that a changed byte is a
 * changed step. Beyond the end everything reads as 0. */
static inline bool script_is_over(const struct reader *r)
{
    return r->failed || r->len == 0;
}

/* Bytes behind a length of one byte, as far as they go. */
static inline struct slice script_bytes(struct reader *r)
{
    size_t len = reader_u8(r);
    return reader_bytes(r, len < r->len ? len : r->len);
}

/* Behind a length of two bytes. */
static inline struct slice script_long_bytes(struct reader *r)
{
    size_t len = reader_u16(r);
    return reader_bytes(r, len < r->len ? len : r->len);
}

/* Numbers where programs break: small ones as they are, then the neighbours of powers of two. */
static inline uint64_t script_number(struct reader *r)
{
    uint8_t b = reader_u8(r);
    if (b < 128) {
        return b;
    }
    if (b < 192) {
        return (UINT64_C(1) << (b - 128)) - 1;
    }
    if (b < 255) {
        return (UINT64_C(1) << (b - 192)) + 1;
    }
    return reader_u64(r);
}
#endif
