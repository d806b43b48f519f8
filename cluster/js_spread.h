/* Leaders spread again after nodes came and went. */
#ifndef CLUSTER_JS_SPREAD_H
#define CLUSTER_JS_SPREAD_H
#include <stdint.h>

struct js;

void js_spread_tick(struct js *js);
void js_spread_asked(struct js *js, uint64_t gid, uint64_t to);
#endif
