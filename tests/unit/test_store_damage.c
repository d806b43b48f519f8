/* Damage at rest in the files of a store, by kind of file: bits, lengths, sectors, whole files.
 *
 * Of the journal of checkpoints either copy may have lost anything: nothing is missing afterwards,
 * and the next pass makes two whole copies again. Of a data file, what is served is right, and what
 * is not served was reported.
 *
 * Cases are sampled; with WEIR_EXHAUSTIVE set each one is played. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/block_format.h"
#include "tests/unit/store_world.h"

#define FILES_MAX 64u
#define SECTOR SIM_DISK_SECTOR_BYTES

struct files {
    char names[FILES_MAX][128];
    size_t count;
};

/* A small store, closed: what it holds, and its files. */
struct small {
    struct world *w;
    struct files files;
    char copies[2][128]; /* Of the newest generation of the journal. */
    char former[128];    /* Of the one before. */
    char data[2][128];   /* Two data files. */
};

static void on_file(void *arg, const char *name)
{
    struct files *f = arg;
    cr_assert_lt(f->count, FILES_MAX);
    snprintf(f->names[f->count++], sizeof f->names[0], "%s", name);
}

static void note(struct small *s)
{
    sim_disk_each(s->w->disk, on_file, &s->files);
    unsigned data = 0;
    for (size_t i = 0; i < s->files.count; i++) { /* In order of name: the last is the newest. */
        const char *name = s->files.names[i];
        if (strstr(name, ".journal") != NULL) {
            memcpy(s->former, s->copies[0], sizeof s->former);
            memcpy(s->copies[0], name, sizeof s->copies[0]);
        } else if (strstr(name, ".mirror") != NULL) {
            memcpy(s->copies[1], name, sizeof s->copies[1]);
        } else if (strstr(name, ".wblk") != NULL && data < 2) {
            memcpy(s->data[data++], name, sizeof s->data[0]);
        }
    }
    cr_assert_neq(s->copies[0][0], 0);
    cr_assert_neq(s->copies[1][0], 0);
}

/* @has_former: the journal has begun anew in between, and again. */
static void small_init(struct small *s, bool has_former)
{
    uint64_t rng = 9;
    unsigned passes = has_former ? 9 : 3;
    unsigned burst = has_former ? 30 : 14;
    *s = (struct small){.w = world_new(1)};
    s->w->journal_bytes = has_former ? 0 : 1 << 20;
    world_reopen(s->w);
    for (unsigned pass = 0; pass < passes; pass++) {
        for (unsigned i = 0; i < burst; i++) {
            world_random_op(s->w, 1 + rng_below(&rng, GIDS), &rng);
        }
        world_flush(s->w, 0xf, &rng);
    }
    world_reopen(s->w); /* For its pass. */
    store_close(s->w->st);
    s->w->st = NULL;
    note(s);
    cr_assert_eq(s->former[0] != 0, has_former);
}

static void small_close(struct small *s)
{
    world_free(s->w);
}

/* One case in so many, spread evenly; all of them with WEIR_EXHAUSTIVE set. */
static bool is_played(uint64_t n, unsigned one_in)
{
    return getenv("WEIR_EXHAUSTIVE") != NULL || (n * 2654435761u >> 9) % one_in == 0;
}

/* A pass over nothing: what is due is done. */
static void flush_nothing(struct world *w)
{
    struct store_flush *job;
    cr_assert_eq(store_flush_begin(w->st, &job), 0);
    cr_assert_eq(store_flush_run(job), 0);
    store_base_durable(w->st, store_flush_end(job, NULL, NULL));
}

static int scrub(struct world *w)
{
    struct store_check check;
    uint64_t bytes = 0;
    cr_assert_eq(store_check_journal_start(w->st, &check, &bytes), 0);
    cr_assert_gt(bytes, 0);
    store_check_journal_run(&check);
    return store_check_journal_done(&check);
}

static void open_on(struct world *w, struct sim_disk *disk, const char *what, uint64_t at)
{
    sim_disk_free(w->disk);
    w->disk = disk;
    w->damages = 0;
    cr_assert_eq(world_open(w), 0, "%s %" PRIu64, what, at);
}

/* Nothing is lost, and what is due makes two whole copies again. */
static void check_journal(struct small *s, struct world *w, struct sim_disk *disk, const char *what,
                          uint64_t at)
{
    open_on(w, disk, what, at);
    cr_assert_eq(w->rec.pass, s->w->rec.pass, "%s %" PRIu64 ": a pass is lost", what, at);
    cr_assert_not(w->rec.is_rotten, "%s %" PRIu64, what, at);
    cr_assert_not(w->rec.is_fallback, "%s %" PRIu64, what, at);
    for (uint64_t gid = 1; gid <= GIDS; gid++) {
        world_check_stream(w, gid, &s->w->now[gid]);
    }
    if (store_flush_is_due(w->st)) {
        flush_nothing(w);
    } else {
        cr_assert_eq(w->damages, 0);
    }
    cr_assert_eq(scrub(w), 0, "%s %" PRIu64 ": damage is left", what, at);
    store_close(w->st);
    w->damages = 0;
    cr_assert_eq(world_open(w), 0);
    cr_assert_eq(w->damages, 0, "%s %" PRIu64 ": reported again", what, at);
    cr_assert_not(store_flush_is_due(w->st));
    store_close(w->st);
    w->st = NULL;
}

/* What is served is right, and what is not served was reported. */
static void check_data(struct small *s, struct world *w, struct sim_disk *disk, const char *what,
                       uint64_t at)
{
    open_on(w, disk, what, at);
    w->is_tolerant = true;
    cr_assert_eq(w->rec.pass, s->w->rec.pass);
    for (uint64_t gid = 1; gid <= GIDS; gid++) {
        world_check_stream(w, gid, &s->w->now[gid]);
    }
    if (w->damages == 0) { /* Padding, or what is not live: then all of it is there. */
        w->is_tolerant = false;
        for (uint64_t gid = 1; gid <= GIDS; gid++) {
            world_check_reads(w, gid, &s->w->now[gid]);
        }
    }
    w->is_tolerant = false;
    store_close(w->st);
    w->st = NULL;
}

typedef void (*check_cb)(struct small *s, struct world *w, struct sim_disk *disk, const char *what,
                         uint64_t at);

static void each_bit(struct small *s, struct world *w, const char *name, unsigned one_in,
                     check_cb check)
{
    uint64_t bits = sim_disk_file_size(s->w->disk, name) * 8;
    for (uint64_t bit = 0; bit < bits; bit++) {
        bool is_zero = sim_disk_bytes(s->w->disk, name)[bit / 8] == 0; /* Padding, as a rule. */
        if (is_played(bit, is_zero ? one_in * 16 : one_in)) {
            struct sim_disk *d = sim_disk_clone(s->w->disk);
            cr_assert(sim_disk_flip_bit(d, name, bit));
            check(s, w, d, name, bit);
        }
    }
}

static void each_length(struct small *s, struct world *w, const char *name, unsigned one_in,
                        check_cb check)
{
    uint64_t size = sim_disk_file_size(s->w->disk, name);
    for (uint64_t len = 0; len < size; len++) {
        if (len == 0 || is_played(len, one_in)) {
            struct sim_disk *d = sim_disk_clone(s->w->disk);
            cr_assert(sim_disk_cut(d, name, len));
            check(s, w, d, name, len);
        }
    }
}

/* Zeroed, or with what stands elsewhere: in the sector before, in @other at the same place. */
static void each_sector(struct small *s, struct world *w, const char *name, const char *other,
                        check_cb check)
{
    uint64_t size = sim_disk_file_size(s->w->disk, name);
    for (uint64_t off = 0; off < size; off += SECTOR) {
        size_t len = (size_t)(size - off < SECTOR ? size - off : SECTOR);
        uint8_t stale[SECTOR];
        struct sim_disk *d = sim_disk_clone(s->w->disk);
        cr_assert(sim_disk_fill(d, name, off, len, 0));
        check(s, w, d, name, off);
        if (off > 0) {
            memcpy(stale, sim_disk_bytes(s->w->disk, name) + off - SECTOR, len);
            d = sim_disk_clone(s->w->disk);
            cr_assert(sim_disk_write(d, name, off, stale, len));
            check(s, w, d, name, off);
        }
        if (other[0] != 0 && off + len <= sim_disk_file_size(s->w->disk, other)) {
            memcpy(stale, sim_disk_bytes(s->w->disk, other) + off, len);
            d = sim_disk_clone(s->w->disk);
            cr_assert(sim_disk_write(d, name, off, stale, len));
            check(s, w, d, name, off);
        }
    }
}

static void without(struct small *s, struct world *w, const char *name, check_cb check)
{
    struct sim_disk *d = sim_disk_clone(s->w->disk);
    const struct file_ops *ops = sim_disk_ops(d);
    cr_assert_eq(ops->unlink(ops->ctx, name), 0);
    cr_assert_eq(ops->sync_dir(ops->ctx, "/store"), 0);
    check(s, w, d, name, 0);
}

/* ---- The journal ---- */

static void journal_each(bool has_former,
                         void (*each)(struct small *s, struct world *w, const char *name))
{
    struct small s;
    struct world *w = xcalloc(1, sizeof *w);
    small_init(&s, has_former);
    for (unsigned i = 0; i < 2; i++) {
        each(&s, w, s.copies[i]);
    }
    world_free(w);
    small_close(&s);
}

static void journal_bits(struct small *s, struct world *w, const char *name)
{
    each_bit(s, w, name, 37, check_journal);
}

Test(store_damage, no_flipped_bit_of_a_copy_of_the_journal_costs_anything)
{
    journal_each(false, journal_bits);
}

static void journal_lengths(struct small *s, struct world *w, const char *name)
{
    each_length(s, w, name, 23, check_journal);
}

Test(store_damage, no_truncation_of_a_copy_of_the_journal_costs_anything)
{
    journal_each(false, journal_lengths);
}

static void journal_sectors(struct small *s, struct world *w, const char *name)
{
    each_sector(s, w, name, s->former, check_journal);
}

Test(store_damage, no_zeroed_or_stale_sector_of_a_copy_of_the_journal_costs_anything)
{
    journal_each(false, journal_sectors);
    journal_each(true, journal_sectors);
}

static void journal_without(struct small *s, struct world *w, const char *name)
{
    without(s, w, name, check_journal);
}

Test(store_damage, a_copy_of_the_journal_that_is_gone_costs_nothing)
{
    journal_each(false, journal_without);
    journal_each(true, journal_without);
}

/* Header of a file as builds wrote it that kept one copy. */
static void make_single(struct sim_disk *d, const char *name)
{
    uint8_t h[4096];
    memcpy(h, sim_disk_bytes(d, name), sizeof h);
    put_u32(h + 28, 0);
    put_u32(h + 24, 0);
    put_u32(h + 24, crc32c(0, h, sizeof h));
    cr_assert(sim_disk_write(d, name, 0, h, sizeof h));
}

Test(store_damage, a_journal_of_before_there_were_copies_gets_one_and_is_no_damage)
{
    struct small s;
    struct world *w = xcalloc(1, sizeof *w);
    small_init(&s, false);
    for (unsigned single = 0; single < 2; single++) {
        struct sim_disk *d = sim_disk_clone(s.w->disk);
        const struct file_ops *ops = sim_disk_ops(d);
        cr_assert_eq(ops->unlink(ops->ctx, s.copies[1]), 0);
        if (single == 1) {
            make_single(d, s.copies[0]);
        }
        open_on(w, d, "single", single);
        cr_assert_eq(w->damages, 1 - single);
        store_close(w->st);
        w->st = NULL;
        check_journal(&s, w, sim_disk_clone(d), "single", single);
    }
    world_free(w);
    small_close(&s);
}

/* Both copies, in different frames, and in different items of the same frame. */
Test(store_damage, damage_in_different_places_of_both_copies_costs_nothing)
{
    struct small s;
    struct world *w = xcalloc(1, sizeof *w);
    small_init(&s, false);
    uint64_t frames[8];
    size_t count = 0;
    uint64_t size = sim_disk_file_size(s.w->disk, s.copies[0]);
    for (uint64_t off = 4096; off < size; off += 4096) {
        if (memcmp(sim_disk_bytes(s.w->disk, s.copies[0]) + off, "WCKF", 4) == 0) {
            cr_assert_lt(count, 8);
            frames[count++] = off;
        }
    }
    cr_assert_eq(count, 3);
    for (unsigned bit = 0; bit < 48 * 8; bit++) { /* All of a frame's header. */
        struct sim_disk *d = sim_disk_clone(s.w->disk);
        cr_assert(sim_disk_flip_bit(d, s.copies[0], frames[bit % 3] * 8 + bit));
        cr_assert(sim_disk_flip_bit(d, s.copies[1], frames[(bit + 1) % 3] * 8 + bit));
        check_journal(&s, w, d, "in two frames", bit);
    }
    for (unsigned bit = 0; bit < 20 * 8; bit++) { /* The first item, and the end of the last. */
        struct sim_disk *d = sim_disk_clone(s.w->disk);
        cr_assert(sim_disk_flip_bit(d, s.copies[0], (frames[2] + 48) * 8 + bit));
        cr_assert(sim_disk_flip_bit(d, s.copies[1], size * 8 - 1 - bit % 64));
        check_journal(&s, w, d, "in two items", bit);
    }
    struct sim_disk *d = sim_disk_clone(s.w->disk);
    cr_assert(sim_disk_fill(d, s.copies[0], 0, 4096, 0xff)); /* The header of the file. */
    cr_assert(sim_disk_cut(d, s.copies[1], frames[1] + 20));
    check_journal(&s, w, d, "header and end", 0);
    world_free(w);
    small_close(&s);
}

Test(store_damage, damage_at_the_same_place_of_both_copies_is_reported)
{
    struct small s;
    struct world *w = xcalloc(1, sizeof *w);
    small_init(&s, false);
    uint64_t size = sim_disk_file_size(s.w->disk, s.copies[0]);
    for (unsigned bit = 0; bit < 64; bit++) {
        struct sim_disk *d = sim_disk_clone(s.w->disk);
        cr_assert(sim_disk_flip_bit(d, s.copies[0], size * 8 - 1 - bit));
        cr_assert(sim_disk_flip_bit(d, s.copies[1], size * 8 - 1 - (bit * 7) % 64));
        open_on(w, d, "the last frame", bit);
        cr_assert(w->rec.is_rotten, "%u", bit);
        cr_assert_eq(w->rec.pass, 2);
        cr_assert_eq(w->damages, 2);
        store_close(w->st);
        w->st = NULL;
    }
    world_free(w);
    small_close(&s);
}

Test(store_damage, the_journal_is_looked_through_and_mended_while_the_store_is_open)
{
    struct small s;
    small_init(&s, false);
    uint64_t bits = sim_disk_file_size(s.w->disk, s.copies[0]) * 8;
    uint64_t found = 0;
    for (uint64_t bit = 0; bit < bits; bit += 997) {
        for (unsigned i = 0; i < 3; i++) { /* One copy, the other, both in different places. */
            struct world *w = xcalloc(1, sizeof *w);
            memcpy(w->now, s.w->now, sizeof w->now);
            open_on(w, sim_disk_clone(s.w->disk), "", 0);
            for (uint64_t gid = 1; gid <= GIDS; gid++) {
                world_check_stream(w, gid, &w->now[gid]);
            }
            uint64_t at[2] = {bit, (bit + bits / 2) % bits};
            bool is_hit = false;
            cr_assert_eq(scrub(w), 0);
            for (unsigned k = 0; k < 2; k++) {
                if (i == 2 || i == k) {
                    is_hit = is_hit || sim_disk_bytes(w->disk, s.copies[k])[at[k] / 8] != 0;
                    cr_assert(sim_disk_flip_bit(w->disk, s.copies[k], at[k]));
                }
            }
            int rv = scrub(w);
            cr_assert(rv == ERR_CORRUPT || !is_hit); /* A zero may be padding. */
            cr_assert_eq(rv == ERR_CORRUPT, w->damages > 0);
            cr_assert_eq(rv == ERR_CORRUPT, store_flush_is_due(w->st));
            found += rv == ERR_CORRUPT;
            uint64_t rng = bit;
            world_append(w, 1, 0, &rng);
            world_flush(w, 0xf, &rng);
            cr_assert_eq(scrub(w), 0);
            w->damages = 0;
            world_reopen(w);
            for (uint64_t gid = 1; gid <= GIDS; gid++) {
                world_check_stream(w, gid, &w->now[gid]);
            }
            cr_assert_eq(w->damages, 0);
            world_free(w);
        }
    }
    cr_assert_gt(found, 30);
    small_close(&s);
}

Test(store_damage, a_look_at_the_journal_does_not_mind_passes_meanwhile)
{
    uint64_t rng = 4;
    struct world *w = world_new(1);
    struct store_check check;
    uint64_t bytes;
    cr_assert_eq(store_check_journal_start(w->st, &check, &bytes), ERR_NOTFOUND);
    world_append(w, 1, 0, &rng);
    world_flush(w, 0xf, &rng);
    for (unsigned i = 0; i < 60; i++) { /* Also over the end of generations, and of their files. */
        cr_assert_eq(store_check_journal_start(w->st, &check, &bytes), 0);
        for (unsigned k = 0; k < i % 20; k++) {
            world_random_op(w, 1, &rng);
            world_flush(w, 0xf, &rng);
        }
        struct store_flush *job = world_flush_begin(w, 0xf, &rng);
        cr_assert_eq(store_check_journal_start(w->st, &(struct store_check){0}, &bytes), ERR_BUSY);
        cr_assert_eq(store_flush_run(job), 0);
        store_check_journal_run(&check);
        cr_assert_eq(store_check_journal_done(&check), 0);
        store_base_durable(w->st, store_flush_end(job, NULL, NULL));
    }
    cr_assert_eq(w->damages, 0);
    world_free(w);
}

/* What a loaded store reads from the journal, an image or a deleted set, may have rotted since. */
Test(store_damage, an_image_is_read_from_the_other_copy_of_the_journal)
{
    struct small s;
    small_init(&s, false);
    for (unsigned i = 0; i < 2; i++) {
        struct world *w = xcalloc(1, sizeof *w);
        struct store_image *im;
        open_on(w, sim_disk_clone(s.w->disk), "", 0);
        world_check_stream(w, 1, &s.w->now[1]);
        uint64_t size = sim_disk_file_size(w->disk, s.copies[i]);
        cr_assert(sim_disk_fill(w->disk, s.copies[i], 4096, size - 4096, 0xee));
        cr_assert_eq(store_image_open(store_find(w->st, 1), &im), 0);
        cr_assert_eq(store_image_prepare(im), 0);
        store_image_close(im);
        world_free(w);
    }
    small_close(&s);
}

/* ---- Blocks ---- */

static void data_each(unsigned one_in_bits, unsigned one_in_lengths)
{
    struct small s;
    struct world *w = xcalloc(1, sizeof *w);
    small_init(&s, false);
    for (size_t i = 0; i < s.files.count; i++) {
        const char *name = s.files.names[i];
        if (strstr(name, ".wblk") == NULL) {
            continue;
        }
        const char *other = strcmp(name, s.data[0]) == 0 ? s.data[1] : s.data[0];
        if (one_in_bits > 0) {
            each_bit(&s, w, name, one_in_bits, check_data);
        } else {
            each_length(&s, w, name, one_in_lengths, check_data);
            each_sector(&s, w, name, other, check_data);
            without(&s, w, name, check_data);
        }
    }
    world_free(w);
    small_close(&s);
}

Test(store_damage, every_flipped_bit_of_a_block_is_reported_or_harmless)
{
    data_each(3, 0);
}

Test(store_damage, every_truncation_and_bad_sector_of_a_block_is_reported_or_harmless)
{
    data_each(0, 5);
}
