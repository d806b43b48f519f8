/* Whether the disk of the write-ahead log is stuck or slow. Either way other nodes are to lead: the
 * leader's own sync is part of every quorum (raft-guide 3).
 *
 * Stuck: one write has taken longer than STUCK_MS. Leaderships are given up without the disk's
 * help, and heartbeats say that this node can neither lead nor vote; its connections stand, so that
 * its clients reach the new leaders through it.
 *
 * Slow: the median sync of two windows in a row is above SLOW_US and several times what the other
 * nodes say of theirs. Leaderships are handed over (js_move.c), and none taken until it is over.
 * With nobody to compare, as on an idle cluster, or where all are slow, nothing moves. */
#include "cluster/js_disk.h"

#include <stdlib.h>

#include "cluster/js_internal.h"
#include "cluster/loop.h"
#include "cluster/peers.h"
#include "raft/host.h"
#include "storage/base/log.h"
#include "storage/wal_thread.h"

#define STUCK_MS 800
#define WINDOW_MS 500
#define SLOW_US 20000
#define SLOW_FACTOR 4
#define SLOW_WINDOWS 2
#define FINE_WINDOWS 20 /* Fine, or without a sync, for so many in a row: slow no longer. */
#define FORGET_MS 10000 /* A median older than this says nothing. */
#define COMPARED_MAX (PEERS_MAX)

static void look_for_stuck(struct js *js)
{
    uint64_t stuck_ms = wal_thread_stuck_ms(js->wal_thread);
    bool is_stuck = stuck_ms >= STUCK_MS;
    if (is_stuck == js->disk.is_stuck) {
        return;
    }
    js->disk.is_stuck = is_stuck;
    if (is_stuck) {
        log_err("The disk of %s/wal takes nothing for %llu ms: other nodes lead until it does",
                js->dir, (unsigned long long)stuck_ms);
    } else {
        log_inf("The disk of %s/wal takes writes again", js->dir);
    }
    js_lock(js);
    host_disk_stuck(js->host, is_stuck);
    js_unlock(js);
    if (js->ctx->peers != NULL) {
        peers_announce_health(js->ctx->peers);
    }
}

/* The upper bound of the bucket in which the median of the window's syncs is; 0: there was none. */
static uint64_t window_median_us(struct js_disk *d, const uint64_t now[WAL_SYNC_BUCKETS])
{
    uint64_t total = 0;
    uint64_t sum = 0;
    uint64_t median = 0;
    for (unsigned b = 0; b < WAL_SYNC_BUCKETS; b++) {
        total += now[b] - d->counts[b];
    }
    for (unsigned b = 0; b < WAL_SYNC_BUCKETS && total > 0 && median == 0; b++) {
        sum += now[b] - d->counts[b];
        median = 2 * sum >= total ? 1ull << b : 0;
    }
    memcpy(d->counts, now, sizeof d->counts);
    return median;
}

struct compared {
    uint64_t us[COMPARED_MAX];
    size_t count;
};

static bool add_compared(void *arg, const struct peers_info *info)
{
    struct compared *c = arg;
    if (info->is_up && info->sync_us > 0 && c->count < COMPARED_MAX) {
        c->us[c->count++] = info->sync_us;
    }
    return true;
}

static int by_us(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static bool is_slower_than_others(struct js *js, uint64_t us)
{
    struct compared c = {.count = 0};
    if (us < SLOW_US || js->ctx->peers == NULL) {
        return false;
    }
    peers_each(js->ctx->peers, add_compared, &c);
    qsort(c.us, c.count, sizeof c.us[0], by_us);
    return c.count > 0 && us >= SLOW_FACTOR * c.us[c.count / 2];
}

static void look_for_slow(struct js *js, uint64_t now_ms)
{
    struct js_disk *d = &js->disk;
    uint64_t counts[WAL_SYNC_BUCKETS];
    wal_thread_syncs(js->wal_thread, counts);
    uint64_t median = window_median_us(d, counts);
    if (median > 0) {
        d->sync_us = median;
        d->synced_ms = now_ms;
    } else if (now_ms - d->synced_ms >= FORGET_MS) {
        d->sync_us = 0;
    }
    bool is_slow = median > 0 && is_slower_than_others(js, median);
    /* A window without a sync says nothing of a disk that was slow, but ends it at last. */
    d->slow_count = is_slow ? d->slow_count + 1 : median > 0 ? 0 : d->slow_count;
    d->fine_count = is_slow ? 0 : d->fine_count + 1;
    if (!d->is_slow && d->slow_count >= SLOW_WINDOWS) {
        d->is_slow = true;
        log_wrn("The disk of %s/wal is slow, %llu ms a sync: this node hands its leaderships over",
                js->dir, (unsigned long long)(d->sync_us / 1000));
    } else if (d->is_slow && d->fine_count >= FINE_WINDOWS) {
        d->is_slow = false;
        d->slow_count = 0;
        log_inf("The disk of %s/wal is not slow any more", js->dir);
    }
}

bool js_disk_is_poor(const struct js *js)
{
    return js->disk.is_slow || js->reserve.is_low;
}

void js_disk_tick(struct js *js)
{
    uint64_t now_ms = loop_now_ms(js->loop);
    look_for_stuck(js);
    if (now_ms - js->disk.looked_ms >= WINDOW_MS) {
        js->disk.looked_ms = now_ms;
        look_for_slow(js, now_ms);
    }
}
