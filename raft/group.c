/* Groups: their life, and the calls of the embedder. */
#include <assert.h>

#include "raft/host_internal.h"
#include "storage/base/log.h"

#define ENTRY_BYTES_DEFAULT (9u << 20)

struct raft_group *group_new(struct raft_host *h, uint64_t gid)
{
    struct raft_group *g = xcalloc(1, sizeof *g);
    g->host = h;
    g->gid = gid;
    g->is_barrier_stored = true;
    struct list *links[] = {&g->turn_link,   &g->wheel_link, &g->fence_link, &g->campaign_link,
                            &g->switch_link, &g->carry_link, &g->appends,    &g->held,
                            &g->offers,      &g->gets,       &g->gate,       &g->fenced,
                            &g->behind_link};
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        list_init(links[i]);
    }
    HASH_ADD(hh, h->groups, gid, sizeof g->gid, g);
    return g;
}

void group_free(struct raft_group *g)
{
    instance_close(g);
    instance_log_bytes(g, 0);
    group_fail_proposals(g);
    guard_gate_clear(g);
    pull_drop(g);
    outbox_cancel(g, CANCEL_ALL, true, RAFT_CANCELED);
    for (unsigned i = 0; i < g->replicas_count; i++) {
        outbox_replica_drop(&g->replicas[i]);
    }
    list_remove(&g->turn_link);
    list_remove(&g->wheel_link);
    list_remove(&g->fence_link);
    list_remove(&g->campaign_link);
    list_remove(&g->switch_link);
    list_remove(&g->behind_link);
    log_suffix_drop(g, UINT64_MAX, 0);
    log_cut(g, 0);
    free(g->suffix);
    log_aside_close(g);
    keep_close(g);
    free(g->confs);
    free(g->spans);
    free(g->pending);
    free(g->flying);
    free(g->reads);
    free(g->target);
    free(g->known);
    base_close(&g->base);
    base_close(&g->image);
    base_close(&g->load_base);
    HASH_DEL(g->host->groups, g);
    free(g);
}

static void stop_for_good(struct raft_group *g)
{
    pull_drop(g); /* An image must not revive it. */
    if (g->r != NULL && g->r->state != RAFT_UNAVAILABLE) {
        log_suffix_keep(g);
    }
    instance_close(g);
    log_suffix_count_bytes(g);
    guard_gate_clear(g);
    g->state = GROUP_FAILED;
    elect_campaign_stop(g);
    g->told = group_role(g);
    if (g->fsm.role_changed != NULL) {
        g->fsm.role_changed(g->fsm.ctx, &g->told);
    }
}

void group_fail(struct raft_group *g, const char *why)
{
    host_alarm(g->host, g->gid, why);
    stop_for_good(g);
}

/* ---- Halted ---- */

void group_halt(struct raft_group *g, bool takes_images)
{
    g->is_halted = true;
    g->takes_images = takes_images;
}

/* All above what the embedder has applied stays in memory while it is halted: from there it is
 * carried forward, or it would pin the WAL. */
static void hold_trim(struct raft_group *g)
{
    struct raft *r = g->r;
    if (g->is_halted && g->applied + r->snapshot.trailing < r->last_applied) {
        raft_set_snapshot_trailing(r, (unsigned)(r->last_applied - g->applied));
    }
}

bool group_is_full(const struct raft_group *g)
{
    const struct raft *r = g->r;
    if (!g->is_halted || pull_is_switching(g)) {
        return false;
    }
    uint64_t above = compat_log_last(r) > g->applied ? compat_log_last(r) - g->applied : 0;
    if (above > guard_log_entries_max(g)) {
        return true;
    }
    size_t bytes = 0, bytes_max = guard_log_bytes_max(g);
    for (uint64_t i = compat_log_last(r); g->log_bytes > bytes_max && above > 0; i--, above--) {
        const struct raft_entry *e = compat_entry(r, i);
        bytes += e == NULL ? 0 : e->buf.len;
        if (bytes > bytes_max) {
            return true;
        }
    }
    return false;
}

/* ---- Replicas ---- */

struct replica *group_replica(struct raft_group *g, uint64_t raft_id)
{
    for (unsigned i = 0; i < g->replicas_count; i++) {
        if (g->replicas[i].raft_id == raft_id) {
            return &g->replicas[i];
        }
    }
    return NULL;
}

/* Slots are never moved: their queues are linked. One of a replica that is no member gives way. */
static struct replica *replica_slot(struct raft_group *g)
{
    if (g->replicas_count < REPLICAS_MAX) {
        struct replica *rep = &g->replicas[g->replicas_count++];
        list_init(&rep->queue.link);
        list_init(&rep->queue.items);
        return rep;
    }
    struct conf c = {0};
    uint64_t at;
    if (conf_decode(log_conf_as_of(g, UINT64_MAX, &at), &c) != 0) {
        c.count = 0;
    }
    for (unsigned i = 0; i < g->replicas_count; i++) {
        struct replica *rep = &g->replicas[i];
        if (conf_find(&c, rep->raft_id) == NULL && list_is_empty(&rep->queue.items)) {
            return rep;
        }
    }
    return NULL;
}

struct replica *group_replica_add(struct raft_group *g, uint64_t raft_id, uint64_t node_id)
{
    struct replica *rep = group_replica(g, raft_id);
    if (rep != NULL) {
        return rep;
    }
    rep = replica_slot(g);
    if (rep != NULL) {
        struct out_queue queue = rep->queue;
        *rep = (struct replica){.raft_id = raft_id, .node_id = node_id};
        rep->queue = queue;
        list_init(&rep->queue.link);
        list_init(&rep->queue.items);
        rep->queue.bytes = 0;
    }
    return rep;
}

void group_greet(struct raft_group *g, uint64_t raft_id)
{
    if (g->r != NULL && g->r->state == RAFT_LEADER) {
        compat_expire_send(g->r, raft_id);
        elect_tick_now(g);
    }
}

/* G14: what a peer says it has, first of all it says on a connection. */
void group_table(struct raft_group *g, struct replica *rep, const struct frame_item *it)
{
    struct raft_host *h = g->host;
    struct peer *p = host_peer(h, rep->node_id);
    rep->table_epoch = p->epoch;
    rep->told_term = it->term;
    rep->table_last = it->index;
    rep->table_last_term = it->index_term;
    rep->table_commit = it->commit;
    rep->aimed = 0;
    rep->is_table_refused = false;
    g->level_at = it->commit > g->level_at ? it->commit : g->level_at;
    bool is_leader = g->r != NULL && g->r->state == RAFT_LEADER;
    if (is_leader && IS_ON(h, G14) && compat_match_index(g->r, rep->raft_id) > it->index) {
        log_wrn("group %llu: the replica on node %llu came back shorter, %llu entries",
                (unsigned long long)g->gid, (unsigned long long)rep->node_id,
                (unsigned long long)it->index);
        h->stats.shorter_peers++;
        guard_reload(g);
    } else {
        group_greet(g, rep->raft_id);
    }
    if ((it->flags & FRAME_TABLE_ASKING) != 0) {
        outbox_put_table(g, rep->raft_id, rep->node_id, false);
    }
    vote_suspect_learn(g);
}

/* ---- Life ---- */

static void adopt_options(struct raft_group *g, const struct group_options *o)
{
    g->raft_id = o->raft_id;
    g->fsm = o->fsm;
    g->entry_bytes_max = o->entry_bytes_max == 0 ? ENTRY_BYTES_DEFAULT : o->entry_bytes_max;
    assert(g->entry_bytes_max <= HOST_ENTRY_BYTES_MAX);
    g->priority = o->priority;
    g->is_single = o->is_single;
    g->has_known = o->has_known_members;
    g->is_preferred = o->is_preferred;
    g->is_open = true;
    conf_address(g->host->opt.node_id, g->raft_id, g->address);
    elect_wheel_add(g);
}

static bool are_members_fine(const struct group_options *o, const struct group_member *members,
                             unsigned count)
{
    bool is_here = count == 0, has_voter = count == 0;
    if (o->gid == 0 || o->raft_id == 0 || count > HOST_MEMBERS_MAX) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        is_here = is_here || members[i].raft_id == o->raft_id;
        has_voter = has_voter || members[i].role == GROUP_VOTER;
        for (unsigned k = 0; k < i; k++) {
            if (members[k].raft_id == members[i].raft_id) {
                return false;
            }
        }
        if (members[i].raft_id == 0 || members[i].node_id == 0) {
            return false;
        }
    }
    return is_here && has_voter;
}

static bool is_voter_of(const struct group_options *o, const struct group_member *members,
                        unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (members[i].raft_id == o->raft_id) {
            return members[i].role == GROUP_VOTER;
        }
    }
    return false;
}

/* M12: entry 1, the same bytes on every member: sorted by raft id. */
static void first_entry(struct raft_group *g, const struct group_member *members, unsigned count)
{
    struct conf c = {.count = count};
    struct buf bytes = BUF_EMPTY;
    for (unsigned i = 0; i < count; i++) {
        unsigned k = i;
        for (; k > 0 && c.members[k - 1].raft_id > members[i].raft_id && IS_ON(g->host, M12); k--) {
            c.members[k] = c.members[k - 1];
        }
        c.members[k] = members[i];
    }
    conf_encode(&c, &bytes);
    g->load_entries = raft_malloc(sizeof *g->load_entries);
    *g->load_entries = (struct raft_entry){.term = 1, .type = RAFT_CHANGE, .batch = NULL};
    g->load_entries->buf.len = bytes.len;
    g->load_entries->buf.base = raft_malloc(bytes.len);
    memcpy(g->load_entries->buf.base, bytes.ptr, bytes.len);
    g->load_count = 1;
    buf_close(&bytes);
    g->term = 1;
    log_put_meta(g);
    g->fence_lsn = log_put_entries(g, RECORD_APPEND, 1, g->load_entries, 1);
}

int group_create(struct raft_host *h, const struct group_options *options,
                 const struct group_member *members, unsigned members_count,
                 struct raft_group **ret_group)
{
    struct raft_group *g;
    if (!are_members_fine(options, members, members_count)) {
        return ERR_INVALID;
    }
    HASH_FIND(hh, h->groups, &options->gid, sizeof options->gid, g);
    if (g != NULL) {
        return ERR_EXISTS;
    }
    g = group_new(h, options->gid);
    g->is_known = true;
    adopt_options(g, options);
    log_put_create(g);
    g->is_newcomer = !is_voter_of(options, members, members_count);
    if (g->is_newcomer) {
        log_put_suspect(g);
    }
    g->load_first = 1;
    if (members_count > 0) {
        first_entry(g, members, members_count);
        g->is_level = true; /* Nobody has more. */
    }
    base_set(&g->load_base, 0, 0, 0, SLICE_EMPTY);
    *ret_group = g;
    if (instance_start(g)) {
        outbox_put_tables(g, true);
        elect_started(g, true);
    }
    return 0;
}

/* The WAL lost synced records, as a rotten last frame, of which the store has the outcome:
 * committed, so it is a base; but what came after may have been acknowledged, and terms and votes
 * be lost. */
static void begin_at_store(struct raft_group *g, struct group_base store)
{
    log_wrn("group %llu: the WAL ends at index %llu, before the store's %llu: it lost records, and "
            "begins anew there",
            (unsigned long long)g->gid, (unsigned long long)g->last_index,
            (unsigned long long)store.index);
    struct base b = {0};
    uint64_t conf_index;
    struct slice conf = log_conf_as_of(g, UINT64_MAX, &conf_index);
    base_set(&b, store.index, store.term, conf_index, conf);
    log_suffix_drop(g, UINT64_MAX, 0);
    log_reset(g, &b);
    base_close(&b);
    log_put_base(g, RECORD_RESET, &g->base);
    g->is_suspect = true;
    g->is_doubtful = true; /* A change of members may be among what was lost. */
    log_put_suspect(g);
}

/* T5, C6: the base is what the store holds; the suffix counts only if it continues it. */
static int connect_suffix(struct raft_group *g, struct group_base store)
{
    if (store.index == g->image.index && store.term == g->image.term && store.index != 0 &&
        store.index > g->base.index) {
        /* A crash after the switch, before RESET: a log with another entry there is void. */
        bool is_there = g->suffix_count > 0 && g->suffix_first <= store.index &&
                        g->suffix_first + g->suffix_count > store.index &&
                        g->suffix[store.index - g->suffix_first].term == store.term;
        if (!is_there && IS_ON(g->host, T5)) {
            struct base image = {0};
            base_copy(&image, &g->image);
            log_suffix_drop(g, UINT64_MAX, 0);
            log_reset(g, &image);
            base_close(&image);
            log_put_base(g, RECORD_RESET, &g->base);
            return 0;
        }
    }
    if (store.index < g->base.index) {
        return ERR_CORRUPT; /* The store lost what the WAL was trimmed for. */
    }
    uint64_t last = g->suffix_count > 0 ? g->suffix_first + g->suffix_count - 1 : g->base.index;
    if (g->suffix_count > 0 && g->suffix_first > g->base.index + 1) {
        return ERR_CORRUPT; /* A gap. */
    }
    if (store.index == g->base.index) {
        return store.term == g->base.term ? 0 : ERR_CORRUPT;
    }
    if (store.index > last && IS_ON(g->host, T5)) {
        begin_at_store(g, store);
        return 0;
    }
    /* A crash between the store's checkpoint and BASE. */
    if (store.index > last || g->suffix[store.index - g->suffix_first].term != store.term) {
        return ERR_CORRUPT;
    }
    log_set_base(g, store.index, store.term);
    log_put_base(g, RECORD_BASE, &g->base);
    log_suffix_drop(g, store.index + 1, UINT64_MAX);
    return 0;
}

/* What the base holds was committed in this term or before: the record of the term is lost, or was
 * to come after the switch to an image. */
static void raise_term(struct raft_group *g, uint64_t term)
{
    if (g->term < term) {
        g->term = term;
        g->voted_for = 0;
        log_put_meta(g);
    }
}

int group_open(struct raft_host *h, const struct group_options *options,
               struct raft_group **ret_group)
{
    struct raft_group *g;
    HASH_FIND(hh, h->groups, &options->gid, sizeof options->gid, g);
    if (g != NULL && g->is_open) {
        return ERR_EXISTS;
    }
    if (g == NULL || !g->is_known || g->raft_id != options->raft_id) {
        return ERR_NOTFOUND;
    }
    /* Before the suffix is cut: the table of configurations starts at the WAL's base. */
    if (g->suffix_count > 0) {
        log_note_entries(g, g->suffix_first, g->suffix, g->suffix_count);
    }
    log_note_conf(g, buf_slice(&g->base.conf.bytes));
    struct group_base store = options->fsm.base(options->fsm.ctx);
    bool is_sound = store.index <= RECORD_NUMBER_MAX && store.term <= RECORD_NUMBER_MAX &&
                    (store.index == 0) == (store.term == 0);
    int rv = g->is_broken || !is_sound ? ERR_CORRUPT : connect_suffix(g, store);
    if (rv != 0) {
        host_alarm(h, g->gid, "the WAL does not continue what the store holds");
        return rv;
    }
    adopt_options(g, options);
    raise_term(g, g->base.term);
    g->delivered = g->applied = g->base.index;
    g->delivered_term = g->base.term;
    g->last_index = g->base.index + g->suffix_count;
    g->last_term = g->suffix_count > 0 ? g->suffix[g->suffix_count - 1].term : g->base.term;
    *ret_group = g;
    if (g->is_suspect && g->is_single) {
        host_alarm(h, g->gid, "a sole replica may have lost entries; it serves what it has");
        g->is_suspect = false;
        log_put_suspect(g);
    } else if (g->is_suspect) {
        struct conf c;
        uint64_t at;
        if (IS_ON(h, G11) && conf_decode(log_conf_as_of(g, UINT64_MAX, &at), &c) == 0 &&
            conf_is_sole_voter(&c, g->raft_id)) {
            /* It would elect itself, though the lost tail may have had other voters. */
            g->state = GROUP_SUSPECT;
            host_alarm(h, g->gid, "a suspect sole voter is not started");
            return 0;
        }
    }
    g->has_old_terms = g->is_suspect && IS_ON(h, G11);
    if (instance_open(g)) {
        outbox_put_tables(g, true);
        elect_started(g, false);
    }
    return 0;
}

void group_destroy(struct raft_group *g)
{
    assert(!g->is_delivering);
    log_put_delete(g);
    group_free(g);
}

int host_destroy_found(struct raft_host *h, uint64_t gid)
{
    struct raft_group *g;
    HASH_FIND(hh, h->groups, &gid, sizeof gid, g);
    if (g == NULL) {
        return ERR_NOTFOUND;
    }
    group_destroy(g);
    return 0;
}

/* ---- Leadership ---- */

void group_move_to(struct raft_group *g, uint64_t raft_id)
{
    g->move_to = raft_id;
    g->move_until_ms = g->host->now_ms + MOVE_MS;
    g->is_move_sent = false;
    host_group_busy(g);
}

int group_move_leader(struct raft_group *g, uint64_t node_id)
{
    if (!group_is_ready(g)) {
        return ERR_NOTLEADER;
    }
    if (g->move_to != 0) {
        return ERR_BUSY;
    }
    for (unsigned i = 0; i < g->r->configuration.n; i++) {
        const struct raft_server *s = &g->r->configuration.servers[i];
        if (s->role == RAFT_VOTER && s->id != g->raft_id && outbox_node_of(g, s->id) == node_id) {
            group_move_to(g, s->id);
            return 0;
        }
    }
    return ERR_NOTFOUND;
}

/* M11: TIMEOUT_NOW once the target has everything. */
static void move_step(struct raft_group *g)
{
    if (g->move_to == 0) {
        return;
    }
    struct raft *r = g->r;
    if (!group_is_ready(g) || g->host->now_ms > g->move_until_ms ||
        compat_role(r, g->move_to) != RAFT_VOTER) {
        g->move_to = 0;
        return;
    }
    host_group_busy(g);
    uint64_t last = compat_log_last(r);
    bool is_level = g->pending_count == 0 && g->flying_count == 0 && r->last_stored == last &&
                    compat_match_index(r, g->move_to) == last;
    if (g->is_move_sent || (!is_level && IS_ON(g->host, M11))) {
        return;
    }
    struct out *o = out_new(g, FRAME_TIMEOUT_NOW, g->move_to, outbox_node_of(g, g->move_to));
    o->item.term = r->current_term;
    o->item.index = last;
    o->item.index_term = compat_term_at(r, last);
    out_push(o);
    g->is_move_sent = true;
}

void group_set_waiting(struct raft_group *g, bool is_waiting)
{
    g->is_waiting = is_waiting;
}

void group_campaign(struct raft_group *g)
{
    if (g->r != NULL && g->r->state != RAFT_LEADER) {
        elect_campaign_at(g, g->host->now_ms, g->host->opt.successor_ms, g->host->now_ms + 1000);
    }
}

/* ---- Bases ---- */

uint64_t group_set_base(struct raft_group *g, struct group_base base)
{
    bool is_back = base.index <= g->base.index && IS_ON(g->host, T6);
    if (is_back || pull_is_switching(g)) {
        return g->base_lsn;
    }
    assert(base.index <= g->delivered);
    log_set_base(g, base.index, base.term);
    log_suffix_drop(g, base.index + 1, UINT64_MAX);
    if (g->r == NULL) {
        log_suffix_count_bytes(g);
    }
    return log_put_base(g, RECORD_BASE, &g->base);
}

void group_set_applied(struct raft_group *g, uint64_t index)
{
    g->applied = index;
}

/* ---- Turn ---- */

/* T1: at once, durable or not; what goes is still in the WAL. */
static void trim_done(struct raft_group *g)
{
    if (g->put_req == NULL || g->r == NULL ||
        (g->base.index < g->trim_wanted && !IS_ON(g->host, T1))) {
        return;
    }
    if (g->delivered < g->put_index) {
        host_group_busy(g);
        return;
    }
    struct raft_io_snapshot_put *req = g->put_req;
    hold_trim(g);
    g->put_req = NULL;
    g->put_cb(req, 0);
    g->host->stats.trims++;
    size_t n = compat_log_count(g->r);
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        bytes += compat_entry(g->r, compat_log_first(g->r) + i)->buf.len;
    }
    instance_log_bytes(g, bytes);
    guard_post(g);
}

void group_turn(struct raft_group *g)
{
    log_durable(g);
    if (g->r == NULL) {
        return;
    }
    trim_done(g);
    if (group_is_full(g)) {
        log_err("group %llu: it was halted at index %llu, its log is full and it stops at %llu",
                (unsigned long long)g->gid, (unsigned long long)g->applied,
                (unsigned long long)compat_log_last(g->r));
        stop_for_good(g);
        return;
    }
    if (g->is_tick_due) {
        g->is_tick_due = false;
        elect_tick_now(g);
        if (g->r == NULL) {
            return;
        }
    }
    offer_turn(g);
    if (g->r == NULL) {
        return;
    }
    members_turn(g);
    if (g->r == NULL) {
        return;
    }
    propose_turn(g);
    if (g->r == NULL) {
        return;
    }
    guard_tell_commit(g);
    read_turn(g);
    move_step(g);
}

/* ---- Looking ---- */

struct group_role group_role(const struct raft_group *g)
{
    struct group_role role = {.term = g->term, .leader_node_id = g->leader_node};
    if (g->r == NULL) {
        role.leader_node_id = 0;
        return role;
    }
    role.term = g->r->current_term;
    role.is_leader = group_is_ready(g);
    return role;
}

uint64_t group_term_at(const struct raft_group *g, uint64_t index)
{
    return g->r == NULL ? 0 : compat_term_at(g->r, index);
}

static void status_of_core(const struct raft_group *g, struct group_status *s)
{
    const struct raft *r = g->r;
    s->is_core_leader = r->state == RAFT_LEADER;
    s->commit_index = r->commit_index;
    s->last_index = compat_log_last(r);
    s->last_term = compat_term_at(r, s->last_index);
    s->stored_index = r->last_stored;
    s->log_first_index = compat_log_first(r);
    s->configuration_index = r->configuration_uncommitted_index != 0
                                 ? r->configuration_uncommitted_index
                                 : r->configuration_index;
    s->is_configuration_uncommitted = r->configuration_uncommitted_index != 0;
    s->is_target_reached = members_is_target_reached(g);
}

void group_status(const struct raft_group *g, struct group_status *ret_status)
{
    struct group_status s = {.gid = g->gid,
                             .raft_id = g->raft_id,
                             .state = g->state,
                             .role = group_role(g),
                             .leader_raft_id = g->r == NULL ? 0 : g->leader_id,
                             .voted_for = g->voted_for,
                             .delivered_index = g->delivered,
                             .delivered_term = g->delivered_term,
                             .applied_index = g->applied,
                             .last_index = g->last_index,
                             .last_term = g->last_term,
                             .log_bytes = g->log_bytes,
                             .base = {g->base.index, g->base.term},
                             .create_lsn = g->create_lsn,
                             .needed_lsn = log_needed_lsn(g),
                             .pending_bytes = g->pending_bytes,
                             .is_catching_up = g->pull != NULL,
                             .is_divergent = g->is_divergent,
                             .is_halted = g->is_halted,
                             .is_waiting = g->is_waiting,
                             .is_level = g->is_level && g->pull == NULL};
    struct conf c = {0};
    if (g->r != NULL) {
        status_of_core(g, &s);
    }
    if (conf_decode(log_conf_as_of(g, UINT64_MAX, &s.members_index), &c) != 0) {
        c.count = 0;
    }
    s.members_count = c.count;
    for (unsigned i = 0; i < c.count; i++) {
        s.members[i].member = c.members[i];
        if (s.is_core_leader) {
            s.members[i].match_index = compat_match_index(g->r, c.members[i].raft_id);
            s.members[i].is_recent = compat_is_recent(g->r, c.members[i].raft_id);
        }
    }
    *ret_status = s;
}
