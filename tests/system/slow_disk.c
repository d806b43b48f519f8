/* Preloaded into a node (LD_PRELOAD): writes and syncs of its write-ahead log take as long as the
 * file named by SLOW_DISK says, in milliseconds; `stuck`: until it says something else; `store 30`
 * and `store stuck`: those of the store instead. Without the file nothing is slower. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int is_of(int fd, const char *folder)
{
    char link[64];
    char path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) {
        return 0;
    }
    path[n] = '\0';
    return strstr(path, folder) != NULL;
}

/* Milliseconds, or -1: stuck. */
static long delay_ms(int fd)
{
    const char *path = getenv("SLOW_DISK");
    char text[32] = "";
    FILE *f = path == NULL ? NULL : fopen(path, "r");
    if (f != NULL) {
        if (fgets(text, sizeof text, f) == NULL) {
            text[0] = '\0';
        }
        fclose(f);
    }
    int is_store = strncmp(text, "store ", 6) == 0;
    if (!is_of(fd, is_store ? "/store/" : "/wal/")) {
        return 0;
    }
    const char *how = text + (is_store ? 6 : 0);
    return strncmp(how, "stuck", 5) == 0 ? -1 : strtol(how, NULL, 10);
}

static void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void be_slow(int fd)
{
    if (!is_of(fd, "/wal/") && !is_of(fd, "/store/")) {
        return;
    }
    long ms = delay_ms(fd);
    while (ms < 0) {
        sleep_ms(5);
        ms = delay_ms(fd);
    }
    if (ms > 0) {
        sleep_ms(ms);
    }
}

ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (real == NULL) {
        real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    }
    be_slow(fd);
    return real(fd, buf, count, offset);
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (real == NULL) {
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    }
    be_slow(fd);
    return real(fd);
}
