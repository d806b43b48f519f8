/* Entries of the meta group, as their leader proposes them. */
#include "broker/json_fields.h"
#include "broker/meta_internal.h"

/* @version: of the machine that the entry needs. */
static void encode_begin(struct buf *out, int64_t time_ns, unsigned version, const char *op)
{
    buf_printf(out, "{\"v\":%u,\"t\":%lld,\"op\":\"%s\"", version, (long long)time_ns, op);
}

static unsigned version_of(const struct stream_config *config)
{
    const char *feature;
    return stream_config_version(config, &feature);
}

static void encode_asker(struct buf *out, const struct meta_asker *asker)
{
    if (asker != NULL && asker->inbox.len > 0) {
        buf_printf(out, ",\"asker\":\"%llu\",\"inbox\":", U64(asker->node_id));
        json_print_string(out, asker->inbox);
    }
    buf_append_u8(out, '}');
}

void meta_print_tags(struct buf *out, const struct tag_list *tags)
{
    buf_append_str(out, ",\"tags\":[");
    for (size_t i = 0; i < tags->count; i++) {
        buf_append_str(out, i == 0 ? "" : ",");
        json_print_string(out, slice_str(tags->items[i]));
    }
    buf_append_u8(out, ']');
}

void meta_encode_node(struct buf *out, int64_t time_ns, unsigned version,
                      const struct meta_node *node, uint64_t replaces)
{
    bool has_tags = version >= 2 && node->tags.count > 0;
    encode_begin(out, time_ns, has_tags ? 2 : 1, "node");
    buf_printf(out, ",\"node\":\"%llu\",\"boot\":%llu,\"js\":%s", U64(node->node_id),
               U64(node->boot_count), node->has_jetstream ? "true" : "false");
    if (node->raft_id != 0) {
        buf_printf(out, ",\"raft\":\"%llu\"", U64(node->raft_id));
    }
    if (replaces != 0) {
        buf_printf(out, ",\"replaces\":\"%llu\"", U64(replaces));
    }
    if (has_tags) {
        meta_print_tags(out, &node->tags);
    }
    buf_append_str(out, ",\"name\":");
    json_print_string(out, slice_str(node->name));
    buf_append_u8(out, '}');
}

void meta_encode_forget(struct buf *out, int64_t time_ns, uint64_t node_id,
                        const struct meta_asker *asker)
{
    encode_begin(out, time_ns, 1, "forget");
    buf_printf(out, ",\"node\":\"%llu\"", U64(node_id));
    encode_asker(out, asker);
}

static void encode_nodes(struct buf *out, const uint64_t *node_ids, size_t count)
{
    buf_append_str(out, ",\"nodes\":[");
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%s\"%llu\"", i == 0 ? "" : ",", U64(node_ids[i]));
    }
    buf_append_u8(out, ']');
}

void meta_encode_create(struct buf *out, int64_t time_ns, const struct stream_config *config,
                        const uint64_t *node_ids, size_t nodes_count,
                        const struct meta_asker *asker)
{
    encode_begin(out, time_ns, version_of(config), "create");
    encode_nodes(out, node_ids, nodes_count);
    buf_append_str(out, ",\"config\":");
    stream_config_print(config, out);
    encode_asker(out, asker);
}

void meta_encode_update(struct buf *out, int64_t time_ns, const struct stream_config *config,
                        const uint64_t *node_ids, size_t nodes_count,
                        const struct meta_asker *asker)
{
    encode_begin(out, time_ns, version_of(config), "update");
    encode_nodes(out, node_ids, nodes_count);
    buf_append_str(out, ",\"config\":");
    stream_config_print(config, out);
    encode_asker(out, asker);
}

void meta_encode_delete(struct buf *out, int64_t time_ns, struct slice name,
                        const struct meta_asker *asker)
{
    encode_begin(out, time_ns, 1, "delete");
    buf_append_str(out, ",\"name\":");
    json_print_string(out, name);
    encode_asker(out, asker);
}

void meta_encode_place(struct buf *out, int64_t time_ns, struct slice name,
                       const uint64_t *node_ids, size_t nodes_count, const struct meta_asker *asker)
{
    encode_begin(out, time_ns, 1, "place");
    encode_nodes(out, node_ids, nodes_count);
    buf_append_str(out, ",\"name\":");
    json_print_string(out, name);
    encode_asker(out, asker);
}

void meta_print_peers(struct buf *out, const char *key, const struct meta_peer *peers, size_t count)
{
    buf_printf(out, ",\"%s\":[", key);
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%s\"%llu\",\"%llu\"", i == 0 ? "" : ",", U64(peers[i].node_id),
                   U64(peers[i].raft_id));
    }
    buf_append_u8(out, ']');
}

void meta_encode_members(struct buf *out, int64_t time_ns, uint64_t gid, uint64_t placed,
                         uint64_t conf_index, const struct meta_peer *members, size_t members_count)
{
    encode_begin(out, time_ns, 1, "members");
    buf_printf(out, ",\"gid\":\"%llu\",\"placed\":\"%llu\",\"conf\":\"%llu\"", U64(gid),
               U64(placed), U64(conf_index));
    meta_print_peers(out, "members", members, members_count);
    buf_append_u8(out, '}');
}

void meta_encode_lost(struct buf *out, int64_t time_ns, uint64_t gid, uint64_t raft_id)
{
    encode_begin(out, time_ns, 1, "lost");
    buf_printf(out, ",\"gid\":\"%llu\",\"raft\":\"%llu\"}", U64(gid), U64(raft_id));
}
