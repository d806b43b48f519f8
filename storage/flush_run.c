/* The flusher's half of a flush: steps 1 to 3 of the ladder (flush.c). It touches the job, the
 * journal and the durable fields of data files, nothing else. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/flush_internal.h"

static int unlink_released(struct store_flush *job)
{
    struct store *st = job->st;
    char path[STORE_PATH_BYTES];
    for (size_t i = 0; i < job->unlinks_count; i++) {
        store_file_path(st, job->unlinks[i]->number, path);
        int rv = st->ops->unlink(st->ops->ctx, path);
        if (rv != 0 && rv != ERR_NOTFOUND) {
            store_fail(st, path);
            return rv;
        }
    }
    for (struct dead_journal *d = job->journals; d != NULL; d = d->next) {
        for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
            checkpoint_path(st->dir, d->generation, i, path, sizeof path);
            int rv = st->ops->unlink(st->ops->ctx, path);
            if (rv != 0 && rv != ERR_NOTFOUND) {
                store_fail(st, path);
                return rv;
            }
        }
    }
    return 0;
}

/* ---- The three kinds of blocks ---- */

static int build_tail(struct flush_out *o, struct buf *out)
{
    const struct flush_src *src = &o->srcs[0];
    const uint8_t **live = xcalloc(o->mem->span, sizeof *live);
    for (uint32_t i = 0; i < o->mem->span; i++) {
        live[i] = bitset_has(&src->skip, i) ? NULL : o->mem->records[i];
    }
    block_build(out, &o->owner, live, o->mem->span, &o->meta);
    free(live);
    return 0;
}

/* The memory may begin before the block. */
static int build_mended(struct flush_out *o, struct buf *out)
{
    const struct flush_src *src = &o->srcs[0];
    uint32_t span = (uint32_t)(src->meta.last_seq - src->meta.first_seq + 1);
    uint64_t shift = src->meta.first_seq - o->mem->first_seq;
    const uint8_t **live = xcalloc(span, sizeof *live);
    for (uint32_t i = 0; i < span; i++) {
        live[i] = bitset_has(&src->skip, i) ? NULL : o->mem->records[shift + i];
    }
    block_build(out, &o->owner, live, span, &o->meta);
    free(live);
    return 0;
}

static int build_copy(struct store_flush *job, struct flush_out *o, struct buf *out)
{
    struct store *st = job->st;
    const struct flush_src *src = &o->srcs[0];
    char path[STORE_PATH_BYTES];
    store_file_path(st, src->file->number, path);
    struct file *f;
    int rv = st->ops->open(st->ops->ctx, path, FILE_READ, &f);
    if (rv != 0) {
        return ERR_CORRUPT;
    }
    size_t n = 0;
    rv = st->ops->pread(st->ops->ctx, f, buf_reserve(out, src->meta.bytes), src->meta.bytes,
                        src->off, &n);
    st->ops->close(st->ops->ctx, f);
    if (rv != 0 || n != src->meta.bytes || crc32c(0, out->ptr + out->len, n) != src->meta.crc) {
        return ERR_CORRUPT;
    }
    out->len += n;
    o->meta = src->meta;
    return 0;
}

static int build_rebuild(struct store_flush *job, struct flush_out *o, struct buf *out)
{
    struct store_mem **mems = xcalloc(o->srcs_count, sizeof(struct store_mem *));
    const uint8_t **live = NULL;
    size_t count = 0;
    int rv = 0;
    for (uint32_t i = 0; i < o->srcs_count && rv == 0; i++) {
        const struct flush_src *src = &o->srcs[i];
        bool is_index_bad;
        rv = block_read(job->st, &o->owner, src->file->number, src->off, &src->meta, &mems[i],
                        &is_index_bad);
        if (rv != 0) {
            rv = ERR_CORRUPT; /* Also an error of reading: the sources stay as they are. */
            break;
        }
        live = xrealloc(live, (count + mems[i]->span) * sizeof *live);
        for (uint32_t slot = 0; slot < mems[i]->span; slot++) {
            live[count++] = bitset_has(&src->skip, slot) ? NULL : mems[i]->records[slot];
        }
    }
    if (rv == 0) {
        block_build(out, &o->owner, live, count, &o->meta);
    }
    for (uint32_t i = 0; i < o->srcs_count; i++) {
        mem_unref(mems[i]);
    }
    free(live);
    free(mems);
    return rv;
}

static void put_block(struct store_flush *job, const struct flush_out *o)
{
    struct block b = {.off = o->off,
                      .bytes = o->meta.bytes,
                      .index_off = o->meta.index_off,
                      .first_seq = o->meta.first_seq,
                      .last_seq = o->meta.last_seq,
                      .time_min_ns = o->meta.time_min_ns,
                      .time_max_ns = o->meta.time_max_ns,
                      .records_count = o->meta.count,
                      .crc = o->meta.crc};
    uint8_t key[8];
    uint8_t value[BLOCK_VALUE_BYTES];
    put_u64(key, o->id);
    block_encode(&b, o->to->file->number, value);
    checkpoint_put(job->st->checkpoint, o->owner.gid, KIND_BLOCK, slice_of(key, sizeof key),
                   slice_of(value, sizeof value));
}

static void forget_sources(struct store_flush *job, const struct flush_out *o)
{
    for (uint32_t i = 0; i < o->srcs_count; i++) {
        const struct flush_src *src = &o->srcs[i];
        assert(src->file->blocks_count > 0);
        src->file->blocks_count--;
        job_touch(job, src->file);
        if (o->type == OUT_REBUILD) {
            uint8_t key[8];
            put_u64(key, src->id);
            checkpoint_del(job->st->checkpoint, o->owner.gid, KIND_BLOCK, slice_of(key, 8));
            checkpoint_del(job->st->checkpoint, o->owner.gid, KIND_DEAD, slice_of(key, 8));
        }
    }
}

static void put_old_dead_sets(struct store_flush *job, const struct flush_out *o)
{
    /* The removals that rewriting would have dropped belong to this checkpoint all the same. */
    for (uint32_t i = 0; i < o->srcs_count && o->type == OUT_REBUILD; i++) {
        const struct flush_src *src = &o->srcs[i];
        uint8_t key[8];
        struct buf value = BUF_EMPTY;
        put_u64(key, src->id);
        bitset_encode(&src->skip, &value);
        checkpoint_put(job->st->checkpoint, o->owner.gid, KIND_DEAD, slice_of(key, 8),
                       buf_slice(&value));
        buf_close(&value);
    }
}

static int run_out(struct store_flush *job, struct flush_out *o, struct buf *scratch)
{
    buf_clear(scratch);
    switch (o->type) {
    case OUT_TAIL:
        o->status = build_tail(o, scratch);
        break;
    case OUT_COPY:
        o->status = build_copy(job, o, scratch);
        break;
    default:
        o->status = o->mem != NULL ? build_mended(o, scratch) : build_rebuild(job, o, scratch);
    }
    if (o->status != 0) {
        put_old_dead_sets(job, o);
        return 0;
    }
    int rv = flush_write(job, o->to, buf_slice(scratch), &o->off);
    if (rv != 0) {
        return rv;
    }
    o->to->file->blocks_count++;
    put_block(job, o);
    if (o->type != OUT_TAIL) {
        forget_sources(job, o);
    }
    return 0;
}

/* ---- Step 2, step 3 ---- */

static int sync_files(struct store_flush *job)
{
    struct store *st = job->st;
    int rv = 0;
    bool has_new = false;
    for (size_t i = 0; i < job->files_count; i++) {
        struct flush_file *ff = job->files[i];
        if (ff->open == NULL) {
            continue;
        }
        if (rv == 0) {
            rv = st->ops->sync(st->ops->ctx, ff->open);
            if (rv != 0) {
                char path[STORE_PATH_BYTES];
                store_file_path(st, ff->file->number, path);
                store_fail(st, path);
            }
        }
        st->ops->close(st->ops->ctx, ff->open);
        ff->open = NULL;
        ff->file->bytes = ff->end;
        has_new = has_new || ff->is_new;
    }
    if (rv == 0 && has_new) {
        rv = st->ops->sync_dir(st->ops->ctx, st->dir);
        if (rv != 0) {
            store_fail(st, st->dir);
        }
    }
    return rv;
}

static void put_files(struct store_flush *job)
{
    struct checkpoint *c = job->st->checkpoint;
    uint64_t generation = checkpoint_next_generation(c);
    uint64_t pass = checkpoint_pass(c) + 1;
    for (size_t i = 0; i < job->touched_count; i++) {
        struct data_file *f = job->touched[i];
        if (f->bytes == 0 && f->blocks_count == 0) {
            continue;
        }
        f->created_generation = f->created_generation == 0 ? generation : f->created_generation;
        if (f->blocks_count == 0 && f->died_generation == 0) {
            f->died_generation = generation;
            f->dead_pass = pass;
        }
        uint8_t key[8];
        uint8_t v[FILE_VALUE_BYTES];
        put_u64(key, f->number);
        put_u64(v, f->bytes);
        put_u64(v + 8, f->created_generation);
        put_u64(v + 16, f->died_generation);
        put_u64(v + 24, f->dead_pass);
        checkpoint_put(c, 0, KIND_FILE, slice_of(key, sizeof key), slice_of(v, sizeof v));
    }
    uint8_t v[16];
    put_u64(v, job->next_file);
    put_u64(v + 8, job->next_block);
    checkpoint_put(c, 0, KIND_COUNTERS, SLICE_EMPTY, slice_of(v, sizeof v));
}

int store_flush_run(struct store_flush *job)
{
    struct store *st = job->st;
    assert(!job->has_run);
    job->has_run = true;
    int rv = unlink_released(job);
    struct buf scratch = BUF_EMPTY;
    for (size_t i = 0; i < job->outs_count && rv == 0; i++) {
        if (job->outs[i]->status != ERR_CANCELED) {
            rv = run_out(job, job->outs[i], &scratch);
        }
    }
    buf_close(&scratch);
    rv = rv == 0 ? flush_write_rest(job) : rv;
    flush_write_close(job);
    for (struct store_stage *sg = job->stages; sg != NULL && rv == 0; sg = stage_next(sg)) {
        rv = stage_run(job, sg);
    }
    if (rv != 0) {
        for (size_t i = 0; i < job->files_count; i++) {
            if (job->files[i]->open != NULL) {
                st->ops->close(st->ops->ctx, job->files[i]->open);
                job->files[i]->open = NULL;
            }
        }
        return rv;
    }
    rv = sync_files(job);
    if (rv != 0) {
        return rv;
    }
    put_files(job);
    const char *path;
    rv = checkpoint_commit(st->checkpoint, &path, &job->is_journal_rotten);
    if (rv != 0 || job->is_journal_rotten) {
        store_fail(st, path);
    }
    return rv;
}
