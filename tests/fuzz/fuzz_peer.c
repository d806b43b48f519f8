/* Connections between nodes, from the magic on: authorization, HELLO, and every frame a node may
 * send, with right checksums around anything, cut anywhere, on any number of connections, dialled
 * or accepted, of nodes that claim to be anybody. What reaches the clients of this node fits on a
 * line of their protocol.
 *
 * uv_peer.c is compiled in here, over a libuv without sockets. */
#include "tests/fuzz/fake_node.h"
#include "tests/fuzz/fake_uv.h"

#include "cluster/uv_peer.c"

#define CONNS_MAX 12u
#define STEPS_MAX 128u

struct world {
    struct node_context ctx;
    struct node_options options;
    struct peers *peers;
    struct router_internal *sub;
    struct router_internal *other;
};

static bool is_word(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == ' ' || s.ptr[i] == '\t' || s.ptr[i] == '\r' || s.ptr[i] == '\n') {
            return false;
        }
    }
    return true;
}

static void on_message(void *arg, const struct router_msg *msg, const struct router_origin *origin)
{
    (void)arg;
    if (origin->kind == ROUTER_FROM_PEER) {
        require(msg->subject.len > 0 && is_word(msg->subject) && is_word(msg->reply));
    }
}

static int on_frame(void *ctx, uint64_t node_id, enum peers_lane lane, struct slice frame)
{
    struct world *w = ctx;
    require(peers_find(w->peers, node_id) != NULL && lane != PEERS_LANE_CLIENT);
    return frame.len > 0 && frame.ptr[0] == 'x' ? ERR_PROTO : 0;
}

static int on_type(void *ctx, uint64_t node_id, struct slice body)
{
    return on_frame(ctx, node_id, PEERS_LANE_RAFT, body);
}

static void on_node(void *ctx, uint64_t node_id)
{
    struct world *w = ctx;
    struct peers_info info;
    require(peers_get(w->peers, node_id, &info) && info.node_id == node_id);
    require(info.name != NULL && info.cluster_url != NULL);
}

static void on_renewed(void *ctx, uint64_t node_id, enum peers_lane lane)
{
    (void)lane;
    on_node(ctx, node_id);
}

static void on_paused(void *ctx, uint64_t node_id, bool is_paused)
{
    (void)is_paused;
    on_node(ctx, node_id);
}

/* ---- Bodies ---- */

static struct slice name_of(struct reader *r)
{
    static const char *const names[] = {"a.b", "a.*",           ">",    "q",           "",
                                        "a b", "a\r\nb",        "a..b", "127.0.0.1:5", "host:6",
                                        ":7",  "nats://u:p@h:8"};
    uint8_t b = reader_u8(r);
    return b >= 240 ? script_bytes(r) : slice_str(names[b % (sizeof names / sizeof(char *))]);
}

static void fill_list(struct reader *r, struct peer_list *list)
{
    uint8_t count = reader_u8(r) % 4;
    for (list->count = 0; list->count < count; list->count++) {
        list->items[list->count] = name_of(r);
    }
}

static void put_hello(struct reader *r, struct buf *out)
{
    struct peer_hello *h = xcalloc(1, sizeof *h);
    uint8_t how = reader_u8(r);
    h->uuid[0] = reader_u8(r) % 4; /* 0 and 2, which is our own, are refused; 1 says BEGIN. */
    h->lane = how % 4;
    h->is_jetstream = (how & 4) != 0;
    h->cluster_uuid[0] = (how & 0x18) == 0x18;
    h->incarnation = 1 + (how >> 6);
    h->cluster_name = (how & 0x20) != 0 ? name_of(r) : SLICE_LIT("C");
    h->server_name = name_of(r);
    h->server_id = SLICE_LIT("ID");
    h->version = SLICE_LIT("1");
    h->cluster_url = name_of(r);
    fill_list(r, &h->client_urls);
    fill_list(r, &h->routes);
    fill_list(r, &h->known);
    h->meta_version_max = 1 + how % 3;
    fill_list(r, &h->tags);
    peer_frame_hello(out, h);
    free(h);
}

static void put_body(struct reader *r, uint8_t type, struct buf *out)
{
    switch (type) {
    case PEER_FRAME_AUTH:
        peer_frame_string(out, SLICE_LIT("u"));
        peer_frame_string(out, reader_u8(r) % 8 == 7 ? name_of(r) : SLICE_LIT("p"));
        break;
    case PEER_FRAME_HELLO:
        put_hello(r, out);
        break;
    case PEER_FRAME_CLOSE:
    case PEER_FRAME_GOSSIP:
        peer_frame_string(out, name_of(r));
        break;
    case PEER_FRAME_UPDATE: {
        struct peer_update *u = xcalloc(1, sizeof *u);
        u->cluster_uuid[0] = reader_u8(r);
        fill_list(r, &u->client_urls);
        peer_frame_update(out, u);
        free(u);
        break;
    }
    case PEER_FRAME_INTEREST:
        peer_frame_string(out, SLICE_LIT("$G"));
        peer_frame_string(out, name_of(r));
        peer_frame_string(out, reader_u8(r) % 2 == 0 ? SLICE_EMPTY : name_of(r));
        buf_append_varint(out, script_number(r));
        break;
    case PEER_FRAME_DELIVER:
        peer_frame_string(out, name_of(r));
        /* fall through */
    case PEER_FRAME_MSG: {
        struct slice queues[4];
        uint32_t count = reader_u8(r) % 4;
        struct router_msg msg = {.subject = name_of(r), .reply = name_of(r)};
        for (uint32_t i = 0; i < count; i++) {
            queues[i] = name_of(r);
        }
        msg.header = script_bytes(r);
        msg.payload = script_bytes(r);
        peer_frame_msg(out, &msg, queues, count);
        break;
    }
    case PEER_FRAME_HEARTBEAT: {
        struct peer_heartbeat h = {.turns = script_number(r),
                                   .clock_ns = (int64_t)script_number(r),
                                   .durable_lsn = script_number(r)};
        peer_frame_heartbeat(out, &h);
        break;
    }
    default:
        buf_append_slice(out, script_bytes(r));
        break;
    }
}

/* A frame with a right checksum around a body that is, or is nearly, of its type. */
static void put_frame(struct reader *r, struct buf *out, uint8_t type)
{
    uint8_t how = reader_u8(r);
    size_t at = peer_frame_begin(out, type);
    if (how % 16 == 15) {
        buf_append_slice(out, script_bytes(r));
    } else {
        put_body(r, type, out);
    }
    if (how % 16 == 14) {
        out->len -= reader_u8(r) % (out->len - at - PEER_FRAME_HEAD_BYTES + 1);
    } else if (how % 16 == 13) {
        out->ptr[at + PEER_FRAME_HEAD_BYTES - 1] ^= 1;
    }
    peer_frame_end(out, at);
    if (how % 16 == 12) {
        uint64_t n = script_number(r);
        memcpy(out->ptr + at + reader_u8(r) % PEER_FRAME_HEAD_BYTES, &n, 1);
    }
}

/* ---- Steps ---- */

static struct uv_conn *pick(struct world *w, unsigned n)
{
    unsigned count = 0;
    struct uv_conn *found = NULL;
    LIST_FOR(it, &w->peers->conns)
    {
        struct uv_conn *c = container_of(it, struct uv_conn, base.link);
        bool is_open =
            c->state != CONN_CLOSING && c->state != CONN_CONNECTING && c->state != CONN_RESOLVING;
        if (is_open && (found == NULL || count <= n)) {
            found = c;
            count++;
        }
    }
    return found;
}

static void feed(struct uv_conn *c, struct slice bytes, size_t cut)
{
    uv_stream_t *s = (uv_stream_t *)&c->tcp;
    cut = cut < bytes.len ? cut : bytes.len;
    if (fake_feed(s, slice_of(bytes.ptr, cut))) {
        (void)fake_feed(s, slice_from(bytes, cut));
    }
}

static void send_to(struct world *w, struct reader *r, unsigned which, struct buf *bytes)
{
    struct uv_conn *c = pick(w, which);
    if (c != NULL) {
        feed(c, buf_slice(bytes), reader_u8(r) % 64 == 63 ? reader_u8(r) : SIZE_MAX);
    }
}

/* A new connection, as far as HELLO. */
static void step_accept(struct world *w, struct reader *r)
{
    unsigned count = 0;
    LIST_FOR(it, &w->peers->conns)
    {
        count++;
    }
    if (count >= CONNS_MAX) {
        return;
    }
    on_connection((uv_stream_t *)&w->peers->uv->listener, 0);
    struct uv_conn *c = container_of(w->peers->conns.prev, struct uv_conn, base.link);
    uint8_t how = reader_u8(r);
    struct buf bytes = BUF_EMPTY;
    buf_append_str(&bytes, how % 32 == 31 ? "WEIRPEEX" : PEER_FRAME_MAGIC);
    if (how % 16 != 15) {
        put_frame(r, &bytes, PEER_FRAME_AUTH);
    }
    if (how % 8 != 7) {
        put_frame(r, &bytes, PEER_FRAME_HELLO);
    }
    if ((how & 0x20) != 0) {
        put_frame(r, &bytes, PEER_FRAME_BEGIN);
    }
    feed(c, buf_slice(&bytes), (how & 0x40) != 0 ? reader_u8(r) : SIZE_MAX);
    buf_close(&bytes);
}

static void step(struct world *w, struct reader *r)
{
    static const uint8_t types[] = {PEER_FRAME_MSG,
                                    PEER_FRAME_INTEREST,
                                    PEER_FRAME_GOSSIP,
                                    PEER_FRAME_UPDATE,
                                    PEER_FRAME_HEARTBEAT,
                                    PEER_FRAME_RAFT,
                                    PEER_FRAME_BULK,
                                    PEER_FRAME_USER,
                                    PEER_FRAME_CLOSE,
                                    PEER_FRAME_HELLO,
                                    PEER_FRAME_AUTH,
                                    PEER_FRAME_BEGIN,
                                    200,
                                    PEER_FRAME_DELIVER};
    uint8_t op = reader_u8(r);
    unsigned which = op >> 4;
    struct buf bytes = BUF_EMPTY;
    struct slice part = SLICE_LIT("part");
    switch (op % 16) {
    case 0:
    case 1:
        step_accept(w, r);
        break;
    case 2:
        buf_append_slice(&bytes, script_bytes(r));
        send_to(w, r, which, &bytes);
        break;
    case 3:
        fake_loop_turn(w->ctx.loop, reader_u8(r) * 10u);
        fake_turn(reader_u8(r) * 10u);
        break;
    case 4:
        if (fake.writes_count > 0) {
            fake_complete_write(which % fake.writes_count, which == 15 ? UV_EPIPE : 0);
        }
        fake.is_slow = which % 2 == 1;
        break;
    case 5: /* A dial ends: there, refused, or unknown. */
        if (fake.connects_count > 0) {
            fake_complete_connect(0, which == 15   ? UV_ECONNREFUSED
                                     : which == 14 ? UV_ETIMEDOUT
                                                   : 0);
        }
        if (fake.resolves_count > 0) {
            fake_complete_resolve(0, UV_EAI_NONAME);
        }
        break;
    case 6:
        if (pick(w, which) != NULL) {
            fake_end((uv_stream_t *)&pick(w, which)->tcp, UV_EOF);
        }
        break;
    case 7:
        (void)peers_send(w->peers, 1 + which % 2 * 2, which & 4 ? PEERS_LANE_RAFT : PEERS_LANE_BULK,
                         &part, 1);
        (void)peers_client_send(w->peers, 1 + which % 2 * 2, PEERS_TYPE_USER, &part, 1);
        (void)router_send(w->ctx.router, name_of(r), SLICE_EMPTY, SLICE_EMPTY, part);
        break;
    case 8:
        router_unsubscribe_internal(w->other);
        w->other = NULL;
        if (router_subscribe_internal(w->ctx.router, name_of(r), SLICE_EMPTY, true, on_message, w,
                                      &w->other) != 0) {
            w->other = NULL;
        }
        json_decref(peers_routez(w->peers, true, true));
        break;
    default: {
        uint8_t type = types[reader_u8(r) % sizeof types];
        put_frame(r, &bytes, type);
        if (op & 8) {
            put_frame(r, &bytes, types[reader_u8(r) % sizeof types]);
        }
        send_to(w, r, which, &bytes);
        break;
    }
    }
    buf_close(&bytes);
}

static void world_open(struct world *w)
{
    static const struct peers_liveness liveness = {
        .up = on_node, .down = on_node, .renewed = on_renewed};
    *w = (struct world){.ctx = {.cluster_name = "C", .server_name = "me", .node_id = 2}};
    fake_random_reset();
    memset(&fake, 0, sizeof fake);
    w->options = (struct node_options){.has_cluster = true,
                                       .cluster_user = (char *)"u",
                                       .cluster_pass = (char *)"p",
                                       .client_advertise = (char *)"h:1"};
    w->ctx.options = &w->options;
    w->ctx.uuid[0] = 1;
    w->ctx.loop = loop_new();
    w->ctx.router = router_new(1);
    w->peers = w->ctx.peers = peers_new(&w->ctx);
    peers_add_route(w->peers, "nats://a:b@127.0.0.1:6222", true);
    w->peers->uv->listener.data = w->peers->uv;
    loop_timer_start(w->peers->tick, 0, PEERS_TICK_MS);
    peers_set_frame_cb(w->peers, PEERS_LANE_RAFT, on_frame, w);
    peers_set_frame_cb(w->peers, PEERS_LANE_BULK, on_frame, w);
    peers_register(w->peers, PEERS_TYPE_USER, on_type, w);
    peers_add_liveness(w->peers, &liveness, w);
    peers_add_paused_cb(w->peers, on_paused, w);
    require(router_subscribe_internal(w->ctx.router, SLICE_LIT(">"), SLICE_EMPTY, true, on_message,
                                      w, &w->sub) == 0);
}

static void world_close(struct world *w)
{
    router_unsubscribe_internal(w->sub);
    router_unsubscribe_internal(w->other);
    peers_stop(w->peers);
    while (fake.resolves_count > 0 || fake.closes_count > 0) {
        while (fake.resolves_count > 0) {
            fake_complete_resolve(0, UV_ECANCELED);
        }
        fake_turn(0);
    }
    require(list_is_empty(&w->peers->conns));
    peers_free(w->peers);
    router_free(w->ctx.router);
    loop_free(w->ctx.loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(slice_of(data, size));
    struct world w;
    world_open(&w);
    for (unsigned i = 0; i < STEPS_MAX && !script_is_over(&r); i++) {
        step(&w, &r);
        if (fake.closes_count > FAKE_MAX / 4) {
            fake_turn(0);
        }
    }
    world_close(&w);
    return 0;
}
