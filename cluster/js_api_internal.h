/* Between the files of the JetStream API. Only js_api*.c and js_calls.c include this. */
#ifndef CLUSTER_JS_API_INTERNAL_H
#define CLUSTER_JS_API_INTERNAL_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/slice.h"

struct api_error;
struct js;
struct js_stream;
struct raft_group;

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
    JS_API_LIMITS_CHECK,
    JS_API_LIMITS_CHECKED,
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
/* It looks for its leader again, soon; not for ever. */
void js_api_later(struct js *js, const struct js_api_call *call);

/* The same request under another subject of ours: @prefix and the stream's name. */
void js_api_pass_on(struct js *js, const struct js_api_call *call, const char *prefix);

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

/* STREAM.LIST asks the leaders: one of their answers; false if @inbox is a client's. */
bool js_api_list_arrived(struct js *js, struct slice inbox, struct slice payload);
void js_api_list_tick(struct js *js);
void js_api_list_close(struct js *js);
#endif
