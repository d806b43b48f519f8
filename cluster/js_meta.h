/* The meta group: who is there, which streams, where. */
#ifndef CLUSTER_JS_META_H
#define CLUSTER_JS_META_H
#include <stdbool.h>
#include <stdint.h>

#include "broker/meta.h"
#include "storage/base/slice.h"

struct group_member;
struct js;

int js_meta_start(struct js *js);
void js_meta_stop(struct js *js);
/* Propose an entry made by meta_encode_*. ERR_NOTLEADER and what group_propose says. */
int js_meta_propose(struct js *js, struct slice entry);
void js_meta_tick(struct js *js);
/* Create the group: this node is one of the first members, with @raft_id. */
int js_meta_birth(struct js *js, const struct group_member *members, unsigned members_count,
                  uint64_t raft_id);
/* An empty replica of meta, in a cluster that there is. */
int js_meta_join(struct js *js, uint64_t raft_id);
/* Items of the store into a new machine. */
int js_meta_load(struct js *js, const struct meta_events *events);

const char *js_node_name(struct js *js, uint64_t node_id);
/* This node, or one that is connected. */
bool js_node_is_up(struct js *js, uint64_t node_id);
void js_peer_id(struct js *js, uint64_t node_id, char ret_text[9]);
#endif
