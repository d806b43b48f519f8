/* Damaged blocks are mended with records of other replicas, whose blocks are cut elsewhere; what no
 * replica has stays damaged, and costs nothing else. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/store_internal.h"
#include "tests/unit/store_world.h"

enum { ALL = 0xf, WORLDS = 3 };

static void grow(struct world *const *worlds, unsigned count, uint64_t *rng)
{
    uint64_t flushes = *rng;
    for (unsigned i = 0; i < count; i++) {
        uint64_t before = *rng;
        for (unsigned k = 0; k < WORLDS; k++) {
            *rng = before;
            world_random_op(worlds[k], 1, rng);
            if (rng_below(&flushes, 20 + 7 * k) == 0) {
                world_flush(worlds[k], ALL, &flushes);
            }
        }
    }
    for (unsigned k = 0; k < WORLDS; k++) {
        world_flush(worlds[k], ALL, &flushes);
    }
}

/* Something happens to the bytes of @b. */
static void damage(struct world *w, const struct block *b, uint64_t *rng)
{
    char path[STORE_PATH_BYTES];
    store_file_path(w->st, b->file->number, path);
    uint64_t index_bytes = b->bytes - b->index_off;
    switch (rng_below(rng, 5)) {
    case 0: /* One bit, anywhere. */
        cr_assert(sim_disk_flip_bit(w->disk, path, (b->off + rng_below(rng, b->bytes)) * 8));
        break;
    case 1: /* The index. */
        cr_assert(sim_disk_fill(w->disk, path, b->off + b->index_off, index_bytes, 0));
        break;
    case 2: /* Records. */
        cr_assert(sim_disk_fill(w->disk, path, b->off + BLOCK_HEADER_BYTES,
                                (b->index_off - BLOCK_HEADER_BYTES + 1) / 2, 0x55));
        break;
    case 3: /* Index and records. */
        cr_assert(sim_disk_fill(w->disk, path, b->off + b->bytes / 2, b->bytes - b->bytes / 2, 0));
        break;
    default: /* All of it. */
        cr_assert(sim_disk_fill(w->disk, path, b->off, b->bytes, 0xff));
    }
}

/* As another replica would answer. */
static void ask(struct world *from, struct store_stream *to, uint64_t first, uint64_t last)
{
    for (uint64_t seq = first; seq <= last; seq++) {
        struct store_view v;
        if (world_read(from, store_find(from->st, 1), seq, &v) == 0) {
            int rv = store_mend_put(to, store_view_record(&v));
            cr_assert_eq(rv, 0, "%s", err_text(rv));
            cr_assert_eq(store_mend_put(to, store_view_record(&v)), ERR_NOTFOUND, "twice");
        }
    }
}

/* Mend what can be; returns how many blocks could not. */
static unsigned mend(struct world *const *worlds, unsigned me)
{
    struct store_stream *s = store_find(worlds[me]->st, 1);
    unsigned failed = 0;
    uint64_t first;
    uint64_t last;
    for (uint64_t at = 1; store_mend_next(s, at, &first, &last); at = last + 1) {
        struct store_read req;
        int rv = store_mend_start(s, last, &req);
        if (rv == 0) {
            store_read_run(&req);
            rv = store_mend_done(&req);
            cr_assert_eq(rv, 0, "%s", err_text(rv));
        } else {
            cr_assert_eq(rv, ERR_EXISTS, "%s", err_text(rv));
        }
        for (unsigned k = 0; k < WORLDS; k++) {
            uint64_t from = first;
            uint64_t low;
            uint64_t high;
            while (k != me && store_mend_missing(s, from, &low, &high)) {
                ask(worlds[k], s, low, high);
                from = high + 1;
            }
        }
        rv = store_mend_end(s, last);
        failed += rv != 0 ? 1 : 0;
    }
    return failed;
}

static void count_info(void *arg, const struct store_info *info)
{
    (void)info;
    (*(uint64_t *)arg)++;
}

static uint64_t load(struct world *w)
{
    uint64_t count = 0;
    cr_assert_eq(store_stream_load(store_find(w->st, 1), count_info, NULL, &count), 0);
    return count;
}

/* Read each message from the disk, whatever the cache holds. */
static void scrub(struct world *w)
{
    struct store_stream *s = store_find(w->st, 1);
    struct store_read req;
    uint64_t last;
    for (uint64_t seq = 0; store_check_start(s, seq, &req, &last) == 0; seq = last + 1) {
        store_read_run(&req);
        int rv = store_check_done(&req);
        cr_assert(rv == 0 || rv == ERR_CORRUPT, "%s", err_text(rv));
    }
}

static uint64_t live_of(const struct model *m)
{
    uint64_t live = 0;
    for (uint64_t seq = 1; seq <= m->last_seq; seq++) {
        live += m->messages[seq].is_live;
    }
    return live;
}

/* The replicas' damaged blocks have no sequence in common. */
static unsigned damage_disjoint(struct world *const *worlds, uint64_t *rng)
{
    uint64_t first[WORLDS];
    uint64_t last[WORLDS];
    unsigned damaged = 0;
    for (unsigned k = 0; k < WORLDS; k++) {
        struct store_stream *s = store_find(worlds[k]->st, 1);
        first[k] = 1;
        last[k] = 0;
        if (s->end == s->head) {
            continue;
        }
        const struct block *b = s->blocks[s->head + rng_below(rng, s->end - s->head)];
        bool is_free = true;
        for (unsigned j = 0; j < k; j++) {
            is_free = is_free && (b->last_seq < first[j] || b->first_seq > last[j]);
        }
        if (is_free) {
            first[k] = b->first_seq;
            last[k] = b->last_seq;
            damage(worlds[k], b, rng);
            damaged++;
        }
    }
    return damaged;
}

static void play(uint64_t seed, bool is_reopened)
{
    uint64_t rng = seed;
    struct world *worlds[WORLDS];
    for (unsigned k = 0; k < WORLDS; k++) {
        worlds[k] = world_new(seed * 10 + k);
    }
    grow(worlds, 60 + (unsigned)rng_below(&rng, 200), &rng);
    unsigned damaged = damage_disjoint(worlds, &rng);
    for (unsigned k = 0; k < WORLDS && is_reopened; k++) {
        store_close(worlds[k]->st);
        cr_assert_eq(world_open(worlds[k]), 0);
        if (store_find(worlds[k]->st, 1) != NULL) {
            load(worlds[k]);
        }
    }
    for (unsigned k = 0; k < WORLDS; k++) {
        scrub(worlds[k]);
    }
    unsigned reported = worlds[0]->damages + worlds[1]->damages + worlds[2]->damages;
    cr_assert_geq(reported, damaged, "seed %u", (unsigned)seed);
    for (unsigned k = 0; k < WORLDS; k++) {
        cr_assert_eq(mend(worlds, k), 0, "seed %u world %u", (unsigned)seed, k);
        struct store_stream *s = store_find(worlds[k]->st, 1);
        cr_assert(store_stream_is_whole(s));
        if (is_reopened) {
            store_stream_unload(s);
            cr_assert_eq(load(worlds[k]), live_of(&worlds[k]->now[1]), "seed %u world %u",
                         (unsigned)seed, k);
        }
        world_check_reads(worlds[k], 1, &worlds[k]->now[1]);
    }
    for (unsigned k = 0; k < WORLDS; k++) {
        /* It goes on, and the next pass writes what was mended. */
        world_random_op(worlds[k], 1, &rng);
        world_flush(worlds[k], ALL, &rng);
        struct store_stats stats;
        store_stream_stats(store_find(worlds[k]->st, 1), &stats);
        cr_assert_eq(stats.damaged_blocks, 0);
        cr_assert_not(store_mend_is_due(store_find(worlds[k]->st, 1)));
        worlds[k]->damages = 0;
        store_close(worlds[k]->st);
        sim_disk_crash_all(worlds[k]->disk, false);
        cr_assert_eq(world_open(worlds[k]), 0);
        world_check_stream(worlds[k], 1, &worlds[k]->now[1]);
        world_check_reads(worlds[k], 1, &worlds[k]->now[1]);
        cr_assert_eq(worlds[k]->damages, 0, "seed %u world %u", (unsigned)seed, k);
        world_free(worlds[k]);
    }
}

Test(store_mend, damage_in_different_places_on_all_replicas_is_mended_while_they_run)
{
    for (uint64_t seed = 1; seed <= 80; seed++) {
        play(seed, false);
    }
}

Test(store_mend, damage_in_different_places_on_all_replicas_is_mended_before_they_start)
{
    for (uint64_t seed = 1001; seed <= 1080; seed++) {
        play(seed, true);
    }
}

static void fill_alike(struct world *const *worlds, unsigned messages, uint64_t *rng)
{
    for (unsigned i = 0; i < messages; i++) {
        uint64_t before = *rng;
        for (unsigned k = 0; k < WORLDS; k++) {
            *rng = before;
            world_append(worlds[k], 1, 0, rng);
        }
    }
    for (unsigned k = 0; k < WORLDS; k++) {
        world_flush(worlds[k], ALL, rng);
        world_reopen(worlds[k]);
        load(worlds[k]);
    }
}

Test(store_mend, what_is_damaged_everywhere_stays_damaged_and_is_never_written)
{
    uint64_t rng = 3;
    struct world *worlds[WORLDS];
    for (unsigned k = 0; k < WORLDS; k++) {
        worlds[k] = world_new(k + 1);
    }
    fill_alike(worlds, 30, &rng);
    for (unsigned k = 0; k < WORLDS; k++) {
        struct store_stream *s = store_find(worlds[k]->st, 1);
        const struct block *b = s->blocks[s->head];
        char path[STORE_PATH_BYTES];
        store_file_path(worlds[k]->st, b->file->number, path);
        cr_assert_gt(b->last_seq, 1 + WORLDS);
        /* The first message of all; each has lost another one, too. */
        uint64_t off = b->off + BLOCK_HEADER_BYTES;
        for (uint64_t seq = 1; seq <= 2 + k; seq++) {
            struct store_view v;
            cr_assert_eq(world_read(worlds[k], s, seq, &v), 0);
            if (seq == 1 || seq == 2 + k) {
                cr_assert(sim_disk_flip_bit(worlds[k]->disk, path, (off + 2) * 8));
            }
            off += store_view_record(&v).len;
        }
        world_reopen(worlds[k]);
        load(worlds[k]);
        scrub(worlds[k]);
        cr_assert_gt(worlds[k]->damages, 0);
    }
    for (unsigned k = 0; k < WORLDS; k++) {
        cr_assert_eq(mend(worlds, k), 1);
        struct store_stream *s = store_find(worlds[k]->st, 1);
        for (uint64_t seq = 1; seq <= 30; seq++) {
            struct store_view v;
            cr_assert_eq(world_read(worlds[k], s, seq, &v), seq == 1 ? ERR_CORRUPT : 0);
        }
        uint64_t first = s->blocks[s->head]->first_seq;
        uint64_t id = s->blocks[s->head]->id;
        world_flush(worlds[k], ALL, &rng);
        cr_assert_eq(s->blocks[s->head]->id, id, "kept as it is");
        cr_assert_eq(first, 1);
    }
    for (unsigned k = 0; k < WORLDS; k++) {
        world_free(worlds[k]);
    }
}

Test(store_mend, a_record_of_another_stream_or_place_is_refused)
{
    uint64_t rng = 4;
    struct world *worlds[WORLDS];
    for (unsigned k = 0; k < WORLDS; k++) {
        worlds[k] = world_new(k + 1);
    }
    fill_alike(worlds, 10, &rng);
    world_append(worlds[1], 2, 0, &rng);
    struct store_stream *s = store_find(worlds[0]->st, 1);
    damage(worlds[0], s->blocks[0], &(uint64_t){7});
    char path[STORE_PATH_BYTES];
    store_file_path(worlds[0]->st, s->blocks[0]->file->number, path);
    cr_assert(sim_disk_fill(worlds[0]->disk, path, s->blocks[0]->off, s->blocks[0]->bytes, 0));
    scrub(worlds[0]);
    struct store_read req;
    cr_assert_neq(store_mend_start(s, 1, &req), ERR_NOTFOUND);
    struct store_view v;
    cr_assert_eq(store_read(store_find(worlds[1]->st, 2), 1, &v), 0);
    cr_assert_eq(store_mend_put(s, store_view_record(&v)), ERR_INVALID, "its sid is another's");
    cr_assert_eq(world_read(worlds[1], store_find(worlds[1]->st, 1), 5, &v), 0);
    struct slice record = store_view_record(&v);
    uint8_t *copy = (uint8_t *)xslicedup(record);
    put_u64(copy + 16, 6);
    cr_assert_eq(store_mend_put(s, slice_of(copy, record.len)), ERR_INVALID, "of another place");
    cr_assert_eq(store_mend_put(s, slice_of(record.ptr, record.len - 1)), ERR_INVALID, "cut");
    cr_assert_eq(store_mend_put(s, slice_of(record.ptr, 12)), ERR_INVALID, "cut");
    cr_assert_eq(store_mend_put(s, record), 0);
    free(copy);
    for (unsigned k = 0; k < WORLDS; k++) {
        world_free(worlds[k]);
    }
}
