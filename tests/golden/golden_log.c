#include "tests/golden/golden_log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

bool golden_log_open(struct golden_log *log, struct slice file)
{
    struct reader r = reader_of(file);
    struct slice magic = reader_bytes(&r, strlen(GOLDEN_MAGIC));
    log->created_ns = (int64_t)reader_u64(&r);
    log->config = reader_bytes(&r, reader_u32(&r));
    log->steps = r;
    return !r.failed && slice_eq_str(magic, GOLDEN_MAGIC);
}

int golden_log_next(struct golden_log *log, struct golden_step *ret_step)
{
    struct reader *r = &log->steps;
    if (r->len == 0) {
        return 0;
    }
    ret_step->term = reader_u64(r);
    ret_step->entry = reader_bytes(r, reader_u32(r));
    ret_step->state_hash = reader_u64(r);
    ret_step->effects_hash = reader_u64(r);
    return r->failed ? -1 : 1;
}

static void add_text(struct buf *b, struct slice s)
{
    buf_append_u32(b, (uint32_t)s.len);
    buf_append_slice(b, s);
}

uint64_t golden_effects_hash(const struct stream_effects *e)
{
    struct buf b = BUF_EMPTY;
    buf_append_u64(&b, e->stores_count);
    for (size_t i = 0; i < e->stores_count; i++) {
        const struct effect_store *m = &e->stores[i];
        buf_append_u64(&b, m->seq);
        buf_append_u64(&b, (uint64_t)m->time_ns);
        add_text(&b, m->subject);
        add_text(&b, m->header);
        add_text(&b, m->payload);
    }
    for (size_t i = 0; i < e->removes_count; i++) {
        buf_append_u64(&b, e->removes[i].first_seq);
        buf_append_u64(&b, e->removes[i].last_seq);
    }
    uint64_t hash = XXH3_64bits(b.ptr, b.len);
    buf_close(&b);
    return hash;
}

void golden_log_begin(struct buf *out, int64_t created_ns, struct slice config)
{
    buf_append_str(out, GOLDEN_MAGIC);
    buf_append_u64(out, (uint64_t)created_ns);
    add_text(out, config);
}

void golden_log_add(struct buf *out, const struct golden_step *step)
{
    buf_append_u64(out, step->term);
    add_text(out, step->entry);
    buf_append_u64(out, step->state_hash);
    buf_append_u64(out, step->effects_hash);
}
