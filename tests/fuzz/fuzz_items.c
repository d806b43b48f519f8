/* Items from another node, as js_batch.c takes them: any bytes, and items of every kind whose
 * fields say anything, at a whole node that runs JetStream alone: it leads the meta group and a
 * stream with a consumer, over a disk in memory, a loop that is turned by hand, and a log that is
 * written at once. What its clients are told fits on a line of their protocol.
 *
 * js_batch.c is compiled in here. */
#include "storage/file_ops.h"
#include "storage/wal_thread.h"
#include "tests/fuzz/fake_node.h"
#include "tests/fuzz/mem_disk.h"

#include "cluster/js_batch.c"

#include "cluster/http.h"
#include "cluster/js.h"
#include "cluster/monitor.h"
#include "cluster/node_options.h"

#define STEPS_MAX 64u
#define PEER 2u

const struct file_ops *file_ops_posix(void)
{
    return mem_disk_ops();
}

/* ---- The log's thread, without a thread ---- */

struct wal_thread {
    struct wal_thread_options o;
};

int wal_thread_start(const struct wal_thread_options *options, struct wal_thread **ret_thread)
{
    struct wal_thread *t = xcalloc(1, sizeof *t);
    t->o = *options;
    *ret_thread = t;
    return 0;
}

void wal_thread_stop(struct wal_thread *t)
{
    free(t);
}

uint64_t wal_thread_append(struct wal_thread *t, uint8_t type, uint64_t gid,
                           const struct slice *parts, unsigned parts_count)
{
    return wal_append(t->o.wal, type, gid, parts, parts_count);
}

struct wal *wal_thread_lock(struct wal_thread *t)
{
    return t->o.wal;
}

void wal_thread_unlock(struct wal_thread *t)
{
    (void)t;
}

void wal_thread_kick(struct wal_thread *t)
{
    const char *path;
    bool is_any = false;
    while (wal_batch_take(t->o.wal)) {
        require(wal_batch_write(t->o.wal, &path) == 0);
        wal_batch_done(t->o.wal);
        is_any = true;
    }
    if (is_any) {
        t->o.durable(t->o.arg);
    }
}

uint64_t wal_thread_durable_lsn(const struct wal_thread *t)
{
    return wal_durable_lsn(t->o.wal);
}

uint64_t wal_thread_stuck_ms(const struct wal_thread *t)
{
    (void)t;
    return 0;
}

void wal_thread_syncs(const struct wal_thread *t, uint64_t ret_counts[WAL_SYNC_BUCKETS])
{
    (void)t;
    memset(ret_counts, 0, WAL_SYNC_BUCKETS * sizeof *ret_counts);
}

/* ---- The node ---- */

struct world {
    struct node_context ctx;
    struct node_options options;
    struct monitor *monitor;
    struct js *js;
    struct router_internal *sub;
};

static bool is_word(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == ' ' || s.ptr[i] == '\t' || s.ptr[i] == '\r' || s.ptr[i] == '\n') {
            return false;
        }
    }
    return true;
}

static void on_message(void *arg, const struct router_msg *msg, const struct router_origin *origin)
{
    (void)arg;
    (void)origin;
    require(msg->subject.len > 0 && is_word(msg->subject));
    require(is_word(msg->reply) && is_word(msg->shown));
}

static void turns(struct world *w, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        fake_loop_turn(w->ctx.loop, 20);
    }
}

static void ask(struct world *w, const char *subject, const char *body)
{
    (void)router_send(w->ctx.router, slice_str(subject), SLICE_LIT("_INBOX.1"), SLICE_EMPTY,
                      slice_str(body));
    turns(w, 4);
}

static void world_open(struct world *w)
{
    *w = (struct world){.ctx = {.cluster_name = "", .server_name = "me", .node_id = 1}};
    fake_random_reset();
    w->options = (struct node_options){.has_jetstream = true,
                                       .store_dir = (char *)"d",
                                       .max_memory_bytes = -1,
                                       .max_file_bytes = -1,
                                       .max_payload = 1 << 20};
    w->ctx.options = &w->options;
    w->ctx.uuid[0] = 1;
    w->ctx.boot_count = 1;
    w->ctx.loop = loop_new();
    w->ctx.router = router_new(1);
    w->ctx.http = http_new(&w->ctx);
    w->monitor = monitor_new(&w->ctx);
    require(js_start(&w->ctx, w->monitor, &w->js) == 0);
    require(router_subscribe_internal(w->ctx.router, SLICE_LIT(">"), SLICE_EMPTY, false, on_message,
                                      w, &w->sub) == 0);
    for (int i = 0; i < 200 && !w->js->is_meta_leader; i++) {
        turns(w, 1);
    }
    require(w->js->is_meta_leader);
    ask(w, "$JS.API.STREAM.CREATE.S", "{\"name\":\"S\",\"subjects\":[\"s.>\"]}");
    ask(w, "$JS.API.CONSUMER.CREATE.S.c",
        "{\"stream_name\":\"S\",\"config\":{\"name\":\"c\",\"durable_name\":\"c\","
        "\"ack_policy\":\"explicit\"}}");
    (void)router_send(w->ctx.router, SLICE_LIT("s.a"), SLICE_LIT("_INBOX.2"), SLICE_EMPTY,
                      SLICE_LIT("hello"));
    turns(w, 3);
    struct js_stream *st = js_stream_find(w->js, META_GID_STREAM_MIN);
    require(st != NULL && st->is_led);
}

static void world_close(struct world *w)
{
    js_stop(w->js);
    js_free(w->js);
    router_unsubscribe_internal(w->sub);
    monitor_free(w->monitor);
    http_free(w->ctx.http);
    router_free(w->ctx.router);
    loop_free(w->ctx.loop);
    mem_disk_clear();
}

/* ---- Items ---- */

static struct slice name_of(struct reader *r)
{
    static const char *const names[] = {"s.a",
                                        "s.b.c",
                                        "_INBOX.1",
                                        "",
                                        "a b",
                                        "s.a\r\nPING\r\n",
                                        "s.*",
                                        "x",
                                        "$JS.API.INFO",
                                        "$JS.API.STREAM.CREATE.T",
                                        "$JS.API.STREAM.UPDATE.S",
                                        "$JS.API.STREAM.DELETE.S",
                                        "$JS.API.STREAM.NAMES",
                                        "$JS.API.STREAM.LIST",
                                        "$JS.API.STREAM.INFO.S",
                                        "$JS.API.STREAM.PURGE.S",
                                        "$JS.API.STREAM.MSG.GET.S",
                                        "$JS.API.STREAM.MSG.DELETE.S",
                                        "$JS.API.CONSUMER.CREATE.S",
                                        "$JS.API.CONSUMER.CREATE.S.d",
                                        "$JS.API.CONSUMER.CREATE.S.e.s.a",
                                        "$JS.API.CONSUMER.DURABLE.CREATE.S.f",
                                        "$JS.API.CONSUMER.NAMES.S",
                                        "$JS.API.CONSUMER.LIST.S",
                                        "$JS.API.CONSUMER.INFO.S.c",
                                        "$JS.API.CONSUMER.DELETE.S.c",
                                        "$JS.API.CONSUMER.MSG.NEXT.S.c",
                                        "$JS.API.DIRECT.GET.S",
                                        "$JS.API.DIRECT.GET.S.s.a",
                                        "$JS.API.WEIR.INFO.S",
                                        "$JS.API.STREAM.LEADER.STEPDOWN.S",
                                        "$JS.API.META.LEADER.STEPDOWN",
                                        "$JS.API.STREAM.PEER.REMOVE.S",
                                        "$JS.API.SERVER.REMOVE",
                                        "$JS.ACK.S.c.1.1.1.1.0",
                                        "$JS.ACK.S.c.1.9.9.9.9",
                                        "$JS.ACK.S.x.1.1.1.1.1"};
    uint8_t b = reader_u8(r);
    return b >= 240 ? script_bytes(r) : slice_str(names[b % (sizeof names / sizeof(char *))]);
}

static struct slice body_of(struct reader *r)
{
    static const char *const bodies[] = {
        "",
        "{}",
        "{\"name\":\"T\",\"subjects\":[\"t\"]}",
        "{\"name\":\"S\",\"max_msgs\":1}",
        "{\"batch\":3,\"expires\":100000000}",
        "{\"batch\":1,\"no_wait\":true}",
        "{\"seq\":1}",
        "{\"last_by_subj\":\"s.a\"}",
        "{\"filter\":\"s.a\"}",
        "{\"keep\":1}",
        "{\"stream_name\":\"S\",\"config\":{\"name\":\"d\",\"durable_name\":\"d\"}}",
        "{\"stream_name\":\"S\",\"config\":{\"filter_subject\":\"s.a\"}}",
        "+ACK",
        "-NAK",
        "+WPI",
        "+TERM x",
        "+NXT 2",
        "{\"peer\":\"x\"}",
        "{\"placement\":{\"cluster\":\"x\"}}"};
    uint8_t b = reader_u8(r);
    return b >= 224 ? script_long_bytes(r)
                    : slice_str(bodies[b % (sizeof bodies / sizeof(char *))]);
}

static struct slice header_of(struct reader *r)
{
    static const char *const headers[] = {"",
                                          "",
                                          "",
                                          "NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n",
                                          "NATS/1.0\r\nNats-Expected-Last-Sequence: 1\r\n\r\n",
                                          "NATS/1.0\r\nNats-Rollup: sub\r\n\r\n",
                                          "NATS/1.0 100 Idle\r\n\r\n"};
    uint8_t b = reader_u8(r);
    return b >= 240 ? script_bytes(r) : slice_str(headers[b % (sizeof headers / sizeof(char *))]);
}

static uint64_t gid_of(struct reader *r)
{
    uint8_t b = reader_u8(r);
    return b >= 224 ? script_number(r) : META_GID_STREAM_MIN + b % 2;
}

static void put_message(struct reader *r, struct buf *b)
{
    js_batch_put_slice(b, name_of(r));
    js_batch_put_slice(b, name_of(r));
    js_batch_put_slice(b, header_of(r));
    js_batch_put_slice(b, body_of(r));
}

static void put_fields(struct world *w, struct reader *r, uint8_t type, struct buf *b)
{
    switch (type) {
    case JS_ITEM_PUBLISH:
        buf_append_u64(b, gid_of(r));
        buf_append_u64(b, 1 + reader_u8(r) % 3);
        buf_append_u64(b, script_number(r));
        js_batch_put_slice(b, name_of(r));
        js_batch_put_slice(b, header_of(r));
        js_batch_put_slice(b, body_of(r));
        break;
    case JS_ITEM_ANSWER:
        buf_append_u64(b, gid_of(r));
        buf_append_u64(b, reader_u8(r) % 8 == 7 ? script_number(r) : w->js->origin);
        buf_append_u64(b, script_number(r));
        buf_append_u64(b, script_number(r));
        buf_append_u32(b, (uint32_t)script_number(r));
        buf_append_u8(b, reader_u8(r));
        buf_append_u64(b, script_number(r));
        js_batch_put_slice(b, script_bytes(r));
        break;
    case JS_ITEM_LEADER:
        buf_append_u64(b, gid_of(r));
        buf_append_u64(b, script_number(r));
        break;
    case JS_ITEM_API:
        buf_append_u64(b, reader_u8(r) % 4);
        buf_append_u8(b, reader_u8(r) % 6);
        put_message(r, b);
        break;
    case JS_ITEM_REPLY:
        buf_append_u64(b, script_number(r));
        js_batch_put_slice(b, name_of(r));
        js_batch_put_slice(b, header_of(r));
        js_batch_put_slice(b, body_of(r));
        break;
    case JS_ITEM_ACK:
        buf_append_u64(b, gid_of(r));
        put_message(r, b);
        break;
    case JS_ITEM_DELIVER:
        js_batch_put_slice(b, name_of(r));
        put_message(r, b);
        break;
    case JS_ITEM_DIGEST:
        buf_append_u64(b, gid_of(r));
        buf_append_u64(b, script_number(r));
        buf_append_u32(b, reader_u8(r) % 3);
        buf_append_u64(b, script_number(r));
        break;
    default:
        buf_append_slice(b, script_bytes(r));
        break;
    }
}

static void put_item(struct world *w, struct reader *r, struct buf *out)
{
    uint8_t type = reader_u8(r) % 10;
    uint8_t how = reader_u8(r);
    buf_append_u8(out, type);
    size_t at = out->len;
    buf_append_u32(out, 0);
    put_fields(w, r, type, out);
    size_t len = out->len - at - 4;
    if (how % 16 == 15) { /* Cut off. */
        len = reader_u8(r) % (len + 1);
        out->len = at + 4 + len;
    }
    uint32_t told = how % 16 == 14 ? (uint32_t)script_number(r) : (uint32_t)len;
    memcpy(out->ptr + at, &told, 4);
}

static void step(struct world *w, struct reader *r)
{
    uint8_t op = reader_u8(r);
    struct js *js = w->js;
    struct buf items = BUF_EMPTY;
    switch (op % 8) {
    case 0:
        turns(w, 1 + op / 64u);
        break;
    case 1:
        (void)on_batch(js, PEER + op / 128u, script_long_bytes(r));
        break;
    case 2: { /* A publish of this node's own, which items may answer. */
        struct slice subject = op & 16 ? SLICE_LIT("s.a") : SLICE_LIT("s.b");
        (void)router_send(w->ctx.router, subject, SLICE_LIT("_INBOX.3"), SLICE_EMPTY,
                          SLICE_LIT("own"));
        break;
    }
    case 3:
        if (op & 16) {
            js_lane_peer_down(js, PEER);
        } else {
            js_lane_peer_up(js, PEER);
        }
        break;
    default:
        for (unsigned i = 0; i < 1u + op / 32u % 4; i++) {
            put_item(w, r, &items);
        }
        (void)on_batch(js, PEER + op / 128u, buf_slice(&items));
        break;
    }
    buf_close(&items);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(slice_of(data, size));
    struct world w;
    world_open(&w);
    for (unsigned i = 0; i < STEPS_MAX && !script_is_over(&r); i++) {
        step(&w, &r);
    }
    turns(&w, 4);
    for (struct js_stream *st = w.js->streams; st != NULL; st = st->hh.next) {
        require(st->state == JS_STREAM_OK);
        stream_check(st->machine);
    }
    world_close(&w);
    return 0;
}
