/* Small files beside WAL and store, each replaced as a whole: new file, sync, rename, directory
 * sync. */
#include <stdlib.h>

#include "cluster/js_internal.h"
#include "storage/base/err.h"

static char *path_of(const struct js *js, const char *name, const char *suffix)
{
    struct buf b = BUF_EMPTY;
    buf_printf(&b, "%s/%s%s", js->dir, name, suffix);
    char *path = xslicedup(buf_slice(&b));
    buf_close(&b);
    return path;
}

int js_file_write(const struct js *js, const char *name, struct slice bytes)
{
    const struct file_ops *ops = file_ops_posix();
    char *path = path_of(js, name, "");
    char *tmp = path_of(js, name, ".tmp");
    struct file *f;
    int rv = ops->open(ops->ctx, tmp, FILE_READ | FILE_WRITE | FILE_CREATE, &f);
    if (rv == 0) {
        rv = ops->truncate(ops->ctx, f, 0);
        rv = rv == 0 ? ops->pwrite(ops->ctx, f, bytes.ptr, bytes.len, 0) : rv;
        rv = rv == 0 ? ops->sync(ops->ctx, f) : rv;
        ops->close(ops->ctx, f);
    }
    rv = rv == 0 ? ops->rename(ops->ctx, tmp, path) : rv;
    rv = rv == 0 ? ops->sync_dir(ops->ctx, js->dir) : rv;
    free(path);
    free(tmp);
    return rv;
}

int js_file_read(const struct js *js, const char *name, uint8_t *buf, size_t cap, size_t *ret_len)
{
    const struct file_ops *ops = file_ops_posix();
    char *path = path_of(js, name, "");
    struct file *f;
    int rv = ops->open(ops->ctx, path, FILE_READ, &f);
    if (rv == 0) {
        rv = ops->pread(ops->ctx, f, buf, cap, 0, ret_len);
        ops->close(ops->ctx, f);
    }
    free(path);
    return rv;
}

int js_file_remove(const struct js *js, const char *name)
{
    const struct file_ops *ops = file_ops_posix();
    char *path = path_of(js, name, "");
    int rv = ops->unlink(ops->ctx, path);
    rv = rv == 0 ? ops->sync_dir(ops->ctx, js->dir) : rv;
    free(path);
    return rv == ERR_NOTFOUND ? 0 : rv;
}
