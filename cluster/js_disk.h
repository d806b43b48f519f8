/* Whether the disk is stuck or slow. */
#ifndef CLUSTER_JS_DISK_H
#define CLUSTER_JS_DISK_H
#include <stdbool.h>

struct js;

void js_disk_tick(struct js *js);
/* Slow, or short of room: leaderships are better elsewhere. */
bool js_disk_is_poor(const struct js *js);
#endif
