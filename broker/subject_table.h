/* The subjects of a stream's live messages: subject -> {id, count, first, last}.
 *
 * An id names a subject while it has messages and may be used again afterwards; the birth number
 * tells two users of an id apart. Ids follow from the history of this replica's memory and are
 * never shown or hashed. 48 bytes a subject beside its text and 6 to 12 bytes of hash table. */
#ifndef BROKER_SUBJECT_TABLE_H
#define BROKER_SUBJECT_TABLE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/slice.h"

#define SUBJECT_NONE UINT32_MAX

struct subject_entry {
    char *text; /* NULL: a free id. */
    uint64_t hash;
    uint64_t count;
    uint64_t first_seq;
    uint64_t last_seq;
    uint32_t text_len;
    uint32_t birth; /* Never 0. */
};

struct subject_table {
    struct subject_entry *entries; /* By id. */
    uint32_t entries_count;        /* Ids ever used, free ones included. */
    uint32_t entries_cap;
    uint32_t free_head; /* Chained through first_seq; SUBJECT_NONE at the end. */
    uint32_t live_count;
    uint32_t *slots; /* Open addressing: id, SUBJECT_NONE when free. */
    uint32_t slots_cap;
    uint32_t births;
    uint32_t epoch; /* Changes when birth numbers begin anew. */
};

void subject_table_init(struct subject_table *t);
void subject_table_close(struct subject_table *t);
/* SUBJECT_NONE if it has no messages. @hash = subject_hash(@subject). */
uint32_t subject_table_find(const struct subject_table *t, struct slice subject, uint64_t hash);
/* The id of @subject, new with count 0 if need be. */
uint32_t subject_table_add(struct subject_table *t, struct slice subject, uint64_t hash);
/* Free an id whose count is 0. */
void subject_table_remove(struct subject_table *t, uint32_t id);

static inline struct slice subject_text(const struct subject_table *t, uint32_t id)
{
    return slice_of(t->entries[id].text, t->entries[id].text_len);
}
uint64_t subject_hash(struct slice subject);
#endif
