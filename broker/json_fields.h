/* Structs to and from JSON by a table of fields.
 *
 * One table per struct says name, type, place and manner of each field; reading, printing, copying,
 * comparing and freeing follow from it, so that a field cannot be forgotten in one of them.
 *
 * Reading follows Go's decoder, which clients are written against: names match without regard to
 * case, null leaves the default (but is no word of an enum), a later duplicate wins, an unknown
 * name is an error (API strictness since 2.12). Input is bounded by the caller's payload limit;
 * nesting by jansson's (2,048, on the heap of the parser's frames). */
#ifndef BROKER_JSON_FIELDS_H
#define BROKER_JSON_FIELDS_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/buf.h"

enum field_kind {
    FIELD_STRING,   /* char *, NULL when empty */
    FIELD_STRINGS,  /* char ** and a size_t */
    FIELD_BOOL,     /* bool */
    FIELD_INT,      /* int */
    FIELD_I32,      /* int32_t */
    FIELD_I64,      /* int64_t */
    FIELD_U64,      /* uint64_t */
    FIELD_ENUM,     /* int-sized enum with names */
    FIELD_TIME,     /* int64_t ns since 1970 from RFC 3339; INT64_MIN = absent */
    FIELD_I64S,     /* int64_t * and a size_t */
    FIELD_METADATA, /* struct metadata_item * and a size_t, sorted by key */
    FIELD_OBJECT, /* a struct with a table of its own, embedded; absent while all of it is empty */
    FIELD_LATER   /* Known to the reference, not to us yet: a default is accepted, else refused. */
};

/* How a field is written. */
enum {
    FIELD_OMIT_EMPTY = 1u << 0,
    FIELD_NOT_PRINTED = 1u << 1, /* Read, but written by other means. */
};

struct field {
    const char *name;
    enum field_kind kind;
    unsigned flags;
    size_t offset;
    size_t count_offset;      /* Of the size_t beside a list. */
    const char *const *names; /* FIELD_ENUM: NULL-terminated, index = value. FIELD_LATER: what the
                               * reference knows; other strings are errors. NULL: any. */
    const char *alias;        /* FIELD_ENUM: another name of value 0. */
    const char *literal;      /* FIELD_LATER: what is printed for it, NULL for nothing; and the one
                               * value beside the zero values that is accepted. */
    const char *json_type; /* FIELD_LATER: what the reference reads, in Go's words: object, array,
                            * string, number, bool. NULL: any. */
    const struct field *table; /* FIELD_OBJECT: its members, */
    size_t table_count;
    const char *struct_name; /* and what Go calls it. */
};

/* What went wrong while reading. */
struct field_error {
    char text[256];    /* In the words of Go's decoder: json: unknown field "x" */
    const char *later; /* The name of a field whose feature weir does not have, else NULL. */
};

/* Read @object into the struct at @base, which holds the defaults. Returns 0 or ERR_INVALID, with
 * *ret_error filled and @base possibly half changed, but sound for fields_close. */
int fields_read(const struct field *table, size_t count, const json_t *object,
                const char *struct_name, void *base, struct field_error *ret_error);
/* Append the members, without the braces. */
void fields_print(const struct field *table, size_t count, const void *base, struct buf *out);
void fields_close(const struct field *table, size_t count, void *base);
/* Deep copy of all owned members; @to holds a plain copy of the struct already. */
void fields_dup(const struct field *table, size_t count, void *to);
bool fields_eq(const struct field *table, size_t count, const void *a, const void *b);
/* Is every member at its zero value? */
bool fields_are_empty(const struct field *table, size_t count, const void *base);

/* Take the member @name, in any case, off @object, if that is one: a new reference, or NULL. */
json_t *json_take(json_t *object, const char *name);
/* The same of a flag; returns whether it was true. */
bool json_take_flag(json_t *object, const char *name);
/* Parse @text as one JSON value. NULL on a syntax error, with Go-like words in @ret_error. */
json_t *json_parse(struct slice text, struct field_error *ret_error);
/* Append @s quoted, escaped as Go's encoder does (including <, > and & as \u003c ...). */
void json_print_string(struct buf *out, struct slice s);
/* RFC 3339 in UTC with as many digits as needed: Go's RFC3339Nano. No quotes. */
void json_print_time(struct buf *out, int64_t time_ns);
/* Returns 0 or ERR_INVALID. */
int json_parse_time(struct slice text, int64_t *ret_time_ns);
/* Standard base64 with padding, no quotes. */
void json_print_base64(struct buf *out, struct slice bytes);
#endif
