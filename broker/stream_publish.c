/* A PUBLISH run: lanes, then the checks in the R3 order of jetstream-api.md 6.2, then storing. */
#include <assert.h>
#include <stdio.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "broker/stream_state.h"
#include "broker/subject.h"
#include "broker/subject_transform.h"

struct verdict {
    int code; /* 0: store it. */
    struct slice text;
};

#define OK ((struct verdict){0, SLICE_EMPTY})
#define REFUSE(code, literal) ((struct verdict){(code), SLICE_LIT(literal)})

static bool has(const struct publish_message *m, enum publish_option option)
{
    return (m->options & PUBLISH_HAS(option)) != 0;
}

static struct verdict refuse_seq(uint64_t actual, struct stream_effects *e)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%llu", (unsigned long long)actual);
    return (struct verdict){REFUSE_LAST_SEQ, effects_text(e, slice_of(text, (size_t)len))};
}

/* The last live sequence on a subject that may have wildcards; 0: none. */
static uint64_t last_on(struct stream *s, struct slice subject)
{
    struct stream_filter *f = &s->expect_filter;
    if (f->count != 1 || !slice_eq_str(subject, f->texts[0])) {
        stream_filter_close(f);
        stream_filter_init(f, &subject, 1);
    }
    if (f->is_literal) {
        return stream_last_by_subject(s, subject);
    }
    uint64_t last = 0;
    const struct subject_table *t = &s->index.subjects;
    for (uint32_t id = 0; id < t->entries_count; id++) {
        if (t->entries[id].text != NULL && t->entries[id].last_seq > last &&
            stream_filter_has_id(f, &s->index, id)) {
            last = t->entries[id].last_seq;
        }
    }
    return last;
}

static struct verdict check_sequences(struct stream *s, const struct publish_message *m,
                                      struct stream_effects *e)
{
    if (has(m, PUBLISH_EXPECT_LAST_SEQ) && m->expect_last_seq != s->last_seq) {
        return refuse_seq(s->last_seq, e);
    }
    if (has(m, PUBLISH_EXPECT_LAST_SUBJECT_SEQ)) {
        uint64_t last = last_on(s, has(m, PUBLISH_EXPECT_SUBJECT) ? m->expect_subject : m->subject);
        if (last != m->expect_last_subject_seq) {
            return refuse_seq(last, e);
        }
    }
    return OK;
}

/* Discard new: a full stream accepts what replaces the oldest of its subject, if it fits. */
static struct verdict check_discard_new(const struct stream *s, const struct publish_message *m,
                                        uint32_t subject_id, uint32_t size)
{
    const struct stream_config *c = &s->config;
    const struct subject_entry *subject =
        subject_id == SUBJECT_NONE ? NULL : &s->index.subjects.entries[subject_id];
    bool is_subject_full = c->max_msgs_per_subject > 0 && subject != NULL &&
                           subject->count >= (uint64_t)c->max_msgs_per_subject;
    if (is_subject_full && c->discard_new_per_subject && !has(m, PUBLISH_ROLLUP)) {
        return REFUSE(REFUSE_STORE, "maximum messages per subject exceeded");
    }
    if (c->max_msgs > 0 && s->index.count >= (uint64_t)c->max_msgs && !is_subject_full) {
        return REFUSE(REFUSE_STORE, "maximum messages exceeded");
    }
    uint64_t freed = 0;
    struct msg_info info;
    if (is_subject_full && msg_index_get(&s->index, subject->first_seq, &info)) {
        freed = info.size;
    }
    if (c->max_bytes > 0 && s->index.bytes - freed + size > (uint64_t)c->max_bytes) {
        return REFUSE(REFUSE_STORE, "maximum bytes exceeded");
    }
    return OK;
}

/* What comes before the look at duplicates. */
static struct verdict check_early(const struct stream *s, const struct publish_message *m)
{
    if (s->config.sealed) {
        return REFUSE(REFUSE_SEALED, "");
    }
    if (m->refused_code != 0) {
        return (struct verdict){m->refused_code, m->refused_text};
    }
    if (s->config.max_msg_size > 0 &&
        m->header.len + m->payload.len > (size_t)s->config.max_msg_size) {
        return REFUSE(REFUSE_MSG_TOO_LARGE, "");
    }
    if (m->header.len > STREAM_HEADER_BYTES_MAX) {
        return REFUSE(REFUSE_HEADER_TOO_LARGE, "");
    }
    if (has(m, PUBLISH_EXPECT_STREAM) && !slice_eq_str(m->expect_stream, s->config.name)) {
        return REFUSE(REFUSE_NOT_MATCH, "");
    }
    return OK;
}

static struct verdict check_late(struct stream *s, const struct publish_message *m,
                                 uint32_t subject_id, uint32_t size, struct stream_effects *e)
{
    struct verdict v = check_sequences(s, m, e);
    if (v.code != 0) {
        return v;
    }
    if (has(m, PUBLISH_ROLLUP) && (!s->config.allow_rollup_hdrs || s->config.deny_purge)) {
        return REFUSE(REFUSE_ROLLUP, "rollup not permitted");
    }
    if (s->config.discard == DISCARD_NEW) {
        v = check_discard_new(s, m, subject_id, size);
        if (v.code != 0) {
            return v;
        }
    }
    if (has(m, PUBLISH_EXPECT_LAST_MSG_ID) &&
        !slice_eq(m->expect_last_msg_id, buf_slice(&s->last_msg_id))) {
        return (struct verdict){REFUSE_LAST_MSG_ID, effects_text(e, buf_slice(&s->last_msg_id))};
    }
    return OK;
}

/* Remove the oldest of a subject while it has more than @max. */
static void trim_subject(struct stream *s, uint32_t id, uint64_t max, struct stream_effects *e)
{
    const struct subject_table *t = &s->index.subjects;
    while (t->entries[id].count > max && s->budget > 0) {
        stream_remove_live(s, t->entries[id].first_seq, e);
        s->budget--;
    }
}

/* What a stored message pushes out. */
static void evict(struct stream *s, const struct publish_message *m, uint32_t id, uint64_t seq,
                  struct stream_effects *e)
{
    if (m->rollup == ROLLUP_SUBJECT) {
        trim_subject(s, id, 1, e);
        if (s->index.subjects.entries[id].count > 1) {
            stream_add_job(s, JOB_PURGE, 0, seq - 1, UINT64_MAX, m->subject);
        }
    } else if (s->config.max_msgs_per_subject > 0) {
        trim_subject(s, id, (uint64_t)s->config.max_msgs_per_subject, e);
    }
    /* Not through the budget: the limits hold after each publish, unless they were lowered. */
    if (stream_is_over_limits(s)) {
        stream_enforce_limits(s, e);
    }
}

static uint64_t store(struct stream *s, const struct publish_message *m, uint64_t hash,
                      uint32_t size, struct stream_effects *e)
{
    uint64_t last_subject_seq =
        s->config.republish.destination == NULL ? 0 : stream_last_by_subject(s, m->subject);
    if (m->rollup == ROLLUP_ALL) {
        stream_remove_below(s, s->last_seq + 1, e);
    }
    s->budget += 2; /* Each message may push out one of its subject and one of the stream. */
    uint64_t seq = ++s->last_seq;
    int64_t shift_ns = shifts_stored(&s->shifts, seq);
    uint32_t id = subject_table_add(&s->index.subjects, m->subject, hash);
    msg_index_add(&s->index, seq, s->time_ns, id, size);
    s->last_time_ns = s->time_ns;
    s->payload_chain = XXH3_64bits_withSeed(m->payload.ptr, m->payload.len, s->payload_chain);
    if (m->header.len > 0) {
        s->payload_chain = XXH3_64bits_withSeed(m->header.ptr, m->header.len, s->payload_chain);
    }
    struct effect_store *effect = effects_store(e);
    *effect = (struct effect_store){.seq = seq,
                                    .time_ns = s->time_ns,
                                    .subject = m->subject,
                                    .header = m->header,
                                    .payload = m->payload,
                                    .last_subject_seq = last_subject_seq};
    if (has(m, PUBLISH_MSG_ID) || s->last_msg_id.len > 0) {
        buf_clear(&s->last_msg_id);
        buf_append_slice(&s->last_msg_id, m->msg_id);
    }
    if (m->msg_id.len > 0 && s->config.duplicate_window_ns > 0) {
        dedup_add(&s->dedup, m->msg_id, seq, s->time_ns + shift_ns);
    }
    if (s->consumers != NULL) {
        s->ops->stored(s->consumers, seq, id);
    }
    evict(s, m, id, seq, e);
    return seq;
}

/* The subject a message is stored under. What is random follows from the log: replicas draw alike.
 */
static struct verdict move(const struct stream *s, struct publish_message *m,
                           struct stream_effects *e)
{
    const uint64_t seed[] = {s->last_seq, (uint64_t)s->time_ns, (uint64_t)s->created_ns};
    struct buf subject = BUF_EMPTY;
    enum subject_transform_result r =
        subject_transform_apply(s->transform, m->subject, XXH3_64bits(seed, sizeof seed),
                                STREAM_SUBJECT_BYTES_MAX, &subject);
    /* With an empty token no filter would find it. */
    if (r == TRANSFORM_DONE && subject_is_literal(buf_slice(&subject))) {
        m->subject = effects_text(e, buf_slice(&subject));
    }
    buf_close(&subject);
    return r == TRANSFORM_TOO_LONG ? REFUSE(REFUSE_STORE, "transformed subject is too long") : OK;
}

/* Decide one message and carry it out. */
static void publish_one(struct stream *s, struct publish_message *m, struct lane_answer *a,
                        struct stream_effects *e)
{
    *a = (struct lane_answer){0};
    struct verdict v = check_early(s, m);
    if (v.code == 0 && m->msg_id.len > 0 && s->config.duplicate_window_ns > 0) {
        const struct dedup_id *id = dedup_find(&s->dedup, m->msg_id);
        if (id != NULL && s->time_ns - id->time_ns < s->config.duplicate_window_ns) {
            a->seq = id->seq;
            a->is_duplicate = true;
            return;
        }
    }
    if (v.code == 0 && s->transform != NULL) {
        v = move(s, m, e);
    }
    if (v.code == 0) {
        uint64_t hash = subject_hash(m->subject);
        uint32_t id = SUBJECT_NONE;
        if (s->config.discard == DISCARD_NEW) {
            id = subject_table_find(&s->index.subjects, m->subject, hash);
        }
        uint32_t size = stream_message_size(m->subject.len, m->header.len, m->payload.len);
        v = check_late(s, m, id, size, e);
        if (v.code == 0) {
            a->seq = store(s, m, hash, size, e);
            return;
        }
    }
    a->err_code = v.code;
    a->text = v.text;
}

static void reply(const struct op_publish *p, uint64_t n, const struct lane_answer *a,
                  struct stream_effects *e)
{
    struct effect_reply *r = effects_reply(e);
    *r = (struct effect_reply){.node = p->node,
                               .origin = p->origin,
                               .n = n,
                               .seq = a->seq,
                               .err_code = a->err_code,
                               .is_duplicate = a->is_duplicate,
                               .text = a->text};
}

/* n was seen before: answer from the lane. */
static void reply_again(const struct op_publish *p, const struct lane *lane, uint64_t n,
                        struct stream_effects *e)
{
    struct lane_answer a = {0};
    bool is_known = lane_find(lane, n, &a);
    a.text = effects_text(e, a.text);
    reply(p, n, &a, e);
    e->replies[e->replies_count - 1].is_forgotten = !is_known;
}

static void reply_gap(const struct op_publish *p, uint64_t last_n, uint64_t n,
                      struct stream_effects *e)
{
    struct effect_reply *r = effects_reply(e);
    *r = (struct effect_reply){
        .node = p->node, .origin = p->origin, .n = n, .is_gap = true, .last_n = last_n};
}

static struct lane *lane_of(struct stream *s, const struct op_publish *p)
{
    struct lane *lane = lanes_find(&s->lanes, p->node, p->origin);
    if (lane == NULL && p->first_n == 1) { /* Else it is a gap, and no reason to remember it. */
        lane = lanes_add(&s->lanes, p->node, p->origin, s->time_ns + STREAM_ORIGIN_FORGET_NS);
    }
    return lane;
}

void stream_publish(struct stream *s, struct op_publish *p, struct stream_effects *e)
{
    struct lane *lane = p->origin == 0 || p->count == 0 ? NULL : lane_of(s, p);
    uint64_t last_n = lane == NULL ? 0 : lane->last_n;
    struct publish_message m;
    for (uint64_t n = p->first_n; entry_next_message(p, &m); n++) {
        struct lane_answer a;
        if (p->origin == 0) {
            publish_one(s, &m, &a, e);
            reply(p, n, &a, e);
        } else if (n > last_n + 1 || lane == NULL) {
            reply_gap(p, last_n, n, e);
        } else if (n <= last_n) {
            reply_again(p, lane, n, e);
        } else {
            publish_one(s, &m, &a, e);
            lane_add(lane, &a, STREAM_LANE_ANSWERS);
            last_n = n;
            reply(p, n, &a, e);
        }
    }
}
