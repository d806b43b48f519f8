/* The error object of JetStream API replies. */
#ifndef BROKER_API_ERROR_H
#define BROKER_API_ERROR_H
#include "broker/api_error_map.h"
#include "storage/base/buf.h"

#include <stdbool.h>

enum api_error_code {
#define API_ERROR_ENUM(number, http, name, text) API_ERROR_##name = number,
    API_ERROR_MAP(API_ERROR_ENUM)
#undef API_ERROR_ENUM
};

/* No error while `err_code` is 0. */
struct api_error {
    int code;     /* HTTP-like. */
    int err_code; /* enum api_error_code */
    char text[400];
};

/* Is it one of the list? What comes from another node may be of a newer one. */
bool api_error_is_known(int err_code);
/* Set @e to @code; what stands in braces in its text is replaced by the formatted @fmt, which is
 * NULL for texts without braces. Returns ERR_INVALID, so that a check can end with it. */
int api_error_set(struct api_error *e, enum api_error_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Append "error":{...}, without a comma. */
void api_error_print(const struct api_error *e, struct buf *out);
#endif
