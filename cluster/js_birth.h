/* How the meta group comes to be. */
#ifndef CLUSTER_JS_BIRTH_H
#define CLUSTER_JS_BIRTH_H
#include <stdbool.h>
#include <stdint.h>

struct js;
struct peers_info;

/* A node that belongs to no cluster is told to join this one, with its raft id in meta. */
void js_birth_invite(struct js *js, const struct peers_info *info, uint64_t raft_id);
/* Its start is not the @boot_count-th or a later one, or its log did not reach @lsn then: it lost
 * what it acknowledged. */
void js_birth_tell_rolled_back(struct js *js, uint64_t node_id, uint64_t boot_count, uint64_t lsn);
/* It belongs to this cluster, by its own word. */
bool js_birth_is_ours(const struct js *js, const struct peers_info *info);
int js_birth_start(struct js *js);
/* Offline: does the node belong to a cluster? ERR_NOTFOUND: to none; ERR_CORRUPT, ERR_IO. */
int js_birth_look(struct js *js);
/* Offline: from now on it belongs to a cluster of its own, with a new uuid, durably: no node of the
 * old one is let in any more. */
int js_birth_renew(struct js *js);
void js_birth_tick(struct js *js);
/* Who is waited for, as a list of routes; "" when nobody is. */
const char *js_birth_missing(const struct js *js);
void js_birth_close(struct js *js);
#endif
