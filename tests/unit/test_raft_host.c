#include <criterion/criterion.h>
#include <stdio.h>

#include "raft/conf.h"
#include "raft/records.h"
#include "raft_world.h"
#include "storage/base/err.h"
#include "storage/wal_format.h"

static struct world w; /* One test per process. */

Test(raft_host, a_created_group_elects_a_leader_and_commits_everywhere)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    cr_assert_geq(leader, 0);
    cr_assert(world_propose(&w, 1, 100, 100));
    cr_assert(world_level(&w, 1, 102, 2000));
    struct machine *m = world_machine(&w, (unsigned)leader, 1);
    cr_assert_eq(m->own, 100);
    cr_assert_eq(m->lost, 0);
    cr_assert_eq(world_machine(&w, world_follower_of(leader), 1)->commands, 100);
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(raft_host, followers_apply_within_a_round_trip_without_further_traffic)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    world_run(&w, 500);
    struct machine *m = world_machine(&w, (unsigned)leader, 1);
    cr_assert_eq(group_propose(m->group, SLICE_LIT("x"), 1), 0);
    world_run(&w, 40);
    cr_assert_eq(world_machine(&w, world_follower_of(leader), 1)->commands, 1);
    world_close(&w);
}

/* Its result came after the others had committed the entry, and nobody told it until the next
 * heartbeat: whoever waits for this replica waited a second. */
Test(raft_host, a_follower_with_a_slow_disk_applies_when_it_has_the_entry)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    unsigned slow = world_follower_of(leader);
    struct machine *m = world_machine(&w, (unsigned)leader, 1);
    world_run(&w, 1500);
    for (uint64_t i = 1; i <= 20; i++) {
        w.nodes[slow].is_disk_stuck = true;
        cr_assert_eq(group_propose(m->group, SLICE_LIT("x"), i), 0);
        world_run(&w, 60);
        cr_assert_eq(m->commands, i);
        w.nodes[slow].is_disk_stuck = false;
        world_run(&w, 60);
        cr_assert_eq(world_machine(&w, slow, 1)->commands, i);
    }
    world_close(&w);
}

Test(raft_host, a_follower_refuses_proposals)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    cr_assert_geq(leader, 0);
    struct machine *m = world_machine(&w, world_follower_of(leader), 1);
    cr_assert_eq(group_propose(m->group, SLICE_LIT("x"), 1), ERR_NOTLEADER);
    world_run(&w, 100);
    cr_assert_eq(group_role(m->group).leader_node_id, (uint64_t)leader + 1);
    world_close(&w);
}

Test(raft_host, a_group_of_one_voter_commits_and_restarts_in_a_new_term)
{
    world_open(&w, 1, NULL);
    world_create(&w, 1, 1);
    cr_assert_eq(world_leader(&w, 1, 100), 0);
    cr_assert(world_propose(&w, 1, 50, 10));
    struct machine *m = world_machine(&w, 0, 1);
    cr_assert_eq(m->own, 50);
    uint64_t term = group_role(m->group).term, hash = m->hash;
    world_crash(&w, 0);
    world_start(&w, 0);
    cr_assert_eq(world_leader(&w, 1, 100), 0);
    cr_assert_eq(m->hash, hash);
    cr_assert_gt(group_role(m->group).term, term);
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(raft_host, a_crash_of_all_nodes_loses_nothing_that_was_applied)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    cr_assert(world_propose(&w, 1, 60, 100));
    world_flush(&w, 0, 1); /* One node starts from a base, the others from entry 1. */
    cr_assert(world_propose(&w, 1, 60, 100));
    cr_assert(world_level(&w, 1, 122, 2000));
    uint64_t hash = world_machine(&w, 0, 1)->hash;
    for (unsigned i = 0; i < 3; i++) {
        world_crash(&w, i);
    }
    for (unsigned i = 0; i < 3; i++) {
        world_start(&w, i);
    }
    cr_assert_geq(world_leader(&w, 1, 5000), 0);
    cr_assert(world_level(&w, 1, 123, 3000));
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(world_machine(&w, i, 1)->hash, hash);
    }
    cr_assert(world_propose(&w, 1, 10, 100));
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(raft_host, a_lone_crash_without_word_changes_no_leader_of_others)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    uint64_t term = group_role(world_machine(&w, (unsigned)leader, 1)->group).term;
    world_crash(&w, world_follower_of(leader));
    world_run(&w, 8000);
    world_start(&w, world_follower_of(leader));
    world_run(&w, 8000);
    cr_assert_eq(world_leader(&w, 1, 0), leader);
    cr_assert_eq(group_role(world_machine(&w, (unsigned)leader, 1)->group).term, term);
    world_close(&w);
}

/* Without it, a returning node waits for the leader's next heartbeat, up to a second. */
Test(raft_host, a_follower_that_comes_back_knows_its_leader_and_what_it_missed_at_once)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    unsigned follower = world_follower_of(leader);
    cr_assert(world_propose(&w, 1, 10, 100));
    world_crash(&w, follower);
    world_tell_down(&w, follower);
    cr_assert(world_propose(&w, 1, 10, 100));
    for (unsigned offset_ms = 0; offset_ms < 1000; offset_ms += 130) {
        world_run(&w, offset_ms); /* Wherever the heartbeat is. */
        world_start(&w, follower);
        world_run(&w, 100);
        struct machine *m = world_machine(&w, follower, 1);
        cr_assert_eq(group_role(m->group).leader_node_id, (uint64_t)leader + 1);
        cr_assert_eq(m->applied.index, 22);
        world_crash(&w, follower);
        world_tell_down(&w, follower);
    }
    world_close(&w);
}

Test(raft_host, successors_take_over_within_a_few_hundred_ms_of_node_down)
{
    world_open(&w, 3, NULL);
    for (uint64_t gid = 1; gid <= 4; gid++) {
        world_create(&w, gid, 7);
    }
    for (uint64_t gid = 1; gid <= 4; gid++) {
        int leader = world_leader(&w, gid, 3000);
        cr_assert_geq(leader, 0);
        cr_assert(world_propose(&w, gid, 5, 10));
        world_crash(&w, (unsigned)leader);
        world_tell_down(&w, (unsigned)leader);
        uint64_t from = w.now_ms;
        cr_assert_geq(world_leader(&w, gid, 1000), 0);
        cr_assert_leq(w.now_ms - from, 300, "took %lu ms", w.now_ms - from);
        world_start(&w, (unsigned)leader);
        world_run(&w, 1500);
    }
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

/* Libraft alone took up to seven seconds, in which the leader answered reads from its state. */
Test(raft_host, a_leader_whose_majority_is_down_steps_down_in_two_seconds)
{
    for (unsigned offset_ms = 0; offset_ms < 3000; offset_ms += 700) {
        world_open(&w, 3, NULL);
        world_create(&w, 1, 7);
        int leader = world_leader(&w, 1, 2000);
        unsigned old = (unsigned)leader;
        world_run(&w, offset_ms); /* Wherever the library's own look is. */
        world_cut(&w, old, true);
        uint64_t from = w.now_ms;
        for (unsigned i = 0; i < 3; i++) {
            if (i != old) {
                host_peer_down(w.nodes[old].host, i + 1);
                host_peer_down(w.nodes[i].host, old + 1);
            }
        }
        struct machine *m = world_machine(&w, old, 1);
        while (group_role(m->group).is_leader) {
            world_run(&w, 10);
            cr_assert_leq(w.now_ms - from, 2100);
        }
        int next = world_leader(&w, 1, 100);
        cr_assert_neq(next, leader);
        cr_assert(world_propose(&w, 1, 5, 10));
        /* It comes back as a follower, and changes no leader. */
        world_cut(&w, old, false);
        for (unsigned i = 0; i < 3; i++) {
            if (i != old) {
                host_peer_up(w.nodes[old].host, i + 1);
                host_peer_up(w.nodes[i].host, old + 1);
            }
        }
        cr_assert(world_level(&w, 1, 7, 2000));
        world_run(&w, 3000);
        cr_assert_eq(world_leader(&w, 1, 0), next);
        cr_assert_eq(w.alarms, 0);
        world_close(&w);
    }
}

/* Its connections stand: what is on them goes on, only leadership and votes do not. */
Test(raft_host, a_node_whose_disk_is_stuck_gives_up_its_leaderships)
{
    world_open(&w, 3, NULL);
    for (uint64_t gid = 1; gid <= 3; gid++) {
        world_create(&w, gid, 7);
        cr_assert_geq(world_leader(&w, gid, 2000), 0);
    }
    int leader = world_leader(&w, 1, 0);
    unsigned stuck = (unsigned)leader;
    struct machine *m = world_machine(&w, stuck, 1);
    cr_assert(world_propose(&w, 1, 10, 10));
    world_run(&w, 500);
    for (unsigned round = 0; round < 3; round++) {
        uint64_t lost = m->lost;
        w.nodes[stuck].is_disk_stuck = true;
        bool was_leader = group_role(m->group).is_leader;
        if (was_leader) {
            cr_assert_eq(group_propose(m->group, SLICE_LIT("in flight"), 1000 + round), 0);
        }
        world_run(&w, 50);
        uint64_t from = w.now_ms;
        host_disk_stuck(w.nodes[stuck].host, true);
        cr_assert_not(group_role(m->group).is_leader);
        cr_assert_eq(m->lost - lost, was_leader);
        for (unsigned i = 0; i < 3; i++) {
            if (i != stuck) {
                host_peer_stuck(w.nodes[i].host, stuck + 1, true);
            }
        }
        for (uint64_t gid = 1; gid <= 3; gid++) {
            int next = world_leader(&w, gid, 500);
            cr_assert_geq(next, 0);
            cr_assert_neq(next, leader);
            cr_assert(world_propose(&w, gid, 10, 10));
        }
        cr_assert_leq(w.now_ms - from, 1000);
        world_run(&w, 5000); /* It waits in vain, and disturbs nobody. */
        uint64_t terms[3];
        for (uint64_t gid = 1; gid <= 3; gid++) {
            int next = world_leader(&w, gid, 0);
            cr_assert_geq(next, 0);
            terms[gid - 1] = group_role(world_machine(&w, (unsigned)next, gid)->group).term;
        }
        w.nodes[stuck].is_disk_stuck = false;
        host_disk_stuck(w.nodes[stuck].host, false);
        for (unsigned i = 0; i < 3; i++) {
            if (i != stuck) {
                host_peer_stuck(w.nodes[i].host, stuck + 1, false);
            }
        }
        for (uint64_t gid = 1; gid <= 3; gid++) {
            int next = world_leader(&w, gid, 0);
            uint64_t last = world_machine(&w, (unsigned)next, gid)->applied.index;
            cr_assert(world_level(&w, gid, last, 2000));
            cr_assert_eq(group_role(world_machine(&w, stuck, gid)->group).term, terms[gid - 1]);
        }
        /* And it may lead again. */
        int next = world_leader(&w, 1, 0);
        cr_assert_eq(group_move_leader(world_machine(&w, (unsigned)next, 1)->group, stuck + 1), 0);
        world_run(&w, 500);
        cr_assert_eq(world_leader(&w, 1, 0), leader);
    }
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(raft_host, without_a_majority_that_can_write_nobody_is_elected_and_all_goes_on_after)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    cr_assert(world_propose(&w, 1, 10, 10));
    for (unsigned i = 0; i < 2; i++) {
        w.nodes[i].is_disk_stuck = true;
        host_disk_stuck(w.nodes[i].host, true);
        for (unsigned k = 0; k < 3; k++) {
            if (k != i) {
                host_peer_stuck(w.nodes[k].host, i + 1, true);
            }
        }
    }
    world_run(&w, 4000);
    cr_assert_eq(world_leader(&w, 1, 0), -1);
    for (unsigned i = 0; i < 2; i++) {
        w.nodes[i].is_disk_stuck = false;
        host_disk_stuck(w.nodes[i].host, false);
        for (unsigned k = 0; k < 3; k++) {
            if (k != i) {
                host_peer_stuck(w.nodes[k].host, i + 1, false);
            }
        }
    }
    cr_assert_geq(world_leader(&w, 1, 1500), 0);
    cr_assert(world_propose(&w, 1, 10, 10));
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(raft_host, a_sole_voter_with_a_stuck_disk_stays_what_it_is)
{
    world_open(&w, 1, NULL);
    world_create(&w, 1, 1);
    cr_assert(world_propose(&w, 1, 10, 10));
    host_disk_stuck(w.nodes[0].host, true);
    cr_assert_eq(world_leader(&w, 1, 0), 0);
    host_disk_stuck(w.nodes[0].host, false);
    cr_assert(world_propose(&w, 1, 10, 10));
    world_close(&w);
}

Test(raft_host, a_leader_of_a_majority_that_only_restarts_goes_on)
{
    world_open(&w, 2, NULL);
    world_create(&w, 1, 3);
    int leader = world_leader(&w, 1, 2000);
    unsigned other = world_follower_of(leader);
    uint64_t term = group_role(world_machine(&w, (unsigned)leader, 1)->group).term;
    for (unsigned i = 0; i < 10; i++) {
        world_crash(&w, other);
        world_tell_down(&w, other);
        world_run(&w, 300);
        world_start(&w, other);
        cr_assert(world_propose(&w, 1, 5, 10));
        world_run(&w, 470);
    }
    cr_assert_eq(world_leader(&w, 1, 0), leader);
    cr_assert_eq(group_role(world_machine(&w, (unsigned)leader, 1)->group).term, term);
    world_close(&w);
}

static bool is_level(unsigned node, uint64_t gid)
{
    struct group_status s;
    group_status(world_machine(&w, node, gid)->group, &s);
    return s.is_level;
}

/* A node was called healthy as soon as it knew its leader, and then was not, because it fetched
 * what it had missed. */
Test(raft_host, a_replica_that_comes_back_is_not_level_before_it_has_caught_up)
{
    struct host_options o = {.log_entries_max = 32};
    world_open(&w, 3, &o);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    unsigned late = world_follower_of(leader);
    uint64_t commands = 0;
    for (unsigned round = 0; round < 2; round++) { /* First what is in the log, then an image. */
        unsigned count = round == 0 ? 20 : 500;
        cr_assert(world_propose(&w, 1, 5, 10));
        world_run(&w, 100);
        cr_assert(is_level(late, 1));
        world_crash(&w, late);
        world_tell_down(&w, late);
        cr_assert(world_propose(&w, 1, count, 10));
        commands += 5 + count;
        uint64_t last = world_machine(&w, (unsigned)leader, 1)->applied.index;
        world_start(&w, late);
        bool was_level = false;
        for (unsigned i = 0; i < 200; i++) {
            bool is_there = world_machine(&w, late, 1)->applied.index >= last;
            cr_assert(is_there || !is_level(late, 1), "round %u: level at %lu of %lu", round,
                      world_machine(&w, late, 1)->applied.index, last);
            cr_assert(is_level(late, 1) || !was_level, "level, and then not");
            was_level = is_level(late, 1);
            world_run(&w, 10);
        }
        cr_assert(was_level);
    }
    cr_assert_eq(world_machine(&w, (unsigned)leader, 1)->commands, commands);
    world_close(&w);
}

Test(raft_host, a_deposed_leader_truncates_by_restart_and_tells_its_proposals_are_lost)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    unsigned old = (unsigned)leader;
    for (unsigned i = 0; i < 3; i++) {
        w.is_cut[old][i] = w.is_cut[i][old] = true;
    }
    struct machine *m = world_machine(&w, old, 1);
    cr_assert_eq(group_propose(m->group, SLICE_LIT("never committed"), 7), 0);
    world_run(&w, 50);
    for (unsigned i = 0; i < 3; i++) {
        if (i != old) {
            host_peer_down(w.nodes[i].host, old + 1);
        }
    }
    world_run(&w, 8000);
    cr_assert_eq(m->lost, 1);
    int next = world_leader(&w, 1, 100);
    cr_assert_geq(next, 0);
    cr_assert_neq(next, leader);
    cr_assert(world_propose(&w, 1, 10, 10));
    memset(w.is_cut, 0, sizeof w.is_cut);
    for (unsigned i = 0; i < 3; i++) {
        if (i != old) {
            host_peer_up(w.nodes[i].host, old + 1);
            host_peer_up(w.nodes[old].host, i + 1);
        }
    }
    cr_assert(world_level(&w, 1, 12, 5000));
    struct host_stats s;
    host_stats(w.nodes[old].host, &s);
    cr_assert_geq(s.truncations, 1);
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(raft_host, memory_and_wal_are_trimmed_under_load)
{
    struct host_options o = {.log_entries_max = 64};
    world_open(&w, 3, &o);
    w.segment_bytes = 256u << 10;
    for (unsigned i = 0; i < 3; i++) { /* Open again with the smaller segments. */
        world_crash(&w, i);
    }
    for (unsigned i = 0; i < 3; i++) {
        world_start(&w, i);
    }
    world_create(&w, 1, 7);
    world_create(&w, 2, 7); /* Idle: its stub must be carried along. */
    cr_assert(world_propose(&w, 1, 3000, 2000));
    cr_assert(world_level(&w, 1, 3000, 5000));
    for (unsigned i = 0; i < 3; i++) {
        struct group_status s;
        group_status(world_machine(&w, i, 1)->group, &s);
        cr_assert_leq(s.last_index - s.log_first_index, 200);
        cr_assert_leq(wal_sealed_count(w.nodes[i].wal), 16, "%u sealed segments",
                      wal_sealed_count(w.nodes[i].wal));
    }
    uint64_t hash = world_machine(&w, 0, 1)->hash;
    for (unsigned i = 0; i < 3; i++) {
        world_crash(&w, i);
    }
    for (unsigned i = 0; i < 3; i++) {
        world_start(&w, i);
    }
    cr_assert_geq(world_leader(&w, 2, 5000), 0);
    cr_assert_geq(world_leader(&w, 1, 5000), 0);
    cr_assert(world_level(&w, 1, 3002, 3000));
    cr_assert_eq(world_machine(&w, 2, 1)->hash, hash);
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(raft_host, a_group_without_quorum_does_not_pin_the_wal)
{
    world_open(&w, 2, NULL);
    w.segment_bytes = 256u << 10;
    for (unsigned i = 0; i < 2; i++) {
        world_crash(&w, i);
    }
    for (unsigned i = 0; i < 2; i++) {
        world_start(&w, i);
    }
    world_create(&w, 1, 3);
    int leader = world_leader(&w, 1, 2000);
    world_crash(&w, world_follower_of(leader));
    struct machine *m = world_machine(&w, (unsigned)leader, 1);
    cr_assert_eq(group_propose(m->group, SLICE_LIT("waits for a quorum"), 1), 0);
    world_run(&w, 50);
    world_create(&w, 2, 1u << leader);
    cr_assert(world_propose(&w, 2, 2000, 4000));
    world_run(&w, 1000);
    cr_assert_leq(wal_sealed_count(w.nodes[leader].wal), 14);
    struct host_stats s;
    host_stats(w.nodes[leader].host, &s);
    cr_assert_gt(s.carried, 0);
    /* What was carried is still there. */
    world_crash(&w, (unsigned)leader);
    world_start(&w, (unsigned)leader);
    world_start(&w, world_follower_of(leader));
    cr_assert_geq(world_leader(&w, 1, 5000), 0);
    cr_assert(world_level(&w, 1, 3, 2000));
    cr_assert_eq(m->commands, 1);
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(raft_host, a_follower_left_behind_is_caught_up_by_an_image)
{
    struct host_options o = {.log_entries_max = 32};
    world_open(&w, 3, &o);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    unsigned late = world_follower_of(leader);
    cr_assert(world_propose(&w, 1, 20, 10));
    world_crash(&w, late);
    world_tell_down(&w, late);
    cr_assert(world_propose(&w, 1, 500, 10));
    world_run(&w, 11000); /* Longer than it is waited for. */
    cr_assert(world_propose(&w, 1, 100, 10));
    world_start(&w, late);
    cr_assert(world_level(&w, 1, 622, 500)); /* Not a heartbeat later. */
    world_run(&w, 200);                      /* The replica itself starts once RESET is durable. */
    struct host_stats s;
    host_stats(w.nodes[late].host, &s);
    cr_assert_eq(s.catchups, 1);
    cr_assert_eq(world_machine(&w, late, 1)->hash, world_machine(&w, (unsigned)leader, 1)->hash);
    cr_assert(world_propose(&w, 1, 10, 10));
    /* And a restart finds the image as base. */
    world_crash(&w, late);
    world_start(&w, late);
    cr_assert(world_level(&w, 1, 632, 5000));
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(raft_host, entries_larger_than_a_frame_travel_in_fragments)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    cr_assert_geq(world_leader(&w, 1, 2000), 0);
    cr_assert(world_propose(&w, 1, 5, 3u << 20));
    cr_assert(world_propose(&w, 1, 50, 300000));
    cr_assert(world_level(&w, 1, 57, 5000));
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(raft_host, leadership_moves_to_the_node_asked_for)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    cr_assert(world_propose(&w, 1, 20, 10));
    unsigned target = world_follower_of(leader);
    struct machine *m = world_machine(&w, (unsigned)leader, 1);
    cr_assert_eq(group_move_leader(m->group, target + 1), 0);
    cr_assert_eq(group_propose(m->group, SLICE_LIT("x"), 1), ERR_BUSY);
    uint64_t from = w.now_ms;
    while (!group_role(world_machine(&w, target, 1)->group).is_leader && w.now_ms < from + 1000) {
        world_run(&w, 10);
    }
    cr_assert_leq(w.now_ms - from, 200);
    cr_assert(world_propose(&w, 1, 20, 10));
    world_close(&w);
}

Test(raft_host, a_read_is_confirmed_by_a_majority_and_fails_without)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    cr_assert(world_propose(&w, 1, 20, 10));
    struct machine *m = world_machine(&w, (unsigned)leader, 1);
    cr_assert_eq(group_read_index(m->group, 9), 0);
    world_run(&w, 20);
    cr_assert_eq(m->reads_ok, 1);
    cr_assert_geq(m->read_index, 22);
    for (unsigned i = 0; i < 3; i++) {
        w.is_cut[leader][i] = w.is_cut[i][leader] = true;
    }
    cr_assert_eq(group_read_index(m->group, 10), 0);
    world_run(&w, 10000);
    cr_assert_eq(m->reads_ok, 1);
    cr_assert_eq(m->reads_failed, 1);
    world_close(&w);
}

Test(raft_host, nothing_is_acknowledged_before_the_disk_has_it)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    struct machine *m = world_machine(&w, (unsigned)leader, 1);
    uint64_t before = m->own;
    for (unsigned i = 0; i < 3; i++) {
        w.nodes[i].is_disk_stuck = i != (unsigned)leader;
    }
    cr_assert_eq(group_propose(m->group, SLICE_LIT("x"), 1), 0);
    world_run(&w, 500);
    cr_assert_eq(m->own, before);
    for (unsigned i = 0; i < 3; i++) {
        w.nodes[i].is_disk_stuck = false;
    }
    world_run(&w, 100);
    cr_assert_eq(m->own, before + 1);
    world_close(&w);
}

Test(raft_host, pipelined_batches_commit_with_held_completions)
{
    struct host_options o = {.pipeline_max = 4};
    world_open(&w, 3, &o);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    cr_assert(world_propose(&w, 1, 2000, 50));
    cr_assert(world_level(&w, 1, 2002, 3000));
    cr_assert_eq(world_machine(&w, (unsigned)leader, 1)->own, 2000);
    world_close(&w);
}

Test(raft_host, a_peer_that_comes_back_shorter_makes_the_leader_begin_anew)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    unsigned f = world_follower_of(leader);
    cr_assert(world_propose(&w, 1, 20, 10));
    struct sim_disk *early = sim_disk_clone(w.nodes[f].disk);
    cr_assert(world_propose(&w, 1, 20, 10));
    world_crash(&w, f);
    sim_disk_free(w.nodes[f].disk);
    w.nodes[f].disk = early; /* Synced frames are gone. */
    world_start(&w, f);
    cr_assert(world_level(&w, 1, 42, 10000));
    struct host_stats s;
    host_stats(w.nodes[leader].host, &s);
    cr_assert_eq(s.shorter_peers, 1);
    cr_assert(world_propose(&w, 1, 20, 10));
    world_close(&w);
}

Test(raft_host, a_destroyed_group_does_not_come_back)
{
    world_open(&w, 1, NULL);
    world_create(&w, 1, 1);
    cr_assert(world_propose(&w, 1, 10, 10));
    struct machine *m = world_machine(&w, 0, 1);
    group_destroy(m->group);
    m->group = NULL;
    m->exists = false;
    world_run(&w, 20);
    world_crash(&w, 0);
    world_start(&w, 0);
    struct host_stats s;
    host_stats(w.nodes[0].host, &s);
    cr_assert_eq(s.groups, 0);
    world_close(&w);
}

Test(raft_host, leadership_moves_with_the_third_voter_down)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    cr_assert(world_propose(&w, 1, 20, 10));
    unsigned target = world_follower_of(leader), third = 3 - target - (unsigned)leader;
    world_crash(&w, third);
    world_tell_down(&w, third);
    world_run(&w, 100);
    cr_assert_eq(group_move_leader(world_machine(&w, (unsigned)leader, 1)->group, target + 1), 0);
    uint64_t from = w.now_ms;
    while (!group_role(world_machine(&w, target, 1)->group).is_leader && w.now_ms < from + 3000) {
        world_run(&w, 10);
    }
    cr_assert_leq(w.now_ms - from, 200, "%lu ms", w.now_ms - from);
    world_close(&w);
}

/* A host begins few campaigns at a time, and a node may have led thousands of groups. Here one a
 * second: of four groups two at least are not the first on either survivor. */
Test(raft_host, a_group_that_somebody_waits_for_is_elected_first)
{
    struct host_options options = {.groups_per_s = 1};
    world_open(&w, 3, &options);
    for (uint64_t gid = 1; gid <= WORLD_GROUPS; gid++) {
        world_create(&w, gid, 7);
    }
    for (uint64_t waited = 1; waited <= WORLD_GROUPS; waited++) {
        for (uint64_t gid = 1; gid <= WORLD_GROUPS; gid++) {
            int leader = world_leader(&w, gid, 20000);
            cr_assert_geq(leader, 0);
            struct machine *m = world_machine(&w, (unsigned)leader, gid);
            if (leader != 0) {
                cr_assert_eq(group_move_leader(m->group, 1), 0);
                world_run(&w, 3000);
            }
            cr_assert_eq(world_leader(&w, gid, 0), 0);
            for (unsigned node = 1; node < 3; node++) {
                group_set_waiting(world_machine(&w, node, gid)->group, gid == waited);
            }
        }
        world_run(&w, 3000); /* Each may begin one at once. */
        world_crash(&w, 0);
        world_tell_down(&w, 0);
        cr_assert_gt(world_leader(&w, waited, 60), 0, "group %lu waits for its turn", waited);
        world_run(&w, 20000);
        world_start(&w, 0);
        world_run(&w, 2000);
    }
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}
