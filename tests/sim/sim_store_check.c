/* What the store must hold: each live message of the machine as it was published, and no other. */
#include <stdlib.h>

#include "broker/msg_index.h"
#include "broker/stream_state.h"
#include "storage/base/err.h"
#include "tests/sim/sim_store_internal.h"

#define SAMPLES 3u

typedef unsigned long long ull;

void sim_store_check_hash(struct sim_replica *r)
{
    struct sim_history *h = &r->node->run->histories[r->group];
    uint64_t index = r->m.applied.index;
    uint64_t hash = sim_replica_full_hash(r);
    if (index >= h->full_cap) {
        uint64_t cap = 2 * index + 64;
        h->full_hashes = xrealloc(h->full_hashes, cap * sizeof *h->full_hashes);
        memset(h->full_hashes + h->full_cap, 0, (cap - h->full_cap) * sizeof *h->full_hashes);
        h->full_cap = cap;
    }
    if (h->full_hashes[index] == 0) {
        h->full_hashes[index] = hash;
    } else if (h->full_hashes[index] != hash) {
        sim_fail(r->node->run, "STATE", "node %u group %u: another whole state at %llu",
                 r->node->number, r->group, (ull)index);
    }
}

/* As production reads, but at once. */
static int read_message(struct js_stream *st, uint64_t seq, struct store_view *ret_view)
{
    struct store_read req;
    int rv = store_read(st->store, seq, ret_view);
    if (rv != ERR_AGAIN) {
        return rv;
    }
    rv = store_read_start(st->store, seq, &req);
    if (rv == 0) {
        store_read_run(&req);
        rv = store_read_done(&req);
    }
    return rv == 0 || rv == ERR_EXISTS ? store_read(st->store, seq, ret_view) : rv;
}

static bool is_equal(const struct sim_run *run, const struct sim_stored *m,
                     const struct store_view *v)
{
    struct sim_message_bytes want;
    sim_client_message(run->plan, m->uid, m->header_bytes > 0, &want);
    return v->time_ns == m->time_ns && slice_eq(v->subject, slice_str(want.subject)) &&
           slice_eq(v->header, slice_str(want.header)) &&
           slice_eq(v->payload, slice_of(want.payload, want.payload_bytes));
}

static void check_message(struct sim_replica *r, uint64_t seq)
{
    struct sim_run *run = r->node->run;
    struct js_stream *st = sim_stream_of(r);
    struct store_view view;
    int rv = read_message(st, seq, &view);
    if (rv == ERR_CORRUPT && r->node->was_store_damaged && !run->is_at_end) {
        return; /* It will be mended. */
    }
    if (rv != 0) {
        sim_fail(run, "CONTENT", "node %u group %u: message %llu is not in the store: %s",
                 r->node->number, r->group, (ull)seq, err_text(rv));
    } else if (!is_equal(run, &run->histories[r->group].stored[seq], &view)) {
        sim_fail(run, "CONTENT", "node %u group %u: message %llu is another in the store",
                 r->node->number, r->group, (ull)seq);
    }
}

void sim_store_check(struct sim_replica *r)
{
    const struct msg_index *x = stream_index(r->stream);
    struct store_stats stats;
    struct msg_cursor c;
    uint64_t seq;
    uint32_t subject_id;
    msg_cursor_init(&c, x, 0);
    while (msg_cursor_next(&c, &seq, &subject_id)) {
        check_message(r, seq);
    }
    store_stream_stats(sim_stream_of(r)->store, &stats);
    if (stats.messages != x->count) {
        sim_fail(r->node->run, "CONTENT", "node %u group %u: %llu messages in the store, %llu live",
                 r->node->number, r->group, (ull)stats.messages, (ull)x->count);
    }
}

void sim_store_sample(struct sim_replica *r)
{
    uint64_t first = stream_first_seq(r->stream);
    uint64_t last = stream_last_seq(r->stream);
    struct msg_info info;
    for (unsigned i = 0; i < SAMPLES && first > 0 && first <= last; i++) {
        uint64_t seq = first + sim_rng_below(&r->node->run->rng_store, last - first + 1);
        if (stream_get_message(r->stream, seq, &info)) {
            check_message(r, seq);
        }
    }
}
