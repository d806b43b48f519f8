/* Proposals: collected in the turn, handed to the core in batches as far as G10 lets them, and told
 * what became of them: applied with their token, or lost.
 *
 *   group_propose --> pending --> propose_turn --> flying --> propose_token_of (applied) */
#include <assert.h>

#include "raft/host_internal.h"

bool group_is_ready(const struct raft_group *g)
{
    return g->r != NULL && g->r->state == RAFT_LEADER && g->was_leader &&
           g->lead_term == g->r->current_term && g->r->last_applied >= g->barrier_index &&
           g->delivered >= g->barrier_index;
}

static void pending_done(struct raft_group *g, uint64_t bytes)
{
    g->pending_bytes -= bytes;
    g->host->node_pending_bytes -= bytes;
}

void group_fail_proposals(struct raft_group *g)
{
    /* The callbacks may propose again, which is refused: there is no leader here now. */
    while (g->flying_count > 0) {
        struct flying f = g->flying[g->flying_front];
        g->flying_front = (g->flying_front + 1) % g->flying_cap;
        g->flying_count--;
        pending_done(g, f.bytes);
        g->fsm.lost(g->fsm.ctx, f.token, GROUP_LOST_UNKNOWN);
    }
    struct proposal *pending = g->pending;
    unsigned count = g->pending_count;
    g->pending = NULL;
    g->pending_count = g->pending_cap = 0;
    for (unsigned i = 0; i < count; i++) {
        pending_done(g, pending[i].buf.len);
        raft_free(pending[i].buf.base);
        g->fsm.lost(g->fsm.ctx, pending[i].token, GROUP_LOST_DROPPED);
    }
    free(pending);
    read_fail(g);
    g->batch_count = 0;
}

int group_propose(struct raft_group *g, struct slice bytes, uint64_t token)
{
    struct raft_host *h = g->host;
    assert(token != 0);
    if (!group_is_ready(g)) {
        return ERR_NOTLEADER;
    }
    if (g->move_to != 0) {
        return ERR_BUSY;
    }
    if (bytes.len > g->entry_bytes_max) {
        return ERR_TOOBIG;
    }
    if (g->pending_bytes > 0 &&
        (g->pending_bytes + bytes.len > h->opt.pending_bytes_max ||
         h->node_pending_bytes + bytes.len > h->opt.node_pending_bytes_max)) {
        return ERR_FULL;
    }
    if (g->pending_count == g->pending_cap) {
        g->pending_cap = g->pending_cap == 0 ? 4 : g->pending_cap * 2;
        g->pending = xrealloc(g->pending, g->pending_cap * sizeof *g->pending);
    }
    struct proposal *p = &g->pending[g->pending_count++];
    p->token = token;
    p->buf.len = bytes.len;
    p->buf.base = raft_malloc(bytes.len == 0 ? 1 : bytes.len); /* Becomes the log's. */
    if (bytes.len > 0) {
        memcpy(p->buf.base, bytes.ptr, bytes.len);
    }
    g->pending_bytes += bytes.len;
    h->node_pending_bytes += bytes.len;
    host_group_busy(g);
    return 0;
}

static void flying_add(struct raft_group *g, struct flying f)
{
    if (g->flying_count == g->flying_cap) {
        unsigned cap = g->flying_cap == 0 ? 8 : g->flying_cap * 2;
        struct flying *flying = xmalloc(cap * sizeof *flying);
        for (unsigned i = 0; i < g->flying_count; i++) {
            flying[i] = g->flying[(g->flying_front + i) % g->flying_cap];
        }
        free(g->flying);
        g->flying = flying;
        g->flying_front = 0;
        g->flying_cap = cap;
    }
    g->flying[(g->flying_front + g->flying_count++) % g->flying_cap] = f;
}

static void apply_cb(struct raft_apply *req, int status, void *result)
{
    (void)status; /* Fires for the first entry only; the FIFO of flying ones knows better. */
    (void)result;
    free(req);
}

/* One raft_apply with what is pending, bounded. */
static void apply_batch(struct raft_group *g)
{
    struct raft_buffer bufs[BATCH_ENTRIES_MAX];
    struct raft *r = g->r;
    uint64_t index = compat_log_last(r) + 1;
    unsigned n = 0;
    size_t bytes = 0;
    while (n < g->pending_count && n < BATCH_ENTRIES_MAX &&
           (n == 0 || bytes + g->pending[n].buf.len <= BATCH_BYTES_MAX)) {
        bufs[n] = g->pending[n].buf;
        bytes += bufs[n].len;
        flying_add(g, (struct flying){index + n, r->current_term, g->pending[n].token,
                                      (uint32_t)bufs[n].len});
        n++;
    }
    memmove(g->pending, g->pending + n, (g->pending_count - n) * sizeof *g->pending);
    g->pending_count -= n;
    if (g->batch_count < 4) {
        g->batch_last[g->batch_count++] = index + n - 1;
    }
    struct raft_apply *req = xmalloc(sizeof *req);
    int rv = raft_apply(r, req, bufs, n, apply_cb);
    if (rv != 0) {
        /* Only a core that does not lead refuses; group_is_ready was true. */
        free(req);
        for (unsigned i = 0; i < n; i++) {
            raft_free(bufs[i].base);
        }
        group_fail(g, "a ready leader refused a proposal");
        return;
    }
    guard_post(g);
}

void propose_turn(struct raft_group *g)
{
    while (g->pending_count > 0 && group_is_ready(g) && !g->is_reload_due &&
           !members_is_paused(g) &&
           (g->batch_count < g->host->opt.pipeline_max || !IS_ON(g->host, G10))) {
        apply_batch(g);
    }
}

uint64_t propose_token_of(struct raft_group *g, uint64_t index, uint64_t term)
{
    uint64_t token = 0;
    while (g->flying_count > 0) {
        struct flying *f = &g->flying[g->flying_front];
        if (f->index > index) {
            break;
        }
        if (f->index == index && f->term == term) {
            token = f->token;
        } else {
            g->fsm.lost(g->fsm.ctx, f->token, GROUP_LOST_DROPPED);
        }
        g->pending_bytes -= f->bytes;
        g->host->node_pending_bytes -= f->bytes;
        g->flying_front = (g->flying_front + 1) % g->flying_cap;
        g->flying_count--;
    }
    return token;
}
