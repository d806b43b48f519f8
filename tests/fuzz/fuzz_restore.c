/* Any bytes as the checkpoint items of a stream with its messages: what comes of it is refused, or
 * a sound machine that goes on and can be restored again to the same hash. Items mostly come from a
 * real machine with consumers and are changed in places.
 *
 * Input: a byte; what the machine lives through, behind its length in 2 bytes; then changes. */
#include "broker/consumer.h"
#include "broker/stream.h"
#include "storage/base/err.h"
#include "tests/fuzz/stream_script.h"

#define ITEMS_MAX 64u

struct item {
    struct buf key, value;
};

struct items {
    struct item ptr[ITEMS_MAX];
    size_t n;
};

static void on_item(void *arg, struct slice key, struct slice value, bool is_deleted)
{
    struct items *l = arg;
    if (!is_deleted && l->n < ITEMS_MAX) {
        struct item *it = &l->ptr[l->n++];
        it->key = it->value = BUF_EMPTY;
        buf_append_slice(&it->key, key);
        buf_append_slice(&it->value, value);
    }
}

static void items_close(struct items *l)
{
    for (size_t i = 0; i < l->n; i++) {
        buf_close(&l->ptr[i].key);
        buf_close(&l->ptr[i].value);
    }
}

/* A life of a few entries; what it stores is in the index. */
static void live(struct stream *s, uint64_t *index, struct reader r, bool is_whole)
{
    struct entry_builder b = ENTRY_BUILDER_EMPTY;
    struct stream_effects e = {0};
    for (int i = 0; i < 24 && !script_is_over(&r); i++) {
        ++*index;
        /* Deliveries here are not planned: what the machine counts on, it need not hold. */
        bool is_planned = script_entry(&r, &b, *index % 1000000);
        is_whole = is_whole && is_planned;
        struct slice entry = entry_end(&b, (int64_t)(*index % 1000000) * 1000000);
        int rv = stream_step(s, *index, 1, entry, &e);
        require(rv == 0 || rv == ERR_INVALID);
    }
    if (is_whole) {
        stream_check(s);
    }
    entry_close(&b);
    stream_effects_close(&e);
}

static void give_messages(struct stream_restore *r, const struct stream *s)
{
    struct msg_cursor c;
    uint64_t seq;
    uint32_t id;
    msg_cursor_init(&c, stream_index(s), 0);
    while (msg_cursor_next(&c, &seq, &id)) {
        struct msg_info info;
        require(stream_get_message(s, seq, &info));
        stream_restore_message(r, seq, info.time_ns, info.subject, 0,
                               (uint32_t)(info.size - 30 - info.subject.len));
    }
}

static int restore(const struct items *l, const struct stream *messages, struct stream **ret)
{
    struct stream_restore *r = stream_restore_begin(&consumer_ops);
    give_messages(r, messages);
    for (size_t i = 0; i < l->n; i++) {
        stream_restore_item(r, buf_slice(&l->ptr[i].key), buf_slice(&l->ptr[i].value));
    }
    return stream_restore_end(r, ret);
}

/* Bytes of an item: changed, inserted, cut off; or another item. */
static void change(struct items *l, struct reader *r)
{
    uint8_t op = reader_u8(r);
    if (l->n == 0 || op % 8 == 7) {
        struct slice key = script_bytes(r);
        on_item(l, key, script_long_bytes(r), false);
        return;
    }
    struct item *it = &l->ptr[reader_u8(r) % l->n];
    struct buf *b = (op & 128) != 0 ? &it->key : &it->value;
    size_t at = b->len == 0 ? 0 : reader_u16(r) % b->len;
    switch (op % 8) {
    case 0:
    case 1:
        if (b->len > 0) {
            b->ptr[at] = reader_u8(r);
        }
        break;
    case 2: {
        uint64_t v = script_number(r);
        size_t width = b->len - at < 8 ? b->len - at : 8;
        memcpy(b->ptr == NULL ? (uint8_t *)&v : b->ptr + at, &v, width);
        break;
    }
    case 3:
        b->len = at;
        break;
    case 4: {
        struct slice s = script_bytes(r);
        struct buf rest = BUF_EMPTY;
        buf_append_slice(&rest, slice_from(buf_slice(b), at));
        b->len = at;
        buf_append_slice(b, s);
        buf_append_slice(b, buf_slice(&rest));
        buf_close(&rest);
        break;
    }
    case 5:
        buf_close(b);
        buf_append_slice(b, script_long_bytes(r));
        break;
    default: /* It is gone. */
        buf_close(&it->key);
        buf_close(&it->value);
        *it = l->ptr[--l->n];
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const configs[] = {
        "{\"name\":\"S\",\"subjects\":[\"a.>\"],\"max_msgs_per_subject\":3}",
        "{\"name\":\"S\",\"subjects\":[\"a.>\"],\"retention\":\"workqueue\"}",
        "{\"name\":\"S\",\"subjects\":[\"a.>\"],\"retention\":\"interest\",\"max_age\":9000000}",
    };
    struct reader r = reader_of(slice_of(data, size));
    struct stream *s;
    uint64_t index = 0;
    require(stream_new(slice_str(configs[reader_u8(&r) % 3]), 1, &consumer_ops, &s) == 0);
    struct slice life = script_long_bytes(&r);
    live(s, &index, reader_of(life), true);
    struct items items = {.n = 0};
    stream_checkpoint(s, true, on_item, &items);
    struct stream *same;
    require(restore(&items, s, &same) == 0);
    require(stream_hash(same) == stream_hash(s));
    stream_free(same);

    while (!script_is_over(&r)) {
        change(&items, &r);
    }
    struct stream *other = NULL;
    int rv = restore(&items, s, &other);
    require(rv == 0 || rv == ERR_INVALID || rv == ERR_VERSION || rv == ERR_CORRUPT);
    struct stream_info info;
    if (rv == 0 || rv == ERR_CORRUPT) {
        stream_get_info(other, &info);
        index = info.applied_index;
        if (index < UINT64_MAX - 100) {
            live(other, &index, reader_of(life), false);
        }
    }
    if (rv == 0) {
        struct items again = {.n = 0};
        struct stream *third;
        stream_checkpoint(other, true, on_item, &again);
        if (again.n < ITEMS_MAX) {
            require(restore(&again, other, &third) == 0);
            require(stream_hash(third) == stream_hash(other));
            stream_free(third);
        }
        items_close(&again);
    }
    if (other != NULL) {
        stream_free(other);
    }
    items_close(&items);
    stream_free(s);
    return 0;
}
