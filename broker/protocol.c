/* The parser is a small machine over the unconsumed input:
 *
 *   START ──verb──> SPACES ──first other byte──> ARG ──\n──> event, or BODY ──payload──> event
 *     └──verb of PING, PONG, +OK──> SKIP ──\n──> event
 *
 * In START, ARG and BODY the tail is kept; in SPACES and SKIP bytes are consumed as they come, so
 * that they cost no memory. From ARG on the tail begins at the argument, and offsets count from
 * there. */
#include "broker/protocol.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

enum { STATE_START, STATE_SPACES, STATE_ARG, STATE_BODY, STATE_SKIP, STATE_FAILED };

enum { ARGS_MAX = 5 }; /* One more than any verb takes: so many is too many. */

/* What must follow the letters. */
enum after { AFTER_SEPARATOR, AFTER_ANYTHING, AFTER_SKIPPED };

struct verb {
    const char *letters; /* Lower case. */
    uint8_t len;
    uint8_t type;
    uint8_t after;
};

static const struct verb verbs[] = {
    {"pub", 3, PROTOCOL_PUB, AFTER_SEPARATOR},        {"hpub", 4, PROTOCOL_HPUB, AFTER_SEPARATOR},
    {"ping", 4, PROTOCOL_PING, AFTER_SKIPPED},        {"pong", 4, PROTOCOL_PONG, AFTER_SKIPPED},
    {"sub", 3, PROTOCOL_SUB, AFTER_SEPARATOR},        {"unsub", 5, PROTOCOL_UNSUB, AFTER_SEPARATOR},
    {"connect", 7, PROTOCOL_CONNECT, AFTER_ANYTHING}, {"info", 4, PROTOCOL_INFO, AFTER_ANYTHING},
    {"+ok", 3, PROTOCOL_OK, AFTER_SKIPPED},           {"-err", 4, PROTOCOL_ERR, AFTER_SEPARATOR},
};

void protocol_init(struct protocol *p, uint32_t control_line_max, int64_t payload_max)
{
    *p = (struct protocol){.control_line_max = control_line_max, .payload_max = payload_max};
}

size_t protocol_need(const struct protocol *p)
{
    return p->state == STATE_BODY ? p->need_bytes : 0;
}

static inline bool is_separator(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static inline bool is_between(uint8_t c, bool is_line_separator)
{
    return is_separator(c) || (is_line_separator && (c == '\r' || c == '\n'));
}

static inline uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

int64_t protocol_parse_size(struct slice s)
{
    if (s.len == 0 || s.len > PROTOCOL_SIZE_DIGITS_MAX) {
        return -1;
    }
    int64_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return -1;
        }
        n = n * 10 + (s.ptr[i] - '0');
    }
    return n;
}

static enum protocol_event_type fail(struct protocol *p, struct protocol_event *ev,
                                     enum protocol_error error)
{
    p->state = STATE_FAILED;
    ev->error = error;
    return PROTOCOL_FAILED;
}

/* Where the first byte from @at on stands that is_between() names, or @end. Eight bytes at a time
 * as long as none of them is a space or less: then a borrow sets the top bit of the first such
 * byte, and what it does to those behind it does not matter. */
static inline const uint8_t *find_between(const uint8_t *at, const uint8_t *end,
                                          bool is_line_separator)
{
    const uint64_t ones = UINT64_MAX / 255;
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        word = le64toh(word);
        uint64_t low = (word - ones * (' ' + 1)) & ~word & (ones << 7);
        if (low == 0) {
            at += 8;
            continue;
        }
        at += __builtin_ctzll(low) / 8;
        if (is_between(*at, is_line_separator)) {
            return at;
        }
        at++;
    }
    while (at < end && !is_between(*at, is_line_separator)) {
        at++;
    }
    return at;
}

/* Split at runs of spaces and tabs, and for SUB and UNSUB of \r and \n as nats-server does. Returns
 * the number of arguments, ARGS_MAX when there are that many or more. */
static inline unsigned split(struct slice arg, bool is_line_separator, struct slice args[ARGS_MAX])
{
    unsigned n = 0;
    const uint8_t *at = arg.ptr;
    const uint8_t *end = arg.ptr + arg.len;
    while (n < ARGS_MAX) {
        while (at < end && is_between(*at, is_line_separator)) {
            at++;
        }
        if (at == end) {
            break;
        }
        const uint8_t *begin = at;
        at = find_between(at, end, is_line_separator);
        args[n++] = slice_of(begin, (size_t)(at - begin));
    }
    return n;
}

/* The line of PUB or HPUB is whole: check it and go on to the payload. */
static enum protocol_error begin_body(struct protocol *p, struct slice arg, size_t body_off)
{
    struct slice args[ARGS_MAX];
    unsigned n = split(arg, false, args);
    unsigned sizes = p->verb == PROTOCOL_HPUB ? 2 : 1;
    if (sizes == 2 && !p->has_headers) {
        return PROTOCOL_ERROR_HEADERS_NOT_SUPPORTED;
    }
    if (n < 1 + sizes || n > 2 + sizes) {
        return PROTOCOL_ERROR_MALFORMED;
    }
    int64_t total = protocol_parse_size(args[n - 1]);
    int64_t header = sizes == 2 ? protocol_parse_size(args[n - 2]) : 0;
    if (total < 0 || header < 0 || header > total) {
        return PROTOCOL_ERROR_MALFORMED;
    }
    if (p->payload_max >= 0 && total > p->payload_max) {
        return PROTOCOL_ERROR_PAYLOAD;
    }
    bool has_reply = n == 2 + sizes;
    p->subject_off = (uint32_t)(args[0].ptr - arg.ptr);
    p->subject_len = (uint32_t)args[0].len;
    p->reply_off = has_reply ? (uint32_t)(args[1].ptr - arg.ptr) : 0;
    p->reply_len = has_reply ? (uint32_t)args[1].len : 0;
    p->header_len = (uint32_t)header;
    p->total_len = (uint32_t)total;
    p->body_off = body_off;
    p->need_bytes = body_off + (size_t)total + 2;
    p->state = STATE_BODY;
    return PROTOCOL_ERROR_NONE;
}

/* @in begins at the argument; @ev->consumed_bytes is where that is. */
static enum protocol_event_type take_body(struct protocol *p, struct slice in,
                                          struct protocol_event *ev)
{
    size_t end = p->body_off + p->total_len;
    /* A wrong end is refused as soon as it is seen, not when the next byte comes. */
    if ((in.len > end && in.ptr[end] != '\r') || (in.len > end + 1 && in.ptr[end + 1] != '\n')) {
        return fail(p, ev, PROTOCOL_ERROR_UNKNOWN_OPERATION);
    }
    if (in.len < p->need_bytes) {
        return PROTOCOL_NEED_MORE;
    }
    ev->subject = slice_of(in.ptr + p->subject_off, p->subject_len);
    ev->reply = slice_of(in.ptr + p->reply_off, p->reply_len);
    ev->header = slice_of(in.ptr + p->body_off, p->header_len);
    ev->payload = slice_of(in.ptr + p->body_off + p->header_len, p->total_len - p->header_len);
    ev->consumed_bytes += p->need_bytes;
    p->state = STATE_START;
    return (enum protocol_event_type)p->verb;
}

static enum protocol_event_type take_sub(struct protocol *p, struct slice arg,
                                         struct protocol_event *ev)
{
    struct slice args[ARGS_MAX];
    unsigned n = split(arg, true, args);
    if (n != 2 && n != 3) {
        return fail(p, ev, PROTOCOL_ERROR_MALFORMED);
    }
    ev->subject = args[0];
    ev->queue = n == 3 ? args[1] : SLICE_EMPTY;
    ev->sid = args[n - 1];
    return PROTOCOL_SUB;
}

static enum protocol_event_type take_unsub(struct protocol *p, struct slice arg,
                                           struct protocol_event *ev)
{
    struct slice args[ARGS_MAX];
    unsigned n = split(arg, true, args);
    if (n != 1 && n != 2) {
        return fail(p, ev, PROTOCOL_ERROR_MALFORMED);
    }
    ev->sid = args[0];
    ev->unsub_max = n == 2 ? protocol_parse_size(args[1]) : -1;
    return PROTOCOL_UNSUB;
}

/* @in begins at the argument. Its first byte belongs to it whatever it is: nats-server looks for
 * the end of the line after that one. */
static enum protocol_event_type take_arg(struct protocol *p, struct slice in,
                                         struct protocol_event *ev)
{
    size_t from = p->scanned_bytes > 0 ? p->scanned_bytes : 1;
    const uint8_t *nl = in.len > from ? memchr(in.ptr + from, '\n', in.len - from) : NULL;
    size_t line_len = nl != NULL ? (size_t)(nl - in.ptr) : in.len;
    size_t arg_len = line_len;
    if (arg_len > 1 && in.ptr[arg_len - 1] == '\r') {
        arg_len--;
    }
    if (arg_len > p->control_line_max) {
        return fail(p, ev, PROTOCOL_ERROR_CONTROL_LINE);
    }
    if (nl == NULL) {
        p->scanned_bytes = in.len;
        return PROTOCOL_NEED_MORE;
    }
    struct slice arg = slice_of(in.ptr, arg_len);
    if (p->verb == PROTOCOL_PUB || p->verb == PROTOCOL_HPUB) {
        enum protocol_error error = begin_body(p, arg, line_len + 1);
        return error == PROTOCOL_ERROR_NONE ? take_body(p, in, ev) : fail(p, ev, error);
    }
    p->state = STATE_START;
    ev->consumed_bytes += line_len + 1;
    switch (p->verb) {
    case PROTOCOL_SUB:
        return take_sub(p, arg, ev);
    case PROTOCOL_UNSUB:
        return take_unsub(p, arg, ev);
    default: /* CONNECT, INFO, -ERR. */
        ev->arg = arg;
        return (enum protocol_event_type)p->verb;
    }
}

static enum protocol_event_type take_skipped(struct protocol *p, struct slice in,
                                             struct protocol_event *ev)
{
    const uint8_t *nl = in.len > 0 ? memchr(in.ptr, '\n', in.len) : NULL;
    if (nl == NULL) {
        ev->consumed_bytes += in.len;
        return PROTOCOL_NEED_MORE;
    }
    ev->consumed_bytes += (size_t)(nl - in.ptr) + 1;
    p->state = STATE_START;
    return (enum protocol_event_type)p->verb;
}

static enum protocol_event_type take_spaces(struct protocol *p, struct slice in,
                                            struct protocol_event *ev)
{
    size_t n = 0;
    while (n < in.len && is_separator(in.ptr[n])) {
        n++;
    }
    ev->consumed_bytes += n;
    if (n == in.len) {
        return PROTOCOL_NEED_MORE;
    }
    p->state = STATE_ARG;
    p->scanned_bytes = 0;
    return take_arg(p, slice_from(in, n), ev);
}

/* Find the verb at the start of @in. Returns false when @in ends first but may still become one;
 * NULL in @ret_verb when it is none: a wrong letter is refused at once, not at the line's end. */
static bool find_verb(struct slice in, const struct verb **ret_verb)
{
    bool is_prefix = false;
    for (size_t v = 0; v < sizeof verbs / sizeof verbs[0]; v++) {
        const struct verb *verb = &verbs[v];
        size_t i = 0;
        while (i < verb->len && i < in.len && lower(in.ptr[i]) == (uint8_t)verb->letters[i]) {
            i++;
        }
        if (i == verb->len) {
            if (verb->after != AFTER_SEPARATOR) {
                *ret_verb = verb;
                return true;
            }
            if (in.len == i) {
                return false;
            }
            *ret_verb = is_separator(in.ptr[i]) ? verb : NULL;
            return true;
        }
        is_prefix = is_prefix || i == in.len;
    }
    *ret_verb = NULL;
    return !is_prefix;
}

static enum protocol_event_type take_verb(struct protocol *p, struct slice in,
                                          struct protocol_event *ev)
{
    if (in.len == 0) {
        return PROTOCOL_NEED_MORE;
    }
    if (p->is_auth_pending && lower(in.ptr[0]) != 'c') {
        return fail(p, ev, PROTOCOL_ERROR_AUTHORIZATION);
    }
    const struct verb *verb;
    if (!find_verb(in, &verb)) {
        return PROTOCOL_NEED_MORE;
    }
    if (verb == NULL) {
        return fail(p, ev, PROTOCOL_ERROR_UNKNOWN_OPERATION);
    }
    p->verb = verb->type;
    ev->consumed_bytes += verb->len;
    struct slice rest = slice_from(in, verb->len);
    if (verb->after == AFTER_SKIPPED) {
        p->state = STATE_SKIP;
        return take_skipped(p, rest, ev);
    }
    p->state = STATE_SPACES;
    return take_spaces(p, rest, ev);
}

enum protocol_event_type protocol_next(struct protocol *p, struct slice input,
                                       struct protocol_event *ev)
{
    ev->consumed_bytes = 0;
    ev->error = PROTOCOL_ERROR_NONE;
    switch (p->state) {
    case STATE_START:
        return take_verb(p, input, ev);
    case STATE_SPACES:
        return take_spaces(p, input, ev);
    case STATE_ARG:
        return take_arg(p, input, ev);
    case STATE_BODY:
        return take_body(p, input, ev);
    case STATE_SKIP:
        return take_skipped(p, input, ev);
    default:
        assert(!"protocol_next after PROTOCOL_FAILED");
        return PROTOCOL_FAILED;
    }
}
