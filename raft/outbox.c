/* What goes to peers.
 *
 *   out_push --> fenced (per group, until the WAL is durable) --> queue (per group and peer) -+
 *                                                     done <-- frame <-- round robin by bytes <+
 *
 * Entries are encoded straight from libraft's memory, which stays until the callback; that is
 * called from the done list, never from inside io->send. An AppendEntries is split between entries
 * into pieces of at most 256 KiB, and a single larger entry into fragments, so that the other
 * groups' items go between them. */
#include <assert.h>

#include "raft/host_internal.h"

#define OUT_BYTES (sizeof(struct out)) /* What a queued item counts beside its bytes. */

struct out *out_new(struct raft_group *g, enum frame_kind kind, uint64_t to, uint64_t node_id)
{
    struct out *o = xcalloc(1, sizeof *o);
    list_init(&o->link);
    o->group = g;
    o->node_id = node_id;
    o->lane = kind >= FRAME_OFFER && kind <= FRAME_DONE ? HOST_LANE_BULK : HOST_LANE_RAFT;
    o->item.kind = kind;
    o->item.gid = g->gid;
    o->item.from = g->raft_id;
    o->item.to = to;
    o->fence_lsn = g->fence_lsn;
    return o;
}

void out_free(struct out *o)
{
    buf_close(&o->owned);
    free(o);
}

uint64_t outbox_node_of(struct raft_group *g, uint64_t raft_id)
{
    struct replica *rep = group_replica(g, raft_id);
    if (rep == NULL) {
        struct conf c;
        uint64_t at;
        if (conf_decode(log_conf_as_of(g, UINT64_MAX, &at), &c) != 0) {
            return 0;
        }
        const struct group_member *m = conf_find(&c, raft_id);
        if (m == NULL) {
            return 0;
        }
        rep = group_replica_add(g, raft_id, m->node_id);
    }
    return rep == NULL ? 0 : rep->node_id;
}

/* It leaves the queues: its callback is due, if it has one. */
static void finish(struct out *o, int status)
{
    list_remove(&o->link);
    if (o->cb == NULL) {
        out_free(o);
        return;
    }
    o->status = status;
    list_push_back(&o->group->host->done, &o->link);
}

static size_t bytes_of(const struct out *o)
{
    size_t n = OUT_BYTES + o->item.bytes.len;
    for (unsigned i = 0; i < o->n; i++) {
        n += o->entries[i].buf.len;
    }
    return n;
}

static void queue_put(struct peer *p, struct out_queue *q, struct out *o)
{
    list_push_back(&q->items, &o->link);
    q->bytes += o->bytes;
    p->bytes += o->bytes;
    if (list_is_empty(&q->link)) {
        list_push_back(&p->ring, &q->link);
    }
}

/* Take @o out of its queue; the queue leaves the ring when it is empty. */
static void queue_take(struct peer *p, struct out_queue *q, struct out *o)
{
    list_remove(&o->link);
    q->bytes -= o->bytes;
    p->bytes -= o->bytes;
    if (list_is_empty(&q->items)) {
        list_remove(&q->link);
    }
}

static void to_peer(struct out *o)
{
    struct raft_group *g = o->group;
    struct raft_host *h = g->host;
    struct peer *p = o->node_id == 0 ? NULL : host_peer(h, o->node_id);
    if (p == NULL || !p->is_up) {
        finish(o, RAFT_NOCONNECTION);
        return;
    }
    o->bytes = bytes_of(o);
    if (o->lane == HOST_LANE_BULK) {
        if (p->bulk_bytes + o->bytes > h->opt.peer_queue_bytes_max) {
            h->stats.dropped++;
            out_free(o);
            return;
        }
        p->bulk_bytes += o->bytes;
        list_push_back(&p->bulk, &o->link);
        return;
    }
    struct replica *rep = group_replica_add(g, o->item.to, o->node_id);
    struct out_queue *q = rep == NULL ? &p->tables : &rep->queue;
    if (rep != NULL && rep->peer != p) {
        outbox_replica_drop(rep);
        rep->peer = p;
    }
    if (p->bytes + o->bytes > h->opt.peer_queue_bytes_max ||
        q->bytes > h->opt.group_queue_bytes_max) {
        h->stats.dropped++;
        finish(o, RAFT_NOCONNECTION);
        return;
    }
    queue_put(p, q, o);
}

void out_push(struct out *o)
{
    struct raft_group *g = o->group;
    if (IS_ON(g->host, FENCE) &&
        (o->fence_lsn > g->host->durable_lsn || !list_is_empty(&g->fenced))) {
        list_push_back(&g->fenced, &o->link);
        if (list_is_empty(&g->fence_link)) {
            list_push_back(&g->host->fenced, &g->fence_link);
        }
        return;
    }
    to_peer(o);
}

void outbox_durable(struct raft_host *h)
{
    LIST_FOR_SAFE(it, tmp, &h->fenced)
    {
        struct raft_group *g = container_of(it, struct raft_group, fence_link);
        while (!list_is_empty(&g->fenced)) {
            struct out *o = container_of(g->fenced.next, struct out, link);
            if (o->fence_lsn > h->durable_lsn) {
                break;
            }
            list_remove(&o->link);
            to_peer(o);
        }
        if (list_is_empty(&g->fenced)) {
            list_remove(&g->fence_link);
        }
    }
}

/* ---- Group tables ---- */

void outbox_put_table(struct raft_group *g, uint64_t raft_id, uint64_t node_id, bool is_asking)
{
    if (g->r == NULL || raft_id == g->raft_id) {
        return;
    }
    struct out *o = out_new(g, FRAME_TABLE, raft_id, node_id);
    uint64_t last = compat_log_last(g->r);
    o->fence_lsn = g->last_lsn; /* It tells of entries too. */
    o->item.term = g->r->current_term;
    o->item.index = last;
    o->item.index_term = compat_term_at(g->r, last);
    o->item.commit = g->r->commit_index;
    o->item.flags =
        (uint8_t)((g->is_suspect ? FRAME_TABLE_SUSPECT : 0) | (is_asking ? FRAME_TABLE_ASKING : 0));
    out_push(o);
}

void outbox_put_tables(struct raft_group *g, bool is_asking)
{
    struct conf c;
    uint64_t at;
    if (conf_decode(log_conf_as_of(g, UINT64_MAX, &at), &c) != 0) {
        return;
    }
    for (unsigned i = 0; i < c.count; i++) {
        outbox_put_table(g, c.members[i].raft_id, c.members[i].node_id, is_asking);
    }
}

/* ---- Frames ---- */

/* One piece of @o into @frame; true when that was the last. */
static bool put_entries(struct raft_host *h, struct out *o, struct buf *frame)
{
    struct frame_item it = o->item;
    it.bytes = SLICE_EMPTY;
    if (o->next > 0) {
        it.index += o->next;
        it.index_term = o->entries[o->next - 1].term;
    }
    size_t bytes = 0;
    while (o->next + it.count < o->n) {
        size_t len = o->entries[o->next + it.count].buf.len;
        if (it.count > 0 && bytes + len > ITEM_BYTES_MAX) {
            break;
        }
        bytes += len + 16;
        it.count++;
    }
    if (bytes <= ITEM_BYTES_MAX + 16 * it.count) {
        buf_reserve(frame, FRAME_HEAD_BYTES_MAX + bytes);
        size_t at = frame_put(frame, &it);
        for (uint64_t i = 0; i < it.count; i++) {
            const struct raft_entry *e = &o->entries[o->next + i];
            frame_entry_head(frame, e->term, (uint8_t)e->type, e->buf.len);
            buf_append(frame, e->buf.base, e->buf.len);
        }
        frame_item_end(frame, at);
        o->next += (unsigned)it.count;
        return o->next == o->n;
    }
    /* One large entry: the item is head + bytes, of which this frame takes a window. */
    const struct raft_entry *e = &o->entries[o->next];
    struct buf *head = &h->scratch;
    assert(it.count == 1 && head->len == 0);
    frame_put(head, &it);
    frame_entry_head(head, e->term, (uint8_t)e->type, e->buf.len);
    size_t item_len = head->len - FRAME_ITEM_HEAD_BYTES + e->buf.len;
    for (unsigned i = 0; i < 4; i++) {
        head->ptr[1 + i] = (uint8_t)(item_len >> (8 * i));
    }
    uint64_t total = head->len + e->buf.len;
    if (o->fragment_id == 0) {
        o->fragment_id = ++h->next_id;
        o->fragment_off = 0;
    }
    uint64_t n =
        total - o->fragment_off < ITEM_BYTES_MAX ? total - o->fragment_off : ITEM_BYTES_MAX;
    struct frame_item fragment = {.kind = FRAME_FRAGMENT,
                                  .gid = it.gid,
                                  .seq = o->fragment_id,
                                  .length = total,
                                  .offset = o->fragment_off};
    size_t at = frame_put(frame, &fragment);
    uint64_t off = o->fragment_off, left = n;
    if (off < head->len) {
        uint64_t k = head->len - off < left ? head->len - off : left;
        buf_append(frame, head->ptr + off, k);
        off += k;
        left -= k;
    }
    if (left > 0) {
        buf_append(frame, (const uint8_t *)e->buf.base + (off - head->len), left);
    }
    frame_item_end(frame, at);
    buf_clear(head);
    o->fragment_off += n;
    if (o->fragment_off == total) {
        o->fragment_id = 0;
        o->next++;
    }
    return o->next == o->n;
}

/* The first item of @q, or a piece of it. */
static void put_some(struct raft_host *h, struct peer *p, struct out_queue *q, struct buf *frame)
{
    struct out *o = container_of(q->items.next, struct out, link);
    bool is_done = true;
    if (o->item.kind == FRAME_ENTRIES) {
        is_done = put_entries(h, o, frame);
    } else {
        frame_put(frame, &o->item);
    }
    if (is_done) {
        queue_take(p, q, o);
        finish(o, 0);
    }
}

static uint64_t room(struct raft_host *h, struct peer *p, enum host_lane lane)
{
    return h->opt.env.room == NULL ? UINT64_MAX : h->opt.env.room(h->opt.env.ctx, p->node_id, lane);
}

static uint64_t send_frame(struct raft_host *h, struct peer *p, enum host_lane lane)
{
    uint64_t len = h->frame.len;
    assert(len <= HOST_FRAME_BYTES_MAX);
    h->opt.env.send(h->opt.env.ctx, p->node_id, lane, buf_slice(&h->frame));
    buf_clear(&h->frame);
    return len;
}

static void flush_raft(struct raft_host *h, struct peer *p)
{
    uint64_t left = list_is_empty(&p->ring) ? 0 : room(h, p, HOST_LANE_RAFT);
    while (left > 0 && !list_is_empty(&p->ring)) {
        frame_begin(&h->frame);
        while (!list_is_empty(&p->ring) && h->frame.len < FRAME_BYTES_SOFT) {
            struct out_queue *q = container_of(p->ring.next, struct out_queue, link);
            size_t before = h->frame.len;
            /* Small items of a group go together; by bytes the groups take turns. */
            while (!list_is_empty(&q->items) && h->frame.len - before < 4096) {
                put_some(h, p, q, &h->frame);
            }
            if (!list_is_empty(&q->items)) {
                list_remove(&q->link);
                list_push_back(&p->ring, &q->link);
            }
        }
        uint64_t len = send_frame(h, p, HOST_LANE_RAFT);
        left -= len < left ? len : left;
    }
}

static void flush_bulk(struct raft_host *h, struct peer *p)
{
    uint64_t left = list_is_empty(&p->bulk) ? 0 : room(h, p, HOST_LANE_BULK);
    while (left > 0 && !list_is_empty(&p->bulk)) {
        frame_begin(&h->frame);
        while (!list_is_empty(&p->bulk) && h->frame.len < FRAME_BYTES_SOFT) {
            struct out *o = container_of(p->bulk.next, struct out, link);
            list_remove(&o->link);
            p->bulk_bytes -= o->bytes;
            frame_put(&h->frame, &o->item);
            out_free(o);
        }
        uint64_t len = send_frame(h, p, HOST_LANE_BULK);
        left -= len < left ? len : left;
    }
}

bool outbox_flush(struct raft_host *h)
{
    bool is_left = false;
    struct peer *p, *tmp;
    HASH_ITER(hh, h->peers, p, tmp)
    {
        flush_raft(h, p);
        flush_bulk(h, p);
        is_left = is_left || !list_is_empty(&p->ring) || !list_is_empty(&p->bulk);
    }
    return is_left;
}

void outbox_complete(struct raft_host *h)
{
    /* What the callbacks add waits for the next turn. */
    unsigned n = 0;
    LIST_FOR(it, &h->done)
    {
        n++;
    }
    /* One at a time: post may close an instance, which takes its own out of the list. */
    for (; n > 0 && !list_is_empty(&h->done); n--) {
        struct out *o = container_of(list_pop_front(&h->done), struct out, link);
        struct raft_group *g = o->group;
        o->cb(o->req, o->status);
        out_free(o);
        guard_post(g);
    }
}

/* ---- Taking back ---- */

static void cancel(struct out *o, bool is_now, int status)
{
    if (o->cb == NULL || !is_now) {
        finish(o, status);
        return;
    }
    list_remove(&o->link);
    o->cb(o->req, status);
    out_free(o);
}

static bool is_meant(const struct out *o, const struct raft_group *g, enum cancel_what what)
{
    if (g != NULL && o->group != g) {
        return false;
    }
    switch (what) {
    case CANCEL_ENTRIES:
        return o->item.kind == FRAME_ENTRIES;
    case CANCEL_OF_CORE:
        return o->cb != NULL;
    default:
        return true;
    }
}

static void cancel_list(struct list *items, const struct raft_group *g, enum cancel_what what,
                        bool is_now, int status)
{
    LIST_FOR_SAFE(it, tmp, items)
    {
        struct out *o = container_of(it, struct out, link);
        if (is_meant(o, g, what)) {
            cancel(o, is_now, status);
        }
    }
}

static void cancel_queue(struct peer *p, struct out_queue *q, const struct raft_group *g,
                         enum cancel_what what, bool is_now, int status)
{
    LIST_FOR_SAFE(it, tmp, &q->items)
    {
        struct out *o = container_of(it, struct out, link);
        if (is_meant(o, g, what)) {
            queue_take(p, q, o);
            cancel(o, is_now, status);
        }
    }
}

void outbox_cancel(struct raft_group *g, enum cancel_what what, bool is_now, int status)
{
    struct raft_host *h = g->host;
    cancel_list(&g->fenced, g, what, is_now, status);
    if (list_is_empty(&g->fenced)) {
        list_remove(&g->fence_link);
    }
    for (unsigned i = 0; i < g->replicas_count; i++) {
        struct replica *rep = &g->replicas[i];
        if (rep->peer != NULL) {
            cancel_queue(rep->peer, &rep->queue, g, what, is_now, status);
        }
    }
    struct peer *p, *tmp;
    HASH_ITER(hh, h->peers, p, tmp)
    {
        cancel_queue(p, &p->tables, g, what, is_now, status);
        if (what == CANCEL_ALL) {
            LIST_FOR_SAFE(it, next, &p->bulk)
            {
                struct out *o = container_of(it, struct out, link);
                if (o->group == g) {
                    p->bulk_bytes -= o->bytes;
                    cancel(o, is_now, status);
                }
            }
        }
    }
    if (is_now) {
        cancel_list(&h->done, g, CANCEL_ALL, true, status);
    }
}

void outbox_replica_drop(struct replica *rep)
{
    if (rep->peer != NULL) {
        cancel_queue(rep->peer, &rep->queue, NULL, CANCEL_ALL, false, RAFT_NOCONNECTION);
        rep->peer = NULL;
    }
}

void outbox_peer_drop(struct peer *p)
{
    while (!list_is_empty(&p->ring)) {
        struct out_queue *q = container_of(p->ring.next, struct out_queue, link);
        cancel_queue(p, q, NULL, CANCEL_ALL, false, RAFT_NOCONNECTION);
    }
    struct list *l;
    while ((l = list_pop_front(&p->bulk)) != NULL) {
        out_free(container_of(l, struct out, link));
    }
    p->bulk_bytes = 0;
}
