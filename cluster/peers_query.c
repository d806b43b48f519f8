/* What the rest of the node asks of the peers: who is there, /routez, counters. */
#include "cluster/monitor.h"
#include "cluster/peers_internal.h"

/* ---- Who is there ---- */

static int by_id(const struct peer *a, const struct peer *b)
{
    return (a->node_id > b->node_id) - (a->node_id < b->node_id);
}

void peers_each(struct peers *p, peers_each_cb cb, void *ctx)
{
    HASH_SORT(p->table, by_id);
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        if (!cb(ctx, &peer->info)) {
            return;
        }
    }
}

bool peers_get(const struct peers *p, uint64_t node_id, struct peers_info *ret_info)
{
    const struct peer *peer = peers_find(p, node_id);
    if (peer == NULL) {
        return false;
    }
    *ret_info = peer->info;
    /* Clients take a 0 for never. */
    int64_t silent_ms = (int64_t)(loop_now_ms(p->ctx->loop) - peer->heard_ms);
    ret_info->active_ns = silent_ms == 0 ? 500000 : silent_ms * 1000000;
    ret_info->is_linked = peer_is_linked(peer);
    return true;
}

void peers_each_route(struct peers *p, peers_route_cb cb, void *ctx)
{
    LIST_FOR(it, &p->routes)
    {
        const struct peers_route_entry *r = container_of(it, struct peers_route_entry, link);
        if (r->is_configured) {
            struct peers_route route = {r->url, r->node_id, r->error[0] == '\0' ? NULL : r->error};
            cb(ctx, &route);
        }
    }
}

void peers_client_urls(struct peers *p, json_t *array)
{
    bool has_others = false;
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        has_others = has_others || (peer->info.is_up && peer->info.client_urls_count > 0);
    }
    if (!has_others) {
        return;
    }
    for (uint32_t i = 0; i < p->client_urls_count && !p->ctx->is_lame_duck; i++) {
        json_array_append_new(array, json_string(p->client_urls[i]));
    }
    HASH_ITER(hh, p->table, peer, tmp)
    {
        for (uint32_t i = 0; peer->info.is_up && i < peer->info.client_urls_count; i++) {
            json_array_append_new(array, json_string(peer->client_urls[i]));
        }
    }
}

static json_t *route_subs_json(const struct peer *peer, bool is_detail)
{
    json_t *list = json_array();
    for (const struct peer_sub *s = peer->subs; s != NULL; s = s->hh.next) {
        json_t *subject = monitor_text_json(interest_subject(&s->sub.interest));
        struct slice queue = interest_queue(&s->sub.interest);
        json_t *j = is_detail ? json_pack("{s:o}", "subject", subject) : subject;
        if (is_detail && queue.len > 0) {
            json_object_set_new(j, "qgroup", monitor_text_json(queue));
        }
        json_array_append_new(list, j);
    }
    return list;
}

static json_t *route_json(struct peers *p, const struct peer_conn *c, bool has_subs,
                          bool has_detail)
{
    const struct peer *peer = c->peer;
    int64_t now_ns = loop_clock_ns(p->ctx->loop);
    bool is_client = c->lane == PEERS_LANE_CLIENT;
    json_t *j = json_object();
    json_object_set_new(j, "rid", json_integer((json_int_t)c->rid));
    json_object_set_new(j, "remote_id", json_string(peer->info.server_id));
    json_object_set_new(j, "remote_name", json_string(peer->info.name));
    json_object_set_new(j, "did_solicit", json_boolean(c->is_dialler));
    json_object_set_new(j, "is_configured",
                        json_boolean(c->route != NULL && c->route->is_configured));
    json_object_set_new(j, "ip", json_string(c->ip));
    json_object_set_new(j, "port", json_integer(c->port));
    json_object_set_new(j, "start", monitor_time_json(c->start_ns));
    json_object_set_new(j, "last_activity", monitor_time_json(c->last_ns));
    json_object_set_new(j, "uptime", monitor_uptime_json(now_ns - c->start_ns));
    json_object_set_new(j, "idle", monitor_uptime_json(now_ns - c->last_ns));
    json_object_set_new(j, "pending_size", json_integer((json_int_t)peer_conn_queued(c)));
    json_object_set_new(j, "in_msgs", json_integer((json_int_t)c->in_msgs));
    json_object_set_new(j, "out_msgs", json_integer((json_int_t)c->out_msgs));
    json_object_set_new(j, "in_bytes", json_integer((json_int_t)c->in_bytes));
    json_object_set_new(j, "out_bytes", json_integer((json_int_t)c->out_bytes));
    json_object_set_new(j, "subscriptions", json_integer(is_client ? peer->subs_count : 0));
    json_object_set_new(j, "compression", json_string("off"));
    if (has_detail && is_client) {
        json_object_set_new(j, "subscriptions_list_detail", route_subs_json(peer, true));
    } else if (has_subs && is_client) {
        json_object_set_new(j, "subscriptions_list", route_subs_json(peer, false));
    }
    return j;
}

json_t *peers_routez(struct peers *p, bool has_subs, bool has_detail)
{
    json_t *list = json_array();
    LIST_FOR(it, &p->conns)
    {
        const struct peer_conn *c = container_of(it, struct peer_conn, link);
        if (c->is_bound && c->peer->lanes[c->lane] == c) {
            json_array_append_new(list, route_json(p, c, has_subs, has_detail));
        }
    }
    return list;
}

struct peers_stats peers_stats(const struct peers *p)
{
    struct peers_stats stats = p->stats;
    const struct peer *peer;
    for (peer = p->table; peer != NULL; peer = peer->hh.next) {
        stats.remotes += peer->info.is_up;
        for (int lane = 0; lane < PEERS_LANE_COUNT; lane++) {
            stats.connections += peer->lanes[lane] != NULL;
        }
    }
    return stats;
}
