/* Interest and core messages on the client lane. What this node's subscribers want goes out in the
 * order it changes, on the same connection as the messages published after it. A new connection
 * begins with all of it; what the peer wanted before is forgotten then. */
#include <stdlib.h>

#include "broker/entry.h"
#include "cluster/peers_internal.h"
#include "storage/base/err.h"

static void send_interest(struct peer *peer, struct slice subject, struct slice queue,
                          uint32_t weight)
{
    struct peer_conn *c = peer->lanes[PEERS_LANE_CLIENT];
    struct buf *out = peer_conn_out(c);
    size_t at = peer_frame_begin(out, PEER_FRAME_INTEREST);
    peer_frame_string(out, SLICE_LIT("$G"));
    peer_frame_string(out, subject);
    peer_frame_string(out, queue);
    buf_append_varint(out, weight);
    peer_frame_end(out, at);
    peer_conn_out_done(c);
}

static void on_local_interest(void *ctx, struct slice subject, struct slice queue,
                              uint32_t local_count)
{
    struct peers *p = ctx;
    struct peer *peer, *tmp;
    HASH_ITER(hh, p->table, peer, tmp)
    {
        if (peer->lanes[PEERS_LANE_CLIENT] != NULL) {
            send_interest(peer, subject, queue, local_count);
        }
    }
}

static void on_each_local(void *ctx, struct slice subject, struct slice queue, uint32_t local_count)
{
    send_interest(ctx, subject, queue, local_count);
}

/* A core message for a peer. Beyond the bound it is dropped: nobody was promised it. */
static void on_send(struct router_remote *remote, const struct router_msg *msg,
                    const struct slice *queues, uint32_t queues_count)
{
    struct peer *peer = container_of(remote, struct peer, remote);
    struct peers *p = peer->peers;
    struct peer_conn *c = peer->lanes[PEERS_LANE_CLIENT];
    if (c == NULL || peer_conn_queued(c) > PEERS_CLIENT_QUEUE_MAX) {
        p->stats.dropped_msgs++;
        return;
    }
    struct buf *out = peer_conn_out(c);
    /* Older builds cannot show another subject than the one a message is for. */
    bool is_shown =
        msg->shown.len > 0 && peer->info.machine_version_max >= ENTRY_MACHINE_VERSION_PUSH;
    size_t at = peer_frame_begin(out, is_shown ? PEER_FRAME_DELIVER : PEER_FRAME_MSG);
    if (is_shown) {
        peer_frame_string(out, msg->shown);
    }
    peer_frame_msg(out, msg, queues, queues_count);
    peer_frame_end(out, at);
    size_t bytes = msg->header.len + msg->payload.len;
    c->out_msgs++;
    c->out_bytes += bytes;
    p->stats.out_msgs++;
    p->stats.out_bytes += bytes;
    peer_conn_out_done(c);
}

void peers_interest_start(struct peers *p)
{
    router_set_interest_cb(p->ctx->router, on_local_interest, p);
}

void peers_interest_new_peer(struct peer *peer)
{
    peers_interest_forget(peer);
    peer->remote.send = on_send;
    router_each_local(peer->peers->ctx->router, on_each_local, peer);
}

static void sub_free(struct peer *peer, struct peer_sub *sub)
{
    router_unsubscribe(peer->peers->ctx->router, &sub->sub);
    HASH_DEL(peer->subs, sub);
    peer->subs_count--;
    free(sub);
}

void peers_interest_forget(struct peer *peer)
{
    struct peer_sub *sub, *tmp;
    HASH_ITER(hh, peer->subs, sub, tmp)
    {
        sub_free(peer, sub);
    }
}

int peers_interest_frame(struct peer *peer, struct slice body)
{
    struct reader r = reader_of(body);
    peer_frame_read_string(&r); /* The account: there is one. */
    struct slice subject = peer_frame_read_string(&r);
    struct slice queue = peer_frame_read_string(&r);
    uint64_t weight = reader_varint(&r);
    if (r.failed || weight > UINT32_MAX) {
        return ERR_PROTO;
    }
    struct buf key = BUF_EMPTY;
    peer_frame_string(&key, queue);
    buf_append_slice(&key, subject);
    struct peer_sub *sub;
    HASH_FIND(hh, peer->subs, key.ptr, key.len, sub);
    int rv = 0;
    if (sub != NULL && weight == 0) {
        sub_free(peer, sub);
    } else if (sub != NULL) {
        sub->sub.interest.weight = (uint32_t)weight;
    } else if (weight > 0 && peer->subs_count < PEERS_SUBS_MAX) {
        sub = xcalloc(1, sizeof *sub + key.len);
        sub->key_len = (uint32_t)key.len;
        memcpy(sub->key, key.ptr, key.len);
        rv = router_subscribe_remote(peer->peers->ctx->router, &peer->remote, &sub->sub, subject,
                                     queue, (uint32_t)weight);
        if (rv == 0) {
            HASH_ADD_KEYPTR(hh, peer->subs, sub->key, sub->key_len, sub);
            peer->subs_count++;
        } else {
            free(sub);
        }
    }
    buf_close(&key);
    return rv == 0 ? 0 : ERR_PROTO;
}

int peers_msg_frame(struct peer_conn *c, uint8_t type, struct slice body)
{
    struct peers *p = c->peers;
    struct router_msg msg = {0};
    uint32_t queues_count;
    int rv = type == PEER_FRAME_DELIVER
                 ? peer_frame_read_deliver(body, &msg, p->queues, &queues_count)
                 : peer_frame_read_msg(body, &msg, p->queues, &queues_count);
    if (rv != 0) {
        return rv;
    }
    size_t bytes = msg.header.len + msg.payload.len;
    c->in_msgs++;
    c->in_bytes += bytes;
    p->stats.in_msgs++;
    p->stats.in_bytes += bytes;
    struct router_origin origin = {
        .kind = ROUTER_FROM_PEER,
        .id = c->peer->node_id,
        .queues = p->queues,
        .queues_count = queues_count,
    };
    router_publish(p->ctx->router, &msg, &origin);
    return 0;
}
