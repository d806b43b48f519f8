/* Literal children of all nodes are in one hash table, keyed by (parent, token), and all sets in
 * another, keyed by (node, queue name): a node costs some 80 bytes however many there are, and no
 * operation depends on how many siblings it has. `*` and `>` children hang off their parent. */
#include "broker/interest.h"

#include <assert.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "broker/interest_cache.h"
#include "broker/subject.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"

struct interest_node {
    struct interest_node *parent; /* NULL: the root. */
    struct interest_node *star;
    struct interest_node *tail;
    struct list sets;
    uint64_t hash;
    uint32_t children_count; /* Literal ones, and star and tail. */
    uint32_t token_len;
    uint8_t token[];
};

/* Open addressing, linear probing. */
struct slot {
    uint64_t hash;
    void *item; /* NULL: free. */
};

struct table {
    struct slot *slots;
    uint64_t mask; /* Slots less one; a power of two less one. */
    uint64_t count;
};

struct interest {
    struct interest_options options;
    struct interest_node *root;
    struct table nodes;
    struct table sets;
    struct list all_sets;
    uint64_t subs_count;
    struct interest_cache *cache; /* NULL: none. */
    uint64_t cache_hits;
    uint64_t cache_misses;
    struct interest_found scratch; /* The result of what is not cached. */
    uint32_t first_counts[256];    /* Sets by the first byte of their pattern. */
};

/* ---- The table. ---- */

#define TABLE_SLOTS_MIN 16u

static void table_init(struct table *t)
{
    t->mask = TABLE_SLOTS_MIN - 1;
    t->count = 0;
    t->slots = xcalloc(TABLE_SLOTS_MIN, sizeof *t->slots);
}

static void table_put(struct table *t, uint64_t hash, void *item)
{
    uint64_t i = hash & t->mask;
    while (t->slots[i].item != NULL) {
        i = (i + 1) & t->mask;
    }
    t->slots[i] = (struct slot){hash, item};
    t->count++;
}

static void table_resize(struct table *t, uint64_t slots_count)
{
    struct table old = *t;
    t->slots = xcalloc(slots_count, sizeof *t->slots);
    t->mask = slots_count - 1;
    t->count = 0;
    for (uint64_t i = 0; i <= old.mask; i++) {
        if (old.slots[i].item != NULL) {
            table_put(t, old.slots[i].hash, old.slots[i].item);
        }
    }
    assert(t->count == old.count);
    free(old.slots);
}

static void table_insert(struct table *t, uint64_t hash, void *item)
{
    if ((t->count + 1) * 3 > (t->mask + 1) * 2) {
        table_resize(t, (t->mask + 1) * 2);
    }
    table_put(t, hash, item);
}

static void table_remove(struct table *t, uint64_t hash, const void *item)
{
    uint64_t i = hash & t->mask;
    while (t->slots[i].item != item) {
        assert(t->slots[i].item != NULL);
        i = (i + 1) & t->mask;
    }
    /* Close the gap: move up whatever its own place does not forbid. */
    for (uint64_t j = (i + 1) & t->mask; t->slots[j].item != NULL; j = (j + 1) & t->mask) {
        uint64_t home = t->slots[j].hash & t->mask;
        if (((j - home) & t->mask) >= ((j - i) & t->mask)) {
            t->slots[i] = t->slots[j];
            i = j;
        }
    }
    t->slots[i] = (struct slot){0, NULL};
    t->count--;
    if (t->mask + 1 > TABLE_SLOTS_MIN && t->count * 8 < t->mask + 1) {
        table_resize(t, (t->mask + 1) / 2);
    }
}

/* ---- Nodes. ---- */

static uint64_t hash_bytes(const struct interest *in, struct slice s)
{
    return XXH3_64bits_withSeed(s.ptr, s.len, in->options.seed);
}

/* The hash of a child: of the parent's and the token's. */
static uint64_t hash_mix(uint64_t parent, uint64_t token)
{
    uint64_t h = (parent ^ token) * 0x9e3779b97f4a7c15u + parent;
    return h ^ (h >> 32);
}

static struct interest_node *find_child(const struct interest *in,
                                        const struct interest_node *parent, struct slice token,
                                        uint64_t token_hash)
{
    const struct table *t = &in->nodes;
    uint64_t hash = hash_mix(parent->hash, token_hash);
    for (uint64_t i = hash & t->mask; t->slots[i].item != NULL; i = (i + 1) & t->mask) {
        if (t->slots[i].hash == hash) {
            struct interest_node *n = t->slots[i].item;
            if (n->parent == parent && slice_eq(slice_of(n->token, n->token_len), token)) {
                return n;
            }
        }
    }
    return NULL;
}

static struct interest_node *new_node(struct interest_node *parent, struct slice token,
                                      uint64_t hash)
{
    struct interest_node *n = xcalloc(1, sizeof *n + token.len);
    n->parent = parent;
    n->hash = hash;
    n->token_len = (uint32_t)token.len;
    if (token.len > 0) {
        memcpy(n->token, token.ptr, token.len);
    }
    list_init(&n->sets);
    if (parent != NULL) {
        parent->children_count++;
    }
    return n;
}

static bool is_token(struct slice token, char c)
{
    return token.len == 1 && token.ptr[0] == (uint8_t)c;
}

static struct interest_node *make_child(struct interest *in, struct interest_node *parent,
                                        struct slice token)
{
    uint64_t token_hash = hash_bytes(in, token);
    uint64_t hash = hash_mix(parent->hash, token_hash);
    if (is_token(token, '*') || is_token(token, '>')) {
        struct interest_node **child = token.ptr[0] == '*' ? &parent->star : &parent->tail;
        if (*child == NULL) {
            *child = new_node(parent, token, hash);
        }
        return *child;
    }
    struct interest_node *n = find_child(in, parent, token, token_hash);
    if (n == NULL) {
        n = new_node(parent, token, hash);
        table_insert(&in->nodes, hash, n);
    }
    return n;
}

static struct interest_node *make_path(struct interest *in, struct slice subject)
{
    struct interest_node *n = in->root;
    struct subject_iter it = subject_iter(subject);
    struct slice token;
    while (subject_next(&it, &token)) {
        n = make_child(in, n, token);
    }
    return n;
}

/* Free @n and those above it that nothing needs any more. */
static void prune(struct interest *in, struct interest_node *n)
{
    while (n->parent != NULL && n->children_count == 0 && list_is_empty(&n->sets)) {
        struct interest_node *parent = n->parent;
        if (parent->star == n) {
            parent->star = NULL;
        } else if (parent->tail == n) {
            parent->tail = NULL;
        } else {
            table_remove(&in->nodes, n->hash, n);
        }
        parent->children_count--;
        free(n);
        n = parent;
    }
}

/* ---- Sets. ---- */

/* @subject without its last token: `a.b.` of `a.b.c`, which is no subject and so the cache's key
 * for what all subjects `a.b.*` have in common. Empty if there is one token only. */
static struct slice prefix_of(struct slice subject)
{
    const uint8_t *dot = subject.len == 0 ? NULL : memrchr(subject.ptr, '.', subject.len);
    return slice_of(subject.ptr, dot == NULL ? 0 : (size_t)(dot - subject.ptr) + 1);
}

/* A set of @subject came or went: forget what that makes wrong. */
static void invalidate(struct interest *in, struct slice subject)
{
    if (in->cache == NULL) {
        return;
    }
    if (subject_has_wildcard(subject)) {
        interest_cache_forget_all(in->cache);
        return;
    }
    interest_cache_forget(in->cache, hash_bytes(in, subject));
    interest_cache_forget(in->cache, hash_bytes(in, prefix_of(subject)));
}

static struct interest_set *find_set(const struct interest *in, const struct interest_node *node,
                                     struct slice queue, uint64_t hash)
{
    const struct table *t = &in->sets;
    for (uint64_t i = hash & t->mask; t->slots[i].item != NULL; i = (i + 1) & t->mask) {
        struct interest_set *s = t->slots[i].item;
        if (t->slots[i].hash == hash && s->node == node && slice_eq(s->queue, queue)) {
            return s;
        }
    }
    return NULL;
}

static struct interest_set *make_set(struct interest *in, struct interest_node *node,
                                     struct slice subject, struct slice queue)
{
    uint64_t hash = hash_mix(node->hash, hash_bytes(in, queue));
    struct interest_set *s = find_set(in, node, queue, hash);
    if (s != NULL) {
        return s;
    }
    s = xcalloc(1, sizeof *s + subject.len + queue.len);
    uint8_t *text = (uint8_t *)(s + 1);
    memcpy(text, subject.ptr, subject.len);
    if (queue.len > 0) {
        memcpy(text + subject.len, queue.ptr, queue.len);
    }
    s->subject = slice_of(text, subject.len);
    s->queue = slice_of(text + subject.len, queue.len);
    s->node = node;
    s->hash = hash;
    s->subs = &s->one;
    s->subs_cap = 1;
    list_push_back(&node->sets, &s->node_link);
    list_push_back(&in->all_sets, &s->link);
    table_insert(&in->sets, hash, s);
    in->first_counts[subject.ptr[0]]++;
    invalidate(in, s->subject);
    return s;
}

static void free_set(struct interest *in, struct interest_set *s)
{
    struct interest_node *node = s->node;
    invalidate(in, s->subject);
    in->first_counts[s->subject.ptr[0]]--;
    table_remove(&in->sets, s->hash, s);
    list_remove(&s->node_link);
    list_remove(&s->link);
    if (s->subs != &s->one) {
        free(s->subs);
    }
    free(s);
    prune(in, node);
}

static void set_place(struct interest_set *s, uint32_t pos, struct interest_sub *sub)
{
    s->subs[pos] = sub;
    sub->pos = pos;
}

static void set_add(struct interest_set *s, struct interest_sub *sub)
{
    if (s->subs_count == s->subs_cap) {
        uint32_t cap = s->subs_cap * 2;
        struct interest_sub **grown = xmalloc(cap * sizeof(*grown));
        memcpy(grown, s->subs, s->subs_count * sizeof(*grown));
        if (s->subs != &s->one) {
            free(s->subs);
        }
        s->subs = grown;
        s->subs_cap = cap;
    }
    uint32_t pos = s->subs_count++;
    if (sub->kind == INTEREST_LOCAL) {
        if (pos != s->local_count) {
            set_place(s, pos, s->subs[s->local_count]);
        }
        pos = s->local_count++;
    }
    set_place(s, pos, sub);
    sub->set = s;
}

static void set_take(struct interest_set *s, struct interest_sub *sub)
{
    uint32_t hole = sub->pos;
    assert(hole < s->subs_count);
    assert(s->subs[hole] == sub);
    if (hole < s->local_count) {
        set_place(s, hole, s->subs[--s->local_count]);
        hole = s->local_count;
    }
    s->subs_count--;
    if (hole < s->subs_count) {
        set_place(s, hole, s->subs[s->subs_count]);
    }
    sub->set = NULL;
}

static void tell_local(const struct interest *in, const struct interest_set *s, bool is_added)
{
    if (in->options.local_cb == NULL) {
        return;
    }
    if (s->queue.len > 0 || s->local_count == (is_added ? 1 : 0)) {
        in->options.local_cb(in->options.ctx, s->subject, s->queue, s->local_count);
    }
}

int interest_insert(struct interest *in, struct interest_sub *sub, struct slice subject,
                    struct slice queue)
{
    assert(sub->set == NULL);
    assert(sub->kind == INTEREST_LOCAL || sub->kind == INTEREST_REMOTE);
    if (!subject_is_valid(subject)) {
        return ERR_INVALID;
    }
    if (subject_token_count(subject) > INTEREST_TOKENS_MAX) {
        return ERR_TOOBIG;
    }
    if (in->options.subs_max > 0 && in->subs_count >= in->options.subs_max) {
        return ERR_FULL;
    }
    struct interest_set *s = make_set(in, make_path(in, subject), subject, queue);
    set_add(s, sub);
    in->subs_count++;
    if (sub->kind == INTEREST_LOCAL) {
        tell_local(in, s, true);
    }
    return 0;
}

void interest_remove(struct interest *in, struct interest_sub *sub)
{
    struct interest_set *s = sub->set;
    if (s == NULL) {
        return;
    }
    set_take(s, sub);
    in->subs_count--;
    if (sub->kind == INTEREST_LOCAL) {
        tell_local(in, s, false);
    }
    if (s->subs_count == 0) {
        free_set(in, s);
    }
}

/* ---- Matching. ---- */

static void add_set(struct interest_set ***sets, uint32_t *count, uint32_t *cap,
                    struct interest_set *s)
{
    if (*count == *cap) {
        *cap = *cap == 0 ? 2 : *cap * 2;
        *sets = xrealloc(*sets, *cap * sizeof(**sets));
    }
    (*sets)[(*count)++] = s;
}

static void add_node(struct interest_found *f, const struct interest_node *n)
{
    struct interest_result *r = &f->result;
    uint32_t queues_before = r->queues_count;
    LIST_FOR(it, &n->sets)
    {
        struct interest_set *s = container_of(it, struct interest_set, node_link);
        if (s->queue.len == 0) {
            add_set(&r->plain, &r->plain_count, &f->plain_cap, s);
        } else {
            add_set(&r->queues, &r->queues_count, &f->queues_cap, s);
        }
    }
    f->is_multi = f->is_multi || (queues_before > 0 && r->queues_count > queues_before);
}

static int compare_queues(const void *a, const void *b)
{
    const struct interest_set *x = *(struct interest_set *const *)a;
    const struct interest_set *y = *(struct interest_set *const *)b;
    int rv = slice_cmp(x->queue, y->queue);
    return rv != 0 ? rv : slice_cmp(x->subject, y->subject);
}

/* Depth first with a stack of our own: each node leaves at most two behind it, one level down.
 * Returns whether any other last token would have found the same. */
static bool walk(const struct interest *in, const struct slice *tokens, uint32_t count,
                 struct interest_found *f)
{
    struct step {
        const struct interest_node *node;
        uint32_t depth;
    } stack[INTEREST_TOKENS_MAX + 2];
    uint64_t hashes[INTEREST_TOKENS_MAX];
    uint32_t hashes_count = 0;
    uint32_t top = 0;
    bool is_common = true;
    stack[top++] = (struct step){in->root, 0};
    while (top > 0) {
        struct step at = stack[--top];
        if (at.depth == count) {
            add_node(f, at.node);
            continue;
        }
        if (at.node->tail != NULL) {
            add_node(f, at.node->tail);
        }
        if (at.node->star != NULL) {
            stack[top++] = (struct step){at.node->star, at.depth + 1};
        }
        uint32_t literals =
            at.node->children_count - (at.node->star != NULL) - (at.node->tail != NULL);
        if (literals > 0) {
            is_common = is_common && at.depth + 1 < count;
            while (hashes_count <= at.depth) {
                hashes[hashes_count] = hash_bytes(in, tokens[hashes_count]);
                hashes_count++;
            }
            const struct interest_node *child =
                find_child(in, at.node, tokens[at.depth], hashes[at.depth]);
            if (child != NULL) {
                stack[top++] = (struct step){child, at.depth + 1};
            }
        }
        assert(top <= count + 1);
    }
    return is_common;
}

/* Returns whether every subject with the same prefix_of() finds the same. */
static bool find(const struct interest *in, struct slice subject, struct interest_found *f)
{
    f->result.plain_count = 0;
    f->result.queues_count = 0;
    f->is_multi = false;
    struct slice tokens[INTEREST_TOKENS_MAX];
    uint32_t count = 0;
    struct subject_iter it = subject_iter(subject);
    struct slice token;
    while (subject_next(&it, &token)) {
        if (token.len == 0 || count == INTEREST_TOKENS_MAX) {
            return false;
        }
        tokens[count++] = token;
    }
    bool is_common = walk(in, tokens, count, f);
    if (f->is_multi) {
        qsort(f->result.queues, f->result.queues_count, sizeof(*f->result.queues), compare_queues);
    }
    return is_common && count > 1;
}

/* Whether no pattern begins like @subject: what is published to streams has no subscribers, and
 * what the node itself listens to begins with `$`. A pattern that begins with a wildcard begins
 * like any. */
static bool is_foreign(const struct interest *in, struct slice subject)
{
    return subject.len > 0 && in->root->star == NULL && in->root->tail == NULL &&
           in->first_counts[subject.ptr[0]] == 0;
}

const struct interest_result *interest_match(struct interest *in, struct slice subject)
{
    if (is_foreign(in, subject)) {
        in->cache_hits += in->cache != NULL;
        in->scratch.result.plain_count = 0;
        in->scratch.result.queues_count = 0;
        return &in->scratch.result;
    }
    if (in->cache == NULL || subject.len > INTEREST_CACHE_SUBJECT_BYTES_MAX || subject.len == 0 ||
        subject.ptr[subject.len - 1] == '.') {
        (void)find(in, subject, &in->scratch);
        return &in->scratch.result;
    }
    struct slice prefix = prefix_of(subject);
    const struct interest_result *known = interest_cache_last(in->cache, subject);
    if (known == NULL) {
        known = interest_cache_last(in->cache, prefix);
    }
    if (known != NULL) {
        in->cache_hits++;
        return known;
    }
    /* The prefix first: inboxes are many, so whole subjects of theirs are never found. */
    uint64_t prefix_hash = hash_bytes(in, prefix);
    known = interest_cache_find(in->cache, prefix, prefix_hash);
    if (known != NULL) {
        in->cache_hits++;
        return known;
    }
    uint64_t hash = hash_bytes(in, subject);
    known = interest_cache_find(in->cache, subject, hash);
    if (known != NULL) {
        in->cache_hits++;
        return known;
    }
    in->cache_misses++;
    if (find(in, subject, &in->scratch)) {
        subject = prefix;
        hash = prefix_hash;
    }
    const struct interest_result *r = &in->scratch.result;
    bool is_kept = interest_cache_is_asked_again(in->cache, hash) &&
                   r->plain_count + r->queues_count <= INTEREST_CACHE_SETS_MAX;
    return is_kept ? interest_cache_put(in->cache, subject, hash, &in->scratch) : r;
}

bool interest_is_any(struct interest *in, struct slice subject)
{
    const struct interest_result *r = interest_match(in, subject);
    return r->plain_count > 0 || r->queues_count > 0;
}

/* Every member counts as it weighs: nats-server weighs remote ones by their subscribers. */
static uint64_t weight_of(const struct interest_sub *sub)
{
    return sub->weight == 0 ? 1 : sub->weight;
}

struct interest_sub *interest_pick(struct interest_set *const *sets, uint32_t count,
                                   uint64_t random, bool is_local_only)
{
    uint64_t locals = 0;
    for (uint32_t i = 0; i < count; i++) {
        locals += sets[i]->local_count;
    }
    if (locals > 0) {
        uint64_t at = random % locals;
        for (uint32_t i = 0; i < count; i++) {
            if (at < sets[i]->local_count) {
                return sets[i]->subs[at];
            }
            at -= sets[i]->local_count;
        }
    }
    uint64_t weights = 0;
    for (uint32_t i = 0; i < count && !is_local_only; i++) {
        for (uint32_t j = 0; j < sets[i]->subs_count; j++) {
            weights += weight_of(sets[i]->subs[j]);
        }
    }
    uint64_t at = weights == 0 ? 0 : random % weights;
    for (uint32_t i = 0; i < count && weights > 0; i++) {
        for (uint32_t j = 0; j < sets[i]->subs_count; j++) {
            uint64_t weight = weight_of(sets[i]->subs[j]);
            if (at < weight) {
                return sets[i]->subs[j];
            }
            at -= weight;
        }
    }
    return NULL;
}

uint32_t interest_group_len(const struct interest_result *result, uint32_t begin)
{
    uint32_t end = begin;
    while (end < result->queues_count &&
           slice_eq(result->queues[end]->queue, result->queues[begin]->queue)) {
        end++;
    }
    return end - begin;
}

/* ---- The whole. ---- */

struct interest *interest_new(const struct interest_options *options)
{
    struct interest *in = xcalloc(1, sizeof *in);
    in->options = *options;
    in->root = new_node(NULL, SLICE_EMPTY, options->seed);
    table_init(&in->nodes);
    table_init(&in->sets);
    list_init(&in->all_sets);
    if (options->cache_max > 0) {
        in->cache = interest_cache_new(options->cache_max);
    }
    return in;
}

void interest_free(struct interest *in)
{
    if (in == NULL) {
        return;
    }
    LIST_FOR_SAFE(it, tmp, &in->all_sets)
    {
        free_set(in, container_of(it, struct interest_set, link));
    }
    assert(in->nodes.count == 0);
    interest_cache_free(in->cache);
    interest_found_close(&in->scratch);
    free(in->nodes.slots);
    free(in->sets.slots);
    free(in->root);
    free(in);
}

void interest_each_local(const struct interest *in, interest_local_cb cb, void *ctx)
{
    LIST_FOR(it, &in->all_sets)
    {
        const struct interest_set *s = container_of(it, struct interest_set, link);
        if (s->local_count > 0) {
            cb(ctx, s->subject, s->queue, s->local_count);
        }
    }
}

uint64_t interest_subs_count(const struct interest *in)
{
    return in->subs_count;
}

uint64_t interest_sets_count(const struct interest *in)
{
    return in->sets.count;
}

uint64_t interest_cache_hits(const struct interest *in)
{
    return in->cache_hits;
}

uint64_t interest_cache_misses(const struct interest *in)
{
    return in->cache_misses;
}

void interest_check(const struct interest *in)
{
    uint64_t subs = 0;
    uint64_t sets = 0;
    LIST_FOR(it, &in->all_sets)
    {
        const struct interest_set *s = container_of(it, struct interest_set, link);
        assert(s->subs_count > 0);
        assert(s->subs_count <= s->subs_cap);
        assert(s->local_count <= s->subs_count);
        assert(find_set(in, s->node, s->queue, s->hash) == s);
        for (uint32_t i = 0; i < s->subs_count; i++) {
            assert(s->subs[i]->set == s);
            assert(s->subs[i]->pos == i);
            assert((s->subs[i]->kind == INTEREST_LOCAL) == (i < s->local_count));
        }
        subs += s->subs_count;
        sets++;
    }
    assert(subs == in->subs_count);
    assert(sets == in->sets.count);
    uint64_t firsts = 0;
    for (unsigned i = 0; i < 256; i++) {
        firsts += in->first_counts[i];
    }
    assert(firsts == sets);
    for (uint64_t i = 0; i <= in->nodes.mask; i++) {
        const struct interest_node *n = in->nodes.slots[i].item;
        if (n != NULL) {
            struct slice token = slice_of(n->token, n->token_len);
            assert(n->children_count > 0 || !list_is_empty(&n->sets));
            assert(find_child(in, n->parent, token, hash_bytes(in, token)) == n);
        }
    }
}
