/* Votes the host gives itself, and suspicion (G11, G16, G18). */
#include "raft/host_internal.h"

bool vote_is_hosts(const struct raft_group *g)
{
    return compat_role(g->r, g->raft_id) != RAFT_VOTER;
}

static bool is_newer_or_equal(uint64_t term, uint64_t index, uint64_t than_term,
                              uint64_t than_index)
{
    return term > than_term || (term == than_term && index >= than_index);
}

/* B24: a core that is no voter in its own log refuses every vote; but only the candidate knows
 * whether the vote counts. */
void vote_answer(struct raft_group *g, const struct raft_request_vote *v, uint64_t from,
                 uint64_t node_id)
{
    struct raft_host *h = g->host;
    uint64_t term = g->r->current_term;
    uint64_t last = compat_log_last(g->r);
    uint64_t last_term = compat_term_at(g->r, last);
    bool is_fresh =
        g->leader_seen_ms != 0 && h->now_ms - g->leader_seen_ms < h->opt.election_timeout_ms;
    /* G18: its acknowledgements were never counted, so no commit depends on its log: unless it was
     * a voter before, was removed and came back. */
    bool is_free = IS_ON(h, G18) && compat_role(g->r, g->raft_id) == RAFT_STANDBY && g->is_newcomer;
    bool is_granted = false;

    h->stats.host_votes++;
    if (v->term >= term && (!is_fresh || v->disrupt_leader) &&
        (is_free || is_newer_or_equal(v->last_log_term, v->last_log_index, last_term, last))) {
        uint64_t voted = v->term > term ? 0 : g->voted_for;
        if (v->pre_vote) {
            is_granted = true;
        } else if (voted == 0 || voted == v->candidate_id) {
            is_granted = true;
            term = v->term;
            g->term = v->term;
            g->voted_for = v->candidate_id;
            g->voted_ms = h->now_ms;
            log_put_meta(g);
            /* The core must know both; it has no call for it. */
            if (!instance_reload(g, 0)) {
                return;
            }
        }
    }
    struct out *o = out_new(g, FRAME_VOTE_RESULT, from, node_id);
    o->item.term = v->pre_vote && v->term > term ? v->term : term;
    o->item.flags =
        (uint8_t)((is_granted ? FRAME_RESULT_GRANTED : 0) | (v->pre_vote ? FRAME_RESULT_PRE : 0));
    out_push(o);
}

/* ---- Suspicion (G11) ----
 *
 * What was lost may be a term, and with it a vote or an acknowledgement of its leader: the votes
 * that elected it, and what it committed, rest on this replica. A leader of an older term that
 * knows nothing of it must not be helped to commit, nor a second candidate be elected. Whoever got
 * something from here had its term on its own disk before: so once each other voter has told its
 * term, in this process, all terms in question are known, and none is above the highest of them. */

bool vote_suspect_knows_terms(struct raft_group *g)
{
    const struct raft *r = g->r;
    for (unsigned i = 0; i < r->configuration.n; i++) {
        const struct raft_server *s = &r->configuration.servers[i];
        const struct replica *rep = group_replica(g, s->id);
        if (s->role == RAFT_VOTER && s->id != g->raft_id && (rep == NULL || rep->told_term == 0)) {
            return false;
        }
    }
    return true;
}

static uint64_t highest_told(const struct raft_group *g)
{
    uint64_t highest = 0;
    for (unsigned i = 0; i < g->replicas_count; i++) {
        highest = g->replicas[i].told_term > highest ? g->replicas[i].told_term : highest;
    }
    return highest;
}

void vote_suspect_learn(struct raft_group *g)
{
    if (!g->has_old_terms || g->r == NULL || !vote_suspect_knows_terms(g)) {
        return;
    }
    if (highest_told(g) > g->term || g->voted_for == 0) {
        guard_reload(g); /* Which calls vote_suspect_raise. */
    } else {
        g->has_old_terms = false;
    }
}

/* In the last of these terms a vote may have been given: no other must follow. A vote for
 * ourselves, of which nobody is told, keeps the place. */
void vote_suspect_raise(struct raft_group *g)
{
    if (!g->has_old_terms || !vote_suspect_knows_terms(g)) {
        return;
    }
    uint64_t highest = highest_told(g);
    g->has_old_terms = false;
    if (highest > g->term || g->voted_for == 0) {
        g->term = highest > g->term ? highest : g->term;
        g->voted_for = g->raft_id;
        log_put_meta(g);
    }
}

/* Its own timer does not run: nothing else ends the claim of a leader that fell silent. */
static void forget_silent_leader(struct raft_group *g)
{
    if (g->leader_id != 0 &&
        g->host->now_ms - g->leader_seen_ms > g->host->opt.election_timeout_ms) {
        compat_forget_leader(g->r);
        g->leader_id = g->leader_node = 0;
        guard_post(g);
    }
}

void vote_suspect_tick(struct raft_group *g)
{
    vote_suspect_learn(g);
    if (g->r != NULL && g->is_suspect && g->r->state != RAFT_LEADER) {
        forget_silent_leader(g);
    }
    const struct raft *r = g->r;
    for (unsigned i = 0; r != NULL && g->is_suspect && i < r->configuration.n; i++) {
        const struct raft_server *s = &r->configuration.servers[i];
        const struct replica *rep = group_replica(g, s->id);
        if (s->role == RAFT_VOTER && (rep == NULL || rep->told_term == 0)) {
            outbox_put_table(g, s->id, outbox_node_of(g, s->id), true);
        }
    }
}

/* When every voter is connected and has told its last entry, only the one with the newest gets the
 * votes of those that may have lost some. */
bool vote_suspect_may_vote(struct raft_group *g, uint64_t last_term, uint64_t last_index)
{
    const struct raft *r = g->r;
    uint64_t own = compat_log_last(r);
    if (g->has_old_terms) {
        return false;
    }
    if (!is_newer_or_equal(last_term, last_index, compat_term_at(r, own), own)) {
        return false;
    }
    for (unsigned i = 0; i < r->configuration.n; i++) {
        const struct raft_server *s = &r->configuration.servers[i];
        if (s->role != RAFT_VOTER || s->id == g->raft_id) {
            continue;
        }
        const struct replica *rep = group_replica(g, s->id);
        const struct peer *p = rep == NULL ? NULL : host_peer(g->host, rep->node_id);
        if (p == NULL || !p->is_up || rep->table_epoch != p->epoch ||
            !is_newer_or_equal(last_term, last_index, rep->table_last_term, rep->table_last)) {
            return false;
        }
    }
    return true;
}
