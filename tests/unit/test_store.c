#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "tests/unit/store_world.h"

Test(store, appended_messages_are_read_back_before_and_after_a_flush_and_a_reopening)
{
    uint64_t rng = 1;
    struct world *w = world_new(1);
    for (unsigned i = 0; i < 100; i++) {
        world_append(w, 1, 0, &rng);
    }
    world_check_reads(w, 1, &w->now[1]);
    world_flush(w, 2, &rng);
    world_check_reads(w, 1, &w->now[1]);
    struct store_stats stats;
    store_stream_stats(store_find(w->st, 1), &stats);
    cr_assert_eq(stats.messages, 100);
    cr_assert_eq(stats.dirty_messages, 0);
    cr_assert_eq(stats.dirty_bytes, 0);
    world_reopen(w);
    cr_assert_eq(w->rec.streams_count, 1);
    cr_assert_eq(w->rec.quarantined_count, 0);
    world_check_stream(w, 1, &w->now[1]);
    uint64_t index, term;
    store_stream_applied(store_find(w->st, 1), &index, &term);
    cr_assert_eq(index, 100);
    world_free(w);
}

Test(store, messages_removed_before_their_flush_never_reach_a_block)
{
    uint64_t rng = 1;
    struct world *w = world_new(1);
    for (unsigned i = 0; i < 100; i++) {
        world_append(w, 1, 0, &rng);
    }
    world_remove(w, 1, 1, 100);
    world_flush(w, 2, &rng);
    struct store_totals t;
    store_totals(w->st, &t);
    cr_assert_eq(t.files, 0);
    cr_assert_eq(t.disk_bytes, 0);
    world_free(w);
}

Test(store, a_reference_keeps_a_view_valid_after_its_message_is_gone)
{
    uint64_t rng = 1;
    struct world *w = world_new(1);
    world_append(w, 1, 0, &rng);
    struct store_view v;
    cr_assert_eq(store_read(store_find(w->st, 1), 1, &v), 0);
    store_view_ref(&v);
    struct content c;
    make_content(&c, 1, 1, &w->now[1].messages[1]);
    store_stream_delete(store_find(w->st, 1));
    cr_assert(view_is(&v, &c.m));
    store_view_unref(&v);
    world_free(w);
}

/* ---- More in a pass than is gathered before it is written ---- */

static struct store *big_open(struct sim_disk *disk)
{
    struct store_options o = {.ops = sim_disk_ops(disk), .dir = "/big", .machine_version = 1};
    struct store_recovery rec;
    struct store *st;
    cr_assert_eq(store_open(&o, &rec, &st), 0);
    cr_assert_eq(rec.quarantined_count, 0);
    return st;
}

static struct store_message big_message(uint64_t gid, uint64_t seq, uint8_t *payload, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        payload[i] = (uint8_t)(gid * 131 + seq * 31 + i * 7);
    }
    return (struct store_message){.seq = seq,
                                  .time_ns = (int64_t)seq,
                                  .subject = SLICE_LIT("big.subject"),
                                  .payload = slice_of(payload, len)};
}

static void on_big_info(void *arg, const struct store_info *info)
{
    (void)info;
    ++*(uint64_t *)arg;
}

static void on_big_item(void *arg, struct slice key, struct slice value)
{
    (void)arg;
    (void)key;
    (void)value;
}

/* Large streams with a small one between them, so that files take turns; twice, so that the second
 * pass goes on where the first ended. */
static void large_passes(bool has_direct)
{
    const uint64_t counts[] = {0, 4000, 3, 3500};
    uint8_t payload[701];
    struct sim_disk *disk = sim_disk_new(7);
    const struct file_ops *ops = sim_disk_ops(disk);
    sim_disk_set_direct(disk, has_direct);
    cr_assert_eq(ops->mkdir(ops->ctx, "/big"), 0);
    cr_assert_eq(ops->sync_dir(ops->ctx, "/"), 0);
    struct store *st = big_open(disk);
    for (unsigned pass = 0; pass < 2; pass++) {
        struct store_flush *job;
        for (uint64_t gid = 1; gid <= 3; gid++) {
            struct store_stream *s = store_find(st, gid);
            s = s != NULL ? s : store_stream_create(st, gid, gid);
            for (uint64_t i = 1; i <= counts[gid]; i++) {
                struct store_message m =
                    big_message(gid, pass * counts[gid] + i, payload, sizeof payload);
                store_append(s, &m);
            }
        }
        cr_assert_eq(store_flush_begin(st, &job), 0);
        for (uint64_t gid = 1; gid <= 3; gid++) {
            store_flush_stream(job, store_find(st, gid), pass + 1, 1);
        }
        cr_assert_eq(store_flush_run(job), 0);
        store_base_durable(st, store_flush_end(job, NULL, NULL));
    }
    store_close(st);
    sim_disk_crash(disk, 3);
    st = big_open(disk);
    for (uint64_t gid = 1; gid <= 3; gid++) {
        struct store_stream *s = store_find(st, gid);
        uint64_t count = 0;
        cr_assert_eq(store_stream_load(s, on_big_info, on_big_item, &count), 0);
        cr_assert_eq(count, 2 * counts[gid]);
        for (uint64_t seq = 1; seq <= count; seq++) {
            struct store_message m = big_message(gid, seq, payload, sizeof payload);
            struct store_view v;
            cr_assert_eq(world_read(NULL, s, seq, &v), 0, "gid %" PRIu64 " seq %" PRIu64, gid, seq);
            cr_assert(view_is(&v, &m), "gid %" PRIu64 " seq %" PRIu64, gid, seq);
        }
    }
    store_close(st);
    sim_disk_free(disk);
}

Test(store, large_passes_are_written_whole_past_the_page_cache)
{
    large_passes(true);
}

Test(store, large_passes_are_written_whole_through_the_page_cache)
{
    large_passes(false);
}

/* Operations against the model; flushes whose run overlaps with operations; reopenings. */
static void random_life(uint64_t seed, unsigned steps)
{
    uint64_t rng = seed;
    struct world *w = world_new(seed);
    struct model *saved = xcalloc(GIDS + 1, sizeof *saved);
    for (unsigned step = 0; step < steps; step++) {
        for (uint64_t n = rng_below(&rng, 60); n > 0; n--) {
            world_random_op(w, 1 + rng_below(&rng, GIDS), &rng);
        }
        unsigned gids = (unsigned)rng_below(&rng, 1u << (GIDS + 1));
        struct store_flush *job = world_flush_begin(w, gids, &rng);
        for (uint64_t gid = 1; gid <= GIDS; gid++) {
            if ((gids >> gid & 1) != 0) {
                saved[gid] = w->now[gid];
            }
        }
        for (uint64_t n = rng_below(&rng, 10); n > 0; n--) {
            world_random_op(w, 1 + rng_below(&rng, GIDS), &rng);
        }
        uint64_t doomed = rng_below(&rng, 10) == 0 ? 1 + rng_below(&rng, GIDS) : 0;
        if (doomed != 0 && store_find(w->st, doomed) != NULL) {
            store_stream_delete(store_find(w->st, doomed));
            memset(&w->now[doomed], 0, sizeof w->now[doomed]);
        } else {
            doomed = 0;
        }
        cr_assert_eq(store_flush_run(job), 0);
        uint64_t pass = store_flush_end(job, NULL, NULL);
        if (rng_below(&rng, 4) != 0) {
            store_base_durable(w->st, pass);
        }
        for (uint64_t gid = 1; gid <= GIDS; gid++) {
            world_check_reads(w, gid, &w->now[gid]);
        }
        if (doomed != 0) {
            world_flush(w, 0, &rng);
            memset(&saved[doomed], 0, sizeof saved[doomed]);
        }
        if (rng_below(&rng, 5) == 0) {
            world_reopen(w);
            cr_assert_eq(w->rec.quarantined_count, 0);
            for (uint64_t gid = 1; gid <= GIDS; gid++) {
                w->now[gid] = saved[gid];
                world_check_stream(w, gid, &w->now[gid]);
            }
        }
    }
    cr_assert_eq(w->damages, 0);
    free(saved);
    world_free(w);
}

Test(store, random_lives_equal_the_model)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        random_life(seed, 40);
    }
}

static void count_info(void *arg, const struct store_info *info)
{
    (void)info;
    ++*(unsigned *)arg;
}

/* The run is another thread's: no pass may move what it reads. */
Test(store, a_stream_is_loaded_in_steps_beside_others_and_no_flush_begins_meanwhile)
{
    uint64_t rng = 1;
    struct store_flush *job;
    unsigned infos = 0;
    struct world *w = world_new(1);
    for (unsigned i = 0; i < 100; i++) {
        world_append(w, 1, 0, &rng);
        world_append(w, 2, 0, &rng);
    }
    world_remove(w, 1, 10, 19);
    world_flush(w, 2 | 4, &rng);
    world_reopen(w);
    struct store_stream *s = store_find(w->st, 1);
    cr_assert_eq(store_stream_load(store_find(w->st, 2), count_info, NULL, &infos), 0);
    cr_assert_eq(infos, 100);
    struct store_load *ld = store_load_begin(s, count_info, NULL, &infos);
    cr_assert_eq(store_flush_begin(w->st, &job), ERR_BUSY);
    world_append(w, 2, 0, &rng);
    store_load_run(ld);
    cr_assert_eq(infos, 190);
    cr_assert_eq(store_flush_begin(w->st, &job), ERR_BUSY);
    cr_assert_eq(store_load_end(ld), 0);
    struct store_stats stats;
    store_stream_stats(s, &stats);
    cr_assert_eq(stats.messages, 90);
    cr_assert_eq(stats.first_seq, 1);
    cr_assert_eq(stats.last_seq, 100);
    world_flush(w, 2 | 4, &rng);
    world_check_reads(w, 1, &w->now[1]);
    world_check_reads(w, 2, &w->now[2]);
    world_free(w);
}
