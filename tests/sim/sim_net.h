/* The network between the simulated nodes.
 *
 * Each pair of nodes has one connection, each direction and lane of it a queue: first in, first
 * out, with a delay drawn per frame. What is lost, is lost with its connection; frames of a closed
 * connection may still arrive late, twice, or behind those of the next one. A cut direction holds
 * its frames until it heals or the connection is given up (half-open). Seeds with strays also lose,
 * double and reorder single frames: more than TCP would, but the guard must bear it.
 *
 * A node learns of another: up when a connection stands; down when it closed and connecting again
 * was refused, or after 600 ms without a heartbeat (raft-guide 7.6). A closed connection alone is
 * no news. */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/slice.h"
#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_rng.h"

#define SIM_NODES_MAX 8u
#define SIM_LANES 3u /* Raft, bulk, client. */
#define SIM_LANE_CLIENT 2u

struct sim_net_options {
    unsigned nodes_count;
    int64_t delay_min_us;
    int64_t delay_max_us;
    unsigned slow_per_mille; /* Of the frames are delayed up to slow_max_us. */
    int64_t slow_max_us;
    unsigned stray_per_mille; /* Of the frames are lost, doubled or reordered. */
    bool has_late_frames;     /* Frames of a closed connection may arrive later. */
    bool is_datagram;         /* No order at all: each frame has its own delay. */
};

/* What the network wants to know of the nodes, and tells them. */
struct sim_net_env {
    void *ctx;
    bool (*is_running)(void *ctx, unsigned node); /* Its process is there. */
    bool (*is_paused)(void *ctx, unsigned node);  /* It is there, but gets no processor. */
    bool (*is_healthy)(void *ctx, unsigned node); /* WAL and loop make progress. */
    /* Heartbeats say that the WAL makes none; else they stop meanwhile. */
    bool tells_stuck;
    void (*stuck)(void *ctx, unsigned node, unsigned peer, bool is_stuck);
    void (*frame)(void *ctx, unsigned from, unsigned to, unsigned lane, struct slice bytes);
    void (*peer)(void *ctx, unsigned node, unsigned peer, bool is_up);
};

struct sim_net;

struct sim_net *sim_net_new(const struct sim_net_options *options, struct sim_clock *clock,
                            struct sim_rng rng, const struct sim_net_env *env);
void sim_net_free(struct sim_net *net);

/* Queue a frame; dropped when there is no connection. The bytes are copied. */
void sim_net_send(struct sim_net *net, unsigned from, unsigned to, unsigned lane,
                  struct slice bytes);

/* A process began: it connects to all others. */
void sim_net_node_up(struct sim_net *net, unsigned node);
/* A process ended. Unless the @machine went with it, its kernel still delivers what it had sent,
 * and refuses connections; a lost machine is just silent. */
void sim_net_node_down(struct sim_net *net, unsigned node, bool is_machine);

/* Cut or heal one direction. */
void sim_net_cut(struct sim_net *net, unsigned from, unsigned to, bool is_cut);
void sim_net_heal_all(struct sim_net *net);
bool sim_net_is_cut(const struct sim_net *net, unsigned from, unsigned to);
/* Close the connection of two nodes; they connect again by themselves. */
void sim_net_close_connection(struct sim_net *net, unsigned a, unsigned b);
/* From now on frames are neither lost nor slow: the faults have ended. */
void sim_net_calm(struct sim_net *net);
/* Frames under way, all queues. */
unsigned sim_net_frames_count(const struct sim_net *net);
#endif
