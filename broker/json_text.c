/* The textual forms inside JSON: strings, times, base64. See json_fields.h. */
#include <stdio.h>

#include "broker/json_fields.h"
#include "storage/base/err.h"

#define NS_PER_S 1000000000

void json_print_string(struct buf *out, struct slice s)
{
    static const char hex[] = "0123456789abcdef";
    buf_append_u8(out, '"');
    size_t from = 0;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&') {
            continue;
        }
        buf_append(out, s.ptr + from, i - from);
        from = i + 1;
        if (c == '"' || c == '\\') {
            buf_append_u8(out, '\\');
            buf_append_u8(out, c);
        } else if (c == '\n') {
            buf_append_str(out, "\\n");
        } else if (c == '\r') {
            buf_append_str(out, "\\r");
        } else if (c == '\t') {
            buf_append_str(out, "\\t");
        } else {
            buf_append_str(out, "\\u00");
            buf_append_u8(out, (uint8_t)hex[c >> 4]);
            buf_append_u8(out, (uint8_t)hex[c & 15]);
        }
    }
    if (from < s.len) {
        buf_append(out, s.ptr + from, s.len - from);
    }
    buf_append_u8(out, '"');
}

/* Days since 1970-01-01 of a proleptic Gregorian date, and back (H. Hinnant, "chrono-compatible
 * low-level date algorithms"): libc's gmtime would do one way only, and with a table of leap
 * seconds. */
static int64_t days_from_civil(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

static void civil_from_days(int64_t z, int64_t *ret_y, int64_t *ret_m, int64_t *ret_d)
{
    z += 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *ret_d = doy - (153 * mp + 2) / 5 + 1;
    *ret_m = mp < 10 ? mp + 3 : mp - 9;
    *ret_y = yoe + era * 400 + (*ret_m <= 2);
}

void json_print_time(struct buf *out, int64_t time_ns)
{
    /* Go's zero time, which stands for "never" in the API. */
    if (time_ns == INT64_MIN) {
        buf_append_str(out, "0001-01-01T00:00:00Z");
        return;
    }
    int64_t s = time_ns / NS_PER_S;
    int64_t ns = time_ns % NS_PER_S;
    if (ns < 0) {
        ns += NS_PER_S;
        s--;
    }
    int64_t days = s / 86400;
    int64_t rest = s % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    int64_t y;
    int64_t m;
    int64_t d;
    civil_from_days(days, &y, &m, &d);
    buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d", (int)y, (int)m, (int)d, (int)(rest / 3600),
               (int)(rest / 60 % 60), (int)(rest % 60));
    if (ns != 0) {
        char digits[16];
        int n = snprintf(digits, sizeof digits, ".%09d", (int)ns);
        while (digits[n - 1] == '0') {
            n--;
        }
        buf_append(out, digits, (size_t)n);
    }
    buf_append_u8(out, 'Z');
}

/* @count digits at *@at, moving it on; -1 if there are others. */
static int64_t take_digits(struct slice text, size_t *at, size_t count)
{
    int64_t v = 0;
    if (text.len - *at < count) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t c = text.ptr[(*at)++];
        if (c < '0' || c > '9') {
            return -1;
        }
        v = v * 10 + (c - '0');
    }
    return v;
}

static bool take_char(struct slice text, size_t *at, char c)
{
    if (*at < text.len && text.ptr[*at] == (uint8_t)c) {
        (*at)++;
        return true;
    }
    return false;
}

/* The fraction after a dot, in ns; -1 when there is no digit. */
static int64_t take_fraction(struct slice text, size_t *at)
{
    int64_t ns = 0;
    int64_t unit = NS_PER_S / 10;
    size_t from = *at;
    while (*at < text.len && text.ptr[*at] >= '0' && text.ptr[*at] <= '9') {
        ns += unit * (text.ptr[*at] - '0');
        unit /= 10;
        (*at)++;
    }
    return *at == from ? -1 : ns;
}

/* Seconds east of UTC: Z, or +hh:mm; INT64_MIN when it is neither. */
static int64_t take_zone(struct slice text, size_t *at)
{
    if (take_char(text, at, 'Z') || take_char(text, at, 'z')) {
        return 0;
    }
    int64_t sign = take_char(text, at, '+') ? 1 : take_char(text, at, '-') ? -1 : 0;
    int64_t h = take_digits(text, at, 2);
    bool has_colon = take_char(text, at, ':');
    int64_t m = take_digits(text, at, 2);
    if (sign == 0 || h < 0 || h > 23 || !has_colon || m < 0 || m > 59) {
        return INT64_MIN;
    }
    return sign * (h * 3600 + m * 60);
}

int json_parse_time(struct slice text, int64_t *ret_time_ns)
{
    size_t at = 0;
    int64_t y = take_digits(text, &at, 4);
    bool ok = take_char(text, &at, '-');
    int64_t mo = take_digits(text, &at, 2);
    ok = ok && take_char(text, &at, '-');
    int64_t d = take_digits(text, &at, 2);
    ok = ok && (take_char(text, &at, 'T') || take_char(text, &at, 't'));
    int64_t h = take_digits(text, &at, 2);
    ok = ok && take_char(text, &at, ':');
    int64_t mi = take_digits(text, &at, 2);
    ok = ok && take_char(text, &at, ':');
    int64_t s = take_digits(text, &at, 2);
    int64_t ns = ok && take_char(text, &at, '.') ? take_fraction(text, &at) : 0;
    int64_t zone = ok ? take_zone(text, &at) : INT64_MIN;
    if (!ok || y < 0 || mo < 1 || mo > 12 || d < 1 || d > 31 || h < 0 || h > 23 || mi < 0 ||
        mi > 59 || s < 0 || s > 60 || ns < 0 || zone == INT64_MIN || at != text.len) {
        return ERR_INVALID;
    }
    if (y == 1 && mo == 1 && d == 1 && h == 0 && mi == 0 && s == 0) {
        *ret_time_ns = INT64_MIN;
        return 0;
    }
    int64_t seconds = days_from_civil(y, mo, d) * 86400 + h * 3600 + mi * 60 + s - zone;
    /* What fits into 64 bits of ns: 1678 to 2262. */
    if (seconds <= INT64_MIN / NS_PER_S || seconds >= INT64_MAX / NS_PER_S) {
        return ERR_INVALID;
    }
    *ret_time_ns = seconds * NS_PER_S + ns;
    return 0;
}

void json_print_base64(struct buf *out, struct slice bytes)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *p = buf_reserve(out, (bytes.len + 2) / 3 * 4);
    size_t n = 0;
    for (size_t i = 0; i < bytes.len; i += 3) {
        uint32_t v = (uint32_t)bytes.ptr[i] << 16;
        v |= i + 1 < bytes.len ? (uint32_t)bytes.ptr[i + 1] << 8 : 0;
        v |= i + 2 < bytes.len ? (uint32_t)bytes.ptr[i + 2] : 0;
        p[n++] = (uint8_t)alphabet[v >> 18];
        p[n++] = (uint8_t)alphabet[v >> 12 & 63];
        p[n++] = i + 1 < bytes.len ? (uint8_t)alphabet[v >> 6 & 63] : '=';
        p[n++] = i + 2 < bytes.len ? (uint8_t)alphabet[v & 63] : '=';
    }
    out->len += n;
}
