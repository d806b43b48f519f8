/* Random ops against a naive model, with checkpoints and restores in between. */
#include <stdio.h>
#include <stdlib.h>

#include "broker/subject.h"
#include "tests/unit/stream_world.h"

#define MODEL_MAX 20000

struct model_message {
    uint64_t seq;
    int64_t time;
    char subject[16];
    uint64_t size;
    bool is_live;
};

/* Everything in plain arrays, everything by scanning. */
struct model {
    struct model_message m[MODEL_MAX];
    size_t count;
    uint64_t last_seq;
    uint64_t max_msgs, max_bytes, max_per_subject; /* 0: none. */
    int64_t max_age, window;
    bool is_discard_new;
    struct {
        unsigned id;
        uint64_t seq;
        int64_t time;
    } ids[MODEL_MAX];
    size_t ids_count;
    unsigned last_id; /* 0: none. */
};

static uint64_t live_count(const struct model *o, const char *filter)
{
    uint64_t n = 0;
    for (size_t i = 0; i < o->count; i++) {
        n += o->m[i].is_live && subject_match(slice_str(o->m[i].subject), slice_str(filter));
    }
    return n;
}

static uint64_t live_bytes(const struct model *o)
{
    uint64_t n = 0;
    for (size_t i = 0; i < o->count; i++) {
        n += o->m[i].is_live ? o->m[i].size : 0;
    }
    return n;
}

static struct model_message *first_live(struct model *o, const char *filter)
{
    for (size_t i = 0; i < o->count; i++) {
        if (o->m[i].is_live && subject_match(slice_str(o->m[i].subject), slice_str(filter))) {
            return &o->m[i];
        }
    }
    return NULL;
}

static void model_limits(struct model *o)
{
    while ((o->max_msgs > 0 && live_count(o, ">") > o->max_msgs) ||
           (o->max_bytes > 0 && live_bytes(o) > o->max_bytes)) {
        first_live(o, ">")->is_live = false;
    }
}

static void model_time(struct model *o, int64_t now)
{
    struct model_message *m;
    while (o->max_age > 0 && (m = first_live(o, ">")) != NULL && m->time + o->max_age <= now) {
        m->is_live = false;
    }
}

static void model_purge(struct model *o, const char *filter, uint64_t below, uint64_t keep)
{
    uint64_t left = keep > 0 ? live_count(o, filter) : UINT64_MAX;
    left = keep > 0 ? (left > keep ? left - keep : 0) : UINT64_MAX;
    for (size_t i = 0; i < o->count && left > 0; i++) {
        if (o->m[i].is_live && subject_match(slice_str(o->m[i].subject), slice_str(filter)) &&
            (below == 0 || o->m[i].seq < below)) {
            o->m[i].is_live = false;
            left--;
        }
    }
}

struct model_answer {
    uint64_t seq;
    bool is_refused, is_duplicate;
};

static struct model_answer model_publish(struct model *o, const struct publish_message *m,
                                         unsigned id, int64_t now)
{
    for (size_t i = o->ids_count; id != 0 && i-- > 0;) {
        if (o->ids[i].id == id && now - o->ids[i].time < o->window) {
            return (struct model_answer){o->ids[i].seq, false, true};
        }
    }
    char subject[16];
    snprintf(subject, sizeof subject, "%.*s", SLICE_ARG(m->subject));
    uint64_t size = 30 + m->subject.len + m->payload.len;
    uint64_t mine = live_count(o, subject);
    bool is_full = o->max_per_subject > 0 && mine >= o->max_per_subject;
    uint64_t last = 0;
    for (size_t i = 0; i < o->count; i++) {
        if (o->m[i].is_live && strcmp(o->m[i].subject, subject) == 0) {
            last = o->m[i].seq;
        }
    }
    struct model_answer refused = {0, true, false};
    if ((m->options & PUBLISH_HAS(PUBLISH_EXPECT_LAST_SEQ)) && m->expect_last_seq != o->last_seq) {
        return refused;
    }
    if ((m->options & PUBLISH_HAS(PUBLISH_EXPECT_LAST_SUBJECT_SEQ)) &&
        m->expect_last_subject_seq != last) {
        return refused;
    }
    if (o->is_discard_new) {
        uint64_t freed = is_full ? first_live(o, subject)->size : 0;
        if ((o->max_msgs > 0 && live_count(o, ">") >= o->max_msgs && !is_full) ||
            (o->max_bytes > 0 && live_bytes(o) - freed + size > o->max_bytes)) {
            return refused;
        }
    }
    if (m->rollup == ROLLUP_ALL) {
        model_purge(o, ">", 0, 0);
    }
    cr_assert(o->count < MODEL_MAX);
    struct model_message *new = &o->m[o->count++];
    *new = (struct model_message){.seq = ++o->last_seq, .time = now, .size = size, .is_live = true};
    memcpy(new->subject, subject, sizeof subject);
    if (id != 0) {
        o->ids[o->ids_count].id = id;
        o->ids[o->ids_count].seq = new->seq;
        o->ids[o->ids_count++].time = now;
    }
    if (m->rollup == ROLLUP_SUBJECT) {
        model_purge(o, subject, new->seq, 0);
    }
    while (o->max_per_subject > 0 && live_count(o, subject) > o->max_per_subject) {
        first_live(o, subject)->is_live = false;
    }
    model_limits(o);
    return (struct model_answer){new->seq, false, false};
}

static void compare(struct model *o, const struct stream *s)
{
    struct stream_info info;
    stream_get_info(s, &info);
    cr_assert_eq(info.messages, live_count(o, ">"));
    cr_assert_eq(info.bytes, live_bytes(o));
    cr_assert_eq(info.last_seq, o->last_seq);
    for (size_t i = 0; i < o->count; i++) {
        struct msg_info m;
        cr_assert_eq(stream_get_message(s, o->m[i].seq, &m), o->m[i].is_live);
        cr_assert(!o->m[i].is_live || slice_eq_str(m.subject, o->m[i].subject));
    }
}

static uint64_t model_next(const struct model *o, const char *filter, uint64_t from)
{
    for (size_t i = 0; i < o->count; i++) {
        if (o->m[i].is_live && o->m[i].seq >= from &&
            subject_match(slice_str(o->m[i].subject), slice_str(filter))) {
            return o->m[i].seq;
        }
    }
    return 0;
}

static uint64_t model_from(const struct model *o, const char *filter, uint64_t from)
{
    uint64_t n = 0;
    for (size_t i = 0; i < o->count; i++) {
        n += o->m[i].is_live && o->m[i].seq >= from &&
             subject_match(slice_str(o->m[i].subject), slice_str(filter));
    }
    return n;
}

static const char *const filters[] = {">", "k.3", "k.*", "*.5", "none", "z.>"};
#define FILTERS (sizeof filters / sizeof *filters)

/* Filters live as long as the stream, as a consumer's do: what they remember must stay true. */
static void compare_filters(const struct model *o, const struct stream *s,
                            struct stream_filter *kept, uint64_t from)
{
    for (size_t i = 0; i < FILTERS; i++) {
        cr_assert_eq(stream_filter_next(&kept[i], stream_index(s), from),
                     model_next(o, filters[i], from), "%s from %lu", filters[i], from);
        cr_assert_eq(stream_filter_count(&kept[i], stream_index(s), from),
                     model_from(o, filters[i], from), "%s from %lu", filters[i], from);
    }
}

struct run {
    struct world w;
    struct model o;
    struct shelf shelf;
    struct stream_filter kept[FILTERS];
    unsigned seed;
    uint64_t n; /* Of the lane. */
};

static unsigned roll(struct run *r, unsigned below)
{
    return (unsigned)rand_r(&r->seed) % below;
}

static void set_config(struct run *r, struct buf *json)
{
    struct model *o = &r->o;
    o->max_msgs = roll(r, 3) == 0 ? 20 + roll(r, 60) : 0;
    o->max_bytes = roll(r, 3) == 0 ? 1000 + roll(r, 4000) : 0;
    o->max_per_subject = roll(r, 2) == 0 ? 1 + roll(r, 6) : 0;
    o->max_age = roll(r, 3) == 0 ? (5 + roll(r, 30)) * SECOND : 0;
    o->window = 4 * SECOND;
    o->is_discard_new = roll(r, 3) == 0;
    buf_printf(json,
               "{\"name\":\"S\",\"subjects\":[\"k.*\"],\"max_msgs\":%ld,\"max_bytes\":%ld,"
               "\"max_msgs_per_subject\":%ld,\"max_age\":%ld,\"duplicate_window\":%ld,"
               "\"allow_rollup_hdrs\":true,\"discard\":\"%s\"}",
               o->max_msgs == 0 ? -1 : (long)o->max_msgs,
               o->max_bytes == 0 ? -1 : (long)o->max_bytes,
               o->max_per_subject == 0 ? -1 : (long)o->max_per_subject, (long)o->max_age,
               (long)o->window, o->is_discard_new ? "new" : "old");
}

static void do_config(struct run *r)
{
    struct buf json = BUF_EMPTY;
    set_config(r, &json);
    world_begin(&r->w);
    entry_config(&r->w.b, 1, buf_slice(&json), 0);
    world_step(&r->w);
    buf_close(&json);
    /* Per subject in order of sequence, then age, then the whole stream's limits. */
    for (size_t i = 0; i < r->o.count; i++) {
        struct model_message *m = &r->o.m[i];
        if (m->is_live && r->o.max_per_subject > 0 &&
            live_count(&r->o, m->subject) > r->o.max_per_subject) {
            m->is_live = false;
        }
    }
    model_time(&r->o, r->w.now);
    model_limits(&r->o);
    cr_assert_not(stream_wants_job_step(r->w.s));
}

static void do_publish(struct run *r)
{
    char subject[16];
    char id_text[16];
    snprintf(subject, sizeof subject, "%c.%u", roll(r, 20) == 0 ? 'z' : 'k', roll(r, 12));
    struct publish_message m = {.subject = slice_str(subject),
                                .payload = slice_of("0123456789012345678901234", roll(r, 26))};
    unsigned id = 0;
    if (roll(r, 3) == 0) {
        id = 1 + roll(r, 40);
        snprintf(id_text, sizeof id_text, "id%u", id);
        m.msg_id = slice_str(id_text);
        m.options |= PUBLISH_HAS(PUBLISH_MSG_ID);
    }
    if (roll(r, 8) == 0) {
        m.options |= PUBLISH_HAS(PUBLISH_EXPECT_LAST_SEQ);
        m.expect_last_seq = r->o.last_seq - roll(r, 2) * (r->o.last_seq > 0);
    }
    if (roll(r, 8) == 0) {
        m.options |= PUBLISH_HAS(PUBLISH_EXPECT_LAST_SUBJECT_SEQ);
        m.expect_last_subject_seq = roll(r, 2) == 0 ? 0 : stream_last_by_subject(r->w.s, m.subject);
    }
    if (roll(r, 40) == 0) {
        m.options |= PUBLISH_HAS(PUBLISH_ROLLUP);
        m.rollup = roll(r, 4) == 0 ? ROLLUP_ALL : ROLLUP_SUBJECT;
    }
    world_begin(&r->w);
    entry_publish(&r->w.b, 1, 10, ++r->n, &m);
    entry_publish(&r->w.b, 1, 10, r->n, &m); /* Sent twice, applied once. */
    world_step(&r->w);
    struct model_answer a = model_publish(&r->o, &m, id, r->w.now);
    cr_assert_eq(r->w.e.replies_count, 2u);
    for (int i = 0; i < 2; i++) {
        const struct effect_reply *reply = &r->w.e.replies[i];
        cr_assert_eq(reply->err_code != 0, a.is_refused, "%d", reply->err_code);
        cr_assert_eq(reply->seq, a.seq);
        cr_assert_eq(reply->is_duplicate, a.is_duplicate);
    }
}

static void do_purge(struct run *r)
{
    const char *filter = filters[roll(r, FILTERS)];
    uint64_t below = roll(r, 2) == 0 ? 1 + roll(r, (unsigned)r->o.last_seq + 2) : 0;
    uint64_t keep = below == 0 && roll(r, 2) == 0 ? 1 + roll(r, 5) : 0;
    if (roll(r, 6) != 0) {
        return;
    }
    world_begin(&r->w);
    entry_purge(&r->w.b, 1, slice_str(filter), below, keep);
    world_step(&r->w);
    cr_assert_eq(r->w.e.admin_replies_count, 1u);
    model_purge(&r->o, filter, below, keep);
}

static void do_delete(struct run *r)
{
    uint64_t seq = 1 + roll(r, (unsigned)r->o.last_seq + 1);
    world_begin(&r->w);
    entry_delete_msg(&r->w.b, 1, seq);
    world_step(&r->w);
    bool was_live = seq <= r->o.count && r->o.m[seq - 1].is_live;
    cr_assert_eq(r->w.e.admin_replies[0].err_code == 0, was_live);
    if (was_live) {
        r->o.m[seq - 1].is_live = false;
    }
}

static void do_restore(struct run *r)
{
    stream_checkpoint(r->w.s, false, shelf_put, &r->shelf);
    struct stream *s = shelf_restore(&r->shelf, r->w.s);
    cr_assert_eq(stream_hash(s), stream_hash(r->w.s), "a restored stream is equal");
    if (roll(r, 2) == 0) { /* Go on with either. */
        stream_free(r->w.s);
        r->w.s = s;
        for (size_t i = 0; i < FILTERS; i++) {
            struct slice text = slice_str(filters[i]);
            stream_filter_close(&r->kept[i]);
            stream_filter_init(&r->kept[i], &text, 1);
        }
    } else {
        stream_free(s);
    }
}

static void run_random(unsigned seed, unsigned ops)
{
    struct run *r = xcalloc(1, sizeof *r);
    r->seed = seed;
    struct buf json = BUF_EMPTY;
    set_config(r, &json);
    buf_append_u8(&json, 0);
    world_open(&r->w, (const char *)json.ptr);
    buf_close(&json);
    for (size_t i = 0; i < FILTERS; i++) {
        struct slice text = slice_str(filters[i]);
        stream_filter_init(&r->kept[i], &text, 1);
    }
    for (unsigned i = 0; i < ops; i++) {
        r->w.now += roll(r, 3) == 0 ? roll(r, 2000) * 1000000ll : 0;
        model_time(&r->o, r->w.now);
        unsigned what = roll(r, 100);
        if (what < 80) {
            do_publish(r);
        } else if (what < 88) {
            do_delete(r);
        } else if (what < 92) {
            do_purge(r);
        } else if (what < 94) {
            do_config(r);
        } else if (what < 97) {
            do_restore(r);
        } else {
            world_begin(&r->w);
            entry_clock(&r->w.b);
            world_step(&r->w);
        }
        world_begin(&r->w);
        world_step(&r->w);
        compare_filters(&r->o, r->w.s, r->kept, roll(r, (unsigned)r->o.last_seq + 3));
        compare(&r->o, r->w.s);
    }
    for (size_t i = 0; i < FILTERS; i++) {
        stream_filter_close(&r->kept[i]);
    }
    shelf_close(&r->shelf);
    world_close(&r->w);
    free(r);
}

Test(stream_random, agrees_with_the_model_and_survives_restores)
{
    for (unsigned seed = 1; seed <= 12; seed++) {
        run_random(seed, 600);
    }
}
