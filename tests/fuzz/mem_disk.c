#include "tests/fuzz/mem_disk.h"

#include "storage/base/err.h"
#include "storage/base/list.h"
#include "tests/fuzz/fuzz.h"

#define FIRST_BYTES (6u << 20) /* A segment of the log, and some; untouched pages cost nothing. */

struct mem_file {
    struct list link;
    char *path; /* NULL: unlinked. */
    uint8_t *ptr;
    size_t size, cap; /* Zeros beyond the size. */
    unsigned opens;
};

static struct list files = {&files, &files};

static struct mem_file *find(const char *path)
{
    LIST_FOR(it, &files)
    {
        struct mem_file *f = container_of(it, struct mem_file, link);
        if (f->path != NULL && strcmp(f->path, path) == 0) {
            return f;
        }
    }
    return NULL;
}

static void drop(struct mem_file *f)
{
    if (f->path == NULL && f->opens == 0) {
        list_remove(&f->link);
        free(f->ptr);
        free(f);
    }
}

static struct mem_file *of(struct file *f)
{
    return (struct mem_file *)(void *)f;
}

static int mem_open(void *ctx, const char *path, unsigned flags, struct file **ret_file)
{
    (void)ctx;
    if ((flags & (FILE_DIRECT | FILE_UNCACHED)) != 0) {
        return ERR_UNSUPPORTED;
    }
    struct mem_file *f = find(path);
    if (f == NULL && (flags & FILE_CREATE) == 0) {
        return ERR_NOTFOUND;
    }
    if (f != NULL && (flags & FILE_EXCL) != 0) {
        return ERR_EXISTS;
    }
    if (f == NULL) {
        f = xcalloc(1, sizeof *f);
        f->path = xstrndup(path, strlen(path));
        list_init(&f->link);
        list_push_back(&files, &f->link);
    }
    f->opens++;
    *ret_file = (struct file *)(void *)f;
    return 0;
}

static void mem_close(void *ctx, struct file *file)
{
    (void)ctx;
    of(file)->opens--;
    drop(of(file));
}

static int mem_pread(void *ctx, struct file *file, void *buf, size_t len, uint64_t off,
                     size_t *ret_n)
{
    const struct mem_file *f = of(file);
    (void)ctx;
    size_t n = off >= f->size ? 0 : f->size - (size_t)off;
    n = n < len ? n : len;
    if (n > 0) {
        memcpy(buf, f->ptr + off, n);
    }
    *ret_n = n;
    return 0;
}

static bool are_zeros(const uint8_t *p, size_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static void resize(struct mem_file *f, size_t size)
{
    if (size > f->cap) {
        size_t cap = size < FIRST_BYTES ? FIRST_BYTES : size * 2;
        uint8_t *p = xcalloc(1, cap);
        if (f->size > 0) {
            memcpy(p, f->ptr, f->size);
        }
        free(f->ptr);
        f->ptr = p;
        f->cap = cap;
    }
    if (size < f->size) {
        memset(f->ptr + size, 0, f->size - size);
    }
    f->size = size;
}

static int mem_pwrite(void *ctx, struct file *file, const void *buf, size_t len, uint64_t off)
{
    struct mem_file *f = of(file);
    (void)ctx;
    bool is_new = off >= f->size;
    if (off + len > f->size) {
        resize(f, (size_t)off + len);
    }
    if (len > 0 && !(is_new && are_zeros(buf, len))) {
        memcpy(f->ptr + off, buf, len);
    }
    return 0;
}

static int mem_sync(void *ctx, struct file *file)
{
    (void)ctx;
    (void)file;
    return 0;
}

static int mem_truncate(void *ctx, struct file *file, uint64_t size)
{
    (void)ctx;
    resize(of(file), (size_t)size);
    return 0;
}

static int mem_size(void *ctx, struct file *file, uint64_t *ret_size)
{
    (void)ctx;
    *ret_size = of(file)->size;
    return 0;
}

static int mem_unlink(void *ctx, const char *path)
{
    struct mem_file *f = find(path);
    (void)ctx;
    if (f == NULL) {
        return ERR_NOTFOUND;
    }
    free(f->path);
    f->path = NULL;
    drop(f);
    return 0;
}

static int mem_rename(void *ctx, const char *from, const char *to)
{
    struct mem_file *f = find(from);
    if (f == NULL) {
        return ERR_NOTFOUND;
    }
    (void)mem_unlink(ctx, to);
    free(f->path);
    f->path = xstrndup(to, strlen(to));
    return 0;
}

static int mem_path(void *ctx, const char *path)
{
    (void)ctx;
    (void)path;
    return 0;
}

static int mem_list(void *ctx, const char *path, file_list_cb cb, void *arg)
{
    size_t len = strlen(path);
    (void)ctx;
    LIST_FOR(it, &files)
    {
        const struct mem_file *f = container_of(it, struct mem_file, link);
        if (f->path != NULL && strncmp(f->path, path, len) == 0 && f->path[len] == '/' &&
            strchr(f->path + len + 1, '/') == NULL) {
            cb(arg, f->path + len + 1);
        }
    }
    return 0;
}

static int mem_errno(void *ctx)
{
    (void)ctx;
    return 0;
}

const struct file_ops *mem_disk_ops(void)
{
    static const struct file_ops ops = {.open = mem_open,
                                        .close = mem_close,
                                        .pread = mem_pread,
                                        .pwrite = mem_pwrite,
                                        .sync = mem_sync,
                                        .truncate = mem_truncate,
                                        .size = mem_size,
                                        .rename = mem_rename,
                                        .unlink = mem_unlink,
                                        .mkdir = mem_path,
                                        .sync_dir = mem_path,
                                        .list = mem_list,
                                        .last_errno = mem_errno};
    return &ops;
}

void mem_disk_clear(void)
{
    LIST_FOR_SAFE(it, tmp, &files)
    {
        struct mem_file *f = container_of(it, struct mem_file, link);
        require(f->opens == 0);
        free(f->path);
        f->path = NULL;
        drop(f);
    }
}
