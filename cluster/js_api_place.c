/* Requests that move replicas, answered by the leader of the meta group: other numbers of replicas,
 * and peers that are to go. Where to is decided here, once; the log says it, and js_members.c
 * carries it out. */
#include <stdlib.h>

#include "broker/api_reply.h"
#include "cluster/js_api.h"
#include "storage/base/err.h"

#define SILENT_NS (5 * PEERS_HEARTBEAT_MS / 2 * INT64_C(1000000))

static void refuse(struct js *js, const struct js_api_call *call, enum api_error_code code)
{
    struct api_error e;
    api_error_set(&e, code, NULL);
    js_api_refuse(js, call, &e);
}

/* ---- Candidates ---- */

/* It says that it stops soon, or has missed heartbeats and may be dead, which is known only later.
 */
static bool is_doubtful(const struct peers_info *info)
{
    return info->is_leaving || info->active_ns > SILENT_NS;
}

static void add_candidates(struct js *js, const struct group_status *status, bool is_doubtful_turn,
                           struct js_candidates *c)
{
    for (unsigned i = 0; i < status->members_count; i++) {
        uint64_t id = status->members[i].member.node_id;
        struct peers_info info = {
            .is_up = true, .is_jetstream = true, .is_leaving = js->ctx->is_lame_duck};
        bool is_there = id == js->ctx->node_id || peers_get(js->ctx->peers, id, &info);
        const struct meta_node *n = meta_node_find(js->meta, id);
        bool is_removed = n != NULL && n->is_removed;
        if (is_there && !is_removed && info.is_up && info.is_jetstream && !info.is_disk_stuck &&
            is_doubtful(&info) == is_doubtful_turn) {
            c->ids[c->count++] = id;
        }
    }
}

/* A node that is no member of the meta group would never hear of its replica. */
void js_api_find_candidates(struct js *js, size_t wanted, struct js_candidates *c)
{
    struct group_status status;
    group_status(js->meta_group, &status);
    c->members_count = status.members_count;
    add_candidates(js, &status, false, c);
    if (c->count < wanted) {
        add_candidates(js, &status, true, c);
    }
}

static bool is_in(const uint64_t *ids, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

int js_api_add_nodes(struct js *js, const struct meta_stream *s, uint64_t nodes[META_REPLICAS_MAX],
                     size_t *count, size_t more, uint64_t except)
{
    struct js_candidates found = {0};
    uint64_t others[HOST_MEMBERS_MAX];
    size_t others_count = 0;
    js_api_find_candidates(js, *count + more, &found);
    for (size_t i = 0; i < found.count; i++) {
        if (!is_in(nodes, *count, found.ids[i]) && found.ids[i] != except &&
            !meta_is_leaving(s, found.ids[i])) {
            others[others_count++] = found.ids[i];
        }
    }
    int rv = meta_place(js->meta, others, others_count, more, nodes + *count);
    *count += rv == 0 ? more : 0;
    return rv;
}

/* ---- STREAM.UPDATE with another number of replicas ---- */

/* Those that stay: the leader, then who is up, in the order they have. */
static size_t keep_nodes(struct js *js, const struct meta_stream *s, size_t wanted,
                         uint64_t nodes[META_REPLICAS_MAX])
{
    uint64_t leader = js_lane_leader_of(js, s->gid);
    size_t count = 0;
    for (unsigned pass = 0; pass < 3; pass++) {
        for (size_t i = 0; i < s->peers_count && count < wanted; i++) {
            uint64_t id = s->peers[i].node_id;
            bool is_turn = pass == 0 ? id == leader : pass == 1 ? js_node_is_up(js, id) : true;
            if (is_turn && !is_in(nodes, count, id)) {
                nodes[count++] = id;
            }
        }
    }
    return count;
}

int js_api_place_update(struct js *js, const struct meta_stream *old,
                        const struct stream_config *config,
                        uint64_t ret_node_ids[META_REPLICAS_MAX], size_t *ret_count,
                        struct api_error *ret_error)
{
    size_t wanted = (size_t)config->replicas_count;
    *ret_count = 0;
    if (js->ctx->peers == NULL || wanted == old->peers_count) {
        return 0;
    }
    size_t count = keep_nodes(js, old, wanted, ret_node_ids);
    if (count < wanted && js_api_add_nodes(js, old, ret_node_ids, &count, wanted - count, 0) != 0) {
        return api_error_set(ret_error, API_ERROR_CLUSTER_NO_PEERS,
                             "no suitable peers for placement");
    }
    *ret_count = count;
    return 0;
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
    if (js_api_add_nodes(js, s, nodes, &count, 1, gone) != 0) {
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
