/* The process's log: one event per line, in nats-server's format.
 *
 *   [pid] 2006/01/02 15:04:05.000000 [INF] text
 *
 * The level and the destination are the only globals of weir beside libraft's heap. Lines are
 * written whole with one write(2), from any thread. Pure code (broker/, state machines) does not
 * log. */
#ifndef STORAGE_BASE_LOG_H
#define STORAGE_BASE_LOG_H
#include <stdbool.h>

enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WRN, LOG_LEVEL_INF, LOG_LEVEL_DBG, LOG_LEVEL_TRC };

struct log_options {
    enum log_level level_max; /* Lines above it are dropped. */
    const char *path;         /* Appended to; NULL for stderr. Copied. */
    bool has_time;
    bool is_utc;
};

/* Start or change logging. Returns 0 or ERR_IO (the former destination stays in use). */
int log_open(const struct log_options *options);
/* Open the file again, after it was moved away (SIGUSR1). Returns 0 or ERR_IO. */
int log_reopen(void);
bool log_is_on(enum log_level level);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Log at FTL, and exit with status 1. */
_Noreturn void log_fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define log_err(...) log_line(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_wrn(...) log_line(LOG_LEVEL_WRN, __VA_ARGS__)
#define log_inf(...) log_line(LOG_LEVEL_INF, __VA_ARGS__)
#define log_dbg(...)                                                                               \
    do {                                                                                           \
        if (log_is_on(LOG_LEVEL_DBG)) {                                                            \
            log_line(LOG_LEVEL_DBG, __VA_ARGS__);                                                  \
        }                                                                                          \
    } while (0)
#endif
