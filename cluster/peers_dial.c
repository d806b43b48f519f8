/* Whom to dial. A route, configured or heard of, is dialled on the client lane until the node
 * behind it is known and up; a known node's missing lanes are dialled at its address. Each has its
 * own backoff: 0, 50, 100, ... ms. */
#include <stdio.h>
#include <stdlib.h>

#include "cluster/peers_internal.h"
#include "storage/base/log.h"

/* Fast first, then at most so long. */
static uint64_t backoff_ms(unsigned failures, uint64_t max_ms)
{
    if (failures == 0) {
        return 0;
    }
    uint64_t ms = failures > 5 ? max_ms : 25ull << failures;
    return ms > max_ms ? max_ms : ms;
}

static bool is_known(struct peers *p, const char *url)
{
    LIST_FOR(it, &p->routes)
    {
        if (strcmp(container_of(it, struct peers_route_entry, link)->url, url) == 0) {
            return true;
        }
    }
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        if (strcmp(peer->address, url) == 0) {
            return true;
        }
    }
    return false;
}

void peers_add_route(struct peers *p, const char *url, bool is_configured)
{
    const char *at = strstr(url, "://");
    at = at == NULL ? url : at + 3;
    const char *host = strrchr(at, '@');
    host = host == NULL ? at : host + 1;
    size_t len = strcspn(host, "/");
    if (len == 0 || len >= PEERS_URL_BYTES_MAX || p->routes_count >= PEERS_ROUTES_MAX) {
        return;
    }
    struct peers_route_entry *r = xcalloc(1, sizeof *r);
    snprintf(r->url, sizeof r->url, "%.*s", (int)len, host);
    if (is_known(p, r->url)) {
        free(r);
        return;
    }
    if (host != at) {
        size_t info = (size_t)(host - at - 1);
        const char *colon = memchr(at, ':', info);
        size_t user = colon == NULL ? info : (size_t)(colon - at);
        r->user = xstrndup(at, user);
        r->pass = colon == NULL ? xstrndup("", 0) : xstrndup(colon + 1, info - user - 1);
    }
    r->is_configured = is_configured;
    snprintf(r->error, sizeof r->error, "not tried yet");
    list_push_back(&p->routes, &r->link);
    p->routes_count++;
}

static void route_free(struct peers *p, struct peers_route_entry *r)
{
    list_remove(&r->link);
    p->routes_count--;
    free(r->user);
    free(r->pass);
    free(r);
}

void peers_dial_free(struct peers *p)
{
    LIST_FOR_SAFE(it, tmp, &p->routes)
    {
        route_free(p, container_of(it, struct peers_route_entry, link));
    }
}

/* What to say to a node: the credentials of a route to it, else those this node asks for. */
static void credentials(struct peers *p, uint64_t node_id, const char **ret_user,
                        const char **ret_pass)
{
    *ret_user = p->ctx->options->cluster_user;
    *ret_pass = p->ctx->options->cluster_pass;
    LIST_FOR(it, &p->routes)
    {
        const struct peers_route_entry *r = container_of(it, struct peers_route_entry, link);
        if (r->user != NULL && (r->node_id == node_id || *ret_user == NULL)) {
            *ret_user = r->user;
            *ret_pass = r->pass;
        }
    }
}

void peers_dial_lane(struct peers *p, struct peer *peer, enum peers_lane lane)
{
    if (p->is_stopping || peer->is_dialling[lane] || peer->lanes[lane] != NULL ||
        peer->address[0] == '\0') {
        return;
    }
    const char *user, *pass;
    credentials(p, peer->node_id, &user, &pass);
    peer->is_dialling[lane] = true;
    struct peer_conn *c = peer_conn_dial(p, peer->address, lane, user, pass);
    c->dial_node_id = peer->node_id;
}

static void dial_route(struct peers *p, struct peers_route_entry *r)
{
    const char *user = r->user, *pass = r->pass;
    if (user == NULL) {
        credentials(p, r->node_id, &user, &pass);
    }
    r->is_dialling = true;
    struct peer_conn *c = peer_conn_dial(p, r->url, PEERS_LANE_CLIENT, user, pass);
    c->route = r;
}

void peers_dial_due(struct peers *p)
{
    uint64_t now_ms = loop_now_ms(p->ctx->loop);
    LIST_FOR_SAFE(it, tmp, &p->routes)
    {
        struct peers_route_entry *r = container_of(it, struct peers_route_entry, link);
        struct peer *peer = r->node_id == 0 ? NULL : peers_find(p, r->node_id);
        bool is_reached = peer != NULL && peer->lanes[PEERS_LANE_CLIENT] != NULL;
        if (!r->is_configured && !r->is_dialling &&
            (is_reached || r->is_self || r->failures > PEERS_IMPLICIT_TRIES_MAX)) {
            route_free(p, r); /* The node itself is known, or is not there. */
        } else if (!r->is_dialling && !r->is_self && !is_reached && now_ms >= r->next_ms) {
            dial_route(p, r);
        }
    }
    struct peer *peer, *next;
    HASH_ITER(hh, p->table, peer, next)
    {
        if (now_ms < peer->next_ms) {
            continue;
        }
        for (unsigned lane = 0; lane < PEERS_LANE_COUNT; lane++) {
            peers_dial_lane(p, peer, (enum peers_lane)lane);
        }
    }
}

void peers_dial_closed(struct peer_conn *c)
{
    struct peers *p = c->peers;
    uint64_t now_ms = loop_now_ms(p->ctx->loop);
    struct peers_route_entry *r = c->route;
    if (r != NULL) {
        r->is_dialling = false;
        if (!c->is_bound) {
            snprintf(r->error, sizeof r->error, "%s", c->error == NULL ? "closed" : c->error);
            bool is_news = c->error == NULL || strcmp(c->error, PEERS_DUPLICATE) != 0;
            if (r->is_configured && !r->is_self && is_news && r->failures % 20 == 0) {
                log_inf("Error trying to connect to route: %s: %s", r->url, r->error);
            }
            r->next_ms = now_ms + backoff_ms(++r->failures, PEERS_BACKOFF_MAX_MS);
        } else {
            r->failures = 0;
            r->next_ms = now_ms;
        }
    }
    struct peer *peer = c->dial_node_id == 0 ? NULL : peers_find(p, c->dial_node_id);
    if (peer != NULL) {
        peer->is_dialling[c->lane] = false;
        if (!c->is_bound) {
            peer->next_ms = now_ms + backoff_ms(++peer->failures, PEERS_NODE_BACKOFF_MAX_MS);
        }
    }
}
