/* What a leader takes from lanes while a disk does not follow. */
#include <criterion/criterion.h>

#include "broker/entry.h"
#include "broker/stream.h"
#include "cluster/js_internal.h"
#include "cluster/js_propose.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/node_options.h"
#include "cluster/router.h"
#include "storage/base/list.h"
#include "storage/file_ops.h"
#include "storage/store.h"
#include "tests/lib/sim_disk.h"

#define MESSAGE_BYTES 16384u
#define MANY 100u

struct world {
    struct node_options options;
    struct node_context ctx;
    struct js js;
    struct js_stream stream;
    struct sim_disk *disk;
};

static void world_open(struct world *w)
{
    struct store_recovery recovery;
    memset(w, 0, sizeof *w);
    w->disk = sim_disk_new(1);
    const struct file_ops *ops = sim_disk_ops(w->disk);
    cr_assert_eq(ops->mkdir(ops->ctx, "/store"), 0);
    struct store_options options = {.ops = ops, .dir = "/store", .machine_version = 1};
    cr_assert_eq(store_open(&options, &recovery, &w->js.store), 0);
    w->options.max_file_bytes = w->options.max_memory_bytes = -1;
    w->ctx.options = &w->options;
    w->ctx.loop = loop_new();
    w->ctx.node_id = 1;
    w->js.ctx = &w->ctx;
    w->js.loop = w->ctx.loop;
    list_init(&w->js.turn_streams);
    struct js_stream *st = &w->stream;
    st->js = &w->js;
    list_init(&st->turn);
    list_init(&st->closed);
    int rv = stream_new(SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"s\"]}"), 1, NULL, &st->machine);
    cr_assert_eq(rv, 0);
    entry_begin(&st->batch, ENTRY_MACHINE_VERSION);
}

static void world_close(struct world *w)
{
    js_propose_close(&w->stream);
    entry_close(&w->stream.batch);
    stream_free(w->stream.machine);
    store_close(w->js.store);
    sim_disk_free(w->disk);
    loop_free(w->ctx.loop);
}

/* How many of @count messages of node @node_id's lane were taken. */
static size_t offer(struct world *w, uint64_t node_id, unsigned count, size_t bytes)
{
    static uint8_t payload[MESSAGE_BYTES];
    size_t before = entry_size(&w->stream.batch);
    struct router_msg msg = {.subject = SLICE_LIT("s"), .payload = slice_of(payload, bytes)};
    for (unsigned n = 1; n <= count; n++) {
        js_propose_publish(&w->stream, node_id, 7, n, &msg);
    }
    return (entry_size(&w->stream.batch) - before) / bytes;
}

static struct world w;

/* A node whose blocks were written slowly had all streams wait for a whole flush, also those of
 * which it had to write nearly nothing. */
Test(js_propose, where_a_disk_lags_each_lane_is_taken_from_a_little)
{
    world_open(&w);
    w.stream.is_member_lagging = true;
    cr_expect_eq(offer(&w, 2, MANY, 1024), 64u);
    cr_expect_eq(offer(&w, 3, 3, 1024), 3u, "what one lane had is not taken from another");
    cr_expect_eq(offer(&w, 4, MANY, MESSAGE_BYTES), 4u);
    world_close(&w);
}

Test(js_propose, where_memory_is_full_nothing_is_taken)
{
    world_open(&w);
    w.stream.is_member_lagging = w.stream.is_member_behind = true;
    cr_expect_eq(offer(&w, 2, 1, 1024), 0u);
    world_close(&w);
}
