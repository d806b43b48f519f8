/* One replica's state machine as the host sees it: entries are queued and stepped a little later,
 * flushed now and then, and carried to others as images. */
#include <stdlib.h>

#include "broker/msg_index.h"
#include "broker/stream_state.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "tests/sim/sim_internal.h"
#include "tests/sim/sim_store.h"

#define PARTS_MAX 4u
#define FULL_HASH_EACH 8u

typedef unsigned long long ull;

/* A stream's whole hash reads all answers of its lanes; between, its messages must do. */
uint64_t sim_replica_hash(const struct sim_replica *r)
{
    if (!r->is_stream) {
        return r->m.applied.hash;
    }
    if (r->m.applied.index % FULL_HASH_EACH == 0) {
        return sim_replica_full_hash(r);
    }
    const struct msg_index *x = stream_index(r->stream);
    uint64_t h = sim_fold(sim_fold(x->hash, x->count), x->bytes);
    h = sim_fold(h, stream_last_seq(r->stream));
    return sim_fold(h, (uint64_t)stream_time_ns(r->stream)) | 1;
}

uint64_t sim_replica_full_hash(const struct sim_replica *r)
{
    return r->is_stream ? stream_hash(r->stream) : r->m.applied.hash;
}

/* ---- Applying ---- */

static void step_stream(struct sim_replica *r, const struct sim_queued *q)
{
    int rv = stream_step(r->stream, q->index, q->term, buf_slice(&q->bytes), &r->effects);
    if (rv != 0) {
        sim_fail(r->node->run, "STEP", "node %u group %u: the machine refuses entry %llu: %s",
                 r->node->number, r->group, (ull)q->index, err_text(rv));
        stream_effects_clear(&r->effects);
        return;
    }
    sim_client_stores(r, q->index);
    if (sim_time_is_on(r->node->run)) {
        sim_time_applied(r);
        sim_time_removed(r);
    }
    if (r->effects.is_leader_changed &&
        r->node->run->options->planted == SIM_PLANTED_DEDUP_AT_LEADER) {
        dedup_clear(&r->stream->dedup); /* It went with the leader. */
    }
}

static void step(struct sim_replica *r)
{
    struct sim_run *run = r->node->run;
    struct sim_queued *q = sim_machine_step(&r->m);
    if (q->is_command && r->is_stream) {
        step_stream(r, q);
    }
    if (r->node->store != NULL) {
        sim_store_applied(r, q->index, q->term, q->is_command);
    }
    struct sim_entry entry = {.term = q->term, .hash = 3, .type = 2};
    if (q->is_command) {
        entry.type = 1;
        entry.hash = sim_hash(buf_slice(&q->bytes));
    }
    sim_oracle_applied(run->oracle, r->node->number, r->group, q->index, entry,
                       sim_replica_hash(r));
    if (r->g != NULL) {
        group_set_applied(r->g, q->index);
    }
    if (q->token != 0 && r->is_stream) {
        sim_client_effects(r, q->index, q->token);
    } else if (q->token != 0) {
        sim_trace(&run->clock, "ack node %llu group %llu index %llu", r->node->number, r->group,
                  q->index);
        sim_oracle_ack(run->oracle, r->node->number, r->group, q->index, entry);
        sim_client_effects(r, q->index, q->token);
    }
    sim_queued_free(q);
}

static void step_all(struct sim_replica *r)
{
    while (!list_is_empty(&r->m.queue)) {
        step(r);
    }
}

static void step_event(void *arg, uint64_t life, uint64_t state_life)
{
    struct sim_replica *r = arg;
    if (!sim_node_is_current(r->node, life, step_event, r, state_life) ||
        state_life != r->state_life) {
        return;
    }
    r->m.has_step_event = false;
    step_all(r);
    sim_replica_flush_soon(r, r->node->run->plan->flush_max_us);
    sim_node_touch(r->node);
}

static void fsm_apply(void *ctx, const struct group_entry *e)
{
    struct sim_replica *r = ctx;
    struct sim_run *run = r->node->run;
    if (e->index != sim_machine_last(&r->m) + 1) {
        sim_fail(run, "APPLY", "node %u group %u: index %llu after %llu", r->node->number, r->group,
                 (ull)e->index, (ull)sim_machine_last(&r->m));
        return;
    }
    sim_machine_queue(&r->m, e->index, e->term, e->type == GROUP_ENTRY_COMMAND, e->bytes, e->token);
    if (!r->m.has_step_event) {
        r->m.has_step_event = true;
        int64_t lag_us = sim_rng_range(&run->rng_fsm, 0, run->plan->apply_max_us);
        sim_clock_at(&run->clock, run->clock.now_us + lag_us, step_event, r, r->node->life,
                     r->state_life);
    }
}

static void fsm_lost(void *ctx, uint64_t token, enum group_lost why)
{
    (void)token;
    (void)why;
    sim_client_lost(ctx);
}

static void fsm_role(void *ctx, const struct group_role *role)
{
    sim_client_role(ctx, role);
}

static void fsm_read_done(void *ctx, uint64_t token, bool is_ok, uint64_t index)
{
    (void)token;
    (void)index;
    sim_members_read_done(ctx, is_ok);
}

static struct group_base fsm_base(void *ctx)
{
    return ((struct sim_replica *)ctx)->durable.base;
}

/* ---- Flushing ---- */

static void make_durable(struct sim_replica *r, struct sim_state_image *image)
{
    struct sim_run *run = r->node->run;
    if (image->base.index > r->durable.base.index) {
        buf_close(&r->durable.bytes);
        r->durable = *image;
        *image = (struct sim_state_image){0};
        sim_oracle_base(run->oracle, r->node->number, r->group, r->durable.base.index,
                        r->durable.base.term, r->durable.hash);
        sim_trace(&run->clock, "flush node %llu group %llu index %llu", r->node->number, r->group,
                  r->durable.base.index);
        run->result->stats.flushes++;
        group_set_base(r->g, r->durable.base);
    }
    buf_close(&image->bytes);
}

static void flushed_event(void *arg, uint64_t life, uint64_t state_life)
{
    struct sim_replica *r = arg;
    if (!sim_node_is_current(r->node, life, flushed_event, r, state_life) ||
        state_life != r->state_life) {
        return;
    }
    r->is_flushing = false;
    make_durable(r, &r->flushing);
    sim_node_touch(r->node);
}

static void flush_event(void *arg, uint64_t life, uint64_t state_life)
{
    struct sim_replica *r = arg;
    struct sim_run *run = r->node->run;
    if (!sim_node_is_current(r->node, life, flush_event, r, state_life) ||
        state_life != r->state_life) {
        return;
    }
    r->is_flush_due = false;
    if (r->node->store != NULL) {
        sim_store_flush(r->node);
        return;
    }
    if (r->is_flushing || r->g == NULL || r->m.applied.index <= r->durable.base.index) {
        return;
    }
    sim_state_save(r, &r->flushing);
    r->is_flushing = true;
    sim_clock_at(&run->clock, run->clock.now_us + 4 * sim_node_disk_us(r->node), flushed_event, r,
                 life, state_life);
}

void sim_replica_flush_soon(struct sim_replica *r, int64_t max_us)
{
    struct sim_run *run = r->node->run;
    if (!r->is_flush_due) {
        r->is_flush_due = true;
        sim_clock_at(&run->clock, run->clock.now_us + sim_rng_range(&run->rng_fsm, 0, max_us),
                     flush_event, r, r->node->life, r->state_life);
    }
}

/* ---- Life ---- */

void sim_replica_load(struct sim_replica *r)
{
    r->is_flush_due = false;
    r->is_flushing = false;
    r->state_life++;
    if (r->node->store != NULL) {
        sim_store_load(r);
    } else {
        sim_state_birth(r);
    }
    if (r->durable.bytes.len > 0 && sim_state_load(r, buf_slice(&r->durable.bytes)) != 0) {
        sim_fail(r->node->run, "RESTORE", "node %u group %u: the durable state does not load",
                 r->node->number, r->group);
    }
    sim_time_loaded(r);
    sim_client_open(r);
    sim_lane_open(r);
}

void sim_replica_unload(struct sim_replica *r)
{
    if (r->node->store != NULL) {
        sim_store_unload(r);
    }
    sim_client_close(r);
    sim_lane_close(r);
    sim_machine_close(&r->m);
    stream_free(r->stream);
    r->stream = NULL;
    stream_effects_close(&r->effects);
    r->effects = (struct stream_effects){0};
    buf_close(&r->flushing.bytes);
    r->flushing = (struct sim_state_image){0};
    r->g = NULL;
    r->state_life++;
}

void sim_replica_reset(struct sim_replica *r)
{
    sim_client_close(r);
    sim_machine_close(&r->m);
    stream_free(r->stream);
    r->stream = NULL;
    stream_effects_close(&r->effects);
    r->effects = (struct stream_effects){0};
    buf_close(&r->flushing.bytes);
    r->flushing = (struct sim_state_image){0};
    buf_close(&r->durable.bytes);
    r->durable = (struct sim_state_image){0};
    r->is_flush_due = false;
    r->is_flushing = false;
    r->was_born = false;
    r->incarnation++;
    r->state_life++;
    sim_state_birth(r);
    sim_time_loaded(r);
    sim_client_open(r);
}

/* ---- Jobs of the host ---- */

enum job_kind { JOB_IMAGE_OPEN, JOB_IMAGE_READ, JOB_STAGE_WRITE, JOB_STAGE_VERIFY, JOB_SWITCH };

/* An image, or a stage that becomes one: its bytes in parts. */
struct parts {
    struct group_base base;
    struct buf parts[PARTS_MAX];
    uint32_t crcs[PARTS_MAX];
    uint32_t count;
};

struct job {
    enum job_kind kind;
    struct sim_replica *r;
    struct host_job *job;
    struct parts *parts;
    uint64_t incarnation;
    uint64_t index_min;
    uint32_t part;
    uint64_t off;
    uint8_t *buf;
    size_t len;
    struct slice bytes;
};

static void parts_free(struct parts *p)
{
    for (unsigned i = 0; i < PARTS_MAX; i++) {
        buf_close(&p->parts[i]);
    }
    free(p);
}

static struct parts *parts_of(const struct sim_state_image *image)
{
    struct parts *p = xcalloc(1, sizeof *p);
    p->base = image->base;
    p->count = 1 + (uint32_t)(image->base.index % PARTS_MAX);
    size_t step = image->bytes.len / p->count + 1;
    size_t at = 0;
    for (unsigned i = 0; i < p->count; i++) {
        size_t n = image->bytes.len - at < step ? image->bytes.len - at : step;
        buf_append(&p->parts[i], image->bytes.ptr + at, n);
        at += n;
    }
    return p;
}

static void job_event(void *arg, uint64_t life, uint64_t unused);

static void job_later(struct job *j, int64_t after_us)
{
    struct sim_run *run = j->r->node->run;
    sim_clock_at(&run->clock, run->clock.now_us + after_us, job_event, j, j->r->node->life, 0);
}

static struct job *job_new(struct sim_replica *r, enum job_kind kind, struct host_job *host_job)
{
    struct job *j = xcalloc(1, sizeof *j);
    j->kind = kind;
    j->r = r;
    j->job = host_job;
    j->incarnation = r->incarnation;
    job_later(j, sim_node_disk_us(r->node));
    return j;
}

/* True if it is done. */
static bool image_open(struct job *j)
{
    struct sim_replica *r = j->r;
    struct sim_state_image image = {0};
    step_all(r);
    sim_state_save(r, &image);
    make_durable(r, &image);
    if (r->durable.base.index < j->index_min || r->durable.base.index == 0) {
        return false;
    }
    struct parts *p = parts_of(&r->durable);
    struct group_part list[PARTS_MAX];
    for (unsigned i = 0; i < p->count; i++) {
        list[i] = (struct group_part){p->parts[i].len, crc32c(0, p->parts[i].ptr, p->parts[i].len)};
    }
    host_image_opened(j->job, 0, p, p->base, list, p->count);
    return true;
}

static int stage_verify(const struct parts *p, struct buf *ret_bytes)
{
    struct sim_state_image image;
    for (unsigned i = 0; i < p->count; i++) {
        if (crc32c(0, p->parts[i].ptr, p->parts[i].len) != p->crcs[i]) {
            return ERR_CORRUPT;
        }
        buf_append_slice(ret_bytes, buf_slice(&p->parts[i]));
    }
    int rv = sim_state_peek(buf_slice(ret_bytes), &image);
    return rv != 0 || image.base.index != p->base.index ? ERR_CORRUPT : 0;
}

static void stage_switch(struct sim_replica *r, struct parts *p)
{
    struct sim_run *run = r->node->run;
    struct sim_state_image image;
    struct buf bytes = BUF_EMPTY;
    if (stage_verify(p, &bytes) != 0 || sim_state_peek(buf_slice(&bytes), &image) != 0) {
        sim_fail(run, "IMAGE", "node %u group %u: switches to a bad image", r->node->number,
                 r->group);
        buf_close(&bytes);
        return;
    }
    buf_close(&r->durable.bytes);
    r->durable = image;
    r->durable.bytes = bytes;
    sim_trace(&run->clock, "switch node %llu group %llu index %llu", r->node->number, r->group,
              image.base.index);
    sim_client_close(r);
    buf_close(&r->flushing.bytes);
    r->flushing = (struct sim_state_image){0};
    r->is_flush_due = false;
    r->is_flushing = false;
    r->state_life++;
    if (sim_state_load(r, buf_slice(&r->durable.bytes)) != 0) {
        sim_fail(run, "IMAGE", "node %u group %u: the image does not load", r->node->number,
                 r->group);
    }
    sim_time_applied(r);
    sim_client_open(r);
    sim_oracle_image(run->oracle, r->node->number, r->group, image.base.index, image.base.term,
                     image.hash);
}

static void job_run(struct job *j)
{
    struct buf whole = BUF_EMPTY;
    int rv = 0;
    switch (j->kind) {
    case JOB_IMAGE_OPEN:
        if (j->incarnation != j->r->incarnation) {
            host_image_opened(j->job, ERR_CANCELED, NULL, (struct group_base){0, 0}, NULL, 0);
            free(j);
            return;
        }
        if (!image_open(j)) {
            job_later(j, 20 * MS);
            return;
        }
        free(j);
        return;
    case JOB_IMAGE_READ:
        memcpy(j->buf, j->parts->parts[j->part].ptr + j->off, j->len);
        break;
    case JOB_STAGE_WRITE:
        memcpy(j->parts->parts[j->part].ptr + j->off, j->bytes.ptr, j->bytes.len);
        break;
    case JOB_STAGE_VERIFY:
        rv = stage_verify(j->parts, &whole);
        buf_close(&whole);
        break;
    case JOB_SWITCH:
        if (j->incarnation == j->r->incarnation) {
            stage_switch(j->r, j->parts);
        }
        parts_free(j->parts);
        break;
    }
    host_job_done(j->job, rv);
    free(j);
}

static void job_event(void *arg, uint64_t life, uint64_t unused)
{
    struct job *j = arg;
    struct sim_node *n = j->r->node;
    if (life != n->life) { /* The host closed what it had open. */
        free(j);
        return;
    }
    if (sim_node_is_current(n, life, job_event, j, unused)) {
        job_run(j);
        sim_node_touch(n);
    }
}

static void fsm_image_open(void *ctx, uint64_t index_min, struct host_job *job)
{
    job_new(ctx, JOB_IMAGE_OPEN, job)->index_min = index_min;
}

static void fsm_image_read(void *ctx, void *image, uint32_t part, uint64_t off, uint8_t *buf,
                           size_t len, struct host_job *job)
{
    struct job *j = job_new(ctx, JOB_IMAGE_READ, job);
    struct parts *p = image;
    if (part >= p->count || off + len > p->parts[part].len) {
        sim_fail(j->r->node->run, "IMAGE", "a read of part %u is beyond it", part);
        len = 0;
        off = 0;
        part = 0;
    }
    j->parts = p;
    j->part = part;
    j->off = off;
    j->buf = buf;
    j->len = len;
}

static void fsm_image_close(void *ctx, void *image)
{
    (void)ctx;
    parts_free(image);
}

static int fsm_stage_open(void *ctx, struct group_base base, const struct group_part *parts,
                          uint32_t parts_count, void **ret_stage)
{
    (void)ctx;
    if (parts_count == 0 || parts_count > PARTS_MAX) {
        return ERR_INVALID;
    }
    struct parts *p = xcalloc(1, sizeof *p);
    p->base = base;
    p->count = parts_count;
    for (unsigned i = 0; i < parts_count; i++) {
        p->crcs[i] = parts[i].crc;
        memset(buf_reserve(&p->parts[i], parts[i].bytes + 1), 0, parts[i].bytes);
        p->parts[i].len = parts[i].bytes;
    }
    *ret_stage = p;
    return 0;
}

static void fsm_stage_write(void *ctx, void *stage, uint32_t part, uint64_t off, struct slice bytes,
                            struct host_job *job)
{
    struct job *j = job_new(ctx, JOB_STAGE_WRITE, job);
    struct parts *p = stage;
    if (part >= p->count || off + bytes.len > p->parts[part].len) {
        sim_fail(j->r->node->run, "IMAGE", "a write to part %u is beyond it", part);
        bytes = SLICE_EMPTY;
        off = 0;
        part = 0;
    }
    j->parts = p;
    j->part = part;
    j->off = off;
    j->bytes = bytes;
}

static void fsm_stage_verify(void *ctx, void *stage, struct host_job *job)
{
    job_new(ctx, JOB_STAGE_VERIFY, job)->parts = stage;
}

static void fsm_stage_switch(void *ctx, void *stage, struct host_job *job)
{
    job_new(ctx, JOB_SWITCH, job)->parts = stage;
}

static void fsm_stage_drop(void *ctx, void *stage)
{
    (void)ctx;
    parts_free(stage);
}

void sim_replica_options(struct sim_replica *r, struct group_options *ret_options)
{
    *ret_options = (struct group_options){
        .gid = sim_gid(r->group),
        .raft_id = r->raft_id,
        .fsm = {.apply = fsm_apply,
                .lost = fsm_lost,
                .role_changed = fsm_role,
                .read_done = fsm_read_done,
                .base = fsm_base,
                .image_open = fsm_image_open,
                .image_read = fsm_image_read,
                .image_close = fsm_image_close,
                .stage_open = fsm_stage_open,
                .stage_write = fsm_stage_write,
                .stage_verify = fsm_stage_verify,
                .stage_switch = fsm_stage_switch,
                .stage_drop = fsm_stage_drop,
                .ctx = r},
        .priority = r->group == 0 ? 0 : 1,
        .is_preferred = r->node->number == r->group % r->node->run->plan->nodes_count,
        .is_single = r->node->run->plan->nodes_count == 1,
        .has_known_members = true,
    };
    if (r->node->store != NULL) {
        sim_store_fsm(r, &ret_options->fsm);
    }
}
