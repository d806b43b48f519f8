/* What a test does to a sim_disk, and asks of it, behind the table of calls. */
#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"
#include "tests/lib/sim_disk_internal.h"

/* ---- Damage ---- */

bool sim_disk_write(struct sim_disk *d, const char *path, uint64_t off, const void *ptr, size_t len)
{
    struct inode *n = sim_lookup_file(d, path);
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
    struct inode *n = sim_lookup_file(d, path);
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
    struct inode *n = sim_lookup_file(d, path);
    if (n == NULL || size > n->vol.len) {
        return false;
    }
    sim_image_resize(&n->vol, size);
    if (size < n->dur.len) {
        sim_image_resize(&n->dur, size);
    }
    return true;
}

/* ---- Questions ---- */

bool sim_disk_exists(const struct sim_disk *d, const char *path)
{
    return sim_lookup(d, path, false) != NO_INODE;
}

uint64_t sim_disk_file_size(const struct sim_disk *d, const char *path)
{
    const struct inode *n = sim_lookup_file(d, path);
    return n == NULL ? UINT64_MAX : n->vol.len;
}

const uint8_t *sim_disk_bytes(const struct sim_disk *d, const char *path)
{
    const struct inode *n = sim_lookup_file(d, path);
    return n == NULL ? NULL : n->vol.ptr;
}

bool sim_disk_is_durable(const struct sim_disk *d, const char *path, uint64_t off, uint64_t len)
{
    uint32_t ino = sim_lookup(d, path, false);
    if (ino == NO_INODE || ino != sim_lookup(d, path, true)) {
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
    const struct inode *n = sim_lookup_file(s->disk, path);
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
