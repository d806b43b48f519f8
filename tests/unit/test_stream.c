#include "tests/unit/stream_world.h"

static void assert_refused(const struct effect_reply *r, int code, const char *text)
{
    cr_assert_eq(r->err_code, code, "%d", r->err_code);
    cr_assert(slice_eq_str(r->text, text), "%.*s", SLICE_ARG(r->text));
}

Test(stream, a_publish_is_stored_with_its_sequence_size_and_log_time)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.>\"]}");
    struct stream_info info;
    stream_get_info(w.s, &info);
    cr_assert_eq(info.first_seq, 0u);
    struct publish_message m = {.subject = SLICE_LIT("a.b"),
                                .header = SLICE_LIT("NATS/1.0\r\n\r\n"),
                                .payload = SLICE_LIT("12345")};
    w.now += SECOND;
    const struct effect_reply *r = world_publish(&w, &m);
    cr_assert_eq(r->seq, 1u);
    cr_assert_eq(w.e.stores_count, 1u);
    cr_assert_eq(w.e.stores[0].time_ns, w.now);
    stream_get_info(w.s, &info);
    cr_assert_eq(info.bytes, 30u + 3 + 5 + 4 + 12);
    cr_assert_eq(info.last_seq, 1u);
    w.now -= 5 * SECOND;
    world_pub(&w, "a.c");
    cr_assert_eq(w.e.stores[0].time_ns, w.now + 5 * SECOND, "log time never goes back");
    world_close(&w);
}

Test(stream, discard_old_removes_the_oldest_until_the_limits_hold)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a\"],\"max_msgs\":2}");
    world_pub(&w, "a");
    world_pub(&w, "a");
    cr_assert_eq(world_pub(&w, "a")->seq, 3u);
    cr_assert_eq(w.e.removes_count, 1u);
    cr_assert_eq(w.e.removes[0].first_seq, 1u);
    cr_assert_eq(stream_first_seq(w.s), 2u);
    world_close(&w);
}

Test(stream, discard_new_refuses_in_the_words_of_the_reference)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"],\"max_msgs\":2,\"discard\":\"new\","
                   "\"max_bytes\":80,\"max_msgs_per_subject\":1}");
    world_pub(&w, "a.1");
    world_pub(&w, "a.2");
    assert_refused(world_pub(&w, "a.3"), 10077, "maximum messages exceeded");
    cr_assert_eq(world_pub(&w, "a.2")->seq, 3u, "it replaces one of its subject");
    struct publish_message big = {.subject = SLICE_LIT("a.2"),
                                  .payload = SLICE_LIT("0123456789abcdef")};
    assert_refused(world_publish(&w, &big), 10077, "maximum bytes exceeded");
    world_close(&w);
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"],\"discard\":\"new\","
                   "\"max_msgs_per_subject\":1,\"discard_new_per_subject\":true}");
    world_pub(&w, "a.1");
    assert_refused(world_pub(&w, "a.1"), 10077, "maximum messages per subject exceeded");
    world_close(&w);
}

Test(stream, duplicates_are_found_before_expectations_and_forgotten_after_the_window)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a\"],\"duplicate_window\":1000000000}");
    struct publish_message m = {.subject = SLICE_LIT("a"),
                                .msg_id = SLICE_LIT("id"),
                                .options = PUBLISH_HAS(PUBLISH_MSG_ID) |
                                           PUBLISH_HAS(PUBLISH_EXPECT_LAST_SEQ)};
    cr_assert_eq(world_publish(&w, &m)->seq, 1u);
    const struct effect_reply *r = world_publish(&w, &m);
    cr_assert(r->is_duplicate);
    cr_assert_eq(r->seq, 1u);
    w.now += SECOND;
    assert_refused(world_publish(&w, &m), 10071, "1");
    m.expect_last_seq = 1;
    cr_assert_eq(world_publish(&w, &m)->seq, 2u);
    world_close(&w);
}

Test(stream, expectations_are_refused_with_the_actual_value)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"],\"max_msg_size\":4}");
    struct publish_message m = {.subject = SLICE_LIT("a.1"),
                                .msg_id = SLICE_LIT("first"),
                                .options = PUBLISH_HAS(PUBLISH_MSG_ID)};
    world_publish(&w, &m);
    m = (struct publish_message){.subject = SLICE_LIT("a.2"),
                                 .options = PUBLISH_HAS(PUBLISH_EXPECT_LAST_SUBJECT_SEQ)};
    cr_assert_eq(world_publish(&w, &m)->seq, 2u, "0: must not exist");
    assert_refused(world_publish(&w, &m), 10071, "2");
    m.options |= PUBLISH_HAS(PUBLISH_EXPECT_SUBJECT);
    m.expect_subject = SLICE_LIT("*.1");
    assert_refused(world_publish(&w, &m), 10071, "1");
    m.options = PUBLISH_HAS(PUBLISH_EXPECT_LAST_MSG_ID);
    m.expect_last_msg_id = SLICE_LIT("first");
    assert_refused(world_publish(&w, &m), 10070, "");
    m.options = PUBLISH_HAS(PUBLISH_EXPECT_STREAM);
    m.expect_stream = SLICE_LIT("T");
    assert_refused(world_publish(&w, &m), 10060, "");
    m.options = PUBLISH_HAS(PUBLISH_ROLLUP);
    m.rollup = ROLLUP_ALL;
    assert_refused(world_publish(&w, &m), 10111, "rollup not permitted");
    m.options = 0;
    m.rollup = ROLLUP_NONE;
    m.payload = SLICE_LIT("12345");
    assert_refused(world_publish(&w, &m), 10054, "");
    world_close(&w);
}

Test(stream, a_lane_answers_again_refuses_gaps_and_forgets_an_hour_after_its_successor)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a\"]}");
    struct publish_message m = {.subject = SLICE_LIT("a")};
    world_begin(&w);
    entry_publish(&w.b, 1, 50, 1, &m);
    entry_publish(&w.b, 1, 50, 2, &m);
    world_step(&w);
    world_begin(&w);
    entry_publish(&w.b, 1, 50, 2, &m);
    entry_publish(&w.b, 1, 50, 3, &m);
    entry_publish(&w.b, 1, 50, 5, &m);
    world_step(&w);
    cr_assert_eq(w.e.stores_count, 1u);
    cr_assert_eq(w.e.replies[0].seq, 2u);
    cr_assert_eq(w.e.replies[1].seq, 3u);
    cr_assert(w.e.replies[2].is_gap);
    cr_assert_eq(w.e.replies[2].last_n, 3u);
    world_begin(&w);
    entry_publish(&w.b, 1, 60, 1, &m);
    world_step(&w);
    struct stream_info info;
    stream_get_info(w.s, &info);
    cr_assert_eq(info.origins, 2u);
    w.now += 3600 * SECOND;
    world_begin(&w);
    world_step(&w);
    stream_get_info(w.s, &info);
    cr_assert_eq(info.origins, 1u);
    world_close(&w);
}

Test(stream, rollups_keep_only_the_new_message)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"],\"allow_rollup_hdrs\":true}");
    world_pub(&w, "a.1");
    world_pub(&w, "a.2");
    world_pub(&w, "a.1");
    struct publish_message m = {.subject = SLICE_LIT("a.1"),
                                .options = PUBLISH_HAS(PUBLISH_ROLLUP)};
    m.rollup = ROLLUP_SUBJECT;
    world_publish(&w, &m);
    cr_assert_eq(stream_index(w.s)->count, 2u);
    m.rollup = ROLLUP_ALL;
    cr_assert_eq(world_publish(&w, &m)->seq, 5u);
    cr_assert_eq(stream_first_seq(w.s), 5u);
    world_close(&w);
}

Test(stream, max_age_is_due_and_removes_by_log_time)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a\"],\"max_age\":1000000000,"
                   "\"duplicate_window\":1000000000}");
    cr_assert_eq(stream_next_due(w.s), STREAM_DUE_NEVER);
    world_pub(&w, "a");
    cr_assert_eq(stream_next_due(w.s), w.now + SECOND);
    w.now += SECOND;
    world_begin(&w);
    entry_clock(&w.b);
    world_step(&w);
    cr_assert_eq(w.e.removes_count, 1u);
    struct stream_info info;
    stream_get_info(w.s, &info);
    cr_assert_eq(info.first_seq, 2u);
    cr_assert_eq(info.last_seq, 1u);
    world_close(&w);
}

static void fill(struct world *w, unsigned count)
{
    world_begin(w);
    for (unsigned i = 0; i < count; i++) {
        struct publish_message m = {.subject = i % 2 == 0 ? SLICE_LIT("a.0") : SLICE_LIT("a.1")};
        entry_publish(&w->b, 0, 0, 0, &m);
    }
    world_step(w);
}

static void run_jobs(struct world *w, unsigned steps_min)
{
    unsigned steps = 0;
    while (stream_wants_job_step(w->s)) {
        world_begin(w);
        entry_job_step(&w->b);
        world_step(w);
        cr_assert(w->e.removes_count <= STREAM_JOB_STEP_MESSAGES);
        steps++;
        cr_assert(steps < 100);
    }
    cr_assert(steps >= steps_min, "%u", steps);
}

Test(stream, a_long_purge_goes_in_steps_and_leaves_later_messages)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"]}");
    fill(&w, 50000);
    world_begin(&w);
    entry_purge(&w.b, 77, SLICE_LIT("a.1"), 0, 10);
    world_step(&w);
    cr_assert_eq(w.e.admin_replies_count, 0u);
    world_pub(&w, "a.1");
    run_jobs(&w, 2);
    cr_assert_eq(w.e.admin_replies[0].request, 77u);
    cr_assert_eq(w.e.admin_replies[0].purged, 25000u - 10);
    cr_assert_eq(stream_index(w.s)->count, 25011u);
    world_begin(&w);
    entry_purge(&w.b, 78, SLICE_EMPTY, 0, 5);
    world_step(&w);
    cr_assert_eq(stream_index(w.s)->count, 25011u - STREAM_JOB_STEP_MESSAGES);
    run_jobs(&w, 2);
    cr_assert_eq(stream_index(w.s)->count, 5u);
    world_begin(&w);
    entry_purge(&w.b, 79, SLICE_EMPTY, 0, 0);
    world_step(&w);
    cr_assert_eq(w.e.admin_replies[0].purged, 5u);
    cr_assert_eq(stream_first_seq(w.s), 50002u);
    world_close(&w);
}

Test(stream, lowered_limits_are_enforced_in_steps)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"]}");
    fill(&w, 50000);
    world_begin(&w);
    entry_config(&w.b, 1,
                 SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"a.*\"],\"max_msgs_per_subject\":100}"),
                 0);
    world_step(&w);
    run_jobs(&w, 2);
    cr_assert_eq(stream_index(w.s)->count, 200u);
    world_begin(&w);
    entry_config(&w.b, 1, SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"a.*\"],\"max_msgs\":3}"), 0);
    world_step(&w);
    cr_assert_eq(stream_index(w.s)->count, 3u);
    world_close(&w);
}

struct saved_items {
    struct stream_restore *r;
};

static void save_item(void *arg, struct slice key, struct slice value, bool is_deleted)
{
    struct saved_items *s = arg;
    cr_assert_not(is_deleted);
    stream_restore_item(s->r, key, value);
}

/* A new leader that is behind in meta proposed the configuration before the last: messages that
 * were acknowledged under the newer limits were evicted. */
Test(stream, an_older_configuration_takes_nothing_back_also_after_a_restore)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"],\"max_msgs\":3}");
    entry_config(&w.b, 1, SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"a.*\"]}"), 7);
    world_step(&w);
    uint64_t hash = stream_hash(w.s);
    world_begin(&w);
    entry_config(&w.b, 2, SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"a.*\"],\"max_msgs\":3}"), 6);
    world_step(&w);
    cr_assert_eq(w.e.admin_replies[0].err_code, 0);
    cr_assert_eq(stream_get_config_version(w.s), 7u);
    cr_assert_leq(stream_get_config(w.s)->max_msgs, 0);
    cr_assert_neq(hash, 0u);

    struct saved_items saved = {stream_restore_begin(NULL)};
    struct stream *again = NULL;
    hash = stream_hash(w.s);
    stream_checkpoint(w.s, true, save_item, &saved);
    cr_assert_eq(stream_restore_end(saved.r, &again), 0);
    cr_assert_eq(stream_get_config_version(again), 7u);
    cr_assert_eq(stream_hash(again), hash);
    stream_free(again);
    world_close(&w);
}

Test(stream, a_sealed_stream_refuses_publish_purge_and_delete)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a\"]}");
    world_pub(&w, "a");
    world_begin(&w);
    entry_delete_msg(&w.b, 1, 9);
    entry_seal(&w.b, 2);
    entry_purge(&w.b, 3, SLICE_EMPTY, 0, 0);
    entry_delete_msg(&w.b, 4, 1);
    world_step(&w);
    cr_assert_eq(w.e.admin_replies_count, 4u);
    cr_assert_eq(w.e.admin_replies[0].err_code, 10043);
    cr_assert_eq(w.e.admin_replies[1].err_code, 0);
    cr_assert_eq(w.e.admin_replies[2].err_code, 10109);
    cr_assert_eq(w.e.admin_replies[3].err_code, 10109);
    assert_refused(world_pub(&w, "a"), 10109, "");
    world_close(&w);
}

Test(stream, a_transform_gives_messages_another_subject_before_anything_looks_at_it)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"in.>\"],\"max_msgs_per_subject\":1,"
                   "\"subject_transform\":{\"src\":\"in.*\",\"dest\":\"out.{{left(1,1)}}\"}}");
    cr_assert_eq(world_pub(&w, "in.abc")->seq, 1u);
    cr_expect(slice_eq_str(w.e.stores[0].subject, "out.a"));
    cr_assert_eq(world_pub(&w, "in.ax")->seq, 2u);
    cr_expect_eq(w.e.removes_count, 1u, "the same subject");
    cr_assert_eq(world_pub(&w, "in.a.b")->seq, 3u);
    cr_expect(slice_eq_str(w.e.stores[0].subject, "in.a.b"));
    struct publish_message m = {.subject = SLICE_LIT("in.a9"),
                                .options = PUBLISH_HAS(PUBLISH_EXPECT_LAST_SUBJECT_SEQ)};
    assert_refused(world_publish(&w, &m), 10071, "2");
    m.expect_last_subject_seq = 2;
    cr_assert_eq(world_publish(&w, &m)->seq, 4u);
    struct stream_info info;
    stream_get_info(w.s, &info);
    cr_expect_eq(info.bytes, 30u + 5 + 30 + 6 + 1, "counted under the new one");
    world_close(&w);
}

Test(stream, a_republished_message_says_which_came_before_it_on_its_subject)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"],\"allow_rollup_hdrs\":true,"
                   "\"republish\":{\"src\":\">\",\"dest\":\"re.>\"}}");
    static const struct {
        const char *subject;
        enum publish_rollup rollup;
        uint64_t last;
    } steps[] = {{"a.x", ROLLUP_NONE, 0},    {"a.y", ROLLUP_NONE, 0}, {"a.x", ROLLUP_NONE, 1},
                 {"a.x", ROLLUP_SUBJECT, 3}, {"a.y", ROLLUP_ALL, 2},  {"a.x", ROLLUP_NONE, 0}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct publish_message m = {.subject = slice_str(steps[i].subject),
                                    .rollup = steps[i].rollup};
        m.options = m.rollup == ROLLUP_NONE ? 0 : PUBLISH_HAS(PUBLISH_ROLLUP);
        cr_assert_eq(world_publish(&w, &m)->seq, i + 1);
        cr_expect_eq(w.e.stores[0].last_subject_seq, steps[i].last, "step %zu", i);
    }
    world_close(&w);
}

Test(stream, a_transform_may_change_and_its_random_tokens_are_alike_on_replicas)
{
    static const char config[] =
        "{\"name\":\"S\",\"subjects\":[\"in.>\"],"
        "\"subject_transform\":{\"src\":\"in.*\",\"dest\":\"r.{{random(1000000)}}\"}}";
    struct world a, b;
    world_open(&a, config);
    world_open(&b, config);
    struct buf last = BUF_EMPTY;
    for (unsigned i = 0; i < 20; i++) {
        world_pub(&a, "in.x");
        world_pub(&b, "in.x");
        cr_expect(slice_eq(a.e.stores[0].subject, b.e.stores[0].subject));
        cr_expect_not(slice_eq(a.e.stores[0].subject, buf_slice(&last)));
        buf_clear(&last);
        buf_append_slice(&last, a.e.stores[0].subject);
    }
    cr_expect_eq(stream_hash(a.s), stream_hash(b.s));
    world_begin(&a);
    entry_config(&a.b, 1, SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"in.>\"]}"), 0);
    world_step(&a);
    world_pub(&a, "in.x");
    cr_expect(slice_eq_str(a.e.stores[0].subject, "in.x"));
    /* One that nobody can read is refused as a whole. */
    world_begin(&a);
    entry_config(
        &a.b, 1,
        SLICE_LIT("{\"name\":\"S\",\"subject_transform\":{\"src\":\"a\",\"dest\":\"$1\"}}"), 0);
    cr_expect_eq(stream_step(a.s, a.index + 1, 1, entry_end(&a.b, a.now), &a.e), ERR_INVALID);
    buf_close(&last);
    world_close(&a);
    world_close(&b);
}

Test(stream, what_cannot_be_applied_changes_nothing)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a\"]}");
    uint64_t hash = stream_hash(w.s);
    world_begin(&w);
    struct publish_message m = {.subject = SLICE_LIT("a")};
    entry_publish(&w.b, 0, 0, 0, &m);
    entry_clock(&w.b);
    entry_end(&w.b, w.now + SECOND);
    w.b.bytes.ptr[w.b.bytes.len - 1] = OP_STORE_AT;
    cr_assert_eq(stream_step(w.s, 1, 1, buf_slice(&w.b.bytes), &w.e), ERR_UNSUPPORTED);
    world_begin(&w);
    entry_publish(&w.b, 0, 0, 0, &m);
    entry_config(&w.b, 1, SLICE_LIT("{\"name\":\"T\"}"), 0);
    cr_assert_eq(stream_step(w.s, 1, 1, entry_end(&w.b, w.now), &w.e), ERR_INVALID);
    cr_assert_eq(stream_hash(w.s), hash);
    world_close(&w);
}
