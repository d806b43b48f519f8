#include "storage/checkpoint.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/block_format.h"
#include "storage/checkpoint_internal.h"

/* ---- The map ---- */

static uint64_t entry_bytes(const struct checkpoint_entry *e)
{
    return (uint64_t)ITEM_HEADER_BYTES + e->key_bytes + e->value_bytes;
}

static void entry_drop(struct checkpoint *c, struct checkpoint_group *g, struct checkpoint_entry *e)
{
    c->live_bytes -= entry_bytes(e);
    HASH_DEL(g->entries, e);
    free(e);
}

static void group_drop(struct checkpoint *c, struct checkpoint_group *g)
{
    struct checkpoint_entry *e, *tmp;
    HASH_ITER(hh, g->entries, e, tmp)
    {
        entry_drop(c, g, e);
    }
    HASH_DEL(c->groups, g);
    free(g);
}

static struct checkpoint_group *group_find(struct checkpoint *c, uint64_t gid)
{
    struct checkpoint_group *g;
    HASH_FIND(hh, c->groups, &gid, sizeof gid, g);
    return g;
}

static void map_put(struct checkpoint *c, uint64_t gid, uint8_t kind, struct slice key,
                    uint64_t off, uint32_t value_bytes)
{
    struct checkpoint_group *g = group_find(c, gid);
    if (g == NULL) {
        g = xcalloc(1, sizeof *g);
        g->gid = gid;
        HASH_ADD(hh, c->groups, gid, sizeof g->gid, g);
    }
    uint8_t name[1 + UINT16_MAX];
    name[0] = kind;
    if (key.len > 0) {
        memcpy(name + 1, key.ptr, key.len);
    }
    struct checkpoint_entry *e;
    HASH_FIND(hh, g->entries, name, key.len + 1, e);
    if (e == NULL) {
        e = xcalloc(1, sizeof *e + key.len + 1);
        e->key_bytes = (uint16_t)key.len;
        memcpy(e->name, name, key.len + 1);
        HASH_ADD_KEYPTR(hh, g->entries, e->name, key.len + 1, e);
    } else {
        c->live_bytes -= entry_bytes(e);
    }
    e->off = off;
    e->value_bytes = value_bytes;
    c->live_bytes += entry_bytes(e);
}

static void map_del(struct checkpoint *c, uint64_t gid, uint8_t kind, struct slice key)
{
    struct checkpoint_group *g = group_find(c, gid);
    if (g == NULL) {
        return;
    }
    uint8_t name[1 + UINT16_MAX];
    name[0] = kind;
    if (key.len > 0) {
        memcpy(name + 1, key.ptr, key.len);
    }
    struct checkpoint_entry *e;
    HASH_FIND(hh, g->entries, name, key.len + 1, e);
    if (e != NULL) {
        entry_drop(c, g, e);
    }
    if (g->entries == NULL) {
        group_drop(c, g);
    }
}

static void map_drop_kind(struct checkpoint *c, uint64_t gid, uint8_t kind)
{
    struct checkpoint_group *g = group_find(c, gid);
    if (g == NULL) {
        return;
    }
    struct checkpoint_entry *e, *tmp;
    HASH_ITER(hh, g->entries, e, tmp)
    {
        if (e->name[0] == kind) {
            entry_drop(c, g, e);
        }
    }
    if (g->entries == NULL) {
        group_drop(c, g);
    }
}

/* ---- Items ---- */

bool item_next(struct reader *r, struct item *ret)
{
    if (r->len < ITEM_HEADER_BYTES) {
        return false;
    }
    const uint8_t *p = r->ptr;
    uint64_t bytes = (uint64_t)ITEM_HEADER_BYTES + get_u16(p + 2) + get_u32(p + 4);
    if (bytes > r->len) {
        return false;
    }
    uint8_t zero[4] = {0};
    uint32_t crc = crc32c(0, p, 16);
    crc = crc32c(crc, zero, 4);
    crc = crc32c(crc, p + ITEM_HEADER_BYTES, (size_t)bytes - ITEM_HEADER_BYTES);
    if (crc != get_u32(p + 16) || p[0] < OP_PUT || p[0] > OP_DROP_KIND) {
        return false;
    }
    *ret = (struct item){.op = p[0],
                         .kind = p[1],
                         .gid = get_u64(p + 8),
                         .key = slice_of(p + ITEM_HEADER_BYTES, get_u16(p + 2))};
    ret->value = slice_of(p + ITEM_HEADER_BYTES + ret->key.len, get_u32(p + 4));
    reader_bytes(r, (size_t)bytes);
    return true;
}

static void item_append(struct checkpoint *c, uint8_t op, uint8_t kind, uint64_t gid,
                        struct slice key, struct slice value)
{
    assert(key.len <= UINT16_MAX);
    assert(value.len <= UINT32_MAX - UINT16_MAX - ITEM_HEADER_BYTES);
    uint8_t h[ITEM_HEADER_BYTES] = {op, kind};
    put_u16(h + 2, (uint16_t)key.len);
    put_u32(h + 4, (uint32_t)value.len);
    put_u64(h + 8, gid);
    uint32_t crc = crc32c(0, h, sizeof h);
    crc = crc32c(crc32c(crc, key.ptr, key.len), value.ptr, value.len);
    put_u32(h + 16, crc);
    buf_append(&c->pending, h, sizeof h);
    buf_append_slice(&c->pending, key);
    buf_append_slice(&c->pending, value);
    c->pending_count++;
}

void checkpoint_put(struct checkpoint *c, uint64_t gid, uint8_t kind, struct slice key,
                    struct slice value)
{
    item_append(c, OP_PUT, kind, gid, key, value);
}

void checkpoint_del(struct checkpoint *c, uint64_t gid, uint8_t kind, struct slice key)
{
    item_append(c, OP_DEL, kind, gid, key, SLICE_EMPTY);
}

void checkpoint_drop_group(struct checkpoint *c, uint64_t gid)
{
    item_append(c, OP_DROP_GROUP, 0, gid, SLICE_EMPTY, SLICE_EMPTY);
}

bool body_is_valid(struct slice body, uint32_t items_count)
{
    struct reader r = reader_of(body);
    struct item it;
    uint32_t n = 0;
    while (r.len > 0) {
        if (!item_next(&r, &it)) {
            return false;
        }
        n++;
    }
    return n == items_count;
}

void body_apply(struct checkpoint *c, struct slice body, uint64_t off)
{
    struct reader r = reader_of(body);
    struct item it;
    while (r.len > 0) {
        uint64_t at = off + (uint64_t)(r.ptr - body.ptr);
        bool ok = item_next(&r, &it);
        assert(ok);
        struct checkpoint_group *g;
        switch (it.op) {
        case OP_PUT:
            map_put(c, it.gid, it.kind, it.key, at, (uint32_t)it.value.len);
            break;
        case OP_DEL:
            map_del(c, it.gid, it.kind, it.key);
            break;
        case OP_DROP_GROUP:
            g = group_find(c, it.gid);
            if (g != NULL) {
                group_drop(c, g);
            }
            break;
        default:
            map_drop_kind(c, it.gid, it.kind);
        }
    }
}

void checkpoint_drop_all(struct checkpoint *c)
{
    struct checkpoint_group *g, *tmp;
    HASH_ITER(hh, c->groups, g, tmp)
    {
        group_drop(c, g);
    }
}

void checkpoint_close(struct checkpoint *c)
{
    if (c == NULL) {
        return;
    }
    checkpoint_drop_all(c);
    buf_close(&c->pending);
    free(c->dir);
    free(c);
}

/* ---- Reading ---- */

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void checkpoint_each_group(struct checkpoint *c, checkpoint_group_cb cb, void *arg)
{
    size_t count = HASH_COUNT(c->groups);
    uint64_t *gids = xcalloc(count, sizeof *gids);
    size_t n = 0;
    struct checkpoint_group *g, *tmp;
    HASH_ITER(hh, c->groups, g, tmp)
    {
        gids[n++] = g->gid;
    }
    qsort(gids, n, sizeof *gids, ascending);
    for (size_t i = 0; i < n; i++) {
        cb(arg, gids[i]);
    }
    free(gids);
}

static struct checkpoint_place entry_place(const struct checkpoint *c,
                                           const struct checkpoint_entry *e)
{
    return (struct checkpoint_place){c->generation, e->off, e->value_bytes, e->key_bytes,
                                     e->name[0]};
}

void checkpoint_each(struct checkpoint *c, uint64_t gid, checkpoint_place_cb cb, void *arg)
{
    struct checkpoint_group *g = group_find(c, gid);
    if (g == NULL) {
        return;
    }
    struct checkpoint_entry *e, *tmp;
    HASH_ITER(hh, g->entries, e, tmp)
    {
        struct checkpoint_place place = entry_place(c, e);
        cb(arg, &place, slice_of(e->name + 1, e->key_bytes));
    }
}
int checkpoint_files_open(const struct file_ops *ops, const char *dir, uint64_t generation,
                          struct checkpoint_files *ret_files)
{
    struct checkpoint_files files = {{NULL}};
    int rv = ERR_NOTFOUND;
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        char path[PATH_BYTES];
        checkpoint_path(dir, generation, i, path, sizeof path);
        int got = ops->open(ops->ctx, path, FILE_READ, &files.copies[i]);
        rv = got == 0 || rv == ERR_NOTFOUND ? got : rv;
    }
    if (rv == 0) {
        *ret_files = files;
    }
    return rv;
}

void checkpoint_files_close(const struct file_ops *ops, struct checkpoint_files *files)
{
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        if (files->copies[i] != NULL) {
            ops->close(ops->ctx, files->copies[i]);
            files->copies[i] = NULL;
        }
    }
}

static int read_item(const struct file_ops *ops, struct file *f, uint64_t gid,
                     const struct checkpoint_place *place, struct slice key, struct buf *out)
{
    size_t bytes = (size_t)ITEM_HEADER_BYTES + place->key_bytes + place->value_bytes;
    struct buf raw = BUF_EMPTY;
    buf_reserve(&raw, bytes);
    size_t n = 0;
    int rv = ops->pread(ops->ctx, f, raw.ptr, bytes, place->off, &n);
    if (rv == 0) {
        struct reader r = reader_of(slice_of(raw.ptr, n));
        struct item it;
        if (n == bytes && item_next(&r, &it) && it.op == OP_PUT && r.len == 0 &&
            it.kind == place->kind && it.gid == gid && slice_eq(it.key, key)) {
            buf_append_slice(out, it.value);
        } else {
            rv = ERR_CORRUPT;
        }
    }
    buf_close(&raw);
    return rv;
}

int checkpoint_read_place(const struct file_ops *ops, const struct checkpoint_files *files,
                          uint64_t gid, const struct checkpoint_place *place, struct slice key,
                          struct buf *out)
{
    int rv = ERR_CORRUPT;
    for (unsigned i = 0; i < CHECKPOINT_COPIES && rv != 0; i++) {
        if (files->copies[i] != NULL) {
            int got = read_item(ops, files->copies[i], gid, place, key, out);
            rv = got == 0 || rv == ERR_CORRUPT ? got : rv;
        }
    }
    return rv;
}

int checkpoint_read(struct checkpoint *c, uint64_t gid, uint32_t kinds, checkpoint_item_cb cb,
                    void *arg)
{
    struct checkpoint_group *g = group_find(c, gid);
    if (g == NULL) {
        return 0;
    }
    struct checkpoint_files files;
    int rv = checkpoint_files_open(c->ops, c->dir, c->generation, &files);
    if (rv != 0) {
        return rv;
    }
    struct buf value = BUF_EMPTY;
    struct checkpoint_entry *e, *tmp;
    HASH_ITER(hh, g->entries, e, tmp)
    {
        struct checkpoint_place place = entry_place(c, e);
        struct slice key = slice_of(e->name + 1, e->key_bytes);
        if (place.kind >= 32 || (kinds >> place.kind & 1) == 0) {
            continue;
        }
        buf_clear(&value);
        rv = checkpoint_read_place(c->ops, &files, gid, &place, key, &value);
        if (rv != 0) {
            break;
        }
        cb(arg, place.kind, key, buf_slice(&value));
    }
    buf_close(&value);
    checkpoint_files_close(c->ops, &files);
    return rv;
}

/* ---- Committing ---- */

void checkpoint_want_generation(struct checkpoint *c)
{
    c->must_rotate = true;
}

static bool will_rotate(const struct checkpoint *c)
{
    uint64_t used = c->end < FILE_HEADER_BYTES ? 0 : c->end - FILE_HEADER_BYTES;
    uint64_t garbage = used > c->live_bytes ? used - c->live_bytes : 0;
    return c->generation == 0 || c->must_rotate ||
           (garbage > c->live_bytes && garbage > c->garbage_bytes_min);
}

uint64_t checkpoint_next_generation(struct checkpoint *c)
{
    /* Decided once: what the commit writes into its items must come true. */
    c->must_rotate = will_rotate(c);
    return c->must_rotate ? c->number_max + 1 : c->generation;
}

uint64_t checkpoint_generation(const struct checkpoint *c)
{
    return c->generation;
}

uint64_t checkpoint_pass(const struct checkpoint *c)
{
    return c->pass;
}

uint64_t checkpoint_bytes(const struct checkpoint *c)
{
    return c->end;
}

static void gathered_clear(struct checkpoint *c)
{
    buf_close(&c->pending);
    c->pending_count = 0;
}
static void build_frame(uint8_t *h, const struct checkpoint *c, uint64_t generation,
                        uint32_t prev_crc, struct slice body, uint32_t items_count)
{
    memset(h, 0, FRAME_HEADER_BYTES);
    put_u32(h, FRAME_MAGIC);
    put_u64(h + 8, generation);
    put_u64(h + 16, c->pass + 1);
    put_u64(h + 24, body.len);
    put_u32(h + 32, crc32c(0, body.ptr, body.len));
    put_u32(h + 36, prev_crc);
    put_u32(h + 40, items_count);
    put_u32(h + 4, crc32c(0, h, FRAME_HEADER_BYTES));
}
/* Write to each copy that is there, all of them before the first is synced: what is cut off in
 * between leaves no copy that is behind by more than this frame. */
static int append_copies(struct checkpoint *c, struct slice bytes)
{
    struct file *files[CHECKPOINT_COPIES] = {NULL};
    int rv = 0;
    bool is_written = false;
    for (unsigned i = 0; i < CHECKPOINT_COPIES && rv == 0; i++) {
        checkpoint_path(c->dir, c->generation, i, c->path, sizeof c->path);
        rv = c->ops->open(c->ops->ctx, c->path, FILE_WRITE, &files[i]);
        if (rv == ERR_NOTFOUND) {
            rv = 0; /* Lost, and the other one cannot be copied for rot. */
            continue;
        }
        if (rv == 0) {
            rv = c->ops->pwrite(c->ops->ctx, files[i], bytes.ptr, bytes.len, c->end);
            is_written = true;
        }
    }
    rv = rv == 0 && !is_written ? ERR_NOTFOUND : rv;
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        if (files[i] == NULL) {
            continue;
        }
        if (rv == 0) {
            checkpoint_path(c->dir, c->generation, i, c->path, sizeof c->path);
            rv = c->ops->sync(c->ops->ctx, files[i]);
        }
        c->ops->close(c->ops->ctx, files[i]);
    }
    return rv;
}

static int commit_append(struct checkpoint *c)
{
    uint8_t h[FRAME_HEADER_BYTES];
    build_frame(h, c, c->generation, c->prev_crc, buf_slice(&c->pending), c->pending_count);
    struct buf out = BUF_EMPTY;
    buf_append(&out, h, sizeof h);
    buf_append_slice(&out, buf_slice(&c->pending));
    int rv = append_copies(c, buf_slice(&out));
    if (rv == 0) {
        body_apply(c, buf_slice(&c->pending), c->end + FRAME_HEADER_BYTES);
        c->prev_crc = get_u32(h + 4);
        c->end = align_up(c->end + out.len);
        c->pass++;
    }
    buf_close(&out);
    return rv;
}

/* The item's bytes in @copy; empty if they are not right there. */
static struct slice item_in(const struct buf *copy, uint64_t gid, const struct checkpoint_entry *e)
{
    uint64_t bytes = entry_bytes(e);
    if (e->off > copy->len || bytes > copy->len - e->off) {
        return SLICE_EMPTY;
    }
    struct slice raw = slice_of(copy->ptr + e->off, (size_t)bytes);
    struct reader r = reader_of(raw);
    struct item it;
    bool is_right = item_next(&r, &it) && it.op == OP_PUT && r.len == 0 && it.gid == gid &&
                    it.kind == e->name[0] && slice_eq(it.key, slice_of(e->name + 1, e->key_bytes));
    return is_right ? raw : SLICE_EMPTY;
}

/* Append all live items to @out, from the bytes of the current copies. False: one has rotted in
 * all. */
static bool copy_live(struct checkpoint *c, const struct buf *copies, struct buf *out,
                      uint32_t *count)
{
    struct checkpoint_group *g, *gtmp;
    HASH_ITER(hh, c->groups, g, gtmp)
    {
        struct checkpoint_entry *e, *etmp;
        HASH_ITER(hh, g->entries, e, etmp)
        {
            struct slice raw = SLICE_EMPTY;
            for (unsigned i = 0; i < CHECKPOINT_COPIES && raw.len == 0; i++) {
                raw = item_in(&copies[i], g->gid, e);
            }
            if (raw.len == 0) {
                return false;
            }
            buf_append_slice(out, raw);
            ++*count;
        }
    }
    return true;
}

static void build_file_header(uint8_t *h, const struct checkpoint *c, uint64_t generation)
{
    memset(h, 0, FILE_HEADER_BYTES);
    memcpy(h, FILE_MAGIC, 8);
    put_u32(h + 8, FORMAT_VERSION);
    put_u32(h + 12, c->machine_version);
    put_u64(h + 16, generation);
    put_u32(h + 28, CHECKPOINT_COPIES);
    put_u32(h + 24, crc32c(0, h, FILE_HEADER_BYTES));
}
static void tmp_path(const struct checkpoint *c, uint64_t generation, unsigned copy, char *out)
{
    snprintf(out, PATH_BYTES, "%s/ckpt-%016" PRIx64 ".%u.tmp", c->dir, generation, copy);
}

/* All copies are durable under another name before the first gets its own. */
static int write_generation(struct checkpoint *c, uint64_t generation, struct slice bytes)
{
    const struct file_ops *ops = c->ops;
    char tmp[PATH_BYTES];
    int rv = 0;
    for (unsigned i = 0; i < CHECKPOINT_COPIES && rv == 0; i++) {
        tmp_path(c, generation, i, c->path);
        struct file *f;
        rv = ops->open(ops->ctx, c->path, FILE_WRITE | FILE_CREATE, &f);
        if (rv != 0) {
            return rv;
        }
        rv = ops->truncate(ops->ctx, f, 0); /* Left over from a crash, maybe. */
        if (rv == 0) {
            rv = ops->pwrite(ops->ctx, f, bytes.ptr, bytes.len, 0);
        }
        if (rv == 0) {
            rv = ops->sync(ops->ctx, f);
        }
        ops->close(ops->ctx, f);
    }
    for (unsigned i = 0; i < CHECKPOINT_COPIES && rv == 0; i++) {
        tmp_path(c, generation, i, tmp);
        checkpoint_path(c->dir, generation, i, c->path, sizeof c->path);
        rv = ops->rename(ops->ctx, tmp, c->path);
    }
    return rv != 0 ? rv : ops->sync_dir(ops->ctx, c->dir);
}

/* The bytes of all copies that are there. */
static int read_copies(struct checkpoint *c, struct buf *copies)
{
    int rv = ERR_NOTFOUND;
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        int got = checkpoint_read_copy(c, c->generation, i, &copies[i]);
        if (got != 0 && got != ERR_NOTFOUND) {
            return got;
        }
        rv = got == 0 ? 0 : rv;
    }
    return rv;
}

static int commit_generation(struct checkpoint *c)
{
    struct buf old[CHECKPOINT_COPIES] = {BUF_EMPTY, BUF_EMPTY};
    int rv = c->generation != 0 ? read_copies(c, old) : 0;
    struct buf out = BUF_EMPTY;
    uint64_t generation = c->number_max + 1;
    uint32_t count = c->pending_count;
    if (rv == 0) {
        memset(buf_reserve(&out, FILE_HEADER_BYTES + FRAME_HEADER_BYTES), 0,
               FILE_HEADER_BYTES + FRAME_HEADER_BYTES);
        out.len = FILE_HEADER_BYTES + FRAME_HEADER_BYTES;
        rv = copy_live(c, old, &out, &count) ? 0 : ERR_CORRUPT;
    }
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        buf_close(&old[i]);
    }
    if (rv == 0) {
        buf_append_slice(&out, buf_slice(&c->pending));
        struct slice body = slice_from(buf_slice(&out), FILE_HEADER_BYTES + FRAME_HEADER_BYTES);
        build_file_header(out.ptr, c, generation);
        build_frame(out.ptr + FILE_HEADER_BYTES, c, generation, 0, body, count);
        rv = write_generation(c, generation, buf_slice(&out));
        if (rv == 0) {
            checkpoint_drop_all(c);
            body_apply(c, body, FILE_HEADER_BYTES + FRAME_HEADER_BYTES);
            c->prev_crc = get_u32(out.ptr + FILE_HEADER_BYTES + 4);
            c->end = align_up(out.len);
            c->generation = generation;
            c->number_max = generation;
            c->pass++;
            c->must_rotate = false;
        }
    }
    buf_close(&out);
    return rv;
}

int checkpoint_commit(struct checkpoint *c, const char **ret_path, bool *ret_is_rotten)
{
    *ret_is_rotten = false;
    bool is_tail_usable = c->generation != 0;
    int rv = ERR_CORRUPT;
    if (will_rotate(c)) {
        rv = commit_generation(c);
        *ret_is_rotten = rv == ERR_CORRUPT;
        c->must_rotate = c->must_rotate && rv != ERR_CORRUPT; /* It would be so each time. */
    }
    if (rv == ERR_CORRUPT) {
        assert(is_tail_usable);
        rv = commit_append(c);
    }
    *ret_path = c->path;
    if (rv == 0) {
        gathered_clear(c);
    }
    return rv;
}
