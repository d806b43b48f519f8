/* What the WAL keeps of a group, and what a replay makes of that. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "raft/conf.h"
#include "raft/records.h"
#include "raft_world.h"
#include "storage/base/err.h"
#include "storage/wal_format.h"

static struct world w; /* One test per process. */

static void put_record(uint8_t type, struct buf *payload)
{
    struct slice part = buf_slice(payload);
    wal_append(w.nodes[0].wal, type, 1, &part, 1);
    buf_clear(payload);
}

static void put_entries(uint8_t type, uint64_t first, uint64_t last, uint64_t term3_from)
{
    struct buf b = BUF_EMPTY;
    record_put_entries_head(&b, first,
                            first <= 11              ? 1
                            : first - 1 < term3_from ? 2
                                                     : 3,
                            last - first + 1);
    for (uint64_t i = first; i <= last; i++) {
        record_put_entry_head(&b, i < term3_from ? 2 : 3, RECORD_ENTRY_COMMAND, 8);
        buf_append_u64(&b, i);
    }
    put_record(type, &b);
    buf_close(&b);
}

/* Entries are carried in records of 64; a newer append may stand in front of them when what was
 * before it is trimmed. The first record then leaves a gap, which the next ones fill. */
static void check_carried(bool has_rest_of_an_older_run)
{
    struct conf c = {2, {{101, 1, GROUP_VOTER}, {102, 2, GROUP_VOTER}}};
    struct buf conf = BUF_EMPTY;
    struct buf b = BUF_EMPTY;
    world_open(&w, 2, NULL);
    conf_encode(&c, &conf);
    struct record_base base = {10, 1, 1, buf_slice(&conf)};
    record_put_create(&b, 101);
    put_record(RECORD_CREATE, &b);
    record_put_meta(&b, 3, 0);
    put_record(RECORD_META, &b);
    record_put_base(&b, &base);
    put_record(RECORD_BASE, &b);
    if (has_rest_of_an_older_run) {
        put_entries(RECORD_CARRY, 75, 138, 200);
    }
    put_entries(RECORD_APPEND, 200, 205, 200);
    put_entries(RECORD_CARRY, 11, 74, 200);
    put_entries(RECORD_CARRY, 75, 138, 200);
    put_entries(RECORD_CARRY, 139, 205, 200);
    put_entries(RECORD_APPEND, 206, 206, 200);
    world_run(&w, 50);
    struct machine *m = world_machine(&w, 0, 1);
    m->exists = true;
    m->raft_id = 101;
    m->base = (struct group_base){10, 1};
    world_crash(&w, 0);
    world_start(&w, 0);
    struct group_status s;
    group_status(m->group, &s);
    cr_assert_eq(s.last_index, 206);
    cr_assert_eq(group_term_at(m->group, 11), 2);
    cr_assert_eq(group_term_at(m->group, 199), 2);
    cr_assert_eq(group_term_at(m->group, 200), 3);
    cr_assert_eq(w.alarms, 0);
    buf_close(&b);
    buf_close(&conf);
    world_close(&w);
}

/* A configuration, entry 12, was written a second time when 14 was under way already. Then 13 and
 * all before it were flushed, and their first records trimmed. */
Test(raft_host, an_entry_written_again_behind_a_newer_one_breaks_nothing_when_the_first_is_trimmed)
{
    struct conf c = {2, {{101, 1, GROUP_VOTER}, {102, 2, GROUP_VOTER}}};
    struct buf conf = BUF_EMPTY;
    struct buf b = BUF_EMPTY;
    world_open(&w, 2, NULL);
    conf_encode(&c, &conf);
    struct record_base base = {10, 1, 1, buf_slice(&conf)};
    record_put_create(&b, 101);
    put_record(RECORD_CREATE, &b);
    record_put_meta(&b, 3, 0);
    put_record(RECORD_META, &b);
    record_put_base(&b, &base);
    put_record(RECORD_BASE, &b);
    put_entries(RECORD_APPEND, 14, 14, 200);
    put_entries(RECORD_AGAIN, 12, 12, 200);
    put_entries(RECORD_APPEND, 15, 15, 200);
    base.index = 13;
    base.term = 2;
    record_put_base(&b, &base);
    put_record(RECORD_BASE, &b);
    put_entries(RECORD_APPEND, 16, 16, 200);
    world_run(&w, 50);
    struct machine *m = world_machine(&w, 0, 1);
    m->exists = true;
    m->raft_id = 101;
    m->base = (struct group_base){13, 2};
    world_crash(&w, 0);
    world_start(&w, 0);
    struct group_status s;
    group_status(m->group, &s);
    cr_assert_eq(s.last_index, 16);
    cr_assert_eq(w.alarms, 0);
    buf_close(&b);
    buf_close(&conf);
    world_close(&w);
}

Test(raft_host, entries_carried_behind_a_newer_append_are_read_in_order)
{
    check_carried(false);
}

/* A crash cut that run short, its front is trimmed by now: a gap, which the next run closes. */
Test(raft_host, the_rest_of_a_run_of_carried_entries_breaks_nothing)
{
    check_carried(true);
}

/* Between the records of a run others are appended. The first ones may be there yet, or not; the
 * run may be cut short, if they are. */
static void check_appended_meanwhile(bool is_first_there, bool is_whole)
{
    struct conf c = {2, {{101, 1, GROUP_VOTER}, {102, 2, GROUP_VOTER}}};
    struct buf conf = BUF_EMPTY;
    struct buf b = BUF_EMPTY;
    world_open(&w, 2, NULL);
    conf_encode(&c, &conf);
    struct record_base base = {10, 1, 1, buf_slice(&conf)};
    record_put_create(&b, 101);
    put_record(RECORD_CREATE, &b);
    record_put_meta(&b, 3, 0);
    put_record(RECORD_META, &b);
    record_put_base(&b, &base);
    put_record(RECORD_BASE, &b);
    if (is_first_there) {
        put_entries(RECORD_APPEND, 11, 205, 200);
    }
    put_entries(RECORD_CARRY, 11, 74, 200);
    put_entries(RECORD_APPEND, 206, 206, 200);
    put_entries(RECORD_CARRY, 75, 138, 200);
    put_entries(RECORD_APPEND, 207, 208, 200);
    if (is_whole) {
        put_entries(RECORD_CARRY, 139, 205, 200);
    }
    put_entries(RECORD_APPEND, 209, 209, 200);
    world_run(&w, 50);
    struct machine *m = world_machine(&w, 0, 1);
    m->exists = true;
    m->raft_id = 101;
    m->base = (struct group_base){10, 1};
    world_crash(&w, 0);
    world_start(&w, 0);
    struct group_status s;
    group_status(m->group, &s);
    cr_assert_eq(s.last_index, 209);
    cr_assert_eq(group_term_at(m->group, 11), 2);
    cr_assert_eq(group_term_at(m->group, 199), 2);
    cr_assert_eq(group_term_at(m->group, 206), 3);
    cr_assert_eq(group_term_at(m->group, 209), 3);
    cr_assert_eq(w.alarms, 0);
    buf_close(&b);
    buf_close(&conf);
    world_close(&w);
}

Test(raft_host, what_is_appended_in_the_middle_of_a_run_of_carried_entries_is_behind_it)
{
    check_appended_meanwhile(false, true);
}

Test(raft_host, what_is_appended_in_the_middle_of_a_run_is_behind_the_first_ones_too)
{
    check_appended_meanwhile(true, true);
}

Test(raft_host, a_run_that_was_cut_short_costs_nothing_that_was_appended_meanwhile)
{
    check_appended_meanwhile(true, false);
}

/* Other records of the group come between those of a run, a vote as well as a base. */
Test(raft_host, a_vote_in_the_middle_of_a_run_of_carried_entries_breaks_nothing)
{
    struct conf c = {2, {{101, 1, GROUP_VOTER}, {102, 2, GROUP_VOTER}}};
    struct buf conf = BUF_EMPTY;
    struct buf b = BUF_EMPTY;
    world_open(&w, 2, NULL);
    conf_encode(&c, &conf);
    struct record_base base = {10, 1, 1, buf_slice(&conf)};
    record_put_create(&b, 101);
    put_record(RECORD_CREATE, &b);
    record_put_base(&b, &base);
    put_record(RECORD_BASE, &b);
    put_entries(RECORD_APPEND, 200, 205, 200);
    put_entries(RECORD_CARRY, 11, 74, 200);
    record_put_meta(&b, 4, 101);
    put_record(RECORD_META, &b);
    put_entries(RECORD_CARRY, 75, 138, 200);
    base.index = 50;
    base.term = 2;
    record_put_base(&b, &base);
    put_record(RECORD_BASE, &b);
    put_entries(RECORD_CARRY, 139, 205, 200);
    put_entries(RECORD_APPEND, 206, 206, 200);
    world_run(&w, 50);
    struct machine *m = world_machine(&w, 0, 1);
    m->exists = true;
    m->raft_id = 101;
    m->base = (struct group_base){50, 2};
    world_crash(&w, 0);
    world_start(&w, 0);
    struct group_status s;
    group_status(m->group, &s);
    cr_assert_eq(s.last_index, 206);
    cr_assert_eq(s.role.term, 4);
    cr_assert_eq(group_term_at(m->group, 51), 2);
    cr_assert_eq(group_term_at(m->group, 199), 2);
    cr_assert_eq(group_term_at(m->group, 206), 3);
    cr_assert_eq(w.alarms, 0);
    buf_close(&b);
    buf_close(&conf);
    world_close(&w);
}

/* A crash cut a run short; then a base covered what the run had brought, and the first records of
 * that were trimmed. What the run did not reach is still whole. */
Test(raft_host, the_beginning_of_a_run_of_carried_entries_breaks_nothing)
{
    struct conf c = {2, {{101, 1, GROUP_VOTER}, {102, 2, GROUP_VOTER}}};
    struct buf conf = BUF_EMPTY;
    struct buf b = BUF_EMPTY;
    world_open(&w, 2, NULL);
    conf_encode(&c, &conf);
    struct record_base base = {10, 1, 1, buf_slice(&conf)};
    record_put_create(&b, 101);
    put_record(RECORD_CREATE, &b);
    record_put_meta(&b, 3, 0);
    put_record(RECORD_META, &b);
    record_put_base(&b, &base);
    put_record(RECORD_BASE, &b);
    put_entries(RECORD_APPEND, 140, 205, 200);
    put_entries(RECORD_CARRY, 11, 74, 200);
    put_entries(RECORD_CARRY, 75, 130, 200);
    base.index = 150;
    base.term = 2;
    record_put_base(&b, &base);
    put_record(RECORD_BASE, &b);
    put_entries(RECORD_APPEND, 206, 206, 200);
    world_run(&w, 50);
    struct machine *m = world_machine(&w, 0, 1);
    m->exists = true;
    m->raft_id = 101;
    m->base = (struct group_base){150, 2};
    world_crash(&w, 0);
    world_start(&w, 0);
    struct group_status s;
    group_status(m->group, &s);
    cr_assert_eq(s.last_index, 206);
    cr_assert_eq(group_term_at(m->group, 151), 2);
    cr_assert_eq(group_term_at(m->group, 200), 3);
    cr_assert_eq(w.alarms, 0);
    buf_close(&b);
    buf_close(&conf);
    world_close(&w);
}

static void small_segments(void)
{
    w.segment_bytes = 256u << 10;
    for (unsigned i = 0; i < w.nodes_count; i++) {
        world_crash(&w, i);
    }
    for (unsigned i = 0; i < w.nodes_count; i++) {
        world_start(&w, i);
    }
}

Test(raft_host, a_flushed_idle_group_does_not_pin_the_wal_after_a_restart)
{
    world_open(&w, 3, NULL);
    small_segments();
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    unsigned f = world_follower_of(leader);
    cr_assert(world_propose(&w, 1, 50, 1000));
    cr_assert(world_level(&w, 1, 52, 1000));
    world_flush(&w, f, 1); /* All it has: nothing comes to be flushed after the restart. */
    world_run(&w, 50);
    world_crash(&w, f);
    world_start(&w, f);
    world_create(&w, 2, 1u << f);
    cr_assert(world_propose(&w, 2, 2000, 4000));
    world_run(&w, 1000);
    cr_assert_eq(world_leader(&w, 1, 0), leader);
    cr_assert_leq(wal_sealed_count(w.nodes[f].wal), 14, "%u sealed segments",
                  wal_sealed_count(w.nodes[f].wal));
    world_close(&w);
}

/* A leader that was cut off has entries that an image of a lower index replaces. Nothing is
 * appended behind that image before the restart, nor after it. */
Test(raft_host, what_an_image_replaced_does_not_pin_the_wal_after_a_restart)
{
    struct host_options o = {.log_entries_max = 16};
    struct host_stats s;
    world_open(&w, 3, &o);
    small_segments();
    world_create(&w, 1, 7);
    unsigned old = (unsigned)world_leader(&w, 1, 2000);
    world_cut(&w, old, true);
    for (unsigned i = 0; i < 200; i++) {
        cr_assert_eq(group_propose(world_machine(&w, old, 1)->group, SLICE_LIT("dead end"), i + 1),
                     0);
    }
    world_run(&w, 12000); /* It leads no more. */
    cr_assert(world_propose(&w, 1, 60, 100));
    world_cut(&w, old, false);
    cr_assert(world_level(&w, 1, 60, 10000));
    host_stats(w.nodes[old].host, &s);
    cr_assert_eq(s.catchups, 1);
    struct group_status g;
    group_status(world_machine(&w, old, 1)->group, &g);
    cr_assert_lt(g.last_index, 150);
    world_crash(&w, old);
    world_start(&w, old);
    world_create(&w, 2, 1u << old);
    cr_assert(world_propose(&w, 2, 2000, 4000));
    world_run(&w, 1000);
    cr_assert_leq(wal_sealed_count(w.nodes[old].wal), 14, "%u sealed segments",
                  wal_sealed_count(w.nodes[old].wal));
    world_close(&w);
}

/* Votes, and what other groups append, would wait for all of it on a slow disk. */
Test(raft_host, entries_are_carried_one_record_at_a_time)
{
    struct host_stats s;
    world_open(&w, 2, NULL);
    small_segments();
    world_create(&w, 1, 3);
    unsigned leader = (unsigned)world_leader(&w, 1, 2000);
    world_crash(&w, world_follower_of((int)leader));
    for (unsigned i = 0; i < 300; i++) {
        cr_assert_eq(
            group_propose(world_machine(&w, leader, 1)->group, SLICE_LIT("no quorum"), i + 1), 0);
    }
    world_run(&w, 50);
    world_create(&w, 2, 1u << leader);
    for (unsigned i = 0; i < 14; i++) { /* A segment each. */
        cr_assert(world_propose(&w, 2, 4, 60000));
        world_run(&w, 10);
    }
    host_stats(w.nodes[leader].host, &s);
    cr_assert_eq(s.carried, 0, "it moved not long ago");
    w.nodes[leader].is_disk_stuck = true;
    world_run(&w, 3000);
    host_stats(w.nodes[leader].host, &s);
    cr_assert_eq(s.carried, 64);
    w.nodes[leader].is_disk_stuck = false;
    world_run(&w, 1000);
    host_stats(w.nodes[leader].host, &s);
    cr_assert_geq(s.carried, 300);
    /* All of it is there. */
    world_crash(&w, leader);
    world_start(&w, leader);
    struct group_status g;
    group_status(world_machine(&w, leader, 1)->group, &g);
    cr_assert_geq(g.last_index, 302);
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

/* What was in its log is still there for whoever looks into it. */
Test(raft_host, a_stopped_group_does_not_pin_the_wal)
{
    world_open(&w, 2, NULL);
    small_segments();
    world_create(&w, 1, 3);
    int leader = world_leader(&w, 1, 2000);
    unsigned f = world_follower_of(leader);
    cr_assert(world_propose(&w, 1, 20, 1000));
    world_cut(&w, (unsigned)leader, true);
    world_diverge(&w, f, 1, (unsigned)leader);
    struct group_status s;
    group_status(world_machine(&w, f, 1)->group, &s);
    cr_assert_eq(s.state, GROUP_FAILED);
    cr_assert_eq(w.alarms, 1);
    world_machine(&w, f, 1)->is_flush_refused = true;
    world_create(&w, 2, 1u << f);
    cr_assert(world_propose(&w, 2, 2000, 4000));
    world_run(&w, 1000);
    cr_assert_leq(wal_sealed_count(w.nodes[f].wal), 14, "%u sealed segments",
                  wal_sealed_count(w.nodes[f].wal));
    world_crash(&w, f);
    world_start(&w, f);
    group_status(world_machine(&w, f, 1)->group, &s);
    cr_assert_eq(s.last_index, 22);
    world_close(&w);
}

static void halt(unsigned node)
{
    struct machine *m = world_machine(&w, node, 1);
    m->is_halted = true;
    group_halt(m->group, false);
}

/* @count entries of group 1, and among them @segments segments of another group on @node. */
static void write_beside(unsigned node, unsigned count, unsigned segments)
{
    world_create(&w, 2, 1u << node);
    for (unsigned i = 0; i < segments; i++) {
        cr_assert(world_propose(&w, 1, count / segments, 100));
        cr_assert(world_propose(&w, 2, 8, 30000));
    }
}

static struct group_status status_of(unsigned node)
{
    struct group_status s;
    group_status(world_machine(&w, node, 1)->group, &s);
    return s;
}

/* It met an entry that it does not know. Before, it was behind with flushing, by more than is kept
 * in memory. */
Test(raft_host, a_halted_group_does_not_pin_the_wal)
{
    struct host_options o = {.log_entries_max = 128};
    world_open(&w, 3, &o);
    small_segments();
    world_create(&w, 1, 7);
    unsigned f = world_follower_of(world_leader(&w, 1, 2000));
    world_machine(&w, f, 1)->is_flush_refused = true;
    cr_assert(world_propose(&w, 1, 400, 100));
    cr_assert(world_level(&w, 1, 400, 1000));
    cr_assert_gt(status_of(f).log_first_index, 200);
    halt(f);
    world_machine(&w, f, 1)->is_flush_refused = false;
    write_beside(f, 120, 60);
    cr_assert_eq(status_of(f).state, GROUP_ACTIVE);
    cr_assert_geq(status_of(f).last_index, 520);
    cr_assert_leq(wal_sealed_count(w.nodes[f].wal), 26, "%u sealed segments",
                  wal_sealed_count(w.nodes[f].wal));
    world_close(&w);
}

/* It stops when memory has no room for what comes, and nothing that it acknowledged is lost. */
static void check_halted_and_full(const struct host_options *o, uint64_t taken_max)
{
    world_open(&w, 3, o);
    small_segments();
    world_create(&w, 1, 7);
    unsigned f = world_follower_of(world_leader(&w, 1, 2000));
    cr_assert(world_propose(&w, 1, 20, 100));
    cr_assert(world_level(&w, 1, 20, 1000));
    halt(f);
    write_beside(f, 600, 60);
    struct group_status s = status_of(f);
    cr_assert_eq(s.state, GROUP_FAILED);
    cr_assert(s.is_halted);
    cr_assert(!s.is_divergent);
    cr_assert_eq(w.alarms, 0);
    cr_assert_gt(s.last_index, 60);
    cr_assert_leq(s.last_index, taken_max);
    cr_assert_leq(wal_sealed_count(w.nodes[f].wal), 26, "%u sealed segments",
                  wal_sealed_count(w.nodes[f].wal));
    /* One that knows the entry goes on where it stopped. */
    world_crash(&w, f);
    world_machine(&w, f, 1)->is_halted = false;
    world_start(&w, f);
    cr_assert_eq(status_of(f).last_index, s.last_index);
    cr_assert(world_level(&w, 1, 620, 20000));
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(raft_host, a_halted_group_takes_entries_up_to_a_number_and_stops)
{
    struct host_options o = {.log_entries_max = 128};
    check_halted_and_full(&o, 22 + 128 + 20);
}

Test(raft_host, a_halted_group_takes_entries_up_to_a_size_and_stops)
{
    struct host_options o = {.log_bytes_max = 10000};
    check_halted_and_full(&o, 22 + 100 + 20);
}

static void note_raft_id(void *arg, const struct group_found *found)
{
    uint64_t *raft_id = arg;
    *raft_id = found->gid == 1 ? found->raft_id : *raft_id;
}

static void send_nothing(void *ctx, uint64_t node_id, enum host_lane lane, struct slice frame)
{
    (void)ctx;
    (void)node_id;
    (void)lane;
    (void)frame;
}

static uint64_t random_one(void *ctx)
{
    (void)ctx;
    return 1;
}

/* The raft id of group 1's replica by the WAL on @disk, with a bit of the frame at @off flipped;
 * 0: it knows none. Consumes the disk. */
static uint64_t raft_id_without(struct sim_disk *disk, const char *path, uint64_t off)
{
    uint64_t raft_id = 0;
    struct wal_options wo = {.ops = sim_disk_ops(disk),
                             .dir = "/wal",
                             .segment_bytes_min = 256u << 10,
                             .segment_bytes_max = 256u << 10,
                             .frame_bytes_max = 4u << 20};
    struct host_options o = {.node_id = 1, .env = {.send = send_nothing, .random = random_one}};
    struct raft_host *h = host_new(&o);
    struct wal_replay replay = host_wal_replay(h);
    struct wal_recovery recovery;
    struct wal *wal = NULL;
    cr_assert(sim_disk_flip_bit(disk, path, off * 8 + 100));
    cr_assert_eq(wal_open(&wo, &replay, &recovery, &wal), 0);
    host_each_group(h, note_raft_id, &raft_id);
    host_close(h);
    wal_close(wal);
    sim_disk_free(disk);
    return raft_id;
}

struct paths {
    char path[32][64];
    unsigned count;
};

static void note_path(void *arg, const char *path)
{
    struct paths *p = arg;
    if (strstr(path, ".log") != NULL && p->count < 32) {
        (void)snprintf(p->path[p->count++], sizeof p->path[0], "%s", path);
    }
}

/* With each frame of the WAL rotten in turn. */
static void check_no_frame_alone_knows_the_replica(const struct sim_disk *disk, uint64_t raft_id)
{
    struct paths p = {.count = 0};
    unsigned frames = 0;
    sim_disk_each(disk, note_path, &p);
    for (unsigned i = 0; i < p.count; i++) {
        uint64_t size = sim_disk_file_size(disk, p.path[i]);
        for (uint64_t off = WAL_BLOCK_BYTES; off < size; off += WAL_BLOCK_BYTES) {
            if (wal_get32(sim_disk_bytes(disk, p.path[i]) + off) == WAL_FRAME_MAGIC) {
                frames++;
                cr_assert_eq(raft_id_without(sim_disk_clone(disk), p.path[i], off), raft_id,
                             "%s at %lu", p.path[i], off);
            }
        }
    }
    cr_assert_gt(frames, 2);
}

/* Such a replica would be lost for good; the older stub makes it a suspect one. */
Test(raft_host, no_single_frame_of_the_wal_says_alone_that_a_replica_exists)
{
    world_open(&w, 3, NULL);
    small_segments();
    world_create(&w, 1, 7);
    unsigned f = world_follower_of(world_leader(&w, 1, 2000));
    cr_assert(world_propose(&w, 1, 5, 100));
    world_create(&w, 2, 1u << f);
    world_run(&w, 500);
    for (unsigned i = 0; i < 10; i++) {
        check_no_frame_alone_knows_the_replica(w.nodes[f].disk, world_machine(&w, f, 1)->raft_id);
        cr_assert(world_propose(&w, 2, 12, 30000));
        world_flush(&w, f, 1);
        world_run(&w, 300);
    }
    cr_assert_gt(wal_oldest_lsn(w.nodes[f].wal), 1, "nothing was trimmed");
    world_close(&w);
}

/* The newest frame that begins with a BASE of group 1, in the WAL on @disk. */
static bool rot_base(struct sim_disk *disk)
{
    struct paths p = {.count = 0};
    sim_disk_each(disk, note_path, &p);
    for (unsigned i = p.count; i-- > 0;) {
        for (uint64_t off = sim_disk_file_size(disk, p.path[i]); off > 0; off -= WAL_BLOCK_BYTES) {
            const uint8_t *frame = sim_disk_bytes(disk, p.path[i]) + off - WAL_BLOCK_BYTES;
            const uint8_t *record = frame + WAL_FRAME_HEADER_BYTES;
            if (wal_get32(frame) == WAL_FRAME_MAGIC && wal_get64(record + 8) == 1 &&
                record[16] == RECORD_BASE) {
                return sim_disk_flip_bit(disk, p.path[i], (off - WAL_BLOCK_BYTES) * 8 + 100);
            }
        }
    }
    return false;
}

/* The entries that it covers continue the base before it. */
Test(raft_host, entries_are_there_until_two_records_tell_of_their_base)
{
    world_open(&w, 3, NULL);
    small_segments();
    world_create(&w, 1, 7);
    unsigned f = world_follower_of(world_leader(&w, 1, 2000));
    world_machine(&w, f, 1)->is_flush_refused = true;
    cr_assert(world_propose(&w, 1, 5, 100));
    world_create(&w, 2, 1u << f);
    for (unsigned i = 0; i < 10; i++) { /* Stubs are written again; nothing is carried yet. */
        cr_assert(world_propose(&w, 2, 5, 30000));
        world_run(&w, 200);
    }
    cr_assert(world_propose(&w, 1, 2, 100)); /* In a segment that stays. */
    cr_assert(world_level(&w, 1, 9, 1000));
    world_flush(&w, f, 1);
    world_run(&w, 300);
    cr_assert(world_propose(&w, 2, 11, 30000)); /* Into the files that were let go. */
    world_run(&w, 50);
    world_crash(&w, f);
    cr_assert(rot_base(w.nodes[f].disk));
    world_start(&w, f); /* It opens. */
    cr_assert(world_level(&w, 1, 9, 3000));
    world_close(&w);
}

static void count_found(void *arg, const struct group_found *found)
{
    (void)found;
    ++*(unsigned *)arg;
}

static void count_suspect(void *arg, uint64_t gid)
{
    (void)gid;
    ++*(unsigned *)arg;
}

Test(raft_host, a_suspicion_of_a_group_without_records_makes_no_group_and_is_answered)
{
    struct sim_disk *d = sim_disk_new(1);
    struct wal_options wo = {.ops = sim_disk_ops(d),
                             .dir = "/",
                             .segment_bytes_min = 1u << 16,
                             .segment_bytes_max = 1u << 16,
                             .frame_bytes_max = 1u << 16};
    struct host_options o = {.node_id = 1, .env = {.send = send_nothing, .random = random_one}};
    struct raft_host *h = host_new(&o);
    struct wal_replay replay = host_wal_replay(h);
    struct wal_recovery recovery;
    struct wal *wal;
    const char *path;
    cr_assert_eq(wal_open(&wo, &replay, &recovery, &wal), 0);
    /* As a recovery would keep and report it, from the footer of a damaged segment. */
    (void)wal_append(wal, WAL_TYPE_CLEARED - 1, 77, NULL, 0);
    replay.suspect(replay.arg, 77);
    host_open(h, wal, 1);
    unsigned count = 0;
    host_each_group(h, count_found, &count);
    cr_expect_eq(count, 0);
    cr_assert(wal_batch_take(wal));
    cr_assert_eq(wal_batch_write(wal, &path), 0);
    wal_batch_done(wal);
    host_close(h);
    wal_close(wal);
    struct wal_replay counting = {.suspect = count_suspect, .arg = &count};
    cr_assert_eq(wal_open(&wo, &counting, &recovery, &wal), 0);
    cr_expect_eq(count, 0);
    wal_close(wal);
    sim_disk_free(d);
}

/* A replica that takes entries and cannot flush, as one that stopped at an entry it does not know;
 * now and then one comes, so that its log is never quiet for long. */
static unsigned appends_steadily(uint64_t every_ms, unsigned bytes)
{
    world_open(&w, 3, NULL);
    small_segments();
    world_create(&w, 1, 7);
    unsigned f = world_follower_of(world_leader(&w, 1, 2000));
    world_machine(&w, f, 1)->is_flush_refused = true;
    world_create(&w, 2, 1u << f);
    unsigned entries = 2;
    for (unsigned i = 0; i < 60; i++) { /* A segment each. */
        for (uint64_t ms = 0; ms < 1200; ms += every_ms) {
            cr_assert(world_propose(&w, 1, 1, bytes));
            entries++;
            world_run(&w, every_ms);
        }
        cr_assert(world_propose(&w, 2, 8, 30000));
    }
    unsigned sealed = wal_sealed_count(w.nodes[f].wal);
    struct group_status s;
    group_status(world_machine(&w, f, 1)->group, &s);
    uint64_t last_index = s.last_index;
    cr_assert_geq(last_index, entries - 1);
    world_crash(&w, f);
    world_start(&w, f);
    group_status(world_machine(&w, f, 1)->group, &s);
    cr_assert_eq(s.last_index, last_index);
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
    return sealed;
}

Test(raft_host, a_group_that_appends_now_and_then_and_cannot_flush_does_not_pin_the_wal)
{
    unsigned sealed = appends_steadily(400, 100);
    cr_assert_leq(sealed, 26, "%u sealed segments", sealed);
}

Test(raft_host, a_group_that_appends_all_the_time_and_cannot_flush_does_not_pin_the_wal)
{
    unsigned sealed = appends_steadily(20, 300); /* More than one record can carry. */
    cr_assert_leq(sealed, 40, "%u sealed segments", sealed);
}
