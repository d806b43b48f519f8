/* Votes the host gives itself, and suspicion (G11, G16, G18, G19). */
#include <assert.h>

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

/* ---- Suspicion (G11, G19) ----
 *
 * What was lost may be a term, and with it a vote or an acknowledgement of its leader: the votes
 * that elected it, and what it committed, rest on this replica. A leader of an older term that
 * knows nothing of it must not be helped to commit, nor a second candidate be elected. Whoever got
 * something from here had its term on its own disk before: so once each other voter has told its
 * term, in this process, all terms in question are known, and none is above the highest of them.
 *
 * What was lost may also be a change of members. Then the voters that the rest of the log tells are
 * those of before: they are not all whose terms count, and a majority of them is none. Who places
 * the replicas knows who they may be: nothing is done before that is told. */

static uint64_t members_index(const struct raft_group *g)
{
    uint64_t index;
    (void)log_conf_as_of(g, UINT64_MAX, &index);
    return index;
}

static bool needs_known(const struct raft_group *g)
{
    return g->has_known && IS_ON(g->host, G19);
}

/* A newer configuration than the log's is committed. */
static bool is_conf_old(const struct raft_group *g)
{
    return g->known != NULL && members_index(g) < g->known_reported;
}

bool vote_suspect_knows_members(const struct raft_group *g)
{
    struct conf c;
    uint64_t at;
    if (!needs_known(g)) {
        return true;
    }
    if (g->known == NULL || is_conf_old(g)) {
        return false;
    }
    if (!g->is_doubtful) {
        return true; /* What the log tells goes on from a base that is right. */
    }
    if (!g->is_known_settled || conf_decode(log_conf_as_of(g, UINT64_MAX, &at), &c) != 0 ||
        conf_voters(&c) != g->known->count) {
        return false;
    }
    for (unsigned i = 0; i < g->known->count; i++) {
        const struct group_member *m = conf_find(&c, g->known->members[i].raft_id);
        if (m == NULL || m->role != GROUP_VOTER) {
            return false;
        }
    }
    return true;
}

/* The others whose terms and logs count: the log's voters, unless they are of before, and all that
 * may be members. */
static unsigned others_of(struct raft_group *g, struct group_member ret_others[REPLICAS_MAX])
{
    const struct raft *r = g->r;
    unsigned count = 0, voters = 0;
    if (g->known == NULL || !needs_known(g) || !is_conf_old(g)) {
        for (unsigned i = 0; i < r->configuration.n && i < HOST_MEMBERS_MAX; i++) {
            const struct raft_server *s = &r->configuration.servers[i];
            if (s->role == RAFT_VOTER && s->id != g->raft_id) {
                ret_others[count++] =
                    (struct group_member){s->id, outbox_node_of(g, s->id), GROUP_VOTER};
            }
        }
    }
    voters = count;
    for (unsigned i = 0; g->known != NULL && needs_known(g) && i < g->known->count; i++) {
        const struct group_member *m = &g->known->members[i];
        bool is_there = m->raft_id == g->raft_id;
        for (unsigned k = 0; k < voters; k++) {
            is_there = is_there || ret_others[k].raft_id == m->raft_id;
        }
        if (!is_there) {
            ret_others[count++] = *m;
        }
    }
    return count;
}

/* An empty newcomer's term is 0. */
static bool has_told(const struct replica *rep)
{
    return rep != NULL && (rep->told_term != 0 || rep->table_epoch != 0);
}

bool vote_suspect_knows_terms(struct raft_group *g)
{
    struct group_member others[REPLICAS_MAX];
    unsigned count = others_of(g, others);
    bool is_known = g->known != NULL || !needs_known(g);
    for (unsigned i = 0; i < count; i++) {
        is_known = is_known && has_told(group_replica(g, others[i].raft_id));
    }
    return is_known;
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

/* Its table is of the connection that stands. */
static bool is_table_new(const struct raft_group *g, const struct replica *rep)
{
    const struct peer *p = rep == NULL ? NULL : host_peer(g->host, rep->node_id);
    return p != NULL && p->is_up && rep->table_epoch == p->epoch;
}

void vote_suspect_tick(struct raft_group *g)
{
    vote_suspect_learn(g);
    if (g->r != NULL && g->is_suspect && g->r->state != RAFT_LEADER) {
        forget_silent_leader(g);
    }
    if (g->r == NULL || !g->is_suspect) {
        return;
    }
    struct group_member others[REPLICAS_MAX];
    unsigned count = others_of(g, others);
    for (unsigned i = 0; i < count; i++) {
        const struct replica *rep = group_replica(g, others[i].raft_id);
        if (!is_table_new(g, rep)) {
            outbox_put_table(g, others[i].raft_id, others[i].node_id, true);
        }
    }
}

void group_set_known_members(struct raft_group *g, const struct group_member *members,
                             unsigned count, uint64_t reported, bool is_settled)
{
    assert(count <= HOST_MEMBERS_MAX);
    bool is_first = g->known == NULL;
    if (is_first) {
        g->known = xmalloc(sizeof *g->known);
    }
    g->known->count = count;
    memcpy(g->known->members, members, count * sizeof *members);
    g->known_reported = reported;
    g->is_known_settled = is_settled;
    if (is_first && g->is_suspect && g->r != NULL) {
        vote_suspect_tick(g);
    }
}

/* When every voter is connected and has told its last entry, only the one with the newest gets the
 * votes of those that may have lost some. */
bool vote_suspect_may_vote(struct raft_group *g, uint64_t last_term, uint64_t last_index)
{
    const struct raft *r = g->r;
    uint64_t own = compat_log_last(r);
    if (g->has_old_terms || (g->known == NULL && needs_known(g))) {
        return false;
    }
    if (!is_newer_or_equal(last_term, last_index, compat_term_at(r, own), own)) {
        return false;
    }
    struct group_member others[REPLICAS_MAX];
    unsigned count = others_of(g, others);
    for (unsigned i = 0; i < count; i++) {
        const struct replica *rep = group_replica(g, others[i].raft_id);
        if (!is_table_new(g, rep) ||
            !is_newer_or_equal(last_term, last_index, rep->table_last_term, rep->table_last)) {
            return false;
        }
    }
    return true;
}

bool vote_suspect_may_lead(struct raft_group *g)
{
    uint64_t last = compat_log_last(g->r);
    return vote_suspect_knows_members(g) &&
           vote_suspect_may_vote(g, compat_term_at(g->r, last), last);
}
