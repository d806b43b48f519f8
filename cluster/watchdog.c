#include "cluster/watchdog.h"

#include <string.h>

#define NS_PER_MS 1000000u
#define LONG_NS ((uint64_t)WATCHDOG_LONG_MS * NS_PER_MS)
#define CPU_SAMPLE_NS NS_PER_MS
#define LOG_EVERY_NS (1000u * NS_PER_MS)

const char *watchdog_activity_text(enum watchdog_activity a)
{
    static const char *const texts[] = {
#define X(name, text) text,
        WATCHDOG_ACTIVITY_MAP(X)
#undef X
    };
    return texts[a];
}

bool watchdog_wants_cpu(const struct watchdog *w, uint64_t now_ns)
{
    return now_ns - w->cpu_sampled_ns >= CPU_SAMPLE_NS;
}

void watchdog_begin(struct watchdog *w, uint64_t now_ns, uint64_t cpu_ns)
{
    if (watchdog_wants_cpu(w, now_ns)) {
        w->cpu_sampled_ns = now_ns;
        w->cpu_ns = cpu_ns;
    }
    w->turns++;
    w->began_ns = w->piece_began_ns = now_ns;
    w->at = (struct watchdog_at){WATCHDOG_OTHER, 0};
    w->turn.piece_ns = 0;
}

struct watchdog_at watchdog_enter(struct watchdog *w, struct watchdog_at to, uint64_t now_ns)
{
    struct watchdog_at was = w->at;
    uint64_t took_ns = now_ns - w->piece_began_ns;
    w->by_activity_ns[was.activity] += took_ns;
    if (took_ns > w->turn.piece_ns) {
        w->turn.piece = was;
        w->turn.piece_ns = took_ns;
    }
    w->piece_began_ns = now_ns;
    w->at = to;
    return was;
}

bool watchdog_end(struct watchdog *w, uint64_t now_ns)
{
    (void)watchdog_enter(w, (struct watchdog_at){WATCHDOG_OTHER, 0}, now_ns);
    w->turn.took_ns = now_ns - w->began_ns;
    bool is_long = w->turn.took_ns > LONG_NS;
    if (is_long) {
        w->turn.activity = WATCHDOG_OTHER;
        for (enum watchdog_activity a = 0; a < WATCHDOG_COUNT; a++) {
            w->turn.activity =
                w->by_activity_ns[a] > w->by_activity_ns[w->turn.activity] ? a : w->turn.activity;
        }
        w->turn.activity_ns = w->by_activity_ns[w->turn.activity];
    }
    memset(w->by_activity_ns, 0, sizeof w->by_activity_ns);
    return is_long;
}

bool watchdog_long(struct watchdog *w, uint64_t cpu_ns, uint64_t wall_ns, struct watchdog_turn *ret,
                   uint64_t *ret_count)
{
    w->turn.cpu_ns = cpu_ns - w->cpu_ns;
    if (w->turn.cpu_ns > w->turn.took_ns) {
        w->turn.cpu_ns = w->turn.took_ns; /* The sample is from before this turn. */
    }
    w->long_count++;
    w->busy_count += w->turn.cpu_ns > LONG_NS;
    bool is_longest = w->turn.cpu_ns > w->longest.cpu_ns || w->longest.took_ns == 0;
    if (is_longest) {
        w->longest = w->turn;
    }
    if (!is_longest && w->logged_ns != 0 && wall_ns - w->logged_ns < LOG_EVERY_NS) {
        return false;
    }
    *ret = w->turn;
    *ret_count = w->long_count - w->logged_count;
    w->logged_ns = wall_ns;
    w->logged_count = w->long_count;
    return true;
}
