/* What comes from peers: checked here, so that the core and catch-up only see what is well formed,
 * bounded, and addressed to the replica that lives here (M6). */
#include <assert.h>

#include "raft/host_internal.h"

static void assembly_free(struct peer *p, struct assembly *a)
{
    HASH_DEL(p->assemblies, a);
    p->assembly_bytes -= a->buf.len;
    buf_close(&a->buf);
    free(a);
}

void inbox_peer_reset(struct peer *p)
{
    struct assembly *a, *tmp;
    HASH_ITER(hh, p->assemblies, a, tmp)
    {
        assembly_free(p, a);
    }
}

/* The message's entries in libraft's form: one array, one batch for all bytes. */
static int entries_of(const struct raft_group *g, const struct frame_item *it,
                      struct raft_append_entries *ret)
{
    struct frame_item walk = *it;
    struct frame_entry e;
    struct conf c;
    size_t bytes = 0;
    uint64_t term = it->index_term;
    int rv;

    while ((rv = frame_entry_next(&walk, &e)) == 0) {
        bool is_bad = e.term < term ||
                      (e.type == RAFT_COMMAND && e.bytes.len > g->entry_bytes_max) ||
                      (e.type == RAFT_BARRIER && e.bytes.len > 64) ||
                      (e.type == RAFT_CHANGE && conf_decode(e.bytes, &c) != 0);
        if (is_bad) {
            return ERR_PROTO;
        }
        term = e.term;
        bytes += e.bytes.len;
    }
    if (rv != ERR_NOTFOUND) {
        return ERR_PROTO;
    }
    ret->entries = NULL;
    ret->n_entries = (unsigned)it->count;
    if (it->count == 0) {
        return 0;
    }
    uint8_t *batch = raft_malloc(bytes);
    ret->entries = raft_malloc(it->count * sizeof *ret->entries);
    walk = *it;
    uint8_t *at = batch;
    for (unsigned i = 0; frame_entry_next(&walk, &e) == 0; i++) {
        ret->entries[i] = (struct raft_entry){
            .term = e.term, .type = e.type, .buf = {at, e.bytes.len}, .batch = batch};
        if (e.bytes.len > 0) {
            memcpy(at, e.bytes.ptr, e.bytes.len);
        }
        at += e.bytes.len;
    }
    return 0;
}

static int to_core(struct raft_group *g, uint64_t node_id, const struct frame_item *it)
{
    struct raft_message m = {.server_id = it->from};
    if (g->r == NULL) {
        return 0;
    }
    switch (it->kind) {
    case FRAME_ENTRIES:
        m.type = RAFT_IO_APPEND_ENTRIES;
        m.append_entries.term = it->term;
        m.append_entries.prev_log_index = it->index;
        m.append_entries.prev_log_term = it->index_term;
        m.append_entries.leader_commit = it->commit;
        if (entries_of(g, it, &m.append_entries) != 0) {
            return ERR_PROTO;
        }
        break;
    case FRAME_RESULT:
        m.type = RAFT_IO_APPEND_ENTRIES_RESULT;
        m.append_entries_result.term = it->term;
        m.append_entries_result.rejected = it->index;
        m.append_entries_result.last_log_index = it->last_index;
        break;
    case FRAME_VOTE:
        m.type = RAFT_IO_REQUEST_VOTE;
        m.request_vote.term = it->term;
        m.request_vote.candidate_id = it->from;
        m.request_vote.last_log_index = it->index;
        m.request_vote.last_log_term = it->index_term;
        m.request_vote.disrupt_leader = (it->flags & FRAME_VOTE_DISRUPT) != 0;
        m.request_vote.pre_vote = (it->flags & FRAME_VOTE_PRE) != 0;
        break;
    case FRAME_VOTE_RESULT:
        m.type = RAFT_IO_REQUEST_VOTE_RESULT;
        m.request_vote_result.term = it->term;
        m.request_vote_result.vote_granted = (it->flags & FRAME_RESULT_GRANTED) != 0;
        m.request_vote_result.pre_vote = TO_RAFT_TRIBOOL((it->flags & FRAME_RESULT_PRE) != 0);
        break;
    default:
        assert(it->kind == FRAME_TIMEOUT_NOW);
        m.type = RAFT_IO_TIMEOUT_NOW;
        m.timeout_now.term = it->term;
        m.timeout_now.last_log_index = it->index;
        m.timeout_now.last_log_term = it->index_term;
        break;
    }
    guard_arrive(g, node_id, &m);
    return 0;
}

static void ping(struct raft_group *g, uint64_t node_id, const struct frame_item *it)
{
    if (g->r == NULL || g->r->current_term != it->term || g->has_old_terms) {
        return;
    }
    struct out *o = out_new(g, FRAME_PONG, it->from, node_id);
    o->item.term = it->term;
    o->item.seq = it->seq;
    out_push(o);
}

static int item(struct raft_host *h, struct peer *p, enum host_lane lane,
                const struct frame_item *it)
{
    bool is_bulk = it->kind >= FRAME_OFFER && it->kind <= FRAME_DONE;
    if (is_bulk != (lane == HOST_LANE_BULK)) {
        return ERR_PROTO;
    }
    struct raft_group *g;
    HASH_FIND(hh, h->groups, &it->gid, sizeof it->gid, g);
    bool is_for_us =
        g != NULL && (it->kind == FRAME_TABLE || it->to == g->raft_id || !IS_ON(h, M6));
    if (!is_for_us || !g->is_open || it->from == 0 || it->from == g->raft_id) {
        h->stats.dropped++;
        return 0;
    }
    (void)outbox_node_of(g, it->from); /* Of members the configuration says where they live. */
    struct replica *rep = group_replica_add(g, it->from, p->node_id);
    if (rep == NULL || rep->node_id != p->node_id) {
        h->stats.dropped++; /* Another node's replica. */
        return 0;
    }
    switch (it->kind) {
    case FRAME_PING:
        ping(g, p->node_id, it);
        return 0;
    case FRAME_PONG:
        group_read_pong(g, it->from, it->term, it->seq);
        return 0;
    case FRAME_TABLE:
        group_table(g, rep, it);
        return 0;
    default:
        if (is_bulk) {
            catchup_item(g, p->node_id, it);
            return 0;
        }
        return to_core(g, p->node_id, it);
    }
}

/* True and the whole item in *ret_item, once the last piece is there. */
static bool assemble(struct raft_host *h, struct peer *p, const struct frame_item *it,
                     struct assembly **ret_assembly)
{
    struct raft_group *g;
    struct assembly *a;
    HASH_FIND(hh, h->groups, &it->gid, sizeof it->gid, g);
    HASH_FIND(hh, p->assemblies, &it->gid, sizeof it->gid, a);
    if (a != NULL &&
        (a->item_id != it->seq || a->total != it->length || a->buf.len != it->offset)) {
        assembly_free(p, a); /* A new one, or pieces were lost. */
        a = NULL;
    }
    if (a == NULL) {
        if (g == NULL || !g->is_open || it->offset != 0 ||
            it->length > (uint64_t)g->entry_bytes_max + FRAME_HEAD_BYTES_MAX) {
            h->stats.dropped++;
            return false;
        }
        a = xcalloc(1, sizeof *a);
        a->gid = it->gid;
        a->item_id = it->seq;
        a->total = it->length;
        HASH_ADD(hh, p->assemblies, gid, sizeof a->gid, a);
    }
    /* Memory grows with what came, not with what was announced. */
    if (p->assembly_bytes + it->bytes.len > (uint64_t)h->opt.peer_queue_bytes_max + a->total) {
        h->stats.dropped++;
        assembly_free(p, a);
        return false;
    }
    buf_append_slice(&a->buf, it->bytes);
    p->assembly_bytes += it->bytes.len;
    *ret_assembly = a;
    return a->buf.len == a->total;
}

int inbox_receive(struct raft_host *h, uint64_t node_id, enum host_lane lane, struct slice frame)
{
    struct peer *p = host_peer(h, node_id);
    struct frame_item it;
    struct reader r;
    int rv = frame_open(frame, &r);

    while (rv == 0 && (rv = frame_next(&r, &it)) == 0) {
        if (it.kind != FRAME_FRAGMENT) {
            rv = item(h, p, lane, &it);
            continue;
        }
        struct assembly *a;
        if (!assemble(h, p, &it, &a)) {
            continue;
        }
        rv = frame_decode_item(buf_slice(&a->buf), &it);
        if (rv == 0) {
            rv = item(h, p, lane, &it);
        }
        assembly_free(p, a);
    }
    if (rv == ERR_NOTFOUND) {
        return 0;
    }
    h->stats.malformed++;
    return ERR_PROTO;
}
