/* What a turn has for a client is gathered in chunks and written by one writev at its end. When the
 * socket is full, libuv writes the rest as it drains; meanwhile chunks pile up behind it, up to
 * max_pending. Chunks come from a pool shared by all clients. */
#include "cluster/uv_client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/client_trace.h"
#include "storage/base/log.h"

static struct client_chunk *chunk_new(struct clients *cs, size_t bytes_min)
{
    if (bytes_min <= CLIENT_CHUNK_BYTES) {
        struct list *l = list_pop_front(&cs->chunks_free);
        if (l != NULL) {
            cs->chunks_free_count--;
            return container_of(l, struct client_chunk, link);
        }
        bytes_min = CLIENT_CHUNK_BYTES;
    }
    struct client_chunk *chunk = xcalloc(1, sizeof *chunk);
    list_init(&chunk->link);
    chunk->buf.ptr = xmalloc(bytes_min);
    chunk->buf.cap = bytes_min;
    return chunk;
}

static void chunk_free(struct clients *cs, struct client_chunk *chunk)
{
    list_remove(&chunk->link);
    if (chunk->buf.cap == CLIENT_CHUNK_BYTES && cs->chunks_free_count < CLIENT_CHUNKS_FREE_MAX) {
        buf_clear(&chunk->buf);
        chunk->sent_bytes = 0;
        list_push_front(&cs->chunks_free, &chunk->link);
        cs->chunks_free_count++;
        return;
    }
    buf_close(&chunk->buf);
    free(chunk);
}

void clients_free_chunks(struct clients *cs)
{
    for (struct list *l; (l = list_pop_front(&cs->chunks_free)) != NULL;) {
        struct client_chunk *chunk = container_of(l, struct client_chunk, link);
        buf_close(&chunk->buf);
        free(chunk);
    }
    cs->chunks_free_count = 0;
}

struct buf *client_out(struct client *c, size_t bytes_max)
{
    if (!list_is_empty(&c->chunks)) {
        struct client_chunk *last = container_of(c->chunks.prev, struct client_chunk, link);
        if (last->buf.cap - last->buf.len >= bytes_max) {
            return &last->buf;
        }
    }
    struct client_chunk *chunk = chunk_new(c->cs, bytes_max);
    list_push_back(&c->chunks, &chunk->link);
    return &chunk->buf;
}

void client_trace_op(const struct client *c, const char *arrow, struct slice op)
{
    char who[96];
    snprintf(who, sizeof who, "%s:%u - cid:%llu", c->ip, c->port, (unsigned long long)c->cid);
    client_trace(who, arrow, op);
}

void client_out_done(struct client *c, size_t bytes)
{
    struct clients *cs = c->cs;
    if (log_is_on(LOG_LEVEL_TRC)) {
        struct client_chunk *last = container_of(c->chunks.prev, struct client_chunk, link);
        client_trace_op(c, "->>", slice_from(buf_slice(&last->buf), last->buf.len - bytes));
    }
    c->pending_bytes += bytes;
    c->unflushed_bytes += bytes;
    if (list_is_empty(&c->dirty_link)) {
        list_push_back(&cs->dirty, &c->dirty_link);
    }
    if (c->unflushed_bytes >= CLIENT_FLUSH_BYTES && c->inflight_bytes == 0) {
        client_flush(c);
    }
    size_t max = (size_t)cs->ctx->options->max_pending;
    if (c->pending_bytes > max / 4 * 3) {
        cs->is_stall_hit = true;
        if (c->pending_bytes > max) {
            client_doom(c, PROTOCOL_ERROR_SLOW_PENDING);
        }
    }
}

/* The first @bytes of the chunks are with the kernel. */
static void consume(struct client *c, size_t bytes)
{
    assert(bytes <= c->pending_bytes);
    c->pending_bytes -= bytes;
    while (bytes > 0) {
        struct client_chunk *chunk = container_of(c->chunks.next, struct client_chunk, link);
        size_t left = chunk->buf.len - chunk->sent_bytes;
        if (bytes < left) {
            chunk->sent_bytes += bytes;
            return;
        }
        bytes -= left;
        chunk_free(c->cs, chunk);
    }
}

static unsigned fill_iovecs(struct client *c, uv_buf_t *iovecs, size_t *ret_bytes)
{
    unsigned count = 0;
    size_t bytes = 0;
    LIST_FOR(it, &c->chunks)
    {
        if (count == CLIENT_IOVECS_MAX) {
            break;
        }
        struct client_chunk *chunk = container_of(it, struct client_chunk, link);
        size_t left = chunk->buf.len - chunk->sent_bytes;
        if (left == 0) {
            continue;
        }
        iovecs[count++] = uv_buf_init((char *)chunk->buf.ptr + chunk->sent_bytes, (unsigned)left);
        bytes += left;
    }
    *ret_bytes = bytes;
    return count;
}

static void on_written(uv_write_t *req, int status)
{
    struct client *c = container_of(req, struct client, write);
    size_t bytes = c->inflight_bytes;
    c->inflight_bytes = 0;
    list_remove(&c->writing_link);
    if (c->state == CLIENT_CLOSING) {
        return;
    }
    if (status != 0) {
        if (c->state == CLIENT_LINGERING) {
            client_abort(c);
        } else {
            client_doom(c, PROTOCOL_ERROR_WRITE);
        }
        return;
    }
    consume(c, bytes);
    client_flush(c);
}

void client_flush(struct client *c)
{
    list_remove(&c->dirty_link);
    c->unflushed_bytes = 0;
    if (c->inflight_bytes != 0 || c->state == CLIENT_CLOSING) {
        return;
    }
    uv_buf_t iovecs[CLIENT_IOVECS_MAX];
    while (c->pending_bytes > 0) {
        size_t bytes;
        unsigned count = fill_iovecs(c, iovecs, &bytes);
        int n = uv_try_write((uv_stream_t *)&c->tcp, iovecs, count);
        if (n > 0) {
            consume(c, (size_t)n);
            if ((size_t)n == bytes) {
                continue;
            }
        } else if (n != UV_EAGAIN) {
            client_doom(c, PROTOCOL_ERROR_WRITE);
            return;
        }
        count = fill_iovecs(c, iovecs, &bytes);
        if (uv_write(&c->write, (uv_stream_t *)&c->tcp, iovecs, count, on_written) != 0) {
            client_doom(c, PROTOCOL_ERROR_WRITE);
            return;
        }
        c->inflight_bytes = bytes;
        c->write_began_ms = loop_now_ms(c->cs->ctx->loop);
        if (list_is_empty(&c->cs->writing)) {
            loop_timer_start(c->cs->writing_timer, 100, 100);
        }
        list_push_back(&c->cs->writing, &c->writing_link);
        return;
    }
}

void clients_flush(struct clients *cs)
{
    for (struct list *l; (l = list_pop_front(&cs->dirty)) != NULL;) {
        client_flush(container_of(l, struct client, dirty_link));
    }
}

void clients_check_writing(struct clients *cs)
{
    uint64_t now_ms = loop_now_ms(cs->ctx->loop);
    uint64_t deadline_ms = (uint64_t)cs->ctx->options->write_deadline_ms;
    LIST_FOR_SAFE(it, tmp, &cs->writing)
    {
        struct client *c = container_of(it, struct client, writing_link);
        if (now_ms - c->write_began_ms >= deadline_ms && c->state == CLIENT_OPEN) {
            client_doom(c, PROTOCOL_ERROR_SLOW_DEADLINE);
        }
    }
    if (list_is_empty(&cs->writing)) {
        loop_timer_stop(cs->writing_timer);
    }
}

void client_out_close(struct client *c)
{
    while (!list_is_empty(&c->chunks)) {
        chunk_free(c->cs, container_of(c->chunks.next, struct client_chunk, link));
    }
    c->pending_bytes = 0;
}
