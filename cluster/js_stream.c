/* One replica of a stream: committed entries go through the machine, its effects into the store
 * (js_state.c).
 *
 * An entry is stepped as it is committed: all metadata is resident, so apply never waits for the
 * disk, and the store only takes bytes into its memory tail. What only the leader does is in
 * js_leader.c. */
#include "cluster/js_stream.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/consumer.h"
#include "broker/log_time.h"
#include "broker/meta.h"
#include "broker/msg_index.h"
#include "broker/stream.h"
#include "broker/stream_state.h"
#include "cluster/js_batch.h"
#include "cluster/js_clock.h"
#include "cluster/js_image.h"
#include "cluster/js_internal.h"
#include "cluster/js_leader.h"
#include "cluster/js_members.h"
#include "cluster/js_mend.h"
#include "cluster/js_meta.h"
#include "cluster/js_read.h"
#include "cluster/js_rebuild.h"
#include "cluster/js_replicas.h"
#include "cluster/js_send.h"
#include "cluster/js_state.h"
#include "cluster/js_version.h"
#include "cluster/loop.h"
#include "cluster/watchdog.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"
#include "storage/base/log.h"
#include "storage/store.h"

#define ENTRY_BYTES_MAX (9u << 20)

/* ---- Applying ---- */

/* Millions of messages are not freed in the loop. Pool. */
static void free_garbage(void *arg)
{
    msg_garbage_free(arg);
}

static void freed(void *arg)
{
    (void)arg;
}

/* Who leads compares (design 4, Digests). */
static void report_digest(struct js_stream *st)
{
    uint64_t leader = group_role(st->group).leader_node_id;
    if (leader == 0 || leader == st->js->ctx->node_id) {
        return;
    }
    struct buf *b = js_batch_begin(st->js, leader, JS_ITEM_DIGEST);
    buf_append_u64(b, st->gid);
    buf_append_u64(b, st->digest.index);
    buf_append_u32(b, st->digest.machine_version);
    buf_append_u64(b, st->digest.hash);
    js_batch_end(st->js, leader);
}

static void carry_out(struct js_stream *st)
{
    const struct stream_effects *e = &st->effects;
    js_state_carry_out(st, e);
    if (e->has_digest) {
        log_dbg("Stream %s: digest at index %llu, hash %016llx", st->name,
                (unsigned long long)e->digest.index, (unsigned long long)e->digest.hash);
        st->digest = e->digest;
        st->digests_count = 0;
        report_digest(st);
    }
}

static void apply(struct js_stream *st, const struct group_entry *entry)
{
    if (st->state != JS_STREAM_OK) {
        return;
    }
    if (entry->type == GROUP_ENTRY_COMMAND) {
        int rv = stream_step(st->machine, entry->index, entry->term, entry->bytes, &st->effects);
        if (rv != 0) {
            log_err("Stream %s stops on this node at index %llu: %s", st->name,
                    (unsigned long long)entry->index, js_version_error_text(rv));
            st->state = JS_STREAM_STOPPED;
            group_halt(st->group, rv != ERR_VERSION);
            return;
        }
        js_stream_time_applied(st);
        carry_out(st);
        struct msg_garbage *garbage = stream_take_garbage(st->machine);
        if (garbage != NULL) {
            loop_work(st->js->loop, free_garbage, freed, garbage);
        }
    }
    st->applied_index = entry->index;
    st->applied_term = entry->term;
    group_set_applied(st->group, entry->index);
    js_stream_dirty(st);
    if (entry->type == GROUP_ENTRY_COMMAND && entry->token != 0) {
        js_leader_effects(st, entry->token);
    }
    js_read_applied(&st->reads, st->applied_index);
}

static void fsm_apply(void *ctx, const struct group_entry *entry)
{
    struct js_stream *st = ctx;
    struct watchdog_at was = loop_enter(st->js->loop, WATCHDOG_APPLY, st->gid);
    apply(st, entry);
    loop_leave(st->js->loop, was);
}

static void fsm_lost(void *ctx, uint64_t token, enum group_lost why)
{
    (void)why;
    js_leader_lost(ctx, token);
}

static void fsm_role(void *ctx, const struct group_role *role)
{
    js_leader_role(ctx, role);
}

static void fsm_read_done(void *ctx, uint64_t token, bool is_ok, uint64_t index)
{
    struct js_stream *st = ctx;
    if (token == JS_MEMBERS_TOKEN) {
        js_members_read_done(st, is_ok);
    } else {
        js_read_proven(&st->reads, token, is_ok, index, st->applied_index);
    }
}

static struct group_base fsm_base(void *ctx)
{
    struct js_stream *st = ctx;
    struct group_base base = {0, 0};
    store_stream_applied(st->store, &base.index, &base.term);
    return base;
}

/* ---- Start ---- */

/* Messages are missing. A replica that stands alone serves what it has; another one would decide
 * otherwise than the others do. */
static int open_damaged(struct js_stream *st, bool is_alone)
{
    log_err("Stream %s: messages of the checkpoint cannot be read in the store", st->name);
    if (is_alone) {
        return 0;
    }
    stream_free(st->machine);
    st->machine = NULL;
    return store_stream_is_whole(st->store) ? ERR_CORRUPT : ERR_BUSY;
}

static int open_state(struct js_stream *st, const struct meta_stream *s)
{
    st->store = store_find(st->js->store, st->gid);
    if (st->store == NULL) {
        st->store = store_stream_create(st->js->store, st->gid, st->sid);
        st->is_store_loaded = true;
        log_time_start(&st->time, s->created_ns, loop_mono_ns(st->js->loop));
        return stream_new(slice_str(s->born_json), s->created_ns, &consumer_ops, &st->machine);
    }
    store_stream_applied(st->store, &st->applied_index, &st->applied_term);
    st->flushed_index = st->applied_index;
    int rv = js_state_restore(st);
    return rv == ERR_CORRUPT && st->machine != NULL
               ? open_damaged(st, s->peers_count == 1 && s->old_count == 0)
               : rv;
}

/* Who was a member from the beginning writes the first configuration, whatever came after; others
 * start empty. */
static unsigned first_members(const struct js_stream *st, const struct meta_stream *s,
                              struct group_member *members)
{
    bool is_first = false;
    for (size_t i = 0; i < s->born_count; i++) {
        members[i] = (struct group_member){s->born[i].raft_id, s->born[i].node_id, GROUP_VOTER};
        is_first = is_first || s->born[i].raft_id == st->raft_id;
    }
    return is_first ? (unsigned)s->born_count : 0;
}

static int open_group(struct js_stream *st, const struct meta_stream *s, bool is_found, bool is_new)
{
    struct js *js = st->js;
    struct group_options options = {.gid = st->gid,
                                    .raft_id = st->raft_id,
                                    .fsm = {.apply = fsm_apply,
                                            .lost = fsm_lost,
                                            .role_changed = fsm_role,
                                            .read_done = fsm_read_done,
                                            .base = fsm_base,
                                            .ctx = st},
                                    .entry_bytes_max = ENTRY_BYTES_MAX,
                                    .priority = 1,
                                    .is_preferred = s->preferred_node_id == js->ctx->node_id,
                                    .is_single = s->peers_count == 1 && s->old_count == 0,
                                    .has_known_members = true};
    js_image_fsm(&options.fsm);
    if (is_found) {
        return group_open(js->host, &options, &st->group);
    }
    if (!is_new) {
        return ERR_NOTFOUND;
    }
    struct group_member members[META_REPLICAS_MAX];
    unsigned count = first_members(st, s, members);
    int rv = group_create(js->host, &options, members, count, &st->group);
    if (rv == 0) {
        struct group_status status;
        group_status(st->group, &status);
        js->create_lsn_max =
            status.create_lsn > js->create_lsn_max ? status.create_lsn : js->create_lsn_max;
    }
    return rv;
}

/* How it went. ERR_BUSY: it has to be mended first. */
static void started(struct js_stream *st, int rv)
{
    if (rv == ERR_BUSY) {
        st->state = JS_STREAM_MENDING;
        js_mend_wanted(st);
    } else if (rv != 0) {
        st->state = rv == ERR_NOTFOUND ? JS_STREAM_LOST : JS_STREAM_FAILED;
        if (rv == ERR_CORRUPT || rv == ERR_INVALID) {
            js_rebuild_wanted(st, "its state and its log do not fit together");
        }
        if (rv == ERR_IO) {
            log_err("Stream %s: the replica on this node does not start: %s: %s", st->name,
                    store_error_path(st->js->store), err_text(rv));
        } else if (rv != ERR_NOTFOUND) {
            log_err("Stream %s: the replica on this node does not start: %s", st->name,
                    js_version_error_text(rv));
        } /* Lost or deleted: meta will know, see js_meta_tick. */
    }
}

void js_stream_start(struct js *js, const struct meta_stream *s, bool is_new)
{
    struct js_stream *st = xcalloc(1, sizeof *st);
    st->image_of = (struct js_image_of){js, s->gid, s->sid};
    st->js = js;
    st->gid = s->gid;
    st->sid = s->sid;
    st->name = xslicedup(slice_str(s->config.name));
    snprintf(st->group_name, sizeof st->group_name, "S-R%zuF-%llu", s->peers_count,
             (unsigned long long)s->gid);
    list_init(&st->turn);
    list_init(&st->sends);
    list_init(&st->reads);
    list_init(&st->closed);
    list_init(&st->created_for);
    struct group_found found;
    bool is_found = js_group_found(js, s->gid, &found);
    /* What lives here may be on its way out: then it is another one that is wanted, or none. */
    st->raft_id = is_found ? found.raft_id : meta_raft_id_on(s, js->ctx->node_id);
    HASH_ADD(hh, js->streams, gid, sizeof st->gid, st);
    js_lock(js);
    int rv = open_state(st, s);
    if (rv == 0) {
        js_leader_open(st);
        rv = open_group(st, s, is_found, is_new);
    }
    js_unlock(js);
    st->is_new_here = is_new;
    st->mending_since_ms = loop_now_ms(js->loop);
    started(st, rv);
}

/* The replica begins, late. */
static void mended(void *arg, int rv)
{
    struct js_stream *st = arg; /* It is there: see js_flush_is_busy. */
    const struct meta_stream *s = meta_stream_by_gid(st->js->meta, st->gid);
    struct group_found found;
    if (s == NULL || st->js->is_stopping) {
        return; /* It is about to be deleted. */
    }
    struct watchdog_at was = loop_enter(st->js->loop, WATCHDOG_STREAMS, st->gid);
    bool is_found = js_group_found(st->js, st->gid, &found);
    if (rv == 0) {
        js_lock(st->js);
        js_leader_open(st);
        st->state = JS_STREAM_OK; /* The group may call back at once. */
        rv = open_group(st, s, is_found, st->is_new_here);
        js_unlock(st->js);
    }
    started(st, rv);
    if (rv == 0) {
        log_wrn("Stream %s: the replica on this node is mended, and starts", st->name);
    }
    loop_leave(st->js->loop, was);
}

void js_stream_mended(struct js_stream *st)
{
    if (meta_stream_by_gid(st->js->meta, st->gid) == NULL) {
        return; /* It is about to be deleted. */
    }
    store_stream_unload(st->store);
    js_state_restore_apart(st, mended, st);
}

void js_stream_stop(struct js_stream *st, enum js_stop why)
{
    struct js *js = st->js;
    if (why == JS_STOP_DELETED) {
        js_leader_deleted(st);
    }
    if (why != JS_STOP_NODE) {
        js_lock(js);
        if (st->group != NULL) {
            group_destroy(st->group);
        } else {
            (void)host_destroy_found(js->host, st->gid); /* It never started. */
        }
        js_unlock(js);
    }
    js_leader_close(st);
    js_read_close(&st->reads);
    js_send_close(st);
    js_mend_close(st);
    if (why != JS_STOP_NODE) {
        if (st->store != NULL) {
            store_stream_delete(st->store);
        }
        log_inf(why == JS_STOP_DELETED ? "Stream %s is deleted"
                                       : "Stream %s: the replica on this node is removed",
                st->name);
    }
    HASH_DEL(js->streams, st);
    stream_effects_close(&st->effects);
    buf_close(&st->ack_reply);
    if (why == JS_STOP_NODE) {
        stream_free(st->machine); /* The loop has ended. */
    } else {
        js_state_free(st);
    }
    free(st->name);
    free(st);
}
