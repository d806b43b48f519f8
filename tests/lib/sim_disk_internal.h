/* What sim_disk.c and sim_disk_states.c share. Inodes have numbers that a replay of the same
 * operations gives again; so a trace can name them. */
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
void sim_write(struct sim_disk *d, uint32_t ino, uint64_t off, const uint8_t *p, uint64_t len);
/* Apply one recorded operation; @in_flight leaves a write unsynced and does nothing else. */
void sim_replay(struct sim_disk *d, const struct trace_op *op, bool in_flight);
/* How many things a power cut decides. */
uint64_t sim_undecided(const struct sim_disk *d);
void sim_crash(struct sim_disk *d, keep_fn keep, void *arg);
#endif
