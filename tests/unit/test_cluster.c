#include <criterion/criterion.h>

#include <stdlib.h>

#include "cluster/auth.h"
#include "cluster/node_options.h"
#include "cluster/peer_frame.h"
#include "cluster/peers.h"
#include "cluster/router.h"
#include "cluster/server_id.h"
#include "storage/base/err.h"

/* ---- router ---- */

struct seen {
    struct router *router;
    struct router_internal *sub;
    unsigned count;
    char last[64];
};

static void on_message(void *arg, const struct router_msg *msg, const struct router_origin *origin)
{
    (void)origin;
    struct seen *s = arg;
    s->count++;
    snprintf(s->last, sizeof s->last, "%.*s", SLICE_ARG(msg->payload));
}

static void on_message_leave(void *arg, const struct router_msg *msg,
                             const struct router_origin *origin)
{
    struct seen *s = arg;
    on_message(arg, msg, origin);
    router_unsubscribe_internal(s->sub);
}

static void on_message_again(void *arg, const struct router_msg *msg,
                             const struct router_origin *origin)
{
    struct seen *s = arg;
    on_message(arg, msg, origin);
    router_send(s->router, msg->subject, SLICE_EMPTY, SLICE_EMPTY, msg->payload);
}

static uint32_t send(struct router *r, const char *subject, const char *payload)
{
    return router_send(r, slice_str(subject), SLICE_EMPTY, SLICE_EMPTY, slice_str(payload));
}

Test(router, an_internal_subscriber_may_leave_from_its_own_callback)
{
    struct router *r = router_new(7);
    struct seen a = {.router = r}, b = {.router = r};
    router_subscribe_internal(r, SLICE_LIT("x.*"), SLICE_EMPTY, true, on_message_leave, &a, &a.sub);
    router_subscribe_internal(r, SLICE_LIT("x.>"), SLICE_EMPTY, false, on_message, &b, &b.sub);
    cr_assert_eq(send(r, "x.1", "one"), 2);
    cr_assert_eq(send(r, "x.1", "two"), 1);
    cr_assert_eq(a.count, 1);
    cr_assert_str_eq(b.last, "two");
    router_free(r);
}

Test(router, callbacks_that_publish_to_themselves_end)
{
    struct router *r = router_new(7);
    struct seen a = {.router = r};
    router_subscribe_internal(r, SLICE_LIT("loop"), SLICE_EMPTY, true, on_message_again, &a,
                              &a.sub);
    send(r, "loop", "x");
    cr_assert_eq(a.count, ROUTER_DEPTH_MAX);
    router_free(r);
}

Test(router, one_member_of_an_internal_queue_group_gets_a_message)
{
    struct router *r = router_new(7);
    struct seen a = {.router = r}, b = {.router = r};
    router_subscribe_internal(r, SLICE_LIT("q"), SLICE_LIT("g"), true, on_message, &a, &a.sub);
    router_subscribe_internal(r, SLICE_LIT("q"), SLICE_LIT("g"), true, on_message, &b, &b.sub);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(send(r, "q", "x"), 1);
    }
    cr_assert_eq(a.count + b.count, 100);
    cr_assert_gt(a.count, 10);
    cr_assert_gt(b.count, 10);
    router_free(r);
}

struct remote {
    struct router_remote remote;
    unsigned count;
    uint32_t queues;
};

static void on_remote(struct router_remote *remote, const struct router_msg *msg,
                      const struct slice *queues, uint32_t queues_count)
{
    (void)msg;
    (void)queues;
    struct remote *rm = container_of(remote, struct remote, remote);
    rm->count++;
    rm->queues = queues_count;
}

Test(router, a_peer_gets_a_message_once_and_never_one_from_a_peer)
{
    struct router *r = router_new(7);
    struct remote rm = {.remote = {.send = on_remote}};
    struct router_sub subs[3] = {0};
    router_subscribe_remote(r, &rm.remote, &subs[0], SLICE_LIT("a.*"), SLICE_EMPTY, 1);
    router_subscribe_remote(r, &rm.remote, &subs[1], SLICE_LIT("a.b"), SLICE_EMPTY, 1);
    router_subscribe_remote(r, &rm.remote, &subs[2], SLICE_LIT("a.>"), SLICE_LIT("g"), 3);
    cr_assert_gt(send(r, "a.b", "x"), 0);
    cr_assert_eq(rm.count, 1);
    cr_assert_eq(rm.queues, 1);
    struct router_msg msg = {.subject = SLICE_LIT("a.b"), .payload = SLICE_LIT("x")};
    struct router_origin from_peer = {.kind = ROUTER_FROM_PEER, .id = 9};
    cr_assert_eq(router_publish(r, &msg, &from_peer), 0);
    cr_assert_eq(rm.count, 1);
    for (int i = 0; i < 3; i++) {
        router_unsubscribe(r, &subs[i]);
    }
    router_remote_close(&rm.remote);
    router_free(r);
}

/* ---- frames ---- */

Test(peer_frame, a_hello_comes_back_as_it_was_and_every_cut_is_refused)
{
    struct peer_hello *h = calloc(1, sizeof *h), *got = calloc(1, sizeof *got);
    h->lane = PEERS_LANE_RAFT;
    h->incarnation = 77;
    h->boot_count = 3;
    h->server_name = SLICE_LIT("n1");
    h->cluster_url = SLICE_LIT(":6222");
    h->client_urls.items[h->client_urls.count++] = SLICE_LIT("10.0.0.1:4222");
    h->known.items[h->known.count++] = SLICE_LIT("10.0.0.2:6222");
    h->meta_version_max = 9;
    h->tags.items[h->tags.count++] = SLICE_LIT("ssd");
    struct buf out = BUF_EMPTY;
    peer_frame_hello(&out, h);
    cr_assert_eq(peer_frame_read_hello(buf_slice(&out), got), 0);
    cr_assert_eq(got->meta_version_max, 9);
    cr_assert_eq(got->tags.count, 1);
    cr_assert(slice_eq_str(got->tags.items[0], "ssd"));
    cr_assert_eq(got->incarnation, 77);
    cr_assert_eq(got->boot_count, 3);
    cr_assert(slice_eq_str(got->server_name, "n1"));
    cr_assert(slice_eq_str(got->known.items[0], "10.0.0.2:6222"));
    size_t older = sizeof h->meta_version_max + strlen("12ssd");
    for (size_t len = 0; len < out.len; len++) {
        uint8_t *copy = malloc(len + 1); /* So that a read past the end is seen. */
        memcpy(copy, out.ptr, len);
        bool is_older = len == out.len - older; /* Nodes of before sent no more than that. */
        cr_assert_eq(peer_frame_read_hello(slice_of(copy, len), got), is_older ? 0 : ERR_PROTO);
        cr_assert(!is_older || (got->meta_version_max == 1 && got->tags.count == 0));
        free(copy);
    }
    buf_close(&out);
    free(h);
    free(got);
}

Test(peer_frame, a_flipped_bit_anywhere_is_seen)
{
    struct buf out = BUF_EMPTY;
    size_t at = peer_frame_begin(&out, PEER_FRAME_RAFT);
    buf_append_str(&out, "some bytes of a frame");
    peer_frame_end(&out, at);
    uint32_t body = (uint32_t)(out.len - PEER_FRAME_HEAD_BYTES);
    cr_assert(peer_frame_is_intact(out.ptr, body));
    for (size_t bit = 0; bit < out.len * 8; bit++) {
        out.ptr[bit / 8] = (uint8_t)(out.ptr[bit / 8] ^ 1u << bit % 8);
        cr_assert_not(peer_frame_is_intact(out.ptr, body));
        out.ptr[bit / 8] = (uint8_t)(out.ptr[bit / 8] ^ 1u << bit % 8);
    }
    buf_close(&out);
}

Test(peer_frame, a_message_with_more_queues_than_allowed_is_refused)
{
    static struct slice queues[ROUTER_QUEUES_MAX];
    struct buf out = BUF_EMPTY;
    peer_frame_string(&out, SLICE_LIT("$G"));
    peer_frame_string(&out, SLICE_LIT("a"));
    peer_frame_string(&out, SLICE_EMPTY);
    buf_append_varint(&out, ROUTER_QUEUES_MAX + 1);
    for (int i = 0; i < ROUTER_QUEUES_MAX + 2; i++) {
        peer_frame_string(&out, SLICE_LIT("q"));
    }
    struct router_msg msg;
    uint32_t count;
    cr_assert_eq(peer_frame_read_msg(buf_slice(&out), &msg, queues, &count), ERR_PROTO);
    buf_close(&out);
}

/* They would go on a line to a client as they stand. */
Test(peer_frame, a_message_whose_subjects_are_no_words_is_refused)
{
    static const char *const bad[] = {"a b", "a\r\nPING", "a\tb", "\n"};
    struct slice queues[ROUTER_QUEUES_MAX];
    uint32_t count;
    for (size_t i = 0; i <= sizeof bad / sizeof bad[0]; i++) {
        for (int k = 0; k < 2; k++) {
            struct slice word = i == 0 ? SLICE_LIT("a.b") : slice_str(bad[i - 1]);
            struct router_msg msg = {.subject = k == 0 ? word : SLICE_LIT("s"),
                                     .reply = k == 1 ? word : SLICE_EMPTY};
            struct router_msg read = {0};
            struct buf out = BUF_EMPTY;
            peer_frame_msg(&out, &msg, queues, 0);
            cr_expect_eq(peer_frame_read_msg(buf_slice(&out), &read, queues, &count),
                         i == 0 ? 0 : ERR_PROTO);
            buf_close(&out);
        }
    }
    struct router_msg none = {.payload = SLICE_LIT("x")};
    struct router_msg read = {0};
    struct buf out = BUF_EMPTY;
    peer_frame_msg(&out, &none, queues, 0);
    cr_expect_eq(peer_frame_read_msg(buf_slice(&out), &read, queues, &count), ERR_PROTO);
    buf_close(&out);
}

/* ---- identifiers and authorization ---- */

Test(server_id, has_the_form_of_an_nkey)
{
    /* The prefix byte and then zeros, five bits a letter. */
    uint8_t key[32] = {0};
    char id[SERVER_ID_BYTES + 1];
    server_id_format(key, id);
    cr_assert_eq(strlen(id), 56);
    cr_assert_eq(strncmp(id, "NAAAAAAAAAAA", 12), 0);
    char peer[SERVER_ID_PEER_BYTES + 1];
    server_id_peer("n1", peer);
    cr_assert_eq(strlen(peer), 8);
}

Test(auth, wrong_secrets_are_refused_whatever_their_form)
{
    struct node_options o = {.user = (char *)"ann", .pass = (char *)"secret"};
    const char *hash, *secret;
    struct auth_credentials good = {"ann", "secret", NULL};
    struct auth_credentials bad[] = {
        {NULL, NULL, NULL}, {"ann", NULL, NULL}, {"ann", "secre", NULL}, {"", "secret", NULL}};
    cr_assert_eq(auth_check(&o, &good, &hash, &secret), AUTH_ACCEPTED);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_eq(auth_check(&o, &bad[i], &hash, &secret), AUTH_REFUSED);
    }
    o.pass = (char *)"$2a$04$abcdefghijklmnopqrstuu";
    cr_assert_eq(auth_check(&o, &good, &hash, &secret), AUTH_BCRYPT);
    cr_assert_not(auth_bcrypt(hash, secret));
}
