/* Virtual time: a heap of events ordered by (time, number), and the trace of what happened.
 *
 * Nothing moves between two events. Events of the same instant fire in the order in which they were
 * made, so a seed replays exactly. The trace is a running hash; when it is on, lines are printed.
 */
#ifndef TESTS_SIM_CLOCK_H
#define TESTS_SIM_CLOCK_H
#include <stdbool.h>
#include <stdint.h>

struct sim_event;

/* @arg, @a and @b are those given to sim_clock_at. */
typedef void (*sim_event_cb)(void *arg, uint64_t a, uint64_t b);

struct sim_clock {
    int64_t now_us;
    uint64_t fired_count;

    struct sim_event *heap; /* Private from here on. */
    unsigned heap_count;
    unsigned heap_cap;
    uint64_t next_number;

    uint64_t trace_hash;
    bool is_trace_on;
};

void sim_clock_init(struct sim_clock *c);
void sim_clock_close(struct sim_clock *c);

/* Fire @cb at @at_us, or now if that has passed. */
void sim_clock_at(struct sim_clock *c, int64_t at_us, sim_event_cb cb, void *arg, uint64_t a,
                  uint64_t b);

/* Fire the next event and advance to its time; false when there is none. */
bool sim_clock_step(struct sim_clock *c);

/* Time of the next event, INT64_MAX when there is none. */
int64_t sim_clock_next_us(const struct sim_clock *c);

/* One event of the trace: @what and three figures go into the hash, and are printed with
 * their names (@fmt has three %llu) if the trace is on. */
void sim_trace(struct sim_clock *c, const char *fmt, uint64_t a, uint64_t b, uint64_t d);
/* Printed only, not hashed. */
void sim_note(const struct sim_clock *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
#endif
