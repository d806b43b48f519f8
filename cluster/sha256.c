#include "cluster/sha256.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "storage/base/buf.h"

static void *take(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return size == 0 ? NULL : xmalloc(size);
}

static void *take_again(void *ptr, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    return xrealloc(ptr, size);
}

static void give(void *ptr, const char *file, int line)
{
    (void)file;
    (void)line;
    free(ptr);
}

/* Before OpenSSL allocates anything: later it refuses. */
__attribute__((constructor)) static void use_stopping_allocator(void)
{
    (void)CRYPTO_set_mem_functions(take, take_again, give);
}

void sha256_str(const char *s, uint8_t ret_digest[SHA256_BYTES])
{
    /* Two passwords must not be compared by what was in the digests. */
    if (SHA256((const unsigned char *)s, strlen(s), ret_digest) == NULL) {
        out_of_memory(SHA256_BYTES);
    }
}
