#include "tests/unit/wal_world.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"

#define LSN_MAX 4096u

void wal_world_init(struct wal_world *x, struct sim_disk *disk)
{
    memset(x, 0, sizeof *x);
    x->disk = disk;
    x->o = (struct wal_options){.ops = sim_disk_ops(disk),
                                .dir = "wal",
                                .node_uuid = {1, 2, 3},
                                .segment_bytes_min = 16 * 4096,
                                .segment_bytes_max = 64 * 4096,
                                .frame_bytes_max = 16 * 1024,
                                .salt_seed = 7,
                                .try_direct = true};
    int rv = x->o.ops->mkdir(x->o.ops->ctx, "wal");
    if (rv != 0 && rv != ERR_EXISTS) {
        abort();
    }
    (void)x->o.ops->sync_dir(x->o.ops->ctx, "/");
}

/* Payload: the key, then bytes that follow from it. */
static uint8_t byte_of(uint64_t key, size_t i)
{
    return (uint8_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> (i % 7 * 8)) ^ (uint8_t)i;
}

static void on_record(void *arg, uint64_t lsn, uint8_t type, uint64_t gid, struct slice payload)
{
    struct wal_world *x = arg;
    uint64_t key = 0;
    if (payload.len >= sizeof key) {
        memcpy(&key, payload.ptr, sizeof key);
    }
    bool ok = key != 0 && type == WAL_WORLD_TYPE && gid == key % WAL_WORLD_GIDS + 1 &&
              lsn < LSN_MAX && lsn > x->last_seen;
    for (size_t i = sizeof key; i < payload.len && ok; i++) {
        ok = payload.ptr[i] == byte_of(key, i);
    }
    if (!ok || x->appended[lsn] != key) {
        x->wrong++;
        return;
    }
    x->first_seen = x->first_seen == 0 ? lsn : x->first_seen;
    x->last_seen = lsn;
    x->seen[lsn] = key;
    x->seen_count++;
}

static void on_suspect(void *arg, uint64_t gid)
{
    struct wal_world *x = arg;
    x->suspects |= UINT64_C(1) << (gid & 63);
}

int wal_world_open(struct wal_world *x)
{
    struct wal_replay replay = {on_record, on_suspect, x};
    x->first_seen = x->last_seen = x->seen_count = x->suspects = x->wrong = 0;
    x->has_gap = false;
    memset(x->seen, 0, sizeof x->seen);
    memset(&x->found, 0, sizeof x->found);
    int rv = wal_open(&x->o, &replay, &x->found, &x->w);
    if (rv == 0 && x->first_seen != 0) {
        for (uint64_t lsn = x->first_seen; lsn < x->last_seen; lsn++) {
            x->has_gap = x->has_gap || (x->seen[lsn] == 0 && x->appended[lsn] != 0);
        }
    }
    return rv;
}

void wal_world_close(struct wal_world *x)
{
    wal_close(x->w);
    x->w = NULL;
}

uint64_t wal_world_append(struct wal_world *x, uint64_t key, size_t len)
{
    len = len < sizeof key ? sizeof key : len;
    uint8_t *p = xmalloc(len);
    memcpy(p, &key, sizeof key);
    for (size_t i = sizeof key; i < len; i++) {
        p[i] = byte_of(key, i);
    }
    size_t cut = len / 3;
    struct slice parts[2] = {slice_of(p, cut), slice_of(p + cut, len - cut)};
    uint64_t lsn = wal_append(x->w, WAL_WORLD_TYPE, key % WAL_WORLD_GIDS + 1, parts, 2);
    free(p);
    if (lsn >= LSN_MAX) {
        abort();
    }
    x->appended[lsn] = key;
    for (uint64_t i = lsn + 1; i < LSN_MAX && x->appended[i] != 0; i++) {
        x->appended[i] = 0; /* Lost in a crash, and given again. */
    }
    return lsn;
}

int wal_world_commit(struct wal_world *x)
{
    const char *path;
    int rv = 0;
    while (rv == 0 && wal_batch_take(x->w)) {
        rv = wal_batch_write(x->w, &path);
        wal_batch_done(x->w);
    }
    return rv;
}
