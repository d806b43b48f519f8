/* The WAL's contract, without damage: what was reported durable is handed out again, in order. */
#include <criterion/criterion.h>

#include "storage/base/err.h"
#include "tests/unit/wal_world.h"

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
