/* The publisher: asynchronous JetStream publishes with a window, every ack accounted for.
 *
 * Its node is never killed, so each publish must be acknowledged: what takes longer than
 * DEMO_ACK_TIMEOUT_MS is a failure, nothing is sent a second time and no Nats-Msg-Id is used. */
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/demo/demo.h"

static void note_gap(struct demo_publisher *p, int64_t now_us)
{
    if (atomic_load(&p->has_killed) && now_us - p->last_ack_us > p->gap_us) {
        p->gap_us = now_us - p->last_ack_us;
    }
    p->last_ack_us = now_us;
}

/* Runs in libnats' thread, one ack at a time, in the order the acks came in. */
static void on_ack(jsCtx *js, natsMsg *msg, jsPubAck *ack, jsPubAckErr *failure, void *arg)
{
    (void)js;
    struct demo_publisher *p = arg;
    uint32_t number = demo_number(natsMsg_GetData(msg), natsMsg_GetDataLength(msg));
    natsMsg_Destroy(msg);
    if (ack == NULL) {
        if (p->error[0] == '\0') {
            snprintf(p->error, sizeof p->error, "publish %u: %s", number,
                     failure->ErrText != NULL ? failure->ErrText
                                              : natsStatus_GetText(failure->Err));
        }
        return;
    }
    assert(number < p->options->messages_count);
    p->ack_seqs[number] = ack->Sequence;
    if (ack->Duplicate) {
        snprintf(p->error, sizeof p->error, "publish %u: acknowledged as a duplicate", number);
    }
    note_gap(p, demo_now_us());
    uint32_t acked = atomic_fetch_add(&p->acked, 1) + 1;
    if (acked == p->options->messages_count / 2 && p->victim != 0) {
        kill(p->victim, SIGKILL);
        p->killed_us = demo_now_us();
        p->last_ack_us = p->killed_us;
        atomic_store(&p->has_killed, true);
    }
}

static natsStatus publish_all(struct demo_publisher *p, jsCtx *js)
{
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MaxWait = DEMO_ACK_TIMEOUT_MS;
    char *payload = malloc(p->options->payload_bytes);
    assert(payload != NULL);
    memset(payload, '.', p->options->payload_bytes);

    natsStatus s = NATS_OK;
    for (uint32_t i = 0; i < p->options->messages_count && s == NATS_OK; i++) {
        int length = snprintf(payload, p->options->payload_bytes, "%u", i);
        payload[length] = ' ';
        s = js_PublishAsync(js, DEMO_SUBJECT, payload, (int)p->options->payload_bytes, &options);
        atomic_store(&p->sent, i + 1);
    }
    free(payload);
    if (s == NATS_OK) {
        options.MaxWait = 2 * DEMO_ACK_TIMEOUT_MS;
        s = js_PublishAsyncComplete(js, &options);
    }
    return s;
}

/* A stream gives later publishes of one connection higher sequences. */
static void check_order(struct demo_publisher *p)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < p->options->messages_count; i++) {
        uint64_t seq = p->ack_seqs[i];
        if (seq != 0 && seq <= last) {
            p->reordered++;
        }
        last = seq > last ? seq : last;
    }
    p->last_seq = last;
}

void *demo_publish(void *publisher)
{
    struct demo_publisher *p = publisher;
    natsConnection *conn = NULL;
    jsCtx *js = NULL;
    jsOptions options;
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = p->options->window;
    options.PublishAsync.StallWait = 2 * DEMO_ACK_TIMEOUT_MS;
    options.PublishAsync.AckHandler = on_ack;
    options.PublishAsync.AckHandlerClosure = p;

    natsStatus s = demo_connect(&conn, p->node, true);
    if (s == NATS_OK) {
        s = natsConnection_JetStream(&js, conn, &options);
    }
    p->started_us = demo_now_us();
    if (s == NATS_OK) {
        s = publish_all(p, js);
    }
    p->ended_us = demo_now_us();
    if (s != NATS_OK && p->error[0] == '\0') {
        snprintf(p->error, sizeof p->error, "publishing through %s: %s", p->node->name,
                 natsStatus_GetText(s));
    }
    natsConnection_Close(conn); /* No ack handler runs from here on. */
    jsCtx_Destroy(js);
    natsConnection_Destroy(conn);
    check_order(p);
    atomic_store(&p->is_done, true);
    return NULL;
}
