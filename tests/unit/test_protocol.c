#include <criterion/criterion.h>
#include <stdlib.h>

#include "broker/protocol.h"

/* What a run over a stream gave, as text: one line an event. */
struct run {
    struct buf text;
    enum protocol_error error;
    size_t tail_max; /* The longest tail kept. */
    size_t calls;
};

static void describe(struct buf *out, enum protocol_event_type type,
                     const struct protocol_event *ev)
{
    switch (type) {
    case PROTOCOL_CONNECT:
        buf_printf(out, "CONNECT %.*s\n", SLICE_ARG(ev->arg));
        break;
    case PROTOCOL_INFO:
        buf_printf(out, "INFO %.*s\n", SLICE_ARG(ev->arg));
        break;
    case PROTOCOL_ERR:
        buf_printf(out, "ERR %.*s\n", SLICE_ARG(ev->arg));
        break;
    case PROTOCOL_PUB:
    case PROTOCOL_HPUB:
        buf_printf(out, "PUB %.*s [%.*s] {%.*s} {%.*s}\n", SLICE_ARG(ev->subject),
                   SLICE_ARG(ev->reply), SLICE_ARG(ev->header), SLICE_ARG(ev->payload));
        break;
    case PROTOCOL_SUB:
        buf_printf(out, "SUB %.*s [%.*s] %.*s\n", SLICE_ARG(ev->subject), SLICE_ARG(ev->queue),
                   SLICE_ARG(ev->sid));
        break;
    case PROTOCOL_UNSUB:
        buf_printf(out, "UNSUB %.*s %d\n", SLICE_ARG(ev->sid), (int)ev->unsub_max);
        break;
    case PROTOCOL_PING:
        buf_append_str(out, "PING\n");
        break;
    case PROTOCOL_PONG:
        buf_append_str(out, "PONG\n");
        break;
    case PROTOCOL_OK:
        buf_append_str(out, "OK\n");
        break;
    default:
        cr_assert_fail("no such event");
    }
}

/* Feed @stream as a connection would: pieces of @sizes bytes in turn (0: everything), each in a
 * block of memory of its own, so that ASan sees every read beyond it. */
static struct run feed(struct protocol *p, struct slice stream, const size_t *sizes, size_t n_sizes)
{
    struct run run = {BUF_EMPTY, PROTOCOL_ERROR_NONE, 0, 0};
    uint8_t *tail = NULL;
    size_t tail_len = 0;
    for (size_t at = 0, i = 0; at < stream.len; i++) {
        size_t n = sizes[i % n_sizes];
        n = n == 0 || n > stream.len - at ? stream.len - at : n;
        uint8_t *input = malloc(tail_len + n);
        if (tail_len > 0) {
            memcpy(input, tail, tail_len);
        }
        memcpy(input + tail_len, stream.ptr + at, n);
        free(tail);
        size_t len = tail_len + n;
        at += n;
        size_t used = 0;
        for (;;) {
            struct protocol_event ev;
            enum protocol_event_type type =
                protocol_next(p, slice_of(input + used, len - used), &ev);
            run.calls++;
            used += ev.consumed_bytes;
            cr_assert_leq(used, len);
            if (type == PROTOCOL_NEED_MORE) {
                break;
            }
            if (type == PROTOCOL_FAILED) {
                run.error = ev.error;
                free(input);
                return run;
            }
            describe(&run.text, type, &ev);
        }
        tail_len = len - used;
        tail = malloc(tail_len + 1);
        memcpy(tail, input + used, tail_len);
        free(input);
        run.tail_max = tail_len > run.tail_max ? tail_len : run.tail_max;
    }
    free(tail);
    return run;
}

static struct run feed_str(const char *stream, size_t piece)
{
    struct protocol p;
    protocol_init(&p, PROTOCOL_CONTROL_LINE_MAX_DEFAULT, 1024);
    p.has_headers = true;
    return feed(&p, slice_str(stream), &piece, 1);
}

static void expect(const char *stream, const char *events, enum protocol_error error)
{
    for (size_t piece = 0; piece < 4; piece++) {
        struct run run = feed_str(stream, piece);
        buf_append_u8(&run.text, 0);
        cr_expect_str_eq((char *)run.text.ptr, events, "piece %zu of %s: %s", piece, stream,
                         (char *)run.text.ptr);
        cr_expect_eq(run.error, error, "piece %zu of %s: error %d", piece, stream, (int)run.error);
        buf_close(&run.text);
    }
}

#define SAMPLE                                                                                     \
    "CONNECT {\"verbose\":false}\r\nPING\r\nSUB foo.* q 1\r\nsub\tbar  2 \nPUB foo "               \
    "5\r\nhe\r\nl\r\n"                                                                             \
    "pub foo.bar  reply.to\t0\r\n\r\nHPUB h 12 14\r\nNATS/1.0\r\n\r\nhi\r\nUNSUB 1 7\r\nunsub "    \
    "2\r\n"                                                                                        \
    "PiNg junk\r\nPONG\n+OK\r\nINFO {}\r\nCONNECT{\"a\":1}\r\nHPUB h r 12 "                        \
    "12\r\nNATS/1.0\r\n\r\n\r\n"                                                                   \
    "-ERR 'x y'\r\nPUB a 3\r\nxyz\r\n"
#define SAMPLE_EVENTS                                                                              \
    "CONNECT {\"verbose\":false}\nPING\nSUB foo.* [q] 1\nSUB bar [] 2\nPUB foo [] {} {he\r\nl}\n"  \
    "PUB foo.bar [reply.to] {} {}\nPUB h [] {NATS/1.0\r\n\r\n} {hi}\nUNSUB 1 7\nUNSUB 2 -1\n"      \
    "PING\nPONG\nOK\nINFO {}\nCONNECT {\"a\":1}\nPUB h [r] {NATS/1.0\r\n\r\n} {}\nERR 'x y'\n"     \
    "PUB a [] {} {xyz}\n"

Test(protocol, a_stream_gives_the_same_events_however_it_is_cut_in_three)
{
    struct slice sample = SLICE_LIT(SAMPLE);
    for (size_t a = 1; a < sample.len; a++) {
        for (size_t b = 1; a + b < sample.len; b++) {
            struct protocol p;
            protocol_init(&p, 4096, 1024);
            p.has_headers = true;
            size_t sizes[] = {a, b, 0};
            struct run run = feed(&p, sample, sizes, 3);
            cr_assert(slice_eq_str(buf_slice(&run.text), SAMPLE_EVENTS), "cut at %zu and %zu: %.*s",
                      a, a + b, SLICE_ARG(buf_slice(&run.text)));
            buf_close(&run.text);
        }
    }
}

Test(protocol, a_stream_gives_the_same_events_in_pieces_of_any_one_size)
{
    for (size_t piece = 0; piece < sizeof SAMPLE; piece++) {
        struct run run = feed_str(SAMPLE, piece);
        cr_assert(slice_eq_str(buf_slice(&run.text), SAMPLE_EVENTS), "pieces of %zu", piece);
        buf_close(&run.text);
    }
}

/* Bytes that are nearly separators, at each place of an argument of any length. */
Test(protocol, arguments_end_at_separators_only)
{
    static const uint8_t odd[] = {0x01, 0x08, 0x0b, 0x0d, 0x1f, 0x21, 0x7f, 0x80, 0xa0, 0xff};
    for (size_t len = 1; len <= 40; len++) {
        for (size_t at = 0; at < len * sizeof odd; at++) {
            uint8_t subject[40];
            memset(subject, 'a', sizeof subject);
            subject[at / sizeof odd] = odd[at % sizeof odd];
            struct buf line = BUF_EMPTY;
            buf_append_str(&line, "PUB ");
            buf_append(&line, subject, len);
            buf_append_str(&line, len % 2 == 0 ? " \t" : "\t");
            buf_append(&line, subject, len);
            buf_append_str(&line, " 3\r\nxyz\r\n");
            struct protocol p;
            struct protocol_event ev;
            protocol_init(&p, 4096, 1024);
            cr_assert_eq(protocol_next(&p, buf_slice(&line), &ev), PROTOCOL_PUB);
            cr_assert(slice_eq(ev.subject, slice_of(subject, len)), "%zu, %zu", len, at);
            cr_assert(slice_eq(ev.reply, slice_of(subject, len)), "%zu, %zu", len, at);
            cr_assert(slice_eq_str(ev.payload, "xyz"));
            cr_assert_eq(ev.consumed_bytes, line.len);
            buf_close(&line);
        }
    }
}

/* Each of these was checked against nats-server. */
Test(protocol, what_is_no_operation_is_refused_with_a_text)
{
    enum protocol_error e = PROTOCOL_ERROR_UNKNOWN_OPERATION;
    const char *streams[] = {"\r\n",         "\n",       "R",       "L",          "A",
                             "MSG a 1 2",    "GET / H",  "PUB\r\n", "SUB\r\n",    "UNSUB\r\n",
                             "PUBx a 0\r\n", "-ERR\r\n", "PX",      "CONNEXT {}", " PING\r\n",
                             "HMSG",         "\v",       "+X"};
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        expect(streams[i], "", e);
    }
}

Test(protocol, a_wrong_letter_is_refused_before_the_line_ends)
{
    struct run run = feed_str("PUX", 0);
    cr_expect_eq(run.error, PROTOCOL_ERROR_UNKNOWN_OPERATION);
    buf_close(&run.text);
}

Test(protocol, malformed_arguments_close_without_a_text)
{
    const char *streams[] = {"PUB foo\r\n",     "PUB a b c 0\r\n",
                             "PUB foo -1\r\n",  "PUB foo 1234567890\r\n",
                             "PUB foo 1x\r\n",  "PUB foo 2\r\r\nab\r\n",
                             "SUB a\r\n",       "SUB a b c d\r\n",
                             "SUB \n PING\r\n", "UNSUB \r\n",
                             "UNSUB 1 2 3\r\n", "HPUB foo 5 3\r\n",
                             "HPUB foo 5\r\n",  "HPUB a b 1 c 3\r\n",
                             "HPUB foo x 3\r\n"};
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        expect(streams[i], "", PROTOCOL_ERROR_MALFORMED);
    }
    cr_expect_str_empty(protocol_error_text(PROTOCOL_ERROR_MALFORMED));
}

Test(protocol, a_payload_ends_in_exactly_cr_lf)
{
    expect("PUB foo 2\r\nab\nPING\r\n", "", PROTOCOL_ERROR_UNKNOWN_OPERATION);
    expect("PUB foo 2\r\nabc\r\n", "", PROTOCOL_ERROR_UNKNOWN_OPERATION);
    expect("PUB foo 2\r\nab\rx", "", PROTOCOL_ERROR_UNKNOWN_OPERATION);
    expect("PUB foo 0\r\n\r\nPING\r\n", "PUB foo [] {} {}\nPING\n", PROTOCOL_ERROR_NONE);
    expect("PUB foo 2\nab\r\n", "PUB foo [] {} {ab}\n", PROTOCOL_ERROR_NONE);
}

Test(protocol, oddities_of_the_reference_are_kept)
{
    expect("PINGxx yy\r\nping\n", "PING\nPING\n", PROTOCOL_ERROR_NONE);
    expect("+OKzz\r\nPING\r\n", "OK\nPING\n", PROTOCOL_ERROR_NONE);
    expect("INFO{}\r\n", "INFO {}\n", PROTOCOL_ERROR_NONE);
    expect("CONNECT\n{}\r\n", "CONNECT \n{}\n", PROTOCOL_ERROR_NONE);
    expect("SUB foo\rq 1\r\n", "SUB foo [q] 1\n", PROTOCOL_ERROR_NONE);
    expect("UNSUB 5 -1\r\n", "UNSUB 5 -1\n", PROTOCOL_ERROR_NONE);
    expect("UNSUB 5 1234567890\r\n", "UNSUB 5 -1\n", PROTOCOL_ERROR_NONE);
}

Test(protocol, the_declared_size_is_refused_before_the_payload_is_read)
{
    expect("PUB foo 1025\r\n", "", PROTOCOL_ERROR_PAYLOAD);
    expect("HPUB foo 12 999999999\r\n", "", PROTOCOL_ERROR_PAYLOAD);
    struct protocol p;
    protocol_init(&p, 4096, -1);
    struct protocol_event ev;
    struct slice in = SLICE_LIT("PUB foo 999999999\r\n");
    cr_expect_eq(protocol_next(&p, in, &ev), PROTOCOL_NEED_MORE);
    cr_expect_eq(protocol_need(&p), strlen("foo 999999999\r\n") + 999999999 + 2);
    cr_expect_eq(ev.consumed_bytes, 4);
}

static enum protocol_error control_line(size_t arg_len, bool has_end)
{
    struct protocol p;
    protocol_init(&p, 4096, 1024);
    struct buf b = BUF_EMPTY;
    buf_append_str(&b, "CONNECT     ");
    for (size_t i = 0; i < arg_len; i++) {
        buf_append_u8(&b, 'x');
    }
    buf_append_str(&b, has_end ? "\r\n" : "");
    size_t whole = 0;
    size_t bytes = 1;
    struct run run = feed(&p, buf_slice(&b), &whole, 1);
    struct protocol q;
    protocol_init(&q, 4096, 1024);
    struct run other = feed(&q, buf_slice(&b), &bytes, 1);
    cr_expect_eq(run.error, other.error);
    buf_close(&run.text);
    buf_close(&other.text);
    buf_close(&b);
    return run.error;
}

Test(protocol, the_arguments_of_a_line_are_bounded)
{
    cr_expect_eq(control_line(4096, true), PROTOCOL_ERROR_NONE);
    cr_expect_eq(control_line(4096, false), PROTOCOL_ERROR_NONE);
    cr_expect_eq(control_line(4097, true), PROTOCOL_ERROR_CONTROL_LINE);
    cr_expect_eq(control_line(4097, false), PROTOCOL_ERROR_CONTROL_LINE);
}

Test(protocol, skipped_bytes_cost_no_memory)
{
    struct buf b = BUF_EMPTY;
    buf_append_str(&b, "PING");
    for (int i = 0; i < 100000; i++) {
        buf_append_u8(&b, 'x');
    }
    buf_append_str(&b, "\nCONNECT ");
    for (int i = 0; i < 100000; i++) {
        buf_append_u8(&b, ' ');
    }
    buf_append_str(&b, "{}\r\n");
    struct protocol p;
    protocol_init(&p, 4096, 1024);
    size_t piece = 1000;
    struct run run = feed(&p, buf_slice(&b), &piece, 1);
    cr_expect(slice_eq_str(buf_slice(&run.text), "PING\nCONNECT {}\n"));
    cr_expect_leq(run.tail_max, 1000);
    buf_close(&run.text);
    buf_close(&b);
}

Test(protocol, headers_need_a_connect_that_said_so)
{
    struct protocol p;
    protocol_init(&p, 4096, 1024);
    struct protocol_event ev;
    cr_expect_eq(protocol_next(&p, SLICE_LIT("HPUB foo 1 2\r\nab\r\n"), &ev), PROTOCOL_FAILED);
    cr_expect_eq(ev.error, PROTOCOL_ERROR_HEADERS_NOT_SUPPORTED);
}

Test(protocol, before_authentication_only_connect_is_heard)
{
    struct protocol p;
    protocol_init(&p, 4096, 1024);
    p.is_auth_pending = true;
    struct protocol_event ev;
    cr_expect_eq(protocol_next(&p, SLICE_LIT("c"), &ev), PROTOCOL_NEED_MORE);
    cr_expect_eq(protocol_next(&p, SLICE_LIT("connect {}\r\nP"), &ev), PROTOCOL_CONNECT);
    cr_expect_eq(protocol_next(&p, SLICE_LIT("P"), &ev), PROTOCOL_FAILED);
    cr_expect_eq(ev.error, PROTOCOL_ERROR_AUTHORIZATION);
    cr_expect_str_eq(protocol_error_text(ev.error), "Authorization Violation");
}

static void expect_out(struct buf *out, const char *text)
{
    cr_expect(slice_eq_str(buf_slice(out), text), "%.*s", SLICE_ARG(buf_slice(out)));
    buf_clear(out);
}

Test(protocol, writers_give_the_bytes_of_the_wire)
{
    struct buf b = BUF_EMPTY;
    protocol_write_info(&b, SLICE_LIT("{}"));
    expect_out(&b, "INFO {} \r\n");
    protocol_write_err(&b, protocol_error_text(PROTOCOL_ERROR_SUBJECT));
    expect_out(&b, "-ERR 'Invalid Subject'\r\n");
    protocol_write_msg(&b, SLICE_LIT("a.b"), SLICE_LIT("9"), SLICE_EMPTY, SLICE_EMPTY,
                       SLICE_LIT("hello"));
    expect_out(&b, "MSG a.b 9 5\r\nhello\r\n");
    protocol_write_msg(&b, SLICE_LIT("a"), SLICE_LIT("9"), SLICE_LIT("r"),
                       SLICE_LIT("NATS/1.0\r\n\r\n"), SLICE_LIT("0123456789"));
    expect_out(&b, "HMSG a 9 r 12 22\r\nNATS/1.0\r\n\r\n0123456789\r\n");
    protocol_write_msg(&b, SLICE_LIT("a"), SLICE_LIT("9"), SLICE_LIT("r"), SLICE_EMPTY,
                       SLICE_EMPTY);
    expect_out(&b, "MSG a 9 r 0\r\n\r\n");
    protocol_write_no_responders(&b, SLICE_LIT("r"), SLICE_LIT("7"), SLICE_LIT("x.y"));
    expect_out(&b, "HMSG r 7 35 35\r\nNATS/1.0 503\r\nNats-Subject: x.y\r\n\r\n\r\n");
    protocol_write_ping(&b);
    protocol_write_pong(&b);
    protocol_write_ok(&b);
    expect_out(&b, "PING\r\nPONG\r\n+OK\r\n");
    buf_close(&b);
}

Test(protocol, violations_quote_subjects_as_go_does)
{
    struct buf b = BUF_EMPTY;
    protocol_write_violation(&b, PROTOCOL_VIOLATION_PUBLISH,
                             SLICE_LIT("a\"b\\\x01\xff\xc3\xa4\x7f"), SLICE_EMPTY);
    expect_out(
        &b,
        "-ERR 'Permissions Violation for Publish to \"a\\\"b\\\\\\x01\\xff\xc3\xa4\\x7f\"'\r\n");
    protocol_write_violation(&b, PROTOCOL_VIOLATION_SUBSCRIBE, SLICE_LIT("s"), SLICE_LIT("q"));
    expect_out(&b, "-ERR 'Permissions Violation for Subscription to \"s\" using queue \"q\"'\r\n");
    protocol_write_violation(&b, PROTOCOL_VIOLATION_REPLY, SLICE_LIT("s"), SLICE_EMPTY);
    expect_out(&b, "-ERR 'Permissions Violation for Publish with Reply of \"s\"'\r\n");
    protocol_write_violation(&b, PROTOCOL_VIOLATION_TOKENS, SLICE_LIT("s"), SLICE_EMPTY);
    expect_out(&b, "-ERR 'Permissions Violation for Subscription to \"s\", too many tokens'\r\n");
    buf_close(&b);
}

Test(protocol, a_large_payload_is_not_scanned_again_for_each_read)
{
    enum { SIZE = 8 * 1024 * 1024 };
    struct buf b = BUF_EMPTY;
    buf_printf(&b, "PUB foo %d\r\n", SIZE);
    size_t head = b.len;
    memset(buf_reserve(&b, SIZE), 'x', SIZE);
    b.len += SIZE;
    buf_append_str(&b, "\r\n");
    struct protocol p;
    protocol_init(&p, 4096, SIZE);
    struct protocol_event ev;
    /* Half a million reads of 16 bytes: quadratic scanning would take minutes. */
    cr_assert_eq(protocol_next(&p, slice_of(b.ptr, head), &ev), PROTOCOL_NEED_MORE);
    uint8_t *tail = b.ptr + ev.consumed_bytes;
    size_t need = protocol_need(&p);
    cr_assert_eq(need, b.len - ev.consumed_bytes);
    for (size_t len = head; len < need; len += 16) {
        cr_assert_eq(protocol_next(&p, slice_of(tail, len), &ev), PROTOCOL_NEED_MORE);
    }
    cr_assert_eq(protocol_next(&p, slice_of(tail, need), &ev), PROTOCOL_PUB);
    cr_expect_eq(ev.payload.len, SIZE);
    buf_close(&b);
}
