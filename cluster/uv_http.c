#include "cluster/http.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <http_parser.h>
#include <uv.h>

#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/node_options.h"
#include "cluster/uv_address.h"
#include "storage/base/err.h"
#include "storage/base/list.h"
#include "storage/base/log.h"

#define PATHS_MAX 64
#define READ_BYTES 4096
#define DRAINED_BYTES (1u << 20)

struct route {
    const char *path;
    const char *title;
    http_handler_cb cb;
    void *arg;
    uint64_t count;
};

struct http {
    struct node_context *ctx;
    uv_tcp_t listener;
    bool is_listening;
    struct route routes[PATHS_MAX];
    unsigned routes_count;
    uint64_t index_count;
    struct list conns;
    unsigned conns_count;
};

struct param {
    char *name;
    char *value;
};

/* One request. It outlives its connection when a handler answers later. */
struct http_request {
    struct http_conn *conn; /* NULL: the connection has ended. */
    struct param params[HTTP_PARAMS_MAX];
    unsigned params_count;
    bool is_keep_alive;
    bool is_head;
    bool is_chunked; /* HTTP/1.1 stream; otherwise its end is the connection's. */
    http_drained_cb drained;
    void *drained_arg;
    bool is_writing; /* In a call of the handler, which hears of a lost connection from it. */
};

struct http_conn {
    struct http *http;
    struct list link;
    uv_tcp_t tcp;
    uv_timer_t timer;
    unsigned handles_open;
    http_parser parser;
    char read_buf[READ_BYTES];
    size_t request_bytes;
    struct buf url;
    struct http_request *req; /* Being answered. */
    bool is_complete, is_closing, is_last, is_serving;
    unsigned writes;
    size_t write_bytes;
    struct buf pending; /* Read while a request is answered: pipelined. */
};

struct write {
    uv_write_t req;
    struct http_conn *conn;
    struct buf buf;
};

static void on_timeout(uv_timer_t *t);
static void serve_next(struct http_conn *c);

struct http *http_new(struct node_context *ctx)
{
    struct http *h = xcalloc(1, sizeof *h);
    h->ctx = ctx;
    list_init(&h->conns);
    return h;
}

void http_free(struct http *h)
{
    free(h);
}

void http_handle(struct http *h, const char *path, const char *title, http_handler_cb cb, void *arg)
{
    struct route route = {path, title, cb, arg, 0};
    for (unsigned i = 0; i < h->routes_count; i++) {
        if (strcmp(h->routes[i].path, path) == 0) {
            h->routes[i] = route;
            return;
        }
    }
    assert(h->routes_count < PATHS_MAX);
    h->routes[h->routes_count++] = route;
}

void http_request_stats(const struct http *h, json_t *object)
{
    json_object_set_new(object, "/", json_integer((json_int_t)h->index_count));
    for (unsigned i = 0; i < h->routes_count; i++) {
        json_object_set_new(object, h->routes[i].path,
                            json_integer((json_int_t)h->routes[i].count));
    }
}

/* ---- Connections ---- */

static void on_closed(uv_handle_t *handle)
{
    struct http_conn *c = handle->data;
    if (--c->handles_open == 0) {
        list_remove(&c->link);
        c->http->conns_count--;
        buf_close(&c->url);
        buf_close(&c->pending);
        free(c);
    }
}

static void conn_close(struct http_conn *c)
{
    if (c->is_closing) {
        return;
    }
    c->is_closing = true;
    if (c->req != NULL) {
        c->req->conn = NULL;
        if (c->req->drained != NULL && !c->req->is_writing) {
            c->req->drained(c->req->drained_arg); /* Lets it notice. */
        }
    }
    uv_close((uv_handle_t *)&c->tcp, on_closed);
    uv_close((uv_handle_t *)&c->timer, on_closed);
}

static void on_timeout(uv_timer_t *t)
{
    conn_close(t->data);
}

static void request_free(struct http_request *req)
{
    for (unsigned i = 0; i < req->params_count; i++) {
        free(req->params[i].name);
        free(req->params[i].value);
    }
    free(req);
}

static void on_written(uv_write_t *w, int status)
{
    struct write *write = container_of(w, struct write, req);
    struct http_conn *c = write->conn;
    c->writes--;
    c->write_bytes -= write->buf.len;
    buf_close(&write->buf);
    free(write);
    if (c->is_closing) {
        return;
    }
    if (status != 0 || (c->is_last && c->req == NULL && c->writes == 0)) {
        conn_close(c);
        return;
    }
    if (c->req != NULL && c->req->drained != NULL) {
        uv_timer_start(&c->timer, on_timeout, HTTP_WRITE_TIMEOUT_MS, 0);
        if (c->write_bytes < DRAINED_BYTES) {
            struct watchdog_at was = loop_enter(c->http->ctx->loop, WATCHDOG_MONITOR, 0);
            c->req->drained(c->req->drained_arg);
            loop_leave(c->http->ctx->loop, was);
        }
    } else if (c->req == NULL && c->writes == 0) {
        uv_timer_start(&c->timer, on_timeout, HTTP_REQUEST_TIMEOUT_MS, 0);
    }
}

/* Takes over @buf. */
static void conn_write(struct http_conn *c, struct buf buf)
{
    struct write *write = xcalloc(1, sizeof *write);
    write->conn = c;
    write->buf = buf;
    uv_buf_t iovec = uv_buf_init((char *)buf.ptr, (unsigned)buf.len);
    c->writes++;
    c->write_bytes += buf.len;
    if (uv_write(&write->req, (uv_stream_t *)&c->tcp, &iovec, 1, on_written) != 0) {
        c->writes--;
        c->write_bytes -= buf.len;
        buf_close(&write->buf);
        free(write);
        conn_close(c);
    }
}

/* ---- Responses ---- */

static const char *status_text(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 413:
        return "Request Entity Too Large";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    default:
        return "Status";
    }
}

/* The request is answered: what was pipelined behind it is next. */
static void request_end(struct http_request *req)
{
    struct http_conn *c = req->conn;
    bool is_keep_alive = req->is_keep_alive;
    request_free(req);
    if (c == NULL) {
        return;
    }
    c->req = NULL;
    c->is_last = c->is_last || !is_keep_alive;
    uv_timer_start(&c->timer, on_timeout, HTTP_WRITE_TIMEOUT_MS, 0);
    if (c->is_last) {
        if (c->writes == 0) {
            conn_close(c);
        }
        return;
    }
    if (!c->is_serving) {
        serve_next(c);
    }
}

static void write_head(struct buf *out, int status, const char *type)
{
    buf_printf(out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nAccess-Control-Allow-Origin: *\r\n",
               status, status_text(status), type);
}

void http_respond(struct http_request *req, int status, const char *content_type, struct slice body)
{
    if (req->conn == NULL) {
        request_end(req);
        return;
    }
    struct buf out = BUF_EMPTY;
    write_head(&out, status, content_type);
    buf_printf(&out, "Content-Length: %zu\r\nConnection: %s\r\n\r\n", body.len,
               req->is_keep_alive ? "keep-alive" : "close");
    if (!req->is_head) {
        buf_append_slice(&out, body);
    }
    conn_write(req->conn, out);
    request_end(req);
}

void http_respond_json(struct http_request *req, int status, json_t *body)
{
    char *text = json_dumps(body, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    json_decref(body);
    http_respond(req, status, "application/json", slice_str(text));
    free(text);
}

void http_respond_error(struct http_request *req, int status, const char *text)
{
    http_respond(req, status, "text/plain; charset=utf-8", slice_str(text));
}

/* A failure does not call the handler back while it writes: it might free what it writes from. */
static void stream_write(struct http_request *req, struct buf buf)
{
    req->is_writing = true;
    conn_write(req->conn, buf);
    req->is_writing = false;
}

void http_stream_begin(struct http_request *req, const char *content_type, http_drained_cb drained,
                       void *arg)
{
    req->drained = drained;
    req->drained_arg = arg;
    if (req->conn == NULL) {
        return;
    }
    struct buf out = BUF_EMPTY;
    write_head(&out, 200, content_type);
    if (req->is_chunked) {
        buf_append_str(&out, "Transfer-Encoding: chunked\r\n");
    } else {
        req->is_keep_alive = false;
    }
    buf_printf(&out, "Connection: %s\r\n\r\n", req->is_keep_alive ? "keep-alive" : "close");
    uv_timer_start(&req->conn->timer, on_timeout, HTTP_WRITE_TIMEOUT_MS, 0);
    stream_write(req, out);
}

int http_stream_write(struct http_request *req, struct slice piece)
{
    if (req->conn == NULL) {
        return ERR_CLOSED;
    }
    if (piece.len == 0) {
        return 0;
    }
    struct buf out = BUF_EMPTY;
    if (req->is_chunked) {
        buf_printf(&out, "%zx\r\n", piece.len);
    }
    buf_append_slice(&out, piece);
    if (req->is_chunked) {
        buf_append_str(&out, "\r\n");
    }
    stream_write(req, out);
    return req->conn == NULL ? ERR_CLOSED : 0;
}

void http_stream_end(struct http_request *req)
{
    req->drained = NULL;
    if (req->conn != NULL && req->is_chunked) {
        struct buf out = BUF_EMPTY;
        buf_append_str(&out, "0\r\n\r\n");
        conn_write(req->conn, out);
    }
    request_end(req);
}

/* ---- Parameters ---- */

static int hex_value(char ch)
{
    if (ch >= '0' && ch <= '9') {
        return ch - '0';
    }
    ch = (char)(ch | 0x20);
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static char *decode(const char *s, size_t len)
{
    char *out = xmalloc(len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '+') {
            out[n++] = ' ';
        } else if (s[i] == '%' && i + 2 < len && hex_value(s[i + 1]) >= 0 &&
                   hex_value(s[i + 2]) >= 0) {
            out[n++] = (char)(hex_value(s[i + 1]) << 4 | hex_value(s[i + 2]));
            i += 2;
        } else {
            out[n++] = s[i];
        }
    }
    out[n] = '\0';
    return out;
}

static void parse_query(struct http_request *req, const char *query, size_t len)
{
    while (len > 0 && req->params_count < HTTP_PARAMS_MAX) {
        const char *amp = memchr(query, '&', len);
        size_t pair = amp == NULL ? len : (size_t)(amp - query);
        const char *eq = memchr(query, '=', pair);
        size_t name = eq == NULL ? pair : (size_t)(eq - query);
        struct param *p = &req->params[req->params_count++];
        p->name = decode(query, name);
        p->value = eq == NULL ? decode("", 0) : decode(eq + 1, pair - name - 1);
        size_t used = amp == NULL ? len : pair + 1;
        query += used;
        len -= used;
    }
}

const char *http_param(const struct http_request *req, const char *name)
{
    for (unsigned i = 0; i < req->params_count; i++) {
        if (strcmp(req->params[i].name, name) == 0) {
            return req->params[i].value;
        }
    }
    return NULL;
}

static int refuse_param(struct http_request *req, const char *name, const char *kind,
                        const char *parser)
{
    char text[256];
    snprintf(text, sizeof text,
             "Error decoding %s for '%.50s': strconv.%s: parsing \"%.100s\": invalid syntax", kind,
             name, parser, http_param(req, name));
    http_respond_error(req, 400, text);
    return ERR_INVALID;
}

int http_param_bool(struct http_request *req, const char *name, bool *ret_value)
{
    static const char *const truths[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const lies[] = {"0", "f", "F", "false", "FALSE", "False"};
    const char *value = http_param(req, name);
    if (value == NULL || value[0] == '\0') {
        *ret_value = false;
        return 0;
    }
    for (int i = 0; i < 6; i++) {
        if (strcmp(value, truths[i]) == 0 || strcmp(value, lies[i]) == 0) {
            *ret_value = strcmp(value, truths[i]) == 0;
            return 0;
        }
    }
    return refuse_param(req, name, "boolean", "ParseBool");
}

static int param_number(struct http_request *req, const char *name, const char *kind,
                        const char *parser, uint64_t *ret_value)
{
    const char *value = http_param(req, name);
    if (value == NULL || value[0] == '\0') {
        return 0;
    }
    char *end;
    errno = 0;
    unsigned long long n = strtoull(value, &end, 10);
    if (errno != 0 || *end != '\0' || value[0] == '-' || n > INT64_MAX) {
        return refuse_param(req, name, kind, parser);
    }
    *ret_value = n;
    return 0;
}

int http_param_u64(struct http_request *req, const char *name, uint64_t *ret_value)
{
    return param_number(req, name, "uint64", "ParseUint", ret_value);
}

int http_param_count(struct http_request *req, const char *name, uint64_t *ret_value)
{
    return param_number(req, name, "int", "Atoi", ret_value);
}

/* ---- Requests ---- */

static void respond_index(struct http *h, struct http_request *req)
{
    struct buf out = BUF_EMPTY;
    buf_append_str(&out, "<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>NATS</title>"
                         "</head>\n<body>\n");
    buf_printf(&out, "<b>weir</b> %s<br>\n", NODE_VERSION);
    for (unsigned i = 0; i < h->routes_count; i++) {
        if (h->routes[i].title != NULL) {
            buf_printf(&out, "<a href=.%s>%s</a><br>\n", h->routes[i].path, h->routes[i].title);
        }
    }
    buf_append_str(&out, "</body>\n</html>\n");
    http_respond(req, 200, "text/html; charset=utf-8", buf_slice(&out));
    buf_close(&out);
}

static void dispatch(struct http_conn *c)
{
    struct http *h = c->http;
    struct http_request *req = xcalloc(1, sizeof *req);
    req->conn = c;
    req->is_keep_alive = http_should_keep_alive(&c->parser) != 0;
    req->is_head = c->parser.method == HTTP_HEAD;
    req->is_chunked = c->parser.http_major == 1 && c->parser.http_minor >= 1;
    c->req = req;
    c->is_complete = false;
    c->request_bytes = 0;
    const char *url = (const char *)c->url.ptr;
    struct http_parser_url parts;
    http_parser_url_init(&parts);
    if (http_parser_parse_url(url, c->url.len, 0, &parts) != 0 ||
        (parts.field_set & 1 << UF_PATH) == 0) {
        buf_clear(&c->url);
        http_respond_error(req, 400, "400 Bad Request");
        return;
    }
    if (parts.field_set & 1 << UF_QUERY) {
        parse_query(req, url + parts.field_data[UF_QUERY].off, parts.field_data[UF_QUERY].len);
    }
    struct slice path =
        slice_of(url + parts.field_data[UF_PATH].off, parts.field_data[UF_PATH].len);
    struct route *found = NULL;
    for (unsigned i = 0; i < h->routes_count && found == NULL; i++) {
        found = slice_eq_str(path, h->routes[i].path) ? &h->routes[i] : NULL;
    }
    bool is_index = slice_eq_str(path, "/");
    buf_clear(&c->url);
    if (found != NULL) {
        found->count++;
        found->cb(found->arg, req);
    } else if (is_index) {
        h->index_count++;
        respond_index(h, req);
    } else {
        http_respond_error(req, 404, "404 page not found\n");
    }
}

static int on_url(http_parser *p, const char *at, size_t len)
{
    struct http_conn *c = p->data;
    buf_append(&c->url, at, len); /* Bounded with the request. */
    return 0;
}

static int on_complete(http_parser *p)
{
    struct http_conn *c = p->data;
    c->is_complete = true;
    http_parser_pause(p, 1);
    return 0;
}

static const http_parser_settings settings = {.on_url = on_url, .on_message_complete = on_complete};

/* Parse what waits, one request at a time. */
static void serve_next(struct http_conn *c)
{
    c->is_serving = true;
    while (!c->is_closing && c->req == NULL && !c->is_last && c->pending.len > 0) {
        size_t n = http_parser_execute(&c->parser, &settings, (const char *)c->pending.ptr,
                                       c->pending.len);
        enum http_errno e = HTTP_PARSER_ERRNO(&c->parser);
        c->request_bytes += n;
        if (e == HPE_PAUSED && c->is_complete) {
            http_parser_pause(&c->parser, 0);
            buf_consume(&c->pending, n);
            dispatch(c);
            continue; /* Unless the answer comes later. */
        }
        if (e != HPE_OK || c->parser.upgrade || c->request_bytes > HTTP_REQUEST_BYTES_MAX) {
            static const char bad[] =
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
                "Connection: close\r\n\r\n400 Bad Request";
            c->is_last = true;
            struct buf out = BUF_EMPTY;
            buf_append_str(&out, bad);
            conn_write(c, out);
            break;
        }
        buf_consume(&c->pending, n);
    }
    c->is_serving = false;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    (void)suggested;
    struct http_conn *c = handle->data;
    *ret_buf = uv_buf_init(c->read_buf, sizeof c->read_buf);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct http_conn *c = s->data;
    if (n < 0 || c->pending.len + (size_t)n > HTTP_REQUEST_BYTES_MAX) {
        conn_close(c);
        return;
    }
    buf_append(&c->pending, buf->base, (size_t)n);
    struct watchdog_at was = loop_enter(c->http->ctx->loop, WATCHDOG_MONITOR, 0);
    serve_next(c);
    loop_leave(c->http->ctx->loop, was);
}

static void on_connection(uv_stream_t *s, int status)
{
    struct http *h = s->data;
    if (status != 0) {
        return;
    }
    uv_loop_t *uv = loop_uv(h->ctx->loop);
    struct http_conn *c = xcalloc(1, sizeof *c);
    c->http = h;
    uv_tcp_init(uv, &c->tcp);
    uv_timer_init(uv, &c->timer);
    c->handles_open = 2;
    c->tcp.data = c;
    c->timer.data = c;
    http_parser_init(&c->parser, HTTP_REQUEST);
    c->parser.data = c;
    list_init(&c->link);
    list_push_back(&h->conns, &c->link);
    h->conns_count++;
    if (uv_accept(s, (uv_stream_t *)&c->tcp) != 0 || h->conns_count > HTTP_CONNECTIONS_MAX) {
        conn_close(c);
        return;
    }
    /* Not restarted by a trickle of bytes: a request has so long. */
    uv_timer_start(&c->timer, on_timeout, HTTP_REQUEST_TIMEOUT_MS, 0);
    uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
}

int http_listen(struct http *h)
{
    const struct node_options *o = h->ctx->options;
    int rv = uv_address_listen(loop_uv(h->ctx->loop), &h->listener, o->http_host,
                               o->http_port < 0 ? 0 : o->http_port, 128, on_connection, h,
                               &h->ctx->http_port);
    h->is_listening = rv == 0;
    return rv;
}

void http_stop(struct http *h)
{
    if (h->is_listening) {
        h->is_listening = false;
        uv_close((uv_handle_t *)&h->listener, NULL);
    }
    LIST_FOR_SAFE(it, tmp, &h->conns)
    {
        conn_close(container_of(it, struct http_conn, link));
    }
}
