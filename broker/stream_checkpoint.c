/* Checkpoint items of a stream; all numbers little-endian.
 *
 * - "m": configuration, canonical JSON
 * - "v": its version u64; only if there is one
 * - "s": format u8, machine version u32, applied index u64, term u64, created, time, last time i64,
 *   last seq, payload chain, next consumer id, messages, bytes, index hash, dedup head, dedup tail
 *   u64, last message id (the rest)
 * - "j": jobs: count u32; each type u8, request, cursor, upper, left, done u64, filter length u32,
 *   filter
 * - "t": stamps that were too early (stream_shift.h), only if there were any: open until u64, count
 *   u32; each first seq, last seq, shift u64, is unsure u8
 * - "o" node u64 origin u64: an origin lane (stream_lane.c)
 * - "d" chunk u64: ids at positions [first, ..): first u64, count u32; each seq u64, time i64,
 * length u32, text
 * - "c"...: consumers (consumer.c) */
#include <assert.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "broker/stream_state.h"
#include "storage/base/err.h"

#define ITEM_FORMAT 1u

static void save_jobs(const struct stream *s, struct buf *out)
{
    buf_append_u32(out, (uint32_t)s->jobs_count);
    for (size_t i = 0; i < s->jobs_count; i++) {
        const struct stream_job *job = &s->jobs[i];
        struct slice filter = job->filter == NULL ? SLICE_EMPTY : slice_str(job->filter);
        buf_append_u8(out, (uint8_t)job->type);
        buf_append_u64(out, job->request);
        buf_append_u64(out, job->cursor);
        buf_append_u64(out, job->upper_seq);
        buf_append_u64(out, job->left);
        buf_append_u64(out, job->done);
        buf_append_u32(out, (uint32_t)filter.len);
        buf_append_slice(out, filter);
    }
}

/* The part of "s" that is hashed too. */
static void save_counters(const struct stream *s, struct buf *out)
{
    buf_append_u32(out, s->machine_version);
    buf_append_u64(out, s->applied_index);
    buf_append_u64(out, s->applied_term);
    buf_append_u64(out, (uint64_t)s->created_ns);
    buf_append_u64(out, (uint64_t)s->time_ns);
    buf_append_u64(out, (uint64_t)s->last_time_ns);
    buf_append_u64(out, s->last_seq);
    buf_append_u64(out, s->payload_chain);
    buf_append_u64(out, s->next_consumer_id);
    buf_append_u64(out, s->index.count);
    buf_append_u64(out, s->index.bytes);
    buf_append_u64(out, s->index.hash);
    buf_append_u64(out, s->dedup.head);
    buf_append_u64(out, s->dedup.tail);
    buf_append_slice(out, buf_slice(&s->last_msg_id));
}

uint64_t stream_hash(const struct stream *s)
{
    struct buf b = BUF_EMPTY;
    save_counters(s, &b);
    save_jobs(s, &b);
    buf_append_slice(&b, buf_slice(&s->config_json));
    if (s->config_version != 0) {
        buf_append_u64(&b, s->config_version);
    }
    if (s->shifts.count > 0) {
        shifts_save(&s->shifts, &b);
    }
    buf_append_u64(&b, s->dedup.sum);
    for (size_t i = 0; i < s->lanes.count; i++) {
        buf_append_u64(&b, lane_hash(&s->lanes.lanes[i]));
    }
    buf_append_u64(&b, s->consumers == NULL ? 0 : s->ops->hash(s->consumers));
    uint64_t hash = XXH3_64bits(b.ptr, b.len);
    buf_close(&b);
    return hash;
}

static void lane_key(struct buf *key, uint64_t node, uint64_t origin)
{
    buf_clear(key);
    buf_append_str(key, "o");
    buf_append_u64(key, node);
    buf_append_u64(key, origin);
}

static void chunk_key(struct buf *key, uint64_t chunk)
{
    buf_clear(key);
    buf_append_str(key, "d");
    buf_append_u64(key, chunk);
}

static void save_lanes(struct stream *s, bool is_full, stream_item_cb cb, void *arg)
{
    struct buf key = BUF_EMPTY;
    struct buf value = BUF_EMPTY;
    struct reader dropped = reader_of(buf_slice(&s->lanes.dropped));
    while (dropped.len > 0) {
        uint64_t node = reader_u64(&dropped);
        uint64_t origin = reader_u64(&dropped);
        if (lanes_find(&s->lanes, node, origin) == NULL) {
            lane_key(&key, node, origin);
            cb(arg, buf_slice(&key), SLICE_EMPTY, true);
        }
    }
    buf_clear(&s->lanes.dropped);
    for (size_t i = 0; i < s->lanes.count; i++) {
        struct lane *lane = &s->lanes.lanes[i];
        if (lane->is_dirty || is_full) {
            lane_key(&key, lane->node, lane->origin);
            buf_clear(&value);
            lane_save(lane, &value);
            cb(arg, buf_slice(&key), buf_slice(&value), false);
            lane->is_dirty = false;
        }
    }
    buf_close(&key);
    buf_close(&value);
}

static void save_chunk(const struct dedup *d, uint64_t chunk, struct buf *out)
{
    uint64_t first = chunk * DEDUP_CHUNK > d->head ? chunk * DEDUP_CHUNK : d->head;
    uint64_t end = (chunk + 1) * DEDUP_CHUNK < d->tail ? (chunk + 1) * DEDUP_CHUNK : d->tail;
    buf_clear(out);
    buf_append_u64(out, first);
    buf_append_u32(out, (uint32_t)(end - first));
    for (uint64_t pos = first; pos < end; pos++) {
        const struct dedup_id *id = dedup_at(d, pos);
        buf_append_u64(out, id->seq);
        buf_append_u64(out, (uint64_t)id->time_ns);
        buf_append_u32(out, id->text_len);
        buf_append_slice(out, dedup_text(d, id));
    }
}

/* Chunks that died whole are deleted; of the rest only those with new ids are written again. */
static void save_dedup(struct stream *s, bool is_full, stream_item_cb cb, void *arg)
{
    struct dedup *d = &s->dedup;
    struct buf key = BUF_EMPTY;
    struct buf value = BUF_EMPTY;
    uint64_t first = d->head / DEDUP_CHUNK;
    uint64_t end = (d->tail + DEDUP_CHUNK - 1) / DEDUP_CHUNK;
    uint64_t saved_end = (d->saved_tail + DEDUP_CHUNK - 1) / DEDUP_CHUNK;
    bool is_empty = d->head == d->tail;
    for (uint64_t chunk = d->saved_head / DEDUP_CHUNK; chunk < saved_end; chunk++) {
        if (chunk < first || is_empty) {
            chunk_key(&key, chunk);
            cb(arg, buf_slice(&key), SLICE_EMPTY, true);
        }
    }
    uint64_t from_pos = d->saved_tail;
    from_pos = d->is_shifted && d->shifted_from < from_pos ? d->shifted_from : from_pos;
    uint64_t from = is_full ? first : from_pos / DEDUP_CHUNK;
    bool is_changed = is_full || d->tail != d->saved_tail || d->is_shifted;
    for (uint64_t chunk = from > first ? from : first; is_changed && !is_empty && chunk < end;
         chunk++) {
        chunk_key(&key, chunk);
        save_chunk(d, chunk, &value);
        cb(arg, buf_slice(&key), buf_slice(&value), false);
    }
    /* An empty ring has no chunk; the one its positions point into must not be deleted twice. */
    d->saved_head = is_empty ? d->tail : d->head;
    d->saved_tail = d->tail;
    d->is_shifted = false;
    buf_close(&key);
    buf_close(&value);
}

void stream_checkpoint(struct stream *s, bool is_full, stream_item_cb cb, void *arg)
{
    struct buf value = BUF_EMPTY;
    if (s->is_config_dirty || is_full) {
        cb(arg, SLICE_LIT("m"), buf_slice(&s->config_json), false);
        if (s->config_version != 0) {
            buf_append_u64(&value, s->config_version);
            cb(arg, SLICE_LIT("v"), buf_slice(&value), false);
            buf_clear(&value);
        }
        s->is_config_dirty = false;
    }
    buf_append_u8(&value, ITEM_FORMAT);
    save_counters(s, &value);
    cb(arg, SLICE_LIT("s"), buf_slice(&value), false);
    if (s->is_jobs_dirty || is_full) {
        buf_clear(&value);
        save_jobs(s, &value);
        cb(arg, SLICE_LIT("j"), buf_slice(&value), false);
        s->is_jobs_dirty = false;
    }
    if (s->shifts.is_dirty || (is_full && s->shifts.count > 0)) {
        buf_clear(&value);
        shifts_save(&s->shifts, &value);
        cb(arg, SLICE_LIT("t"), buf_slice(&value), false);
        s->shifts.is_dirty = false;
    }
    buf_close(&value);
    save_lanes(s, is_full, cb, arg);
    save_dedup(s, is_full, cb, arg);
    if (s->consumers != NULL) {
        s->ops->checkpoint(s->consumers, is_full, cb, arg);
    }
}

/* ---- Restore ---- */

struct restore_item {
    struct slice key; /* Owned. */
    struct slice value;
};

struct stream_restore {
    struct stream *stream;
    struct restore_item *items;
    size_t count;
    size_t cap;
    uint64_t saved_count; /* As the counters say. */
    uint64_t saved_bytes;
    uint64_t saved_hash;
    uint64_t dedup_tail;
    uint64_t last_message_seq;
    bool is_disordered;
};

struct stream_restore *stream_restore_begin(const struct stream_consumer_ops *ops)
{
    struct stream_restore *r = xcalloc(1, sizeof *r);
    r->stream = stream_alloc(ops);
    return r;
}

void stream_restore_message(struct stream_restore *r, uint64_t seq, int64_t time_ns,
                            struct slice subject, uint32_t header_bytes, uint32_t payload_bytes)
{
    if (seq <= r->last_message_seq) {
        r->is_disordered = true;
        return;
    }
    r->last_message_seq = seq;
    struct msg_index *x = &r->stream->index;
    uint32_t id = subject_table_add(&x->subjects, subject, subject_hash(subject));
    msg_index_add(x, seq, time_ns, id,
                  stream_message_size(subject.len, header_bytes, payload_bytes));
}

void stream_restore_item(struct stream_restore *r, struct slice key, struct slice value)
{
    if (r->count == r->cap) {
        r->cap = r->cap == 0 ? 16 : r->cap * 2;
        r->items = xrealloc(r->items, r->cap * sizeof *r->items);
    }
    r->items[r->count++] = (struct restore_item){slice_of(xslicedup(key), key.len),
                                                 slice_of(xslicedup(value), value.len)};
}

static int load_counters(struct stream_restore *restore, struct slice value)
{
    struct stream *s = restore->stream;
    struct reader r = reader_of(value);
    if (reader_u8(&r) != ITEM_FORMAT) {
        return ERR_VERSION;
    }
    s->machine_version = reader_u32(&r);
    s->applied_index = reader_u64(&r);
    s->applied_term = reader_u64(&r);
    s->created_ns = (int64_t)reader_u64(&r);
    s->time_ns = (int64_t)reader_u64(&r);
    s->last_time_ns = (int64_t)reader_u64(&r);
    s->last_seq = reader_u64(&r);
    s->payload_chain = reader_u64(&r);
    s->next_consumer_id = reader_u64(&r);
    restore->saved_count = reader_u64(&r);
    restore->saved_bytes = reader_u64(&r);
    restore->saved_hash = reader_u64(&r);
    s->dedup.head = reader_u64(&r);
    restore->dedup_tail = reader_u64(&r);
    if (r.failed || restore->last_message_seq > s->last_seq ||
        s->dedup.head > restore->dedup_tail) {
        return ERR_INVALID;
    }
    if (s->machine_version > ENTRY_MACHINE_VERSION) {
        return ERR_VERSION;
    }
    s->dedup.tail = s->dedup.head;
    buf_append_slice(&s->last_msg_id, reader_bytes(&r, r.len));
    return 0;
}

static int load_jobs(struct stream *s, struct slice value)
{
    struct reader r = reader_of(value);
    uint32_t count = reader_u32(&r);
    for (uint32_t i = 0; i < count && !r.failed; i++) {
        uint8_t type = reader_u8(&r);
        uint64_t request = reader_u64(&r);
        uint64_t cursor = reader_u64(&r);
        uint64_t upper = reader_u64(&r);
        uint64_t left = reader_u64(&r);
        uint64_t done = reader_u64(&r);
        struct slice filter = reader_bytes(&r, reader_u32(&r));
        if (r.failed || (type != JOB_PURGE && type != JOB_PER_SUBJECT) ||
            !stream_add_job(s, (enum job_type)type, request, upper, left, filter)) {
            return ERR_INVALID;
        }
        s->jobs[s->jobs_count - 1].cursor = cursor;
        s->jobs[s->jobs_count - 1].done = done;
    }
    return r.failed || r.len != 0 ? ERR_INVALID : 0;
}

static int load_lane(struct stream *s, struct slice key, struct slice value)
{
    struct reader r = reader_of(slice_from(key, 1));
    uint64_t node = reader_u64(&r);
    uint64_t origin = reader_u64(&r);
    if (r.failed || r.len != 0 || lanes_find(&s->lanes, node, origin) != NULL) {
        return ERR_INVALID;
    }
    /* The times to forget come from the items themselves. */
    struct lane *lane = lanes_add(&s->lanes, node, origin, INT64_MAX);
    int rv = lane_load(lane, value);
    lane->is_dirty = false;
    return rv;
}

static int load_chunk(struct stream *s, struct slice value)
{
    struct reader r = reader_of(value);
    uint64_t pos = reader_u64(&r);
    uint32_t count = reader_u32(&r);
    for (uint32_t i = 0; i < count && !r.failed; i++, pos++) {
        uint64_t seq = reader_u64(&r);
        int64_t time_ns = (int64_t)reader_u64(&r);
        struct slice id = reader_bytes(&r, reader_u32(&r));
        if (r.failed) {
            break;
        }
        if (pos < s->dedup.head) { /* Dropped after the chunk was written. */
            continue;
        }
        if (pos != s->dedup.tail) {
            return ERR_INVALID;
        }
        dedup_add(&s->dedup, id, seq, time_ns);
    }
    return r.failed || r.len != 0 ? ERR_INVALID : 0;
}

/* The order in which items must be loaded. */
static int item_rank(struct slice key)
{
    static const char order[] = "smvjtodc";
    const char *at = key.len == 0 ? NULL : strchr(order, key.ptr[0]);
    return at == NULL || key.ptr[0] == 0 ? (int)sizeof order : (int)(at - order);
}

static int by_rank(const void *a, const void *b)
{
    struct slice ka = ((const struct restore_item *)a)->key;
    struct slice kb = ((const struct restore_item *)b)->key;
    int rank = item_rank(ka) - item_rank(kb);
    if (rank != 0 || ka.len != 9 || kb.len != 9 || ka.ptr[0] != 'd') {
        return rank != 0 ? rank : slice_cmp(ka, kb);
    }
    struct reader ra = reader_of(slice_from(ka, 1));
    struct reader rb = reader_of(slice_from(kb, 1));
    uint64_t va = reader_u64(&ra);
    uint64_t vb = reader_u64(&rb);
    return (va > vb) - (va < vb);
}

static int load_config_version(struct stream *s, struct slice value)
{
    struct reader r = reader_of(value);
    s->config_version = reader_u64(&r);
    return r.failed || r.len != 0 ? ERR_INVALID : 0;
}

static int load_item(struct stream_restore *r, const struct restore_item *item)
{
    struct stream *s = r->stream;
    switch (item->key.len == 0 ? 0 : item->key.ptr[0]) {
    case 's':
        return load_counters(r, item->value);
    case 'm':
        return stream_set_config(s, item->value);
    case 'v':
        return load_config_version(s, item->value);
    case 'j':
        return load_jobs(s, item->value);
    case 't':
        return shifts_load(&s->shifts, item->value);
    case 'o':
        return load_lane(s, item->key, item->value);
    case 'd':
        return load_chunk(s, item->value);
    case 'c':
        return s->ops == NULL ? ERR_INVALID
                              : s->ops->restore_item(s->consumers, item->key, item->value);
    default:
        return ERR_INVALID;
    }
}

static int load(struct stream_restore *r)
{
    struct stream *s = r->stream;
    if (r->count < 2 || r->is_disordered) {
        return ERR_INVALID;
    }
    qsort(r->items, r->count, sizeof *r->items, by_rank);
    if (!slice_eq_str(r->items[0].key, "s") || !slice_eq_str(r->items[1].key, "m")) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < r->count; i++) {
        if (i == 2 && s->ops != NULL) {
            s->consumers = s->ops->create(s);
        }
        int rv = load_item(r, &r->items[i]);
        if (rv != 0) {
            return rv;
        }
    }
    if (s->ops != NULL && s->consumers == NULL) {
        s->consumers = s->ops->create(s);
    }
    if (s->dedup.tail != r->dedup_tail) {
        return ERR_INVALID;
    }
    if (s->consumers != NULL) {
        s->ops->restore_end(s->consumers);
    }
    s->dedup.saved_head = s->dedup.head;
    s->dedup.saved_tail = s->dedup.tail;
    s->is_config_dirty = false;
    s->is_jobs_dirty = false;
    bool is_whole = s->index.count == r->saved_count && s->index.bytes == r->saved_bytes &&
                    s->index.hash == r->saved_hash;
    return is_whole ? 0 : ERR_CORRUPT;
}

int stream_restore_end(struct stream_restore *r, struct stream **ret_stream)
{
    int rv = load(r);
    for (size_t i = 0; i < r->count; i++) {
        free((void *)r->items[i].key.ptr);
        free((void *)r->items[i].value.ptr);
    }
    free(r->items);
    if (rv == 0 || rv == ERR_CORRUPT) {
        *ret_stream = r->stream;
    } else {
        stream_free(r->stream);
    }
    free(r);
    return rv;
}
