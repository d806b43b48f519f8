/* The meta group: who is there, which streams, where. */
#ifndef CLUSTER_JS_META_H
#define CLUSTER_JS_META_H
#include <stdbool.h>
#include <stdint.h>

#include "broker/meta.h"
#include "storage/base/slice.h"

struct group_found;
struct group_member;
struct js;

int js_meta_start(struct js *js);
void js_meta_stop(struct js *js);
/* The stream that a subject belongs to, or NULL. */
const struct meta_stream *js_meta_stream_of(struct js *js, struct slice subject);
/* Propose an entry made by meta_encode_*. ERR_NOTLEADER and what group_propose says. */
int js_meta_propose(struct js *js, struct slice entry);
void js_meta_tick(struct js *js);
/* Create the group: this node is one of the first members, with @raft_id. */
int js_meta_birth(struct js *js, const struct group_member *members, unsigned members_count,
                  uint64_t raft_id);
/* The replica here goes, its stream stays: outside of the host's callbacks. */
void js_meta_leave(struct js *js, uint64_t gid);
/* An empty replica of meta, in a cluster that there is. */
int js_meta_join(struct js *js, uint64_t raft_id);
/* Start and end replicas as meta has decided; not from inside a callback of the host. */
void js_meta_actions(struct js *js);
/* Every CREATE is durable that meta's durable state may rest on. */
bool js_meta_is_born(const struct js *js);
struct meta_events js_meta_events(struct js *js);
/* The replica of @s, if it is to be here, starts at the end of the turn; or ends. */
void js_meta_begin_stream(struct js *js, const struct meta_stream *s);
void js_meta_end_stream(struct js *js, const struct meta_stream *s);
/* The stream's description was replaced: @old points to what is gone soon. */
void js_meta_replace_stream(struct js *js, const struct meta_stream *old,
                            const struct meta_stream *s);
/* Items of the store into a new machine. */
int js_meta_load(struct js *js, const struct meta_events *events);

/* What the WAL knew of a group when it was opened. */
bool js_group_found(struct js *js, uint64_t gid, struct group_found *ret_found);
const char *js_node_name(struct js *js, uint64_t node_id);
/* This node, or one that is connected. */
bool js_node_is_up(struct js *js, uint64_t node_id);
void js_peer_id(struct js *js, uint64_t node_id, char ret_text[9]);
#endif
