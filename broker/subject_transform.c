#include "broker/subject_transform.h"

#include <assert.h>
#include <stdlib.h>

#include "broker/subject.h"
#include "storage/base/err.h"

enum function {
    FUNCTION_NONE, /* The token itself. */
    FUNCTION_REST, /* > */
    FUNCTION_WILDCARD,
    FUNCTION_PARTITION,
    FUNCTION_SPLIT,
    FUNCTION_SPLIT_FROM_LEFT,
    FUNCTION_SPLIT_FROM_RIGHT,
    FUNCTION_SLICE_FROM_LEFT,
    FUNCTION_SLICE_FROM_RIGHT,
    FUNCTION_LEFT,
    FUNCTION_RIGHT,
    FUNCTION_RANDOM,
};

/* Capitals are where either case is taken. */
static const struct {
    const char *name;
    enum function function;
} names[] = {
    {"Wildcard", FUNCTION_WILDCARD},
    {"Partition", FUNCTION_PARTITION},
    {"SplitFromLeft", FUNCTION_SPLIT_FROM_LEFT},
    {"SplitFromRight", FUNCTION_SPLIT_FROM_RIGHT},
    {"SliceFromLeft", FUNCTION_SLICE_FROM_LEFT},
    {"SliceFromRight", FUNCTION_SLICE_FROM_RIGHT},
    {"Split", FUNCTION_SPLIT},
    {"Left", FUNCTION_LEFT},
    {"Right", FUNCTION_RIGHT},
    {"Random", FUNCTION_RANDOM},
};
#define NAMES (sizeof names / sizeof names[0])

/* One token of the destination. */
struct part {
    enum function function;
    struct slice text; /* NONE: the token. SPLIT: the delimiter. */
    int64_t number;    /* The function's own argument. */
    size_t *tokens;    /* Of the source's, by which it is made. */
    size_t tokens_count;
};

struct subject_transform {
    struct slice source;      /* Both owned; */
    struct slice destination; /* texts of parts point here. */
    size_t source_tokens;
    struct part *parts;
    size_t parts_count;
};

/* ---- Reading a destination ---- */

#define TOO_FEW "not enough arguments passed to the function"
#define TOO_MANY "too many arguments passed to the function"
#define BAD_ARGUMENT "function argument is invalid or in the wrong format"
#define UNKNOWN "unknown function"

/* The wildcards a function names, from 1, as they stand there. */
struct indexes {
    int64_t *items;
    size_t count;
};

static int refuse(struct buf *error, const char *what)
{
    if (error != NULL) {
        buf_append_str(error, what);
    }
    return ERR_INVALID;
}

static int refuse_token(struct buf *error, const char *what, struct slice token)
{
    if (error != NULL) {
        buf_printf(error, "invalid mapping destination: %s in %.*s", what, SLICE_ARG(token));
    }
    return ERR_INVALID;
}

static int refuse_all(struct buf *error, const char *what)
{
    if (error != NULL) {
        buf_printf(error, "invalid mapping destination: %s", what);
    }
    return ERR_INVALID;
}

/* As Go's regular expressions have it. */
static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

static struct slice skip_space(struct slice s)
{
    while (s.len > 0 && is_space(s.ptr[0])) {
        s = slice_from(s, 1);
    }
    return s;
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && s.ptr[0] == ' ') {
        s = slice_from(s, 1);
    }
    while (s.len > 0 && s.ptr[s.len - 1] == ' ') {
        s.len--;
    }
    return s;
}

/* A decimal number with a sign or none. */
static bool read_number(struct slice s, int64_t *ret_number)
{
    s = trim(s);
    bool is_negative = s.len > 0 && s.ptr[0] == '-';
    if (s.len > 0 && (s.ptr[0] == '-' || s.ptr[0] == '+')) {
        s = slice_from(s, 1);
    }
    int64_t v = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9' || v > (INT64_MAX - 9) / 10) {
            return false;
        }
        v = v * 10 + (s.ptr[i] - '0');
    }
    *ret_number = is_negative ? -v : v;
    return s.len > 0;
}

static bool has_name(struct slice s, const char *name)
{
    size_t len = strlen(name);
    if (s.len < len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        bool is_either = name[i] >= 'A' && name[i] <= 'Z';
        if (s.ptr[i] != (uint8_t)name[i] && !(is_either && s.ptr[i] == (uint8_t)(name[i] + 32))) {
            return false;
        }
    }
    return true;
}

/* Does it look like a function? */
static bool is_mustache(struct slice token)
{
    return token.len > 4 && memcmp(token.ptr, "{{", 2) == 0 &&
           memcmp(token.ptr + token.len - 2, "}}", 2) == 0;
}

/* NAME ( ARGUMENTS ) and spaces up to the closing braces. */
static bool read_call(struct slice s, const char *name, struct slice *ret_arguments)
{
    s = skip_space(s);
    if (!has_name(s, name)) {
        return false;
    }
    s = skip_space(slice_from(s, strlen(name)));
    if (s.len == 0 || s.ptr[0] != '(') {
        return false;
    }
    s = slice_from(s, 1);
    /* As much as possible belongs to the arguments. */
    for (size_t end = s.len; end > 0; end--) {
        struct slice after = skip_space(slice_from(s, end));
        if (s.ptr[end - 1] == ')' && after.len >= 2 && memcmp(after.ptr, "}}", 2) == 0) {
            *ret_arguments = slice_of(s.ptr, end - 1);
            return true;
        }
    }
    return false;
}

/* The function a token calls; it may stand anywhere between the first braces and the last. */
static enum function read_function(struct slice token, struct slice *ret_arguments)
{
    for (size_t n = 0; n < NAMES; n++) {
        for (size_t i = 0; i + 2 <= token.len; i++) {
            if (memcmp(token.ptr + i, "{{", 2) == 0 &&
                read_call(slice_from(token, i + 2), names[n].name, ret_arguments)) {
                return names[n].function;
            }
        }
    }
    return FUNCTION_NONE;
}

/* Walks arguments: separated by commas, with any space behind these. */
static bool next_argument(struct slice *rest, bool *is_done, struct slice *ret_argument)
{
    if (*is_done) {
        return false;
    }
    const uint8_t *comma = rest->len == 0 ? NULL : memchr(rest->ptr, ',', rest->len);
    size_t len = comma == NULL ? rest->len : (size_t)(comma - rest->ptr);
    *ret_argument = slice_of(rest->ptr, len);
    *is_done = comma == NULL;
    if (comma != NULL) {
        *rest = skip_space(slice_from(*rest, len + 1));
    }
    return true;
}

static size_t count_arguments(struct slice arguments)
{
    bool is_done = false;
    struct slice a;
    size_t n = 0;
    while (next_argument(&arguments, &is_done, &a)) {
        n++;
    }
    return n;
}

static void indexes_add(struct indexes *in, int64_t index)
{
    in->items = xrealloc(in->items, (in->count + 1) * sizeof *in->items);
    in->items[in->count++] = index;
}

/* NULL, or what is wrong with the arguments. */
static const char *read_arguments(struct part *p, struct slice arguments, struct indexes *in)
{
    size_t count = count_arguments(arguments);
    bool is_done = false;
    struct slice a;
    int64_t number;
    next_argument(&arguments, &is_done, &a);
    switch (p->function) {
    case FUNCTION_WILDCARD:
        if (count == 1 && a.len == 0) {
            return TOO_FEW;
        }
        if (count > 1) {
            return TOO_MANY;
        }
        if (!read_number(a, &number)) {
            return BAD_ARGUMENT;
        }
        indexes_add(in, number);
        return NULL;
    case FUNCTION_PARTITION:
        if (!read_number(a, &p->number) || p->number > INT32_MAX) {
            return BAD_ARGUMENT;
        }
        while (next_argument(&arguments, &is_done, &a)) {
            if (!read_number(a, &number)) {
                return BAD_ARGUMENT;
            }
            indexes_add(in, number);
        }
        return NULL;
    case FUNCTION_RANDOM:
        if (count != 1) {
            return TOO_FEW;
        }
        return read_number(a, &p->number) && p->number <= INT32_MAX ? NULL : BAD_ARGUMENT;
    default:
        break;
    }
    if (count != 2) {
        return count < 2 ? TOO_FEW : TOO_MANY;
    }
    if (!read_number(a, &number)) {
        return BAD_ARGUMENT;
    }
    indexes_add(in, number);
    next_argument(&arguments, &is_done, &a);
    if (p->function == FUNCTION_SPLIT) {
        p->text = a;
        return memchr(a.ptr, ' ', a.len) != NULL || memchr(a.ptr, '.', a.len) != NULL ? BAD_ARGUMENT
                                                                                      : NULL;
    }
    return read_number(a, &p->number) && p->number <= INT32_MAX ? NULL : BAD_ARGUMENT;
}

/* NULL, or what is wrong with it. */
static const char *read_part(struct slice token, struct part *p, struct indexes *in)
{
    int64_t number;
    *p = (struct part){.function = FUNCTION_NONE, .text = token};
    if (token.len > 1 && token.ptr[0] == '$') {
        bool has_blank = memchr(token.ptr, ' ', token.len) != NULL;
        if (!has_blank && read_number(slice_from(token, 1), &number)) {
            p->function = FUNCTION_WILDCARD;
            indexes_add(in, number);
        }
        return NULL;
    }
    if (!is_mustache(token)) {
        return NULL;
    }
    struct slice arguments = SLICE_EMPTY;
    p->function = read_function(token, &arguments);
    return p->function == FUNCTION_NONE ? UNKNOWN : read_arguments(p, arguments, in);
}

/* From wildcards to tokens of the source. */
static int find_tokens(struct part *p, const struct indexes *in, const size_t *wildcards,
                       size_t wildcards_count, bool has_wildcards, struct slice token,
                       struct buf *error)
{
    if (!has_wildcards && p->function == FUNCTION_PARTITION) {
        return 0; /* Of the whole subject, whatever it names. */
    }
    if (!has_wildcards && p->function != FUNCTION_NONE && p->function != FUNCTION_RANDOM) {
        return refuse_token(error, "wildcard index out of range", token);
    }
    p->tokens = xcalloc(in->count, sizeof *p->tokens);
    for (size_t i = 0; i < in->count; i++) {
        int64_t index = in->items[i];
        if (index > (int64_t)wildcards_count) {
            refuse_token(error, "wildcard index out of range", token);
            if (error != NULL) {
                buf_printf(error, ": [%lld]", (long long)index);
            }
            return ERR_INVALID;
        }
        /* The reference takes what is below the first wildcard for the first token. */
        p->tokens[p->tokens_count++] = index <= 0 ? 0 : wildcards[index - 1];
    }
    return 0;
}

/* ---- Life ---- */

void subject_transform_free(struct subject_transform *t)
{
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < t->parts_count; i++) {
        free(t->parts[i].tokens);
    }
    free(t->parts);
    free((void *)(uintptr_t)t->source.ptr);
    free((void *)(uintptr_t)t->destination.ptr);
    free(t);
}

/* Counts wildcards of one token; whether the last token is >. */
static size_t count_wildcards(struct slice s, bool *ret_has_rest)
{
    struct subject_iter it = subject_iter(s);
    struct slice token;
    size_t n = 0;
    *ret_has_rest = false;
    while (subject_next(&it, &token)) {
        n += slice_eq_str(token, "*");
        *ret_has_rest = slice_eq_str(token, ">");
    }
    return n;
}

/* Functions may have spaces. */
static bool is_destination(struct slice s)
{
    struct subject_iter it = subject_iter(s);
    struct slice token;
    bool has_rest = false;
    while (subject_next(&it, &token)) {
        if (token.len == 0 || has_rest) {
            return false;
        }
        has_rest = slice_eq_str(token, ">");
    }
    return true;
}

static size_t *find_wildcards(struct slice source, size_t count)
{
    size_t *wildcards = xcalloc(count, sizeof *wildcards);
    struct subject_iter it = subject_iter(source);
    struct slice token;
    size_t n = 0;
    for (size_t at = 0; subject_next(&it, &token); at++) {
        if (slice_eq_str(token, "*")) {
            wildcards[n++] = at;
        }
    }
    return wildcards;
}

static int compile(struct subject_transform *t, size_t wildcards_count, bool has_rest,
                   struct buf *error)
{
    size_t *wildcards = find_wildcards(t->source, wildcards_count);
    struct subject_iter it = subject_iter(t->destination);
    struct slice token;
    int rv = 0;
    t->source_tokens = subject_token_count(t->source);
    t->parts = xcalloc(subject_token_count(t->destination), sizeof *t->parts);
    while (rv == 0 && subject_next(&it, &token)) {
        struct part *p = &t->parts[t->parts_count++];
        struct indexes in = {NULL, 0};
        const char *what = read_part(token, p, &in);
        if (what != NULL) {
            rv = refuse_token(error, what, token);
        } else if (slice_eq_str(token, ">")) {
            p->function = FUNCTION_REST;
        } else {
            rv = find_tokens(p, &in, wildcards, wildcards_count, wildcards_count > 0 || has_rest,
                             token, error);
        }
        free(in.items);
    }
    free(wildcards);
    return rv;
}

int subject_transform_new(struct slice source, struct slice destination,
                          struct subject_transform **ret_transform, struct buf *error)
{
    bool has_rest, to_rest;
    source = source.len == 0 ? SLICE_LIT(">") : source;
    if (destination.len == 0) {
        *ret_transform = NULL;
        return 0;
    }
    if (!subject_is_valid(source) || !is_destination(destination)) {
        return refuse(error, "invalid subject");
    }
    size_t wildcards = count_wildcards(source, &has_rest);
    if (count_wildcards(destination, &to_rest) > 0 || has_rest != to_rest) {
        return refuse(error, "invalid subject");
    }
    struct subject_transform *t = xcalloc(1, sizeof *t);
    t->source = slice_of(xslicedup(source), source.len);
    t->destination = slice_of(xslicedup(destination), destination.len);
    if (compile(t, wildcards, has_rest, error) != 0) {
        subject_transform_free(t);
        return ERR_INVALID;
    }
    *ret_transform = t;
    return 0;
}

int subject_transform_check(struct slice source, struct slice destination, struct buf *error)
{
    static const char invalid[] = "invalid transform";
    struct subject_iter it = subject_iter(destination);
    struct subject_transform *t;
    struct slice token;
    bool has_rest = false;
    if (destination.len == 0) {
        return 0;
    }
    while (subject_next(&it, &token)) {
        struct slice arguments;
        if (has_rest && token.len > 0) {
            return refuse_token(error, invalid, token);
        }
        if (token.len == 0) {
            return refuse_all(error, invalid);
        }
        if (is_mustache(token)) {
            if (read_function(token, &arguments) == FUNCTION_NONE) {
                return refuse_token(error, UNKNOWN, token);
            }
            continue;
        }
        has_rest = slice_eq_str(token, ">");
        for (size_t i = 0; i < token.len; i++) {
            if (is_space(token.ptr[i])) {
                return refuse_all(error, invalid);
            }
        }
    }
    int rv = subject_transform_new(source, destination, &t, error);
    if (rv == 0) {
        subject_transform_free(t);
    }
    return rv;
}

/* ---- Applying ---- */

/* FNV-1a, 32 bits. */
static uint32_t hash_more(uint32_t hash, struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        hash = (hash ^ s.ptr[i]) * 16777619u;
    }
    return hash;
}

static uint32_t hash_tokens(const struct part *p, struct slice subject, const struct slice *tokens)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < p->tokens_count; i++) {
        hash = hash_more(hash, tokens[p->tokens[i]]);
    }
    return p->tokens_count == 0 ? hash_more(hash, subject) : hash;
}

static void put_two(struct buf *out, struct slice token, size_t at)
{
    buf_append_slice(out, slice_of(token.ptr, at));
    buf_append_u8(out, '.');
    buf_append_slice(out, slice_from(token, at));
}

/* The first slice has @first bytes, those behind it @size. */
static void put_slices(struct buf *out, struct slice token, size_t first, size_t size)
{
    while (token.len > first) {
        buf_append_slice(out, slice_of(token.ptr, first));
        buf_append_u8(out, '.');
        token = slice_from(token, first);
        first = size;
    }
    buf_append_slice(out, token);
}

/* Bytes of the character a text begins with; 1 where it is none. */
static size_t character_bytes(struct slice s)
{
    uint8_t c = s.ptr[0];
    size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;
    if (n > s.len) {
        return 1;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s.ptr[i] & 0xc0) != 0x80) {
            return 1;
        }
    }
    return n;
}

/* The next piece before a delimiter; an empty delimiter parts characters. */
static struct slice next_piece(struct slice *rest, struct slice delimiter, bool *is_last)
{
    size_t len = 0;
    if (delimiter.len == 0) {
        len = rest->len == 0 ? 0 : character_bytes(*rest);
        *is_last = len == rest->len;
    } else {
        while (len + delimiter.len <= rest->len &&
               memcmp(rest->ptr + len, delimiter.ptr, delimiter.len) != 0) {
            len++;
        }
        *is_last = len + delimiter.len > rest->len;
        len = *is_last ? rest->len : len;
    }
    struct slice piece = slice_of(rest->ptr, len);
    *rest = slice_from(*rest, *is_last ? rest->len : len + delimiter.len);
    return piece;
}

static void put_split(struct buf *out, struct slice token, struct slice delimiter)
{
    bool is_last;
    bool is_first = true;
    struct slice piece = next_piece(&token, delimiter, &is_last);
    for (;;) {
        bool was_last = is_last;
        struct slice next = was_last ? SLICE_EMPTY : next_piece(&token, delimiter, &is_last);
        buf_append_slice(out, piece);
        if (was_last) {
            return;
        }
        if (next.len > 0 && !(is_first && piece.len == 0)) {
            buf_append_u8(out, '.');
        }
        piece = next;
        is_first = false;
    }
}

static void put_remainder(struct buf *out, uint64_t value, int64_t below)
{
    buf_printf(out, "%llu", below <= 0 ? 0ull : (unsigned long long)(value % (uint64_t)below));
}

/* By the token it names. */
static void put_token(const struct part *p, struct slice token, struct buf *out)
{
    size_t n = p->number > 0 && (uint64_t)p->number < token.len ? (size_t)p->number : 0;
    if (p->function == FUNCTION_SPLIT) {
        put_split(out, token, p->text);
    } else if (n == 0) {
        buf_append_slice(out, token); /* Too short. */
    } else if (p->function == FUNCTION_SPLIT_FROM_LEFT) {
        put_two(out, token, n);
    } else if (p->function == FUNCTION_SPLIT_FROM_RIGHT) {
        put_two(out, token, token.len - n);
    } else if (p->function == FUNCTION_SLICE_FROM_LEFT) {
        put_slices(out, token, n, n);
    } else if (p->function == FUNCTION_SLICE_FROM_RIGHT) {
        put_slices(out, token, token.len % n == 0 ? n : token.len % n, n);
    } else if (p->function == FUNCTION_LEFT) {
        buf_append_slice(out, slice_of(token.ptr, n));
    } else {
        assert(p->function == FUNCTION_RIGHT);
        buf_append_slice(out, slice_from(token, token.len - n));
    }
}

/* splitmix64: each random token of a destination draws its own number. */
static uint64_t draw(uint64_t *random)
{
    uint64_t z = *random += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static void put_rest(struct buf *out, struct slice subject, const struct slice *tokens, size_t from)
{
    const uint8_t *at = tokens[from].ptr;
    buf_append_slice(out, slice_of(at, (size_t)(subject.ptr + subject.len - at)));
}

enum subject_transform_result subject_transform_apply(const struct subject_transform *t,
                                                      struct slice subject, uint64_t random,
                                                      size_t bytes_max, struct buf *out)
{
    if (!subject_match(subject, t->source)) {
        return TRANSFORM_NO_MATCH;
    }
    /* Only those the source has; its > stands for the rest. */
    struct slice *tokens = xcalloc(t->source_tokens, sizeof *tokens);
    struct subject_iter it = subject_iter(subject);
    for (size_t i = 0; i < t->source_tokens; i++) {
        bool has_token = subject_next(&it, &tokens[i]);
        assert(has_token);
    }
    size_t before = out->len;
    for (size_t i = 0; i < t->parts_count && out->len - before <= bytes_max; i++) {
        const struct part *p = &t->parts[i];
        if (i > 0) {
            buf_append_u8(out, '.');
        }
        if (p->function == FUNCTION_NONE) {
            buf_append_slice(out, p->text);
        } else if (p->function == FUNCTION_REST) {
            put_rest(out, subject, tokens, t->source_tokens - 1);
        } else if (p->function == FUNCTION_WILDCARD) {
            buf_append_slice(out, tokens[p->tokens[0]]);
        } else if (p->function == FUNCTION_PARTITION) {
            put_remainder(out, hash_tokens(p, subject, tokens), p->number);
        } else if (p->function == FUNCTION_RANDOM) {
            put_remainder(out, draw(&random), p->number);
        } else {
            put_token(p, tokens[p->tokens[0]], out);
        }
    }
    free(tokens);
    return out->len - before > bytes_max ? TRANSFORM_TOO_LONG : TRANSFORM_DONE;
}
