/* Run something again and again, each time with another allocation failing, and judge how it ends.
 *
 * Each run is in a process of its own. It may end well, whatever became of the failure, or with
 * the message that memory is out, which goes to stderr: nothing else. */
#ifndef TESTS_LIB_ALLOC_RUNS_H
#define TESTS_LIB_ALLOC_RUNS_H
#include <stddef.h>
#include <stdint.h>

struct alloc_runs {
    const char *name;
    /* Arms by alloc_fault_arm(nth), runs, and disarms. Returns 0 if all is as it should be, and
     * says on stderr what is not. */
    int (*run)(void *arg, uint64_t nth);
    /* After a stop by the message, in the process that stopped: like `run`. May be NULL. */
    int (*after_stop)(void *arg, uint64_t nth);
    void *arg;
    uint64_t runs_max; /* At most so many, evenly spread over the allocations. */
};

struct alloc_counts {
    uint64_t allocations; /* Of a run in which none fails. */
    uint64_t runs;
    uint64_t stopped; /* By the message. */
    uint64_t survived;
    uint64_t wrong; /* Each is told on stderr. */
};

void alloc_runs(const struct alloc_runs *how, struct alloc_counts *ret_counts);
void alloc_counts_add(struct alloc_counts *sum, const struct alloc_counts *c);
/* Print the sum over @n things of that name. Returns what a process should: 0, or 1 if anything was
 * wrong or nothing was tried. */
int alloc_counts_tell(const struct alloc_counts *sum, const char *what, size_t n);
#endif
