/* Subject transforms: what matches a pattern gets another subject, built of its tokens.
 *
 *   destination token                  becomes
 *   $n, {{wildcard(n)}}                the n-th wildcard's token
 *   {{partition(b,n,...)}}             0 to b - 1, by the FNV-1a hash of those tokens, or of all of
 * the subject's when none is named
 *   {{split(n,delimiter)}}             its parts, without empty ones in between
 *   {{splitFromLeft(n,at)}}, ...Right  two tokens
 *   {{sliceFromLeft(n,size)}}, ...Right  tokens of so many bytes, a rest at the other end
 *   {{left(n,len)}}, {{right(n,len)}}  its first or last bytes
 *   {{random(b)}}                      0 to b - 1
 *   > at the end                       what the pattern's > matched
 *   anything else                      itself
 *
 * Where a position does not lie inside the token it stays whole. Names of functions begin their
 * words in either case. Pure: what is random is given. Source: reference/jetstream-api.md 6.8, and
 * the answers of nats-server where it leaves doubt. */
#ifndef BROKER_SUBJECT_TRANSFORM_H
#define BROKER_SUBJECT_TRANSFORM_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/buf.h"

struct subject_transform;

/* Compile. *ret_transform is NULL when there is no destination: nothing changes then. No source:
 * everything. Returns 0, or ERR_INVALID with the reference's words appended to @error (may be
 * NULL). The caller frees it. */
int subject_transform_new(struct slice source, struct slice destination,
                          struct subject_transform **ret_transform, struct buf *error);
void subject_transform_free(struct subject_transform *t);
/* What may stand in a configuration as the destination of @source: 0, or ERR_INVALID as above. */
int subject_transform_check(struct slice source, struct slice destination, struct buf *error);

enum subject_transform_result {
    TRANSFORM_NO_MATCH, /* Nothing is appended. */
    TRANSFORM_DONE,
    TRANSFORM_TOO_LONG, /* More than @bytes_max; a part may be appended. */
};
/* Append what the literal @subject becomes. The same @random gives the same subject. */
enum subject_transform_result subject_transform_apply(const struct subject_transform *t,
                                                      struct slice subject, uint64_t random,
                                                      size_t bytes_max, struct buf *out);
#endif
