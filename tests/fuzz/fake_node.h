/* What stands for the event loop (cluster/loop.h), the clients (cluster/clients.h) and chance where
 * a target drives parts of a node by hand: time passes when it is told to, work is done at once. */
#ifndef TESTS_FUZZ_FAKE_NODE_H
#define TESTS_FUZZ_FAKE_NODE_H
#include "cluster/loop.h"
#include "tests/fuzz/fuzz.h"

/* @ms pass, timers fire, and a turn ends: its hooks run. */
void fake_loop_turn(struct loop *l, uint64_t ms);
/* From here on chance is the same again. */
void fake_random_reset(void);
#endif
