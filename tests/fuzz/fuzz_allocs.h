/* Each allocation of a target failing once. Builds with sanitizers have no such allocator and say
 * so. */
#ifndef TESTS_FUZZ_FUZZ_ALLOCS_H
#define TESTS_FUZZ_FUZZ_ALLOCS_H
#include <stddef.h>

#include "storage/base/slice.h"

/* Run each of @inputs with at most @runs_max of its allocations failing, one a run. Returns 0, or
 * 1 if one ended in any other way than it may. */
int fuzz_allocs(const struct slice *inputs, size_t n, unsigned long runs_max,
                void (*run_input)(struct slice in));

/* Only the @nth allocation of @input, in this process. */
void fuzz_alloc_one(struct slice input, unsigned long nth, void (*run_input)(struct slice in));
#endif
