#include "tests/unit/guard_schedules.h"

static struct puppet p; /* One schedule per process. */

/* Node 1 leads, and has trimmed what node 3, which was away, needs. */
static void leave_3_behind(uint64_t off)
{
    struct host_options o = {.guards_off = off, .log_entries_max = 16};
    puppet_open_with(&p, 7, 0, &o);
    puppet_lead(&p, 2);
    uint64_t term = puppet_status(&p).role.term;
    p.base = p.applied; /* A checkpoint of long ago. */
    for (unsigned i = 0; i < 103; i++) {
        must(puppet_propose(&p, "x") == 0);
        puppet_result(&p, 2, term, 0, puppet_status(&p).last_index);
    }
    must(puppet_status(&p).log_first_index > 20);
}

/* Node 3 refuses what it gets, until the store is asked for an image. */
static void ask_for_an_image(void)
{
    uint64_t term = puppet_status(&p).role.term;
    for (unsigned i = 0; p.images_opened == 0; i++) {
        must(i < 80);
        puppet_run(&p, 100);
        puppet_result(&p, 2, term, 0, puppet_status(&p).last_index);
        const struct frame_item *e = puppet_heard(&p, FRAME_ENTRIES, 3);
        uint64_t rejected = e == NULL ? 0 : e->index;
        if (rejected != 0) {
            puppet_result(&p, 3, term, rejected, 1);
        }
    }
}

/* More is applied while the store makes the image. Under the name of what the core wanted the
 * follower would apply that a second time. */
bool an_offer_names_the_state_of_its_image(uint64_t off)
{
    leave_3_behind(off);
    p.is_image_held = true;
    ask_for_an_image();
    uint64_t term = puppet_status(&p).role.term, before = p.applied.index;
    for (unsigned i = 0; i < 5; i++) {
        must(puppet_propose(&p, "more") == 0);
        puppet_result(&p, 2, term, 0, puppet_status(&p).last_index);
    }
    must(p.applied.index == before + 5);
    puppet_open_image(&p);
    const struct frame_item *f = puppet_heard(&p, FRAME_OFFER, 3);
    must(f != NULL && f->index >= before);
    return f->index == before + 5 && f->index_term == term;
}

/* With an older one the follower would still lack what was trimmed, and be offered it again. */
bool an_image_reaches_to_the_log_in_memory(uint64_t off)
{
    leave_3_behind(off);
    must(p.base.index > 0 && p.base.index < 10);
    ask_for_an_image();
    const struct frame_item *f = puppet_heard(&p, FRAME_OFFER, 3);
    must(f != NULL);
    return f->index + 1 >= puppet_status(&p).log_first_index;
}

/* Node 3 refuses what it gets; the offer fails there. */
bool a_failed_catch_up_is_offered_again_soon(uint64_t off)
{
    leave_3_behind(off);
    uint64_t term = puppet_status(&p).role.term;
    unsigned offers = 0;
    for (unsigned i = 0; i < 80 && offers < 2; i++) {
        puppet_run(&p, 100);
        puppet_result(&p, 2, term, 0, puppet_status(&p).last_index);
        const struct frame_item *e = puppet_heard(&p, FRAME_ENTRIES, 3);
        const struct frame_item *f = puppet_heard(&p, FRAME_OFFER, 3);
        uint64_t rejected = e == NULL ? 0 : e->index, offer = f == NULL ? 0 : f->seq;
        puppet_forget(&p);
        if (rejected != 0) {
            puppet_result(&p, 3, term, rejected, 1);
        }
        if (offer != 0) {
            offers++;
            struct frame_item done = {.kind = FRAME_DONE, .seq = offer, .flags = 1};
            puppet_say(&p, 3, &done);
            puppet_settle(&p);
        }
    }
    must(offers > 0);
    return offers == 2;
}

bool an_image_never_replaces_a_log_that_contains_it(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 3, 5, "x");
    must(puppet_heard(&p, FRAME_RESULT, 2)->last_index == 6); /* Acknowledged. */
    puppet_commands(&p, 3, 3, 3, 2, 3, 0, "");
    puppet_forget(&p);
    puppet_offer(&p, 3, 3, 7, 5, 2);
    puppet_serve(&p, 3, 7);
    const struct frame_item *r = puppet_heard(&p, FRAME_RESULT, 3);
    must(r != NULL && r->index == 0 && r->last_index == 5);
    must(puppet_heard(&p, FRAME_DONE, 3) != NULL);
    return puppet_status(&p).last_index == 6;
}

/* Node 1 fetches an image of index 20, which node 2 offers. */
static void begin_to_fetch(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 0, 0, 0, 0, "");
    puppet_offer(&p, 2, 2, 7, 20, 2);
    must(puppet_heard(&p, FRAME_PULL, 2) != NULL);
}

/* Node 2 dies: without this vote there is no leader before the image is here. */
bool a_replica_that_fetches_an_image_votes(uint64_t off)
{
    begin_to_fetch(off);
    puppet_vote(&p, 3, 3, 25, 2, PUPPET_DISRUPT);
    const struct frame_item *r = puppet_heard(&p, FRAME_VOTE_RESULT, 3);
    return r != NULL && r->term == 3 && (r->flags & FRAME_RESULT_GRANTED) != 0;
}

/* The leader had the entries after all: this replica acknowledged more than is in the image. */
bool what_came_while_the_image_did_is_kept(uint64_t off)
{
    begin_to_fetch(off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 24, "x");
    must(puppet_heard(&p, FRAME_RESULT, 2)->last_index == 25);
    puppet_serve(&p, 2, 7);
    const struct frame_item *done = puppet_heard(&p, FRAME_DONE, 2);
    must(done != NULL && done->flags == 0);
    return puppet_status(&p).last_index == 25 && p.switched == 0;
}

/* All of the image is here; the power goes before the store has switched to it. */
bool a_crash_in_front_of_a_switch_costs_nothing(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 3, "kept");
    puppet_commands(&p, 3, 3, 1, 1, 1, 0, "");
    p.is_stage_held = p.is_switch_late = true;
    puppet_offer(&p, 3, 3, 7, 10, 3);
    puppet_serve(&p, 3, 7);
    must(p.stage_job != NULL && p.base.index == 0);
    puppet_crash(&p);
    p.is_stage_held = p.is_switch_late = false;
    if (puppet_restart(&p) != 0) {
        return false;
    }
    struct group_status s = puppet_status(&p);
    if (s.last_index != 4 || s.last_term != 2 || s.state != GROUP_ACTIVE) {
        return false;
    }
    puppet_commands(&p, 3, 3, 1, 1, 1, 0, "");
    puppet_offer(&p, 3, 3, 8, 10, 3);
    puppet_serve(&p, 3, 8);
    return puppet_status(&p).last_index == 10;
}

/* Until it does, the leader's core sends it nothing, up to install_timeout_ms. */
bool who_has_an_image_tells_its_leader(uint64_t off)
{
    begin_to_fetch(off);
    puppet_serve(&p, 2, 7);
    const struct frame_item *done = puppet_heard(&p, FRAME_DONE, 2);
    const struct frame_item *r = puppet_heard(&p, FRAME_RESULT, 2);
    must(done != NULL && done->flags == 0 && puppet_status(&p).last_index == 20);
    return r != NULL && r->term == 2 && r->index == 0 && r->last_index == 20;
}

bool an_abandoned_pull_makes_room_for_the_next(uint64_t off)
{
    begin_to_fetch(off);
    puppet_run(&p, 4000); /* Node 2 is silent. */
    puppet_commands(&p, 3, 3, 0, 0, 0, 0, "");
    puppet_offer(&p, 3, 3, 9, 25, 3);
    if (puppet_heard(&p, FRAME_PULL, 3) == NULL) {
        return false;
    }
    puppet_serve(&p, 3, 9);
    return puppet_status(&p).last_index == 25;
}

/* The follower would fetch from the dead for PULL_SILENCE_MS, and the new leader's offer wait for
 * OFFER_SILENCE_MS, in which a group of three with one node down commits nothing. */
bool a_new_leaders_image_replaces_the_old_ones_at_once(uint64_t off)
{
    begin_to_fetch(off);
    puppet_commands(&p, 3, 3, 0, 0, 0, 0, "");
    puppet_offer(&p, 3, 3, 9, 25, 3);
    if (puppet_heard(&p, FRAME_PULL, 3) == NULL) {
        return false;
    }
    puppet_serve(&p, 3, 9);
    return puppet_status(&p).last_index == 25;
}

/* The store has switched, the WAL has not heard of it. */
bool a_crash_in_the_middle_of_a_switch_is_healed(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 1, 1, 1, 3, "dead end");
    puppet_commands(&p, 3, 3, 1, 1, 1, 0, "");
    p.is_stage_held = true;
    puppet_offer(&p, 3, 3, 7, 10, 3);
    puppet_serve(&p, 3, 7);
    must(p.stage_job != NULL && p.base.index == 10);
    puppet_crash(&p);
    p.is_stage_held = false;
    if (puppet_restart(&p) != 0) {
        return false;
    }
    struct group_status s = puppet_status(&p);
    if (s.last_index != 10 || s.last_term != 3) {
        return false;
    }
    puppet_commands(&p, 3, 3, 10, 3, 11, 1, "next");
    return puppet_applied(&p, 11, 3, "next");
}
