/* One node with the production group host on a WAL in memory, for targets that play its disk or its
 * peers. The node is node 1, its replica of group 1 has raft id 101; nodes 2 and 3 have 102 and
 * 103. The store is a number: it holds everything up to `base`. */
#ifndef TESTS_FUZZ_RAFT_NODE_H
#define TESTS_FUZZ_RAFT_NODE_H
#include "raft/frames.h"
#include "raft/host.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/sim_disk.h"

#define RAFT_GID 1u
#define RAFT_ID(node) (100u + (node))

struct raft_node {
    struct sim_disk *disk;
    struct wal *wal;
    struct raft_host *host;
    struct raft_group *group; /* NULL: not open. */
    uint64_t now_ms;
    uint64_t rng;
    uint64_t token;
    struct group_base base;    /* Of the store. */
    struct group_base applied; /* Given to apply(). */
    struct group_base staged;
    bool is_lazy;             /* Jobs end later, see raft_node_job. */
    struct host_job *jobs[8]; /* Pending. */
    unsigned jobs_count;
    bool has_stage;
    struct buf said; /* The last frame sent. */
};

/* The host, with nothing open. */
void raft_node_open(struct raft_node *n);
/* All records were replayed into n->host. */
void raft_node_recovered(struct raft_node *n);
struct group_options raft_node_options(struct raft_node *n);
void raft_node_close(struct raft_node *n);
/* What is queued for the WAL is durable, turns end. */
void raft_node_settle(struct raft_node *n);
void raft_node_tick(struct raft_node *n, uint64_t ms);
/* The store flushes. */
void raft_node_flush(struct raft_node *n);
/* End a pending job. */
void raft_node_job(struct raft_node *n, int status);
/* What must always hold. */
void raft_node_check(struct raft_node *n);
#endif
