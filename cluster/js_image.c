/* Images for catch-up (raft-guide-members 3.3): the group host asks, the store has the parts.
 *
 * The sending side flushes first, so that an image is recent; then everything slow runs on the
 * pool. The receiving side stages beside the present state and switches with a flush pass. */
#include "cluster/js_image.h"

#include <stdlib.h>

#include "broker/meta.h"
#include "cluster/js_batch.h"
#include "cluster/js_flush.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_leader.h"
#include "cluster/js_mend.h"
#include "cluster/js_meta_image.h"
#include "cluster/js_read.h"
#include "cluster/js_send.h"
#include "cluster/js_state.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/node_options.h"
#include "cluster/pace.h"
#include "cluster/watchdog.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/log.h"
#include "storage/store.h"

#define IMAGE_RETRY_MS 20
#define IMAGE_MENDING_MS 250

/* One thing under way for the host. */
struct js_image_job {
    uint64_t gid;
    struct js *js;
    struct host_job *job;
    struct store_image *image;
    struct store_stage *stage;
    uint64_t index_min;
    uint32_t part;
    uint64_t off;
    uint8_t *buf;
    size_t len;
    struct slice bytes;
    int status;
    struct loop_timer *timer;
    loop_cb run; /* Of paced(). */
    loop_cb end;
};

static struct js_image_job *job_new(const struct js_image_of *of, struct host_job *job)
{
    struct js_image_job *j = xcalloc(1, sizeof *j);
    j->gid = of->gid;
    j->js = of->js;
    j->job = job;
    return j;
}

void js_image_job_end(void *arg)
{
    struct js_image_job *j = arg;
    loop_timer_free(j->timer);
    free(j);
}

/* Loop: the pool is done. */
static void done(void *arg)
{
    struct js_image_job *j = arg;
    js_lock(j->js);
    host_job_done(j->job, j->status);
    js_unlock(j->js);
    js_image_job_end(j);
}

/* ---- Beside those who publish ---- */

static void run_now(void *arg)
{
    struct js_image_job *j = arg;
    loop_work(j->js->loop, j->run, j->end, j);
}

/* @run(j) on the pool when its bytes may go; then @end(j). */
static void paced(struct js_image_job *j, struct pace *pace, loop_cb run, loop_cb end)
{
    struct js *js = j->js;
    uint64_t delay_ms = pace_take(pace, j->len, loop_mono_ns(js->loop));
    j->run = run;
    j->end = end;
    if (delay_ms == 0 || js->is_stopping) {
        run_now(j);
        return;
    }
    j->timer = loop_timer_new(js->loop, run_now, j);
    loop_timer_start(j->timer, delay_ms, 0);
}

void js_image_publish_took(struct js *js, int64_t took_ns)
{
    int64_t us = took_ns / 1000;
    uint32_t took_us = us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
    pace_sample(&js->pace_send, took_us);
    pace_sample(&js->pace_take, took_us);
}

static void tick_pace(struct js *js, struct pace *pace)
{
    int64_t rate = js->ctx->options->catchup_bytes_per_s;
    uint64_t limit = rate > 0 ? (uint64_t)rate : 0;
    if (pace->limit_per_s != limit) {
        pace_limit(pace, limit); /* The configuration was loaded again. */
    }
    pace_tick(pace, loop_mono_ns(js->loop));
}

/* ---- Sending ---- */

/* Pool. */
static void prepare(void *arg)
{
    struct js_image_job *j = arg;
    j->status = store_image_prepare(j->image);
}

static void prepared(void *arg)
{
    struct js_image_job *j = arg;
    struct group_base base = {0, 0};
    struct group_part *parts = NULL;
    uint32_t count = 0;
    if (j->status == 0) {
        const struct store_part *from = store_image_parts(j->image, &count);
        parts = xcalloc(count, sizeof *parts);
        for (uint32_t i = 0; i < count; i++) {
            parts[i] = (struct group_part){from[i].bytes, from[i].crc};
        }
        store_image_applied(j->image, &base.index, &base.term);
    }
    js_lock(j->js);
    host_image_opened(j->job, j->status, j->image, base, parts, count);
    js_unlock(j->js);
    if (j->status != 0) {
        store_image_close(j->image);
    }
    free(parts);
    js_image_job_end(j);
}

/* NULL: there is nothing to send, or to switch, any more. */
static struct store_stream *store_of(const struct js_image_job *j)
{
    if (j->gid == META_GID) {
        return j->js->is_meta_failed ? NULL : j->js->meta_store;
    }
    struct js_stream *st = js_stream_find(j->js, j->gid);
    return st == NULL || st->state != JS_STREAM_OK ? NULL : st->store;
}

/* Flush until the durable state is recent enough and no pass is under way. */
static void try_open(void *arg)
{
    struct js_image_job *j = arg;
    struct store_stream *s = store_of(j);
    if (s == NULL || j->js->is_stopping) {
        j->status = ERR_CANCELED;
        js_lock(j->js);
        host_image_opened(j->job, ERR_CANCELED, NULL, (struct group_base){0, 0}, NULL, 0);
        js_unlock(j->js);
        js_image_job_end(j);
        return;
    }
    uint64_t index;
    uint64_t term;
    store_stream_applied(s, &index, &term);
    struct store_stats stats;
    store_stream_stats(s, &stats);
    if (stats.damaged_blocks > 0) {
        loop_timer_start(j->timer, IMAGE_MENDING_MS, 0); /* Nobody could use it before. */
        return;
    }
    if (j->js->flush == NULL && index >= j->index_min && index > 0 &&
        store_image_open(s, &j->image) == 0) {
        loop_work(j->js->loop, prepare, prepared, j);
        return;
    }
    if (j->js->flush == NULL) {
        js_flush_now(j->js);
    }
    loop_timer_start(j->timer, IMAGE_RETRY_MS, 0);
}

static void fsm_image_open(void *ctx, uint64_t index_min, struct host_job *job)
{
    const struct js_image_of *of = ctx;
    struct js_image_job *j = job_new(of, job);
    j->index_min = index_min;
    j->timer = loop_timer_new(of->js->loop, try_open, j);
    loop_timer_start(j->timer, 0, 0);
}

/* Pool. */
static void image_read(void *arg)
{
    struct js_image_job *j = arg;
    j->status = store_image_read(j->image, j->part, j->off, j->buf, j->len);
}

static void fsm_image_read(void *ctx, void *image, uint32_t part, uint64_t off, uint8_t *buf,
                           size_t len, struct host_job *job)
{
    const struct js_image_of *of = ctx;
    struct js_image_job *j = job_new(of, job);
    j->image = image;
    j->part = part;
    j->off = off;
    j->buf = buf;
    j->len = len;
    paced(j, &of->js->pace_send, image_read, done);
}

static void fsm_image_close(void *ctx, void *image)
{
    (void)ctx;
    store_image_close(image);
}

/* ---- Receiving ---- */

static const char *name_of(const struct js_image_of *of)
{
    const struct js_stream *st = js_stream_find(of->js, of->gid);
    return st == NULL ? "Meta" : st->name;
}

static int fsm_stage_open(void *ctx, struct group_base base, const struct group_part *parts,
                          uint32_t parts_count, void **ret_stage)
{
    const struct js_image_of *of = ctx;
    struct store_part *to = xcalloc(parts_count + 1u, sizeof *to);
    struct store_stage *stage = NULL;
    for (uint32_t i = 0; i < parts_count; i++) {
        to[i] = (struct store_part){parts[i].bytes, parts[i].crc};
    }
    int rv = store_stage_open(of->js->store, of->gid, of->sid, to, parts_count, &stage);
    free(to);
    if (rv == 0) {
        store_stage_expect(stage, base.index, base.term);
        log_inf("%s: this replica is behind the leader's log and fetches the state at index %llu, "
                "%u parts",
                name_of(of), (unsigned long long)base.index, parts_count);
        *ret_stage = stage;
    }
    return rv;
}

static bool fsm_stage_has(void *ctx, void *stage, uint32_t part)
{
    (void)ctx;
    return store_stage_has(stage, part);
}

static void tell_failed(const struct js_image_job *j)
{
    const struct js_stream *st = js_stream_find(j->js, j->gid);
    int errno_value;
    const char *path = store_stage_error(j->stage, &errno_value);
    log_err("%s: what is fetched cannot be kept in %s: %s: %s. It is given up, and fetched again",
            st == NULL ? "Meta" : st->name, path, err_text(j->status), strerror(errno_value));
}

/* Damage in what was fetched: the leader is to look at its blocks. */
static void checked(void *arg)
{
    struct js_image_job *j = arg;
    if (j->status == ERR_IO || j->status == ERR_NOSPACE) {
        tell_failed(j);
    }
    uint64_t leader = j->gid == META_GID ? 0 : js_lane_leader_of(j->js, j->gid);
    if (j->status == ERR_CORRUPT && leader != 0 && leader != j->js->ctx->node_id) {
        struct buf *b = js_batch_begin(j->js, leader, JS_ITEM_CHECK);
        buf_append_u64(b, j->gid);
        js_batch_end(j->js, leader);
    }
    done(j);
}

/* Pool. */
static void stage_write(void *arg)
{
    struct js_image_job *j = arg;
    j->status = store_stage_write(j->stage, j->part, j->off, j->bytes);
}

static void fsm_stage_write(void *ctx, void *stage, uint32_t part, uint64_t off, struct slice bytes,
                            struct host_job *job)
{
    const struct js_image_of *of = ctx;
    struct js_image_job *j = job_new(of, job);
    j->stage = stage;
    j->part = part;
    j->off = off;
    j->bytes = bytes;
    j->len = bytes.len;
    paced(j, &of->js->pace_take, stage_write, checked);
}

/* Pool. */
static void stage_verify(void *arg)
{
    struct js_image_job *j = arg;
    uint32_t part;
    j->status = store_stage_verify(j->stage, &part);
}

static void fsm_stage_verify(void *ctx, void *stage, struct host_job *job)
{
    const struct js_image_of *of = ctx;
    struct js_image_job *j = job_new(of, job);
    j->stage = stage;
    uint32_t own = store_stage_own_count(stage);
    if (own > 0) {
        log_inf("%s: %u of these parts were here already", name_of(of), own);
    }
    uint32_t fetched = store_stage_fetched_count(stage);
    if (fetched > 0) {
        log_inf("%s: %u of these parts were fetched before the last attempt was cut short",
                name_of(of), fetched);
    }
    loop_work(of->js->loop, stage_verify, checked, j);
}

/* The group goes on with it. */
static void switched(struct js_image_job *j, int status)
{
    if (status != 0) {
        const struct js_stream *st = js_stream_find(j->js, j->gid);
        js_die(j->js, "Adopting a fetched state", status, 0, st == NULL ? "meta" : st->name);
    }
    j->status = 0;
    done(j);
}

static void on_restored(void *arg, int status)
{
    struct js_image_job *j = arg;
    struct js *js = j->js;
    struct js_stream *st = js_stream_find(js, j->gid); /* It is there: see js_flush_is_busy. */
    struct watchdog_at was = loop_enter(js->loop, WATCHDOG_IMAGE, j->gid);
    if (status == 0) {
        js_leader_open(st);
        st->state = JS_STREAM_OK;
        log_inf("Stream %s: caught up by image to index %llu", st->name,
                (unsigned long long)st->applied_index);
    }
    switched(j, status);
    loop_leave(js->loop, was);
}

/* The machine begins anew from what the pass has put in place. That of millions of messages takes
 * seconds: off the loop. */
static void adopt(struct js_image_job *j, struct js_stream *st)
{
    js_leader_close(st);
    js_read_close(&st->reads);
    js_send_close(st);
    js_mend_close(st);
    js_state_free(st);
    st->store = store_find(st->js->store, st->gid);
    if (st->store == NULL) {
        switched(j, ERR_CORRUPT);
        return;
    }
    store_stream_applied(st->store, &st->applied_index, &st->applied_term);
    st->flushed_index = st->applied_index;
    st->is_flushing = false;
    st->dirty_since_ms = 0;
    js_state_restore_apart(st, on_restored, j);
}

/* The pass of js_flush.c has ended. */
static void on_switched(void *arg)
{
    struct js_image_job *j = arg;
    struct js *js = j->js;
    struct watchdog_at was = loop_enter(js->loop, WATCHDOG_IMAGE, j->gid);
    if (j->gid == META_GID) {
        switched(j, js_meta_image_adopt(js));
    } else {
        adopt(j, js_stream_find(js, j->gid));
    }
    loop_leave(js->loop, was);
}

static void try_switch(void *arg)
{
    struct js_image_job *j = arg;
    if (j->js->is_stopping || (j->gid != META_GID && js_stream_find(j->js, j->gid) == NULL)) {
        /* Deleted meanwhile, and its group with it: nothing may come to be under its gid. */
        store_stage_drop(j->stage);
        if (j->js->is_stopping) {
            js_image_job_end(
                j); /* The group, still there, would not stand a refusal; it ends untold. */
            return;
        }
        j->status = ERR_CANCELED;
        done(j);
        return;
    }
    if (!js_flush_is_busy(j->js) && !store_stage_is_whole(j->stage)) {
        /* A block that counted as here was found damaged since. The next start fetches it. */
        const char *name = j->gid == META_GID ? "meta" : js_stream_find(j->js, j->gid)->name;
        js_die(j->js, "Switching to a fetched state", ERR_CORRUPT, 0, name);
    }
    if (j->gid == META_GID && !js_flush_is_busy(j->js)) {
        js_meta_image_begin(j->js);
    }
    if (!js_flush_stage(j->js, j->gid, j->stage, on_switched, j)) {
        loop_timer_start(j->timer, IMAGE_RETRY_MS, 0);
    }
}

static void fsm_stage_switch(void *ctx, void *stage, struct host_job *job)
{
    const struct js_image_of *of = ctx;
    struct js_image_job *j = job_new(of, job);
    j->stage = stage;
    j->timer = loop_timer_new(of->js->loop, try_switch, j);
    loop_timer_start(j->timer, 0, 0);
}

static void fsm_stage_drop(void *ctx, void *stage)
{
    (void)ctx;
    store_stage_drop(stage);
}

/* What a fetch left that was cut short is for the next one. A replica that got level by the log, or
 * is no more, needs none. */
static void forget_left(struct js *js)
{
    uint64_t gid = store_left_gid(js->store);
    struct group_status s;
    if (gid == 0 || js->meta_group == NULL) {
        return;
    }
    group_status(js->meta_group, &s);
    const struct js_stream *st = js_stream_find(js, gid);
    if (gid != META_GID && s.is_level && st != NULL && st->group != NULL) {
        group_status(st->group, &s);
    }
    if (s.is_level && !s.is_catching_up) {
        store_left_forget(js->store, gid);
    }
}

void js_image_tick(struct js *js)
{
    tick_pace(js, &js->pace_send);
    tick_pace(js, &js->pace_take);
    forget_left(js);
}

void js_image_fsm(struct group_fsm *fsm)
{
    fsm->image_open = fsm_image_open;
    fsm->image_read = fsm_image_read;
    fsm->image_close = fsm_image_close;
    fsm->stage_open = fsm_stage_open;
    fsm->stage_has = fsm_stage_has;
    fsm->stage_write = fsm_stage_write;
    fsm->stage_verify = fsm_stage_verify;
    fsm->stage_switch = fsm_stage_switch;
    fsm->stage_drop = fsm_stage_drop;
}
