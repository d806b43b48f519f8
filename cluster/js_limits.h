/* What this node stores at most. */
#ifndef CLUSTER_JS_LIMITS_H
#define CLUSTER_JS_LIMITS_H
#include <stdbool.h>
#include <stddef.h>

#include "broker/stream_config.h"

struct js;

/* Whether @bytes more of this storage are too much for this node; counts them if not. */
bool js_limits_are_reached(struct js *js, enum stream_storage storage, size_t bytes);
/* Whether a stream that reserves what @c says may be created, as far as this node is concerned. */
bool js_limits_leave_room(struct js *js, const struct stream_config *c);
#endif
