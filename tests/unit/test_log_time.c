#include <criterion/criterion.h>
#include <stdlib.h>

#include "broker/log_time.h"

#define MS 1000000ll
#define S 1000000000ll
#define HOUR (3600 * S)
#define YEARS_10 (10 * 365 * 24 * HOUR)
#define NOW (1800000000 * S) /* What it really is, at mono 0. */

/* ---- A node's clock ---- */

Test(node_clock, a_wall_clock_that_jumps_moves_it_by_a_millisecond_a_second)
{
    struct node_clock c;
    node_clock_start(&c, NOW, 0);
    for (int64_t t = 1 * S; t <= 100 * S; t += S) {
        int64_t ns = node_clock_read(&c, NOW + t + YEARS_10, t);
        cr_assert_eq(ns, NOW + t + t / 1000);
    }
    cr_expect_eq(node_clock_read(&c, NOW - YEARS_10, 101 * S), NOW + 101 * S + 99 * MS);
}

Test(node_clock, small_steps_slew_as_much_as_large_ones)
{
    struct node_clock c;
    node_clock_start(&c, NOW, 0);
    int64_t ns = 0;
    for (int64_t t = 0; t <= 10 * S; t += 700) {
        ns = node_clock_read(&c, NOW + t + HOUR, t);
    }
    cr_expect_geq(ns, NOW + 10 * S + 9 * MS);
    cr_expect_leq(ns, NOW + 10 * S + 11 * MS);
}

Test(node_clock, never_goes_back_when_the_wall_is_behind)
{
    struct node_clock c;
    node_clock_start(&c, NOW, 0);
    int64_t last = 0;
    for (int64_t t = 0; t < S; t += 333) {
        int64_t ns = node_clock_read(&c, NOW - HOUR, t);
        cr_assert_geq(ns, last);
        last = ns;
    }
}

Test(node_clock, follows_a_wall_clock_that_is_a_little_off_to_the_nanosecond)
{
    struct node_clock c;
    node_clock_start(&c, NOW, 0);
    node_clock_read(&c, NOW + 5 * MS + 10 * S, 10 * S);
    cr_expect_eq(node_clock_read(&c, NOW + 5 * MS + 20 * S, 20 * S), NOW + 5 * MS + 20 * S);
}

Test(node_clock, before_1970_is_1970)
{
    struct node_clock c;
    node_clock_start(&c, -YEARS_10, 0);
    cr_expect_eq(node_clock_read(&c, -YEARS_10, 0), 1);
}

/* ---- A clock that is heard ---- */

Test(heard_clock, what_came_late_does_not_count_and_the_past_is_forgotten)
{
    struct heard_clock h = {0};
    int64_t base = 0;
    cr_expect_not(heard_clock_base(&h, &base));
    heard_clock_add(&h, NOW, 10 * MS);
    heard_clock_add(&h, NOW + 100 * MS, 5100 * MS); /* It lay in a queue for 5 s. */
    cr_assert(heard_clock_base(&h, &base));
    cr_expect_eq(base, NOW - 10 * MS);
    for (unsigned i = 0; i < TIME_HEARD_MAX; i++) { /* It was set back. */
        heard_clock_add(&h, NOW - HOUR, 20 * MS);
    }
    cr_assert(heard_clock_base(&h, &base));
    cr_expect_eq(base, NOW - HOUR - 20 * MS);
}

/* ---- The agreed clock ---- */

struct world {
    struct agreed_time a;
    int64_t mono;
    int64_t own_off; /* Of this node's clock from NOW; its wall clock shows the same but for: */
    int64_t wall_off;
    size_t nodes;
    size_t others;
    int64_t off[8];
    bool is_sure[8];
};

static void look(struct world *w)
{
    struct agreed_view v = {.mono_ns = w->mono,
                            .own_ns = NOW + w->own_off + w->mono,
                            .wall_ns = NOW + w->own_off + w->wall_off + w->mono,
                            .nodes_count = w->nodes,
                            .clocks_count = w->others};
    for (size_t i = 0; i < w->others; i++) {
        v.clocks[i] = (struct agreed_clock_of){NOW + w->off[i], w->is_sure[i]};
    }
    agreed_time_look(&w->a, &v);
}

static void run(struct world *w, int64_t ns)
{
    for (int64_t end = w->mono + ns; w->mono < end;) {
        w->mono += 100 * MS;
        look(w);
    }
}

/* By how much the agreed clock is off. */
static int64_t agreed_off(const struct world *w)
{
    return agreed_time_ns(&w->a, 0, w->mono) - NOW - w->mono;
}

Test(agreed_time, a_lone_node_agrees_with_itself)
{
    struct world w = {.nodes = 1, .own_off = HOUR};
    look(&w);
    cr_expect(w.a.is_known);
    cr_expect_eq(agreed_off(&w), HOUR);
    run(&w, 100 * S);
    cr_expect_not(w.a.is_skewed);
    cr_expect(w.a.is_settled);
}

Test(agreed_time, one_wrong_clock_of_three_changes_nothing_and_is_told)
{
    static const int64_t wrong[] = {HOUR, -HOUR, YEARS_10, -YEARS_10, 1100 * MS, -1100 * MS};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct world right = {.nodes = 3, .others = 2, .off = {10 * MS, wrong[i]}};
        struct world off = {.nodes = 3, .others = 2, .own_off = wrong[i], .off = {0, 10 * MS}};
        run(&right, 10 * S);
        run(&off, 10 * S);
        cr_expect_leq(llabs(agreed_off(&right)), 10 * MS);
        cr_expect_leq(llabs(agreed_off(&off)), 10 * MS, "the wrong node stamps right");
        cr_expect_not(right.a.is_skewed);
        cr_expect(off.a.is_skewed);
        cr_expect_not(off.a.is_sure);
        cr_expect_eq(agreed_time_offset(&off.a) / S, (wrong[i] - 5 * MS) / S);
    }
}

Test(agreed_time, less_than_a_second_is_no_skew)
{
    struct world w = {.nodes = 3, .others = 2, .own_off = 900 * MS};
    run(&w, 100 * S);
    cr_expect_not(w.a.is_skewed);
}

Test(agreed_time, skew_must_last_for_a_second_and_so_must_its_end)
{
    struct world w = {.nodes = 3, .others = 2};
    run(&w, 10 * S);
    w.own_off = HOUR;
    run(&w, 900 * MS);
    cr_expect_not(w.a.is_skewed);
    run(&w, 300 * MS);
    cr_expect(w.a.is_skewed);
    w.own_off = 0;
    run(&w, 900 * MS);
    cr_expect(w.a.is_skewed);
    run(&w, 300 * MS);
    cr_expect_not(w.a.is_skewed);
}

Test(agreed_time, of_two_that_differ_the_earlier_counts)
{
    struct world early = {.nodes = 3, .others = 1, .off = {YEARS_10}};
    struct world late = {.nodes = 3, .others = 1, .own_off = YEARS_10};
    run(&early, 5 * S);
    run(&late, 5 * S);
    cr_expect_eq(agreed_off(&early), 0);
    cr_expect_eq(agreed_off(&late), 0);
    cr_expect_not(early.a.is_skewed);
    cr_expect(late.a.is_skewed);
}

Test(agreed_time, when_a_right_one_goes_the_wrong_one_of_two_stays_wrong)
{
    static const int64_t wrong[] = {HOUR, -HOUR, YEARS_10, -YEARS_10};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct world right = {.nodes = 3, .others = 2, .off = {wrong[i], 0}};
        struct world off = {.nodes = 3, .others = 2, .own_off = wrong[i]};
        run(&right, 10 * S);
        run(&off, 10 * S);
        right.others = off.others = 1;
        run(&right, 10 * S);
        run(&off, 10 * S);
        cr_expect_eq(agreed_off(&right), 0);
        cr_expect_eq(agreed_off(&off), 0);
        cr_expect_not(right.a.is_skewed);
        cr_expect(off.a.is_skewed);
    }
}

Test(agreed_time, without_a_majority_what_was_known_stays)
{
    struct world w = {.nodes = 3, .others = 2, .own_off = HOUR};
    run(&w, 100 * S);
    w.others = 0;
    run(&w, 100 * S);
    cr_expect_eq(agreed_off(&w), 0);
    cr_expect(w.a.is_skewed);
}

Test(agreed_time, a_node_that_hears_nobody_from_the_start_knows_nothing_for_a_minute)
{
    struct world w = {.nodes = 3, .own_off = HOUR};
    run(&w, 59 * S);
    cr_expect_not(w.a.is_known);
    run(&w, 2 * S);
    cr_expect(w.a.is_known);
    cr_expect_not(w.a.is_settled);
    w.others = 2; /* And then learns better. */
    run(&w, S);
    cr_expect_eq(agreed_off(&w), 0);
}

Test(agreed_time, who_starts_settles_after_a_minute_or_by_the_word_of_one_who_is_sure)
{
    struct world w = {.nodes = 3, .others = 2};
    run(&w, 59 * S);
    cr_expect_not(w.a.is_settled);
    run(&w, 2 * S);
    cr_expect(w.a.is_settled);
    cr_expect(w.a.is_sure);
    struct world told = {.nodes = 3, .others = 2, .is_sure = {true}};
    run(&told, S);
    cr_expect(told.a.is_settled);
    cr_expect_not(told.a.is_sure, "what is only heard is not passed on");
}

Test(agreed_time, a_majority_that_restarts_wrong_unsettles_the_one_that_did_not)
{
    struct world w = {.nodes = 3, .others = 2, .is_sure = {true, true}};
    run(&w, 100 * S);
    w.off[0] = w.off[1] = YEARS_10;
    w.is_sure[0] = w.is_sure[1] = false;
    run(&w, 100 * MS);
    cr_expect_eq(w.a.jumped_ns, YEARS_10);
    cr_expect_eq(agreed_off(&w), YEARS_10);
    cr_expect_not(w.a.is_settled);
    run(&w, 100 * MS);
    cr_expect_eq(w.a.jumped_ns, 0);
    run(&w, 5 * S);
    cr_expect(w.a.is_skewed);
    run(&w, 60 * S);
    cr_expect(w.a.is_settled);
}

Test(agreed_time, nobody_who_is_wrong_himself_is_believed_to_be_sure)
{
    /* One was wrong all the time and sure of the others' clock; a second one starts as wrong. */
    struct world w = {.nodes = 3, .others = 2, .own_off = YEARS_10, .is_sure = {true}};
    w.off[1] = YEARS_10;
    run(&w, S);
    cr_expect_eq(agreed_off(&w), YEARS_10);
    cr_expect_not(w.a.is_settled);
}

Test(agreed_time, a_wrong_clock_is_set_when_its_wall_clock_is_right_again)
{
    struct world w = {.nodes = 3, .others = 2, .own_off = HOUR};
    run(&w, 5 * S);
    cr_expect_not(w.a.is_step_due);
    w.wall_off = -HOUR;
    run(&w, 100 * MS);
    cr_expect(w.a.is_step_due);
    /* Never because the wall clock alone says so. */
    struct world fine = {.nodes = 3, .others = 2, .wall_off = HOUR};
    run(&fine, 100 * S);
    cr_expect_not(fine.a.is_step_due);
}

/* ---- Log time ---- */

static struct agreed_time agreed(int64_t off, bool is_settled)
{
    return (struct agreed_time){
        .base_ns = NOW + off, .is_known = true, .is_settled = is_settled, .is_begun = true};
}

Test(log_time, is_the_agreed_clock_as_a_rule)
{
    struct agreed_time a = agreed(0, false);
    struct log_time t;
    log_time_start(&t, NOW - 10 * S, 0);
    cr_expect_eq(log_time_now(&t, &a, 0), NOW);
    cr_expect_eq(log_time_now(&t, &a, 5 * S), NOW + 5 * S);
}

Test(log_time, a_jump_of_more_than_an_hour_is_believed_when_it_has_stood)
{
    struct agreed_time a = agreed(0, false);
    struct log_time t;
    log_time_start(&t, NOW - YEARS_10, 0);
    cr_expect_eq(log_time_now(&t, &a, 0), NOW - YEARS_10);
    cr_expect_eq(log_time_now(&t, &a, 59 * S), NOW - YEARS_10 + 59 * S);
    cr_expect_eq(log_time_doubt(&t, &a, 59 * S), YEARS_10);
    a.is_settled = true;
    cr_expect_eq(log_time_now(&t, &a, 60 * S), NOW + 60 * S);
    cr_expect_eq(log_time_doubt(&t, &a, 60 * S), 0);
}

Test(log_time, a_leader_tells_what_it_does_not_know_yet)
{
    struct agreed_time none = {0};
    struct agreed_time a = agreed(0, false);
    struct log_time t;
    int64_t ns = -1;
    log_time_start(&t, NOW - YEARS_10, 0);
    cr_expect_eq(log_time_news(&t, &none, 0, false, 0, &ns), LOG_TIME_UNSURE);
    cr_expect_eq(ns, 0, "by how much nobody knows");
    cr_expect_eq(log_time_news(&t, &none, 0, true, 0, &ns), LOG_TIME_NO_NEWS);
    cr_expect_eq(log_time_news(&t, &a, 1 * S, true, 0, &ns), LOG_TIME_UNSURE, "now it is known");
    cr_expect_eq(ns, YEARS_10);
    cr_expect_eq(log_time_news(&t, &a, 2 * S, true, YEARS_10, &ns), LOG_TIME_NO_NEWS);
    cr_expect_eq(log_time_news(&t, &a, 2 * S, true, YEARS_10 - HOUR, &ns), LOG_TIME_UNSURE,
                 "all were down once more");
    a.is_settled = true;
    cr_expect_eq(log_time_news(&t, &a, 60 * S, true, YEARS_10, &ns), LOG_TIME_SURE);
    cr_expect_eq(ns, YEARS_10);
    cr_expect_eq(log_time_news(&t, &a, 60 * S, false, 0, &ns), LOG_TIME_NO_NEWS);
    cr_expect_eq(log_time_run_on(&t, &a, 60 * S), NOW - YEARS_10 + 60 * S);
}

Test(log_time, goes_on_where_it_was_when_the_clocks_are_behind)
{
    struct agreed_time a = agreed(-YEARS_10, true);
    struct log_time t;
    log_time_start(&t, NOW, 0);
    int64_t last = NOW;
    for (int64_t mono = 0; mono <= 1000 * S; mono += 10 * MS) {
        int64_t now = log_time_now(&t, &a, mono);
        cr_assert_geq(now, last);
        last = now;
    }
    cr_expect_geq(last, NOW + 999 * S, "a second in a thousand is slewed, no more");
    cr_expect_lt(last, NOW + 1000 * S);
}

Test(log_time, comes_back_to_a_clock_that_is_a_little_behind)
{
    struct agreed_time a = agreed(-500 * MS, true);
    struct log_time t;
    log_time_start(&t, NOW, 0);
    for (int64_t mono = 0; mono <= 1000 * S; mono += 10 * MS) {
        log_time_now(&t, &a, mono);
    }
    cr_expect_eq(log_time_now(&t, &a, 1000 * S), NOW + 1000 * S - 500 * MS);
}

Test(log_time, without_an_agreed_clock_only_what_passed_counts)
{
    struct agreed_time a = {0};
    struct log_time t;
    log_time_start(&t, NOW, 0);
    cr_expect_eq(log_time_now(&t, &a, 7 * S), NOW + 7 * S);
}

/* A leader stamps, and applies a little later; its time must not stand still by that. */
Test(log_time, entries_that_are_applied_late_do_not_slow_it)
{
    struct agreed_time a = agreed(-YEARS_10, true);
    struct log_time t;
    log_time_start(&t, NOW, 0);
    for (int64_t mono = 0; mono < 100 * S; mono += 20 * MS) {
        int64_t stamp = log_time_now(&t, &a, mono);
        log_time_applied(&t, stamp, &a, mono + 19 * MS);
    }
    cr_expect_geq(log_time_now(&t, &a, 100 * S), NOW + 99 * S);
}

/* The next leader goes on where the last one was, also when the clocks are behind: nothing gets
 * younger by a change of leaders, or older. */
Test(log_time, a_follower_that_leads_goes_on_within_the_time_an_entry_takes)
{
    static const int64_t offs[] = {-YEARS_10, -HOUR, -100 * MS, 0, HOUR};
    for (size_t i = 0; i < sizeof offs / sizeof offs[0]; i++) {
        struct agreed_time a = agreed(offs[i], true);
        struct log_time leader;
        struct log_time follower;
        log_time_start(&leader, NOW, 0);
        log_time_start(&follower, NOW, 0);
        int64_t mono = 0;
        for (; mono < 1000 * S; mono += 20 * MS) {
            int64_t stamp = log_time_now(&leader, &a, mono);
            log_time_applied(&leader, stamp, &a, mono + 5 * MS);
            log_time_applied(&follower, stamp, &a, mono + 10 * MS);
        }
        mono += 600 * S; /* Idle. */
        int64_t gap = log_time_now(&follower, &a, mono) - log_time_now(&leader, &a, mono);
        cr_expect_leq(llabs(gap), 11 * MS, "%lld", (long long)gap);
    }
}

Test(log_time, what_a_deposed_leader_stamped_in_vain_is_forgotten)
{
    struct agreed_time a = agreed(50 * 60 * S, true);
    struct log_time t;
    log_time_start(&t, NOW, 0);
    cr_expect_eq(log_time_now(&t, &a, 0), NOW + 50 * 60 * S);
    a = agreed(0, true);
    cr_expect_eq(log_time_now(&t, &a, S), NOW + S);
}
