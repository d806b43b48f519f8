/* Who is to replicate each group, as the meta group would decide it: goals change, nodes hear of
 * them sooner or later, disks are lost and what was on them is replaced under new raft ids.
 *
 * The truth is here and always there; what a node knows of it is as old as its last news. A replica
 * is destroyed by the rule of production: a leader that knows the newest goal has told its members,
 * having proven by a round of its voters that it leads, and the replica is none of them, nor wanted
 * (M9). */
#include <stdlib.h>

#include "storage/base/err.h"
#include "tests/sim/sim_internal.h"
#include "tests/sim/sim_store.h"

#define NEWS_MAX_US (1500 * MS)
#define FIRST_INDEX 1u /* The configuration at birth: a state has it before the WAL is durable. */
#define POLL_US (60 * MS)
#define GOAL_PATIENCE_US (12 * SECOND) /* A goal not reached for so long may give way. */
#define AFTER_WIPE_US (4 * SECOND)     /* No new goals meanwhile: who is dead must be known. */

typedef unsigned long long ull;

static void news(struct sim_replica *r);

static struct sim_members *members_of(const struct sim_replica *r)
{
    return &r->node->run->members[r->group];
}

/* 0: not wanted there. */
static uint64_t wanted_id(const struct sim_members *m, unsigned node)
{
    for (unsigned i = 0; i < m->count; i++) {
        if (m->want[i].node_id == node + 1) {
            return m->want[i].raft_id;
        }
    }
    return 0;
}

static bool is_wanted(const struct sim_members *m, uint64_t raft_id)
{
    for (unsigned i = 0; i < m->count; i++) {
        if (m->want[i].raft_id == raft_id) {
            return true;
        }
    }
    return false;
}

/* ---- What a node does about it ---- */

static void destroy(struct sim_replica *r)
{
    sim_trace(&r->node->run->clock, "destroy node %llu group %llu raft id %llu", r->node->number,
              r->group, r->raft_id);
    if (r->g != NULL) {
        group_destroy(r->g);
        r->g = NULL;
    } else {
        (void)host_destroy_found(r->node->host, sim_gid(r->group));
    }
    r->raft_id = 0;
    if (r->node->store != NULL) {
        sim_store_drop(r);
    }
    sim_replica_reset(r);
}

static void create(struct sim_replica *r, const struct group_member *members, unsigned count)
{
    struct group_options options;
    struct group_status s;
    sim_replica_options(r, &options);
    int rv = group_create(r->node->host, &options, members, count, &r->g);
    if (rv != 0) {
        sim_fail(r->node->run, "GROUP", "node %u group %u is not created: %s", r->node->number,
                 r->group, err_text(rv));
        return;
    }
    group_status(r->g, &s);
    r->create_lsn = s.create_lsn;
}

static void tell_target(struct sim_replica *r)
{
    if (r->g != NULL && r->known_count > 0) {
        (void)group_set_target(r->g, r->known, r->known_count);
    }
}

/* It was no member by the configuration at @gone_at, and has heard of none since that has it: a
 * leader with old news may have taken it in again. */
static bool may_destroy(const struct sim_replica *r, uint64_t gone_at)
{
    struct group_status s;
    if (r->node->run->options->planted == SIM_PLANTED_DESTROY_AT_CALL) {
        return true; /* M9 left out. */
    }
    if (gone_at == 0 || r->g == NULL) {
        return gone_at != 0;
    }
    group_status(r->g, &s);
    for (unsigned i = 0; i < s.members_count && s.configuration_index > gone_at; i++) {
        if (s.members[i].member.raft_id == r->raft_id) {
            return false;
        }
    }
    return true;
}

static uint64_t new_id(struct sim_members *m, unsigned node)
{
    m->node_of[m->next_id % SIM_IDS_MAX] = (uint8_t)(node + 1);
    return m->next_id++;
}

/* Whom a replica that lost something of its log has to ask. */
static void tell_known(struct sim_replica *r)
{
    const struct sim_members *m = members_of(r);
    struct group_member known[HOST_MEMBERS_MAX];
    uint64_t first = m->next_id / SIM_IDS_MAX * SIM_IDS_MAX;
    unsigned count = 0;
    for (uint64_t id = first; id < m->next_id; id++) {
        unsigned node = m->node_of[id % SIM_IDS_MAX];
        if (node == 0 || (m->gone_at[id % SIM_IDS_MAX] != 0 && !is_wanted(m, id))) {
            continue;
        }
        if (count == HOST_MEMBERS_MAX) {
            return; /* As where META_OLD_MAX is reached: later. */
        }
        known[count++] = (struct group_member){id, node, GROUP_VOTER};
    }
    if (r->g != NULL) {
        group_set_known_members(r->g, known, count, m->reported, m->reached == m->version);
    }
}

/* Production waits for a flush pass that has the stream, and for the one that forgets it. */
static bool store_lets_destroy(struct sim_replica *r)
{
    return r->node->store == NULL || sim_store_may_drop(r);
}

static bool store_lets_begin(struct sim_replica *r)
{
    return r->node->store == NULL || sim_store_begin(r);
}

/* The truth of this moment reaches the node. */
static void learn(struct sim_replica *r)
{
    struct sim_members *m = members_of(r);
    uint64_t id = wanted_id(m, r->node->number);
    if (r->raft_id != 0 && r->raft_id != id &&
        may_destroy(r, m->gone_at[r->raft_id % SIM_IDS_MAX])) {
        if (!store_lets_destroy(r)) {
            news(r);
            return;
        }
        destroy(r);
    }
    if (r->raft_id == 0 && id != 0 && id != r->lost_id) {
        if (!store_lets_begin(r)) {
            news(r);
            return;
        }
        r->raft_id = id;
        r->create_lsn = 0;
        r->node->run->result->stats.joins++;
        create(r, NULL, 0);
    }
    if (m->version > 0) {
        memcpy(r->known, m->want, sizeof r->known);
        r->known_count = m->count;
        r->known_version = m->version;
        tell_target(r);
    }
    tell_known(r);
}

static void learn_event(void *arg, uint64_t life, uint64_t unused)
{
    struct sim_replica *r = arg;
    if (sim_node_is_current(r->node, life, learn_event, r, unused)) {
        learn(r);
        sim_node_touch(r->node);
    }
}

static void news(struct sim_replica *r)
{
    struct sim_run *run = r->node->run;
    if (r->node->is_up) {
        sim_clock_at(&run->clock,
                     run->clock.now_us + sim_rng_range(&run->rng_members, 0, NEWS_MAX_US),
                     learn_event, r, r->node->life, 0);
    }
}

static void news_to_all(struct sim_run *run, unsigned group)
{
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        news(&run->nodes[i].replicas[group]);
    }
}

/* ---- Loss ---- */

static void lost_event(void *arg, uint64_t raft_id, uint64_t unused)
{
    struct sim_replica *r = arg;
    struct sim_run *run = r->node->run;
    struct sim_members *m = members_of(r);
    (void)unused;
    m->living[r->node->number] = 0;
    if (!is_wanted(m, raft_id)) {
        return;
    }
    bool is_again = run->options->planted == SIM_PLANTED_SAME_ID; /* M6 left out. */
    for (unsigned i = 0; i < m->count; i++) {
        if (m->want[i].raft_id == raft_id) {
            m->living[r->node->number] = is_again ? raft_id : new_id(m, r->node->number);
            m->want[i].raft_id = m->living[r->node->number];
        }
    }
    r->lost_id = is_again ? 0 : r->lost_id;
    m->version++;
    m->since_us = run->clock.now_us;
    news_to_all(run, r->group);
}

void sim_members_lost(struct sim_replica *r)
{
    struct sim_run *run = r->node->run;
    uint64_t raft_id = r->raft_id;
    sim_note(&run->clock, "LOST node %u group %u raft id %llu", r->node->number, r->group,
             (ull)raft_id);
    r->lost_id = raft_id;
    r->raft_id = 0;
    r->was_born = false;
    sim_oracle_forget(run->oracle, r->node->number, r->group);
    members_of(r)->quiet_until_us = run->clock.now_us + AFTER_WIPE_US;
    sim_clock_at(&run->clock, run->clock.now_us + sim_rng_range(&run->rng_members, 0, 1500 * MS),
                 lost_event, r, raft_id, 0);
}

/* Would each configuration that a replica still has keep a quorum of intact disks without @victim,
 * also when the leader takes out one more that is not wanted? What does not is beyond any rule. */
static bool can_lose(struct sim_run *run, unsigned victim, unsigned group)
{
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        struct sim_replica *r = &run->nodes[i].replicas[group];
        struct group_status s;
        if (r->raft_id == 0) {
            continue;
        }
        if (r->g == NULL) {
            return false; /* Who knows what its log says. */
        }
        group_status(r->g, &s);
        unsigned voters = 0, intact = 0, spare = 0;
        bool is_promoted = false; /* At any moment, as what it was a moment ago. */
        for (unsigned k = 0; k < s.members_count; k++) {
            const struct group_member *c = &s.members[k].member;
            if (c->role != GROUP_VOTER) {
                is_promoted = is_promoted || c->node_id == victim + 1;
                continue;
            }
            unsigned node = (unsigned)c->node_id - 1;
            bool is_intact =
                node != victim && run->nodes[node].replicas[group].raft_id == c->raft_id;
            voters++;
            intact += is_intact;
            spare += is_intact && !is_wanted(&run->members[group], c->raft_id);
        }
        if (voters > 0 &&
            (intact < voters / 2 + 1 || (is_promoted && intact < (voters + 1) / 2 + 1) ||
             (spare > 0 && intact - 1 < (voters - 1) / 2 + 1))) {
            return false;
        }
    }
    return true;
}

bool sim_members_wipe(struct sim_node *n)
{
    struct sim_run *run = n->run;
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        if (!can_lose(run, n->number, g) || run->members[g].quiet_until_us > run->clock.now_us) {
            return false;
        }
    }
    sim_node_crash(n, true);
    sim_node_new_disk(n);
    run->result->stats.wipes++;
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        if (n->replicas[g].raft_id != 0) {
            sim_members_lost(&n->replicas[g]);
        } else {
            sim_oracle_forget(run->oracle, n->number, g);
        }
        buf_close(&n->replicas[g].durable.bytes);
        n->replicas[g].durable = (struct sim_state_image){0};
    }
    return true;
}

/* ---- Goals ---- */

/* No replica is wanted there, and none is leaving: two of a group do not live on a node. */
static bool is_free(const struct sim_members *m, unsigned node)
{
    uint64_t id = m->living[node];
    return wanted_id(m, node) == 0 && (id == 0 || m->gone_at[id % SIM_IDS_MAX] != 0);
}

/* False: there is no place. */
static bool want_another(struct sim_run *run, struct sim_members *m)
{
    unsigned count = run->plan->nodes_count;
    unsigned node = (unsigned)sim_rng_below(&run->rng_members, count);
    for (unsigned i = 0; i < count; i++, node = (node + 1) % count) {
        if (is_free(m, node)) {
            m->living[node] = new_id(m, node);
            m->want[m->count++] = (struct group_member){m->living[node], node + 1, GROUP_VOTER};
            return true;
        }
    }
    return false;
}

static void want_one_less(struct sim_run *run, struct sim_members *m)
{
    unsigned i = (unsigned)sim_rng_below(&run->rng_members, m->count);
    m->want[i] = m->want[--m->count];
}

void sim_members_goal(struct sim_run *run, unsigned group, unsigned dice)
{
    struct sim_members *m = &run->members[group];
    int64_t now_us = run->clock.now_us;
    bool is_stuck = now_us - m->since_us > GOAL_PATIENCE_US;
    if (m->quiet_until_us > now_us || (m->reached < m->version && !is_stuck && dice % 8 != 0)) {
        return;
    }
    unsigned max = run->plan->nodes_count;
    unsigned to = 1 + dice / 8 % max;
    if (dice % 3 == 0 && m->count < max && want_another(run, m)) { /* Replace one. */
        to = m->count - 1;
        m->want[sim_rng_below(&run->rng_members, to)] = m->want[to];
        m->count = to;
    }
    while (m->count < to && want_another(run, m)) {
    }
    while (m->count > to) {
        want_one_less(run, m);
    }
    m->version++;
    m->since_us = now_us;
    run->result->stats.goals++;
    sim_note(&run->clock, "GOAL group %u: %u members", group, m->count);
    news_to_all(run, group);
}

/* ---- What a leader reports ---- */

/* It leads, and has these members: all others that are not wanted may be destroyed. */
static void report(struct sim_replica *r)
{
    struct sim_run *run = r->node->run;
    struct sim_members *m = members_of(r);
    uint64_t first = m->next_id / SIM_IDS_MAX * SIM_IDS_MAX;
    if (r->proving_version != m->version) {
        return; /* Of an older goal: whoever it does not want may be wanted. */
    }
    for (uint64_t id = first; id < m->next_id; id++) {
        bool is_member = is_wanted(m, id);
        for (unsigned i = 0; i < r->proving_count; i++) {
            is_member = is_member || r->proving[i].raft_id == id;
        }
        uint64_t *at = &m->gone_at[id % SIM_IDS_MAX];
        if (!is_member && *at < r->proving_index) {
            *at = r->proving_index;
        }
    }
    r->proven_index = r->proving_index;
    m->reported = r->proving_index > m->reported ? r->proving_index : m->reported;
    if (r->is_target_proven && m->reached < m->version) {
        m->reached = m->version;
        sim_note(&run->clock, "REACHED group %u version %llu", r->group, (ull)m->version);
    }
    news_to_all(run, r->group);
}

void sim_members_read_done(struct sim_replica *r, bool is_ok)
{
    r->is_proving = false;
    if (is_ok) {
        report(r);
    }
}

/* A leader that knows the newest goal tells each configuration once it is committed, and proves by
 * a round of its voters that no other leader has changed it since. */
static void prove(struct sim_replica *r)
{
    struct sim_members *m = members_of(r);
    struct group_status s;
    if (r->g == NULL || !r->node->is_up || r->node->paused_until_us > r->node->run->clock.now_us ||
        r->is_proving || r->known_version != m->version || m->version == 0) {
        return;
    }
    group_status(r->g, &s);
    bool is_news = s.configuration_index != r->proven_index ||
                   (s.is_target_reached && m->reached < m->version);
    if (!s.role.is_leader || s.is_configuration_uncommitted || !is_news ||
        group_read_index(r->g, 1) != 0) {
        return;
    }
    r->is_proving = true;
    r->is_target_proven = s.is_target_reached;
    r->proving_version = m->version;
    r->proving_index = s.configuration_index;
    r->proving_count = s.members_count;
    for (unsigned i = 0; i < s.members_count; i++) {
        r->proving[i] = s.members[i].member;
    }
    sim_node_touch(r->node);
}

static void poll_event(void *arg, uint64_t a, uint64_t b)
{
    struct sim_run *run = arg;
    (void)a;
    (void)b;
    if (run->is_closing) {
        return;
    }
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        for (unsigned i = 0; i < run->plan->nodes_count; i++) {
            prove(&run->nodes[i].replicas[g]);
        }
    }
    sim_clock_at(&run->clock, run->clock.now_us + POLL_US, poll_event, run, 0, 0);
}

/* ---- Start ---- */

void sim_members_init(struct sim_run *run)
{
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        struct sim_members *m = &run->members[g];
        unsigned count =
            run->plan->members_count == 0 ? run->plan->nodes_count : run->plan->members_count;
        m->count = m->first_count = count;
        for (unsigned i = 0; i < count; i++) {
            m->want[i] = (struct group_member){(g + 1) * SIM_IDS_MAX + i + 1, i + 1, GROUP_VOTER};
            run->nodes[i].replicas[g].raft_id = m->living[i] = m->want[i].raft_id;
            m->node_of[m->want[i].raft_id % SIM_IDS_MAX] = (uint8_t)(i + 1);
        }
        memcpy(m->first, m->want, sizeof m->first);
        m->next_id = (g + 1) * SIM_IDS_MAX + 101;
    }
    sim_clock_at(&run->clock, POLL_US, poll_event, run, 0, 0);
}

void sim_members_open(struct sim_replica *r)
{
    struct sim_node *n = r->node;
    struct sim_run *run = n->run;
    struct sim_members *m = members_of(r);
    struct group_found found = {0};
    struct group_options options;
    bool is_there = host_find_group(n->host, sim_gid(r->group), &found);
    r->is_proving = false;
    r->proven_index = 0;
    if (sim_store_is_mending(r)) {
        return;
    }
    if (is_there && (found.raft_id == 0 || found.raft_id != r->raft_id)) {
        /* It was to be destroyed already. Where its first records were trimmed before that was
         * durable, the WAL does not know any more whose the others are. */
        (void)host_destroy_found(n->host, sim_gid(r->group));
        found.raft_id = 0;
    }
    if (r->raft_id == 0) {
        /* Nothing lives here; or not yet. */
    } else if (found.raft_id != 0) {
        sim_replica_options(r, &options);
        int rv = group_open(n->host, &options, &r->g);
        if (rv != 0) {
            sim_fail(run, "GROUP", "node %u group %u does not open: %s", n->number, r->group,
                     err_text(rv));
        }
        r->was_born = true;
    } else if (!r->was_born && r->durable.base.index <= FIRST_INDEX) {
        /* Never durable: it is begun again. */
        bool is_first = r->raft_id < (r->group + 1) * SIM_IDS_MAX + 100;
        create(r, m->first, is_first ? m->first_count : 0);
    } else {
        sim_fail(run, "GROUP", "node %u group %u: the WAL does not know it any more", n->number,
                 r->group);
    }
    tell_target(r);
    news(r);
}

void sim_members_replace(struct sim_replica *r)
{
    sim_members_lost(r);
    destroy(r);
}

/* ---- The end ---- */

bool sim_members_is_level(struct sim_run *run, unsigned group)
{
    const struct sim_members *m = &run->members[group];
    if (m->reached < m->version) {
        return false;
    }
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        const struct sim_node *n = &run->nodes[i];
        if (!n->is_off && n->replicas[group].raft_id != wanted_id(m, i)) {
            return false;
        }
    }
    return true;
}

bool sim_members_is_here(const struct sim_run *run, unsigned node, unsigned group)
{
    return wanted_id(&run->members[group], node) != 0;
}
