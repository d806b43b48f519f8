/* Images of a stream, and the staging of one from elsewhere.
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
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/flush_internal.h"

#define IMAGE_MAGIC 0x474d4957u
#define IMAGE_VERSION 1u
#define IMAGE_HEADER_BYTES 52u
#define IMAGE_ITEMS_BYTES_MAX (UINT64_C(1) << 30)
#define IMAGE_PARTS_MAX (1u << 22)
#define STAGE_FILE_BYTES (64u * 1024 * 1024)

/* ---- The sending side ---- */

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

/* ---- The receiving side ---- */

struct stage_file {
    uint64_t number;
    uint64_t bytes;
    struct file *open;
    struct data_file *file; /* From the switch on. */
};

struct stage_part {
    struct store_part want;
    uint32_t file; /* Of parts but the first. */
    uint64_t off;
};

struct store_stage {
    struct store *st;
    struct store_stage *next; /* In the store's list. */
    struct store_stage *next_in_job;
    uint64_t gid;
    uint64_t sid;
    struct stage_part *parts;
    uint32_t parts_count;
    struct stage_file *files;
    uint32_t files_count;
    uint8_t *first;
    bool is_verified;
    bool is_switching;
    uint64_t index_wanted; /* 0: any. */
    uint64_t term_wanted;
    uint64_t index;
    uint64_t term;
    uint64_t last_seq;
    struct block **blocks; /* Decoded; the switch gives them places. */
    uint32_t blocks_count;
};

void store_stage_path(const struct store *st, uint64_t number, char *out)
{
    snprintf(out, STORE_PATH_BYTES, "%s/data-%016" PRIx64 ".stage", st->dir, number);
}

struct store_stage *stage_next(struct store_stage *sg)
{
    return sg->next_in_job;
}

bool stage_is_switching(const struct store *st, uint64_t gid)
{
    for (const struct store_stage *sg = st->stages; sg != NULL; sg = sg->next) {
        if (sg->gid == gid && sg->is_switching) {
            return true;
        }
    }
    return false;
}

/* Lay the parts out in files, each begun on a boundary as any block written in a pass of its own.
 */
static void stage_layout(struct store_stage *sg)
{
    struct stage_file *sf = NULL;
    for (uint32_t i = 1; i < sg->parts_count; i++) {
        if (sf == NULL || sf->bytes >= STAGE_FILE_BYTES) {
            sg->files = xrealloc(sg->files, (sg->files_count + 1) * sizeof *sg->files);
            sf = &sg->files[sg->files_count++];
            *sf = (struct stage_file){.number = sg->st->next_file++};
        }
        sg->parts[i].file = sg->files_count - 1;
        sg->parts[i].off = sf->bytes;
        sf->bytes += sg->parts[i].want.bytes;
    }
}

int store_stage_open(struct store *st, uint64_t gid, uint64_t sid, const struct store_part *parts,
                     uint32_t parts_count, struct store_stage **ret_stage)
{
    if (parts_count == 0 || parts_count > IMAGE_PARTS_MAX ||
        parts[0].bytes > IMAGE_ITEMS_BYTES_MAX || parts[0].bytes < IMAGE_HEADER_BYTES) {
        return ERR_INVALID;
    }
    for (uint32_t i = 1; i < parts_count; i++) {
        if (parts[i].bytes > UINT32_MAX || parts[i].bytes < BLOCK_HEADER_BYTES) {
            return ERR_INVALID;
        }
    }
    for (const struct store_stage *other = st->stages; other != NULL; other = other->next) {
        if (other->gid == gid) {
            return ERR_EXISTS;
        }
    }
    struct store_stage *sg = xcalloc(1, sizeof *sg);
    sg->st = st;
    sg->gid = gid;
    sg->sid = sid;
    sg->parts_count = parts_count;
    sg->parts = xcalloc(parts_count, sizeof *sg->parts);
    for (uint32_t i = 0; i < parts_count; i++) {
        sg->parts[i].want = parts[i];
    }
    sg->first = xcalloc(1, parts[0].bytes);
    stage_layout(sg);
    sg->next = st->stages;
    st->stages = sg;
    *ret_stage = sg;
    return 0;
}

void store_stage_expect(struct store_stage *sg, uint64_t index, uint64_t term)
{
    sg->index_wanted = index;
    sg->term_wanted = term;
}

static int stage_file_open(struct store_stage *sg, struct stage_file *sf)
{
    if (sf->open != NULL) {
        return 0;
    }
    char path[STORE_PATH_BYTES];
    store_stage_path(sg->st, sf->number, path);
    return sg->st->ops->open(sg->st->ops->ctx, path, FILE_READ | FILE_WRITE | FILE_CREATE,
                             &sf->open);
}

int store_stage_write(struct store_stage *sg, uint32_t part, uint64_t off, struct slice bytes)
{
    if (part >= sg->parts_count || off > sg->parts[part].want.bytes ||
        bytes.len > sg->parts[part].want.bytes - off) {
        return ERR_INVALID;
    }
    if (bytes.len == 0) {
        return 0;
    }
    sg->is_verified = false;
    if (part == 0) {
        memcpy(sg->first + off, bytes.ptr, bytes.len);
        return 0;
    }
    struct stage_file *sf = &sg->files[sg->parts[part].file];
    int rv = stage_file_open(sg, sf);
    if (rv != 0) {
        return rv;
    }
    return sg->st->ops->pwrite(sg->st->ops->ctx, sf->open, bytes.ptr, bytes.len,
                               sg->parts[part].off + off);
}

static void forget_blocks(struct store_stage *sg)
{
    for (uint32_t i = 0; i < sg->blocks_count; i++) {
        block_free(sg->blocks[i]);
    }
    free(sg->blocks);
    sg->blocks = NULL;
    sg->blocks_count = 0;
}

struct stage_item {
    uint8_t kind;
    struct slice key;
    struct slice value;
};

static bool next_item(struct reader *r, struct stage_item *it)
{
    it->kind = reader_u8(r);
    uint16_t key_bytes = reader_u16(r);
    uint32_t value_bytes = reader_u32(r);
    it->key = reader_bytes(r, key_bytes);
    it->value = reader_bytes(r, value_bytes);
    bool has_block_key = it->kind == KIND_BLOCK || it->kind == KIND_DEAD;
    return !r->failed && it->key.len <= STORE_KEY_BYTES_MAX &&
           it->value.len <= STORE_VALUE_BYTES_MAX &&
           (it->kind == KIND_ITEM || (has_block_key && it->key.len == 8));
}

static struct reader first_part(const struct store_stage *sg)
{
    struct reader r = reader_of(slice_of(sg->first, sg->parts[0].want.bytes));
    reader_bytes(&r, IMAGE_HEADER_BYTES);
    return r;
}

static int by_first_seq(const void *a, const void *b)
{
    uint64_t x = (*(struct block *const *)a)->first_seq;
    uint64_t y = (*(struct block *const *)b)->first_seq;
    return (x > y) - (x < y);
}

static int by_id(const void *a, const void *b)
{
    uint64_t x = (*(struct block *const *)a)->id;
    uint64_t y = (*(struct block *const *)b)->id;
    return (x > y) - (x < y);
}

/* No sequence is in two blocks, no id is two blocks', and none is of the future. */
static bool are_blocks_sound(const struct store_stage *sg)
{
    size_t n = sg->blocks_count;
    struct block **sorted = xcalloc(n + 1, sizeof(struct block *));
    bool is_sound = true;
    for (size_t i = 0; i < n; i++) {
        sorted[i] = sg->blocks[i];
        is_sound = is_sound && sorted[i]->first_seq > 0 && sorted[i]->last_seq <= sg->last_seq;
    }
    qsort(sorted, n, sizeof(struct block *), by_id);
    for (size_t i = 1; i < n; i++) {
        is_sound = is_sound && sorted[i - 1]->id != sorted[i]->id;
    }
    qsort(sorted, n, sizeof(struct block *), by_first_seq);
    for (size_t i = 1; i < n; i++) {
        is_sound = is_sound && sorted[i - 1]->last_seq < sorted[i]->first_seq;
    }
    free(sorted);
    return is_sound;
}

static bool parse_first(struct store_stage *sg)
{
    const uint8_t *p = sg->first;
    if (get_u32(p) != IMAGE_MAGIC || get_u32(p + 4) != IMAGE_VERSION || get_u64(p + 8) != sg->gid ||
        get_u64(p + 16) != sg->sid) {
        return false;
    }
    sg->index = get_u64(p + 24);
    sg->term = get_u64(p + 32);
    sg->last_seq = get_u64(p + 40);
    uint32_t items_count = get_u32(p + 48);
    struct reader r = first_part(sg);
    sg->blocks = xcalloc(sg->parts_count, sizeof(struct block *));
    for (uint32_t i = 0; i < items_count; i++) {
        struct stage_item it;
        if (!next_item(&r, &it)) {
            return false;
        }
        if (it.kind != KIND_BLOCK) {
            continue;
        }
        uint64_t number;
        struct block *b = block_new(NULL);
        if (sg->blocks_count + 1 >= sg->parts_count || !block_decode(b, &number, it.value)) {
            block_free(b);
            return false;
        }
        b->id = get_u64(it.key.ptr); /* The sender's, until the switch. */
        sg->blocks[sg->blocks_count++] = b;
        const struct stage_part *part = &sg->parts[sg->blocks_count];
        if (b->bytes != part->want.bytes || b->crc != part->want.crc) {
            return false;
        }
        b->off = part->off;
    }
    bool is_as_offered =
        sg->index_wanted == 0 || (sg->index == sg->index_wanted && sg->term == sg->term_wanted);
    return r.len == 0 && sg->blocks_count + 1 == sg->parts_count && sg->index > 0 &&
           is_as_offered && are_blocks_sound(sg);
}

static int verify_block(struct store_stage *sg, uint32_t part)
{
    const struct file_ops *ops = sg->st->ops;
    struct block *b = sg->blocks[part - 1];
    struct stage_file *sf = &sg->files[sg->parts[part].file];
    int rv = stage_file_open(sg, sf);
    if (rv != 0) {
        return rv;
    }
    uint8_t *raw = xmalloc(b->bytes);
    size_t n = 0;
    rv = ops->pread(ops->ctx, sf->open, raw, b->bytes, b->off, &n);
    if (rv != 0 || n != b->bytes) {
        free(raw);
        return rv != 0 ? rv : ERR_CORRUPT;
    }
    struct block_owner owner = {.gid = sg->gid, .sid = sg->sid};
    struct block_meta meta = block_meta_of(b);
    struct store_mem *mem = NULL;
    bool is_index_bad;
    rv = block_load(raw, &owner, &meta, &mem, &is_index_bad);
    mem_unref(mem);
    return rv;
}

int store_stage_verify(struct store_stage *sg, uint32_t *ret_part)
{
    const struct file_ops *ops = sg->st->ops;
    assert(!sg->is_switching);
    forget_blocks(sg);
    if (crc32c(0, sg->first, sg->parts[0].want.bytes) != sg->parts[0].want.crc ||
        !parse_first(sg)) {
        *ret_part = 0;
        return ERR_CORRUPT;
    }
    for (uint32_t i = 1; i < sg->parts_count; i++) {
        int rv = verify_block(sg, i);
        if (rv != 0) {
            *ret_part = i;
            return rv;
        }
    }
    for (uint32_t i = 0; i < sg->files_count; i++) {
        struct stage_file *sf = &sg->files[i];
        int rv = ops->sync(ops->ctx, sf->open);
        ops->close(ops->ctx, sf->open);
        sf->open = NULL;
        if (rv != 0) {
            return rv;
        }
    }
    sg->is_verified = true;
    return 0;
}

/* ---- The switch ---- */

/* What the journal names of the former stream goes with this pass. */
static void forget_former(struct store_flush *job, struct store_stream *old)
{
    assert(!old->in_job);
    for (size_t i = 0; i < job->outs_count; i++) {
        struct flush_out *o = job->outs[i];
        if (o->owner.gid == old->gid && o->type == OUT_COPY) {
            o->status = ERR_CANCELED;
            o->srcs[0].block->in_job = false;
        }
    }
    for (size_t i = old->head; i < old->end; i++) {
        struct block *b = old->blocks[i];
        if (b->state == BLOCK_DISK) {
            b->file->blocks_count--;
            job_touch(job, b->file);
        }
    }
    for (size_t i = 0; i < old->gone.count; i++) {
        old->gone.items[i].file->blocks_count--;
        job_touch(job, old->gone.items[i].file);
    }
    old->gone.count = 0;
}

static uint64_t id_of(const struct store_stage *sg, const uint64_t *ids, uint64_t sender_id)
{
    for (uint32_t i = 0; i < sg->blocks_count; i++) {
        if (sg->blocks[i]->id == sender_id) {
            return ids[i];
        }
    }
    return 0;
}

static void put_items(struct store_stage *sg, const uint64_t *ids)
{
    struct checkpoint *c = sg->st->checkpoint;
    struct reader r = first_part(sg);
    uint32_t n = 0;
    while (r.len > 0) {
        struct stage_item it;
        uint8_t key[8];
        uint8_t value[BLOCK_VALUE_BYTES];
        bool ok = next_item(&r, &it);
        assert(ok);
        if (it.kind == KIND_ITEM) {
            checkpoint_put(c, sg->gid, KIND_ITEM, it.key, it.value);
        } else if (it.kind == KIND_BLOCK) {
            put_u64(key, ids[n]);
            block_encode(sg->blocks[n], sg->files[sg->parts[n + 1].file].number, value);
            checkpoint_put(c, sg->gid, KIND_BLOCK, slice_of(key, sizeof key),
                           slice_of(value, sizeof value));
            n++;
        } else {
            uint64_t id = id_of(sg, ids, get_u64(it.key.ptr));
            put_u64(key, id);
            if (id != 0) {
                checkpoint_put(c, sg->gid, KIND_DEAD, slice_of(key, sizeof key), it.value);
            }
        }
    }
}

void store_flush_stage(struct store_flush *job, struct store_stage *sg)
{
    struct store *st = sg->st;
    assert(!job->has_run);
    assert(sg->is_verified);
    assert(!sg->is_switching);
    sg->is_switching = true;
    sg->next_in_job = job->stages;
    job->stages = sg;
    struct store_stream *old = store_find(st, sg->gid);
    if (old != NULL) {
        forget_former(job, old);
    }
    checkpoint_drop_group(st->checkpoint, sg->gid);
    uint8_t v[STREAM_VALUE_BYTES];
    put_u64(v, sg->sid);
    put_u64(v + 8, sg->index);
    put_u64(v + 16, sg->term);
    put_u64(v + 24, sg->last_seq);
    checkpoint_put(st->checkpoint, sg->gid, KIND_STREAM, SLICE_EMPTY, slice_of(v, sizeof v));
    uint64_t *ids = xcalloc(sg->blocks_count, sizeof *ids);
    for (uint32_t i = 0; i < sg->blocks_count; i++) {
        ids[i] = st->next_block++;
    }
    put_items(sg, ids);
    for (uint32_t i = 0; i < sg->files_count; i++) {
        struct data_file *f = file_new(st, sg->files[i].number);
        f->bytes = sg->files[i].bytes;
        sg->files[i].file = f;
        job_touch(job, f);
    }
    for (uint32_t i = 0; i < sg->blocks_count; i++) {
        sg->blocks[i]->id = ids[i];
        sg->files[sg->parts[i + 1].file].file->blocks_count++;
    }
    free(ids);
    job->next_file = st->next_file;
    job->next_block = st->next_block;
}

int stage_run(struct store_flush *job, struct store_stage *sg)
{
    struct store *st = job->st;
    char from[STORE_PATH_BYTES];
    char to[STORE_PATH_BYTES];
    for (uint32_t i = 0; i < sg->files_count; i++) {
        store_stage_path(st, sg->files[i].number, from);
        store_file_path(st, sg->files[i].number, to);
        int rv = st->ops->rename(st->ops->ctx, from, to);
        if (rv != 0) {
            store_fail(st, from);
            return rv;
        }
    }
    if (sg->files_count == 0) {
        return 0;
    }
    int rv = st->ops->sync_dir(st->ops->ctx, st->dir);
    if (rv != 0) {
        store_fail(st, st->dir);
    }
    return rv;
}

static void stage_free(struct store_stage *sg)
{
    struct store_stage **at = &sg->st->stages;
    while (*at != sg) {
        at = &(*at)->next;
    }
    *at = sg->next;
    for (uint32_t i = 0; i < sg->files_count; i++) {
        if (sg->files[i].open != NULL) {
            sg->st->ops->close(sg->st->ops->ctx, sg->files[i].open);
        }
    }
    forget_blocks(sg);
    free(sg->files);
    free(sg->parts);
    free(sg->first);
    free(sg);
}

void stage_end(struct store_flush *job, struct store_stage *sg)
{
    struct store *st = job->st;
    struct store_stream *old = store_find(st, sg->gid);
    if (old != NULL) {
        HASH_DEL(st->streams, old);
        store_stream_free(old);
    }
    struct store_stream *s = store_stream_new(st, sg->gid, sg->sid);
    s->applied_index = sg->index;
    s->applied_term = sg->term;
    s->last_seq = sg->last_seq;
    for (uint32_t i = 0; i < sg->blocks_count; i++) {
        struct block *b = sg->blocks[i];
        b->s = s;
        b->live_bytes = b->index_off - BLOCK_HEADER_BYTES;
        block_attach_file(b, sg->files[sg->parts[i + 1].file].file);
        blocks_push(s, b);
    }
    sg->blocks_count = 0;
    blocks_sort(s);
    stage_free(sg);
}

void stage_abort(struct store_stage *sg)
{
    stage_free(sg);
}

void store_stage_drop(struct store_stage *sg)
{
    struct store *st = sg->st;
    assert(!sg->is_switching);
    for (uint32_t i = 0; i < sg->files_count; i++) {
        char path[STORE_PATH_BYTES];
        store_stage_path(st, sg->files[i].number, path);
        /* What cannot be deleted now goes at the next opening. */
        st->ops->unlink(st->ops->ctx, path);
    }
    stage_free(sg);
}
