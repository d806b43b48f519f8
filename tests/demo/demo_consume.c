/* The consumer: fetches, and acknowledges with a reply (the "double ack"), a batch at a time.
 *
 * natsMsg_AckSync waits for each ack alone. Here the acks of a batch go out together, each with its
 * own reply subject, and those not confirmed after a second are sent again: acks are idempotent. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/demo/demo.h"

#define BATCH_MAX 500
#define FETCH_TIMEOUT_MS 1000
#define RESEND_US 1000000
#define SILENCE_MAX_US 30000000 /* Without a new message or confirmation, before giving up. */

/* A confirmation is an empty message to PREFIX.SEQ; "no responders" has a status and does not
 * count. */
static void on_confirmed(natsConnection *conn, natsSubscription *sub, natsMsg *msg, void *arg)
{
    (void)conn;
    (void)sub;
    struct demo_consumer *c = arg;
    const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
    uint64_t seq = dot != NULL ? strtoull(dot + 1, NULL, 10) : 0;
    if (!natsMsg_IsNoResponders(msg) && seq >= 1 && seq <= c->options->messages_count &&
        !atomic_exchange(&c->confirmed[seq - 1], 1)) {
        atomic_fetch_add(&c->confirmed_count, 1);
    }
    natsMsg_Destroy(msg);
}

/* Count a delivery; return its stream sequence, or 0 if it cannot be right. */
static uint64_t account(struct demo_consumer *c, natsMsg *msg)
{
    jsMsgMetaData *meta = NULL;
    if (natsMsg_GetMetaData(&meta, msg) != NATS_OK) {
        return 0; /* A status of the pull. */
    }
    uint64_t seq = meta->Sequence.Stream;
    jsMsgMetaData_Destroy(meta);
    uint32_t number = demo_number(natsMsg_GetData(msg), natsMsg_GetDataLength(msg));
    if (seq == 0 || seq > c->options->messages_count || number >= c->options->messages_count) {
        c->misplaced++;
        return 0;
    }
    if (atomic_load(&c->confirmed[seq - 1])) {
        c->after_confirmed++;
    }
    if (c->seen[number] == 0) {
        atomic_fetch_add(&c->seen_count, 1);
    } else {
        c->redelivered++;
    }
    if (c->seen[number] < UINT8_MAX) {
        c->seen[number]++;
    }
    return seq;
}

static natsStatus send_acks(struct demo_consumer *c, natsConnection *conn, const char *inbox,
                            const natsMsgList *batch, const uint64_t *seqs)
{
    char reply[128];
    natsStatus s = NATS_OK;
    for (int i = 0; i < batch->Count && s == NATS_OK; i++) {
        if (seqs[i] != 0 && !atomic_load(&c->confirmed[seqs[i] - 1])) {
            snprintf(reply, sizeof reply, "%s.%llu", inbox, (unsigned long long)seqs[i]);
            s = natsConnection_PublishRequestString(conn, natsMsg_GetReply(batch->Msgs[i]), reply,
                                                    "+ACK");
        }
    }
    return s == NATS_OK ? natsConnection_Flush(conn) : s;
}

static bool is_confirmed(struct demo_consumer *c, const uint64_t *seqs, int count)
{
    for (int i = 0; i < count; i++) {
        if (seqs[i] != 0 && !atomic_load(&c->confirmed[seqs[i] - 1])) {
            return false;
        }
    }
    return true;
}

/* Account for a batch and see all its acks confirmed. */
static natsStatus settle(struct demo_consumer *c, natsConnection *conn, const char *inbox,
                         const natsMsgList *batch)
{
    uint64_t seqs[BATCH_MAX];
    assert(batch->Count <= BATCH_MAX);
    for (int i = 0; i < batch->Count; i++) {
        seqs[i] = account(c, batch->Msgs[i]);
    }
    int64_t until_us = demo_now_us() + DEMO_ACK_TIMEOUT_MS * 1000;
    int64_t resend_us = 0;
    while (!is_confirmed(c, seqs, batch->Count)) {
        int64_t now_us = demo_now_us();
        if (now_us > until_us) {
            return NATS_TIMEOUT;
        }
        if (now_us >= resend_us) {
            natsStatus s = send_acks(c, conn, inbox, batch, seqs);
            if (s != NATS_OK) {
                return s;
            }
            resend_us = now_us + RESEND_US;
        }
        usleep(200);
    }
    return NATS_OK;
}

static natsStatus consume_all(struct demo_consumer *c, natsConnection *conn, natsSubscription *pull,
                              const char *inbox)
{
    int64_t progress_us = demo_now_us();
    while (atomic_load(&c->confirmed_count) < c->options->messages_count &&
           !atomic_load(&c->must_stop)) {
        natsMsgList batch = {0};
        jsErrCode code = 0;
        /* Whatever ends a fetch (time, a new leader, no leader), the answer is another fetch. */
        natsStatus s = natsSubscription_Fetch(&batch, pull, BATCH_MAX, FETCH_TIMEOUT_MS, &code);
        if (batch.Count > 0) {
            progress_us = demo_now_us();
            s = settle(c, conn, inbox, &batch);
            natsMsgList_Destroy(&batch);
            if (s != NATS_OK) {
                return s;
            }
        } else if (demo_now_us() - progress_us > SILENCE_MAX_US) {
            return s != NATS_OK ? s : NATS_TIMEOUT;
        } else if (s != NATS_TIMEOUT && s != NATS_OK) {
            usleep(20000);
        }
    }
    return NATS_OK;
}

void *demo_consume(void *consumer)
{
    struct demo_consumer *c = consumer;
    natsConnection *conn = NULL;
    jsCtx *js = NULL;
    natsSubscription *pull = NULL;
    natsSubscription *confirmations = NULL;
    natsInbox *inbox = NULL;
    char wildcard[128];
    jsErrCode code = 0;
    jsSubOptions options;
    jsSubOptions_Init(&options);
    options.Stream = DEMO_STREAM;
    options.Consumer = DEMO_CONSUMER;

    natsStatus s = demo_connect(&conn, c->node, true);
    if (s == NATS_OK) {
        s = natsConnection_JetStream(&js, conn, NULL);
    }
    if (s == NATS_OK) {
        s = natsInbox_Create(&inbox);
    }
    if (s == NATS_OK) {
        snprintf(wildcard, sizeof wildcard, "%s.*", inbox);
        s = natsConnection_Subscribe(&confirmations, conn, wildcard, on_confirmed, c);
    }
    if (s == NATS_OK) {
        s = js_PullSubscribe(&pull, js, DEMO_SUBJECT, DEMO_CONSUMER, NULL, &options, &code);
    }
    if (s == NATS_OK) {
        s = consume_all(c, conn, pull, inbox);
    }
    if (s != NATS_OK) {
        snprintf(c->error, sizeof c->error, "consuming through %s: %s", c->node->name,
                 natsStatus_GetText(s));
    }
    natsConnection_Close(conn); /* No callback runs from here on. */
    natsSubscription_Destroy(pull);
    natsSubscription_Destroy(confirmations);
    natsInbox_Destroy(inbox);
    jsCtx_Destroy(js);
    natsConnection_Destroy(conn);
    atomic_store(&c->is_done, true);
    return NULL;
}
