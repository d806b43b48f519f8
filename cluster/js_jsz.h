/* /jsz. */
#ifndef CLUSTER_JS_JSZ_H
#define CLUSTER_JS_JSZ_H
struct js;
struct monitor;

void js_jsz_start(struct js *js, struct monitor *m);
#endif
