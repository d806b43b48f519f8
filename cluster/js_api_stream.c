/* Requests that the leader of a stream answers: its state, its messages, its consumers. */
#include <stdio.h>
#include <stdlib.h>

#include "broker/api_error.h"
#include "broker/api_reply.h"
#include "broker/api_request.h"
#include "broker/consumer.h"
#include "broker/consumer_config.h"
#include "broker/delivery.h"
#include "broker/entry.h"
#include "broker/headers.h"
#include "broker/json_fields.h"
#include "broker/meta.h"
#include "broker/msg_index.h"
#include "broker/stream.h"
#include "broker/stream_config.h"
#include "broker/stream_filter.h"
#include "broker/stream_state.h"
#include "broker/subject.h"
#include "cluster/js_api.h"
#include "cluster/js_api_internal.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_leader.h"
#include "cluster/js_meta.h"
#include "cluster/js_send.h"
#include "cluster/js_stream.h"
#include "cluster/js_version.h"
#include "cluster/node.h"
#include "cluster/peers.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/store.h"

#define SUBJECTS_MAX 100000
#define CONSUMER_NAMES_MAX 1024
#define CONSUMER_LIST_MAX 256
#define VIOLATORS_BYTES_MAX 256 /* Of names in one refusal; what is more is not listed. */

static void refuse(struct js_stream *st, const struct js_api_call *call, enum api_error_code code,
                   const char *text)
{
    struct api_error e;
    api_error_set(&e, code, "%s", text == NULL ? "" : text);
    js_api_refuse(st->js, call, &e);
}

static void reply(struct js_stream *st, const struct js_api_call *call, struct buf *b)
{
    js_api_reply(st->js, call->asker, call->inbox, 0, SLICE_EMPTY, buf_slice(b));
    buf_close(b);
}

/* ---- Info ---- */

static void fill_cluster(struct js_stream *st, struct api_cluster *ret_cluster,
                         struct api_peer peers[META_REPLICAS_MAX], char ids[][9])
{
    struct js *js = st->js;
    struct group_status status;
    if (js->ctx->peers == NULL || st->group == NULL) {
        return;
    }
    ret_cluster->name = js->ctx->cluster_name;
    uint64_t leader = st->is_led ? js->ctx->node_id : js_lane_leader_of(js, st->gid);
    ret_cluster->leader = leader == 0 ? "" : js_node_name(js, leader);
    group_status(st->group, &status);
    if (status.members_count <= 1) {
        return;
    }
    ret_cluster->raft_group = st->group_name;
    if (!st->is_led) {
        return; /* Only the leader knows how far the others are. */
    }
    for (unsigned i = 0; i < status.members_count; i++) {
        const struct group_member_status *m = &status.members[i];
        struct peers_info info = {0};
        if (m->member.node_id == js->ctx->node_id ||
            ret_cluster->peers_count == META_REPLICAS_MAX) { /* While it moves there may be more. */
            continue;
        }
        size_t at = ret_cluster->peers_count++;
        bool is_up = peers_get(js->ctx->peers, m->member.node_id, &info) && info.is_up;
        js_peer_id(js, m->member.node_id, ids[at]);
        uint64_t lag = status.last_index > m->match_index ? status.last_index - m->match_index : 0;
        peers[at] = (struct api_peer){.name = js_node_name(js, m->member.node_id),
                                      .peer = ids[at],
                                      .is_current = is_up && m->is_recent,
                                      .is_offline = !is_up,
                                      .active_ns = info.active_ns,
                                      .lag = lag};
    }
    /* Sorted by name: at most four. */
    for (size_t i = 1; i < ret_cluster->peers_count; i++) {
        for (size_t k = i; k > 0 && strcmp(peers[k].name, peers[k - 1].name) < 0; k--) {
            struct api_peer swap = peers[k];
            peers[k] = peers[k - 1];
            peers[k - 1] = swap;
        }
    }
    ret_cluster->peers = peers;
}

void js_api_print_replicas(struct js_stream *st, struct buf *out)
{
    struct js *js = st->js;
    struct api_cluster cluster = {0};
    struct api_peer peers[META_REPLICAS_MAX + 1];
    char ids[META_REPLICAS_MAX + 1][9];
    fill_cluster(st, &cluster, peers, ids);
    size_t at = cluster.peers_count;
    js_peer_id(js, js->ctx->node_id, ids[at]);
    peers[at] = (struct api_peer){
        .name = js_node_name(js, js->ctx->node_id), .peer = ids[at], .is_current = true};
    cluster.peers_count++;
    api_print_peers(out, &cluster);
}

static int64_t time_or_never(int64_t time_ns)
{
    return time_ns == 0 ? INT64_MIN : time_ns;
}

static void print_deleted(const struct stream *s, struct buf *out)
{
    uint64_t count = stream_deleted(s, NULL, 0);
    uint64_t *seqs = xcalloc(count, sizeof *seqs);
    stream_deleted(s, seqs, count);
    buf_append_u8(out, '[');
    for (uint64_t i = 0; i < count; i++) {
        buf_printf(out, "%s%llu", i == 0 ? "" : ",", (unsigned long long)seqs[i]);
    }
    buf_append_u8(out, ']');
    free(seqs);
}

/* Returns how many match in all. */
static size_t print_subjects(const struct stream *s, const struct api_paging *p, struct buf *out)
{
    struct stream_subject *list = xcalloc(SUBJECTS_MAX, sizeof *list);
    size_t offset = (size_t)p->offset;
    size_t total = stream_subjects(s, slice_str(p->subjects_filter), offset, list, SUBJECTS_MAX);
    size_t count = offset >= total                 ? 0
                   : total - offset > SUBJECTS_MAX ? SUBJECTS_MAX
                                                   : total - offset;
    for (size_t i = 0; i < count; i++) {
        buf_append_u8(out, i == 0 ? '{' : ',');
        json_print_string(out, list[i].subject);
        buf_printf(out, ":%llu", (unsigned long long)list[i].count);
    }
    if (count > 0) {
        buf_append_u8(out, '}');
    }
    free(list);
    return total;
}

void js_api_print_stream(struct js_stream *st, struct buf *out, const struct api_paging *detail)
{
    struct stream_info s;
    struct api_peer peers[META_REPLICAS_MAX];
    char ids[META_REPLICAS_MAX][9];
    struct buf deleted = BUF_EMPTY;
    struct buf subjects = BUF_EMPTY;
    stream_get_info(st->machine, &s);
    struct api_stream_info info = {.config = stream_get_config(st->machine),
                                   .created_ns = s.created_ns,
                                   .now_ns = js_now_ns(st->js),
                                   .state = {.messages = s.messages,
                                             .bytes = s.bytes,
                                             .first_seq = s.first_seq,
                                             .first_time_ns = time_or_never(s.first_time_ns),
                                             .last_seq = s.last_seq,
                                             .last_time_ns = time_or_never(s.last_time_ns),
                                             .subjects_count = s.num_subjects,
                                             .deleted_count = s.num_deleted,
                                             .consumers_count = s.consumer_count}};
    if (detail != NULL && detail->deleted_details && s.num_deleted > 0) {
        print_deleted(st->machine, &deleted);
    }
    if (detail != NULL && detail->subjects_filter != NULL) {
        print_subjects(st->machine, detail, &subjects);
    }
    info.state.deleted = buf_slice(&deleted);
    info.state.subjects = buf_slice(&subjects);
    fill_cluster(st, &info.cluster, peers, ids);
    api_print_stream_info(out, &info);
    buf_close(&deleted);
    buf_close(&subjects);
}

static void stream_info(struct js_stream *st, const struct js_api_call *call)
{
    struct api_paging page;
    struct api_error e;
    struct buf b = BUF_EMPTY;
    if (call->op == JS_API_LIST_INFO) {
        js_api_print_stream(st, &b, NULL);
        reply(st, call, &b);
        return;
    }
    if (api_read_paging(call->body, API_PAGING_STREAM_INFO, &page, &e) != 0) {
        js_api_refuse(st->js, call, &e);
        return;
    }
    uint64_t total = 0;
    if (page.subjects_filter != NULL) {
        total = stream_subjects(st->machine, slice_str(page.subjects_filter), 0, NULL, 0);
    }
    api_reply_open(&b, "stream_info_response", NULL);
    buf_append_u8(&b, ',');
    api_print_page(&b, total, total == 0 ? 0 : (uint64_t)page.offset,
                   total == 0 ? 0 : SUBJECTS_MAX);
    buf_append_u8(&b, ',');
    js_api_print_stream(st, &b, &page);
    buf_append_u8(&b, '}');
    api_paging_close(&page);
    reply(st, call, &b);
}

/* ---- Purge and delete ---- */

static void purge(struct js_stream *st, const struct js_api_call *call)
{
    const struct stream_config *c = stream_get_config(st->machine);
    struct api_purge p;
    struct api_error e;
    if (api_read_purge(call->body, &p, &e) != 0) {
        js_api_refuse(st->js, call, &e);
        return;
    }
    if (c->sealed) {
        refuse(st, call, API_ERROR_STREAM_SEALED, NULL);
    } else if (c->deny_purge) {
        refuse(st, call, API_ERROR_STREAM_PURGE_FAILED, "stream purge not permitted");
    } else {
        struct js_request *r =
            js_leader_request(st, call->asker, call->inbox, "stream_purge_response");
        entry_purge(&st->batch, r->id, p.filter == NULL ? SLICE_EMPTY : slice_str(p.filter), p.seq,
                    p.keep);
    }
    api_purge_close(&p);
}

static void delete_message(struct js_stream *st, const struct js_api_call *call)
{
    const struct stream_config *c = stream_get_config(st->machine);
    struct api_msg_delete d;
    struct api_error e;
    struct msg_info info;
    if (api_read_msg_delete(call->body, &d, &e) != 0) {
        js_api_refuse(st->js, call, &e);
    } else if (c->sealed) {
        refuse(st, call, API_ERROR_STREAM_SEALED, NULL);
    } else if (c->deny_delete) {
        refuse(st, call, API_ERROR_STREAM_MSG_DELETE_FAILED, "message delete not permitted");
    } else if (d.seq == 0) {
        refuse(st, call, API_ERROR_STREAM_MSG_DELETE_FAILED, "no message found");
    } else if (d.seq > stream_last_seq(st->machine)) {
        refuse(st, call, API_ERROR_STREAM_MSG_DELETE_FAILED, "stream store EOF");
    } else if (!stream_get_message(st->machine, d.seq, &info)) {
        api_error_set(&e, API_ERROR_SEQUENCE_NOT_FOUND, "%llu", (unsigned long long)d.seq);
        js_api_refuse(st->js, call, &e);
    } else {
        struct js_request *r =
            js_leader_request(st, call->asker, call->inbox, "stream_msg_delete_response");
        entry_delete_msg(&st->batch, r->id, d.seq);
    }
}

/* ---- Reading messages ---- */

/* A read that waits for the disk. */
struct get {
    enum js_api_op op;
    uint64_t asker;
    bool no_hdr;
    struct buf inbox;
};

static void direct_headers(struct js_stream *st, const struct store_view *v, struct buf *out)
{
    struct buf more = BUF_EMPTY;
    struct buf ts = BUF_EMPTY;
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)v->seq);
    json_print_time(&ts, v->time_ns);
    headers_append(out, v->header, "Nats-Stream", slice_str(st->name));
    const struct {
        const char *name;
        struct slice value;
    } rest[] = {{"Nats-Subject", v->subject},
                {"Nats-Sequence", slice_str(digits)},
                {"Nats-Time-Stamp", buf_slice(&ts)}};
    for (size_t i = 0; i < 3; i++) {
        buf_clear(&more);
        headers_append(&more, buf_slice(out), rest[i].name, rest[i].value);
        struct buf swap = *out;
        *out = more;
        more = swap;
    }
    buf_close(&more);
    buf_close(&ts);
}

/* Damaged on every replica, or those that may have it do not answer: an error, never "not found".
 */
static void damaged(struct js_stream *st, const struct js_api_call *call)
{
    if (call->op == JS_API_DIRECT_GET) {
        js_api_reply(st->js, call->asker, call->inbox, 0,
                     SLICE_LIT("NATS/1.0 500 Message Damaged\r\n\r\n"), SLICE_EMPTY);
    } else {
        refuse(st, call, API_ERROR_STREAM_GENERAL_ERROR, "message is damaged");
    }
}

static void on_message(struct js_stream *st, void *arg, int status, const struct store_view *v)
{
    struct get *g = arg;
    struct buf b = BUF_EMPTY;
    struct js_api_call call = {.op = g->op, .asker = g->asker, .inbox = buf_slice(&g->inbox)};
    if (st == NULL) {
        /* The stream is gone: as with a lost reply. */
    } else if (status == ERR_CORRUPT) {
        damaged(st, &call);
    } else if (g->op == JS_API_DIRECT_GET) {
        if (v == NULL) {
            js_api_reply(st->js, g->asker, call.inbox, 0,
                         SLICE_LIT("NATS/1.0 404 Message Not Found\r\n\r\n"), SLICE_EMPTY);
        } else {
            if (!g->no_hdr) {
                direct_headers(st, v, &b);
            }
            js_api_reply(st->js, g->asker, call.inbox, 0, buf_slice(&b), v->payload);
        }
    } else if (v == NULL) {
        refuse(st, &call, API_ERROR_NO_MESSAGE_FOUND, NULL);
    } else {
        api_reply_message(&b, v->subject, v->seq, g->no_hdr ? SLICE_EMPTY : v->header, v->payload,
                          v->time_ns);
        js_api_reply(st->js, g->asker, call.inbox, 0, SLICE_EMPTY, buf_slice(&b));
    }
    buf_close(&b);
    buf_close(&g->inbox);
    free(g);
}

/* The sequence a request means; 0: none. */
static uint64_t find_message(const struct stream *s, const struct api_msg_get *g)
{
    if (g->last_by_subj != NULL) {
        struct slice subject = slice_str(g->last_by_subj);
        if (!subject_has_wildcard(subject)) {
            return stream_last_by_subject(s, subject);
        }
        struct stream_filter f;
        stream_filter_init(&f, &subject, 1);
        uint64_t seq = stream_filter_last(&f, stream_index(s));
        stream_filter_close(&f);
        return seq;
    }
    uint64_t from = g->seq;
    if (g->start_time_ns != INT64_MIN) {
        from = stream_seq_at_time(s, g->start_time_ns);
        if (from == 0) {
            return 0;
        }
    }
    if (g->next_by_subj != NULL) {
        return stream_next_by_subject(s, slice_str(g->next_by_subj), from);
    }
    struct msg_info info;
    return stream_get_message(s, from, &info) ? from : 0;
}

/* The one by its number that no index knows any more, while the block that had it is damaged: a
 * replica that stands alone runs without (js_stream.c). */
static bool is_unreadable(const struct js_stream *st, const struct api_msg_get *g)
{
    struct store_view v;
    if (g->seq == 0 || g->last_by_subj != NULL || g->next_by_subj != NULL ||
        g->start_time_ns != INT64_MIN) {
        return false;
    }
    int rv = store_read(st->store, g->seq, &v);
    return rv == ERR_CORRUPT || rv == ERR_AGAIN;
}

static void read_message(struct js_stream *st, const struct js_api_call *call,
                         const struct api_msg_get *g)
{
    struct get *wait = xcalloc(1, sizeof *wait);
    wait->op = call->op;
    wait->asker = call->asker;
    wait->no_hdr = g->no_hdr;
    buf_append_slice(&wait->inbox, call->inbox);
    uint64_t seq = find_message(st->machine, g);
    if (seq == 0 && !is_unreadable(st, g)) {
        on_message(st, wait, ERR_NOTFOUND, NULL);
    } else if (seq == 0) {
        js_send_read(st, g->seq, on_message, wait);
    } else {
        js_send_read(st, seq, on_message, wait);
    }
}

static void get_message(struct js_stream *st, const struct js_api_call *call)
{
    struct api_msg_get g;
    struct api_error e;
    if (api_read_msg_get(call->body, &g, &e) != 0) {
        js_api_refuse(st->js, call, &e);
        return;
    }
    if (g.is_none) {
        refuse(st, call, API_ERROR_BAD_REQUEST, NULL);
    } else {
        read_message(st, call, &g);
    }
    api_msg_get_close(&g);
}

static void direct_get(struct js_stream *st, const struct js_api_call *call)
{
    struct api_msg_get g = {.start_time_ns = INT64_MIN};
    struct api_error e;
    struct slice status = SLICE_EMPTY;
    if (!stream_get_config(st->machine)->allow_direct) {
        js_api_no_responders(st->js, call->asker, call->inbox, call->subject);
        return;
    }
    if (call->rest.len > 0) {
        g.last_by_subj = xslicedup(call->rest);
    } else if (api_is_empty_body(call->body)) {
        status = SLICE_LIT("NATS/1.0 408 Empty Request\r\n\r\n");
    } else if (api_read_msg_get(call->body, &g, &e) != 0) {
        status = e.err_code == API_ERROR_INVALID_JSON
                     ? SLICE_LIT("NATS/1.0 408 Malformed Request\r\n\r\n")
                     : SLICE_LIT("NATS/1.0 408 Bad Request\r\n\r\n");
    } else if (g.is_none) {
        status = SLICE_LIT("NATS/1.0 408 Empty Request\r\n\r\n");
    }
    if (status.len > 0) {
        js_api_reply(st->js, call->asker, call->inbox, 0, status, SLICE_EMPTY);
    } else {
        read_message(st, call, &g);
    }
    api_msg_get_close(&g);
}

/* ---- Consumers ---- */

void js_api_print_consumer(struct js_stream *st, struct slice name, struct buf *out)
{
    struct consumer *c = consumers_by_name(stream_get_consumers(st->machine), name);
    struct api_peer peers[META_REPLICAS_MAX];
    char ids[META_REPLICAS_MAX][9];
    struct consumer_info i;
    if (c == NULL) {
        return; /* Deleted by the very entry that made it; nobody will miss it. */
    }
    if (st->delivery != NULL) {
        delivery_get_info(st->delivery, c->id, &i);
    } else {
        consumer_get_info(c, stream_index(st->machine), &i);
    }
    struct api_consumer_info info = {
        .stream_name = st->name,
        .name = c->name,
        .config = &c->config,
        .created_ns = c->created_ns,
        .now_ns = js_now_ns(st->js),
        .delivered_consumer_seq = i.delivered.consumer_seq,
        .delivered_stream_seq = i.delivered.stream_seq,
        .delivered_active_ns = time_or_never(i.delivered_ns),
        .floor_consumer_seq = i.floor.consumer_seq,
        .floor_stream_seq = i.floor.stream_seq,
        .floor_active_ns = time_or_never(i.acked_ns),
        .ack_pending_count = i.num_ack_pending,
        .redelivered_count = i.num_redelivered,
        .waiting_count = st->delivery == NULL ? 0 : delivery_num_waiting(st->delivery, c->id),
        .pending_count = i.num_pending,
        .is_push_bound = st->delivery != NULL && delivery_is_bound(st->delivery, c->id)};
    fill_cluster(st, &info.cluster, peers, ids);
    api_print_consumer_info(out, &info);
}

static char *random_name(void)
{
    static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char name[9];
    uint64_t r = node_random();
    for (int i = 0; i < 8; i++) {
        name[i] = alphabet[r % 62];
        r /= 62;
    }
    return xstrndup(name, 8);
}

/* What only the stream's state can refuse: 0, or an error is set. */
static int check_existing(struct js_stream *st, const struct consumer_config *wanted,
                          enum consumer_action action, struct api_error *e)
{
    struct consumers *cs = stream_get_consumers(st->machine);
    struct consumer *old = consumers_by_name(cs, slice_str(wanted->name));
    const struct stream_config *config = stream_get_config(st->machine);
    if (old == NULL) {
        if (action == CONSUMER_ACTION_UPDATE) {
            return api_error_set(e, API_ERROR_CONSUMER_DOES_NOT_EXIST, NULL);
        }
        if (config->max_consumers > 0 && cs->count >= (uint64_t)config->max_consumers) {
            return api_error_set(e, API_ERROR_MAXIMUM_CONSUMERS_LIMIT, NULL);
        }
        return 0;
    }
    if (action == CONSUMER_ACTION_CREATE && !consumer_config_eq(&old->config, wanted)) {
        return api_error_set(e, API_ERROR_CONSUMER_ALREADY_EXISTS, NULL);
    }
    if (api_check_consumer_update(&old->config, wanted, e) != 0) {
        return ERR_INVALID;
    }
    /* It is not taken from who listens. */
    bool is_elsewhere = wanted->deliver_subject != NULL &&
                        strcmp(old->config.deliver_subject, wanted->deliver_subject) != 0;
    if (is_elsewhere && st->delivery != NULL && delivery_is_bound(st->delivery, old->id)) {
        return api_error_set(e, API_ERROR_CONSUMER_NAME_EXIST, NULL);
    }
    return 0;
}

static void create_consumer(struct js_stream *st, const struct js_api_call *call)
{
    struct api_consumer_subject subject = {.stream = call->stream,
                                           .name = call->consumer,
                                           .filter = call->rest,
                                           .is_durable_form = call->op == JS_API_CONSUMER_DURABLE};
    struct api_limits limits = {.is_clustered = st->js->ctx->peers != NULL};
    struct consumer_config c;
    enum consumer_action action;
    struct api_error e;
    if (api_read_consumer_config(call->body, &subject, &limits, stream_get_config(st->machine), &c,
                                 &action, &e) != 0) {
        js_api_refuse(st->js, call, &e);
        return;
    }
    if (c.name == NULL) {
        c.name = random_name();
    }
    struct consumer *old = consumers_by_name(stream_get_consumers(st->machine), slice_str(c.name));
    api_default_inactive(&c, old == NULL ? NULL : &old->config);
    if (check_existing(st, &c, action, &e) != 0) {
        js_api_refuse(st->js, call, &e);
    } else if (c.deliver_subject != NULL && !js_version_need(st, ENTRY_MACHINE_VERSION_PUSH)) {
        refuse(st, call, API_ERROR_CONSUMER_CREATE,
               "push consumers need all nodes of the stream to be of a build that knows them");
    } else {
        struct buf json = BUF_EMPTY;
        consumer_config_print(&c, &json);
        struct js_request *r =
            js_leader_request(st, call->asker, call->inbox, "consumer_create_response");
        r->name = xslicedup(slice_str(c.name));
        entry_consumer_set(&st->batch, r->id, slice_str(c.name), buf_slice(&json));
        buf_close(&json);
    }
    consumer_config_close(&c);
}

static int by_name(const void *a, const void *b)
{
    const struct consumer *const *x = a;
    const struct consumer *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static void list_consumers(struct js_stream *st, const struct js_api_call *call)
{
    struct consumers *cs = stream_get_consumers(st->machine);
    struct api_paging page;
    struct api_error e;
    if (api_read_paging(call->body, API_PAGING_CONSUMERS, &page, &e) != 0) {
        js_api_refuse(st->js, call, &e);
        return;
    }
    struct consumer **list = xcalloc(cs->count, sizeof *list);
    memcpy(list, cs->items, cs->count * sizeof *list);
    qsort(list, cs->count, sizeof *list, by_name);
    bool is_names = call->op == JS_API_CONSUMER_NAMES;
    size_t max = is_names ? CONSUMER_NAMES_MAX : CONSUMER_LIST_MAX;
    size_t from = (uint64_t)page.offset < cs->count ? (size_t)page.offset : cs->count;
    size_t to = cs->count - from > max ? from + max : cs->count;
    struct buf b = BUF_EMPTY;
    api_reply_open(&b, js_api_type(call->op), NULL);
    buf_append_u8(&b, ',');
    api_print_page(&b, cs->count, from, max);
    buf_append_str(&b, ",\"consumers\":[");
    for (size_t i = from; i < to; i++) {
        if (i > from) {
            buf_append_u8(&b, ',');
        }
        if (is_names) {
            json_print_string(&b, slice_str(list[i]->name));
        } else {
            buf_append_u8(&b, '{');
            js_api_print_consumer(st, slice_str(list[i]->name), &b);
            buf_append_u8(&b, '}');
        }
    }
    buf_append_str(&b, "]}");
    free(list);
    api_paging_close(&page);
    reply(st, call, &b);
}

static void consumer_info(struct js_stream *st, const struct js_api_call *call)
{
    struct buf b = BUF_EMPTY;
    if (!api_is_empty_body(call->body)) {
        refuse(st, call, API_ERROR_NOT_EMPTY_REQUEST, NULL);
    } else if (consumers_by_name(stream_get_consumers(st->machine), call->consumer) == NULL) {
        refuse(st, call, API_ERROR_CONSUMER_NOT_FOUND, NULL);
    } else {
        api_reply_open(&b, "consumer_info_response", NULL);
        buf_append_u8(&b, ',');
        js_api_print_consumer(st, call->consumer, &b);
        buf_append_u8(&b, '}');
        reply(st, call, &b);
    }
}

static void delete_consumer(struct js_stream *st, const struct js_api_call *call)
{
    if (!api_is_empty_body(call->body)) {
        refuse(st, call, API_ERROR_NOT_EMPTY_REQUEST, NULL);
    } else if (consumers_by_name(stream_get_consumers(st->machine), call->consumer) == NULL) {
        refuse(st, call, API_ERROR_CONSUMER_NOT_FOUND, NULL);
    } else {
        struct js_request *r =
            js_leader_request(st, call->asker, call->inbox, "consumer_delete_response");
        entry_consumer_delete(&st->batch, r->id, call->consumer);
    }
}

static void next_messages(struct js_stream *st, const struct js_api_call *call)
{
    struct consumer *c = consumers_by_name(stream_get_consumers(st->machine), call->consumer);
    if (call->inbox.len == 0) {
        return;
    }
    if (c == NULL) {
        js_api_no_responders(st->js, call->asker, call->inbox, call->subject);
        return;
    }
    delivery_pull(st->delivery, c->id, call->asker, call->inbox, call->body, js_stream_now_ns(st));
    js_leader_turn_wanted(st);
}

/* An update by way of meta's leader, which has checked all else. */
static void check_limits(struct js_stream *st, const struct js_api_call *call)
{
    struct consumers *cs = stream_get_consumers(st->machine);
    struct api_limits limits = {.is_clustered = st->js->ctx->peers != NULL};
    struct stream_config c;
    struct api_error e;
    if (api_read_stream_config(call->body, call->stream, &limits, true, &c, &e) != 0) {
        js_api_refuse(st->js, call, &e);
        return;
    }
    struct buf names = BUF_EMPTY;
    struct consumer **list = xcalloc(cs->count, sizeof *list);
    memcpy(list, cs->items, cs->count * sizeof *list);
    qsort(list, cs->count, sizeof *list, by_name);
    for (size_t i = 0; i < cs->count && names.len < VIOLATORS_BYTES_MAX; i++) {
        if (api_exceeds_limits(&list[i]->config, &c.consumer_limits)) {
            buf_printf(&names, "%s%s", names.len == 0 ? "" : ", ", list[i]->name);
        }
    }
    free(list);
    stream_config_close(&c);
    if (names.len == 0) {
        js_api_pass_on(st->js, call, "$JS.API.WEIR.LIMITS.CHECKED");
    } else {
        api_error_set(&e, API_ERROR_STREAM_UPDATE, "change to limits violates consumers: %.*s",
                      SLICE_ARG(buf_slice(&names)));
        js_api_refuse(st->js, call, &e);
    }
    buf_close(&names);
}

static bool is_op(enum js_api_op op)
{
    return op == JS_API_STREAM_PURGE || op == JS_API_MSG_DELETE || op == JS_API_CONSUMER_CREATE ||
           op == JS_API_CONSUMER_DURABLE || op == JS_API_CONSUMER_DELETE;
}

/* The leadership is proven, where that is asked for. */
static void answer(struct js_stream *st, const struct js_api_call *call)
{
    if (is_op(call->op) && js_leader_is_busy(st)) {
        refuse(st, call, API_ERROR_CLUSTER_NOT_AVAIL, NULL);
        return;
    }
    switch (call->op) {
    case JS_API_STREAM_INFO:
    case JS_API_LIST_INFO:
        stream_info(st, call);
        break;
    case JS_API_STREAM_PURGE:
        purge(st, call);
        break;
    case JS_API_MSG_GET:
        get_message(st, call);
        break;
    case JS_API_MSG_DELETE:
        delete_message(st, call);
        break;
    case JS_API_CONSUMER_CREATE:
    case JS_API_CONSUMER_DURABLE:
        create_consumer(st, call);
        break;
    case JS_API_CONSUMER_NAMES:
    case JS_API_CONSUMER_LIST:
        list_consumers(st, call);
        break;
    case JS_API_CONSUMER_INFO:
        consumer_info(st, call);
        break;
    case JS_API_CONSUMER_DELETE:
        delete_consumer(st, call);
        break;
    case JS_API_MSG_NEXT:
        next_messages(st, call);
        break;
    case JS_API_DIRECT_GET:
        direct_get(st, call);
        break;
    case JS_API_LIMITS_CHECK:
        check_limits(st, call);
        break;
    case JS_API_STREAM_STEPDOWN:
        js_api_stepdown(st->js, call, st->group, st->name);
        break;
    case JS_API_CONSUMER_STEPDOWN:
        if (consumers_by_name(stream_get_consumers(st->machine), call->consumer) == NULL) {
            refuse(st, call, API_ERROR_CONSUMER_NOT_FOUND, NULL);
        } else {
            /* Its leader is the stream's: whoever asks waits for another one. */
            js_api_stepdown(st->js, call, st->group, st->name);
        }
        break;
    default:
        break; /* Requests of meta are routed to its leader. */
    }
}

/* Answered from the state, which another leader's may be newer than. */
static bool is_read(enum js_api_op op)
{
    return op == JS_API_STREAM_INFO || op == JS_API_LIST_INFO || op == JS_API_MSG_GET ||
           op == JS_API_CONSUMER_NAMES || op == JS_API_CONSUMER_LIST || op == JS_API_CONSUMER_INFO;
}

static void answer_proven(struct js *js, struct js_stream *st, const struct js_api_call *call)
{
    (void)js;
    answer(st, call);
}

void js_api_stream(struct js_stream *st, const struct js_api_call *call)
{
    if (is_read(call->op)) {
        js_api_prove(st->js, st, call, answer_proven);
    } else {
        answer(st, call);
    }
}
