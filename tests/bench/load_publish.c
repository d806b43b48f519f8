/* JetStream publishes: throughput, latency from write to ack, and the gap around a kill. */
#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/conn.h"
#include "tests/bench/load.h"

#define ACK_INBOX "_INBOX.load"
#define GAP_WARM_US 1000000
#define GAP_OBSERVE_US 2000000 /* After the kill, at least. */
#define GAP_STEADY_US 50000    /* Acks this recent mean that it goes on. */

struct publish_run {
    struct conn conn;
    const struct load_options *options;
    char *payload;
    int64_t *sent_us;  /* By message. */
    uint32_t *lags_us; /* By ack, in order of arrival. */
    uint64_t sent;
    uint64_t answered; /* Acks and errors. */
    uint64_t errors;
    int64_t last_us; /* Of the last answer. */
};

static void begin(struct publish_run *r, const struct load_options *o)
{
    *r = (struct publish_run){.options = o};
    r->payload = malloc(o->payload_bytes + 1);
    r->sent_us = calloc(o->messages_count, sizeof *r->sent_us);
    r->lags_us = calloc(o->messages_count, sizeof *r->lags_us);
    assert(r->payload != NULL && r->sent_us != NULL && r->lags_us != NULL);
    memset(r->payload, 'x', o->payload_bytes);
    conn_open(&r->conn, o->server);
    conn_printf(&r->conn, "SUB " ACK_INBOX ".* 1\r\n");
}

static void end(struct publish_run *r)
{
    conn_close(&r->conn);
    free(r->payload);
    free(r->sent_us);
    free(r->lags_us);
}

static void send_one(struct publish_run *r)
{
    char reply[64];
    snprintf(reply, sizeof reply, ACK_INBOX ".%" PRIu64, r->sent);
    conn_publish(&r->conn, r->options->subject, reply, r->payload, r->options->payload_bytes);
    r->sent++;
}

/* Fill the window, as far as one write goes, and send it. */
static void send_window(struct publish_run *r)
{
    const struct load_options *o = r->options;
    uint64_t first = r->sent;
    while (r->sent < o->messages_count && r->sent - r->answered < o->window &&
           conn_room(&r->conn) > o->payload_bytes + 512) {
        send_one(r);
    }
    int64_t now_us = conn_now_us();
    for (uint64_t i = first; i < r->sent; i++) {
        r->sent_us[i] = now_us;
    }
    conn_flush(&r->conn);
}

/* Account for an answer; true if it is an ack. */
static bool take_answer(struct publish_run *r, const struct conn_msg *m, int64_t now_us)
{
    uint64_t number = conn_token(m);
    bool is_ack = conn_is_ack(m);
    if (number >= r->sent) {
        conn_die("an ack of a message that was not sent");
    }
    if (!is_ack && r->errors++ < 3) {
        fprintf(stderr, "load: publish %" PRIu64 ": %.*s%.*s\n", number, (int)m->headers_bytes,
                m->headers, (int)m->payload_bytes, m->payload);
    }
    r->lags_us[r->answered++] = (uint32_t)(now_us - r->sent_us[number]);
    r->last_us = now_us;
    return is_ack;
}

/* Take all answers there are; wait for the first. False when none comes. */
static bool take_answers(struct publish_run *r)
{
    struct conn_msg m;
    bool has_any = false;
    for (;;) {
        int64_t now_us = conn_now_us();
        while (conn_next(&r->conn, &m)) {
            take_answer(r, &m, now_us);
            has_any = true;
        }
        if (has_any) {
            return true;
        }
        if (!conn_wait(&r->conn, LOAD_STALL_MS)) {
            return false;
        }
    }
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

int load_publish(const struct load_options *o)
{
    struct publish_run r;
    begin(&r, o);
    int64_t started_us = conn_now_us();
    bool is_sending = true;
    bool is_stalled = false;
    r.last_us = started_us;
    while (!is_stalled && (is_sending || r.answered < r.sent)) {
        if (is_sending) {
            send_window(&r);
            is_sending = r.sent < o->messages_count &&
                         (o->seconds == 0 || conn_now_us() - started_us < o->seconds * 1000000);
        }
        if (r.answered < r.sent) {
            is_stalled = !take_answers(&r);
        }
    }
    double seconds = (double)(r.last_us - started_us) / 1e6;
    uint64_t n = r.answered;
    qsort(r.lags_us, n, sizeof *r.lags_us, compare_u32);
    printf("{\"per_s\": %.0f, \"acked\": %" PRIu64 ", \"errors\": %" PRIu64
           ", \"p50_us\": %u, \"p99_us\": %u, \"max_us\": %u, \"stalled\": %s}\n",
           (double)(n - r.errors) / seconds, n - r.errors, r.errors, n ? r.lags_us[n / 2] : 0,
           n ? r.lags_us[n * 99 / 100] : 0, n ? r.lags_us[n - 1] : 0,
           is_stalled ? "true" : "false");
    end(&r);
    return is_stalled;
}

/* The longest time between two acks from the kill on, ended by @until_us. */
struct gap {
    int64_t last_us;
    int64_t longest_us;
    uint64_t acked;
};

static void note(struct gap *g, int64_t now_us)
{
    if (now_us - g->last_us > g->longest_us) {
        g->longest_us = now_us - g->last_us;
    }
    g->last_us = now_us;
}

/* Send what is due at one a millisecond, and take the answers of about a millisecond. */
static void gap_step(struct publish_run *r, struct gap *g, int64_t started_us)
{
    struct conn_msg m;
    int64_t now_us = conn_now_us();
    while ((int64_t)r->sent * 1000 <= now_us - started_us && r->sent < r->options->messages_count) {
        r->sent_us[r->sent] = now_us;
        send_one(r);
    }
    conn_flush(&r->conn);
    conn_wait(&r->conn, 1);
    now_us = conn_now_us();
    while (conn_next(&r->conn, &m)) {
        if (take_answer(r, &m, now_us)) {
            note(g, now_us);
            g->acked++;
        }
    }
}

int load_gap(const struct load_options *o)
{
    struct publish_run r;
    struct gap g = {0};
    begin(&r, o);
    int64_t started_us = conn_now_us();
    g.last_us = started_us;
    while (conn_now_us() - started_us < GAP_WARM_US) {
        gap_step(&r, &g, started_us);
    }
    int64_t before_us = g.longest_us;
    uint64_t errors_before = r.errors;
    if (g.acked == 0) {
        conn_die("no ack before the kill");
    }
    if (o->victim > 0 && kill(o->victim, SIGKILL) != 0) {
        conn_die("kill");
    }
    int64_t killed_us = conn_now_us();
    g = (struct gap){.last_us = killed_us};
    int64_t now_us = killed_us;
    bool is_over = false;
    while (!is_over && now_us - killed_us < o->seconds * 1000000) {
        gap_step(&r, &g, started_us);
        now_us = conn_now_us();
        is_over = now_us - killed_us > GAP_OBSERVE_US && now_us - g.last_us < GAP_STEADY_US;
    }
    note(&g, now_us);
    printf("{\"gap_ms\": %.1f, \"before_ms\": %.1f, \"errors\": %" PRIu64
           ", \"unanswered\": %" PRIu64 ", \"recovered\": %s}\n",
           (double)g.longest_us / 1e3, (double)before_us / 1e3, r.errors - errors_before,
           r.sent - r.answered, is_over ? "true" : "false");
    end(&r);
    return !is_over;
}

static volatile sig_atomic_t is_stopped;

static void on_stop(int signum)
{
    (void)signum;
    is_stopped = 1;
}

/* Lags by number of the message, not by ack. */
static void steady_answers(struct publish_run *r)
{
    struct conn_msg m;
    int64_t now_us = conn_now_us();
    while (conn_next(&r->conn, &m)) {
        uint64_t number = conn_token(&m);
        if (number >= r->sent) {
            conn_die("an ack of a message that was not sent");
        }
        r->answered++;
        r->lags_us[number] = conn_is_ack(&m) ? (uint32_t)(now_us - r->sent_us[number]) : 0;
    }
}

int load_steady(const struct load_options *options)
{
    struct load_options o = *options;
    o.messages_count = o.per_s * (uint64_t)o.seconds;
    struct publish_run r;
    begin(&r, &o);
    signal(SIGTERM, on_stop);
    int64_t started_us = conn_now_us();
    int64_t end_us = started_us + o.seconds * 1000000;
    int64_t now_us = started_us;
    while (now_us < end_us + (r.answered < r.sent ? 1000000 : 0) &&
           (!is_stopped || r.answered < r.sent)) {
        while (!is_stopped && r.sent < o.messages_count) {
            if (started_us + (int64_t)(r.sent * 1000000 / o.per_s) > now_us) {
                break;
            }
            r.sent_us[r.sent] = now_us;
            send_one(&r);
        }
        conn_flush(&r.conn);
        conn_wait(&r.conn, 1);
        steady_answers(&r);
        now_us = conn_now_us();
    }
    for (uint64_t i = 0; i < r.sent; i++) {
        printf("%" PRId64 " %u\n", r.sent_us[i], r.lags_us[i]);
    }
    end(&r);
    return 0;
}
