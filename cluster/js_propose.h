/* Ops of a leader become entries: open batch, what waits behind it, publishes of lanes. */
#ifndef CLUSTER_JS_PROPOSE_H
#define CLUSTER_JS_PROPOSE_H
#include <stdbool.h>
#include <stdint.h>

struct effect_reply;
struct js_stream;
struct router_msg;

/* A leadership begins: LEAD is the first op. What was gathered before is void. */
void js_propose_begin(struct js_stream *st);
void js_propose_close(struct js_stream *st);
/* Ops were appended to st->batch: to be called after each. */
void js_propose_grown(struct js_stream *st);
void js_propose_turn(struct js_stream *st);
/* The group takes nothing, and much waits. */
bool js_propose_is_full(const struct js_stream *st);
/* An answer of this leadership is carried out. */
void js_propose_answered(struct js_stream *st, const struct effect_reply *e);
/* A message from an origin's lane. Slices are borrowed. */
void js_propose_publish(struct js_stream *st, uint64_t node_id, uint64_t origin, uint64_t n,
                        const struct router_msg *msg);
#endif
