#include "tests/sim/sim_net.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/list.h"

#define HEARTBEAT_US (100 * 1000)
#define SILENCE_US (600 * 1000)
#define CONNECT_AGAIN_US (100 * 1000)
#define CUT_LOOK_US (50 * 1000)

struct frame {
    struct list queue;
    unsigned from;
    unsigned to;
    unsigned lane; /* SIM_LANES: a heartbeat. */
    uint64_t epoch;
    int64_t due_us;
    size_t len;
    uint8_t bytes[];
};

/* One direction of one lane. */
struct link {
    struct list frames;
    int64_t last_due_us;
    bool has_event;
};

enum peer_view { VIEW_UNKNOWN, VIEW_UP, VIEW_DOWN };

struct pair {
    bool is_open;
    bool is_connecting;
    uint64_t epoch;
};

struct sim_net {
    struct sim_net_options options;
    struct sim_clock *clock;
    struct sim_rng rng;
    struct sim_net_env env;
    struct link links[SIM_NODES_MAX][SIM_NODES_MAX][SIM_LANES];
    struct pair pairs[SIM_NODES_MAX][SIM_NODES_MAX]; /* [smaller][larger] */
    bool is_cut[SIM_NODES_MAX][SIM_NODES_MAX];
    enum peer_view views[SIM_NODES_MAX][SIM_NODES_MAX];
    int64_t heard_us[SIM_NODES_MAX][SIM_NODES_MAX];
    bool is_machine_lost[SIM_NODES_MAX];
    uint64_t boots[SIM_NODES_MAX]; /* Events of an earlier process find another number. */
    unsigned frames_count;
};

static struct pair *pair_of(struct sim_net *net, unsigned a, unsigned b)
{
    assert(a != b);
    return a < b ? &net->pairs[a][b] : &net->pairs[b][a];
}

static void heartbeat_event(void *arg, uint64_t node, uint64_t boot);
static void link_event(void *arg, uint64_t code, uint64_t unused);
static void connect_event(void *arg, uint64_t a, uint64_t b);

struct sim_net *sim_net_new(const struct sim_net_options *options, struct sim_clock *clock,
                            struct sim_rng rng, const struct sim_net_env *env)
{
    assert(options->nodes_count <= SIM_NODES_MAX);
    struct sim_net *net = xcalloc(1, sizeof *net);
    net->options = *options;
    net->clock = clock;
    net->rng = rng;
    net->env = *env;
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        for (unsigned k = 0; k < SIM_NODES_MAX; k++) {
            for (unsigned lane = 0; lane < SIM_LANES; lane++) {
                list_init(&net->links[i][k][lane].frames);
            }
        }
    }
    return net;
}

static void frame_free(struct sim_net *net, struct frame *f)
{
    net->frames_count--;
    free(f);
}

static void link_drop(struct sim_net *net, struct link *l)
{
    struct list *it;
    while ((it = list_pop_front(&l->frames)) != NULL) {
        frame_free(net, container_of(it, struct frame, queue));
    }
}

void sim_net_free(struct sim_net *net)
{
    if (net == NULL) {
        return;
    }
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        for (unsigned k = 0; k < SIM_NODES_MAX; k++) {
            for (unsigned lane = 0; lane < SIM_LANES; lane++) {
                link_drop(net, &net->links[i][k][lane]);
            }
        }
    }
    free(net);
}

static int64_t delay_us(struct sim_net *net, size_t len)
{
    const struct sim_net_options *o = &net->options;
    int64_t d = sim_rng_range(&net->rng, o->delay_min_us, o->delay_max_us);
    if (o->slow_per_mille > 0 && sim_rng_below(&net->rng, 1000) < o->slow_per_mille) {
        d += sim_rng_range(&net->rng, 0, o->slow_max_us);
    }
    return d + (int64_t)(len / 500); /* 500 MB/s */
}

/* ---- Delivery ---- */

static void hand_over(struct sim_net *net, struct frame *f)
{
    if (f->lane == SIM_LANES) {
        net->heard_us[f->to][f->from] = net->clock->now_us;
        if (net->views[f->to][f->from] != VIEW_UP && pair_of(net, f->from, f->to)->is_open) {
            net->views[f->to][f->from] = VIEW_UP;
            net->env.peer(net->env.ctx, f->to, f->from, true);
        }
        if (net->views[f->to][f->from] == VIEW_UP) {
            net->env.stuck(net->env.ctx, f->to, f->from, f->len > 0);
        }
    } else {
        net->env.frame(net->env.ctx, f->from, f->to, f->lane, slice_of(f->bytes, f->len));
    }
}

/* A frame that is in no queue: late, doubled or out of order. */
static void stray_event(void *arg, uint64_t ptr, uint64_t unused)
{
    struct sim_net *net = arg;
    struct frame *f = (struct frame *)(uintptr_t)ptr;
    (void)unused;
    if (net->env.is_running(net->env.ctx, f->to) && !net->env.is_paused(net->env.ctx, f->to) &&
        !net->is_cut[f->from][f->to]) {
        hand_over(net, f);
    }
    frame_free(net, f);
}

static void stray_at(struct sim_net *net, struct frame *f, int64_t at_us)
{
    sim_clock_at(net->clock, at_us, stray_event, net, (uintptr_t)f, 0);
}

static struct frame *frame_new(struct sim_net *net, unsigned from, unsigned to, unsigned lane,
                               struct slice bytes)
{
    struct frame *f = xmalloc(sizeof *f + bytes.len);
    *f = (struct frame){.from = from, .to = to, .lane = lane, .len = bytes.len};
    f->epoch = pair_of(net, from, to)->epoch;
    list_init(&f->queue);
    if (bytes.len > 0) {
        memcpy(f->bytes, bytes.ptr, bytes.len);
    }
    net->frames_count++;
    return f;
}

static struct link *link_of(struct sim_net *net, const struct frame *f)
{
    return &net->links[f->from][f->to][f->lane == SIM_LANES ? 0 : f->lane];
}

static void link_wake(struct sim_net *net, unsigned from, unsigned to, unsigned lane, int64_t at_us)
{
    struct link *l = &net->links[from][to][lane];
    if (!l->has_event) {
        l->has_event = true;
        sim_clock_at(net->clock, at_us, link_event, net, (from * 16 + to) * 16 + lane, 0);
    }
}

static void link_event(void *arg, uint64_t code, uint64_t unused)
{
    struct sim_net *net = arg;
    unsigned from = (unsigned)(code / 256);
    unsigned to = (unsigned)(code / 16 % 16);
    unsigned lane = (unsigned)(code % 16);
    struct link *l = &net->links[from][to][lane];
    (void)unused;
    l->has_event = false;
    if (list_is_empty(&l->frames)) {
        return;
    }
    struct frame *f = container_of(l->frames.next, struct frame, queue);
    int64_t now_us = net->clock->now_us;
    if (net->is_cut[from][to] || net->env.is_paused(net->env.ctx, to)) {
        link_wake(net, from, to, lane, now_us + CUT_LOOK_US);
        return;
    }
    if (f->due_us > now_us) {
        link_wake(net, from, to, lane, f->due_us);
        return;
    }
    list_remove(&f->queue);
    if (!list_is_empty(&l->frames)) {
        link_wake(net, from, to, lane, container_of(l->frames.next, struct frame, queue)->due_us);
    }
    if (net->env.is_running(net->env.ctx, to)) {
        hand_over(net, f);
    }
    frame_free(net, f);
}

/* One frame of @n_per_mille goes astray. True if it is gone or travels by itself. */
static bool stray(struct sim_net *net, struct frame *f)
{
    if (f->lane >= SIM_LANE_CLIENT) { /* Not the guard's: its users count on order. */
        return false;
    }
    if (net->options.is_datagram) {
        stray_at(net, f, f->due_us);
        return true;
    }
    if (net->options.stray_per_mille == 0 ||
        sim_rng_below(&net->rng, 1000) >= net->options.stray_per_mille) {
        return false;
    }
    switch (sim_rng_below(&net->rng, 3)) {
    case 0: /* Lost. */
        frame_free(net, f);
        return true;
    case 1: /* Doubled. */
        stray_at(net, frame_new(net, f->from, f->to, f->lane, slice_of(f->bytes, f->len)),
                 f->due_us + sim_rng_range(&net->rng, 0, 300 * 1000));
        return false;
    default: /* Reordered. */
        stray_at(net, f, f->due_us + sim_rng_range(&net->rng, 0, 300 * 1000));
        return true;
    }
}

void sim_net_send(struct sim_net *net, unsigned from, unsigned to, unsigned lane,
                  struct slice bytes)
{
    if (!pair_of(net, from, to)->is_open) {
        return;
    }
    struct frame *f = frame_new(net, from, to, lane, bytes);
    struct link *l = link_of(net, f);
    f->due_us = net->clock->now_us + delay_us(net, bytes.len);
    if (lane < SIM_LANES && stray(net, f)) {
        return;
    }
    if (f->due_us < l->last_due_us) {
        f->due_us = l->last_due_us;
    }
    l->last_due_us = f->due_us;
    list_push_back(&l->frames, &f->queue);
    link_wake(net, from, to, lane == SIM_LANES ? 0 : lane, f->due_us);
}

/* ---- Connections ---- */

/* What was under way from @from to @to when the connection closed: gone, or late. */
static void orphan(struct sim_net *net, unsigned from, unsigned to)
{
    for (unsigned lane = 0; lane < SIM_LANES; lane++) {
        struct list *it;
        struct link *l = &net->links[from][to][lane];
        l->last_due_us = 0;
        while ((it = list_pop_front(&l->frames)) != NULL) {
            struct frame *f = container_of(it, struct frame, queue);
            if (f->lane == SIM_LANES || !net->options.has_late_frames ||
                sim_rng_one_in(&net->rng, 2)) {
                frame_free(net, f);
                continue;
            }
            if (sim_rng_one_in(&net->rng, 8)) {
                stray_at(net, frame_new(net, from, to, f->lane, slice_of(f->bytes, f->len)),
                         f->due_us + sim_rng_range(&net->rng, 0, 2000 * 1000));
            }
            stray_at(net, f, f->due_us + sim_rng_range(&net->rng, 0, 1000 * 1000));
        }
    }
}

static void connect_soon(struct sim_net *net, unsigned a, unsigned b, int64_t after_us)
{
    struct pair *p = pair_of(net, a, b);
    if (!p->is_connecting) {
        p->is_connecting = true;
        sim_clock_at(net->clock, net->clock->now_us + after_us, connect_event, net, a, b);
    }
}

void sim_net_close_connection(struct sim_net *net, unsigned a, unsigned b)
{
    struct pair *p = pair_of(net, a, b);
    if (!p->is_open) {
        return;
    }
    sim_trace(net->clock, "net close %llu-%llu epoch %llu", a, b, p->epoch);
    p->is_open = false;
    p->epoch++;
    orphan(net, a, b);
    orphan(net, b, a);
    connect_soon(net, a, b, delay_us(net, 0) * 2);
}

static void tell_down(struct sim_net *net, unsigned node, unsigned peer)
{
    if (net->views[node][peer] != VIEW_DOWN) {
        net->views[node][peer] = VIEW_DOWN;
        net->env.peer(net->env.ctx, node, peer, false);
    }
}

static void tell_up(struct sim_net *net, unsigned node, unsigned peer)
{
    net->heard_us[node][peer] = net->clock->now_us;
    net->views[node][peer] = VIEW_UP;
    net->env.peer(net->env.ctx, node, peer, true);
}

static void connect_event(void *arg, uint64_t a64, uint64_t b64)
{
    struct sim_net *net = arg;
    unsigned a = (unsigned)a64;
    unsigned b = (unsigned)b64;
    struct pair *p = pair_of(net, a, b);
    p->is_connecting = false;
    bool has_a = net->env.is_running(net->env.ctx, a);
    bool has_b = net->env.is_running(net->env.ctx, b);
    if (p->is_open || (!has_a && !has_b)) {
        return;
    }
    if (net->is_cut[a][b] || net->is_cut[b][a] || net->env.is_paused(net->env.ctx, a) ||
        net->env.is_paused(net->env.ctx, b)) {
        connect_soon(net, a, b, CONNECT_AGAIN_US);
        return;
    }
    if (!has_a || !has_b) {
        unsigned dead = has_a ? b : a;
        if (!net->is_machine_lost[dead]) {
            tell_down(net, has_a ? a : b, dead); /* Refused. */
        }
        connect_soon(net, a, b, CONNECT_AGAIN_US);
        return;
    }
    /* What an ended process sent, and its kernel did not deliver in time. */
    orphan(net, a, b);
    orphan(net, b, a);
    p->is_open = true;
    sim_trace(net->clock, "net open %llu-%llu epoch %llu", a, b, p->epoch);
    tell_up(net, a, b);
    if (p->is_open) {
        tell_up(net, b, a);
    }
}

void sim_net_node_up(struct sim_net *net, unsigned node)
{
    net->is_machine_lost[node] = false;
    net->boots[node]++;
    for (unsigned i = 0; i < net->options.nodes_count; i++) {
        if (i != node) {
            net->views[node][i] = VIEW_UNKNOWN;
            net->heard_us[node][i] = net->clock->now_us;
            connect_soon(net, node, i, delay_us(net, 0));
        }
    }
    sim_clock_at(net->clock, net->clock->now_us + sim_rng_range(&net->rng, 0, HEARTBEAT_US),
                 heartbeat_event, net, node, net->boots[node]);
}

void sim_net_node_down(struct sim_net *net, unsigned node, bool is_machine)
{
    net->is_machine_lost[node] = is_machine;
    net->boots[node]++;
    for (unsigned i = 0; i < net->options.nodes_count; i++) {
        if (i == node) {
            continue;
        }
        struct pair *p = pair_of(net, node, i);
        if (!p->is_open) {
            continue;
        }
        p->is_open = false;
        p->epoch++;
        for (unsigned lane = 0; lane < SIM_LANES; lane++) {
            link_drop(net, &net->links[i][node][lane]);
            net->links[i][node][lane].last_due_us = 0;
            if (is_machine) {
                link_drop(net, &net->links[node][i][lane]);
            }
            net->links[node][i][lane].last_due_us = 0;
        }
        connect_soon(net, node, i, delay_us(net, 0) * 2);
    }
}

/* Once per heartbeat interval and node: send, and look who is silent. */
static void heartbeat_event(void *arg, uint64_t node64, uint64_t boot)
{
    struct sim_net *net = arg;
    unsigned node = (unsigned)node64;
    int64_t now_us = net->clock->now_us;
    if (boot != net->boots[node]) {
        return;
    }
    sim_clock_at(net->clock, now_us + HEARTBEAT_US, heartbeat_event, net, node, boot);
    if (net->env.is_paused(net->env.ctx, node)) {
        return;
    }
    bool is_healthy = net->env.is_healthy(net->env.ctx, node);
    for (unsigned i = 0; i < net->options.nodes_count && boot == net->boots[node]; i++) {
        if (i == node) {
            continue;
        }
        if (is_healthy || net->env.tells_stuck) {
            sim_net_send(net, node, i, SIM_LANES, is_healthy ? SLICE_EMPTY : SLICE_LIT("s"));
        }
        if (net->views[node][i] != VIEW_DOWN && now_us - net->heard_us[node][i] > SILENCE_US) {
            tell_down(net, node, i);
            /* As production does: what is left of the connection is closed. */
            sim_net_close_connection(net, node, i);
        }
    }
}

/* ---- Faults ---- */

void sim_net_cut(struct sim_net *net, unsigned from, unsigned to, bool is_cut)
{
    net->is_cut[from][to] = is_cut;
}

bool sim_net_is_cut(const struct sim_net *net, unsigned from, unsigned to)
{
    return net->is_cut[from][to];
}

void sim_net_heal_all(struct sim_net *net)
{
    memset(net->is_cut, 0, sizeof net->is_cut);
}

void sim_net_calm(struct sim_net *net)
{
    net->options.slow_per_mille = 0;
    net->options.stray_per_mille = 0;
    net->options.is_datagram = false;
    sim_net_heal_all(net);
}

unsigned sim_net_frames_count(const struct sim_net *net)
{
    return net->frames_count;
}
