/* The simulator's own parts: if these lie, so do all its findings. */
#include <criterion/criterion.h>

#include "storage/base/buf.h"
#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_log.h"
#include "tests/sim/sim_machine.h"
#include "tests/sim/sim_net.h"
#include "tests/sim/sim_oracle.h"
#include "tests/sim/sim_plan_file.h"
#include "tests/sim/sim_shrink.h"

struct order {
    uint64_t seen[8];
    unsigned count;
};

static void note_event(void *arg, uint64_t a, uint64_t b)
{
    struct order *o = arg;
    (void)b;
    o->seen[o->count++] = a;
}

Test(sim_clock, events_fire_by_time_and_then_in_the_order_they_were_made)
{
    struct sim_clock c;
    struct order o = {0};
    sim_clock_init(&c);
    sim_clock_at(&c, 20, note_event, &o, 3, 0);
    sim_clock_at(&c, 10, note_event, &o, 1, 0);
    sim_clock_at(&c, 20, note_event, &o, 4, 0);
    sim_clock_at(&c, 10, note_event, &o, 2, 0);
    while (sim_clock_step(&c)) {
    }
    cr_assert_eq(o.count, 4);
    for (unsigned i = 0; i < 4; i++) {
        cr_expect_eq(o.seen[i], i + 1);
    }
    cr_expect_eq(c.now_us, 20);
    sim_clock_close(&c);
}

Test(sim_plan, one_seed_is_one_plan)
{
    static struct sim_plan x;
    static struct sim_plan y;
    sim_plan_draw(&x, 7, -1);
    sim_plan_draw(&y, 7, -1);
    cr_expect_eq(memcmp(&x, &y, sizeof x), 0);
    sim_plan_draw(&y, 8, -1);
    cr_expect_neq(memcmp(&x, &y, sizeof x), 0);
}

Test(sim_plan, a_plan_is_what_was_written_of_it)
{
    static struct sim_plan plan, again;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        FILE *f = tmpfile();
        sim_plan_draw(&plan, seed, -1);
        sim_plan_write(&plan, f);
        rewind(f);
        cr_assert_eq(sim_plan_read(f, &again), 0);
        fclose(f);
        cr_assert_eq(plan.faults_count, again.faults_count);
        memset(plan.faults + plan.faults_count, 0,
               (SIM_FAULTS_MAX - plan.faults_count) * sizeof plan.faults[0]);
        memset(again.faults + again.faults_count, 0,
               (SIM_FAULTS_MAX - again.faults_count) * sizeof again.faults[0]);
        for (unsigned i = 0; i < plan.faults_count; i++) {
            cr_assert_eq(memcmp(&plan.faults[i], &again.faults[i], sizeof plan.faults[i]), 0);
        }
        cr_assert_eq(memcmp(&plan, &again, offsetof(struct sim_plan, faults)), 0);
    }
}

Test(sim_plan, a_line_that_makes_no_sense_is_named)
{
    static struct sim_plan plan;
    static const char *const texts[] = {"seed 1\nnodes 3\n", "seed 1\nfault 1 CRASH 0\n",
                                        "seed 1\nscenario nothing\n", "seed 1\nnodes_count x\n"};
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        FILE *f = tmpfile();
        fputs(texts[i], f);
        rewind(f);
        cr_expect_eq(sim_plan_read(f, &plan), 2, "%u", i);
        fclose(f);
    }
}

/* It takes the third fault and the seventh, and two groups. */
static bool takes_two(void *ctx, const struct sim_plan *plan)
{
    const struct sim_plan *whole = ctx;
    unsigned found = 0;
    for (unsigned i = 0; i < plan->faults_count; i++) {
        found += plan->faults[i].at_us == whole->faults[2].at_us;
        found += plan->faults[i].at_us == whole->faults[6].at_us;
    }
    return found == 2 && plan->groups_count >= 2;
}

Test(sim_shrink, what_a_failure_takes_is_left)
{
    static struct sim_plan plan, whole;
    sim_plan_draw(&plan, 1, SIM_CHAOS);
    cr_assert_gt(plan.faults_count, 10);
    plan.groups_count = 4;
    whole = plan;
    unsigned tries = sim_shrink(&plan, 1000, takes_two, &whole);
    cr_expect_lt(tries, 200);
    cr_assert_eq(plan.faults_count, 2);
    cr_expect_eq(plan.faults[0].at_us, whole.faults[2].at_us);
    cr_expect_eq(plan.faults[1].at_us, whole.faults[6].at_us);
    cr_expect_eq(plan.groups_count, 2);
    cr_expect_leq(plan.faults_us, whole.faults_us);
    /* Not more runs than allowed. */
    plan = whole;
    cr_expect_eq(sim_shrink(&plan, 3, takes_two, &whole), 3);
}

/* Two nodes that only count. */
struct pair {
    uint8_t seen[64];
    unsigned seen_count;
    unsigned ups;
    unsigned downs;
    bool is_dead[2];
};

static bool pair_is_running(void *ctx, unsigned node)
{
    return !((struct pair *)ctx)->is_dead[node];
}

static bool pair_no(void *ctx, unsigned node)
{
    (void)ctx;
    (void)node;
    return false;
}

static bool pair_yes(void *ctx, unsigned node)
{
    (void)ctx;
    (void)node;
    return true;
}

static void pair_frame(void *ctx, unsigned from, unsigned to, unsigned lane, struct slice bytes)
{
    struct pair *p = ctx;
    cr_assert_eq(from, 0);
    cr_assert_eq(to, 1);
    cr_assert_eq(lane, 0);
    cr_assert_lt(p->seen_count, sizeof p->seen);
    p->seen[p->seen_count++] = bytes.ptr[0];
}

static void pair_stuck(void *ctx, unsigned node, unsigned peer, bool is_stuck)
{
    (void)ctx;
    (void)node;
    (void)peer;
    cr_assert_not(is_stuck);
}

static void pair_peer(void *ctx, unsigned node, unsigned peer, bool is_up)
{
    struct pair *p = ctx;
    (void)node;
    (void)peer;
    p->ups += is_up;
    p->downs += !is_up;
}

static struct sim_net *pair_net(struct pair *p, struct sim_clock *c)
{
    struct sim_net_options o = {.nodes_count = 2, .delay_min_us = 100, .delay_max_us = 5000};
    struct sim_net_env env = {.ctx = p,
                              .is_running = pair_is_running,
                              .is_paused = pair_no,
                              .is_healthy = pair_yes,
                              .stuck = pair_stuck,
                              .frame = pair_frame,
                              .peer = pair_peer};
    struct sim_rng rng;
    sim_rng_init(&rng, 1, 1);
    sim_clock_init(c);
    struct sim_net *net = sim_net_new(&o, c, rng, &env);
    sim_net_node_up(net, 0);
    sim_net_node_up(net, 1);
    return net;
}

static void run_until(struct sim_clock *c, int64_t until_us)
{
    while (sim_clock_next_us(c) <= until_us) {
        sim_clock_step(c);
    }
}

Test(sim_net, a_connection_keeps_the_order_and_a_cut_holds_its_frames)
{
    struct pair p = {0};
    struct sim_clock c;
    struct sim_net *net = pair_net(&p, &c);
    run_until(&c, 50 * 1000);
    cr_assert_eq(p.ups, 2);
    for (uint8_t i = 0; i < 10; i++) {
        sim_net_cut(net, 0, 1, i >= 5);
        sim_net_send(net, 0, 1, 0, slice_of(&i, 1));
    }
    run_until(&c, 300 * 1000);
    cr_expect_eq(p.seen_count, 0);
    sim_net_heal_all(net);
    run_until(&c, 500 * 1000);
    cr_assert_eq(p.seen_count, 10);
    for (uint8_t i = 0; i < 10; i++) {
        cr_expect_eq(p.seen[i], i);
    }
    cr_expect_eq(p.downs, 0);
    sim_net_free(net);
    sim_clock_close(&c);
}

Test(sim_net, a_closed_connection_is_no_news_but_a_dead_process_is)
{
    struct pair p = {0};
    struct sim_clock c;
    struct sim_net *net = pair_net(&p, &c);
    run_until(&c, 50 * 1000);
    sim_net_close_connection(net, 0, 1);
    run_until(&c, 1000 * 1000);
    cr_expect_eq(p.downs, 0);
    cr_expect_eq(p.ups, 4);
    p.is_dead[1] = true;
    sim_net_node_down(net, 1, false);
    run_until(&c, 1100 * 1000);
    cr_expect_eq(p.downs, 1);
    sim_net_free(net);
    sim_clock_close(&c);
}

Test(sim_net, a_lost_machine_is_down_after_six_silent_heartbeats)
{
    struct pair p = {0};
    struct sim_clock c;
    struct sim_net *net = pair_net(&p, &c);
    run_until(&c, 1000 * 1000);
    p.is_dead[1] = true;
    sim_net_node_down(net, 1, true);
    run_until(&c, 1400 * 1000);
    cr_expect_eq(p.downs, 0);
    run_until(&c, 1900 * 1000);
    cr_expect_eq(p.downs, 1);
    sim_net_free(net);
    sim_clock_close(&c);
}

Test(sim_machine, an_image_is_the_state_and_a_damaged_one_is_refused)
{
    struct sim_state s = {.index = 9, .term = 2, .count = 7, .hash = 77};
    struct sim_state back;
    struct buf b = BUF_EMPTY;
    sim_state_encode(&s, 100, &b);
    cr_assert_eq(sim_state_decode(buf_slice(&b), &back), 0);
    cr_expect_eq(memcmp(&s, &back, sizeof s), 0);
    b.ptr[b.len - 1] ^= 1;
    cr_expect_neq(sim_state_decode(buf_slice(&b), &back), 0);
    buf_close(&b);
}

/* A world for the oracles: three nodes, one group. */
struct world {
    struct sim_clock clock;
    struct sim_result result;
    struct sim_oracle *oracle;
};

static void world_open(struct world *w)
{
    static struct sim_plan plan;
    sim_plan_calm(&plan, 1);
    sim_clock_init(&w->clock);
    w->result = (struct sim_result){0};
    w->oracle = sim_oracle_new(&plan, &w->clock, &w->result);
}

static void world_close(struct world *w)
{
    sim_oracle_free(w->oracle);
    sim_clock_close(&w->clock);
}

static void write_entry(struct world *w, unsigned node, uint64_t lsn, uint64_t index, uint64_t term,
                        bool is_durable)
{
    struct sim_entry *e = xmalloc(sizeof *e);
    *e = (struct sim_entry){.term = term, .hash = index * 100 + term, .type = 1};
    struct sim_record r = {.kind = SIM_RECORD_ENTRIES, .lsn = lsn, .index = index};
    r.entries = e;
    r.entries_count = 1;
    sim_oracle_record(w->oracle, node, r);
    if (is_durable) {
        sim_oracle_durable(w->oracle, node, lsn);
    }
}

static void commit(struct world *w, unsigned node, uint64_t term, uint64_t index)
{
    struct sim_view v = {.term = term, .commit_index = index};
    sim_oracle_look(w->oracle, node, 0, &v);
}

Test(sim_oracle, a_commit_on_two_disks_of_three_is_fine_and_on_one_is_not)
{
    struct world w;
    world_open(&w);
    write_entry(&w, 0, 1, 1, 1, true);
    write_entry(&w, 1, 1, 1, 1, true);
    commit(&w, 0, 1, 1);
    cr_expect_not(w.result.is_failed);
    write_entry(&w, 0, 2, 2, 1, true);
    write_entry(&w, 1, 2, 2, 1, false); /* Queued only. */
    commit(&w, 0, 1, 2);
    cr_expect(w.result.is_failed);
    cr_expect_str_eq(w.result.oracle, "COMMIT");
    world_close(&w);
}

static void write_term(struct world *w, unsigned node, uint64_t term)
{
    struct sim_record r = {.kind = SIM_RECORD_VOTE, .lsn = 9, .term = term, .vote = node + 1};
    sim_oracle_record(w->oracle, node, r);
    sim_oracle_durable(w->oracle, node, 9);
}

Test(sim_oracle, two_leaders_in_a_term_are_seen_and_so_is_one_without_committed_entries)
{
    struct world w;
    world_open(&w);
    struct sim_view v = {.is_leader = true, .term = 3};
    sim_oracle_look(w.oracle, 0, 0, &v); /* Nobody can know of it yet. */
    write_term(&w, 0, 3);
    sim_oracle_look(w.oracle, 0, 0, &v);
    sim_oracle_look(w.oracle, 1, 0, &v);
    cr_expect_not(w.result.is_failed);
    write_term(&w, 1, 3);
    sim_oracle_look(w.oracle, 1, 0, &v);
    cr_expect_str_eq(w.result.oracle, "LEADERS");
    world_close(&w);

    world_open(&w);
    write_entry(&w, 0, 1, 1, 1, true);
    write_entry(&w, 1, 1, 1, 1, true);
    commit(&w, 0, 1, 1);
    write_term(&w, 2, 3);
    sim_oracle_look(w.oracle, 2, 0, &v);
    cr_expect_str_eq(w.result.oracle, "COMPLETE");
    world_close(&w);
}

Test(sim_oracle, dropping_a_committed_entry_is_seen)
{
    struct world w;
    world_open(&w);
    write_entry(&w, 0, 1, 1, 1, true);
    write_entry(&w, 1, 1, 1, 1, true);
    commit(&w, 0, 1, 1);
    struct sim_record r = {.kind = SIM_RECORD_TRUNCATE, .lsn = 2, .index = 1};
    sim_oracle_record(w.oracle, 1, r);
    cr_expect_str_eq(w.result.oracle, "DROPPED");
    world_close(&w);
}

Test(sim_oracle, what_was_durable_must_be_read_again)
{
    struct world w;
    world_open(&w);
    write_entry(&w, 0, 1, 1, 1, true);
    write_entry(&w, 1, 1, 1, 1, true);
    commit(&w, 0, 1, 1);
    sim_oracle_crash(w.oracle, 1);
    sim_oracle_replay_begin(w.oracle, 1);
    sim_oracle_replay_end(w.oracle, 1, false);
    cr_expect_str_eq(w.result.oracle, "RECOVERY");
    world_close(&w);
}
