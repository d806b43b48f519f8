/* One connection between nodes, and the listener.
 *
 * Dialler: RESOLVING, CONNECTING, HELLO (magic, AUTH and HELLO sent), BOUND.
 * Listener's side: AUTH, HELLO, BOUND. Before BOUND is BEGIN, until the other side has said so, on
 * the node with the higher node_id. Whoever takes longer than PEERS_HANDSHAKE_MS is closed.
 * Frames gather in `out`; at the end of the turn it is swapped with `inflight` and written. */
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <uv.h>

#include "cluster/auth.h"
#include "cluster/peers_internal.h"
#include "cluster/uv_address.h"
#include "storage/base/err.h"
#include "storage/base/log.h"

#define READ_BYTES 65536
#define BUF_KEEP_BYTES (4u << 20)
#define USER_TIMEOUT_MS 5000
#define WRONG_PORT "-ERR 'attempted to connect to route port'\r\n"

enum conn_state {
    CONN_RESOLVING,
    CONN_CONNECTING,
    CONN_AUTH,
    CONN_HELLO,
    CONN_BEGIN,
    CONN_BOUND,
    CONN_CLOSING
};

struct uv_conn {
    struct peer_conn base;
    enum conn_state state;
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    uv_write_t write;
    unsigned handles_open;
    bool is_resolving;
    bool is_late; /* While CONNECTING. */
    bool is_magic_seen;
    bool is_frame_partial;
    struct buf hello; /* While BEGIN: the other side's. */
    struct buf in;
    struct buf out;
    struct buf inflight;
    bool is_writing;
    char *user, *pass;
};

struct uv_peers {
    struct peers *peers;
    uv_tcp_t listener;
};

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf);
static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret_buf);

static struct uv_conn *conn_of(struct peer_conn *c)
{
    return container_of(c, struct uv_conn, base);
}

static void conn_free(struct uv_conn *c)
{
    buf_close(&c->hello);
    buf_close(&c->in);
    buf_close(&c->out);
    buf_close(&c->inflight);
    free(c->user);
    free(c->pass);
    free(c);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct uv_conn *c = h->data;
    if (--c->handles_open == 0 && !c->is_resolving) {
        list_remove(&c->base.link);
        peers_on_closed(&c->base);
        conn_free(c);
    }
}

static void close_handles(struct uv_conn *c)
{
    if (c->state == CONN_CLOSING) {
        return;
    }
    c->state = CONN_CLOSING;
    c->base.is_closing = true;
    if (c->is_resolving) {
        uv_cancel((uv_req_t *)&c->resolve);
    }
    uv_close((uv_handle_t *)&c->tcp, on_handle_closed);
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
}

void peer_conn_close(struct peer_conn *base, const char *why)
{
    struct uv_conn *c = conn_of(base);
    if (c->state == CONN_CLOSING) {
        return;
    }
    if (why != NULL && c->state >= CONN_HELLO) {
        size_t at = peer_frame_begin(&c->out, PEER_FRAME_CLOSE);
        peer_frame_string(&c->out, slice_str(why));
        peer_frame_end(&c->out, at);
        uv_buf_t iovec = uv_buf_init((char *)c->out.ptr, (unsigned)c->out.len);
        if (!c->is_writing) {
            uv_try_write((uv_stream_t *)&c->tcp, &iovec, 1); /* A courtesy. */
        }
    }
    close_handles(c);
}

static void on_handshake_late(uv_timer_t *t)
{
    struct uv_conn *c = t->data;
    if (c->state == CONN_AUTH) {
        uv_buf_t iovec = uv_buf_init(WRONG_PORT, sizeof WRONG_PORT - 1);
        uv_try_write((uv_stream_t *)&c->tcp, &iovec, 1);
    }
    c->base.error = "handshake timed out";
    close_handles(c);
}

/* Timers run before sockets are looked at: after a stall of ours the answer may be there. */
static void on_connect_late(uv_timer_t *t)
{
    struct uv_conn *c = t->data;
    if (!c->is_late) {
        c->is_late = true;
        uv_timer_start(t, on_connect_late, PEERS_TICK_MS, 0);
        return;
    }
    c->base.error = "no answer to the connection";
    close_handles(c);
}

static struct uv_conn *conn_new(struct peers *p)
{
    struct uv_conn *c = xcalloc(1, sizeof *c);
    uv_loop_t *uv = loop_uv(p->ctx->loop);
    c->base.peers = p;
    c->base.rid = ++p->rid_last;
    c->base.start_ns = c->base.last_ns = loop_clock_ns(p->ctx->loop);
    uv_tcp_init(uv, &c->tcp);
    uv_timer_init(uv, &c->timer);
    c->tcp.data = c;
    c->timer.data = c;
    c->handles_open = 2;
    list_init(&c->base.link);
    list_push_back(&p->conns, &c->base.link);
    uv_timer_start(&c->timer, on_handshake_late, PEERS_HANDSHAKE_MS, 0);
    return c;
}

static void set_up_socket(struct uv_conn *c)
{
    struct sockaddr_storage addr;
    int len = sizeof addr;
    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&addr, &len) == 0) {
        if (addr.ss_family == AF_INET) {
            uv_ip4_name((struct sockaddr_in *)&addr, c->base.ip, sizeof c->base.ip);
            c->base.port = ntohs(((struct sockaddr_in *)&addr)->sin_port);
        } else {
            uv_ip6_name((struct sockaddr_in6 *)&addr, c->base.ip, sizeof c->base.ip);
            c->base.port = ntohs(((struct sockaddr_in6 *)&addr)->sin6_port);
        }
    }
    uv_tcp_nodelay(&c->tcp, 1);
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&c->tcp, &fd) == 0) {
        unsigned timeout_ms = USER_TIMEOUT_MS;
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    }
}

/* ---- Output ---- */

struct buf *peer_conn_out(struct peer_conn *base)
{
    return &conn_of(base)->out;
}

size_t peer_conn_queued(const struct peer_conn *base)
{
    const struct uv_conn *c = container_of(base, struct uv_conn, base);
    return c->out.len + c->inflight.len;
}

static void flush(struct uv_conn *c);

static void on_written(uv_write_t *w, int status)
{
    struct uv_conn *c = container_of(w, struct uv_conn, write);
    c->is_writing = false;
    buf_clear(&c->inflight);
    if (c->state == CONN_CLOSING) {
        return;
    }
    if (status != 0) {
        c->base.error = uv_strerror(status);
        close_handles(c);
        return;
    }
    if (c->inflight.cap > BUF_KEEP_BYTES) {
        buf_close(&c->inflight);
    }
    flush(c);
    peers_on_drained(&c->base);
}

static void flush(struct uv_conn *c)
{
    if (c->is_writing || c->out.len == 0 || c->state < CONN_HELLO || c->state == CONN_CLOSING) {
        return;
    }
    assert(c->inflight.len == 0);
    struct buf spare = c->inflight;
    c->inflight = c->out;
    c->out = spare;
    uv_buf_t iovec = uv_buf_init((char *)c->inflight.ptr, (unsigned)c->inflight.len);
    int n = uv_try_write((uv_stream_t *)&c->tcp, &iovec, 1);
    if (n == (int)c->inflight.len) {
        buf_clear(&c->inflight);
        if (c->inflight.cap > BUF_KEEP_BYTES) {
            buf_close(&c->inflight);
        }
        return;
    }
    if (n < 0 && n != UV_EAGAIN) {
        c->base.error = uv_strerror(n);
        close_handles(c);
        return;
    }
    size_t done = n > 0 ? (size_t)n : 0;
    iovec = uv_buf_init((char *)c->inflight.ptr + done, (unsigned)(c->inflight.len - done));
    if (uv_write(&c->write, (uv_stream_t *)&c->tcp, &iovec, 1, on_written) != 0) {
        close_handles(c);
        return;
    }
    c->is_writing = true;
}

void peer_conn_out_done(struct peer_conn *base)
{
    struct uv_conn *c = conn_of(base);
    /* Much output within a turn: begin to write it now. */
    if (c->out.len > 1u << 20) {
        flush(c);
    }
}

void uv_peers_flush(struct uv_peers *u)
{
    LIST_FOR_SAFE(it, tmp, &u->peers->conns)
    {
        flush(container_of(it, struct uv_conn, base.link));
    }
}

/* ---- Input ---- */

static void send_hello(struct uv_conn *c)
{
    struct peer_hello *h = xcalloc(1, sizeof *h);
    peers_fill_hello(c->base.peers, c->base.lane, h);
    size_t at = peer_frame_begin(&c->out, PEER_FRAME_HELLO);
    peer_frame_hello(&c->out, h);
    peer_frame_end(&c->out, at);
    free(h);
}

static bool is_authorized(struct uv_conn *c, struct slice body)
{
    const struct node_options *o = c->base.peers->ctx->options;
    struct reader r = reader_of(body);
    char *user = xslicedup(peer_frame_read_string(&r));
    char *pass = xslicedup(peer_frame_read_string(&r));
    bool is_user = o->cluster_user == NULL || auth_is_equal(o->cluster_user, user);
    bool is_pass = o->cluster_user == NULL ||
                   auth_is_equal(o->cluster_pass == NULL ? "" : o->cluster_pass, pass);
    free(user);
    free(pass);
    return !r.failed && is_user && is_pass;
}

/* @why is NULL when all is well. */
static int go_on(struct uv_conn *c, const char *why)
{
    if (why != NULL) {
        c->base.error = why;
        peer_conn_close(&c->base, why);
    }
    return 0;
}

static int bind_conn(struct uv_conn *c, const struct peer_hello *h)
{
    c->state = CONN_BOUND;
    const char *why = peers_bind(&c->base, h);
    if (why == NULL) {
        uv_timer_stop(&c->timer);
    }
    return go_on(c, why);
}

static int take_hello(struct uv_conn *c, struct slice body)
{
    struct peer_hello *h = xcalloc(1, sizeof *h);
    int rv = peer_frame_read_hello(body, h);
    if (rv != 0) {
        free(h);
        return rv;
    }
    if (!c->base.is_dialler) {
        c->base.lane = h->lane;
        send_hello(c);
        flush(c);
    }
    c->base.incarnation = h->incarnation;
    const char *why = peers_check_hello(&c->base, h);
    if (why != NULL) {
        rv = go_on(c, why);
    } else if (peers_decides(&c->base, h)) {
        rv = bind_conn(c, h);
    } else {
        c->state = CONN_BEGIN;
        buf_append_slice(&c->hello, body);
    }
    free(h);
    return rv;
}

static int take_begin(struct uv_conn *c)
{
    struct peer_hello *h = xcalloc(1, sizeof *h);
    int rv = peer_frame_read_hello(buf_slice(&c->hello), h);
    assert(rv == 0); /* As it was when it came. */
    /* Again: another node of that name may have come since. */
    const char *why = peers_check_hello(&c->base, h);
    rv = why != NULL ? go_on(c, why) : bind_conn(c, h);
    free(h);
    buf_close(&c->hello);
    return rv;
}

static int take_close_early(struct uv_conn *c, struct slice body)
{
    struct reader r = reader_of(body);
    struct slice why = peer_frame_read_string(&r);
    bool is_duplicate = slice_eq_str(why, PEERS_DUPLICATE);
    if (!is_duplicate) {
        log_wrn("%s:%u - rid:%llu - Route refused: %.*s", c->base.ip, c->base.port,
                (unsigned long long)c->base.rid, SLICE_ARG(why));
    }
    c->base.error = is_duplicate ? PEERS_DUPLICATE : "refused by the other side";
    close_handles(c);
    return 0;
}

static int take_frame(struct uv_conn *c, uint8_t type, struct slice body)
{
    switch (c->state) {
    case CONN_AUTH:
        if (type != PEER_FRAME_AUTH) {
            return ERR_PROTO;
        }
        if (!is_authorized(c, body)) {
            log_err("%s:%u - rid:%llu - authentication error", c->base.ip, c->base.port,
                    (unsigned long long)c->base.rid);
            c->state = CONN_HELLO;
            peer_conn_close(&c->base, "Authorization Violation");
            return 0;
        }
        c->state = CONN_HELLO;
        return 0;
    case CONN_HELLO:
        if (type == PEER_FRAME_CLOSE) {
            return take_close_early(c, body);
        }
        return type == PEER_FRAME_HELLO ? take_hello(c, body) : ERR_PROTO;
    case CONN_BEGIN:
        if (type == PEER_FRAME_CLOSE) {
            return take_close_early(c, body);
        }
        return type == PEER_FRAME_BEGIN ? take_begin(c) : ERR_PROTO;
    default:
        return peers_on_frame(&c->base, type, body);
    }
}

static uint32_t body_bytes_max(const struct uv_conn *c)
{
    if (c->state == CONN_AUTH) {
        return PEER_FRAME_AUTH_BYTES_MAX;
    }
    if (c->state == CONN_HELLO || c->state == CONN_BEGIN) {
        return PEER_FRAME_HELLO_BYTES_MAX;
    }
    return c->base.lane == PEERS_LANE_CLIENT ? PEERS_FRAME_BYTES_MAX : PEERS_RAFT_FRAME_BYTES_MAX;
}

/* Returns 0, or ERR_PROTO when the connection cannot go on. */
static int take_input(struct uv_conn *c)
{
    size_t used = 0;
    if (c->state == CONN_AUTH && !c->is_magic_seen) {
        size_t n = c->in.len < PEER_FRAME_MAGIC_BYTES ? c->in.len : PEER_FRAME_MAGIC_BYTES;
        if (memcmp(c->in.ptr, PEER_FRAME_MAGIC, n) != 0) {
            uv_buf_t iovec = uv_buf_init(WRONG_PORT, sizeof WRONG_PORT - 1);
            uv_try_write((uv_stream_t *)&c->tcp, &iovec, 1);
            return ERR_PROTO;
        }
        if (n < PEER_FRAME_MAGIC_BYTES) {
            return 0;
        }
        c->is_magic_seen = true;
        used = PEER_FRAME_MAGIC_BYTES;
    }
    int rv = 0;
    while (rv == 0 && c->state != CONN_CLOSING && c->in.len - used >= PEER_FRAME_HEAD_BYTES) {
        const uint8_t *at = c->in.ptr + used;
        struct peer_frame_head head = peer_frame_head(at);
        if (head.body_bytes > body_bytes_max(c) || head.version != PEER_FRAME_VERSION) {
            rv = ERR_PROTO;
            break;
        }
        size_t whole = PEER_FRAME_HEAD_BYTES + (size_t)head.body_bytes;
        if (c->in.len - used < whole) {
            break;
        }
        if (!peer_frame_is_intact(at, head.body_bytes)) {
            rv = ERR_PROTO;
            break;
        }
        rv = take_frame(c, head.type, slice_of(at + PEER_FRAME_HEAD_BYTES, head.body_bytes));
        used += whole;
    }
    buf_consume(&c->in, used);
    return rv;
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret_buf)
{
    (void)suggested;
    struct uv_conn *c = h->data;
    size_t room = READ_BYTES;
    if (c->in.len >= PEER_FRAME_HEAD_BYTES && c->state != CONN_AUTH) {
        size_t whole = PEER_FRAME_HEAD_BYTES + (size_t)peer_frame_head(c->in.ptr).body_bytes;
        room = whole > c->in.len + room ? whole - c->in.len : room; /* Checked by take_input. */
    }
    uint8_t *at = buf_reserve(&c->in, room);
    *ret_buf = uv_buf_init((char *)at, (unsigned)(c->in.cap - c->in.len));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    struct uv_conn *c = s->data;
    if (c->state == CONN_CLOSING || n == 0) {
        return;
    }
    if (n < 0) {
        c->base.error = n == UV_EOF ? "closed by the other side" : uv_strerror((int)n);
        close_handles(c);
        return;
    }
    c->in.len += (size_t)n;
    struct loop *loop = c->base.peers->ctx->loop;
    c->base.last_ns = loop_clock_ns(loop);
    struct watchdog_at was = loop_enter(loop, WATCHDOG_PEERS, 0);
    int rv = take_input(c);
    loop_leave(loop, was);
    if (rv != 0) {
        log_err("%s:%u - rid:%llu - Route protocol error, closed", c->base.ip, c->base.port,
                (unsigned long long)c->base.rid);
        c->base.error = "protocol error";
        close_handles(c);
        return;
    }
    if (c->in.len == 0 && c->in.cap > BUF_KEEP_BYTES) {
        buf_close(&c->in);
    }
}

/* ---- Dialling ---- */

static void on_connected(uv_connect_t *req, int status)
{
    struct uv_conn *c = container_of(req, struct uv_conn, connect);
    if (c->state == CONN_CLOSING) {
        return;
    }
    if (status != 0) {
        c->base.is_refused = status == UV_ECONNREFUSED;
        c->base.error = uv_strerror(status);
        close_handles(c);
        return;
    }
    uv_timer_start(&c->timer, on_handshake_late, PEERS_HANDSHAKE_MS, 0);
    set_up_socket(c);
    c->state = CONN_HELLO;
    buf_append_str(&c->out, PEER_FRAME_MAGIC);
    size_t at = peer_frame_begin(&c->out, PEER_FRAME_AUTH);
    peer_frame_string(&c->out, slice_str(c->user == NULL ? "" : c->user));
    peer_frame_string(&c->out, slice_str(c->pass == NULL ? "" : c->pass));
    peer_frame_end(&c->out, at);
    send_hello(c);
    uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    flush(c);
}

static void connect_to(struct uv_conn *c, const struct sockaddr *address)
{
    c->state = CONN_CONNECTING;
    int rv = uv_tcp_connect(&c->connect, &c->tcp, address, on_connected);
    if (rv != 0) {
        c->base.error = uv_strerror(rv);
        close_handles(c);
        return;
    }
    uv_timer_start(&c->timer, on_connect_late, PEERS_CONNECT_MS, 0);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct uv_conn *c = container_of(req, struct uv_conn, resolve);
    c->is_resolving = false;
    if (c->state == CONN_CLOSING) {
        uv_freeaddrinfo(found);
        if (c->handles_open == 0) { /* The handles closed first. */
            list_remove(&c->base.link);
            peers_on_closed(&c->base);
            conn_free(c);
        }
        return;
    }
    unsigned count = 0;
    for (struct addrinfo *it = found; status == 0 && it != NULL; it = it->ai_next) {
        count++;
    }
    if (count == 0) {
        c->base.error = status != 0 ? uv_strerror(status) : "no address";
        uv_freeaddrinfo(found);
        close_handles(c);
        return;
    }
    struct addrinfo *pick = found; /* Any of them: a pod may have moved. */
    for (uint64_t skip = node_random() % count; skip > 0; skip--) {
        pick = pick->ai_next;
    }
    connect_to(c, pick->ai_addr);
    uv_freeaddrinfo(found);
}

struct peer_conn *peer_conn_dial(struct peers *p, const char *url, enum peers_lane lane,
                                 const char *user, const char *pass)
{
    struct uv_conn *c = conn_new(p);
    c->base.is_dialler = true;
    c->base.lane = lane;
    snprintf(c->base.url, sizeof c->base.url, "%s", url);
    c->user = user == NULL ? NULL : xstrndup(user, strlen(user));
    c->pass = pass == NULL ? NULL : xstrndup(pass, strlen(pass));
    char host[PEERS_URL_BYTES_MAX];
    const char *colon = strrchr(url, ':');
    const char *begin = url[0] == '[' ? url + 1 : url;
    size_t len = colon == NULL ? strlen(begin) : (size_t)(colon - begin);
    snprintf(host, sizeof host, "%.*s", (int)(url[0] == '[' && len > 0 ? len - 1 : len), begin);
    /* A literal address needs no thread: a dead neighbour is known within the turn. */
    struct sockaddr_in literal;
    if (uv_ip4_addr(host, colon == NULL ? 0 : atoi(colon + 1), &literal) == 0) {
        connect_to(c, (struct sockaddr *)&literal);
        return &c->base;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    c->is_resolving = true;
    int rv = uv_getaddrinfo(loop_uv(p->ctx->loop), &c->resolve, on_resolved, host,
                            colon == NULL ? "0" : colon + 1, &hints);
    if (rv != 0) {
        c->is_resolving = false;
        c->base.error = uv_strerror(rv);
        close_handles(c);
    }
    return &c->base;
}

/* ---- Listening ---- */

static void on_connection(uv_stream_t *s, int status)
{
    struct uv_peers *u = s->data;
    if (status != 0) {
        return;
    }
    struct uv_conn *c = conn_new(u->peers);
    c->state = CONN_AUTH;
    if (uv_accept(s, (uv_stream_t *)&c->tcp) != 0) {
        close_handles(c);
        return;
    }
    set_up_socket(c);
    uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
}

struct uv_peers *uv_peers_new(struct peers *p)
{
    struct uv_peers *u = xcalloc(1, sizeof *u);
    u->peers = p;
    return u;
}

void uv_peers_free(struct uv_peers *u)
{
    free(u);
}

int uv_peers_listen(struct uv_peers *u)
{
    struct node_context *ctx = u->peers->ctx;
    return uv_address_listen(loop_uv(ctx->loop), &u->listener, ctx->options->cluster_host,
                             ctx->options->cluster_port < 0 ? 0 : ctx->options->cluster_port, 128,
                             on_connection, u, &ctx->cluster_port);
}

void uv_peers_close_listener(struct uv_peers *u)
{
    uv_close((uv_handle_t *)&u->listener, NULL);
}
