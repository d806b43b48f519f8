/* What only the leader of a stream does: deliveries, administration, effects. */
#ifndef CLUSTER_JS_LEADER_H
#define CLUSTER_JS_LEADER_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/hash.h"
#include "storage/base/list.h"
#include "storage/base/slice.h"

struct effect_reply;
struct group_role;
struct js;
struct js_stream;
struct meta_asker;
struct router_msg;
struct stream_config;

/* An administrative request that waits for its op to be applied. */
struct js_request {
    uint64_t id;
    uint64_t node_id; /* Who asked, */
    char *inbox;      /* and where the answer goes; NULL: nobody waits. */
    char *name;       /* Consumer, where it matters. */
    const char *type; /* Of the reply. */
    uint64_t meta_index;
    bool is_create;
    UT_hash_handle hh; /* By id. */
    struct list link;  /* In created_for. */
};

void js_leader_open(struct js_stream *st); /* The machine is there. */
/* The replica's role or term changed. */
void js_leader_role(struct js_stream *st, const struct group_role *role);
void js_leader_effects(struct js_stream *st, uint64_t token);
/* Something is to do for the stream at the end of this turn. */
void js_leader_turn_wanted(struct js_stream *st);
void js_leader_turns(struct js *js); /* LOOP_PHASE_PROPOSE */
void js_leader_tick(struct js *js);
void js_leader_lost(struct js_stream *st, uint64_t token);
/* The stream is deleted: tell those who wait for its messages. */
void js_leader_deleted(struct js_stream *st);
void js_leader_close(struct js_stream *st);
/* Answer a publish. */
void js_leader_answer(struct js_stream *st, const struct effect_reply *e);
/* So much is under way that a request must be turned away. */
bool js_leader_is_busy(const struct js_stream *st);
void js_leader_ack(struct js_stream *st, uint64_t node_id, const struct router_msg *msg);
/* A request whose op is appended now; fill in the rest. */
struct js_request *js_leader_request(struct js_stream *st, uint64_t node_id, struct slice inbox,
                                     const char *type);

/* Answer a stream's creation with its info, now or when it is led; takes @r over. */
void js_leader_answer_created(struct js_stream *st, struct js_request *r);
/* Meta has a new configuration for the stream. */
void js_leader_config(struct js_stream *st, const struct stream_config *config,
                      const struct meta_asker *asker, uint64_t meta_index);
#endif
