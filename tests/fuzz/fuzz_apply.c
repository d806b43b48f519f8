/* Any bytes as a stream's log: two machines take or refuse each entry alike and stay equal, and so
 * does a third that is restored from the checkpoint of the first. */
#include <stdlib.h>

#include "broker/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void put(void *arg, struct slice key, struct slice value, bool is_deleted)
{
    if (!is_deleted) {
        stream_restore_item(arg, key, value);
    }
}

static void compare_restored(struct stream *s)
{
    struct stream_restore *r = stream_restore_begin(NULL);
    struct msg_cursor c;
    msg_cursor_init(&c, stream_index(s), 0);
    uint64_t seq;
    uint32_t id;
    while (msg_cursor_next(&c, &seq, &id)) {
        struct msg_info info;
        require(stream_get_message(s, seq, &info));
        /* Only the sum of the sizes counts. */
        stream_restore_message(r, seq, info.time_ns, info.subject, 0,
                               (uint32_t)(info.size - 30 - info.subject.len));
    }
    stream_checkpoint(s, true, put, r);
    struct stream *restored;
    require(stream_restore_end(r, &restored) == 0);
    require(stream_hash(restored) == stream_hash(s));
    stream_check(restored);
    stream_free(restored);
}

/* Input: entries, each behind its length in 2 bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char config[] = "{\"name\":\"S\",\"subjects\":[\">\"],\"max_msgs\":50,"
                                 "\"max_msgs_per_subject\":5,\"duplicate_window\":1000000000,"
                                 "\"allow_rollup_hdrs\":true}";
    struct stream *a;
    struct stream *b;
    require(stream_new(slice_str(config), 1, NULL, &a) == 0);
    require(stream_new(slice_str(config), 1, NULL, &b) == 0);
    struct stream_effects ea = {0};
    struct stream_effects eb = {0};
    struct reader r = reader_of(slice_of(data, size));
    for (uint64_t index = 1; r.len > 0; index++) {
        struct slice entry = reader_bytes(&r, reader_u16(&r));
        if (r.failed) {
            break;
        }
        int rv = stream_step(a, index, 1, entry, &ea);
        require(rv == stream_step(b, index, 1, entry, &eb));
        require(stream_hash(a) == stream_hash(b));
        if (rv != 0) {
            break;
        }
    }
    stream_check(a);
    compare_restored(a);
    stream_effects_close(&ea);
    stream_effects_close(&eb);
    stream_free(a);
    stream_free(b);
    return 0;
}
