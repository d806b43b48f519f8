/* Walk the members of one JSON object in place, with the error texts of Go's encoding/json: clients
 * see them behind "400 Bad Request - ". For the small objects of hot requests (pulls, -NAK); all
 * others go through json_fields.h. Allocates nothing; input may be anything. */
#ifndef BROKER_JSON_SCAN_H
#define BROKER_JSON_SCAN_H
#include "storage/base/slice.h"

#define JSON_SCAN_DEPTH_MAX 10000u
#define JSON_SCAN_ERROR_BYTES 160u

enum json_scan_type {
    JSON_SCAN_NULL,
    JSON_SCAN_BOOL,
    JSON_SCAN_NUMBER,
    JSON_SCAN_STRING,
    JSON_SCAN_ARRAY,
    JSON_SCAN_OBJECT
};
/* @key and @value as they stand there, without the quotes of strings: escapes are not resolved. */
typedef void (*json_scan_cb)(void *arg, struct slice key, enum json_scan_type type,
                             struct slice value);

/* True if @text is one JSON object and nothing else; @cb saw its members, also when it fails later.
 * On failure @ret_error is a text of one line with a NUL. */
bool json_scan_object(struct slice text, char ret_error[static JSON_SCAN_ERROR_BYTES], void *arg,
                      json_scan_cb cb);
/* As Go decodes a number into an int64: false if it has a fraction or exponent, or does not fit. */
bool json_scan_int(struct slice value, int64_t *ret_value);
#endif
