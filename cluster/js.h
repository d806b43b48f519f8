/* JetStream in this node, as the node sees it. Parts: js_internal.h. Loop thread only. */
#ifndef CLUSTER_JS_H
#define CLUSTER_JS_H
#include <stdbool.h>
#include <stdint.h>

struct js;
struct monitor;
struct node_context;

/* Recover WAL and store from <store_dir>/weir and start every group found. Before clients are let
 * in. Logs a fatal line on an error. Returns 0 or ERR_*. */
int js_start(struct node_context *ctx, struct monitor *monitor, struct js **ret_js);
/* Hand leaderships over and flush; blocks for at most about a second. No callback follows. */
void js_stop(struct js *js);
void js_free(struct js *js); /* NULL is fine. */

/* Why JetStream is not healthy, in the words of /healthz; NULL when it is. Valid until the next
 * turn.
 * @only_meta: leave the streams out. */
const char *js_health(struct js *js, bool only_meta);
#endif
