/* A WAL on a disk in memory, and a model of what it holds. */
#ifndef TESTS_UNIT_WAL_WORLD_H
#define TESTS_UNIT_WAL_WORLD_H
#include "storage/wal.h"
#include "tests/lib/sim_disk.h"

#define WAL_WORLD_TYPE 20
#define WAL_WORLD_GIDS 5u
#define WAL_WORLD_LSN_MAX 4096u
#define WAL_WORLD_PROMISES_MAX 2048u

/* From here in the disk's trace on this much is promised, and this much may be missed. */
struct wal_promise {
    uint64_t at;
    uint64_t durable_lsn;
    uint64_t trim_lsn;
};

struct wal_world {
    struct sim_disk *disk;
    struct wal_options o;
    struct wal *w;
    struct wal_recovery found;
    /* What the last opening handed out. */
    uint64_t first_seen, last_seen, seen_count;
    uint64_t suspects; /* A bit per gid; bit 63 for WAL_GID_ALL. */
    uint64_t wrong;    /* Records that are not what was appended under their LSN. */
    bool has_gap; /* Between LSNs; the WAL's own records are not handed out, so few are fine. */
    uint64_t seen[WAL_WORLD_LSN_MAX]; /* By LSN: the record's key, 0 = not handed out. */
    uint64_t
        appended[WAL_WORLD_LSN_MAX]; /* By LSN: the key, 0 = the WAL's own. Kept over openings. */
    uint64_t trim_lsn;               /* Of the highest wal_trim. */
    uint64_t trim_in_flight;         /* To be asked for when the next batch is under way. */
    uint64_t next_key;
    struct wal_promise promises[WAL_WORLD_PROMISES_MAX];
    size_t promises_count;
};

#define WAL_WORLD_ALL (UINT64_C(1) << 63)

void wal_world_init(struct wal_world *x, struct sim_disk *disk);
int wal_world_open(struct wal_world *x);
void wal_world_close(struct wal_world *x);
/* A record whose bytes follow from @key (not 0); its gid is wal_world_gid(key). */
uint64_t wal_world_append(struct wal_world *x, uint64_t key, size_t len);
uint64_t wal_world_gid(uint64_t key);
/* take, write, done; the error of write. Each batch adds to the promises. */
int wal_world_commit(struct wal_world *x);
int wal_world_idle(struct wal_world *x); /* And what it queued is committed. */
void wal_world_trim(struct wal_world *x, uint64_t lsn);
/* Some life from a seed: batches, watermarks, segments ahead of need, trims. The first error. */
int wal_world_live(struct wal_world *x, unsigned steps, uint64_t *rng);
/* What was promised when the disk's trace was this long. */
struct wal_promise wal_world_promise(const struct wal_world *x, uint64_t prefix);
/* From now on the model is what the last opening handed out. */
void wal_world_adopt(struct wal_world *x);
uint64_t wal_world_random(uint64_t *rng, uint64_t below);
#endif
