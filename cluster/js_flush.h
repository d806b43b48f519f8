/* The flush ladder of all streams and of meta. */
#ifndef CLUSTER_JS_FLUSH_H
#define CLUSTER_JS_FLUSH_H
#include <stdbool.h>
#include <stdint.h>

#include "cluster/loop.h"

struct js;
struct store_stage;

void js_flush_tick(struct js *js);
/* A pass is under way, or a machine is made of what one put in place: no stream may end. */
bool js_flush_is_busy(const struct js *js);
/* Flush everything soon; returns false if that is so. */
bool js_flush_now(struct js *js);
/* A pass that makes @stage the stream's content; @done(@arg) after it. False: try again later. */
bool js_flush_stage(struct js *js, uint64_t gid, struct store_stage *stage, loop_cb done,
                    void *arg);
/* Blocks are written more slowly than messages come: none are to be taken until it has caught up.
 */
bool js_flush_is_behind(const struct js *js);
/* What is to be written takes the disk a while: few are to be taken. */
bool js_flush_is_lagging(const struct js *js);
/* The WAL is durable up to @lsn. */
void js_flush_durable(struct js *js, uint64_t lsn);
/* Wait for a pass that runs; at shutdown. */
void js_flush_stop(struct js *js);
#endif
