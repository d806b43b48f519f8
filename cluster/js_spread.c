/* Leaders spread again after nodes came and went: the leader of the meta group looks, and asks the
 * leader of one stream at a time to hand over (spread.h says of which, and to whom).
 *
 * Slowly, and never in a storm: only when no node has come or gone for a while, and all are up; a
 * stream whose leader changed rests; one move at a time, at most one a second. One decider, so that
 * two nodes never relieve the same third one at once. The stream's leader has the last word: it
 * hands over only to a replica that has all of the log. */
#include "cluster/js_spread.h"

#include <stdlib.h>

#include "broker/meta.h"
#include "cluster/js_batch.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_meta.h"
#include "cluster/js_move.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/peers.h"
#include "cluster/spread.h"
#include "storage/base/buf.h"
#include "storage/base/hash.h"
#include "storage/base/log.h"

#define QUIET_MS 10000 /* Since the last node came or went, or meta got its leader. */
#define REST_MS 30000  /* Of a stream, since it got its leader. */
#define RETRY_MS 60000 /* After a move that came to nothing. */
#define STEP_MS 1000
#define PATIENCE_MS 5000 /* With a move. */

struct nodes {
    struct js *js;
    struct spread_node list[PEERS_MAX + 1];
    size_t count;
};

static bool add_node(void *arg, const struct peers_info *info)
{
    struct nodes *n = arg;
    if (info->is_up && info->is_jetstream && n->count < PEERS_MAX) {
        n->list[n->count++] = (struct spread_node){
            .node_id = info->node_id,
            .is_fit = !info->is_leaving && !js_move_is_poor(info) && !info->is_disk_stuck};
    }
    return true;
}

static struct js_leader *leader_of(struct js *js, uint64_t gid)
{
    struct js_leader *known;
    HASH_FIND(hh, js->leaders, &gid, sizeof gid, known);
    return known;
}

static bool is_quiet(const struct js *js, uint64_t now)
{
    return js->is_meta_leader && js->ctx->peers != NULL && !js->ctx->is_lame_duck &&
           now - js->liveness_ms >= QUIET_MS && now - js->meta_led_ms >= QUIET_MS;
}

/* The last move is over, one way or another. */
static bool is_free(struct js *js, uint64_t now)
{
    if (js->spread_gid == 0) {
        return now - js->spread_ms >= STEP_MS;
    }
    struct js_leader *known = leader_of(js, js->spread_gid);
    bool is_done = known == NULL || known->node_id == js->spread_to;
    if (!is_done && now - js->spread_ms < PATIENCE_MS) {
        return false;
    }
    if (!is_done) {
        known->refused_ms = now;
    }
    js->spread_gid = 0;
    js->spread_ms = now;
    return false;
}

static void ask(struct js *js, const struct spread_move *move, uint64_t now)
{
    const struct meta_stream *s = meta_stream_by_gid(js->meta, move->gid);
    log_inf("JetStream: %s leads more streams than its share: '%s' goes to %s",
            js_node_name(js, move->from), s == NULL ? "" : s->config.name,
            js_node_name(js, move->to));
    struct buf *b = js_batch_begin(js, move->from, JS_ITEM_MOVE);
    buf_append_u64(b, move->gid);
    buf_append_u64(b, move->to);
    js_batch_end(js, move->from);
    loop_again(js->loop);
    js->spread_gid = move->gid;
    js->spread_to = move->to;
    js->spread_ms = now;
}

static struct spread_stream describe(struct js *js, const struct meta_stream *s, uint64_t now)
{
    struct spread_stream d = {.gid = s->gid, .nodes_count = s->peers_count};
    const struct js_leader *known = leader_of(js, s->gid);
    for (size_t i = 0; i < s->peers_count; i++) {
        d.nodes[i] = s->peers[i].node_id;
    }
    if (known != NULL) {
        d.leader = known->node_id;
        d.led_ms = now - known->since_ms;
        d.is_movable =
            d.led_ms >= REST_MS && (known->refused_ms == 0 || now - known->refused_ms >= RETRY_MS);
    }
    return d;
}

static bool is_uneven(struct js *js, const struct nodes *n)
{
    size_t sum = 0;
    size_t max = 0;
    for (const struct js_leader *k = js->leaders; k != NULL; k = k->hh.next) {
        sum += k->node_id != 0;
    }
    for (size_t i = 0; i < n->count; i++) {
        size_t leaders = js_move_load(js, n->list[i].node_id);
        max = leaders > max ? leaders : max;
    }
    return spread_is_uneven(max, sum, n->count);
}

void js_spread_tick(struct js *js)
{
    uint64_t now = loop_now_ms(js->loop);
    if (!is_quiet(js, now) || !is_free(js, now)) {
        return;
    }
    js->spread_ms = now; /* Also when nothing comes of it: once a step. */
    struct nodes n = {.js = js};
    peers_each(js->ctx->peers, add_node, &n);
    n.list[n.count++] = (struct spread_node){
        .node_id = js->ctx->node_id, .is_fit = !js_move_is_poor_here(js) && !js->disk.is_stuck};
    if (!is_uneven(js, &n)) {
        return;
    }
    const struct meta_stream **list = meta_streams_sorted(js->meta);
    size_t count = meta_streams_count(js->meta);
    struct spread_stream *streams = xcalloc(count + 1, sizeof *streams);
    struct spread_move move;
    for (size_t i = 0; i < count; i++) {
        streams[i] = describe(js, list[i], now);
    }
    if (spread_choose(n.list, n.count, streams, count, &move)) {
        ask(js, &move, now);
    }
    free(streams);
    free(list);
}

void js_spread_asked(struct js *js, uint64_t gid, uint64_t to)
{
    struct js_stream *st = js_stream_find(js, gid);
    if (st != NULL && st->is_led && js_move_is_fit(js, st->group, to)) {
        (void)js_move_to(js, st->group, to);
    }
}
