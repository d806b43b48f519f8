/* Who replicates a group: a leader carries the configuration to what the embedder wants, one member
 * at a time (raft-guide-members 3.4, M1 to M11).
 *
 * One look picks the first of these that applies, so that any member may die at any moment and the
 * next leader goes on where this one stopped:
 *
 *   1. members that are not wanted and do not vote go
 *   2. so do voters that are not wanted and do not answer (M8): they did not vote anyway; or in
 *      whose place, on their node, another one is wanted, which cannot begin before they are gone
 *   3. who is wanted and no member is added as SPARE, then made STANDBY, and gets the log (M3)
 *   4. when all of these are level they are promoted, one after the other (M3, M4)
 *   5. voters that are not wanted go, directly, never by way of STANDBY (M7)
 *   6. a leader that is not wanted hands over, and is removed by the next one (M10)
 *
 * Whatever a callback of the core says, the configuration in the log is the truth (M2): here they
 * only free their requests. */
#include <assert.h>

#include "raft/host_internal.h"
#include "storage/base/log.h"

#define LEVEL_ENTRIES 64      /* A newcomer so little behind is level. */
#define PROMOTE_MS 400        /* So long proposals wait for the moment of a promotion. */
#define PROMOTE_AGAIN_MS 1000 /* And so long they do not, if it did not come. */
#define MOVE_AGAIN_MS 2000    /* A hand-over that came to nothing. */

enum step_kind { STEP_NONE, STEP_WAIT, STEP_ADD, STEP_ASSIGN, STEP_REMOVE, STEP_MOVE };

struct step {
    enum step_kind kind;
    struct group_member member; /* For ASSIGN with its new role. */
};

/* ---- What is wanted ---- */

int group_set_target(struct raft_group *g, const struct group_member *members, unsigned count)
{
    struct conf c = {.count = count};
    if (count > HOST_MEMBERS_MAX) {
        return ERR_INVALID;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct group_member *m = &members[i];
        for (unsigned k = 0; k < i; k++) {
            if (members[k].raft_id == m->raft_id || members[k].node_id == m->node_id) {
                return ERR_INVALID;
            }
        }
        if (m->raft_id == 0 || m->node_id == 0 || m->role == GROUP_SPARE) {
            return ERR_INVALID;
        }
        c.members[i] = *m;
    }
    if (count > 0 && conf_voters(&c) == 0) {
        return ERR_INVALID;
    }
    if (count == 0) {
        free(g->target);
        g->target = NULL;
        return 0;
    }
    if (g->target == NULL) {
        g->target = xcalloc(1, sizeof *g->target);
    }
    *g->target = c;
    g->is_target_due = true;
    host_group_busy(g);
    return 0;
}

static bool conf_now(const struct raft_group *g, struct conf *ret_conf)
{
    uint64_t at;
    return conf_decode(log_conf_as_of(g, UINT64_MAX, &at), ret_conf) == 0;
}

/* Same members in the same roles. A voter that is to be a standby stays what it is: it would need a
 * new raft id (M7). */
static bool is_reached(const struct raft_group *g, const struct conf *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        if (conf_find(g->target, c->members[i].raft_id) == NULL) {
            return false;
        }
    }
    for (unsigned i = 0; i < g->target->count; i++) {
        const struct group_member *want = &g->target->members[i];
        const struct group_member *have = conf_find(c, want->raft_id);
        if (have == NULL || (have->role != want->role && have->role != GROUP_VOTER)) {
            return false;
        }
    }
    return true;
}

bool members_is_target_reached(const struct raft_group *g)
{
    struct conf c;
    return g->target != NULL && group_is_ready(g) && g->r->configuration_uncommitted_index == 0 &&
           conf_now(g, &c) && is_reached(g, &c);
}

/* ---- Who answers ---- */

static bool has_answered(const struct raft_group *g, uint64_t raft_id, uint64_t within_ms)
{
    for (unsigned i = 0; i < g->replicas_count; i++) {
        const struct replica *rep = &g->replicas[i];
        if (rep->raft_id == raft_id) {
            return rep->heard_ms != 0 && g->host->now_ms - rep->heard_ms <= within_ms;
        }
    }
    return false;
}

static bool is_dead(const struct raft_group *g, uint64_t raft_id)
{
    uint64_t timeout_ms = g->host->opt.election_timeout_ms;
    return !has_answered(g, raft_id, timeout_ms) && g->host->now_ms - g->lead_ms > timeout_ms;
}

/* M5: a change is logged only if a quorum of the voters after it answers now, and never one after
 * which another voter is alone. An answer counts if it came after the last change, so that of a
 * member that died meanwhile no more than one change is made on its account. @role -1: removed. */
static bool may_change(const struct raft_group *g, const struct conf *c, uint64_t raft_id, int role)
{
    unsigned voters = 0, answered = 0;
    bool is_own = false;
    if (!IS_ON(g->host, M5)) {
        return true;
    }
    for (unsigned i = 0; i < c->count; i++) {
        const struct group_member *m = &c->members[i];
        int after = m->raft_id == raft_id ? role : (int)m->role;
        if (after != GROUP_VOTER) {
            continue;
        }
        voters++;
        is_own = is_own || m->raft_id == g->raft_id;
        answered += m->raft_id == g->raft_id ||
                    (has_answered(g, m->raft_id, g->host->opt.election_timeout_ms / 2) &&
                     compat_match_index(g->r, m->raft_id) >= g->r->configuration_index);
    }
    return voters > 0 && (voters > 1 || is_own) && answered >= voters / 2 + 1;
}

/* ---- The next step ---- */

static struct step step_of(enum step_kind kind, const struct group_member *m)
{
    return (struct step){kind, *m};
}

/* Two replicas of a group do not live on one node. */
static bool is_in_the_way(const struct raft_group *g, const struct group_member *m)
{
    for (unsigned i = 0; i < g->target->count; i++) {
        if (g->target->members[i].node_id == m->node_id) {
            return g->target->members[i].raft_id != m->raft_id;
        }
    }
    return false;
}

/* 1, 2 and 5: with @is_last also voters that answer. */
static struct step step_remove(const struct raft_group *g, const struct conf *c, bool is_last)
{
    for (unsigned i = 0; i < c->count; i++) {
        const struct group_member *m = &c->members[i];
        if (conf_find(g->target, m->raft_id) != NULL || m->raft_id == g->raft_id) {
            continue;
        }
        bool is_due = is_last || m->role != GROUP_VOTER || is_in_the_way(g, m) ||
                      (IS_ON(g->host, M8) && is_dead(g, m->raft_id));
        if (!is_due || !may_change(g, c, m->raft_id, -1)) {
            continue;
        }
        struct step step = step_of(STEP_REMOVE, m);
        if (m->role == GROUP_VOTER && !IS_ON(g->host, M7)) {
            step.kind = STEP_ASSIGN;
            step.member.role = GROUP_STANDBY;
        }
        return step;
    }
    return (struct step){.kind = STEP_NONE};
}

static bool is_level(const struct raft_group *g, uint64_t raft_id)
{
    uint64_t match = compat_match_index(g->r, raft_id);
    return match != 0 && match + LEVEL_ENTRIES >= compat_log_last(g->r) &&
           has_answered(g, raft_id, g->host->opt.election_timeout_ms / 2);
}

/* 3. */
static struct step step_add(const struct raft_group *g, const struct conf *c)
{
    for (unsigned i = 0; i < g->target->count; i++) {
        struct group_member m = g->target->members[i];
        const struct group_member *have = conf_find(c, m.raft_id);
        if (have == NULL && c->count < HOST_MEMBERS_MAX && may_change(g, c, m.raft_id, -1)) {
            return step_of(STEP_ADD, &m);
        }
        if (have != NULL && have->role == GROUP_SPARE && may_change(g, c, m.raft_id, -1)) {
            m.role = GROUP_STANDBY;
            return step_of(STEP_ASSIGN, &m);
        }
    }
    return (struct step){.kind = STEP_NONE};
}

/* 4. WAIT while somebody wanted as a voter is none yet. */
static struct step step_promote(const struct raft_group *g, const struct conf *c)
{
    struct step step = {.kind = STEP_NONE};
    for (unsigned i = 0; i < g->target->count; i++) {
        const struct group_member *m = &g->target->members[i];
        const struct group_member *have = conf_find(c, m->raft_id);
        if (m->role != GROUP_VOTER || (have != NULL && have->role == GROUP_VOTER)) {
            continue;
        }
        bool is_fit = have != NULL && have->role == GROUP_STANDBY && is_level(g, m->raft_id);
        if (!is_fit && IS_ON(g->host, M3)) {
            return (struct step){.kind = STEP_WAIT};
        }
        if (is_fit && step.kind != STEP_ASSIGN && may_change(g, c, m->raft_id, GROUP_VOTER)) {
            step = step_of(STEP_ASSIGN, m);
        } else if (step.kind == STEP_NONE) {
            step.kind = STEP_WAIT;
        }
    }
    return step;
}

/* 6. The best of those that stay. */
static struct step step_move(const struct raft_group *g, const struct conf *c)
{
    const struct group_member *self = conf_find(c, g->raft_id), *best = NULL;
    if (self == NULL || conf_find(g->target, g->raft_id) != NULL) {
        return (struct step){.kind = STEP_NONE};
    }
    if (!IS_ON(g->host, M10)) {
        return step_of(STEP_REMOVE, self);
    }
    for (unsigned i = 0; i < c->count; i++) {
        const struct group_member *m = &c->members[i];
        if (m->raft_id != g->raft_id && m->role == GROUP_VOTER &&
            conf_find(g->target, m->raft_id) != NULL && is_level(g, m->raft_id) &&
            (best == NULL ||
             compat_match_index(g->r, m->raft_id) > compat_match_index(g->r, best->raft_id))) {
            best = m;
        }
    }
    return best == NULL ? (struct step){.kind = STEP_WAIT} : step_of(STEP_MOVE, best);
}

static struct step next_step(const struct raft_group *g, const struct conf *c)
{
    const struct group_member *self = conf_find(c, g->raft_id);
    struct step step = step_remove(g, c, false);
    if (step.kind == STEP_NONE && self != NULL && is_in_the_way(g, self)) {
        step = step_move(g, c);
        step.kind = step.kind == STEP_WAIT ? STEP_NONE : step.kind;
    }
    if (step.kind == STEP_NONE) {
        step = step_add(g, c);
    }
    if (step.kind == STEP_NONE) {
        step = step_promote(g, c);
    }
    if (step.kind == STEP_NONE) {
        step = step_remove(g, c, true);
    }
    if (step.kind == STEP_NONE) {
        step = step_move(g, c);
    }
    return step;
}

/* ---- Doing it ---- */

static void change_cb(struct raft_change *req, int status)
{
    (void)status;
    free(req);
}

/* M4: the newcomer has everything there is, and nothing is under way. Proposals wait for it, a
 * moment. */
static bool is_promotable(struct raft_group *g, uint64_t raft_id)
{
    const struct raft *r = g->r;
    uint64_t now = g->host->now_ms, last = compat_log_last(r);
    if (!IS_ON(g->host, M4)) {
        return true;
    }
    if (g->promote_until_ms == 0 && now < g->promote_again_ms) {
        return false;
    }
    if (g->promote_until_ms == 0) {
        g->promote_until_ms = now + PROMOTE_MS;
    } else if (now > g->promote_until_ms) {
        g->promote_until_ms = 0;
        g->promote_again_ms = now + PROMOTE_AGAIN_MS;
        return false;
    }
    return g->flying_count == 0 && g->appends_count == 0 && list_is_empty(&g->held) &&
           r->last_stored == last && compat_match_index(r, raft_id) == last;
}

static int call_core(struct raft_group *g, const struct step *step, struct raft_change *req)
{
    uint64_t id = step->member.raft_id;
    char address[CONF_ADDRESS_BYTES];
    switch (step->kind) {
    case STEP_ADD:
        conf_address(step->member.node_id, id, address);
        return raft_add(g->r, req, id, address, change_cb);
    case STEP_ASSIGN:
        return raft_assign(g->r, req, id, (int)step->member.role, change_cb);
    default:
        assert(step->kind == STEP_REMOVE);
        return raft_remove(g->r, req, id, change_cb);
    }
}

static void change(struct raft_group *g, const struct step *step)
{
    static const char *const verbs[] = {
        [STEP_ADD] = "is added", [STEP_ASSIGN] = "becomes a standby", [STEP_REMOVE] = "is removed"};
    bool is_promotion = step->kind == STEP_ASSIGN && step->member.role == GROUP_VOTER;
    if (is_promotion && !is_promotable(g, step->member.raft_id)) {
        return;
    }
    struct raft_change *req = xmalloc(sizeof *req);
    int rv = call_core(g, step, req);
    g->promote_until_ms = 0;
    if (rv != 0) {
        /* B20: after an error nothing of the request is kept; M2: look again. */
        log_wrn("group %llu: a change of members is refused: %s", (unsigned long long)g->gid,
                raft_strerror(rv));
        free(req);
        return;
    }
    g->host->stats.changes++;
    log_inf("group %llu: the replica on node %llu (%llu) %s", (unsigned long long)g->gid,
            (unsigned long long)step->member.node_id, (unsigned long long)step->member.raft_id,
            is_promotion ? "becomes a voter" : verbs[step->kind]);
    if (is_promotion && IS_ON(g->host, M4) && g->r->configuration_uncommitted_index != 0) {
        /* What followers answered before does not count for the new quorum. */
        g->hold_index = compat_log_last(g->r);
        g->is_barrier_stored = false;
    }
    guard_post(g);
    guard_release(g);
}

/* M1. The core does not see an uncommitted change that it inherited over a restart (B10): whoever
 * has applied its own barrier has no such change. */
static bool may_look(const struct raft_group *g)
{
    const struct raft *r = g->r;
    if (r->configuration_uncommitted_index != 0 || r->leader_state.promotee_id != 0) {
        return false;
    }
    return !IS_ON(g->host, M1) || (group_is_ready(g) && g->is_barrier_stored);
}

void members_turn(struct raft_group *g)
{
    struct conf c;
    if (g->target == NULL || !g->is_target_due || g->r == NULL || g->r->state != RAFT_LEADER) {
        g->promote_until_ms = 0;
        return;
    }
    if (g->promote_until_ms != 0 && g->host->now_ms > g->promote_until_ms + PROMOTE_MS) {
        g->promote_until_ms = 0; /* The moment went by while nobody looked. */
    }
    host_group_busy(g);
    if (!IS_ON(g->host, M2) && conf_now(g, &c) && is_reached(g, &c)) {
        g->is_target_due = false; /* Logged, perhaps never committed. */
    }
    if (!may_look(g) || g->move_to != 0 || g->is_reload_due || !conf_now(g, &c)) {
        return;
    }
    if (is_reached(g, &c)) {
        g->is_target_due = false;
        g->promote_until_ms = 0;
        return;
    }
    struct step step = next_step(g, &c);
    if (step.kind == STEP_MOVE && g->host->now_ms >= g->move_again_ms) {
        g->move_again_ms = g->host->now_ms + MOVE_AGAIN_MS;
        group_move_to(g, step.member.raft_id);
    } else if (step.kind == STEP_ADD || step.kind == STEP_ASSIGN || step.kind == STEP_REMOVE) {
        change(g, &step);
    }
    if (step.kind != STEP_ASSIGN || step.member.role != GROUP_VOTER) {
        g->promote_until_ms = 0;
    }
}

bool members_is_paused(const struct raft_group *g)
{
    return g->promote_until_ms != 0 && g->host->now_ms <= g->promote_until_ms;
}
