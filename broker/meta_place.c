/* Where replicas live, and how that changes.
 *
 * A change of peers is a goal: the leader of the group adds, catches up and promotes the new ones,
 * then removes the old, and tells which members there are. Until it has told that an old one is no
 * member, that one is remembered: it may be a voter still. */
#include <stdlib.h>

#include "broker/meta_internal.h"
#include "storage/base/err.h"

bool meta_is_leaving(const struct meta_stream *s, uint64_t node_id)
{
    for (size_t i = 0; i < s->old_count; i++) {
        if (s->old[i].node_id == node_id && !s->old[i].is_lost) {
            return true;
        }
    }
    return false;
}

static void old_remove(struct meta_stream *s, size_t at)
{
    memmove(s->old + at, s->old + at + 1, (s->old_count - at - 1) * sizeof s->old[0]);
    s->old_count--;
}

static bool is_in(const struct meta_peer *peers, size_t count, uint64_t raft_id)
{
    for (size_t i = 0; i < count; i++) {
        if (peers[i].raft_id == raft_id) {
            return true;
        }
    }
    return false;
}

/* The replicas are to be these; those that were and are not go to the old ones. False: no room. */
bool meta_set_peers(struct meta *m, struct meta_stream *s, uint64_t index,
                    const struct meta_peer *peers, size_t count, bool is_lost)
{
    size_t leaving = 0;
    for (size_t i = 0; i < s->peers_count; i++) {
        leaving += !is_in(peers, count, s->peers[i].raft_id);
    }
    for (size_t i = s->old_count; i > 0; i--) {
        if (is_in(peers, count, s->old[i - 1].raft_id)) {
            old_remove(s, i - 1);
        }
    }
    if (s->old_count + leaving > META_OLD_MAX) {
        return false;
    }
    for (size_t i = 0; i < s->peers_count; i++) {
        if (!is_in(peers, count, s->peers[i].raft_id)) {
            s->old[s->old_count] = s->peers[i];
            s->old[s->old_count++].is_lost = is_lost;
        }
    }
    memcpy(s->peers, peers, count * sizeof *peers);
    s->peers_count = count;
    s->placed = index;
    bool is_preferred_here = meta_raft_id_on(s, s->preferred_node_id) != 0;
    s->preferred_node_id = is_preferred_here ? s->preferred_node_id : s->peers[0].node_id;
    meta_mark_dirty(m, "stream/", s->config.name);
    meta_mark_dirty(m, "counters", "");
    return true;
}

/* 0, ERR_CORRUPT if @nodes is not a list of nodes, each once, ERR_BUSY if one of them has a replica
 * that is leaving: two of a group do not live on one node, and none comes back under its old id. */
int meta_read_nodes(struct meta *m, struct meta_stream *s, const json_t *nodes,
                    struct meta_peer *ret_peers, size_t *ret_count)
{
    size_t count = json_array_size(nodes);
    bool is_busy = false;
    if (count == 0 || count > META_REPLICAS_MAX) {
        return ERR_CORRUPT;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t node_id = meta_id_of(json_array_get(nodes, i));
        for (size_t k = 0; k < i; k++) {
            if (ret_peers[k].node_id == node_id) {
                return ERR_CORRUPT;
            }
        }
        if (node_id == 0) {
            return ERR_CORRUPT;
        }
        ret_peers[i] = (struct meta_peer){node_id, meta_raft_id_on(s, node_id), false};
        is_busy = is_busy || (ret_peers[i].raft_id == 0 && meta_is_leaving(s, node_id));
    }
    for (size_t i = 0; i < count && !is_busy; i++) {
        if (ret_peers[i].raft_id == 0) {
            ret_peers[i].raft_id = m->next_raft_id++;
        }
    }
    *ret_count = count;
    return is_busy ? ERR_BUSY : 0;
}

int meta_apply_place(struct meta *m, uint64_t index, const json_t *entry,
                     const struct meta_asker *asker)
{
    static const char type[] = "stream_remove_peer_response";
    const json_t *name = json_object_get(entry, "name");
    struct meta_peer peers[META_REPLICAS_MAX];
    struct api_error error = {0};
    size_t count;
    int rv = 0;
    struct meta_stream *s = NULL;
    if (!json_is_string(name)) {
        return ERR_CORRUPT;
    }
    HASH_FIND(hh, m->streams, json_string_value(name), json_string_length(name), s);
    if (s == NULL) {
        api_error_set(&error, API_ERROR_STREAM_NOT_FOUND, NULL);
    } else {
        rv = meta_read_nodes(m, s, json_object_get(entry, "nodes"), peers, &count);
        if (rv == ERR_CORRUPT) {
            return rv;
        }
        if (rv != 0 || !meta_set_peers(m, s, index, peers, count, false)) {
            api_error_set(&error, API_ERROR_PEER_REMAP, NULL);
        }
    }
    if (error.err_code != 0) {
        m->events.refused(m->events.arg, type, &error, asker, index);
    } else {
        m->events.placed(m->events.arg, s, asker, index);
    }
    return 0;
}

static struct meta_stream *stream_of_gid(struct meta *m, const json_t *entry)
{
    uint64_t gid = meta_id_of(json_object_get(entry, "gid"));
    struct meta_stream *s;
    HASH_FIND(hh_gid, m->by_gid, &gid, sizeof gid, s);
    return s;
}

/* Of an older placement nothing follows: whom it does not want may be wanted by now. */
int meta_apply_members(struct meta *m, const json_t *entry)
{
    struct meta_stream *s = stream_of_gid(m, entry);
    const json_t *members = json_object_get(entry, "members");
    uint64_t conf = meta_id_of(json_object_get(entry, "conf"));
    if (s == NULL || meta_id_of(json_object_get(entry, "placed")) != s->placed ||
        conf < s->reported) {
        return 0;
    }
    for (size_t i = s->old_count; i > 0; i--) {
        bool is_member = false;
        for (size_t k = 0; k + 1 < json_array_size(members); k += 2) {
            is_member =
                is_member || meta_id_of(json_array_get(members, k + 1)) == s->old[i - 1].raft_id;
        }
        if (!is_member) {
            old_remove(s, i - 1);
        }
    }
    s->reported = conf;
    meta_mark_dirty(m, "stream/", s->config.name);
    return 0;
}

int meta_apply_lost(struct meta *m, uint64_t index, const json_t *entry)
{
    struct meta_stream *s = stream_of_gid(m, entry);
    uint64_t raft_id = meta_id_of(json_object_get(entry, "raft"));
    struct meta_peer peers[META_REPLICAS_MAX];
    bool is_known = false;
    if (s == NULL || s->peers_count < 2) {
        return 0; /* Nobody has what is lost: an operator decides. */
    }
    for (size_t i = 0; i < s->peers_count; i++) {
        peers[i] = s->peers[i];
        if (peers[i].raft_id == raft_id) {
            is_known = true;
            peers[i].raft_id = m->next_raft_id++;
        }
    }
    if (is_known && meta_set_peers(m, s, index, peers, s->peers_count, true)) {
        m->events.placed(m->events.arg, s, &(struct meta_asker){0}, index);
    }
    return 0;
}

/* Sorted, so that all replicas of meta give the same ids. A stream of one replica has nothing to
 * replace it from: it stays where it was. */
void meta_replace_node(struct meta *m, uint64_t index, uint64_t from, uint64_t to)
{
    size_t streams_count = meta_streams_count(m);
    const struct meta_stream **list = meta_streams_sorted(m);
    for (size_t k = 0; k < streams_count; k++) {
        struct meta_stream *s;
        struct meta_peer peers[META_REPLICAS_MAX];
        HASH_FIND(hh_gid, m->by_gid, &list[k]->gid, sizeof list[k]->gid, s);
        bool is_there = meta_raft_id_on(s, from) != 0;
        if (!is_there || s->peers_count < 2 || meta_raft_id_on(s, to) != 0 ||
            meta_is_leaving(s, to)) {
            continue;
        }
        for (size_t i = 0; i < s->peers_count; i++) {
            peers[i] = s->peers[i];
            if (peers[i].node_id == from) {
                peers[i] = (struct meta_peer){to, m->next_raft_id++, false};
            }
        }
        if (meta_set_peers(m, s, index, peers, s->peers_count, true)) {
            m->events.placed(m->events.arg, s, &(struct meta_asker){0}, index);
        }
    }
    free(list);
}
