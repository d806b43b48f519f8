/* What the core says, before it leaves: G2, G5, G8, G17, and io->send's own rules (G12, B14). */
#include <assert.h>

#include "raft/host_internal.h"

/* Entries up to prev + n are known to equal this leader's (G2). */
void guard_accepted(struct raft_group *g)
{
    const struct raft_message *m = g->current;
    uint64_t v = m->append_entries.prev_log_index + m->append_entries.n_entries;
    if (g->verified_term != g->r->current_term || g->verified_leader != m->server_id) {
        g->verified = 0;
        g->verified_term = g->r->current_term;
        g->verified_leader = m->server_id;
    }
    if (v > g->verified) {
        g->verified = v;
    }
}

/* G8: the index before the first entry of the conflicting term, not below the commit index. */
static uint64_t reject_hint(struct raft_group *g, uint64_t rejected, uint64_t last_index)
{
    const struct raft *r = g->r;
    uint64_t term = compat_term_at(r, rejected);
    uint64_t j = rejected;
    while (term != 0 && j > r->commit_index && compat_term_at(r, j) == term) {
        j--;
    }
    if (j >= rejected) {
        j = rejected - 1;
    }
    return last_index < j ? last_index : j;
}

static void send_result(struct raft_group *g, struct out *o,
                        const struct raft_append_entries_result *a, uint64_t to)
{
    struct raft_host *h = g->host;
    uint64_t last_index = a->last_log_index;

    if (g->verified_term != g->r->current_term || g->verified_leader != to) {
        g->verified = 0;
        g->verified_term = g->r->current_term;
        g->verified_leader = to;
    }
    if (a->rejected == 0) {
        if (g->current != NULL && g->current->type == RAFT_IO_APPEND_ENTRIES) {
            guard_accepted(g);
        }
        if (IS_ON(h, G2) && last_index > g->verified) {
            last_index = g->verified;
        }
        if (g->has_old_terms && last_index > g->r->commit_index) {
            last_index = g->r->commit_index; /* G11: this helps no leader to commit. */
        }
    } else if (IS_ON(h, G8)) {
        last_index = reject_hint(g, a->rejected, last_index);
    }
    o->item.term = a->term;
    o->item.index = a->rejected;
    o->item.last_index = last_index;
}

static void send_vote_result(struct raft_group *g, struct out *o,
                             const struct raft_request_vote_result *v)
{
    bool is_pre = v->pre_vote == raft_tribool_true;
    o->item.term = v->term;
    /* G17: the core echoes the request's term, which hides how far behind the candidate is. */
    if (is_pre && !v->vote_granted && IS_ON(g->host, G17) && v->term < g->r->current_term) {
        o->item.term = g->r->current_term;
    }
    o->item.flags =
        (uint8_t)((v->vote_granted ? FRAME_RESULT_GRANTED : 0) | (is_pre ? FRAME_RESULT_PRE : 0));
}

static void guard_commit_told(struct raft_group *g, uint64_t to, uint64_t commit)
{
    struct replica *rep = group_replica(g, to);
    if (rep != NULL) {
        rep->commit_told = commit;
    }
}

/* What member @i is known to have and not to know as committed: its commit index, or 0. A follower
 * whose result comes after the entry is committed by the others has news then, not before. */
static uint64_t commit_news(struct raft_group *g, unsigned i)
{
    const struct raft *r = g->r;
    const struct raft_server *s = &r->configuration.servers[i];
    const struct replica *rep = group_replica(g, s->id);
    uint64_t match = r->leader_state.progress[i].match_index;
    uint64_t commit = match < r->commit_index ? match : r->commit_index;
    if (s->id == g->raft_id || s->role == RAFT_SPARE || rep == NULL || match == 0 ||
        commit <= rep->commit_told || compat_term_at(r, match) == 0) {
        return 0;
    }
    return commit;
}

bool guard_has_commit_news(struct raft_group *g)
{
    if (g->r->state != RAFT_LEADER) {
        return false;
    }
    for (unsigned i = 0; i < g->r->configuration.n; i++) {
        if (commit_news(g, i) != 0) {
            return true;
        }
    }
    return false;
}

/* Followers apply what they know to be committed. libraft tells them with the next entries or the
 * next heartbeat; when none left in this turn, an empty AppendEntries at what the follower is known
 * to have says it now. */
void guard_tell_commit(struct raft_group *g)
{
    const struct raft *r = g->r;
    if (r->state != RAFT_LEADER) {
        return;
    }
    for (unsigned i = 0; i < r->configuration.n; i++) {
        uint64_t commit = commit_news(g, i);
        if (commit == 0) {
            continue;
        }
        struct replica *rep = group_replica(g, r->configuration.servers[i].id);
        uint64_t match = r->leader_state.progress[i].match_index;
        struct out *o = out_new(g, FRAME_ENTRIES, rep->raft_id, rep->node_id);
        o->item.term = r->current_term;
        o->item.index = match;
        o->item.index_term = compat_term_at(r, match);
        o->item.commit = commit;
        rep->commit_told = commit;
        out_push(o);
    }
}

/* Where @rep's log and ours are the same, by its table: at its end if that is an entry of ours,
 * else at what it knows to be committed. 0: nowhere that is in memory. */
static uint64_t common_index(const struct raft *r, const struct replica *rep)
{
    if (rep->told_term == 0 || rep->is_table_refused) {
        return 0;
    }
    if (rep->table_last_term != 0 && compat_term_at(r, rep->table_last) == rep->table_last_term) {
        return rep->table_last;
    }
    return compat_term_at(r, rep->table_commit) != 0 ? rep->table_commit : 0;
}

/* G8B: a send that failed makes the core begin anew behind what the member has acknowledged. Of one
 * that was away at the election that is nothing: it would get the whole log in memory once more,
 * tens of MiB for an entry, or an image as soon as a part of it was trimmed. Its table says what it
 * has. That is a hint: if it does not fit, the core goes back as from any other place. */
void guard_aim(struct raft_group *g)
{
    struct raft *r = g->r;
    if (r->state != RAFT_LEADER || !IS_ON(g->host, G8B)) {
        return;
    }
    for (unsigned i = 0; i < g->replicas_count; i++) {
        struct replica *rep = &g->replicas[i];
        uint64_t common = common_index(r, rep);
        if (common != 0 && compat_is_probing_below(r, rep->raft_id, common + 1)) {
            compat_probe_from(r, rep->raft_id, common + 1);
            rep->aimed = common;
        }
    }
}

/* io->send. Always returns 0 (B14); what cannot be sent is told by the callback, later. */
int guard_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *m,
               raft_io_send_cb cb)
{
    static const enum frame_kind kinds[] = {
        [RAFT_IO_APPEND_ENTRIES] = FRAME_ENTRIES,
        [RAFT_IO_APPEND_ENTRIES_RESULT] = FRAME_RESULT,
        [RAFT_IO_REQUEST_VOTE] = FRAME_VOTE,
        [RAFT_IO_REQUEST_VOTE_RESULT] = FRAME_VOTE_RESULT,
        [RAFT_IO_TIMEOUT_NOW] = FRAME_TIMEOUT_NOW,
    };
    struct raft_group *g = io->impl;
    if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
        offer_send_wanted(g, req, cb, m);
        return 0;
    }
    struct out *o = out_new(g, kinds[m->type], m->server_id, outbox_node_of(g, m->server_id));
    o->req = req;
    o->cb = cb;
    switch (m->type) {
    case RAFT_IO_APPEND_ENTRIES:
        o->item.term = m->append_entries.term;
        o->item.index = m->append_entries.prev_log_index;
        o->item.index_term = m->append_entries.prev_log_term;
        o->item.commit = m->append_entries.leader_commit;
        o->entries = m->append_entries.entries;
        o->n = m->append_entries.n_entries;
        guard_commit_told(g, m->server_id, m->append_entries.leader_commit);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        send_result(g, o, &m->append_entries_result, m->server_id);
        /* G5: made for the leader of an older term. */
        if (g->is_in_append_cb && g->append_cb_term != g->r->current_term && IS_ON(g->host, G5)) {
            o->node_id = 0;
        }
        break;
    case RAFT_IO_REQUEST_VOTE:
        o->item.term = m->request_vote.term;
        o->item.index = m->request_vote.last_log_index;
        o->item.index_term = m->request_vote.last_log_term;
        o->item.flags = (uint8_t)((m->request_vote.disrupt_leader ? FRAME_VOTE_DISRUPT : 0) |
                                  (m->request_vote.pre_vote ? FRAME_VOTE_PRE : 0));
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        send_vote_result(g, o, &m->request_vote_result);
        break;
    case RAFT_IO_TIMEOUT_NOW:
        o->item.term = m->timeout_now.term;
        o->item.index = m->timeout_now.last_log_index;
        o->item.index_term = m->timeout_now.last_log_term;
        break;
    default:
        assert(0);
    }
    out_push(o);
    return 0;
}

void guard_send_result(struct raft_group *g, uint64_t to, uint64_t node_id, uint64_t term,
                       uint64_t rejected, uint64_t last_index)
{
    struct out *o = out_new(g, FRAME_RESULT, to, node_id);
    o->item.term = term;
    o->item.index = rejected;
    o->item.last_index = last_index;
    out_push(o);
}
