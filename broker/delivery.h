/* The leader's planner of one stream: who waits for messages, and who gets which (design 4,
 * jetstream-api.md 4.1 to 4.3 and 5).
 *
 *   delivery_pull, delivery_ack (requests as they come)
 *     --> delivery_turn: items for CONSUMER_PROGRESS, to be proposed; status messages, to be sent
 *     --> entry committed: each DELIVER effect --> delivery_commit: send it, or not
 *
 * It plans against committed state and what it proposed since. delivery_lead() starts it anew.
 * Pure: time, interest and effects come from the embedder. One thread. Only a leader feeds it. */
#ifndef BROKER_DELIVERY_H
#define BROKER_DELIVERY_H
#include "broker/ack.h"
#include "broker/consumer.h"

#define DELIVERY_IN_FLIGHT_MAX 8192u   /* Deliveries proposed and not committed, per stream. */
#define DELIVERY_TURN_MAX 2048u        /* Deliveries planned per turn; the rest in the next. */
#define DELIVERY_TURN_SCANNED 500000u  /* Messages looked at per turn to find them. */
#define DELIVERY_BYTES_MAX (32u << 20) /* In flight, per stream. */
#define DELIVERY_INBOX_BYTES_MAX 4096u
#define DELIVERY_WAITING_MAX 65536u /* Pulls of one consumer, whatever its max_waiting. */

struct delivery;

struct delivery_options {
    void *ctx;
    /* Is there still a subscription to @inbox on @node? NULL: always. */
    bool (*has_interest)(void *ctx, uint64_t node, struct slice inbox);
    /* Does anybody, on any node, listen to a push consumer's @subject; with a @group that is not
     * empty, as a member of that queue group? NULL: always. */
    bool (*has_push_interest)(void *ctx, struct slice subject, struct slice group);
    /* Append to the open batch: entry_progress(). */
    void (*propose)(void *ctx, uint64_t consumer, const struct progress_item *item);
    /* Propose CONSUMER_DELETE: inactive. Once per consumer and minute. */
    void (*propose_delete)(void *ctx, uint64_t consumer, struct slice name);
    /* Send a message without payload now: @header is the whole block, or empty. */
    void (*status)(void *ctx, uint64_t node, struct slice inbox, struct slice header);
    /* The same to a push consumer's subject, behind the messages sent before; @reply may be empty.
     */
    void (*push_status)(void *ctx, struct slice subject, struct slice reply, struct slice header);
    uint64_t node;          /* This one: messages of push consumers are sent from here. */
    uint64_t payload_bytes; /* The largest there may be. */
    /* Ack none: send this message now; as for a committed effect. */
    void (*deliver)(void *ctx, const struct effect_deliver *effect);
};

/* @stream_name is copied; @cs and what @options points to outlive the planner. */
struct delivery *delivery_new(struct consumers *cs, struct slice stream_name,
                              const struct delivery_options *options);
void delivery_free(struct delivery *d);

/* This node leads the stream from now on (its LEAD entry is applied). */
void delivery_lead(struct delivery *d, int64_t now_ns);
/* It leads no more: every waiting pull gets `409 Leadership Change`. */
void delivery_unlead(struct delivery *d);

/* A pull request from @inbox on @node. An empty inbox is ignored. All times are the leader's
 * clock, the one that stamps entries. */
void delivery_pull(struct delivery *d, uint64_t consumer, uint64_t node, struct slice inbox,
                   struct slice body, int64_t now_ns);
/* A message on the ack subject of @consumer for message @seq. @reply may be empty; NAK, WPI and
 * unknown payloads are answered at once, ACK and TERM by the effect ADVISORY_ACK_CONFIRM. */
void delivery_ack(struct delivery *d, uint64_t consumer, uint64_t seq, uint64_t node,
                  struct slice reply, struct slice payload, int64_t now_ns);

/* A client answers the flow control request whose reply subject ended with @id. */
void delivery_flow(struct delivery *d, uint64_t consumer, struct slice id, int64_t now_ns);

/* Time is about to jump by @shift_ns: nobody was silent for so long. */
void delivery_time_sure(struct delivery *d, int64_t shift_ns);
/* Once per loop turn: match, expire, heartbeat. Calls propose and status. */
void delivery_turn(struct delivery *d, int64_t now_ns);
/* The last turn did not come to the end of its search: the next is due at once. */
bool delivery_is_searching(const struct delivery *d);
/* When the next turn is due if nothing else happens; INT64_MAX: never. */
int64_t delivery_next_due(const struct delivery *d);

/* Each DELIVER effect of an entry of this leader's own term. True: send the message with the
 * effect's destination and ack reply; false: do not. */
bool delivery_commit(struct delivery *d, const struct effect_deliver *effect, int64_t now_ns);
/* The consumer is deleted (effect): waiting pulls get `409 Consumer Deleted`. */
void delivery_consumer_deleted(struct delivery *d, uint64_t consumer);
/* The process ends, and leads until then: pulls of consumers with num_replicas <= 1 get `409 Server
 * Shutdown` with what they lack, the others `409 Leadership Change`. No pull is taken any more. */
void delivery_shutdown(struct delivery *d);

/* Pull requests waiting: CONSUMER.INFO num_waiting. */
uint64_t delivery_num_waiting(struct delivery *d, uint64_t consumer);
/* A push consumer that somebody listens to: CONSUMER.INFO push_bound. */
bool delivery_is_bound(struct delivery *d, uint64_t consumer);
/* As consumer_get_info(), with an ack none consumer's position on this leader. */
void delivery_get_info(struct delivery *d, uint64_t consumer, struct consumer_info *ret_info);
/* Append the ack reply subject of a delivery. */
void delivery_ack_reply(const struct delivery *d, const struct effect_deliver *effect,
                        struct buf *out);
#endif
