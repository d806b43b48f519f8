#include "tests/sim/sim_plan.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define MS 1000
#define SECOND (1000 * MS)
#define SETTLE_US (5 * SECOND) /* Elections are over by then, if nothing disturbs them. */

static const char *const scenario_texts[] = {
#define SIM_SCENARIO_TEXT(name, text) text,
    SIM_SCENARIO_MAP(SIM_SCENARIO_TEXT)
#undef SIM_SCENARIO_TEXT
};
static const char *const fault_texts[] = {
#define SIM_FAULT_TEXT(name) #name,
    SIM_FAULT_MAP(SIM_FAULT_TEXT)
#undef SIM_FAULT_TEXT
};

const char *sim_scenario_text(enum sim_scenario scenario)
{
    return scenario_texts[scenario];
}

const char *sim_fault_text(enum sim_fault_kind kind)
{
    return fault_texts[kind];
}

int sim_scenario_find(const char *text)
{
    for (int i = 0; i < SIM_SCENARIOS_COUNT; i++) {
        if (strcmp(text, scenario_texts[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static void add(struct sim_plan *plan, struct sim_fault fault)
{
    if (plan->faults_count < SIM_FAULTS_MAX && fault.at_us < plan->faults_us) {
        plan->faults[plan->faults_count++] = fault;
    }
}

static unsigned any_node(const struct sim_plan *plan, struct sim_rng *rng)
{
    return (unsigned)sim_rng_below(rng, plan->nodes_count);
}

static unsigned another_node(const struct sim_plan *plan, struct sim_rng *rng, unsigned node)
{
    unsigned step = 1 + (unsigned)sim_rng_below(rng, plan->nodes_count - 1);
    return (node + step) % plan->nodes_count;
}

/* A node, or the leader of some group: half of the faults hit leaders, where it hurts. */
static unsigned victim(const struct sim_plan *plan, struct sim_rng *rng)
{
    return sim_rng_one_in(rng, 2) ? SIM_NODE_LEADER : any_node(plan, rng);
}

static struct sim_fault draw_fault(const struct sim_plan *plan, struct sim_rng *rng, int64_t at_us)
{
    struct sim_fault f = {.at_us = at_us, .node = victim(plan, rng)};
    f.arg = (unsigned)sim_rng_below(rng, plan->groups_count);
    f.duration_us = sim_rng_range(rng, 10 * MS, sim_rng_one_in(rng, 4) ? 6 * SECOND : 1 * SECOND);
    unsigned dice = (unsigned)sim_rng_below(rng, 100);
    if (dice < 22) {
        f.kind = SIM_FAULT_CRASH;
    } else if (dice < 38) {
        f.kind = SIM_FAULT_MACHINE;
    } else if (dice < 40) {
        f.kind = SIM_FAULT_SYNC;
    } else if (dice < 43) {
        f.kind = SIM_FAULT_POWER;
        f.node = SIM_NODES_MAX; /* All come back. */
    } else if (dice < 48) {
        f.kind = SIM_FAULT_SLOW;
    } else if (dice < 56) {
        f.kind = SIM_FAULT_STALL;
        f.duration_us = sim_rng_range(rng, 10 * MS, 3 * SECOND);
    } else if (dice < 62) {
        f.kind = SIM_FAULT_PAUSE;
        f.duration_us = sim_rng_range(rng, 10 * MS, 3 * SECOND);
    } else if (dice < 68) {
        f.kind = SIM_FAULT_MOVE;
        f.node = any_node(plan, rng);
    } else if (plan->nodes_count == 1) {
        f.kind = SIM_FAULT_CRASH;
    } else if (dice < 82) {
        f.kind = SIM_FAULT_PARTITION;
        f.arg = 1 + (unsigned)sim_rng_below(rng, (1u << plan->nodes_count) - 2);
    } else if (dice < 92) {
        f.kind = SIM_FAULT_CUT;
        f.node = any_node(plan, rng);
        f.peer = another_node(plan, rng, f.node);
    } else {
        f.kind = SIM_FAULT_CLOSE;
        f.node = any_node(plan, rng);
        f.peer = another_node(plan, rng, f.node);
    }
    return f;
}

static void draw_chaos(struct sim_plan *plan, struct sim_rng *rng)
{
    int64_t gap_max_us = sim_rng_range(rng, 100, 3000) * MS;
    /* Some are born under faults: a birth that is half done completes. */
    bool is_early = (sim_mix(plan->seed) & 0x70) == 0;
    int64_t at_us = is_early ? 20 * MS : 2 * SECOND;
    while (at_us < plan->faults_us) {
        add(plan, draw_fault(plan, rng, at_us));
        at_us += sim_rng_range(rng, 20 * MS, gap_max_us);
    }
}

static void draw_power(struct sim_plan *plan, struct sim_rng *rng)
{
    plan->nodes_count = 3;
    plan->client_max_us = sim_rng_range(rng, 1, 20) * MS;
    plan->faults_us = 20 * SECOND;
    int64_t at_us = 3 * SECOND + sim_rng_range(rng, 0, 2000) * MS;
    while (at_us < plan->faults_us - 2 * SECOND) {
        struct sim_fault f = {.at_us = at_us, .kind = SIM_FAULT_POWER, .node = SIM_NODES_MAX};
        f.duration_us = sim_rng_range(rng, 10, 1500) * MS;
        add(plan, f);
        at_us += sim_rng_range(rng, 1, 8) * SECOND;
    }
    /* The last one: one of the three never returns. */
    struct sim_fault last = {.at_us = plan->faults_us - 1, .kind = SIM_FAULT_POWER};
    last.node = any_node(plan, rng);
    last.duration_us = 500 * MS;
    add(plan, last);
}

static void draw_lagging(struct sim_plan *plan, struct sim_rng *rng)
{
    plan->nodes_count = 3;
    plan->trim_entries_max = 8 + (unsigned)sim_rng_below(rng, 32);
    plan->trailing_entries = (unsigned)sim_rng_below(rng, 8);
    plan->client_max_us = sim_rng_range(rng, 2, 20) * MS;
    plan->flush_max_us = 300 * MS;
    int64_t at_us = 3 * SECOND;
    while (at_us < plan->faults_us) {
        struct sim_fault f = {.at_us = at_us, .kind = SIM_FAULT_CRASH, .node = any_node(plan, rng)};
        f.duration_us = sim_rng_range(rng, 2, 8) * SECOND;
        add(plan, f);
        at_us += f.duration_us;
        /* Disturb the catch-up that follows. */
        if (sim_rng_one_in(rng, 2)) {
            add(plan, draw_fault(plan, rng, at_us + sim_rng_range(rng, 0, 800) * MS));
        }
        at_us += sim_rng_range(rng, 1, 5) * SECOND;
    }
}

static void draw_stalls(struct sim_plan *plan, struct sim_rng *rng)
{
    int64_t at_us = 2 * SECOND;
    while (at_us < plan->faults_us) {
        struct sim_fault f = {.at_us = at_us, .kind = SIM_FAULT_STALL};
        f.node = any_node(plan, rng);
        f.duration_us = sim_rng_range(rng, 300, 3000) * MS;
        add(plan, f);
        if (sim_rng_one_in(rng, 3)) {
            add(plan, draw_fault(plan, rng, at_us + sim_rng_range(rng, 0, 1000) * MS));
        }
        at_us += sim_rng_range(rng, 100, 2500) * MS;
    }
}

static void draw_close(struct sim_plan *plan, struct sim_rng *rng)
{
    if (plan->nodes_count == 1) {
        plan->nodes_count = 3;
    }
    plan->net.slow_per_mille = 0;
    plan->net.delay_max_us = plan->net.delay_min_us + 20 * MS;
    plan->net.stray_per_mille = 0;
    plan->net.is_datagram = false;
    plan->disk_max_us = plan->disk_min_us + 10 * MS;
    int64_t at_us = SETTLE_US + 5 * SECOND;
    while (at_us < plan->faults_us) {
        struct sim_fault f = {.at_us = at_us, .kind = SIM_FAULT_CLOSE};
        f.node = any_node(plan, rng);
        f.peer = another_node(plan, rng, f.node);
        add(plan, f);
        at_us += sim_rng_range(rng, 500, 3000) * MS;
    }
}

/* Another goal, of three members or more: a damaged one must not be the half of all. */
static void draw_goal(struct sim_plan *plan, struct sim_rng *rng, int64_t at_us)
{
    struct sim_fault f = {.at_us = at_us, .kind = SIM_FAULT_GOAL};
    f.arg = (unsigned)sim_rng_below(rng, plan->groups_count);
    f.peer = 8 * (5 * (unsigned)sim_rng_below(rng, 1000) + 2 + (unsigned)sim_rng_below(rng, 3));
    f.peer += (unsigned)sim_rng_below(rng, 8);
    add(plan, f);
}

/* What two of three have acknowledged rots on the one while the third is away; then the other one
 * is away. Those that are left must not forget it. */
static void draw_squeeze(struct sim_plan *plan, struct sim_rng *rng, struct sim_fault *rot)
{
    unsigned away = another_node(plan, rng, rot->node);
    int64_t back_us = rot->at_us + sim_rng_range(rng, 50, 400) * MS;
    int64_t gap_us = sim_rng_range(rng, 500, 2000) * MS;
    struct sim_fault f = {.kind = SIM_FAULT_PARTITION, .at_us = rot->at_us - gap_us};
    f.duration_us = back_us - f.at_us;
    f.arg = 1u << away;
    add(plan, f);
    f.at_us = rot->at_us + sim_rng_range(rng, 0, 5) * MS;
    f.duration_us = sim_rng_range(rng, 1500, 4000) * MS;
    f.arg = ((1u << plan->nodes_count) - 1) & ~(1u << away | 1u << rot->node);
    add(plan, f);
    rot->duration_us = sim_rng_range(rng, 10, 200) * MS;
}

/* One node, and only that one, loses what it had synced. The others crash and part in between, and
 * members may come and go. */
static void draw_lossy(struct sim_plan *plan, struct sim_rng *rng, enum sim_fault_kind kind)
{
    bool has_goals = kind == SIM_FAULT_ROT && sim_rng_one_in(rng, 3);
    plan->nodes_count = plan->nodes_count == 5 || has_goals ? 5 : 3;
    plan->members_count = has_goals ? 3 + (unsigned)sim_rng_below(rng, 3) : 0;
    unsigned node = any_node(plan, rng);
    int64_t at_us = 4 * SECOND;
    while (at_us < plan->faults_us) {
        bool is_idle = kind == SIM_FAULT_SHORTEN || sim_rng_one_in(rng, 2);
        if (is_idle) {
            struct sim_fault quiet = {.at_us = at_us, .kind = SIM_FAULT_QUIET};
            quiet.duration_us = 6 * SECOND;
            add(plan, quiet);
            at_us += 2500 * MS;
        }
        struct sim_fault f = {.at_us = at_us, .kind = kind, .node = node};
        f.duration_us = sim_rng_range(rng, 10, 2000) * MS;
        if (kind == SIM_FAULT_ROT && !is_idle && sim_rng_one_in(rng, 2)) {
            draw_squeeze(plan, rng, &f);
        }
        add(plan, f);
        unsigned extra_count = (unsigned)sim_rng_below(rng, 3);
        for (unsigned i = 0; i < extra_count; i++) {
            struct sim_fault extra =
                draw_fault(plan, rng, at_us + sim_rng_range(rng, 0, 3000) * MS);
            add(plan, extra);
        }
        for (unsigned i = 0; has_goals && i < 3; i++) {
            draw_goal(plan, rng, at_us + sim_rng_range(rng, -1000, 3000) * MS);
        }
        at_us += sim_rng_range(rng, 5, 12) * SECOND;
    }
}

/* Chaos, of which a part is new goals, and a little lost disks. */
static void draw_members(struct sim_plan *plan, struct sim_rng *rng)
{
    int64_t gap_max_us = sim_rng_range(rng, 300, 4000) * MS;
    int64_t at_us = 2 * SECOND;
    plan->nodes_count = 5;
    plan->groups_count = 1 + (unsigned)sim_rng_below(rng, 2);
    plan->members_count = 1 + (unsigned)sim_rng_below(rng, 5);
    plan->faults_us = sim_rng_range(rng, 40, 90) * SECOND;
    while (at_us < plan->faults_us) {
        unsigned dice = (unsigned)sim_rng_below(rng, 100);
        struct sim_fault f = draw_fault(plan, rng, at_us);
        if (dice < 35) {
            f.kind = SIM_FAULT_GOAL;
            f.arg = (unsigned)sim_rng_below(rng, plan->groups_count);
            f.peer = (unsigned)sim_rng_below(rng, 1 << 20);
        } else if (dice < 45) {
            f.kind = SIM_FAULT_WIPE;
        }
        add(plan, f);
        at_us += sim_rng_range(rng, 20 * MS, gap_max_us);
    }
}

/* No leader lasts: what it appended is on a few, and the next ones go on from there (Raft's figure
 * 8). Entries travel one by one, so that the old ones arrive before those of the new term. */
static void draw_flaps(struct sim_plan *plan, struct sim_rng *rng)
{
    int64_t gap_max_us = sim_rng_range(rng, 200, 1500) * MS;
    int64_t at_us = 2 * SECOND;
    plan->nodes_count = plan->nodes_count == 5 ? 5 : 3;
    plan->groups_count = 1 + (unsigned)sim_rng_below(rng, 2);
    plan->entry_batch_max = 1 + (unsigned)sim_rng_below(rng, 2);
    plan->client_max_us = sim_rng_range(rng, 2, 20) * MS;
    while (at_us < plan->faults_us) {
        struct sim_fault f = {.at_us = at_us, .node = SIM_NODE_LEADER};
        unsigned dice = (unsigned)sim_rng_below(rng, 10);
        f.arg = (unsigned)sim_rng_below(rng, plan->groups_count);
        f.duration_us = sim_rng_range(rng, 200, 2500) * MS;
        f.peer = any_node(plan, rng);
        f.kind = dice < 5   ? SIM_FAULT_ISOLATE
                 : dice < 7 ? SIM_FAULT_CUT
                 : dice < 9 ? SIM_FAULT_CRASH
                            : SIM_FAULT_MACHINE;
        add(plan, f);
        at_us += sim_rng_range(rng, 20 * MS, gap_max_us);
    }
}

/* One node's wall clock is wrong now and then, also when it starts; or all nodes are down, for up
 * to a working day. That a majority is wrong is another matter: then nobody knows. */
static void draw_clocks(struct sim_plan *plan, struct sim_rng *rng)
{
    static const int64_t rests_us[] = {5 * SECOND, 50 * SECOND, 1200 * SECOND, 7200ll * SECOND,
                                       28800ll * SECOND};
    plan->groups_count = 1 + (unsigned)sim_rng_below(rng, 2);
    plan->client_max_us = sim_rng_range(rng, 20, 200) * MS;
    plan->faults_us = INT64_MAX;
    bool has_liar = plan->nodes_count > 1 && sim_rng_one_in(rng, 2);
    bool has_rests = !has_liar || sim_rng_one_in(rng, 2);
    unsigned liar = any_node(plan, rng);
    int64_t at_us = 3 * SECOND;
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        plan->drift_ppm[i] = (int32_t)sim_rng_range(rng, -100, 100);
    }
    for (unsigned i = 5 + (unsigned)sim_rng_below(rng, 10); i > 0; i--) {
        unsigned dice = (unsigned)sim_rng_below(rng, 100);
        struct sim_fault f = draw_fault(plan, rng, at_us);
        if (has_liar && dice < 45) {
            struct sim_fault clock = {.at_us = at_us, .kind = SIM_FAULT_CLOCK, .node = liar};
            clock.arg = 1 + (unsigned)sim_rng_below(rng, SIM_CLOCK_OFFS - 1);
            clock.duration_us = sim_rng_range(rng, 500, 20000) * MS;
            add(plan, clock);
            f = (struct sim_fault){
                .at_us = at_us + 100 * MS, .kind = SIM_FAULT_CRASH, .node = liar};
            f.duration_us = sim_rng_range(rng, 10, 2000) * MS;
            if (dice < 20) {
                f.kind = SIM_FAULT_CLOSE; /* It goes on running. */
                f.peer = another_node(plan, rng, liar);
            }
        } else if (has_rests && dice < 75) {
            f = (struct sim_fault){.at_us = at_us, .kind = SIM_FAULT_REST};
            f.duration_us = rests_us[sim_rng_below(rng, sizeof rests_us / sizeof rests_us[0])];
            at_us += f.duration_us + 2 * SECOND; /* A leader sees how long it was. */
        }
        add(plan, f);
        at_us += sim_rng_range(rng, 200, sim_rng_one_in(rng, 5) ? 80000 : 8000) * MS;
    }
    plan->faults_us = at_us;
}

/* Small blocks and files (sim_store.c), many passes; half of the seeds trim their logs soon, so
 * that who was away needs an image. Disks are lost, too. */
static void draw_store(struct sim_plan *plan, struct sim_rng *rng)
{
    unsigned dice = (unsigned)sim_rng_below(rng, 10);
    plan->groups_count = 1 + (unsigned)sim_rng_below(rng, 3);
    plan->faults_us = 25 * SECOND;
    if (dice < 3) {
        draw_power(plan, rng);
    } else if (dice < 6) {
        draw_lagging(plan, rng);
    } else {
        draw_chaos(plan, rng);
    }
    plan->client_max_us = sim_rng_range(rng, 10, 150) * MS;
    plan->flush_max_us = sim_rng_range(rng, 20, sim_rng_one_in(rng, 2) ? 500 : 4000) * MS;
    if (sim_rng_one_in(rng, 2)) {
        plan->trim_entries_max = 8 + (unsigned)sim_rng_below(rng, 64);
        plan->trailing_entries = (unsigned)sim_rng_below(rng, 16);
    }
    for (unsigned i = (unsigned)sim_rng_below(rng, 12); i > 0; i--) {
        struct sim_fault f = {.kind = SIM_FAULT_JOB, .node = victim(plan, rng)};
        f.at_us = sim_rng_range(rng, 500, 24000) * MS;
        f.duration_us = sim_rng_range(rng, 10, 2000) * MS;
        f.arg = (unsigned)sim_rng_below(rng, 4);
        add(plan, f);
    }
    for (unsigned i = (unsigned)sim_rng_below(rng, 6); i > 3; i--) {
        struct sim_fault f = {.kind = SIM_FAULT_FULL, .node = any_node(plan, rng)};
        f.at_us = sim_rng_range(rng, 2000, 22000) * MS;
        f.duration_us = sim_rng_range(rng, 10, 3000) * MS;
        f.arg = (unsigned)sim_rng_below(rng, 128 * 1024);
        add(plan, f);
    }
    /* Where one of three stays off in the end, the loss of another disk is one too many. */
    unsigned wipes = dice < 3 || plan->nodes_count == 1 ? 0 : (unsigned)sim_rng_below(rng, 3);
    for (unsigned i = 0; i < wipes; i++) {
        struct sim_fault f = {.kind = SIM_FAULT_WIPE, .node = any_node(plan, rng)};
        f.at_us = sim_rng_range(rng, 3000, 20000) * MS;
        f.duration_us = sim_rng_range(rng, 10, 2000) * MS;
        add(plan, f);
    }
}

/* The store of one node rots, while it is down; nobody else loses anything for good. */
static void draw_decay(struct sim_plan *plan, struct sim_rng *rng)
{
    plan->nodes_count = 3;
    plan->groups_count = 1 + (unsigned)sim_rng_below(rng, 2);
    plan->faults_us = 25 * SECOND;
    plan->client_max_us = sim_rng_range(rng, 10, 150) * MS;
    plan->flush_max_us = sim_rng_range(rng, 20, 1000) * MS;
    unsigned node = any_node(plan, rng);
    int64_t at_us = 4 * SECOND;
    while (at_us < plan->faults_us) {
        struct sim_fault f = {.kind = SIM_FAULT_DECAY, .at_us = at_us, .node = node};
        f.duration_us = sim_rng_range(rng, 10, 2000) * MS;
        f.arg = 1 + (unsigned)sim_rng_below(rng, 4);
        add(plan, f);
        for (unsigned i = (unsigned)sim_rng_below(rng, 4); i > 0; i--) {
            add(plan, draw_fault(plan, rng, at_us + sim_rng_range(rng, -1000, 4000) * MS));
        }
        at_us += sim_rng_range(rng, 2, 9) * SECOND;
    }
}

static int64_t log_range(struct sim_rng *rng, int64_t min, int64_t max)
{
    int64_t v = min;
    while (v < max && !sim_rng_one_in(rng, 3)) {
        v *= 2;
    }
    return v > max ? max : v;
}

static void draw_parameters(struct sim_plan *plan, struct sim_rng *rng)
{
    unsigned dice = (unsigned)sim_rng_below(rng, 10);
    plan->nodes_count = dice == 0 ? 1 : dice <= 2 ? 5 : 3;
    plan->groups_count = 1 + (unsigned)sim_rng_below(rng, SIM_GROUPS_MAX);
    plan->faults_us = 40 * SECOND;
    plan->net.delay_min_us = log_range(rng, 50, 20 * MS);
    plan->net.delay_max_us = plan->net.delay_min_us * sim_rng_range(rng, 1, 5);
    plan->net.slow_per_mille = sim_rng_one_in(rng, 2) ? 0 : (unsigned)sim_rng_below(rng, 100);
    plan->net.slow_max_us = sim_rng_range(rng, 10, 400) * MS;
    plan->net.has_late_frames = sim_rng_one_in(rng, 2);
    if (sim_rng_one_in(rng, 3)) {
        plan->net.stray_per_mille = (unsigned)sim_rng_below(rng, 100);
        plan->net.is_datagram = sim_rng_one_in(rng, 3);
    }
    plan->tick_us = sim_rng_range(rng, 5, 50) * MS;
    plan->disk_min_us = log_range(rng, 100, 10 * MS);
    plan->disk_max_us = plan->disk_min_us * sim_rng_range(rng, 1, 20);
    plan->apply_max_us = sim_rng_one_in(rng, 3) ? 0 : log_range(rng, 100, 200 * MS);
    plan->flush_max_us = sim_rng_range(rng, 50, 5000) * MS;
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        plan->drift_ppm[i] = (int32_t)sim_rng_range(rng, -20000, 20000);
    }
    plan->client_max_us = sim_rng_range(rng, 5, 200) * MS;
    plan->burst_max = (unsigned)log_range(rng, 1, 16);
    plan->entry_bytes_max = (unsigned)log_range(rng, 16, 4096);
    plan->image_bytes_max = (unsigned)log_range(rng, 64, 64 * 1024);
    plan->is_bursty = sim_rng_one_in(rng, 4);
    plan->segment_bytes_min = (uint32_t)log_range(rng, 32 * 1024, 256 * 1024);
    plan->segment_bytes_max = plan->segment_bytes_min * (uint32_t)sim_rng_range(rng, 1, 4);
    plan->frame_bytes_max = (uint32_t)log_range(rng, 1024, 64 * 1024);
    plan->trim_entries_max = (unsigned)log_range(rng, 4, 512);
    plan->trailing_entries = (unsigned)log_range(rng, 1, 128);
    plan->entry_batch_max = (unsigned)log_range(rng, 1, 256);
    plan->held_batches_max = sim_rng_one_in(rng, 2) ? 1 : 4;
    plan->is_base_from_memory = sim_rng_one_in(rng, 2);
}

static enum sim_scenario draw_scenario(struct sim_rng *rng)
{
    unsigned dice = (unsigned)sim_rng_below(rng, 100);
    return dice < 28   ? SIM_CHAOS
           : dice < 40 ? SIM_STORE
           : dice < 44 ? SIM_DECAY
           : dice < 50 ? SIM_FLAPS
           : dice < 60 ? SIM_POWER
           : dice < 72 ? SIM_LAGGING
           : dice < 82 ? SIM_STALLS
           : dice < 86 ? SIM_CLOSE
           : dice < 94 ? SIM_ROTTEN
                       : SIM_SHORTER;
}

static void sort_faults(struct sim_plan *plan)
{
    for (unsigned i = 1; i < plan->faults_count; i++) {
        struct sim_fault f = plan->faults[i];
        unsigned k = i;
        for (; k > 0 && plan->faults[k - 1].at_us > f.at_us; k--) {
            plan->faults[k] = plan->faults[k - 1];
        }
        plan->faults[k] = f;
    }
}

void sim_plan_draw(struct sim_plan *plan, uint64_t seed, int scenario)
{
    struct sim_rng rng;
    sim_rng_init(&rng, seed, 1);
    *plan = (struct sim_plan){.seed = seed};
    enum sim_scenario drawn = draw_scenario(&rng);
    plan->scenario = scenario < 0 ? drawn : (enum sim_scenario)scenario;
    draw_parameters(plan, &rng);
    switch (plan->scenario) {
    case SIM_CHAOS:
        draw_chaos(plan, &rng);
        break;
    case SIM_POWER:
        draw_power(plan, &rng);
        break;
    case SIM_LAGGING:
        draw_lagging(plan, &rng);
        break;
    case SIM_STALLS:
        draw_stalls(plan, &rng);
        break;
    case SIM_CLOSE:
        draw_close(plan, &rng);
        break;
    case SIM_ROTTEN:
        draw_lossy(plan, &rng, SIM_FAULT_ROT);
        break;
    case SIM_SHORTER:
        draw_lossy(plan, &rng, SIM_FAULT_SHORTEN);
        break;
    case SIM_MEMBERS:
        draw_members(plan, &rng);
        break;
    case SIM_FLAPS:
        draw_flaps(plan, &rng);
        break;
    case SIM_CLOCKS:
        draw_clocks(plan, &rng);
        break;
    case SIM_STORE:
        draw_store(plan, &rng);
        break;
    case SIM_DECAY:
        draw_decay(plan, &rng);
        break;
    case SIM_SCENARIOS_COUNT:
        assert(false);
    }
    sort_faults(plan);
    plan->net.nodes_count = plan->nodes_count;
}

void sim_plan_calm(struct sim_plan *plan, uint64_t seed)
{
    *plan = (struct sim_plan){
        .seed = seed,
        .scenario = SIM_CHAOS,
        .nodes_count = 3,
        .groups_count = 1,
        .faults_us = 60 * SECOND,
        .net = {.nodes_count = 3, .delay_min_us = 1000, .delay_max_us = 1000},
        .tick_us = 10 * MS,
        .disk_min_us = 500,
        .disk_max_us = 500,
        .flush_max_us = 3600 * (int64_t)SECOND,
        .client_max_us = 20 * MS,
        .burst_max = 1,
        .entry_bytes_max = 64,
        .image_bytes_max = 256,
        .segment_bytes_min = 64 * 1024,
        .segment_bytes_max = 256 * 1024,
        .frame_bytes_max = 64 * 1024,
        .trim_entries_max = 1024,
        .trailing_entries = 128,
        .entry_batch_max = 64,
        .held_batches_max = 1,
    };
}

void sim_plan_print(const struct sim_plan *p)
{
    printf("seed %llu: %s, %u nodes, %u groups, net %lld-%lld us%s, disk %lld-%lld us, "
           "trim %u+%u, held %u, %u faults\n",
           (unsigned long long)p->seed, sim_scenario_text(p->scenario), p->nodes_count,
           p->groups_count, (long long)p->net.delay_min_us, (long long)p->net.delay_max_us,
           p->net.is_datagram           ? " datagrams"
           : p->net.stray_per_mille > 0 ? " strays"
                                        : "",
           (long long)p->disk_min_us, (long long)p->disk_max_us, p->trim_entries_max,
           p->trailing_entries, p->held_batches_max, p->faults_count);
    for (unsigned i = 0; i < p->faults_count; i++) {
        const struct sim_fault *f = &p->faults[i];
        printf("  %10.3f %-9s node %u peer %u arg %u for %.3f ms\n", (double)f->at_us / 1000,
               sim_fault_text(f->kind), f->node, f->peer, f->arg, (double)f->duration_us / 1000);
    }
}
