#include <criterion/criterion.h>

#include "broker/entry.h"
#include "storage/base/err.h"

static struct publish_message plain(const char *subject, const char *payload)
{
    return (struct publish_message){.subject = slice_str(subject), .payload = slice_str(payload)};
}

static struct slice sample(struct entry_builder *b)
{
    entry_begin(b, ENTRY_MACHINE_VERSION);
    entry_lead(b, 7, 1);
    struct publish_message m = plain("a.b", "one");
    entry_publish(b, 3, 99, 1, &m);
    m.header = SLICE_LIT("NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n");
    m.msg_id = SLICE_LIT("x");
    m.expect_stream = SLICE_LIT("S");
    m.expect_last_seq = 1ull << 40;
    m.expect_last_subject_seq = 3;
    m.expect_subject = SLICE_LIT("a.>");
    m.expect_last_msg_id = SLICE_EMPTY;
    m.rollup = ROLLUP_SUBJECT;
    m.options = 0xfe; /* Options 1 to 7. */
    entry_publish(b, 3, 99, 2, &m);
    struct publish_message refused = {.refused_code = 10193, .refused_text = SLICE_LIT("why")};
    entry_publish(b, 3, 99, 3, &refused);
    entry_publish(b, 3, 99, 9, &refused);
    entry_consumer_set(b, 11, SLICE_LIT("C"), SLICE_LIT("{}"));
    entry_consumer_delete(b, 12, SLICE_LIT("C"));
    struct progress_item item = {2, 10, 3, 4, -5, 6, SLICE_LIT("_INBOX.1")};
    entry_progress(b, 5, &item);
    entry_progress(b, 5, &item);
    entry_purge(b, 13, SLICE_LIT("a.*"), 4, 0);
    entry_delete_msg(b, 14, 5);
    entry_config(b, 15, SLICE_LIT("{\"name\":\"S\"}"), 0);
    entry_seal(b, 16);
    entry_job_step(b);
    entry_clock(b);
    entry_digest(b);
    entry_version(b, 1);
    entry_rebase_time(b, -3);
    entry_time_unsure(b, 17);
    entry_time_sure(b, 18);
    return entry_end(b, 1234567890123456789);
}

static void check_publish(struct op *op)
{
    struct publish_message m;
    cr_assert_eq(op->type, OP_PUBLISH);
    cr_assert_eq(op->u.publish.node, 3u);
    cr_assert_eq(op->u.publish.origin, 99u);
    cr_assert_eq(op->u.publish.first_n, 1u);
    cr_assert_eq(op->u.publish.count, 3u);
    cr_assert(entry_next_message(&op->u.publish, &m));
    cr_assert(slice_eq_str(m.payload, "one"));
    cr_assert_eq(m.header.len, 0u);
    cr_assert_eq(m.options, 0u);
    cr_assert(entry_next_message(&op->u.publish, &m));
    cr_assert_eq(m.options, 0xfeu);
    cr_assert(slice_eq_str(m.expect_subject, "a.>"));
    cr_assert_eq(m.expect_last_seq, 1ull << 40);
    cr_assert_eq(m.rollup, ROLLUP_SUBJECT);
    cr_assert(entry_next_message(&op->u.publish, &m));
    cr_assert_eq(m.refused_code, 10193);
    cr_assert(slice_eq_str(m.refused_text, "why"));
    cr_assert_not(entry_next_message(&op->u.publish, &m));
}

Test(entry, what_was_encoded_is_decoded)
{
    struct entry_builder b = ENTRY_BUILDER_EMPTY;
    struct slice bytes = sample(&b);
    cr_assert_eq(entry_check(bytes), 0);
    struct entry_reader r;
    struct op op;
    cr_assert_eq(entry_open(&r, bytes), 0);
    cr_assert_eq(r.time_ns, 1234567890123456789);
    cr_assert_eq(entry_next(&r, &op), 1);
    cr_assert_eq(op.u.lead.node, 7u);
    cr_assert_eq(entry_next(&r, &op), 1);
    check_publish(&op);
    cr_assert_eq(entry_next(&r, &op), 1);
    cr_assert_eq(op.u.publish.first_n, 9u, "a gap in n begins a new run");
    static const enum op_type rest[] = {OP_CONSUMER_SET, OP_CONSUMER_DELETE, OP_CONSUMER_PROGRESS,
                                        OP_PURGE,        OP_DELETE_MSG,      OP_CONFIG,
                                        OP_SEAL,         OP_JOB_STEP,        OP_CLOCK,
                                        OP_DIGEST,       OP_VERSION,         OP_REBASE_TIME,
                                        OP_TIME_UNSURE,  OP_TIME_SURE};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        cr_assert_eq(entry_next(&r, &op), 1);
        cr_assert_eq(op.type, rest[i]);
        if (op.type == OP_CONSUMER_PROGRESS) {
            struct progress_item item;
            cr_assert_eq(op.u.progress.count, 2u);
            cr_assert(entry_next_item(&op.u.progress, &item));
            cr_assert_eq(item.delay_ns, -5);
            cr_assert(slice_eq_str(item.text, "_INBOX.1"));
        }
        cr_assert(op.type != OP_REBASE_TIME || op.u.time_ns == -3);
        cr_assert(op.type != OP_TIME_UNSURE || op.u.shift_ns == 17);
        cr_assert(op.type != OP_TIME_SURE || op.u.shift_ns == 18);
    }
    cr_assert_eq(entry_next(&r, &op), 0);
    entry_close(&b);
}

/* Around the lengths at which the encoding changes, whole and cut short. */
Test(entry, messages_of_all_lengths_are_decoded)
{
    static const size_t subjects[] = {1, 2, 30, 31, 32, 33, 255, 256, 1000};
    static const size_t payloads[] = {0, 1, 127, 254, 255, 256, 257, 65535, 65536};
    static uint8_t text[65536];
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        for (size_t k = 0; k < sizeof payloads / sizeof *payloads; k++) {
            for (size_t header = 0; header < 2; header++) {
                struct entry_builder b = ENTRY_BUILDER_EMPTY;
                struct publish_message m = {.subject = slice_of(text, subjects[i]),
                                            .header = slice_of(text, header * 20),
                                            .payload = slice_of(text, payloads[k])};
                entry_begin(&b, ENTRY_MACHINE_VERSION);
                entry_publish(&b, 1, 2, 3, &m);
                entry_publish(&b, 1, 2, 4, &m);
                struct slice bytes = entry_end(&b, 5);
                struct entry_reader r;
                struct op op;
                cr_assert_eq(entry_open(&r, bytes), 0);
                cr_assert_eq(entry_next(&r, &op), 1);
                for (unsigned n = 0; n < 2; n++) {
                    struct publish_message got;
                    cr_assert(entry_next_message(&op.u.publish, &got));
                    cr_assert(slice_eq(got.subject, m.subject));
                    cr_assert(slice_eq(got.header, m.header));
                    cr_assert(slice_eq(got.payload, m.payload));
                    cr_assert_eq(got.options, 0u);
                    cr_assert_eq(got.refused_code, 0);
                }
                cr_assert_not(entry_next_message(&op.u.publish, &m));
                cr_assert_eq(entry_next(&r, &op), 0);
                for (size_t cut = 1; cut < bytes.len && cut < 40; cut++) {
                    cr_assert_neq(entry_check(slice_of(bytes.ptr, bytes.len - cut)), 0);
                }
                entry_close(&b);
            }
        }
    }
}

Test(entry, every_truncation_and_every_changed_byte_is_survived)
{
    struct entry_builder b = ENTRY_BUILDER_EMPTY;
    struct slice bytes = sample(&b);
    for (size_t len = 0; len < bytes.len; len++) {
        uint8_t *copy = xmalloc(len + 1);
        memcpy(copy, bytes.ptr, len);
        cr_assert_neq(entry_check(slice_of(copy, len)), 0);
        free(copy);
    }
    uint8_t *copy = xmalloc(bytes.len);
    for (size_t at = 0; at < bytes.len; at++) {
        for (unsigned v = 0; v < 256; v += 5) {
            memcpy(copy, bytes.ptr, bytes.len);
            copy[at] = (uint8_t)v;
            entry_check(slice_of(copy, bytes.len));
        }
    }
    free(copy);
    entry_close(&b);
}

Test(entry, reserved_and_unknown_numbers_are_refused_by_name)
{
    struct entry_builder b = ENTRY_BUILDER_EMPTY;
    static const uint8_t numbers[] = {0, 3, 4, 5, 18, 19, 20, 23, 127};
    for (size_t i = 0; i < sizeof numbers; i++) {
        entry_begin(&b, 1);
        entry_clock(&b);
        entry_end(&b, 1);
        b.bytes.ptr[b.bytes.len - 1] = numbers[i];
        cr_assert_eq(entry_check(buf_slice(&b.bytes)), ERR_UNSUPPORTED);
    }
    entry_begin(&b, ENTRY_MACHINE_VERSION + 1);
    cr_assert_eq(entry_check(entry_end(&b, 1)), ERR_VERSION);
    entry_begin(&b, 1);
    entry_version(&b, ENTRY_MACHINE_VERSION + 1);
    cr_assert_eq(entry_check(entry_end(&b, 1)), ERR_VERSION);
    entry_close(&b);
}
