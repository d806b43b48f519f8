#include "tests/golden/golden_meta.h"

#include <assert.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static void add_text(struct buf *b, struct slice s)
{
    buf_append_u32(b, (uint32_t)s.len);
    buf_append_slice(b, s);
}

static struct buf *note(struct golden_meta *g, char letter, const struct meta_asker *asker,
                        uint64_t index)
{
    struct buf *b = &g->events;
    buf_append_u8(b, (uint8_t)letter);
    buf_append_u64(b, index);
    buf_append_u64(b, asker == NULL ? 0 : asker->node_id);
    add_text(b, asker == NULL ? SLICE_EMPTY : asker->inbox);
    if (strchr(g->seen, letter) == NULL) {
        g->seen[strlen(g->seen)] = letter;
    }
    return b;
}

static void note_stream(struct golden_meta *g, char letter, const struct meta_stream *s,
                        const struct meta_asker *asker, uint64_t index)
{
    struct buf *b = note(g, letter, asker, index);
    buf_append_u64(b, s->gid);
    buf_append_u64(b, s->version);
    buf_append_u64(b, s->placed);
    add_text(b, slice_str(s->config.name));
}

static void on_created(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                       uint64_t index)
{
    note_stream(arg, 'c', s, asker, index);
}

static void on_repeated(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                        uint64_t index)
{
    note_stream(arg, 'r', s, asker, index);
}

static void on_updated(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                       uint64_t index)
{
    note_stream(arg, 'u', s, asker, index);
}

static void on_placed(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                      uint64_t index)
{
    note_stream(arg, 'p', s, asker, index);
}

static void on_deleted(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                       uint64_t index)
{
    note_stream(arg, 'd', s, asker, index);
}

static void on_refused(void *arg, const char *type, const struct api_error *error,
                       const struct meta_asker *asker, uint64_t index)
{
    struct golden_meta *g = arg;
    struct buf *b = note(g, 'x', asker, index);
    size_t max = sizeof g->error_codes / sizeof g->error_codes[0];
    size_t i = 0;
    add_text(b, slice_str(type));
    buf_append_u32(b, (uint32_t)error->err_code);
    while (i + 1 < max && g->error_codes[i] != 0 && g->error_codes[i] != error->err_code) {
        i++;
    }
    g->error_codes[i] = error->err_code;
}

static void on_node(void *arg, const struct meta_node *n)
{
    struct buf *b = note(arg, 'n', NULL, 0);
    buf_append_u64(b, n->node_id);
    buf_append_u64(b, n->boot_count);
    buf_append_u64(b, n->raft_id);
    add_text(b, slice_str(n->name));
}

static void on_removed(void *arg, const struct meta_node *n, const struct meta_asker *asker,
                       uint64_t index)
{
    buf_append_u64(note(arg, 'm', asker, index), n->node_id);
}

void golden_meta_open(struct golden_meta *g)
{
    struct meta_events events = {on_created, on_repeated, on_updated, on_placed, on_deleted,
                                 on_refused, on_node,     on_removed, g};
    *g = (struct golden_meta){.events = BUF_EMPTY};
    g->m = meta_new(&events);
}

void golden_meta_close(struct golden_meta *g)
{
    meta_free(g->m);
    buf_close(&g->events);
}

int golden_meta_step(struct golden_meta *g, uint64_t index, struct slice entry,
                     struct golden_step *ret_step)
{
    buf_clear(&g->events);
    int rv = meta_apply(g->m, index, entry);
    if (rv == 0) {
        *ret_step = (struct golden_step){.entry = entry,
                                         .state_hash = meta_hash(g->m),
                                         .effects_hash = XXH3_64bits(g->events.ptr, g->events.len)};
    }
    return rv;
}
