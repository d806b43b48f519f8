/* Changes of members over whole groups: raft/members.c. Its rules one by one: guard_member.c. */
#include <criterion/criterion.h>

#include "raft_world.h"
#include "storage/base/err.h"

static struct world w; /* One test per process. */

struct want {
    struct group_member members[WORLD_NODES];
    unsigned count;
};

static void want_add(struct want *want, unsigned node, uint64_t raft_id)
{
    want->members[want->count++] = (struct group_member){raft_id, node + 1, GROUP_VOTER};
}

/* Every replica is told. */
static void tell(const struct want *want)
{
    for (unsigned i = 0; i < w.nodes_count; i++) {
        struct machine *m = world_machine(&w, i, 1);
        if (w.nodes[i].is_up && m->group != NULL) {
            cr_assert_eq(group_set_target(m->group, want->members, want->count), 0);
        }
    }
}

static bool is_reached(void)
{
    for (unsigned i = 0; i < w.nodes_count; i++) {
        struct machine *m = world_machine(&w, i, 1);
        struct group_status s;
        if (w.nodes[i].is_up && m->group != NULL) {
            group_status(m->group, &s);
            if (s.is_target_reached) {
                return true;
            }
        }
    }
    return false;
}

/* Until it is reached, under load: at most @ms. */
static bool reach(const struct want *want, uint64_t ms)
{
    tell(want);
    for (uint64_t end = w.now_ms + ms; w.now_ms < end;) {
        cr_assert(world_propose(&w, 1, 8, 64));
        world_run(&w, 50);
        if (is_reached()) {
            return true;
        }
    }
    return false;
}

/* What is no member any more is destroyed. */
static void destroy_others(const struct want *want)
{
    for (unsigned i = 0; i < w.nodes_count; i++) {
        struct machine *m = world_machine(&w, i, 1);
        bool is_wanted = false;
        for (unsigned k = 0; k < want->count; k++) {
            is_wanted = is_wanted || want->members[k].raft_id == m->raft_id;
        }
        if (m->group != NULL && !is_wanted) {
            group_destroy(m->group);
            uint64_t gid = m->gid;
            *m = (struct machine){.world = &w, .node = i, .gid = gid};
        }
    }
}

/* Raft ids of their own, whoever was there before. */
static struct want want_nodes(const struct want *before, unsigned mask, uint64_t *next_id)
{
    struct want want = {0};
    for (unsigned i = 0; i < w.nodes_count; i++) {
        uint64_t id = 0;
        for (unsigned k = 0; k < before->count; k++) {
            id = before->members[k].node_id == i + 1 ? before->members[k].raft_id : id;
        }
        if ((mask >> i & 1) == 0) {
            continue;
        }
        if (id == 0) {
            id = (*next_id)++;
            world_join(&w, i, 1, id);
        }
        want_add(&want, i, id);
    }
    return want;
}

static void scale(const unsigned *masks, unsigned count)
{
    uint64_t next_id = 1000;
    struct want want = {0};
    world_open(&w, 6, NULL);
    world_create(&w, 1, masks[0]);
    for (unsigned i = 0; i < 6; i++) {
        if ((masks[0] >> i & 1) != 0) {
            want_add(&want, i, 100 + i + 1);
        }
    }
    cr_assert(world_propose(&w, 1, 50, 100));
    for (unsigned step = 1; step < count; step++) {
        want = want_nodes(&want, masks[step], &next_id);
        cr_assert(reach(&want, 20000), "step %u", step);
        destroy_others(&want);
        world_run(&w, 500);
        cr_assert(world_level(&w, 1, 50, 5000), "step %u", step);
    }
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

Test(members, a_group_grows_and_shrinks_under_load)
{
    scale((const unsigned[]){1, 7, 31, 7, 1}, 5);
}

Test(members, even_numbers_of_members_work_too)
{
    scale((const unsigned[]){1, 3, 15, 3, 2}, 5);
}

Test(members, a_group_moves_to_other_nodes_and_back)
{
    scale((const unsigned[]){7, 56, 7, 42, 21}, 5);
}

Test(members, newcomers_get_an_image_when_the_log_is_trimmed)
{
    struct host_options o = {.log_entries_max = 16};
    struct host_stats stats;
    uint64_t next_id = 1000;
    struct want want = {0};
    world_open(&w, 3, &o);
    world_create(&w, 1, 1);
    want_add(&want, 0, 101);
    cr_assert(world_propose(&w, 1, 200, 100));
    want = want_nodes(&want, 7, &next_id);
    cr_assert(reach(&want, 20000));
    host_stats(w.nodes[2].host, &stats);
    cr_assert_gt(stats.catchups, 0);
    cr_assert(world_level(&w, 1, 200, 5000));
    world_close(&w);
}

/* The disk of a follower is gone: the same node comes back under a new raft id. */
Test(members, a_wiped_replica_is_replaced_under_a_new_id)
{
    struct want want = {0};
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    int leader = world_leader(&w, 1, 2000);
    unsigned gone = leader == 0 ? 1 : 0;
    cr_assert(world_propose(&w, 1, 100, 100));
    world_crash(&w, gone);
    world_tell_down(&w, gone);
    world_wipe(&w, gone);
    world_start(&w, gone);
    world_join(&w, gone, 1, 1001);
    for (unsigned i = 0; i < 3; i++) {
        want_add(&want, i, i == gone ? 1001 : 100 + i + 1);
    }
    cr_assert(reach(&want, 20000));
    cr_assert(world_level(&w, 1, 100, 5000));
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

/* The leader's node too is to have another replica: each of the old ones goes before its follower
 * on the same node can begin. */
Test(members, a_member_in_whose_place_another_is_wanted_goes_first)
{
    struct want want = {0};
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    cr_assert(world_propose(&w, 1, 50, 100));
    for (unsigned i = 0; i < 3; i++) {
        want_add(&want, i, 100 + i + 1);
    }
    for (unsigned i = 0; i < 3; i++) {
        want.members[i].raft_id = 1001 + i;
        tell(&want);
        for (unsigned ms = 0; ms < 20000 && !is_reached(); ms += 100) {
            struct machine *m = world_machine(&w, i, 1);
            struct group_status s;
            int leader = world_leader(&w, 1, 5000);
            cr_assert_geq(leader, 0);
            group_status(world_machine(&w, (unsigned)leader, 1)->group, &s);
            bool is_member = false;
            for (unsigned k = 0; k < s.members_count; k++) {
                is_member = is_member || s.members[k].member.raft_id == m->raft_id;
            }
            if (m->raft_id < 1000 && !is_member && !s.is_configuration_uncommitted) {
                group_destroy(m->group);
                *m = (struct machine){.world = &w, .node = i, .gid = 1};
                world_join(&w, i, 1, 1001 + i);
                tell(&want);
            }
            world_run(&w, 100);
        }
        cr_assert(is_reached(), "node %u", i + 1);
    }
    cr_assert(world_level(&w, 1, 50, 5000));
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

/* Whoever leads next goes on where the last one stopped. */
Test(members, a_half_done_change_is_completed_by_the_next_leader)
{
    uint64_t next_id = 1000;
    struct want want = {0};
    world_open(&w, 5, NULL);
    world_create(&w, 1, 7);
    for (unsigned i = 0; i < 3; i++) {
        want_add(&want, i, 100 + i + 1);
    }
    cr_assert(world_propose(&w, 1, 50, 100));
    want = want_nodes(&want, 4 | 8 | 16, &next_id);
    tell(&want);
    for (unsigned i = 0; i < 10 && !is_reached(); i++) {
        int leader = world_leader(&w, 1, 20000);
        cr_assert_geq(leader, 0);
        world_run(&w, 30 + 40 * i);
        world_crash(&w, (unsigned)leader);
        world_tell_down(&w, (unsigned)leader);
        world_run(&w, 200);
        world_start(&w, (unsigned)leader);
        tell(&want);
    }
    cr_assert(reach(&want, 30000));
    destroy_others(&want);
    world_run(&w, 500);
    cr_assert(world_level(&w, 1, 50, 5000));
    cr_assert_eq(w.alarms, 0);
    world_close(&w);
}

/* DELETE, then CREATE under another raft id, in one log. */
Test(members, a_replica_that_follows_another_of_its_group_on_a_node_survives_a_restart)
{
    uint64_t next_id = 1000;
    struct want want = {0};
    world_open(&w, 4, NULL);
    world_create(&w, 1, 7);
    for (unsigned i = 0; i < 3; i++) {
        want_add(&want, i, 100 + i + 1);
    }
    cr_assert(world_propose(&w, 1, 20, 100));
    want = want_nodes(&want, 11, &next_id);
    cr_assert(reach(&want, 20000));
    destroy_others(&want);
    want = want_nodes(&want, 7, &next_id);
    cr_assert(reach(&want, 20000));
    destroy_others(&want);
    world_crash(&w, 2);
    world_tell_down(&w, 2);
    world_start(&w, 2);
    cr_assert(world_propose(&w, 1, 20, 100));
    cr_assert(world_level(&w, 1, 40, 5000));
    cr_assert_eq(world_machine(&w, 2, 1)->raft_id, 1001);
    world_close(&w);
}

Test(members, a_target_without_voter_or_with_doubles_is_refused)
{
    world_open(&w, 3, NULL);
    world_create(&w, 1, 7);
    struct raft_group *g = world_machine(&w, 0, 1)->group;
    struct group_member m[] = {{101, 1, GROUP_STANDBY}, {102, 2, GROUP_STANDBY}};
    cr_assert_eq(group_set_target(g, m, 2), ERR_INVALID);
    m[0].role = m[1].role = GROUP_VOTER;
    m[1].raft_id = 101;
    cr_assert_eq(group_set_target(g, m, 2), ERR_INVALID);
    m[1] = (struct group_member){102, 1, GROUP_VOTER};
    cr_assert_eq(group_set_target(g, m, 2), ERR_INVALID);
    m[1] = (struct group_member){102, 2, GROUP_SPARE};
    cr_assert_eq(group_set_target(g, m, 2), ERR_INVALID);
    cr_assert_eq(group_set_target(g, m, 1), 0);
    cr_assert_eq(group_set_target(g, NULL, 0), 0);
    world_close(&w);
}
