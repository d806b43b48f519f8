/* For which streams somebody waits: thousands of groups may lose their leader at once, and their
 * campaigns are begun at a limited rate.
 *
 * Who waits is known here for this node's clients: publishes that are not answered, pulls that were
 * passed on; and for everybody: what a stream has to do at a time. It is looked at when a leader's
 * node is down, before campaigns begin; what comes to a stream without a leader says so as it
 * comes. */
#include "cluster/js_wait.h"

#include "broker/stream.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_pull.h"
#include "cluster/js_stream.h"
#include "raft/host.h"

#define SOON_NS 1000000000ll /* Before all of many groups have had their turn. */

void js_wait_set(struct js *js, uint64_t gid, bool is_waiting)
{
    struct js_stream *st = js_stream_find(js, gid);
    if (st != NULL && st->group != NULL) {
        js_lock(js);
        group_set_waiting(st->group, is_waiting);
        js_unlock(js);
    }
}

static bool is_due_soon(struct js_stream *st)
{
    return st->state == JS_STREAM_OK &&
           stream_next_due(st->machine) <= js_stream_now_ns(st) + SOON_NS;
}

void js_wait_peer_down(struct js *js, uint64_t node_id)
{
    js_lock(js);
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        if (st->group != NULL && js_lane_leader_of(js, st->gid) == node_id) {
            group_set_waiting(st->group, js_lane_is_used(js, st->gid) || is_due_soon(st));
        }
    }
    js_pull_mark_waiting(js, node_id);
    js_unlock(js);
}
