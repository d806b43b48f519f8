/* Messages on their way out. */
#ifndef CLUSTER_JS_SEND_H
#define CLUSTER_JS_SEND_H
#include <stdint.h>

#include "storage/base/slice.h"

struct effect_deliver;
struct js_stream;
struct store_view;

void js_send_deliver(struct js_stream *st, const struct effect_deliver *d);
/* A message without payload, behind those sent before. @reply may be empty. */
void js_send_status(struct js_stream *st, struct slice subject, struct slice reply,
                    struct slice header);
void js_send_close(struct js_stream *st);
/* Read message @seq now or later, then call @cb with 0 and a view, or with ERR_NOTFOUND (it is
 * gone;
 * @st is NULL if the stream is), ERR_CORRUPT: damaged, and no replica gave it in time. @arg must be
 * freed by @cb. */
typedef void (*js_read_cb)(struct js_stream *st, void *arg, int status,
                           const struct store_view *view);
void js_send_read(struct js_stream *st, uint64_t seq, js_read_cb cb, void *arg);

/* Damaged messages that a consumer has passed for good: named in the log, at most once a second, or
 * now. */
void js_send_tick(struct js_stream *st);
void js_send_tell_skipped(struct js_stream *st);

/* What waits for a damaged block may go on. */
void js_send_resume(struct js_stream *st);
#endif
