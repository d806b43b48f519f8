#include "cluster/uv_client.h"

#include <assert.h>
#include <stdlib.h>

#include "broker/subject.h"
#include "cluster/auth.h"
#include "storage/base/log.h"

static void say_ok(struct client *c)
{
    if (c->connect.is_verbose) {
        struct buf *out = client_out(c, 16);
        size_t before = out->len;
        protocol_write_ok(out);
        client_out_done(c, out->len - before);
    }
}

static void say_err(struct client *c, enum protocol_error e)
{
    struct buf *out = client_out(c, 256);
    size_t before = out->len;
    protocol_write_err(out, protocol_error_text(e));
    client_out_done(c, out->len - before);
}

static void say_violation(struct client *c, enum protocol_violation v, struct slice subject,
                          struct slice queue)
{
    struct buf text = BUF_EMPTY;
    protocol_write_violation(&text, v, subject, queue);
    buf_append_slice(client_out(c, text.len), buf_slice(&text));
    client_out_done(c, text.len);
    buf_close(&text);
}

void client_send_info(struct client *c, bool is_connect_info)
{
    struct client_info info = {.cid = c->cid, .ip = c->ip, .is_connect_info = is_connect_info};
    char *json = client_info_json(c->cs->ctx, &info);
    struct buf *out = client_out(c, strlen(json) + 16);
    size_t before = out->len;
    protocol_write_info(out, slice_str(json));
    free(json);
    client_out_done(c, out->len - before);
}

/* ---- CONNECT ---- */

struct auth_job {
    struct clients *cs;
    uint64_t cid;
    char *hash;
    char *secret;
    bool is_accepted;
    bool is_recheck;
};

static void accept_connect(struct client *c)
{
    if (c->connect.protocol < 0) {
        client_doom(c, PROTOCOL_ERROR_PROTOCOL_VERSION);
        return;
    }
    if (c->connect.is_no_responders && !c->connect.has_headers) {
        client_doom(c, PROTOCOL_ERROR_NO_RESPONDERS);
        return;
    }
    c->parser.has_headers = c->connect.has_headers;
    if (c->parser.is_auth_pending) {
        c->parser.is_auth_pending = false;
        client_start_pings(c);
    }
    c->is_connected = true;
    say_ok(c);
}

static void on_auth_work(void *arg)
{
    struct auth_job *job = arg;
    job->is_accepted = auth_bcrypt(job->hash, job->secret);
}

static void on_auth_done(void *arg)
{
    struct auth_job *job = arg;
    struct client *c;
    HASH_FIND(hh, job->cs->by_cid, &job->cid, sizeof job->cid, c);
    if (c != NULL && c->state == CLIENT_OPEN) {
        c->is_auth_running = false;
        client_connect_forget(&c->connect);
        if (job->is_accepted) {
            accept_connect(c);
        } else {
            client_doom(c, PROTOCOL_ERROR_AUTHORIZATION);
        }
        client_unhold(c);
    }
    memset(job->secret, 0, strlen(job->secret));
    free(job->secret);
    free(job->hash);
    free(job);
}

static enum auth_result check_auth(struct client *c, const char **ret_hash, const char **ret_secret)
{
    struct auth_credentials given = {c->connect.user, c->connect.pass, c->connect.token};
    return auth_check(c->cs->ctx->options, &given, ret_hash, ret_secret);
}

static void handle_connect(struct client *c, struct slice json)
{
    struct client_sub *sub, *tmp;
    HASH_ITER(hh, c->subs, sub, tmp)
    {
        client_remove_sub(c, sub); /* CONNECT again begins anew. */
    }
    if (client_connect_parse(&c->connect, json) != 0) {
        log_err("%s:%u - cid:%llu - CONNECT is not a JSON object with the right types", c->ip,
                c->port, (unsigned long long)c->cid);
        client_doom(c, PROTOCOL_ERROR_MALFORMED);
        return;
    }
    if (c->rtt_ns == 0) {
        /* From INFO to CONNECT: an estimate until the first PONG. */
        c->rtt_ns = (uint64_t)(loop_clock_ns(c->cs->ctx->loop) - c->start_ns);
    }
    const char *hash, *secret;
    enum auth_result result = check_auth(c, &hash, &secret);
    if (c->connect.is_account) {
        result = AUTH_REFUSED;
    }
    if (result == AUTH_BCRYPT) {
        struct auth_job *job = xcalloc(1, sizeof *job);
        job->cs = c->cs;
        job->cid = c->cid;
        job->hash = xstrndup(hash, strlen(hash));
        job->secret = xstrndup(secret, strlen(secret));
        c->is_auth_running = true;
        client_hold(c);
        loop_work(c->cs->ctx->loop, on_auth_work, on_auth_done, job);
        return;
    }
    /* For the recheck after a reload the digest would do; the secret itself is not kept. */
    if (result != AUTH_ACCEPTED) {
        client_doom(c, PROTOCOL_ERROR_AUTHORIZATION);
        return;
    }
    accept_connect(c);
}

bool client_is_refused(struct client *c)
{
    const char *hash, *secret;
    return c->is_connected && check_auth(c, &hash, &secret) == AUTH_REFUSED;
}

/* ---- Subscriptions and deliveries ---- */

void client_remove_sub(struct client *c, struct client_sub *sub)
{
    router_unsubscribe(c->cs->ctx->router, &sub->sub);
    list_remove(&sub->done_link);
    HASH_DEL(c->subs, sub);
    c->subs_count--;
    c->cs->stats.subscriptions--;
    free(sub);
}

static bool deliver(struct router_sub *rs, const struct router_msg *msg)
{
    struct client_sub *sub = container_of(rs, struct client_sub, sub);
    struct client *c = sub->client;
    if (c->state != CLIENT_OPEN || sub->is_done) {
        return false;
    }
    struct slice header = c->connect.has_headers ? msg->header : SLICE_EMPTY;
    size_t total = header.len + msg->payload.len;
    struct slice subject = msg->shown.len > 0 ? msg->shown : msg->subject;
    struct buf *out = client_out(c, subject.len + sub->sid_len + msg->reply.len + total + 64);
    size_t before = out->len;
    protocol_write_msg(out, subject, slice_of(sub->sid, sub->sid_len), msg->reply, header,
                       msg->payload);
    c->out_msgs++;
    c->out_bytes += total;
    c->cs->stats.out_msgs++;
    c->cs->stats.out_bytes += total;
    sub->delivered++;
    if (sub->max != 0 && sub->delivered >= sub->max) {
        sub->is_done = true;
        list_push_back(&c->cs->done_subs, &sub->done_link);
    }
    client_out_done(c, out->len - before);
    return true;
}

static const struct router_sink client_sink = {.deliver = deliver};

static struct client_sub *find_sub(struct client *c, struct slice sid)
{
    struct client_sub *sub;
    HASH_FIND(hh, c->subs, sid.ptr, sid.len, sub);
    return sub;
}

static void handle_sub(struct client *c, const struct protocol_event *ev)
{
    const struct node_options *o = c->cs->ctx->options;
    struct client_sub *sub = find_sub(c, ev->sid);
    if (sub != NULL && sub->is_done) {
        client_remove_sub(c, sub);
        sub = NULL;
    }
    if (sub != NULL) {
        say_ok(c); /* The first stays. */
        return;
    }
    if (slice_eq_str(ev->queue, "_sys_")) {
        say_violation(c, PROTOCOL_VIOLATION_SUBSCRIBE, ev->subject, ev->queue);
        return;
    }
    if (o->max_subscriptions > 0 && c->subs_count >= (uint64_t)o->max_subscriptions) {
        say_err(c, PROTOCOL_ERROR_SUBSCRIPTIONS);
        return;
    }
    if (o->max_subscription_tokens > 0 &&
        subject_token_count(ev->subject) > (size_t)o->max_subscription_tokens) {
        say_violation(c, PROTOCOL_VIOLATION_TOKENS, ev->subject, SLICE_EMPTY);
        return;
    }
    sub = xcalloc(1, sizeof *sub + ev->sid.len);
    sub->client = c;
    sub->sub.sink = &client_sink;
    sub->sub.interest.owner = c;
    sub->sid_len = (uint32_t)ev->sid.len;
    memcpy(sub->sid, ev->sid.ptr, ev->sid.len);
    list_init(&sub->done_link);
    if (router_subscribe(c->cs->ctx->router, &sub->sub, ev->subject, ev->queue) != 0) {
        free(sub);
        say_err(c, PROTOCOL_ERROR_SUBJECT);
        return;
    }
    HASH_ADD_KEYPTR(hh, c->subs, sub->sid, sub->sid_len, sub);
    c->subs_count++;
    c->cs->stats.subscriptions++;
    say_ok(c);
}

static void handle_unsub(struct client *c, const struct protocol_event *ev)
{
    struct client_sub *sub = find_sub(c, ev->sid);
    if (sub != NULL) {
        if (ev->unsub_max > 0 && (uint64_t)ev->unsub_max > sub->delivered) {
            sub->max = (uint64_t)ev->unsub_max;
        } else {
            client_remove_sub(c, sub);
        }
    }
    say_ok(c);
}

/* ---- Publishing ---- */

static bool is_reserved_reply(struct slice reply)
{
    return reply.len > 4 && (slice_has_prefix(reply, SLICE_LIT("_R_.")) ||
                             slice_has_prefix(reply, SLICE_LIT("$JS.ACK.")) ||
                             slice_has_prefix(reply, SLICE_LIT("_GR_.")));
}

static bool is_reserved_subject(struct slice subject)
{
    return slice_has_prefix(subject, SLICE_LIT("_GR_.")) ||
           slice_has_prefix(subject, SLICE_LIT("$NRG."));
}

static void say_no_responders(struct client *c, const struct protocol_event *ev)
{
    struct router_sub *rs = router_find_plain(c->cs->ctx->router, c, ev->reply);
    if (rs == NULL) {
        return;
    }
    const struct client_sub *sub = container_of(rs, struct client_sub, sub);
    struct buf *out = client_out(c, ev->reply.len + sub->sid_len + ev->subject.len + 128);
    size_t before = out->len;
    protocol_write_no_responders(out, ev->reply, slice_of(sub->sid, sub->sid_len), ev->subject);
    client_out_done(c, out->len - before);
}

static void handle_pub(struct client *c, const struct protocol_event *ev)
{
    struct clients *cs = c->cs;
    size_t bytes = ev->header.len + ev->payload.len;
    c->in_msgs++;
    c->in_bytes += bytes;
    cs->stats.in_msgs++;
    cs->stats.in_bytes += bytes;
    uint8_t first = ev->subject.len == 0 ? 0 : ev->subject.ptr[0];
    if ((first == '_' || first == '$') && is_reserved_subject(ev->subject)) {
        say_violation(c, PROTOCOL_VIOLATION_PUBLISH, ev->subject, SLICE_EMPTY);
        return;
    }
    if (ev->reply.len != 0 && is_reserved_reply(ev->reply)) {
        say_violation(c, PROTOCOL_VIOLATION_REPLY, ev->reply, SLICE_EMPTY);
        return;
    }
    if (c->connect.is_pedantic && !subject_is_literal(ev->subject)) {
        say_err(c, PROTOCOL_ERROR_PUBLISH_SUBJECT);
    }
    say_ok(c);
    struct router_msg msg = {
        .subject = ev->subject, .reply = ev->reply, .header = ev->header, .payload = ev->payload};
    struct router_origin origin = {
        .kind = ROUTER_FROM_CLIENT,
        .id = c->cid,
        .skip_owner = c->connect.is_echo ? NULL : c,
    };
    cs->is_stall_hit = false;
    uint32_t taken = router_publish(cs->ctx->router, &msg, &origin);
    if (taken == 0 && ev->reply.len != 0 && c->connect.is_no_responders) {
        say_no_responders(c, ev);
    }
    if (cs->is_stall_hit && !cs->ctx->options->no_fast_producer_stall) {
        cs->stats.stalled_clients++;
        c->stalls++;
        client_pause(c, CLIENT_STALL_MS);
    }
}

/* ---- The rest ---- */

static void handle_ping(struct client *c)
{
    struct buf *out = client_out(c, 16);
    size_t before = out->len;
    protocol_write_pong(out);
    client_out_done(c, out->len - before);
    if (!c->is_pong_sent && c->is_connected) {
        c->is_pong_sent = true;
        if (c->connect.protocol >= 1) {
            client_send_info(c, true);
        }
    }
}

static void handle_pong(struct client *c)
{
    c->pings_out = 0;
    if (c->ping_sent_ns != 0) {
        c->rtt_ns = uv_hrtime() - c->ping_sent_ns;
        c->rtt_at_ms = loop_now_ms(c->cs->ctx->loop);
        c->ping_sent_ns = 0;
    }
}

static void handle(struct client *c, enum protocol_event_type type, const struct protocol_event *ev)
{
    switch (type) {
    case PROTOCOL_PUB:
    case PROTOCOL_HPUB:
        handle_pub(c, ev);
        break;
    case PROTOCOL_SUB:
        handle_sub(c, ev);
        break;
    case PROTOCOL_UNSUB:
        handle_unsub(c, ev);
        break;
    case PROTOCOL_CONNECT:
        handle_connect(c, ev->arg);
        break;
    case PROTOCOL_PING:
        handle_ping(c);
        break;
    case PROTOCOL_PONG:
        handle_pong(c);
        break;
    case PROTOCOL_ERR:
        log_err("%s:%u - cid:%llu - Client Error %.*s", c->ip, c->port, (unsigned long long)c->cid,
                SLICE_ARG(ev->arg));
        client_doom(c, PROTOCOL_ERROR_CLIENT_ERR);
        break;
    case PROTOCOL_FAILED:
        client_doom(c, ev->error);
        break;
    default: /* INFO and +OK: nothing. */
        break;
    }
}

size_t client_parse(struct client *c, struct slice input)
{
    size_t used = 0;
    struct protocol_event ev;
    bool is_traced = log_is_on(LOG_LEVEL_TRC);
    while (c->state == CLIENT_OPEN && c->holds == 0 && used < input.len) {
        enum protocol_event_type type = protocol_next(&c->parser, slice_from(input, used), &ev);
        if (is_traced && type != PROTOCOL_NEED_MORE) {
            client_trace_op(c, "<<-", slice_of(input.ptr + used, ev.consumed_bytes));
        }
        used += ev.consumed_bytes;
        if (type == PROTOCOL_NEED_MORE) {
            break;
        }
        handle(c, type, &ev);
    }
    if (c->state == CLIENT_OPEN) {
        c->last_ns = loop_clock_ns(c->cs->ctx->loop);
    }
    return used;
}
