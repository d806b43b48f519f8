/* A set of subject filters over one stream's messages, with what it remembers to be fast.
 *
 * A single literal follows its subject's chain. Wildcards and lists scan the index with one compare
 * a message, and remember the range that is known to hold nothing: each message is looked at once
 * per filter as its user moves forward, and asking again at the end costs nothing. What is
 * remembered never changes an answer. */
#ifndef BROKER_STREAM_FILTER_H
#define BROKER_STREAM_FILTER_H
#include "broker/msg_index.h"

struct stream_filter {
    char **texts; /* Copies. None: everything matches. */
    size_t count;
    bool is_all;     /* No filter, or one of them is ">". */
    bool is_literal; /* One filter without wildcards. */
    uint64_t literal_hash;
    uint32_t *seen; /* Private: per subject id, birth number and verdict. */
    uint32_t seen_cap;
    uint32_t seen_epoch;
    uint64_t empty_from; /* Nothing matches in [empty_from, empty_to). */
    uint64_t empty_to;
};

/* @count 0: everything matches. The texts are copied. */
void stream_filter_init(struct stream_filter *f, const struct slice *subjects, size_t count);
void stream_filter_init_strings(struct stream_filter *f, char *const *subjects, size_t count);
void stream_filter_close(struct stream_filter *f);

bool stream_filter_has_subject(const struct stream_filter *f, struct slice subject);
/* Does the subject with this live id match? Cached. */
bool stream_filter_has_id(struct stream_filter *f, const struct msg_index *x, uint32_t subject_id);
/* The first live matching sequence at or above @from; 0: none. */
uint64_t stream_filter_next(struct stream_filter *f, const struct msg_index *x, uint64_t from);
/* The same by looking at no more than @budget messages, which is how many are left of it then. Zero
 * is left: it is not known yet; asking again goes on from there. */
uint64_t stream_filter_seek(struct stream_filter *f, const struct msg_index *x, uint64_t from,
                            uint64_t *budget);
/* The last live matching sequence; 0: none. */
uint64_t stream_filter_last(struct stream_filter *f, const struct msg_index *x);
/* Exact count of live matching messages at or above @from. O(log n) without filters; otherwise it
 * walks the smaller side. */
uint64_t stream_filter_count(struct stream_filter *f, const struct msg_index *x, uint64_t from);
#endif
