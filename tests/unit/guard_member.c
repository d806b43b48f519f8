/* Changes of members: node 1 leads, and the others answer as followers that have everything. */
#include "raft/conf.h"
#include "storage/base/err.h"
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

/* Node 3 was taken out, in the log of node 1 only: node 2 leads before that is committed, and knows
 * of no change. Whether node 3 votes is what the log says, not what was asked for. */
bool a_change_that_was_rolled_back_is_made_again(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_lead(&p, 2);
    follow(2 | 4, 200);
    struct group_status s = puppet_status(&p);
    want(3, 0);
    puppet_run(&p, 50);
    must(role_of(3) < 0 && puppet_status(&p).is_configuration_uncommitted);
    puppet_entries(&p, 2, s.role.term + 1, s.last_index, s.last_term, s.last_index, 1,
                   (struct puppet_entry[]){{.term = s.role.term + 1, .type = BARRIER}});
    must(role_of(3) == GROUP_VOTER);
    puppet_forget(&p);
    puppet_lead(&p, 2);
    follow(2 | 4, 1000);
    return role_of(3) < 0 && puppet_status(&p).is_target_reached;
}

/* Raft id 77 lived on node 1 before, with a vote and a log. */
bool a_replica_does_not_answer_for_another_one(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "x");
    puppet_forget(&p);
    p.to = 77;
    puppet_vote(&p, 3, 3, 2, 2, PUPPET_DISRUPT);
    puppet_commands(&p, 3, 3, 2, 2, 2, 1, "y");
    p.to = 0;
    struct group_status s = puppet_status(&p);
    return puppet_heard(&p, FRAME_VOTE_RESULT, 0) == NULL &&
           puppet_heard(&p, FRAME_RESULT, 0) == NULL && s.role.term == 2 && s.last_index == 2;
}

/* As a standby it may not campaign, and with a log that others have not it would refuse them all.
 */
bool a_voter_goes_without_becoming_a_standby(uint64_t off)
{
    bool is_demoted = false;
    puppet_open(&p, 7, 0, off);
    puppet_lead(&p, 2);
    follow(2 | 4, 200);
    want(3, 0);
    for (unsigned i = 0; i < 20; i++) {
        puppet_run(&p, 10);
        is_demoted = is_demoted || role_of(3) == GROUP_STANDBY;
        follow(2 | 4, 50);
    }
    must(role_of(3) < 0);
    return !is_demoted;
}

/* Node 2 lacks an entry. Asked to lead it would refuse, or win without what was to come. */
bool who_is_handed_the_leadership_has_everything(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_lead(&p, 2);
    follow(2 | 4, 200);
    struct group_status s = puppet_status(&p);
    must(puppet_propose(&p, "x") == 0);
    must(group_move_leader(p.group, 2) == 0);
    must(puppet_propose(&p, "y") == ERR_BUSY);
    puppet_run(&p, 200);
    bool is_early = puppet_heard(&p, FRAME_TIMEOUT_NOW, 2) != NULL;
    puppet_result(&p, 2, s.role.term, 0, s.last_index + 1);
    puppet_run(&p, 50);
    const struct frame_item *now = puppet_heard(&p, FRAME_TIMEOUT_NOW, 2);
    must(is_early || (now != NULL && now->index == s.last_index + 1));
    follow(2 | 4, 2000); /* It does not take over: this one goes on. */
    must(puppet_propose(&p, "z") == 0);
    return !is_early;
}

/* The bytes of entry 1, as a follower without it gets them. */
static struct slice first_entry(void)
{
    puppet_result(&p, 3, puppet_status(&p).role.term, 1, 0);
    puppet_run(&p, 2000);
    LIST_FOR(it, &p.said)
    {
        struct said *s = container_of(it, struct said, link);
        struct frame_item walk = s->item;
        struct frame_entry e;
        if (s->node == 3 && walk.kind == FRAME_ENTRIES && walk.index == 0 &&
            frame_entry_next(&walk, &e) == 0) {
            return e.bytes;
        }
    }
    return SLICE_EMPTY;
}

bool entry_1_is_the_same_in_whatever_order_members_are_named(uint64_t off)
{
    static const struct group_member members[] = {
        {ID(3), 3, GROUP_VOTER}, {ID(1), 1, GROUP_VOTER}, {ID(2), 2, GROUP_VOTER}};
    struct conf sorted = {.count = 3, .members = {members[1], members[2], members[0]}};
    struct host_options o = {.guards_off = off};
    struct buf bytes = BUF_EMPTY;
    puppet_open_members(&p, members, 3, &o);
    puppet_lead(&p, 2);
    struct slice first = first_entry();
    must(first.len > 0);
    conf_encode(&sorted, &bytes);
    bool is_same = slice_eq(first, buf_slice(&bytes));
    buf_close(&bytes);
    return is_same;
}
