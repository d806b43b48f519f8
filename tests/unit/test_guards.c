/* Each guard, with and without it: the property holds, and it does not. A guard of HOST_GUARD_MAP
 * without a schedule here fails. tests/sim/README.md has the table. */
#include <criterion/criterion.h>

#include "tests/unit/guard_schedules.h"

struct guard_check {
    enum host_guard guard;
    puppet_schedule schedule;
    uint64_t others_off; /* Guards that hide what this one does. */
    bool may_die;        /* Without it memory is corrupted. */
};

static const struct guard_check checks[] = {
    {HOST_GUARD_FENCE, a_vote_is_durable_before_it_leaves, 0, false},
    {HOST_GUARD_G1, an_entry_of_an_old_term_is_not_committed_by_counting, 0, false},
    {HOST_GUARD_G2, an_ack_never_exceeds_what_was_checked, 0, false},
    {HOST_GUARD_G2B, a_deposed_leader_gets_no_acceptance, 0, false},
    {HOST_GUARD_G3, only_what_was_checked_is_applied, 0, false},
    {HOST_GUARD_G4, a_hand_over_waits_for_appends_in_flight, 0, false},
    {HOST_GUARD_G5, an_append_of_an_older_term_is_not_acked_to_the_new_leader,
     GUARD_BIT(G4) | GUARD_BIT(G2), false},
    {HOST_GUARD_G6, a_stalled_disk_wins_no_election_without_its_log, 0, false},
    {HOST_GUARD_G7, a_transferee_gets_no_second_vote, 0, false},
    {HOST_GUARD_G8, a_long_old_tail_is_found_in_a_few_rounds, 0, false},
    {HOST_GUARD_G8B, a_member_that_was_away_gets_what_it_lacks, 0, false},
    {HOST_GUARD_G8B, a_member_that_was_away_needs_no_image, 0, false},
    {HOST_GUARD_G9, a_cut_configuration_is_not_in_force, 0, false},
    {HOST_GUARD_G10, a_steady_load_commits, 0, false},
    {HOST_GUARD_G10, a_steady_load_commits_with_four_batches_in_flight, 0, false},
    {HOST_GUARD_G11, a_replica_that_lost_synced_entries_does_not_vote, 0, false},
    {HOST_GUARD_G11, a_suspect_helps_no_leader_that_it_may_have_left, 0, false},
    {HOST_GUARD_G11, a_suspect_gives_no_vote_that_it_may_have_given, 0, false},
    {HOST_GUARD_G11, a_suspect_confirms_no_leader_that_it_may_have_left, 0, false},
    {HOST_GUARD_G12, entries_of_a_deposed_leader_are_taken_back, 0, false},
    {HOST_GUARD_G13, an_index_and_term_name_one_entry_of_a_sole_voter, 0, false},
    {HOST_GUARD_G14, a_shorter_peer_is_repaired, 0, false},
    {HOST_GUARD_G15, late_entries_from_the_beginning_are_harmless, 0, true},
    {HOST_GUARD_G15, late_entries_that_begin_below_the_trimmed_log_are_taken, 0, false},
    {HOST_GUARD_G16, a_promoted_standby_that_does_not_know_it_votes, 0, false},
    {HOST_GUARD_G17, a_refused_pre_vote_tells_the_term, 0, false},
    {HOST_GUARD_G18, a_standby_with_a_longer_log_does_not_block_elections, 0, false},
    {HOST_GUARD_G19, a_suspect_waits_for_who_may_be_a_member, 0, false},
    {HOST_GUARD_G19, a_suspect_counts_no_members_of_before, 0, false},
    {HOST_GUARD_T1, memory_is_trimmed_though_nothing_is_durable, 0, false},
    {HOST_GUARD_T2, a_slow_follower_that_answers_needs_no_image, 0, false},
    {HOST_GUARD_T3, an_offer_names_the_state_of_its_image, 0, false},
    {HOST_GUARD_T4, a_base_has_the_configuration_of_its_index, 0, false},
    {HOST_GUARD_T5, a_crash_in_the_middle_of_a_switch_is_healed, 0, false},
    {HOST_GUARD_T6, a_late_checkpoint_moves_no_base_back, 0, false},
    {HOST_GUARD_C1, an_image_reaches_to_the_log_in_memory, 0, false},
    {HOST_GUARD_C2, a_failed_catch_up_is_offered_again_soon, 0, false},
    {HOST_GUARD_C3, an_image_never_replaces_a_log_that_contains_it, 0, false},
    {HOST_GUARD_C4, a_replica_that_fetches_an_image_votes, 0, false},
    {HOST_GUARD_C5, what_came_while_the_image_did_is_kept, 0, false},
    {HOST_GUARD_C6, a_crash_in_front_of_a_switch_costs_nothing, 0, false},
    {HOST_GUARD_C7, who_has_an_image_tells_its_leader, 0, false},
    {HOST_GUARD_C8, an_abandoned_pull_makes_room_for_the_next, 0, false},
    {HOST_GUARD_C8, a_new_leaders_image_replaces_the_old_ones_at_once, 0, false},
    {HOST_GUARD_SUCCESSOR, a_survivor_campaigns_at_once, 0, false},
    {HOST_GUARD_SUCCESSOR, a_refused_survivor_asks_again_before_the_next_in_rank, 0, false},
    {HOST_GUARD_SUCCESSOR, a_deposed_leader_campaigns_at_once, 0, false},
    {HOST_GUARD_SUCCESSOR, a_leader_that_asks_for_votes_leads_no_more, 0, false},
    {HOST_GUARD_M1, members_wait_for_the_barrier_of_the_leader, 0, false},
    {HOST_GUARD_M3, no_newcomer_is_promoted_before_all_are_level, 0, false},
    {HOST_GUARD_M4, what_was_acknowledged_before_a_promotion_does_not_commit, 0, false},
    {HOST_GUARD_M5, a_change_leaves_a_quorum_that_answers, 0, false},
    {HOST_GUARD_M2, a_change_that_was_rolled_back_is_made_again, 0, false},
    {HOST_GUARD_M6, a_replica_does_not_answer_for_another_one, 0, false},
    {HOST_GUARD_M7, a_voter_goes_without_becoming_a_standby, 0, false},
    {HOST_GUARD_M8, a_dead_member_goes_before_a_new_one_comes, 0, false},
    {HOST_GUARD_M10, a_leader_that_is_to_go_hands_over_first, 0, false},
    {HOST_GUARD_M11, who_is_handed_the_leadership_has_everything, 0, false},
    {HOST_GUARD_M12, entry_1_is_the_same_in_whatever_order_members_are_named, 0, false},
};

static void check_guard(enum host_guard guard)
{
    unsigned n = 0;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        const struct guard_check *c = &checks[i];
        if (c->guard != guard) {
            continue;
        }
        n++;
        enum puppet_outcome with = puppet_play(c->schedule, c->others_off);
        enum puppet_outcome without =
            puppet_play(c->schedule, c->others_off | UINT64_C(1) << guard);
        cr_expect_eq(with, PUPPET_HOLDS, "schedule %zu: with the guard: %d", i, (int)with);
        cr_expect(without == PUPPET_BROKEN || (c->may_die && without == PUPPET_DIED),
                  "schedule %zu: without the guard: %d", i, (int)without);
    }
    cr_expect_gt(n, 0, "no schedule");
}

/* guards/G1, guards/G2 … */
#define GUARD_TEST(name)                                                                           \
    Test(guards, name)                                                                             \
    {                                                                                              \
        check_guard(HOST_GUARD_##name);                                                            \
    }
HOST_GUARD_MAP(GUARD_TEST)
