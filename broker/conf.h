/* The configuration language of nats-server: a text becomes a tree of values with positions.
 *
 * Keys and values with `=`, `:` or nothing between them; maps `{ }`, arrays `[ ]`, bare, quoted
 * and `( )` block strings, integers with size suffixes, floats, booleans, datetimes, `$variables`
 * from enclosing maps or the environment, `include`. JSON is a subset. The rules, with their
 * oddities, are those of nats-server's lexer; where it drops something silently (a key without
 * value, a suffix it does not know), this is an error.
 *
 * Pure: files and the environment come through callbacks. Single-threaded. */
#ifndef BROKER_CONF_H
#define BROKER_CONF_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/buf.h"
#include "storage/base/hash.h"
#include "storage/base/slice.h"

#define CONF_DEPTH_MAX 64         /* Of maps and arrays in each other, and of includes. */
#define CONF_BYTES_MAX (4u << 20) /* Of one file. */
#define CONF_FILES_MAX 256        /* Included in all. */
#define CONF_VALUES_MAX 200000    /* In all, copies made by variables included. */

enum conf_type {
    CONF_BOOL,
    CONF_INT,
    CONF_FLOAT,
    CONF_STRING,
    CONF_DATETIME,
    CONF_MAP,
    CONF_ARRAY,
};

struct conf_value {
    enum conf_type type;
    uint32_t line;    /* From 1: of the key, or of the value when it is in an array. */
    uint32_t col;     /* From 0, in bytes; behind an opening quote. */
    const char *path; /* The file it stands in; lives as long as the conf. */
    char *key;        /* NULL in arrays and of the root. May hold NUL bytes: see key_len. */
    size_t key_len;
    bool is_variable; /* Some $reference took its value from here. */
    union {
        bool boolean;
        int64_t integer;
        double number;
        int64_t time_s;      /* Of a datetime: seconds since 1970. */
        struct slice string; /* With a NUL behind it. */
    };
    uint32_t count; /* Children, of a map or array. */

    struct conf_value *children; /* Private from here on: use conf_first and conf_next. */
    struct conf_value *last;
    struct conf_value *next;
    UT_hash_handle hh;
};

struct conf;

struct conf_options {
    void *ctx;
    /* Read the file @name that the file @from includes: append its text to @ret_text (no more than
     * CONF_BYTES_MAX) and set *ret_path (malloc) to what its own includes are relative to and by
     * which a cycle is recognised. On error returns a static text saying why, else NULL. NULL:
     * includes are refused. */
    const char *(*load)(void *ctx, const char *from, const char *name, char **ret_path,
                        struct buf *ret_text);
    /* The value of an environment variable or NULL, like getenv. May be NULL. */
    const char *(*env)(void *ctx, const char *name);
};

/* Parse @text, which stands in the file @path (for positions). Returns 0 and the tree, or
 * ERR_INVALID and a sentence appended to @error. */
int conf_parse(struct slice text, const char *path, const struct conf_options *options,
               struct conf **ret_conf, struct buf *error);
void conf_free(struct conf *c); /* NULL is fine. */
/* The map of the whole file. */
const struct conf_value *conf_root(const struct conf *c);

/* Children in the order they were written; of a key given twice only the last stays. */
const struct conf_value *conf_first(const struct conf_value *parent);
const struct conf_value *conf_next(const struct conf_value *child);
/* The child of a map with exactly this key, or NULL. */
const struct conf_value *conf_get(const struct conf_value *map, const char *key);
/* The type as Go prints it: "int64", "string", "map[string]interface {}". */
const char *conf_type_name(enum conf_type type);
#endif
