/* HELLO: what this node says of itself, what it takes from others, and which connection is kept. */
#include <stdio.h>
#include <stdlib.h>

#include "broker/entry.h"
#include "broker/meta.h"
#include "cluster/peers_internal.h"
#include "storage/base/log.h"

static uint64_t id_of(const uint8_t uuid[16])
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) {
        value = value << 8 | uuid[i];
    }
    return value;
}

static bool is_zero(const uint8_t uuid[16])
{
    static const uint8_t zero[16];
    return memcmp(uuid, zero, 16) == 0;
}

static void format_uuid(const uint8_t uuid[16], char text[33])
{
    for (int i = 0; i < 16; i++) {
        snprintf(text + 2 * i, 3, "%02x", uuid[i]);
    }
}

/* ---- Strings of a peer ---- */

void peers_free_list(char **items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        free(items[i]);
    }
    free(items);
}

static char **dup_list(const struct peer_list *list)
{
    char **items = xcalloc(list->count + 1, sizeof *items);
    for (uint32_t i = 0; i < list->count; i++) {
        items[i] = xslicedup(list->items[i]);
    }
    return items;
}

void peers_set_client_urls(struct peer *peer, const struct peer_list *list)
{
    peers_free_list(peer->client_urls, peer->info.client_urls_count);
    peer->client_urls = dup_list(list);
    peer->info.client_urls = (const char *const *)peer->client_urls;
    peer->info.client_urls_count = list->count;
}

/* Those that could not be a server's are left out. */
void peers_set_tags(struct peer *peer, const struct peer_list *list)
{
    tags_close(&peer->info.tags);
    for (uint32_t i = 0; i < list->count; i++) {
        (void)tags_add(&peer->info.tags, list->items[i]);
    }
}

void peers_free_strings(struct peer *peer)
{
    tags_close(&peer->info.tags);
    free((char *)peer->info.name);
    free((char *)peer->info.server_id);
    free((char *)peer->info.version);
    peers_free_list(peer->client_urls, peer->info.client_urls_count);
    peers_free_list(peer->routes, peer->info.routes_count);
}

/* Another start has more behind it than the one before, and all that that one said was durable: a
 * synced record is there after any crash. Meta counts starts as well, but the copy of a disk may
 * have been made since the last one. What this process has not heard itself it cannot know. */
static void judge_start(struct peer *peer, const struct peer_hello *h)
{
    struct peers_info *i = &peer->info;
    if (peer->incarnation == 0 || peer->incarnation == h->incarnation) {
        return;
    }
    if (i->least_boot_count < i->boot_count + 1 && !i->is_set_back) {
        i->least_boot_count = i->boot_count + 1;
    }
    i->least_lsn = peer->durable_lsn;
    i->is_set_back = h->boot_count < i->least_boot_count || h->start_lsn < i->least_lsn;
}

static void fill_info(struct peer *peer, const struct peer_hello *h)
{
    judge_start(peer, h);
    bool is_up = peer->info.is_up;
    bool is_disk_stuck = peer->info.is_disk_stuck;
    int64_t base_ns = 0;
    /* Another start has another clock. */
    if (peer->info.boot_count != h->boot_count) {
        peer->clock = (struct heard_clock){0};
    }
    peers_free_strings(peer);
    peer->client_urls = dup_list(&h->client_urls);
    peer->routes = dup_list(&h->routes);
    peer->info = (struct peers_info){
        .node_id = peer->node_id,
        .name = xslicedup(h->server_name),
        .server_id = xslicedup(h->server_id),
        .version = xslicedup(h->version),
        .cluster_url = peer->address,
        .client_urls = (const char *const *)peer->client_urls,
        .client_urls_count = h->client_urls.count,
        .routes = (const char *const *)peer->routes,
        .routes_count = h->routes.count,
        .boot_count = h->boot_count,
        .is_set_back = peer->info.is_set_back,
        .least_boot_count = peer->info.least_boot_count,
        .least_lsn = peer->info.least_lsn,
        .has_clock = heard_clock_base(&peer->clock, &base_ns),
        .clock_base_ns = base_ns,
        .machine_version_max = h->machine_version_max,
        .meta_version_max = h->meta_version_max,
        .is_jetstream = h->is_jetstream,
        .is_up = is_up,
        .is_disk_stuck = is_disk_stuck,
    };
    memcpy(peer->info.uuid, h->uuid, 16);
    memcpy(peer->info.cluster_uuid, h->cluster_uuid, 16);
    peers_set_tags(peer, &h->tags);
}

/* ---- HELLO ---- */

static void add_item(struct peer_list *list, const char *s)
{
    if (list->count < PEER_FRAME_LIST_MAX) {
        list->items[list->count++] = slice_str(s);
    }
}

void peers_fill_client_urls(const struct peers *p, struct peer_list *list)
{
    if (p->ctx->options->no_advertise || p->ctx->is_lame_duck) {
        return;
    }
    for (uint32_t i = 0; i < p->client_urls_count; i++) {
        add_item(list, p->client_urls[i]);
    }
}

void peers_fill_tags(const struct peers *p, struct peer_list *list)
{
    const struct tag_list *tags = &p->ctx->options->tags;
    for (size_t i = 0; i < tags->count; i++) {
        add_item(list, tags->items[i]);
    }
}

void peers_fill_hello(struct peers *p, enum peers_lane lane, struct peer_hello *h)
{
    const struct node_context *ctx = p->ctx;
    const struct node_options *o = ctx->options;
    h->lane = (uint8_t)lane;
    h->is_jetstream = o->has_jetstream;
    memcpy(h->uuid, ctx->uuid, 16);
    memcpy(h->cluster_uuid, p->cluster_uuid, 16);
    h->incarnation = p->incarnation;
    h->boot_count = ctx->boot_count;
    h->start_lsn = peers_health(p).start_lsn;
    h->machine_version_max = ENTRY_MACHINE_VERSION;
    h->meta_version_max = META_MACHINE_VERSION;
    h->cluster_name = slice_str(ctx->cluster_name);
    h->server_name = slice_str(ctx->server_name);
    h->server_id = slice_str(ctx->server_id);
    h->version = slice_str(NODE_VERSION);
    h->cluster_url = slice_str(p->cluster_url);
    peers_fill_client_urls(p, &h->client_urls);
    peers_fill_tags(p, &h->tags);
    LIST_FOR(it, &p->routes)
    {
        const struct peers_route_entry *r = container_of(it, struct peers_route_entry, link);
        if (r->is_configured) {
            add_item(&h->routes, r->url);
        }
    }
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        if (peer->info.is_up) {
            add_item(&h->known, peer->address);
        }
    }
}

static const char *refuse(struct peer_conn *c, const struct peer_hello *h)
{
    struct peers *p = c->peers;
    const char *own_name = p->ctx->cluster_name;
    if (own_name[0] != '\0' && h->cluster_name.len != 0 &&
        !slice_eq_str(h->cluster_name, own_name)) {
        log_err("%s:%u - rid:%llu - Rejecting connection, cluster name \"%.*s\" does not match "
                "\"%s\"",
                c->ip, c->port, (unsigned long long)c->rid, SLICE_ARG(h->cluster_name), own_name);
        return "Rejecting connection, cluster name does not match";
    }
    if (!is_zero(h->cluster_uuid) && !is_zero(p->cluster_uuid) &&
        memcmp(h->cluster_uuid, p->cluster_uuid, 16) != 0) {
        char ours[33], theirs[33];
        format_uuid(p->cluster_uuid, ours);
        format_uuid(h->cluster_uuid, theirs);
        log_err("%s:%u - rid:%llu - Rejecting connection, cluster uuid %s is not ours, %s", c->ip,
                c->port, (unsigned long long)c->rid, theirs, ours);
        return "Rejecting connection, it belongs to another cluster; if that one was recovered "
               "(weir recover) without this node, this node's store is of the past and has to go "
               "before it can join";
    }
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        if (peer->info.is_up && peer->node_id != id_of(h->uuid) &&
            slice_eq_str(h->server_name, peer->info.name)) {
            log_err("%s:%u - rid:%llu - Rejecting connection, duplicate server name \"%s\"", c->ip,
                    c->port, (unsigned long long)c->rid, peer->info.name);
            return "Duplicate Server Name";
        }
    }
    if (slice_eq_str(h->server_name, p->ctx->server_name)) {
        log_err("%s:%u - rid:%llu - Rejecting connection, duplicate server name \"%s\"", c->ip,
                c->port, (unsigned long long)c->rid, p->ctx->server_name);
        return "Duplicate Server Name";
    }
    return NULL;
}

/* Where a node is dialled: as it was reached, else as it says. */
static void set_address(struct peer *peer, const struct peer_conn *c, const struct peer_hello *h)
{
    if (c->is_dialler) {
        snprintf(peer->address, sizeof peer->address, "%s", c->url);
        return;
    }
    if (h->cluster_url.len > 1 && h->cluster_url.ptr[0] == ':') {
        bool is_v6 = strchr(c->ip, ':') != NULL;
        snprintf(peer->address, sizeof peer->address, "%s%s%s%.*s", is_v6 ? "[" : "", c->ip,
                 is_v6 ? "]" : "", SLICE_ARG(h->cluster_url));
    } else {
        snprintf(peer->address, sizeof peer->address, "%.*s", SLICE_ARG(h->cluster_url));
    }
}

static struct peer *get_peer(struct peers *p, uint64_t node_id)
{
    struct peer *peer = peers_find(p, node_id);
    if (peer == NULL && HASH_COUNT(p->table) < PEERS_MAX * 4) {
        peer = xcalloc(1, sizeof *peer);
        peer->peers = p;
        peer->node_id = node_id;
        HASH_ADD(hh, p->table, node_id, sizeof node_id, peer);
    }
    return peer;
}

const char *peers_check_hello(struct peer_conn *c, const struct peer_hello *h)
{
    struct peers *p = c->peers;
    uint64_t node_id = id_of(h->uuid);
    if (c->route != NULL) {
        c->route->node_id = node_id;
        c->route->is_self = node_id == p->ctx->node_id;
        c->route->error[0] = '\0';
    }
    if (node_id == p->ctx->node_id || node_id == 0) {
        return "self-route";
    }
    return refuse(c, h);
}

bool peers_decides(const struct peer_conn *c, const struct peer_hello *h)
{
    return c->peers->ctx->node_id < id_of(h->uuid);
}

static void send_begin(struct peer_conn *c)
{
    struct buf *out = peer_conn_out(c);
    peer_frame_end(out, peer_frame_begin(out, PEER_FRAME_BEGIN));
}

const char *peers_bind(struct peer_conn *c, const struct peer_hello *h)
{
    struct peers *p = c->peers;
    struct peer *peer = get_peer(p, id_of(h->uuid));
    if (peer == NULL) {
        return "too many nodes";
    }
    struct peer_conn *old = peer->lanes[c->lane];
    bool is_decider = peers_decides(c, h);
    if (old != NULL && is_decider && old->incarnation == c->incarnation) {
        return PEERS_DUPLICATE;
    }
    if (peer->incarnation != 0 && peer->incarnation != h->incarnation && peer->info.is_up) {
        peers_mark_down(peer, "restarted");
        old = NULL;
    }
    if (old != NULL) {
        peer_conn_close(old, PEERS_DUPLICATE); /* Of an older start, or closed over there. */
    }
    if (is_decider) {
        send_begin(c);
    }
    set_address(peer, c, h);
    fill_info(peer, h);
    peer->incarnation = h->incarnation;
    c->peer = peer;
    c->is_bound = true;
    peer->lanes[c->lane] = c;
    peer->failures = 0;
    if (c->lane == PEERS_LANE_CLIENT) {
        peers_interest_new_peer(peer);
    }
    if (c->lane == PEERS_LANE_RAFT) {
        peer->heard_ms = loop_now_ms(p->ctx->loop);
        p->heartbeat_ms = 0; /* The first is what makes us up there. */
    }
    peers_tell_renewed(peer, c->lane);
    /* The node that dialled first dials the rest; the other helps only when that takes long. */
    peer->next_ms = loop_now_ms(p->ctx->loop) + (c->is_dialler ? 0 : 300);
    for (uint32_t i = 0; i < h->known.count; i++) {
        char url[PEERS_URL_BYTES_MAX];
        snprintf(url, sizeof url, "%.*s", SLICE_ARG(h->known.items[i]));
        peers_add_route(p, url, false);
    }
    peers_dial_due(p);
    return NULL;
}
