/* Which groups a node says somebody waits for. Node 2 leads two streams with a replica on node 1.
 */
#include <criterion/criterion.h>

#include "broker/entry.h"
#include "broker/meta.h"
#include "broker/stream.h"
#include "cluster/js_batch.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_pull.h"
#include "cluster/js_stream.h"
#include "cluster/js_wait.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/router.h"
#include "raft/host.h"
#include "storage/base/list.h"
#include "storage/file_ops.h"
#include "storage/wal.h"
#include "tests/lib/sim_disk.h"

#define STREAMS 2u
#define FIRST_GID 20u
#define HOUR_NS 3600000000000ll /* The streams' max_age. */

struct world {
    struct node_context ctx;
    struct js js;
    struct sim_disk *disk;
    struct js_stream streams[STREAMS];
    struct meta_stream meta_streams[STREAMS];
    struct stream_effects effects;
};

static void no_send(void *ctx, uint64_t node_id, enum host_lane lane, struct slice frame)
{
    (void)ctx, (void)node_id, (void)lane, (void)frame;
}

static uint64_t no_random(void *ctx)
{
    (void)ctx;
    return 4;
}

static void no_apply(void *ctx, const struct group_entry *e)
{
    (void)ctx, (void)e;
}

static void no_role(void *ctx, const struct group_role *role)
{
    (void)ctx, (void)role;
}

static struct group_base no_base(void *ctx)
{
    (void)ctx;
    return (struct group_base){0};
}

static void files_open(struct world *w)
{
    w->disk = sim_disk_new(1);
    const struct file_ops *ops = sim_disk_ops(w->disk);
    cr_assert_eq(ops->mkdir(ops->ctx, "/wal"), 0);
    struct host_options ho = {.node_id = 1, .env = {.send = no_send, .random = no_random}};
    w->js.host = host_new(&ho);
    struct wal_replay replay = host_wal_replay(w->js.host);
    struct wal_options wo = {.ops = ops,
                             .dir = "/wal",
                             .segment_bytes_min = 4u << 20,
                             .segment_bytes_max = 4u << 20,
                             .frame_bytes_max = 1u << 20,
                             .salt_seed = 1};
    struct wal_recovery recovery;
    cr_assert_eq(wal_open(&wo, &replay, &recovery, &w->js.wal), 0);
    host_open(w->js.host, w->js.wal, 1000);
}

static void stream_start(struct world *w, unsigned i)
{
    struct js_stream *st = &w->streams[i];
    st->js = &w->js;
    st->gid = FIRST_GID + i;
    st->state = JS_STREAM_OK;
    struct slice config =
        SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"s\"],\"max_age\":3600000000000}");
    cr_assert_eq(stream_new(config, 1, NULL, &st->machine), 0);
    struct group_options o = {
        .gid = st->gid,
        .raft_id = st->gid * 100 + 1,
        .fsm = {.apply = no_apply, .role_changed = no_role, .base = no_base, .ctx = st},
        .priority = 1};
    struct group_member members[3];
    for (uint64_t n = 1; n <= 3; n++) {
        members[n - 1] = (struct group_member){st->gid * 100 + n, n, GROUP_VOTER};
    }
    cr_assert_eq(group_create(w->js.host, &o, members, 3, &st->group), 0);
    HASH_ADD(hh, w->js.streams, gid, sizeof st->gid, st);
    w->meta_streams[i].gid = st->gid;
    w->meta_streams[i].config.name = (char *)"S";
    js_lane_leader(&w->js, st->gid, 2, 1);
}

static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->ctx.loop = loop_new();
    w->ctx.router = router_new(1);
    w->ctx.node_id = 1;
    w->js.ctx = &w->ctx;
    w->js.loop = w->ctx.loop;
    w->js.origin = 77;
    struct meta_events events = {.arg = &w->js};
    w->js.meta = meta_new(&events);
    list_init(&w->js.pulls_list);
    list_init(&w->js.api_waiting);
    files_open(w);
    for (unsigned i = 0; i < STREAMS; i++) {
        stream_start(w, i);
    }
}

static void world_close(struct world *w)
{
    js_pull_close(&w->js);
    js_lane_close(&w->js);
    js_batch_close(&w->js);
    HASH_CLEAR(hh, w->js.streams);
    host_close(w->js.host);
    wal_close(w->js.wal);
    for (unsigned i = 0; i < STREAMS; i++) {
        stream_free(w->streams[i].machine);
    }
    stream_effects_close(&w->effects);
    meta_free(w->js.meta);
    router_free(w->ctx.router);
    loop_free(w->ctx.loop);
    sim_disk_free(w->disk);
}

static bool is_waited_for(const struct world *w, unsigned i)
{
    struct group_status status;
    group_status(w->streams[i].group, &status);
    return status.is_waiting;
}

static void publish(struct world *w, unsigned i)
{
    struct router_msg msg = {.subject = SLICE_LIT("s"), .reply = SLICE_LIT("r")};
    cr_assert(js_lane_publish(&w->js, &w->meta_streams[i], &msg, &ROUTER_ORIGIN_NODE));
}

static struct world w;

Test(js_wait, for_a_stream_with_publishes_that_its_dead_leader_did_not_answer)
{
    world_open(&w);
    publish(&w, 1);
    cr_expect_not(is_waited_for(&w, 1), "it has a leader");
    js_wait_peer_down(&w.js, 3);
    cr_expect_not(is_waited_for(&w, 1), "which is up");
    js_wait_peer_down(&w.js, 2);
    cr_expect_not(is_waited_for(&w, 0));
    cr_expect(is_waited_for(&w, 1));
    js_lane_leader(&w.js, FIRST_GID + 1, 3, 2);
    cr_expect_not(is_waited_for(&w, 1), "elected");
    world_close(&w);
}

Test(js_wait, for_a_stream_of_which_a_pull_was_passed_on)
{
    world_open(&w);
    js_pull_passed_on(&w.js, FIRST_GID, 2, SLICE_LIT("_INBOX.a"), SLICE_LIT("1"));
    js_wait_peer_down(&w.js, 2);
    cr_expect(is_waited_for(&w, 0));
    cr_expect_not(is_waited_for(&w, 1));
    world_close(&w);
}

Test(js_wait, for_a_stream_that_has_something_to_do_soon)
{
    world_open(&w);
    struct entry_builder batch = {0};
    entry_begin(&batch, ENTRY_MACHINE_VERSION);
    struct publish_message m = {.subject = SLICE_LIT("s")};
    entry_publish(&batch, 1, 77, 1, &m);
    w.streams[0].time = (struct log_time){1000 * HOUR_NS, loop_mono_ns(w.ctx.loop)};
    /* Nearly an hour old. */
    int64_t time_ns = js_stream_now_ns(&w.streams[0]) - HOUR_NS + 500000000ll;
    cr_assert_eq(stream_step(w.streams[0].machine, 1, 1, entry_end(&batch, time_ns), &w.effects),
                 0);
    entry_close(&batch);
    js_wait_peer_down(&w.js, 2);
    cr_expect(is_waited_for(&w, 0));
    cr_expect_not(is_waited_for(&w, 1), "it is empty");
    world_close(&w);
}

Test(js_wait, for_a_stream_without_a_leader_as_soon_as_somebody_comes)
{
    world_open(&w);
    js_wait_peer_down(&w.js, 2);
    js_lane_peer_down(&w.js, 2);
    cr_expect_not(is_waited_for(&w, 0));
    publish(&w, 0);
    cr_expect(is_waited_for(&w, 0));
    cr_expect_not(is_waited_for(&w, 1));
    world_close(&w);
}
