/* Clocks in the scenario `clocks`: each node has a wall clock of its own, which faults set wrong,
 * and stamps as production does (broker/log_time.h, cluster/js_clock.c). What is true is known
 * here: TRUE_NS when the run begins, and virtual time from there.
 *
 *   STAMP  a stamp is behind only while the leader does not know the agreed clock, or doubts it, or
 *          it is itself behind; and never ahead
 *   BACK   stamps never go back
 *   EARLY  nothing is removed before its age, by true time, unless it is excused: stamped by an
 *          agreed clock that was behind
 *   LATE   when the clocks agree, nothing lives longer than its age and two seconds */
#include "tests/sim/sim_internal.h"

#define TRUE_NS 1700000000000000000ll
#define LOOK_US (100 * MS)
#define NEAR_NS 1000000000ll /* What counts as right. */
#define LATE_US (3 * SECOND) /* Two, and a second for what is on its way. */
#define STAND_US (60 * SECOND)
#define WRONG_US (10 * SECOND) /* So long a stamp by a wrong clock may be on its way. */

typedef unsigned long long ull;

bool sim_time_is_on(const struct sim_run *run)
{
    return run->plan->scenario == SIM_CLOCKS;
}

int64_t sim_time_birth_ns(const struct sim_run *run)
{
    return sim_time_is_on(run) ? TRUE_NS : 1;
}

static int64_t true_ns(const struct sim_run *run)
{
    return TRUE_NS + run->clock.now_us * 1000;
}

static int64_t wall_ns(const struct sim_node *n)
{
    return true_ns(n->run) + n->time.wall_off_ns;
}

static int64_t mono_ns(const struct sim_node *n)
{
    return sim_node_now_ns(n);
}

static int64_t clock_ns(struct sim_node *n)
{
    return node_clock_read(&n->time.clock, wall_ns(n), mono_ns(n));
}

/* ---- A node ---- */

void sim_time_start(struct sim_node *n)
{
    n->time = (struct sim_time){.wall_off_ns = n->time.wall_off_ns};
    node_clock_start(&n->time.clock, wall_ns(n), mono_ns(n));
}

static void look(struct sim_node *n)
{
    struct agreed_view v = {.mono_ns = mono_ns(n),
                            .own_ns = clock_ns(n),
                            .wall_ns = wall_ns(n),
                            .nodes_count = n->run->plan->nodes_count};
    for (unsigned i = 0; i < n->run->plan->nodes_count; i++) {
        int64_t base_ns;
        if (n->time.is_up[i] && heard_clock_base(&n->time.heard[i], &base_ns)) {
            v.clocks[v.clocks_count++] = (struct agreed_clock_of){base_ns, n->time.is_sure[i]};
        }
    }
    agreed_time_look(&n->time.agreed, &v);
    if (n->time.agreed.is_step_due) {
        node_clock_start(&n->time.clock, wall_ns(n), mono_ns(n));
        sim_note(&n->run->clock, "node %u sets its clock", n->number);
    }
}

/* A node whose clock is wrong leads nothing for long. */
static void hand_over(struct sim_node *n)
{
    for (unsigned g = 0; g < n->run->plan->groups_count; g++) {
        struct sim_replica *r = &n->replicas[g];
        for (unsigned i = 0; r->lead.is_led && i < n->run->plan->nodes_count; i++) {
            if (n->time.is_up[i] && group_move_leader(r->g, i + 1) == 0) {
                break;
            }
        }
    }
}

bool sim_time_tick(struct sim_node *n)
{
    if (n->time.looked_us != 0 && n->run->clock.now_us - n->time.looked_us < LOOK_US) {
        return false;
    }
    n->time.looked_us = n->run->clock.now_us;
    look(n);
    if (n->time.agreed.is_skewed) {
        hand_over(n);
    }
    return true;
}

void sim_time_say(struct sim_node *n, struct buf *b)
{
    buf_append_u64(b, (uint64_t)clock_ns(n));
    buf_append_u8(b, n->time.agreed.is_sure);
}

void sim_time_heard(struct sim_node *n, unsigned from, struct reader *in)
{
    int64_t ns = (int64_t)reader_u64(in);
    n->time.is_sure[from] = reader_u8(in) != 0;
    heard_clock_add(&n->time.heard[from], ns, mono_ns(n));
}

void sim_time_peer(struct sim_node *n, unsigned peer, bool is_up)
{
    n->time.is_up[peer] = is_up;
    n->time.heard[peer] = (struct heard_clock){0};
    n->time.is_sure[peer] = false;
}

/* ---- A stream ---- */

void sim_time_loaded(struct sim_replica *r)
{
    if (!r->is_stream || r->stream == NULL) { /* What is live is not known yet. */
        return;
    }
    log_time_start(&r->time, stream_time_ns(r->stream), mono_ns(r->node));
}

void sim_time_applied(struct sim_replica *r)
{
    if (!r->is_stream) {
        return;
    }
    log_time_applied(&r->time, stream_time_ns(r->stream), &r->node->time.agreed, mono_ns(r->node));
}

void sim_time_lead(struct sim_replica *r)
{
    r->lead.is_unsure_pending = true;
    entry_time_unsure(&r->lead.batch, 0);
}

void sim_time_lead_applied(struct sim_replica *r)
{
    r->lead.is_unsure_pending = r->lead.is_unsure_pending && !r->effects.is_unsure_told;
    r->lead.is_sure_pending = r->lead.is_sure_pending && !r->effects.is_sure_told;
}

void sim_time_leads(struct sim_replica *r)
{
    struct sim_lead *l = &r->lead;
    int64_t ns;
    int64_t told_ns;
    bool is_unsure = stream_is_unsure(r->stream, &told_ns);
    if (l->is_unsure_pending || l->is_sure_pending) {
        return;
    }
    enum log_time_news news =
        log_time_news(&r->time, &r->node->time.agreed, mono_ns(r->node), is_unsure, told_ns, &ns);
    if (news == LOG_TIME_NO_NEWS) {
        return;
    }
    sim_note(&r->node->run->clock, "node %u group %u is %s, by %lld ms", r->node->number, r->group,
             news == LOG_TIME_SURE ? "sure" : "unsure", (long long)(ns / 1000000));
    if (news == LOG_TIME_UNSURE) {
        l->is_unsure_pending = true;
        entry_time_unsure(&l->batch, ns);
    } else {
        l->is_sure_pending = true;
        entry_time_sure(&l->batch, ns);
    }
}

int64_t sim_time_now(struct sim_replica *r)
{
    int64_t lag_ns;
    if (r->lead.is_unsure_pending || stream_is_unsure(r->stream, &lag_ns)) {
        return log_time_run_on(&r->time, &r->node->time.agreed, mono_ns(r->node));
    }
    return log_time_now(&r->time, &r->node->time.agreed, mono_ns(r->node));
}

int64_t sim_time_stamp(struct sim_replica *r)
{
    struct sim_run *run = r->node->run;
    const struct agreed_time *a = &r->node->time.agreed;
    int64_t mono = mono_ns(r->node);
    int64_t ns = sim_time_now(r);
    int64_t off_ns = ns - true_ns(run);
    int64_t agreed_off_ns = a->is_known ? a->base_ns + mono - true_ns(run) : 0;
    int64_t lag_ns;
    bool may_lag = !a->is_known || agreed_off_ns < -NEAR_NS || r->lead.is_unsure_pending ||
                   stream_is_unsure(r->stream, &lag_ns) || log_time_doubt(&r->time, a, mono) > 0;
    if (off_ns < -NEAR_NS && agreed_off_ns < -NEAR_NS) {
        run->histories[r->group].wrong_us = run->clock.now_us;
    }
    if (off_ns > NEAR_NS || (off_ns < -NEAR_NS && !may_lag)) {
        sim_fail(run, "STAMP",
                 "node %u group %u stamps %lld ms off, where the agreed clock is %lld",
                 r->node->number, r->group, (long long)(off_ns / 1000000),
                 (long long)(agreed_off_ns / 1000000));
    }
    return ns;
}

/* ---- What is stored, and what is removed ---- */

static int64_t age_us(const struct sim_replica *r)
{
    return stream_get_config(r->stream)->max_age_ns / 1000;
}

void sim_time_stored(struct sim_replica *r, uint64_t seq)
{
    struct sim_run *run = r->node->run;
    struct sim_history *h = &run->histories[r->group];
    struct sim_stored *s = &h->stored[seq];
    bool is_behind = s->time_ns < TRUE_NS + h->contents[s->uid].published_us * 1000 - NEAR_NS;
    bool is_wrong = h->wrong_us != 0 && run->clock.now_us - h->wrong_us < WRONG_US;
    s->true_us = run->clock.now_us;
    s->is_excused = is_behind && is_wrong;
    run->result->stats.behind += is_behind;
    run->result->stats.excused += s->is_excused;
    if (seq > 1 && s->time_ns < h->stored[seq - 1].time_ns) {
        sim_fail(run, "BACK", "group %u: sequence %llu has an older stamp than the one before it",
                 r->group, (ull)seq);
    }
}

static void check_early(struct sim_replica *r, uint64_t seq)
{
    struct sim_run *run = r->node->run;
    struct sim_history *h = &run->histories[r->group];
    struct sim_stored *s = &h->stored[seq];
    int64_t lived_us = run->clock.now_us - h->contents[s->uid].published_us;
    if (s->is_gone) {
        return;
    }
    s->is_gone = true;
    run->result->stats.expired++;
    if (lived_us < age_us(r) - NEAR_NS / 1000 && !s->is_excused) {
        sim_fail(run, "EARLY", "group %u: sequence %llu is removed after %lld of %lld ms", r->group,
                 (ull)seq, (long long)(lived_us / MS), (long long)(age_us(r) / MS));
    }
}

void sim_time_removed(struct sim_replica *r)
{
    const struct sim_history *h = &r->node->run->histories[r->group];
    for (size_t i = 0; i < r->effects.removes_count; i++) {
        const struct effect_remove *e = &r->effects.removes[i];
        for (uint64_t seq = e->first_seq; seq <= e->last_seq && seq <= h->last_seq; seq++) {
            check_early(r, seq);
        }
    }
}

int64_t sim_time_settled_us(const struct sim_run *run)
{
    return run->plan->faults_us + 20 * SECOND + STAND_US;
}

void sim_time_look(struct sim_run *run)
{
    if (run->clock.now_us < sim_time_settled_us(run)) {
        return;
    }
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        int leader = sim_leader(run, g);
        const struct sim_replica *r = leader < 0 ? NULL : &run->nodes[leader].replicas[g];
        if (r == NULL || !r->is_stream || !r->lead.is_led || age_us(r) == 0) {
            continue;
        }
        uint64_t seq = stream_first_seq(r->stream);
        const struct sim_history *h = &run->histories[g];
        if (seq == 0 || seq > h->last_seq || seq > stream_last_seq(r->stream)) {
            continue;
        }
        int64_t lived_us = run->clock.now_us - h->stored[seq].true_us;
        if (lived_us > age_us(r) + age_us(r) / 1000 + LATE_US) {
            sim_fail(run, "LATE", "group %u: sequence %llu is there after %lld of %lld ms", g,
                     (ull)seq, (long long)(lived_us / MS), (long long)(age_us(r) / MS));
        }
    }
}

/* ---- Faults ---- */

void sim_time_set_wall(struct sim_node *n, unsigned which)
{
    static const int64_t offs_ms[SIM_CLOCK_OFFS] = {
        0,        900,     -900,     1100,     -1100,     20000,        -20000,       1800000,
        -1800000, 3660000, -3660000, 86400000, -86400000, 315360000000, -315360000000};
    n->time.wall_off_ns = offs_ms[which % SIM_CLOCK_OFFS] * 1000000;
}
