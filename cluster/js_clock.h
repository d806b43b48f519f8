/* Which time it is. */
#ifndef CLUSTER_JS_CLOCK_H
#define CLUSTER_JS_CLOCK_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct js;
struct js_stream;

void js_clock_tick(struct js *js);
/* The agreed time, or this node's while there is none. */
int64_t js_now_ns(const struct js *js);
/* What the stream's log says it is: for stamps, and for all that is due by them. */
int64_t js_stream_now_ns(struct js_stream *st);
/* The machine took an entry. */
void js_stream_time_applied(struct js_stream *st);
/* Of a new leader: log what its clients should know. */
void js_clock_tell_stream(struct js_stream *st);
/* Behind LEAD in the open batch: whether the time is known is seen when that is applied. */
void js_clock_lead(struct js_stream *st);
/* The leader has applied an entry of its own. */
void js_clock_applied(struct js_stream *st);
/* Looks whether what is known of the time has changed; true: there is an op in the open batch. */
bool js_clock_leads(struct js_stream *st);
json_t *js_clock_json(struct js *js);
#endif
