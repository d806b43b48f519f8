/* JetStream in this node, as the node sees it. Parts: js_internal.h. Loop thread only. */
#ifndef CLUSTER_JS_H
#define CLUSTER_JS_H
#include <stdbool.h>
#include <stdint.h>

struct js;
struct monitor;
struct node_context;

/* Before anything is written below @store_dir: on a full disk the reserve gives way. */
void js_make_room(const char *store_dir);
/* Recover WAL and store from <store_dir>/weir and start every group found. Before clients are let
 * in. Logs a fatal line on an error. Returns 0 or ERR_*. */
int js_start(struct node_context *ctx, struct monitor *monitor, struct js **ret_js);
/* ctx->is_lame_duck was set: hand all leaderships over to nodes that can take them. */
void js_leave(struct js *js);
/* How many are still to go; those in *@ret_kept nobody can take. */
unsigned js_leave_left(const struct js *js, unsigned *ret_kept);
/* Every publish that clients of this node were heard to send is answered. */
bool js_is_quiet(const struct js *js);
/* The clients are about to be closed: whoever waits for messages of a stream that is led here still
 * hears `409 Server Shutdown`. No pull is taken any more. */
void js_end_pulls(struct js *js);
/* Write what is gathered, to the log; blocks until the disk has it. No callback follows. */
void js_stop(struct js *js);
void js_free(struct js *js); /* NULL is fine. */
#endif
