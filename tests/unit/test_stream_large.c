/* Work over many messages goes in bounded steps, and what is short-cut comes to the same. */
#include <stdlib.h>

#include "broker/consumer.h"
#include "stream_world.h"

#define MANY (STREAM_JOB_STEP_SCANNED + 100000u)

static void fill(struct world *w, const char *subject, unsigned count)
{
    struct publish_message m = {.subject = slice_str(subject)};
    world_begin(w);
    for (unsigned i = 0; i < count; i++) {
        entry_publish(&w->b, 0, 0, 0, &m);
    }
    cr_assert_eq(stream_step(w->s, ++w->index, 1, entry_end(&w->b, w->now), &w->e), 0);
}

static void job_step(struct world *w)
{
    world_begin(w);
    entry_job_step(&w->b);
    world_step(w);
}

/* A replica that was restored in the middle has looked at nothing yet: it has to go on alike. */
Test(stream_large, a_purge_that_finds_little_looks_in_steps_that_replicas_agree_on)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"]}");
    fill(&w, "a.0", MANY);
    world_pub(&w, "a.1");
    world_begin(&w);
    entry_purge(&w.b, 7, SLICE_LIT("*.1"), 0, 0);
    world_step(&w);
    cr_assert_eq(w.e.admin_replies_count, 0u, "it looked at all in one step");

    struct shelf *shelf = calloc(1, sizeof *shelf);
    stream_checkpoint(w.s, true, shelf_put, shelf);
    struct world other = {.s = shelf_restore(shelf, w.s), .index = w.index, .now = w.now};
    cr_assert_eq(stream_hash(other.s), stream_hash(w.s));
    job_step(&w);
    job_step(&other);
    cr_assert_eq(w.e.admin_replies_count, 1u);
    cr_assert_eq(w.e.admin_replies[0].purged, 1u);
    cr_assert_eq(other.e.admin_replies_count, 1u);
    cr_assert_eq(stream_hash(other.s), stream_hash(w.s));
    cr_assert_eq(stream_index(w.s)->count, MANY);
    shelf_close(shelf);
    free(shelf);
    world_close(&other);
    world_close(&w);
}

Test(stream_large, a_search_with_a_budget_goes_on_where_it_was)
{
    struct world w;
    struct slice filter = SLICE_LIT("*.1");
    struct stream_filter f;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"]}");
    fill(&w, "a.0", 1000);
    fill(&w, "a.1", 1);
    fill(&w, "a.0", 1000);
    stream_filter_init(&f, &filter, 1);
    uint64_t seq = 0;
    unsigned rounds = 0;
    uint64_t budget;
    do {
        budget = 300;
        seq = stream_filter_seek(&f, stream_index(w.s), 1, &budget);
        rounds++;
    } while (budget == 0);
    cr_assert_eq(seq, 1001u);
    cr_assert_eq(rounds, 4u);
    rounds = 0;
    do {
        budget = 300;
        seq = stream_filter_seek(&f, stream_index(w.s), 1002, &budget);
        rounds++;
    } while (budget == 0);
    cr_assert_eq(seq, 0u);
    cr_assert_eq(rounds, 4u);
    stream_filter_close(&f);
    world_close(&w);
}

/* Beyond what is looked at one by one, the subjects are asked. */
Test(stream_large, next_last_and_count_of_a_wildcard_are_right_behind_many_others)
{
    struct world w;
    const char *const filters[] = {"*.1", "*.2", "*.3", "a.>", "*.0"};
    struct stream_filter f;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"]}");
    fill(&w, "a.1", 300);
    fill(&w, "a.2", 2);
    fill(&w, "a.0", 100000);
    fill(&w, "a.1", 300);
    fill(&w, "a.0", 100);
    const uint64_t froms[] = {1,      150,    301,    303,    400,   100302,
                              100303, 100500, 100603, 100702, 200000};
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        struct slice filter = slice_str(filters[i]);
        uint64_t last = 0;
        stream_filter_init(&f, &filter, 1);
        for (size_t k = 0; k < sizeof froms / sizeof froms[0]; k++) {
            uint64_t want = 0;
            uint64_t count = 0;
            for (uint64_t seq = froms[k]; seq <= 100702; seq++) {
                struct msg_info info;
                cr_assert(stream_get_message(w.s, seq, &info));
                if (stream_filter_has_subject(&f, info.subject)) {
                    want = want == 0 ? seq : want;
                    count++;
                }
            }
            f.empty_from = f.empty_to = 0;
            cr_assert_eq(stream_filter_count(&f, stream_index(w.s), froms[k]), count,
                         "%s from %llu", filters[i], (unsigned long long)froms[k]);
            cr_assert_eq(stream_filter_next(&f, stream_index(w.s), froms[k]), want, "%s from %llu",
                         filters[i], (unsigned long long)froms[k]);
        }
        for (uint64_t seq = 100702; seq > 0 && last == 0; seq--) {
            struct msg_info info;
            cr_assert(stream_get_message(w.s, seq, &info));
            last = stream_filter_has_subject(&f, info.subject) ? seq : 0;
        }
        cr_assert_eq(stream_filter_last(&f, stream_index(w.s)), last, "%s", filters[i]);
        stream_filter_close(&f);
    }
    world_close(&w);
}

/* ---- Consumers ---- */

static void open_with_consumers(struct world *w)
{
    static const char *const configs[] = {
        "{\"name\":\"all\",\"durable_name\":\"all\",\"ack_policy\":\"explicit\"}",
        "{\"name\":\"some\",\"durable_name\":\"some\",\"ack_policy\":\"explicit\","
        "\"filter_subject\":\"a.*\",\"max_deliver\":1,\"ack_wait\":1000000000}",
        "{\"name\":\"lasts\",\"durable_name\":\"lasts\",\"ack_policy\":\"all\","
        "\"filter_subject\":\"a.*\",\"deliver_policy\":\"last_per_subject\"}",
        "{\"name\":\"none\",\"durable_name\":\"none\",\"ack_policy\":\"none\","
        "\"filter_subject\":\"*.0\"}"};
    static const char *const names[] = {"all", "some", "lasts", "none"};
    memset(w, 0, sizeof *w);
    w->now = 1000 * SECOND;
    cr_assert_eq(stream_new(SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"a.*\"]}"), w->now,
                            &consumer_ops, &w->s),
                 0);
    for (int i = 0; i < 20; i++) {
        world_begin(w);
        struct publish_message m = {.subject = i % 3 == 0 ? SLICE_LIT("a.0") : SLICE_LIT("a.1")};
        entry_publish(&w->b, 0, 0, 0, &m);
        world_step(w);
    }
    for (int i = 0; i < 4; i++) {
        world_begin(w);
        entry_consumer_set(&w->b, 1, slice_str(names[i]), slice_str(configs[i]));
        world_step(w);
        cr_assert_eq(w->e.admin_replies[0].err_code, 0);
    }
    const struct consumers *cs = stream_get_consumers(w->s);
    for (size_t i = 0; i < 2; i++) {
        const struct consumer *c = cs->items[i];
        uint64_t before = c->delivered.stream_seq;
        struct progress_item item = {.kind = PROGRESS_DELIVER,
                                     .seq = before + 1,
                                     .count = 6,
                                     .consumer_seq = before,
                                     .delay_ns = 1};
        world_begin(w);
        entry_progress(&w->b, c->id, &item);
        world_step(w);
        item = (struct progress_item){.kind = PROGRESS_ACK, .seq = before + 2, .count = 1};
        world_begin(w);
        entry_progress(&w->b, c->id, &item);
        world_step(w);
    }
    w->now += 2 * SECOND; /* Past the wait of "some": it gives up. */
    job_step(w);
}

Test(stream_large, purging_all_does_to_consumers_what_removing_one_by_one_does)
{
    struct world at_once;
    struct world singly;
    open_with_consumers(&at_once);
    open_with_consumers(&singly);
    const struct consumers *a = stream_get_consumers(at_once.s);
    const struct consumers *b = stream_get_consumers(singly.s);
    cr_assert_gt(a->items[0]->pending.live, 0u);
    cr_assert_gt(a->items[1]->exhausted_count, 0u);
    cr_assert_gt(a->items[3]->pending_count, 0u);
    world_begin(&at_once);
    entry_purge(&at_once.b, 1, SLICE_EMPTY, 0, 0);
    world_step(&at_once);
    for (uint64_t seq = 1; seq <= 20; seq++) {
        world_begin(&singly);
        entry_delete_msg(&singly.b, 1, seq);
        world_step(&singly);
    }
    for (size_t i = 0; i < a->count; i++) {
        cr_assert_eq(consumer_hash(a->items[i]), consumer_hash(b->items[i]), "%s",
                     a->items[i]->name);
        cr_assert_eq(consumer_num_pending(a->items[i], stream_index(at_once.s)), 0u);
    }
    job_step(&at_once);
    size_t terminated = at_once.e.advisories_count;
    cr_assert_eq(terminated, 5u, "%zu", terminated);
    world_close(&at_once);
    world_close(&singly);
}

Test(stream_large, what_was_cleared_is_garbage_for_others)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"a.*\"]}");
    fill(&w, "a.0", 200000);
    cr_assert_null(stream_take_garbage(w.s));
    world_begin(&w);
    entry_purge(&w.b, 1, SLICE_EMPTY, 0, 0);
    world_step(&w);
    cr_assert_eq(w.e.admin_replies[0].purged, 200000u);
    struct msg_garbage *garbage = stream_take_garbage(w.s);
    cr_assert_not_null(garbage);
    cr_assert_null(stream_take_garbage(w.s));
    msg_garbage_free(garbage);
    world_pub(&w, "a.0");
    cr_assert_eq(stream_first_seq(w.s), 200001u);
    world_close(&w);
}
