/* Catch-up, the side that needs it: staging an image while the instance runs, and the switch to it.
 * See catchup.c for the whole. */
#include <assert.h>

#include "raft/host_internal.h"
#include "storage/base/crc32c.h"
#include "storage/base/log.h"

enum pull_phase {
    PULL_TABLE,
    PULL_PARTS,
    PULL_VERIFY,
    PULL_QUIET,
    PULL_INTENT,
    PULL_SWITCH,
    PULL_RESET
};

/* The side that needs it. */
struct pull {
    struct raft_group *group; /* NULL: given up, only a job keeps it. */
    struct group_fsm fsm;
    enum pull_phase phase;
    uint64_t offer_id;
    uint64_t from;
    uint64_t node_id;
    uint64_t term; /* Of the leader that offered. */
    struct base base;
    uint32_t parts_count;
    struct buf table;
    void *stage;
    uint64_t part, off;
    uint64_t sign_ms;
    uint64_t lsn; /* Waited for in INTENT and RESET. */
    unsigned jobs;
};

static void pull_free(struct pull *p)
{
    if (p->stage != NULL) {
        p->fsm.stage_drop(p->fsm.ctx, p->stage);
    }
    base_close(&p->base);
    buf_close(&p->table);
    free(p);
}

static void pull_detach(struct pull *p)
{
    p->group->pull = NULL;
    list_remove(&p->group->switch_link);
    p->group = NULL;
    if (p->jobs == 0) {
        pull_free(p);
    }
}

void pull_drop(struct raft_group *g)
{
    if (g->pull != NULL) {
        pull_detach(g->pull);
    }
}

bool pull_is_switching(const struct raft_group *g)
{
    return g->pull != NULL && g->pull->phase >= PULL_INTENT;
}

bool pull_wants_quiet(const struct raft_group *g)
{
    return g->pull != NULL && g->pull->phase >= PULL_QUIET;
}

/* C8: go on as before. */
static void give_up(struct pull *p)
{
    struct raft_group *g = p->group;
    g->host->stats.catchups_given_up++;
    catchup_say(g, FRAME_DONE, p->from, p->node_id, p->offer_id, 1);
    pull_detach(p);
}

/* C3: does our log contain the image? */
static bool is_contained(const struct raft_group *g, uint64_t index, uint64_t term)
{
    if (index <= g->base.index) {
        return true;
    }
    if (!IS_ON(g->host, C3)) {
        return false;
    }
    return index <= g->delivered ||
           (g->r != NULL && (index <= g->r->commit_index || compat_term_at(g->r, index) == term));
}

/* C7: in our term, whatever the offer's was: the image is committed, so it is true of any leader.
 */
static void answer(struct raft_group *g, uint64_t to, uint64_t node_id, uint64_t index,
                   uint64_t offer_id)
{
    if (IS_ON(g->host, C7)) {
        guard_send_result(g, to, node_id, g->term, 0, index);
    }
    catchup_say(g, FRAME_DONE, to, node_id, offer_id, 0);
}

static void ask(struct pull *p)
{
    struct raft_group *g = p->group;
    uint64_t size = p->phase == PULL_TABLE ? (uint64_t)p->parts_count * CATCHUP_TABLE_PART_BYTES
                                           : catchup_table_bytes(&p->table, p->part);
    uint64_t left = size - p->off;
    struct out *o = out_new(g, FRAME_PULL, p->from, p->node_id);
    o->item.seq = p->offer_id;
    o->item.part = p->phase == PULL_TABLE ? FRAME_PART_TABLE : p->part;
    o->item.offset = p->off;
    o->item.length = left < g->host->opt.chunk_bytes ? left : g->host->opt.chunk_bytes;
    out_push(o);
}

/* The disk is at work for longer than the other side waits: any question says that we are here. Its
 * answer comes unasked, and is dropped. */
static void say_alive(struct pull *p)
{
    struct out *o = out_new(p->group, FRAME_PULL, p->from, p->node_id);
    o->item.seq = p->offer_id;
    o->item.part = FRAME_PART_TABLE;
    o->item.length = CATCHUP_TABLE_PART_BYTES;
    out_push(o);
}

static void verify(struct pull *p)
{
    struct raft_group *g = p->group;
    p->phase = PULL_VERIFY;
    p->jobs++;
    p->fsm.stage_verify(p->fsm.ctx, p->stage, job_new(g->host, JOB_STAGE_VERIFY, p));
}

static bool is_here(const struct pull *p)
{
    return p->part > 0 && p->off == 0 && p->fsm.stage_has != NULL &&
           p->fsm.stage_has(p->fsm.ctx, p->stage, (uint32_t)p->part);
}

/* The next part that is to be fetched, or the end. */
static void next_part(struct pull *p)
{
    while (p->part < p->parts_count &&
           (catchup_table_bytes(&p->table, p->part) == p->off || is_here(p))) {
        p->part++;
        p->off = 0;
    }
    if (p->part == p->parts_count) {
        verify(p);
    } else {
        ask(p);
    }
}

static void stage_begin(struct pull *p)
{
    struct group_part *parts = xcalloc(p->parts_count + 1u, sizeof *parts);
    struct reader r = reader_of(buf_slice(&p->table));
    int rv = 0;
    for (uint32_t i = 0; i < p->parts_count; i++) {
        parts[i].bytes = reader_u64(&r);
        parts[i].crc = reader_u32(&r);
        if (parts[i].bytes > HOST_PART_BYTES_MAX) {
            rv = ERR_TOOBIG;
        }
    }
    if (rv == 0) {
        struct group_base base = {p->base.index, p->base.term};
        rv = p->fsm.stage_open(p->fsm.ctx, base, parts, p->parts_count, &p->stage);
    }
    free(parts);
    if (rv != 0) {
        log_wrn("group %llu: no room for an image: %s", (unsigned long long)p->group->gid,
                err_text(rv));
        p->stage = NULL;
        give_up(p);
        return;
    }
    p->phase = PULL_PARTS;
    p->part = 0;
    p->off = 0;
    next_part(p);
}

/* Whether an offer is to be answered now. Of two leaders' offers the newer one counts; what is
 * past fetching is finished all the same, and who offers meanwhile is told to try again, or it
 * would wait until its offer is silent for too long. */
static bool is_free_for(struct raft_group *g, uint64_t node_id, const struct frame_item *it)
{
    struct pull *p = g->pull;
    if (p != NULL && p->offer_id != it->seq && p->phase <= PULL_PARTS && it->term > p->term &&
        IS_ON(g->host, C8)) {
        give_up(p);
    } else if (p != NULL) {
        if (p->offer_id != it->seq) {
            catchup_say(g, FRAME_DONE, it->from, node_id, it->seq, 1);
        }
        return false;
    }
    return g->r != NULL;
}

void pull_on_offer(struct raft_group *g, uint64_t node_id, const struct frame_item *it)
{
    if (g->fsm.stage_open == NULL || (g->is_halted && !g->takes_images) || it->term < g->term ||
        !is_free_for(g, node_id, it)) {
        return;
    }
    if (is_contained(g, it->index, it->index_term) && g->appends_count == 0) {
        g->host->stats.catchups_kept++;
        answer(g, it->from, node_id, it->index, it->seq);
        return;
    }
    struct pull *p = xcalloc(1, sizeof *p);
    p->group = g;
    p->fsm = g->fsm;
    p->offer_id = it->seq;
    p->from = it->from;
    p->node_id = node_id;
    p->term = it->term;
    base_set(&p->base, it->index, it->index_term, it->conf_index, it->bytes);
    p->parts_count = (uint32_t)it->count;
    p->sign_ms = g->host->now_ms;
    g->pull = p;
    g->is_level = false;
    if (p->parts_count == 0) {
        stage_begin(p);
    } else {
        ask(p);
    }
}

void pull_on_chunk(struct raft_group *g, const struct frame_item *it)
{
    struct pull *p = g->pull;
    uint64_t part = p == NULL ? 0 : p->phase == PULL_TABLE ? FRAME_PART_TABLE : p->part;
    if (p == NULL || p->phase > PULL_PARTS || it->from != p->from || it->seq != p->offer_id ||
        it->part != part || it->offset != p->off || it->bytes.len == 0 || p->jobs > 0) {
        return;
    }
    uint64_t size = p->phase == PULL_TABLE ? (uint64_t)p->parts_count * CATCHUP_TABLE_PART_BYTES
                                           : catchup_table_bytes(&p->table, p->part);
    if (it->bytes.len > size - p->off || crc32c(0, it->bytes.ptr, it->bytes.len) != it->crc) {
        g->host->stats.dropped++;
        give_up(p);
        return;
    }
    p->sign_ms = g->host->now_ms;
    if (p->phase == PULL_TABLE) {
        buf_append_slice(&p->table, it->bytes);
        p->off += it->bytes.len;
        if (p->off == size) {
            stage_begin(p);
        } else {
            ask(p);
        }
        return;
    }
    struct host_job *job = job_new(g->host, JOB_STAGE_WRITE, p);
    job->len = it->bytes.len;
    job->buf = xmalloc(job->len);
    memcpy(job->buf, it->bytes.ptr, job->len);
    p->jobs++;
    p->fsm.stage_write(p->fsm.ctx, p->stage, (uint32_t)p->part, p->off,
                       slice_of(job->buf, job->len), job);
}

/* Nothing of the group is on its way to the disk. */
static bool is_quiet(const struct raft_group *g)
{
    return g->appends_count == 0 && list_is_empty(&g->held) && g->last_lsn <= g->host->durable_lsn;
}

/* C5: wait until the WAL is quiet, look again whether the log contains the image by now, then
 * close and switch. True when the phase has changed. */
static bool advance(struct pull *p)
{
    struct raft_group *g = p->group;
    struct raft_host *h = g->host;
    if (p->phase == PULL_RESET) {
        return false;
    }
    /* What a follower applied is stored: silence would tell no more, and need not come under load.
     */
    bool is_overtaken = p->base.index <= g->delivered && IS_ON(h, C3);
    if (!is_overtaken && (!is_quiet(g) || (p->phase == PULL_INTENT && p->lsn > h->durable_lsn))) {
        return false;
    }
    if (IS_ON(h, C5) && is_contained(g, p->base.index, p->base.term)) {
        h->stats.catchups_kept++;
        answer(g, p->from, p->node_id, p->base.index, p->offer_id);
        pull_detach(p);
        return false;
    }
    if (p->phase == PULL_QUIET) {
        p->lsn = log_put_base(g, RECORD_IMAGE, &p->base);
        p->phase = PULL_INTENT;
        return true;
    }
    assert(p->phase == PULL_INTENT);
    p->phase = PULL_SWITCH;
    p->jobs++;
    instance_close(g);
    guard_gate_clear(g);
    g->state = GROUP_CATCHUP;
    if (!IS_ON(h, C6)) {
        log_put_base(g, RECORD_RESET, &p->base);
    }
    struct host_job *job = job_new(h, JOB_STAGE_SWITCH, p);
    void *stage = p->stage;
    p->stage = NULL; /* Consumed. */
    p->fsm.stage_switch(p->fsm.ctx, stage, job);
    return true;
}

static void switched(struct pull *p)
{
    struct raft_group *g = p->group;
    log_reset(g, &p->base);
    if (g->term < p->term) {
        /* The offer was the first to tell of it; an answer of an older term is no answer. */
        g->term = p->term;
        g->voted_for = 0;
        log_put_meta(g);
    }
    p->lsn = log_put_base(g, RECORD_RESET, &p->base);
    g->delivered = g->applied = p->base.index;
    g->delivered_term = p->base.term;
    g->is_halted = false;
    p->phase = PULL_RESET;
}

/* C6 (3): load() is the image and no entries; term and vote stand. */
static void restart(struct pull *p)
{
    struct raft_group *g = p->group;
    uint64_t from = p->from, node_id = p->node_id, index = p->base.index, id = p->offer_id;
    base_copy(&g->load_base, &g->base);
    g->load_first = g->base.index + 1;
    g->load_count = 0;
    g->load_entries = NULL;
    pull_detach(p);
    g->host->stats.catchups++;
    if (instance_start(g)) {
        answer(g, from, node_id, index, id);
    }
}

void pull_durable(struct raft_group *g)
{
    struct pull *p = g->pull;
    if (p == NULL) {
        return;
    }
    if (p->phase == PULL_RESET && p->lsn <= g->host->durable_lsn) {
        restart(p);
    } else if (p->phase == PULL_QUIET || p->phase == PULL_INTENT) {
        advance(p);
    }
}

void pull_job_done(struct host_job *job, int status)
{
    struct pull *p = job->owner;
    p->jobs--;
    if (p->group == NULL) {
        if (p->jobs == 0) {
            pull_free(p);
        }
        return;
    }
    struct raft_group *g = p->group;
    p->sign_ms = g->host->now_ms;
    if (job->kind == JOB_STAGE_SWITCH) {
        if (status != 0) {
            log_fatal("group %llu: the store did not switch to the image: %s",
                      (unsigned long long)g->gid, err_text(status));
        }
        switched(p);
        return;
    }
    if (status != 0) {
        log_wrn("group %llu: image from node %llu: %s", (unsigned long long)g->gid,
                (unsigned long long)p->node_id, err_text(status));
        give_up(p);
        return;
    }
    if (job->kind == JOB_STAGE_WRITE) {
        p->off += job->len;
        next_part(p);
        return;
    }
    p->phase = PULL_QUIET;
    keep_give_up(
        g); /* The image replaces what a run would carry: record upon record, never quiet. */
    list_push_back(&g->host->switching, &g->switch_link);
    advance(p);
}

void pull_on_nak(struct raft_group *g, const struct frame_item *it)
{
    struct pull *p = g->pull;
    if (p != NULL && p->phase <= PULL_PARTS && p->from == it->from && p->offer_id == it->seq &&
        IS_ON(g->host, C8)) {
        give_up(p);
    }
}

void pull_tick(struct raft_group *g)
{
    struct raft_host *h = g->host;
    struct pull *p = g->pull;
    if (p == NULL) {
        return;
    }
    if (p->phase <= PULL_PARTS && p->jobs == 0 && IS_ON(h, C8) &&
        h->now_ms - p->sign_ms > PULL_SILENCE_MS) {
        give_up(p);
    } else if (p->jobs > 0 && p->phase != PULL_RESET && h->now_ms - p->sign_ms > PULL_ALIVE_MS) {
        say_alive(p);
    } else if (p->phase >= PULL_QUIET) {
        pull_durable(g);
    }
}

/* Nobody will send the rest of it. */
void pull_node_down(struct raft_group *g, uint64_t node_id)
{
    struct pull *p = g->pull;
    if (p != NULL && p->phase <= PULL_PARTS && p->node_id == node_id && IS_ON(g->host, C8)) {
        give_up(p);
    }
}

void pull_forget_job(struct host_job *job)
{
    struct pull *p = job->owner;
    if (--p->jobs == 0 && p->group == NULL) {
        pull_free(p);
    }
}
