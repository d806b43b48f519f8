#include "storage/wal_thread.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"

struct wal_thread {
    struct wal_thread_options o;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* Something is gathered, or stop. */
    bool is_stopping;
    _Atomic uint64_t durable_lsn;
    _Atomic uint64_t write_began_ms; /* 0 = no write under way. */
    _Atomic uint64_t syncs[WAL_SYNC_BUCKETS];
};

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t now_ms(void)
{
    return now_us() / 1000;
}

static void count_sync(struct wal_thread *t, uint64_t took_us)
{
    unsigned bucket = 0;
    while (bucket < WAL_SYNC_BUCKETS - 1 && took_us >> bucket != 0) {
        bucket++;
    }
    atomic_fetch_add(&t->syncs[bucket], 1);
}

static void report_failure(struct wal_thread *t, int rv, const char *path)
{
    const struct file_ops *ops = wal_file_ops(t->o.wal);
    if (t->o.failed != NULL) {
        t->o.failed(t->o.arg, rv, ops->last_errno(ops->ctx), path);
    }
}

/* Write the batch in flight. With the lock held, which is given up meanwhile. */
static bool write_batch(struct wal_thread *t)
{
    const char *path = "";
    pthread_mutex_unlock(&t->lock);
    uint64_t began_us = now_us();
    atomic_store(&t->write_began_ms, began_us / 1000);
    int rv = wal_batch_write(t->o.wal, &path);
    /* A write that failed stays under way for the watchdog. */
    if (rv != 0) {
        report_failure(t, rv, path);
        pthread_mutex_lock(&t->lock);
        return false;
    }
    atomic_store(&t->write_began_ms, 0);
    count_sync(t, now_us() - began_us);
    pthread_mutex_lock(&t->lock);
    wal_batch_done(t->o.wal);
    atomic_store(&t->durable_lsn, wal_durable_lsn(t->o.wal));
    pthread_mutex_unlock(&t->lock);
    if (t->o.durable != NULL) {
        t->o.durable(t->o.arg);
    }
    pthread_mutex_lock(&t->lock);
    return true;
}

/* A slice of the next segment. With the lock held, which is given up meanwhile. */
static int prepare(struct wal_thread *t)
{
    const char *path = "";
    pthread_mutex_unlock(&t->lock);
    atomic_store(&t->write_began_ms, now_ms());
    int rv = wal_prepare(t->o.wal, &path);
    if (rv < 0) {
        report_failure(t, rv, path);
    } else {
        atomic_store(&t->write_began_ms, 0);
    }
    pthread_mutex_lock(&t->lock);
    return rv;
}

/* Sleep until woken, or for the idle time; true if that ran out. */
static bool sleep_is_idle(struct wal_thread *t)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + (uint64_t)t->o.idle_ms * 1000000;
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    return pthread_cond_timedwait(&t->wake, &t->lock, &until) != 0;
}

static void *run(void *arg)
{
    struct wal_thread *t = arg;
    bool is_quiet = false; /* Nothing to do even when idle: sleep without a limit. */
    pthread_mutex_lock(&t->lock);
    for (;;) {
        if (wal_batch_take(t->o.wal)) {
            is_quiet = false;
            /* After each batch a slice, so that the next segment is there when it is needed. */
            if (!write_batch(t) || prepare(t) < 0) {
                break;
            }
            continue;
        }
        if (t->is_stopping) {
            break;
        }
        if (is_quiet) {
            pthread_cond_wait(&t->wake, &t->lock);
            is_quiet = false;
        } else if (sleep_is_idle(t) && wal_pending_bytes(t->o.wal) == 0 && !t->is_stopping &&
                   !wal_idle(t->o.wal)) {
            int rv;
            do {
                rv = prepare(t);
            } while (rv > 0 && wal_pending_bytes(t->o.wal) == 0 && !t->is_stopping);
            if (rv < 0) {
                break;
            }
            is_quiet = rv == 0;
        }
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

int wal_thread_start(const struct wal_thread_options *options, struct wal_thread **ret_thread)
{
    struct wal_thread *t = xcalloc(1, sizeof *t);
    pthread_condattr_t attr;
    t->o = *options;
    t->o.idle_ms = t->o.idle_ms == 0 ? WAL_IDLE_MS : t->o.idle_ms;
    atomic_init(&t->durable_lsn, wal_durable_lsn(t->o.wal));
    atomic_init(&t->write_began_ms, 0);
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&t->thread, NULL, run, t) != 0) {
        pthread_cond_destroy(&t->wake);
        pthread_mutex_destroy(&t->lock);
        free(t);
        return ERR_NOMEM;
    }
    *ret_thread = t;
    return 0;
}

void wal_thread_stop(struct wal_thread *t)
{
    if (t == NULL) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->is_stopping = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

uint64_t wal_thread_append(struct wal_thread *t, uint8_t type, uint64_t gid,
                           const struct slice *parts, unsigned parts_count)
{
    pthread_mutex_lock(&t->lock);
    uint64_t lsn = wal_append(t->o.wal, type, gid, parts, parts_count);
    pthread_mutex_unlock(&t->lock);
    return lsn;
}

struct wal *wal_thread_lock(struct wal_thread *t)
{
    pthread_mutex_lock(&t->lock);
    return t->o.wal;
}

void wal_thread_unlock(struct wal_thread *t)
{
    pthread_mutex_unlock(&t->lock);
}

void wal_thread_kick(struct wal_thread *t)
{
    pthread_mutex_lock(&t->lock);
    if (wal_pending_bytes(t->o.wal) > 0) {
        pthread_cond_signal(&t->wake);
    }
    pthread_mutex_unlock(&t->lock);
}

uint64_t wal_thread_durable_lsn(const struct wal_thread *t)
{
    return atomic_load(&t->durable_lsn);
}

uint64_t wal_thread_stuck_ms(const struct wal_thread *t)
{
    uint64_t began = atomic_load(&t->write_began_ms);
    return began == 0 ? 0 : now_ms() - began + 1;
}

void wal_thread_syncs(const struct wal_thread *t, uint64_t ret_counts[WAL_SYNC_BUCKETS])
{
    for (unsigned i = 0; i < WAL_SYNC_BUCKETS; i++) {
        ret_counts[i] = atomic_load(&t->syncs[i]);
    }
}
