#include <stdlib.h>

#include "tests/unit/guard_schedules.h"

static struct puppet p; /* One schedule per process. */

/* S1 leads term 2, S3 term 3, S1 (this node) term 4, S3 term 5. */
bool an_entry_of_an_old_term_is_not_committed_by_counting(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 1, "old");
    puppet_vote(&p, 3, 3, 1, 1, PUPPET_DISRUPT); /* Only tells of term 3. */
    uint64_t term = puppet_ask(&p, 2);
    must(term == 4);
    p.is_disk_held = true; /* The barrier is not stored yet. */
    puppet_vote_result(&p, 2, 4, true, false);
    must(puppet_status(&p).is_core_leader);
    puppet_result(&p, 2, 4, 0, 2); /* A majority has "old" now. */
    bool is_committed = p.applied.index >= 2;
    p.is_disk_held = false;
    puppet_settle(&p);
    /* S3 may still win by the votes of those without it, and overwrites it. */
    puppet_entries(&p, 3, 5, 1, 1, 3, 2,
                   (struct puppet_entry[]){{.term = 3, .type = COMMAND, .text = "new"},
                                           {.term = 5, .type = BARRIER}});
    return !is_committed && puppet_applied(&p, 2, 3, "new") && p.alarms == 0;
}

bool an_ack_never_exceeds_what_was_checked(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 2, "old");
    puppet_forget(&p);
    puppet_commands(&p, 3, 3, 1, 1, 1, 0, "");
    const struct frame_item *r = puppet_heard(&p, FRAME_RESULT, 3);
    must(r != NULL && r->index == 0);
    return r->last_index == 1; /* Entries 2 and 3 are not the new leader's. */
}

bool a_deposed_leader_gets_no_acceptance(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 2, "x");
    puppet_vote(&p, 3, 3, 1, 1, PUPPET_DISRUPT);
    puppet_forget(&p);
    puppet_commands(&p, 2, 2, 0, 0, 1, 0, "");
    const struct frame_item *r = puppet_heard(&p, FRAME_RESULT, 2);
    must(r != NULL && r->term == 3);
    return r->index != 0;
}

bool only_what_was_checked_is_applied(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 2, "old");
    /* The new leader's entries 2 and 3 are committed; this is its first message here. */
    puppet_commands(&p, 3, 3, 1, 1, 3, 0, "");
    puppet_commands(&p, 3, 3, 1, 1, 3, 2, "new");
    return puppet_applied(&p, 2, 3, "new") && puppet_applied(&p, 3, 3, "new") && p.rewritten == 0 &&
           p.alarms == 0;
}

/* Node 3 is removed by an entry that is in the log, but not on the disk yet. Whoever leads with it
 * needs node 2; without it, 3 would do. */
bool a_hand_over_waits_for_appends_in_flight(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 0, "");
    p.is_disk_held = true;
    puppet_entries(&p, 2, 2, 1, 1, 1, 1,
                   (struct puppet_entry[]){{.term = 2, .type = CHANGE, .voters = 3}});
    puppet_timeout_now(&p, 2, 2, 2, 2);
    p.is_disk_held = false;
    puppet_settle(&p);
    must(puppet_heard(&p, FRAME_VOTE, 2) != NULL);
    bool is_asked = puppet_heard(&p, FRAME_VOTE, 3) != NULL;
    puppet_vote_result(&p, 3, 3, true, false);
    return !is_asked && !puppet_status(&p).is_core_leader;
}

/* Stands behind G4 and G2, which are off here. */
bool an_append_of_an_older_term_is_not_acked_to_the_new_leader(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    p.is_disk_held = true;
    puppet_commands(&p, 2, 2, 1, 1, 1, 2, "old");
    puppet_commands(&p, 3, 3, 1, 1, 1, 0, "");
    puppet_forget(&p);
    p.is_disk_held = false;
    puppet_settle(&p);
    const struct frame_item *r = puppet_heard(&p, FRAME_RESULT, 3);
    return r == NULL || r->last_index <= 1;
}

/* The leader is played as libraft does it: one step per heartbeat, guided by the hint. */
bool a_long_old_tail_is_found_in_a_few_rounds(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 30, "old");
    uint64_t next = 32;
    for (unsigned round = 1; round < 40; round++) {
        puppet_forget(&p);
        puppet_commands(&p, 3, 3, next - 1, next == 2 ? 1 : 3, 1, 0, "");
        const struct frame_item *r = puppet_heard(&p, FRAME_RESULT, 3);
        must(r != NULL);
        if (r->index == 0) {
            return round <= 3;
        }
        must(r->index == next - 1);
        next = r->index < r->last_index + 1 ? r->index : r->last_index + 1;
    }
    return false;
}

/* Node 3 has entries 1 to 11, and is down when this node is elected and commits ten more. */
static void lead_without_node_3(const struct host_options *o)
{
    puppet_open_with(&p, 7, 0, o);
    puppet_commands(&p, 2, 2, 1, 1, 11, 10, "old");
    host_peer_down(p.host, 3);
    puppet_lead(&p, 2);
    uint64_t term = puppet_status(&p).role.term;
    for (unsigned i = 0; i < 10; i++) {
        must(puppet_propose(&p, "new") == 0);
        puppet_result(&p, 2, term, 0, puppet_status(&p).last_index);
        puppet_run(&p, 200); /* Heartbeats to node 3 fail meanwhile. */
    }
    must(puppet_status(&p).is_core_leader);
    must(puppet_status(&p).commit_index == 22);
    puppet_forget(&p);
    host_peer_up(p.host, 3);
}

bool a_member_that_was_away_gets_what_it_lacks(uint64_t off)
{
    struct host_options o = {.guards_off = off};
    lead_without_node_3(&o);
    puppet_table(&p, 3, 2, 11, 2);
    const struct frame_item *e = puppet_heard(&p, FRAME_ENTRIES, 3);
    must(e != NULL && e->index + e->count == 22);
    return e->index == 11;
}

/* Its log ends with entries of another leader's, and this one has not all of its log in memory. */
bool a_member_that_was_away_needs_no_image(uint64_t off)
{
    struct host_options o = {.guards_off = off, .log_entries_max = 16};
    lead_without_node_3(&o);
    must(puppet_status(&p).log_first_index > 2);
    puppet_say(&p, 3,
               &(struct frame_item){
                   .kind = FRAME_TABLE, .term = 2, .index = 40, .index_term = 2, .commit = 11});
    puppet_settle(&p);
    uint64_t term = puppet_status(&p).role.term;
    const struct frame_item *e = puppet_heard(&p, FRAME_ENTRIES, 3);
    must(e != NULL);
    puppet_result(&p, 3, term, e->index == 11 ? 0 : e->index, e->index == 11 ? 22 : 11);
    puppet_run(&p, 2000);
    return p.images_opened == 0;
}

/* After a restart the core believes each configuration in its log to be committed. */
bool a_cut_configuration_is_not_in_force(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_entries(&p, 2, 2, 1, 1, 1, 1,
                   (struct puppet_entry[]){{.term = 2, .type = CHANGE, .voters = 3}});
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    puppet_commands(&p, 3, 3, 1, 1, 1, 1, "instead");
    must(puppet_status(&p).last_term == 3);
    puppet_forget(&p);
    must(puppet_ask(&p, 2) != 0);
    return puppet_heard(&p, FRAME_VOTE, 3) != NULL; /* A voter again. */
}

/* One proposal per round; the disk here is faster than the follower, whose acks are two rounds
 * late. */
static bool load_commits(const struct host_options *o)
{
    puppet_open_with(&p, 7, 0, o);
    puppet_lead(&p, 2);
    struct group_status s = puppet_status(&p);
    uint64_t term = s.role.term, before = s.commit_index;
    uint64_t sent[42] = {s.last_index, s.last_index};
    for (unsigned i = 2; i < 42; i++) {
        must(puppet_propose(&p, "load") == 0);
        sent[i] = puppet_status(&p).last_index;
        puppet_result(&p, 2, term, 0, sent[i - 2]);
    }
    return puppet_status(&p).commit_index >= before + 20;
}

bool a_steady_load_commits(uint64_t off)
{
    struct host_options o = {.guards_off = off};
    return load_commits(&o);
}

bool a_steady_load_commits_with_four_batches_in_flight(uint64_t off)
{
    struct host_options o = {.guards_off = off, .pipeline_max = 4};
    return load_commits(&o);
}

bool entries_of_a_deposed_leader_are_taken_back(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_lead(&p, 2);
    struct group_status s = puppet_status(&p);
    p.is_room_none = true;
    must(puppet_propose(&p, "late") == 0);
    puppet_forget(&p);
    puppet_vote(&p, 2, s.role.term + 1, s.last_index + 5, s.role.term, PUPPET_DISRUPT);
    must(!puppet_status(&p).is_core_leader);
    p.is_room_none = false;
    puppet_settle(&p);
    return puppet_heard(&p, FRAME_ENTRIES, 2) == NULL;
}

/* Node 2 acknowledged five entries, and lost two of them in a crash. */
bool a_shorter_peer_is_repaired(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_lead(&p, 2);
    for (unsigned i = 0; i < 3; i++) {
        must(puppet_propose(&p, "kept") == 0);
        puppet_result(&p, 2, puppet_status(&p).role.term, 0, puppet_status(&p).last_index);
    }
    uint64_t last = puppet_status(&p).last_index, have = last - 2;
    must(puppet_status(&p).commit_index == last);
    puppet_forget(&p);
    host_peer_up(p.host, 2);
    puppet_table(&p, 2, puppet_status(&p).role.term, have, puppet_status(&p).role.term);
    for (unsigned i = 0; i < 1000 && have < last; i++) {
        struct list *l = list_pop_front(&p.said);
        if (l == NULL) {
            puppet_run(&p, 10);
            continue;
        }
        struct said *said = container_of(l, struct said, link);
        const struct frame_item it = said->item;
        if (said->node == 2 && it.kind == FRAME_VOTE) {
            puppet_vote_result(&p, 2, it.term, true, (it.flags & FRAME_VOTE_PRE) != 0);
        } else if (said->node == 2 && it.kind == FRAME_ENTRIES && it.index > have) {
            puppet_result(&p, 2, it.term, it.index, have);
        } else if (said->node == 2 && it.kind == FRAME_ENTRIES) {
            have = it.index + it.count > have ? it.index + it.count : have;
            puppet_result(&p, 2, it.term, 0, it.index + it.count);
        }
        buf_close(&said->bytes);
        free(said);
    }
    return have >= last;
}

static void trim(uint64_t off)
{
    struct host_options o = {.guards_off = off, .log_entries_max = 16};
    puppet_open_with(&p, 7, 0, &o);
    for (uint64_t last = 1; last < 61; last += 10) {
        puppet_commands(&p, 2, 2, last, last == 1 ? 1 : 2, last, 10, "x");
    }
    puppet_commands(&p, 2, 2, 61, 2, 61, 0, "");
    must(puppet_status(&p).log_first_index > 20);
    puppet_forget(&p);
}

/* Without the guard they are appended at the end, and then cut away from index 1: the heap. */
bool late_entries_from_the_beginning_are_harmless(uint64_t off)
{
    struct puppet_entry all[62] = {{.term = 1, .type = CHANGE, .voters = 7}};
    trim(off);
    for (unsigned i = 1; i < 62; i++) {
        all[i] = (struct puppet_entry){.term = 2, .type = COMMAND, .text = "x"};
    }
    puppet_entries(&p, 2, 2, 0, 0, 61, 62, all);
    return p.alarms == 0 && puppet_status(&p).state == GROUP_ACTIVE &&
           puppet_status(&p).last_index == 62;
}

bool late_entries_that_begin_below_the_trimmed_log_are_taken(uint64_t off)
{
    trim(off);
    puppet_commands(&p, 2, 2, 5, 2, 61, 60, "x");
    const struct frame_item *r = puppet_heard(&p, FRAME_RESULT, 2);
    must(r != NULL);
    return r->index == 0 && r->last_index == 65;
}

bool a_slow_follower_that_answers_needs_no_image(uint64_t off)
{
    struct host_options o = {.guards_off = off, .log_entries_max = 32};
    puppet_open_with(&p, 7, 0, &o);
    puppet_lead(&p, 2);
    uint64_t term = puppet_status(&p).role.term;
    puppet_result(&p, 3, term, 0, 2);
    for (unsigned i = 0; i < 200; i++) {
        must(puppet_propose(&p, "load") == 0);
        puppet_result(&p, 2, term, 0, puppet_status(&p).last_index);
        if (i % 20 == 0) {
            puppet_run(&p, 500);
            puppet_result(&p, 3, term, 0, 2 + i / 20);
            puppet_result(&p, 2, term, 0, puppet_status(&p).last_index);
        }
    }
    must(puppet_status(&p).is_core_leader);
    return p.images_opened == 0 && puppet_status(&p).log_first_index <= 12;
}

/* The store is slow, and has no checkpoint yet: the entries are in the WAL. */
bool memory_is_trimmed_though_nothing_is_durable(uint64_t off)
{
    struct host_options o = {.guards_off = off, .log_entries_max = 16};
    puppet_open_with(&p, 7, 0, &o);
    puppet_lead(&p, 2);
    uint64_t term = puppet_status(&p).role.term;
    for (unsigned i = 0; i < 100; i++) {
        must(puppet_propose(&p, "load") == 0);
        puppet_result(&p, 2, term, 0, puppet_status(&p).last_index);
    }
    must(p.applied.index > 100 && puppet_status(&p).base.index == 0);
    return puppet_status(&p).log_first_index > 50;
}

/* Two checkpoints end in the other order. The WAL may have let go what the older one would need. */
bool a_late_checkpoint_moves_no_base_back(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 6, 5, "x");
    must(p.applied.index == 6);
    p.base = p.applied;
    group_set_base(p.group, p.base);
    puppet_settle(&p);
    group_set_base(p.group, (struct group_base){3, 2});
    puppet_settle(&p);
    bool is_back = puppet_status(&p).base.index != 6;
    puppet_crash(&p);
    return !is_back && puppet_restart(&p) == 0 && puppet_status(&p).state == GROUP_ACTIVE;
}

/* Entry 7 removes node 3, and is cut after a base of index 6 was taken. */
bool a_base_has_the_configuration_of_its_index(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 6, 5, "x");
    must(p.applied.index == 6);
    puppet_entries(&p, 2, 2, 6, 2, 6, 1,
                   (struct puppet_entry[]){{.term = 2, .type = CHANGE, .voters = 3}});
    p.base = p.applied;
    group_set_base(p.group, p.base);
    puppet_settle(&p);
    puppet_commands(&p, 3, 3, 6, 2, 6, 1, "instead");
    puppet_crash(&p);
    must(puppet_restart(&p) == 0);
    must(puppet_status(&p).last_term == 3);
    puppet_forget(&p);
    must(puppet_ask(&p, 2) != 0);
    return puppet_heard(&p, FRAME_VOTE, 3) != NULL;
}
