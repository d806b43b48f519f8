/* ReadIndex: a leader proves that it still leads, by a round of PINGs to the voters (raft-guide 5).
 * All reads of a turn share one round. */
#include "raft/host_internal.h"

int group_read_index(struct raft_group *g, uint64_t token)
{
    if (!group_is_ready(g)) {
        return ERR_NOTLEADER;
    }
    if (g->reads_count >= READS_MAX) {
        return ERR_FULL;
    }
    if (g->reads_count == g->reads_cap) {
        g->reads_cap = g->reads_cap == 0 ? 4 : g->reads_cap * 2;
        g->reads = xrealloc(g->reads, g->reads_cap * sizeof *g->reads);
    }
    g->reads[g->reads_count++] =
        (struct read_request){token, g->r->commit_index, 0, g->host->now_ms};
    g->is_read_new = true;
    host_group_busy(g);
    return 0;
}

/* Confirmed by a majority of the voters, ourselves included: a newer leader would have needed one
 * of them at a higher term. */
static uint64_t read_seq_confirmed(struct raft_group *g)
{
    const struct raft *r = g->r;
    uint64_t best = 0;
    for (unsigned i = 0; i < r->configuration.n; i++) {
        const struct raft_server *s = &r->configuration.servers[i];
        if (s->role != RAFT_VOTER) {
            continue;
        }
        const struct replica *own = group_replica(g, s->id);
        uint64_t seq = s->id == g->raft_id ? g->read_seq : own == NULL ? 0 : own->read_seq;
        unsigned have = 0;
        for (unsigned k = 0; k < r->configuration.n; k++) {
            const struct raft_server *t = &r->configuration.servers[k];
            const struct replica *rep = group_replica(g, t->id);
            have += t->role == RAFT_VOTER &&
                    (t->id == g->raft_id || (rep != NULL && rep->read_seq >= seq));
        }
        if (have >= compat_voters(r) / 2 + 1 && seq > best) {
            best = seq;
        }
    }
    return best;
}

static void reads_answer(struct raft_group *g)
{
    if (!group_is_ready(g) || g->reads_count == 0) {
        return;
    }
    uint64_t seq = read_seq_confirmed(g), late_ms = g->host->opt.election_timeout_ms;
    unsigned n = 0;
    while (n < g->reads_count && g->reads[n].seq != 0 &&
           (g->reads[n].seq <= seq || g->host->now_ms - g->reads[n].since_ms > late_ms)) {
        n++;
    }
    if (n == 0) {
        return;
    }
    struct read_request *done = xmalloc(n * sizeof *done);
    memcpy(done, g->reads, n * sizeof *done);
    memmove(g->reads, g->reads + n, (g->reads_count - n) * sizeof *g->reads);
    g->reads_count -= n;
    for (unsigned i = 0; i < n; i++) {
        g->fsm.read_done(g->fsm.ctx, done[i].token, done[i].seq <= seq, done[i].index);
    }
    free(done);
}

void group_read_pong(struct raft_group *g, uint64_t from, uint64_t term, uint64_t seq)
{
    struct replica *rep = group_replica(g, from);
    if (g->r == NULL || g->r->current_term != term || rep == NULL || seq > g->read_seq) {
        return;
    }
    if (seq > rep->read_seq) {
        rep->read_seq = seq;
    }
    reads_answer(g);
}

static void reads_ask(struct raft_group *g)
{
    if (!g->is_read_new || !group_is_ready(g)) {
        return;
    }
    g->is_read_new = false;
    g->read_seq++;
    for (unsigned i = 0; i < g->reads_count; i++) {
        if (g->reads[i].seq == 0) {
            g->reads[i].seq = g->read_seq;
        }
    }
    for (unsigned i = 0; i < g->r->configuration.n; i++) {
        const struct raft_server *s = &g->r->configuration.servers[i];
        if (s->role == RAFT_VOTER && s->id != g->raft_id) {
            struct out *o = out_new(g, FRAME_PING, s->id, outbox_node_of(g, s->id));
            o->item.term = g->r->current_term;
            o->item.seq = g->read_seq;
            out_push(o);
        }
    }
}

void read_turn(struct raft_group *g)
{
    reads_ask(g);
    reads_answer(g);
}

void read_fail(struct raft_group *g)
{
    struct read_request *reads = g->reads;
    unsigned count = g->reads_count;
    g->reads = NULL;
    g->reads_count = g->reads_cap = 0;
    for (unsigned i = 0; i < count; i++) {
        g->fsm.read_done(g->fsm.ctx, reads[i].token, false, 0);
    }
    free(reads);
}
