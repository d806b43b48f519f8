/* How long the turns of the event loop take, and with what.
 *
 * Whoever begins work that may take long says so (loop_enter); the time of a turn is added up by
 * activity. A turn above WATCHDOG_LONG_MS is counted and logged, at most one line a second unless
 * it is the longest so far, with the activity that took most of it and the longest single piece.
 * Wall time and the thread's own CPU time are told apart: a turn that took long and worked little
 * waited for a processor, a lock or the kernel.
 *
 * Times are of a clock that stands still while the loop waits for something to do; a turn is what
 * passes between two waits. Cost: a read of that clock for each change of activity, and a system
 * call for each millisecond of work. Loop thread only; the caller passes the times. */
#ifndef CLUSTER_WATCHDOG_H
#define CLUSTER_WATCHDOG_H
#include <stdbool.h>
#include <stdint.h>

#define WATCHDOG_LONG_MS 20 /* No turn is to take longer (design 5). */

#define WATCHDOG_ACTIVITY_MAP(X)                                                                   \
    X(OTHER, "other")                                                                              \
    X(CLIENTS, "clients") /* Reading clients, and what they ask for. */                            \
    X(PEERS, "peers")     /* Reading other nodes. */                                               \
    X(RAFT, "raft")       /* The group host, but for what it calls. */                             \
    X(APPLY, "apply")     /* Committed entries through a stream's or meta's machine. */            \
    X(DELIVER, "deliver") /* Matching messages and pull requests. */                               \
    X(PROPOSE, "propose") /* Batches become entries. */                                            \
    X(API, "api")         /* $JS.API. */                                                           \
    X(FLUSH, "flush")     /* The loop's part of a flush pass. */                                   \
    X(IMAGE, "image")     /* Images made and taken. */                                             \
    X(STREAMS, "streams") /* Replicas that begin and end. */                                       \
    X(TICK, "tick")       /* What is done each tick. */                                            \
    X(MONITOR, "monitor") /* Answers on the monitoring port. */                                    \
    X(WRITES, "writes")   /* Writing to clients and other nodes. */

enum watchdog_activity {
#define X(name, text) WATCHDOG_##name,
    WATCHDOG_ACTIVITY_MAP(X)
#undef X
        WATCHDOG_COUNT
};

/* What is done, and the group it is for; 0: none. */
struct watchdog_at {
    enum watchdog_activity activity;
    uint64_t gid;
};

/* A long turn. */
struct watchdog_turn {
    uint64_t took_ns;
    uint64_t cpu_ns;                 /* Of the loop's thread; may be up to 1 ms too much. */
    enum watchdog_activity activity; /* That took most of it, */
    uint64_t activity_ns;            /* and how long. */
    struct watchdog_at piece;        /* The longest piece at a stretch. */
    uint64_t piece_ns;
};

/* Embed it; begins as zeros. */
struct watchdog {
    uint64_t turns;
    uint64_t long_count;          /* Turns above WATCHDOG_LONG_MS of wall time. */
    uint64_t busy_count;          /* Those that worked for so long. */
    struct watchdog_turn longest; /* By CPU time. */

    /* Private. */
    uint64_t by_activity_ns[WATCHDOG_COUNT];
    struct watchdog_turn turn; /* Under way. */
    struct watchdog_at at;
    uint64_t began_ns;
    uint64_t piece_began_ns;
    uint64_t cpu_sampled_ns; /* When cpu_ns was read. */
    uint64_t cpu_ns;
    uint64_t logged_ns;
    uint64_t logged_count;
};

const char *watchdog_activity_text(enum watchdog_activity a);

/* Whether watchdog_begin wants a fresh @cpu_ns. */
bool watchdog_wants_cpu(const struct watchdog *w, uint64_t now_ns);
/* A turn begins, with waiting. @cpu_ns: of the thread, when it was wanted. */
void watchdog_begin(struct watchdog *w, uint64_t now_ns, uint64_t cpu_ns);
/* The turn goes on with @to; returns what it did until now. */
struct watchdog_at watchdog_enter(struct watchdog *w, struct watchdog_at to, uint64_t now_ns);
/* The loop is about to wait again: whether the turn was a long one. */
bool watchdog_end(struct watchdog *w, uint64_t now_ns);
/* After watchdog_end told a long one. @cpu_ns and @wall_ns: now. True when a line is due in the
 * log; then *ret is what it is about, and *ret_count how many long turns there were since the last.
 */
bool watchdog_long(struct watchdog *w, uint64_t cpu_ns, uint64_t wall_ns, struct watchdog_turn *ret,
                   uint64_t *ret_count);
#endif
