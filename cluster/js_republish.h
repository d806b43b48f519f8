/* What a stream has stored is published again under another subject, by its leader. */
#ifndef CLUSTER_JS_REPUBLISH_H
#define CLUSTER_JS_REPUBLISH_H

struct effect_store;
struct js_stream;

/* The stream is led here from now on, or its configuration has changed. */
void js_republish_config(struct js_stream *st);
/* @effect is carried out. */
void js_republish(struct js_stream *st, const struct effect_store *effect);
void js_republish_close(struct js_stream *st);
#endif
