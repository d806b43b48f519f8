#include "tests/fuzz/fuzz_allocs.h"

#include <stdio.h>

#ifdef WEIR_ALLOC_FAULT

#include "storage/base/log.h"
#include "tests/lib/alloc_fault.h"
#include "tests/lib/alloc_runs.h"

struct input {
    struct slice bytes;
    void (*run)(struct slice in);
};

static int run(void *arg, uint64_t nth)
{
    const struct input *in = arg;
    struct log_options loud = {.level_max = LOG_LEVEL_ERR}; /* To this process's stderr. */
    if (log_open(&loud) != 0) {
        return 1;
    }
    alloc_fault_arm(nth);
    in->run(in->bytes);
    return 0;
}

int fuzz_allocs(const struct slice *inputs, size_t n, unsigned long runs_max,
                void (*run_input)(struct slice in))
{
    struct alloc_counts sum = {0};
    for (size_t i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "file %zu", i);
        struct input in = {inputs[i], run_input};
        struct alloc_runs how = {.name = name, .run = run, .arg = &in, .runs_max = runs_max};
        struct alloc_counts c;
        alloc_runs(&how, &c);
        alloc_counts_add(&sum, &c);
    }
    return alloc_counts_tell(&sum, "files", n);
}

void fuzz_alloc_one(struct slice input, unsigned long nth, void (*run_input)(struct slice in))
{
    struct input in = {input, run_input};
    (void)run(&in, nth);
}
#else
int fuzz_allocs(const struct slice *inputs, size_t n, unsigned long runs_max,
                void (*run_input)(struct slice in))
{
    (void)inputs, (void)n, (void)runs_max, (void)run_input;
    fprintf(stderr, "no allocation can fail in this build\n");
    return 2;
}

void fuzz_alloc_one(struct slice input, unsigned long nth, void (*run_input)(struct slice in))
{
    (void)fuzz_allocs(&input, 1, nth, run_input);
}
#endif
