#include "cluster/loop.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include <uv.h>

#include "broker/log_time.h"
#include "storage/base/buf.h"
#include "storage/base/log.h"

#define HOOKS_MAX 32
#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000u

struct hook {
    loop_cb cb;
    void *arg;
};

struct loop {
    uv_loop_t uv;
    uv_prepare_t prepare;
    uv_idle_t idle; /* Runs while another turn is due at once. */
    bool is_idle_running;
    struct hook hooks[LOOP_PHASE_COUNT][HOOKS_MAX];
    unsigned hooks_count[LOOP_PHASE_COUNT];
    struct watchdog watchdog;

    struct node_clock clock;
};

struct loop_timer {
    uv_timer_t uv;
    loop_cb cb;
    void *arg;
};

struct loop_async {
    uv_async_t uv;
    loop_cb cb;
    void *arg;
};

struct loop_job {
    uv_work_t uv;
    loop_cb work;
    loop_cb done;
    void *arg;
};

static int64_t clock_read(clockid_t id)
{
    struct timespec ts;
    int rv = clock_gettime(id, &ts);
    assert(rv == 0);
    (void)rv;
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* ---- The watchdog ---- */

/* Stands still while the loop waits. */
static uint64_t busy_ns(struct loop *l)
{
    return uv_hrtime() - uv_metrics_idle_time(&l->uv);
}

static uint64_t thread_cpu_ns(void)
{
    return (uint64_t)clock_read(CLOCK_THREAD_CPUTIME_ID);
}

static void log_long(const struct watchdog_turn *t, uint64_t count)
{
    log_wrn(
        "A turn of the loop took %llu ms, working %llu ms: %s %llu ms, of it at a stretch %s "
        "%llu ms for group %llu; %llu such turns since this was told last",
        (unsigned long long)(t->took_ns / NS_PER_MS), (unsigned long long)(t->cpu_ns / NS_PER_MS),
        watchdog_activity_text(t->activity), (unsigned long long)(t->activity_ns / NS_PER_MS),
        watchdog_activity_text(t->piece.activity), (unsigned long long)(t->piece_ns / NS_PER_MS),
        (unsigned long long)t->piece.gid, (unsigned long long)count);
}

static void watch_turn(struct loop *l)
{
    uint64_t now_ns = busy_ns(l);
    struct watchdog *w = &l->watchdog;
    struct watchdog_turn turn;
    uint64_t count;
    if (watchdog_end(w, now_ns) && watchdog_long(w, thread_cpu_ns(), uv_hrtime(), &turn, &count)) {
        log_long(&turn, count);
    }
    watchdog_begin(w, now_ns, watchdog_wants_cpu(w, now_ns) ? thread_cpu_ns() : 0);
}

struct watchdog_at loop_enter(struct loop *l, enum watchdog_activity a, uint64_t gid)
{
    return watchdog_enter(&l->watchdog, (struct watchdog_at){a, gid}, busy_ns(l));
}

void loop_leave(struct loop *l, struct watchdog_at back_to)
{
    (void)watchdog_enter(&l->watchdog, back_to, busy_ns(l));
}

uint64_t loop_turn_us(struct loop *l)
{
    return l->watchdog.began_ns == 0 ? 0 : (busy_ns(l) - l->watchdog.began_ns) / 1000;
}

const struct watchdog *loop_watchdog(const struct loop *l)
{
    return &l->watchdog;
}

/* ---- Turns ---- */

/* The end of a turn: everything is read, nothing is written yet. */
static void on_prepare(uv_prepare_t *h)
{
    struct loop *l = h->data;
    if (l->is_idle_running) {
        l->is_idle_running = false;
        uv_idle_stop(&l->idle);
    }
    for (unsigned phase = 0; phase < LOOP_PHASE_COUNT; phase++) {
        for (unsigned i = 0; i < l->hooks_count[phase]; i++) {
            l->hooks[phase][i].cb(l->hooks[phase][i].arg);
        }
    }
    watch_turn(l);
}

static void on_idle(uv_idle_t *h)
{
    (void)h; /* Its being active is what makes the poll return at once. */
}

void loop_own_memory(void)
{
    (void)uv_replace_allocator(xmalloc, xrealloc, xcalloc, free);
}

struct loop *loop_new(void)
{
    struct loop *l = xcalloc(1, sizeof *l);
    int rv = uv_loop_init(&l->uv);
    if (rv != 0) {
        log_fatal("event loop: %s", uv_strerror(rv));
    }
    uv_loop_configure(&l->uv, UV_METRICS_IDLE_TIME);
    uv_prepare_init(&l->uv, &l->prepare);
    uv_idle_init(&l->uv, &l->idle);
    l->prepare.data = l;
    l->idle.data = l;
    uv_prepare_start(&l->prepare, on_prepare);
    node_clock_start(&l->clock, loop_wall_ns(l), loop_mono_ns(l));
    return l;
}

void loop_free(struct loop *l)
{
    if (l == NULL) {
        return;
    }
    uv_close((uv_handle_t *)&l->prepare, NULL);
    uv_close((uv_handle_t *)&l->idle, NULL);
    while (uv_run(&l->uv, UV_RUN_DEFAULT) != 0) {
    }
    int rv = uv_loop_close(&l->uv);
    assert(rv == 0);
    (void)rv;
    free(l);
}

void loop_run(struct loop *l)
{
    uint64_t now_ns = busy_ns(l); /* What the start took is no turn. */
    watchdog_begin(&l->watchdog, now_ns, thread_cpu_ns());
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *l)
{
    uv_stop(&l->uv);
}

void loop_drain(struct loop *l)
{
    /* The loop's own handles would keep it alive. */
    uv_unref((uv_handle_t *)&l->prepare);
    uv_unref((uv_handle_t *)&l->idle);
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

uint64_t loop_now_ms(const struct loop *l)
{
    return uv_now(&l->uv);
}

int64_t loop_wall_ns(const struct loop *l)
{
    (void)l;
    return clock_read(CLOCK_REALTIME);
}

int64_t loop_mono_ns(const struct loop *l)
{
    (void)l;
    return clock_read(CLOCK_BOOTTIME);
}

int64_t loop_clock_ns(struct loop *l)
{
    return node_clock_read(&l->clock, loop_wall_ns(l), loop_mono_ns(l));
}

int64_t loop_clock_set(struct loop *l)
{
    int64_t was_ns = loop_clock_ns(l);
    node_clock_start(&l->clock, loop_wall_ns(l), loop_mono_ns(l));
    return loop_clock_ns(l) - was_ns;
}

uint64_t loop_turns(const struct loop *l)
{
    return l->watchdog.turns;
}

void loop_hook(struct loop *l, enum loop_phase phase, loop_cb cb, void *arg)
{
    assert(phase < LOOP_PHASE_COUNT);
    assert(l->hooks_count[phase] < HOOKS_MAX);
    l->hooks[phase][l->hooks_count[phase]++] = (struct hook){cb, arg};
}

void loop_again(struct loop *l)
{
    if (!l->is_idle_running) {
        l->is_idle_running = true;
        uv_idle_start(&l->idle, on_idle);
    }
}

static void on_timer(uv_timer_t *h)
{
    struct loop_timer *t = h->data;
    t->cb(t->arg);
}

struct loop_timer *loop_timer_new(struct loop *l, loop_cb cb, void *arg)
{
    struct loop_timer *t = xcalloc(1, sizeof *t);
    uv_timer_init(&l->uv, &t->uv);
    t->uv.data = t;
    t->cb = cb;
    t->arg = arg;
    return t;
}

void loop_timer_start(struct loop_timer *t, uint64_t delay_ms, uint64_t repeat_ms)
{
    uv_timer_start(&t->uv, on_timer, delay_ms, repeat_ms);
}

void loop_timer_stop(struct loop_timer *t)
{
    uv_timer_stop(&t->uv);
}

void loop_timer_unref(struct loop_timer *t)
{
    uv_unref((uv_handle_t *)&t->uv);
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

void loop_timer_free(struct loop_timer *t)
{
    if (t != NULL) {
        uv_close((uv_handle_t *)&t->uv, on_closed);
    }
}

static void on_async(uv_async_t *h)
{
    struct loop_async *a = h->data;
    a->cb(a->arg);
}

struct loop_async *loop_async_new(struct loop *l, loop_cb cb, void *arg)
{
    struct loop_async *a = xcalloc(1, sizeof *a);
    int rv = uv_async_init(&l->uv, &a->uv, on_async);
    assert(rv == 0);
    (void)rv;
    a->uv.data = a;
    a->cb = cb;
    a->arg = arg;
    return a;
}

void loop_async_send(struct loop_async *a)
{
    uv_async_send(&a->uv);
}

void loop_async_free(struct loop_async *a)
{
    if (a != NULL) {
        uv_close((uv_handle_t *)&a->uv, on_closed);
    }
}

static void on_work(uv_work_t *w)
{
    struct loop_job *job = w->data;
    job->work(job->arg);
}

static void on_work_done(uv_work_t *w, int status)
{
    (void)status; /* Never cancelled. */
    struct loop_job *job = w->data;
    job->done(job->arg);
    free(job);
}

void loop_work(struct loop *l, loop_cb work, loop_cb done, void *arg)
{
    struct loop_job *job = xcalloc(1, sizeof *job);
    job->uv.data = job;
    job->work = work;
    job->done = done;
    job->arg = arg;
    int rv = uv_queue_work(&l->uv, &job->uv, on_work, on_work_done);
    assert(rv == 0);
    (void)rv;
}

void *loop_uv(struct loop *l)
{
    return &l->uv;
}
