/* Anything from the peers of a replica, over a HELLO that was accepted: frames of any bytes, and
 * frames whose items are well formed and say anything. Between them time passes, the disk syncs or
 * does not, the node proposes, flushes, and loses its peers. */
#include "raft/records.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "tests/fuzz/raft_node.h"

#define STEPS_MAX 96u

struct world {
    struct raft_node node;
};

static void put_conf(struct reader *r, struct buf *out)
{
    struct conf c = {.count = 1 + reader_u8(r) % 4};
    for (unsigned i = 0; i < c.count; i++) {
        uint8_t b = reader_u8(r);
        c.members[i].raft_id = RAFT_ID(i + 1) + (b % 16 == 15);
        c.members[i].node_id = i + 1;
        c.members[i].role = b % 8 == 7 ? GROUP_STANDBY : b % 8 == 6 ? GROUP_SPARE : GROUP_VOTER;
    }
    conf_encode(&c, out);
}

static void put_entries(struct reader *r, struct buf *frame, struct frame_item *it)
{
    struct buf entries = BUF_EMPTY;
    uint8_t count = reader_u8(r) % 6;
    for (uint8_t i = 0; i < count; i++) {
        uint64_t term = script_number(r);
        uint8_t type = reader_u8(r) % 5;
        struct buf conf = BUF_EMPTY;
        struct slice bytes;
        if (type == RECORD_ENTRY_CHANGE) {
            put_conf(r, &conf);
            bytes = buf_slice(&conf);
        } else {
            bytes = script_bytes(r);
        }
        frame_entry_head(&entries, term, type, bytes.len);
        buf_append_slice(&entries, bytes);
        buf_close(&conf);
    }
    it->count = reader_u8(r) % 16 == 15 ? script_number(r) : count;
    size_t at = frame_put(frame, it);
    buf_append_slice(frame, buf_slice(&entries));
    frame_item_end(frame, at);
    buf_close(&entries);
}

static void put_item(struct world *w, struct reader *r, struct buf *frame, unsigned from,
                     struct buf *fragments)
{
    uint8_t how = reader_u8(r);
    struct frame_item it = {.kind = (enum frame_kind)(1 + reader_u8(r) % 15),
                            .gid = how % 32 == 31 ? script_number(r) : RAFT_GID,
                            .from = (how & 0x60) == 0x60 ? script_number(r) : RAFT_ID(from),
                            .to = RAFT_ID(1)};
    struct raft_node *n = &w->node;
    it.term = (how & 1) != 0 ? script_number(r) : group_role(n->group).term + reader_u8(r) % 2;
    it.index = script_number(r);
    it.index_term = script_number(r);
    it.commit = script_number(r);
    it.last_index = script_number(r);
    it.flags = reader_u8(r) % 4;
    /* Of what the node has asked or offered. */
    struct reader said = reader_of(buf_slice(&n->said));
    struct frame_item own = {0};
    if (n->said.len > 0 && frame_open(buf_slice(&n->said), &said) == 0) {
        while (frame_next(&said, &own) == 0 && own.seq == 0) {
        }
    }
    it.seq = (how & 2) != 0 ? script_number(r) : own.seq;
    it.part = (how & 4) != 0 ? script_number(r) : own.part;
    it.offset = (how & 8) != 0 ? script_number(r) : own.offset;
    it.length = script_number(r);
    struct buf conf = BUF_EMPTY;
    switch (it.kind) {
    case FRAME_ENTRIES:
        put_entries(r, frame, &it);
        break;
    case FRAME_OFFER:
        put_conf(r, &conf);
        it.bytes = buf_slice(&conf);
        it.conf_index = script_number(r);
        it.count = script_number(r);
        frame_put(frame, &it);
        break;
    case FRAME_CHUNK: {
        uint8_t parts[24] = {0};
        parts[0] = reader_u8(r);
        parts[12] = reader_u8(r);
        it.bytes = (how & 0x10) != 0 ? script_bytes(r) : slice_of(parts, 12u << (how >> 7));
        it.crc = crc32c(0, it.bytes.ptr, it.bytes.len);
        frame_put(frame, &it);
        break;
    }
    case FRAME_FRAGMENT:
        if (fragments->len > 1 && reader_u8(r) % 4 != 0) {
            /* A piece of a frame made before. */
            struct slice all = slice_from(buf_slice(fragments), 1);
            size_t cut = reader_u8(r) % (all.len + 1);
            it.length = all.len;
            it.offset = (how & 0x10) != 0 ? cut : 0;
            it.bytes = (how & 0x10) != 0 ? slice_from(all, cut) : slice_of(all.ptr, cut);
        } else {
            it.bytes = script_bytes(r);
        }
        frame_put(frame, &it);
        break;
    default:
        frame_put(frame, &it);
        break;
    }
    buf_close(&conf);
}

static void step(struct world *w, struct reader *r, struct buf *before)
{
    struct raft_node *n = &w->node;
    uint8_t op = reader_u8(r);
    unsigned from = 2 + (op >> 7);
    struct buf frame = BUF_EMPTY;
    switch (op % 16) {
    case 0: /* Any bytes. */
        (void)host_receive(n->host, from, op & 0x40 ? HOST_LANE_BULK : HOST_LANE_RAFT,
                           script_long_bytes(r));
        break;
    case 1:
        raft_node_settle(n);
        break;
    case 2:
        raft_node_tick(n, 10u + reader_u8(r) * 10u);
        break;
    case 3:
        if (group_propose(n->group, SLICE_LIT("proposed"), n->token + 1) == 0) {
            n->token++;
        }
        (void)group_read_index(n->group, 1);
        break;
    case 4:
        raft_node_flush(n);
        break;
    case 5:
        raft_node_job(n, op & 0x40 ? ERR_IO : 0);
        break;
    case 6:
        if (op & 0x40) {
            host_peer_down(n->host, from);
        } else {
            host_peer_up(n->host, from);
        }
        break;
    case 7:
        n->is_lazy = (op & 0x40) != 0;
        (void)group_move_leader(n->group, from);
        group_campaign(n->group);
        break;
    default: {
        frame_begin(&frame);
        unsigned items = 1 + (op >> 4) % 3;
        for (unsigned i = 0; i < items; i++) {
            put_item(w, r, &frame, from, before);
        }
        int rv = 0;
        for (int lane = 0; lane < 2; lane++) {
            rv = host_receive(n->host, from, (enum host_lane)lane, buf_slice(&frame));
            require(rv == 0 || rv == ERR_PROTO);
        }
        buf_close(before);
        *before = frame;
        frame = BUF_EMPTY;
        if ((op & 8) == 0) {
            raft_node_settle(n);
        }
        break;
    }
    }
    buf_close(&frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(slice_of(data, size));
    struct world w;
    struct raft_node *n = &w.node;
    raft_node_open(n);
    raft_node_recovered(n);
    struct group_options options = raft_node_options(n);
    struct group_member members[3];
    for (unsigned i = 0; i < 3; i++) {
        members[i] = (struct group_member){RAFT_ID(i + 1), i + 1, GROUP_VOTER};
    }
    bool is_newcomer = reader_u8(&r) % 4 == 3;
    require(group_create(n->host, &options, members, is_newcomer ? 0 : 3, &n->group) == 0);
    raft_node_settle(n);
    host_peer_up(n->host, 2);
    host_peer_up(n->host, 3);
    struct buf before = BUF_EMPTY;
    for (unsigned i = 0; i < STEPS_MAX && !script_is_over(&r); i++) {
        step(&w, &r, &before);
        raft_node_check(n);
    }
    raft_node_settle(n);
    raft_node_check(n);
    buf_close(&before);
    raft_node_close(n);
    return 0;
}
