/* A few nodes with the production group host, each on a WAL on a disk in memory, with frames handed
 * over directly, and a small machine: a hash over the commands, in index order. */
#ifndef TESTS_UNIT_RAFT_WORLD_H
#define TESTS_UNIT_RAFT_WORLD_H
#include "raft/host.h"
#include "storage/base/list.h"
#include "tests/lib/sim_disk.h"

#define WORLD_NODES 6
#define WORLD_GROUPS 4
#define WORLD_INDEXES 20000

struct world;

/* The machine of one replica, and what its store holds durably. */
struct machine {
    struct world *world;
    unsigned node;
    uint64_t gid;
    struct raft_group *group;
    uint64_t raft_id;
    /* Lost in a crash. */
    struct group_base applied;
    uint64_t hash;
    struct group_role role;
    uint64_t commands;
    uint64_t own;  /* Commands with a token. */
    uint64_t lost; /* Tokens that ended without apply. */
    uint64_t last_token;
    uint64_t reads_ok, reads_failed, read_index;
    /* Durable. */
    struct group_base base;
    uint64_t base_hash;
    bool exists;
    bool is_flush_refused; /* flush_wanted comes to nothing. */
    bool is_halted;        /* It applies nothing; see group_halt(). */
};

struct world_frame {
    struct list link;
    unsigned from, to;
    enum host_lane lane;
    struct buf bytes;
};

struct world_node {
    struct world *world;
    unsigned number; /* Node id is number + 1. */
    struct sim_disk *disk;
    struct wal *wal;
    struct raft_host *host;
    bool is_up;
    bool is_disk_stuck; /* Nothing becomes durable. */
    struct machine machines[WORLD_GROUPS];
};

struct world {
    uint64_t now_ms;
    uint64_t rng;
    unsigned nodes_count;
    struct host_options options;
    struct world_node nodes[WORLD_NODES];
    struct list frames;
    bool is_cut[WORLD_NODES][WORLD_NODES];
    uint64_t image_part_bytes; /* Size of the second part of images. */
    uint64_t segment_bytes;
    /* The hash after each index, as first applied by anyone: all must agree. */
    uint64_t hashes[WORLD_GROUPS][WORLD_INDEXES];
    bool has_hash[WORLD_GROUPS][WORLD_INDEXES];
    unsigned alarms;
    unsigned frames_sent;
};

void world_open(struct world *w, unsigned nodes_count, const struct host_options *options);
void world_close(struct world *w);

/* Create group @gid (1 to WORLD_GROUPS) with voters on the nodes of @mask; raft id = gid * 100 +
 * node id. */
void world_create(struct world *w, uint64_t gid, unsigned mask);
struct machine *world_machine(struct world *w, unsigned node, uint64_t gid);
/* An empty replica under this raft id. */
void world_join(struct world *w, unsigned node, uint64_t gid, uint64_t raft_id);

/* Run @ms of time in steps of 10 ms: frames, disks, ticks, turns. */
void world_run(struct world *w, uint64_t ms);
/* A node of three that does not lead. */
unsigned world_follower_of(int leader);
/* Until the group has a leader that accepts proposals; its node, or -1 after @ms. */
int world_leader(struct world *w, uint64_t gid, uint64_t ms);
/* Until all replicas that run have applied the same and at least @index; false after @ms. */
bool world_level(struct world *w, uint64_t gid, uint64_t index, uint64_t ms);
/* Propose @count commands of @bytes at the leader, running in between; false if it is refused. */
bool world_propose(struct world *w, uint64_t gid, unsigned count, size_t bytes);

/* Cut @node off from all others, or connect it again. */
void world_cut(struct world *w, unsigned node, bool is_cut);
/* Let @node hear entries of a made-up leader, the replica on @from, that differ from what it
 * applied. */
void world_diverge(struct world *w, unsigned node, uint64_t gid, unsigned from);
/* Lose memory and what the disk had not synced. */
void world_crash(struct world *w, unsigned node);
/* Tell the others it is down. */
void world_tell_down(struct world *w, unsigned node);
void world_start(struct world *w, unsigned node);
/* Lose the disk too. */
void world_wipe(struct world *w, unsigned node);
/* Flush the machine's store: base = applied, and tell the host. */
void world_flush(struct world *w, unsigned node, uint64_t gid);
/* One line per replica, for a test that puzzles. */
void world_dump(struct world *w, uint64_t gid);
#endif
