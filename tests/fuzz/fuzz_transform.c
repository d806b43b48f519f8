/* A transform and a subject out of any bytes: what is taken can be applied, and stays in its
 * bounds. */
#include "broker/subject.h"
#include "broker/subject_transform.h"
#include "tests/fuzz/fuzz.h"

#define BYTES_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct slice rest = slice_of(data + 2, size - 2);
    size_t source_len = rest.len == 0 ? 0 : data[0] % (rest.len + 1);
    struct slice source = slice_of(rest.ptr, source_len);
    rest = slice_from(rest, source_len);
    size_t destination_len = rest.len == 0 ? 0 : data[1] % (rest.len + 1);
    struct slice destination = slice_of(rest.ptr, destination_len);
    struct slice subject = slice_from(rest, destination_len);
    struct subject_transform *t;
    struct buf error = BUF_EMPTY;
    struct buf out = BUF_EMPTY;
    struct buf again = BUF_EMPTY;
    int checked = subject_transform_check(source, destination, &error);
    int rv = subject_transform_new(source, destination, &t, NULL);
    require((checked == 0) == (error.len == 0));
    require(checked != 0 || rv == 0); /* What a configuration may hold can be compiled. */
    if (rv == 0 && t != NULL && subject_is_literal(subject)) {
        enum subject_transform_result r = subject_transform_apply(t, subject, 7, BYTES_MAX, &out);
        require(r == subject_transform_apply(t, subject, 7, BYTES_MAX, &again));
        require(slice_eq(buf_slice(&out), buf_slice(&again)));
        require(r != TRANSFORM_DONE || out.len <= BYTES_MAX);
        require(r != TRANSFORM_NO_MATCH || out.len == 0);
        require((r == TRANSFORM_NO_MATCH) ==
                !subject_match(subject, source.len == 0 ? SLICE_LIT(">") : source));
    }
    if (rv == 0) {
        subject_transform_free(t);
    }
    buf_close(&error);
    buf_close(&out);
    buf_close(&again);
    return 0;
}
