/* /replicaz and what /healthz asks. */
#ifndef CLUSTER_JS_MONITOR_H
#define CLUSTER_JS_MONITOR_H
struct js;
struct monitor;

void js_monitor_start(struct js *js, struct monitor *m);
#endif
