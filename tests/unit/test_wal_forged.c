/* Frames whose checksums are right and whose values are not, and ends of the log where a frame that
 * was synced is rotten and the one behind it torn. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"
#include "storage/base/crc32c.h"
#include "storage/wal_format.h"
#include "tests/unit/wal_world.h"

#define FRAMES 4u

struct log {
    struct wal_world *x;
    char path[128];
    uint64_t size;
    uint64_t offs[FRAMES]; /* Of the frames, the last one a WATERMARK if it is vouched for. */
    uint64_t last_durable;
};

static void on_file(void *arg, const char *name)
{
    struct log *l = arg;
    (void)snprintf(l->path, sizeof l->path, "%s", name);
}

/* Four frames of one record each, all synced; the last two are of two sectors and more. */
static void log_open(struct log *l)
{
    *l = (struct log){.x = xmalloc(sizeof *l->x)};
    wal_world_init(l->x, sim_disk_new(1));
    cr_assert_eq(wal_world_open(l->x), 0);
    for (unsigned i = 0; i < FRAMES; i++) {
        l->offs[i] = WAL_BLOCK_BYTES * (1u + i);
        (void)wal_world_append(l->x, l->x->next_key++, 1500);
        cr_assert_eq(wal_world_commit(l->x), 0);
    }
    l->last_durable = wal_durable_lsn(l->x->w);
    wal_world_close(l->x);
    sim_disk_each(l->x->disk, on_file, l);
    l->size = sim_disk_file_size(l->x->disk, l->path);
}

static void log_close(struct log *l)
{
    sim_disk_free(l->x->disk);
    free(l->x);
}

static uint8_t *log_copy(const struct log *l)
{
    uint8_t *p = xmalloc(l->size);
    memcpy(p, sim_disk_bytes(l->x->disk, l->path), l->size);
    return p;
}

/* Make the header's checksum and the stamps of the frame right again. */
static void mend(uint8_t *file, uint64_t off)
{
    uint8_t *h = file + off;
    wal_put32(h + 4, crc32c(0, h + 8, WAL_FRAME_HEADER_BYTES - 8));
    uint32_t stamp = wal_stamp(wal_get32(h + 8), wal_get64(h + 16));
    for (size_t at = WAL_SECTOR_DATA; at < WAL_BLOCK_BYTES; at += WAL_SECTOR_BYTES) {
        wal_put32(h + at, stamp);
    }
}

static void put(uint8_t *p, unsigned width, uint64_t value)
{
    if (width == 4) {
        wal_put32(p, (uint32_t)value);
    } else {
        wal_put64(p, value);
    }
}

/* Open what was made of the log, twice; what is lost is suspected. */
static struct wal_recovery check(struct log *l, const uint8_t *file, const char *what)
{
    struct wal_world *y = xmalloc(sizeof *y);
    memcpy(y, l->x, sizeof *y);
    y->disk = sim_disk_clone(l->x->disk);
    y->o.ops = sim_disk_ops(y->disk);
    cr_assert(sim_disk_write(y->disk, l->path, 0, file, l->size));
    cr_assert_eq(wal_world_open(y), 0, "%s", what);
    struct wal_recovery found = y->found;
    uint64_t suspects = y->suspects;
    cr_assert_eq(y->wrong, 0, "%s", what);
    for (uint64_t lsn = 1; lsn <= l->last_durable; lsn++) {
        uint64_t group = UINT64_C(1) << wal_world_gid(y->appended[lsn]);
        cr_assert(y->seen[lsn] != 0 || (suspects & (WAL_WORLD_ALL | group)) != 0,
                  "%s: LSN %" PRIu64 " is lost and nobody is suspect", what, lsn);
    }
    wal_world_close(y);
    sim_disk_crash_all(y->disk, false);
    cr_assert_eq(wal_world_open(y), 0, "%s", what);
    cr_assert_eq(y->suspects, suspects, "%s", what);
    cr_assert_not(y->found.is_corrupt || y->found.is_rotten, "%s: reported again", what);
    cr_assert_lt(wal_next_lsn(y->w), 100u, "%s: an absurd LSN goes on", what);
    wal_world_close(y);
    sim_disk_free(y->disk);
    free(y);
    return found;
}

/* ---- Absurd values ---- */

static const struct {
    const char *what;
    unsigned off, width;
    uint64_t value;
} absurd[] = {
    {"no lsn", 16, 8, 0},
    {"the largest lsn", 16, 8, UINT64_MAX},
    {"an lsn beyond the bound", 16, 8, WAL_NUMBER_MAX + 1},
    {"the largest durable_lsn", 40, 8, UINT64_MAX},
    {"a durable_lsn that would wrap", 40, 8, UINT64_MAX - 1},
    {"a durable_lsn of the future", 40, 8, 1000},
    {"the largest trim_lsn", 48, 8, UINT64_MAX},
    {"a trim_lsn of the future", 48, 8, 1000},
    {"a gap without the flag", 56, 8, 1},
    {"a gap of no length", 12, 4, WAL_FRAME_GAP},
    {"an unknown flag", 12, 4, 8},
    {"a footer with records", 12, 4, WAL_FRAME_FOOTER},
    {"no records", 28, 4, 0},
    {"too many records", 28, 4, UINT32_MAX},
};

Test(wal_forged, absurd_values_under_right_checksums_are_damage)
{
    struct log l;
    log_open(&l);
    for (unsigned frame = 0; frame < FRAMES; frame++) {
        for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
            uint8_t *file = log_copy(&l);
            put(file + l.offs[frame] + absurd[i].off, absurd[i].width, absurd[i].value);
            mend(file, l.offs[frame]);
            struct wal_recovery found = check(&l, file, absurd[i].what);
            cr_expect(found.is_corrupt || found.is_rotten, "%s", absurd[i].what);
            cr_expect(found.is_foreign, "%s", absurd[i].what);
            cr_expect_eq(found.damaged_off, l.offs[frame], "%s", absurd[i].what);
            cr_expect_str_eq(found.damaged_file, l.path + 1);
            free(file);
        }
    }
    log_close(&l);
}

static const struct {
    const char *what;
    unsigned off;
    uint64_t value;
} absurd_files[] = {
    {"the largest seq", 32, UINT64_MAX},
    {"the largest generation", 40, UINT64_MAX},
    {"an enormous file", 48, UINT64_C(0xfffffffffffff000)},
};

Test(wal_forged, absurd_file_headers_are_damage)
{
    struct log l;
    log_open(&l);
    for (size_t i = 0; i < sizeof absurd_files / sizeof absurd_files[0]; i++) {
        uint8_t *file = log_copy(&l);
        wal_put64(file + absurd_files[i].off, absurd_files[i].value);
        wal_put32(file + 60, crc32c(0, file, 60));
        struct wal_recovery found = check(&l, file, absurd_files[i].what);
        cr_expect(found.is_corrupt && found.has_unknown_groups, "%s", absurd_files[i].what);
        cr_expect_eq(found.damaged_off, 0);
        free(file);
    }
    log_close(&l);
}

/* ---- Rotten, then torn ---- */

static void zero_sectors(uint8_t *file, uint64_t off, unsigned from, unsigned to)
{
    memset(file + off + from * WAL_SECTOR_BYTES, 0, (to - from) * WAL_SECTOR_BYTES);
}

/* The last frame but one was synced, or the last would not have been begun. */
Test(wal_forged, a_rotten_frame_before_a_torn_one_is_no_torn_tail)
{
    static const struct {
        const char *what;
        unsigned rot_from, rot_to, torn_from, torn_to; /* Sectors that are zeroed. */
    } cases[] = {
        {"a sector of data is gone, and the header of the torn one is there", 1, 2, 1, 8},
        {"the first sector is gone, and the header of the torn one is there", 0, 1, 1, 8},
        {"all of it is gone, and the header of the torn one is there", 0, 8, 1, 8},
        {"a sector of data is gone, and so is the header of the torn one", 1, 2, 0, 2},
    };
    struct log l;
    log_open(&l);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *file = log_copy(&l);
        zero_sectors(file, l.offs[2], cases[i].rot_from, cases[i].rot_to);
        zero_sectors(file, l.offs[3], cases[i].torn_from, cases[i].torn_to);
        l.last_durable = 3; /* Of the last frame nobody was told. */
        struct wal_recovery found = check(&l, file, cases[i].what);
        cr_expect(found.is_rotten, "%s", cases[i].what);
        cr_expect_not(found.is_torn, "%s", cases[i].what);
        free(file);
    }
    log_close(&l);
}

Test(wal_forged, a_torn_frame_behind_good_ones_is_a_torn_tail)
{
    struct log l;
    log_open(&l);
    for (unsigned sector = 0; sector < 8; sector++) {
        uint8_t *file = log_copy(&l);
        zero_sectors(file, l.offs[3], sector, sector == 7 ? 8 : sector + 1 + (sector < 2));
        l.last_durable = 3;
        struct wal_recovery found = check(&l, file, "torn");
        cr_expect_not(found.is_rotten || found.is_corrupt, "sector %u", sector);
        free(file);
    }
    log_close(&l);
}
