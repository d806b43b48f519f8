#include "tests/sim/sim_machine.h"

#include <stdlib.h>
#include <xxhash.h>

#include "storage/base/err.h"
#include "tests/sim/sim_rng.h"

uint64_t sim_hash(struct slice bytes)
{
    return XXH3_64bits(bytes.ptr, bytes.len) | 1; /* Never 0, which means "none". */
}

void sim_machine_init(struct sim_machine *m)
{
    *m = (struct sim_machine){.applied = {.hash = 1}, .durable = {.hash = 1}};
    list_init(&m->queue);
}

void sim_queued_free(struct sim_queued *q)
{
    if (q != NULL) {
        buf_close(&q->bytes);
        free(q);
    }
}

void sim_machine_close(struct sim_machine *m)
{
    struct list *it;
    while ((it = list_pop_front(&m->queue)) != NULL) {
        sim_queued_free(container_of(it, struct sim_queued, queue));
    }
}

void sim_machine_crash(struct sim_machine *m)
{
    sim_machine_close(m);
    m->applied = m->durable;
    m->has_step_event = false;
    m->is_flushing = false;
}

uint64_t sim_machine_last(const struct sim_machine *m)
{
    return list_is_empty(&m->queue) ? m->applied.index
                                    : container_of(m->queue.prev, struct sim_queued, queue)->index;
}

bool sim_machine_queue(struct sim_machine *m, uint64_t index, uint64_t term, bool is_command,
                       struct slice bytes, uint64_t token)
{
    if (index <= sim_machine_last(m)) {
        return false;
    }
    struct sim_queued *q = xcalloc(1, sizeof *q);
    q->index = index;
    q->term = term;
    q->is_command = is_command;
    q->token = token;
    buf_append_slice(&q->bytes, bytes);
    list_push_back(&m->queue, &q->queue);
    return true;
}

struct sim_queued *sim_machine_step(struct sim_machine *m)
{
    struct list *it = list_pop_front(&m->queue);
    if (it == NULL) {
        return NULL;
    }
    struct sim_queued *q = container_of(it, struct sim_queued, queue);
    m->applied.index = q->index;
    m->applied.term = q->term;
    if (q->is_command) {
        m->applied.count++;
        m->applied.hash =
            sim_fold(sim_fold(m->applied.hash, q->index), sim_hash(buf_slice(&q->bytes)));
    }
    return q;
}

void sim_state_encode(const struct sim_state *state, size_t bytes, struct buf *out)
{
    buf_append_u64(out, state->index);
    buf_append_u64(out, state->term);
    buf_append_u64(out, state->count);
    buf_append_u64(out, state->hash);
    for (uint64_t i = 0; out->len < bytes; i++) {
        buf_append_u64(out, sim_fold(state->hash, i));
    }
}

int sim_state_decode(struct slice bytes, struct sim_state *ret_state)
{
    struct reader r = reader_of(bytes);
    struct sim_state s = {0};
    s.index = reader_u64(&r);
    s.term = reader_u64(&r);
    s.count = reader_u64(&r);
    s.hash = reader_u64(&r);
    for (uint64_t i = 0; r.len > 0 && !r.failed; i++) {
        if (reader_u64(&r) != sim_fold(s.hash, i)) {
            return ERR_CORRUPT;
        }
    }
    if (r.failed) {
        return ERR_CORRUPT;
    }
    *ret_state = s;
    return 0;
}
