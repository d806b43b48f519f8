/* Which time goes into a stream's log (design 4, Time). Pure: clocks are handed in.
 *
 *   wall clock --node_clock--> a node's clock --agreed_time--> the agreed clock --log_time-->
 * stamps
 *
 * A node's clock is the wall clock read at the start and from then on the monotonic one, slewed to
 * the wall by at most 1 ms a second: a wall clock that jumps moves nothing.
 *
 * The agreed clock is the median of the clocks of a majority of nodes; of two in the middle the one
 * nearer to what was agreed before, at first the earlier, which removes nothing too soon. With it a
 * leader whose own clock is wrong stamps right. Who is more than TIME_SKEW_NS off leads no streams.
 * A node that has heard no majority since it started does not know it, and keeps what it knew when
 * it hears one no more.
 *
 * Log time is that of the last entry applied and what has passed since. The agreed clock moves it
 * forward: by up to TIME_JUMP_NS at once, by more only when it has stood for TIME_STAND_NS, so that
 * nothing expires by a clock that is about to be put right. It never goes back: ahead of the agreed
 * clock it runs 1 ms a second slower, so ages are kept to a thousandth. What is stamped while it is
 * not known or not believed is told in the log (stream_shift.h).
 *
 * All times in ns; mono_ns is of a monotonic clock of this node that also counts while the machine
 * sleeps. A clock's base is what it shows less mono_ns, at the same moment. */
#ifndef BROKER_LOG_TIME_H
#define BROKER_LOG_TIME_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIME_SKEW_NS 1000000000ll
#define TIME_JUMP_NS (3600 * 1000000000ll)
#define TIME_STAND_NS (60 * 1000000000ll)
#define TIME_SHIFT_MIN_NS 100000000ll
#define TIME_SLEW_DIVISOR 1000
#define TIME_VERDICT_NS 1000000000ll /* So long skew must last to count, or to be over. */
#define TIME_CLOCKS_MAX 65u          /* PEERS_MAX and this node. */
#define TIME_HEARD_MAX 16u

/* ---- A node's clock ---- */

struct node_clock {
    int64_t ns; /* At mono_ns. Private. */
    int64_t mono_ns;
    int64_t told_ns;
};

/* Also to set it anew. What is before 1970 counts as 1970. */
void node_clock_start(struct node_clock *c, int64_t wall_ns, int64_t mono_ns);
/* Does not go back while @mono_ns does not. */
int64_t node_clock_read(struct node_clock *c, int64_t wall_ns, int64_t mono_ns);

/* ---- The clock of another node, as heard ---- */

/* What is heard is late by the way here, so of the last few the latest base is the truest. All zero
 * at first. */
struct heard_clock {
    int64_t bases_ns[TIME_HEARD_MAX]; /* A ring. Private. */
    unsigned count;
    unsigned next;
};

void heard_clock_add(struct heard_clock *h, int64_t clock_ns, int64_t mono_ns);
/* False: nothing was heard. */
bool heard_clock_base(const struct heard_clock *h, int64_t *ret_base_ns);

/* ---- The agreed clock ---- */

struct agreed_clock_of {
    int64_t base_ns;
    bool is_sure; /* It says so itself: agreed_time.is_sure there. */
};

struct agreed_view {
    int64_t mono_ns;
    int64_t own_ns;     /* This node's clock. */
    int64_t wall_ns;    /* Its wall clock. */
    size_t nodes_count; /* Of the cluster, this one among them. */
    size_t clocks_count;
    struct agreed_clock_of clocks[TIME_CLOCKS_MAX]; /* Of other nodes that are up. */
};

/* All zero at first. */
struct agreed_time {
    int64_t base_ns; /* Of the agreed clock. */
    int64_t own_base_ns;
    size_t heard_count;  /* Clocks of the last look, the own among them. */
    bool is_known;       /* Else there is none: see agreed_time_ns. */
    bool is_settled;     /* It has stood for TIME_STAND_NS: any jump is believed. */
    bool is_sure;        /* By what this node saw itself, and its own clock is right. */
    bool is_skewed;      /* This node's clock is wrong: it should lead nothing. */
    bool is_step_due;    /* And its wall clock is right: node_clock_start is in place. */
    int64_t jumped_ns;   /* By how much the agreed clock jumped in this look; 0: it did not. */
    bool is_begun;       /* Private from here on. */
    int64_t begun_ns;    /* mono_ns of the first look, */
    int64_t stands_ns;   /* since when it stands, */
    int64_t verdict_ns;  /* and since when is_skewed is not what is seen. */
    bool is_verdict_new; /* It is not. */
};

/* Look at the clocks; often, as each 100 ms. */
void agreed_time_look(struct agreed_time *a, const struct agreed_view *view);
/* The agreed time, or @own_ns when it is not known. */
int64_t agreed_time_ns(const struct agreed_time *a, int64_t own_ns, int64_t mono_ns);
/* By how much this node's clock is ahead; 0 when the agreed one is not known. */
int64_t agreed_time_offset(const struct agreed_time *a);

/* ---- Log time ---- */

struct log_time {
    int64_t ns; /* At mono_ns. Private. */
    int64_t mono_ns;
};

/* The state's time is @ns, and how long that was ago is not known. */
void log_time_start(struct log_time *t, int64_t ns, int64_t mono_ns);
/* The state's time is @ns after an entry that was applied now. */
void log_time_applied(struct log_time *t, int64_t ns, const struct agreed_time *a, int64_t mono_ns);
/* The time to stamp an entry with now, and to compare due times with. */
int64_t log_time_now(struct log_time *t, const struct agreed_time *a, int64_t mono_ns);
/* The log's time by what passed alone: to stamp with while its stamps are unsure. */
int64_t log_time_run_on(struct log_time *t, const struct agreed_time *a, int64_t mono_ns);
/* What a leader is to tell of its stamps (stream_shift.h), given what was told last. It has applied
 * all that came before. Less than TIME_SHIFT_MIN_NS is no shift. */
enum log_time_news {
    LOG_TIME_NO_NEWS,
    LOG_TIME_UNSURE, /* With *ret_ns: the lag; also when it is another one. */
    LOG_TIME_SURE,   /* With *ret_ns: the shift. */
};
enum log_time_news log_time_news(struct log_time *t, const struct agreed_time *a, int64_t mono_ns,
                                 bool is_told_unsure, int64_t told_lag_ns, int64_t *ret_ns);
/* By how much the agreed clock is ahead of the log's time while that is not believed; 0: it is. */
int64_t log_time_doubt(struct log_time *t, const struct agreed_time *a, int64_t mono_ns);
#endif
