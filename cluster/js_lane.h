/* Publishes from this node to the leaders, numbered and resent. */
#ifndef CLUSTER_JS_LANE_H
#define CLUSTER_JS_LANE_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/hash.h"
#include "storage/base/slice.h"

struct js;
struct meta_stream;
struct router_msg;
struct router_origin;

/* What this node knows of who leads a stream. */
struct js_leader {
    uint64_t gid;
    uint64_t node_id; /* 0: nobody known. */
    uint64_t term;
    uint64_t since_ms;   /* As known here. */
    uint64_t refused_ms; /* When a move away came to nothing, on meta's leader; 0: never. */
    UT_hash_handle hh;
};

bool js_lane_publish(struct js *js, const struct meta_stream *s, const struct router_msg *msg,
                     const struct router_origin *origin);
struct js_answer {
    uint64_t n;
    uint64_t seq;
    int err_code;
    bool is_duplicate;
    bool is_gap;
    bool is_forgotten;
    uint64_t last_n;
    struct slice text;
};
void js_lane_answer(struct js *js, uint64_t gid, const struct js_answer *a);
void js_lane_leader(struct js *js, uint64_t gid, uint64_t node_id, uint64_t term);
/* @node_id, who was known to lead the stream, does so no more. */
void js_lane_leader_lost(struct js *js, uint64_t gid, uint64_t node_id);
/* 0: none known. */
uint64_t js_lane_leader_of(struct js *js, uint64_t gid);
void js_lane_peer_up(struct js *js, uint64_t node_id);
void js_lane_peer_down(struct js *js, uint64_t node_id);
/* A publish of this node's clients to the stream is not answered yet. */
bool js_lane_is_used(struct js *js, uint64_t gid);
/* Every publish of this node's clients that was accepted is answered. */
bool js_lane_is_idle(const struct js *js);
void js_lane_forget(struct js *js, uint64_t gid); /* The stream is gone. */
void js_lane_tick(struct js *js);
void js_lane_close(struct js *js);
#endif
