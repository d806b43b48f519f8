/* LEADER.STEPDOWN of streams, consumers and meta: leadership goes to the server that is named, or
 * to the one of those with the tags that is best for it (js_move.c). Answered when the move has
 * begun; what comes of it is seen in INFO. */
#include "broker/api_error.h"
#include "broker/api_reply.h"
#include "broker/api_request.h"
#include "broker/placement.h"
#include "cluster/js_api.h"
#include "cluster/js_api_internal.h"
#include "cluster/js_internal.h"
#include "cluster/js_meta.h"
#include "cluster/js_move.h"
#include "cluster/peers.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/log.h"

static void refuse(struct js *js, const struct js_api_call *call, enum api_error_code code,
                   const char *text)
{
    struct api_error e;
    api_error_set(&e, code, "%s", text);
    js_api_refuse(js, call, &e);
}

static void refuse_preferred(struct js *js, const struct js_api_call *call, const char *name,
                             const char *why)
{
    struct api_error e;
    api_error_set(&e, API_ERROR_CLUSTER_NO_PEERS, "preferred server \"%.200s\" %s", name, why);
    js_api_refuse(js, call, &e);
}

/* The voter whose server has this name; 0: none. */
static uint64_t member_named(struct js *js, const struct group_status *status, const char *name)
{
    for (unsigned i = 0; i < status->members_count; i++) {
        const struct group_member *m = &status->members[i].member;
        if (m->role == GROUP_VOTER && strcmp(js_node_name(js, m->node_id), name) == 0) {
            return m->node_id;
        }
    }
    return 0;
}

static enum js_move move(struct js *js, const struct js_api_call *call, struct raft_group *group,
                         const struct group_status *status, const struct placement *where)
{
    struct peers_info info;
    if (where->preferred == NULL) {
        return js_move_where(js, group, where);
    }
    uint64_t node_id = member_named(js, status, where->preferred);
    if (node_id == 0) {
        refuse_preferred(js, call, where->preferred, "not known");
        return JS_MOVE_NONE;
    }
    if (node_id == js->ctx->node_id) {
        refuse_preferred(js, call, where->preferred, "is already leader");
        return JS_MOVE_NONE;
    }
    bool is_up = peers_get(js->ctx->peers, node_id, &info) && info.is_up;
    return is_up ? js_move_to(js, group, node_id) : JS_MOVE_NOBODY;
}

void js_api_stepdown(struct js *js, const struct js_api_call *call, struct raft_group *group,
                     const char *what)
{
    struct group_status status;
    struct placement where = {0};
    struct api_error e;
    struct buf b = BUF_EMPTY;
    group_status(group, &status);
    /* A group of one has nobody to hand over to; that counts as done, whatever was asked. */
    enum js_move rv = JS_MOVE_BEGUN;
    if (status.members_count > 1) {
        if (api_read_stepdown(call->body, &where, &e) != 0) {
            js_api_refuse(js, call, &e);
            return;
        }
        rv = move(js, call, group, &status, &where);
        placement_close(&where);
    }
    switch (rv) {
    case JS_MOVE_BEGUN:
        log_inf("JetStream: leadership of %s is handed over, as asked", what);
        api_reply_success(&b, js_api_type(call->op));
        js_api_reply(js, call->asker, call->inbox, 0, SLICE_EMPTY, buf_slice(&b));
        buf_close(&b);
        break;
    case JS_MOVE_NOBODY:
        refuse(js, call, API_ERROR_CLUSTER_NO_PEERS, "no replacement peer connected");
        break;
    case JS_MOVE_LATER:
        refuse(js, call, API_ERROR_RAFT_GENERAL, "no other replica has all of the log yet");
        break;
    case JS_MOVE_NONE:
        break; /* Refused already. */
    }
}
