/* A group's side of the WAL. What is set here is as queued: fences and callbacks wait for it. */
#include <assert.h>

#include "raft/host_internal.h"
#include "storage/base/log.h"

/* ---- Bases and configurations ---- */

void base_set(struct base *b, uint64_t index, uint64_t term, uint64_t conf_index, struct slice conf)
{
    b->index = index;
    b->term = term;
    b->conf.index = conf_index;
    if (conf.ptr != b->conf.bytes.ptr || conf.len == 0) {
        buf_clear(&b->conf.bytes);
        buf_append_slice(&b->conf.bytes, conf);
    }
}

void base_copy(struct base *to, const struct base *from)
{
    base_set(to, from->index, from->term, from->conf.index, buf_slice(&from->conf.bytes));
}

void base_close(struct base *b)
{
    buf_close(&b->conf.bytes);
}

struct slice log_conf_as_of(const struct raft_group *g, uint64_t index, uint64_t *ret_conf_index)
{
    for (unsigned i = g->confs_count; i > 0; i--) {
        const struct conf_at *c = &g->confs[i - 1];
        if (c->index <= index || !IS_ON(g->host, T4)) {
            *ret_conf_index = c->index;
            return buf_slice(&c->bytes);
        }
    }
    *ret_conf_index = g->base.conf.index;
    return buf_slice(&g->base.conf.bytes);
}

static void confs_cut(struct raft_group *g, uint64_t last)
{
    while (g->confs_count > 0 && g->confs[g->confs_count - 1].index > last) {
        buf_close(&g->confs[--g->confs_count].bytes);
    }
}

static void confs_add(struct raft_group *g, uint64_t index, struct slice bytes)
{
    confs_cut(g, index - 1);
    if (g->confs_count == g->confs_cap) {
        g->confs_cap = g->confs_cap == 0 ? 2 : g->confs_cap * 2;
        g->confs = xrealloc(g->confs, g->confs_cap * sizeof *g->confs);
    }
    struct conf_at *c = &g->confs[g->confs_count++];
    *c = (struct conf_at){index, BUF_EMPTY};
    buf_append_slice(&c->bytes, bytes);
}

/* ---- Spans ---- */

static struct span *span_at(const struct raft_group *g, unsigned i)
{
    return &g->spans[(g->spans_front + i) % g->spans_cap];
}

static void spans_add(struct raft_group *g, uint64_t first, uint64_t last, uint64_t lsn)
{
    if (g->spans_count == g->spans_cap) {
        unsigned cap = g->spans_cap == 0 ? 8 : g->spans_cap * 2;
        struct span *spans = xmalloc(cap * sizeof *spans);
        for (unsigned i = 0; i < g->spans_count; i++) {
            spans[i] = *span_at(g, i);
        }
        free(g->spans);
        g->spans = spans;
        g->spans_front = 0;
        g->spans_cap = cap;
    }
    g->spans_count++;
    *span_at(g, g->spans_count - 1) = (struct span){first, last, lsn};
}

static void spans_cut(struct raft_group *g, uint64_t last)
{
    while (g->spans_count > 0) {
        struct span *s = span_at(g, g->spans_count - 1);
        if (s->last <= last) {
            return;
        }
        if (s->first <= last) {
            s->last = last;
            return;
        }
        g->spans_count--;
    }
}

static void spans_drop_below(struct raft_group *g, uint64_t index)
{
    while (g->spans_count > 0 && span_at(g, 0)->last <= index) {
        g->spans_front = (g->spans_front + 1) % g->spans_cap;
        g->spans_count--;
    }
}

/* Entries that were appended during the run are behind it by index, and in the middle of it by LSN.
 * What is needed is asked of the span in front: none behind it may be older.
 * A broken group appends nothing: behind what it carried is what could not be read. */
void log_spans_replace(struct raft_group *g, const struct span *spans, unsigned count)
{
    uint64_t last = count == 0 ? 0 : spans[count - 1].last;
    unsigned behind = 0;
    while (!g->is_broken && behind < g->spans_count &&
           span_at(g, g->spans_count - 1 - behind)->last > last) {
        behind++;
    }
    struct span *kept = xcalloc(behind + 1u, sizeof *kept);
    for (unsigned i = 0; i < behind; i++) {
        kept[i] = *span_at(g, g->spans_count - behind + i);
        kept[i].first = kept[i].first > last ? kept[i].first : last + 1;
    }
    g->spans_count = 0;
    for (unsigned i = 0; i < count; i++) {
        uint64_t lsn = behind > 0 && kept[0].lsn < spans[i].lsn ? kept[0].lsn : spans[i].lsn;
        spans_add(g, spans[i].first, spans[i].last, lsn);
    }
    for (unsigned i = 0; i < behind; i++) {
        spans_add(g, kept[i].first, kept[i].last, kept[i].lsn);
    }
    free(kept);
}

/* ---- Records out ---- */

static uint64_t put(struct raft_group *g, uint8_t type, struct slice payload)
{
    g->last_lsn = host_wal_append(g->host, type, g->gid, &payload, 1);
    return g->last_lsn;
}

static uint64_t put_scratch(struct raft_group *g, uint8_t type)
{
    uint64_t lsn = put(g, type, buf_slice(&g->host->scratch));
    buf_clear(&g->host->scratch);
    return lsn;
}

uint64_t log_put_meta(struct raft_group *g)
{
    record_put_meta(&g->host->scratch, g->term, g->voted_for);
    g->fence_lsn = put_scratch(g, RECORD_META);
    return g->fence_lsn;
}

void log_note_conf(struct raft_group *g, struct slice conf)
{
    struct conf c;
    if (!g->is_newcomer || conf_decode(conf, &c) != 0) {
        return;
    }
    const struct group_member *self = conf_find(&c, g->raft_id);
    if (self != NULL && self->role == GROUP_VOTER) {
        g->is_newcomer = false;
        log_put_suspect(g);
    }
}

void log_note_entries(struct raft_group *g, uint64_t first, const struct raft_entry *entries,
                      size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (entries[i].type == RAFT_CHANGE && first + i > g->base.index) {
            confs_add(g, first + i, slice_of(entries[i].buf.base, entries[i].buf.len));
            log_note_conf(g, slice_of(entries[i].buf.base, entries[i].buf.len));
        }
    }
}

/* As far as it is in memory; 0: unknown. */
static uint64_t term_before(const struct raft_group *g, uint64_t first)
{
    uint64_t index = first - 1;
    if (index == g->base.index) {
        return g->base.term;
    }
    if (g->r != NULL) {
        return compat_term_at(g->r, index);
    }
    bool is_there = index >= g->suffix_first && index - g->suffix_first < g->suffix_count;
    return is_there ? g->suffix[index - g->suffix_first].term : 0;
}

/* The record's bytes go from libraft's memory into the WAL's batch: one copy. */
uint64_t log_put_entries(struct raft_group *g, enum record_type type, uint64_t first,
                         const struct raft_entry *entries, size_t n)
{
    struct raft_host *h = g->host;
    size_t need = 1 + 2 * n;
    assert(n > 0);
    if (h->parts_cap < need) {
        h->parts_cap = need * 2;
        h->parts = xrealloc(h->parts, h->parts_cap * sizeof *h->parts);
    }
    /* Reserved at once: the parts point into it. */
    buf_reserve(&h->scratch, 30 + n * 24);
    record_put_entries_head(&h->scratch, first, term_before(g, first), n);
    size_t at = 0;
    unsigned count = 0;
    for (size_t i = 0; i < n; i++) {
        record_put_entry_head(&h->scratch, entries[i].term, (uint8_t)entries[i].type,
                              entries[i].buf.len);
        h->parts[count++] = slice_of(h->scratch.ptr + at, h->scratch.len - at);
        h->parts[count++] = slice_of(entries[i].buf.base, entries[i].buf.len);
        at = h->scratch.len;
    }
    uint64_t lsn = host_wal_append(h, (uint8_t)type, g->gid, h->parts, count);
    buf_clear(&h->scratch);
    g->last_lsn = lsn;
    if (type == RECORD_APPEND) {
        if (first <= g->last_index) {
            keep_give_up(g); /* What was carried is another leader's. */
        }
        g->moved_ms = h->now_ms;
        log_note_entries(g, first, entries, n);
        g->last_index = first + n - 1;
        g->last_term = entries[n - 1].term;
    }
    if (type != RECORD_CARRY) { /* A run counts when it is whole. */
        spans_add(g, first, first + n - 1, lsn);
    }
    return lsn;
}

uint64_t log_put_truncate(struct raft_group *g, uint64_t from)
{
    record_put_truncate(&g->host->scratch, from);
    g->fence_lsn = put_scratch(g, RECORD_TRUNCATE);
    log_cut(g, from - 1);
    return g->fence_lsn;
}

static struct record_base as_record(const struct base *b)
{
    return (struct record_base){b->index, b->term, b->conf.index, buf_slice(&b->conf.bytes)};
}

static void note_told(struct raft_group *g, uint64_t index, uint64_t lsn)
{
    if (g->base_told[0].lsn <= g->host->durable_lsn) {
        g->base_told[1] = g->base_told[0];
    }
    g->base_told[0] = (struct base_told){index, lsn};
}

uint64_t log_put_base(struct raft_group *g, enum record_type type, const struct base *b)
{
    struct record_base rb = as_record(b);
    record_put_base(&g->host->scratch, &rb);
    uint64_t lsn = put_scratch(g, (uint8_t)type);
    if (type == RECORD_RESET) {
        g->fence_lsn = lsn;
    }
    if (type != RECORD_IMAGE) {
        g->base_lsn = lsn;
        note_told(g, b->index, lsn);
    }
    return lsn;
}

static struct record_flags flags_of(const struct raft_group *g)
{
    return (struct record_flags){g->is_suspect, g->is_newcomer, g->is_doubtful};
}

static void take_flags(struct raft_group *g, struct record_flags f)
{
    g->is_suspect = f.is_suspect;
    g->is_newcomer = f.is_newcomer && !f.is_suspect;
    g->is_doubtful = f.is_doubtful;
}

void log_put_suspect(struct raft_group *g)
{
    record_put_suspect(&g->host->scratch, flags_of(g));
    put_scratch(g, RECORD_SUSPECT);
}

uint64_t log_put_create(struct raft_group *g)
{
    record_put_create(&g->host->scratch, g->raft_id);
    g->fence_lsn = put_scratch(g, RECORD_CREATE);
    g->create_lsn = g->stub_lsn = g->fence_lsn;
    return g->fence_lsn;
}

void log_put_delete(struct raft_group *g)
{
    put(g, RECORD_DELETE, SLICE_EMPTY);
}

uint64_t log_put_checkpoint(struct raft_group *g)
{
    struct record_base rb = as_record(&g->base);
    uint64_t needed = log_needed_lsn(g);
    record_put_checkpoint(&g->host->scratch, g->raft_id, g->term, g->voted_for, flags_of(g), &rb);
    uint64_t lsn = put_scratch(g, RECORD_CHECKPOINT);
    if (g->hold_until <= g->host->durable_lsn || needed < g->hold_lsn) {
        g->hold_lsn = needed;
    }
    if (g->is_known && g->stub_lsn <= g->host->durable_lsn) {
        g->stub_kept = g->stub_lsn; /* Durable, thus in an older frame. */
    }
    g->stub_lsn = lsn;
    note_told(g, g->base.index, lsn);
    if (g->is_broken) {
        /* What made it so may be let go now. */
        lsn = put(g, RECORD_BROKEN, SLICE_EMPTY);
    }
    g->hold_until = lsn;
    return lsn;
}

/* ---- What is there, and needed ---- */

void log_cut(struct raft_group *g, uint64_t last)
{
    keep_give_up(g);
    g->moved_ms = g->host->now_ms;
    confs_cut(g, last);
    spans_cut(g, last);
    if (g->last_index > last) {
        g->last_index = last;
    }
}

void log_set_base(struct raft_group *g, uint64_t index, uint64_t term)
{
    uint64_t conf_index;
    struct slice conf = log_conf_as_of(g, index, &conf_index);
    base_set(&g->base, index, term, conf_index, conf);
    unsigned n = 0;
    while (n < g->confs_count && g->confs[n].index <= index) {
        buf_close(&g->confs[n++].bytes);
    }
    if (n > 0) {
        memmove(g->confs, g->confs + n, (g->confs_count - n) * sizeof *g->confs);
    }
    g->confs_count -= n;
}

void log_reset(struct raft_group *g, const struct base *b)
{
    log_cut(g, 0);
    base_copy(&g->base, b);
    log_note_conf(g, buf_slice(&g->base.conf.bytes));
    g->last_index = b->index;
    g->last_term = b->term;
}

void log_durable(struct raft_group *g)
{
    if (g->base_told[0].lsn <= g->host->durable_lsn && g->base_durable < g->base_told[1].index) {
        g->base_durable = g->base_told[1].index;
        spans_drop_below(g, g->base_durable);
    }
}

uint64_t log_needed_lsn(const struct raft_group *g)
{
    uint64_t needed = g->stub_kept != 0 ? g->stub_kept : g->stub_lsn;
    if (g->spans_count > 0 && span_at(g, 0)->lsn < needed) {
        needed = span_at(g, 0)->lsn;
    }
    if (g->hold_until > g->host->durable_lsn && g->hold_lsn < needed) {
        needed = g->hold_lsn;
    }
    return needed;
}

/* ---- Replay ---- */

static void entry_free(struct raft_entry *e)
{
    raft_free(e->buf.base);
}

/* Keep [first, last] of the replayed entries. */
void log_suffix_drop(struct raft_group *g, uint64_t first, uint64_t last)
{
    while (g->suffix_count > 0 && g->suffix_first + g->suffix_count - 1 > last) {
        entry_free(&g->suffix[--g->suffix_count]);
    }
    size_t n = 0;
    while (n < g->suffix_count && g->suffix_first + n < first) {
        entry_free(&g->suffix[n++]);
    }
    if (n > 0) {
        memmove(g->suffix, g->suffix + n, (g->suffix_count - n) * sizeof *g->suffix);
    }
    g->suffix_count -= n;
    g->suffix_first += n;
}

static struct raft_entry entry_copy(const struct record_entry *e)
{
    struct raft_entry copy = {.term = e->term, .type = e->type, .batch = NULL};
    copy.buf.len = e->bytes.len;
    copy.buf.base = raft_malloc(e->bytes.len == 0 ? 1 : e->bytes.len);
    if (e->bytes.len > 0) {
        memcpy(copy.buf.base, e->bytes.ptr, e->bytes.len);
    }
    return copy;
}

static void suffix_insert(struct raft_group *g, size_t at, struct raft_entry e)
{
    if (g->suffix_count == g->suffix_cap) {
        g->suffix_cap = g->suffix_cap == 0 ? 16 : g->suffix_cap * 2;
        g->suffix = xrealloc(g->suffix, g->suffix_cap * sizeof *g->suffix);
    }
    memmove(g->suffix + at + 1, g->suffix + at, (g->suffix_count - at) * sizeof *g->suffix);
    g->suffix[at] = e;
    g->suffix_count++;
}

void log_suffix_keep(struct raft_group *g)
{
    const struct raft *r = g->r;
    uint64_t first = compat_log_first(r), last = compat_log_last(r);
    assert(g->suffix_count == 0);
    first = first > g->base.index ? first : g->base.index + 1;
    g->suffix_first = first;
    for (uint64_t i = first; i <= last; i++) {
        const struct raft_entry *e = compat_entry(r, i);
        if (e == NULL) {
            return;
        }
        suffix_insert(g, g->suffix_count,
                      entry_copy(&(struct record_entry){e->term, (uint8_t)e->type,
                                                        slice_of(e->buf.base, e->buf.len)}));
    }
}

void log_suffix_count_bytes(struct raft_group *g)
{
    size_t bytes = 0;
    for (size_t i = 0; i < g->suffix_count; i++) {
        bytes += g->suffix[i].buf.len;
    }
    instance_log_bytes(g, bytes);
}

static void replay_append(struct raft_group *g, struct record *rec)
{
    struct record_entry e;
    uint64_t index = rec->index;
    /* Overwrite: what follows belonged to another leader. */
    log_suffix_drop(g, 0, index - 1);
    bool is_next = g->suffix_count == 0 || g->suffix_first + g->suffix_count == index;
    bool is_same =
        g->suffix_count == 0 || rec->term == 0 || g->suffix[g->suffix_count - 1].term == rec->term;
    if (!is_next || !is_same) {
        /* A gap: what is before it cannot count any more. What follows may, above a base that comes
         * yet, or behind entries that are carried yet; else connect_suffix finds it. */
        log_suffix_drop(g, UINT64_MAX, 0);
    }
    if (g->suffix_count == 0) {
        g->suffix_first = index;
    }
    int rv;
    while ((rv = record_entry_next(rec, &e)) == 0) {
        suffix_insert(g, g->suffix_count, entry_copy(&e));
        index++;
    }
    g->is_broken = g->is_broken || rv != ERR_NOTFOUND;
}

static void swap_aside(struct raft_group *g)
{
    struct raft_entry *entries = g->aside;
    uint64_t first = g->aside_first;
    size_t count = g->aside_count, cap = g->aside_cap;
    g->aside = g->suffix;
    g->aside_first = g->suffix_first;
    g->aside_count = g->suffix_count;
    g->aside_cap = g->suffix_cap;
    g->suffix = entries;
    g->suffix_first = first;
    g->suffix_count = count;
    g->suffix_cap = cap;
}

/* A run of carried entries began far in front of what is there: that is set aside until the run has
 * reached it. */
static void run_begins_apart(struct raft_group *g)
{
    if (g->aside_count == 0) {
        swap_aside(g);
    }
    log_suffix_drop(g, UINT64_MAX, 0);
}

void log_aside_close(struct raft_group *g)
{
    while (g->aside_count > 0) {
        entry_free(&g->aside[--g->aside_count]);
    }
    free(g->aside);
    g->aside = NULL;
    g->aside_cap = 0;
}

static void run_joins_aside(struct raft_group *g)
{
    uint64_t next = g->suffix_first + g->suffix_count;
    if (g->aside_count == 0 || next < g->aside_first) {
        return;
    }
    size_t n = next - g->aside_first;
    for (; n < g->aside_count; n++) {
        suffix_insert(g, g->suffix_count, g->aside[n]);
        g->aside[n].buf.base = NULL; /* Moved. */
    }
    log_aside_close(g);
}

/* Another leader's entries follow, or a cut, or nothing: the run was given up, or cut short by a
 * crash. Nothing was let go for it, so that what was there is still whole above a base that comes
 * yet. */
static void run_is_over(struct raft_group *g)
{
    g->is_run = false;
    if (g->aside_count == 0) {
        return;
    }
    swap_aside(g);
    log_aside_close(g);
}

/* Entries that were appended in the middle of a run go behind what it will reach, also if the first
 * of that was let go: then they are all there is of it. */
static bool run_goes_on(struct raft_group *g, struct record *rec)
{
    uint64_t next = g->suffix_first + g->suffix_count;
    bool is_behind_aside = g->aside_count > 0 && rec->index == g->aside_first + g->aside_count;
    bool is_behind_run =
        g->aside_count == 0 && g->is_run && g->suffix_count > 0 && rec->index > next;
    if (!is_behind_aside && !is_behind_run) {
        return false;
    }
    swap_aside(g);
    replay_append(g, rec);
    swap_aside(g);
    return true;
}

/* Fills in what is missing in front or behind; what is there is the same. */
static void replay_carry(struct raft_group *g, struct record *rec)
{
    struct record_entry e;
    uint64_t index = rec->index;
    bool is_apart = g->suffix_count > 0 && rec->index + rec->count < g->suffix_first;
    if (is_apart && rec->type == RECORD_AGAIN) {
        return; /* What is between was let go: a base that comes yet has it all. */
    }
    if (is_apart) {
        run_begins_apart(g);
    }
    g->is_run = g->is_run || (rec->type == RECORD_CARRY && g->suffix_count == 0);
    uint64_t old_first = g->suffix_first;
    size_t in_front = 0;
    int rv;
    while ((rv = record_entry_next(rec, &e)) == 0) {
        if (g->suffix_count == 0) {
            g->suffix_first = index;
            suffix_insert(g, 0, entry_copy(&e));
        } else if (index == g->suffix_first + g->suffix_count) {
            suffix_insert(g, g->suffix_count, entry_copy(&e));
        } else if (index < old_first && rec->index + in_front == index) {
            suffix_insert(g, in_front++, entry_copy(&e));
            g->suffix_first = rec->index;
        }
        index++;
    }
    run_joins_aside(g);
    g->is_broken = g->is_broken || rv != ERR_NOTFOUND;
}

static void replay_base(struct raft_group *g, const struct record *rec)
{
    const struct record_base *b = &rec->base;
    if (rec->type == RECORD_IMAGE) {
        base_set(&g->image, b->index, b->term, b->conf_index, b->conf);
        return;
    }
    if (rec->type == RECORD_RESET) {
        log_suffix_drop(g, UINT64_MAX, 0);
    } else if (b->index < g->base.index) {
        return;
    }
    base_set(&g->base, b->index, b->term, b->conf_index, b->conf);
    log_suffix_drop(g, b->index + 1, UINT64_MAX);
    if (g->suffix_count == 0 && g->aside_count > 0) {
        run_is_over(g); /* It covers all that the run has brought. */
        log_suffix_drop(g, b->index + 1, UINT64_MAX);
    }
    g->base_told[1] = g->base_told[0];
    g->base_told[0] = (struct base_told){b->index, g->last_lsn};
}

static void replay_record(struct raft_group *g, struct record *rec)
{
    if (rec->type == RECORD_APPEND && run_goes_on(g, rec)) {
        return;
    }
    if (rec->type == RECORD_APPEND || rec->type == RECORD_TRUNCATE || rec->type == RECORD_RESET ||
        rec->type == RECORD_DELETE) {
        run_is_over(g);
    }
    switch (rec->type) {
    case RECORD_APPEND:
        replay_append(g, rec);
        break;
    case RECORD_CARRY:
    case RECORD_AGAIN:
        replay_carry(g, rec);
        break;
    case RECORD_TRUNCATE:
        log_suffix_drop(g, 0, rec->index - 1);
        break;
    case RECORD_META:
        g->term = rec->term;
        g->voted_for = rec->voted_for;
        break;
    case RECORD_BASE:
    case RECORD_IMAGE:
    case RECORD_RESET:
        replay_base(g, rec);
        break;
    case RECORD_CREATE:
        g->raft_id = rec->raft_id;
        g->is_known = true;
        break;
    case RECORD_DELETE:
        g->is_deleted = true;
        log_suffix_drop(g, UINT64_MAX, 0);
        break;
    case RECORD_SUSPECT:
        take_flags(g, rec->flags);
        break;
    case RECORD_BROKEN:
        g->is_broken = true;
        break;
    case RECORD_CHECKPOINT:
        take_flags(g, rec->flags);
        g->raft_id = rec->raft_id;
        g->term = rec->term;
        g->voted_for = rec->voted_for;
        g->is_known = true;
        replay_base(g, rec);
        break;
    }
}

void log_replay(void *arg, uint64_t lsn, uint8_t type, uint64_t gid, struct slice payload)
{
    struct raft_host *h = arg;
    struct record rec;
    struct raft_group *g;
    int rv = record_decode(type, payload, &rec);

    if (rv == ERR_UNSUPPORTED) {
        return;
    }
    HASH_FIND(hh, h->groups, &gid, sizeof gid, g);
    if (g != NULL && g->is_deleted && type == RECORD_CREATE) {
        group_free(g); /* Another replica of the same group, under a new raft id. */
        g = NULL;
    }
    if (g == NULL) {
        g = group_new(h, gid);
        g->stub_lsn = lsn;
    }
    if (rv != 0) {
        /* The frame's checksum was right: written by another version, or a bug. */
        g->is_broken = true;
        return;
    }
    g->last_lsn = lsn;
    if (type == RECORD_CREATE) {
        g->create_lsn = lsn;
    }
    if (type == RECORD_APPEND || type == RECORD_CARRY || type == RECORD_AGAIN) {
        /* What the store holds was committed: nobody appends there. */
        g->is_broken = g->is_broken || rec.index <= g->base.index;
        if (type == RECORD_APPEND) {
            spans_cut(g, rec.index - 1);
        }
        spans_add(g, rec.index, rec.index + rec.count - 1, lsn);
    }
    if (type == RECORD_TRUNCATE) {
        spans_cut(g, rec.index - 1);
    }
    if (type == RECORD_RESET) {
        spans_cut(g, 0); /* An image has replaced them. */
    }
    if (type == RECORD_CREATE || type == RECORD_CHECKPOINT) {
        g->stub_kept = g->is_known ? g->stub_lsn : 0;
        g->stub_lsn = lsn;
    }
    replay_record(g, &rec);
}

void log_opened(struct raft_group *g)
{
    run_is_over(g);
    g->base_durable = g->base_told[1].index;
    spans_drop_below(g, g->base_durable);
    log_suffix_count_bytes(g);
}

void log_replay_suspect(void *arg, uint64_t gid)
{
    struct raft_host *h = arg;
    struct raft_group *g, *tmp;
    h->has_wal_suspects = true;
    if (gid == WAL_GID_ALL) {
        HASH_ITER(hh, h->groups, g, tmp)
        {
            g->is_suspect = true;
            g->is_newcomer = false; /* The record that said so may be what is lost. */
        }
        return;
    }
    HASH_FIND(hh, h->groups, &gid, sizeof gid, g);
    if (g != NULL) {
        g->is_suspect = true;
        g->is_newcomer = false;
    } else {
        /* Nothing of it is left: lost, and never opened. A stub would claim that the WAL knows it.
         */
        buf_append_u64(&h->unknown_suspects, gid);
    }
}
