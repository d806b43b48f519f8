/* The scrub: reads the journal of checkpoints and every block of every stream, slowly, on the pool,
 * so that damage is found and mended (store_check_journal_done, js_mend.c) while its other copy and
 * other replicas still have what it hit. In order of gid and sequence, about `scrub_rate` bytes a
 * second; a pass begins `scrub_interval` after the one before began. */
#include "cluster/js_scrub.h"

#include "cluster/js_internal.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/node_options.h"
#include "storage/base/err.h"
#include "storage/base/log.h"
#include "storage/store.h"

#define FIRST_MS 2000u /* After the start: others have more to do. */

static void run(void *arg)
{
    struct js *js = arg;
    store_read_run(&js->scrub.read);
}

static void done(void *arg)
{
    struct js *js = arg;
    struct js_scrub *c = &js->scrub;
    c->is_reading = false;
    int rv = store_check_done(&c->read);
    c->blocks++;
    c->damaged += rv == ERR_CORRUPT ? 1 : 0;
    if (rv == ERR_IO) {
        log_err("A block of stream group %llu cannot be read", (unsigned long long)c->read_gid);
    }
}

static void wait_for(struct js *js, uint64_t bytes)
{
    js->scrub.bytes += bytes;
    js->scrub.next_ms =
        loop_now_ms(js->loop) + bytes * 1000 / (uint64_t)js->ctx->options->scrub_bytes_per_s;
}

static void run_journal(void *arg)
{
    struct js *js = arg;
    store_check_journal_run(&js->scrub.journal);
}

static void done_journal(void *arg)
{
    struct js *js = arg;
    struct js_scrub *c = &js->scrub;
    c->is_reading = false;
    int rv = store_check_journal_done(&c->journal);
    c->journal_checks++;
    c->journal_damaged += rv == ERR_CORRUPT ? 1 : 0;
    if (rv == ERR_IO) {
        log_err("The journal of checkpoints in %s/store cannot be read", js->dir);
    }
}

static void check_journal(struct js *js)
{
    struct js_scrub *c = &js->scrub;
    uint64_t bytes;
    int rv = store_check_journal_start(js->store, &c->journal, &bytes);
    if (rv == ERR_BUSY) {
        return;
    }
    c->is_journal_due = false;
    if (rv == 0) {
        wait_for(js, bytes);
        c->is_reading = true;
        loop_work(js->loop, run_journal, done_journal, js);
    }
}

/* Loaded streams only: of others it is not known what is in their blocks. */
static struct js_stream *stream_from(struct js *js, uint64_t gid)
{
    struct js_stream *best = NULL;
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        bool is_fit = st->is_store_loaded && st->store != NULL && st->gid >= gid;
        if (is_fit && (best == NULL || st->gid < best->gid)) {
            best = st;
        }
    }
    return best;
}

/* Read the first block of the stream from @seq on. False: there is none. */
static bool check(struct js *js, struct js_stream *st, uint64_t *seq)
{
    struct js_scrub *c = &js->scrub;
    uint64_t last_seq;
    if (store_check_start(st->store, *seq, &c->read, &last_seq) != 0) {
        return false;
    }
    *seq = last_seq + 1;
    c->read_gid = st->gid;
    wait_for(js, c->read.len);
    c->is_reading = true;
    loop_work(js->loop, run, done, js);
    return true;
}

static void check_urgent(struct js *js)
{
    struct js_scrub *c = &js->scrub;
    struct js_stream *st = js_stream_find(js, c->urgent_gid);
    if (st == NULL || !st->is_store_loaded || !check(js, st, &c->urgent_seq)) {
        c->urgent_gid = 0;
    }
}

static bool may_begin(struct js *js, uint64_t now)
{
    struct js_scrub *c = &js->scrub;
    if (c->began_ms == 0) {
        c->began_ms = now;
        c->next_ms = now + FIRST_MS;
        c->gid = 1;
        c->is_journal_due = true;
        return false;
    }
    if (now - c->began_ms < (uint64_t)js->ctx->options->scrub_interval_ms) {
        return false;
    }
    c->began_ms = now;
    c->gid = 1;
    c->seq = 0;
    c->is_journal_due = true;
    return true;
}

void js_scrub_tick(struct js *js)
{
    struct js_scrub *c = &js->scrub;
    uint64_t now = loop_now_ms(js->loop);
    if (js->ctx->options->scrub_bytes_per_s <= 0 || js->is_stopping || c->is_reading) {
        return;
    }
    if (c->urgent_gid != 0) {
        check_urgent(js);
        return;
    }
    if (now < c->next_ms || (c->gid == 0 && !may_begin(js, now))) {
        return;
    }
    if (c->is_journal_due) {
        check_journal(js);
        return;
    }
    struct js_stream *st = stream_from(js, c->gid);
    if (st == NULL) {
        c->gid = 0;
        c->passes++;
        return;
    }
    if (st->gid != c->gid) {
        c->gid = st->gid;
        c->seq = 0;
    }
    if (!check(js, st, &c->seq)) {
        c->gid = st->gid + 1;
        c->seq = 0;
    }
}

void js_scrub_stream(struct js *js, uint64_t gid)
{
    if (js->scrub.urgent_gid == 0) {
        js->scrub.urgent_gid = gid;
        js->scrub.urgent_seq = 0;
    }
}
