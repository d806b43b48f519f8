#include "tests/sim/sim_log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"

void sim_log_close(struct sim_log *log)
{
    free(log->entries);
    *log = (struct sim_log){0};
}

static void reserve(struct sim_log *log, uint64_t index)
{
    if (index < log->cap) {
        return;
    }
    uint64_t cap = log->cap == 0 ? 256 : log->cap;
    while (cap <= index) {
        cap *= 2;
    }
    log->entries = xrealloc(log->entries, cap * sizeof *log->entries);
    memset(log->entries + log->cap, 0, (cap - log->cap) * sizeof *log->entries);
    log->cap = cap;
}

void sim_log_append(struct sim_log *log, uint64_t index, struct sim_entry entry)
{
    assert(index > 0);
    assert(entry.term > 0);
    sim_log_truncate(log, index);
    reserve(log, index);
    log->entries[index] = entry;
    log->last_index = index;
}

void sim_log_put(struct sim_log *log, uint64_t index, struct sim_entry entry)
{
    assert(index > 0);
    reserve(log, index);
    log->entries[index] = entry;
    log->last_index = index > log->last_index ? index : log->last_index;
}

void sim_log_truncate(struct sim_log *log, uint64_t from)
{
    if (from > log->last_index || log->cap == 0) {
        return;
    }
    memset(log->entries + from, 0, (log->last_index - from + 1) * sizeof *log->entries);
    log->last_index = from == 0 ? 0 : from - 1;
}

void sim_log_reset(struct sim_log *log, uint64_t index, uint64_t term)
{
    sim_log_truncate(log, 0);
    if (index == 0) {
        return;
    }
    reserve(log, index);
    log->entries[index] = (struct sim_entry){.term = term};
    log->last_index = index;
}

void sim_log_copy(struct sim_log *to, const struct sim_log *from)
{
    sim_log_truncate(to, 0);
    if (from->last_index == 0) {
        return;
    }
    reserve(to, from->last_index);
    memcpy(to->entries, from->entries, (from->last_index + 1) * sizeof *to->entries);
    to->last_index = from->last_index;
}

struct sim_entry sim_log_get(const struct sim_log *log, uint64_t index)
{
    return index <= log->last_index && log->cap > 0 ? log->entries[index] : (struct sim_entry){0};
}
