/* Planted bugs that reach into the core (sim_planted.h). */
#include "raft/host_internal.h"
#include "tests/sim/sim_internal.h"

#define MATCHES_MAX 16u

/* What the core of one leader knows of its members, while it is told otherwise. */
struct matches {
    struct raft *r;
    unsigned count;
    raft_index was[MATCHES_MAX];
    raft_index told[MATCHES_MAX];
};

/* What a standby has counts for a voter that has it not. */
static void standbys_count(struct raft *r, struct matches *m)
{
    const struct raft_server *servers = r->configuration.servers;
    m->r = r;
    m->count = r->configuration.n < MATCHES_MAX ? r->configuration.n : 0;
    for (unsigned i = 0; i < m->count; i++) {
        m->was[i] = r->leader_state.progress[i].match_index;
    }
    for (unsigned i = 0; i < m->count; i++) {
        for (unsigned k = 0; servers[i].role == RAFT_STANDBY && k < m->count; k++) {
            struct raft_progress *voter = &r->leader_state.progress[k];
            if (servers[k].role == RAFT_VOTER && servers[k].id != r->id &&
                voter->match_index < m->was[i]) {
                voter->match_index = m->was[i];
                break;
            }
        }
    }
    for (unsigned i = 0; i < m->count; i++) {
        m->told[i] = r->leader_state.progress[i].match_index;
    }
}

static void matches_restore(const struct matches *m)
{
    for (unsigned i = 0; i < m->count; i++) {
        struct raft_progress *p = &m->r->leader_state.progress[i];
        if (p->match_index == m->told[i]) {
            p->match_index = m->was[i];
        }
    }
}

int sim_plant_receive(struct sim_node *n, uint64_t from, enum host_lane lane, struct slice frame)
{
    struct matches all[SIM_GROUPS_MAX] = {0};
    unsigned count =
        n->run->options->planted == SIM_PLANTED_STANDBY_COUNTS ? n->run->plan->groups_count : 0;
    for (unsigned g = 0; g < count; g++) {
        struct raft *r = n->replicas[g].g == NULL ? NULL : n->replicas[g].g->r;
        if (r != NULL && r->state == RAFT_LEADER) {
            standbys_count(r, &all[g]);
        }
    }
    int rv = host_receive(n->host, from, lane, frame);
    for (unsigned g = 0; g < count; g++) {
        struct raft *r = n->replicas[g].g == NULL ? NULL : n->replicas[g].g->r;
        if (r != NULL && r == all[g].r && r->state == RAFT_LEADER &&
            r->configuration.n == all[g].count) {
            matches_restore(&all[g]);
        }
    }
    return rv;
}
