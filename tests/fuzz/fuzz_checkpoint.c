/* Any bytes as a checkpoint journal, with and without right checksums; the keys handed out are
 * touched. */
#include "storage/base/crc32c.h"
#include "storage/block_format.h"
#include "storage/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_item(void *arg, uint8_t kind, struct slice key, uint32_t value_bytes)
{
    uint64_t *sum = arg;
    *sum += kind + value_bytes;
    for (size_t i = 0; i < key.len; i++) {
        *sum += key.ptr[i];
    }
}

/* Make the checksums of the items in @body right, as far as they follow one another. */
static uint32_t mend_items(uint8_t *body, size_t len)
{
    uint32_t count = 0;
    size_t off = 0;
    while (len - off >= 20) {
        uint8_t *p = body + off;
        p[0] = (uint8_t)(1 + p[0] % 4);
        put_u32(p + 4, get_u32(p + 4) & 0xff);
        put_u16(p + 2, get_u16(p + 2) & 0x1f);
        size_t bytes = (size_t)20 + get_u16(p + 2) + get_u32(p + 4);
        if (bytes > len - off) {
            break;
        }
        put_u32(p + 16, 0);
        put_u32(p + 16, crc32c(0, p, bytes));
        off += bytes;
        count++;
    }
    return count;
}

/* Input: a first byte that says how much is mended, then frames. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 + 48) {
        return 0;
    }
    struct buf file = BUF_EMPTY;
    memset(buf_reserve(&file, 4096), 0, 4096);
    file.len = 4096;
    memcpy(file.ptr, "WEIRCKP1", 8);
    put_u32(file.ptr + 8, 1);
    put_u64(file.ptr + 16, 1);
    put_u32(file.ptr + 24, crc32c(0, file.ptr, 4096));
    buf_append(&file, data + 1, size - 1);
    uint8_t *h = file.ptr + 4096;
    size_t body_bytes = size - 1 - 48;
    if ((data[0] & 1) != 0) {
        put_u32(h + 40, mend_items(h + 48, body_bytes));
    }
    if ((data[0] & 2) != 0) {
        put_u32(h, 0x464b4357u);
        put_u64(h + 8, 1);
        put_u64(h + 24, (data[0] & 4) != 0 ? body_bytes : body_bytes / 2);
        put_u32(h + 32, crc32c(0, h + 48, (size_t)get_u64(h + 24)));
        put_u32(h + 36, 0);
        put_u32(h + 4, 0);
        put_u32(h + 4, crc32c(0, h, 48));
    }
    struct checkpoint_recovery rec;
    uint64_t sum = 0;
    struct slice copies[][CHECKPOINT_COPIES] = {{buf_slice(&file), SLICE_EMPTY},
                                                {slice_of(data, size), buf_slice(&file)},
                                                {slice_of(data, size), SLICE_EMPTY}};
    for (unsigned i = 0; i < 3; i++) {
        checkpoint_parse(copies[i], 1, on_item, &sum, &rec);
    }
    /* Two copies with different damage: items of both are joined. */
    struct buf other = BUF_EMPTY;
    buf_append_slice(&other, buf_slice(&file));
    other.ptr[4096 + data[0] % (size - 1)] ^= 0x10;
    struct slice pair[CHECKPOINT_COPIES] = {buf_slice(&other), buf_slice(&file)};
    checkpoint_parse(pair, 1, on_item, &sum, &rec);
    buf_close(&other);
    buf_close(&file);
    return 0;
}
