#include "cluster/memory.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "cluster/loop.h"
#include "storage/base/buf.h"

#define MAPPED_BYTES_MIN (8 << 20) /* Larger pieces are the kernel's own: tables that grow. */
#define KEPT_BYTES_MAX (64 << 20)  /* So much free memory stays at the heap's end. */
#define LOOK_MS 10000u
#define QUIET_TURNS_MAX 1000u /* In LOOK_MS; heartbeats make some hundred. */

struct memory_keeper {
    struct loop *loop;
    struct loop_timer *timer;
    uint64_t turns;   /* At the last look. */
    bool is_worn;     /* There was work since memory was given back. */
    bool is_trimming; /* The pool is at it. */
    bool is_freed;    /* Goes when the pool is done. */
};

void memory_tune(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_BYTES_MAX);
    loop_own_memory();
}

/* On the pool: to give back a hundred megabytes takes longer than a turn may. */
static void trim(void *arg)
{
    (void)arg;
    (void)malloc_trim(0);
}

static void trim_done(void *arg)
{
    struct memory_keeper *k = arg;
    k->is_trimming = false;
    if (k->is_freed) {
        free(k);
    }
}

static void look(void *arg)
{
    struct memory_keeper *k = arg;
    uint64_t turns = loop_turns(k->loop);
    bool is_quiet = turns - k->turns < QUIET_TURNS_MAX;
    k->turns = turns;
    if (!is_quiet) {
        k->is_worn = true;
    } else if (k->is_worn && !k->is_trimming) {
        k->is_worn = false;
        k->is_trimming = true;
        loop_work(k->loop, trim, trim_done, k);
    }
}

struct memory_keeper *memory_keeper_new(struct loop *loop)
{
    struct memory_keeper *k = xcalloc(1, sizeof *k);
    k->loop = loop;
    k->turns = loop_turns(loop);
    k->timer = loop_timer_new(loop, look, k);
    loop_timer_start(k->timer, LOOK_MS, LOOK_MS);
    loop_timer_unref(k->timer);
    return k;
}

void memory_keeper_free(struct memory_keeper *k)
{
    if (k == NULL) {
        return;
    }
    loop_timer_free(k->timer);
    if (k->is_trimming) {
        k->is_freed = true;
    } else {
        free(k);
    }
}
