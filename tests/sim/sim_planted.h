/* Bugs planted on purpose: the check of the checks. Each is one that some system was found to have
 * (docs/reliability.md), or leaves out what raft/ expects of its embedder, and each must be caught
 * by the oracles named with it. They live in what the simulator puts around the code under test,
 * its disk writer, its tap of the records, its clients: production code has no switch for them. */
#ifndef TESTS_SIM_PLANTED_H
#define TESTS_SIM_PLANTED_H
#include "tests/sim/sim_plan.h"

/* Name, text, the scenario that brings it out, the oracles that may catch it first. */
#define SIM_PLANTED_MAP(X)                                                                         \
    X(ACK_BEFORE_SYNC, "ack-before-sync", SIM_CHAOS, "FENCE ACK COMMIT")                           \
    X(SKIP_CHECKSUM, "skip-checksum", SIM_ROTTEN,                                                  \
      "RECORD DIVERGED STORED STATE RECOVERY ALARM FAILED")                                        \
    X(AUTO_RECOVERY, "auto-recovery", SIM_ROTTEN, "COMPLETE COMMIT DIVERGED DROPPED LOST VOTE")    \
    X(VOTE_NOT_KEPT, "vote-not-kept", SIM_CHAOS, "VOTE LEADERS RECOVERY")                          \
    X(CAS_AT_LEADER, "cas-at-leader", SIM_CHAOS, "CAS")                                            \
    X(DEDUP_AT_LEADER, "dedup-at-leader", SIM_CHAOS, "TWICE")                                      \
    X(STANDBY_COUNTS, "standby-counts", SIM_MEMBERS, "COMMIT COMPLETE")                            \
    X(DESTROY_AT_CALL, "destroy-at-call", SIM_MEMBERS, "SERVE LEVEL COMMIT COMPLETE")              \
    X(SAME_ID, "same-id", SIM_MEMBERS, "COMMIT COMPLETE VOTE LEADERS DIVERGED")                    \
    X(STORE_NO_SYNC, "store-no-sync", SIM_STORE, "RESTORE OPEN TORN DAMAGE CONTENT STATE")         \
    X(STORE_NO_NAME, "store-no-name", SIM_STORE, "RESTORE OPEN TORN DAMAGE CONTENT STATE")         \
    X(REMOVED_COMES_BACK, "removed-comes-back", SIM_STORE, "CONTENT STATE RESTORE DIE")

enum sim_planted {
    SIM_PLANTED_NONE,
#define SIM_PLANTED_ENUM(name, text, scenario, oracles) SIM_PLANTED_##name,
    SIM_PLANTED_MAP(SIM_PLANTED_ENUM)
#undef SIM_PLANTED_ENUM
        SIM_PLANTED_COUNT
};

struct sim_planted_bug {
    const char *text;
    enum sim_scenario scenario;
    const char *oracles; /* Separated by spaces. */
};
const struct sim_planted_bug *sim_planted_bug(enum sim_planted bug);
/* SIM_PLANTED_NONE: unknown. */
enum sim_planted sim_planted_find(const char *text);
/* Is @oracle one of those that are to catch it? */
bool sim_planted_is_named(enum sim_planted bug, const char *oracle);
#endif
