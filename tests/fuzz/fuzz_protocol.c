/* Any bytes from a client, cut by their own first byte: the same events as when fed whole. */
#include <stdlib.h>

#include "broker/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Hash of types and contents, and the error at the end. */
static uint64_t feed(struct slice in, size_t piece)
{
    struct protocol p;
    protocol_init(&p, 64, 256);
    p.has_headers = true;
    uint64_t hash = 14695981039346656037u;
    size_t used = 0;
    for (size_t have = 0; have < in.len;) {
        have = piece == 0 || piece > in.len - have ? in.len : have + piece;
        for (;;) {
            struct protocol_event ev = {0};
            /* A copy of exactly what was read, for ASan. */
            uint8_t *copy = xmalloc(have - used);
            memcpy(copy, in.ptr + used, have - used);
            enum protocol_event_type type = protocol_next(&p, slice_of(copy, have - used), &ev);
            used += ev.consumed_bytes;
            if (used > have || protocol_need(&p) > 64 + 256 + 16) {
                abort();
            }
            if (type != PROTOCOL_NEED_MORE) {
                struct slice parts[] = {ev.arg, ev.subject, ev.reply,  ev.queue,
                                        ev.sid, ev.header,  ev.payload};
                hash = (hash ^ (uint64_t)type ^ (uint64_t)ev.error << 8) * 1099511628211u;
                for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
                    hash = (hash ^ parts[i].len) * 1099511628211u;
                    for (size_t k = 0; k < parts[i].len; k++) {
                        hash = (hash ^ parts[i].ptr[k]) * 1099511628211u;
                    }
                }
            }
            free(copy);
            if (type == PROTOCOL_FAILED) {
                return hash;
            }
            if (type == PROTOCOL_NEED_MORE) {
                break;
            }
        }
    }
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 4096) {
        return 0;
    }
    struct slice in = slice_of(data + 1, size - 1);
    if (feed(in, 0) != feed(in, 1 + data[0] % 17)) {
        abort();
    }
    return 0;
}
