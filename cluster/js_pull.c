/* Pull requests that this node passed on to another, the leader of their stream.
 *
 * A leader that steps down tells those who wait; one that dies cannot. So the node of the client
 * remembers what it passed on, until enough messages or a status came back, and says `409
 * Leadership Change` when the leader is gone (design 3): the client asks again at once, not after
 * its own patience. A wrong one costs a client one more request, and no message. */
#include "cluster/js_pull.h"

#include <stdlib.h>

#include "broker/ack.h"
#include "broker/delivery.h"
#include "cluster/js_internal.h"
#include "cluster/js_wait.h"
#include "cluster/loop.h"
#include "cluster/router.h"
#include "storage/base/buf.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"

#define PULLS_MAX 65536u
#define GRACE_MS 500 /* A leader that lives tells its clients itself; after this we do. */
#define SWEEP_MS 1000

struct js_pull {
    struct list link;
    uint64_t gid;
    uint64_t leader;
    uint64_t left;     /* Messages asked for and not seen yet, of all requests with this inbox. */
    uint64_t until_ms; /* The leader has ended the last of them itself; UINT64_MAX: never. */
    uint64_t due_ms;   /* The leader is not the leader any more: say so then; 0: it is. */
    UT_hash_handle hh; /* By inbox. */
    size_t inbox_len;
    uint8_t inbox[];
};

static struct js_pull *find(struct js *js, struct slice inbox)
{
    struct js_pull *p = NULL;
    if (js->pulls != NULL && inbox.len > 0) {
        HASH_FIND(hh, js->pulls, inbox.ptr, inbox.len, p);
    }
    return p;
}

static void pull_free(struct js *js, struct js_pull *p)
{
    js->pulls_due -= p->due_ms != 0;
    list_remove(&p->link);
    HASH_DEL(js->pulls, p);
    free(p);
}

void js_pull_passed_on(struct js *js, uint64_t gid, uint64_t leader, struct slice inbox,
                       struct slice body)
{
    struct pull_request r;
    if (inbox.len == 0 || inbox.len > DELIVERY_INBOX_BYTES_MAX ||
        pull_request_parse(body, &r) != NULL) {
        return;
    }
    struct js_pull *p = find(js, inbox);
    if (p == NULL) {
        if (HASH_COUNT(js->pulls) >= PULLS_MAX) {
            return; /* The client's patience is the net. */
        }
        p = xcalloc(1, sizeof *p + inbox.len);
        p->inbox_len = inbox.len;
        memcpy(p->inbox, inbox.ptr, inbox.len);
        list_init(&p->link);
        list_push_back(&js->pulls_list, &p->link);
        HASH_ADD_KEYPTR(hh, js->pulls, p->inbox, p->inbox_len, p);
    }
    uint64_t now = loop_now_ms(js->loop);
    uint64_t until = r.expires_ns > 0 ? now + (uint64_t)r.expires_ns / 1000000u : UINT64_MAX;
    js->pulls_due -= p->due_ms != 0;
    p->due_ms = 0;
    p->gid = gid;
    p->leader = leader;
    p->left = r.batch > UINT64_MAX - p->left ? UINT64_MAX : p->left + r.batch;
    p->until_ms = until > p->until_ms ? until : p->until_ms;
}

void js_pull_delivered(struct js *js, struct slice inbox)
{
    struct js_pull *p = find(js, inbox);
    if (p != NULL && --p->left == 0) {
        pull_free(js, p);
    }
}

void js_pull_status(struct js *js, struct slice inbox, struct slice header)
{
    struct js_pull *p = find(js, inbox);
    /* Heartbeats go on; whatever else ends a request, maybe not the only one. */
    if (p != NULL && !slice_has_prefix(header, SLICE_LIT("NATS/1.0 100"))) {
        pull_free(js, p);
    }
}

static void set_due(struct js *js, struct js_pull *p, uint64_t due_ms)
{
    js->pulls_due += p->due_ms == 0;
    p->due_ms = due_ms;
}

void js_pull_leader(struct js *js, uint64_t gid, uint64_t node_id)
{
    uint64_t now = loop_now_ms(js->loop);
    LIST_FOR(it, &js->pulls_list)
    {
        struct js_pull *p = container_of(it, struct js_pull, link);
        if (p->gid == gid && p->leader != node_id && p->due_ms == 0) {
            set_due(js, p, now + GRACE_MS);
        }
    }
}

void js_pull_peer_down(struct js *js, uint64_t node_id)
{
    uint64_t now = loop_now_ms(js->loop);
    LIST_FOR(it, &js->pulls_list)
    {
        struct js_pull *p = container_of(it, struct js_pull, link);
        if (p->leader == node_id) {
            set_due(js, p, now == 0 ? 1 : now);
        }
    }
}

void js_pull_mark_waiting(struct js *js, uint64_t node_id)
{
    LIST_FOR(it, &js->pulls_list)
    {
        const struct js_pull *p = container_of(it, struct js_pull, link);
        if (p->leader == node_id) {
            js_wait_set(js, p->gid, true);
        }
    }
}

void js_pull_tick(struct js *js)
{
    uint64_t now = loop_now_ms(js->loop);
    bool is_sweep = now - js->pulls_swept_ms >= SWEEP_MS;
    if (js->pulls_due == 0 && !is_sweep) {
        return;
    }
    js->pulls_swept_ms = is_sweep ? now : js->pulls_swept_ms;
    LIST_FOR_SAFE(it, tmp, &js->pulls_list)
    {
        struct js_pull *p = container_of(it, struct js_pull, link);
        struct slice inbox = slice_of(p->inbox, p->inbox_len);
        if (now >= p->until_ms || (is_sweep && !router_is_interest(js->ctx->router, inbox))) {
            pull_free(js, p);
        } else if (p->due_ms != 0 && now >= p->due_ms) {
            struct buf to = BUF_EMPTY; /* What follows may change the table. */
            buf_append_slice(&to, inbox);
            pull_free(js, p);
            router_send(js->ctx->router, buf_slice(&to), SLICE_EMPTY,
                        SLICE_LIT("NATS/1.0 409 Leadership Change\r\n\r\n"), SLICE_EMPTY);
            buf_close(&to);
        }
    }
}

void js_pull_close(struct js *js)
{
    LIST_FOR_SAFE(it, tmp, &js->pulls_list)
    {
        pull_free(js, container_of(it, struct js_pull, link));
    }
}
