/* Where replicas are to be, decided by the leader of the meta group: for new streams, other
 * placements and numbers of replicas, and peers that are to go. Decided once; the log says it, and
 * js_members.c carries it out. */
#include "cluster/js_api_place.h"

#include <stdlib.h>

#include "broker/api_error.h"
#include "broker/api_request.h"
#include "broker/meta.h"
#include "broker/placement.h"
#include "broker/stream_config.h"
#include "cluster/js_api_internal.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_meta.h"
#include "cluster/js_version.h"
#include "cluster/node_options.h"
#include "cluster/peers.h"
#include "raft/host.h"
#include "storage/base/buf.h"

#define SILENT_NS (5 * PEERS_HEARTBEAT_MS / 2 * INT64_C(1000000))

static void refuse(struct js *js, const struct js_api_call *call, enum api_error_code code)
{
    struct api_error e;
    api_error_set(&e, code, NULL);
    js_api_refuse(js, call, &e);
}

/* ---- Candidates ---- */

/* It says that it stops soon, or has missed heartbeats or closed connections and may be dead, which
 * is known only later. */
static bool is_doubtful(const struct peers_info *info)
{
    return info->is_leaving || !info->is_linked || info->active_ns > SILENT_NS;
}

static bool is_removed(struct js *js, uint64_t node_id)
{
    const struct meta_node *n = meta_node_find(js->meta, node_id);
    return n != NULL && n->is_removed;
}

static struct meta_choice choice_for(struct js *js, const struct placement *placement)
{
    return (struct meta_choice){
        .placement = placement,
        .cluster_name = js->ctx->cluster_name,
        .unique_tag = js->ctx->options->unique_tag,
        .is_anywhere = js->ctx->peers == NULL,
    };
}

/* Choose among those that follow the meta group: others would never hear of their replica. Not
 * @except, and none that a replica of @s (NULL: it is new) is just leaving. */
static bool choose(struct js *js, struct meta_choice *c, const struct meta_stream *s, size_t wanted,
                   uint64_t except)
{
    struct group_status status;
    struct meta_candidate list[HOST_MEMBERS_MAX];
    size_t count = 0;
    group_status(js->meta_group, &status);
    for (unsigned i = 0; i < status.members_count; i++) {
        uint64_t id = status.members[i].member.node_id;
        struct peers_info info = {.is_up = true,
                                  .is_linked = true,
                                  .is_jetstream = true,
                                  .is_leaving = js->ctx->is_lame_duck};
        bool is_known = id == js->ctx->node_id || peers_get(js->ctx->peers, id, &info);
        bool is_left_out =
            is_removed(js, id) || id == except || (s != NULL && meta_is_leaving(s, id));
        if (is_left_out) {
            continue;
        }
        if (is_known && info.is_up && info.is_jetstream && !info.is_disk_stuck) {
            list[count++] = (struct meta_candidate){id, is_doubtful(&info)};
        } else {
            c->is_offline = true;
        }
    }
    return meta_choose(js->meta, c, list, count, wanted);
}

bool js_api_add_nodes(struct js *js, const struct meta_stream *s, uint64_t nodes[META_REPLICAS_MAX],
                      size_t *count, size_t wanted, uint64_t except)
{
    struct meta_choice c = choice_for(js, &s->config.placement);
    for (size_t i = 0; i < *count; i++) {
        meta_choice_keep(&c, nodes[i]);
    }
    bool is_done = choose(js, &c, s, wanted, except);
    memcpy(nodes, c.nodes, sizeof c.nodes);
    *count = c.count;
    meta_choice_close(&c);
    return is_done;
}

static int no_peers(const struct meta_choice *c, struct api_error *ret_error)
{
    struct buf why = BUF_EMPTY;
    meta_choice_print(c, &why);
    int rv =
        api_error_set(ret_error, API_ERROR_CLUSTER_NO_PEERS, "%.*s", SLICE_ARG(buf_slice(&why)));
    buf_close(&why);
    return rv;
}

/* ---- STREAM.CREATE ---- */

bool js_api_knows_config(struct js *js, const struct stream_config *config,
                         struct api_error *ret_error)
{
    const char *feature;
    unsigned version = stream_config_version(config, &feature);
    bool is_known = version == 1 || js_version_of_meta(js) >= version;
    if (!is_known) {
        api_error_set(ret_error, API_ERROR_STREAM_INVALID_CONFIG,
                      "%s is a feature that not all servers are known to have", feature);
    }
    return is_known;
}

int js_api_place_create(struct js *js, const struct stream_config *config,
                        uint64_t ret_node_ids[META_REPLICAS_MAX], struct api_error *ret_error)
{
    struct meta_choice c = choice_for(js, &config->placement);
    int rv = 0;
    if (!choose(js, &c, NULL, (size_t)config->replicas_count, 0)) {
        rv = no_peers(&c, ret_error);
    }
    memcpy(ret_node_ids, c.nodes, sizeof c.nodes);
    meta_choice_close(&c);
    return rv;
}

/* ---- STREAM.UPDATE with another placement or number of replicas ---- */

/* Those that stay: the leader, then who is up, in the order they have; all that fit, or, if
 * @is_scaled, whatever their tags are. */
static void keep_nodes(struct js *js, struct meta_choice *c, const struct meta_stream *s,
                       size_t wanted, bool is_scaled)
{
    uint64_t leader = js_lane_leader_of(js, s->gid);
    for (unsigned pass = 0; pass < 3; pass++) {
        for (size_t i = 0; i < s->peers_count && c->count < wanted; i++) {
            uint64_t id = s->peers[i].node_id;
            bool is_turn = pass == 0 ? id == leader : pass == 1 ? js_node_is_up(js, id) : true;
            if (is_turn && is_scaled) {
                meta_choice_keep(c, id);
            } else if (is_turn) {
                (void)meta_choice_add(js->meta, c, id);
            }
        }
    }
}

int js_api_place_update(struct js *js, const struct meta_stream *old,
                        const struct stream_config *config,
                        uint64_t ret_node_ids[META_REPLICAS_MAX], size_t *ret_count,
                        struct api_error *ret_error)
{
    size_t wanted = (size_t)config->replicas_count;
    bool is_scaled = wanted != old->peers_count;
    bool is_moved = !placement_is_empty(&config->placement) &&
                    !placement_eq(&config->placement, &old->config.placement);
    *ret_count = 0;
    if (js->ctx->peers == NULL || (!is_scaled && !is_moved)) {
        return 0;
    }
    if (is_moved && is_scaled) {
        return api_error_set(ret_error, API_ERROR_STREAM_MOVE_AND_SCALE, NULL);
    }
    if (is_moved && old->old_count > 0) {
        return api_error_set(ret_error, API_ERROR_STREAM_MOVE_IN_PROGRESS, NULL);
    }
    struct meta_choice c = choice_for(js, &config->placement);
    keep_nodes(js, &c, old, wanted, is_scaled);
    size_t kept = c.count;
    int rv = 0;
    if (kept < wanted && !choose(js, &c, old, wanted, 0)) {
        rv = no_peers(&c, ret_error);
    } else if (is_scaled || kept < wanted) {
        memcpy(ret_node_ids, c.nodes, sizeof c.nodes);
        *ret_count = c.count;
    }
    meta_choice_close(&c);
    return rv;
}

/* ---- STREAM.PEER.REMOVE ---- */

/* The node of that name or id among the stream's; 0: none. */
static uint64_t peer_of(struct js *js, const struct meta_stream *s, const char *peer)
{
    for (size_t i = 0; i < s->peers_count && peer != NULL; i++) {
        uint64_t id = s->peers[i].node_id;
        char text[9];
        js_peer_id(js, id, text);
        if (strcmp(peer, js_node_name(js, id)) == 0 || strcmp(peer, text) == 0) {
            return id;
        }
    }
    return 0;
}

void js_api_peer_remove(struct js *js, const struct js_api_call *call)
{
    struct api_peer_request request;
    struct api_error e;
    if (js->ctx->peers == NULL) {
        refuse(js, call, API_ERROR_CLUSTER_REQUIRED);
        return;
    }
    if (api_read_peer_request(call->body, &request, &e) != 0) {
        js_api_refuse(js, call, &e);
        return;
    }
    const struct meta_stream *s = meta_stream_find(js->meta, call->stream);
    uint64_t gone = s == NULL ? 0 : peer_of(js, s, request.peer);
    api_peer_request_close(&request);
    if (s == NULL || gone == 0) {
        refuse(js, call,
               s == NULL ? API_ERROR_STREAM_NOT_FOUND : API_ERROR_CLUSTER_PEER_NOT_MEMBER);
        return;
    }
    uint64_t nodes[META_REPLICAS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < s->peers_count; i++) {
        if (s->peers[i].node_id != gone) {
            nodes[count++] = s->peers[i].node_id;
        }
    }
    if (!js_api_add_nodes(js, s, nodes, &count, s->peers_count, gone)) {
        refuse(js, call, API_ERROR_PEER_REMAP);
        return;
    }
    struct buf entry = BUF_EMPTY;
    struct meta_asker asker = {call->asker, call->inbox};
    meta_encode_place(&entry, js_now_ns(js), call->stream, nodes, count, &asker);
    if (js_meta_propose(js, buf_slice(&entry)) != 0) {
        refuse(js, call, API_ERROR_CLUSTER_NOT_AVAIL);
    }
    buf_close(&entry);
}

/* ---- SERVER.REMOVE ---- */

static uint64_t server_of(struct js *js, const struct api_peer_request *r)
{
    for (const struct meta_node *n = meta_nodes(js->meta); n != NULL; n = n->hh.next) {
        char text[9];
        js_peer_id(js, n->node_id, text);
        bool is_named = r->peer != NULL && strcmp(r->peer, n->name) == 0;
        bool is_id = r->peer_id != NULL && strcmp(r->peer_id, text) == 0;
        if (!n->is_removed && (is_named || is_id)) {
            return n->node_id;
        }
    }
    return 0;
}

void js_api_server_remove(struct js *js, const struct js_api_call *call)
{
    struct api_peer_request request;
    struct api_error e;
    if (js->ctx->peers == NULL) {
        refuse(js, call, API_ERROR_CLUSTER_REQUIRED);
        return;
    }
    if (api_read_peer_request(call->body, &request, &e) != 0) {
        js_api_refuse(js, call, &e);
        return;
    }
    uint64_t gone = server_of(js, &request);
    api_peer_request_close(&request);
    if (gone == 0) {
        refuse(js, call, API_ERROR_CLUSTER_SERVER_NOT_MEMBER);
        return;
    }
    struct buf entry = BUF_EMPTY;
    struct meta_asker asker = {call->asker, call->inbox};
    meta_encode_forget(&entry, js_now_ns(js), gone, &asker);
    if (js_meta_propose(js, buf_slice(&entry)) != 0) {
        refuse(js, call, API_ERROR_CLUSTER_NOT_AVAIL);
    }
    buf_close(&entry);
}
