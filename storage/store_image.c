/* Images of a stream, the sending side. store_stage.c has the other.
 *
 * Part 0 of an image, little-endian:
 *    0  u32  magic "WIMG"             24  u64  applied index
 *    4  u32  format version, 1        32  u64  applied term
 *    8  u64  gid                      40  u64  last sequence
 *   16  u64  sid                      48  u32  items
 *   52  items: u8 kind, u16 bytes of the key, u32 bytes of the value, key, value; kinds BLOCK, DEAD
 *       and ITEM as in the journal. Places in BLOCK are the sender's and mean nothing elsewhere.
 * A block from which sequences are absent has a DEAD item that says which, if they can be read: the
 * other side need not have the block to know what is live in it.
 * Part n is the block of the n-th BLOCK item, byte for byte. */
#include <assert.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/stage_internal.h"

struct image_block {
    uint64_t id;
    struct data_file *file;
    uint64_t off;
    struct block_meta meta;
};

struct image_item {
    struct checkpoint_place place;
    uint8_t *key;
};

struct store_image {
    struct store *st;
    uint64_t gid;
    uint64_t sid;
    uint64_t index;
    uint64_t term;
    uint64_t last_seq;
    struct image_block *blocks;
    struct store_part *parts; /* [0] is the items, [n + 1] is blocks[n]. */
    uint32_t blocks_count;
    struct image_item *items;
    size_t items_count;
    uint64_t generation;
    struct buf first;
    bool is_bad;
};

static void on_image_block(void *arg, uint8_t kind, struct slice key, struct slice value)
{
    struct store_image *im = arg;
    if (kind == KIND_STREAM && value.len == STREAM_VALUE_BYTES) {
        im->last_seq = get_u64(value.ptr + 24);
        return;
    }
    struct block b = {0};
    uint64_t number;
    struct data_file *f = NULL;
    if (key.len == 8 && block_decode(&b, &number, value)) {
        f = file_find(im->st, number);
    }
    if (f == NULL) {
        im->is_bad = true;
        return;
    }
    f->pins++;
    im->blocks = xrealloc(im->blocks, (im->blocks_count + 1) * sizeof *im->blocks);
    im->blocks[im->blocks_count] =
        (struct image_block){get_u64(key.ptr), f, b.off, block_meta_of(&b)};
    im->parts = xrealloc(im->parts, (im->blocks_count + 2) * sizeof *im->parts);
    im->parts[++im->blocks_count] = (struct store_part){b.bytes, b.crc};
}

static void on_image_item(void *arg, const struct checkpoint_place *place, struct slice key)
{
    struct store_image *im = arg;
    if (place->kind == KIND_STREAM) {
        return;
    }
    im->items = xrealloc(im->items, (im->items_count + 1) * sizeof *im->items);
    im->items[im->items_count++] = (struct image_item){*place, (uint8_t *)xslicedup(key)};
}

int store_image_open(struct store_stream *s, struct store_image **ret_image)
{
    struct store *st = s->store;
    if (st->job != NULL) {
        return ERR_BUSY;
    }
    if (s->applied_index == 0) {
        return ERR_NOTFOUND;
    }
    struct store_image *im = xcalloc(1, sizeof *im);
    im->st = st;
    im->gid = s->gid;
    im->sid = s->sid;
    im->index = s->applied_index;
    im->term = s->applied_term;
    im->generation = checkpoint_generation(st->checkpoint);
    im->parts = xcalloc(1, sizeof *im->parts);
    st->images_count++;
    int rv = checkpoint_read(st->checkpoint, s->gid, KIND_BIT(KIND_BLOCK) | KIND_BIT(KIND_STREAM),
                             on_image_block, im);
    if (rv == 0 && im->is_bad) {
        rv = ERR_CORRUPT;
    }
    if (rv != 0) {
        store_image_close(im);
        return rv;
    }
    checkpoint_each(st->checkpoint, s->gid, on_image_item, im);
    *ret_image = im;
    return 0;
}

static int read_at(const struct store_image *im, const struct image_block *b, uint64_t off,
                   void *to, size_t len)
{
    const struct file_ops *ops = im->st->ops;
    char path[STORE_PATH_BYTES];
    store_file_path(im->st, b->file->number, path);
    struct file *f;
    int rv = ops->open(ops->ctx, path, FILE_READ, &f);
    if (rv != 0) {
        return rv;
    }
    size_t n = 0;
    rv = ops->pread(ops->ctx, f, to, len, b->off + off, &n);
    ops->close(ops->ctx, f);
    return rv == 0 && n != len ? ERR_CORRUPT : rv;
}

static void put_head(struct buf *out, uint8_t kind, size_t key_bytes, size_t value_bytes)
{
    buf_append_u8(out, kind);
    buf_append_u16(out, (uint16_t)key_bytes);
    buf_append_u32(out, (uint32_t)value_bytes);
}

/* What was absent when @b was written. Returns whether it could be said. */
static bool put_absent(const struct store_image *im, const struct image_block *b, struct buf *out)
{
    size_t bytes = b->meta.bytes - b->meta.index_off;
    uint8_t *tail = xmalloc(bytes);
    struct block_owner owner = {.gid = im->gid, .sid = im->sid};
    struct block_index ix;
    bool is_read = read_at(im, b, b->meta.index_off, tail, bytes) == 0 &&
                   block_index_parse(slice_of(tail, bytes), &owner, &b->meta, &ix) == 0;
    if (is_read) {
        struct buf set = BUF_EMPTY;
        uint8_t key[8];
        put_u64(key, b->id);
        bitset_encode(&ix.absent, &set);
        put_head(out, KIND_DEAD, sizeof key, set.len);
        buf_append(out, key, sizeof key);
        buf_append_slice(out, buf_slice(&set));
        buf_close(&set);
        block_index_close(&ix);
    }
    free(tail);
    return is_read;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The journal has a DEAD item only where something was removed since the block was written; that
 * one says all that is not live. Returns how many items were added. */
static size_t put_all_absent(const struct store_image *im, struct buf *out)
{
    uint64_t *dead = xcalloc(im->items_count + 1, sizeof *dead);
    size_t dead_count = 0;
    size_t added = 0;
    for (size_t i = 0; i < im->items_count; i++) {
        if (im->items[i].place.kind == KIND_DEAD && im->items[i].place.key_bytes == 8) {
            dead[dead_count++] = get_u64(im->items[i].key);
        }
    }
    qsort(dead, dead_count, sizeof *dead, by_number);
    for (uint32_t i = 0; i < im->blocks_count; i++) {
        const struct image_block *b = &im->blocks[i];
        bool is_whole = b->meta.count == b->meta.last_seq - b->meta.first_seq + 1;
        if (!is_whole && bsearch(&b->id, dead, dead_count, sizeof *dead, by_number) == NULL) {
            added += put_absent(im, b, out);
        }
    }
    free(dead);
    return added;
}

int store_image_prepare(struct store_image *im)
{
    const struct file_ops *ops = im->st->ops;
    struct checkpoint_files files;
    int rv = checkpoint_files_open(ops, im->st->dir, im->generation, &files);
    if (rv != 0) {
        return rv;
    }
    struct buf *out = &im->first;
    buf_clear(out);
    buf_append_u32(out, IMAGE_MAGIC);
    buf_append_u32(out, IMAGE_VERSION);
    buf_append_u64(out, im->gid);
    buf_append_u64(out, im->sid);
    buf_append_u64(out, im->index);
    buf_append_u64(out, im->term);
    buf_append_u64(out, im->last_seq);
    buf_append_u32(out, (uint32_t)im->items_count);
    for (size_t i = 0; i < im->items_count && rv == 0; i++) {
        const struct image_item *it = &im->items[i];
        struct slice key = slice_of(it->key, it->place.key_bytes);
        put_head(out, it->place.kind, it->place.key_bytes, it->place.value_bytes);
        buf_append_slice(out, key);
        rv = checkpoint_read_place(ops, &files, im->gid, &it->place, key, out);
    }
    checkpoint_files_close(ops, &files);
    if (rv == 0) {
        size_t items = im->items_count + put_all_absent(im, out);
        put_u32(out->ptr + 48, (uint32_t)items);
    }
    im->parts[0] = (struct store_part){out->len, crc32c(0, out->ptr, out->len)};
    return rv;
}

void store_image_applied(const struct store_image *im, uint64_t *ret_index, uint64_t *ret_term)
{
    *ret_index = im->index;
    *ret_term = im->term;
}

const struct store_part *store_image_parts(const struct store_image *im, uint32_t *ret_count)
{
    *ret_count = im->blocks_count + 1;
    return im->parts;
}

int store_image_read(struct store_image *im, uint32_t part, uint64_t off, void *buf, size_t len)
{
    assert(part <= im->blocks_count);
    assert(off <= im->parts[part].bytes);
    assert(len <= im->parts[part].bytes - off);
    if (part == 0) {
        memcpy(buf, im->first.ptr + off, len);
        return 0;
    }
    return read_at(im, &im->blocks[part - 1], off, buf, len);
}

void store_image_close(struct store_image *im)
{
    if (im == NULL) {
        return;
    }
    for (uint32_t i = 0; i < im->blocks_count; i++) {
        im->blocks[i].file->pins--;
    }
    for (size_t i = 0; i < im->items_count; i++) {
        free(im->items[i].key);
    }
    im->st->images_count--;
    buf_close(&im->first);
    free(im->items);
    free(im->blocks);
    free(im->parts);
    free(im);
}
