/* The process: `struct node` owns every part and is visible in node.c only.
 *
 * What parts share is a node_context: options, the parts they need, facts about the node. Parts
 * never see the node itself. A module that attaches (JetStream) is given the context too. */
#ifndef CLUSTER_NODE_H
#define CLUSTER_NODE_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/slice.h"

#define NODE_VERSION "2.10.29" /* The reference version whose features weir has. */
#define NODE_PROTO 1
#define NODE_API_LEVEL 0

struct clients;
struct http;
struct loop;
struct node;
struct node_options;
struct peers;
struct router;

/* Facts and parts. Pointers are set before any part starts and hold until the node is freed. */
struct node_context {
    const struct node_options *options; /* May point to new ones after a reload. */
    struct loop *loop;
    struct router *router;
    struct clients *clients;
    struct peers *peers; /* NULL without a cluster block. */
    struct http *http;   /* Handlers may be added even when it does not listen. */

    char server_id[57];
    const char *server_name;  /* server_id when none is configured. */
    const char *cluster_name; /* "" without cluster. */
    uint8_t uuid[16];
    uint64_t node_id;    /* First 8 bytes of uuid, little-endian; never 0. */
    uint64_t boot_count; /* Starts of this identity, from 1. */
    int64_t start_ns;

    int client_port; /* As bound. */
    int cluster_port;
    int http_port;
    bool is_lame_duck;
    bool is_stopping;
};

/* Start every part; after it the node serves. What prevents that is logged as fatal and ends the
 * process with status 1. @options outlives the node. */
struct node *node_start(struct node_options *options);
/* Run until a signal or node_stop, then close everything. Returns the exit status. */
int node_run(struct node *n);
void node_free(struct node *n);

/* The node's clock and random numbers, for state that is not decided in a log. */
uint64_t node_random(void);
#endif
