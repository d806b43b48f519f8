#include <assert.h>
#include <stdio.h>

#include "storage/base/err.h"
#include "storage/wal_format.h"
#include "tests/sim/sim_internal.h"

static struct sim_open_file *find(struct sim_files *f, const struct file *file)
{
    for (unsigned i = 0; i < f->opens_count; i++) {
        if (f->opens[i].file == file) {
            return &f->opens[i];
        }
    }
    return NULL;
}

static int files_open(void *ctx, const char *path, unsigned flags, struct file **ret_file)
{
    struct sim_files *f = ctx;
    int rv = f->real->open(f->real->ctx, path, flags, ret_file);
    if (rv == 0 && (flags & FILE_WRITE) != 0) {
        assert(f->opens_count < sizeof f->opens / sizeof f->opens[0]);
        struct sim_open_file *o = &f->opens[f->opens_count++];
        o->file = *ret_file;
        snprintf(o->path, sizeof o->path, "%s", path);
    }
    return rv;
}

static void files_close(void *ctx, struct file *file)
{
    struct sim_files *f = ctx;
    struct sim_open_file *o = find(f, file);
    if (o != NULL) {
        *o = f->opens[--f->opens_count];
    }
    f->real->close(f->real->ctx, file);
}

static int files_pread(void *ctx, struct file *file, void *buf, size_t len, uint64_t off,
                       size_t *ret_n)
{
    struct sim_files *f = ctx;
    return f->real->pread(f->real->ctx, file, buf, len, off, ret_n);
}

/* Remember where a frame went. */
static void note_frame(struct sim_files *f, const struct sim_open_file *o, const uint8_t *p,
                       size_t len, uint64_t off)
{
    if (len < WAL_BLOCK_BYTES || wal_get32(p) != WAL_FRAME_MAGIC) {
        return;
    }
    if (f->frames_count == SIM_FRAMES_KEPT) {
        memmove(f->frames, f->frames + 1, (SIM_FRAMES_KEPT - 1) * sizeof f->frames[0]);
        f->frames_count--;
    }
    struct sim_frame_place *place = &f->frames[f->frames_count++];
    *place = (struct sim_frame_place){.off = off, .len = len};
    snprintf(place->path, sizeof place->path, "%s", o->path);
    place->is_footer = (wal_get32(p + 12) & WAL_FRAME_FOOTER) != 0;
    /* The first record's type: whole in the first sector. */
    place->is_host = !place->is_footer && p[WAL_FRAME_HEADER_BYTES + 16] >= WAL_TYPE_HOST_MIN;
}

static int files_pwrite(void *ctx, struct file *file, const void *buf, size_t len, uint64_t off)
{
    struct sim_files *f = ctx;
    struct sim_open_file *o = find(f, file);
    int rv = f->real->pwrite(f->real->ctx, file, buf, len, off);
    if (rv == 0 && o != NULL) {
        note_frame(f, o, buf, len, off);
    }
    return rv;
}

static int files_sync(void *ctx, struct file *file)
{
    struct sim_files *f = ctx;
    return f->real->sync(f->real->ctx, file);
}

static int files_truncate(void *ctx, struct file *file, uint64_t size)
{
    struct sim_files *f = ctx;
    return f->real->truncate(f->real->ctx, file, size);
}

static int files_size(void *ctx, struct file *file, uint64_t *ret_size)
{
    struct sim_files *f = ctx;
    return f->real->size(f->real->ctx, file, ret_size);
}

static int files_rename(void *ctx, const char *from, const char *to)
{
    struct sim_files *f = ctx;
    int rv = f->real->rename(f->real->ctx, from, to);
    for (unsigned i = 0; rv == 0 && i < f->opens_count; i++) {
        if (strcmp(f->opens[i].path, from) == 0) {
            snprintf(f->opens[i].path, sizeof f->opens[i].path, "%s", to);
        }
    }
    for (unsigned i = 0; rv == 0 && i < f->frames_count; i++) {
        if (strcmp(f->frames[i].path, from) == 0) {
            snprintf(f->frames[i].path, sizeof f->frames[i].path, "%s", to);
        }
    }
    return rv;
}

static int files_unlink(void *ctx, const char *path)
{
    struct sim_files *f = ctx;
    return f->real->unlink(f->real->ctx, path);
}

static int files_mkdir(void *ctx, const char *path)
{
    struct sim_files *f = ctx;
    return f->real->mkdir(f->real->ctx, path);
}

static int files_sync_dir(void *ctx, const char *path)
{
    struct sim_files *f = ctx;
    return f->real->sync_dir(f->real->ctx, path);
}

static int files_list(void *ctx, const char *path, file_list_cb cb, void *arg)
{
    struct sim_files *f = ctx;
    return f->real->list(f->real->ctx, path, cb, arg);
}

static int files_last_errno(void *ctx)
{
    struct sim_files *f = ctx;
    return f->real->last_errno(f->real->ctx);
}

void sim_files_init(struct sim_files *f, const struct file_ops *real)
{
    *f = (struct sim_files){.real = real};
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

/* The newest frame with records of the host, if no footer lies above it; -1. */
static int newest(const struct sim_files *f)
{
    for (unsigned i = f->frames_count; i-- > 0;) {
        if (f->frames[i].is_footer) {
            return -1;
        }
        if (f->frames[i].is_host) {
            return (int)i;
        }
    }
    return -1;
}

bool sim_files_rot(struct sim_files *f, struct sim_disk *disk, struct sim_rng *rng)
{
    int i = newest(f);
    if (i < 0) {
        return false;
    }
    /* What is above it, a watermark, stays: or goes, and then the frame is the last. */
    const struct sim_frame_place *p = &f->frames[i];
    uint64_t byte = p->off + sim_rng_below(rng, WAL_SECTOR_DATA);
    return sim_disk_flip_bit(disk, p->path, byte * 8 + sim_rng_below(rng, 8));
}

struct store_names {
    char paths[256][64];
    unsigned count;
};

static void on_store_file(void *arg, const char *path)
{
    struct store_names *l = arg;
    if (strncmp(path, "/store/", 7) == 0 && strstr(path, ".mirror") == NULL && l->count < 256) {
        snprintf(l->paths[l->count++], sizeof l->paths[0], "%s", path);
    }
}

bool sim_files_decay(struct sim_disk *disk, unsigned places, struct sim_rng *rng)
{
    struct store_names l = {.count = 0};
    bool is_done = false;
    sim_disk_each(disk, on_store_file, &l);
    for (unsigned i = 0; i < places && l.count > 0; i++) {
        const char *path = l.paths[sim_rng_below(rng, l.count)];
        uint64_t size = sim_disk_file_size(disk, path);
        if (size == 0 || size == UINT64_MAX) {
            continue;
        }
        uint64_t at = sim_rng_below(rng, size);
        if (sim_rng_one_in(rng, 3)) {
            at -= at % SIM_DISK_SECTOR_BYTES;
            uint64_t len = size - at < SIM_DISK_SECTOR_BYTES ? size - at : SIM_DISK_SECTOR_BYTES;
            is_done = sim_disk_fill(disk, path, at, len, 0) || is_done;
        } else {
            is_done = sim_disk_flip_bit(disk, path, at * 8 + sim_rng_below(rng, 8)) || is_done;
        }
    }
    return is_done;
}

bool sim_files_shorten(struct sim_files *f, struct sim_disk *disk)
{
    int i = newest(f);
    if (i < 0) {
        return false;
    }
    for (unsigned k = (unsigned)i; k < f->frames_count; k++) {
        const struct sim_frame_place *p = &f->frames[k];
        if (!sim_disk_fill(disk, p->path, p->off, p->len, 0)) {
            return false;
        }
    }
    f->frames_count = (unsigned)i;
    return true;
}
