/* Power cuts at every point of a WAL's life and of its recovery, and calls that fail: what was
 * reported durable is handed out, in order; nothing is invented; a torn tail suspects nobody. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "tests/unit/wal_world.h"

#define KEY_AFTER 1000000u

/* A world of its own on @disk, which knows what @from knows. */
static struct wal_world *world_on(struct sim_disk *disk, const struct wal_world *from)
{
    struct wal_world *y = xmalloc(sizeof *y);
    memcpy(y, from, sizeof *y);
    y->disk = disk;
    y->o.ops = sim_disk_ops(disk);
    y->w = NULL;
    return y;
}

/* What was handed out is at least what @p promises. */
static void check_promise(const struct wal_world *x, const struct wal_promise *p, const char *when)
{
    cr_assert_eq(x->wrong, 0, "%s: records that nobody appended", when);
    for (uint64_t lsn = p->trim_lsn; lsn <= p->durable_lsn; lsn++) {
        cr_assert(x->appended[lsn] == 0 || x->seen[lsn] == x->appended[lsn],
                  "%s: LSN %" PRIu64 " of %" PRIu64 " durable is lost", when, lsn, p->durable_lsn);
    }
    for (uint64_t lsn = p->trim_lsn; lsn < x->last_seen; lsn++) {
        cr_assert(x->appended[lsn] == 0 || x->seen[lsn] != 0, "%s: a gap at LSN %" PRIu64, when,
                  lsn);
    }
    cr_assert_gt(wal_next_lsn(x->w), p->durable_lsn, "%s", when);
    cr_assert_geq(wal_next_lsn(x->w), p->trim_lsn, "%s", when);
    cr_assert_eq(wal_durable_lsn(x->w) + 1, wal_next_lsn(x->w));
}

static void check_unhurt(const struct wal_world *x, const char *when)
{
    cr_assert_not(x->found.is_rotten, "%s: %s", when, x->found.damaged_file);
    cr_assert_not(x->found.is_corrupt, "%s: %s", when, x->found.damaged_file);
    cr_assert_not(x->found.has_unknown_groups, "%s", when);
    cr_assert_eq(x->suspects, 0, "%s", when);
}

/* An open world writes on; it and what was there come back. */
static void check_goes_on(struct wal_world *x, const char *when)
{
    wal_world_adopt(x);
    for (unsigned i = 0; i < 3; i++) {
        (void)wal_world_append(x, KEY_AFTER + i, 100 + 900 * i);
        cr_assert_eq(wal_world_commit(x), 0, "%s", when);
    }
    struct wal_promise p = {0, wal_durable_lsn(x->w), x->trim_lsn};
    wal_world_close(x);
    sim_disk_crash_all(x->disk, false);
    cr_assert_eq(wal_world_open(x), 0, "%s", when);
    check_promise(x, &p, when);
    check_unhurt(x, when);
}

struct crash {
    const struct wal_world *x;       /* Whose trace it is. */
    const struct wal_promise *fixed; /* Promised whatever the prefix; NULL: what the world says. */
    uint64_t states, torn, longer;
    uint64_t nested_every; /* Of each such many states the recovery is cut, too; 0: none. */
    uint64_t nested;
};

static bool on_state(void *arg, struct sim_disk *state, uint64_t prefix)
{
    struct crash *c = arg;
    char when[64];
    (void)snprintf(when, sizeof when, "%sprefix %" PRIu64 " state %" PRIu64,
                   c->fixed != NULL ? "in recovery, " : "", prefix, c->states);
    struct wal_promise p = c->fixed != NULL ? *c->fixed : wal_world_promise(c->x, prefix);
    struct wal_world *y = world_on(state, c->x);
    y->trim_lsn = p.trim_lsn;
    c->states++;
    bool is_nested = c->nested_every != 0 && c->states % c->nested_every == 0;
    if (is_nested) {
        sim_disk_trace_start(state);
    }
    cr_assert_eq(wal_world_open(y), 0, "%s", when);
    check_promise(y, &p, when);
    check_unhurt(y, when);
    c->torn += y->found.is_torn;
    c->longer += y->last_seen > p.durable_lsn;
    uint64_t last_seen = y->last_seen;
    if (is_nested) {
        /* The power cut decided what is there: cut anywhere, recovery gives the same again. */
        wal_world_adopt(y);
        p.durable_lsn = y->last_seen;
        struct crash in = {.x = y, .fixed = &p};
        struct sim_disk_states how = {.subsets_max = 4, .prefix_step = 1, .seed = c->states};
        (void)sim_disk_each_state(state, &how, on_state, &in);
        c->nested += in.states;
    }
    wal_world_close(y);
    sim_disk_crash_all(state, false);
    cr_assert_eq(wal_world_open(y), 0, "%s", when);
    check_promise(y, &p, when);
    cr_assert_eq(y->last_seen, last_seen, "%s: opening again gives something else", when);
    check_unhurt(y, when);
    check_goes_on(y, when);
    wal_world_close(y);
    free(y);
    return true;
}

static void small(struct wal_world *x)
{
    x->o.segment_bytes_min = 6 * 4096;
    x->o.segment_bytes_max = 12 * 4096;
}

/* A new disk that has seen some lives, each ended by a power cut. */
static struct wal_world *world_new(uint64_t seed, bool is_direct, unsigned lives, uint64_t *rng)
{
    struct wal_world *x = xmalloc(sizeof *x);
    struct sim_disk *d = sim_disk_new(seed);
    sim_disk_set_direct(d, is_direct);
    wal_world_init(x, d);
    small(x);
    for (unsigned i = 0; i < lives; i++) {
        cr_assert_eq(wal_world_open(x), 0);
        wal_world_adopt(x);
        cr_assert_eq(wal_world_live(x, 25, rng), 0);
        (void)wal_world_append(x, x->next_key++, 3000);
        cr_assert(wal_batch_take(x->w));
        cr_assert_eq(wal_batch_write(x->w, NULL), 0); /* Written, and nobody is told. */
        wal_world_close(x);
        sim_disk_crash(d, seed + i);
    }
    return x;
}

static void world_free(struct wal_world *x)
{
    wal_world_close(x);
    sim_disk_free(x->disk);
    free(x);
}

static void cut_everywhere(bool is_direct, unsigned lives)
{
    struct crash sum = {0};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        uint64_t rng = seed * 77 + lives;
        struct wal_world *x = world_new(seed, is_direct, lives, &rng);
        sim_disk_trace_start(x->disk);
        /* The opening is part of the trace: before it ends, what was promised before holds. */
        struct wal_promise before =
            lives == 0 ? (struct wal_promise){0, 0, 1} : wal_world_promise(x, UINT64_MAX);
        before.at = 0;
        cr_assert_eq(wal_world_open(x), 0);
        check_promise(x, &before, "open");
        wal_world_adopt(x);
        x->promises[1] = x->promises[0];
        x->promises[1].at = sim_disk_trace_count(x->disk);
        x->promises[0] = before;
        x->promises_count = 2;
        cr_assert_eq(wal_world_live(x, 40, &rng), 0);
        struct crash c = {.x = x, .nested_every = 53};
        struct sim_disk_states how = {.subsets_max = 8, .prefix_step = 1, .seed = seed};
        (void)sim_disk_each_state(x->disk, &how, on_state, &c);
        sum.states += c.states;
        sum.torn += c.torn;
        sum.longer += c.longer;
        sum.nested += c.nested;
        world_free(x);
    }
    cr_log_info("%" PRIu64 " states, %" PRIu64 " torn, %" PRIu64 " longer, %" PRIu64 " nested",
                sum.states, sum.torn, sum.longer, sum.nested);
    cr_assert_gt(sum.states, 800);
    cr_assert_gt(sum.torn, 20);
    cr_assert_gt(sum.longer, 5);
    cr_assert_gt(sum.nested, 50);
}

Test(wal_crash, a_power_cut_anywhere_loses_nothing_durable_direct)
{
    cut_everywhere(true, 0);
}

Test(wal_crash, a_power_cut_anywhere_loses_nothing_durable_buffered)
{
    cut_everywhere(false, 0);
}

Test(wal_crash, a_power_cut_anywhere_after_earlier_ones_loses_nothing_durable)
{
    cut_everywhere(true, 3);
    cut_everywhere(false, 3);
}

/* ---- Calls that fail ---- */

static void check_after_failure(struct wal_world *x, const struct wal_promise *p, uint64_t seed,
                                const char *when)
{
    wal_world_close(x);
    sim_disk_fail(x->disk, SIM_DISK_ANY, 0, 0);
    sim_disk_set_capacity(x->disk, UINT64_MAX);
    /* First the process alone ends: reads see a page cache that the disk does not have. */
    if (seed % 2 == 0) {
        cr_assert_eq(wal_world_open(x), 0, "%s", when);
        check_promise(x, p, when);
        check_unhurt(x, when);
        wal_world_adopt(x);
        struct wal_promise q = {0, wal_durable_lsn(x->w), x->trim_lsn};
        wal_world_close(x);
        sim_disk_crash(x->disk, seed);
        cr_assert_eq(wal_world_open(x), 0, "%s", when);
        check_promise(x, &q, when);
    } else {
        sim_disk_crash(x->disk, seed);
        cr_assert_eq(wal_world_open(x), 0, "%s", when);
        check_promise(x, p, when);
    }
    check_unhurt(x, when);
    check_goes_on(x, when);
}

static void fail_each_call(bool is_direct, int err)
{
    uint64_t failed = 0;
    for (uint64_t nth = 1;; nth++) {
        uint64_t rng = 9;
        struct wal_world *x = world_new(nth, is_direct, 0, &rng);
        char when[48];
        (void)snprintf(when, sizeof when, "call %" PRIu64, nth);
        cr_assert_eq(wal_world_open(x), 0);
        uint64_t calls = sim_disk_calls(x->disk, SIM_DISK_ANY);
        sim_disk_fail(x->disk, SIM_DISK_ANY, nth, err);
        int rv = wal_world_live(x, 60, &rng);
        calls = sim_disk_calls(x->disk, SIM_DISK_ANY) - calls;
        cr_assert(rv == 0 || rv == err, "%s: %d", when, rv);
        /* On a full disk the next segment is not filled ahead, and that is no error yet. */
        bool may_pass = err == ERR_NOSPACE && rv == 0;
        cr_assert(may_pass || (rv != 0) == (calls >= nth), "%s: an error went unnoticed", when);
        if (rv != 0) {
            cr_assert_eq(calls, nth, "%s: another call after the failed one", when);
        }
        failed += rv != 0;
        struct wal_promise p = wal_world_promise(x, UINT64_MAX);
        cr_assert_eq(p.durable_lsn, wal_durable_lsn(x->w));
        check_after_failure(x, &p, nth, when);
        world_free(x);
        if (calls < nth) {
            break;
        }
    }
    cr_assert_gt(failed, 60);
}

Test(wal_crash, each_failing_call_is_an_error_and_never_a_false_durable_lsn)
{
    fail_each_call(true, ERR_IO);
    fail_each_call(false, ERR_IO);
    fail_each_call(true, ERR_NOSPACE);
}

Test(wal_crash, each_failing_call_of_a_recovery_is_an_error_and_loses_nothing)
{
    for (int is_direct = 0; is_direct < 2; is_direct++) {
        uint64_t nth = 1;
        for (int rv = -1; rv != 0; nth++) {
            uint64_t rng = 5;
            struct wal_world *x = world_new(7, is_direct != 0, 2, &rng);
            struct wal_promise p = wal_world_promise(x, UINT64_MAX);
            char when[48];
            (void)snprintf(when, sizeof when, "call %" PRIu64, nth);
            sim_disk_fail(x->disk, SIM_DISK_ANY, nth, ERR_IO);
            uint64_t calls = sim_disk_calls(x->disk, SIM_DISK_ANY);
            rv = wal_world_open(x);
            calls = sim_disk_calls(x->disk, SIM_DISK_ANY) - calls;
            if (rv != 0) {
                cr_assert_eq(rv, ERR_IO, "%s", when);
                cr_assert_eq(calls, nth, "%s: another call after the failed one", when);
            }
            check_after_failure(x, &p, nth, when);
            world_free(x);
        }
        cr_assert_gt(nth, 15);
    }
}

Test(wal_crash, a_full_disk_stops_growth_with_an_error_and_keeps_everything)
{
    for (uint64_t room = 0; room < 40; room++) {
        uint64_t rng = 3;
        struct wal_world *x = world_new(room, true, 1, &rng);
        struct wal_promise p = wal_world_promise(x, UINT64_MAX);
        char when[48];
        (void)snprintf(when, sizeof when, "room %" PRIu64, room);
        sim_disk_set_capacity(x->disk, sim_disk_used_bytes(x->disk) + room * 4096);
        int rv = wal_world_open(x);
        if (rv == 0) {
            check_promise(x, &p, when);
            wal_world_adopt(x);
            for (unsigned i = 0; i < 200 && rv == 0; i++) {
                (void)wal_world_append(x, x->next_key++, 3000);
                rv = wal_world_commit(x);
            }
            p = wal_world_promise(x, UINT64_MAX);
        }
        cr_assert_eq(rv, ERR_NOSPACE, "%s", when);
        check_after_failure(x, &p, room, when);
        world_free(x);
    }
}
