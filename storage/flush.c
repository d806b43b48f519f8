/* The loop's half of a flush. The ladder (design 5):
 *
 *   begin  freezes tails, gathers the journal's items, plans which old blocks move
 *   run    unlinks what step 5 of earlier passes released, then
 *          1 writes blocks behind the durable ends of files, or into new files
 *          2 fdatasyncs each file, and the directory if a file is new
 *          3 commits one journal frame (a new generation: tmp, sync, rename, directory sync)
 *   end    publishes places, hands out the durable applied indexes: 4, the host appends BASE
 *   5      store_base_durable() releases files; a later run unlinks them
 *
 * What the loop does between begin and end: it appends behind the frozen tails; removals set bits
 * and mark blocks dirty for the next pass; blocks and streams that die while the job holds them are
 * kept until end, which knows what became of them. */
#include <assert.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/flush_internal.h"

/* Neighbours together below it are worth merging. */
#define MERGE_RUN_MIN 4u

static void *grow(void *ptr, size_t count, size_t *cap, size_t item_bytes)
{
    if (count < *cap) {
        return ptr;
    }
    *cap = *cap == 0 ? 16 : *cap * 2;
    return xrealloc(ptr, *cap * item_bytes);
}

void job_touch(struct store_flush *job, struct data_file *f)
{
    if (!f->is_touched) {
        f->is_touched = true;
        job->touched =
            grow(job->touched, job->touched_count, &job->touched_cap, sizeof *job->touched);
        job->touched[job->touched_count++] = f;
    }
}

static struct flush_out *out_new(struct store_flush *job, enum out_type type,
                                 const struct store_stream *s, uint32_t srcs_count)
{
    struct flush_out *o = xcalloc(1, sizeof *o);
    o->type = type;
    o->owner = (struct block_owner){s->gid, s->sid, job->st->options.machine_version};
    o->srcs = xcalloc(srcs_count, sizeof *o->srcs);
    o->srcs_count = srcs_count;
    job->outs = grow(job->outs, job->outs_count, &job->outs_cap, sizeof *job->outs);
    job->outs[job->outs_count++] = o;
    return o;
}

static void out_source(struct flush_out *o, uint32_t i, struct block *b)
{
    b->in_job = true;
    o->srcs[i] = (struct flush_src){
        .block = b, .file = b->file, .id = b->id, .off = b->off, .meta = block_meta_of(b)};
    bitset_copy(&o->srcs[i].skip, &b->gone);
}

static void out_free(struct flush_out *o)
{
    for (uint32_t i = 0; i < o->srcs_count; i++) {
        bitset_close(&o->srcs[i].skip);
    }
    mem_unref(o->mem);
    free(o->srcs);
    free(o);
}

/* ---- Which file ---- */

static struct flush_file *file_in_job(struct store_flush *job, struct data_file *f)
{
    for (size_t i = 0; i < job->files_count; i++) {
        if (job->files[i]->file == f) {
            return job->files[i];
        }
    }
    return NULL;
}

/* Append to *slot's file while it has room, else begin another. */
static struct flush_file *choose_file(struct store_flush *job, struct data_file **slot,
                                      uint64_t bytes)
{
    struct store *st = job->st;
    struct data_file *f = *slot;
    struct flush_file *ff = f == NULL ? NULL : file_in_job(job, f);
    bool is_usable = f != NULL && f->died_generation == 0 &&
                     (f->blocks_count > 0 || f->bytes == 0) &&
                     (ff != NULL ? ff->planned : f->bytes) < st->options.file_bytes;
    if (!is_usable) {
        f = file_new(st, st->next_file++);
        *slot = f;
        ff = NULL;
    }
    if (ff == NULL) {
        ff = xcalloc(1, sizeof *ff);
        *ff = (struct flush_file){
            .file = f, .end = align_up(f->bytes), .planned = f->bytes, .is_new = f->bytes == 0};
        job->files = grow(job->files, job->files_count, &job->files_cap, sizeof *job->files);
        job->files[job->files_count++] = ff;
        job_touch(job, f);
    }
    ff->planned += bytes;
    return ff;
}

/* ---- Begin ---- */

static bool is_releasable(const struct store *st, const struct data_file *f)
{
    if (f->died_generation == 0 || f->dead_pass > st->base_pass || f->pins > 0) {
        return false;
    }
    /* The journal of the previous generation ends before this one began: it names what lived
     * then. */
    uint64_t generation = checkpoint_generation(st->checkpoint);
    return f->died_generation < generation || f->created_generation >= generation;
}

static void plan_unlinks(struct store_flush *job)
{
    struct store *st = job->st;
    uint64_t waiting = 0;
    struct data_file *f, *tmp;
    job->unlinks = xcalloc(HASH_COUNT(st->files) + 1, sizeof(struct data_file *));
    HASH_ITER(hh, st->files, f, tmp)
    {
        if (is_releasable(st, f)) {
            job->unlinks[job->unlinks_count++] = f;
            uint8_t key[8];
            put_u64(key, f->number);
            checkpoint_del(st->checkpoint, 0, KIND_FILE, slice_of(key, sizeof key));
        } else if (f->died_generation != 0 && f->dead_pass <= st->base_pass && f->pins == 0) {
            waiting += f->bytes;
        }
    }
    if (waiting > st->options.dead_bytes_max) {
        /* Only the former generation still names them. */
        checkpoint_want_generation(st->checkpoint);
    }
    struct dead_journal **at = &st->dead_journals;
    while (*at != NULL) {
        struct dead_journal *d = *at;
        if (d->dead_pass <= st->base_pass && st->images_count == 0) {
            *at = d->next;
            d->next = job->journals;
            job->journals = d;
        } else {
            at = &d->next;
        }
    }
}

static void block_forgotten(struct store_flush *job, struct data_file *f)
{
    assert(f->blocks_count > 0);
    f->blocks_count--;
    job_touch(job, f);
}

static void plan_dropped(struct store_flush *job)
{
    struct store *st = job->st;
    while (st->dropped != NULL) {
        struct dropped *d = st->dropped;
        st->dropped = d->next;
        checkpoint_drop_group(st->checkpoint, d->gid);
        for (size_t i = 0; i < d->blocks.count; i++) {
            block_forgotten(job, d->blocks.items[i].file);
        }
        free(d->blocks.items);
        free(d);
    }
}

/* Move the live blocks out of files that are mostly dead. */
static void plan_copies(struct store_flush *job)
{
    struct store *st = job->st;
    struct data_file *f, *tmp;
    HASH_ITER(hh, st->files, f, tmp)
    {
        if (f->died_generation != 0 || f->bytes < BLOCK_ALIGN || f->pins > 0 ||
            f == st->shared_file || f->live_bytes * 2 >= f->bytes || list_is_empty(&f->blocks)) {
            continue;
        }
        LIST_FOR(it, &f->blocks)
        {
            struct block *b = container_of(it, struct block, in_file);
            if (b->bytes > job->rewrite_left || b->is_fixed || b->is_unreadable ||
                b->s->own_file == f) {
                continue;
            }
            /* A block that is itself mostly dead is rebuilt with its stream. */
            if (b->live_bytes * 2 < b->bytes && b->s->is_loaded) {
                continue;
            }
            job->rewrite_left -= b->bytes;
            struct flush_out *o = out_new(job, OUT_COPY, b->s, 1);
            o->id = b->id;
            out_source(o, 0, b);
            o->to = choose_file(job, &st->shared_file, b->bytes);
        }
    }
}

int store_flush_begin(struct store *st, struct store_flush **ret_job)
{
    if (st->job != NULL || st->loads_count > 0) {
        return ERR_BUSY;
    }
    struct store_flush *job = xcalloc(1, sizeof *job);
    job->st = st;
    job->rewrite_left = st->options.rewrite_bytes;
    job->old_generation = checkpoint_generation(st->checkpoint);
    st->job = job;
    if (st->is_journal_damaged) {
        checkpoint_want_generation(st->checkpoint);
        st->is_journal_damaged = false;
    }
    plan_unlinks(job);
    plan_dropped(job);
    plan_copies(job);
    job->next_file = st->next_file;
    job->next_block = st->next_block;
    *ret_job = job;
    return 0;
}

static void freeze(struct store_flush *job, struct block *b, struct data_file **slot)
{
    b->state = BLOCK_FROZEN;
    b->id = job->st->next_block++;
    struct flush_out *o = out_new(job, OUT_TAIL, b->s, 1);
    o->id = b->id;
    out_source(o, 0, b);
    o->mem = b->mem;
    mem_ref(b->mem);
    o->to = choose_file(job, slot, b->live_bytes);
}

static void put_dead_set(struct store_flush *job, struct block *b)
{
    uint8_t key[8];
    struct buf value = BUF_EMPTY;
    put_u64(key, b->id);
    bitset_encode(&b->gone, &value);
    checkpoint_put(job->st->checkpoint, b->s->gid, KIND_DEAD, slice_of(key, sizeof key),
                   buf_slice(&value));
    buf_close(&value);
    b->is_dirty = false;
}

static bool can_rebuild(const struct block *b)
{
    return b->state == BLOCK_DISK && !b->in_job && !b->is_fixed && !b->is_unreadable &&
           b->file->pins == 0;
}

/* Blocks [from, to) of the table become one. */
static void plan_rebuild(struct store_flush *job, struct store_stream *s, size_t from, size_t to,
                         struct data_file **slot)
{
    struct flush_out *o = out_new(job, OUT_REBUILD, s, (uint32_t)(to - from));
    uint64_t bytes = 0;
    for (size_t i = from; i < to; i++) {
        struct block *b = s->blocks[i];
        b->is_dirty = false;
        bytes += b->live_bytes;
        job->rewrite_left -= b->bytes;
        out_source(o, (uint32_t)(i - from), b);
    }
    o->id = job->st->next_block++;
    o->to = choose_file(job, slot, bytes);
}

/* The end of a run of neighbours from @from on that are worth making one block; @from if none. */
static size_t merge_end(const struct store_flush *job, const struct store_stream *s, size_t from)
{
    uint64_t total = 0;
    uint64_t largest = 0;
    const struct store_options *op = &job->st->options;
    uint64_t live = 0;
    uint64_t read = 0;
    int64_t low = INT64_MAX;
    int64_t high = INT64_MIN;
    size_t i = from;
    for (; i < s->end; i++) {
        const struct block *b = s->blocks[i];
        low = b->time_min_ns < low ? b->time_min_ns : low;
        high = b->time_max_ns > high ? b->time_max_ns : high;
        live += b->live_bytes;
        read += b->bytes;
        if (!can_rebuild(b) || live > op->block_bytes || read > job->rewrite_left ||
            b->last_seq - s->blocks[from]->first_seq >= BLOCK_SPAN_MAX ||
            high - low > BLOCK_TIME_SPAN_MAX || b->live_bytes * 4 > op->block_bytes * 3) {
            break;
        }
        total = live;
        largest = b->live_bytes > largest ? b->live_bytes : largest;
    }
    /* Only equals merge: a large block is not written again for each small one that comes. */
    return i - from >= MERGE_RUN_MIN && total >= 2 * largest ? i : from;
}

/* What was damaged and is whole again in memory. */
static void plan_mends(struct store_flush *job, struct store_stream *s, struct data_file **slot)
{
    for (size_t i = s->head; i < s->end; i++) {
        struct block *b = s->blocks[i];
        if (!b->is_mended || b->in_job || b->state != BLOCK_DISK || b->file->pins > 0) {
            continue;
        }
        struct flush_out *o = out_new(job, OUT_REBUILD, s, 1);
        b->is_dirty = false;
        out_source(o, 0, b);
        o->mem = b->mem;
        mem_ref(b->mem);
        o->id = job->st->next_block++;
        o->to = choose_file(job, slot, b->live_bytes);
    }
}

static void plan_rebuilds(struct store_flush *job, struct store_stream *s, struct data_file **slot)
{
    for (size_t i = s->head; i < s->end && job->rewrite_left > 0; i++) {
        struct block *b = s->blocks[i];
        if (!can_rebuild(b) || b->bytes > job->rewrite_left) {
            continue;
        }
        size_t to = merge_end(job, s, i);
        if (to > i) {
            plan_rebuild(job, s, i, to, slot);
            i = to - 1;
        } else if (b->live_bytes * 2 < b->index_off && b->bytes >= BLOCK_ALIGN) {
            plan_rebuild(job, s, i, i + 1, slot);
        }
    }
}

static void put_stream(struct store_flush *job, const struct store_stream *s, uint64_t index,
                       uint64_t term)
{
    uint8_t v[STREAM_VALUE_BYTES];
    put_u64(v, s->sid);
    put_u64(v + 8, index);
    put_u64(v + 16, term);
    put_u64(v + 24, s->last_seq);
    checkpoint_put(job->st->checkpoint, s->gid, KIND_STREAM, SLICE_EMPTY, slice_of(v, sizeof v));
}

/* Tail blocks without a live message are simply forgotten; the others freeze. */
static void freeze_tail(struct store_flush *job, struct store_stream *s, struct data_file **slot)
{
    for (size_t i = s->head; i < s->end; i++) {
        if (s->blocks[i]->state == BLOCK_TAIL) {
            freeze(job, s->blocks[i], slot);
        }
    }
}

void store_flush_stream(struct store_flush *job, struct store_stream *s, uint64_t index,
                        uint64_t term)
{
    struct store *st = job->st;
    assert(!job->has_run);
    assert(!s->in_job);
    assert(s->is_loaded);
    s->in_job = true;
    job->streams = grow(job->streams, job->streams_count, &job->streams_cap, sizeof *job->streams);
    job->streams[job->streams_count++] = (struct flush_stream){s, s->gid, index, term};
    put_stream(job, s, index, term);
    for (size_t i = 0; i < s->gone.count; i++) {
        uint8_t key[8];
        put_u64(key, s->gone.items[i].id);
        checkpoint_del(st->checkpoint, s->gid, KIND_BLOCK, slice_of(key, sizeof key));
        checkpoint_del(st->checkpoint, s->gid, KIND_DEAD, slice_of(key, sizeof key));
        block_forgotten(job, s->gone.items[i].file);
    }
    s->gone.count = 0;
    struct data_file **slot =
        s->dirty_bytes >= st->options.small_bytes ? &s->own_file : &st->shared_file;
    plan_mends(job, s, slot);
    plan_rebuilds(job, s, slot);
    for (size_t i = s->head; i < s->end; i++) {
        if (s->blocks[i]->is_dirty && s->blocks[i]->state == BLOCK_DISK) {
            put_dead_set(job, s->blocks[i]);
        }
    }
    freeze_tail(job, s, slot);
    job->next_file = st->next_file;
    job->next_block = st->next_block;
}

void store_flush_put(struct store_flush *job, struct store_stream *s, struct slice key,
                     struct slice value)
{
    assert(s->in_job);
    assert(key.len <= STORE_KEY_BYTES_MAX);
    assert(value.len <= STORE_VALUE_BYTES_MAX);
    checkpoint_put(job->st->checkpoint, s->gid, KIND_ITEM, key, value);
}

void store_flush_del(struct store_flush *job, struct store_stream *s, struct slice key)
{
    assert(s->in_job);
    checkpoint_del(job->st->checkpoint, s->gid, KIND_ITEM, key);
}

bool store_flush_is_due(const struct store *st)
{
    if (st->job != NULL) {
        return false; /* What is due is only known at its end; the files are the job's. */
    }
    if (st->dropped != NULL || st->is_journal_damaged) {
        return true;
    }
    const struct data_file *f, *tmp;
    HASH_ITER(hh, st->files, f, tmp)
    {
        if (is_releasable(st, f)) {
            return true;
        }
    }
    return false;
}

void store_base_durable(struct store *st, uint64_t pass)
{
    st->base_pass = pass > st->base_pass ? pass : st->base_pass;
}

/* ---- End ---- */

/* The journal names block @id in @f, and it is not wanted: the next pass takes it out. */
static void forget_later(struct store *st, uint64_t gid, uint64_t id, struct data_file *f)
{
    /* Deleted meanwhile; another of that gid may have been created since. */
    struct dropped *d = st->dropped;
    while (d != NULL && d->gid != gid) {
        d = d->next;
    }
    if (d != NULL) {
        gone_push(&d->blocks, id, f);
        return;
    }
    struct store_stream *s = store_find(st, gid);
    assert(s != NULL);
    gone_push(&s->gone, id, f);
}

static void place(struct block *b, const struct flush_out *o)
{
    b->id = o->id;
    b->off = o->off;
    b->bytes = o->meta.bytes;
    b->index_off = o->meta.index_off;
    b->crc = o->meta.crc;
    b->records_count = o->meta.count;
    b->state = BLOCK_DISK;
}

/* The block was written from its first to its last live message: what stood outside is gone. */
static void narrow(struct block *b, const struct block_meta *meta)
{
    struct bitset gone = {.bits = (uint32_t)(meta->last_seq - meta->first_seq + 1)};
    uint32_t shift = (uint32_t)(meta->first_seq - b->first_seq);
    for (uint32_t i = 0; i < gone.bits; i++) {
        if (bitset_has(&b->gone, i + shift)) {
            bitset_set(&gone, i);
        }
    }
    bitset_close(&b->gone);
    b->gone = gone;
    b->first_seq = meta->first_seq;
    b->last_seq = meta->last_seq;
    b->time_min_ns = meta->time_min_ns;
    b->time_max_ns = meta->time_max_ns;
}

static void end_tail(struct store *st, struct flush_out *o)
{
    struct block *b = o->srcs[0].block;
    b->in_job = false;
    if (b->is_dead) {
        forget_later(st, o->owner.gid, o->id, o->to->file);
        block_free(b);
        return;
    }
    struct store_stream *s = b->s;
    s->dirty_bytes -= b->live_bytes;
    s->dirty_messages -= b->live_count;
    st->totals.dirty_bytes -= b->live_bytes;
    narrow(b, &o->meta);
    place(b, o);
    block_attach_file(b, o->to->file);
    /* It stays readable where it is, as long as the cache has room. */
    struct store_mem *mem = b->mem;
    b->mem = NULL;
    block_cache(b, mem);
}

/* Reading it for rewriting found damage. Which messages, the next read of one will tell. */
static void report_unmoved(struct block *b)
{
    bool was_reported = b->is_reported;
    block_report(b, STORE_DAMAGE_BLOCK, NULL);
    b->is_reported = was_reported;
}

static void end_copy(struct store *st, struct flush_out *o)
{
    struct block *b = o->srcs[0].block;
    b->in_job = false;
    struct data_file *f = o->status == 0 ? o->to->file : o->srcs[0].file;
    if (b->is_dead) {
        forget_later(st, o->owner.gid, b->id, f);
        block_detach_file(b);
        block_free(b);
        return;
    }
    if (o->status != 0) {
        report_unmoved(b);
        return;
    }
    block_detach_file(b);
    b->off = o->off;
    block_attach_file(b, f);
}

static void rebuild_failed(struct store *st, struct flush_out *o)
{
    for (uint32_t i = 0; i < o->srcs_count; i++) {
        struct block *b = o->srcs[i].block;
        b->in_job = false;
        if (b->is_dead) {
            forget_later(st, o->owner.gid, b->id, o->srcs[i].file);
            block_detach_file(b);
            block_free(b);
            continue;
        }
        /* Its removals were to be dropped by the rewriting. */
        b->is_dirty = true;
        if (o->srcs_count == 1) {
            report_unmoved(b);
        }
        /* Which of several it was is not known: none is tried again. */
        b->is_fixed = true;
    }
}

/* Everything that is gone now, seen from the new block. */
static void rebuilt_gone(struct block *nb, const struct flush_out *o)
{
    uint32_t span = (uint32_t)(nb->last_seq - nb->first_seq + 1);
    nb->gone = (struct bitset){.bits = span};
    bitset_set_range(&nb->gone, 0, span - 1);
    struct bitset *g = &nb->gone;
    for (uint32_t i = 0; i < o->srcs_count; i++) {
        const struct block *b = o->srcs[i].block;
        for (uint64_t seq = b->first_seq; seq <= b->last_seq && !b->is_dead; seq++) {
            if (seq < nb->first_seq || seq > nb->last_seq ||
                bitset_has(&b->gone, (uint32_t)(seq - b->first_seq))) {
                continue;
            }
            uint32_t slot = (uint32_t)(seq - nb->first_seq);
            g->words[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
            g->count--;
        }
    }
}

static void end_rebuild(struct store *st, struct flush_out *o)
{
    if (o->status != 0) {
        rebuild_failed(st, o);
        return;
    }
    struct store_stream *s = o->srcs[0].block->s;
    struct block *nb = block_new(s);
    nb->first_seq = o->meta.first_seq;
    nb->last_seq = o->meta.last_seq;
    nb->time_min_ns = o->meta.time_min_ns;
    nb->time_max_ns = o->meta.time_max_ns;
    place(nb, o);
    rebuilt_gone(nb, o);
    nb->live_count = nb->last_seq - nb->first_seq + 1 > nb->gone.count
                         ? (uint32_t)(nb->last_seq - nb->first_seq + 1) - nb->gone.count
                         : 0;
    nb->is_dirty = nb->live_count < nb->records_count;
    bool is_placed = false;
    size_t at = 0;
    for (uint32_t i = 0; i < o->srcs_count; i++) {
        struct block *b = o->srcs[i].block;
        nb->live_bytes += b->live_bytes;
        if (!b->is_dead) {
            /* Those that are left are neighbours still. */
            at = is_placed ? at + 1 : blocks_search(s, b->first_seq);
            assert(s->blocks[at] == b);
            if (!is_placed) {
                s->blocks[at] = nb;
                is_placed = true;
            } else {
                memmove(s->blocks + at, s->blocks + at + 1, (s->end - at - 1) * sizeof *s->blocks);
                s->end--;
                at--;
            }
        }
        block_detach_file(b);
        b->in_job = false;
        block_free(b);
    }
    if (!is_placed) {
        forget_later(st, o->owner.gid, o->id, o->to->file);
        block_free(nb);
        return;
    }
    assert(nb->live_count > 0);
    block_attach_file(nb, o->to->file);
}

static void end_outs(struct store_flush *job)
{
    for (size_t i = 0; i < job->outs_count; i++) {
        struct flush_out *o = job->outs[i];
        if (o->status == ERR_CANCELED) {
            continue;
        }
        switch (o->type) {
        case OUT_TAIL:
            end_tail(job->st, o);
            break;
        case OUT_COPY:
            end_copy(job->st, o);
            break;
        default:
            end_rebuild(job->st, o);
        }
    }
}

static void end_files(struct store_flush *job)
{
    struct store *st = job->st;
    for (size_t i = 0; i < job->touched_count; i++) {
        struct data_file *f = job->touched[i];
        f->is_touched = false;
        if (f->bytes == 0 && f->blocks_count == 0) {
            file_free(st, f); /* Chosen, and then nothing was written. */
        }
    }
    for (size_t i = 0; i < job->unlinks_count; i++) {
        file_free(st, job->unlinks[i]);
    }
}

static void end_generation(struct store_flush *job, uint64_t pass)
{
    struct store *st = job->st;
    uint64_t generation = checkpoint_generation(st->checkpoint);
    if (generation == job->old_generation || job->old_generation == 0) {
        return;
    }
    if (st->previous_generation != 0) {
        struct dead_journal *d = xcalloc(1, sizeof *d);
        *d = (struct dead_journal){st->dead_journals, st->previous_generation, pass};
        st->dead_journals = d;
    }
    st->previous_generation = job->old_generation;
}

static void job_free(struct store_flush *job)
{
    for (size_t i = 0; i < job->outs_count; i++) {
        out_free(job->outs[i]);
    }
    for (size_t i = 0; i < job->files_count; i++) {
        free(job->files[i]);
    }
    while (job->journals != NULL) {
        struct dead_journal *d = job->journals;
        job->journals = d->next;
        free(d);
    }
    free(job->streams);
    free(job->outs);
    free(job->files);
    free(job->touched);
    free(job->unlinks);
    job->st->job = NULL;
    free(job);
}

uint64_t store_flush_end(struct store_flush *job, store_durable_cb cb, void *arg)
{
    struct store *st = job->st;
    assert(job->has_run);
    end_outs(job);
    while (job->stages != NULL) {
        struct store_stage *sg = job->stages;
        job->stages = stage_next(sg);
        stage_end(job, sg);
    }
    for (size_t i = 0; i < job->streams_count; i++) {
        struct flush_stream *fs = &job->streams[i];
        fs->s->in_job = false;
        fs->s->applied_index = fs->index;
        fs->s->applied_term = fs->term;
        if (fs->s->is_deleted) {
            store_stream_free(fs->s);
        } else if (cb != NULL) {
            cb(arg, fs->gid, fs->index, fs->term);
        }
    }
    end_files(job);
    uint64_t pass = checkpoint_pass(st->checkpoint);
    end_generation(job, pass);
    if (job->is_journal_rotten) {
        struct store_damage d = {STORE_DAMAGE_CHECKPOINT, 0, 0, 0, st->error_path};
        store_report(st, &d);
    }
    job_free(job);
    store_count_totals(st);
    store_cache_trim(st);
    return pass;
}

void store_flush_abort(struct store_flush *job)
{
    for (size_t i = 0; i < job->outs_count; i++) {
        struct flush_out *o = job->outs[i];
        for (uint32_t k = 0; k < o->srcs_count && o->status != ERR_CANCELED; k++) {
            struct block *b = o->srcs[k].block;
            b->in_job = false;
            if (b->is_dead) {
                block_detach_file(b);
                block_free(b);
            }
        }
    }
    while (job->stages != NULL) {
        struct store_stage *sg = job->stages;
        job->stages = stage_next(sg);
        stage_abort(sg);
    }
    for (size_t i = 0; i < job->streams_count; i++) {
        job->streams[i].s->in_job = false;
        if (job->streams[i].s->is_deleted) {
            store_stream_free(job->streams[i].s);
        }
    }
    job_free(job);
}
