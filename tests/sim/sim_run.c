#include "tests/sim/sim_run.h"

#include <stdlib.h>

#include "tests/sim/sim_internal.h"
#include "tests/sim/sim_store.h"

#define WATCH_US (50 * MS)
#define SERVE_MAX_US (20 * SECOND) /* After the faults: a leader, and commits. */
#define FETCH_MAX_US (40 * SECOND) /* More, while an image comes. */
#define FETCH_PAUSE_US (2 * SECOND)
#define LEVEL_MAX_US (45 * SECOND) /* After the load: all replicas equal, all lanes answered. */
#define AFTER_US (1 * SECOND)      /* Load goes on a little when all groups serve. */
#define EVENTS_MAX 20000000u

typedef unsigned long long ull;

/* ---- The network's questions ---- */

static bool net_is_running(void *ctx, unsigned node)
{
    return ((struct sim_run *)ctx)->nodes[node].is_up;
}

static bool net_is_paused(void *ctx, unsigned node)
{
    struct sim_run *run = ctx;
    return run->nodes[node].paused_until_us > run->clock.now_us;
}

/* Half of the seeds: a node with a stuck disk says so, as production does; in the others it falls
 * silent, as with a stuck loop. */
static bool tells_stuck(const struct sim_plan *plan)
{
    return (sim_mix(plan->seed) & 4) != 0;
}

static bool net_is_healthy(void *ctx, unsigned node)
{
    struct sim_run *run = ctx;
    struct sim_node *n = &run->nodes[node];
    bool is_stuck = n->is_writing && run->clock.now_us - n->write_began_us > 500 * MS;
    if (n->is_up && tells_stuck(run->plan) && is_stuck != n->is_disk_stuck) {
        n->is_disk_stuck = is_stuck;
        host_disk_stuck(n->host, is_stuck);
        sim_node_touch(n);
    }
    return n->is_up && !is_stuck;
}

static void net_stuck(void *ctx, unsigned node, unsigned peer, bool is_stuck)
{
    struct sim_node *n = &((struct sim_run *)ctx)->nodes[node];
    host_peer_stuck(n->host, peer + 1, is_stuck);
    sim_node_touch(n);
}

static void net_frame(void *ctx, unsigned from, unsigned to, unsigned lane, struct slice bytes)
{
    struct sim_node *n = &((struct sim_run *)ctx)->nodes[to];
    if (lane == SIM_LANE_CLIENT) {
        sim_client_frame(n, from, bytes);
    } else if (sim_plant_receive(n, from + 1, lane == 1 ? HOST_LANE_BULK : HOST_LANE_RAFT, bytes) !=
               0) {
        sim_fail(n->run, "FRAME", "node %u finds a frame of node %u malformed", to, from);
    }
    sim_node_touch(n);
}

static void net_peer(void *ctx, unsigned node, unsigned peer, bool is_up)
{
    struct sim_run *run = ctx;
    struct sim_node *n = &run->nodes[node];
    sim_trace(&run->clock, "peer of %llu: %llu up %llu", node, peer, is_up);
    if (is_up) {
        host_peer_up(n->host, peer + 1);
    } else {
        run->result->stats.peer_downs++;
        host_peer_down(n->host, peer + 1);
    }
    sim_client_peer(n, peer, is_up);
    sim_node_touch(n);
}

/* ---- Faults ---- */

static void restart_event(void *arg, uint64_t a, uint64_t b)
{
    struct sim_node *n = arg;
    (void)a;
    (void)b;
    if (n->run->clock.now_us < n->run->rest_until_us) {
        int64_t at_us = n->run->rest_until_us + sim_rng_range(&n->run->rng_fault, 0, 1500 * MS);
        sim_clock_at(&n->run->clock, at_us, restart_event, n, 0, 0);
        return;
    }
    if (n->run->clock.now_us < n->full_until_us) {
        sim_clock_at(&n->run->clock, n->full_until_us + 1, restart_event, n, 0, 0);
        return;
    }
    n->has_restart = false;
    sim_node_start(n);
}

void sim_restart_after(struct sim_node *n, int64_t after_us)
{
    if (!n->is_up && !n->has_restart && !n->is_off) {
        n->has_restart = true;
        sim_clock_at(&n->run->clock, n->run->clock.now_us + after_us, restart_event, n, 0, 0);
    }
}

static void uncut_event(void *arg, uint64_t from, uint64_t to)
{
    sim_net_cut(((struct sim_run *)arg)->net, (unsigned)from, (unsigned)to, false);
}

static void cut(struct sim_run *run, unsigned from, unsigned to, int64_t duration_us)
{
    sim_net_cut(run->net, from, to, true);
    sim_clock_at(&run->clock, run->clock.now_us + duration_us, uncut_event, run, from, to);
}

static void partition(struct sim_run *run, const struct sim_fault *f)
{
    unsigned count = run->plan->nodes_count;
    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = 0; k < count; k++) {
            if (((f->arg >> i ^ f->arg >> k) & 1) != 0) {
                cut(run, i, k, f->duration_us);
            }
        }
    }
}

static void power(struct sim_run *run, const struct sim_fault *f)
{
    run->result->stats.power_cuts++;
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        struct sim_node *n = &run->nodes[i];
        sim_node_crash(n, true);
        if (i == f->node) {
            n->is_off = true;
        } else {
            sim_restart_after(n, sim_rng_range(&run->rng_fault, 0, f->duration_us));
        }
    }
}

static void rest(struct sim_run *run, int64_t duration_us)
{
    run->rest_until_us = run->clock.now_us + duration_us;
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        sim_node_crash(&run->nodes[i], false);
        sim_restart_after(&run->nodes[i], duration_us);
    }
}

static void room_event(void *arg, uint64_t a, uint64_t b)
{
    struct sim_node *n = arg;
    (void)a;
    (void)b;
    if (n->full_until_us <= n->run->clock.now_us) {
        sim_disk_set_capacity(n->disk, UINT64_MAX);
    }
}

static void fill_disk(struct sim_node *n, const struct sim_fault *f)
{
    n->full_until_us = n->run->clock.now_us + f->duration_us;
    sim_disk_set_capacity(n->disk, sim_disk_used_bytes(n->disk) + f->arg);
    sim_clock_at(&n->run->clock, n->full_until_us, room_event, n, 0, 0);
}

static void right_event(void *arg, uint64_t a, uint64_t b)
{
    (void)a;
    (void)b;
    sim_time_set_wall(arg, 0);
}

static void damage(struct sim_run *run, struct sim_node *n, const struct sim_fault *f)
{
    if (!n->is_up) {
        return;
    }
    sim_node_crash(n, false);
    bool is_done = f->kind == SIM_FAULT_ROT ? sim_files_rot(&n->files, n->disk, &run->rng_fault)
                                            : sim_files_shorten(&n->files, n->disk);
    n->was_damaged = n->was_damaged || is_done;
    n->was_ever_damaged = n->was_ever_damaged || is_done;
    run->is_damage_planted = run->is_damage_planted || is_done;
    sim_restart_after(n, f->duration_us);
}

static void decay(struct sim_run *run, struct sim_node *n, const struct sim_fault *f)
{
    if (n->is_up) {
        sim_node_crash(n, false);
        if (sim_files_decay(n->disk, f->arg, &run->rng_fault)) {
            n->was_store_damaged = true;
            run->is_damage_planted = true;
            run->result->stats.decays++;
        }
        sim_restart_after(n, f->duration_us);
    }
}

static void move(struct sim_run *run, const struct sim_fault *f)
{
    int leader = sim_leader(run, f->arg);
    if (leader < 0 || net_is_paused(run, (unsigned)leader)) {
        return;
    }
    run->result->stats.moves++;
    (void)group_move_leader(run->nodes[leader].replicas[f->arg].g, f->node + 1);
    sim_node_touch(&run->nodes[leader]);
}

static void max_us(int64_t *to, int64_t us)
{
    *to = us > *to ? us : *to;
}

static void fault_event(void *arg, uint64_t at, uint64_t unused)
{
    struct sim_run *run = arg;
    struct sim_fault f = run->plan->faults[at];
    (void)unused;
    if (f.node == SIM_NODE_LEADER) {
        int leader = sim_leader(run, f.arg % run->plan->groups_count);
        f.node = leader < 0 ? f.arg % run->plan->nodes_count : (unsigned)leader;
    }
    struct sim_node *n = &run->nodes[f.node < run->plan->nodes_count ? f.node : 0];
    int64_t until_us = run->clock.now_us + f.duration_us;
    sim_note(&run->clock, "FAULT %s node %u peer %u arg %u for %lld ms", sim_fault_text(f.kind),
             f.node, f.peer, f.arg, (long long)(f.duration_us / MS));
    switch (f.kind) {
    case SIM_FAULT_CRASH:
    case SIM_FAULT_MACHINE:
        sim_node_crash(n, f.kind == SIM_FAULT_MACHINE);
        sim_restart_after(n, f.duration_us);
        break;
    case SIM_FAULT_POWER:
        power(run, &f);
        break;
    case SIM_FAULT_PARTITION:
        partition(run, &f);
        break;
    case SIM_FAULT_ISOLATE:
        f.arg = 1u << f.node;
        partition(run, &f);
        break;
    case SIM_FAULT_CUT:
        cut(run, f.node, f.peer, f.duration_us);
        break;
    case SIM_FAULT_CLOSE:
        if (run->plan->scenario == SIM_CLOSE && !run->is_watching_elections) {
            run->is_watching_elections = true;
            run->elections_before = sim_oracle_elections(run->oracle);
        }
        run->result->stats.closes++;
        sim_net_close_connection(run->net, f.node, f.peer);
        break;
    case SIM_FAULT_SYNC:
        n->sync_fails_for_us = n->is_up ? f.duration_us : 0;
        break;
    case SIM_FAULT_STALL:
        max_us(&n->stalled_until_us, until_us);
        break;
    case SIM_FAULT_SLOW:
        max_us(&n->slow_until_us, until_us);
        break;
    case SIM_FAULT_PAUSE:
        max_us(&n->paused_until_us, n->is_up ? until_us : 0);
        break;
    case SIM_FAULT_MOVE:
        move(run, &f);
        break;
    case SIM_FAULT_ROT:
    case SIM_FAULT_SHORTEN:
        damage(run, n, &f);
        break;
    case SIM_FAULT_QUIET:
        max_us(&run->quiet_until_us, until_us);
        break;
    case SIM_FAULT_GOAL:
        sim_members_goal(run, f.arg, f.peer);
        break;
    case SIM_FAULT_WIPE:
        if (sim_members_wipe(n)) {
            sim_restart_after(n, f.duration_us);
        }
        break;
    case SIM_FAULT_CLOCK:
        sim_time_set_wall(n, f.arg);
        sim_clock_at(&run->clock, until_us, right_event, n, 0, 0);
        break;
    case SIM_FAULT_DECAY:
        decay(run, n, &f);
        break;
    case SIM_FAULT_JOB:
        n->dies_for_us = n->is_up ? f.duration_us : 0;
        n->dies_arg = f.arg;
        break;
    case SIM_FAULT_FULL:
        fill_disk(n, &f);
        break;
    case SIM_FAULT_REST:
        rest(run, f.duration_us);
        break;
    case SIM_FAULTS_COUNT:
        break;
    }
}

/* ---- The end ---- */

static void calm_event(void *arg, uint64_t a, uint64_t b)
{
    struct sim_run *run = arg;
    (void)a;
    (void)b;
    sim_note(&run->clock, "CALM");
    run->is_calm = true;
    run->is_watching_elections = false;
    run->calm_token = run->next_token;
    run->quiet_until_us = 0;
    sim_net_calm(run->net);
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        struct sim_node *n = &run->nodes[i];
        n->paused_until_us = n->stalled_until_us = n->slow_until_us = n->full_until_us = 0;
        n->dies_for_us = 0;
        sim_disk_set_capacity(n->disk, UINT64_MAX);
        sim_time_set_wall(n, 0);
        if (!n->is_up && !n->is_off) {
            n->has_restart = true;
            sim_clock_at(&run->clock,
                         run->clock.now_us + sim_rng_range(&run->rng_fault, 0, 500 * MS),
                         restart_event, n, 0, 0);
        }
    }
}

static bool is_serving(const struct sim_run *run, unsigned *ret_group)
{
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        if (run->served_us[g] == 0) {
            *ret_group = g;
            return false;
        }
    }
    return true;
}

static bool is_group_level(struct sim_run *run, unsigned group)
{
    uint64_t at = 0;
    uint64_t hash = 0;
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        struct sim_node *n = &run->nodes[i];
        struct sim_replica *r = &n->replicas[group];
        if (n->is_off || !sim_members_is_here(run, i, group)) {
            continue;
        }
        if (!n->is_up || r->g == NULL || (r->is_stream && r->stream == NULL) ||
            (n->was_store_damaged && !sim_store_is_whole(r))) {
            return false;
        }
        struct group_status s;
        group_status(r->g, &s);
        if (s.state != GROUP_ACTIVE || s.last_index == 0 || s.last_index != r->m.applied.index ||
            s.stored_index != s.last_index || (at != 0 && at != s.last_index)) {
            return false;
        }
        at = s.last_index;
        uint64_t own = sim_replica_full_hash(r);
        if (hash != 0 && hash != own) {
            sim_fail(run, "STATE", "group %u: another state on node %u at the end", group, i);
        }
        hash = own;
    }
    return at > 0 && sim_leader(run, group) >= 0 && sim_members_is_level(run, group);
}

static bool is_level(struct sim_run *run, unsigned *ret_group)
{
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        if (!is_group_level(run, g)) {
            *ret_group = g;
            return false;
        }
    }
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        if (run->nodes[i].is_up && !sim_client_is_idle(&run->nodes[i])) {
            *ret_group = SIM_GROUPS_MAX + i;
            return false;
        }
    }
    return true;
}

static void dump(struct sim_run *run)
{
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        struct sim_node *n = &run->nodes[i];
        for (unsigned g = 0; n->is_up && g < run->plan->groups_count; g++) {
            struct sim_replica *r = &n->replicas[g];
            struct group_status s;
            if (r->g == NULL) {
                continue;
            }
            group_status(r->g, &s);
            sim_note(&run->clock,
                     "node %u group %u state %d term %llu vote %llu leader %llu%s commit %llu "
                     "delivered %llu applied %llu last %llu/%llu stored %llu first %llu base %llu "
                     "durable %llu lane %u",
                     i, g, s.state, (ull)s.role.term, (ull)s.voted_for, (ull)s.leader_raft_id,
                     s.is_core_leader ? "*" : "", (ull)s.commit_index, (ull)s.delivered_index,
                     (ull)r->m.applied.index, (ull)s.last_index, (ull)s.last_term,
                     (ull)s.stored_index, (ull)s.log_first_index, (ull)s.base.index,
                     (ull)r->durable.base.index, r->lane.count);
            for (unsigned k = 0; k < s.members_count; k++) {
                const struct group_member_status *m = &s.members[k];
                sim_note(&run->clock, "  by %llu%s: %llu on node %llu, role %d, match %llu%s",
                         (ull)s.configuration_index, s.is_configuration_uncommitted ? "?" : "",
                         (ull)m->member.raft_id, (ull)m->member.node_id - 1, (int)m->member.role,
                         (ull)m->match_index, m->is_recent ? "" : ", silent");
            }
        }
    }
}

/* A disk of some milliseconds a call, and a thousand parts: as long as pieces flow, it is no
 * standstill. */
static bool is_fetching(const struct sim_run *run)
{
    int64_t now_us = run->clock.now_us;
    return now_us - run->image_us < FETCH_PAUSE_US &&
           now_us < run->plan->faults_us + SERVE_MAX_US + FETCH_MAX_US;
}

/* Run until the faults end, all groups serve and all replicas are level. */
static void drive(struct sim_run *run)
{
    const struct sim_plan *plan = run->plan;
    int64_t serve_until_us = plan->faults_us + SERVE_MAX_US;
    int64_t stop_us = INT64_MAX;
    int64_t look_us = plan->faults_us;
    unsigned group = 0;
    while (!run->result->is_failed && sim_clock_step(&run->clock)) {
        int64_t now_us = run->clock.now_us;
        if (run->is_watching_elections &&
            sim_oracle_elections(run->oracle) != run->elections_before) {
            sim_fail(run, "CLOSE", "a closed connection changed a leader");
        }
        if (run->clock.fired_count > EVENTS_MAX) {
            sim_fail(run, "ENDLESS", "too many events");
        }
        if (!run->is_calm || now_us < look_us) {
            continue;
        }
        look_us = now_us + WATCH_US;
        if (sim_time_is_on(run)) {
            sim_time_look(run);
        }
        if (stop_us == INT64_MAX && is_serving(run, &group)) {
            stop_us = sim_time_is_on(run) ? sim_time_settled_us(run) + 10 * SECOND : now_us;
            stop_us += AFTER_US;
        } else if (stop_us == INT64_MAX && now_us > serve_until_us && !is_fetching(run)) {
            sim_fail(run, "SERVE", "group %u acks nothing for %d s after the faults", group,
                     (int)(SERVE_MAX_US / SECOND));
        }
        if (now_us >= stop_us && !run->is_stopped) {
            run->is_stopped = true;
        } else if (run->is_stopped && is_level(run, &group)) {
            run->result->stats.level_ms = (uint64_t)(now_us - plan->faults_us) / MS;
            return;
        } else if (run->is_stopped && now_us > stop_us + LEVEL_MAX_US) {
            bool is_lane = group >= SIM_GROUPS_MAX;
            sim_fail(run, is_lane ? "LANE" : "LEVEL", "%s %u %d s after the load",
                     is_lane ? "something is unanswered on node" : "not level: group",
                     is_lane ? group - SIM_GROUPS_MAX : group, (int)(LEVEL_MAX_US / SECOND));
        }
    }
}

/* Entries of streams hold many messages: each acked one is where its client was told, each stored
 * one there once (sim_client.c). What was acked must be in the log of those that run. */
static void check_streams(struct sim_run *run)
{
    run->is_at_end = true;
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        const struct sim_history *h = &run->histories[g];
        for (uint64_t uid = 1; (run->streams >> g & 1) != 0 && uid <= h->contents_count; uid++) {
            const struct sim_content *c = &h->contents[uid];
            if (c->is_acked && (c->stored_seq == 0 || h->stored[c->stored_seq].uid != uid)) {
                sim_fail(run, "LOST", "group %u: acked message %llu is not in the log", g,
                         (ull)uid);
            }
        }
        for (unsigned i = 0; (run->streams >> g & 1) != 0 && i < run->plan->nodes_count; i++) {
            struct sim_node *n = &run->nodes[i];
            if (n->is_up && sim_members_is_here(run, i, g) &&
                stream_last_seq(n->replicas[g].stream) != h->last_seq) {
                sim_fail(run, "LOST", "node %u group %u ends at sequence %llu of %llu", i, g,
                         (ull)stream_last_seq(n->replicas[g].stream), (ull)h->last_seq);
            } else if (n->store != NULL && sim_members_is_here(run, i, g)) {
                sim_store_check(&n->replicas[g]);
            }
        }
    }
}

static void run_open(struct sim_run *run, const struct sim_plan *plan,
                     const struct sim_run_options *options, struct sim_result *result)
{
    *run = (struct sim_run){.plan = plan, .options = options, .result = result};
    sim_clock_init(&run->clock);
    run->clock.is_trace_on = options->is_trace_on;
    sim_rng_init(&run->rng_disk, plan->seed, 2);
    sim_rng_init(&run->rng_host, plan->seed, 3);
    sim_rng_init(&run->rng_client, plan->seed, 4);
    sim_rng_init(&run->rng_fsm, plan->seed, 5);
    sim_rng_init(&run->rng_fault, plan->seed, 6);
    sim_rng_init(&run->rng_members, plan->seed, 8);
    sim_rng_init(&run->rng_store, plan->seed, 9);
    /* The first group is always a stream, the others now and then. */
    run->streams = 1u | (unsigned)(sim_mix(plan->seed) & 2);
    if (sim_store_is_on(run)) {
        run->streams = UINT32_MAX;
    }
    run->oracle = sim_oracle_new(plan, &run->clock, result);
    struct sim_net_env env = {.ctx = run,
                              .is_running = net_is_running,
                              .is_paused = net_is_paused,
                              .is_healthy = net_is_healthy,
                              .tells_stuck = tells_stuck(plan),
                              .stuck = net_stuck,
                              .frame = net_frame,
                              .peer = net_peer};
    struct sim_rng rng;
    sim_rng_init(&rng, plan->seed, 7);
    run->net = sim_net_new(&plan->net, &run->clock, rng, &env);
    sim_tap_run(run);
}

/* Events that are left own memory: they fire once more, and find nobody. */
static void run_close(struct sim_run *run)
{
    run->is_stopped = true;
    run->is_closing = true;
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        sim_node_crash(&run->nodes[i], false);
        run->nodes[i].is_off = true;
    }
    while (sim_clock_step(&run->clock)) {
    }
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        sim_node_close(&run->nodes[i]);
    }
    sim_tap_run(NULL);
    for (unsigned g = 0; g < SIM_GROUPS_MAX; g++) {
        sim_history_close(&run->histories[g]);
    }
    sim_net_free(run->net);
    sim_oracle_free(run->oracle);
    sim_clock_close(&run->clock);
}

void sim_run(const struct sim_plan *plan, const struct sim_run_options *options,
             struct sim_result *ret_result)
{
    struct sim_run *run = xcalloc(1, sizeof *run);
    *ret_result = (struct sim_result){0};
    run_open(run, plan, options, ret_result);
    for (unsigned i = 0; i < plan->nodes_count; i++) {
        sim_node_init(run, i);
    }
    sim_members_init(run);
    for (unsigned i = 0; i < plan->nodes_count; i++) {
        sim_restart_after(&run->nodes[i], sim_rng_range(&run->rng_fault, 0, 300 * MS));
    }
    for (unsigned i = 0; i < plan->faults_count; i++) {
        sim_clock_at(&run->clock, plan->faults[i].at_us, fault_event, run, i, 0);
    }
    sim_clock_at(&run->clock, plan->faults_us, calm_event, run, 0, 0);
    sim_client_start(run);
    drive(run);
    if (!ret_result->is_failed) {
        check_streams(run);
        sim_oracle_end(run->oracle, run->streams);
    }
    if (ret_result->is_failed) {
        dump(run);
    }
    ret_result->trace_hash = run->clock.trace_hash;
    ret_result->stats.events = run->clock.fired_count;
    run_close(run);
    free(run);
}
