/* A stream under test, with an open batch. */
#ifndef TESTS_UNIT_STREAM_WORLD_H
#define TESTS_UNIT_STREAM_WORLD_H
#include <criterion/criterion.h>

#include "broker/stream.h"
#include "storage/base/err.h"

#define SECOND 1000000000ll

struct world {
    struct stream *s;
    struct stream_effects e;
    struct entry_builder b;
    uint64_t index;
    int64_t now;
};

static inline void world_begin(struct world *w)
{
    entry_begin(&w->b, ENTRY_MACHINE_VERSION);
}

static inline void world_open(struct world *w, const char *config)
{
    memset(w, 0, sizeof *w);
    w->now = 1000 * SECOND;
    cr_assert_eq(stream_new(slice_str(config), w->now, NULL, &w->s), 0);
    world_begin(w);
}

static inline void world_close(struct world *w)
{
    stream_free(w->s);
    stream_effects_close(&w->e);
    entry_close(&w->b);
}

/* Apply the open batch. */
static inline void world_step(struct world *w)
{
    cr_assert_eq(stream_step(w->s, ++w->index, 1, entry_end(&w->b, w->now), &w->e), 0);
    stream_check(w->s);
}

/* One message without lane; its reply. */
static inline const struct effect_reply *world_publish(struct world *w,
                                                       const struct publish_message *m)
{
    world_begin(w);
    entry_publish(&w->b, 0, 0, 0, m);
    world_step(w);
    cr_assert_eq(w->e.replies_count, 1u);
    return &w->e.replies[0];
}

static inline const struct effect_reply *world_pub(struct world *w, const char *subject)
{
    struct publish_message m = {.subject = slice_str(subject), .payload = SLICE_LIT("x")};
    return world_publish(w, &m);
}

/* Checkpoint items, and what a store would hand back. */
struct shelf_item {
    struct slice key, value;
};
struct shelf {
    struct shelf_item items[4096];
    size_t count;
};

static inline void shelf_put(void *arg, struct slice key, struct slice value, bool is_deleted)
{
    struct shelf *shelf = arg;
    size_t at = 0;
    while (at < shelf->count && !slice_eq(shelf->items[at].key, key)) {
        at++;
    }
    if (at < shelf->count) {
        free((void *)shelf->items[at].key.ptr);
        free((void *)shelf->items[at].value.ptr);
        shelf->items[at] = shelf->items[--shelf->count];
    }
    cr_assert(shelf->count < 4096);
    if (!is_deleted) {
        shelf->items[shelf->count++] = (struct shelf_item){slice_of(xslicedup(key), key.len),
                                                           slice_of(xslicedup(value), value.len)};
    }
}

static inline void shelf_close(struct shelf *shelf)
{
    while (shelf->count > 0) {
        shelf->count--;
        free((void *)shelf->items[shelf->count].key.ptr);
        free((void *)shelf->items[shelf->count].value.ptr);
    }
}

/* Rebuild from the shelf and the live messages of @from. Messages here have no headers. */
static inline struct stream *shelf_restore(const struct shelf *shelf, const struct stream *from)
{
    struct stream_restore *r = stream_restore_begin(NULL);
    struct msg_cursor c;
    msg_cursor_init(&c, stream_index(from), 0);
    uint64_t seq;
    uint32_t id;
    while (msg_cursor_next(&c, &seq, &id)) {
        struct msg_info info;
        stream_get_message(from, seq, &info);
        stream_restore_message(r, seq, info.time_ns, info.subject, 0,
                               (uint32_t)(info.size - 30 - info.subject.len));
    }
    for (size_t i = shelf->count; i-- > 0;) {
        stream_restore_item(r, shelf->items[i].key, shelf->items[i].value);
    }
    struct stream *s = NULL;
    cr_assert_eq(stream_restore_end(r, &s), 0);
    stream_check(s);
    return s;
}
#endif
