#include "tests/lib/sim_disk_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"

#define SECTOR SIM_DISK_SECTOR_BYTES
#define NO_INODE UINT32_MAX

struct file {
    uint64_t epoch;
    uint32_t ino;
    bool is_direct, is_aligned, is_writable;
};

uint64_t sim_rng(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* ---- Maps and images ---- */

static size_t map_find(const struct dir_map *m, const char *name)
{
    size_t i = 0;
    while (i < m->n && strcmp(m->ptr[i].name, name) != 0) {
        i++;
    }
    return i;
}

static void map_del(struct dir_map *m, size_t i)
{
    free(m->ptr[i].name);
    memmove(&m->ptr[i], &m->ptr[i + 1], (m->n - i - 1) * sizeof *m->ptr);
    m->n--;
}

static void map_set(struct dir_map *m, const char *name, uint32_t ino)
{
    size_t i = map_find(m, name);
    if (i < m->n) {
        m->ptr[i].ino = ino;
        return;
    }
    m->ptr = xrealloc(m->ptr, (m->n + 1) * sizeof *m->ptr);
    for (i = 0; i < m->n && strcmp(m->ptr[i].name, name) < 0; i++) {
    }
    memmove(&m->ptr[i + 1], &m->ptr[i], (m->n - i) * sizeof *m->ptr);
    m->ptr[i] = (struct dir_entry){xstrndup(name, strlen(name)), ino};
    m->n++;
}

static void map_close(struct dir_map *m)
{
    while (m->n > 0) {
        map_del(m, m->n - 1);
    }
    free(m->ptr);
    *m = (struct dir_map){NULL, 0};
}

static void map_copy(struct dir_map *to, const struct dir_map *from)
{
    map_close(to);
    for (size_t i = 0; i < from->n; i++) {
        map_set(to, from->ptr[i].name, from->ptr[i].ino);
    }
}

static void image_resize(struct image *m, uint64_t len)
{
    if (len > m->cap) {
        m->cap = len < 2 * m->cap ? 2 * m->cap : len;
        m->ptr = xrealloc(m->ptr, m->cap);
    }
    if (len > m->len) {
        memset(m->ptr + m->len, 0, len - m->len);
    }
    m->len = len;
}

static void image_copy(struct image *to, const struct image *from)
{
    image_resize(to, from->len);
    if (from->len > 0) {
        memcpy(to->ptr, from->ptr, from->len);
    }
}

static uint64_t sectors(uint64_t len)
{
    return (len + SECTOR - 1) / SECTOR;
}

static void dirty_fit(struct inode *n)
{
    uint64_t need = sectors(n->vol.len > n->dur.len ? n->vol.len : n->dur.len);
    if (need > n->dirty_cap) {
        need = need < 2 * n->dirty_cap ? 2 * n->dirty_cap : need;
        n->dirty = xrealloc(n->dirty, need);
        memset(n->dirty + n->dirty_cap, 0, need - n->dirty_cap);
        n->dirty_cap = need;
    }
}

static uint32_t inode_new(struct sim_disk *d, bool is_dir)
{
    d->inodes = xrealloc(d->inodes, (d->inodes_count + 1) * sizeof(struct inode *));
    d->inodes[d->inodes_count] = xcalloc(1, sizeof(struct inode));
    d->inodes[d->inodes_count]->is_dir = is_dir;
    return d->inodes_count++;
}

/* ---- The operations themselves: no faults, no trace ---- */

void sim_write(struct sim_disk *d, uint32_t ino, uint64_t off, const uint8_t *p, uint64_t len)
{
    struct inode *n = d->inodes[ino];
    if (len == 0) {
        return;
    }
    if (off + len > n->vol.len) {
        n->size_dirty = true;
        image_resize(&n->vol, off + len);
    }
    dirty_fit(n);
    memcpy(n->vol.ptr + off, p, len);
    memset(n->dirty + off / SECTOR, 1, sectors(off + len) - off / SECTOR);
}

static void persist_sector(struct inode *n, uint64_t s)
{
    uint64_t from = s * SECTOR;
    uint64_t to = from + SECTOR < n->vol.len ? from + SECTOR : n->vol.len;
    if (from >= to) {
        return;
    }
    if (n->dur.len < to) {
        image_resize(&n->dur, to);
    }
    memcpy(n->dur.ptr + from, n->vol.ptr + from, to - from);
}

/* Sectors [from, to) and the size are durable afterwards; the rest is as it was. */
static void persist(struct inode *n, uint64_t from, uint64_t to)
{
    uint64_t size = n->size_dirty ? n->vol.len : n->dur.len;
    for (uint64_t s = from; s < to && s < n->dirty_cap; s++) {
        if (n->dirty[s] != 0) {
            persist_sector(n, s);
            n->dirty[s] = 0;
        }
    }
    image_resize(&n->dur, size);
    n->size_dirty = false;
}

static void do_truncate(struct sim_disk *d, uint32_t ino, uint64_t size)
{
    struct inode *n = d->inodes[ino];
    if (size == n->vol.len) {
        return;
    }
    uint64_t low = size < n->vol.len ? size : n->vol.len;
    image_resize(&n->vol, size);
    n->size_dirty = true;
    dirty_fit(n);
    /* What grows again reads as zeros: those sectors are writes too. */
    memset(n->dirty + low / SECTOR, 1, n->dirty_cap - low / SECTOR);
}

static void change_add(struct sim_disk *d, struct dir_change c)
{
    d->changes = xrealloc(d->changes, (d->changes_count + 1) * sizeof *d->changes);
    c.from = c.from == NULL ? NULL : xslicedup(slice_str(c.from));
    c.to = c.to == NULL ? NULL : xslicedup(slice_str(c.to));
    d->changes[d->changes_count++] = c;
}

static void change_apply(struct sim_disk *d, const struct dir_change *c, bool is_kept)
{
    struct inode *from = d->inodes[c->dir];
    struct inode *to = d->inodes[c->dir2];
    struct dir_map *mf = is_kept ? &from->kept : &from->now;
    struct dir_map *mt = is_kept ? &to->kept : &to->now;
    if (c->from != NULL) {
        /* An inode has one name, also when an earlier change to it was lost. */
        for (size_t i = mf->n; i-- > 0;) {
            if (mf->ptr[i].ino == c->ino) {
                map_del(mf, i);
            }
        }
    }
    if (c->to != NULL) {
        map_set(mt, c->to, c->ino);
    }
}

static void do_change(struct sim_disk *d, struct dir_change c)
{
    change_apply(d, &c, false);
    change_add(d, c);
}

static void change_drop(struct sim_disk *d, size_t i)
{
    free(d->changes[i].from);
    free(d->changes[i].to);
    memmove(&d->changes[i], &d->changes[i + 1], (d->changes_count - i - 1) * sizeof *d->changes);
    d->changes_count--;
}

static void do_sync_dir(struct sim_disk *d, uint32_t dir)
{
    for (size_t i = 0; i < d->changes_count;) {
        if (d->changes[i].dir == dir || d->changes[i].dir2 == dir) {
            change_apply(d, &d->changes[i], true);
            change_drop(d, i);
        } else {
            i++;
        }
    }
}

void sim_replay(struct sim_disk *d, const struct trace_op *op, bool in_flight)
{
    struct dir_change c = {op->dir, op->dir2, op->from, op->to, op->ino};
    if (op->op == SIM_DISK_PWRITE) {
        sim_write(d, op->ino, op->off, op->data, op->len);
        if (op->is_direct && !in_flight) {
            persist(d->inodes[op->ino], op->off / SECTOR, sectors(op->off + op->len));
        }
        return;
    }
    if (op->op == SIM_DISK_TRUNCATE) {
        do_truncate(d, op->ino, op->off);
        return;
    }
    if (op->op == SIM_DISK_OPEN || op->op == SIM_DISK_MKDIR) {
        uint32_t ino = inode_new(d, op->op == SIM_DISK_MKDIR);
        assert(ino == op->ino);
    }
    if (op->op == SIM_DISK_OPEN || op->op == SIM_DISK_MKDIR || op->op == SIM_DISK_RENAME ||
        op->op == SIM_DISK_UNLINK) {
        do_change(d, c);
    }
    if (!in_flight && op->op == SIM_DISK_SYNC) {
        persist(d->inodes[op->ino], 0, UINT64_MAX);
    }
    if (!in_flight && op->op == SIM_DISK_SYNC_DIR) {
        do_sync_dir(d, op->dir);
    }
}

/* Carry out and record. */
static void perform(struct sim_disk *d, struct trace_op op)
{
    sim_replay(d, &op, false);
    if (!d->is_tracing) {
        return;
    }
    if (d->trace_count == d->trace_cap) {
        d->trace_cap = d->trace_cap == 0 ? 64 : 2 * d->trace_cap;
        d->trace = xrealloc(d->trace, d->trace_cap * sizeof *d->trace);
    }
    op.from = op.from == NULL ? NULL : xslicedup(slice_str(op.from));
    op.to = op.to == NULL ? NULL : xslicedup(slice_str(op.to));
    if (op.data != NULL) {
        uint8_t *copy = xmalloc(op.len);
        memcpy(copy, op.data, op.len);
        op.data = copy;
    }
    d->trace[d->trace_count++] = op;
}

/* ---- Paths ---- */

/* The directory that holds the last part of @path, and that part ("" for the root itself). */
static uint32_t walk(const struct sim_disk *d, const char *path, bool kept, char last[256])
{
    uint32_t dir = 0;
    last[0] = 0;
    for (;;) {
        path += strspn(path, "/");
        size_t n = strcspn(path, "/");
        if (n == 0) {
            return dir;
        }
        if (last[0] != 0) {
            const struct dir_map *m = kept ? &d->inodes[dir]->kept : &d->inodes[dir]->now;
            size_t i = map_find(m, last);
            if (i == m->n || !d->inodes[m->ptr[i].ino]->is_dir) {
                return NO_INODE;
            }
            dir = m->ptr[i].ino;
        }
        assert(n < 256);
        memcpy(last, path, n);
        last[n] = 0;
        path += n;
    }
}

static uint32_t lookup(const struct sim_disk *d, const char *path, bool kept)
{
    char last[256];
    uint32_t dir = walk(d, path, kept, last);
    if (dir == NO_INODE || last[0] == 0) {
        return dir;
    }
    const struct dir_map *m = kept ? &d->inodes[dir]->kept : &d->inodes[dir]->now;
    size_t i = map_find(m, last);
    return i == m->n ? NO_INODE : m->ptr[i].ino;
}

static struct inode *lookup_file(const struct sim_disk *d, const char *path)
{
    uint32_t ino = lookup(d, path, false);
    return ino == NO_INODE || d->inodes[ino]->is_dir ? NULL : d->inodes[ino];
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

static uint64_t used_bytes(const struct sim_disk *d, uint32_t dir)
{
    uint64_t sum = 0;
    const struct dir_map *m = &d->inodes[dir]->now;
    for (size_t i = 0; i < m->n; i++) {
        const struct inode *n = d->inodes[m->ptr[i].ino];
        sum += n->is_dir ? used_bytes(d, m->ptr[i].ino) : n->vol.len;
    }
    return sum;
}

static bool has_room(const struct sim_disk *d, uint64_t old_size, uint64_t new_size)
{
    return new_size <= old_size || d->capacity == UINT64_MAX ||
           used_bytes(d, 0) + (new_size - old_size) <= d->capacity;
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
    uint32_t dir = walk(d, path, false, last);
    uint32_t ino = lookup(d, path, false);
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
        struct inode *n = d->inodes[f->ino];
        for (uint64_t s = 0; s < n->dirty_cap; s++) {
            if (n->dirty[s] != 0 && (sim_rng(&d->rng) & 1) != 0 && s * SECTOR < n->dur.len) {
                persist_sector(n, s);
            }
            n->dirty[s] = 0;
        }
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
    uint32_t dir = walk(d, from, false, name);
    uint32_t dir2 = walk(d, to, false, name2);
    uint32_t ino = lookup(d, from, false);
    if (rv == 0 && (ino == NO_INODE || dir2 == NO_INODE || ino == 0)) {
        rv = ERR_NOTFOUND;
    }
    if (rv == 0 && lookup(d, to, false) != ino) {
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
    uint32_t dir = walk(d, path, false, name);
    uint32_t ino = lookup(d, path, false);
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
    uint32_t dir = walk(d, path, false, name);
    if (rv == 0 && dir == NO_INODE) {
        rv = ERR_NOTFOUND;
    }
    if (rv == 0 && lookup(d, path, false) != NO_INODE) {
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
    uint32_t ino = lookup(d, path, false);
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
    uint32_t ino = lookup(d, path, false);
    if (rv == 0 && (ino == NO_INODE || !d->inodes[ino]->is_dir)) {
        rv = ERR_NOTFOUND;
    }
    struct dir_map copy = {NULL, 0}; /* The callback may change the directory. */
    if (rv == 0) {
        map_copy(&copy, &d->inodes[ino]->now);
    }
    leave(d, 0);
    for (size_t i = 0; i < copy.n; i++) {
        cb(arg, copy.ptr[i].name);
    }
    map_close(&copy);
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
    inode_new(d, true);
    return d;
}

static void trace_close(struct sim_disk *d)
{
    for (uint64_t i = 0; i < d->trace_count; i++) {
        free(d->trace[i].from);
        free(d->trace[i].to);
        free(d->trace[i].data);
    }
    free(d->trace);
    d->trace = NULL;
    d->trace_count = 0;
    d->trace_cap = 0;
    sim_disk_free(d->trace_base);
    d->trace_base = NULL;
}

void sim_disk_free(struct sim_disk *d)
{
    if (d == NULL) {
        return;
    }
    trace_close(d);
    for (uint32_t i = 0; i < d->inodes_count; i++) {
        struct inode *n = d->inodes[i];
        map_close(&n->now);
        map_close(&n->kept);
        free(n->vol.ptr);
        free(n->dur.ptr);
        free(n->dirty);
        free(n);
    }
    free(d->inodes);
    while (d->changes_count > 0) {
        change_drop(d, d->changes_count - 1);
    }
    free(d->changes);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

struct sim_disk *sim_disk_clone(const struct sim_disk *d)
{
    struct sim_disk *c = disk_alloc(d->rng);
    c->has_direct = d->has_direct;
    c->capacity = d->capacity;
    for (uint32_t i = 0; i < d->inodes_count; i++) {
        const struct inode *n = d->inodes[i];
        uint32_t ino = inode_new(c, n->is_dir); /* Moves the array: never within an index. */
        struct inode *m = c->inodes[ino];
        map_copy(&m->now, &n->now);
        map_copy(&m->kept, &n->kept);
        image_copy(&m->vol, &n->vol);
        image_copy(&m->dur, &n->dur);
        m->size_dirty = n->size_dirty;
        if (n->dirty_cap > 0) {
            m->dirty = xmalloc(n->dirty_cap);
            memcpy(m->dirty, n->dirty, n->dirty_cap);
            m->dirty_cap = n->dirty_cap;
        }
    }
    for (size_t i = 0; i < d->changes_count; i++) {
        change_add(c, d->changes[i]);
    }
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
    return used_bytes(d, 0);
}

uint64_t sim_disk_calls(const struct sim_disk *d, enum sim_disk_op op)
{
    return d->calls[op];
}

/* ---- Power cuts ---- */

static bool sector_is_undecided(const struct inode *n, uint64_t s)
{
    return n->dirty[s] != 0 && s * SECTOR < n->vol.len;
}

uint64_t sim_undecided(const struct sim_disk *d)
{
    uint64_t k = d->changes_count;
    for (uint32_t i = 0; i < d->inodes_count; i++) {
        const struct inode *n = d->inodes[i];
        k += n->size_dirty ? 1 : 0;
        for (uint64_t s = 0; s < n->dirty_cap; s++) {
            k += sector_is_undecided(n, s) ? 1 : 0;
        }
    }
    return k;
}

void sim_crash(struct sim_disk *d, keep_fn keep, void *arg)
{
    uint64_t k = 0;
    while (d->changes_count > 0) {
        if (keep(arg, k++)) {
            change_apply(d, &d->changes[0], true);
        }
        change_drop(d, 0);
    }
    for (uint32_t i = 0; i < d->inodes_count; i++) {
        struct inode *n = d->inodes[i];
        map_copy(&n->now, &n->kept);
        uint64_t size = n->size_dirty && keep(arg, k++) ? n->vol.len : n->dur.len;
        for (uint64_t s = 0; s < n->dirty_cap; s++) {
            if (sector_is_undecided(n, s) && keep(arg, k++)) {
                persist_sector(n, s);
            }
            n->dirty[s] = 0;
        }
        n->size_dirty = false;
        image_resize(&n->dur, size);
        image_copy(&n->vol, &n->dur);
    }
    d->epoch++;
    d->is_sync_broken = false;
    memset(d->faults, 0, sizeof d->faults);
}

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

/* ---- Damage ---- */

bool sim_disk_write(struct sim_disk *d, const char *path, uint64_t off, const void *ptr, size_t len)
{
    struct inode *n = lookup_file(d, path);
    if (n == NULL || off + len > n->vol.len) {
        return false;
    }
    memcpy(n->vol.ptr + off, ptr, len);
    if (off + len <= n->dur.len) {
        memcpy(n->dur.ptr + off, ptr, len);
    }
    return true;
}

bool sim_disk_flip_bit(struct sim_disk *d, const char *path, uint64_t bit)
{
    struct inode *n = lookup_file(d, path);
    if (n == NULL || bit / 8 >= n->vol.len) {
        return false;
    }
    uint8_t v = (uint8_t)(n->vol.ptr[bit / 8] ^ (1u << (bit % 8)));
    return sim_disk_write(d, path, bit / 8, &v, 1);
}

bool sim_disk_fill(struct sim_disk *d, const char *path, uint64_t off, uint64_t len, uint8_t byte)
{
    uint8_t *p = xmalloc(len);
    memset(p, byte, len);
    bool ok = sim_disk_write(d, path, off, p, len);
    free(p);
    return ok;
}

bool sim_disk_cut(struct sim_disk *d, const char *path, uint64_t size)
{
    struct inode *n = lookup_file(d, path);
    if (n == NULL || size > n->vol.len) {
        return false;
    }
    image_resize(&n->vol, size);
    if (size < n->dur.len) {
        image_resize(&n->dur, size);
    }
    return true;
}

/* ---- Questions ---- */

bool sim_disk_exists(const struct sim_disk *d, const char *path)
{
    return lookup(d, path, false) != NO_INODE;
}

uint64_t sim_disk_file_size(const struct sim_disk *d, const char *path)
{
    const struct inode *n = lookup_file(d, path);
    return n == NULL ? UINT64_MAX : n->vol.len;
}

const uint8_t *sim_disk_bytes(const struct sim_disk *d, const char *path)
{
    const struct inode *n = lookup_file(d, path);
    return n == NULL ? NULL : n->vol.ptr;
}

bool sim_disk_is_durable(const struct sim_disk *d, const char *path, uint64_t off, uint64_t len)
{
    uint32_t ino = lookup(d, path, false);
    if (ino == NO_INODE || ino != lookup(d, path, true)) {
        return false;
    }
    for (size_t i = 0; i < d->changes_count; i++) {
        if (d->changes[i].ino == ino) {
            return false;
        }
    }
    const struct inode *n = d->inodes[ino];
    return off + len <= n->vol.len && off + len <= n->dur.len &&
           (len == 0 || memcmp(n->vol.ptr + off, n->dur.ptr + off, len) == 0);
}

static void each_in(const struct sim_disk *d, uint32_t dir, const char *prefix, file_list_cb cb,
                    void *arg)
{
    const struct dir_map *m = &d->inodes[dir]->now;
    for (size_t i = 0; i < m->n; i++) {
        struct buf path = BUF_EMPTY;
        buf_printf(&path, "%s/%s", prefix, m->ptr[i].name);
        char *text = xslicedup(buf_slice(&path));
        if (d->inodes[m->ptr[i].ino]->is_dir) {
            each_in(d, m->ptr[i].ino, text, cb, arg);
        } else {
            cb(arg, text);
        }
        free(text);
        buf_close(&path);
    }
}

void sim_disk_each(const struct sim_disk *d, file_list_cb cb, void *arg)
{
    each_in(d, 0, "", cb, arg);
}

struct hashing {
    const struct sim_disk *disk;
    uint64_t h;
};

static void hash_bytes(uint64_t *h, const void *ptr, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++) { /* FNV-1a */
        *h = (*h ^ ((const uint8_t *)ptr)[i]) * 0x100000001b3u;
    }
}

static void hash_file(void *arg, const char *path)
{
    struct hashing *s = arg;
    const struct inode *n = lookup_file(s->disk, path);
    hash_bytes(&s->h, path, strlen(path) + 1);
    hash_bytes(&s->h, &n->vol.len, sizeof n->vol.len);
    hash_bytes(&s->h, n->vol.ptr, n->vol.len);
}

uint64_t sim_disk_hash(const struct sim_disk *d)
{
    struct hashing s = {d, 0xcbf29ce484222325u};
    sim_disk_each(d, hash_file, &s);
    return s.h;
}

void sim_disk_trace_start(struct sim_disk *d)
{
    trace_close(d);
    d->trace_base = sim_disk_clone(d);
    d->is_tracing = true;
}

uint64_t sim_disk_trace_count(const struct sim_disk *d)
{
    return d->trace_count;
}
