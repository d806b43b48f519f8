/* Between the files of the JetStream API. Only js_api*.c include this. */
#ifndef CLUSTER_JS_API_H
#define CLUSTER_JS_API_H
#include "broker/api_request.h"
#include "broker/subject.h"
#include "cluster/js_internal.h"

enum js_api_op {
    JS_API_INFO,
    JS_API_STREAM_CREATE,
    JS_API_STREAM_UPDATE,
    JS_API_STREAM_DELETE,
    JS_API_STREAM_NAMES,
    JS_API_STREAM_LIST,
    JS_API_STREAM_INFO,
    JS_API_STREAM_PURGE,
    JS_API_MSG_GET,
    JS_API_MSG_DELETE,
    JS_API_CONSUMER_CREATE,
    JS_API_CONSUMER_DURABLE,
    JS_API_CONSUMER_NAMES,
    JS_API_CONSUMER_LIST,
    JS_API_CONSUMER_INFO,
    JS_API_CONSUMER_DELETE,
    JS_API_MSG_NEXT,
    JS_API_DIRECT_GET,
    JS_API_LIST_INFO,
    JS_API_STREAM_STEPDOWN,
    JS_API_CONSUMER_STEPDOWN,
    JS_API_META_STEPDOWN,
    JS_API_PEER_REMOVE,
    JS_API_SERVER_REMOVE,
};

/* A parsed request. Slices are borrowed. */
struct js_api_call {
    enum js_api_op op;
    uint64_t asker; /* Node of the client. */
    unsigned hops;  /* How often it was sent on, or found nobody who leads. */
    struct slice subject;
    struct slice stream;
    struct slice consumer;
    struct slice rest; /* Filter of CONSUMER.CREATE, subject of DIRECT.GET. */
    struct slice inbox;
    struct slice header;
    struct slice body;
};

/* False: there is no such request. */
bool js_api_parse(struct slice subject, struct js_api_call *ret_call, bool *ret_is_meta);
/* The type of the reply; NULL for those that answer with messages. */
const char *js_api_type(enum js_api_op op);
void js_api_refuse(struct js *js, const struct js_api_call *call, const struct api_error *e);
/* What core NATS says when nobody listens on @subject. */
void js_api_no_responders(struct js *js, uint64_t asker, struct slice inbox, struct slice subject);

/* It looks for its leader again, soon; not for ever. */
void js_api_later(struct js *js, const struct js_api_call *call);
/* ---- js_api_proof.c ---- */
/* Calls @cb when it is proven that @st, or meta (NULL), is led here; else js_api_later. */
typedef void (*js_api_proven_cb)(struct js *js, struct js_stream *st,
                                 const struct js_api_call *call);
void js_api_prove(struct js *js, struct js_stream *st, const struct js_api_call *call,
                  js_api_proven_cb cb);

/* On the leader of the meta group. */
void js_api_meta(struct js *js, const struct js_api_call *call);
/* On the leader of the stream. */
void js_api_stream(struct js_stream *st, const struct js_api_call *call);
/* On the leader of @group, which is asked to hand over. @what names it in the log. */
void js_api_stepdown(struct js *js, const struct js_api_call *call, struct raft_group *group,
                     const char *what);

/* ---- js_calls.c ---- */
/* The request was handed to @node_id, as meta's leader of @term, or as a stream's leader (0). */
void js_calls_sent(struct js *js, const struct js_api_call *call, uint64_t node_id, uint64_t term,
                   const struct router_msg *msg);
/* A client of this node asks, to be answered at @inbox. */
void js_calls_asked(struct js *js, struct slice inbox);
/* A reply is about to go to @inbox: false if one went there already. */
bool js_calls_answered(struct js *js, struct slice inbox);
/* @is_now: a leader may have changed. */
void js_calls_tick(struct js *js, bool is_now);
void js_calls_close(struct js *js);

/* ---- js_api_place.c ---- */
/* Whether all servers know what a placement is; else the request is refused. */
bool js_api_knows_placement(struct js *js, const struct stream_config *config,
                            struct api_error *ret_error);
/* Nodes for a new stream. Returns 0, or an error is set. */
int js_api_place_create(struct js *js, const struct stream_config *config,
                        uint64_t ret_node_ids[META_REPLICAS_MAX], struct api_error *ret_error);
/* Nodes for an update of @old to @config: 0 of them if its replicas stay where they are. Returns 0,
 * or an error is set. */
int js_api_place_update(struct js *js, const struct meta_stream *old,
                        const struct stream_config *config,
                        uint64_t ret_node_ids[META_REPLICAS_MAX], size_t *ret_count,
                        struct api_error *ret_error);
void js_api_peer_remove(struct js *js, const struct js_api_call *call);
void js_api_server_remove(struct js *js, const struct js_api_call *call);

/* STREAM.LIST asks the leaders: one of their answers; false if @inbox is a client's. */
bool js_api_list_arrived(struct js *js, struct slice inbox, struct slice payload);
void js_api_list_tick(struct js *js);
void js_api_list_close(struct js *js);
#endif
