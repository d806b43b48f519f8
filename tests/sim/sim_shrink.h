/* Shrinking: the smallest plan that is found to fail in the same way. */
#ifndef TESTS_SIM_SHRINK_H
#define TESTS_SIM_SHRINK_H
#include "tests/sim/sim_plan.h"

/* Does this plan still fail as it did? */
typedef bool (*sim_fails_cb)(void *ctx, const struct sim_plan *plan);

/* Leave out faults, then shorten and simplify what is left, as long as @fails says so; at most
 * @tries_max runs. Returns how many it took. */
unsigned sim_shrink(struct sim_plan *plan, unsigned tries_max, sim_fails_cb fails, void *ctx);
#endif
