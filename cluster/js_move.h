/* Leaderships handed over: to whom, and all of them before a stop. */
#ifndef CLUSTER_JS_MOVE_H
#define CLUSTER_JS_MOVE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct js;
struct peers_info;
struct placement;
struct raft_group;

enum js_move {
    JS_MOVE_NONE,   /* Not led here, or it has no other member. */
    JS_MOVE_NOBODY, /* No other node could take it. */
    JS_MOVE_LATER,  /* Nobody can now. */
    JS_MOVE_BEGUN,  /* Now, or before. */
};
/* If the group is led here, hand it to who is best for it. To be tried again until it is not. */
enum js_move js_move_away(struct js *js, struct raft_group *group);
/* The same among those that have all the tags, in this cluster. */
enum js_move js_move_where(struct js *js, struct raft_group *group, const struct placement *where);
/* To the voter on @node_id, by the caller's choice. */
enum js_move js_move_to(struct js *js, struct raft_group *group, uint64_t node_id);
/* Its disk is slow or its clock wrong. */
bool js_move_is_poor(const struct peers_info *info);
bool js_move_is_poor_here(const struct js *js);
/* Is the replica on @node_id a voter with all of the log, on a node that is up, stays and is not
 * slow? On the leader. */
bool js_move_is_fit(struct js *js, struct raft_group *group, uint64_t node_id);
/* How many streams the node leads, as far as known here. */
size_t js_move_load(struct js *js, uint64_t node_id);
void js_move_tick(struct js *js);
#endif
