/* Blocks on their way into data files.
 *
 * A file that gets much in a pass is written past the page cache, in pages that are gathered here:
 * what was just written stays in the store's own cache of blocks, and a copy of it in the page
 * cache costs more processor time than all else that a flush does. What such a file gets in a pass
 * ends with zeros up to the next page, which belong to no block (a pass begins on a page anyway).
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/err.h"
#include "storage/flush_internal.h"

#define GATHER_BYTES (1024u * 1024) /* A multiple of BLOCK_ALIGN. */

static int failed(struct store_flush *job, const struct flush_file *ff, int rv)
{
    char path[STORE_PATH_BYTES];
    store_file_path(job->st, ff->file->number, path);
    store_fail(job->st, path);
    return rv == ERR_NOSPACE ? rv : ERR_IO;
}

static int open_file(struct store_flush *job, struct flush_file *ff)
{
    const struct file_ops *ops = job->st->ops;
    char path[STORE_PATH_BYTES];
    store_file_path(job->st, ff->file->number, path);
    unsigned flags = FILE_WRITE | (ff->is_new ? FILE_CREATE | FILE_EXCL : 0);
    int rv = ERR_UNSUPPORTED;
    if (ff->planned - ff->file->bytes >= job->st->options.small_bytes) {
        rv = ops->open(ops->ctx, path, flags | FILE_UNCACHED, &ff->open);
    }
    ff->is_uncached = rv == 0;
    return rv == ERR_UNSUPPORTED ? ops->open(ops->ctx, path, flags, &ff->open) : rv;
}

static int write_gathered(struct store_flush *job)
{
    struct flush_gather *g = &job->gather;
    const struct file_ops *ops = job->st->ops;
    int rv = ops->pwrite(ops->ctx, g->to->open, g->pages, g->len, g->off);
    g->off += g->len;
    g->len = 0;
    return rv == 0 ? 0 : failed(job, g->to, rv);
}

int flush_write_rest(struct store_flush *job)
{
    struct flush_gather *g = &job->gather;
    int rv = 0;
    if (g->len > 0) {
        size_t len = (size_t)align_up(g->len);
        memset(g->pages + g->len, 0, len - g->len);
        g->len = len;
        rv = write_gathered(job);
        g->to->end = g->off;
    }
    g->to = NULL;
    return rv;
}

static int gather(struct store_flush *job, struct flush_file *ff, struct slice bytes)
{
    struct flush_gather *g = &job->gather;
    int rv = 0;
    if (g->to != ff) {
        rv = flush_write_rest(job);
        g->to = ff;
        g->off = ff->end;
        assert(g->off % BLOCK_ALIGN == 0);
    }
    if (g->pages == NULL) {
        g->pages = xaligned_alloc(BLOCK_ALIGN, GATHER_BYTES);
    }
    while (rv == 0 && bytes.len > 0) {
        size_t n = GATHER_BYTES - g->len < bytes.len ? GATHER_BYTES - g->len : bytes.len;
        memcpy(g->pages + g->len, bytes.ptr, n);
        g->len += n;
        bytes = slice_of(bytes.ptr + n, bytes.len - n);
        if (g->len == GATHER_BYTES) {
            rv = write_gathered(job);
        }
    }
    return rv;
}

int flush_write(struct store_flush *job, struct flush_file *ff, struct slice bytes,
                uint64_t *ret_off)
{
    const struct file_ops *ops = job->st->ops;
    int rv = ff->open == NULL ? open_file(job, ff) : 0;
    if (rv != 0) {
        return failed(job, ff, rv);
    }
    if (ff->is_uncached) {
        rv = gather(job, ff, bytes);
    } else {
        rv = ops->pwrite(ops->ctx, ff->open, bytes.ptr, bytes.len, ff->end);
        rv = rv == 0 ? 0 : failed(job, ff, rv);
    }
    *ret_off = ff->end;
    ff->end += bytes.len;
    return rv;
}

void flush_write_close(struct store_flush *job)
{
    free(job->gather.pages);
    job->gather = (struct flush_gather){.to = NULL};
}
