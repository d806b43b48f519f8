#include <criterion/criterion.h>

#include "broker/ack.h"
#include "broker/json_scan.h"

static const char *text_of(struct buf *b)
{
    buf_append_u8(b, 0);
    return (const char *)b->ptr;
}

Test(ack, a_subject_is_printed_and_read_again)
{
    struct ack_subject a = {.stream = SLICE_LIT("ORDERS"),
                            .consumer = SLICE_LIT("w"),
                            .delivered = 1,
                            .stream_seq = 20,
                            .consumer_seq = 3,
                            .time_ns = 1700000000123456789,
                            .pending = 0};
    struct ack_subject got;
    struct buf b = BUF_EMPTY;
    ack_subject_print(&b, &a);
    cr_assert_eq(b.len, ack_subject_size(&a));
    cr_assert(ack_subject_parse(buf_slice(&b), &got));
    cr_expect(slice_eq_str(got.stream, "ORDERS") && slice_eq_str(got.consumer, "w"));
    cr_expect_eq(got.delivered, 1);
    cr_expect_eq(got.stream_seq, 20);
    cr_expect_eq(got.consumer_seq, 3);
    cr_expect_eq(got.time_ns, 1700000000123456789);
    cr_expect_eq(got.pending, 0);
    cr_expect_str_eq(text_of(&b), "$JS.ACK.ORDERS.w.1.20.3.1700000000123456789.0");

    a.time_ns = INT64_MIN;
    a.pending = UINT64_MAX;
    buf_clear(&b);
    ack_subject_print(&b, &a);
    cr_assert_eq(b.len, ack_subject_size(&a));
    cr_assert(ack_subject_parse(buf_slice(&b), &got));
    cr_expect_eq(got.time_ns, INT64_MIN);
    cr_expect_eq(got.pending, UINT64_MAX);
    buf_close(&b);
}

Test(ack, version_2_subjects_have_domain_and_account_and_may_have_more)
{
    struct ack_subject a;
    cr_assert(ack_subject_parse(SLICE_LIT("$JS.ACK._.HASH.S.C.1.2.3.4.5"), &a));
    cr_expect_eq(a.domain.len, 0);
    cr_expect(slice_eq_str(a.account, "HASH") && slice_eq_str(a.stream, "S"));
    cr_expect_eq(a.pending, 5);
    cr_assert(ack_subject_parse(SLICE_LIT("$JS.ACK.hub.HASH.S.C.1.2.3.4.5.more.x"), &a));
    cr_expect(slice_eq_str(a.domain, "hub") && slice_eq_str(a.consumer, "C"));
    cr_expect_eq(a.stream_seq, 2);
}

Test(ack, other_subjects_are_refused)
{
    static const char *const bad[] = {
        "",
        "$JS.ACK",
        "$JS.ACK.",
        "$JS.ACK.S.C.1.2.3.4",
        "$JS.ACK.S.C.1.2.3.4.5.6",
        "$JS.ACK.S.C.1.2.3.4.x",
        "$JS.ACK.S.C.1.-2.3.4.5",
        "$JS.ACK.S.C.1.2.3.4.",
        "$JS.ACK.S..1.2.3.4.5",
        "$JS.ACK.S.C.1.18446744073709551616.3.4.5",
        "$JS.ACKS.S.C.1.2.3.4.5",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ack_subject a;
        cr_expect_not(ack_subject_parse(slice_str(bad[i]), &a), "%s", bad[i]);
    }
}

static struct ack_payload parse(const char *text)
{
    struct ack_payload a;
    ack_payload_parse(slice_str(text), &a);
    return a;
}

Test(ack, payloads_are_known_by_word_or_prefix)
{
    cr_expect_eq(parse("").kind, ACK_KIND_ACK);
    cr_expect_eq(parse("+ACK").kind, ACK_KIND_ACK);
    cr_expect_eq(parse("+OK").kind, ACK_KIND_ACK);
    cr_expect_eq(parse("+ACK ").kind, ACK_KIND_OTHER);
    cr_expect_eq(parse("+WPI").kind, ACK_KIND_WPI);
    cr_expect_eq(parse("+WPI ").kind, ACK_KIND_OTHER);
    cr_expect_eq(parse("hello").kind, ACK_KIND_OTHER);
    cr_expect_eq(parse("-NAK").kind, ACK_KIND_NAK);
    cr_expect_eq(parse("+TERM").kind, ACK_KIND_TERM);
    cr_expect(slice_eq_str(parse("+TERM  no good \n").reason, "no good"));
    cr_expect_eq(parse("+NXT").kind, ACK_KIND_NEXT);
    cr_expect(slice_eq_str(parse("+NXT {\"batch\":2}").body, "{\"batch\":2}"));
}

Test(ack, a_nak_delay_is_json_or_a_duration_or_now)
{
    cr_expect_eq(parse("-NAK").delay_ns, 0);
    cr_expect_eq(parse("-NAK 5s").delay_ns, 5000000000);
    cr_expect_eq(parse("-NAK {\"delay\": 1500}").delay_ns, 1500);
    cr_expect_eq(parse("-NAK{\"Delay\":7}").delay_ns, 7);
    cr_expect_eq(parse("-NAK {\"delay\": \"5s\"}").delay_ns, 0);
    cr_expect_eq(parse("-NAK {\"delay\": 5").delay_ns, 0);
    cr_expect_eq(parse("-NAK -5s").delay_ns, 0);
    cr_expect_eq(parse("-NAK soon").delay_ns, 0);
}

static const char *pull(const char *body, struct pull_request *r)
{
    return pull_request_parse(slice_str(body), r);
}

Test(ack, pull_bodies_without_json_are_a_number_or_one)
{
    struct pull_request r;
    cr_expect_null(pull("", &r));
    cr_expect_eq(r.batch, 1);
    cr_expect_null(pull(" 25\r\n", &r));
    cr_expect_eq(r.batch, 25);
    cr_expect_null(pull("-3", &r));
    cr_expect_eq(r.batch, 1);
    cr_expect_null(pull("many", &r));
    cr_expect_eq(r.batch, 1);
    cr_expect(!r.no_wait && r.expires_ns == 0 && r.max_bytes == 0);
}

Test(ack, pull_bodies_in_json)
{
    struct pull_request r;
    cr_expect_null(pull("{\"batch\":10,\"expires\":5000000000,\"idle_heartbeat\":2500000000,"
                        "\"max_bytes\":1024,\"no_wait\":true,\"later\":[1,{\"a\":[]},\"\\u00e9\"]}",
                        &r));
    cr_expect_eq(r.batch, 10);
    cr_expect_eq(r.expires_ns, 5000000000);
    cr_expect_eq(r.heartbeat_ns, 2500000000);
    cr_expect_eq(r.max_bytes, 1024);
    cr_expect(r.no_wait);
    cr_expect_null(pull("{}", &r));
    cr_expect_eq(r.batch, 1);
    cr_expect_null(pull("{\"batch\":0,\"expires\":null}", &r));
    cr_expect_eq(r.batch, 1);
}

Test(ack, bad_pull_bodies_are_worded_as_go_does)
{
    static const struct {
        const char *body;
        const char *error;
    } cases[] = {
        {"{", "unexpected end of JSON input"},
        {"{x}", "invalid character 'x' looking for beginning of object key string"},
        {"{\"batch\":}", "invalid character '}' looking for beginning of value"},
        {"{\"batch\" 1}", "invalid character '1' after object key"},
        {"{\"batch\":1 2}", "invalid character '2' after object key:value pair"},
        {"{\"batch\":1} 2", "invalid character '2' after top-level value"},
        {"{\"a\":[1 2]}", "invalid character '2' after array element"},
        {"{\"a\":trux}", "invalid character 'x' in literal true (expecting 'e')"},
        {"{\"a\":-}", "invalid character '}' in numeric literal"},
        {"{\"a\":\"\\q\"}", "invalid character 'q' in string escape code"},
        {"{\"a\":\"\n\"}", "invalid character '\\n' in string literal"},
        {"{\"a\":\"\\u00g0\"}", "invalid character 'g' in \\u hexadecimal character escape"},
        {"{\"batch\":\"1\"}", "json: cannot unmarshal string into Go struct field "
                              "JSApiConsumerGetNextRequest.batch of type int"},
        {"{\"batch\":1.5}", "json: cannot unmarshal number 1.5 into Go struct field "
                            "JSApiConsumerGetNextRequest.batch of type int"},
        {"{\"idle_heartbeat\":1}", "heartbeat value too large"},
        {"{\"idle_heartbeat\":3,\"expires\":5}", "heartbeat value too large"},
        {"{\"idle_heartbeat\":9223372036854775807,\"expires\":9223372036854775807}",
         "heartbeat value too large"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pull_request r;
        const char *error = pull(cases[i].body, &r);
        cr_assert_not_null(error, "%s", cases[i].body);
        cr_expect_str_eq(error, cases[i].error);
    }
}

Test(ack, nesting_chosen_by_outsiders_is_bounded)
{
    static char body[PULL_BODY_BYTES_MAX];
    struct pull_request r;
    memset(body, '[', sizeof body);
    memcpy(body, "{\"a\":", 5);
    const char *error = pull_request_parse(slice_of(body, sizeof body), &r);
    cr_assert_not_null(error);
    cr_expect_str_eq(error, "exceeded max depth");
}

Test(ack, durations_are_read_and_printed_as_go_does)
{
    static const struct {
        const char *text;
        int64_t ns;
        const char *printed;
    } cases[] = {
        {"0", 0, "0s"},
        {"5s", 5000000000, "5s"},
        {"1m30s", 90000000000, "1m30s"},
        {"1.5s", 1500000000, "1.5s"},
        {"-2h", -7200000000000, "-2h0m0s"},
        {"100ms", 100000000, "100ms"},
        {"1500us", 1500000, "1.5ms"},
        {"3\xc2\xb5s", 3000, "3\xc2\xb5s"},
        {"7ns", 7, "7ns"},
        {".5s", 500000000, "500ms"},
        {"+1h0m0.000000001s", 3600000000001, "1h0m0.000000001s"},
        {"9223372036854775807ns", INT64_MAX, "2562047h47m16.854775807s"},
        {"-9223372036854775808ns", INT64_MIN, "-2562047h47m16.854775808s"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t ns = -1;
        struct buf b = BUF_EMPTY;
        cr_assert(duration_parse(slice_str(cases[i].text), &ns), "%s", cases[i].text);
        cr_expect_eq(ns, cases[i].ns, "%s", cases[i].text);
        duration_print(&b, ns);
        cr_expect_str_eq(text_of(&b), cases[i].printed);
        buf_close(&b);
    }
    static const char *const bad[] = {
        "",        "-", "s", "5", "1.s.", ".s", "1x", "1 s", "5S", "1e3s", "9223372036854775808ns",
        "3000000h"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t ns;
        cr_expect_not(duration_parse(slice_str(bad[i]), &ns), "%s", bad[i]);
    }
}
