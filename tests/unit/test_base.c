#include <criterion/criterion.h>

#include "storage/base/arena.h"
#include "storage/base/buf.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/base/list.h"

Test(crc32c, matches_the_vectors_of_rfc_3720)
{
    uint8_t bytes[32] = {0};
    cr_expect_eq(crc32c(0, bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, 32);
    cr_expect_eq(crc32c(0, bytes, 32), 0x62a8ab43u);
    for (uint8_t i = 0; i < 32; i++) {
        bytes[i] = i;
    }
    cr_expect_eq(crc32c(0, bytes, 32), 0x46dd794eu);
    cr_expect_eq(crc32c(crc32c(0, bytes, 5), bytes + 5, 27), 0x46dd794eu);
}

/* Long runs take another way through the processor than short ones. */
Test(crc32c, long_runs_equal_the_same_bytes_in_short_pieces)
{
    static uint8_t bytes[5000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 256);
    }
    for (size_t len = 0; len <= sizeof bytes; len += len < 600 ? 1 : 97) {
        uint32_t pieces = 0;
        for (size_t at = 0; at < len; at += 13) {
            pieces = crc32c(pieces, bytes + at, len - at < 13 ? len - at : 13);
        }
        cr_expect_eq(crc32c(0, bytes, len), pieces, "%zu bytes", len);
    }
}

Test(crc32c, checksums_of_two_runs_are_joined)
{
    static uint8_t bytes[5000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 11);
    }
    static const size_t lens[] = {0, 1, 2, 3, 7, 8, 64, 255, 256, 1023, 4096, 5000};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        for (size_t cut = 0; cut <= lens[i]; cut += lens[i] / 9 + 1) {
            size_t rest = lens[i] - cut;
            uint32_t a = crc32c(0, bytes, cut);
            uint32_t b = crc32c(0, bytes + cut, rest);
            cr_expect_eq(crc32c_join(a, b, rest), crc32c(0, bytes, lens[i]), "%zu of %zu", cut,
                         lens[i]);
        }
    }
}

Test(buf, numbers_survive_a_round_trip)
{
    struct buf b = BUF_EMPTY;
    static const uint64_t values[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        buf_append_varint(&b, values[i]);
        buf_append_u64(&b, values[i]);
    }
    struct reader r = reader_of(buf_slice(&b));
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        cr_expect_eq(reader_varint(&r), values[i]);
        cr_expect_eq(reader_u64(&r), values[i]);
    }
    cr_expect_not(r.failed);
    cr_expect_eq(r.len, 0);
    buf_close(&b);
}

Test(buf, reading_past_the_end_fails_for_good)
{
    struct reader r = reader_of(SLICE_LIT("\x01\x02"));
    cr_expect_eq(reader_u32(&r), 0);
    cr_expect(r.failed);
    cr_expect_eq(reader_u8(&r), 0);
    cr_expect(r.failed);
}

Test(buf, a_varint_too_long_for_64_bits_is_refused)
{
    struct reader r = reader_of(SLICE_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"));
    reader_varint(&r);
    cr_expect(r.failed);
}

Test(buf, printf_and_consume_keep_the_rest)
{
    struct buf b = BUF_EMPTY;
    buf_printf(&b, "%s-%d", "seq", 7);
    buf_append_str(&b, "!");
    buf_consume(&b, 4);
    cr_expect(slice_eq(buf_slice(&b), SLICE_LIT("7!")));
    buf_close(&b);
}

Test(list, splice_keeps_the_order)
{
    struct list a;
    struct list b;
    struct list items[4];
    list_init(&a);
    list_init(&b);
    for (int i = 0; i < 4; i++) {
        list_push_back(i < 2 ? &a : &b, &items[i]);
    }
    list_splice(&a, &b);
    cr_expect(list_is_empty(&b));
    for (int i = 0; i < 4; i++) {
        cr_expect_eq(list_pop_front(&a), &items[i]);
    }
    cr_expect_null(list_pop_front(&a));
}

Test(err, each_code_has_a_text)
{
    cr_expect_str_eq(err_text(0), "ok");
    cr_expect_str_eq(err_text(ERR_CORRUPT), "data is corrupt");
    cr_expect_str_eq(err_text(-9999), "unknown error");
}

/* Blocks of all sizes, freed in order but for stragglers: none is handed out twice, none moves. */
Test(arena, blocks_keep_their_bytes_until_they_are_freed)
{
    enum { LIVE = 500, ROUNDS = 20000 };
    static struct {
        uint8_t *ptr;
        size_t bytes;
    } live[LIVE];
    struct arena a = ARENA_EMPTY;
    uint64_t rng = 88172645463325252u;
    for (unsigned i = 0; i < ROUNDS; i++) {
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        unsigned at = i % 7 == 0 ? (unsigned)(rng >> 40) % LIVE : i % LIVE;
        if (live[at].ptr != NULL) {
            for (size_t k = 0; k < live[at].bytes; k++) {
                cr_assert_eq(live[at].ptr[k], (uint8_t)(at + live[at].bytes));
            }
            arena_free(&a, live[at].ptr);
        }
        live[at].bytes = (rng >> 33) % ((rng >> 20) % 50 == 0 ? 100000 : 700);
        live[at].ptr = arena_alloc(&a, live[at].bytes);
        cr_assert_eq((uintptr_t)live[at].ptr % _Alignof(max_align_t), 0);
        memset(live[at].ptr, (uint8_t)(at + live[at].bytes), live[at].bytes);
    }
    for (unsigned i = 0; i < LIVE; i++) {
        if (live[i].ptr != NULL) {
            arena_free(&a, live[i].ptr);
        }
    }
    arena_close(&a);
}
