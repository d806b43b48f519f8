/* Catch-up that is cut short, by a drop, by the end of the process or by a power cut, goes on with
 * what it had fetched, and with nothing that is not right. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/store_internal.h"
#include "tests/unit/store_world.h"

enum { ALL = 0xf };
enum how { DROP, KILL, POWER_CUT, ROT, HOWS };

struct names {
    unsigned count;
    char last[512];
};

static void on_name(void *arg, const char *path)
{
    struct names *n = arg;
    if (strstr(path, ".stage") != NULL) {
        n->count++;
        snprintf(n->last, sizeof n->last, "%s", path);
    }
}

static struct names staged_files(const struct world *w)
{
    struct names n = {0};
    sim_disk_each(w->disk, on_name, &n);
    return n;
}

static void take(struct store_image *im, struct store_stage *sg, uint32_t part, uint64_t bytes)
{
    uint8_t *all = malloc(bytes + 1);
    cr_assert_not_null(all);
    cr_assert_eq(store_image_read(im, part, 0, all, bytes), 0);
    cr_assert_eq(store_stage_write(sg, part, 0, slice_of(all, bytes)), 0);
    free(all);
}

static struct store_image *image_of(struct world *w, const struct store_part **ret_parts,
                                    uint32_t *ret_count)
{
    struct store_image *im;
    cr_assert_eq(store_image_open(store_find(w->st, 1), &im), 0);
    cr_assert_eq(store_image_prepare(im), 0);
    *ret_parts = store_image_parts(im, ret_count);
    return im;
}

/* Fetch up to @max parts, and a piece of one more. Returns how many are whole. */
static uint32_t fetch_some(struct world *from, struct world *to, uint32_t max)
{
    const struct store_part *parts;
    uint32_t count, done = 0;
    struct store_image *im = image_of(from, &parts, &count);
    struct store_stage *sg;
    cr_assert_eq(store_stage_open(to->st, 1, 77, parts, count, &sg), 0);
    take(im, sg, 0, parts[0].bytes);
    for (uint32_t i = 1; i < count; i++) {
        if (store_stage_has(sg, i)) {
            continue;
        }
        if (done == max) {
            static const uint8_t piece[20];
            cr_assert_eq(store_stage_write(sg, i, 0, slice_of(piece, sizeof piece)), 0);
            break;
        }
        take(im, sg, i, parts[i].bytes);
        done++;
    }
    store_image_close(im);
    store_stage_drop(sg);
    return done;
}

/* To the end. Returns how many parts the former attempt had fetched. */
static uint32_t fetch_all(struct world *from, struct world *to)
{
    const struct store_part *parts;
    uint32_t count;
    struct store_image *im = image_of(from, &parts, &count);
    struct store_stage *sg;
    cr_assert_eq(store_stage_open(to->st, 1, 77, parts, count, &sg), 0);
    take(im, sg, 0, parts[0].bytes);
    for (uint32_t i = 1; i < count; i++) {
        if (!store_stage_has(sg, i)) {
            take(im, sg, i, parts[i].bytes);
        }
    }
    uint32_t fetched = store_stage_fetched_count(sg);
    uint32_t bad = 99;
    cr_assert_eq(store_stage_verify(sg, &bad), 0, "part %u", bad);
    store_image_close(im);
    struct store_flush *job;
    cr_assert_eq(store_flush_begin(to->st, &job), 0);
    store_flush_stage(job, sg);
    cr_assert_eq(store_flush_run(job), 0);
    store_base_durable(to->st, store_flush_end(job, NULL, NULL));
    to->now[1] = from->now[1];
    return fetched;
}

static void cut_short(struct world *w, enum how how, uint64_t *rng)
{
    if (how == DROP) {
        return;
    }
    store_close(w->st);
    if (how == POWER_CUT) {
        sim_disk_crash(w->disk, *rng);
    } else {
        sim_disk_crash_all(w->disk, true);
    }
    struct names n = staged_files(w);
    if (how == ROT && n.count > 0) {
        uint64_t size = sim_disk_file_size(w->disk, n.last);
        cr_assert(sim_disk_flip_bit(w->disk, n.last, rng_below(rng, size * 8)));
    }
    cr_assert_eq(world_open(w), 0);
    world_check_stream(w, 1, &w->now[1]);
}

/* @is_large: blocks that begin on boundaries in the staged files. */
static uint32_t play(uint64_t seed, enum how how, bool is_large)
{
    uint64_t rng = seed * 104729 + how;
    struct world *a = world_new(2 * seed);
    struct world *b = world_new(2 * seed + 1);
    uint64_t same = rng;
    for (unsigned k = 0; k < 2; k++) {
        rng = same;
        struct world *w = k == 0 ? a : b;
        for (unsigned i = 0; i < 30; i++) {
            world_append(w, 1, 0, &rng);
        }
        world_flush(w, ALL, &rng);
    }
    for (unsigned blocks = 3 + (unsigned)rng_below(&rng, 6); blocks > 0; blocks--) {
        for (unsigned i = is_large ? 150 : 8; i > 0; i--) {
            world_append(a, 1, 0, &rng);
        }
        world_flush(a, ALL, &rng);
    }
    uint32_t done = fetch_some(a, b, (uint32_t)rng_below(&rng, 5));
    cut_short(b, how, &rng);
    if (rng_below(&rng, 2) == 0 && how == DROP) {
        (void)fetch_some(a, b, 0); /* Cut short once more; that fetched nothing. */
    }
    uint32_t fetched = fetch_all(a, b);
    if (how == DROP || how == KILL) {
        cr_assert_eq(fetched, done, "seed %lu: %u of %u", (unsigned long)seed, fetched, done);
    } else {
        cr_assert_leq(fetched, done);
    }
    cr_assert_eq(staged_files(b).count, 0);
    world_check_stream(b, 1, &b->now[1]);
    world_check_reads(b, 1, &b->now[1]);
    store_close(b->st);
    sim_disk_crash_all(b->disk, false);
    cr_assert_eq(world_open(b), 0);
    world_check_stream(b, 1, &b->now[1]);
    world_check_reads(b, 1, &b->now[1]);
    cr_assert_eq(b->damages, 0);
    world_free(a);
    world_free(b);
    return fetched;
}

Test(store_left, a_catch_up_that_was_cut_short_goes_on)
{
    uint32_t fetched[HOWS] = {0};
    for (uint64_t seed = 1; seed <= 100; seed++) {
        enum how how = (enum how)(seed % HOWS);
        fetched[how] += play(seed, how, seed % 3 == 0);
    }
    for (unsigned how = 0; how < HOWS; how++) {
        cr_assert_gt(fetched[how], 3, "how %u: %u", how, fetched[how]);
    }
}

Test(store_left, what_nobody_needs_goes)
{
    for (unsigned is_deleted = 0; is_deleted < 2; is_deleted++) {
        uint64_t rng = 5;
        struct world *a = world_new(1);
        struct world *b = world_new(2);
        for (unsigned i = 0; i < 20; i++) {
            world_append(a, 1, 0, &rng);
        }
        world_flush(a, ALL, &rng);
        (void)world_stream(b, 1);
        cr_assert_gt(fetch_some(a, b, 99), 0);
        cr_assert_eq(staged_files(b).count, 1);
        cr_assert_eq(store_left_gid(b->st), 1);
        if (is_deleted) {
            store_stream_delete(store_find(b->st, 1));
            memset(&b->now[1], 0, sizeof b->now[1]);
        } else {
            store_left_forget(b->st, 1);
        }
        cr_assert_eq(staged_files(b).count, 0);
        cr_assert_eq(store_left_gid(b->st), 0);
        world_free(a);
        world_free(b);
    }
}
