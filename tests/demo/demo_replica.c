/* What the replicas hold: HTTP GET on a plain socket, http_parser for the answer, jansson for it.
 *
 * The dump is one JSON object a line, so it is judged while it comes in and never held whole. */
#include <assert.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <http_parser.h>
#include <jansson.h>

#include "tests/demo/demo.h"

#define HTTP_TIMEOUT_S 20
#define LINE_BYTES_MAX (1 << 20)

/* Called with each line of the body, without its end; the last line may have had none. */
typedef void (*line_cb)(void *arg, const char *line, size_t bytes);

struct http_get {
    char *line;
    size_t line_bytes;
    bool is_complete;
    bool is_too_long;
    line_cb cb;
    void *arg;
};

static void end_line(struct http_get *g)
{
    if (g->line_bytes > 0) {
        g->cb(g->arg, g->line, g->line_bytes);
        g->line_bytes = 0;
    }
}

static int on_body(http_parser *parser, const char *at, size_t length)
{
    struct http_get *g = parser->data;
    for (size_t i = 0; i < length; i++) {
        if (at[i] == '\n') {
            end_line(g);
        } else if (g->line_bytes == LINE_BYTES_MAX) {
            g->is_too_long = true;
            return -1;
        } else {
            g->line[g->line_bytes++] = at[i];
        }
    }
    return 0;
}

static int on_complete(http_parser *parser)
{
    struct http_get *g = parser->data;
    end_line(g);
    g->is_complete = true;
    return 0;
}

/* Connect to HOST:PORT; -1 with errno. */
static int dial(const char *address)
{
    char host[80];
    snprintf(host, sizeof host, "%s", address);
    char *colon = strrchr(host, ':');
    if (colon == NULL) {
        return -1;
    }
    *colon = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0) {
        return -1;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval timeout = {.tv_sec = HTTP_TIMEOUT_S};
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
        if (connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

/* GET @path and hand over the body's lines. 0, or -1 with @error filled. */
static int http_get(const char *address, const char *path, line_cb cb, void *arg, char *error)
{
    static const http_parser_settings settings = {.on_body = on_body,
                                                  .on_message_complete = on_complete};
    struct http_get g = {.cb = cb, .arg = arg};
    http_parser parser;
    http_parser_init(&parser, HTTP_RESPONSE);
    parser.data = &g;
    int fd = dial(address);
    if (fd < 0) {
        snprintf(error, DEMO_ERROR_BYTES, "%s does not answer", address);
        return -1;
    }
    g.line = malloc(LINE_BYTES_MAX);
    char *chunk = malloc(1 << 16);
    assert(g.line != NULL && chunk != NULL);

    int length = snprintf(
        chunk, 1 << 16, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, address);
    ssize_t n = send(fd, chunk, (size_t)length, MSG_NOSIGNAL);
    while (n > 0 && !g.is_complete) {
        n = recv(fd, chunk, 1 << 16, 0);
        size_t got = n > 0 ? (size_t)n : 0;
        if (n < 0 || http_parser_execute(&parser, &settings, chunk, got) != got) {
            break;
        }
    }
    close(fd);
    free(chunk);
    free(g.line);
    if (!g.is_complete || parser.status_code != 200) {
        snprintf(error, DEMO_ERROR_BYTES, "http://%s%s: status %u%s%s", address, path,
                 parser.status_code, g.is_complete ? "" : ", incomplete",
                 g.is_too_long ? ", a line too long" : "");
        return -1;
    }
    return 0;
}

struct text {
    char bytes[65536];
    size_t length;
};

static void collect(void *arg, const char *line, size_t bytes)
{
    struct text *t = arg;
    if (bytes < sizeof t->bytes - t->length) {
        memcpy(t->bytes + t->length, line, bytes);
        t->length += bytes;
    }
}

static uint64_t number_of(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* The object about the stream: the answer itself, or the one replica in its list. */
static const json_t *replica_of(const json_t *answer)
{
    const json_t *list = json_object_get(answer, "replicas");
    return json_is_array(list) ? json_array_get(list, 0) : answer;
}

int demo_replica_state(const struct demo_node *node, struct demo_replica *replica, char *error)
{
    struct text *text = calloc(1, sizeof *text);
    assert(text != NULL);
    int rv = http_get(node->monitoring, "/replicaz?stream=" DEMO_STREAM, collect, text, error);
    if (rv == 0) {
        json_t *answer = json_loadb(text->bytes, text->length, 0, NULL);
        const json_t *r = replica_of(answer);
        const json_t *hash = json_object_get(r, "hash");
        replica->messages = number_of(r, "messages");
        replica->first_seq = number_of(r, "first_seq");
        replica->last_seq = number_of(r, "last_seq");
        if (json_is_string(hash)) {
            snprintf(replica->hash, sizeof replica->hash, "%s", json_string_value(hash));
        } else if (json_is_integer(hash)) {
            snprintf(replica->hash, sizeof replica->hash, "%" JSON_INTEGER_FORMAT,
                     json_integer_value(hash));
        } else {
            snprintf(error, DEMO_ERROR_BYTES, "%s: /replicaz has no hash: %.120s", node->name,
                     text->bytes);
            rv = -1;
        }
        json_decref(answer);
    }
    free(text);
    return rv;
}

struct dump {
    const uint64_t *ack_seqs;
    uint32_t count;
    uint8_t *copies; /* By number, stops at 255. */
    uint64_t last_seq;
    struct demo_replica *replica;
};

/* The number in base64 text: only the first digits are decoded. */
static uint32_t number_in_base64(const char *text)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char data[17];
    int length = 0;
    uint32_t bits = 0;
    for (int i = 0; text[i] != '\0' && text[i] != '=' && length < 15; i++) {
        const char *at = strchr(alphabet, text[i]);
        if (at == NULL) {
            return UINT32_MAX;
        }
        bits = bits << 6 | (uint32_t)(at - alphabet);
        if (i % 4 == 1) {
            data[length++] = (char)(bits >> 4);
        } else if (i % 4 == 2) {
            data[length++] = (char)(bits >> 2);
        } else if (i % 4 == 3) {
            data[length++] = (char)bits;
        }
    }
    return demo_number(data, length);
}

static void judge_line(void *arg, const char *line, size_t bytes)
{
    struct dump *d = arg;
    json_t *message = json_loadb(line, bytes, 0, NULL);
    const char *data = json_string_value(json_object_get(message, "data"));
    uint64_t seq = number_of(message, "seq");
    uint32_t number = data != NULL ? number_in_base64(data) : UINT32_MAX;
    if (number >= d->count || seq <= d->last_seq || d->ack_seqs[number] != seq) {
        d->replica->misplaced++;
    }
    if (number < d->count) {
        d->replica->doubled += d->copies[number] == 1;
        if (d->copies[number] < UINT8_MAX) {
            d->copies[number]++;
        }
    }
    d->last_seq = seq;
    d->replica->stored++;
    json_decref(message);
}

int demo_replica_dump(const struct demo_node *node, const uint64_t *ack_seqs, uint32_t count,
                      struct demo_replica *replica, char *error)
{
    struct dump d = {.ack_seqs = ack_seqs, .count = count, .replica = replica};
    d.copies = calloc(count, 1);
    assert(d.copies != NULL);
    int rv = http_get(node->monitoring, "/replicaz?stream=" DEMO_STREAM "&dump=1", judge_line, &d,
                      error);
    for (uint32_t i = 0; i < count; i++) {
        replica->missing += ack_seqs[i] != 0 && d.copies[i] == 0;
    }
    free(d.copies);
    return rv;
}
