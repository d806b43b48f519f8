/* Changes of members: node 1 leads, and the others answer as followers that have everything. */
#include "tests/unit/guard_schedules.h"

static struct puppet p; /* One schedule per process. */

static void want(unsigned voters, unsigned standbys)
{
    struct group_member members[PUPPET_NODES];
    unsigned count = 0;
    for (unsigned n = 1; n <= PUPPET_NODES; n++) {
        unsigned bit = 1u << (n - 1);
        if (((voters | standbys) & bit) != 0) {
            members[count++] =
                (struct group_member){ID(n), n, (voters & bit) != 0 ? GROUP_VOTER : GROUP_STANDBY};
        }
    }
    must(group_set_target(p.group, members, count) == 0);
}

/* @ms pass, in which these nodes acknowledge all there is. */
static void follow(unsigned nodes, uint64_t ms)
{
    for (uint64_t passed = 0; passed < ms; passed += 50) {
        puppet_run(&p, 50);
        for (unsigned n = 2; n <= PUPPET_NODES; n++) {
            struct group_status s = puppet_status(&p);
            if ((nodes >> (n - 1) & 1) != 0 && s.is_core_leader) {
                puppet_result(&p, n, s.role.term, 0, s.last_index);
            }
        }
    }
}

/* -1: no member. */
static int role_of(unsigned node)
{
    struct group_status s = puppet_status(&p);
    for (unsigned i = 0; i < s.members_count; i++) {
        if (s.members[i].member.raft_id == ID(node)) {
            return (int)s.members[i].member.role;
        }
    }
    return -1;
}

/* Node 2 led and took node 3 out, which nobody knows to be committed. After a restart the core of
 * node 1 believes it is: a second change could make two quorums that do not meet. */
bool members_wait_for_the_barrier_of_the_leader(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_entries(&p, 2, 2, 1, 1, 1, 1,
                   (struct puppet_entry[]){{.term = 2, .type = CHANGE, .voters = 3}});
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    must(puppet_campaign(&p, 2));
    want(1 | 2 | 8, 0);
    uint64_t term = puppet_status(&p).role.term;
    puppet_result(&p, 2, term, 0, 2); /* All but the barrier. */
    puppet_run(&p, 100);
    must(!puppet_status(&p).role.is_leader);
    bool is_early = role_of(4) >= 0;
    follow(2, 300);
    return !is_early && role_of(4) >= 0;
}

bool no_newcomer_is_promoted_before_all_are_level(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_lead(&p, 2);
    want(31, 0);
    follow(2 | 4, 1000);
    must(role_of(4) == GROUP_STANDBY && role_of(5) == GROUP_STANDBY);
    follow(2 | 4 | 8, 1000);
    bool is_early = role_of(4) == GROUP_VOTER;
    follow(2 | 4 | 8 | 16, 2000);
    return !is_early && role_of(4) == GROUP_VOTER && role_of(5) == GROUP_VOTER &&
           puppet_status(&p).is_target_reached;
}

/* Node 3 is a standby of voters 1 and 2, and has an entry that 2 has not. */
bool what_was_acknowledged_before_a_promotion_does_not_commit(uint64_t off)
{
    struct group_status s;
    puppet_open(&p, 3, 4, off);
    puppet_lead(&p, 2);
    follow(2 | 4, 200);
    must(puppet_propose(&p, "x") == 0);
    s = puppet_status(&p);
    puppet_result(&p, 2, s.role.term, 0, s.last_index - 1);
    puppet_result(&p, 3, s.role.term, 0, s.last_index - 1);
    want(7, 0);
    puppet_run(&p, 50);
    p.is_disk_held = true; /* A change of members is not durable from here on. */
    puppet_result(&p, 3, s.role.term, 0, s.last_index);
    puppet_run(&p, 50);
    bool is_early = p.applied.index >= s.last_index;
    p.is_disk_held = false;
    puppet_settle(&p);
    follow(2 | 4, 2000);
    return !is_early && p.applied.index >= s.last_index && role_of(3) == GROUP_VOTER;
}

/* Node 2 is silent: without 3 the group would have no quorum. */
bool a_change_leaves_a_quorum_that_answers(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_lead(&p, 2);
    follow(2 | 4, 200);
    follow(4, 2000);
    want(3, 0);
    follow(4, 300);
    bool is_early = role_of(3) < 0;
    follow(2 | 4, 500);
    return !is_early && role_of(3) < 0;
}

bool a_dead_member_goes_before_a_new_one_comes(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_lead(&p, 2);
    follow(2, 4000);
    want(1 | 2 | 8, 0);
    puppet_run(&p, 50);
    bool is_first = role_of(3) < 0 && role_of(4) < 0;
    follow(2 | 8, 3000);
    return is_first && role_of(3) < 0 && role_of(4) == GROUP_VOTER;
}

bool a_leader_that_is_to_go_hands_over_first(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_lead(&p, 2);
    follow(2 | 4, 200);
    want(6, 0);
    puppet_forget(&p);
    follow(2 | 4, 300);
    return role_of(1) == GROUP_VOTER && puppet_heard(&p, FRAME_TIMEOUT_NOW, 0) != NULL;
}
