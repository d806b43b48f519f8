/* The maps jetstream, authorization and cluster of the configuration. */
#include <stdio.h>
#include <stdlib.h>

#include "cluster/options_reader.h"
#include "storage/base/err.h"

/* ---- jetstream ---- */

void config_read_store_dir(struct config_reader *r, const struct conf_value *v)
{
    if (r->has_store_dir) {
        config_fault(r, v, "Duplicate 'store_dir' configuration");
        return;
    }
    r->has_store_dir = true;
    config_read_string(r, v, &r->o->store_dir);
}

static void read_sync_interval(struct config_reader *r, const struct conf_value *v)
{
    int64_t ms;
    if (v->type == CONF_INT) {
        config_warn(r, v, "invalid use of field \"%s\": %s should be converted to a duration",
                    v->key, v->key);
    } else if (!config_is_type(r, v, CONF_STRING)) {
        return;
    } else if (!slice_eq_str(v->string, "always") && !config_take_duration(r, v, NULL, &ms)) {
        return;
    }
    config_note(r, v, "what is acknowledged is synced to disk before");
}

/* A size as nats-server takes it: an integer, or a text that ends in K, M, G or T, of 1024. Below 0
 * there is no limit. */
static void read_size(struct config_reader *r, const struct conf_value *v, const char *name,
                      int64_t *field)
{
    int64_t bytes = 0;
    static const char suffixes[] = "KMGT";
    if (v->type == CONF_INT) {
        *field = v->integer < 0 ? -1 : v->integer;
        return;
    }
    if (v->type != CONF_STRING) {
        config_fault(r, v, "%s must be int64 or string", name);
        return;
    }
    char digits[24];
    const char *suffix = v->string.len == 0 || v->string.ptr[v->string.len - 1] == 0
                             ? NULL
                             : strchr(suffixes, v->string.ptr[v->string.len - 1]);
    if (suffix == NULL || v->string.len > sizeof digits) {
        config_fault(r, v, "%s sizes defined as strings must end in K, M, G, T", name);
        return;
    }
    snprintf(digits, sizeof digits, "%.*s", (int)v->string.len - 1, (const char *)v->string.ptr);
    if (digits[0] == '\0' || strspn(digits, "0123456789") != strlen(digits) ||
        options_parse_int(digits, &bytes) != 0 ||
        __builtin_mul_overflow(bytes, INT64_C(1) << (10 * (suffix - suffixes + 1)), &bytes)) {
        config_fault(r, v, "%s \"%.*s\" is not a size", name, SLICE_ARG(v->string));
        return;
    }
    *field = bytes;
}

static void read_max_memory(struct config_reader *r, const struct conf_value *v)
{
    read_size(r, v, "max_mem_store", &r->o->max_memory_bytes);
}

static void read_max_file(struct config_reader *r, const struct conf_value *v)
{
    read_size(r, v, "max_file_store", &r->o->max_file_bytes);
}

static void read_disk_reserve(struct config_reader *r, const struct conf_value *v)
{
    read_size(r, v, "disk_reserve", &r->o->disk_reserve_bytes);
}

static void read_catchup_rate(struct config_reader *r, const struct conf_value *v)
{
    read_size(r, v, "catchup_rate", &r->o->catchup_bytes_per_s);
}

static void read_scrub_rate(struct config_reader *r, const struct conf_value *v)
{
    read_size(r, v, "scrub_rate", &r->o->scrub_bytes_per_s);
}

static void read_scrub_interval(struct config_reader *r, const struct conf_value *v)
{
    int64_t ms;
    if (config_is_type(r, v, CONF_STRING) && config_take_duration(r, v, NULL, &ms)) {
        r->o->scrub_interval_ms = ms;
    }
}

static void read_strict(struct config_reader *r, const struct conf_value *v)
{
    if (config_is_type(r, v, CONF_BOOL) && !v->boolean) {
        config_fault(r, v, "weir does not have \"jetstream.%s: false\": unknown fields are refused",
                     v->key);
    }
}

/* A prefix of tags, and kept as they are. */
static void read_unique_tag(struct config_reader *r, const struct conf_value *v)
{
    struct tag_list list = {0};
    if (!config_is_text(r, v)) {
        return;
    }
    if (tags_add(&list, v->string) != 0) {
        config_fault(r, v, "unique_tag must be text in UTF-8 of at most %d bytes", TAG_BYTES_MAX);
        return;
    }
    options_set_string(&r->o->unique_tag, list.count == 0 ? SLICE_EMPTY : slice_str(list.items[0]));
    tags_close(&list);
}

#define TUNING "it tunes what weir does in another way"

static const struct key jetstream_keys[] = {
    BOOL("enabled enable", has_jetstream),
    SPECIAL("store_dir storedir store", config_read_store_dir),
    SPECIAL("max_memory_store max_mem_store max_mem", read_max_memory),
    SPECIAL("max_file_store max_file", read_max_file),
    SPECIAL("sync_interval sync", read_sync_interval),
    SPECIAL("disk_reserve", read_disk_reserve),
    SPECIAL("catchup_rate", read_catchup_rate),
    SPECIAL("scrub_rate", read_scrub_rate),
    SPECIAL("scrub_interval", read_scrub_interval),
    SPECIAL("strict", read_strict),
    SPECIAL("unique_tag", read_unique_tag),
    MISSING("domain"),
    MISSING("key ek encryption_key"),
    MISSING("prev_key prev_ek prev_encryption_key"),
    MISSING("cipher"),
    MISSING("extension_hint"),
    MISSING("limits"),
    MISSING("tpm"),
    NO_EFFECT("max_outstanding_catchup", CONF_INT, TUNING),
    NO_EFFECT("max_buffered_size", CONF_INT, TUNING),
    NO_EFFECT("max_buffered_msgs", CONF_INT, TUNING),
    NO_EFFECT("request_queue_limit", CONF_INT, TUNING),
    NO_EFFECT("info_queue_limit", CONF_INT, TUNING),
    NO_EFFECT("meta_compact", CONF_INT, TUNING),
    NO_EFFECT("meta_compact_size", CONF_INT, TUNING),
    NO_EFFECT("meta_compact_sync", CONF_BOOL, TUNING),
    NO_EFFECT("max_concurrent_io", CONF_INT, TUNING),
};

void config_read_jetstream(struct config_reader *r, const struct conf_value *v)
{
    switch (v->type) {
    case CONF_BOOL:
        r->o->has_jetstream = v->boolean;
        break;
    case CONF_STRING:
        if (slice_eq_str(v->string, "enabled") || slice_eq_str(v->string, "enable")) {
            r->o->has_jetstream = true;
        } else if (slice_eq_str(v->string, "disabled") || slice_eq_str(v->string, "disable")) {
            r->o->has_jetstream = false;
        } else {
            config_fault(r, v, "Expected 'enabled' or 'disabled' for string value, got '%.*s'",
                         SLICE_ARG(v->string));
        }
        break;
    case CONF_MAP:
        r->o->has_jetstream = true;
        READ_MAP(r, v, "jetstream.", jetstream_keys);
        break;
    default:
        config_fault(r, v, "Expected map, bool or string to define JetStream, got %s",
                     conf_type_name(v->type));
        break;
    }
}

/* ---- authorization ---- */

static void read_timeout(struct config_reader *r, const struct conf_value *v, int64_t *field)
{
    int64_t ms = 0;
    if (v->type == CONF_STRING) {
        if (!config_take_duration(r, v, "authorization config, 'timeout'", &ms)) {
            return;
        }
    } else if (v->type == CONF_INT || v->type == CONF_FLOAT) {
        double s = v->type == CONF_INT ? (double)v->integer : v->number;
        if (!(s * 1000 <= (double)OPTIONS_DURATION_MAX_MS)) {
            config_fault(r, v, "%s is too long: the limit is 366 days", v->key);
            return;
        }
        ms = s < 0 ? -1 : (int64_t)(s * 1000);
    } else {
        config_fault(r, v,
                     "error parsing authorization config, 'timeout' must be a number or a text");
        return;
    }
    if (ms < 0) {
        config_fault(r, v, "%s can not be negative", v->key);
        return;
    }
    if (ms > 60000) {
        config_warn(
            r, v,
            "invalid use of field \"%s\": timeout of %lld seconds is high, consider keeping it "
            "under 60 seconds; a duration in quotes, as '1m', is not taken for a number",
            v->key, (long long)(ms / 1000));
    }
    *field = ms == 0 ? DEFAULT_AUTH_TIMEOUT_MS : ms;
}

static void read_client_timeout(struct config_reader *r, const struct conf_value *v)
{
    read_timeout(r, v, &r->o->auth_timeout_ms);
}

static void read_cluster_timeout(struct config_reader *r, const struct conf_value *v)
{
    read_timeout(r, v, &r->o->cluster_auth_timeout_ms);
}

#define USER_NAMES "user username"
#define PASS_NAMES "password pass"

static void read_user(struct config_reader *r, const struct conf_value *v)
{
    static const struct key keys[] = {
        STRING(USER_NAMES, user),
        STRING(PASS_NAMES, pass),
        MISSING("nkey"),
        MISSING("permissions permission authorization"),
        MISSING("allowed_connection_types connection_types clients"),
        MISSING("proxy_required"),
    };
    struct node_options *o = r->o;
    if (v->type != CONF_MAP) {
        config_fault(r, v, "Expected user entry to be a map/struct, got %s",
                     conf_type_name(v->type));
        return;
    }
    /* Its user and password are read as those of options of its own. */
    struct node_options one = {0};
    size_t faults = r->errors->len;
    r->o = &one;
    READ_MAP(r, v, "authorization.users.", keys);
    r->o = o;
    if (r->errors->len == faults && one.user == NULL) {
        config_fault(r, v, "User entry requires a user");
    }
    for (uint32_t i = 0; r->errors->len == faults && i < o->users_count; i++) {
        if (strcmp(o->users[i].user, one.user) == 0) {
            config_fault(r, v, "Duplicate user \"%s\" detected", one.user);
        }
    }
    if (r->errors->len == faults) {
        o->users = xrealloc(o->users, (o->users_count + 1) * sizeof *o->users);
        o->users[o->users_count++] = (struct node_user){one.user, one.pass};
        one.user = one.pass = NULL;
    }
    options_clear(&one);
}

static void read_users(struct config_reader *r, const struct conf_value *v)
{
    if (v->type != CONF_ARRAY) {
        config_fault(r, v, "Expected users field to be an array, got %s", conf_type_name(v->type));
        return;
    }
    if (v->count > OPTIONS_USERS_MAX) {
        config_fault(r, v, "%u users are too many: the limit is %d", v->count, OPTIONS_USERS_MAX);
        return;
    }
    for (const struct conf_value *u = conf_first(v); u != NULL; u = conf_next(u)) {
        read_user(r, u);
    }
}

void config_read_authorization(struct config_reader *r, const struct conf_value *v)
{
    static const struct key keys[] = {
        STRING(USER_NAMES, user),
        STRING(PASS_NAMES, pass),
        STRING("token", token),
        SPECIAL("timeout", read_client_timeout),
        SPECIAL("users", read_users),
        MISSING("permissions default_permission default_permissions"),
        MISSING("auth_callout auth_hook"),
        MISSING("proxy_required"),
    };
    if (!config_is_type(r, v, CONF_MAP)) {
        return;
    }
    struct node_options *o = r->o;
    READ_MAP(r, v, "authorization.", keys);
    if (o->user != NULL && o->token != NULL) {
        config_fault(r, v, "Cannot have a user/pass and token");
    } else if (o->user != NULL && o->users_count > 0) {
        config_fault(r, v, "Can not have a single user/pass and a users array");
    } else if (o->token != NULL && o->users_count > 0) {
        config_fault(r, v, "Can not have a token and a users array");
    } else if (o->pass != NULL && o->user == NULL) {
        config_fault(r, v, "authorization has a password but no user");
    }
}

/* ---- cluster ---- */

static void refuse_users(struct config_reader *r, const struct conf_value *v)
{
    config_fault(r, v, "Cluster authorization does not allow multiple users");
}

static void refuse_token(struct config_reader *r, const struct conf_value *v)
{
    config_fault(r, v, "Cluster authorization does not support tokens");
}

static void read_cluster_authorization(struct config_reader *r, const struct conf_value *v)
{
    static const struct key keys[] = {
        STRING(USER_NAMES, cluster_user),
        STRING(PASS_NAMES, cluster_pass),
        SPECIAL("timeout", read_cluster_timeout),
        SPECIAL("users", refuse_users),
        SPECIAL("token", refuse_token),
        MISSING("permissions default_permission default_permissions"),
        MISSING("auth_callout auth_hook"),
        MISSING("proxy_required"),
    };
    if (config_is_type(r, v, CONF_MAP)) {
        READ_MAP(r, v, "cluster.authorization.", keys);
        if (r->o->cluster_pass != NULL && r->o->cluster_user == NULL) {
            config_fault(r, v, "cluster authorization has a password but no user");
        }
    }
}

static void read_routes(struct config_reader *r, const struct conf_value *v)
{
    if (!config_is_type(r, v, CONF_ARRAY)) {
        return;
    }
    if (v->count > OPTIONS_ROUTES_MAX) {
        config_fault(r, v, "%u routes are too many: the limit is %d", v->count, OPTIONS_ROUTES_MAX);
        return;
    }
    for (const struct conf_value *u = conf_first(v); u != NULL; u = conf_next(u)) {
        struct buf why = BUF_EMPTY;
        if (!config_is_type(r, u, CONF_STRING)) {
            continue;
        }
        if (options_check_route(u->string, &why) != 0) {
            config_fault(r, u, "%.*s", SLICE_ARG(buf_slice(&why)));
        } else {
            options_add_route(r->o, u->string);
        }
        buf_close(&why);
    }
}

static void read_cluster_name(struct config_reader *r, const struct conf_value *v)
{
    config_read_name(r, v, "cluster", &r->o->cluster_name);
}

static void read_cluster_listen(struct config_reader *r, const struct conf_value *v)
{
    config_read_listen(r, v, &r->o->cluster_host, &r->o->cluster_port);
}

static void read_cluster_advertise(struct config_reader *r, const struct conf_value *v)
{
    config_read_advertise(r, v, &r->o->cluster_advertise);
}

static const struct key cluster_keys[] = {
    SPECIAL("name", read_cluster_name),
    SPECIAL("listen", read_cluster_listen),
    STRING("host net", cluster_host),
    PORT("port", cluster_port),
    SPECIAL("routes", read_routes),
    SPECIAL("authorization", read_cluster_authorization),
    SPECIAL("advertise cluster_advertise", read_cluster_advertise),
    BOOL("no_advertise", no_advertise),
    MISSING("tls"),
    MISSING("permissions"),
    MISSING("accounts"),
    NO_EFFECT("connect_retries", CONF_INT,
              "nodes try each other's addresses for as long as they know them"),
    NO_EFFECT("connect_backoff", CONF_BOOL, "nodes try each other's addresses at a fixed pace"),
    NO_EFFECT("pool_size", CONF_INT, "two nodes have a fixed set of connections"),
    NO_EFFECT("compression", ANY_TYPE, "what nodes send each other is not compressed"),
    NO_EFFECT("ping_interval", ANY_TYPE, "nodes hear of each other ten times a second"),
    NO_EFFECT("ping_max", CONF_INT, "nodes hear of each other ten times a second"),
    NO_EFFECT("write_deadline", ANY_TYPE,
              "a node that does not answer is found by its missing heartbeats"),
    NO_EFFECT("write_timeout", CONF_STRING,
              "a node that does not answer is found by its missing heartbeats"),
};

void config_read_cluster(struct config_reader *r, const struct conf_value *v)
{
    if (v->type != CONF_MAP) {
        config_fault(r, v, "Expected map to define cluster, got %s", conf_type_name(v->type));
        return;
    }
    READ_MAP(r, v, "cluster.", cluster_keys);
}
