/* Any bytes as a stream's log: two machines take or refuse each entry alike and stay equal, and so
 * does a third that is restored from the checkpoint of the first. */
#include "tests/fuzz/stream_script.h"

static void put(void *arg, struct slice key, struct slice value, bool is_deleted)
{
    if (!is_deleted) {
        stream_restore_item(arg, key, value);
    }
}

static void compare_restored(struct stream *s, const struct stream_consumer_ops *ops)
{
    struct stream_restore *r = stream_restore_begin(ops);
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
    if (ops == NULL) {
        stream_check(restored);
    }
    stream_free(restored);
}

/* An entry as a leader makes it with some bytes changed, or any bytes. */
static void make_entry(struct reader *r, struct entry_builder *b, uint64_t index, struct buf *out)
{
    uint8_t how = reader_u8(r);
    buf_clear(out);
    if (how % 8 == 7) {
        buf_append_slice(out, script_long_bytes(r));
        return;
    }
    (void)script_entry(r, b, index);
    buf_append_slice(out, entry_end(b, (int64_t)index * 1000000));
    for (unsigned i = 0; i < how / 8u % 4 && out->len > 0; i++) {
        size_t at = reader_u16(r) % out->len;
        out->ptr[at] = reader_u8(r);
    }
    if ((how & 0x80) != 0) {
        out->len -= reader_u8(r) % (out->len + 1);
    }
}

/* Input: a byte that says whether there are consumers, whose deliveries nobody plans here, so that
 * what the machine counts on need not hold; then entries. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char config[] = "{\"name\":\"S\",\"subjects\":[\">\"],\"max_msgs\":50,"
                                 "\"max_msgs_per_subject\":5,\"duplicate_window\":1000000000,"
                                 "\"allow_rollup_hdrs\":true}";
    struct reader r = reader_of(slice_of(data, size));
    const struct stream_consumer_ops *ops = reader_u8(&r) % 2 == 0 ? NULL : &consumer_ops;
    struct stream *a;
    struct stream *b;
    require(stream_new(slice_str(config), 1, ops, &a) == 0);
    require(stream_new(slice_str(config), 1, ops, &b) == 0);
    struct stream_effects ea = {0};
    struct stream_effects eb = {0};
    struct entry_builder builder = ENTRY_BUILDER_EMPTY;
    struct buf bytes = BUF_EMPTY;
    for (uint64_t index = 1; index <= 64 && !script_is_over(&r); index++) {
        make_entry(&r, &builder, index, &bytes);
        struct slice entry = buf_slice(&bytes);
        int rv = stream_step(a, index, 1, entry, &ea);
        require(rv == stream_step(b, index, 1, entry, &eb));
        require(stream_hash(a) == stream_hash(b));
    }
    entry_close(&builder);
    buf_close(&bytes);
    if (ops == NULL) {
        stream_check(a);
    }
    compare_restored(a, ops);
    stream_effects_close(&ea);
    stream_effects_close(&eb);
    stream_free(a);
    stream_free(b);
    return 0;
}
