/* The host: its tables, its turn, its jobs. See host_internal.h for the other modules. */
#include "raft/host.h"

#include <assert.h>

#include "raft/host_internal.h"
#include "storage/base/log.h"

static uint32_t or32(uint32_t v, uint32_t otherwise)
{
    return v == 0 ? otherwise : v;
}

static uint64_t or64(uint64_t v, uint64_t otherwise)
{
    return v == 0 ? otherwise : v;
}

static void options_default(struct host_options *o)
{
    o->election_timeout_ms = or32(o->election_timeout_ms, 3000);
    o->heartbeat_ms = or32(o->heartbeat_ms, 1000);
    o->install_timeout_ms = or32(o->install_timeout_ms, 30000);
    o->groups_per_s = or32(o->groups_per_s, 2000);
    o->successor_ms = or32(o->successor_ms, 100);
    o->pipeline_max = or32(o->pipeline_max, 1);
    o->log_entries_max = or32(o->log_entries_max, 8192);
    o->log_bytes_max = or32(o->log_bytes_max, 32u << 20);
    o->node_log_bytes_max = or64(o->node_log_bytes_max, 128u << 20);
    o->log_hold_entries_max = or32(o->log_hold_entries_max, 16384);
    o->log_hold_bytes_max = or32(o->log_hold_bytes_max, 48u << 20);
    o->pending_bytes_max = or32(o->pending_bytes_max, 4u << 20);
    o->node_pending_bytes_max = or64(o->node_pending_bytes_max, 64u << 20);
    o->peer_queue_bytes_max = or32(o->peer_queue_bytes_max, 64u << 20);
    o->group_queue_bytes_max = or32(o->group_queue_bytes_max, 8u << 20);
    o->chunk_bytes = or32(o->chunk_bytes, 256u << 10);
    o->wal_bytes_max = or64(o->wal_bytes_max, 1ull << 30);
    assert(o->pipeline_max <= 4);
    assert(o->chunk_bytes <= CHUNK_BYTES_MAX);
    assert(o->heartbeat_ms < o->election_timeout_ms);
    assert(o->election_timeout_ms <= 100000);
}

struct raft_host *host_new(const struct host_options *options)
{
    compat_init();
    struct raft_host *h = xcalloc(1, sizeof *h);
    h->opt = *options;
    options_default(&h->opt);
    assert(h->opt.env.send != NULL);
    assert(h->opt.env.random != NULL);
    assert(h->opt.node_id != 0);
    list_init(&h->appends);
    list_init(&h->busy);
    list_init(&h->behind);
    list_init(&h->fenced);
    list_init(&h->done);
    list_init(&h->campaigns);
    list_init(&h->switching);
    list_init(&h->carrying);
    list_init(&h->jobs);
    for (unsigned i = 0; i < WHEEL_SLOTS; i++) {
        list_init(&h->wheel[i]);
    }
    return h;
}

struct wal_replay host_wal_replay(struct raft_host *h)
{
    return (struct wal_replay){.record = log_replay,
                               .suspect = log_replay_suspect,
                               .arg = h,
                               .record_type_max = RECORD_TYPE_MAX};
}

void host_open(struct raft_host *h, struct wal *wal, uint64_t now_ms)
{
    h->wal = wal;
    h->now_ms = h->wheel_ms = h->opened_ms = now_ms;
    h->durable_lsn = wal_durable_lsn(wal);
    struct raft_group *g, *tmp;
    HASH_ITER(hh, h->groups, g, tmp)
    {
        if (g->is_deleted) {
            group_free(g);
            continue;
        }
        log_opened(g);
        g->last_index = g->suffix_count > 0 ? g->suffix_first + g->suffix_count - 1 : g->base.index;
        if (h->has_wal_suspects && g->is_known) {
            /* Stubs and suspicion again: what was lost may be the record for whose sake older ones
             * were let go, which are here for the last time. */
            log_put_checkpoint(g);
        } else if (g->is_suspect) {
            log_put_suspect(g);
        }
    }
    if (h->has_wal_suspects) {
        /* Each group's own record says it from here on: until it is level again. */
        HASH_ITER(hh, h->groups, g, tmp)
        {
            host_wal_append(h, WAL_TYPE_CLEARED, g->gid, NULL, 0);
        }
        struct reader unknown = reader_of(buf_slice(&h->unknown_suspects));
        while (unknown.len > 0) {
            host_wal_append(h, WAL_TYPE_CLEARED, reader_u64(&unknown), NULL, 0);
        }
        host_wal_append(h, WAL_TYPE_CLEARED, WAL_GID_ALL, NULL, 0);
    }
    buf_close(&h->unknown_suspects);
}

void host_close(struct raft_host *h)
{
    if (h == NULL) {
        return;
    }
    h->is_closing = true;
    struct raft_group *g, *tmp;
    HASH_ITER(hh, h->groups, g, tmp)
    {
        group_free(g);
    }
    catchup_host_close(h);
    struct peer *p, *ptmp;
    HASH_ITER(hh, h->peers, p, ptmp)
    {
        outbox_peer_drop(p);
        inbox_peer_reset(p);
        HASH_DEL(h->peers, p);
        free(p);
    }
    assert(list_is_empty(&h->done));
    assert(list_is_empty(&h->appends));
    buf_close(&h->frame);
    buf_close(&h->unknown_suspects);
    buf_close(&h->scratch);
    free(h->parts);
    free(h);
}

void host_wal_lock(struct raft_host *h)
{
    if (h->opt.env.wal_lock != NULL) {
        h->opt.env.wal_lock(h->opt.env.ctx);
    }
}

void host_wal_unlock(struct raft_host *h)
{
    if (h->opt.env.wal_unlock != NULL) {
        h->opt.env.wal_unlock(h->opt.env.ctx);
    }
}

uint64_t host_wal_append(struct raft_host *h, uint8_t type, uint64_t gid, const struct slice *parts,
                         unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        h->wal_written += parts[i].len;
    }
    host_wal_lock(h);
    uint64_t lsn = wal_append(h->wal, type, gid, parts, count);
    host_wal_unlock(h);
    return lsn;
}

raft_time host_core_now(const struct raft_host *h)
{
    return h->now_ms + CORE_CLOCK_OFFSET_MS;
}

struct peer *host_peer(struct raft_host *h, uint64_t node_id)
{
    struct peer *p;
    HASH_FIND(hh, h->peers, &node_id, sizeof node_id, p);
    if (p == NULL) {
        p = xcalloc(1, sizeof *p);
        p->node_id = node_id;
        p->host = h;
        list_init(&p->ring);
        list_init(&p->bulk);
        list_init(&p->tables.link);
        list_init(&p->tables.items);
        HASH_ADD(hh, h->peers, node_id, sizeof p->node_id, p);
    }
    return p;
}

void host_alarm(struct raft_host *h, uint64_t gid, const char *text)
{
    h->stats.alarms++;
    log_err("group %llu: %s", (unsigned long long)gid, text);
    if (h->opt.env.alarm != NULL) {
        h->opt.env.alarm(h->opt.env.ctx, gid, text);
    }
}

void host_group_busy(struct raft_group *g)
{
    if (list_is_empty(&g->turn_link)) {
        list_push_back(&g->host->busy, &g->turn_link);
    }
}

/* ---- Events ---- */

int host_receive(struct raft_host *h, uint64_t node_id, enum host_lane lane, struct slice frame)
{
    return inbox_receive(h, node_id, lane, frame);
}

void host_tick(struct raft_host *h, uint64_t now_ms)
{
    assert(now_ms >= h->now_ms);
    h->now_ms = now_ms;
    elect_tick(h);
    keep_run(h);
}

void host_durable(struct raft_host *h, uint64_t lsn)
{
    if (lsn <= h->durable_lsn) {
        return;
    }
    h->durable_lsn = lsn;
    while (!list_is_empty(&h->appends)) {
        struct append *a = container_of(h->appends.next, struct append, host_link);
        if (a->lsn > lsn) {
            break;
        }
        struct raft_group *g = a->group;
        list_remove(&a->host_link);
        guard_append_done(g, a);
    }
    outbox_durable(h);
    keep_durable(h);
    LIST_FOR_SAFE(it, tmp, &h->switching)
    {
        pull_durable(container_of(it, struct raft_group, switch_link));
    }
}

bool host_turn_end(struct raft_host *h)
{
    bool is_behind = guard_deliver_behind(h);
    /* What becomes busy meanwhile comes in the next turn. */
    struct list turn;
    list_init(&turn);
    list_splice(&turn, &h->busy);
    struct list *l;
    while ((l = list_pop_front(&turn)) != NULL) {
        struct raft_group *g = container_of(l, struct raft_group, turn_link);
        group_turn(g);
    }
    outbox_complete(h);
    bool is_left = outbox_flush(h);
    outbox_complete(h);
    h->has_delivered = false;
    return is_left || is_behind || !list_is_empty(&h->behind);
}

/* ---- Peers ---- */

void host_peer_up(struct raft_host *h, uint64_t node_id)
{
    struct peer *p = host_peer(h, node_id);
    outbox_peer_drop(p);
    inbox_peer_reset(p);
    p->is_up = true;
    p->is_stuck = false; /* It says so again if it is. */
    p->epoch++;
    struct raft_group *g, *tmp;
    HASH_ITER(hh, h->groups, g, tmp)
    {
        struct conf c;
        uint64_t at;
        g->is_alone = false;
        if (g->r == NULL || conf_decode(log_conf_as_of(g, UINT64_MAX, &at), &c) != 0) {
            continue;
        }
        for (unsigned i = 0; i < c.count; i++) {
            if (c.members[i].node_id == node_id) {
                outbox_put_table(g, c.members[i].raft_id, node_id, false);
                group_greet(g, c.members[i].raft_id);
            }
        }
    }
}

void host_peer_down(struct raft_host *h, uint64_t node_id)
{
    struct peer *p = host_peer(h, node_id);
    p->is_up = false;
    outbox_peer_drop(p);
    inbox_peer_reset(p);
    struct raft_group *g, *tmp;
    HASH_ITER(hh, h->groups, g, tmp)
    {
        offer_node_down(g, node_id);
        pull_node_down(g, node_id);
        elect_node_down(g, node_id);
    }
}

void host_peer_stuck(struct raft_host *h, uint64_t node_id, bool is_stuck)
{
    struct peer *p = host_peer(h, node_id);
    struct raft_group *g, *tmp;
    if (p->is_stuck == is_stuck) {
        return;
    }
    p->is_stuck = is_stuck;
    HASH_ITER(hh, h->groups, g, tmp)
    {
        g->is_alone = false;
        if (is_stuck) {
            elect_node_down(g, node_id);
        }
    }
}

void host_disk_stuck(struct raft_host *h, bool is_stuck)
{
    struct raft_group *g, *tmp;
    h->is_disk_stuck = is_stuck;
    HASH_ITER(hh, h->groups, g, tmp)
    {
        if (is_stuck) {
            elect_step_down(g);
        }
    }
}

/* ---- Jobs ---- */

struct host_job *job_new(struct raft_host *h, enum job_kind kind, void *owner)
{
    struct host_job *job = xcalloc(1, sizeof *job);
    job->host = h;
    job->kind = kind;
    job->owner = owner;
    list_push_back(&h->jobs, &job->link);
    return job;
}

static void job_free(struct host_job *job)
{
    free(job->buf);
    free(job);
}

void host_job_done(struct host_job *job, int status)
{
    list_remove(&job->link);
    catchup_job_done(job, status);
    job_free(job);
}

void host_image_opened(struct host_job *job, int status, void *image, struct group_base base,
                       const struct group_part *parts, uint32_t parts_count)
{
    list_remove(&job->link);
    offer_image_opened(job, status, image, base, parts, parts_count);
    job_free(job);
}

/* ---- Looking ---- */

void host_stats(const struct raft_host *h, struct host_stats *ret_stats)
{
    struct host_stats s = h->stats;
    struct raft_group *g, *tmp;
    struct peer *p, *ptmp;
    s.groups = s.leaders = s.queued_bytes = 0;
    HASH_ITER(hh, h->groups, g, tmp)
    {
        s.groups++;
        s.leaders += g->r != NULL && group_is_ready(g);
    }
    HASH_ITER(hh, h->peers, p, ptmp)
    {
        s.queued_bytes += p->bytes + p->bulk_bytes;
    }
    s.pending_bytes = h->node_pending_bytes;
    s.heap_bytes = compat_heap_bytes();
    *ret_stats = s;
}

static struct group_found found_of(const struct raft_group *g)
{
    return (struct group_found){.gid = g->gid,
                                .raft_id = g->raft_id,
                                .term = g->term,
                                .base = {g->base.index, g->base.term},
                                .last_index = g->last_index,
                                .is_suspect = g->is_suspect,
                                .is_open = g->is_open};
}

void host_each_group(const struct raft_host *h, group_found_cb cb, void *arg)
{
    struct raft_group *g, *tmp;
    HASH_ITER(hh, h->groups, g, tmp)
    {
        struct group_found f = found_of(g);
        cb(arg, &f);
    }
}

bool host_find_group(const struct raft_host *h, uint64_t gid, struct group_found *ret_found)
{
    struct raft_group *g;
    HASH_FIND(hh, h->groups, &gid, sizeof gid, g);
    if (g != NULL) {
        *ret_found = found_of(g);
    }
    return g != NULL;
}

struct raft_group *host_group(struct raft_host *h, uint64_t gid)
{
    struct raft_group *g;
    HASH_FIND(hh, h->groups, &gid, sizeof gid, g);
    return g != NULL && g->is_open ? g : NULL;
}
