#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/store_internal.h"

/* ---- Blocks and the table ---- */

struct block *block_new(struct store_stream *s)
{
    struct block *b = xcalloc(1, sizeof *b);
    b->s = s;
    list_init(&b->in_file);
    list_init(&b->in_cache);
    return b;
}

void block_free(struct block *b)
{
    block_uncache(b);
    list_remove(&b->in_file);
    bitset_close(&b->gone);
    free(b);
}

void blocks_push(struct store_stream *s, struct block *b)
{
    if (s->end == s->cap) {
        size_t used = s->end - s->head;
        if (s->head > s->cap / 2) {
            memmove(s->blocks, s->blocks + s->head, used * sizeof *s->blocks);
        } else {
            s->cap = s->cap == 0 ? 4 : s->cap * 2;
            struct block **grown = xmalloc(s->cap * sizeof *grown);
            if (used > 0) {
                memcpy(grown, s->blocks + s->head, used * sizeof *grown);
            }
            free(s->blocks);
            s->blocks = grown;
        }
        s->head = 0;
        s->end = used;
    }
    s->blocks[s->end++] = b;
}

uint64_t blocks_end(const struct store_stream *s, size_t i)
{
    uint64_t last_seq = s->blocks[i]->last_seq;
    return i + 1 < s->end && s->blocks[i + 1]->first_seq <= last_seq
               ? s->blocks[i + 1]->first_seq - 1
               : last_seq;
}

size_t blocks_search(const struct store_stream *s, uint64_t seq)
{
    size_t lo = s->head;
    size_t hi = s->end;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (blocks_end(s, mid) < seq) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

int block_by_first_seq(const void *a, const void *b)
{
    uint64_t x = (*(struct block *const *)a)->first_seq;
    uint64_t y = (*(struct block *const *)b)->first_seq;
    return (x > y) - (x < y);
}

void blocks_sort(struct store_stream *s)
{
    if (s->end > s->head) {
        qsort(s->blocks + s->head, s->end - s->head, sizeof *s->blocks, block_by_first_seq);
    }
}

struct block *block_at(struct store_stream *s, uint64_t seq)
{
    /* Consumers walk: the same block, or the next one. */
    size_t i = s->hint;
    if (i < s->head || i >= s->end || s->blocks[i]->first_seq > seq || blocks_end(s, i) < seq) {
        i = blocks_search(s, seq);
        if (i == s->end || s->blocks[i]->first_seq > seq) {
            return NULL;
        }
        s->hint = i;
    }
    return s->blocks[i];
}

void block_attach_file(struct block *b, struct data_file *f)
{
    b->file = f;
    list_push_back(&f->blocks, &b->in_file);
    f->live_bytes += b->live_bytes;
}

void block_detach_file(struct block *b)
{
    if (b->file != NULL) {
        b->file->live_bytes -= b->live_bytes;
        list_remove(&b->in_file);
        b->file = NULL;
    }
}

/* ---- The cache: memory of blocks that are on disk ---- */

void block_cache(struct block *b, struct store_mem *mem)
{
    struct store *st = b->s->store;
    b->mem = mem;
    list_push_back(&st->cache, &b->in_cache);
    st->cache_bytes += mem->bytes;
}

void block_uncache(struct block *b)
{
    if (b->mem == NULL) {
        return;
    }
    if (!list_is_empty(&b->in_cache)) {
        b->s->store->cache_bytes -= b->mem->bytes;
        list_remove(&b->in_cache);
    }
    mem_unref(b->mem);
    b->mem = NULL;
}

void store_cache_trim(struct store *st)
{
    /* The newest stays, however large: somebody is about to read it. */
    while (st->cache_bytes > st->options.cache_bytes && st->cache.next != st->cache.prev) {
        block_uncache(container_of(st->cache.next, struct block, in_cache));
    }
}

/* ---- Appending ---- */

static struct block *tail_for(struct store_stream *s, const struct store_message *m)
{
    struct block *b = s->end > s->head ? s->blocks[s->end - 1] : NULL;
    if (b != NULL && b->state == BLOCK_TAIL) {
        uint64_t span = m->seq - b->first_seq + 1;
        int64_t low = m->time_ns < b->time_min_ns ? m->time_ns : b->time_min_ns;
        int64_t high = m->time_ns > b->time_max_ns ? m->time_ns : b->time_max_ns;
        /* Sparse sequences would cost more in bits than in messages. */
        if (span <= BLOCK_SPAN_MAX && span <= 1024 + 64 * (uint64_t)(b->mem->span + 1) &&
            b->bytes < s->store->options.block_bytes && high - low <= BLOCK_TIME_SPAN_MAX) {
            return b;
        }
    }
    b = block_new(s);
    b->state = BLOCK_TAIL;
    b->first_seq = m->seq;
    b->time_min_ns = m->time_ns;
    b->time_max_ns = m->time_ns;
    b->mem = mem_new(m->seq);
    blocks_push(s, b);
    return b;
}

void store_append(struct store_stream *s, const struct store_message *m)
{
    assert(s->is_loaded);
    assert(m->seq > s->last_seq);
    assert(m->time_ns >= 0);
    assert(m->subject.len <= STORE_SUBJECT_BYTES_MAX);
    assert(m->header.len <= STORE_HEADER_BYTES_MAX);
    assert(m->payload.len <= STORE_MESSAGE_BYTES_MAX - m->header.len);
    struct block *b = tail_for(s, m);
    uint32_t slot = (uint32_t)(m->seq - b->first_seq);
    uint32_t had = b->gone.bits;
    bitset_resize(&b->gone, slot + 1);
    if (slot > had) {
        bitset_set_range(&b->gone, had, slot - 1);
    }
    uint64_t bytes = record_bytes(mem_append(b->mem, s->sid, m));
    b->last_seq = m->seq;
    b->time_min_ns = m->time_ns < b->time_min_ns ? m->time_ns : b->time_min_ns;
    b->time_max_ns = m->time_ns > b->time_max_ns ? m->time_ns : b->time_max_ns;
    b->live_count++;
    b->live_bytes += bytes;
    b->bytes += (uint32_t)bytes;
    s->last_seq = m->seq;
    s->messages++;
    s->bytes += bytes;
    s->dirty_messages++;
    s->dirty_bytes += bytes;
    s->store->totals.dirty_bytes += bytes;
}

/* ---- Removing ---- */

static void count_removed(struct block *b, uint32_t count, uint64_t bytes)
{
    struct store_stream *s = b->s;
    b->live_count -= count;
    b->live_bytes -= bytes;
    s->messages -= count;
    s->bytes -= bytes;
    if (b->state == BLOCK_DISK) {
        b->file->live_bytes -= bytes;
    } else {
        s->dirty_messages -= count;
        s->dirty_bytes -= bytes;
        s->store->totals.dirty_bytes -= bytes;
    }
    if (b->state != BLOCK_TAIL) {
        b->is_dirty = true;
    }
}

/* The block has nothing live left and has been taken out of the table. */
static void block_die(struct block *b)
{
    if (b->in_job) {
        /* What the job makes of it is only known at its end. */
        b->is_dead = true;
        block_uncache(b);
        return;
    }
    if (b->state == BLOCK_DISK) {
        gone_push(&b->s->gone, b->id, b->file);
        block_detach_file(b);
    }
    block_free(b);
}

static void blocks_take_out(struct store_stream *s, size_t i)
{
    struct block *b = s->blocks[i];
    if (i == s->head) {
        s->head++;
    } else {
        memmove(s->blocks + i, s->blocks + i + 1, (s->end - i - 1) * sizeof *s->blocks);
        s->end--;
    }
    block_die(b);
}

static uint64_t bytes_of(const struct block *b, uint32_t slot)
{
    if (b->mem != NULL) {
        const uint8_t *r = b->mem->records[b->first_seq + slot - b->mem->first_seq];
        if (r != NULL && r != RECORD_DAMAGED && b->state != BLOCK_DISK) {
            return record_bytes(r);
        }
    }
    return b->live_count == 0 ? 0 : b->live_bytes / b->live_count;
}

static void remove_slot(struct block *b, uint32_t slot)
{
    uint64_t bytes = bytes_of(b, slot);
    bool was_live = bitset_set(&b->gone, slot);
    assert(was_live);
    count_removed(b, 1, b->live_count == 1 ? b->live_bytes : bytes);
}

static uint32_t remove_within(struct block *b, uint64_t first_seq, uint64_t last_seq)
{
    uint32_t from = first_seq <= b->first_seq ? 0 : (uint32_t)(first_seq - b->first_seq);
    uint32_t to = (uint32_t)((last_seq < b->last_seq ? last_seq : b->last_seq) - b->first_seq);
    uint32_t removed = 0;
    for (uint32_t slot = from; slot <= to; slot++) {
        if (!bitset_has(&b->gone, slot)) {
            remove_slot(b, slot);
            removed++;
        }
    }
    return removed;
}

uint64_t store_remove_range(struct store_stream *s, uint64_t first_seq, uint64_t last_seq)
{
    assert(s->is_loaded);
    uint64_t removed = 0;
    size_t i = blocks_search(s, first_seq);
    while (i < s->end && s->blocks[i]->first_seq <= last_seq) {
        struct block *b = s->blocks[i];
        if (first_seq <= b->first_seq && last_seq >= b->last_seq) {
            /* Dies whole: its messages are not looked at. */
            removed += b->live_count;
            count_removed(b, b->live_count, b->live_bytes);
        } else {
            removed += remove_within(b, first_seq, last_seq);
        }
        if (b->live_count > 0) {
            i++;
            continue;
        }
        size_t head = s->head;
        blocks_take_out(s, i);
        i += s->head != head ? 1 : 0;
    }
    return removed;
}

/* ---- Reading ---- */

int store_read(struct store_stream *s, uint64_t seq, struct store_view *ret_view)
{
    struct block *b = block_at(s, seq);
    if (b == NULL || bitset_has(&b->gone, (uint32_t)(seq - b->first_seq))) {
        return ERR_NOTFOUND;
    }
    if (b->mem == NULL) {
        return b->is_unreadable ? ERR_CORRUPT : ERR_AGAIN;
    }
    const uint8_t *r = b->mem->records[seq - b->mem->first_seq];
    if (r == RECORD_DAMAGED || r == NULL) {
        return ERR_CORRUPT;
    }
    if (b->state == BLOCK_DISK && !list_is_empty(&b->in_cache) &&
        b->in_cache.next != &s->store->cache) {
        list_remove(&b->in_cache);
        list_push_back(&s->store->cache, &b->in_cache);
    }
    uint32_t subject_bytes = record_subject_bytes(r);
    uint32_t header_bytes = record_header_bytes(r);
    const uint8_t *p = r + RECORD_HEADER_BYTES;
    ret_view->seq = seq;
    ret_view->time_ns = record_time(r);
    ret_view->flags = r[5];
    ret_view->subject = slice_of(p, subject_bytes);
    ret_view->header = slice_of(p + subject_bytes, header_bytes);
    ret_view->payload = slice_of(p + subject_bytes + header_bytes, record_payload_bytes(r));
    ret_view->mem = b->mem;
    return 0;
}

void store_view_ref(struct store_view *v)
{
    mem_ref(v->mem);
}

void store_view_unref(struct store_view *v)
{
    mem_unref(v->mem);
    v->mem = NULL;
}

int store_read_start(struct store_stream *s, uint64_t seq, struct store_read *req)
{
    struct block *b = block_at(s, seq);
    if (b == NULL || bitset_has(&b->gone, (uint32_t)(seq - b->first_seq))) {
        return ERR_NOTFOUND;
    }
    if (b->mem != NULL) {
        return ERR_EXISTS;
    }
    if (b->is_unreadable) {
        return ERR_CORRUPT;
    }
    read_request(s, b, seq, req);
    return 0;
}

void read_request(struct store_stream *s, struct block *b, uint64_t seq, struct store_read *req)
{
    *req = (struct store_read){.store = s->store,
                               .gid = s->gid,
                               .sid = s->sid,
                               .seq = seq,
                               .block_id = b->id,
                               .file_number = b->file->number,
                               .off = b->off,
                               .len = b->bytes,
                               .index_off = b->index_off,
                               .first_seq = b->first_seq,
                               .last_seq = b->last_seq,
                               .records_count = b->records_count,
                               .crc = b->crc};
    b->loads_count++;
    s->store->reads_count++;
}

int block_read(const struct store *st, const struct block_owner *owner, uint64_t file_number,
               uint64_t off, const struct block_meta *meta, struct store_mem **ret_mem,
               bool *ret_is_index_bad)
{
    char path[STORE_PATH_BYTES];
    store_file_path(st, file_number, path);
    struct file *f;
    int rv = st->ops->open(st->ops->ctx, path, FILE_READ, &f);
    if (rv != 0) {
        return rv;
    }
    uint8_t *raw = xmalloc(meta->bytes);
    size_t n = 0;
    rv = st->ops->pread(st->ops->ctx, f, raw, meta->bytes, off, &n);
    st->ops->close(st->ops->ctx, f);
    if (rv != 0) {
        free(raw);
        return rv;
    }
    memset(raw + n, 0, meta->bytes - n); /* A file cut short: what is there is still of use. */
    return block_load(raw, owner, meta, ret_mem, ret_is_index_bad);
}

void store_read_run(struct store_read *req)
{
    struct block_owner owner = {.gid = req->gid, .sid = req->sid};
    struct block_meta meta = {.first_seq = req->first_seq,
                              .last_seq = req->last_seq,
                              .count = req->records_count,
                              .index_off = (uint32_t)req->index_off,
                              .bytes = (uint32_t)req->len,
                              .crc = req->crc};
    if (req->is_check && check_read(req, &owner, &meta)) {
        return;
    }
    req->status = block_read(req->store, &owner, req->file_number, req->off, &meta, &req->mem,
                             &req->is_index_bad);
}

void block_report(struct block *b, enum store_damage_type type, const struct store_mem *mem)
{
    struct store_stream *s = b->s;
    b->is_fixed = true;
    if (b->is_reported) {
        return;
    }
    b->is_reported = true;
    char path[STORE_PATH_BYTES];
    store_file_path(s->store, b->file->number, path);
    struct store_damage d = {type, s->gid, b->first_seq, b->last_seq, path};
    if (type != STORE_DAMAGE_RECORDS) {
        store_report(s->store, &d);
        return;
    }
    for (uint64_t seq = b->first_seq; seq <= b->last_seq; seq++) {
        if (mem->records[seq - mem->first_seq] != RECORD_DAMAGED) {
            continue;
        }
        d.first_seq = seq;
        while (seq < b->last_seq && mem->records[seq + 1 - mem->first_seq] == RECORD_DAMAGED) {
            seq++;
        }
        d.last_seq = seq;
        store_report(s->store, &d);
    }
}

static struct block *find_by_id(struct store_stream *s, uint64_t seq, uint64_t id)
{
    size_t i = blocks_search(s, seq);
    return i < s->end && s->blocks[i]->id == id ? s->blocks[i] : NULL;
}

int read_request_end(struct store_read *req, struct block **ret_block)
{
    struct store *st = req->store;
    st->reads_count--;
    struct store_stream *s = store_find(st, req->gid);
    if (s == NULL || s->sid != req->sid) {
        return ERR_NOTFOUND;
    }
    struct block *b = find_by_id(s, req->seq, req->block_id);
    if (b == NULL || b->state != BLOCK_DISK) {
        return ERR_AGAIN;
    }
    b->loads_count--;
    bool is_moved = b->file->number != req->file_number || b->off != req->off;
    if (req->status != 0 && is_moved && b->mem == NULL) {
        return ERR_AGAIN;
    }
    *ret_block = b;
    return 0;
}

int store_read_done(struct store_read *req)
{
    struct store_mem *mem = req->mem;
    struct block *b;
    req->mem = NULL;
    int rv = read_request_end(req, &b);
    if (rv != 0 || b->mem != NULL) {
        mem_unref(mem);
        return rv;
    }
    if (req->status == ERR_NOTFOUND || (req->status == ERR_CORRUPT && mem == NULL)) {
        mend_found(b, NULL);
        return ERR_CORRUPT;
    }
    if (mem == NULL) {
        return req->status;
    }
    block_cache(b, mem);
    if (req->status == ERR_CORRUPT) {
        mend_found(b, mem);
    }
    store_cache_trim(req->store);
    const uint8_t *r = mem->records[req->seq - mem->first_seq];
    return r == RECORD_DAMAGED ? ERR_CORRUPT : 0;
}

bool store_read_is_loading(const struct store_stream *s, uint64_t seq)
{
    size_t i = blocks_search(s, seq);
    return i < s->end && s->blocks[i]->first_seq <= seq && s->blocks[i]->loads_count > 0;
}
