/* /jsz, and what /varz says of JetStream.
 *
 * Details of streams and consumers can be long: they are sent stream by stream, and streams that
 * come or go meanwhile are missed. */
#include "cluster/js_jsz.h"

#include <stdlib.h>

#include "broker/consumer.h"
#include "broker/stream.h"
#include "broker/stream_config.h"
#include "cluster/http.h"
#include "cluster/js_api.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_meta.h"
#include "cluster/js_stream.h"
#include "cluster/monitor.h"
#include "cluster/node.h"
#include "cluster/node_options.h"
#include "cluster/peers.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/hash.h"

#define ROUND_BYTES (64u * 1024) /* Per call of the sender. */
#define ACCOUNTS_LIMIT 1024

/* What was asked. */
struct jsz_query {
    bool has_accounts, has_streams, has_consumers, has_config, has_raft;
    bool is_leader_only, is_stream_leader_only;
    uint64_t offset, limit;
    const char *account; /* NULL: all. */
};

/* A long answer under way. */
struct jsz {
    struct js *js;
    struct http_request *req;
    struct jsz_query q; /* Without the account. */
    uint64_t *gids;
    size_t count, at;
    bool has_printed;
    struct buf piece;
};

static json_t *u64(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static void set_unless_0(json_t *j, const char *key, uint64_t v)
{
    if (v != 0) {
        json_object_set_new(j, key, u64(v));
    }
}

/* ---- Figures ---- */

struct totals {
    uint64_t streams, streams_leader, consumers, consumers_leader, messages, bytes, replicated;
    uint64_t stored[2], reserved[2]; /* By is_memory. */
    uint64_t account[2];             /* Stored, of all replicas. */
};

static struct totals count(struct js *js)
{
    struct totals t = {0};
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        struct stream_info s;
        if (st->machine == NULL) {
            continue;
        }
        stream_get_info(st->machine, &s);
        const struct stream_config *c = stream_get_config(st->machine);
        bool is_memory = c->storage == STORAGE_MEMORY;
        t.streams++;
        t.streams_leader += st->is_led;
        t.consumers += s.consumer_count;
        t.consumers_leader += st->is_led ? s.consumer_count : 0;
        t.messages += s.messages;
        t.bytes += s.bytes;
        t.replicated += c->replicas_count > 1;
        t.stored[is_memory] += s.bytes;
        t.account[is_memory] += s.bytes * (uint64_t)c->replicas_count;
        t.reserved[is_memory] += c->max_bytes > 0 ? (uint64_t)c->max_bytes : 0;
    }
    return t;
}

static json_t *config_json(const struct js *js)
{
    const struct node_options *o = js->ctx->options;
    return json_pack("{s:I, s:I, s:s, s:i, s:b, s:b, s:s*}", "max_memory",
                     (json_int_t)o->max_memory_bytes, "max_storage", (json_int_t)o->max_file_bytes,
                     "store_dir", o->store_dir, "sync_interval", 0, "sync_always", 1, "strict", 1,
                     "unique_tag", o->unique_tag);
}

static json_t *api_json(const struct js *js)
{
    return json_pack("{s:i, s:o, s:o}", "level", NODE_API_LEVEL, "total", u64(js->api_total),
                     "errors", u64(js->api_errors));
}

/* Groups with more than one member are what the reference calls HA assets. */
static json_t *stats_json(const struct js *js, const struct totals *t)
{
    bool has_meta = js->ctx->peers != NULL && js->meta_group != NULL;
    return json_pack("{s:o, s:o, s:o, s:o, s:i, s:o, s:o}", "memory", u64(t->stored[1]), "storage",
                     u64(t->stored[0]), "reserved_memory", u64(t->reserved[1]), "reserved_storage",
                     u64(t->reserved[0]), "accounts", 1, "ha_assets", u64(t->replicated + has_meta),
                     "api", api_json(js));
}

static json_t *meta_replica_json(struct js *js, const struct group_status *status,
                                 const struct group_member_status *m)
{
    struct peers_info info = {0};
    char peer[9];
    bool is_up = peers_get(js->ctx->peers, m->member.node_id, &info) && info.is_up;
    uint64_t lag = status->last_index > m->match_index ? status->last_index - m->match_index : 0;
    js_peer_id(js, m->member.node_id, peer);
    json_t *j =
        json_pack("{s:s, s:b, s:I, s:s}", "name", js_node_name(js, m->member.node_id), "current",
                  is_up && m->is_recent, "active", (json_int_t)info.active_ns, "peer", peer);
    if (!is_up) {
        json_object_set_new(j, "offline", json_true());
    }
    set_unless_0(j, "lag", lag);
    /* A newcomer stands by until it has all of the log: till then the group does without it. */
    if (m->member.role != GROUP_VOTER) {
        json_object_set_new(j, "observer", json_true());
    }
    return j;
}

static json_t *meta_json(struct js *js)
{
    struct group_status status = {0};
    json_t *j = json_pack("{s:s}", "name", js->ctx->cluster_name);
    if (js->meta_leader_id != 0) {
        char peer[9];
        js_peer_id(js, js->meta_leader_id, peer);
        json_object_set_new(j, "leader", json_string(js_node_name(js, js->meta_leader_id)));
        json_object_set_new(j, "peer", json_string(peer));
    }
    if (js->meta_group != NULL) {
        group_status(js->meta_group, &status);
    }
    if (js->is_meta_leader && status.members_count > 1) {
        json_t *replicas = json_array();
        for (unsigned i = 0; i < status.members_count; i++) {
            if (status.members[i].member.node_id != js->ctx->node_id) {
                json_array_append_new(replicas, meta_replica_json(js, &status, &status.members[i]));
            }
        }
        json_object_set_new(j, "replicas", replicas);
    }
    unsigned voters = 0;
    for (unsigned i = 0; i < status.members_count; i++) {
        voters += status.members[i].member.role == GROUP_VOTER;
    }
    json_object_set_new(j, "cluster_size", u64(status.members_count));
    json_object_set_new(j, "voters", u64(voters));
    json_object_set_new(j, "quorum_needed", u64(voters / 2 + 1));
    json_object_set_new(
        j, "pending",
        u64(status.commit_index > js->meta_index ? status.commit_index - js->meta_index : 0));
    json_object_set_new(j, "pending_requests", u64(js->api_waiting_count));
    return j;
}

static void fill_varz(void *arg, json_t *j)
{
    struct js *js = arg;
    struct totals t = count(js);
    json_object_set_new(j, "config", config_json(js));
    json_object_set_new(j, "stats", stats_json(js, &t));
    json_object_set_new(j, "disk",
                        json_pack("{s:o, s:o, s:b, s:b}", "free", u64(js->reserve.avail_bytes),
                                  "reserve", u64(js->reserve.bytes), "low", js->reserve.is_low,
                                  "full", js->reserve.is_full));
    json_object_set_new(j, "clock", js_clock_json(js));
    if (js->ctx->peers != NULL) {
        json_object_set_new(j, "meta", meta_json(js));
    }
}

/* All but the details. */
static json_t *head_json(struct js *js)
{
    struct totals t = count(js);
    json_t *j = stats_json(js, &t);
    json_object_set_new(j, "server_id", json_string(js->ctx->server_id));
    json_object_set_new(j, "now", monitor_time_json(js_now_ns(js)));
    json_object_set_new(j, "config", config_json(js));
    json_object_set_new(j, "streams", u64(t.streams));
    set_unless_0(j, "streams_leader", t.streams_leader);
    json_object_set_new(j, "consumers", u64(t.consumers));
    set_unless_0(j, "consumers_leader", t.consumers_leader);
    json_object_set_new(j, "messages", u64(t.messages));
    json_object_set_new(j, "bytes", u64(t.bytes));
    if (js->ctx->peers != NULL) {
        json_object_set_new(j, "meta_cluster", meta_json(js));
    }
    json_object_set_new(j, "total", json_integer(1)); /* Accounts. */
    return j;
}

static json_t *account_json(struct js *js)
{
    struct totals t = count(js);
    return json_pack("{s:s, s:s, s:o, s:o, s:i, s:i, s:o}", "name", "$G", "id", "$G", "memory",
                     u64(t.account[1]), "storage", u64(t.account[0]), "accounts", 0, "ha_assets", 0,
                     "api", api_json(js));
}

/* ---- Details ---- */

/* What the API prints, as an object, without what was not asked for. */
static json_t *members_json(struct buf *members, const struct jsz_query *q)
{
    json_t *j = json_loadb((const char *)members->ptr, members->len, 0, NULL);
    if (!q->has_config) {
        json_object_del(j, "config");
    }
    return j;
}

static json_t *consumers_json(struct js_stream *st, const struct jsz_query *q)
{
    const struct consumers *cs = stream_get_consumers(st->machine);
    json_t *list = json_array();
    struct buf b = BUF_EMPTY;
    for (size_t i = 0; i < cs->count; i++) {
        buf_clear(&b);
        buf_append_u8(&b, '{');
        js_api_print_consumer(st, slice_str(cs->items[i]->name), &b);
        buf_append_u8(&b, '}');
        json_array_append_new(list, members_json(&b, q));
    }
    buf_close(&b);
    return list;
}

static json_t *stream_json(struct js_stream *st, const struct jsz_query *q)
{
    struct buf b = BUF_EMPTY;
    buf_append_u8(&b, '{');
    js_api_print_stream(st, &b, NULL);
    buf_append_u8(&b, '}');
    json_t *j = members_json(&b, q);
    buf_close(&b);
    json_object_set_new(j, "name", json_string(st->name));
    json_object_del(j, "ts");
    if (q->has_consumers) {
        json_object_set_new(j, "consumer_detail", consumers_json(st, q));
    }
    if (q->has_raft) {
        json_object_set_new(j, "stream_raft_group", json_string(st->group_name));
    }
    return j;
}

static void append_json(struct buf *out, json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT);
    buf_append_str(out, text);
    free(text);
    json_decref(j);
}

static void jsz_end(struct jsz *z)
{
    http_stream_end(z->req);
    buf_close(&z->piece);
    free(z->gids);
    free(z);
}

static bool jsz_more(void *arg)
{
    struct jsz *z = arg;
    while (z->at < z->count && z->piece.len < ROUND_BYTES) {
        struct js_stream *st = js_stream_find(z->js, z->gids[z->at++]);
        if (st == NULL || st->machine == NULL || (z->q.is_stream_leader_only && !st->is_led)) {
            continue;
        }
        if (z->has_printed) {
            buf_append_u8(&z->piece, ',');
        }
        z->has_printed = true;
        append_json(&z->piece, stream_json(st, &z->q));
    }
    bool is_last = z->at == z->count;
    if (is_last) {
        buf_append_str(&z->piece, "]}]}");
    }
    if (http_stream_write(z->req, buf_slice(&z->piece)) != 0 || is_last) {
        jsz_end(z);
        return false;
    }
    buf_clear(&z->piece);
    return true;
}

/* @object without its last brace, and @key behind it. */
static void open_member(struct buf *out, json_t *object, const char *key)
{
    append_json(out, object);
    out->len--;
    buf_printf(out, ",\"%s\":[", key);
}

static void send_streams(struct js *js, struct http_request *req, const struct jsz_query *q,
                         json_t *head)
{
    struct jsz *z = xcalloc(1, sizeof *z);
    *z = (struct jsz){.js = js, .req = req, .q = *q};
    z->q.account = NULL;
    z->gids = xcalloc(HASH_COUNT(js->streams), sizeof *z->gids);
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        z->gids[z->count++] = st->gid;
    }
    open_member(&z->piece, head, "account_details");
    open_member(&z->piece, account_json(js), "stream_detail");
    http_stream_begin(req, "application/json", jsz_more, z);
    (void)jsz_more(z);
}

/* ---- The request ---- */

static int read_query(struct http_request *req, struct jsz_query *q)
{
    bool direct = false;
    *q = (struct jsz_query){.limit = ACCOUNTS_LIMIT, .account = http_param(req, "acc")};
    if (http_param_bool(req, "accounts", &q->has_accounts) != 0 ||
        http_param_bool(req, "streams", &q->has_streams) != 0 ||
        http_param_bool(req, "consumers", &q->has_consumers) != 0 ||
        http_param_bool(req, "direct-consumers", &direct) != 0 ||
        http_param_bool(req, "config", &q->has_config) != 0 ||
        http_param_count(req, "offset", &q->offset) != 0 ||
        http_param_count(req, "limit", &q->limit) != 0 ||
        http_param_bool(req, "leader-only", &q->is_leader_only) != 0 ||
        http_param_bool(req, "raft", &q->has_raft) != 0 ||
        http_param_bool(req, "stream-leader-only", &q->is_stream_leader_only) != 0) {
        return ERR_INVALID;
    }
    q->has_streams = q->has_streams || q->has_consumers || direct;
    q->has_accounts = q->has_accounts || q->has_streams;
    if (q->account != NULL && q->account[0] == '\0') {
        q->account = NULL;
    }
    return 0;
}

static void on_jsz(void *arg, struct http_request *req)
{
    struct js *js = arg;
    struct jsz_query q;
    if (read_query(req, &q) != 0) {
        return;
    }
    if (q.is_leader_only && !js->is_meta_leader) {
        http_respond_error(req, 400, "filtered response: not leader");
        return;
    }
    json_t *j = head_json(js);
    /* There is one account. A name alone asks for its details too. */
    bool is_wanted =
        q.account != NULL ? strcmp(q.account, "$G") == 0 : q.has_accounts && q.offset == 0;
    if (is_wanted && q.has_streams) {
        send_streams(js, req, &q, j);
        return;
    }
    if (is_wanted) {
        json_object_set_new(j, "account_details", json_pack("[o]", account_json(js)));
    }
    http_respond_json(req, 200, j);
}

void js_jsz_start(struct js *js, struct monitor *m)
{
    http_handle(js->ctx->http, "/jsz", "JetStream", on_jsz, js);
    monitor_set_varz_hook(m, fill_varz, js);
}
