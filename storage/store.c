#include "storage/store.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/store_internal.h"

/* ---- Small things shared ---- */

void store_file_path(const struct store *st, uint64_t number, char *out)
{
    snprintf(out, STORE_PATH_BYTES, "%s/data-%016" PRIx64 ".wblk", st->dir, number);
}

struct data_file *file_find(struct store *st, uint64_t number)
{
    struct data_file *f;
    HASH_FIND(hh, st->files, &number, sizeof number, f);
    return f;
}

struct data_file *file_new(struct store *st, uint64_t number)
{
    struct data_file *f = xcalloc(1, sizeof *f);
    f->number = number;
    list_init(&f->blocks);
    HASH_ADD(hh, st->files, number, sizeof f->number, f);
    return f;
}

void file_free(struct store *st, struct data_file *f)
{
    if (st->shared_file == f) {
        st->shared_file = NULL;
    }
    struct store_stream *s, *tmp;
    HASH_ITER(hh, st->streams, s, tmp)
    {
        s->own_file = s->own_file == f ? NULL : s->own_file;
    }
    HASH_DEL(st->files, f);
    free(f);
}

void store_report(struct store *st, const struct store_damage *damage)
{
    if (st->options.damage != NULL) {
        st->options.damage(st->options.damage_arg, damage);
    }
}

void store_report_copy(struct store *st, enum store_damage_type type, uint64_t generation,
                       unsigned copy)
{
    char path[STORE_PATH_BYTES];
    checkpoint_path(st->dir, generation, copy, path, sizeof path);
    struct store_damage d = {type, 0, 0, 0, path};
    store_report(st, &d);
}

void store_fail(struct store *st, const char *path)
{
    snprintf(st->error_path, sizeof st->error_path, "%s", path);
}

const char *store_error_path(const struct store *st)
{
    return st->error_path;
}

void store_count_totals(struct store *st)
{
    struct store_totals t = {.dirty_bytes = st->totals.dirty_bytes};
    struct data_file *f, *tmp;
    HASH_ITER(hh, st->files, f, tmp)
    {
        t.files++;
        t.disk_bytes += f->bytes;
        t.dead_bytes += f->died_generation != 0 ? f->bytes : 0;
    }
    t.journal_bytes = checkpoint_bytes(st->checkpoint);
    st->totals = t;
}

void store_totals(const struct store *st, struct store_totals *ret_totals)
{
    *ret_totals = st->totals;
    ret_totals->cache_bytes = st->cache_bytes;
}

void gone_push(struct gone_list *l, uint64_t id, struct data_file *f)
{
    if (l->count == l->cap) {
        l->cap = l->cap == 0 ? 8 : l->cap * 2;
        l->items = xrealloc(l->items, l->cap * sizeof *l->items);
    }
    l->items[l->count++] = (struct gone_block){id, f};
}

void block_encode(const struct block *b, uint64_t file_number, uint8_t *out)
{
    put_u64(out, file_number);
    put_u64(out + 8, b->off);
    put_u32(out + 16, b->bytes);
    put_u32(out + 20, b->index_off);
    put_u64(out + 24, b->first_seq);
    put_u64(out + 32, b->last_seq);
    put_u64(out + 40, (uint64_t)b->time_min_ns);
    put_u64(out + 48, (uint64_t)b->time_max_ns);
    put_u32(out + 56, b->records_count);
    put_u32(out + 60, b->crc);
}

bool block_decode(struct block *b, uint64_t *ret_file, struct slice value)
{
    if (value.len != BLOCK_VALUE_BYTES) {
        return false;
    }
    const uint8_t *p = value.ptr;
    *ret_file = get_u64(p);
    b->off = get_u64(p + 8);
    b->bytes = get_u32(p + 16);
    b->index_off = get_u32(p + 20);
    b->first_seq = get_u64(p + 24);
    b->last_seq = get_u64(p + 32);
    b->time_min_ns = (int64_t)get_u64(p + 40);
    b->time_max_ns = (int64_t)get_u64(p + 48);
    b->records_count = get_u32(p + 56);
    b->crc = get_u32(p + 60);
    b->state = BLOCK_DISK;
    return b->first_seq <= b->last_seq && b->last_seq - b->first_seq < BLOCK_SPAN_MAX &&
           b->records_count > 0 && b->records_count <= b->last_seq - b->first_seq + 1 &&
           b->index_off >= BLOCK_HEADER_BYTES && b->index_off <= b->bytes &&
           b->bytes - b->index_off >= BLOCK_FOOTER_BYTES && b->off <= UINT64_MAX - b->bytes;
}

struct block_meta block_meta_of(const struct block *b)
{
    return (struct block_meta){.first_seq = b->first_seq,
                               .last_seq = b->last_seq,
                               .time_min_ns = b->time_min_ns,
                               .time_max_ns = b->time_max_ns,
                               .count = b->records_count,
                               .index_off = b->index_off,
                               .bytes = b->bytes,
                               .crc = b->crc};
}

/* ---- Streams ---- */

struct store_stream *store_stream_new(struct store *st, uint64_t gid, uint64_t sid)
{
    struct store_stream *s = xcalloc(1, sizeof *s);
    s->store = st;
    s->gid = gid;
    s->sid = sid;
    HASH_ADD(hh, st->streams, gid, sizeof s->gid, s);
    return s;
}

void store_stream_free(struct store_stream *s)
{
    struct store *st = s->store;
    for (size_t i = s->head; i < s->end; i++) {
        struct block *b = s->blocks[i];
        block_detach_file(b);
        block_uncache(b);
        if (b->in_job) {
            b->is_dead = true;
            b->s = NULL;
        } else {
            block_free(b);
        }
    }
    st->totals.dirty_bytes -= s->dirty_bytes;
    free(s->blocks);
    free(s->gone.items);
    free(s);
}

struct store_stream *store_find(struct store *st, uint64_t gid)
{
    struct store_stream *s;
    HASH_FIND(hh, st->streams, &gid, sizeof gid, s);
    return s;
}

struct store_stream *store_stream_create(struct store *st, uint64_t gid, uint64_t sid)
{
    assert(gid != 0);
    assert(store_find(st, gid) == NULL);
    struct store_stream *s = store_stream_new(st, gid, sid);
    s->is_loaded = true;
    return s;
}

void store_stream_delete(struct store_stream *s)
{
    struct store *st = s->store;
    store_left_forget(st, s->gid);
    assert(!stage_is_switching(st, s->gid));
    struct dropped *d = xcalloc(1, sizeof *d);
    d->gid = s->gid;
    d->next = st->dropped;
    st->dropped = d;
    for (size_t i = s->head; i < s->end; i++) {
        struct block *b = s->blocks[i];
        /* What is in a job is accounted for at the job's end, when it is known where it lies. */
        if (b->state == BLOCK_DISK && !b->in_job) {
            gone_push(&d->blocks, b->id, b->file);
        }
    }
    for (size_t i = 0; i < s->gone.count; i++) {
        gone_push(&d->blocks, s->gone.items[i].id, s->gone.items[i].file);
    }
    HASH_DEL(st->streams, s);
    if (!s->in_job) {
        store_stream_free(s);
        return;
    }
    /* The job still knows it. Its end frees it. */
    s->is_deleted = true;
    for (size_t i = s->head; i < s->end; i++) {
        struct block *b = s->blocks[i];
        block_uncache(b);
        if (!b->in_job) {
            block_detach_file(b);
            block_free(b);
        } else {
            b->is_dead = true;
        }
    }
    s->head = s->end;
    s->gone.count = 0;
}

bool store_is_forgetting(const struct store *st, uint64_t gid)
{
    for (const struct dropped *d = st->dropped; d != NULL; d = d->next) {
        if (d->gid == gid) {
            return true;
        }
    }
    return st->job != NULL;
}

uint64_t store_stream_gid(const struct store_stream *s)
{
    return s->gid;
}

void store_stream_applied(const struct store_stream *s, uint64_t *ret_index, uint64_t *ret_term)
{
    *ret_index = s->applied_index;
    *ret_term = s->applied_term;
}

static int by_gid(const void *a, const void *b)
{
    uint64_t x = (*(struct store_stream *const *)a)->gid;
    uint64_t y = (*(struct store_stream *const *)b)->gid;
    return (x > y) - (x < y);
}

void store_each_stream(struct store *st, store_stream_cb cb, void *arg)
{
    size_t count = HASH_COUNT(st->streams);
    struct store_stream **all = xcalloc(count, sizeof(struct store_stream *));
    size_t n = 0;
    struct store_stream *s, *tmp;
    HASH_ITER(hh, st->streams, s, tmp)
    {
        all[n++] = s;
    }
    qsort(all, n, sizeof *all, by_gid);
    for (size_t i = 0; i < n; i++) {
        cb(arg, all[i]);
    }
    free(all);
}

static uint64_t edge_seq(const struct block *b, bool is_first)
{
    uint64_t seq = is_first ? b->first_seq : b->last_seq;
    while (bitset_has(&b->gone, (uint32_t)(seq - b->first_seq))) {
        seq = is_first ? seq + 1 : seq - 1;
    }
    return seq;
}

void store_stream_stats(const struct store_stream *s, struct store_stats *ret_stats)
{
    struct store_stats r = {.messages = s->messages,
                            .bytes = s->bytes,
                            .dirty_bytes = s->dirty_bytes,
                            .dirty_messages = s->dirty_messages};
    for (size_t i = s->head; i < s->end; i++) {
        const struct block *b = s->blocks[i];
        if (b->state == BLOCK_DISK) {
            r.blocks++;
            r.disk_bytes += b->bytes;
            r.damaged_blocks += b->is_reported ? 1 : 0;
        } else if (r.dirty_since_ns == 0) {
            r.dirty_since_ns = b->time_min_ns;
        }
    }
    if (s->end > s->head && s->is_loaded) {
        r.first_seq = edge_seq(s->blocks[s->head], true);
        r.last_seq = edge_seq(s->blocks[s->end - 1], false);
    }
    *ret_stats = r;
}
