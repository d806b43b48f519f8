#include "broker/ack.h"

#include <stdio.h>

#include "broker/json_scan.h"

/* ---- Ack subjects ---- */

#define ACK_PREFIX "$JS.ACK."
#define ACK_V1_TOKENS 9
#define ACK_V2_TOKENS 11

static size_t digits_of(uint64_t v)
{
    size_t n = 1;
    for (; v >= 10; v /= 10) {
        n++;
    }
    return n;
}

static uint64_t magnitude(int64_t v)
{
    return v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
}

size_t ack_subject_size(const struct ack_subject *a)
{
    return strlen(ACK_PREFIX) + a->stream.len + a->consumer.len + 6 + digits_of(a->delivered) +
           digits_of(a->stream_seq) + digits_of(a->consumer_seq) + (a->time_ns < 0) +
           digits_of(magnitude(a->time_ns)) + digits_of(a->pending);
}

static uint8_t *put(uint8_t *to, const void *bytes, size_t len)
{
    if (len > 0) {
        memcpy(to, bytes, len);
    }
    return to + len;
}

static uint8_t *put_number(uint8_t *to, uint64_t v)
{
    size_t n = digits_of(v);
    for (size_t i = n; i > 0; v /= 10) {
        to[--i] = (uint8_t)('0' + v % 10);
    }
    return to + n;
}

/* Written by hand: one is made for each delivery. */
void ack_subject_print(struct buf *out, const struct ack_subject *a)
{
    size_t size = ack_subject_size(a);
    uint8_t *p = buf_reserve(out, size);
    p = put(p, ACK_PREFIX, strlen(ACK_PREFIX));
    p = put(p, a->stream.ptr, a->stream.len);
    *p++ = '.';
    p = put(p, a->consumer.ptr, a->consumer.len);
    *p++ = '.';
    p = put_number(p, a->delivered);
    *p++ = '.';
    p = put_number(p, a->stream_seq);
    *p++ = '.';
    p = put_number(p, a->consumer_seq);
    *p++ = '.';
    if (a->time_ns < 0) {
        *p++ = '-';
    }
    p = put_number(p, magnitude(a->time_ns));
    *p++ = '.';
    put_number(p, a->pending);
    out->len += size;
}

static bool parse_u64(struct slice token, uint64_t *ret_v)
{
    uint64_t v = 0;
    if (token.len == 0) {
        return false;
    }
    for (size_t i = 0; i < token.len; i++) {
        uint64_t digit = (uint64_t)(token.ptr[i] - (uint64_t)'0');
        if (digit > 9 || v > (UINT64_MAX - digit) / 10) {
            return false;
        }
        v = v * 10 + digit;
    }
    *ret_v = v;
    return true;
}

/* The first ACK_V2_TOKENS tokens; returns how many there are in all, 0 if one is empty. */
static size_t split(struct slice subject, struct slice tokens[static ACK_V2_TOKENS])
{
    size_t count = 0;
    size_t begin = 0;
    for (size_t i = 0; i <= subject.len; i++) {
        if (i < subject.len && subject.ptr[i] != '.') {
            continue;
        }
        if (i == begin) {
            return 0;
        }
        if (count < ACK_V2_TOKENS) {
            tokens[count] = slice_of(subject.ptr + begin, i - begin);
        }
        count++;
        begin = i + 1;
    }
    return count;
}

bool ack_subject_parse(struct slice subject, struct ack_subject *ret_a)
{
    struct slice tokens[ACK_V2_TOKENS];
    struct ack_subject a = {0};
    if (!slice_has_prefix(subject, SLICE_LIT(ACK_PREFIX))) {
        return false;
    }
    size_t count = split(subject, tokens);
    const struct slice *t = tokens + 2;
    if (count >= ACK_V2_TOKENS) {
        a.domain = slice_eq(t[0], SLICE_LIT("_")) ? SLICE_EMPTY : t[0];
        a.account = t[1];
        t += 2;
    } else if (count != ACK_V1_TOKENS) {
        return false;
    }
    a.stream = t[0];
    a.consumer = t[1];
    if (!parse_u64(t[2], &a.delivered) || !parse_u64(t[3], &a.stream_seq) ||
        !parse_u64(t[4], &a.consumer_seq) || !json_scan_int(t[5], &a.time_ns) ||
        !parse_u64(t[6], &a.pending)) {
        return false;
    }
    *ret_a = a;
    return true;
}

/* ---- Ack payloads ---- */

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && is_space(s.ptr[0])) {
        s = slice_from(s, 1);
    }
    while (s.len > 0 && is_space(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

static bool key_is(struct slice key, const char *name)
{
    size_t len = strlen(name);
    if (key.len != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) { /* Go's decoder does not mind the case. */
        uint8_t c = key.ptr[i];
        if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != (uint8_t)name[i]) {
            return false;
        }
    }
    return true;
}

struct nak_fields {
    int64_t delay_ns;
    bool failed;
};

static void on_nak_field(void *arg, struct slice key, enum json_scan_type type, struct slice value)
{
    struct nak_fields *f = arg;
    if (key_is(key, "delay") && type != JSON_SCAN_NULL &&
        (type != JSON_SCAN_NUMBER || !json_scan_int(value, &f->delay_ns))) {
        f->failed = true;
    }
}

/* What cannot be read means: now. */
static int64_t nak_delay(struct slice arg)
{
    int64_t delay_ns = 0;
    if (arg.len > 0 && arg.ptr[0] == '{') {
        char error[JSON_SCAN_ERROR_BYTES];
        struct nak_fields f = {0};
        delay_ns = json_scan_object(arg, error, &f, on_nak_field) && !f.failed ? f.delay_ns : 0;
    } else if (!duration_parse(arg, &delay_ns)) {
        delay_ns = 0;
    }
    return delay_ns > 0 ? delay_ns : 0;
}

void ack_payload_parse(struct slice payload, struct ack_payload *ret_a)
{
    *ret_a = (struct ack_payload){.kind = ACK_KIND_OTHER};
    if (payload.len == 0 || slice_eq(payload, SLICE_LIT("+ACK")) ||
        slice_eq(payload, SLICE_LIT("+OK"))) {
        ret_a->kind = ACK_KIND_ACK;
    } else if (slice_eq(payload, SLICE_LIT("+WPI"))) {
        ret_a->kind = ACK_KIND_WPI;
    } else if (slice_has_prefix(payload, SLICE_LIT("-NAK"))) {
        ret_a->kind = ACK_KIND_NAK;
        ret_a->delay_ns = nak_delay(trim(slice_from(payload, 4)));
    } else if (slice_has_prefix(payload, SLICE_LIT("+TERM"))) {
        ret_a->kind = ACK_KIND_TERM;
        ret_a->reason = trim(slice_from(payload, 5));
    } else if (slice_has_prefix(payload, SLICE_LIT("+NXT"))) {
        ret_a->kind = ACK_KIND_NEXT;
        ret_a->body = trim(slice_from(payload, 4));
    }
}

/* ---- Pull requests ---- */

struct pull_fields {
    struct pull_request *r;
    bool failed; /* A value of another type; the first one is worded. */
};

static void mistyped(struct pull_fields *f, enum json_scan_type type, struct slice value,
                     const char *name, const char *wanted)
{
    static const char *const names[] = {"null", "bool", "number", "string", "array", "object"};
    if (f->failed) {
        return;
    }
    f->failed = true;
    bool is_number = type == JSON_SCAN_NUMBER && strcmp(wanted, "string") != 0;
    snprintf(f->r->error, sizeof f->r->error,
             "json: cannot unmarshal %s%s%.*s into Go struct field "
             "JSApiConsumerGetNextRequest.%s of type %s",
             names[type], is_number ? " " : "",
             is_number ? (int)(value.len < 32 ? value.len : 32) : 0, (const char *)value.ptr, name,
             wanted);
}

static void read_int(struct pull_fields *f, enum json_scan_type type, struct slice value,
                     const char *name, const char *wanted, int64_t *ret_v)
{
    if (type != JSON_SCAN_NULL && (type != JSON_SCAN_NUMBER || !json_scan_int(value, ret_v))) {
        mistyped(f, type, value, name, wanted);
    }
}

/* Fields of priority groups. */
static void on_group_field(struct pull_fields *f, struct slice key, enum json_scan_type type,
                           struct slice value)
{
    struct pull_request *r = f->r;
    if (key_is(key, "min_pending")) {
        read_int(f, type, value, "PriorityGroup.min_pending", "int64", &r->min_pending);
    } else if (key_is(key, "min_ack_pending")) {
        read_int(f, type, value, "PriorityGroup.min_ack_pending", "int64", &r->min_ack_pending);
    } else if (key_is(key, "priority")) {
        read_int(f, type, value, "PriorityGroup.priority", "int", &r->priority);
    } else if (key_is(key, "group") && type != JSON_SCAN_STRING && type != JSON_SCAN_NULL) {
        mistyped(f, type, value, "PriorityGroup.group", "string");
    } else if (key_is(key, "id") && type == JSON_SCAN_STRING) {
        r->has_id = value.len > 0;
    } else if (key_is(key, "id") && type != JSON_SCAN_NULL) {
        mistyped(f, type, value, "PriorityGroup.id", "string");
    }
}

static void on_pull_field(void *arg, struct slice key, enum json_scan_type type, struct slice value)
{
    struct pull_fields *f = arg;
    struct pull_request *r = f->r;
    on_group_field(f, key, type, value);
    if (key_is(key, "batch")) {
        int64_t batch = 0;
        read_int(f, type, value, "batch", "int", &batch);
        r->batch = batch > 0 ? (uint64_t)batch : 1;
        r->short_by = batch > 0 ? 0 : 1 - (batch < -INT32_MAX ? -INT32_MAX : batch);
    } else if (key_is(key, "expires")) {
        read_int(f, type, value, "expires", "time.Duration", &r->expires_ns);
    } else if (key_is(key, "idle_heartbeat")) {
        read_int(f, type, value, "idle_heartbeat", "time.Duration", &r->heartbeat_ns);
    } else if (key_is(key, "max_bytes")) {
        read_int(f, type, value, "max_bytes", "int", &r->max_bytes);
    } else if (key_is(key, "no_wait") && type == JSON_SCAN_BOOL) {
        r->no_wait = value.ptr[0] == 't';
    } else if (key_is(key, "no_wait") && type != JSON_SCAN_NULL) {
        mistyped(f, type, value, "no_wait", "bool");
    }
}

const char *pull_request_parse(struct slice body, struct pull_request *ret_r)
{
    *ret_r = (struct pull_request){.batch = 1};
    body = trim(body);
    if (body.len > PULL_BODY_BYTES_MAX) {
        return "request too large";
    }
    if (body.len == 0 || body.ptr[0] != '{') {
        int64_t batch;
        struct slice digits =
            body.len > 0 && body.ptr[0] == '+' ? slice_from(body, 1) : body; /* As Go's Atoi. */
        if (json_scan_int(digits, &batch) && batch > 0) {
            ret_r->batch = (uint64_t)batch;
        }
        return NULL;
    }
    ret_r->short_by = 1; /* Until a batch is read. */
    struct pull_fields f = {.r = ret_r};
    char error[JSON_SCAN_ERROR_BYTES];
    if (!json_scan_object(body, error, &f, on_pull_field)) {
        memcpy(ret_r->error, error, sizeof error);
        return ret_r->error;
    }
    if (f.failed) {
        return ret_r->error;
    }
    /* Twice the heartbeat must fit; written so that it cannot overflow. */
    if (ret_r->heartbeat_ns > 0 && ret_r->heartbeat_ns > ret_r->expires_ns / 2) {
        return "heartbeat value too large";
    }
    if (ret_r->min_pending != 0 || ret_r->min_ack_pending != 0) {
        return "Not a Overflow Priority consumer";
    }
    if (ret_r->has_id) {
        return "Not a Pinned Client Priority consumer";
    }
    if (ret_r->priority < 0 || ret_r->priority > 9) {
        return "Priority must be between 0 and 9";
    }
    ret_r->heartbeat_ns = ret_r->heartbeat_ns > 0 ? ret_r->heartbeat_ns : 0;
    ret_r->max_bytes = ret_r->max_bytes > 0 ? ret_r->max_bytes : 0;
    return NULL;
}

/* ---- Go durations: time.ParseDuration and Duration.String ---- */

#define DURATION_MAX ((uint64_t)1 << 63) /* Of a negative one. */

static uint64_t unit_ns(struct slice unit)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        {"ns", 1},           {"us", 1000},      {"\xc2\xb5s", 1000}, /* micro sign */
        {"\xce\xbcs", 1000},                                         /* mu */
        {"ms", 1000000},     {"s", 1000000000}, {"m", 60000000000},  {"h", 3600000000000},
    };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (slice_eq_str(unit, units[i].name)) {
            return units[i].ns;
        }
    }
    return 0;
}

static bool is_digit(struct slice s)
{
    return s.len > 0 && s.ptr[0] >= '0' && s.ptr[0] <= '9';
}

/* One number with its unit, cut off the front. */
static bool take_part(struct slice *s, uint64_t *ret_ns)
{
    uint64_t whole = 0;
    uint64_t fraction = 0;
    double scale = 1;
    bool has_digits = is_digit(*s);
    bool is_full = false;
    for (; is_digit(*s); *s = slice_from(*s, 1)) {
        if (whole > DURATION_MAX / 10) {
            return false;
        }
        whole = whole * 10 + (uint64_t)(s->ptr[0] - '0');
    }
    if (s->len > 0 && s->ptr[0] == '.') {
        *s = slice_from(*s, 1);
        has_digits = has_digits || is_digit(*s);
        for (; is_digit(*s); *s = slice_from(*s, 1)) {
            uint64_t digit = (uint64_t)(s->ptr[0] - '0');
            is_full = is_full || fraction > (DURATION_MAX - 1 - digit) / 10;
            if (!is_full) { /* Further digits are below a nanosecond. */
                fraction = fraction * 10 + digit;
                scale *= 10;
            }
        }
    }
    size_t len = 0;
    while (len < s->len && s->ptr[len] != '.' && (s->ptr[len] < '0' || s->ptr[len] > '9')) {
        len++;
    }
    uint64_t unit = unit_ns(slice_of(s->ptr, len));
    if (!has_digits || unit == 0 || whole > DURATION_MAX / unit) {
        return false;
    }
    *s = slice_from(*s, len);
    *ret_ns = whole * unit + (uint64_t)((double)fraction * ((double)unit / scale));
    return *ret_ns <= DURATION_MAX;
}

bool duration_parse(struct slice text, int64_t *ret_ns)
{
    bool is_negative = text.len > 0 && text.ptr[0] == '-';
    if (is_negative || (text.len > 0 && text.ptr[0] == '+')) {
        text = slice_from(text, 1);
    }
    if (slice_eq(text, SLICE_LIT("0"))) {
        *ret_ns = 0;
        return true;
    }
    if (text.len == 0) {
        return false;
    }
    uint64_t ns = 0;
    while (text.len > 0) {
        uint64_t part;
        if (!take_part(&text, &part) || part > DURATION_MAX - ns) {
            return false;
        }
        ns += part;
    }
    if (ns > (uint64_t)INT64_MAX && !is_negative) {
        return false;
    }
    *ret_ns = is_negative ? (int64_t)(0 - ns) : (int64_t)ns;
    return true;
}

/* @value in units of @unit, with a fraction without zeros at its end. */
static void print_decimal(struct buf *out, uint64_t value, uint64_t unit)
{
    buf_printf(out, "%llu", (unsigned long long)(value / unit));
    uint64_t rest = value % unit;
    if (rest != 0) {
        buf_append_u8(out, '.');
    }
    while (rest != 0) {
        unit /= 10;
        buf_append_u8(out, (uint8_t)('0' + rest / unit));
        rest %= unit;
    }
}

void duration_print(struct buf *out, int64_t ns)
{
    uint64_t v = magnitude(ns);
    if (ns < 0) {
        buf_append_u8(out, '-');
    }
    if (v == 0) {
        buf_append_str(out, "0s");
    } else if (v < 1000) {
        buf_printf(out, "%lluns", (unsigned long long)v);
    } else if (v < 1000000) {
        print_decimal(out, v, 1000);
        buf_append_str(out, "\xc2\xb5s");
    } else if (v < 1000000000) {
        print_decimal(out, v, 1000000);
        buf_append_str(out, "ms");
    } else {
        uint64_t minutes = v / 60000000000u;
        if (minutes >= 60) {
            buf_printf(out, "%lluh", (unsigned long long)(minutes / 60));
        }
        if (minutes > 0) {
            buf_printf(out, "%llum", (unsigned long long)(minutes % 60));
        }
        print_decimal(out, v % 60000000000u, 1000000000);
        buf_append_str(out, "s");
    }
}

/* ---- Flow control ---- */

bool ack_is_flow(struct slice subject)
{
    return slice_has_prefix(subject, SLICE_LIT("$JS.FC."));
}

bool ack_flow_parse(struct slice subject, struct slice *ret_stream, struct slice *ret_consumer,
                    struct slice *ret_id)
{
    struct slice rest = ack_is_flow(subject) ? slice_from(subject, sizeof "$JS.FC." - 1) : subject;
    struct slice tokens[3];
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *dot = rest.len == 0 ? NULL : memchr(rest.ptr, '.', rest.len);
        size_t len = dot == NULL ? rest.len : (size_t)(dot - rest.ptr);
        if (len == 0 || (dot == NULL) != (i == 2)) {
            return false;
        }
        tokens[i] = slice_of(rest.ptr, len);
        rest = slice_from(rest, dot == NULL ? len : len + 1);
    }
    if (ret_stream != NULL) {
        *ret_stream = tokens[0];
    }
    *ret_consumer = tokens[1];
    *ret_id = tokens[2];
    return true;
}
