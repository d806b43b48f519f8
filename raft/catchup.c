/* Catch-up by image, instead of the core's InstallSnapshot (supplement 3.3, C1 to C8).
 *
 *   leader                                        follower
 *   snapshot_get, send(INSTALL) --> image_open
 *   OFFER {id, base, parts} ----------------->    has it already (C3)? --> RESULT, DONE
 *   CHUNK  <---- image_read <-------- PULL        stage_open, stage_write … (table, then the parts)
 *                                                 stage_verify; WAL quiet; C3 again
 *                                                 IMAGE record, durable; C3 again
 *                                                 close, stage_switch, RESET record, durable, load
 *   send completes <---------------- RESULT, DONE
 *
 * The follower's instance runs until the switch (C4): it votes and answers heartbeats. The IMAGE
 * record says, before the store switches, which configuration belongs to the image: after a crash
 * between the switch and RESET the store's base has its configuration from there. */
#include <assert.h>

#include "raft/host_internal.h"
#include "storage/base/crc32c.h"
#include "storage/base/log.h"

#define TABLE_PART_BYTES 12 /* u64 bytes, u32 crc. */

/* A pending snapshot_get. */
struct get {
    struct list link;
    struct raft_io_snapshot_get *req;
    raft_io_snapshot_get_cb cb;
};

/* The side that has the data. */
struct offer {
    struct list link;         /* In the group's list, while the core waits for it; else nowhere. */
    struct raft_group *group; /* NULL: ended, only a job keeps it. */
    struct group_fsm fsm;
    struct raft_io_send *req;
    raft_io_send_cb cb;
    uint64_t id;
    uint64_t to;
    uint64_t node_id;
    uint64_t index_min;
    struct base base;
    void *image;
    struct buf table;
    uint32_t parts_count;
    uint64_t sign_ms;
    unsigned jobs;
    bool is_opened;
};

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

/* ---- Leader: from the core to an offer ---- */

int catchup_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb)
{
    struct raft_group *g = io->impl;
    if (g->delivered == 0 || g->fsm.image_open == NULL) {
        return RAFT_NOTFOUND; /* From the call, never through the callback (C1). */
    }
    struct get *get = xmalloc(sizeof *get);
    *get = (struct get){.req = req, .cb = cb};
    list_push_back(&g->gets, &get->link);
    host_group_busy(g);
    return 0;
}

/* What the core wants is only a name for the image: base as of what was delivered (T3). */
void catchup_gets_done(struct raft_group *g)
{
    while (g->r != NULL && !list_is_empty(&g->gets)) {
        struct get *get = container_of(list_pop_front(&g->gets), struct get, link);
        struct conf c;
        uint64_t conf_index;
        int rv = conf_decode(log_conf_as_of(g, g->delivered, &conf_index), &c);
        assert(rv == 0);
        (void)rv;
        struct raft_snapshot *s = raft_calloc(1, sizeof *s);
        s->index = g->delivered;
        s->term = g->delivered_term;
        s->configuration_index = conf_index;
        conf_to_raft(&c, &s->configuration);
        s->n_bufs = 1;
        s->bufs = raft_malloc(sizeof *s->bufs);
        s->bufs[0].base = raft_calloc(1, 8);
        s->bufs[0].len = 8;
        get->cb(get->req, s, 0);
        free(get);
        guard_post(g);
    }
}

static void offer_free(struct offer *f)
{
    if (f->image != NULL) {
        f->fsm.image_close(f->fsm.ctx, f->image);
    }
    base_close(&f->base);
    buf_close(&f->table);
    free(f);
}

/* The core's request is over; what a job still uses goes with the job. */
static void offer_end(struct offer *f, int status)
{
    list_remove(&f->link);
    f->group = NULL;
    if (f->cb != NULL) {
        f->cb(f->req, status);
        f->cb = NULL;
    }
    if (f->jobs == 0) {
        offer_free(f);
    }
}

void catchup_send(struct raft_group *g, struct raft_io_send *req, raft_io_send_cb cb,
                  const struct raft_message *m)
{
    struct raft_host *h = g->host;
    struct offer *f = xcalloc(1, sizeof *f);
    f->group = g;
    f->fsm = g->fsm;
    f->req = req;
    f->cb = cb;
    f->id = ++h->next_id;
    /* Ids of before a restart must not match. */
    f->id = (f->id << 32) | (h->opt.env.random(h->opt.env.ctx) & UINT32_MAX);
    f->to = m->server_id;
    f->node_id = outbox_node_of(g, m->server_id);
    f->index_min = m->install_snapshot.last_index;
    f->sign_ms = h->now_ms;
    list_push_back(&g->offers, &f->link);
    h->stats.offers++;
    host_group_busy(g); /* The image is opened outside the core. */
}

/* Begin what the core asked for, outside of it. The embedder may end a job inside the call, which
 * changes the list: look again from the front. */
static void offers_open(struct raft_group *g)
{
    struct list *it = g->offers.next;
    while (it != &g->offers) {
        struct offer *f = container_of(it, struct offer, link);
        it = it->next;
        if (!f->is_opened) {
            f->is_opened = true;
            f->jobs++;
            g->fsm.image_open(g->fsm.ctx, f->index_min, job_new(g->host, JOB_IMAGE_OPEN, f));
            it = g->offers.next;
        }
    }
}

static void offer_send(struct offer *f)
{
    struct raft_group *g = f->group;
    struct out *o = out_new(g, FRAME_OFFER, f->to, f->node_id);
    buf_append_slice(&o->owned, buf_slice(&f->base.conf.bytes));
    o->item.seq = f->id;
    o->item.term = g->r->current_term;
    o->item.index = f->base.index;
    o->item.index_term = f->base.term;
    o->item.conf_index = f->base.conf.index;
    o->item.bytes = buf_slice(&o->owned);
    o->item.count = f->parts_count;
    out_push(o);
}

/* C2 off: the core hears that it was sent as soon as it was offered. */
static void offer_opened(struct offer *f, int status, void *image, struct group_base base,
                         const struct group_part *parts, uint32_t parts_count)
{
    struct raft_group *g = f->group;
    uint64_t conf_index;
    f->image = status == 0 ? image : NULL;
    if (g == NULL) {
        return;
    }
    if (status != 0 || base.index < f->index_min || base.index < g->base.index ||
        base.index > g->delivered || parts_count > HOST_PARTS_MAX) {
        log_wrn("group %llu: no image to send: %s", (unsigned long long)g->gid,
                status != 0 ? err_text(status) : "too old");
        offer_end(f, RAFT_NOCONNECTION);
        guard_post(g);
        return;
    }
    struct slice conf = log_conf_as_of(g, base.index, &conf_index);
    base_set(&f->base, base.index, base.term, conf_index, conf);
    f->parts_count = parts_count;
    for (uint32_t i = 0; i < parts_count; i++) {
        buf_append_u64(&f->table, parts[i].bytes);
        buf_append_u32(&f->table, parts[i].crc);
    }
    f->sign_ms = g->host->now_ms;
    offer_send(f);
    if (!IS_ON(g->host, C2) && f->cb != NULL) {
        raft_io_send_cb cb = f->cb;
        f->cb = NULL;
        cb(f->req, 0);
        guard_post(g);
    }
}

void catchup_image_opened(struct host_job *job, int status, void *image, struct group_base base,
                          const struct group_part *parts, uint32_t parts_count)
{
    struct offer *f = job->owner;
    assert(job->kind == JOB_IMAGE_OPEN);
    f->jobs--;
    if (f->group == NULL) {
        f->image = status == 0 ? image : NULL;
        if (f->jobs == 0) {
            offer_free(f);
        }
        return;
    }
    offer_opened(f, status, image, base, parts, parts_count);
}

static struct offer *offer_find(struct raft_group *g, uint64_t id, uint64_t to)
{
    LIST_FOR(it, &g->offers)
    {
        struct offer *f = container_of(it, struct offer, link);
        if (f->id == id && f->to == to) {
            return f;
        }
    }
    return NULL;
}

static void simple_item(struct raft_group *g, enum frame_kind kind, uint64_t to, uint64_t node_id,
                        uint64_t id, uint8_t status)
{
    struct out *o = out_new(g, kind, to, node_id);
    o->item.seq = id;
    o->item.flags = status;
    out_push(o);
}

static void chunk_send(struct offer *f, uint64_t part, uint64_t off, struct slice bytes)
{
    struct out *o = out_new(f->group, FRAME_CHUNK, f->to, f->node_id);
    buf_append_slice(&o->owned, bytes);
    o->item.seq = f->id;
    o->item.part = part;
    o->item.offset = off;
    o->item.crc = crc32c(0, bytes.ptr, bytes.len);
    o->item.bytes = buf_slice(&o->owned);
    out_push(o);
}

static uint64_t table_bytes(const struct buf *table, uint64_t part)
{
    struct reader r = reader_of(slice_from(buf_slice(table), (size_t)part * TABLE_PART_BYTES));
    return reader_u64(&r);
}

static void on_pull(struct raft_group *g, uint64_t node_id, const struct frame_item *it)
{
    struct offer *f = offer_find(g, it->seq, it->from);
    if (f == NULL || f->base.index == 0) {
        simple_item(g, FRAME_NAK, it->from, node_id, it->seq, 0);
        return;
    }
    f->sign_ms = g->host->now_ms;
    uint64_t size = it->part == FRAME_PART_TABLE ? f->table.len
                    : it->part < f->parts_count  ? table_bytes(&f->table, it->part)
                                                 : 0;
    if (it->length == 0 || it->length > CHUNK_BYTES_MAX || it->offset >= size ||
        it->length > size - it->offset) {
        g->host->stats.dropped++;
        return;
    }
    if (it->part == FRAME_PART_TABLE) {
        chunk_send(f, it->part, it->offset, slice_of(f->table.ptr + it->offset, it->length));
        return;
    }
    if (f->jobs >= 2) {
        return; /* One read at a time; the follower asks again. */
    }
    struct host_job *job = job_new(g->host, JOB_IMAGE_READ, f);
    job->part = it->part;
    job->off = it->offset;
    job->len = it->length;
    job->buf = xmalloc(it->length);
    f->jobs++;
    f->fsm.image_read(f->fsm.ctx, f->image, (uint32_t)it->part, it->offset, job->buf, job->len,
                      job);
}

static void image_read_done(struct host_job *job, int status)
{
    struct offer *f = job->owner;
    f->jobs--;
    if (f->group == NULL) {
        if (f->jobs == 0) {
            offer_free(f);
        }
        return;
    }
    if (status != 0) {
        struct raft_group *g = f->group;
        simple_item(g, FRAME_NAK, f->to, f->node_id, f->id, 0);
        offer_end(f, RAFT_NOCONNECTION);
        guard_post(g);
        return;
    }
    chunk_send(f, job->part, job->off, slice_of(job->buf, job->len));
}

void catchup_offers_end(struct raft_group *g, uint64_t raft_id, int status)
{
    bool is_again = true;
    while (is_again) { /* A callback may end others. */
        is_again = false;
        LIST_FOR(it, &g->offers)
        {
            struct offer *f = container_of(it, struct offer, link);
            if (raft_id == 0 || f->to == raft_id) {
                offer_end(f, status);
                is_again = true;
                break;
            }
        }
    }
}

void catchup_cancel(struct raft_group *g)
{
    catchup_offers_end(g, 0, RAFT_CANCELED);
    struct list *l;
    while ((l = list_pop_front(&g->gets)) != NULL) {
        struct get *get = container_of(l, struct get, link);
        get->cb(get->req, NULL, RAFT_CANCELED);
        free(get);
    }
}

/* ---- Follower ---- */

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

void catchup_pull_drop(struct raft_group *g)
{
    if (g->pull != NULL) {
        pull_detach(g->pull);
    }
}

bool catchup_is_switching(const struct raft_group *g)
{
    return g->pull != NULL && g->pull->phase >= PULL_INTENT;
}

/* C8: go on as before. */
static void give_up(struct pull *p)
{
    struct raft_group *g = p->group;
    g->host->stats.catchups_given_up++;
    simple_item(g, FRAME_DONE, p->from, p->node_id, p->offer_id, 1);
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

static void answer(struct raft_group *g, uint64_t to, uint64_t node_id, uint64_t index,
                   uint64_t offer_id)
{
    guard_send_result(g, to, node_id, g->term, 0, index);
    simple_item(g, FRAME_DONE, to, node_id, offer_id, 0);
}

static void ask(struct pull *p)
{
    struct raft_group *g = p->group;
    uint64_t size = p->phase == PULL_TABLE ? (uint64_t)p->parts_count * TABLE_PART_BYTES
                                           : table_bytes(&p->table, p->part);
    uint64_t left = size - p->off;
    struct out *o = out_new(g, FRAME_PULL, p->from, p->node_id);
    o->item.seq = p->offer_id;
    o->item.part = p->phase == PULL_TABLE ? FRAME_PART_TABLE : p->part;
    o->item.offset = p->off;
    o->item.length = left < g->host->opt.chunk_bytes ? left : g->host->opt.chunk_bytes;
    out_push(o);
}

static void verify(struct pull *p)
{
    struct raft_group *g = p->group;
    p->phase = PULL_VERIFY;
    p->jobs++;
    p->fsm.stage_verify(p->fsm.ctx, p->stage, job_new(g->host, JOB_STAGE_VERIFY, p));
}

/* The next part that has bytes, or the end. */
static void next_part(struct pull *p)
{
    while (p->part < p->parts_count && table_bytes(&p->table, p->part) == p->off) {
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

static void on_offer(struct raft_group *g, uint64_t node_id, const struct frame_item *it)
{
    if (g->pull != NULL || g->r == NULL || g->fsm.stage_open == NULL ||
        it->term < g->r->current_term) {
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
    if (p->parts_count == 0) {
        stage_begin(p);
    } else {
        ask(p);
    }
}

static void on_chunk(struct raft_group *g, const struct frame_item *it)
{
    struct pull *p = g->pull;
    uint64_t part = p == NULL ? 0 : p->phase == PULL_TABLE ? FRAME_PART_TABLE : p->part;
    if (p == NULL || p->phase > PULL_PARTS || it->from != p->from || it->seq != p->offer_id ||
        it->part != part || it->offset != p->off || it->bytes.len == 0 || p->jobs > 0) {
        return;
    }
    uint64_t size = p->phase == PULL_TABLE ? (uint64_t)p->parts_count * TABLE_PART_BYTES
                                           : table_bytes(&p->table, p->part);
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
    if (!is_quiet(g) || (p->phase == PULL_INTENT && p->lsn > h->durable_lsn)) {
        return false;
    }
    if (is_contained(g, p->base.index, p->base.term)) {
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
    g->delivered = p->base.index;
    g->delivered_term = p->base.term;
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

void catchup_durable(struct raft_group *g)
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

static void stage_done(struct host_job *job, int status)
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
    list_push_back(&g->host->switching, &g->switch_link);
    advance(p);
}

void catchup_job_done(struct host_job *job, int status)
{
    if (job->kind == JOB_IMAGE_READ) {
        image_read_done(job, status);
    } else {
        assert(job->kind != JOB_IMAGE_OPEN);
        stage_done(job, status);
    }
}

/* ---- Both ---- */

void catchup_item(struct raft_group *g, uint64_t node_id, const struct frame_item *it)
{
    switch (it->kind) {
    case FRAME_OFFER:
        on_offer(g, node_id, it);
        break;
    case FRAME_PULL:
        on_pull(g, node_id, it);
        break;
    case FRAME_CHUNK:
        on_chunk(g, it);
        break;
    case FRAME_NAK:
        if (g->pull != NULL && g->pull->phase <= PULL_PARTS && g->pull->from == it->from &&
            g->pull->offer_id == it->seq && IS_ON(g->host, C8)) {
            give_up(g->pull);
        }
        break;
    default: {
        struct offer *f = offer_find(g, it->seq, it->from);
        if (f != NULL) {
            offer_end(f, it->flags == 0 ? 0 : RAFT_NOCONNECTION);
            guard_post(g);
        }
        break;
    }
    }
}

void catchup_tick(struct raft_group *g)
{
    struct raft_host *h = g->host;
    LIST_FOR(it, &g->offers)
    {
        struct offer *f = container_of(it, struct offer, link);
        if (f->base.index != 0 && h->now_ms - f->sign_ms > OFFER_SILENCE_MS) {
            offer_end(f, RAFT_NOCONNECTION);
            guard_post(g);
            break;
        }
    }
    struct pull *p = g->pull;
    if (p == NULL) {
        return;
    }
    if (p->phase <= PULL_PARTS && p->jobs == 0 && IS_ON(h, C8) &&
        h->now_ms - p->sign_ms > PULL_SILENCE_MS) {
        give_up(p);
    } else if (p->phase >= PULL_QUIET) {
        catchup_durable(g);
    }
}

void catchup_node_down(struct raft_group *g, uint64_t node_id)
{
    LIST_FOR(it, &g->offers)
    {
        struct offer *f = container_of(it, struct offer, link);
        if (f->node_id == node_id) {
            catchup_offers_end(g, f->to, RAFT_NOCONNECTION);
            guard_post(g);
            return; /* One replica of a group lives on a node. */
        }
    }
}

void catchup_turn(struct raft_group *g)
{
    catchup_gets_done(g);
    offers_open(g);
}

/* Jobs will not be ended any more: free what they hold. */
void catchup_host_close(struct raft_host *h)
{
    struct list *l;
    while ((l = list_pop_front(&h->jobs)) != NULL) {
        struct host_job *job = container_of(l, struct host_job, link);
        if (job->kind == JOB_IMAGE_OPEN || job->kind == JOB_IMAGE_READ) {
            struct offer *f = job->owner;
            if (--f->jobs == 0 && f->group == NULL) {
                offer_free(f);
            }
        } else {
            struct pull *p = job->owner;
            if (--p->jobs == 0 && p->group == NULL) {
                pull_free(p);
            }
        }
        free(job->buf);
        free(job);
    }
}
