/* Each call on staged files failing once, and what a later catch-up makes of what is left of them:
 * never a half image taken for whole. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "tests/unit/store_world.h"

enum { ALL = 0xf };
/* What follows the failure. A process that ends leaves what the kernel holds, whether or not it can
 * still become durable. */
enum after { DROP, END, POWER_CUT, AFTERS };

static int take(struct store_image *im, struct store_stage *sg, uint32_t part, uint64_t bytes)
{
    uint8_t piece[700];
    int rv = 0;
    for (uint64_t off = 0; off < bytes && rv == 0; off += sizeof piece) {
        size_t len = bytes - off < sizeof piece ? (size_t)(bytes - off) : sizeof piece;
        cr_assert_eq(store_image_read(im, part, off, piece, len), 0);
        rv = store_stage_write(sg, part, off, slice_of(piece, len));
    }
    return rv;
}

static int fetch(struct store_image *im, struct store_stage *sg)
{
    uint32_t count, bad;
    const struct store_part *parts = store_image_parts(im, &count);
    int rv = take(im, sg, 0, parts[0].bytes);
    for (uint32_t i = 1; i < count && rv == 0; i++) {
        rv = store_stage_has(sg, i) ? 0 : take(im, sg, i, parts[i].bytes);
    }
    return rv == 0 ? store_stage_verify(sg, &bad) : rv;
}

/* The whole way, from the offer to the end of the pass that switches. What fails before the pass
 * leaves *ret_stage, if it is to be dropped; a failing pass ends the process. */
static int catch_up(struct world *from, struct world *to, struct store_stage **ret_stage)
{
    struct store_image *im;
    struct store_flush *job;
    uint32_t count;
    *ret_stage = NULL;
    cr_assert_eq(store_image_open(store_find(from->st, 1), &im), 0);
    cr_assert_eq(store_image_prepare(im), 0);
    const struct store_part *parts = store_image_parts(im, &count);
    int rv = store_stage_open(to->st, 1, 77, parts, count, ret_stage);
    if (rv == 0) {
        rv = fetch(im, *ret_stage);
    }
    store_image_close(im);
    if (rv != 0) {
        return rv;
    }
    rv = store_flush_begin(to->st, &job);
    if (rv != 0) {
        return rv;
    }
    store_flush_stage(job, *ret_stage);
    *ret_stage = NULL;
    rv = store_flush_run(job);
    if (rv != 0) {
        cr_expect_neq(store_error_path(to->st)[0], 0);
        store_flush_abort(job);
        return rv;
    }
    store_base_durable(to->st, store_flush_end(job, NULL, NULL));
    return 0;
}

/* The stream is what it was, or the image, whole. */
static void check(struct world *w, const struct model *was, const struct model *image,
                  bool is_switched)
{
    uint64_t index, term;
    struct store_stream *s = store_find(w->st, 1);
    cr_assert_not_null(s);
    store_stream_applied(s, &index, &term);
    cr_assert(index == image->index || (!is_switched && index == was->index), "at %" PRIu64, index);
    w->now[1] = index == image->index ? *image : *was;
    world_check_stream(w, 1, &w->now[1]);
    world_check_reads(w, 1, &w->now[1]);
    cr_assert_eq(w->damages, 0);
}

/* The process ends here, in the middle of @stage if there is one. */
static void reopen(struct world *w, struct store_stage *stage, bool is_power_cut)
{
    struct sim_disk *as_it_is = sim_disk_clone(w->disk);
    if (stage != NULL) {
        store_stage_drop(stage);
    }
    store_close(w->st);
    sim_disk_free(w->disk);
    w->disk = as_it_is;
    if (is_power_cut) {
        sim_disk_crash_all(w->disk, false);
    }
    w->damages = 0;
    cr_assert_eq(world_open(w), 0);
}

/* @is_second: a part was staged before, by a catch-up that was cut short, and is taken over.
 * Returns the calls of the catch-up; false in *ret_ok: it failed. */
static uint64_t play(struct world *a, uint64_t nth, enum after after, bool is_second, bool *ret_ok)
{
    uint64_t rng = 12;
    struct world *b = world_new(nth);
    struct store_stage *sg;
    for (unsigned i = 0; i < 30; i++) {
        world_append(b, 1, 0, &rng);
        world_append(b, 2, 0, &rng);
    }
    world_flush(b, ALL, &rng);
    struct model *was = xmalloc(sizeof *was);
    *was = b->now[1];
    if (is_second) {
        struct store_image *im;
        uint32_t count;
        cr_assert_eq(store_image_open(store_find(a->st, 1), &im), 0);
        cr_assert_eq(store_image_prepare(im), 0);
        const struct store_part *parts = store_image_parts(im, &count);
        cr_assert_eq(store_stage_open(b->st, 1, 77, parts, count, &sg), 0);
        cr_assert_eq(take(im, sg, 0, parts[0].bytes), 0);
        for (uint32_t i = 1; i < count / 2; i++) {
            cr_assert(store_stage_has(sg, i) || take(im, sg, i, parts[i].bytes) == 0);
        }
        store_stage_drop(sg);
        store_image_close(im);
        reopen(b, NULL, false);
        check(b, was, &a->now[1], false);
    }
    uint64_t calls = sim_disk_calls(b->disk, SIM_DISK_ANY);
    sim_disk_fail(b->disk, SIM_DISK_ANY, nth, ERR_IO);
    int rv = catch_up(a, b, &sg);
    calls = sim_disk_calls(b->disk, SIM_DISK_ANY) - calls;
    sim_disk_fail(b->disk, SIM_DISK_ANY, 0, 0);
    *ret_ok = rv == 0;
    cr_assert(rv == 0 || rv == ERR_IO, "call %" PRIu64 ": %s", nth, err_text(rv));
    if (rv != 0 && sg != NULL && after == DROP) {
        store_stage_drop(sg); /* And on it goes. */
    } else {
        reopen(b, sg, after == POWER_CUT);
        check(b, was, &a->now[1], rv == 0);
    }
    /* The next one comes to its end, and what it says is on the disk is there. */
    rv = catch_up(a, b, &sg);
    cr_assert_eq(rv, 0, "call %" PRIu64 ", after it: %s", nth, err_text(rv));
    reopen(b, NULL, true);
    check(b, was, &a->now[1], true);
    world_check_stream(b, 2, &b->now[2]);
    free(was);
    world_free(b);
    return calls;
}

static void each_call(bool is_second)
{
    uint64_t rng = 12, failed = 0;
    struct world *a = world_new(1);
    for (unsigned i = 0; i < 30; i++) {
        world_append(a, 1, 0, &rng);
        world_append(a, 2, 0, &rng);
    }
    world_flush(a, ALL, &rng);
    for (unsigned blocks = 0; blocks < 6; blocks++) {
        for (unsigned i = blocks % 2 == 0 ? 150 : 10; i > 0; i--) {
            world_append(a, 1, 0, &rng);
        }
        world_flush(a, ALL, &rng);
    }
    for (unsigned after = 0; after < AFTERS; after++) {
        bool ok = false;
        for (uint64_t nth = 1;; nth++) {
            uint64_t calls = play(a, nth, (enum after)after, is_second, &ok);
            failed += !ok;
            if (calls < nth) {
                cr_assert(ok);
                break;
            }
        }
    }
    cr_assert_gt(failed, 60);
    world_free(a);
}

Test(store_stage, each_call_of_a_catch_up_failing_once_leaves_no_half_image)
{
    each_call(false);
}

Test(store_stage, each_call_of_a_catch_up_that_goes_on_failing_once_leaves_no_half_image)
{
    each_call(true);
}
