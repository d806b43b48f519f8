#include "broker/tags.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"

static struct slice trim(struct slice s)
{
    while (s.len > 0 && isspace(s.ptr[0])) {
        s = slice_from(s, 1);
    }
    while (s.len > 0 && isspace(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

/* @item is in lower case already. */
static bool is_same(const char *item, struct slice tag)
{
    if (strlen(item) != tag.len) {
        return false;
    }
    for (size_t i = 0; i < tag.len; i++) {
        if (item[i] != (char)tolower(tag.ptr[i])) {
            return false;
        }
    }
    return true;
}

bool tags_have(const struct tag_list *list, struct slice tag)
{
    tag = trim(tag);
    for (size_t i = 0; i < list->count; i++) {
        if (is_same(list->items[i], tag)) {
            return true;
        }
    }
    return false;
}

static bool is_text(struct slice s)
{
    json_t *v = json_stringn((const char *)s.ptr, s.len);
    bool is_utf8 = v != NULL;
    json_decref(v);
    return is_utf8 && memchr(s.ptr, 0, s.len) == NULL;
}

int tags_add(struct tag_list *list, struct slice tag)
{
    tag = trim(tag);
    if (tag.len > TAG_BYTES_MAX) {
        return ERR_TOOBIG;
    }
    if (tag.len > 0 && !is_text(tag)) {
        return ERR_INVALID;
    }
    if (tag.len == 0 || tags_have(list, tag)) {
        return 0;
    }
    if (list->count == TAGS_MAX) {
        return ERR_FULL;
    }
    char *item = xslicedup(tag);
    for (size_t i = 0; i < tag.len; i++) {
        item[i] = (char)tolower((unsigned char)item[i]);
    }
    list->items = xrealloc(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = item;
    return 0;
}

const char *tags_with_prefix(const struct tag_list *list, const char *prefix)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strncmp(list->items[i], prefix, strlen(prefix)) == 0) {
            return list->items[i];
        }
    }
    return NULL;
}

bool tags_eq(const struct tag_list *a, const struct tag_list *b)
{
    bool is_equal = a->count == b->count;
    for (size_t i = 0; is_equal && i < a->count; i++) {
        is_equal = strcmp(a->items[i], b->items[i]) == 0;
    }
    return is_equal;
}

void tags_close(struct tag_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (struct tag_list){NULL, 0};
}
