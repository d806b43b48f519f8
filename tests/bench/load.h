/* The load client's parts. Each runs one measurement and prints one line of JSON. */
#ifndef TESTS_BENCH_LOAD_H
#define TESTS_BENCH_LOAD_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LOAD_SUBSCRIBERS_MAX 64
#define LOAD_STALL_MS 20000 /* Without any answer, before a measurement gives up. */

struct load_options {
    const char *server;
    const char *subject;
    const char *body;
    const char *stream;
    const char *consumer;
    uint64_t messages_count;
    size_t payload_bytes;
    uint64_t window;
    int64_t seconds; /* Stop sending after so long; 0: no limit. */
    int subscribers_count;
    uint64_t batch;
    pid_t victim;
    uint64_t per_s; /* Of load_steady. */
};

/* One request; prints the reply's payload. Non-zero exit when none came. */
int load_request(const struct load_options *o);
/* JetStream publishes with @window in flight, each ack awaited; window 1 is synchronous. */
int load_publish(const struct load_options *o);
/* Pull @messages_count from a durable, ack each; the last ack is confirmed. */
int load_pull(const struct load_options *o);
/* One publisher and @subscribers_count subscribers of one subject, each with its connection. */
int load_core(const struct load_options *o);
/* A publish each millisecond; kill @victim after a second; print the longest time without an ack.
 */
int load_gap(const struct load_options *o);
/* @per_s publishes a second, whether or not acks come, for @seconds or until SIGTERM. At the end a
 * line for each: when it was sent, on the monotonic clock, and how long its ack took, both in us;
 * 0: it was refused, or not answered. */
int load_steady(const struct load_options *o);
#endif
