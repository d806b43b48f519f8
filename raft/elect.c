/* Time: ticks, and who campaigns when (raft-guide 7.6).
 *
 * Each group is ticked once a second, spread over a wheel. That and libraft's own timeouts are only
 * the net: when the leader's node goes down its members forget it and campaign in successor order,
 * repeating an unanswered pre-vote; campaigns are rationed, urgent groups first. */
#include <assert.h>

#include "raft/host_internal.h"
#include "storage/base/log.h"

#define GRANT_PATIENCE_MS 300 /* After a vote, for whomever, let him win. */
#define START_QUIET_MS 300    /* After a start, a leader may still make itself known. */
#define START_REPEAT_MS 500
#define START_END_MS 15000
#define SPLITS_MAX 5 /* Doublings of the distance between candidates. */

/* G6, G11: may the core's timer run? */
bool elect_may_tick(struct raft_group *g)
{
    const struct raft *r = g->r;
    if (r->state == RAFT_LEADER) {
        return true;
    }
    if (g->appends_count > 0 && IS_ON(g->host, G6)) {
        return false;
    }
    if (g->pull != NULL && !IS_ON(g->host, C4)) {
        return false;
    }
    if (g->is_suspect && IS_ON(g->host, G11)) {
        return vote_suspect_may_lead(g);
    }
    return true;
}

void elect_tick_now(struct raft_group *g)
{
    if (!elect_may_tick(g)) {
        return;
    }
    if (g->r->state != RAFT_LEADER && compat_is_sole_voter(g->r, g->raft_id) &&
        IS_ON(g->host, G13)) {
        /* A tick would elect it without a new term; load() raises the term first. */
        if (g->appends_count == 0 && (!g->is_suspect || g->is_single)) {
            instance_reload(g, 0);
        }
        return;
    }
    guard_aim(g);
    g->tick(&g->io);
    guard_post(g);
    guard_release(g);
    guard_pump(g);
}

/* It can lead and vote. */
static bool is_live(struct raft_host *h, uint64_t node_id)
{
    const struct peer *p = node_id == 0 ? NULL : host_peer(h, node_id);
    return p != NULL && p->is_up && !p->is_stuck;
}

static bool has_quorum_up(struct raft_group *g)
{
    const struct raft *r = g->r;
    unsigned up = 0, voters = 0;
    for (unsigned i = 0; i < r->configuration.n; i++) {
        const struct raft_server *s = &r->configuration.servers[i];
        if (s->role != RAFT_VOTER) {
            continue;
        }
        uint64_t node_id = outbox_node_of(g, s->id);
        voters++;
        up += s->id == g->raft_id || is_live(g->host, node_id);
    }
    return up >= voters / 2 + 1;
}

/* The core's own way: its look for a majority comes now, and finds none. */
void elect_step_down(struct raft_group *g)
{
    struct raft_host *h = g->host;
    if (g->r == NULL || g->r->state != RAFT_LEADER || !IS_ON(h, SUCCESSOR) ||
        compat_is_sole_voter(g->r, g->raft_id)) {
        return;
    }
    compat_expire_quorum(g->r, host_core_now(h));
    elect_tick_now(g);
}

/* It may be the only one that can win: what it had not replicated makes its log the longest. So it
 * tries as soon as it can; whoever was elected meanwhile ends that. */
void elect_deposed(struct raft_group *g)
{
    struct raft_host *h = g->host;
    if (IS_ON(h, SUCCESSOR) && compat_role(g->r, g->raft_id) == RAFT_VOTER) {
        elect_campaign_at(g, h->now_ms + h->opt.successor_ms, h->opt.successor_ms, UINT64_MAX);
    }
}

static void forget_leader(struct raft_group *g)
{
    compat_forget_leader(g->r);
    g->leader_id = g->leader_node = 0;
    g->leader_seen_ms = 0;
}

/* A leader that was deposed by a candidate we gave no vote to, for its sake: it must not be refused
 * ours for its own sake. */
void elect_asked(struct raft_group *g, uint64_t candidate, uint64_t term)
{
    if (g->leader_id == candidate && g->r->state != RAFT_LEADER && term > g->r->current_term &&
        IS_ON(g->host, SUCCESSOR)) {
        forget_leader(g);
    }
}

/* A leader whose majority is down commits nothing, and may have been replaced. Libraft looks once
 * per election timeout whether a majority was heard since it last looked: 3 to 7 s, in which it
 * would still answer reads. Two ticks without a majority of nodes are enough, 1 to 2 s; a node that
 * only restarts is back before. */
static void look_for_quorum(struct raft_group *g)
{
    struct raft_host *h = g->host;
    if (g->r->state != RAFT_LEADER || has_quorum_up(g) || !IS_ON(h, SUCCESSOR)) {
        g->is_alone = false;
        return;
    }
    if (!g->is_alone) {
        g->is_alone = true;
        return;
    }
    log_inf("group %llu: no majority of its nodes is up, the leader here steps down",
            (unsigned long long)g->gid);
    g->is_alone = false;
    elect_step_down(g);
}

static void tick_group(struct raft_group *g)
{
    if (g->r != NULL) {
        elect_tick_now(g);
    }
    if (g->r != NULL) {
        look_for_quorum(g);
    }
    vote_suspect_tick(g);
    catchup_tick(g);
    host_group_busy(g);
}

void elect_wheel_add(struct raft_group *g)
{
    struct raft_host *h = g->host;
    list_push_back(&h->wheel[h->wheel_next], &g->wheel_link);
    h->wheel_next = (h->wheel_next + 7) % WHEEL_SLOTS; /* Prime to the slots: spreads. */
}

/* ---- Campaigns ---- */

void elect_campaign_at(struct raft_group *g, uint64_t at_ms, uint32_t every_ms, uint64_t end_ms)
{
    g->campaign_ms = at_ms == 0 ? 1 : at_ms;
    g->campaign_every_ms = every_ms;
    g->campaign_end_ms = end_ms;
    g->is_ranked = true;
    if (list_is_empty(&g->campaign_link)) {
        list_push_back(&g->host->campaigns, &g->campaign_link);
    }
}

void elect_campaign_stop(struct raft_group *g)
{
    list_remove(&g->campaign_link);
    g->campaign_ms = 0;
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdull;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ull;
    return h ^ (h >> 33);
}

static uint64_t rank_hash(uint64_t gid, uint64_t raft_id)
{
    return mix(mix(gid) ^ raft_id);
}

/* Position among the live voters in hash order; the same on all nodes that see the same peers. */
static unsigned rank_of(struct raft_group *g)
{
    const struct raft *r = g->r;
    uint64_t own = rank_hash(g->gid, g->raft_id);
    unsigned rank = 0;
    for (unsigned i = 0; i < r->configuration.n; i++) {
        const struct raft_server *s = &r->configuration.servers[i];
        if (s->role != RAFT_VOTER || s->id == g->raft_id) {
            continue;
        }
        uint64_t node_id = outbox_node_of(g, s->id);
        if (is_live(g->host, node_id)) {
            rank += rank_hash(g->gid, s->id) < own;
        }
    }
    return rank;
}

void elect_started(struct raft_group *g, bool is_created)
{
    struct raft_host *h = g->host;
    if (g->r == NULL || g->r->state == RAFT_LEADER || !IS_ON(h, SUCCESSOR) ||
        compat_role(g->r, g->raft_id) != RAFT_VOTER) {
        return;
    }
    bool is_first = is_created && g->is_preferred;
    elect_campaign_at(g, h->now_ms + (is_first ? 0 : START_QUIET_MS),
                      is_first ? h->opt.successor_ms : START_REPEAT_MS, h->now_ms + START_END_MS);
    /* Its rank among the live ones is known when they are there. */
    g->is_ranked = is_first;
}

static bool is_member_node(struct raft_group *g, uint64_t node_id)
{
    const struct raft *r = g->r;
    for (unsigned i = 0; i < r->configuration.n; i++) {
        if (outbox_node_of(g, r->configuration.servers[i].id) == node_id) {
            return true;
        }
    }
    return false;
}

void elect_node_down(struct raft_group *g, uint64_t node_id)
{
    struct raft_host *h = g->host;
    if (g->r == NULL || g->r->state == RAFT_LEADER || !IS_ON(h, SUCCESSOR)) {
        return;
    }
    /* Between leaders, nobody may be left to become one. */
    bool is_leaderless =
        g->leader_node == 0 && list_is_empty(&g->campaign_link) && is_member_node(g, node_id);
    if (g->leader_node != node_id && !is_leaderless) {
        return;
    }
    forget_leader(g);
    g->voted_ms = 0; /* Whoever was voted for is the one that is down, or will ask again. */
    if (compat_role(g->r, g->raft_id) == RAFT_VOTER) {
        /* Who has not noticed yet refuses the first: asked again before the next in rank begins,
         * or both ask at once, both get pre-votes, and neither the votes. */
        elect_campaign_at(g, h->now_ms + (uint64_t)rank_of(g) * h->opt.successor_ms,
                          h->opt.successor_ms / 2, UINT64_MAX);
    }
    guard_post(g);
}

/* By rank, and a little by chance. A split vote must not repeat itself: where votes take longer
 * than the ranks are apart, over a slow network or on slow disks, each split doubles the distance.
 */
static uint64_t spread(struct raft_group *g)
{
    struct raft_host *h = g->host;
    uint64_t step = (uint64_t)h->opt.successor_ms << g->splits;
    step = step < h->opt.election_timeout_ms ? step : h->opt.election_timeout_ms;
    return rank_of(g) * step + h->opt.env.random(h->opt.env.ctx) % step;
}

/* When to try again, if this comes to nothing. */
static uint64_t next_try(struct raft_group *g)
{
    struct raft_host *h = g->host;
    uint64_t next = h->now_ms + g->campaign_every_ms;
    return g->voted_for == g->raft_id ? next + spread(g) : next;
}

/* Its own candidacy has ended without a leader, and that was not noted yet. */
static bool is_split(const struct raft_group *g)
{
    return g->r->state == RAFT_CANDIDATE && !compat_is_pre_candidate(g->r) &&
           g->voted_for == g->raft_id && g->split_term != g->term;
}

/* A vote was given not long ago, here or to somebody else, and may still bring a leader. Votes are
 * records first: with disks as slow as ours they take as long elsewhere, and a new term on top of
 * them would make all of it void. */
static bool is_vote_under_way(struct raft_group *g)
{
    struct raft_host *h = g->host;
    if (g->voted_for == 0 || g->voted_ms == 0) {
        return false;
    }
    if (g->fence_lsn > h->durable_lsn) {
        return true;
    }
    if (g->vote_durable_ms < g->voted_ms) {
        g->vote_durable_ms = h->now_ms;
    }
    uint64_t patience = 2 * (g->vote_durable_ms - g->voted_ms);
    patience = patience < GRANT_PATIENCE_MS ? GRANT_PATIENCE_MS : patience;
    patience = patience > h->opt.election_timeout_ms ? h->opt.election_timeout_ms : patience;
    return h->now_ms - g->vote_durable_ms < patience;
}

/* One try. False: not now, look again later. */
static bool campaign(struct raft_group *g)
{
    struct raft_host *h = g->host;
    struct raft *r = g->r;
    bool is_patient = g->voted_for != g->raft_id && is_vote_under_way(g);
    if (is_patient || h->is_disk_stuck || !has_quorum_up(g) || !elect_may_tick(g)) {
        return false;
    }
    if (!g->is_ranked) {
        g->is_ranked = true;
        unsigned rank = rank_of(g);
        if (rank > 0) {
            g->campaign_ms = h->now_ms + (uint64_t)rank * h->opt.successor_ms;
            return false;
        }
    }
    if (r->state == RAFT_CANDIDATE && !compat_is_pre_candidate(r) && is_vote_under_way(g)) {
        return false; /* Real votes are on their way. */
    }
    if (is_split(g)) {
        /* The others of that term were told of it at about the same time. */
        g->split_term = g->term;
        g->splits += g->splits < SPLITS_MAX;
        if (g->splits > 1) {
            g->campaign_ms = h->now_ms + spread(g);
            return false;
        }
    }
    compat_expire_timer(r, host_core_now(h));
    elect_tick_now(g);
    return true;
}

static bool is_campaign_over(const struct raft_group *g)
{
    return g->r == NULL ? g->state == GROUP_FAILED
                        : g->r->state == RAFT_LEADER || g->leader_id != 0 ||
                              g->host->now_ms > g->campaign_end_ms ||
                              compat_role(g->r, g->raft_id) != RAFT_VOTER;
}

static void campaigns_of(struct raft_host *h, unsigned urgency)
{
    LIST_FOR_SAFE(it, tmp, &h->campaigns)
    {
        struct raft_group *g = container_of(it, struct raft_group, campaign_link);
        unsigned own = g->priority == 0 ? 0 : g->is_waiting ? 1 : 2;
        if (own != urgency || g->campaign_ms > h->now_ms || g->r == NULL) {
            continue;
        }
        if (is_campaign_over(g)) {
            g->splits = 0;
            elect_campaign_stop(g);
            continue;
        }
        if (h->campaign_credit_milli < 1000 && urgency > 0) {
            return;
        }
        g->campaign_ms = next_try(g);
        if (campaign(g)) {
            h->campaign_credit_milli -=
                h->campaign_credit_milli < 1000 ? h->campaign_credit_milli : 1000;
        }
    }
}

void elect_tick(struct raft_host *h)
{
    uint64_t elapsed = h->now_ms - h->wheel_ms;
    /* A tenth of a second's credit at most is saved. */
    uint64_t credit_max = (uint64_t)h->opt.groups_per_s * 100;
    h->campaign_credit_milli += elapsed * h->opt.groups_per_s;
    if (h->campaign_credit_milli > credit_max) {
        h->campaign_credit_milli = credit_max < 1000 ? 1000 : credit_max;
    }
    /* After a long pause each slot is ticked once, not for each second missed. */
    const uint64_t slot_ms = TICK_MS / WHEEL_SLOTS;
    uint64_t from = h->wheel_ms / slot_ms, to = h->now_ms / slot_ms;
    if (to - from > WHEEL_SLOTS) {
        from = to - WHEEL_SLOTS;
    }
    h->wheel_ms = h->now_ms;
    for (uint64_t i = from; i < to; i++) {
        LIST_FOR_SAFE(it, tmp, &h->wheel[i % WHEEL_SLOTS])
        {
            tick_group(container_of(it, struct raft_group, wheel_link));
        }
    }
    for (unsigned urgency = 0; urgency < 3; urgency++) {
        campaigns_of(h, urgency);
    }
}
