/* What the host makes of bytes it did not make. Groups whose records make no sense, though their
 * checksums are right: they are not started, now or when the records are trimmed, and the others
 * are. Peers that speak for others are not heard. */
#include <criterion/criterion.h>

#include "raft/conf.h"
#include "raft/frames.h"
#include "raft/records.h"
#include "storage/base/err.h"
#include "tests/lib/sim_disk.h"

#define BROKEN 5u
#define FINE 6u
#define RAFT_ID 101u

struct node {
    struct sim_disk *disk;
    struct wal *wal;
    struct raft_host *host;
    uint64_t now_ms;
    struct group_base base;
};

static void env_send(void *ctx, uint64_t node_id, enum host_lane lane, struct slice frame)
{
    (void)ctx;
    (void)node_id;
    (void)lane;
    (void)frame;
}

static uint64_t env_random(void *ctx)
{
    (void)ctx;
    return 4;
}

static void fsm_apply(void *ctx, const struct group_entry *entry)
{
    (void)ctx;
    (void)entry;
}

static void fsm_role(void *ctx, const struct group_role *role)
{
    (void)ctx;
    (void)role;
}

static struct group_base fsm_base(void *ctx)
{
    return ((struct node *)ctx)->base;
}

static void node_open(struct node *n)
{
    const struct file_ops *ops = sim_disk_ops(n->disk);
    struct wal_options o = {.ops = ops,
                            .dir = "wal",
                            .segment_bytes_min = 16 * 4096,
                            .segment_bytes_max = 16 * 4096,
                            .frame_bytes_max = 65536,
                            .salt_seed = (uint32_t)++n->now_ms};
    struct host_options options = {.env = {.send = env_send, .random = env_random, .ctx = n},
                                   .node_id = 1};
    struct wal_recovery found;
    (void)ops->mkdir(ops->ctx, "wal");
    n->host = host_new(&options);
    struct wal_replay replay = host_wal_replay(n->host);
    replay.record_type_max = 0; /* The tests fill the log with a type of their own. */
    cr_assert_eq(wal_open(&o, &replay, &found, &n->wal), 0);
    host_open(n->host, n->wal, n->now_ms);
}

static void node_close(struct node *n)
{
    host_close(n->host);
    wal_close(n->wal);
}

static void commit(struct node *n)
{
    const char *path;
    while (wal_batch_take(n->wal)) {
        cr_assert_eq(wal_batch_write(n->wal, &path), 0);
        wal_batch_done(n->wal);
    }
    host_durable(n->host, wal_durable_lsn(n->wal));
}

static int open_group(struct node *n, uint64_t gid)
{
    struct group_options o = {
        .gid = gid,
        .raft_id = RAFT_ID,
        .fsm = {.apply = fsm_apply, .role_changed = fsm_role, .base = fsm_base, .ctx = n}};
    struct raft_group *g;
    return group_open(n->host, &o, &g);
}

static void put(struct node *n, uint8_t type, uint64_t gid, struct buf *payload)
{
    struct slice part = buf_slice(payload);
    (void)wal_append(n->wal, type, gid, &part, 1);
    buf_clear(payload);
}

/* A replica of three as it was born, and has written nothing since. */
static void put_birth(struct node *n, uint64_t gid)
{
    struct buf b = BUF_EMPTY;
    struct buf conf = BUF_EMPTY;
    struct conf c = {.count = 3};
    for (unsigned i = 0; i < 3; i++) {
        c.members[i] = (struct group_member){RAFT_ID + i, i + 1, GROUP_VOTER};
    }
    conf_encode(&c, &conf);
    record_put_create(&b, RAFT_ID);
    put(n, RECORD_CREATE, gid, &b);
    record_put_meta(&b, 1, 0);
    put(n, RECORD_META, gid, &b);
    record_put_entries_head(&b, 1, 0, 1);
    record_put_entry_head(&b, 1, RECORD_ENTRY_CHANGE, conf.len);
    buf_append_slice(&b, buf_slice(&conf));
    put(n, RECORD_APPEND, gid, &b);
    buf_close(&b);
    buf_close(&conf);
}

Test(raft_input, a_broken_group_stays_broken_when_its_records_are_trimmed)
{
    struct node n = {.disk = sim_disk_new(1), .now_ms = 1000};
    struct buf b = BUF_EMPTY;
    node_open(&n);
    put_birth(&n, BROKEN);
    put_birth(&n, FINE);
    /* Entries 2 and 3, of which the second is cut off; then a whole 4. */
    record_put_entries_head(&b, 2, 1, 2);
    record_put_entry_head(&b, 1, RECORD_ENTRY_COMMAND, 2);
    buf_append_str(&b, "ab");
    record_put_entry_head(&b, 1, RECORD_ENTRY_COMMAND, 200);
    put(&n, RECORD_APPEND, BROKEN, &b);
    commit(&n);
    uint64_t lsn = wal_durable_lsn(n.wal);
    node_close(&n);

    node_open(&n);
    cr_expect_eq(open_group(&n, BROKEN), ERR_CORRUPT);
    cr_expect_eq(open_group(&n, FINE), 0);
    memset(buf_reserve(&b, 8000), 0, 8000);
    b.len = 8000;
    /* Trimmed, and the file written over. */
    for (unsigned i = 0; i < 400; i++) {
        struct slice part = buf_slice(&b);
        (void)wal_append(n.wal, 200, 9, &part, 1);
        commit(&n);
        n.now_ms += 100;
        host_tick(n.host, n.now_ms);
        host_turn_end(n.host);
    }
    commit(&n);
    cr_assert_gt(wal_oldest_lsn(n.wal), lsn, "the records are to be trimmed");
    node_close(&n);

    node_open(&n);
    cr_expect_eq(open_group(&n, BROKEN), ERR_CORRUPT);
    cr_expect_eq(open_group(&n, FINE), 0);
    cr_expect_eq(host_destroy_found(n.host, BROKEN), 0);
    commit(&n);
    node_close(&n);
    node_open(&n);
    cr_expect_eq(open_group(&n, BROKEN), ERR_NOTFOUND);
    node_close(&n);
    buf_close(&b);
    sim_disk_free(n.disk);
}

/* What a record says, for groups that are then not to be opened. */
static void put_number(struct buf *b, int which)
{
    const uint64_t far = RECORD_NUMBER_MAX + 1;
    struct record_base base = {.index = 1, .term = 1, .conf_index = 1};
    switch (which) {
    case 0:
        record_put_meta(b, far, 0);
        break;
    case 1:
        record_put_truncate(b, 0);
        break;
    case 2:
        base.index = far;
        record_put_base(b, &base);
        break;
    case 3:
        base.term = UINT64_MAX;
        record_put_base(b, &base);
        break;
    case 4:
        base.term = 0;
        record_put_base(b, &base);
        break;
    default:
        record_put_entries_head(b, UINT64_MAX, 1, 1);
        record_put_entry_head(b, 1, RECORD_ENTRY_COMMAND, 1);
        buf_append_u8(b, 'x');
        break;
    }
}

Test(raft_input, numbers_beyond_the_bound_break_a_group)
{
    static const uint8_t types[] = {RECORD_META, RECORD_TRUNCATE, RECORD_BASE,
                                    RECORD_BASE, RECORD_BASE,     RECORD_APPEND};
    for (int i = 0; i < (int)sizeof types; i++) {
        struct node n = {.disk = sim_disk_new(1), .now_ms = 1000};
        struct buf b = BUF_EMPTY;
        node_open(&n);
        put_birth(&n, BROKEN);
        put_number(&b, i);
        put(&n, types[i], BROKEN, &b);
        commit(&n);
        node_close(&n);
        node_open(&n);
        cr_expect_eq(open_group(&n, BROKEN), ERR_CORRUPT, "case %d", i);
        node_close(&n);
        buf_close(&b);
        sim_disk_free(n.disk);
    }
}

Test(raft_input, a_store_beyond_the_bound_is_not_gone_on_from)
{
    struct node n = {.disk = sim_disk_new(1), .now_ms = 1000};
    node_open(&n);
    put_birth(&n, FINE);
    commit(&n);
    node_close(&n);
    node_open(&n);
    n.base = (struct group_base){UINT64_MAX, 1};
    cr_expect_eq(open_group(&n, FINE), ERR_CORRUPT);
    n.base = (struct group_base){1, UINT64_MAX};
    cr_expect_eq(open_group(&n, FINE), ERR_CORRUPT);
    n.base = (struct group_base){1, 0};
    cr_expect_eq(open_group(&n, FINE), ERR_CORRUPT);
    n.base = (struct group_base){0, 0};
    cr_expect_eq(open_group(&n, FINE), 0);
    node_close(&n);
    sim_disk_free(n.disk);
}

/* The image was switched to, in a term that the WAL was to hear of behind it. */
Test(raft_input, a_crash_behind_a_switch_raises_the_term_to_the_images)
{
    struct node n = {.disk = sim_disk_new(1), .now_ms = 1000};
    struct buf b = BUF_EMPTY;
    struct buf conf = BUF_EMPTY;
    struct conf c = {.count = 3};
    for (unsigned i = 0; i < 3; i++) {
        c.members[i] = (struct group_member){RAFT_ID + i, i + 1, GROUP_VOTER};
    }
    conf_encode(&c, &conf);
    node_open(&n);
    put_birth(&n, FINE);
    struct record_base image = {50, 7, 1, buf_slice(&conf)};
    record_put_base(&b, &image);
    put(&n, RECORD_IMAGE, FINE, &b);
    commit(&n);
    node_close(&n);
    node_open(&n);
    n.base = (struct group_base){50, 7};
    cr_assert_eq(open_group(&n, FINE), 0);
    cr_expect_geq(group_role(host_group(n.host, FINE)).term, 7);
    node_close(&n);
    buf_close(&b);
    buf_close(&conf);
    sim_disk_free(n.disk);
}

static uint64_t dropped(const struct node *n)
{
    struct host_stats stats;
    host_stats(n->host, &stats);
    return stats.dropped;
}

static void ping(struct node *n, uint64_t node_id, uint64_t from)
{
    struct buf frame = BUF_EMPTY;
    struct frame_item it = {.kind = FRAME_PING, .gid = FINE, .from = from, .to = RAFT_ID};
    frame_begin(&frame);
    frame_put(&frame, &it);
    cr_assert_eq(host_receive(n->host, node_id, HOST_LANE_RAFT, buf_slice(&frame)), 0);
    buf_close(&frame);
}

Test(raft_input, a_node_cannot_take_the_place_of_anothers_replica)
{
    struct node n = {.disk = sim_disk_new(1), .now_ms = 1000};
    node_open(&n);
    put_birth(&n, FINE);
    commit(&n);
    node_close(&n);
    node_open(&n);
    cr_assert_eq(open_group(&n, FINE), 0);
    uint64_t before = dropped(&n);
    ping(&n, 3, RAFT_ID + 1); /* Which lives on node 2. */
    cr_expect_eq(dropped(&n), before + 1);
    ping(&n, 2, RAFT_ID + 1);
    ping(&n, 3, RAFT_ID + 2);
    cr_expect_eq(dropped(&n), before + 1);
    node_close(&n);
    sim_disk_free(n.disk);
}
