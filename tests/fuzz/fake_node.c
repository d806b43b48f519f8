#include "tests/fuzz/fake_node.h"

#include "cluster/clients.h"
#include "cluster/node.h"
#include "storage/base/buf.h"
#include "storage/base/list.h"

/* As broker/json_fields.c does, which these targets do not link. */
__attribute__((constructor)) static void use_stopping_allocator(void)
{
    json_set_alloc_funcs(xmalloc, free);
}

#define HOOKS_MAX 16

struct loop_timer {
    struct list link;
    struct loop *loop;
    loop_cb cb;
    void *arg;
    uint64_t due_ms; /* 0: not running. */
    uint64_t repeat_ms;
};

struct loop_async {
    struct list link; /* In the loop's, while it is to be called. */
    struct loop *loop;
    loop_cb cb;
    void *arg;
};

struct work {
    struct list link;
    loop_cb work, done;
    void *arg;
};

struct loop {
    uint64_t now_ms, turns;
    struct list timers;
    struct list works;
    struct list asyncs;
    struct {
        enum loop_phase phase;
        loop_cb cb;
        void *arg;
    } hooks[HOOKS_MAX];
    unsigned hooks_count;
};

static uint64_t random_state;

void fake_random_reset(void)
{
    random_state = 88172645463325252u;
}

uint64_t node_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* ---- The loop ---- */

struct loop *loop_new(void)
{
    struct loop *l = xcalloc(1, sizeof *l);
    l->now_ms = 1000;
    list_init(&l->timers);
    list_init(&l->works);
    list_init(&l->asyncs);
    return l;
}

static void run_works(struct loop *l)
{
    struct list *it;
    while ((it = list_pop_front(&l->works)) != NULL) {
        struct work *w = container_of(it, struct work, link);
        w->work(w->arg);
        w->done(w->arg);
        free(w);
    }
}

void loop_free(struct loop *l)
{
    require(list_is_empty(&l->timers));
    run_works(l);
    free(l);
}

void loop_run(struct loop *l)
{
    (void)l;
}

void loop_stop(struct loop *l)
{
    (void)l;
}

void loop_drain(struct loop *l)
{
    (void)l;
}

uint64_t loop_now_ms(const struct loop *l)
{
    return l->now_ms;
}

uint64_t loop_turn_us(struct loop *l)
{
    (void)l;
    return 0;
}

int64_t loop_clock_ns(struct loop *l)
{
    return (int64_t)l->now_ms * 1000000;
}

int64_t loop_wall_ns(const struct loop *l)
{
    return (int64_t)l->now_ms * 1000000;
}

int64_t loop_mono_ns(const struct loop *l)
{
    return (int64_t)l->now_ms * 1000000;
}

int64_t loop_clock_set(struct loop *l)
{
    (void)l;
    return 0;
}

uint64_t loop_turns(const struct loop *l)
{
    return l->turns;
}

struct watchdog_at loop_enter(struct loop *l, enum watchdog_activity a, uint64_t gid)
{
    (void)l;
    return (struct watchdog_at){a, gid};
}

void loop_leave(struct loop *l, struct watchdog_at back_to)
{
    (void)l;
    (void)back_to;
}

const struct watchdog *loop_watchdog(const struct loop *l)
{
    static const struct watchdog none;
    (void)l;
    return &none;
}

void loop_hook(struct loop *l, enum loop_phase phase, loop_cb cb, void *arg)
{
    require(l->hooks_count < HOOKS_MAX);
    l->hooks[l->hooks_count].phase = phase;
    l->hooks[l->hooks_count].cb = cb;
    l->hooks[l->hooks_count++].arg = arg;
}

void loop_again(struct loop *l)
{
    (void)l;
}

struct loop_timer *loop_timer_new(struct loop *l, loop_cb cb, void *arg)
{
    struct loop_timer *t = xcalloc(1, sizeof *t);
    t->loop = l;
    t->cb = cb;
    t->arg = arg;
    list_init(&t->link);
    list_push_back(&l->timers, &t->link);
    return t;
}

void loop_timer_start(struct loop_timer *t, uint64_t delay_ms, uint64_t repeat_ms)
{
    t->due_ms = t->loop->now_ms + delay_ms;
    t->repeat_ms = repeat_ms;
}

void loop_timer_stop(struct loop_timer *t)
{
    t->due_ms = 0;
}

void loop_timer_unref(struct loop_timer *t)
{
    (void)t;
}

void loop_timer_free(struct loop_timer *t)
{
    if (t != NULL) {
        list_remove(&t->link);
        free(t);
    }
}

struct loop_async *loop_async_new(struct loop *l, loop_cb cb, void *arg)
{
    struct loop_async *a = xcalloc(1, sizeof *a);
    a->loop = l;
    a->cb = cb;
    a->arg = arg;
    list_init(&a->link);
    return a;
}

void loop_async_send(struct loop_async *a)
{
    if (list_is_empty(&a->link)) {
        list_push_back(&a->loop->asyncs, &a->link);
    }
}

void loop_async_free(struct loop_async *a)
{
    if (a != NULL) {
        list_remove(&a->link);
        free(a);
    }
}

void loop_work(struct loop *l, loop_cb work, loop_cb done, void *arg)
{
    struct work *w = xcalloc(1, sizeof *w);
    w->work = work;
    w->done = done;
    w->arg = arg;
    list_init(&w->link);
    list_push_back(&l->works, &w->link);
}

void *loop_uv(struct loop *l)
{
    return l;
}

/* One timer that is due, or NULL: a callback may free any of them. */
static struct loop_timer *due(struct loop *l)
{
    LIST_FOR(it, &l->timers)
    {
        struct loop_timer *t = container_of(it, struct loop_timer, link);
        if (t->due_ms != 0 && t->due_ms <= l->now_ms) {
            return t;
        }
    }
    return NULL;
}

void fake_loop_turn(struct loop *l, uint64_t ms)
{
    l->now_ms += ms;
    l->turns++;
    struct loop_timer *t;
    for (int i = 0; i < 64 && (t = due(l)) != NULL; i++) {
        t->due_ms = t->repeat_ms == 0 ? 0 : l->now_ms + t->repeat_ms;
        t->cb(t->arg);
    }
    run_works(l);
    struct list *it;
    while ((it = list_pop_front(&l->asyncs)) != NULL) {
        struct loop_async *a = container_of(it, struct loop_async, link);
        a->cb(a->arg);
    }
    for (int phase = 0; phase < LOOP_PHASE_COUNT; phase++) {
        for (unsigned i = 0; i < l->hooks_count; i++) {
            if ((int)l->hooks[i].phase == phase) {
                l->hooks[i].cb(l->hooks[i].arg);
            }
        }
    }
}

/* ---- Clients: none ---- */

struct clients *clients_new(struct node_context *ctx)
{
    (void)ctx;
    return NULL;
}

void clients_free(struct clients *cs)
{
    (void)cs;
}

int clients_listen(struct clients *cs)
{
    (void)cs;
    return 0;
}

void clients_close_listener(struct clients *cs)
{
    (void)cs;
}

bool clients_is_listening(const struct clients *cs)
{
    (void)cs;
    return false;
}

void clients_stop(struct clients *cs)
{
    (void)cs;
}

struct clients_stats clients_stats(const struct clients *cs)
{
    (void)cs;
    return (struct clients_stats){0};
}

void clients_pause(struct clients *cs, uint64_t cid, uint64_t max_ms)
{
    (void)cs;
    (void)cid;
    (void)max_ms;
}

void clients_resume(struct clients *cs, uint64_t cid)
{
    (void)cs;
    (void)cid;
}

void clients_broadcast_info(struct clients *cs)
{
    (void)cs;
}

void clients_evict(struct clients *cs, uint64_t over_ms, void (*done)(void *arg), void *arg)
{
    (void)cs;
    (void)over_ms;
    done(arg);
}

void clients_recheck_auth(struct clients *cs)
{
    (void)cs;
}

json_t *clients_connz(struct clients *cs, const struct clients_connz *query)
{
    (void)cs;
    (void)query;
    return NULL;
}

json_t *clients_subsz(struct clients *cs, const char *test, uint64_t offset, uint64_t limit,
                      uint64_t *ret_total)
{
    (void)cs;
    (void)test;
    (void)offset;
    (void)limit;
    *ret_total = 0;
    return json_array();
}
