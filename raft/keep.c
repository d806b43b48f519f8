/* Which WAL segments may go (raft-guide 7.3, trim).
 *
 * A group needs its two newest stubs (CREATE or CHECKPOINT, with what follows) and the entries
 * above its durable base. What pins an old segment is written again: stubs as CHECKPOINT records,
 * entries after a flush if the store can have them, else carried forward from memory (no quorum, so
 * they cannot be applied). Old records count as needed until the new ones are durable.
 *
 * Two stubs, in two frames: a replica whose last stub is gone is lost for good (born once), while
 * with the older one it is only suspect, and repaired by its peers. A base counts as durable once
 * two records tell of it, for the same reason: without it the entries above continue nothing. */
#include "raft/host_internal.h"

#define KEEP_MS 100
#define STUB_SEGMENTS 2   /* Stubs and flushes for what is older than this many segments. */
#define CARRY_SEGMENTS 8  /* Entries are carried forward when older than this. */
#define CARRY_FACTOR 4    /* Of all that is written at most one part in so many is carried. */
#define STUBS_PER_RUN 256 /* A run must stay short: 10 runs a second. */

static void carry(struct raft_group *g,
                  const struct raft_entry *(*at)(struct raft_group *, uint64_t), uint64_t first,
                  uint64_t last)
{
    uint64_t needed = log_needed_lsn(g);
    struct raft_entry batch[64];
    if (g->hold_until <= g->host->durable_lsn || needed < g->hold_lsn) {
        g->hold_lsn = needed;
    }
    g->spans_count = 0;
    g->carried_at = g->host->wal_written;
    for (uint64_t i = first; i <= last;) {
        size_t n = 0, bytes = 0;
        for (; n < 64 && i + n <= last && bytes < BATCH_BYTES_MAX; n++) {
            batch[n] = *at(g, i + n);
            bytes += batch[n].buf.len;
        }
        g->hold_until = log_put_entries(g, RECORD_CARRY, i, batch, n);
        g->host->stats.carried += n;
        i += n;
    }
}

static const struct raft_entry *from_memory(struct raft_group *g, uint64_t index)
{
    return compat_entry(g->r, index);
}

static const struct raft_entry *from_suffix(struct raft_group *g, uint64_t index)
{
    return &g->suffix[index - g->suffix_first];
}

/* What this run goes by; read under the lock, at once. */
struct cutoffs {
    uint64_t stubs;
    uint64_t carry;
    uint64_t oldest;
    uint64_t bytes; /* Of the WAL. */
    uint64_t pause; /* So much is written between two times that a group is carried. */
    bool is_any;
    bool is_over; /* Over the budget. */
};

/* The first LSN of the @n-th newest sealed segment; 0 if there are fewer. */
static uint64_t cutoff(const struct raft_host *h, unsigned sealed, unsigned n)
{
    return sealed < n ? 0 : wal_segment_first_lsn(h->wal, sealed - n);
}

static struct cutoffs cutoffs(struct raft_host *h)
{
    host_wal_lock(h);
    unsigned sealed = wal_sealed_count(h->wal);
    struct cutoffs c = {.is_any = sealed > 0, .bytes = wal_bytes(h->wal)};
    c.is_over = c.bytes > h->opt.wal_bytes_max / 4 * 3;
    if (sealed > 0) {
        /* Over the budget everything sealed should go. */
        c.stubs = cutoff(h, sealed, c.is_over ? 1 : STUB_SEGMENTS);
        c.carry = cutoff(h, sealed, c.is_over ? 1 : CARRY_SEGMENTS);
        c.oldest = wal_oldest_lsn(h->wal);
    }
    host_wal_unlock(h);
    return c;
}

static uint64_t oldest_entry_lsn(const struct raft_group *g)
{
    return g->spans_count == 0 ? UINT64_MAX : g->spans[g->spans_front].lsn;
}

/* Carrying forward writes as much as is live, and so makes old what was carried before. It has to
 * be a small part of what is written: else, where more is live than the budget allows, nothing else
 * is. */
static bool may_carry(const struct raft_group *g, const struct cutoffs *c)
{
    uint64_t since = g->carried_at == 0 ? c->bytes : g->host->wal_written - g->carried_at;
    return oldest_entry_lsn(g) < c->carry && since >= c->pause;
}

static void entries_of_group(struct raft_group *g, const struct cutoffs *c)
{
    struct raft_host *h = g->host;
    if (g->is_open && g->delivered > g->base.index && h->opt.env.flush_wanted != NULL) {
        h->opt.env.flush_wanted(h->opt.env.ctx, g->gid);
    }
    /* Only what is not applied, or the store is behind with, remains; if it is in memory. */
    if (!may_carry(g, c) || g->base_durable != g->base.index) {
        return;
    }
    uint64_t first = g->base.index + 1;
    if (g->r != NULL) {
        uint64_t last = compat_log_last(g->r);
        if (first <= last && compat_entry(g->r, first) != NULL) {
            carry(g, from_memory, first, last);
        }
        return;
    }
    /* Not opened, or stopped. */
    if (!g->is_open) {
        first = g->suffix_first;
    }
    uint64_t end = g->suffix_first + g->suffix_count;
    if (g->suffix_count > 0 && g->suffix_first <= first && first < end) {
        carry(g, from_suffix, first, end - 1);
    }
}

/* Old entries wait only for another record that tells of the base. */
static bool is_base_told_once(const struct raft_group *g, const struct cutoffs *c)
{
    return oldest_entry_lsn(g) < c->stubs && g->spans[g->spans_front].last <= g->base.index &&
           g->base_durable < g->base.index && g->base_told[0].lsn <= g->host->durable_lsn;
}

/* A second stub soon after the first; then one as often as the last is old. The older of the two is
 * kept for so long, unless that is too much. */
static bool is_stub_due(const struct raft_group *g, const struct cutoffs *c)
{
    if (g->stub_lsn > g->host->durable_lsn || pull_is_switching(g)) {
        return false;
    }
    return (g->is_known && g->stub_kept == 0) || g->stub_lsn < c->stubs ||
           is_base_told_once(g, c) || (c->is_over && g->stub_kept != 0 && g->stub_kept < c->stubs);
}

/* About how much of what is in memory the WAL has to keep: what is above the durable bases. */
static uint64_t live_bytes(const struct raft_host *h)
{
    uint64_t sum = 0;
    for (const struct raft_group *g = h->groups; g != NULL; g = g->hh.next) {
        uint64_t count = g->r == NULL ? 0 : compat_log_count(g->r);
        uint64_t last = count == 0 ? 0 : compat_log_last(g->r);
        uint64_t above = last > g->base.index ? last - g->base.index : 0;
        sum += above >= count ? g->log_bytes : g->log_bytes / count * above;
    }
    return sum;
}

void keep_run(struct raft_host *h)
{
    if (h->wal == NULL || h->now_ms - h->kept_ms < KEEP_MS) {
        return;
    }
    h->kept_ms = h->now_ms;
    struct cutoffs c = cutoffs(h);
    c.pause = c.is_any ? CARRY_FACTOR * live_bytes(h) : 0;
    uint64_t needed = h->durable_lsn + 1;
    uint64_t carried = h->stats.carried;
    unsigned stubs = 0;
    struct raft_group *g, *tmp;
    HASH_ITER(hh, h->groups, g, tmp)
    {
        log_durable(g);
        if (stubs < STUBS_PER_RUN && is_stub_due(g, &c)) {
            log_put_checkpoint(g);
            stubs++;
        }
        if (oldest_entry_lsn(g) < c.stubs && h->stats.carried - carried < 1000) {
            entries_of_group(g, &c);
        }
        uint64_t lsn = log_needed_lsn(g);
        needed = lsn < needed ? lsn : needed;
    }
    if (c.is_any && needed > c.oldest) {
        host_wal_lock(h);
        wal_trim(h->wal, needed);
        host_wal_unlock(h);
    }
}
