/* From ops to entries, on the leader of a stream (design 3).
 *
 *   op --> open batch --(full, or the turn ends)--> closed, in order --> group_propose
 *
 * One entry is under way while the next gathers; full ones do not wait. What the group does not
 * take now waits in order, bounded. Publishes beyond the bound are dropped: their lanes send them
 * again.
 *
 * A lane sends again whatever is unanswered; so that a slow disk does not make the log longer, what
 * is in this leadership's pipeline already is not put there twice. This only filters: what decides
 * is the machine. */
#include "cluster/js_propose.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/entry.h"
#include "broker/headers.h"
#include "broker/stream.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_leader.h"
#include "cluster/js_limits.h"
#include "cluster/js_reserve.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/router.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"

#define BATCH_BYTES (256u * 1024)    /* An open batch closes at this, or at one op. */
#define MESSAGE_BYTES_MAX (8u << 20) /* Headers and payload of a stream's message. */
#define CLOSED_BYTES_MAX (64u << 20) /* Batches that wait for their group, per stream. */
#define HEADER_BYTES_MAX 65535u
#define GAP_MS 10                     /* A lane is told of a gap at most so often. */
#define LITTLE_BYTES_PER_MS 512u      /* Of a lane, where a disk lags; */
#define LITTLE_BYTES_MAX (64u * 1024) /* so much at once. */

/* A full batch that the group has not taken yet. */
struct closed {
    struct list link;
    struct entry_builder entry;
};

/* What this leadership has of a node's lane. */
struct js_tail {
    uint64_t node_id;
    uint64_t origin;
    uint64_t n;        /* The last that was put into a batch; 0: not known, take anything. */
    uint64_t answered; /* The last that was answered: what is at or below may be asked again. */
    uint64_t gap_ms;
    uint64_t little_bytes; /* Taken while there was room for little, less what has been paid off */
    uint64_t little_ms;    /* until then. */
    UT_hash_handle hh;     /* By node_id. */
};

/* ---- Entries ---- */

static void closed_free(struct js_stream *st, struct closed *c)
{
    list_remove(&c->link);
    st->closed_bytes -= entry_size(&c->entry);
    entry_close(&c->entry);
    free(c);
}

void js_propose_close(struct js_stream *st)
{
    LIST_FOR_SAFE(it, tmp, &st->closed)
    {
        closed_free(st, container_of(it, struct closed, link));
    }
    entry_close(&st->batch);
    st->batch = ENTRY_BUILDER_EMPTY;
    struct js_tail *t;
    struct js_tail *next;
    HASH_ITER(hh, st->tails, t, next)
    {
        HASH_DEL(st->tails, t);
        free(t);
    }
}

void js_propose_begin(struct js_stream *st)
{
    js_propose_close(st);
    st->proposals_count = 0;
    st->lead_token = 0; /* Of the first proposal. */
    st->timed_token = 0;
    entry_begin(&st->batch, stream_machine_version(st->machine));
    entry_lead(&st->batch, st->js->ctx->node_id, ENTRY_MACHINE_VERSION);
    js_clock_lead(st);
}

/* ERR_FULL and the like: it is tried again. */
static int propose(struct js_stream *st, struct entry_builder *entry)
{
    uint64_t token = js_next_id(st->js);
    js_lock(st->js);
    int rv = group_propose(st->group, entry_end(entry, js_stream_now_ns(st)), token);
    js_unlock(st->js);
    assert(rv != ERR_TOOBIG); /* BATCH_BYTES and one op. */
    if (rv == 0) {
        st->proposals_count++;
        if (st->timed_token == 0) {
            st->timed_token = token;
            st->timed_ns = loop_mono_ns(st->js->loop);
        }
        if (st->lead_token == 0) {
            st->lead_token = token;
        }
    }
    return rv;
}

/* True when none is left. */
static bool propose_closed(struct js_stream *st)
{
    while (!list_is_empty(&st->closed)) {
        struct closed *c = container_of(st->closed.next, struct closed, link);
        if (propose(st, &c->entry) != 0) {
            return false;
        }
        closed_free(st, c);
    }
    return true;
}

/* Propose the open batch, or queue it behind those before it. */
static void close_batch(struct js_stream *st)
{
    if (!propose_closed(st) || propose(st, &st->batch) != 0) {
        struct closed *c = xcalloc(1, sizeof *c);
        c->entry = st->batch;
        st->batch = ENTRY_BUILDER_EMPTY;
        list_init(&c->link);
        list_push_back(&st->closed, &c->link);
        st->closed_bytes += entry_size(&c->entry);
    }
    entry_begin(&st->batch, stream_machine_version(st->machine));
}

void js_propose_grown(struct js_stream *st)
{
    if (entry_size(&st->batch) >= BATCH_BYTES) {
        close_batch(st);
    }
}

void js_propose_turn(struct js_stream *st)
{
    if (propose_closed(st) && st->batch.ops_count > 0 && st->proposals_count == 0) {
        close_batch(st);
    }
}

bool js_propose_is_full(const struct js_stream *st)
{
    return st->closed_bytes >= CLOSED_BYTES_MAX;
}

/* ---- Lanes ---- */

static struct js_tail *tail_find(struct js_stream *st, uint64_t node_id)
{
    struct js_tail *t;
    HASH_FIND(hh, st->tails, &node_id, sizeof node_id, t);
    return t;
}

/* Tell the lane where to go on. */
static void tell_gap(struct js_stream *st, struct js_tail *t, uint64_t n)
{
    uint64_t now = loop_now_ms(st->js->loop);
    if (t->n == 0 || now - t->gap_ms < GAP_MS) {
        return;
    }
    t->gap_ms = now;
    struct effect_reply gap = {
        .node = t->node_id, .origin = t->origin, .n = n, .is_gap = true, .last_n = t->n};
    js_leader_answer(st, &gap);
}

/* While a disk lags each lane is taken from a little: who wants much waits for the flush, who wants
 * little goes on. */
static bool has_room(struct js_stream *st, struct js_tail *t, enum js_room room)
{
    uint64_t now = loop_now_ms(st->js->loop);
    uint64_t paid = (now - t->little_ms) * LITTLE_BYTES_PER_MS;
    t->little_bytes -= t->little_bytes < paid ? t->little_bytes : paid;
    t->little_ms = now;
    return room == JS_ROOM_ALL || (room == JS_ROOM_LITTLE && t->little_bytes < LITTLE_BYTES_MAX);
}

static struct js_tail *tail_get(struct js_stream *st, uint64_t node_id, uint64_t origin)
{
    struct js_tail *t = tail_find(st, node_id);
    if (t == NULL) {
        t = xcalloc(1, sizeof *t);
        t->node_id = node_id;
        t->origin = origin;
        HASH_ADD(hh, st->tails, node_id, sizeof t->node_id, t);
    }
    return t;
}

/* Whether message @n, of @bytes, is to be put into the log now. */
static bool is_next(struct js_stream *st, uint64_t node_id, uint64_t origin, uint64_t n,
                    size_t bytes)
{
    struct js_tail *t = tail_get(st, node_id, origin);
    if (origin != t->origin) {
        if (origin < t->origin) {
            return false; /* Of an earlier start of that node: nobody waits. */
        }
        t->origin = origin;
        t->n = t->answered = 0;
    }
    enum js_room room = js_reserve_room(st);
    if (js_propose_is_full(st) || !has_room(st, t, room)) {
        tell_gap(st, t, n);
        return false;
    }
    if (t->n == 0 || n == t->n + 1) {
        t->n = n;
        t->little_bytes += room == JS_ROOM_LITTLE ? bytes : 0;
        return true;
    }
    if (n > t->n) {
        tell_gap(st, t, n);
        return false;
    }
    return n <= t->answered; /* The answer was lost: the machine repeats it. Else it comes yet. */
}

void js_propose_answered(struct js_stream *st, const struct effect_reply *e)
{
    struct js_tail *t = tail_find(st, e->node);
    if (t == NULL || t->origin != e->origin) {
        return;
    }
    if (e->is_gap) {
        t->n = 0; /* Nothing of the lane's is under way that counts. */
    } else if (e->n > t->answered) {
        t->answered = e->n;
    }
}

/* ---- Publishes ---- */

/* A decimal number. What is none equals no sequence, so that what expects it is refused, as by the
 * reference. */
static uint64_t number_of(struct slice text)
{
    uint64_t v = 0;
    if (text.len == 0 || text.len > 19) {
        return UINT64_MAX;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return UINT64_MAX;
        }
        v = v * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    return v;
}

static bool is_word(struct slice s, const char *word)
{
    return s.len == strlen(word) && strncasecmp((const char *)s.ptr, word, s.len) == 0;
}

/* Values of the headers that say what a stream is to do; empty: not there. The first counts. */
enum publish_header {
    HEADER_MSG_ID,
    HEADER_EXPECT_STREAM,
    HEADER_EXPECT_LAST_SEQ,
    HEADER_EXPECT_LAST_SUBJECT_SEQ,
    HEADER_EXPECT_LAST_MSG_ID,
    HEADER_ROLLUP,
    HEADER_TTL,
    HEADER_INCR,
    HEADER_SCHEDULE,
    HEADER_BATCH_ID,
    HEADERS_COUNT
};

static void find_headers(struct slice block, struct slice ret_values[HEADERS_COUNT])
{
    static const char *const names[HEADERS_COUNT] = {
        "Nats-Msg-Id",
        "Nats-Expected-Stream",
        "Nats-Expected-Last-Sequence",
        "Nats-Expected-Last-Subject-Sequence",
        "Nats-Expected-Last-Msg-Id",
        "Nats-Rollup",
        "Nats-TTL",
        "Nats-Incr",
        "Nats-Schedule",
        "Nats-Batch-Id",
    };
    struct headers_iter it = headers_iter(block);
    struct slice name;
    struct slice value;
    while (headers_next(&it, &name, &value)) {
        if (value.len == 0 || !slice_has_prefix(name, SLICE_LIT("Nats-"))) {
            continue;
        }
        for (int i = 0; i < HEADERS_COUNT; i++) {
            if (ret_values[i].len == 0 && slice_eq_str(name, names[i])) {
                ret_values[i] = value;
                break;
            }
        }
    }
}

/* What asks for a feature that no stream here has is refused, never ignored. */
static int refusal_of_later(const struct slice values[HEADERS_COUNT])
{
    return values[HEADER_BATCH_ID].len > 0   ? API_ERROR_ATOMIC_PUBLISH_DISABLED
           : values[HEADER_INCR].len > 0     ? API_ERROR_MESSAGE_INCR_DISABLED
           : values[HEADER_TTL].len > 0      ? API_ERROR_MESSAGE_TTL_DISABLED
           : values[HEADER_SCHEDULE].len > 0 ? API_ERROR_MESSAGE_SCHEDULES_DISABLED
                                             : 0;
}

/* What depends on the message alone is decided before proposing (design 4). @text is for what a
 * refusal says. */
static void parse_expectations(struct publish_message *m, char text[static 128])
{
    struct slice v[HEADERS_COUNT] = {{0}};
    find_headers(m->header, v);
    m->refused_code = refusal_of_later(v);
    if (v[HEADER_MSG_ID].len > 0) {
        m->options |= PUBLISH_HAS(PUBLISH_MSG_ID);
        m->msg_id = v[HEADER_MSG_ID];
    }
    if (v[HEADER_EXPECT_STREAM].len > 0) {
        m->options |= PUBLISH_HAS(PUBLISH_EXPECT_STREAM);
        m->expect_stream = v[HEADER_EXPECT_STREAM];
    }
    if (v[HEADER_EXPECT_LAST_SEQ].len > 0) {
        m->options |= PUBLISH_HAS(PUBLISH_EXPECT_LAST_SEQ);
        m->expect_last_seq = number_of(v[HEADER_EXPECT_LAST_SEQ]);
    }
    if (v[HEADER_EXPECT_LAST_SUBJECT_SEQ].len > 0) {
        m->options |= PUBLISH_HAS(PUBLISH_EXPECT_LAST_SUBJECT_SEQ);
        m->expect_last_subject_seq = number_of(v[HEADER_EXPECT_LAST_SUBJECT_SEQ]);
    }
    if (v[HEADER_EXPECT_LAST_MSG_ID].len > 0) {
        m->options |= PUBLISH_HAS(PUBLISH_EXPECT_LAST_MSG_ID);
        m->expect_last_msg_id = v[HEADER_EXPECT_LAST_MSG_ID];
    }
    if (v[HEADER_ROLLUP].len > 0) {
        m->options |= PUBLISH_HAS(PUBLISH_ROLLUP);
        m->rollup = is_word(v[HEADER_ROLLUP], "sub")   ? ROLLUP_SUBJECT
                    : is_word(v[HEADER_ROLLUP], "all") ? ROLLUP_ALL
                                                       : ROLLUP_NONE;
        if (m->rollup == ROLLUP_NONE) {
            struct slice value = v[HEADER_ROLLUP];
            value.len = value.len > 80 ? 80 : value.len;
            snprintf(text, 128, "rollup value invalid: \"%.*s\"", SLICE_ARG(value));
            m->refused_code = API_ERROR_STREAM_ROLLUP_FAILED;
            m->refused_text = slice_str(text);
        }
    }
}

void js_propose_publish(struct js_stream *st, uint64_t node_id, uint64_t origin, uint64_t n,
                        const struct router_msg *msg)
{
    struct publish_message m = {
        .subject = msg->subject, .header = msg->header, .payload = msg->payload};
    char text[128];
    if (st->state != JS_STREAM_OK ||
        !is_next(st, node_id, origin, n, m.header.len + m.payload.len)) {
        return;
    }
    if (m.header.len + m.payload.len > MESSAGE_BYTES_MAX) {
        m.refused_code = API_ERROR_STREAM_MESSAGE_EXCEEDS_MAXIMUM;
    } else if (m.header.len > HEADER_BYTES_MAX) {
        m.refused_code = API_ERROR_STREAM_HEADER_EXCEEDS_MAXIMUM;
    } else if (js_reserve_refuses(st) ||
               js_limits_are_reached(st->js, stream_get_config(st->machine)->storage,
                                     m.header.len + m.payload.len)) {
        m.refused_code = API_ERROR_INSUFFICIENT_RESOURCES;
    } else if (m.header.len > 0) {
        parse_expectations(&m, text);
    }
    if (m.refused_code != 0) {
        m.header = SLICE_EMPTY;
        m.payload = SLICE_EMPTY;
        m.options = 0;
    }
    entry_publish(&st->batch, node_id, origin, n, &m);
    js_propose_grown(st);
    js_leader_turn_wanted(st);
}
