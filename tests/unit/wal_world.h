/* A WAL on a disk in memory, and a model of what it holds. */
#ifndef TESTS_UNIT_WAL_WORLD_H
#define TESTS_UNIT_WAL_WORLD_H
#include "storage/wal.h"
#include "tests/lib/sim_disk.h"

#define WAL_WORLD_TYPE 20
#define WAL_WORLD_GIDS 5u

struct wal_world {
    struct sim_disk *disk;
    struct wal_options o;
    struct wal *w;
    struct wal_recovery found;
    /* What the last opening handed out. */
    uint64_t first_seen, last_seen, seen_count;
    uint64_t suspects; /* A bit per gid. */
    uint64_t wrong;    /* Records that are not what was appended under their LSN. */
    bool has_gap; /* Between LSNs; the WAL's own records are not handed out, so few are fine. */
    uint64_t seen[4096];     /* By LSN: the record's key, 0 = not handed out. */
    uint64_t appended[4096]; /* By LSN: the key, 0 = the WAL's own. Kept over openings. */
};

void wal_world_init(struct wal_world *x, struct sim_disk *disk);
int wal_world_open(struct wal_world *x);
void wal_world_close(struct wal_world *x);
/* A record whose bytes follow from @key (not 0); its gid is key % WAL_WORLD_GIDS + 1. */
uint64_t wal_world_append(struct wal_world *x, uint64_t key, size_t len);
/* take, write, done; the error of write. */
int wal_world_commit(struct wal_world *x);
#endif
