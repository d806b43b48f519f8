/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): SSE4.2 for short runs, ISA-L for long ones. */
#ifndef STORAGE_BASE_CRC32C_H
#define STORAGE_BASE_CRC32C_H
#include <stddef.h>
#include <stdint.h>

/* Continue @crc (0 at the beginning) over @len bytes. crc32c(crc32c(0, a), b) equals crc32c(0, ab).
 */
uint32_t crc32c(uint32_t crc, const void *ptr, size_t len);

/* The checksum of two runs one after the other, from theirs: crc32c(0, ab) from @a, that of the
 * first, and @b, that of the second, which is @b_len bytes long. About a microsecond, whatever the
 * length. */
uint32_t crc32c_join(uint32_t a, uint32_t b, size_t b_len);
#endif
