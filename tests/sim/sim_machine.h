/* The state machine of one replica in the simulator: it counts entries and folds their hashes, so
 * that equal states mean equal histories.
 *
 * Committed entries are queued and stepped later, as production does. A flush makes the state of
 * one index durable after a while; what is durable survives a kill. An image is the state of one
 * index and a filling derived from it. */
#ifndef TESTS_SIM_MACHINE_H
#define TESTS_SIM_MACHINE_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/buf.h"
#include "storage/base/list.h"
#include "storage/base/slice.h"

/* The state as of one index. */
struct sim_state {
    uint64_t index;
    uint64_t term;
    uint64_t count; /* Of client entries. */
    uint64_t hash;
};

struct sim_queued {
    struct list queue;
    uint64_t index;
    uint64_t term;
    bool is_command; /* False: only the index moves (barriers, configurations). */
    struct buf bytes;
    uint64_t token; /* Of a proposal here, or 0. */
};

struct sim_machine {
    struct sim_state durable; /* Survives. */
    struct sim_state applied;
    struct list queue; /* Of struct sim_queued, by index. */
    bool has_step_event;
    bool is_flushing;
};

void sim_machine_init(struct sim_machine *m);
/* Forget what is not durable: the process died. */
void sim_machine_crash(struct sim_machine *m);
void sim_machine_close(struct sim_machine *m);

/* Queue an entry; those at or below what is queued or applied are dropped. True if it is new. */
bool sim_machine_queue(struct sim_machine *m, uint64_t index, uint64_t term, bool is_command,
                       struct slice bytes, uint64_t token);
/* Take the oldest queued entry into the state. NULL when there is none; the caller frees it. */
struct sim_queued *sim_machine_step(struct sim_machine *m);
void sim_queued_free(struct sim_queued *q);
/* The last index that is queued or applied. */
uint64_t sim_machine_last(const struct sim_machine *m);

/* An image of @state, @bytes long at least; and back again. ERR_CORRUPT if it is not one. */
void sim_state_encode(const struct sim_state *state, size_t bytes, struct buf *out);
int sim_state_decode(struct slice bytes, struct sim_state *ret_state);

uint64_t sim_hash(struct slice bytes);
#endif
