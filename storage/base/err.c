#include "storage/base/err.h"

const char *err_text(int err)
{
    switch (err) {
    case 0:
        return "ok";
#define ERR_CASE(number, name, text)                                                               \
    case ERR_##name:                                                                               \
        return text;
        ERR_MAP(ERR_CASE)
#undef ERR_CASE
    default:
        return "unknown error";
    }
}
