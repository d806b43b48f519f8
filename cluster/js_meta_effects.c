/* What follows from an entry of meta: replicas that start and end, subjects that are routed, and
 * answers to who asked. Each node does this for itself. */
#include "cluster/js_meta_effects.h"

#include <stdlib.h>

#include "broker/api_error.h"
#include "broker/api_reply.h"
#include "broker/interest.h"
#include "broker/meta.h"
#include "cluster/js_advisory.h"
#include "cluster/js_api.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_leader.h"
#include "cluster/js_replicas.h"
#include "cluster/js_stream.h"
#include "cluster/node.h"
#include "cluster/peers.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/log.h"

/* The subjects of one stream in the table of all. */
struct js_subjects {
    const struct meta_stream *stream;
    struct interest_sub *subs;
    size_t count;
    UT_hash_handle hh; /* By stream. */
};

void js_meta_subjects_add(struct js *js, const struct meta_stream *s)
{
    struct js_subjects *t = xcalloc(1, sizeof *t);
    t->stream = s;
    t->count = s->config.subjects_count;
    t->subs = xcalloc(t->count, sizeof *t->subs);
    for (size_t i = 0; i < t->count; i++) {
        t->subs[i].owner = (void *)(uintptr_t)s;
        t->subs[i].kind = INTEREST_LOCAL;
        int rv = interest_insert(js->subjects, &t->subs[i], slice_str(s->config.subjects[i]),
                                 SLICE_EMPTY);
        if (rv != 0) {
            log_err("Subject %s of stream %s cannot be routed: %s", s->config.subjects[i],
                    s->config.name, err_text(rv));
        }
    }
    HASH_ADD_PTR(js->stream_subjects, stream, t);
}

static void subjects_remove(struct js *js, const struct meta_stream *s)
{
    struct js_subjects *t;
    HASH_FIND_PTR(js->stream_subjects, &s, t);
    if (t == NULL) {
        return;
    }
    HASH_DEL(js->stream_subjects, t);
    for (size_t i = 0; i < t->count; i++) {
        interest_remove(js->subjects, &t->subs[i]);
    }
    free(t->subs);
    free(t);
}

const struct meta_stream *js_meta_stream_of(struct js *js, struct slice subject)
{
    const struct interest_result *r = interest_match(js->subjects, subject);
    return r->plain_count == 0 ? NULL : r->plain[0]->subs[0]->owner;
}

static struct js_request *request_for(const struct meta_asker *asker, const char *type,
                                      uint64_t index)
{
    if (asker->inbox.len == 0) {
        return NULL;
    }
    struct js_request *r = xcalloc(1, sizeof *r);
    r->node_id = asker->node_id;
    r->inbox = xslicedup(asker->inbox);
    r->type = type;
    r->meta_index = index;
    return r;
}

static void tell(struct js *js, const struct meta_stream *s, enum js_action action)
{
    if (js->is_meta_own) {
        js_advisory_stream(js, slice_str(s->config.name), action);
    }
}

static void on_created(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                       uint64_t index)
{
    struct js *js = arg;
    js_meta_subjects_add(js, s);
    tell(js, s, JS_ACTION_CREATE);
    if (js_replicas_is_here(js, s)) {
        struct js_request *r = request_for(asker, "stream_create_response", index);
        if (r != NULL) {
            r->is_create = true;
        }
        js_replicas_start(js, s->gid, r);
    }
}

static void on_repeated(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                        uint64_t index)
{
    struct js *js = arg;
    if (js_replicas_is_here(js, s) && asker->inbox.len > 0) {
        /* Behind its start, which may not have been carried out yet. */
        js_replicas_start(js, s->gid, request_for(asker, "stream_create_response", index));
    }
}

static void on_updated(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                       uint64_t index)
{
    struct js *js = arg;
    subjects_remove(js, s);
    js_meta_subjects_add(js, s);
    tell(js, s, JS_ACTION_MODIFY);
    struct js_stream *st = js_stream_find(js, s->gid);
    if (st != NULL) {
        js_leader_config(st, &s->config, asker, index);
    }
}

/* The stream's leader confirms the delete: all ask it, and it answers for the stream until it has
 * applied the delete too. The asker's node when there is no such leader. */
static uint64_t confirming_node(struct js *js, uint64_t gid, const struct meta_asker *asker)
{
    uint64_t leader = js_lane_leader_of(js, gid);
    struct peers_info info;
    bool is_up = leader != 0 && leader != js->ctx->node_id && js->ctx->peers != NULL &&
                 peers_get(js->ctx->peers, leader, &info) && info.is_up;
    return is_up ? leader : asker->node_id;
}

/* Newcomers start; what is told to the others, and who goes, js_members.c sees by itself. */
static void on_placed(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                      uint64_t index)
{
    struct js *js = arg;
    if (js_replicas_is_to_run(js, s)) {
        js_replicas_start(js, s->gid, NULL);
    }
    if (js->is_meta_leader && asker->inbox.len > 0) {
        struct buf b = BUF_EMPTY;
        api_reply_success(&b, "stream_remove_peer_response");
        js_api_reply(js, asker->node_id, asker->inbox, index, SLICE_EMPTY, buf_slice(&b));
        buf_close(&b);
    }
}

static void on_deleted(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                       uint64_t index)
{
    struct js *js = arg;
    uint64_t by_node_id = confirming_node(js, s->gid, asker);
    js_meta_end_stream(js, s); /* Forgets the leader. */
    tell(js, s, JS_ACTION_DELETE);
    if (js->is_meta_leader && asker->inbox.len > 0) {
        struct buf b = BUF_EMPTY;
        api_reply_success(&b, "stream_delete_response");
        js_api_reply_by(js, by_node_id, asker->node_id, asker->inbox, index, SLICE_EMPTY,
                        buf_slice(&b));
        buf_close(&b);
    }
}

void js_meta_begin_stream(struct js *js, const struct meta_stream *s)
{
    js_meta_subjects_add(js, s);
    if (js_replicas_is_to_run(js, s)) {
        js_replicas_start(js, s->gid, NULL);
    }
}

void js_meta_end_stream(struct js *js, const struct meta_stream *s)
{
    subjects_remove(js, s);
    js_lane_forget(js, s->gid);
    js_replicas_end(js, s->gid);
}

void js_meta_replace_stream(struct js *js, const struct meta_stream *old,
                            const struct meta_stream *s)
{
    subjects_remove(js, old);
    js_meta_subjects_add(js, s);
    struct js_stream *st = js_stream_find(js, s->gid);
    if (js_replicas_is_to_run(js, s) && old->placed != s->placed) {
        js_replicas_start(js, s->gid, NULL);
    }
    if (st != NULL && old->version != s->version) {
        js_leader_config(st, &s->config, &(struct meta_asker){0}, s->version);
    }
}

static void on_refused(void *arg, const char *type, const struct api_error *error,
                       const struct meta_asker *asker, uint64_t index)
{
    struct js *js = arg;
    if (js->is_meta_leader && asker->inbox.len > 0) {
        struct buf b = BUF_EMPTY;
        api_reply_error(&b, type, error);
        js->api_errors++;
        js_api_reply(js, asker->node_id, asker->inbox, index, SLICE_EMPTY, buf_slice(&b));
        buf_close(&b);
    }
}

static void on_removed(void *arg, const struct meta_node *n, const struct meta_asker *asker,
                       uint64_t index)
{
    struct js *js = arg;
    log_wrn("Node %s is removed from the JetStream cluster%s", n->name,
            n->node_id == js->ctx->node_id ? ": this one. What it has is moved to others" : "");
    if (js->is_meta_leader && asker->inbox.len > 0) {
        struct buf b = BUF_EMPTY;
        api_reply_success(&b, "meta_server_remove_response");
        js_api_reply(js, asker->node_id, asker->inbox, index, SLICE_EMPTY, buf_slice(&b));
        buf_close(&b);
    }
}

static void on_node(void *arg, const struct meta_node *n)
{
    (void)arg;
    log_inf("Node %s is registered, start %llu of its identity", n->name,
            (unsigned long long)n->boot_count);
}

struct meta_events js_meta_events(struct js *js)
{
    return (struct meta_events){on_created, on_repeated, on_updated, on_placed, on_deleted,
                                on_refused, on_node,     on_removed, js};
}

void js_meta_subjects_start(struct js *js)
{
    struct interest_options options = {.seed = node_random(),
                                       .cache_max = INTEREST_CACHE_MAX_DEFAULT};
    js->subjects = interest_new(&options);
}

void js_meta_subjects_stop(struct js *js)
{
    struct js_subjects *t;
    struct js_subjects *next;
    HASH_ITER(hh, js->stream_subjects, t, next)
    {
        subjects_remove(js, t->stream);
    }
    interest_free(js->subjects);
}
