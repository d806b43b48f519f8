/* The meta group's state machine: which nodes there are, which streams, and where their replicas
 * live.
 *
 * Pure, like the stream machine: entries in, effects out through callbacks, no clock, no I/O.
 * Entries are rare, so they are JSON, readable in a dump:
 *
 *   {"v":1,"t":<leader time, ns>,"op":"node"|"create"|"update"|"delete"|"place"|"members"|"lost",
 * ...}
 *
 * Whatever two requests could disagree on (names, overlapping subjects) is decided here, in log
 * order. gids, stream ids and raft ids come from counters in the state and are never reused. */
#ifndef BROKER_META_H
#define BROKER_META_H
#include "broker/api_error.h"
#include "broker/stream_config.h"
#include "broker/tags.h"
#include "storage/base/hash.h"

#define META_GID 1u /* The meta group's own gid; streams begin above. */
#define META_GID_STREAM_MIN 16u
#define META_REPLICAS_MAX 5
#define META_OLD_MAX 11 /* A configuration has at most 16 members. */
/* The newest rules this build knows. 2: tags of nodes, placement of streams. 3: consumer limits of
 * streams. 4: subject transforms of streams. 5: republish. An entry says the version it needs, so
 * that older builds, which would leave out half of it, stop there. */
#ifdef WEIR_BEFORE_TAGS /* Only in tests/system/test_js_placement.py. */
#define META_MACHINE_VERSION 1
#else
#define META_MACHINE_VERSION 5
#endif

struct meta_node {
    uint64_t node_id;
    char *name;
    uint64_t boot_count; /* The highest that was reported: a lower one is a rolled-back disk. */
    bool has_jetstream;
    struct tag_list tags;
    bool is_removed;   /* It belongs to the cluster no more, and nothing is placed there. */
    uint64_t raft_id;  /* Of its replica of the meta group; 0: of before this was kept here. */
    UT_hash_handle hh; /* By node_id. */
};

struct meta_peer {
    uint64_t node_id;
    uint64_t raft_id;
    bool is_lost; /* Of old ones: its node has lost it. */
};

struct meta_stream {
    struct stream_config config;
    char *born_json; /* Canonical configuration at its creation: the machine's first state, whatever
                      * came later is in the stream's own log. */
    uint64_t gid;
    uint64_t sid;
    int64_t created_ns;
    uint64_t version; /* Meta index of the last change of the configuration. */
    struct meta_peer peers[META_REPLICAS_MAX];
    size_t peers_count;
    /* Who was to replicate it before, and may still be a member of its group: until its leader has
     * told that it is not. */
    struct meta_peer old[META_OLD_MAX];
    size_t old_count;
    struct meta_peer born[META_REPLICAS_MAX]; /* Members of its first configuration. */
    size_t born_count;
    uint64_t placed;            /* Meta index of the last change of peers. */
    uint64_t reported;          /* Log index of the configuration that its leader told last. */
    uint64_t preferred_node_id; /* Campaigns first. */
    UT_hash_handle hh;          /* By config.name. */
    UT_hash_handle hh_gid;
};

/* Who asked, carried through the log so that the one who can answer knows where to. */
struct meta_asker {
    uint64_t node_id;
    struct slice inbox; /* Empty: nobody waits. Borrowed. */
};

struct meta_events {
    /* A stream is to be started by its peers. */
    void (*created)(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                    uint64_t index);
    /* The same stream exists already: its leader repeats the answer. */
    void (*repeated)(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                     uint64_t index);
    /* The stream's leader puts the new configuration into the stream's log, then answers. */
    void (*updated)(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                    uint64_t index);
    /* Its peers have changed: who is new among them starts empty, the leader carries the group's
     * configuration there. */
    void (*placed)(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                   uint64_t index);
    /* @s is freed when this returns. */
    void (*deleted)(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                    uint64_t index);
    /* @type is the type of the reply, as "stream_create_response". */
    void (*refused)(void *arg, const char *type, const struct api_error *error,
                    const struct meta_asker *asker, uint64_t index);
    void (*node_changed)(void *arg, const struct meta_node *n);
    /* It was a member, and is one no more. */
    void (*node_removed)(void *arg, const struct meta_node *n, const struct meta_asker *asker,
                         uint64_t index);
    void *arg;
};

struct meta;

struct meta *meta_new(const struct meta_events *events);
void meta_free(struct meta *m);

/* Apply a committed entry. Returns 0; ERR_VERSION for a version of the future and ERR_CORRUPT for
 * bytes that are no entry: then the replica stops, it never guesses. */
int meta_apply(struct meta *m, uint64_t index, struct slice entry);

/* Entries to propose. @time_ns is the leader's. */
/* A node as it says it is. @raft_id: of its replica of the meta group, 0: it has none and gets a
 * new one. @replaces: a node of the same name that is gone for good, as when its disk is; what it
 * had is to be on this one; 0: none. @version: what all nodes know; before 2 nothing is said of
 * tags. */
void meta_encode_node(struct buf *out, int64_t time_ns, unsigned version,
                      const struct meta_node *node, uint64_t replaces);
/* The node is gone for good. */
void meta_encode_forget(struct buf *out, int64_t time_ns, uint64_t node_id,
                        const struct meta_asker *asker);
void meta_encode_create(struct buf *out, int64_t time_ns, const struct stream_config *config,
                        const uint64_t *node_ids, size_t nodes_count,
                        const struct meta_asker *asker);
/* With @nodes_count 0 the replicas stay where they are. */
void meta_encode_update(struct buf *out, int64_t time_ns, const struct stream_config *config,
                        const uint64_t *node_ids, size_t nodes_count,
                        const struct meta_asker *asker);
/* Other nodes are to have the replicas. */
void meta_encode_place(struct buf *out, int64_t time_ns, struct slice name,
                       const uint64_t *node_ids, size_t nodes_count,
                       const struct meta_asker *asker);
/* The leader of group @gid, which knows the peers of @placed and has proven that it leads, has
 * these members by the configuration at @conf_index of its log, which is committed. */
void meta_encode_members(struct buf *out, int64_t time_ns, uint64_t gid, uint64_t placed,
                         uint64_t conf_index, const struct meta_peer *members,
                         size_t members_count);
/* A node has lost this replica: it gets a new one under a new raft id. */
void meta_encode_lost(struct buf *out, int64_t time_ns, uint64_t gid, uint64_t raft_id);
void meta_encode_delete(struct buf *out, int64_t time_ns, struct slice name,
                        const struct meta_asker *asker);

uint64_t meta_applied(const struct meta *m);
/* The newest version that an entry needed so far. */
unsigned meta_machine_version(const struct meta *m);
/* NULL if there is none. */
const struct meta_stream *meta_stream_find(const struct meta *m, struct slice name);
const struct meta_stream *meta_stream_by_gid(const struct meta *m, uint64_t gid);
/* It was a stream's and that stream is deleted: gids are given in order and never again. */
bool meta_is_gone(const struct meta *m, uint64_t gid);
uint64_t meta_next_gid(const struct meta *m);
uint64_t meta_next_raft_id(const struct meta *m);
/* The raft id of the replica that is to be on the node, 0: none is. */
uint64_t meta_raft_id_on(const struct meta_stream *s, uint64_t node_id);
/* A replica of it is leaving the node: until it is gone no other one can be there. */
bool meta_is_leaving(const struct meta_stream *s, uint64_t node_id);
/* May this replica still be a member of its group, or become one? */
bool meta_is_member(const struct meta_stream *s, uint64_t raft_id);
/* All streams in the byte order of their names: *ret_list has meta_streams_count entries, the
 * caller frees it. */
size_t meta_streams_count(const struct meta *m);
const struct meta_stream **meta_streams_sorted(const struct meta *m);
const struct meta_node *meta_node_find(const struct meta *m, uint64_t node_id);
const struct meta_node *meta_nodes(const struct meta *m); /* Head of the uthash list. */
/* Does any subject of @config overlap one of another stream's? */
bool meta_subjects_overlap(const struct meta *m, const struct stream_config *config);

/* ---- Choosing nodes (meta_choose.c) ---- */

struct meta_candidate {
    uint64_t node_id;
    bool is_doubtful; /* Only if there are too few others. */
};

struct meta_choice {
    /* What it obeys; the caller's. */
    const struct placement *placement; /* Of the stream. */
    const char *cluster_name;
    const char
        *unique_tag;  /* Prefix of tags of which no two nodes may have the same; NULL: none. */
    bool is_anywhere; /* One server alone: tags mean nothing. */
    /* The nodes chosen so far. */
    uint64_t nodes[META_REPLICAS_MAX];
    size_t count;
    /* Why others were not. */
    bool is_offline; /* The caller's: some were left out because they are down. */
    bool is_excluded;
    bool is_not_unique;
    bool *tag_reasons; /* By tag of the placement. */
};

void meta_choice_close(struct meta_choice *c);
/* Add the node if it fits, by its tags and those of the nodes chosen before. */
bool meta_choice_add(const struct meta *m, struct meta_choice *c, uint64_t node_id);
/* Add the node whatever its tags are: it has a replica, and keeps it. */
void meta_choice_keep(struct meta_choice *c, uint64_t node_id);
/* Add the least loaded of @candidates until there are @wanted. Of a new stream the first one is
 * preferred: it has the fewest preferred streams. False: too few fit. */
bool meta_choose(const struct meta *m, struct meta_choice *c,
                 const struct meta_candidate *candidates, size_t candidates_count, size_t wanted);
/* Append why too few did, in the reference's words. */
void meta_choice_print(const struct meta_choice *c, struct buf *out);

/* Checkpoint items: those that changed since the last call, with an empty value for what is gone.
 */
typedef void (*meta_item_cb)(void *arg, struct slice key, struct slice value);
void meta_checkpoint(struct meta *m, meta_item_cb cb, void *arg);
/* Everything, whether it changed or not: for an image. */
void meta_checkpoint_all(struct meta *m, meta_item_cb cb, void *arg);
/* Put one item back into a new machine, in any order. ERR_CORRUPT if it is none, ERR_VERSION if the
 * machine was of the future. */
int meta_restore_item(struct meta *m, struct slice key, struct slice value);
/* After the last: ERR_CORRUPT if they contradict each other. */
int meta_restore_end(const struct meta *m);

/* XXH3 over all items: equal on all replicas at one index. */
uint64_t meta_hash(struct meta *m);
#endif
