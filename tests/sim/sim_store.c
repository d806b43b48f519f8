#include "tests/sim/sim_store.h"

#include <assert.h>
#include <stdlib.h>

#include "broker/stream_state.h"
#include "storage/base/err.h"
#include "tests/sim/sim_store_internal.h"

typedef unsigned long long ull;

bool sim_store_is_on(const struct sim_run *run)
{
    return run->plan->scenario == SIM_STORE || run->plan->scenario == SIM_DECAY;
}

struct loop *sim_store_loop(struct sim_node *n)
{
    return &n->store->loop;
}

/* ---- The node ---- */

/* What the store says is damaged. A power cut leaves files that nothing names, no more. */
static void on_damage(void *arg, const struct store_damage *damage)
{
    struct sim_store *s = arg;
    struct sim_node *n = s->n;
    struct js_stream *st = js_stream_find(&s->js, damage->gid);
    sim_note(&n->run->clock, "damage node %u type %d group %llu seqs %llu-%llu %s", n->number,
             (int)damage->type, (ull)damage->gid, (ull)damage->first_seq, (ull)damage->last_seq,
             damage->path);
    if (damage->type != STORE_DAMAGE_QUARANTINE && !n->was_store_damaged) {
        sim_fail(n->run, "DAMAGE", "node %u: the store finds damage of kind %d in %s", n->number,
                 (int)damage->type, damage->path);
    }
    if (st != NULL) {
        js_mend_wanted(st);
    }
}

/* Small, so that little load makes many blocks, files and generations. */
static void options_of(struct sim_store *s, struct store_options *o)
{
    uint64_t dice = sim_fold(s->n->run->plan->seed, 77);
    *o = (struct store_options){
        .ops = &s->files.ops,
        .dir = SIM_STORE_DIR,
        .machine_version = ENTRY_MACHINE_VERSION,
        .block_bytes = 1024u << dice % 6,
        .file_bytes = 8192u << dice / 8 % 5,
        .small_bytes = 512u << dice / 64 % 8,
        .cache_bytes = 4096u << dice / 512 % 8,
        .rewrite_bytes = 8192u << dice / 4096 % 5,
        .journal_bytes_min = 4096u << dice / 32768 % 6,
        .dead_bytes_max = 16384u << dice / 262144 % 4,
        .damage = on_damage,
        .damage_arg = s,
    };
}

static void js_begin(struct sim_store *s)
{
    struct js *js = &s->js;
    sim_loop_init(&s->loop, s->n);
    s->options.scrub_bytes_per_s = 65536;
    s->options.scrub_interval_ms = 3000;
    s->ctx.options = &s->options;
    s->ctx.loop = &s->loop;
    s->ctx.node_id = s->n->number + 1;
    js->ctx = &s->ctx;
    js->loop = &s->loop;
    list_init(&js->serves);
    pace_init(&js->pace_send, 0, loop_mono_ns(&s->loop));
    js->pace_take = js->pace_send;
}

static int open_files(struct sim_store *s, struct store_recovery *found)
{
    const struct file_ops *ops = s->files.real;
    struct store_options options;
    int rv = ops->mkdir(ops->ctx, SIM_STORE_DIR);
    rv = rv == 0 || rv == ERR_EXISTS ? ops->sync_dir(ops->ctx, "/") : rv;
    options_of(s, &options);
    return rv == 0 ? store_open(&options, found, &s->js.store) : rv;
}

bool sim_store_open(struct sim_node *n)
{
    struct sim_store *s = xcalloc(1, sizeof *s);
    struct store_recovery found = {0};
    s->n = n;
    n->store = s;
    sim_store_files_init(&s->files, sim_disk_ops(n->disk), n->run->options->planted);
    js_begin(s);
    int rv = open_files(s, &found);
    sim_trace(&n->run->clock, "store node %llu generation %llu pass %llu", n->number,
              found.generation, found.pass);
    if (rv != 0) {
        sim_fail(n->run, "OPEN", "node %u: the store does not open: %s", n->number, err_text(rv));
        return false;
    }
    if (!n->was_store_damaged && (found.is_rotten || found.is_fallback)) {
        sim_fail(n->run, "TORN", "node %u: a cut of power is taken for damage of the journal",
                 n->number);
    }
    return true;
}

void sim_store_started(struct sim_node *n)
{
    n->store->js.host = n->host;
}

static void flush_end(struct sim_store *s)
{
    struct js *js = &s->js;
    if (js->flush == NULL) {
        return;
    }
    if (js->flush_status == 0) {
        (void)store_flush_end(js->flush, NULL, NULL);
    } else {
        store_flush_abort(js->flush);
    }
    js->flush = NULL;
    if (js->flush_stage_gid != 0) {
        js_image_job_end(js->flush_stage_arg);
    }
}

static bool is_closing;

bool sim_store_is_closing(void)
{
    return is_closing;
}

void sim_store_stop(struct sim_node *n)
{
    struct sim_store *s = n->store;
    is_closing = true;
    s->js.is_stopping = true;
    if (s->js.store != NULL) {
        sim_loop_close(&s->loop);
        flush_end(s);
    }
    s->files.left = 0;
    is_closing = false;
}

static void stream_close(struct js_stream *st)
{
    js_mend_close(st);
    stream_free(st->machine); /* NULL where the replica had it. */
    st->machine = NULL;
}

void sim_store_close(struct sim_node *n)
{
    struct sim_store *s = n->store;
    for (unsigned g = 0; g < n->run->plan->groups_count; g++) {
        stream_close(&s->streams[g]);
    }
    js_mend_stop(&s->js);
    HASH_CLEAR(hh, s->js.streams);
    store_close(s->js.store);
    buf_close(&s->item);
    free(s);
    n->store = NULL;
}

void sim_store_cut(struct sim_node *n)
{
    struct sim_rng *rng = &n->run->rng_fault;
    uint64_t dice = sim_rng_below(rng, 4);
    n->store->files.left = dice == 0   ? 0
                           : dice == 1 ? UINT64_MAX
                                       : sim_rng_below(rng, dice == 2 ? 8 : 40);
    n->run->result->stats.cuts += dice >= 2;
}

void sim_store_run(struct sim_node *n, void (*run)(void *arg), void *arg)
{
    struct sim_store *s = n->store;
    s->files.failed = 0;
    sim_disk_set_sync_broken(n->disk, n->sync_fails_for_us > 0);
    run(arg);
    sim_disk_set_sync_broken(n->disk, false);
    if (s->files.failed > 0) {
        n->run->result->stats.fulls += n->full_until_us > n->run->clock.now_us;
        s->is_io_broken = true;
        n->sync_fails_for_us = 0;
        n->run->result->stats.sync_fails++;
    }
}

bool sim_store_dies(struct sim_node *n, bool is_flush)
{
    if (n->dies_for_us == 0 || is_flush == ((n->dies_arg & SIM_JOB_IMAGE) != 0)) {
        return false;
    }
    int64_t back_us = n->dies_for_us;
    sim_node_crash(n, (n->dies_arg & SIM_JOB_MACHINE) != 0);
    sim_restart_after(n, back_us);
    return true;
}

bool sim_store_is_flush_work(struct sim_node *n, const void *arg)
{
    struct sim_store *s = n->store;
    bool is_flush = arg == &s->js && s->js.flush != NULL && !s->has_flush_work;
    s->has_flush_work = s->has_flush_work || is_flush;
    return is_flush;
}

/* ---- What a turn has changed ---- */

static void flush_began(struct sim_replica *r, const struct js_stream *st)
{
    r->is_flushing = true;
    r->flushing.base = (struct group_base){st->applied_index, st->applied_term};
    r->flushing.hash = sim_replica_hash(r);
    sim_store_check_hash(r);
}

static void flush_ended(struct sim_replica *r, const struct js_stream *st)
{
    struct sim_run *run = r->node->run;
    r->is_flushing = false;
    if (st->flushed_index != r->flushing.base.index) {
        return; /* An image has come meanwhile. */
    }
    r->durable.base = r->flushing.base;
    sim_oracle_base(run->oracle, r->node->number, r->group, r->durable.base.index,
                    r->durable.base.term, r->flushing.hash);
    sim_trace(&run->clock, "flush node %llu group %llu index %llu", r->node->number, r->group,
              r->durable.base.index);
    run->result->stats.flushes++;
    sim_store_sample(r);
}

void sim_store_look(struct sim_node *n)
{
    struct sim_store *s = n->store;
    s->has_flush_work = s->has_flush_work && s->js.flush != NULL;
    for (unsigned g = 0; g < n->run->plan->groups_count; g++) {
        struct sim_replica *r = &n->replicas[g];
        struct js_stream *st = &s->streams[g];
        if (st->is_flushing && !r->is_flushing) {
            flush_began(r, st);
        } else if (!st->is_flushing && r->is_flushing) {
            flush_ended(r, st);
        }
    }
}

void sim_store_flush(struct sim_node *n)
{
    if (!js_flush_is_busy(&n->store->js)) {
        (void)js_flush_now(&n->store->js);
        sim_store_look(n);
    }
}

/* As js_rebuild.c: while another node leads. */
static void rebuild(struct sim_replica *r, const struct js_stream *st)
{
    unsigned leader = r->lane.leader;
    if (st->is_broken && leader != 0 && leader != r->node->number + 1 && sim_store_may_drop(r)) {
        r->node->run->result->stats.rebuilt++;
        sim_members_replace(r);
    }
}

void sim_store_tick(struct sim_node *n)
{
    struct sim_store *s = n->store;
    s->js.meta_group = n->replicas[0].g; /* js_image.c asks whether it is level. */
    for (unsigned g = 0; g < n->run->plan->groups_count; g++) {
        s->streams[g].group = n->replicas[g].g;
    }
    js_mend_tick(&s->js);
    js_scrub_tick(&s->js);
    js_image_tick(&s->js);
    js_flush_tick(&s->js);
    sim_store_look(n);
    for (unsigned g = 0; g < n->run->plan->groups_count; g++) {
        rebuild(&n->replicas[g], &s->streams[g]);
    }
}

void sim_store_durable(struct sim_node *n, uint64_t lsn)
{
    js_flush_durable(&n->store->js, lsn);
}

/* ---- A replica ---- */

static void stream_begin(struct sim_replica *r, struct store_stream *store)
{
    struct js_stream *st = sim_stream_of(r);
    struct js *js = &r->node->store->js;
    uint64_t gid = sim_gid(r->group);
    *st = (struct js_stream){.image_of = {js, gid, gid},
                             .js = js,
                             .gid = gid,
                             .sid = gid,
                             .raft_id = r->raft_id,
                             .name = r->node->store->name,
                             .store = store};
    HASH_ADD(hh, js->streams, gid, sizeof st->gid, st);
}

/* A new stream under its gid. */
static void begin_empty(struct sim_replica *r)
{
    struct store *store = r->node->store->js.store;
    stream_begin(r, store_stream_create(store, sim_gid(r->group), sim_gid(r->group)));
    sim_stream_of(r)->is_store_loaded = true;
    sim_stream_of(r)->machine = r->stream;
}

/* What the store holds is of an index that was told to be durable, or of a later one. */
static void loaded(struct sim_replica *r)
{
    struct sim_run *run = r->node->run;
    struct js_stream *st = sim_stream_of(r);
    if (st->applied_index < r->durable.base.index) {
        sim_fail(run, "RESTORE", "node %u group %u: the store holds index %llu, %llu was durable",
                 r->node->number, r->group, (ull)st->applied_index, (ull)r->durable.base.index);
    }
    sim_store_came(r);
    sim_oracle_base(run->oracle, r->node->number, r->group, r->m.applied.index, r->m.applied.term,
                    sim_replica_hash(r));
}

/* Messages are missing: as js_stream.c, open_damaged(). */
static void mend_first(struct sim_replica *r, struct js_stream *st)
{
    stream_free(st->machine);
    st->machine = NULL;
    st->mending_since_ms = sim_node_now_ms(r->node);
    r->node->run->result->stats.unknown++;
    if (store_stream_is_whole(st->store)) {
        js_rebuild_wanted(st, "its state and its messages do not fit together");
    } else {
        st->state = JS_STREAM_MENDING;
        js_mend_wanted(st);
    }
}

bool sim_store_is_mending(const struct sim_replica *r)
{
    return r->node->store != NULL && r->raft_id != 0 && sim_stream_of(r)->state != JS_STREAM_OK;
}

bool sim_store_is_whole(struct sim_replica *r)
{
    struct js_stream *st = sim_stream_of(r);
    struct store_stats stats;
    sim_store_check(r);
    store_stream_stats(st->store, &stats);
    return stats.damaged_blocks == 0;
}

static void mended(void *arg, int rv)
{
    struct js_stream *st = arg;
    struct sim_replica *r = sim_replica_of(st);
    if (sim_store_is_closing()) {
        return;
    }
    if (rv != 0) {
        js_rebuild_wanted(st, "its mended state does not load");
        return;
    }
    st->state = JS_STREAM_OK;
    r->node->run->result->stats.mended++;
    loaded(r);
    sim_client_open(r);
    sim_members_open(r);
}

void js_stream_mended(struct js_stream *st)
{
    store_stream_unload(st->store);
    js_state_restore_apart(st, mended, st);
}

void sim_store_load(struct sim_replica *r)
{
    struct store *store = r->node->store->js.store;
    struct store_stream *found = store_find(store, sim_gid(r->group));
    sim_state_birth(r);
    if (r->raft_id == 0) {
        if (found != NULL) {
            store_stream_delete(found); /* It was to go already. */
        }
        return;
    }
    if (found == NULL) {
        if (r->durable.base.index > 0) {
            sim_fail(r->node->run, "RESTORE", "node %u group %u: the store has nothing",
                     r->node->number, r->group);
        }
        begin_empty(r);
        return;
    }
    stream_free(r->stream);
    r->stream = NULL;
    stream_begin(r, found);
    struct js_stream *st = sim_stream_of(r);
    store_stream_applied(st->store, &st->applied_index, &st->applied_term);
    st->flushed_index = st->applied_index;
    int rv = js_state_restore(st);
    if (rv == ERR_CORRUPT && st->machine != NULL && r->node->was_store_damaged) {
        mend_first(r, st);
        return;
    }
    if (rv != 0) {
        sim_fail(r->node->run, "RESTORE", "node %u group %u: the store does not load: %s",
                 r->node->number, r->group, err_text(rv));
        sim_state_birth(r);
        return;
    }
    loaded(r);
}

/* The machine is made of what the store holds. */
void sim_store_came(struct sim_replica *r)
{
    struct js_stream *st = sim_stream_of(r);
    sim_machine_close(&r->m);
    sim_machine_init(&r->m);
    r->stream = st->machine;
    r->m.applied.index = st->applied_index;
    r->m.applied.term = st->applied_term;
    r->durable.base = (struct group_base){st->applied_index, st->applied_term};
    sim_store_check_hash(r);
    sim_store_check(r);
}

void sim_store_gone(struct sim_replica *r)
{
    sim_client_close(r);
    sim_machine_close(&r->m);
    sim_machine_init(&r->m);
    r->stream = NULL; /* js_state.c frees it. */
    r->is_flush_due = false;
    r->is_flushing = false;
    r->state_life++;
}

bool sim_store_begin(struct sim_replica *r)
{
    struct js *js = &r->node->store->js;
    if (js_flush_is_busy(js) || store_is_forgetting(js->store, sim_gid(r->group))) {
        sim_store_flush(r->node);
        return false;
    }
    begin_empty(r);
    return true;
}

bool sim_store_may_drop(struct sim_replica *r)
{
    return !js_flush_is_busy(&r->node->store->js);
}

void sim_store_drop(struct sim_replica *r)
{
    struct js_stream *st = sim_stream_of(r);
    if (st->store != NULL) {
        HASH_DEL(r->node->store->js.streams, st);
        js_mend_close(st);
        store_stream_delete(st->store);
        *st = (struct js_stream){0};
    }
}

void sim_store_unload(struct sim_replica *r)
{
    struct js_stream *st = sim_stream_of(r);
    if (st->machine == r->stream) {
        st->machine = NULL;
    }
}

void sim_store_applied(struct sim_replica *r, uint64_t index, uint64_t term, bool has_effects)
{
    struct js_stream *st = sim_stream_of(r);
    if (r->node->run->options->planted == SIM_PLANTED_REMOVED_COMES_BACK && index % 50 == 0) {
        r->effects.removes_count = 0;
    }
    if (has_effects) {
        js_state_carry_out(st, &r->effects);
    }
    st->applied_index = index;
    st->applied_term = term;
    js_stream_dirty(st);
}

/* ---- The host's questions ---- */

static struct group_fsm inner; /* The replica's own, the same for all. */

/* The store may have the first configuration of a replica whose creation the WAL lost: it is
 * created again. */
static void fsm_apply(void *ctx, const struct group_entry *e)
{
    struct sim_replica *r = sim_replica_of(ctx);
    if (e->index > sim_machine_last(&r->m) || e->type == GROUP_ENTRY_COMMAND) {
        inner.apply(r, e);
    } else if (r->g != NULL) {
        group_set_applied(r->g, e->index);
    }
}

static void fsm_lost(void *ctx, uint64_t token, enum group_lost why)
{
    inner.lost(sim_replica_of(ctx), token, why);
}

static void fsm_role(void *ctx, const struct group_role *role)
{
    inner.role_changed(sim_replica_of(ctx), role);
}

static void fsm_read_done(void *ctx, uint64_t token, bool is_ok, uint64_t index)
{
    inner.read_done(sim_replica_of(ctx), token, is_ok, index);
}

static struct group_base fsm_base(void *ctx)
{
    const struct js_stream *st = ctx;
    struct group_base base = {0, 0};
    store_stream_applied(st->store, &base.index, &base.term);
    return base;
}

void sim_store_fsm(struct sim_replica *r, struct group_fsm *fsm)
{
    inner = *fsm;
    *fsm = (struct group_fsm){.apply = fsm_apply,
                              .lost = fsm_lost,
                              .role_changed = fsm_role,
                              .read_done = fsm_read_done,
                              .base = fsm_base,
                              .ctx = sim_stream_of(r)};
    js_image_fsm(fsm);
}
