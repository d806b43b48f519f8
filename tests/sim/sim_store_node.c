/* The rest of the node, as the production code that drives the store calls it: what in cluster/
 * js_engine.c, js_batch.c, js_leader.c, js_replicas.c … have. */
#include <assert.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "tests/sim/sim_store_internal.h"

typedef unsigned long long ull;

/* ---- js_engine.c ---- */

void js_lock(struct js *js)
{
    (void)js;
}

void js_unlock(struct js *js)
{
    (void)js;
}

uint64_t js_next_id(struct js *js)
{
    return ++js->epoch;
}

_Noreturn void js_die(struct js *js, const char *what, int err, int errno_value, const char *path)
{
    struct sim_store *s = sim_store_of_js(js);
    struct sim_node *n = s->n;
    (void)errno_value;
    sim_note(&n->run->clock, "DIE node %u: %s: %s: %s", n->number, what, path, err_text(err));
    if (!s->is_io_broken && !n->was_store_damaged && !s->loop.is_closing) {
        sim_fail(n->run, "DIE", "node %u ends: %s: %s: %s", n->number, what, path, err_text(err));
    }
    sim_loop_die(&s->loop);
}

/* ---- js_leader.c and others: a state goes, another one comes ---- */

void js_leader_close(struct js_stream *st)
{
    if (!sim_store_is_closing()) {
        sim_store_gone(sim_replica_of(st));
    }
}

void js_leader_open(struct js_stream *st)
{
    struct sim_replica *r = sim_replica_of(st);
    struct sim_run *run = r->node->run;
    if (sim_store_is_closing()) {
        return;
    }
    sim_store_came(r);
    sim_client_open(r);
    sim_trace(&run->clock, "switch node %llu group %llu index %llu", r->node->number, r->group,
              r->m.applied.index);
    sim_oracle_image(run->oracle, r->node->number, r->group, r->m.applied.index, r->m.applied.term,
                     sim_replica_hash(r));
}

void js_stream_time_applied(struct js_stream *st)
{
    (void)st; /* sim_time.c, in the scenario of clocks. */
}

void js_read_close(struct list *reads)
{
    (void)reads;
}

void js_send_close(struct js_stream *st)
{
    (void)st;
}

void js_send_resume(struct js_stream *st)
{
    (void)st;
}

void js_rebuild_wanted(struct js_stream *st, const char *why)
{
    struct sim_replica *r = sim_replica_of(st);
    sim_note(&r->node->run->clock, "BROKEN node %u group %u: %s", r->node->number, r->group, why);
    st->state = JS_STREAM_FAILED;
    st->is_broken = true;
    if (!r->node->was_store_damaged) {
        sim_fail(r->node->run, "REBUILD", "node %u group %u is to be built anew: %s",
                 r->node->number, r->group, why);
    }
}

/* ---- js_replicas.c, js_meta_image.c ---- */

bool js_replicas_are_born(const struct js *js)
{
    (void)js;
    return true;
}

void js_meta_image_begin(struct js *js)
{
    (void)js;
    assert(false);
}

int js_meta_image_adopt(struct js *js)
{
    (void)js;
    assert(false);
    return ERR_INVALID;
}

bool js_node_is_up(struct js *js, uint64_t node_id)
{
    struct sim_node *n = sim_store_of_js(js)->n;
    return node_id == n->number + 1u || n->time.is_up[node_id - 1];
}

const char *js_node_name(struct js *js, uint64_t node_id)
{
    (void)js;
    (void)node_id;
    return "another";
}

uint64_t js_lane_leader_of(struct js *js, uint64_t gid)
{
    return sim_store_of_js(js)->n->replicas[sim_group_of(gid)].lane.leader;
}

/* What a node knows of the stream's replicas: there is no meta group here. */
const struct meta_stream *__wrap_meta_stream_by_gid(const struct meta *m, uint64_t gid);
const struct meta_stream *__wrap_meta_stream_by_gid(const struct meta *m, uint64_t gid)
{
    static struct meta_stream s;
    const struct sim_members *members = sim_tapped_members(sim_group_of(gid));
    (void)m;
    s = (struct meta_stream){.gid = gid, .sid = gid, .peers_count = members->count};
    for (unsigned i = 0; i < members->count; i++) {
        s.peers[i] = (struct meta_peer){.node_id = members->want[i].node_id,
                                        .raft_id = members->want[i].raft_id};
    }
    return &s;
}

/* ---- js_batch.c ---- */

struct buf *js_batch_begin(struct js *js, uint64_t node_id, enum js_item_type type)
{
    struct sim_store *s = sim_store_of_js(js);
    (void)node_id;
    buf_clear(&s->item);
    buf_append_u8(&s->item, (uint8_t)type);
    return &s->item;
}

void js_batch_end(struct js *js, uint64_t node_id)
{
    struct sim_store *s = sim_store_of_js(js);
    if (!sim_store_is_closing()) {
        sim_client_send_store(s->n, (unsigned)node_id - 1, buf_slice(&s->item));
    }
}

void js_batch_put_slice(struct buf *b, struct slice s)
{
    buf_append_u32(b, (uint32_t)s.len);
    buf_append_slice(b, s);
}

struct slice js_batch_take_slice(struct reader *r)
{
    return reader_bytes(r, reader_u32(r));
}

void sim_store_take(struct sim_node *n, unsigned from, struct reader *in)
{
    struct js *js = &n->store->js;
    uint8_t type = reader_u8(in);
    switch (type) {
    case JS_ITEM_MEND_ASK:
        js_mend_asked(js, from + 1, in);
        break;
    case JS_ITEM_MENDED:
        js_mend_take(js, from + 1, in);
        break;
    case JS_ITEM_CHECK:
        js_scrub_stream(js, reader_u64(in));
        break;
    default:
        assert(false);
    }
    if (in->failed) {
        sim_fail(n->run, "FRAME", "node %u finds an item of node %u malformed", n->number, from);
    }
}

/* ---- The host, when the process has ended ---- */

void __real_host_job_done(struct host_job *job, int status);
void __wrap_host_job_done(struct host_job *job, int status);
void __wrap_host_job_done(struct host_job *job, int status)
{
    if (!sim_store_is_closing()) {
        __real_host_job_done(job, status);
    }
}

void __real_host_image_opened(struct host_job *job, int status, void *image, struct group_base base,
                              const struct group_part *parts, uint32_t parts_count);
void __wrap_host_image_opened(struct host_job *job, int status, void *image, struct group_base base,
                              const struct group_part *parts, uint32_t parts_count);
void __wrap_host_image_opened(struct host_job *job, int status, void *image, struct group_base base,
                              const struct group_part *parts, uint32_t parts_count)
{
    if (!sim_store_is_closing()) {
        __real_host_image_opened(job, status, image, base, parts, parts_count);
    } else if (status == 0) {
        store_image_close(image);
    }
}
