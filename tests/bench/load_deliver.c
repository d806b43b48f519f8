/* Deliveries: pull consumers with explicit acks, and core subscriptions. */
#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/conn.h"
#include "tests/bench/load.h"

#define PULL_INBOX "_INBOX.pull"
#define CONFIRM_INBOX "_INBOX.confirm"

struct pull_run {
    struct conn conn;
    const struct load_options *options;
    uint64_t wanted; /* Asked for and not yet delivered. */
    uint64_t received;
    bool is_confirmed; /* The last ack. */
};

/* Keep between half a batch and one and a half asked for: the server never waits for us. */
static void pull_more(struct pull_run *r)
{
    const struct load_options *o = r->options;
    char subject[256];
    char body[96];
    if (r->wanted > o->batch / 2 || r->received + r->wanted >= o->messages_count) {
        return;
    }
    uint64_t left = o->messages_count - r->received - r->wanted;
    uint64_t batch = left < o->batch ? left : o->batch;
    int length =
        snprintf(body, sizeof body, "{\"batch\":%" PRIu64 ",\"expires\":10000000000}", batch);
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.%s", o->stream, o->consumer);
    conn_publish(&r->conn, subject, PULL_INBOX, body, (size_t)length);
    r->wanted += batch;
}

static void acknowledge(struct pull_run *r, const struct conn_msg *m)
{
    bool is_last = r->received == r->options->messages_count;
    conn_append(&r->conn, "PUB ", 4);
    conn_append(&r->conn, m->reply, m->reply_bytes);
    if (is_last) {
        conn_printf(&r->conn, " " CONFIRM_INBOX " 4\r\n+ACK\r\n");
    } else {
        conn_append(&r->conn, " 4\r\n+ACK\r\n", 10);
    }
}

static void take_delivery(struct pull_run *r, const struct conn_msg *m)
{
    if (m->subject_bytes == strlen(CONFIRM_INBOX) &&
        memcmp(m->subject, CONFIRM_INBOX, m->subject_bytes) == 0) {
        r->is_confirmed = true;
    } else if (m->reply_bytes == 0) {
        r->wanted = 0; /* A status: the request has ended, ask again. */
    } else {
        r->received++;
        r->wanted -= r->wanted > 0;
        acknowledge(r, m);
    }
}

int load_pull(const struct load_options *o)
{
    struct pull_run r = {.options = o};
    struct conn_msg m;
    conn_open(&r.conn, o->server);
    conn_printf(&r.conn, "SUB " PULL_INBOX " 1\r\nSUB " CONFIRM_INBOX " 2\r\n");
    int64_t started_us = conn_now_us();
    int64_t received_us = 0;
    bool is_stalled = false;
    while (!r.is_confirmed && !is_stalled) {
        pull_more(&r);
        conn_flush(&r.conn);
        is_stalled = !conn_wait(&r.conn, LOAD_STALL_MS);
        while (conn_next(&r.conn, &m)) {
            take_delivery(&r, &m);
        }
        if (received_us == 0 && r.received >= o->messages_count) {
            received_us = conn_now_us();
        }
    }
    int64_t ended_us = conn_now_us();
    printf("{\"per_s\": %.0f, \"delivered_per_s\": %.0f, \"received\": %" PRIu64
           ", \"stalled\": %s}\n",
           (double)r.received * 1e6 / (double)(ended_us - started_us),
           (double)r.received * 1e6 /
               (double)((received_us != 0 ? received_us : ended_us) - started_us),
           r.received, is_stalled ? "true" : "false");
    conn_close(&r.conn);
    return is_stalled;
}

struct subscriber {
    const struct load_options *options;
    pthread_barrier_t *is_ready;
    pthread_t thread;
    uint64_t received;
};

static void *subscribe(void *arg)
{
    struct subscriber *s = arg;
    struct conn c;
    struct conn_msg m;
    conn_open(&c, s->options->server);
    conn_printf(&c, "SUB %s 1\r\nSUB %s.ready 2\r\nPUB %s.ready 0\r\n\r\n", s->options->subject,
                s->options->subject, s->options->subject);
    conn_flush(&c);
    /* Its own message says that the subscriptions stand. */
    while (!conn_next(&c, &m)) {
        if (!conn_wait(&c, LOAD_STALL_MS)) {
            conn_die("the subscription does not answer");
        }
    }
    size_t subject_bytes = strlen(s->options->subject);
    pthread_barrier_wait(s->is_ready);
    while (s->received < s->options->messages_count) {
        if (conn_next(&c, &m)) {
            s->received += m.subject_bytes == subject_bytes;
        } else if (!conn_wait(&c, LOAD_STALL_MS)) {
            break;
        }
    }
    conn_close(&c);
    return NULL;
}

static void publish_core(const struct load_options *o)
{
    struct conn c;
    char *payload = malloc(o->payload_bytes + 1);
    assert(payload != NULL);
    memset(payload, 'x', o->payload_bytes);
    conn_open(&c, o->server);
    for (uint64_t i = 0; i < o->messages_count; i++) {
        conn_publish(&c, o->subject, NULL, payload, o->payload_bytes);
        /* 64 KiB a write, as a client with a buffered writer does. */
        if (c.out_bytes >= 65536) {
            conn_flush(&c);
        }
    }
    conn_sync(&c);
    conn_close(&c);
    free(payload);
}

int load_core(const struct load_options *o)
{
    struct subscriber subscribers[LOAD_SUBSCRIBERS_MAX];
    pthread_barrier_t is_ready;
    assert(o->subscribers_count >= 1 && o->subscribers_count <= LOAD_SUBSCRIBERS_MAX);
    pthread_barrier_init(&is_ready, NULL, (unsigned)o->subscribers_count + 1);
    for (int i = 0; i < o->subscribers_count; i++) {
        subscribers[i] = (struct subscriber){.options = o, .is_ready = &is_ready};
        int rv = pthread_create(&subscribers[i].thread, NULL, subscribe, &subscribers[i]);
        assert(rv == 0);
    }
    pthread_barrier_wait(&is_ready);
    int64_t started_us = conn_now_us();
    publish_core(o);
    uint64_t delivered = 0;
    for (int i = 0; i < o->subscribers_count; i++) {
        pthread_join(subscribers[i].thread, NULL);
        delivered += subscribers[i].received;
    }
    double seconds = (double)(conn_now_us() - started_us) / 1e6;
    bool is_complete = delivered == o->messages_count * (uint64_t)o->subscribers_count;
    printf("{\"published_per_s\": %.0f, \"per_s\": %.0f, \"delivered\": %" PRIu64
           ", \"complete\": %s}\n",
           (double)o->messages_count / seconds, (double)delivered / seconds, delivered,
           is_complete ? "true" : "false");
    pthread_barrier_destroy(&is_ready);
    return !is_complete;
}

int load_request(const struct load_options *o)
{
    struct conn c;
    struct conn_msg m;
    conn_open(&c, o->server);
    conn_printf(&c, "SUB " PULL_INBOX " 1\r\n");
    conn_publish(&c, o->subject, PULL_INBOX, o->body, strlen(o->body));
    conn_flush(&c);
    while (!conn_next(&c, &m)) {
        if (!conn_wait(&c, LOAD_STALL_MS)) {
            conn_die("no reply");
        }
    }
    printf("%.*s\n", (int)m.payload_bytes, m.payload);
    conn_close(&c);
    return m.payload_bytes == 0;
}
