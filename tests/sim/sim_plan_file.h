/* A plan as a file: one line "name value" per parameter, then one "fault" line each. A parameter
 * that is not there keeps what the seed draws, so a file outlives plans that learn more. */
#ifndef TESTS_SIM_PLAN_FILE_H
#define TESTS_SIM_PLAN_FILE_H
#include <stdio.h>

#include "tests/sim/sim_plan.h"

void sim_plan_write(const struct sim_plan *plan, FILE *out);
/* 0; else the number of the line that makes no sense. */
unsigned sim_plan_read(FILE *in, struct sim_plan *ret_plan);
#endif
