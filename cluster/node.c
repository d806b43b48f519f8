/* The node: makes the parts, starts them in the order of nats-server's log, handles signals, stops.
 *
 * Start: banner, pid file, monitoring, JetStream, routes, ports file, client listener, ready.
 * Stop: leaderships go to other nodes, clients are read no more, what they were heard to send is
 * answered, who waits for messages that this node alone can send is told; then listeners and
 * connections close, and the loop runs until the last handle is gone.
 *
 *   RUNNING --SIGTERM, SIGINT-----> HANDOVER --> DRAIN --> TELL --> CLOSE --> (loop stops)
 *      |                               ^
 *      +--SIGUSR2--> LAME_DUCK --gone--+
 *
 * Each step is bounded, so that a node that nobody can relieve stops all the same; a second signal
 * cuts them short. */
#include "cluster/node.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cluster/auth.h"
#include "cluster/clients.h"
#include "cluster/http.h"
#include "cluster/identity.h"
#include "cluster/js.h"
#include "cluster/loop.h"
#include "cluster/memory.h"
#include "cluster/monitor.h"
#include "cluster/node_options.h"
#include "cluster/peers.h"
#include "cluster/process.h"
#include "cluster/router.h"
#include "cluster/server_id.h"
#include "cluster/signals.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/log.h"

#define HANDOVER_MAX_MS 3000 /* Two moves of leaderships that come to nothing. */
#define DRAIN_MAX_MS 1000
#define DRAIN_MIN_MS 20  /* For replies that nobody counts: to requests, confirmed acks. */
#define CLOSE_MAX_MS 300 /* Connections linger for 250 ms. */
#define STOP_STEP_MS 5
#define SHUTDOWN_MAX_MS 2000 /* What has not closed by then is left to the kernel. */

enum node_phase {
    NODE_RUNNING,
    NODE_LAME_DUCK,
    NODE_HANDOVER,
    NODE_DRAIN,
    NODE_TELL,
    NODE_CLOSE,
    NODE_STOPPED
};

struct node {
    struct node_context ctx;
    struct node_options *options;
    struct monitor *monitor;
    struct js *js; /* NULL without JetStream. */
    struct signals *signals;
    struct memory_keeper *memory;
    struct loop_timer *ldm_timer;
    struct loop_timer *stop_timer;
    struct loop_timer *step_timer; /* From HANDOVER on. */
    enum node_phase phase;
    uint64_t phase_ms; /* When it began. */
    bool has_ports_file;
};

uint64_t node_random(void)
{
    uint64_t value;
    ssize_t n = getrandom(&value, sizeof value, 0);
    assert(n == sizeof value);
    (void)n;
    return value;
}

static void log_banner(const struct node *n)
{
    const struct node_context *ctx = &n->ctx;
    char peer[SERVER_ID_PEER_BYTES + 1];
    server_id_peer(ctx->server_name, peer);
    log_inf("Starting nats-server");
    log_inf("  Version:  %s", NODE_VERSION);
    log_inf("  Git:      [%s]", "not set");
    if (ctx->cluster_name[0] != '\0') {
        log_inf("  Cluster:  %s", ctx->cluster_name);
    }
    log_inf("  Name:     %s", ctx->server_name);
    if (n->options->has_jetstream) {
        log_inf("  Node:     %s", peer);
    }
    log_inf("  ID:       %s", ctx->server_id);
    if (n->options->config_path != NULL) {
        log_inf("Using configuration file: %s", n->options->config_path);
    }
    for (uint32_t i = 0; i < n->options->notes_count; i++) {
        log_wrn("%s", n->options->notes[i]);
    }
}

/* ---- Stopping ---- */

static void on_stop_late(void *arg)
{
    struct node *n = arg;
    log_wrn("Shutdown takes too long: connections are left open");
    if (n->has_ports_file) {
        process_remove_ports(&n->ctx);
    }
    _exit(0);
}

static void stop_now(struct node *n)
{
    if (n->phase == NODE_STOPPED) {
        return;
    }
    n->phase = NODE_STOPPED;
    n->ctx.is_stopping = true;
    if (n->has_ports_file) {
        process_remove_ports(&n->ctx);
    }
    loop_stop(n->ctx.loop);
}

static uint64_t phase_age_ms(const struct node *n)
{
    return loop_now_ms(n->ctx.loop) - n->phase_ms;
}

static void enter(struct node *n, enum node_phase phase)
{
    n->phase = phase;
    n->phase_ms = loop_now_ms(n->ctx.loop);
}

static void hand_over(struct node *n)
{
    unsigned kept;
    unsigned left = js_leave_left(n->js, &kept);
    if (left > 0 && phase_age_ms(n) < HANDOVER_MAX_MS) {
        return;
    }
    if (left + kept > 0) {
        log_wrn("%u leaderships are not handed over: no other replica is up and has all of the log",
                left + kept);
    }
    clients_stop_reading(n->ctx.clients);
    enter(n, NODE_DRAIN);
}

static void drain(struct node *n)
{
    uint64_t age_ms = phase_age_ms(n);
    bool is_quiet = js_is_quiet(n->js) && age_ms >= DRAIN_MIN_MS;
    if (!is_quiet && age_ms < DRAIN_MAX_MS) {
        return;
    }
    if (!is_quiet) {
        log_wrn("Publishes that were accepted are not answered: their streams have no leader");
    }
    js_end_pulls(n->js);
    enter(n, NODE_TELL);
}

static void on_stop_step(void *arg)
{
    struct node *n = arg;
    if (n->phase == NODE_HANDOVER) {
        hand_over(n);
    } else if (n->phase == NODE_DRAIN) {
        drain(n);
    } else if (n->phase == NODE_TELL) {
        /* The turn in between took the statuses to the connections. Clients look for another node
         * at once, not when the log is closed. */
        clients_close_all(n->ctx.clients);
        enter(n, NODE_CLOSE);
    } else if (n->phase == NODE_CLOSE &&
               (clients_are_gone(n->ctx.clients) || phase_age_ms(n) >= CLOSE_MAX_MS)) {
        stop_now(n);
    }
}

/* Tell who has to know that this node goes: nobody is to come here, or to hand anything over. */
static void begin_leaving(struct node *n)
{
    if (n->ctx.is_lame_duck) {
        return;
    }
    n->ctx.is_lame_duck = true;
    clients_close_listener(n->ctx.clients);
    if (n->ctx.peers != NULL) {
        peers_announce_lame_duck(n->ctx.peers);
    }
    clients_broadcast_info(n->ctx.clients);
    if (n->js != NULL) {
        js_leave(n->js);
    }
}

static void stop(struct node *n)
{
    if ((n->phase >= NODE_HANDOVER && n->phase < NODE_STOPPED) || n->js == NULL) {
        log_inf("Initiating Shutdown...");
        stop_now(n);
        return;
    }
    if (n->phase == NODE_STOPPED) {
        return;
    }
    log_inf("Initiating Shutdown...");
    begin_leaving(n);
    enter(n, NODE_HANDOVER);
    n->step_timer = loop_timer_new(n->ctx.loop, on_stop_step, n);
    loop_timer_start(n->step_timer, 0, STOP_STEP_MS);
}

static void on_evicted(void *arg)
{
    struct node *n = arg;
    if (n->phase == NODE_LAME_DUCK) {
        stop(n);
    }
}

static void on_ldm_grace_end(void *arg)
{
    struct node *n = arg;
    int64_t over_ms = n->options->lame_duck_duration_ms - n->options->lame_duck_grace_ms;
    if (n->phase == NODE_LAME_DUCK) {
        log_inf("Closing existing clients");
        clients_evict(n->ctx.clients, (uint64_t)over_ms, on_evicted, n);
    }
}

static void enter_lame_duck(struct node *n)
{
    if (n->phase != NODE_RUNNING) {
        return;
    }
    log_inf("Entering lame duck mode, stop accepting new clients");
    enter(n, NODE_LAME_DUCK);
    begin_leaving(n);
    if (clients_stats(n->ctx.clients).connections == 0) {
        stop(n);
        return;
    }
    n->ldm_timer = loop_timer_new(n->ctx.loop, on_ldm_grace_end, n);
    loop_timer_start(n->ldm_timer, (uint64_t)n->options->lame_duck_grace_ms, 0);
}

static void reload(struct node *n)
{
    if (n->options->config_path == NULL) {
        log_err("Failed to reload server configuration: %s", "no config file specified");
        return;
    }
    char text[512];
    int rv = n->options->reload == NULL ? ERR_UNSUPPORTED
                                        : n->options->reload(n->options, text, sizeof text);
    if (rv != 0) {
        log_err("Failed to reload server configuration: %s", text);
        return;
    }
    clients_recheck_auth(n->ctx.clients);
    if (n->ctx.peers != NULL) {
        peers_announce_tags(n->ctx.peers);
    }
    log_inf("Reloaded server configuration");
}

static void on_signal(void *arg, int signum)
{
    struct node *n = arg;
    log_dbg("Trapped \"%s\" signal", strsignal(signum));
    switch (signum) {
    case SIGTERM:
        if (n->phase == NODE_LAME_DUCK) {
            return; /* A pod's termination must not cut the lame duck short. */
        }
        stop(n);
        return;
    case SIGINT:
        stop(n);
        return;
    case SIGHUP:
        reload(n);
        return;
    case SIGUSR1:
        log_inf("File log re-opened");
        if (log_reopen() != 0) {
            log_err("log file cannot be opened again: %s", strerror(errno));
        }
        return;
    default:
        enter_lame_duck(n);
        return;
    }
}

/* ---- Starting ---- */

static void make_identity(struct node *n)
{
    struct node_context *ctx = &n->ctx;
    const struct node_options *o = n->options;
    ctx->start_ns = loop_clock_ns(ctx->loop);
    server_id_random(ctx->server_id);
    ctx->server_name = o->server_name != NULL ? o->server_name : ctx->server_id;
    ctx->cluster_name = o->has_cluster && o->cluster_name != NULL ? o->cluster_name : "";
}

static void load_identity(struct node *n)
{
    struct node_context *ctx = &n->ctx;
    struct identity id;
    if (n->options->has_jetstream) {
        const char *dir = n->options->store_dir;
        char error[512];
        int locked = identity_lock(dir); /* Before it counts this start. */
        if (locked != ERR_EXISTS) {
            js_make_room(dir);
        }
        int rv = locked == ERR_EXISTS
                     ? 0
                     : identity_open(file_ops_posix(), dir, &id, error, sizeof error);
        if (rv != 0) {
            log_fatal("Can't start JetStream: %s", error);
        }
        locked = locked == ERR_NOTFOUND ? identity_lock(dir) : locked;
        if (locked != 0) {
            log_fatal("Can't start JetStream: store directory \"%s\": %s", dir,
                      locked == ERR_EXISTS ? "another process uses it" : strerror(errno));
        }
    } else {
        identity_random(&id);
    }
    memcpy(ctx->uuid, id.uuid, sizeof ctx->uuid);
    ctx->node_id = identity_node_id(&id);
    ctx->boot_count = id.boot_count;
}

static void make_parts(struct node *n)
{
    struct node_context *ctx = &n->ctx;
    ctx->router = router_new(node_random());
    ctx->clients = clients_new(ctx);
    ctx->http = http_new(ctx);
    n->monitor = monitor_new(ctx);
    if (n->options->has_cluster) {
        ctx->peers = peers_new(ctx);
    }
}

static void start_monitoring(struct node *n)
{
    const struct node_options *o = n->options;
    if (o->http_port == 0) {
        return;
    }
    if (http_listen(n->ctx.http) != 0) {
        log_fatal("Error starting monitor: listen tcp %s:%d: bind: %s", o->http_host, o->http_port,
                  strerror(errno));
    }
    log_inf("Starting http monitor on %s:%d", o->http_host, n->ctx.http_port);
}

static void start_peers(struct node *n)
{
    if (n->ctx.peers == NULL) {
        return;
    }
    log_inf("Cluster name is %s", n->ctx.cluster_name);
    if (peers_start(n->ctx.peers) != 0) {
        log_fatal("Error listening on router port: %d - %s", n->options->cluster_port,
                  strerror(errno));
    }
    log_inf("Listening for route connections on %s:%d", n->options->cluster_host,
            n->ctx.cluster_port);
}

static void start_clients(struct node *n)
{
    const struct node_options *o = n->options;
    if (clients_listen(n->ctx.clients) != 0) {
        log_fatal("Error listening on port: %s:%d, %s", o->host, o->port, strerror(errno));
    }
    log_inf("Listening for client connections on %s:%d", o->host, n->ctx.client_port);
}

static void say_ready(struct node *n)
{
    const struct node_options *o = n->options;
    if (o->ports_file_dir != NULL) {
        n->has_ports_file = process_write_ports(&n->ctx) == 0;
        if (!n->has_ports_file) {
            log_err("Error writing ports file to %s: %s", o->ports_file_dir, strerror(errno));
        }
    }
    log_inf("Server is ready");
}

struct node *node_start(struct node_options *options)
{
    struct node *n = xcalloc(1, sizeof *n);
    n->options = options;
    n->ctx.options = options;
    n->ctx.loop = loop_new();
    make_identity(n);
    n->signals = signals_new(n->ctx.loop, on_signal, n);
    log_banner(n);
    load_identity(n);
    make_parts(n);
    if (options->pid_file != NULL && process_write_pid(options->pid_file) != 0) {
        log_fatal("Could not write pidfile: %s: %s", options->pid_file, strerror(errno));
    }
    start_monitoring(n);
    if (options->has_jetstream && js_start(&n->ctx, n->monitor, &n->js) != 0) {
        log_fatal("Can't start JetStream");
    }
    start_clients(n);
    start_peers(n); /* Its HELLO says the client port. */
    n->memory = memory_keeper_new(n->ctx.loop);
    say_ready(n);
    return n;
}

int node_run(struct node *n)
{
    loop_run(n->ctx.loop);
    return 0;
}

void node_free(struct node *n)
{
    if (n == NULL) {
        return;
    }
    struct node_context *ctx = &n->ctx;
    ctx->is_stopping = true;
    n->phase = NODE_STOPPED;
    js_stop(n->js);
    http_stop(ctx->http);
    clients_stop(ctx->clients);
    if (ctx->peers != NULL) {
        peers_stop(ctx->peers);
    }
    signals_free(n->signals);
    memory_keeper_free(n->memory);
    loop_timer_free(n->ldm_timer);
    loop_timer_free(n->step_timer);
    n->stop_timer = loop_timer_new(ctx->loop, on_stop_late, n);
    loop_timer_start(n->stop_timer, SHUTDOWN_MAX_MS, 0);
    loop_timer_unref(n->stop_timer);
    loop_drain(ctx->loop);
    loop_timer_free(n->stop_timer);
    js_free(n->js);
    peers_free(ctx->peers);
    clients_free(ctx->clients);
    http_free(ctx->http);
    monitor_free(n->monitor);
    router_free(ctx->router);
    loop_free(ctx->loop);
    log_inf("Server Exiting..");
    free(n);
}
