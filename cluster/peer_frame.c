#include "cluster/peer_frame.h"

#include <assert.h>

#include "broker/subject.h"
#include "cluster/peers.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"

#define ACCOUNT SLICE_LIT("$G")

size_t peer_frame_begin(struct buf *out, uint8_t type)
{
    size_t at = out->len;
    buf_append_u32(out, 0);
    buf_append_u8(out, type);
    buf_append_u8(out, 0);
    buf_append_u16(out, PEER_FRAME_VERSION);
    buf_append_u32(out, 0);
    return at;
}

static void put_u32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(v >> (8 * i));
    }
}

static uint32_t frame_crc(const uint8_t *ptr, uint32_t body_bytes)
{
    return crc32c(crc32c(0, ptr, 8), ptr + PEER_FRAME_HEAD_BYTES, body_bytes);
}

void peer_frame_end(struct buf *out, size_t at)
{
    size_t body = out->len - at - PEER_FRAME_HEAD_BYTES;
    assert(body <= UINT32_MAX);
    put_u32(out->ptr + at, (uint32_t)body);
    put_u32(out->ptr + at + 8, frame_crc(out->ptr + at, (uint32_t)body));
}

struct peer_frame_head peer_frame_head(const uint8_t *ptr)
{
    struct reader r = reader_of(slice_of(ptr, PEER_FRAME_HEAD_BYTES));
    struct peer_frame_head head;
    head.body_bytes = reader_u32(&r);
    head.type = reader_u8(&r);
    head.flags = reader_u8(&r);
    head.version = reader_u16(&r);
    head.crc = reader_u32(&r);
    return head;
}

bool peer_frame_is_intact(const uint8_t *ptr, uint32_t body_bytes)
{
    return peer_frame_head(ptr).crc == frame_crc(ptr, body_bytes);
}

void peer_frame_string(struct buf *out, struct slice s)
{
    buf_append_varint(out, s.len);
    buf_append_slice(out, s);
}

struct slice peer_frame_read_string(struct reader *r)
{
    uint64_t len = reader_varint(r);
    if (len > r->len) {
        r->failed = true;
        return SLICE_EMPTY;
    }
    return reader_bytes(r, (size_t)len);
}

static void put_list(struct buf *out, const struct peer_list *list)
{
    buf_append_varint(out, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        peer_frame_string(out, list->items[i]);
    }
}

static void read_list(struct reader *r, struct peer_list *list)
{
    uint64_t count = reader_varint(r);
    list->count = 0;
    if (count > PEER_FRAME_LIST_MAX) {
        r->failed = true;
        return;
    }
    for (uint64_t i = 0; i < count && !r->failed; i++) {
        list->items[list->count++] = peer_frame_read_string(r);
    }
}

static void read_uuid(struct reader *r, uint8_t uuid[16])
{
    struct slice s = reader_bytes(r, 16);
    if (s.len == 16) {
        memcpy(uuid, s.ptr, 16);
    }
}

void peer_frame_hello(struct buf *out, const struct peer_hello *h)
{
    buf_append_u8(out, h->lane);
    buf_append_u8(out, h->is_jetstream);
    buf_append(out, h->uuid, 16);
    buf_append(out, h->cluster_uuid, 16);
    buf_append_u64(out, h->incarnation);
    buf_append_u64(out, h->boot_count);
    buf_append_u64(out, h->start_lsn);
    buf_append_u16(out, h->machine_version_max);
    peer_frame_string(out, h->cluster_name);
    peer_frame_string(out, h->server_name);
    peer_frame_string(out, h->server_id);
    peer_frame_string(out, h->version);
    peer_frame_string(out, h->cluster_url);
    put_list(out, &h->client_urls);
    put_list(out, &h->routes);
    put_list(out, &h->known);
    buf_append_u16(out, h->meta_version_max);
    put_list(out, &h->tags);
}

int peer_frame_read_hello(struct slice body, struct peer_hello *h)
{
    struct reader r = reader_of(body);
    memset(h, 0, offsetof(struct peer_hello, cluster_name));
    h->lane = reader_u8(&r);
    h->is_jetstream = reader_u8(&r) != 0;
    read_uuid(&r, h->uuid);
    read_uuid(&r, h->cluster_uuid);
    h->incarnation = reader_u64(&r);
    h->boot_count = reader_u64(&r);
    h->start_lsn = reader_u64(&r);
    h->machine_version_max = reader_u16(&r);
    h->cluster_name = peer_frame_read_string(&r);
    h->server_name = peer_frame_read_string(&r);
    h->server_id = peer_frame_read_string(&r);
    h->version = peer_frame_read_string(&r);
    h->cluster_url = peer_frame_read_string(&r);
    read_list(&r, &h->client_urls);
    read_list(&r, &h->routes);
    read_list(&r, &h->known);
    h->meta_version_max = 1;
    h->tags.count = 0;
    if (r.len > 0) {
        h->meta_version_max = reader_u16(&r);
        read_list(&r, &h->tags);
    }
    return r.failed || h->lane >= PEERS_LANE_COUNT ? ERR_PROTO : 0;
}

void peer_frame_update(struct buf *out, const struct peer_update *u)
{
    buf_append(out, u->cluster_uuid, 16);
    put_list(out, &u->client_urls);
    put_list(out, &u->tags);
}

int peer_frame_read_update(struct slice body, struct peer_update *u)
{
    struct reader r = reader_of(body);
    read_uuid(&r, u->cluster_uuid);
    read_list(&r, &u->client_urls);
    u->tags.count = 0;
    if (r.len > 0) {
        read_list(&r, &u->tags);
    }
    return r.failed ? ERR_PROTO : 0;
}

void peer_frame_heartbeat(struct buf *out, const struct peer_heartbeat *h)
{
    buf_append_u64(out, h->turns);
    buf_append_u64(out, (uint64_t)h->clock_ns);
    buf_append_u64(out, h->durable_lsn);
    buf_append_u64(out, h->sync_us);
    buf_append_u8(out, h->flags);
}

int peer_frame_read_heartbeat(struct slice body, struct peer_heartbeat *h)
{
    struct reader r = reader_of(body);
    h->turns = reader_u64(&r);
    h->clock_ns = (int64_t)reader_u64(&r);
    h->durable_lsn = reader_u64(&r);
    h->sync_us = reader_u64(&r);
    h->flags = reader_u8(&r);
    return r.failed || h->clock_ns < 0 ? ERR_PROTO : 0;
}

void peer_frame_msg(struct buf *out, const struct router_msg *msg, const struct slice *queues,
                    uint32_t queues_count)
{
    peer_frame_string(out, ACCOUNT);
    peer_frame_string(out, msg->subject);
    peer_frame_string(out, msg->reply);
    buf_append_varint(out, queues_count);
    for (uint32_t i = 0; i < queues_count; i++) {
        peer_frame_string(out, queues[i]);
    }
    peer_frame_string(out, msg->header);
    buf_append_slice(out, msg->payload);
}

int peer_frame_read_msg(struct slice body, struct router_msg *msg, struct slice *queues,
                        uint32_t *ret_queues_count)
{
    struct reader r = reader_of(body);
    struct slice account = peer_frame_read_string(&r);
    msg->subject = peer_frame_read_string(&r);
    msg->reply = peer_frame_read_string(&r);
    uint64_t count = reader_varint(&r);
    if (count > ROUTER_QUEUES_MAX) {
        return ERR_PROTO;
    }
    for (uint64_t i = 0; i < count && !r.failed; i++) {
        queues[i] = peer_frame_read_string(&r);
    }
    msg->header = peer_frame_read_string(&r);
    /* They go to clients as words on a line. */
    if (r.failed || !slice_eq(account, ACCOUNT) || !subject_is_word(msg->subject) ||
        (msg->reply.len > 0 && !subject_is_word(msg->reply))) {
        return ERR_PROTO;
    }
    msg->payload = slice_of(r.ptr, r.len);
    *ret_queues_count = (uint32_t)count;
    return 0;
}

int peer_frame_read_deliver(struct slice body, struct router_msg *msg, struct slice *queues,
                            uint32_t *ret_queues_count)
{
    struct reader r = reader_of(body);
    struct slice shown = peer_frame_read_string(&r);
    if (r.failed || !subject_is_word(shown)) {
        return ERR_PROTO;
    }
    int rv = peer_frame_read_msg(slice_of(r.ptr, r.len), msg, queues, ret_queues_count);
    if (rv == 0) {
        msg->shown = shown;
    }
    return rv;
}
