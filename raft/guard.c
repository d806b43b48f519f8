/* The guard: between transport, WAL and core (raft-guide 4.3, and the supplement's 3.1).
 *
 *   peer --> guard_arrive --> gate (G1, G4) --> deliver (G2b, G15, G9, G3, G16) --> core
 *   core --> guard_send (G2, G5, G8, G17) --> outbox (fence) --> peer
 *   WAL  --> guard_append_done --> held (G10) --> core
 *
 * After each call into the core guard_post looks at what became of it: new leader (G1), lost
 * leadership (G12), what was applied, who leads. Only then is the embedder called. */
#include <assert.h>

#include "raft/host_internal.h"
#include "storage/base/log.h"

void guard_message_free(struct raft_message *m)
{
    if (m->type == RAFT_IO_APPEND_ENTRIES && m->append_entries.entries != NULL) {
        raft_free(m->append_entries.entries[0].batch);
        raft_free(m->append_entries.entries);
        m->append_entries.entries = NULL;
        m->append_entries.n_entries = 0;
    }
}

/* ---- Out of the core ---- */

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

/* Followers apply what they know to be committed. libraft tells them with the next entries or the
 * next heartbeat; when none left in this turn, an empty AppendEntries at what the follower is known
 * to have says it now. */
void guard_tell_commit(struct raft_group *g)
{
    const struct raft *r = g->r;
    if (r->state != RAFT_LEADER || g->commit_seen == r->commit_index) {
        return;
    }
    g->commit_seen = r->commit_index;
    for (unsigned i = 0; i < r->configuration.n; i++) {
        const struct raft_server *s = &r->configuration.servers[i];
        struct replica *rep = group_replica(g, s->id);
        uint64_t match = r->leader_state.progress[i].match_index;
        uint64_t commit = match < r->commit_index ? match : r->commit_index;
        if (s->id == g->raft_id || s->role == RAFT_SPARE || rep == NULL || match == 0 ||
            commit <= rep->commit_told || compat_term_at(r, match) == 0) {
            continue;
        }
        struct out *o = out_new(g, FRAME_ENTRIES, s->id, rep->node_id);
        o->item.term = r->current_term;
        o->item.index = match;
        o->item.index_term = compat_term_at(r, match);
        o->item.commit = commit;
        rep->commit_told = commit;
        out_push(o);
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
        catchup_send(g, req, cb, m);
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

/* ---- After a call into the core ---- */

static void barrier_cb(struct raft_barrier *req, int status)
{
    (void)status;
    free(req);
}

static void became_leader(struct raft_group *g)
{
    struct raft *r = g->r;
    g->was_leader = true;
    g->lead_term = r->current_term;
    g->host->stats.elections++;
    g->barrier_index = 0;
    g->is_barrier_stored = true;
    g->last_proposed = 0;
    g->batch_count = 0;
    for (unsigned i = 0; i < g->replicas_count; i++) {
        g->replicas[i].heard_ms = 0;
        g->replicas[i].read_seq = 0;
        g->replicas[i].commit_told = 0;
    }
    elect_campaign_stop(g);
    if (!IS_ON(g->host, G1)) {
        return;
    }
    struct raft_barrier *req = xmalloc(sizeof *req);
    g->barrier_index = compat_log_last(r) + 1;
    g->is_barrier_stored = false;
    if (raft_barrier(r, req, barrier_cb) != 0) {
        free(req);
        group_fail(g, "the barrier of a new leader was refused");
    }
}

static void lost_leadership(struct raft_group *g)
{
    g->was_leader = false;
    g->is_barrier_stored = true;
    g->barrier_index = 0;
    g->move_to = 0;
    group_fail_proposals(g);
    catchup_offers_end(g, 0, RAFT_CANCELED);
    if (IS_ON(g->host, G12)) {
        /* B15: the same (index, term) may come back while an old send still refers to it. Only
         * entries: what it says as a follower already, a vote perhaps, leaves. */
        outbox_cancel(g, CANCEL_ENTRIES, false, RAFT_CANCELED);
    }
}

static uint64_t token_of(struct raft_group *g, uint64_t index, uint64_t term)
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

/* Entries are read from the log, where term and index stand with them; they stay there until the
 * end of the turn, when a pending trim is done. */
static void deliver_applied(struct raft_group *g)
{
    if (g->is_delivering) {
        return;
    }
    g->is_delivering = true;
    while (g->r != NULL && g->delivered < g->r->last_applied) {
        uint64_t index = g->delivered + 1;
        const struct raft_entry *e = compat_entry(g->r, index);
        if (e == NULL) {
            group_fail(g, "an applied entry is not in its log");
            break;
        }
        struct group_entry ge = {.index = index, .term = e->term, .type = GROUP_ENTRY_INTERNAL};
        if (e->type == RAFT_COMMAND) {
            ge.type = GROUP_ENTRY_COMMAND;
            ge.bytes = slice_of(e->buf.base, e->buf.len);
        }
        ge.token = token_of(g, index, e->term);
        g->delivered = index;
        g->delivered_term = e->term;
        g->host->stats.entries_applied++;
        g->fsm.apply(g->fsm.ctx, &ge);
    }
    g->is_delivering = false;
}

/* Ask for a trim when the log in memory has grown; the next apply does it (fsm->snapshot). */
static void want_trim(struct raft_group *g)
{
    struct raft *r = g->r;
    const struct host_options *opt = &g->host->opt;
    size_t n = compat_log_count(r);
    if (g->put_req != NULL || (n <= opt->log_entries_max && g->log_bytes <= opt->log_bytes_max) ||
        r->last_applied <= r->log.snapshot.last_index) {
        return;
    }
    /* Keep the last entries for followers that are a little behind, a quarter of the bounds. */
    unsigned trailing = 0;
    size_t bytes = 0;
    for (uint64_t i = r->last_applied; trailing < opt->log_entries_max / 4; i--, trailing++) {
        const struct raft_entry *e = compat_entry(r, i);
        if (e == NULL || bytes + e->buf.len > opt->log_bytes_max / 4) {
            break;
        }
        bytes += e->buf.len;
    }
    raft_set_snapshot_trailing(r, trailing);
    raft_set_snapshot_threshold(r, 1);
}

static void tell_role(struct raft_group *g)
{
    struct group_role role = group_role(g);
    if (g->is_told && role.is_leader == g->told.is_leader && role.term == g->told.term &&
        role.leader_node_id == g->told.leader_node_id) {
        return;
    }
    g->told = role;
    g->is_told = true;
    g->fsm.role_changed(g->fsm.ctx, &role);
}

static void look_at_leader(struct raft_group *g)
{
    struct raft *r = g->r;
    if (g->leader_term != r->current_term) {
        g->leader_id = g->leader_node = 0;
        g->leader_term = r->current_term;
        compat_forget_leader(r); /* B18: it would refuse votes for the sake of the old one. */
    }
    if (r->state == RAFT_LEADER) {
        g->leader_id = g->raft_id;
        g->leader_node = g->host->opt.node_id;
    } else if (g->leader_id == g->raft_id) {
        g->leader_id = g->leader_node = 0;
    }
}

/* G11 ends: it has everything that may have been acknowledged. */
static void trust(struct raft_group *g, const char *why)
{
    g->is_suspect = false;
    g->state = GROUP_ACTIVE;
    log_put_suspect(g);
    log_inf("group %llu: %s, no longer suspect", (unsigned long long)g->gid, why);
}

static void unavailable(struct raft_group *g)
{
    if (g->appends_count > 0) {
        g->is_reload_due = true;
        return;
    }
    log_err("group %llu: the core gave up: %s", (unsigned long long)g->gid, g->r->errmsg);
    host_alarm(g->host, g->gid, "the core became unavailable");
    if (++g->failures > 3) {
        group_fail(g, "the core gave up too often");
        return;
    }
    instance_reload(g, 0);
}

void guard_post(struct raft_group *g)
{
    struct raft *r = g->r;
    if (r == NULL || g->is_closing) {
        return;
    }
    if (r->state == RAFT_UNAVAILABLE) {
        unavailable(g);
        return;
    }
    if (g->was_leader && (r->state != RAFT_LEADER || g->lead_term != r->current_term)) {
        deliver_applied(g); /* What was committed in the same call keeps its token. */
        lost_leadership(g);
    }
    if (r->state == RAFT_LEADER) {
        if (!g->was_leader) {
            became_leader(g);
            if (g->r == NULL) {
                return;
            }
        }
        if (!g->is_barrier_stored && r->last_stored >= g->barrier_index) {
            g->is_barrier_stored = true;
        }
    }
    look_at_leader(g);
    deliver_applied(g);
    if (g->r == NULL) {
        return;
    }
    if (g->is_suspect && group_is_ready(g)) {
        trust(g, "leads, and committed");
    }
    while (g->batch_count > 0 && g->batch_last[0] <= r->last_applied) {
        memmove(g->batch_last, g->batch_last + 1, (--g->batch_count) * sizeof g->batch_last[0]);
    }
    want_trim(g);
    tell_role(g);
    if (g->pending_count > 0 || g->move_to != 0 ||
        (r->state == RAFT_LEADER && r->commit_index != g->commit_seen)) {
        host_group_busy(g);
    }
}

/* ---- Appends ---- */

static void fire(struct raft_group *g, struct append *a)
{
    g->is_in_append_cb = true;
    g->append_cb_term = a->term;
    a->cb(a->req, 0);
    g->is_in_append_cb = false;
    free(a);
    guard_post(g);
}

/* A majority of the voters of the configuration in force, uncommitted or not, has it. */
static bool may_complete(struct raft_group *g, const struct append *a)
{
    const struct raft *r = g->r;
    if (r->state != RAFT_LEADER || a->first <= g->barrier_index) {
        return true;
    }
    unsigned have = compat_role(r, g->raft_id) == RAFT_VOTER;
    for (unsigned i = 0; i < r->configuration.n; i++) {
        const struct raft_server *s = &r->configuration.servers[i];
        const struct replica *rep = group_replica(g, s->id);
        have += s->id != g->raft_id && s->role == RAFT_VOTER && rep != NULL &&
                rep->acked_term == r->current_term && rep->acked >= a->last;
    }
    return have >= compat_voters(r) / 2 + 1;
}

void guard_release(struct raft_group *g)
{
    while (g->r != NULL && !list_is_empty(&g->held)) {
        struct append *a = container_of(g->held.next, struct append, link);
        if (!may_complete(g, a)) {
            return;
        }
        list_remove(&a->link);
        g->held_count--;
        fire(g, a);
    }
}

void guard_append_done(struct raft_group *g, struct append *a)
{
    list_remove(&a->link);
    g->appends_count--;
    if (g->host->opt.pipeline_max > 1 && IS_ON(g->host, G10)) {
        list_push_back(&g->held, &a->link);
        g->held_count++;
        guard_release(g);
    } else {
        fire(g, a);
    }
    guard_pump(g);
}

/* ---- Into the core ---- */

static uint64_t conflict_of(const struct raft *r, const struct raft_append_entries *a)
{
    for (unsigned i = 0; i < a->n_entries; i++) {
        uint64_t index = a->prev_log_index + 1 + i;
        uint64_t term = compat_term_at(r, index);
        if (term != 0 && term != a->entries[i].term) {
            return index;
        }
    }
    return 0;
}

/* G1 and G4: must it wait? */
static bool is_gated(struct raft_group *g, const struct raft_message *m)
{
    const struct raft *r = g->r;
    if (g->is_reload_due) {
        return true;
    }
    if (m->type == RAFT_IO_APPEND_ENTRIES_RESULT && r->state == RAFT_LEADER &&
        !g->is_barrier_stored) {
        return true;
    }
    if (g->appends_count == 0 || !IS_ON(g->host, G4)) {
        return false;
    }
    switch (m->type) {
    case RAFT_IO_APPEND_ENTRIES:
        if (m->append_entries.term != r->current_term) {
            return m->append_entries.term > r->current_term;
        }
        return conflict_of(r, &m->append_entries) != 0;
    case RAFT_IO_REQUEST_VOTE:
    case RAFT_IO_TIMEOUT_NOW:
        return true;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        return m->append_entries_result.term > r->current_term;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        return m->request_vote_result.term > r->current_term;
    default:
        return false;
    }
}

/* G15: entries below our commit index are ours already, or the logs diverge. False: they do. */
static bool cut_head(struct raft_group *g, struct raft_append_entries *a)
{
    const struct raft *r = g->r;
    uint64_t k = r->commit_index - a->prev_log_index;
    if (k > a->n_entries) {
        k = a->n_entries;
    }
    for (unsigned i = 0; i < k; i++) {
        uint64_t term = compat_term_at(r, a->prev_log_index + 1 + i);
        if (term != 0 && term != a->entries[i].term) {
            return false;
        }
    }
    g->host->stats.head_cuts++;
    if (k == a->n_entries) {
        if (a->entries != NULL) {
            raft_free(a->entries[0].batch);
            raft_free(a->entries);
        }
        a->entries = NULL;
    } else {
        memmove(a->entries, a->entries + k, (a->n_entries - k) * sizeof *a->entries);
    }
    a->n_entries -= (unsigned)k;
    a->prev_log_index = r->commit_index;
    a->prev_log_term = compat_term_at(r, r->commit_index);
    return true;
}

/* True: the message may go to the core. */
static bool before_entries(struct raft_group *g, struct raft_message *m, uint64_t node_id)
{
    struct raft_host *h = g->host;
    struct raft_append_entries *a = &m->append_entries;

    if (a->term < g->r->current_term) {
        h->stats.stale_entries++;
        if (!IS_ON(h, G2B)) {
            return true;
        }
        /* B26: the core's answer to it would look like an acceptance. */
        uint64_t rejected = a->prev_log_index != 0 ? a->prev_log_index : 1;
        guard_send_result(g, m->server_id, node_id, g->r->current_term, rejected, rejected - 1);
        return false;
    }
    if (a->term == g->r->current_term && g->r->state == RAFT_LEADER) {
        host_alarm(h, g->gid, "two leaders in one term");
        return false;
    }
    g->leader_seen_ms = h->now_ms;
    if (a->prev_log_index < g->r->commit_index && IS_ON(h, G15) && !cut_head(g, a)) {
        group_fail(g, "a leader's committed entries differ from ours");
        return false;
    }
    uint64_t c = conflict_of(g->r, a);
    if (c != 0 && IS_ON(h, G9)) {
        if (c <= g->r->commit_index || c <= g->delivered) {
            group_fail(g, "a leader's entries conflict with what was applied");
            return false;
        }
        h->stats.truncations++;
        if (g->confs_count > 0 && g->confs[g->confs_count - 1].index >= c) {
            h->stats.rollbacks++;
        }
        if (!instance_reload(g, c)) {
            return false;
        }
        /* It may lead already, in a new term (G13): look again. */
        return before_entries(g, m, node_id);
    }
    if (IS_ON(h, G3) && a->leader_commit > a->prev_log_index + a->n_entries) {
        a->leader_commit = a->prev_log_index + a->n_entries;
    }
    return true;
}

static bool before_vote(struct raft_group *g, struct raft_message *m, uint64_t node_id)
{
    const struct raft_request_vote *v = &m->request_vote;
    struct raft_host *h = g->host;
    if (g->is_suspect && IS_ON(h, G11) &&
        !vote_suspect_may_vote(g, v->last_log_term, v->last_log_index)) {
        return false;
    }
    if (IS_ON(h, G16) && vote_is_hosts(g)) {
        vote_answer(g, v, m->server_id, node_id);
        return false;
    }
    /* G7, B6: the core might vote twice in a term. */
    if (IS_ON(h, G7) && !v->pre_vote && v->term == g->term && g->voted_for != 0 &&
        g->voted_for != v->candidate_id) {
        return false;
    }
    return true;
}

static bool before_result(struct raft_group *g, struct raft_message *m)
{
    struct raft_append_entries_result *a = &m->append_entries_result;
    struct raft *r = g->r;
    if (r->state != RAFT_LEADER || a->term != r->current_term) {
        return true;
    }
    if (compat_role(r, m->server_id) < 0) {
        g->host->stats.dropped++;
        return false;
    }
    struct replica *rep = group_replica(g, m->server_id);
    if (rep != NULL) {
        rep->heard_ms = g->host->now_ms == 0 ? 1 : g->host->now_ms;
    }
    if (a->rejected == 0 && a->last_log_index > compat_log_last(r)) {
        a->last_log_index = compat_log_last(r); /* Nobody can have more of ours than we have. */
    }
    return true;
}

/* After the core took entries: who leads, and whether a suspect is one no longer (G11). A new
 * leader may not know yet what was committed before it; once it has committed in its own term, all
 * that is below. */
static void after_entries(struct raft_group *g, const struct raft_append_entries *a, uint64_t from,
                          uint64_t node_id, uint64_t leader_commit)
{
    if (g->r == NULL || a->term != g->r->current_term || g->r->state == RAFT_LEADER) {
        return;
    }
    g->leader_id = from;
    g->leader_node = node_id;
    g->leader_term = a->term;
    elect_campaign_stop(g);
    if (g->is_suspect && g->verified_term == a->term && g->verified_leader == from &&
        g->verified >= leader_commit && compat_term_at(g->r, leader_commit) == a->term) {
        trust(g, "level with its leader");
    }
}

static void after_result(struct raft_group *g, const struct raft_append_entries_result *a,
                         uint64_t from)
{
    struct replica *rep = group_replica(g, from);
    if (g->r == NULL || g->r->state != RAFT_LEADER || a->term != g->r->current_term ||
        a->rejected != 0 || rep == NULL) {
        return;
    }
    if (rep->acked_term != a->term || a->last_log_index > rep->acked) {
        rep->acked = a->last_log_index;
        rep->acked_term = a->term;
    }
}

static void deliver(struct raft_group *g, uint64_t node_id, struct raft_message *m)
{
    char address[CONF_ADDRESS_BYTES];
    uint64_t leader_commit =
        m->type == RAFT_IO_APPEND_ENTRIES ? m->append_entries.leader_commit : 0;
    bool is_fine = true;

    conf_address(node_id, m->server_id, address);
    m->server_address = address;
    switch (m->type) {
    case RAFT_IO_APPEND_ENTRIES:
        is_fine = before_entries(g, m, node_id);
        break;
    case RAFT_IO_REQUEST_VOTE:
        is_fine = before_vote(g, m, node_id);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        is_fine = before_result(g, m);
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        is_fine = compat_role(g->r, m->server_id) >= 0;
        break;
    case RAFT_IO_TIMEOUT_NOW:
        is_fine = !(g->is_suspect && IS_ON(g->host, G11));
        break;
    default:
        is_fine = false;
    }
    if (!is_fine) {
        guard_message_free(m);
        return;
    }
    struct raft_message copy = *m; /* The core takes the entries over. */
    g->current = &copy;
    g->recv(&g->io, m);
    g->current = NULL;
    /* Before post, which tells the embedder. */
    if (copy.type == RAFT_IO_APPEND_ENTRIES) {
        after_entries(g, &copy.append_entries, copy.server_id, node_id, leader_commit);
    }
    guard_post(g);
    if (copy.type == RAFT_IO_APPEND_ENTRIES_RESULT) {
        after_result(g, &copy.append_entries_result, copy.server_id);
    }
    guard_release(g);
}

/* What is in memory counts as stored after it: not while some of it is on its way to the disk. */
static void reload_when_quiet(struct raft_group *g)
{
    if (g->r == NULL || !g->is_reload_due || g->appends_count > 0) {
        return;
    }
    bool was_leader = g->was_leader;
    if (g->r->state == RAFT_UNAVAILABLE) {
        guard_post(g);
    } else if (instance_reload(g, 0) && was_leader) {
        struct raft_host *h = g->host;
        elect_campaign_at(g, h->now_ms, h->opt.successor_ms, h->now_ms + 5000);
    }
}

void guard_reload(struct raft_group *g)
{
    g->is_reload_due = true;
    reload_when_quiet(g);
}

void guard_pump(struct raft_group *g)
{
    reload_when_quiet(g);
    while (g->r != NULL && !list_is_empty(&g->gate)) {
        struct gated *q = container_of(g->gate.next, struct gated, link);
        if (is_gated(g, &q->m)) {
            return;
        }
        list_remove(&q->link);
        g->gate_count--;
        g->gate_bytes -= q->bytes;
        deliver(g, q->node_id, &q->m);
        free(q);
    }
    if (g->r == NULL) {
        guard_gate_clear(g);
    }
}

static size_t message_bytes(const struct raft_message *m)
{
    size_t n = sizeof *m;
    if (m->type == RAFT_IO_APPEND_ENTRIES) {
        for (unsigned i = 0; i < m->append_entries.n_entries; i++) {
            n += sizeof(struct raft_entry) + m->append_entries.entries[i].buf.len;
        }
    }
    return n;
}

void guard_arrive(struct raft_group *g, uint64_t node_id, struct raft_message *m)
{
    if (g->r == NULL) {
        guard_message_free(m);
        return;
    }
    if (list_is_empty(&g->gate) && !is_gated(g, m)) {
        deliver(g, node_id, m);
        guard_pump(g);
        return;
    }
    size_t bytes = message_bytes(m);
    if (g->gate_count >= GATE_ITEMS_MAX ||
        (g->gate_count > 0 && g->gate_bytes + bytes > g->host->opt.group_queue_bytes_max)) {
        g->host->stats.dropped++; /* As if the network had lost it. */
        guard_message_free(m);
        return;
    }
    struct gated *q = xmalloc(sizeof *q);
    *q = (struct gated){.m = *m, .node_id = node_id, .bytes = bytes};
    list_push_back(&g->gate, &q->link);
    g->gate_count++;
    g->gate_bytes += bytes;
    g->host->stats.gated++;
    guard_pump(g);
}

void guard_gate_clear(struct raft_group *g)
{
    struct list *l;
    while ((l = list_pop_front(&g->gate)) != NULL) {
        struct gated *q = container_of(l, struct gated, link);
        guard_message_free(&q->m);
        free(q);
    }
    g->gate_count = 0;
    g->gate_bytes = 0;
}
