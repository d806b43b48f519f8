/* The guard: between transport, WAL and core (raft-guide 4.3, and the supplement's 3.1).
 *
 *   peer --> guard_in.c --> core --> guard_out.c --> outbox (fence) --> peer
 *   WAL  --> guard_append_done --> held (G10) --> core
 *
 * After each call into the core guard_post looks at what became of it: new leader (G1), lost
 * leadership (G12), what was applied, who leads. Only then is the embedder called. */
#include "raft/host_internal.h"
#include "storage/base/log.h"

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
    g->barrier_index = g->hold_index = 0;
    g->is_barrier_stored = true;
    g->lead_ms = g->host->now_ms;
    if (IS_ON(g->host, M2)) {
        /* M2: whatever came of the changes of before, the log is looked at anew. */
        g->is_target_due = g->target != NULL;
    }
    g->promote_until_ms = g->promote_again_ms = g->move_again_ms = 0;
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
    g->barrier_index = g->hold_index = compat_log_last(r) + 1;
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
    g->barrier_index = g->hold_index = 0;
    g->move_to = 0;
    g->promote_until_ms = 0;
    group_fail_proposals(g);
    offers_end(g, 0, RAFT_CANCELED);
    if (IS_ON(g->host, G12)) {
        /* B15: the same (index, term) may come back while an old send still refers to it. Only
         * entries: what it says as a follower already, a vote perhaps, leaves. */
        outbox_cancel(g, CANCEL_ENTRIES, false, RAFT_CANCELED);
    }
    elect_deposed(g);
}

/* How much may be delivered: who catches up has a backlog of many entries, and everybody else on
 * this node waits for the end of the turn. */
static bool may_deliver(struct raft_host *h)
{
    return !h->has_delivered || h->opt.env.is_late == NULL || !h->opt.env.is_late(h->opt.env.ctx);
}

/* Entries are read from the log, where term and index stand with them; they stay there until they
 * are delivered (trim_done). What waits comes in the next turns, in the order of the groups. */
static void deliver_applied(struct raft_group *g, bool is_all)
{
    if (g->is_delivering) {
        return;
    }
    g->is_delivering = true;
    while (g->r != NULL && g->delivered < g->r->last_applied) {
        if (!is_all && !may_deliver(g->host)) {
            if (list_is_empty(&g->behind_link)) {
                list_push_back(&g->host->behind, &g->behind_link);
            }
            break;
        }
        g->host->has_delivered = true;
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
        ge.token = propose_token_of(g, index, e->term);
        g->delivered = index;
        g->delivered_term = e->term;
        g->host->stats.entries_applied++;
        g->fsm.apply(g->fsm.ctx, &ge);
    }
    g->is_delivering = false;
}

void guard_deliver_all(struct raft_group *g)
{
    deliver_applied(g, true);
}

bool guard_deliver_behind(struct raft_host *h)
{
    h->has_delivered = false;
    while (!list_is_empty(&h->behind) && may_deliver(h)) {
        guard_post(container_of(list_pop_front(&h->behind), struct raft_group, behind_link));
    }
    return !list_is_empty(&h->behind);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool is_memory_tight(const struct raft_group *g)
{
    return g->host->log_bytes > g->host->opt.node_log_bytes_max;
}

uint64_t guard_log_entries_max(const struct raft_group *g)
{
    return min_u64(g->host->opt.log_entries_max,
                   is_memory_tight(g) ? LOG_TIGHT_ENTRIES : UINT32_MAX);
}

uint64_t guard_log_bytes_max(const struct raft_group *g)
{
    return min_u64(g->host->opt.log_bytes_max, is_memory_tight(g) ? LOG_TIGHT_BYTES : UINT32_MAX);
}

/* Ask for a trim when the log in memory has grown; the next apply does it (fsm->snapshot). What is
 * kept is for members that were away: from memory they catch up at once, and without an image. So
 * every replica keeps it, the next leader too, as long as the node has room. */
static void want_trim(struct raft_group *g)
{
    struct raft *r = g->r;
    uint64_t entries_max = guard_log_entries_max(g);
    uint64_t bytes_max = guard_log_bytes_max(g);
    size_t n = compat_log_count(r);
    if (g->is_halted) {
        host_group_busy(g); /* It may be full. */
    }
    if (g->put_req != NULL || (n <= entries_max && g->log_bytes <= bytes_max) ||
        r->last_applied <= r->log.snapshot.last_index) {
        return;
    }
    if (r->snapshot.threshold == 1 && g->trim_wanted + entries_max / 8 > r->last_applied) {
        return; /* Wanted, and held. */
    }
    g->trim_wanted = r->last_applied;
    unsigned trailing = 0;
    size_t bytes = 0;
    for (uint64_t i = r->last_applied; trailing < entries_max / 4 * 3; i--, trailing++) {
        const struct raft_entry *e = compat_entry(r, i);
        if (e == NULL || bytes + e->buf.len > bytes_max / 4 * 3) {
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
void guard_trust(struct raft_group *g, const char *why)
{
    g->is_suspect = g->has_old_terms = g->is_doubtful = false;
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
        deliver_applied(g, true); /* What was committed in the same call keeps its token. */
        lost_leadership(g);
    }
    if (r->state == RAFT_LEADER) {
        if (!g->was_leader) {
            became_leader(g);
            if (g->r == NULL) {
                return;
            }
        }
        if (!g->is_barrier_stored && r->last_stored >= g->hold_index) {
            g->is_barrier_stored = true;
        }
    }
    look_at_leader(g);
    deliver_applied(g, false);
    if (g->r == NULL) {
        return;
    }
    guard_look_level(g);
    if (group_is_ready(g)) {
        g->is_level = true;
        if (g->is_suspect) {
            guard_trust(g, "leads, and committed");
        }
    }
    while (g->batch_count > 0 && g->batch_last[0] <= r->last_applied) {
        memmove(g->batch_last, g->batch_last + 1, (--g->batch_count) * sizeof g->batch_last[0]);
    }
    want_trim(g);
    tell_role(g);
    if (g->pending_count > 0 || g->move_to != 0 || guard_has_commit_news(g) ||
        (g->is_target_due && r->state == RAFT_LEADER)) {
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
    if (r->state != RAFT_LEADER || a->first <= g->hold_index) {
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

/* A configuration is written once more, in a later frame, with what came with it. If the first one
 * rots after the store went past it, nobody would send it again: the replica would begin anew at
 * the store's state under the configuration before, and count votes by that. */
static void keep_change(struct raft_group *g, const struct append *a)
{
    bool has_change = false;
    for (uint64_t i = a->first; i <= a->last; i++) {
        const struct raft_entry *e = compat_entry(g->r, i);
        if (e == NULL) {
            return;
        }
        has_change = has_change || e->type == RAFT_CHANGE;
    }
    for (uint64_t i = a->first; has_change && i <= a->last; i++) {
        log_put_entries(g, RECORD_AGAIN, i, compat_entry(g->r, i), 1);
    }
}

void guard_append_done(struct raft_group *g, struct append *a)
{
    list_remove(&a->link);
    g->appends_count--;
    keep_change(g, a);
    if (g->host->opt.pipeline_max > 1 && IS_ON(g->host, G10)) {
        list_push_back(&g->held, &a->link);
        g->held_count++;
        guard_release(g);
    } else {
        fire(g, a);
    }
    guard_look_level(g); /* The core commits when entries are stored; nothing comes after them. */
    guard_pump(g);
}
