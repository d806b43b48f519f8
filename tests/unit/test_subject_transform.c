/* What nats-server takes for a transform, and what it makes of subjects: tests/data/transforms.txt,
 * written by tests/parity/record_transforms.py. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/subject.h"
#include "broker/subject_transform.h"
#include "storage/base/err.h"

#define ERROR "!stream transform: "
#define SOURCE_ERROR "!stream transform source: "

static void expect_result(const struct subject_transform *t, const char *line, const char *subject,
                          const char *wanted)
{
    struct buf out = BUF_EMPTY;
    enum subject_transform_result r =
        subject_transform_apply(t, slice_str(subject), 42, 65535, &out);
    struct slice got = r == TRANSFORM_DONE ? buf_slice(&out) : slice_str(subject);
    cr_expect_neq(r, TRANSFORM_TOO_LONG);
    cr_expect(slice_eq_str(got, wanted), "%s: %s becomes %.*s, not %s", line, subject,
              SLICE_ARG(got), wanted);
    buf_close(&out);
}

static void replay(char *line)
{
    char *rest = line;
    const char *source = strsep(&rest, "|");
    const char *destination = strsep(&rest, "|");
    struct subject_transform *t = NULL;
    struct buf error = BUF_EMPTY;
    if (strncmp(rest, SOURCE_ERROR, strlen(SOURCE_ERROR)) == 0) {
        cr_expect_not(subject_is_valid(slice_str(source)), "%s", source);
        return;
    }
    int rv = subject_transform_check(slice_str(source), slice_str(destination), &error);
    if (rest[0] == '!') {
        cr_expect_eq(rv, ERR_INVALID, "%s to %s", source, destination);
        cr_expect(slice_eq_str(buf_slice(&error), rest + strlen(ERROR)), "%s to %s: %.*s, not %s",
                  source, destination, SLICE_ARG(buf_slice(&error)), rest + strlen(ERROR));
        buf_close(&error);
        return;
    }
    cr_assert_eq(rv, 0, "%s to %s: %.*s", source, destination, SLICE_ARG(buf_slice(&error)));
    cr_assert_eq(subject_transform_new(slice_str(source), slice_str(destination), &t, NULL), 0);
    for (char *pair; (pair = strsep(&rest, "|")) != NULL;) {
        char *wanted = strchr(pair, '=');
        *wanted++ = '\0';
        expect_result(t, destination, pair, wanted);
    }
    subject_transform_free(t);
    buf_close(&error);
}

Test(subject_transform, does_what_nats_server_does)
{
    FILE *f = fopen(WEIR_SOURCE_DIR "/tests/data/transforms.txt", "r");
    cr_assert_not_null(f);
    char *line = NULL;
    size_t cap = 0;
    unsigned count = 0;
    while (getline(&line, &cap, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        replay(line);
        count++;
    }
    free(line);
    fclose(f);
    cr_expect_gt(count, 500);
}

Test(subject_transform, without_a_destination_there_is_none)
{
    struct subject_transform *t = (struct subject_transform *)1;
    cr_assert_eq(subject_transform_new(SLICE_LIT("a"), SLICE_EMPTY, &t, NULL), 0);
    cr_expect_null(t);
    cr_expect_eq(subject_transform_check(SLICE_LIT("a"), SLICE_EMPTY, NULL), 0);
    subject_transform_free(NULL);
}

Test(subject_transform, random_tokens_follow_from_the_number_given)
{
    struct subject_transform *t;
    bool seen[5] = {false};
    cr_assert_eq(
        subject_transform_new(SLICE_LIT("a"), SLICE_LIT("{{random(5)}}.{{random(5)}}"), &t, NULL),
        0);
    unsigned differ = 0;
    for (uint64_t n = 0; n < 200; n++) {
        struct buf one = BUF_EMPTY;
        struct buf two = BUF_EMPTY;
        cr_assert_eq(subject_transform_apply(t, SLICE_LIT("a"), n, 100, &one), TRANSFORM_DONE);
        cr_assert_eq(subject_transform_apply(t, SLICE_LIT("a"), n, 100, &two), TRANSFORM_DONE);
        cr_expect(slice_eq(buf_slice(&one), buf_slice(&two)));
        cr_assert_eq(one.len, 3);
        cr_assert(one.ptr[0] >= '0' && one.ptr[0] <= '4');
        seen[one.ptr[0] - '0'] = true;
        differ += one.ptr[0] != one.ptr[2];
        buf_close(&one);
        buf_close(&two);
    }
    for (int i = 0; i < 5; i++) {
        cr_expect(seen[i]);
    }
    cr_expect_gt(differ, 100);
    subject_transform_free(t);
}

Test(subject_transform, a_result_that_is_too_long_is_told_early)
{
    struct subject_transform *t;
    struct buf dest = BUF_EMPTY;
    struct buf subject = BUF_EMPTY;
    struct buf out = BUF_EMPTY;
    for (int i = 0; i < 10000; i++) {
        buf_append_str(&dest, i == 0 ? "$1" : ".$1");
        buf_append_u8(&subject, 'x');
    }
    cr_assert_eq(subject_transform_new(SLICE_LIT("*"), buf_slice(&dest), &t, NULL), 0);
    cr_expect_eq(subject_transform_apply(t, buf_slice(&subject), 0, 65535, &out),
                 TRANSFORM_TOO_LONG);
    cr_expect_lt(out.len, 65535 + 2 * subject.len);
    subject_transform_free(t);
    buf_close(&dest);
    buf_close(&subject);
    buf_close(&out);
}
