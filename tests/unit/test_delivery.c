/* Push consumers in the leader's planner (broker/delivery_push.c), over a real stream machine. */
#include "broker/delivery.h"
#include "tests/unit/stream_world.h"

#define SENT_MAX 4096u

struct push_world {
    struct world w;
    struct delivery *d;
    bool is_heard;
    char subject[64]; /* The last that was asked about, */
    char group[64];   /* and its group. */
    uint64_t sent[SENT_MAX];
    size_t sent_count;
    char status[512]; /* The last, */
    char status_reply[128];
    unsigned statuses_count;
    unsigned pull_statuses_count;
    bool is_deleted;
};

static void copy_text(char *to, size_t size, struct slice s)
{
    cr_assert_lt(s.len, size);
    memcpy(to, s.ptr, s.len);
    to[s.len] = 0;
}

static bool has_push_interest(void *ctx, struct slice subject, struct slice group)
{
    struct push_world *p = ctx;
    copy_text(p->subject, sizeof p->subject, subject);
    if (group.len > 0) {
        copy_text(p->group, sizeof p->group, group);
    }
    return p->is_heard;
}

static void on_propose(void *ctx, uint64_t consumer, const struct progress_item *item)
{
    struct push_world *p = ctx;
    entry_progress(&p->w.b, consumer, item);
}

static void on_propose_delete(void *ctx, uint64_t consumer, struct slice name)
{
    struct push_world *p = ctx;
    (void)consumer;
    (void)name;
    p->is_deleted = true;
}

static void on_status(void *ctx, uint64_t node, struct slice inbox, struct slice header)
{
    struct push_world *p = ctx;
    (void)node;
    (void)inbox;
    (void)header;
    p->pull_statuses_count++;
}

static void on_push_status(void *ctx, struct slice subject, struct slice reply, struct slice header)
{
    struct push_world *p = ctx;
    cr_expect(slice_eq_str(subject, "d"));
    copy_text(p->status, sizeof p->status, header);
    p->status_reply[0] = 0;
    if (reply.len > 0) {
        copy_text(p->status_reply, sizeof p->status_reply, reply);
    }
    p->statuses_count++;
}

static void on_deliver(void *ctx, const struct effect_deliver *e)
{
    struct push_world *p = ctx;
    cr_assert_lt(p->sent_count, SENT_MAX);
    p->sent[p->sent_count++] = e->seq;
}

static struct consumer *consumer_of(struct push_world *p)
{
    return consumers_by_name(stream_get_consumers(p->w.s), SLICE_LIT("C"));
}

static void set_consumer(struct push_world *p, const char *config)
{
    world_begin(&p->w);
    entry_consumer_set(&p->w.b, 1, SLICE_LIT("C"), slice_str(config));
    world_step(&p->w);
    cr_assert_eq(p->w.e.admin_replies[0].err_code, 0);
}

/* A stream with a leader that has @messages of @bytes. */
static void open_world(struct push_world *p, const char *config, unsigned messages, size_t bytes)
{
    struct world *w = &p->w;
    memset(p, 0, sizeof *p);
    w->now = 1000 * SECOND;
    cr_assert_eq(stream_new(SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"s.>\"]}"), w->now,
                            &consumer_ops, &w->s),
                 0);
    char *payload = xcalloc(1, bytes);
    struct publish_message m = {.subject = SLICE_LIT("s.x"), .payload = slice_of(payload, bytes)};
    for (unsigned i = 0; i < messages; i++) {
        world_publish(w, &m);
    }
    free(payload);
    set_consumer(p, config);
    struct delivery_options options = {.ctx = p,
                                       .has_push_interest = has_push_interest,
                                       .propose = on_propose,
                                       .propose_delete = on_propose_delete,
                                       .status = on_status,
                                       .push_status = on_push_status,
                                       .node = 7,
                                       .payload_bytes = 1u << 20,
                                       .deliver = on_deliver};
    p->d = delivery_new(stream_get_consumers(w->s), SLICE_LIT("S"), &options);
    delivery_lead(p->d, w->now);
    p->is_heard = true;
}

static void close_world(struct push_world *p)
{
    delivery_free(p->d);
    world_close(&p->w);
}

/* A turn after @later_ns, its entry, and what that sends. */
static void turn(struct push_world *p, int64_t later_ns)
{
    struct world *w = &p->w;
    w->now += later_ns;
    world_begin(w);
    delivery_turn(p->d, w->now);
    world_step(w);
    for (size_t i = 0; i < w->e.delivers_count; i++) {
        cr_expect_eq(w->e.delivers[i].node, w->e.delivers[i].is_skipped ? 0u : 7u);
        if (delivery_commit(p->d, &w->e.delivers[i], w->now)) {
            on_deliver(p, &w->e.delivers[i]);
        }
    }
}

#define EXPLICIT                                                                                   \
    "{\"name\":\"C\",\"deliver_subject\":\"d\",\"ack_policy\":\"explicit\",\"ack_wait\":"          \
    "1000000000"

Test(delivery_push, what_nobody_listens_to_is_not_delivered)
{
    struct push_world p;
    open_world(&p, EXPLICIT ",\"max_ack_pending\":-1,\"deliver_group\":\"g\"}", 3, 10);
    p.is_heard = false;
    turn(&p, 0);
    turn(&p, SECOND);
    cr_expect_eq(p.sent_count, 0u);
    cr_expect_str_eq(p.subject, "d");
    cr_expect_str_eq(p.group, "g");
    cr_expect_not(delivery_is_bound(p.d, consumer_of(&p)->id));
    p.is_heard = true;
    turn(&p, SECOND);
    cr_expect_eq(p.sent_count, 3u);
    cr_expect(delivery_is_bound(p.d, consumer_of(&p)->id));
    cr_expect_eq(delivery_num_waiting(p.d, consumer_of(&p)->id), 0u);
    close_world(&p);
}

Test(delivery_push, who_left_before_the_commit_is_not_counted_as_served)
{
    struct push_world p;
    open_world(&p, EXPLICIT ",\"max_ack_pending\":-1}", 1, 10);
    struct world *w = &p.w;
    world_begin(w);
    delivery_turn(p.d, w->now);
    world_step(w);
    cr_assert_eq(w->e.delivers_count, 1u);
    p.is_heard = false;
    w->now += 1;
    world_begin(w);
    cr_expect_not(delivery_commit(p.d, &w->e.delivers[0], w->now));
    world_step(w); /* It was put back. */
    p.is_heard = true;
    turn(&p, SECOND);
    turn(&p, SECOND / 10);
    cr_expect_eq(p.sent_count, 1u);
    cr_expect_eq(consumer_pending(consumer_of(&p), 1)->count, 1u);
    close_world(&p);
}

Test(delivery_push, no_more_is_unacknowledged_than_may_be)
{
    struct push_world p;
    open_world(&p, EXPLICIT ",\"max_ack_pending\":2}", 5, 10);
    turn(&p, 0);
    turn(&p, SECOND / 10);
    cr_expect_eq(p.sent_count, 2u);
    world_begin(&p.w);
    delivery_ack(p.d, consumer_of(&p)->id, 1, 7, SLICE_EMPTY, SLICE_LIT("+ACK"), p.w.now);
    delivery_turn(p.d, p.w.now);
    world_step(&p.w);
    turn(&p, SECOND / 10);
    cr_expect_eq(p.sent_count, 3u);
    close_world(&p);
}

static void check_window(const char *config)
{
    struct push_world p;
    /* 2 MiB are 32 of these and something. */
    open_world(&p, config, 200, 64000);
    for (int i = 0; i < 10; i++) {
        turn(&p, SECOND / 100);
    }
    size_t first = p.sent_count;
    cr_expect_gt(first, 30u, "%zu", first);
    cr_expect_lt(first, 36u, "%zu", first);
    cr_assert_eq(p.statuses_count, 1u);
    cr_expect_str_eq(p.status, "NATS/1.0 100 FlowControl Request\r\n\r\n");
    cr_expect_eq(strncmp(p.status_reply, "$JS.FC.S.C.", 11), 0);
    struct slice id = slice_from(slice_str(p.status_reply), 11);
    /* The heartbeat says what it waits for. */
    char stalled[512];
    snprintf(stalled, sizeof stalled,
             "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: %zu\r\nNats-Last-Stream: %zu\r\n"
             "Nats-Consumer-Stalled: %s\r\n\r\n",
             first, first, p.status_reply);
    char id_text[32];
    copy_text(id_text, sizeof id_text, id);
    turn(&p, SECOND);
    cr_expect_str_eq(p.status, stalled);
    delivery_flow(p.d, consumer_of(&p)->id, SLICE_LIT("1"), p.w.now);
    turn(&p, SECOND / 100);
    cr_expect_eq(p.sent_count, first, "another request's answer");
    delivery_flow(p.d, consumer_of(&p)->id, slice_str(id_text), p.w.now);
    for (int i = 0; i < 10; i++) {
        turn(&p, SECOND / 100);
    }
    /* More than half of the window was confirmed; now it is 4 MiB. */
    cr_expect_gt(p.sent_count, first + 40, "%zu", p.sent_count);
    cr_expect_lt(p.sent_count, 200u);
    for (size_t i = 0; i < p.sent_count; i++) {
        cr_expect_eq(p.sent[i], i + 1);
    }
    close_world(&p);
}

Test(delivery_push, the_window_holds_without_acks)
{
    check_window("{\"name\":\"C\",\"deliver_subject\":\"d\",\"ack_policy\":\"none\","
                 "\"flow_control\":true,\"idle_heartbeat\":500000000}");
}

Test(delivery_push, the_window_holds_with_acks)
{
    check_window("{\"name\":\"C\",\"deliver_subject\":\"d\",\"ack_policy\":\"explicit\","
                 "\"ack_wait\":60000000000,\"max_ack_pending\":-1,"
                 "\"flow_control\":true,\"idle_heartbeat\":500000000}");
}

Test(delivery_push, it_keeps_its_rate)
{
    struct push_world p;
    /* A bucket of 1 MiB; then 100 kB a second. */
    open_world(&p,
               "{\"name\":\"C\",\"deliver_subject\":\"d\",\"ack_policy\":\"none\","
               "\"rate_limit_bps\":800000}",
               40, 50000);
    turn(&p, 0);
    size_t burst = p.sent_count;
    cr_expect_geq(burst, 20u);
    cr_expect_leq(burst, 21u);
    turn(&p, SECOND / 1000);
    cr_expect_eq(p.sent_count, burst);
    int64_t due_ns = delivery_next_due(p.d);
    cr_expect_leq(due_ns, p.w.now + SECOND);
    for (int i = 0; i < 30; i++) {
        turn(&p, SECOND / 10);
    }
    cr_expect_geq(p.sent_count, burst + 5);
    cr_expect_leq(p.sent_count, burst + 7);
    close_world(&p);
}

Test(delivery_push, a_subject_that_moves_brings_what_is_pending_at_once)
{
    struct push_world p;
    open_world(&p, EXPLICIT ",\"max_ack_pending\":-1}", 3, 10);
    turn(&p, 0);
    cr_assert_eq(p.sent_count, 3u);
    set_consumer(&p, "{\"name\":\"C\",\"deliver_subject\":\"e\",\"ack_policy\":\"explicit\","
                     "\"ack_wait\":1000000000,\"max_ack_pending\":-1}");
    turn(&p, SECOND / 3);
    turn(&p, SECOND / 10);
    turn(&p, SECOND / 10);
    cr_assert_eq(p.sent_count, 6u);
    cr_expect_eq(p.sent[3], 1u);
    cr_expect_eq(consumer_pending(consumer_of(&p), 3)->count, 2u);
    close_world(&p);
}

Test(delivery_push, it_is_deleted_once_nobody_listens_for_long_and_hears_no_status)
{
    struct push_world p;
    open_world(&p,
               "{\"name\":\"C\",\"deliver_subject\":\"d\",\"ack_policy\":\"none\","
               "\"inactive_threshold\":1000000000}",
               1, 10);
    for (int i = 0; i < 10; i++) {
        turn(&p, SECOND);
    }
    cr_expect_not(p.is_deleted);
    p.is_heard = false;
    turn(&p, SECOND / 2);
    cr_expect_not(p.is_deleted);
    turn(&p, SECOND);
    cr_expect(p.is_deleted);
    p.is_heard = true;
    turn(&p, SECOND);
    delivery_unlead(p.d);
    cr_expect_eq(p.statuses_count + p.pull_statuses_count, 0u);
    close_world(&p);
}
