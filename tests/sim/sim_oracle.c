#include "tests/sim/sim_oracle.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/list.h"
#include "tests/sim/sim_rng.h"

/* Who votes: the nodes where the voters still are, and how many there are. */
struct voters {
    uint32_t nodes;
    uint32_t lost; /* What is gone with their disks was acknowledged, and counts. */
    unsigned count;
};

/* An entry somebody knew to be committed. */
struct committed {
    struct sim_entry entry; /* term 0: nobody did yet. */
    uint64_t state_hash;    /* After it; 0: not applied by anyone yet. */
    uint64_t term;          /* Of the first who knew. */
    uint64_t acked_hash;    /* What a client was told is here; 0: nothing. */
    struct voters voters;   /* Of the first who knew. */
};

struct leadership {
    unsigned node;
    uint64_t boot;
    bool is_known;
};

struct pending {
    struct list queue;
    struct sim_record record;
};

/* One replica. */
struct replica {
    struct sim_log queued;  /* As the host believes it, with what is not on the disk yet. */
    struct sim_log durable; /* On the disk. */
    struct sim_log rotted;  /* On the disk before the last damage: what it acknowledged counts. */
    struct sim_log lost;    /* Of the one here whose disk was lost last. */
    uint64_t lost_base;
    uint64_t queued_term;
    uint64_t queued_vote;
    uint64_t durable_term;
    uint64_t durable_vote;
    uint64_t base_index; /* Of its store, durable. */
    uint64_t base_term;
    uint64_t commit_index;
    uint64_t seen_term;
    uint64_t seen_vote;
    bool is_leader;
    bool is_changed; /* Destroyed since the last start: nothing is expected back. */
    struct voters voters;
};

struct group {
    struct committed *history; /* [index] */
    uint64_t history_cap;
    uint64_t committed_max;
    uint64_t acked_max;
    struct voters voters;       /* Of the last commit. */
    struct leadership *leaders; /* [term] */
    uint64_t leaders_cap;
    struct replica replicas[SIM_NODES_MAX];
};

struct node {
    struct list pendings; /* Records not on the disk yet, in order. */
    uint64_t durable_lsn;
    uint64_t trimmed_lsn;
    uint64_t boot;
    bool is_replaying;
    /* What the disk must still give after a crash. */
    struct sim_log expected[SIM_GROUPS_MAX];
    uint64_t expected_term[SIM_GROUPS_MAX];
    uint64_t expected_vote[SIM_GROUPS_MAX];
};

struct sim_oracle {
    struct sim_clock *clock;
    struct sim_result *result;
    unsigned nodes_count;
    unsigned groups_count;
    struct group groups[SIM_GROUPS_MAX];
    struct node nodes[SIM_NODES_MAX];
};

typedef unsigned long long ull;

struct sim_oracle *sim_oracle_new(const struct sim_plan *plan, struct sim_clock *clock,
                                  struct sim_result *result)
{
    struct sim_oracle *o = xcalloc(1, sizeof *o);
    o->clock = clock;
    o->result = result;
    o->nodes_count = plan->nodes_count;
    o->groups_count = plan->groups_count;
    for (unsigned n = 0; n < SIM_NODES_MAX; n++) {
        list_init(&o->nodes[n].pendings);
    }
    return o;
}

static void drop_pendings(struct node *n)
{
    struct list *it;
    while ((it = list_pop_front(&n->pendings)) != NULL) {
        struct pending *p = container_of(it, struct pending, queue);
        free(p->record.entries);
        free(p);
    }
}

void sim_oracle_free(struct sim_oracle *o)
{
    if (o == NULL) {
        return;
    }
    for (unsigned g = 0; g < SIM_GROUPS_MAX; g++) {
        for (unsigned n = 0; n < SIM_NODES_MAX; n++) {
            sim_log_close(&o->groups[g].replicas[n].queued);
            sim_log_close(&o->groups[g].replicas[n].durable);
            sim_log_close(&o->groups[g].replicas[n].rotted);
            sim_log_close(&o->groups[g].replicas[n].lost);
            sim_log_close(&o->nodes[n].expected[g]);
        }
        free(o->groups[g].history);
        free(o->groups[g].leaders);
    }
    for (unsigned n = 0; n < SIM_NODES_MAX; n++) {
        drop_pendings(&o->nodes[n]);
    }
    free(o);
}

void sim_oracle_fail(struct sim_oracle *o, const char *oracle, const char *fmt, ...)
{
    struct sim_result *r = o->result;
    if (r->is_failed) {
        return;
    }
    r->is_failed = true;
    snprintf(r->oracle, sizeof r->oracle, "%s", oracle);
    int len = snprintf(r->text, sizeof r->text, "t=%.3f ms ", (double)o->clock->now_us / 1000);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->text + len, sizeof r->text - (size_t)len, fmt, ap);
    va_end(ap);
    sim_note(o->clock, "VIOLATION %s: %s", r->oracle, r->text);
}

bool sim_oracle_has_failed(const struct sim_oracle *o)
{
    return o->result->is_failed;
}

static struct replica *replica_of(struct sim_oracle *o, unsigned node, unsigned group)
{
    assert(node < o->nodes_count);
    assert(group < o->groups_count);
    return &o->groups[group].replicas[node];
}

static struct committed *history_at(struct group *g, uint64_t index)
{
    if (index >= g->history_cap) {
        uint64_t cap = g->history_cap == 0 ? 1024 : g->history_cap;
        while (cap <= index) {
            cap *= 2;
        }
        g->history = xrealloc(g->history, cap * sizeof *g->history);
        memset(g->history + g->history_cap, 0, (cap - g->history_cap) * sizeof *g->history);
        g->history_cap = cap;
    }
    return &g->history[index];
}

/* ---- Records ---- */

/* Entries @from and above leave the log of @node, unless an image up to @covered stands for them:
 * no committed one may be among them. */
static void check_dropped(struct sim_oracle *o, unsigned node, unsigned group,
                          const struct sim_log *log, uint64_t from, uint64_t covered,
                          const char *what)
{
    struct group *g = &o->groups[group];
    for (uint64_t i = from; i <= log->last_index && i <= g->committed_max; i++) {
        struct committed *c = history_at(g, i);
        struct sim_entry e = sim_log_get(log, i);
        if (i > covered && c->entry.term != 0 && e.term == c->entry.term) {
            sim_oracle_fail(o, "DROPPED",
                            "node %u group %u: %s drops committed entry %llu of term %llu", node,
                            group, what, (ull)i, (ull)e.term);
            return;
        }
    }
}

/* Apply @r to one view of the log; checks only where it concerns the host's own decision. */
static void record_apply(struct sim_oracle *o, unsigned node, struct sim_log *log,
                         const struct sim_record *r, bool is_check)
{
    switch (r->kind) {
    case SIM_RECORD_ENTRIES:
        if (is_check && r->index <= log->last_index) {
            check_dropped(o, node, r->group, log, r->index + r->entries_count, 0, "an overwrite");
        }
        for (unsigned i = 0; i < r->entries_count; i++) {
            uint64_t index = r->index + i;
            struct committed *c = history_at(&o->groups[r->group], index);
            if (is_check && c->entry.term != 0 && sim_log_get(log, index).term == c->entry.term &&
                (c->entry.term != r->entries[i].term || c->entry.hash != r->entries[i].hash)) {
                sim_oracle_fail(o, "DROPPED", "node %u group %u: committed entry %llu overwritten",
                                node, r->group, (ull)index);
            }
            sim_log_append(log, index, r->entries[i]);
        }
        break;
    case SIM_RECORD_CARRY:
        for (unsigned i = 0; i < r->entries_count; i++) {
            struct sim_entry e = sim_log_get(log, r->index + i);
            if (e.term == 0 || e.hash == 0) {
                sim_log_put(log, r->index + i, r->entries[i]);
            } else if (is_check && (e.term != r->entries[i].term || e.hash != r->entries[i].hash)) {
                sim_oracle_fail(o, "CARRY", "node %u group %u: entry %llu is carried as another",
                                node, r->group, (ull)(r->index + i));
            }
        }
        break;
    case SIM_RECORD_TRUNCATE:
        if (is_check) {
            check_dropped(o, node, r->group, log, r->index, 0, "a truncation");
            o->result->stats.truncations++;
        }
        sim_log_truncate(log, r->index);
        break;
    case SIM_RECORD_RESET:
        if (is_check) {
            check_dropped(o, node, r->group, log, 1, r->index, "a switch");
            o->result->stats.catchups++;
        }
        sim_log_reset(log, r->index, r->term);
        break;
    case SIM_RECORD_DELETE:
        sim_log_truncate(log, 0);
        break;
    case SIM_RECORD_BASE:
    case SIM_RECORD_VOTE:
        break;
    }
}

static void vote_apply(uint64_t *term, uint64_t *vote, const struct sim_record *r)
{
    if (r->kind == SIM_RECORD_DELETE) {
        *term = *vote = 0;
    } else if (r->kind == SIM_RECORD_VOTE) {
        *term = r->term;
        *vote = r->vote;
    }
}

static void check_vote(struct sim_oracle *o, unsigned node, const struct replica *p,
                       const struct sim_record *r)
{
    if (r->kind != SIM_RECORD_VOTE) {
        return;
    }
    if (r->term < p->queued_term) {
        sim_oracle_fail(o, "TERM", "node %u group %u: term %llu after %llu", node, r->group,
                        (ull)r->term, (ull)p->queued_term);
    } else if (r->term == p->queued_term && p->queued_vote != 0 && r->vote != p->queued_vote) {
        sim_oracle_fail(o, "VOTE", "node %u group %u: term %llu votes %llu then %llu", node,
                        r->group, (ull)r->term, (ull)p->queued_vote, (ull)r->vote);
    }
}

/* Another replica takes the place. */
static void begin_anew(struct replica *p)
{
    p->base_index = p->base_term = 0;
    p->commit_index = 0;
    p->seen_term = p->seen_vote = 0;
    p->is_leader = false;
    p->is_changed = true;
    sim_log_truncate(&p->rotted, 0);
}

static void voters_lose(struct voters *v, unsigned node)
{
    v->lost |= v->nodes & 1u << node;
    v->nodes &= ~(1u << node);
}

void sim_oracle_forget(struct sim_oracle *o, unsigned node, unsigned group)
{
    struct group *g = &o->groups[group];
    struct replica *p = replica_of(o, node, group);
    for (uint64_t i = 0; i < g->history_cap; i++) {
        voters_lose(&g->history[i].voters, node);
    }
    voters_lose(&g->voters, node);
    sim_log_copy(&p->lost, &p->durable);
    p->lost_base = p->base_index;
    begin_anew(p);
    sim_log_truncate(&p->queued, 0);
    sim_log_truncate(&p->durable, 0);
    p->queued_term = p->queued_vote = 0;
    p->durable_term = p->durable_vote = 0;
}

void sim_oracle_record(struct sim_oracle *o, unsigned node, struct sim_record r)
{
    struct replica *p = replica_of(o, node, r.group);
    struct node *n = &o->nodes[node];
    if (n->is_replaying) { /* Both views begin again with what the disk gave. */
        record_apply(o, node, &p->queued, &r, false);
        record_apply(o, node, &p->durable, &r, false);
        vote_apply(&p->queued_term, &p->queued_vote, &r);
        vote_apply(&p->durable_term, &p->durable_vote, &r);
        free(r.entries);
        return;
    }
    check_vote(o, node, p, &r);
    if (r.kind == SIM_RECORD_DELETE) {
        begin_anew(p);
    }
    record_apply(o, node, &p->queued, &r, true);
    vote_apply(&p->queued_term, &p->queued_vote, &r);
    struct pending *pending = xmalloc(sizeof *pending);
    pending->record = r;
    list_push_back(&n->pendings, &pending->queue);
}

void sim_oracle_durable(struct sim_oracle *o, unsigned node, uint64_t lsn)
{
    struct node *n = &o->nodes[node];
    n->durable_lsn = lsn;
    while (!list_is_empty(&n->pendings)) {
        struct pending *pending = container_of(n->pendings.next, struct pending, queue);
        struct sim_record *r = &pending->record;
        if (r->lsn > lsn) {
            return;
        }
        struct replica *p = replica_of(o, node, r->group);
        record_apply(o, node, &p->durable, r, false);
        vote_apply(&p->durable_term, &p->durable_vote, r);
        list_remove(&pending->queue);
        free(r->entries);
        free(pending);
    }
}

void sim_oracle_base(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index,
                     uint64_t term, uint64_t hash)
{
    struct replica *p = replica_of(o, node, group);
    struct committed *c = history_at(&o->groups[group], index);
    if (index < p->base_index) {
        sim_oracle_fail(o, "BASE", "node %u group %u: base %llu after %llu", node, group,
                        (ull)index, (ull)p->base_index);
    } else if (c->state_hash != 0 && c->state_hash != hash) {
        sim_oracle_fail(o, "STATE", "node %u group %u: base %llu has another state", node, group,
                        (ull)index);
    } else if (c->entry.term != 0 && term != 0 && c->entry.term != term) {
        sim_oracle_fail(o, "BASE", "node %u group %u: base %llu of term %llu, committed %llu", node,
                        group, (ull)index, (ull)term, (ull)c->entry.term);
    }
    p->base_index = index;
    p->base_term = term;
}

void sim_oracle_trim(struct sim_oracle *o, unsigned node, uint64_t lsn)
{
    struct node *n = &o->nodes[node];
    if (lsn > n->durable_lsn + 1) {
        sim_oracle_fail(o, "TRIM", "node %u trims below %llu, durable is %llu", node, (ull)lsn,
                        (ull)n->durable_lsn);
    }
    n->trimmed_lsn = lsn > n->trimmed_lsn ? lsn : n->trimmed_lsn;
}

void sim_oracle_crash(struct sim_oracle *o, unsigned node)
{
    struct node *n = &o->nodes[node];
    n->boot++;
    drop_pendings(n);
    for (unsigned g = 0; g < o->groups_count; g++) {
        struct replica *p = replica_of(o, node, g);
        p->is_leader = false;
        p->commit_index = 0;
        p->seen_term = 0;
        p->seen_vote = 0;
    }
}

void sim_oracle_replay_begin(struct sim_oracle *o, unsigned node)
{
    struct node *n = &o->nodes[node];
    n->is_replaying = true;
    for (unsigned g = 0; g < o->groups_count; g++) {
        struct replica *p = replica_of(o, node, g);
        sim_log_copy(&n->expected[g], &p->durable);
        n->expected_term[g] = p->durable_term;
        n->expected_vote[g] = p->durable_vote;
        sim_log_truncate(&p->queued, 0);
        sim_log_truncate(&p->durable, 0);
        p->queued_term = p->durable_term = 0;
        p->queued_vote = p->durable_vote = 0;
    }
}

/* Entries at or below the base may be gone: that is what trimming is for. What was queued may be
 * there although nobody was told: so a longer log, or another tail, is fine only if it is newer. */
static void check_replayed(struct sim_oracle *o, unsigned node, unsigned group)
{
    struct node *n = &o->nodes[node];
    struct replica *p = replica_of(o, node, group);
    const struct sim_log *was = &n->expected[group];
    if (p->durable_term < n->expected_term[group] ||
        (p->durable_term == n->expected_term[group] && n->expected_vote[group] != 0 &&
         p->durable_vote != n->expected_vote[group])) {
        sim_oracle_fail(o, "RECOVERY", "node %u group %u: term %llu vote %llu, was %llu and %llu",
                        node, group, (ull)p->durable_term, (ull)p->durable_vote,
                        (ull)n->expected_term[group], (ull)n->expected_vote[group]);
        return;
    }
    for (uint64_t i = p->base_index + 1; i <= was->last_index; i++) {
        struct sim_entry e = sim_log_get(was, i);
        struct sim_entry now = sim_log_get(&p->durable, i);
        if (e.term == now.term && e.hash == now.hash) {
            continue;
        }
        /* A truncation or a newer entry that was written, but not yet published as durable. */
        if (p->durable.last_index > 0 &&
            sim_log_get(&p->durable, p->durable.last_index).term > e.term) {
            continue;
        }
        struct committed *c = history_at(&o->groups[group], i);
        if (c->entry.term != e.term || e.term == 0) {
            continue;
        }
        sim_oracle_fail(o, "RECOVERY",
                        "node %u group %u: durable entry %llu of term %llu is %s after the restart",
                        node, group, (ull)i, (ull)e.term, now.term == 0 ? "gone" : "another");
        return;
    }
}

void sim_oracle_replay_end(struct sim_oracle *o, unsigned node, bool is_damaged)
{
    struct node *n = &o->nodes[node];
    n->is_replaying = false;
    for (unsigned g = 0; g < o->groups_count; g++) {
        struct replica *p = replica_of(o, node, g);
        if (is_damaged) {
            sim_log_copy(&p->rotted, &n->expected[g]);
        } else if (!p->is_changed) {
            check_replayed(o, node, g);
        }
        p->is_changed = false;
    }
}

/* ---- Views ---- */

static void look_leader(struct sim_oracle *o, unsigned node, unsigned group,
                        const struct sim_view *view)
{
    struct group *g = &o->groups[group];
    struct replica *p = replica_of(o, node, group);
    if (view->term >= g->leaders_cap) {
        uint64_t cap = g->leaders_cap == 0 ? 256 : g->leaders_cap;
        while (cap <= view->term) {
            cap *= 2;
        }
        g->leaders = xrealloc(g->leaders, cap * sizeof *g->leaders);
        memset(g->leaders + g->leaders_cap, 0, (cap - g->leaders_cap) * sizeof *g->leaders);
        g->leaders_cap = cap;
    }
    struct leadership *l = &g->leaders[view->term];
    if (l->is_known) {
        if (l->node != node || l->boot != o->nodes[node].boot) {
            sim_oracle_fail(o, "LEADERS", "group %u term %llu has leaders %u and %u%s", group,
                            (ull)view->term, l->node, node,
                            l->node == node ? " (after a restart)" : "");
        }
        return;
    }
    *l = (struct leadership){node, o->nodes[node].boot, true};
    o->result->stats.elections++;
    sim_trace(o->clock, "leader node %llu group %llu term %llu", node, group, view->term);
    /* Leader completeness: what earlier terms committed is in its log or under its base. */
    for (uint64_t i = p->base_index + 1; i <= g->committed_max; i++) {
        struct committed *c = history_at(g, i);
        if (c->entry.term != 0 && c->term < view->term &&
            sim_log_get(&p->queued, i).term != c->entry.term) {
            sim_oracle_fail(o, "COMPLETE",
                            "node %u leads group %u in term %llu without entry %llu, committed in "
                            "term %llu",
                            node, group, (ull)view->term, (ull)i, (ull)c->term);
            return;
        }
    }
}

static bool holds(const struct sim_log *log, uint64_t base_index, uint64_t index,
                  struct sim_entry entry)
{
    struct sim_entry e = sim_log_get(log, index);
    return index <= base_index || (e.term == entry.term && e.hash == entry.hash);
}

/* How many replicas hold this entry on their disks, or did before the damage: their acknowledgement
 * may have been under way. The first one is written by everybody at birth, and is committed by
 * that. */
static unsigned durable_count(struct sim_oracle *o, unsigned group, uint64_t index,
                              struct sim_entry entry, struct voters voters)
{
    unsigned count = 0;
    if (index == 1) {
        return voters.count;
    }
    for (unsigned n = 0; n < o->nodes_count; n++) {
        struct replica *p = replica_of(o, n, group);
        count += (voters.nodes >> n & 1) != 0 && (holds(&p->durable, p->base_index, index, entry) ||
                                                  holds(&p->rotted, 0, index, entry));
        count += (voters.lost >> n & 1) != 0 && holds(&p->lost, p->lost_base, index, entry);
    }
    return count;
}

static void commit_one(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index,
                       uint64_t term)
{
    struct group *g = &o->groups[group];
    struct replica *p = replica_of(o, node, group);
    struct committed *c = history_at(g, index);
    struct sim_entry e = sim_log_get(&p->queued, index);
    if (e.term == 0 || (index <= p->base_index && e.hash == 0)) {
        if (index > p->base_index) {
            sim_oracle_fail(o, "LOG", "node %u group %u commits %llu, which is not in its log",
                            node, group, (ull)index);
        }
        return;
    }
    if (c->entry.term == 0) {
        c->entry = e;
        c->term = term;
        c->voters = g->voters = p->voters;
        o->result->stats.entries++;
        if (index > g->committed_max) {
            g->committed_max = index;
        }
        unsigned count = durable_count(o, group, index, e, p->voters);
        if (count <= p->voters.count / 2) {
            sim_oracle_fail(o, "COMMIT", "node %u group %u commits %llu, on the disks of %u of %u",
                            node, group, (ull)index, count, p->voters.count);
        }
    } else if (c->entry.term != e.term || (e.hash != 0 && c->entry.hash != e.hash)) {
        sim_oracle_fail(o, "DIVERGED",
                        "node %u group %u commits %llu of term %llu, committed was term %llu", node,
                        group, (ull)index, (ull)e.term, (ull)c->entry.term);
    }
}

void sim_oracle_look(struct sim_oracle *o, unsigned node, unsigned group,
                     const struct sim_view *view)
{
    struct replica *p = replica_of(o, node, group);
    p->voters = (struct voters){view->voters, view->voters_lost, view->voters_count};
    if (view->voters_count == 0) {
        p->voters = (struct voters){(1u << o->nodes_count) - 1, 0, o->nodes_count};
    }
    if (view->term < p->seen_term) {
        sim_oracle_fail(o, "TERM", "node %u group %u: term %llu after %llu", node, group,
                        (ull)view->term, (ull)p->seen_term);
    }
    if (view->term == p->seen_term && p->seen_vote != 0 && view->voted_for != p->seen_vote) {
        sim_oracle_fail(o, "VOTE", "node %u group %u: term %llu votes %llu then %llu", node, group,
                        (ull)view->term, (ull)p->seen_vote, (ull)view->voted_for);
    }
    p->seen_term = view->term;
    p->seen_vote = view->voted_for;
    /* A leadership whose term is not on its own disk yet is invisible: after a crash the term may
     * begin again. */
    if (view->is_leader && view->term <= p->durable_term) {
        look_leader(o, node, group, view);
    }
    p->is_leader = view->is_leader;
    if (view->commit_index == 0) {
        return; /* No instance at the moment. */
    }
    if (view->commit_index < p->commit_index && view->commit_index < p->base_index) {
        sim_oracle_fail(o, "COMMIT", "node %u group %u: commit %llu after %llu, base %llu", node,
                        group, (ull)view->commit_index, (ull)p->commit_index, (ull)p->base_index);
    }
    uint64_t from = p->commit_index;
    if (view->commit_index == from) {
        return;
    }
    sim_trace(o->clock, "commit node %llu group %llu index %llu", node, group, view->commit_index);
    p->commit_index = view->commit_index;
    for (uint64_t i = from + 1; i <= view->commit_index; i++) {
        commit_one(o, node, group, i, view->term);
    }
}

void sim_oracle_applied(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index,
                        struct sim_entry entry, uint64_t state_hash)
{
    struct committed *c = history_at(&o->groups[group], index);
    assert(entry.term != 0);
    if (c->entry.term != 0 && (c->entry.term != entry.term || c->entry.hash != entry.hash)) {
        sim_oracle_fail(o, "DIVERGED", "node %u group %u applies another entry %llu", node, group,
                        (ull)index);
    } else if (c->entry.term == 0) {
        sim_oracle_fail(o, "EARLY", "node %u group %u applies %llu before anybody committed it",
                        node, group, (ull)index);
    }
    if (c->state_hash == 0) {
        c->state_hash = state_hash;
    } else if (c->state_hash != state_hash) {
        sim_oracle_fail(o, "STATE", "node %u group %u has another state at %llu", node, group,
                        (ull)index);
    }
}

void sim_oracle_image(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index,
                      uint64_t term, uint64_t state_hash)
{
    sim_oracle_base(o, node, group, index, term, state_hash);
    struct replica *p = replica_of(o, node, group);
    if (p->commit_index < index) {
        p->commit_index = index;
    }
}

/* The entry is on the disks of a majority of the configuration that committed it, or of a later
 * one. */
static bool is_kept(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index)
{
    struct group *g = &o->groups[group];
    struct committed *c = history_at(g, index);
    const struct voters all[] = {c->voters, g->voters, replica_of(o, node, group)->voters};
    for (unsigned i = 0; i < 3 && c->entry.term != 0; i++) {
        if (durable_count(o, group, index, c->entry, all[i]) > all[i].count / 2) {
            return true;
        }
    }
    return false;
}

void sim_oracle_ack(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index,
                    struct sim_entry entry)
{
    struct group *g = &o->groups[group];
    struct committed *c = history_at(g, index);
    o->result->stats.acks++;
    if (c->entry.term != entry.term || c->entry.hash != entry.hash) {
        sim_oracle_fail(o, "ACK", "node %u group %u acks %llu, which is not what was committed",
                        node, group, (ull)index);
        return;
    }
    if (!is_kept(o, node, group, index)) {
        sim_oracle_fail(o, "ACK", "node %u group %u acks %llu, on the disks of too few", node,
                        group, (ull)index);
    }
    if (c->acked_hash != 0) {
        sim_oracle_fail(o, "ACK", "group %u: %llu is acked twice", group, (ull)index);
    }
    c->acked_hash = entry.hash;
    g->acked_max = index > g->acked_max ? index : g->acked_max;
}

void sim_oracle_promise(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index)
{
    struct group *g = &o->groups[group];
    o->result->stats.acks++;
    if (!is_kept(o, node, group, index)) {
        sim_oracle_fail(o, "ACK",
                        "node %u group %u acks what entry %llu holds, on the disks of too few",
                        node, group, (ull)index);
    }
    g->acked_max = index > g->acked_max ? index : g->acked_max;
}

void sim_oracle_told(struct sim_oracle *o, unsigned node, unsigned group, uint64_t term)
{
    struct replica *p = replica_of(o, node, group);
    if (term > p->durable_term) {
        sim_oracle_fail(o, "FENCE", "node %u group %u tells term %llu, on its disk is %llu", node,
                        group, (ull)term, (ull)p->durable_term);
    }
}

void sim_oracle_told_index(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index)
{
    struct replica *p = replica_of(o, node, group);
    if (index > p->base_index && sim_log_get(&p->durable, index).term == 0) {
        sim_oracle_fail(o, "FENCE", "node %u group %u tells entry %llu, on its disk is %llu", node,
                        group, (ull)index, (ull)p->durable.last_index);
    }
}

/* ---- The end ---- */

uint64_t sim_oracle_committed(const struct sim_oracle *o, unsigned group)
{
    return o->groups[group].committed_max;
}

uint64_t sim_oracle_acked_max(const struct sim_oracle *o, unsigned group)
{
    return o->groups[group].acked_max;
}

uint64_t sim_oracle_state_hash(const struct sim_oracle *o, unsigned group, uint64_t index)
{
    const struct group *g = &o->groups[group];
    return index < g->history_cap ? g->history[index].state_hash : 0;
}

uint64_t sim_oracle_elections(const struct sim_oracle *o)
{
    return o->result->stats.elections;
}

static int hash_cmp(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x;
    uint64_t b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

/* Proposals are all different, so that one that is there twice shows. */
static void check_once(struct sim_oracle *o, unsigned group, bool is_stream)
{
    struct group *g = &o->groups[group];
    uint64_t *hashes = xmalloc((g->committed_max + 1) * sizeof *hashes);
    size_t count = 0;
    for (uint64_t i = 1; i <= g->committed_max; i++) {
        struct committed *c = history_at(g, i);
        if (c->acked_hash != 0 && c->acked_hash != c->entry.hash) {
            sim_oracle_fail(o, "LOST", "group %u: acked entry %llu is another", group, (ull)i);
        }
        if (c->entry.hash != 0 && c->entry.type == 1) {
            hashes[count++] = c->entry.hash;
        }
    }
    qsort(hashes, count, sizeof *hashes, hash_cmp);
    for (size_t i = 1; i < count; i++) {
        if (hashes[i] == hashes[i - 1] && !is_stream) {
            sim_oracle_fail(o, "TWICE", "group %u: one proposal is in the log twice", group);
        }
    }
    free(hashes);
}

void sim_oracle_end(struct sim_oracle *o, unsigned streams)
{
    for (unsigned g = 0; g < o->groups_count; g++) {
        check_once(o, g, (streams >> g & 1) != 0);
    }
}
