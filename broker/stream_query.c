#include <assert.h>
#include <stdlib.h>

#include "broker/stream_state.h"
#include "broker/subject.h"

uint64_t stream_first_seq(const struct stream *s)
{
    uint64_t first = msg_index_at_or_above(&s->index, 0);
    if (first == 0 && s->last_seq > 0) {
        return s->last_seq + 1;
    }
    return first;
}

void stream_get_info(const struct stream *s, struct stream_info *ret_info)
{
    struct msg_info first;
    uint64_t first_seq = stream_first_seq(s);
    bool has_first = s->index.count > 0 && msg_index_get(&s->index, first_seq, &first);
    *ret_info = (struct stream_info){
        .messages = s->index.count,
        .bytes = s->index.bytes,
        .first_seq = first_seq,
        .first_time_ns = has_first ? first.time_ns : 0,
        .last_seq = s->last_seq,
        .last_time_ns = s->last_time_ns,
        .num_subjects = s->index.subjects.live_count,
        .num_deleted = has_first ? s->last_seq - first_seq + 1 - s->index.count : 0,
        .consumer_count = s->consumers == NULL ? 0 : s->ops->count(s->consumers),
        .created_ns = s->created_ns,
        .applied_index = s->applied_index,
        .applied_term = s->applied_term,
        .machine_version = s->machine_version,
        .dedup_ids = s->dedup.tail - s->dedup.head,
        .origins = s->lanes.count,
        .jobs = s->jobs_count,
    };
}

struct stream_now stream_now(const struct stream *s)
{
    int64_t lag_ns;
    struct stream_now now = {.ns = s->time_ns};
    if (s->machine_version >= ENTRY_MACHINE_VERSION_DEADLINES) {
        now.shift_ns = shifts_now(&s->shifts);
        now.is_unsure = shifts_is_unsure(&s->shifts, &lag_ns);
    }
    return now;
}

uint32_t stream_machine_version(const struct stream *s)
{
    return s->machine_version;
}

uint64_t stream_get_config_version(const struct stream *s)
{
    return s->config_version;
}

const struct stream_config *stream_get_config(const struct stream *s)
{
    return &s->config;
}

struct consumers *stream_get_consumers(const struct stream *s)
{
    return s->consumers;
}

const struct msg_index *stream_index(const struct stream *s)
{
    return &s->index;
}

int64_t stream_time_ns(const struct stream *s)
{
    return s->time_ns;
}

uint64_t stream_last_seq(const struct stream *s)
{
    return s->last_seq;
}

bool stream_get_message(const struct stream *s, uint64_t seq, struct msg_info *ret_info)
{
    return msg_index_get(&s->index, seq, ret_info);
}

uint64_t stream_last_by_subject(const struct stream *s, struct slice subject)
{
    uint32_t id = subject_table_find(&s->index.subjects, subject, subject_hash(subject));
    return id == SUBJECT_NONE ? 0 : s->index.subjects.entries[id].last_seq;
}

uint64_t stream_next_by_subject(const struct stream *s, struct slice filter, uint64_t from)
{
    struct stream_filter f;
    stream_filter_init(&f, &filter, filter.len > 0 ? 1 : 0);
    uint64_t seq = stream_filter_next(&f, &s->index, from);
    stream_filter_close(&f);
    return seq;
}

uint64_t stream_seq_at_time(const struct stream *s, int64_t time_ns)
{
    return msg_index_at_time(&s->index, time_ns);
}

uint64_t stream_deleted(const struct stream *s, uint64_t *ret_seqs, size_t max)
{
    struct msg_cursor c;
    msg_cursor_init(&c, &s->index, 0);
    uint64_t seq;
    uint32_t id;
    uint64_t count = 0;
    if (!msg_cursor_next(&c, &seq, &id)) {
        return 0;
    }
    for (uint64_t expected = seq + 1; expected <= s->last_seq; expected = seq + 1) {
        if (!msg_cursor_next(&c, &seq, &id)) {
            seq = s->last_seq + 1;
        }
        for (uint64_t gap = expected; gap < seq && count < max; gap++) {
            ret_seqs[count++] = gap;
        }
    }
    struct stream_info info;
    stream_get_info(s, &info);
    return info.num_deleted;
}

static int by_name(const void *a, const void *b)
{
    return slice_cmp(((const struct stream_subject *)a)->subject,
                     ((const struct stream_subject *)b)->subject);
}

size_t stream_subjects(const struct stream *s, struct slice filter, size_t offset,
                       struct stream_subject *ret_subjects, size_t max)
{
    const struct subject_table *t = &s->index.subjects;
    struct stream_subject *all = xcalloc(t->live_count + 1, sizeof *all);
    size_t count = 0;
    for (uint32_t id = 0; id < t->entries_count; id++) {
        const struct subject_entry *entry = &t->entries[id];
        if (entry->text != NULL &&
            (filter.len == 0 || subject_match(subject_text(t, id), filter))) {
            all[count++] = (struct stream_subject){subject_text(t, id), entry->count,
                                                   entry->first_seq, entry->last_seq};
        }
    }
    qsort(all, count, sizeof *all, by_name);
    for (size_t i = 0; i < max && offset + i < count; i++) {
        ret_subjects[i] = all[offset + i];
    }
    free(all);
    return count;
}

void stream_check(const struct stream *s)
{
    msg_index_check(&s->index);
    dedup_check(&s->dedup);
    assert(msg_index_at_or_below(&s->index, UINT64_MAX) <= s->last_seq);
    assert(s->jobs_count <= STREAM_JOBS_MAX);
    for (size_t i = 0; i < s->lanes.count; i++) {
        const struct lane *lane = &s->lanes.lanes[i];
        uint64_t n = 0;
        for (size_t r = lane->head; r < lane->count; r++) {
            assert(lane->runs[r].count > 0);
            assert(n == 0 || lane->runs[r].n == n);
            n = lane->runs[r].n + lane->runs[r].count;
        }
        assert(n == 0 || n == lane->last_n + 1);
    }
    if (s->consumers != NULL) {
        s->ops->check_invariants(s->consumers);
    }
}
