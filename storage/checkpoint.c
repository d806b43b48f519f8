#include "storage/checkpoint.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/base/hash.h"
#include "storage/block_format.h"

#define FILE_MAGIC "WEIRCKP1"
#define FILE_HEADER_BYTES 4096u
#define FORMAT_VERSION 1u
#define FRAME_MAGIC 0x464b4357u
#define FRAME_HEADER_BYTES 48u
#define ITEM_HEADER_BYTES 20u
#define SECTOR_BYTES 512u
#define PATH_BYTES 512u

enum item_op { OP_PUT = 1, OP_DEL = 2, OP_DROP_GROUP = 3, OP_DROP_KIND = 4 };

/* Where a live item lies. The hash key is the kind, then the key's bytes. */
struct entry {
    UT_hash_handle hh;
    uint64_t off;
    uint32_t value_bytes;
    uint16_t key_bytes;
    uint8_t name[]; /* kind | key */
};

struct group {
    UT_hash_handle hh;
    uint64_t gid;
    struct entry *entries;
};

struct checkpoint {
    const struct file_ops *ops;
    char *dir;
    uint32_t machine_version;
    uint64_t garbage_bytes_min;
    uint64_t generation; /* Whose file is loaded and appended to. */
    uint64_t number_max; /* Highest generation ever seen, the unreadable ones included. */
    uint64_t pass;
    uint64_t end; /* Where the next frame goes. */
    uint32_t prev_crc;
    bool must_rotate;
    uint64_t live_bytes;
    struct group *groups;
    struct buf pending;
    uint32_t pending_count;
    char path[PATH_BYTES];
};

/* ---- The map ---- */

static uint64_t entry_bytes(const struct entry *e)
{
    return (uint64_t)ITEM_HEADER_BYTES + e->key_bytes + e->value_bytes;
}

static void entry_drop(struct checkpoint *c, struct group *g, struct entry *e)
{
    c->live_bytes -= entry_bytes(e);
    HASH_DEL(g->entries, e);
    free(e);
}

static void group_drop(struct checkpoint *c, struct group *g)
{
    struct entry *e, *tmp;
    HASH_ITER(hh, g->entries, e, tmp)
    {
        entry_drop(c, g, e);
    }
    HASH_DEL(c->groups, g);
    free(g);
}

static struct group *group_find(struct checkpoint *c, uint64_t gid)
{
    struct group *g;
    HASH_FIND(hh, c->groups, &gid, sizeof gid, g);
    return g;
}

static void map_put(struct checkpoint *c, uint64_t gid, uint8_t kind, struct slice key,
                    uint64_t off, uint32_t value_bytes)
{
    struct group *g = group_find(c, gid);
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
    struct entry *e;
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
    struct group *g = group_find(c, gid);
    if (g == NULL) {
        return;
    }
    uint8_t name[1 + UINT16_MAX];
    name[0] = kind;
    if (key.len > 0) {
        memcpy(name + 1, key.ptr, key.len);
    }
    struct entry *e;
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
    struct group *g = group_find(c, gid);
    if (g == NULL) {
        return;
    }
    struct entry *e, *tmp;
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

/* Take the next item of @r; false when it is not one. */
static bool item_next(struct reader *r, uint8_t *op, uint8_t *kind, uint64_t *gid,
                      struct slice *key, struct slice *value)
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
    *op = p[0];
    *kind = p[1];
    *gid = get_u64(p + 8);
    *key = slice_of(p + ITEM_HEADER_BYTES, get_u16(p + 2));
    *value = slice_of(p + ITEM_HEADER_BYTES + key->len, get_u32(p + 4));
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

void checkpoint_drop_kind(struct checkpoint *c, uint64_t gid, uint8_t kind)
{
    item_append(c, OP_DROP_KIND, kind, gid, SLICE_EMPTY, SLICE_EMPTY);
}

/* Check a frame's items without applying any of them. */
static bool body_is_valid(struct slice body, uint32_t items_count)
{
    struct reader r = reader_of(body);
    uint8_t op, kind;
    uint64_t gid;
    struct slice key, value;
    uint32_t n = 0;
    while (r.len > 0) {
        if (!item_next(&r, &op, &kind, &gid, &key, &value)) {
            return false;
        }
        n++;
    }
    return n == items_count;
}

/* Apply a valid body that lies at @off of the file. */
static void body_apply(struct checkpoint *c, struct slice body, uint64_t off)
{
    struct reader r = reader_of(body);
    uint8_t op, kind;
    uint64_t gid;
    struct slice key, value;
    while (r.len > 0) {
        uint64_t at = off + (uint64_t)(r.ptr - body.ptr);
        bool ok = item_next(&r, &op, &kind, &gid, &key, &value);
        assert(ok);
        struct group *g;
        switch (op) {
        case OP_PUT:
            map_put(c, gid, kind, key, at, (uint32_t)value.len);
            break;
        case OP_DEL:
            map_del(c, gid, kind, key);
            break;
        case OP_DROP_GROUP:
            g = group_find(c, gid);
            if (g != NULL) {
                group_drop(c, g);
            }
            break;
        default:
            map_drop_kind(c, gid, kind);
        }
    }
}

/* ---- Frames ---- */

struct frame {
    uint64_t pass;
    uint64_t body_bytes;
    uint32_t body_crc;
    uint32_t prev_crc;
    uint32_t crc;
    uint32_t items_count;
};

static bool frame_header(const uint8_t *p, uint64_t generation, struct frame *ret)
{
    uint8_t h[FRAME_HEADER_BYTES];
    memcpy(h, p, sizeof h);
    uint32_t crc = get_u32(h + 4);
    put_u32(h + 4, 0);
    if (get_u32(h) != FRAME_MAGIC || crc32c(0, h, sizeof h) != crc ||
        get_u64(h + 8) != generation) {
        return false;
    }
    *ret = (struct frame){.pass = get_u64(h + 16),
                          .body_bytes = get_u64(h + 24),
                          .body_crc = get_u32(h + 32),
                          .prev_crc = get_u32(h + 36),
                          .crc = crc,
                          .items_count = get_u32(h + 40)};
    return true;
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

static bool is_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

/* What stands at @off is no valid frame. A write that never completed leaves the end of the file or
 * a sector of zeros within it, and no frame follows. Anything else may have counted once. */
static bool tail_is_torn(struct slice file, uint64_t off, uint64_t generation, uint64_t pass)
{
    struct frame fr;
    for (uint64_t at = align_up(off + 1); at + FRAME_HEADER_BYTES <= file.len; at += BLOCK_ALIGN) {
        if (frame_header(file.ptr + at, generation, &fr) && fr.pass > pass + 1) {
            return false;
        }
    }
    uint64_t end = file.len;
    if (off + FRAME_HEADER_BYTES <= file.len && frame_header(file.ptr + off, generation, &fr)) {
        if (fr.body_bytes > file.len - off - FRAME_HEADER_BYTES) {
            return true;
        }
        end = off + FRAME_HEADER_BYTES + fr.body_bytes;
    }
    for (uint64_t at = off; at < end; at += SECTOR_BYTES) {
        size_t len = (size_t)(end - at < SECTOR_BYTES ? end - at : SECTOR_BYTES);
        if (is_zero(file.ptr + at, len)) {
            return true;
        }
    }
    return false;
}

/* Apply the frames of a journal to @c. ERR_CORRUPT when not even the first is right. */
static int replay(struct checkpoint *c, struct slice file, uint64_t generation,
                  struct checkpoint_recovery *rec)
{
    if (file.len < FILE_HEADER_BYTES || memcmp(file.ptr, FILE_MAGIC, 8) != 0) {
        return ERR_CORRUPT;
    }
    uint8_t zero[4] = {0};
    uint32_t crc = crc32c(crc32c(0, file.ptr, 24), zero, 4);
    crc = crc32c(crc, file.ptr + 28, FILE_HEADER_BYTES - 28);
    if (crc != get_u32(file.ptr + 24) || get_u64(file.ptr + 16) != generation) {
        return ERR_CORRUPT;
    }
    if (get_u32(file.ptr + 8) != FORMAT_VERSION) {
        return ERR_VERSION;
    }
    uint64_t off = FILE_HEADER_BYTES;
    uint32_t prev_crc = 0;
    uint64_t pass = 0;
    while (off < file.len) {
        struct frame fr;
        if (off + FRAME_HEADER_BYTES > file.len || !frame_header(file.ptr + off, generation, &fr) ||
            fr.prev_crc != prev_crc || (prev_crc != 0 && fr.pass != pass + 1) ||
            fr.body_bytes > file.len - off - FRAME_HEADER_BYTES) {
            break;
        }
        struct slice body = slice_of(file.ptr + off + FRAME_HEADER_BYTES, (size_t)fr.body_bytes);
        if (crc32c(0, body.ptr, body.len) != fr.body_crc || !body_is_valid(body, fr.items_count)) {
            break;
        }
        body_apply(c, body, off + FRAME_HEADER_BYTES);
        pass = fr.pass;
        prev_crc = fr.crc;
        off = align_up(off + FRAME_HEADER_BYTES + fr.body_bytes);
    }
    if (prev_crc == 0) {
        return ERR_CORRUPT;
    }
    if (off < file.len) {
        bool is_torn = tail_is_torn(file, off, generation, pass);
        rec->is_torn = is_torn;
        rec->is_rotten = !is_torn;
        /* Never append behind what was discarded. */
        c->must_rotate = true;
    }
    c->generation = generation;
    c->pass = pass;
    c->end = off;
    c->prev_crc = prev_crc;
    rec->generation = generation;
    rec->pass = pass;
    return 0;
}

/* ---- Opening ---- */

void checkpoint_path(const char *dir, uint64_t generation, char *out, size_t out_bytes)
{
    snprintf(out, out_bytes, "%s/ckpt-%016" PRIx64 ".journal", dir, generation);
}

static int file_read_all(const struct file_ops *ops, const char *path, struct buf *out)
{
    struct file *f;
    int rv = ops->open(ops->ctx, path, FILE_READ, &f);
    if (rv != 0) {
        return rv;
    }
    uint64_t size;
    size_t n = 0;
    rv = ops->size(ops->ctx, f, &size);
    if (rv == 0) {
        buf_reserve(out, (size_t)size);
        rv = ops->pread(ops->ctx, f, out->ptr, (size_t)size, 0, &n);
        out->len = rv == 0 ? n : 0;
    }
    ops->close(ops->ctx, f);
    return rv;
}

struct generations {
    uint64_t *numbers;
    size_t count;
};

static void on_name(void *arg, const char *name)
{
    struct generations *g = arg;
    uint64_t number;
    int end = 0;
    if (sscanf(name, "ckpt-%16" SCNx64 ".journal%n", &number, &end) != 1 || end == 0 ||
        name[end] != 0 || number == 0) {
        return;
    }
    g->numbers = xrealloc(g->numbers, (g->count + 1) * sizeof *g->numbers);
    g->numbers[g->count++] = number;
}

static int descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

static void drop_all(struct checkpoint *c)
{
    struct group *g, *tmp;
    HASH_ITER(hh, c->groups, g, tmp)
    {
        group_drop(c, g);
    }
}

static int load_newest(struct checkpoint *c, const struct generations *gens,
                       struct checkpoint_recovery *rec)
{
    int rv = 0;
    for (size_t i = 0; i < gens->count && i < 2; i++) {
        struct buf file = BUF_EMPTY;
        checkpoint_path(c->dir, gens->numbers[i], c->path, sizeof c->path);
        rv = file_read_all(c->ops, c->path, &file);
        if (rv == 0) {
            rv = replay(c, buf_slice(&file), gens->numbers[i], rec);
        }
        buf_close(&file);
        if (rv != ERR_CORRUPT) {
            break;
        }
        drop_all(c);
        rec->is_fallback = true;
        snprintf(rec->damaged_path, sizeof rec->damaged_path, "%s", c->path);
    }
    if (rv == 0 && rec->is_rotten) {
        snprintf(rec->damaged_path, sizeof rec->damaged_path, "%s", c->path);
    }
    if (rv == 0 && rec->is_fallback) {
        /* The number of the unreadable one is taken. */
        c->must_rotate = true;
    }
    return rv;
}

int checkpoint_open(const struct checkpoint_options *options,
                    struct checkpoint_recovery *ret_recovery, struct checkpoint **ret_c)
{
    struct checkpoint *c = xcalloc(1, sizeof *c);
    c->ops = options->ops;
    c->dir = xslicedup(slice_str(options->dir));
    c->machine_version = options->machine_version;
    c->garbage_bytes_min = options->garbage_bytes_min;
    struct checkpoint_recovery rec = {0};
    struct generations gens = {0};
    int rv = c->ops->list(c->ops->ctx, c->dir, on_name, &gens);
    if (rv == 0 && gens.count > 0) {
        qsort(gens.numbers, gens.count, sizeof *gens.numbers, descending);
        rv = load_newest(c, &gens, &rec);
        c->number_max = gens.numbers[0];
    }
    free(gens.numbers);
    if (rv != 0) {
        checkpoint_close(c);
        return rv;
    }
    *ret_recovery = rec;
    *ret_c = c;
    return 0;
}

void checkpoint_close(struct checkpoint *c)
{
    if (c == NULL) {
        return;
    }
    drop_all(c);
    buf_close(&c->pending);
    free(c->dir);
    free(c);
}

/* ---- Reading ---- */

static int ascending(const void *a, const void *b)
{
    return descending(b, a);
}

void checkpoint_each_group(struct checkpoint *c, checkpoint_group_cb cb, void *arg)
{
    size_t count = HASH_COUNT(c->groups);
    uint64_t *gids = xcalloc(count, sizeof *gids);
    size_t n = 0;
    struct group *g, *tmp;
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

static struct checkpoint_place entry_place(const struct checkpoint *c, const struct entry *e)
{
    return (struct checkpoint_place){c->generation, e->off, e->value_bytes, e->key_bytes,
                                     e->name[0]};
}

void checkpoint_each(struct checkpoint *c, uint64_t gid, checkpoint_place_cb cb, void *arg)
{
    struct group *g = group_find(c, gid);
    if (g == NULL) {
        return;
    }
    struct entry *e, *tmp;
    HASH_ITER(hh, g->entries, e, tmp)
    {
        struct checkpoint_place place = entry_place(c, e);
        cb(arg, &place, slice_of(e->name + 1, e->key_bytes));
    }
}

int checkpoint_read_place(const struct file_ops *ops, struct file *f, uint64_t gid,
                          const struct checkpoint_place *place, struct slice key, struct buf *out)
{
    size_t bytes = (size_t)ITEM_HEADER_BYTES + place->key_bytes + place->value_bytes;
    struct buf item = BUF_EMPTY;
    buf_reserve(&item, bytes);
    size_t n = 0;
    int rv = ops->pread(ops->ctx, f, item.ptr, bytes, place->off, &n);
    if (rv == 0) {
        struct reader r = reader_of(slice_of(item.ptr, n));
        uint8_t op, kind;
        uint64_t got_gid;
        struct slice got_key, value;
        if (n == bytes && item_next(&r, &op, &kind, &got_gid, &got_key, &value) && op == OP_PUT &&
            r.len == 0 && kind == place->kind && got_gid == gid && slice_eq(got_key, key)) {
            buf_append_slice(out, value);
        } else {
            rv = ERR_CORRUPT;
        }
    }
    buf_close(&item);
    return rv;
}

int checkpoint_read(struct checkpoint *c, uint64_t gid, uint32_t kinds, checkpoint_item_cb cb,
                    void *arg)
{
    struct group *g = group_find(c, gid);
    if (g == NULL) {
        return 0;
    }
    checkpoint_path(c->dir, c->generation, c->path, sizeof c->path);
    struct file *f;
    int rv = c->ops->open(c->ops->ctx, c->path, FILE_READ, &f);
    if (rv != 0) {
        return rv;
    }
    struct buf value = BUF_EMPTY;
    struct entry *e, *tmp;
    HASH_ITER(hh, g->entries, e, tmp)
    {
        struct checkpoint_place place = entry_place(c, e);
        struct slice key = slice_of(e->name + 1, e->key_bytes);
        if (place.kind >= 32 || (kinds >> place.kind & 1) == 0) {
            continue;
        }
        buf_clear(&value);
        rv = checkpoint_read_place(c->ops, f, gid, &place, key, &value);
        if (rv != 0) {
            break;
        }
        cb(arg, place.kind, key, buf_slice(&value));
    }
    buf_close(&value);
    c->ops->close(c->ops->ctx, f);
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

static int commit_append(struct checkpoint *c)
{
    uint8_t h[FRAME_HEADER_BYTES];
    build_frame(h, c, c->generation, c->prev_crc, buf_slice(&c->pending), c->pending_count);
    struct buf out = BUF_EMPTY;
    buf_append(&out, h, sizeof h);
    buf_append_slice(&out, buf_slice(&c->pending));
    checkpoint_path(c->dir, c->generation, c->path, sizeof c->path);
    struct file *f;
    int rv = c->ops->open(c->ops->ctx, c->path, FILE_WRITE, &f);
    if (rv == 0) {
        rv = c->ops->pwrite(c->ops->ctx, f, out.ptr, out.len, c->end);
        if (rv == 0) {
            rv = c->ops->sync(c->ops->ctx, f);
        }
        c->ops->close(c->ops->ctx, f);
    }
    if (rv == 0) {
        body_apply(c, buf_slice(&c->pending), c->end + FRAME_HEADER_BYTES);
        c->prev_crc = get_u32(h + 4);
        c->end = align_up(c->end + out.len);
        c->pass++;
    }
    buf_close(&out);
    return rv;
}

/* Append all live items to @out, from the bytes of the current file. False: they have rotted. */
static bool copy_live(struct checkpoint *c, struct slice file, struct buf *out, uint32_t *count)
{
    struct group *g, *gtmp;
    HASH_ITER(hh, c->groups, g, gtmp)
    {
        struct entry *e, *etmp;
        HASH_ITER(hh, g->entries, e, etmp)
        {
            uint64_t bytes = entry_bytes(e);
            if (e->off > file.len || bytes > file.len - e->off) {
                return false;
            }
            struct reader r = reader_of(slice_of(file.ptr + e->off, (size_t)bytes));
            uint8_t op, kind;
            uint64_t gid;
            struct slice key, value;
            if (!item_next(&r, &op, &kind, &gid, &key, &value) || op != OP_PUT || r.len != 0 ||
                gid != g->gid || kind != e->name[0] ||
                !slice_eq(key, slice_of(e->name + 1, e->key_bytes))) {
                return false;
            }
            buf_append(out, file.ptr + e->off, (size_t)bytes);
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
    put_u32(h + 24, crc32c(0, h, FILE_HEADER_BYTES));
}

static int write_generation(struct checkpoint *c, uint64_t generation, struct slice bytes)
{
    const struct file_ops *ops = c->ops;
    char tmp[PATH_BYTES];
    snprintf(tmp, sizeof tmp, "%s/ckpt-%016" PRIx64 ".tmp", c->dir, generation);
    snprintf(c->path, sizeof c->path, "%s", tmp);
    struct file *f;
    int rv = ops->open(ops->ctx, tmp, FILE_WRITE | FILE_CREATE, &f);
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
    if (rv != 0) {
        return rv;
    }
    checkpoint_path(c->dir, generation, c->path, sizeof c->path);
    rv = ops->rename(ops->ctx, tmp, c->path);
    return rv != 0 ? rv : ops->sync_dir(ops->ctx, c->dir);
}

static int commit_generation(struct checkpoint *c)
{
    struct buf old = BUF_EMPTY;
    if (c->generation != 0) {
        checkpoint_path(c->dir, c->generation, c->path, sizeof c->path);
        int rv = file_read_all(c->ops, c->path, &old);
        if (rv != 0) {
            buf_close(&old);
            return rv;
        }
    }
    struct buf out = BUF_EMPTY;
    uint64_t generation = c->number_max + 1;
    memset(buf_reserve(&out, FILE_HEADER_BYTES + FRAME_HEADER_BYTES), 0,
           FILE_HEADER_BYTES + FRAME_HEADER_BYTES);
    out.len = FILE_HEADER_BYTES + FRAME_HEADER_BYTES;
    uint32_t count = c->pending_count;
    int rv = copy_live(c, buf_slice(&old), &out, &count) ? 0 : ERR_CORRUPT;
    buf_close(&old);
    if (rv == 0) {
        buf_append_slice(&out, buf_slice(&c->pending));
        struct slice body = slice_from(buf_slice(&out), FILE_HEADER_BYTES + FRAME_HEADER_BYTES);
        build_file_header(out.ptr, c, generation);
        build_frame(out.ptr + FILE_HEADER_BYTES, c, generation, 0, body, count);
        rv = write_generation(c, generation, buf_slice(&out));
        if (rv == 0) {
            drop_all(c);
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

int checkpoint_parse(struct slice file, uint64_t generation, checkpoint_item_cb cb, void *arg,
                     struct checkpoint_recovery *ret_recovery)
{
    struct checkpoint c = {0};
    struct checkpoint_recovery rec = {0};
    int rv = replay(&c, file, generation, &rec);
    if (rv == 0) {
        struct group *g, *gtmp;
        HASH_ITER(hh, c.groups, g, gtmp)
        {
            struct entry *e, *etmp;
            HASH_ITER(hh, g->entries, e, etmp)
            {
                const uint8_t *p = file.ptr + e->off + ITEM_HEADER_BYTES;
                cb(arg, e->name[0], slice_of(p, e->key_bytes),
                   slice_of(p + e->key_bytes, e->value_bytes));
            }
        }
        *ret_recovery = rec;
    }
    drop_all(&c);
    return rv;
}
