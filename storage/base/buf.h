/* A growable run of bytes that owns its memory.
 *
 * Appending cannot fail: out of memory stops the process, because every caller is in the middle of
 * building something that must not be half there. Bound what outsiders can make grow before
 * appending. */
#ifndef STORAGE_BASE_BUF_H
#define STORAGE_BASE_BUF_H
#include <endian.h>
#include <string.h>

#include "storage/base/slice.h"

struct buf {
    uint8_t *ptr;
    size_t len;
    size_t cap;
};

#define BUF_EMPTY ((struct buf){NULL, 0, 0})

/* Free the memory; the buffer is empty and usable again. */
void buf_close(struct buf *b);

void buf_grow(struct buf *b, size_t extra); /* Of buf_reserve(). */

/* Make room for @extra more bytes and return where they begin; the length is unchanged. */
static inline uint8_t *buf_reserve(struct buf *b, size_t extra)
{
    if (extra > b->cap - b->len) {
        buf_grow(b, extra);
    }
    return b->ptr + b->len;
}

static inline void buf_append(struct buf *b, const void *ptr, size_t len)
{
    if (len > 0) {
        memcpy(buf_reserve(b, len), ptr, len);
        b->len += len;
    }
}

static inline void buf_append_slice(struct buf *b, struct slice s)
{
    buf_append(b, s.ptr, s.len);
}

void buf_append_str(struct buf *b, const char *s);

static inline void buf_append_u8(struct buf *b, uint8_t v)
{
    buf_append(b, &v, sizeof v);
}

/* Little-endian. */
static inline void buf_append_u16(struct buf *b, uint16_t v)
{
    v = htole16(v);
    buf_append(b, &v, sizeof v);
}

static inline void buf_append_u32(struct buf *b, uint32_t v)
{
    v = htole32(v);
    buf_append(b, &v, sizeof v);
}

static inline void buf_append_u64(struct buf *b, uint64_t v)
{
    v = htole64(v);
    buf_append(b, &v, sizeof v);
}

/* LEB128, at most 10 bytes. */
void buf_append_varint(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Drop the first @n bytes, which must be there. */
void buf_consume(struct buf *b, size_t n);

static inline void buf_clear(struct buf *b)
{
    b->len = 0;
}

static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->ptr, b->len};
}

/* Cursor over bytes from outside: each read fails, once and for all, instead of running over the
 * end. */
struct reader {
    const uint8_t *ptr;
    size_t len;
    bool failed; /* Sticky; check it once, after the last read. */
};

static inline struct reader reader_of(struct slice s)
{
    return (struct reader){s.ptr, s.len, false};
}

/* A view of the next @len bytes, or empty with `failed` set. */
static inline struct slice reader_bytes(struct reader *r, size_t len)
{
    if (r->failed || len > r->len) {
        r->failed = true;
        return SLICE_EMPTY;
    }
    struct slice s = {r->ptr, len};
    r->ptr += len;
    r->len -= len;
    return s;
}

static inline uint8_t reader_u8(struct reader *r)
{
    struct slice s = reader_bytes(r, 1);
    return s.len == 0 ? 0 : s.ptr[0];
}

/* Copy the next @len bytes; nothing if they are not there. */
static inline void reader_take(struct reader *r, void *to, size_t len)
{
    struct slice s = reader_bytes(r, len);
    if (s.len > 0) {
        memcpy(to, s.ptr, s.len);
    }
}

static inline uint16_t reader_u16(struct reader *r)
{
    uint16_t v = 0;
    reader_take(r, &v, sizeof v);
    return le16toh(v);
}

static inline uint32_t reader_u32(struct reader *r)
{
    uint32_t v = 0;
    reader_take(r, &v, sizeof v);
    return le32toh(v);
}

static inline uint64_t reader_u64(struct reader *r)
{
    uint64_t v = 0;
    reader_take(r, &v, sizeof v);
    return le64toh(v);
}

uint64_t reader_varint(struct reader *r);

/* Memory is out: log it with the size that was asked for, and stop the process (SIGABRT). What is
 * durable then is what a power cut would have left. */
_Noreturn void out_of_memory(size_t size);

/* malloc and its like that stop the process with a message when memory is out. */
void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *ptr, size_t size);
void *xaligned_alloc(size_t alignment, size_t size);
char *xstrndup(const char *s, size_t len);
char *xslicedup(struct slice s); /* With a NUL at the end. */
#endif
