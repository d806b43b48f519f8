/* Subjects: tokens separated by dots; a token exactly `*` stands for one token, a last token
 * exactly `>` for one or more. Comparisons are byte by byte.
 *
 * A *filter* (or pattern) may have wildcards; a *subject* is literal: in it, `*` and `>` are
 * ordinary tokens. Everything is pure, allocates nothing and takes time linear in the lengths. */
#ifndef BROKER_SUBJECT_H
#define BROKER_SUBJECT_H
#include <stdbool.h>
#include <stddef.h>

#include "storage/base/slice.h"

#define SUBJECT_NAME_BYTES_MAX 255 /* Of stream, consumer and durable names. */

/* A pattern that may be subscribed to: no empty token, `>` only last, no space, tab, \r, \n, \f.
 * (nats-server: IsValidSubject) */
bool subject_is_valid(struct slice s);
/* No empty token and no wildcard token; whitespace is not looked at. The pedantic check of a
 * publish subject. (IsValidLiteralSubject) */
bool subject_is_literal(struct slice s);
/* Both of the above: what may be named in the API as a subject to publish to. */
bool subject_is_valid_publish(struct slice s);
/* Whether some token is a wildcard; the empty string has none. */
bool subject_has_wildcard(struct slice s);

/* Walks tokens: `it = subject_iter(s); while (subject_next(&it, &token))`.
 * `a..b` gives an empty token in the middle; the empty subject gives one empty token. */
struct subject_iter {
    struct slice rest;
    bool is_done;
};
static inline struct subject_iter subject_iter(struct slice s)
{
    return (struct subject_iter){s, false};
}
static inline bool subject_next(struct subject_iter *it, struct slice *ret_token)
{
    if (it->is_done) {
        return false;
    }
    const uint8_t *dot =
        it->rest.len == 0 ? NULL : (const uint8_t *)memchr(it->rest.ptr, '.', it->rest.len);
    if (dot == NULL) {
        *ret_token = it->rest;
        it->is_done = true;
        return true;
    }
    size_t len = (size_t)(dot - it->rest.ptr);
    *ret_token = slice_of(it->rest.ptr, len);
    it->rest = slice_of(dot + 1, it->rest.len - len - 1);
    return true;
}

/* The number of dots and one. */
size_t subject_token_count(struct slice s);
/* Token number @index from 0, or an empty slice when there are fewer. */
struct slice subject_token(struct slice s, size_t index);

/* Whether the literal @subject matches @filter. An empty token matches nothing. @filter is
 * valid; a pattern that is not valid matches nothing it should not, and never crashes. */
bool subject_match(struct slice subject, struct slice filter);
/* Whether every subject that @sub matches, @super matches too. Both are valid patterns. */
bool subject_is_subset(struct slice sub, struct slice super);
/* Whether some subject matches both. Both are valid patterns. (SubjectsCollide) */
bool subject_overlaps(struct slice a, struct slice b);

/* One word on a line of the client protocol: not empty, no space, tab, CR or LF. What a client can
 * publish to; what comes from elsewhere must be one too before it is put on such a line. */
bool subject_is_word(struct slice s);

/* A stream, consumer or durable name: 1 to 255 bytes, none of space TAB CR LF FF . * > / \ and no
 * control byte below 0x20 at all. */
bool subject_name_is_valid(struct slice name);
#endif
