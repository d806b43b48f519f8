/* The store of a node in the scenario `store`: production's storage/ on the simulated disk, driven
 * by production's cluster/js_flush.c, js_image.c, js_state.c, js_mend.c and js_scrub.c.
 *
 *   sim_store.c        opening, loading, applying, flushing; what the node's end cuts short
 *   sim_store_node.c   the rest of the node, as the production code calls it
 *   sim_store_files.c  the disk's calls: where they are cut short
 *   sim_store_check.c  what the store must hold
 *   sim_loop.c         the event loop and the pool, on virtual time
 *
 * In the other scenarios n->store is NULL, and the store is a model (sim_replica.c, sim_state.c).
 */
#ifndef TESTS_SIM_STORE_H
#define TESTS_SIM_STORE_H
#include <stdbool.h>
#include <stdint.h>

#include "raft/host.h"
#include "storage/base/buf.h"

struct loop;
struct sim_node;
struct sim_replica;
struct sim_run;

bool sim_store_is_on(const struct sim_run *run);

/* ---- The node ---- */
/* Before its replicas are loaded. False: a violation was told. */
bool sim_store_open(struct sim_node *n);
/* The group host is there. */
void sim_store_started(struct sim_node *n);
/* The process ended: before anything else of it goes. */
void sim_store_stop(struct sim_node *n);
/* After the host is closed. */
void sim_store_close(struct sim_node *n);
void sim_store_tick(struct sim_node *n);
/* The WAL is durable up to @lsn. */
void sim_store_durable(struct sim_node *n, uint64_t lsn);
void sim_store_flush(struct sim_node *n);
/* Something production sent to node @from's peer, this node. */
void sim_store_take(struct sim_node *n, unsigned from, struct reader *in);

/* ---- A replica ---- */
/* Its state from what the store holds, or the first one. */
void sim_store_load(struct sim_replica *r);
/* Damage hides what is live: its group opens later. */
bool sim_store_is_mending(const struct sim_replica *r);
/* All of its messages can be read; what cannot is looked for. */
bool sim_store_is_whole(struct sim_replica *r);
/* Another one begins under its gid. False: not yet. */
bool sim_store_begin(struct sim_replica *r);
/* The replica is destroyed, with what it holds. False: not now. */
bool sim_store_may_drop(struct sim_replica *r);
void sim_store_drop(struct sim_replica *r);
/* Memory goes. */
void sim_store_unload(struct sim_replica *r);
void sim_store_fsm(struct sim_replica *r, struct group_fsm *fsm);
/* The machine has stepped to @index; @has_effects: r->effects are of it. */
void sim_store_applied(struct sim_replica *r, uint64_t index, uint64_t term, bool has_effects);

/* ---- sim_store_check.c ---- */
/* Every live message of the machine is in the store with what was published, and no other is. */
void sim_store_check(struct sim_replica *r);
/* A few of them. */
void sim_store_sample(struct sim_replica *r);

/* ---- For sim_loop.c ---- */
struct loop *sim_store_loop(struct sim_node *n);
/* A callback has returned: see what it has changed. */
void sim_store_look(struct sim_node *n);
/* Run work of the pool; its writes may be made to fail. */
void sim_store_run(struct sim_node *n, void (*run)(void *arg), void *arg);
/* SIM_FAULT_JOB: before work that is to run now. True: the process ended. */
bool sim_store_dies(struct sim_node *n, bool is_flush);
/* Work that runs now is cut short somewhere. */
void sim_store_cut(struct sim_node *n);
bool sim_store_is_flush_work(struct sim_node *n, const void *arg);
#endif
