/* Which replicas run on this node: what meta has decided, carried out turn by turn. */
#ifndef CLUSTER_JS_REPLICAS_H
#define CLUSTER_JS_REPLICAS_H
#include <stdbool.h>
#include <stdint.h>

struct group_found;
struct js;
struct js_request;
struct meta_stream;

/* A replica of @s is to be here. */
bool js_replicas_is_here(const struct js *js, const struct meta_stream *s);
/* One is to run: also one that is on its way out, and may be a voter still. */
bool js_replicas_is_to_run(struct js *js, const struct meta_stream *s);
/* What the WAL knew of a group when it was opened. */
bool js_group_found(struct js *js, uint64_t gid, struct group_found *ret_found);

/* At the start of the node: streams that meta's durable state knows as deleted leave nothing. */
void js_replicas_discard_gone(struct js *js);
/* Likewise: what the WAL knows goes on, also if it is to leave; what it does not know is new, or
 * lost. */
void js_replicas_start_found(struct js *js, const struct meta_stream *s);

/* At the end of the turn the stream's replica starts, unless it runs; @created_for, NULL or taken
 * over, is answered once it leads. */
void js_replicas_start(struct js *js, uint64_t gid, struct js_request *created_for);
/* The stream is gone, and so is its replica at the end of the turn. */
void js_replicas_end(struct js *js, uint64_t gid);
/* The replica here goes, its stream stays. */
void js_replicas_leave(struct js *js, uint64_t gid);
/* Carry out what was asked for; not from inside a callback of the host. */
void js_replicas_carry_out(struct js *js);
/* Every CREATE is durable that meta's durable state may rest on. */
bool js_replicas_are_born(const struct js *js);
/* Say once of each lost replica that it is. */
void js_replicas_tell_losses(struct js *js);
/* Forget what was not carried out. */
void js_replicas_stop(struct js *js);
#endif
