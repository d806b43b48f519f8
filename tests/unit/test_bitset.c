#include <criterion/criterion.h>

#include "storage/bitset.h"
#include "tests/unit/store_world.h"

#define BITS 331u

/* The words against single bits. */
Test(bitset, words_are_the_bits_at_any_place)
{
    uint64_t rng = 7;
    for (unsigned round = 0; round < 200; round++) {
        bool is_set[BITS] = {false};
        uint32_t count = 0;
        struct bitset b = {.bits = BITS};
        struct bitset merged = {.bits = BITS + 77};
        for (unsigned i = 0; i < 8; i++) {
            uint32_t at = (uint32_t)rng_below(&rng, BITS);
            uint32_t left = BITS - at;
            uint64_t word = rng_below(&rng, UINT64_MAX);
            word = left >= 64 ? word : word & ((UINT64_C(1) << left) - 1);
            uint32_t last = at + (uint32_t)rng_below(&rng, left);
            if (i % 2 == 0) {
                bitset_set_word(&b, at, word);
            } else {
                bitset_set_range(&b, at, last);
            }
            for (uint32_t k = at; k < BITS; k++) {
                bool is_in = i % 2 == 0 ? k - at < 64 && (word >> (k - at) & 1) != 0 : k <= last;
                is_set[k] = is_set[k] || is_in;
            }
        }
        bitset_merge(&merged, &b, 77);
        for (uint32_t k = 0; k < BITS; k++) {
            count += is_set[k];
            cr_assert_eq(bitset_has(&b, k), is_set[k]);
            cr_assert_eq(bitset_has(&merged, k + 77), is_set[k]);
            uint64_t word = 0;
            for (uint32_t n = 0; n < 64 && k + n < BITS; n++) {
                word |= (uint64_t)is_set[k + n] << n;
            }
            cr_assert_eq(bitset_word(&b, k), word);
        }
        cr_assert_eq(b.count, count);
        cr_assert_eq(merged.count, count);
        bitset_close(&b);
        bitset_close(&merged);
    }
}

Test(bitset, an_empty_set_has_no_words)
{
    struct bitset b = {.bits = BITS};
    bitset_set_word(&b, 5, 0);
    cr_assert_null(b.words);
    cr_assert_eq(bitset_word(&b, 5), 0);
}
