#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/store.h"
#include "tests/lib/sim_disk.h"

#define GIDS 3u
#define SEQS_MAX 4096u
#define KEYS 6u

/* ---- A model: what a stream should hold ---- */

struct model_message {
    bool is_live;
    int64_t time_ns;
    uint8_t flags;
    uint32_t salt; /* Subject, header and payload follow from it. */
};

struct model {
    uint64_t index; /* Applied. */
    uint64_t last_seq;
    struct model_message messages[SEQS_MAX];
    uint32_t items[KEYS]; /* 0: absent. */
};

static uint64_t rng_next(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t *state, uint64_t n)
{
    return rng_next(state) % n;
}

struct content {
    char subject[32];
    uint8_t header[64];
    uint8_t payload[1024];
    struct store_message m;
};

static void make_content(struct content *c, uint64_t gid, uint64_t seq,
                         const struct model_message *mm)
{
    uint64_t state = gid * 1000003 + seq * 31 + mm->salt;
    int n = snprintf(c->subject, sizeof c->subject, "s.%" PRIu64, below(&state, 7));
    size_t header_len = below(&state, 3) == 0 ? below(&state, sizeof c->header) : 0;
    size_t payload_len =
        below(&state, 4) == 0 ? below(&state, sizeof c->payload) : below(&state, 40);
    for (size_t i = 0; i < header_len; i++) {
        c->header[i] = (uint8_t)rng_next(&state);
    }
    for (size_t i = 0; i < payload_len; i++) {
        c->payload[i] = (uint8_t)rng_next(&state);
    }
    c->m = (struct store_message){.seq = seq,
                                  .time_ns = mm->time_ns,
                                  .flags = mm->flags,
                                  .subject = slice_of(c->subject, (size_t)n),
                                  .header = slice_of(c->header, header_len),
                                  .payload = slice_of(c->payload, payload_len)};
}

/* ---- A store under test, with its models ---- */

struct world {
    struct sim_disk *disk;
    struct store *st;
    struct store_recovery rec;
    struct model now[GIDS + 1];
    unsigned damages;
    uint64_t damaged_count; /* Messages in ranges that were reported. */
    bool is_tolerant;       /* Damage is expected: what cannot be read must be reported. */
};

static void on_damage(void *arg, const struct store_damage *d)
{
    struct world *w = arg;
    if (d->type != STORE_DAMAGE_QUARANTINE) {
        w->damages++;
    }
}

static int world_open(struct world *w)
{
    struct store_options o = {.ops = sim_disk_ops(w->disk),
                              .dir = "/store",
                              .machine_version = 1,
                              .block_bytes = 2048,
                              .file_bytes = 8192,
                              .small_bytes = 1500,
                              .cache_bytes = 16384,
                              .rewrite_bytes = 16384,
                              .journal_bytes_min = 4096,
                              .dead_bytes_max = 16384,
                              .damage = on_damage,
                              .damage_arg = w};
    return store_open(&o, &w->rec, &w->st);
}

static struct world *world_new(uint64_t seed)
{
    struct world *w = xcalloc(1, sizeof *w);
    w->disk = sim_disk_new(seed);
    const struct file_ops *ops = sim_disk_ops(w->disk);
    cr_assert_eq(ops->mkdir(ops->ctx, "/store"), 0);
    cr_assert_eq(ops->sync_dir(ops->ctx, "/"), 0);
    cr_assert_eq(world_open(w), 0);
    return w;
}

static void world_free(struct world *w)
{
    store_close(w->st);
    sim_disk_free(w->disk);
    free(w);
}

static struct store_stream *stream_of(struct world *w, uint64_t gid)
{
    struct store_stream *s = store_find(w->st, gid);
    return s != NULL ? s : store_stream_create(w->st, gid, gid * 77);
}

static void append(struct world *w, uint64_t gid, uint64_t gap, uint64_t *rng)
{
    struct model *m = &w->now[gid];
    uint64_t seq = m->last_seq + 1 + gap;
    if (seq >= SEQS_MAX) {
        return;
    }
    struct model_message *mm = &m->messages[seq];
    *mm = (struct model_message){true, (int64_t)(seq * 1000 + below(rng, 500)),
                                 (uint8_t)below(rng, 4), (uint32_t)below(rng, 1u << 20)};
    struct content c;
    make_content(&c, gid, seq, mm);
    store_append(stream_of(w, gid), &c.m);
    m->last_seq = seq;
    m->index++;
}

static void remove_range(struct world *w, uint64_t gid, uint64_t first, uint64_t last)
{
    struct model *m = &w->now[gid];
    uint64_t expected = 0;
    for (uint64_t seq = first; seq <= last && seq < SEQS_MAX; seq++) {
        expected += m->messages[seq].is_live;
        m->messages[seq].is_live = false;
    }
    m->index++;
    cr_assert_eq(store_remove_range(stream_of(w, gid), first, last), expected);
}

static int load_now(struct world *w, struct store_stream *s, uint64_t seq, struct store_view *v)
{
    int rv = store_read(s, seq, v);
    if (rv != ERR_AGAIN) {
        return rv;
    }
    struct store_read req;
    rv = store_read_start(s, seq, &req);
    cr_assert_eq(rv, 0);
    cr_assert(store_read_is_loading(s, seq));
    store_read_run(&req);
    rv = store_read_done(&req);
    (void)w;
    return rv != 0 ? rv : store_read(s, seq, v);
}

static bool view_is(const struct store_view *v, const struct store_message *m)
{
    return v->seq == m->seq && v->time_ns == m->time_ns && v->flags == m->flags &&
           slice_eq(v->subject, m->subject) && slice_eq(v->header, m->header) &&
           slice_eq(v->payload, m->payload);
}

/* Every sequence of the stream reads as the model says. */
static void check_reads(struct world *w, uint64_t gid, const struct model *m)
{
    struct store_stream *s = store_find(w->st, gid);
    for (uint64_t seq = 1; seq <= m->last_seq; seq++) {
        struct store_view v;
        int rv = s == NULL ? ERR_NOTFOUND : load_now(w, s, seq, &v);
        if (!m->messages[seq].is_live) {
            cr_assert(rv == ERR_NOTFOUND || w->is_tolerant, "gid %" PRIu64 " seq %" PRIu64, gid,
                      seq);
            continue;
        }
        if (w->is_tolerant && rv == ERR_CORRUPT) {
            cr_assert_gt(w->damages, 0);
            w->damaged_count++;
            continue;
        }
        struct content c;
        make_content(&c, gid, seq, &m->messages[seq]);
        cr_assert_eq(rv, 0, "gid %" PRIu64 " seq %" PRIu64 ": %s", gid, seq, err_text(rv));
        cr_assert(view_is(&v, &c.m), "gid %" PRIu64 " seq %" PRIu64, gid, seq);
    }
}

struct loaded {
    struct world *w;
    uint64_t gid;
    const struct model *m;
    uint64_t next_seq;
    uint64_t count;
    uint32_t items[KEYS];
};

static void on_info(void *arg, const struct store_info *info)
{
    struct loaded *l = arg;
    cr_assert_geq(info->seq, l->next_seq);
    l->next_seq = info->seq + 1;
    l->count++;
    cr_assert_leq(info->seq, l->m->last_seq);
    if (!l->m->messages[info->seq].is_live) {
        cr_assert(l->w->is_tolerant && l->w->damages > 0);
        return;
    }
    struct content c;
    make_content(&c, l->gid, info->seq, &l->m->messages[info->seq]);
    cr_assert_eq(info->time_ns, c.m.time_ns);
    cr_assert_eq(info->flags, c.m.flags);
    cr_assert_eq(info->header_bytes, c.m.header.len);
    cr_assert_eq(info->payload_bytes, c.m.payload.len);
    cr_assert(slice_eq(info->subject, c.m.subject));
}

static void on_item(void *arg, struct slice key, struct slice value)
{
    struct loaded *l = arg;
    cr_assert_eq(key.len, 1);
    cr_assert_lt(key.ptr[0], KEYS);
    cr_assert_eq(value.len, 64);
    uint32_t v;
    memcpy(&v, value.ptr + 60, sizeof v);
    l->items[key.ptr[0]] = v;
}

/* Load the stream and compare all of it with @m. */
static void check_stream(struct world *w, uint64_t gid, const struct model *m)
{
    struct store_stream *s = store_find(w->st, gid);
    uint64_t live = 0;
    for (uint64_t seq = 1; seq <= m->last_seq; seq++) {
        live += m->messages[seq].is_live;
    }
    if (s == NULL) {
        cr_assert_eq(live, 0);
        return;
    }
    struct loaded l = {.w = w, .gid = gid, .m = m};
    cr_assert_eq(store_stream_load(s, on_info, on_item, &l), 0);
    if (!w->is_tolerant) {
        cr_assert_eq(l.count, live, "gid %" PRIu64, gid);
        cr_assert_eq(memcmp(l.items, m->items, sizeof l.items), 0);
    }
    check_reads(w, gid, m);
}

static void put_items(struct world *w, struct store_flush *job, uint64_t gid, uint64_t *rng)
{
    struct store_stream *s = store_find(w->st, gid);
    for (uint8_t k = 0; k < KEYS; k++) {
        uint8_t value[64] = {0};
        uint32_t *item = &w->now[gid].items[k];
        switch (below(rng, 4)) {
        case 0:
            *item = (uint32_t)below(rng, 1u << 30) + 1;
            memcpy(value + 60, item, sizeof *item);
            store_flush_put(job, s, slice_of(&k, 1), slice_of(value, sizeof value));
            break;
        case 1:
            *item = 0;
            store_flush_del(job, s, slice_of(&k, 1));
            break;
        default:
            break;
        }
    }
}

static struct store_flush *flush_begin(struct world *w, unsigned gids, uint64_t *rng)
{
    struct store_flush *job;
    cr_assert_eq(store_flush_begin(w->st, &job), 0);
    for (uint64_t gid = 1; gid <= GIDS; gid++) {
        struct store_stream *s = store_find(w->st, gid);
        if (s != NULL && (gids >> gid & 1) != 0) {
            store_flush_stream(job, s, w->now[gid].index, 1);
            put_items(w, job, gid, rng);
        }
    }
    return job;
}

static void flush(struct world *w, unsigned gids, uint64_t *rng)
{
    struct store_flush *job = flush_begin(w, gids, rng);
    cr_assert_eq(store_flush_run(job), 0, "%s", store_error_path(w->st));
    store_base_durable(w->st, store_flush_end(job, NULL, NULL));
}

static void reopen(struct world *w)
{
    store_close(w->st);
    w->st = NULL;
    cr_assert_eq(world_open(w), 0);
}

static void random_op(struct world *w, uint64_t gid, uint64_t *rng)
{
    struct model *m = &w->now[gid];
    uint64_t first = m->last_seq == 0 ? 1 : 1 + below(rng, m->last_seq);
    switch (below(rng, 12)) {
    case 0:
        remove_range(w, gid, first, first);
        break;
    case 1:
        remove_range(w, gid, first, first + below(rng, 30));
        break;
    case 2:
        if (below(rng, 6) == 0) {
            remove_range(w, gid, 0, first);
        }
        break;
    case 3:
        append(w, gid, below(rng, 8) == 0 ? below(rng, 40) : 1, rng);
        break;
    default:
        append(w, gid, 0, rng);
    }
}

Test(store, appended_messages_are_read_back_before_and_after_a_flush_and_a_reopening)
{
    uint64_t rng = 1;
    struct world *w = world_new(1);
    for (unsigned i = 0; i < 100; i++) {
        append(w, 1, 0, &rng);
    }
    check_reads(w, 1, &w->now[1]);
    flush(w, 2, &rng);
    check_reads(w, 1, &w->now[1]);
    struct store_stats stats;
    store_stream_stats(store_find(w->st, 1), &stats);
    cr_assert_eq(stats.messages, 100);
    cr_assert_eq(stats.dirty_messages, 0);
    cr_assert_eq(stats.dirty_bytes, 0);
    reopen(w);
    cr_assert_eq(w->rec.streams_count, 1);
    cr_assert_eq(w->rec.quarantined_count, 0);
    check_stream(w, 1, &w->now[1]);
    uint64_t index, term;
    store_stream_applied(store_find(w->st, 1), &index, &term);
    cr_assert_eq(index, 100);
    world_free(w);
}

Test(store, messages_removed_before_their_flush_never_reach_a_block)
{
    uint64_t rng = 1;
    struct world *w = world_new(1);
    for (unsigned i = 0; i < 100; i++) {
        append(w, 1, 0, &rng);
    }
    remove_range(w, 1, 1, 100);
    flush(w, 2, &rng);
    struct store_totals t;
    store_totals(w->st, &t);
    cr_assert_eq(t.files, 0);
    cr_assert_eq(t.disk_bytes, 0);
    world_free(w);
}

Test(store, a_reference_keeps_a_view_valid_after_its_message_is_gone)
{
    uint64_t rng = 1;
    struct world *w = world_new(1);
    append(w, 1, 0, &rng);
    struct store_view v;
    cr_assert_eq(store_read(store_find(w->st, 1), 1, &v), 0);
    store_view_ref(&v);
    struct content c;
    make_content(&c, 1, 1, &w->now[1].messages[1]);
    store_stream_delete(store_find(w->st, 1));
    cr_assert(view_is(&v, &c.m));
    store_view_unref(&v);
    world_free(w);
}

/* Operations against the model; flushes whose run overlaps with operations; reopenings. */
static void random_life(uint64_t seed, unsigned steps)
{
    uint64_t rng = seed;
    struct world *w = world_new(seed);
    struct model *saved = xcalloc(GIDS + 1, sizeof *saved);
    for (unsigned step = 0; step < steps; step++) {
        for (uint64_t n = below(&rng, 60); n > 0; n--) {
            random_op(w, 1 + below(&rng, GIDS), &rng);
        }
        unsigned gids = (unsigned)below(&rng, 1u << (GIDS + 1));
        struct store_flush *job = flush_begin(w, gids, &rng);
        for (uint64_t gid = 1; gid <= GIDS; gid++) {
            if ((gids >> gid & 1) != 0) {
                saved[gid] = w->now[gid];
            }
        }
        for (uint64_t n = below(&rng, 10); n > 0; n--) {
            random_op(w, 1 + below(&rng, GIDS), &rng);
        }
        uint64_t doomed = below(&rng, 10) == 0 ? 1 + below(&rng, GIDS) : 0;
        if (doomed != 0 && store_find(w->st, doomed) != NULL) {
            store_stream_delete(store_find(w->st, doomed));
            memset(&w->now[doomed], 0, sizeof w->now[doomed]);
        } else {
            doomed = 0;
        }
        cr_assert_eq(store_flush_run(job), 0);
        uint64_t pass = store_flush_end(job, NULL, NULL);
        if (below(&rng, 4) != 0) {
            store_base_durable(w->st, pass);
        }
        for (uint64_t gid = 1; gid <= GIDS; gid++) {
            check_reads(w, gid, &w->now[gid]);
        }
        if (doomed != 0) {
            flush(w, 0, &rng);
            memset(&saved[doomed], 0, sizeof saved[doomed]);
        }
        if (below(&rng, 5) == 0) {
            reopen(w);
            cr_assert_eq(w->rec.quarantined_count, 0);
            for (uint64_t gid = 1; gid <= GIDS; gid++) {
                w->now[gid] = saved[gid];
                check_stream(w, gid, &w->now[gid]);
            }
        }
    }
    cr_assert_eq(w->damages, 0);
    free(saved);
    world_free(w);
}

Test(store, random_lives_equal_the_model)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        random_life(seed, 40);
    }
}
