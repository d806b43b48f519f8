#include "cluster/options.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/options_internal.h"
#include "storage/base/err.h"
#include "storage/base/list.h"
#include "storage/base/log.h"

struct options {
    struct node_options node;
    struct options_flags flags;
    const struct conf_options *source;
    struct buf warnings;
};

static void set(char **field, const char *value)
{
    options_set_string(field, slice_str(value));
}

static void set_defaults(struct node_options *o)
{
    *o = (struct node_options){
        .port = DEFAULT_PORT,
        .max_payload = DEFAULT_MAX_PAYLOAD,
        .max_pending = DEFAULT_MAX_PENDING,
        .max_connections = DEFAULT_MAX_CONNECTIONS,
        .max_control_line = DEFAULT_MAX_CONTROL_LINE,
        .max_closed_clients = DEFAULT_MAX_CLOSED_CLIENTS,
        .ping_interval_ms = DEFAULT_PING_INTERVAL_MS,
        .ping_max = DEFAULT_PING_MAX,
        .write_deadline_ms = DEFAULT_WRITE_DEADLINE_MS,
        .lame_duck_duration_ms = DEFAULT_LAME_DUCK_DURATION_MS,
        .lame_duck_grace_ms = DEFAULT_LAME_DUCK_GRACE_MS,
        .auth_timeout_ms = DEFAULT_AUTH_TIMEOUT_MS,
        .cluster_auth_timeout_ms = DEFAULT_AUTH_TIMEOUT_MS,
        .max_memory_bytes = -1,
        .max_file_bytes = -1,
        .disk_reserve_bytes = -1,
        .catchup_bytes_per_s = 256 << 20,
        .scrub_bytes_per_s = 4 << 20,
        .scrub_interval_ms = 3600 * 1000,
        .has_logtime = true,
    };
}

/* What depends on other settings. */
static void complete(struct node_options *o)
{
    if (o->host == NULL) {
        set(&o->host, "0.0.0.0");
    }
    if (o->http_host == NULL) {
        set(&o->http_host, o->host);
    }
    if (o->cluster_host == NULL) {
        set(&o->cluster_host, "0.0.0.0");
    }
    if (o->port == 0) {
        o->port = DEFAULT_PORT;
    }
    o->has_cluster = o->cluster_port != 0;
    if (o->has_jetstream && o->store_dir == NULL) {
        set(&o->store_dir, "/tmp/weir");
        options_add_note(o, SLICE_LIT("Temporary storage directory used, data could be lost on "
                                      "system reboot"));
    }
}

/* Whether the settings fit each other; else a sentence is in @error. */
static int check(const struct node_options *o, struct buf *error)
{
    if (o->max_payload > o->max_pending) {
        buf_printf(error, "max_payload (%lld) cannot be higher than max_pending (%lld)",
                   (long long)o->max_payload, (long long)o->max_pending);
    } else if (o->lame_duck_grace_ms >= o->lame_duck_duration_ms) {
        buf_append_str(error, "lame duck grace period (");
        options_print_duration(error, o->lame_duck_grace_ms);
        buf_append_str(error, ") should be strictly lower than lame duck duration (");
        options_print_duration(error, o->lame_duck_duration_ms);
        buf_append_str(error, ")");
    } else if (o->routes_count > 0 && !o->has_cluster) {
        buf_append_str(error, "solicited routes require cluster capabilities, e.g. --cluster");
    } else if (o->has_cluster && o->has_jetstream && o->server_name == NULL) {
        buf_append_str(error, "jetstream cluster requires `server_name` to be set");
    } else if (o->has_cluster && o->has_jetstream && o->cluster_name == NULL) {
        buf_append_str(error, "jetstream cluster requires `cluster.name` to be set");
    } else if (o->has_cluster && o->has_jetstream && o->routes_count == 0) {
        buf_append_str(error, "JetStream cluster requires configured routes");
    } else if (o->pass != NULL && o->user == NULL) {
        buf_append_str(error, "a password needs a user");
    }
    return error->len == 0 ? 0 : ERR_INVALID;
}

/* Read the file and put it into @o. Sentences go to @error, without an end of line. */
static int read_file(const struct options *all, struct node_options *o, struct buf *warnings,
                     struct buf *error)
{
    const char *name = all->flags.config_path;
    struct buf text = BUF_EMPTY;
    char *path = NULL;
    struct conf *conf = NULL;
    const char *why = all->source->load(all->source->ctx, NULL, name, &path, &text);
    if (why != NULL) {
        buf_printf(error, "open %s: %s", name, why);
    } else if (conf_parse(buf_slice(&text), name, all->source, &conf, error) == 0) {
        if (conf_first(conf_root(conf)) == NULL) {
            buf_printf(warnings, "%s: config has no values or is empty\n", name);
        }
        options_read_config(o, conf_root(conf), error, warnings);
    }
    while (error->len > 0 && error->ptr[error->len - 1] == '\n') {
        error->len--;
    }
    conf_free(conf);
    buf_close(&text);
    free(path);
    return error->len == 0 ? 0 : ERR_INVALID;
}

/* Defaults, file, flags. On error @o owns what it got. */
static int build(const struct options *all, struct node_options *o, struct buf *warnings,
                 struct buf *error)
{
    set_defaults(o);
    if (all->flags.config_path != NULL) {
        set(&o->config_path, all->flags.config_path);
        int rv = read_file(all, o, warnings, error);
        if (rv != 0) {
            return rv;
        }
    }
    options_flags_apply(&all->flags, o);
    complete(o);
    return check(o, error);
}

/* ---- Reload ---- */

enum change_kind { CHANGE_STRING, CHANGE_INT64, CHANGE_DURATION, CHANGE_INT, CHANGE_BOOL };

static const struct change {
    const char *name; /* As the log of a reload calls it. */
    enum change_kind kind;
    size_t offset;
    bool is_live; /* Can change while the node runs. */
} changes[] = {
#define CHANGE(name, kind, field, is_live)                                                         \
    {                                                                                              \
        name, CHANGE_##kind, offsetof(struct node_options, field), is_live                         \
    }
    CHANGE("Host", STRING, host, false),
    CHANGE("Port", INT, port, false),
    CHANGE("ServerName", STRING, server_name, false),
    CHANGE("client_advertise", STRING, client_advertise, false),
    CHANGE("HTTPHost", STRING, http_host, false),
    CHANGE("HTTPPort", INT, http_port, false),
    CHANGE("max_payload", INT64, max_payload, false),
    CHANGE("MaxPending", INT64, max_pending, false),
    CHANGE("max_connections", INT64, max_connections, true),
    CHANGE("MaxSubs", INT64, max_subscriptions, false),
    CHANGE("MaxSubTokens", INT64, max_subscription_tokens, false),
    CHANGE("max_control_line", INT64, max_control_line, false),
    CHANGE("MaxClosedClients", INT64, max_closed_clients, false),
    CHANGE("ping_interval", DURATION, ping_interval_ms, true),
    CHANGE("ping_max", INT64, ping_max, true),
    CHANGE("write_deadline", DURATION, write_deadline_ms, true),
    CHANGE("LameDuckDuration", DURATION, lame_duck_duration_ms, false),
    CHANGE("LameDuckGracePeriod", DURATION, lame_duck_grace_ms, false),
    CHANGE("no_fast_producer_stall", BOOL, no_fast_producer_stall, true),
    CHANGE("authorization username", STRING, user, true),
    CHANGE("authorization password", STRING, pass, true),
    CHANGE("authorization token", STRING, token, true),
    CHANGE("authorization timeout", DURATION, auth_timeout_ms, true),
    CHANGE("cluster name", STRING, cluster_name, false),
    CHANGE("cluster host", STRING, cluster_host, false),
    CHANGE("cluster port", INT, cluster_port, false),
    CHANGE("cluster advertise", STRING, cluster_advertise, false),
    CHANGE("cluster no_advertise", BOOL, no_advertise, false),
    CHANGE("cluster username", STRING, cluster_user, false),
    CHANGE("cluster password", STRING, cluster_pass, false),
    CHANGE("cluster authorization timeout", DURATION, cluster_auth_timeout_ms, false),
    CHANGE("jetstream", BOOL, has_jetstream, false),
    CHANGE("jetstream storage directory", STRING, store_dir, false),
    CHANGE("JetStreamUniqueTag", STRING, unique_tag, false),
    CHANGE("jetstream max_memory", INT64, max_memory_bytes, true),
    CHANGE("jetstream max_store", INT64, max_file_bytes, true),
    CHANGE("jetstream disk_reserve", INT64, disk_reserve_bytes, false),
    CHANGE("jetstream catchup_rate", INT64, catchup_bytes_per_s, false),
    CHANGE("jetstream scrub_rate", INT64, scrub_bytes_per_s, false),
    CHANGE("jetstream scrub_interval", INT64, scrub_interval_ms, false),
    CHANGE("pid_file", STRING, pid_file, false),
    CHANGE("ports_file_dir", STRING, ports_file_dir, false),
    CHANGE("log_file", STRING, log_file, true),
    CHANGE("debug", BOOL, is_debug, true),
    CHANGE("trace", BOOL, is_trace, true),
    CHANGE("logtime", BOOL, has_logtime, true),
    CHANGE("logtime_utc", BOOL, is_logtime_utc, true),
#undef CHANGE
};

static const size_t change_sizes[] = {sizeof(char *), sizeof(int64_t), sizeof(int64_t), sizeof(int),
                                      sizeof(bool)};

static bool is_equal_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool is_secret(const struct change *c)
{
    return strstr(c->name, "password") != NULL || strstr(c->name, "authorization") != NULL;
}

/* Append what the field holds. */
static void print_field(const struct change *c, const struct node_options *o, struct buf *out)
{
    const void *at = (const char *)o + c->offset;
    switch (c->kind) {
    case CHANGE_STRING:
        buf_printf(out, "%.200s", *(char *const *)at == NULL ? "" : *(char *const *)at);
        break;
    case CHANGE_INT64:
        buf_printf(out, "%lld", (long long)*(const int64_t *)at);
        break;
    case CHANGE_DURATION:
        options_print_duration(out, *(const int64_t *)at);
        break;
    case CHANGE_INT:
        buf_printf(out, "%d", *(const int *)at);
        break;
    case CHANGE_BOOL:
        buf_append_str(out, *(const bool *)at ? "true" : "false");
        break;
    }
}

static bool is_changed(const struct change *c, const struct node_options *now,
                       const struct node_options *fresh)
{
    const char *a = (const char *)now + c->offset;
    const char *b = (const char *)fresh + c->offset;
    return c->kind == CHANGE_STRING
               ? !is_equal_text(*(char *const *)(const void *)a, *(char *const *)(const void *)b)
               : memcmp(a, b, change_sizes[c->kind]) != 0;
}

static bool is_equal_routes(const struct node_options *a, const struct node_options *b)
{
    bool is_equal = a->routes_count == b->routes_count;
    for (uint32_t i = 0; is_equal && i < a->routes_count; i++) {
        is_equal = strcmp(a->routes[i], b->routes[i]) == 0;
    }
    return is_equal;
}

static bool is_equal_users(const struct node_options *a, const struct node_options *b)
{
    bool is_equal = a->users_count == b->users_count;
    for (uint32_t i = 0; is_equal && i < a->users_count; i++) {
        is_equal = strcmp(a->users[i].user, b->users[i].user) == 0 &&
                   is_equal_text(a->users[i].pass, b->users[i].pass);
    }
    return is_equal;
}

/* Refuse as a whole when something changed that must stay. */
static int check_changes(const struct node_options *now, const struct node_options *fresh,
                         struct buf *error)
{
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        const struct change *c = &changes[i];
        if (c->is_live || !is_changed(c, now, fresh)) {
            continue;
        }
        buf_printf(error, "config reload not supported for %s", c->name);
        if (!is_secret(c)) {
            buf_append_str(error, ": old=");
            print_field(c, now, error);
            buf_append_str(error, ", new=");
            print_field(c, fresh, error);
        }
        return ERR_UNSUPPORTED;
    }
    if (!is_equal_routes(now, fresh)) {
        buf_append_str(error, "config reload not supported for cluster routes");
        return ERR_UNSUPPORTED;
    }
    return 0;
}

static void swap_bytes(void *a, void *b, size_t size)
{
    char tmp[16];
    assert(size <= sizeof tmp);
    memcpy(tmp, a, size);
    memcpy(a, b, size);
    memcpy(b, tmp, size);
}

/* Exchange what may change and say so; @fresh owns the old values afterwards. */
static void take_changes(struct node_options *now, struct node_options *fresh)
{
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        const struct change *c = &changes[i];
        if (!c->is_live || !is_changed(c, now, fresh)) {
            continue;
        }
        struct buf text = BUF_EMPTY;
        if (!is_secret(c)) {
            buf_append_str(&text, " = ");
            print_field(c, fresh, &text);
        }
        log_inf("Reloaded: %s%.*s", c->name, SLICE_ARG(buf_slice(&text)));
        buf_close(&text);
        swap_bytes((char *)now + c->offset, (char *)fresh + c->offset, change_sizes[c->kind]);
    }
    if (!is_equal_users(now, fresh)) {
        log_inf("Reloaded: authorization users");
        swap_bytes(&now->users, &fresh->users, sizeof now->users);
        swap_bytes(&now->users_count, &fresh->users_count, sizeof now->users_count);
    }
    if (!tags_eq(&now->tags, &fresh->tags)) {
        log_inf("Reloaded: tags");
        swap_bytes(&now->tags, &fresh->tags, sizeof now->tags);
    }
}

static struct log_options log_options_of(const struct node_options *o)
{
    return (struct log_options){
        .level_max = o->is_trace   ? LOG_LEVEL_TRC
                     : o->is_debug ? LOG_LEVEL_DBG
                                   : LOG_LEVEL_INF,
        .path = o->log_file,
        .has_time = o->has_logtime,
        .is_utc = o->is_logtime_utc,
    };
}

static int reload(struct node_options *now, char *error, size_t error_size)
{
    struct options *all = container_of(now, struct options, node);
    struct node_options fresh;
    struct buf why = BUF_EMPTY, warnings = BUF_EMPTY;
    int rv = build(all, &fresh, &warnings, &why);
    if (rv == 0) {
        rv = check_changes(now, &fresh, &why);
    }
    if (rv == 0) {
        struct log_options log = log_options_of(&fresh);
        if (log_open(&log) != 0) {
            buf_printf(&why, "log file %s cannot be opened", fresh.log_file);
            rv = ERR_IO;
        }
    }
    if (rv == 0) {
        take_changes(now, &fresh);
    }
    if (rv == 0 && warnings.len > 0) {
        log_wrn("%.*s", (int)warnings.len - 1, (const char *)warnings.ptr);
    }
    snprintf(error, error_size, "%.*s", SLICE_ARG(buf_slice(&why)));
    options_clear(&fresh);
    buf_close(&why);
    buf_close(&warnings);
    return rv;
}

/* ---- The whole ---- */

int options_open(int argc, char **argv, const struct conf_options *source,
                 struct options **ret_options, struct buf *error)
{
    struct options *all = xcalloc(1, sizeof *all);
    struct buf why = BUF_EMPTY;
    all->source = source;
    int rv = options_flags_parse(argc, argv, &all->flags, error);
    if (rv != 0) {
        goto err_after_alloc;
    }
    enum options_action action = options_action(all);
    if (action == OPTIONS_TEST && all->flags.config_path == NULL) {
        buf_append_str(&why, "must specify [-c, --config] option to check configuration file "
                             "syntax");
        rv = ERR_INVALID;
    } else if (action == OPTIONS_RUN || action == OPTIONS_TEST) {
        rv = build(all, &all->node, &all->warnings, &why);
    }
    if (rv == 0 && action == OPTIONS_TEST && all->warnings.len > 0) {
        buf_append(&why, all->warnings.ptr, all->warnings.len - 1);
        rv = ERR_INVALID;
    }
    if (rv != 0) {
        buf_printf(error, "nats-server: %.*s\n", SLICE_ARG(buf_slice(&why)));
        goto err_after_flags;
    }
    const char *slash = strrchr(argv[0], '/');
    all->node.program = slash == NULL ? argv[0] : slash + 1;
    all->node.reload = reload;
    buf_close(&why);
    *ret_options = all;
    return 0;

err_after_flags:
    options_clear(&all->node);
    options_flags_close(&all->flags);
    buf_close(&all->warnings);
err_after_alloc:
    buf_close(&why);
    free(all);
    return rv;
}

void options_free(struct options *o)
{
    if (o == NULL) {
        return;
    }
    options_clear(&o->node);
    options_flags_close(&o->flags);
    buf_close(&o->warnings);
    free(o);
}

enum options_action options_action(const struct options *o)
{
    return o->flags.is_version       ? OPTIONS_VERSION
           : o->flags.is_help        ? OPTIONS_HELP
           : o->flags.is_help_tls    ? OPTIONS_HELP_TLS
           : o->flags.signal != NULL ? OPTIONS_SIGNAL
           : o->flags.is_test        ? OPTIONS_TEST
                                     : OPTIONS_RUN;
}

const char *options_signal(const struct options *o)
{
    return o->flags.signal;
}

struct node_options *options_node(struct options *o)
{
    return &o->node;
}

struct slice options_warnings(const struct options *o)
{
    return buf_slice(&o->warnings);
}

int options_open_log(const struct options *o)
{
    struct log_options log = log_options_of(&o->node);
    return log_open(&log);
}
