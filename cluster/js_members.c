/* Replicas that come and go (raft-guide-members 3.4): meta decides where a stream's replicas are to
 * be, its leader carries the group there, and what is no member any more is destroyed.
 *
 *   meta: peers change --> every node: newcomers start empty; replicas here are told the target
 *   leader: adds, catches up, promotes, removes (raft/members.c)
 *   leader: proves that it leads, tells meta its members --> meta forgets old peers that are none
 *   node: its replica is neither wanted nor an old peer --> destroyed
 *
 * A leader may act on old news and take in again what a newer one has taken out. So a replica that
 * knows of a configuration newer than the one told, and with itself in it, stays (M9). */
#include "cluster/js_members.h"

#include <assert.h>

#include "broker/meta.h"
#include "cluster/js_batch.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_meta.h"
#include "cluster/js_replicas.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/log.h"

#define FIRST_CONF 1 /* Index of the configuration that a group is born with. */
#define LOOK_MS 100
#define TELL_AGAIN_MS 2000 /* What was told may be lost on its way. */

/* Else its members are those of its first configuration, and nobody needs to be told. */
static bool has_moved(const struct meta_stream *s)
{
    bool is_same = s->old_count == 0 && s->peers_count == s->born_count;
    for (size_t i = 0; i < s->peers_count && is_same; i++) {
        is_same = s->peers[i].raft_id == s->born[i].raft_id;
    }
    return !is_same;
}

static bool is_as_wanted(const struct meta_stream *s, const struct group_status *status)
{
    bool is_same = status->members_count == s->peers_count;
    for (unsigned i = 0; i < status->members_count && is_same; i++) {
        const struct group_member *m = &status->members[i].member;
        is_same = m->role == GROUP_VOTER && meta_raft_id_on(s, m->node_id) == m->raft_id;
    }
    return is_same;
}

/* The group went a way that meta does not know of. */
static bool is_unreported(const struct meta_stream *s, const struct group_status *status)
{
    return status->configuration_index > FIRST_CONF && status->configuration_index > s->reported;
}

/* Whether somebody here has to be told something, now or later. A stream that is where it was born
 * is looked at once in each term led here: a leader on old news may have taken in whom meta had
 * forgotten already, and died. */
static bool is_watched(struct js_stream *st, const struct meta_stream *s)
{
    struct group_role role = group_role(st->group);
    if (!st->is_watched && has_moved(s)) {
        st->is_watched = true;
    } else if (!st->is_watched && role.is_leader && role.term != st->looked_term) {
        struct group_status status;
        group_status(st->group, &status);
        st->looked_term = role.term;
        st->is_watched = !is_as_wanted(s, &status) || is_unreported(s, &status);
    }
    return st->is_watched;
}

static void tell_target(struct js_stream *st, const struct meta_stream *s)
{
    struct group_member members[META_REPLICAS_MAX];
    if (st->target_placed == s->placed) {
        return;
    }
    for (size_t i = 0; i < s->peers_count; i++) {
        members[i] = (struct group_member){s->peers[i].raft_id, s->peers[i].node_id, GROUP_VOTER};
    }
    st->target_placed = s->placed;
    js_lock(st->js);
    int rv = group_set_target(st->group, members, (unsigned)s->peers_count);
    js_unlock(st->js);
    if (rv != 0) {
        log_err("Stream %s: its replicas cannot be placed: %s", st->name, err_text(rv));
    }
}

/* ---- The leader tells ---- */

void js_members_read_done(struct js_stream *st, bool is_ok)
{
    struct js *js = st->js;
    st->is_proving = false;
    if (!is_ok || js->meta_leader_id == 0) {
        return;
    }
    struct buf *b = js_batch_begin(js, js->meta_leader_id, JS_ITEM_MEMBERS);
    buf_append_u64(b, st->gid);
    buf_append_u64(b, st->proving_placed);
    buf_append_u64(b, st->proving_conf);
    buf_append_u8(b, (uint8_t)st->proving_count);
    for (unsigned i = 0; i < st->proving_count; i++) {
        buf_append_u64(b, st->proving[i].node_id);
        buf_append_u64(b, st->proving[i].raft_id);
    }
    js_batch_end(js, js->meta_leader_id);
    st->told_placed = st->proving_placed;
    st->told_conf = st->proving_conf;
    st->told_ms = loop_now_ms(js->loop);
}

/* Only what is committed, as of now, by a leader that knows the newest placement. */
static void tell_members(struct js_stream *st, const struct meta_stream *s)
{
    struct group_status status;
    if (st->is_proving || !group_role(st->group).is_leader) {
        return;
    }
    group_status(st->group, &status);
    /* Old peers wait to be forgotten; and a replica that was taken in on old news stays until it
     * hears of a newer configuration. */
    if (s->old_count == 0 && !(is_as_wanted(s, &status) && is_unreported(s, &status))) {
        return;
    }
    bool is_told = st->told_placed == s->placed && st->told_conf == status.configuration_index &&
                   loop_now_ms(st->js->loop) - st->told_ms < TELL_AGAIN_MS;
    if (status.is_configuration_uncommitted || is_told) {
        return;
    }
    js_lock(st->js);
    st->is_proving = group_read_index(st->group, JS_MEMBERS_TOKEN) == 0;
    js_unlock(st->js);
    st->proving_placed = s->placed;
    st->proving_conf = status.configuration_index;
    st->proving_count = status.members_count;
    for (unsigned i = 0; i < status.members_count; i++) {
        const struct group_member *m = &status.members[i].member;
        st->proving[i] = (struct meta_peer){m->node_id, m->raft_id, false};
    }
}

void js_members_take(struct js *js, struct reader *r)
{
    struct meta_peer members[HOST_MEMBERS_MAX];
    uint64_t gid = reader_u64(r);
    uint64_t placed = reader_u64(r);
    uint64_t conf = reader_u64(r);
    unsigned count = reader_u8(r);
    if (count > HOST_MEMBERS_MAX) {
        r->failed = true;
    }
    for (unsigned i = 0; i < count && !r->failed; i++) {
        members[i] = (struct meta_peer){.node_id = reader_u64(r)};
        members[i].raft_id = reader_u64(r);
    }
    if (r->failed || !js->is_meta_leader) {
        return;
    }
    const struct meta_stream *s = meta_stream_by_gid(js->meta, gid);
    if (s != NULL && s->placed == placed && (s->old_count > 0 || conf > s->reported)) {
        struct buf b = BUF_EMPTY;
        meta_encode_members(&b, js_now_ns(js), gid, placed, conf, members, count);
        (void)js_meta_propose(js, buf_slice(&b)); /* Else it is told again. */
        buf_close(&b);
    }
}

/* ---- What is lost is replaced ---- */

/* Its group must have a leader: else too many may be lost, and what is here is all there is. */
void js_members_tell_lost(struct js_stream *st, const struct meta_stream *s)
{
    struct js *js = st->js;
    uint64_t now = loop_now_ms(js->loop);
    bool is_led = js_lane_leader_of(js, st->gid) != 0;
    if (s->peers_count < 2 || !is_led || js->meta_leader_id == 0 ||
        meta_raft_id_on(s, js->ctx->node_id) != st->raft_id ||
        (st->told_ms != 0 && now - st->told_ms < TELL_AGAIN_MS)) {
        return;
    }
    st->told_ms = now;
    struct buf *b = js_batch_begin(js, js->meta_leader_id, JS_ITEM_LOST);
    buf_append_u64(b, st->gid);
    buf_append_u64(b, st->raft_id);
    js_batch_end(js, js->meta_leader_id);
}

void js_members_take_lost(struct js *js, uint64_t node_id, struct reader *r)
{
    uint64_t gid = reader_u64(r);
    uint64_t raft_id = reader_u64(r);
    const struct meta_stream *s = meta_stream_by_gid(js->meta, gid);
    if (r->failed || !js->is_meta_leader || s == NULL || meta_raft_id_on(s, node_id) != raft_id) {
        return;
    }
    log_wrn("Stream %s: the replica on %s is lost, and is replaced", s->config.name,
            js_node_name(js, node_id));
    struct buf b = BUF_EMPTY;
    meta_encode_lost(&b, js_now_ns(js), gid, raft_id);
    (void)js_meta_propose(js, buf_slice(&b));
    buf_close(&b);
}

/* ---- Who may be a member ---- */

static unsigned add_known(struct group_member *known, unsigned count, const struct meta_peer *peers,
                          size_t peers_count)
{
    for (size_t i = 0; i < peers_count && count < HOST_MEMBERS_MAX; i++) {
        if (peers[i].raft_id != 0) {
            known[count++] = (struct group_member){peers[i].raft_id, peers[i].node_id, GROUP_VOTER};
        }
    }
    return count;
}

void js_members_tell_known(struct js_stream *st, const struct meta_stream *s)
{
    static_assert(META_REPLICAS_MAX + META_OLD_MAX <= HOST_MEMBERS_MAX, "all of them");
    struct group_member known[HOST_MEMBERS_MAX];
    struct group_status meta;
    if (st->js->meta_group == NULL || st->js->is_meta_failed) {
        return;
    }
    group_status(st->js->meta_group, &meta);
    if (!meta.is_level || meta.is_catching_up || meta.delivered_index < meta.commit_index) {
        return; /* A change that was decided before the start may be missing. */
    }
    unsigned count = add_known(known, 0, s->peers, s->peers_count);
    count = add_known(known, count, s->old, s->old_count);
    js_lock(st->js);
    group_set_known_members(st->group, known, count, s->reported, s->old_count == 0);
    js_unlock(st->js);
}

/* ---- Who has to go ---- */

bool js_members_may_leave(const struct js_stream *st, const struct meta_stream *s)
{
    struct group_status status;
    if (meta_is_member(s, st->raft_id)) {
        return false;
    }
    if (st->group == NULL) {
        return true;
    }
    group_status(st->group, &status);
    for (unsigned i = 0; i < status.members_count && status.configuration_index > s->reported;
         i++) {
        if (status.members[i].member.raft_id == st->raft_id) {
            return false;
        }
    }
    return true;
}

void js_members_tick(struct js *js)
{
    uint64_t now = loop_now_ms(js->loop);
    if (now - js->members_ms < LOOK_MS) {
        return;
    }
    js->members_ms = now;
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        const struct meta_stream *s = meta_stream_by_gid(js->meta, st->gid);
        if (s == NULL) {
            continue;
        }
        if (js_members_may_leave(st, s)) {
            js_replicas_leave(js, st->gid);
        } else if (st->state == JS_STREAM_LOST) {
            js_members_tell_lost(st, s);
        } else if (st->group != NULL && is_watched(st, s)) {
            tell_target(st, s);
            tell_members(st, s);
        }
    }
}
