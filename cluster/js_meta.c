/* The meta group: its replica here, and what every node knows from it. */
#include "cluster/js_meta.h"

#include <stdlib.h>

#include "broker/api_reply.h"
#include "broker/meta.h"
#include "cluster/js_api.h"
#include "cluster/js_image.h"
#include "cluster/js_internal.h"
#include "cluster/js_meta_effects.h"
#include "cluster/js_meta_image.h"
#include "cluster/js_meta_members.h"
#include "cluster/js_move.h"
#include "cluster/js_read.h"
#include "cluster/js_replicas.h"
#include "cluster/js_version.h"
#include "cluster/loop.h"
#include "cluster/peers.h"
#include "cluster/sha256.h"
#include "cluster/watchdog.h"
#include "raft/host.h"
#include "storage/base/err.h"
#include "storage/base/log.h"
#include "storage/store.h"

#define NODE_REPORT_MS 500

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

/* ---- The group ---- */

static void apply(struct js *js, const struct group_entry *entry)
{
    if (js->is_meta_failed) {
        return;
    }
    if (entry->type == GROUP_ENTRY_COMMAND) {
        js->is_meta_own = entry->token != 0;
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

int js_meta_start(struct js *js)
{
    js_meta_subjects_start(js);
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
    js_replicas_discard_gone(js);
    const struct meta_stream **list = meta_streams_sorted(js->meta);
    size_t count = meta_streams_count(js->meta);
    for (size_t i = 0; i < count; i++) {
        js_meta_subjects_add(js, list[i]);
        js_replicas_start_found(js, list[i]);
    }
    free(list);
    return open_group(js);
}

void js_meta_stop(struct js *js)
{
    if (js->meta == NULL) {
        return;
    }
    js_read_close(&js->meta_reads);
    js_replicas_stop(js);
    js_meta_subjects_stop(js);
    meta_free(js->meta);
}

void js_meta_tick(struct js *js)
{
    uint64_t now = loop_now_ms(js->loop);
    if (js->meta_group != NULL) {
        js_replicas_tell_losses(js);
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
