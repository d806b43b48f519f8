/* The lane of one node against a stream of the real machine, under leaders that change, items and
 * answers that are lost, and batches that are dropped or committed without a word. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "broker/entry.h"
#include "broker/meta.h"
#include "broker/stream.h"
#include "broker/stream_state.h"
#include "cluster/js_batch.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/router.h"
#include "storage/base/buf.h"
#include "storage/base/list.h"

#define GID 20u
#define OWN_NODE 1u
#define MESSAGES 9000u

struct world {
    struct node_context ctx;
    struct js js;
    struct meta_stream meta_stream;
    struct stream *machine;
    struct stream_effects effects;
    struct entry_builder batch; /* Of the present leader. */
    uint64_t index;
    uint64_t term;
    uint64_t leader; /* Node 2 or 3. */
    uint64_t rng;
    unsigned loss_percent;
    struct router_internal *sub;

    uint32_t published;
    uint64_t seqs[MESSAGES]; /* As answered; 0: not yet. */
    bool is_refused[MESSAGES];
    uint32_t answers;
    uint32_t stored[MESSAGES]; /* How often. */
    uint32_t last_stored;      /* Number of the last message stored, from 1. */
};

static uint64_t roll(struct world *w, uint64_t n)
{
    w->rng ^= w->rng << 13;
    w->rng ^= w->rng >> 7;
    w->rng ^= w->rng << 17;
    return w->rng % n;
}

static uint32_t number_of(struct slice text)
{
    uint32_t v = 0;
    for (size_t i = 0; i < text.len; i++) {
        v = v * 10 + (uint32_t)(text.ptr[i] - '0');
    }
    return v;
}

static bool is_lost(struct world *w)
{
    return roll(w, 100) < w->loss_percent;
}

/* r.<number> */
static void on_answer(void *arg, const struct router_msg *msg, const struct router_origin *origin)
{
    struct world *w = arg;
    char text[256];
    (void)origin;
    uint32_t i = number_of(slice_from(msg->subject, 2));
    cr_assert_lt(i, w->published);
    cr_assert_eq(w->seqs[i], 0u, "message %u was answered twice", i);
    cr_assert_not(w->is_refused[i]);
    w->answers++;
    if (msg->payload.len == 0) { /* 503, in the header. */
        w->is_refused[i] = true;
        return;
    }
    snprintf(text, sizeof text, "%.*s", SLICE_ARG(msg->payload));
    const char *seq = strstr(text, "\"seq\":");
    cr_assert_not_null(seq, "%s", text);
    if (strstr(text, "\"error\"") != NULL) {
        w->is_refused[i] = true;
    } else {
        w->seqs[i] = strtoull(seq + 6, NULL, 10);
    }
}

static void world_open(struct world *w, uint64_t seed, unsigned loss_percent)
{
    memset(w, 0, sizeof *w);
    w->rng = seed * 0x9E3779B97F4A7C15u | 1u;
    w->loss_percent = loss_percent;
    w->ctx.loop = loop_new();
    w->ctx.router = router_new(seed);
    w->ctx.node_id = OWN_NODE;
    w->js.ctx = &w->ctx;
    w->js.loop = w->ctx.loop;
    w->js.origin = 77;
    struct meta_events events = {.arg = &w->js};
    w->js.meta = meta_new(&events);
    list_init(&w->js.pulls_list);
    w->meta_stream.gid = GID;
    w->meta_stream.config.name = (char *)"S";
    cr_assert_eq(
        stream_new(SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"s\"]}"), 1, NULL, &w->machine), 0);
    entry_begin(&w->batch, ENTRY_MACHINE_VERSION);
    int rv = router_subscribe_internal(w->ctx.router, SLICE_LIT("r.*"), SLICE_EMPTY, false,
                                       on_answer, w, &w->sub);
    cr_assert_eq(rv, 0);
}

static void world_close(struct world *w)
{
    js_lane_close(&w->js);
    js_batch_close(&w->js);
    meta_free(w->js.meta);
    stream_free(w->machine);
    stream_effects_close(&w->effects);
    entry_close(&w->batch);
    router_free(w->ctx.router);
    loop_free(w->ctx.loop);
}

/* Every third expects what cannot be: refused, and its place in the lane counts all the same. */
static void publish_by(struct world *w, const struct router_origin *origin)
{
    char reply[32];
    char payload[16];
    snprintf(reply, sizeof reply, "r.%u", w->published);
    snprintf(payload, sizeof payload, "%u", w->published + 1);
    struct router_msg msg = {
        .subject = SLICE_LIT("s"), .reply = slice_str(reply), .payload = slice_str(payload)};
    w->published++;
    cr_assert(js_lane_publish(&w->js, &w->meta_stream, &msg, origin));
}

static void publish(struct world *w)
{
    publish_by(w, &ROUTER_ORIGIN_NODE);
}

/* What the lane has sent to the leader goes into its batch, or is lost with its connection. */
static void carry(struct world *w)
{
    for (uint64_t node = 2; node <= 3; node++) {
        struct buf *out = js_batch_begin(&w->js, node, JS_ITEM_ACK);
        struct reader r = reader_of(slice_of(out->ptr, out->len - 5)); /* Less what was begun. */
        while (r.len > 0) {
            uint8_t type = reader_u8(&r);
            uint32_t len = reader_u32(&r);
            struct reader item = reader_of(reader_bytes(&r, len));
            cr_assert_not(r.failed);
            cr_assert_eq(type, JS_ITEM_PUBLISH);
            cr_assert_eq(reader_u64(&item), GID);
            cr_assert_eq(reader_u64(&item), 77u);
            uint64_t n = reader_u64(&item);
            struct publish_message m = {.subject = js_batch_take_slice(&item)};
            (void)js_batch_take_slice(&item);
            m.payload = js_batch_take_slice(&item);
            cr_assert_not(item.failed);
            if (number_of(m.payload) % 3 == 0) {
                m = (struct publish_message){.subject = m.subject, .refused_code = 10054};
            }
            if (node == w->leader && !is_lost(w)) {
                entry_publish(&w->batch, OWN_NODE, 77, n, &m);
            }
        }
        buf_clear(out);
    }
}

static void commit(struct world *w, bool is_telling)
{
    if (w->batch.ops_count == 0) {
        return;
    }
    struct slice entry = entry_end(&w->batch, 1);
    cr_assert_eq(stream_step(w->machine, ++w->index, w->term, entry, &w->effects), 0);
    for (size_t i = 0; i < w->effects.stores_count; i++) {
        uint32_t number = number_of(w->effects.stores[i].payload);
        w->stored[number - 1]++;
        cr_assert_gt(number, w->last_stored, "%u came after %u", number, w->last_stored);
        w->last_stored = number;
    }
    for (size_t i = 0; i < w->effects.replies_count && is_telling; i++) {
        const struct effect_reply *e = &w->effects.replies[i];
        struct js_answer a = {.n = e->n,
                              .seq = e->seq,
                              .err_code = e->err_code,
                              .is_duplicate = e->is_duplicate,
                              .is_gap = e->is_gap,
                              .is_forgotten = e->is_forgotten,
                              .last_n = e->last_n,
                              .text = e->text};
        cr_assert_not(e->is_forgotten, "more was under way than the stream remembers");
        if (!is_lost(w)) {
            js_lane_answer(&w->js, GID, &a);
        }
    }
    entry_begin(&w->batch, ENTRY_MACHINE_VERSION);
}

/* The leader dies: what it had gathered is in the log, or nowhere; nobody is told. */
static void change_leader(struct world *w)
{
    if (roll(w, 2) == 0) {
        commit(w, false);
    }
    entry_begin(&w->batch, ENTRY_MACHINE_VERSION);
    js_lane_peer_down(&w->js, w->leader);
    carry(w); /* Lost. */
    entry_begin(&w->batch, ENTRY_MACHINE_VERSION);
    w->leader = 2 + roll(w, 2);
    js_lane_leader(&w->js, GID, w->leader, ++w->term);
}

static void settle(struct world *w)
{
    w->loss_percent = 0;
    for (int i = 0; i < 50 && w->answers < w->published; i++) {
        change_leader(w);
        for (int k = 0; k < 20; k++) {
            carry(w);
            commit(w, true);
        }
    }
    cr_assert_eq(w->answers, w->published);
    uint64_t last = 0;
    for (uint32_t i = 0; i < w->published; i++) {
        bool is_refused = (i + 1) % 3 == 0;
        cr_assert_eq(w->is_refused[i], is_refused);
        cr_assert_eq(w->stored[i], is_refused ? 0u : 1u, "message %u", i);
        if (!is_refused) {
            cr_assert_gt(w->seqs[i], last);
            last = w->seqs[i];
        }
    }
    cr_assert_eq(w->js.lane_bytes, 0u);
}

static struct world w; /* Criterion runs each test in a process of its own. */

Test(js_lane, whatever_is_lost_each_message_is_stored_once_in_order_and_answered_once)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        world_open(&w, seed, seed % 4 == 0 ? 0 : (unsigned)(seed % 4) * 8);
        w.leader = 2;
        while (w.published < 3000) {
            for (uint64_t i = roll(&w, 40); i > 0 && w.published < 3000; i--) {
                publish(&w);
            }
            if (roll(&w, 10) < 7) {
                carry(&w);
            }
            if (roll(&w, 10) < 6) {
                commit(&w, true);
            }
            if (roll(&w, 25) == 0) {
                change_leader(&w);
            }
        }
        settle(&w);
        world_close(&w);
    }
}

/* All that had waited for a leader was sent at once; when that one died with the answers, the
 * stream had forgotten the first of them. */
Test(js_lane, no_more_is_under_way_than_the_stream_keeps_answers_for)
{
    world_open(&w, 1, 0);
    w.leader = 2;
    for (unsigned i = 0; i < MESSAGES; i++) {
        publish(&w);
    }
    js_lane_leader(&w.js, GID, 2, ++w.term);
    carry(&w);
    commit(&w, false);
    settle(&w);
    world_close(&w);
}

Test(js_lane, a_leader_that_leads_no_more_is_sent_nothing)
{
    world_open(&w, 1, 0);
    w.leader = 2;
    js_lane_leader(&w.js, GID, 2, 5);
    cr_assert_eq(js_lane_leader_of(&w.js, GID), 2u);
    js_lane_leader(&w.js, GID, 3, 4); /* Of an older term. */
    cr_assert_eq(js_lane_leader_of(&w.js, GID), 2u);
    js_lane_leader_lost(&w.js, GID, 3);
    cr_assert_eq(js_lane_leader_of(&w.js, GID), 2u);
    js_lane_leader_lost(&w.js, GID, 2);
    cr_assert_eq(js_lane_leader_of(&w.js, GID), 0u);
    publish(&w);
    carry(&w);
    cr_assert_eq(w.batch.ops_count, 0u);
    js_lane_leader(&w.js, GID, 2, 5); /* The same again, on a new connection. */
    carry(&w);
    cr_assert_eq(w.batch.ops_count, 1u);
    world_close(&w);
}

/* The leader alone had taken its connections for dead and made new ones: what was lost with the old
 * ones was sent again a second later, into the next ones that died. */
Test(js_lane, what_was_lost_with_a_connection_is_sent_again_when_the_leader_says_so_on_the_next)
{
    world_open(&w, 1, 0);
    w.leader = 2;
    js_lane_leader(&w.js, GID, 2, 5);
    publish(&w);
    publish(&w);
    w.loss_percent = 100;
    carry(&w);
    w.loss_percent = 0;
    js_lane_leader(&w.js, GID, 2, 5);
    carry(&w);
    w.loss_percent = 100; /* The answers. */
    commit(&w, true);
    cr_assert_eq(w.stored[0] + w.stored[1], 2u);
    w.loss_percent = 0;
    js_lane_leader(&w.js, GID, 2, 5);
    carry(&w);
    commit(&w, true);
    cr_assert_eq(w.answers, 2u);
    world_close(&w);
}

/* The code went into a table of the known ones, and stopped the node. */
Test(js_lane, an_error_that_only_a_newer_node_knows_is_passed_on)
{
    world_open(&w, 1, 0);
    w.leader = 2;
    js_lane_leader(&w.js, GID, 2, ++w.term);
    publish(&w);
    struct js_answer a = {.n = 1, .err_code = 65000, .text = SLICE_LIT("why")};
    js_lane_answer(&w.js, GID, &a);
    cr_expect_eq(w.answers, 1u);
    cr_expect(w.is_refused[0]);
    world_close(&w);
}

/* A publish on its way to a stream that is deleted: its client waited for ever. */
Test(js_lane, what_is_under_way_to_a_stream_is_answered_when_the_stream_is_deleted)
{
    world_open(&w, 1, 0);
    w.leader = 2;
    js_lane_leader(&w.js, GID, 2, ++w.term);
    for (unsigned i = 0; i < 10; i++) {
        publish(&w);
    }
    carry(&w);
    cr_assert_eq(w.answers, 0u);
    js_lane_forget(&w.js, GID);
    cr_assert_eq(w.answers, 10u);
    for (unsigned i = 0; i < 10; i++) {
        cr_assert(w.is_refused[i]);
    }
    world_close(&w);
}

/* One that published without end made all others wait behind what it had published. */
Test(js_lane, the_first_that_waits_of_each_sender_goes_before_what_others_have_more)
{
    const struct router_origin greedy = {.kind = ROUTER_FROM_CLIENT, .id = 1};
    const struct router_origin honest = {.kind = ROUTER_FROM_CLIENT, .id = 2};
    const uint32_t expected[] = {1, 101, 2, 4}; /* Without those that are refused. */
    world_open(&w, 1, 0);
    w.leader = 2;
    for (unsigned i = 0; i < 100; i++) {
        publish_by(&w, &greedy);
    }
    publish_by(&w, &honest);
    publish_by(&w, &greedy);
    js_lane_leader(&w.js, GID, 2, ++w.term);
    carry(&w);
    cr_assert_eq(stream_step(w.machine, 1, 1, entry_end(&w.batch, 1), &w.effects), 0);
    uint32_t before = 0;
    for (size_t i = 0; i < w.effects.stores_count; i++) {
        uint32_t number = number_of(w.effects.stores[i].payload);
        cr_assert(i >= 4 || number == expected[i], "%zu: %u", i, number);
        cr_assert(number == 101 || number > before); /* Each sender's own order stands. */
        before = number == 101 ? before : number;
    }
    cr_assert_eq(w.effects.stores_count, 68u);
    world_close(&w);
}
