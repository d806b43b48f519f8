/* Which nodes get a replica: those that fit by their tags, the least loaded of them first.
 *
 * In the reference's order of checks, so that the reasons for a refusal are its own: another
 * cluster, down, closed to new replicas ("!jetstream"), tags, unique tag. Decided by meta's leader
 * before it proposes; the log says what was chosen. */
#include <assert.h>
#include <stdlib.h>

#include "broker/meta_internal.h"

#define CLOSED_TAG "!jetstream"

/* ---- One node ---- */

static struct slice without_mark(const char *tag)
{
    struct slice s = slice_str(tag);
    return tag[0] == '!' ? slice_from(s, 1) : s;
}

/* A stream that asks for such tags itself is taken at its word. */
static const char *unique_prefix(const struct meta_choice *c)
{
    for (size_t i = 0; c->unique_tag != NULL && i < c->placement->tags_count; i++) {
        if (slice_has_prefix(without_mark(c->placement->tags[i]), slice_str(c->unique_tag))) {
            return NULL;
        }
    }
    return c->unique_tag;
}

static bool is_elsewhere(const struct meta_choice *c)
{
    return c->placement->cluster != NULL && strcmp(c->placement->cluster, c->cluster_name) != 0;
}

static const struct tag_list *tags_of(const struct meta *m, uint64_t node_id)
{
    static const struct tag_list none;
    const struct meta_node *n = meta_node_find(m, node_id);
    return n == NULL ? &none : &n->tags;
}

static bool is_chosen(const struct meta_choice *c, uint64_t node_id)
{
    for (size_t i = 0; i < c->count; i++) {
        if (c->nodes[i] == node_id) {
            return true;
        }
    }
    return false;
}

static bool has_tags(struct meta_choice *c, const struct tag_list *tags)
{
    const struct placement *p = c->placement;
    for (size_t i = 0; i < p->tags_count; i++) {
        bool is_wanted = p->tags[i][0] != '!';
        if (tags_have(tags, without_mark(p->tags[i])) != is_wanted) {
            if (c->tag_reasons == NULL) {
                c->tag_reasons = xcalloc(p->tags_count, sizeof *c->tag_reasons);
            }
            c->tag_reasons[i] = true;
            return false;
        }
    }
    return true;
}

static bool is_unique(const struct meta *m, const struct meta_choice *c,
                      const struct tag_list *tags, const char *prefix)
{
    const char *own = tags_with_prefix(tags, prefix);
    for (size_t i = 0; own != NULL && i < c->count; i++) {
        const char *other = tags_with_prefix(tags_of(m, c->nodes[i]), prefix);
        if (other != NULL && strcmp(own, other) == 0) {
            return false;
        }
    }
    return own != NULL;
}

void meta_choice_keep(struct meta_choice *c, uint64_t node_id)
{
    assert(c->count < META_REPLICAS_MAX);
    if (!is_chosen(c, node_id)) {
        c->nodes[c->count++] = node_id;
    }
}

bool meta_choice_add(const struct meta *m, struct meta_choice *c, uint64_t node_id)
{
    const struct tag_list *tags = tags_of(m, node_id);
    const char *prefix = unique_prefix(c);
    if (c->is_anywhere) {
        meta_choice_keep(c, node_id);
        return true;
    }
    if (is_elsewhere(c) || is_chosen(c, node_id)) {
        return false;
    }
    if (tags_have(tags, SLICE_LIT(CLOSED_TAG))) {
        c->is_excluded = true;
        return false;
    }
    if (!has_tags(c, tags)) {
        return false;
    }
    if (prefix != NULL && !is_unique(m, c, tags, prefix)) {
        c->is_not_unique = true;
        return false;
    }
    meta_choice_keep(c, node_id);
    return true;
}

/* ---- Among many ---- */

struct ranked {
    struct meta_candidate node;
    size_t replicas;
    size_t leaders;
};

static int by_load(const void *a, const void *b)
{
    const struct ranked *x = a;
    const struct ranked *y = b;
    if (x->node.is_doubtful != y->node.is_doubtful) {
        return x->node.is_doubtful ? 1 : -1;
    }
    if (x->replicas != y->replicas) {
        return x->replicas < y->replicas ? -1 : 1;
    }
    if (x->leaders != y->leaders) {
        return x->leaders < y->leaders ? -1 : 1;
    }
    return (x->node.node_id > y->node.node_id) - (x->node.node_id < y->node.node_id);
}

static size_t preferred_on(const struct meta *m, uint64_t node_id)
{
    size_t count = 0;
    for (const struct meta_stream *s = m->streams; s != NULL; s = s->hh.next) {
        count += s->preferred_node_id == node_id;
    }
    return count;
}

/* Among the chosen the one with the fewest leaders leads. */
static void put_leader_first(const struct meta *m, struct meta_choice *c)
{
    size_t first = 0;
    for (size_t i = 1; i < c->count; i++) {
        first = preferred_on(m, c->nodes[i]) < preferred_on(m, c->nodes[first]) ? i : first;
    }
    uint64_t leader = c->nodes[first];
    memmove(c->nodes + 1, c->nodes, first * sizeof c->nodes[0]);
    c->nodes[0] = leader;
}

bool meta_choose(const struct meta *m, struct meta_choice *c,
                 const struct meta_candidate *candidates, size_t candidates_count, size_t wanted)
{
    assert(wanted <= META_REPLICAS_MAX);
    bool is_new = c->count == 0;
    struct ranked *list = xcalloc(candidates_count + 1, sizeof *list);
    for (size_t i = 0; i < candidates_count; i++) {
        list[i].node = candidates[i];
        list[i].leaders = preferred_on(m, candidates[i].node_id);
        for (const struct meta_stream *s = m->streams; s != NULL; s = s->hh.next) {
            list[i].replicas += meta_raft_id_on(s, candidates[i].node_id) != 0;
        }
    }
    qsort(list, candidates_count, sizeof *list, by_load);
    for (size_t i = 0; i < candidates_count && c->count < wanted; i++) {
        (void)meta_choice_add(m, c, list[i].node.node_id);
    }
    free(list);
    if (is_new) {
        put_leader_first(m, c);
    }
    return c->count >= wanted && wanted > 0;
}

/* ---- Why not ---- */

static void print_tags(const struct meta_choice *c, bool is_excluding, const char *what,
                       struct buf *out)
{
    bool is_any = false;
    for (size_t i = 0; c->tag_reasons != NULL && i < c->placement->tags_count; i++) {
        struct slice tag = without_mark(c->placement->tags[i]);
        if (c->tag_reasons[i] && (c->placement->tags[i][0] == '!') == is_excluding) {
            buf_printf(out, "%s'%.*s'", is_any ? ", " : what, SLICE_ARG(tag));
            is_any = true;
        }
    }
    buf_append_str(out, is_any ? "]" : "");
}

void meta_choice_print(const struct meta_choice *c, struct buf *out)
{
    buf_append_str(out, "no suitable peers for placement");
    buf_append_str(out, c->is_offline && !is_elsewhere(c) ? ", peer offline" : "");
    buf_append_str(out, c->is_excluded ? ", exclude tag set" : "");
    buf_append_str(out, c->is_not_unique ? ", server tag not unique" : "");
    print_tags(c, false, ", tags not matched [", out);
    print_tags(c, true, ", tags excluded [", out);
}

void meta_choice_close(struct meta_choice *c)
{
    free(c->tag_reasons);
    c->tag_reasons = NULL;
}
