#include "cluster/pace.h"

#include <assert.h>
#include <stdlib.h>

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL
#define WINDOW_NS (100 * NS_PER_MS)
#define WINDOW_MAX_NS (500 * NS_PER_MS) /* Until there are enough samples. */
#define SAMPLES_MIN 8u
#define PROBE_NS (2 * NS_PER_S)
#define BURST_NS (4 * NS_PER_MS)
#define DELAY_MAX_MS 1000u /* Who fetches gives up after 2.5 s without an answer. */
#define RATE_MIN (4u << 20)
#define SLACK_US 100u

/* The rate that the limit allows at the least. */
static uint64_t rate_min(const struct pace *p)
{
    return p->limit_per_s < RATE_MIN ? p->limit_per_s : RATE_MIN;
}

/* What a catch-up begins with: it is not known yet what it costs. */
static uint64_t rate_first(const struct pace *p)
{
    uint64_t rate = p->limit_per_s / 4;
    return rate > rate_min(p) ? rate : rate_min(p);
}

void pace_init(struct pace *p, uint64_t limit_per_s, int64_t now_ns)
{
    *p = (struct pace){.free_ns = now_ns, .window_ns = now_ns, .probe_ns = now_ns};
    pace_limit(p, limit_per_s);
}

void pace_limit(struct pace *p, uint64_t limit_per_s)
{
    p->limit_per_s = limit_per_s;
    p->rate_per_s = rate_first(p);
}

uint64_t pace_take(struct pace *p, uint64_t bytes, int64_t now_ns)
{
    p->bytes += bytes;
    if (p->limit_per_s == 0) {
        return 0;
    }
    if (p->free_ns < now_ns - BURST_NS) {
        p->free_ns = now_ns - BURST_NS;
    }
    int64_t delay_ns = p->free_ns - now_ns;
    p->free_ns += (int64_t)(bytes * (uint64_t)NS_PER_S / p->rate_per_s);
    uint64_t delay_ms = delay_ns > 0 ? (uint64_t)(delay_ns / NS_PER_MS) : 0;
    return delay_ms < DELAY_MAX_MS ? delay_ms : DELAY_MAX_MS;
}

void pace_sample(struct pace *p, uint32_t took_us)
{
    if (p->samples_count < PACE_SAMPLES_MAX) {
        p->samples_us[p->samples_count++] = took_us;
    }
}

static int compare(const void *a, const void *b)
{
    const uint32_t *x = a;
    const uint32_t *y = b;
    return (*x > *y) - (*x < *y);
}

/* What nine of ten publishes of the window took at most. */
static uint32_t slow_us(struct pace *p)
{
    qsort(p->samples_us, p->samples_count, sizeof p->samples_us[0], compare);
    uint32_t us = p->samples_us[p->samples_count * 9 / 10];
    return us > 0 ? us : 1;
}

static void learn(struct pace *p, uint32_t us)
{
    p->usual_us = p->usual_us == 0 ? us : (uint32_t)(((uint64_t)p->usual_us * 3 + us) / 4);
}

static void raise(struct pace *p)
{
    uint64_t step = p->rate_per_s / 8 + 1;
    p->rate_per_s = p->limit_per_s - p->rate_per_s < step ? p->limit_per_s : p->rate_per_s + step;
}

static void lower(struct pace *p)
{
    uint64_t rate = p->rate_per_s - p->rate_per_s / 4;
    p->rate_per_s = rate > rate_min(p) ? rate : rate_min(p);
}

/* What the window tells. */
static void judge(struct pace *p, bool is_enough)
{
    /* Also what went shortly before: it may be on its way to the disk yet. */
    bool is_busy = p->bytes + p->bytes_before > 0;
    uint32_t us = is_enough ? slow_us(p) : 0;
    if (is_enough && (!is_busy || p->is_probing)) {
        learn(p, us);
    } else if (is_enough && p->usual_us > 0 && us > p->usual_us + p->usual_us / 2 + SLACK_US) {
        lower(p);
    } else if (is_busy && !p->is_probing) {
        raise(p);
    }
    if (!is_busy) {
        p->rate_per_s = rate_first(p);
    }
}

void pace_tick(struct pace *p, int64_t now_ns)
{
    bool is_enough = p->samples_count >= SAMPLES_MIN;
    int64_t took_ns = now_ns - p->window_ns;
    if (p->limit_per_s == 0 || took_ns < WINDOW_NS ||
        (!is_enough && p->samples_count > 0 && !p->is_probing && took_ns < WINDOW_MAX_NS)) {
        return;
    }
    judge(p, is_enough);
    bool is_busy = p->bytes > 0;
    bool was_probing = p->is_probing;
    /* A pause is of use only where somebody publishes. */
    p->is_probing = is_busy && is_enough && now_ns >= p->probe_ns;
    if (p->is_probing) {
        p->probe_ns = now_ns + PROBE_NS;
        p->free_ns = now_ns + WINDOW_NS + (p->free_ns > now_ns ? p->free_ns - now_ns : 0);
    }
    p->bytes_before = was_probing ? 0 : p->bytes;
    p->bytes = 0;
    p->samples_count = 0;
    p->window_ns = now_ns;
}
