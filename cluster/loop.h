/* The event loop as the rest of cluster/ sees it: time, timers, wake-ups from other threads, work
 * on the pool, and the order of what happens at the end of a turn. Implemented by uv_loop.c.
 *
 * A turn: sockets are read and callbacks run; then, before the loop polls again, the hooks of each
 * phase run in the order of the enum, and within a phase in the order they were added. So what was
 * read in one turn is proposed as one entry, packed in one frame and written by one write.
 *
 * Single-threaded, except loop_async_send. */
#ifndef CLUSTER_LOOP_H
#define CLUSTER_LOOP_H
#include <stdint.h>

#include "cluster/watchdog.h"

enum loop_phase {
    LOOP_PHASE_COLLECT, /* Finish what the turn gathered: deferred removals, open batches. */
    LOOP_PHASE_PROPOSE, /* Propose batches; kick the WAL. */
    LOOP_PHASE_FRAMES,  /* Pack and write what goes to peers. */
    LOOP_PHASE_WRITES,  /* Write what goes to clients. */
    LOOP_PHASE_COUNT,
};

struct loop;
struct loop_timer;
struct loop_async;

typedef void (*loop_cb)(void *arg);

/* Once, before anything else of the loop: what it cannot get memory for ends the process with a
 * message. By itself libuv does so without a word where its own tables cannot grow. */
void loop_own_memory(void);

struct loop *loop_new(void);
/* Every timer, async and handle must be freed before. */
void loop_free(struct loop *l);
/* Run until loop_stop; may be called again to let handles close. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
/* Run turns until no handle is open; what is left is closing. */
void loop_drain(struct loop *l);

/* Milliseconds of CLOCK_MONOTONIC, cached for the turn. */
uint64_t loop_now_ms(const struct loop *l);
/* The node's clock, ns since 1970 (broker/log_time.h). Goes back only in loop_clock_set. Not
 * cached.
 */
int64_t loop_clock_ns(struct loop *l);
/* The wall clock, and one that never goes back and also counts while the machine sleeps, in ns. */
int64_t loop_wall_ns(const struct loop *l);
int64_t loop_mono_ns(const struct loop *l);
/* The node's clock is the wall clock from now on; returns by how much it moved, in ns. */
int64_t loop_clock_set(struct loop *l);
/* How long this turn has taken; 0 before the loop runs. */
uint64_t loop_turn_us(struct loop *l);
/* Turns since the start: it stands still when the loop is stuck. */
uint64_t loop_turns(const struct loop *l);

/* What is done from here on, and for which group (0: none), for the watchdog; returns what was
 * done before, for loop_leave. */
struct watchdog_at loop_enter(struct loop *l, enum watchdog_activity a, uint64_t gid);
void loop_leave(struct loop *l, struct watchdog_at back_to);
const struct watchdog *loop_watchdog(const struct loop *l);

/* Call @cb(@arg) in @phase of every turn. For the life of the loop. */
void loop_hook(struct loop *l, enum loop_phase phase, loop_cb cb, void *arg);
/* Make the next turn come without waiting for I/O: a hook has left work for an earlier phase. */
void loop_again(struct loop *l);

/* A timer that is not running. Freeing stops it; the callback may free its own timer. */
struct loop_timer *loop_timer_new(struct loop *l, loop_cb cb, void *arg);
/* Fire after @delay_ms, then each @repeat_ms (0: once). Restarts one that runs. */
void loop_timer_start(struct loop_timer *t, uint64_t delay_ms, uint64_t repeat_ms);
void loop_timer_stop(struct loop_timer *t);
/* It alone does not keep loop_drain waiting. */
void loop_timer_unref(struct loop_timer *t);
void loop_timer_free(struct loop_timer *t); /* NULL is fine. */

/* Calls @cb in the loop some time after loop_async_send; several sends may be one call. */
struct loop_async *loop_async_new(struct loop *l, loop_cb cb, void *arg);
void loop_async_send(struct loop_async *a); /* From any thread. */
void loop_async_free(struct loop_async *a); /* No send may follow. NULL is fine. */

/* Run @work(@arg) on libuv's pool and then @done(@arg) in the loop, exactly once. */
void loop_work(struct loop *l, loop_cb work, loop_cb done, void *arg);

/* The `uv_loop_t *`, for uv_*.c files. */
void *loop_uv(struct loop *l);
#endif
