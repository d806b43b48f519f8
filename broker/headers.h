/* Header blocks: `NATS/1.0[ status[ description]]\r\n`, `Name: value\r\n` lines, `\r\n`.
 *
 * Names are case-sensitive and the first occurrence counts, as in nats-server; spaces before a
 * value are skipped. Blocks come from clients unchecked: every function here accepts any bytes and
 * stops at what is malformed. Pure, no allocation but in the struct buf given. */
#ifndef BROKER_HEADERS_H
#define BROKER_HEADERS_H
#include <stdbool.h>
#include <stddef.h>

#include "storage/base/buf.h"
#include "storage/base/slice.h"

#define HEADERS_LINE "NATS/1.0\r\n"

/* Walks the name-value lines. Made by headers_iter; a copy is a saved place. */
struct headers_iter {
    struct slice rest;
};

struct headers_iter headers_iter(struct slice block);
/* The next line's name and value (views into the block); false at the end or at the first line
 * that is malformed. */
bool headers_next(struct headers_iter *it, struct slice *ret_name, struct slice *ret_value);

/* The value of the first line called exactly @name. */
bool headers_find(struct slice block, struct slice name, struct slice *ret_value);
static inline bool headers_find_str(struct slice block, const char *name, struct slice *ret_value)
{
    return headers_find(block, slice_str(name), ret_value);
}

/* Whether the block has the form at the top: its first line, lines with a colon, the empty line at
 * the very end. */
bool headers_is_valid(struct slice block);

/* Open a block at the end of @out; add lines; close it. Values must not contain \r or \n. */
void headers_begin(struct buf *out);
void headers_add(struct buf *out, const char *name, struct slice value);
void headers_end(struct buf *out);

/* Append @block to @out with one more line at its end; an empty or malformed @block begins a new
 * one. */
void headers_append(struct buf *out, struct slice block, const char *name, struct slice value);
#endif
