/* A disk in memory, behind the same table as the real one (storage/file_ops.h).
 *
 * A tree of directories and files. Each file has a volatile image (what reads see) and a durable
 * one (what a power cut leaves), compared sector by sector, 512 bytes each. Directory entries
 * (create, mkdir, rename, unlink) are volatile until sync_dir of the directory; a rename between
 * two directories is one change, durable when either is synced. `sync` makes a file's contents and
 * size durable, but not its name. Writes to a file opened FILE_DIRECT are durable when they return
 * (O_DSYNC), their extent included.
 *
 * A power cut keeps a random subset of what was not synced: each dirty sector stays or goes by
 * itself, so writes are torn at 512 bytes and reordered; each pending directory change stays or
 * goes by itself. Rename is atomic.
 *
 * Deterministic: the seed and the calls decide everything. Paths are absolute or relative, taken as
 * text; "/" separates. Threads: one mutex around each call, so the WAL thread may use it too. */
#ifndef TESTS_LIB_SIM_DISK_H
#define TESTS_LIB_SIM_DISK_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/file_ops.h"

#define SIM_DISK_SECTOR_BYTES 512u

struct sim_disk;

enum sim_disk_op {
    SIM_DISK_OPEN,
    SIM_DISK_PREAD,
    SIM_DISK_PWRITE,
    SIM_DISK_SYNC,
    SIM_DISK_TRUNCATE,
    SIM_DISK_SIZE,
    SIM_DISK_RENAME,
    SIM_DISK_UNLINK,
    SIM_DISK_MKDIR,
    SIM_DISK_SYNC_DIR,
    SIM_DISK_LIST,
    SIM_DISK_OP_COUNT,
    SIM_DISK_ANY = SIM_DISK_OP_COUNT, /* In faults: whichever call it is. */
};

/* An empty disk: only the root directory "/" (and "", the relative one) is there. */
struct sim_disk *sim_disk_new(uint64_t seed);
/* Files still open are closed. NULL is fine. */
void sim_disk_free(struct sim_disk *d);
/* A copy of everything but open files, faults and the trace. */
struct sim_disk *sim_disk_clone(const struct sim_disk *d);

/* The table; valid until the disk is freed. */
const struct file_ops *sim_disk_ops(struct sim_disk *d);

/* FILE_DIRECT answers ERR_UNSUPPORTED when off. On by default. */
void sim_disk_set_direct(struct sim_disk *d, bool is_on);

/* ---- Faults ---- */

/* The @nth call of kind @op from now on (1 = the next) fails once with @err (an ERR_ code). A
 * failing write may have written any subset of its sectors (by the seed); a failing sync likewise
 * has synced any subset, and the rest reads well but is *clean*: a later sync does not write it (as
 * Linux). 0 for @nth clears. One such fault per kind. */
void sim_disk_fail(struct sim_disk *d, enum sim_disk_op op, uint64_t nth, int err);
/* From now on every sync and direct write fails with ERR_IO, until cleared. */
void sim_disk_set_sync_broken(struct sim_disk *d, bool is_broken);
/* Bytes that files may have together; growth beyond fails with ERR_NOSPACE. UINT64_MAX by default.
 */
void sim_disk_set_capacity(struct sim_disk *d, uint64_t bytes);
uint64_t sim_disk_used_bytes(const struct sim_disk *d);
/* Calls so far of a kind, or of all with SIM_DISK_ANY. Failed ones count. */
uint64_t sim_disk_calls(const struct sim_disk *d, enum sim_disk_op op);

/* ---- Power cuts ---- */

/* Lose power: open files are closed by force (their handles fail with ERR_IO and must still be
 * closed by their owner), the durable image and a random subset of the rest become both images. */
void sim_disk_crash(struct sim_disk *d, uint64_t seed);
/* The same, keeping nothing (false) or everything (true) that was not synced. */
void sim_disk_crash_all(struct sim_disk *d, bool keep);

/* ---- Damage at rest (both images, and behind every flag). False if the path or range is not
 * there. ---- */
bool sim_disk_flip_bit(struct sim_disk *d, const char *path, uint64_t bit);
bool sim_disk_fill(struct sim_disk *d, const char *path, uint64_t off, uint64_t len, uint8_t byte);
bool sim_disk_write(struct sim_disk *d, const char *path, uint64_t off, const void *ptr,
                    size_t len);
bool sim_disk_cut(struct sim_disk *d, const char *path, uint64_t size);

/* ---- Questions ---- */
bool sim_disk_exists(const struct sim_disk *d, const char *path);
/* UINT64_MAX if it is not there. */
uint64_t sim_disk_file_size(const struct sim_disk *d, const char *path);
/* A borrowed view of the volatile image, until the next call; NULL if it is not there. */
const uint8_t *sim_disk_bytes(const struct sim_disk *d, const char *path);
/* Would this range read as it does now after any power cut: name, size and contents? */
bool sim_disk_is_durable(const struct sim_disk *d, const char *path, uint64_t off, uint64_t len);
/* A hash over names and contents of the volatile image: equal trees, equal hash. */
uint64_t sim_disk_hash(const struct sim_disk *d);
/* The regular files, in order of name, with full paths. */
void sim_disk_each(const struct sim_disk *d, file_list_cb cb, void *arg);

/* ---- Crash states ----
 * Record the operations of a scenario, then visit the states that a power cut may leave: for each
 * prefix of the trace, subsets of what was not synced then. */

/* Record from the present state on. */
void sim_disk_trace_start(struct sim_disk *d);
/* How many changing operations (write, sync, truncate, create, rename …) were recorded. The value
 * before an operation is the prefix that does not hold it: note it where a promise is made. */
uint64_t sim_disk_trace_count(const struct sim_disk *d);

struct sim_disk_states {
    uint64_t subsets_max; /* Per prefix: exhaustive if 2^(undecided things) fits, else sampled. */
    uint64_t prefix_step; /* 1 = each prefix. */
    uint64_t seed;
};
/* @state is a disk of its own, to be used freely and not freed. Return false to stop. */
typedef bool (*sim_disk_state_cb)(void *arg, struct sim_disk *state, uint64_t prefix);
/* Visit; returns the number of states. */
uint64_t sim_disk_each_state(struct sim_disk *d, const struct sim_disk_states *how,
                             sim_disk_state_cb cb, void *arg);
#endif
