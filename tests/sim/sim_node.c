/* One node: a process with the production group host over the production WAL. The WAL's writer
 * thread is events: a batch is taken when there is something and written when its time has come; a
 * crash in between leaves none of it, some sectors of it, or all. */
#include <stdlib.h>

#include "storage/base/err.h"
#include "tests/sim/sim_internal.h"
#include "tests/sim/sim_store.h"

#define WAL_DIR "/wal"
#define STUCK_US (500 * MS) /* No heartbeats while a write takes longer. */
#define TURN_MAX_US 100

typedef unsigned long long ull;

/* ---- Time ---- */

/* Monotonic, with the node's drift. */
static int64_t node_us(const struct sim_node *n)
{
    int64_t now_us = n->run->clock.now_us;
    return 1000 * SECOND + now_us + now_us / 1000 * n->run->plan->drift_ppm[n->number] / 1000;
}

uint64_t sim_node_now_ms(const struct sim_node *n)
{
    return (uint64_t)(node_us(n) / MS);
}

int64_t sim_node_now_ns(const struct sim_node *n)
{
    return node_us(n) * 1000;
}

bool sim_node_is_current(struct sim_node *n, uint64_t life, sim_event_cb cb, void *arg, uint64_t b)
{
    if (life != n->life || !n->is_up) {
        return false;
    }
    if (n->paused_until_us > n->run->clock.now_us) {
        sim_clock_at(&n->run->clock, n->paused_until_us + 1, cb, arg, life, b);
        return false;
    }
    return true;
}

int64_t sim_node_disk_us(struct sim_node *n)
{
    const struct sim_plan *plan = n->run->plan;
    int64_t now_us = n->run->clock.now_us;
    int64_t us = sim_rng_range(&n->run->rng_disk, plan->disk_min_us, plan->disk_max_us);
    us *= n->slow_until_us > now_us ? 10 : 1;
    return n->stalled_until_us > now_us ? n->stalled_until_us - now_us + us : us;
}

/* ---- What the oracles see ---- */

/* The configuration that its log ends with: which voters there are, and on which nodes. */
static void view_voters(const struct sim_run *run, unsigned group, const struct group_status *s,
                        struct sim_view *view)
{
    for (unsigned i = 0; i < s->members_count; i++) {
        const struct group_member *m = &s->members[i].member;
        if (m->role != GROUP_VOTER) {
            continue;
        }
        view->voters_count++;
        const struct sim_replica *r = &run->nodes[m->node_id - 1].replicas[group];
        view->voters |= (uint32_t)(r->raft_id == m->raft_id) << (m->node_id - 1);
        view->voters_lost |= (uint32_t)(r->lost_id == m->raft_id) << (m->node_id - 1);
    }
}

static void look(struct sim_node *n)
{
    for (unsigned g = 0; n->is_up && g < n->run->plan->groups_count; g++) {
        if (n->replicas[g].g == NULL) {
            continue;
        }
        struct group_status s;
        group_status(n->replicas[g].g, &s);
        struct sim_view view = {.is_leader = s.is_core_leader,
                                .term = s.role.term,
                                .voted_for = s.voted_for,
                                .commit_index = s.commit_index};
        view_voters(n->run, g, &s, &view);
        if (s.state == GROUP_FAILED) {
            sim_fail(n->run, "FAILED", "node %u group %u: stopped", n->number, g);
        }
        sim_oracle_look(n->run->oracle, n->number, g, &view);
    }
}

int sim_leader(struct sim_run *run, unsigned group)
{
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        struct sim_node *n = &run->nodes[i];
        if (n->is_up && n->replicas[group].g != NULL &&
            group_role(n->replicas[group].g).is_leader) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- The WAL's writer ---- */

static void kick(struct sim_node *n);

/* A full disk ends the process, as production does; what was acknowledged is there. */
static void disk_failed(struct sim_node *n, int rv)
{
    if (rv == ERR_NOSPACE && n->full_until_us > n->run->clock.now_us) {
        n->run->result->stats.fulls++;
        n->is_writing = false;
        sim_node_crash(n, false);
        sim_restart_after(n, 0);
        return;
    }
    sim_fail(n->run, "DISK", "node %u: the WAL fails to write: %s", n->number, err_text(rv));
}

/* Any part of it may be on the disk, and what is not may be read for a while as if it were.
 * Production ends the process, and never tries again. */
static void sync_fails(struct sim_node *n)
{
    const char *path = "";
    sim_disk_set_sync_broken(n->disk, true);
    if (wal_batch_write(n->wal, &path) == 0) {
        sim_fail(n->run, "DISK", "node %u: the WAL overlooks a failed write", n->number);
    }
    sim_disk_set_sync_broken(n->disk, false);
    n->is_writing = false;
    n->run->result->stats.sync_fails++;
    sim_node_crash(n, false);
    sim_restart_after(n, n->sync_fails_for_us);
}

static void written_event(void *arg, uint64_t life, uint64_t unused)
{
    struct sim_node *n = arg;
    const char *path = "";
    if (!sim_node_is_current(n, life, written_event, n, unused)) {
        return;
    }
    if (n->stalled_until_us > n->run->clock.now_us) {
        sim_clock_at(&n->run->clock, n->stalled_until_us, written_event, n, life, unused);
        return;
    }
    if (n->sync_fails_for_us > 0) {
        sync_fails(n);
        return;
    }
    int rv = wal_batch_write(n->wal, &path);
    if (rv != 0) {
        disk_failed(n, rv);
        return;
    }
    n->is_writing = false;
    wal_batch_done(n->wal);
    sim_oracle_durable(n->run->oracle, n->number, wal_durable_lsn(n->wal));
    rv = wal_prepare(n->wal, &path);
    if (rv < 0) {
        disk_failed(n, rv);
        return;
    }
    n->run->result->stats.trims += n->oldest_lsn != 0 && wal_oldest_lsn(n->wal) > n->oldest_lsn;
    n->oldest_lsn = wal_oldest_lsn(n->wal);
    host_durable(n->host, wal_durable_lsn(n->wal));
    if (n->store != NULL) {
        sim_store_durable(n, wal_durable_lsn(n->wal));
    }
    kick(n);
    sim_node_touch(n);
}

static void idle_event(void *arg, uint64_t life, uint64_t unused)
{
    struct sim_node *n = arg;
    const char *path = "";
    if (!sim_node_is_current(n, life, idle_event, n, unused)) {
        return;
    }
    n->has_idle_event = false;
    if (!n->is_writing && wal_pending_bytes(n->wal) == 0) {
        if (wal_idle(n->wal)) {
            kick(n);
        } else {
            int rv = wal_prepare(n->wal, &path);
            if (rv < 0) {
                disk_failed(n, rv);
            }
        }
    }
}

static void kick(struct sim_node *n)
{
    struct sim_clock *clock = &n->run->clock;
    if (!n->is_up || n->is_writing) {
        return;
    }
    if (wal_batch_take(n->wal)) {
        if (n->run->options->planted == SIM_PLANTED_ACK_BEFORE_SYNC) {
            host_durable(n->host, wal_next_lsn(n->wal) - 1);
        }
        n->is_writing = true;
        n->write_began_us = clock->now_us;
        sim_clock_at(clock, clock->now_us + sim_node_disk_us(n), written_event, n, n->life, 0);
    } else if (!n->has_idle_event) {
        n->has_idle_event = true;
        sim_clock_at(clock, clock->now_us + WAL_IDLE_MS * MS, idle_event, n, n->life, 0);
    }
}

/* ---- Turns ---- */

static void turn_event(void *arg, uint64_t life, uint64_t unused)
{
    struct sim_node *n = arg;
    if (!sim_node_is_current(n, life, turn_event, n, unused)) {
        return;
    }
    n->has_turn = false;
    sim_client_turn(n);
    bool is_more = host_turn_end(n->host);
    kick(n);
    look(n);
    if (is_more) {
        sim_node_touch(n);
    }
}

void sim_node_touch(struct sim_node *n)
{
    struct sim_run *run = n->run;
    if (!n->is_up) {
        return;
    }
    look(n);
    if (!n->has_turn) {
        n->has_turn = true;
        sim_clock_at(&run->clock, run->clock.now_us + sim_rng_range(&run->rng_host, 0, TURN_MAX_US),
                     turn_event, n, n->life, 0);
    }
}

static void tick_event(void *arg, uint64_t life, uint64_t unused)
{
    struct sim_node *n = arg;
    if (!sim_node_is_current(n, life, tick_event, n, unused)) {
        return;
    }
    sim_clock_at(&n->run->clock, n->run->clock.now_us + n->run->plan->tick_us, tick_event, n, life,
                 unused);
    host_tick(n->host, sim_node_now_ms(n));
    sim_client_tick(n);
    if (n->store != NULL) {
        sim_store_tick(n);
    }
    sim_node_touch(n);
}

/* ---- The host's environment ---- */

#define PIECE_BYTES_MIN 256 /* Offers and signs of life are smaller. */

static void env_send(void *ctx, uint64_t node_id, enum host_lane lane, struct slice frame)
{
    struct sim_node *n = ctx;
    struct sim_run *run = n->run;
    sim_trace(&run->clock, "frame %llu-%llu bytes %llu", n->number, node_id - 1, frame.len);
    run->result->stats.frames++;
    sim_tap_frame(n, frame);
    if (lane == HOST_LANE_BULK && frame.len > PIECE_BYTES_MIN) {
        run->image_us = run->clock.now_us;
    }
    sim_net_send(run->net, n->number, (unsigned)node_id - 1, lane == HOST_LANE_BULK ? 1 : 0, frame);
}

static uint64_t env_random(void *ctx)
{
    return sim_rng_u64(&((struct sim_node *)ctx)->run->rng_host);
}

/* In every third run turns are often late, and what is committed is delivered entry by entry. Not
 * of the run's draws: plans stay what they are. */
static bool env_is_late(void *ctx)
{
    struct sim_node *n = ctx;
    return sim_mix(n->run->plan->seed + 7) % 3 == 0 &&
           sim_mix(sim_fold(n->run->clock.now_us, n->late_asked++)) % 4 != 0;
}

static void env_flush_wanted(void *ctx, uint64_t gid)
{
    struct sim_node *n = ctx;
    unsigned group = sim_group_of(gid);
    if (group < n->run->plan->groups_count && n->replicas[group].g != NULL) {
        sim_replica_flush_soon(&n->replicas[group], 10 * MS);
    }
}

static void env_alarm(void *ctx, uint64_t gid, const char *text)
{
    struct sim_node *n = ctx;
    unsigned group = sim_group_of(gid);
    sim_note(&n->run->clock, "ALARM node %u group %u: %s", n->number, group, text);
    if (!n->run->is_damage_planted) {
        sim_fail(n->run, "ALARM", "node %u group %u: %s", n->number, group, text);
    }
}

/* ---- Life ---- */

static void disk_begin(struct sim_node *n)
{
    struct sim_run *run = n->run;
    n->disk = sim_disk_new(sim_fold(run->plan->seed, 100 + n->number + n->boot));
    sim_disk_set_direct(n->disk, sim_rng_one_in(&run->rng_disk, 2));
    sim_files_init(&n->files, sim_disk_ops(n->disk));
    n->files.ops.mkdir(n->files.ops.ctx, WAL_DIR);
    n->files.ops.sync_dir(n->files.ops.ctx, "/");
}

void sim_node_new_disk(struct sim_node *n)
{
    sim_disk_free(n->disk);
    disk_begin(n);
}

void sim_node_init(struct sim_run *run, unsigned number)
{
    struct sim_node *n = &run->nodes[number];
    *n = (struct sim_node){.run = run, .number = number};
    disk_begin(n);
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        struct sim_replica *r = &n->replicas[g];
        r->node = n;
        r->group = g;
        r->is_stream = (run->streams >> g & 1) != 0;
    }
}

static void forget(struct sim_node *n)
{
    if (n->store != NULL) {
        sim_store_stop(n);
    }
    for (unsigned g = 0; g < n->run->plan->groups_count; g++) {
        sim_replica_unload(&n->replicas[g]);
    }
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        buf_close(&n->outs[i]);
    }
    struct host_stats stats = {0};
    if (n->host != NULL) {
        host_stats(n->host, &stats);
    }
    n->run->result->stats.changes += stats.changes;
    host_close(n->host);
    if (n->store != NULL) {
        sim_store_close(n);
    }
    wal_close(n->wal);
    n->host = NULL;
    n->wal = NULL;
}

void sim_node_close(struct sim_node *n)
{
    if (n->is_up) {
        n->is_up = false;
        forget(n);
    }
    for (unsigned g = 0; g < SIM_GROUPS_MAX; g++) {
        buf_close(&n->replicas[g].durable.bytes);
    }
    sim_disk_free(n->disk);
}

/* Small, so that images come in many chunks; but each costs a read and a write, and with a slow
 * disk an image must not take as long as the oracles wait. */
static uint32_t chunk_bytes_of(const struct sim_run *run)
{
    const struct sim_plan *plan = run->plan;
    uint32_t bytes = 4096u << sim_mix(plan->seed) % 5;
    /* The real store has megabytes. */
    bool is_slow = plan->disk_max_us > (sim_store_is_on(run) ? 2 * MS : 20 * MS);
    return is_slow && bytes < 65536 ? 65536 : bytes;
}

static void host_options_of(struct sim_node *n, struct host_options *o)
{
    const struct sim_plan *plan = n->run->plan;
    *o = (struct host_options){
        .env = {.send = env_send,
                .random = env_random,
                .flush_wanted = env_flush_wanted,
                .is_late = env_is_late,
                .alarm = env_alarm,
                .ctx = n},
        .node_id = n->number + 1,
        .pipeline_max = plan->held_batches_max,
        .log_entries_max = plan->trim_entries_max,
        .log_hold_entries_max = plan->trim_entries_max + plan->trailing_entries * 8,
        .chunk_bytes = chunk_bytes_of(n->run),
        .wal_bytes_max = 8ull * plan->segment_bytes_max,
        .guards_off = n->run->options->guards_off,
    };
}

struct replay {
    struct sim_node *node;
    struct wal_replay inner;
};

static void replay_record(void *arg, uint64_t lsn, uint8_t type, uint64_t gid, struct slice payload)
{
    struct replay *p = arg;
    sim_tap_record(p->node, lsn, type, gid, payload);
    p->inner.record(p->inner.arg, lsn, type, gid, payload);
}

static void replay_suspect(void *arg, uint64_t gid)
{
    struct replay *p = arg;
    p->node->run->result->stats.suspects++;
    if (p->node->run->options->planted == SIM_PLANTED_AUTO_RECOVERY) {
        return; /* What is left of the log is as good as any. */
    }
    p->inner.suspect(p->inner.arg, gid);
}

static bool open_wal(struct sim_node *n)
{
    struct sim_run *run = n->run;
    struct replay replay = {n, host_wal_replay(n->host)};
    struct wal_replay outer = {.record = replay_record,
                               .suspect = replay_suspect,
                               .arg = &replay,
                               .record_type_max = replay.inner.record_type_max};
    struct wal_options options = {.ops = &n->files.ops,
                                  .dir = WAL_DIR,
                                  .node_uuid = {(uint8_t)(n->number + 1)},
                                  .segment_bytes_min = run->plan->segment_bytes_min,
                                  .segment_bytes_max = run->plan->segment_bytes_max,
                                  .frame_bytes_max = run->plan->frame_bytes_max,
                                  .salt_seed = (uint32_t)sim_rng_u64(&run->rng_disk),
                                  .try_direct = true};
    struct wal_recovery found = {0};
    struct wal *wal = NULL;
    sim_oracle_replay_begin(run->oracle, n->number);
    int rv = wal_open(&options, &outer, &found, &wal);
    sim_oracle_replay_end(run->oracle, n->number, n->was_damaged);
    if (rv != 0) {
        sim_fail(run, "OPEN", "node %u: the WAL does not open: %s", n->number, err_text(rv));
        return false;
    }
    n->wal = wal;
    sim_oracle_durable(run->oracle, n->number, wal_durable_lsn(wal));
    run->result->stats.torn += found.is_torn;
    run->result->stats.rotten += found.is_rotten;
    sim_trace(&run->clock, "wal node %llu records %llu flags %llu", n->number, found.records_count,
              found.is_torn | found.is_rotten << 1 | found.is_corrupt << 2);
    if (!n->was_ever_damaged && (found.is_rotten || found.is_corrupt || found.has_unknown_groups)) {
        sim_fail(run, "TORN", "node %u: a cut of power is taken for damage in %s", n->number,
                 found.damaged_file);
    }
    n->was_damaged = false;
    return true;
}

void sim_node_start(struct sim_node *n)
{
    struct sim_run *run = n->run;
    struct host_options options;
    if (n->is_up || n->is_off) {
        return;
    }
    n->boot++;
    n->life++;
    n->is_up = true;
    n->is_writing = n->is_disk_stuck = n->has_idle_event = n->has_turn = false;
    n->paused_until_us = n->sync_fails_for_us = n->dies_for_us = 0;
    n->oldest_lsn = 0;
    sim_trace(&run->clock, "start node %llu boot %llu%s", n->number, n->boot, 0);
    sim_time_start(n);
    if (sim_store_is_on(run) && !sim_store_open(n)) {
        return;
    }
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        sim_replica_load(&n->replicas[g]);
    }
    host_options_of(n, &options);
    n->host = host_new(&options);
    if (n->store != NULL) {
        sim_store_started(n);
    }
    if (!open_wal(n)) {
        return;
    }
    host_open(n->host, n->wal, sim_node_now_ms(n));
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        sim_members_open(&n->replicas[g]);
    }
    sim_clock_at(&run->clock, run->clock.now_us, tick_event, n, n->life, 0);
    sim_net_node_up(run->net, n->number);
    sim_node_touch(n);
}

/* A write was under way: it never began, or ended, or (the machine's power gone) left any of its
 * sectors. Nobody was told. */
static void end_write(struct sim_node *n, bool is_machine)
{
    const char *path;
    uint64_t dice = sim_rng_below(&n->run->rng_fault, is_machine ? 4 : 2);
    if (dice == 0) {
        return;
    }
    if (dice >= 2) {
        sim_disk_set_sync_broken(n->disk, true);
    }
    (void)wal_batch_write(n->wal, &path);
    sim_disk_set_sync_broken(n->disk, false);
}

void sim_node_crash(struct sim_node *n, bool is_machine)
{
    struct sim_run *run = n->run;
    if (!n->is_up) {
        return;
    }
    sim_trace(&run->clock, "crash node %llu machine %llu writing %llu", n->number, is_machine,
              n->is_writing);
    run->result->stats.crashes++;
    if (n->is_writing && n->wal != NULL) {
        end_write(n, is_machine);
    }
    n->is_up = false;
    n->life++;
    sim_net_node_down(run->net, n->number, is_machine);
    forget(n);
    if (is_machine) {
        sim_disk_crash(n->disk, sim_rng_u64(&run->rng_fault));
    }
    sim_oracle_crash(run->oracle, n->number);
}
