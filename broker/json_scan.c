/* States and texts follow encoding/json/scanner.go. */
#include "broker/json_scan.h"

#include <stdio.h>

struct scan {
    const uint8_t *p;
    const uint8_t *end;
    char *error; /* Set with the first error; then p == end. */
    bool failed;
};

static void quote_char(uint8_t c, char out[static 16])
{
    static const char escapes[] = "abtnvfr"; /* 7 to 13. */
    if (c == '\'' || c == '\\') {
        snprintf(out, 16, "'\\%c'", c);
    } else if (c >= 7 && c <= 13) {
        snprintf(out, 16, "'\\%c'", escapes[c - 7]);
    } else if (c < 0x20 || c == 0x7f) {
        snprintf(out, 16, "'\\x%02x'", c);
    } else if (c < 0x80) {
        snprintf(out, 16, "'%c'", c);
    } else if (c <= 0xa0 || c == 0xad) {
        snprintf(out, 16, "'\\u%04x'", c);
    } else {
        snprintf(out, 16, "'%c%c'", 0xc0 | c >> 6, 0x80 | (c & 0x3f));
    }
}

/* Where the scan stands is wrong for what it expects. */
static bool fail(struct scan *s, const char *context)
{
    if (!s->failed) {
        if (s->p == s->end) {
            snprintf(s->error, JSON_SCAN_ERROR_BYTES, "unexpected end of JSON input");
        } else {
            char quoted[16];
            quote_char(*s->p, quoted);
            snprintf(s->error, JSON_SCAN_ERROR_BYTES, "invalid character %s %s", quoted, context);
        }
    }
    s->failed = true;
    return false;
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) {
        s->p++;
    }
}

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* After the opening quote. */
static bool scan_string(struct scan *s, struct slice *ret_text)
{
    const uint8_t *begin = s->p;
    for (; s->p < s->end && *s->p != '"'; s->p++) {
        if (*s->p < 0x20) {
            return fail(s, "in string literal");
        }
        if (*s->p != '\\') {
            continue;
        }
        if (++s->p == s->end || memchr("bfnrtu\\/\"", *s->p, 9) == NULL) {
            return fail(s, "in string escape code");
        }
        for (int left = *s->p == 'u' ? 4 : 0; left > 0; left--) {
            s->p++;
            if (s->p == s->end || !is_hex(*s->p)) {
                return fail(s, "in \\u hexadecimal character escape");
            }
        }
    }
    if (s->p == s->end) {
        return fail(s, "");
    }
    *ret_text = slice_of(begin, (size_t)(s->p - begin));
    s->p++;
    return true;
}

static size_t scan_digits(struct scan *s)
{
    const uint8_t *begin = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        s->p++;
    }
    return (size_t)(s->p - begin);
}

static bool scan_number(struct scan *s)
{
    if (*s->p == '-') {
        s->p++;
        if (s->p == s->end || *s->p < '0' || *s->p > '9') {
            return fail(s, "in numeric literal");
        }
    }
    if (*s->p == '0') {
        s->p++;
    } else {
        scan_digits(s);
    }
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (scan_digits(s) == 0) {
            return fail(s, "after decimal point in numeric literal");
        }
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-')) {
            s->p++;
        }
        if (scan_digits(s) == 0) {
            return fail(s, "in exponent of numeric literal");
        }
    }
    return true;
}

static bool scan_literal(struct scan *s, const char *word)
{
    for (size_t i = 0; word[i] != '\0'; i++, s->p++) {
        if (s->p == s->end || *s->p != (uint8_t)word[i]) {
            char context[48];
            snprintf(context, sizeof context, "in literal %s (expecting '%c')", word, word[i]);
            return fail(s, context);
        }
    }
    return true;
}

/* A value that holds no others. */
static bool scan_scalar(struct scan *s, enum json_scan_type *ret_type, struct slice *ret_value)
{
    const uint8_t *begin = s->p;
    uint8_t c = s->p < s->end ? *s->p : 0;
    if (c == '"') {
        s->p++;
        *ret_type = JSON_SCAN_STRING;
        return scan_string(s, ret_value);
    }
    bool is_ok;
    if (c == '-' || (c >= '0' && c <= '9')) {
        *ret_type = JSON_SCAN_NUMBER;
        is_ok = scan_number(s);
    } else if (c == 't' || c == 'f') {
        *ret_type = JSON_SCAN_BOOL;
        is_ok = scan_literal(s, c == 't' ? "true" : "false");
    } else if (c == 'n') {
        *ret_type = JSON_SCAN_NULL;
        is_ok = scan_literal(s, "null");
    } else {
        return fail(s, "looking for beginning of value");
    }
    *ret_value = slice_of(begin, (size_t)(s->p - begin));
    return is_ok;
}

static bool scan_key(struct scan *s, struct slice *ret_key)
{
    skip_space(s);
    if (s->p == s->end || *s->p != '"') {
        return fail(s, "looking for beginning of object key string");
    }
    s->p++;
    if (!scan_string(s, ret_key)) {
        return false;
    }
    skip_space(s);
    if (s->p == s->end || *s->p != ':') {
        return fail(s, "after object key");
    }
    s->p++;
    skip_space(s);
    return true;
}

/* What follows an element: true with @ret_more after a comma, or at the end, which is consumed. */
static bool scan_after(struct scan *s, bool is_object, bool *ret_more)
{
    skip_space(s);
    if (s->p < s->end && (*s->p == ',' || *s->p == (is_object ? '}' : ']'))) {
        *ret_more = *s->p++ == ',';
        return true;
    }
    return fail(s, is_object ? "after object key:value pair" : "after array element");
}

/* Begin a container that stands here: its bracket is consumed, and its closing one if it is empty;
 * else the scan stands before the first value. */
static bool scan_enter(struct scan *s, bool *ret_is_object, bool *ret_is_empty)
{
    struct slice key;
    *ret_is_object = *s->p++ == '{';
    skip_space(s);
    *ret_is_empty = s->p < s->end && *s->p == (*ret_is_object ? '}' : ']');
    if (*ret_is_empty) {
        s->p++;
        return true;
    }
    return !*ret_is_object || scan_key(s, &key);
}

/* Skip an array or object with all it holds; no recursion, as outsiders choose the depth. */
static bool scan_container(struct scan *s)
{
    uint8_t is_object[JSON_SCAN_DEPTH_MAX / 8 + 1] = {0};
    size_t depth = 0;
    for (;;) {
        skip_space(s);
        bool is_opened = s->p < s->end && (*s->p == '{' || *s->p == '[');
        bool is_empty = false;
        if (is_opened) {
            bool opens_object;
            if (depth == JSON_SCAN_DEPTH_MAX) {
                snprintf(s->error, JSON_SCAN_ERROR_BYTES, "exceeded max depth");
                s->failed = true;
                return false;
            }
            if (!scan_enter(s, &opens_object, &is_empty)) {
                return false;
            }
            uint8_t bit = (uint8_t)(1u << (depth % 8));
            is_object[depth / 8] =
                (uint8_t)(opens_object ? is_object[depth / 8] | bit : is_object[depth / 8] & ~bit);
            depth++;
            if (!is_empty) {
                continue;
            }
            depth--;
        } else {
            enum json_scan_type type;
            struct slice value;
            if (!scan_scalar(s, &type, &value)) {
                return false;
            }
        }
        /* A value is complete: so may be what holds it. */
        bool more = false;
        while (depth > 0 && !more) {
            bool in_object = (is_object[(depth - 1) / 8] >> ((depth - 1) % 8) & 1) != 0;
            struct slice key;
            if (!scan_after(s, in_object, &more) || (more && in_object && !scan_key(s, &key))) {
                return false;
            }
            depth -= !more;
        }
        if (depth == 0) {
            return true;
        }
    }
}

static bool scan_value(struct scan *s, enum json_scan_type *ret_type, struct slice *ret_value)
{
    if (s->p == s->end || (*s->p != '{' && *s->p != '[')) {
        return scan_scalar(s, ret_type, ret_value);
    }
    const uint8_t *begin = s->p;
    *ret_type = *s->p == '{' ? JSON_SCAN_OBJECT : JSON_SCAN_ARRAY;
    if (!scan_container(s)) {
        return false;
    }
    *ret_value = slice_of(begin, (size_t)(s->p - begin));
    return true;
}

bool json_scan_object(struct slice text, char ret_error[static JSON_SCAN_ERROR_BYTES], void *arg,
                      json_scan_cb cb)
{
    struct scan s = {.p = text.ptr, .end = text.ptr + text.len, .error = ret_error};
    skip_space(&s);
    if (s.p == s.end || *s.p != '{') {
        return fail(&s, "looking for beginning of value");
    }
    s.p++;
    skip_space(&s);
    bool more = s.p == s.end || *s.p != '}';
    if (!more) {
        s.p++;
    }
    while (more) {
        struct slice key;
        struct slice value;
        enum json_scan_type type;
        if (!scan_key(&s, &key) || !scan_value(&s, &type, &value)) {
            return false;
        }
        cb(arg, key, type, value);
        if (!scan_after(&s, true, &more)) {
            return false;
        }
    }
    skip_space(&s);
    return s.p == s.end || fail(&s, "after top-level value");
}

bool json_scan_int(struct slice value, int64_t *ret_value)
{
    bool is_negative = value.len > 0 && value.ptr[0] == '-';
    uint64_t limit = (uint64_t)INT64_MAX + is_negative;
    uint64_t n = 0;
    if (value.len == (size_t)is_negative) {
        return false;
    }
    for (size_t i = is_negative; i < value.len; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(value.ptr[i] - '0');
        if (n > (limit - digit) / 10) {
            return false;
        }
        n = n * 10 + digit;
    }
    *ret_value = is_negative ? (int64_t)(0 - n) : (int64_t)n;
    return true;
}
