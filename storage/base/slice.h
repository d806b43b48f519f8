/* A run of bytes that somebody else owns.
 *
 * A slice is borrowed until the call it is passed to returns; what lives longer is copied. */
#ifndef STORAGE_BASE_SLICE_H
#define STORAGE_BASE_SLICE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *ptr; /* May be NULL when len is 0. */
    size_t len;
};

#define SLICE_EMPTY ((struct slice){NULL, 0})
/* A slice over a string literal, without its NUL. */
#define SLICE_LIT(s) ((struct slice){(const uint8_t *)("" s), sizeof(s) - 1})

static inline struct slice slice_of(const void *ptr, size_t len)
{
    return (struct slice){(const uint8_t *)ptr, len};
}

static inline struct slice slice_str(const char *s)
{
    return (struct slice){(const uint8_t *)s, strlen(s)};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool slice_eq_str(struct slice a, const char *s)
{
    return slice_eq(a, slice_str(s));
}

/* Byte order, as memcmp; a prefix sorts before what it begins. */
static inline int slice_cmp(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int rv = n == 0 ? 0 : memcmp(a.ptr, b.ptr, n);
    return rv != 0 ? rv : (a.len > b.len) - (a.len < b.len);
}

static inline bool slice_has_prefix(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

/* The rest of @s from @from on; @from must be at most its length. */
static inline struct slice slice_from(struct slice s, size_t from)
{
    return (struct slice){s.ptr == NULL ? NULL : s.ptr + from, s.len - from};
}

/* For printf("%.*s", SLICE_ARG(s)). */
#define SLICE_ARG(s) (int)(s).len, (s).ptr == NULL ? "" : (const char *)(s).ptr
#endif
