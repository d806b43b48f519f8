#include "tests/sim/sim_loop.h"

#include <assert.h>
#include <stdlib.h>

#include "tests/sim/sim_internal.h"
#include "tests/sim/sim_store.h"

struct work {
    struct list link;
    uint64_t id;
    loop_cb run;
    loop_cb done;
    void *arg;
    bool is_flush;
    bool has_run;
};

struct loop_timer {
    struct list link;
    struct loop *l;
    uint64_t id;
    uint64_t starts; /* An event of an earlier start does nothing. */
    loop_cb cb;
    void *arg;
    bool is_running;
};

void sim_loop_init(struct loop *l, struct sim_node *n)
{
    *l = (struct loop){.n = n};
    list_init(&l->works);
    list_init(&l->timers);
}

/* ---- Time ---- */

uint64_t loop_now_ms(const struct loop *l)
{
    return sim_node_now_ms(l->n);
}

int64_t loop_mono_ns(const struct loop *l)
{
    return sim_node_now_ns(l->n);
}

struct watchdog_at loop_enter(struct loop *l, enum watchdog_activity a, uint64_t gid)
{
    (void)l;
    (void)a;
    (void)gid;
    return (struct watchdog_at){0};
}

void loop_leave(struct loop *l, struct watchdog_at back_to)
{
    (void)l;
    (void)back_to;
}

/* ---- Calls that may not return ---- */

bool sim_loop_call(struct loop *l, loop_cb cb, void *arg)
{
    assert(!l->is_calling);
    l->is_calling = true;
    bool has_died = setjmp(l->die) != 0;
    if (!has_died) {
        cb(arg);
    }
    l->is_calling = false;
    return !has_died;
}

_Noreturn void sim_loop_die(struct loop *l)
{
    assert(l->is_calling);
    longjmp(l->die, 1);
}

/* What the callback came to, for the rest of the node. */
static void called(struct sim_node *n, bool has_returned)
{
    if (!has_returned) {
        sim_node_crash(n, false);
        sim_restart_after(n, 500 * MS);
        return;
    }
    sim_store_look(n);
    sim_node_touch(n);
}

/* ---- Work ---- */

static struct work *work_find(struct loop *l, uint64_t id)
{
    LIST_FOR(it, &l->works)
    {
        struct work *w = container_of(it, struct work, link);
        if (w->id == id) {
            return w;
        }
    }
    return NULL;
}

static void work_end(struct work *w)
{
    list_remove(&w->link);
    free(w);
}

static void work_event(void *arg, uint64_t life, uint64_t id)
{
    struct sim_node *n = arg;
    struct sim_clock *clock = &n->run->clock;
    if (!sim_node_is_current(n, life, work_event, n, id)) {
        return;
    }
    if (n->stalled_until_us > clock->now_us) {
        sim_clock_at(clock, n->stalled_until_us, work_event, n, life, id);
        return;
    }
    struct loop *l = sim_store_loop(n);
    struct work *w = work_find(l, id);
    if (!w->has_run && sim_store_dies(n, w->is_flush)) {
        return;
    }
    if (!w->has_run) {
        w->has_run = true;
        sim_store_run(n, w->run, w->arg);
        sim_clock_at(clock,
                     clock->now_us + sim_rng_range(&n->run->rng_store, 0, sim_node_disk_us(n)),
                     work_event, n, life, id);
        return;
    }
    loop_cb done = w->done;
    void *done_arg = w->arg;
    work_end(w);
    called(n, sim_loop_call(l, done, done_arg));
}

void loop_work(struct loop *l, loop_cb run, loop_cb done, void *arg)
{
    struct sim_node *n = l->n;
    if (l->is_closing) {
        run(arg);
        done(arg);
        return;
    }
    struct work *w = xcalloc(1, sizeof *w);
    *w = (struct work){.id = ++l->next_id, .run = run, .done = done, .arg = arg};
    w->is_flush = sim_store_is_flush_work(n, arg);
    list_push_back(&l->works, &w->link);
    int64_t after_us =
        sim_rng_range(&n->run->rng_store, 0, (w->is_flush ? 4 : 2) * sim_node_disk_us(n));
    sim_clock_at(&n->run->clock, n->run->clock.now_us + after_us, work_event, n, n->life, w->id);
}

/* ---- Timers ---- */

struct loop_timer *loop_timer_new(struct loop *l, loop_cb cb, void *arg)
{
    struct loop_timer *t = xcalloc(1, sizeof *t);
    *t = (struct loop_timer){.l = l, .id = ++l->next_id, .cb = cb, .arg = arg};
    list_push_back(&l->timers, &t->link);
    return t;
}

static void timer_event(void *arg, uint64_t life, uint64_t key)
{
    struct sim_node *n = arg;
    if (!sim_node_is_current(n, life, timer_event, n, key)) {
        return;
    }
    struct loop *l = sim_store_loop(n);
    LIST_FOR(it, &l->timers)
    {
        struct loop_timer *t = container_of(it, struct loop_timer, link);
        if (t->is_running && (t->id << 32 | t->starts) == key) {
            t->is_running = false;
            called(n, sim_loop_call(l, t->cb, t->arg));
            return;
        }
    }
}

void loop_timer_start(struct loop_timer *t, uint64_t delay_ms, uint64_t repeat_ms)
{
    struct sim_node *n = t->l->n;
    assert(repeat_ms == 0);
    t->starts++;
    t->is_running = true;
    if (!t->l->is_closing) {
        sim_clock_at(&n->run->clock, n->run->clock.now_us + (int64_t)delay_ms * MS, timer_event, n,
                     n->life, t->id << 32 | t->starts);
    }
}

void loop_timer_free(struct loop_timer *t)
{
    if (t != NULL) {
        list_remove(&t->link);
        free(t);
    }
}

/* ---- The end ---- */

static struct loop_timer *timer_running(struct loop *l)
{
    LIST_FOR(it, &l->timers)
    {
        struct loop_timer *t = container_of(it, struct loop_timer, link);
        if (t->is_running) {
            return t;
        }
    }
    return NULL;
}

void sim_loop_close(struct loop *l)
{
    struct list *it;
    struct loop_timer *t;
    l->is_closing = true;
    while ((it = list_pop_front(&l->works)) != NULL) {
        struct work *w = container_of(it, struct work, link);
        if (!w->has_run) {
            sim_store_cut(l->n);
            w->run(w->arg);
        }
        if (!w->is_flush) {
            (void)sim_loop_call(l, w->done, w->arg);
        }
        free(w);
    }
    while ((t = timer_running(l)) != NULL) {
        t->is_running = false;
        (void)sim_loop_call(l, t->cb, t->arg);
    }
}
