/* Crash states of sim_disk.h: the trace of what was done, and the visit of what a power cut in the
 * middle of it leaves. */
#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"
#include "tests/lib/sim_disk_internal.h"

/* ---- The trace ---- */

void sim_trace_add(struct sim_disk *d, struct trace_op op)
{
    if (!d->is_tracing) {
        return;
    }
    if (d->trace_count == d->trace_cap) {
        d->trace_cap = d->trace_cap == 0 ? 64 : 2 * d->trace_cap;
        d->trace = xrealloc(d->trace, d->trace_cap * sizeof *d->trace);
    }
    op.from = op.from == NULL ? NULL : xslicedup(slice_str(op.from));
    op.to = op.to == NULL ? NULL : xslicedup(slice_str(op.to));
    if (op.data != NULL) {
        uint8_t *copy = xmalloc(op.len);
        memcpy(copy, op.data, op.len);
        op.data = copy;
    }
    d->trace[d->trace_count++] = op;
}

void sim_trace_close(struct sim_disk *d)
{
    for (uint64_t i = 0; i < d->trace_count; i++) {
        free(d->trace[i].from);
        free(d->trace[i].to);
        free(d->trace[i].data);
    }
    free(d->trace);
    d->trace = NULL;
    d->trace_count = 0;
    d->trace_cap = 0;
    sim_disk_free(d->trace_base);
    d->trace_base = NULL;
}

void sim_disk_trace_start(struct sim_disk *d)
{
    sim_trace_close(d);
    d->trace_base = sim_disk_clone(d);
    d->is_tracing = true;
}

uint64_t sim_disk_trace_count(const struct sim_disk *d)
{
    return d->trace_count;
}

/* ---- The visit ---- */

struct choice {
    uint64_t rng;
    uint64_t mask;
    unsigned keep_of_8; /* Chance of keeping, when sampled. */
    bool is_sampled;
};

static bool keep_chosen(void *arg, uint64_t k)
{
    struct choice *c = arg;
    return c->is_sampled ? sim_rng(&c->rng) % 8 < c->keep_of_8 : (c->mask >> k & 1) != 0;
}

/* Visit the states that a cut leaves of @at, which is kept as it is. */
static uint64_t visit(const struct sim_disk *at, uint64_t prefix, const struct sim_disk_states *how,
                      uint64_t *rng, bool *ret_go_on, sim_disk_state_cb cb, void *arg)
{
    uint64_t undecided = sim_undecided(at);
    bool is_sampled = undecided >= 40 || (UINT64_C(1) << undecided) > how->subsets_max;
    uint64_t n = is_sampled ? how->subsets_max : UINT64_C(1) << undecided;
    for (uint64_t i = 0; i < n; i++) {
        /* The first two samples keep nothing and everything; then thin, even and thick ones. */
        static const unsigned chances[] = {1, 4, 7};
        struct choice c = {sim_rng(rng), i, i < 2 ? (unsigned)i * 8 : chances[i % 3], is_sampled};
        struct sim_disk *state = sim_disk_clone(at);
        sim_crash(state, keep_chosen, &c);
        *ret_go_on = cb(arg, state, prefix);
        sim_disk_free(state);
        if (!*ret_go_on) {
            return i + 1;
        }
    }
    return n;
}

uint64_t sim_disk_each_state(struct sim_disk *d, const struct sim_disk_states *how,
                             sim_disk_state_cb cb, void *arg)
{
    uint64_t states = 0;
    uint64_t rng = how->seed;
    bool go_on = true;
    struct sim_disk *cursor = sim_disk_clone(d->trace_base);
    for (uint64_t i = 0; i <= d->trace_count && go_on; i++) {
        if (i % how->prefix_step == 0) {
            /* The next operation may be under way: a write of it has happened in part. */
            struct sim_disk *at = sim_disk_clone(cursor);
            if (i < d->trace_count) {
                sim_replay(at, &d->trace[i], true);
            }
            states += visit(at, i, how, &rng, &go_on, cb, arg);
            sim_disk_free(at);
        }
        if (i < d->trace_count) {
            sim_replay(cursor, &d->trace[i], false);
        }
    }
    sim_disk_free(cursor);
    return states;
}
