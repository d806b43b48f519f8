/* The JSON of the monitoring endpoints that the node itself answers: /varz /connz /routez /subsz
 * /healthz and the index. Others (JetStream) add their own handlers, and parts of /varz and
 * /healthz by the hooks here. */
#ifndef CLUSTER_MONITOR_H
#define CLUSTER_MONITOR_H
#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "storage/base/slice.h"

struct monitor;
struct node_context;
struct http_request;

struct monitor *monitor_new(struct node_context *ctx);
void monitor_free(struct monitor *m);

/* Fill the `jetstream` object of /varz. */
typedef void (*monitor_varz_cb)(void *arg, json_t *jetstream);
void monitor_set_varz_hook(struct monitor *m, monitor_varz_cb cb, void *arg);

/* The part of /healthz that concerns JetStream: what is asked, and the answer. */
struct monitor_health {
    bool is_js_enabled_only;
    bool is_js_meta_only;
    bool has_details;
    const char *account, *stream, *consumer; /* NULL: all. */

    int status;      /* 200 on entry. */
    char error[512]; /* When it is not. */
    json_t *errors;  /* With details: {type, account, stream, consumer, error}. */
};
/* Something is wrong: the first time makes the status and the error, with details each is listed.
 * @stream NULL: it concerns no stream. */
void monitor_health_fail(struct monitor_health *h, int status, const char *type, const char *stream,
                         const char *text);
typedef void (*monitor_health_cb)(void *arg, struct monitor_health *h);
void monitor_set_health_hook(struct monitor *m, monitor_health_cb cb, void *arg);

/* Values as nats-server writes them. */
json_t *monitor_time_json(int64_t ns);     /* RFC 3339 with nanoseconds, UTC. */
json_t *monitor_duration_json(int64_t ns); /* A Go duration: "1.5ms". */
json_t *monitor_uptime_json(int64_t ns);   /* "1d2h3m4s" */
json_t *monitor_sub_json(struct slice subject, struct slice queue, struct slice sid, uint64_t msgs,
                         uint64_t max, uint64_t cid);
json_t *monitor_text_json(struct slice s); /* "?" when it is not UTF-8. */
#endif
