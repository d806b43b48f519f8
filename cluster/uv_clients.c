#include <errno.h>
#include <stdlib.h>

#include "cluster/uv_address.h"
#include "cluster/uv_client.h"
#include "storage/base/err.h"
#include "storage/base/log.h"

#define BACKLOG 1024
#define EVICT_STEP_MAX_MS 1000

static void on_collect(void *arg)
{
    clients_collect(arg);
}

static void on_writes(void *arg)
{
    struct clients *cs = arg;
    (void)loop_enter(cs->ctx->loop, WATCHDOG_WRITES, 0);
    clients_flush(cs);
    /* Writing may have doomed some: their interest must be gone before the loop sleeps. */
    clients_collect(cs);
}

static void on_paused_tick(void *arg)
{
    struct clients *cs = arg;
    uint64_t now_ms = loop_now_ms(cs->ctx->loop);
    struct list due;
    list_init(&due);
    LIST_FOR_SAFE(it, tmp, &cs->paused)
    {
        if (container_of(it, struct client, paused_link)->paused_until_ms <= now_ms) {
            list_remove(it);
            list_push_back(&due, it);
        }
    }
    while (!list_is_empty(&due)) {
        client_unpause(container_of(due.next, struct client, paused_link));
    }
    if (list_is_empty(&cs->paused)) {
        loop_timer_stop(cs->paused_timer);
    }
}

static void on_writing_tick(void *arg)
{
    clients_check_writing(arg);
}

struct clients *clients_new(struct node_context *ctx)
{
    struct clients *cs = xcalloc(1, sizeof *cs);
    cs->ctx = ctx;
    list_init(&cs->dirty);
    list_init(&cs->doomed);
    list_init(&cs->paused);
    list_init(&cs->writing);
    list_init(&cs->done_subs);
    list_init(&cs->chunks_free);
    cs->read_buf = xmalloc(CLIENT_READ_BYTES);
    cs->paused_timer = loop_timer_new(ctx->loop, on_paused_tick, cs);
    cs->writing_timer = loop_timer_new(ctx->loop, on_writing_tick, cs);
    loop_hook(ctx->loop, LOOP_PHASE_COLLECT, on_collect, cs);
    loop_hook(ctx->loop, LOOP_PHASE_WRITES, on_writes, cs);
    return cs;
}

void clients_free(struct clients *cs)
{
    if (cs == NULL) {
        return;
    }
    clients_free_chunks(cs);
    clients_free_records(cs);
    free(cs->read_buf);
    free(cs);
}

static void on_connection(uv_stream_t *s, int status)
{
    if (status == 0) {
        client_accept(s->data);
    } else {
        log_err("Accept error on client listener: %s", uv_strerror(status));
    }
}

int clients_listen(struct clients *cs)
{
    const struct node_options *o = cs->ctx->options;
    int rv =
        uv_address_listen(loop_uv(cs->ctx->loop), &cs->listener, o->host, o->port < 0 ? 0 : o->port,
                          BACKLOG, on_connection, cs, &cs->ctx->client_port);
    cs->is_listening = rv == 0;
    return rv;
}

void clients_close_listener(struct clients *cs)
{
    if (cs->is_listening) {
        cs->is_listening = false;
        uv_close((uv_handle_t *)&cs->listener, NULL);
    }
}

bool clients_is_listening(const struct clients *cs)
{
    return cs->is_listening;
}

void clients_close_all(struct clients *cs)
{
    struct client *c, *tmp;
    HASH_ITER(hh, cs->by_cid, c, tmp)
    {
        if (c->state == CLIENT_OPEN) {
            client_doom(c, PROTOCOL_ERROR_SHUTDOWN);
        }
    }
    clients_collect(cs);
}

bool clients_are_gone(const struct clients *cs)
{
    return cs->by_cid == NULL;
}

void clients_stop(struct clients *cs)
{
    clients_close_listener(cs);
    struct client *c, *tmp;
    HASH_ITER(hh, cs->by_cid, c, tmp)
    {
        if (c->state == CLIENT_LINGERING) {
            client_abort(c);
        }
    }
    clients_close_all(cs);
    loop_timer_free(cs->paused_timer);
    loop_timer_free(cs->writing_timer);
    loop_timer_free(cs->evict_timer);
    cs->paused_timer = cs->writing_timer = cs->evict_timer = NULL;
}

struct clients_stats clients_stats(const struct clients *cs)
{
    return cs->stats;
}

static struct client *find(struct clients *cs, uint64_t cid)
{
    struct client *c;
    HASH_FIND(hh, cs->by_cid, &cid, sizeof cid, c);
    return c == NULL || c->state != CLIENT_OPEN ? NULL : c;
}

void clients_pause(struct clients *cs, uint64_t cid, uint64_t max_ms)
{
    struct client *c = find(cs, cid);
    if (c != NULL) {
        client_pause(c, max_ms);
    }
}

void clients_resume(struct clients *cs, uint64_t cid)
{
    struct client *c = find(cs, cid);
    if (c != NULL) {
        client_unpause(c);
    }
}

void clients_broadcast_info(struct clients *cs)
{
    struct client *c, *tmp;
    HASH_ITER(hh, cs->by_cid, c, tmp)
    {
        if (c->state == CLIENT_OPEN && c->is_pong_sent && c->connect.protocol >= 1) {
            client_send_info(c, false);
        }
    }
}

void clients_stop_reading(struct clients *cs)
{
    struct client *c, *tmp;
    HASH_ITER(hh, cs->by_cid, c, tmp)
    {
        if (c->state == CLIENT_OPEN) {
            client_hold(c);
        }
    }
}

/* The oldest go first, evenly over the time that is left. */
static void on_evict_step(void *arg)
{
    struct clients *cs = arg;
    uint64_t now_ms = loop_now_ms(cs->ctx->loop);
    uint64_t left_ms = cs->evict_end_ms > now_ms ? cs->evict_end_ms - now_ms : 0;
    uint64_t left = 0; /* Clients that stay until a later step. */
    struct client *c, *tmp;
    HASH_ITER(hh, cs->by_cid, c, tmp)
    {
        if (c->state == CLIENT_OPEN && !c->is_leaving && left++ == 0) {
            client_evict(c);
        }
    }
    if (cs->stats.connections == 0) {
        cs->evict_done(cs->evict_arg);
        return;
    }
    /* Of those that are leaving the last is waited for. */
    uint64_t step_ms = left > 1 ? left_ms / left : CLIENT_EVICT_MS / 2;
    loop_timer_start(cs->evict_timer, step_ms < EVICT_STEP_MAX_MS ? step_ms : EVICT_STEP_MAX_MS, 0);
}

void clients_evict(struct clients *cs, uint64_t over_ms, void (*done)(void *arg), void *arg)
{
    cs->evict_done = done;
    cs->evict_arg = arg;
    cs->evict_end_ms = loop_now_ms(cs->ctx->loop) + over_ms;
    if (cs->evict_timer == NULL) {
        cs->evict_timer = loop_timer_new(cs->ctx->loop, on_evict_step, cs);
    }
    on_evict_step(cs);
}

void clients_recheck_auth(struct clients *cs)
{
    struct client *c, *tmp;
    HASH_ITER(hh, cs->by_cid, c, tmp)
    {
        if (c->state == CLIENT_OPEN && client_is_refused(c)) {
            client_doom(c, PROTOCOL_ERROR_AUTHORIZATION);
        }
    }
    clients_collect(cs);
}
