/* The meta machine as items: what a checkpoint keeps and an image carries. */
#include <stdlib.h>
#include <xxhash.h>

#include "broker/json_fields.h"
#include "broker/meta_internal.h"
#include "storage/base/err.h"

#define COUNTER_MAX (UINT64_MAX / 2) /* Far from wrapping. */

static void print_stream_item(const struct meta_stream *s, struct buf *out)
{
    buf_printf(out,
               "{\"gid\":\"%llu\",\"sid\":\"%llu\",\"created\":%lld,\"version\":%llu,"
               "\"preferred\":\"%llu\",\"placed\":%llu,\"reported\":%llu",
               U64(s->gid), U64(s->sid), (long long)s->created_ns, U64(s->version),
               U64(s->preferred_node_id), U64(s->placed), U64(s->reported));
    meta_print_peers(out, "peers", s->peers, s->peers_count);
    meta_print_peers(out, "first", s->born, s->born_count);
    meta_print_peers(out, "old", s->old, s->old_count);
    buf_append_str(out, ",\"lost\":[");
    for (size_t i = 0; i < s->old_count; i++) {
        buf_append_str(out, i == 0 ? "" : ",");
        buf_append_str(out, s->old[i].is_lost ? "true" : "false");
    }
    buf_append_str(out, "],\"born\":");
    buf_append_str(out, s->born_json);
    buf_append_str(out, ",\"config\":");
    stream_config_print(&s->config, out);
    buf_append_u8(out, '}');
}

/* The value of @key as it is now; empty when it is gone. */
static void print_item(const struct meta *m, const char *key, struct buf *out)
{
    if (strncmp(key, "stream/", 7) == 0) {
        const struct meta_stream *s = meta_stream_find(m, slice_str(key + 7));
        if (s != NULL) {
            print_stream_item(s, out);
        }
    } else if (strncmp(key, "node/", 5) == 0) {
        const struct meta_node *n = meta_node_find(m, strtoull(key + 5, NULL, 10));
        if (n != NULL) {
            buf_printf(out, "{\"boot\":%llu,\"js\":%s,\"removed\":%s,\"raft\":\"%llu\"",
                       U64(n->boot_count), n->has_jetstream ? "true" : "false",
                       n->is_removed ? "true" : "false", U64(n->raft_id));
            if (n->tags.count > 0) {
                meta_print_tags(out, &n->tags);
            }
            buf_append_str(out, ",\"name\":");
            json_print_string(out, slice_str(n->name));
            buf_append_u8(out, '}');
        }
    } else {
        buf_printf(out, "{\"gid\":\"%llu\",\"raft_id\":\"%llu\",\"time\":%lld,\"index\":%llu",
                   U64(m->next_gid), U64(m->next_raft_id), (long long)m->time_ns,
                   U64(m->applied_index));
        if (m->version > 1) { /* As builds wrote it that knew no other. */
            buf_printf(out, ",\"version\":%u", m->version);
        }
        buf_append_u8(out, '}');
    }
}

static void emit(const struct meta *m, const char *key, meta_item_cb cb, void *arg)
{
    struct buf value = BUF_EMPTY;
    print_item(m, key, &value);
    cb(arg, slice_str(key), buf_slice(&value));
    buf_close(&value);
}

void meta_checkpoint(struct meta *m, meta_item_cb cb, void *arg)
{
    /* It holds the applied index, which every entry moves. */
    meta_mark_dirty(m, "counters", "");
    for (struct dirty_key *d = m->dirty; d != NULL; d = d->hh.next) {
        emit(m, d->key, cb, arg);
    }
    meta_dirty_clear(m);
}

void meta_checkpoint_all(struct meta *m, meta_item_cb cb, void *arg)
{
    struct buf key = BUF_EMPTY;
    emit(m, "counters", cb, arg);
    for (const struct meta_node *n = m->nodes; n != NULL; n = n->hh.next) {
        buf_clear(&key);
        buf_printf(&key, "node/%llu%c", U64(n->node_id), 0);
        emit(m, (const char *)key.ptr, cb, arg);
    }
    const struct meta_stream **list = meta_streams_sorted(m);
    for (size_t i = 0; i < meta_streams_count(m); i++) {
        buf_clear(&key);
        buf_printf(&key, "stream/%s%c", list[i]->config.name, 0);
        emit(m, (const char *)key.ptr, cb, arg);
    }
    free(list);
    buf_close(&key);
}

static size_t restore_peers(const json_t *v, const char *key, struct meta_peer *peers, size_t max)
{
    const json_t *list = json_object_get(v, key);
    size_t count = json_array_size(list) / 2;
    count = count > max ? max : count;
    for (size_t i = 0; i < count; i++) {
        peers[i] = (struct meta_peer){meta_id_of(json_array_get(list, 2 * i)),
                                      meta_id_of(json_array_get(list, 2 * i + 1)), false};
    }
    return count;
}

static int restore_stream(struct meta *m, struct slice name, const json_t *v)
{
    size_t count = json_array_size(json_object_get(v, "peers")) / 2;
    struct stream_config c;
    struct stream_config born;
    if (count == 0 || count > META_REPLICAS_MAX || meta_config_of(v, "born", &born) != 0) {
        return ERR_CORRUPT;
    }
    if (meta_config_of(v, "config", &c) != 0) {
        stream_config_close(&born);
        return ERR_CORRUPT;
    }
    struct meta_stream *s = xcalloc(1, sizeof *s);
    s->config = c;
    s->born_json = meta_config_json(&born);
    stream_config_close(&born);
    s->gid = meta_id_of(json_object_get(v, "gid"));
    s->sid = meta_id_of(json_object_get(v, "sid"));
    s->created_ns = json_integer_value(json_object_get(v, "created"));
    s->version = (uint64_t)json_integer_value(json_object_get(v, "version"));
    s->preferred_node_id = meta_id_of(json_object_get(v, "preferred"));
    s->placed = (uint64_t)json_integer_value(json_object_get(v, "placed"));
    s->reported = (uint64_t)json_integer_value(json_object_get(v, "reported"));
    s->peers_count = restore_peers(v, "peers", s->peers, META_REPLICAS_MAX);
    s->born_count = restore_peers(v, "first", s->born, META_REPLICAS_MAX);
    s->old_count = restore_peers(v, "old", s->old, META_OLD_MAX);
    for (size_t i = 0; i < s->old_count; i++) {
        s->old[i].is_lost = json_is_true(json_array_get(json_object_get(v, "lost"), i));
    }
    if (s->born_count == 0) { /* Written before placements could change. */
        memcpy(s->born, s->peers, sizeof s->born);
        s->born_count = s->peers_count;
    }
    bool is_new = meta_stream_find(m, name) == NULL && meta_stream_by_gid(m, s->gid) == NULL;
    if (!is_new || !slice_eq_str(name, c.name) || s->gid < META_GID_STREAM_MIN || s->sid == 0 ||
        !meta_are_peers_sound(s->peers, s->peers_count) ||
        !meta_are_peers_sound(s->born, s->born_count)) {
        meta_stream_free(s);
        return ERR_CORRUPT;
    }
    HASH_ADD_KEYPTR(hh, m->streams, s->config.name, strlen(s->config.name), s);
    HASH_ADD(hh_gid, m->by_gid, gid, sizeof s->gid, s);
    return 0;
}

static int restore_node(struct meta *m, struct slice id, const json_t *v)
{
    const json_t *name = json_object_get(v, "name");
    char *text = xslicedup(id);
    uint64_t node_id = strtoull(text, NULL, 10);
    free(text);
    struct tag_list tags;
    if (node_id == 0 || !json_is_string(name) || meta_node_find(m, node_id) != NULL ||
        meta_tags_of(json_object_get(v, "tags"), &tags) != 0) {
        return ERR_CORRUPT;
    }
    struct meta_node *n = xcalloc(1, sizeof *n);
    n->node_id = node_id;
    n->tags = tags;
    n->name = xstrndup(json_string_value(name), json_string_length(name));
    n->boot_count = (uint64_t)json_integer_value(json_object_get(v, "boot"));
    n->has_jetstream = json_is_true(json_object_get(v, "js"));
    n->is_removed = json_is_true(json_object_get(v, "removed"));
    n->raft_id = meta_id_of(json_object_get(v, "raft"));
    HASH_ADD(hh, m->nodes, node_id, sizeof n->node_id, n);
    return 0;
}

int meta_restore_item(struct meta *m, struct slice key, struct slice value)
{
    struct field_error error;
    if (value.len == 0) {
        return 0;
    }
    json_t *v = json_parse(value, &error);
    int rv = ERR_CORRUPT;
    if (!json_is_object(v)) {
        rv = ERR_CORRUPT;
    } else if (slice_has_prefix(key, SLICE_LIT("stream/"))) {
        rv = restore_stream(m, slice_from(key, 7), v);
    } else if (slice_has_prefix(key, SLICE_LIT("node/"))) {
        rv = restore_node(m, slice_from(key, 5), v);
    } else if (slice_eq_str(key, "counters")) {
        m->next_gid = meta_id_of(json_object_get(v, "gid"));
        m->next_raft_id = meta_id_of(json_object_get(v, "raft_id"));
        m->time_ns = json_integer_value(json_object_get(v, "time"));
        m->applied_index = (uint64_t)json_integer_value(json_object_get(v, "index"));
        json_int_t version = json_integer_value(json_object_get(v, "version"));
        m->version = version > 1 && version <= META_MACHINE_VERSION ? (unsigned)version : 1;
        rv = version > META_MACHINE_VERSION ? ERR_VERSION : 0;
    }
    json_decref(v);
    return rv;
}

static bool are_below(const struct meta_peer *peers, size_t count, uint64_t next_raft_id)
{
    for (size_t i = 0; i < count; i++) {
        if (peers[i].raft_id >= next_raft_id) {
            return false;
        }
    }
    return true;
}

int meta_restore_end(const struct meta *m)
{
    uint64_t next = m->next_raft_id;
    if (m->next_gid < META_GID_STREAM_MIN || m->next_gid > COUNTER_MAX || next == 0 ||
        next > COUNTER_MAX) {
        return ERR_CORRUPT;
    }
    for (const struct meta_stream *s = m->streams; s != NULL; s = s->hh.next) {
        if (s->gid >= m->next_gid || !are_below(s->peers, s->peers_count, next) ||
            !are_below(s->born, s->born_count, next) || !are_below(s->old, s->old_count, next)) {
            return ERR_CORRUPT;
        }
    }
    return 0;
}

/* Independent of the order in which items came: restored machines hash their items elsewhere. */
static void add_hash(void *arg, struct slice key, struct slice value)
{
    uint64_t *sum = arg;
    *sum += XXH3_64bits_withSeed(value.ptr, value.len, XXH3_64bits(key.ptr, key.len));
}

uint64_t meta_hash(struct meta *m)
{
    uint64_t sum = 0;
    meta_checkpoint_all(m, add_hash, &sum);
    return sum;
}
