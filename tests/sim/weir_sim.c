/* The simulator's program: many seeds on all cores, one seed with its trace, or ablations.
 *
 * Each seed runs in a process of its own: a crash or a loop of the code under test is a finding
 * like any other, and nothing of one run reaches the next. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/log.h"
#include "tests/sim/sim_plan_file.h"
#include "tests/sim/sim_run.h"
#include "tests/sim/sim_shrink.h"

#define JOBS_MAX 64
#define SEED_CPU_S 120   /* Of processor time: then it hangs, however slow the machine is. */
#define SEED_REAL_S 3600 /* It waits for something that never comes. */
#define SHRINK_TRIES_MAX 600

struct options {
    uint64_t first;
    uint64_t seeds;
    bool is_replay;
    bool is_ablation;
    bool is_planting;
    bool is_expected_to_fail; /* One failing seed is enough, and none is an error. */
    bool is_checked_twice;    /* Each seed runs twice: equal traces. */
    unsigned jobs;
    unsigned failures_max;
    int scenario;
    uint64_t guards_off;
    enum sim_planted planted;
    const char *guards_text;
    const char *skips;           /* Seeds with a known, listed reason. */
    const char *plan_path;       /* Instead of a seed. */
    const char *shrink_path;     /* Where the shrunk plan goes. */
    const struct sim_plan *plan; /* Read from plan_path, or being shrunk. */
};

static const char *const guard_names[] = {
#define GUARD_NAME(name) #name,
    HOST_GUARD_MAP(GUARD_NAME)
#undef GUARD_NAME
};

static uint64_t parse_guards(const char *text)
{
    uint64_t mask = 0;
    char *copy = xslicedup(slice_str(text));
    for (char *save, *name = strtok_r(copy, ",", &save); name != NULL;
         name = strtok_r(NULL, ",", &save)) {
        bool is_found = strcmp(name, "all") == 0;
        mask |= is_found ? (UINT64_C(1) << HOST_GUARDS_COUNT) - 1 : 0;
        for (unsigned i = 0; i < HOST_GUARDS_COUNT; i++) {
            if (strcmp(name, guard_names[i]) == 0) {
                mask |= UINT64_C(1) << i;
                is_found = true;
            }
        }
        if (!is_found) {
            fprintf(stderr, "no guard is named %s\n", name);
            exit(2);
        }
    }
    free(copy);
    return mask;
}

static bool is_skipped(const struct options *o, uint64_t seed)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, seed);
    for (const char *p = o->skips; p != NULL && (p = strstr(p, text)) != NULL; p++) {
        char end = p[strlen(text)];
        if ((p == o->skips || p[-1] == ',') && (end == ',' || end == 0)) {
            return true;
        }
    }
    return false;
}

static void run_seed(const struct options *o, uint64_t seed, bool is_trace_on,
                     struct sim_result *ret_result)
{
    struct sim_plan *plan = xcalloc(1, sizeof *plan);
    struct sim_run_options run = {
        .guards_off = o->guards_off, .planted = o->planted, .is_trace_on = is_trace_on};
    if (o->plan != NULL) {
        *plan = *o->plan;
    } else {
        sim_plan_draw(plan, seed, o->scenario);
    }
    if (is_trace_on) {
        sim_plan_print(plan);
    }
    sim_run(plan, &run, ret_result);
    if (o->is_checked_twice && !ret_result->is_failed) {
        struct sim_result again;
        sim_run(plan, &run, &again);
        if (again.trace_hash != ret_result->trace_hash) {
            ret_result->is_failed = true;
            snprintf(ret_result->oracle, sizeof ret_result->oracle, "REPLAY");
            snprintf(ret_result->text, sizeof ret_result->text, "two runs have other traces");
        }
    }
    free(plan);
}

static void print_repeat(const struct options *o, uint64_t seed)
{
    if (o->plan_path != NULL) {
        printf("  repeat: scripts/sim --plan %s", o->plan_path);
    } else {
        printf("  repeat: scripts/sim --seed %" PRIu64, seed);
    }
    if (o->scenario >= 0) {
        printf(" --scenario %s", sim_scenario_text((enum sim_scenario)o->scenario));
    }
    if (o->guards_off != 0) {
        printf(" --guards-off %s", o->guards_text);
    }
    if (o->planted != SIM_PLANTED_NONE) {
        printf(" --plant %s", sim_planted_bug(o->planted)->text);
    }
    printf("\n");
}

/* ---- Many seeds ---- */

struct child {
    pid_t pid;
    int fd;
    uint64_t seed;
};

struct tally {
    uint64_t done;
    uint64_t failed;
    uint64_t skipped;
    uint64_t first_failed; /* How many seeds were run until the first failed. */
    char first_oracle[32];
    uint64_t first_seed;
    struct sim_stats stats;
};

static void quiet(void)
{
    struct log_options log = {.level_max = LOG_LEVEL_ERR, .path = "/dev/null"};
    (void)log_open(&log);
}

static void start_child(const struct options *o, uint64_t seed, struct child *c)
{
    int fds[2];
    if (pipe(fds) != 0) {
        perror("pipe");
        exit(2);
    }
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    if (pid == 0) {
        struct sim_result result;
        close(fds[0]);
        if (o->guards_off != 0 || o->planted != 0) { /* Crashes are expected: no reports of them. */
            (void)!freopen("/dev/null", "w", stderr);
        }
        struct rlimit cpu = {SEED_CPU_S, SEED_CPU_S + 5};
        (void)setrlimit(RLIMIT_CPU, &cpu);
        alarm(SEED_REAL_S);
        run_seed(o, seed, false, &result);
        ssize_t n = write(fds[1], &result, sizeof result);
        _exit(n == (ssize_t)sizeof result ? 0 : 1);
    }
    close(fds[1]);
    *c = (struct child){pid, fds[0], seed};
}

static void add_stats(struct sim_stats *to, const struct sim_stats *from)
{
#define SIM_STAT_ADD(name) to->name += from->name;
    SIM_STAT_MAP(SIM_STAT_ADD)
#undef SIM_STAT_ADD
}

static struct sim_result result_of(struct child *c, int status)
{
    struct sim_result r = {0};
    if (read(c->fd, &r, sizeof r) != (ssize_t)sizeof r) {
        r.is_failed = true;
        int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        snprintf(r.oracle, sizeof r.oracle, "%s",
                 sig == SIGXCPU || sig == SIGALRM ? "HANG" : "CRASH");
        snprintf(r.text, sizeof r.text, "the process ended: %s",
                 sig != 0 ? strsignal(sig) : "it exited");
    }
    close(c->fd);
    c->pid = 0;
    return r;
}

static void end_child(const struct options *o, struct child *c, int status, struct tally *t)
{
    struct sim_result r = result_of(c, status);
    t->done++;
    add_stats(&t->stats, &r.stats);
    if (!r.is_failed) {
        return;
    }
    t->failed++;
    if (t->failed == 1 || c->seed < t->first_seed) { /* Not which of two ends first. */
        t->first_failed = c->seed - o->first + 1;
        t->first_seed = c->seed;
        snprintf(t->first_oracle, sizeof t->first_oracle, "%s", r.oracle);
    }
    if (!o->is_ablation) {
        printf("seed %" PRIu64 " FAILED %s: %s\n", c->seed, r.oracle, r.text);
        print_repeat(o, c->seed);
        fflush(stdout);
    }
}

static void run_many(const struct options *o, struct tally *t)
{
    struct child children[JOBS_MAX] = {0};
    unsigned running = 0;
    uint64_t next = o->first;
    while (running > 0 || (next < o->first + o->seeds && t->failed < o->failures_max)) {
        while (running < o->jobs && next < o->first + o->seeds && t->failed < o->failures_max) {
            if (is_skipped(o, next)) {
                t->skipped++;
                next++;
                continue;
            }
            unsigned at = 0;
            while (children[at].pid != 0) {
                at++;
            }
            start_child(o, next++, &children[at]);
            running++;
        }
        if (running == 0) {
            return;
        }
        int status;
        pid_t pid = wait(&status);
        for (unsigned i = 0; i < o->jobs; i++) {
            if (children[i].pid == pid) {
                end_child(o, &children[i], status, t);
                running--;
            }
        }
    }
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int many(const struct options *o)
{
    struct tally t = {0};
    double began = now_s();
    run_many(o, &t);
    double took = now_s() - began;
#define SIM_STAT_PRINT(name) printf("  %-12s %" PRIu64 "\n", #name, t.stats.name);
    SIM_STAT_MAP(SIM_STAT_PRINT)
#undef SIM_STAT_PRINT
    printf("%" PRIu64 " seeds from %" PRIu64 ": %" PRIu64 " failed", t.done, o->first, t.failed);
    if (t.skipped > 0) {
        printf(", %" PRIu64 " skipped", t.skipped);
    }
    printf("; %.1f s, %.0f seeds an hour\n", took, (double)t.done / took * 3600);
    if (o->is_expected_to_fail) {
        if (t.failed == 0) {
            printf("nothing was found without %s\n", o->guards_text);
        } else {
            printf("found by %s after %" PRIu64 " seeds\n", t.first_oracle, t.first_failed);
        }
        return t.failed == 0;
    }
    return t.failed > 0;
}

/* One row per guard: how many seeds it takes to miss it. */
static int ablate(struct options *o)
{
    printf("| without | seeds run | failed | first seed, oracle |\n|---|---|---|---|\n");
    for (unsigned i = 0; i <= HOST_GUARDS_COUNT; i++) {
        uint64_t bit =
            i < HOST_GUARDS_COUNT ? UINT64_C(1) << i : (UINT64_C(1) << HOST_GUARDS_COUNT) - 1;
        const char *name = i < HOST_GUARDS_COUNT ? guard_names[i] : "all";
        struct options one = *o;
        struct tally t = {0};
        if (o->guards_off != 0 && bit != o->guards_off &&
            (i == HOST_GUARDS_COUNT || (o->guards_off & bit) == 0)) {
            continue;
        }
        one.guards_off = bit;
        one.guards_text = name;
        run_many(&one, &t);
        if (t.failed > 0) {
            printf("| %s | %" PRIu64 " | %" PRIu64 " | %" PRIu64 ", %s |\n", name, t.done, t.failed,
                   t.first_seed, t.first_oracle);
        } else {
            printf("| %s | %" PRIu64 " | 0 | |\n", name, t.done);
        }
        fflush(stdout);
    }
    return 0;
}

/* One row per planted bug: after how many seeds it is caught, and by what. */
static int planted(const struct options *o)
{
    unsigned missed = 0;
    printf("| planted | scenario | seeds run | first seed, oracle |\n|---|---|---|---|\n");
    for (unsigned i = 1; i < SIM_PLANTED_COUNT; i++) {
        const struct sim_planted_bug *bug = sim_planted_bug((enum sim_planted)i);
        struct options one = *o;
        struct tally t = {0};
        if (o->planted != SIM_PLANTED_NONE && o->planted != i) {
            continue;
        }
        one.planted = (enum sim_planted)i;
        one.scenario = o->scenario < 0 ? (int)bug->scenario : o->scenario;
        one.failures_max = 1;
        one.is_ablation = true;
        run_many(&one, &t);
        bool is_caught = t.failed > 0 && sim_planted_is_named(one.planted, t.first_oracle);
        missed += !is_caught;
        printf("| %s | %s | %" PRIu64 " | ", bug->text,
               sim_scenario_text((enum sim_scenario)one.scenario), t.done);
        if (t.failed > 0) {
            printf("%" PRIu64 ", %s%s |\n", t.first_seed, t.first_oracle,
                   is_caught ? "" : ": NOT by what is to catch it");
        } else {
            printf("NOT CAUGHT |\n");
        }
        fflush(stdout);
    }
    printf("%u planted bugs, %u not caught by what is named for them\n", SIM_PLANTED_COUNT - 1,
           missed);
    return missed > 0;
}

static int replay(const struct options *o)
{
    struct sim_result r;
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    run_seed(o, o->first, true, &r);
    printf("seed %" PRIu64 " trace %016" PRIx64 " events %" PRIu64 ": ", o->first, r.trace_hash,
           r.stats.events);
    if (r.is_failed) {
        printf("FAILED %s: %s\n", r.oracle, r.text);
        print_repeat(o, o->first);
        return 1;
    }
    printf("passed\n");
    return 0;
}

/* ---- Shrinking ---- */

static struct sim_result run_apart(const struct options *o, const struct sim_plan *plan)
{
    struct options one = *o;
    struct child c;
    int status = 0;
    one.plan = plan;
    start_child(&one, plan->seed, &c);
    (void)waitpid(c.pid, &status, 0);
    return result_of(&c, status);
}

struct failure {
    const struct options *options;
    char oracle[32];
};

static bool fails_alike(void *ctx, const struct sim_plan *plan)
{
    const struct failure *f = ctx;
    struct sim_result r = run_apart(f->options, plan);
    return r.is_failed && strcmp(r.oracle, f->oracle) == 0;
}

static int shrink(const struct options *o)
{
    struct sim_plan *plan = xcalloc(1, sizeof *plan);
    if (o->plan != NULL) {
        *plan = *o->plan;
    } else {
        sim_plan_draw(plan, o->first, o->scenario);
    }
    struct sim_result r = run_apart(o, plan);
    if (!r.is_failed) {
        printf("it does not fail\n");
        free(plan);
        return 1;
    }
    struct failure f = {.options = o};
    snprintf(f.oracle, sizeof f.oracle, "%s", r.oracle);
    unsigned before = plan->faults_count;
    unsigned tries = sim_shrink(plan, SHRINK_TRIES_MAX, fails_alike, &f);
    r = run_apart(o, plan);
    FILE *out = fopen(o->shrink_path, "w");
    if (out == NULL) {
        perror(o->shrink_path);
        free(plan);
        return 2;
    }
    fprintf(out, "# %s: %s\n", r.oracle, r.text);
    sim_plan_write(plan, out);
    fclose(out);
    printf("%s: %u faults of %u after %u runs\n  repeat: scripts/sim --plan %s\n", r.oracle,
           plan->faults_count, before, tries, o->shrink_path);
    free(plan);
    return 0;
}

static struct sim_plan *read_plan(const char *path)
{
    struct sim_plan *plan = xcalloc(1, sizeof *plan);
    FILE *in = fopen(path, "r");
    if (in == NULL) {
        perror(path);
        exit(2);
    }
    unsigned line = sim_plan_read(in, plan);
    fclose(in);
    if (line != 0) {
        fprintf(stderr, "%s:%u: no plan\n", path, line);
        exit(2);
    }
    return plan;
}

static void usage(FILE *out)
{
    fprintf(
        out,
        "usage: weir_sim [--seeds N] [--first K] [-j JOBS]   run seeds K to K + N - 1\n"
        "       weir_sim --seed K                           repeat one seed with its trace\n"
        "       weir_sim --plan FILE                        the same with a plan from a file\n"
        "       weir_sim --seed K --shrink FILE             the smallest plan that fails so, "
        "to a file\n"
        "       weir_sim --ablate [--seeds N]               each guard off in turn, and all\n"
        "       weir_sim --planted [--seeds N]              each bug planted on purpose is caught\n"
        "  --scenario NAME      only this one (--power-cuts: power)\n"
        "  --guards-off NAMES   leave out these guards, or all\n"
        "  --plant NAME         with this planted bug\n"
        "  --expect-failure     stop at the first failing seed; none is an error\n"
        "  --twice              run each seed twice and compare the traces\n"
        "  --failures N         stop after so many failing seeds (20)\n"
        "  --skip SEEDS         leave out these seeds\n");
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"seeds", required_argument, NULL, 'n'},
        {"first", required_argument, NULL, 'f'},
        {"seed", required_argument, NULL, 's'},
        {"jobs", required_argument, NULL, 'j'},
        {"scenario", required_argument, NULL, 'c'},
        {"power-cuts", no_argument, NULL, 'p'},
        {"guards-off", required_argument, NULL, 'g'},
        {"ablate", no_argument, NULL, 'a'},
        {"plant", required_argument, NULL, 'l'},
        {"planted", no_argument, NULL, 'L'},
        {"expect-failure", no_argument, NULL, 'e'},
        {"twice", no_argument, NULL, 't'},
        {"failures", required_argument, NULL, 'x'},
        {"skip", required_argument, NULL, 'k'},
        {"plan", required_argument, NULL, 'P'},
        {"shrink", required_argument, NULL, 'S'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {
        .first = 1, .seeds = 1000, .scenario = -1, .failures_max = 20, .guards_text = ""};
    o.jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    /* Each process lives for a moment, and allocates large blocks again and again: half of its time
     * would go into giving pages back and faulting them in. */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 16 << 20);
    int c;
    while ((c = getopt_long(argc, argv, "j:h", longs, NULL)) != -1) {
        switch (c) {
        case 'n':
            o.seeds = strtoull(optarg, NULL, 10);
            break;
        case 's':
            o.is_replay = true;
            o.first = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            o.first = strtoull(optarg, NULL, 10);
            break;
        case 'j':
            o.jobs = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            o.scenario = sim_scenario_find(optarg);
            if (o.scenario < 0) {
                fprintf(stderr, "no scenario is named %s\n", optarg);
                return 2;
            }
            break;
        case 'p':
            o.scenario = SIM_POWER;
            break;
        case 'g':
            o.guards_text = optarg;
            o.guards_off = parse_guards(optarg);
            break;
        case 'a':
            o.is_ablation = true;
            break;
        case 'l':
            o.planted = sim_planted_find(optarg);
            if (o.planted == SIM_PLANTED_NONE) {
                fprintf(stderr, "no bug is named %s\n", optarg);
                return 2;
            }
            break;
        case 'L':
            o.is_planting = true;
            break;
        case 'e':
            o.is_expected_to_fail = true;
            o.failures_max = 1;
            break;
        case 't':
            o.is_checked_twice = true;
            break;
        case 'x':
            o.failures_max = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'k':
            o.skips = optarg;
            break;
        case 'P':
            o.is_replay = true;
            o.plan_path = optarg;
            break;
        case 'S':
            o.shrink_path = optarg;
            break;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage(stderr);
            return 2;
        }
    }
    o.jobs = o.jobs < 1 ? 1 : o.jobs > JOBS_MAX ? JOBS_MAX : o.jobs;
    struct sim_plan *plan = o.plan_path == NULL ? NULL : read_plan(o.plan_path);
    o.plan = plan;
    o.first = plan == NULL ? o.first : plan->seed;
    int rv;
    if (o.is_replay && o.shrink_path == NULL) {
        struct log_options log = {.level_max = LOG_LEVEL_INF};
        (void)log_open(&log);
        rv = replay(&o);
    } else {
        quiet();
        rv = o.shrink_path != NULL ? shrink(&o)
             : o.is_ablation       ? ablate(&o)
             : o.is_planting       ? planted(&o)
                                   : many(&o);
    }
    free(plan);
    return rv;
}
