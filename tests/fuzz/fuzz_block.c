/* Any bytes as a block, under a description that fits their length: nothing but a clean answer, and
 * what is handed out lies within the bytes. */
#include <stdlib.h>

#include "storage/block.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Header, footer and checksums as a writer would make them around what is there: else no input gets
 * behind them. The counts and offsets within the index stay as they are. */
static void make_right(uint8_t *raw, const struct block_owner *owner, const struct block_meta *meta)
{
    uint8_t *f = raw + meta->bytes - BLOCK_FOOTER_BYTES;
    put_u32(raw, BLOCK_MAGIC);
    put_u16(raw + 4, BLOCK_FORMAT_VERSION);
    put_u64(raw + 16, owner->gid);
    put_u64(raw + 24, owner->sid);
    put_u64(raw + 32, meta->first_seq);
    put_u32(raw + 12, 0);
    put_u32(raw + 12, crc32c(0, raw, BLOCK_HEADER_BYTES));
    for (uint8_t *r = raw + BLOCK_HEADER_BYTES; r + RECORD_HEADER_BYTES <= raw + meta->index_off;) {
        r[4] = BLOCK_FORMAT_VERSION;
        if (record_bytes(r) > (uint64_t)(raw + meta->index_off - r)) {
            break;
        }
        put_u32(r, record_crc(r, owner->sid));
        r += record_bytes(r);
    }
    put_u32(f, BLOCK_FOOTER_MAGIC);
    put_u64(f + 8, owner->sid);
    put_u64(f + 16, meta->first_seq);
    put_u64(f + 24, meta->last_seq);
    put_u32(f + 48, meta->count);
    put_u32(f + 56, meta->index_off);
    put_u32(f + 60, meta->index_off + meta->count * INDEX_ENTRY_BYTES);
    put_u32(f + 76, meta->bytes);
    put_u32(f + 68, crc32c(0, raw + meta->index_off, (size_t)(f - raw) - meta->index_off));
    put_u32(f + 4, 0);
    put_u32(f + 4, crc32c(0, f, BLOCK_FOOTER_BYTES));
}

/* Input: u8 flags (1: the checksum of the whole is right, 2: so is all that make_right makes), then
 * 8 bytes of description, then the block. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 9 + BLOCK_HEADER_BYTES + BLOCK_FOOTER_BYTES || size > 1u << 20) {
        return 0;
    }
    uint8_t flags = *data++;
    size--;
    struct block_owner owner = {.gid = 1, .sid = 2};
    struct block_meta meta = {.first_seq = 1, .bytes = (uint32_t)(size - 8)};
    meta.last_seq = meta.first_seq + get_u16(data) % (BLOCK_SPAN_MAX - 1);
    meta.count = 1 + get_u16(data + 2);
    meta.index_off = BLOCK_HEADER_BYTES +
                     get_u32(data + 4) % (meta.bytes - BLOCK_FOOTER_BYTES - BLOCK_HEADER_BYTES + 1);
    uint8_t *raw = xmalloc(meta.bytes);
    memcpy(raw, data + 8, meta.bytes);
    if ((flags & 2) != 0) {
        make_right(raw, &owner, &meta);
    }
    /* Granted, so that the index is reached. */
    meta.crc = (flags & 1) != 0 ? crc32c(0, raw, meta.bytes) : 0;
    struct store_mem *mem;
    bool is_index_bad;
    block_load(raw, &owner, &meta, &mem, &is_index_bad);
    for (uint32_t i = 0; i < mem->span; i++) {
        const uint8_t *r = mem->records[i];
        if (r == NULL || r == RECORD_DAMAGED) {
            continue;
        }
        if (r < raw || r + RECORD_HEADER_BYTES > raw + meta.bytes ||
            (meta.crc == 0 && r + record_bytes(r) > raw + meta.bytes)) {
            abort();
        }
    }
    mem_unref(mem);
    return 0;
}
