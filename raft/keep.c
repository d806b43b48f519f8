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
#include <stdlib.h>

#include "raft/host_internal.h"

#define KEEP_MS 100
#define STUB_SEGMENTS 2     /* Stubs and flushes for what is older than this many segments. */
#define CARRY_SEGMENTS 8    /* Entries are carried forward when older than this. */
#define CARRY_FACTOR 4      /* Of all that is written at most one part in so many is carried. */
#define CARRY_QUIET_MS 2000 /* So long nothing was appended: what moves is flushed soon … */
#define CARRY_MOVING 16     /* … unless it is older than so many segments: it cannot be. */
#define CARRY_ENTRIES 64    /* In one record. */
#define CARRY_BYTES (256u << 10)
#define STUBS_PER_RUN 256 /* A run must stay short: 10 runs a second. */

/* ---- Carrying entries forward ----
 *
 * A run writes all entries above the base once more, one record at a time: the next when the last
 * is durable, so that votes and other groups' entries wait for one record, not for all. What is old
 * stays needed until the run is whole. What is appended meanwhile stays where it is, behind the run
 * by index; where it replaces entries the run is given up, and begins anew. It is also given up for
 * an image, which waits until nothing of the group is on its way to the disk (pull.c). */

void keep_give_up(struct raft_group *g)
{
    g->carry_next = 0;
    g->carry_count = 0;
    list_remove(&g->carry_link);
}

void keep_close(struct raft_group *g)
{
    keep_give_up(g);
    free(g->carry_spans);
    g->carry_spans = NULL;
}

static const struct raft_entry *entry_at(struct raft_group *g, uint64_t index)
{
    if (g->r != NULL) {
        return index <= compat_log_last(g->r) ? compat_entry(g->r, index) : NULL;
    }
    bool is_there = index >= g->suffix_first && index - g->suffix_first < g->suffix_count;
    return is_there ? &g->suffix[index - g->suffix_first] : NULL;
}

static void run_begin(struct raft_group *g, uint64_t first, uint64_t last)
{
    if (first <= last && entry_at(g, first) != NULL) {
        g->carry_next = first;
        g->carry_last = last;
        g->carry_count = 0;
        list_push_back(&g->host->carrying, &g->carry_link);
    }
}

static void run_end(struct raft_group *g)
{
    uint64_t needed = log_needed_lsn(g);
    if (g->hold_until <= g->host->durable_lsn || needed < g->hold_lsn) {
        g->hold_lsn = needed;
    }
    log_spans_replace(g, g->carry_spans, g->carry_count);
    if (g->carry_count > 0) {
        g->hold_until = g->carry_spans[g->carry_count - 1].lsn;
    }
    g->carried_at = g->host->wal_written; /* What this took is no reason for the next. */
    keep_give_up(g);
}

static void run_step(struct raft_group *g)
{
    struct raft_entry batch[CARRY_ENTRIES];
    uint64_t first = g->carry_next > g->base.index ? g->carry_next : g->base.index + 1;
    size_t n = 0, bytes = 0;
    for (; n < CARRY_ENTRIES && first + n <= g->carry_last && bytes < CARRY_BYTES; n++) {
        const struct raft_entry *e = entry_at(g, first + n);
        if (e == NULL) {
            keep_give_up(g);
            return;
        }
        batch[n] = *e;
        bytes += e->buf.len;
    }
    if (n > 0) {
        if (g->carry_count == g->carry_cap) {
            g->carry_cap = g->carry_cap == 0 ? 8 : g->carry_cap * 2;
            g->carry_spans = xrealloc(g->carry_spans, g->carry_cap * sizeof *g->carry_spans);
        }
        uint64_t lsn = log_put_entries(g, RECORD_CARRY, first, batch, n);
        g->carry_spans[g->carry_count++] = (struct span){first, first + n - 1, lsn};
        g->carry_next = first + n;
        g->host->carry_lsn = lsn;
        g->host->stats.carried += n;
    }
    if (g->carry_next > g->carry_last || n == 0) {
        run_end(g);
    }
}

void keep_durable(struct raft_host *h)
{
    while (h->carry_lsn <= h->durable_lsn && !list_is_empty(&h->carrying)) {
        run_step(container_of(h->carrying.next, struct raft_group, carry_link));
    }
}

/* What this run goes by; read under the lock, at once. */
struct cutoffs {
    uint64_t stubs;
    uint64_t carry;
    uint64_t moving;
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
        c.moving = cutoff(h, sealed, CARRY_MOVING);
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
    const struct raft_host *h = g->host;
    uint64_t since = g->carried_at == 0 ? c->bytes : h->wal_written - g->carried_at;
    uint64_t moved_ms = g->moved_ms > h->opened_ms ? g->moved_ms : h->opened_ms;
    bool is_quiet = h->now_ms - moved_ms >= CARRY_QUIET_MS;
    uint64_t oldest = oldest_entry_lsn(g);
    bool is_old = oldest < c->moving || (oldest < c->carry && is_quiet);
    return is_old && since >= c->pause && g->carry_next == 0 && !pull_wants_quiet(g);
}

static void entries_of_group(struct raft_group *g, const struct cutoffs *c)
{
    struct raft_host *h = g->host;
    uint64_t reached = g->is_halted ? g->applied : g->delivered;
    if (g->is_open && reached > g->base.index && h->opt.env.flush_wanted != NULL) {
        h->opt.env.flush_wanted(h->opt.env.ctx, g->gid);
    }
    /* Only what is not applied, or the store is behind with, remains; if it is in memory. */
    if (!may_carry(g, c) || g->base_durable != g->base.index) {
        return;
    }
    uint64_t first = g->base.index + 1;
    if (g->r != NULL) {
        run_begin(g, first, compat_log_last(g->r));
    } else if (g->suffix_count > 0) { /* Not opened, or stopped. */
        first = g->is_open ? first : g->suffix_first;
        run_begin(g, first, g->suffix_first + g->suffix_count - 1);
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
        uint64_t count = g->r == NULL ? g->suffix_count : compat_log_count(g->r);
        uint64_t last = count == 0 ? 0 : g->r == NULL ? g->last_index : compat_log_last(g->r);
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
    unsigned stubs = 0;
    struct raft_group *g, *tmp;
    HASH_ITER(hh, h->groups, g, tmp)
    {
        log_durable(g);
        if (stubs < STUBS_PER_RUN && is_stub_due(g, &c)) {
            log_put_checkpoint(g);
            stubs++;
        }
        if (oldest_entry_lsn(g) < c.stubs) {
            entries_of_group(g, &c);
        }
        uint64_t lsn = log_needed_lsn(g);
        needed = lsn < needed ? lsn : needed;
    }
    keep_durable(h);
    if (c.is_any && needed > c.oldest) {
        host_wal_lock(h);
        wal_trim(h->wal, needed);
        host_wal_unlock(h);
    }
}
