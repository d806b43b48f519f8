/* A replica's log as the oracles know it: term, type and hash of each entry, no bytes.
 *
 * Indexes are 1, 2, 3 …; an index that was never written, or was cut off, has term 0. */
#ifndef TESTS_SIM_LOG_H
#define TESTS_SIM_LOG_H
#include <stdint.h>

struct sim_entry {
    uint64_t term; /* 0: not there. */
    uint64_t hash;
    uint8_t type;
};

struct sim_log {
    uint64_t last_index;
    struct sim_entry *entries; /* [index] */
    uint64_t cap;
};

void sim_log_close(struct sim_log *log);
/* Write @index; what was above it is cut off. */
void sim_log_append(struct sim_log *log, uint64_t index, struct sim_entry entry);
/* Write @index; the rest stays. */
void sim_log_put(struct sim_log *log, uint64_t index, struct sim_entry entry);
/* Cut off @from and all above it. */
void sim_log_truncate(struct sim_log *log, uint64_t from);
/* The log holds nothing but "all up to @index is in the base". */
void sim_log_reset(struct sim_log *log, uint64_t index, uint64_t term);
void sim_log_copy(struct sim_log *to, const struct sim_log *from);
/* The entry at @index; term 0 if it is not there. */
struct sim_entry sim_log_get(const struct sim_log *log, uint64_t index);
#endif
