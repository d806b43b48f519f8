/* Purges, and work too long for one step. */
#include <assert.h>
#include <stdlib.h>

#include "broker/stream_state.h"

void stream_job_close(struct stream_job *job)
{
    free(job->filter);
    stream_filter_close(&job->match);
}

bool stream_add_job(struct stream *s, enum job_type type, uint64_t request, uint64_t upper_seq,
                    uint64_t left, struct slice filter)
{
    if (s->jobs_count == STREAM_JOBS_MAX) {
        return false;
    }
    struct stream_job *job = &s->jobs[s->jobs_count++];
    *job = (struct stream_job){.type = type,
                               .request = request,
                               .upper_seq = upper_seq,
                               .left = left,
                               .filter = filter.len > 0 ? xslicedup(filter) : NULL};
    stream_filter_init(&job->match, &filter, filter.len > 0 ? 1 : 0);
    s->is_jobs_dirty = true;
    return true;
}

static void finish_first(struct stream *s, struct stream_effects *e)
{
    struct stream_job *job = &s->jobs[0];
    if (job->type == JOB_PURGE) {
        struct effect_admin_reply *r = effects_admin_reply(e);
        r->request = job->request;
        r->type = OP_PURGE;
        r->purged = job->done;
    }
    stream_job_close(job);
    s->jobs_count--;
    memmove(&s->jobs[0], &s->jobs[1], s->jobs_count * sizeof s->jobs[0]);
    s->is_jobs_dirty = true;
}

/* The next message of the job, 0 if there is none. Of a wildcard only so many are looked at in one
 * step; what is left of that depends on nothing but the messages, so that replicas agree. */
static uint64_t job_seek(struct stream *s, struct stream_job *job, bool *ret_is_known)
{
    *ret_is_known = true;
    if (job->match.is_all || job->match.is_literal) {
        return stream_filter_next(&job->match, &s->index, job->cursor);
    }
    struct msg_cursor c;
    uint64_t seq;
    uint32_t id;
    msg_cursor_init(&c, &s->index, job->cursor);
    while (msg_cursor_next(&c, &seq, &id)) {
        if (s->scan_left == 0) {
            *ret_is_known = false;
            job->cursor = seq;
            return 0;
        }
        s->scan_left--;
        if (seq > job->upper_seq || stream_filter_has_id(&job->match, &s->index, id)) {
            return seq;
        }
    }
    return 0;
}

/* Move on to the next message; returns whether the job is at its end. */
static bool job_next(struct stream *s, struct stream_job *job, struct stream_effects *e)
{
    bool is_known = true;
    uint64_t seq = job->left == 0 ? 0 : job_seek(s, job, &is_known);
    if (!is_known) {
        return false;
    }
    if (seq == 0 || seq > job->upper_seq) {
        return true;
    }
    job->cursor = seq + 1;
    if (job->type == JOB_PER_SUBJECT) {
        /* In the order of sequences each message met is its subject's oldest. */
        struct msg_info info;
        bool is_live = msg_index_get(&s->index, seq, &info);
        assert(is_live);
        if (s->config.max_msgs_per_subject <= 0 ||
            s->index.subjects.entries[info.subject_id].count <=
                (uint64_t)s->config.max_msgs_per_subject) {
            return false;
        }
    }
    stream_remove_live(s, seq, e);
    job->left--;
    job->done++;
    return false;
}

void stream_run_jobs(struct stream *s, struct stream_effects *e)
{
    while (s->jobs_count > 0 && s->budget > 0 && s->scan_left > 0) {
        s->is_jobs_dirty = true;
        s->budget--;
        if (job_next(s, &s->jobs[0], e)) {
            finish_first(s, e);
        }
    }
}

static void reply_purge(const struct op *op, int err_code, struct slice text, uint64_t purged,
                        struct stream_effects *e)
{
    struct effect_admin_reply *r = effects_admin_reply(e);
    r->request = op->request;
    r->type = OP_PURGE;
    r->err_code = err_code;
    r->text = text;
    r->purged = purged;
}

/* Add the job of a purge and begin it. */
static void purge_by_job(struct stream *s, const struct op *op, uint64_t upper_seq, uint64_t left,
                         struct slice filter, struct stream_effects *e)
{
    if (!stream_add_job(s, JOB_PURGE, op->request, upper_seq, left, filter)) {
        reply_purge(op, REFUSE_PURGE, SLICE_LIT("too many purges in progress"), 0, e);
        return;
    }
    stream_run_jobs(s, e);
}

static void purge_floor(struct stream *s, const struct op *op, uint64_t floor,
                        struct stream_effects *e)
{
    uint64_t before = s->index.count;
    uint64_t kept = msg_index_count_from(&s->index, floor);
    if (kept > 0 && before - kept > STREAM_JOB_STEP_MESSAGES) {
        purge_by_job(s, op, floor - 1, UINT64_MAX, SLICE_EMPTY, e);
        return;
    }
    stream_remove_below(s, floor, e);
    reply_purge(op, 0, SLICE_EMPTY, before - s->index.count, e);
}

void stream_purge(struct stream *s, const struct op *op, struct stream_effects *e)
{
    struct slice filter = op->u.purge.filter;
    uint64_t keep = op->u.purge.keep;
    if (s->config.sealed) {
        reply_purge(op, REFUSE_SEALED, SLICE_EMPTY, 0, e);
        return;
    }
    if (s->config.deny_purge) {
        reply_purge(op, REFUSE_PURGE, SLICE_LIT("stream purge not permitted"), 0, e);
        return;
    }
    uint64_t upper = op->u.purge.seq > 0 ? op->u.purge.seq - 1 : s->last_seq;
    if (filter.len == 0 || slice_eq_str(filter, ">")) {
        uint64_t floor = upper + 1;
        if (keep > 0) {
            floor = keep >= s->index.count ? 0 : msg_index_select(&s->index, s->index.count - keep);
        }
        purge_floor(s, op, floor, e);
        return;
    }
    uint64_t left = UINT64_MAX;
    if (keep > 0) {
        struct stream_filter f;
        stream_filter_init(&f, &filter, 1);
        uint64_t count = stream_filter_count(&f, &s->index, 0);
        stream_filter_close(&f);
        left = count > keep ? count - keep : 0;
    }
    purge_by_job(s, op, upper, left, filter, e);
}
