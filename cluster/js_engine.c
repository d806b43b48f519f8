/* WAL, group host and store of a node: recovery, turns, ticks, frames. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/entry.h"
#include "broker/meta.h"
#include "cluster/js.h"
#include "cluster/js_advisory.h"
#include "cluster/js_api.h"
#include "cluster/js_batch.h"
#include "cluster/js_birth.h"
#include "cluster/js_clock.h"
#include "cluster/js_disk.h"
#include "cluster/js_flush.h"
#include "cluster/js_image.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_leader.h"
#include "cluster/js_members.h"
#include "cluster/js_mend.h"
#include "cluster/js_meta.h"
#include "cluster/js_meta_image.h"
#include "cluster/js_monitor.h"
#include "cluster/js_move.h"
#include "cluster/js_pull.h"
#include "cluster/js_rebuild.h"
#include "cluster/js_replicas.h"
#include "cluster/js_reserve.h"
#include "cluster/js_scrub.h"
#include "cluster/js_spread.h"
#include "cluster/js_stream.h"
#include "cluster/js_wait.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/node_options.h"
#include "cluster/pace.h"
#include "cluster/peers.h"
#include "cluster/watchdog.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"
#include "storage/base/log.h"
#include "storage/file_ops.h"
#include "storage/store.h"
#include "storage/wal.h"
#include "storage/wal_thread.h"

#define TICK_MS 20
#define ORIGIN_RANDOM_BITS 24
#define LATE_US 6000 /* Of WATCHDOG_LONG_MS: from here on committed entries wait. */

void js_lock(struct js *js)
{
    if (js->lock_depth++ == 0 && js->wal_thread != NULL) {
        wal_thread_lock(js->wal_thread);
    }
}

void js_unlock(struct js *js)
{
    if (--js->lock_depth == 0 && js->wal_thread != NULL) {
        wal_thread_unlock(js->wal_thread);
    }
}

uint64_t js_next_id(struct js *js)
{
    return ++js->epoch;
}

_Noreturn void js_die(struct js *js, const char *what, int err, int errno_value, const char *path)
{
    (void)js;
    log_err("%s: %s: %s%s%s; the node stops, its data on disk stays as it is", what, path,
            err_text(err), errno_value == 0 ? "" : ": ",
            errno_value == 0 ? "" : strerror(errno_value));
    log_fatal("storage failed: %s", path);
}

/* ---- The WAL thread ---- */

/* Writer thread. */
static void on_wal_durable(void *arg)
{
    struct js *js = arg;
    loop_async_send(js->durable);
}

/* Writer thread: a failed write or sync is never tried again (raft-guide 7.7). */
static void on_wal_failed(void *arg, int err, int errno_value, const char *path)
{
    (void)arg;
    log_err("write-ahead log: %s: %s: %s; the node stops, nothing unsynced was acknowledged", path,
            err_text(err), strerror(errno_value));
    _exit(1);
}

static void on_durable(void *arg)
{
    struct js *js = arg;
    if (js->is_stopping) {
        return;
    }
    uint64_t lsn = wal_thread_durable_lsn(js->wal_thread);
    (void)loop_enter(js->loop, WATCHDOG_RAFT, 0);
    js_lock(js);
    host_durable(js->host, lsn);
    js_unlock(js);
    js_flush_durable(js, lsn);
    (void)loop_enter(js->loop, WATCHDOG_OTHER, 0);
}

/* ---- The host's environment ---- */

static void env_send(void *ctx, uint64_t node_id, enum host_lane lane, struct slice frame)
{
    struct js *js = ctx;
    if (js->ctx->peers != NULL) {
        /* What is refused is lost, as on a broken connection: Raft sends again. */
        (void)peers_send(js->ctx->peers, node_id,
                         lane == HOST_LANE_RAFT ? PEERS_LANE_RAFT : PEERS_LANE_BULK, &frame, 1);
    }
}

static uint64_t env_random(void *ctx)
{
    (void)ctx;
    return node_random();
}

static void env_flush_wanted(void *ctx, uint64_t gid)
{
    struct js *js = ctx;
    (void)gid;
    js->is_flush_wanted = true;
}

/* One entry more takes some milliseconds at most, and what comes after them in a turn as well. */
static bool env_is_late(void *ctx)
{
    struct js *js = ctx;
    return loop_turn_us(js->loop) >= LATE_US;
}

/* ---- Peers ---- */

/* It counts fewer starts than meta has seen, or has less than this node has heard of it: its disk
 * was set back, and what it acknowledged since is lost. Nothing it says counts; it is told, and
 * stops. */
static bool is_rolled_back(struct js *js, uint64_t node_id)
{
    const struct meta_node *n = meta_node_find(js->meta, node_id);
    struct peers_info info;
    if (!peers_get(js->ctx->peers, node_id, &info)) {
        return false;
    }
    if (info.is_set_back) {
        js_birth_tell_rolled_back(js, node_id, info.least_boot_count, info.least_lsn);
        return true;
    }
    if (n == NULL || info.boot_count >= n->boot_count) {
        return false;
    }
    js_birth_tell_rolled_back(js, node_id, n->boot_count, 0);
    return true;
}

static int on_frame(void *ctx, uint64_t node_id, enum peers_lane lane, struct slice frame)
{
    struct js *js = ctx;
    if (is_rolled_back(js, node_id)) {
        return 0;
    }
    struct watchdog_at was = loop_enter(js->loop, WATCHDOG_RAFT, 0);
    js_lock(js);
    int rv = host_receive(js->host, node_id,
                          lane == PEERS_LANE_RAFT ? HOST_LANE_RAFT : HOST_LANE_BULK, frame);
    js_unlock(js);
    loop_leave(js->loop, was);
    if (rv != 0) {
        log_err("Malformed raft frame from node %s", js_node_name(js, node_id));
    }
    return rv;
}

/* The host takes who comes for able to lead and vote. */
static void tell_host_up(struct js *js, uint64_t node_id)
{
    struct peers_info info;
    js_lock(js);
    host_peer_up(js->host, node_id);
    if (peers_get(js->ctx->peers, node_id, &info) && info.is_disk_stuck) {
        host_peer_stuck(js->host, node_id, true);
    }
    js_unlock(js);
}

static void on_peer_up(void *ctx, uint64_t node_id)
{
    struct js *js = ctx;
    js->liveness_ms = loop_now_ms(js->loop);
    js->node_report_ms = 0; /* Meta is to know of this start soon. */
    if (is_rolled_back(js, node_id)) {
        return;
    }
    tell_host_up(js, node_id);
    js_lane_peer_up(js, node_id);
}

static void on_peer_renewed(void *ctx, uint64_t node_id, enum peers_lane lane)
{
    struct js *js = ctx;
    if (lane == PEERS_LANE_RAFT) {
        tell_host_up(js, node_id);
    } else if (lane == PEERS_LANE_CLIENT) {
        js_lane_peer_up(js, node_id);
        /* Requests and messages on the old connection may be lost, and the leader may have thought
         * that nobody listens any more: the clients ask again. */
        js_pull_peer_down(js, node_id);
    }
}

static void on_peer_paused(void *ctx, uint64_t node_id, bool is_paused)
{
    struct js *js = ctx;
    (void)node_id;
    js->paused_peers += is_paused ? 1 : -1u;
    for (struct js_stream *st = js->streams; !is_paused && st != NULL; st = st->hh.next) {
        if (st->is_led) {
            js_leader_turn_wanted(st);
        }
    }
}

static void on_peer_down(void *ctx, uint64_t node_id)
{
    struct js *js = ctx;
    js->liveness_ms = loop_now_ms(js->loop);
    js_wait_peer_down(js, node_id);
    js_lock(js);
    host_peer_down(js->host, node_id);
    js_unlock(js);
    if (js->meta_leader_id == node_id) {
        js->meta_leader_id = 0;
    }
    js_lane_peer_down(js, node_id);
    js_pull_peer_down(js, node_id);
}

static void on_peer_stuck(void *ctx, uint64_t node_id, bool is_stuck)
{
    struct js *js = ctx;
    js->liveness_ms = loop_now_ms(js->loop);
    js_lock(js);
    host_peer_stuck(js->host, node_id, is_stuck);
    js_unlock(js);
}

static void on_health(void *ctx, struct peers_health *ret_health)
{
    struct js *js = ctx;
    *ret_health = (struct peers_health){
        .durable_lsn = wal_thread_durable_lsn(js->wal_thread),
        .start_lsn = js->start_lsn,
        .sync_us = js->disk.sync_us,
        .is_leaving = js->ctx->is_lame_duck,
        .is_disk_slow = js_disk_is_poor(js),
        .is_disk_full = js->reserve.is_full,
        .is_disk_behind = js_flush_is_behind(js),
        .is_disk_lagging = js_flush_is_lagging(js),
        .is_disk_stuck = js->disk.is_stuck,
        .is_clock_skewed = js->clock.agreed.is_skewed,
        .is_clock_sure = js->clock.agreed.is_sure,
    };
}

/* ---- Turns ---- */

static void on_tick(void *arg)
{
    struct js *js = arg;
    (void)loop_enter(js->loop, WATCHDOG_RAFT, 0);
    js_lock(js);
    host_tick(js->host, loop_now_ms(js->loop));
    js_unlock(js);
    (void)loop_enter(js->loop, WATCHDOG_TICK, 0);
    js_disk_tick(js);
    js_reserve_tick(js);
    js_mend_tick(js);
    js_rebuild_tick(js);
    js_scrub_tick(js);
    js_clock_tick(js);
    js_birth_tick(js);
    js_meta_tick(js);
    js_meta_image_tick(js);
    js_leader_tick(js);
    js_members_tick(js);
    js_move_tick(js);
    js_spread_tick(js);
    js_lane_tick(js);
    js_pull_tick(js);
    js_api_tick(js);
    js_image_tick(js);
    js_flush_tick(js);
    (void)loop_enter(js->loop, WATCHDOG_OTHER, 0);
}

/* What the turn gathered becomes entries, and entries frames. */
static void on_propose(void *arg)
{
    struct js *js = arg;
    if (js->is_stopping) {
        return;
    }
    (void)loop_enter(js->loop, WATCHDOG_STREAMS, 0);
    js_replicas_carry_out(js);
    if (js->is_api_woken) {
        (void)loop_enter(js->loop, WATCHDOG_API, 0);
        js_api_tick(js);
    }
    (void)loop_enter(js->loop, WATCHDOG_PROPOSE, 0);
    js_batch_flush(js);
    js_lock(js);
    js_advisory_turn(js);
    js_leader_turns(js);
    (void)loop_enter(js->loop, WATCHDOG_RAFT, 0);
    bool is_more = host_turn_end(js->host);
    js_unlock(js);
    wal_thread_kick(js->wal_thread);
    (void)loop_enter(js->loop, WATCHDOG_WRITES, 0);
    js_batch_flush(js);
    if (is_more) {
        loop_again(js->loop);
    }
}

/* ---- Start ---- */

/* A directory in js->dir. Synced also when it is there: the start that made it may have ended
 * before.
 */
static int make_dir(struct js *js, const struct file_ops *ops, const char *path)
{
    int rv = ops->mkdir(ops->ctx, path);
    return rv == 0 || rv == ERR_EXISTS ? ops->sync_dir(ops->ctx, js->dir) : rv;
}

static char *join(const char *dir, const char *name)
{
    struct buf b = BUF_EMPTY;
    buf_printf(&b, "%s/%s", dir, name);
    char *path = xslicedup(buf_slice(&b));
    buf_close(&b);
    return path;
}

static void tell_newer(const char *what, const char *path)
{
    log_err("The %s was written by a newer version of weir (%s): start that version here; nothing "
            "was removed",
            what, path);
}

static int open_wal(struct js *js, const struct file_ops *ops)
{
    struct wal_recovery recovery = {0};
    char *dir = join(js->dir, "wal");
    int rv = make_dir(js, ops, dir);
    struct wal_options options = {.ops = ops,
                                  .dir = dir,
                                  .segment_bytes_min = 4u << 20,
                                  .segment_bytes_max = 32u << 20,
                                  .frame_bytes_max = 4u << 20,
                                  .salt_seed = (uint32_t)node_random(),
                                  .try_direct = true};
    memcpy(options.node_uuid, js->ctx->uuid, sizeof options.node_uuid);
    struct wal_replay replay = host_wal_replay(js->host);
    if (rv == 0) {
        rv = wal_open(&options, &replay, &recovery, &js->wal);
    }
    if (rv == ERR_VERSION) {
        tell_newer("write-ahead log", recovery.damaged_file);
    } else if (rv != 0) {
        log_err("Could not open the write-ahead log in %s: %s: %s: %s", dir, recovery.damaged_file,
                err_text(rv), strerror(errno));
    } else {
        js->start_lsn =
            recovery.is_rotten || recovery.is_corrupt ? UINT64_MAX : wal_durable_lsn(js->wal);
        log_inf("  Write-ahead log: %llu records, %s writes",
                (unsigned long long)recovery.records_count, wal_mode_text(js->wal));
        if (recovery.is_torn) {
            log_wrn(
                "The last write of the log never completed; it was not acknowledged, and is cut");
        }
        if (recovery.is_rotten || recovery.is_corrupt) {
            log_err("The write-ahead log is damaged in %s at offset %llu (%s): what it held is "
                    "fetched from other nodes",
                    recovery.damaged_file, (unsigned long long)recovery.damaged_off,
                    recovery.is_foreign ? "the checksum is right and the values are impossible"
                                        : "a checksum is wrong, or bytes are missing");
        }
    }
    free(dir);
    return rv;
}

/* What is not of one stream. */
static void tell_file_damage(const struct store_damage *damage)
{
    switch (damage->type) {
    case STORE_DAMAGE_COPY:
        log_err("Damage in %s: the journal of checkpoints is written anew from its other copy",
                damage->path);
        break;
    case STORE_DAMAGE_CHECKPOINT:
        log_err("Damage in %s: a checkpoint cannot be read, in no copy of the journal: replicas "
                "whose log does not reach back are fetched from other nodes",
                damage->path);
        break;
    default:
        log_err("A file that no checkpoint names was set aside: %s", damage->path);
    }
}

static void on_damage(void *arg, const struct store_damage *damage)
{
    static const char *const what[] = {"messages cannot be read", "a block cannot be read",
                                       "an index cannot be read"};
    struct js *js = arg;
    if (damage->gid == 0) {
        tell_file_damage(damage);
        return;
    }
    struct js_stream *st = js_stream_find(js, damage->gid);
    if (st != NULL) {
        js_mend_wanted(st);
    }
    log_err("Damage in %s: %s (stream %s, group %llu, sequences %llu to %llu)", damage->path,
            what[damage->type], st == NULL ? "that is not started" : st->name,
            (unsigned long long)damage->gid, (unsigned long long)damage->first_seq,
            (unsigned long long)damage->last_seq);
}

static int open_store(struct js *js, const struct file_ops *ops)
{
    struct store_recovery recovery;
    char *dir = join(js->dir, "store");
    int rv = make_dir(js, ops, dir);
    struct store_options options = {.ops = ops,
                                    .dir = dir,
                                    .machine_version = ENTRY_MACHINE_VERSION,
                                    .damage = on_damage,
                                    .damage_arg = js};
    if (rv == 0) {
        rv = store_open(&options, &recovery, &js->store);
    }
    if (rv == ERR_VERSION) {
        tell_newer("store", dir);
    } else if (rv != 0) {
        log_err("Could not open the store in %s: %s%s%s", dir,
                rv == ERR_CORRUPT ? "its checkpoints cannot be read in any copy" : err_text(rv),
                rv == ERR_CORRUPT ? "" : ": ", rv == ERR_CORRUPT ? "" : strerror(errno));
    }
    free(dir);
    return rv;
}

static int start_threads(struct js *js)
{
    js->durable = loop_async_new(js->loop, on_durable, js);
    struct wal_thread_options options = {
        .wal = js->wal, .durable = on_wal_durable, .failed = on_wal_failed, .arg = js};
    int rv = wal_thread_start(&options, &js->wal_thread);
    if (rv != 0) {
        log_err("Could not start the thread of the write-ahead log: %s", err_text(rv));
        return rv;
    }
    js->tick = loop_timer_new(js->loop, on_tick, js);
    loop_timer_start(js->tick, TICK_MS, TICK_MS);
    loop_hook(js->loop, LOOP_PHASE_PROPOSE, on_propose, js);
    return 0;
}

static void attach_peers(struct js *js)
{
    struct peers *p = js->ctx->peers;
    if (p == NULL) {
        return;
    }
    static const struct peers_liveness liveness = {
        .up = on_peer_up, .down = on_peer_down, .stuck = on_peer_stuck, .renewed = on_peer_renewed};
    peers_set_frame_cb(p, PEERS_LANE_RAFT, on_frame, js);
    peers_set_frame_cb(p, PEERS_LANE_BULK, on_frame, js);
    peers_add_liveness(p, &liveness, js);
    peers_add_paused_cb(p, on_peer_paused, js);
    peers_set_health_cb(p, on_health, js);
}

/* Raft-guide 7.7: without its journal or meta a node does not know what it has acknowledged. It may
 * not forget that by itself: on a bad day all nodes would. */
static void tell_how_to_join(const struct js *js)
{
    if (js->ctx->peers == NULL) {
        log_err("What this node has acknowledged cannot be read, and it has no cluster to get it "
                "from. Bring %s back from a backup; or move it aside and start again, without what "
                "it held",
                js->dir);
        return;
    }
    log_err(
        "What this node has acknowledged cannot be read. If other nodes of the cluster live: move "
        "%s aside and start again; it then joins as a new node under its name, and gets its "
        "replicas from the others. Keep what was moved until they are there",
        js->dir);
}

int js_open_files(struct js *js, uint64_t now_ms)
{
    const struct file_ops *ops = file_ops_posix();
    struct host_options options = {.env = {.send = env_send,
                                           .random = env_random,
                                           .flush_wanted = env_flush_wanted,
                                           .is_late = env_is_late,
                                           .ctx = js},
                                   .node_id = js->ctx->node_id};
    js->host = host_new(&options);
    int rv = ops->mkdir(ops->ctx, js->dir); /* identity.c made and synced it, as a rule. */
    rv = rv == ERR_EXISTS ? 0 : rv;
    rv = rv == 0 ? open_wal(js, ops) : rv;
    if (rv == 0) {
        host_open(js->host, js->wal, now_ms);
        rv = open_store(js, ops);
    }
    return rv;
}

int js_start(struct node_context *ctx, struct monitor *monitor, struct js **ret_js)
{
    struct js *js = xcalloc(1, sizeof *js);
    js->image_of = (struct js_image_of){js, META_GID, META_GID};
    js->reserve.fd = -1;
    js->ctx = ctx;
    js->loop = ctx->loop;
    js->dir = join(ctx->options->store_dir, "weir");
    js->origin = ctx->boot_count << ORIGIN_RANDOM_BITS | node_random() >> (64 - ORIGIN_RANDOM_BITS);
    list_init(&js->turn_streams);
    list_init(&js->api_waiting);
    list_init(&js->advisories);
    list_init(&js->calls_list);
    list_init(&js->meta_reads);
    list_init(&js->lists);
    list_init(&js->pulls_list);
    list_init(&js->actions);
    list_init(&js->serves);
    log_inf("Starting JetStream");
    log_inf("  Store Directory: \"%s\"", ctx->options->store_dir);
    pace_init(&js->pace_send, 0, loop_mono_ns(js->loop)); /* The limit comes with the first tick. */
    js->pace_take = js->pace_send;
    js_reserve_start(js);
    int rv = js_open_files(js, loop_now_ms(js->loop));
    rv = rv == 0 ? start_threads(js) : rv;
    if (rv == 0) {
        attach_peers(js);
        js_batch_start(js);
        js_reserve_tick(js); /* What starts now may lead before the first tick. */
        rv = js_meta_start(js);
    }
    rv = rv == 0 ? js_birth_start(js) : rv;
    rv = rv == 0 ? js_api_start(js) : rv;
    if (rv != 0) {
        log_err("JetStream could not start: %s", err_text(rv));
        if (rv == ERR_CORRUPT) {
            tell_how_to_join(js);
        }
        js_stop(js);
        js_free(js);
        return rv;
    }
    js_monitor_start(js, monitor);
    *ret_js = js;
    return 0;
}

void js_stop(struct js *js)
{
    if (js == NULL || js->is_stopping) {
        return;
    }
    js->is_stopping = true;
    js_flush_stop(js);
    loop_timer_free(js->tick);
    js->tick = NULL;
    /* Writes what is gathered: a planned stop loses nothing that was proposed. */
    wal_thread_stop(js->wal_thread);
    js->wal_thread = NULL;
    loop_async_free(js->durable);
    js->durable = NULL;
}

void js_free(struct js *js)
{
    if (js == NULL) {
        return;
    }
    js_api_close(js);
    js_advisory_close(js);
    js_lane_close(js);
    js_pull_close(js);
    js_batch_close(js);
    js_mend_stop(js);
    /* It ends what was proposed, at the streams. */
    host_close(js->host);
    struct js_stream *st;
    struct js_stream *next;
    HASH_ITER(hh, js->streams, st, next)
    {
        js_stream_stop(st, JS_STOP_NODE);
    }
    js_meta_stop(js);
    js_birth_close(js);
    store_close(js->store);
    wal_close(js->wal);
    js_reserve_close(js);
    free(js->dir);
    free(js);
}
