/* The event loop of one node (cluster/loop.h) on virtual time, for the production code that drives
 * the store: timers, and work that production gives to the thread pool.
 *
 * Work begins some time after it was asked for, and its end is told some time later, by the seed;
 * its calls on files happen at once, in between. A process that ends may cut any work short between
 * two of its calls (sim_store_files.c). */
#ifndef TESTS_SIM_LOOP_H
#define TESTS_SIM_LOOP_H
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "cluster/loop.h"
#include "storage/base/list.h"

struct sim_node;

struct loop {
    struct sim_node *n;
    struct list works;
    struct list timers;
    uint64_t next_id;
    bool is_closing; /* The process has ended: what is left is run off. */
    bool is_calling;
    jmp_buf die;
};

void sim_loop_init(struct loop *l, struct sim_node *n);
/* Call into production code that may end the process (sim_loop_die). False if it did. */
bool sim_loop_call(struct loop *l, loop_cb cb, void *arg);
/* The process ends inside of such a call. */
_Noreturn void sim_loop_die(struct loop *l);
/* The process has ended: work that has not begun is cut short somewhere, and what waits is told its
 * end, but a flush pass. */
void sim_loop_close(struct loop *l);
#endif
