/* An image of a stream as a peer sends it, with anything changed in it under right checksums: the
 * store refuses it, or takes it and then serves what it took, in order, now and after it is opened
 * again.
 *
 * Input: a byte for what the stream is, behind its length in 2 bytes what it lives through, then
 * changes. */
#include "storage/base/err.h"
#include "storage/store_internal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/sim_disk.h"

#define GID 3u
#define SID 77u
#define PARTS_MAX 24u

static struct store *open_store(struct sim_disk *disk)
{
    struct store_options o = {.ops = sim_disk_ops(disk),
                              .dir = "store",
                              .machine_version = 1,
                              .block_bytes = 600,
                              .file_bytes = 8192,
                              .small_bytes = 1500,
                              .cache_bytes = 16384,
                              .rewrite_bytes = 16384,
                              .journal_bytes_min = 4096,
                              .dead_bytes_max = 16384};
    struct store_recovery recovery;
    struct store *st = NULL;
    int rv = store_open(&o, &recovery, &st);
    require(rv == 0);
    return st;
}

static struct sim_disk *new_disk(void)
{
    struct sim_disk *disk = sim_disk_new(1);
    const struct file_ops *ops = sim_disk_ops(disk);
    require(ops->mkdir(ops->ctx, "store") == 0);
    return disk;
}

static void flush(struct store *st, struct store_stream *s, struct store_stage *stage,
                  uint64_t index)
{
    struct store_flush *job;
    require(store_flush_begin(st, &job) == 0);
    if (stage != NULL) {
        store_flush_stage(job, stage);
    } else {
        store_flush_stream(job, s, index, 1);
        store_flush_put(job, s, SLICE_LIT("key"), SLICE_LIT("a value"));
        store_flush_put(job, s, SLICE_LIT("k2"), SLICE_EMPTY);
    }
    require(store_flush_run(job) == 0);
    store_base_durable(st, store_flush_end(job, NULL, NULL));
}

static void live(struct store *st, struct store_stream *s, struct reader r)
{
    static const uint8_t payload[200] = {1, 2, 3};
    uint64_t seq = 0;
    for (uint64_t i = 1; i <= 40 && !script_is_over(&r); i++) {
        uint8_t op = reader_u8(&r);
        uint8_t x = reader_u8(&r);
        if (op % 8 < 5) {
            seq += 1 + (op >> 6);
            struct store_message m = {.seq = seq,
                                      .time_ns = (int64_t)seq * 1000,
                                      .subject = op & 8 ? SLICE_LIT("a.b") : SLICE_LIT("c"),
                                      .header =
                                          op & 16 ? SLICE_LIT("NATS/1.0\r\n\r\n") : SLICE_EMPTY,
                                      .payload = slice_of(payload, x % sizeof payload)};
            store_append(s, &m);
        } else if (op % 8 == 5) {
            store_remove_range(s, x, x + op / 8u);
        } else {
            flush(st, s, NULL, i);
        }
    }
    flush(st, s, NULL, 41);
}

/* ---- The image ---- */

struct image {
    struct buf bytes[PARTS_MAX];
    struct store_part parts[PARTS_MAX];
    uint32_t count;
};

static void image_take(struct image *im, struct store_stream *s)
{
    struct store_image *from;
    require(store_image_open(s, &from) == 0);
    require(store_image_prepare(from) == 0);
    const struct store_part *parts = store_image_parts(from, &im->count);
    im->count = im->count < PARTS_MAX ? im->count : PARTS_MAX;
    for (uint32_t i = 0; i < im->count; i++) {
        im->parts[i] = parts[i];
        size_t len = (size_t)parts[i].bytes;
        im->bytes[i] = BUF_EMPTY;
        require(store_image_read(from, i, 0, buf_reserve(&im->bytes[i], len + 1), len) == 0);
        im->bytes[i].len = len;
    }
    store_image_close(from);
}

/* Where the @n-th item of the first part begins; the end if there are fewer. */
static size_t item_at(const struct buf *first, unsigned n)
{
    size_t at = 52;
    while (n-- > 0 && at + 7 <= first->len) {
        at += 7u + get_u16(first->ptr + at + 1) + get_u32(first->ptr + at + 3);
    }
    return at < first->len ? at : first->len;
}

static void change(struct image *im, struct reader *r)
{
    uint8_t op = reader_u8(r);
    struct buf *first = &im->bytes[0];
    uint32_t which = (op & 0x80) != 0 && im->count > 0 ? reader_u8(r) % im->count : 0;
    struct buf *b = &im->bytes[which];
    size_t at = reader_u16(r);
    if (which == 0) {
        at = item_at(first, op / 8 % 16) + at % 96;
    }
    at = b->len == 0 ? 0 : at % b->len;
    switch (op % 8) {
    case 0:
    case 1:
        if (b->len > 0) {
            b->ptr[at] = reader_u8(r);
        }
        break;
    case 2: {
        uint64_t v = script_number(r);
        if (b->len > 0) {
            memcpy(b->ptr + at, &v, b->len - at < 8 ? b->len - at : 8);
        }
        break;
    }
    case 3: { /* A field of the header. */
        uint64_t v = script_number(r);
        if (first->len >= 52) {
            memcpy(first->ptr + 8 + reader_u8(r) % 6 * 8, &v, 4);
        }
        break;
    }
    case 4: { /* An item twice, and counted. */
        size_t from = item_at(first, op / 8 % 16);
        size_t to = item_at(first, op / 8 % 16 + 1);
        struct buf copy = BUF_EMPTY;
        buf_append(&copy, first->ptr + from, to - from);
        buf_append_slice(first, buf_slice(&copy));
        buf_close(&copy);
        if (first->len >= 52) {
            put_u32(first->ptr + 48, get_u32(first->ptr + 48) + 1);
        }
        break;
    }
    case 5: /* One part less, or one twice. */
        if (im->count > 1 && (op & 0x40) != 0) {
            buf_close(&im->bytes[--im->count]);
        } else if (im->count > 1 && im->count < PARTS_MAX) {
            im->bytes[im->count] = BUF_EMPTY;
            buf_append_slice(&im->bytes[im->count], buf_slice(&im->bytes[im->count - 1]));
            im->parts[im->count] = im->parts[im->count - 1];
            im->count++;
        }
        break;
    case 6:
        b->len = at;
        break;
    default: {
        uint64_t n = script_number(r);
        buf_append(b, &n, sizeof n);
        break;
    }
    }
}

/* Blocks named by their items with the checksum and length that they have. */
static void mend(struct image *im)
{
    struct buf *first = &im->bytes[0];
    uint32_t block = 1;
    for (unsigned i = 0;; i++) {
        size_t at = item_at(first, i);
        if (at + 7 > first->len) {
            break;
        }
        size_t value = at + 7u + get_u16(first->ptr + at + 1);
        if (first->ptr[at] == KIND_BLOCK && block < im->count &&
            value + BLOCK_VALUE_BYTES <= first->len) {
            const struct buf *b = &im->bytes[block++];
            put_u32(first->ptr + value + 16, (uint32_t)b->len);
            put_u32(first->ptr + value + 60, crc32c(0, b->ptr, b->len));
        }
    }
    for (uint32_t i = 0; i < im->count; i++) {
        im->parts[i] =
            (struct store_part){im->bytes[i].len, crc32c(0, im->bytes[i].ptr, im->bytes[i].len)};
    }
}

/* ---- What became of it ---- */

struct content {
    uint64_t last_seq, messages, items, hash;
};

static void on_info(void *arg, const struct store_info *info)
{
    struct content *c = arg;
    require(info->seq > c->last_seq);
    c->last_seq = info->seq;
    c->messages++;
    c->hash = c->hash * 31 + info->seq + info->payload_bytes + info->subject.len;
}

static void on_item(void *arg, struct slice key, struct slice value)
{
    struct content *c = arg;
    c->items++;
    c->hash = c->hash * 31 + crc32c(crc32c(1, key.ptr, key.len), value.ptr, value.len);
}

static struct content look(struct store *st)
{
    struct content c = {0};
    struct store_stream *s = store_find(st, GID);
    require(s != NULL);
    require(store_stream_load(s, on_info, on_item, &c) == 0);
    struct store_stats stats;
    store_stream_stats(s, &stats);
    require(stats.messages >= c.messages);
    for (uint64_t seq = 1; seq <= 200; seq++) {
        struct store_view view;
        struct store_read read;
        int rv = store_read(s, seq, &view);
        if (rv == ERR_AGAIN && store_read_start(s, seq, &read) == 0) {
            store_read_run(&read);
            (void)store_read_done(&read);
            rv = store_read(s, seq, &view);
        }
        require(rv == 0 || rv == ERR_NOTFOUND || rv == ERR_CORRUPT);
        require(rv != 0 || view.seq == seq);
    }
    return c;
}

static void receive(struct image *im)
{
    struct sim_disk *disk = new_disk();
    struct store *st = open_store(disk);
    struct store_stage *stage = NULL;
    uint32_t bad;
    int rv = store_stage_open(st, GID, SID, im->parts, im->count, &stage);
    require(rv == 0 || rv == ERR_INVALID);
    for (uint32_t i = 0; rv == 0 && i < im->count; i++) {
        require(store_stage_write(stage, i, 0, buf_slice(&im->bytes[i])) == 0);
    }
    if (rv == 0 && store_stage_verify(stage, &bad) != 0) {
        require(bad < im->count);
        store_stage_drop(stage);
        rv = ERR_CORRUPT;
    }
    if (rv == 0) {
        flush(st, NULL, stage, 0);
        struct content first = look(st);
        store_close(st);
        st = open_store(disk);
        struct content second = look(st);
        require(first.messages == second.messages && first.hash == second.hash);
        struct store_stream *s = store_find(st, GID);
        uint64_t index, term;
        store_stream_applied(s, &index, &term);
        store_remove_range(s, 0, 3);
        flush(st, s, NULL, index + 1);
    }
    store_close(st);
    sim_disk_free(disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(slice_of(data, size));
    struct sim_disk *disk = new_disk();
    struct store *st = open_store(disk);
    struct store_stream *s = store_stream_create(st, GID, SID);
    struct image im = {.count = 0};
    live(st, s, reader_of(script_long_bytes(&r)));
    image_take(&im, s);
    for (int i = 0; i < 16 && !script_is_over(&r); i++) {
        change(&im, &r);
    }
    mend(&im);
    receive(&im);
    for (uint32_t i = 0; i < im.count; i++) {
        buf_close(&im.bytes[i]);
    }
    store_close(st);
    sim_disk_free(disk);
    return 0;
}
