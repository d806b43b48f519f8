#include "tests/fuzz/raft_node.h"

#include "storage/base/err.h"

static void env_send(void *ctx, uint64_t node_id, enum host_lane lane, struct slice frame)
{
    struct raft_node *n = ctx;
    struct reader r;
    struct frame_item it;
    (void)node_id;
    (void)lane;
    /* Whatever it was told, what it says is well formed. */
    require(frame.len <= HOST_FRAME_BYTES_MAX);
    require(frame_open(frame, &r) == 0);
    int rv;
    while ((rv = frame_next(&r, &it)) == 0) {
    }
    require(rv == ERR_NOTFOUND);
    buf_clear(&n->said);
    buf_append_slice(&n->said, frame);
}

static uint64_t env_random(void *ctx)
{
    struct raft_node *n = ctx;
    n->rng ^= n->rng << 13;
    n->rng ^= n->rng >> 7;
    n->rng ^= n->rng << 17;
    return n->rng;
}

static void fsm_apply(void *ctx, const struct group_entry *e)
{
    struct raft_node *n = ctx;
    require(e->index == n->applied.index + 1);
    require(e->term >= n->applied.term);
    n->applied = (struct group_base){e->index, e->term};
}

static void fsm_lost(void *ctx, uint64_t token, enum group_lost why)
{
    (void)why;
    require(token != 0 && token <= ((struct raft_node *)ctx)->token);
}

static void fsm_role(void *ctx, const struct group_role *role)
{
    (void)ctx;
    (void)role;
}

static void fsm_read_done(void *ctx, uint64_t token, bool is_ok, uint64_t index)
{
    (void)ctx;
    (void)token;
    (void)is_ok;
    (void)index;
}

static struct group_base fsm_base(void *ctx)
{
    return ((struct raft_node *)ctx)->base;
}

/* ---- Images: one part of 64 bytes, or what the peer says it has ---- */

static void job_wait(struct raft_node *n, struct host_job *job)
{
    require(n->jobs_count < sizeof n->jobs / sizeof n->jobs[0]);
    n->jobs[n->jobs_count++] = job;
}

static void job_end(struct raft_node *n, struct host_job *job)
{
    if (n->is_lazy && n->jobs_count < sizeof n->jobs / sizeof n->jobs[0]) {
        job_wait(n, job);
    } else {
        host_job_done(job, 0);
    }
}

static void fsm_image_open(void *ctx, uint64_t index_min, struct host_job *job)
{
    struct raft_node *n = ctx;
    static const struct group_part part = {64, 7};
    (void)index_min;
    raft_node_flush(n);
    host_image_opened(job, 0, n, n->base, &part, 1);
}

static void fsm_image_read(void *ctx, void *image, uint32_t part, uint64_t off, uint8_t *buf,
                           size_t len, struct host_job *job)
{
    require(image == ctx && part == 0 && off + len <= 64);
    memset(buf, 1, len);
    job_end(ctx, job);
}

static void fsm_image_close(void *ctx, void *image)
{
    require(image == ctx);
}

static int fsm_stage_open(void *ctx, struct group_base base, const struct group_part *parts,
                          uint32_t parts_count, void **ret_stage)
{
    struct raft_node *n = ctx;
    require(!n->has_stage);
    for (uint32_t i = 0; i < parts_count; i++) {
        require(parts[i].bytes <= HOST_PART_BYTES_MAX);
    }
    n->has_stage = true;
    n->staged = base;
    *ret_stage = n;
    return 0;
}

static void fsm_stage_write(void *ctx, void *stage, uint32_t part, uint64_t off, struct slice bytes,
                            struct host_job *job)
{
    (void)part;
    (void)off;
    require(stage == ctx && bytes.len > 0);
    job_end(ctx, job);
}

static void fsm_stage_verify(void *ctx, void *stage, struct host_job *job)
{
    require(stage == ctx);
    job_end(ctx, job);
}

static void fsm_stage_switch(void *ctx, void *stage, struct host_job *job)
{
    struct raft_node *n = ctx;
    require(stage == ctx && n->has_stage);
    n->has_stage = false;
    n->base = n->applied = n->staged;
    host_job_done(job, 0);
}

static void fsm_stage_drop(void *ctx, void *stage)
{
    struct raft_node *n = ctx;
    require(stage == ctx && n->has_stage);
    n->has_stage = false;
}

/* ---- Life ---- */

struct group_options raft_node_options(struct raft_node *n)
{
    return (struct group_options){.gid = RAFT_GID,
                                  .raft_id = RAFT_ID(1),
                                  .fsm = {.apply = fsm_apply,
                                          .lost = fsm_lost,
                                          .role_changed = fsm_role,
                                          .read_done = fsm_read_done,
                                          .base = fsm_base,
                                          .image_open = fsm_image_open,
                                          .image_read = fsm_image_read,
                                          .image_close = fsm_image_close,
                                          .stage_open = fsm_stage_open,
                                          .stage_write = fsm_stage_write,
                                          .stage_verify = fsm_stage_verify,
                                          .stage_switch = fsm_stage_switch,
                                          .stage_drop = fsm_stage_drop,
                                          .ctx = n},
                                  .entry_bytes_max = 65536};
}

void raft_node_open(struct raft_node *n)
{
    *n = (struct raft_node){.disk = sim_disk_new(1), .rng = 88172645463325252u, .now_ms = 1000};
    struct host_options options = {.env = {.send = env_send, .random = env_random, .ctx = n},
                                   .node_id = 1,
                                   .log_entries_max = 16,
                                   .peer_queue_bytes_max = 1u << 20,
                                   .group_queue_bytes_max = 1u << 18};
    n->host = host_new(&options);
}

void raft_node_recovered(struct raft_node *n)
{
    const struct file_ops *ops = sim_disk_ops(n->disk);
    struct wal_options o = {.ops = ops,
                            .fill_bytes = 1,
                            .dir = "wal",
                            .segment_bytes_min = 4 * 4096,
                            .segment_bytes_max = 64 * 4096,
                            .frame_bytes_max = 65536,
                            .salt_seed = 1};
    struct wal_recovery found;
    require(ops->mkdir(ops->ctx, "wal") == 0);
    require(wal_open(&o, NULL, &found, &n->wal) == 0);
    host_open(n->host, n->wal, n->now_ms);
}

void raft_node_settle(struct raft_node *n)
{
    for (int i = 0; i < 4; i++) {
        const char *path;
        host_turn_end(n->host);
        while (wal_batch_take(n->wal)) {
            require(wal_batch_write(n->wal, &path) == 0);
            wal_batch_done(n->wal);
        }
        host_durable(n->host, wal_durable_lsn(n->wal));
    }
    host_turn_end(n->host);
}

void raft_node_tick(struct raft_node *n, uint64_t ms)
{
    n->now_ms += ms;
    host_tick(n->host, n->now_ms);
}

void raft_node_flush(struct raft_node *n)
{
    if (n->group != NULL && n->applied.index > n->base.index) {
        n->base = n->applied;
        group_set_base(n->group, n->base);
    }
}

void raft_node_job(struct raft_node *n, int status)
{
    if (n->jobs_count > 0) {
        struct host_job *job = n->jobs[0];
        n->jobs_count--;
        memmove(n->jobs, n->jobs + 1, n->jobs_count * sizeof(struct host_job *));
        host_job_done(job, status);
    }
}

void raft_node_check(struct raft_node *n)
{
    struct group_status s;
    struct host_stats stats;
    host_stats(n->host, &stats);
    if (n->group == NULL) {
        return;
    }
    group_status(n->group, &s);
    require(s.delivered_index == n->applied.index);
    require(s.base.index <= s.delivered_index);
    require(s.members_count <= HOST_MEMBERS_MAX);
}

void raft_node_close(struct raft_node *n)
{
    host_close(n->host);
    wal_close(n->wal);
    sim_disk_free(n->disk);
    buf_close(&n->said);
}
