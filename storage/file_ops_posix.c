#include "storage/file_ops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"

struct file {
    int fd;
};

static _Thread_local int saved_errno; /* Per thread, like errno itself. */

static int fail(void)
{
    saved_errno = errno;
    switch (errno) {
    case ENOENT:
        return ERR_NOTFOUND;
    case EEXIST:
        return ERR_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return ERR_NOSPACE;
    case ENOMEM:
        return ERR_NOMEM;
    default:
        return ERR_IO;
    }
}

static int posix_open(void *ctx, const char *path, unsigned flags, struct file **ret_file)
{
    (void)ctx;
    int how = (flags & FILE_WRITE) != 0 ? O_RDWR : O_RDONLY;
    how |= O_CLOEXEC;
    how |= (flags & FILE_CREATE) != 0 ? O_CREAT : 0;
    how |= (flags & FILE_EXCL) != 0 ? O_EXCL : 0;
    how |= (flags & FILE_DIRECT) != 0 ? O_DIRECT | O_DSYNC : 0;
    how |= (flags & FILE_UNCACHED) != 0 ? O_DIRECT : 0;
    int fd;
    do {
        fd = open(path, how, 0640);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        /* open() answers EINVAL where O_DIRECT is unknown (tmpfs, some overlays), and has made
         * the file by then. */
        if ((flags & (FILE_DIRECT | FILE_UNCACHED)) != 0 && errno == EINVAL) {
            saved_errno = errno;
            if ((flags & FILE_EXCL) != 0) {
                (void)unlink(path);
            }
            return ERR_UNSUPPORTED;
        }
        return fail();
    }
    struct file *f = xmalloc(sizeof *f);
    f->fd = fd;
    *ret_file = f;
    return 0;
}

static void posix_close(void *ctx, struct file *f)
{
    (void)ctx;
    if (f != NULL) {
        (void)close(f->fd); /* Whatever mattered was synced before. */
        free(f);
    }
}

static int posix_pread(void *ctx, struct file *f, void *buf, size_t len, uint64_t off,
                       size_t *ret_n)
{
    (void)ctx;
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(f->fd, (char *)buf + done, len - done, (off_t)(off + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail();
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    *ret_n = done;
    return 0;
}

static int posix_pwrite(void *ctx, struct file *f, const void *buf, size_t len, uint64_t off)
{
    (void)ctx;
    size_t done = 0;
    while (done < len) {
        ssize_t n = pwrite(f->fd, (const char *)buf + done, len - done, (off_t)(off + done));
        if (n < 0 && errno == EINTR) {
            continue; /* Nothing was written: not a retry of a failed write. */
        }
        if (n < 0) {
            return fail();
        }
        if (n == 0) {
            errno = EIO;
            return fail();
        }
        done += (size_t)n;
    }
    return 0;
}

static int posix_sync(void *ctx, struct file *f)
{
    (void)ctx;
    return fdatasync(f->fd) == 0 ? 0 : fail(); /* Never retried, not even on EINTR. */
}

static int posix_truncate(void *ctx, struct file *f, uint64_t size)
{
    (void)ctx;
    return ftruncate(f->fd, (off_t)size) == 0 ? 0 : fail();
}

static int posix_size(void *ctx, struct file *f, uint64_t *ret_size)
{
    (void)ctx;
    struct stat st;
    if (fstat(f->fd, &st) != 0) {
        return fail();
    }
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int posix_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    return rename(from, to) == 0 ? 0 : fail();
}

static int posix_unlink(void *ctx, const char *path)
{
    (void)ctx;
    return unlink(path) == 0 ? 0 : fail();
}

static int posix_mkdir(void *ctx, const char *path)
{
    (void)ctx;
    return mkdir(path, 0750) == 0 ? 0 : fail();
}

static int posix_sync_dir(void *ctx, const char *path)
{
    (void)ctx;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return fail();
    }
    int rv = fsync(fd) == 0 ? 0 : fail();
    (void)close(fd);
    return rv;
}

static int posix_list(void *ctx, const char *path, file_list_cb cb, void *arg)
{
    (void)ctx;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return fail();
    }
    int rv = 0;
    for (;;) {
        errno = 0; /* The only way to tell an error from the end. */
        struct dirent *e = readdir(dir);
        if (e == NULL) {
            rv = errno == 0 ? 0 : fail();
            break;
        }
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            cb(arg, e->d_name);
        }
    }
    (void)closedir(dir);
    return rv;
}

static int posix_last_errno(void *ctx)
{
    (void)ctx;
    return saved_errno;
}

const struct file_ops *file_ops_posix(void)
{
    static const struct file_ops ops = {
        .open = posix_open,
        .close = posix_close,
        .pread = posix_pread,
        .pwrite = posix_pwrite,
        .sync = posix_sync,
        .truncate = posix_truncate,
        .size = posix_size,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .mkdir = posix_mkdir,
        .sync_dir = posix_sync_dir,
        .list = posix_list,
        .last_errno = posix_last_errno,
    };
    return &ops;
}
