/* Consumers inside a stream: state that only committed ops and log time change (design 4,
 * jetstream-api.md 3 and 5).
 *
 *   first delivery --> waiting --(deadline, NAK)--> queued --> delivered again --> waiting
 *                         \--(ACK, TERM, removed, max_deliver reached)--> gone
 *
 * Pure and deterministic. The stream calls it through `consumer_ops` (stream.h); the leader's
 * planner (delivery.h) reads it. Deadlines are in log time: each entry's time expires what is due.
 *
 * What the items of CONSUMER_PROGRESS mean (struct progress_item; fields not named are 0):
 *
 *   DELIVER    seq, count (in a row), consumer_seq, delay_ns, node, text. First deliveries when
 *              delay_ns is odd: consumer_seq is then the stream sequence delivered before the run,
 *              and if that is not so at apply nothing of the run happens. Redeliveries when it is
 *              even: what is not queued any more is left out. delay_ns is the planner's token and
 *              comes back in the effect with node and text (the inbox)
 *   ACK        seq, count
 *   CONFIRM    seq, node, text: after an ACK or TERM; the effect ADVISORY_ACK_CONFIRM, unless seq
 *              was never delivered
 *   NAK        seq, delay_ns (0: now)
 *   WPI        seq: the deadline starts anew
 *   TERM       seq, text: the reason
 *   RETURN     seq: the delivery was never sent; queued again, not counted
 *   POSITION   seq, consumer_seq: how far an ack none consumer came */
#ifndef BROKER_CONSUMER_H
#define BROKER_CONSUMER_H
#include "broker/consumer_config.h"
#include "broker/msg_index.h"
#include "broker/stream.h"

enum progress_kind {
    PROGRESS_DELIVER = 1,
    PROGRESS_ACK = 2,
    PROGRESS_CONFIRM = 3,
    PROGRESS_NAK = 4,
    PROGRESS_WPI = 5,
    PROGRESS_TERM = 6,
    PROGRESS_RETURN = 7,
    PROGRESS_POSITION = 8,
};

struct sequence_pair {
    uint64_t consumer_seq;
    uint64_t stream_seq;
};

enum pending_state { PENDING_GONE = 0, PENDING_WAITING = 1, PENDING_QUEUED = 2 };

/* A delivered message without its ack. */
struct pending_entry {
    uint64_t seq;
    uint64_t consumer_seq; /* Of the first delivery. */
    int64_t deadline_ns;   /* Log time; 0 while queued. */
    uint32_t count : 30;   /* Deliveries so far. */
    uint32_t state : 2;
    /* The planner's mark: redelivery under way. Not state: never hashed or saved. */
    uint32_t planned : 1;
    uint32_t is_unsure : 1; /* The deadline began with an unsure stamp (stream_shift.h). */
};

/* A deque in stream order, which is also the order of first delivery; what is gone in the middle is
 * squeezed out later. No allocation per entry. */
struct pending_map {
    struct pending_entry *entries;
    size_t head, tail, cap;
    size_t live;
    uint64_t hash; /* Sum of a hash of each live entry. */
};

/* Sequences in a row, first in first out. */
struct seq_ring {
    uint64_t *seqs;
    size_t head, count, cap; /* cap: a power of two, or 0. */
};

struct consumer {
    uint64_t id; /* Given in the log; never used again. */
    char *name;
    struct consumer_config config;
    struct buf config_json; /* Canonical. */
    int64_t created_ns;
    struct sequence_pair delivered;
    struct sequence_pair floor;
    int64_t delivered_ns; /* Log time of the last delivery and the last ack; 0: none. */
    int64_t acked_ns;
    struct pending_map pending;
    struct seq_ring queue; /* Exactly the queued entries. */
    uint64_t *exhausted;   /* Reached max_deliver and not acked since; ascending. */
    size_t exhausted_count, exhausted_cap;
    uint64_t *lasts; /* last_per_subject: what it begins with, ascending; */
    size_t lasts_count;
    uint64_t lasts_upto;    /* ... then goes on above this. 0: no such list. */
    uint64_t pending_count; /* Matching messages above delivered; not kept if has_rank. */
    bool has_rank;          /* No filter and no list: the count is a rank query. */

    struct stream_filter filter; /* A cache. Private from here on. */
    uint64_t redelivered;        /* Pending entries delivered more than once. */
    uint64_t unsure;             /* Those whose deadlines are. */
    int64_t due_ns;              /* No deadline is before it. */
    bool is_dirty;
    uint64_t
        lead_seq; /* Ack none, on the leader: the next to send is at or above; 0: not leading. */
    uint64_t lead_count; /* As pending_count, from lead_seq on. */
};

/* All consumers of a stream, by id ascending. */
struct consumers {
    struct stream *stream;
    const struct msg_index *index;
    struct consumer **items;
    size_t count, cap;
    uint64_t *deleted; /* Ids whose checkpoint item is to be deleted. */
    size_t deleted_count, deleted_cap;
    struct effect_advisory *late; /* Advisories of removals, emitted with the next entry. */
    size_t late_count, late_cap;
};

/* For stream_new(). */
extern const struct stream_consumer_ops consumer_ops;

/* NULL: no such consumer. */
struct consumer *consumers_by_id(const struct consumers *cs, uint64_t id);
struct consumer *consumers_by_name(const struct consumers *cs, struct slice name);

/* What CONSUMER.INFO says, but for num_waiting, which is the planner's. */
struct consumer_info {
    struct sequence_pair delivered;
    struct sequence_pair floor;
    int64_t delivered_ns; /* 0: never. */
    int64_t acked_ns;
    uint64_t num_ack_pending;
    uint64_t num_redelivered;
    uint64_t num_pending;
};
void consumer_get_info(struct consumer *c, const struct msg_index *x,
                       struct consumer_info *ret_info);

/* Messages that match and were not delivered yet. */
uint64_t consumer_num_pending(struct consumer *c, const struct msg_index *x);
/* The first live message above @after to deliver for the first time; 0: none, or, if no @budget is
 * left, not known yet: stream_filter_seek(). */
uint64_t consumer_seek(struct consumer *c, const struct msg_index *x, uint64_t after,
                       uint64_t *budget);
/* As consumer_num_pending(), above @after. */
uint64_t consumer_count_above(struct consumer *c, const struct msg_index *x, uint64_t after);
/* NULL: @seq is not pending. */
struct pending_entry *consumer_pending(const struct consumer *c, uint64_t seq);

/* Private to consumer*.c, shown for the tests. A new consumer as if CONSUMER_SET were applied at
 * @now_ns on a stream whose last sequence is @last_seq. Takes over @config. */
struct consumer *consumer_new(uint64_t id, struct consumer_config *config,
                              const struct msg_index *x, uint64_t last_seq, int64_t now_ns);
void consumer_free(struct consumer *c);
void consumer_apply(struct consumer *c, const struct msg_index *x, const struct stream_now *now,
                    const struct progress_item *item, struct stream_effects *e);
void consumer_time_sure(struct consumer *c, int64_t shift_ns);
void consumer_expire(struct consumer *c, int64_t now_ns, struct stream_effects *e);
int64_t consumer_next_due(const struct consumer *c);
void consumer_stored(struct consumer *c, const struct msg_index *x, uint64_t seq,
                     uint32_t subject_id);
/* @seq is live still. True if it was pending: @ret_entry is what it was. */
bool consumer_removing(struct consumer *c, const struct msg_index *x, uint64_t seq,
                       struct pending_entry *ret_entry);
/* All messages are about to go: what was to be delivered is forgotten. Returns the pending ones,
 * for each of which consumer_removing() has to follow; the caller frees it. */
uint64_t *consumer_removing_all(struct consumer *c, size_t *ret_count);
/* The configuration of an existing consumer changes: 0 or an API error with @ret_text. */
int consumer_update(struct consumer *c, struct consumer_config *config, const struct msg_index *x,
                    const char **ret_text);
uint64_t consumer_hash(const struct consumer *c);
void consumer_save(struct consumer *c, struct buf *out);
/* ERR_INVALID if malformed. */
int consumer_load(struct slice value, const struct msg_index *x, struct consumer **ret_c);
void consumer_check(struct consumer *c, const struct msg_index *x);

/* pending map and ring: consumer_pending.c */
void pending_close(struct pending_map *p);
struct pending_entry *pending_add(struct pending_map *p, const struct pending_entry *entry);
struct pending_entry *pending_find(const struct pending_map *p, uint64_t seq);
struct pending_entry *pending_head(const struct pending_map *p); /* NULL: empty. */
uint64_t pending_entry_hash(const struct pending_entry *entry);
/* Entries are changed between these two, so that the hash follows. */
static inline void pending_begin(struct pending_map *p, const struct pending_entry *entry)
{
    p->hash -= pending_entry_hash(entry);
}
static inline void pending_end(struct pending_map *p, const struct pending_entry *entry)
{
    p->hash += pending_entry_hash(entry);
}
void pending_kill(struct pending_map *p, struct pending_entry *entry); /* Others stay in place. */
void pending_trim(struct pending_map *p);
void ring_push(struct seq_ring *r, uint64_t seq);
void ring_remove(struct seq_ring *r, uint64_t seq);
static inline uint64_t ring_at(const struct seq_ring *r, size_t i)
{
    return r->seqs[(r->head + i) & (r->cap - 1)];
}
#endif
