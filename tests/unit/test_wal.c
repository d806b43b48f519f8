/* The WAL's contract, without damage: what was reported durable is handed out again, in order. */
#include <criterion/criterion.h>

#include "storage/base/err.h"
#include "tests/unit/wal_world.h"

/* An older build that skipped what it does not know would go on without what it means. */
Test(wal, a_record_of_a_newer_version_is_refused_and_nothing_is_changed)
{
    static struct wal_world x;
    struct slice part = SLICE_LIT("01234567");
    const uint8_t types[] = {WAL_WORLD_TYPE + 1, WAL_TYPE_CLEARED + 1};
    for (size_t i = 0; i < sizeof types; i++) {
        struct sim_disk *d = sim_disk_new(1);
        wal_world_init(&x, d);
        cr_assert_eq(wal_world_open(&x), 0);
        cr_expect_eq(wal_world_append(&x, 1, 100), 1);
        cr_expect_eq(wal_append(x.w, types[i], 1, &part, 1), 2);
        cr_expect_eq(wal_world_commit(&x), 0);
        wal_world_close(&x);
        uint64_t writes = sim_disk_calls(d, SIM_DISK_PWRITE);
        cr_expect_eq(wal_world_open(&x), ERR_VERSION);
        cr_expect(x.found.damaged_file[0] != 0);
        cr_expect_eq(sim_disk_calls(d, SIM_DISK_PWRITE), writes);
        sim_disk_free(d);
    }
}

Test(wal, hands_out_what_was_committed_and_goes_on)
{
    static struct wal_world x;
    for (int is_direct = 0; is_direct < 2; is_direct++) {
        struct sim_disk *d = sim_disk_new(1);
        sim_disk_set_direct(d, is_direct != 0);
        wal_world_init(&x, d);
        cr_assert_eq(wal_world_open(&x), 0);
        cr_expect_eq(wal_next_lsn(x.w), 1);
        cr_expect(!wal_batch_take(x.w));
        uint64_t key = 1;
        for (int life = 0; life < 5; life++) {
            for (int i = 0; i < 40; i++, key++) {
                cr_expect_eq(wal_world_append(&x, key, 10 + key * 37 % 900), key);
                if (i % 3 == 0) {
                    cr_expect(wal_durable_lsn(x.w) < key);
                    cr_expect_eq(wal_world_commit(&x), 0);
                    cr_expect_eq(wal_durable_lsn(x.w), key);
                    cr_expect_eq(wal_pending_bytes(x.w), 0);
                }
            }
            cr_expect_eq(wal_world_commit(&x), 0);
            cr_expect_str_eq(wal_mode_text(x.w), is_direct != 0 ? "direct" : "buffered");
            wal_world_close(&x);
            sim_disk_crash_all(d, false);
            cr_assert_eq(wal_world_open(&x), 0);
            cr_expect_eq(x.seen_count, key - 1);
            cr_expect_eq(x.found.records_count, key - 1);
            cr_expect_eq(x.found.last_lsn, key - 1);
            cr_expect_eq(wal_next_lsn(x.w), key);
            cr_expect(!x.has_gap);
            cr_expect_eq(x.wrong, 0);
            cr_expect(!x.found.is_torn && !x.found.is_rotten && !x.found.is_corrupt);
            cr_expect_eq(x.suspects, 0);
        }
        wal_world_close(&x);
        sim_disk_free(d);
    }
}

/* A log that was written fast has most of its files only to write over them, and the start of a
 * node waits for what is read. */
Test(wal, files_below_the_trim_are_not_read)
{
    static struct wal_world x;
    struct sim_disk *d = sim_disk_new(1);
    wal_world_init(&x, d);
    cr_assert_eq(wal_world_open(&x), 0);
    while (wal_sealed_count(x.w) < 6) {
        (void)wal_world_append(&x, x.next_key++, 3000);
        cr_assert_eq(wal_world_commit(&x), 0);
    }
    uint64_t first = wal_segment_first_lsn(x.w, 5);
    wal_world_trim(&x, first + 1);
    uint64_t last = wal_world_append(&x, x.next_key++, 10);
    cr_assert_eq(wal_world_commit(&x), 0);
    wal_world_close(&x);

    cr_assert_eq(wal_world_open(&x), 0);
    cr_expect_eq(x.first_seen, first);
    cr_expect_eq(x.last_seen, last);
    cr_expect(!x.has_gap);
    cr_expect_eq(x.wrong, 0);
    cr_expect(!x.found.is_torn && !x.found.is_rotten && !x.found.is_corrupt);
    /* And they are used again. */
    (void)wal_world_append(&x, x.next_key++, 10);
    cr_assert_eq(wal_world_commit(&x), 0);
    cr_expect_geq(wal_oldest_lsn(x.w), first);
    wal_world_close(&x);
    sim_disk_free(d);
}
