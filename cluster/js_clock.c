/* The agreed clock on this node (broker/log_time.h): what peers say of theirs in heartbeats, and
 * what operators hear of it. A node whose clock is wrong hands its leaderships over (js_move.c),
 * and stamps by the agreed clock until they are gone. */
#include "cluster/js_clock.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/delivery.h"
#include "broker/entry.h"
#include "broker/log_time.h"
#include "broker/meta.h"
#include "broker/stream.h"
#include "cluster/js_internal.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/peers.h"
#include "storage/base/hash.h"
#include "storage/base/log.h"

#define LOOK_MS 100
#define REMIND_MS 60000
#define NS_PER_MS 1000000
#define TEXT_MAX 48

/* ---- Looking ---- */

static bool add_clock(void *arg, const struct peers_info *info)
{
    struct agreed_view *v = arg;
    if (info->is_up && info->is_jetstream && info->has_clock && v->clocks_count < TIME_CLOCKS_MAX) {
        v->clocks[v->clocks_count++] =
            (struct agreed_clock_of){info->clock_base_ns, info->is_clock_sure};
    }
    return true;
}

static void look(struct js *js)
{
    struct agreed_view v = {.nodes_count = HASH_COUNT(meta_nodes(js->meta))};
    if (v.nodes_count == 0) { /* Not known yet: no majority either. */
        v.nodes_count = js->ctx->peers == NULL ? 1 : 2 * TIME_CLOCKS_MAX;
    }
    if (js->ctx->peers != NULL) {
        peers_each(js->ctx->peers, add_clock, &v);
    }
    v.own_ns = loop_clock_ns(js->loop);
    v.wall_ns = loop_wall_ns(js->loop);
    v.mono_ns = loop_mono_ns(js->loop);
    js->clock.wall_offset_ns = v.wall_ns - v.own_ns;
    agreed_time_look(&js->clock.agreed, &v);
}

/* ---- Telling ---- */

/* "3600.0 s ahead of", for logs. */
static const char *offset_text(char text[static TEXT_MAX], int64_t offset_ns)
{
    double s = (double)offset_ns / 1e9;
    snprintf(text, TEXT_MAX, "%.1f s %s", s < 0 ? -s : s, s < 0 ? "behind" : "ahead of");
    return text;
}

static void tell_skew(struct js *js, uint64_t now_ms)
{
    struct js_clock *c = &js->clock;
    const struct agreed_time *a = &c->agreed;
    char text[TEXT_MAX];
    if (a->is_skewed && (!c->is_skew_told || now_ms - c->skew_told_ms >= REMIND_MS)) {
        log_err("clock_skew: this node's clock is %s the median of %zu nodes: other nodes lead its "
                "streams until they differ by less than a second. Put its wall clock right",
                offset_text(text, agreed_time_offset(a)), a->heard_count);
        c->is_skew_told = true;
        c->skew_told_ms = now_ms;
    } else if (!a->is_skewed && c->is_skew_told) {
        c->is_skew_told = false;
        log_inf("clock_skew: this node's clock agrees with the others' again");
    }
}

/* That the node's clock does not follow the wall clock is not seen from outside. */
static void tell_wall(struct js *js)
{
    struct js_clock *c = &js->clock;
    bool is_off = llabs(c->wall_offset_ns) > TIME_SKEW_NS;
    char text[TEXT_MAX];
    if (is_off && !c->is_wall_told) {
        log_wrn("clock_wall: the wall clock is %s this node's, which follows it by 1 ms a second; "
                "if the wall clock is right, restart the node",
                offset_text(text, c->wall_offset_ns));
    } else if (!is_off && c->is_wall_told) {
        log_inf("clock_wall: the wall clock and this node's agree again");
    }
    c->is_wall_told = is_off;
}

static void tell_jump(const struct agreed_time *a)
{
    char text[TEXT_MAX];
    if (a->jumped_ns != 0) {
        log_wrn("clock_jump: the clock that a majority of nodes agrees on is %s what it was a "
                "moment ago; what is more than an hour is believed when it has stood for %d s",
                offset_text(text, a->jumped_ns), (int)(TIME_STAND_NS / 1000000000));
    }
}

/* The others agree with the wall clock: the node's own was wrong. */
static void set_clock(struct js *js)
{
    char text[TEXT_MAX];
    int64_t moved_ns = loop_clock_set(js->loop);
    js->ctx->start_ns += moved_ns; /* Uptimes stay what they are. */
    log_wrn("clock_set: this node's clock was set to the wall clock, %s what it was",
            offset_text(text, moved_ns));
    look(js);
}

void js_clock_tick(struct js *js)
{
    uint64_t now_ms = loop_now_ms(js->loop);
    if (js->clock.looked_ms != 0 && now_ms - js->clock.looked_ms < LOOK_MS) {
        return;
    }
    js->clock.looked_ms = now_ms;
    look(js);
    tell_jump(&js->clock.agreed);
    if (js->clock.agreed.is_step_due) {
        set_clock(js);
    }
    tell_skew(js, now_ms);
    tell_wall(js);
}

/* ---- Asking ---- */

int64_t js_now_ns(const struct js *js)
{
    return agreed_time_ns(&js->clock.agreed, loop_clock_ns(js->loop), loop_mono_ns(js->loop));
}

int64_t js_stream_now_ns(struct js_stream *st)
{
    int64_t lag_ns;
    if (st->is_unsure_pending || (st->machine != NULL && stream_is_unsure(st->machine, &lag_ns))) {
        return log_time_run_on(&st->time, &st->js->clock.agreed, loop_mono_ns(st->js->loop));
    }
    return log_time_now(&st->time, &st->js->clock.agreed, loop_mono_ns(st->js->loop));
}

void js_stream_time_applied(struct js_stream *st)
{
    log_time_applied(&st->time, stream_time_ns(st->machine), &st->js->clock.agreed,
                     loop_mono_ns(st->js->loop));
}

/* ---- What a leader does not know yet (broker/stream_shift.h) ---- */

void js_clock_lead(struct js_stream *st)
{
    st->is_sure_pending = false;
    st->is_unsure_pending = stream_machine_version(st->machine) >= ENTRY_MACHINE_VERSION_SHIFTS;
    if (st->is_unsure_pending) { /* Stamps run on from here, whatever the clock says. */
        entry_time_unsure(&st->batch, 0);
    }
}

void js_clock_applied(struct js_stream *st)
{
    const struct stream_effects *e = &st->effects;
    st->is_unsure_pending = st->is_unsure_pending && !e->is_unsure_told;
    st->is_sure_pending = st->is_sure_pending && !e->is_sure_told;
    if (e->is_sure_told && st->delivery != NULL) {
        delivery_time_sure(st->delivery, e->shift_ns);
    }
}

bool js_clock_leads(struct js_stream *st)
{
    int64_t ns;
    int64_t told_ns;
    bool is_unsure = stream_is_unsure(st->machine, &told_ns);
    if (stream_machine_version(st->machine) < ENTRY_MACHINE_VERSION_SHIFTS ||
        st->is_unsure_pending || st->is_sure_pending) {
        return false;
    }
    switch (log_time_news(&st->time, &st->js->clock.agreed, loop_mono_ns(st->js->loop), is_unsure,
                          told_ns, &ns)) {
    case LOG_TIME_UNSURE:
        st->is_unsure_pending = true;
        entry_time_unsure(&st->batch, ns);
        return true;
    case LOG_TIME_SURE:
        st->is_sure_pending = true;
        entry_time_sure(&st->batch, ns);
        return true;
    case LOG_TIME_NO_NEWS:
    default:
        return false;
    }
}

void js_clock_tell_stream(struct js_stream *st)
{
    const struct agreed_time *a = &st->js->clock.agreed;
    int64_t mono_ns = loop_mono_ns(st->js->loop);
    int64_t doubt_ns = log_time_doubt(&st->time, a, mono_ns);
    int64_t ahead_ns = log_time_now(&st->time, a, mono_ns) - js_now_ns(st->js);
    char text[TEXT_MAX];
    if (doubt_ns > 0) {
        log_wrn(
            "clock_doubt: the clock is %s the time of stream '%s': nothing expires by it before "
            "it has stood for %d s",
            offset_text(text, doubt_ns), st->name, (int)(TIME_STAND_NS / 1000000000));
    } else if (ahead_ns > TIME_SKEW_NS) {
        log_wrn("clock_ahead: the time of stream '%s' is %s the clock, and goes on from there",
                st->name, offset_text(text, ahead_ns));
    }
}

/* ---- Showing ---- */

static json_t *ms_json(int64_t ns)
{
    return json_integer((json_int_t)(ns / NS_PER_MS));
}

struct showing {
    const struct agreed_time *a;
    json_t *list;
};

static bool show_clock(void *arg, const struct peers_info *info)
{
    struct showing *s = arg;
    if (info->is_up && info->is_jetstream && info->has_clock) {
        int64_t to_ns = s->a->is_known ? s->a->base_ns : s->a->own_base_ns;
        json_array_append_new(s->list, json_pack("{s:s, s:o, s:b}", "server", info->name,
                                                 "offset_ms", ms_json(info->clock_base_ns - to_ns),
                                                 "skewed", info->is_clock_skewed));
    }
    return true;
}

json_t *js_clock_json(struct js *js)
{
    const struct agreed_time *a = &js->clock.agreed;
    struct showing s = {a, json_array()};
    if (js->ctx->peers != NULL) {
        peers_each(js->ctx->peers, show_clock, &s);
    }
    return json_pack("{s:o, s:o, s:b, s:b, s:b, s:o}", "offset_ms", ms_json(agreed_time_offset(a)),
                     "wall_offset_ms", ms_json(js->clock.wall_offset_ns), "known", a->is_known,
                     "settled", a->is_settled, "skewed", a->is_skewed, "peers", s.list);
}
