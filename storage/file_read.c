#include "storage/file_read.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/err.h"
#include "storage/block_format.h"

int file_read_all(const struct file_ops *ops, const char *path, struct buf *out)
{
    struct file *f;
    int rv = ops->open(ops->ctx, path, FILE_READ, &f);
    if (rv != 0) {
        return rv;
    }
    uint64_t size;
    size_t n = 0;
    rv = ops->size(ops->ctx, f, &size);
    if (rv == 0) {
        buf_reserve(out, (size_t)size);
        rv = ops->pread(ops->ctx, f, out->ptr + out->len, (size_t)size, 0, &n);
        out->len += rv == 0 ? n : 0;
    }
    ops->close(ops->ctx, f);
    return rv;
}

/* The end of the file may be no whole page, and is read as any other file. */
static int read_rest(const struct file_ops *ops, const char *path, uint8_t *raw, size_t len,
                     uint64_t off)
{
    struct file *f;
    size_t n = 0;
    int rv = len == 0 ? 0 : ops->open(ops->ctx, path, FILE_READ, &f);
    if (rv != 0 || len == 0) {
        return rv;
    }
    rv = ops->pread(ops->ctx, f, raw, len, off, &n);
    ops->close(ops->ctx, f);
    return rv; /* What is missing stays zero. */
}

/* Whole pages, past the page cache: @raw gets those bytes of [off, off + len) that lie in them. */
static int read_pages(const struct file_ops *ops, struct file *f, uint8_t *raw, size_t len,
                      uint64_t off, uint64_t *ret_end)
{
    uint64_t size;
    int rv = ops->size(ops->ctx, f, &size);
    if (rv != 0) {
        return rv;
    }
    uint64_t from = off / BLOCK_ALIGN * BLOCK_ALIGN;
    uint64_t to = align_up(off + len);
    to = to < size ? to : size / BLOCK_ALIGN * BLOCK_ALIGN;
    *ret_end = off;
    if (to <= off) {
        return 0;
    }
    uint8_t *pages = aligned_alloc(BLOCK_ALIGN, to - from);
    if (pages == NULL) {
        return ERR_NOMEM;
    }
    size_t n = 0;
    rv = ops->pread(ops->ctx, f, pages, to - from, from, &n);
    uint64_t end = from + n < off + len ? from + n : off + len;
    if (rv == 0 && end > off) {
        memcpy(raw, pages + (off - from), end - off);
        *ret_end = end;
    }
    free(pages);
    return rv;
}

int file_read_disk(const struct file_ops *ops, const char *path, uint8_t *raw, size_t len,
                   uint64_t off)
{
    struct file *f;
    uint64_t end;
    int rv = ops->open(ops->ctx, path, FILE_READ | FILE_UNCACHED, &f);
    if (rv != 0) {
        return rv;
    }
    memset(raw, 0, len);
    rv = read_pages(ops, f, raw, len, off, &end);
    ops->close(ops->ctx, f);
    if (rv == 0) {
        size_t done = (size_t)(end - off);
        rv = read_rest(ops, path, raw + done, len - done, end);
    }
    return rv;
}
