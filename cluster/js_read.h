/* Reads that the leadership is proven for. */
#ifndef CLUSTER_JS_READ_H
#define CLUSTER_JS_READ_H
#include <stdbool.h>
#include <stdint.h>

struct js;
struct list;
struct raft_group;

/* Proves that @group is led here as of now and calls @cb when all is applied that was committed at
 * the call, or with false: not the leader any more, or nobody confirms it. @reads are those of the
 * group. @arg must be freed by @cb. */
typedef void (*js_proven_cb)(void *arg, bool is_proven);
void js_read_now(struct js *js, struct raft_group *group, struct list *reads, js_proven_cb cb,
                 void *arg);
/* The round for @token is over, @applied being applied. */
void js_read_proven(struct list *reads, uint64_t token, bool is_ok, uint64_t index,
                    uint64_t applied);
/* The applied index has grown. */
void js_read_applied(struct list *reads, uint64_t applied);
void js_read_close(struct list *reads);
#endif
