/* What peers say, before the core hears it.
 *
 *   guard_arrive --> gate (G1, G4) --> deliver --> core
 *
 * Entries pass G2b, G15, G9 and G3, votes G11, G16 and G7.
 *
 * The gate is one queue per group: what waits holds back all that came later. */
#include "raft/host_internal.h"
#include "storage/base/log.h"

#define LEVEL_NEAR 64 /* A replica so few entries behind, in the leader's own term, is level. */

void guard_message_free(struct raft_message *m)
{
    if (m->type == RAFT_IO_APPEND_ENTRIES && m->append_entries.entries != NULL) {
        raft_free(m->append_entries.entries[0].batch);
        raft_free(m->append_entries.entries);
        m->append_entries.entries = NULL;
        m->append_entries.n_entries = 0;
    }
}

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
        g->is_divergent = true;
        group_fail(g, "a leader's committed entries differ from ours");
        return false;
    }
    uint64_t c = conflict_of(g->r, a);
    if (c != 0 && IS_ON(h, G9)) {
        if (c <= g->r->commit_index || c <= g->delivered) {
            g->is_divergent = true;
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
    if (g->pull != NULL && !IS_ON(h, C4)) {
        return false;
    }
    elect_asked(g, m->server_id, v->term);
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
        if (a->rejected != 0 && a->rejected == rep->aimed) {
            rep->is_table_refused = true;
        }
    }
    if (a->rejected == 0 && a->last_log_index > compat_log_last(r)) {
        a->last_log_index = compat_log_last(r); /* Nobody can have more of ours than we have. */
    }
    return true;
}

/* All that the leader says is committed is here. A new leader may not know yet what was committed
 * before it; once it has committed in its own term, all that is below. */
static bool is_same_as_leaders(const struct raft_group *g)
{
    uint64_t term = g->r->current_term;
    return g->leader_term == term && g->leader_id != 0 && g->verified_term == term &&
           g->verified_leader == g->leader_id && g->verified >= g->leader_commit &&
           compat_term_at(g->r, g->leader_commit) == term;
}

/* The leader tells who lags only what he has as committed: level_at. Under a steady load some
 * entries are always on their way. */
void guard_look_level(struct raft_group *g)
{
    if (g->r == NULL || g->is_level || g->r->state == RAFT_LEADER || !is_same_as_leaders(g)) {
        return;
    }
    uint64_t applied = g->delivered; /* What is committed may wait for the next turn. */
    if (applied >= g->level_at && applied + LEVEL_NEAR >= g->leader_commit &&
        (applied >= g->leader_commit || compat_term_at(g->r, applied) == g->r->current_term)) {
        g->is_level = true;
    }
}

/* After the core took entries: who leads, whether this replica is level with it, and whether a
 * suspect is one no longer (G11). */
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
    g->leader_commit = leader_commit;
    guard_look_level(g);
    if (is_same_as_leaders(g) && g->is_suspect && !g->has_old_terms &&
        vote_suspect_knows_terms(g) && vote_suspect_knows_members(g)) {
        guard_trust(g, "level with its leader");
    }
}

/* The core overlooks a refusal of the heartbeat that it sends in the place of entries it has no
 * more, and only the next one, a second later, finds that a snapshot is due: look again this turn.
 */
static void probe_again(struct raft_group *g, struct replica *rep)
{
    if (g->host->now_ms - rep->probed_ms >= PROBE_AGAIN_MS) {
        rep->probed_ms = g->host->now_ms;
        compat_expire_send(g->r, rep->raft_id);
        g->is_tick_due = true;
        host_group_busy(g);
    }
}

static void after_result(struct raft_group *g, const struct raft_append_entries_result *a,
                         uint64_t from)
{
    struct replica *rep = group_replica(g, from);
    if (g->r == NULL || g->r->state != RAFT_LEADER || a->term != g->r->current_term ||
        rep == NULL) {
        return;
    }
    if (a->rejected != 0) {
        probe_again(g, rep);
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
        return;
    }
    vote_suspect_raise(g);
    if (instance_reload(g, 0) && was_leader) {
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
