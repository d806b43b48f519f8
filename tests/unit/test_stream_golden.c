/* The golden log: tests/data/stream_v1.log, u32 length and entry bytes each, must give this hash
 * for ever. A new machine version adds a file and keeps the old ones. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/stream_world.h"

#define GOLDEN_HASH 0x4f66e6790dd037aull

static struct slice read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f, "%s", path);
    struct buf b = BUF_EMPTY;
    size_t n;
    while ((n = fread(buf_reserve(&b, 4096), 1, 4096, f)) > 0) {
        b.len += n;
    }
    fclose(f);
    return buf_slice(&b);
}

/* Else two builds that found the same stream would begin with different rules. */
Test(stream_golden, a_new_stream_begins_with_the_oldest_version)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"k.*\"]}");
    cr_expect_eq(stream_machine_version(w.s), ENTRY_MACHINE_VERSION_FIRST);
    world_close(&w);
}

Test(stream_golden, version_1_gives_its_hash)
{
    struct slice file = read_file(WEIR_SOURCE_DIR "/tests/data/stream_v1.log");
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"k.*\"],\"max_msgs_per_subject\":3,"
                   "\"duplicate_window\":2000000000,\"allow_rollup_hdrs\":true}");
    struct reader r = reader_of(file);
    while (r.len > 0) {
        struct slice entry = reader_bytes(&r, reader_u32(&r));
        cr_assert_not(r.failed);
        cr_assert_eq(stream_step(w.s, ++w.index, 1, entry, &w.e), 0);
    }
    stream_check(w.s);
    cr_expect_eq(w.index, 43u);
    cr_expect_eq(stream_hash(w.s), GOLDEN_HASH, "0x%llxull", (unsigned long long)stream_hash(w.s));
    world_close(&w);
    free((void *)file.ptr);
}
