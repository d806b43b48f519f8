/* Each guard's schedule again and again, each time with another allocation failing: of the group
 * host, the core, the log and what they stand on. The property holds, or the process stops with the
 * message that memory is out; nothing that was said before that is taken back.
 *
 *   alloc_guards [RUNS]   at most so many allocations of each schedule, evenly spread; 0: all */
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/log.h"
#include "tests/lib/alloc_fault.h"
#include "tests/lib/alloc_runs.h"
#include "tests/unit/guard_schedules.h"

#define RUNS 20u

static int run(void *arg, uint64_t nth)
{
    const struct guard_check *c = arg;
    struct log_options loud = {.level_max = LOG_LEVEL_ERR}; /* To this process's stderr. */
    if (log_open(&loud) != 0) {
        return 1;
    }
    alloc_fault_arm(nth);
    return c->schedule(c->others_off) ? 0 : 1;
}

int main(int argc, char **argv)
{
    uint64_t runs_max = argc > 1 ? strtoull(argv[1], NULL, 10) : RUNS;
    struct alloc_counts sum = {0};
    for (size_t i = 0; i < guard_checks_count; i++) {
        struct guard_check check = guard_checks[i];
        check.others_off = 0; /* All guards are on. */
        char name[32];
        snprintf(name, sizeof name, "schedule %zu", i);
        struct alloc_runs how = {.name = name,
                                 .run = run,
                                 .arg = &check,
                                 .runs_max = runs_max == 0 ? UINT64_MAX : runs_max};
        struct alloc_counts c;
        alloc_runs(&how, &c);
        alloc_counts_add(&sum, &c);
    }
    return alloc_counts_tell(&sum, "schedules", guard_checks_count);
}
