/* Replicas that are broken or differ are set aside and built anew. */
#ifndef CLUSTER_JS_REBUILD_H
#define CLUSTER_JS_REBUILD_H
#include <stdint.h>

struct effect_digest;
struct js;
struct js_stream;

void js_rebuild_tick(struct js *js);
/* The replica here is of no use any more, and stops. */
void js_rebuild_wanted(struct js_stream *st, const char *why);
/* On the leader: another replica's hash at the index of a DIGEST. */
void js_rebuild_digest(struct js_stream *st, uint64_t node_id, const struct effect_digest *theirs);
/* The leader on @node_id says that the majority has this hash, and the replica here another. */
void js_rebuild_judged(struct js_stream *st, uint64_t node_id,
                       const struct effect_digest *majority);
#endif
