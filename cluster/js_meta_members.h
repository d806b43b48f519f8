/* Who belongs to the cluster and replicates the meta group. */
#ifndef CLUSTER_JS_META_MEMBERS_H
#define CLUSTER_JS_META_MEMBERS_H
struct js;

/* On the leader of meta. */
void js_meta_members_tick(struct js *js);
#endif
