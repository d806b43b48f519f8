/* What the parts of the meta machine share: meta.c (its life, what entries do to streams and
 * nodes), meta_place.c (where replicas live), meta_choose.c (which nodes are fit), meta_encode.c
 * (entries to propose), meta_save.c (checkpoints). Nobody else includes it. */
#ifndef BROKER_META_INTERNAL_H
#define BROKER_META_INTERNAL_H
#include <jansson.h>

#include "broker/meta.h"

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
    unsigned version; /* The newest that an entry needed. */
};

/* 64-bit ids are strings: JSON integers end at 2^63 for our parser. 0 is no id. */
uint64_t meta_id_of(const json_t *v);
int meta_config_of(const json_t *entry, const char *key, struct stream_config *ret_config);
/* Of a list of strings, or of nothing. Returns 0 or ERR_CORRUPT. */
int meta_tags_of(const json_t *list, struct tag_list *ret_tags);
/* At least one, no node and no raft id twice, and none of them 0. */
bool meta_are_peers_sound(const struct meta_peer *peers, size_t count);
void meta_stream_free(struct meta_stream *s);
char *meta_config_json(const struct stream_config *c);
/* Its item changed: the next checkpoint has it. */
void meta_mark_dirty(struct meta *m, const char *prefix, const char *rest);
void meta_dirty_clear(struct meta *m);

/* A list of strings, as a member of an object. */
void meta_print_tags(struct buf *out, const struct tag_list *tags);
/* Pairs of node and raft id, as a member of an object. */
void meta_print_peers(struct buf *out, const char *key, const struct meta_peer *peers,
                      size_t count);

/* ---- meta_place.c ---- */
/* The nodes of a list, with the raft ids that replicas there have or get: 0, ERR_CORRUPT if it is
 * no list of nodes, each once, ERR_BUSY if a replica is leaving one of them. */
int meta_read_nodes(struct meta *m, struct meta_stream *s, const json_t *nodes,
                    struct meta_peer *ret_peers, size_t *ret_count);
/* The replicas are to be these; those that were and are not go to the old ones. False: no room. */
bool meta_set_peers(struct meta *m, struct meta_stream *s, uint64_t index,
                    const struct meta_peer *peers, size_t count, bool is_lost);
int meta_apply_place(struct meta *m, uint64_t index, const json_t *entry,
                     const struct meta_asker *asker);
int meta_apply_members(struct meta *m, const json_t *entry);
/* What was to be on node @from is to be on node @to, which has nothing of it. */
void meta_replace_node(struct meta *m, uint64_t index, uint64_t from, uint64_t to);
int meta_apply_lost(struct meta *m, uint64_t index, const json_t *entry);
#endif
