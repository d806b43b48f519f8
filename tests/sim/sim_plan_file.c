#include "tests/sim/sim_plan_file.h"

#include <stdlib.h>
#include <string.h>

#define SIM_FIELD_MAP(X)                                                                           \
    X(nodes_count)                                                                                 \
    X(groups_count)                                                                                \
    X(members_count)                                                                               \
    X(faults_us)                                                                                   \
    X(net.delay_min_us)                                                                            \
    X(net.delay_max_us)                                                                            \
    X(net.slow_per_mille)                                                                          \
    X(net.slow_max_us)                                                                             \
    X(net.stray_per_mille)                                                                         \
    X(net.has_late_frames)                                                                         \
    X(net.is_datagram)                                                                             \
    X(tick_us)                                                                                     \
    X(disk_min_us)                                                                                 \
    X(disk_max_us)                                                                                 \
    X(apply_max_us)                                                                                \
    X(flush_max_us)                                                                                \
    X(drift_ppm[0])                                                                                \
    X(drift_ppm[1])                                                                                \
    X(drift_ppm[2])                                                                                \
    X(drift_ppm[3])                                                                                \
    X(drift_ppm[4])                                                                                \
    X(client_max_us)                                                                               \
    X(burst_max)                                                                                   \
    X(entry_bytes_max)                                                                             \
    X(image_bytes_max)                                                                             \
    X(is_bursty)                                                                                   \
    X(segment_bytes_min)                                                                           \
    X(segment_bytes_max)                                                                           \
    X(frame_bytes_max)                                                                             \
    X(trim_entries_max)                                                                            \
    X(trailing_entries)                                                                            \
    X(entry_batch_max)                                                                             \
    X(held_batches_max)                                                                            \
    X(is_base_from_memory)

void sim_plan_write(const struct sim_plan *plan, FILE *out)
{
    fprintf(out, "seed %llu\n", (unsigned long long)plan->seed);
    fprintf(out, "scenario %s\n", sim_scenario_text(plan->scenario));
#define SIM_FIELD_WRITE(field) fprintf(out, "%s %lld\n", #field, (long long)plan->field);
    SIM_FIELD_MAP(SIM_FIELD_WRITE)
#undef SIM_FIELD_WRITE
    fprintf(out, "# at_us kind node peer arg duration_us\n");
    for (unsigned i = 0; i < plan->faults_count; i++) {
        const struct sim_fault *f = &plan->faults[i];
        fprintf(out, "fault %lld %s %u %u %u %lld\n", (long long)f->at_us, sim_fault_text(f->kind),
                f->node, f->peer, f->arg, (long long)f->duration_us);
    }
}

static bool read_fault(const char *text, struct sim_plan *plan)
{
    struct sim_fault f = {0};
    char kind[32];
    long long at_us, duration_us;
    if (plan->faults_count == SIM_FAULTS_MAX ||
        sscanf(text, "%lld %31s %u %u %u %lld", &at_us, kind, &f.node, &f.peer, &f.arg,
               &duration_us) != 6) {
        return false;
    }
    f.at_us = at_us;
    f.duration_us = duration_us;
    for (int i = 0; i < SIM_FAULTS_COUNT; i++) {
        if (strcmp(kind, sim_fault_text((enum sim_fault_kind)i)) == 0) {
            f.kind = (enum sim_fault_kind)i;
            plan->faults[plan->faults_count++] = f;
            return true;
        }
    }
    return false;
}

static bool read_field(const char *name, const char *text, struct sim_plan *plan)
{
    char *end;
    long long v = strtoll(text, &end, 10);
    if (end == text) {
        return false;
    }
#define SIM_FIELD_READ(field)                                                                      \
    if (strcmp(name, #field) == 0) {                                                               \
        plan->field = (__typeof__(plan->field))v;                                                  \
        return true;                                                                               \
    }
    SIM_FIELD_MAP(SIM_FIELD_READ)
#undef SIM_FIELD_READ
    return false;
}

/* "seed" and then "scenario" begin anew with what they draw. */
static bool read_line(const char *name, const char *text, struct sim_plan *plan)
{
    if (strcmp(name, "fault") == 0) {
        return read_fault(text, plan);
    }
    if (strcmp(name, "seed") == 0) {
        sim_plan_draw(plan, strtoull(text, NULL, 10), -1);
        plan->faults_count = 0;
        return true;
    }
    if (strcmp(name, "scenario") == 0) {
        char word[32];
        int scenario = sscanf(text, "%31s", word) == 1 ? sim_scenario_find(word) : -1;
        if (scenario >= 0) {
            sim_plan_draw(plan, plan->seed, scenario);
            plan->faults_count = 0;
        }
        return scenario >= 0;
    }
    return read_field(name, text, plan);
}

static bool is_sane(const struct sim_plan *p)
{
    if (p->nodes_count < 1 || p->nodes_count > SIM_NODES_MAX || p->groups_count < 1 ||
        p->groups_count > SIM_GROUPS_MAX) {
        return false;
    }
    for (unsigned i = 1; i < p->faults_count; i++) {
        if (p->faults[i].at_us < p->faults[i - 1].at_us) {
            return false;
        }
    }
    return true;
}

unsigned sim_plan_read(FILE *in, struct sim_plan *ret_plan)
{
    char line[256];
    unsigned number = 0;
    *ret_plan = (struct sim_plan){0};
    while (fgets(line, sizeof line, in) != NULL) {
        char name[64];
        int at = 0;
        number++;
        if (line[0] == '#' || sscanf(line, "%63s %n", name, &at) != 1) {
            continue;
        }
        if (!read_line(name, line + at, ret_plan)) {
            return number;
        }
    }
    ret_plan->net.nodes_count = ret_plan->nodes_count;
    return is_sane(ret_plan) ? 0 : number + 1;
}
