/* What only the leader of a stream does: administration, deliveries, and carrying out the effects
 * that are for clients. All of it begins anew with LEAD (design 4). How ops become entries is in
 * js_propose.c. */
#include "cluster/js_leader.h"

#include <stdlib.h>

#include "broker/ack.h"
#include "broker/api_error.h"
#include "broker/api_reply.h"
#include "broker/consumer.h"
#include "broker/consumer_config.h"
#include "broker/delivery.h"
#include "broker/entry.h"
#include "broker/meta.h"
#include "broker/stream.h"
#include "broker/stream_config.h"
#include "cluster/js.h"
#include "cluster/js_advisory.h"
#include "cluster/js_api.h"
#include "cluster/js_batch.h"
#include "cluster/js_clock.h"
#include "cluster/js_image.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_move.h"
#include "cluster/js_propose.h"
#include "cluster/js_republish.h"
#include "cluster/js_send.h"
#include "cluster/js_stream.h"
#include "cluster/js_version.h"
#include "cluster/loop.h"
#include "cluster/node_options.h"
#include "cluster/peers.h"
#include "cluster/router.h"
#include "cluster/watchdog.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"
#include "storage/base/log.h"

#define SENDS_MAX 8192u /* Messages that wait for a disk read, per stream. */
#define CREATED_FOR_MAX 64u
#define DIGEST_MS 5000     /* At most so often. */
#define REQUESTS_MAX 4096u /* Administrative ops under way, per stream. */
#define CLOCK_SHARED_NS STREAM_DUE_SHARED_NS

/* ---- Requests whose op is in the log ---- */

bool js_leader_is_busy(const struct js_stream *st)
{
    return HASH_COUNT(st->requests) >= REQUESTS_MAX || js_propose_is_full(st);
}

struct js_request *js_leader_request(struct js_stream *st, uint64_t node_id, struct slice inbox,
                                     const char *type)
{
    struct js_request *r = xcalloc(1, sizeof *r);
    r->id = js_next_id(st->js);
    r->node_id = node_id;
    r->inbox = inbox.len == 0 ? NULL : xslicedup(inbox);
    r->type = type;
    HASH_ADD(hh, st->requests, id, sizeof r->id, r);
    js_propose_grown(st);
    js_leader_turn_wanted(st);
    return r;
}

static void request_free(struct js_request *r)
{
    free(r->inbox);
    free(r->name);
    free(r);
}

static void requests_drop(struct js_stream *st)
{
    struct js_request *r;
    struct js_request *next;
    HASH_ITER(hh, st->requests, r, next)
    {
        HASH_DEL(st->requests, r);
        request_free(r);
    }
}

static void created_for_drop(struct js_stream *st)
{
    struct list *it;
    while ((it = list_pop_front(&st->created_for)) != NULL) {
        request_free(container_of(it, struct js_request, link));
    }
    st->created_for_count = 0;
}

static void answer_info(struct js_stream *st, const struct js_request *r)
{
    struct buf b = BUF_EMPTY;
    api_reply_open(&b, r->type, NULL);
    buf_append_u8(&b, ',');
    js_api_print_stream(st, &b, NULL);
    /* A lone node always says so, as the reference; in a cluster only who made it. */
    bool is_create = r->is_create ||
                     (st->js->ctx->peers == NULL && strcmp(r->type, "stream_create_response") == 0);
    buf_append_str(&b, is_create ? ",\"did_create\":true}" : "}");
    js_api_reply(st->js, r->node_id, slice_str(r->inbox), r->meta_index, SLICE_EMPTY,
                 buf_slice(&b));
    buf_close(&b);
}

void js_leader_answer_created(struct js_stream *st, struct js_request *r)
{
    if (st->is_led) {
        answer_info(st, r);
        request_free(r);
        return;
    }
    /* Whoever of the peers leads first answers; the others forget it when they learn of a leader,
     * or know of one already. */
    if (st->group == NULL || group_role(st->group).leader_node_id != 0) {
        bool is_own =
            st->group != NULL && group_role(st->group).leader_node_id == st->js->ctx->node_id;
        if (!is_own) {
            request_free(r);
            return;
        }
    }
    if (st->created_for_count == CREATED_FOR_MAX) {
        request_free(r);
        return;
    }
    list_init(&r->link);
    list_push_back(&st->created_for, &r->link);
    st->created_for_count++;
}

/* ---- Life ---- */

static bool planner_has_interest(void *ctx, uint64_t node, struct slice inbox)
{
    struct js_stream *st = ctx;
    (void)node; /* Peers' interest is known here too. */
    return router_is_interest(st->js->ctx->router, inbox);
}

static bool planner_has_push_interest(void *ctx, struct slice subject, struct slice group)
{
    struct js_stream *st = ctx;
    struct router *r = st->js->ctx->router;
    return group.len > 0 ? router_is_group_interest(r, subject, group)
                         : router_is_interest(r, subject);
}

static void planner_push_status(void *ctx, struct slice subject, struct slice reply,
                                struct slice header)
{
    js_send_status(ctx, subject, reply, header);
}

static void planner_propose(void *ctx, uint64_t consumer, const struct progress_item *item)
{
    struct js_stream *st = ctx;
    entry_progress(&st->batch, consumer, item);
    js_propose_grown(st);
}

static void planner_delete(void *ctx, uint64_t consumer, struct slice name)
{
    struct js_stream *st = ctx;
    (void)consumer;
    entry_consumer_delete(&st->batch, 0, name);
    js_propose_grown(st);
}

static void planner_status(void *ctx, uint64_t node, struct slice inbox, struct slice header)
{
    struct js_stream *st = ctx;
    js_api_reply(st->js, node, inbox, 0, header, SLICE_EMPTY);
}

static void planner_deliver(void *ctx, const struct effect_deliver *effect)
{
    js_send_deliver(ctx, effect);
}

void js_leader_open(struct js_stream *st)
{
    struct delivery_options options = {.ctx = st,
                                       .has_interest = planner_has_interest,
                                       .has_push_interest = planner_has_push_interest,
                                       .push_status = planner_push_status,
                                       .node = st->js->ctx->node_id,
                                       .payload_bytes = (uint64_t)st->js->ctx->options->max_payload,
                                       .propose = planner_propose,
                                       .propose_delete = planner_delete,
                                       .status = planner_status,
                                       .deliver = planner_deliver};
    st->delivery = delivery_new(stream_get_consumers(st->machine), slice_str(st->name), &options);
}

void js_leader_deleted(struct js_stream *st)
{
    if (!st->is_led) {
        return;
    }
    const struct consumers *cs = stream_get_consumers(st->machine);
    for (size_t i = 0; i < cs->count; i++) {
        delivery_consumer_deleted(st->delivery, cs->items[i]->id);
    }
}

void js_leader_close(struct js_stream *st)
{
    requests_drop(st);
    created_for_drop(st);
    list_remove(&st->turn);
    delivery_free(st->delivery);
    st->delivery = NULL;
    js_republish_close(st);
    js_propose_close(st);
    st->is_leader = false;
    st->is_led = false;
}

void js_end_pulls(struct js *js)
{
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        if (st->is_led && st->delivery != NULL) {
            delivery_shutdown(st->delivery);
        }
    }
}

static void begin_leading(struct js_stream *st, uint64_t term)
{
    st->is_leader = true;
    st->term = term;
    st->is_job_proposed = false;
    st->is_clock_proposed = false;
    js_propose_begin(st);
    js_leader_turn_wanted(st);
}

static void end_leading(struct js_stream *st)
{
    if (st->is_led && st->delivery != NULL) {
        delivery_unlead(st->delivery);
        js_send_tell_skipped(st);
    }
    st->is_leader = false;
    st->is_led = false;
    list_remove(&st->turn);
    requests_drop(st);
    js_propose_close(st);
    /* Whoever follows tells; until then nobody leads. */
    js_lane_leader_lost(st->js, st->gid, st->js->ctx->node_id);
}

void js_leader_role(struct js_stream *st, const struct group_role *role)
{
    if (st->delivery == NULL) {
        return;
    }
    if (st->is_leader && (!role->is_leader || role->term != st->term)) {
        end_leading(st);
    }
    if (st->state != JS_STREAM_OK) {
        return; /* js_leader_tick hands it over. */
    }
    if (role->is_leader && !st->is_leader) {
        begin_leading(st, role->term);
    } else if (!role->is_leader && role->leader_node_id != 0 &&
               role->leader_node_id != st->js->ctx->node_id) {
        created_for_drop(st);
    }
}

/* With meta's version, so that a leader that is behind in meta takes nothing back. */
static void propose_config(struct js_stream *st, const struct stream_config *config,
                           uint64_t version, uint64_t request)
{
    struct buf b = BUF_EMPTY;
    stream_config_print(config, &b);
    entry_config(&st->batch, request, buf_slice(&b), version);
    buf_close(&b);
    js_leader_turn_wanted(st);
}

/* Who is not connected now is told when it is (js_lane_peer_up). */
static bool tell_leader(void *ctx, const struct peers_info *info)
{
    struct js_stream *st = ctx;
    struct buf *b = js_batch_begin(st->js, info->node_id, JS_ITEM_LEADER);
    buf_append_u64(b, st->gid);
    buf_append_u64(b, st->term);
    js_batch_end(st->js, info->node_id);
    return true;
}

/* LEAD is applied: from now on this node serves the stream. */
static void begin_serving(struct js_stream *st)
{
    struct js *js = st->js;
    st->is_led = true;
    js_republish_config(st);
    js_advisory_leader(st);
    delivery_lead(st->delivery, js_stream_now_ns(st));
    js_clock_tell_stream(st);
    log_inf("JetStream cluster new stream leader for '$G > %s'", st->name);
    js_lane_leader(js, st->gid, js->ctx->node_id, st->term);
    if (js->ctx->peers != NULL) {
        peers_each(js->ctx->peers, tell_leader, st);
    }
    /* A configuration that meta committed while nobody led. */
    const struct meta_stream *s = meta_stream_by_gid(js->meta, st->gid);
    if (s != NULL && s->version > stream_get_config_version(st->machine) &&
        !stream_config_eq(&s->config, stream_get_config(st->machine))) {
        propose_config(st, &s->config, s->version, 0);
    }
    struct list *it;
    while ((it = list_pop_front(&st->created_for)) != NULL) {
        js_leader_answer_created(st, container_of(it, struct js_request, link));
    }
    st->created_for_count = 0;
    js_leader_turn_wanted(st);
}

void js_leader_config(struct js_stream *st, const struct stream_config *config,
                      const struct meta_asker *asker, uint64_t meta_index)
{
    if (!st->is_leader) {
        return; /* Whoever leads proposes it; a later leader compares. */
    }
    struct js_request *r =
        js_leader_request(st, asker->node_id, asker->inbox, "stream_update_response");
    r->meta_index = meta_index;
    propose_config(st, config, meta_index, r->id);
}

/* ---- The open batch ---- */

void js_leader_turn_wanted(struct js_stream *st)
{
    if (list_is_empty(&st->turn)) {
        list_push_back(&st->js->turn_streams, &st->turn);
        loop_again(st->js->loop);
    }
}

/* The answer to a flow control request: $JS.FC.<stream>.<consumer>.<id>. */
static void take_flow(struct js_stream *st, struct slice subject)
{
    struct slice consumer;
    struct slice id;
    if (ack_flow_parse(subject, NULL, &consumer, &id)) {
        struct consumer *c = consumers_by_name(stream_get_consumers(st->machine), consumer);
        if (c != NULL) {
            delivery_flow(st->delivery, c->id, id, js_stream_now_ns(st));
            js_leader_turn_wanted(st);
        }
    }
}

void js_leader_ack(struct js_stream *st, uint64_t node_id, const struct router_msg *msg)
{
    struct ack_subject a;
    if (ack_is_flow(msg->subject)) {
        take_flow(st, msg->subject);
        return;
    }
    if (!ack_subject_parse(msg->subject, &a)) {
        return;
    }
    struct consumer *c = consumers_by_name(stream_get_consumers(st->machine), a.consumer);
    if (c == NULL || c->config.ack_policy == ACK_NONE) {
        js_api_no_responders(st->js, node_id, msg->reply, msg->subject);
        return;
    }
    /* Without room an ack is lost: it is idempotent, and its message comes again. */
    if (!js_propose_is_full(st)) {
        delivery_ack(st->delivery, c->id, a.stream_seq, node_id, msg->reply, msg->payload,
                     js_stream_now_ns(st));
        js_propose_grown(st);
        js_leader_turn_wanted(st);
    }
}

static void turn(struct js_stream *st)
{
    int64_t now = js_stream_now_ns(st);
    if (st->is_led) {
        if (st->closed_bytes == 0 && st->sends_count < SENDS_MAX && st->js->paused_peers == 0) {
            struct watchdog_at was = loop_enter(st->js->loop, WATCHDOG_DELIVER, st->gid);
            delivery_turn(st->delivery, now);
            loop_leave(st->js->loop, was);
            if (delivery_is_searching(st->delivery)) {
                js_leader_turn_wanted(st);
            }
        }
        if (stream_wants_job_step(st->machine) && !st->is_job_proposed) {
            st->is_job_proposed = true;
            entry_job_step(&st->batch);
        }
        if (stream_next_due(st->machine) <= now && !st->is_clock_proposed &&
            now - st->clock_ns >= CLOCK_SHARED_NS) {
            st->is_clock_proposed = true;
            st->clock_ns = now;
            entry_clock(&st->batch);
        }
    }
    js_propose_turn(st);
}

void js_leader_turns(struct js *js)
{
    struct list now;
    list_init(&now);
    list_splice(&now, &js->turn_streams);
    struct list *it;
    while ((it = list_pop_front(&now)) != NULL) {
        struct js_stream *st = container_of(it, struct js_stream, turn);
        if (st->is_leader && st->state == JS_STREAM_OK) {
            turn(st);
        }
    }
}

/* Have the replicas compare, when something has changed since they last did. */
static void propose_digest(struct js_stream *st)
{
    uint64_t now = loop_now_ms(st->js->loop);
    if (st->applied_index <= st->digest.index || now - st->digest_ms < DIGEST_MS ||
        stream_get_config(st->machine)->replicas_count <= 1) {
        return;
    }
    st->digest_ms = now;
    entry_digest(&st->batch);
    js_propose_grown(st);
    js_leader_turn_wanted(st);
}

void js_leader_tick(struct js *js)
{
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        if (st->state != JS_STREAM_OK) {
            /* A replica that stopped applying serves nobody: another one is to lead. */
            if (st->is_leader) {
                end_leading(st);
            }
            (void)js_move_away(js, st->group);
            continue;
        }
        if (!st->is_led) {
            if (st->is_leader && st->closed_bytes > 0) {
                js_leader_turn_wanted(st); /* The group did not take LEAD at once. */
            }
            continue;
        }
        propose_digest(st);
        js_version_tick(st);
        js_send_tick(st);
        if (js_clock_leads(st)) {
            js_propose_grown(st);
            js_leader_turn_wanted(st);
        }
        int64_t now = js_stream_now_ns(st);
        bool is_due = st->closed_bytes > 0 || stream_wants_job_step(st->machine) ||
                      stream_next_due(st->machine) <= now || delivery_next_due(st->delivery) <= now;
        if (is_due) {
            js_leader_turn_wanted(st);
        }
    }
}

void js_leader_lost(struct js_stream *st, uint64_t token)
{
    /* Publishers' nodes send again; requests are asked again by who asked. */
    st->timed_token = token == st->timed_token ? 0 : st->timed_token;
    if (st->proposals_count > 0) {
        st->proposals_count--;
    }
}

/* ---- Effects for clients ---- */

void js_leader_answer(struct js_stream *st, const struct effect_reply *e)
{
    struct js *js = st->js;
    struct js_answer a = {.n = e->n,
                          .seq = e->seq,
                          .err_code = e->err_code,
                          .is_duplicate = e->is_duplicate,
                          .is_gap = e->is_gap,
                          .is_forgotten = e->is_forgotten,
                          .last_n = e->last_n,
                          .text = e->text};
    if (e->node == js->ctx->node_id) {
        if (e->origin == js->origin) {
            js_lane_answer(js, st->gid, &a);
        }
        return;
    }
    struct buf *b = js_batch_begin(js, e->node, JS_ITEM_ANSWER);
    buf_append_u64(b, st->gid);
    buf_append_u64(b, e->origin);
    buf_append_u64(b, a.n);
    buf_append_u64(b, a.seq);
    buf_append_u32(b, (uint32_t)a.err_code);
    buf_append_u8(b, (uint8_t)(a.is_duplicate | a.is_gap << 1 | a.is_forgotten << 2));
    buf_append_u64(b, a.last_n);
    js_batch_put_slice(b, a.text);
    js_batch_end(js, e->node);
}

static void answer_request(struct js_stream *st, const struct effect_admin_reply *e)
{
    struct js_request *r;
    if (e->type == OP_CONSUMER_SET) {
        js_leader_turn_wanted(st); /* The planner is to hear of it: its time may run. */
        const struct consumer *c = consumers_by_id(stream_get_consumers(st->machine), e->consumer);
        if (e->err_code == 0 && e->is_created && c != NULL) {
            js_advisory_consumer(st, slice_str(c->name), JS_ACTION_CREATE);
        }
    }
    HASH_FIND(hh, st->requests, &e->request, sizeof e->request, r);
    if (r == NULL) {
        return;
    }
    HASH_DEL(st->requests, r);
    if (r->inbox == NULL) {
        request_free(r);
        return;
    }
    if (e->err_code == 0 && e->type == OP_CONFIG) {
        answer_info(st, r);
        request_free(r);
        return;
    }
    struct buf b = BUF_EMPTY;
    if (e->err_code != 0) {
        struct api_error error;
        api_error_set(&error, (enum api_error_code)e->err_code, "%.*s", SLICE_ARG(e->text));
        api_reply_error(&b, r->type, &error);
        st->js->api_errors++;
    } else if (e->type == OP_PURGE) {
        api_reply_purge(&b, e->purged);
    } else if (e->type == OP_CONSUMER_SET) {
        api_reply_open(&b, r->type, NULL);
        buf_append_u8(&b, ',');
        js_api_print_consumer(st, slice_str(r->name), &b);
        buf_append_u8(&b, '}');
    } else {
        api_reply_success(&b, r->type);
    }
    js_api_reply(st->js, r->node_id, slice_str(r->inbox), r->meta_index, SLICE_EMPTY,
                 buf_slice(&b));
    buf_close(&b);
    request_free(r);
}

static void carry_out_advisory(struct js_stream *st, const struct effect_advisory *a)
{
    switch (a->type) {
    case ADVISORY_ACK_CONFIRM:
        js_api_reply(st->js, a->node, a->text, 0, SLICE_EMPTY, SLICE_EMPTY);
        break;
    case ADVISORY_CONSUMER_DELETED:
        delivery_consumer_deleted(st->delivery, a->consumer);
        js_advisory_consumer(st, a->text, JS_ACTION_DELETE);
        break;
    case ADVISORY_MAX_DELIVER:
    case ADVISORY_TERMINATED:
    case ADVISORY_NAK:
        js_advisory_message(st, a);
        break;
    }
}

void js_leader_effects(struct js_stream *st, uint64_t token)
{
    const struct stream_effects *e = &st->effects;
    int64_t now = js_stream_now_ns(st);
    if (st->proposals_count > 0) {
        st->proposals_count--;
    }
    if (!st->is_leader) {
        return;
    }
    if (token == st->timed_token) {
        st->timed_token = 0;
        js_image_publish_took(st->js, loop_mono_ns(st->js->loop) - st->timed_ns);
    }
    st->is_job_proposed = false;
    st->is_clock_proposed = false;
    js_clock_applied(st);
    if (e->is_leader_changed && token == st->lead_token && !st->is_led) {
        begin_serving(st);
    }
    if (e->is_config_changed) {
        js_republish_config(st);
    }
    for (size_t i = 0; st->republish != NULL && i < e->stores_count; i++) {
        js_republish(st, &e->stores[i]);
    }
    for (size_t i = 0; i < e->replies_count; i++) {
        js_propose_answered(st, &e->replies[i]);
        js_leader_answer(st, &e->replies[i]);
    }
    for (size_t i = 0; i < e->admin_replies_count; i++) {
        answer_request(st, &e->admin_replies[i]);
    }
    for (size_t i = 0; i < e->delivers_count; i++) {
        if (delivery_commit(st->delivery, &e->delivers[i], now)) {
            js_send_deliver(st, &e->delivers[i]);
        }
    }
    for (size_t i = 0; i < e->advisories_count; i++) {
        carry_out_advisory(st, &e->advisories[i]);
    }
    js_leader_turn_wanted(st);
}
