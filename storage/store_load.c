/* Loading a stream: indexes, then checkpoint items.
 *
 *   store_load_begin (loop) -> store_load_run (any thread) -> store_load_end (loop)
 *
 * The run changes nothing but the blocks' sets of what is gone, of a stream that nobody uses yet.
 * What it finds out besides waits for the end: totals, the cache and reports belong to the loop. */
#include <assert.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/store_internal.h"

struct dead_set {
    UT_hash_handle hh;
    uint64_t id;
    struct buf value;
};

/* How a block was found. */
enum load_state {
    LOAD_NONE, /* Not looked at: an error came before. */
    LOAD_SOUND,
    LOAD_MENDING, /* What there is of it is in memory. */
    LOAD_CACHED,  /* Its index is damaged; it was read when that was sound, */
    LOAD_READ,    /* or now, */
    LOAD_LOST     /* or cannot be. */
};

struct load_block {
    enum load_state state;
    struct store_mem *mem; /* Of LOAD_READ. */
    bool is_dead_set_bad;
};

struct store_load {
    struct store_stream *s;
    struct dead_set *dead;
    struct load_block *blocks; /* As in the stream's table. */
    int status;
    store_info_cb info;
    store_item_cb item;
    void *arg;
};

static void on_load_item(void *arg, uint8_t kind, struct slice key, struct slice value)
{
    struct store_load *ld = arg;
    if (kind == KIND_ITEM) {
        ld->item(ld->arg, key, value);
    } else if (kind == KIND_DEAD && key.len == 8) {
        struct dead_set *d = xcalloc(1, sizeof *d);
        d->id = get_u64(key.ptr);
        buf_append_slice(&d->value, value);
        HASH_ADD(hh, ld->dead, id, sizeof d->id, d);
    }
}

/* Read the bytes of a block from its index on. */
static int read_tail(struct block *b, struct buf *out)
{
    struct store *st = b->s->store;
    char path[STORE_PATH_BYTES];
    store_file_path(st, b->file->number, path);
    struct file *f;
    int rv = st->ops->open(st->ops->ctx, path, FILE_READ, &f);
    if (rv != 0) {
        return rv;
    }
    buf_clear(out);
    size_t bytes = b->bytes - b->index_off;
    buf_reserve(out, bytes);
    size_t n = 0;
    rv = st->ops->pread(st->ops->ctx, f, out->ptr, bytes, b->off + b->index_off, &n);
    st->ops->close(st->ops->ctx, f);
    out->len = n;
    if (rv == ERR_IO) {
        store_fail(st, path);
    }
    return rv;
}

static void emit_index(struct block *b, const struct block_index *ix, store_info_cb cb, void *arg)
{
    struct store_info info = {.block = b->id};
    uint32_t slot = 0;
    for (uint32_t i = 0; i < ix->count; i++, slot++) {
        while (bitset_has(&ix->absent, slot)) {
            slot++;
        }
        if (bitset_has(&b->gone, slot)) {
            continue;
        }
        const uint8_t *e = ix->entries + (size_t)i * INDEX_ENTRY_BYTES;
        uint64_t delta = 0;
        memcpy(&delta, e + 6, 6);
        info.header_bytes = 0;
        memcpy(&info.header_bytes, e + 3, 3);
        info.seq = b->first_seq + slot;
        info.time_ns = b->time_min_ns + (int64_t)delta;
        info.payload_bytes = get_u32(e + 12);
        info.flags = e[2];
        info.subject_slot = get_u16(e);
        info.subject = ix->subjects[info.subject_slot];
        cb(arg, &info);
    }
}

/* The index is damaged: find the messages by their records. */
static void emit_records(struct block *b, const struct store_mem *mem, store_info_cb cb, void *arg)
{
    struct store_info info = {.block = b->id};
    for (uint64_t seq = b->first_seq; seq <= b->last_seq; seq++) {
        uint32_t slot = (uint32_t)(seq - b->first_seq);
        const uint8_t *r = mem->records[seq - mem->first_seq];
        if (r == NULL) {
            bitset_set(&b->gone, slot);
        }
        if (r == NULL || r == RECORD_DAMAGED || bitset_has(&b->gone, slot)) {
            continue;
        }
        info.seq = seq;
        info.time_ns = record_time(r);
        info.header_bytes = record_header_bytes(r);
        info.payload_bytes = record_payload_bytes(r);
        info.flags = r[5];
        info.subject = slice_of(r + RECORD_HEADER_BYTES, record_subject_bytes(r));
        cb(arg, &info);
        info.subject_slot++; /* Each its own: equal slots mean equal subjects, not the reverse. */
    }
}

static int load_damaged(struct block *b, struct load_block *found, store_info_cb cb, void *arg)
{
    struct store *st = b->s->store;
    struct block_owner owner = {.gid = b->s->gid, .sid = b->s->sid};
    struct block_meta meta = block_meta_of(b);
    if (b->mem != NULL) {
        emit_records(b, b->mem, cb, arg);
        found->state = LOAD_CACHED;
        return 0;
    }
    bool is_index_bad;
    int rv = block_read(st, &owner, b->file->number, b->off, &meta, &found->mem, &is_index_bad);
    if (found->mem != NULL) {
        emit_records(b, found->mem, cb, arg);
        found->state = LOAD_READ;
        return 0;
    }
    if (rv == ERR_NOMEM) {
        return rv;
    }
    found->state = LOAD_LOST; /* A sector that cannot be read, twice, is damage like any other. */
    return 0;
}

/* Into the totals, once it is known what is live in it. */
static void count_loaded(struct block *b)
{
    uint32_t span = block_span(b);
    uint64_t records_bytes = b->index_off - BLOCK_HEADER_BYTES;
    b->live_count = span - b->gone.count;
    b->file->live_bytes -= b->live_bytes;
    b->live_bytes = b->live_count >= b->records_count
                        ? records_bytes
                        : records_bytes * b->live_count / b->records_count;
    b->file->live_bytes += b->live_bytes;
    b->s->messages += b->live_count;
    b->s->bytes += b->live_bytes;
}

static int load_block(struct block *b, struct store_load *ld, struct load_block *found,
                      struct buf *scratch)
{
    uint32_t span = (uint32_t)(b->last_seq - b->first_seq + 1);
    b->gone = (struct bitset){.bits = span};
    struct dead_set *d;
    HASH_FIND(hh, ld->dead, &b->id, sizeof b->id, d);
    if (d != NULL) {
        found->is_dead_set_bad = !bitset_decode(&b->gone, span, buf_slice(&d->value));
        b->gone.bits = span;
    }
    /* By the journal: without a set nothing is gone but what was absent from the beginning. */
    b->live_known = d == NULL || found->is_dead_set_bad ? b->records_count : span - b->gone.count;
    if (b->is_mending) {
        emit_records(b, b->mem, ld->info, ld->arg);
        found->state = LOAD_MENDING;
        return 0;
    }
    int rv = read_tail(b, scratch);
    struct block_owner owner = {.gid = b->s->gid, .sid = b->s->sid};
    struct block_meta meta = block_meta_of(b);
    struct block_index ix;
    if (rv == 0) {
        rv = block_index_parse(buf_slice(scratch), &owner, &meta, &ix);
    }
    if (rv != 0) {
        return load_damaged(b, found, ld->info, ld->arg);
    }
    bitset_merge(&b->gone, &ix.absent, 0);
    emit_index(b, &ix, ld->info, ld->arg);
    block_index_close(&ix);
    found->state = LOAD_SOUND;
    return 0;
}

/* Loop: what the run has found of a block. */
static void settle(struct block *b, struct load_block *found)
{
    switch (found->state) {
    case LOAD_NONE:
        return;
    case LOAD_SOUND:
        break;
    case LOAD_MENDING:
        b->is_unknown = mend_has_missing(b);
        break;
    case LOAD_CACHED:
        block_report(b, STORE_DAMAGE_INDEX, NULL);
        break;
    case LOAD_READ:
        block_cache(b, found->mem);
        b->is_unknown = mend_has_missing(b);
        mend_found(b, found->mem);
        store_cache_trim(b->s->store);
        break;
    case LOAD_LOST:
        b->is_unknown = true;
        mend_found(b, NULL);
        break;
    }
    if (found->is_dead_set_bad && found->state != LOAD_MENDING) {
        block_report(b, STORE_DAMAGE_INDEX, NULL);
    }
    count_loaded(b);
}

struct store_load *store_load_begin(struct store_stream *s, store_info_cb info, store_item_cb item,
                                    void *arg)
{
    struct store_load *ld = xcalloc(1, sizeof *ld);
    assert(s->store->job == NULL);
    assert(info == NULL || !s->is_loaded);
    *ld = (struct store_load){.s = s, .info = info, .item = item, .arg = arg};
    ld->blocks = xcalloc(s->end - s->head + 1, sizeof *ld->blocks);
    s->store->loads_count++;
    return ld;
}

void store_load_run(struct store_load *ld)
{
    struct store_stream *s = ld->s;
    struct checkpoint *c = s->store->checkpoint;
    int rv = 0;
    if (ld->info != NULL) {
        rv = checkpoint_read(c, s->gid, KIND_BIT(KIND_DEAD), on_load_item, ld);
        struct buf scratch = BUF_EMPTY;
        for (size_t i = s->head; i < s->end && rv == 0; i++) {
            rv = load_block(s->blocks[i], ld, &ld->blocks[i - s->head], &scratch);
        }
        buf_close(&scratch);
    }
    if (rv == 0 && ld->item != NULL) {
        rv = checkpoint_read(c, s->gid, KIND_BIT(KIND_ITEM), on_load_item, ld);
    }
    ld->status = rv;
}

int store_load_end(struct store_load *ld)
{
    struct store_stream *s = ld->s;
    int rv = ld->status;
    if (rv == ERR_IO) {
        store_fail(s->store, s->store->dir); /* No copy of the journal can be read. */
    }
    for (size_t i = s->head; i < s->end && ld->info != NULL; i++) {
        settle(s->blocks[i], &ld->blocks[i - s->head]);
    }
    s->is_loaded = s->is_loaded || ld->info != NULL;
    s->store->loads_count--;
    struct dead_set *d, *tmp;
    HASH_ITER(hh, ld->dead, d, tmp)
    {
        HASH_DEL(ld->dead, d);
        buf_close(&d->value);
        free(d);
    }
    free(ld->blocks);
    free(ld);
    return rv;
}

int store_stream_load(struct store_stream *s, store_info_cb info, store_item_cb item, void *arg)
{
    struct store_load *ld = store_load_begin(s, info, item, arg);
    store_load_run(ld);
    return store_load_end(ld);
}
