/* Two subjects out of any bytes: matching, subset, overlap and the interest tree agree. */
#include "broker/interest.h"
#include "broker/subject.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    size_t len = data[0] % size;
    struct slice a = slice_of(data + 1, len);
    struct slice b = slice_of(data + 1 + len, size - 1 - len);
    bool is_match = subject_match(a, b);
    subject_is_literal(a);
    subject_has_wildcard(b);
    subject_name_is_valid(a);
    struct interest_options options = {.seed = 7, .cache_max = 16};
    struct interest *in = interest_new(&options);
    struct interest_sub sub = {.kind = INTEREST_LOCAL};
    if (interest_insert(in, &sub, b, SLICE_EMPTY) == 0) {
        require(interest_is_any(in, a) == is_match);
        require(interest_is_any(in, a) == is_match);
        interest_check(in);
        interest_remove(in, &sub);
        require(!interest_is_any(in, a));
    }
    interest_free(in);
    if (subject_is_valid(a) && subject_is_valid(b)) {
        bool is_literal = subject_is_literal(a);
        require(subject_is_subset(a, a) && subject_overlaps(b, b));
        require(subject_overlaps(a, b) == subject_overlaps(b, a));
        require(!subject_is_subset(a, b) || subject_overlaps(a, b));
        require(!is_literal || subject_is_subset(a, b) == is_match);
        require(!is_literal || subject_overlaps(a, b) == is_match);
    }
    return 0;
}
