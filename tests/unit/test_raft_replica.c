/* One replica among puppets: what once went wrong, or easily could. */
#include <criterion/criterion.h>
#include <string.h>

#include "storage/base/err.h"
#include "tests/unit/raft_puppet.h"

static struct puppet p; /* One test per process, one schedule per child of it. */

#define PLAY(name)                                                                                 \
    static bool name##_plays(uint64_t off);                                                        \
    Test(raft_replica, name)                                                                       \
    {                                                                                              \
        cr_assert_eq(puppet_play(name##_plays, 0), PUPPET_HOLDS);                                  \
    }                                                                                              \
    static bool name##_plays(uint64_t off)

static bool is_granted(unsigned to, uint64_t term)
{
    const struct frame_item *r = puppet_heard(&p, FRAME_VOTE_RESULT, to);
    return r != NULL && r->term == term && (r->flags & FRAME_RESULT_GRANTED) != 0;
}

/* Entry 3 was synced and acknowledged, and is gone; the WAL says so. */
static void lose_entry_3(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "kept");
    puppet_commands(&p, 2, 2, 2, 2, 2, 1, "rots away");
    puppet_crash(&p);
    must(puppet_rot(&p, "rots away"));
    must(puppet_restart(&p) == 0);
    must(puppet_status(&p).last_index == 2);
    must(puppet_status(&p).state == GROUP_SUSPECT);
}

static void others_told_their_terms(void)
{
    puppet_table(&p, 2, 3, 4, 3);
    puppet_table(&p, 3, 2, 2, 2);
}

static bool is_asked(unsigned node)
{
    const struct frame_item *t = puppet_heard(&p, FRAME_TABLE, node);
    return t != NULL && (t->flags & FRAME_TABLE_ASKING) != 0;
}

/* All three lost the newest frame of their logs. The others saw the connections first, and what
 * they told on them came before they were seen here: it is asked for again, or nobody is sure of
 * anybody's log, and there is no leader for ever. */
PLAY(suspects_on_all_nodes_elect_one_of_them)
{
    lose_entry_3(off);
    puppet_table(&p, 2, 2, 2, 2);
    puppet_table(&p, 3, 2, 2, 2);
    host_peer_up(p.host, 2);
    host_peer_up(p.host, 3);
    puppet_settle(&p);
    puppet_forget(&p);
    puppet_run(&p, 1500);
    if (!is_asked(2) || !is_asked(3)) {
        return false;
    }
    puppet_table(&p, 2, 2, 2, 2);
    puppet_table(&p, 3, 2, 2, 2);
    puppet_run(&p, 6000);
    return puppet_heard(&p, FRAME_VOTE, 0) != NULL;
}

/* A new leader does not know how far its predecessor had committed. */
PLAY(a_suspect_is_level_only_with_what_its_leader_committed_in_its_own_term)
{
    lose_entry_3(off);
    others_told_their_terms();
    puppet_commands(&p, 2, 3, 2, 2, 2, 0, ""); /* Entry 3 is committed, but it says 2. */
    bool is_early = puppet_status(&p).state != GROUP_SUSPECT;
    puppet_entries(&p, 2, 3, 2, 2, 2, 2,
                   (struct puppet_entry[]){{.term = 2, .type = COMMAND, .text = "rots away"},
                                           {.term = 3, .type = BARRIER}});
    puppet_commands(&p, 2, 3, 4, 3, 4, 0, "");
    return !is_early && puppet_status(&p).state == GROUP_ACTIVE;
}

/* What is committed waits for later turns where the machine has much to do. */
PLAY(a_replica_is_level_only_with_what_was_delivered)
{
    puppet_open(&p, 7, 0, off);
    puppet_crash(&p);
    p.is_late = true;
    must(puppet_restart(&p) == 0);
    puppet_commands(&p, 2, 2, 1, 1, 151, 150, "x");
    struct group_status s = puppet_status(&p);
    must(s.commit_index == 151 && s.delivered_index < 60);
    bool is_early = s.is_level;
    puppet_run(&p, 500);
    s = puppet_status(&p);
    must(s.delivered_index == 151);
    return !is_early && s.is_level;
}

/* What it lacks comes with the first message, and nothing after that for a while. */
PLAY(a_replica_is_level_as_soon_as_what_it_lacked_is_stored)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "kept");
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    puppet_say(&p, 2,
               &(struct frame_item){
                   .kind = FRAME_TABLE, .term = 2, .index = 4, .index_term = 2, .commit = 4});
    p.is_disk_held = true;
    puppet_commands(&p, 2, 2, 2, 2, 4, 2, "missed");
    must(!puppet_status(&p).is_level);
    p.is_disk_held = false;
    puppet_settle(&p);
    return puppet_applied(&p, 4, 2, "missed") && puppet_status(&p).is_level;
}

/* The hint is wrong: where the table says that its log ends it has another entry. */
PLAY(a_member_whose_table_is_wrong_is_found_all_the_same)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 11, 10, "old");
    host_peer_down(p.host, 3);
    puppet_lead(&p, 2);
    uint64_t term = puppet_status(&p).role.term;
    puppet_run(&p, 1500);
    puppet_result(&p, 2, term, 0, puppet_status(&p).last_index);
    puppet_forget(&p);
    host_peer_up(p.host, 3);
    puppet_table(&p, 3, 2, 11, 2);
    const struct frame_item *e = puppet_heard(&p, FRAME_ENTRIES, 3);
    must(e != NULL && e->index == 11);
    puppet_result(&p, 3, term, 11, 4); /* Refused; it says 4. */
    puppet_run(&p, 1500);
    e = puppet_heard(&p, FRAME_ENTRIES, 3);
    return e->index == 4;
}

/* A message of more than a group's queue may hold waits for nobody: behind it nothing does. */
PLAY(entries_larger_than_the_queue_go_behind_a_small_message)
{
    static char text[1000];
    struct host_options o = {.guards_off = off, .group_queue_bytes_max = 4096};
    memset(text, 'x', sizeof text - 1);
    puppet_open_with(&p, 7, 0, &o);
    puppet_commands(&p, 2, 2, 1, 1, 1, 0, "");
    host_peer_down(p.host, 3);
    puppet_lead(&p, 2);
    for (unsigned i = 0; i < 10; i++) {
        must(puppet_propose(&p, text) == 0);
        puppet_result(&p, 2, puppet_status(&p).role.term, 0, puppet_status(&p).last_index);
    }
    puppet_run(&p, 1500);
    puppet_forget(&p);
    host_peer_up(p.host, 3); /* The group's table goes first. */
    puppet_table(&p, 3, 1, 1, 1);
    return puppet_sent(&p, 3, puppet_status(&p).last_index, &(struct applied_entry){0});
}

PLAY(a_suspicion_survives_the_next_restart_and_ends_for_good)
{
    lose_entry_3(off);
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    bool is_kept = puppet_status(&p).state == GROUP_SUSPECT;
    others_told_their_terms();
    puppet_entries(&p, 2, 3, 2, 2, 4, 2,
                   (struct puppet_entry[]){{.term = 2, .type = COMMAND, .text = "rots away"},
                                           {.term = 3, .type = BARRIER}});
    must(puppet_status(&p).state == GROUP_ACTIVE);
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    return is_kept && puppet_status(&p).state == GROUP_ACTIVE;
}

/* What rotted may be the record for whose sake older ones were let go: those are here for the last
 * time. */
PLAY(after_damage_a_groups_stub_is_written_again)
{
    lose_entry_3(off);
    p.base = (struct group_base){2, 2};
    puppet_commands(&p, 2, 3, 2, 2, 2, 0, "");
    must(p.applied.index == 2);
    group_set_base(p.group, p.base);
    puppet_settle(&p);
    puppet_crash(&p);
    must(puppet_rot(&p, "1.101")); /* The frame of the birth. */
    return puppet_restart(&p) == 0;
}

/* What cut entry 3 and 4 off and put another 3 in its place is gone; the next entry 4 is there. The
 * log must not be 3 of the one and 4 of the other. */
PLAY(entries_behind_one_that_rotted_do_not_follow_what_it_replaced)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 3, "old");
    puppet_commands(&p, 3, 3, 2, 2, 2, 1, "rots away");
    puppet_commands(&p, 3, 3, 3, 3, 2, 1, "new");
    must(puppet_heard(&p, FRAME_RESULT, 3)->last_index == 4);
    puppet_crash(&p);
    must(puppet_rot(&p, "rots away"));
    return puppet_restart(&p) == ERR_CORRUPT;
}

/* The store may be past it when it rots, and then no leader sends it again. */
PLAY(a_configuration_that_rots_is_known_from_another_frame)
{
    puppet_open(&p, 7, 0, off);
    puppet_entries(&p, 2, 2, 1, 1, 1, 2,
                   (struct puppet_entry[]){{.term = 2, .type = COMMAND, .text = "rots away"},
                                           {.term = 2, .type = CHANGE, .voters = 3}});
    puppet_commands(&p, 2, 2, 3, 2, 3, 0, "");
    must(p.applied.index == 3);
    p.base = p.applied; /* A crash between the store's checkpoint and BASE. */
    puppet_crash(&p);
    must(puppet_rot(&p, "rots away"));
    must(puppet_restart(&p) == 0);
    must(puppet_status(&p).state == GROUP_SUSPECT);
    return puppet_status(&p).last_index == 3 && puppet_status(&p).members_count == 2;
}

/* Its own timer does not run, and its vote may be needed. */
PLAY(a_suspect_forgets_a_leader_that_fell_silent)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "kept");
    puppet_commands(&p, 2, 2, 2, 2, 2, 1, "rots away");
    puppet_crash(&p);
    must(puppet_rot(&p, "rots away"));
    must(puppet_restart(&p) == 0);
    puppet_table(&p, 2, 2, 3, 2);
    puppet_table(&p, 3, 2, 3, 2);
    puppet_commands(&p, 2, 2, 2, 2, 1, 0, "");
    puppet_vote(&p, 3, 3, 3, 2, PUPPET_PRE);
    must(!is_granted(3, 3)); /* It was heard just now. */
    puppet_run(&p, 5000);
    puppet_vote(&p, 3, 3, 3, 2, PUPPET_PRE);
    return puppet_status(&p).state == GROUP_SUSPECT && is_granted(3, 3);
}

/* It knew of all terms before that voter came. */
PLAY(a_suspect_asks_a_new_voter_for_its_term_too)
{
    lose_entry_3(off);
    others_told_their_terms();
    puppet_entries(&p, 2, 3, 2, 2, 2, 1,
                   (struct puppet_entry[]){{.term = 3, .type = CHANGE, .voters = 15}});
    host_peer_up(p.host, 4);
    puppet_settle(&p);
    puppet_forget(&p);
    puppet_run(&p, 2000);
    const struct frame_item *table = puppet_heard(&p, FRAME_TABLE, 4);
    return table != NULL && (table->flags & FRAME_TABLE_ASKING) != 0;
}

PLAY(a_suspect_that_leads_is_none_any_more)
{
    lose_entry_3(off);
    puppet_table(&p, 2, 2, 2, 2);
    puppet_table(&p, 3, 2, 2, 2);
    puppet_lead(&p, 2);
    return puppet_status(&p).state == GROUP_ACTIVE;
}

/* To load again is to take what is in memory for stored: a sole voter commits it at once. */
PLAY(a_leader_with_appends_in_flight_waits_for_them_before_it_begins_anew)
{
    puppet_open(&p, 1, 2, off);
    puppet_run(&p, 1500);
    struct group_status s = puppet_status(&p);
    puppet_result(&p, 2, s.role.term, 0, s.last_index);
    p.is_disk_held = true;
    must(puppet_propose(&p, "not on the disk") == 0);
    host_peer_up(p.host, 2);
    puppet_table(&p, 2, s.role.term, s.last_index - 1, s.last_term);
    bool is_early = p.applied.index > s.last_index;
    p.is_disk_held = false;
    puppet_settle(&p);
    return !is_early && puppet_applied(&p, s.last_index + 1, s.role.term, "not on the disk") &&
           puppet_status(&p).role.term > s.role.term;
}

/* libraft keeps the leader of an older term, and refuses votes for its sake (B18). */
PLAY(a_new_term_ends_the_claim_of_the_old_leader)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "x");
    puppet_vote(&p, 3, 3, 1, 1, PUPPET_DISRUPT);
    must(!is_granted(3, 3));
    puppet_forget(&p);
    puppet_vote(&p, 3, 4, 9, 2, PUPPET_PRE);
    return is_granted(3, 4);
}

PLAY(a_survivor_that_knew_no_leader_campaigns_at_once)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "x");
    puppet_vote(&p, 3, 3, 1, 1, PUPPET_DISRUPT);
    puppet_forget(&p);
    host_peer_down(p.host, 2);
    puppet_run(&p, 350); /* It has not voted lately. */
    return puppet_heard(&p, FRAME_VOTE, 3) != NULL;
}

/* A term on top of a term, while the first one's votes are still on their way to slow disks. */
PLAY(a_candidate_with_a_slow_disk_gives_the_voters_as_long)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "x");
    host_peer_down(p.host, 2);
    for (unsigned i = 0; i < 100 && puppet_heard(&p, FRAME_VOTE, 3) == NULL; i++) {
        puppet_run(&p, 10);
    }
    must(puppet_heard(&p, FRAME_VOTE, 3) != NULL);
    p.is_disk_held = true;
    puppet_vote_result(&p, 3, 3, true, true);
    must(puppet_status(&p).role.term == 3);
    puppet_run(&p, 1000);
    p.is_disk_held = false;
    puppet_run(&p, 1500);
    puppet_vote_result(&p, 3, 3, true, false);
    return puppet_status(&p).role.term == 3 && puppet_status(&p).is_core_leader;
}

/* What is taken back from the queues are entries; the vote that deposed it is not. */
PLAY(the_vote_of_a_leader_that_hands_over_leaves)
{
    puppet_open(&p, 7, 0, off);
    puppet_lead(&p, 2);
    struct group_status s = puppet_status(&p);
    puppet_vote(&p, 2, s.role.term + 1, s.last_index, s.role.term, PUPPET_DISRUPT);
    return is_granted(2, s.role.term + 1);
}

PLAY(a_stopped_replica_is_not_revived_by_an_image)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 3, 2, "x");
    puppet_offer(&p, 2, 2, 7, 20, 2);
    must(puppet_heard(&p, FRAME_PULL, 2) != NULL);
    puppet_commands(&p, 3, 3, 1, 1, 3, 2, "diverges");
    must(puppet_status(&p).state == GROUP_FAILED);
    puppet_serve(&p, 2, 7);
    return puppet_status(&p).state == GROUP_FAILED && p.switched == 0;
}

/* Its answer would be of an older term, and the leader would wait 30 s for another. */
PLAY(an_image_tells_of_its_leaders_term)
{
    puppet_open(&p, 7, 0, off);
    puppet_offer(&p, 3, 5, 7, 20, 4);
    puppet_serve(&p, 3, 7);
    must(puppet_status(&p).last_index == 20);
    const struct frame_item *r = puppet_heard(&p, FRAME_RESULT, 3);
    return r != NULL && r->term == 5 && r->index == 0 && r->last_index == 20;
}

/* The pull was not needed in the end, but its IMAGE record is in the WAL; later the store flushes
 * at just that index. */
PLAY(a_base_equal_to_a_pull_that_was_not_needed_voids_no_entries)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 2, "x");
    puppet_offer(&p, 2, 2, 7, 5, 2);
    p.is_disk_held = true;
    puppet_serve(&p, 2, 7);
    puppet_commands(&p, 2, 2, 3, 2, 3, 5, "y");
    p.is_disk_held = false;
    puppet_settle(&p);
    must(p.switched == 0 && puppet_heard(&p, FRAME_DONE, 2) != NULL);
    puppet_commands(&p, 2, 2, 8, 2, 5, 0, "");
    must(p.applied.index == 5);
    p.base = p.applied; /* BASE is not in the WAL yet. */
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    return puppet_status(&p).last_index == 8;
}

/* ---- Held completions (G10, pipeline_max above 1) ---- */

static void lead_with_pipeline(unsigned voters, unsigned standbys, uint64_t off)
{
    struct host_options o = {.guards_off = off, .pipeline_max = 4};
    puppet_open_with(&p, voters, standbys, &o);
    puppet_lead(&p, 2);
}

PLAY(a_held_completion_holds_back_no_newer_term)
{
    lead_with_pipeline(7, 0, off);
    struct group_status s = puppet_status(&p);
    for (unsigned i = 0; i < 3; i++) {
        must(puppet_propose(&p, "held") == 0);
    }
    must(puppet_status(&p).commit_index == s.last_index);
    puppet_vote(&p, 3, s.role.term + 1, s.last_index + 9, s.role.term, PUPPET_DISRUPT);
    bool is_voted = is_granted(3, s.role.term + 1);
    /* The new leader has two of the three, and goes on from there. */
    puppet_entries(&p, 3, s.role.term + 1, s.last_index + 2, s.role.term, s.last_index + 2, 1,
                   (struct puppet_entry[]){{.term = s.role.term + 1, .type = BARRIER}});
    const struct frame_item *r = puppet_heard(&p, FRAME_RESULT, 3);
    must(r != NULL);
    return is_voted && p.lost == 3 && r->index == 0 && r->last_index == s.last_index + 3 &&
           puppet_applied(&p, s.last_index + 2, s.role.term, "held") &&
           p.applied.index == s.last_index + 2 && p.alarms == 0;
}

PLAY(held_batches_commit_one_by_one_with_the_acks_of_voters)
{
    lead_with_pipeline(7, 8, off);
    struct group_status s = puppet_status(&p);
    for (unsigned i = 0; i < 4; i++) {
        must(puppet_propose(&p, "batch") == 0);
    }
    must(puppet_status(&p).last_index == s.last_index + 4);
    must(puppet_propose(&p, "fifth") == 0);
    bool is_bounded = puppet_status(&p).last_index == s.last_index + 4;
    puppet_result(&p, 4, s.role.term, 0, s.last_index + 4); /* A standby. */
    bool is_standby_free = puppet_status(&p).commit_index == s.last_index;
    puppet_result(&p, 2, s.role.term, 0, s.last_index + 2);
    bool is_half = puppet_status(&p).commit_index == s.last_index + 2 && p.own == 2;
    puppet_result(&p, 3, s.role.term, 0, s.last_index + 5);
    return is_bounded && is_standby_free && is_half && p.own == 5 &&
           puppet_status(&p).commit_index == s.last_index + 5;
}

PLAY(acks_before_the_own_disk_commit_nothing)
{
    lead_with_pipeline(7, 0, off);
    struct group_status s = puppet_status(&p);
    p.is_disk_held = true;
    must(puppet_propose(&p, "batch") == 0);
    puppet_result(&p, 2, s.role.term, 0, s.last_index + 1);
    puppet_result(&p, 3, s.role.term, 0, s.last_index + 1);
    bool is_early = puppet_status(&p).commit_index > s.last_index;
    p.is_disk_held = false;
    puppet_settle(&p);
    return !is_early && puppet_status(&p).commit_index == s.last_index + 1 && p.own == 1;
}

/* What is fetched already is put in place; who offers meanwhile must not wait in silence. */
PLAY(an_offer_during_a_switch_is_sent_back)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 0, 0, 0, 0, "");
    p.is_stage_held = true;
    puppet_offer(&p, 2, 2, 7, 20, 2);
    puppet_serve(&p, 2, 7);
    must(p.stage_job != NULL);
    puppet_forget(&p);
    puppet_offer(&p, 3, 3, 9, 25, 3);
    const struct frame_item *done = puppet_heard(&p, FRAME_DONE, 3);
    return done != NULL && done->seq == 9 && done->flags == 1;
}

/* It acknowledged as a voter, was removed, and is taken in again as a standby: others may have
 * committed by its acknowledgement what the candidate has not. */
PLAY(a_standby_that_was_a_voter_compares_logs)
{
    puppet_open(&p, 6, 1, off);
    puppet_entries(
        &p, 2, 2, 1, 1, 1, 3,
        (struct puppet_entry[]){{.term = 2, .type = CHANGE, .voters = 7},
                                {.term = 2, .type = CHANGE, .voters = 6},
                                {.term = 2, .type = CHANGE, .voters = 6, .standbys = 1}});
    puppet_commands(&p, 2, 2, 4, 2, 5, 1, "x");
    puppet_run(&p, 4000);
    puppet_vote(&p, 3, 3, 3, 2, 0);
    bool is_free = is_granted(3, 3);
    /* Also when all of that is below the base, and after a restart. */
    p.base = p.applied;
    must(p.base.index == 5);
    group_set_base(p.group, p.base);
    puppet_settle(&p);
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    puppet_run(&p, 4000);
    puppet_vote(&p, 3, 4, 3, 2, 0);
    is_free = is_free || is_granted(3, 4);
    puppet_vote(&p, 3, 5, 6, 2, 0);
    return !is_free && is_granted(3, 5);
}

/* And one that never was remembers that too. */
PLAY(a_standby_that_was_never_a_voter_gives_free_votes_after_a_restart)
{
    puppet_open(&p, 6, 1, off);
    puppet_commands(&p, 2, 2, 1, 1, 3, 2, "x");
    p.base = p.applied;
    group_set_base(p.group, p.base);
    puppet_settle(&p);
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    puppet_run(&p, 4000);
    puppet_vote(&p, 3, 3, 2, 2, 0);
    return is_granted(3, 3);
}

/* 200 entries that are no leader's any more stand in an old segment of the WAL, and are being
 * carried forward: one record is on its way to the disk. */
static void begin_to_carry_200(uint64_t off)
{
    static char large[30000];
    memset(large, 'x', sizeof large - 1);
    struct host_options o = {.guards_off = off, .wal_bytes_max = 1u << 20};
    struct host_stats s;
    puppet_open_with(&p, 7, 0, &o);
    puppet_crash(&p);
    p.segment_bytes = 256u << 10;
    must(puppet_restart(&p) == 0);
    for (unsigned i = 0; i < 200; i += 50) {
        puppet_commands(&p, 2, 2, i + 1, i == 0 ? 1 : 2, 1, 50, "dead end");
    }
    for (unsigned i = 0; i < 80; i += 8) {
        puppet_commands(&p, 2, 2, i + 201, 2, 1, 8, large);
    }
    puppet_commands(&p, 3, 3, 201, 2, 1, 1, "");
    must(puppet_status(&p).last_index == 202);
    puppet_run(&p, 1000);
    host_stats(p.host, &s);
    must(s.carried == 0); /* It moved not long ago. */
    p.is_disk_held = true;
    puppet_run(&p, 1500);
    host_stats(p.host, &s);
    must(s.carried == 64);
}

/* On a slow disk the rest of the run takes longer than the group can do without this replica, and
 * the image replaces all of it. */
PLAY(an_image_does_not_wait_for_entries_that_are_carried_forward)
{
    struct host_stats s;
    begin_to_carry_200(off);
    puppet_offer(&p, 3, 3, 7, 300, 3);
    puppet_serve(&p, 3, 7);
    puppet_run(&p, 200); /* Nor does another run begin. */
    p.is_disk_held = false;
    puppet_run(&p, 200);
    host_stats(p.host, &s);
    return s.carried == 64 && p.switched == 1 && puppet_status(&p).last_index == 300;
}

/* One whose machine cannot read what newer ones write. */
PLAY(a_halted_replica_that_takes_no_images_ignores_offers)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 3, 2, "x");
    group_halt(p.group, false);
    puppet_offer(&p, 2, 2, 7, 10, 2);
    return puppet_heard(&p, FRAME_PULL, 2) == NULL && puppet_status(&p).is_halted;
}

PLAY(an_image_ends_a_halt)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 3, 2, "x");
    group_halt(p.group, true);
    puppet_offer(&p, 2, 2, 7, 10, 2);
    puppet_serve(&p, 2, 7);
    return puppet_status(&p).last_index == 10 && !puppet_status(&p).is_halted;
}

/* Somebody else leads by then, and sends what the image has; on a slow disk some of it is always on
 * its way. */
PLAY(an_image_that_is_overtaken_while_it_waits_for_silence_is_given_up)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 6, 5, "x");
    p.is_disk_held = true;
    puppet_commands(&p, 2, 2, 6, 2, 6, 1, "x");
    puppet_offer(&p, 2, 2, 7, 10, 2);
    puppet_serve(&p, 2, 7);
    must(puppet_status(&p).is_catching_up);
    for (uint64_t prev = 7; prev < 14; prev++) {
        const char *path;
        must(wal_batch_take(p.wal));
        puppet_commands(&p, 2, 2, prev, 2, prev, 1, "x");
        must(wal_batch_write(p.wal, &path) == 0);
        wal_batch_done(p.wal);
        host_durable(p.host, wal_durable_lsn(p.wal));
        host_turn_end(p.host);
    }
    must(puppet_status(&p).delivered_index > 10);
    return puppet_heard(&p, FRAME_DONE, 2) != NULL && !puppet_status(&p).is_catching_up &&
           p.switched == 0;
}
