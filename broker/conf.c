#include "broker/conf_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "storage/base/err.h"

/* ---- Errors. ---- */

static void append_error(struct conf_parser *p, const char *prefix, const char *fmt, va_list args,
                         const char *suffix)
{
    char text[512];
    if (p->error->len == 0) {
        vsnprintf(text, sizeof text, fmt, args);
        buf_append_str(p->error, prefix);
        buf_append_str(p->error, text);
        buf_append_str(p->error, suffix);
    }
    p->has_failed = true;
}

bool conf_fail(struct conf_parser *p, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    append_error(p, "", fmt, args, "");
    va_end(args);
    return false;
}

bool conf_fail_parse(struct conf_parser *p, const char *fmt, ...)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "Parse error on line %u: '", p->line);
    va_list args;
    va_start(args, fmt);
    append_error(p, prefix, fmt, args, "'");
    va_end(args);
    return false;
}

const char *conf_char_text(const struct conf_parser *p, char ret_text[8])
{
    uint8_t c = conf_peek(p);
    if (conf_is_end(p)) {
        return "EOF";
    }
    if (c == '\n') {
        return "\\n";
    }
    snprintf(ret_text, 8, c < 0x20 || c >= 0x7f ? "\\x%02x" : "%c", c);
    return ret_text;
}

/* ---- Values. ---- */

struct conf_value *conf_new_value(struct conf_parser *p, enum conf_type type)
{
    if (p->conf->values_count == CONF_VALUES_MAX) {
        conf_fail(p, "the configuration has more than %d values", CONF_VALUES_MAX);
        return NULL;
    }
    p->conf->values_count++;
    struct conf_value *v = xcalloc(1, sizeof *v);
    v->type = type;
    v->line = p->line;
    v->col = (uint32_t)(p->pos - p->line_begin);
    v->path = p->path;
    return v;
}

void conf_free_value(struct conf_value *v)
{
    if (v == NULL) {
        return;
    }
    if (v->type == CONF_MAP) {
        struct conf_value *child;
        struct conf_value *tmp;
        HASH_ITER(hh, v->children, child, tmp)
        {
            HASH_DEL(v->children, child);
            conf_free_value(child);
        }
    } else if (v->type == CONF_ARRAY) {
        for (struct conf_value *child = v->children; child != NULL;) {
            struct conf_value *next = child->next;
            conf_free_value(child);
            child = next;
        }
    } else if (v->type == CONF_STRING) {
        free((void *)(uintptr_t)v->string.ptr);
    }
    free(v->key);
    free(v);
}

static void array_add(struct conf_value *array, struct conf_value *v)
{
    if (array->last == NULL) {
        array->children = v;
    } else {
        array->last->next = v;
    }
    array->last = v;
    array->count++;
}

/* Takes @v over, key and all; a former value of the same key goes. */
static void map_add(struct conf_value *map, struct conf_value *v)
{
    struct conf_value *old;
    HASH_FIND(hh, map->children, v->key, v->key_len, old);
    if (old != NULL) {
        HASH_DEL(map->children, old);
        conf_free_value(old);
        map->count--;
    }
    HASH_ADD_KEYPTR(hh, map->children, v->key, v->key_len, v);
    map->count++;
}

/* A copy without key, at @p's position as the reference stands there, @depth deep in the tree: a
 * chain of references must not build what recursion cannot walk. */
static struct conf_value *copy_value(struct conf_parser *p, const struct conf_value *from,
                                     uint32_t depth)
{
    if (depth > CONF_DEPTH_MAX) {
        conf_fail(p, "maps and arrays are nested more than %d deep", CONF_DEPTH_MAX);
        return NULL;
    }
    struct conf_value *v = conf_new_value(p, from->type);
    if (v == NULL) {
        return NULL;
    }
    switch (from->type) {
    case CONF_STRING:
        v->string = slice_of(xslicedup(from->string), from->string.len);
        break;
    case CONF_MAP:
    case CONF_ARRAY:
        for (const struct conf_value *c = conf_first(from); c != NULL; c = conf_next(c)) {
            struct conf_value *copy = copy_value(p, c, depth + 1);
            if (copy == NULL) {
                conf_free_value(v);
                return NULL;
            }
            copy->line = c->line;
            copy->col = c->col;
            copy->path = c->path;
            if (c->key != NULL) {
                copy->key = xstrndup(c->key, c->key_len);
                copy->key_len = c->key_len;
                map_add(v, copy);
            } else {
                array_add(v, copy);
            }
        }
        break;
    case CONF_BOOL:
        v->boolean = from->boolean;
        break;
    case CONF_FLOAT:
        v->number = from->number;
        break;
    default:
        v->integer = from->integer;
        break;
    }
    return v;
}

/* ---- Blanks and comments. ---- */

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_line_end(const struct conf_parser *p)
{
    return conf_peek(p) == '\n' || conf_peek(p) == '\r';
}

static bool is_comment(const struct conf_parser *p)
{
    return conf_peek(p) == '#' ||
           (conf_peek(p) == '/' && p->pos + 1 < p->text.len && p->text.ptr[p->pos + 1] == '/');
}

static void skip_comment(struct conf_parser *p)
{
    while (!conf_is_end(p) && conf_peek(p) != '\n') {
        conf_advance(p);
    }
}

/* Over spaces, line ends and comments. */
static void skip_blank(struct conf_parser *p)
{
    while (!conf_is_end(p) && (is_space(conf_peek(p)) || is_comment(p))) {
        if (is_comment(p)) {
            skip_comment(p);
        } else {
            conf_advance(p);
        }
    }
}

/* Over spaces and tabs, and a comment, within the line. */
static void skip_in_line(struct conf_parser *p)
{
    while (conf_peek(p) == ' ' || conf_peek(p) == '\t') {
        conf_advance(p);
    }
    if (is_comment(p)) {
        skip_comment(p);
    }
}

/* ---- Variables and includes. ---- */

static struct conf_value *parse_value(struct conf_parser *p);
static bool parse_file(struct conf_parser *p, struct conf_value *root);

static void init_parser(struct conf_parser *p, struct conf_parser *outer, struct slice text,
                        const char *path)
{
    p->outer = outer;
    p->conf = outer->conf;
    p->options = outer->options;
    p->error = outer->error;
    p->text = text;
    p->path = path;
    p->line = 1;
    p->depth = outer->depth + 1;
}

/* The value of an environment variable is configuration text itself. */
static struct conf_value *parse_env(struct conf_parser *p, const char *text)
{
    struct conf_parser inner = {.scopes_count = 0};
    init_parser(&inner, p, slice_str(text), p->path);
    inner.line = p->line;
    if (inner.depth > CONF_DEPTH_MAX) {
        conf_fail(p, "variable references are nested too deeply, or refer to each other");
        return NULL;
    }
    skip_in_line(&inner);
    struct conf_value *v = parse_value(&inner);
    if (v != NULL) {
        skip_blank(&inner);
        if (!conf_is_end(&inner)) {
            conf_fail_parse(p, "Unexpected text behind the value of an environment variable");
            conf_free_value(v);
            v = NULL;
        }
    }
    p->has_failed = p->has_failed || inner.has_failed;
    return v;
}

static struct conf_value *resolve(struct conf_parser *p, struct slice name)
{
    if (slice_has_prefix(name, SLICE_LIT("2a$"))) {
        /* A bare bcrypt hash. */
        struct conf_value *v = conf_new_value(p, CONF_STRING);
        if (v != NULL) {
            char *text = xmalloc(name.len + 2);
            text[0] = '$';
            memcpy(text + 1, name.ptr, name.len + 1);
            v->string = slice_of(text, name.len + 1);
        }
        return v;
    }
    for (uint32_t i = p->scopes_count; i-- > 0;) {
        struct conf_value *found;
        HASH_FIND(hh, p->scopes[i]->children, name.ptr, name.len, found);
        if (found != NULL) {
            found->is_variable = true;
            return copy_value(p, found, p->depth);
        }
    }
    const char *env = NULL;
    if (p->options->env != NULL && name.len > 0 && memchr(name.ptr, 0, name.len) == NULL) {
        env = p->options->env(p->options->ctx, (const char *)name.ptr);
    }
    if (env == NULL) {
        conf_fail(p, "variable reference for '%.*s' on line %u can not be found", SLICE_ARG(name),
                  p->line);
        return NULL;
    }
    return parse_env(p, env);
}

static bool load_include(struct conf_parser *p, struct conf_value *map, const char *name)
{
    char *path = NULL;
    struct buf text = BUF_EMPTY;
    const char *why = NULL;
    if (p->options->load == NULL || p->conf->paths_count == CONF_FILES_MAX) {
        why = p->options->load == NULL ? "includes are not possible here" : "too many files";
    } else if (p->depth >= CONF_DEPTH_MAX) {
        why = "includes are nested too deeply";
    } else {
        why = p->options->load(p->options->ctx, p->path, name, &path, &text);
    }
    if (why == NULL) {
        assert(path != NULL);
        p->conf->paths = xrealloc(p->conf->paths, (p->conf->paths_count + 1) * sizeof(char *));
        p->conf->paths[p->conf->paths_count++] = path;
        for (const struct conf_parser *at = p; at != NULL && why == NULL; at = at->outer) {
            why = strcmp(at->path, path) == 0 ? "it is being included already" : NULL;
        }
    }
    struct conf_value *root = why == NULL ? conf_new_value(p, CONF_MAP) : NULL;
    if (root != NULL) {
        struct conf_parser *inner = xcalloc(1, sizeof *inner);
        init_parser(inner, p, buf_slice(&text), path);
        p->has_failed = !parse_file(inner, root);
        free(inner);
        struct conf_value *child;
        struct conf_value *tmp;
        HASH_ITER(hh, root->children, child, tmp)
        {
            HASH_DEL(root->children, child);
            map_add(map, child);
        }
        conf_free_value(root);
    } else if (why != NULL) {
        conf_fail(p, "error parsing include file '%s', %s", name, why);
    }
    buf_close(&text);
    return !p->has_failed;
}

/* Behind the word `include`. */
static bool parse_include(struct conf_parser *p, struct conf_value *map)
{
    skip_in_line(p);
    uint8_t quote = conf_peek(p);
    struct buf name = BUF_EMPTY;
    bool is_quoted = quote == '"' || quote == '\'';
    if (is_quoted) {
        conf_advance(p);
    }
    for (; !conf_is_end(p); conf_advance(p)) {
        uint8_t c = conf_peek(p);
        if (is_quoted ? c == quote : is_space(c) || c == ';' || c == '}') {
            break;
        }
        buf_append_u8(&name, c);
    }
    bool is_ok = true;
    if (is_quoted && conf_is_end(p)) {
        is_ok = conf_fail_parse(p, "Unexpected EOF.");
    } else if (name.len == 0 || memchr(name.ptr, 0, name.len) != NULL) {
        is_ok = conf_fail_parse(p, "Expected include value");
    } else {
        buf_append_u8(&name, 0);
        if (is_quoted) {
            conf_advance(p);
        }
        is_ok = load_include(p, map, (const char *)name.ptr);
    }
    buf_close(&name);
    return is_ok;
}

/* ---- Maps and arrays. ---- */

/* A key up to its separator, or the word `include`. The position of the key is in *@ret_at. */
static bool parse_key(struct conf_parser *p, struct slice *ret_key, struct conf_value *ret_at)
{
    uint8_t quote = conf_peek(p);
    bool is_quoted = quote == '"' || quote == '\'';
    char text[8];
    if (quote == '=' || quote == ':') {
        return conf_fail_parse(p, "Unexpected key separator '%c'", quote);
    }
    if (quote == ',' || quote == ';' || quote == ']' || quote == '}') {
        return conf_fail_parse(p, "Expected a key but got '%s'", conf_char_text(p, text));
    }
    if (is_quoted) {
        conf_advance(p);
    }
    ret_at->line = p->line;
    ret_at->col = (uint32_t)(p->pos - p->line_begin);
    size_t begin = p->pos;
    for (; !conf_is_end(p); conf_advance(p)) {
        uint8_t c = conf_peek(p);
        if (is_quoted ? c == quote : is_space(c) || c == '=' || c == ':') {
            break;
        }
    }
    if (conf_is_end(p)) {
        return conf_fail_parse(p, "Unexpected EOF.");
    }
    *ret_key = slice_of(p->text.ptr + begin, p->pos - begin);
    ret_at->is_variable = is_quoted;
    if (is_quoted) {
        conf_advance(p);
    }
    return true;
}

/* One `key value` or `include file`, added to @map. */
static bool parse_pair(struct conf_parser *p, struct conf_value *map)
{
    struct conf_value at = {.type = CONF_INT};
    struct slice key = {0};
    if (!parse_key(p, &key, &at)) {
        return false;
    }
    bool is_quoted = at.is_variable;
    if (!is_quoted && key.len == 7 && strncasecmp((const char *)key.ptr, "include", 7) == 0 &&
        is_space(conf_peek(p))) {
        return parse_include(p, map);
    }
    while (is_space(conf_peek(p))) {
        conf_advance(p);
    }
    if (conf_peek(p) == '=' || conf_peek(p) == ':') {
        conf_advance(p);
    }
    /* In a map the value may stand on another line; at the top only a map or array may, which is
     * where the lexer of nats-server is in another state. */
    bool is_top = p->scopes_count == 1;
    while (is_top ? conf_peek(p) == ' ' || conf_peek(p) == '\t' : is_space(conf_peek(p))) {
        conf_advance(p);
    }
    if (conf_is_end(p)) {
        return conf_fail_parse(p, "Unexpected EOF processing map.");
    }
    if (is_line_end(p)) {
        conf_advance(p);
        return conf_fail_parse(p, "Expected value but found new line");
    }
    if (!is_top && (conf_peek(p) == ',' || conf_peek(p) == '}')) {
        return conf_fail_parse(p, "Unexpected map value terminator \"%c\".", conf_peek(p));
    }
    struct conf_value *v = parse_value(p);
    if (v == NULL) {
        return false;
    }
    v->line = at.line;
    v->col = at.col;
    v->key = xstrndup((const char *)key.ptr, key.len);
    v->key_len = key.len;
    map_add(map, v);
    return true;
}

static bool push_scope(struct conf_parser *p, struct conf_value *map)
{
    if (p->scopes_count > CONF_DEPTH_MAX || p->depth >= CONF_DEPTH_MAX) {
        return conf_fail(p, "maps and arrays are nested more than %d deep", CONF_DEPTH_MAX);
    }
    p->depth++;
    if (map != NULL) {
        p->scopes[p->scopes_count++] = map;
    }
    return true;
}

static void pop_scope(struct conf_parser *p, const struct conf_value *map)
{
    p->depth--;
    if (map != NULL) {
        p->scopes_count--;
    }
}

/* Behind the `{`. */
static bool parse_map(struct conf_parser *p, struct conf_value *map)
{
    char text[8];
    for (;;) {
        skip_blank(p);
        if (conf_is_end(p)) {
            return conf_fail_parse(p, "Unexpected EOF processing map.");
        }
        if (conf_peek(p) == '}') {
            conf_advance(p);
            return true;
        }
        if (!parse_pair(p, map)) {
            return false;
        }
        skip_in_line(p);
        uint8_t c = conf_peek(p);
        if (c == ',' || c == ';' || is_line_end(p)) {
            conf_advance(p);
        } else if (c != '}') {
            return conf_fail_parse(p,
                                   "Expected a map value terminator \",\" or a map terminator "
                                   "\"}\", but got '%s' instead.",
                                   conf_char_text(p, text));
        }
    }
}

/* Behind the `[`. */
static bool parse_array(struct conf_parser *p, struct conf_value *array)
{
    char text[8];
    for (;;) {
        skip_blank(p);
        if (conf_peek(p) == ']') {
            conf_advance(p);
            return true;
        }
        if (conf_is_end(p) || conf_peek(p) == ',') {
            return conf_is_end(p) ? conf_fail_parse(p, "Unexpected EOF processing array.")
                                  : conf_fail_parse(p, "Unexpected array value terminator \",\".");
        }
        struct conf_value *v = parse_value(p);
        if (v == NULL) {
            return false;
        }
        array_add(array, v);
        skip_in_line(p);
        if (conf_peek(p) == ',' || is_line_end(p)) {
            conf_advance(p);
        } else if (conf_peek(p) != ']') {
            return conf_fail_parse(p,
                                   "Expected an array value terminator \",\" or an array "
                                   "terminator \"]\", but got '%s' instead.",
                                   conf_char_text(p, text));
        }
    }
}

/* The cursor is at the first byte. Positions are those behind an opening quote. */
static struct conf_value *parse_value(struct conf_parser *p)
{
    uint8_t c = conf_peek(p);
    uint32_t line = p->line;
    uint32_t col = (uint32_t)(p->pos - p->line_begin) + (c == '"' || c == '\'');
    struct conf_value *v;
    if (c == '{' || c == '[') {
        v = conf_new_value(p, c == '{' ? CONF_MAP : CONF_ARRAY);
        struct conf_value *scope = c == '{' ? v : NULL;
        conf_advance(p);
        bool is_ok = v != NULL && push_scope(p, scope);
        if (is_ok) {
            is_ok = c == '{' ? parse_map(p, v) : parse_array(p, v);
            pop_scope(p, scope);
        }
        if (!is_ok) {
            conf_free_value(v);
            return NULL;
        }
    } else {
        bool is_variable;
        v = conf_parse_scalar(p, &is_variable);
        if (v != NULL && is_variable) {
            struct conf_value *name = v;
            v = resolve(p, name->string);
            conf_free_value(name);
        }
    }
    if (v != NULL) {
        v->line = line;
        v->col = col;
    }
    return v;
}

/* The pairs of a file, which may be wrapped in one `{ }`. */
static bool parse_pairs(struct conf_parser *p, struct conf_value *root)
{
    bool is_wrapped = false;
    char text[8];
    for (;;) {
        skip_blank(p);
        if (conf_is_end(p)) {
            return is_wrapped ? conf_fail_parse(p, "Unexpected EOF processing map.") : true;
        }
        if (conf_peek(p) == '{' && !is_wrapped && root->count == 0) {
            is_wrapped = true;
            conf_advance(p);
            continue;
        }
        if (conf_peek(p) == '}' && is_wrapped) {
            conf_advance(p);
            skip_blank(p);
            return conf_is_end(p) ? true
                                  : conf_fail_parse(p, "Unexpected '%s' behind the end.",
                                                    conf_char_text(p, text));
        }
        if (!parse_pair(p, root)) {
            return false;
        }
        skip_in_line(p);
        uint8_t c = conf_peek(p);
        if (c == ',' || c == ';' || is_line_end(p)) {
            conf_advance(p);
        } else if (!conf_is_end(p) && !(c == '}' && is_wrapped)) {
            return conf_fail_parse(p,
                                   "Expected a top-level value to end with a new line, comment or "
                                   "EOF, but got '%s' instead.",
                                   conf_char_text(p, text));
        }
    }
}

static bool parse_file(struct conf_parser *p, struct conf_value *root)
{
    if (p->text.len > CONF_BYTES_MAX) {
        return conf_fail(p, "%s is larger than %u bytes", p->path, CONF_BYTES_MAX);
    }
    if (slice_has_prefix(p->text, SLICE_LIT("\xef\xbb\xbf"))) {
        p->pos = 3;
        p->line_begin = 3;
    }
    p->scopes[p->scopes_count++] = root;
    return parse_pairs(p, root) && !p->has_failed;
}

/* ---- The whole. ---- */

int conf_parse(struct slice text, const char *path, const struct conf_options *options,
               struct conf **ret_conf, struct buf *error)
{
    struct conf *c = xcalloc(1, sizeof *c);
    c->paths = xmalloc(sizeof *c->paths);
    c->paths[c->paths_count++] = xstrndup(path, strlen(path));
    struct buf why = BUF_EMPTY;
    struct conf_parser *p = xcalloc(1, sizeof *p);
    *p = (struct conf_parser){
        .conf = c, .options = options, .path = c->paths[0], .text = text, .line = 1, .error = &why};
    c->root = conf_new_value(p, CONF_MAP);
    c->root->col = 0;
    bool is_ok = parse_file(p, c->root);
    free(p);
    assert(is_ok == (why.len == 0));
    buf_append_slice(error, buf_slice(&why));
    buf_close(&why);
    if (!is_ok) {
        conf_free(c);
        return ERR_INVALID;
    }
    *ret_conf = c;
    return 0;
}

void conf_free(struct conf *c)
{
    if (c == NULL) {
        return;
    }
    conf_free_value(c->root);
    for (uint32_t i = 0; i < c->paths_count; i++) {
        free(c->paths[i]);
    }
    free(c->paths);
    free(c);
}

const struct conf_value *conf_root(const struct conf *c)
{
    return c->root;
}

const struct conf_value *conf_first(const struct conf_value *parent)
{
    bool is_parent = parent->type == CONF_MAP || parent->type == CONF_ARRAY;
    return is_parent ? parent->children : NULL;
}

const struct conf_value *conf_next(const struct conf_value *child)
{
    return child->key != NULL ? child->hh.next : child->next;
}

const struct conf_value *conf_get(const struct conf_value *map, const char *key)
{
    struct conf_value *found = NULL;
    if (map->type == CONF_MAP) {
        HASH_FIND(hh, map->children, key, strlen(key), found);
    }
    return found;
}

const char *conf_type_name(enum conf_type type)
{
    static const char *const names[] = {"bool",          "int64",     "float64",
                                        "string",        "time.Time", "map[string]interface {}",
                                        "[]interface {}"};
    assert((size_t)type < sizeof names / sizeof names[0]);
    return names[type];
}
