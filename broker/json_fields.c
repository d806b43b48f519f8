#include "broker/json_fields.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "broker/stream_config.h"
#include "storage/base/err.h"

/* A document that cannot be read for want of memory would look malformed, to one replica alone. All
 * JSON of the process goes through here, from its first line on. */
__attribute__((constructor)) static void use_stopping_allocator(void)
{
    json_set_alloc_funcs(xmalloc, free);
}

static void *at(const void *base, size_t offset)
{
    return (char *)(uintptr_t)base + offset;
}

static const char *go_type(enum field_kind kind)
{
    switch (kind) {
    case FIELD_STRING:
    case FIELD_ENUM:
        return "string";
    case FIELD_STRINGS:
        return "[]string";
    case FIELD_BOOL:
        return "bool";
    case FIELD_INT:
        return "int";
    case FIELD_I32:
        return "int32";
    case FIELD_I64:
        return "int64";
    case FIELD_U64:
        return "uint64";
    case FIELD_TIME:
        return "time.Time";
    case FIELD_I64S:
        return "[]time.Duration";
    case FIELD_METADATA:
        return "map[string]string";
    case FIELD_OBJECT:
    case FIELD_LATER:
        break;
    }
    return "value";
}

static const char *type_text(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "number";
    default:
        return "bool";
    }
}

static int wrong_type(const struct field *f, const json_t *v, const char *struct_name,
                      struct field_error *error)
{
    snprintf(error->text, sizeof error->text,
             "json: cannot unmarshal %s into Go struct field %s.%s of type %s%s", type_text(v),
             struct_name, f->name, f->kind == FIELD_OBJECT ? "server." : "",
             f->kind == FIELD_OBJECT  ? f->struct_name
             : f->kind == FIELD_LATER ? f->json_type
                                      : go_type(f->kind));
    return ERR_INVALID;
}

static char *string_or_null(const json_t *v)
{
    return json_string_length(v) == 0 ? NULL
                                      : xstrndup(json_string_value(v), json_string_length(v));
}

static void strings_free(char **list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(list[i]);
    }
    free(list);
}

static void metadata_free(struct metadata_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(items[i].key);
        free(items[i].value);
    }
    free(items);
}

static void field_free(const struct field *f, void *base)
{
    void *p = at(base, f->offset);
    switch (f->kind) {
    case FIELD_STRING:
        free(*(char **)p);
        *(char **)p = NULL;
        break;
    case FIELD_STRINGS: {
        size_t *count = at(base, f->count_offset);
        strings_free(*(char ***)p, *count);
        *(char ***)p = NULL;
        *count = 0;
        break;
    }
    case FIELD_I64S:
        free(*(int64_t **)p);
        *(int64_t **)p = NULL;
        *(size_t *)at(base, f->count_offset) = 0;
        break;
    case FIELD_METADATA: {
        size_t *count = at(base, f->count_offset);
        metadata_free(*(struct metadata_item **)p, *count);
        *(struct metadata_item **)p = NULL;
        *count = 0;
        break;
    }
    case FIELD_OBJECT:
        fields_close(f->table, f->table_count, p);
        break;
    default:
        break;
    }
}

static int read_strings(const struct field *f, const json_t *v, void *base)
{
    size_t n = json_array_size(v);
    for (size_t i = 0; i < n; i++) {
        if (!json_is_string(json_array_get(v, i))) {
            return ERR_INVALID;
        }
    }
    field_free(f, base);
    char **list = n == 0 ? NULL : xcalloc(n, sizeof *list);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(v, i);
        list[i] = xstrndup(json_string_value(item), json_string_length(item));
    }
    *(char ***)at(base, f->offset) = list;
    *(size_t *)at(base, f->count_offset) = n;
    return 0;
}

static int read_i64s(const struct field *f, const json_t *v, void *base)
{
    size_t n = json_array_size(v);
    for (size_t i = 0; i < n; i++) {
        if (!json_is_integer(json_array_get(v, i))) {
            return ERR_INVALID;
        }
    }
    field_free(f, base);
    int64_t *list = n == 0 ? NULL : xcalloc(n, sizeof *list);
    for (size_t i = 0; i < n; i++) {
        list[i] = json_integer_value(json_array_get(v, i));
    }
    *(int64_t **)at(base, f->offset) = list;
    *(size_t *)at(base, f->count_offset) = n;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct metadata_item *)a)->key, ((const struct metadata_item *)b)->key);
}

static int read_metadata(const struct field *f, json_t *v, void *base)
{
    const char *key;
    json_t *item;
    json_object_foreach(v, key, item)
    {
        if (!json_is_string(item)) {
            return ERR_INVALID;
        }
    }
    field_free(f, base);
    size_t n = json_object_size(v);
    struct metadata_item *list = n == 0 ? NULL : xcalloc(n, sizeof *list);
    size_t i = 0;
    json_object_foreach(v, key, item)
    {
        list[i].key = xstrndup(key, strlen(key));
        list[i].value = xstrndup(json_string_value(item), json_string_length(item));
        i++;
    }
    if (n > 1) {
        qsort(list, n, sizeof *list, by_key);
    }
    *(struct metadata_item **)at(base, f->offset) = list;
    *(size_t *)at(base, f->count_offset) = n;
    return 0;
}

static int read_enum(const struct field *f, const json_t *v, void *base, struct field_error *error)
{
    for (int i = 0; f->names[i] != NULL; i++) {
        if (strcmp(f->names[i], json_string_value(v)) == 0) {
            *(int *)at(base, f->offset) = i;
            return 0;
        }
    }
    if (f->alias != NULL && strcmp(f->alias, json_string_value(v)) == 0) {
        *(int *)at(base, f->offset) = 0;
        return 0;
    }
    snprintf(error->text, sizeof error->text, "can not unmarshal \"\\\"%.100s\\\"\"",
             json_string_value(v));
    return ERR_INVALID;
}

static int read_integer(const struct field *f, const json_t *v, void *base)
{
    json_int_t n = json_integer_value(v);
    void *p = at(base, f->offset);
    switch (f->kind) {
    case FIELD_INT:
        if (n < INT32_MIN || n > INT32_MAX) {
            return ERR_INVALID;
        }
        *(int *)p = (int)n;
        return 0;
    case FIELD_I32:
        if (n < INT32_MIN || n > INT32_MAX) {
            return ERR_INVALID;
        }
        *(int32_t *)p = (int32_t)n;
        return 0;
    case FIELD_U64:
        if (n < 0) {
            return ERR_INVALID;
        }
        *(uint64_t *)p = (uint64_t)n;
        return 0;
    default:
        *(int64_t *)p = n;
        return 0;
    }
}

/* The zero value of any type, or the literal that is the reference's default. */
static bool is_default(const struct field *f, const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_FALSE:
    case JSON_NULL:
        return true;
    case JSON_INTEGER:
        return json_integer_value(v) == 0;
    case JSON_OBJECT:
        return json_object_size(v) == 0;
    case JSON_ARRAY:
        return json_array_size(v) == 0;
    case JSON_STRING:
        /* The second is how Go's clients write a time that is not set. */
        return json_string_length(v) == 0 ||
               strcmp(json_string_value(v), "0001-01-01T00:00:00Z") == 0 ||
               (f->literal != NULL && f->literal[0] == '"' &&
                strncmp(f->literal + 1, json_string_value(v), strlen(f->literal) - 2) == 0 &&
                json_string_length(v) == strlen(f->literal) - 2);
    default:
        return false;
    }
}

/* A word that the reference does not know either. */
static bool is_unknown_word(const struct field *f, const json_t *v)
{
    if (f->names == NULL || !json_is_string(v) || json_string_length(v) == 0) {
        return false;
    }
    for (int i = 0; f->names[i] != NULL; i++) {
        if (strcmp(f->names[i], json_string_value(v)) == 0) {
            return false;
        }
    }
    return true;
}

/* Our strings end at a NUL: what stands behind one would be lost, and another name be meant. */
static bool has_nul(const json_t *v)
{
    size_t i;
    const char *key;
    json_t *item;
    if (json_is_string(v)) {
        return strlen(json_string_value(v)) != json_string_length(v);
    }
    json_array_foreach(v, i, item)
    {
        if (has_nul(item)) {
            return true;
        }
    }
    json_object_foreach((json_t *)(uintptr_t)v, key, item)
    {
        if (has_nul(item)) {
            return true;
        }
    }
    return false;
}

static int read_object(const struct field *f, const json_t *v, void *base,
                       struct field_error *error)
{
    const char *later = error->later;
    int rv = fields_read(f->table, f->table_count, v, f->struct_name, at(base, f->offset), error);
    error->later = later != NULL ? later : error->later;
    return rv;
}

/* Go hands null to a type that decodes itself, and those of words know none. */
static int refuse_null(const struct field *f, struct field_error *error)
{
    snprintf(error->text, sizeof error->text,
             f->kind == FIELD_ENUM ? "can not unmarshal \"null\"" : "unknown %s", f->name);
    return ERR_INVALID;
}

static int read_field(const struct field *f, json_t *v, const char *struct_name, void *base,
                      struct field_error *error)
{
    if (json_is_null(v)) {
        return f->names == NULL ? 0 : refuse_null(f, error);
    }
    if (has_nul(v)) {
        snprintf(error->text, sizeof error->text, "field %s.%s holds a NUL", struct_name, f->name);
        return ERR_INVALID;
    }
    int rv = ERR_INVALID;
    switch (f->kind) {
    case FIELD_STRING:
        if (json_is_string(v)) {
            field_free(f, base);
            *(char **)at(base, f->offset) = string_or_null(v);
            return 0;
        }
        break;
    case FIELD_STRINGS:
        rv = json_is_array(v) ? read_strings(f, v, base) : ERR_INVALID;
        break;
    case FIELD_BOOL:
        if (json_is_boolean(v)) {
            *(bool *)at(base, f->offset) = json_is_true(v);
            return 0;
        }
        break;
    case FIELD_INT:
    case FIELD_I32:
    case FIELD_I64:
    case FIELD_U64:
        rv = json_is_integer(v) ? read_integer(f, v, base) : ERR_INVALID;
        break;
    case FIELD_ENUM:
        if (json_is_string(v)) {
            return read_enum(f, v, base, error);
        }
        break;
    case FIELD_TIME:
        if (json_is_string(v)) {
            int64_t t;
            rv = json_parse_time(slice_of(json_string_value(v), json_string_length(v)), &t);
            if (rv == 0) {
                *(int64_t *)at(base, f->offset) = t;
            } else {
                snprintf(error->text, sizeof error->text, "parsing time \"%.60s\" as RFC 3339",
                         json_string_value(v));
                return rv;
            }
        }
        break;
    case FIELD_I64S:
        rv = json_is_array(v) ? read_i64s(f, v, base) : ERR_INVALID;
        break;
    case FIELD_METADATA:
        rv = json_is_object(v) ? read_metadata(f, v, base) : ERR_INVALID;
        break;
    case FIELD_OBJECT:
        if (json_is_object(v)) {
            return read_object(f, v, base, error);
        }
        break;
    case FIELD_LATER:
        if (f->json_type != NULL && strcmp(f->json_type, type_text(v)) != 0) {
            break;
        }
        if (is_unknown_word(f, v)) {
            snprintf(error->text, sizeof error->text, "unknown %s", f->name);
            return ERR_INVALID;
        }
        if (!is_default(f, v) && error->later == NULL) {
            error->later = f->name;
        }
        return 0;
    }
    return rv == 0 ? 0 : wrong_type(f, v, struct_name, error);
}

int fields_read(const struct field *table, size_t count, const json_t *object,
                const char *struct_name, void *base, struct field_error *ret_error)
{
    *ret_error = (struct field_error){{0}, NULL};
    if (!json_is_object(object)) {
        snprintf(ret_error->text, sizeof ret_error->text,
                 "json: cannot unmarshal %s into Go value of type server.%s", type_text(object),
                 struct_name);
        return ERR_INVALID;
    }
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)object, key, v)
    {
        const struct field *f = NULL;
        for (size_t i = 0; i < count && f == NULL; i++) {
            f = strcasecmp(table[i].name, key) == 0 ? &table[i] : NULL;
        }
        if (f == NULL) {
            snprintf(ret_error->text, sizeof ret_error->text, "json: unknown field \"%.100s\"",
                     key);
            return ERR_INVALID;
        }
        int rv = read_field(f, v, struct_name, base, ret_error);
        if (rv != 0) {
            return rv;
        }
    }
    return 0;
}

static void begin_member(struct buf *out, const char *name, bool *is_first)
{
    if (!*is_first) {
        buf_append_u8(out, ',');
    }
    *is_first = false;
    buf_printf(out, "\"%s\":", name);
}

static bool is_empty(const struct field *f, const void *base)
{
    const void *p = at(base, f->offset);
    switch (f->kind) {
    case FIELD_STRING:
        return *(char *const *)p == NULL;
    case FIELD_BOOL:
        return !*(const bool *)p;
    case FIELD_INT:
    case FIELD_ENUM:
        return *(const int *)p == 0;
    case FIELD_I32:
        return *(const int32_t *)p == 0;
    case FIELD_I64:
        return *(const int64_t *)p == 0;
    case FIELD_U64:
        return *(const uint64_t *)p == 0;
    case FIELD_TIME:
        return *(const int64_t *)p == INT64_MIN;
    case FIELD_LATER:
        return f->literal == NULL;
    case FIELD_OBJECT:
        return fields_are_empty(f->table, f->table_count, p);
    default:
        return *(const size_t *)at(base, f->count_offset) == 0;
    }
}

bool fields_are_empty(const struct field *table, size_t count, const void *base)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_empty(&table[i], base)) {
            return false;
        }
    }
    return true;
}

static void print_value(const struct field *f, const void *base, struct buf *out)
{
    const void *p = at(base, f->offset);
    switch (f->kind) {
    case FIELD_STRING:
        json_print_string(out,
                          *(char *const *)p == NULL ? SLICE_EMPTY : slice_str(*(char *const *)p));
        break;
    case FIELD_BOOL:
        buf_append_str(out, *(const bool *)p ? "true" : "false");
        break;
    case FIELD_INT:
        buf_printf(out, "%d", *(const int *)p);
        break;
    case FIELD_I32:
        buf_printf(out, "%d", (int)*(const int32_t *)p);
        break;
    case FIELD_I64:
        buf_printf(out, "%lld", (long long)*(const int64_t *)p);
        break;
    case FIELD_U64:
        buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)p);
        break;
    case FIELD_ENUM:
        json_print_string(out, slice_str(f->names[*(const int *)p]));
        break;
    case FIELD_TIME:
        buf_append_u8(out, '"');
        json_print_time(out, *(const int64_t *)p);
        buf_append_u8(out, '"');
        break;
    case FIELD_STRINGS:
    case FIELD_I64S: {
        size_t n = *(const size_t *)at(base, f->count_offset);
        for (size_t i = 0; i < n; i++) {
            buf_append_u8(out, i == 0 ? '[' : ',');
            if (f->kind == FIELD_STRINGS) {
                json_print_string(out, slice_str((*(char **const *)p)[i]));
            } else {
                buf_printf(out, "%lld", (long long)(*(int64_t *const *)p)[i]);
            }
        }
        buf_append_str(out, n == 0 ? "[]" : "]");
        break;
    }
    case FIELD_METADATA: {
        const struct metadata_item *items = *(struct metadata_item *const *)p;
        size_t n = *(const size_t *)at(base, f->count_offset);
        buf_append_u8(out, '{');
        for (size_t i = 0; i < n; i++) {
            if (i > 0) {
                buf_append_u8(out, ',');
            }
            json_print_string(out, slice_str(items[i].key));
            buf_append_u8(out, ':');
            json_print_string(out, slice_str(items[i].value));
        }
        buf_append_u8(out, '}');
        break;
    }
    case FIELD_OBJECT:
        buf_append_u8(out, '{');
        fields_print(f->table, f->table_count, p, out);
        buf_append_u8(out, '}');
        break;
    case FIELD_LATER:
        buf_append_str(out, f->literal);
        break;
    }
}

void fields_print(const struct field *table, size_t count, const void *base, struct buf *out)
{
    bool is_first = true;
    for (size_t i = 0; i < count; i++) {
        const struct field *f = &table[i];
        bool is_omitted = (f->flags & FIELD_NOT_PRINTED) != 0 ||
                          ((f->flags & FIELD_OMIT_EMPTY) != 0 && is_empty(f, base)) ||
                          (f->kind == FIELD_LATER && f->literal == NULL);
        if (!is_omitted) {
            begin_member(out, f->name, &is_first);
            print_value(f, base, out);
        }
    }
}

void fields_close(const struct field *table, size_t count, void *base)
{
    for (size_t i = 0; i < count; i++) {
        field_free(&table[i], base);
    }
}

void fields_dup(const struct field *table, size_t count, void *to)
{
    for (size_t i = 0; i < count; i++) {
        const struct field *f = &table[i];
        void *p = at(to, f->offset);
        size_t n = f->kind == FIELD_STRINGS || f->kind == FIELD_I64S || f->kind == FIELD_METADATA
                       ? *(size_t *)at(to, f->count_offset)
                       : 0;
        if (f->kind == FIELD_STRING && *(char **)p != NULL) {
            *(char **)p = xstrndup(*(char **)p, strlen(*(char **)p));
        } else if (f->kind == FIELD_OBJECT) {
            fields_dup(f->table, f->table_count, p);
        } else if (n == 0) {
            continue;
        } else if (f->kind == FIELD_STRINGS) {
            char **list = xcalloc(n, sizeof *list);
            for (size_t k = 0; k < n; k++) {
                list[k] = xstrndup((*(char ***)p)[k], strlen((*(char ***)p)[k]));
            }
            *(char ***)p = list;
        } else if (f->kind == FIELD_I64S) {
            int64_t *list = xcalloc(n, sizeof *list);
            memcpy(list, *(int64_t **)p, n * sizeof *list);
            *(int64_t **)p = list;
        } else {
            struct metadata_item *list = xcalloc(n, sizeof *list);
            const struct metadata_item *old = *(struct metadata_item **)p;
            for (size_t k = 0; k < n; k++) {
                list[k].key = xstrndup(old[k].key, strlen(old[k].key));
                list[k].value = xstrndup(old[k].value, strlen(old[k].value));
            }
            *(struct metadata_item **)p = list;
        }
    }
}

bool fields_eq(const struct field *table, size_t count, const void *a, const void *b)
{
    struct buf one = BUF_EMPTY;
    struct buf two = BUF_EMPTY;
    bool is_equal = true;
    for (size_t i = 0; i < count && is_equal; i++) {
        buf_clear(&one);
        buf_clear(&two);
        if (table[i].kind == FIELD_LATER) {
            continue;
        }
        print_value(&table[i], a, &one);
        print_value(&table[i], b, &two);
        is_equal = slice_eq(buf_slice(&one), buf_slice(&two));
    }
    buf_close(&one);
    buf_close(&two);
    return is_equal;
}

json_t *json_take(json_t *object, const char *name)
{
    const char *key;
    json_t *v;
    json_object_foreach(object, key, v)
    {
        if (strcasecmp(key, name) == 0) {
            json_incref(v);
            json_object_del(object, key);
            return v;
        }
    }
    return NULL;
}

bool json_take_flag(json_t *object, const char *name)
{
    json_t *v = json_take(object, name);
    bool is_true = json_is_true(v);
    json_decref(v);
    return is_true;
}

json_t *json_parse(struct slice text, struct field_error *ret_error)
{
    json_error_t error;
    *ret_error = (struct field_error){{0}, NULL};
    json_t *v =
        json_loadb((const char *)text.ptr, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (v == NULL) {
        const char *what = json_error_code(&error) == json_error_premature_end_of_input
                               ? "unexpected end of JSON input"
                               : error.text;
        snprintf(ret_error->text, sizeof ret_error->text, "%.160s at offset %d", what,
                 error.position);
    }
    return v;
}
