/* The inside of the stream machine, shared by stream*.c only. */
#ifndef BROKER_STREAM_STATE_H
#define BROKER_STREAM_STATE_H
#include "broker/stream.h"
#include "broker/stream_dedup.h"
#include "broker/stream_lane.h"
#include "broker/stream_shift.h"

/* Numbers of api_error_map.h. */
enum {
    REFUSE_SEQ_NOT_FOUND = 10043,
    REFUSE_MSG_TOO_LARGE = 10054,
    REFUSE_MSG_DELETE = 10057,
    REFUSE_NOT_MATCH = 10060,
    REFUSE_LAST_MSG_ID = 10070,
    REFUSE_LAST_SEQ = 10071,
    REFUSE_STORE = 10077,
    REFUSE_HEADER_TOO_LARGE = 10097,
    REFUSE_SEALED = 10109,
    REFUSE_PURGE = 10110,
    REFUSE_ROLLUP = 10111,
    REFUSE_CONSUMER = 10014,
};

#define STREAM_HEADER_BYTES_MAX 65535u
#define STREAM_SUBJECT_BYTES_MAX 65535u

enum job_type { JOB_PURGE = 1, JOB_PER_SUBJECT = 2 };

/* Long work in pieces: from @cursor on up to @upper_seq. */
struct stream_job {
    enum job_type type;
    uint64_t request;
    uint64_t cursor;
    uint64_t upper_seq; /* Inclusive: what is stored later is not meant. */
    uint64_t left;      /* PURGE: messages to remove at most. */
    uint64_t done;
    char *filter;               /* PURGE: NULL is everything. */
    struct stream_filter match; /* Derived from the filter. */
};

struct stream {
    struct stream_config config;
    struct subject_transform *transform; /* Of the configuration; NULL: none. */
    struct buf config_json;              /* Canonical; hashed and checkpointed as it is. */
    uint64_t config_version;             /* Of the last CONFIG that had one; 0: none had. */
    int64_t created_ns;
    int64_t time_ns;
    uint64_t last_seq;
    int64_t last_time_ns;
    uint64_t payload_chain; /* Hash over headers and payload of all messages ever stored. */
    struct buf last_msg_id;
    uint64_t applied_index;
    uint64_t applied_term;
    uint32_t machine_version;
    uint64_t next_consumer_id;
    struct msg_index index;
    struct dedup dedup;
    struct lanes lanes;
    struct shifts shifts;
    struct stream_job jobs[STREAM_JOBS_MAX];
    size_t jobs_count;
    const struct stream_consumer_ops *ops; /* NULL: no consumers. */
    struct consumers *consumers;

    uint32_t budget;    /* Messages that this step may still remove for expiry, limits and jobs. */
    uint32_t scan_left; /* Messages that its jobs may still look at. */
    struct stream_filter expect_filter; /* Of the last wildcard expectation; a mere memory. */
    bool is_config_dirty;               /* Since the last checkpoint. */
    bool is_jobs_dirty;
};

static inline uint32_t stream_message_size(size_t subject, size_t header, size_t payload)
{
    return (uint32_t)(30 + subject + payload + (header > 0 ? 4 + header : 0));
}

/* stream.c */
struct stream *stream_alloc(const struct stream_consumer_ops *ops);
int stream_set_config(struct stream *s, struct slice json);
void stream_remove_live(struct stream *s, uint64_t seq, struct stream_effects *e);
void stream_remove_below(struct stream *s, uint64_t floor, struct stream_effects *e);
/* Remove the oldest until max_msgs and max_bytes hold or the budget is used up. */
void stream_enforce_limits(struct stream *s, struct stream_effects *e);
bool stream_is_over_limits(const struct stream *s);
/* stream_job.c */
void stream_purge(struct stream *s, const struct op *op, struct stream_effects *e);
bool stream_add_job(struct stream *s, enum job_type type, uint64_t request, uint64_t upper_seq,
                    uint64_t left, struct slice filter);
void stream_run_jobs(struct stream *s, struct stream_effects *e);
void stream_job_close(struct stream_job *job);
/* stream_publish.c */
void stream_publish(struct stream *s, struct op_publish *p, struct stream_effects *e);
#endif
