#include "storage/base/err.h"
#include "tests/sim/sim_store_internal.h"

/* A call that changes something: false when the process has ended before it. */
static bool begin(struct sim_store_files *f)
{
    if (f->left == 0) {
        return false;
    }
    f->left -= f->left != UINT64_MAX;
    return true;
}

static int end(struct sim_store_files *f, int rv)
{
    f->failed += rv == ERR_IO || rv == ERR_NOSPACE;
    return rv;
}

static int files_open(void *ctx, const char *path, unsigned flags, struct file **ret_file)
{
    struct sim_store_files *f = ctx;
    if ((flags & FILE_CREATE) != 0 && !begin(f)) {
        return ERR_IO;
    }
    return end(f, f->real->open(f->real->ctx, path, flags, ret_file));
}

static void files_close(void *ctx, struct file *file)
{
    struct sim_store_files *f = ctx;
    f->real->close(f->real->ctx, file);
}

static int files_pread(void *ctx, struct file *file, void *buf, size_t len, uint64_t off,
                       size_t *ret_n)
{
    struct sim_store_files *f = ctx;
    return f->real->pread(f->real->ctx, file, buf, len, off, ret_n);
}

static int files_pwrite(void *ctx, struct file *file, const void *buf, size_t len, uint64_t off)
{
    struct sim_store_files *f = ctx;
    return begin(f) ? end(f, f->real->pwrite(f->real->ctx, file, buf, len, off)) : ERR_IO;
}

static int files_sync(void *ctx, struct file *file)
{
    struct sim_store_files *f = ctx;
    if (f->planted == SIM_PLANTED_STORE_NO_SYNC) {
        return 0;
    }
    return begin(f) ? end(f, f->real->sync(f->real->ctx, file)) : ERR_IO;
}

static int files_truncate(void *ctx, struct file *file, uint64_t size)
{
    struct sim_store_files *f = ctx;
    return begin(f) ? end(f, f->real->truncate(f->real->ctx, file, size)) : ERR_IO;
}

static int files_size(void *ctx, struct file *file, uint64_t *ret_size)
{
    struct sim_store_files *f = ctx;
    return f->real->size(f->real->ctx, file, ret_size);
}

static int files_rename(void *ctx, const char *from, const char *to)
{
    struct sim_store_files *f = ctx;
    return begin(f) ? end(f, f->real->rename(f->real->ctx, from, to)) : ERR_IO;
}

static int files_unlink(void *ctx, const char *path)
{
    struct sim_store_files *f = ctx;
    return begin(f) ? end(f, f->real->unlink(f->real->ctx, path)) : ERR_IO;
}

static int files_mkdir(void *ctx, const char *path)
{
    struct sim_store_files *f = ctx;
    return begin(f) ? end(f, f->real->mkdir(f->real->ctx, path)) : ERR_IO;
}

static int files_sync_dir(void *ctx, const char *path)
{
    struct sim_store_files *f = ctx;
    if (f->planted == SIM_PLANTED_STORE_NO_NAME) {
        return 0;
    }
    return begin(f) ? end(f, f->real->sync_dir(f->real->ctx, path)) : ERR_IO;
}

static int files_list(void *ctx, const char *path, file_list_cb cb, void *arg)
{
    struct sim_store_files *f = ctx;
    return f->real->list(f->real->ctx, path, cb, arg);
}

static int files_last_errno(void *ctx)
{
    struct sim_store_files *f = ctx;
    return f->real->last_errno(f->real->ctx);
}

void sim_store_files_init(struct sim_store_files *f, const struct file_ops *real,
                          enum sim_planted planted)
{
    *f = (struct sim_store_files){.real = real, .left = UINT64_MAX, .planted = planted};
    f->ops = (struct file_ops){.ctx = f,
                               .open = files_open,
                               .close = files_close,
                               .pread = files_pread,
                               .pwrite = files_pwrite,
                               .sync = files_sync,
                               .truncate = files_truncate,
                               .size = files_size,
                               .rename = files_rename,
                               .unlink = files_unlink,
                               .mkdir = files_mkdir,
                               .sync_dir = files_sync_dir,
                               .list = files_list,
                               .last_errno = files_last_errno};
}
