#include "broker/log_time.h"

#include <stdlib.h>

/* ---- A node's clock ---- */

#define STEP_NS 1000000 /* Slew is counted from points so far apart: it does not round away. */

void node_clock_start(struct node_clock *c, int64_t wall_ns, int64_t mono_ns)
{
    int64_t ns = wall_ns < 1 ? 1 : wall_ns;
    *c = (struct node_clock){ns, mono_ns, ns};
}

int64_t node_clock_read(struct node_clock *c, int64_t wall_ns, int64_t mono_ns)
{
    int64_t elapsed_ns = mono_ns - c->mono_ns;
    int64_t ns = c->ns + elapsed_ns;
    int64_t off_ns = wall_ns - ns;
    int64_t max_ns = elapsed_ns / TIME_SLEW_DIVISOR;
    ns += off_ns > max_ns ? max_ns : off_ns < -max_ns ? -max_ns : off_ns;
    c->told_ns = ns > c->told_ns ? ns : c->told_ns;
    if (elapsed_ns >= STEP_NS) {
        c->ns = c->told_ns;
        c->mono_ns = mono_ns;
    }
    return c->told_ns;
}

/* ---- The clock of another node, as heard ---- */

void heard_clock_add(struct heard_clock *h, int64_t clock_ns, int64_t mono_ns)
{
    h->bases_ns[h->next] = clock_ns - mono_ns;
    h->next = (h->next + 1) % TIME_HEARD_MAX;
    h->count += h->count < TIME_HEARD_MAX;
}

bool heard_clock_base(const struct heard_clock *h, int64_t *ret_base_ns)
{
    if (h->count == 0) {
        return false;
    }
    int64_t base_ns = h->bases_ns[0];
    for (unsigned i = 1; i < h->count; i++) {
        base_ns = h->bases_ns[i] > base_ns ? h->bases_ns[i] : base_ns;
    }
    *ret_base_ns = base_ns;
    return true;
}

/* ---- The agreed clock ---- */

static int by_value(const void *a, const void *b)
{
    const int64_t *x = a;
    const int64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static int64_t distance(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

/* False: too few were heard. Of two in the middle the one that is nearer to what was known counts,
 * at first the earlier: else one that comes or goes could make a right clock a wrong one. */
static bool median(const struct agreed_time *a, const struct agreed_view *v, int64_t *ret_base_ns)
{
    int64_t bases_ns[TIME_CLOCKS_MAX + 1];
    size_t count = 0;
    bases_ns[count++] = a->own_base_ns;
    for (size_t i = 0; i < v->clocks_count; i++) {
        bases_ns[count++] = v->clocks[i].base_ns;
    }
    if (count < v->nodes_count / 2 + 1) {
        return false;
    }
    qsort(bases_ns, count, sizeof bases_ns[0], by_value);
    int64_t low_ns = bases_ns[(count - 1) / 2];
    int64_t high_ns = bases_ns[count / 2];
    bool is_high = a->is_known && distance(high_ns, a->base_ns) < distance(low_ns, a->base_ns);
    *ret_base_ns = is_high ? high_ns : low_ns;
    return true;
}

static bool is_near(int64_t a, int64_t b)
{
    return distance(a, b) <= TIME_SKEW_NS;
}

/* Somebody who has seen it stand for long and is right himself says that it is this one. */
static bool is_vouched_for(const struct agreed_time *a, const struct agreed_view *v)
{
    for (size_t i = 0; i < v->clocks_count; i++) {
        if (v->clocks[i].is_sure && is_near(v->clocks[i].base_ns, a->base_ns)) {
            return true;
        }
    }
    return false;
}

static void judge_skew(struct agreed_time *a, bool is_off, int64_t mono_ns)
{
    if (is_off == a->is_skewed) {
        a->is_verdict_new = false;
        return;
    }
    if (!a->is_verdict_new) {
        a->is_verdict_new = true;
        a->verdict_ns = mono_ns;
    }
    if (mono_ns - a->verdict_ns >= TIME_VERDICT_NS) {
        a->is_skewed = is_off;
        a->is_verdict_new = false;
    }
}

void agreed_time_look(struct agreed_time *a, const struct agreed_view *v)
{
    if (!a->is_begun) {
        a->is_begun = true;
        a->begun_ns = v->mono_ns;
    }
    a->own_base_ns = v->own_ns - v->mono_ns;
    a->heard_count = v->clocks_count + 1;
    a->jumped_ns = 0;
    int64_t base_ns = a->own_base_ns;
    bool is_majority = median(a, v, &base_ns);
    bool is_taken = is_majority || (!a->is_known && v->mono_ns - a->begun_ns >= TIME_STAND_NS);
    if (is_taken) {
        bool is_jump = a->is_known && !is_near(base_ns, a->base_ns);
        a->jumped_ns = is_jump ? base_ns - a->base_ns : 0;
        if (is_jump || !a->is_known) {
            a->stands_ns = v->mono_ns;
        }
        a->base_ns = base_ns;
        a->is_known = true;
    }
    bool is_off = a->is_known && !is_near(a->own_base_ns, a->base_ns);
    bool has_stood = a->is_known && v->mono_ns - a->stands_ns >= TIME_STAND_NS;
    a->is_sure = has_stood && is_majority && !is_off;
    a->is_settled = has_stood || (is_majority && is_vouched_for(a, v));
    if (is_majority) {
        judge_skew(a, is_off, v->mono_ns);
    }
    a->is_step_due = is_majority && a->is_skewed && is_near(v->wall_ns - v->mono_ns, a->base_ns);
}

int64_t agreed_time_ns(const struct agreed_time *a, int64_t own_ns, int64_t mono_ns)
{
    return a->is_known ? a->base_ns + mono_ns : own_ns;
}

int64_t agreed_time_offset(const struct agreed_time *a)
{
    return a->is_known ? a->own_base_ns - a->base_ns : 0;
}

/* ---- Log time ---- */

void log_time_start(struct log_time *t, int64_t ns, int64_t mono_ns)
{
    *t = (struct log_time){ns, mono_ns};
}

/* By what passed alone. All replicas slew alike, so that whoever leads next goes on where the last
 * one was. */
static int64_t run_on(struct log_time *t, const struct agreed_time *a, int64_t mono_ns)
{
    int64_t elapsed_ns = mono_ns - t->mono_ns;
    int64_t ns = t->ns + elapsed_ns;
    int64_t ahead_ns = a->is_known ? ns - (a->base_ns + mono_ns) : 0;
    if (ahead_ns > 0) {
        int64_t slew_ns = elapsed_ns / TIME_SLEW_DIVISOR;
        ns -= slew_ns < ahead_ns ? slew_ns : ahead_ns;
    }
    if (elapsed_ns >= STEP_NS) {
        *t = (struct log_time){ns, mono_ns};
    }
    return ns;
}

void log_time_applied(struct log_time *t, int64_t ns, const struct agreed_time *a, int64_t mono_ns)
{
    /* The entry is older than its being applied: what ran on meanwhile is not taken back. */
    if (ns > run_on(t, a, mono_ns)) {
        *t = (struct log_time){ns, mono_ns};
    }
}

int64_t log_time_doubt(struct log_time *t, const struct agreed_time *a, int64_t mono_ns)
{
    int64_t ns = run_on(t, a, mono_ns);
    int64_t jump_ns = a->is_known ? a->base_ns + mono_ns - ns : 0;
    return jump_ns > TIME_JUMP_NS && !a->is_settled ? jump_ns : 0;
}

int64_t log_time_now(struct log_time *t, const struct agreed_time *a, int64_t mono_ns)
{
    int64_t ns = run_on(t, a, mono_ns);
    if (!a->is_known || log_time_doubt(t, a, mono_ns) > 0) {
        return ns;
    }
    int64_t agreed_ns = a->base_ns + mono_ns;
    return agreed_ns > ns ? agreed_ns : ns;
}

int64_t log_time_run_on(struct log_time *t, const struct agreed_time *a, int64_t mono_ns)
{
    return run_on(t, a, mono_ns);
}

/* Is the agreed clock known and believed? And by how much it is ahead of what runs on. */
static bool is_sure_of(struct log_time *t, const struct agreed_time *a, int64_t mono_ns,
                       int64_t *ret_shift_ns)
{
    int64_t ahead_ns = a->is_known ? a->base_ns + mono_ns - run_on(t, a, mono_ns) : 0;
    *ret_shift_ns = ahead_ns > 0 ? ahead_ns : 0;
    return a->is_known && log_time_doubt(t, a, mono_ns) == 0;
}

enum log_time_news log_time_news(struct log_time *t, const struct agreed_time *a, int64_t mono_ns,
                                 bool is_told_unsure, int64_t told_lag_ns, int64_t *ret_ns)
{
    bool is_sure = is_sure_of(t, a, mono_ns, ret_ns);
    if (is_sure) {
        *ret_ns = *ret_ns < TIME_SHIFT_MIN_NS ? 0 : *ret_ns;
        return is_told_unsure ? LOG_TIME_SURE : LOG_TIME_NO_NEWS;
    }
    bool is_news = !is_told_unsure || (a->is_known && !is_near(*ret_ns, told_lag_ns));
    return is_news ? LOG_TIME_UNSURE : LOG_TIME_NO_NEWS;
}
