#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/node.h"
#include "cluster/node_options.h"
#include "cluster/process.h"
#include "storage/base/buf.h"
#include "storage/base/log.h"

static void set_defaults(struct node_options *o)
{
    *o = (struct node_options){
        .host = (char *)"0.0.0.0",
        .port = 4222,
        .http_host = (char *)"0.0.0.0",
        .max_payload = 1048576,
        .max_pending = 67108864,
        .max_connections = 65536,
        .max_control_line = 4096,
        .max_closed_clients = 10000,
        .ping_interval_ms = 120000,
        .ping_max = 2,
        .write_deadline_ms = 10000,
        .lame_duck_duration_ms = 120000,
        .lame_duck_grace_ms = 10000,
        .auth_timeout_ms = 2000,
        .cluster_host = (char *)"0.0.0.0",
        .cluster_auth_timeout_ms = 2000,
        .has_logtime = true,
    };
}

struct flag {
    const char *names; /* Separated by spaces. */
    char kind;         /* s string, i int, I int64, b boolean. */
    size_t offset;
};

#define FLAG(names, kind, field)                                                                   \
    {                                                                                              \
        names, kind, offsetof(struct node_options, field)                                          \
    }

static const struct flag flags[] = {
    FLAG("a addr net", 's', host),
    FLAG("p port", 'i', port),
    FLAG("n name server_name", 's', server_name),
    FLAG("P pid", 's', pid_file),
    FLAG("m http_port", 'i', http_port),
    FLAG("ports_file_dir", 's', ports_file_dir),
    FLAG("l log", 's', log_file),
    FLAG("D debug", 'b', is_debug),
    FLAG("V trace", 'b', is_trace),
    FLAG("DV", 'b', is_debug),
    FLAG("js jetstream", 'b', has_jetstream),
    FLAG("sd store_dir", 's', store_dir),
    FLAG("user", 's', user),
    FLAG("pass", 's', pass),
    FLAG("auth", 's', token),
    FLAG("cluster_name", 's', cluster_name),
    FLAG("max_payload", 'I', max_payload),
    FLAG("max_pending", 'I', max_pending),
    FLAG("max_connections", 'I', max_connections),
    FLAG("max_subscriptions", 'I', max_subscriptions),
    FLAG("max_control_line", 'I', max_control_line),
    FLAG("ping_interval_ms", 'I', ping_interval_ms),
    FLAG("write_deadline_ms", 'I', write_deadline_ms),
    FLAG("lame_duck_grace_ms", 'I', lame_duck_grace_ms),
    FLAG("lame_duck_duration_ms", 'I', lame_duck_duration_ms),
};

static const struct flag *find_flag(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        const char *at = flags[i].names;
        while (*at != '\0') {
            size_t n = strcspn(at, " ");
            if (n == len && strncmp(at, name, len) == 0) {
                return &flags[i];
            }
            at += n + (at[n] == ' ');
        }
    }
    return NULL;
}

/* host:port with an optional scheme and userinfo. @url, of argv, is cut up in place. */
static void set_cluster(struct node_options *o, char *url)
{
    char *at = strstr(url, "://");
    at = at == NULL ? url : at + 3;
    char *host = strrchr(at, '@');
    if (host != NULL) {
        *host = '\0';
        char *colon = strchr(at, ':');
        if (colon != NULL) {
            *colon = '\0';
            o->cluster_user = at;
            o->cluster_pass = colon + 1;
        }
        at = host + 1;
    }
    char *port = strrchr(at, ':');
    o->has_cluster = true;
    if (port != NULL) {
        if (port > at) {
            *port = '\0';
            o->cluster_host = at;
        }
        o->cluster_port = atoi(port + 1);
    }
}

static void set_routes(struct node_options *o, char *text)
{
    for (char *rest, *url = strtok_r(text, ",", &rest); url != NULL;
         url = strtok_r(NULL, ",", &rest)) {
        o->routes = xrealloc(o->routes, (o->routes_count + 1) * sizeof *o->routes);
        o->routes[o->routes_count++] = url;
    }
}

static _Noreturn void usage_error(const char *text, const char *name, size_t len)
{
    fprintf(stderr, "%s: -%.*s\n", text, (int)len, name);
    exit(1);
}

static void set_flag(struct node_options *o, const struct flag *f, char *value)
{
    char *field = (char *)o + f->offset;
    switch (f->kind) {
    case 's':
        *(char **)(void *)field = value;
        break;
    case 'i':
        *(int *)(void *)field = atoi(value);
        break;
    case 'I':
        *(int64_t *)(void *)field = atoll(value);
        break;
    default:
        *(bool *)(void *)field = strcmp(value, "false") != 0;
        break;
    }
}

static void parse_args(struct node_options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i];
        if (arg[0] != '-') {
            if (strcmp(arg, "version") == 0) {
                printf("nats-server: v%s\n", NODE_VERSION);
                exit(0);
            }
            fprintf(stderr, "nats-server: unrecognized command: \"%s\"\n", arg);
            exit(1);
        }
        arg += arg[1] == '-' ? 2 : 1;
        size_t len = strcspn(arg, "=");
        char *value = arg[len] == '=' ? arg + len + 1 : NULL;
        if ((len == 1 && arg[0] == 'v') || (len == 7 && strncmp(arg, "version", 7) == 0)) {
            printf("nats-server: v%s\n", NODE_VERSION);
            exit(0);
        }
        const struct flag *f = find_flag(arg, len);
        if (f != NULL && f->kind == 'b') {
            set_flag(o, f, value == NULL ? (char *)"true" : value);
            continue;
        }
        if (value == NULL) {
            if (i + 1 == argc) {
                usage_error("flag needs an argument", arg, len);
            }
            value = argv[++i];
        }
        if (f != NULL) {
            set_flag(o, f, value);
        } else if ((len == 7 && strncmp(arg, "cluster", 7) == 0) ||
                   (len == 14 && strncmp(arg, "cluster_listen", 14) == 0)) {
            set_cluster(o, value);
        } else if (len == 6 && strncmp(arg, "routes", 6) == 0) {
            set_routes(o, value);
        } else if ((len == 2 && strncmp(arg, "sl", 2) == 0) ||
                   (len == 6 && strncmp(arg, "signal", 6) == 0)) {
            exit(process_signal(value));
        } else {
            usage_error("flag provided but not defined", arg, len);
        }
    }
}

int main(int argc, char **argv)
{
    struct node_options o;
    set_defaults(&o);
    const char *slash = strrchr(argv[0], '/');
    o.program = slash == NULL ? argv[0] : slash + 1;
    parse_args(&o, argc, argv);
    struct log_options log = {
        .level_max = o.is_trace   ? LOG_LEVEL_TRC
                     : o.is_debug ? LOG_LEVEL_DBG
                                  : LOG_LEVEL_INF,
        .path = o.log_file,
        .has_time = o.has_logtime,
    };
    if (log_open(&log) != 0) {
        fprintf(stderr, "nats-server: error opening log file: %s\n", o.log_file);
        return 1;
    }
    struct node *node = node_start(&o);
    int status = node_run(node);
    node_free(node);
    free(o.routes);
    return status;
}
