/* How much may be in memory and not in blocks, as fast as blocks are written. Pure: the caller says
 * the time.
 *
 * What waits when the limit is reached waits for a whole pass. So the limit is what was written of
 * late in two seconds: a disk that takes all that memory may hold is given all of it, and from a
 * slow one nobody waits for long. While a pass goes on longer than the last ones promised, that
 * counts already. */
#ifndef CLUSTER_FLUSH_PACE_H
#define CLUSTER_FLUSH_PACE_H
#include <stdint.h>

#define FLUSH_PACE_BYTES_MIN (UINT64_C(16) << 20)
#define FLUSH_PACE_BYTES_MAX (UINT64_C(192) << 20)

/* All zero: nothing is known, and the limit is the highest. */
struct flush_pace {
    uint64_t bytes_max;  /* As of the last pass that says something; 0: none did. */
    uint64_t pass_bytes; /* Of the pass that runs; 0: none, or one that says nothing. */
    uint64_t began_ms;
};

/* A pass begins that writes @bytes. */
void flush_pace_begin(struct flush_pace *p, uint64_t bytes, uint64_t now_ms);
void flush_pace_end(struct flush_pace *p, uint64_t now_ms);
/* At so many bytes nothing more is to be taken. */
uint64_t flush_pace_max(const struct flush_pace *p, uint64_t now_ms);
/* At so many a pass is to begin: the rest comes while it runs. */
uint64_t flush_pace_due(const struct flush_pace *p);
#endif
