/* /replicaz, and what /healthz says of JetStream. */
#include "cluster/js_monitor.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/consumer.h"
#include "broker/json_fields.h"
#include "broker/meta.h"
#include "broker/msg_index.h"
#include "broker/stream.h"
#include "cluster/http.h"
#include "cluster/js.h"
#include "cluster/js_birth.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_jsz.h"
#include "cluster/js_mend.h"
#include "cluster/js_meta.h"
#include "cluster/js_send.h"
#include "cluster/js_stream.h"
#include "cluster/monitor.h"
#include "cluster/node_options.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/store.h"

#define DUMP_ROUND 2000 /* Messages per call of the sender. */

static json_t *u64(uint64_t v)
{
    return json_integer((json_int_t)v);
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
    if (st->state == JS_STREAM_STOPPED) {
        return st->is_broken ? "damaged" : "stopped";
    }
    if (st->state == JS_STREAM_FAILED || st->state == JS_STREAM_LOST) {
        return "damaged";
    }
    if (st->state == JS_STREAM_MENDING) {
        return "mending";
    }
    return g->is_catching_up || g->state == GROUP_CATCHUP ? "catching up"
           : g->state == GROUP_SUSPECT                    ? "suspect"
           : g->state == GROUP_FAILED                     ? "damaged"
                                                          : "ok";
}

/* By the configuration its log ends with. */
static json_t *members_json(struct js *js, const struct group_status *g)
{
    static const char *const roles[] = {"standby", "voter", "spare"};
    json_t *list = json_array();
    for (unsigned i = 0; i < g->members_count; i++) {
        const struct group_member *m = &g->members[i].member;
        json_array_append_new(list,
                              json_pack("{s:s, s:o, s:s}", "server", js_node_name(js, m->node_id),
                                        "raft_id", u64(m->raft_id), "role", roles[m->role]));
    }
    return list;
}

/* What of its blocks is damaged here, and what on every replica. */
static void damage_json(const struct js_stream *st, json_t *j)
{
    struct store_stats stats = {0};
    json_t *lost = json_array();
    if (st->store != NULL) {
        store_stream_stats(st->store, &stats);
    }
    for (size_t i = 0; i < st->lost_count; i++) {
        json_array_append_new(
            lost, json_pack("[o, o]", u64(st->lost[i].first_seq), u64(st->lost[i].last_seq)));
    }
    json_object_set_new(j, "damaged_blocks", u64(stats.damaged_blocks));
    json_object_set_new(j, "mended_blocks", u64(st->mended_blocks));
    json_object_set_new(j, "lost", lost);
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
    json_object_set_new(j, "raft_id", u64(st->raft_id));
    json_object_set_new(j, "members", members_json(st->js, &g));
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
    damage_json(st, j);
    if (st->machine != NULL) {
        json_object_set_new(j, "machine_version", u64(stream_machine_version(st->machine)));
        int64_t time_ns = js_stream_now_ns(st);
        json_object_set_new(j, "time", monitor_time_json(time_ns)); /* Of the log, as known here. */
        json_object_set_new(j, "time_ahead_ms",
                            json_integer((json_int_t)((time_ns - js_now_ns(st->js)) / 1000000)));
    }
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

/* Nothing is left out in silence. */
static int write_damaged(struct dump *d)
{
    buf_clear(&d->line);
    buf_printf(&d->line, "{\"seq\":%llu,\"error\":\"damaged\"}\n", (unsigned long long)d->next_seq);
    return http_stream_write(d->req, buf_slice(&d->line));
}

static bool dump_more(void *arg);

static void on_dump_read(struct js_stream *st, void *arg, int status, const struct store_view *view)
{
    struct dump *d = arg;
    d->is_reading = false;
    if (st == NULL || d->is_ended) {
        dump_end(d);
        return;
    }
    if (view != NULL ? write_message(d, view) != 0
                     : status == ERR_CORRUPT && write_damaged(d) != 0) {
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
        uint64_t lost = st == NULL ? 0 : js_mend_next_lost(st, d->next_seq);
        if (lost != 0 && (seq == 0 || lost < seq)) { /* Not even the index knows of it. */
            d->next_seq = lost;
            if (write_damaged(d) != 0) {
                dump_end(d);
                return false;
            }
            d->next_seq = lost + 1;
            continue;
        }
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

static json_t *scrub_json(const struct js *js)
{
    const struct js_scrub *c = &js->scrub;
    json_t *j = json_pack("{s:b, s:o, s:o}", "is_running", c->gid != 0, "passes", u64(c->passes),
                          "blocks", u64(c->blocks));
    json_object_set_new(j, "bytes", u64(c->bytes));
    json_object_set_new(j, "damaged_blocks", u64(c->damaged));
    json_object_set_new(j, "journal_checks", u64(c->journal_checks));
    json_object_set_new(j, "journal_damaged", u64(c->journal_damaged));
    return j;
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
        http_respond_json(req, 200,
                          json_pack("{s:s, s:o, s:o}", "server", js->ctx->server_name, "replicas",
                                    list, "scrub", scrub_json(js)));
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

/* Why a replica here is not current, or NULL. */
static const char *stream_lag(const struct js_stream *st)
{
    struct group_status g;
    if (st->state == JS_STREAM_MENDING) {
        return "damaged on this node, being mended";
    }
    if (st->group == NULL || st->state != JS_STREAM_OK) {
        return "stopped";
    }
    group_status(st->group, &g);
    return g.role.leader_node_id == 0           ? "group has no leader"
           : g.is_catching_up || !g.is_level    ? "catching up"
           : st->applied_index < g.commit_index ? "applying"
                                                : NULL;
}

static const char *meta_health(struct js *js)
{
    struct group_status g;
    if (js->is_meta_failed) {
        return "JetStream meta layer is not running";
    }
    if (js->disk.is_stuck) {
        return "JetStream cannot write: its disk takes nothing";
    }
    if (js->meta_group == NULL) {
        snprintf(js->health_text, sizeof js->health_text,
                 "JetStream cluster is not born yet, waiting for: %s", js_birth_missing(js));
        return js->health_text;
    }
    if (js->meta_leader_id == 0) {
        return "JetStream has not established contact with a meta leader";
    }
    group_status(js->meta_group, &g);
    if (!g.is_level) {
        return "JetStream is not current with the meta leader"; /* Which may know more streams. */
    }
    return NULL;
}

/* Of the replica that is not current, or of no replica. */
static const char *stream_health(struct js *js, struct js_stream *st)
{
    const char *why = stream_lag(st);
    if (why == NULL) {
        return NULL;
    }
    snprintf(js->health_text, sizeof js->health_text,
             "JetStream stream '$G > %s' is not current: %s", st->name, why);
    return js->health_text;
}

/* The asset that was asked for, found or not; true: the question is answered. */
static bool check_named(struct js *js, struct monitor_health *h)
{
    char text[sizeof h->error];
    if (strcmp(h->account, "$G") != 0) {
        snprintf(text, sizeof text, "JetStream account \"%.200s\" not found", h->account);
        monitor_health_fail(h, 404, "ACCOUNT", NULL, text);
        return true;
    }
    if (h->stream == NULL) {
        return false;
    }
    const struct meta_stream *s = meta_stream_find(js->meta, slice_str(h->stream));
    struct js_stream *st = s == NULL ? NULL : js_stream_find(js, s->gid);
    if (s == NULL) {
        snprintf(text, sizeof text, "JetStream stream \"%.200s\" not found on account \"$G\"",
                 h->stream);
        monitor_health_fail(h, 404, "STREAM", h->stream, text);
    } else if (st != NULL && stream_health(js, st) != NULL) {
        monitor_health_fail(h, 503, "STREAM", h->stream, js->health_text);
    } else if (h->consumer != NULL && st != NULL && st->machine != NULL &&
               consumers_by_name(stream_get_consumers(st->machine), slice_str(h->consumer)) ==
                   NULL) {
        snprintf(text, sizeof text,
                 "JetStream consumer \"%.150s\" not found for stream \"%.150s\" on account \"$G\"",
                 h->consumer, h->stream);
        monitor_health_fail(h, 404, "CONSUMER", h->stream, text);
    }
    return true;
}

static void check_health(void *arg, struct monitor_health *h)
{
    struct js *js = arg;
    const char *why = h->is_js_enabled_only ? NULL : meta_health(js);
    if (why != NULL) {
        monitor_health_fail(h, 503, "JETSTREAM", NULL, why);
        return;
    }
    if (h->is_js_enabled_only || h->is_js_meta_only || (h->account != NULL && check_named(js, h))) {
        return;
    }
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        why = stream_health(js, st);
        if (why != NULL) {
            monitor_health_fail(h, 503, "STREAM", st->name, why);
            if (!h->has_details) {
                return;
            }
        }
    }
}

void js_monitor_start(struct js *js, struct monitor *m)
{
    js_jsz_start(js, m);
    http_handle(js->ctx->http, "/replicaz", "Replicas", on_replicaz, js);
    monitor_set_health_hook(m, check_health, js);
}
