/* Which replicas run on this node.
 *
 * Starting and ending them is deferred to the tick, because a group may not be made or destroyed
 * from inside a callback of the host. The flusher waits for it, so that meta's durable index never
 * passes an assignment whose CREATE record is not in the WAL (design 6, "born once"). */
#include "cluster/js_replicas.h"

#include <stdlib.h>

#include "broker/meta.h"
#include "cluster/js_flush.h"
#include "cluster/js_internal.h"
#include "cluster/js_leader.h"
#include "cluster/js_members.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/list.h"
#include "storage/base/log.h"
#include "storage/store.h"
#include "storage/wal_thread.h"

/* Something to do outside of the host's callbacks. */
struct js_action {
    struct list link;
    uint64_t gid;
    bool is_start;
    bool is_leave; /* Else, unless is_start: the stream is gone. */
    struct js_request *created_for;
};

bool js_replicas_is_here(const struct js *js, const struct meta_stream *s)
{
    return meta_raft_id_on(s, js->ctx->node_id) != 0;
}

bool js_replicas_is_to_run(struct js *js, const struct meta_stream *s)
{
    struct group_found found;
    return js_replicas_is_here(js, s) || js_group_found(js, s->gid, &found);
}

static void act(struct js *js, const struct js_action *action)
{
    struct js_action *a = xcalloc(1, sizeof *a);
    *a = *action;
    list_push_back(&js->actions, &a->link);
    loop_again(js->loop);
}

void js_replicas_start(struct js *js, uint64_t gid, struct js_request *created_for)
{
    act(js, &(struct js_action){.gid = gid, .is_start = true, .created_for = created_for});
}

void js_replicas_end(struct js *js, uint64_t gid)
{
    act(js, &(struct js_action){.gid = gid});
}

void js_replicas_leave(struct js *js, uint64_t gid)
{
    LIST_FOR(it, &js->actions)
    {
        const struct js_action *a = container_of(it, struct js_action, link);
        if (a->gid == gid && !a->is_start) {
            return;
        }
    }
    act(js, &(struct js_action){.gid = gid, .is_leave = true});
}

bool js_group_found(struct js *js, uint64_t gid, struct group_found *ret_found)
{
    return host_find_group(js->host, gid, ret_found);
}

/* A deleted stream's replica that was never started here has still its log and data. */
static void discard(struct js *js, uint64_t gid)
{
    struct store_stream *s = store_find(js->store, gid);
    js_lock(js);
    (void)host_destroy_found(js->host, gid); /* ERR_NOTFOUND: none was here. */
    js_unlock(js);
    if (s != NULL) {
        store_stream_delete(s);
    }
}

/* Gids that the durable state of meta has given to streams since deleted: the crash came between
 * this state and the end of their replicas. */
struct gone {
    const struct meta *meta;
    uint64_t *gids;
    size_t count;
};

static void add_gone(struct gone *g, uint64_t gid)
{
    if (meta_is_gone(g->meta, gid)) {
        g->gids = xrealloc(g->gids, (g->count + 1) * sizeof *g->gids);
        g->gids[g->count++] = gid;
    }
}

static void note_gone_group(void *arg, const struct group_found *found)
{
    add_gone(arg, found->gid);
}

static void note_gone_stream(void *arg, struct store_stream *s)
{
    add_gone(arg, store_stream_gid(s));
}

void js_replicas_discard_gone(struct js *js)
{
    struct gone g = {.meta = js->meta};
    host_each_group(js->host, note_gone_group, &g);
    store_each_stream(js->store, note_gone_stream, &g);
    for (size_t i = 0; i < g.count; i++) {
        discard(js, g.gids[i]);
    }
    free(g.gids);
}

void js_replicas_start_found(struct js *js, const struct meta_stream *s)
{
    struct group_found found;
    uint64_t raft_id = meta_raft_id_on(s, js->ctx->node_id);
    bool is_new = js->meta_new_from != 0 && raft_id >= js->meta_new_from;
    if (js_group_found(js, s->gid, &found) || (raft_id != 0 && !is_new)) {
        js_stream_start(js, s, false);
    } else if (raft_id != 0) {
        js_replicas_start(js, s->gid, NULL);
    } else if (store_find(js->store, s->gid) != NULL) {
        store_stream_delete(store_find(js->store, s->gid)); /* It left before this start. */
    }
}

bool js_replicas_are_born(const struct js *js)
{
    return list_is_empty(&js->actions) &&
           wal_thread_durable_lsn(js->wal_thread) >= js->create_lsn_max;
}

/* A replica that left may have data here yet, or in the store's list of what to forget. False: not
 * now. */
static bool is_place_free(struct js *js, uint64_t gid)
{
    struct group_found found;
    struct store_stream *s = store_find(js->store, gid);
    bool is_found = js_group_found(js, gid, &found);
    if ((s != NULL || !is_found) && js_flush_is_busy(js)) {
        return false; /* What is in the store is read, or goes: neither beside a pass. */
    }
    if (is_found) {
        return true; /* As it was left by a crash. */
    }
    if (s != NULL) {
        store_stream_delete(s);
    }
    if (store_is_forgetting(js->store, gid)) {
        (void)js_flush_now(js);
        return false;
    }
    return true;
}

/* False: it has to wait. */
static bool carry_out_start(struct js *js, struct js_action *a)
{
    const struct meta_stream *s = meta_stream_by_gid(js->meta, a->gid);
    struct js_stream *st = js_stream_find(js, a->gid);
    bool is_lost = st != NULL && (st->state == JS_STREAM_LOST || st->is_broken);
    if (s != NULL && is_lost && meta_raft_id_on(s, js->ctx->node_id) != st->raft_id) {
        if (js_flush_is_busy(js) || st->is_setting_aside) {
            return false;
        }
        js_stream_stop(st, JS_STOP_LEFT);
        st = NULL;
    }
    if (s != NULL && st == NULL && js_replicas_is_to_run(js, s)) {
        if (!is_place_free(js, a->gid)) {
            return false;
        }
        js_stream_start(js, s, true);
        st = js_stream_find(js, a->gid);
    }
    if (s != NULL && st != NULL && a->created_for != NULL) {
        js_leader_answer_created(st, a->created_for);
        a->created_for = NULL;
    }
    return true;
}

static void carry_out_leave(struct js *js, struct js_stream *st)
{
    const struct meta_stream *s = meta_stream_by_gid(js->meta, st->gid);
    if (s == NULL || !js_members_may_leave(st, s)) {
        return;
    }
    js_stream_stop(st, JS_STOP_LEFT);
    if (js_replicas_is_here(js, s)) {
        js_replicas_start(js, s->gid, NULL); /* Wanted again, as another one. */
    }
}

static void action_free(struct js_action *a)
{
    list_remove(&a->link);
    if (a->created_for != NULL) {
        free(a->created_for->inbox);
        free(a->created_for);
    }
    free(a);
}

void js_replicas_carry_out(struct js *js)
{
    LIST_FOR_SAFE(it, tmp, &js->actions)
    {
        struct js_action *a = container_of(it, struct js_action, link);
        struct js_stream *st = js_stream_find(js, a->gid);
        if (!a->is_start && js_flush_is_busy(js)) {
            return; /* The pass may still name it; in order, so that nothing overtakes. */
        }
        if (a->is_start) {
            if (!carry_out_start(js, a)) {
                return; /* Tried again each turn. */
            }
        } else if (a->is_leave) {
            if (st != NULL) {
                carry_out_leave(js, st);
            }
        } else if (st != NULL) {
            js_stream_stop(st, JS_STOP_DELETED);
        } else {
            discard(js, a->gid);
        }
        action_free(a);
    }
}

/* A replica that the WAL does not know is lost, unless meta was only about to say that its stream
 * is deleted. */
static bool is_replaceable(struct js *js, const struct js_stream *st)
{
    const struct meta_stream *s = meta_stream_by_gid(js->meta, st->gid);
    return s != NULL && s->peers_count > 1;
}

void js_replicas_tell_losses(struct js *js)
{
    struct group_status status;
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        if (st->state != JS_STREAM_LOST || st->is_loss_told) {
            continue;
        }
        group_status(js->meta_group, &status);
        if (status.role.leader_node_id == 0 || js->meta_index < status.commit_index) {
            return;
        }
        st->is_loss_told = true;
        log_err("Stream %s: the replica on this node does not start: it was born here, but its log "
                "is lost%s",
                st->name, is_replaceable(js, st) ? "; it is replaced" : ", and there is no other");
    }
}

void js_replicas_stop(struct js *js)
{
    LIST_FOR_SAFE(it, tmp, &js->actions)
    {
        action_free(container_of(it, struct js_action, link));
    }
}
