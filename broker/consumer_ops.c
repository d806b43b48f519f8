/* The stream's side of its consumers: `consumer_ops`. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/api_error.h"
#include "broker/consumer.h"
#include "storage/base/err.h"

#define RUN_MAX 65536u /* Of one progress item. */

static struct consumers *ops_create(struct stream *s)
{
    struct consumers *cs = xcalloc(1, sizeof *cs);
    cs->stream = s;
    cs->index = stream_index(s);
    return cs;
}

static void ops_destroy(struct consumers *cs)
{
    if (cs == NULL) {
        return;
    }
    for (size_t i = 0; i < cs->count; i++) {
        consumer_free(cs->items[i]);
    }
    free(cs->items);
    free(cs->deleted);
    free(cs->late);
    free(cs);
}

static size_t place_of(const struct consumers *cs, uint64_t id)
{
    size_t low = 0;
    size_t high = cs->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (cs->items[mid]->id < id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct consumer *consumers_by_id(const struct consumers *cs, uint64_t id)
{
    size_t i = place_of(cs, id);
    return i < cs->count && cs->items[i]->id == id ? cs->items[i] : NULL;
}

struct consumer *consumers_by_name(const struct consumers *cs, struct slice name)
{
    for (size_t i = 0; i < cs->count; i++) {
        if (slice_eq_str(name, cs->items[i]->name)) {
            return cs->items[i];
        }
    }
    return NULL;
}

static void insert(struct consumers *cs, struct consumer *c)
{
    if (cs->count == cs->cap) {
        cs->cap = cs->cap == 0 ? 4 : cs->cap * 2;
        cs->items = xrealloc(cs->items, cs->cap * sizeof(struct consumer *));
    }
    size_t i = place_of(cs, c->id);
    memmove(&cs->items[i + 1], &cs->items[i], (cs->count - i) * sizeof(struct consumer *));
    cs->items[i] = c;
    cs->count++;
}

static void ops_lead(struct consumers *cs, uint64_t node, struct stream_effects *e)
{
    (void)node;
    (void)e;
    for (size_t i = 0; i < cs->count; i++) {
        cs->items[i]->lead_seq = 0;
        cs->items[i]->lead_count = 0;
    }
}

static struct effect_admin_reply *answer(const struct op *op, struct stream_effects *e,
                                         int err_code, uint64_t id)
{
    if (op->request == 0) {
        return NULL;
    }
    struct effect_admin_reply *r = effects_admin_reply(e);
    r->request = op->request;
    r->type = op->type;
    r->err_code = err_code;
    r->consumer = id;
    return r;
}

static void change(struct consumers *cs, struct consumer *c, struct consumer_config *config,
                   const struct op *op, struct stream_effects *e)
{
    const char *text = NULL;
    int err_code = 0;
    bool is_kept = true; /* @config is still ours. */
    if (!consumer_config_eq(&c->config, config)) {
        err_code = consumer_update(c, config, cs->index, &text);
        is_kept = err_code != 0;
    }
    if (is_kept) {
        consumer_config_close(config);
    }
    struct effect_admin_reply *r = answer(op, e, err_code, c->id);
    if (r != NULL && text != NULL) {
        r->text = slice_str(text);
    }
}

static void ops_set(struct consumers *cs, const struct op *op, struct stream_effects *e)
{
    struct consumer_config config;
    int rv = consumer_config_parse(&config, op->u.consumer.config);
    assert(rv == 0); /* ops_check() */
    struct consumer *c = consumers_by_name(cs, slice_str(config.name));
    if (c != NULL) {
        change(cs, c, &config, op, e);
        return;
    }
    int64_t max = stream_get_config(cs->stream)->max_consumers;
    if (max > 0 && cs->count >= (uint64_t)max) {
        consumer_config_close(&config);
        answer(op, e, API_ERROR_MAXIMUM_CONSUMERS_LIMIT, 0);
        return;
    }
    c = consumer_new(stream_take_consumer_id(cs->stream), &config, cs->index,
                     stream_last_seq(cs->stream), stream_time_ns(cs->stream));
    insert(cs, c);
    struct effect_admin_reply *r = answer(op, e, 0, c->id);
    if (r != NULL) {
        r->is_created = true;
    }
}

static void ops_remove(struct consumers *cs, const struct op *op, struct stream_effects *e)
{
    struct consumer *c = consumers_by_name(cs, op->u.consumer.name);
    if (c == NULL) {
        answer(op, e, API_ERROR_CONSUMER_NOT_FOUND, 0);
        return;
    }
    if (cs->deleted_count == cs->deleted_cap) {
        cs->deleted_cap = cs->deleted_cap == 0 ? 8 : cs->deleted_cap * 2;
        cs->deleted = xrealloc(cs->deleted, cs->deleted_cap * sizeof *cs->deleted);
    }
    cs->deleted[cs->deleted_count++] = c->id;
    answer(op, e, 0, c->id);
    struct effect_advisory *a = effects_advisory(e);
    a->type = ADVISORY_CONSUMER_DELETED;
    a->consumer = c->id;
    a->text = effects_text(e, slice_str(c->name));
    size_t i = place_of(cs, c->id);
    memmove(&cs->items[i], &cs->items[i + 1], (cs->count - i - 1) * sizeof(struct consumer *));
    cs->count--;
    consumer_free(c);
}

static void ops_progress(struct consumers *cs, struct op_progress *op, struct stream_effects *e)
{
    struct consumer *c = consumers_by_id(cs, op->consumer);
    if (c == NULL) {
        return; /* Deleted since it was proposed. */
    }
    struct stream_now now = stream_now(cs->stream);
    struct progress_item item;
    while (entry_next_item(op, &item)) {
        consumer_apply(c, cs->index, &now, &item, e);
    }
}

static int ops_check(const struct op *op)
{
    if (op->type == OP_CONSUMER_SET) {
        struct consumer_config config;
        if (consumer_config_parse(&config, op->u.consumer.config) != 0) {
            return ERR_INVALID;
        }
        bool is_named = slice_eq_str(op->u.consumer.name, config.name);
        consumer_config_close(&config);
        return is_named ? 0 : ERR_INVALID;
    }
    if (op->type == OP_CONSUMER_PROGRESS) {
        struct op_progress copy = op->u.progress;
        struct progress_item item;
        while (entry_next_item(&copy, &item)) {
            if (item.kind < PROGRESS_DELIVER || item.kind > PROGRESS_POSITION || item.seq == 0 ||
                item.count > RUN_MAX || item.seq > UINT64_MAX - RUN_MAX) {
                return ERR_INVALID;
            }
        }
    }
    return 0;
}

static void ops_stored(struct consumers *cs, uint64_t seq, uint32_t subject_id)
{
    for (size_t i = 0; i < cs->count; i++) {
        consumer_stored(cs->items[i], cs->index, seq, subject_id);
    }
}

static void add_late(struct consumers *cs, const struct consumer *c,
                     const struct pending_entry *entry)
{
    if (cs->late_count == cs->late_cap) {
        cs->late_cap = cs->late_cap == 0 ? 16 : cs->late_cap * 2;
        cs->late = xrealloc(cs->late, cs->late_cap * sizeof *cs->late);
    }
    cs->late[cs->late_count++] = (struct effect_advisory){
        .type = ADVISORY_TERMINATED,
        .consumer = c->id,
        .seq = entry->seq,
        .consumer_seq = entry->consumer_seq,
        .delivery_count = entry->count,
        .text = SLICE_LIT("Unacknowledged message was deleted"),
    };
}

static void removing_one(struct consumers *cs, struct consumer *c, uint64_t seq)
{
    struct pending_entry entry;
    if (consumer_removing(c, cs->index, seq, &entry)) {
        c->acked_ns = stream_time_ns(cs->stream); /* It counts as terminated. */
        add_late(cs, c, &entry);
    }
}

/* However many they are, only those matter that were delivered. */
static void removing_all(struct consumers *cs)
{
    for (size_t i = 0; i < cs->count; i++) {
        size_t count;
        uint64_t *seqs = consumer_removing_all(cs->items[i], &count);
        for (size_t k = 0; k < count; k++) {
            removing_one(cs, cs->items[i], seqs[k]);
        }
        free(seqs);
    }
}

static void ops_removing(struct consumers *cs, uint64_t first_seq, uint64_t last_seq)
{
    if (first_seq < last_seq && msg_index_at_or_above(cs->index, last_seq + 1) == 0 &&
        msg_index_at_or_above(cs->index, 0) == first_seq) {
        removing_all(cs);
        return;
    }
    for (size_t i = 0; i < cs->count; i++) {
        struct consumer *c = cs->items[i];
        if (first_seq == last_seq) {
            removing_one(cs, c, first_seq);
            continue;
        }
        if (c->has_rank && c->pending.live == 0 && c->exhausted_count == 0) {
            continue;
        }
        struct msg_cursor cursor;
        uint64_t seq;
        uint32_t subject_id;
        msg_cursor_init(&cursor, cs->index, first_seq);
        while (msg_cursor_next(&cursor, &seq, &subject_id) && seq <= last_seq) {
            /* Without a count to keep, what lies ahead does not concern it. */
            if (c->has_rank && seq > c->delivered.stream_seq) {
                break;
            }
            removing_one(cs, c, seq);
        }
    }
}

static void ops_config_changed(struct consumers *cs)
{
    (void)cs;
}

static void ops_time_sure(struct consumers *cs, int64_t shift_ns)
{
    for (size_t i = 0; i < cs->count; i++) {
        consumer_time_sure(cs->items[i], shift_ns);
    }
}

static void ops_clock(struct consumers *cs, struct stream_effects *e)
{
    for (size_t i = 0; i < cs->late_count; i++) {
        if (consumers_by_id(cs, cs->late[i].consumer) != NULL) {
            *effects_advisory(e) = cs->late[i];
        }
    }
    cs->late_count = 0;
    int64_t now_ns = stream_time_ns(cs->stream);
    for (size_t i = 0; i < cs->count; i++) {
        consumer_expire(cs->items[i], now_ns, e);
    }
}

static int64_t ops_next_due(const struct consumers *cs)
{
    int64_t due_ns = STREAM_DUE_NEVER;
    for (size_t i = 0; i < cs->count; i++) {
        int64_t d = consumer_next_due(cs->items[i]);
        due_ns = d < due_ns ? d : due_ns;
    }
    return due_ns;
}

static uint64_t ops_hash(const struct consumers *cs)
{
    uint64_t h = cs->count;
    for (size_t i = 0; i < cs->count; i++) {
        h += consumer_hash(cs->items[i]);
    }
    return h;
}

static uint64_t ops_count(const struct consumers *cs)
{
    return cs->count;
}

static struct slice key_of(char key[static 24], uint64_t id)
{
    int len = snprintf(key, 24, "c%016llx", (unsigned long long)id);
    return slice_of(key, (size_t)len);
}

static void ops_checkpoint(struct consumers *cs, bool is_full, stream_item_cb cb, void *arg)
{
    char key[24];
    for (size_t i = 0; i < cs->deleted_count; i++) {
        if (!is_full) {
            cb(arg, key_of(key, cs->deleted[i]), SLICE_EMPTY, true);
        }
    }
    cs->deleted_count = 0;
    struct buf value = BUF_EMPTY;
    for (size_t i = 0; i < cs->count; i++) {
        struct consumer *c = cs->items[i];
        if (is_full || c->is_dirty) {
            buf_clear(&value);
            consumer_save(c, &value);
            cb(arg, key_of(key, c->id), buf_slice(&value), false);
            c->is_dirty = false;
        }
    }
    buf_close(&value);
}

static int ops_restore_item(struct consumers *cs, struct slice key, struct slice value)
{
    struct consumer *c;
    char expected[24];
    if (consumer_load(value, cs->index, &c) != 0) {
        return ERR_INVALID;
    }
    if (!slice_eq(key, key_of(expected, c->id)) || consumers_by_id(cs, c->id) != NULL ||
        consumers_by_name(cs, slice_str(c->name)) != NULL) {
        consumer_free(c);
        return ERR_INVALID;
    }
    insert(cs, c);
    return 0;
}

static void ops_restore_end(struct consumers *cs)
{
    (void)cs;
}

static void ops_check_invariants(const struct consumers *cs)
{
    for (size_t i = 0; i < cs->count; i++) {
        assert(i == 0 || cs->items[i - 1]->id < cs->items[i]->id);
        consumer_check(cs->items[i], cs->index);
    }
}

const struct stream_consumer_ops consumer_ops = {
    .create = ops_create,
    .destroy = ops_destroy,
    .lead = ops_lead,
    .set = ops_set,
    .remove = ops_remove,
    .progress = ops_progress,
    .check = ops_check,
    .stored = ops_stored,
    .removing = ops_removing,
    .config_changed = ops_config_changed,
    .clock = ops_clock,
    .time_sure = ops_time_sure,
    .next_due = ops_next_due,
    .hash = ops_hash,
    .count = ops_count,
    .checkpoint = ops_checkpoint,
    .restore_item = ops_restore_item,
    .restore_end = ops_restore_end,
    .check_invariants = ops_check_invariants,
};
