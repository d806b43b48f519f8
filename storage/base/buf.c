#include "storage/base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/log.h"

/* The line is made on the stack: nothing on the way allocates. */
_Noreturn void out_of_memory(size_t size)
{
    log_line(LOG_LEVEL_ERR, "out of memory allocating %zu bytes", size);
    abort();
}

void *xaligned_alloc(size_t alignment, size_t size)
{
    void *p = aligned_alloc(alignment, size);
    if (p == NULL) {
        out_of_memory(size);
    }
    return p;
}

void *xmalloc(size_t size)
{
    void *p = malloc(size == 0 ? 1 : size);
    if (p == NULL) {
        out_of_memory(size);
    }
    return p;
}

void *xcalloc(size_t n, size_t size)
{
    void *p = calloc(n == 0 ? 1 : n, size == 0 ? 1 : size);
    if (p == NULL) {
        out_of_memory(n * size);
    }
    return p;
}

void *xrealloc(void *ptr, size_t size)
{
    void *p = realloc(ptr, size == 0 ? 1 : size);
    if (p == NULL) {
        out_of_memory(size);
    }
    return p;
}

char *xstrndup(const char *s, size_t len)
{
    char *p = xmalloc(len + 1);
    if (len > 0) {
        memcpy(p, s, len);
    }
    p[len] = 0;
    return p;
}

char *xslicedup(struct slice s)
{
    return xstrndup((const char *)s.ptr, s.len);
}

void buf_close(struct buf *b)
{
    free(b->ptr);
    *b = BUF_EMPTY;
}

void buf_grow(struct buf *b, size_t extra)
{
    assert(extra <= SIZE_MAX - b->len);
    size_t need = b->len + extra;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need) {
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    }
    b->ptr = xrealloc(b->ptr, cap);
    b->cap = cap;
}

void buf_append_str(struct buf *b, const char *s)
{
    buf_append(b, s, strlen(s));
}

void buf_append_varint(struct buf *b, uint64_t v)
{
    uint8_t *p = buf_reserve(b, 10);
    size_t n = 0;
    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    b->len += n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_list again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    assert(n >= 0);
    uint8_t *p = buf_reserve(b, (size_t)n + 1);
    vsnprintf((char *)p, (size_t)n + 1, fmt, again);
    va_end(again);
    b->len += (size_t)n;
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= b->len);
    if (n > 0 && n < b->len) {
        memmove(b->ptr, b->ptr + n, b->len - n);
    }
    b->len -= n;
}

uint64_t reader_varint(struct reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = reader_u8(r);
        if (r->failed) {
            return 0;
        }
        /* The tenth byte has room for one bit only. */
        if (shift == 63 && byte > 1) {
            break;
        }
        v |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            return v;
        }
    }
    r->failed = true;
    return 0;
}
