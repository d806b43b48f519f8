/* One libraft instance: its raft_io over WAL and outbox, and its life (raft-guide 1.1, T1 to T6).
 *
 *   instance_open     base of the store + replayed suffix --+
 *   group_create      nothing + entry 1 -----------------+--+--> instance_start --> runs
 *   instance_reload   delivered + log in memory ---------+            ^               |
 *                          ^-------------------------------------------- instance_close
 *
 * Inside one process the base is what was delivered to the embedder: it has these entries, queued
 * or stepped. What libraft had in memory below it is presented too (T6), for slow peers. */
#include <assert.h>

#include "raft/host_internal.h"
#include "storage/base/log.h"

/* ---- raft_io ---- */

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    struct raft_group *g = io->impl;
    (void)msecs;
    g->tick = tick;
    g->recv = recv;
    return 0;
}

static int io_bootstrap(struct raft_io *io, const struct raft_configuration *conf)
{
    (void)io;
    (void)conf;
    return RAFT_CANTBOOTSTRAP; /* group_create writes entry 1 itself. */
}

static int io_recover(struct raft_io *io, const struct raft_configuration *conf)
{
    (void)io;
    (void)conf;
    return RAFT_BUSY;
}

static struct raft_snapshot *load_snapshot(struct raft_group *g)
{
    if (g->load_base.index == 0) {
        return NULL;
    }
    struct conf c;
    int rv = conf_decode(buf_slice(&g->load_base.conf.bytes), &c);
    assert(rv == 0); /* instance_start has checked. */
    (void)rv;
    struct raft_snapshot *s = raft_calloc(1, sizeof *s);
    s->index = g->load_base.index;
    s->term = g->load_base.term;
    s->configuration_index = g->load_base.conf.index;
    conf_to_raft(&c, &s->configuration);
    s->n_bufs = 1;
    s->bufs = raft_malloc(sizeof *s->bufs);
    s->bufs[0].base = raft_calloc(1, 8);
    s->bufs[0].len = 8;
    return s;
}

/* The configuration that the log to be loaded ends with. */
static bool load_conf(const struct raft_group *g, struct conf *ret_conf)
{
    for (size_t i = g->load_count; i > 0; i--) {
        const struct raft_entry *e = &g->load_entries[i - 1];
        if (e->type == RAFT_CHANGE && g->load_first + i - 1 > g->load_base.conf.index) {
            return conf_decode(slice_of(e->buf.base, e->buf.len), ret_conf) == 0;
        }
    }
    return conf_decode(buf_slice(&g->load_base.conf.bytes), ret_conf) == 0;
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *voted_for,
                   struct raft_snapshot **snapshot, raft_index *start_index,
                   struct raft_entry *entries[], size_t *n_entries)
{
    struct raft_group *g = io->impl;
    struct conf c;

    /* G13: the core would elect itself without raising the term. */
    if (IS_ON(g->host, G13) && load_conf(g, &c) && conf_is_sole_voter(&c, g->raft_id)) {
        g->term++;
        g->voted_for = g->raft_id;
        log_put_meta(g);
        g->host->stats.term_bumps++;
    }
    *term = g->term;
    *voted_for = g->voted_for;
    *snapshot = load_snapshot(g);
    *start_index = g->load_first;
    *entries = g->load_entries;
    *n_entries = g->load_count;
    g->next_index = g->load_first + g->load_count;
    g->load_entries = NULL;
    g->load_count = 0;
    return 0;
}

static int io_set_term(struct raft_io *io, raft_term term)
{
    struct raft_group *g = io->impl;
    g->term = term;
    g->voted_for = 0;
    log_put_meta(g);
    return 0;
}

static int io_set_vote(struct raft_io *io, raft_id id)
{
    struct raft_group *g = io->impl;
    if (IS_ON(g->host, G7) && g->voted_for != 0 && g->voted_for != id) {
        /* Two votes in a term can elect two leaders: stop before anything leaves. */
        log_fatal("group %llu: second vote in term %llu (%llu, then %llu)",
                  (unsigned long long)g->gid, (unsigned long long)g->term,
                  (unsigned long long)g->voted_for, (unsigned long long)id);
    }
    g->voted_for = id;
    g->voted_ms = g->host->now_ms;
    log_put_meta(g);
    return 0;
}

void instance_log_bytes(struct raft_group *g, size_t bytes)
{
    g->host->log_bytes += bytes;
    g->host->log_bytes -= g->log_bytes;
    g->log_bytes = bytes;
}

static int io_append(struct raft_io *io, struct raft_io_append *req,
                     const struct raft_entry entries[], unsigned n, raft_io_append_cb cb)
{
    struct raft_group *g = io->impl;
    struct append *a = xmalloc(sizeof *a);

    *a = (struct append){.group = g, .req = req, .cb = cb, .term = g->r->current_term};
    a->first = g->next_index;
    a->last = g->next_index + n - 1;
    a->lsn = log_put_entries(g, RECORD_APPEND, a->first, entries, n);
    g->next_index += n;
    size_t bytes = g->log_bytes;
    for (unsigned i = 0; i < n; i++) {
        bytes += entries[i].buf.len;
    }
    instance_log_bytes(g, bytes);
    list_init(&a->link);
    list_init(&a->host_link);
    list_push_back(&g->appends, &a->link);
    list_push_back(&g->host->appends, &a->host_link);
    g->appends_count++;
    if (g->current != NULL && g->current->type == RAFT_IO_APPEND_ENTRIES) {
        guard_accepted(g);
    }
    return 0;
}

/* Reached only when G9 is off: conflicts never get to the core (B9, B10, B15). */
static int io_truncate(struct raft_io *io, raft_index index)
{
    struct raft_group *g = io->impl;
    if (IS_ON(g->host, G9)) {
        log_fatal("group %llu: the core truncates at %llu", (unsigned long long)g->gid, index);
    }
    log_put_truncate(g, index);
    g->last_term = compat_term_at(g->r, index - 1);
    g->next_index = index;
    return 0;
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                           const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
    struct raft_group *g = io->impl;
    (void)trailing;
    /* T1: only memory is trimmed. At the end of the turn: what was applied in this call is still
     * to be delivered from the log. */
    assert(g->put_req == NULL);
    g->put_req = req;
    g->put_cb = cb;
    g->put_index = snapshot->index;
    host_group_busy(g);
    return 0;
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req,
                           raft_io_snapshot_get_cb cb)
{
    return offer_get(io, req, cb);
}

static raft_time io_time(struct raft_io *io)
{
    struct raft_group *g = io->impl;
    return host_core_now(g->host);
}

static int io_random(struct raft_io *io, int min, int max)
{
    struct raft_group *g = io->impl;
    assert(max >= min);
    uint64_t v = g->host->opt.env.random(g->host->opt.env.ctx);
    return min + (int)(v % ((uint64_t)(max - min) + 1));
}

/* Everything pending completes, in the order of G9 (3), then the close itself. */
static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
    struct raft_group *g = io->impl;
    struct list *l;
    while ((l = list_pop_front(&g->held)) != NULL || (l = list_pop_front(&g->appends)) != NULL) {
        struct append *a = container_of(l, struct append, link);
        list_remove(&a->host_link);
        a->cb(a->req, 0);
        free(a);
    }
    g->held_count = g->appends_count = 0;
    outbox_cancel(g, CANCEL_OF_CORE, true, RAFT_CANCELED);
    offers_cancel(g);
    if (g->put_req != NULL) {
        struct raft_io_snapshot_put *req = g->put_req;
        g->put_req = NULL;
        g->put_cb(req, RAFT_CANCELED);
    }
    cb(io);
}

/* ---- raft_fsm: entries are read from the log after each call, see guard.c ---- */

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    (void)fsm;
    (void)buf;
    *result = NULL;
    return 0;
}

/* T2: a follower that answers is not trimmed away from, within bounds. */
static bool must_hold(struct raft_group *g)
{
    const struct raft *r = g->r;
    const struct raft_host *h = g->host;
    if (!IS_ON(h, T2) || r->state != RAFT_LEADER ||
        compat_log_count(r) >= h->opt.log_hold_entries_max ||
        g->log_bytes >= h->opt.log_hold_bytes_max || h->log_bytes >= h->opt.node_log_bytes_max) {
        return false;
    }
    for (unsigned i = 0; i < r->configuration.n; i++) {
        const struct raft_server *s = &r->configuration.servers[i];
        const struct replica *rep = group_replica(g, s->id);
        if (s->id == g->raft_id || s->role == RAFT_SPARE || rep == NULL || rep->heard_ms == 0 ||
            h->now_ms - rep->heard_ms > HOLD_HEARD_MS) {
            continue;
        }
        if (r->leader_state.progress[i].match_index + r->snapshot.trailing < r->last_applied) {
            return true;
        }
    }
    return false;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct raft_group *g = fsm->data;
    if (must_hold(g)) {
        return RAFT_BUSY;
    }
    raft_set_snapshot_threshold(g->r, UINT32_MAX);
    *bufs = raft_malloc(sizeof **bufs);
    (*bufs)[0].base = raft_calloc(1, 8);
    (*bufs)[0].len = 8;
    *n_bufs = 1;
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    (void)fsm;
    raft_free(buf->base); /* The store is at the base already. */
    return 0;
}

/* ---- Life ---- */

static void load_free(struct raft_group *g)
{
    for (size_t i = 0; i < g->load_count; i++) {
        raft_free(g->load_entries[i].buf.base);
    }
    raft_free(g->load_entries);
    g->load_entries = NULL;
    g->load_count = 0;
}

/* What the core would not survive, as damaged records could make it. */
static bool load_is_sound(struct raft_group *g)
{
    struct conf c;
    uint64_t term = 0;
    if (g->load_base.index > 0 && (g->load_base.term > g->term ||
                                   conf_decode(buf_slice(&g->load_base.conf.bytes), &c) != 0)) {
        return false;
    }
    if (g->load_base.index == 0 && g->load_count > 0 &&
        (g->load_first != 1 || g->load_entries[0].type != RAFT_CHANGE)) {
        return false;
    }
    for (size_t i = 0; i < g->load_count; i++) {
        const struct raft_entry *e = &g->load_entries[i];
        uint64_t index = g->load_first + i;
        if (e->term < term || e->term > g->term ||
            (index == g->load_base.index && e->term != g->load_base.term) ||
            (index == g->load_base.index + 1 && e->term < g->load_base.term)) {
            return false;
        }
        if (e->type == RAFT_CHANGE && conf_decode(slice_of(e->buf.base, e->buf.len), &c) != 0) {
            return false;
        }
        term = e->term;
    }
    return true;
}

static void instance_reset(struct raft_group *g)
{
    g->current = NULL;
    g->is_in_append_cb = false;
    g->verified = g->verified_term = g->verified_leader = 0;
    g->was_leader = false;
    g->lead_term = 0;
    g->barrier_index = g->hold_index = 0;
    g->promote_until_ms = 0;
    g->is_barrier_stored = true;
    g->leader_id = g->leader_node = g->leader_term = 0;
    g->batch_count = 0;
    g->last_proposed = 0;
    g->move_to = 0;
    g->is_reload_due = false;
    for (unsigned i = 0; i < g->replicas_count; i++) {
        g->replicas[i].acked = g->replicas[i].acked_term = 0;
        g->replicas[i].read_seq = 0;
    }
}

bool instance_start(struct raft_group *g)
{
    struct raft_host *h = g->host;
    assert(g->r == NULL);
    if (!load_is_sound(g)) {
        load_free(g);
        group_fail(g, "its log contradicts itself");
        return false;
    }
    size_t bytes = 0;
    for (size_t i = 0; i < g->load_count; i++) {
        bytes += g->load_entries[i].buf.len;
    }
    instance_log_bytes(g, bytes);
    instance_reset(g);
    g->r = xcalloc(1, sizeof *g->r);
    g->io = (struct raft_io){.version = 1,
                             .impl = g,
                             .init = io_init,
                             .close = io_close,
                             .load = io_load,
                             .start = io_start,
                             .bootstrap = io_bootstrap,
                             .recover = io_recover,
                             .set_term = io_set_term,
                             .set_vote = io_set_vote,
                             .send = guard_send,
                             .append = io_append,
                             .truncate = io_truncate,
                             .snapshot_put = io_snapshot_put,
                             .snapshot_get = io_snapshot_get,
                             .time = io_time,
                             .random = io_random};
    g->core_fsm = (struct raft_fsm){.version = 1,
                                    .data = g,
                                    .apply = fsm_apply,
                                    .snapshot = fsm_snapshot,
                                    .restore = fsm_restore};
    int rv = raft_init(g->r, &g->io, &g->core_fsm, g->raft_id, g->address);
    assert(rv == 0); /* Nothing in it can fail but memory. */
    raft_set_election_timeout(g->r, h->opt.election_timeout_ms);
    /* Below the tick, so that each tick finds a heartbeat due. */
    raft_set_heartbeat_timeout(g->r, h->opt.heartbeat_ms - h->opt.heartbeat_ms / 10);
    raft_set_install_snapshot_timeout(g->r, h->opt.install_timeout_ms);
    raft_set_pre_vote(g->r, true);
    raft_set_snapshot_threshold(g->r, UINT32_MAX);
    raft_set_max_catch_up_rounds(g->r, 10);
    raft_set_max_catch_up_round_duration(g->r, 5000);
    rv = raft_start(g->r);
    if (rv != 0) {
        log_err("group %llu: raft_start: %s", (unsigned long long)g->gid, g->r->errmsg);
        group_fail(g, "the core did not start");
        return false;
    }
    g->state = g->is_suspect ? GROUP_SUSPECT : GROUP_ACTIVE;
    /* A sole voter leads already, and has applied. */
    guard_post(g);
    return g->r != NULL;
}

static void closed_cb(struct raft *r)
{
    (void)r;
}

void instance_close(struct raft_group *g)
{
    struct raft *r = g->r;
    if (r == NULL) {
        return;
    }
    g->is_closing = true;
    raft_close(r, closed_cb);
    g->is_closing = false;
    free(r);
    g->r = NULL;
    instance_log_bytes(g, 0);
    group_fail_proposals(g);
}

/* Copy the log in memory, up to @last. */
static void load_from_memory(struct raft_group *g, uint64_t last)
{
    const struct raft *r = g->r;
    uint64_t first = compat_log_first(r);
    uint64_t end = compat_log_first(r) + compat_log_count(r) - 1;
    if (last < end) {
        end = last;
    }
    uint64_t conf_index;
    struct slice conf = log_conf_as_of(g, g->delivered, &conf_index);
    base_set(&g->load_base, g->delivered, g->delivered_term, conf_index, conf);
    g->load_first = first;
    g->load_count = end + 1 >= first ? (size_t)(end + 1 - first) : 0;
    if (g->delivered > 0 && (g->load_count == 0 || first > g->delivered + 1)) {
        g->load_count = 0;
        g->load_first = g->delivered + 1;
    }
    g->load_entries =
        g->load_count == 0 ? NULL : raft_malloc(g->load_count * sizeof(struct raft_entry));
    for (size_t i = 0; i < g->load_count; i++) {
        const struct raft_entry *e = compat_entry(r, g->load_first + i);
        struct raft_entry *copy = &g->load_entries[i];
        *copy = (struct raft_entry){.term = e->term, .type = e->type, .batch = NULL};
        copy->buf.len = e->buf.len;
        copy->buf.base = raft_malloc(e->buf.len == 0 ? 1 : e->buf.len);
        if (e->buf.len > 0) {
            memcpy(copy->buf.base, e->buf.base, e->buf.len);
        }
    }
}

bool instance_reload(struct raft_group *g, uint64_t cut_from)
{
    assert(g->r != NULL);
    assert(g->load_entries == NULL);
    guard_deliver_all(g); /* With the tokens that the end of the instance takes away. */
    load_from_memory(g, cut_from == 0 ? UINT64_MAX : cut_from - 1);
    instance_close(g);
    if (cut_from != 0) {
        log_put_truncate(g, cut_from);
    }
    g->last_index = g->load_first + g->load_count - 1;
    g->last_term = g->load_count > 0 ? g->load_entries[g->load_count - 1].term : g->delivered_term;
    g->host->stats.reloads++;
    return instance_start(g);
}

bool instance_open(struct raft_group *g)
{
    base_copy(&g->load_base, &g->base);
    /* The suffix was replayed into libraft's own form: handed over, not copied. */
    g->load_first = g->base.index + 1;
    g->load_count = g->suffix_count;
    g->load_entries = NULL;
    if (g->suffix_count > 0) {
        assert(g->suffix_first == g->load_first);
        g->load_entries = raft_malloc(g->suffix_count * sizeof *g->suffix);
        memcpy(g->load_entries, g->suffix, g->suffix_count * sizeof *g->suffix);
    }
    free(g->suffix);
    g->suffix = NULL;
    g->suffix_count = g->suffix_cap = 0;
    return instance_start(g);
}
