/* SHA-256. OpenSSL's own answers NULL without memory and leaves the digest as it was, or crashes
 * while it begins: in this process its memory is ours, which never runs out without a word. */
#ifndef CLUSTER_SHA256_H
#define CLUSTER_SHA256_H
#include <stdint.h>

#define SHA256_BYTES 32u

void sha256_str(const char *s, uint8_t ret_digest[SHA256_BYTES]);
#endif
