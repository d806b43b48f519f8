/* One run of the simulator: a plan, and what came of it. */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H
#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim_plan.h"
#include "tests/sim/sim_planted.h"

#define SIM_STAT_MAP(X)                                                                            \
    X(events)                                                                                      \
    X(entries)     /* Committed entries, all groups. */                                            \
    X(acks)        /* Proposals acknowledged to the client. */                                     \
    X(elections)   /* Leaders seen. */                                                             \
    X(crashes)     /* Processes killed. */                                                         \
    X(power_cuts)  /* Of all nodes at once. */                                                     \
    X(sync_fails)  /* Writes that failed, and ended their process. */                              \
    X(torn)        /* Frames found torn at recovery. */                                            \
    X(rotten)      /* Frames planted rotten and found so. */                                       \
    X(suspects)    /* Groups that started SUSPECT. */                                              \
    X(truncations) /* Conflicting tails cut off. */                                                \
    X(trims)       /* WAL trims that freed something. */                                           \
    X(flushes)     /* New durable bases. */                                                        \
    X(catchups)    /* Logs replaced by an image. */                                                \
    X(moves)       /* Leadership moves asked for. */                                               \
    X(peer_downs)  /* Node-down signals. */                                                        \
    X(closes)      /* Connections closed by a fault. */                                            \
    X(frames)      /* Sent between nodes. */                                                       \
    X(goals)       /* Other members wanted. */                                                     \
    X(joins)       /* Replicas that began empty. */                                                \
    X(wipes)       /* Disks lost. */                                                               \
    X(changes)     /* Of members, proposed. */                                                     \
    X(expired)     /* Messages removed by their age, in clocks; */                                 \
    X(cuts)        /* Jobs of the store that the end of their process cut short. */                \
    X(decays)      /* Stores that were damaged, */                                                 \
    X(unknown)     /* replicas that had to know first what is live, */                             \
    X(mended)      /* did, */                                                                      \
    X(rebuilt)     /* or were replaced. */                                                         \
    X(fulls)       /* Processes that a full disk ended. */                                         \
    X(behind)      /* stored with a stamp that is older than they are, */                          \
    X(excused)     /* and of these by an agreed clock that was behind. */                          \
    X(level_ms)    /* From the end of the faults until all were level. */

struct sim_stats {
#define SIM_STAT_FIELD(name) uint64_t name;
    SIM_STAT_MAP(SIM_STAT_FIELD)
#undef SIM_STAT_FIELD
};

struct sim_result {
    bool is_failed;
    char oracle[32]; /* Which check failed first. */
    char text[400];  /* What it says, with the virtual time. */
    uint64_t trace_hash;
    struct sim_stats stats;
};

struct sim_run_options {
    uint64_t guards_off; /* Mask for the host: which guards are left out. */
    enum sim_planted planted;
    bool is_trace_on;
};

/* Run @plan to its end or to the first violation. Asserts of the code under test stop the process.
 */
void sim_run(const struct sim_plan *plan, const struct sim_run_options *options,
             struct sim_result *ret_result);
#endif
