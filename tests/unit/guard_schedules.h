/* For each guard of HOST_GUARD_MAP a schedule that tells whether what the guard is for holds. Each
 * runs with the guard and without it (test_guards.c). The name says the property. */
#ifndef TESTS_UNIT_GUARD_SCHEDULES_H
#define TESTS_UNIT_GUARD_SCHEDULES_H
#include "tests/unit/raft_puppet.h"

/* guard_log.c: what is replicated and committed. */
bool an_entry_of_an_old_term_is_not_committed_by_counting(uint64_t off); /* G1, Raft's figure 8. */
bool an_ack_never_exceeds_what_was_checked(uint64_t off);                /* G2 */
bool a_deposed_leader_gets_no_acceptance(uint64_t off);                  /* G2B */
bool only_what_was_checked_is_applied(uint64_t off);                     /* G3 */
bool a_hand_over_waits_for_appends_in_flight(uint64_t off);              /* G4 */
bool an_append_of_an_older_term_is_not_acked_to_the_new_leader(uint64_t off); /* G5 */
bool a_long_old_tail_is_found_in_a_few_rounds(uint64_t off);                  /* G8 */
bool a_member_that_was_away_gets_what_it_lacks(uint64_t off);                 /* G8B */
bool a_member_that_was_away_needs_no_image(uint64_t off);                     /* G8B */
bool a_cut_configuration_is_not_in_force(uint64_t off);                       /* G9 */
bool a_steady_load_commits(uint64_t off);                                     /* G10 */
bool a_steady_load_commits_with_four_batches_in_flight(uint64_t off);         /* G10 */
bool entries_of_a_deposed_leader_are_taken_back(uint64_t off);                /* G12 */
bool a_shorter_peer_is_repaired(uint64_t off);                                /* G14 */
bool late_entries_from_the_beginning_are_harmless(uint64_t off);              /* G15 */
bool late_entries_that_begin_below_the_trimmed_log_are_taken(uint64_t off);   /* G15 */
bool memory_is_trimmed_though_nothing_is_durable(uint64_t off);               /* T1 */
bool a_slow_follower_that_answers_needs_no_image(uint64_t off);               /* T2 */
bool a_base_has_the_configuration_of_its_index(uint64_t off);                 /* T4 */
bool a_late_checkpoint_moves_no_base_back(uint64_t off);                      /* T6 */

/* guard_vote.c: terms, votes, campaigns. */
bool a_vote_is_durable_before_it_leaves(uint64_t off);                    /* FENCE */
bool a_stalled_disk_wins_no_election_without_its_log(uint64_t off);       /* G6 */
bool a_transferee_gets_no_second_vote(uint64_t off);                      /* G7 */
bool a_replica_that_lost_synced_entries_does_not_vote(uint64_t off);      /* G11 */
bool a_suspect_helps_no_leader_that_it_may_have_left(uint64_t off);       /* G11 */
bool a_suspect_gives_no_vote_that_it_may_have_given(uint64_t off);        /* G11 */
bool a_suspect_confirms_no_leader_that_it_may_have_left(uint64_t off);    /* G11 */
bool an_index_and_term_name_one_entry_of_a_sole_voter(uint64_t off);      /* G13 */
bool a_promoted_standby_that_does_not_know_it_votes(uint64_t off);        /* G16 */
bool a_refused_pre_vote_tells_the_term(uint64_t off);                     /* G17 */
bool a_standby_with_a_longer_log_does_not_block_elections(uint64_t off);  /* G18 */
bool a_suspect_waits_for_who_may_be_a_member(uint64_t off);               /* G19 */
bool a_suspect_counts_no_members_of_before(uint64_t off);                 /* G19 */
bool a_survivor_campaigns_at_once(uint64_t off);                          /* SUCCESSOR */
bool a_refused_survivor_asks_again_before_the_next_in_rank(uint64_t off); /* SUCCESSOR */
bool a_deposed_leader_campaigns_at_once(uint64_t off);                    /* SUCCESSOR */
bool a_leader_that_asks_for_votes_leads_no_more(uint64_t off);            /* SUCCESSOR */

/* guard_member.c: changes of members. */
bool members_wait_for_the_barrier_of_the_leader(uint64_t off);               /* M1 */
bool no_newcomer_is_promoted_before_all_are_level(uint64_t off);             /* M3 */
bool what_was_acknowledged_before_a_promotion_does_not_commit(uint64_t off); /* M4 */
bool a_change_leaves_a_quorum_that_answers(uint64_t off);                    /* M5 */
bool a_change_that_was_rolled_back_is_made_again(uint64_t off);              /* M2 */
bool a_replica_does_not_answer_for_another_one(uint64_t off);                /* M6 */
bool a_voter_goes_without_becoming_a_standby(uint64_t off);                  /* M7 */
bool a_dead_member_goes_before_a_new_one_comes(uint64_t off);                /* M8 */
bool a_leader_that_is_to_go_hands_over_first(uint64_t off);                  /* M10 */
bool who_is_handed_the_leadership_has_everything(uint64_t off);              /* M11 */
bool entry_1_is_the_same_in_whatever_order_members_are_named(uint64_t off);  /* M12 */

/* guard_image.c: catch-up. */
bool an_offer_names_the_state_of_its_image(uint64_t off);             /* T3 */
bool an_image_reaches_to_the_log_in_memory(uint64_t off);             /* C1 */
bool a_failed_catch_up_is_offered_again_soon(uint64_t off);           /* C2 */
bool an_image_never_replaces_a_log_that_contains_it(uint64_t off);    /* C3 */
bool a_replica_that_fetches_an_image_votes(uint64_t off);             /* C4 */
bool what_came_while_the_image_did_is_kept(uint64_t off);             /* C5 */
bool a_crash_in_front_of_a_switch_costs_nothing(uint64_t off);        /* C6 */
bool who_has_an_image_tells_its_leader(uint64_t off);                 /* C7 */
bool an_abandoned_pull_makes_room_for_the_next(uint64_t off);         /* C8 */
bool a_new_leaders_image_replaces_the_old_ones_at_once(uint64_t off); /* C8 */
bool a_crash_in_the_middle_of_a_switch_is_healed(uint64_t off);       /* T5 */

struct guard_check {
    enum host_guard guard;
    puppet_schedule schedule;
    uint64_t others_off; /* Guards that hide what this one does. */
    bool may_die;        /* Without it memory is corrupted. */
};
extern const struct guard_check guard_checks[];
extern const size_t guard_checks_count;
#endif
