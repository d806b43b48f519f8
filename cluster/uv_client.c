#include "cluster/uv_client.h"

#include <assert.h>
#include <stdlib.h>

#include "cluster/auth.h"
#include "storage/base/log.h"

static void on_handle_closed(uv_handle_t *h);

static void stop_reading(struct client *c)
{
    if (c->is_reading) {
        c->is_reading = false;
        uv_read_stop((uv_stream_t *)&c->tcp);
    }
}

void client_abort(struct client *c)
{
    if (c->state == CLIENT_CLOSING) {
        return;
    }
    assert(c->subs_count == 0);
    c->state = CLIENT_CLOSING;
    c->is_reading = false;
    list_remove(&c->dirty_link);
    uv_close((uv_handle_t *)&c->tcp, on_handle_closed);
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct client *c = h->data;
    if (--c->handles_open > 0) {
        return;
    }
    HASH_DEL(c->cs->by_cid, c);
    list_remove(&c->writing_link);
    client_out_close(c);
    buf_close(&c->tail);
    client_connect_close(&c->connect);
    free(c);
}

void client_doom(struct client *c, enum protocol_error why)
{
    if (c->state == CLIENT_LINGERING) {
        client_abort(c);
        return;
    }
    if (c->state != CLIENT_OPEN) {
        return;
    }
    c->state = CLIENT_DOOMED;
    c->doom = why;
    list_push_back(&c->cs->doomed, &c->doomed_link);
    stop_reading(c);
    loop_again(c->cs->ctx->loop);
}

/* ---- Reading ---- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret_buf)
{
    (void)suggested;
    struct client *c = h->data;
    size_t need = protocol_need(&c->parser);
    size_t tail = c->tail.len;
    if (tail <= CLIENT_TAIL_SHARED_MAX && need <= CLIENT_READ_BYTES) {
        /* The usual case: the tail moves to the front of the shared buffer. */
        if (tail > 0) {
            memcpy(c->cs->read_buf, c->tail.ptr, tail);
        }
        *ret_buf =
            uv_buf_init((char *)c->cs->read_buf + tail, (unsigned)(CLIENT_READ_BYTES - tail));
        return;
    }
    size_t room = need > tail ? need - tail : CLIENT_TAIL_SHARED_MAX;
    uint8_t *at = buf_reserve(&c->tail, room);
    *ret_buf = uv_buf_init((char *)at, (unsigned)(c->tail.cap - tail));
}

/* Parse the tail in place and drop what was used. */
static void parse_tail(struct client *c)
{
    c->is_in_parse = true;
    size_t used = client_parse(c, buf_slice(&c->tail));
    c->is_in_parse = false;
    buf_consume(&c->tail, used);
    if (c->tail.len == 0) {
        buf_close(&c->tail);
    }
}

static void take_input(struct client *c, const uv_buf_t *buf, size_t len)
{
    uint8_t *shared = c->cs->read_buf;
    uint8_t *base = (uint8_t *)buf->base;
    if (base < shared || base >= shared + CLIENT_READ_BYTES) {
        c->tail.len += len;
        parse_tail(c);
        return;
    }
    len += c->tail.len;
    c->is_in_parse = true;
    size_t used = client_parse(c, slice_of(shared, len));
    c->is_in_parse = false;
    if (used == len && c->tail.cap > CLIENT_TAIL_SHARED_MAX) {
        buf_close(&c->tail);
    } else {
        buf_clear(&c->tail);
        buf_append(&c->tail, shared + used, len - used);
    }
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct client *c = s->data;
    if (n == 0) {
        return;
    }
    if (c->state != CLIENT_OPEN) {
        if (n < 0) {
            client_abort(c);
        }
        return; /* Lingering: what comes is thrown away. */
    }
    if (n < 0) {
        client_doom(c, n == UV_EOF ? PROTOCOL_ERROR_CLIENT_CLOSED : PROTOCOL_ERROR_READ);
        return;
    }
    c->is_active = true;
    struct loop *loop = c->cs->ctx->loop;
    struct watchdog_at was = loop_enter(loop, WATCHDOG_CLIENTS, 0);
    take_input(c, buf, (size_t)n);
    loop_leave(loop, was);
}

static void start_reading(struct client *c)
{
    if (!c->is_reading && uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) == 0) {
        c->is_reading = true;
    }
}

void client_hold(struct client *c)
{
    c->holds++;
    stop_reading(c);
}

void client_unhold(struct client *c)
{
    assert(c->holds > 0);
    c->holds--;
    if (c->holds > 0 || c->state != CLIENT_OPEN || c->is_in_parse) {
        return;
    }
    parse_tail(c);
    if (c->holds == 0 && c->state == CLIENT_OPEN) {
        start_reading(c);
    }
}

void client_pause(struct client *c, uint64_t max_ms)
{
    uint64_t until_ms = loop_now_ms(c->cs->ctx->loop) + max_ms;
    if (c->paused_until_ms != 0) {
        c->paused_until_ms = until_ms > c->paused_until_ms ? until_ms : c->paused_until_ms;
        return;
    }
    c->paused_until_ms = until_ms;
    if (list_is_empty(&c->cs->paused)) {
        loop_timer_start(c->cs->paused_timer, 2, 2);
    }
    list_push_back(&c->cs->paused, &c->paused_link);
    client_hold(c);
}

void client_unpause(struct client *c)
{
    if (c->paused_until_ms != 0) {
        c->paused_until_ms = 0;
        list_remove(&c->paused_link);
        client_unhold(c);
    }
}

/* ---- Time: authentication, pings ---- */

static void send_ping(struct client *c)
{
    struct buf *out = client_out(c, 16);
    size_t before = out->len;
    protocol_write_ping(out);
    c->pings_out++;
    c->ping_sent_ns = uv_hrtime();
    client_out_done(c, out->len - before);
}

static void on_ping_due(uv_timer_t *t)
{
    struct client *c = t->data;
    const struct node_options *o = c->cs->ctx->options;
    if (c->state != CLIENT_OPEN) {
        return;
    }
    uv_timer_start(t, on_ping_due, (uint64_t)o->ping_interval_ms, 0);
    uint64_t now_ms = loop_now_ms(c->cs->ctx->loop);
    bool is_rtt_fresh = c->rtt_at_ms != 0 && now_ms - c->rtt_at_ms < 3600000u;
    bool was_active = c->is_active;
    c->is_active = false;
    if (was_active && is_rtt_fresh) {
        return;
    }
    if (c->pings_out >= o->ping_max) {
        client_doom(c, PROTOCOL_ERROR_STALE);
        return;
    }
    send_ping(c);
}

static void on_first_ping(uv_timer_t *t)
{
    struct client *c = t->data;
    if (c->state == CLIENT_OPEN) {
        send_ping(c);
        uv_timer_start(t, on_ping_due, (uint64_t)c->cs->ctx->options->ping_interval_ms, 0);
    }
}

void client_start_pings(struct client *c)
{
    uint64_t interval_ms = (uint64_t)c->cs->ctx->options->ping_interval_ms;
    uint64_t first_ms = CLIENT_FIRST_PING_MS + node_random() % CLIENT_FIRST_PING_JITTER_MS;
    if (interval_ms < first_ms) {
        uv_timer_start(&c->timer, on_ping_due, interval_ms, 0);
    } else {
        uv_timer_start(&c->timer, on_first_ping, first_ms, 0);
    }
}

static void on_auth_timeout(uv_timer_t *t)
{
    client_doom(t->data, PROTOCOL_ERROR_AUTH_TIMEOUT);
}

static void on_evict_end(uv_timer_t *t)
{
    client_doom(t->data, PROTOCOL_ERROR_SHUTDOWN);
}

void client_evict(struct client *c)
{
    c->is_leaving = true;
    client_hold(c);
    uv_timer_start(&c->timer, on_evict_end, CLIENT_EVICT_MS, 0);
}

static void on_linger_end(uv_timer_t *t)
{
    client_abort(t->data);
}

/* ---- Closing ---- */

static void on_shutdown(uv_shutdown_t *req, int status)
{
    (void)req; /* The client's own close, or the timer, ends it. */
    (void)status;
}

static void log_close(const struct client *c)
{
    const char *text = protocol_error_text(c->doom);
    const char *reason = protocol_error_reason(c->doom);
    unsigned long long cid = c->cid;
    if (c->doom == PROTOCOL_ERROR_SLOW_PENDING) {
        log_inf("%s:%u - cid:%llu - Slow Consumer Detected: MaxPending of %lld Exceeded", c->ip,
                c->port, cid, (long long)c->cs->ctx->options->max_pending);
    } else if (c->doom == PROTOCOL_ERROR_SLOW_DEADLINE) {
        log_inf("%s:%u - cid:%llu - Slow Consumer Detected: WriteDeadline of %lldms exceeded with "
                "%zu bytes pending",
                c->ip, c->port, cid, (long long)c->cs->ctx->options->write_deadline_ms,
                c->pending_bytes);
    } else if (c->doom == PROTOCOL_ERROR_AUTHORIZATION) {
        log_err("%s:%u - cid:%llu - authentication error%s%s%s", c->ip, c->port, cid,
                c->connect.user != NULL ? " - User \"" : "",
                c->connect.user != NULL ? c->connect.user : "",
                c->connect.user != NULL ? "\"" : "");
    } else if (text[0] != '\0') {
        log_err("%s:%u - cid:%llu - %s", c->ip, c->port, cid, text);
    }
    log_dbg("%s:%u - cid:%llu - Client connection closed: %s", c->ip, c->port, cid, reason);
}

static void bury(struct client *c)
{
    struct clients *cs = c->cs;
    assert(c->state == CLIENT_DOOMED);
    log_close(c);
    cs->stats.slow_consumers +=
        c->doom == PROTOCOL_ERROR_SLOW_PENDING || c->doom == PROTOCOL_ERROR_SLOW_DEADLINE;
    cs->stats.stale_connections += c->doom == PROTOCOL_ERROR_STALE;
    client_record_closed(c);
    struct client_sub *sub, *tmp;
    HASH_ITER(hh, c->subs, sub, tmp)
    {
        client_remove_sub(c, sub);
    }
    list_remove(&c->paused_link);
    c->paused_until_ms = 0;
    uv_timer_stop(&c->timer);
    cs->stats.connections--;
    c->state = CLIENT_LINGERING;
    const char *text = protocol_error_text(c->doom);
    if (text[0] == '\0' && c->doom != PROTOCOL_ERROR_SHUTDOWN) {
        if (c->doom != PROTOCOL_ERROR_SLOW_PENDING && c->doom != PROTOCOL_ERROR_SLOW_DEADLINE &&
            c->doom != PROTOCOL_ERROR_WRITE && c->doom != PROTOCOL_ERROR_READ) {
            client_flush(c);
        }
        client_abort(c);
        return;
    }
    if (text[0] != '\0') {
        struct buf *out = client_out(c, 256);
        size_t before = out->len;
        protocol_write_err(out, text);
        client_out_done(c, out->len - before);
    }
    client_flush(c);
    if (c->state != CLIENT_LINGERING) {
        return; /* The write failed. */
    }
    /* Read on for a moment: closing with unread bytes would reset the connection, and the client
     * would never see the text, or the last answers before a stop. */
    if (uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, on_shutdown) != 0) {
        client_abort(c);
        return;
    }
    uv_timer_start(&c->timer, on_linger_end, CLIENT_LINGER_MS, 0);
    start_reading(c);
}

void clients_collect(struct clients *cs)
{
    for (struct list *l; (l = list_pop_front(&cs->done_subs)) != NULL;) {
        struct client_sub *sub = container_of(l, struct client_sub, done_link);
        client_remove_sub(sub->client, sub);
    }
    for (struct list *l; (l = list_pop_front(&cs->doomed)) != NULL;) {
        bury(container_of(l, struct client, doomed_link));
    }
}

/* ---- Accepting ---- */

static void name_peer(struct client *c)
{
    struct sockaddr_storage addr;
    int len = sizeof addr;
    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&addr, &len) != 0) {
        return;
    }
    if (addr.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&addr;
        uv_ip4_name(in, c->ip, sizeof c->ip);
        c->port = ntohs(in->sin_port);
    } else if (addr.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&addr;
        uv_ip6_name(in, c->ip, sizeof c->ip);
        c->port = ntohs(in->sin6_port);
        if (strncmp(c->ip, "::ffff:", 7) == 0) {
            memmove(c->ip, c->ip + 7, strlen(c->ip + 7) + 1);
        }
    }
}

static struct client *client_new(struct clients *cs)
{
    uv_loop_t *uv = loop_uv(cs->ctx->loop);
    const struct node_options *o = cs->ctx->options;
    struct client *c = xcalloc(1, sizeof *c);
    c->cs = cs;
    uv_tcp_init(uv, &c->tcp);
    uv_timer_init(uv, &c->timer);
    c->handles_open = 2;
    c->tcp.data = c;
    c->timer.data = c;
    list_init(&c->dirty_link);
    list_init(&c->doomed_link);
    list_init(&c->paused_link);
    list_init(&c->writing_link);
    list_init(&c->chunks);
    c->cid = ++cs->cid_last;
    protocol_init(&c->parser, (uint32_t)o->max_control_line, o->max_payload);
    c->parser.is_auth_pending = auth_is_required(o);
    client_connect_init(&c->connect);
    c->start_ns = c->last_ns = loop_clock_ns(cs->ctx->loop);
    HASH_ADD(hh, cs->by_cid, cid, sizeof c->cid, c);
    cs->stats.connections++;
    cs->stats.total_connections++;
    return c;
}

void client_accept(struct clients *cs)
{
    const struct node_options *o = cs->ctx->options;
    struct client *c = client_new(cs);
    if (uv_accept((uv_stream_t *)&cs->listener, (uv_stream_t *)&c->tcp) != 0) {
        client_doom(c, PROTOCOL_ERROR_READ);
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    name_peer(c);
    log_dbg("%s:%u - cid:%llu - Client connection created", c->ip, c->port,
            (unsigned long long)c->cid);
    client_send_info(c, false);
    if (o->max_connections < 0 ||
        (o->max_connections > 0 && cs->stats.connections > (uint64_t)o->max_connections)) {
        client_doom(c, PROTOCOL_ERROR_CONNECTIONS);
        return;
    }
    if (c->parser.is_auth_pending) {
        uv_timer_start(&c->timer, on_auth_timeout, (uint64_t)o->auth_timeout_ms, 0);
    } else {
        client_start_pings(c);
    }
    start_reading(c);
}
