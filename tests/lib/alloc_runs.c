#include "tests/lib/alloc_runs.h"

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/alloc_fault.h"

#define MESSAGE "out of memory"
#define SECONDS_MAX 60u

/* None that an exit() elsewhere could mean. */
enum { EXIT_SURVIVED = 70, EXIT_STOPPED, EXIT_WRONG, EXIT_NOT_REACHED };

static sigjmp_buf after_abort;
static int said; /* What the process says, in memory. */

static void on_abort(int signum)
{
    (void)signum;
    siglongjmp(after_abort, 1);
}

/* _exit: what is at exit belongs to the process that forked. */
static _Noreturn void child(const struct alloc_runs *how, uint64_t nth)
{
    alarm(SECONDS_MAX);
    dup2(said, STDERR_FILENO);
    signal(SIGABRT, on_abort);
    if (sigsetjmp(after_abort, 1) == 0) {
        int rv = how->run(how->arg, nth);
        bool is_reached = nth == 0 || atomic_load(&alloc_fault->failed) > 0;
        alloc_fault_arm(0);
        _exit(rv != 0 ? EXIT_WRONG : is_reached ? EXIT_SURVIVED : EXIT_NOT_REACHED);
    }
    signal(SIGABRT, SIG_DFL);
    alloc_fault_arm(0);
    char text[512]; /* The last it said. */
    off_t end = lseek(said, 0, SEEK_END);
    off_t from = end < (off_t)sizeof text ? 0 : end - (off_t)sizeof text + 1;
    ssize_t len = pread(said, text, sizeof text - 1, from);
    text[len < 0 ? 0 : len] = 0;
    if (strstr(text, MESSAGE) == NULL) {
        _exit(EXIT_WRONG);
    }
    _exit(how->after_stop != NULL && how->after_stop(how->arg, nth) != 0 ? EXIT_WRONG
                                                                         : EXIT_STOPPED);
}

/* The exit code, or minus the signal. */
static int run_one(const struct alloc_runs *how, uint64_t nth)
{
    said = memfd_create("said", MFD_CLOEXEC);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        child(how, nth);
    }
    int status = 0;
    if (pid < 0 || said < 0 || waitpid(pid, &status, 0) != pid) {
        perror("alloc_runs");
        exit(2);
    }
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    if (code < 0 || code == EXIT_WRONG) {
        char text[2048];
        ssize_t len = pread(said, text, sizeof text - 1, 0);
        text[len < 0 ? 0 : len] = 0;
        fprintf(stderr, "%s, allocation %" PRIu64 ": %s %d: %s\n", how->name, nth,
                code < 0 ? "signal" : "exit", code < 0 ? -code : code, text);
    }
    close(said);
    return code;
}

/* How many allocations a run takes: it tells by a page that both share. */
static uint64_t count(const struct alloc_runs *how, struct alloc_counts *counts)
{
    struct alloc_fault *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("alloc_runs");
        exit(2);
    }
    struct alloc_fault *before = alloc_fault;
    alloc_fault = shared;
    counts->wrong += run_one(how, 0) != EXIT_SURVIVED;
    uint64_t calls = atomic_load(&shared->calls);
    alloc_fault = before;
    munmap(shared, sizeof *shared);
    return calls;
}

void alloc_runs(const struct alloc_runs *how, struct alloc_counts *ret_counts)
{
    struct alloc_counts c = {0};
    c.allocations = count(how, &c);
    uint64_t runs = c.allocations < how->runs_max ? c.allocations : how->runs_max;
    for (uint64_t i = 0; i < runs; i++) {
        int code = run_one(how, 1 + i * c.allocations / runs);
        c.runs++;
        c.stopped += code == EXIT_STOPPED;
        c.survived += code == EXIT_SURVIVED;
        c.wrong += code != EXIT_STOPPED && code != EXIT_SURVIVED && code != EXIT_NOT_REACHED;
    }
    *ret_counts = c;
}

void alloc_counts_add(struct alloc_counts *sum, const struct alloc_counts *c)
{
    sum->allocations += c->allocations;
    sum->runs += c->runs;
    sum->stopped += c->stopped;
    sum->survived += c->survived;
    sum->wrong += c->wrong;
}

int alloc_counts_tell(const struct alloc_counts *sum, const char *what, size_t n)
{
    printf("%zu %s, %" PRIu64 " allocations, %" PRIu64 " failed: %" PRIu64
           " stopped by the message, %" PRIu64 " went on, %" PRIu64 " wrong\n",
           n, what, sum->allocations, sum->runs, sum->stopped, sum->survived, sum->wrong);
    return sum->wrong > 0 || sum->stopped == 0;
}
