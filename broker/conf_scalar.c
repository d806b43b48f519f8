#include "broker/conf_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* What ends a bare value. */
static bool is_bare_end(const struct conf_parser *p)
{
    uint8_t c = conf_peek(p);
    return conf_is_end(p) || c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' ||
           c == ';' || c == ']' || c == '}';
}

static struct conf_value *new_string(struct conf_parser *p, struct slice s)
{
    struct conf_value *v = conf_new_value(p, CONF_STRING);
    if (v != NULL) {
        v->string = slice_of(xslicedup(s), s.len);
    }
    return v;
}

static int hex_value(uint8_t c)
{
    return is_digit(c)            ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The cursor is at a backslash. */
static bool take_escape(struct conf_parser *p, struct buf *out)
{
    conf_advance(p);
    uint8_t c = conf_peek(p);
    char text[8];
    switch (c) {
    case 't':
        buf_append_u8(out, '\t');
        break;
    case 'n':
        buf_append_u8(out, '\n');
        break;
    case 'r':
        buf_append_u8(out, '\r');
        break;
    case '"':
    case '\\':
        buf_append_u8(out, c);
        break;
    case 'x': {
        conf_advance(p);
        int high = hex_value(conf_peek(p));
        int low = p->pos + 1 < p->text.len ? hex_value(p->text.ptr[p->pos + 1]) : -1;
        if (high < 0 || low < 0) {
            return conf_fail_parse(p, "Expected two hexadecimal digits after '\\x'");
        }
        buf_append_u8(out, (uint8_t)(high * 16 + low));
        conf_advance(p);
        break;
    }
    default:
        return conf_fail_parse(p,
                               "Invalid escape character '%s'. Only the following escape "
                               "characters are allowed: \\xXX, \\t, \\n, \\r, \\\", \\\\.",
                               conf_char_text(p, text));
    }
    conf_advance(p);
    return true;
}

static bool is_bool(struct slice s, bool *ret_value)
{
    static const char *const words[] = {"true", "yes", "on", "false", "no", "off"};
    for (size_t i = 0; i < 6; i++) {
        if (s.len == strlen(words[i]) && strncasecmp((const char *)s.ptr, words[i], s.len) == 0) {
            *ret_value = i < 3;
            return true;
        }
    }
    return false;
}

/* A bare word; @out holds what of it was read already. */
static struct conf_value *take_bare(struct conf_parser *p, struct buf *out, bool *ret_is_variable)
{
    bool is_plain = true;
    while (!is_bare_end(p) && conf_peek(p) != '\'') {
        if (conf_peek(p) == '\\') {
            is_plain = false;
            if (!take_escape(p, out)) {
                return NULL;
            }
        } else {
            buf_append_u8(out, conf_peek(p));
            conf_advance(p);
        }
    }
    if (conf_peek(p) == '\'') {
        conf_advance(p);
        return new_string(p, buf_slice(out));
    }
    struct slice s = buf_slice(out);
    bool boolean;
    if (is_plain && is_bool(s, &boolean)) {
        struct conf_value *v = conf_new_value(p, CONF_BOOL);
        if (v != NULL) {
            v->boolean = boolean;
        }
        return v;
    }
    if (is_plain && s.len > 0 && s.ptr[0] == '$') {
        *ret_is_variable = true;
        s = slice_from(s, 1);
    }
    return new_string(p, s);
}

static struct conf_value *take_quoted(struct conf_parser *p, struct buf *out)
{
    uint8_t quote = conf_peek(p);
    conf_advance(p);
    while (!conf_is_end(p) && conf_peek(p) != quote) {
        if (quote == '"' && conf_peek(p) == '\\') {
            if (!take_escape(p, out)) {
                return NULL;
            }
        } else {
            buf_append_u8(out, conf_peek(p));
            conf_advance(p);
        }
    }
    if (conf_is_end(p)) {
        conf_fail_parse(p, "Unexpected EOF.");
        return NULL;
    }
    conf_advance(p);
    return new_string(p, buf_slice(out));
}

/* `(` to a `)` alone on a line; what is between is kept as it is. */
static struct conf_value *take_block(struct conf_parser *p)
{
    conf_advance(p);
    size_t begin = p->pos;
    for (; !conf_is_end(p); conf_advance(p)) {
        bool is_alone = conf_peek(p) == ')' && p->pos > begin && p->text.ptr[p->pos - 1] == '\n' &&
                        (p->pos + 1 == p->text.len || p->text.ptr[p->pos + 1] == '\n' ||
                         p->text.ptr[p->pos + 1] == '\r');
        if (is_alone) {
            struct conf_value *v = new_string(p, slice_of(p->text.ptr + begin, p->pos - begin));
            conf_advance(p);
            return v;
        }
    }
    conf_fail_parse(p, "Unexpected EOF processing block.");
    return NULL;
}

/* Days since 1970-01-01 (Howard Hinnant's days_from_civil). */
static int64_t days_of(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = y / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* The cursor is at the start; only 2006-01-02T15:04:05Z is a datetime. */
static struct conf_value *take_datetime(struct conf_parser *p)
{
    static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
    int64_t fields[6] = {0};
    size_t field = 0;
    for (size_t i = 0; form[i] != '\0'; i++) {
        uint8_t c = conf_peek(p);
        if (form[i] == 'd' ? !is_digit(c) : c != (uint8_t)form[i]) {
            conf_fail_parse(p, "All ISO8601 dates must be in full Zulu form.");
            return NULL;
        }
        if (form[i] == 'd') {
            fields[field] = fields[field] * 10 + (c - '0');
        } else {
            field++;
        }
        conf_advance(p);
    }
    static const int64_t days_max[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t y = fields[0];
    bool is_leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    if (fields[1] < 1 || fields[1] > 12 || fields[2] < 1 || fields[2] > days_max[fields[1] - 1] ||
        (fields[1] == 2 && fields[2] == 29 && !is_leap) || fields[3] > 23 || fields[4] > 59 ||
        fields[5] > 59) {
        conf_fail(p, "expected Zulu formatted DateTime, but got a date that does not exist");
        return NULL;
    }
    struct conf_value *v = conf_new_value(p, CONF_DATETIME);
    if (v != NULL) {
        v->time_s = days_of(y, fields[1], fields[2]) * 86400 + fields[3] * 3600 + fields[4] * 60 +
                    fields[5];
    }
    return v;
}

/* k, m, g, t, p, e are powers of 1000; with b, i or ib behind, of 1024. */
static bool multiplier_of(struct slice suffix, int64_t *ret_multiplier)
{
    static const char letters[] = "kmgtpe";
    if (suffix.len == 0) {
        *ret_multiplier = 1;
        return true;
    }
    const char *rest = (const char *)suffix.ptr + 1;
    size_t len = suffix.len - 1;
    bool is_binary =
        (len == 1 && (strncasecmp(rest, "b", 1) == 0 || strncasecmp(rest, "i", 1) == 0)) ||
        (len == 2 && strncasecmp(rest, "ib", 2) == 0);
    const char *letter = strchr(letters, suffix.ptr[0] | 0x20);
    if (letter == NULL || (len > 0 && !is_binary)) {
        return false;
    }
    int64_t multiplier = 1;
    for (long i = 0; i <= letter - letters; i++) {
        multiplier *= is_binary ? 1024 : 1000;
    }
    *ret_multiplier = multiplier;
    return true;
}

static struct conf_value *new_integer(struct conf_parser *p, struct slice text)
{
    size_t digits = text.len > 0 && text.ptr[0] == '-';
    while (digits < text.len && is_digit(text.ptr[digits])) {
        digits++;
    }
    char number[32];
    int64_t multiplier;
    int64_t result = 0;
    if (!multiplier_of(slice_from(text, digits), &multiplier)) {
        conf_fail_parse(p, "Unknown size suffix '%.*s'.", SLICE_ARG(slice_from(text, digits)));
        return NULL;
    }
    bool is_bad = digits >= sizeof number;
    if (!is_bad) {
        memcpy(number, text.ptr, digits);
        number[digits] = '\0';
        errno = 0;
        long long n = strtoll(number, NULL, 10);
        is_bad = errno != 0 || __builtin_mul_overflow(n, multiplier, &result);
    }
    if (is_bad) {
        conf_fail(p, "integer '%.*s' is out of the range", SLICE_ARG(text));
        return NULL;
    }
    struct conf_value *v = conf_new_value(p, CONF_INT);
    if (v != NULL) {
        v->integer = result;
    }
    return v;
}

static struct conf_value *take_float(struct conf_parser *p, size_t begin)
{
    char text[8];
    conf_advance(p);
    if (!is_digit(conf_peek(p))) {
        conf_fail_parse(p, "Floats must have a digit after the '.', but got '%s' instead.",
                        conf_char_text(p, text));
        return NULL;
    }
    while (is_digit(conf_peek(p))) {
        conf_advance(p);
    }
    if (conf_peek(p) == '.') {
        /* An address or a version. */
        for (uint8_t c = conf_peek(p); is_digit(c) || c == '.' || c == ':' || c == '-';
             c = conf_peek(p)) {
            conf_advance(p);
        }
        return new_string(p, slice_of(p->text.ptr + begin, p->pos - begin));
    }
    char *number = xslicedup(slice_of(p->text.ptr + begin, p->pos - begin));
    double d = strtod(number, NULL);
    free(number);
    struct conf_value *v = conf_new_value(p, CONF_FLOAT);
    if (v != NULL) {
        v->number = d;
    }
    return v;
}

/* Begins with a digit or a minus and a digit: integer, float, datetime, address, or a string like
 * 10ms. */
static struct conf_value *take_number(struct conf_parser *p, struct buf *out)
{
    size_t begin = p->pos;
    bool is_negative = conf_peek(p) == '-';
    if (is_negative) {
        conf_advance(p);
        char text[8];
        if (!is_digit(conf_peek(p))) {
            conf_fail_parse(p,
                            conf_peek(p) == '.' ? "Floats must start with a digit"
                                                : "Expected a digit but got '%s'.",
                            conf_char_text(p, text));
            return NULL;
        }
    }
    while (is_digit(conf_peek(p))) {
        conf_advance(p);
    }
    uint8_t c = conf_peek(p);
    if (c == '.') {
        return take_float(p, begin);
    }
    if (c == '-' && !is_negative) {
        p->pos = begin;
        return take_datetime(p);
    }
    if (c != 0 && strchr("kKmMgGtTpPeE", c) != NULL) {
        conf_advance(p);
        while (conf_peek(p) != 0 && strchr("bBiI", conf_peek(p)) != NULL) {
            conf_advance(p);
        }
    }
    struct slice text = slice_of(p->text.ptr + begin, p->pos - begin);
    if (is_bare_end(p) || is_negative) {
        return new_integer(p, text);
    }
    bool is_variable;
    buf_append_slice(out, text);
    return take_bare(p, out, &is_variable);
}

struct conf_value *conf_parse_scalar(struct conf_parser *p, bool *ret_is_variable)
{
    struct buf out = BUF_EMPTY;
    struct conf_value *v;
    uint8_t c = conf_peek(p);
    *ret_is_variable = false;
    if (c == '"' || c == '\'') {
        v = take_quoted(p, &out);
    } else if (c == '(') {
        v = take_block(p);
    } else if (c == '-' || is_digit(c)) {
        v = take_number(p, &out);
    } else if (c == '.') {
        conf_fail_parse(p, "Floats must start with a digit");
        v = NULL;
    } else {
        v = take_bare(p, &out, ret_is_variable);
    }
    buf_close(&out);
    return v;
}
