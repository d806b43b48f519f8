#include "raft_world.h"

#include <stdio.h>

#include <criterion/criterion.h>

#include "raft/frames.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"

static uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2);
    return h * 0xff51afd7ed558ccdull;
}

/* ---- The environment ---- */

static void env_send(void *ctx, uint64_t node_id, enum host_lane lane, struct slice frame)
{
    struct world_node *n = ctx;
    struct world *w = n->world;
    unsigned to = (unsigned)node_id - 1;
    cr_assert_leq(frame.len, HOST_FRAME_BYTES_MAX);
    w->frames_sent++;
    if (w->is_cut[n->number][to] || !w->nodes[to].is_up) {
        return;
    }
    struct world_frame *f = xcalloc(1, sizeof *f);
    f->from = n->number;
    f->to = to;
    f->lane = lane;
    buf_append_slice(&f->bytes, frame);
    list_push_back(&w->frames, &f->link);
}

static uint64_t env_random(void *ctx)
{
    struct world *w = ((struct world_node *)ctx)->world;
    w->rng ^= w->rng << 13;
    w->rng ^= w->rng >> 7;
    w->rng ^= w->rng << 17;
    return w->rng >> 8;
}

static void env_flush_wanted(void *ctx, uint64_t gid)
{
    struct world_node *n = ctx;
    if (!world_machine(n->world, n->number, gid)->is_flush_refused) {
        world_flush(n->world, n->number, gid);
    }
}

static void env_alarm(void *ctx, uint64_t gid, const char *text)
{
    struct world_node *n = ctx;
    (void)gid;
    (void)text;
    n->world->alarms++;
}

/* ---- The machine ---- */

static void fsm_apply(void *ctx, const struct group_entry *e)
{
    struct machine *m = ctx;
    if (m->is_halted) {
        return;
    }
    cr_assert_eq(e->index, m->applied.index + 1, "node %u group %lu: index %lu after %lu",
                 m->node + 1, m->gid, e->index, m->applied.index);
    cr_assert_geq(e->term, m->applied.term);
    m->applied = (struct group_base){e->index, e->term};
    if (e->type == GROUP_ENTRY_COMMAND) {
        m->hash = mix(m->hash, crc32c(0, e->bytes.ptr, e->bytes.len));
        m->commands++;
    }
    if (e->token != 0) {
        m->own++;
        m->last_token = e->token;
    }
    uint64_t g = m->gid - 1;
    cr_assert_lt(e->index, WORLD_INDEXES);
    if (m->world->has_hash[g][e->index]) {
        cr_assert_eq(m->world->hashes[g][e->index], m->hash, "replicas diverge at %lu", e->index);
    }
    m->world->has_hash[g][e->index] = true;
    m->world->hashes[g][e->index] = m->hash;
    if (m->group != NULL) { /* Entry 1 comes inside group_create. */
        group_set_applied(m->group, e->index);
    }
}

static void fsm_lost(void *ctx, uint64_t token, enum group_lost why)
{
    struct machine *m = ctx;
    (void)token;
    (void)why;
    m->lost++;
}

static void fsm_role(void *ctx, const struct group_role *role)
{
    ((struct machine *)ctx)->role = *role;
}

static void fsm_read_done(void *ctx, uint64_t token, bool is_ok, uint64_t index)
{
    struct machine *m = ctx;
    (void)token;
    m->reads_ok += is_ok;
    m->reads_failed += !is_ok;
    m->read_index = index;
}

static struct group_base fsm_base(void *ctx)
{
    return ((struct machine *)ctx)->base;
}

/* An image: part 0 is the hash, part 1 filler, part 2 empty. */
struct image {
    struct group_base base;
    uint64_t hash;
};

static uint8_t filler(uint64_t off)
{
    return (uint8_t)((off * 31 >> 3) & 0xff);
}

static void fsm_image_open(void *ctx, uint64_t index_min, struct host_job *job)
{
    struct machine *m = ctx;
    world_flush(m->world, m->node, m->gid);
    if (m->base.index < index_min) {
        host_image_opened(job, ERR_AGAIN, NULL, m->base, NULL, 0);
        return;
    }
    struct image *im = xmalloc(sizeof *im);
    *im = (struct image){m->base, m->base_hash};
    struct group_part parts[3] = {{8, 0}, {m->world->image_part_bytes, 0}, {0, 0}};
    host_image_opened(job, 0, im, im->base, parts, 3);
}

static void fsm_image_read(void *ctx, void *image, uint32_t part, uint64_t off, uint8_t *buf,
                           size_t len, struct host_job *job)
{
    struct image *im = image;
    (void)ctx;
    for (size_t i = 0; i < len; i++) {
        buf[i] = filler(off + i);
        if (part == 0) {
            buf[i] = (uint8_t)(im->hash >> (8 * (off + i)));
        }
    }
    host_job_done(job, 0);
}

static void fsm_image_close(void *ctx, void *image)
{
    (void)ctx;
    free(image);
}

struct stage {
    struct group_base base;
    uint64_t hash;
    uint64_t filler_bytes;
};

static int fsm_stage_open(void *ctx, struct group_base base, const struct group_part *parts,
                          uint32_t parts_count, void **ret_stage)
{
    (void)ctx;
    cr_assert_eq(parts_count, 3);
    cr_assert_eq(parts[0].bytes, 8);
    struct stage *s = xcalloc(1, sizeof *s);
    s->base = base;
    *ret_stage = s;
    return 0;
}

static void fsm_stage_write(void *ctx, void *stage, uint32_t part, uint64_t off, struct slice bytes,
                            struct host_job *job)
{
    struct stage *s = stage;
    (void)ctx;
    for (size_t i = 0; i < bytes.len; i++) {
        if (part == 0) {
            s->hash |= (uint64_t)bytes.ptr[i] << (8 * (off + i));
        } else {
            cr_assert_eq(bytes.ptr[i], filler(off + i));
            s->filler_bytes++;
        }
    }
    host_job_done(job, 0);
}

static void fsm_stage_verify(void *ctx, void *stage, struct host_job *job)
{
    struct machine *m = ctx;
    cr_assert_eq(((struct stage *)stage)->filler_bytes, m->world->image_part_bytes);
    host_job_done(job, 0);
}

static void fsm_stage_switch(void *ctx, void *stage, struct host_job *job)
{
    struct machine *m = ctx;
    struct stage *s = stage;
    m->base = m->applied = s->base;
    m->base_hash = m->hash = s->hash;
    free(s);
    host_job_done(job, 0);
}

static void fsm_stage_drop(void *ctx, void *stage)
{
    (void)ctx;
    free(stage);
}

static struct group_options options_of(struct machine *m)
{
    return (struct group_options){.gid = m->gid,
                                  .raft_id = m->raft_id,
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
                                          .ctx = m},
                                  .priority = 1};
}

/* ---- Nodes ---- */

static void node_open(struct world_node *n)
{
    struct world *w = n->world;
    struct host_options o = w->options;
    o.node_id = n->number + 1;
    o.env = (struct host_env){.send = env_send,
                              .random = env_random,
                              .flush_wanted = env_flush_wanted,
                              .alarm = env_alarm,
                              .ctx = n};
    n->host = host_new(&o);
    struct wal_replay replay = host_wal_replay(n->host);
    struct wal_options wo = {.ops = sim_disk_ops(n->disk),
                             .dir = "/wal",
                             .segment_bytes_min = w->segment_bytes,
                             .segment_bytes_max = w->segment_bytes,
                             .frame_bytes_max = 4u << 20,
                             .salt_seed = n->number + 1,
                             .try_direct = true};
    struct wal_recovery recovery;
    cr_assert_eq(wal_open(&wo, &replay, &recovery, &n->wal), 0);
    host_open(n->host, n->wal, w->now_ms);
    n->is_up = true;
    for (unsigned i = 0; i < w->nodes_count; i++) {
        struct world_node *other = &w->nodes[i];
        if (i != n->number && other->is_up && !w->is_cut[i][n->number]) {
            host_peer_up(n->host, i + 1);
            host_peer_up(other->host, n->number + 1);
        }
    }
}

void world_open(struct world *w, unsigned nodes_count, const struct host_options *options)
{
    memset(w, 0, sizeof *w);
    w->rng = 88172645463325252ull;
    w->now_ms = 1000;
    w->nodes_count = nodes_count;
    w->image_part_bytes = 700000;
    w->segment_bytes = 4u << 20;
    if (options != NULL) {
        w->options = *options;
    }
    list_init(&w->frames);
    for (unsigned i = 0; i < nodes_count; i++) {
        struct world_node *n = &w->nodes[i];
        n->world = w;
        n->number = i;
        n->disk = sim_disk_new(i + 1);
        const struct file_ops *ops = sim_disk_ops(n->disk);
        cr_assert_eq(ops->mkdir(ops->ctx, "/wal"), 0);
        cr_assert_eq(ops->sync_dir(ops->ctx, "/"), 0);
        for (unsigned g = 0; g < WORLD_GROUPS; g++) {
            n->machines[g] = (struct machine){.world = w, .node = i, .gid = g + 1};
        }
        node_open(n);
    }
}

static void frames_drop(struct world *w, unsigned node, bool is_all)
{
    LIST_FOR_SAFE(it, tmp, &w->frames)
    {
        struct world_frame *f = container_of(it, struct world_frame, link);
        if (is_all || f->from == node || f->to == node) {
            list_remove(&f->link);
            buf_close(&f->bytes);
            free(f);
        }
    }
}

void world_close(struct world *w)
{
    frames_drop(w, 0, true);
    for (unsigned i = 0; i < w->nodes_count; i++) {
        struct world_node *n = &w->nodes[i];
        if (n->is_up) {
            host_close(n->host);
            wal_close(n->wal);
        }
        sim_disk_free(n->disk);
    }
}

struct machine *world_machine(struct world *w, unsigned node, uint64_t gid)
{
    return &w->nodes[node].machines[gid - 1];
}

void world_create(struct world *w, uint64_t gid, unsigned mask)
{
    struct group_member members[WORLD_NODES];
    unsigned count = 0;
    for (unsigned i = 0; i < w->nodes_count; i++) {
        if ((mask >> i & 1) != 0) {
            members[count++] = (struct group_member){gid * 100 + i + 1, i + 1, GROUP_VOTER};
        }
    }
    for (unsigned i = 0; i < w->nodes_count; i++) {
        if ((mask >> i & 1) != 0) {
            struct machine *m = world_machine(w, i, gid);
            m->exists = true;
            m->raft_id = gid * 100 + i + 1;
            struct group_options o = options_of(m);
            cr_assert_eq(group_create(w->nodes[i].host, &o, members, count, &m->group), 0);
        }
    }
}

void world_join(struct world *w, unsigned node, uint64_t gid, uint64_t raft_id)
{
    struct machine *m = world_machine(w, node, gid);
    m->exists = true;
    m->raft_id = raft_id;
    struct group_options o = options_of(m);
    cr_assert_eq(group_create(w->nodes[node].host, &o, NULL, 0, &m->group), 0);
}

static void node_disk(struct world_node *n)
{
    const char *path;
    if (n->is_disk_stuck) {
        return;
    }
    while (wal_batch_take(n->wal)) {
        cr_assert_eq(wal_batch_write(n->wal, &path), 0);
        wal_batch_done(n->wal);
    }
    host_durable(n->host, wal_durable_lsn(n->wal));
}

static void world_step(struct world *w)
{
    w->now_ms += 10;
    for (unsigned i = 0; i < w->nodes_count; i++) {
        if (w->nodes[i].is_up) {
            host_tick(w->nodes[i].host, w->now_ms);
        }
    }
    /* A few rounds per step, so that a message and its answer fit into one. */
    for (unsigned round = 0; round < 4; round++) {
        struct list frames, *l;
        list_init(&frames);
        list_splice(&frames, &w->frames);
        while ((l = list_pop_front(&frames)) != NULL) {
            struct world_frame *f = container_of(l, struct world_frame, link);
            struct world_node *to = &w->nodes[f->to];
            if (to->is_up && !w->is_cut[f->from][f->to]) {
                cr_assert_eq(host_receive(to->host, f->from + 1, f->lane, buf_slice(&f->bytes)), 0);
            }
            buf_close(&f->bytes);
            free(f);
        }
        for (unsigned i = 0; i < w->nodes_count; i++) {
            if (w->nodes[i].is_up) {
                host_turn_end(w->nodes[i].host);
                node_disk(&w->nodes[i]);
                host_turn_end(w->nodes[i].host);
            }
        }
    }
}

void world_run(struct world *w, uint64_t ms)
{
    for (uint64_t end = w->now_ms + ms; w->now_ms < end;) {
        world_step(w);
    }
}

int world_leader(struct world *w, uint64_t gid, uint64_t ms)
{
    for (uint64_t end = w->now_ms + ms; w->now_ms <= end;) {
        for (unsigned i = 0; i < w->nodes_count; i++) {
            struct machine *m = world_machine(w, i, gid);
            if (w->nodes[i].is_up && m->group != NULL && group_role(m->group).is_leader) {
                return (int)i;
            }
        }
        world_step(w);
    }
    return -1;
}

bool world_level(struct world *w, uint64_t gid, uint64_t index, uint64_t ms)
{
    for (uint64_t end = w->now_ms + ms; w->now_ms <= end;) {
        uint64_t at = 0;
        bool is_level = true;
        for (unsigned i = 0; i < w->nodes_count; i++) {
            struct machine *m = world_machine(w, i, gid);
            if (!w->nodes[i].is_up || m->group == NULL) {
                continue;
            }
            is_level = is_level && m->applied.index >= index && (at == 0 || m->applied.index == at);
            at = m->applied.index;
        }
        if (is_level && at != 0) {
            return true;
        }
        world_step(w);
    }
    return false;
}

bool world_propose(struct world *w, uint64_t gid, unsigned count, size_t bytes)
{
    uint8_t *p = xcalloc(1, bytes);
    bool is_fine = true;
    for (unsigned i = 0; i < count && is_fine; i++) {
        int leader = world_leader(w, gid, 10000);
        is_fine = leader >= 0;
        if (!is_fine) {
            break;
        }
        struct machine *m = world_machine(w, (unsigned)leader, gid);
        uint64_t v = env_random(&w->nodes[leader]);
        memcpy(p, &v, bytes < 8 ? bytes : 8);
        int rv = group_propose(m->group, slice_of(p, bytes), i + 1);
        if (rv == ERR_FULL) {
            i--;
        }
        is_fine = rv == 0 || rv == ERR_FULL;
        if (i % 8 == 7 || rv == ERR_FULL) {
            world_step(w);
        }
    }
    free(p);
    world_run(w, 50);
    return is_fine;
}

void world_cut(struct world *w, unsigned node, bool is_cut)
{
    for (unsigned i = 0; i < w->nodes_count; i++) {
        w->is_cut[node][i] = w->is_cut[i][node] = is_cut;
    }
}

void world_diverge(struct world *w, unsigned node, uint64_t gid, unsigned from)
{
    struct machine *m = world_machine(w, node, gid);
    uint64_t term = group_role(m->group).term + 1;
    struct buf frame = BUF_EMPTY;
    struct frame_item it = {.kind = FRAME_ENTRIES,
                            .gid = gid,
                            .from = world_machine(w, from, gid)->raft_id,
                            .to = m->raft_id,
                            .term = term,
                            .index = 1,
                            .index_term = 1,
                            .count = 1};
    frame_begin(&frame);
    size_t at = frame_put(&frame, &it);
    frame_entry_head(&frame, term, 1, 1);
    buf_append_u8(&frame, 'x');
    frame_item_end(&frame, at);
    cr_assert_eq(host_receive(w->nodes[node].host, from + 1, HOST_LANE_RAFT, buf_slice(&frame)), 0);
    buf_close(&frame);
}

void world_crash(struct world *w, unsigned node)
{
    struct world_node *n = &w->nodes[node];
    n->is_up = false;
    frames_drop(w, node, false);
    host_close(n->host);
    wal_close(n->wal);
    sim_disk_crash(n->disk, env_random(n));
    for (unsigned g = 0; g < WORLD_GROUPS; g++) {
        struct machine *m = &n->machines[g];
        m->group = NULL;
        m->applied = m->base;
        m->hash = m->base_hash;
        m->role = (struct group_role){0};
    }
}

void world_tell_down(struct world *w, unsigned node)
{
    for (unsigned i = 0; i < w->nodes_count; i++) {
        if (i != node && w->nodes[i].is_up) {
            host_peer_down(w->nodes[i].host, node + 1);
        }
    }
}

void world_start(struct world *w, unsigned node)
{
    struct world_node *n = &w->nodes[node];
    node_open(n);
    for (unsigned g = 0; g < WORLD_GROUPS; g++) {
        struct machine *m = &n->machines[g];
        if (m->exists) {
            struct group_options o = options_of(m);
            int rv = group_open(n->host, &o, &m->group);
            cr_assert_eq(rv, 0, "group_open: %s", err_text(rv));
        }
    }
}

void world_wipe(struct world *w, unsigned node)
{
    struct world_node *n = &w->nodes[node];
    sim_disk_free(n->disk);
    n->disk = sim_disk_new(node + 77);
    const struct file_ops *ops = sim_disk_ops(n->disk);
    cr_assert_eq(ops->mkdir(ops->ctx, "/wal"), 0);
    cr_assert_eq(ops->sync_dir(ops->ctx, "/"), 0);
    for (unsigned g = 0; g < WORLD_GROUPS; g++) {
        n->machines[g] = (struct machine){.world = w, .node = node, .gid = g + 1};
    }
}

void world_flush(struct world *w, unsigned node, uint64_t gid)
{
    struct machine *m = world_machine(w, node, gid);
    if (m->group != NULL && m->applied.index > m->base.index) {
        m->base = m->applied;
        m->base_hash = m->hash;
        group_set_base(m->group, m->base);
    }
}

void world_dump(struct world *w, uint64_t gid)
{
    for (unsigned i = 0; i < w->nodes_count; i++) {
        struct machine *m = world_machine(w, i, gid);
        if (!w->nodes[i].is_up || m->group == NULL) {
            printf("node %u down\n", i + 1);
            continue;
        }
        struct group_status s;
        group_status(m->group, &s);
        printf("t=%lu node %u state %d term %lu vote %lu leader %lu core_leader %d commit %lu "
               "delivered %lu "
               "last %lu/%lu stored %lu first %lu base %lu\n",
               w->now_ms, i + 1, s.state, s.role.term, s.voted_for, s.leader_raft_id,
               s.is_core_leader, s.commit_index, s.delivered_index, s.last_index, s.last_term,
               s.stored_index, s.log_first_index, s.base.index);
    }
    fflush(stdout);
}

unsigned world_follower_of(int leader)
{
    return leader == 0 ? 1 : 0;
}
