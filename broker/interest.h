/* The interest of one account: who gets a message published to a subject.
 *
 * A trie over subject tokens. Each (pattern, queue group) that somebody subscribed to is a *set*
 * of subscribers; plain subscriptions have the empty queue name. Matching a literal subject finds
 * the sets; those of one queue name are one group, even from different patterns, and one member of
 * each group gets the message.
 *
 * A cache from literal subjects to sets makes the common match one hash lookup. Where the last
 * token makes no difference, as in the inbox of a client, all subjects of one prefix share an
 * entry. It stays right when subscribers join or leave an existing set; a set of a literal pattern
 * that comes or goes drops its entry and its prefix's, a set with wildcards drops all.
 *
 * Pure and single-threaded. All calls but interest_match* may move results: see there. */
#ifndef BROKER_INTEREST_H
#define BROKER_INTEREST_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/list.h"
#include "storage/base/slice.h"

/* More tokens than a control line of the default length can hold. Deeper patterns are refused,
 * deeper subjects match nothing. */
#define INTEREST_TOKENS_MAX 2048

enum interest_kind {
    INTEREST_LOCAL,  /* A client of this node, or the node itself. */
    INTEREST_REMOTE, /* A peer: it stands for `weight` subscribers there. */
};

/* One subscription. The caller embeds it, fills the first three fields, and finds its object again
 * by container_of. It must stay where it is while it is in the tree. */
struct interest_sub {
    void *owner;     /* For the caller: a client, a peer. */
    uint32_t kind;   /* enum interest_kind. */
    uint32_t weight; /* Of a remote member of a queue group, at least 1; else ignored. */

    struct interest_set *set; /* Private; NULL when not in the tree. */
    uint32_t pos;             /* Private. */
};

/* All subscribers of one (pattern, queue group); local ones first. Read only. */
struct interest_set {
    struct slice subject;
    struct slice queue; /* Empty: plain subscriptions, all get the message. */
    struct interest_sub **subs;
    uint32_t subs_count;
    uint32_t local_count;

    uint32_t subs_cap; /* Private from here on. */
    struct interest_sub *one;
    struct interest_node *node;
    uint64_t hash;
    struct list node_link; /* In the order of creation, of the same node. */
    struct list link;      /* In the order of creation, of all. */
};

/* What matches a subject. `plain` sets all get it; `queues` are sorted into groups: sets of
 * one group are adjacent (same queue name). */
struct interest_result {
    struct interest_set **plain;
    struct interest_set **queues;
    uint32_t plain_count;
    uint32_t queues_count;
};

/* Tells which (pattern, queue) this node's own subscribers have, to tell the peers. For a plain set
 * it is called when the local count becomes 1 (first) or 0 (last); for a queue group at each
 * change. Must not change the tree. */
typedef void (*interest_local_cb)(void *ctx, struct slice subject, struct slice queue,
                                  uint32_t local_count);

struct interest_options {
    uint64_t seed;      /* Of the hash, random: clients choose the tokens. */
    uint32_t cache_max; /* Subjects remembered; rounded up to a power of two; 0: no cache. */
    uint64_t subs_max;  /* Subscriptions held, 0 for no limit. */
    interest_local_cb local_cb; /* May be NULL. */
    void *ctx;
};

#define INTEREST_CACHE_MAX_DEFAULT 4096u

struct interest;

/* @options is copied. Free it only when it is empty of subscriptions that live on, since their
 * `set` pointers are not cleared. */
struct interest *interest_new(const struct interest_options *options);
void interest_free(struct interest *in);

/* Add @sub under @subject (a valid pattern) and @queue (empty for none); both are copied.
 * Returns 0, ERR_INVALID (not a valid pattern), ERR_TOOBIG (more than INTEREST_TOKENS_MAX tokens)
 * or ERR_FULL (subs_max). Time: proportional to the tokens. */
int interest_insert(struct interest *in, struct interest_sub *sub, struct slice subject,
                    struct slice queue);
/* Take @sub out again; harmless when it is not in. */
void interest_remove(struct interest *in, struct interest_sub *sub);
static inline bool interest_is_in(const struct interest_sub *sub)
{
    return sub->set != NULL;
}
/* The pattern and queue of a subscription that is in the tree. Valid while it is. */
static inline struct slice interest_subject(const struct interest_sub *sub)
{
    return sub->set->subject;
}
static inline struct slice interest_queue(const struct interest_sub *sub)
{
    return sub->set->queue;
}

/* The sets that match the literal @subject (wildcard characters in it are ordinary). The result
 * and its sets are valid until the next call of any function of @in but interest_pick. */
const struct interest_result *interest_match(struct interest *in, struct slice subject);
/* Whether anybody at all would get it. */
bool interest_is_any(struct interest *in, struct slice subject);

/* One member of the group whose sets are @sets[0..count), none of them plain: a local one, each
 * with the same chance; when there is none, and not @is_local_only, a remote one by weight.
 * @random is any number. NULL when there is none. */
struct interest_sub *interest_pick(struct interest_set *const *sets, uint32_t count,
                                   uint64_t random, bool is_local_only);
/* How many of result->queues from @begin on are one group; 0 at the end. */
uint32_t interest_group_len(const struct interest_result *result, uint32_t begin);

/* Call @cb for each (pattern, queue) with local subscribers, in the order they appeared: what a new
 * peer is told. @cb must not change the tree. */
void interest_each_local(const struct interest *in, interest_local_cb cb, void *ctx);

uint64_t interest_subs_count(const struct interest *in);
uint64_t interest_sets_count(const struct interest *in);
uint64_t interest_cache_hits(const struct interest *in);
uint64_t interest_cache_misses(const struct interest *in);

/* Assert that everything is as it must be; for tests and the simulator. Linear. */
void interest_check(const struct interest *in);
#endif
