#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

#include "cluster/options.h"
#include "storage/base/err.h"

/* One file, t.conf, and one environment. */
static const char *load(void *ctx, const char *from, const char *name, char **ret_path,
                        struct buf *ret_text)
{
    const char *const *text = ctx;
    (void)from;
    if (strcmp(name, "t.conf") != 0) {
        return "no such file or directory";
    }
    *ret_path = xstrndup(name, strlen(name));
    buf_append_str(ret_text, *text);
    return NULL;
}

static const char *env(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "PORT") == 0 ? "4333" : NULL;
}

struct world {
    const char *text;
    struct conf_options source;
    char args[512];
    char *argv[32];
    int argc;
    struct options *o;
    char *error; /* Ends with a NUL; empty when it went well. */
};

/* @args, separated by spaces, and @text as t.conf. */
static void begin(struct world *w, const char *args, const char *text)
{
    struct buf error = BUF_EMPTY;
    *w = (struct world){.text = text, .source = {&w->text, load, env}};
    snprintf(w->args, sizeof w->args, "/bin/nats-server %s", args);
    for (char *rest, *word = strtok_r(w->args, " ", &rest); word != NULL;
         word = strtok_r(NULL, " ", &rest)) {
        w->argv[w->argc++] = word;
    }
    w->source.ctx = &w->text;
    int rv = options_open(w->argc, w->argv, &w->source, &w->o, &error);
    cr_expect_eq(rv == 0, error.len == 0);
    buf_append_u8(&error, 0);
    w->error = (char *)error.ptr;
}

static void end(struct world *w)
{
    options_free(w->o);
    free(w->error);
}

/* What `-c t.conf` says to @text: the whole of it, or empty. */
static void expect_config(const char *text, const char *error)
{
    struct world w;
    char wanted[1024] = "";
    if (error[0] != '\0') {
        snprintf(wanted, sizeof wanted, "nats-server: %s\n", error);
    }
    begin(&w, "-c t.conf", text);
    cr_expect_str_eq(w.error, wanted, "%s\n gives %s not %s", text, w.error, wanted);
    end(&w);
}

/* What flags say; of an error with the usage behind it, the first line. */
static void expect_flags(const char *args, const char *error)
{
    struct world w;
    begin(&w, args, "port: 5000\n");
    char *usage = strstr(w.error, "\n\nUsage");
    if (usage != NULL) {
        *usage = '\0';
    } else if (w.error[0] != '\0') {
        w.error[strlen(w.error) - 1] = '\0';
    }
    cr_expect_str_eq(w.error, error, "%s gives %s not %s", args, w.error, error);
    end(&w);
}

Test(options, defaults_are_those_of_the_reference)
{
    struct world w;
    begin(&w, "", "");
    cr_assert_not_null(w.o);
    const struct node_options *o = options_node(w.o);
    cr_expect_eq(options_action(w.o), OPTIONS_RUN);
    cr_expect_str_eq(o->program, "nats-server");
    cr_expect_null(o->config_path);
    cr_expect_str_eq(o->host, "0.0.0.0");
    cr_expect_eq(o->port, 4222);
    cr_expect_eq(o->http_port, 0);
    cr_expect_null(o->server_name);
    cr_expect_eq(o->max_payload, 1048576);
    cr_expect_eq(o->max_pending, 67108864);
    cr_expect_eq(o->max_connections, 65536);
    cr_expect_eq(o->max_control_line, 4096);
    cr_expect_eq(o->ping_interval_ms, 120000);
    cr_expect_eq(o->ping_max, 2);
    cr_expect_eq(o->write_deadline_ms, 10000);
    cr_expect_eq(o->lame_duck_duration_ms, 120000);
    cr_expect_eq(o->lame_duck_grace_ms, 10000);
    cr_expect_eq(o->auth_timeout_ms, 2000);
    cr_expect_not(o->has_cluster);
    cr_expect_not(o->has_jetstream);
    cr_expect_eq(o->max_memory_bytes, -1);
    cr_expect_eq(o->max_file_bytes, -1);
    cr_expect(o->has_logtime);
    cr_expect_not(o->is_debug);
    end(&w);
}

Test(options, a_whole_configuration)
{
    struct world w;
    begin(&w, "-c t.conf",
          "server_name: n1\nlisten: 127.0.0.1:4333\nhttp: \"[::1]:8333\"\n"
          "client_advertise: \"host.example:4222\"\n"
          "max_payload: 2MB, max_pending: 32mb; max_connections: 100\n"
          "max_subscriptions: 5\nmax_sub_tokens: 8\nmax_control_line: 2k\nmax_closed_clients: 7\n"
          "ping_interval: \"1m30s\"\nping_max: 3\nwrite_deadline: \"2.5s\"\n"
          "lame_duck_duration: \"1m\"\nlame_duck_grace_period: \"500us\"\n"
          "no_fast_producer_stall: true\n"
          "jetstream { store_dir: /data, max_mem: \"5G\", max_file_store: 1m }\n"
          "cluster {\n name: C, listen: 127.0.0.1:6333\n"
          " routes = [ nats://r:s@a:6222, nats-route://b:6222/ ]\n"
          " authorization { user: r, password: s, timeout: 0.5 }\n advertise: a:1, no_advertise: "
          "yes\n}\n"
          "authorization {\n timeout: \"3s\"\n users = [ {user: a, password: b}\n {username: c, "
          "pass: $2a$11$abc} ]\n}\n"
          "pid_file: p, ports_file_dir: d, log_file: l, debug: true, trace: on, logtime: no, "
          "logtime_utc: true\n");
    cr_assert_not_null(w.o, "%s", w.error);
    const struct node_options *o = options_node(w.o);
    cr_expect_str_eq(o->config_path, "t.conf");
    cr_expect_str_eq(o->server_name, "n1");
    cr_expect_str_eq(o->host, "127.0.0.1");
    cr_expect_eq(o->port, 4333);
    cr_expect_str_eq(o->http_host, "::1");
    cr_expect_eq(o->http_port, 8333);
    cr_expect_str_eq(o->client_advertise, "host.example:4222");
    cr_expect_eq(o->max_payload, 2 << 20);
    cr_expect_eq(o->max_pending, 32 << 20);
    cr_expect_eq(o->max_connections, 100);
    cr_expect_eq(o->max_subscriptions, 5);
    cr_expect_eq(o->max_subscription_tokens, 8);
    cr_expect_eq(o->max_control_line, 2000);
    cr_expect_eq(o->max_closed_clients, 7);
    cr_expect_eq(o->ping_interval_ms, 90000);
    cr_expect_eq(o->ping_max, 3);
    cr_expect_eq(o->write_deadline_ms, 2500);
    cr_expect_eq(o->lame_duck_duration_ms, 60000);
    cr_expect_eq(o->lame_duck_grace_ms, 1);
    cr_expect(o->no_fast_producer_stall);
    cr_expect(o->has_jetstream);
    cr_expect_str_eq(o->store_dir, "/data");
    cr_expect_eq(o->max_memory_bytes, INT64_C(5) << 30);
    cr_expect_eq(o->max_file_bytes, 1000000);
    cr_expect(o->has_cluster);
    cr_expect_str_eq(o->cluster_name, "C");
    cr_expect_str_eq(o->cluster_host, "127.0.0.1");
    cr_expect_eq(o->cluster_port, 6333);
    cr_assert_eq(o->routes_count, 2);
    cr_expect_str_eq(o->routes[0], "nats://r:s@a:6222");
    cr_expect_str_eq(o->cluster_user, "r");
    cr_expect_str_eq(o->cluster_pass, "s");
    cr_expect_eq(o->cluster_auth_timeout_ms, 500);
    cr_expect_str_eq(o->cluster_advertise, "a:1");
    cr_expect(o->no_advertise);
    cr_expect_eq(o->auth_timeout_ms, 3000);
    cr_assert_eq(o->users_count, 2);
    cr_expect_str_eq(o->users[1].user, "c");
    cr_expect_str_eq(o->users[1].pass, "$2a$11$abc");
    cr_expect_str_eq(o->pid_file, "p");
    cr_expect_str_eq(o->ports_file_dir, "d");
    cr_expect_str_eq(o->log_file, "l");
    cr_expect(o->is_debug && o->is_trace && !o->has_logtime && o->is_logtime_utc);
    cr_expect_eq(o->notes_count, 0);
    cr_expect_eq(options_warnings(w.o).len, 0);
    end(&w);
}

Test(options, a_flag_wins_over_the_configuration)
{
    struct world w;
    begin(&w,
          "-p 1 --addr=h -m=2 -n N -js -sd S -DV -T=false --user u --pass x -P pf -l lf "
          "--cluster nats://cu:cp@ch:3 --cluster_name CN --routes nats://a:1,nats://b:2 "
          "--no_advertise=false -c t.conf",
          "port: 9, host: z, http_port: 9, server_name: z, debug: false, pid_file: z, log_file: z\n"
          "jetstream { enabled: false, store_dir: z }\nauthorization { user: z, password: z }\n"
          "cluster { name: z, listen: z:9, routes: [nats://z:9, nats://y:9, nats://x:9], "
          "no_advertise: true, authorization { user: z, password: z} }\n");
    cr_assert_not_null(w.o, "%s", w.error);
    const struct node_options *o = options_node(w.o);
    cr_expect_eq(o->port, 1);
    cr_expect_str_eq(o->host, "h");
    cr_expect_str_eq(o->http_host, "h");
    cr_expect_eq(o->http_port, 2);
    cr_expect_str_eq(o->server_name, "N");
    cr_expect(o->has_jetstream);
    cr_expect_str_eq(o->store_dir, "S");
    cr_expect(o->is_debug && o->is_trace && !o->has_logtime);
    cr_expect_str_eq(o->user, "u");
    cr_expect_str_eq(o->pass, "x");
    cr_expect_str_eq(o->pid_file, "pf");
    cr_expect_str_eq(o->log_file, "lf");
    cr_expect_str_eq(o->cluster_host, "ch");
    cr_expect_eq(o->cluster_port, 3);
    cr_expect_str_eq(o->cluster_user, "cu");
    cr_expect_str_eq(o->cluster_pass, "cp");
    cr_expect_str_eq(o->cluster_name, "CN");
    cr_assert_eq(o->routes_count, 2);
    cr_expect_str_eq(o->routes[1], "nats://b:2");
    cr_expect_not(o->no_advertise);
    end(&w);
}

Test(options, sizes_durations_and_zeros)
{
    struct world w;
    begin(&w, "-c t.conf",
          "port: 0, max_payload: 0, max_pending: 0, max_connections: 0, ping_max: 0\n"
          "ping_interval: \"0s\", http_port: -1, x: 5, max_subs: $x, authorization {token: t, "
          "timeout: 0}\n");
    cr_assert_not_null(w.o, "%s", w.error);
    const struct node_options *o = options_node(w.o);
    cr_expect_eq(o->port, 4222);
    cr_expect_eq(o->max_payload, 1048576);
    cr_expect_eq(o->max_pending, 67108864);
    cr_expect_eq(o->max_connections, -1);
    cr_expect_eq(o->ping_max, 2);
    cr_expect_eq(o->ping_interval_ms, 120000);
    cr_expect_eq(o->http_port, -1);
    cr_expect_eq(o->max_subscriptions, 5);
    cr_expect_str_eq(o->token, "t");
    cr_expect_eq(o->auth_timeout_ms, 2000);
    end(&w);
    begin(&w, "-c t.conf", "port: $PORT\nlame_duck_grace_period: \"1m\"\n");
    cr_assert_not_null(w.o, "%s", w.error);
    cr_expect_eq(options_node(w.o)->port, 4333);
    cr_expect_eq(options_node(w.o)->lame_duck_grace_ms, 60000);
    end(&w);
}

Test(options, wrong_types_are_told_as_the_reference_does)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"port: abc", "t.conf:1:0: interface conversion: interface {} is string, not int64"},
        {"port: 1.5", "t.conf:1:0: interface conversion: interface {} is float64, not int64"},
        {"port: true", "t.conf:1:0: interface conversion: interface {} is bool, not int64"},
        {"port: {}",
         "t.conf:1:0: interface conversion: interface {} is map[string]interface {}, not int64"},
        {"host: 5", "t.conf:1:0: interface conversion: interface {} is int64, not string"},
        {"debug: \"true\"", "t.conf:1:0: interface conversion: interface {} is string, not bool"},
        {"listen: abc", "t.conf:1:0: could not parse address string \"abc\""},
        {"listen: \"a:5:6\"", "t.conf:1:0: could not parse address string \"a:5:6\""},
        {"listen: true", "t.conf:1:0: expected port or host:port, got bool"},
        {"server_name: \"a b\"", "t.conf:1:0: server name cannot contain spaces"},
        {"ping_interval: \"x\"",
         "t.conf:1:0: error parsing ping_interval: time: invalid duration \"x\""},
        {"ping_interval: \"5\"",
         "t.conf:1:0: error parsing ping_interval: time: missing unit in duration \"5\""},
        {"ping_interval: \"5x\"", "t.conf:1:0: error parsing ping_interval: time: unknown unit "
                                  "\"x\" in duration \"5x\""},
        {"ping_interval: \"99999999h\"",
         "t.conf:1:0: error parsing ping_interval: time: invalid duration \"99999999h\""},
        {"lame_duck_duration: \"5s\"",
         "t.conf:1:0: invalid lame_duck_duration of 5s, minimum is 30 seconds"},
        {"lame_duck_grace_period: \"-1s\"",
         "t.conf:1:0: invalid lame_duck_grace_period, needs to be positive"},
        {"nonsense: 1\nnons2 { a: 1 }\nport: x",
         "t.conf:1:0: unknown field \"nonsense\"\nt.conf:2:1: unknown field \"nons2\"\n"
         "t.conf:3:1: interface conversion: interface {} is string, not int64"},
        {"jetstream: nope",
         "t.conf:1:0: Expected 'enabled' or 'disabled' for string value, got 'nope'"},
        {"jetstream: 5", "t.conf:1:0: Expected map, bool or string to define JetStream, got int64"},
        {"jetstream { nope: 1 }", "t.conf:1:12: unknown field \"nope\""},
        {"store_dir: /a\njetstream { store_dir: /b }",
         "t.conf:2:13: Duplicate 'store_dir' configuration"},
        {"jetstream { max_mem: \"1024\" }",
         "t.conf:1:12: max_mem_store sizes defined as strings must end in K, M, G, T"},
        {"jetstream { max_mem: true }", "t.conf:1:12: max_mem_store must be int64 or string"},
        {"cluster: 5", "t.conf:1:0: Expected map to define cluster, got int64"},
        {"cluster { name: \"a b\" }", "t.conf:1:10: cluster name cannot contain spaces"},
        {"cluster { routes: x }",
         "t.conf:1:10: interface conversion: interface {} is string, not []interface {}"},
        {"cluster { routes: [ 5 ] }",
         "t.conf:1:20: interface conversion: interface {} is int64, not string"},
        {"cluster { routes: [ \"127.0.0.1:6222\" ] }",
         "t.conf:1:21: error parsing route url [\"127.0.0.1:6222\"]"},
        {"cluster { port: 6222, foo: 5 }", "t.conf:1:22: unknown field \"foo\""},
        {"cluster { pool_size: x }",
         "t.conf:1:10: interface conversion: interface {} is string, not int64"},
        {"cluster { authorization { token: x } }",
         "t.conf:1:26: Cluster authorization does not support tokens"},
        {"cluster { authorization { users: [] } }",
         "t.conf:1:26: Cluster authorization does not allow multiple users"},
        {"authorization { user: a, pass: b, token: c }",
         "t.conf:1:0: Cannot have a user/pass and token"},
        {"authorization { users: [ {user: a} ], token: y }",
         "t.conf:1:0: Can not have a token and a users array"},
        {"authorization { users: [ {user: a} ], user: x }",
         "t.conf:1:0: Can not have a single user/pass and a users array"},
        {"authorization { users: [ {user: a}, {user: a} ] }",
         "t.conf:1:36: Duplicate user \"a\" detected"},
        {"authorization { users: [ {password: a} ] }", "t.conf:1:25: User entry requires a user"},
        {"authorization { users: [ 5 ] }",
         "t.conf:1:25: Expected user entry to be a map/struct, got int64"},
        {"authorization { users: 5 }",
         "t.conf:1:16: Expected users field to be an array, got int64"},
        {"authorization { user: 5 }",
         "t.conf:1:16: interface conversion: interface {} is int64, not string"},
        {"authorization: 5", "t.conf:1:0: interface conversion: interface {} is int64, not "
                             "map[string]interface {}"},
        {"authorization { token: c, timeout: \"x\" }",
         "t.conf:1:26: error parsing authorization config, 'timeout' time: invalid duration \"x\""},
        {"write_timeout: x", "t.conf:1:0: write_timeout must be 'default', 'close' or 'retry'"},
        {"port: 99999999999999999999", "integer '99999999999999999999' is out of the range"},
        {"port: $nope", "variable reference for 'nope' on line 1 can not be found"},
        {"include x.conf", "error parsing include file 'x.conf', no such file or directory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_config(cases[i].text, cases[i].error);
    }
}

Test(options, what_is_out_of_range_is_refused)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"port: 65536", "t.conf:1:0: invalid port 65536: it must be -1 to 65535"},
        {"port: -2", "t.conf:1:0: invalid port -2: it must be -1 to 65535"},
        {"http_port: 99999", "t.conf:1:0: invalid port 99999: it must be -1 to 65535"},
        {"listen: 99999", "t.conf:1:0: invalid port 99999: it must be -1 to 65535"},
        {"listen: \"h:99999\"",
         "t.conf:1:0: could not parse port \"99999\": it must be -1 to 65535"},
        {"listen: \"h:99999999999999999999999\"",
         "t.conf:1:0: could not parse port \"99999999999999999999999\": it must be -1 to 65535"},
        {"listen: \"h: 5\"", "t.conf:1:0: could not parse port \" 5\": it must be -1 to 65535"},
        {"listen: \"h:0x10\"", "t.conf:1:0: could not parse port \"0x10\": it must be -1 to 65535"},
        {"listen: \"h:\"", "t.conf:1:0: could not parse port \"\": it must be -1 to 65535"},
        {"max_payload: -1", "t.conf:1:0: max_payload value can not be negative"},
        {"max_payload: 65MB", "t.conf:1:0: max_payload value is too big: the limit is 67108864"},
        {"max_payload: 64MB, max_pending: 1MB",
         "max_payload (67108864) cannot be higher than max_pending (1048576)"},
        {"max_control_line: 9999999999",
         "t.conf:1:0: max_control_line value is too big: the limit is 1048576"},
        {"max_sub_tokens: 0", "t.conf:1:0: max_sub_tokens value is too small: the least is 1"},
        {"max_sub_tokens: 300", "t.conf:1:0: max_sub_tokens value is too big: the limit is 255"},
        {"max_connections: -5", "t.conf:1:0: max_connections value can not be negative"},
        {"ping_max: -1", "t.conf:1:0: ping_max value can not be negative"},
        {"ping_interval: -5", "t.conf:1:0: ping_interval can not be negative"},
        {"ping_interval: 9223372036854775807",
         "t.conf:1:0: ping_interval is too long: the limit is 366 days"},
        {"write_deadline: \"-3s\"", "t.conf:1:0: write_deadline can not be negative"},
        {"write_deadline: \"100000h\"",
         "t.conf:1:0: write_deadline is too long: the limit is 366 days"},
        {"lame_duck_grace_period: \"5m\"", "lame duck grace period (5m0s) should be strictly lower "
                                           "than lame duck duration (2m0s)"},
        {"authorization { token: c, timeout: -1 }", "t.conf:1:26: timeout can not be negative"},
        {"authorization { token: c, timeout: 99999999999999.5 }",
         "t.conf:1:26: timeout is too long: the limit is 366 days"},
        {"authorization { password: a }", "t.conf:1:0: authorization has a password but no user"},
        {"jetstream { max_file: \"99999999999999999999T\" }",
         "t.conf:1:12: max_file_store \"99999999999999999999T\" is not a size"},
        {"jetstream { max_file: \"9999999999T\" }",
         "t.conf:1:12: max_file_store \"9999999999T\" is not a size"},
        {"cluster { routes: [ \"nats://h\" ] }", "t.conf:1:21: error parsing route url "
                                                 "[\"nats://h\"]: it needs a host and a port, 1 "
                                                 "to 65535"},
        {"cluster { routes: [ \"nats://h:0\" ] }", "t.conf:1:21: error parsing route url "
                                                   "[\"nats://h:0\"]: it needs a host and a port, "
                                                   "1 to 65535"},
        {"cluster { routes: [ \"tls://h:5\" ] }",
         "t.conf:1:21: route \"tls://h:5\": weir does not have TLS yet"},
        {"cluster { routes: [ \"nats://h:5\" ] }",
         "solicited routes require cluster capabilities, e.g. --cluster"},
        {"client_advertise: \"x:y\"",
         "t.conf:1:0: \"x:y\" is not an address to advertise: host or host:port"},
        {"cluster { port: 1, advertise: \":5\" }",
         "t.conf:1:19: \":5\" is not an address to advertise: host or host:port"},
        {"server_name: x, jetstream: true, cluster { port: 1, routes: [nats://h:5] }",
         "jetstream cluster requires `cluster.name` to be set"},
        {"jetstream: true, cluster { port: 1, name: x, routes: [nats://h:5] }",
         "jetstream cluster requires `server_name` to be set"},
        {"server_name: x, jetstream: true, cluster { port: 1, name: x }",
         "JetStream cluster requires configured routes"},
        {"host: \"a\\x00b\"", "t.conf:1:0: \"host\" contains a NUL byte"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_config(cases[i].text, cases[i].error);
    }
}

Test(options, what_is_not_there_yet_is_refused_unless_it_asks_for_nothing)
{
    expect_config("tls { }", "t.conf:1:0: weir does not have \"tls\" yet");
    expect_config("accounts { A { } }\nno_auth_user: x",
                  "t.conf:1:0: weir does not have \"accounts\" yet\n"
                  "t.conf:2:1: weir does not have \"no_auth_user\" yet");
    expect_config("Leaf { port: 7422 }", "t.conf:1:0: weir does not have \"Leaf\" yet");
    expect_config("jetstream { domain: hub }",
                  "t.conf:1:12: weir does not have \"jetstream.domain\" yet");
    expect_config("cluster { port: 5, tls { } }",
                  "t.conf:1:19: weir does not have \"cluster.tls\" yet");
    expect_config("authorization { users: [ {user: a, permissions: { publish: a }} ] }",
                  "t.conf:1:35: weir does not have \"authorization.users.permissions\" yet");
    expect_config("jetstream { strict: false }", "t.conf:1:12: weir does not have "
                                                 "\"jetstream.strict: false\": unknown fields are "
                                                 "refused");
    expect_config("https_port: 0, syslog: false, no_header_support: no, allow_non_tls: false\n"
                  "remote_syslog: \"\", jetstream { strict: true, domain: \"\" }\n"
                  "write_timeout: close, http_base_path: /, no_system_account: true",
                  "");
}

Test(options, what_has_no_effect_leaves_a_note)
{
    struct world w;
    begin(&w, "-c t.conf --connect_retries 5",
          "jetstream { sync_interval: always, max_mem: 1G }\ncluster { port: 5, name: x\n"
          " routes: [nats://h:5], pool_size: 3 }\nserver_name: n\n");
    cr_assert_not_null(w.o, "%s", w.error);
    const struct node_options *o = options_node(w.o);
    char all[2048] = "";
    for (uint32_t i = 0; i < o->notes_count; i++) {
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s\n", o->notes[i]);
    }
    cr_expect_not_null(strstr(all, "t.conf:1:12: jetstream.sync_interval has no effect: "), "%s",
                       all);
    cr_expect_not_null(strstr(all, "t.conf:3:24: cluster.pool_size has no effect: "), "%s", all);
    cr_expect_not_null(strstr(all, "--connect_retries has no effect: "), "%s", all);
    end(&w);
}

Test(options, what_looks_like_a_mistake_warns_and_fails_the_test_of_a_configuration)
{
    struct world w;
    const char *warning = "t.conf:1:0: invalid use of field \"ping_interval\": ping_interval "
                          "should be converted to a duration\n";
    begin(&w, "-c t.conf", "ping_interval: 5\n");
    cr_assert_not_null(w.o);
    struct slice got = options_warnings(w.o);
    cr_expect(slice_eq_str(got, warning), "%.*s", SLICE_ARG(got));
    cr_expect_eq(options_node(w.o)->ping_interval_ms, 5000);
    end(&w);
    begin(&w, "-t -c t.conf", "ping_interval: 5\n");
    cr_expect_null(w.o);
    cr_expect_not_null(strstr(w.error, warning), "%s", w.error);
    end(&w);
    begin(&w, "-t -c t.conf", "");
    cr_expect_str_eq(w.error, "nats-server: t.conf: config has no values or is empty\n");
    end(&w);
    begin(&w, "-t -c t.conf", "port: 5\n");
    cr_expect_eq(options_action(w.o), OPTIONS_TEST);
    end(&w);
}

Test(options, flags_in_go_s_syntax)
{
    static const struct {
        const char *args, *error;
    } cases[] = {
        {"-foo", "flag provided but not defined: -foo"},
        {"--foo=5", "flag provided but not defined: -foo"},
        {"-p abc", "invalid value \"abc\" for flag -p: parse error"},
        {"-p 5x", "invalid value \"5x\" for flag -p: parse error"},
        {"--port=", "invalid value \"\" for flag -port: parse error"},
        {"-p 0x", "invalid value \"0x\" for flag -p: parse error"},
        {"-p 08", "invalid value \"08\" for flag -p: parse error"},
        {"-p -", "invalid value \"-\" for flag -p: parse error"},
        {"-p=5=6", "invalid value \"5=6\" for flag -p: parse error"},
        {"-p", "flag needs an argument: -p"},
        {"-p 99999999999999999999", "invalid value \"99999999999999999999\" for flag -p: value out "
                                    "of range"},
        {"-p 99999", "nats-server: invalid port 99999: it must be -1 to 65535"},
        {"-m -2", "nats-server: invalid port -2: it must be -1 to 65535"},
        {"-js=maybe", "invalid boolean value \"maybe\" for -js: parse error"},
        {"---p 5", "bad flag syntax: ---p"},
        {"--=", "bad flag syntax: --="},
        {"foo", "nats-server: unrecognized command: \"foo\""},
        {"-js -", "nats-server: unrecognized command: \"-\""},
        {"-t", "nats-server: must specify [-c, --config] option to check configuration file "
               "syntax"},
        {"-c nofile", "nats-server: open nofile: no such file or directory"},
        {"-routes nats://a:1", "nats-server: solicited routes require cluster capabilities, e.g. "
                               "--cluster"},
        {"-cluster xx", "nats-server: could not parse address string \"xx\""},
        {"-cluster nats://a:99999",
         "nats-server: could not parse port \"99999\": it must be -1 to 65535"},
        {"-cluster nats://u@a:5", "nats-server: the URL to listen on for routes has a user but no "
                                  "password"},
        {"-cluster nats://a:5 -routes ::", "nats-server: error parsing route url [\"::\"]"},
        {"--pass x", "nats-server: a password needs a user"},
        {"--tls", "nats-server: weir does not have the flag --tls yet"},
        {"--tlscert f", "nats-server: weir does not have the flag --tlscert yet"},
        {"-ms 5", "nats-server: weir does not have the flag --https_port yet"},
        {"-r udp://x:5", "nats-server: weir does not have the flag --remote_syslog yet"},
        {"--client_advertise a:b",
         "nats-server: \"a:b\" is not an address to advertise: host or host:port"},
        {"--tls=false -s=false -ms 0 --profile=0", ""},
        {"-p 0x10 -m=0b11 -js=T -DV=false", ""},
        {"-c t.conf -- ", ""},
        {"-sl reload", ""},
        {"--signal=ldm=5 -p 99999", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_flags(cases[i].args, cases[i].error);
    }
}

Test(options, actions)
{
    static const struct {
        const char *args;
        enum options_action action;
    } cases[] = {
        {"-v", OPTIONS_VERSION},
        {"--version", OPTIONS_VERSION},
        {"version", OPTIONS_VERSION},
        {"-v=false", OPTIONS_RUN},
        {"-h", OPTIONS_HELP},
        {"help", OPTIONS_HELP},
        {"--help_tls", OPTIONS_HELP_TLS},
        {"-DVV -h", OPTIONS_HELP},
        {"-sl quit=5", OPTIONS_SIGNAL},
        {"-t -c t.conf", OPTIONS_TEST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        begin(&w, cases[i].args, "port: 5\n");
        cr_assert_not_null(w.o, "%s: %s", cases[i].args, w.error);
        cr_expect_eq(options_action(w.o), cases[i].action, "%s", cases[i].args);
        end(&w);
    }
}

Test(options, numbers_of_flags_know_their_bounds)
{
    struct world w;
    begin(&w, "-p -1 -m 0o17", "");
    cr_assert_not_null(w.o, "%s", w.error);
    cr_expect_eq(options_node(w.o)->port, -1);
    cr_expect_eq(options_node(w.o)->http_port, 15);
    end(&w);
    expect_flags("-connect_retries 9223372036854775807", "");
    expect_flags("-connect_retries -9223372036854775808", "");
    expect_flags("-connect_retries 9223372036854775808",
                 "invalid value \"9223372036854775808\" for flag -connect_retries: value out of "
                 "range");
}

Test(options, tags_are_words_in_lower_case)
{
    struct world w;
    begin(&w, "-c t.conf",
          "server_tags: [ \"Zone:A\", ssd, SSD ]\njetstream { unique_tag: \" Zone: \" }");
    cr_assert_not_null(w.o, "%s", w.error);
    const struct node_options *o = options_node(w.o);
    cr_assert_eq(o->tags.count, 2);
    cr_expect_str_eq(o->tags.items[0], "zone:a");
    cr_expect_str_eq(o->unique_tag, "zone:");
    end(&w);
    begin(&w, "-c t.conf", "server_tags: one");
    cr_assert_eq(options_node(w.o)->tags.count, 1);
    cr_expect_null(options_node(w.o)->unique_tag);
    end(&w);
    expect_config("server_tags: 5", "t.conf:1:0: error parsing tags: unsupported type int64");
    expect_config("server_tags: [a, true]",
                  "t.conf:1:17: error parsing tags: unsupported type bool "
                  "where string is expected");
}

/* ---- Reload ---- */

static int reload(struct world *w, const char *text, char error[256])
{
    struct node_options *o = options_node(w->o);
    w->text = text;
    error[0] = '\0';
    return o->reload(o, error, 256);
}

Test(options_reload, takes_over_what_may_change_and_nothing_else)
{
    struct world w;
    char error[256];
    begin(&w, "-c t.conf -p 7", "authorization { user: a, password: b }\nserver_name: n\n");
    const struct node_options *o = options_node(w.o);
    cr_expect_eq(reload(&w,
                        "authorization { users: [{user: c, password: d}], timeout: 5 }\n"
                        "server_name: n, ping_interval: \"7s\", max_connections: 3, port: 8\n",
                        error),
                 0, "%s", error);
    cr_expect_null(o->user);
    cr_assert_eq(o->users_count, 1);
    cr_expect_str_eq(o->users[0].user, "c");
    cr_expect_eq(o->auth_timeout_ms, 5000);
    cr_expect_eq(o->ping_interval_ms, 7000);
    cr_expect_eq(o->max_connections, 3);
    cr_expect_eq(o->port, 7);
    cr_expect_str_eq(o->server_name, "n");
    cr_expect_eq(reload(&w, "server_name: n, server_tags: [a, b]", error), 0, "%s", error);
    cr_expect_eq(o->users_count, 0);
    cr_expect_eq(o->tags.count, 2);
    cr_expect_neq(reload(&w, "server_name: n, jetstream { unique_tag: x }", error), 0);
    cr_expect_eq(o->tags.count, 2);
    end(&w);
}

Test(options_reload, is_refused_as_a_whole)
{
    struct world w;
    char error[256];
    begin(&w, "-c t.conf",
          "authorization { user: a, password: b }\nserver_name: n\ncluster { port: 5, routes: "
          "[nats://a:1]\nauthorization { user: r, password: s } }\n");
    const struct node_options *o = options_node(w.o);
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"authorization { user: c, password: d }\nserver_name: m\ncluster { port: 5 }",
         "config reload not supported for ServerName: old=n, new=m"},
        {"authorization { user: c }\nserver_name: n\ncluster { port: 5, routes: [nats://b:1]\n"
         "authorization { user: r, password: s } }",
         "config reload not supported for cluster routes"},
        {"authorization { user: c }\nserver_name: n\ncluster { port: 5, routes: [nats://a:1]\n"
         "authorization { user: r, password: SECRET } }",
         "config reload not supported for cluster password"},
        {"nope: 5", "t.conf:1:0: unknown field \"nope\""},
        {"port: [", "Parse error on line 1: 'Unexpected EOF processing array.'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect_neq(reload(&w, cases[i].text, error), 0);
        cr_expect_str_eq(error, cases[i].error);
        cr_expect_str_eq(o->user, "a");
        cr_expect_str_eq(o->pass, "b");
        cr_expect_str_eq(o->server_name, "n");
        cr_expect_eq(o->routes_count, 1);
    }
    end(&w);
}
