#include "storage/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"

static _Atomic int current_level = LOG_LEVEL_INF;
static _Atomic int current_fd = STDERR_FILENO;
static char *current_path;
static bool with_time = true;
static bool in_utc;

/* Put @path behind the descriptor that other threads may be writing to. */
static int switch_to(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        return ERR_IO;
    }
    int old = current_fd;
    if (old == STDERR_FILENO) {
        current_fd = fd;
        return 0;
    }
    int rv = dup3(fd, old, O_CLOEXEC) < 0 ? ERR_IO : 0;
    close(fd);
    return rv;
}

int log_open(const struct log_options *options)
{
    if (options->path != NULL) {
        int rv = switch_to(options->path);
        if (rv != 0) {
            return rv;
        }
        free(current_path);
        current_path = xstrndup(options->path, strlen(options->path));
    } else if (current_fd != STDERR_FILENO) {
        if (dup3(STDERR_FILENO, current_fd, O_CLOEXEC) < 0) {
            return ERR_IO;
        }
        free(current_path);
        current_path = NULL;
    }
    current_level = options->level_max;
    with_time = options->has_time;
    in_utc = options->is_utc;
    return 0;
}

int log_reopen(void)
{
    return current_path == NULL ? 0 : switch_to(current_path);
}

bool log_is_on(enum log_level level)
{
    return (int)level <= current_level;
}

/* One line a message, whatever strangers put into it: no byte of theirs ends a line, or moves a
 * terminal's cursor. */
static void make_printable(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) {
            text[i] = '.';
        }
    }
}

static void write_line(const char *label, const char *fmt, va_list ap)
{
    char line[4096];
    size_t used = (size_t)snprintf(line, sizeof line, "[%ld] ", (long)getpid());
    if (with_time) {
        struct timespec ts;
        struct tm tm;
        clock_gettime(CLOCK_REALTIME, &ts);
        if (in_utc) {
            gmtime_r(&ts.tv_sec, &tm);
        } else {
            localtime_r(&ts.tv_sec, &tm);
        }
        used += strftime(line + used, sizeof line - used, "%Y/%m/%d %H:%M:%S", &tm);
        used += (size_t)snprintf(line + used, sizeof line - used, ".%06ld ", ts.tv_nsec / 1000);
    }
    used += (size_t)snprintf(line + used, sizeof line - used, "[%s] ", label);
    int n = vsnprintf(line + used, sizeof line - used - 1, fmt, ap);
    if (n > 0) {
        size_t room = sizeof line - used - 2;
        size_t len = (size_t)n < room ? (size_t)n : room;
        make_printable(line + used, len);
        used += len;
    }
    line[used++] = '\n';
    /* A log that cannot be written must not stop the broker. */
    ssize_t written = write(current_fd, line, used);
    (void)written;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    static const char *const labels[] = {"ERR", "WRN", "INF", "DBG", "TRC"};
    if (!log_is_on(level)) {
        return;
    }
    int saved = errno;
    va_list ap;
    va_start(ap, fmt);
    write_line(labels[level], fmt, ap);
    va_end(ap);
    errno = saved;
}

_Noreturn void log_fatal(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    write_line("FTL", fmt, ap);
    va_end(ap);
    exit(1);
}
