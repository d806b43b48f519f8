/* The meta group: its replica here, its effects, and what every node knows from it.
 *
 * Starting and ending replicas is deferred to the tick, because a group may not be made or
 * destroyed from inside a callback of the host. The flusher waits for it, so that meta's durable
 * index never passes an assignment whose CREATE record is not in the WAL (design 6, "born once").
 */
#include "cluster/js_meta.h"

#include <stdlib.h>

#include "broker/api_error.h"
#include "broker/api_reply.h"
#include "broker/interest.h"
#include "broker/meta.h"
#include "cluster/js_api.h"
#include "cluster/js_flush.h"
#include "cluster/js_image.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_leader.h"
#include "cluster/js_members.h"
#include "cluster/js_meta_image.h"
#include "cluster/js_meta_members.h"
#include "cluster/js_move.h"
#include "cluster/js_read.h"
#include "cluster/js_stream.h"
#include "cluster/js_version.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/peers.h"
#include "cluster/sha256.h"
#include "cluster/watchdog.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"
#include "storage/base/log.h"
#include "storage/store.h"
#include "storage/wal_thread.h"

#define NODE_REPORT_MS 500

/* The subjects of one stream in the table of all. */
struct js_subjects {
    const struct meta_stream *stream;
    struct interest_sub *subs;
    size_t count;
    UT_hash_handle hh; /* By stream. */
};

/* Something to do outside of the host's callbacks. */
struct js_action {
    struct list link;
    uint64_t gid;
    bool is_start;
    bool is_new;
    bool is_leave; /* Else, unless is_start: the stream is gone. */
    struct js_request *created_for;
};

/* ---- Who is who ---- */

const char *js_node_name(struct js *js, uint64_t node_id)
{
    const struct meta_node *n = meta_node_find(js->meta, node_id);
    struct peers_info info;
    if (node_id == js->ctx->node_id) {
        return js->ctx->server_name;
    }
    if (n != NULL) {
        return n->name;
    }
    if (js->ctx->peers != NULL && peers_get(js->ctx->peers, node_id, &info)) {
        return info.name;
    }
    return "Server name unknown at this time";
}

bool js_node_is_up(struct js *js, uint64_t node_id)
{
    struct peers_info info;
    return node_id == js->ctx->node_id ||
           (js->ctx->peers != NULL && peers_get(js->ctx->peers, node_id, &info) && info.is_up);
}

void js_peer_id(struct js *js, uint64_t node_id, char ret_text[9])
{
    const char *name = js_node_name(js, node_id);
    uint8_t digest[SHA256_BYTES];
    sha256_str(name, digest);
    api_hash_text(digest, ret_text);
}

/* ---- Subjects of all streams ---- */

static void subjects_add(struct js *js, const struct meta_stream *s)
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

/* ---- Effects ---- */

/* A replica is to be here. */
static bool is_here(const struct js *js, const struct meta_stream *s)
{
    return meta_raft_id_on(s, js->ctx->node_id) != 0;
}

/* One is to run: also one that is on its way out, and may be a voter still. */
static bool is_to_run(struct js *js, const struct meta_stream *s)
{
    struct group_found found;
    return is_here(js, s) || js_group_found(js, s->gid, &found);
}

static void act(struct js *js, uint64_t gid, bool is_start, bool is_new,
                struct js_request *created_for)
{
    struct js_action *a = xcalloc(1, sizeof *a);
    *a = (struct js_action){
        .gid = gid, .is_start = is_start, .is_new = is_new, .created_for = created_for};
    list_push_back(&js->actions, &a->link);
    loop_again(js->loop);
}

void js_meta_leave(struct js *js, uint64_t gid)
{
    LIST_FOR(it, &js->actions)
    {
        const struct js_action *a = container_of(it, struct js_action, link);
        if (a->gid == gid && !a->is_start) {
            return;
        }
    }
    act(js, gid, false, false, NULL);
    container_of(js->actions.prev, struct js_action, link)->is_leave = true;
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

static void on_created(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                       uint64_t index)
{
    struct js *js = arg;
    subjects_add(js, s);
    if (is_here(js, s)) {
        struct js_request *r = request_for(asker, "stream_create_response", index);
        if (r != NULL) {
            r->is_create = true;
        }
        act(js, s->gid, true, true, r);
    }
}

static void on_repeated(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                        uint64_t index)
{
    struct js *js = arg;
    if (is_here(js, s) && asker->inbox.len > 0) {
        /* Behind its start, which may not have been carried out yet. */
        act(js, s->gid, true, true, request_for(asker, "stream_create_response", index));
    }
}

static void on_updated(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                       uint64_t index)
{
    struct js *js = arg;
    subjects_remove(js, s);
    subjects_add(js, s);
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
    if (is_to_run(js, s)) {
        act(js, s->gid, true, true, NULL);
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
    subjects_add(js, s);
    if (is_to_run(js, s)) {
        act(js, s->gid, true, true, NULL);
    }
}

void js_meta_end_stream(struct js *js, const struct meta_stream *s)
{
    subjects_remove(js, s);
    js_lane_forget(js, s->gid);
    act(js, s->gid, false, false, NULL);
}

void js_meta_replace_stream(struct js *js, const struct meta_stream *old,
                            const struct meta_stream *s)
{
    subjects_remove(js, old);
    subjects_add(js, s);
    struct js_stream *st = js_stream_find(js, s->gid);
    if (is_to_run(js, s) && old->placed != s->placed) {
        act(js, s->gid, true, true, NULL);
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

/* ---- The group ---- */

static void apply(struct js *js, const struct group_entry *entry)
{
    if (js->is_meta_failed) {
        return;
    }
    if (entry->type == GROUP_ENTRY_COMMAND) {
        int rv = meta_apply(js->meta, entry->index, entry->bytes);
        if (rv != 0) {
            log_err("The meta group stops here at index %llu: %s", (unsigned long long)entry->index,
                    js_version_error_text(rv));
            js->is_meta_failed = true;
            group_halt(js->meta_group, rv != ERR_VERSION);
            return;
        }
        log_dbg("Meta: applied index %llu, hash %016llx", (unsigned long long)entry->index,
                (unsigned long long)meta_hash(js->meta));
    }
    js->meta_index = entry->index;
    js->meta_term = entry->term;
    if (js->meta_dirty_since_ms == 0) {
        js->meta_dirty_since_ms = (int64_t)loop_now_ms(js->loop);
    }
    group_set_applied(js->meta_group, entry->index);
    js_read_applied(&js->meta_reads, js->meta_index);
    js_api_wake(js);
}

static void fsm_apply(void *ctx, const struct group_entry *entry)
{
    struct js *js = ctx;
    struct watchdog_at was = loop_enter(js->loop, WATCHDOG_APPLY, META_GID);
    apply(js, entry);
    loop_leave(js->loop, was);
}

static void fsm_lost(void *ctx, uint64_t token, enum group_lost why)
{
    (void)ctx;
    (void)token;
    (void)why; /* Who asked hears nothing and asks again: requests are idempotent. */
}

static void fsm_role(void *ctx, const struct group_role *role)
{
    struct js *js = ctx;
    if (role->is_leader && !js->is_meta_leader) {
        log_inf("JetStream cluster new metadata leader: %s/%s", js->ctx->server_name,
                js->ctx->cluster_name);
        js->meta_led_ms = loop_now_ms(js->loop);
    }
    js->is_meta_leader = role->is_leader;
    js->meta_leader_id = role->leader_node_id;
    js->meta_leader_term = role->term;
    js_api_wake(js);
}

static void fsm_read_done(void *ctx, uint64_t token, bool is_ok, uint64_t index)
{
    struct js *js = ctx;
    js_read_proven(&js->meta_reads, token, is_ok, index, js->meta_index);
}

static struct group_base fsm_base(void *ctx)
{
    struct js *js = ctx;
    struct group_base base = {0, 0};
    store_stream_applied(js->meta_store, &base.index, &base.term);
    return base;
}

int js_meta_propose(struct js *js, struct slice entry)
{
    if (js->meta_group == NULL) {
        return ERR_NOTLEADER;
    }
    js_lock(js);
    int rv = group_propose(js->meta_group, entry, js_next_id(js));
    js_unlock(js);
    return rv;
}

/* ---- Start ---- */

struct restoring {
    struct meta *meta;
    int status; /* A version of the future says more than what follows from it. */
};

static void put_back(void *arg, struct slice key, struct slice value)
{
    struct restoring *r = arg;
    int rv = meta_restore_item(r->meta, key, value);
    r->status = r->status == ERR_VERSION || rv == 0 ? r->status : rv;
}

/* Meta has no messages; asking for them tells the store that its stream is in use. */
static void no_message(void *arg, const struct store_info *info)
{
    (void)arg;
    (void)info;
}

bool js_group_found(struct js *js, uint64_t gid, struct group_found *ret_found)
{
    return host_find_group(js->host, gid, ret_found);
}

static struct group_options group_options(struct js *js, uint64_t raft_id)
{
    struct group_options options = {.gid = META_GID,
                                    .raft_id = raft_id,
                                    .fsm = {.apply = fsm_apply,
                                            .lost = fsm_lost,
                                            .role_changed = fsm_role,
                                            .read_done = fsm_read_done,
                                            .base = fsm_base,
                                            .ctx = js},
                                    .priority = 0,
                                    .is_single = js->ctx->peers == NULL};
    js_image_fsm(&options.fsm);
    return options;
}

int js_meta_birth(struct js *js, const struct group_member *members, unsigned members_count,
                  uint64_t raft_id)
{
    struct group_options options = group_options(js, raft_id);
    options.is_preferred = members[0].node_id == js->ctx->node_id;
    js_lock(js);
    int rv = group_create(js->host, &options, members, members_count, &js->meta_group);
    js_unlock(js);
    return rv;
}

int js_meta_join(struct js *js, uint64_t raft_id)
{
    struct group_options options = group_options(js, raft_id);
    js_lock(js);
    int rv = group_create(js->host, &options, NULL, 0, &js->meta_group);
    js_unlock(js);
    return rv;
}

static int tell_unknown(const struct js *js)
{
    log_err(
        "The write-ahead log in %s/wal does not know the meta group of this node any more: this "
        "disk has lost data",
        js->dir);
    return ERR_CORRUPT;
}

static int open_group(struct js *js)
{
    struct group_found found;
    if (js_group_found(js, META_GID, &found)) {
        struct group_options options = group_options(js, found.raft_id);
        int rv = group_open(js->host, &options, &js->meta_group);
        if (rv == ERR_CORRUPT) {
            log_err("The checkpoints in %s/store hold less of the meta group than the write-ahead "
                    "log in %s/wal builds on: this disk has lost data",
                    js->dir, js->dir);
        }
        if (rv != ERR_NOTFOUND) {
            return rv;
        }
        /* There are records of it, and those that say whose they are were lost. */
        return tell_unknown(js);
    }
    if (store_find(js->store, META_GID) != NULL && js->meta_index > 0) {
        return tell_unknown(js);
    }
    if (js->ctx->peers == NULL) {
        struct group_member self = {1, js->ctx->node_id, GROUP_VOTER};
        return js_meta_birth(js, &self, 1, 1);
    }
    return 0; /* js_birth.c: nobody is there yet. */
}

struct meta_events js_meta_events(struct js *js)
{
    return (struct meta_events){on_created, on_repeated, on_updated, on_placed, on_deleted,
                                on_refused, on_node,     on_removed, js};
}

int js_meta_load(struct js *js, const struct meta_events *events)
{
    js->meta = meta_new(events);
    js->is_meta_failed = false;
    struct restoring restoring = {js->meta, 0};
    int rv = store_stream_load(js->meta_store, no_message, put_back, &restoring);
    store_stream_applied(js->meta_store, &js->meta_index, &js->meta_term);
    rv = rv == 0 ? restoring.status : rv;
    rv = rv == 0 ? meta_restore_end(js->meta) : rv;
    if (rv == 0 && meta_applied(js->meta) > js->meta_index) {
        rv = ERR_CORRUPT;
    }
    js->is_meta_failed = rv != 0;
    if (rv == 0) {
        log_dbg("Meta: restored at index %llu, hash %016llx", (unsigned long long)js->meta_index,
                (unsigned long long)meta_hash(js->meta));
    }
    js->meta_flushed_index = js->meta_index;
    return rv;
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

static void discard_gone(struct js *js)
{
    struct gone g = {.meta = js->meta};
    host_each_group(js->host, note_gone_group, &g);
    store_each_stream(js->store, note_gone_stream, &g);
    for (size_t i = 0; i < g.count; i++) {
        discard(js, g.gids[i]);
    }
    free(g.gids);
}

/* At the start of the node: what the WAL knows goes on, also if it is to leave; what it does not
 * know is new, or lost. */
static void start_found(struct js *js, const struct meta_stream *s)
{
    struct group_found found;
    uint64_t raft_id = meta_raft_id_on(s, js->ctx->node_id);
    bool is_new = js->meta_new_from != 0 && raft_id >= js->meta_new_from;
    if (js_group_found(js, s->gid, &found) || (raft_id != 0 && !is_new)) {
        js_stream_start(js, s, false);
    } else if (raft_id != 0) {
        act(js, s->gid, true, true, NULL);
    } else if (store_find(js->store, s->gid) != NULL) {
        store_stream_delete(store_find(js->store, s->gid)); /* It left before this start. */
    }
}

int js_meta_start(struct js *js)
{
    struct interest_options subjects = {.seed = node_random(),
                                        .cache_max = INTEREST_CACHE_MAX_DEFAULT};
    js->subjects = interest_new(&subjects);
    js->meta_store = store_find(js->store, META_GID);
    struct meta_events events = js_meta_events(js);
    int rv = 0;
    if (js->meta_store == NULL) {
        js->meta = meta_new(&events);
        js->meta_store = store_stream_create(js->store, META_GID, META_GID);
    } else {
        rv = js_meta_load(js, &events);
    }
    if (rv == ERR_VERSION) {
        log_err("The meta state in %s/store cannot be read: %s", js->dir,
                js_version_error_text(rv));
        return rv;
    }
    if (rv != 0) {
        log_err("The meta state in %s/store cannot be read", js->dir);
        return ERR_CORRUPT;
    }
    rv = js_meta_image_start(js);
    if (rv != 0) {
        return rv;
    }
    discard_gone(js);
    const struct meta_stream **list = meta_streams_sorted(js->meta);
    size_t count = meta_streams_count(js->meta);
    for (size_t i = 0; i < count; i++) {
        subjects_add(js, list[i]);
        start_found(js, list[i]);
    }
    free(list);
    return open_group(js);
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

void js_meta_stop(struct js *js)
{
    if (js->meta == NULL) {
        return;
    }
    js_read_close(&js->meta_reads);
    LIST_FOR_SAFE(it, tmp, &js->actions)
    {
        action_free(container_of(it, struct js_action, link));
    }
    struct js_subjects *t;
    struct js_subjects *next;
    HASH_ITER(hh, js->stream_subjects, t, next)
    {
        subjects_remove(js, t->stream);
    }
    interest_free(js->subjects);
    meta_free(js->meta);
}

/* ---- Turns ---- */

bool js_meta_is_born(const struct js *js)
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
    if (s != NULL && st == NULL && is_to_run(js, s)) {
        if (!is_place_free(js, a->gid)) {
            return false;
        }
        js_stream_start(js, s, a->is_new);
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
    if (is_here(js, s)) {
        act(js, s->gid, true, true, NULL); /* Wanted again, as another one. */
    }
}

void js_meta_actions(struct js *js)
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

static void tell_losses(struct js *js)
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

void js_meta_tick(struct js *js)
{
    uint64_t now = loop_now_ms(js->loop);
    if (js->meta_group != NULL) {
        tell_losses(js);
        if (js->is_meta_failed) {
            (void)js_move_away(js, js->meta_group);
        }
    }
    if (!js->is_meta_leader || js->is_meta_failed || now - js->node_report_ms < NODE_REPORT_MS) {
        return;
    }
    js->node_report_ms = now;
    js_meta_members_tick(js);
}
