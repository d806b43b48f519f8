#include <stdlib.h>

#include "broker/stream.h"

static void *grow(void *array, size_t count, size_t *cap, size_t size)
{
    if (count < *cap) {
        return array;
    }
    *cap = *cap == 0 ? 16 : *cap * 2;
    return xrealloc(array, *cap * size);
}

#define APPEND(e, name)                                                                            \
    ((e)->name = grow((e)->name, (e)->name##_count, &(e)->name##_cap, sizeof *(e)->name),          \
     memset(&(e)->name[(e)->name##_count], 0, sizeof *(e)->name), &(e)->name[(e)->name##_count++])

void stream_effects_clear(struct stream_effects *e)
{
    for (size_t i = 0; i < e->texts_count; i++) {
        free(e->texts[i]);
    }
    e->texts_count = 0;
    e->stores_count = 0;
    e->removes_count = 0;
    e->replies_count = 0;
    e->admin_replies_count = 0;
    e->delivers_count = 0;
    e->advisories_count = 0;
    e->has_digest = false;
    e->is_leader_changed = false;
    e->is_config_changed = false;
    e->is_unsure_told = false;
    e->is_sure_told = false;
    e->shift_ns = 0;
}

void stream_effects_close(struct stream_effects *e)
{
    stream_effects_clear(e);
    free(e->texts);
    free(e->stores);
    free(e->removes);
    free(e->replies);
    free(e->admin_replies);
    free(e->delivers);
    free(e->advisories);
    memset(e, 0, sizeof *e);
}

struct effect_store *effects_store(struct stream_effects *e)
{
    return APPEND(e, stores);
}

struct effect_reply *effects_reply(struct stream_effects *e)
{
    return APPEND(e, replies);
}

struct effect_admin_reply *effects_admin_reply(struct stream_effects *e)
{
    return APPEND(e, admin_replies);
}

struct effect_deliver *effects_deliver(struct stream_effects *e)
{
    return APPEND(e, delivers);
}

struct effect_advisory *effects_advisory(struct stream_effects *e)
{
    return APPEND(e, advisories);
}

void effects_remove(struct stream_effects *e, uint64_t first_seq, uint64_t last_seq)
{
    if (e->removes_count > 0 && e->removes[e->removes_count - 1].last_seq + 1 == first_seq) {
        e->removes[e->removes_count - 1].last_seq = last_seq;
        return;
    }
    struct effect_remove *r = APPEND(e, removes);
    r->first_seq = first_seq;
    r->last_seq = last_seq;
}

struct slice effects_text(struct stream_effects *e, struct slice s)
{
    if (s.len == 0) {
        return SLICE_EMPTY;
    }
    uint8_t **text = APPEND(e, texts);
    *text = (uint8_t *)xslicedup(s);
    return slice_of(*text, s.len);
}
