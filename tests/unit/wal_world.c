#include "tests/unit/wal_world.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"

void wal_world_init(struct wal_world *x, struct sim_disk *disk)
{
    memset(x, 0, sizeof *x);
    x->disk = disk;
    x->o = (struct wal_options){.ops = sim_disk_ops(disk),
                                .fill_bytes = 1, /* Four frames: filling takes several slices. */
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
    x->trim_lsn = 1;
    x->next_key = 1;
}

uint64_t wal_world_random(uint64_t *rng, uint64_t below)
{
    uint64_t z = *rng += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % below;
}

uint64_t wal_world_gid(uint64_t key)
{
    return key % WAL_WORLD_GIDS + 1;
}

/* Payload: the key, then words that follow from it and from where they are. */
static uint64_t word_of(uint64_t key, size_t at)
{
    return (key + at) * UINT64_C(0x9e3779b97f4a7c15);
}

static bool is_payload_of(uint64_t key, struct slice p)
{
    size_t at = sizeof key;
    for (; at + 8 <= p.len; at += 8) {
        uint64_t word;
        memcpy(&word, p.ptr + at, sizeof word);
        if (word != word_of(key, at)) {
            return false;
        }
    }
    uint64_t last = word_of(key, at);
    return memcmp(p.ptr + at, &last, p.len - at) == 0;
}

static void on_record(void *arg, uint64_t lsn, uint8_t type, uint64_t gid, struct slice payload)
{
    struct wal_world *x = arg;
    uint64_t key = 0;
    if (payload.len >= sizeof key) {
        memcpy(&key, payload.ptr, sizeof key);
    }
    bool ok = key != 0 && type == WAL_WORLD_TYPE && gid == wal_world_gid(key) &&
              lsn < WAL_WORLD_LSN_MAX && lsn > x->last_seen;
    if (!ok || !is_payload_of(key, payload) || x->appended[lsn] != key) {
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
    x->suspects |= gid == WAL_GID_ALL ? WAL_WORLD_ALL : UINT64_C(1) << (gid & 31);
}

int wal_world_open(struct wal_world *x)
{
    struct wal_replay replay = {
        .record = on_record, .suspect = on_suspect, .arg = x, .record_type_max = WAL_WORLD_TYPE};
    x->first_seen = x->last_seen = x->seen_count = x->suspects = x->wrong = 0;
    x->has_gap = false;
    memset(x->seen, 0, sizeof x->seen);
    memset(&x->found, 0, sizeof x->found);
    x->o.salt_seed++; /* Random in production. */
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
    uint8_t *p = xmalloc(len + 8);
    memcpy(p, &key, sizeof key);
    for (size_t at = sizeof key; at < len; at += 8) {
        uint64_t word = word_of(key, at);
        memcpy(p + at, &word, sizeof word);
    }
    size_t cut = len / 3;
    struct slice parts[2] = {slice_of(p, cut), slice_of(p + cut, len - cut)};
    uint64_t lsn = wal_append(x->w, WAL_WORLD_TYPE, wal_world_gid(key), parts, 2);
    free(p);
    if (lsn >= WAL_WORLD_LSN_MAX) {
        abort();
    }
    x->appended[lsn] = key;
    for (uint64_t i = lsn + 1; i < WAL_WORLD_LSN_MAX && x->appended[i] != 0; i++) {
        x->appended[i] = 0; /* Lost in a crash, and given again. */
    }
    return lsn;
}

int wal_world_commit(struct wal_world *x)
{
    const char *path = NULL;
    int rv = 0;
    while (rv == 0 && wal_batch_take(x->w)) {
        if (x->trim_in_flight != 0) {
            wal_world_trim(x, x->trim_in_flight);
            x->trim_in_flight = 0;
        }
        rv = wal_batch_write(x->w, &path);
        if (rv != 0 && (path == NULL || path[0] == 0)) {
            abort(); /* The operator is told which file. */
        }
        wal_batch_done(x->w);
        if (x->promises_count < WAL_WORLD_PROMISES_MAX) {
            x->promises[x->promises_count++] = (struct wal_promise){
                sim_disk_trace_count(x->disk), wal_durable_lsn(x->w), x->trim_lsn};
        }
    }
    return rv;
}

int wal_world_idle(struct wal_world *x)
{
    uint64_t lsn = wal_next_lsn(x->w);
    if (wal_pending_bytes(x->w) > 0 || !wal_idle(x->w)) {
        return 0;
    }
    x->appended[lsn] = 0;
    return wal_world_commit(x);
}

void wal_world_trim(struct wal_world *x, uint64_t lsn)
{
    wal_trim(x->w, lsn);
    x->trim_lsn = lsn > x->trim_lsn ? lsn : x->trim_lsn;
    if (x->promises_count < WAL_WORLD_PROMISES_MAX) {
        x->promises[x->promises_count++] =
            (struct wal_promise){sim_disk_trace_count(x->disk), wal_durable_lsn(x->w), x->trim_lsn};
    }
}

int wal_world_live(struct wal_world *x, unsigned steps, uint64_t *rng)
{
    const char *path;
    int rv = 0;
    for (unsigned i = 0; i < steps && rv == 0; i++) {
        uint64_t kind = wal_world_random(rng, 16);
        if (kind == 0) {
            rv = wal_world_idle(x);
        } else if (kind == 1) {
            rv = wal_prepare(x->w, &path);
            rv = rv > 0 ? 0 : rv;
        } else if (kind == 2 && wal_durable_lsn(x->w) > 12) {
            uint64_t lsn = wal_durable_lsn(x->w) - wal_world_random(rng, 12);
            if (wal_world_random(rng, 2) == 0) {
                wal_world_trim(x, lsn);
            } else {
                x->trim_in_flight = lsn;
            }
        } else {
            uint64_t count = 1 + wal_world_random(rng, 6);
            for (uint64_t k = 0; k < count; k++) {
                uint64_t size = wal_world_random(rng, 24);
                size_t len = size == 0   ? 30000
                             : size <= 4 ? 4000 + wal_world_random(rng, 2000)
                                         : wal_world_random(rng, 700);
                (void)wal_world_append(x, x->next_key++, len);
            }
            rv = wal_world_commit(x);
        }
    }
    return rv;
}

struct wal_promise wal_world_promise(const struct wal_world *x, uint64_t prefix)
{
    struct wal_promise p = {0, 0, 1};
    for (size_t i = 0; i < x->promises_count && x->promises[i].at <= prefix; i++) {
        p = x->promises[i];
    }
    return p;
}

void wal_world_adopt(struct wal_world *x)
{
    /* What is trimmed may come and go with the file it is in. */
    uint64_t from = x->first_seen < x->trim_lsn ? x->trim_lsn : x->first_seen;
    for (uint64_t lsn = x->first_seen == 0 ? 0 : from; lsn < WAL_WORLD_LSN_MAX; lsn++) {
        x->appended[lsn] = x->seen[lsn];
    }
    x->promises[0] = (struct wal_promise){0, wal_durable_lsn(x->w), x->trim_lsn};
    x->promises_count = 1;
}
