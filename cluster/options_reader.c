#include "cluster/options_reader.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#include "storage/base/err.h"

/* ---- Errors ---- */

static void add_line(struct buf *out, const struct conf_value *v, const char *fmt, va_list args)
{
    char text[512];
    vsnprintf(text, sizeof text, fmt, args);
    /* nats-server counts columns from 0 on the first line and from 1 on all others. */
    buf_printf(out, "%s:%u:%u: %s\n", v->path, v->line, v->line == 1 ? v->col : v->col + 1, text);
}

void config_fault(struct config_reader *r, const struct conf_value *v, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    add_line(r->errors, v, fmt, args);
    va_end(args);
}

void config_warn(struct config_reader *r, const struct conf_value *v, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    add_line(r->warnings, v, fmt, args);
    va_end(args);
}

void config_note(struct config_reader *r, const struct conf_value *v, const char *why)
{
    struct buf text = BUF_EMPTY;
    buf_printf(&text, "%s:%u:%u: %s%s has no effect: %s", v->path, v->line,
               v->line == 1 ? v->col : v->col + 1, r->section, v->key, why);
    options_add_note(r->o, buf_slice(&text));
    buf_close(&text);
}

bool config_is_type(struct config_reader *r, const struct conf_value *v, enum conf_type type)
{
    if (v->type != type) {
        config_fault(r, v, "interface conversion: interface {} is %s, not %s",
                     conf_type_name(v->type), conf_type_name(type));
    }
    return v->type == type;
}

/* ---- Values ---- */

bool config_is_text(struct config_reader *r, const struct conf_value *v)
{
    if (!config_is_type(r, v, CONF_STRING)) {
        return false;
    }
    if (v->string.len > 0 && memchr(v->string.ptr, 0, v->string.len) != NULL) {
        config_fault(r, v, "\"%s\" contains a NUL byte", v->key == NULL ? "a value" : v->key);
        return false;
    }
    return true;
}

/* An empty text unsets. */
void config_read_string(struct config_reader *r, const struct conf_value *v, char **field)
{
    if (config_is_text(r, v)) {
        options_set_string(field, v->string.len == 0 ? SLICE_EMPTY : v->string);
    }
}

static void read_int(struct config_reader *r, const struct conf_value *v, const struct key *key,
                     int64_t *field)
{
    if (!config_is_type(r, v, CONF_INT)) {
        return;
    }
    if (v->integer == 0 && key->zero != 0) {
        *field = key->zero;
    } else if (v->integer > key->max) {
        config_fault(r, v, "%s value is too big: the limit is %lld", v->key, (long long)key->max);
    } else if (v->integer < key->min && v->integer < 0) {
        config_fault(r, v, "%s value can not be negative", v->key);
    } else if (v->integer < key->min) {
        config_fault(r, v, "%s value is too small: the least is %lld", v->key, (long long)key->min);
    } else {
        *field = v->integer;
    }
}

static bool is_port(struct config_reader *r, const struct conf_value *v)
{
    if (v->integer < -1 || v->integer > OPTIONS_PORT_MAX) {
        config_fault(r, v, "invalid port %lld: it must be -1 to 65535", (long long)v->integer);
        return false;
    }
    return true;
}

bool config_take_duration(struct config_reader *r, const struct conf_value *v, const char *what,
                          int64_t *ret_ms)
{
    struct buf why = BUF_EMPTY;
    int64_t ns;
    bool is_fine = options_parse_duration(v->string, &ns, &why) == 0;
    if (!is_fine) {
        config_fault(r, v, "error parsing %s%s %.*s", what == NULL ? v->key : what,
                     what == NULL ? ":" : "", SLICE_ARG(buf_slice(&why)));
    } else if (ns / 1000000 > OPTIONS_DURATION_MAX_MS) {
        config_fault(r, v, "%s is too long: the limit is 366 days", v->key);
        is_fine = false;
    } else {
        *ret_ms = ns > 0 && ns < 1000000 ? 1 : ns / 1000000;
    }
    buf_close(&why);
    return is_fine;
}

static void read_duration(struct config_reader *r, const struct conf_value *v,
                          const struct key *key, int64_t *field)
{
    int64_t ms = 0;
    if (v->type == CONF_INT) {
        config_warn(r, v, "invalid use of field \"%s\": %s should be converted to a duration",
                    v->key, v->key);
        if (v->integer > OPTIONS_DURATION_MAX_MS / 1000) {
            config_fault(r, v, "%s is too long: the limit is 366 days", v->key);
            return;
        }
        ms = v->integer < 0 ? -1 : v->integer * 1000;
    } else if (v->type != CONF_STRING) {
        config_is_type(r, v, CONF_INT);
        return;
    } else if (!config_take_duration(r, v, NULL, &ms)) {
        return;
    }
    if (ms < 0) {
        config_fault(r, v, "%s can not be negative", v->key);
        return;
    }
    *field = ms == 0 ? key->zero : ms;
}

void config_read_listen(struct config_reader *r, const struct conf_value *v, char **host, int *port)
{
    struct buf why = BUF_EMPTY;
    struct slice name;
    int number;
    if (v->type == CONF_INT) {
        if (is_port(r, v)) {
            *port = (int)v->integer;
        }
    } else if (v->type != CONF_STRING) {
        config_fault(r, v, "expected port or host:port, got %s", conf_type_name(v->type));
    } else if (options_parse_address(v->string, &name, &number, &why) != 0) {
        config_fault(r, v, "%.*s", SLICE_ARG(buf_slice(&why)));
    } else {
        options_set_string(host, name.len == 0 ? SLICE_EMPTY : name);
        *port = number;
    }
    buf_close(&why);
}

void config_read_name(struct config_reader *r, const struct conf_value *v, const char *what,
                      char **field)
{
    if (!config_is_text(r, v)) {
        return;
    }
    for (size_t i = 0; i < v->string.len; i++) {
        if (v->string.ptr[i] == ' ') {
            config_fault(r, v, "%s name cannot contain spaces", what);
            return;
        }
        if (v->string.ptr[i] < ' ' || v->string.ptr[i] == 0x7f) {
            config_fault(r, v, "%s name cannot contain control characters", what);
            return;
        }
    }
    if (v->string.len > OPTIONS_NAME_BYTES_MAX) {
        config_fault(r, v, "%s name is longer than %d bytes", what, OPTIONS_NAME_BYTES_MAX);
        return;
    }
    options_set_string(field, v->string.len == 0 ? SLICE_EMPTY : v->string);
}

void config_read_advertise(struct config_reader *r, const struct conf_value *v, char **field)
{
    struct buf why = BUF_EMPTY;
    if (config_is_text(r, v) && v->string.len > 0 &&
        options_check_advertise(v->string, &why) != 0) {
        config_fault(r, v, "%.*s", SLICE_ARG(buf_slice(&why)));
    } else if (v->type == CONF_STRING) {
        options_set_string(field, v->string.len == 0 ? SLICE_EMPTY : v->string);
    }
    buf_close(&why);
}

/* Whether the value says that the feature is not wanted. */
static bool asks_for_nothing(const struct conf_value *v)
{
    return (v->type == CONF_BOOL && !v->boolean) || (v->type == CONF_INT && v->integer == 0) ||
           (v->type == CONF_STRING && v->string.len == 0);
}

/* ---- A map by its table ---- */

static const struct key *find_key(const struct key *keys, size_t count, const char *name)
{
    char lower[64];
    size_t len = strlen(name);
    if (len == 0 || len >= sizeof lower) {
        return NULL;
    }
    for (size_t i = 0; i <= len; i++) {
        lower[i] = (char)tolower((unsigned char)name[i]);
    }
    for (size_t i = 0; i < count; i++) {
        for (const char *at = keys[i].names; *at != '\0';) {
            size_t n = strcspn(at, " ");
            if (n == len && memcmp(at, lower, n) == 0) {
                return &keys[i];
            }
            at += n + (at[n] == ' ');
        }
    }
    return NULL;
}

static void read_key(struct config_reader *r, const struct key *key, const struct conf_value *v)
{
    char *field = (char *)r->o + key->offset;
    switch (key->kind) {
    case KEY_STRING:
        config_read_string(r, v, (char **)(void *)field);
        break;
    case KEY_BOOL:
        if (config_is_type(r, v, CONF_BOOL)) {
            *(bool *)field = v->boolean;
        }
        break;
    case KEY_PORT:
        if (config_is_type(r, v, CONF_INT) && is_port(r, v)) {
            *(int *)(void *)field = (int)v->integer;
        }
        break;
    case KEY_INT:
        read_int(r, v, key, (int64_t *)(void *)field);
        break;
    case KEY_DURATION:
        read_duration(r, v, key, (int64_t *)(void *)field);
        break;
    case KEY_SPECIAL:
        key->apply(r, v);
        break;
    case KEY_MISSING:
        if (!asks_for_nothing(v)) {
            config_fault(r, v, "weir does not have \"%s%s\" yet", r->section, v->key);
        }
        break;
    case KEY_NO_EFFECT:
        if (key->min == ANY_TYPE || config_is_type(r, v, (enum conf_type)key->min)) {
            config_note(r, v, key->text);
        }
        break;
    case KEY_FINE:
        config_is_type(r, v, CONF_BOOL);
        break;
    }
}

void config_read_map(struct config_reader *r, const struct conf_value *map, const char *section,
                     const struct key *keys, size_t count)
{
    const char *outer = r->section;
    r->section = section;
    for (const struct conf_value *v = conf_first(map); v != NULL; v = conf_next(v)) {
        const struct key *key = strlen(v->key) == v->key_len ? find_key(keys, count, v->key) : NULL;
        if (key != NULL) {
            read_key(r, key, v);
        } else if (!v->is_variable) {
            config_fault(r, v, "unknown field \"%s\"", v->key);
        }
    }
    r->section = outer;
}
