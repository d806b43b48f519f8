/* Machine versions raised. */
#ifndef CLUSTER_JS_VERSION_H
#define CLUSTER_JS_VERSION_H
#include <stdbool.h>
#include <stdint.h>

struct js;
struct js_stream;

/* Of a stream that is led here. */
void js_version_tick(struct js_stream *st);
/* Somebody wishes what older builds do not know: the stream that is led here goes to @version at
 * once, in front of the op that follows, if all members know it. False: not now. */
bool js_version_need(struct js_stream *st, uint32_t version);
/* By which rules entries of meta may be proposed: those that all members know, or that are in
 * force. */
unsigned js_version_of_meta(struct js *js);
/* Why a replica does not go on, for logs. */
const char *js_version_error_text(int rv);
#endif
