/* Opening: what the files say, what of it is kept, and making that durable again.
 *
 * In this order, so that a crash at any point leaves what the next opening needs:
 *   1. list: leftovers (*.tmp) go; headers are read; a *.log without a good one is renamed aside
 *   2. scan each segment, oldest first; find gaps in the LSNs, and what the tail is
 * (raft-guide 7.3)
 *   3. hand out the records
 *   4. re-log: what no durable_lsn covers, and new suspicions, as ONE frame in a fresh segment; so
 *      either all of it supersedes the old tail, or nothing
 *   5. only now salvage: a segment with a reported gap is rewritten (same seq, higher generation)
 *      so that the gap is not reported for ever, and the original is renamed aside
 *
 * Damage counts if it leaves a gap in the LSNs at or above the trim LSN, or is the tail. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/wal_scan.h"

#define RAW_BYTES_MAX (192u << 20) /* Of segments in memory at once. */
/* What no durable_lsn covers is one frame, as each says that the one before is durable, and at most
 * a record beyond a frame's bound. More is no log of ours, and would not fit into a frame. */
#define RELOG_BYTES_MAX (4u * WAL_RECORD_BYTES_MAX)

struct recovery {
    struct wal *w;
    const struct wal_replay *replay;
    struct wal_recovery *found;
    struct wal_scan *scans; /* In order of seq. */
    size_t n;
    struct wal_segments aside; /* To be renamed at the end: bad or superseded files. */
    bool *is_rewritten;        /* By scan: a gap in it, or before it, was reported. */
    uint64_t *limits;          /* By scan: records from here on are superseded. */
    uint64_t floor;            /* No gap below matters. */
    uint64_t durable_lsn;      /* The highest that any frame knows of. */
    uint64_t start;            /* First LSN handed out. */
    uint64_t reach;            /* The LSN after the last one found. */
    uint64_t gap_from, gap_to; /* The last gap, also one that is known: [from, to) is missing. */
    uint64_t relog_from;
    struct gid_set suspects;     /* With those that records tell of. */
    struct gid_set new_suspects; /* Found now. */
    struct wal_frame *relog;
    bool reads_all; /* Also what is below the floor. */
    bool has_below; /* Files were left out for that. */
    bool is_relog_full;
    bool is_of_newer_version;
    struct wal_frame *salvage; /* Frames of the segment being rewritten. */
    struct wal_frame *salvage_last;
    const struct wal_scan *at; /* The segment being read again. */
    uint64_t limit;
    uint64_t next_lsn; /* While salvaging: follows the record before. */
};

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Numbers that the log would go on from. Only a forged one is near the bound; what would be written
 * beyond it the next opening would not believe. */
static bool has_room(uint64_t number)
{
    return number <= WAL_NUMBER_MAX - WAL_NUMBER_ROOM;
}

/* ---- 1. Files ---- */

struct names {
    struct recovery *r;
    char **ptr;
    size_t n;
};

static int path_cmp(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

static void on_name(void *arg, const char *name)
{
    struct names *l = arg;
    struct wal *w = l->r->w;
    unsigned long long seq = 0, generation = 0;
    if (strncmp(name, "wal-", 4) != 0) {
        return;
    }
    /* Names of files set aside count too: theirs are not given again. */
    if (sscanf(name, "wal-%16llx-%16llx", &seq, &generation) == 2 && has_room(seq) &&
        has_room(generation)) {
        w->seq_next = seq >= w->seq_next ? seq + 1 : w->seq_next;
        w->generation_next = generation >= w->generation_next ? generation + 1 : w->generation_next;
    }
    if (has_suffix(name, ".tmp") || has_suffix(name, ".log")) {
        l->ptr = xrealloc(l->ptr, (l->n + 1) * sizeof *l->ptr);
        char path[WAL_PATH_MAX];
        (void)snprintf(path, sizeof path, "%s/%s", w->dir, name);
        l->ptr[l->n++] = xslicedup(slice_str(path));
    }
}

/* @s is NULL when not even the header can be read. */
static void note_damaged(struct recovery *r, const char *path, const struct wal_scan *s)
{
    if (r->found->damaged_file[0] == 0) {
        (void)snprintf(r->found->damaged_file, sizeof r->found->damaged_file, "%.255s", path);
        r->found->damaged_off = s == NULL ? 0 : s->bad_off;
        r->found->is_foreign = s != NULL && s->is_foreign;
    }
}

static void suspect_all(struct recovery *r)
{
    gid_set_add(&r->new_suspects, WAL_GID_ALL);
}

static int seq_cmp(const void *a, const void *b)
{
    const struct wal_segment *x = &((const struct wal_scan *)a)->seg;
    const struct wal_segment *y = &((const struct wal_scan *)b)->seg;
    if (x->seq != y->seq) {
        return x->seq < y->seq ? -1 : 1;
    }
    return (x->generation > y->generation) - (x->generation < y->generation);
}

static int take_file(struct recovery *r, const char *path)
{
    struct wal *w = r->w;
    if (has_suffix(path, ".tmp")) {
        int rv = w->o.ops->unlink(w->o.ops->ctx, path);
        return rv == 0 ? 0 : wal_fail(w, rv, path);
    }
    struct wal_scan scan;
    int rv = wal_scan_header(w, path, &scan);
    if (rv == ERR_CORRUPT) {
        /* Which records it held is not known; nor whether there were any. */
        r->found->is_corrupt = true;
        note_damaged(r, path, NULL);
        suspect_all(r);
        scan = (struct wal_scan){.seg = {.size = 0}};
        (void)snprintf(scan.seg.path, sizeof scan.seg.path, "%s", path);
        wal_segments_push(&r->aside, &scan.seg);
        return 0;
    }
    if (rv != 0) {
        note_damaged(r, path, NULL);
        return wal_fail(w, rv == ERR_EXISTS ? ERR_CORRUPT : rv, path);
    }
    const struct wal_segment *s = &scan.seg;
    if (!has_room(s->seq) || !has_room(s->generation)) {
        return wal_fail(w, ERR_CORRUPT, path);
    }
    w->seq_next = s->seq >= w->seq_next ? s->seq + 1 : w->seq_next;
    w->generation_next =
        s->generation >= w->generation_next ? s->generation + 1 : w->generation_next;
    r->scans = xrealloc(r->scans, (r->n + 1) * sizeof *r->scans);
    r->scans[r->n++] = scan;
    return 0;
}

static int list_files(struct recovery *r)
{
    struct wal *w = r->w;
    struct names l = {.r = r};
    int rv = w->o.ops->list(w->o.ops->ctx, w->dir, on_name, &l);
    if (rv != 0) {
        rv = wal_fail(w, rv == ERR_NOTFOUND ? ERR_IO : rv, w->dir);
    }
    if (l.n > 0) {
        qsort(l.ptr, l.n, sizeof *l.ptr, path_cmp);
    }
    for (size_t i = 0; i < l.n; i++) {
        rv = rv == 0 ? take_file(r, l.ptr[i]) : rv;
        free(l.ptr[i]);
    }
    free(l.ptr);
    if (rv != 0 || r->n == 0) {
        return rv;
    }
    qsort(r->scans, r->n, sizeof *r->scans, seq_cmp);
    size_t kept = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (i + 1 < r->n && r->scans[i].seg.seq == r->scans[i + 1].seg.seq) {
            wal_segments_push(&r->aside, &r->scans[i].seg); /* It was salvaged. */
        } else {
            r->scans[kept++] = r->scans[i];
        }
    }
    r->n = kept;
    return 0;
}

/* ---- 2. What they hold ---- */

/* Keep what was read of segment @i and those before for handing out, so that each is read once:
 * those with records above the floor, as long as memory allows. */
static void keep_raw(struct recovery *r, size_t i)
{
    uint64_t sum = 0;
    for (size_t k = 0; k <= i; k++) {
        struct wal_scan *s = &r->scans[k];
        if (s->seg.last_lsn < r->floor || sum + s->raw_bytes > RAW_BYTES_MAX) {
            free(s->raw);
            s->raw = NULL;
        }
        sum += s->raw == NULL ? 0 : s->raw_bytes;
    }
}

/* Scan what is not below; from nothing, if it was done before. */
static int scan_each(struct recovery *r)
{
    uint64_t expected = 0;
    r->durable_lsn = 0;
    r->floor = 1;
    for (size_t i = 0; i < r->n; i++) {
        struct wal_scan *s = &r->scans[i];
        if (s->is_below) {
            continue;
        }
        int rv = wal_scan_segment(r->w, expected, r->durable_lsn + 1, s, NULL, NULL);
        if (rv != 0) {
            return rv;
        }
        expected = s->end_lsn != 0 ? s->end_lsn : expected;
        r->durable_lsn = s->durable_lsn > r->durable_lsn ? s->durable_lsn : r->durable_lsn;
        r->floor = s->trim_lsn > r->floor ? s->trim_lsn : r->floor;
        keep_raw(r, i);
    }
    return 0;
}

/* Most files of a log that was written fast are kept only to be written over. Going by the headers
 * of first frames, and by the frames of the newest file, find which hold nothing but what is below
 * the floor: those before the last one that begins below it. */
static int find_below(struct recovery *r, size_t *ret_first)
{
    uint64_t floor = 1;
    size_t newest = r->n;
    for (size_t i = 0; i < r->n; i++) {
        floor = r->scans[i].head_trim > floor ? r->scans[i].head_trim : floor;
        newest = r->scans[i].head_lsn != 0 ? i : newest;
    }
    if (newest < r->n) {
        int rv = wal_scan_segment(r->w, 0, 0, &r->scans[newest], NULL, NULL);
        if (rv != 0) {
            return rv;
        }
        floor = r->scans[newest].trim_lsn > floor ? r->scans[newest].trim_lsn : floor;
    }
    size_t first = 0;
    for (size_t i = 0; i < r->n; i++) {
        bool is_begun = r->scans[i].head_lsn != 0;
        first = is_begun && r->scans[i].head_lsn <= floor ? i : first;
    }
    /* Until a synced frame says the same they are sealed segments like others (publish). */
    uint64_t next = first == 0 ? 0 : r->scans[first].head_lsn;
    for (size_t i = first; i-- > 0;) {
        struct wal_scan *s = &r->scans[i];
        s->is_below = true;
        s->seg.last_lsn = next - 1;
        next = s->head_lsn != 0 && s->head_lsn < next ? s->head_lsn : next;
        s->seg.first_lsn = next;
    }
    *ret_first = first;
    return 0;
}

/* Was that right? The headers were believed before their frames were read. */
static bool is_right_below(const struct recovery *r, size_t first)
{
    const struct wal_scan *s = &r->scans[first];
    return s->is_head_good && s->runs_count > 0 && s->runs[0].first == s->head_lsn &&
           s->head_lsn <= r->floor;
}

static int scan_all(struct recovery *r)
{
    size_t first = 0;
    int rv = r->reads_all ? 0 : find_below(r, &first);
    rv = rv == 0 ? scan_each(r) : rv;
    if (rv == 0 && first > 0 && !is_right_below(r, first)) {
        for (size_t i = 0; i < first; i++) {
            r->scans[i].is_below = false;
        }
        first = 0;
        rv = scan_each(r);
    }
    r->has_below = first > 0;
    uint64_t limit = UINT64_MAX;
    for (size_t i = r->n; i-- > 0;) {
        r->limits[i] = limit;
        if (r->scans[i].runs_count > 0 && r->scans[i].seg.first_lsn < limit) {
            limit = r->scans[i].seg.first_lsn;
        }
    }
    return rv;
}

/* May records from @from to before the first run of segment @i have been in segment @j? */
static bool may_have_held(const struct recovery *r, size_t j, size_t i, uint64_t from)
{
    const struct wal_scan *s = &r->scans[j];
    return j == i ? !s->is_head_good : !(s->has_footer && s->end_lsn <= from);
}

/* Records from @from to before run @k of segment @i are missing; @before has those before them.
 * Suspect the groups of each segment that may have held them; all groups if one of these segments
 * is not there, or has no footer. */
static void suspect_holders(struct recovery *r, size_t i, size_t k, size_t before, uint64_t from)
{
    bool is_known = k > 0 || before < r->n;
    struct gid_set gids = {.slots = NULL};
    for (size_t j = k > 0 ? i : before; j <= i && is_known; j++) {
        const struct wal_scan *s = &r->scans[j];
        if (k == 0 && j > before && s->seg.seq != r->scans[j - 1].seg.seq + 1) {
            is_known = false;
        } else if (k > 0 || may_have_held(r, j, i, from)) {
            is_known = s->has_footer;
            gid_set_merge(&gids, &s->footer_gids);
            note_damaged(r, s->seg.path, s);
        }
    }
    if (is_known) {
        gid_set_merge(&r->new_suspects, &gids);
    } else {
        suspect_all(r);
    }
    gid_set_close(&gids);
    note_damaged(r, r->scans[i].seg.path, &r->scans[i]);
}

static void report_gap(struct recovery *r, size_t i, size_t k, size_t before, uint64_t from)
{
    struct wal_run *run = &r->scans[i].runs[k];
    r->found->is_corrupt = true;
    suspect_holders(r, i, k, before, from);
    r->is_rewritten[i] = true;
    if (run->gap_from == 0 || run->gap_from > from) {
        run->gap_from = from;
    }
}

static void find_gaps(struct recovery *r)
{
    size_t before = SIZE_MAX; /* The segment of the run before. */
    for (size_t i = 0; i < r->n; i++) {
        for (size_t k = 0; k < r->scans[i].runs_count; k++) {
            struct wal_run *run = &r->scans[i].runs[k];
            if (run->first >= r->limits[i]) {
                break;
            }
            uint64_t expected = r->reach == 0 ? r->floor : r->reach;
            if (r->reach == 0) {
                r->start = run->first;
            }
            if (run->first > expected) {
                bool is_known = run->gap_from != 0 && run->gap_from <= expected;
                if (run->first <= r->floor) {
                    r->start = run->first;
                } else if (!is_known) {
                    report_gap(r, i, k, before, expected);
                }
                r->relog_from = r->gap_to = run->first;
                r->gap_from = expected;
            }
            uint64_t next = run->last < r->limits[i] ? run->last + 1 : r->limits[i];
            r->reach = next;
            before = i;
        }
    }
}

/* Torn: nobody was told. Rotten: somebody may have been. */
static void judge_tail(struct recovery *r)
{
    size_t last = 0; /* The last segment with records. */
    for (size_t i = 0; i < r->n; i++) {
        last = r->scans[i].runs_count > 0 ? i : last;
    }
    for (size_t i = last; i < r->n; i++) {
        const struct wal_scan *s = &r->scans[i];
        if (s->end == WAL_END_TORN) {
            r->found->is_torn = true;
        } else if (s->end == WAL_END_ROTTEN || (i > last && s->is_damaged)) {
            r->found->is_rotten = true;
            note_damaged(r, s->seg.path, s);
            suspect_all(r);
            if (i > last) {
                wal_segments_push(&r->aside, &s->seg);
            }
        }
    }
    if (r->scans[r->n - 1].has_footer) {
        /* A footer is written when the next segment is there. It is not, or its header is not. */
        r->found->is_rotten = true;
        note_damaged(r, r->scans[r->n - 1].seg.path, &r->scans[r->n - 1]);
        suspect_all(r);
    }
    if (r->durable_lsn >= (r->reach == 0 ? 1 : r->reach) && r->durable_lsn >= r->floor) {
        const struct wal_scan *s = &r->scans[last];
        r->found->is_rotten = true;
        note_damaged(r, s->seg.path, s);
        if (s->has_footer && s->end_lsn > r->durable_lsn) {
            gid_set_merge(&r->new_suspects, &s->footer_gids);
        } else {
            suspect_all(r);
        }
    }
    r->found->is_torn = r->found->is_torn && !r->found->is_rotten;
}

/* ---- 3. Records ---- */

/* To skip what a newer version wrote would lose what it means; its checksum was right. */
static bool is_known(const struct recovery *r, uint8_t type)
{
    if (type < WAL_TYPE_HOST_MIN) {
        return type <= WAL_TYPE_CLEARED;
    }
    return r->replay == NULL || r->replay->record_type_max == 0 ||
           type <= r->replay->record_type_max;
}

static void on_record(void *arg, uint64_t lsn, uint8_t type, uint64_t gid, struct slice payload)
{
    struct recovery *r = arg;
    if (lsn < r->start || lsn >= r->limit) {
        return;
    }
    if (!is_known(r, type)) {
        r->is_of_newer_version = true;
        return;
    }
    if (lsn >= r->relog_from && r->relog->len + payload.len > RELOG_BYTES_MAX) {
        r->is_relog_full = true;
        return;
    }
    if (lsn >= r->relog_from) {
        wal_frame_add(r->relog, type, gid, &payload, 1);
    }
    if (type == WAL_TYPE_SUSPECT) {
        gid_set_add(&r->suspects, gid);
    } else if (type == WAL_TYPE_CLEARED) {
        gid_set_remove(&r->suspects, gid);
    }
    r->w->real_lsn = type == WAL_TYPE_WATERMARK ? r->w->real_lsn : lsn;
    if (type < WAL_TYPE_HOST_MIN) {
        return;
    }
    r->found->records_count++;
    if (r->replay != NULL && r->replay->record != NULL) {
        r->replay->record(r->replay->arg, lsn, type, gid, payload);
    }
}

static int replay_all(struct recovery *r)
{
    for (size_t i = 0; i < r->n; i++) {
        struct wal_scan s = {.seg = r->scans[i].seg};
        r->limit = r->limits[i];
        if (r->scans[i].runs_count == 0 || s.seg.first_lsn >= r->limit ||
            s.seg.last_lsn < r->start) {
            continue;
        }
        s.raw = r->scans[i].raw;
        s.raw_bytes = r->scans[i].raw_bytes;
        r->scans[i].raw = NULL;
        int rv = wal_scan_segment(r->w, 0, 0, &s, on_record, r);
        bool is_same = s.seg.last_lsn == r->scans[i].seg.last_lsn;
        wal_scan_close(&s);
        if (rv != 0 || !is_same) {
            return rv != 0 ? rv : wal_fail(r->w, ERR_IO, s.seg.path);
        }
        if (r->is_of_newer_version) {
            return wal_fail(r->w, ERR_VERSION, r->scans[i].seg.path);
        }
        if (r->is_relog_full) {
            return wal_fail(r->w, ERR_CORRUPT, r->scans[i].seg.path);
        }
    }
    return 0;
}

static void report_suspects(struct recovery *r)
{
    for (size_t i = 0; i <= r->suspects.cap; i++) {
        uint64_t gid = i < r->suspects.cap ? r->suspects.slots[i] : 0;
        r->found->has_unknown_groups = r->found->has_unknown_groups || gid == WAL_GID_ALL;
        if ((gid != 0 || (i == r->suspects.cap && r->suspects.has_zero)) && r->replay != NULL &&
            r->replay->suspect != NULL) {
            r->replay->suspect(r->replay->arg, gid);
        }
    }
}

/* ---- 4. Durable again ---- */

static int relog(struct recovery *r)
{
    struct wal *w = r->w;
    struct wal_frame *f = r->relog;
    gid_set_merge(&r->suspects, &r->new_suspects);
    for (size_t i = 0; i <= r->new_suspects.cap; i++) {
        uint64_t gid = i < r->new_suspects.cap ? r->new_suspects.slots[i] : 0;
        if (gid != 0 || (i == r->new_suspects.cap && r->new_suspects.has_zero)) {
            w->real_lsn = f->lsn + f->records;
            wal_frame_add(f, WAL_TYPE_SUSPECT, gid, NULL, 0);
        }
    }
    uint64_t expected = r->reach == 0 ? r->floor : r->reach;
    if (f->records == 0 && f->lsn > expected) {
        wal_frame_add(f, WAL_TYPE_WATERMARK, 0, NULL, 0); /* To say that the gap is known. */
    }
    w->next_lsn = f->lsn + f->records;
    w->durable_lsn = w->next_lsn - 1;
    w->flight_durable = r->durable_lsn;
    w->trim_lsn = r->floor;
    if (f->records == 0) {
        return 0;
    }
    struct wal_frame_head head = {.durable_lsn = r->durable_lsn, .trim_lsn = r->floor};
    if (f->lsn > expected || f->lsn == r->gap_to) {
        /* Reported above. It supersedes the run that the gap ends with, so it has to say so. */
        head.flags = WAL_FRAME_GAP;
        head.gap_from = f->lsn > expected ? expected : r->gap_from;
    }
    uint64_t bytes = wal_frame_bytes(f->len - WAL_FRAME_HEADER_BYTES);
    uint64_t need = WAL_BLOCK_BYTES + bytes + wal_frame_bytes(8 * (uint64_t)f->gids.n);
    int rv = wal_segment_create(
        w, w->seq_next++, w->generation_next++,
        need > w->segment_bytes ? need + w->segment_bytes : w->segment_bytes, &w->cur);
    /* The name comes last: cut in between, the next opening finds what this one found. */
    if (rv == 0) {
        rv = wal_writer_put(w, &w->cur, f, &head);
    }
    if (rv == 0) {
        rv = wal_segment_name(w, &w->cur);
    }
    if (rv == 0) {
        w->current = w->cur.seg;
        w->has_current = true;
        w->durable_trim = r->floor;
    }
    return rv;
}

/* ---- 5. Salvage ---- */

static void on_salvage(void *arg, uint64_t lsn, uint8_t type, uint64_t gid, struct slice payload)
{
    struct recovery *r = arg;
    struct wal_frame *f = r->salvage_last;
    if (f == NULL || lsn != r->next_lsn || f->len + payload.len > r->w->o.frame_bytes_max) {
        struct wal_frame *g = wal_frame_new();
        wal_frame_reset(g, lsn);
        if (f == NULL) {
            r->salvage = g;
        } else {
            f->next = g;
        }
        r->salvage_last = f = g;
    }
    wal_frame_add(f, type, gid, &payload, 1);
    r->next_lsn = lsn + 1;
}

static uint64_t gap_before(const struct wal_scan *s, uint64_t lsn)
{
    for (size_t k = 0; k < s->runs_count; k++) {
        if (s->runs[k].first == lsn) {
            uint64_t from = s->runs[k].gap_from;
            return from == 0 && k > 0 ? s->runs[k - 1].last + 1 : from;
        }
    }
    return 0;
}

/* Write r->salvage as a segment in the place of @s. */
static int write_salvaged(struct recovery *r, struct wal_scan *s)
{
    struct wal *w = r->w;
    uint64_t bytes = WAL_BLOCK_BYTES;
    struct gid_set gids = {.slots = NULL};
    for (struct wal_frame *f = r->salvage; f != NULL; f = f->next) {
        bytes += wal_frame_bytes(f->len - WAL_FRAME_HEADER_BYTES);
        gid_set_merge(&gids, &f->gids);
    }
    bytes += wal_frame_bytes(8 * (uint64_t)gids.n);
    gid_set_close(&gids);
    struct wal_writer out = {.file = NULL};
    int rv = wal_segment_create(w, s->seg.seq, w->generation_next++, bytes, &out);
    for (struct wal_frame *f = r->salvage; f != NULL && rv == 0; f = f->next) {
        /* No frame knows of what comes after it, though the segment's last one did. */
        struct wal_frame_head head = {.durable_lsn = min64(s->durable_lsn, f->lsn - 1)};
        head.trim_lsn = min64(s->trim_lsn, head.durable_lsn + 1);
        head.gap_from = gap_before(s, f->lsn);
        head.flags = head.gap_from != 0 ? WAL_FRAME_GAP : 0;
        rv = wal_writer_put(w, &out, f, &head);
    }
    if (rv == 0) {
        uint64_t next = out.seg.last_lsn + 1;
        rv = wal_writer_footer(w, &out, next, min64(s->trim_lsn, next));
    }
    if (rv == 0) {
        rv = wal_segment_name(w, &out);
    }
    if (rv == 0) {
        wal_segments_push(&r->aside, &s->seg);
        s->seg = out.seg;
    }
    wal_writer_close(w, &out);
    return rv;
}

static int salvage(struct recovery *r, size_t i)
{
    struct wal_scan again = {.seg = r->scans[i].seg};
    int rv = wal_scan_segment(r->w, 0, 0, &again, on_salvage, r);
    wal_scan_close(&again);
    if (rv == 0) {
        rv = write_salvaged(r, &r->scans[i]);
    }
    while (r->salvage != NULL) {
        struct wal_frame *f = r->salvage;
        r->salvage = f->next;
        wal_frame_free(f);
    }
    r->salvage_last = NULL;
    return rv;
}

static int rename_aside(struct recovery *r)
{
    struct wal *w = r->w;
    for (size_t i = 0; i < r->aside.n; i++) {
        char to[WAL_PATH_MAX + 16];
        (void)snprintf(to, sizeof to, "%s.damaged", r->aside.ptr[i].path);
        int rv = w->o.ops->rename(w->o.ops->ctx, r->aside.ptr[i].path, to);
        if (rv != 0) {
            return wal_fail(w, rv, r->aside.ptr[i].path);
        }
    }
    if (r->aside.n == 0) {
        return 0;
    }
    int rv = w->o.ops->sync_dir(w->o.ops->ctx, w->dir);
    return rv == 0 ? 0 : wal_fail(w, rv, w->dir);
}

static bool is_aside(const struct recovery *r, const struct wal_segment *s)
{
    for (size_t i = 0; i < r->aside.n; i++) {
        if (strcmp(r->aside.ptr[i].path, s->path) == 0) {
            return true;
        }
    }
    return false;
}

/* Segments below the floor are kept until a frame that says so is synced (wal_batch_done). */
static void publish(struct recovery *r)
{
    struct wal *w = r->w;
    for (size_t i = 0; i < r->n; i++) {
        struct wal_segment *s = &r->scans[i].seg;
        if (is_aside(r, s)) {
            continue;
        }
        s->size = r->scans[i].is_short ? 0 : s->size; /* Not to be reused. */
        bool is_sealed = r->scans[i].runs_count > 0 || r->scans[i].is_below;
        wal_segments_push(is_sealed ? &w->sealed : &w->free, s);
    }
    if (w->has_current) {
        wal_free_trimmed(w);
    }
}

/* What is there, and what is missing. Changes nothing but that unfinished files go. */
static int look(struct recovery *r)
{
    int rv = list_files(r);
    if (rv != 0) {
        return rv;
    }
    r->is_rewritten = xcalloc(r->n + 1, sizeof *r->is_rewritten);
    r->limits = xcalloc(r->n + 1, sizeof *r->limits);
    rv = scan_all(r);
    if (rv != 0) {
        return rv;
    }
    find_gaps(r);
    if (r->n > 0) {
        judge_tail(r);
    }
    return 0;
}

static int recover(struct recovery *r)
{
    struct wal *w = r->w;
    /* Where the log goes on: after everything found, known of, or trimmed. */
    uint64_t next = r->reach > r->floor ? r->reach : r->floor;
    next = r->durable_lsn + 1 > next ? r->durable_lsn + 1 : next;
    r->relog_from = r->durable_lsn + 1 > r->relog_from ? r->durable_lsn + 1 : r->relog_from;
    r->relog_from = r->relog_from > r->start ? r->relog_from : r->start;
    if (r->reach < next || r->relog_from > next) {
        r->relog_from = next;
    }
    if (!has_room(next)) {
        return wal_fail(w, ERR_CORRUPT, r->scans[r->n - 1].seg.path);
    }
    r->relog = wal_frame_new();
    wal_frame_reset(r->relog, r->relog_from);
    int rv = replay_all(r);
    if (rv == 0) {
        assert(r->relog->lsn + r->relog->records == next);
        rv = relog(r);
    }
    if (rv == 0) {
        report_suspects(r);
    }
    for (size_t i = 0; i < r->n && rv == 0; i++) {
        rv = r->is_rewritten[i] ? salvage(r, i) : 0;
    }
    if (rv == 0) {
        rv = rename_aside(r);
    }
    if (rv == 0) {
        publish(r);
        r->found->last_lsn = w->durable_lsn;
    }
    return rv;
}

static void recovery_close(struct recovery *r)
{
    for (size_t i = 0; i < r->n; i++) {
        wal_scan_close(&r->scans[i]);
    }
    free(r->scans);
    free(r->is_rewritten);
    free(r->limits);
    free(r->aside.ptr);
    gid_set_close(&r->suspects);
    gid_set_close(&r->new_suspects);
    wal_frame_free(r->relog);
}

int wal_recover(struct wal *w, const struct wal_replay *replay, struct wal_recovery *ret)
{
    struct recovery r = {.w = w, .replay = replay, .found = ret, .floor = 1};
    int rv = look(&r);
    if (rv == 0 && r.has_below && (ret->is_torn || ret->is_rotten || ret->is_corrupt)) {
        /* Records may be lost for whose sake older ones were let go, and those may still be there.
         */
        recovery_close(&r);
        *ret = (struct wal_recovery){.is_torn = false};
        r = (struct recovery){
            .w = w, .replay = replay, .found = ret, .floor = 1, .reads_all = true};
        rv = look(&r);
    }
    rv = rv == 0 ? recover(&r) : rv;
    recovery_close(&r);
    return rv;
}
