/* Origin lanes (design 3): what clients of this node publish to a stream, in order, exactly once.
 *
 * A message waits until a leader is known and the window has room; then it gets the lane's next
 * number and is sent. Numbered messages are kept until they are answered, and sent again, in order,
 * when the leader changes: the new one answers from its state what the old one had stored. So
 * killing a leader neither loses, doubles nor reorders what clients of other nodes published.
 *
 * The window is at most what a stream's state keeps answers for: more under way, and an answer
 * could be forgotten before it was heard. It narrows while answers take long, so that what waits
 * does so here, where senders take turns: the first message that waits of each goes before all
 * others. Who has more waiting is not read for a while, so neither memory nor the wait of others
 * grows.
 *
 * Who was told 503 may publish again, as clients do: only what was never sent is answered so, and
 * is never stored. What has a number gets its true answer, or, while nobody knows it, none. */
#include "cluster/js_lane.h"

#include <stdlib.h>

#include "broker/api_error.h"
#include "broker/api_reply.h"
#include "broker/meta.h"
#include "broker/stream.h"
#include "cluster/clients.h"
#include "cluster/js_api.h"
#include "cluster/js_batch.h"
#include "cluster/js_internal.h"
#include "cluster/js_propose.h"
#include "cluster/js_pull.h"
#include "cluster/js_stream.h"
#include "cluster/js_wait.h"
#include "cluster/loop.h"
#include "cluster/router.h"
#include "storage/base/arena.h"
#include "storage/base/buf.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"

#define LEADERLESS_MS 5000                /* So long a publish waits for a leader. */
#define LANE_SENT_MAX STREAM_LANE_ANSWERS /* Sent and not answered: the answers a stream keeps. */
#define LANE_SENT_BYTES_MAX (8u << 20)    /* Same. */
#define LANE_MESSAGES_MAX 4096u           /* Held, per stream, before publishers are paused. */
#define LANE_BYTES_MAX (16u << 20)        /* Same. */
#define NODE_LANE_BYTES_MAX (64u << 20)   /* Same, of all streams. */
#define RESEND_MS 1000   /* No answer for so long: send again, whatever we believe. */
#define GAP_RESEND_MS 50 /* At most so often because of a gap. */
#define PAUSE_MS 1000    /* A publisher is not read for at most so long (design 9). */
#define HARD_FACTOR 4    /* Beyond this many windows a publish is refused at once. */
#define WINDOW_MIN (LANE_SENT_MAX / 16) /* 512 KiB: two batches of a leader. */
#define ANSWER_SLOW_MS 400              /* The window narrows when an answer takes so long, */
#define ANSWER_FAST_MS 200              /* and widens when it takes less than this. */
#define SENDER_MESSAGES 16u             /* Who has less waiting is not paused. */
#define SENDER_BYTES (256u * 1024)      /* Same. */
#define LEADERS_SPARE 4096u /* Streams whose leader is known before meta tells of them. */

struct lane_message {
    struct list link;
    uint64_t n;        /* 0: waits, never sent. */
    uint64_t since_ms; /* It waits, or it was sent first. */
    uint64_t sender;
    uint32_t subject_bytes;
    uint32_t reply_bytes;
    uint32_t header_bytes;
    uint32_t payload_bytes;
    uint8_t bytes[];
};

/* A client with messages that wait, or that is not read. */
struct lane_sender {
    uint64_t id; /* 0: all that are no clients. */
    uint32_t waiting;
    uint64_t waiting_bytes;
    bool is_paused; /* Until there is room; its connection goes on by itself after PAUSE_MS. */
    UT_hash_handle hh;
};

struct js_lane {
    uint64_t gid;
    char *stream;
    uint64_t next_n;
    struct list sent;    /* Numbered, not answered; ascending. */
    struct list first;   /* Not numbered, each the first of its sender; before those below. */
    struct list waiting; /* Not numbered. */
    uint32_t count;      /* Of both. */
    uint64_t bytes;
    uint32_t sent_count;
    uint64_t sent_bytes;
    uint32_t window;     /* That may be sent and not answered. */
    uint64_t narrowed_n; /* The last sent when it narrowed last. */
    struct lane_sender *senders;
    size_t paused_count;
    uint64_t progress_ms; /* Last answer or sending. */
    uint64_t gap_ms;      /* When it was sent again because of a gap. */
    uint64_t gap_from;    /* Send again from here, a little later; 0: no. */
    struct buf ack;       /* The text of the last one; */
    size_t ack_begin;     /* so much of it all of them have. */
    UT_hash_handle hh;
};

static struct slice part(const struct lane_message *m, unsigned which)
{
    const uint32_t lens[] = {m->subject_bytes, m->reply_bytes, m->header_bytes, m->payload_bytes};
    size_t at = 0;
    for (unsigned i = 0; i < which; i++) {
        at += lens[i];
    }
    return slice_of(m->bytes + at, lens[which]);
}

static struct js_lane *lane_find(struct js *js, uint64_t gid)
{
    struct js_lane *l;
    HASH_FIND(hh, js->lanes, &gid, sizeof gid, l);
    return l;
}

static struct js_lane *lane_of(struct js *js, const struct meta_stream *s)
{
    struct js_lane *l = lane_find(js, s->gid);
    if (l == NULL) {
        l = xcalloc(1, sizeof *l);
        l->gid = s->gid;
        l->stream = xslicedup(slice_str(s->config.name));
        l->next_n = 1;
        list_init(&l->sent);
        list_init(&l->first);
        list_init(&l->waiting);
        l->window = LANE_SENT_MAX;
        HASH_ADD(hh, js->lanes, gid, sizeof l->gid, l);
    }
    return l;
}

static size_t message_bytes(const struct lane_message *m)
{
    return sizeof *m + m->subject_bytes + m->reply_bytes + m->header_bytes + m->payload_bytes;
}

/* ---- Senders ---- */

static struct lane_sender *sender_find(struct js_lane *l, uint64_t id)
{
    struct lane_sender *s;
    HASH_FIND(hh, l->senders, &id, sizeof id, s);
    return s;
}

static struct lane_sender *sender_get(struct js_lane *l, uint64_t id)
{
    struct lane_sender *s = sender_find(l, id);
    if (s == NULL) {
        s = xcalloc(1, sizeof *s);
        s->id = id;
        HASH_ADD(hh, l->senders, id, sizeof s->id, s);
    }
    return s;
}

static void sender_drop(struct js_lane *l, struct lane_sender *s)
{
    if (s->waiting == 0 && !s->is_paused) {
        HASH_DEL(l->senders, s);
        free(s);
    }
}

static void sender_waits_less(struct js_lane *l, const struct lane_message *m)
{
    struct lane_sender *s = sender_find(l, m->sender);
    s->waiting--;
    s->waiting_bytes -= message_bytes(m);
    sender_drop(l, s);
}

static void sender_pause(struct js *js, struct js_lane *l, struct lane_sender *s)
{
    if (s->id == 0 || (s->waiting < SENDER_MESSAGES && s->waiting_bytes < SENDER_BYTES)) {
        return;
    }
    l->paused_count += !s->is_paused;
    s->is_paused = true;
    clients_pause(js->ctx->clients, s->id, PAUSE_MS); /* Again, when it was read meanwhile. */
}

static void resume_clients(struct js *js, struct js_lane *l)
{
    struct lane_sender *s;
    struct lane_sender *next;
    if (l->paused_count == 0) {
        return;
    }
    l->paused_count = 0;
    HASH_ITER(hh, l->senders, s, next)
    {
        if (s->is_paused) {
            uint64_t id = s->id;
            s->is_paused = false;
            sender_drop(l, s);
            clients_resume(js->ctx->clients, id);
        }
    }
}

/* ---- Messages ---- */

static void message_free(struct js *js, struct js_lane *l, struct lane_message *m)
{
    list_remove(&m->link);
    if (m->n != 0) {
        l->sent_count--;
        l->sent_bytes -= message_bytes(m);
    } else {
        sender_waits_less(l, m);
    }
    l->count--;
    l->bytes -= message_bytes(m);
    js->lane_bytes -= message_bytes(m);
    arena_free(&js->lane_memory, m);
}

/* Tell the publisher that nobody stores it. What was sent may be stored by now: only a message
 * whose stream is gone, and with it what was stored, may be given up then. */
static void give_up(struct js *js, struct js_lane *l, struct lane_message *m)
{
    if (m->reply_bytes > 0) {
        router_send(js->ctx->router, part(m, 1), SLICE_EMPTY, SLICE_LIT("NATS/1.0 503\r\n\r\n"),
                    SLICE_EMPTY);
    }
    message_free(js, l, m);
}

/* ---- Sending ---- */

static void send_message(struct js *js, struct js_lane *l, const struct lane_message *m,
                         uint64_t leader)
{
    if (leader == js->ctx->node_id) {
        struct js_stream *st = js_stream_find(js, l->gid);
        struct router_msg msg = {
            .subject = part(m, 0), .header = part(m, 2), .payload = part(m, 3)};
        if (st != NULL && st->is_leader) {
            js_propose_publish(st, js->ctx->node_id, js->origin, m->n, &msg);
        }
        return;
    }
    struct buf *b = js_batch_begin(js, leader, JS_ITEM_PUBLISH);
    buf_append_u64(b, l->gid);
    buf_append_u64(b, js->origin);
    buf_append_u64(b, m->n);
    js_batch_put_slice(b, part(m, 0));
    js_batch_put_slice(b, part(m, 2));
    js_batch_put_slice(b, part(m, 3));
    js_batch_end(js, leader);
}

/* A limit for the widest window as it is for this one. */
static uint64_t scaled(const struct js_lane *l, uint64_t limit)
{
    return limit * l->window / LANE_SENT_MAX;
}

static struct lane_message *next_waiting(struct js_lane *l)
{
    struct list *from = list_is_empty(&l->first) ? &l->waiting : &l->first;
    return list_is_empty(from) ? NULL : container_of(from->next, struct lane_message, link);
}

static bool is_window_open(const struct js_lane *l)
{
    return l->sent_count < l->window && l->sent_bytes < scaled(l, LANE_SENT_BYTES_MAX);
}

/* Give it the next number. */
static void send_first(struct js *js, struct js_lane *l, struct lane_message *m, uint64_t leader)
{
    m->since_ms = loop_now_ms(js->loop);
    m->n = l->next_n++;
    l->sent_count++;
    l->sent_bytes += message_bytes(m);
    if (list_is_empty(&l->sent)) {
        l->progress_ms = m->since_ms;
    }
    list_push_back(&l->sent, &m->link);
    send_message(js, l, m, leader);
}

static void send_waiting(struct js *js, struct js_lane *l, uint64_t leader)
{
    struct lane_message *m;
    while (is_window_open(l) && (m = next_waiting(l)) != NULL) {
        list_remove(&m->link);
        sender_waits_less(l, m);
        send_first(js, l, m, leader);
    }
}

/* Everything unanswered from number @from on, in order. */
static void resend(struct js *js, struct js_lane *l, uint64_t leader, uint64_t from)
{
    l->progress_ms = loop_now_ms(js->loop);
    l->gap_from = 0;
    LIST_FOR(it, &l->sent)
    {
        struct lane_message *m = container_of(it, struct lane_message, link);
        if (m->n >= from) {
            send_message(js, l, m, leader);
        }
    }
}

uint64_t js_lane_leader_of(struct js *js, uint64_t gid)
{
    struct js_leader *known;
    HASH_FIND(hh, js->leaders, &gid, sizeof gid, known);
    return known == NULL ? 0 : known->node_id;
}

/* ---- Publishing ---- */

static bool refuse(struct js *js, const char *stream, const struct router_msg *msg)
{
    struct api_error e;
    struct buf b = BUF_EMPTY;
    if (msg->reply.len > 0) {
        api_error_set(&e, API_ERROR_STREAM_TOO_MANY_REQUESTS, NULL);
        api_puback_error(&b, stream, &e);
        router_send(js->ctx->router, msg->reply, SLICE_EMPTY,
                    SLICE_LIT("NATS/1.0 429 Too Many Requests\r\n\r\n"), buf_slice(&b));
        buf_close(&b);
    }
    return true;
}

bool js_lane_publish(struct js *js, const struct meta_stream *s, const struct router_msg *msg,
                     const struct router_origin *origin)
{
    struct js_lane *l = lane_of(js, s);
    bool is_full = l->count >= scaled(l, LANE_MESSAGES_MAX) ||
                   l->bytes >= scaled(l, LANE_BYTES_MAX) || js->lane_bytes >= NODE_LANE_BYTES_MAX;
    uint64_t sender_id = origin->kind == ROUTER_FROM_CLIENT ? origin->id : 0;
    if (is_full &&
        (l->count >= HARD_FACTOR * LANE_MESSAGES_MAX || l->bytes >= HARD_FACTOR * LANE_BYTES_MAX ||
         js->lane_bytes >= HARD_FACTOR * NODE_LANE_BYTES_MAX)) {
        return refuse(js, s->config.name, msg);
    }
    const struct slice parts[] = {msg->subject, msg->reply, msg->header, msg->payload};
    struct lane_message *m = arena_alloc(&js->lane_memory, sizeof *m + parts[0].len + parts[1].len +
                                                               parts[2].len + parts[3].len);
    *m = (struct lane_message){.since_ms = loop_now_ms(js->loop),
                               .sender = sender_id,
                               .subject_bytes = (uint32_t)parts[0].len,
                               .reply_bytes = (uint32_t)parts[1].len,
                               .header_bytes = (uint32_t)parts[2].len,
                               .payload_bytes = (uint32_t)parts[3].len};
    size_t at = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (parts[i].len > 0) {
            memcpy(m->bytes + at, parts[i].ptr, parts[i].len);
            at += parts[i].len;
        }
    }
    l->count++;
    l->bytes += message_bytes(m);
    js->lane_bytes += message_bytes(m);
    uint64_t leader = js_lane_leader_of(js, l->gid);
    if (leader != 0 && is_window_open(l) && next_waiting(l) == NULL) {
        send_first(js, l, m, leader);
        return true;
    }
    struct lane_sender *sender = sender_get(l, sender_id);
    list_push_back(sender->waiting == 0 ? &l->first : &l->waiting, &m->link);
    sender->waiting++;
    sender->waiting_bytes += message_bytes(m);
    if (is_full) {
        sender_pause(js, l, sender);
    }
    if (leader != 0) {
        send_waiting(js, l, leader);
    } else {
        js_wait_set(js, l->gid, true);
    }
    return true;
}

/* ---- Answers ---- */

static struct slice ack_text(struct js_lane *l, const struct js_answer *a)
{
    if (l->ack_begin == 0) {
        api_puback_begin(&l->ack, l->stream);
        l->ack_begin = l->ack.len;
    }
    l->ack.len = l->ack_begin;
    api_puback_end(&l->ack, a->seq, a->is_duplicate);
    return buf_slice(&l->ack);
}

static void answer_publisher(struct js *js, struct js_lane *l, const struct lane_message *m,
                             const struct js_answer *a)
{
    if (m->reply_bytes == 0 || a->is_forgotten) {
        return; /* Stored or not, nobody knows any more: what a lost ack looks like. */
    }
    if (a->err_code == 0) {
        router_send(js->ctx->router, part(m, 1), SLICE_EMPTY, SLICE_EMPTY, ack_text(l, a));
        return;
    }
    struct api_error e;
    struct buf b = BUF_EMPTY;
    if (api_error_is_known(a->err_code)) {
        api_error_set(&e, (enum api_error_code)a->err_code, "%.*s", SLICE_ARG(a->text));
    } else { /* Of a newer node. */
        api_error_set(&e, API_ERROR_STREAM_STORE_FAILED,
                      "refused with error %d, which this node does not know", a->err_code);
    }
    api_puback_error(&b, l->stream, &e);
    router_send(js->ctx->router, part(m, 1), SLICE_EMPTY, SLICE_EMPTY, buf_slice(&b));
    buf_close(&b);
}

static void adapt_window(struct js_lane *l, const struct lane_message *m, uint64_t now)
{
    uint64_t took_ms = now - m->since_ms;
    if (took_ms > ANSWER_SLOW_MS && m->n > l->narrowed_n) {
        uint64_t fit = (uint64_t)l->window * ANSWER_SLOW_MS / took_ms;
        l->window = fit < WINDOW_MIN ? WINDOW_MIN : (uint32_t)fit;
        l->narrowed_n = l->next_n - 1; /* What is under way says nothing of the new one. */
    } else if (took_ms < ANSWER_FAST_MS && l->window < LANE_SENT_MAX) {
        l->window++;
    }
}

void js_lane_answer(struct js *js, uint64_t gid, const struct js_answer *a)
{
    struct js_lane *l = lane_find(js, gid);
    if (l == NULL) {
        return;
    }
    uint64_t now = loop_now_ms(js->loop);
    if (a->is_gap) {
        uint64_t leader = js_lane_leader_of(js, gid);
        if (leader != 0 && now - l->gap_ms >= GAP_RESEND_MS) {
            l->gap_ms = now;
            resend(js, l, leader, a->last_n + 1);
        } else {
            l->gap_from = a->last_n + 1;
        }
        return;
    }
    LIST_FOR(it, &l->sent)
    {
        struct lane_message *m = container_of(it, struct lane_message, link);
        if (m->n > a->n) {
            break; /* Answered before. */
        }
        if (m->n == a->n) {
            l->progress_ms = now;
            adapt_window(l, m, now);
            answer_publisher(js, l, m, a);
            message_free(js, l, m);
            if (l->paused_count > 0 && l->count <= scaled(l, LANE_MESSAGES_MAX) / 2 &&
                l->bytes <= scaled(l, LANE_BYTES_MAX) / 2) {
                resume_clients(js, l);
            }
            break;
        }
    }
    uint64_t leader = js_lane_leader_of(js, gid);
    if (leader != 0) {
        send_waiting(js, l, leader);
    }
}

/* ---- Leaders ---- */

void js_lane_leader(struct js *js, uint64_t gid, uint64_t node_id, uint64_t term)
{
    struct js_leader *known;
    HASH_FIND(hh, js->leaders, &gid, sizeof gid, known);
    if (known == NULL) {
        /* Of a stream that is gone, or more than there can be: nobody will ask. */
        if (meta_is_gone(js->meta, gid) ||
            HASH_COUNT(js->leaders) >= meta_streams_count(js->meta) + LEADERS_SPARE) {
            return;
        }
        known = xcalloc(1, sizeof *known);
        known->gid = gid;
        HASH_ADD(hh, js->leaders, gid, sizeof known->gid, known);
    } else if (term < known->term) {
        return; /* Old. */
    }
    if (known->node_id != node_id || known->term != term) {
        known->node_id = node_id;
        known->term = term;
        known->since_ms = loop_now_ms(js->loop);
        known->refused_ms = 0;
    }
    js_wait_set(js, gid, false);
    js_pull_leader(js, gid, node_id);
    struct js_lane *l = lane_find(js, gid);
    /* Also when it is nothing new: a leader says so again on a connection that replaces another,
     * with which publishes or their answers may have gone. It may be the only one that noticed. */
    if (l != NULL) {
        resend(js, l, node_id, 0);
        send_waiting(js, l, node_id);
    }
    js_api_wake(js);
}

void js_lane_leader_lost(struct js *js, uint64_t gid, uint64_t node_id)
{
    struct js_leader *known;
    HASH_FIND(hh, js->leaders, &gid, sizeof gid, known);
    if (known != NULL && known->node_id == node_id) {
        known->node_id = 0;
    }
}

void js_lane_peer_up(struct js *js, uint64_t node_id)
{
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        if (st->is_led) {
            struct buf *b = js_batch_begin(js, node_id, JS_ITEM_LEADER);
            buf_append_u64(b, st->gid);
            buf_append_u64(b, st->term);
            js_batch_end(js, node_id);
        }
    }
}

void js_lane_peer_down(struct js *js, uint64_t node_id)
{
    for (struct js_leader *k = js->leaders; k != NULL; k = k->hh.next) {
        if (k->node_id == node_id) {
            k->node_id = 0;
        }
    }
}

bool js_lane_is_used(struct js *js, uint64_t gid)
{
    const struct js_lane *l = lane_find(js, gid);
    return l != NULL && l->count > 0;
}

bool js_lane_is_idle(const struct js *js)
{
    return js->lane_bytes == 0;
}

/* ---- Time ---- */

static void give_up_old(struct js *js, struct js_lane *l, struct list *list, uint64_t now)
{
    while (!list_is_empty(list)) {
        struct lane_message *m = container_of(list->next, struct lane_message, link);
        if (now - m->since_ms < LEADERLESS_MS) {
            break;
        }
        give_up(js, l, m);
    }
}

void js_lane_tick(struct js *js)
{
    uint64_t now = loop_now_ms(js->loop);
    for (struct js_lane *l = js->lanes; l != NULL; l = l->hh.next) {
        uint64_t leader = js_lane_leader_of(js, l->gid);
        give_up_old(js, l, &l->first, now);
        give_up_old(js, l, &l->waiting, now);
        if (leader == 0 || list_is_empty(&l->sent)) {
            continue;
        }
        if (now - l->progress_ms >= RESEND_MS) {
            resend(js, l, leader, 0);
        } else if (l->gap_from != 0 && now - l->gap_ms >= GAP_RESEND_MS) {
            l->gap_ms = now;
            resend(js, l, leader, l->gap_from);
        }
    }
}

static void lane_free(struct js *js, struct js_lane *l)
{
    HASH_DEL(js->lanes, l);
    struct list *lists[] = {&l->sent, &l->first, &l->waiting};
    for (int i = 0; i < 3; i++) {
        LIST_FOR_SAFE(it, tmp, lists[i])
        {
            message_free(js, l, container_of(it, struct lane_message, link));
        }
    }
    resume_clients(js, l);
    buf_close(&l->ack);
    free(l->stream);
    free(l);
}

void js_lane_forget(struct js *js, uint64_t gid)
{
    struct js_lane *l = lane_find(js, gid);
    if (l != NULL) {
        struct list *lists[] = {&l->sent, &l->first, &l->waiting};
        for (int i = 0; i < 3; i++) {
            while (!list_is_empty(lists[i])) {
                give_up(js, l, container_of(lists[i]->next, struct lane_message, link));
            }
        }
        lane_free(js, l);
    }
    struct js_leader *k;
    HASH_FIND(hh, js->leaders, &gid, sizeof gid, k);
    if (k != NULL) {
        HASH_DEL(js->leaders, k);
        free(k);
    }
}

void js_lane_close(struct js *js)
{
    struct js_lane *l;
    struct js_lane *next;
    HASH_ITER(hh, js->lanes, l, next)
    {
        lane_free(js, l);
    }
    arena_close(&js->lane_memory);
    struct js_leader *k;
    struct js_leader *next_k;
    HASH_ITER(hh, js->leaders, k, next_k)
    {
        HASH_DEL(js->leaders, k);
        free(k);
    }
}
