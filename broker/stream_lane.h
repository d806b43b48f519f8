/* Origin lanes: what each origin has been answered (design 3).
 *
 * Per origin the last n and its last answers, as runs: consecutive successes with consecutive
 * sequences, or equal refusals, are one run. */
#ifndef BROKER_STREAM_LANE_H
#define BROKER_STREAM_LANE_H
#include "storage/base/buf.h"

#define LANES_MAX 4096u /* Origins; beyond it the one forgotten next gives way. */

struct lane_answer {
    uint64_t seq;
    int err_code;
    bool is_duplicate;
    struct slice text;
};

struct lane_run {
    uint64_t n; /* Of the first. */
    uint64_t count;
    uint64_t seq; /* Of the first; a success's sequences count on. */
    int err_code;
    bool is_duplicate;
    char *text; /* NULL: none. */
    uint32_t text_len;
};

struct lane {
    uint64_t node;
    uint64_t origin;
    uint64_t last_n;
    int64_t forget_ns; /* Log time; INT64_MAX: not yet. */
    struct lane_run *runs;
    size_t head;
    size_t count; /* Runs in [head, count). */
    size_t cap;
    bool is_dirty; /* Since the last checkpoint. */
};

struct lanes {
    struct lane *lanes; /* By (node, origin). */
    size_t count;
    size_t cap;
    struct buf dropped; /* (node, origin) pairs forgotten since the last checkpoint. */
};

void lanes_close(struct lanes *l);
void lane_close(struct lane *lane);
struct lane *lanes_find(struct lanes *l, uint64_t node, uint64_t origin);
/* Found or new; a new one makes the older ones of its node forgettable at @forget_ns. */
struct lane *lanes_add(struct lanes *l, uint64_t node, uint64_t origin, int64_t forget_ns);
/* Forget those due. */
void lanes_forget(struct lanes *l, int64_t now_ns);
/* False if the answer to @n is gone. The text is the lane's. */
bool lane_find(const struct lane *lane, uint64_t n, struct lane_answer *ret_answer);
/* Record the answer to last_n + 1. */
void lane_add(struct lane *lane, const struct lane_answer *a, uint64_t answers_max);
uint64_t lane_hash(const struct lane *lane);
void lane_save(const struct lane *lane, struct buf *out);
/* 0 or ERR_INVALID. */
int lane_load(struct lane *lane, struct slice value);
#endif
