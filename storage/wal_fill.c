/* New segments are filled with zeros before they are used, so that later writes hit allocated,
 * initialised blocks. A slice at a time, between batches: filling a segment in one go would hold up
 * commits for as long. Past the page cache where the file system lets us: nobody reads the zeros.
 */
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/wal_internal.h"

#define CHUNK_BYTES (1u << 20)

void wal_fill_close(struct wal *w)
{
    struct wal_fill *f = &w->fill;
    if (f->file != NULL) {
        w->o.ops->close(w->o.ops->ctx, f->file);
    }
    free(f->zeros);
    *f = (struct wal_fill){.file = NULL};
}

int wal_fill_begin(struct wal *w, uint64_t bytes)
{
    const struct file_ops *ops = w->o.ops;
    struct wal_fill *f = &w->fill;
    (void)snprintf(f->path, sizeof f->path, "%s/wal-%016llx.tmp", w->dir,
                   (unsigned long long)w->seq_next);
    const unsigned flags = FILE_WRITE | FILE_CREATE;
    int rv = ops->open(ops->ctx, f->path, flags | FILE_UNCACHED, &f->file);
    if (rv == ERR_UNSUPPORTED) {
        rv = ops->open(ops->ctx, f->path, flags, &f->file);
    }
    if (rv == 0) {
        f->size = bytes;
        f->at = 0;
        f->zeros = wal_aligned_zeros(bytes < CHUNK_BYTES ? (size_t)bytes : CHUNK_BYTES);
        rv = ops->truncate(ops->ctx, f->file, 0); /* A *.tmp that a crash left. */
    }
    if (rv == ERR_NOSPACE) {
        return rv;
    }
    return rv == 0 ? 0 : wal_fail(w, rv, f->path);
}

int wal_fill_slice(struct wal *w, uint64_t bytes)
{
    const struct file_ops *ops = w->o.ops;
    struct wal_fill *f = &w->fill;
    uint64_t end = f->size - f->at < bytes ? f->size : f->at + bytes;
    int rv = 0;
    while (rv == 0 && f->at < end) {
        size_t n = end - f->at < CHUNK_BYTES ? (size_t)(end - f->at) : CHUNK_BYTES;
        rv = ops->pwrite(ops->ctx, f->file, f->zeros, n, f->at);
        f->at += n;
    }
    if (rv == ERR_NOSPACE) {
        return rv; /* Nothing is lost but zeros. */
    }
    if (rv == 0 && f->at < f->size) {
        return 1;
    }
    if (rv == 0) {
        rv = ops->sync(ops->ctx, f->file);
    }
    return rv == 0 ? 0 : wal_fail(w, rv, f->path);
}

int wal_fill_drop(struct wal *w)
{
    char path[WAL_PATH_MAX];
    memcpy(path, w->fill.path, sizeof path);
    wal_fill_close(w);
    int rv = w->o.ops->unlink(w->o.ops->ctx, path);
    return rv == 0 ? 0 : wal_fail(w, rv, path);
}
