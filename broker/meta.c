#include "broker/meta.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <xxhash.h>

#include "broker/json_fields.h"
#include "broker/subject.h"
#include "storage/base/err.h"

#define U64(v) ((unsigned long long)(v))

/* A key whose item changed since the last checkpoint. */
struct dirty_key {
    char *key;
    UT_hash_handle hh;
};

struct meta {
    struct meta_events events;
    struct meta_stream *streams;
    struct meta_stream *by_gid;
    struct meta_node *nodes;
    struct dirty_key *dirty;
    uint64_t applied_index;
    int64_t time_ns;
    uint64_t next_gid;
    uint64_t next_raft_id;
};

struct meta *meta_new(const struct meta_events *events)
{
    struct meta *m = xcalloc(1, sizeof *m);
    m->events = *events;
    m->next_gid = META_GID_STREAM_MIN;
    m->next_raft_id = 1000;
    return m;
}

static void stream_free(struct meta_stream *s)
{
    stream_config_close(&s->config);
    free(s->born_json);
    free(s);
}

static void dirty_clear(struct meta *m)
{
    struct dirty_key *d;
    struct dirty_key *next;
    HASH_ITER(hh, m->dirty, d, next)
    {
        HASH_DEL(m->dirty, d);
        free(d->key);
        free(d);
    }
}

void meta_free(struct meta *m)
{
    if (m == NULL) {
        return;
    }
    struct meta_stream *s;
    struct meta_stream *next_stream;
    HASH_ITER(hh, m->streams, s, next_stream)
    {
        HASH_DEL(m->streams, s);
        HASH_DELETE(hh_gid, m->by_gid, s);
        stream_free(s);
    }
    struct meta_node *n;
    struct meta_node *next_node;
    HASH_ITER(hh, m->nodes, n, next_node)
    {
        HASH_DEL(m->nodes, n);
        free(n->name);
        free(n);
    }
    dirty_clear(m);
    free(m);
}

static void mark_dirty(struct meta *m, const char *prefix, const char *rest)
{
    struct buf key = BUF_EMPTY;
    buf_printf(&key, "%s%s", prefix, rest);
    struct dirty_key *d;
    HASH_FIND(hh, m->dirty, key.ptr, key.len, d);
    if (d == NULL) {
        d = xcalloc(1, sizeof *d);
        d->key = xslicedup(buf_slice(&key));
        HASH_ADD_KEYPTR(hh, m->dirty, d->key, key.len, d);
    }
    buf_close(&key);
}

static void mark_node_dirty(struct meta *m, uint64_t node_id)
{
    char id[24];
    snprintf(id, sizeof id, "%llu", U64(node_id));
    mark_dirty(m, "node/", id);
}

/* ---- Looking ---- */

uint64_t meta_applied(const struct meta *m)
{
    return m->applied_index;
}

const struct meta_stream *meta_stream_find(const struct meta *m, struct slice name)
{
    struct meta_stream *s = NULL;
    if (name.len > 0) {
        HASH_FIND(hh, m->streams, name.ptr, name.len, s);
    }
    return s;
}

const struct meta_stream *meta_stream_by_gid(const struct meta *m, uint64_t gid)
{
    struct meta_stream *s;
    HASH_FIND(hh_gid, m->by_gid, &gid, sizeof gid, s);
    return s;
}

bool meta_is_gone(const struct meta *m, uint64_t gid)
{
    return gid >= META_GID_STREAM_MIN && gid < m->next_gid && meta_stream_by_gid(m, gid) == NULL;
}

uint64_t meta_next_gid(const struct meta *m)
{
    return m->next_gid;
}

size_t meta_streams_count(const struct meta *m)
{
    return HASH_COUNT(m->streams);
}

static int by_name(const void *a, const void *b)
{
    const struct meta_stream *const *x = a;
    const struct meta_stream *const *y = b;
    return strcmp((*x)->config.name, (*y)->config.name);
}

const struct meta_stream **meta_streams_sorted(const struct meta *m)
{
    size_t count = meta_streams_count(m);
    const struct meta_stream **list = xcalloc(count, sizeof(struct meta_stream *));
    size_t i = 0;
    for (const struct meta_stream *s = m->streams; s != NULL; s = s->hh.next) {
        list[i++] = s;
    }
    if (count > 1) {
        qsort(list, count, sizeof(struct meta_stream *), by_name);
    }
    return list;
}

const struct meta_node *meta_node_find(const struct meta *m, uint64_t node_id)
{
    struct meta_node *n;
    HASH_FIND(hh, m->nodes, &node_id, sizeof node_id, n);
    return n;
}

const struct meta_node *meta_nodes(const struct meta *m)
{
    return m->nodes;
}

bool meta_subjects_overlap(const struct meta *m, const struct stream_config *config)
{
    for (const struct meta_stream *s = m->streams; s != NULL; s = s->hh.next) {
        if (strcmp(s->config.name, config->name) == 0) {
            continue;
        }
        for (size_t i = 0; i < config->subjects_count; i++) {
            for (size_t k = 0; k < s->config.subjects_count; k++) {
                if (subject_overlaps(slice_str(config->subjects[i]),
                                     slice_str(s->config.subjects[k]))) {
                    return true;
                }
            }
        }
    }
    return false;
}

struct candidate {
    uint64_t node_id;
    size_t replicas;
    size_t leaders;
};

static int by_load(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;
    if (x->replicas != y->replicas) {
        return x->replicas < y->replicas ? -1 : 1;
    }
    if (x->leaders != y->leaders) {
        return x->leaders < y->leaders ? -1 : 1;
    }
    return (x->node_id > y->node_id) - (x->node_id < y->node_id);
}

int meta_place(const struct meta *m, const uint64_t *candidates, size_t candidates_count,
               size_t count, uint64_t *ret_node_ids)
{
    if (count == 0 || candidates_count < count) {
        return ERR_FULL;
    }
    struct candidate *list = xcalloc(candidates_count, sizeof *list);
    for (size_t i = 0; i < candidates_count; i++) {
        list[i].node_id = candidates[i];
        for (const struct meta_stream *s = m->streams; s != NULL; s = s->hh.next) {
            for (size_t k = 0; k < s->peers_count; k++) {
                list[i].replicas += s->peers[k].node_id == candidates[i];
            }
            list[i].leaders += s->preferred_node_id == candidates[i];
        }
    }
    qsort(list, candidates_count, sizeof *list, by_load);
    /* Among the chosen the one with the fewest leaders leads. */
    size_t first = 0;
    for (size_t i = 1; i < count; i++) {
        first = list[i].leaders < list[first].leaders ? i : first;
    }
    ret_node_ids[0] = list[first].node_id;
    for (size_t i = 0, at = 1; i < count; i++) {
        if (i != first) {
            ret_node_ids[at++] = list[i].node_id;
        }
    }
    free(list);
    return 0;
}

/* ---- Encoding ---- */

static void encode_begin(struct buf *out, int64_t time_ns, const char *op)
{
    buf_printf(out, "{\"v\":%d,\"t\":%lld,\"op\":\"%s\"", META_MACHINE_VERSION, (long long)time_ns,
               op);
}

static void encode_asker(struct buf *out, const struct meta_asker *asker)
{
    if (asker != NULL && asker->inbox.len > 0) {
        buf_printf(out, ",\"asker\":\"%llu\",\"inbox\":", U64(asker->node_id));
        json_print_string(out, asker->inbox);
    }
    buf_append_u8(out, '}');
}

void meta_encode_node(struct buf *out, int64_t time_ns, uint64_t node_id, struct slice name,
                      uint64_t boot_count, bool has_jetstream)
{
    encode_begin(out, time_ns, "node");
    buf_printf(out, ",\"node\":\"%llu\",\"boot\":%llu,\"js\":%s,\"name\":", U64(node_id),
               U64(boot_count), has_jetstream ? "true" : "false");
    json_print_string(out, name);
    buf_append_u8(out, '}');
}

void meta_encode_create(struct buf *out, int64_t time_ns, const struct stream_config *config,
                        const uint64_t *node_ids, size_t nodes_count,
                        const struct meta_asker *asker)
{
    encode_begin(out, time_ns, "create");
    for (size_t i = 0; i < nodes_count; i++) {
        buf_printf(out, "%s\"%llu\"", i == 0 ? ",\"nodes\":[" : ",", U64(node_ids[i]));
    }
    buf_append_str(out, nodes_count == 0 ? ",\"nodes\":[],\"config\":" : "],\"config\":");
    stream_config_print(config, out);
    encode_asker(out, asker);
}

void meta_encode_update(struct buf *out, int64_t time_ns, const struct stream_config *config,
                        const struct meta_asker *asker)
{
    encode_begin(out, time_ns, "update");
    buf_append_str(out, ",\"config\":");
    stream_config_print(config, out);
    encode_asker(out, asker);
}

void meta_encode_delete(struct buf *out, int64_t time_ns, struct slice name,
                        const struct meta_asker *asker)
{
    encode_begin(out, time_ns, "delete");
    buf_append_str(out, ",\"name\":");
    json_print_string(out, name);
    encode_asker(out, asker);
}

/* ---- Applying ---- */

static char *config_json(const struct stream_config *c)
{
    struct buf b = BUF_EMPTY;
    stream_config_print(c, &b);
    char *text = xslicedup(buf_slice(&b));
    buf_close(&b);
    return text;
}

/* 64-bit ids are strings: JSON integers end at 2^63 for our parser. 0 is no id. */
static uint64_t member_id(const json_t *v)
{
    const char *text = json_string_value(v);
    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

static int member_config(const json_t *entry, const char *key, struct stream_config *ret_config)
{
    char *text = json_dumps(json_object_get(entry, key), JSON_COMPACT);
    if (text == NULL) {
        return ERR_CORRUPT;
    }
    int rv = stream_config_parse(ret_config, slice_str(text));
    free(text);
    return rv == 0 ? 0 : ERR_CORRUPT;
}

static int apply_node(struct meta *m, const json_t *entry)
{
    uint64_t node_id = member_id(json_object_get(entry, "node"));
    const json_t *name = json_object_get(entry, "name");
    if (node_id == 0 || !json_is_string(name)) {
        return ERR_CORRUPT;
    }
    struct meta_node *n;
    HASH_FIND(hh, m->nodes, &node_id, sizeof node_id, n);
    if (n == NULL) {
        n = xcalloc(1, sizeof *n);
        n->node_id = node_id;
        HASH_ADD(hh, m->nodes, node_id, sizeof n->node_id, n);
    }
    free(n->name);
    n->name = xstrndup(json_string_value(name), json_string_length(name));
    uint64_t boot = (uint64_t)json_integer_value(json_object_get(entry, "boot"));
    n->boot_count = boot > n->boot_count ? boot : n->boot_count;
    n->has_jetstream = json_is_true(json_object_get(entry, "js"));
    mark_node_dirty(m, node_id);
    m->events.node_changed(m->events.arg, n);
    return 0;
}

static int apply_create(struct meta *m, uint64_t index, const json_t *entry,
                        const struct meta_asker *asker)
{
    static const char type[] = "stream_create_response";
    struct stream_config c;
    const json_t *nodes = json_object_get(entry, "nodes");
    size_t count = json_array_size(nodes);
    if (count == 0 || count > META_REPLICAS_MAX || member_config(entry, "config", &c) != 0) {
        return ERR_CORRUPT;
    }
    struct api_error error = {0};
    const struct meta_stream *old = meta_stream_find(m, slice_str(c.name));
    if (old != NULL && stream_config_eq(&old->config, &c)) {
        m->events.repeated(m->events.arg, old, asker, index);
        stream_config_close(&c);
        return 0;
    }
    if (old != NULL) {
        api_error_set(&error, API_ERROR_STREAM_NAME_EXIST, NULL);
    } else if (meta_subjects_overlap(m, &c)) {
        api_error_set(&error, API_ERROR_STREAM_SUBJECT_OVERLAP, NULL);
    }
    if (error.err_code != 0) {
        m->events.refused(m->events.arg, type, &error, asker, index);
        stream_config_close(&c);
        return 0;
    }
    struct meta_stream *s = xcalloc(1, sizeof *s);
    s->config = c;
    s->born_json = config_json(&c);
    s->gid = m->next_gid++;
    s->sid = s->gid;
    s->created_ns = m->time_ns;
    s->version = index;
    s->peers_count = count;
    for (size_t i = 0; i < count; i++) {
        s->peers[i].node_id = member_id(json_array_get(nodes, i));
        s->peers[i].raft_id = m->next_raft_id++;
    }
    s->preferred_node_id = s->peers[0].node_id;
    HASH_ADD_KEYPTR(hh, m->streams, s->config.name, strlen(s->config.name), s);
    HASH_ADD(hh_gid, m->by_gid, gid, sizeof s->gid, s);
    mark_dirty(m, "stream/", s->config.name);
    mark_dirty(m, "counters", "");
    m->events.created(m->events.arg, s, asker, index);
    return 0;
}

static int apply_update(struct meta *m, uint64_t index, const json_t *entry,
                        const struct meta_asker *asker)
{
    static const char type[] = "stream_update_response";
    struct stream_config c;
    if (member_config(entry, "config", &c) != 0) {
        return ERR_CORRUPT;
    }
    struct api_error error = {0};
    struct meta_stream *s;
    HASH_FIND(hh, m->streams, c.name, strlen(c.name), s);
    if (s == NULL) {
        api_error_set(&error, API_ERROR_STREAM_NOT_FOUND, NULL);
    } else if (meta_subjects_overlap(m, &c)) {
        api_error_set(&error, API_ERROR_STREAM_SUBJECT_OVERLAP, NULL);
    }
    if (error.err_code != 0) {
        m->events.refused(m->events.arg, type, &error, asker, index);
        stream_config_close(&c);
        return 0;
    }
    /* The hash key is the old name's bytes: add the stream again under the new, equal ones. */
    HASH_DEL(m->streams, s);
    stream_config_close(&s->config);
    s->config = c;
    s->version = index;
    HASH_ADD_KEYPTR(hh, m->streams, s->config.name, strlen(s->config.name), s);
    mark_dirty(m, "stream/", s->config.name);
    m->events.updated(m->events.arg, s, asker, index);
    return 0;
}

static int apply_delete(struct meta *m, uint64_t index, const json_t *entry,
                        const struct meta_asker *asker)
{
    const json_t *name = json_object_get(entry, "name");
    struct meta_stream *s = NULL;
    if (!json_is_string(name)) {
        return ERR_CORRUPT;
    }
    HASH_FIND(hh, m->streams, json_string_value(name), json_string_length(name), s);
    if (s == NULL) {
        struct api_error error;
        api_error_set(&error, API_ERROR_STREAM_NOT_FOUND, NULL);
        m->events.refused(m->events.arg, "stream_delete_response", &error, asker, index);
        return 0;
    }
    HASH_DEL(m->streams, s);
    HASH_DELETE(hh_gid, m->by_gid, s);
    mark_dirty(m, "stream/", s->config.name);
    m->events.deleted(m->events.arg, s, asker, index);
    stream_free(s);
    return 0;
}

int meta_apply(struct meta *m, uint64_t index, struct slice entry)
{
    assert(index > m->applied_index);
    struct field_error error;
    json_t *v = json_parse(entry, &error);
    const char *op = json_string_value(json_object_get(v, "op"));
    int rv = ERR_CORRUPT;
    if (json_integer_value(json_object_get(v, "v")) > META_MACHINE_VERSION) {
        rv = ERR_VERSION;
    } else if (op != NULL) {
        int64_t t = json_integer_value(json_object_get(v, "t"));
        m->time_ns = t > m->time_ns ? t : m->time_ns;
        const json_t *inbox = json_object_get(v, "inbox");
        struct meta_asker asker = {
            member_id(json_object_get(v, "asker")),
            slice_of(json_string_value(inbox), json_string_length(inbox)),
        };
        if (strcmp(op, "node") == 0) {
            rv = apply_node(m, v);
        } else if (strcmp(op, "create") == 0) {
            rv = apply_create(m, index, v, &asker);
        } else if (strcmp(op, "update") == 0) {
            rv = apply_update(m, index, v, &asker);
        } else if (strcmp(op, "delete") == 0) {
            rv = apply_delete(m, index, v, &asker);
        }
    }
    json_decref(v);
    if (rv == 0) {
        m->applied_index = index;
    }
    return rv;
}

/* ---- Checkpoints ---- */

static void print_stream_item(const struct meta_stream *s, struct buf *out)
{
    buf_printf(out,
               "{\"gid\":\"%llu\",\"sid\":\"%llu\",\"created\":%lld,\"version\":%llu,"
               "\"preferred\":\"%llu\",\"peers\":[",
               U64(s->gid), U64(s->sid), (long long)s->created_ns, U64(s->version),
               U64(s->preferred_node_id));
    for (size_t i = 0; i < s->peers_count; i++) {
        buf_printf(out, "%s\"%llu\",\"%llu\"", i == 0 ? "" : ",", U64(s->peers[i].node_id),
                   U64(s->peers[i].raft_id));
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
            buf_printf(out, "{\"boot\":%llu,\"js\":%s,\"name\":", U64(n->boot_count),
                       n->has_jetstream ? "true" : "false");
            json_print_string(out, slice_str(n->name));
            buf_append_u8(out, '}');
        }
    } else {
        buf_printf(out, "{\"gid\":\"%llu\",\"raft_id\":\"%llu\",\"time\":%lld,\"index\":%llu}",
                   U64(m->next_gid), U64(m->next_raft_id), (long long)m->time_ns,
                   U64(m->applied_index));
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
    mark_dirty(m, "counters", "");
    for (struct dirty_key *d = m->dirty; d != NULL; d = d->hh.next) {
        emit(m, d->key, cb, arg);
    }
    dirty_clear(m);
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

static int restore_stream(struct meta *m, const json_t *v)
{
    const json_t *peers = json_object_get(v, "peers");
    size_t count = json_array_size(peers) / 2;
    struct stream_config c;
    struct stream_config born;
    if (count == 0 || count > META_REPLICAS_MAX || member_config(v, "born", &born) != 0) {
        return ERR_CORRUPT;
    }
    if (member_config(v, "config", &c) != 0) {
        stream_config_close(&born);
        return ERR_CORRUPT;
    }
    struct meta_stream *s = xcalloc(1, sizeof *s);
    s->config = c;
    s->born_json = config_json(&born);
    stream_config_close(&born);
    s->gid = member_id(json_object_get(v, "gid"));
    s->sid = member_id(json_object_get(v, "sid"));
    s->created_ns = json_integer_value(json_object_get(v, "created"));
    s->version = (uint64_t)json_integer_value(json_object_get(v, "version"));
    s->preferred_node_id = member_id(json_object_get(v, "preferred"));
    s->peers_count = count;
    for (size_t i = 0; i < count; i++) {
        s->peers[i].node_id = member_id(json_array_get(peers, 2 * i));
        s->peers[i].raft_id = member_id(json_array_get(peers, 2 * i + 1));
    }
    HASH_ADD_KEYPTR(hh, m->streams, s->config.name, strlen(s->config.name), s);
    HASH_ADD(hh_gid, m->by_gid, gid, sizeof s->gid, s);
    return 0;
}

int meta_restore_item(struct meta *m, struct slice key, struct slice value)
{
    struct field_error error;
    if (value.len == 0) {
        return 0;
    }
    json_t *v = json_parse(value, &error);
    int rv = json_is_object(v) ? 0 : ERR_CORRUPT;
    if (rv == 0 && slice_has_prefix(key, SLICE_LIT("stream/"))) {
        rv = restore_stream(m, v);
    } else if (rv == 0 && slice_has_prefix(key, SLICE_LIT("node/"))) {
        struct meta_node *n = xcalloc(1, sizeof *n);
        char *id = xslicedup(slice_from(key, 5));
        n->node_id = strtoull(id, NULL, 10);
        free(id);
        const json_t *name = json_object_get(v, "name");
        n->name = xstrndup(json_string_value(name), json_string_length(name));
        n->boot_count = (uint64_t)json_integer_value(json_object_get(v, "boot"));
        n->has_jetstream = json_is_true(json_object_get(v, "js"));
        HASH_ADD(hh, m->nodes, node_id, sizeof n->node_id, n);
    } else if (rv == 0 && slice_eq_str(key, "counters")) {
        m->next_gid = member_id(json_object_get(v, "gid"));
        m->next_raft_id = member_id(json_object_get(v, "raft_id"));
        m->time_ns = json_integer_value(json_object_get(v, "time"));
        m->applied_index = (uint64_t)json_integer_value(json_object_get(v, "index"));
    } else {
        rv = ERR_CORRUPT;
    }
    json_decref(v);
    return rv;
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
