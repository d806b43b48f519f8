#include <criterion/criterion.h>

#include "cluster/watchdog.h"

#define MS UINT64_C(1000000)

static const struct watchdog_at APPLY_7 = {WATCHDOG_APPLY, 7};
static const struct watchdog_at DELIVER_9 = {WATCHDOG_DELIVER, 9};

Test(watchdog, a_short_turn_is_none)
{
    struct watchdog w = {0};
    watchdog_begin(&w, 1000 * MS, 10 * MS);
    watchdog_enter(&w, APPLY_7, 1001 * MS);
    cr_assert_not(watchdog_end(&w, 1020 * MS));
    cr_assert_eq(w.long_count, 0);
    cr_assert_eq(w.turns, 1);
}

Test(watchdog, a_long_turn_is_told_with_what_took_most_and_the_longest_piece)
{
    struct watchdog w = {0};
    struct watchdog_turn t;
    uint64_t count;
    watchdog_begin(&w, 1000 * MS, 10 * MS);
    uint64_t now = 1000 * MS;
    for (int i = 0; i < 8; i++) { /* Many small ones outweigh a longer one. */
        struct watchdog_at was = watchdog_enter(&w, APPLY_7, now);
        cr_assert_eq(was.activity, WATCHDOG_OTHER);
        now += 5 * MS;
        was = watchdog_enter(&w, was, now);
        cr_assert_eq(was.activity, WATCHDOG_APPLY);
        cr_assert_eq(was.gid, 7);
    }
    watchdog_enter(&w, DELIVER_9, now);
    cr_assert(watchdog_end(&w, now + 9 * MS));
    cr_assert(watchdog_long(&w, 50 * MS, 5000 * MS, &t, &count));
    cr_assert_eq(t.took_ns, 49 * MS);
    cr_assert_eq(t.cpu_ns, 40 * MS);
    cr_assert_eq(t.activity, WATCHDOG_APPLY);
    cr_assert_eq(t.activity_ns, 40 * MS);
    cr_assert_eq(t.piece.activity, WATCHDOG_DELIVER);
    cr_assert_eq(t.piece.gid, 9);
    cr_assert_eq(t.piece_ns, 9 * MS);
    cr_assert_eq(count, 1);
    cr_assert_eq(w.busy_count, 1);
    /* Nothing of it is left for the next. */
    watchdog_begin(&w, now + 9 * MS, 50 * MS);
    watchdog_enter(&w, DELIVER_9, now + 9 * MS);
    cr_assert(watchdog_end(&w, now + 31 * MS));
    (void)watchdog_long(&w, 51 * MS, 6500 * MS, &t, &count);
    cr_assert_eq(t.activity, WATCHDOG_DELIVER);
    cr_assert_eq(t.activity_ns, 22 * MS);
}

Test(watchdog, waiting_is_not_working)
{
    struct watchdog w = {0};
    struct watchdog_turn t;
    uint64_t count;
    watchdog_begin(&w, 1000 * MS, 10 * MS);
    cr_assert(watchdog_end(&w, 1500 * MS));
    (void)watchdog_long(&w, 12 * MS, 2000 * MS, &t, &count);
    cr_assert_eq(w.long_count, 1);
    cr_assert_eq(w.busy_count, 0);
    watchdog_begin(&w, 1500 * MS, 12 * MS);
    cr_assert(watchdog_end(&w, 1530 * MS));
    (void)watchdog_long(&w, 40 * MS, 2030 * MS, &t, &count);
    cr_assert_eq(w.busy_count, 1);
    cr_assert_eq(w.longest.took_ns, 30 * MS, "the longest is the one that worked most");
}

Test(watchdog, one_line_a_second)
{
    struct watchdog w = {0};
    struct watchdog_turn t;
    uint64_t count;
    unsigned lines = 0;
    uint64_t told = 0;
    for (uint64_t i = 0; i < 100; i++) {
        watchdog_begin(&w, i * 50 * MS, i * 50 * MS);
        cr_assert(watchdog_end(&w, i * 50 * MS + 25 * MS));
        if (watchdog_long(&w, i * 50 * MS + 25 * MS, 9000 * MS + i * 50 * MS, &t, &count)) {
            lines++;
            told += count;
        }
    }
    cr_assert_eq(lines, 5);
    cr_assert_eq(told, 81);
    cr_assert_eq(w.long_count, 100);
}
