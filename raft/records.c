#include "raft/records.h"

#include "storage/base/err.h"

static uint64_t number(struct reader *r)
{
    uint64_t v = reader_varint(r);
    r->failed = r->failed || v > RECORD_NUMBER_MAX;
    return v;
}

static void read_base(struct reader *r, struct record_base *base)
{
    base->index = number(r);
    base->term = number(r);
    base->conf_index = number(r);
    uint64_t len = reader_varint(r);
    base->conf = reader_bytes(r, len);
    if ((base->index == 0) != (base->term == 0)) {
        r->failed = true;
    }
}

enum { FLAG_SUSPECT = 1, FLAG_NEWCOMER = 2, FLAG_DOUBTFUL = 4 };

static uint8_t flags_of(struct record_flags f)
{
    return (uint8_t)((f.is_suspect ? FLAG_SUSPECT : 0) | (f.is_newcomer ? FLAG_NEWCOMER : 0) |
                     (f.is_doubtful ? FLAG_DOUBTFUL : 0));
}

static void take_flags(struct record *rec, uint8_t flags)
{
    rec->flags = (struct record_flags){(flags & FLAG_SUSPECT) != 0, (flags & FLAG_NEWCOMER) != 0,
                                       (flags & FLAG_DOUBTFUL) != 0};
}

int record_decode(uint8_t type, struct slice payload, struct record *ret_record)
{
    struct reader r = reader_of(payload);
    struct record rec = {.type = (enum record_type)type};

    switch (type) {
    case RECORD_APPEND:
    case RECORD_CARRY:
    case RECORD_AGAIN:
        rec.index = number(&r);
        rec.term = number(&r);
        rec.count = reader_varint(&r);
        rec.entries = slice_of(r.ptr, r.len);
        /* The smallest entry has three bytes. */
        if (r.failed || rec.index == 0 || rec.count == 0 || rec.count > r.len / 3) {
            return ERR_CORRUPT;
        }
        *ret_record = rec;
        return 0;
    case RECORD_TRUNCATE:
        rec.index = number(&r);
        r.failed = r.failed || rec.index == 0;
        break;
    case RECORD_META:
        rec.term = number(&r);
        rec.voted_for = reader_varint(&r);
        break;
    case RECORD_BASE:
    case RECORD_IMAGE:
    case RECORD_RESET:
        read_base(&r, &rec.base);
        break;
    case RECORD_CREATE:
        rec.raft_id = reader_varint(&r);
        break;
    case RECORD_DELETE:
    case RECORD_BROKEN:
        break;
    case RECORD_CHECKPOINT:
        rec.raft_id = reader_varint(&r);
        rec.term = number(&r);
        rec.voted_for = reader_varint(&r);
        take_flags(&rec, reader_u8(&r));
        read_base(&r, &rec.base);
        break;
    case RECORD_SUSPECT:
        take_flags(&rec, reader_u8(&r));
        break;
    default:
        return ERR_UNSUPPORTED;
    }
    if (r.failed || r.len != 0) {
        return ERR_CORRUPT;
    }
    *ret_record = rec;
    return 0;
}

int record_entry_next(struct record *rec, struct record_entry *ret_entry)
{
    struct reader r = reader_of(rec->entries);
    if (rec->count == 0) {
        return rec->entries.len == 0 ? ERR_NOTFOUND : ERR_CORRUPT;
    }
    struct record_entry e;
    e.term = number(&r);
    e.type = reader_u8(&r);
    uint64_t len = reader_varint(&r);
    e.bytes = reader_bytes(&r, len);
    if (r.failed || e.type < RECORD_ENTRY_COMMAND || e.type > RECORD_ENTRY_CHANGE || e.term == 0) {
        return ERR_CORRUPT;
    }
    rec->entries = slice_of(r.ptr, r.len);
    rec->count--;
    *ret_entry = e;
    return 0;
}

void record_put_entries_head(struct buf *out, uint64_t first_index, uint64_t prev_term,
                             uint64_t count)
{
    buf_append_varint(out, first_index);
    buf_append_varint(out, prev_term);
    buf_append_varint(out, count);
}

void record_put_entry_head(struct buf *out, uint64_t term, uint8_t type, uint64_t len)
{
    buf_append_varint(out, term);
    buf_append_u8(out, type);
    buf_append_varint(out, len);
}

void record_put_truncate(struct buf *out, uint64_t from)
{
    buf_append_varint(out, from);
}

void record_put_meta(struct buf *out, uint64_t term, uint64_t voted_for)
{
    buf_append_varint(out, term);
    buf_append_varint(out, voted_for);
}

void record_put_base(struct buf *out, const struct record_base *base)
{
    buf_append_varint(out, base->index);
    buf_append_varint(out, base->term);
    buf_append_varint(out, base->conf_index);
    buf_append_varint(out, base->conf.len);
    buf_append_slice(out, base->conf);
}

void record_put_create(struct buf *out, uint64_t raft_id)
{
    buf_append_varint(out, raft_id);
}

void record_put_checkpoint(struct buf *out, uint64_t raft_id, uint64_t term, uint64_t voted_for,
                           struct record_flags flags, const struct record_base *base)
{
    buf_append_varint(out, raft_id);
    buf_append_varint(out, term);
    buf_append_varint(out, voted_for);
    buf_append_u8(out, flags_of(flags));
    record_put_base(out, base);
}

void record_put_suspect(struct buf *out, struct record_flags flags)
{
    buf_append_u8(out, flags_of(flags));
}
