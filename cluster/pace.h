/* How fast catch-up may go beside those who publish (issue 3: their p99 stays below twice what it
 * is otherwise). Pure: the caller passes the times.
 *
 * A limit, and below it a rate that follows what publishes take, from being proposed to being
 * applied. What they take without catch-up is known from the time before it, and from a pause of a
 * tenth of a second every two seconds. A tenth of a second in which they take half as long again
 * lowers the rate by a quarter; any other one raises it by an eighth. Where nobody publishes
 * nothing is lowered.
 *
 *   take    --> how long to wait before so many bytes go
 *   sample  --> a publish was applied
 *   tick    --> the windows
 */
#ifndef CLUSTER_PACE_H
#define CLUSTER_PACE_H
#include <stdbool.h>
#include <stdint.h>

#define PACE_SAMPLES_MAX 256u

/* Embed it. It owns nothing. */
struct pace {
    uint64_t limit_per_s; /* Bytes; 0: as fast as it goes. */
    uint64_t rate_per_s;  /* Now. */
    /* Private. */
    int64_t free_ns; /* When what was let go is paid for. */
    int64_t window_ns;
    int64_t probe_ns; /* The next pause is due. */
    uint64_t bytes;   /* In this window. */
    uint64_t bytes_before;
    bool is_probing;
    uint32_t usual_us; /* What publishes take without catch-up; 0: not known. */
    uint32_t samples_count;
    uint32_t samples_us[PACE_SAMPLES_MAX]; /* Of this window. */
};

void pace_init(struct pace *p, uint64_t limit_per_s, int64_t now_ns);
/* Change the limit. */
void pace_limit(struct pace *p, uint64_t limit_per_s);
/* @bytes are about to go: after so many ms. */
uint64_t pace_take(struct pace *p, uint64_t bytes, int64_t now_ns);
void pace_sample(struct pace *p, uint32_t took_us);
/* Often, compared with a tenth of a second. */
void pace_tick(struct pace *p, int64_t now_ns);
#endif
