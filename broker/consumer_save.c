/* A consumer as bytes, for checkpoints. All numbers are varints (buf.h); d: difference to the one
 * before.
 *
 *   format (1)  id  config length, canonical JSON  created  delivered pair  floor pair
 *   delivered time  ack time  pending count
 *   lasts_upto  n, n times seq (d)
 *   n, n times pending entry: seq (d), consumer_seq (d), count << 1 | is queued, deadline if not;
 *     with bit 31 the deadline began with an unsure stamp (from machine version 3 on)
 *   n, n times queued seq
 *   n, n times exhausted seq (d) */
#include <assert.h>
#include <stdlib.h>

#include "broker/consumer.h"
#include "storage/base/err.h"

#define SAVE_FORMAT 1u
#define UNSURE_BIT (UINT64_C(1) << 31)

static void save_seqs(struct buf *out, const uint64_t *seqs, size_t count)
{
    uint64_t before = 0;
    buf_append_varint(out, count);
    for (size_t i = 0; i < count; i++) {
        buf_append_varint(out, seqs[i] - before);
        before = seqs[i];
    }
}

void consumer_save(struct consumer *c, struct buf *out)
{
    buf_append_varint(out, SAVE_FORMAT);
    buf_append_varint(out, c->id);
    buf_append_varint(out, c->config_json.len);
    buf_append_slice(out, buf_slice(&c->config_json));
    buf_append_varint(out, (uint64_t)c->created_ns);
    buf_append_varint(out, c->delivered.consumer_seq);
    buf_append_varint(out, c->delivered.stream_seq);
    buf_append_varint(out, c->floor.consumer_seq);
    buf_append_varint(out, c->floor.stream_seq);
    buf_append_varint(out, (uint64_t)c->delivered_ns);
    buf_append_varint(out, (uint64_t)c->acked_ns);
    buf_append_varint(out, c->has_rank ? 0 : c->pending_count);
    buf_append_varint(out, c->lasts_upto);
    save_seqs(out, c->lasts, c->lasts_count);
    buf_append_varint(out, c->pending.live);
    uint64_t seq = 0;
    uint64_t consumer_seq = 0;
    for (size_t i = c->pending.head; i < c->pending.tail; i++) {
        const struct pending_entry *entry = &c->pending.entries[i];
        if (entry->state == PENDING_GONE) {
            continue;
        }
        bool is_queued = entry->state == PENDING_QUEUED;
        buf_append_varint(out, entry->seq - seq);
        buf_append_varint(out, entry->consumer_seq - consumer_seq);
        buf_append_varint(out, (uint64_t)entry->count << 1 | is_queued |
                                   (entry->is_unsure ? UNSURE_BIT : 0));
        if (!is_queued) {
            buf_append_varint(out, (uint64_t)entry->deadline_ns);
        }
        seq = entry->seq;
        consumer_seq = entry->consumer_seq;
    }
    buf_append_varint(out, c->queue.count);
    for (size_t i = 0; i < c->queue.count; i++) {
        buf_append_varint(out, ring_at(&c->queue, i));
    }
    save_seqs(out, c->exhausted, c->exhausted_count);
}

/* A count of things that take at least @bytes each. */
static size_t load_count(struct reader *r, size_t bytes)
{
    uint64_t n = reader_varint(r);
    if (n > r->len / bytes) {
        r->failed = true;
        return 0;
    }
    return (size_t)n;
}

static uint64_t *load_seqs(struct reader *r, size_t *ret_count)
{
    size_t n = load_count(r, 1);
    uint64_t *seqs = xmalloc((n + 1) * sizeof *seqs);
    uint64_t seq = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t step = reader_varint(r);
        if (step == 0 || step > UINT64_MAX - seq) {
            r->failed = true;
        }
        seq += step;
        seqs[i] = seq;
    }
    *ret_count = n;
    return seqs;
}

static void load_pending(struct reader *r, struct consumer *c)
{
    size_t n = load_count(r, 3);
    struct pending_entry entry = {0};
    for (size_t i = 0; i < n && !r->failed; i++) {
        uint64_t step = reader_varint(r);
        uint64_t consumer_step = reader_varint(r);
        uint64_t count = reader_varint(r);
        bool is_queued = (count & 1) != 0;
        bool is_unsure = !is_queued && (count & UNSURE_BIT) != 0;
        count &= is_unsure ? ~UNSURE_BIT : UINT64_MAX;
        int64_t deadline_ns = is_queued ? 0 : (int64_t)reader_varint(r);
        if (r->failed || step == 0 || step > c->delivered.stream_seq - entry.seq ||
            consumer_step == 0 || consumer_step > c->delivered.consumer_seq - entry.consumer_seq ||
            count >> 1 > 0x3fffffffu) {
            r->failed = true;
            return;
        }
        entry.seq += step;
        entry.consumer_seq += consumer_step;
        entry.count = (uint32_t)(count >> 1) & 0x3fffffffu;
        entry.state = is_queued ? PENDING_QUEUED : PENDING_WAITING;
        entry.deadline_ns = deadline_ns;
        entry.is_unsure = is_unsure;
        c->unsure += is_unsure;
        pending_add(&c->pending, &entry);
        c->redelivered += entry.count > 1;
        if (!is_queued && deadline_ns < c->due_ns) {
            c->due_ns = deadline_ns;
        }
    }
}

static void load_queue(struct reader *r, struct consumer *c)
{
    size_t queued = 0;
    for (size_t i = c->pending.head; i < c->pending.tail; i++) {
        queued += c->pending.entries[i].state == PENDING_QUEUED;
    }
    size_t n = load_count(r, 1);
    r->failed = r->failed || n != queued;
    for (size_t i = 0; i < n && !r->failed; i++) {
        uint64_t seq = reader_varint(r);
        struct pending_entry *entry = pending_find(&c->pending, seq);
        if (entry == NULL || entry->state != PENDING_QUEUED || entry->planned != 0) {
            r->failed = true;
            return;
        }
        entry->planned = 1; /* Seen. */
        ring_push(&c->queue, seq);
    }
    for (size_t i = c->pending.head; i < c->pending.tail; i++) {
        c->pending.entries[i].planned = 0;
    }
}

int consumer_load(struct slice value, const struct msg_index *x, struct consumer **ret_c)
{
    (void)x;
    struct reader r = reader_of(value);
    if (reader_varint(&r) != SAVE_FORMAT) {
        return ERR_INVALID;
    }
    uint64_t id = reader_varint(&r);
    size_t json_len = load_count(&r, 1);
    struct slice json = reader_bytes(&r, json_len);
    struct consumer_config config;
    if (r.failed || consumer_config_parse(&config, json) != 0) {
        return ERR_INVALID;
    }
    struct consumer *c = xcalloc(1, sizeof *c);
    c->id = id;
    c->config = config;
    c->name = xslicedup(slice_str(config.name));
    c->due_ns = INT64_MAX;
    buf_append_slice(&c->config_json, json);
    stream_filter_init_strings(&c->filter, config.filter_subjects, config.filter_subjects_count);
    c->created_ns = (int64_t)reader_varint(&r);
    c->delivered.consumer_seq = reader_varint(&r);
    c->delivered.stream_seq = reader_varint(&r);
    c->floor.consumer_seq = reader_varint(&r);
    c->floor.stream_seq = reader_varint(&r);
    c->delivered_ns = (int64_t)reader_varint(&r);
    c->acked_ns = (int64_t)reader_varint(&r);
    c->pending_count = reader_varint(&r);
    c->lasts_upto = reader_varint(&r);
    c->lasts = load_seqs(&r, &c->lasts_count);
    if (c->lasts_upto == 0) {
        r.failed = r.failed || c->lasts_count != 0;
        free(c->lasts);
        c->lasts = NULL;
    }
    c->has_rank = c->filter.is_all && c->lasts == NULL;
    load_pending(&r, c);
    load_queue(&r, c);
    c->exhausted = load_seqs(&r, &c->exhausted_count);
    c->exhausted_cap = c->exhausted_count + 1;
    bool is_sound = c->floor.stream_seq <= c->delivered.stream_seq &&
                    c->floor.consumer_seq <= c->delivered.consumer_seq &&
                    (c->pending.live > 0 || c->floor.stream_seq == c->delivered.stream_seq);
    if (r.failed || r.len != 0 || !is_sound) {
        consumer_free(c);
        return ERR_INVALID;
    }
    *ret_c = c;
    return 0;
}

static uint64_t add_hash(uint64_t h, uint64_t v)
{
    h ^= v;
    h *= 0xff51afd7ed558ccdull;
    return h ^ (h >> 32);
}

uint64_t consumer_hash(const struct consumer *c)
{
    uint64_t h = add_hash(0x9e3779b97f4a7c15ull, c->id);
    h = add_hash(h, subject_hash(buf_slice(&c->config_json)));
    h = add_hash(h, (uint64_t)c->created_ns);
    h = add_hash(h, c->delivered.consumer_seq);
    h = add_hash(h, c->delivered.stream_seq);
    h = add_hash(h, c->floor.consumer_seq);
    h = add_hash(h, c->floor.stream_seq);
    h = add_hash(h, (uint64_t)c->delivered_ns);
    h = add_hash(h, (uint64_t)c->acked_ns);
    h = add_hash(h, c->has_rank ? 0 : c->pending_count);
    h = add_hash(h, c->pending.live);
    h = add_hash(h, c->pending.hash);
    for (size_t i = 0; i < c->queue.count; i++) {
        h = add_hash(h, ring_at(&c->queue, i));
    }
    for (size_t i = 0; i < c->exhausted_count; i++) {
        h = add_hash(h, c->exhausted[i]);
    }
    h = add_hash(h, c->lasts_upto);
    return h;
}

void consumer_check(struct consumer *c, const struct msg_index *x)
{
    size_t live = 0;
    size_t queued = 0;
    uint64_t redelivered = 0;
    uint64_t unsure = 0;
    uint64_t hash = 0;
    const struct pending_entry *before = NULL;
    for (size_t i = c->pending.head; i < c->pending.tail; i++) {
        const struct pending_entry *entry = &c->pending.entries[i];
        if (entry->state == PENDING_GONE) {
            continue;
        }
        struct msg_info info;
        assert(before == NULL || before->seq < entry->seq);
        assert(before == NULL || before->consumer_seq < entry->consumer_seq);
        assert(entry->seq <= c->delivered.stream_seq);
        assert(entry->consumer_seq <= c->delivered.consumer_seq);
        assert(entry->state != PENDING_WAITING || entry->deadline_ns >= c->due_ns);
        assert(msg_index_get(x, entry->seq, &info));
        live++;
        queued += entry->state == PENDING_QUEUED;
        redelivered += entry->count > 1;
        unsure += entry->is_unsure;
        assert(!entry->is_unsure || entry->state == PENDING_WAITING);
        hash += pending_entry_hash(entry);
        before = entry;
    }
    assert(live == c->pending.live);
    assert(queued == c->queue.count);
    assert(redelivered == c->redelivered);
    assert(unsure == c->unsure);
    assert(hash == c->pending.hash);
    assert(c->floor.stream_seq <= c->delivered.stream_seq);
    if (live == 0) {
        assert(c->floor.stream_seq == c->delivered.stream_seq);
    }
    if (!c->has_rank) {
        assert(c->pending_count == consumer_count_above(c, x, c->delivered.stream_seq));
    }
}
