#include "tests/bench/conn.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HANDSHAKE_TIMEOUT_MS 10000

int64_t conn_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void conn_die(const char *what)
{
    fprintf(stderr, "load: %s%s%s\n", what, errno != 0 ? ": " : "",
            errno != 0 ? strerror(errno) : "");
    exit(1);
}

static int dial(const char *address)
{
    char host[128];
    snprintf(host, sizeof host, "%s", address);
    char *colon = strrchr(host, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (colon == NULL) {
        conn_die("an address is HOST:PORT");
    }
    *colon = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0) {
        conn_die("the host is not known");
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        conn_die("connect");
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    freeaddrinfo(found);
    return fd;
}

/* Read until a line that begins with @word has come in and is taken. */
static void expect_line(struct conn *c, const char *word)
{
    for (;;) {
        char *line = c->in + c->in_head;
        char *end = memchr(line, '\n', c->in_tail - c->in_head);
        if (end == NULL) {
            if (!conn_wait(c, HANDSHAKE_TIMEOUT_MS)) {
                conn_die("no answer to the handshake");
            }
            continue;
        }
        bool is_it = strncmp(line, word, strlen(word)) == 0;
        if (line[0] == '-') {
            fprintf(stderr, "load: %.*s\n", (int)(end - line), line);
            exit(1);
        }
        c->in_head += (size_t)(end - line) + 1;
        if (is_it) {
            return;
        }
    }
}

void conn_open(struct conn *c, const char *address)
{
    *c = (struct conn){.fd = dial(address)};
    c->in = malloc(CONN_INPUT_BYTES);
    c->out = malloc(CONN_OUTPUT_BYTES);
    assert(c->in != NULL && c->out != NULL);
    expect_line(c, "INFO");
    conn_printf(c, "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,"
                   "\"no_responders\":true,\"protocol\":1,\"lang\":\"c\"}\r\nPING\r\n");
    conn_flush(c);
    expect_line(c, "PONG");
}

void conn_sync(struct conn *c)
{
    conn_append(c, "PING\r\n", 6);
    conn_flush(c);
    expect_line(c, "PONG");
}

void conn_close(struct conn *c)
{
    conn_flush(c);
    close(c->fd);
    free(c->in);
    free(c->out);
}

size_t conn_room(const struct conn *c)
{
    return CONN_OUTPUT_BYTES - c->out_bytes;
}

void conn_append(struct conn *c, const void *data, size_t bytes)
{
    assert(bytes <= CONN_OUTPUT_BYTES);
    if (bytes > conn_room(c)) {
        conn_flush(c);
    }
    memcpy(c->out + c->out_bytes, data, bytes);
    c->out_bytes += bytes;
}

void conn_printf(struct conn *c, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    assert(length >= 0 && (size_t)length < sizeof text);
    conn_append(c, text, (size_t)length);
}

void conn_publish(struct conn *c, const char *subject, const char *reply, const char *payload,
                  size_t bytes)
{
    conn_printf(c, "PUB %s %s%s%zu\r\n", subject, reply != NULL ? reply : "",
                reply != NULL ? " " : "", bytes);
    conn_append(c, payload, bytes);
    conn_append(c, "\r\n", 2);
}

void conn_flush(struct conn *c)
{
    size_t sent = 0;
    while (sent < c->out_bytes) {
        ssize_t n = send(c->fd, c->out + sent, c->out_bytes - sent, MSG_NOSIGNAL);
        if (n < 0) {
            conn_die("send");
        }
        sent += (size_t)n;
    }
    c->out_bytes = 0;
}

bool conn_wait(struct conn *c, int timeout_ms)
{
    if (c->in_head == c->in_tail) {
        c->in_head = 0;
        c->in_tail = 0;
    } else if (CONN_INPUT_BYTES - c->in_tail < CONN_MESSAGE_BYTES_MAX) {
        memmove(c->in, c->in + c->in_head, c->in_tail - c->in_head);
        c->in_tail -= c->in_head;
        c->in_head = 0;
    }
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    if (poll(&p, 1, timeout_ms) <= 0) {
        return false;
    }
    ssize_t n = recv(c->fd, c->in + c->in_tail, CONN_INPUT_BYTES - c->in_tail, 0);
    if (n <= 0) {
        errno = n == 0 ? 0 : errno;
        conn_die("the server closed the connection");
    }
    c->in_tail += (size_t)n;
    return true;
}

/* Split a control line at its spaces; returns how many parts there are. */
static int split(const char *line, const char *end, const char *parts[6], size_t bytes[6])
{
    int count = 0;
    while (line < end && count < 6) {
        const char *space = memchr(line, ' ', (size_t)(end - line));
        const char *stop = space != NULL ? space : end;
        parts[count] = line;
        bytes[count++] = (size_t)(stop - line);
        line = stop + 1;
    }
    return count;
}

/* Parse the MSG or HMSG whose control line ends at @newline; false if its payload is not here yet.
 */
static bool parse_message(struct conn *c, const char *newline, struct conn_msg *m)
{
    const char *line = c->in + c->in_head;
    bool has_headers = line[0] == 'H';
    const char *parts[6];
    size_t bytes[6];
    int count = split(line, newline - 1, parts, bytes);
    int sizes = has_headers ? 2 : 1;
    if (count < 3 + sizes) {
        conn_die("a message line the client does not understand");
    }
    size_t total = strtoul(parts[count - 1], NULL, 10);
    size_t headers = has_headers ? strtoul(parts[count - 2], NULL, 10) : 0;
    const char *body = newline + 1;
    if ((size_t)(c->in + c->in_tail - body) < total + 2) {
        return false;
    }
    bool has_reply = count > 3 + sizes;
    *m = (struct conn_msg){
        .subject = parts[1],
        .subject_bytes = bytes[1],
        .reply = has_reply ? parts[3] : NULL,
        .reply_bytes = has_reply ? bytes[3] : 0,
        .headers = body,
        .headers_bytes = headers,
        .payload = body + headers,
        .payload_bytes = total - headers,
    };
    c->in_head = (size_t)(body - c->in) + total + 2;
    return true;
}

bool conn_next(struct conn *c, struct conn_msg *ret_msg)
{
    for (;;) {
        const char *line = c->in + c->in_head;
        const char *newline = memchr(line, '\n', c->in_tail - c->in_head);
        if (newline == NULL) {
            return false;
        }
        if (line[0] == 'M' || line[0] == 'H') {
            return parse_message(c, newline, ret_msg);
        }
        if (strncmp(line, "PING", 4) == 0) {
            conn_append(c, "PONG\r\n", 6);
            conn_flush(c);
        } else if (line[0] == '-') {
            fprintf(stderr, "load: %.*s\n", (int)(newline - line), line);
        }
        c->in_head += (size_t)(newline - line) + 1;
    }
}

bool conn_is_ack(const struct conn_msg *m)
{
    return m->payload_bytes > 0 && memmem(m->payload, m->payload_bytes, "\"seq\"", 5) != NULL &&
           memmem(m->payload, m->payload_bytes, "\"error\"", 7) == NULL;
}

uint64_t conn_token(const struct conn_msg *m)
{
    const char *dot = memrchr(m->subject, '.', m->subject_bytes);
    return dot != NULL ? strtoull(dot + 1, NULL, 10) : 0;
}
