#include "broker/entry.h"

#include <assert.h>
#include <msgpack.h>

#include "storage/base/err.h"

/* ---- Encoding ---- */

/* Counts are patched when a run or the entry ends, so they have the fixed width of array 32. */
#define ARRAY32 0xddu
#define INT64 0xd3u
#define COUNT_BYTES 5u
#define TIME_AT_MAX 16u

static int write_cb(void *arg, const char *ptr, size_t len)
{
    buf_append(arg, ptr, len);
    return 0;
}

static msgpack_packer packer_of(struct entry_builder *b)
{
    return (msgpack_packer){&b->bytes, write_cb};
}

static void put_be(uint8_t *at, uint64_t v, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        at[i] = (uint8_t)(v >> (8 * (width - 1 - i)));
    }
}

static size_t open_array32(struct entry_builder *b)
{
    size_t at = b->bytes.len;
    uint8_t header[COUNT_BYTES] = {ARRAY32, 0, 0, 0, 0};
    buf_append(&b->bytes, header, sizeof header);
    return at;
}

static void put_u64(struct entry_builder *b, uint64_t v)
{
    msgpack_packer pk = packer_of(b);
    msgpack_pack_uint64(&pk, v);
}

static void put_str(struct entry_builder *b, struct slice s)
{
    msgpack_packer pk = packer_of(b);
    msgpack_pack_str(&pk, s.len);
    buf_append_slice(&b->bytes, s);
}

static void put_bin(struct entry_builder *b, struct slice s)
{
    msgpack_packer pk = packer_of(b);
    msgpack_pack_bin(&pk, s.len);
    buf_append_slice(&b->bytes, s);
}

static void put_bin_or_nil(struct entry_builder *b, struct slice s)
{
    if (s.len > 0) {
        put_bin(b, s);
    } else {
        buf_append_u8(&b->bytes, 0xc0);
    }
}

static void put_array(struct entry_builder *b, size_t count)
{
    msgpack_packer pk = packer_of(b);
    msgpack_pack_array(&pk, count);
}

static void end_run(struct entry_builder *b)
{
    if (b->run_at != 0) {
        put_be(b->bytes.ptr + b->run_at + 1, b->run_count, 4);
        b->run_at = 0;
    }
}

static void begin_op(struct entry_builder *b, enum op_type type, size_t fields_count)
{
    end_run(b);
    b->ops_count++;
    put_array(b, fields_count + 1);
    put_u64(b, (uint64_t)type);
}

/* Offset of the time and of the count of ops: format and version are fixed in width too. */
enum { AT_VERSION = 2, AT_TIME = AT_VERSION + 5, AT_OPS = AT_TIME + 9, AT_FIRST = AT_OPS + 5 };

void entry_begin(struct entry_builder *b, uint32_t machine_version)
{
    buf_clear(&b->bytes);
    b->ops_count = 0;
    b->run_at = 0;
    uint8_t header[AT_FIRST] = {0x94, ENTRY_FORMAT, 0xce};
    header[AT_TIME] = INT64;
    header[AT_OPS] = ARRAY32;
    put_be(header + AT_VERSION + 1, machine_version, 4);
    buf_append(&b->bytes, header, sizeof header);
}

void entry_close(struct entry_builder *b)
{
    buf_close(&b->bytes);
    *b = ENTRY_BUILDER_EMPTY;
}

struct slice entry_end(struct entry_builder *b, int64_t time_ns)
{
    end_run(b);
    put_be(b->bytes.ptr + AT_TIME + 1, (uint64_t)time_ns, 8);
    put_be(b->bytes.ptr + AT_OPS + 1, b->ops_count, 4);
    return buf_slice(&b->bytes);
}

static void put_options(struct entry_builder *b, const struct publish_message *m)
{
    msgpack_packer pk = packer_of(b);
    msgpack_pack_map(&pk, (size_t)__builtin_popcount(m->options));
    for (unsigned option = 1; option < 32; option++) {
        if ((m->options & PUBLISH_HAS(option)) == 0) {
            continue;
        }
        put_u64(b, option);
        switch ((enum publish_option)option) {
        case PUBLISH_MSG_ID:
            put_str(b, m->msg_id);
            break;
        case PUBLISH_EXPECT_STREAM:
            put_str(b, m->expect_stream);
            break;
        case PUBLISH_EXPECT_LAST_SEQ:
            put_u64(b, m->expect_last_seq);
            break;
        case PUBLISH_EXPECT_LAST_SUBJECT_SEQ:
            put_u64(b, m->expect_last_subject_seq);
            break;
        case PUBLISH_EXPECT_SUBJECT:
            put_str(b, m->expect_subject);
            break;
        case PUBLISH_EXPECT_LAST_MSG_ID:
            put_str(b, m->expect_last_msg_id);
            break;
        case PUBLISH_ROLLUP:
            put_u64(b, (uint64_t)m->rollup);
            break;
        case PUBLISH_TTL:
        case PUBLISH_INCR:
        case PUBLISH_SCHEDULE:
        case PUBLISH_SOURCE:
        default:
            assert(!"reserved option");
        }
    }
}

void entry_publish(struct entry_builder *b, uint64_t node, uint64_t origin, uint64_t n,
                   const struct publish_message *m)
{
    bool is_joined = b->run_at != 0 && b->run_type == OP_PUBLISH && b->run_node == node &&
                     b->run_origin == origin && (origin == 0 || b->run_next_n == n);
    if (!is_joined) {
        begin_op(b, OP_PUBLISH, 4);
        put_u64(b, node);
        put_u64(b, origin);
        put_u64(b, n);
        b->run_at = open_array32(b);
        b->run_count = 0;
        b->run_type = OP_PUBLISH;
        b->run_node = node;
        b->run_origin = origin;
    }
    b->run_count++;
    b->run_next_n = n + 1;
    if (m->refused_code != 0) {
        put_array(b, 2);
        put_u64(b, (uint64_t)m->refused_code);
        put_str(b, m->refused_text);
        return;
    }
    put_array(b, m->options != 0 ? 4 : 3);
    put_str(b, m->subject);
    put_bin_or_nil(b, m->header);
    put_bin(b, m->payload);
    if (m->options != 0) {
        put_options(b, m);
    }
}

void entry_progress(struct entry_builder *b, uint64_t consumer, const struct progress_item *item)
{
    if (b->run_at == 0 || b->run_type != OP_CONSUMER_PROGRESS || b->run_node != consumer) {
        begin_op(b, OP_CONSUMER_PROGRESS, 2);
        put_u64(b, consumer);
        b->run_at = open_array32(b);
        b->run_count = 0;
        b->run_type = OP_CONSUMER_PROGRESS;
        b->run_node = consumer;
    }
    b->run_count++;
    msgpack_packer pk = packer_of(b);
    put_array(b, 7);
    put_u64(b, item->kind);
    put_u64(b, item->seq);
    put_u64(b, item->count);
    put_u64(b, item->consumer_seq);
    msgpack_pack_int64(&pk, item->delay_ns);
    put_u64(b, item->node);
    put_bin_or_nil(b, item->text);
}

void entry_lead(struct entry_builder *b, uint64_t node, uint32_t version_max)
{
    begin_op(b, OP_LEAD, 2);
    put_u64(b, node);
    put_u64(b, version_max);
}

void entry_consumer_set(struct entry_builder *b, uint64_t request, struct slice name,
                        struct slice config)
{
    begin_op(b, OP_CONSUMER_SET, 3);
    put_u64(b, request);
    put_str(b, name);
    put_bin(b, config);
}

void entry_consumer_delete(struct entry_builder *b, uint64_t request, struct slice name)
{
    begin_op(b, OP_CONSUMER_DELETE, 2);
    put_u64(b, request);
    put_str(b, name);
}

void entry_purge(struct entry_builder *b, uint64_t request, struct slice filter, uint64_t seq,
                 uint64_t keep)
{
    begin_op(b, OP_PURGE, 4);
    put_u64(b, request);
    put_bin_or_nil(b, filter);
    put_u64(b, seq);
    put_u64(b, keep);
}

void entry_delete_msg(struct entry_builder *b, uint64_t request, uint64_t seq)
{
    begin_op(b, OP_DELETE_MSG, 2);
    put_u64(b, request);
    put_u64(b, seq);
}

void entry_config(struct entry_builder *b, uint64_t request, struct slice config, uint64_t version)
{
    begin_op(b, OP_CONFIG, version == 0 ? 2 : 3);
    put_u64(b, request);
    put_bin(b, config);
    if (version != 0) {
        put_u64(b, version);
    }
}

void entry_seal(struct entry_builder *b, uint64_t request)
{
    begin_op(b, OP_SEAL, 1);
    put_u64(b, request);
}

void entry_job_step(struct entry_builder *b)
{
    begin_op(b, OP_JOB_STEP, 0);
}

void entry_clock(struct entry_builder *b)
{
    begin_op(b, OP_CLOCK, 0);
}

void entry_digest(struct entry_builder *b)
{
    begin_op(b, OP_DIGEST, 0);
}

void entry_version(struct entry_builder *b, uint32_t version)
{
    begin_op(b, OP_VERSION, 1);
    put_u64(b, version);
}

void entry_rebase_time(struct entry_builder *b, int64_t time_ns)
{
    begin_op(b, OP_REBASE_TIME, 1);
    msgpack_packer pk = packer_of(b);
    msgpack_pack_int64(&pk, time_ns);
}

void entry_time_unsure(struct entry_builder *b, int64_t lag_ns)
{
    begin_op(b, OP_TIME_UNSURE, 1);
    put_u64(b, (uint64_t)lag_ns);
}

void entry_time_sure(struct entry_builder *b, int64_t shift_ns)
{
    begin_op(b, OP_TIME_SURE, 1);
    put_u64(b, (uint64_t)shift_ns);
}

/* ---- Decoding: a bounded cursor over the few msgpack types that occur ---- */

static uint64_t get_be(struct reader *r, size_t width)
{
    struct slice s = reader_bytes(r, width);
    uint64_t v = 0;
    for (size_t i = 0; i < s.len; i++) {
        v = v << 8 | s.ptr[i];
    }
    return v;
}

static uint64_t get_u64(struct reader *r)
{
    uint8_t tag = reader_u8(r);
    if (tag <= 0x7f) {
        return tag;
    }
    if (tag >= 0xcc && tag <= 0xcf) {
        return get_be(r, (size_t)1 << (tag - 0xcc));
    }
    r->failed = true;
    return 0;
}

static int64_t get_i64(struct reader *r)
{
    if (r->failed || r->len == 0) {
        r->failed = true;
        return 0;
    }
    uint8_t tag = *r->ptr;
    if (tag >= 0xe0) {
        return (int8_t)reader_u8(r);
    }
    switch (tag) {
    case 0xd0:
        reader_u8(r);
        return (int8_t)get_be(r, 1);
    case 0xd1:
        reader_u8(r);
        return (int16_t)get_be(r, 2);
    case 0xd2:
        reader_u8(r);
        return (int32_t)get_be(r, 4);
    case INT64:
        reader_u8(r);
        return (int64_t)get_be(r, 8);
    default:;
        uint64_t v = get_u64(r);
        if (v > INT64_MAX) {
            r->failed = true;
            return 0;
        }
        return (int64_t)v;
    }
}

/* str, bin or nil. */
static struct slice get_bytes(struct reader *r)
{
    uint8_t tag = reader_u8(r);
    size_t len;
    if ((tag & 0xe0) == 0xa0) {
        len = tag & 0x1f;
    } else if (tag >= 0xc4 && tag <= 0xc6) {
        len = (size_t)get_be(r, (size_t)1 << (tag - 0xc4));
    } else if (tag >= 0xd9 && tag <= 0xdb) {
        len = (size_t)get_be(r, (size_t)1 << (tag - 0xd9));
    } else {
        r->failed = r->failed || tag != 0xc0;
        return SLICE_EMPTY;
    }
    return reader_bytes(r, len);
}

static uint32_t get_array(struct reader *r)
{
    uint8_t tag = reader_u8(r);
    if ((tag & 0xf0) == 0x90) {
        return tag & 0x0f;
    }
    if (tag == 0xdc || tag == ARRAY32) {
        return (uint32_t)get_be(r, tag == 0xdc ? 2 : 4);
    }
    r->failed = true;
    return 0;
}

static uint32_t get_map(struct reader *r)
{
    uint8_t tag = reader_u8(r);
    if ((tag & 0xf0) == 0x80) {
        return tag & 0x0f;
    }
    r->failed = true; /* No message has more than 15 options. */
    return 0;
}

static bool is_text_sound(struct slice s)
{
    return s.len == 0 || memchr(s.ptr, 0, s.len) == NULL;
}

/* 0, ERR_INVALID or ERR_UNSUPPORTED. */
static int get_options(struct reader *r, struct publish_message *m)
{
    uint32_t count = get_map(r);
    for (uint32_t i = 0; i < count && !r->failed; i++) {
        uint64_t option = get_u64(r);
        switch (option) {
        case PUBLISH_MSG_ID:
            m->msg_id = get_bytes(r);
            break;
        case PUBLISH_EXPECT_STREAM:
            m->expect_stream = get_bytes(r);
            break;
        case PUBLISH_EXPECT_LAST_SEQ:
            m->expect_last_seq = get_u64(r);
            break;
        case PUBLISH_EXPECT_LAST_SUBJECT_SEQ:
            m->expect_last_subject_seq = get_u64(r);
            break;
        case PUBLISH_EXPECT_SUBJECT:
            m->expect_subject = get_bytes(r);
            break;
        case PUBLISH_EXPECT_LAST_MSG_ID:
            m->expect_last_msg_id = get_bytes(r);
            break;
        case PUBLISH_ROLLUP: {
            uint64_t rollup = get_u64(r);
            if (rollup != ROLLUP_SUBJECT && rollup != ROLLUP_ALL) {
                return r->failed ? ERR_INVALID : ERR_UNSUPPORTED;
            }
            m->rollup = (enum publish_rollup)rollup;
            break;
        }
        default:
            return r->failed ? ERR_INVALID : ERR_UNSUPPORTED;
        }
        m->options |= PUBLISH_HAS(option);
    }
    return r->failed ? ERR_INVALID : 0;
}

/* The message nearly all are: a subject of less than 32 bytes, no header, a payload of less than
 * 256, no options. Where it is anything else @r is as before: the long way decides. */
static inline bool get_plain_message(struct reader *r, struct slice *ret_subject,
                                     struct slice *ret_payload)
{
    const uint8_t *p = r->ptr;
    if (r->failed || r->len < 2 || p[0] != 0x93 || (p[1] & 0xe0) != 0xa0) {
        return false;
    }
    size_t subject_len = p[1] & 0x1f;
    size_t at = 2 + subject_len;
    if (subject_len == 0 || r->len < at + 3 || p[at] != 0xc0 || p[at + 1] != 0xc4) {
        return false;
    }
    size_t payload_len = p[at + 2];
    at += 3;
    if (r->len < at + payload_len) {
        return false;
    }
    *ret_subject = slice_of(p + 2, subject_len);
    *ret_payload = slice_of(p + at, payload_len);
    r->ptr += at + payload_len;
    r->len -= at + payload_len;
    return true;
}

static int get_message(struct reader *r, struct publish_message *m)
{
    *m = (struct publish_message){0};
    if (get_plain_message(r, &m->subject, &m->payload)) {
        return 0;
    }
    uint32_t fields = get_array(r);
    if (fields == 2) {
        uint64_t code = get_u64(r);
        m->refused_text = get_bytes(r);
        if (code == 0 || code > 65535) {
            return ERR_INVALID;
        }
        m->refused_code = (int)code;
        return r->failed ? ERR_INVALID : 0;
    }
    if (fields != 3 && fields != 4) {
        return ERR_INVALID;
    }
    m->subject = get_bytes(r);
    m->header = get_bytes(r);
    m->payload = get_bytes(r);
    if (r->failed || m->subject.len == 0 || m->subject.len > UINT16_MAX ||
        m->header.len > (1u << 24) - 1 || m->payload.len > (1u << 27)) {
        return ERR_INVALID;
    }
    return fields == 4 ? get_options(r, m) : 0;
}

static int get_item(struct reader *r, struct progress_item *item)
{
    if (get_array(r) != 7) {
        return ERR_INVALID;
    }
    uint64_t kind = get_u64(r);
    item->kind = (uint32_t)kind;
    item->seq = get_u64(r);
    item->count = get_u64(r);
    item->consumer_seq = get_u64(r);
    item->delay_ns = get_i64(r);
    item->node = get_u64(r);
    item->text = get_bytes(r);
    /* A run may not wrap around the sequences. */
    if (kind > UINT32_MAX || item->count == 0 || item->seq > UINT64_MAX - item->count ||
        item->consumer_seq > UINT64_MAX - item->count) {
        return ERR_INVALID;
    }
    return r->failed ? ERR_INVALID : 0;
}

/* Check the elements of a run and leave a cursor at its first. */
static int get_publish(struct reader *r, struct op_publish *p)
{
    p->node = get_u64(r);
    p->origin = get_u64(r);
    p->first_n = get_u64(r);
    p->count = get_array(r);
    if (r->failed || (p->origin != 0 && p->first_n == 0) || p->first_n > UINT64_MAX - p->count) {
        return ERR_INVALID;
    }
    p->messages = *r;
    for (uint32_t i = 0; i < p->count; i++) {
        struct publish_message m;
        int rv = get_plain_message(r, &m.subject, &m.payload) ? 0 : get_message(r, &m);
        if (rv != 0) {
            return rv;
        }
    }
    p->messages.len -= r->len;
    return 0;
}

static int get_progress(struct reader *r, struct op_progress *p)
{
    p->consumer = get_u64(r);
    p->count = get_array(r);
    if (r->failed) {
        return ERR_INVALID;
    }
    p->items = *r;
    for (uint32_t i = 0; i < p->count; i++) {
        struct progress_item item;
        int rv = get_item(r, &item);
        if (rv != 0) {
            return rv;
        }
    }
    p->items.len -= r->len;
    return 0;
}

bool entry_next_message(struct op_publish *p, struct publish_message *ret_m)
{
    if (p->count == 0) {
        return false;
    }
    p->count--;
    int rv = get_message(&p->messages, ret_m);
    assert(rv == 0); /* entry_next() has checked the run. */
    return true;
}

bool entry_next_item(struct op_progress *p, struct progress_item *ret_item)
{
    if (p->count == 0) {
        return false;
    }
    p->count--;
    int rv = get_item(&p->items, ret_item);
    assert(rv == 0);
    return true;
}

int entry_open(struct entry_reader *e, struct slice bytes)
{
    struct reader r = reader_of(bytes);
    uint32_t fields = get_array(&r);
    uint64_t format = get_u64(&r);
    if (r.failed) {
        return ERR_INVALID;
    }
    if (format != ENTRY_FORMAT) {
        return ERR_VERSION;
    }
    uint64_t version = get_u64(&r);
    if (!r.failed && version > ENTRY_MACHINE_VERSION) {
        return ERR_VERSION;
    }
    int64_t time_ns = get_i64(&r);
    uint32_t ops = get_array(&r);
    if (r.failed || fields != 4 || version == 0 || ops > ENTRY_OPS_MAX) {
        return ERR_INVALID;
    }
    *e = (struct entry_reader){(uint32_t)version, time_ns, ops, r};
    return 0;
}

#define CONFIG_FIELDS_MAX 4u /* With its number and a version. */

/* Number of fields after the op's number; -1: unknown to this machine version. */
static int op_fields(uint64_t type)
{
    switch (type) {
    case OP_JOB_STEP:
    case OP_CLOCK:
    case OP_DIGEST:
        return 0;
    case OP_TIME_UNSURE:
    case OP_TIME_SURE:
    case OP_SEAL:
    case OP_VERSION:
    case OP_REBASE_TIME:
        return 1;
    case OP_LEAD:
    case OP_CONSUMER_DELETE:
    case OP_CONSUMER_PROGRESS:
    case OP_DELETE_MSG:
    case OP_CONFIG:
        return 2;
    case OP_CONSUMER_SET:
        return 3;
    case OP_PUBLISH:
    case OP_PURGE:
        return 4;
    default:
        return -1;
    }
}

static int get_op(struct reader *r, uint32_t fields, struct op *op)
{
    switch (op->type) {
    case OP_LEAD:
        op->u.lead.node = get_u64(r);
        op->u.lead.version_max = (uint32_t)get_u64(r);
        break;
    case OP_PUBLISH:
        return get_publish(r, &op->u.publish);
    case OP_CONSUMER_SET:
    case OP_CONSUMER_DELETE:
        op->request = get_u64(r);
        op->u.consumer.name = get_bytes(r);
        op->u.consumer.config = op->type == OP_CONSUMER_SET ? get_bytes(r) : SLICE_EMPTY;
        if (op->u.consumer.name.len == 0 || op->u.consumer.name.len > 255 ||
            !is_text_sound(op->u.consumer.name)) {
            return ERR_INVALID;
        }
        break;
    case OP_CONSUMER_PROGRESS:
        return get_progress(r, &op->u.progress);
    case OP_PURGE:
        op->request = get_u64(r);
        op->u.purge.filter = get_bytes(r);
        op->u.purge.seq = get_u64(r);
        op->u.purge.keep = get_u64(r);
        break;
    case OP_DELETE_MSG:
        op->request = get_u64(r);
        op->u.seq = get_u64(r);
        break;
    case OP_CONFIG:
        op->request = get_u64(r);
        op->u.config = get_bytes(r);
        op->config_version = fields == CONFIG_FIELDS_MAX ? get_u64(r) : 0;
        break;
    case OP_SEAL:
        op->request = get_u64(r);
        break;
    case OP_VERSION: {
        uint64_t version = get_u64(r);
        if (version > ENTRY_MACHINE_VERSION) {
            return ERR_VERSION;
        }
        op->u.version = (uint32_t)version;
        break;
    }
    case OP_REBASE_TIME:
        op->u.time_ns = get_i64(r);
        break;
    case OP_TIME_UNSURE:
    case OP_TIME_SURE: {
        uint64_t shift_ns = get_u64(r);
        if (shift_ns > INT64_MAX) {
            return ERR_INVALID;
        }
        op->u.shift_ns = (int64_t)shift_ns;
        break;
    }
    case OP_JOB_STEP:
    case OP_CLOCK:
    case OP_DIGEST:
        break;
    case OP_STORE_AT:
    case OP_BATCH_PART:
    case OP_BATCH_COMMIT:
    case OP_BATCH_ABORT:
    case OP_RESTORE_BEGIN:
    case OP_RESTORE_END:
    default:
        return ERR_UNSUPPORTED;
    }
    return r->failed ? ERR_INVALID : 0;
}

int entry_next(struct entry_reader *e, struct op *ret_op)
{
    if (e->ops_left == 0) {
        return e->bytes.len == 0 ? 0 : ERR_INVALID;
    }
    e->ops_left--;
    uint32_t fields = get_array(&e->bytes);
    uint64_t type = get_u64(&e->bytes);
    if (e->bytes.failed || fields == 0) {
        return ERR_INVALID;
    }
    int known = op_fields(type);
    if (known < 0) {
        return ERR_UNSUPPORTED;
    }
    bool is_versioned = type == OP_CONFIG && fields == CONFIG_FIELDS_MAX;
    if (fields != (uint32_t)known + 1 && !is_versioned) {
        return ERR_INVALID;
    }
    memset(ret_op, 0, sizeof *ret_op);
    ret_op->type = (enum op_type)type;
    int rv = get_op(&e->bytes, fields, ret_op);
    return rv == 0 ? 1 : rv;
}

int entry_check(struct slice bytes)
{
    struct entry_reader e;
    int rv = entry_open(&e, bytes);
    struct op op;
    while (rv == 0) {
        rv = entry_next(&e, &op);
        if (rv <= 0) {
            return rv;
        }
        rv = 0;
    }
    return rv;
}
