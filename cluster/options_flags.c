/* The command line, in Go's flag syntax: one or two dashes, `-flag value` or `-flag=value`,
 * booleans alone or with `=`. A word that is no flag ends the flags. */
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "cluster/options_internal.h"
#include "storage/base/err.h"

enum flag_kind {
    FLAG_STRING,
    FLAG_PORT,
    FLAG_BOOL,
    FLAG_LEVEL, /* -DV and its like: debug and trace. */
    FLAG_SERVER_NAME,
    FLAG_CLUSTER_NAME,
    FLAG_CLUSTER_LISTEN,
    FLAG_ADVERTISE,
    FLAG_ROUTES,
    FLAG_CONNECT_RETRIES, /* Accepted, with a note. */
    FLAG_CONFIG,
    FLAG_SIGNAL,
    FLAG_TEST,
    FLAG_VERSION,
    FLAG_HELP,
    FLAG_HELP_TLS,
    FLAG_MISSING_BOOL, /* nats-server's, not ours yet: off is fine. */
    FLAG_MISSING_INT,
    FLAG_MISSING_STRING,
};

struct options_flag {
    const char *names; /* Separated by spaces. */
    enum flag_kind kind;
    size_t offset;
};

#define AT(field) offsetof(struct node_options, field)

static const struct options_flag flags[] = {
    {"a addr net", FLAG_STRING, AT(host)},
    {"p port", FLAG_PORT, AT(port)},
    {"n name server_name", FLAG_SERVER_NAME, AT(server_name)},
    {"client_advertise", FLAG_ADVERTISE, AT(client_advertise)},
    {"m http_port", FLAG_PORT, AT(http_port)},
    {"P pid", FLAG_STRING, AT(pid_file)},
    {"ports_file_dir", FLAG_STRING, AT(ports_file_dir)},
    {"c config", FLAG_CONFIG, 0},
    {"t", FLAG_TEST, 0},
    {"sl signal", FLAG_SIGNAL, 0},
    {"l log", FLAG_STRING, AT(log_file)},
    {"T logtime", FLAG_BOOL, AT(has_logtime)},
    {"logtime_utc", FLAG_BOOL, AT(is_logtime_utc)},
    {"D debug", FLAG_BOOL, AT(is_debug)},
    {"V trace VV", FLAG_BOOL, AT(is_trace)},
    {"DV DVV", FLAG_LEVEL, 0},
    {"js jetstream", FLAG_BOOL, AT(has_jetstream)},
    {"sd store_dir", FLAG_STRING, AT(store_dir)},
    {"user", FLAG_STRING, AT(user)},
    {"pass", FLAG_STRING, AT(pass)},
    {"auth", FLAG_STRING, AT(token)},
    {"cluster cluster_listen", FLAG_CLUSTER_LISTEN, 0},
    {"cluster_name", FLAG_CLUSTER_NAME, AT(cluster_name)},
    {"cluster_advertise", FLAG_ADVERTISE, AT(cluster_advertise)},
    {"routes", FLAG_ROUTES, 0},
    {"no_advertise", FLAG_BOOL, AT(no_advertise)},
    {"connect_retries", FLAG_CONNECT_RETRIES, 0},
    {"v version", FLAG_VERSION, 0},
    {"h help", FLAG_HELP, 0},
    {"help_tls", FLAG_HELP_TLS, 0},
    {"tls", FLAG_MISSING_BOOL, 0},
    {"tlsverify", FLAG_MISSING_BOOL, 0},
    {"s syslog", FLAG_MISSING_BOOL, 0},
    {"ms https_port", FLAG_MISSING_INT, 0},
    {"profile", FLAG_MISSING_INT, 0},
    {"log_size_limit", FLAG_MISSING_INT, 0},
    {"max_traced_msg_len", FLAG_MISSING_INT, 0},
    {"tlscert", FLAG_MISSING_STRING, 0},
    {"tlskey", FLAG_MISSING_STRING, 0},
    {"tlscacert", FLAG_MISSING_STRING, 0},
    {"r remote_syslog", FLAG_MISSING_STRING, 0},
};

const char *options_usage(void)
{
    return "\n"
           "Usage: nats-server [options]\n"
           "\n"
           "Server:\n"
           "    -a, --addr, --net <host>         Address to listen on (default: 0.0.0.0)\n"
           "    -p, --port <port>                Port for clients, -1 for any (default: 4222)\n"
           "    -n, --name, --server_name <name> Name of this server (default: its id)\n"
           "        --client_advertise <address> Address that clients are told\n"
           "    -m, --http_port <port>           Port for monitoring\n"
           "    -P, --pid <file>                 Write the process id to this file\n"
           "        --ports_file_dir <dir>       Write the ports to <program>_<pid>.ports there\n"
           "    -c, --config <file>              Configuration; flags go before it\n"
           "    -t                               Check the configuration, and exit\n"
           "    -sl,--signal <signal>[=<pid>]    Send a signal to a server: ldm, stop, quit, "
           "term,\n"
           "                                     reopen, reload; <pid> may be a file\n"
           "\n"
           "Logging:\n"
           "    -l, --log <file>                 Log to this file\n"
           "    -T, --logtime                    Times in the log (default: true)\n"
           "        --logtime_utc                Times in UTC\n"
           "    -D, --debug                      Log what helps to find faults\n"
           "    -V, --trace                      Log more\n"
           "    -DV                              Both\n"
           "\n"
           "JetStream:\n"
           "    -js, --jetstream                 Enable JetStream\n"
           "    -sd, --store_dir <dir>           Keep streams there\n"
           "\n"
           "Authorization:\n"
           "        --user <user>                User that clients must give\n"
           "        --pass <password>            Password that clients must give\n"
           "        --auth <token>               Token that clients must give\n"
           "\n"
           "Cluster:\n"
           "        --cluster, --cluster_listen <url>  Where to listen for the other servers\n"
           "        --cluster_name <name>        Name of the cluster\n"
           "        --cluster_advertise <address>  Address that the other servers are told\n"
           "        --routes <url,url>           Servers to connect to\n"
           "        --no_advertise               Do not tell clients of the other servers\n"
           "\n"
           "    -h, --help                       Show this\n"
           "    -v, --version                    Show the version\n"
           "\n";
}

static const struct options_flag *find_flag(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        for (const char *at = flags[i].names; *at != '\0';) {
            size_t n = strcspn(at, " ");
            if (n == len && strncmp(at, name, len) == 0) {
                return &flags[i];
            }
            at += n + (at[n] == ' ');
        }
    }
    return NULL;
}

static bool is_switch(const struct options_flag *f)
{
    return f->kind == FLAG_BOOL || f->kind == FLAG_LEVEL || f->kind == FLAG_TEST ||
           f->kind == FLAG_VERSION || f->kind == FLAG_HELP || f->kind == FLAG_HELP_TLS ||
           f->kind == FLAG_MISSING_BOOL;
}

/* ---- Applying ---- */

static bool is_name(const char *value, const char *what, struct buf *error)
{
    if (strchr(value, ' ') != NULL) {
        buf_printf(error, "%s name cannot contain spaces", what);
        return false;
    }
    if (strlen(value) > OPTIONS_NAME_BYTES_MAX) {
        buf_printf(error, "%s name is longer than %d bytes", what, OPTIONS_NAME_BYTES_MAX);
        return false;
    }
    return true;
}

static bool set_routes(struct node_options *o, const char *value, struct buf *error)
{
    while (o->routes_count > 0) {
        free(o->routes[--o->routes_count]);
    }
    for (const char *at = value; *at != '\0';) {
        size_t len = strcspn(at, ",");
        struct slice url = slice_of(at, len);
        while (url.len > 0 && url.ptr[0] == ' ') {
            url = slice_from(url, 1);
        }
        while (url.len > 0 && url.ptr[url.len - 1] == ' ') {
            url.len--;
        }
        if (url.len > 0) {
            if (options_check_route(url, error) != 0) {
                return false;
            }
            if (o->routes_count == OPTIONS_ROUTES_MAX) {
                buf_printf(error, "more than %d routes", OPTIONS_ROUTES_MAX);
                return false;
            }
            options_add_route(o, url);
        }
        at += len + (at[len] == ',');
    }
    return true;
}

/* Returns whether the value was right; if not, @error says what is wrong. */
static bool apply(struct node_options *o, const struct options_flag *f, const char *value,
                  struct buf *error)
{
    char *field = (char *)o + f->offset;
    struct slice text = value[0] == '\0' ? SLICE_EMPTY : slice_str(value);
    int64_t number;
    switch (f->kind) {
    case FLAG_PORT:
        /* Was parsed. */
        options_parse_int(value, &number);
        if (number < -1 || number > OPTIONS_PORT_MAX) {
            buf_printf(error, "invalid port %s: it must be -1 to 65535", value);
            return false;
        }
        *(int *)(void *)field = (int)number;
        return true;
    case FLAG_BOOL:
        return options_parse_bool(value, (bool *)field) == 0;
    case FLAG_LEVEL:
        options_parse_bool(value, &o->is_debug);
        o->is_trace = o->is_debug;
        return true;
    case FLAG_SERVER_NAME:
    case FLAG_CLUSTER_NAME:
        if (!is_name(value, f->kind == FLAG_SERVER_NAME ? "server" : "cluster", error)) {
            return false;
        }
        break;
    case FLAG_ADVERTISE:
        if (text.len > 0 && options_check_advertise(text, error) != 0) {
            return false;
        }
        break;
    case FLAG_CLUSTER_LISTEN:
        return options_set_cluster_listen(o, text, error) == 0;
    case FLAG_ROUTES:
        return set_routes(o, value, error);
    case FLAG_CONNECT_RETRIES:
        options_add_note(o, SLICE_LIT("--connect_retries has no effect: nodes try each other's "
                                      "addresses for as long as they know them"));
        return true;
    case FLAG_MISSING_BOOL:
    case FLAG_MISSING_INT:
    case FLAG_MISSING_STRING: {
        bool is_off = false;
        options_parse_bool(value, &is_off);
        if (strcmp(value, "") != 0 && strcmp(value, "0") != 0 &&
            (f->kind != FLAG_MISSING_BOOL || is_off)) {
            buf_printf(error, "weir does not have the flag --%s yet",
                       strrchr(f->names, ' ') == NULL ? f->names : strrchr(f->names, ' ') + 1);
            return false;
        }
        return true;
    }
    case FLAG_STRING:
        break;
    default:
        return true; /* Of the command, not of the node. */
    }
    options_set_string((char **)(void *)field, text);
    return true;
}

void options_flags_apply(const struct options_flags *f, struct node_options *o)
{
    struct buf error = BUF_EMPTY;
    for (uint32_t i = 0; i < f->count; i++) {
        bool is_fine = apply(o, f->settings[i].flag, f->settings[i].value, &error);
        assert(is_fine);
    }
    buf_close(&error);
}

/* ---- Parsing ---- */

static int usage_error(struct buf *error)
{
    buf_append_str(error, "\n");
    buf_append_str(error, options_usage());
    return ERR_INVALID;
}

/* What Go's flag package checks by itself. */
static int check_value(const struct options_flag *f, const char *name, size_t len,
                       const char *value, struct buf *error)
{
    bool boolean;
    int64_t number;
    if (is_switch(f) && options_parse_bool(value, &boolean) != 0) {
        buf_printf(error, "invalid boolean value \"%s\" for -%.*s: parse error", value, (int)len,
                   name);
        return usage_error(error);
    }
    if (f->kind != FLAG_PORT && f->kind != FLAG_MISSING_INT && f->kind != FLAG_CONNECT_RETRIES) {
        return 0;
    }
    int rv = options_parse_int(value, &number);
    if (rv != 0) {
        buf_printf(error, "invalid value \"%s\" for flag -%.*s: %s", value, (int)len, name,
                   rv == ERR_TOOBIG ? "value out of range" : "parse error");
        return usage_error(error);
    }
    return 0;
}

static void note_action(struct options_flags *out, const struct options_flag *f, const char *value)
{
    bool is_on = true;
    options_parse_bool(value, &is_on);
    switch (f->kind) {
    case FLAG_CONFIG:
        out->config_path = value[0] == '\0' ? NULL : value;
        break;
    case FLAG_SIGNAL:
        out->signal = value[0] == '\0' ? NULL : value;
        break;
    case FLAG_TEST:
        out->is_test = is_on;
        break;
    case FLAG_VERSION:
        out->is_version = is_on;
        break;
    case FLAG_HELP:
        out->is_help = is_on;
        break;
    case FLAG_HELP_TLS:
        out->is_help_tls = is_on;
        break;
    default:
        break;
    }
}

/* One argument, at argv[*i], and its value if that is the next one. */
static int take_flag(struct options_flags *out, int argc, char **argv, int *i, struct buf *error)
{
    const char *name = argv[*i] + (argv[*i][1] == '-' ? 2 : 1);
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    if (len == 0 || name[0] == '-') {
        buf_printf(error, "bad flag syntax: %s", argv[*i]);
        return usage_error(error);
    }
    const struct options_flag *f = find_flag(name, len);
    if (f == NULL) {
        buf_printf(error, "flag provided but not defined: -%.*s", (int)len, name);
        return usage_error(error);
    }
    if (value == NULL && is_switch(f)) {
        value = "true";
    } else if (value == NULL) {
        if (*i + 1 == argc) {
            buf_printf(error, "flag needs an argument: -%.*s", (int)len, name);
            return usage_error(error);
        }
        value = argv[++*i];
    }
    int rv = check_value(f, name, len, value, error);
    if (rv != 0) {
        return rv;
    }
    out->settings = xrealloc(out->settings, (out->count + 1) * sizeof *out->settings);
    out->settings[out->count++] = (struct options_setting){f, value};
    note_action(out, f, value);
    return 0;
}

static int take_words(struct options_flags *out, const char *word, struct buf *error)
{
    if (strcmp(word, "version") == 0) {
        out->is_version = true;
    } else if (strcmp(word, "help") == 0) {
        out->is_help = true;
    } else {
        buf_printf(error, "nats-server: unrecognized command: \"%s\"\n", word);
        return ERR_INVALID;
    }
    return 0;
}

/* Try each value on options that are thrown away. */
static int check_settings(const struct options_flags *f, struct buf *error)
{
    struct node_options scratch = {0};
    struct buf why = BUF_EMPTY;
    int rv = 0;
    for (uint32_t i = 0; i < f->count && rv == 0; i++) {
        if (!apply(&scratch, f->settings[i].flag, f->settings[i].value, &why)) {
            buf_printf(error, "nats-server: %.*s\n", SLICE_ARG(buf_slice(&why)));
            rv = ERR_INVALID;
        }
    }
    buf_close(&why);
    options_clear(&scratch);
    return rv;
}

int options_flags_parse(int argc, char **argv, struct options_flags *ret_flags, struct buf *error)
{
    struct options_flags out = {0};
    int rv = 0;
    int i = 1;
    for (; i < argc && rv == 0 && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        rv = take_flag(&out, argc, argv, &i, error);
    }
    if (rv == 0 && i < argc && !out.is_help && !out.is_version) {
        rv = take_words(&out, argv[i], error);
    }
    bool is_run = !out.is_help && !out.is_help_tls && !out.is_version && out.signal == NULL;
    if (rv == 0 && is_run) {
        rv = check_settings(&out, error);
    }
    if (rv != 0) {
        options_flags_close(&out);
        return rv;
    }
    *ret_flags = out;
    return 0;
}

void options_flags_close(struct options_flags *f)
{
    free(f->settings);
    *f = (struct options_flags){0};
}
