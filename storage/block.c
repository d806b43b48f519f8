#include "storage/block.h"

#include <assert.h>
#include <stdlib.h>
#include <xxhash.h>

#include "storage/base/err.h"

#define CHUNK_BYTES_MIN 2048u
#define CHUNK_BYTES_MAX (256u * 1024)

struct mem_chunk {
    struct mem_chunk *next;
    size_t len;
    size_t cap;
    uint8_t *ptr; /* Behind the struct, or a buffer that was taken over. */
    bool is_taken;
};

const uint8_t block_record_damaged[1] = {0};

struct store_mem *mem_new(uint64_t first_seq)
{
    struct store_mem *mem = xcalloc(1, sizeof *mem);
    mem->refs = 1;
    mem->first_seq = first_seq;
    mem->bytes = sizeof *mem;
    return mem;
}

void mem_ref(struct store_mem *mem)
{
    mem->refs++;
}

void mem_unref(struct store_mem *mem)
{
    if (mem == NULL || --mem->refs > 0) {
        return;
    }
    while (mem->chunks != NULL) {
        struct mem_chunk *c = mem->chunks;
        mem->chunks = c->next;
        if (c->is_taken) {
            free(c->ptr);
        }
        free(c);
    }
    free(mem->records);
    free(mem);
}

static uint8_t *mem_alloc(struct store_mem *mem, size_t bytes)
{
    struct mem_chunk *c = mem->chunks;
    if (c == NULL || c->cap - c->len < bytes) {
        /* Small streams stay small: each chunk is twice the one before. */
        size_t cap = c == NULL ? CHUNK_BYTES_MIN : c->cap * 2;
        cap = cap > CHUNK_BYTES_MAX ? CHUNK_BYTES_MAX : cap;
        cap = cap < bytes ? bytes : cap;
        c = xmalloc(sizeof *c + cap);
        *c = (struct mem_chunk){mem->chunks, 0, cap, (uint8_t *)(c + 1), false};
        mem->chunks = c;
        mem->bytes += sizeof *c + cap;
    }
    uint8_t *p = c->ptr + c->len;
    c->len += bytes;
    return p;
}

static void mem_reserve_slots(struct store_mem *mem, uint32_t span)
{
    if (span <= mem->cap) {
        return;
    }
    uint32_t cap = mem->cap < 16 ? 16 : mem->cap * 2;
    cap = cap < span ? span : cap;
    mem->records = xrealloc(mem->records, cap * sizeof *mem->records);
    mem->bytes += (cap - mem->cap) * sizeof *mem->records;
    mem->cap = cap;
}

const uint8_t *mem_append(struct store_mem *mem, uint64_t sid, const struct store_message *m)
{
    assert(m->seq >= mem->first_seq + mem->span);
    assert(m->seq - mem->first_seq < BLOCK_SPAN_MAX);
    size_t bytes = RECORD_HEADER_BYTES + m->subject.len + m->header.len + m->payload.len;
    uint8_t *r = mem_alloc(mem, bytes);
    r[4] = BLOCK_FORMAT_VERSION;
    r[5] = m->flags;
    put_u16(r + 6, (uint16_t)m->subject.len);
    put_u32(r + 8, (uint32_t)m->header.len);
    put_u32(r + 12, (uint32_t)m->payload.len);
    put_u64(r + 16, m->seq);
    put_u64(r + 24, (uint64_t)m->time_ns);
    uint8_t *p = r + RECORD_HEADER_BYTES;
    struct slice parts[3] = {m->subject, m->header, m->payload};
    for (size_t i = 0; i < 3; i++) {
        if (parts[i].len > 0) {
            memcpy(p, parts[i].ptr, parts[i].len);
            p += parts[i].len;
        }
    }
    put_u32(r, record_crc(r, sid));

    uint32_t slot = (uint32_t)(m->seq - mem->first_seq);
    mem_reserve_slots(mem, slot + 1);
    while (mem->span < slot) {
        mem->records[mem->span++] = NULL;
    }
    mem->records[mem->span++] = r;
    return r;
}

struct store_mem *mem_new_damaged(uint64_t first_seq, uint32_t span)
{
    struct store_mem *mem = mem_new(first_seq);
    mem_reserve_slots(mem, span);
    for (uint32_t i = 0; i < span; i++) {
        mem->records[i] = RECORD_DAMAGED;
    }
    mem->span = span;
    mem->damaged_count = span;
    return mem;
}

void mem_put(struct store_mem *mem, struct slice record)
{
    uint64_t seq = record_seq(record.ptr);
    assert(seq >= mem->first_seq);
    assert(seq - mem->first_seq < mem->span);
    uint8_t *r = mem_alloc(mem, record.len);
    memcpy(r, record.ptr, record.len);
    const uint8_t **slot = &mem->records[seq - mem->first_seq];
    mem->damaged_count -= *slot == RECORD_DAMAGED ? 1 : 0;
    *slot = r;
}

/* ---- Building ---- */

/* Numbers subjects in order of first use. */
struct subject_table {
    struct slice *subjects;
    uint32_t *counts;
    uint32_t count;
    uint32_t *buckets; /* Number + 1; 0: free. A power of two of them. */
    size_t buckets_count;
};

static void subjects_init(struct subject_table *t, size_t count_max)
{
    t->count = 0;
    t->buckets_count = 64;
    while (t->buckets_count < count_max * 2) {
        t->buckets_count *= 2;
    }
    t->buckets = xcalloc(t->buckets_count, sizeof *t->buckets);
    t->subjects = xmalloc(count_max * sizeof *t->subjects);
    t->counts = xmalloc(count_max * sizeof *t->counts);
}

static uint32_t subjects_number(struct subject_table *t, struct slice subject, uint32_t guess)
{
    if (guess < t->count && slice_eq(t->subjects[guess], subject)) {
        t->counts[guess]++;
        return guess;
    }
    size_t at = XXH3_64bits(subject.ptr, subject.len) & (t->buckets_count - 1);
    while (t->buckets[at] != 0) {
        uint32_t n = t->buckets[at] - 1;
        if (slice_eq(t->subjects[n], subject)) {
            t->counts[n]++;
            return n;
        }
        at = (at + 1) & (t->buckets_count - 1);
    }
    t->buckets[at] = t->count + 1;
    t->subjects[t->count] = subject;
    t->counts[t->count] = 1;
    return t->count++;
}

static void subjects_close(struct subject_table *t)
{
    free(t->subjects);
    free(t->counts);
    free(t->buckets);
}

static void build_index(struct buf *out, const uint8_t *const *records, size_t records_count,
                        const struct block_meta *meta, struct subject_table *t,
                        struct bitset *absent)
{
    uint32_t number = 0;
    uint64_t next_seq = meta->first_seq;
    for (size_t i = 0; i < records_count; i++) {
        const uint8_t *r = records[i];
        if (r == NULL) {
            continue;
        }
        uint64_t seq = record_seq(r);
        assert(seq >= next_seq);
        if (seq > next_seq) {
            bitset_set_range(absent, (uint32_t)(next_seq - meta->first_seq),
                             (uint32_t)(seq - 1 - meta->first_seq));
        }
        next_seq = seq + 1;
        number =
            subjects_number(t, slice_of(r + RECORD_HEADER_BYTES, record_subject_bytes(r)), number);
        uint8_t e[INDEX_ENTRY_BYTES];
        put_u16(e, (uint16_t)number);
        e[2] = r[5];
        uint32_t header_bytes = record_header_bytes(r);
        uint64_t delta = (uint64_t)(record_time(r) - meta->time_min_ns);
        memcpy(e + 3, &header_bytes, 3);
        memcpy(e + 6, &delta, 6);
        put_u32(e + 12, record_payload_bytes(r));
        buf_append(out, e, sizeof e);
    }
}

static void survey(const uint8_t *const *records, size_t records_count, struct block_meta *meta,
                   size_t *ret_bytes)
{
    *meta = (struct block_meta){.time_min_ns = INT64_MAX, .time_max_ns = INT64_MIN};
    *ret_bytes = 0;
    for (size_t i = 0; i < records_count; i++) {
        const uint8_t *r = records[i];
        if (r == NULL) {
            continue;
        }
        assert(r != RECORD_DAMAGED);
        meta->first_seq = meta->count == 0 ? record_seq(r) : meta->first_seq;
        meta->last_seq = record_seq(r);
        meta->count++;
        int64_t time_ns = record_time(r);
        meta->time_min_ns = time_ns < meta->time_min_ns ? time_ns : meta->time_min_ns;
        meta->time_max_ns = time_ns > meta->time_max_ns ? time_ns : meta->time_max_ns;
        *ret_bytes += record_bytes(r);
    }
    assert(meta->count > 0);
    assert(meta->last_seq - meta->first_seq < BLOCK_SPAN_MAX);
    assert(meta->time_max_ns - meta->time_min_ns <= BLOCK_TIME_SPAN_MAX);
}

static void build_header(uint8_t *h, const struct block_owner *owner, const struct block_meta *meta)
{
    memset(h, 0, BLOCK_HEADER_BYTES);
    put_u32(h, BLOCK_MAGIC);
    put_u16(h + 4, BLOCK_FORMAT_VERSION);
    put_u32(h + 8, owner->machine_version);
    put_u64(h + 16, owner->gid);
    put_u64(h + 24, owner->sid);
    put_u64(h + 32, meta->first_seq);
    put_u64(h + 40, meta->last_seq);
    put_u64(h + 48, (uint64_t)meta->time_min_ns);
    put_u32(h + 56, meta->count);
    put_u32(h + 12, crc32c(0, h, BLOCK_HEADER_BYTES));
}

void block_build(struct buf *out, const struct block_owner *owner, const uint8_t *const *records,
                 size_t records_count, struct block_meta *ret_meta)
{
    size_t records_bytes;
    survey(records, records_count, ret_meta, &records_bytes);
    struct block_meta *meta = ret_meta;
    size_t begin = out->len;
    build_header(buf_reserve(out, BLOCK_HEADER_BYTES + records_bytes), owner, meta);
    out->len += BLOCK_HEADER_BYTES;
    for (size_t i = 0; i < records_count; i++) {
        if (records[i] != NULL) {
            buf_append(out, records[i], (size_t)record_bytes(records[i]));
        }
    }
    meta->index_off = (uint32_t)(out->len - begin);

    struct subject_table t;
    subjects_init(&t, meta->count);
    struct bitset absent = {.bits = (uint32_t)(meta->last_seq - meta->first_seq + 1)};
    build_index(out, records, records_count, meta, &t, &absent);
    uint32_t subjects_off = (uint32_t)(out->len - begin);
    for (uint32_t i = 0; i < t.count; i++) {
        buf_append_u16(out, (uint16_t)t.subjects[i].len);
        buf_append_u32(out, t.counts[i]);
        buf_append_slice(out, t.subjects[i]);
    }
    uint32_t absent_off = (uint32_t)(out->len - begin);
    bitset_encode(&absent, out);
    bitset_close(&absent);

    uint8_t f[BLOCK_FOOTER_BYTES] = {0};
    const uint8_t *base = out->ptr + begin;
    meta->bytes = (uint32_t)(out->len - begin + BLOCK_FOOTER_BYTES);
    put_u32(f, BLOCK_FOOTER_MAGIC);
    put_u64(f + 8, owner->sid);
    put_u64(f + 16, meta->first_seq);
    put_u64(f + 24, meta->last_seq);
    put_u64(f + 32, (uint64_t)meta->time_min_ns);
    put_u64(f + 40, (uint64_t)meta->time_max_ns);
    put_u32(f + 48, meta->count);
    put_u32(f + 52, t.count);
    put_u32(f + 56, meta->index_off);
    put_u32(f + 60, subjects_off);
    put_u32(f + 64, absent_off);
    size_t body = meta->index_off - BLOCK_HEADER_BYTES;
    size_t index = out->len - begin - meta->index_off;
    uint32_t body_crc = crc32c(0, base + BLOCK_HEADER_BYTES, body);
    uint32_t index_crc = crc32c(0, base + meta->index_off, index);
    put_u32(f + 68, index_crc);
    put_u32(f + 72, body_crc);
    put_u32(f + 76, meta->bytes);
    put_u32(f + 4, crc32c(0, f, sizeof f));
    /* Of the whole, without reading it all once more. */
    meta->crc = crc32c_join(crc32c(0, base, BLOCK_HEADER_BYTES), body_crc, body);
    meta->crc = crc32c(crc32c_join(meta->crc, index_crc, index), f, sizeof f);
    buf_append(out, f, sizeof f);
    subjects_close(&t);
}

/* ---- Reading ---- */

static bool parse_subjects(struct block_index *ix, struct slice in)
{
    struct reader r = reader_of(in);
    for (uint32_t i = 0; i < ix->subjects_count; i++) {
        uint16_t len = reader_u16(&r);
        reader_u32(&r);
        ix->subjects[i] = reader_bytes(&r, len);
    }
    return !r.failed && r.len == 0;
}

int block_index_parse(struct slice tail, const struct block_owner *owner,
                      const struct block_meta *meta, struct block_index *ret_index)
{
    if (tail.len < BLOCK_FOOTER_BYTES || meta->bytes < meta->index_off ||
        tail.len != meta->bytes - meta->index_off) {
        return ERR_CORRUPT;
    }
    uint8_t f[BLOCK_FOOTER_BYTES];
    memcpy(f, tail.ptr + tail.len - sizeof f, sizeof f);
    uint32_t crc = get_u32(f + 4);
    put_u32(f + 4, 0);
    if (crc32c(0, f, sizeof f) != crc || get_u32(f) != BLOCK_FOOTER_MAGIC ||
        get_u64(f + 8) != owner->sid || get_u64(f + 16) != meta->first_seq ||
        get_u64(f + 24) != meta->last_seq || get_u32(f + 48) != meta->count ||
        get_u32(f + 56) != meta->index_off || get_u32(f + 76) != meta->bytes) {
        return ERR_CORRUPT;
    }
    size_t body = tail.len - sizeof f;
    uint64_t subjects_at = (uint64_t)meta->count * INDEX_ENTRY_BYTES;
    uint64_t absent_at = (uint64_t)get_u32(f + 64) - meta->index_off;
    uint32_t subjects_count = get_u32(f + 52);
    if (crc32c(0, tail.ptr, body) != get_u32(f + 68) || subjects_at > absent_at ||
        absent_at > body || get_u32(f + 60) != meta->index_off + subjects_at ||
        subjects_count > meta->count || meta->last_seq < meta->first_seq ||
        meta->last_seq - meta->first_seq >= BLOCK_SPAN_MAX) {
        return ERR_CORRUPT;
    }
    struct block_index ix = {.entries = tail.ptr, .count = meta->count};
    ix.subjects_count = subjects_count;
    ix.subjects = xcalloc(subjects_count, sizeof *ix.subjects);
    uint32_t span = (uint32_t)(meta->last_seq - meta->first_seq + 1);
    bool ok = parse_subjects(&ix, slice_of(tail.ptr + subjects_at, absent_at - subjects_at)) &&
              bitset_decode(&ix.absent, span, slice_of(tail.ptr + absent_at, body - absent_at)) &&
              ix.absent.count + ix.count == span;
    for (uint32_t i = 0; i < ix.count && ok; i++) {
        ok = get_u16(ix.entries + (size_t)i * INDEX_ENTRY_BYTES) < subjects_count;
    }
    if (!ok) {
        block_index_close(&ix);
        return ERR_CORRUPT;
    }
    *ret_index = ix;
    return 0;
}

void block_index_close(struct block_index *ix)
{
    free(ix->subjects);
    bitset_close(&ix->absent);
    *ix = (struct block_index){0};
}

bool record_is_valid(const uint8_t *r, uint64_t left, uint64_t sid)
{
    return left >= RECORD_HEADER_BYTES && r[4] == BLOCK_FORMAT_VERSION && record_bytes(r) <= left &&
           record_crc(r, sid) == get_u32(r);
}

/* Place the records where the index says. Each is proven by its own checksum unless the block's
 * was right. */
static bool place_by_index(struct store_mem *mem, const uint8_t *raw,
                           const struct block_owner *owner, const struct block_meta *meta,
                           const struct block_index *ix, bool is_proven)
{
    uint64_t off = BLOCK_HEADER_BYTES;
    uint32_t slot = 0;
    for (uint32_t i = 0; i < ix->count; i++, slot++) {
        while (bitset_has(&ix->absent, slot)) {
            mem->records[slot++] = NULL;
        }
        const uint8_t *e = ix->entries + (size_t)i * INDEX_ENTRY_BYTES;
        uint32_t header_bytes = 0;
        memcpy(&header_bytes, e + 3, 3);
        uint64_t bytes = (uint64_t)RECORD_HEADER_BYTES + ix->subjects[get_u16(e)].len +
                         header_bytes + get_u32(e + 12);
        if (off + bytes > meta->index_off) {
            return false;
        }
        const uint8_t *r = raw + off;
        bool ok = is_proven || (record_is_valid(r, bytes, owner->sid) && record_bytes(r) == bytes &&
                                record_seq(r) == meta->first_seq + slot);
        mem->records[slot] = ok ? r : RECORD_DAMAGED;
        mem->damaged_count += ok ? 0 : 1;
        off += bytes;
    }
    return off == meta->index_off;
}

/* Without an index: what has a valid checksum and a plausible sequence is a record; between two of
 * them look at every byte. */
static void place_by_scan(struct store_mem *mem, const uint8_t *raw,
                          const struct block_owner *owner, const struct block_meta *meta)
{
    for (uint32_t i = 0; i < mem->span; i++) {
        mem->records[i] = RECORD_DAMAGED;
    }
    uint32_t found = 0;
    uint64_t next_seq = meta->first_seq;
    uint64_t off = BLOCK_HEADER_BYTES;
    while (off + RECORD_HEADER_BYTES <= meta->index_off && next_seq <= meta->last_seq) {
        const uint8_t *r = raw + off;
        uint64_t seq = record_seq(r);
        if (seq < next_seq || seq > meta->last_seq ||
            !record_is_valid(r, meta->index_off - off, owner->sid)) {
            off++;
            continue;
        }
        mem->records[seq - meta->first_seq] = r;
        found++;
        next_seq = seq + 1;
        off += record_bytes(r);
    }
    mem->damaged_count = mem->span - found;
    if (found == meta->count) {
        /* All there: what is left over was absent. */
        for (uint32_t i = 0; i < mem->span; i++) {
            mem->records[i] = mem->records[i] == RECORD_DAMAGED ? NULL : mem->records[i];
        }
        mem->damaged_count = 0;
    }
}

static bool header_is_valid(const uint8_t *raw, const struct block_owner *owner,
                            const struct block_meta *meta)
{
    uint8_t h[BLOCK_HEADER_BYTES];
    memcpy(h, raw, sizeof h);
    put_u32(h + 12, 0);
    return get_u32(h) == BLOCK_MAGIC && get_u16(h + 4) == BLOCK_FORMAT_VERSION &&
           crc32c(0, h, sizeof h) == get_u32(raw + 12) && get_u64(h + 16) == owner->gid &&
           get_u64(h + 24) == owner->sid && get_u64(h + 32) == meta->first_seq;
}

int block_load(uint8_t *raw, const struct block_owner *owner, const struct block_meta *meta,
               struct store_mem **ret_mem, bool *ret_is_index_bad)
{
    assert(meta->last_seq >= meta->first_seq);
    assert(meta->last_seq - meta->first_seq < BLOCK_SPAN_MAX);
    assert(meta->index_off >= BLOCK_HEADER_BYTES);
    assert(meta->index_off <= meta->bytes);
    struct store_mem *mem = mem_new(meta->first_seq);
    uint32_t span = (uint32_t)(meta->last_seq - meta->first_seq + 1);
    mem_reserve_slots(mem, span);
    memset(mem->records, 0, span * sizeof *mem->records);
    mem->span = span;
    mem->chunks = xmalloc(sizeof *mem->chunks);
    *mem->chunks = (struct mem_chunk){NULL, meta->bytes, meta->bytes, raw, true};
    mem->bytes += meta->bytes;

    bool is_proven = crc32c(0, raw, meta->bytes) == meta->crc && header_is_valid(raw, owner, meta);
    struct block_index ix;
    int rv = block_index_parse(slice_of(raw + meta->index_off, meta->bytes - meta->index_off),
                               owner, meta, &ix);
    bool is_placed = false;
    if (rv == 0) {
        is_placed = place_by_index(mem, raw, owner, meta, &ix, is_proven);
        block_index_close(&ix);
    }
    if (!is_placed) {
        place_by_scan(mem, raw, owner, meta);
    }
    *ret_mem = mem;
    *ret_is_index_bad = !is_placed;
    return is_proven && is_placed ? 0 : ERR_CORRUPT;
}
