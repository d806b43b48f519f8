#include <criterion/criterion.h>

#include "cluster/flush_pace.h"

#define MIB (UINT64_C(1) << 20)
#define STEP_MS 10u

/* A disk, and publishers that take all they get, as js_flush.c has them. */
struct world {
    struct flush_pace pace;
    uint64_t now_ms;
    uint64_t disk_per_s; /* Bytes. */
    uint64_t publishers_per_s;
    uint64_t dirty;
    uint64_t pass; /* Of them, those of the pass that runs. */
    uint64_t left; /* And of those, what is not written. */
    uint64_t closed_ms;
    uint64_t longest_ms; /* That nothing was taken at a stretch. */
    uint64_t dirty_most;
};

static void run(struct world *w, uint64_t ms)
{
    for (uint64_t end_ms = w->now_ms + ms; w->now_ms < end_ms; w->now_ms += STEP_MS) {
        if (w->dirty >= flush_pace_max(&w->pace, w->now_ms)) {
            w->closed_ms += STEP_MS;
            w->longest_ms = w->closed_ms > w->longest_ms ? w->closed_ms : w->longest_ms;
        } else {
            w->closed_ms = 0;
            w->dirty += w->publishers_per_s * STEP_MS / 1000;
        }
        w->dirty_most = w->dirty > w->dirty_most ? w->dirty : w->dirty_most;
        if (w->pass == 0 && w->dirty >= flush_pace_due(&w->pace)) {
            w->pass = w->left = w->dirty;
            flush_pace_begin(&w->pace, w->pass, w->now_ms);
        }
        uint64_t written = w->disk_per_s * STEP_MS / 1000;
        w->left = w->left > written ? w->left - written : 0;
        if (w->pass > 0 && w->left == 0) {
            flush_pace_end(&w->pace, w->now_ms);
            w->dirty -= w->pass;
            w->pass = 0;
        }
    }
}

static struct world slow_disk(void)
{
    return (struct world){.disk_per_s = 17 * MIB, .publishers_per_s = 100 * MIB};
}

/* The limit was the same for all disks: one megabyte in 60 ms, and all publishers waited for seven
 * seconds and more, again and again. */
Test(flush_pace, a_slow_disk_lets_nobody_wait_for_long)
{
    struct world w = slow_disk();
    run(&w, 20000);
    cr_expect_leq(w.longest_ms, 8000u); /* What came before it was known to be slow. */
    w.longest_ms = w.closed_ms = 0;
    run(&w, 60000);
    cr_expect_gt(w.longest_ms, 0u);
    cr_expect_leq(w.longest_ms, 2000u, "%u ms", (unsigned)w.longest_ms);
}

Test(flush_pace, a_pass_that_goes_on_counts_before_it_ends)
{
    struct world w = slow_disk();
    w.disk_per_s = 0;
    run(&w, 30000);
    cr_expect_lt(w.dirty_most, FLUSH_PACE_BYTES_MAX);
}

Test(flush_pace, a_disk_that_takes_it_is_given_all)
{
    struct world w = {.disk_per_s = 120 * MIB, .publishers_per_s = 400 * MIB};
    run(&w, 30000);
    cr_expect_geq(w.dirty_most, FLUSH_PACE_BYTES_MAX);
}

Test(flush_pace, a_disk_that_is_fast_again_is_given_all_again)
{
    struct world w = slow_disk();
    run(&w, 60000);
    w.disk_per_s = 300 * MIB;
    w.publishers_per_s = 600 * MIB;
    run(&w, 5000);
    w.dirty_most = 0;
    run(&w, 5000);
    cr_expect_geq(w.dirty_most, FLUSH_PACE_BYTES_MAX);
}

Test(flush_pace, small_passes_say_nothing)
{
    struct flush_pace p = {0};
    for (uint64_t i = 0; i < 10; i++) {
        flush_pace_begin(&p, MIB, i * 10000);
        cr_expect_eq(flush_pace_max(&p, i * 10000 + 5000), FLUSH_PACE_BYTES_MAX);
        flush_pace_end(&p, i * 10000 + 5000);
    }
    cr_expect_eq(flush_pace_max(&p, 200000), FLUSH_PACE_BYTES_MAX);
}
