/* A publish walks the sets that interest_match found: clients' sinks copy the message into their
 * output, peers are noted with the queue groups they were chosen for, internal subscribers are
 * noted too. Only after the walk are peers sent to and internal callbacks run: these may change
 * interest, which ends the life of the match. */
#include "cluster/router.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"

struct router_internal {
    struct router_sub sub;
    struct router *router;
    router_cb cb;
    void *arg;
    bool is_dead;
    struct list link;
};

struct router {
    struct interest *interest; /* What clients and peers want, and announced internal ones. */
    struct interest *hidden;   /* Internal subscribers that peers are not told of. */
    struct list internals;
    struct list dead; /* Internals to free when no walk is under way. */
    unsigned depth;
    uint64_t serial;
    uint64_t random;

    /* Stacks: a publish within a publish uses what lies above. */
    struct router_internal **called;
    uint32_t called_count, called_cap;
    struct router_remote **remotes;
    uint32_t remotes_count, remotes_cap;

    router_stream_cb stream_cb;
    void *stream_arg;
    interest_local_cb interest_cb;
    void *interest_ctx;
    uint64_t inserts, removes, matches;
};

/* xorshift64*: which member of a queue group need not be secret. */
static uint64_t next_random(struct router *r)
{
    uint64_t x = r->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    r->random = x;
    return x * 0x2545F4914F6CDD1Dull;
}

static void on_local_interest(void *ctx, struct slice subject, struct slice queue,
                              uint32_t local_count)
{
    struct router *r = ctx;
    if (r->interest_cb != NULL) {
        r->interest_cb(r->interest_ctx, subject, queue, local_count);
    }
}

struct router *router_new(uint64_t seed)
{
    struct router *r = xcalloc(1, sizeof *r);
    struct interest_options options = {
        .seed = seed,
        .cache_max = INTEREST_CACHE_MAX_DEFAULT,
        .local_cb = on_local_interest,
        .ctx = r,
    };
    r->interest = interest_new(&options);
    options.local_cb = NULL;
    options.cache_max = 0; /* Few patterns, and subjects that seldom come twice. */
    r->hidden = interest_new(&options);
    r->random = seed | 1u;
    list_init(&r->internals);
    list_init(&r->dead);
    return r;
}

static void free_dead(struct router *r)
{
    for (struct list *l; (l = list_pop_front(&r->dead)) != NULL;) {
        free(container_of(l, struct router_internal, link));
    }
}

void router_free(struct router *r)
{
    if (r == NULL) {
        return;
    }
    assert(r->depth == 0);
    r->interest_cb = NULL;
    LIST_FOR_SAFE(it, tmp, &r->internals)
    {
        router_unsubscribe_internal(container_of(it, struct router_internal, link));
    }
    free_dead(r);
    interest_free(r->interest);
    interest_free(r->hidden);
    free(r->called);
    free(r->remotes);
    free(r);
}

/* ---- Subscribing ---- */

int router_subscribe(struct router *r, struct router_sub *sub, struct slice pattern,
                     struct slice queue)
{
    sub->interest.kind = INTEREST_LOCAL;
    int rv = interest_insert(r->interest, &sub->interest, pattern, queue);
    if (rv == 0) {
        r->inserts++;
    }
    return rv;
}

void router_unsubscribe(struct router *r, struct router_sub *sub)
{
    if (interest_is_in(&sub->interest)) {
        r->removes++;
        interest_remove(r->interest, &sub->interest);
    }
}

int router_subscribe_remote(struct router *r, struct router_remote *remote, struct router_sub *sub,
                            struct slice pattern, struct slice queue, uint32_t weight)
{
    sub->interest.kind = INTEREST_REMOTE;
    sub->interest.owner = remote;
    sub->interest.weight = weight;
    sub->sink = NULL;
    int rv = interest_insert(r->interest, &sub->interest, pattern, queue);
    if (rv == 0) {
        r->inserts++;
    }
    return rv;
}

void router_remote_close(struct router_remote *remote)
{
    free(remote->queues);
    remote->queues = NULL;
    remote->queues_cap = 0;
}

static bool deliver_internal(struct router_sub *sub, const struct router_msg *msg)
{
    (void)msg;
    struct router_internal *in = container_of(sub, struct router_internal, sub);
    struct router *r = in->router;
    if (in->is_dead) {
        return false;
    }
    if (r->called_count == r->called_cap) {
        r->called_cap = r->called_cap == 0 ? 64 : r->called_cap * 2;
        r->called = xrealloc(r->called, r->called_cap * sizeof *r->called);
    }
    r->called[r->called_count++] = in;
    return true;
}

static const struct router_sink internal_sink = {.deliver = deliver_internal};

int router_subscribe_internal(struct router *r, struct slice pattern, struct slice queue,
                              bool is_announced, router_cb cb, void *arg,
                              struct router_internal **ret_sub)
{
    struct router_internal *in = xcalloc(1, sizeof *in);
    in->router = r;
    in->cb = cb;
    in->arg = arg;
    in->sub.sink = &internal_sink;
    in->sub.interest.kind = INTEREST_LOCAL;
    int rv =
        interest_insert(is_announced ? r->interest : r->hidden, &in->sub.interest, pattern, queue);
    if (rv != 0) {
        free(in);
        return rv;
    }
    in->sub.interest.weight = is_announced;
    list_push_back(&r->internals, &in->link);
    *ret_sub = in;
    return 0;
}

void router_unsubscribe_internal(struct router_internal *in)
{
    if (in == NULL) {
        return;
    }
    struct router *r = in->router;
    assert(!in->is_dead);
    in->is_dead = true;
    interest_remove(in->sub.interest.weight ? r->interest : r->hidden, &in->sub.interest);
    list_remove(&in->link);
    list_push_back(&r->dead, &in->link);
    if (r->depth == 0) {
        free_dead(r);
    }
}

struct router_sub *router_find_plain(struct router *r, const void *owner, struct slice subject)
{
    const struct interest_result *res = interest_match(r->interest, subject);
    for (uint32_t i = 0; i < res->plain_count; i++) {
        for (uint32_t k = 0; k < res->plain[i]->local_count; k++) {
            struct interest_sub *sub = res->plain[i]->subs[k];
            if (sub->owner == owner) {
                return container_of(sub, struct router_sub, interest);
            }
        }
    }
    return NULL;
}

/* ---- Publishing ---- */

static void note_remote(struct router *r, struct router_remote *remote, struct slice queue)
{
    if (remote->serial != r->serial) {
        remote->serial = r->serial;
        remote->queues_count = 0;
        if (r->remotes_count == r->remotes_cap) {
            r->remotes_cap = r->remotes_cap == 0 ? 16 : r->remotes_cap * 2;
            r->remotes = xrealloc(r->remotes, r->remotes_cap * sizeof(struct router_remote *));
        }
        r->remotes[r->remotes_count++] = remote;
    }
    if (queue.len == 0 || remote->queues_count == ROUTER_QUEUES_MAX) {
        return;
    }
    if (remote->queues_count == remote->queues_cap) {
        remote->queues_cap = remote->queues_cap == 0 ? 4 : remote->queues_cap * 2;
        remote->queues = xrealloc(remote->queues, remote->queues_cap * sizeof *remote->queues);
    }
    remote->queues[remote->queues_count++] = queue;
}

static uint32_t walk_plain(struct router *r, const struct interest_set *set,
                           const struct router_msg *msg, const struct router_origin *origin)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < set->local_count; i++) {
        struct interest_sub *is = set->subs[i];
        if (is->owner == origin->skip_owner && is->owner != NULL) {
            continue;
        }
        struct router_sub *sub = container_of(is, struct router_sub, interest);
        taken += sub->sink->deliver(sub, msg);
    }
    if (origin->kind != ROUTER_FROM_PEER) {
        for (uint32_t i = set->local_count; i < set->subs_count; i++) {
            note_remote(r, set->subs[i]->owner, SLICE_EMPTY);
            taken++;
        }
    }
    return taken;
}

static bool is_named(const struct router_origin *origin, struct slice queue)
{
    for (uint32_t i = 0; i < origin->queues_count; i++) {
        if (slice_eq(origin->queues[i], queue)) {
            return true;
        }
    }
    return false;
}

/* One member of the group that takes it: any local one, the next when it fails, else a peer's. */
static uint32_t walk_group(struct router *r, struct interest_set *const *sets, uint32_t count,
                           const struct router_msg *msg, const struct router_origin *origin)
{
    bool is_local_only = origin->kind == ROUTER_FROM_PEER;
    uint32_t locals = 0;
    for (uint32_t i = 0; i < count; i++) {
        locals += sets[i]->local_count;
    }
    uint64_t random = next_random(r);
    for (uint32_t attempt = 0; attempt < locals; attempt++) {
        struct interest_sub *is = interest_pick(sets, count, random + attempt, true);
        if (is == NULL) {
            break;
        }
        if (is->owner == origin->skip_owner && is->owner != NULL) {
            continue;
        }
        struct router_sub *sub = container_of(is, struct router_sub, interest);
        if (sub->sink->deliver(sub, msg)) {
            return 1;
        }
    }
    if (is_local_only) {
        return 0;
    }
    /* No local member took it: interest_pick would prefer them, so choose among peers here. */
    uint64_t weight = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = sets[i]->local_count; k < sets[i]->subs_count; k++) {
            weight += sets[i]->subs[k]->weight;
        }
    }
    if (weight == 0) {
        return 0;
    }
    uint64_t at = (random >> 16) % weight;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = sets[i]->local_count; k < sets[i]->subs_count; k++) {
            if (at < sets[i]->subs[k]->weight) {
                note_remote(r, sets[i]->subs[k]->owner, sets[i]->queue);
                return 1;
            }
            at -= sets[i]->subs[k]->weight;
        }
    }
    return 0;
}

static uint32_t walk(struct router *r, struct interest *in, const struct router_msg *msg,
                     const struct router_origin *origin)
{
    const struct interest_result *res = interest_match(in, msg->subject);
    uint32_t taken = 0;
    for (uint32_t i = 0; i < res->plain_count; i++) {
        taken += walk_plain(r, res->plain[i], msg, origin);
    }
    for (uint32_t i = 0; i < res->queues_count;) {
        uint32_t count = interest_group_len(res, i);
        if (origin->kind != ROUTER_FROM_PEER || is_named(origin, res->queues[i]->queue)) {
            taken += walk_group(r, &res->queues[i], count, msg, origin);
        }
        i += count;
    }
    return taken;
}

uint32_t router_publish(struct router *r, const struct router_msg *msg,
                        const struct router_origin *origin)
{
    if (r->depth >= ROUTER_DEPTH_MAX) {
        return 0; /* Callbacks that publish to each other. */
    }
    r->depth++;
    r->serial++;
    r->matches++;
    uint32_t called_base = r->called_count;
    uint32_t remotes_base = r->remotes_count;
    uint32_t taken = walk(r, r->interest, msg, origin);
    if (origin->kind != ROUTER_FROM_PEER && interest_subs_count(r->hidden) != 0) {
        taken += walk(r, r->hidden, msg, origin);
    }
    /* Queue names point into the interest tree: send before anything can change it. */
    for (uint32_t i = remotes_base; i < r->remotes_count; i++) {
        struct router_remote *remote = r->remotes[i];
        remote->send(remote, msg, remote->queues, remote->queues_count);
    }
    r->remotes_count = remotes_base;
    if (r->stream_cb != NULL && origin->kind != ROUTER_FROM_PEER) {
        taken += r->stream_cb(r->stream_arg, msg, origin);
    }
    uint32_t called_end = r->called_count;
    for (uint32_t i = called_base; i < called_end; i++) {
        struct router_internal *in = r->called[i];
        if (!in->is_dead) {
            in->cb(in->arg, msg, origin);
        }
    }
    r->called_count = called_base;
    r->depth--;
    if (r->depth == 0 && !list_is_empty(&r->dead)) {
        free_dead(r);
    }
    return taken;
}

uint32_t router_send(struct router *r, struct slice subject, struct slice reply,
                     struct slice header, struct slice payload)
{
    struct router_msg msg = {
        .subject = subject, .reply = reply, .header = header, .payload = payload};
    return router_publish(r, &msg, &ROUTER_ORIGIN_NODE);
}

bool router_is_interest(struct router *r, struct slice subject)
{
    return interest_is_any(r->interest, subject);
}

bool router_is_group_interest(struct router *r, struct slice subject, struct slice queue)
{
    const struct interest_result *res = interest_match(r->interest, subject);
    for (uint32_t i = 0; i < res->queues_count; i++) {
        if (slice_eq(res->queues[i]->queue, queue)) {
            return true;
        }
    }
    return false;
}

void router_set_stream_hook(struct router *r, router_stream_cb cb, void *arg)
{
    r->stream_cb = cb;
    r->stream_arg = arg;
}

void router_set_interest_cb(struct router *r, interest_local_cb cb, void *ctx)
{
    r->interest_cb = cb;
    r->interest_ctx = ctx;
}

void router_each_local(struct router *r, interest_local_cb cb, void *ctx)
{
    interest_each_local(r->interest, cb, ctx);
}

struct router_stats router_stats(const struct router *r)
{
    return (struct router_stats){
        .subs = interest_subs_count(r->interest),
        .sets = interest_sets_count(r->interest),
        .inserts = r->inserts,
        .removes = r->removes,
        .matches = r->matches,
        .cache_hits = interest_cache_hits(r->interest),
        .cache_misses = interest_cache_misses(r->interest),
    };
}
