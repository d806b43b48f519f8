/* Of the node this needs the loop only: the simulator runs it too (tests/sim). */
#include "cluster/js_state.h"

#include <stdlib.h>

#include "broker/consumer.h"
#include "broker/log_time.h"
#include "broker/stream.h"
#include "broker/stream_state.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "storage/base/buf.h"
#include "storage/base/log.h"
#include "storage/store.h"

/* ---- Which ---- */

struct js_stream *js_stream_find(struct js *js, uint64_t gid)
{
    struct js_stream *st;
    HASH_FIND(hh, js->streams, &gid, sizeof gid, st);
    return st;
}

void js_stream_dirty(struct js_stream *st)
{
    if (st->dirty_since_ms == 0) {
        st->dirty_since_ms = (int64_t)loop_now_ms(st->js->loop);
    }
}

/* ---- Freeing ---- */

/* Millions of messages are not freed in the loop. Pool. */
static void free_machine(void *arg)
{
    stream_free(arg);
}

static void freed(void *arg)
{
    (void)arg;
}

void js_state_free(struct js_stream *st)
{
    if (st->machine != NULL) {
        loop_work(st->js->loop, free_machine, freed, st->machine);
        st->machine = NULL;
    }
}

/* ---- Effects ---- */

void js_state_carry_out(struct js_stream *st, const struct stream_effects *e)
{
    for (size_t i = 0; i < e->stores_count; i++) {
        const struct effect_store *m = &e->stores[i];
        struct store_message message = {.seq = m->seq,
                                        .time_ns = m->time_ns,
                                        .subject = m->subject,
                                        .header = m->header,
                                        .payload = m->payload};
        store_append(st->store, &message);
    }
    for (size_t i = 0; i < e->removes_count; i++) {
        store_remove_range(st->store, e->removes[i].first_seq, e->removes[i].last_seq);
    }
}

/* ---- From the store ---- */

static void restore_message(void *arg, const struct store_info *info)
{
    stream_restore_message(arg, info->seq, info->time_ns, info->subject, info->header_bytes,
                           info->payload_bytes);
}

static void restore_item(void *arg, struct slice key, struct slice value)
{
    stream_restore_item(arg, key, value);
}

/* A machine that is made of what the store holds. */
struct restore {
    struct js_stream *st;
    struct store_load *load;
    struct stream_restore *state;
    struct stream *machine;
    int status; /* Of the machine. */
    js_restored_cb done;
    void *arg;
};

static void restore_begin(struct restore *r, struct js_stream *st)
{
    *r = (struct restore){.st = st, .state = stream_restore_begin(&consumer_ops)};
    r->load = store_load_begin(st->store, restore_message, restore_item, r->state);
}

/* What takes time, any thread. */
static void restore_run(void *arg)
{
    struct restore *r = arg;
    store_load_run(r->load);
    r->status = stream_restore_end(r->state, &r->machine);
}

static int restore_end(struct restore *r)
{
    struct js_stream *st = r->st;
    int rv = store_load_end(r->load);
    st->machine = r->machine;
    st->is_store_loaded = rv == 0;
    if (st->machine != NULL && st->time.ns == 0) {
        log_time_start(&st->time, stream_time_ns(st->machine), loop_mono_ns(st->js->loop));
    } else if (st->machine != NULL) { /* An image: the time before it counts. */
        js_stream_time_applied(st);
    }
    if (rv == 0 && r->status == 0) {
        log_dbg("Stream %s: restored at index %llu, hash %016llx", st->name,
                (unsigned long long)st->applied_index,
                (unsigned long long)stream_hash(st->machine));
    }
    return rv != 0 ? rv : r->status;
}

int js_state_restore(struct js_stream *st)
{
    struct restore r;
    restore_begin(&r, st);
    restore_run(&r);
    return restore_end(&r);
}

static void restored(void *arg)
{
    struct restore *r = arg;
    r->st->js->restores_count--;
    int rv = restore_end(r);
    r->done(r->arg, rv);
    free(r);
}

void js_state_restore_apart(struct js_stream *st, js_restored_cb done, void *arg)
{
    struct restore *r = xmalloc(sizeof *r);
    restore_begin(r, st);
    r->done = done;
    r->arg = arg;
    st->state = JS_STREAM_LOADING;
    st->is_store_loaded = false; /* Nobody reads meanwhile. */
    st->js->restores_count++;
    loop_work(st->js->loop, restore_run, restored, r);
}
