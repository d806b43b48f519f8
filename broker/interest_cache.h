/* What interest_match found lately, by subject: a part of interest.c. Two slots for each hash, the
 * newer one first. */
#ifndef BROKER_INTEREST_CACHE_H
#define BROKER_INTEREST_CACHE_H
#include "broker/interest.h"

/* Longer subjects and wider results are not cached, to bound the cache's memory. */
#define INTEREST_CACHE_SUBJECT_BYTES_MAX 256u
#define INTEREST_CACHE_SETS_MAX 1024u

/* A result with room to grow. */
struct interest_found {
    struct interest_result result;
    uint32_t plain_cap;
    uint32_t queues_cap;
    bool is_multi; /* Queue sets of more than one node. */
};

void interest_found_close(struct interest_found *f);

struct interest_cache;

/* @slots is rounded up to a power of two. */
struct interest_cache *interest_cache_new(uint32_t slots);
void interest_cache_free(struct interest_cache *cache); /* NULL is fine. */

/* NULL: not remembered. @hash is the subject's. Valid until the next call. */
const struct interest_result *interest_cache_find(struct interest_cache *cache,
                                                  struct slice subject, uint64_t hash);
/* The same without a hash, if @subject is what was found last: subjects come in runs. */
const struct interest_result *interest_cache_last(const struct interest_cache *cache,
                                                  struct slice subject);
/* Was this subject missed before? Notes that it is missed now. Reply subjects are asked for once:
 * to remember each of them would cost more than to find it, and push out what is asked for again.
 */
bool interest_cache_is_asked_again(struct interest_cache *cache, uint64_t hash);
/* Remember *found as the result of @subject; *found is another one's memory afterwards. */
const struct interest_result *interest_cache_put(struct interest_cache *cache, struct slice subject,
                                                 uint64_t hash, struct interest_found *found);
/* What was found for the subject of this hash is wrong now. */
void interest_cache_forget(struct interest_cache *cache, uint64_t hash);
/* A pattern with wildcards came or went: everything may be wrong. */
void interest_cache_forget_all(struct interest_cache *cache);
#endif
