/* Any records as what the WAL hands to the group host at a start: right frames around anything.
 * Groups are opened over a store that says anything, then live for a while with peers that are up
 * and silent, and what they write is replayed into a second host. */
#include "raft/records.h"
#include "storage/base/err.h"
#include "tests/fuzz/raft_node.h"

#define RECORDS_MAX 64u

struct found {
    uint64_t raft_id;
    bool is_there;
};

static void on_found(void *arg, const struct group_found *f)
{
    struct found *found = arg;
    if (f->gid == RAFT_GID) {
        *found = (struct found){f->raft_id, true};
    }
}

static void put_base(struct reader *r, struct buf *out)
{
    struct conf c = {.count = 1 + reader_u8(r) % 3};
    struct buf conf = BUF_EMPTY;
    for (unsigned i = 0; i < c.count; i++) {
        c.members[i] = (struct group_member){RAFT_ID(i + 1), i + 1, GROUP_VOTER};
    }
    conf_encode(&c, &conf);
    struct record_base b = {script_number(r), script_number(r), script_number(r), SLICE_EMPTY};
    b.conf = reader_u8(r) % 8 == 0 ? script_bytes(r) : buf_slice(&conf);
    record_put_base(out, &b);
    buf_close(&conf);
}

static void put_entries(struct reader *r, struct buf *out)
{
    uint64_t first = script_number(r);
    uint64_t count = reader_u8(r) % 6;
    uint8_t how = reader_u8(r);
    uint64_t prev_term = (how & 0x40) != 0 ? script_number(r) : 0;
    record_put_entries_head(out, first, prev_term, how % 16 == 1 ? script_number(r) : count);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t term = script_number(r);
        uint8_t type = reader_u8(r) % 4;
        if (type == RECORD_ENTRY_CHANGE && how % 8 != 2) {
            struct buf base = BUF_EMPTY;
            struct conf c = {.count = 1 + reader_u8(r) % 3};
            for (unsigned k = 0; k < c.count; k++) {
                c.members[k] = (struct group_member){RAFT_ID(k + 1), k + 1, GROUP_VOTER};
            }
            conf_encode(&c, &base);
            record_put_entry_head(out, term, type, base.len);
            buf_append_slice(out, buf_slice(&base));
            buf_close(&base);
            continue;
        }
        struct slice bytes = script_bytes(r);
        record_put_entry_head(out, term, type, bytes.len);
        buf_append_slice(out, bytes);
    }
}

/* One record, mostly of its form. */
static uint8_t make_record(struct reader *r, struct buf *out)
{
    uint8_t type = RECORD_APPEND + reader_u8(r) % 13;
    uint8_t how = reader_u8(r);
    buf_clear(out);
    if (how % 8 == 7) {
        buf_append_slice(out, script_bytes(r));
        return type;
    }
    switch (type) {
    case RECORD_APPEND:
    case RECORD_CARRY:
    case RECORD_AGAIN:
        put_entries(r, out);
        break;
    case RECORD_TRUNCATE:
        record_put_truncate(out, script_number(r));
        break;
    case RECORD_META: {
        uint64_t term = script_number(r);
        record_put_meta(out, term, script_number(r));
        break;
    }
    case RECORD_BASE:
    case RECORD_IMAGE:
    case RECORD_RESET:
        put_base(r, out);
        break;
    case RECORD_CREATE:
        record_put_create(out, how % 8 == 6 ? script_number(r) : RAFT_ID(1));
        break;
    case RECORD_CHECKPOINT:
        buf_append_varint(out, how % 8 == 6 ? script_number(r) : RAFT_ID(1));
        buf_append_varint(out, script_number(r));
        buf_append_varint(out, script_number(r));
        buf_append_u8(out, how % 8 == 5 ? 5 : how % 8 == 4 ? 2 : 0);
        put_base(r, out);
        break;
    case RECORD_SUSPECT:
        record_put_suspect(out, (struct record_flags){how % 8 == 5, how % 8 == 4, how % 8 == 5});
        break;
    default:
        break;
    }
    return type;
}

static void replay(struct raft_node *n, struct reader *r)
{
    struct wal_replay to = host_wal_replay(n->host);
    struct buf payload = BUF_EMPTY;
    uint8_t suspects = reader_u8(r);
    for (uint64_t lsn = 1; lsn <= RECORDS_MAX && !script_is_over(r); lsn++) {
        uint8_t type = make_record(r, &payload);
        uint64_t gid = reader_u8(r) % 8 == 7 ? 2 : RAFT_GID;
        to.record(to.arg, lsn, type, gid, buf_slice(&payload));
    }
    buf_close(&payload);
    if ((suspects & 0x70) == 0x70) {
        to.suspect(to.arg, (suspects & 1) != 0 ? WAL_GID_ALL : suspects % 8);
    }
}

static void live(struct raft_node *n)
{
    host_peer_up(n->host, 2);
    host_peer_up(n->host, 3);
    for (int i = 0; i < 12; i++) {
        raft_node_tick(n, i % 3 == 0 ? 1000 : 100);
        raft_node_settle(n);
        if (n->group != NULL && group_propose(n->group, SLICE_LIT("x"), n->token + 1) == 0) {
            n->token++;
        }
        raft_node_check(n);
        if (i == 6) {
            raft_node_flush(n);
        }
    }
}

static void open_found(struct raft_node *n, struct group_base store)
{
    struct found found = {0};
    struct group_options options = raft_node_options(n);
    host_each_group(n->host, on_found, &found);
    n->base = store;
    options.raft_id = found.raft_id;
    if (!found.is_there || found.raft_id == 0) {
        return;
    }
    int rv = group_open(n->host, &options, &n->group);
    require(rv == 0 || rv == ERR_CORRUPT || rv == ERR_NOTFOUND);
    if (rv != 0) {
        n->group = NULL;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(slice_of(data, size));
    struct raft_node n;
    raft_node_open(&n);
    struct group_base store = {script_number(&r), script_number(&r)};
    n.applied = store;
    replay(&n, &r);
    raft_node_recovered(&n);
    open_found(&n, store);
    raft_node_check(&n);
    live(&n);
    raft_node_close(&n);
    return 0;
}
