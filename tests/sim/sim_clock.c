#include "tests/sim/sim_clock.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "tests/sim/sim_rng.h"

struct sim_event {
    int64_t at_us;
    uint64_t number;
    sim_event_cb cb;
    void *arg;
    uint64_t a;
    uint64_t b;
};

void sim_clock_init(struct sim_clock *c)
{
    *c = (struct sim_clock){0};
}

void sim_clock_close(struct sim_clock *c)
{
    free(c->heap);
    *c = (struct sim_clock){0};
}

static bool is_before(const struct sim_event *x, const struct sim_event *y)
{
    return x->at_us < y->at_us || (x->at_us == y->at_us && x->number < y->number);
}

void sim_clock_at(struct sim_clock *c, int64_t at_us, sim_event_cb cb, void *arg, uint64_t a,
                  uint64_t b)
{
    struct sim_event e = {at_us < c->now_us ? c->now_us : at_us, c->next_number++, cb, arg, a, b};
    if (c->heap_count == c->heap_cap) {
        c->heap_cap = c->heap_cap == 0 ? 256 : c->heap_cap * 2;
        c->heap = xrealloc(c->heap, c->heap_cap * sizeof *c->heap);
    }
    unsigned i = c->heap_count++;
    while (i > 0 && is_before(&e, &c->heap[(i - 1) / 2])) {
        c->heap[i] = c->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    c->heap[i] = e;
}

static struct sim_event pop(struct sim_clock *c)
{
    struct sim_event top = c->heap[0];
    struct sim_event last = c->heap[--c->heap_count];
    unsigned i = 0;
    for (;;) {
        unsigned child = 2 * i + 1;
        if (child >= c->heap_count) {
            break;
        }
        if (child + 1 < c->heap_count && is_before(&c->heap[child + 1], &c->heap[child])) {
            child++;
        }
        if (!is_before(&c->heap[child], &last)) {
            break;
        }
        c->heap[i] = c->heap[child];
        i = child;
    }
    c->heap[i] = last;
    return top;
}

bool sim_clock_step(struct sim_clock *c)
{
    if (c->heap_count == 0) {
        return false;
    }
    struct sim_event e = pop(c);
    assert(e.at_us >= c->now_us);
    c->now_us = e.at_us;
    c->fired_count++;
    e.cb(e.arg, e.a, e.b);
    return true;
}

int64_t sim_clock_next_us(const struct sim_clock *c)
{
    return c->heap_count == 0 ? INT64_MAX : c->heap[0].at_us;
}

void sim_trace(struct sim_clock *c, const char *fmt, uint64_t a, uint64_t b, uint64_t d)
{
    uint64_t h = sim_fold(c->trace_hash, (uint64_t)c->now_us);
    for (const char *p = fmt; *p != 0; p++) { /* The text, not its address: that moves. */
        h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    }
    c->trace_hash = sim_fold(sim_fold(sim_fold(h, a), b), d);
    if (c->is_trace_on) {
        printf("%10.3f ", (double)c->now_us / 1000);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        printf(fmt, (unsigned long long)a, (unsigned long long)b, (unsigned long long)d);
#pragma GCC diagnostic pop
        putchar('\n');
    }
}

void sim_note(const struct sim_clock *c, const char *fmt, ...)
{
    if (!c->is_trace_on) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    printf("%10.3f ", (double)c->now_us / 1000);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}
