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

/* ---- Deadlines of consumers ---- */

#define WAIT (30 * SECOND)

static uint64_t consumer(const struct world *w)
{
    return consumers_by_name(stream_get_consumers(w->s), SLICE_LIT("C"))->id;
}

static void progress(struct world *w, enum progress_kind kind, uint64_t seq, int64_t delay_ns)
{
    struct progress_item item = {
        .kind = kind, .seq = seq, .count = 1, .node = 1, .text = SLICE_LIT("to")};
    item.delay_ns = delay_ns;
    world_begin(w);
    entry_progress(&w->b, consumer(w), &item);
    world_step(w);
}

/* With the rules of @version and @count messages for a consumer. */
static void begin_consumer(struct world *w, uint32_t version, unsigned count)
{
    memset(w, 0, sizeof *w);
    w->now = 1000 * SECOND;
    struct slice config = SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"a\"]}");
    cr_assert_eq(stream_new(config, w->now, &consumer_ops, &w->s), 0);
    world_begin(w);
    entry_version(&w->b, version);
    entry_consumer_set(&w->b, 0, SLICE_LIT("C"),
                       SLICE_LIT("{\"name\":\"C\",\"ack_policy\":\"explicit\","
                                 "\"ack_wait\":30000000000,\"max_ack_pending\":100}"));
    world_step(w);
    for (unsigned i = 0; i < count; i++) {
        world_pub(w, "a");
    }
}

/* The first delivery of @seq; the ones before it are delivered. */
static void deliver(struct world *w, uint64_t seq)
{
    struct progress_item item = {
        .kind = PROGRESS_DELIVER, .seq = seq, .count = 1, .node = 1, .text = SLICE_LIT("to")};
    item.consumer_seq = seq - 1; /* What was delivered before. */
    item.delay_ns = 1;           /* For the first time. */
    world_begin(w);
    entry_progress(&w->b, consumer(w), &item);
    world_step(w);
    cr_assert_eq(w->e.delivers_count, 1u);
    cr_assert_not(w->e.delivers[0].is_skipped);
}

static bool is_waiting(const struct world *w, uint64_t seq)
{
    struct consumer *c = consumers_by_name(stream_get_consumers(w->s), SLICE_LIT("C"));
    const struct pending_entry *entry = pending_find(&c->pending, seq);
    cr_assert(entry != NULL);
    return entry->state == PENDING_WAITING;
}

/* All nodes were down for ten hours; after a minute of doubt time jumps. */
Test(stream_shift, deadlines_that_begin_in_doubt_last_their_whole_time)
{
    struct world w;
    begin_consumer(&w, ENTRY_MACHINE_VERSION_DEADLINES, 5);
    deliver(&w, 1);
    progress(&w, PROGRESS_NAK, 1, 3 * HOUR); /* Long before. */
    tell_unsure(&w, 10 * HOUR);
    w.now += 50 * SECOND;
    deliver(&w, 2);
    deliver(&w, 3);
    progress(&w, PROGRESS_NAK, 3, HOUR);
    deliver(&w, 4);
    w.now += 10 * SECOND;
    progress(&w, PROGRESS_WPI, 4, 0);
    tell_sure(&w, 10 * HOUR);
    deliver(&w, 5); /* It was on its way, with a stamp of before. */
    tick(&w, 10 * HOUR);
    cr_expect_not(is_waiting(&w, 1), "begun before the stop, and over");
    for (uint64_t seq = 2; seq <= 5; seq++) {
        cr_expect(is_waiting(&w, seq), "%llu is not over", (unsigned long long)seq);
    }
    tick(&w, 20 * SECOND);
    cr_expect_not(is_waiting(&w, 2));
    cr_expect(is_waiting(&w, 4));
    tick(&w, 10 * SECOND);
    cr_expect_not(is_waiting(&w, 4), "ten seconds after the second it was in progress");
    cr_expect_not(is_waiting(&w, 5));
    tick(&w, HOUR - 40 * SECOND - 1);
    cr_expect(is_waiting(&w, 3));
    tick(&w, 1);
    cr_expect_not(is_waiting(&w, 3));
    world_close(&w);
}

Test(stream_shift, deadlines_in_doubt_end_in_it_as_well)
{
    struct world w;
    begin_consumer(&w, ENTRY_MACHINE_VERSION_DEADLINES, 2);
    tell_unsure(&w, 10 * HOUR);
    deliver(&w, 1);
    tick(&w, WAIT);
    cr_expect_not(is_waiting(&w, 1));
    deliver(&w, 2);
    tell_sure(&w, 0); /* The clock was put right. */
    tick(&w, WAIT - 1);
    cr_expect(is_waiting(&w, 2));
    tick(&w, 1);
    cr_expect_not(is_waiting(&w, 2));
    world_close(&w);
}

/* A replica of the build before must come to the same state. */
Test(stream_shift, under_machine_version_2_deadlines_are_not_moved)
{
    struct world w;
    begin_consumer(&w, ENTRY_MACHINE_VERSION_SHIFTS, 1);
    tell_unsure(&w, 10 * HOUR);
    deliver(&w, 1);
    tell_sure(&w, 10 * HOUR);
    tick(&w, 10 * HOUR);
    cr_expect_not(is_waiting(&w, 1));
    world_close(&w);
}

Test(stream_shift, unsure_deadlines_are_saved)
{
    struct world w;
    begin_consumer(&w, ENTRY_MACHINE_VERSION_DEADLINES, 2);
    deliver(&w, 1);
    tell_unsure(&w, 10 * HOUR);
    deliver(&w, 2);
    struct consumer *c = consumers_by_name(stream_get_consumers(w.s), SLICE_LIT("C"));
    struct consumer *restored;
    struct buf saved = BUF_EMPTY;
    consumer_save(c, &saved);
    cr_assert_eq(consumer_load(buf_slice(&saved), stream_index(w.s), &restored), 0);
    cr_expect_eq(consumer_hash(restored), consumer_hash(c));
    cr_expect_eq(restored->unsure, 1u);
    consumer_time_sure(c, HOUR);
    cr_expect_neq(consumer_hash(restored), consumer_hash(c));
    consumer_time_sure(restored, HOUR);
    cr_expect_eq(consumer_hash(restored), consumer_hash(c));
    cr_expect_eq(restored->unsure, 0u);
    buf_close(&saved);
    consumer_free(restored);
    world_close(&w);
}
