#include "cluster/client_trace.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

#include <jansson.h>

#include "storage/base/buf.h"
#include "storage/base/log.h"

#define TRACE_BYTES_MAX 1500 /* Of a line and of a payload; what is longer is cut. */

/* As Go's %q. */
static void quote(struct buf *out, struct slice s)
{
    size_t len = s.len < TRACE_BYTES_MAX ? s.len : TRACE_BYTES_MAX;
    buf_append_u8(out, '"');
    for (size_t i = 0; i < len; i++) {
        uint8_t c = s.ptr[i];
        if (c == '"' || c == '\\') {
            buf_printf(out, "\\%c", c);
        } else if (c == '\r' || c == '\n' || c == '\t') {
            buf_append_str(out, c == '\r' ? "\\r" : c == '\n' ? "\\n" : "\\t");
        } else if (c < 0x20 || c >= 0x7f) {
            buf_printf(out, "\\x%02x", c);
        } else {
            buf_append_u8(out, c);
        }
    }
    buf_append_str(out, len < s.len ? "\"..." : "\"");
}

/* Bytes that a terminal would obey become dots. */
static void append_line(struct buf *out, struct slice line)
{
    size_t len = line.len < TRACE_BYTES_MAX ? line.len : TRACE_BYTES_MAX;
    for (size_t i = 0; i < len; i++) {
        buf_append_u8(out, isprint(line.ptr[i]) || line.ptr[i] >= 0x80 ? line.ptr[i] : '.');
    }
    if (len < line.len) {
        buf_append_str(out, "...");
    }
}

/* A CONNECT without its secrets. */
static void append_connect(struct buf *out, struct slice json)
{
    static const char *const secrets[] = {"pass", "auth_token", "jwt", "sig"};
    json_t *j = json_loadb((const char *)json.ptr, json.len, JSON_REJECT_DUPLICATES, NULL);
    buf_append_str(out, "CONNECT ");
    if (!json_is_object(j)) {
        /* What does not parse may hold a secret all the same. */
        buf_append_str(out, "{...}");
        json_decref(j);
        return;
    }
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        if (json_object_get(j, secrets[i]) != NULL) {
            json_object_set_new(j, secrets[i], json_string("[REDACTED]"));
        }
    }
    char *text = json_dumps(j, JSON_COMPACT | JSON_ENSURE_ASCII);
    append_line(out, slice_str(text));
    free(text);
    json_decref(j);
}

static bool is_verb(struct slice line, const char *verb)
{
    return line.len >= strlen(verb) && strncasecmp((const char *)line.ptr, verb, strlen(verb)) == 0;
}

void client_trace(const char *who, const char *arrow, struct slice op)
{
    struct buf text = BUF_EMPTY;
    const uint8_t *end = op.len == 0 ? NULL : memchr(op.ptr, '\n', op.len);
    size_t len = end == NULL ? op.len : (size_t)(end - op.ptr);
    struct slice rest = end == NULL ? SLICE_EMPTY : slice_from(op, len + 1);
    struct slice line = slice_of(op.ptr, len);
    while (line.len > 0 && (line.ptr[line.len - 1] == '\r' || line.ptr[line.len - 1] == ' ')) {
        line.len--;
    }
    if (is_verb(line, "CONNECT")) {
        append_connect(&text, slice_from(line, 7));
    } else {
        append_line(&text, line);
    }
    log_line(LOG_LEVEL_TRC, "%s - %s [%.*s]", who, arrow, SLICE_ARG(buf_slice(&text)));
    bool has_payload = is_verb(line, "PUB") || is_verb(line, "HPUB") || is_verb(line, "MSG") ||
                       is_verb(line, "HMSG");
    if (has_payload && rest.len >= 2) {
        buf_clear(&text);
        quote(&text, slice_of(rest.ptr, rest.len - 2));
        log_line(LOG_LEVEL_TRC, "%s - %s MSG_PAYLOAD: [%.*s]", who, arrow,
                 SLICE_ARG(buf_slice(&text)));
    }
    buf_close(&text);
}
