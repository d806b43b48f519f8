/* Catch-up, the side that has the data: from the core's wish to send a snapshot to an offer, and
 * the answers to PULLs. See catchup.c for the whole. */
#include <assert.h>

#include "raft/host_internal.h"
#include "storage/base/crc32c.h"
#include "storage/base/log.h"

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

int offer_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb)
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
static void gets_done(struct raft_group *g)
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

void offer_send_wanted(struct raft_group *g, struct raft_io_send *req, raft_io_send_cb cb,
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
            g->fsm.image_open(g->fsm.ctx, IS_ON(g->host, C1) ? f->index_min : 1,
                              job_new(g->host, JOB_IMAGE_OPEN, f));
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
    bool is_old = base.index < g->base.index || (base.index < f->index_min && IS_ON(g->host, C1));
    if (status != 0 || is_old || base.index > g->delivered || parts_count > HOST_PARTS_MAX) {
        log_wrn("group %llu: no image to send: %s", (unsigned long long)g->gid,
                status != 0 ? err_text(status) : "too old");
        offer_end(f, RAFT_NOCONNECTION);
        guard_post(g);
        return;
    }
    if (!IS_ON(g->host, T3)) {
        base = (struct group_base){f->index_min, compat_term_at(g->r, f->index_min)};
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

void offer_image_opened(struct host_job *job, int status, void *image, struct group_base base,
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

void offer_on_pull(struct raft_group *g, uint64_t node_id, const struct frame_item *it)
{
    struct offer *f = offer_find(g, it->seq, it->from);
    if (f == NULL || f->base.index == 0) {
        catchup_say(g, FRAME_NAK, it->from, node_id, it->seq, 0);
        return;
    }
    f->sign_ms = g->host->now_ms;
    uint64_t size = it->part == FRAME_PART_TABLE ? f->table.len
                    : it->part < f->parts_count  ? catchup_table_bytes(&f->table, it->part)
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

void offer_image_read(struct host_job *job, int status)
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
        catchup_say(g, FRAME_NAK, f->to, f->node_id, f->id, 0);
        offer_end(f, RAFT_NOCONNECTION);
        guard_post(g);
        return;
    }
    chunk_send(f, job->part, job->off, slice_of(job->buf, job->len));
}

void offers_end(struct raft_group *g, uint64_t raft_id, int status)
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

void offers_cancel(struct raft_group *g)
{
    offers_end(g, 0, RAFT_CANCELED);
    struct list *l;
    while ((l = list_pop_front(&g->gets)) != NULL) {
        struct get *get = container_of(l, struct get, link);
        get->cb(get->req, NULL, RAFT_CANCELED);
        free(get);
    }
}

void offer_on_done(struct raft_group *g, const struct frame_item *it)
{
    struct offer *f = offer_find(g, it->seq, it->from);
    if (f != NULL) {
        offer_end(f, it->flags == 0 ? 0 : RAFT_NOCONNECTION);
        guard_post(g);
        if (it->flags == 0) {
            group_greet(g, it->from); /* It began anew, and knows no leader. */
        }
    }
}

/* C2: no sign of life. */
void offer_tick(struct raft_group *g)
{
    struct raft_host *h = g->host;
    LIST_FOR(it, &g->offers)
    {
        struct offer *f = container_of(it, struct offer, link);
        if (f->base.index != 0 && h->now_ms - f->sign_ms > OFFER_SILENCE_MS) {
            offer_end(f, RAFT_NOCONNECTION);
            guard_post(g);
            return;
        }
    }
}

void offer_turn(struct raft_group *g)
{
    gets_done(g);
    offers_open(g);
}

void offer_forget_job(struct host_job *job)
{
    struct offer *f = job->owner;
    if (--f->jobs == 0 && f->group == NULL) {
        offer_free(f);
    }
}

void offer_node_down(struct raft_group *g, uint64_t node_id)
{
    LIST_FOR(it, &g->offers)
    {
        struct offer *f = container_of(it, struct offer, link);
        if (f->node_id == node_id) {
            offers_end(g, f->to, RAFT_NOCONNECTION);
            guard_post(g);
            return; /* One replica of a group lives on a node. */
        }
    }
}
