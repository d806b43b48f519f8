/* Any bytes as a header block: what is valid stays valid when lines are added. */
#include <stdlib.h>

#include "broker/headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice block = slice_of(data, size);
    headers_is_valid(block);
    struct headers_iter it = headers_iter(block);
    struct slice name;
    struct slice value;
    while (headers_next(&it, &name, &value)) {
        struct slice found;
        if (name.len == 0 || !headers_find(block, name, &found)) {
            abort();
        }
    }
    struct buf out = BUF_EMPTY;
    headers_append(&out, block, "Nats-Fuzz", SLICE_LIT("1"));
    if (!headers_is_valid(buf_slice(&out)) ||
        !headers_find_str(buf_slice(&out), "Nats-Fuzz", &value)) {
        abort();
    }
    buf_close(&out);
    return 0;
}
