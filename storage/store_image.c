/* Images of a stream, the sending side. store_stage.c has the other.
 *
 * Part 0 of an image, little-endian:
 *    0  u32  magic "WIMG"             24  u64  applied index
 *    4  u32  format version, 1        32  u64  applied term
 *    8  u64  gid                      40  u64  last sequence
 *   16  u64  sid                      48  u32  items
 *   52  items: u8 kind, u16 bytes of the key, u32 bytes of the value, key, value; kinds BLOCK, DEAD
 *       and ITEM as in the journal. Places in BLOCK are the sender's and mean nothing elsewhere.
 * Part n is the block of the n-th BLOCK item, byte for byte. */
#include <assert.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/stage_internal.h"

struct image_block {
    struct data_file *file;
    uint64_t off;
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
    (void)key;
    if (kind == KIND_STREAM && value.len == STREAM_VALUE_BYTES) {
        im->last_seq = get_u64(value.ptr + 24);
        return;
    }
    struct block b = {0};
    uint64_t number;
    struct data_file *f = NULL;
    if (block_decode(&b, &number, value)) {
        f = file_find(im->st, number);
    }
    if (f == NULL) {
        im->is_bad = true;
        return;
    }
    f->pins++;
    im->blocks = xrealloc(im->blocks, (im->blocks_count + 1) * sizeof *im->blocks);
    im->blocks[im->blocks_count] = (struct image_block){f, b.off};
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
    int rv = checkpoint_read(st->checkpoint, s->gid, 1u << KIND_BLOCK | 1u << KIND_STREAM,
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

int store_image_prepare(struct store_image *im)
{
    const struct file_ops *ops = im->st->ops;
    char path[STORE_PATH_BYTES];
    checkpoint_path(im->st->dir, im->generation, path, sizeof path);
    struct file *f;
    int rv = ops->open(ops->ctx, path, FILE_READ, &f);
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
        buf_append_u8(out, it->place.kind);
        buf_append_u16(out, it->place.key_bytes);
        buf_append_u32(out, it->place.value_bytes);
        buf_append_slice(out, key);
        rv = checkpoint_read_place(ops, f, im->gid, &it->place, key, out);
    }
    ops->close(ops->ctx, f);
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
    const struct file_ops *ops = im->st->ops;
    const struct image_block *b = &im->blocks[part - 1];
    char path[STORE_PATH_BYTES];
    store_file_path(im->st, b->file->number, path);
    struct file *f;
    int rv = ops->open(ops->ctx, path, FILE_READ, &f);
    if (rv != 0) {
        return rv;
    }
    size_t n = 0;
    rv = ops->pread(ops->ctx, f, buf, len, b->off + off, &n);
    ops->close(ops->ctx, f);
    return rv == 0 && n != len ? ERR_CORRUPT : rv;
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
