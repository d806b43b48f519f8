/* A file of tests/golden, whole. */
#ifndef UNIT_GOLDEN_FILE_H
#define UNIT_GOLDEN_FILE_H
#include <criterion/criterion.h>
#include <stdio.h>

#include "storage/base/buf.h"

/* The caller frees ->ptr. */
static inline struct slice golden_read(const char *path)
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
#endif
