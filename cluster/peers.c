/* The table of nodes. A node is there from its first HELLO on, up or not.
 *
 * Happy path: a route is dialled on the client lane, HELLOs are exchanged, the connection is bound
 * to its node, the other lanes are dialled, the first heartbeat makes the node up. Failures: a
 * closed lane is dialled again at once; a refused dial of the raft lane, or silence on it, makes
 * the node down and closes what is left. */
#include <arpa/inet.h>
#include <assert.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/clients.h"
#include "cluster/peers_internal.h"
#include "storage/base/err.h"
#include "storage/base/log.h"

#define CLIENT_URLS_MAX 16

struct peer *peers_find(const struct peers *p, uint64_t node_id)
{
    struct peer *peer;
    HASH_FIND(hh, p->table, &node_id, sizeof node_id, peer);
    return peer;
}

/* ---- Up and down ---- */

bool peer_is_linked(const struct peer *peer)
{
    for (int lane = 0; lane < PEERS_LANE_COUNT; lane++) {
        if (peer->lanes[lane] == NULL || peer->lanes[lane]->is_closing) {
            return false;
        }
    }
    return true;
}

static void gossip(struct peers *p, const struct peer *about)
{
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        struct peer_conn *c = peer->lanes[PEERS_LANE_CLIENT];
        if (c != NULL && peer != about) {
            struct buf *out = peer_conn_out(c);
            size_t at = peer_frame_begin(out, PEER_FRAME_GOSSIP);
            peer_frame_string(out, slice_str(about->address));
            peer_frame_end(out, at);
            peer_conn_out_done(c);
        }
    }
}

static void tell_clients(struct peers *p)
{
    if (!p->ctx->options->no_advertise && !p->is_stopping) {
        clients_broadcast_info(p->ctx->clients);
    }
}

static void peer_up_if_ready(struct peer *peer)
{
    struct peers *p = peer->peers;
    if (peer->info.is_up || !peer_is_linked(peer)) {
        return;
    }
    peer->info.is_up = true;
    log_inf("peer_up name=%s node=%016llx address=%s", peer->info.name,
            (unsigned long long)peer->node_id, peer->address);
    gossip(p, peer);
    tell_clients(p);
    for (unsigned i = 0; i < p->liveness_count; i++) {
        if (p->liveness[i].cbs.up != NULL) {
            p->liveness[i].cbs.up(p->liveness[i].ctx, peer->node_id);
        }
    }
}

void peers_mark_down(struct peer *peer, const char *why)
{
    struct peers *p = peer->peers;
    bool was_up = peer->info.is_up;
    peer->info.is_up = false;
    peer->info.is_disk_stuck = false;
    peer->info.has_clock = false;
    peer->clock = (struct heard_clock){0};
    for (int lane = 0; lane < PEERS_LANE_COUNT; lane++) {
        struct peer_conn *c = peer->lanes[lane];
        peer->lanes[lane] = NULL;
        if (c != NULL) {
            peer_conn_close(c, NULL);
        }
    }
    peers_interest_forget(peer);
    if (peer->is_paused) {
        peer->is_paused = false;
        for (unsigned i = 0; i < p->paused_count; i++) {
            p->paused[i].cb(p->paused[i].ctx, peer->node_id, false);
        }
    }
    if (!was_up) {
        return;
    }
    log_wrn("peer_down name=%s node=%016llx why=\"%s\"", peer->info.name,
            (unsigned long long)peer->node_id, why);
    tell_clients(p);
    for (unsigned i = 0; i < p->liveness_count; i++) {
        if (p->liveness[i].cbs.down != NULL) {
            p->liveness[i].cbs.down(p->liveness[i].ctx, peer->node_id);
        }
    }
}

void peers_tell_renewed(struct peer *peer, enum peers_lane lane)
{
    struct peers *p = peer->peers;
    for (unsigned i = 0; i < p->liveness_count && peer->info.is_up; i++) {
        if (p->liveness[i].cbs.renewed != NULL) {
            p->liveness[i].cbs.renewed(p->liveness[i].ctx, peer->node_id, lane);
        }
    }
}

void peers_on_closed(struct peer_conn *c)
{
    struct peers *p = c->peers;
    struct peer *peer = c->peer;
    if (p->is_stopping) {
        if (peer != NULL && peer->lanes[c->lane] == c) {
            peer->lanes[c->lane] = NULL;
        }
        return;
    }
    peers_dial_closed(c);
    if (peer != NULL && peer->lanes[c->lane] == c) {
        peer->lanes[c->lane] = NULL;
        if (c->lane == PEERS_LANE_CLIENT) {
            peers_interest_forget(peer);
        }
        /* A closed connection changes nothing by itself: what the dial meets does. */
        peer->next_ms = loop_now_ms(p->ctx->loop);
        peers_dial_lane(p, peer, c->lane);
    }
    peer = c->dial_node_id == 0 ? NULL : peers_find(p, c->dial_node_id);
    if (peer != NULL && c->is_refused && peer->info.is_up && peer->lanes[PEERS_LANE_RAFT] == NULL) {
        peers_mark_down(peer, "connection refused");
    }
}

static void tell_stuck(struct peer *peer, bool is_stuck)
{
    struct peers *p = peer->peers;
    if (!peer->info.is_up || is_stuck == peer->info.is_disk_stuck) {
        return;
    }
    peer->info.is_disk_stuck = is_stuck;
    if (is_stuck) {
        log_wrn("peer_stuck name=%s node=%016llx why=\"its disk takes nothing\"", peer->info.name,
                (unsigned long long)peer->node_id);
    } else {
        log_inf("peer_not_stuck name=%s node=%016llx", peer->info.name,
                (unsigned long long)peer->node_id);
    }
    for (unsigned i = 0; i < p->liveness_count; i++) {
        if (p->liveness[i].cbs.stuck != NULL) {
            p->liveness[i].cbs.stuck(p->liveness[i].ctx, peer->node_id, is_stuck);
        }
    }
}

/* ---- Frames ---- */

static int take_heartbeat(struct peer *peer, struct slice body)
{
    struct peers *p = peer->peers;
    struct peer_heartbeat h;
    if (peer_frame_read_heartbeat(body, &h) != 0) {
        return ERR_PROTO;
    }
    peer->heard_ms = loop_now_ms(p->ctx->loop);
    if (h.durable_lsn > peer->durable_lsn && !peer->info.is_set_back) {
        peer->durable_lsn = h.durable_lsn;
    }
    heard_clock_add(&peer->clock, h.clock_ns, loop_mono_ns(p->ctx->loop));
    peer->info.has_clock = heard_clock_base(&peer->clock, &peer->info.clock_base_ns);
    peer->info.is_clock_skewed = (h.flags & PEER_HEARTBEAT_CLOCK_SKEWED) != 0;
    peer->info.is_clock_sure = (h.flags & PEER_HEARTBEAT_CLOCK_SURE) != 0;
    peer->info.is_leaving = (h.flags & PEER_HEARTBEAT_LEAVING) != 0;
    peer->info.is_disk_slow = (h.flags & PEER_HEARTBEAT_DISK_SLOW) != 0;
    peer->info.is_disk_full = (h.flags & PEER_HEARTBEAT_DISK_FULL) != 0;
    peer->info.is_disk_behind = (h.flags & PEER_HEARTBEAT_DISK_BEHIND) != 0;
    peer->info.is_disk_lagging = (h.flags & PEER_HEARTBEAT_DISK_LAGS) != 0;
    peer->info.sync_us = h.sync_us;
    peer_up_if_ready(peer);
    tell_stuck(peer, (h.flags & PEER_HEARTBEAT_DISK_STUCK) != 0);
    return 0;
}

static int take_update(struct peer *peer, struct slice body)
{
    struct peer_update *u = xcalloc(1, sizeof *u);
    int rv = peer_frame_read_update(body, u);
    if (rv == 0) {
        memcpy(peer->info.cluster_uuid, u->cluster_uuid, 16);
        peers_set_client_urls(peer, &u->client_urls);
        peers_set_tags(peer, &u->tags);
        tell_clients(peer->peers);
    }
    free(u);
    return rv;
}

static int take_gossip(struct peers *p, struct slice body)
{
    struct reader r = reader_of(body);
    struct slice url = peer_frame_read_string(&r);
    if (r.failed) {
        return ERR_PROTO;
    }
    char text[PEERS_URL_BYTES_MAX];
    snprintf(text, sizeof text, "%.*s", SLICE_ARG(url));
    peers_add_route(p, text, false);
    peers_dial_due(p);
    return 0;
}

static int take_close(struct peer_conn *c, struct slice body)
{
    struct reader r = reader_of(body);
    struct slice why = peer_frame_read_string(&r);
    if (!slice_eq_str(why, PEERS_DUPLICATE)) {
        log_wrn("%s:%u - rid:%llu - Route closed by the other side: %.*s", c->ip, c->port,
                (unsigned long long)c->rid, SLICE_ARG(why));
    }
    peer_conn_close(c, NULL);
    return 0;
}

int peers_on_frame(struct peer_conn *c, uint8_t type, struct slice body)
{
    struct peers *p = c->peers;
    struct peer *peer = c->peer;
    if (peer == NULL || peer->lanes[c->lane] != c) {
        return 0; /* Replaced: what still comes is of the past. */
    }
    if (type == PEER_FRAME_CLOSE) {
        return take_close(c, body);
    }
    if (c->lane != PEERS_LANE_CLIENT) {
        if (type == PEER_FRAME_HEARTBEAT && c->lane == PEERS_LANE_RAFT) {
            return take_heartbeat(peer, body);
        }
        if (type != PEER_FRAME_RAFT && type != PEER_FRAME_BULK) {
            return ERR_PROTO;
        }
        return p->frame_cb[c->lane] == NULL
                   ? 0
                   : p->frame_cb[c->lane](p->frame_ctx[c->lane], peer->node_id, c->lane, body);
    }
    switch (type) {
    case PEER_FRAME_MSG:
    case PEER_FRAME_DELIVER:
        return peers_msg_frame(c, type, body);
    case PEER_FRAME_INTEREST:
        return peers_interest_frame(peer, body);
    case PEER_FRAME_GOSSIP:
        return take_gossip(p, body);
    case PEER_FRAME_UPDATE:
        return take_update(peer, body);
    default:
        if (type < PEER_FRAME_USER) {
            return ERR_PROTO;
        }
        return p->type_cb[type] == NULL ? 0
                                        : p->type_cb[type](p->type_ctx[type], peer->node_id, body);
    }
}

static void append_frame(struct peer_conn *c, uint8_t type, const struct slice *parts,
                         unsigned parts_count)
{
    struct buf *out = peer_conn_out(c);
    size_t at = peer_frame_begin(out, type);
    for (unsigned i = 0; i < parts_count; i++) {
        buf_append_slice(out, parts[i]);
    }
    peer_frame_end(out, at);
    c->out_msgs++;
    peer_conn_out_done(c);
}

int peers_send(struct peers *p, uint64_t node_id, enum peers_lane lane, const struct slice *parts,
               unsigned parts_count)
{
    assert(lane == PEERS_LANE_RAFT || lane == PEERS_LANE_BULK);
    struct peer *peer = peers_find(p, node_id);
    struct peer_conn *c = peer == NULL ? NULL : peer->lanes[lane];
    if (c == NULL) {
        return ERR_NOTFOUND;
    }
    if (peer_conn_queued(c) > PEERS_RAFT_QUEUE_MAX) {
        return ERR_FULL;
    }
    append_frame(c, lane == PEERS_LANE_RAFT ? PEER_FRAME_RAFT : PEER_FRAME_BULK, parts,
                 parts_count);
    return 0;
}

static void check_paused(struct peer *peer)
{
    struct peers *p = peer->peers;
    const struct peer_conn *c = peer->lanes[PEERS_LANE_CLIENT];
    size_t queued = c == NULL ? 0 : peer_conn_queued(c);
    bool is_paused = queued > (peer->is_paused ? PEERS_RESUME_BYTES : PEERS_PAUSE_BYTES);
    if (is_paused == peer->is_paused) {
        return;
    }
    peer->is_paused = is_paused;
    for (unsigned i = 0; i < p->paused_count; i++) {
        p->paused[i].cb(p->paused[i].ctx, peer->node_id, is_paused);
    }
}

int peers_client_send(struct peers *p, uint64_t node_id, uint8_t type, const struct slice *parts,
                      unsigned parts_count)
{
    assert(type >= PEERS_TYPE_USER);
    struct peer *peer = peers_find(p, node_id);
    struct peer_conn *c = peer == NULL ? NULL : peer->lanes[PEERS_LANE_CLIENT];
    if (c == NULL) {
        return ERR_NOTFOUND;
    }
    append_frame(c, type, parts, parts_count);
    return 0;
}

void peers_on_drained(struct peer_conn *c)
{
    if (c->peer != NULL && c->lane == PEERS_LANE_CLIENT) {
        check_paused(c->peer);
    }
}

/* ---- Time ---- */

struct peers_health peers_health(const struct peers *p)
{
    struct peers_health health = {0};
    if (p->health_cb != NULL) {
        p->health_cb(p->health_ctx, &health);
    }
    return health;
}

static void send_heartbeats(struct peers *p)
{
    struct peers_health health = peers_health(p);
    struct peer_heartbeat h = {
        .turns = loop_turns(p->ctx->loop),
        .clock_ns = loop_clock_ns(p->ctx->loop),
        .durable_lsn = health.durable_lsn,
        .sync_us = health.sync_us,
        .flags = (uint8_t)((health.is_leaving ? PEER_HEARTBEAT_LEAVING : 0) |
                           (health.is_disk_slow ? PEER_HEARTBEAT_DISK_SLOW : 0) |
                           (health.is_disk_full ? PEER_HEARTBEAT_DISK_FULL : 0) |
                           (health.is_disk_behind ? PEER_HEARTBEAT_DISK_BEHIND : 0) |
                           (health.is_disk_lagging ? PEER_HEARTBEAT_DISK_LAGS : 0) |
                           (health.is_disk_stuck ? PEER_HEARTBEAT_DISK_STUCK : 0) |
                           (health.is_clock_skewed ? PEER_HEARTBEAT_CLOCK_SKEWED : 0) |
                           (health.is_clock_sure ? PEER_HEARTBEAT_CLOCK_SURE : 0)),
    };
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        struct peer_conn *c = peer->lanes[PEERS_LANE_RAFT];
        if (c != NULL) {
            struct buf *out = peer_conn_out(c);
            size_t at = peer_frame_begin(out, PEER_FRAME_HEARTBEAT);
            peer_frame_heartbeat(out, &h);
            peer_frame_end(out, at);
        }
    }
}

static void on_tick(void *arg)
{
    struct peers *p = arg;
    uint64_t now_ms = loop_now_ms(p->ctx->loop);
    /* After a stall of our own nobody was heard because nobody was listened to: what came
     * meanwhile is read after this. */
    uint64_t since_ms = p->ticked_ms == 0 ? 0 : now_ms - p->ticked_ms;
    uint64_t stall_ms = since_ms > PEERS_STALL_MS ? since_ms - PEERS_TICK_MS : 0;
    p->ticked_ms = now_ms;
    if (now_ms >= p->heartbeat_ms) {
        p->heartbeat_ms = now_ms + PEERS_HEARTBEAT_MS;
        send_heartbeats(p);
    }
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        bool has_raft = peer->lanes[PEERS_LANE_RAFT] != NULL;
        peer->heard_ms += stall_ms;
        peer->heard_ms = peer->heard_ms < now_ms ? peer->heard_ms : now_ms;
        if ((peer->info.is_up || has_raft) && now_ms - peer->heard_ms > PEERS_SILENCE_MS) {
            peers_mark_down(peer, "no heartbeat");
            peer->next_ms = now_ms;
        }
    }
    peers_dial_due(p);
}

static void on_flush(void *arg)
{
    struct peers *p = arg;
    if (p->is_stopping) {
        return;
    }
    uv_peers_flush(p->uv);
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        check_paused(peer);
    }
}

/* ---- Starting and stopping ---- */

struct peers *peers_new(struct node_context *ctx)
{
    struct peers *p = xcalloc(1, sizeof *p);
    p->ctx = ctx;
    p->incarnation = node_random() | 1u;
    list_init(&p->conns);
    list_init(&p->routes);
    p->queues = xcalloc(ROUTER_QUEUES_MAX, sizeof *p->queues);
    p->uv = uv_peers_new(p);
    p->tick = loop_timer_new(ctx->loop, on_tick, p);
    for (uint32_t i = 0; i < ctx->options->routes_count; i++) {
        peers_add_route(p, ctx->options->routes[i], true);
    }
    peers_interest_start(p);
    loop_hook(ctx->loop, LOOP_PHASE_FRAMES, on_flush, p);
    /* Again behind the clients' writes, which may end subscriptions. */
    loop_hook(ctx->loop, LOOP_PHASE_WRITES, on_flush, p);
    return p;
}

static void add_client_url(struct peers *p, const char *host, int port)
{
    if (p->client_urls_count == CLIENT_URLS_MAX) {
        return;
    }
    char url[PEERS_URL_BYTES_MAX];
    bool is_v6 = strchr(host, ':') != NULL && host[0] != '[';
    if (port > 0) {
        snprintf(url, sizeof url, "%s%s%s:%d", is_v6 ? "[" : "", host, is_v6 ? "]" : "", port);
    } else {
        snprintf(url, sizeof url, "%s", host);
    }
    p->client_urls[p->client_urls_count++] = xstrndup(url, strlen(url));
}

static bool is_any_host(const char *host)
{
    return host == NULL || host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 ||
           strcmp(host, "::") == 0;
}

/* How clients reach this node: as configured, or at each address but loopback. */
static void find_client_urls(struct peers *p)
{
    const struct node_options *o = p->ctx->options;
    p->client_urls = xcalloc(CLIENT_URLS_MAX, sizeof *p->client_urls);
    if (o->client_advertise != NULL) {
        bool has_port = strrchr(o->client_advertise, ':') != NULL;
        add_client_url(p, o->client_advertise, has_port ? 0 : p->ctx->client_port);
        return;
    }
    if (!is_any_host(o->host)) {
        add_client_url(p, o->host, p->ctx->client_port);
        return;
    }
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) == 0) {
        for (const struct ifaddrs *it = all; it != NULL; it = it->ifa_next) {
            char ip[INET_ADDRSTRLEN];
            if (it->ifa_addr != NULL && it->ifa_addr->sa_family == AF_INET) {
                inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)it->ifa_addr)->sin_addr, ip,
                          sizeof ip);
                if (strncmp(ip, "127.", 4) != 0) {
                    add_client_url(p, ip, p->ctx->client_port);
                }
            }
        }
        freeifaddrs(all);
    }
    if (p->client_urls_count == 0) {
        add_client_url(p, "127.0.0.1", p->ctx->client_port);
    }
}

int peers_start(struct peers *p)
{
    const struct node_options *o = p->ctx->options;
    int rv = uv_peers_listen(p->uv);
    if (rv != 0) {
        return rv;
    }
    p->is_listening = true;
    if (o->cluster_advertise != NULL) {
        snprintf(p->cluster_url, sizeof p->cluster_url, "%s", o->cluster_advertise);
    } else {
        snprintf(p->cluster_url, sizeof p->cluster_url, "%s:%d",
                 is_any_host(o->cluster_host) ? "" : o->cluster_host, p->ctx->cluster_port);
    }
    find_client_urls(p);
    loop_timer_start(p->tick, 0, PEERS_TICK_MS);
    return 0;
}

void peers_stop(struct peers *p)
{
    p->is_stopping = true;
    if (p->is_listening) {
        p->is_listening = false;
        uv_peers_close_listener(p->uv);
    }
    loop_timer_free(p->tick);
    p->tick = NULL;
    router_set_interest_cb(p->ctx->router, NULL, NULL);
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        peers_interest_forget(peer);
    }
    LIST_FOR_SAFE(it, next, &p->conns)
    {
        peer_conn_close(container_of(it, struct peer_conn, link), NULL);
    }
}

void peers_free(struct peers *p)
{
    if (p == NULL) {
        return;
    }
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        HASH_DEL(p->table, peer);
        peers_free_strings(peer);
        router_remote_close(&peer->remote);
        free(peer);
    }
    peers_dial_free(p);
    peers_free_list(p->client_urls, p->client_urls_count);
    free(p->queues);
    uv_peers_free(p->uv);
    free(p);
}

bool peers_is_listening(const struct peers *p)
{
    return p->is_listening;
}

/* ---- Registration ---- */

void peers_set_frame_cb(struct peers *p, enum peers_lane lane, peers_frame_cb cb, void *ctx)
{
    p->frame_cb[lane] = cb;
    p->frame_ctx[lane] = ctx;
}

void peers_register(struct peers *p, uint8_t type, peers_type_cb cb, void *ctx)
{
    assert(type >= PEERS_TYPE_USER);
    p->type_cb[type] = cb;
    p->type_ctx[type] = ctx;
}

void peers_add_paused_cb(struct peers *p, peers_paused_cb cb, void *ctx)
{
    assert(p->paused_count < PEERS_LIVENESS_MAX);
    p->paused[p->paused_count].cb = cb;
    p->paused[p->paused_count++].ctx = ctx;
}

void peers_add_liveness(struct peers *p, const struct peers_liveness *cbs, void *ctx)
{
    assert(p->liveness_count < PEERS_LIVENESS_MAX);
    p->liveness[p->liveness_count].cbs = *cbs;
    p->liveness[p->liveness_count++].ctx = ctx;
}

void peers_set_health_cb(struct peers *p, peers_health_cb cb, void *ctx)
{
    p->health_cb = cb;
    p->health_ctx = ctx;
}

static void send_update(struct peers *p)
{
    struct peer_update *u = xcalloc(1, sizeof *u);
    memcpy(u->cluster_uuid, p->cluster_uuid, 16);
    peers_fill_client_urls(p, &u->client_urls);
    peers_fill_tags(p, &u->tags);
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        struct peer_conn *c = peer->lanes[PEERS_LANE_CLIENT];
        if (c != NULL) {
            struct buf *out = peer_conn_out(c);
            size_t at = peer_frame_begin(out, PEER_FRAME_UPDATE);
            peer_frame_update(out, u);
            peer_frame_end(out, at);
            peer_conn_out_done(c);
        }
    }
    free(u);
}

void peers_announce_cluster_uuid(struct peers *p, const uint8_t uuid[16])
{
    memcpy(p->cluster_uuid, uuid, 16);
    send_update(p);
}

void peers_announce_tags(struct peers *p)
{
    send_update(p);
}

void peers_announce_health(struct peers *p)
{
    send_heartbeats(p);
}

void peers_announce_lame_duck(struct peers *p)
{
    send_update(p);
    send_heartbeats(p); /* Nobody is to hand anything over to this node from here on. */
}
