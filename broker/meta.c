#include <assert.h>
#include <stdlib.h>

#include "broker/json_fields.h"
#include "broker/meta_internal.h"
#include "broker/subject.h"
#include "storage/base/err.h"

struct meta *meta_new(const struct meta_events *events)
{
    struct meta *m = xcalloc(1, sizeof *m);
    m->events = *events;
    m->next_gid = META_GID_STREAM_MIN;
    m->next_raft_id = 1000;
    m->version = 1;
    return m;
}

void meta_stream_free(struct meta_stream *s)
{
    stream_config_close(&s->config);
    free(s->born_json);
    free(s);
}

void meta_dirty_clear(struct meta *m)
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
        meta_stream_free(s);
    }
    struct meta_node *n;
    struct meta_node *next_node;
    HASH_ITER(hh, m->nodes, n, next_node)
    {
        HASH_DEL(m->nodes, n);
        free(n->name);
        tags_close(&n->tags);
        free(n);
    }
    meta_dirty_clear(m);
    free(m);
}

void meta_mark_dirty(struct meta *m, const char *prefix, const char *rest)
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
    meta_mark_dirty(m, "node/", id);
}

/* ---- Looking ---- */

uint64_t meta_applied(const struct meta *m)
{
    return m->applied_index;
}

unsigned meta_machine_version(const struct meta *m)
{
    return m->version;
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

uint64_t meta_next_raft_id(const struct meta *m)
{
    return m->next_raft_id;
}

uint64_t meta_raft_id_on(const struct meta_stream *s, uint64_t node_id)
{
    for (size_t i = 0; i < s->peers_count; i++) {
        if (s->peers[i].node_id == node_id) {
            return s->peers[i].raft_id;
        }
    }
    return 0;
}

bool meta_is_member(const struct meta_stream *s, uint64_t raft_id)
{
    for (size_t i = 0; i < s->peers_count; i++) {
        if (s->peers[i].raft_id == raft_id) {
            return true;
        }
    }
    for (size_t i = 0; i < s->old_count; i++) {
        if (s->old[i].raft_id == raft_id) {
            return true;
        }
    }
    return false;
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

/* ---- Applying ---- */

char *meta_config_json(const struct stream_config *c)
{
    struct buf b = BUF_EMPTY;
    stream_config_print(c, &b);
    char *text = xslicedup(buf_slice(&b));
    buf_close(&b);
    return text;
}

uint64_t meta_id_of(const json_t *v)
{
    const char *text = json_string_value(v);
    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

int meta_config_of(const json_t *entry, const char *key, struct stream_config *ret_config)
{
    char *text = json_dumps(json_object_get(entry, key), JSON_COMPACT);
    if (text == NULL) {
        return ERR_CORRUPT;
    }
    int rv = stream_config_parse(ret_config, slice_str(text));
    free(text);
    if (rv != 0) {
        return ERR_CORRUPT;
    }
    if (ret_config->name == NULL || !subject_name_is_valid(slice_str(ret_config->name))) {
        stream_config_close(ret_config);
        return ERR_CORRUPT;
    }
    return 0;
}

int meta_tags_of(const json_t *list, struct tag_list *ret_tags)
{
    struct tag_list tags = {0};
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v)
    {
        if (!json_is_string(v) ||
            tags_add(&tags, slice_of(json_string_value(v), json_string_length(v))) != 0) {
            tags_close(&tags);
            return ERR_CORRUPT;
        }
    }
    *ret_tags = tags;
    return 0;
}

bool meta_are_peers_sound(const struct meta_peer *peers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (peers[i].node_id == 0 || peers[i].raft_id == 0) {
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (peers[k].node_id == peers[i].node_id || peers[k].raft_id == peers[i].raft_id) {
                return false;
            }
        }
    }
    return count > 0;
}

/* False: there is no such member. */
static bool remove_node(struct meta *m, uint64_t index, uint64_t node_id,
                        const struct meta_asker *asker)
{
    static const struct meta_asker nobody;
    struct meta_node *n;
    HASH_FIND(hh, m->nodes, &node_id, sizeof node_id, n);
    if (n == NULL || n->is_removed) {
        return false;
    }
    n->is_removed = true;
    mark_node_dirty(m, node_id);
    m->events.node_removed(m->events.arg, n, asker == NULL ? &nobody : asker, index);
    return true;
}

static int apply_node(struct meta *m, uint64_t index, const json_t *entry)
{
    uint64_t node_id = meta_id_of(json_object_get(entry, "node"));
    const json_t *name = json_object_get(entry, "name");
    struct tag_list tags;
    if (node_id == 0 || !json_is_string(name) ||
        meta_tags_of(json_object_get(entry, "tags"), &tags) != 0) {
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
    tags_close(&n->tags);
    n->tags = tags;
    uint64_t boot = (uint64_t)json_integer_value(json_object_get(entry, "boot"));
    n->boot_count = boot > n->boot_count ? boot : n->boot_count;
    n->has_jetstream = json_is_true(json_object_get(entry, "js"));
    if (n->raft_id == 0) {
        uint64_t raft_id = meta_id_of(json_object_get(entry, "raft"));
        n->raft_id = raft_id != 0 ? raft_id : m->next_raft_id++;
        meta_mark_dirty(m, "counters", "");
    }
    mark_node_dirty(m, node_id);
    m->events.node_changed(m->events.arg, n);
    uint64_t replaces = meta_id_of(json_object_get(entry, "replaces"));
    if (replaces != 0 && replaces != node_id && remove_node(m, index, replaces, NULL)) {
        meta_replace_node(m, index, replaces, node_id);
    }
    return 0;
}

static int apply_forget(struct meta *m, uint64_t index, const json_t *entry,
                        const struct meta_asker *asker)
{
    if (!remove_node(m, index, meta_id_of(json_object_get(entry, "node")), asker)) {
        struct api_error error;
        api_error_set(&error, API_ERROR_CLUSTER_SERVER_NOT_MEMBER, NULL);
        m->events.refused(m->events.arg, "meta_server_remove_response", &error, asker, index);
    }
    return 0;
}

static int apply_create(struct meta *m, uint64_t index, const json_t *entry,
                        const struct meta_asker *asker)
{
    static const char type[] = "stream_create_response";
    struct stream_config c;
    const json_t *nodes = json_object_get(entry, "nodes");
    size_t count = json_array_size(nodes);
    struct meta_peer peers[META_REPLICAS_MAX];
    if (count > META_REPLICAS_MAX) {
        return ERR_CORRUPT;
    }
    for (size_t i = 0; i < count; i++) {
        peers[i] =
            (struct meta_peer){meta_id_of(json_array_get(nodes, i)), m->next_raft_id + i, false};
    }
    if (!meta_are_peers_sound(peers, count) || meta_config_of(entry, "config", &c) != 0) {
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
    s->born_json = meta_config_json(&c);
    s->gid = m->next_gid++;
    s->sid = s->gid;
    s->created_ns = m->time_ns;
    s->version = index;
    s->peers_count = count;
    memcpy(s->peers, peers, count * sizeof *peers);
    m->next_raft_id += count;
    memcpy(s->born, s->peers, sizeof s->born);
    s->born_count = count;
    s->placed = index;
    s->preferred_node_id = s->peers[0].node_id;
    HASH_ADD_KEYPTR(hh, m->streams, s->config.name, strlen(s->config.name), s);
    HASH_ADD(hh_gid, m->by_gid, gid, sizeof s->gid, s);
    meta_mark_dirty(m, "stream/", s->config.name);
    meta_mark_dirty(m, "counters", "");
    m->events.created(m->events.arg, s, asker, index);
    return 0;
}

static int apply_update(struct meta *m, uint64_t index, const json_t *entry,
                        const struct meta_asker *asker)
{
    static const char type[] = "stream_update_response";
    struct stream_config c;
    if (meta_config_of(entry, "config", &c) != 0) {
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
    const json_t *nodes = json_object_get(entry, "nodes");
    struct meta_peer peers[META_REPLICAS_MAX];
    size_t count = 0;
    if (error.err_code == 0 && json_array_size(nodes) > 0) {
        int rv = meta_read_nodes(m, s, nodes, peers, &count);
        if (rv == ERR_CORRUPT) {
            stream_config_close(&c);
            return rv;
        }
        if (rv != 0 || !meta_set_peers(m, s, index, peers, count, false)) {
            api_error_set(&error, API_ERROR_STREAM_UPDATE,
                          "too many changes of replicas under way");
        }
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
    meta_mark_dirty(m, "stream/", s->config.name);
    if (count > 0) {
        m->events.placed(m->events.arg, s, &(struct meta_asker){0}, index);
    }
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
    meta_mark_dirty(m, "stream/", s->config.name);
    m->events.deleted(m->events.arg, s, asker, index);
    meta_stream_free(s);
    return 0;
}

int meta_apply(struct meta *m, uint64_t index, struct slice entry)
{
    assert(index > m->applied_index);
    struct field_error error;
    json_t *v = json_parse(entry, &error);
    const char *op = json_string_value(json_object_get(v, "op"));
    int rv = ERR_CORRUPT;
    json_int_t version = json_integer_value(json_object_get(v, "v"));
    if (version > META_MACHINE_VERSION) {
        rv = ERR_VERSION;
    } else if (op != NULL) {
        int64_t t = json_integer_value(json_object_get(v, "t"));
        m->time_ns = t > m->time_ns ? t : m->time_ns;
        const json_t *inbox = json_object_get(v, "inbox");
        struct meta_asker asker = {
            meta_id_of(json_object_get(v, "asker")),
            slice_of(json_string_value(inbox), json_string_length(inbox)),
        };
        if (strcmp(op, "node") == 0) {
            rv = apply_node(m, index, v);
        } else if (strcmp(op, "forget") == 0) {
            rv = apply_forget(m, index, v, &asker);
        } else if (strcmp(op, "create") == 0) {
            rv = apply_create(m, index, v, &asker);
        } else if (strcmp(op, "update") == 0) {
            rv = apply_update(m, index, v, &asker);
        } else if (strcmp(op, "delete") == 0) {
            rv = apply_delete(m, index, v, &asker);
        } else if (strcmp(op, "place") == 0) {
            rv = meta_apply_place(m, index, v, &asker);
        } else if (strcmp(op, "members") == 0) {
            rv = meta_apply_members(m, v);
        } else if (strcmp(op, "lost") == 0) {
            rv = meta_apply_lost(m, index, v);
        }
    }
    json_decref(v);
    if (rv == 0) {
        m->applied_index = index;
        m->version = version > (json_int_t)m->version ? (unsigned)version : m->version;
    }
    return rv;
}
