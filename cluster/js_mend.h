/* Damaged blocks are mended with what other replicas have. */
#ifndef CLUSTER_JS_MEND_H
#define CLUSTER_JS_MEND_H
#include <stdbool.h>
#include <stdint.h>

struct js;
struct js_stream;
struct reader;

/* Damage was found in the stream, or somebody waits for what is damaged. */
void js_mend_wanted(struct js_stream *st);
void js_mend_tick(struct js *js);
/* No replica has this message undamaged. */
bool js_mend_is_lost(const struct js_stream *st, uint64_t seq);
/* The first such sequence from @seq on; 0: none. */
uint64_t js_mend_next_lost(const struct js_stream *st, uint64_t seq);
void js_mend_close(struct js_stream *st);
void js_mend_stop(struct js *js);
/* Items: a question of @node_id, an answer of it. */
void js_mend_asked(struct js *js, uint64_t node_id, struct reader *r);
void js_mend_take(struct js *js, uint64_t node_id, struct reader *r);
#endif
