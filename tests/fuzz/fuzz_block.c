/* Any bytes as a block, under a description that fits their length: nothing but a clean answer, and
 * what is handed out lies within the bytes. */
#include <stdlib.h>

#include "storage/block.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Input: 8 bytes of description, then the block. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 8 + BLOCK_HEADER_BYTES + BLOCK_FOOTER_BYTES || size > 1u << 20) {
        return 0;
    }
    struct block_owner owner = {.gid = 1, .sid = 2};
    struct block_meta meta = {.first_seq = 1, .bytes = (uint32_t)(size - 8)};
    meta.last_seq = meta.first_seq + get_u16(data) % (BLOCK_SPAN_MAX - 1);
    meta.count = 1 + get_u16(data + 2);
    meta.index_off = BLOCK_HEADER_BYTES +
                     get_u32(data + 4) % (meta.bytes - BLOCK_FOOTER_BYTES - BLOCK_HEADER_BYTES + 1);
    uint8_t *raw = xmalloc(meta.bytes);
    memcpy(raw, data + 8, meta.bytes);
    /* The checksum of the whole is granted every second time, so that the index is reached. */
    meta.crc = (data[0] & 1) != 0 ? crc32c(0, raw, meta.bytes) : 0;
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
