/* Pull requests passed on, and what their clients hear when the leader goes. */
#ifndef CLUSTER_JS_PULL_H
#define CLUSTER_JS_PULL_H
#include <stdint.h>

#include "storage/base/slice.h"

struct js;

/* A pull request of a client of this node was sent to @leader. */
void js_pull_passed_on(struct js *js, uint64_t gid, uint64_t leader, struct slice inbox,
                       struct slice body);
/* A message, a status came for @inbox. */
void js_pull_delivered(struct js *js, struct slice inbox);
void js_pull_status(struct js *js, struct slice inbox, struct slice header);
/* @node_id leads the stream now. */
void js_pull_leader(struct js *js, uint64_t gid, uint64_t node_id);
void js_pull_peer_down(struct js *js, uint64_t node_id);
/* Streams of which a pull was passed on to @node_id are waited for (js_wait.h). */
void js_pull_mark_waiting(struct js *js, uint64_t node_id);
void js_pull_tick(struct js *js);
void js_pull_close(struct js *js);
#endif
