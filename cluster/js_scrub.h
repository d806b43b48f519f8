/* Looks for damage before readers find it. */
#ifndef CLUSTER_JS_SCRUB_H
#define CLUSTER_JS_SCRUB_H
#include <stdint.h>

struct js;

void js_scrub_tick(struct js *js);
/* Check the blocks of this stream next, at once: a replica got something damaged from here. */
void js_scrub_stream(struct js *js, uint64_t gid);
#endif
