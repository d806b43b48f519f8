#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "tests/unit/store_world.h"

static uint64_t rng_next(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t rng_below(uint64_t *state, uint64_t n)
{
    return rng_next(state) % n;
}

void make_content(struct content *c, uint64_t gid, uint64_t seq, const struct model_message *mm)
{
    uint64_t state = gid * 1000003 + seq * 31 + mm->salt;
    int n = snprintf(c->subject, sizeof c->subject, "s.%" PRIu64, rng_below(&state, 7));
    size_t header_len = rng_below(&state, 3) == 0 ? rng_below(&state, sizeof c->header) : 0;
    size_t payload_len =
        rng_below(&state, 4) == 0 ? rng_below(&state, sizeof c->payload) : rng_below(&state, 40);
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

static void on_damage(void *arg, const struct store_damage *d)
{
    struct world *w = arg;
    if (d->type != STORE_DAMAGE_QUARANTINE) {
        w->damages++;
    }
}

int world_open(struct world *w)
{
    struct store_options o = {.ops = sim_disk_ops(w->disk),
                              .dir = "/store",
                              .machine_version = 1,
                              .block_bytes = 2048,
                              .file_bytes = 8192,
                              .small_bytes = 1500,
                              .cache_bytes = 16384,
                              .rewrite_bytes = 16384,
                              .journal_bytes_min = w->journal_bytes == 0 ? 4096 : w->journal_bytes,
                              .dead_bytes_max = 16384,
                              .damage = on_damage,
                              .damage_arg = w};
    return store_open(&o, &w->rec, &w->st);
}

struct world *world_new(uint64_t seed)
{
    struct world *w = xcalloc(1, sizeof *w);
    w->disk = sim_disk_new(seed);
    const struct file_ops *ops = sim_disk_ops(w->disk);
    cr_assert_eq(ops->mkdir(ops->ctx, "/store"), 0);
    cr_assert_eq(ops->sync_dir(ops->ctx, "/"), 0);
    cr_assert_eq(world_open(w), 0);
    return w;
}

void world_free(struct world *w)
{
    store_close(w->st);
    sim_disk_free(w->disk);
    free(w);
}

struct store_stream *world_stream(struct world *w, uint64_t gid)
{
    struct store_stream *s = store_find(w->st, gid);
    return s != NULL ? s : store_stream_create(w->st, gid, gid * 77);
}

void world_append(struct world *w, uint64_t gid, uint64_t gap, uint64_t *rng)
{
    struct model *m = &w->now[gid];
    uint64_t seq = m->last_seq + 1 + gap;
    if (seq >= SEQS_MAX) {
        return;
    }
    struct model_message *mm = &m->messages[seq];
    *mm = (struct model_message){true, (int64_t)(seq * 1000 + rng_below(rng, 500)),
                                 (uint8_t)rng_below(rng, 4), (uint32_t)rng_below(rng, 1u << 20)};
    struct content c;
    make_content(&c, gid, seq, mm);
    store_append(world_stream(w, gid), &c.m);
    m->last_seq = seq;
    m->index++;
}

void world_remove(struct world *w, uint64_t gid, uint64_t first, uint64_t last)
{
    struct model *m = &w->now[gid];
    uint64_t expected = 0;
    for (uint64_t seq = first; seq <= last && seq < SEQS_MAX; seq++) {
        expected += m->messages[seq].is_live;
        m->messages[seq].is_live = false;
    }
    m->index++;
    cr_assert_eq(store_remove_range(world_stream(w, gid), first, last), expected);
}

int world_read(struct world *w, struct store_stream *s, uint64_t seq, struct store_view *v)
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

bool view_is(const struct store_view *v, const struct store_message *m)
{
    return v->seq == m->seq && v->time_ns == m->time_ns && v->flags == m->flags &&
           slice_eq(v->subject, m->subject) && slice_eq(v->header, m->header) &&
           slice_eq(v->payload, m->payload);
}

/* Every sequence of the stream reads as the model says. */
void world_check_reads(struct world *w, uint64_t gid, const struct model *m)
{
    struct store_stream *s = store_find(w->st, gid);
    for (uint64_t seq = 1; seq <= m->last_seq; seq++) {
        struct store_view v;
        int rv = s == NULL ? ERR_NOTFOUND : world_read(w, s, seq, &v);
        if (!m->messages[seq].is_live) {
            cr_assert(rv == ERR_NOTFOUND || (w->is_tolerant && rv == ERR_CORRUPT),
                      "gid %" PRIu64 " seq %" PRIu64, gid, seq);
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

int world_load(struct world *w, uint64_t gid, const struct model *m)
{
    struct store_stream *s = store_find(w->st, gid);
    uint64_t live = 0;
    for (uint64_t seq = 1; seq <= m->last_seq; seq++) {
        live += m->messages[seq].is_live;
    }
    struct loaded l = {.w = w, .gid = gid, .m = m};
    int rv = s == NULL ? 0 : store_stream_load(s, on_info, on_item, &l);
    if (rv == 0 && !w->is_tolerant) {
        cr_assert_eq(l.count, s == NULL ? 0 : live, "gid %" PRIu64, gid);
        cr_assert(s == NULL || memcmp(l.items, m->items, sizeof l.items) == 0);
    }
    return rv;
}

/* Load the stream and compare all of it with @m. */
void world_check_stream(struct world *w, uint64_t gid, const struct model *m)
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
    cr_assert_eq(world_load(w, gid, m), 0);
    world_check_reads(w, gid, m);
}

static void put_items(struct world *w, struct store_flush *job, uint64_t gid, uint64_t *rng)
{
    struct store_stream *s = store_find(w->st, gid);
    for (uint8_t k = 0; k < KEYS; k++) {
        uint8_t value[64] = {0};
        uint32_t *item = &w->now[gid].items[k];
        switch (rng_below(rng, 4)) {
        case 0:
            *item = (uint32_t)rng_below(rng, 1u << 30) + 1;
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

struct store_flush *world_flush_begin(struct world *w, unsigned gids, uint64_t *rng)
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

void world_flush(struct world *w, unsigned gids, uint64_t *rng)
{
    struct store_flush *job = world_flush_begin(w, gids, rng);
    cr_assert_eq(store_flush_run(job), 0, "%s", store_error_path(w->st));
    store_base_durable(w->st, store_flush_end(job, NULL, NULL));
}

void world_reopen(struct world *w)
{
    store_close(w->st);
    w->st = NULL;
    cr_assert_eq(world_open(w), 0);
}

void world_random_op(struct world *w, uint64_t gid, uint64_t *rng)
{
    struct model *m = &w->now[gid];
    uint64_t first = m->last_seq == 0 ? 1 : 1 + rng_below(rng, m->last_seq);
    switch (rng_below(rng, 12)) {
    case 0:
        world_remove(w, gid, first, first);
        break;
    case 1:
        world_remove(w, gid, first, first + rng_below(rng, 30));
        break;
    case 2:
        if (rng_below(rng, 6) == 0) {
            world_remove(w, gid, 0, first);
        }
        break;
    case 3:
        world_append(w, gid, rng_below(rng, 8) == 0 ? rng_below(rng, 40) : 1, rng);
        break;
    default:
        world_append(w, gid, 0, rng);
    }
}
