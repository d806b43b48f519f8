/* The configuration's tree to options. A table of keys for each map; a key that stands in none is
 * unknown, one marked KEY_MISSING is nats-server's and not ours yet. */
#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/options_internal.h"
#include "storage/base/err.h"

enum key_kind {
    KEY_STRING,
    KEY_BOOL,
    KEY_PORT,
    KEY_INT,
    KEY_DURATION,      /* A text in Go's notation, or seconds, with a warning. */
    KEY_DURATION_TEXT, /* A text only. */
    KEY_SPECIAL,
    KEY_MISSING,   /* nats-server's; refused unless its value asks for nothing. */
    KEY_NO_EFFECT, /* Accepted; a note says why it changes nothing. */
    KEY_FINE,      /* Accepted: any boolean asks for what is so anyway. */
};

struct config_reader {
    struct node_options *o;
    struct buf *errors;
    struct buf *warnings;
    const char *section; /* For notes: "cluster." */
    const struct conf_value *store_dir_at;
};

struct key {
    const char *names; /* Lower case, the first is how messages call it. Separated by spaces. */
    enum key_kind kind;
    size_t offset;
    int64_t min, max;
    int64_t zero; /* What a 0 stands for. */
    void (*apply)(struct config_reader *r, const struct conf_value *v);
    const char *text; /* KEY_NO_EFFECT: why. */
};

#define AT(field) offsetof(struct node_options, field)
#define STRING(names, field)                                                                       \
    {                                                                                              \
        names, KEY_STRING, AT(field), 0, 0, 0, NULL, NULL                                          \
    }
#define BOOL(names, field)                                                                         \
    {                                                                                              \
        names, KEY_BOOL, AT(field), 0, 0, 0, NULL, NULL                                            \
    }
#define PORT(names, field)                                                                         \
    {                                                                                              \
        names, KEY_PORT, AT(field), -1, OPTIONS_PORT_MAX, 0, NULL, NULL                            \
    }
#define INT(names, field, min, max, zero)                                                          \
    {                                                                                              \
        names, KEY_INT, AT(field), min, max, zero, NULL, NULL                                      \
    }
#define DURATION(names, field, zero)                                                               \
    {                                                                                              \
        names, KEY_DURATION, AT(field), 0, 0, zero, NULL, NULL                                     \
    }
#define SPECIAL(names, function)                                                                   \
    {                                                                                              \
        names, KEY_SPECIAL, 0, 0, 0, 0, function, NULL                                             \
    }
#define MISSING(names)                                                                             \
    {                                                                                              \
        names, KEY_MISSING, 0, 0, 0, 0, NULL, NULL                                                 \
    }
#define NO_EFFECT(names, text)                                                                     \
    {                                                                                              \
        names, KEY_NO_EFFECT, 0, 0, 0, 0, NULL, text                                               \
    }
#define FINE(names)                                                                                \
    {                                                                                              \
        names, KEY_FINE, 0, 0, 0, 0, NULL, NULL                                                    \
    }

/* ---- Errors ---- */

static void add_line(struct buf *out, const struct conf_value *v, const char *fmt, va_list args)
{
    char text[512];
    vsnprintf(text, sizeof text, fmt, args);
    /* nats-server counts columns from 0 on the first line and from 1 on all others. */
    buf_printf(out, "%s:%u:%u: %s\n", v->path, v->line, v->line == 1 ? v->col : v->col + 1, text);
}

static void fault(struct config_reader *r, const struct conf_value *v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void fault(struct config_reader *r, const struct conf_value *v, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    add_line(r->errors, v, fmt, args);
    va_end(args);
}

static void warn(struct config_reader *r, const struct conf_value *v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void warn(struct config_reader *r, const struct conf_value *v, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    add_line(r->warnings, v, fmt, args);
    va_end(args);
}

static void note(struct config_reader *r, const struct conf_value *v, const char *why)
{
    struct buf text = BUF_EMPTY;
    buf_printf(&text, "%s:%u:%u: %s%s has no effect: %s", v->path, v->line,
               v->line == 1 ? v->col : v->col + 1, r->section, v->key, why);
    options_add_note(r->o, buf_slice(&text));
    buf_close(&text);
}

static bool is_type(struct config_reader *r, const struct conf_value *v, enum conf_type type)
{
    if (v->type != type) {
        fault(r, v, "interface conversion: interface {} is %s, not %s", conf_type_name(v->type),
              conf_type_name(type));
    }
    return v->type == type;
}

/* ---- Values ---- */

static bool is_text(struct config_reader *r, const struct conf_value *v)
{
    if (!is_type(r, v, CONF_STRING)) {
        return false;
    }
    if (v->string.len > 0 && memchr(v->string.ptr, 0, v->string.len) != NULL) {
        fault(r, v, "\"%s\" contains a NUL byte", v->key == NULL ? "a value" : v->key);
        return false;
    }
    return true;
}

/* An empty text unsets. */
static void read_string(struct config_reader *r, const struct conf_value *v, char **field)
{
    if (is_text(r, v)) {
        options_set_string(field, v->string.len == 0 ? SLICE_EMPTY : v->string);
    }
}

static void read_int(struct config_reader *r, const struct conf_value *v, const struct key *key,
                     int64_t *field)
{
    if (!is_type(r, v, CONF_INT)) {
        return;
    }
    if (v->integer == 0 && key->zero != 0) {
        *field = key->zero;
    } else if (v->integer > key->max) {
        fault(r, v, "%s value is too big: the limit is %lld", v->key, (long long)key->max);
    } else if (v->integer < key->min && v->integer < 0) {
        fault(r, v, "%s value can not be negative", v->key);
    } else if (v->integer < key->min) {
        fault(r, v, "%s value is too small: the least is %lld", v->key, (long long)key->min);
    } else {
        *field = v->integer;
    }
}

static bool is_port(struct config_reader *r, const struct conf_value *v)
{
    if (v->integer < -1 || v->integer > OPTIONS_PORT_MAX) {
        fault(r, v, "invalid port %lld: it must be -1 to 65535", (long long)v->integer);
        return false;
    }
    return true;
}

/* Into milliseconds; what is shorter counts as one. @what is what
 * the error calls it, NULL for the key. */
static bool take_duration(struct config_reader *r, const struct conf_value *v, const char *what,
                          int64_t *ret_ms)
{
    struct buf why = BUF_EMPTY;
    int64_t ns;
    bool is_fine = options_parse_duration(v->string, &ns, &why) == 0;
    if (!is_fine) {
        fault(r, v, "error parsing %s%s %.*s", what == NULL ? v->key : what,
              what == NULL ? ":" : "", SLICE_ARG(buf_slice(&why)));
    } else if (ns / 1000000 > OPTIONS_DURATION_MAX_MS) {
        fault(r, v, "%s is too long: the limit is 366 days", v->key);
        is_fine = false;
    } else {
        *ret_ms = ns > 0 && ns < 1000000 ? 1 : ns / 1000000;
    }
    buf_close(&why);
    return is_fine;
}

static void read_duration(struct config_reader *r, const struct conf_value *v,
                          const struct key *key, int64_t *field)
{
    int64_t ms = 0;
    if (v->type == CONF_INT && key->kind == KEY_DURATION) {
        warn(r, v, "invalid use of field \"%s\": %s should be converted to a duration", v->key,
             v->key);
        if (v->integer > OPTIONS_DURATION_MAX_MS / 1000) {
            fault(r, v, "%s is too long: the limit is 366 days", v->key);
            return;
        }
        ms = v->integer < 0 ? -1 : v->integer * 1000;
    } else if (v->type != CONF_STRING && key->kind == KEY_DURATION) {
        is_type(r, v, CONF_INT);
        return;
    } else if (!is_type(r, v, CONF_STRING) || !take_duration(r, v, NULL, &ms)) {
        return;
    }
    if (ms < 0) {
        fault(r, v, "%s can not be negative", v->key);
        return;
    }
    *field = ms == 0 ? key->zero : ms;
}

/* A port, or host:port, or :port. */
static void read_listen(struct config_reader *r, const struct conf_value *v, char **host, int *port)
{
    struct buf why = BUF_EMPTY;
    struct slice name;
    int number;
    if (v->type == CONF_INT) {
        if (is_port(r, v)) {
            *port = (int)v->integer;
        }
    } else if (v->type != CONF_STRING) {
        fault(r, v, "expected port or host:port, got %s", conf_type_name(v->type));
    } else if (options_parse_address(v->string, &name, &number, &why) != 0) {
        fault(r, v, "%.*s", SLICE_ARG(buf_slice(&why)));
    } else {
        options_set_string(host, name.len == 0 ? SLICE_EMPTY : name);
        *port = number;
    }
    buf_close(&why);
}

static void read_name(struct config_reader *r, const struct conf_value *v, const char *what,
                      char **field)
{
    if (!is_text(r, v)) {
        return;
    }
    for (size_t i = 0; i < v->string.len; i++) {
        if (v->string.ptr[i] == ' ') {
            fault(r, v, "%s name cannot contain spaces", what);
            return;
        }
        if (v->string.ptr[i] < ' ' || v->string.ptr[i] == 0x7f) {
            fault(r, v, "%s name cannot contain control characters", what);
            return;
        }
    }
    if (v->string.len > OPTIONS_NAME_BYTES_MAX) {
        fault(r, v, "%s name is longer than %d bytes", what, OPTIONS_NAME_BYTES_MAX);
        return;
    }
    options_set_string(field, v->string.len == 0 ? SLICE_EMPTY : v->string);
}

static void read_advertise(struct config_reader *r, const struct conf_value *v, char **field)
{
    struct buf why = BUF_EMPTY;
    if (is_text(r, v) && v->string.len > 0 && options_check_advertise(v->string, &why) != 0) {
        fault(r, v, "%.*s", SLICE_ARG(buf_slice(&why)));
    } else if (v->type == CONF_STRING) {
        options_set_string(field, v->string.len == 0 ? SLICE_EMPTY : v->string);
    }
    buf_close(&why);
}

/* Whether the value says that the feature is not wanted. */
static bool asks_for_nothing(const struct conf_value *v)
{
    return (v->type == CONF_BOOL && !v->boolean) || (v->type == CONF_INT && v->integer == 0) ||
           (v->type == CONF_STRING && v->string.len == 0);
}

/* ---- A map by its table ---- */

static const struct key *find_key(const struct key *keys, size_t count, const char *name)
{
    char lower[64];
    size_t len = strlen(name);
    if (len == 0 || len >= sizeof lower) {
        return NULL;
    }
    for (size_t i = 0; i <= len; i++) {
        lower[i] = (char)tolower((unsigned char)name[i]);
    }
    for (size_t i = 0; i < count; i++) {
        for (const char *at = keys[i].names; *at != '\0';) {
            size_t n = strcspn(at, " ");
            if (n == len && memcmp(at, lower, n) == 0) {
                return &keys[i];
            }
            at += n + (at[n] == ' ');
        }
    }
    return NULL;
}

static void read_key(struct config_reader *r, const struct key *key, const struct conf_value *v)
{
    char *field = (char *)r->o + key->offset;
    switch (key->kind) {
    case KEY_STRING:
        read_string(r, v, (char **)(void *)field);
        break;
    case KEY_BOOL:
        if (is_type(r, v, CONF_BOOL)) {
            *(bool *)field = v->boolean;
        }
        break;
    case KEY_PORT:
        if (is_type(r, v, CONF_INT) && is_port(r, v)) {
            *(int *)(void *)field = (int)v->integer;
        }
        break;
    case KEY_INT:
        read_int(r, v, key, (int64_t *)(void *)field);
        break;
    case KEY_DURATION:
    case KEY_DURATION_TEXT:
        read_duration(r, v, key, (int64_t *)(void *)field);
        break;
    case KEY_SPECIAL:
        key->apply(r, v);
        break;
    case KEY_MISSING:
        if (!asks_for_nothing(v)) {
            fault(r, v, "weir does not have \"%s%s\" yet", r->section, v->key);
        }
        break;
    case KEY_NO_EFFECT:
        note(r, v, key->text);
        break;
    case KEY_FINE:
        is_type(r, v, CONF_BOOL);
        break;
    }
}

static void read_map(struct config_reader *r, const struct conf_value *map, const char *section,
                     const struct key *keys, size_t count)
{
    const char *outer = r->section;
    r->section = section;
    for (const struct conf_value *v = conf_first(map); v != NULL; v = conf_next(v)) {
        const struct key *key = strlen(v->key) == v->key_len ? find_key(keys, count, v->key) : NULL;
        if (key != NULL) {
            read_key(r, key, v);
        } else if (!v->is_variable) {
            fault(r, v, "unknown field \"%s\"", v->key);
        }
    }
    r->section = outer;
}

#define READ_MAP(r, map, section, keys) read_map(r, map, section, keys, sizeof keys / sizeof *keys)

/* ---- jetstream ---- */

static void read_store_dir(struct config_reader *r, const struct conf_value *v)
{
    if (r->store_dir_at != NULL && r->store_dir_at->line != v->line) {
        fault(r, v, "Duplicate 'store_dir' configuration");
        return;
    }
    r->store_dir_at = v;
    read_string(r, v, &r->o->store_dir);
}

static void read_sync_interval(struct config_reader *r, const struct conf_value *v)
{
    int64_t ms;
    if (v->type == CONF_INT) {
        warn(r, v, "invalid use of field \"%s\": %s should be converted to a duration", v->key,
             v->key);
    } else if (!is_type(r, v, CONF_STRING)) {
        return;
    } else if (!slice_eq_str(v->string, "always") && !take_duration(r, v, NULL, &ms)) {
        return;
    }
    note(r, v, "what is acknowledged is synced to disk before");
}

/* A size as nats-server takes it: an integer, or a text that ends in K, M, G or T, of 1024. */
static bool check_size(struct config_reader *r, const struct conf_value *v, const char *name,
                       int64_t *ret_bytes)
{
    static const char suffixes[] = "KMGT";
    if (v->type == CONF_INT) {
        *ret_bytes = v->integer;
        return true;
    }
    if (v->type != CONF_STRING) {
        fault(r, v, "%s must be int64 or string", name);
        return false;
    }
    char digits[24];
    const char *suffix = v->string.len == 0 || v->string.ptr[v->string.len - 1] == 0
                             ? NULL
                             : strchr(suffixes, v->string.ptr[v->string.len - 1]);
    if (suffix == NULL || v->string.len > sizeof digits) {
        fault(r, v, "%s sizes defined as strings must end in K, M, G, T", name);
        return false;
    }
    snprintf(digits, sizeof digits, "%.*s", (int)v->string.len - 1, (const char *)v->string.ptr);
    if (digits[0] == '\0' || strspn(digits, "0123456789") != strlen(digits) ||
        options_parse_int(digits, ret_bytes) != 0 ||
        __builtin_mul_overflow(*ret_bytes, INT64_C(1) << (10 * (suffix - suffixes + 1)),
                               ret_bytes)) {
        fault(r, v, "%s \"%.*s\" is not a size", name, SLICE_ARG(v->string));
        return false;
    }
    return true;
}

static void read_max_memory(struct config_reader *r, const struct conf_value *v)
{
    int64_t bytes;
    if (check_size(r, v, "max_mem_store", &bytes)) {
        note(r, v, "the server's own limits on JetStream are not there yet");
    }
}

static void read_max_file(struct config_reader *r, const struct conf_value *v)
{
    int64_t bytes;
    if (check_size(r, v, "max_file_store", &bytes)) {
        note(r, v, "the server's own limits on JetStream are not there yet");
    }
}

static void read_strict(struct config_reader *r, const struct conf_value *v)
{
    if (is_type(r, v, CONF_BOOL) && !v->boolean) {
        fault(r, v, "weir does not have \"jetstream.%s: false\": unknown fields are refused",
              v->key);
    }
}

#define TUNING "it tunes what weir does in another way"

static const struct key jetstream_keys[] = {
    BOOL("enabled enable", has_jetstream),
    SPECIAL("store_dir storedir store", read_store_dir),
    SPECIAL("max_memory_store max_mem_store max_mem", read_max_memory),
    SPECIAL("max_file_store max_file", read_max_file),
    SPECIAL("sync_interval sync", read_sync_interval),
    SPECIAL("strict", read_strict),
    MISSING("domain"),
    MISSING("key ek encryption_key"),
    MISSING("prev_key prev_ek prev_encryption_key"),
    MISSING("cipher"),
    MISSING("unique_tag"),
    MISSING("extension_hint"),
    MISSING("limits"),
    MISSING("tpm"),
    NO_EFFECT("max_outstanding_catchup", TUNING),
    NO_EFFECT("max_buffered_size", TUNING),
    NO_EFFECT("max_buffered_msgs", TUNING),
    NO_EFFECT("request_queue_limit", TUNING),
    NO_EFFECT("info_queue_limit", TUNING),
    NO_EFFECT("meta_compact", TUNING),
    NO_EFFECT("meta_compact_size", TUNING),
    NO_EFFECT("meta_compact_sync", TUNING),
    NO_EFFECT("max_concurrent_io", TUNING),
};

static void read_jetstream(struct config_reader *r, const struct conf_value *v)
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
            fault(r, v, "Expected 'enabled' or 'disabled' for string value, got '%.*s'",
                  SLICE_ARG(v->string));
        }
        break;
    case CONF_MAP:
        r->o->has_jetstream = true;
        READ_MAP(r, v, "jetstream.", jetstream_keys);
        break;
    default:
        fault(r, v, "Expected map, bool or string to define JetStream, got %s",
              conf_type_name(v->type));
        break;
    }
}

/* ---- authorization ---- */

static void read_timeout(struct config_reader *r, const struct conf_value *v, int64_t *field)
{
    int64_t ms = 0;
    if (v->type == CONF_STRING) {
        if (!take_duration(r, v, "authorization config, 'timeout'", &ms)) {
            return;
        }
    } else if (v->type == CONF_INT || v->type == CONF_FLOAT) {
        double s = v->type == CONF_INT ? (double)v->integer : v->number;
        if (!(s * 1000 <= (double)OPTIONS_DURATION_MAX_MS)) {
            fault(r, v, "%s is too long: the limit is 366 days", v->key);
            return;
        }
        ms = s < 0 ? -1 : (int64_t)(s * 1000);
    } else {
        fault(r, v, "error parsing authorization config, 'timeout' must be a number or a text");
        return;
    }
    if (ms < 0) {
        fault(r, v, "%s can not be negative", v->key);
        return;
    }
    if (ms > 60000) {
        warn(r, v,
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
        fault(r, v, "Expected user entry to be a map/struct, got %s", conf_type_name(v->type));
        return;
    }
    /* Its user and password are read as those of options of its own. */
    struct node_options one = {0};
    size_t faults = r->errors->len;
    r->o = &one;
    READ_MAP(r, v, "authorization.users.", keys);
    r->o = o;
    if (r->errors->len == faults && one.user == NULL) {
        fault(r, v, "User entry requires a user");
    }
    for (uint32_t i = 0; r->errors->len == faults && i < o->users_count; i++) {
        if (strcmp(o->users[i].user, one.user) == 0) {
            fault(r, v, "Duplicate user \"%s\" detected", one.user);
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
        fault(r, v, "Expected users field to be an array, got %s", conf_type_name(v->type));
        return;
    }
    if (v->count > OPTIONS_USERS_MAX) {
        fault(r, v, "%u users are too many: the limit is %d", v->count, OPTIONS_USERS_MAX);
        return;
    }
    for (const struct conf_value *u = conf_first(v); u != NULL; u = conf_next(u)) {
        read_user(r, u);
    }
}

static void read_authorization(struct config_reader *r, const struct conf_value *v)
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
    if (!is_type(r, v, CONF_MAP)) {
        return;
    }
    struct node_options *o = r->o;
    READ_MAP(r, v, "authorization.", keys);
    if (o->user != NULL && o->token != NULL) {
        fault(r, v, "Cannot have a user/pass and token");
    } else if (o->user != NULL && o->users_count > 0) {
        fault(r, v, "Can not have a single user/pass and a users array");
    } else if (o->token != NULL && o->users_count > 0) {
        fault(r, v, "Can not have a token and a users array");
    } else if (o->pass != NULL && o->user == NULL) {
        fault(r, v, "authorization has a password but no user");
    }
}

/* ---- cluster ---- */

static void refuse_users(struct config_reader *r, const struct conf_value *v)
{
    fault(r, v, "Cluster authorization does not allow multiple users");
}

static void refuse_token(struct config_reader *r, const struct conf_value *v)
{
    fault(r, v, "Cluster authorization does not support tokens");
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
    if (is_type(r, v, CONF_MAP)) {
        READ_MAP(r, v, "cluster.authorization.", keys);
        if (r->o->cluster_pass != NULL && r->o->cluster_user == NULL) {
            fault(r, v, "cluster authorization has a password but no user");
        }
    }
}

static void read_routes(struct config_reader *r, const struct conf_value *v)
{
    if (!is_type(r, v, CONF_ARRAY)) {
        return;
    }
    if (v->count > OPTIONS_ROUTES_MAX) {
        fault(r, v, "%u routes are too many: the limit is %d", v->count, OPTIONS_ROUTES_MAX);
        return;
    }
    for (const struct conf_value *u = conf_first(v); u != NULL; u = conf_next(u)) {
        struct buf why = BUF_EMPTY;
        if (!is_type(r, u, CONF_STRING)) {
            continue;
        }
        if (options_check_route(u->string, &why) != 0) {
            fault(r, u, "%.*s", SLICE_ARG(buf_slice(&why)));
        } else {
            options_add_route(r->o, u->string);
        }
        buf_close(&why);
    }
}

static void read_cluster_name(struct config_reader *r, const struct conf_value *v)
{
    read_name(r, v, "cluster", &r->o->cluster_name);
}

static void read_cluster_listen(struct config_reader *r, const struct conf_value *v)
{
    read_listen(r, v, &r->o->cluster_host, &r->o->cluster_port);
}

static void read_cluster_advertise(struct config_reader *r, const struct conf_value *v)
{
    read_advertise(r, v, &r->o->cluster_advertise);
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
    NO_EFFECT("connect_retries", "nodes try each other's addresses for as long as they know them"),
    NO_EFFECT("connect_backoff", "nodes try each other's addresses at a fixed pace"),
    NO_EFFECT("pool_size", "two nodes have a fixed set of connections"),
    NO_EFFECT("compression", "what nodes send each other is not compressed"),
    NO_EFFECT("ping_interval", "nodes hear of each other ten times a second"),
    NO_EFFECT("ping_max", "nodes hear of each other ten times a second"),
    NO_EFFECT("write_deadline", "a node that does not answer is found by its missing heartbeats"),
    NO_EFFECT("write_timeout", "a node that does not answer is found by its missing heartbeats"),
};

static void read_cluster(struct config_reader *r, const struct conf_value *v)
{
    if (v->type != CONF_MAP) {
        fault(r, v, "Expected map to define cluster, got %s", conf_type_name(v->type));
        return;
    }
    READ_MAP(r, v, "cluster.", cluster_keys);
}

/* ---- The top ---- */

static void read_client_listen(struct config_reader *r, const struct conf_value *v)
{
    read_listen(r, v, &r->o->host, &r->o->port);
}

static void read_http(struct config_reader *r, const struct conf_value *v)
{
    read_listen(r, v, &r->o->http_host, &r->o->http_port);
}

static void read_server_name(struct config_reader *r, const struct conf_value *v)
{
    read_name(r, v, "server", &r->o->server_name);
}

static void read_client_advertise(struct config_reader *r, const struct conf_value *v)
{
    read_advertise(r, v, &r->o->client_advertise);
}

static void read_lame_duck_duration(struct config_reader *r, const struct conf_value *v)
{
    int64_t ms;
    if (!is_type(r, v, CONF_STRING) || !take_duration(r, v, NULL, &ms)) {
        return;
    }
    if (ms < LAME_DUCK_DURATION_MIN_MS) {
        fault(r, v, "invalid %s of %.*s, minimum is 30 seconds", v->key, SLICE_ARG(v->string));
        return;
    }
    r->o->lame_duck_duration_ms = ms;
}

static void read_lame_duck_grace(struct config_reader *r, const struct conf_value *v)
{
    int64_t ms;
    if (!is_type(r, v, CONF_STRING) || !take_duration(r, v, NULL, &ms)) {
        return;
    }
    if (ms < 0) {
        fault(r, v, "invalid %s, needs to be positive", v->key);
        return;
    }
    r->o->lame_duck_grace_ms = ms;
}

static void read_write_timeout(struct config_reader *r, const struct conf_value *v)
{
    if (!is_type(r, v, CONF_STRING)) {
        return;
    }
    if (slice_eq_str(v->string, "retry")) {
        fault(r, v, "weir does not have \"write_timeout: retry\" yet");
    } else if (!slice_eq_str(v->string, "default") && !slice_eq_str(v->string, "close")) {
        fault(r, v, "write_timeout must be 'default', 'close' or 'retry'");
    }
}

static void read_base_path(struct config_reader *r, const struct conf_value *v)
{
    if (is_type(r, v, CONF_STRING) && v->string.len > 0 && !slice_eq_str(v->string, "/")) {
        fault(r, v, "weir does not have \"http_base_path\" yet");
    }
}

static const struct key top_keys[] = {
    SPECIAL("listen", read_client_listen),
    PORT("port", port),
    STRING("host net", host),
    SPECIAL("server_name", read_server_name),
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

    SPECIAL("authorization", read_authorization),
    SPECIAL("cluster", read_cluster),
    SPECIAL("jetstream", read_jetstream),
    SPECIAL("store_dir storedir", read_store_dir),

    STRING("pid_file pidfile", pid_file),
    STRING("ports_file_dir", ports_file_dir),
    STRING("log_file logfile", log_file),
    BOOL("debug", is_debug),
    BOOL("trace", is_trace),
    BOOL("logtime", has_logtime),
    BOOL("logtime_utc", is_logtime_utc),

    NO_EFFECT("trace_verbose", "there is no system account to trace"),
    NO_EFFECT("no_sublist_cache disable_sublist_cache", "there is no such cache"),
    NO_EFFECT("connect_error_reports",
              "a neighbour that cannot be reached is logged as it changes"),
    NO_EFFECT("reconnect_error_reports",
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
    MISSING("server_tags"),
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
