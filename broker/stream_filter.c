#include "broker/stream_filter.h"

#include <assert.h>
#include <stdlib.h>

#include "broker/subject.h"

#define SCAN_FIRST 65536u   /* Messages looked at before the subjects are asked. */
#define CHAIN_STEPS_MAX 64u /* From each end of a subject's chain. */
#include "storage/base/buf.h"

void stream_filter_init(struct stream_filter *f, const struct slice *subjects, size_t count)
{
    memset(f, 0, sizeof *f);
    f->count = count;
    f->is_all = count == 0;
    if (count == 0) {
        return;
    }
    f->texts = xcalloc(count, sizeof *f->texts);
    for (size_t i = 0; i < count; i++) {
        f->texts[i] = xslicedup(subjects[i]);
        f->is_all = f->is_all || slice_eq_str(subjects[i], ">");
    }
    if (count == 1 && !subject_has_wildcard(subjects[0])) {
        f->is_literal = true;
        f->literal_hash = subject_hash(subjects[0]);
    }
}

void stream_filter_init_strings(struct stream_filter *f, char *const *subjects, size_t count)
{
    struct slice *slices = xcalloc(count == 0 ? 1 : count, sizeof *slices);
    for (size_t i = 0; i < count; i++) {
        slices[i] = slice_str(subjects[i]);
    }
    stream_filter_init(f, slices, count);
    free(slices);
}

void stream_filter_close(struct stream_filter *f)
{
    for (size_t i = 0; i < f->count; i++) {
        free(f->texts[i]);
    }
    free(f->texts);
    free(f->seen);
    memset(f, 0, sizeof *f);
}

bool stream_filter_has_subject(const struct stream_filter *f, struct slice subject)
{
    if (f->is_all) {
        return true;
    }
    for (size_t i = 0; i < f->count; i++) {
        if (subject_match(subject, slice_str(f->texts[i]))) {
            return true;
        }
    }
    return false;
}

/* It is not remembered. */
static bool look_at_id(struct stream_filter *f, const struct subject_table *t, uint32_t subject_id)
{
    if (f->seen_epoch != t->epoch) {
        f->seen_epoch = t->epoch;
        f->seen_cap = 0;
    }
    if (subject_id >= f->seen_cap) {
        uint32_t cap = t->entries_cap;
        f->seen = xrealloc(f->seen, cap * sizeof *f->seen);
        memset(f->seen + f->seen_cap, 0, (cap - f->seen_cap) * sizeof *f->seen);
        f->seen_cap = cap;
    }
    uint32_t birth = t->entries[subject_id].birth;
    if (f->seen[subject_id] >> 1 != birth) {
        bool is_match = stream_filter_has_subject(f, subject_text(t, subject_id));
        f->seen[subject_id] = birth << 1 | is_match;
    }
    return (f->seen[subject_id] & 1) != 0;
}

bool stream_filter_has_id(struct stream_filter *f, const struct msg_index *x, uint32_t subject_id)
{
    if (f->is_all) {
        return true;
    }
    const struct subject_table *t = &x->subjects;
    if (f->seen_epoch == t->epoch && subject_id < f->seen_cap &&
        f->seen[subject_id] >> 1 == t->entries[subject_id].birth) {
        return (f->seen[subject_id] & 1) != 0;
    }
    return look_at_id(f, t, subject_id);
}

static const struct subject_entry *literal_of(const struct stream_filter *f,
                                              const struct msg_index *x)
{
    uint32_t id = subject_table_find(&x->subjects, slice_str(f->texts[0]), f->literal_hash);
    return id == SUBJECT_NONE ? NULL : &x->subjects.entries[id];
}

/* On the subject's chain: from the message just before @from if it is of the subject (its user
 * moves forward message by message); else from both ends and by a scan, whichever arrives first. */
static uint64_t literal_next(const struct subject_entry *s, uint32_t id, const struct msg_index *x,
                             uint64_t from)
{
    struct msg_info info;
    if (from <= s->first_seq) {
        return s->first_seq;
    }
    if (from > s->last_seq) {
        return 0;
    }
    if (msg_index_get(x, from - 1, &info) && info.subject_id == id) {
        return msg_index_next_same(x, from - 1);
    }
    uint64_t up = s->first_seq;
    uint64_t down = s->last_seq;
    struct msg_cursor scan;
    msg_cursor_init(&scan, x, from);
    for (;;) {
        uint64_t seq;
        uint32_t at_id;
        bool is_more = msg_cursor_next(&scan, &seq, &at_id);
        assert(is_more); /* last_seq is ahead. */
        if (at_id == id) {
            return seq;
        }
        up = msg_index_next_same(x, up);
        if (up >= from) {
            return up;
        }
        uint64_t before = msg_index_prev_same(x, down);
        if (before < from) {
            return down;
        }
        down = before;
    }
}

uint64_t stream_filter_seek(struct stream_filter *f, const struct msg_index *x, uint64_t from,
                            uint64_t *budget)
{
    if (f->is_all) {
        return msg_index_at_or_above(x, from);
    }
    if (f->is_literal) {
        const struct subject_entry *s = literal_of(f, x);
        return s == NULL ? 0 : literal_next(s, (uint32_t)(s - x->subjects.entries), x, from);
    }
    uint64_t start = from;
    if (from >= f->empty_from && from < f->empty_to) {
        start = f->empty_to;
    }
    struct msg_cursor c;
    msg_cursor_init(&c, x, start);
    uint64_t seq;
    uint32_t id;
    uint64_t end = start;
    uint64_t found = 0;
    while (*budget > 0 && msg_cursor_next(&c, &seq, &id)) {
        --*budget;
        end = seq;
        if (stream_filter_has_id(f, x, id)) {
            found = seq;
            *budget += *budget == 0; /* Zero says that it is not known. */
            break;
        }
        end = seq + 1;
    }
    /* Only what existed is known to be empty: a later message may come at the next sequence. */
    if (start != from) {
        f->empty_to = end > f->empty_to ? end : f->empty_to;
    } else if (end > from) {
        f->empty_from = from;
        f->empty_to = end;
    }
    return found;
}

/* The first message at or above @from of a subject that has some on both sides, if it is near one
 * end of the subject's chain; 0: it is not. */
static uint64_t first_of_chain(const struct subject_entry *s, const struct msg_index *x,
                               uint64_t from)
{
    uint64_t up = s->first_seq;
    uint64_t down = s->last_seq;
    for (unsigned i = 0; i < CHAIN_STEPS_MAX; i++) {
        up = msg_index_next_same(x, up);
        if (up >= from) {
            return up;
        }
        uint64_t before = msg_index_prev_same(x, down);
        if (before < from) {
            return down;
        }
        down = before;
    }
    return 0;
}

/* The same question to the subjects; false: they do not know. */
static bool next_by_subjects(struct stream_filter *f, const struct msg_index *x, uint64_t from,
                             uint64_t *ret_seq)
{
    const struct subject_table *t = &x->subjects;
    uint64_t first = 0;
    for (uint32_t id = 0; id < t->entries_count; id++) {
        const struct subject_entry *s = &t->entries[id];
        if (s->text == NULL || !stream_filter_has_id(f, x, id) || s->last_seq < from) {
            continue;
        }
        uint64_t seq = s->first_seq >= from ? s->first_seq : first_of_chain(s, x, from);
        if (seq == 0) {
            return false;
        }
        first = first == 0 || seq < first ? seq : first;
    }
    *ret_seq = first;
    return true;
}

uint64_t stream_filter_next(struct stream_filter *f, const struct msg_index *x, uint64_t from)
{
    uint64_t budget = SCAN_FIRST;
    uint64_t seq = stream_filter_seek(f, x, from, &budget);
    if (budget > 0 || next_by_subjects(f, x, from, &seq)) {
        return seq;
    }
    budget = UINT64_MAX;
    return stream_filter_seek(f, x, from, &budget);
}

uint64_t stream_filter_last(struct stream_filter *f, const struct msg_index *x)
{
    if (f->is_all) {
        return msg_index_at_or_below(x, UINT64_MAX);
    }
    if (f->is_literal) {
        const struct subject_entry *s = literal_of(f, x);
        return s == NULL ? 0 : s->last_seq;
    }
    const struct subject_table *t = &x->subjects;
    uint64_t last = 0;
    for (uint32_t id = 0; id < t->entries_count; id++) {
        const struct subject_entry *s = &t->entries[id];
        if (s->text != NULL && s->last_seq > last && stream_filter_has_id(f, x, id)) {
            last = s->last_seq;
        }
    }
    return last;
}

/* Ask the filter about each subject there is, so that f->seen is right for all of them. */
static void look_at_all(struct stream_filter *f, const struct msg_index *x)
{
    for (uint32_t id = 0; id < x->subjects.entries_count; id++) {
        if (x->subjects.entries[id].text != NULL) {
            (void)stream_filter_has_id(f, x, id);
        }
    }
}

/* Matching messages in [from, to), of @most at most. */
static uint64_t scan_count(struct stream_filter *f, const struct msg_index *x, uint64_t from,
                           uint64_t to, uint64_t most)
{
    struct msg_cursor c;
    msg_cursor_init(&c, x, from);
    const uint32_t *ids;
    uint32_t ids_count;
    uint64_t count = 0;
    bool is_all_seen = most > x->subjects.entries_count;
    if (is_all_seen) {
        look_at_all(f, x);
    }
    while ((ids_count = msg_cursor_next_ids(&c, to, &ids)) > 0) {
        if (is_all_seen) { /* Millions of messages in one turn: one load for each. */
            for (uint32_t i = 0; i < ids_count; i++) {
                count += ids[i] != SUBJECT_NONE && (f->seen[ids[i]] & 1) != 0;
            }
            continue;
        }
        for (uint32_t i = 0; i < ids_count; i++) {
            count += ids[i] != SUBJECT_NONE && stream_filter_has_id(f, x, ids[i]);
        }
    }
    return count;
}

static uint64_t literal_count(const struct subject_entry *s, const struct msg_index *x,
                              uint64_t from)
{
    uint64_t below = 0;
    uint64_t above = 0;
    uint64_t up = s->first_seq;
    uint64_t down = s->last_seq;
    for (;;) {
        if (up == 0 || up >= from) {
            return s->count - below;
        }
        if (down < from) {
            return above;
        }
        up = msg_index_next_same(x, up);
        below++;
        down = msg_index_prev_same(x, down);
        above++;
    }
}

uint64_t stream_filter_count(struct stream_filter *f, const struct msg_index *x, uint64_t from)
{
    uint64_t above = msg_index_count_from(x, from);
    if (f->is_all || above == 0) {
        return above;
    }
    if (f->is_literal) {
        const struct subject_entry *s = literal_of(f, x);
        return s == NULL ? 0 : literal_count(s, x, from);
    }
    if (above <= x->count - above + x->subjects.live_count) {
        return scan_count(f, x, from, UINT64_MAX, above);
    }
    uint64_t total = 0;
    for (uint32_t id = 0; id < x->subjects.entries_count; id++) {
        if (x->subjects.entries[id].text != NULL && stream_filter_has_id(f, x, id)) {
            total += x->subjects.entries[id].count;
        }
    }
    return total - scan_count(f, x, 0, from, x->count - above);
}
