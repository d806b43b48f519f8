#include "storage/small_file.h"

#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"

static char *path_of(const char *dir, const char *name, const char *suffix)
{
    struct buf b = BUF_EMPTY;
    buf_printf(&b, "%s/%s%s", dir, name, suffix);
    char *path = xslicedup(buf_slice(&b));
    buf_close(&b);
    return path;
}

static int replace(const struct file_ops *ops, const char *dir, const char *name,
                   const char *suffix, struct slice bytes)
{
    char *path = path_of(dir, name, suffix);
    char *tmp = path_of(dir, name, ".tmp");
    struct file *f;
    int rv = ops->open(ops->ctx, tmp, FILE_READ | FILE_WRITE | FILE_CREATE, &f);
    if (rv == 0) {
        rv = ops->truncate(ops->ctx, f, 0); /* Left over from a crash, maybe. */
        rv = rv == 0 ? ops->pwrite(ops->ctx, f, bytes.ptr, bytes.len, 0) : rv;
        rv = rv == 0 ? ops->sync(ops->ctx, f) : rv;
        ops->close(ops->ctx, f);
    }
    rv = rv == 0 ? ops->rename(ops->ctx, tmp, path) : rv;
    rv = rv == 0 ? ops->sync_dir(ops->ctx, dir) : rv;
    free(path);
    free(tmp);
    return rv;
}

int small_file_write(const struct file_ops *ops, const char *dir, const char *name,
                     struct slice bytes)
{
    return replace(ops, dir, name, "", bytes);
}

int small_file_write_twice(const struct file_ops *ops, const char *dir, const char *name,
                           struct slice bytes)
{
    int rv = replace(ops, dir, name, SMALL_FILE_COPY, bytes);
    return rv == 0 ? replace(ops, dir, name, "", bytes) : rv;
}

int small_file_read(const struct file_ops *ops, const char *dir, const char *name, uint8_t *buf,
                    size_t cap, size_t *ret_len)
{
    char *path = path_of(dir, name, "");
    struct file *f;
    int rv = ops->open(ops->ctx, path, FILE_READ, &f);
    if (rv == 0) {
        rv = ops->pread(ops->ctx, f, buf, cap, 0, ret_len);
        ops->close(ops->ctx, f);
    }
    free(path);
    return rv;
}

int small_file_remove(const struct file_ops *ops, const char *dir, const char *name)
{
    char *path = path_of(dir, name, "");
    int rv = ops->unlink(ops->ctx, path);
    rv = rv == 0 ? ops->sync_dir(ops->ctx, dir) : rv;
    free(path);
    return rv == ERR_NOTFOUND ? 0 : rv;
}
