/* Intrusive doubly linked list with a head.
 *
 * Embed a `struct list` in what is listed; find it again with `container_of`. */
#ifndef STORAGE_BASE_LIST_H
#define STORAGE_BASE_LIST_H
#include <stdbool.h>
#include <stddef.h>

#ifndef container_of
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#endif

struct list {
    struct list *next;
    struct list *prev;
};

/* An empty head, or an element that is in no list. */
static inline void list_init(struct list *l)
{
    l->next = l;
    l->prev = l;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_insert_before(struct list *at, struct list *l)
{
    l->prev = at->prev;
    l->next = at;
    at->prev->next = l;
    at->prev = l;
}

static inline void list_push_back(struct list *head, struct list *l)
{
    list_insert_before(head, l);
}

static inline void list_push_front(struct list *head, struct list *l)
{
    list_insert_before(head->next, l);
}

/* Removing what is in no list, but initialised, is harmless. */
static inline void list_remove(struct list *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    list_init(l);
}

/* The first element, removed; NULL when the list is empty. */
static inline struct list *list_pop_front(struct list *head)
{
    if (list_is_empty(head)) {
        return NULL;
    }
    struct list *l = head->next;
    list_remove(l);
    return l;
}

/* Move all of @from to the end of @to; @from is empty afterwards. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_is_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define LIST_FOR(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
/* Safe against removing @it inside the loop. */
#define LIST_FOR_SAFE(it, tmp, head)                                                               \
    for (struct list *it = (head)->next, *tmp = it->next; it != (head); it = tmp, tmp = it->next)
#endif
