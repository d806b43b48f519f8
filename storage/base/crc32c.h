/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): SSE4.2 for short runs, ISA-L for long ones. */
#ifndef STORAGE_BASE_CRC32C_H
#define STORAGE_BASE_CRC32C_H
#include <stddef.h>
#include <stdint.h>

/* Continue @crc (0 at the beginning) over @len bytes. crc32c(crc32c(0, a), b) equals crc32c(0, ab).
 */
uint32_t crc32c(uint32_t crc, const void *ptr, size_t len);
#endif
