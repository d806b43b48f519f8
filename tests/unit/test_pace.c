#include <criterion/criterion.h>

#include "cluster/pace.h"

#define MS 1000000LL
#define MIB (1u << 20)
#define CHUNK (256u << 10)

/* A node with publishers and a catch-up that asks for the next chunk as soon as it has one. */
struct scene {
    struct pace pace;
    int64_t now_ns;
    int64_t next_ns; /* When the next chunk is there. */
    uint64_t sent;
};

static struct scene begin(uint64_t limit_per_s)
{
    struct scene s = {.now_ns = 1000 * MS};
    pace_init(&s.pace, limit_per_s, s.now_ns);
    return s;
}

/* So long; a publish each two milliseconds takes @alone_us (0: nobody publishes), and @beside_us
 * where a chunk went shortly before. A chunk takes a millisecond. */
static void pass(struct scene *s, int64_t ms, bool has_catchup, uint32_t alone_us,
                 uint32_t beside_us)
{
    for (int64_t i = 0; i < ms; i++, s->now_ns += MS) {
        if (has_catchup && s->next_ns <= s->now_ns) {
            s->next_ns = s->now_ns + (int64_t)pace_take(&s->pace, CHUNK, s->now_ns) * MS + MS;
            s->sent += CHUNK;
        }
        if (alone_us > 0 && i % 2 == 0) {
            int64_t since_ns = s->now_ns - (s->next_ns - MS); /* That a chunk went. */
            bool is_beside = has_catchup && since_ns >= 0 && since_ns < 5 * MS;
            pace_sample(&s->pace, is_beside ? beside_us : alone_us);
        }
        if (i % 20 == 0) {
            pace_tick(&s->pace, s->now_ns);
        }
    }
}

Test(pace, no_limit_never_waits)
{
    struct scene s = begin(0);
    for (unsigned i = 0; i < 1000; i++) {
        cr_assert_eq(pace_take(&s.pace, 64 * MIB, s.now_ns), 0);
    }
}

Test(pace, where_nobody_publishes_the_limit_is_reached)
{
    struct scene s = begin(100 * MIB);
    pass(&s, 3000, true, 0, 0);
    cr_assert_eq(s.pace.rate_per_s, 100 * MIB);
    s.sent = 0;
    pass(&s, 10000, true, 0, 0);
    cr_expect_geq(s.sent, 900ull * MIB);
    cr_expect_leq(s.sent, 1010ull * MIB);
}

Test(pace, publishes_that_take_as_long_as_ever_lower_nothing)
{
    struct scene s = begin(100 * MIB);
    pass(&s, 2000, false, 1000, 0);
    pass(&s, 3000, true, 1000, 1300);
    cr_assert_eq(s.pace.rate_per_s, 100 * MIB);
}

Test(pace, publishes_that_take_longer_lower_the_rate)
{
    struct scene s = begin(256 * MIB);
    pass(&s, 2000, false, 1000, 0);
    pass(&s, 5000, true, 1000, 2500);
    s.sent = 0;
    pass(&s, 10000, true, 1000, 2500);
    cr_expect_leq(s.sent, 200ull * MIB);
    cr_expect_geq(s.sent, 30ull * MIB); /* It goes on all the same. */
}

Test(pace, it_is_fast_again_when_publishes_are)
{
    struct scene s = begin(256 * MIB);
    pass(&s, 2000, false, 1000, 0);
    pass(&s, 5000, true, 1000, 2500);
    pass(&s, 4000, true, 1000, 1100);
    cr_assert_eq(s.pace.rate_per_s, 256 * MIB);
}

Test(pace, a_slow_disk_is_not_taken_for_what_catch_up_costs)
{
    struct scene s = begin(256 * MIB);
    pass(&s, 2000, false, 1000, 0);
    /* All take longer now, with and without. The pauses tell. */
    pass(&s, 30000, true, 8000, 9000);
    cr_assert_eq(s.pace.rate_per_s, 256 * MIB);
}

Test(pace, what_is_usual_is_found_out_beside_a_catch_up_that_was_there_first)
{
    struct scene s = begin(256 * MIB);
    pass(&s, 10000, true, 1000, 3000);
    cr_assert_leq(s.pace.rate_per_s, 32 * MIB);
}

Test(pace, a_wait_is_bounded)
{
    struct scene s = begin(1 * MIB);
    uint64_t longest_ms = 0;
    for (unsigned i = 0; i < 1000; i++) { /* Many replicas at once. */
        uint64_t ms = pace_take(&s.pace, CHUNK, s.now_ns);
        longest_ms = ms > longest_ms ? ms : longest_ms;
    }
    cr_assert_leq(longest_ms, 1000);
}
