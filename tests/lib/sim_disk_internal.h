/* What the files of sim_disk.h share: sim_disk.c (the calls and their faults), sim_disk_tree.c (the
 * tree they change), sim_disk_states.c (the trace and the crash states) and sim_disk_look.c (damage
 * and questions). Inodes have numbers that a replay of the same operations gives again; so a trace
 * can name them. */
#ifndef TESTS_LIB_SIM_DISK_INTERNAL_H
#define TESTS_LIB_SIM_DISK_INTERNAL_H
#include <pthread.h>

#include "tests/lib/sim_disk.h"

struct dir_entry {
    char *name;
    uint32_t ino;
};
struct dir_map {
    struct dir_entry *ptr;
    size_t n;
};
struct image {
    uint8_t *ptr;
    uint64_t len;
    uint64_t cap;
};
struct inode {
    bool is_dir;
    struct dir_map now, kept; /* Of a directory. */
    struct image vol, dur;    /* Of a file. */
    uint8_t *dirty;           /* Per sector of vol. */
    uint64_t dirty_cap;
    bool size_dirty;
};
/* A directory change that no sync_dir has covered yet. */
struct dir_change {
    uint32_t dir, dir2;
    char *from; /* NULL: created. */
    char *to;   /* NULL: removed. */
    uint32_t ino;
};
struct trace_op {
    enum sim_disk_op op; /* OPEN creates a file. */
    bool is_direct;
    uint32_t ino, dir, dir2;
    char *from, *to;
    uint64_t off;
    uint8_t *data;
    uint64_t len;
};
struct fault {
    uint64_t at; /* Call number; 0 = none. */
    int err;
};
struct sim_disk {
    struct file_ops ops;
    pthread_mutex_t lock;
    struct inode **inodes;
    uint32_t inodes_count;
    struct dir_change *changes;
    size_t changes_count;
    uint64_t rng;
    uint64_t epoch; /* Handles of an earlier one are dead. */
    bool has_direct, is_sync_broken, is_tracing;
    uint64_t capacity;
    uint64_t calls[SIM_DISK_OP_COUNT + 1];
    struct fault faults[SIM_DISK_OP_COUNT + 1];
    struct sim_disk *trace_base;
    struct trace_op *trace;
    uint64_t trace_count, trace_cap;
};

/* Decides whether undecided thing number @k stays. */
typedef bool (*keep_fn)(void *arg, uint64_t k);

uint64_t sim_rng(uint64_t *state);

/* ---- sim_disk_tree.c ---- */

#define NO_INODE UINT32_MAX

void sim_map_copy(struct dir_map *to, const struct dir_map *from);
void sim_map_close(struct dir_map *m);
/* What is added reads as zeros. */
void sim_image_resize(struct image *m, uint64_t len);
uint32_t sim_inode_new(struct sim_disk *d, bool is_dir);
void sim_tree_close(struct sim_disk *d);
/* Into a disk that has no inode yet. */
void sim_tree_copy(struct sim_disk *to, const struct sim_disk *from);

/* The directory that holds the last part of @path, and that part ("" for the root itself), as names
 * are now or, with @kept, as a power cut leaves them. NO_INODE if there is none. */
uint32_t sim_walk(const struct sim_disk *d, const char *path, bool kept, char last[256]);
uint32_t sim_lookup(const struct sim_disk *d, const char *path, bool kept);
/* NULL for what is not there, or is a directory. */
struct inode *sim_lookup_file(const struct sim_disk *d, const char *path);
/* Bytes of the files below directory @dir; 0 is the root. */
uint64_t sim_used_bytes(const struct sim_disk *d, uint32_t dir);

/* Apply one recorded operation; @in_flight leaves a write unsynced and does nothing else. */
void sim_replay(struct sim_disk *d, const struct trace_op *op, bool in_flight);
/* What a failed sync leaves: any of the dirty sectors is durable, and none is dirty. */
void sim_lose_sync(struct sim_disk *d, uint32_t ino);
/* How many things a power cut decides. */
uint64_t sim_undecided(const struct sim_disk *d);
void sim_crash(struct sim_disk *d, keep_fn keep, void *arg);

/* ---- sim_disk_states.c ---- */

/* Record a copy of @op, if a trace was started. */
void sim_trace_add(struct sim_disk *d, struct trace_op op);
void sim_trace_close(struct sim_disk *d);
#endif
