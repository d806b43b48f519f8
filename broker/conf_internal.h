/* What conf.c (structure) and conf_scalar.c (numbers and strings) share. */
#ifndef BROKER_CONF_INTERNAL_H
#define BROKER_CONF_INTERNAL_H
#include "broker/conf.h"

struct conf {
    struct conf_value *root;
    char **paths; /* Of the file and all it includes. */
    uint32_t paths_count;
    uint32_t values_count;
};

/* One file being read. */
struct conf_parser {
    struct conf *conf;
    const struct conf_options *options;
    struct conf_parser *outer; /* The file, or variable, on whose behalf. NULL for the first. */
    const char *path;
    struct slice text;
    size_t pos;
    size_t line_begin;
    uint32_t line;
    uint32_t depth;
    struct conf_value *scopes[CONF_DEPTH_MAX + 1]; /* The maps we are in, outermost first. */
    uint32_t scopes_count;
    struct buf *error; /* One sentence. */
    bool has_failed;
};

/* Note the first error; returns false for the caller to return. */
bool conf_fail(struct conf_parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* `Parse error on line N: '...'` */
bool conf_fail_parse(struct conf_parser *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The byte at the cursor as an error shows it. */
const char *conf_char_text(const struct conf_parser *p, char ret_text[8]);

static inline bool conf_is_end(const struct conf_parser *p)
{
    return p->pos >= p->text.len;
}

/* The byte at the cursor, 0 at the end. */
static inline uint8_t conf_peek(const struct conf_parser *p)
{
    return conf_is_end(p) ? 0 : p->text.ptr[p->pos];
}

static inline void conf_advance(struct conf_parser *p)
{
    if (conf_peek(p) == '\n') {
        p->line++;
        p->line_begin = p->pos + 1;
    }
    p->pos++;
}

struct conf_value *conf_new_value(struct conf_parser *p, enum conf_type type);
void conf_free_value(struct conf_value *v);

/* Parse a value that begins with neither `[` nor `{`; the cursor is at its first byte. Returns NULL
 * after conf_fail. A bare `$name` gives CONF_STRING with *ret_is_variable set. */
struct conf_value *conf_parse_scalar(struct conf_parser *p, bool *ret_is_variable);
#endif
