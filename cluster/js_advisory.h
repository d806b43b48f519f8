/* What happens to streams and consumers, told to whoever listens on $JS.EVENT.ADVISORY. */
#ifndef CLUSTER_JS_ADVISORY_H
#define CLUSTER_JS_ADVISORY_H
#include "storage/base/slice.h"

struct effect_advisory;
struct js;
struct js_stream;

enum js_action { JS_ACTION_CREATE, JS_ACTION_MODIFY, JS_ACTION_DELETE };

/* By the leader of meta, of what it proposed. */
void js_advisory_stream(struct js *js, struct slice stream, enum js_action action);
/* By the leader of the stream, as all below. It leads from now on; told if there are others. */
void js_advisory_leader(struct js_stream *st);
void js_advisory_consumer(struct js_stream *st, struct slice consumer, enum js_action action);
/* Of a message: given up, refused or terminated. */
void js_advisory_message(struct js_stream *st, const struct effect_advisory *effect);

/* Send what was told since the last turn. */
void js_advisory_turn(struct js *js);
void js_advisory_close(struct js *js);
#endif
