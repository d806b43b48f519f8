/* $JS.API, wherever it is asked: what other parts of JetStream see of it. */
#ifndef CLUSTER_JS_API_H
#define CLUSTER_JS_API_H
#include <stdint.h>

#include "storage/base/slice.h"

struct api_paging;
struct buf;
struct js;
struct js_stream;
struct router_msg;

int js_api_start(struct js *js);
void js_api_close(struct js *js);
void js_api_tick(struct js *js);
/* See to a request of @asker's client: answer it here, or send it on to who can. @hops counts how
 * often it was. */
void js_api_route(struct js *js, uint64_t asker, unsigned hops, const struct router_msg *msg);
/* Send @payload to @inbox on @node_id, once that node has applied @meta_index. */
void js_api_reply(struct js *js, uint64_t node_id, struct slice inbox, uint64_t meta_index,
                  struct slice header, struct slice payload);
/* The same by way of @by_node_id, which passes it on when it has applied @meta_index too. */
void js_api_reply_by(struct js *js, uint64_t by_node_id, uint64_t node_id, struct slice inbox,
                     uint64_t meta_index, struct slice header, struct slice payload);
void js_api_reply_arrived(struct js *js, uint64_t for_node_id, struct slice inbox,
                          uint64_t meta_index, struct slice header, struct slice payload);
/* The meta index moved, or a leader is known: see to what waits. */
void js_api_wake(struct js *js);
/* What core NATS says when nobody listens on @subject. */
void js_api_no_responders(struct js *js, uint64_t asker, struct slice inbox, struct slice subject);
/* Info of a stream with a replica here, into an open reply. Of a stream that another node leads it
 * is what this replica knows. */
void js_api_print_stream(struct js_stream *st, struct buf *out, const struct api_paging *detail);
/* The replicas of a stream led here, as a list. */
void js_api_print_replicas(struct js_stream *st, struct buf *out);
void js_api_print_consumer(struct js_stream *st, struct slice name, struct buf *out);
#endif
