/* libuv without sockets, for one uv_*.c file that is included after this one: what it calls comes
 * here. Reads are fed, writes and dials complete when the target says so, handles close at the end
 * of a turn. The contract is libuv's: a closed handle cancels what is pending on it first. */
#ifndef TESTS_FUZZ_FAKE_UV_H
#define TESTS_FUZZ_FAKE_UV_H
#include <stdlib.h>

#include <uv.h>

#include "tests/fuzz/fuzz.h"

#define FAKE_MAX 256

struct fake_stream {
    uv_stream_t *stream;
    uv_alloc_cb alloc;
    uv_read_cb read;
};
struct fake_write {
    uv_write_t *req;
    uv_stream_t *stream;
    uv_write_cb cb;
    size_t bytes;
};
struct fake_connect {
    uv_connect_t *req;
    uv_handle_t *handle;
    uv_connect_cb cb;
};
struct fake_resolve {
    uv_getaddrinfo_t *req;
    uv_getaddrinfo_cb cb;
};
struct fake_timer {
    uv_timer_t *timer;
    uv_timer_cb cb;
    uint64_t due_ms;
};
struct fake_close {
    uv_handle_t *handle;
    uv_close_cb cb;
};

static struct {
    uint64_t now_ms;
    bool is_slow; /* Nothing is written at once. */
    struct fake_stream streams[FAKE_MAX];
    unsigned streams_count;
    struct fake_write writes[FAKE_MAX];
    unsigned writes_count;
    struct fake_connect connects[FAKE_MAX];
    unsigned connects_count;
    struct fake_resolve resolves[FAKE_MAX];
    unsigned resolves_count;
    struct fake_timer timers[FAKE_MAX];
    unsigned timers_count;
    struct fake_close closes[FAKE_MAX];
    unsigned closes_count;
} fake;

/* An entry out of a row. */
#define FAKE_TAKE(row, i)                                                                          \
    (fake.row##_count--,                                                                           \
     memmove(&fake.row[i], &fake.row[(i) + 1], (fake.row##_count - (i)) * sizeof fake.row[0]))
#define FAKE_PUT(row, ...)                                                                         \
    do {                                                                                           \
        require(fake.row##_count < FAKE_MAX);                                                      \
        fake.row[fake.row##_count++] = __VA_ARGS__;                                                \
    } while (0)

static inline bool fake_is_closing(const void *handle)
{
    for (unsigned i = 0; i < fake.closes_count; i++) {
        if ((const void *)fake.closes[i].handle == handle) {
            return true;
        }
    }
    return false;
}

static inline int fake_tcp_init(uv_loop_t *loop, uv_tcp_t *tcp)
{
    (void)loop;
    memset(tcp, 0, sizeof *tcp);
    return 0;
}

static inline int fake_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
    (void)loop;
    memset(timer, 0, sizeof *timer);
    return 0;
}

static inline int fake_timer_stop(uv_timer_t *timer)
{
    for (unsigned i = 0; i < fake.timers_count; i++) {
        if (fake.timers[i].timer == timer) {
            FAKE_TAKE(timers, i);
            return 0;
        }
    }
    return 0;
}

static inline int fake_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t ms, uint64_t repeat)
{
    (void)repeat;
    require(!fake_is_closing(timer));
    (void)fake_timer_stop(timer);
    FAKE_PUT(timers, (struct fake_timer){timer, cb, fake.now_ms + ms});
    return 0;
}

static inline int fake_accept(uv_stream_t *server, uv_stream_t *client)
{
    (void)server;
    (void)client;
    return 0;
}

static inline int fake_read_start(uv_stream_t *stream, uv_alloc_cb alloc, uv_read_cb read)
{
    require(!fake_is_closing(stream));
    FAKE_PUT(streams, (struct fake_stream){stream, alloc, read});
    return 0;
}

static inline int fake_try_write(uv_stream_t *stream, const uv_buf_t bufs[], unsigned n)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        bytes += bufs[i].len;
    }
    require(!fake_is_closing(stream));
    return fake.is_slow ? UV_EAGAIN : (int)bytes;
}

static inline int fake_write(uv_write_t *req, uv_stream_t *stream, const uv_buf_t bufs[],
                             unsigned n, uv_write_cb cb)
{
    require(!fake_is_closing(stream) && n == 1);
    if (fake.writes_count == FAKE_MAX) {
        return UV_ENOMEM;
    }
    FAKE_PUT(writes, (struct fake_write){req, stream, cb, bufs[0].len});
    return 0;
}

static inline int fake_tcp_connect(uv_connect_t *req, uv_tcp_t *tcp, const struct sockaddr *addr,
                                   uv_connect_cb cb)
{
    (void)addr;
    if (fake.connects_count == FAKE_MAX) {
        return UV_EAGAIN;
    }
    FAKE_PUT(connects, (struct fake_connect){req, (uv_handle_t *)tcp, cb});
    return 0;
}

static inline int fake_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *req, uv_getaddrinfo_cb cb,
                                   const char *node, const char *service,
                                   const struct addrinfo *hints)
{
    (void)loop;
    (void)node;
    (void)service;
    (void)hints;
    if (fake.resolves_count == FAKE_MAX) {
        return UV_EAGAIN;
    }
    FAKE_PUT(resolves, (struct fake_resolve){req, cb});
    return 0;
}

static inline void fake_close(uv_handle_t *handle, uv_close_cb cb)
{
    require(!fake_is_closing(handle));
    FAKE_PUT(closes, (struct fake_close){handle, cb});
}

static inline int fake_zero(const void *a, ...)
{
    (void)a;
    return 0;
}

static inline int fake_no(const void *a, ...)
{
    (void)a;
    return UV_ENOTCONN;
}

/* ---- What the target does ---- */

/* Some bytes arrive; false when nobody reads there any more. */
static inline bool fake_feed(uv_stream_t *stream, struct slice bytes)
{
    while (bytes.len > 0) {
        struct fake_stream *s = NULL;
        for (unsigned i = 0; i < fake.streams_count; i++) {
            s = fake.streams[i].stream == stream ? &fake.streams[i] : s;
        }
        if (s == NULL || fake_is_closing(stream)) {
            return false;
        }
        uv_buf_t buf = {.base = NULL, .len = 0};
        s->alloc((uv_handle_t *)stream, 65536, &buf);
        require(buf.base != NULL && buf.len > 0);
        size_t n = bytes.len < buf.len ? bytes.len : buf.len;
        memcpy(buf.base, bytes.ptr, n);
        s->read(stream, (ssize_t)n, &buf);
        bytes = slice_from(bytes, n);
    }
    return true;
}

static inline void fake_end(uv_stream_t *stream, int status)
{
    for (unsigned i = 0; i < fake.streams_count; i++) {
        if (fake.streams[i].stream == stream && !fake_is_closing(stream)) {
            uv_buf_t buf = {.base = NULL, .len = 0};
            fake.streams[i].read(stream, status, &buf);
            return;
        }
    }
}

static inline void fake_complete_write(unsigned i, int status)
{
    struct fake_write w = fake.writes[i];
    FAKE_TAKE(writes, i);
    w.req->handle = w.stream;
    w.cb(w.req, status);
}

static inline void fake_complete_connect(unsigned i, int status)
{
    struct fake_connect c = fake.connects[i];
    FAKE_TAKE(connects, i);
    c.cb(c.req, status);
}

static inline void fake_complete_resolve(unsigned i, int status)
{
    struct fake_resolve r = fake.resolves[i];
    FAKE_TAKE(resolves, i);
    r.cb(r.req, status, NULL);
}

/* @ms pass: timers fire, then what is closing closes. */
static inline void fake_turn(uint64_t ms)
{
    fake.now_ms += ms;
    for (unsigned i = 0; i < fake.timers_count; i++) {
        struct fake_timer t = fake.timers[i];
        if (t.due_ms <= fake.now_ms && !fake_is_closing(t.timer)) {
            FAKE_TAKE(timers, i);
            t.cb(t.timer);
            i = UINT32_MAX;
        }
    }
    while (fake.closes_count > 0) {
        struct fake_close c = fake.closes[0];
        for (unsigned i = 0; i < fake.writes_count; i++) {
            if ((uv_handle_t *)fake.writes[i].stream == c.handle) {
                fake_complete_write(i, UV_ECANCELED);
                i = UINT32_MAX;
            }
        }
        for (unsigned i = 0; i < fake.connects_count; i++) {
            if (fake.connects[i].handle == c.handle) {
                fake_complete_connect(i, UV_ECANCELED);
                i = UINT32_MAX;
            }
        }
        for (unsigned i = 0; i < fake.streams_count; i++) {
            if ((uv_handle_t *)fake.streams[i].stream == c.handle) {
                FAKE_TAKE(streams, i);
                i = UINT32_MAX;
            }
        }
        (void)fake_timer_stop((uv_timer_t *)c.handle);
        FAKE_TAKE(closes, 0);
        if (c.cb != NULL) {
            c.cb(c.handle);
        }
    }
}

#define uv_tcp_init fake_tcp_init
#define uv_timer_init fake_timer_init
#define uv_timer_start fake_timer_start
#define uv_timer_stop fake_timer_stop
#define uv_accept fake_accept
#define uv_read_start fake_read_start
#define uv_try_write fake_try_write
#define uv_write fake_write
#define uv_tcp_connect fake_tcp_connect
#define uv_getaddrinfo fake_getaddrinfo
#define uv_close fake_close
#define uv_cancel fake_zero
#define uv_tcp_nodelay fake_zero
#define uv_tcp_getpeername fake_no
#define uv_fileno fake_no
#endif
