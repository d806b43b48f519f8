/* Damage in blocks: looking for it, and mending it with records that other replicas have.
 *
 * A block that is being mended holds its memory outside the cache, so that nothing of what came is
 * lost before the flush. Its live set is known from its index, which was read when the stream was
 * loaded. Where the index was damaged already then (is_unknown), the journal still tells how many
 * are live: the block is whole when as many are there. */
#include <assert.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/file_read.h"
#include "storage/flush_internal.h"

static const uint8_t *record_of(const struct block *b, uint64_t seq)
{
    return b->mem->records[seq - b->mem->first_seq];
}

/* Not known to be gone, and not there. */
static bool is_missing(const struct block *b, uint64_t seq)
{
    const uint8_t *r = record_of(b, seq);
    return (r == NULL || r == RECORD_DAMAGED) &&
           !bitset_has(&b->gone, (uint32_t)(seq - b->first_seq));
}

bool mend_has_missing(const struct block *b)
{
    uint64_t seq = b->first_seq;
    while (seq <= b->last_seq && !is_missing(b, seq)) {
        seq++;
    }
    return seq <= b->last_seq;
}

void mend_found(struct block *b, const struct store_mem *mem)
{
    if (mem == NULL) {
        b->is_unreadable = true;
        block_report(b, STORE_DAMAGE_BLOCK, NULL);
    } else {
        block_report(b, mem->damaged_count > 0 ? STORE_DAMAGE_RECORDS : STORE_DAMAGE_INDEX, mem);
    }
}

/* ---- Looking for it ---- */

int store_check_start(struct store_stream *s, uint64_t seq, struct store_read *req,
                      uint64_t *ret_last_seq)
{
    for (size_t i = blocks_search(s, seq); i < s->end; i++) {
        struct block *b = s->blocks[i];
        if (b->state == BLOCK_DISK && !b->is_reported && !b->is_unreadable) {
            *ret_last_seq = blocks_end(s, i);
            read_request(s, b, *ret_last_seq, req);
            req->is_check = true;
            return 0;
        }
    }
    return ERR_NOTFOUND;
}

bool check_read(struct store_read *req, const struct block_owner *owner,
                const struct block_meta *meta)
{
    char path[STORE_PATH_BYTES];
    store_file_path(req->store, req->file_number, path);
    uint8_t *raw = xmalloc(meta->bytes);
    int rv = file_read_disk(req->store->ops, path, raw, meta->bytes, req->off);
    if (rv == ERR_UNSUPPORTED || rv == ERR_NOMEM) {
        free(raw);
        return false;
    }
    if (rv != 0) {
        free(raw);
        req->status = rv;
        return true;
    }
    req->status = block_load(raw, owner, meta, &req->mem, &req->is_index_bad);
    return true;
}

int store_check_done(struct store_read *req)
{
    struct store_mem *mem = req->mem;
    struct block *b;
    req->mem = NULL;
    int rv = read_request_end(req, &b);
    bool is_moved = rv == 0 && (b->file->number != req->file_number || b->off != req->off);
    if (rv == 0 && req->status == 0 && !b->is_reported) {
        b->is_fixed = false; /* It was only suspected. */
    }
    if (rv != 0 || is_moved || (req->status != ERR_CORRUPT && req->status != ERR_NOTFOUND)) {
        mem_unref(mem);
        return rv != 0 ? rv : is_moved ? ERR_AGAIN : req->status;
    }
    mend_found(b, mem);
    if (b->mem == NULL && mem != NULL) {
        block_cache(b, mem);
        store_cache_trim(req->store);
    } else {
        mem_unref(mem); /* What is cached was sound when it was read. */
    }
    return ERR_CORRUPT;
}

/* ---- Mending ---- */

bool store_mend_next(struct store_stream *s, uint64_t seq, uint64_t *ret_first_seq,
                     uint64_t *ret_last_seq)
{
    for (size_t i = blocks_search(s, seq); i < s->end; i++) {
        const struct block *b = s->blocks[i];
        if (b->is_reported && !b->is_mended) {
            *ret_first_seq = b->first_seq;
            *ret_last_seq = blocks_end(s, i);
            return true;
        }
    }
    return false;
}

static struct block *damaged_at(struct store_stream *s, uint64_t seq)
{
    struct block *b = block_at(s, seq);
    return b != NULL && b->is_reported && !b->is_mended ? b : NULL;
}

/* Out of the cache's reach. */
static void hold(struct block *b)
{
    if (!list_is_empty(&b->in_cache)) {
        b->s->store->cache_bytes -= b->mem->bytes;
        list_remove(&b->in_cache);
    }
    b->is_mending = true;
}

int store_mend_start(struct store_stream *s, uint64_t seq, struct store_read *req)
{
    struct block *b = damaged_at(s, seq);
    if (b == NULL) {
        return ERR_NOTFOUND;
    }
    if (b->in_job) {
        return ERR_BUSY;
    }
    if (b->mem != NULL) {
        hold(b);
        return ERR_EXISTS;
    }
    read_request(s, b, seq, req);
    return 0;
}

int store_mend_done(struct store_read *req)
{
    struct store_mem *mem = req->mem;
    struct block *b;
    req->mem = NULL;
    int rv = read_request_end(req, &b);
    if (rv != 0 || b->is_mended || b->in_job) {
        mem_unref(mem);
        return rv != 0 ? rv : b->is_mended ? ERR_NOTFOUND : ERR_AGAIN;
    }
    if (b->mem != NULL) {
        mem_unref(mem);
    } else {
        /* A sector that cannot be read is damage like any other. */
        b->mem = mem != NULL ? mem : mem_new_damaged(b->first_seq, block_span(b));
    }
    hold(b);
    return 0;
}

bool store_mend_missing(struct store_stream *s, uint64_t seq, uint64_t *ret_first_seq,
                        uint64_t *ret_last_seq)
{
    struct block *b = damaged_at(s, seq);
    if (b == NULL || !b->is_mending) {
        return false;
    }
    seq = seq < b->first_seq ? b->first_seq : seq;
    while (seq <= b->last_seq && !is_missing(b, seq)) {
        seq++;
    }
    if (seq > b->last_seq) {
        return false;
    }
    *ret_first_seq = seq;
    while (seq < b->last_seq && is_missing(b, seq + 1)) {
        seq++;
    }
    *ret_last_seq = seq;
    return true;
}

int store_mend_put(struct store_stream *s, struct slice record)
{
    if (record.len < RECORD_HEADER_BYTES || !record_is_valid(record.ptr, record.len, s->sid) ||
        record_bytes(record.ptr) != record.len) {
        return ERR_INVALID;
    }
    uint64_t seq = record_seq(record.ptr);
    struct block *b = damaged_at(s, seq);
    if (b == NULL || !b->is_mending || !is_missing(b, seq)) {
        return ERR_NOTFOUND;
    }
    mem_put(b->mem, record);
    return 0;
}

/* The live set of the block was unknown: it is what is there, if that is as much as must be. */
static void settle_unknown(struct block *b)
{
    uint32_t there = 0;
    for (uint64_t seq = b->first_seq; seq <= b->last_seq; seq++) {
        bool is_gone = bitset_has(&b->gone, (uint32_t)(seq - b->first_seq));
        there += !is_gone && !is_missing(b, seq) ? 1 : 0;
    }
    if (there != b->live_known) {
        return;
    }
    for (uint64_t seq = b->first_seq; seq <= b->last_seq; seq++) {
        if (is_missing(b, seq)) {
            b->mem->records[seq - b->mem->first_seq] = NULL;
            bitset_set(&b->gone, (uint32_t)(seq - b->first_seq)); /* Counted at the next load. */
        }
    }
    b->is_unknown = false;
}

int store_mend_end(struct store_stream *s, uint64_t seq)
{
    struct block *b = damaged_at(s, seq);
    if (b == NULL || !b->is_mending) {
        return b == NULL ? 0 : ERR_CORRUPT;
    }
    if (b->is_unknown) {
        settle_unknown(b);
    }
    if (!mend_has_missing(b) && !b->is_unknown) {
        b->mem->damaged_count = 0;
        b->is_mended = true;
        return 0;
    }
    b->is_mending = false;
    list_push_back(&s->store->cache, &b->in_cache);
    s->store->cache_bytes += b->mem->bytes;
    store_cache_trim(s->store);
    return ERR_CORRUPT;
}

bool store_mend_is_due(const struct store_stream *s)
{
    for (size_t i = s->head; i < s->end; i++) {
        if (s->blocks[i]->is_mended && !s->blocks[i]->in_job) {
            return true;
        }
    }
    return false;
}

bool store_stream_is_whole(const struct store_stream *s)
{
    for (size_t i = s->head; i < s->end; i++) {
        if (s->blocks[i]->is_unknown) {
            return false;
        }
    }
    return true;
}

void store_stream_unload(struct store_stream *s)
{
    assert(s->dirty_messages == 0);
    assert(!s->in_job);
    for (size_t i = s->head; i < s->end; i++) {
        struct block *b = s->blocks[i];
        assert(b->state == BLOCK_DISK);
        bitset_close(&b->gone);
        b->file->live_bytes -= b->live_bytes;
        b->live_bytes = b->index_off - BLOCK_HEADER_BYTES;
        b->file->live_bytes += b->live_bytes;
        b->live_count = 0;
    }
    s->messages = 0;
    s->bytes = 0;
    s->is_loaded = false;
}

uint64_t store_stream_last_seq(const struct store_stream *s)
{
    return s->last_seq;
}

struct slice store_view_record(const struct store_view *v)
{
    const uint8_t *r = v->subject.ptr - RECORD_HEADER_BYTES;
    return slice_of(r, (size_t)record_bytes(r));
}

bool store_record_read(struct slice record, struct store_message *ret_message)
{
    const uint8_t *r = record.ptr;
    if (record.len < RECORD_HEADER_BYTES || record_bytes(r) != record.len) {
        return false;
    }
    uint32_t subject_bytes = record_subject_bytes(r);
    uint32_t header_bytes = record_header_bytes(r);
    const uint8_t *p = r + RECORD_HEADER_BYTES;
    *ret_message = (struct store_message){
        .seq = record_seq(r),
        .time_ns = record_time(r),
        .flags = r[5],
        .subject = slice_of(p, subject_bytes),
        .header = slice_of(p + subject_bytes, header_bytes),
        .payload = slice_of(p + subject_bytes + header_bytes, record_payload_bytes(r))};
    return true;
}

/* ---- The journal ---- */

int store_check_journal_start(struct store *st, struct store_check *req, uint64_t *ret_bytes)
{
    struct checkpoint_check k;
    if (st->job != NULL) {
        return ERR_BUSY;
    }
    if (checkpoint_generation(st->checkpoint) == 0) {
        return ERR_NOTFOUND;
    }
    checkpoint_check_begin(st->checkpoint, &k);
    *req = (struct store_check){.store = st, .generation = k.generation, .end = k.end};
    *ret_bytes = k.end * CHECKPOINT_COPIES;
    return 0;
}

void store_check_journal_run(struct store_check *req)
{
    struct checkpoint_check k = {.generation = req->generation, .end = req->end};
    req->status = checkpoint_check_run(req->store->ops, req->store->dir, &k);
    static_assert(sizeof req->is_damaged == sizeof k.is_damaged, "one for each copy");
    memcpy(req->is_damaged, k.is_damaged, sizeof req->is_damaged);
}

int store_check_journal_done(struct store_check *req)
{
    struct store *st = req->store;
    /* A job may be about to end this generation; it cannot have ended an earlier one. */
    uint64_t current =
        st->job != NULL ? st->job->old_generation : checkpoint_generation(st->checkpoint);
    if (req->status != 0 || current != req->generation) {
        return req->status == ERR_IO ? ERR_IO : 0;
    }
    int rv = 0;
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        if (req->is_damaged[i]) {
            store_report_copy(st, STORE_DAMAGE_COPY, current, i);
            st->is_journal_damaged = true;
            rv = ERR_CORRUPT;
        }
    }
    return rv;
}
