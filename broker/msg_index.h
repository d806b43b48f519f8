/* What a stream knows of its live messages without reading them: subject, size, time, and the chain
 * of messages of one subject. 26 bytes a message.
 *
 * Messages lie in segments of 1,024 sequences in sequence order; deleted ones leave holes which are
 * squeezed out when they are more than half of a segment. A Fenwick tree over the segments counts
 * messages by sequence in O(log n). Pure memory; out of memory stops the process. */
#ifndef BROKER_MSG_INDEX_H
#define BROKER_MSG_INDEX_H
#include "broker/subject_table.h"

#define MSG_SEGMENT_SEQS 1024u

/* A live message. */
struct msg_info {
    uint64_t seq;
    int64_t time_ns;
    struct slice subject; /* Borrowed until the index changes. */
    uint32_t subject_id;
    uint32_t size; /* As it counts towards max_bytes: jetstream-api.md 2.3. */
};

struct msg_segment;
struct msg_dir_slot {
    uint64_t number;             /* seq / MSG_SEGMENT_SEQS */
    struct msg_segment *segment; /* NULL once it is empty. */
};

struct msg_index {
    struct subject_table subjects;
    uint64_t count;
    uint64_t bytes;
    uint64_t hash; /* Sum over the messages of a hash of seq, time, subject and size. */

    struct msg_dir_slot *dir; /* Private from here on. Ascending; dir[head] is not empty. */
    uint32_t *tree;           /* Fenwick over dir, live messages. */
    size_t head;
    size_t dir_count;
    size_t dir_cap;
    size_t dir_empty; /* NULL segments from head on. */
    struct msg_garbage *garbage;
};

void msg_index_init(struct msg_index *x);
void msg_index_close(struct msg_index *x);

/* Append; @seq is above all before it. */
void msg_index_add(struct msg_index *x, uint64_t seq, int64_t time_ns, uint32_t subject_id,
                   uint32_t size);
/* Remove, and the subject with its last message. False if it is not live. */
bool msg_index_remove(struct msg_index *x, uint64_t seq);
/* Remove all. What that leaves to be freed may be much: it is kept until the close, or until
 * somebody takes it to free it elsewhere. */
void msg_index_clear(struct msg_index *x);
struct msg_garbage *msg_index_take_garbage(struct msg_index *x); /* NULL: there is none. */
void msg_garbage_free(struct msg_garbage *garbage);              /* Any thread. NULL is fine. */

bool msg_index_get(const struct msg_index *x, uint64_t seq, struct msg_info *ret_info);
/* The first live sequence at or above @seq, and the last at or below; 0: none. */
uint64_t msg_index_at_or_above(const struct msg_index *x, uint64_t seq);
uint64_t msg_index_at_or_below(const struct msg_index *x, uint64_t seq);
/* Live messages with a sequence at or above @seq. */
uint64_t msg_index_count_from(const struct msg_index *x, uint64_t seq);
/* The sequence of the live message with @rank others below it; 0: there are not that many. */
uint64_t msg_index_select(const struct msg_index *x, uint64_t rank);
/* The first live sequence not older than @time_ns; 0: none. */
uint64_t msg_index_at_time(const struct msg_index *x, int64_t time_ns);
/* The next or previous live message of the same subject; 0: none. @seq must be live. */
uint64_t msg_index_next_same(const struct msg_index *x, uint64_t seq);
uint64_t msg_index_prev_same(const struct msg_index *x, uint64_t seq);

/* Walk live messages upwards. The walk ends when the index changes. */
struct msg_cursor {
    const struct msg_index *x;
    size_t dir_pos;
    uint32_t slot;
};
/* Place before the first live message at or above @seq. */
void msg_cursor_init(struct msg_cursor *c, const struct msg_index *x, uint64_t seq);
/* False at the end. Only seq and subject_id: the cheapest scan. */
bool msg_cursor_next(struct msg_cursor *c, uint64_t *ret_seq, uint32_t *ret_subject_id);

/* The next messages below @to that lie together: the ids of their subjects, SUBJECT_NONE for
 * deleted ones. Returns how many there are; 0: the end. */
uint32_t msg_cursor_next_ids(struct msg_cursor *c, uint64_t to, const uint32_t **ret_ids);

/* Assert all invariants; slow. */
void msg_index_check(const struct msg_index *x);
#endif
