/* The monitoring port: HTTP/1.1 GET (any method is served), JSON bodies. Implemented by uv_http.c.
 *
 * A handler is registered for a path and fills the response; it may answer later by keeping the
 * request and calling http_respond. Requests are bounded in bytes, number and time. */
#ifndef CLUSTER_HTTP_H
#define CLUSTER_HTTP_H
#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "storage/base/buf.h"
#include "storage/base/slice.h"

#define HTTP_REQUEST_BYTES_MAX 16384
#define HTTP_CONNECTIONS_MAX 256
#define HTTP_REQUEST_TIMEOUT_MS 10000 /* To send a request, and between two. */
#define HTTP_WRITE_TIMEOUT_MS 30000
#define HTTP_PARAMS_MAX 32

struct http;
struct http_request;
struct node_context;

/* Answer @req now, or later from the loop with http_respond*, exactly once. If the connection ends
 * first, the answer is thrown away; @req stays valid until it is answered. */
typedef void (*http_handler_cb)(void *arg, struct http_request *req);

struct http *http_new(struct node_context *ctx);
void http_free(struct http *h);
int http_listen(struct http *h); /* 0 or ERR_IO, with errno. */
void http_stop(struct http *h);

/* Serve @path (a literal that lives as long). Counted in /varz http_req_stats. @title, if not NULL,
 * shows it on the index page. The last registration of a path wins. */
void http_handle(struct http *h, const char *path, const char *title, http_handler_cb cb,
                 void *arg);

/* The decoded value of a query parameter, or NULL. `?subs` is "". Belongs to the request. */
const char *http_param(const struct http_request *req, const char *name);
/* A boolean parameter: absent is false, `1 t T true TRUE True` true, `0 f F false ...` false;
 * anything else is answered with 400 and returns ERR_INVALID (then do not respond again). */
int http_param_bool(struct http_request *req, const char *name, bool *ret_value);
/* A number; absent leaves @ret_value. Else as http_param_bool. */
int http_param_u64(struct http_request *req, const char *name, uint64_t *ret_value);
/* The same for an offset or a limit, which the reference refuses in other words. */
int http_param_count(struct http_request *req, const char *name, uint64_t *ret_value);

void http_respond(struct http_request *req, int status, const char *content_type,
                  struct slice body);
/* Two-space indented JSON; @body is released. */
void http_respond_json(struct http_request *req, int status, json_t *body);
/* `400` with a plain text. */
void http_respond_error(struct http_request *req, int status, const char *text);
/* A long answer in pieces: begin, any number of pieces, end. @drained is called when less than
 * 1 MiB waits to be sent; false from it or a lost connection ends the answer. */
typedef bool (*http_drained_cb)(void *arg);
void http_stream_begin(struct http_request *req, const char *content_type, http_drained_cb drained,
                       void *arg);
/* ERR_CLOSED when the connection has ended: stop, and call http_stream_end. */
int http_stream_write(struct http_request *req, struct slice piece);
void http_stream_end(struct http_request *req);

/* Add `path: count` of every request served to @object. */
void http_request_stats(const struct http *h, json_t *object);
#endif
