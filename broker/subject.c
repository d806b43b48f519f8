#include "broker/subject.h"

static bool is_star(struct slice token)
{
    return token.len == 1 && token.ptr[0] == '*';
}

static bool is_tail(struct slice token)
{
    return token.len == 1 && token.ptr[0] == '>';
}

bool subject_is_valid(struct slice s)
{
    struct subject_iter it = subject_iter(s);
    struct slice token;
    while (subject_next(&it, &token)) {
        if (token.len == 0 || (is_tail(token) && !it.is_done)) {
            return false;
        }
        for (size_t i = 0; i < token.len; i++) {
            uint8_t c = token.ptr[i];
            if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f') {
                return false;
            }
        }
    }
    return true;
}

bool subject_is_literal(struct slice s)
{
    struct subject_iter it = subject_iter(s);
    struct slice token;
    while (subject_next(&it, &token)) {
        if (token.len == 0 || is_star(token) || is_tail(token)) {
            return false;
        }
    }
    return true;
}

bool subject_is_valid_publish(struct slice s)
{
    return subject_is_valid(s) && subject_is_literal(s);
}

bool subject_has_wildcard(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((s.ptr[i] == '*' || s.ptr[i] == '>') && (i == 0 || s.ptr[i - 1] == '.') &&
            (i + 1 == s.len || s.ptr[i + 1] == '.')) {
            return true;
        }
    }
    return false;
}

size_t subject_token_count(struct slice s)
{
    size_t n = 1;
    for (size_t i = 0; i < s.len; i++) {
        n += s.ptr[i] == '.';
    }
    return n;
}

struct slice subject_token(struct slice s, size_t index)
{
    struct subject_iter it = subject_iter(s);
    struct slice token;
    for (size_t i = 0; subject_next(&it, &token); i++) {
        if (i == index) {
            return token;
        }
    }
    return SLICE_EMPTY;
}

/* Whether no token of what @it has left is empty. */
static bool is_rest_full(struct subject_iter it)
{
    struct slice token;
    while (subject_next(&it, &token)) {
        if (token.len == 0) {
            return false;
        }
    }
    return true;
}

bool subject_match(struct slice subject, struct slice filter)
{
    struct subject_iter sub = subject_iter(subject);
    struct subject_iter pat = subject_iter(filter);
    struct slice s;
    struct slice p;
    while (subject_next(&pat, &p)) {
        if (!subject_next(&sub, &s) || s.len == 0) {
            return false;
        }
        if (is_tail(p) && pat.is_done) {
            return is_rest_full(sub);
        }
        if (!is_star(p) && !slice_eq(s, p)) {
            return false;
        }
    }
    return sub.is_done;
}

bool subject_is_subset(struct slice sub, struct slice super)
{
    struct subject_iter it_a = subject_iter(sub);
    struct subject_iter it_b = subject_iter(super);
    struct slice a;
    struct slice b;
    while (subject_next(&it_b, &b)) {
        if (!subject_next(&it_a, &a)) {
            return false;
        }
        if (is_tail(b)) {
            return true;
        }
        /* A `*` takes the place of any one token, but not of `>`, which stands for more. */
        if (is_tail(a) || (!is_star(b) && !slice_eq(a, b))) {
            return false;
        }
    }
    return it_a.is_done;
}

bool subject_overlaps(struct slice a, struct slice b)
{
    struct subject_iter it_a = subject_iter(a);
    struct subject_iter it_b = subject_iter(b);
    struct slice ta;
    struct slice tb;
    for (;;) {
        bool has_a = subject_next(&it_a, &ta);
        bool has_b = subject_next(&it_b, &tb);
        if (!has_a || !has_b) {
            return has_a == has_b;
        }
        if (is_tail(ta) || is_tail(tb)) {
            return true;
        }
        if (!is_star(ta) && !is_star(tb) && !slice_eq(ta, tb)) {
            return false;
        }
    }
}

bool subject_is_word(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == ' ' || s.ptr[i] == '\t' || s.ptr[i] == '\r' || s.ptr[i] == '\n') {
            return false;
        }
    }
    return s.len > 0;
}

bool subject_name_is_valid(struct slice name)
{
    if (name.len == 0 || name.len > SUBJECT_NAME_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        if (c <= ' ' || c == '.' || c == '*' || c == '>' || c == '/' || c == '\\') {
            return false;
        }
    }
    return true;
}
