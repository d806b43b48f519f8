#include "broker/api_error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "broker/json_fields.h"
#include "storage/base/err.h"

struct known_error {
    int err_code;
    int code;
    const char *text;
};

static const struct known_error known_errors[] = {
#define API_ERROR_ROW(number, http, name, words) {number, http, words},
    API_ERROR_MAP(API_ERROR_ROW)
#undef API_ERROR_ROW
};

static const struct known_error *find(int err_code)
{
    for (size_t i = 0; i < sizeof known_errors / sizeof known_errors[0]; i++) {
        if (known_errors[i].err_code == err_code) {
            return &known_errors[i];
        }
    }
    return NULL;
}

bool api_error_is_known(int err_code)
{
    return find(err_code) != NULL;
}

int api_error_set(struct api_error *e, enum api_error_code code, const char *fmt, ...)
{
    const struct known_error *k = find((int)code);
    assert(k != NULL);
    char filling[320] = "";
    if (fmt != NULL) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(filling, sizeof filling, fmt, ap);
        va_end(ap);
    }
    e->code = k->code;
    e->err_code = k->err_code;
    const char *open = strchr(k->text, '{');
    const char *close = open == NULL ? NULL : strchr(open, '}');
    if (close == NULL) {
        snprintf(e->text, sizeof e->text, "%s", k->text);
    } else {
        snprintf(e->text, sizeof e->text, "%.*s%s%s", (int)(open - k->text), k->text, filling,
                 close + 1);
    }
    return ERR_INVALID;
}

void api_error_print(const struct api_error *e, struct buf *out)
{
    buf_printf(out, "\"error\":{\"code\":%d,\"err_code\":%d,\"description\":", e->code,
               e->err_code);
    json_print_string(out, slice_str(e->text));
    buf_append_u8(out, '}');
}
