/* /jsz and /replicaz, and what /varz and /healthz say of JetStream. */
#include <stdio.h>
#include <stdlib.h>

#include "broker/api_reply.h"
#include "broker/json_fields.h"
#include "cluster/http.h"
#include "cluster/js_internal.h"
#include "cluster/monitor.h"
#include "cluster/node_options.h"
#include "storage/base/err.h"

#define DUMP_ROUND 2000 /* Messages per call of the sender. */

static json_t *u64(uint64_t v)
{
    return json_integer((json_int_t)v);
}

/* ---- Figures ---- */

struct totals {
    uint64_t streams, streams_leader, consumers, messages, bytes, memory, storage;
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
        t.streams++;
        t.streams_leader += st->is_led;
        t.consumers += s.consumer_count;
        t.messages += s.messages;
        t.bytes += s.bytes;
        bool is_memory = stream_get_config(st->machine)->storage == STORAGE_MEMORY;
        t.memory += is_memory ? s.bytes : 0;
        t.storage += is_memory ? 0 : s.bytes;
    }
    return t;
}

static json_t *config_json(const struct js *js)
{
    const struct node_options *o = js->ctx->options;
    return json_pack("{s:I, s:I, s:s, s:I}", "max_memory", (json_int_t)o->max_memory_bytes,
                     "max_storage", (json_int_t)o->max_file_bytes, "store_dir",
                     js->ctx->options->store_dir, "sync_interval", (json_int_t)0);
}

static json_t *api_json(const struct js *js)
{
    return json_pack("{s:i, s:o, s:o}", "level", NODE_API_LEVEL, "total", u64(js->api_total),
                     "errors", u64(js->api_errors));
}

static json_t *meta_json(struct js *js)
{
    struct group_status status;
    json_t *replicas = json_array();
    const char *leader = js->meta_leader_id == 0 ? "" : js_node_name(js, js->meta_leader_id);
    unsigned size = 1;
    if (js->meta_group != NULL) {
        group_status(js->meta_group, &status);
        size = status.members_count;
        for (unsigned i = 0; i < status.members_count && js->is_meta_leader; i++) {
            const struct group_member_status *m = &status.members[i];
            struct peers_info info = {0};
            char peer[9];
            if (m->member.node_id == js->ctx->node_id) {
                continue;
            }
            js_peer_id(js, m->member.node_id, peer);
            if (js->ctx->peers != NULL) {
                peers_get(js->ctx->peers, m->member.node_id, &info);
            }
            json_array_append_new(
                replicas,
                json_pack(
                    "{s:s, s:b, s:I, s:o, s:s}", "name", js_node_name(js, m->member.node_id),
                    "current", m->is_recent, "active", (json_int_t)info.active_ns, "lag",
                    u64(status.last_index -
                        (m->match_index < status.last_index ? m->match_index : status.last_index)),
                    "peer", peer));
        }
    }
    char self[9];
    js_peer_id(js, js->ctx->node_id, self);
    json_t *j = json_pack("{s:s, s:s, s:s, s:i}", "name", js->ctx->cluster_name, "leader", leader,
                          "peer", self, "cluster_size", (int)size);
    if (json_array_size(replicas) > 0) {
        json_object_set(j, "replicas", replicas);
    }
    json_decref(replicas);
    return j;
}

static void fill_varz(void *arg, json_t *j)
{
    struct js *js = arg;
    struct totals t = count(js);
    json_object_set_new(j, "config", config_json(js));
    json_object_set_new(j, "stats",
                        json_pack("{s:o, s:o, s:i, s:i, s:i, s:o, s:o}", "memory", u64(t.memory),
                                  "storage", u64(t.storage), "reserved_memory", 0,
                                  "reserved_storage", 0, "accounts", 1, "ha_assets", u64(t.streams),
                                  "api", api_json(js)));
    if (js->ctx->peers != NULL) {
        json_object_set_new(j, "meta", meta_json(js));
    }
}

static void on_jsz(void *arg, struct http_request *req)
{
    struct js *js = arg;
    struct totals t = count(js);
    bool has_streams = false;
    if (http_param_bool(req, "streams", &has_streams) != 0) {
        return;
    }
    json_t *j = json_pack("{s:o, s:o, s:i, s:i, s:i, s:o, s:o}", "memory", u64(t.memory), "storage",
                          u64(t.storage), "reserved_memory", 0, "reserved_storage", 0, "accounts",
                          1, "ha_assets", u64(t.streams), "api", api_json(js));
    json_object_set_new(j, "server_id", json_string(js->ctx->server_id));
    json_object_set_new(j, "now", monitor_time_json(js_now_ns(js)));
    json_object_set_new(j, "config", config_json(js));
    json_object_set_new(j, "streams", u64(t.streams));
    json_object_set_new(j, "streams_leader", u64(t.streams_leader));
    json_object_set_new(j, "consumers", u64(t.consumers));
    json_object_set_new(j, "messages", u64(t.messages));
    json_object_set_new(j, "bytes", u64(t.bytes));
    if (js->ctx->peers != NULL) {
        json_object_set_new(j, "meta_cluster", meta_json(js));
    }
    if (has_streams) {
        json_t *list = json_array();
        for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
            struct stream_info s;
            if (st->machine == NULL) {
                continue;
            }
            stream_get_info(st->machine, &s);
            json_array_append_new(
                list,
                json_pack("{s:s, s:o, s:{s:o, s:o, s:o, s:o, s:o}}", "name", st->name, "created",
                          monitor_time_json(s.created_ns), "state", "messages", u64(s.messages),
                          "bytes", u64(s.bytes), "first_seq", u64(s.first_seq), "last_seq",
                          u64(s.last_seq), "consumer_count", u64(s.consumer_count)));
        }
        json_object_set_new(
            j, "account_details",
            json_pack("[{s:s, s:s, s:o}]", "name", "$G", "id", "$G", "stream_detail", list));
    }
    http_respond_json(req, 200, j);
}

/* ---- One replica, as it is here ---- */

/* A dump under way. */
struct dump {
    struct js *js;
    struct http_request *req;
    uint64_t gid;
    uint64_t next_seq;
    bool is_reading;
    bool is_ended;
    struct buf line;
};

static const char *state_text(const struct js_stream *st, const struct group_status *g)
{
    if (st->state == JS_STREAM_FAILED || st->state == JS_STREAM_LOST) {
        return "damaged";
    }
    return g->is_catching_up || g->state == GROUP_CATCHUP ? "catching up"
           : g->state == GROUP_SUSPECT                    ? "suspect"
           : g->state == GROUP_FAILED                     ? "damaged"
                                                          : "ok";
}

static json_t *replica_json(struct js_stream *st)
{
    struct group_status g = {0};
    struct stream_info s = {0};
    char hash[24] = "";
    if (st->group != NULL) {
        group_status(st->group, &g);
    }
    if (st->machine != NULL) {
        stream_get_info(st->machine, &s);
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)stream_hash(st->machine));
    }
    json_t *j = json_pack("{s:s, s:s, s:o, s:s, s:s}", "stream", st->name, "server",
                          st->js->ctx->server_name, "gid", u64(st->gid), "state",
                          state_text(st, &g), "hash", hash);
    json_object_set_new(j, "role", json_string(st->is_leader ? "leader" : "follower"));
    json_object_set_new(j, "is_led", json_boolean(st->is_led));
    json_object_set_new(
        j, "leader",
        json_string(g.role.leader_node_id == 0 ? "" : js_node_name(st->js, g.role.leader_node_id)));
    json_object_set_new(j, "term", u64(g.role.term));
    json_object_set_new(j, "last", u64(g.last_index));
    json_object_set_new(j, "commit", u64(g.commit_index));
    json_object_set_new(j, "applied", u64(st->applied_index));
    json_object_set_new(j, "flushed", u64(st->flushed_index));
    json_object_set_new(j, "agreed", u64(st->agreed_index)); /* By digests; on the leader. */
    json_object_set_new(j, "first_seq", u64(s.first_seq));
    json_object_set_new(j, "last_seq", u64(s.last_seq));
    json_object_set_new(j, "messages", u64(s.messages));
    json_object_set_new(j, "bytes", u64(s.bytes));
    json_object_set_new(j, "consumers", u64(s.consumer_count));
    return j;
}

static void dump_end(struct dump *d)
{
    d->is_ended = true;
    if (!d->is_reading) {
        http_stream_end(d->req);
        buf_close(&d->line);
        free(d);
    }
}

static int write_message(struct dump *d, const struct store_view *v)
{
    buf_clear(&d->line);
    buf_printf(&d->line, "{\"seq\":%llu,\"time\":\"", (unsigned long long)v->seq);
    json_print_time(&d->line, v->time_ns);
    buf_append_str(&d->line, "\",\"subject\":");
    json_print_string(&d->line, v->subject);
    if (v->header.len > 0) {
        buf_append_str(&d->line, ",\"hdrs\":\"");
        json_print_base64(&d->line, v->header);
        buf_append_u8(&d->line, '"');
    }
    buf_append_str(&d->line, ",\"data\":\"");
    json_print_base64(&d->line, v->payload);
    buf_append_str(&d->line, "\"}\n");
    return http_stream_write(d->req, buf_slice(&d->line));
}

static bool dump_more(void *arg);

static void on_dump_read(struct js_stream *st, void *arg, const struct store_view *view)
{
    struct dump *d = arg;
    d->is_reading = false;
    if (st == NULL || d->is_ended) {
        dump_end(d);
        return;
    }
    if (view != NULL && write_message(d, view) != 0) {
        dump_end(d);
        return;
    }
    d->next_seq++;
    (void)dump_more(d);
}

/* Send what is in memory; what is not goes on when it is read. False: it has ended. */
static bool dump_more(void *arg)
{
    struct dump *d = arg;
    struct js_stream *st = js_stream_find(d->js, d->gid);
    if (d->is_reading || d->is_ended) {
        return !d->is_ended;
    }
    for (int i = 0; i < DUMP_ROUND; i++) {
        struct store_view view;
        uint64_t seq =
            st == NULL ? 0 : msg_index_at_or_above(stream_index(st->machine), d->next_seq);
        if (seq == 0) {
            dump_end(d);
            return false;
        }
        d->next_seq = seq;
        if (store_read(st->store, seq, &view) != 0) {
            d->is_reading = true;
            js_send_read(st, seq, on_dump_read, d);
            return true;
        }
        if (write_message(d, &view) != 0) {
            dump_end(d);
            return false;
        }
        d->next_seq = seq + 1;
    }
    return true;
}

static void on_replicaz(void *arg, struct http_request *req)
{
    struct js *js = arg;
    const char *name = http_param(req, "stream");
    uint64_t from = 0;
    if (http_param_u64(req, "dump", &from) != 0) {
        return;
    }
    if (name == NULL) {
        json_t *list = json_array();
        for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
            json_array_append_new(list, replica_json(st));
        }
        http_respond_json(
            req, 200, json_pack("{s:s, s:o}", "server", js->ctx->server_name, "replicas", list));
        return;
    }
    const struct meta_stream *s = meta_stream_find(js->meta, slice_str(name));
    struct js_stream *st = s == NULL ? NULL : js_stream_find(js, s->gid);
    if (st == NULL || st->machine == NULL) {
        http_respond_error(req, 404,
                           s == NULL ? "stream not found" : "no replica of the stream here");
    } else if (http_param(req, "dump") == NULL) {
        http_respond_json(req, 200, replica_json(st));
    } else {
        struct dump *d = xcalloc(1, sizeof *d);
        *d = (struct dump){.js = js, .req = req, .gid = st->gid, .next_seq = from};
        http_stream_begin(req, "application/x-ndjson", dump_more, d);
    }
}

/* ---- Health ---- */

const char *js_health(struct js *js, bool only_meta)
{
    if (js->is_meta_failed) {
        return "JetStream meta layer is not running";
    }
    if (js->meta_group == NULL) {
        snprintf(js->health_text, sizeof js->health_text,
                 "JetStream cluster is not born yet, waiting for: %s", js_birth_missing(js));
        return js->health_text;
    }
    if (js->meta_leader_id == 0) {
        return "JetStream has not established contact with a meta leader";
    }
    struct group_status g;
    group_status(js->meta_group, &g);
    if (!g.is_level) {
        return "JetStream is not current with the meta leader"; /* Which may know more streams. */
    }
    for (struct js_stream *st = js->streams; st != NULL && !only_meta; st = st->hh.next) {
        if (st->group == NULL || st->state != JS_STREAM_OK) {
            snprintf(js->health_text, sizeof js->health_text,
                     "JetStream stream '$G > %s' is not current: stopped", st->name);
            return js->health_text;
        }
        group_status(st->group, &g);
        const char *why = g.role.leader_node_id == 0           ? "group has no leader"
                          : g.is_catching_up || !g.is_level    ? "catching up"
                          : st->applied_index < g.commit_index ? "applying"
                                                               : NULL;
        if (why != NULL) {
            snprintf(js->health_text, sizeof js->health_text,
                     "JetStream stream '$G > %s' is not current: %s", st->name, why);
            return js->health_text;
        }
    }
    return NULL;
}

static void check_health(void *arg, struct monitor_health *h)
{
    struct js *js = arg;
    const char *why = h->is_js_enabled_only ? NULL : js_health(js, h->is_js_meta_only);
    if (why != NULL) {
        h->status = 503;
        snprintf(h->error, sizeof h->error, "%s", why);
        if (h->has_details) {
            json_array_append_new(h->errors,
                                  json_pack("{s:s, s:s}", "type", "JETSTREAM", "error", why));
        }
    }
}

void js_monitor_start(struct js *js, struct monitor *m)
{
    http_handle(js->ctx->http, "/jsz", "JetStream", on_jsz, js);
    http_handle(js->ctx->http, "/replicaz", "Replicas", on_replicaz, js);
    monitor_set_varz_hook(m, fill_varz, js);
    monitor_set_health_hook(m, check_health, js);
}
