/* Which nodes get replicas. */
#ifndef CLUSTER_JS_API_PLACE_H
#define CLUSTER_JS_API_PLACE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/meta.h"

struct api_error;
struct js;
struct js_api_call;
struct stream_config;

/* Nodes for @wanted replicas of @s: those in @nodes, which stay, and others for the rest of them,
 * but not @except. False: too few are fit; *count says how many there are then. */
bool js_api_add_nodes(struct js *js, const struct meta_stream *s, uint64_t nodes[META_REPLICAS_MAX],
                      size_t *count, size_t wanted, uint64_t except);
/* Whether all servers know what @config asks for; else the request is refused. */
bool js_api_knows_config(struct js *js, const struct stream_config *config,
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
#endif
