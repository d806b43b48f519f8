/* Streams that somebody waits for are elected before the others (raft/host.h). */
#ifndef CLUSTER_JS_WAIT_H
#define CLUSTER_JS_WAIT_H
#include <stdbool.h>
#include <stdint.h>

struct js;

/* Somebody waits for a leader of the stream, or nobody does any more. */
void js_wait_set(struct js *js, uint64_t gid, bool is_waiting);
/* @node_id is down: look who waits for the streams it led. Before the group host hears of it, which
 * begins the campaigns, and before the lanes and pulls forget whom they waited for. */
void js_wait_peer_down(struct js *js, uint64_t node_id);
#endif
