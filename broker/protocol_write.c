#include "broker/protocol.h"

#include <assert.h>
#include <stdio.h>

#include "broker/headers.h"

struct error_entry {
    const char *text;
    const char *reason;
    bool closes;
};

static const struct error_entry errors[] = {{"", "", false},
#define ERROR_ENTRY(name, text, closes, reason) {text, reason, closes},
                                            PROTOCOL_ERROR_MAP(ERROR_ENTRY)
#undef ERROR_ENTRY
};

static const struct error_entry *error_entry(enum protocol_error e)
{
    assert((size_t)e < sizeof errors / sizeof errors[0]);
    return &errors[e];
}

const char *protocol_error_text(enum protocol_error e)
{
    return error_entry(e)->text;
}

const char *protocol_error_reason(enum protocol_error e)
{
    return error_entry(e)->closes ? error_entry(e)->reason : "";
}

void protocol_write_info(struct buf *out, struct slice json)
{
    buf_append_str(out, "INFO ");
    buf_append_slice(out, json);
    buf_append_str(out, " \r\n");
}

void protocol_write_ping(struct buf *out)
{
    buf_append(out, "PING\r\n", 6);
}

void protocol_write_pong(struct buf *out)
{
    buf_append(out, "PONG\r\n", 6);
}

void protocol_write_ok(struct buf *out)
{
    buf_append(out, "+OK\r\n", 5);
}

void protocol_write_err(struct buf *out, const char *text)
{
    buf_append_str(out, "-ERR '");
    buf_append_str(out, text);
    buf_append_str(out, "'\r\n");
}

static uint8_t *put(uint8_t *at, struct slice s)
{
    if (s.len > 0) {
        memcpy(at, s.ptr, s.len);
    }
    return at + s.len;
}

static uint8_t *put_size(uint8_t *at, size_t n)
{
    uint8_t digits[20];
    size_t len = 0;
    do {
        digits[len++] = (uint8_t)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    while (len > 0) {
        *at++ = digits[--len];
    }
    return at;
}

/* By hand rather than by printf: it runs once for each delivery. */
void protocol_write_msg_line(struct buf *out, struct slice subject, struct slice sid,
                             struct slice reply, bool has_header, size_t header_len,
                             size_t total_len)
{
    uint8_t *begin = buf_reserve(out, 5 + subject.len + sid.len + reply.len + 3 + 2 * 21 + 2);
    uint8_t *at = put(begin, has_header ? SLICE_LIT("HMSG ") : SLICE_LIT("MSG "));
    at = put(at, subject);
    *at++ = ' ';
    at = put(at, sid);
    *at++ = ' ';
    if (reply.len > 0) {
        at = put(at, reply);
        *at++ = ' ';
    }
    if (has_header) {
        at = put_size(at, header_len);
        *at++ = ' ';
    }
    at = put_size(at, total_len);
    *at++ = '\r';
    *at++ = '\n';
    out->len += (size_t)(at - begin);
    assert(out->len <= out->cap);
}

void protocol_write_msg(struct buf *out, struct slice subject, struct slice sid, struct slice reply,
                        struct slice header, struct slice payload)
{
    protocol_write_msg_line(out, subject, sid, reply, header.len > 0, header.len,
                            header.len + payload.len);
    uint8_t *begin = buf_reserve(out, header.len + payload.len + 2);
    uint8_t *at = put(put(begin, header), payload);
    at[0] = '\r';
    at[1] = '\n';
    out->len += header.len + payload.len + 2;
}

void protocol_write_no_responders(struct buf *out, struct slice reply, struct slice sid,
                                  struct slice subject)
{
    struct buf block = BUF_EMPTY;
    buf_append_str(&block, "NATS/1.0 503\r\nNats-Subject: ");
    buf_append_slice(&block, subject);
    buf_append_str(&block, "\r\n\r\n");
    protocol_write_msg(out, reply, sid, SLICE_EMPTY, buf_slice(&block), SLICE_EMPTY);
    buf_close(&block);
}

void protocol_write_violation(struct buf *out, enum protocol_violation v, struct slice subject,
                              struct slice queue)
{
    buf_append_str(out, "-ERR 'Permissions Violation for ");
    switch (v) {
    case PROTOCOL_VIOLATION_PUBLISH:
        buf_append_str(out, "Publish to ");
        break;
    case PROTOCOL_VIOLATION_REPLY:
        buf_append_str(out, "Publish with Reply of ");
        break;
    case PROTOCOL_VIOLATION_SUBSCRIBE:
    case PROTOCOL_VIOLATION_TOKENS:
        buf_append_str(out, "Subscription to ");
        break;
    }
    protocol_quote(out, subject);
    if (v == PROTOCOL_VIOLATION_SUBSCRIBE && queue.len > 0) {
        buf_append_str(out, " using queue ");
        protocol_quote(out, queue);
    } else if (v == PROTOCOL_VIOLATION_TOKENS) {
        buf_append_str(out, ", too many tokens");
    }
    buf_append_str(out, "'\r\n");
}

/* The length of the well-formed UTF-8 sequence at the start of @s, 0 when it is not one
 * (Unicode, table 3-7). */
static size_t utf8_len(struct slice s, uint32_t *ret_rune)
{
    uint8_t c = s.ptr[0];
    size_t len = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : 0;
    if (len == 0 && c >= 0xf0 && c < 0xf5) {
        len = 4;
    }
    if (len == 0 || s.len < len) {
        return 0;
    }
    uint32_t rune = len == 1 ? c : c & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((s.ptr[i] & 0xc0) != 0x80) {
            return 0;
        }
        rune = rune << 6 | (s.ptr[i] & 0x3fu);
    }
    static const uint32_t rune_min[] = {0, 0, 0x80, 0x800, 0x10000};
    if (rune < rune_min[len] || rune > 0x10ffff || (rune >= 0xd800 && rune <= 0xdfff)) {
        return 0;
    }
    *ret_rune = rune;
    return len;
}

/* Printable runes above ASCII stay as they are, without Go's table of which are printable: only
 * the C1 controls and the separators clients trip over are escaped. */
void protocol_quote(struct buf *out, struct slice s)
{
    static const char escaped[] = "\a\b\f\n\r\t\v\\\"";
    static const char letters[] = "abfnrtv\\\"";
    buf_append_u8(out, '"');
    while (s.len > 0) {
        uint32_t rune = 0;
        size_t len = utf8_len(s, &rune);
        const char *esc = rune != 0 && rune < 0x80 ? strchr(escaped, (int)rune) : NULL;
        if (len == 0) {
            buf_printf(out, "\\x%02x", s.ptr[0]);
            len = 1;
        } else if (esc != NULL) {
            buf_append_u8(out, '\\');
            buf_append_u8(out, (uint8_t)letters[esc - escaped]);
        } else if (rune < 0x20 || rune == 0x7f) {
            buf_printf(out, "\\x%02x", rune);
        } else if ((rune >= 0x80 && rune <= 0xa0) || rune == 0xad || rune == 0x2028 ||
                   rune == 0x2029 || rune == 0xfeff) {
            buf_printf(out, "\\u%04x", rune);
        } else {
            buf_append(out, s.ptr, len);
        }
        s = slice_from(s, len);
    }
    buf_append_u8(out, '"');
}
