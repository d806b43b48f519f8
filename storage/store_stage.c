/* Staging an image of a stream beside the present one, and the switch to it with a flush pass. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/stage_internal.h"

void store_stage_path(const struct store *st, uint64_t gid, uint64_t number, char *out)
{
    snprintf(out, STORE_PATH_BYTES, "%s/data-%016" PRIx64 ".%016" PRIx64 ".stage", st->dir, number,
             gid);
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

/* Lay the parts that are to be fetched out in files, each begun on a boundary as any block written
 * in a pass of its own, the larger blocks, too: so they are found again, see stage_left.c. */
void stage_layout(struct store_stage *sg)
{
    struct stage_file *sf = NULL;
    for (uint32_t i = 1; i < sg->parts_count; i++) {
        if (sg->parts[i].is_own || sg->parts[i].is_fetched) {
            continue;
        }
        if (sf == NULL || sf->bytes >= STAGE_FILE_BYTES) {
            sg->files = xrealloc(sg->files, (sg->files_count + 1) * sizeof *sg->files);
            sf = &sg->files[sg->files_count++];
            *sf = (struct stage_file){.number = sg->st->next_file++};
        }
        if (sg->parts[i].want.bytes >= STAGE_ALIGNED_BYTES) {
            sf->bytes = align_up(sf->bytes);
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
    stage_left_open(sg);
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
    store_stage_path(sg->st, sg->gid, sf->number, path);
    sf->is_there = true;
    int rv =
        sg->st->ops->open(sg->st->ops->ctx, path, FILE_READ | FILE_WRITE | FILE_CREATE, &sf->open);
    return rv == 0 ? 0 : stage_failed(sg, sf, rv, false);
}

/* As it grows, not all at the end: that would be in the way of the log's syncs for long, and a
 * power cut would leave nothing to go on with. */
static int stage_file_sync(struct store_stage *sg, struct stage_file *sf)
{
    const struct file_ops *ops = sg->st->ops;
    sf->unsynced_bytes = 0;
    int rv = ops->sync(ops->ctx, sf->open);
    if (rv == 0 && !sf->is_named) {
        rv = ops->sync_dir(ops->ctx, sg->st->dir);
        sf->is_named = rv == 0;
    }
    return rv == 0 ? 0 : stage_failed(sg, sf, rv, true);
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
    rv = ops->pread(ops->ctx, sf->open, raw, b->bytes, sg->parts[part].off, &n);
    if (rv != 0 || n != b->bytes) {
        free(raw);
        return rv != 0 ? stage_failed(sg, sf, rv, false) : ERR_CORRUPT;
    }
    struct block_owner owner = {.gid = sg->gid, .sid = sg->sid};
    struct block_meta meta = block_meta_of(b);
    struct store_mem *mem = NULL;
    bool is_index_bad;
    rv = block_load(raw, &owner, &meta, &mem, &is_index_bad);
    mem_unref(mem);
    sg->parts[part].is_checked = rv == 0;
    return rv;
}

int store_stage_write(struct store_stage *sg, uint32_t part, uint64_t off, struct slice bytes)
{
    if (part >= sg->parts_count || sg->parts[part].is_own || sg->parts[part].is_fetched ||
        off > sg->parts[part].want.bytes || bytes.len > sg->parts[part].want.bytes - off) {
        return ERR_INVALID;
    }
    if (bytes.len == 0) {
        return 0;
    }
    if (sg->is_spoiled) {
        return ERR_IO;
    }
    sg->is_verified = false;
    sg->parts[part].is_checked = false;
    if (part == 0) {
        memcpy(sg->first + off, bytes.ptr, bytes.len);
        if (off + bytes.len == sg->parts[0].want.bytes && !sg->is_planned) {
            stage_left_look(sg);
        }
        return 0;
    }
    struct stage_file *sf = &sg->files[sg->parts[part].file];
    int rv = stage_file_open(sg, sf);
    if (rv != 0) {
        return rv;
    }
    const struct file_ops *ops = sg->st->ops;
    uint64_t at = sg->parts[part].off + off;
    rv = ops->pwrite(ops->ctx, sf->open, bytes.ptr, bytes.len, at);
    if (rv != 0) {
        return stage_failed(sg, sf, rv, false);
    }
    sf->unsynced_bytes += bytes.len;
    if (sf->unsynced_bytes >= STAGE_SYNC_BYTES || at + bytes.len == sf->bytes) {
        rv = stage_file_sync(sg, sf);
    }
    if (rv == 0 && sg->is_planned && off + bytes.len == sg->parts[part].want.bytes) {
        /* Now, and not all at the end: a look at gigabytes at a stretch is felt by who publishes.
         */
        rv = sg->blocks_count + 1 == sg->parts_count ? verify_block(sg, part) : 0;
        sg->is_bad = sg->is_bad || rv != 0;
    }
    return rv;
}

static void forget_blocks(struct store_stage *sg)
{
    for (uint32_t i = 0; i < sg->blocks_count; i++) {
        block_free(sg->blocks[i]);
        bitset_close(&sg->deads[i]);
    }
    free(sg->blocks);
    free(sg->deads);
    free(sg->ids);
    sg->blocks = NULL;
    sg->deads = NULL;
    sg->ids = NULL;
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

static int by_id(const void *a, const void *b)
{
    uint64_t x = ((const struct stage_id *)a)->id;
    uint64_t y = ((const struct stage_id *)b)->id;
    return (x > y) - (x < y);
}

uint32_t stage_block_of(const struct store_stage *sg, uint64_t id)
{
    struct stage_id key = {id, 0};
    const struct stage_id *at = bsearch(&key, sg->ids, sg->blocks_count, sizeof *sg->ids, by_id);
    return at == NULL ? UINT32_MAX : at->n;
}

/* False: one of the sets makes no sense. */
static bool read_deads(struct store_stage *sg)
{
    struct reader r = first_part(sg);
    bool is_sound = true;
    while (is_sound && r.len > 0) {
        struct stage_item it;
        is_sound = next_item(&r, &it);
        uint32_t n =
            is_sound && it.kind == KIND_DEAD ? stage_block_of(sg, get_u64(it.key.ptr)) : UINT32_MAX;
        if (n != UINT32_MAX) {
            bitset_close(&sg->deads[n]);
            is_sound = bitset_decode(&sg->deads[n], block_span(sg->blocks[n]), it.value);
            sg->deads[n].bits = block_span(sg->blocks[n]);
        }
    }
    return is_sound;
}

/* Whether @b has nothing live from @seq on. */
static bool is_dead_from(const struct store_stage *sg, const struct block *b, uint64_t seq)
{
    const struct bitset *dead = &sg->deads[stage_block_of(sg, b->id)];
    while (seq <= b->last_seq && bitset_has(dead, (uint32_t)(seq - b->first_seq))) {
        seq++;
    }
    return seq > b->last_seq;
}

/* No sequence is live in two blocks, no id is two blocks', and none is of the future. */
static bool are_blocks_sound(struct store_stage *sg)
{
    size_t n = sg->blocks_count;
    bool is_sound = true;
    for (uint32_t i = 0; i < n; i++) {
        const struct block *b = sg->blocks[i];
        sg->ids[i] = (struct stage_id){b->id, i};
        sg->deads[i].bits = block_span(b);
        is_sound = is_sound && b->first_seq > 0 && b->last_seq <= sg->last_seq;
    }
    qsort(sg->ids, n, sizeof *sg->ids, by_id);
    for (size_t i = 1; i < n; i++) {
        is_sound = is_sound && sg->ids[i - 1].id != sg->ids[i].id;
    }
    if (!is_sound || !read_deads(sg)) {
        return false;
    }
    struct block **sorted = xcalloc(n + 1, sizeof(struct block *));
    for (size_t i = 0; i < n; i++) {
        sorted[i] = sg->blocks[i];
    }
    qsort(sorted, n, sizeof(struct block *), block_by_first_seq);
    for (size_t i = 1; i < n; i++) {
        const struct block *b = sorted[i - 1];
        is_sound =
            is_sound && b->first_seq < sorted[i]->first_seq &&
            (b->last_seq < sorted[i]->first_seq || is_dead_from(sg, b, sorted[i]->first_seq));
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
    sg->deads = xcalloc(sg->parts_count, sizeof *sg->deads);
    sg->ids = xcalloc(sg->parts_count, sizeof *sg->ids);
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

int stage_parse(struct store_stage *sg)
{
    forget_blocks(sg);
    bool is_sound =
        crc32c(0, sg->first, sg->parts[0].want.bytes) == sg->parts[0].want.crc && parse_first(sg);
    return is_sound ? 0 : ERR_CORRUPT;
}

static int verify(struct store_stage *sg, uint32_t *ret_part)
{
    const struct file_ops *ops = sg->st->ops;
    if (stage_parse(sg) != 0) {
        *ret_part = 0;
        return ERR_CORRUPT;
    }
    for (uint32_t i = 1; i < sg->parts_count; i++) {
        bool is_known = sg->parts[i].is_own || sg->parts[i].is_checked;
        int rv = is_known ? 0 : verify_block(sg, i);
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
            return stage_failed(sg, sf, rv, true);
        }
    }
    return 0;
}

int store_stage_verify(struct store_stage *sg, uint32_t *ret_part)
{
    assert(!sg->is_switching);
    int rv = sg->is_spoiled ? ERR_IO : verify(sg, ret_part);
    sg->is_verified = rv == 0;
    sg->is_bad = rv != 0; /* What seemed to be right would be taken again and again. */
    return rv;
}

/* ---- The switch ---- */

/* What the journal names of the former stream goes with this pass, but for what is kept. */
static void forget_former(struct store_flush *job, const struct store_stage *sg,
                          struct store_stream *old)
{
    assert(!old->in_job);
    for (size_t i = 0; i < job->outs_count; i++) {
        struct flush_out *o = job->outs[i];
        if (o->owner.gid == old->gid && o->type == OUT_COPY) {
            o->status = ERR_CANCELED;
            o->srcs[0].block->in_job = false;
        }
    }
    size_t k = 0;
    for (size_t i = old->head; i < old->end; i++) {
        struct block *b = old->blocks[i];
        if (k < sg->kept_count && sg->kept[k].block->id == b->id) {
            k++;
        } else if (b->state == BLOCK_DISK) {
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

static void put_kept(const struct store_stage *sg, const struct stage_kept *k)
{
    uint8_t key[8];
    uint8_t value[BLOCK_VALUE_BYTES];
    struct checkpoint *c = sg->st->checkpoint;
    put_u64(key, k->block->id);
    block_encode(k->block, k->file->number, value);
    checkpoint_put(c, sg->gid, KIND_BLOCK, slice_of(key, sizeof key),
                   slice_of(value, sizeof value));
    if (k->block->gone.count > 0) {
        struct buf dead = BUF_EMPTY;
        bitset_encode(&k->block->gone, &dead);
        checkpoint_put(c, sg->gid, KIND_DEAD, slice_of(key, sizeof key), buf_slice(&dead));
        buf_close(&dead);
    }
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
        } else if (it.kind == KIND_BLOCK && sg->parts[n + 1].is_own) {
            n++;
        } else if (it.kind == KIND_BLOCK) {
            put_u64(key, ids[n]);
            block_encode(sg->blocks[n], sg->files[sg->parts[n + 1].file].number, value);
            checkpoint_put(c, sg->gid, KIND_BLOCK, slice_of(key, sizeof key),
                           slice_of(value, sizeof value));
            n++;
        } else {
            uint32_t at = stage_block_of(sg, get_u64(it.key.ptr));
            if (at != UINT32_MAX && ids[at] != 0) {
                put_u64(key, ids[at]);
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
    bool is_whole = stage_keep(sg, old);
    assert(is_whole);
    (void)is_whole;
    if (old != NULL) {
        forget_former(job, sg, old);
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
        ids[i] = sg->parts[i + 1].is_own ? 0 : st->next_block++;
    }
    put_items(sg, ids);
    for (size_t i = 0; i < sg->kept_count; i++) {
        put_kept(sg, &sg->kept[i]);
    }
    for (uint32_t i = 0; i < sg->files_count; i++) {
        struct data_file *f = file_new(st, sg->files[i].number);
        f->bytes = sg->files[i].bytes;
        sg->files[i].file = f;
        job_touch(job, f);
    }
    for (uint32_t i = 0; i < sg->blocks_count; i++) {
        sg->blocks[i]->id = ids[i];
        if (!sg->parts[i + 1].is_own) {
            sg->files[sg->parts[i + 1].file].file->blocks_count++;
        }
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
        store_stage_path(st, sg->gid, sg->files[i].number, from);
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
    stage_own_close(sg);
    forget_blocks(sg);
    free(sg->files);
    free(sg->parts);
    free(sg->first);
    free(sg);
}

static void take_block(struct store_stream *s, struct block *b, struct data_file *f)
{
    b->s = s;
    b->live_bytes = b->index_off - BLOCK_HEADER_BYTES;
    block_attach_file(b, f);
    blocks_push(s, b);
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
        if (sg->parts[i + 1].is_own) {
            block_free(sg->blocks[i]);
        } else {
            take_block(s, sg->blocks[i], sg->files[sg->parts[i + 1].file].file);
        }
        bitset_close(&sg->deads[i]);
    }
    sg->blocks_count = 0;
    for (size_t i = 0; i < sg->kept_count; i++) {
        bitset_close(&sg->kept[i].block->gone); /* In the journal now, from where it is loaded. */
        take_block(s, sg->kept[i].block, sg->kept[i].file);
    }
    sg->kept_count = 0;
    blocks_sort(s);
    stage_left_close(sg, false);
    stage_free(sg);
}

void stage_abort(struct store_stage *sg)
{
    stage_free(sg);
}

void store_stage_drop(struct store_stage *sg)
{
    assert(!sg->is_switching);
    stage_left_drop(sg, !sg->is_bad && store_find(sg->st, sg->gid) != NULL);
    stage_free(sg);
}
