/* A replica that is of no use any more is set aside and built anew from the others: one whose store
 * and log do not fit together (raft-guide 7.7), one whose log lost a change of its members, and one
 * that differs from the majority (design 4, Digests).
 *
 * It does not forget under its name: what it holds durably is copied to
 * <store_dir>/weir/quarantine first, then meta gives the node another raft id for the stream, and
 * the old replica is gone for its group as one on a lost disk is (js_members.c). Only while another
 * node leads the stream: else what is here may be all there is.
 *
 * Quarantine file, little-endian: "WQRN", u32 format version 1, u32 parts, u32 of 0; then per part
 * u64 bytes and u32 crc32c; then the parts of an image (storage/store_image.c), as they could be
 * read. */
#include "cluster/js_rebuild.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/meta.h"
#include "broker/stream.h"
#include "cluster/js_batch.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_members.h"
#include "cluster/js_meta.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/log.h"
#include "storage/file_ops.h"
#include "storage/store.h"

#define LOOK_MS 100
#define AGAIN_MS 10000
#define COPY_BYTES (1u << 20)

/* ---- Setting aside ---- */

struct aside {
    struct js *js;
    uint64_t gid;
    struct store_image *image;
    char path[512];
    int status;
    int errno_value;
};

static int copy_part(struct aside *a, struct file *f, uint32_t part, uint64_t bytes, uint64_t *at)
{
    const struct file_ops *ops = file_ops_posix();
    uint8_t *buf = xmalloc(COPY_BYTES);
    int rv = 0;
    for (uint64_t off = 0; off < bytes && rv == 0; off += COPY_BYTES) {
        size_t len = bytes - off < COPY_BYTES ? (size_t)(bytes - off) : COPY_BYTES;
        memset(buf, 0, len);
        (void)store_image_read(a->image, part, off, buf, len); /* What is damaged is no loss. */
        rv = ops->pwrite(ops->ctx, f, buf, len, *at);
        *at += len;
    }
    free(buf);
    return rv;
}

static int copy(struct aside *a, struct file *f)
{
    const struct file_ops *ops = file_ops_posix();
    uint32_t count;
    const struct store_part *parts = store_image_parts(a->image, &count);
    struct buf head = BUF_EMPTY;
    buf_append_str(&head, "WQRN");
    buf_append_u32(&head, 1);
    buf_append_u32(&head, count);
    buf_append_u32(&head, 0);
    for (uint32_t i = 0; i < count; i++) {
        buf_append_u64(&head, parts[i].bytes);
        buf_append_u32(&head, parts[i].crc);
    }
    uint64_t at = head.len;
    int rv = ops->pwrite(ops->ctx, f, head.ptr, head.len, 0);
    buf_close(&head);
    for (uint32_t i = 0; i < count && rv == 0; i++) {
        rv = copy_part(a, f, i, parts[i].bytes, &at);
    }
    return rv == 0 ? ops->sync(ops->ctx, f) : rv;
}

/* Pool. */
static void aside_run(void *arg)
{
    struct aside *a = arg;
    const struct file_ops *ops = file_ops_posix();
    struct file *f;
    char dir[512];
    snprintf(dir, sizeof dir, "%s", a->path);
    *strrchr(dir, '/') = '\0';
    (void)store_image_prepare(a->image); /* Without its items the messages are of use yet. */
    int rv = ops->mkdir(ops->ctx, dir);
    rv = rv == ERR_EXISTS ? 0 : rv;
    if (rv == 0) {
        rv = ops->open(ops->ctx, a->path, FILE_READ | FILE_WRITE | FILE_CREATE, &f);
    }
    if (rv == 0) {
        rv = copy(a, f);
        a->errno_value = ops->last_errno(ops->ctx);
        ops->close(ops->ctx, f);
        rv = rv == 0 ? ops->sync_dir(ops->ctx, dir) : rv;
    } else {
        a->errno_value = ops->last_errno(ops->ctx);
    }
    a->status = rv;
}

/* One that differs is not flushed: its store may be right as long as it is not. But it holds the
 * log of the whole node, and nobody knows how long it cannot be set aside. */
static void flush_all_the_same(struct js_stream *st)
{
    if (st->state == JS_STREAM_FAILED && st->group != NULL) {
        st->state = JS_STREAM_STOPPED;
        js_stream_dirty(st);
    }
}

static void aside_done(void *arg)
{
    struct aside *a = arg;
    struct js_stream *st = js_stream_find(a->js, a->gid);
    store_image_close(a->image);
    if (st != NULL) {
        st->is_setting_aside = false;
        st->is_aside = a->status == 0;
        st->told_ms = 0;
        st->aside_ms = loop_now_ms(a->js->loop);
        if (a->status == 0) {
            log_wrn("Stream %s: what the replica on this node holds is kept in %s", st->name,
                    a->path);
        } else {
            log_err(
                "Stream %s: the replica on this node is not replaced, it cannot be set aside in "
                "%s: %s: %s",
                st->name, a->path, err_text(a->status), strerror(a->errno_value));
            flush_all_the_same(st);
        }
    }
    free(a);
}

static void set_aside(struct js_stream *st)
{
    struct js *js = st->js;
    struct store_image *image;
    uint64_t now = loop_now_ms(js->loop);
    if (st->is_setting_aside || (st->aside_ms != 0 && now - st->aside_ms < AGAIN_MS)) {
        return;
    }
    int rv = st->store == NULL ? ERR_NOTFOUND : store_image_open(st->store, &image);
    if (rv == ERR_BUSY) {
        return;
    }
    if (rv != 0) {
        log_wrn("Stream %s: the replica on this node holds nothing that could be set aside: %s",
                st->name, err_text(rv));
        st->is_aside = true;
        return;
    }
    struct aside *a = xcalloc(1, sizeof *a);
    uint64_t index;
    uint64_t term;
    store_image_applied(image, &index, &term);
    a->js = js;
    a->gid = st->gid;
    a->image = image;
    snprintf(a->path, sizeof a->path, "%s/quarantine/%llu-%llu-%llu.image", js->dir,
             (unsigned long long)st->gid, (unsigned long long)st->raft_id,
             (unsigned long long)index);
    st->is_setting_aside = true;
    loop_work(js->loop, aside_run, aside_done, a);
}

/* ---- Which ones ---- */

void js_rebuild_wanted(struct js_stream *st, const char *why)
{
    if (!st->is_broken) {
        log_err("Stream %s: the replica on this node is to be built anew: %s", st->name, why);
    }
    st->state = JS_STREAM_FAILED;
    st->is_broken = true;
    if (st->group != NULL) {
        group_halt(st->group, true);
    }
}

/* The same for one whose machine is as it should be. */
static void sound_rebuild_wanted(struct js_stream *st, const char *why)
{
    bool is_sound = st->state == JS_STREAM_OK || st->state == JS_STREAM_STOPPED;
    js_rebuild_wanted(st, why);
    st->state = is_sound ? JS_STREAM_STOPPED : st->state;
}

/* Libraft gave up, or its log makes no sense. Not where what was committed differs: which side is
 * right nobody here can tell. Nor where it stopped because the machine did: that one waits for a
 * build that knows more.
 *
 * Or the log lost a change of its members: a group whose store knew more than what was left of the
 * log begins at the store's index, with the members that the rest of the log tells (raft/group.c).
 * They would count another majority than everybody else, so it does nothing for the group before
 * meta was heard (js_members_tell_known), and is replaced then. */
static void look_at_group(struct js_stream *st, const struct meta_stream *s)
{
    struct group_status status;
    if (st->group == NULL || st->is_broken) {
        return;
    }
    group_status(st->group, &status);
    if (status.state == GROUP_SUSPECT && s != NULL) {
        js_members_tell_known(st, s);
    }
    if (status.state == GROUP_FAILED) {
        if (!status.is_divergent && !status.is_halted) {
            sound_rebuild_wanted(st, "its group stopped");
        }
    } else if (s != NULL && status.applied_index >= s->reported &&
               status.members_index < s->reported) {
        sound_rebuild_wanted(st, "its log lost a change of its members");
    }
}

void js_rebuild_tick(struct js *js)
{
    uint64_t now = loop_now_ms(js->loop);
    if (js->is_stopping || now - js->rebuild_ms < LOOK_MS) {
        return;
    }
    js->rebuild_ms = now;
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        const struct meta_stream *s = meta_stream_by_gid(js->meta, st->gid);
        look_at_group(st, s);
        uint64_t leader = js_lane_leader_of(js, st->gid);
        if (!st->is_broken || s == NULL || s->peers_count < 2 || leader == 0 ||
            leader == js->ctx->node_id) {
            continue;
        }
        if (st->is_aside) {
            js_members_tell_lost(st, s);
        } else {
            set_aside(st);
        }
    }
}

/* ---- Divergence ---- */

static unsigned count_equal(const struct js_stream *st, uint64_t hash)
{
    unsigned count = st->digest.hash == hash ? 1 : 0;
    for (unsigned i = 0; i < st->digests_count; i++) {
        count += st->digests[i].hash == hash ? 1 : 0;
    }
    return count;
}

static void tell_diverged(struct js_stream *st, uint64_t node_id, uint64_t hash)
{
    struct buf *b = js_batch_begin(st->js, node_id, JS_ITEM_DIVERGED);
    buf_append_u64(b, st->gid);
    buf_append_u64(b, st->digest.index);
    buf_append_u32(b, st->digest.machine_version);
    buf_append_u64(b, hash);
    js_batch_end(st->js, node_id);
}

/* The majority has @hash: who differs is wrong, be it the leader. */
static void judge(struct js_stream *st, uint64_t hash)
{
    for (unsigned i = 0; i < st->digests_count; i++) {
        if (st->digests[i].hash != hash && !st->digests[i].is_told) {
            st->digests[i].is_told = true;
            log_err("Stream %s: the replica on %s differs from the majority at index %llu: %016llx "
                    "instead of %016llx. It is set aside and built anew",
                    st->name, js_node_name(st->js, st->digests[i].node_id),
                    (unsigned long long)st->digest.index, (unsigned long long)st->digests[i].hash,
                    (unsigned long long)hash);
            tell_diverged(st, st->digests[i].node_id, hash);
        }
    }
    if (st->digest.hash != hash) {
        js_rebuild_wanted(st, "it differs from the majority"); /* And hands over, js_leader.c. */
    }
}

static void compare(struct js_stream *st)
{
    struct group_status status;
    group_status(st->group, &status);
    unsigned members = status.members_count;
    unsigned best = count_equal(st, st->digest.hash);
    uint64_t hash = st->digest.hash;
    for (unsigned i = 0; i < st->digests_count; i++) {
        unsigned n = count_equal(st, st->digests[i].hash);
        hash = n > best ? st->digests[i].hash : hash;
        best = n > best ? n : best;
    }
    if (best == members) {
        st->agreed_index = st->digest.index;
    } else if (best * 2 > members) {
        judge(st, hash);
    } else if (st->digests_count + 1 >= members) {
        log_err(
            "Stream %s: the replicas differ at index %llu and no majority agrees: %016llx here, "
            "%016llx on %s. Nothing is rebuilt, an operator decides",
            st->name, (unsigned long long)st->digest.index, (unsigned long long)st->digest.hash,
            (unsigned long long)st->digests[0].hash, js_node_name(st->js, st->digests[0].node_id));
    }
}

void js_rebuild_digest(struct js_stream *st, uint64_t node_id, const struct effect_digest *theirs)
{
    const struct effect_digest *own = &st->digest;
    if (theirs->index != own->index || theirs->machine_version != own->machine_version ||
        st->state != JS_STREAM_OK || st->digests_count == HOST_MEMBERS_MAX) {
        return; /* Of another one; the next will tell. */
    }
    for (unsigned i = 0; i < st->digests_count; i++) {
        if (st->digests[i].node_id == node_id) {
            return;
        }
    }
    struct group_status status;
    bool is_member = false;
    group_status(st->group, &status);
    for (unsigned i = 0; i < status.members_count; i++) {
        is_member = is_member || status.members[i].member.node_id == node_id;
    }
    if (is_member) {
        st->digests[st->digests_count++] = (struct js_digest){node_id, theirs->hash, false};
        compare(st);
    }
}

void js_rebuild_judged(struct js_stream *st, uint64_t node_id, const struct effect_digest *majority)
{
    /* By what this replica said itself at that index, and only from who leads. */
    if (st->state == JS_STREAM_OK && js_lane_leader_of(st->js, st->gid) == node_id &&
        st->digest.index == majority->index && st->digest.hash != majority->hash &&
        st->digest.machine_version == majority->machine_version) {
        js_rebuild_wanted(st, "it differs from the majority");
    }
}
