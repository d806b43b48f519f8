/* Birth of a cluster (design 6): its first nodes agree, once, on who the meta group's members are.
 *
 * Everybody the routes name, and whoever else has come, is waited for. A node that misses nobody
 * tells the others whom it sees (the census). When all whom it sees see the same nodes, the one
 * with the lowest id writes a birth record and offers it; a node named there that has none adopts
 * it, durably, one record ever. Meta starts on each node as it has adopted, and works with a
 * majority. So a route that only one node names is waited for by all, and two sets that overlap are
 * never both born.
 *
 * The census: magic "WEIRCS01", number of ids u8, ids u64 ascending.
 *
 * The record, <store_dir>/weir/birth and birth.copy, one of which will do:
 *
 *    0  8  magic "WEIRBR01"
 *    8  1  1: the meta group's CREATE may be missing from the WAL (adopted); 2: it is there (born);
 *           3 and 4: the same, of a node that joined a cluster there was
 *    9  1  number of members
 *   10 16  cluster uuid
 *   26  …  each member: node_id u64; its raft id is its place, from 1
 *          of a node that joined: one, and that is its raft id
 *    …  4  CRC-32C of the bytes before
 *
 * Who has no record when there is a cluster is invited by the leader of meta, once its log has
 * given it a raft id: magic "WEIRJN01", cluster uuid, raft id u64. It joins empty, and gives birth
 * to nothing: wiped nodes that start first wait for those that have something.
 *
 * Each is replaced as a whole (storage/small_file.h). */
#include "cluster/js_birth.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/js_internal.h"
#include "cluster/js_meta.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/peers.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/base/log.h"
#include "storage/file_ops.h"
#include "storage/small_file.h"
#include "storage/wal_thread.h"

#define FILE_NAME "birth"
#define MEMBERS_MAX 5 /* Largest odd number of voters (design 6). */
#define CENSUS_MAGIC "WEIRCS01"
#define JOIN_MAGIC "WEIRJN01"
#define SET_BACK_FILE "set-back" /* Empty; is there once the node was told. */
#define ROLLED_BACK_MAGIC "WEIRRB01"
#define TELL_AGAIN_MS 1000
#define CENSUS_MS 1000 /* So long a census counts. */
#define TRY_MS 200
#define COMPLAIN_MS 10000
#define SETTLE_MS 300 /* The same set has been complete for so long: gossip has had its time. */

enum record_state {
    RECORD_NONE = 0,
    RECORD_ADOPTED = 1,
    RECORD_BORN = 2,
    RECORD_JOINING = 3,
    RECORD_JOINED = 4
};

/* Whom a node said that it sees. */
struct census_heard {
    uint64_t node_id;
    uint64_t heard_ms;
    uint64_t ids[PEERS_MAX];
    unsigned count;
};

struct js_birth {
    struct census_heard heard[PEERS_MAX];
    unsigned heard_count;
    enum record_state state;
    uint8_t cluster_uuid[16];
    uint64_t members[MEMBERS_MAX];
    unsigned members_count;
    uint64_t tried_ms;
    uint64_t complained_ms;
    uint64_t complete_ms; /* Since when nobody is missing; 0: somebody is. */
    uint64_t create_lsn;
    uint64_t rolled_back_ms; /* When one was told last. */
    char missing[256];
};

/* ---- The record ---- */

static void encode(const struct js_birth *b, struct buf *out)
{
    buf_append_str(out, "WEIRBR01");
    buf_append_u8(out, (uint8_t)b->state);
    buf_append_u8(out, (uint8_t)b->members_count);
    buf_append(out, b->cluster_uuid, 16);
    for (unsigned i = 0; i < b->members_count; i++) {
        buf_append_u64(out, b->members[i]);
    }
    buf_append_u32(out, crc32c(0, out->ptr, out->len));
}

static int decode(struct slice bytes, struct js_birth *b)
{
    struct reader r = reader_of(bytes);
    struct slice magic = reader_bytes(&r, 8);
    uint8_t state = reader_u8(&r);
    uint8_t count = reader_u8(&r);
    struct slice uuid = reader_bytes(&r, 16);
    if (r.failed || !slice_eq_str(magic, "WEIRBR01") || count == 0 || count > MEMBERS_MAX ||
        state < RECORD_ADOPTED || state > RECORD_JOINED) {
        return ERR_CORRUPT;
    }
    uint64_t members[MEMBERS_MAX];
    for (unsigned i = 0; i < count; i++) {
        members[i] = reader_u64(&r);
    }
    size_t covered = bytes.len - r.len;
    uint32_t crc = reader_u32(&r);
    if (r.failed || r.len != 0 || crc != crc32c(0, bytes.ptr, covered)) {
        return ERR_CORRUPT;
    }
    b->state = (enum record_state)state;
    b->members_count = count;
    memcpy(b->cluster_uuid, uuid.ptr, 16);
    memcpy(b->members, members, sizeof members);
    return 0;
}

static int save_record(const struct js *js, const struct js_birth *birth)
{
    struct buf bytes = BUF_EMPTY;
    encode(birth, &bytes);
    int rv = small_file_write_twice(file_ops_posix(), js->dir, FILE_NAME, buf_slice(&bytes));
    buf_close(&bytes);
    return rv;
}

static void write_record(struct js *js, const struct js_birth *birth)
{
    int rv = save_record(js, birth);
    if (rv != 0) {
        const struct file_ops *ops = file_ops_posix();
        js_die(js, "Writing the birth record", rv, ops->last_errno(ops->ctx), js->dir);
    }
}

static int read_copy(const struct js *js, const char *name, struct js_birth *birth)
{
    uint8_t bytes[256];
    size_t n = 0;
    int rv = small_file_read(file_ops_posix(), js->dir, name, bytes, sizeof bytes, &n);
    return rv == 0 ? decode(slice_of(bytes, n), birth) : rv;
}

static bool is_same(const struct js_birth *a, const struct js_birth *b)
{
    return a->state == b->state && a->members_count == b->members_count &&
           memcmp(a->cluster_uuid, b->cluster_uuid, sizeof a->cluster_uuid) == 0 &&
           memcmp(a->members, b->members, a->members_count * sizeof a->members[0]) == 0;
}

/* The record as one of its copies has it; 0 and no state if there is none. @ret_is_single: they are
 * not alike, and both are to be written. */
static int look_at_record(const struct js *js, struct js_birth *birth, bool *ret_is_single)
{
    struct js_birth copy = {0};
    int rv = read_copy(js, FILE_NAME, birth);
    int copy_rv = read_copy(js, FILE_NAME SMALL_FILE_COPY, &copy);
    *ret_is_single = rv != 0 || copy_rv != 0 || !is_same(birth, &copy);
    if (rv == ERR_NOTFOUND && copy_rv == ERR_NOTFOUND) {
        *ret_is_single = false; /* Pristine. */
        return 0;
    }
    if (rv == 0) {
        if (copy_rv == ERR_CORRUPT) {
            log_err("Damage in %s/" FILE_NAME SMALL_FILE_COPY
                    ": it is written anew from its other copy",
                    js->dir);
        }
        return 0;
    }
    if ((rv == ERR_CORRUPT || rv == ERR_NOTFOUND) && copy_rv == 0) {
        log_err("Damage in %s/" FILE_NAME ": it is written anew from its other copy", js->dir);
        *birth = copy;
        return 0;
    }
    rv = rv == ERR_NOTFOUND ? copy_rv : rv;
    log_err("The birth record %s/" FILE_NAME " cannot be read, nor can its copy: %s", js->dir,
            err_text(rv));
    return rv;
}

static int read_record(const struct js *js, struct js_birth *birth)
{
    bool is_single;
    int rv = look_at_record(js, birth, &is_single);
    if (rv == 0 && is_single) {
        rv = save_record(js, birth);
        if (rv != 0) {
            log_err("The birth record %s/" FILE_NAME " cannot be written: %s", js->dir,
                    err_text(rv));
        }
    }
    return rv;
}

/* ---- Being born ---- */

static int start_joined(struct js *js, struct js_birth *b)
{
    int rv = js_meta_join(js, b->members[0]);
    if (rv == 0) {
        struct group_status status;
        group_status(js->meta_group, &status);
        b->create_lsn = status.create_lsn;
        log_inf("This node joins a JetStream cluster");
    }
    return rv;
}

static int start_group(struct js *js, struct js_birth *b)
{
    if (b->state == RECORD_JOINING) {
        return start_joined(js, b);
    }
    struct group_member members[MEMBERS_MAX];
    uint64_t raft_id = 0;
    for (unsigned i = 0; i < b->members_count; i++) {
        members[i] = (struct group_member){i + 1, b->members[i], GROUP_VOTER};
        raft_id = b->members[i] == js->ctx->node_id ? i + 1 : raft_id;
    }
    int rv = js_meta_birth(js, members, b->members_count, raft_id);
    if (rv == 0) {
        struct group_status status;
        group_status(js->meta_group, &status);
        b->create_lsn = status.create_lsn;
        log_inf("This node is one of %u members of a new JetStream cluster", b->members_count);
    }
    return rv;
}

static void adopt(struct js *js, struct js_birth *b)
{
    write_record(js, b);
    peers_announce_cluster_uuid(js->ctx->peers, b->cluster_uuid);
    int rv = start_group(js, b);
    if (rv != 0) {
        log_err("The meta group could not be created: %s", err_text(rv));
    }
}

static bool is_member(const struct js_birth *b, uint64_t node_id)
{
    for (unsigned i = 0; i < b->members_count; i++) {
        if (b->members[i] == node_id) {
            return true;
        }
    }
    return false;
}

static int take_census(struct js *js, uint64_t node_id, struct reader *r)
{
    struct js_birth *b = js->birth;
    unsigned count = reader_u8(r);
    if (count > PEERS_MAX) {
        return ERR_PROTO;
    }
    unsigned at = 0;
    while (at < b->heard_count && b->heard[at].node_id != node_id) {
        at++;
    }
    if (at == PEERS_MAX) {
        return 0;
    }
    struct census_heard *h = &b->heard[at];
    h->count = 0;
    for (unsigned i = 0; i < count; i++) {
        h->ids[i] = reader_u64(r);
    }
    if (r->failed) {
        return ERR_PROTO;
    }
    h->node_id = node_id;
    h->heard_ms = loop_now_ms(js->loop);
    h->count = count;
    b->heard_count += at == b->heard_count;
    return 0;
}

static int take_offer(struct js *js, uint64_t node_id, struct slice body)
{
    struct js_birth *b = js->birth;
    struct js_birth offered = {0};
    if (decode(body, &offered) != 0) {
        return ERR_PROTO;
    }
    if (!is_member(&offered, js->ctx->node_id)) {
        return 0;
    }
    if (b->state != RECORD_NONE) {
        if (memcmp(b->cluster_uuid, offered.cluster_uuid, 16) != 0) {
            log_err("Node %s offers another cluster than the one this node belongs to",
                    js_node_name(js, node_id));
        }
        return 0;
    }
    b->members_count = offered.members_count;
    memcpy(b->members, offered.members, sizeof b->members);
    memcpy(b->cluster_uuid, offered.cluster_uuid, sizeof b->cluster_uuid);
    b->state = RECORD_ADOPTED;
    adopt(js, b);
    return 0;
}

static int take_invitation(struct js *js, uint64_t node_id, struct reader *r)
{
    struct js_birth *b = js->birth;
    struct slice uuid = reader_bytes(r, 16);
    uint64_t raft_id = reader_u64(r);
    if (r->failed || r->len != 0 || raft_id == 0) {
        return ERR_PROTO;
    }
    if (b->state != RECORD_NONE) {
        if (memcmp(b->cluster_uuid, uuid.ptr, 16) != 0) {
            log_err("Node %s invites to another cluster than the one this node belongs to",
                    js_node_name(js, node_id));
        }
        return 0;
    }
    memcpy(b->cluster_uuid, uuid.ptr, sizeof b->cluster_uuid);
    b->members_count = 1;
    b->members[0] = raft_id;
    b->state = RECORD_JOINING;
    adopt(js, b);
    return 0;
}

static void tell_set_back(const struct js *js)
{
    log_err("The disk was set back to an earlier state, and what was acknowledged since is lost. "
            "Remove %s to let the node join as a new one",
            js->dir);
}

/* Starts are counted on, and who knows better may be gone the next time: it is not forgotten that
 * this disk is of the past. */
static bool is_set_back(const struct js *js)
{
    uint8_t byte;
    size_t n;
    return small_file_read(file_ops_posix(), js->dir, SET_BACK_FILE, &byte, 1, &n) != ERR_NOTFOUND;
}

static int take_rolled_back(struct js *js, uint64_t node_id, struct reader *r)
{
    uint64_t boot_count = reader_u64(r);
    uint64_t lsn = reader_u64(r);
    if (r->failed || r->len != 0) {
        return ERR_PROTO;
    }
    if (boot_count > js->ctx->boot_count || lsn > js->start_lsn) {
        log_err("This is start %llu of this node, and its log ended with record %llu, but %s knows "
                "that it has to be start %llu and record %llu at least",
                (unsigned long long)js->ctx->boot_count, (unsigned long long)js->start_lsn,
                js_node_name(js, node_id), (unsigned long long)boot_count, (unsigned long long)lsn);
        int rv = small_file_write(file_ops_posix(), js->dir, SET_BACK_FILE, SLICE_EMPTY);
        if (rv != 0) {
            log_err("%s/%s cannot be written: %s", js->dir, SET_BACK_FILE, err_text(rv));
        }
        tell_set_back(js);
        log_fatal("rolled-back disk: %s", js->dir);
    }
    return 0;
}

static int on_message(void *ctx, uint64_t node_id, struct slice body)
{
    struct reader r = reader_of(body);
    struct slice magic = reader_bytes(&r, 8);
    if (!r.failed && slice_eq_str(magic, JOIN_MAGIC)) {
        return take_invitation(ctx, node_id, &r);
    }
    if (!r.failed && slice_eq_str(magic, ROLLED_BACK_MAGIC)) {
        return take_rolled_back(ctx, node_id, &r);
    }
    if (!r.failed && slice_eq_str(magic, CENSUS_MAGIC)) {
        return take_census(ctx, node_id, &r);
    }
    return take_offer(ctx, node_id, body);
}

struct census {
    struct js *js;
    uint64_t ids[PEERS_MAX];
    unsigned count;
    bool is_somebody_missing;
    bool is_cluster_there;
    struct buf missing;
};

static void add(struct census *c, uint64_t node_id)
{
    for (unsigned i = 0; i < c->count; i++) {
        if (c->ids[i] == node_id) {
            return;
        }
    }
    if (c->count < PEERS_MAX) {
        c->ids[c->count++] = node_id;
    }
}

static bool count_peer(void *ctx, const struct peers_info *info)
{
    static const uint8_t none[16];
    struct census *c = ctx;
    if (!info->is_up) {
        return true;
    }
    if (memcmp(info->cluster_uuid, none, 16) != 0) {
        c->is_cluster_there = true;
    }
    if (info->is_jetstream) {
        add(c, info->node_id);
    }
    return true;
}

static void count_route(void *ctx, const struct peers_route *route)
{
    struct census *c = ctx;
    struct peers_info info;
    bool is_there = route->node_id == c->js->ctx->node_id ||
                    (route->node_id != 0 && peers_get(c->js->ctx->peers, route->node_id, &info) &&
                     (info.is_up || !info.is_jetstream));
    if (!is_there) {
        c->is_somebody_missing = true;
        buf_printf(&c->missing, "%s%s", c->missing.len == 0 ? "" : ", ", route->url);
    }
}

static int by_id(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static void offer(struct js *js, const struct js_birth *b)
{
    struct buf bytes = BUF_EMPTY;
    encode(b, &bytes);
    struct slice part = buf_slice(&bytes);
    for (unsigned i = 0; i < b->members_count; i++) {
        if (b->members[i] != js->ctx->node_id) {
            /* Not connected: it is offered again. */
            (void)peers_client_send(js->ctx->peers, b->members[i], JS_PEER_TYPE_BIRTH, &part, 1);
        }
    }
    buf_close(&bytes);
}

static void send_census(struct js *js, const struct census *c)
{
    struct buf bytes = BUF_EMPTY;
    buf_append_str(&bytes, CENSUS_MAGIC);
    buf_append_u8(&bytes, (uint8_t)c->count);
    for (unsigned i = 0; i < c->count; i++) {
        buf_append_u64(&bytes, c->ids[i]);
    }
    struct slice part = buf_slice(&bytes);
    for (unsigned i = 0; i < c->count; i++) {
        if (c->ids[i] != js->ctx->node_id) {
            (void)peers_client_send(js->ctx->peers, c->ids[i], JS_PEER_TYPE_BIRTH, &part, 1);
        }
    }
    buf_close(&bytes);
}

/* Do all whom this node sees see the same? Names one that does not. */
static bool is_unanimous(struct js *js, const struct js_birth *b, const struct census *c,
                         uint64_t *ret_other)
{
    uint64_t now = loop_now_ms(js->loop);
    for (unsigned i = 0; i < c->count; i++) {
        bool agrees = c->ids[i] == js->ctx->node_id;
        for (unsigned k = 0; k < b->heard_count && !agrees; k++) {
            const struct census_heard *h = &b->heard[k];
            agrees = h->node_id == c->ids[i] && now - h->heard_ms <= CENSUS_MS &&
                     h->count == c->count &&
                     memcmp(h->ids, c->ids, c->count * sizeof c->ids[0]) == 0;
        }
        if (!agrees) {
            *ret_other = c->ids[i];
            return false;
        }
    }
    return true;
}

/* The lowest id of a complete set gives birth. */
static void give_birth(struct js *js, struct js_birth *b, struct census *c)
{
    uint64_t other;
    qsort(c->ids, c->count, sizeof c->ids[0], by_id);
    send_census(js, c);
    if (!is_unanimous(js, b, c, &other)) {
        snprintf(b->missing, sizeof b->missing, "whom %s waits for", js_node_name(js, other));
        return;
    }
    if (c->ids[0] != js->ctx->node_id) {
        return;
    }
    /* An odd number, or two; the others join. */
    unsigned voters = c->count >= MEMBERS_MAX ? MEMBERS_MAX : c->count >= 3 ? 3 : c->count;
    b->state = RECORD_ADOPTED;
    b->members_count = voters;
    memcpy(b->members, c->ids, voters * sizeof c->ids[0]);
    for (int i = 0; i < 16; i += 8) {
        uint64_t r = node_random();
        memcpy(b->cluster_uuid + i, &r, 8);
    }
    adopt(js, b);
    offer(js, b);
}

static void complain(struct js *js, struct js_birth *b, const struct census *c, uint64_t now)
{
    if (now - b->complained_ms < COMPLAIN_MS && b->complained_ms != 0) {
        return;
    }
    b->complained_ms = now;
    if (c->is_cluster_there) {
        log_wrn(
            "A JetStream cluster exists already: this node waits for the leader of its meta group "
            "to take it in");
    } else if (c->is_somebody_missing) {
        log_wrn("Waiting for these routes before the JetStream cluster is born: %.*s",
                SLICE_ARG(buf_slice(&c->missing)));
    }
    (void)js;
}

static void try_birth(struct js *js, struct js_birth *b, uint64_t now)
{
    struct census c = {.js = js, .ids = {js->ctx->node_id}, .count = 1};
    peers_each(js->ctx->peers, count_peer, &c);
    peers_each_route(js->ctx->peers, count_route, &c);
    snprintf(b->missing, sizeof b->missing, "%.*s", SLICE_ARG(buf_slice(&c.missing)));
    if (c.is_somebody_missing || c.is_cluster_there || c.count < 2) {
        b->complete_ms = 0;
        complain(js, b, &c, now);
    } else if (b->complete_ms == 0) {
        b->complete_ms = now;
    } else if (now - b->complete_ms >= SETTLE_MS) {
        give_birth(js, b, &c);
    }
    buf_close(&c.missing);
}

void js_birth_tick(struct js *js)
{
    struct js_birth *b = js->birth;
    uint64_t now = loop_now_ms(js->loop);
    if (b == NULL || now - b->tried_ms < TRY_MS) {
        return;
    }
    b->tried_ms = now;
    if (b->state == RECORD_NONE) {
        try_birth(js, b, now);
        return;
    }
    if ((b->state == RECORD_ADOPTED || b->state == RECORD_JOINING) &&
        wal_thread_durable_lsn(js->wal_thread) >= b->create_lsn) {
        b->state = b->state == RECORD_ADOPTED ? RECORD_BORN : RECORD_JOINED;
        write_record(js, b);
    }
    if (b->state == RECORD_JOINING || b->state == RECORD_JOINED) {
        return;
    }
    /* Until all have heard of it; adopting is idempotent. */
    if (js->meta_index == 0 || js->meta_leader_id == 0) {
        offer(js, b);
    }
}

void js_birth_invite(struct js *js, const struct peers_info *info, uint64_t raft_id)
{
    static const uint8_t none[16];
    const struct js_birth *b = js->birth;
    if (b == NULL || b->state == RECORD_NONE || memcmp(info->cluster_uuid, none, 16) != 0) {
        return;
    }
    struct buf bytes = BUF_EMPTY;
    buf_append_str(&bytes, JOIN_MAGIC);
    buf_append(&bytes, b->cluster_uuid, 16);
    buf_append_u64(&bytes, raft_id);
    struct slice part = buf_slice(&bytes);
    (void)peers_client_send(js->ctx->peers, info->node_id, JS_PEER_TYPE_BIRTH, &part, 1);
    buf_close(&bytes);
}

void js_birth_tell_rolled_back(struct js *js, uint64_t node_id, uint64_t boot_count, uint64_t lsn)
{
    struct js_birth *b = js->birth;
    uint64_t now = loop_now_ms(js->loop);
    if (b == NULL || (b->rolled_back_ms != 0 && now - b->rolled_back_ms < TELL_AGAIN_MS)) {
        return;
    }
    b->rolled_back_ms = now;
    log_err("Node %s has to count %llu starts and have %llu records in its log at least, and has "
            "not: its disk was set back, and it is not listened to",
            js_node_name(js, node_id), (unsigned long long)boot_count, (unsigned long long)lsn);
    struct buf bytes = BUF_EMPTY;
    buf_append_str(&bytes, ROLLED_BACK_MAGIC);
    buf_append_u64(&bytes, boot_count);
    buf_append_u64(&bytes, lsn);
    struct slice part = buf_slice(&bytes);
    (void)peers_client_send(js->ctx->peers, node_id, JS_PEER_TYPE_BIRTH, &part, 1);
    buf_close(&bytes);
}

bool js_birth_is_ours(const struct js *js, const struct peers_info *info)
{
    const struct js_birth *b = js->birth;
    return b != NULL && b->state != RECORD_NONE &&
           memcmp(info->cluster_uuid, b->cluster_uuid, 16) == 0;
}

const char *js_birth_missing(const struct js *js)
{
    return js->birth == NULL || js->birth->state != RECORD_NONE ? "" : js->birth->missing;
}

int js_birth_look(struct js *js)
{
    struct js_birth b = {0};
    bool is_single;
    int rv = look_at_record(js, &b, &is_single);
    return rv == 0 && b.state != RECORD_BORN && b.state != RECORD_JOINED ? ERR_NOTFOUND : rv;
}

int js_birth_renew(struct js *js)
{
    struct js_birth b = {0};
    int rv = read_record(js, &b);
    for (unsigned i = 0; i < 16; i += 8) {
        uint64_t r = node_random();
        memcpy(b.cluster_uuid + i, &r, 8);
    }
    rv = rv == 0 ? save_record(js, &b) : rv;
    /* Nobody knows more any longer. */
    return rv == 0 ? small_file_remove(file_ops_posix(), js->dir, SET_BACK_FILE) : rv;
}

int js_birth_start(struct js *js)
{
    if (js->ctx->peers == NULL) {
        return 0;
    }
    js->birth = xcalloc(1, sizeof *js->birth);
    int rv = read_record(js, js->birth);
    if (rv != 0) {
        return rv;
    }
    if (is_set_back(js)) {
        tell_set_back(js);
        return ERR_CORRUPT;
    }
    peers_register(js->ctx->peers, JS_PEER_TYPE_BIRTH, on_message, js);
    struct js_birth *b = js->birth;
    if (b->state != RECORD_NONE) {
        peers_announce_cluster_uuid(js->ctx->peers, b->cluster_uuid);
    }
    if (js->meta_group != NULL && b->state == RECORD_NONE) {
        /* The record is written first. Without it this node could not tell its cluster from another
         * one that took its place (js_recover.c). */
        log_err("The write-ahead log in %s knows the meta group of a cluster, and the birth record "
                "%s/" FILE_NAME " is missing, with its copy. A store of a node that ran without a "
                "cluster cannot join one either",
                js->dir, js->dir);
        return ERR_CORRUPT;
    }
    if (js->meta_group != NULL || b->state == RECORD_NONE) {
        return 0;
    }
    if (b->state == RECORD_BORN || b->state == RECORD_JOINED) {
        log_err(
            "This node belongs to a cluster, but the write-ahead log in %s does not know its meta "
            "group: this disk has lost data",
            js->dir);
        return ERR_CORRUPT;
    }
    return start_group(js, b);
}

void js_birth_close(struct js *js)
{
    free(js->birth);
    js->birth = NULL;
}
