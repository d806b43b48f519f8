/* Whether there is room on the disk. */
#ifndef CLUSTER_JS_RESERVE_H
#define CLUSTER_JS_RESERVE_H
#include <stdbool.h>
#include <stdint.h>

struct js;
struct js_stream;

/* Before the log is opened: it may need the room. */
void js_reserve_start(struct js *js);
void js_reserve_close(struct js *js);
void js_reserve_tick(struct js *js);
/* Whether publishes to a stream that this node leads are refused for want of room. */
bool js_reserve_refuses(const struct js_stream *st);
/* How much of them is taken now: what is unflushed, here or at a member, is more than its disk
 * writes soon, or all that memory is to hold. */
enum js_room { JS_ROOM_ALL, JS_ROOM_LITTLE, JS_ROOM_NONE };
enum js_room js_reserve_room(const struct js_stream *st);
/* The reserve on a disk of @total_bytes; @option_bytes as configured, -1: not. */
uint64_t js_reserve_of(int64_t option_bytes, uint64_t total_bytes);
#endif
