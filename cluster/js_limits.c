/* What this node stores at most (`max_file_store`, `max_memory_store`).
 *
 * The leader of a stream refuses publishes while its node holds as much as it may: the decision
 * depends on one node, so it is taken before proposing and the entry carries the refusal (design
 * 4). A stream that reserves more than is left is not created. Followers store what was
 * acknowledged whatever their own limit: what is acknowledged is never dropped. */
#include "cluster/js_limits.h"

#include "broker/stream.h"
#include "broker/stream_config.h"
#include "cluster/js_internal.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/node_options.h"

#define LOOK_EVERY_MS 100 /* Walking all streams at each publish would be dear. */

static int64_t limit_of(const struct js *js, enum stream_storage storage)
{
    const struct node_options *o = js->ctx->options;
    return storage == STORAGE_MEMORY ? o->max_memory_bytes : o->max_file_bytes;
}

static void look(struct js *js)
{
    js->limits = (struct js_limits){.looked_ms = loop_now_ms(js->loop)};
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        struct stream_info s;
        if (st->machine == NULL) {
            continue;
        }
        stream_get_info(st->machine, &s);
        const struct stream_config *c = stream_get_config(st->machine);
        bool is_memory = c->storage == STORAGE_MEMORY;
        js->limits.used_bytes[is_memory] += s.bytes;
        js->limits.reserved_bytes[is_memory] += c->max_bytes > 0 ? (uint64_t)c->max_bytes : 0;
    }
}

bool js_limits_are_reached(struct js *js, enum stream_storage storage, size_t bytes)
{
    int64_t limit = limit_of(js, storage);
    if (limit < 0) {
        return false;
    }
    if (loop_now_ms(js->loop) - js->limits.looked_ms >= LOOK_EVERY_MS) {
        look(js);
    }
    /* What is let through counts at once, until the next look sees it stored. */
    uint64_t *used = &js->limits.used_bytes[storage == STORAGE_MEMORY];
    if (*used + bytes > (uint64_t)limit) {
        return true;
    }
    *used += bytes;
    return false;
}

bool js_limits_leave_room(struct js *js, const struct stream_config *c)
{
    int64_t limit = limit_of(js, c->storage);
    if (js->reserve.is_low) {
        return false;
    }
    if (limit < 0) {
        return true;
    }
    look(js);
    uint64_t wanted = c->max_bytes > 0 ? (uint64_t)c->max_bytes : 0;
    uint64_t reserved = js->limits.reserved_bytes[c->storage == STORAGE_MEMORY];
    return limit > 0 && wanted <= (uint64_t)limit && reserved <= (uint64_t)limit - wanted;
}
