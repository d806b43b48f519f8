/* The state of a replica: its machine, and what the store holds of it. Effects are carried out in
 * the store, and the machine is made of what the store holds. */
#ifndef CLUSTER_JS_STATE_H
#define CLUSTER_JS_STATE_H

struct js_stream;
struct stream_effects;

/* What an entry stores and removes, in the store. */
void js_state_carry_out(struct js_stream *st, const struct stream_effects *e);
/* The machine, on the pool; nothing else knows it any more. */
void js_state_free(struct js_stream *st);
/* The machine from what the store holds. ERR_CORRUPT with a machine: messages are missing. */
int js_state_restore(struct js_stream *st);
/* The same off the loop; @done(@arg, status) on it. The stream is LOADING meanwhile, and stays. */
typedef void (*js_restored_cb)(void *arg, int status);
void js_state_restore_apart(struct js_stream *st, js_restored_cb done, void *arg);
#endif
