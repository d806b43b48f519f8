/* The demonstration: a replicated stream, a publisher and a consumer through nodes that do not lead
 * it, the leader killed with SIGKILL in the middle, and an account of every message afterwards.
 *
 * Plain libnats clients. Three threads: the publisher and the consumer (each one file), and the
 * main thread that shows figures, restarts the killed node and judges. The counters they share are
 * atomic; everything else of a part belongs to its thread until it is joined. */
#ifndef TESTS_DEMO_DEMO_H
#define TESTS_DEMO_DEMO_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <nats/nats.h>

#define DEMO_NODES 3
#define DEMO_STREAM "DEMO"
#define DEMO_SUBJECT "demo.orders"
#define DEMO_CONSUMER "audit"
#define DEMO_ACK_TIMEOUT_MS 10000 /* A publish or ack that is not confirmed by then has failed. */
#define DEMO_ERROR_BYTES 256

struct demo_node {
    char name[64];
    char url[80];        /* HOST:PORT for clients. */
    char monitoring[80]; /* HOST:PORT of the monitoring port. */
    char pid_file[256];
};

struct demo_options {
    struct demo_node nodes[DEMO_NODES];
    int nodes_count;
    uint32_t messages_count;
    uint32_t window; /* Publishes without ack at most. */
    uint32_t payload_bytes;
    const char *restart; /* Shell command; the node's name is appended. NULL: do not kill. */
    bool is_dump_wanted; /* Ask every replica what it holds; nats-server has no such endpoint. */
};

/* Messages are numbered from 0 in publish order; the number begins the payload. */
struct demo_publisher {
    const struct demo_options *options;
    const struct demo_node *node;
    pid_t victim;       /* Killed by the ack of the middle message; 0: nobody. */
    uint64_t *ack_seqs; /* By number: the sequence acknowledged, 0 while there is none. */
    atomic_uint sent;
    atomic_uint acked;
    atomic_bool has_killed;
    atomic_bool is_done; /* Ended, well or not. */
    /* Valid after the join. */
    int64_t started_us;
    int64_t ended_us;
    int64_t killed_us;
    int64_t last_ack_us;
    int64_t gap_us;     /* Longest time without an ack from the kill on. */
    uint32_t reordered; /* Acks with a sequence below that of an earlier publish. */
    uint64_t last_seq;
    char error[DEMO_ERROR_BYTES]; /* Empty when all went well. */
};

struct demo_consumer {
    const struct demo_options *options;
    const struct demo_node *node;
    atomic_uchar *confirmed; /* By sequence - 1: its ack was confirmed. */
    uint8_t *seen;           /* By number: deliveries, stops at 255. */
    atomic_uint seen_count;  /* Different messages seen. */
    atomic_uint confirmed_count;
    atomic_bool is_done;
    atomic_bool must_stop;
    /* Valid after the join. */
    uint32_t redelivered;     /* Deliveries beyond the first. */
    uint32_t after_confirmed; /* Deliveries of a message whose ack was confirmed before. */
    uint32_t misplaced;       /* Sequence or payload that cannot be. */
    char error[DEMO_ERROR_BYTES];
};

/* What one replica holds, by its own dump. */
struct demo_replica {
    uint64_t messages;
    uint64_t first_seq;
    uint64_t last_seq;
    char hash[72];
    /* Found by demo_replica_dump. */
    uint32_t stored;    /* Messages in the dump. */
    uint32_t missing;   /* Numbers that were acknowledged and are not in it. */
    uint32_t doubled;   /* Numbers that are in it more than once. */
    uint32_t misplaced; /* Stored under another sequence than acknowledged, or out of order. */
};

int64_t demo_now_us(void);
/* The number at the start of a payload, or UINT32_MAX. */
uint32_t demo_number(const char *data, int bytes);
/* Connect to @node only. @is_steadfast: do not reconnect. */
natsStatus demo_connect(natsConnection **ret_conn, const struct demo_node *node, bool is_steadfast);

/* Thread bodies; the argument is the struct. */
void *demo_publish(void *publisher);
void *demo_consume(void *consumer);

/* Ask the monitoring port of @node about its replica. Return 0, or -1 with @error filled. */
int demo_replica_state(const struct demo_node *node, struct demo_replica *replica, char *error);
/* Read all its messages and compare with @ack_seqs of @count numbers. */
int demo_replica_dump(const struct demo_node *node, const uint64_t *ack_seqs, uint32_t count,
                      struct demo_replica *replica, char *error);
#endif
