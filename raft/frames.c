#include "raft/frames.h"

#include <assert.h>

#include "storage/base/err.h"

void frame_begin(struct buf *frame)
{
    buf_clear(frame);
    buf_append_u8(frame, FRAME_VERSION);
}

static void put3(struct buf *b, uint64_t x, uint64_t y, uint64_t z)
{
    buf_append_varint(b, x);
    buf_append_varint(b, y);
    buf_append_varint(b, z);
}

static void put_rest(struct buf *f, const struct frame_item *it)
{
    switch (it->kind) {
    case FRAME_ENTRIES:
        put3(f, it->term, it->index, it->index_term);
        buf_append_varint(f, it->commit);
        buf_append_varint(f, it->count);
        break;
    case FRAME_RESULT:
        put3(f, it->term, it->index, it->last_index);
        break;
    case FRAME_VOTE:
        put3(f, it->term, it->index, it->index_term);
        buf_append_u8(f, it->flags);
        break;
    case FRAME_VOTE_RESULT:
        buf_append_varint(f, it->term);
        buf_append_u8(f, it->flags);
        break;
    case FRAME_TIMEOUT_NOW:
        put3(f, it->term, it->index, it->index_term);
        break;
    case FRAME_PING:
    case FRAME_PONG:
        buf_append_varint(f, it->term);
        buf_append_varint(f, it->seq);
        break;
    case FRAME_OFFER:
        put3(f, it->seq, it->term, it->index);
        put3(f, it->index_term, it->conf_index, it->bytes.len);
        buf_append_slice(f, it->bytes);
        buf_append_varint(f, it->count);
        break;
    case FRAME_PULL:
        put3(f, it->seq, it->part, it->offset);
        buf_append_varint(f, it->length);
        break;
    case FRAME_CHUNK:
        put3(f, it->seq, it->part, it->offset);
        buf_append_u32(f, it->crc);
        buf_append_slice(f, it->bytes);
        break;
    case FRAME_NAK:
        buf_append_varint(f, it->seq);
        break;
    case FRAME_DONE:
        buf_append_varint(f, it->seq);
        buf_append_u8(f, it->flags);
        break;
    case FRAME_FRAGMENT:
        put3(f, it->seq, it->length, it->offset);
        buf_append_slice(f, it->bytes);
        break;
    case FRAME_TABLE:
        put3(f, it->term, it->index, it->index_term);
        buf_append_varint(f, it->commit);
        buf_append_u8(f, it->flags);
        break;
    }
}

size_t frame_put(struct buf *frame, const struct frame_item *item)
{
    size_t at = frame->len;
    buf_append_u8(frame, (uint8_t)item->kind);
    buf_append_u32(frame, 0);
    buf_append_varint(frame, item->gid);
    if (item->kind != FRAME_FRAGMENT) {
        buf_append_varint(frame, item->from);
    }
    if (item->kind != FRAME_FRAGMENT && item->kind != FRAME_TABLE) {
        buf_append_varint(frame, item->to);
    }
    put_rest(frame, item);
    frame_item_end(frame, at);
    return at;
}

void frame_item_end(struct buf *frame, size_t item_at)
{
    size_t len = frame->len - item_at - FRAME_ITEM_HEAD_BYTES;
    assert(len <= UINT32_MAX);
    for (unsigned i = 0; i < 4; i++) {
        frame->ptr[item_at + 1 + i] = (uint8_t)(len >> (8 * i));
    }
}

void frame_entry_head(struct buf *frame, uint64_t term, uint8_t type, uint64_t len)
{
    buf_append_varint(frame, term);
    buf_append_u8(frame, type);
    buf_append_varint(frame, len);
}

int frame_open(struct slice frame, struct reader *ret_reader)
{
    struct reader r = reader_of(frame);
    if (reader_u8(&r) != FRAME_VERSION || r.failed) {
        return ERR_PROTO;
    }
    *ret_reader = r;
    return 0;
}

/* A number that may be added to another without wrapping. */
static uint64_t number(struct reader *r)
{
    uint64_t v = reader_varint(r);
    if (v > FRAME_NUMBER_MAX) {
        r->failed = true;
    }
    return v;
}

static struct slice rest(struct reader *r)
{
    return reader_bytes(r, r->len);
}

static void get_offer(struct reader *r, struct frame_item *it)
{
    it->seq = reader_varint(r);
    it->term = number(r);
    it->index = number(r);
    it->index_term = number(r);
    it->conf_index = number(r);
    uint64_t conf_len = reader_varint(r);
    it->bytes = reader_bytes(r, conf_len);
    it->count = number(r);
    struct conf c;
    if (!r->failed &&
        (conf_decode(it->bytes, &c) != 0 || it->index == 0 || it->index_term == 0 ||
         it->index_term > it->term || it->conf_index > it->index || it->count > HOST_PARTS_MAX)) {
        r->failed = true;
    }
}

static void get_chunk_head(struct reader *r, struct frame_item *it)
{
    it->seq = reader_varint(r);
    it->part = number(r);
    it->offset = number(r);
    if (it->part > UINT32_MAX || it->offset > HOST_PART_BYTES_MAX) {
        r->failed = true;
    }
}

static void get_rest(struct reader *r, struct frame_item *it)
{
    switch (it->kind) {
    case FRAME_ENTRIES:
        it->term = number(r);
        it->index = number(r);
        it->index_term = number(r);
        it->commit = number(r);
        it->count = number(r);
        it->bytes = rest(r);
        /* The smallest entry has three bytes: a count cannot make us allocate more than came. */
        if (it->count > it->bytes.len / 3 || it->term == 0 || it->index_term > it->term ||
            (it->index == 0) != (it->index_term == 0)) {
            r->failed = true;
        }
        break;
    case FRAME_RESULT:
        it->term = number(r);
        it->index = number(r);
        it->last_index = number(r);
        break;
    case FRAME_VOTE:
        it->term = number(r);
        it->index = number(r);
        it->index_term = number(r);
        it->flags = reader_u8(r);
        if (it->term == 0 || it->index_term > it->term) {
            r->failed = true;
        }
        break;
    case FRAME_VOTE_RESULT:
        it->term = number(r);
        it->flags = reader_u8(r);
        break;
    case FRAME_TIMEOUT_NOW:
        it->term = number(r);
        it->index = number(r);
        it->index_term = number(r);
        break;
    case FRAME_PING:
    case FRAME_PONG:
        it->term = number(r);
        it->seq = reader_varint(r);
        break;
    case FRAME_OFFER:
        get_offer(r, it);
        break;
    case FRAME_PULL:
        get_chunk_head(r, it);
        it->length = number(r);
        break;
    case FRAME_CHUNK:
        get_chunk_head(r, it);
        it->crc = reader_u32(r);
        it->bytes = rest(r);
        break;
    case FRAME_NAK:
        it->seq = reader_varint(r);
        break;
    case FRAME_DONE:
        it->seq = reader_varint(r);
        it->flags = reader_u8(r);
        break;
    case FRAME_FRAGMENT:
        it->seq = reader_varint(r);
        it->length = number(r);
        it->offset = number(r);
        it->bytes = rest(r);
        if (it->bytes.len == 0 || it->offset > it->length ||
            it->bytes.len > it->length - it->offset) {
            r->failed = true;
        }
        break;
    case FRAME_TABLE:
        it->term = number(r);
        it->index = number(r);
        it->index_term = number(r);
        it->commit = number(r);
        it->flags = reader_u8(r);
        break;
    default:
        r->failed = true;
    }
}

int frame_next(struct reader *r, struct frame_item *ret_item)
{
    if (r->len == 0) {
        return r->failed ? ERR_PROTO : ERR_NOTFOUND;
    }
    struct frame_item it = {.kind = (enum frame_kind)reader_u8(r)};
    uint32_t len = reader_u32(r);
    struct reader body = reader_of(reader_bytes(r, len));
    if (r->failed) {
        return ERR_PROTO;
    }
    it.gid = reader_varint(&body);
    if (it.kind != FRAME_FRAGMENT) {
        it.from = reader_varint(&body);
    }
    if (it.kind != FRAME_FRAGMENT && it.kind != FRAME_TABLE) {
        it.to = reader_varint(&body);
    }
    get_rest(&body, &it);
    /* Bytes after a known body are those of a newer peer, which HELLO would have refused. */
    if (body.failed || body.len != 0 || it.gid == 0) {
        return ERR_PROTO;
    }
    *ret_item = it;
    return 0;
}

int frame_decode_item(struct slice item, struct frame_item *ret_item)
{
    struct reader r = reader_of(item);
    int rv = frame_next(&r, ret_item);
    if (rv != 0) {
        return ERR_PROTO;
    }
    return r.len == 0 && ret_item->kind != FRAME_FRAGMENT ? 0 : ERR_PROTO;
}

int frame_entry_next(struct frame_item *item, struct frame_entry *ret_entry)
{
    struct reader r = reader_of(item->bytes);
    if (item->count == 0) {
        return item->bytes.len == 0 ? ERR_NOTFOUND : ERR_PROTO;
    }
    struct frame_entry e;
    e.term = number(&r);
    e.type = reader_u8(&r);
    uint64_t len = number(&r);
    e.bytes = reader_bytes(&r, len);
    if (r.failed || e.term == 0 || e.term > item->term || e.type < 1 || e.type > 3) {
        return ERR_PROTO;
    }
    item->bytes = slice_of(r.ptr, r.len);
    item->count--;
    *ret_entry = e;
    return 0;
}
