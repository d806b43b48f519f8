/* Stamps that were too early: broker/stream_shift.h. */
#include "broker/consumer.h"
#include "broker/stream_shift.h"
#include "tests/unit/stream_world.h"

#define HOUR (3600 * SECOND)

static void begin(struct world *w)
{
    world_open(w, "{\"name\":\"S\",\"subjects\":[\"a\"],\"max_age\":7200000000000,"
                  "\"duplicate_window\":3600000000000}");
    world_begin(w);
    entry_version(&w->b, ENTRY_MACHINE_VERSION_SHIFTS);
    world_step(w);
}

static void tell_unsure(struct world *w, int64_t lag_ns)
{
    world_begin(w);
    entry_time_unsure(&w->b, lag_ns);
    world_step(w);
    cr_assert(w->e.is_unsure_told);
}

static void tell_sure(struct world *w, int64_t shift_ns)
{
    int64_t lag_ns;
    world_begin(w);
    entry_time_sure(&w->b, shift_ns);
    world_step(w);
    cr_assert(w->e.is_sure_told);
    cr_assert_not(stream_is_unsure(w->s, &lag_ns));
}

static void tick(struct world *w, int64_t ns)
{
    w->now += ns;
    world_begin(w);
    entry_clock(&w->b);
    world_step(w);
}

static uint64_t first(const struct world *w)
{
    struct stream_info info;
    stream_get_info(w->s, &info);
    return info.messages == 0 ? 0 : info.first_seq;
}

static const struct effect_reply *publish_id(struct world *w, const char *id)
{
    struct publish_message m = {
        .subject = SLICE_LIT("a"), .msg_id = slice_str(id), .options = PUBLISH_HAS(PUBLISH_MSG_ID)};
    return world_publish(w, &m);
}

/* All nodes were down for ten hours, and the clock is believed after a minute. */
Test(stream_shift, what_is_stored_while_a_jump_is_doubted_lives_its_whole_age)
{
    struct world w;
    begin(&w);
    world_pub(&w, "a");
    tell_unsure(&w, 10 * HOUR);
    w.now += 5 * SECOND;
    world_pub(&w, "a");
    w.now += 55 * SECOND;
    tell_sure(&w, 10 * HOUR);
    cr_expect_eq(first(&w), 1u, "time has not jumped yet");
    w.now += 1 * SECOND;
    world_pub(&w, "a"); /* It was on its way, with a stamp of before. */
    w.now += 10 * HOUR;
    world_pub(&w, "a");
    cr_expect_eq(first(&w), 2u, "what is older than the stop is gone");
    tick(&w, 2 * HOUR - 56 * SECOND - 1); /* The second was stored 56 s before the jump. */
    cr_expect_eq(first(&w), 2u);
    tick(&w, 1);
    cr_expect_eq(first(&w), 3u);
    tick(&w, 56 * SECOND - 1);
    cr_expect_eq(first(&w), 3u);
    tick(&w, 1);
    cr_expect_eq(first(&w), 0u);
    world_close(&w);
}

Test(stream_shift, ids_of_that_time_stay_in_their_window)
{
    struct world w;
    begin(&w);
    publish_id(&w, "before");
    tell_unsure(&w, 0);
    publish_id(&w, "unsure");
    tell_sure(&w, 10 * HOUR);
    publish_id(&w, "under way");
    w.now += 10 * HOUR + 59 * 60 * SECOND;
    cr_expect_not(publish_id(&w, "before")->is_duplicate);
    cr_expect(publish_id(&w, "unsure")->is_duplicate);
    cr_expect(publish_id(&w, "under way")->is_duplicate);
    w.now += 60 * SECOND;
    cr_expect_not(publish_id(&w, "unsure")->is_duplicate);
    world_close(&w);
}

Test(stream_shift, a_clock_that_was_put_right_in_time_shifts_nothing)
{
    struct world w;
    begin(&w);
    tell_unsure(&w, 10000 * HOUR);
    world_pub(&w, "a");
    tell_sure(&w, 0);
    tick(&w, 2 * HOUR - 1);
    cr_expect_eq(first(&w), 1u);
    tick(&w, 1);
    cr_expect_eq(first(&w), 0u);
    world_close(&w);
}

/* Two stops, and no clock was believed in between. */
Test(stream_shift, each_stretch_has_the_lag_that_it_was_told)
{
    struct world w;
    int64_t lag_ns;
    begin(&w);
    tell_unsure(&w, 0);
    tell_unsure(&w, 3 * HOUR); /* The same stretch: now it is known. */
    cr_expect(stream_is_unsure(w.s, &lag_ns));
    cr_expect_eq(lag_ns, 3 * HOUR);
    world_pub(&w, "a");
    tell_unsure(&w, 0); /* Another leader, after another stop. */
    world_pub(&w, "a");
    tell_unsure(&w, 5 * HOUR);
    tell_sure(&w, 5 * HOUR);
    tick(&w, 5 * HOUR - 1);
    cr_expect_eq(first(&w), 1u);
    tick(&w, 1);
    cr_expect_eq(first(&w), 2u);
    tick(&w, 2 * HOUR - 1);
    cr_expect_eq(first(&w), 2u);
    tick(&w, 1);
    cr_expect_eq(first(&w), 0u);
    world_close(&w);
}

Test(stream_shift, a_lag_that_was_too_large_counts_no_more_than_the_jump)
{
    struct world w;
    begin(&w);
    tell_unsure(&w, 10000 * HOUR);
    world_pub(&w, "a");
    tell_unsure(&w, 3 * HOUR); /* Clocks were put right. */
    tell_sure(&w, 3 * HOUR);
    tick(&w, 5 * HOUR - 1);
    cr_expect_eq(first(&w), 1u);
    tick(&w, 1);
    cr_expect_eq(first(&w), 0u);
    world_close(&w);
}

/* Leaders come and go while nothing has changed. */
Test(stream_shift, stretches_of_one_lag_are_one)
{
    struct world w;
    begin(&w);
    for (unsigned i = 0; i < 2 * SHIFTS_MAX; i++) {
        tell_unsure(&w, 0);
        world_pub(&w, "a");
        tell_unsure(&w, 3 * HOUR + i * SECOND / 1000);
        world_pub(&w, "a");
    }
    tell_sure(&w, 3 * HOUR);
    tick(&w, 5 * HOUR - 1);
    cr_expect_eq(first(&w), 1u);
    world_close(&w);
}

Test(stream_shift, a_restored_stream_goes_on_alike)
{
    static struct shelf shelf;
    struct world w;
    begin(&w);
    for (unsigned i = 0; i < 3 * SHIFTS_MAX; i++) {
        publish_id(&w, i % 2 == 0 ? "x" : "y");
        if (i % 4 == 1) {
            tell_unsure(&w, i % 8 == 1 ? 0 : 2 * HOUR);
        } else if (i % 8 == 7) {
            tell_sure(&w, 3 * HOUR + i);
            w.now += i % 16 == 7 ? 3 * HOUR + i : 0;
        }
        w.now += i * SECOND;
        world_pub(&w, "a");
        stream_checkpoint(w.s, false, shelf_put, &shelf);
        struct stream *restored = shelf_restore(&shelf, w.s);
        cr_assert_eq(stream_hash(restored), stream_hash(w.s), "after %u", i);
        if (i % 5 == 0) {
            stream_free(w.s);
            w.s = restored;
        } else {
            stream_free(restored);
        }
    }
    shelf_close(&shelf);
    world_close(&w);
}

Test(stream_shift, more_than_there_is_room_for_forget_the_oldest)
{
    struct shifts s = {0};
    for (uint64_t i = 0; i < 2 * SHIFTS_MAX; i++) {
        shifts_unsure(&s, 1 + 10 * i, 1, 5);
        cr_expect_eq(shifts_sure(&s, 6 + 10 * i, 1000, 5), 1u);
    }
    cr_expect_eq(s.count, SHIFTS_MAX);
    cr_expect_eq(shifts_of(&s, 1), 0);
    cr_expect_eq(shifts_of(&s, 10 * SHIFTS_MAX + 1), 5);
    cr_expect_eq(shifts_of(&s, 10 * SHIFTS_MAX + 5), 5);
    cr_expect_eq(shifts_of(&s, 10 * SHIFTS_MAX + 6), 0);
}

Test(stream_shift, malformed_items_are_refused)
{
    struct shifts s = {0};
    struct shifts loaded = {0};
    struct buf b = BUF_EMPTY;
    shifts_unsure(&s, 1, 1, 5);
    shifts_sure(&s, 6, 1000, 5);
    shifts_unsure(&s, 9, 1, 0);
    shifts_save(&s, &b);
    cr_assert_eq(shifts_load(&loaded, buf_slice(&b)), 0);
    cr_expect_eq(loaded.count, 2u);
    for (size_t len = 0; len < b.len; len++) {
        cr_expect_eq(shifts_load(&loaded, slice_of(b.ptr, len)), ERR_INVALID);
    }
    b.ptr[12] = 20; /* The first shift begins behind its end. */
    cr_expect_eq(shifts_load(&loaded, buf_slice(&b)), ERR_INVALID);
    buf_close(&b);
}
