#include "tests/sim/sim_shrink.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"

#define SECOND 1000000

struct shrink {
    struct sim_plan *plan; /* The smallest so far. */
    struct sim_plan *next; /* Tried now. */
    unsigned tries;
    unsigned tries_max;
    sim_fails_cb fails;
    void *ctx;
};

/* Keep what is in next, if it fails too. */
static bool try_next(struct shrink *s)
{
    if (s->tries >= s->tries_max || memcmp(s->next, s->plan, sizeof *s->plan) == 0) {
        return false;
    }
    s->tries++;
    if (!s->fails(s->ctx, s->next)) {
        return false;
    }
    *s->plan = *s->next;
    return true;
}

static bool try_without(struct shrink *s, unsigned first, unsigned count)
{
    *s->next = *s->plan;
    unsigned end = first + count < s->plan->faults_count ? first + count : s->plan->faults_count;
    memmove(&s->next->faults[first], &s->plan->faults[end],
            (s->plan->faults_count - end) * sizeof s->plan->faults[0]);
    s->next->faults_count -= end - first;
    return try_next(s);
}

/* Halves, quarters … single faults; from the back, where most are without effect. */
static void leave_out(struct shrink *s)
{
    for (unsigned n = (s->plan->faults_count + 1) / 2; n > 0; n = n == 1 ? 0 : (n + 1) / 2) {
        unsigned first = s->plan->faults_count;
        while (first > 0) {
            first = first > n ? first - n : 0;
            (void)try_without(s, first, n);
        }
    }
}

static void shorten(struct shrink *s)
{
    for (unsigned i = 0; i < s->plan->faults_count; i++) {
        while (s->plan->faults[i].duration_us > 10000) {
            *s->next = *s->plan;
            s->next->faults[i].duration_us /= 4;
            if (!try_next(s)) {
                break;
            }
        }
    }
    int64_t last_us =
        s->plan->faults_count == 0 ? 0 : s->plan->faults[s->plan->faults_count - 1].at_us;
    *s->next = *s->plan;
    s->next->faults_us = last_us + SECOND;
    if (s->next->faults_us < s->plan->faults_us) {
        (void)try_next(s);
    }
}

static void simplify(struct shrink *s)
{
#define SIM_SHRINK_TRY(field, value)                                                               \
    *s->next = *s->plan;                                                                           \
    s->next->field = value;                                                                        \
    (void)try_next(s);
    SIM_SHRINK_TRY(net.is_datagram, false)
    SIM_SHRINK_TRY(net.stray_per_mille, 0)
    SIM_SHRINK_TRY(net.slow_per_mille, 0)
    SIM_SHRINK_TRY(net.has_late_frames, false)
    SIM_SHRINK_TRY(net.delay_max_us, s->plan->net.delay_min_us)
    SIM_SHRINK_TRY(disk_max_us, s->plan->disk_min_us)
    SIM_SHRINK_TRY(apply_max_us, 0)
    SIM_SHRINK_TRY(is_bursty, false)
    SIM_SHRINK_TRY(burst_max, 1)
    SIM_SHRINK_TRY(held_batches_max, 1)
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        SIM_SHRINK_TRY(drift_ppm[i], 0)
    }
    while (s->plan->groups_count > 1) {
        *s->next = *s->plan;
        s->next->groups_count--;
        for (unsigned i = 0; i < s->next->faults_count; i++) {
            struct sim_fault *f = &s->next->faults[i];
            bool is_group = f->node == SIM_NODE_LEADER || f->kind == SIM_FAULT_MOVE ||
                            f->kind == SIM_FAULT_GOAL;
            f->arg = is_group ? f->arg % s->next->groups_count : f->arg;
        }
        if (!try_next(s)) {
            break;
        }
    }
#undef SIM_SHRINK_TRY
}

unsigned sim_shrink(struct sim_plan *plan, unsigned tries_max, sim_fails_cb fails, void *ctx)
{
    struct shrink s = {.plan = plan,
                       .next = xcalloc(1, sizeof *plan),
                       .tries_max = tries_max,
                       .fails = fails,
                       .ctx = ctx};
    unsigned before;
    do {
        before = s.plan->faults_count;
        leave_out(&s);
        simplify(&s);
        shorten(&s);
    } while (s.plan->faults_count < before && s.tries < s.tries_max);
    free(s.next);
    return s.tries;
}
