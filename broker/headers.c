#include "broker/headers.h"

#include <assert.h>

/* The bytes before the next \r\n, which is taken off @rest too; false when there is none. */
static bool next_line(struct slice *rest, struct slice *ret_line)
{
    const uint8_t *cr = rest->len < 2 ? NULL : memmem(rest->ptr, rest->len, "\r\n", 2);
    if (cr == NULL) {
        return false;
    }
    size_t len = (size_t)(cr - rest->ptr);
    *ret_line = slice_of(rest->ptr, len);
    *rest = slice_from(*rest, len + 2);
    return true;
}

/* Split a line at its first colon. Spaces before the value are skipped, those after it stay. */
static bool split_line(struct slice line, struct slice *ret_name, struct slice *ret_value)
{
    const uint8_t *colon = line.len == 0 ? NULL : memchr(line.ptr, ':', line.len);
    if (colon == NULL || colon == line.ptr) {
        return false;
    }
    size_t len = (size_t)(colon - line.ptr);
    struct slice value = slice_from(line, len + 1);
    while (value.len > 0 && value.ptr[0] == ' ') {
        value = slice_from(value, 1);
    }
    *ret_name = slice_of(line.ptr, len);
    *ret_value = value;
    return true;
}

/* Whether @line begins as the first line of a block does. */
static bool is_first_line(struct slice line)
{
    return slice_has_prefix(line, SLICE_LIT("NATS/1.0")) && (line.len == 8 || line.ptr[8] == ' ');
}

struct headers_iter headers_iter(struct slice block)
{
    struct slice line;
    struct slice rest = block;
    if (!next_line(&rest, &line) || !is_first_line(line)) {
        rest = SLICE_EMPTY;
    }
    return (struct headers_iter){rest};
}

bool headers_next(struct headers_iter *it, struct slice *ret_name, struct slice *ret_value)
{
    struct slice line;
    if (!next_line(&it->rest, &line) || !split_line(line, ret_name, ret_value)) {
        it->rest = SLICE_EMPTY;
        return false;
    }
    return true;
}

bool headers_find(struct slice block, struct slice name, struct slice *ret_value)
{
    struct headers_iter it = headers_iter(block);
    struct slice n;
    struct slice v;
    while (headers_next(&it, &n, &v)) {
        if (slice_eq(n, name)) {
            *ret_value = v;
            return true;
        }
    }
    return false;
}

bool headers_is_valid(struct slice block)
{
    struct slice line;
    struct slice name;
    struct slice value;
    struct slice rest = block;
    if (!next_line(&rest, &line) || !is_first_line(line)) {
        return false;
    }
    while (next_line(&rest, &line)) {
        if (line.len == 0) {
            return rest.len == 0;
        }
        if (!split_line(line, &name, &value)) {
            return false;
        }
    }
    return false;
}

void headers_begin(struct buf *out)
{
    buf_append_str(out, HEADERS_LINE);
}

void headers_add(struct buf *out, const char *name, struct slice value)
{
    buf_append_str(out, name);
    buf_append_str(out, ": ");
    buf_append_slice(out, value);
    buf_append_str(out, "\r\n");
}

void headers_end(struct buf *out)
{
    buf_append_str(out, "\r\n");
}

void headers_append(struct buf *out, struct slice block, const char *name, struct slice value)
{
    if (headers_is_valid(block)) {
        buf_append(out, block.ptr, block.len - 2);
    } else {
        headers_begin(out);
    }
    headers_add(out, name, value);
    headers_end(out);
}
