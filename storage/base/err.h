/* The one list of operating errors. A bug asserts; a refusal is an ordinary reply; the rest is
 * here. */
#ifndef STORAGE_BASE_ERR_H
#define STORAGE_BASE_ERR_H

#define ERR_MAP(X)                                                                                 \
    X(1, NOMEM, "out of memory")                                                                   \
    X(2, IO, "input/output error")                                                                 \
    X(3, CANCELED, "canceled")                                                                     \
    X(4, CORRUPT, "data is corrupt")                                                               \
    X(5, NOTFOUND, "not found")                                                                    \
    X(6, EXISTS, "exists already")                                                                 \
    X(7, INVALID, "invalid argument")                                                              \
    X(8, TOOBIG, "larger than allowed")                                                            \
    X(9, FULL, "limit reached")                                                                    \
    X(10, BUSY, "busy")                                                                            \
    X(11, CLOSED, "closed")                                                                        \
    X(12, NOSPACE, "no space left on device")                                                      \
    X(13, PROTO, "protocol violation")                                                             \
    X(14, TIMEOUT, "timed out")                                                                    \
    X(15, AGAIN, "not yet")                                                                        \
    X(16, AUTH, "not authorized")                                                                  \
    X(17, NOTLEADER, "not the leader")                                                             \
    X(18, UNSUPPORTED, "not supported")                                                            \
    X(19, VERSION, "made by another version")

enum {
#define ERR_ENUM(number, name, text) ERR_##name = -(number),
    ERR_MAP(ERR_ENUM)
#undef ERR_ENUM
};

/* The text of an ERR_ code, for logs; "ok" for 0. Never NULL. */
const char *err_text(int err);
#endif
