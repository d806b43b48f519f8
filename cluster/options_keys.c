/* The keys at the configuration's top. */
#include <assert.h>

#include "cluster/options_reader.h"
#include "storage/base/err.h"

/* ---- The top ---- */

static void read_client_listen(struct config_reader *r, const struct conf_value *v)
{
    config_read_listen(r, v, &r->o->host, &r->o->port);
}

static void read_http(struct config_reader *r, const struct conf_value *v)
{
    config_read_listen(r, v, &r->o->http_host, &r->o->http_port);
}

static void read_server_name(struct config_reader *r, const struct conf_value *v)
{
    config_read_name(r, v, "server", &r->o->server_name);
}

static void add_tag(struct config_reader *r, const struct conf_value *v)
{
    if (v->type != CONF_STRING) {
        config_fault(r, v, "error parsing tags: unsupported type %s where string is expected",
                     conf_type_name(v->type));
        return;
    }
    switch (tags_add(&r->o->tags, v->string)) {
    case 0:
        break;
    case ERR_TOOBIG:
        config_fault(r, v, "a tag is longer than %d bytes", TAG_BYTES_MAX);
        break;
    case ERR_FULL:
        config_fault(r, v, "there are more than %d tags", TAGS_MAX);
        break;
    default:
        config_fault(r, v, "a tag must be text in UTF-8");
        break;
    }
}

static void read_server_tags(struct config_reader *r, const struct conf_value *v)
{
    if (v->type != CONF_ARRAY && v->type != CONF_STRING) {
        config_fault(r, v, "error parsing tags: unsupported type %s", conf_type_name(v->type));
    } else if (v->type == CONF_STRING) {
        add_tag(r, v);
    } else {
        for (const struct conf_value *t = conf_first(v); t != NULL; t = conf_next(t)) {
            add_tag(r, t);
        }
    }
}

static void read_client_advertise(struct config_reader *r, const struct conf_value *v)
{
    config_read_advertise(r, v, &r->o->client_advertise);
}

static void read_lame_duck_duration(struct config_reader *r, const struct conf_value *v)
{
    int64_t ms;
    if (!config_is_type(r, v, CONF_STRING) || !config_take_duration(r, v, NULL, &ms)) {
        return;
    }
    if (ms < LAME_DUCK_DURATION_MIN_MS) {
        config_fault(r, v, "invalid %s of %.*s, minimum is 30 seconds", v->key,
                     SLICE_ARG(v->string));
        return;
    }
    r->o->lame_duck_duration_ms = ms;
}

static void read_lame_duck_grace(struct config_reader *r, const struct conf_value *v)
{
    int64_t ms;
    if (!config_is_type(r, v, CONF_STRING) || !config_take_duration(r, v, NULL, &ms)) {
        return;
    }
    if (ms < 0) {
        config_fault(r, v, "invalid %s, needs to be positive", v->key);
        return;
    }
    r->o->lame_duck_grace_ms = ms;
}

static void read_write_timeout(struct config_reader *r, const struct conf_value *v)
{
    if (!config_is_type(r, v, CONF_STRING)) {
        return;
    }
    if (slice_eq_str(v->string, "retry")) {
        config_fault(r, v, "weir does not have \"write_timeout: retry\" yet");
    } else if (!slice_eq_str(v->string, "default") && !slice_eq_str(v->string, "close")) {
        config_fault(r, v, "write_timeout must be 'default', 'close' or 'retry'");
    }
}

static void read_base_path(struct config_reader *r, const struct conf_value *v)
{
    if (config_is_type(r, v, CONF_STRING) && v->string.len > 0 && !slice_eq_str(v->string, "/")) {
        config_fault(r, v, "weir does not have \"http_base_path\" yet");
    }
}

static const struct key top_keys[] = {
    SPECIAL("listen", read_client_listen),
    PORT("port", port),
    STRING("host net", host),
    SPECIAL("server_name", read_server_name),
    SPECIAL("server_tags", read_server_tags),
    SPECIAL("client_advertise", read_client_advertise),
    SPECIAL("http", read_http),
    PORT("http_port monitor_port", http_port),

    INT("max_payload", max_payload, 0, OPTIONS_PAYLOAD_MAX, DEFAULT_MAX_PAYLOAD),
    INT("max_pending", max_pending, 0, INT64_C(1) << 40, DEFAULT_MAX_PENDING),
    INT("max_connections max_conn", max_connections, -1, INT32_MAX, -1),
    INT("max_subscriptions max_subs", max_subscriptions, -1, INT32_MAX, 0),
    INT("max_sub_tokens max_subscription_tokens", max_subscription_tokens, 1, 255, 0),
    INT("max_control_line", max_control_line, 0, 1 << 20, DEFAULT_MAX_CONTROL_LINE),
    INT("max_closed_clients", max_closed_clients, 0, 1 << 20, DEFAULT_MAX_CLOSED_CLIENTS),
    DURATION("ping_interval", ping_interval_ms, DEFAULT_PING_INTERVAL_MS),
    INT("ping_max", ping_max, 0, INT32_MAX, DEFAULT_PING_MAX),
    DURATION("write_deadline", write_deadline_ms, DEFAULT_WRITE_DEADLINE_MS),
    SPECIAL("write_timeout", read_write_timeout),
    SPECIAL("lame_duck_duration", read_lame_duck_duration),
    SPECIAL("lame_duck_grace_period", read_lame_duck_grace),
    BOOL("no_fast_producer_stall", no_fast_producer_stall),

    SPECIAL("authorization", config_read_authorization),
    SPECIAL("cluster", config_read_cluster),
    SPECIAL("jetstream", config_read_jetstream),
    SPECIAL("store_dir storedir", config_read_store_dir),

    STRING("pid_file pidfile", pid_file),
    STRING("ports_file_dir", ports_file_dir),
    STRING("log_file logfile", log_file),
    BOOL("debug", is_debug),
    BOOL("trace", is_trace),
    BOOL("logtime", has_logtime),
    BOOL("logtime_utc", is_logtime_utc),

    NO_EFFECT("trace_verbose", CONF_BOOL, "there is no system account to trace"),
    NO_EFFECT("no_sublist_cache disable_sublist_cache", CONF_BOOL, "there is no such cache"),
    NO_EFFECT("connect_error_reports", CONF_INT,
              "a neighbour that cannot be reached is logged as it changes"),
    NO_EFFECT("reconnect_error_reports", CONF_INT,
              "a neighbour that cannot be reached is logged as it changes"),
    FINE("no_system_account no_system no_sys_acc"),
    SPECIAL("http_base_path", read_base_path),

    MISSING("tls"),
    MISSING("allow_non_tls"),
    MISSING("ocsp"),
    MISSING("ocsp_cache"),
    MISSING("https"),
    MISSING("https_port"),
    MISSING("accounts"),
    MISSING("system_account system"),
    MISSING("no_auth_user"),
    MISSING("default_sentinel"),
    MISSING("mappings maps"),
    MISSING("operator operators root roots root_operator root_operators"),
    MISSING("trusted_keys trusted"),
    MISSING("resolver account_resolver accounts_resolver"),
    MISSING("resolver_preload"),
    MISSING("resolver_tls"),
    MISSING("resolver_pinned_accounts"),
    MISSING("gateway"),
    MISSING("leafnodes leaf"),
    MISSING("websocket ws"),
    MISSING("mqtt"),
    MISSING("default_js_domain"),
    MISSING("server_metadata"),
    MISSING("feature_flags"),
    MISSING("no_header_support"),
    MISSING("proxy_protocol"),
    MISSING("proxies"),
    MISSING("prof_port"),
    MISSING("prof_block_rate"),
    MISSING("trace_headers"),
    MISSING("max_traced_msg_len"),
    MISSING("syslog"),
    MISSING("remote_syslog"),
    MISSING("log_size_limit logfile_size_limit"),
    MISSING("log_max_num logfile_max_num"),
};

void options_read_config(struct node_options *o, const struct conf_value *root, struct buf *errors,
                         struct buf *warnings)
{
    struct config_reader r = {.o = o, .errors = errors, .warnings = warnings, .section = ""};
    assert(root->type == CONF_MAP);
    READ_MAP(&r, root, "", top_keys);
}
