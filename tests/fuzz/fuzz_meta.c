/* Any bytes as the meta group's log, and as items of its checkpoint. Two machines take or refuse
 * each entry alike, and a third restored from the checkpoint equals them. Input: a byte, then
 * entries: made, or any bytes; with an odd first byte keys and values in turn. */
#include "broker/meta.h"
#include "storage/base/err.h"
#include "tests/fuzz/fuzz.h"

static void on_stream(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                      uint64_t index)
{
    (void)index;
    (void)asker;
    require(s->gid >= META_GID_STREAM_MIN && s->config.name != NULL);
    require(s->peers_count >= 1 && s->peers_count <= META_REPLICAS_MAX);
    for (size_t i = 0; i < s->peers_count; i++) {
        require(s->peers[i].node_id != 0 && s->peers[i].raft_id != 0);
    }
    ++*(unsigned *)arg;
}

static void on_refused(void *arg, const char *type, const struct api_error *error,
                       const struct meta_asker *asker, uint64_t index)
{
    (void)asker;
    (void)index;
    require(type != NULL && error->err_code != 0);
    ++*(unsigned *)arg;
}

static void on_node(void *arg, const struct meta_node *n)
{
    require(n->node_id != 0 && n->name != NULL);
    ++*(unsigned *)arg;
}

static void on_removed(void *arg, const struct meta_node *n, const struct meta_asker *asker,
                       uint64_t index)
{
    (void)asker;
    (void)index;
    on_node(arg, n);
}

static struct meta *new_meta(unsigned *events)
{
    struct meta_events e = {.created = on_stream,
                            .repeated = on_stream,
                            .updated = on_stream,
                            .placed = on_stream,
                            .deleted = on_stream,
                            .refused = on_refused,
                            .node_changed = on_node,
                            .node_removed = on_removed,
                            .arg = events};
    return meta_new(&e);
}

static void put(void *arg, struct slice key, struct slice value)
{
    require(value.len > 0);
    require(meta_restore_item(arg, key, value) == 0);
}

static void look(const struct meta *m)
{
    const struct meta_stream **list = meta_streams_sorted(m);
    for (size_t i = 0; i < meta_streams_count(m); i++) {
        const struct meta_stream *s = list[i];
        require(meta_stream_find(m, slice_str(s->config.name)) == s);
        require(meta_stream_by_gid(m, s->gid) == s);
        require(!meta_is_gone(m, s->gid) && s->gid < meta_next_gid(m));
        require(i == 0 || strcmp(list[i - 1]->config.name, s->config.name) < 0);
    }
    free(list);
}

static void restore_equal(struct meta *m)
{
    unsigned events = 0;
    struct meta *copy = new_meta(&events);
    meta_checkpoint_all(m, put, copy);
    require(meta_restore_end(copy) == 0);
    require(meta_applied(copy) == meta_applied(m));
    require(meta_streams_count(copy) == meta_streams_count(m));
    require(meta_hash(copy) == meta_hash(m));
    look(copy);
    meta_free(copy);
}

/* An entry as a leader makes it, or JSON with any member in it, or any bytes. */
static void make_entry(struct reader *r, struct buf *out)
{
    static const char *const names[] = {"S", "T", "U", "a.b", "", "\xc3"};
    static const char *const subjects[] = {"a.>", "a.b", "*.c", "d", "..", ""};
    uint8_t op = reader_u8(r);
    struct meta_asker asker = {op, op & 16 ? SLICE_LIT("_INBOX.x") : SLICE_EMPTY};
    struct slice name = slice_str(names[(op >> 5) % 6]);
    struct stream_config c;
    uint64_t nodes[META_REPLICAS_MAX + 2];
    size_t count;
    buf_clear(out);
    stream_config_init(&c);
    c.name = xslicedup(name);
    c.subjects = xcalloc(1, sizeof *c.subjects);
    c.subjects[0] = xslicedup(slice_str(subjects[reader_u8(r) % 6]));
    c.subjects_count = 1;
    count = op % 8 == 0 || op % 8 >= 5 ? 0 : reader_u8(r) % 7;
    for (size_t i = 0; i < count; i++) {
        nodes[i] = script_number(r);
    }
    switch (op % 8) {
    case 0: {
        struct meta_node node = {.node_id = script_number(r),
                                 .name = c.name,
                                 .boot_count = script_number(r),
                                 .has_jetstream = (op & 16) != 0,
                                 .raft_id = script_number(r)};
        for (unsigned i = reader_u8(r) % 3; i > 0; i--) {
            (void)tags_add(&node.tags, script_bytes(r));
        }
        meta_encode_node(out, op, 1 + (op >> 7), &node, (op & 8) != 0 ? script_number(r) : 0);
        tags_close(&node.tags);
        break;
    }
    case 1:
    case 2:
        c.max_msgs = (int64_t)script_number(r);
        c.placement.cluster = (c.max_msgs & 1) != 0 ? xslicedup(name) : NULL;
        meta_encode_create(out, op, &c, nodes, count, &asker);
        break;
    case 3:
        c.max_msgs = (int64_t)script_number(r);
        meta_encode_update(out, op, &c, nodes, count, &asker);
        break;
    case 4:
        if ((op & 8) != 0) {
            meta_encode_place(out, op, name, nodes, count, &asker);
        } else if (count < 6) {
            meta_encode_delete(out, op, name, &asker);
        } else {
            meta_encode_lost(out, op, META_GID_STREAM_MIN + nodes[0], nodes[1]);
        }
        break;
    case 6: {
        struct meta_peer members[4];
        uint64_t placed = script_number(r);
        uint64_t conf = script_number(r);
        for (size_t i = 0; i < 4; i++) {
            members[i] = (struct meta_peer){script_number(r), script_number(r), false};
        }
        meta_encode_members(out, op, META_GID_STREAM_MIN + (op >> 5), placed, conf, members,
                            op / 8u % 5);
        break;
    }
    case 5: { /* One more member, which wins over a former one of its name. */
        struct slice member = script_bytes(r);
        meta_encode_update(out, op, &c, NULL, 0, &asker);
        out->len--;
        buf_append_u8(out, ',');
        buf_append_slice(out, member);
        buf_append_u8(out, '}');
        break;
    }
    default:
        buf_append_slice(out, script_long_bytes(r));
        break;
    }
    stream_config_close(&c);
}

static void log_of(struct reader *r)
{
    unsigned events[2] = {0, 0};
    struct meta *a = new_meta(&events[0]);
    struct meta *b = new_meta(&events[1]);
    struct buf bytes = BUF_EMPTY;
    for (uint64_t index = 1; !script_is_over(r); index++) {
        make_entry(r, &bytes);
        struct slice entry = buf_slice(&bytes);
        int rv = meta_apply(a, index, entry);
        require(rv == 0 || rv == ERR_CORRUPT || rv == ERR_VERSION);
        require(meta_apply(b, index, entry) == rv);
        require(events[0] == events[1]);
        if (rv != 0) {
            continue; /* A replica stops here; nothing may have changed. */
        }
        require(meta_hash(a) == meta_hash(b));
    }
    look(a);
    restore_equal(a);
    buf_close(&bytes);
    meta_free(a);
    meta_free(b);
}

static void checkpoint_of(struct reader *r)
{
    unsigned events = 0;
    struct meta *m = new_meta(&events);
    int rv = 0;
    while (rv == 0 && !script_is_over(r)) {
        struct slice key = script_bytes(r);
        rv = meta_restore_item(m, key, script_long_bytes(r));
    }
    rv = rv == 0 ? meta_restore_end(m) : rv;
    require(rv == 0 || rv == ERR_CORRUPT);
    if (rv == 0) {
        look(m);
        restore_equal(m);
        (void)meta_apply(m, meta_applied(m) + 1,
                         SLICE_LIT("{\"v\":1,\"op\":\"create\",\"nodes\":[\"1\"],\"config\":"
                                   "{\"name\":\"Z\",\"subjects\":[\"zz.>\"]}}"));
        look(m);
    }
    meta_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(slice_of(data, size));
    if (reader_u8(&r) % 2 == 0) {
        log_of(&r);
    } else {
        checkpoint_of(&r);
    }
    return 0;
}
