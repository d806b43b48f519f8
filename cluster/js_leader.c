/* What only the leader of a stream does: gather the open batch, propose it, and carry out the
 * effects that are for clients. All of it begins anew with LEAD (design 4). */
#include <stdlib.h>

#include "broker/api_reply.h"
#include "broker/headers.h"
#include "cluster/js_internal.h"
#include "storage/base/err.h"
#include "storage/base/log.h"

#define HEADER_BYTES_MAX 65535u
#define CLOCK_SHARED_NS STREAM_DUE_SHARED_NS

/* ---- Requests whose op is in the log ---- */

struct js_request *js_leader_request(struct js_stream *st, uint64_t node_id, struct slice inbox,
                                     const char *type)
{
    struct js_request *r = xcalloc(1, sizeof *r);
    r->id = js_next_id(st->js);
    r->node_id = node_id;
    r->inbox = inbox.len == 0 ? NULL : xslicedup(inbox);
    r->type = type;
    HASH_ADD(hh, st->requests, id, sizeof r->id, r);
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

static void answer_info(struct js_stream *st, const struct js_request *r)
{
    struct buf b = BUF_EMPTY;
    api_reply_open(&b, r->type, NULL);
    buf_append_u8(&b, ',');
    js_api_print_stream(st, &b, NULL);
    buf_append_str(&b, r->is_create ? ",\"did_create\":true}" : "}");
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
    /* Whoever of the peers leads first answers; the others forget it when they learn of a leader.
     */
    if (st->created_for != NULL) {
        request_free(st->created_for);
    }
    st->created_for = r;
}

/* ---- Life ---- */

static bool planner_has_interest(void *ctx, uint64_t node, struct slice inbox)
{
    struct js_stream *st = ctx;
    (void)node; /* Peers' interest is known here too. */
    return router_is_interest(st->js->ctx->router, inbox);
}

static void planner_propose(void *ctx, uint64_t consumer, const struct progress_item *item)
{
    struct js_stream *st = ctx;
    entry_progress(&st->batch, consumer, item);
}

static void planner_delete(void *ctx, uint64_t consumer, struct slice name)
{
    struct js_stream *st = ctx;
    (void)consumer;
    entry_consumer_delete(&st->batch, 0, name);
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
                                       .propose = planner_propose,
                                       .propose_delete = planner_delete,
                                       .status = planner_status,
                                       .deliver = planner_deliver};
    st->delivery = delivery_new(stream_get_consumers(st->machine), slice_str(st->name), &options);
}

void js_leader_close(struct js_stream *st)
{
    requests_drop(st);
    if (st->created_for != NULL) {
        request_free(st->created_for);
        st->created_for = NULL;
    }
    list_remove(&st->turn);
    delivery_free(st->delivery);
    st->delivery = NULL;
    entry_close(&st->batch);
    entry_close(&st->closed);
    st->is_leader = false;
    st->is_led = false;
}

static void begin_leading(struct js_stream *st, uint64_t term)
{
    st->is_leader = true;
    st->term = term;
    st->proposals_count = 0;
    st->has_closed = false;
    st->is_job_proposed = false;
    st->is_clock_proposed = false;
    entry_begin(&st->batch, ENTRY_MACHINE_VERSION);
    entry_lead(&st->batch, st->js->ctx->node_id, ENTRY_MACHINE_VERSION);
    st->lead_token = 0; /* Of the first proposal. */
    js_leader_turn_wanted(st);
}

static void end_leading(struct js_stream *st)
{
    if (st->is_led && st->delivery != NULL) {
        delivery_unlead(st->delivery);
    }
    st->is_leader = false;
    st->is_led = false;
    list_remove(&st->turn);
    requests_drop(st);
}

void js_leader_role(struct js_stream *st, const struct group_role *role)
{
    if (st->delivery == NULL) {
        return;
    }
    if (st->is_leader && (!role->is_leader || role->term != st->term)) {
        end_leading(st);
    }
    if (role->is_leader && !st->is_leader) {
        begin_leading(st, role->term);
    } else if (!role->is_leader && role->leader_node_id != 0 && st->created_for != NULL &&
               role->leader_node_id != st->js->ctx->node_id) {
        request_free(st->created_for);
        st->created_for = NULL;
    }
}

static void propose_config(struct js_stream *st, const struct stream_config *config,
                           uint64_t request)
{
    struct buf b = BUF_EMPTY;
    stream_config_print(config, &b);
    entry_config(&st->batch, request, buf_slice(&b));
    buf_close(&b);
    js_leader_turn_wanted(st);
}

/* LEAD is applied: from now on this node serves the stream. */
static void begin_serving(struct js_stream *st)
{
    struct js *js = st->js;
    st->is_led = true;
    delivery_lead(st->delivery, js_now_ns(js));
    log_inf("JetStream cluster new stream leader for '$G > %s'", st->name);
    js_lane_leader(js, st->gid, js->ctx->node_id, st->term);
    for (const struct meta_node *n = meta_nodes(js->meta); n != NULL; n = n->hh.next) {
        if (n->node_id != js->ctx->node_id) {
            struct buf *b = js_batch_begin(js, n->node_id, JS_ITEM_LEADER);
            buf_append_u64(b, st->gid);
            buf_append_u64(b, st->term);
            js_batch_end(js, n->node_id);
        }
    }
    /* A configuration that meta committed while nobody led. */
    const struct meta_stream *s = meta_stream_by_gid(js->meta, st->gid);
    if (s != NULL && !stream_config_eq(&s->config, stream_get_config(st->machine))) {
        propose_config(st, &s->config, 0);
    }
    if (st->created_for != NULL) {
        struct js_request *r = st->created_for;
        st->created_for = NULL;
        js_leader_answer_created(st, r);
    }
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
    propose_config(st, config, r->id);
}

/* ---- The open batch ---- */

void js_leader_turn_wanted(struct js_stream *st)
{
    if (list_is_empty(&st->turn)) {
        list_push_back(&st->js->turn_streams, &st->turn);
        loop_again(st->js->loop);
    }
}

/* Propose the closed batch. ERR_FULL and the like: it stays, and is tried again. */
static int propose_closed(struct js_stream *st)
{
    uint64_t token = js_next_id(st->js);
    js_lock(st->js);
    int rv = group_propose(st->group, entry_end(&st->closed, js_now_ns(st->js)), token);
    js_unlock(st->js);
    if (rv == 0) {
        st->has_closed = false;
        st->proposals_count++;
        if (st->lead_token == 0) {
            st->lead_token = token;
        }
    }
    return rv;
}

static void close_batch(struct js_stream *st)
{
    struct entry_builder empty = st->closed;
    st->closed = st->batch;
    st->batch = empty;
    st->has_closed = true;
    entry_begin(&st->batch, ENTRY_MACHINE_VERSION);
}

/* One entry is under way while the next gathers; a full one does not wait. */
static void propose_batch(struct js_stream *st)
{
    bool is_full = entry_size(&st->batch) >= JS_BATCH_BYTES;
    if (st->has_closed && propose_closed(st) != 0) {
        return;
    }
    if (st->batch.ops_count == 0 || (st->proposals_count > 0 && !is_full)) {
        return;
    }
    close_batch(st);
    (void)propose_closed(st);
}

static struct slice header_of(struct slice block, const char *name)
{
    struct slice value = SLICE_EMPTY;
    return headers_find_str(block, name, &value) ? value : SLICE_EMPTY;
}

/* A decimal number; what is none counts as absent, as in the reference. */
static bool number_of(struct slice text, uint64_t *ret_value)
{
    uint64_t v = 0;
    if (text.len == 0 || text.len > 19) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
        v = v * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    *ret_value = v;
    return true;
}

static bool is_word(struct slice s, const char *word)
{
    return s.len == strlen(word) && strncasecmp((const char *)s.ptr, word, s.len) == 0;
}

/* What depends on the message alone is decided before proposing (design 4). */
static void parse_expectations(struct publish_message *m)
{
    struct slice v = header_of(m->header, "Nats-Msg-Id");
    if (v.len > 0) {
        m->options |= PUBLISH_HAS(PUBLISH_MSG_ID);
        m->msg_id = v;
    }
    v = header_of(m->header, "Nats-Expected-Stream");
    if (v.len > 0) {
        m->options |= PUBLISH_HAS(PUBLISH_EXPECT_STREAM);
        m->expect_stream = v;
    }
    if (number_of(header_of(m->header, "Nats-Expected-Last-Sequence"), &m->expect_last_seq)) {
        m->options |= PUBLISH_HAS(PUBLISH_EXPECT_LAST_SEQ);
    }
    if (number_of(header_of(m->header, "Nats-Expected-Last-Subject-Sequence"),
                  &m->expect_last_subject_seq)) {
        m->options |= PUBLISH_HAS(PUBLISH_EXPECT_LAST_SUBJECT_SEQ);
    }
    v = header_of(m->header, "Nats-Expected-Last-Msg-Id");
    if (v.len > 0) {
        m->options |= PUBLISH_HAS(PUBLISH_EXPECT_LAST_MSG_ID);
        m->expect_last_msg_id = v;
    }
    v = header_of(m->header, "Nats-Rollup");
    if (v.len > 0) {
        m->options |= PUBLISH_HAS(PUBLISH_ROLLUP);
        m->rollup = is_word(v, "sub")   ? ROLLUP_SUBJECT
                    : is_word(v, "all") ? ROLLUP_ALL
                                        : ROLLUP_NONE;
        if (m->rollup == ROLLUP_NONE) {
            m->refused_code = API_ERROR_STREAM_ROLLUP_FAILED;
            m->refused_text = SLICE_LIT("rollup value invalid");
        }
    }
}

void js_leader_publish(struct js_stream *st, uint64_t node_id, uint64_t origin, uint64_t n,
                       const struct router_msg *msg)
{
    struct publish_message m = {
        .subject = msg->subject, .header = msg->header, .payload = msg->payload};
    if (m.header.len > HEADER_BYTES_MAX) {
        m.refused_code = API_ERROR_STREAM_HEADER_EXCEEDS_MAXIMUM;
    } else if (m.header.len > 0) {
        parse_expectations(&m);
    }
    if (m.refused_code != 0) {
        m.header = SLICE_EMPTY;
        m.payload = SLICE_EMPTY;
        m.options = 0;
    }
    entry_publish(&st->batch, node_id, origin, n, &m);
    if (entry_size(&st->batch) >= JS_BATCH_BYTES) {
        propose_batch(st);
    }
    js_leader_turn_wanted(st);
}

void js_leader_ack(struct js_stream *st, uint64_t node_id, const struct router_msg *msg)
{
    struct ack_subject a;
    if (!ack_subject_parse(msg->subject, &a)) {
        return;
    }
    struct consumer *c = consumers_by_name(stream_get_consumers(st->machine), a.consumer);
    if (c != NULL) {
        delivery_ack(st->delivery, c->id, a.stream_seq, node_id, msg->reply, msg->payload,
                     js_now_ns(st->js));
        js_leader_turn_wanted(st);
    }
}

static void turn(struct js_stream *st)
{
    int64_t now = js_now_ns(st->js);
    if (st->is_led) {
        delivery_turn(st->delivery, now);
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
    propose_batch(st);
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

void js_leader_tick(struct js *js)
{
    int64_t now = js_now_ns(js);
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        if (!st->is_led || st->state != JS_STREAM_OK) {
            continue;
        }
        bool is_due = st->has_closed || stream_wants_job_step(st->machine) ||
                      stream_next_due(st->machine) <= now || delivery_next_due(st->delivery) <= now;
        if (is_due) {
            js_leader_turn_wanted(st);
        }
    }
}

void js_leader_lost(struct js_stream *st, uint64_t token)
{
    (void)token; /* Publishers' nodes send again; requests are asked again by who asked. */
    if (st->proposals_count > 0) {
        st->proposals_count--;
    }
}

/* ---- Effects for clients ---- */

static void send_answer(struct js_stream *st, const struct effect_reply *e)
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
        if (e->origin == js->ctx->boot_count) {
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
        break;
    default:
        break; /* Advisories on $JS.EVENT come with a later step. */
    }
}

void js_leader_effects(struct js_stream *st, uint64_t token)
{
    const struct stream_effects *e = &st->effects;
    int64_t now = js_now_ns(st->js);
    if (st->proposals_count > 0) {
        st->proposals_count--;
    }
    if (!st->is_leader) {
        return;
    }
    st->is_job_proposed = false;
    st->is_clock_proposed = false;
    if (e->is_leader_changed && token == st->lead_token && !st->is_led) {
        begin_serving(st);
    }
    for (size_t i = 0; i < e->replies_count; i++) {
        send_answer(st, &e->replies[i]);
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
