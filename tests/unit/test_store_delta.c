/* Catch-up by delta: a replica that is behind fetches the blocks it has not, and is the same after
 * the switch, after a power cut, and as the source of the next image. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/store_internal.h"
#include "tests/unit/store_world.h"

enum { ALL = 0xf };

/* The same operations in all worlds; each flushes when it likes, so their blocks differ. */
static void together(struct world *const *worlds, unsigned n, unsigned count, bool is_append,
                     uint64_t *rng, uint64_t *flushes)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t before = *rng;
        for (unsigned k = 0; k < n; k++) {
            *rng = before;
            if (is_append) {
                world_append(worlds[k], 1, 0, rng);
            } else {
                world_random_op(worlds[k], 1, rng);
            }
            if (rng_below(flushes, 9 + 5 * k) == 0) {
                world_flush(worlds[k], ALL, flushes);
            }
        }
    }
}

static void take_part(struct store_image *im, struct store_stage *sg, uint32_t part, uint64_t bytes)
{
    uint8_t *all = malloc(bytes + 1);
    cr_assert_not_null(all);
    cr_assert_eq(store_image_read(im, part, 0, all, bytes), 0);
    cr_assert_eq(store_stage_write(sg, part, 0, slice_of(all, bytes)), 0);
    free(all);
}

/* Bring @to to the durable state of @from. Returns how many blocks were not fetched. */
static uint32_t catch_up(struct world *from, struct world *to, bool is_delta, uint32_t *ret_blocks)
{
    struct store_image *im;
    cr_assert_eq(store_image_open(store_find(from->st, 1), &im), 0);
    cr_assert_eq(store_image_prepare(im), 0);
    uint32_t count;
    const struct store_part *parts = store_image_parts(im, &count);
    struct store_stage *sg;
    cr_assert_eq(store_stage_open(to->st, 1, 77, parts, count, &sg), 0);
    take_part(im, sg, 0, parts[0].bytes);
    uint32_t own = 0;
    for (uint32_t i = 1; i < count; i++) {
        if (is_delta && store_stage_has(sg, i)) {
            own++;
            uint8_t byte = 0;
            cr_assert_eq(store_stage_write(sg, i, 0, slice_of(&byte, 1)), ERR_INVALID);
        } else {
            take_part(im, sg, i, parts[i].bytes);
        }
    }
    cr_assert_eq(store_stage_own_count(sg), own);
    uint32_t bad = 99;
    cr_assert_eq(store_stage_verify(sg, &bad), 0, "part %u", bad);
    store_image_close(im);
    cr_assert(store_stage_is_whole(sg));
    struct store_flush *job;
    cr_assert_eq(store_flush_begin(to->st, &job), 0);
    store_flush_stage(job, sg);
    cr_assert_eq(store_flush_run(job), 0);
    store_base_durable(to->st, store_flush_end(job, NULL, NULL));
    to->now[1] = from->now[1];
    *ret_blocks = count - 1;
    return own;
}

static uint32_t play(uint64_t seed, bool has_holes, uint32_t *ret_blocks)
{
    uint64_t rng = seed * 7919 + 1;
    uint64_t flushes = seed + 100;
    struct world *a = world_new(3 * seed);
    struct world *b = world_new(3 * seed + 1);
    struct world *c = world_new(3 * seed + 2);
    together((struct world *[]){a, b, c}, 3, 40 + (unsigned)rng_below(&rng, 160), !has_holes, &rng,
             &flushes);
    if (rng_below(&rng, 2) == 0) {
        world_flush(b, ALL, &flushes); /* Else its tail is not durable, and is fetched. */
    }
    /* What @b misses. */
    for (unsigned n = (unsigned)rng_below(&rng, 150); n > 0; n--) {
        world_random_op(a, 1, &rng);
        if (rng_below(&flushes, 20) == 0) {
            world_flush(a, ALL, &flushes);
        }
    }
    world_flush(a, ALL, &flushes);
    uint32_t own = catch_up(a, b, true, ret_blocks);
    world_check_stream(b, 1, &b->now[1]);
    store_close(b->st);
    sim_disk_crash_all(b->disk, false);
    cr_assert_eq(world_open(b), 0);
    world_check_stream(b, 1, &b->now[1]);
    /* It goes on as a member, and is the one others catch up from. */
    together((struct world *[]){a, b}, 2, 60, false, &rng, &flushes);
    world_check_reads(b, 1, &b->now[1]);
    world_flush(b, ALL, &flushes);
    uint32_t ignored;
    catch_up(b, c, true, &ignored);
    world_check_stream(c, 1, &c->now[1]);
    world_check_reads(c, 1, &c->now[1]);
    together((struct world *[]){a, b, c}, 3, 40, false, &rng, &flushes);
    world_flush(c, ALL, &flushes);
    catch_up(c, a, true, &ignored);
    world_check_stream(a, 1, &c->now[1]);
    for (unsigned i = 0; i < 3; i++) {
        world_flush(b, ALL, &flushes); /* Files that nobody names go. */
    }
    world_reopen(b);
    world_check_stream(b, 1, &b->now[1]);
    cr_assert_eq(b->rec.quarantined_count, 0);
    cr_assert_eq(a->damages + b->damages + c->damages, 0);
    world_free(a);
    world_free(b);
    world_free(c);
    return own;
}

static void play_all(uint64_t seeds, bool has_holes, uint32_t part)
{
    uint32_t own = 0;
    uint32_t all = 0;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        uint32_t blocks;
        own += play(seed, has_holes, &blocks);
        all += blocks;
    }
    cr_assert_gt(own * part, all, "%u of %u", own, all);
}

Test(store_delta, what_is_here_is_not_fetched)
{
    play_all(60, false, 3);
}

Test(store_delta, what_is_here_with_holes_is_not_fetched)
{
    play_all(150, true, 4);
}

/* A block that turned out damaged does not count as had. */
Test(store_delta, what_is_damaged_here_is_fetched)
{
    uint64_t rng = 5;
    struct world *a = world_new(1);
    struct world *b = world_new(2);
    for (unsigned i = 0; i < 200; i++) {
        uint64_t again = rng;
        world_append(a, 1, 0, &rng);
        world_append(b, 1, 0, &again);
        if (i % 40 == 39) {
            world_flush(a, ALL, &rng);
            world_flush(b, ALL, &again);
        }
        rng = again;
    }
    b->is_tolerant = true;
    block_report(store_find(b->st, 1)->blocks[0], STORE_DAMAGE_BLOCK, NULL);
    uint32_t blocks;
    cr_assert_eq(catch_up(a, b, true, &blocks), 0);
    world_check_stream(b, 1, &a->now[1]);
    world_free(a);
    world_free(b);
}
