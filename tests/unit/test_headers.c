#include <criterion/criterion.h>

#include "broker/headers.h"

#define BLOCK "NATS/1.0 408 Too Late\r\nA:  one \r\nb:2\r\nA: two\r\nEmpty:\r\n\r\n"

static void expect_out(struct buf *out, const char *text)
{
    cr_expect(slice_eq_str(buf_slice(out), text), "%.*s", SLICE_ARG(buf_slice(out)));
    buf_clear(out);
}

Test(headers, names_are_case_sensitive_and_the_first_one_counts)
{
    struct slice v;
    cr_assert(headers_find_str(SLICE_LIT(BLOCK), "A", &v));
    cr_expect(slice_eq_str(v, "one "), "leading spaces are skipped, others stay");
    cr_assert(headers_find_str(SLICE_LIT(BLOCK), "b", &v));
    cr_expect(slice_eq_str(v, "2"));
    cr_assert(headers_find_str(SLICE_LIT(BLOCK), "Empty", &v));
    cr_expect_eq(v.len, 0);
    cr_expect_not(headers_find_str(SLICE_LIT(BLOCK), "a", &v));
    cr_expect_not(headers_find_str(SLICE_LIT(BLOCK), "NATS/1.0 408 Too Late", &v));
}

Test(headers, iteration_stops_at_what_is_malformed)
{
    struct headers_iter it = headers_iter(SLICE_LIT("NATS/1.0\r\nA: 1\r\nnocolon\r\nB: 2\r\n\r\n"));
    struct slice n;
    struct slice v;
    cr_assert(headers_next(&it, &n, &v));
    cr_expect(slice_eq_str(n, "A"));
    cr_expect_not(headers_next(&it, &n, &v));
    cr_expect_not(headers_next(&it, &n, &v));
    it = headers_iter(SLICE_LIT("HTTP/1.1\r\nA: 1\r\n\r\n"));
    cr_expect_not(headers_next(&it, &n, &v));
}

Test(headers, the_form_of_a_block_is_checked)
{
    cr_expect(headers_is_valid(SLICE_LIT(BLOCK)));
    cr_expect(headers_is_valid(SLICE_LIT("NATS/1.0\r\n\r\n")));
    const char *bad[] = {"",
                         "NATS/1.0",
                         "NATS/1.0\r\n",
                         "NATS/1.0\r\nA: 1\r\n",
                         "NATS/1.0\r\nA 1\r\n\r\n",
                         "NATS/1.0\r\n: 1\r\n\r\n",
                         "NATS/1.0\r\n\r\nrest",
                         "NATS/1.0x\r\n\r\n",
                         "nats/1.0\r\n\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_not(headers_is_valid(slice_str(bad[i])), "%s", bad[i]);
    }
}

Test(headers, blocks_are_built_and_extended)
{
    struct buf b = BUF_EMPTY;
    headers_begin(&b);
    headers_add(&b, "Nats-Stream", SLICE_LIT("S"));
    headers_add(&b, "Nats-Sequence", SLICE_LIT("7"));
    headers_end(&b);
    cr_expect(headers_is_valid(buf_slice(&b)));
    expect_out(&b, "NATS/1.0\r\nNats-Stream: S\r\nNats-Sequence: 7\r\n\r\n");
    headers_append(&b, SLICE_LIT("NATS/1.0\r\nA: 1\r\n\r\n"), "B", SLICE_LIT("2"));
    expect_out(&b, "NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n");
    headers_append(&b, SLICE_EMPTY, "B", SLICE_LIT("2"));
    expect_out(&b, "NATS/1.0\r\nB: 2\r\n\r\n");
    buf_close(&b);
}
