#include "cluster/flush_pace.h"

#define WINDOW_MS 2000u
#define PASS_BYTES_MIN                                                                             \
    (FLUSH_PACE_BYTES_MIN / 2) /* Syncs take most of the time of a smaller one. */

/* The limit that fits @bytes in so long. */
static uint64_t fitting(uint64_t bytes, uint64_t took_ms)
{
    uint64_t fit = took_ms == 0 ? FLUSH_PACE_BYTES_MAX : bytes * WINDOW_MS / took_ms;
    return fit < FLUSH_PACE_BYTES_MIN   ? FLUSH_PACE_BYTES_MIN
           : fit > FLUSH_PACE_BYTES_MAX ? FLUSH_PACE_BYTES_MAX
                                        : fit;
}

void flush_pace_begin(struct flush_pace *p, uint64_t bytes, uint64_t now_ms)
{
    p->pass_bytes = bytes >= PASS_BYTES_MIN ? bytes : 0;
    p->began_ms = now_ms;
}

void flush_pace_end(struct flush_pace *p, uint64_t now_ms)
{
    if (p->pass_bytes > 0) {
        p->bytes_max = fitting(p->pass_bytes, now_ms - p->began_ms);
        p->pass_bytes = 0;
    }
}

uint64_t flush_pace_max(const struct flush_pace *p, uint64_t now_ms)
{
    uint64_t max = p->bytes_max == 0 ? FLUSH_PACE_BYTES_MAX : p->bytes_max;
    if (p->pass_bytes > 0) {
        uint64_t so_far = fitting(p->pass_bytes, now_ms - p->began_ms);
        max = so_far < max ? so_far : max;
    }
    return max;
}

uint64_t flush_pace_due(const struct flush_pace *p)
{
    return (p->bytes_max == 0 ? FLUSH_PACE_BYTES_MAX : p->bytes_max) / 3;
}
