#include "tests/unit/guard_schedules.h"

static struct puppet p; /* One schedule per process. */

/* Node 3 was away while the log was trimmed. It refuses what it gets; the offer fails there. */
bool a_failed_catch_up_is_offered_again_soon(uint64_t off)
{
    struct host_options o = {.guards_off = off, .log_entries_max = 16};
    puppet_open_with(&p, 7, 0, &o);
    puppet_lead(&p, 2);
    uint64_t term = puppet_status(&p).role.term;
    for (unsigned i = 0; i < 103; i++) {
        must(puppet_propose(&p, "x") == 0);
        puppet_result(&p, 2, term, 0, puppet_status(&p).last_index);
    }
    must(puppet_status(&p).log_first_index > 20);
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

bool an_abandoned_pull_makes_room_for_the_next(uint64_t off)
{
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 0, 0, 0, 0, "");
    puppet_offer(&p, 2, 2, 7, 20, 2);
    must(puppet_heard(&p, FRAME_PULL, 2) != NULL);
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
    puppet_open(&p, 7, 0, off);
    puppet_commands(&p, 2, 2, 0, 0, 0, 0, "");
    puppet_offer(&p, 2, 2, 7, 20, 2);
    must(puppet_heard(&p, FRAME_PULL, 2) != NULL);
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
