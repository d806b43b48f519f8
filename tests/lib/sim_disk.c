/* The calls of a sim_disk.h: counted, made to fail when that was asked for, carried out on the tree
 * (sim_disk_tree.c) and recorded (sim_disk_states.c). */
#include "tests/lib/sim_disk_internal.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"

#define SECTOR SIM_DISK_SECTOR_BYTES

struct file {
    uint64_t epoch;
    uint32_t ino;
    bool is_direct, is_aligned, is_writable;
};

/* Carry out and record. */
static void perform(struct sim_disk *d, struct trace_op op)
{
    sim_replay(d, &op, false);
    sim_trace_add(d, op);
}

/* ---- Faults ---- */

/* Count a call; the error it has to fail with, or 0. */
static int enter(struct sim_disk *d, enum sim_disk_op op)
{
    pthread_mutex_lock(&d->lock);
    int err = 0;
    enum sim_disk_op kinds[2] = {op, SIM_DISK_ANY};
    for (int i = 0; i < 2; i++) {
        struct fault *f = &d->faults[kinds[i]];
        d->calls[kinds[i]]++;
        if (f->at != 0 && f->at == d->calls[kinds[i]]) {
            err = f->err;
            f->at = 0;
        }
    }
    return err;
}

static int leave(struct sim_disk *d, int rv)
{
    pthread_mutex_unlock(&d->lock);
    return rv;
}

static bool has_room(const struct sim_disk *d, uint64_t old_size, uint64_t new_size)
{
    return new_size <= old_size || d->capacity == UINT64_MAX ||
           sim_used_bytes(d, 0) + (new_size - old_size) <= d->capacity;
}

/* ---- The table ---- */

static int sim_open(void *ctx, const char *path, unsigned flags, struct file **ret_file)
{
    struct sim_disk *d = ctx;
    int rv = enter(d, SIM_DISK_OPEN);
    if (rv == 0 && (flags & (FILE_DIRECT | FILE_UNCACHED)) != 0 && !d->has_direct) {
        rv = ERR_UNSUPPORTED;
    }
    if (rv != 0) {
        return leave(d, rv);
    }
    char last[256];
    uint32_t dir = sim_walk(d, path, false, last);
    uint32_t ino = sim_lookup(d, path, false);
    if (dir == NO_INODE || last[0] == 0 || (ino == NO_INODE && (flags & FILE_CREATE) == 0)) {
        return leave(d, ERR_NOTFOUND);
    }
    if (ino != NO_INODE && (flags & FILE_EXCL) != 0) {
        return leave(d, ERR_EXISTS);
    }
    if (ino != NO_INODE && d->inodes[ino]->is_dir) {
        return leave(d, ERR_IO);
    }
    if (ino == NO_INODE) {
        ino = d->inodes_count;
        perform(d, (struct trace_op){
                       .op = SIM_DISK_OPEN, .ino = ino, .dir = dir, .dir2 = dir, .to = last});
    }
    struct file *f = xmalloc(sizeof *f);
    *f = (struct file){d->epoch, ino, (flags & FILE_DIRECT) != 0,
                       (flags & (FILE_DIRECT | FILE_UNCACHED)) != 0, (flags & FILE_WRITE) != 0};
    *ret_file = f;
    return leave(d, 0);
}

static void sim_close(void *ctx, struct file *f)
{
    (void)ctx;
    free(f);
}

static int sim_pread(void *ctx, struct file *f, void *buf, size_t len, uint64_t off, size_t *ret_n)
{
    struct sim_disk *d = ctx;
    int rv = enter(d, SIM_DISK_PREAD);
    if (rv != 0 || f->epoch != d->epoch) {
        return leave(d, rv != 0 ? rv : ERR_IO);
    }
    const struct image *m = &d->inodes[f->ino]->vol;
    size_t n = off >= m->len ? 0 : (m->len - off < len ? (size_t)(m->len - off) : len);
    if (n > 0) {
        memcpy(buf, m->ptr + off, n);
    }
    *ret_n = n;
    return leave(d, 0);
}

/* A failed write leaves any of its sectors, unsynced. */
static void write_partly(struct sim_disk *d, uint32_t ino, const uint8_t *p, size_t len,
                         uint64_t off)
{
    for (size_t at = 0; at < len;) {
        size_t n = SECTOR - (size_t)((off + at) % SECTOR);
        n = n < len - at ? n : len - at;
        if ((sim_rng(&d->rng) & 1) != 0) {
            perform(d, (struct trace_op){.op = SIM_DISK_PWRITE,
                                         .ino = ino,
                                         .off = off + at,
                                         .data = (uint8_t *)(uintptr_t)(p + at),
                                         .len = n});
        }
        at += n;
    }
}

static int sim_pwrite(void *ctx, struct file *f, const void *buf, size_t len, uint64_t off)
{
    struct sim_disk *d = ctx;
    int rv = enter(d, SIM_DISK_PWRITE);
    if (f->epoch != d->epoch || !f->is_writable) {
        return leave(d, ERR_IO);
    }
    if (f->is_aligned && (len % 4096 != 0 || off % 4096 != 0 || (uintptr_t)buf % 4096 != 0)) {
        return leave(d, ERR_IO);
    }
    if (rv == 0 && f->is_direct && d->is_sync_broken) {
        rv = ERR_IO;
    }
    if (rv == 0 && !has_room(d, d->inodes[f->ino]->vol.len, off + len)) {
        rv = ERR_NOSPACE;
    } else if (rv != 0) {
        write_partly(d, f->ino, buf, len, off);
    } else {
        perform(d, (struct trace_op){.op = SIM_DISK_PWRITE,
                                     .is_direct = f->is_direct,
                                     .ino = f->ino,
                                     .off = off,
                                     .data = (uint8_t *)(uintptr_t)buf,
                                     .len = len});
    }
    return leave(d, rv);
}

static int sim_sync(void *ctx, struct file *f)
{
    struct sim_disk *d = ctx;
    int rv = enter(d, SIM_DISK_SYNC);
    if (f->epoch != d->epoch) {
        return leave(d, ERR_IO);
    }
    rv = rv == 0 && d->is_sync_broken ? ERR_IO : rv;
    if (rv != 0) {
        /* Linux marks the pages clean: what did not reach the disk never will. Not in the trace. */
        sim_lose_sync(d, f->ino);
        return leave(d, rv);
    }
    perform(d, (struct trace_op){.op = SIM_DISK_SYNC, .ino = f->ino});
    return leave(d, 0);
}

static int sim_truncate(void *ctx, struct file *f, uint64_t size)
{
    struct sim_disk *d = ctx;
    int rv = enter(d, SIM_DISK_TRUNCATE);
    if (rv == 0 && (f->epoch != d->epoch || !f->is_writable)) {
        rv = ERR_IO;
    }
    if (rv == 0 && !has_room(d, d->inodes[f->ino]->vol.len, size)) {
        rv = ERR_NOSPACE;
    }
    if (rv == 0) {
        perform(d, (struct trace_op){.op = SIM_DISK_TRUNCATE, .ino = f->ino, .off = size});
    }
    return leave(d, rv);
}

static int sim_size(void *ctx, struct file *f, uint64_t *ret_size)
{
    struct sim_disk *d = ctx;
    int rv = enter(d, SIM_DISK_SIZE);
    if (rv == 0 && f->epoch != d->epoch) {
        rv = ERR_IO;
    }
    if (rv == 0) {
        *ret_size = d->inodes[f->ino]->vol.len;
    }
    return leave(d, rv);
}

static int sim_rename(void *ctx, const char *from, const char *to)
{
    struct sim_disk *d = ctx;
    int rv = enter(d, SIM_DISK_RENAME);
    char name[256], name2[256];
    uint32_t dir = sim_walk(d, from, false, name);
    uint32_t dir2 = sim_walk(d, to, false, name2);
    uint32_t ino = sim_lookup(d, from, false);
    if (rv == 0 && (ino == NO_INODE || dir2 == NO_INODE || ino == 0)) {
        rv = ERR_NOTFOUND;
    }
    if (rv == 0 && sim_lookup(d, to, false) != ino) {
        perform(d, (struct trace_op){.op = SIM_DISK_RENAME,
                                     .ino = ino,
                                     .dir = dir,
                                     .dir2 = dir2,
                                     .from = name,
                                     .to = name2});
    }
    return leave(d, rv);
}

static int sim_unlink(void *ctx, const char *path)
{
    struct sim_disk *d = ctx;
    int rv = enter(d, SIM_DISK_UNLINK);
    char name[256];
    uint32_t dir = sim_walk(d, path, false, name);
    uint32_t ino = sim_lookup(d, path, false);
    if (rv == 0 && (ino == NO_INODE || ino == 0)) {
        rv = ERR_NOTFOUND;
    }
    if (rv == 0 && d->inodes[ino]->is_dir) {
        rv = ERR_IO;
    }
    if (rv == 0) {
        perform(d, (struct trace_op){
                       .op = SIM_DISK_UNLINK, .ino = ino, .dir = dir, .dir2 = dir, .from = name});
    }
    return leave(d, rv);
}

static int sim_mkdir(void *ctx, const char *path)
{
    struct sim_disk *d = ctx;
    int rv = enter(d, SIM_DISK_MKDIR);
    char name[256];
    uint32_t dir = sim_walk(d, path, false, name);
    if (rv == 0 && dir == NO_INODE) {
        rv = ERR_NOTFOUND;
    }
    if (rv == 0 && sim_lookup(d, path, false) != NO_INODE) {
        rv = ERR_EXISTS;
    }
    if (rv == 0) {
        perform(
            d,
            (struct trace_op){
                .op = SIM_DISK_MKDIR, .ino = d->inodes_count, .dir = dir, .dir2 = dir, .to = name});
    }
    return leave(d, rv);
}

static int sim_sync_dir(void *ctx, const char *path)
{
    struct sim_disk *d = ctx;
    int rv = enter(d, SIM_DISK_SYNC_DIR);
    uint32_t ino = sim_lookup(d, path, false);
    if (rv == 0 && (ino == NO_INODE || !d->inodes[ino]->is_dir)) {
        rv = ERR_NOTFOUND;
    }
    rv = rv == 0 && d->is_sync_broken ? ERR_IO : rv;
    if (rv == 0) {
        perform(d, (struct trace_op){.op = SIM_DISK_SYNC_DIR, .dir = ino});
    }
    return leave(d, rv);
}

static int sim_list(void *ctx, const char *path, file_list_cb cb, void *arg)
{
    struct sim_disk *d = ctx;
    int rv = enter(d, SIM_DISK_LIST);
    uint32_t ino = sim_lookup(d, path, false);
    if (rv == 0 && (ino == NO_INODE || !d->inodes[ino]->is_dir)) {
        rv = ERR_NOTFOUND;
    }
    struct dir_map copy = {NULL, 0}; /* The callback may change the directory. */
    if (rv == 0) {
        sim_map_copy(&copy, &d->inodes[ino]->now);
    }
    leave(d, 0);
    for (size_t i = 0; i < copy.n; i++) {
        cb(arg, copy.ptr[i].name);
    }
    sim_map_close(&copy);
    return rv;
}

static int sim_last_errno(void *ctx)
{
    (void)ctx;
    return 5; /* EIO */
}

/* ---- Life ---- */

static struct sim_disk *disk_alloc(uint64_t seed)
{
    struct sim_disk *d = xcalloc(1, sizeof *d);
    d->ops = (struct file_ops){d,         sim_open,     sim_close, sim_pread,     sim_pwrite,
                               sim_sync,  sim_truncate, sim_size,  sim_rename,    sim_unlink,
                               sim_mkdir, sim_sync_dir, sim_list,  sim_last_errno};
    pthread_mutex_init(&d->lock, NULL);
    d->rng = seed;
    d->has_direct = true;
    d->capacity = UINT64_MAX;
    return d;
}

struct sim_disk *sim_disk_new(uint64_t seed)
{
    struct sim_disk *d = disk_alloc(seed);
    sim_inode_new(d, true);
    return d;
}

void sim_disk_free(struct sim_disk *d)
{
    if (d == NULL) {
        return;
    }
    sim_trace_close(d);
    sim_tree_close(d);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

struct sim_disk *sim_disk_clone(const struct sim_disk *d)
{
    struct sim_disk *c = disk_alloc(d->rng);
    c->has_direct = d->has_direct;
    c->capacity = d->capacity;
    sim_tree_copy(c, d);
    return c;
}

const struct file_ops *sim_disk_ops(struct sim_disk *d)
{
    return &d->ops;
}

void sim_disk_set_direct(struct sim_disk *d, bool is_on)
{
    d->has_direct = is_on;
}

void sim_disk_fail(struct sim_disk *d, enum sim_disk_op op, uint64_t nth, int err)
{
    d->faults[op] = (struct fault){nth == 0 ? 0 : d->calls[op] + nth, err};
}

void sim_disk_set_sync_broken(struct sim_disk *d, bool is_broken)
{
    d->is_sync_broken = is_broken;
}

void sim_disk_set_capacity(struct sim_disk *d, uint64_t bytes)
{
    d->capacity = bytes;
}

uint64_t sim_disk_used_bytes(const struct sim_disk *d)
{
    return sim_used_bytes(d, 0);
}

uint64_t sim_disk_calls(const struct sim_disk *d, enum sim_disk_op op)
{
    return d->calls[op];
}

/* ---- Power cuts ---- */

static bool keep_random(void *arg, uint64_t k)
{
    (void)k;
    return (sim_rng(arg) & 1) != 0;
}

static bool keep_same(void *arg, uint64_t k)
{
    (void)k;
    return *(bool *)arg;
}

void sim_disk_crash(struct sim_disk *d, uint64_t seed)
{
    sim_crash(d, keep_random, &seed);
}

void sim_disk_crash_all(struct sim_disk *d, bool keep)
{
    sim_crash(d, keep_same, &keep);
}
