#include <string.h>

#include "raft/host_internal.h" /* G7: libraft's transfer, which nothing of ours begins. */
#include "tests/unit/guard_schedules.h"

static struct puppet p; /* One schedule per process. */

static bool is_granted(unsigned to, uint64_t term)
{
    const struct frame_item *r = puppet_heard(&p, FRAME_VOTE_RESULT, to);
    return r != NULL && r->term == term && (r->flags & FRAME_RESULT_GRANTED) != 0;
}

bool a_vote_is_durable_before_it_leaves(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    p.is_disk_held = true;
    puppet_vote(&p, 2, 5, 9, 4, 0);
    unsigned votes = is_granted(2, 5);
    puppet_crash(&p);
    p.is_disk_held = false;
    must(puppet_restart(&p) == 0);
    puppet_vote(&p, 3, 5, 9, 4, 0);
    votes += is_granted(3, 5);
    must(votes > 0);
    return votes == 1; /* Two in a term can elect two leaders. */
}

/* As a_hand_over_waits_for_appends_in_flight, but the election timer runs off. */
bool a_stalled_disk_wins_no_election_without_its_log(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 0, "");
    p.is_disk_held = true;
    puppet_entries(&p, 2, 2, 1, 1, 1, 1,
                   (struct puppet_entry[]){{.term = 2, .type = CHANGE, .voters = 3}});
    puppet_run(&p, 7000);
    puppet_vote_result(&p, 3, 3, true, true);
    p.is_disk_held = false;
    puppet_settle(&p);
    puppet_vote_result(&p, 3, 3, true, false);
    return !puppet_status(&p).is_core_leader;
}

static void transfer_cb(struct raft_transfer *req)
{
    (void)req;
}

bool a_transferee_gets_no_second_vote(uint64_t off)
{
    struct raft_transfer transfer = {.id = ID(3), .cb = transfer_cb};
    puppet_open(&p, 7, 0, off);
    puppet_vote(&p, 2, 2, 9, 1, 0);
    must(is_granted(2, 2));
    p.group->r->transfer = &transfer;
    puppet_vote(&p, 3, 2, 9, 1, 0);
    p.group->r->transfer = NULL;
    return !is_granted(3, 2);
}

/* The newest frame, which was synced and acknowledged, rots while the node is down. */
static void lose_entry_3(uint64_t off)
{
    static const char text[] = "rots away";
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "kept");
    puppet_commands(&p, 2, 2, 2, 2, 2, 1, text);
    must(puppet_heard(&p, FRAME_RESULT, 2)->last_index == 3);
    puppet_crash(&p);
    must(puppet_rot(&p, text));
    must(puppet_restart(&p) == 0);
    must(puppet_status(&p).last_index == 2);
    must(puppet_status(&p).state == GROUP_SUSPECT);
}

bool a_replica_that_lost_synced_entries_does_not_vote(uint64_t off)
{
    lose_entry_3(off);
    /* Nodes 1 and 2 had entry 3: it is committed. Node 3 never got it. */
    puppet_vote(&p, 3, 3, 2, 2, 0);
    if (is_granted(3, 3)) {
        return false;
    }
    puppet_run(&p, 8000);
    if (puppet_heard(&p, FRAME_VOTE, 0) != NULL) {
        return false; /* Nor does it campaign. */
    }
    /* All voters are there: the one with the newest log of all gets its vote. */
    puppet_table(&p, 3, 3, 2, 2);
    puppet_table(&p, 2, 3, 3, 2);
    puppet_vote(&p, 3, 4, 2, 2, 0);
    bool is_wrong = is_granted(3, 4);
    puppet_vote(&p, 2, 5, 3, 2, 0);
    return !is_wrong && is_granted(2, 5);
}

/* Node 2 leads term 2. One frame, which rots later, holds that node 1 went over to node 3 in term
 * 5, and the entry that it acknowledged to it: nodes 1 and 3 committed it. */
static void forget_term_5(uint64_t off)
{
    static const char text[] = "rots away";
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "kept");
    puppet_commands(&p, 2, 2, 2, 2, 2, 0, "");
    p.is_disk_held = true;
    puppet_vote(&p, 3, 5, 2, 2, PUPPET_DISRUPT);
    puppet_commands(&p, 3, 5, 2, 2, 2, 1, text);
    p.is_disk_held = false;
    puppet_settle(&p);
    must(is_granted(3, 5));
    must(puppet_heard(&p, FRAME_RESULT, 3)->last_index == 3);
    puppet_crash(&p);
    must(puppet_rot(&p, text));
    must(puppet_restart(&p) == 0);
    must(puppet_status(&p).role.term == 2);
    must(puppet_status(&p).last_index == 2);
    must(puppet_status(&p).state == GROUP_SUSPECT);
}

/* The last acknowledgement to node 2, 0: none. */
static uint64_t acked_to_2(uint64_t term)
{
    const struct frame_item *r = puppet_heard(&p, FRAME_RESULT, 2);
    return r != NULL && r->term == term && r->index == 0 ? r->last_index : 0;
}

/* Node 2 knows nothing of term 5 yet. With our acknowledgement it would commit another entry 3. It
 * may bring what is committed already, and what it commits with somebody else. */
bool a_suspect_helps_no_leader_that_it_may_have_left(uint64_t off)
{
    forget_term_5(off);
    puppet_commands(&p, 2, 2, 2, 2, 2, 1, "other");
    if (acked_to_2(2) > 2) {
        return false;
    }
    puppet_table(&p, 2, 2, 3, 2);
    puppet_commands(&p, 2, 2, 3, 2, 2, 0, "");
    if (acked_to_2(2) > 2) {
        return false; /* Nor when it knows the terms of some. */
    }
    puppet_commands(&p, 2, 2, 3, 2, 3, 0, "");
    must(acked_to_2(2) == 3);
    must(puppet_status(&p).state == GROUP_SUSPECT);
    puppet_table(&p, 3, 5, 3, 5);
    must(puppet_status(&p).role.term == 5);
    puppet_forget(&p);
    puppet_commands(&p, 2, 2, 3, 2, 3, 1, "late");
    must(puppet_heard(&p, FRAME_RESULT, 2)->term == 5);
    must(acked_to_2(5) == 0);
    /* A leader of a later term makes it whole. */
    puppet_entries(&p, 2, 6, 3, 2, 3, 1, (struct puppet_entry[]){{.term = 6, .type = BARRIER}});
    must(acked_to_2(6) == 4);
    puppet_commands(&p, 2, 6, 4, 6, 4, 0, "");
    return puppet_status(&p).state == GROUP_ACTIVE;
}

/* Node 3 has that vote, and may lead term 5. All are there, and node 2's log is as new as any. */
bool a_suspect_gives_no_vote_that_it_may_have_given(uint64_t off)
{
    forget_term_5(off);
    puppet_table(&p, 2, 5, 2, 2);
    puppet_table(&p, 3, 5, 2, 2);
    puppet_vote(&p, 2, 5, 2, 2, PUPPET_DISRUPT);
    bool is_second = is_granted(2, 5);
    /* Also after another crash. */
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    puppet_table(&p, 2, 5, 2, 2);
    puppet_table(&p, 3, 5, 2, 2);
    puppet_vote(&p, 2, 5, 2, 2, PUPPET_DISRUPT);
    is_second = is_second || is_granted(2, 5);
    puppet_vote(&p, 2, 6, 2, 2, PUPPET_DISRUPT);
    return !is_second && is_granted(2, 6);
}

/* ReadIndex: node 2 asks whether it still leads. */
bool a_suspect_confirms_no_leader_that_it_may_have_left(uint64_t off)
{
    struct frame_item ping = {
        .kind = FRAME_PING, .gid = 1, .from = ID(2), .to = ID(1), .term = 2, .seq = 1};
    forget_term_5(off);
    puppet_say(&p, 2, &ping);
    puppet_settle(&p);
    return puppet_heard(&p, FRAME_PONG, 2) == NULL;
}

/* A standby gets the entry before the disk of the sole voter has it; then the voter loses it. */
bool an_index_and_term_name_one_entry_of_a_sole_voter(uint64_t off)
{
    struct applied_entry first, second;
    puppet_open(&p, 1, 2, off);
    puppet_run(&p, 1500);
    struct group_status s = puppet_status(&p);
    must(s.role.is_leader);
    puppet_result(&p, 2, s.role.term, 0, s.last_index);
    p.is_disk_held = true;
    must(puppet_propose(&p, "lost") == 0);
    must(puppet_sent(&p, 2, s.last_index + 1, &first));
    puppet_crash(&p);
    p.is_disk_held = false;
    must(puppet_restart(&p) == 0);
    puppet_run(&p, 1500);
    must(puppet_propose(&p, "other") == 0);
    puppet_run(&p, 1500);
    must(puppet_sent(&p, 2, s.last_index + 1, &second));
    return first.term != second.term || memcmp(&first, &second, sizeof first) == 0;
}

/* Node 1 is a standby in its own log. The leader has promoted it, which reached nobody else yet;
 * with two voters both votes are needed. */
bool a_promoted_standby_that_does_not_know_it_votes(uint64_t off)
{
    puppet_open(&p, 2, 1, off);
    puppet_commands(&p, 2, 2, 1, 1, 2, 1, "x");
    puppet_run(&p, 4000);
    puppet_vote(&p, 2, 3, 3, 2, PUPPET_PRE);
    bool is_pre_granted = is_granted(2, 3);
    puppet_forget(&p);
    puppet_vote(&p, 2, 3, 3, 2, 0);
    if (!is_pre_granted || !is_granted(2, 3)) {
        return false;
    }
    /* One vote per term holds for it too, also over a crash. */
    puppet_vote(&p, 3, 3, 9, 2, 0);
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    puppet_vote(&p, 3, 3, 9, 2, 0);
    return !is_granted(3, 3);
}

/* The candidate has the newer log of all that live, but is terms behind: it must learn that. */
bool a_refused_pre_vote_tells_the_term(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 0, "");
    puppet_vote(&p, 3, 7, 1, 1, PUPPET_DISRUPT);
    puppet_forget(&p);
    puppet_vote(&p, 2, 3, 9, 2, PUPPET_PRE);
    const struct frame_item *r = puppet_heard(&p, FRAME_VOTE_RESULT, 2);
    must(r != NULL && (r->flags & FRAME_RESULT_GRANTED) == 0);
    return r->term == 7;
}

/* The leader that left entry 3 on this standby alone is dead; the next one promoted the standby,
 * and needs its vote. */
bool a_standby_with_a_longer_log_does_not_block_elections(uint64_t off)
{
    puppet_open(&p, 6, 1, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 2, "x");
    puppet_run(&p, 4000);
    puppet_vote(&p, 3, 3, 2, 2, 0);
    return is_granted(3, 3);
}

static void know(unsigned nodes, uint64_t reported, bool is_settled)
{
    struct group_member known[PUPPET_NODES];
    unsigned count = 0;
    for (unsigned n = 1; n <= PUPPET_NODES; n++) {
        if ((nodes >> (n - 1) & 1) != 0) {
            known[count++] = (struct group_member){ID(n), n, GROUP_VOTER};
        }
    }
    group_set_known_members(p.group, known, count, reported, is_settled);
    puppet_settle(&p);
}

/* The members are what they were, which node 1 cannot know: the entry that it lost could have been
 * a change. */
bool a_suspect_waits_for_who_may_be_a_member(uint64_t off)
{
    lose_entry_3(off);
    puppet_crash(&p);
    p.has_known = true;
    must(puppet_restart(&p) == 0);
    must(puppet_status(&p).state == GROUP_SUSPECT);
    puppet_table(&p, 2, 2, 2, 2);
    puppet_table(&p, 3, 2, 2, 2);
    puppet_vote(&p, 2, 3, 2, 2, PUPPET_DISRUPT);
    bool is_early = is_granted(2, 3);
    /* Nor with an acknowledgement that commits. */
    puppet_commands(&p, 3, 4, 2, 2, 1, 1, "x");
    const struct frame_item *r = puppet_heard(&p, FRAME_RESULT, 3);
    is_early = is_early || (r != NULL && r->index == 0 && r->last_index > 1);
    know(1 | 2 | 4, 0, true);
    puppet_vote(&p, 2, 5, 2, 2, PUPPET_DISRUPT);
    must(!is_granted(2, 5)); /* Not the newest of all. */
    puppet_vote(&p, 3, 6, 3, 4, PUPPET_DISRUPT);
    return !is_early && is_granted(3, 6);
}

/* The group moved from nodes 1, 2, 3 to nodes 1, 4, 5. The frame that tells it rots at node 1,
 * whose store is already behind it: what is left of the log tells of nodes 2 and 3. These are
 * there, and were away meanwhile. */
bool a_suspect_counts_no_members_of_before(uint64_t off)
{
    static const char text[] = "rots away";
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "kept");
    puppet_entries(&p, 2, 2, 2, 2, 7, 5,
                   (struct puppet_entry[]){{.term = 2, .type = CHANGE, .voters = 1 | 2 | 4 | 8},
                                           {.term = 2, .type = CHANGE, .voters = 1 | 2 | 8},
                                           {.term = 2, .type = CHANGE, .voters = 1 | 2 | 8 | 16},
                                           {.term = 2, .type = CHANGE, .voters = 1 | 8 | 16},
                                           {.term = 2, .type = COMMAND, .text = text}});
    must(p.applied.index == 7);
    p.base = p.applied;
    puppet_crash(&p);
    must(puppet_rot(&p, text));
    must(puppet_rot(&p, text)); /* A configuration is written once more. */
    p.has_known = true;
    must(puppet_restart(&p) == 0);
    struct group_status s = puppet_status(&p);
    must(s.last_index == 7 && s.state == GROUP_SUSPECT && s.members_index == 1);
    host_peer_up(p.host, 4);
    host_peer_up(p.host, 5);
    puppet_table(&p, 2, 2, 2, 2);
    puppet_table(&p, 3, 2, 2, 2);
    puppet_run(&p, 8000);
    bool is_wrong = puppet_heard(&p, FRAME_VOTE, 0) != NULL;
    know(1 | 2 | 4 | 8 | 16, 0, false); /* As long as the change is not reported. */
    puppet_table(&p, 4, 2, 7, 2);
    puppet_table(&p, 5, 2, 7, 2);
    puppet_run(&p, 8000);
    is_wrong = is_wrong || puppet_heard(&p, FRAME_VOTE, 0) != NULL;
    know(1 | 8 | 16, 6, true);
    puppet_run(&p, 8000);
    is_wrong = is_wrong || puppet_heard(&p, FRAME_VOTE, 0) != NULL;
    /* Its vote counts for whom it belongs to; those of before are not asked. */
    host_peer_down(p.host, 2);
    puppet_vote(&p, 4, 3, 7, 2, 0);
    must(is_wrong || is_granted(4, 3));
    puppet_entries(&p, 4, 3, 7, 2, 7, 1, (struct puppet_entry[]){{.term = 3, .type = BARRIER}});
    puppet_commands(&p, 4, 3, 8, 3, 8, 0, "");
    is_wrong = is_wrong || puppet_status(&p).state != GROUP_SUSPECT;
    /* Also after another crash. */
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    know(1 | 8 | 16, 6, true);
    s = puppet_status(&p);
    return !is_wrong && s.state == GROUP_SUSPECT && s.members_index == 1;
}

bool a_survivor_campaigns_at_once(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "x");
    puppet_forget(&p);
    host_peer_down(p.host, 2);
    puppet_run(&p, 150); /* Rank 0 or 1. */
    return puppet_heard(&p, FRAME_VOTE, 3) != NULL;
}

/* Node 3 has not noticed yet that node 2 is down; when it has, it begins itself 100 ms later. */
bool a_refused_survivor_asks_again_before_the_next_in_rank(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "x");
    puppet_forget(&p);
    host_peer_down(p.host, 2);
    for (unsigned ms = 0; puppet_heard(&p, FRAME_VOTE, 3) == NULL; ms += 10) {
        if (ms > 150) {
            return false;
        }
        puppet_run(&p, 10);
    }
    puppet_vote_result(&p, 3, 2, false, true);
    puppet_forget(&p);
    puppet_run(&p, 80);
    return puppet_heard(&p, FRAME_VOTE, 3) != NULL;
}

/* A leader that slept wakes while node 2 asks for votes in the next term. Node 3 knows a leader
 * again and refuses, node 2 has less of the log: only the old leader can win, and it waited for its
 * timer, up to six seconds. */
bool a_deposed_leader_campaigns_at_once(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_lead(&p, 2);
    uint64_t term = puppet_status(&p).role.term;
    must(puppet_propose(&p, "x") == 0);
    puppet_settle(&p);
    puppet_result(&p, 2, term + 1, 3, 2);
    must(!puppet_status(&p).is_core_leader);
    puppet_forget(&p);
    puppet_run(&p, 300);
    return puppet_heard(&p, FRAME_VOTE, 3) != NULL;
}

/* The same, as node 3. */
bool a_leader_that_asks_for_votes_leads_no_more(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "x");
    puppet_vote(&p, 3, 3, 2, 2, 0);
    must(!is_granted(3, 3)); /* It has a leader. */
    puppet_vote(&p, 2, 4, 3, 2, PUPPET_PRE);
    return is_granted(2, 4);
}
