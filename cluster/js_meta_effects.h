/* What follows from an entry of meta on this node, and whose subjects are whose. */
#ifndef CLUSTER_JS_META_EFFECTS_H
#define CLUSTER_JS_META_EFFECTS_H
#include "broker/meta.h"
#include "storage/base/slice.h"

struct js;

/* For meta_new(). */
struct meta_events js_meta_events(struct js *js);

/* The replica of @s, if it is to be here, starts at the end of the turn; or ends. */
void js_meta_begin_stream(struct js *js, const struct meta_stream *s);
void js_meta_end_stream(struct js *js, const struct meta_stream *s);
/* The stream's description was replaced: @old points to what is gone soon. */
void js_meta_replace_stream(struct js *js, const struct meta_stream *old,
                            const struct meta_stream *s);

/* The table of all streams' subjects. */
void js_meta_subjects_start(struct js *js);
void js_meta_subjects_stop(struct js *js);
void js_meta_subjects_add(struct js *js, const struct meta_stream *s);
/* The stream that a subject belongs to, or NULL. */
const struct meta_stream *js_meta_stream_of(struct js *js, struct slice subject);
#endif
