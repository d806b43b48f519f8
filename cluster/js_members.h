/* Replicas that come and go. */
#ifndef CLUSTER_JS_MEMBERS_H
#define CLUSTER_JS_MEMBERS_H
#include <stdbool.h>
#include <stdint.h>

struct js;
struct js_stream;
struct meta_stream;
struct reader;

#define JS_MEMBERS_TOKEN UINT64_MAX /* Of its ReadIndex; others have one of js_next_id(). */
void js_members_tick(struct js *js);
/* The leadership of the stream is proven, or not. */
void js_members_read_done(struct js_stream *st, bool is_ok);
/* Items for the leader of meta. */
void js_members_take(struct js *js, struct reader *r);
void js_members_take_lost(struct js *js, uint64_t node_id, struct reader *r);
/* Ask meta's leader to replace the replica here; again as long as it has not. */
void js_members_tell_lost(struct js_stream *st, const struct meta_stream *s);
/* A replica that may have lost something of its log is told who may be a member of its group, once
 * meta here is level: until then it neither votes nor leads (raft/vote.c, G19). */
void js_members_tell_known(struct js_stream *st, const struct meta_stream *s);
/* The replica is not wanted here, and is no member of its group. */
bool js_members_may_leave(const struct js_stream *st, const struct meta_stream *s);
#endif
