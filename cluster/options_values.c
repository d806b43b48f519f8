/* Texts of flags and configuration to values: durations, numbers, addresses, URLs. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/options_internal.h"
#include "storage/base/err.h"

#define HOST_BYTES_MAX 253

void options_set_string(char **field, struct slice value)
{
    free(*field);
    *field = value.ptr == NULL ? NULL : xslicedup(value);
}

static void free_list(char **list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        free(list[i]);
    }
    free(list);
}

void options_clear(struct node_options *o)
{
    char *strings[] = {o->config_path,
                       o->host,
                       o->server_name,
                       o->client_advertise,
                       o->http_host,
                       o->user,
                       o->pass,
                       o->token,
                       o->cluster_name,
                       o->cluster_host,
                       o->cluster_advertise,
                       o->cluster_user,
                       o->cluster_pass,
                       o->store_dir,
                       o->unique_tag,
                       o->pid_file,
                       o->ports_file_dir,
                       o->log_file};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        free(strings[i]);
    }
    for (uint32_t i = 0; i < o->users_count; i++) {
        free(o->users[i].user);
        free(o->users[i].pass);
    }
    free(o->users);
    tags_close(&o->tags);
    free_list(o->routes, o->routes_count);
    free_list(o->notes, o->notes_count);
    *o = (struct node_options){0};
}

static void add_to(char ***list, uint32_t *count, struct slice text)
{
    *list = xrealloc(*list, (*count + 1) * sizeof **list);
    (*list)[(*count)++] = xslicedup(text);
}

void options_add_note(struct node_options *o, struct slice text)
{
    add_to(&o->notes, &o->notes_count, text);
}

void options_add_route(struct node_options *o, struct slice url)
{
    add_to(&o->routes, &o->routes_count, url);
}

/* ---- Durations ---- */

static int64_t unit_ns(struct slice unit)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"ns", 1},       {"us", 1000},      {"\xc2\xb5s", 1000}, {"\xce\xbcs", 1000},
                 {"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000},  {"h", 3600000000000}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (slice_eq_str(unit, units[i].name)) {
            return units[i].ns;
        }
    }
    return 0;
}

static int refuse_duration(struct slice text, const char *what, struct buf *error)
{
    buf_printf(error, "time: %s \"%.*s\"", what, SLICE_ARG(text));
    return ERR_INVALID;
}

/* The digits at @at; returns where they end, or SIZE_MAX when they are too many. */
static size_t take_digits(struct slice text, size_t at, int64_t *ret_value)
{
    *ret_value = 0;
    while (at < text.len && isdigit(text.ptr[at])) {
        if (__builtin_mul_overflow(*ret_value, 10, ret_value) ||
            __builtin_add_overflow(*ret_value, text.ptr[at] - '0', ret_value)) {
            return SIZE_MAX;
        }
        at++;
    }
    return at;
}

int options_parse_duration(struct slice text, int64_t *ret_ns, struct buf *error)
{
    size_t at = 0;
    int64_t sum = 0;
    bool is_negative = text.len > 0 && text.ptr[0] == '-';
    at += text.len > 0 && (text.ptr[0] == '-' || text.ptr[0] == '+');
    if (slice_eq_str(slice_from(text, at), "0")) {
        *ret_ns = 0;
        return 0;
    }
    if (at == text.len) {
        return refuse_duration(text, "invalid duration", error);
    }
    while (at < text.len) {
        int64_t whole;
        size_t begin = at;
        at = take_digits(text, at, &whole);
        double fraction = 0;
        size_t digits = at == SIZE_MAX ? 0 : at - begin;
        if (at < text.len && text.ptr[at] == '.') {
            double scale = 0.1;
            for (at++; at < text.len && isdigit(text.ptr[at]); at++, scale /= 10, digits++) {
                fraction += scale * (text.ptr[at] - '0');
            }
        }
        if (digits == 0) {
            return refuse_duration(text, "invalid duration", error);
        }
        begin = at;
        while (at < text.len && text.ptr[at] != '.' && !isdigit(text.ptr[at])) {
            at++;
        }
        struct slice unit = slice_of(text.ptr + begin, at - begin);
        if (unit.len == 0) {
            return refuse_duration(text, "missing unit in duration", error);
        }
        int64_t ns = unit_ns(unit);
        if (ns == 0) {
            buf_printf(error, "time: unknown unit \"%.*s\" in duration \"%.*s\"", SLICE_ARG(unit),
                       SLICE_ARG(text));
            return ERR_INVALID;
        }
        if (__builtin_mul_overflow(whole, ns, &whole) || __builtin_add_overflow(sum, whole, &sum) ||
            __builtin_add_overflow(sum, (int64_t)(fraction * (double)ns + 0.5), &sum)) {
            return refuse_duration(text, "invalid duration", error);
        }
    }
    *ret_ns = is_negative ? -sum : sum;
    return 0;
}

void options_print_duration(struct buf *out, int64_t ms)
{
    int64_t s = ms / 1000;
    if (ms > 0 && ms < 1000) {
        buf_printf(out, "%dms", (int)ms);
        return;
    }
    if (s >= 3600) {
        buf_printf(out, "%lldh", (long long)(s / 3600));
    }
    if (s >= 60) {
        buf_printf(out, "%lldm", (long long)(s / 60 % 60));
    }
    buf_printf(out, "%lld", (long long)(s % 60));
    if (ms % 1000 != 0) {
        char digits[8];
        snprintf(digits, sizeof digits, ".%03d", (int)(ms % 1000));
        for (size_t len = strlen(digits); digits[len - 1] == '0'; len--) {
            digits[len - 1] = '\0';
        }
        buf_append_str(out, digits);
    }
    buf_append_str(out, "s");
}

/* ---- Numbers ---- */

int options_parse_int(const char *text, int64_t *ret_value)
{
    const char *at = text + (text[0] == '-' || text[0] == '+');
    int base = 10;
    if (at[0] == '0' && at[1] != '\0') {
        char c = (char)tolower((unsigned char)at[1]);
        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        at += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
    }
    int64_t value = 0;
    bool is_big = false;
    if (*at == '\0') {
        return ERR_INVALID;
    }
    for (; *at != '\0'; at++) {
        int digit = isdigit((unsigned char)*at)    ? *at - '0'
                    : isxdigit((unsigned char)*at) ? tolower((unsigned char)*at) - 'a' + 10
                                                   : base;
        if (digit >= base) {
            return ERR_INVALID;
        }
        is_big = is_big || __builtin_mul_overflow(value, base, &value) ||
                 __builtin_sub_overflow(value, digit, &value);
    }
    /* Counted down: the smallest number has no positive twin. */
    if (is_big || (text[0] != '-' && value == INT64_MIN)) {
        return ERR_TOOBIG;
    }
    *ret_value = text[0] == '-' ? value : -value;
    return 0;
}

int options_parse_bool(const char *text, bool *ret_value)
{
    static const char *const words[] = {"1", "t", "T", "TRUE",  "true",  "True",
                                        "0", "f", "F", "FALSE", "false", "False"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i], text) == 0) {
            *ret_value = i < 6;
            return 0;
        }
    }
    return ERR_INVALID;
}

/* ---- Addresses ---- */

static bool is_host(struct slice host)
{
    for (size_t i = 0; i < host.len; i++) {
        if (host.ptr[i] <= ' ' || host.ptr[i] == 0x7f || strchr("/@\"'[]", host.ptr[i]) != NULL) {
            return false;
        }
    }
    return host.len <= HOST_BYTES_MAX;
}

/* Cut at the last colon; of what has several, the host must stand in brackets. */
static bool split(struct slice text, struct slice *ret_host, struct slice *ret_port)
{
    size_t colon = text.len;
    while (colon > 0 && text.ptr[colon - 1] != ':') {
        colon--;
    }
    if (colon == 0) {
        return false;
    }
    struct slice host = slice_of(text.ptr, colon - 1);
    if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']') {
        host = slice_of(host.ptr + 1, host.len - 2);
    } else if (host.len > 0 && memchr(host.ptr, ':', host.len) != NULL) {
        return false;
    }
    *ret_host = host;
    *ret_port = slice_from(text, colon);
    return is_host(host);
}

static bool parse_port(struct slice text, int port_min, int *ret_port)
{
    char digits[8];
    int64_t value;
    if (text.len == 0 || text.len >= sizeof digits) {
        return false;
    }
    snprintf(digits, sizeof digits, "%.*s", SLICE_ARG(text));
    /* As plain decimal: no 0x and no octal in an address. */
    size_t from = digits[0] == '-';
    if (strspn(digits + from, "0123456789") != strlen(digits + from) || digits[from] == '\0') {
        return false;
    }
    value = strtol(digits, NULL, 10);
    if (value < port_min || value > OPTIONS_PORT_MAX) {
        return false;
    }
    *ret_port = (int)value;
    return true;
}

int options_parse_address(struct slice text, struct slice *ret_host, int *ret_port,
                          struct buf *error)
{
    struct slice host, port;
    if (!split(text, &host, &port)) {
        buf_printf(error, "could not parse address string \"%.*s\"", SLICE_ARG(text));
        return ERR_INVALID;
    }
    if (!parse_port(port, -1, ret_port)) {
        buf_printf(error, "could not parse port \"%.*s\": it must be -1 to 65535", SLICE_ARG(port));
        return ERR_INVALID;
    }
    *ret_host = host;
    return 0;
}

int options_check_advertise(struct slice text, struct buf *error)
{
    struct slice host, port;
    int number;
    bool has_colon = text.len > 0 && memchr(text.ptr, ':', text.len) != NULL;
    bool is_fine = has_colon
                       ? split(text, &host, &port) && host.len > 0 && parse_port(port, 1, &number)
                       : text.len > 0 && is_host(text);
    if (!is_fine) {
        buf_printf(error, "\"%.*s\" is not an address to advertise: host or host:port",
                   SLICE_ARG(text));
        return ERR_INVALID;
    }
    return 0;
}

/* ---- URLs ---- */

/* Cut scheme://userinfo@rest. Without a scheme or userinfo these are empty, ptr NULL. */
static void cut_url(struct slice url, struct slice *scheme, struct slice *user, struct slice *rest)
{
    *scheme = *user = SLICE_EMPTY;
    for (size_t i = 0; i + 2 < url.len; i++) {
        if (memcmp(url.ptr + i, "://", 3) == 0) {
            *scheme = slice_of(url.ptr, i);
            url = slice_from(url, i + 3);
            break;
        }
    }
    for (size_t i = url.len; i > 0; i--) {
        if (url.ptr[i - 1] == '@') {
            *user = slice_of(url.ptr, i - 1);
            url = slice_from(url, i);
            break;
        }
    }
    *rest = url;
}

int options_check_route(struct slice url, struct buf *error)
{
    struct slice scheme, user, rest, host, port;
    int number;
    cut_url(url, &scheme, &user, &rest);
    while (rest.len > 0 && rest.ptr[rest.len - 1] == '/') {
        rest.len--;
    }
    if (scheme.len == 0 || memchr(url.ptr, 0, url.len) != NULL) {
        buf_printf(error, "error parsing route url [\"%.*s\"]", SLICE_ARG(url));
        return ERR_INVALID;
    }
    if (slice_eq_str(scheme, "tls")) {
        buf_printf(error, "route \"%.*s\": weir does not have TLS yet", SLICE_ARG(url));
        return ERR_INVALID;
    }
    if (!split(rest, &host, &port) || host.len == 0 || !parse_port(port, 1, &number)) {
        buf_printf(error,
                   "error parsing route url [\"%.*s\"]: it needs a host and a port, 1 to 65535",
                   SLICE_ARG(url));
        return ERR_INVALID;
    }
    return 0;
}

int options_set_cluster_listen(struct node_options *o, struct slice url, struct buf *error)
{
    struct slice scheme, user, rest, host;
    if (url.len == 0) {
        o->cluster_port = 0;
        return 0;
    }
    cut_url(url, &scheme, &user, &rest);
    while (rest.len > 0 && rest.ptr[rest.len - 1] == '/') {
        rest.len--;
    }
    int port;
    int rv = options_parse_address(rest, &host, &port, error);
    if (rv != 0) {
        return rv;
    }
    const uint8_t *colon = user.ptr == NULL ? NULL : memchr(user.ptr, ':', user.len);
    if (user.ptr != NULL && (colon == NULL || colon == user.ptr)) {
        buf_append_str(error, "the URL to listen on for routes has a user but no password");
        return ERR_INVALID;
    }
    if (user.ptr != NULL) {
        size_t len = (size_t)(colon - user.ptr);
        options_set_string(&o->cluster_user, slice_of(user.ptr, len));
        options_set_string(&o->cluster_pass, slice_from(user, len + 1));
    }
    options_set_string(&o->cluster_host, host.len == 0 ? SLICE_LIT("0.0.0.0") : host);
    o->cluster_port = port;
    return 0;
}
