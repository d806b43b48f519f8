#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/stream_state.h"
#include "broker/subject_transform.h"
#include "storage/base/err.h"

struct stream *stream_alloc(const struct stream_consumer_ops *ops)
{
    struct stream *s = xcalloc(1, sizeof *s);
    stream_config_init(&s->config);
    msg_index_init(&s->index);
    s->machine_version = ENTRY_MACHINE_VERSION_FIRST;
    s->next_consumer_id = 1;
    s->ops = ops;
    s->is_config_dirty = true;
    s->is_jobs_dirty = true;
    return s;
}

/* Take a configuration; the stream's own canonical text is kept beside it. */
int stream_set_config(struct stream *s, struct slice json)
{
    struct stream_config config;
    int rv = stream_config_parse(&config, json);
    if (rv != 0) {
        return ERR_INVALID;
    }
    if (config.name == NULL) {
        stream_config_close(&config);
        return ERR_INVALID;
    }
    stream_config_close(&s->config);
    subject_transform_free(s->transform);
    s->config = config;
    rv = stream_config_transform(&s->config, &s->transform);
    assert(rv == 0); /* stream_config_parse() has tried it. */
    buf_clear(&s->config_json);
    stream_config_print(&s->config, &s->config_json);
    s->is_config_dirty = true;
    return 0;
}

int stream_new(struct slice config_json, int64_t created_ns, const struct stream_consumer_ops *ops,
               struct stream **ret_stream)
{
    struct stream *s = stream_alloc(ops);
    if (stream_set_config(s, config_json) != 0) {
        stream_free(s);
        return ERR_INVALID;
    }
    s->created_ns = created_ns;
    s->time_ns = created_ns;
    if (s->config.first_seq > 1) {
        s->last_seq = s->config.first_seq - 1;
    }
    if (ops != NULL) {
        s->consumers = ops->create(s);
    }
    *ret_stream = s;
    return 0;
}

void stream_free(struct stream *s)
{
    if (s == NULL) {
        return;
    }
    if (s->consumers != NULL) {
        s->ops->destroy(s->consumers);
    }
    for (size_t i = 0; i < s->jobs_count; i++) {
        stream_job_close(&s->jobs[i]);
    }
    stream_filter_close(&s->expect_filter);
    stream_config_close(&s->config);
    subject_transform_free(s->transform);
    buf_close(&s->config_json);
    buf_close(&s->last_msg_id);
    msg_index_close(&s->index);
    dedup_close(&s->dedup);
    lanes_close(&s->lanes);
    free(s);
}

struct msg_garbage *stream_take_garbage(struct stream *s)
{
    return msg_index_take_garbage(&s->index);
}

uint64_t stream_take_consumer_id(struct stream *s)
{
    return s->next_consumer_id++;
}

/* ---- Removing ---- */

void stream_remove_live(struct stream *s, uint64_t seq, struct stream_effects *e)
{
    if (s->consumers != NULL) {
        s->ops->removing(s->consumers, seq, seq);
    }
    bool is_removed = msg_index_remove(&s->index, seq);
    assert(is_removed);
    effects_remove(e, seq, seq);
}

bool stream_remove_message(struct stream *s, uint64_t seq, struct stream_effects *e)
{
    struct msg_info info;
    if (!msg_index_get(&s->index, seq, &info)) {
        return false;
    }
    stream_remove_live(s, seq, e);
    return true;
}

/* A floor: one range. Of many messages it is all, or the caller uses a job. */
void stream_remove_below(struct stream *s, uint64_t floor, struct stream_effects *e)
{
    uint64_t first = msg_index_at_or_above(&s->index, 0);
    if (first == 0 || first >= floor) {
        return;
    }
    uint64_t last = floor > s->last_seq ? s->last_seq : floor - 1;
    if (s->consumers != NULL) {
        s->ops->removing(s->consumers, first, last);
    }
    effects_remove(e, first, last);
    if (last >= s->last_seq || msg_index_at_or_above(&s->index, floor) == 0) {
        msg_index_clear(&s->index);
        return;
    }
    for (uint64_t seq = first; seq < floor; seq = msg_index_at_or_above(&s->index, seq)) {
        msg_index_remove(&s->index, seq);
    }
}

bool stream_is_over_limits(const struct stream *s)
{
    uint64_t most = (uint64_t)s->config.max_msgs;
#ifdef WEIR_NEXT_MACHINE
    most -= s->machine_version >= ENTRY_MACHINE_VERSION; /* What a test can see from outside. */
#endif
    return (s->config.max_msgs > 0 && s->index.count > most) ||
           (s->config.max_bytes > 0 && s->index.bytes > (uint64_t)s->config.max_bytes);
}

void stream_enforce_limits(struct stream *s, struct stream_effects *e)
{
    while (stream_is_over_limits(s) && s->budget > 0 && s->index.count > 0) {
        stream_remove_live(s, msg_index_at_or_above(&s->index, 0), e);
        s->budget--;
    }
}

/* The oldest message's time, or STREAM_DUE_NEVER. */
static int64_t expiry_due(const struct stream *s)
{
    struct msg_info info;
    if (s->config.max_age_ns <= 0 || s->index.count == 0) {
        return STREAM_DUE_NEVER;
    }
    uint64_t seq = msg_index_at_or_above(&s->index, 0);
    int64_t shift_ns = shifts_of(&s->shifts, seq);
    if (!msg_index_get(&s->index, seq, &info) || info.time_ns > INT64_MAX - s->config.max_age_ns ||
        info.time_ns + s->config.max_age_ns > INT64_MAX - shift_ns) {
        return STREAM_DUE_NEVER;
    }
    return info.time_ns + s->config.max_age_ns + shift_ns;
}

static void advance_time(struct stream *s, int64_t time_ns, struct stream_effects *e)
{
    if (time_ns > s->time_ns) { /* Stamps never go back. */
        s->time_ns = time_ns;
    }
    shifts_time(&s->shifts, s->time_ns);
    while (s->budget > 0 && expiry_due(s) <= s->time_ns) {
        stream_remove_live(s, msg_index_at_or_above(&s->index, 0), e);
        s->budget--;
    }
    if (s->config.duplicate_window_ns > 0) {
        dedup_drop(&s->dedup, s->time_ns - s->config.duplicate_window_ns, STREAM_JOB_STEP_MESSAGES);
    }
    lanes_forget(&s->lanes, s->time_ns);
    if (s->consumers != NULL) {
        s->ops->clock(s->consumers, e);
    }
}

/* ---- Ops ---- */

static struct effect_admin_reply *admin_reply(struct stream_effects *e, const struct op *op,
                                              int err_code, struct slice text)
{
    struct effect_admin_reply *r = effects_admin_reply(e);
    r->request = op->request;
    r->type = op->type;
    r->err_code = err_code;
    r->text = text;
    return r;
}

static void apply_delete(struct stream *s, const struct op *op, struct stream_effects *e)
{
    if (s->config.sealed) {
        admin_reply(e, op, REFUSE_SEALED, SLICE_EMPTY);
    } else if (s->config.deny_delete) {
        admin_reply(e, op, REFUSE_MSG_DELETE, SLICE_LIT("message delete not permitted"));
    } else if (!stream_remove_message(s, op->u.seq, e)) {
        char text[24];
        int len = snprintf(text, sizeof text, "%llu", (unsigned long long)op->u.seq);
        admin_reply(e, op, REFUSE_SEQ_NOT_FOUND, effects_text(e, slice_of(text, (size_t)len)));
    } else {
        admin_reply(e, op, 0, SLICE_EMPTY);
    }
}

/* What a changed configuration means for what is stored already. */
static void config_changed(struct stream *s, int64_t old_per_subject, struct stream_effects *e)
{
    int64_t per_subject = s->config.max_msgs_per_subject;
    if (per_subject > 0 && (old_per_subject <= 0 || per_subject < old_per_subject)) {
        stream_add_job(s, JOB_PER_SUBJECT, 0, s->last_seq, UINT64_MAX, SLICE_EMPTY);
        stream_run_jobs(s, e);
    }
    if (s->config.duplicate_window_ns <= 0) {
        dedup_clear(&s->dedup);
    }
    advance_time(s, s->time_ns, e);
    stream_enforce_limits(s, e);
    if (s->consumers != NULL) {
        s->ops->config_changed(s->consumers);
    }
    e->is_config_changed = true;
}

static void apply_config(struct stream *s, const struct op *op, struct stream_effects *e)
{
    int64_t old_per_subject = s->config.max_msgs_per_subject;
    if (op->config_version != 0 && op->config_version <= s->config_version) {
        admin_reply(e, op, 0, SLICE_EMPTY); /* A leader that had not heard of the newer one. */
        return;
    }
    s->config_version = op->config_version != 0 ? op->config_version : s->config_version;
    int rv = stream_set_config(s, op->u.config);
    assert(rv == 0); /* check_op() has parsed it. */
    config_changed(s, old_per_subject, e);
    admin_reply(e, op, 0, SLICE_EMPTY);
}

static void apply_seal(struct stream *s, const struct op *op, struct stream_effects *e)
{
    s->config.sealed = true;
    s->config.max_age_ns = 0;
    s->config.discard = DISCARD_NEW;
    s->config.deny_delete = true;
    s->config.deny_purge = true;
    s->config.allow_rollup_hdrs = false;
    buf_clear(&s->config_json);
    stream_config_print(&s->config, &s->config_json);
    s->is_config_dirty = true;
    config_changed(s, s->config.max_msgs_per_subject, e);
    admin_reply(e, op, 0, SLICE_EMPTY);
}

static void apply_consumer_op(struct stream *s, struct op *op, struct stream_effects *e)
{
    if (s->consumers == NULL) {
        if (op->type != OP_CONSUMER_PROGRESS) {
            admin_reply(e, op, REFUSE_CONSUMER, SLICE_EMPTY);
        }
    } else if (op->type == OP_CONSUMER_SET) {
        s->ops->set(s->consumers, op, e);
    } else if (op->type == OP_CONSUMER_DELETE) {
        s->ops->remove(s->consumers, op, e);
    } else {
        s->ops->progress(s->consumers, &op->u.progress, e);
    }
}

static void apply_time_unsure(struct stream *s, int64_t lag_ns)
{
    uint64_t first = msg_index_at_or_above(&s->index, 0);
    shifts_unsure(&s->shifts, s->last_seq + 1, first == 0 ? s->last_seq + 1 : first, lag_ns);
}

static void apply_time_sure(struct stream *s, int64_t shift_ns)
{
    size_t count = shifts_sure(&s->shifts, s->last_seq + 1, s->time_ns, shift_ns);
    for (size_t i = s->shifts.count - count; i < s->shifts.count; i++) {
        dedup_shift(&s->dedup, s->shifts.items[i].first_seq, s->shifts.items[i].last_seq,
                    s->shifts.items[i].ns);
    }
    if (s->consumers != NULL && s->machine_version >= ENTRY_MACHINE_VERSION_DEADLINES) {
        s->ops->time_sure(s->consumers, shift_ns);
    }
}

static void apply_op(struct stream *s, struct op *op, struct stream_effects *e)
{
    switch (op->type) {
    case OP_LEAD:
        e->is_leader_changed = true;
        if (s->consumers != NULL) {
            s->ops->lead(s->consumers, op->u.lead.node, e);
        }
        break;
    case OP_PUBLISH:
        stream_publish(s, &op->u.publish, e);
        break;
    case OP_CONSUMER_SET:
    case OP_CONSUMER_DELETE:
    case OP_CONSUMER_PROGRESS:
        apply_consumer_op(s, op, e);
        break;
    case OP_PURGE:
        stream_purge(s, op, e);
        break;
    case OP_DELETE_MSG:
        apply_delete(s, op, e);
        break;
    case OP_CONFIG:
        apply_config(s, op, e);
        break;
    case OP_SEAL:
        apply_seal(s, op, e);
        break;
    case OP_JOB_STEP:
        stream_enforce_limits(s, e);
        stream_run_jobs(s, e);
        break;
    case OP_CLOCK: /* Every entry moves time; this one is there for nothing else. */
        break;
    case OP_DIGEST:
        e->has_digest = true;
        e->digest = (struct effect_digest){s->applied_index, stream_hash(s), s->machine_version};
        break;
    case OP_VERSION:
        if (op->u.version > s->machine_version) {
            s->machine_version = op->u.version;
        }
        break;
    case OP_REBASE_TIME:
        s->time_ns = op->u.time_ns;
        break;
    case OP_TIME_UNSURE:
        e->is_unsure_told = true;
        apply_time_unsure(s, op->u.shift_ns);
        break;
    case OP_TIME_SURE:
        e->is_sure_told = true;
        e->shift_ns = op->u.shift_ns;
        apply_time_sure(s, op->u.shift_ns);
        break;
    case OP_STORE_AT:
    case OP_BATCH_PART:
    case OP_BATCH_COMMIT:
    case OP_BATCH_ABORT:
    case OP_RESTORE_BEGIN:
    case OP_RESTORE_END:
    default:
        assert(!"check_entry() refuses it");
    }
}

/* Everything that could make an op impossible to apply, before the first one is. */
static int check_op(const struct stream *s, const struct op *op)
{
    switch (op->type) {
    case OP_CONFIG: {
        struct stream_config config;
        if (stream_config_parse(&config, op->u.config) != 0) {
            return ERR_INVALID;
        }
        bool is_ours = config.name != NULL && strcmp(config.name, s->config.name) == 0;
        stream_config_close(&config);
        return is_ours ? 0 : ERR_INVALID;
    }
    case OP_CONSUMER_SET:
    case OP_CONSUMER_DELETE:
    case OP_CONSUMER_PROGRESS:
        return s->ops != NULL && s->ops->check != NULL ? s->ops->check(op) : 0;
    default:
        return 0;
    }
}

#define FIRST_OPS 4u /* Most entries have one: a run of publishes. */

/* The first operations of an entry, decoded once, and where the others begin. */
struct first_ops {
    struct op ops[FIRST_OPS];
    unsigned count;
    struct entry_reader rest;
};

static int check_entry(const struct stream *s, struct slice entry, struct first_ops *ret_first)
{
    struct entry_reader r;
    int rv = entry_open(&r, entry);
    struct op op;
    ret_first->count = 0;
    ret_first->rest = r;
    while (rv == 0) {
        rv = entry_next(&r, &op);
        if (rv <= 0) {
            return rv;
        }
        rv = check_op(s, &op);
        if (ret_first->count < FIRST_OPS) {
            ret_first->ops[ret_first->count++] = op;
            ret_first->rest = r;
        }
    }
    return rv;
}

int stream_step(struct stream *s, uint64_t index, uint64_t term, struct slice entry,
                struct stream_effects *e)
{
    assert(index > s->applied_index);
    stream_effects_clear(e);
    struct first_ops first;
    int rv = check_entry(s, entry, &first);
    if (rv != 0) {
        return rv;
    }
    s->applied_index = index;
    s->applied_term = term;
    s->budget = STREAM_JOB_STEP_MESSAGES;
    s->scan_left = STREAM_JOB_STEP_SCANNED;
    advance_time(s, first.rest.time_ns, e);
    for (unsigned i = 0; i < first.count; i++) {
        apply_op(s, &first.ops[i], e);
    }
    struct op op;
    while (entry_next(&first.rest, &op) == 1) {
        apply_op(s, &op, e);
    }
    return 0;
}

/* ---- What a leader asks ---- */

int64_t stream_next_due(const struct stream *s)
{
    int64_t due = expiry_due(s);
    if (s->consumers != NULL) {
        int64_t consumers_due = s->ops->next_due(s->consumers);
        due = consumers_due < due ? consumers_due : due;
    }
    return due;
}

bool stream_is_unsure(const struct stream *s, int64_t *ret_lag_ns)
{
    return shifts_is_unsure(&s->shifts, ret_lag_ns);
}

bool stream_wants_job_step(const struct stream *s)
{
    return s->jobs_count > 0 || stream_is_over_limits(s) || expiry_due(s) <= s->time_ns;
}
