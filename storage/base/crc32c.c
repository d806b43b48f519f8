#include "storage/base/crc32c.h"

#include <stdbool.h>
#include <string.h>

#include <isa-l/crc.h>

/* Below this many bytes one instruction after another beats the library's call and its folding. */
#define SHORT_BYTES_MAX 256u
#define CHUNK_BYTES (1u << 30) /* The library counts in int. */

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_short(uint32_t crc, const uint8_t *p,
                                                            size_t len)
{
    uint64_t c = crc;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = __builtin_ia32_crc32di(c, word);
        p += 8;
        len -= 8;
    }
    crc = (uint32_t)c;
    while (len > 0) {
        crc = __builtin_ia32_crc32qi(crc, *p);
        p++;
        len--;
    }
    return crc;
}
#endif

uint32_t crc32c(uint32_t crc, const void *ptr, size_t len)
{
    const uint8_t *p = ptr;
    crc = ~crc;
#if defined(__x86_64__)
    if (len < SHORT_BYTES_MAX && __builtin_cpu_supports("sse4.2")) {
        return ~crc_short(crc, p, len);
    }
#endif
    while (len > 0) {
        size_t n = len < CHUNK_BYTES ? len : CHUNK_BYTES;
        /* The library only reads, though it does not say so. */
        crc = crc32_iscsi((unsigned char *)(uintptr_t)p, (int)n, crc);
        p += n;
        len -= n;
    }
    return ~crc;
}
