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

/* ---- Joining: polynomials over two elements, the bit of x^0 being the highest ---- */

#define POLYNOMIAL 0x82f63b78u
#define ONE 0x80000000u

static uint32_t times_x(uint32_t a)
{
    return a >> 1 ^ ((a & 1) != 0 ? POLYNOMIAL : 0);
}

static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (; a != 0; a <<= 1) {
        product ^= (a & ONE) != 0 ? b : 0;
        b = times_x(b);
    }
    return product;
}

uint32_t crc32c_join(uint32_t a, uint32_t b, size_t b_len)
{
    /* To append a byte is to multiply by x^8; what the inversions of both add cancels out. */
    uint32_t power = ONE >> 8;
    for (; b_len > 0; b_len >>= 1) {
        if ((b_len & 1) != 0) {
            a = multiply(a, power);
        }
        power = multiply(power, power);
    }
    return a ^ b;
}
