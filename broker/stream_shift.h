/* Stamps that were too early, and by how much (machine version 2).
 *
 * A leader that does not know the time yet, or doubts a jump of it (log_time.h), stamps with log
 * time that runs on from before. When it knows better, time jumps, and what was stamped meanwhile
 * would count as older than it is. So it says in the log from where on it is unsure, and then by
 * how much the stamps were too early:
 *
 *   sure --TIME_UNSURE--> unsure --TIME_SURE--> sure, and the last shift is open until time jumps
 *           \--TIME_UNSURE--/ another leader, or another lag: another stretch
 *
 * Each leader is unsure before it has applied what came before. TIME_UNSURE says by how much the
 * clock that is not believed is ahead, as soon as that is known: of a stretch before another stop
 * of all nobody could tell it later. Entries with the old time may come after TIME_SURE, as they
 * were on their way: they are those before half of the jump. Messages keep their stamps; their ages
 * and the windows of their ids count from the stamp and the shift. Deadlines of consumers that
 * begin while it is unsure are marked, and moved by the shift of the next TIME_SURE (machine
 * version 3).
 *
 * Part of the stream's state, pure. */
#ifndef BROKER_STREAM_SHIFT_H
#define BROKER_STREAM_SHIFT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/buf.h"

#define SHIFTS_MAX 32u /* The oldest gives way. */

struct shift {
    uint64_t first_seq;
    uint64_t
        last_seq; /* May be first_seq - 1; of the last stretch that is unsure it is not known. */
    int64_t ns;   /* While it is unsure: the lag that was told, 0: none was. */
    bool is_unsure;
};

/* All zero: sure, and no shifts. */
struct shifts {
    struct shift items[SHIFTS_MAX]; /* Ascending, without overlaps; unsure ones are the last. */
    size_t count;
    int64_t open_until_ns; /* What is stored before that time joins the last shift; 0: nothing. */
    bool is_dirty;         /* Since the last checkpoint. */
};

/* The op TIME_UNSURE. A lag is that of the stretch, if none was told; otherwise, and without one,
 * another stretch begins. @next_seq is that of the next message, from @first_live on they are
 * there. */
void shifts_unsure(struct shifts *s, uint64_t next_seq, uint64_t first_live, int64_t lag_ns);
/* The op TIME_SURE at log time @time_ns. Returns how many of the last shifts are new. */
size_t shifts_sure(struct shifts *s, uint64_t next_seq, int64_t time_ns, int64_t shift_ns);
/* Time is now @time_ns. */
void shifts_time(struct shifts *s, int64_t time_ns);
/* By how much the stamp of @seq, which is stored now, is too early as far as is known. */
int64_t shifts_stored(struct shifts *s, uint64_t seq);
/* By how much that of @seq is. */
int64_t shifts_of(const struct shifts *s, uint64_t seq);
/* By how much a stamp of now is, as far as is known. */
int64_t shifts_now(const struct shifts *s);
/* With the lag that was told last. */
bool shifts_is_unsure(const struct shifts *s, int64_t *ret_lag_ns);

void shifts_save(const struct shifts *s, struct buf *out);
/* ERR_INVALID if malformed. */
int shifts_load(struct shifts *s, struct slice value);
#endif
