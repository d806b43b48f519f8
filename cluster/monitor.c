#include "cluster/monitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "broker/subject.h"
#include "cluster/auth.h"
#include "cluster/clients.h"
#include "cluster/http.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/node_options.h"
#include "cluster/peers.h"
#include "cluster/router.h"
#include "storage/base/buf.h"

#define LIMIT_DEFAULT 1024

struct monitor {
    struct node_context *ctx;
    monitor_varz_cb varz_cb;
    void *varz_arg;
    monitor_health_cb health_cb;
    void *health_arg;
    int64_t cpu_ns, cpu_at_ns; /* At the last look. */
    double cpu_percent;
};

void monitor_set_varz_hook(struct monitor *m, monitor_varz_cb cb, void *arg)
{
    m->varz_cb = cb;
    m->varz_arg = arg;
}

void monitor_set_health_hook(struct monitor *m, monitor_health_cb cb, void *arg)
{
    m->health_cb = cb;
    m->health_arg = arg;
}

static void set_int(json_t *j, const char *key, int64_t value)
{
    json_object_set_new(j, key, json_integer(value));
}

static void set_str(json_t *j, const char *key, const char *value)
{
    json_object_set_new(j, key, json_string(value == NULL ? "" : value));
}

/* NULL also when it is empty. */
static const char *param_text(const struct http_request *req, const char *name)
{
    const char *text = http_param(req, name);
    return text == NULL || text[0] == '\0' ? NULL : text;
}

static int64_t resident_bytes(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f != NULL) {
        if (fscanf(f, "%*d %ld", &pages) != 1) {
            pages = 0;
        }
        fclose(f);
    }
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

static double cpu_percent(struct monitor *m)
{
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    int64_t used_ns = (ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000000LL +
                      (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1000LL;
    int64_t now_ns = loop_clock_ns(m->ctx->loop);
    int64_t elapsed_ns = now_ns - m->cpu_at_ns;
    if (elapsed_ns >= 1000000000LL) {
        m->cpu_percent = 100.0 * (double)(used_ns - m->cpu_ns) / (double)elapsed_ns;
        m->cpu_ns = used_ns;
        m->cpu_at_ns = now_ns;
    }
    return (double)(int64_t)(m->cpu_percent * 100.0) / 100.0;
}

/* ---- /varz ---- */

static void varz_identity(const struct node_context *ctx, json_t *j, int64_t now_ns)
{
    const struct node_options *o = ctx->options;
    set_str(j, "server_id", ctx->server_id);
    set_str(j, "server_name", ctx->server_name);
    set_str(j, "version", NODE_VERSION);
    set_int(j, "proto", NODE_PROTO);
    set_str(j, "go", "go1.24.0");
    set_str(j, "host", o->host);
    set_int(j, "port", ctx->client_port);
    if (auth_is_required(o)) {
        json_object_set_new(j, "auth_required", json_true());
    }
    json_t *urls = json_array();
    if (ctx->peers != NULL && !o->no_advertise) {
        peers_client_urls(ctx->peers, urls);
    }
    if (json_array_size(urls) > 0) {
        json_object_set(j, "connect_urls", urls);
    }
    json_decref(urls);
    json_object_set_new(j, "start", monitor_time_json(ctx->start_ns));
    json_object_set_new(j, "now", monitor_time_json(now_ns));
    json_object_set_new(j, "uptime", monitor_uptime_json(now_ns - ctx->start_ns));
}

static void varz_limits(const struct node_context *ctx, json_t *j)
{
    const struct node_options *o = ctx->options;
    set_int(j, "max_connections", o->max_connections);
    if (o->max_subscriptions > 0) {
        set_int(j, "max_subscriptions", o->max_subscriptions);
    }
    set_int(j, "ping_interval", o->ping_interval_ms * 1000000);
    set_int(j, "ping_max", o->ping_max);
    set_str(j, "http_host", o->http_host);
    set_int(j, "http_port", ctx->http_port);
    set_str(j, "http_base_path", "");
    set_int(j, "https_port", 0);
    json_object_set_new(j, "auth_timeout", json_real((double)o->auth_timeout_ms / 1000.0));
    set_int(j, "max_control_line", o->max_control_line);
    set_int(j, "max_payload", o->max_payload);
    set_int(j, "max_pending", o->max_pending);
    json_object_set_new(j, "tls_timeout", json_real(2));
    set_int(j, "write_deadline", o->write_deadline_ms * 1000000);
}

static void varz_tags(const struct node_context *ctx, json_t *j)
{
    const struct tag_list *tags = &ctx->options->tags;
    json_t *list = json_array();
    for (size_t i = 0; i < tags->count; i++) {
        json_array_append_new(list, json_string(tags->items[i]));
    }
    if (tags->count > 0) {
        json_object_set(j, "tags", list);
    }
    json_decref(list);
}

static void varz_cluster(const struct node_context *ctx, json_t *j)
{
    const struct node_options *o = ctx->options;
    json_t *c = json_object();
    if (o->has_cluster) {
        set_str(c, "name", ctx->cluster_name);
        set_str(c, "addr", o->cluster_host);
        set_int(c, "cluster_port", ctx->cluster_port);
        json_object_set_new(c, "auth_timeout",
                            json_real((double)o->cluster_auth_timeout_ms / 1000.0));
        json_t *urls = json_array();
        for (uint32_t i = 0; i < o->routes_count; i++) {
            const char *url = o->routes[i];
            const char *at = strstr(url, "://");
            at = at == NULL ? url : at + 3;
            const char *host = strrchr(at, '@');
            json_array_append_new(urls, json_string(host == NULL ? at : host + 1));
        }
        json_object_set_new(c, "urls", urls);
        json_object_set_new(c, "tls_timeout", json_real(2));
        set_int(c, "pool_size", 3);
    }
    json_object_set_new(j, "cluster", c);
    json_object_set_new(j, "gateway", json_object());
    json_object_set_new(j, "leaf", json_object());
    json_object_set_new(j, "mqtt", json_object());
    json_object_set_new(j, "websocket", json_object());
}

static void varz_counters(const struct node_context *ctx, json_t *j)
{
    struct clients_stats cs = clients_stats(ctx->clients);
    struct peers_stats ps = {0};
    if (ctx->peers != NULL) {
        ps = peers_stats(ctx->peers);
    }
    set_int(j, "connections", (int64_t)cs.connections);
    set_int(j, "total_connections", (int64_t)cs.total_connections);
    set_int(j, "routes", (int64_t)ps.connections);
    set_int(j, "remotes", (int64_t)ps.remotes);
    set_int(j, "leafnodes", 0);
    set_int(j, "in_msgs", (int64_t)(cs.in_msgs + ps.in_msgs));
    set_int(j, "out_msgs", (int64_t)(cs.out_msgs + ps.out_msgs));
    set_int(j, "in_bytes", (int64_t)(cs.in_bytes + ps.in_bytes));
    set_int(j, "out_bytes", (int64_t)(cs.out_bytes + ps.out_bytes));
    set_int(j, "in_client_msgs", (int64_t)cs.in_msgs);
    set_int(j, "in_client_bytes", (int64_t)cs.in_bytes);
    set_int(j, "out_client_msgs", (int64_t)cs.out_msgs);
    set_int(j, "out_client_bytes", (int64_t)cs.out_bytes);
    set_int(j, "slow_consumers", (int64_t)cs.slow_consumers);
    set_int(j, "stale_connections", (int64_t)cs.stale_connections);
    set_int(j, "stalled_clients", (int64_t)cs.stalled_clients);
    set_int(j, "subscriptions", (int64_t)router_stats(ctx->router).subs);
    json_object_set_new(j, "slow_consumer_stats",
                        json_pack("{s:I,s:i,s:i,s:i}", "clients", (json_int_t)cs.slow_consumers,
                                  "routes", 0, "gateways", 0, "leafs", 0));
    json_object_set_new(j, "stale_connection_stats",
                        json_pack("{s:I,s:i,s:i,s:i}", "clients", (json_int_t)cs.stale_connections,
                                  "routes", 0, "gateways", 0, "leafs", 0));
}

/* What is weir's own. */
static json_t *varz_loop(const struct node_context *ctx)
{
    const struct watchdog *w = loop_watchdog(ctx->loop);
    json_t *longest = json_object();
    set_int(longest, "took_us", (int64_t)(w->longest.took_ns / 1000));
    set_int(longest, "cpu_us", (int64_t)(w->longest.cpu_ns / 1000));
    set_str(longest, "activity", watchdog_activity_text(w->longest.activity));
    set_str(longest, "piece", watchdog_activity_text(w->longest.piece.activity));
    set_int(longest, "piece_us", (int64_t)(w->longest.piece_ns / 1000));
    set_int(longest, "piece_gid", (int64_t)w->longest.piece.gid);
    json_t *j = json_object();
    set_int(j, "turns", (int64_t)w->turns);
    set_int(j, "long_turns", (int64_t)w->long_count);
    set_int(j, "busy_turns", (int64_t)w->busy_count);
    json_object_set_new(j, "longest_turn", longest);
    return j;
}

static void on_varz(void *arg, struct http_request *req)
{
    struct monitor *m = arg;
    const struct node_context *ctx = m->ctx;
    int64_t now_ns = loop_clock_ns(ctx->loop);
    json_t *j = json_object();
    varz_identity(ctx, j, now_ns);
    varz_limits(ctx, j);
    varz_cluster(ctx, j);
    json_t *js = json_object();
    if (m->varz_cb != NULL) {
        m->varz_cb(m->varz_arg, js);
    }
    json_object_set_new(j, "jetstream", js);
    set_int(j, "mem", resident_bytes());
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    set_int(j, "cores", cores);
    set_int(j, "gomaxprocs", cores);
    json_object_set_new(j, "cpu", json_real(cpu_percent(m)));
    varz_counters(ctx, j);
    json_t *stats = json_object();
    http_request_stats(ctx->http, stats);
    json_object_set_new(j, "http_req_stats", stats);
    json_object_set_new(j, "weir", json_pack("{s:o}", "loop", varz_loop(ctx)));
    json_object_set_new(j, "config_load_time", monitor_time_json(ctx->start_ns));
    varz_tags(ctx, j);
    set_str(j, "system_account", "$SYS");
    http_respond_json(req, 200, j);
}

/* ---- /connz, /routez, /subsz ---- */

static int parse_subs(struct http_request *req, bool *ret_subs, bool *ret_detail)
{
    const char *subs = http_param(req, "subs");
    *ret_subs = *ret_detail = false;
    if (subs != NULL && strcmp(subs, "detail") == 0) {
        *ret_detail = true;
        return 0;
    }
    return http_param_bool(req, "subs", ret_subs);
}

static void on_connz(void *arg, struct http_request *req)
{
    struct monitor *m = arg;
    const char *sort = http_param(req, "sort");
    const char *state = http_param(req, "state");
    struct clients_connz q = {
        .sort = sort == NULL || sort[0] == '\0' ? "cid" : sort,
        .limit = LIMIT_DEFAULT,
        .user = http_param(req, "user"),
    };
    if (state == NULL || state[0] == '\0' || strcasecmp(state, "open") == 0) {
        q.state = 0;
    } else if (strcasecmp(state, "closed") == 0) {
        q.state = 1;
    } else if (strcasecmp(state, "any") == 0 || strcasecmp(state, "all") == 0) {
        q.state = 2;
    } else {
        char text[256];
        snprintf(text, sizeof text, "Error decoding state for %.200s", state);
        http_respond_error(req, 400, text);
        return;
    }
    if (http_param_bool(req, "auth", &q.is_auth) != 0 ||
        parse_subs(req, &q.has_subs, &q.has_subs_detail) != 0 ||
        http_param_count(req, "offset", &q.offset) != 0 ||
        http_param_count(req, "limit", &q.limit) != 0 || http_param_u64(req, "cid", &q.cid) != 0) {
        return;
    }
    if (q.limit == 0) {
        q.limit = LIMIT_DEFAULT;
    }
    if (q.state == 0 && (strcmp(q.sort, "stop") == 0 || strcmp(q.sort, "reason") == 0)) {
        http_respond_error(req, 400, "sort by stop only valid on closed connections");
        return;
    }
    json_t *j = clients_connz(m->ctx->clients, &q);
    if (j == NULL) {
        char text[256];
        snprintf(text, sizeof text, "invalid sorting option: %.200s", q.sort);
        http_respond_error(req, 400, text);
        return;
    }
    http_respond_json(req, 200, j);
}

static void on_routez(void *arg, struct http_request *req)
{
    struct monitor *m = arg;
    bool has_subs, has_detail;
    if (parse_subs(req, &has_subs, &has_detail) != 0) {
        return;
    }
    json_t *j = json_object();
    set_str(j, "server_id", m->ctx->server_id);
    set_str(j, "server_name", m->ctx->server_name);
    json_object_set_new(j, "now", monitor_time_json(loop_clock_ns(m->ctx->loop)));
    json_t *routes =
        m->ctx->peers == NULL ? json_array() : peers_routez(m->ctx->peers, has_subs, has_detail);
    set_int(j, "num_routes", (int64_t)json_array_size(routes));
    json_object_set_new(j, "routes", routes);
    http_respond_json(req, 200, j);
}

static void on_subsz(void *arg, struct http_request *req)
{
    struct monitor *m = arg;
    bool has_subs, has_detail;
    uint64_t offset = 0, limit = LIMIT_DEFAULT;
    if (parse_subs(req, &has_subs, &has_detail) != 0 ||
        http_param_count(req, "offset", &offset) != 0 ||
        http_param_count(req, "limit", &limit) != 0) {
        return;
    }
    const char *test = param_text(req, "test");
    if (test != NULL && !subject_is_valid_publish(slice_str(test))) {
        char text[256];
        snprintf(text, sizeof text, "invalid test subject, must be valid publish subject: %.150s",
                 test);
        http_respond_error(req, 400, text);
        return;
    }
    struct router_stats rs = router_stats(m->ctx->router);
    json_t *j = json_object();
    set_str(j, "server_id", m->ctx->server_id);
    json_object_set_new(j, "now", monitor_time_json(loop_clock_ns(m->ctx->loop)));
    set_int(j, "num_subscriptions", (int64_t)rs.subs);
    set_int(j, "num_inserts", (int64_t)rs.inserts);
    set_int(j, "num_removes", (int64_t)rs.removes);
    set_int(j, "num_matches", (int64_t)rs.matches);
    uint64_t looked = rs.cache_hits + rs.cache_misses;
    json_object_set_new(j, "cache_hit_rate",
                        json_real(looked == 0 ? 0 : (double)rs.cache_hits / (double)looked));
    uint64_t total = 0;
    if (has_subs || has_detail || test != NULL) {
        json_object_set_new(j, "subscriptions_list",
                            clients_subsz(m->ctx->clients, test, offset, limit, &total));
    }
    set_int(j, "total", (int64_t)total);
    set_int(j, "offset", (int64_t)offset);
    set_int(j, "limit", (int64_t)limit);
    http_respond_json(req, 200, j);
}

/* ---- /healthz ---- */

void monitor_health_fail(struct monitor_health *h, int status, const char *type, const char *stream,
                         const char *text)
{
    if (h->status == 200) {
        h->status = status;
        snprintf(h->error, sizeof h->error, "%s", text);
    }
    json_t *e = json_object();
    bool is_asset = stream != NULL || strcmp(type, "ACCOUNT") == 0;
    set_str(e, "type", type);
    if (is_asset) {
        set_str(e, "account", h->account == NULL ? "$G" : h->account);
    }
    if (stream != NULL) {
        set_str(e, "stream", stream);
    }
    if (strcmp(type, "CONSUMER") == 0) {
        set_str(e, "consumer", h->consumer);
    }
    set_str(e, "error", text);
    json_array_append_new(h->errors, e);
}

static void respond_health(struct http_request *req, struct monitor_health *h)
{
    json_t *j = json_object();
    bool is_ok = h->status == 200;
    bool is_unavailable = !h->has_details && h->status != 400 && h->status != 500;
    set_str(j, "status", is_ok ? "ok" : is_unavailable ? "unavailable" : "error");
    if (!is_ok && h->has_details) {
        json_object_set(j, "errors", h->errors);
    } else if (!is_ok) {
        set_str(j, "error", h->error);
    }
    json_decref(h->errors);
    char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    /* As Go's encoder: < > & are escaped. */
    struct buf out = BUF_EMPTY;
    for (const char *s = text; *s != '\0'; s++) {
        if (*s == '<' || *s == '>' || *s == '&') {
            buf_printf(&out, "\\u%04x", (unsigned)*s);
        } else {
            buf_append_u8(&out, (uint8_t)*s);
        }
    }
    free(text);
    http_respond(req, h->status, "application/json", buf_slice(&out));
    buf_close(&out);
}

static void check_listeners(const struct node_context *ctx, struct monitor_health *h)
{
    bool has_server = clients_is_listening(ctx->clients);
    bool has_route = ctx->peers == NULL || peers_is_listening(ctx->peers);
    if (!has_server || !has_route) {
        char text[128];
        snprintf(text, sizeof text, "failed to be ready for connections after 1ms: %s%s%s",
                 has_server ? "" : "server", !has_server && !has_route ? ", " : "",
                 has_route ? "" : "route");
        monitor_health_fail(h, 500, "CONNECTION", NULL, text);
    }
}

static void on_healthz(void *arg, struct http_request *req)
{
    struct monitor *m = arg;
    struct monitor_health h = {.status = 200};
    bool is_server_only = false, is_enabled_old = false;
    if (http_param_bool(req, "js-server-only", &is_server_only) != 0 ||
        http_param_bool(req, "js-enabled", &is_enabled_old) != 0 ||
        http_param_bool(req, "js-enabled-only", &h.is_js_enabled_only) != 0 ||
        http_param_bool(req, "js-meta-only", &h.is_js_meta_only) != 0 ||
        http_param_bool(req, "details", &h.has_details) != 0) {
        return;
    }
    h.is_js_enabled_only = h.is_js_enabled_only || is_enabled_old;
    h.account = param_text(req, "account");
    h.stream = param_text(req, "stream");
    h.consumer = param_text(req, "consumer");
    h.errors = json_array();
    if (h.stream != NULL && h.account == NULL) {
        monitor_health_fail(&h, 400, "BAD_REQUEST", NULL,
                            "\"account\" must not be empty when checking stream health");
    } else if (h.consumer != NULL && h.stream == NULL) {
        monitor_health_fail(&h, 400, "BAD_REQUEST", NULL,
                            "\"stream\" must not be empty when checking consumer health");
    } else {
        check_listeners(m->ctx, &h);
    }
    if (h.status == 200 && !is_server_only && m->health_cb != NULL) {
        m->health_cb(m->health_arg, &h);
    }
    respond_health(req, &h);
}

struct monitor *monitor_new(struct node_context *ctx)
{
    struct monitor *m = xcalloc(1, sizeof *m);
    m->ctx = ctx;
    m->cpu_at_ns = loop_clock_ns(ctx->loop);
    http_handle(ctx->http, "/varz", "General", on_varz, m);
    http_handle(ctx->http, "/connz", "Connections", on_connz, m);
    http_handle(ctx->http, "/routez", "Routes", on_routez, m);
    http_handle(ctx->http, "/subsz", "Subscriptions", on_subsz, m);
    http_handle(ctx->http, "/subscriptionsz", NULL, on_subsz, m);
    http_handle(ctx->http, "/healthz", "Health Probe", on_healthz, m);
    return m;
}

void monitor_free(struct monitor *m)
{
    free(m);
}
