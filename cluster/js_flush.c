/* The flush ladder (design 5): tails and changed checkpoint items of all dirty streams, in one
 * pass.
 *
 * begin (loop) -> run (pool: blocks, syncs, journal) -> end (loop: BASE records) -> BASE durable in
 * the WAL -> the store may release what the pass let die. At most one pass runs. */
#include "cluster/js_flush.h"

#include "broker/meta.h"
#include "broker/stream.h"
#include "cluster/flush_pace.h"
#include "cluster/js_internal.h"
#include "cluster/js_replicas.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/watchdog.h"
#include "raft/host.h"
#include "storage/file_ops.h"
#include "storage/store.h"
#include "storage/wal_thread.h"

#define FLUSH_AFTER_MS 5000
#define WANTED_MS 500

static void put_item(void *arg, struct slice key, struct slice value, bool is_deleted)
{
    struct js_stream *st = arg;
    if (is_deleted) {
        store_flush_del(st->js->flush, st->store, key);
    } else {
        store_flush_put(st->js->flush, st->store, key, value);
    }
}

static void put_meta_item(void *arg, struct slice key, struct slice value)
{
    struct js *js = arg;
    if (value.len == 0) {
        store_flush_del(js->flush, js->meta_store, key);
    } else {
        store_flush_put(js->flush, js->meta_store, key, value);
    }
}

/* What it has applied is what its entries make, and may be kept. */
static bool is_sound(const struct js_stream *st)
{
    return st->state == JS_STREAM_OK || st->state == JS_STREAM_STOPPED;
}

static void add_streams(struct js *js)
{
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        bool is_dirty = st->applied_index > st->flushed_index;
        if (!is_sound(st) || (!is_dirty && !store_mend_is_due(st->store))) {
            continue;
        }
        st->is_flushing = true;
        st->dirty_since_ms = 0;
        store_flush_stream(js->flush, st->store, st->applied_index, st->applied_term);
        stream_checkpoint(st->machine, false, put_item, st);
    }
}

static void add_meta(struct js *js)
{
    /* A replica is born once: its CREATE is durable before meta's durable index passes the
     * assignment (design 6). */
    if (js->meta_store != NULL && js->meta_index > js->meta_flushed_index &&
        js_replicas_are_born(js)) {
        js->is_meta_flushing = true;
        js->meta_dirty_since_ms = 0;
        store_flush_stream(js->flush, js->meta_store, js->meta_index, js->meta_term);
        meta_checkpoint(js->meta, put_meta_item, js);
    }
}

/* Pool thread. */
static void run(void *arg)
{
    struct js *js = arg;
    js->flush_status = store_flush_run(js->flush);
    js->flush_errno = file_ops_posix()->last_errno(file_ops_posix()->ctx);
}

static void on_stream_durable(void *arg, uint64_t gid, uint64_t index, uint64_t term)
{
    struct js *js = arg;
    struct raft_group *g = host_group(js->host, gid);
    struct js_stream *st = js_stream_find(js, gid);
    if (st != NULL && st->is_flushing) {
        st->is_flushing = false;
        st->flushed_index = index;
    } else if (gid == META_GID) {
        js->is_meta_flushing = false;
        js->meta_flushed_index = index;
    }
    if (g != NULL) {
        uint64_t lsn = group_set_base(g, (struct group_base){index, term});
        js->flush_base_lsn = lsn > js->flush_base_lsn ? lsn : js->flush_base_lsn;
    }
}

static void finish(void *arg)
{
    struct js *js = arg;
    if (js->flush_status != 0) {
        js_die(js, "Flushing streams", js->flush_status, js->flush_errno,
               store_error_path(js->store));
    }
    struct watchdog_at was = loop_enter(js->loop, WATCHDOG_FLUSH, 0);
    js_lock(js);
    js->flush_pass = store_flush_end(js->flush, on_stream_durable, js);
    js->flush = NULL;
    js_unlock(js);
    flush_pace_end(&js->flush_pace, loop_now_ms(js->loop));
    if (js->flush_stage_gid != 0) {
        js->flush_stage_gid = 0;
        js->flush_stage_done(js->flush_stage_arg);
    }
    if (js->wal_thread != NULL) {
        wal_thread_kick(js->wal_thread);
        js_flush_durable(js, wal_thread_durable_lsn(js->wal_thread));
    }
    loop_leave(js->loop, was);
}

bool js_flush_is_busy(const struct js *js)
{
    return js->flush != NULL || js->restores_count > 0;
}

static bool begin(struct js *js)
{
    struct watchdog_at was = loop_enter(js->loop, WATCHDOG_FLUSH, 0);
    if (js->flush != NULL || store_flush_begin(js->store, &js->flush) != 0) {
        loop_leave(js->loop, was);
        return false;
    }
    js->is_flush_wanted = false;
    js->flush_began_ms = loop_now_ms(js->loop);
    struct store_totals totals;
    store_totals(js->store, &totals);
    flush_pace_begin(&js->flush_pace, totals.dirty_bytes, js->flush_began_ms);
    add_streams(js);
    add_meta(js);
    loop_leave(js->loop, was);
    return true;
}

bool js_flush_now(struct js *js)
{
    if (!begin(js)) {
        return false;
    }
    loop_work(js->loop, run, finish, js);
    return true;
}

bool js_flush_stage(struct js *js, uint64_t gid, struct store_stage *stage, loop_cb done, void *arg)
{
    if (js->flush != NULL || store_flush_begin(js->store, &js->flush) != 0) {
        return false;
    }
    js->flush_stage_gid = gid;
    js->flush_stage_done = done;
    js->flush_stage_arg = arg;
    store_flush_stage(js->flush, stage);
    loop_work(js->loop, run, finish, js);
    return true;
}

static uint64_t dirty_bytes(const struct js *js)
{
    struct store_totals totals;
    store_totals(js->store, &totals);
    return totals.dirty_bytes;
}

bool js_flush_is_behind(const struct js *js)
{
    return dirty_bytes(js) >= FLUSH_PACE_BYTES_MAX;
}

bool js_flush_is_lagging(const struct js *js)
{
    return dirty_bytes(js) >= flush_pace_max(&js->flush_pace, loop_now_ms(js->loop));
}

void js_flush_durable(struct js *js, uint64_t lsn)
{
    if (js->flush_pass != 0 && lsn >= js->flush_base_lsn) {
        store_base_durable(js->store, js->flush_pass);
        js->flush_pass = 0;
    }
}

void js_flush_tick(struct js *js)
{
    if (js_flush_is_busy(js) || js->is_stopping) {
        return;
    }
    int64_t now = (int64_t)loop_now_ms(js->loop);
    /* Asked for as long as something holds segments, be it a replica that never flushes again. */
    bool is_due = js->is_flush_wanted && loop_now_ms(js->loop) - js->flush_began_ms >= WANTED_MS;
    if (js->meta_dirty_since_ms != 0 && now - js->meta_dirty_since_ms >= FLUSH_AFTER_MS) {
        is_due = true;
    }
    struct store_totals totals;
    store_totals(js->store, &totals);
    /* On a full disk the tail is written while there is room, and the log let go. */
    uint64_t dirty_max = flush_pace_due(&js->flush_pace) / (js->reserve.is_low ? 64 : 1);
    is_due = is_due || totals.dirty_bytes >= dirty_max;
    for (struct js_stream *st = js->streams; st != NULL && !is_due; st = st->hh.next) {
        is_due =
            is_sound(st) && st->dirty_since_ms != 0 && now - st->dirty_since_ms >= FLUSH_AFTER_MS;
    }
    /* Files that wait for their unlinking are no hurry. */
    if (!is_due && loop_now_ms(js->loop) - js->flush_began_ms >= FLUSH_AFTER_MS) {
        is_due = store_flush_is_due(js->store);
    }
    if (is_due) {
        js_flush_now(js);
    }
}

void js_flush_stop(struct js *js)
{
    if (js->store == NULL || js->wal_thread == NULL) {
        return;
    }
    /* A pass on the pool ends by itself; its end runs when the loop is drained. */
    if (js->flush == NULL && begin(js)) {
        run(js);
        finish(js);
    }
}
