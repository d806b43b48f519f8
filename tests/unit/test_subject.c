#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/subject.h"

#define S(text) slice_str(text)

Test(subject, patterns_have_no_empty_tokens_no_spaces_and_tail_last)
{
    const char *good[] = {"a",    "a.b",    "*",    ">",     "*.>",       "a.*.b",
                          "foo*", "*bar.b", "a.>b", "$JS.x", "\xc3\xa4.b"};
    const char *bad[] = {"",    ".",   "a.",  ".a",   "a..b", "a.>.b", ">.a",
                         "a b", "a\t", "a\n", "a\rb", "a\fb", " "};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        cr_expect(subject_is_valid(S(good[i])), "%s", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_not(subject_is_valid(S(bad[i])), "%s", bad[i]);
    }
}

Test(subject, only_whole_tokens_are_wildcards)
{
    cr_expect(subject_is_literal(S("foo*.*bar.>x")));
    cr_expect_not(subject_is_literal(S("a.*")));
    cr_expect_not(subject_is_literal(S(">")));
    cr_expect_not(subject_is_literal(S("a..b")));
    cr_expect_not(subject_is_literal(S("")));
    cr_expect_not(subject_has_wildcard(S("foo*.*bar.>x")));
    cr_expect(subject_has_wildcard(S("a.*.b")));
    cr_expect(subject_has_wildcard(S("*")));
    cr_expect(subject_has_wildcard(S("a.>")));
    cr_expect_not(subject_has_wildcard(S("")));
    cr_expect_not(subject_is_valid_publish(S("a\rb")));
}

Test(subject, tokens_are_counted_and_found)
{
    cr_expect_eq(subject_token_count(S("a.bc.d")), 3);
    cr_expect_eq(subject_token_count(S("a")), 1);
    cr_expect(slice_eq_str(subject_token(S("a.bc.d"), 1), "bc"));
    cr_expect(slice_eq_str(subject_token(S("a.bc.d"), 2), "d"));
    cr_expect_eq(subject_token(S("a.bc.d"), 3).len, 0);
}

Test(subject, a_wildcard_in_a_subject_is_an_ordinary_token)
{
    cr_expect(subject_match(S("foo.*"), S("foo.*")));
    cr_expect(subject_match(S("foo.*"), S("foo.>")));
    cr_expect_not(subject_match(S("foo.*"), S("foo.bar")));
    cr_expect_not(subject_match(S("foo..bar"), S("foo.*.bar")));
    cr_expect_not(subject_match(S("foo.bar."), S("foo.>")));
    cr_expect_not(subject_match(S("foo"), S("foo.>")));
    cr_expect_not(subject_match(S(""), S(">")));
}

/* All patterns, and all subjects, of up to three tokens over a small alphabet. */
struct words {
    char text[2000][8];
    size_t count;
};

static void make_words(struct words *w, const char *tokens, bool is_pattern)
{
    w->count = 0;
    size_t n = strlen(tokens);
    size_t begin = 0;
    for (size_t len = 1; len <= 3; len++) {
        size_t end = w->count;
        for (size_t i = len == 1 ? end : begin; len == 1 || i < end; i++) {
            for (size_t t = 0; t < n; t++) {
                snprintf(w->text[w->count++], 8, len == 1 ? "%s%c" : "%s.%c",
                         len == 1 ? "" : w->text[i], tokens[t]);
                if (is_pattern && !subject_is_valid(S(w->text[w->count - 1]))) {
                    w->count--;
                }
            }
            if (len == 1) {
                break;
            }
        }
        begin = end;
    }
}

/* By trying: recursive, one rule per line. */
static bool model_match(const char *s, const char *p)
{
    if (strcmp(p, ">") == 0) {
        return *s != '\0';
    }
    if (*s == '\0' || *p == '\0') {
        return *s == *p;
    }
    if (*p != '*' && *p != *s) {
        return false;
    }
    bool s_end = s[1] == '\0';
    bool p_end = p[1] == '\0';
    return s_end || p_end ? s_end == p_end : model_match(s + 2, p + 2);
}

static struct words patterns;
static struct words subjects;

Test(subject, matching_agrees_with_a_model)
{
    make_words(&patterns, "ab*>", true);
    make_words(&subjects, "abc", false);
    cr_assert_gt(patterns.count, 50);
    for (size_t p = 0; p < patterns.count; p++) {
        for (size_t s = 0; s < subjects.count; s++) {
            cr_assert_eq(subject_match(S(subjects.text[s]), S(patterns.text[p])),
                         model_match(subjects.text[s], patterns.text[p]), "%s %s", subjects.text[s],
                         patterns.text[p]);
        }
    }
}

/* Subjects of four tokens are needed to tell `a.b.c` from `a.b.>`-like shapes apart: three tokens
 * of pattern and one more. */
static bool model_relation(const char *a, const char *b, bool is_subset)
{
    static const char letters[] = "abc";
    for (size_t len = 1; len <= 4; len++) {
        size_t n = len == 1 ? 3 : len == 2 ? 9 : len == 3 ? 27 : 81;
        for (size_t i = 0; i < n; i++) {
            char s[8] = "";
            for (size_t k = 0, v = i; k < len; k++, v /= 3) {
                s[2 * k] = letters[v % 3];
                s[2 * k + 1] = k + 1 < len ? '.' : '\0';
            }
            bool in_a = model_match(s, a);
            bool in_b = model_match(s, b);
            if (is_subset && in_a && !in_b) {
                return false;
            }
            if (!is_subset && in_a && in_b) {
                return true;
            }
        }
    }
    return is_subset;
}

Test(subject, subset_and_overlap_agree_with_trying_all_subjects)
{
    make_words(&patterns, "ab*>", true);
    for (size_t i = 0; i < patterns.count; i++) {
        for (size_t j = 0; j < patterns.count; j++) {
            const char *a = patterns.text[i];
            const char *b = patterns.text[j];
            cr_assert_eq(subject_is_subset(S(a), S(b)), model_relation(a, b, true), "%s in %s", a,
                         b);
            cr_assert_eq(subject_overlaps(S(a), S(b)), model_relation(a, b, false), "%s with %s", a,
                         b);
        }
    }
}

Test(subject, names_keep_out_what_means_something_elsewhere)
{
    cr_expect(subject_name_is_valid(S("ORDERS-1_x$")));
    const char *bad[] = {"", "a b", "a.b", "a*", ">", "a/b", "a\\b", "a\tb", "a\n", "..", "."};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_not(subject_name_is_valid(S(bad[i])), "%s", bad[i]);
    }
    char name[257];
    memset(name, 'x', sizeof name);
    cr_expect(subject_name_is_valid(slice_of(name, 255)));
    cr_expect_not(subject_name_is_valid(slice_of(name, 256)));
    cr_expect_not(subject_name_is_valid(slice_of("a\0b", 3)));
}
