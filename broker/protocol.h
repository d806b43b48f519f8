/* The NATS client protocol, the server's side: a parser that works in the caller's read buffer,
 * and writers that append to a struct buf.
 *
 * The caller reads bytes into one contiguous buffer per connection and calls protocol_next on
 * what is unconsumed until it says PROTOCOL_NEED_MORE:
 *
 *     size_t used = 0;
 *     for (;;) {
 *         type = protocol_next(&p, slice_of(buf + used, len - used), &ev);
 *         used += ev.consumed_bytes;
 *         if (type == PROTOCOL_NEED_MORE || type == PROTOCOL_FAILED) break;
 *         handle(&ev);
 *     }
 *     memmove(buf, buf + used, len -= used); // The tail: the next read appends to it.
 *
 * An unfinished operation stays whole in the tail, and the parser remembers how far it looked, so
 * each byte is scanned once however the stream is cut. While a payload arrives, protocol_need()
 * says how long the tail becomes, so that the caller can make room once; it is bounded by
 * control_line_max + payload_max + 16.
 *
 * Rules: verbs in any case; space and tab separate; a line ends in \n and one \r before it is
 * dropped; sizes have at most nine digits; a payload ends in exactly \r\n. Lengths are refused
 * before their bytes are read. Single-threaded, no allocation but in the writers' struct buf. */
#ifndef BROKER_PROTOCOL_H
#define BROKER_PROTOCOL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/buf.h"
#include "storage/base/slice.h"

#define PROTOCOL_CONTROL_LINE_MAX_DEFAULT 4096u
#define PROTOCOL_PAYLOAD_MAX_DEFAULT (1024u * 1024u)
#define PROTOCOL_SIZE_DIGITS_MAX 9 /* So a size fits in 30 bits. */

enum protocol_event_type {
    PROTOCOL_NEED_MORE, /* Keep the tail, append a read, call again. */
    PROTOCOL_FAILED,    /* See ev.error; the connection is over, do not call again. */
    PROTOCOL_CONNECT,   /* ev.arg: the JSON text. */
    PROTOCOL_INFO,      /* ev.arg: the JSON text; a server ignores it. */
    PROTOCOL_PUB,       /* ev.subject, reply, payload; header is empty. */
    PROTOCOL_HPUB,      /* The same; ev.header is the block, ev.payload what follows it. */
    PROTOCOL_SUB,       /* ev.subject, queue (may be empty), sid. The subject is not checked. */
    PROTOCOL_UNSUB,     /* ev.sid, ev.unsub_max. */
    PROTOCOL_PING,
    PROTOCOL_PONG,
    PROTOCOL_OK,  /* A server ignores it. */
    PROTOCOL_ERR, /* ev.arg: the text; a server logs it and closes (Parse Error). */
};

/* Everything a client can be told by -ERR, whether that ends the connection, and the reason that
 * connz shows. An empty text: closed without -ERR. Texts that carry a subject are made by
 * protocol_write_violation. X(name, text, closes, reason) */
#define PROTOCOL_ERROR_MAP(X)                                                                      \
    X(UNKNOWN_OPERATION, "Unknown Protocol Operation", true, "Protocol Violation")                 \
    X(MALFORMED, "", true, "Protocol Violation")                                                   \
    X(HEADERS_NOT_SUPPORTED, "", true, "Message Header Violation")                                 \
    X(CONTROL_LINE, "maximum control line exceeded", true, "Maximum Control Line Exceeded")        \
    X(PAYLOAD, "Maximum Payload Violation", true, "Maximum Message Payload Exceeded")              \
    X(AUTHORIZATION, "Authorization Violation", true, "Authentication Failure")                    \
    X(AUTH_TIMEOUT, "Authentication Timeout", true, "Authentication Timeout")                      \
    X(CONNECTIONS, "maximum connections exceeded", true, "Maximum Connections Exceeded")           \
    X(ACCOUNT_CONNECTIONS, "maximum account active connections exceeded", true,                    \
      "Maximum Account Connections Exceeded")                                                      \
    X(SUBSCRIPTIONS, "maximum subscriptions exceeded", false, "Maximum Subscriptions Exceeded")    \
    X(PUBLISH_SUBJECT, "Invalid Publish Subject", false, "")                                       \
    X(SUBJECT, "Invalid Subject", false, "")                                                       \
    X(STALE, "Stale Connection", true, "Stale Connection")                                         \
    X(PROTOCOL_VERSION, "invalid client protocol", true, "Bad Client Protocol Version")            \
    X(NO_RESPONDERS, "no responders requires headers support", true,                               \
      "No Responders Requires Headers")                                                            \
    X(TLS_REQUIRED, "Secure Connection - TLS Required", true, "TLS Handshake Failure")             \
    X(CLIENT_ERR, "", true, "Parse Error")                                                         \
    X(SLOW_PENDING, "", true, "Slow Consumer (Pending Bytes)")                                     \
    X(SLOW_DEADLINE, "", true, "Slow Consumer (Write Deadline)")                                   \
    X(READ, "", true, "Read Error")                                                                \
    X(WRITE, "", true, "Write Error")                                                              \
    X(CLIENT_CLOSED, "", true, "Client Closed")                                                    \
    X(SHUTDOWN, "", true, "Server Shutdown")

enum protocol_error {
    PROTOCOL_ERROR_NONE,
#define PROTOCOL_ERROR_ENUM(name, text, closes, reason) PROTOCOL_ERROR_##name,
    PROTOCOL_ERROR_MAP(PROTOCOL_ERROR_ENUM)
#undef PROTOCOL_ERROR_ENUM
};

/* The text for protocol_write_err; "" when the connection closes without one. */
const char *protocol_error_text(enum protocol_error e);
/* The closed reason as connz shows it; "" when the error does not close. */
const char *protocol_error_reason(enum protocol_error e);

/* What one operation was. All slices point into the input and hold until the caller moves it. */
struct protocol_event {
    size_t consumed_bytes; /* Of the input; set for every type, NEED_MORE included. */
    struct slice arg;
    struct slice subject;
    struct slice reply; /* Empty when there is none. */
    struct slice queue; /* Empty when there is none. */
    struct slice sid;   /* An opaque token. */
    struct slice header;
    struct slice payload;
    int64_t unsub_max; /* -1 when absent or invalid: unsubscribe now. */
    enum protocol_error error;
};

/* One connection's parser. Embed it; it owns nothing. */
struct protocol {
    uint32_t control_line_max; /* Argument bytes of one line, without the verb. */
    int64_t payload_max;       /* Headers and body; -1 for no limit. The caller may change it. */
    bool is_auth_pending; /* Anything but CONNECT fails as AUTHORIZATION. The caller clears it. */
    bool has_headers;     /* HPUB is allowed: the caller sets it from CONNECT. */

    /* Private. Offsets are from the start of the tail. */
    uint8_t state;
    uint8_t verb;         /* enum protocol_event_type of the operation in hand. */
    uint32_t arg_off;     /* Where the argument begins. */
    size_t scanned_bytes; /* No \n before here. */
    size_t body_off;      /* Where the payload begins. */
    size_t need_bytes;    /* Length of the whole operation, when it is known; else 0. */
    uint32_t subject_off, subject_len;
    uint32_t reply_off, reply_len;
    uint32_t header_len, total_len;
};

/* Begin a connection: nothing pending, headers off, auth not pending. @payload_max -1: none. */
void protocol_init(struct protocol *p, uint32_t control_line_max, int64_t payload_max);

/* Parse the next operation of @input, which begins where the last call's consumed_bytes left off.
 * Fills @ev (only the fields its type names, and consumed_bytes). */
enum protocol_event_type protocol_next(struct protocol *p, struct slice input,
                                       struct protocol_event *ev);

/* Bytes the tail must have before the operation in hand is whole, or 0 when that is not known
 * yet. Calling protocol_next before costs little and gives NEED_MORE. */
size_t protocol_need(const struct protocol *p);

/* At most nine decimal digits and nothing else, else -1. */
int64_t protocol_parse_size(struct slice s);

/* ---- Writers: append to @out exactly what goes on the wire. ---- */

void protocol_write_info(struct buf *out, struct slice json); /* `INFO {json} \r\n` */
void protocol_write_ping(struct buf *out);
void protocol_write_pong(struct buf *out);
void protocol_write_ok(struct buf *out);
void protocol_write_err(struct buf *out, const char *text); /* `-ERR 'text'\r\n` */

/* The control line of MSG, or of HMSG when @has_header; @header_len and @total_len as on the
 * wire (total includes the header). The payload and \r\n are up to the caller. */
void protocol_write_msg_line(struct buf *out, struct slice subject, struct slice sid,
                             struct slice reply, bool has_header, size_t header_len,
                             size_t total_len);
/* A whole message: HMSG when @header is not empty, else MSG. */
void protocol_write_msg(struct buf *out, struct slice subject, struct slice sid, struct slice reply,
                        struct slice header, struct slice payload);
/* The answer to a request that nobody receives: to @reply, about @subject. */
void protocol_write_no_responders(struct buf *out, struct slice reply, struct slice sid,
                                  struct slice subject);

enum protocol_violation {
    PROTOCOL_VIOLATION_PUBLISH,   /* ...for Publish to "S" */
    PROTOCOL_VIOLATION_REPLY,     /* ...for Publish with Reply of "S" */
    PROTOCOL_VIOLATION_SUBSCRIBE, /* ...for Subscription to "S"[ using queue "Q"] */
    PROTOCOL_VIOLATION_TOKENS,    /* ...for Subscription to "S", too many tokens */
};
/* -ERR 'Permissions Violation ...' with the subject quoted as Go's %q does. */
void protocol_write_violation(struct buf *out, enum protocol_violation v, struct slice subject,
                              struct slice queue);
/* Append @s in double quotes, escaped as Go's strconv.Quote does (invalid UTF-8 as \x..). */
void protocol_quote(struct buf *out, struct slice s);
#endif
