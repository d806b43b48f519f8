/* Requests under way, asked again when their leader is gone. */
#ifndef CLUSTER_JS_CALLS_H
#define CLUSTER_JS_CALLS_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/slice.h"

struct js;
struct js_api_call;
struct router_msg;

/* The request was handed to @node_id, as meta's leader of @term, or as a stream's leader (0). */
void js_calls_sent(struct js *js, const struct js_api_call *call, uint64_t node_id, uint64_t term,
                   const struct router_msg *msg);
/* A client of this node asks, to be answered at @inbox. */
void js_calls_asked(struct js *js, struct slice inbox);
/* A reply is about to go to @inbox: false if one went there already. */
bool js_calls_answered(struct js *js, struct slice inbox);
/* @is_now: a leader may have changed. */
void js_calls_tick(struct js *js, bool is_now);
void js_calls_close(struct js *js);
#endif
