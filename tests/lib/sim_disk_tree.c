/* The tree of files and directories of sim_disk.h: what a call changes, what a name leads to, and
 * what a power cut leaves. No faults and no trace here. */
#include "tests/lib/sim_disk_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"

#define SECTOR SIM_DISK_SECTOR_BYTES

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

void sim_map_close(struct dir_map *m)
{
    while (m->n > 0) {
        map_del(m, m->n - 1);
    }
    free(m->ptr);
    *m = (struct dir_map){NULL, 0};
}

void sim_map_copy(struct dir_map *to, const struct dir_map *from)
{
    sim_map_close(to);
    for (size_t i = 0; i < from->n; i++) {
        map_set(to, from->ptr[i].name, from->ptr[i].ino);
    }
}

void sim_image_resize(struct image *m, uint64_t len)
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
    sim_image_resize(to, from->len);
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

uint32_t sim_inode_new(struct sim_disk *d, bool is_dir)
{
    d->inodes = xrealloc(d->inodes, (d->inodes_count + 1) * sizeof(struct inode *));
    d->inodes[d->inodes_count] = xcalloc(1, sizeof(struct inode));
    d->inodes[d->inodes_count]->is_dir = is_dir;
    return d->inodes_count++;
}

/* ---- Changes ---- */

static void do_write(struct sim_disk *d, uint32_t ino, uint64_t off, const uint8_t *p, uint64_t len)
{
    struct inode *n = d->inodes[ino];
    if (len == 0) {
        return;
    }
    if (off + len > n->vol.len) {
        n->size_dirty = true;
        sim_image_resize(&n->vol, off + len);
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
        sim_image_resize(&n->dur, to);
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
    sim_image_resize(&n->dur, size);
    n->size_dirty = false;
}

void sim_lose_sync(struct sim_disk *d, uint32_t ino)
{
    struct inode *n = d->inodes[ino];
    for (uint64_t s = 0; s < n->dirty_cap; s++) {
        if (n->dirty[s] != 0 && (sim_rng(&d->rng) & 1) != 0 && s * SECTOR < n->dur.len) {
            persist_sector(n, s);
        }
        n->dirty[s] = 0;
    }
}

static void do_truncate(struct sim_disk *d, uint32_t ino, uint64_t size)
{
    struct inode *n = d->inodes[ino];
    if (size == n->vol.len) {
        return;
    }
    uint64_t low = size < n->vol.len ? size : n->vol.len;
    sim_image_resize(&n->vol, size);
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
        do_write(d, op->ino, op->off, op->data, op->len);
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
        uint32_t ino = sim_inode_new(d, op->op == SIM_DISK_MKDIR);
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

/* ---- Names ---- */

uint32_t sim_walk(const struct sim_disk *d, const char *path, bool kept, char last[256])
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

uint32_t sim_lookup(const struct sim_disk *d, const char *path, bool kept)
{
    char last[256];
    uint32_t dir = sim_walk(d, path, kept, last);
    if (dir == NO_INODE || last[0] == 0) {
        return dir;
    }
    const struct dir_map *m = kept ? &d->inodes[dir]->kept : &d->inodes[dir]->now;
    size_t i = map_find(m, last);
    return i == m->n ? NO_INODE : m->ptr[i].ino;
}

struct inode *sim_lookup_file(const struct sim_disk *d, const char *path)
{
    uint32_t ino = sim_lookup(d, path, false);
    return ino == NO_INODE || d->inodes[ino]->is_dir ? NULL : d->inodes[ino];
}

uint64_t sim_used_bytes(const struct sim_disk *d, uint32_t dir)
{
    uint64_t sum = 0;
    const struct dir_map *m = &d->inodes[dir]->now;
    for (size_t i = 0; i < m->n; i++) {
        const struct inode *n = d->inodes[m->ptr[i].ino];
        sum += n->is_dir ? sim_used_bytes(d, m->ptr[i].ino) : n->vol.len;
    }
    return sum;
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
        sim_map_copy(&n->now, &n->kept);
        uint64_t size = n->size_dirty && keep(arg, k++) ? n->vol.len : n->dur.len;
        for (uint64_t s = 0; s < n->dirty_cap; s++) {
            if (sector_is_undecided(n, s) && keep(arg, k++)) {
                persist_sector(n, s);
            }
            n->dirty[s] = 0;
        }
        n->size_dirty = false;
        sim_image_resize(&n->dur, size);
        image_copy(&n->vol, &n->dur);
    }
    d->epoch++;
    d->is_sync_broken = false;
    memset(d->faults, 0, sizeof d->faults);
}

/* ---- Life ---- */

void sim_tree_close(struct sim_disk *d)
{
    for (uint32_t i = 0; i < d->inodes_count; i++) {
        struct inode *n = d->inodes[i];
        sim_map_close(&n->now);
        sim_map_close(&n->kept);
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
}

void sim_tree_copy(struct sim_disk *to, const struct sim_disk *from)
{
    for (uint32_t i = 0; i < from->inodes_count; i++) {
        const struct inode *n = from->inodes[i];
        uint32_t ino = sim_inode_new(to, n->is_dir); /* Moves the array: never within an index. */
        struct inode *m = to->inodes[ino];
        sim_map_copy(&m->now, &n->now);
        sim_map_copy(&m->kept, &n->kept);
        image_copy(&m->vol, &n->vol);
        image_copy(&m->dur, &n->dur);
        m->size_dirty = n->size_dirty;
        if (n->dirty_cap > 0) {
            m->dirty = xmalloc(n->dirty_cap);
            memcpy(m->dirty, n->dirty, n->dirty_cap);
            m->dirty_cap = n->dirty_cap;
        }
    }
    for (size_t i = 0; i < from->changes_count; i++) {
        change_add(to, from->changes[i]);
    }
}
