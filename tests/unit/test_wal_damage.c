/* Damage at rest: bits, sectors, lengths and whole files. Whatever is handed out is right, and a
 * record that was durable and is not handed out is reported: its group is suspect, at this opening
 * and at each later one until the host clears it, also when that opening is cut short.
 *
 * Cases are sampled; with WEIR_EXHAUSTIVE set each bit, length and sector of each file is damaged
 * and the log opened once, and the sample goes through all the rest. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/wal_format.h"
#include "tests/unit/wal_world.h"

#define KEY_AFTER 1000000u
#define FILES_MAX 16u

struct files {
    char names[FILES_MAX][128];
    size_t count;
};

static void on_file(void *arg, const char *name)
{
    struct files *f = arg;
    cr_assert_lt(f->count, FILES_MAX);
    (void)snprintf(f->names[f->count++], sizeof f->names[0], "%s", name);
}

/* One life: groups 1 and 2, then 3 and 4, then 5, then all; a file is recycled. */
struct world {
    struct wal_world *x;
    struct files files;
    uint64_t last_frame; /* LSN with which the last frame of records begins. */
    bool is_vouched;     /* A later frame says that the last one is durable. */
};

static void append_frames(struct world *w, unsigned frames, uint64_t gid_first, uint64_t gids)
{
    for (unsigned i = 0; i < frames; i++) {
        size_t size = i == 1 ? 1500 : 40; /* Some frames are more than a sector. */
        w->last_frame = wal_next_lsn(w->x->w);
        for (unsigned k = 0; k < 2; k++) {
            uint64_t gid = gid_first + (i + k) % gids;
            (void)wal_world_append(w->x, 5 * w->x->next_key++ + gid - 1, size + 17 * k);
        }
        cr_assert_eq(wal_world_commit(w->x), 0);
    }
}

static void world_open(struct world *w, bool is_vouched)
{
    struct wal_world *x = xmalloc(sizeof *x);
    *w = (struct world){.x = x, .is_vouched = is_vouched};
    wal_world_init(x, sim_disk_new(1));
    x->o.segment_bytes_min = 5 * 4096;
    x->o.segment_bytes_max = 5 * 4096;
    cr_assert_eq(wal_world_open(x), 0);
    append_frames(w, 6, 1, 2); /* Three frames and a footer fill a segment. */
    wal_world_trim(x, 7);
    append_frames(w, 1, 1, 2);
    append_frames(w, 2, 1, 2);
    append_frames(w, 3, 3, 2); /* Into the recycled file. */
    append_frames(w, 3, 5, 1);
    append_frames(w, 2, 1, 5);
    if (is_vouched) {
        cr_assert_eq(wal_world_idle(x), 0);
    }
    cr_assert_eq(wal_sealed_count(x->w), 4);
    wal_world_close(x);
    sim_disk_each(x->disk, on_file, &w->files);
}

static void world_close(struct world *w)
{
    sim_disk_free(w->x->disk);
    free(w->x);
}

static struct wal_world *world_on(struct sim_disk *disk, const struct wal_world *from)
{
    struct wal_world *y = xmalloc(sizeof *y);
    memcpy(y, from, sizeof *y);
    y->disk = disk;
    y->o.ops = sim_disk_ops(disk);
    y->w = NULL;
    return y;
}

/* ---- The oracle ---- */

struct verdict {
    uint64_t lost; /* Records that were durable. */
    uint64_t suspects;
    bool is_reported; /* Some damage was. */
    bool is_torn;
};

/* @exempt: LSNs from here on may be lost without a word (the torn tail of raft-guide 7.3). */
static struct verdict check_open(const struct wal_world *y, uint64_t exempt, const char *what)
{
    struct verdict v = {0, y->suspects, y->found.is_corrupt || y->found.is_rotten,
                        y->found.is_torn};
    uint64_t durable = wal_world_promise(y, UINT64_MAX).durable_lsn;
    cr_assert_eq(y->wrong, 0, "%s: records that nobody appended", what);
    cr_assert_eq(y->found.has_unknown_groups, (y->suspects & WAL_WORLD_ALL) != 0);
    cr_assert_eq(v.is_reported, y->found.damaged_file[0] != 0, "%s", what);
    for (uint64_t lsn = y->trim_lsn; lsn <= durable; lsn++) {
        if (y->appended[lsn] == 0 || y->seen[lsn] != 0) {
            continue;
        }
        v.lost++;
        uint64_t gid = wal_world_gid(y->appended[lsn]);
        cr_assert(lsn >= exempt || (y->suspects & (WAL_WORLD_ALL | UINT64_C(1) << gid)) != 0,
                  "%s: LSN %" PRIu64 " is lost and nobody suspects group %" PRIu64, what, lsn, gid);
    }
    return v;
}

static void check_equal(const struct wal_world *y, const uint64_t *seen, uint64_t suspects,
                        const char *what)
{
    cr_assert_eq(y->wrong, 0, "%s", what);
    for (uint64_t lsn = y->trim_lsn; lsn < WAL_WORLD_LSN_MAX; lsn++) {
        cr_assert_eq(y->seen[lsn], seen[lsn], "%s: LSN %" PRIu64, what, lsn);
    }
    cr_assert_eq(y->suspects & suspects, suspects, "%s: a suspicion is forgotten", what);
}

struct nested {
    const struct wal_world *y;
    uint64_t suspects;
    const char *what;
    uint64_t states;
};

static bool on_state(void *arg, struct sim_disk *state, uint64_t prefix)
{
    struct nested *n = arg;
    struct wal_world *z = world_on(state, n->y);
    char when[96];
    (void)snprintf(when, sizeof when, "%s, recovery cut at %" PRIu64, n->what, prefix);
    cr_assert_eq(wal_world_open(z), 0, "%s", when);
    check_equal(z, n->y->seen, n->suspects, when);
    wal_world_close(z);
    sim_disk_crash_all(state, false);
    cr_assert_eq(wal_world_open(z), 0, "%s", when);
    check_equal(z, n->y->seen, n->suspects, when);
    cr_assert_not(z->found.is_corrupt, "%s: reported again", when);
    cr_assert_not(z->found.is_rotten, "%s: reported again", when);
    wal_world_close(z);
    free(z);
    n->states++;
    return true;
}

static void clear_all(struct wal_world *y)
{
    for (uint64_t gid = 0; gid <= WAL_WORLD_GIDS; gid++) {
        if ((y->suspects >> gid & 1) != 0) {
            y->appended[wal_append(y->w, WAL_TYPE_CLEARED, gid, NULL, 0)] = 0;
        }
    }
    if (y->found.has_unknown_groups) {
        y->appended[wal_append(y->w, WAL_TYPE_CLEARED, WAL_GID_ALL, NULL, 0)] = 0;
    }
}

/* Recover @disk, which is freed, from damage done to it. */
static struct verdict check_once(struct world *w, struct sim_disk *disk, const char *what)
{
    struct wal_world *y = world_on(disk, w->x);
    cr_assert_eq(wal_world_open(y), 0, "%s", what);
    struct verdict v = check_open(y, UINT64_MAX, what);
    wal_world_close(y);
    free(y);
    sim_disk_free(disk);
    return v;
}

/* The same, again and again, and write on. */
static struct verdict check_damaged(struct world *w, struct sim_disk *disk, uint64_t exempt,
                                    bool is_nested, const char *what)
{
    struct wal_world *y = world_on(disk, w->x);
    uint64_t seen[WAL_WORLD_LSN_MAX];
    if (is_nested) {
        sim_disk_trace_start(disk);
    }
    cr_assert_eq(wal_world_open(y), 0, "%s", what);
    struct verdict v = check_open(y, exempt, what);
    memcpy(seen, y->seen, sizeof seen);
    if (is_nested) {
        struct nested n = {.y = y, .suspects = v.suspects, .what = what};
        struct sim_disk_states how = {.subsets_max = 4, .prefix_step = 1, .seed = 1};
        cr_assert_gt(sim_disk_each_state(disk, &how, on_state, &n), 0);
    }
    wal_world_close(y);
    sim_disk_crash_all(disk, false);
    cr_assert_eq(wal_world_open(y), 0, "%s", what);
    check_equal(y, seen, v.suspects, what);
    cr_assert_eq(y->suspects, v.suspects, "%s: other suspects", what);
    cr_assert_not(y->found.is_corrupt, "%s: reported again: %s", what, y->found.damaged_file);
    cr_assert_not(y->found.is_rotten, "%s: reported again", what);
    clear_all(y);
    for (unsigned i = 0; i < 5; i++) {
        uint64_t lsn = wal_world_append(y, KEY_AFTER + i, 50);
        seen[lsn] = KEY_AFTER + i;
        cr_assert_eq(wal_world_commit(y), 0);
    }
    wal_world_close(y);
    sim_disk_crash_all(disk, false);
    cr_assert_eq(wal_world_open(y), 0, "%s", what);
    check_equal(y, seen, 0, what);
    cr_assert_eq(y->suspects, 0, "%s: cleared, and suspect again", what);
    cr_assert_not(y->found.is_corrupt || y->found.is_rotten || y->found.is_torn, "%s", what);
    wal_world_close(y);
    free(y);
    sim_disk_free(disk);
    return v;
}

/* ---- Bits, lengths, sectors ---- */

struct sums {
    uint64_t tried, lost, reported, everybody;
};

static void add(struct sums *s, const struct verdict *v)
{
    s->tried++;
    s->lost += v->lost > 0;
    s->reported += v->is_reported;
    s->everybody += (v->suspects & WAL_WORLD_ALL) != 0;
}

static void print_sums(const struct sums *s)
{
    cr_log_info("%" PRIu64 " tried, %" PRIu64 " lost records, %" PRIu64 " reported, %" PRIu64
                " suspect everybody",
                s->tried, s->lost, s->reported, s->everybody);
}

static bool is_exhaustive(void)
{
    return getenv("WEIR_EXHAUSTIVE") != NULL;
}

/* One case in so many, spread evenly. */
static bool is_chosen(uint64_t n, unsigned one_in)
{
    return (n * 2654435761u >> 9) % one_in == 0;
}

/* Zeros are padding, or high bytes; far into a frame come payloads: fewer of them. */
static bool is_bit_chosen(const uint8_t *bytes, uint64_t bit)
{
    return (bytes[bit / 8] != 0 || bit % 61 == 0) && (bit / 8 % 4096 <= 512 || bit % 13 == 0) &&
           is_chosen(bit, 16);
}

static void flip_every_bit(bool is_vouched, size_t files_from)
{
    struct world w;
    struct sums sums = {0};
    uint64_t deep = 0;
    world_open(&w, is_vouched);
    for (size_t i = files_from; i < w.files.count; i++) {
        uint64_t size = sim_disk_file_size(w.x->disk, w.files.names[i]);
        uint8_t *copy = xmalloc(size);
        memcpy(copy, sim_disk_bytes(w.x->disk, w.files.names[i]), size);
        for (uint64_t bit = 0; bit < size * 8; bit++) {
            bool is_deep = is_bit_chosen(copy, bit);
            if (!is_deep && !is_exhaustive()) {
                continue;
            }
            char what[64];
            (void)snprintf(what, sizeof what, "file %zu bit %" PRIu64, i, bit);
            struct sim_disk *d = sim_disk_clone(w.x->disk);
            cr_assert(sim_disk_flip_bit(d, w.files.names[i], bit));
            struct verdict v = is_deep ? check_damaged(&w, d, UINT64_MAX, deep++ % 499 == 0, what)
                                       : check_once(&w, d, what);
            cr_assert_not(v.is_torn, "%s: a flipped bit is not a torn write", what);
            add(&sums, &v);
        }
        free(copy);
    }
    print_sums(&sums);
    cr_assert_gt(sums.lost, 60);
    world_close(&w);
}

Test(wal_damage, every_flipped_bit_is_reported_or_harmless)
{
    flip_every_bit(true, 0);
}

Test(wal_damage, every_flipped_bit_with_an_unvouched_tail_is_reported_or_harmless)
{
    flip_every_bit(false, 3);
}

Test(wal_damage, every_truncation_is_reported_or_harmless)
{
    struct world w;
    struct sums sums = {0};
    uint64_t deep = 0;
    world_open(&w, false);
    for (size_t i = 0; i < w.files.count; i++) {
        uint64_t size = sim_disk_file_size(w.x->disk, w.files.names[i]);
        for (uint64_t len = 0; len < size; len++) {
            bool is_deep = is_chosen(len, len % 4096 > 200 ? 128 : 8);
            if (!is_deep && !is_exhaustive()) {
                continue;
            }
            char what[64];
            (void)snprintf(what, sizeof what, "file %zu cut at %" PRIu64, i, len);
            struct sim_disk *d = sim_disk_clone(w.x->disk);
            cr_assert(sim_disk_cut(d, w.files.names[i], len));
            struct verdict v = is_deep ? check_damaged(&w, d, UINT64_MAX, deep++ % 199 == 0, what)
                                       : check_once(&w, d, what);
            add(&sums, &v);
        }
    }
    print_sums(&sums);
    cr_assert_gt(sums.lost, 20);
    world_close(&w);
}

enum filling { ZEROS, ONES, BLOCK_BEFORE, OTHER_FILE, FILLINGS };

static void fill(struct world *w, struct sim_disk *d, size_t i, uint64_t off, uint64_t len,
                 enum filling how)
{
    uint8_t bytes[4096];
    const char *from = w->files.names[how == OTHER_FILE ? (i + 1) % w->files.count : i];
    uint64_t at = how == BLOCK_BEFORE && off >= 4096 ? off - 4096 : off;
    memset(bytes, how == ONES ? 0xff : 0, sizeof bytes);
    if (how >= BLOCK_BEFORE && at + len <= sim_disk_file_size(w->x->disk, from)) {
        memcpy(bytes, sim_disk_bytes(w->x->disk, from) + at, len);
    }
    cr_assert(sim_disk_write(d, w->files.names[i], off, bytes, len));
}

static void fill_every(uint64_t unit, bool is_vouched)
{
    struct world w;
    struct sums sums = {0};
    world_open(&w, is_vouched);
    /* A whole write that is not there, or its sector without a stamp, is what a power cut leaves.
     */
    uint64_t exempt = is_vouched ? UINT64_MAX : w.last_frame;
    for (size_t i = 0; i < w.files.count; i++) {
        uint64_t size = sim_disk_file_size(w.x->disk, w.files.names[i]);
        for (uint64_t off = 0; off < size; off += unit) {
            for (enum filling how = ZEROS; how < FILLINGS; how++) {
                char what[64];
                (void)snprintf(what, sizeof what, "file %zu filled (%d) at %" PRIu64, i, how, off);
                struct sim_disk *d = sim_disk_clone(w.x->disk);
                fill(&w, d, i, off, unit, how);
                struct verdict v = check_damaged(&w, d, exempt, sums.tried % 23 == 0, what);
                cr_assert(!is_vouched || !v.is_torn || v.lost == 0, "%s", what);
                add(&sums, &v);
            }
        }
    }
    print_sums(&sums);
    cr_assert_gt(sums.lost, 20);
    world_close(&w);
}

Test(wal_damage, every_stale_sector_is_reported_or_harmless)
{
    fill_every(512, true);
    fill_every(512, false);
}

Test(wal_damage, every_stale_block_is_reported_or_harmless)
{
    fill_every(4096, true);
    fill_every(4096, false);
}

/* ---- Whole files ---- */

static void copy_file(struct world *w, struct sim_disk *d, size_t from, size_t to)
{
    const char *name = w->files.names[from];
    uint64_t size = sim_disk_file_size(w->x->disk, name);
    cr_assert(sim_disk_write(d, w->files.names[to], 0, sim_disk_bytes(w->x->disk, name), size));
}

static void remove_file(struct world *w, struct sim_disk *d, size_t i)
{
    const struct file_ops *ops = sim_disk_ops(d);
    cr_assert_eq(ops->unlink(ops->ctx, w->files.names[i]), 0);
    cr_assert_eq(ops->sync_dir(ops->ctx, "wal"), 0);
}

Test(wal_damage, a_missing_file_is_reported)
{
    struct world w;
    world_open(&w, true);
    for (size_t i = 0; i < w.files.count; i++) {
        struct sim_disk *d = sim_disk_clone(w.x->disk);
        remove_file(&w, d, i);
        struct verdict v = check_damaged(&w, d, UINT64_MAX, true, w.files.names[i]);
        cr_assert_gt(v.lost, 0);
        cr_assert(v.is_reported);
    }
    world_close(&w);
}

Test(wal_damage, a_file_that_overwrote_another_is_reported)
{
    struct world w;
    world_open(&w, true);
    for (size_t i = 0; i < w.files.count; i++) {
        for (size_t k = 0; k < w.files.count; k++) {
            char what[64];
            (void)snprintf(what, sizeof what, "%zu over %zu", i, k);
            struct sim_disk *d = sim_disk_clone(w.x->disk);
            copy_file(&w, d, i, k);
            struct verdict v = check_damaged(&w, d, UINT64_MAX, true, what);
            cr_assert_eq(v.lost > 0, i != k, "%s", what);
            cr_assert_eq(v.is_reported, i != k, "%s", what);
        }
    }
    world_close(&w);
}

Test(wal_damage, names_do_not_matter)
{
    struct world w;
    world_open(&w, true);
    for (size_t i = 1; i < w.files.count; i++) {
        struct sim_disk *d = sim_disk_clone(w.x->disk);
        copy_file(&w, d, i, i - 1);
        copy_file(&w, d, i - 1, i);
        struct verdict v = check_damaged(&w, d, UINT64_MAX, false, "swapped");
        cr_assert_eq(v.lost, 0);
        cr_assert_not(v.is_reported);
        cr_assert_eq(v.suspects, 0);
    }
    world_close(&w);
}

static struct verdict flip_at(struct world *w, size_t file, uint64_t byte, const char *what)
{
    struct sim_disk *d = sim_disk_clone(w->x->disk);
    cr_assert(sim_disk_flip_bit(d, w->files.names[file], byte * 8));
    return check_damaged(w, d, UINT64_MAX, true, what);
}

Test(wal_damage, only_the_groups_of_a_sealed_segment_are_suspect)
{
    struct world w;
    world_open(&w, true);
    /* Files 0 and 1 have groups 1 and 2, file 2 has 3 and 4, file 3 has 5, file 4 has all. */
    static const uint64_t groups[] = {6, 6, 24, 32};
    for (size_t i = 0; i < 4; i++) {
        /* What was before the oldest file's first record nobody knows. */
        for (uint64_t frame = i == 0 ? 1 : 0; frame < 3; frame++) {
            struct verdict v = flip_at(&w, i, 4096 * (1 + frame) + 70, "a frame of a segment");
            cr_assert_eq(v.lost, 2);
            cr_assert_eq(v.suspects, groups[i], "file %zu frame %" PRIu64 ": %" PRIx64, i, frame,
                         v.suspects);
        }
    }
    world_close(&w);
}

Test(wal_damage, a_damaged_segment_is_kept_aside)
{
    struct world w;
    world_open(&w, true);
    for (uint64_t byte = 0; byte <= 8192; byte += 4096) {
        struct sim_disk *d = sim_disk_clone(w.x->disk);
        cr_assert(sim_disk_flip_bit(d, w.files.names[2], (byte + 20) * 8));
        struct wal_world *y = world_on(d, w.x);
        cr_assert_eq(wal_world_open(y), 0);
        cr_expect(y->found.is_corrupt);
        cr_expect_str_eq(y->found.damaged_file, w.files.names[2] + 1);
        char aside[160];
        (void)snprintf(aside, sizeof aside, "%s.damaged", w.files.names[2]);
        cr_assert(sim_disk_exists(d, aside));
        cr_assert_not(sim_disk_exists(d, w.files.names[2]));
        wal_world_close(y);
        free(y);
        sim_disk_free(d);
    }
    world_close(&w);
}

Test(wal_damage, a_segment_of_another_node_is_refused)
{
    struct world w;
    world_open(&w, true);
    w.x->o.node_uuid[0]++;
    cr_assert_eq(wal_world_open(w.x), ERR_CORRUPT);
    w.x->o.node_uuid[0]--;
    cr_assert_eq(wal_world_open(w.x), 0);
    wal_world_close(w.x);
    world_close(&w);
}
