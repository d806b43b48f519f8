/* A NATS connection on a raw blocking socket, cheap enough to leave the CPU to the servers.
 *
 * For the benchmark only: it trusts its server, and a lost connection ends the program. Messages
 * are parsed in place in the read buffer. Not shared between threads. */
#ifndef TESTS_BENCH_CONN_H
#define TESTS_BENCH_CONN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONN_INPUT_BYTES (4u << 20)
#define CONN_OUTPUT_BYTES (1u << 20)
#define CONN_MESSAGE_BYTES_MAX (1u << 20)

struct conn {
    int fd;
    char *in;
    size_t in_head; /* Parsed up to here. */
    size_t in_tail; /* Filled up to here. */
    char *out;
    size_t out_bytes; /* Written with conn_flush. */
};

/* A message in the read buffer: valid until the next conn_wait. */
struct conn_msg {
    const char *subject;
    size_t subject_bytes;
    const char *reply;
    size_t reply_bytes; /* 0: none. */
    const char *headers;
    size_t headers_bytes;
    const char *payload;
    size_t payload_bytes;
};

int64_t conn_now_us(void);
/* Report to stderr and end the program. */
void conn_die(const char *what) __attribute__((noreturn));

/* Connect to HOST:PORT, with headers and no responders, and wait for the PONG. */
void conn_open(struct conn *c, const char *address);
void conn_close(struct conn *c);
/* Wait until the server has parsed everything sent. For connections that get no messages: a close
 * with unread input would take back what was sent. */
void conn_sync(struct conn *c);

/* Append to the output; it is sent when it is full or by conn_flush. */
void conn_append(struct conn *c, const void *data, size_t bytes);
void conn_printf(struct conn *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void conn_publish(struct conn *c, const char *subject, const char *reply, const char *payload,
                  size_t bytes);
void conn_flush(struct conn *c);
/* Bytes that fit before the output is sent by itself. */
size_t conn_room(const struct conn *c);

/* Take the next message that is complete in the buffer; false if there is none. Answers PINGs and
 * shows -ERR on stderr. */
bool conn_next(struct conn *c, struct conn_msg *ret_msg);
/* Wait at most @timeout_ms for input and read it; false if none came. */
bool conn_wait(struct conn *c, int timeout_ms);

/* Whether a message is an answer of JetStream that reports success. */
bool conn_is_ack(const struct conn_msg *msg);
/* The number after the last dot of the message's subject. */
uint64_t conn_token(const struct conn_msg *msg);
#endif
