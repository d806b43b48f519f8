/* Who belongs to the cluster, and who replicates the meta group: what its leader does about it.
 *
 *   a node is seen --> registered in meta's log, with a raft id for its replica of meta
 *   not a member yet --> it is told so (js_birth.c), and its empty replica starts
 *   all that belong --> target of the meta group: the largest odd number up to 5 vote, the rest
 *                       stands by; a voter stays one until it is removed (raft-guide-members M7)
 *   a node is removed --> its streams get other peers
 *
 * A node whose disk is gone comes back as another one under the same name: it takes the place of
 * the one that is gone. */
#include "cluster/js_meta_members.h"

#include <stdlib.h>

#include "broker/meta.h"
#include "broker/tags.h"
#include "cluster/js_api_place.h"
#include "cluster/js_birth.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_meta.h"
#include "cluster/js_version.h"
#include "cluster/node_options.h"
#include "cluster/peers.h"
#include "raft/host.h"
#include "storage/base/buf.h"

#define VOTERS_MAX 5
#define HEAL_MAX 16 /* Streams that get other peers, each time. */

static bool is_removed(struct js *js, uint64_t node_id)
{
    const struct meta_node *n = meta_node_find(js->meta, node_id);
    return n != NULL && n->is_removed;
}

/* ---- Registering ---- */

static uint64_t member_id(const struct group_status *status, uint64_t node_id)
{
    for (unsigned i = 0; i < status->members_count; i++) {
        if (status->members[i].member.node_id == node_id) {
            return status->members[i].member.raft_id;
        }
    }
    return 0;
}

/* The node of that name that is gone for good. */
static uint64_t namesake(struct js *js, uint64_t node_id, const char *name)
{
    for (const struct meta_node *n = meta_nodes(js->meta); n != NULL; n = n->hh.next) {
        if (n->node_id != node_id && !n->is_removed && strcmp(n->name, name) == 0 &&
            !js_node_is_up(js, n->node_id)) {
            return n->node_id;
        }
    }
    return 0;
}

static void report_node(struct js *js, struct meta_node *now)
{
    struct group_status status;
    const struct meta_node *n = meta_node_find(js->meta, now->node_id);
    unsigned version = js_version_of_meta(js);
    if (n != NULL && n->boot_count >= now->boot_count && strcmp(n->name, now->name) == 0 &&
        n->has_jetstream == now->has_jetstream && n->raft_id != 0 &&
        (version < 2 || tags_eq(&n->tags, &now->tags))) {
        return;
    }
    group_status(js->meta_group, &status);
    now->raft_id = member_id(&status, now->node_id);
    struct buf b = BUF_EMPTY;
    meta_encode_node(&b, js_now_ns(js), version, now,
                     n == NULL ? namesake(js, now->node_id, now->name) : 0);
    /* Not the leader any more, or too much under way: the next report says it again. */
    (void)js_meta_propose(js, buf_slice(&b));
    buf_close(&b);
}

/* ---- Joining ---- */

static bool look_at_peer(void *ctx, const struct peers_info *info)
{
    struct js *js = ctx;
    if (!info->is_up) {
        return true;
    }
    struct meta_node now = {.node_id = info->node_id,
                            .name = (char *)(uintptr_t)info->name,
                            .boot_count = info->boot_count,
                            .has_jetstream = info->is_jetstream,
                            .tags = info->tags};
    report_node(js, &now);
    const struct meta_node *n = meta_node_find(js->meta, info->node_id);
    if (n != NULL && !n->is_removed && n->has_jetstream && n->raft_id != 0) {
        js_birth_invite(js, info, n->raft_id);
    }
    return true;
}

/* ---- The members of the meta group ---- */

static const struct group_member_status *find_member(const struct group_status *status,
                                                     uint64_t raft_id)
{
    for (unsigned i = 0; i < status->members_count; i++) {
        if (status->members[i].member.raft_id == raft_id) {
            return &status->members[i];
        }
    }
    return NULL;
}

/* It has a replica of meta: as a member it would only be in the way of the others. */
static bool has_joined(struct js *js, uint64_t node_id)
{
    struct peers_info info;
    return peers_get(js->ctx->peers, node_id, &info) && js_birth_is_ours(js, &info);
}

/* It has or is to have a replica of some stream. */
static bool has_replicas(struct js *js, uint64_t node_id)
{
    const struct meta_stream **list = meta_streams_sorted(js->meta);
    size_t count = meta_streams_count(js->meta);
    bool is_any = false;
    for (size_t i = 0; i < count && !is_any; i++) {
        is_any = meta_raft_id_on(list[i], node_id) != 0 || meta_is_leaving(list[i], node_id);
    }
    free(list);
    return is_any;
}

/* A removed node that is up follows meta until it has heard that what it had is elsewhere. */
static bool is_gone(struct js *js, const struct meta_node *n)
{
    return n->is_removed && !(js_node_is_up(js, n->node_id) && has_replicas(js, n->node_id));
}

static void sort_by_id(struct group_member *members, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        for (unsigned k = i; k > 0 && members[k - 1].raft_id > members[k].raft_id; k--) {
            struct group_member swap = members[k];
            members[k] = members[k - 1];
            members[k - 1] = swap;
        }
    }
}

static void set_target(struct js *js)
{
    struct group_member members[HOST_MEMBERS_MAX];
    struct group_status status;
    unsigned count = 0, voters = 0;
    group_status(js->meta_group, &status);
    for (const struct meta_node *n = meta_nodes(js->meta); n != NULL; n = n->hh.next) {
        const struct group_member_status *m = find_member(&status, n->raft_id);
        if (is_gone(js, n) || !n->has_jetstream || n->raft_id == 0 || count == HOST_MEMBERS_MAX ||
            (m == NULL && !has_joined(js, n->node_id))) {
            continue;
        }
        bool is_voter = m != NULL && m->member.role == GROUP_VOTER;
        voters += is_voter;
        members[count++] =
            (struct group_member){n->raft_id, n->node_id, is_voter ? GROUP_VOTER : GROUP_STANDBY};
    }
    /* Who was there at the birth and could not be registered yet: it is down, and belongs to us. */
    for (unsigned i = 0; i < status.members_count && count < HOST_MEMBERS_MAX; i++) {
        const struct group_member *m = &status.members[i].member;
        if (meta_node_find(js->meta, m->node_id) == NULL) {
            voters += m->role == GROUP_VOTER;
            members[count++] = *m;
        }
    }
    sort_by_id(members, count);
    unsigned wanted = count >= VOTERS_MAX ? VOTERS_MAX : count >= 3 ? 3 : count;
    for (unsigned i = 0; i < count && voters < wanted; i++) {
        const struct group_member_status *m = find_member(&status, members[i].raft_id);
        if (members[i].role == GROUP_STANDBY && m != NULL && m->is_recent &&
            !is_removed(js, members[i].node_id)) {
            members[i].role = GROUP_VOTER;
            voters++;
        }
    }
    if (voters > 0) {
        js_lock(js);
        (void)group_set_target(js->meta_group, members, count);
        js_unlock(js);
    }
}

/* ---- Streams of removed nodes ---- */

/* Of one replica there is no other: it moves only if its node still has it. */
static bool wants_peers(struct js *js, const struct meta_stream *s)
{
    for (size_t i = 0; i < s->peers_count; i++) {
        if (is_removed(js, s->peers[i].node_id) &&
            (s->peers_count > 1 || js_node_is_up(js, s->peers[i].node_id))) {
            return true;
        }
    }
    return false;
}

static void heal(struct js *js)
{
    bool is_any = false;
    for (const struct meta_node *n = meta_nodes(js->meta); n != NULL; n = n->hh.next) {
        is_any = is_any || n->is_removed;
    }
    if (!is_any) {
        return;
    }
    const struct meta_stream **list = meta_streams_sorted(js->meta);
    size_t count = meta_streams_count(js->meta);
    unsigned healed = 0;
    for (size_t i = 0; i < count && healed < HEAL_MAX; i++) {
        uint64_t nodes[META_REPLICAS_MAX];
        size_t nodes_count = 0;
        if (!wants_peers(js, list[i])) {
            continue;
        }
        for (size_t k = 0; k < list[i]->peers_count; k++) {
            if (!is_removed(js, list[i]->peers[k].node_id)) {
                nodes[nodes_count++] = list[i]->peers[k].node_id;
            }
        }
        if (!js_api_add_nodes(js, list[i], nodes, &nodes_count, list[i]->peers_count, 0)) {
            continue; /* Until there are nodes for it. */
        }
        struct buf b = BUF_EMPTY;
        meta_encode_place(&b, js_now_ns(js), slice_str(list[i]->config.name), nodes, nodes_count,
                          NULL);
        (void)js_meta_propose(js, buf_slice(&b));
        buf_close(&b);
        healed++;
    }
    free(list);
}

void js_meta_members_tick(struct js *js)
{
    struct meta_node self = {.node_id = js->ctx->node_id,
                             .name = (char *)(uintptr_t)js->ctx->server_name,
                             .boot_count = js->ctx->boot_count,
                             .has_jetstream = true,
                             .tags = js->ctx->options->tags};
    report_node(js, &self);
    if (js->ctx->peers != NULL) {
        peers_each(js->ctx->peers, look_at_peer, js);
        set_target(js);
        heal(js);
    }
}
