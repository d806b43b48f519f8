/* Power cuts, failing calls, images. Damage at rest: test_store_damage.c. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/block_format.h"
#include "tests/unit/store_world.h"

/* What each committed pass holds; [0] is the empty store. */
struct history {
    struct model *passes; /* GIDS + 1 models each. */
    size_t count;
    uint64_t *begun; /* Operations on the disk before the run that made it. */
    uint64_t *ended;
};

static void history_push(struct history *h, const struct model *models, uint64_t begun,
                         uint64_t ended)
{
    size_t n = h->count++;
    h->passes = xrealloc(h->passes, h->count * (GIDS + 1) * sizeof *h->passes);
    h->begun = xrealloc(h->begun, h->count * sizeof *h->begun);
    h->ended = xrealloc(h->ended, h->count * sizeof *h->ended);
    memcpy(h->passes + n * (GIDS + 1), models, (GIDS + 1) * sizeof *h->passes);
    h->begun[n] = begun;
    h->ended[n] = ended;
}

static void history_close(struct history *h)
{
    free(h->passes);
    free(h->begun);
    free(h->ended);
}

/* Some life with a flush after each burst. Returns false when a run failed; the pass it was to make
 * is in @h then, too. */
static bool live(struct world *w, struct history *h, unsigned passes, unsigned burst, uint64_t seed,
                 bool is_last_included)
{
    uint64_t rng = seed;
    struct model *models = xcalloc(GIDS + 1, sizeof *models);
    bool ok = true;
    history_push(h, models, 0, 0);
    for (unsigned pass = 0; pass < passes && ok; pass++) {
        for (unsigned i = 0; i < burst; i++) {
            world_random_op(w, 1 + rng_below(&rng, GIDS), &rng);
        }
        unsigned gids = is_last_included ? 0xf : (unsigned)rng_below(&rng, 1u << (GIDS + 1));
        struct store_flush *job = world_flush_begin(w, gids, &rng);
        for (uint64_t gid = 1; gid <= GIDS; gid++) {
            if ((gids >> gid & 1) != 0) {
                models[gid] = w->now[gid];
            }
        }
        uint64_t begun = sim_disk_trace_count(w->disk);
        ok = store_flush_run(job) == 0;
        history_push(h, models, begun, sim_disk_trace_count(w->disk));
        if (ok) {
            store_base_durable(w->st, store_flush_end(job, NULL, NULL));
        } else {
            cr_expect_neq(store_error_path(w->st)[0], 0);
            store_flush_abort(job);
        }
    }
    free(models);
    return ok;
}

static void check_pass(struct world *w, const struct history *h)
{
    cr_assert_lt(w->rec.pass, h->count);
    for (uint64_t gid = 1; gid <= GIDS; gid++) {
        w->now[gid] = h->passes[w->rec.pass * (GIDS + 1) + gid];
        world_check_stream(w, gid, &w->now[gid]);
    }
}

struct crash {
    const struct history *h;
    uint64_t states;
    uint64_t with_newer; /* In which the pass under way had made it. */
};

static bool on_state(void *arg, struct sim_disk *state, uint64_t prefix)
{
    struct crash *c = arg;
    struct world *w = xcalloc(1, sizeof *w);
    w->disk = state;
    cr_assert_eq(world_open(w), 0, "prefix %" PRIu64, prefix);
    c->states++;
    size_t durable = 0;
    for (size_t i = 1; i < c->h->count; i++) {
        durable = c->h->ended[i] <= prefix ? i : durable;
    }
    cr_assert_geq(w->rec.pass, durable, "prefix %" PRIu64 ": a committed pass is lost", prefix);
    cr_assert_leq(w->rec.pass, durable + 1);
    cr_assert_not(w->rec.is_rotten);
    cr_assert_not(w->rec.is_fallback);
    c->with_newer += w->rec.pass > durable;
    check_pass(w, c->h);
    /* And life goes on: nothing that is left over is in the way. */
    uint64_t rng = prefix;
    world_append(w, 1, 0, &rng);
    world_flush(w, 0xf, &rng);
    world_reopen(w);
    for (uint64_t gid = 1; gid <= GIDS; gid++) {
        world_check_stream(w, gid, &w->now[gid]);
    }
    cr_assert_eq(w->damages, 0, "prefix %" PRIu64, prefix);
    store_close(w->st);
    free(w);
    return true;
}

Test(store_crash, a_power_cut_anywhere_in_the_ladder_leaves_the_last_or_the_newer_checkpoint)
{
    uint64_t newer = 0;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct world *w = world_new(seed);
        struct history h = {0};
        sim_disk_trace_start(w->disk);
        cr_assert(live(w, &h, 14, 60, seed, false));
        struct crash c = {.h = &h};
        struct sim_disk_states how = {.subsets_max = 10, .prefix_step = 1, .seed = seed};
        sim_disk_each_state(w->disk, &how, on_state, &c);
        cr_assert_gt(c.states, 300);
        newer += c.with_newer;
        history_close(&h);
        world_free(w);
    }
    cr_assert_gt(newer, 0);
}

Test(store_crash, each_call_failing_once_costs_no_committed_message)
{
    uint64_t failed = 0;
    for (uint64_t nth = 1;; nth++) {
        struct world *w = world_new(nth);
        struct history h = {0};
        uint64_t calls = sim_disk_calls(w->disk, SIM_DISK_ANY);
        sim_disk_fail(w->disk, SIM_DISK_ANY, nth, ERR_IO);
        bool ok = live(w, &h, 8, 60, 5, false);
        calls = sim_disk_calls(w->disk, SIM_DISK_ANY) - calls;
        sim_disk_fail(w->disk, SIM_DISK_ANY, 0, 0);
        failed += !ok;
        store_close(w->st);
        w->damages = 0;
        sim_disk_crash(w->disk, nth);
        cr_assert_eq(world_open(w), 0, "call %" PRIu64, nth);
        cr_assert_geq(w->rec.pass + 1 + !ok, h.count, "call %" PRIu64, nth);
        cr_assert(!ok || w->rec.pass + 1 == h.count);
        check_pass(w, &h);
        cr_assert_eq(w->damages, 0);
        history_close(&h);
        world_free(w);
        if (ok && calls < nth) {
            break;
        }
    }
    cr_assert_gt(failed, 50);
}

/* The process that wrote it ended before its sync returned, or because that failed: what the next
 * one reads is on no disk. The log is trimmed by what it finds. */
Test(store_crash, what_an_opening_has_found_is_there_after_a_power_cut)
{
    uint64_t newer = 0;
    for (uint64_t nth = 1;; nth++) {
        struct world *w = world_new(nth);
        struct history h = {0};
        uint64_t calls = sim_disk_calls(w->disk, SIM_DISK_ANY);
        sim_disk_fail(w->disk, SIM_DISK_ANY, nth, ERR_IO);
        bool ok = live(w, &h, 8, 60, 5, false);
        calls = sim_disk_calls(w->disk, SIM_DISK_ANY) - calls;
        sim_disk_fail(w->disk, SIM_DISK_ANY, 0, 0);
        world_reopen(w);
        uint64_t pass = w->rec.pass;
        newer += !ok && pass + 1 == h.count;
        store_close(w->st);
        w->st = NULL;
        sim_disk_crash_all(w->disk, false);
        cr_assert_eq(world_open(w), 0, "call %" PRIu64, nth);
        cr_assert_eq(w->rec.pass, pass, "call %" PRIu64 ": pass %" PRIu64 " of %" PRIu64, nth,
                     w->rec.pass, pass);
        check_pass(w, &h);
        history_close(&h);
        world_free(w);
        if (ok && calls < nth) {
            break;
        }
    }
    cr_assert_gt(newer, 5);
}

Test(store_crash, each_call_of_an_opening_failing_once_is_an_error_or_costs_nothing)
{
    struct world *w = world_new(1);
    struct history h = {0};
    unsigned failed = 0;
    cr_assert(live(w, &h, 6, 40, 5, true));
    for (uint64_t nth = 1;; nth++) {
        store_close(w->st);
        w->st = NULL;
        uint64_t calls = sim_disk_calls(w->disk, SIM_DISK_ANY);
        sim_disk_fail(w->disk, SIM_DISK_ANY, nth, ERR_IO);
        int rv = world_open(w);
        calls = sim_disk_calls(w->disk, SIM_DISK_ANY) - calls;
        sim_disk_fail(w->disk, SIM_DISK_ANY, 0, 0);
        if (rv != 0) {
            failed++;
            cr_assert_eq(rv, ERR_IO);
            continue;
        }
        check_pass(w, &h); /* An item is read from the other copy of the journal. */
        cr_assert_eq(w->damages, 0);
        if (calls < nth) {
            break;
        }
    }
    cr_assert_gt(failed, 5);
    history_close(&h);
    world_free(w);
}

Test(store_crash, each_call_of_loading_a_stream_failing_once_costs_nothing)
{
    struct world *w = world_new(1);
    struct history h = {0};
    unsigned damages = 0;
    cr_assert(live(w, &h, 6, 40, 5, true));
    for (uint64_t nth = 1;; nth++) {
        world_reopen(w);
        w->damages = 0;
        uint64_t calls = sim_disk_calls(w->disk, SIM_DISK_ANY);
        sim_disk_fail(w->disk, SIM_DISK_ANY, nth, ERR_IO);
        int rv = 0;
        for (uint64_t gid = 1; gid <= GIDS && rv == 0; gid++) {
            rv = world_load(w, gid, &h.passes[w->rec.pass * (GIDS + 1) + gid]);
        }
        calls = sim_disk_calls(w->disk, SIM_DISK_ANY) - calls;
        sim_disk_fail(w->disk, SIM_DISK_ANY, 0, 0);
        cr_assert(rv == 0 || rv == ERR_IO, "call %" PRIu64, nth);
        damages += w->damages;
        if (calls < nth) {
            break;
        }
    }
    cr_assert_gt(damages, 0, "a block that was read twice is looked at");
    history_close(&h);
    world_free(w);
}

Test(store_crash, a_block_no_checkpoint_names_is_put_aside_and_never_deleted)
{
    struct world *w = world_new(1);
    const struct file_ops *ops = sim_disk_ops(w->disk);
    struct file *f;
    const char *path = "/store/data-00000000000000aa.wblk";
    cr_assert_eq(ops->open(ops->ctx, path, FILE_WRITE | FILE_CREATE, &f), 0);
    cr_assert_eq(ops->pwrite(ops->ctx, f, "abc", 3, 0), 0);
    ops->close(ops->ctx, f);
    world_reopen(w);
    cr_assert_eq(w->rec.quarantined_count, 1);
    cr_assert_not(sim_disk_exists(w->disk, path));
    cr_assert(sim_disk_exists(w->disk, "/store/data-00000000000000aa.wblk.quarantine"));
    world_free(w);
}

Test(store_crash, dead_files_stay_until_base_is_durable_and_go_then)
{
    uint64_t rng = 3;
    struct world *w = world_new(1);
    for (unsigned i = 0; i < 400; i++) {
        world_append(w, 1, 0, &rng);
    }
    world_flush(w, 0xf, &rng);
    world_remove(w, 1, 0, 400);
    struct store_totals t;
    for (unsigned i = 0; i < 3; i++) {
        struct store_flush *job = world_flush_begin(w, 0xf, &rng);
        cr_assert_eq(store_flush_run(job), 0);
        store_flush_end(job, NULL, NULL);
        store_totals(w->st, &t);
        cr_assert_gt(t.dead_bytes, 0);
    }
    store_base_durable(w->st, UINT64_MAX);
    for (unsigned i = 0; i < 3; i++) {
        world_flush(w, 0xf, &rng);
    }
    store_totals(w->st, &t);
    cr_assert_eq(t.files, 0);
    cr_assert_not(store_flush_is_due(w->st));
    world_free(w);
}

static void newest_copies(void *arg, const char *name)
{
    char(*paths)[128] = arg; /* In order of name: the last are the newest. */
    if (strstr(name, ".journal") != NULL) {
        snprintf(paths[0], 128, "%s", name);
    } else if (strstr(name, ".mirror") != NULL) {
        snprintf(paths[1], 128, "%s", name);
    }
}

Test(store_crash, the_former_generation_still_has_all_its_blocks_when_the_newest_is_unreadable)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *w = world_new(seed);
        struct history h = {0};
        cr_assert(live(w, &h, 12 + (unsigned)seed, 60, seed, true));
        cr_assert_gt(w->rec.pass + 1, 0);
        store_close(w->st);
        char paths[2][128] = {"", ""};
        sim_disk_each(w->disk, newest_copies, paths);
        cr_assert(sim_disk_fill(w->disk, paths[0], 0, 64, 0));
        cr_assert(sim_disk_fill(w->disk, paths[1], 0, 64, 0));
        cr_assert_eq(world_open(w), 0);
        cr_assert(w->rec.is_fallback);
        cr_assert_gt(w->rec.pass, 0);
        cr_assert_eq(w->damages, 1, "the journal itself");
        check_pass(w, &h);
        cr_assert_eq(w->damages, 1);
        history_close(&h);
        world_free(w);
    }
}

/* ---- Images ---- */

static int transfer(struct store_image *im, struct store_stage *sg)
{
    uint32_t count;
    const struct store_part *parts = store_image_parts(im, &count);
    for (uint32_t i = 0; i < count; i++) {
        for (uint64_t off = 0; off < parts[i].bytes; off += 700) {
            uint8_t bytes[700];
            size_t len = parts[i].bytes - off < 700 ? (size_t)(parts[i].bytes - off) : 700;
            cr_assert_eq(store_image_read(im, i, off, bytes, len), 0);
            int rv = store_stage_write(sg, i, off, slice_of(bytes, len));
            if (rv != 0) {
                return rv;
            }
        }
    }
    return 0;
}

Test(store_image, a_stage_takes_the_place_of_a_stream_and_survives_a_power_cut)
{
    uint64_t rng = 4;
    struct world *a = world_new(1);
    struct world *b = world_new(2);
    for (unsigned i = 0; i < 300; i++) {
        world_random_op(a, 1, &rng);
    }
    world_flush(a, 0xf, &rng);
    struct model *image_of = xmalloc(sizeof *image_of);
    *image_of = a->now[1];
    struct store_image *im;
    cr_assert_eq(store_image_open(store_find(a->st, 1), &im), 0);
    cr_assert_eq(store_image_prepare(im), 0);
    /* The sender goes on; the image does not change. */
    for (unsigned i = 0; i < 10; i++) {
        for (unsigned k = 0; k < 50; k++) {
            world_random_op(a, 1, &rng);
        }
        world_flush(a, 0xf, &rng);
    }
    for (unsigned i = 0; i < 40; i++) {
        world_append(b, 1, 0, &rng);
        world_append(b, 2, 0, &rng);
    }
    world_flush(b, 0xf, &rng);

    uint32_t count;
    const struct store_part *parts = store_image_parts(im, &count);
    cr_assert_gt(count, 1);
    struct store_stage *sg;
    cr_assert_eq(store_stage_open(b->st, 1, 77, parts, count, &sg), 0);
    cr_assert_eq(transfer(im, sg), 0);
    uint32_t bad = 99;
    uint8_t wrong = 0xee;
    cr_assert_eq(store_stage_write(sg, 1, 100, slice_of(&wrong, 1)), 0);
    cr_assert_eq(store_stage_verify(sg, &bad), ERR_CORRUPT);
    cr_assert_eq(bad, 1);
    cr_assert_eq(transfer(im, sg), 0);
    cr_assert_eq(store_stage_verify(sg, &bad), 0);
    store_image_close(im);

    struct store_flush *job;
    cr_assert_eq(store_flush_begin(b->st, &job), 0);
    store_flush_stage(job, sg);
    cr_assert_eq(store_flush_run(job), 0);
    store_base_durable(b->st, store_flush_end(job, NULL, NULL));
    b->now[1] = *image_of;
    world_check_stream(b, 1, &b->now[1]);
    store_close(b->st);
    sim_disk_crash_all(b->disk, false);
    cr_assert_eq(world_open(b), 0);
    world_check_stream(b, 1, &b->now[1]);
    world_check_stream(b, 2, &b->now[2]);
    world_append(b, 1, 0, &rng);
    world_flush(b, 0xf, &rng);
    world_reopen(b);
    cr_assert_eq(b->rec.quarantined_count, 0);
    world_check_stream(b, 1, &b->now[1]);
    cr_assert_eq(a->damages + b->damages, 0);
    free(image_of);
    world_free(a);
    world_free(b);
}

Test(store_image, a_dropped_stage_leaves_nothing_behind)
{
    uint64_t rng = 4;
    struct world *w = world_new(1);
    for (unsigned i = 0; i < 30; i++) {
        world_append(w, 1, 0, &rng);
    }
    world_flush(w, 0xf, &rng);
    uint64_t before = sim_disk_used_bytes(w->disk);
    struct store_image *im;
    cr_assert_eq(store_image_open(store_find(w->st, 1), &im), 0);
    cr_assert_eq(store_image_prepare(im), 0);
    uint32_t count;
    const struct store_part *parts = store_image_parts(im, &count);
    struct store_stage *sg;
    cr_assert_eq(store_stage_open(w->st, 2, 77, parts, count, &sg), 0);
    cr_assert_eq(transfer(im, sg), 0);
    uint32_t bad;
    cr_assert_eq(store_stage_verify(sg, &bad), ERR_CORRUPT, "another stream's image");
    store_stage_drop(sg);
    store_image_close(im);
    cr_assert_eq(sim_disk_used_bytes(w->disk), before);
    world_free(w);
}

/* The first part, with its @n-th block's sequences as if they were the first block's. */
static void overlap_blocks(uint8_t *first, size_t len)
{
    uint8_t *block = NULL;
    for (size_t at = 52; at < len;) {
        size_t value = at + 7 + get_u16(first + at + 1);
        if (first[at] == 2 && block == NULL) {
            block = first + value;
        } else if (first[at] == 2) {
            memcpy(first + value + 24, block + 24, 16);
            return;
        }
        at = value + get_u32(first + at + 3);
    }
    cr_assert_fail("there are to be two blocks");
}

Test(store_image, an_image_that_contradicts_itself_is_refused)
{
    uint64_t rng = 4;
    struct world *w = world_new(1);
    struct world *to = world_new(2);
    for (unsigned i = 0; i < 60; i++) {
        world_append(w, 1, 0, &rng);
    }
    world_flush(w, 0xf, &rng);
    struct store_image *im;
    cr_assert_eq(store_image_open(store_find(w->st, 1), &im), 0);
    cr_assert_eq(store_image_prepare(im), 0);
    uint32_t count;
    const struct store_part *from = store_image_parts(im, &count);
    struct store_part *parts = xcalloc(count, sizeof *parts);
    memcpy(parts, from, count * sizeof *parts);
    size_t len = (size_t)parts[0].bytes;
    uint8_t *first = xmalloc(len);
    cr_assert_eq(store_image_read(im, 0, 0, first, len), 0);
    uint64_t index, term;
    store_image_applied(im, &index, &term);

    for (int i = 0; i < 4; i++) {
        uint8_t *copy = xmalloc(len);
        memcpy(copy, first, len);
        if (i == 1) {
            overlap_blocks(copy, len);
        } else if (i == 2) {
            put_u64(copy + 40, 1); /* The last sequence. */
        }
        parts[0].crc = crc32c(0, copy, len);
        struct store_stage *sg;
        uint32_t bad = 99;
        cr_assert_eq(store_stage_open(to->st, 1, 77, parts, count, &sg), 0);
        cr_assert_eq(transfer(im, sg), 0);
        cr_assert_eq(store_stage_write(sg, 0, 0, slice_of(copy, len)), 0);
        store_stage_expect(sg, i == 3 ? index + 1 : index, term);
        cr_expect_eq(store_stage_verify(sg, &bad), i == 0 ? 0 : ERR_CORRUPT, "case %d", i);
        cr_expect_eq(bad, i == 0 ? 99 : 0, "case %d", i);
        store_stage_drop(sg);
        free(copy);
    }
    free(first);
    free(parts);
    store_image_close(im);
    world_free(w);
    world_free(to);
}
