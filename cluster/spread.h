/* Which leadership is to move so that no node leads far more streams than its share. Pure.
 *
 * The share is the number of streams with a leader by the number of nodes that may lead, rounded
 * up. A node gives one away when it leads more than its share and an eighth, to a replica on a node
 * that leads at least two fewer: each move makes the difference smaller, so they end. Which: the
 * one that gains most; of those the one that was led longest, so that what just moved rests; then
 * the lowest gid. */
#ifndef CLUSTER_SPREAD_H
#define CLUSTER_SPREAD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPREAD_REPLICAS_MAX 16

struct spread_node {
    uint64_t node_id;
    bool is_fit;    /* May be given more. */
    size_t leaders; /* Filled in by spread_choose. */
};

struct spread_stream {
    uint64_t gid;
    uint64_t leader; /* 0: none known. */
    uint64_t nodes[SPREAD_REPLICAS_MAX];
    size_t nodes_count;
    uint64_t led_ms; /* For how long. */
    bool is_movable; /* It has rested, and no attempt failed of late. */
};

struct spread_move {
    uint64_t gid;
    uint64_t from;
    uint64_t to;
};

/* Does one of the nodes lead more than a share and an eighth? For a look before all is gathered. */
bool spread_is_uneven(size_t leaders_max, size_t leaders_sum, size_t nodes_count);
/* False: nothing is to move. At most PEERS_MAX + 1 nodes; leaders on others are not counted. */
bool spread_choose(struct spread_node *nodes, size_t nodes_count,
                   const struct spread_stream *streams, size_t streams_count,
                   struct spread_move *ret_move);
#endif
