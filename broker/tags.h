/* Tags of a server: words its operator gives it, by which streams say where they want to live.
 *
 * Kept as nats-server keeps them: without spaces around, in lower case (ASCII), each once, in the
 * order they came. Who asks for one is heard in any case. */
#ifndef BROKER_TAGS_H
#define BROKER_TAGS_H
#include <stdbool.h>
#include <stddef.h>

#include "storage/base/slice.h"

#define TAGS_MAX 64
#define TAG_BYTES_MAX 255

struct tag_list {
    char **items;
    size_t count;
};

/* Returns 0, also for one that is there already or is empty; ERR_TOOBIG, ERR_FULL, or ERR_INVALID:
 * it is no UTF-8, which would not come back from JSON as it was, or holds a NUL. */
int tags_add(struct tag_list *list, struct slice tag);
bool tags_have(const struct tag_list *list, struct slice tag);
/* The first that begins with @prefix; NULL: none does. */
const char *tags_with_prefix(const struct tag_list *list, const char *prefix);
bool tags_eq(const struct tag_list *a, const struct tag_list *b);
void tags_close(struct tag_list *list);
#endif
