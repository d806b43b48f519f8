/* Damaged blocks are mended with records of other replicas (raft-guide 7.7, FAST'18 CTRL).
 *
 *   damage is found: by a read, at the start, by the scrub (js_scrub.c)
 *   -> the block's readable records are brought to memory
 *   -> MEND_ASK {gid, ranges} to one replica after the other, MENDED {records …} back, each proven
 *      by its own checksum, which is bound to stream and sequence
 *   -> whole: it is served from memory, and the next flush pass writes it anew
 *
 * No Raft is involved: a sequence is one message on every replica, or none. So leaders mend as
 * followers do, and damage in different places on all replicas is mended by each from the others,
 * also when the group has no leader. A replica that does not know what is live in a damaged block
 * (its index was damaged when it started) does not join its group before it knows.
 *
 * What every replica answers for with "damaged" is lost: it is named in the log and in /replicaz
 * (not in /healthz: all nodes would fail), and readers get an error. It is asked for again from
 * time to time: a replica may come back. One block per stream at a time, BLOCKS_MAX per node; an
 * answer has some 256 KiB. */
#include "cluster/js_mend.h"

#include <stdlib.h>

#include "broker/meta.h"
#include "broker/msg_index.h"
#include "broker/stream.h"
#include "cluster/js_batch.h"
#include "cluster/js_flush.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_meta.h"
#include "cluster/js_rebuild.h"
#include "cluster/js_send.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/base/list.h"
#include "storage/base/log.h"
#include "storage/store.h"

#define BLOCKS_MAX 8u
#define SERVES_MAX 64u /* Questions of others, waiting. */
#define RANGES_MAX 128u
#define SPAN_MAX 65536u /* Sequences in a question: those of a block. */
#define ANSWER_BYTES (256u * 1024)
#define ANSWER_MS 2000u /* After it the next replica is asked. */
#define AGAIN_MS 1000u  /* Somebody who may have it was not reached. */
#define LOST_AGAIN_MS 10000u
#define BUSY_MS 100u
#define REBUILD_MS 10000u /* So long a replica tries before it asks to be replaced. */
#define LOST_MAX 1024u

enum answer_kind { ANSWER_RECORD, ANSWER_ABSENT, ANSWER_DAMAGED, ANSWER_UNKNOWN };

struct js_mend {
    struct js *js;
    struct js_stream *st; /* NULL: it is gone, only a read is under way. */
    uint64_t first_seq;   /* The block. */
    uint64_t last_seq;
    uint64_t next_seq; /* Asked from here on. */
    uint64_t id;       /* Of the question. */
    uint64_t node_id;  /* Who is asked. */
    uint64_t asked_ms;
    uint64_t tried[META_REPLICAS_MAX];
    size_t tried_count;
    uint64_t records_count;
    bool is_open; /* Somebody was not reached, or does not say that it is damaged there, too. */
    bool is_reading;
    struct store_read read;
};

/* A question of another node. */
struct serve {
    struct list link;
    struct js *js;
    uint64_t node_id;
    uint64_t gid;
    uint64_t id;
    struct js_range ranges[RANGES_MAX];
    unsigned count;
    unsigned at;
    uint64_t seq;
    bool is_reading;
    struct store_read read;
    struct buf out;
};

/* ---- What is lost ---- */

bool js_mend_is_lost(const struct js_stream *st, uint64_t seq)
{
    for (size_t i = 0; i < st->lost_count; i++) {
        if (st->lost[i].first_seq <= seq && seq <= st->lost[i].last_seq) {
            return true;
        }
    }
    return false;
}

uint64_t js_mend_next_lost(const struct js_stream *st, uint64_t seq)
{
    uint64_t best = 0;
    for (size_t i = 0; i < st->lost_count; i++) {
        uint64_t first = st->lost[i].first_seq > seq ? st->lost[i].first_seq : seq;
        if (first <= st->lost[i].last_seq && (best == 0 || first < best)) {
            best = first;
        }
    }
    return best;
}

/* Forget what was said of the block. */
static void lost_clear(struct js_stream *st, uint64_t first_seq, uint64_t last_seq)
{
    size_t kept = 0;
    for (size_t i = 0; i < st->lost_count; i++) {
        if (st->lost[i].last_seq < first_seq || st->lost[i].first_seq > last_seq) {
            st->lost[kept++] = st->lost[i];
        }
    }
    st->lost_count = kept;
}

static void lost_add(struct js_stream *st, uint64_t first_seq, uint64_t last_seq)
{
    if (st->lost_count < LOST_MAX) {
        st->lost = xrealloc(st->lost, (st->lost_count + 1) * sizeof *st->lost);
        st->lost[st->lost_count++] = (struct js_range){first_seq, last_seq};
    }
}

/* ---- Mending a block ---- */

static void mend_free(struct js_mend *m)
{
    if (m->st != NULL) {
        m->st->mend = NULL;
        m->js->mends_count--;
    }
    if (!m->is_reading) {
        free(m);
    } else {
        m->st = NULL;
    }
}

static void walk_end(struct js_stream *st)
{
    uint64_t now = loop_now_ms(st->js->loop);
    st->mend_seq = 0;
    st->mend_ms = now + (st->is_mend_open ? AGAIN_MS : LOST_AGAIN_MS);
    if (st->is_mend_new) {
        st->mend_ms = now;
    }
    st->is_mend_due = st->is_mend_failed || st->is_mend_new;
    st->is_mend_new = false;
    bool is_state_known = store_stream_is_whole(st->store);
    if (st->state == JS_STREAM_MENDING && is_state_known && js_flush_is_busy(st->js)) {
        st->is_mend_due = true; /* A pass has the store: the state is read after it. */
        st->mend_ms = now + BUSY_MS;
    } else if (st->state == JS_STREAM_MENDING && is_state_known) {
        js_stream_mended(st);
    } else if (st->state == JS_STREAM_MENDING && now - st->mending_since_ms >= REBUILD_MS &&
               !st->is_mend_open && js_lane_leader_of(st->js, st->gid) != 0) {
        js_rebuild_wanted(st, "what is damaged in it cannot be mended");
    }
    js_send_resume(st);
}

/* It could not be made whole: say what is missing, once. */
static void block_failed(struct js_mend *m)
{
    struct js_stream *st = m->st;
    bool was_told = false;
    for (size_t i = 0; i < st->lost_count; i++) {
        was_told = was_told ||
                   (st->lost[i].first_seq >= m->first_seq && st->lost[i].last_seq <= m->last_seq);
    }
    st->is_mend_failed = true;
    st->is_mend_open = st->is_mend_open || m->is_open;
    if (m->is_open) {
        return;
    }
    lost_clear(st, m->first_seq, m->last_seq);
    uint64_t seq = m->first_seq;
    uint64_t first;
    uint64_t last;
    while (seq <= m->last_seq && store_mend_missing(st->store, seq, &first, &last)) {
        lost_add(st, first, last);
        seq = last + 1;
        if (!was_told) {
            log_err("Stream %s: the messages from %llu to %llu are damaged on every replica. They "
                    "are lost, unless a replica that is away has them",
                    st->name, (unsigned long long)first, (unsigned long long)last);
        }
    }
}

static void block_end(struct js_mend *m)
{
    struct js_stream *st = m->st;
    uint64_t next_seq = m->last_seq + 1;
    /* A replica that stands alone runs without knowing what it lost (js_stream.c). */
    if (store_mend_missing(st->store, m->first_seq, &(uint64_t){0}, &(uint64_t){0}) &&
        (store_stream_is_whole(st->store) || st->state == JS_STREAM_OK)) {
        block_failed(m); /* Before it goes back to the cache. */
    }
    if (store_mend_end(st->store, m->last_seq) == 0) {
        lost_clear(st, m->first_seq, m->last_seq);
        st->mended_blocks++;
        st->js->is_flush_wanted = true;
        log_wrn("Stream %s: damage in the block from %llu to %llu is mended, with %llu messages of "
                "other replicas",
                st->name, (unsigned long long)m->first_seq, (unsigned long long)m->last_seq,
                (unsigned long long)m->records_count);
    } else {
        st->is_mend_failed = true;
        st->is_mend_open = st->is_mend_open || m->is_open;
    }
    mend_free(m);
    st->mend_seq = next_seq; /* The next one with the next tick. */
    st->mend_ms = loop_now_ms(st->js->loop);
    js_send_resume(st);
}

/* Another replica that was not asked for this block; 0: none. */
static uint64_t next_node(struct js_mend *m)
{
    const struct meta_stream *s = meta_stream_by_gid(m->js->meta, m->st->gid);
    if (s == NULL) {
        return 0;
    }
    for (size_t i = 0; i < s->peers_count; i++) {
        uint64_t node_id = s->peers[i].node_id;
        bool is_tried = node_id == m->js->ctx->node_id;
        for (size_t k = 0; k < m->tried_count; k++) {
            is_tried = is_tried || m->tried[k] == node_id;
        }
        if (is_tried) {
            continue;
        }
        m->tried[m->tried_count++] = node_id;
        if (js_node_is_up(m->js, node_id)) {
            return node_id;
        }
        m->is_open = true;
    }
    return 0;
}

static void put_question(struct js_mend *m)
{
    struct js_range ranges[RANGES_MAX];
    unsigned count = 0;
    uint64_t seq = m->next_seq;
    while (
        count < RANGES_MAX && seq <= m->last_seq &&
        store_mend_missing(m->st->store, seq, &ranges[count].first_seq, &ranges[count].last_seq)) {
        seq = ranges[count++].last_seq + 1;
    }
    m->id = js_next_id(m->js);
    m->asked_ms = loop_now_ms(m->js->loop);
    struct buf *b = js_batch_begin(m->js, m->node_id, JS_ITEM_MEND_ASK);
    buf_append_u64(b, m->st->gid);
    buf_append_u64(b, m->id);
    buf_append_u8(b, (uint8_t)count);
    for (unsigned i = 0; i < count; i++) {
        buf_append_u64(b, ranges[i].first_seq);
        buf_append_u64(b, ranges[i].last_seq);
    }
    js_batch_end(m->js, m->node_id);
}

/* Ask for what is missing from m->next_seq on, or the next replica, or come to the end. */
static void ask(struct js_mend *m)
{
    uint64_t first;
    uint64_t last;
    if (!store_mend_missing(m->st->store, m->first_seq, &first, &last)) {
        block_end(m);
        return;
    }
    if (m->node_id == 0 || !store_mend_missing(m->st->store, m->next_seq, &first, &last)) {
        m->next_seq = m->first_seq;
        m->node_id = next_node(m);
        if (m->node_id == 0) {
            block_end(m);
            return;
        }
    }
    put_question(m);
}

static void read_run(void *arg)
{
    struct js_mend *m = arg;
    store_read_run(&m->read);
}

static void read_done(void *arg)
{
    struct js_mend *m = arg;
    struct js_stream *st = m->st;
    m->is_reading = false;
    int rv = store_mend_done(&m->read);
    if (st == NULL) {
        free(m);
    } else if (rv == 0) {
        ask(m);
    } else {
        mend_free(m); /* It moved, or is gone. */
        st->mend_ms = loop_now_ms(st->js->loop) + BUSY_MS;
        js_send_resume(st);
    }
}

/* The next damaged block, or the end of the walk. */
static void block_next(struct js_stream *st)
{
    struct js *js = st->js;
    struct js_mend *m = xcalloc(1, sizeof *m);
    if (!store_mend_next(st->store, st->mend_seq, &m->first_seq, &m->last_seq)) {
        free(m);
        walk_end(st);
        return;
    }
    int rv = store_mend_start(st->store, m->last_seq, &m->read);
    if (rv != 0 && rv != ERR_EXISTS) {
        free(m);
        st->mend_ms = loop_now_ms(js->loop) + BUSY_MS;
        return;
    }
    m->js = js;
    m->st = st;
    st->mend = m;
    js->mends_count++;
    if (rv == 0) {
        m->is_reading = true;
        loop_work(js->loop, read_run, read_done, m);
    } else {
        ask(m);
    }
}

void js_mend_wanted(struct js_stream *st)
{
    uint64_t now = loop_now_ms(st->js->loop);
    st->is_mend_new = st->mend_seq != 0 || st->mend != NULL; /* It may be behind the walk. */
    if (!st->is_mend_due) {
        st->is_mend_due = true;
        st->mend_ms = now;
    } else if (st->mend == NULL && st->mend_ms > now + AGAIN_MS) {
        st->mend_ms = now + AGAIN_MS; /* Somebody waits for it. */
    }
}

void js_mend_tick(struct js *js)
{
    uint64_t now = loop_now_ms(js->loop);
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        struct js_mend *m = st->mend;
        if (m != NULL && !m->is_reading && now - m->asked_ms >= ANSWER_MS) {
            m->is_open = true;
            m->node_id = 0;
            ask(m);
        } else if (m == NULL && st->is_mend_due && now >= st->mend_ms && st->store != NULL &&
                   st->state != JS_STREAM_LOADING && js->mends_count < BLOCKS_MAX &&
                   !js->is_stopping) {
            if (st->mend_seq == 0) {
                st->is_mend_failed = false;
                st->is_mend_open = false;
            }
            block_next(st);
        }
        if (st->is_mend_due) {
            js_send_resume(st); /* Readers do not wait for ever. */
        }
    }
}

void js_mend_close(struct js_stream *st)
{
    if (st->mend != NULL) {
        mend_free(st->mend);
    }
    free(st->lost);
    st->lost = NULL;
    st->lost_count = 0;
    st->is_mend_due = false;
    st->mend_seq = 0;
}

/* ---- Answers ---- */

/* The replica that sent it must not be of another opinion than the machine here. */
static bool is_as_known(const struct js_stream *st, struct slice record)
{
    struct store_message r;
    struct msg_info info;
    return store_record_read(record, &r) &&
           (st->machine == NULL ||
            (stream_get_message(st->machine, r.seq, &info) && info.time_ns == r.time_ns &&
             slice_eq(info.subject, r.subject)));
}

static void take_record(struct js_mend *m, struct slice record)
{
    if (!is_as_known(m->st, record)) {
        m->is_open = true;
        return;
    }
    int rv = store_mend_put(m->st->store, record);
    if (rv == 0) {
        m->records_count++;
    } else if (rv == ERR_INVALID) {
        log_err("Stream %s: node %s sent a message that fails its checksum", m->st->name,
                js_node_name(m->js, m->node_id));
        m->is_open = true;
    }
}

void js_mend_take(struct js *js, uint64_t node_id, struct reader *r)
{
    struct js_stream *st = js_stream_find(js, reader_u64(r));
    uint64_t id = reader_u64(r);
    uint64_t next_seq = reader_u64(r);
    struct js_mend *m = st == NULL ? NULL : st->mend;
    bool is_asked = m != NULL && !m->is_reading && m->id == id && m->node_id == node_id;
    while (r->len > 0 && !r->failed) {
        uint8_t kind = reader_u8(r);
        if (kind == ANSWER_RECORD) {
            struct slice record = js_batch_take_slice(r);
            if (is_asked && !r->failed) {
                take_record(m, record);
            }
            continue;
        }
        reader_u64(r);
        reader_u64(r);
        if (kind > ANSWER_UNKNOWN) {
            r->failed = true;
        } else if (is_asked && kind != ANSWER_DAMAGED) {
            /* Gone there and live here: one of both is behind. */
            m->is_open = m->is_open || kind == ANSWER_UNKNOWN || st->state == JS_STREAM_OK;
        }
    }
    if (!r->failed && is_asked) {
        m->next_seq = next_seq > m->next_seq ? next_seq : m->last_seq + 1;
        ask(m);
    }
}

/* ---- Questions of others ---- */

static void serve_free(struct serve *s)
{
    list_remove(&s->link);
    s->js->serves_count--;
    buf_close(&s->out);
    free(s);
}

static void serve_more(struct serve *s);

static void serve_run(void *arg)
{
    struct serve *s = arg;
    store_read_run(&s->read);
}

static void serve_read(void *arg)
{
    struct serve *s = arg;
    s->is_reading = false;
    (void)store_read_done(&s->read); /* The next look tells. */
    serve_more(s);
}

static void serve_end(struct serve *s, uint64_t next_seq)
{
    struct buf *b = js_batch_begin(s->js, s->node_id, JS_ITEM_MENDED);
    buf_append_u64(b, s->gid);
    buf_append_u64(b, s->id);
    buf_append_u64(b, next_seq);
    buf_append_slice(b, buf_slice(&s->out));
    js_batch_end(s->js, s->node_id);
    serve_free(s);
}

static void put_verdict(struct serve *s, enum answer_kind kind, uint64_t seq)
{
    buf_append_u8(&s->out, (uint8_t)kind);
    buf_append_u64(&s->out, seq);
    buf_append_u64(&s->out, seq);
}

/* False: it is being read. */
static bool serve_one(struct serve *s, struct js_stream *st)
{
    struct store_view view;
    int rv = store_read(st->store, s->seq, &view);
    if (rv == ERR_AGAIN) {
        rv = store_read_start(st->store, s->seq, &s->read);
        if (rv == 0) {
            s->is_reading = true;
            loop_work(s->js->loop, serve_run, serve_read, s);
            return false;
        }
        rv = rv == ERR_EXISTS ? store_read(st->store, s->seq, &view) : rv;
    }
    if (rv == 0) {
        buf_append_u8(&s->out, ANSWER_RECORD);
        js_batch_put_slice(&s->out, store_view_record(&view));
    } else {
        /* A sequence that was given to no message here is not known to be gone. */
        put_verdict(s,
                    rv == ERR_CORRUPT                            ? ANSWER_DAMAGED
                    : rv != ERR_NOTFOUND                         ? ANSWER_UNKNOWN
                    : s->seq <= store_stream_last_seq(st->store) ? ANSWER_ABSENT
                                                                 : ANSWER_UNKNOWN,
                    s->seq);
    }
    return true;
}

static void serve_more(struct serve *s)
{
    struct js_stream *st = js_stream_find(s->js, s->gid);
    if (st == NULL || st->store == NULL || !st->is_store_loaded || s->js->is_stopping) {
        serve_free(s); /* The other side asks somebody else, and later again. */
        return;
    }
    while (s->at < s->count) {
        if (s->out.len >= ANSWER_BYTES) {
            serve_end(s, s->seq);
            return;
        }
        if (!serve_one(s, st)) {
            return;
        }
        if (s->seq++ == s->ranges[s->at].last_seq && ++s->at < s->count) {
            s->seq = s->ranges[s->at].first_seq;
        }
    }
    serve_end(s, s->seq);
}

void js_mend_asked(struct js *js, uint64_t node_id, struct reader *r)
{
    struct serve *s = xcalloc(1, sizeof *s);
    s->js = js;
    s->node_id = node_id;
    s->gid = reader_u64(r);
    s->id = reader_u64(r);
    s->count = reader_u8(r);
    uint64_t span = 0;
    uint64_t above = 0;
    for (unsigned i = 0; i < s->count && i < RANGES_MAX && !r->failed; i++) {
        struct js_range *k = &s->ranges[i];
        k->first_seq = reader_u64(r);
        k->last_seq = reader_u64(r);
        if (k->first_seq <= above || k->last_seq < k->first_seq ||
            k->last_seq - k->first_seq >= SPAN_MAX) {
            r->failed = true;
            break;
        }
        above = k->last_seq;
        span += k->last_seq - k->first_seq + 1;
    }
    r->failed = r->failed || s->count == 0 || s->count > RANGES_MAX || span > SPAN_MAX;
    if (r->failed || js->serves_count >= SERVES_MAX) {
        free(s);
        return;
    }
    s->seq = s->ranges[0].first_seq;
    list_push_back(&js->serves, &s->link);
    js->serves_count++;
    serve_more(s);
}

void js_mend_stop(struct js *js)
{
    LIST_FOR_SAFE(it, tmp, &js->serves)
    {
        struct serve *s = container_of(it, struct serve, link);
        if (!s->is_reading) {
            serve_free(s);
        }
    }
}
