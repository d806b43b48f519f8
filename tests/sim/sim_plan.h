/* What a seed stands for: the parameters of a run and its list of faults, drawn before it begins.
 *
 * The plan is explicit, so that a run can be repeated with faults left out, and a schedule written
 * by hand. A fault that names no node (SIM_NODE_LEADER) picks the leader of the group `arg` at that
 * moment. */
#ifndef TESTS_SIM_PLAN_H
#define TESTS_SIM_PLAN_H
#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim_net.h"

#define SIM_GROUPS_MAX 4u
#define SIM_FAULTS_MAX 512u
#define SIM_NODE_LEADER 255u
#define SIM_CLOCK_OFFS 15u /* Ways a clock can be wrong, sim_time.c; 0: it is right. */

#define SIM_SCENARIO_MAP(X)                                                                        \
    X(CHAOS, "chaos")     /* Everything below, at random. */                                       \
    X(POWER, "power")     /* Power cut of all nodes under load; then two of three are enough. */   \
    X(LAGGING, "lagging") /* A follower is away while logs are trimmed, and is caught up. */       \
    X(STALLS, "stalls")   /* Disks that stall longer than an election takes. */                    \
    X(CLOSE, "close")     /* Connections close, nothing else: no leader may change. */             \
    X(ROTTEN, "rotten")   /* A node's last synced frame rots while it is down. */                  \
    X(SHORTER, "shorter") /* An idle follower loses its last synced frame. */                      \
    X(FLAPS, "flaps")     /* Each new leader is cut off or dies before long. */                    \
    X(MEMBERS, "members") /* Members come and go, disks are lost; with all of chaos. */            \
    X(CLOCKS, "clocks")   /* A wall clock is wrong, all nodes are down for hours; with chaos. */   \
    X(STORE, "store")     /* The real store, small, under what the others do. */                   \
    X(DECAY, "decay")     /* The same; and the store of one node rots, again and again. */

enum sim_scenario {
#define SIM_SCENARIO_ENUM(name, text) SIM_##name,
    SIM_SCENARIO_MAP(SIM_SCENARIO_ENUM)
#undef SIM_SCENARIO_ENUM
        SIM_SCENARIOS_COUNT
};

#define SIM_FAULT_MAP(X)                                                                           \
    X(CRASH)   /* The process of `node` dies, and is back after duration_us. */                    \
    X(MACHINE) /* So does its machine: nothing of what it sent arrives, un-synced bytes are lost.  \
                */                                                                                 \
    X(POWER)   /* All machines at once; each is back after up to duration_us, `node` stays off */  \
    X(PARTITION) /* `arg` is the set of nodes on one side. */                                      \
    X(CUT)       /* `node` does not reach `peer` any more. */                                      \
    X(ISOLATE)   /* `node` reaches nobody, and nobody reaches it. */                               \
    X(SYNC)      /* The next write and sync of `node` fails: its process ends, and is back. */     \
    X(CLOSE)     /* The connection of `node` and `peer` closes. */                                 \
    X(STALL)     /* The disk of `node` stands still. */                                            \
    X(SLOW)      /* The disk of `node` is ten times slower. */                                     \
    X(PAUSE)     /* The process of `node` gets no processor. */                                    \
    X(MOVE)      /* The leader of group `arg` is asked to move to `node`. */                       \
    X(ROT)       /* `node` crashes, its newest WAL frame is damaged, it is back. */                \
    X(SHORTEN)   /* `node` crashes, its newest WAL frame is gone, it is back. */                   \
    X(QUIET)     /* No client proposes anything. */                                                \
    X(GOAL)      /* Other members are wanted for group `arg`; `peer` says which. */                \
    X(WIPE)      /* `node` loses its disk, and is back. */                                         \
    X(CLOCK)     /* The wall clock of `node` is wrong for duration_us; `arg` says how. */          \
    X(JOB)   /* `node` dies in the next job of its store, and is back; `arg`: as sim_job_arg. */   \
    X(FULL)  /* The disk of `node` takes `arg` bytes more, for duration_us. */                     \
    X(DECAY) /* `node` crashes, its store is damaged in a few places, it is back. */               \
    X(REST)  /* All processes end, and all are back after duration_us. */

/* Of SIM_FAULT_JOB. */
enum sim_job_arg {
    SIM_JOB_MACHINE = 1, /* So does its machine. */
    SIM_JOB_IMAGE = 2,   /* Not a flush pass: reading, fetching, loading. */
};

enum sim_fault_kind {
#define SIM_FAULT_ENUM(name) SIM_FAULT_##name,
    SIM_FAULT_MAP(SIM_FAULT_ENUM)
#undef SIM_FAULT_ENUM
        SIM_FAULTS_COUNT
};

struct sim_fault {
    int64_t at_us;
    int64_t duration_us;
    enum sim_fault_kind kind;
    unsigned node;
    unsigned peer;
    unsigned arg;
};

struct sim_plan {
    uint64_t seed;
    enum sim_scenario scenario;
    unsigned nodes_count;
    unsigned groups_count;
    unsigned members_count; /* Nodes that have a replica of each group at first; 0: all. */
    int64_t faults_us;      /* They end here; then everything must heal. */
    struct sim_net_options net;

    int64_t tick_us;
    int64_t disk_min_us; /* Of one write and sync. */
    int64_t disk_max_us;
    int64_t apply_max_us; /* The state machine is up to this much behind the commit. */
    int64_t flush_max_us; /* A new durable base within this time. */
    int32_t drift_ppm[SIM_NODES_MAX];
    int64_t client_max_us; /* Between two bursts of proposals. */
    unsigned burst_max;
    unsigned entry_bytes_max;
    unsigned image_bytes_max;
    bool is_bursty; /* Now and then a large burst. */

    uint32_t segment_bytes_min;
    uint32_t segment_bytes_max;
    uint32_t frame_bytes_max;
    unsigned trim_entries_max; /* Entries kept in memory before a trim. */
    unsigned trailing_entries; /* Kept behind the trim for slow followers. */
    unsigned entry_batch_max;  /* Of one AppendEntries. */
    unsigned held_batches_max; /* G10; 1 is stop-and-wait. */
    bool is_base_from_memory;  /* In-process reloads present the applied state (T6). */

    unsigned faults_count;
    struct sim_fault faults[SIM_FAULTS_MAX];
};

/* Draw the plan of @seed. @scenario -1 lets the seed choose. */
void sim_plan_draw(struct sim_plan *plan, uint64_t seed, int scenario);

/* A calm plan for schedules: three nodes, one group, constant delays, no faults. */
void sim_plan_calm(struct sim_plan *plan, uint64_t seed);

void sim_plan_print(const struct sim_plan *plan);
const char *sim_scenario_text(enum sim_scenario scenario);
int sim_scenario_find(const char *text); /* -1: unknown. */
const char *sim_fault_text(enum sim_fault_kind kind);
#endif
