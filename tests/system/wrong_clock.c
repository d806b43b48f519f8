/* Preloaded into a node (LD_PRELOAD): its wall clock is off by what the file named by WRONG_CLOCK
 * says at that moment: 8 bytes, nanoseconds, of this machine's byte order. Other clocks are right.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ll

static const volatile int64_t *offset;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void find(void)
{
    const char *path = getenv("WRONG_CLOCK");
    void *symbol = dlsym(RTLD_NEXT, "clock_gettime");
    *(void **)&real_clock_gettime = symbol;
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    void *at = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) {
        offset = at;
    }
    close(fd);
}

static int64_t wall_ns(void)
{
    struct timespec t;
    real_clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec + (offset == NULL ? 0 : *offset);
}

int clock_gettime(clockid_t id, struct timespec *ret)
{
    if (real_clock_gettime == NULL) {
        find(); /* Asked before this library's turn. */
    }
    if (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE) {
        return real_clock_gettime(id, ret);
    }
    int64_t ns = wall_ns();
    ret->tv_sec = ns / NS_PER_S;
    ret->tv_nsec = ns % NS_PER_S;
    return 0;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    (void)zone;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    ret->tv_sec = t.tv_sec;
    ret->tv_usec = t.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *ret)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (ret != NULL) {
        *ret = t.tv_sec;
    }
    return t.tv_sec;
}
