/* Handing leaderships over: who takes one, and when this node gives all of its own away.
 *
 * A leadership goes to a voter on a node that is up, not leaving, neither slow nor with a wrong
 * clock, and has all or nearly all of the log; among those to the one that leads the fewest
 * streams, then to the lowest node id. While it goes the group takes no proposals (some disk syncs
 * and round trips); publishes wait in their lanes, which send them to the new leader.
 *
 * A node gives all away when it is about to stop (js_leave), and while its disk is slow or its
 * clock wrong. */
#include "cluster/js_move.h"

#include <assert.h>

#include "broker/meta.h"
#include "broker/placement.h"
#include "broker/tags.h"
#include "cluster/js.h"
#include "cluster/js_disk.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/peers.h"
#include "raft/host.h"
#include "storage/base/err.h"
#include "storage/base/log.h"

#define LAG_MAX 64     /* Entries that a member may be behind: it has them before it is told. */
#define MOVES_MAX 256u /* Under way at a time: each costs records on three nodes. */

static struct js_load *load_of(struct js *js, uint64_t node_id)
{
    for (unsigned i = 0; i < js->loads_count; i++) {
        if (js->loads[i].node_id == node_id) {
            return &js->loads[i];
        }
    }
    assert(js->loads_count < sizeof js->loads / sizeof js->loads[0]);
    js->loads[js->loads_count] = (struct js_load){.node_id = node_id};
    return &js->loads[js->loads_count++];
}

/* How many streams each node leads, as known here; once per turn. */
static void count_loads(struct js *js)
{
    if (js->loads_turn == loop_turns(js->loop)) {
        return;
    }
    js->loads_turn = loop_turns(js->loop);
    js->loads_count = 0;
    for (const struct js_leader *k = js->leaders; k != NULL; k = k->hh.next) {
        struct peers_info info;
        bool is_known = k->node_id == js->ctx->node_id ||
                        (js->ctx->peers != NULL && peers_get(js->ctx->peers, k->node_id, &info));
        if (is_known) {
            load_of(js, k->node_id)->leaders++;
        }
    }
}

struct choice {
    bool is_present;  /* Somebody could take it, if not now. */
    uint64_t node_id; /* 0: nobody now. */
    bool is_poor;
    size_t leaders;
};

bool js_move_is_poor(const struct peers_info *info)
{
    return info->is_disk_slow || info->is_clock_skewed;
}

bool js_move_is_poor_here(const struct js *js)
{
    return js_disk_is_poor(js) || js->clock.agreed.is_skewed;
}

/* A voter elsewhere, on a node that is up and stays. */
static bool is_present(const struct js *js, const struct group_member_status *m,
                       struct peers_info *ret_info)
{
    return m->member.role == GROUP_VOTER && m->member.node_id != js->ctx->node_id &&
           peers_get(js->ctx->peers, m->member.node_id, ret_info) && ret_info->is_up &&
           !ret_info->is_leaving && !ret_info->is_disk_stuck;
}

/* It answers, and has all of the log or will before it is told. */
static bool is_current(const struct group_status *status, const struct group_member_status *m)
{
    return m->is_recent && m->match_index + LAG_MAX >= status->last_index;
}

/* The tags as they are: of a step-down a ! excludes nothing, nor does it in the reference. */
static bool suits(const struct js *js, uint64_t node_id, const struct placement *p)
{
    const struct meta_node *n = meta_node_find(js->meta, node_id);
    bool is_suited = p->cluster == NULL || strcmp(p->cluster, js->ctx->cluster_name) == 0;
    for (size_t i = 0; is_suited && i < p->tags_count; i++) {
        is_suited = n != NULL && tags_have(&n->tags, slice_str(p->tags[i]));
    }
    return is_suited;
}

static void consider(struct js *js, const struct group_status *status,
                     const struct group_member_status *m, const struct placement *where,
                     struct choice *best)
{
    uint64_t id = m->member.node_id;
    struct peers_info info;
    if (!is_present(js, m, &info) || !suits(js, id, where)) {
        return;
    }
    best->is_present = true;
    if (!is_current(status, m)) {
        return;
    }
    size_t leaders = load_of(js, id)->leaders;
    bool is_better = best->node_id == 0                        ? true
                     : js_move_is_poor(&info) != best->is_poor ? best->is_poor
                     : leaders != best->leaders                ? leaders < best->leaders
                                                               : id < best->node_id;
    if (is_better) {
        *best = (struct choice){true, id, js_move_is_poor(&info), leaders};
    }
}

bool js_move_is_fit(struct js *js, struct raft_group *group, uint64_t node_id)
{
    struct group_status status;
    struct peers_info info;
    group_status(group, &status);
    for (unsigned i = 0; i < status.members_count; i++) {
        const struct group_member_status *m = &status.members[i];
        if (m->member.node_id == node_id && is_present(js, m, &info)) {
            return is_current(&status, m) && !js_move_is_poor(&info);
        }
    }
    return false;
}

size_t js_move_load(struct js *js, uint64_t node_id)
{
    count_loads(js);
    return load_of(js, node_id)->leaders;
}

enum js_move js_move_to(struct js *js, struct raft_group *group, uint64_t node_id)
{
    js_lock(js);
    int rv = group_move_leader(group, node_id);
    js_unlock(js);
    if (rv == 0) {
        count_loads(js);
        load_of(js, node_id)->leaders++;
    }
    return rv == 0 || rv == ERR_BUSY ? JS_MOVE_BEGUN : JS_MOVE_LATER;
}

enum js_move js_move_away(struct js *js, struct raft_group *group)
{
    return js_move_where(js, group, &(struct placement){0});
}

enum js_move js_move_where(struct js *js, struct raft_group *group, const struct placement *where)
{
    struct group_status status;
    struct choice best = {0};
    if (group == NULL || js->ctx->peers == NULL) {
        return JS_MOVE_NONE;
    }
    group_status(group, &status);
    if (!status.is_core_leader || status.members_count <= 1) {
        return JS_MOVE_NONE;
    }
    count_loads(js);
    for (unsigned i = 0; i < status.members_count; i++) {
        consider(js, &status, &status.members[i], where, &best);
    }
    if (best.node_id == 0 || !status.role.is_leader) {
        return best.is_present ? JS_MOVE_LATER : JS_MOVE_NOBODY;
    }
    if (best.is_poor && js_move_is_poor_here(js) && !js->ctx->is_lame_duck) {
        return JS_MOVE_NOBODY; /* No better than here. */
    }
    return js_move_to(js, group, best.node_id);
}

/* ---- Giving all away ---- */

static void give(struct js *js, struct raft_group *group)
{
    if (js->moves_under_way >= MOVES_MAX) {
        js->leaderships_left++;
        return;
    }
    switch (js_move_away(js, group)) {
    case JS_MOVE_BEGUN:
    case JS_MOVE_LATER:
        js->moves_under_way++;
        js->leaderships_left++;
        break;
    case JS_MOVE_NOBODY:
        js->leaderships_kept++;
        break;
    case JS_MOVE_NONE:
        break;
    }
}

void js_move_tick(struct js *js)
{
    /* The leader of meta on a slow disk goes too: its log is short, and everybody waits for it. */
    if (!js->ctx->is_lame_duck && !js_move_is_poor_here(js)) {
        return;
    }
    js->moves_under_way = js->leaderships_left = js->leaderships_kept = 0;
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        if (st->group != NULL) {
            give(js, st->group);
        }
    }
    if (js->meta_group != NULL) {
        give(js, js->meta_group);
    }
}

void js_leave(struct js *js)
{
    js_move_tick(js);
    if (js->leaderships_left > 0) {
        log_inf("JetStream hands %u leaderships over to other nodes", js->leaderships_left);
    }
}

unsigned js_leave_left(const struct js *js, unsigned *ret_kept)
{
    *ret_kept = js->leaderships_kept;
    return js->leaderships_left;
}

bool js_is_quiet(const struct js *js)
{
    return js_lane_is_idle(js);
}
