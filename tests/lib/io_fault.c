/* Preloaded into a node (LD_PRELOAD): one call on a file below a folder fails, once. The test
 * shares a page with it, the file WEIR_IO_FAULT names (native byte order, u64 each):
 *
 *   calls     made so far that this fault could have hit
 *   fail_at   the number of the one that fails; 0: none
 *   failed    how many did
 *   fault     0: EIO; 1: ENOSPC, of calls that take room; 2: a write stores half of its bytes
 *
 * WEIR_IO_FAULT_PATH: what paths of such files contain. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum fault { FAULT_EIO, FAULT_ENOSPC, FAULT_SHORT };
enum kind { KIND_READ, KIND_ROOM, KIND_WRITE };

struct shared {
    _Atomic uint64_t calls;
    _Atomic uint64_t fail_at;
    _Atomic uint64_t failed;
    _Atomic uint64_t fault;
};

static struct shared *shared;
static const char *below;

#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("WEIR_IO_FAULT");
    below = getenv("WEIR_IO_FAULT_PATH");
    int fd = path == NULL || below == NULL ? -1 : REAL(open)(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        void *page = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        shared = page == MAP_FAILED ? NULL : page;
        (void)REAL(close)(fd);
    }
}

static bool hits(const char *path, enum kind kind)
{
    if (shared == NULL || strstr(path, below) == NULL) {
        return false;
    }
    enum fault fault = (enum fault)atomic_load(&shared->fault);
    if ((fault == FAULT_ENOSPC && kind == KIND_READ) ||
        (fault == FAULT_SHORT && kind != KIND_WRITE)) {
        return false;
    }
    uint64_t call = atomic_fetch_add(&shared->calls, 1) + 1;
    if (call != atomic_load(&shared->fail_at)) {
        return false;
    }
    atomic_fetch_add(&shared->failed, 1);
    errno = fault == FAULT_ENOSPC ? ENOSPC : EIO;
    return true;
}

static bool hits_fd(int fd, enum kind kind)
{
    char link[64];
    char path[4096];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = shared == NULL ? -1 : readlink(link, path, sizeof path - 1);
    errno = saved;
    if (n <= 0) {
        return false;
    }
    path[n] = '\0';
    return hits(path, kind);
}

static bool is_short(void)
{
    return atomic_load(&shared->fault) == FAULT_SHORT;
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if ((flags & O_CREAT) != 0) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    bool is_new = (flags & O_CREAT) != 0;
    return hits(path, is_new ? KIND_ROOM : KIND_READ) ? -1 : REAL(open)(path, flags, mode);
}

ssize_t pread(int fd, void *buf, size_t count, off_t off)
{
    return hits_fd(fd, KIND_READ) ? -1 : REAL(pread)(fd, buf, count, off);
}

ssize_t pwrite(int fd, const void *buf, size_t count, off_t off)
{
    if (!hits_fd(fd, KIND_WRITE)) {
        return REAL(pwrite)(fd, buf, count, off);
    }
    /* Direct writes come in sectors. */
    return is_short() && count > 1
               ? REAL(pwrite)(fd, buf, count > 512 ? count / 1024 * 512 : count / 2, off)
               : -1;
}

ssize_t write(int fd, const void *buf, size_t count)
{
    if (!hits_fd(fd, KIND_WRITE)) {
        return REAL(write)(fd, buf, count);
    }
    return is_short() && count > 1 ? REAL(write)(fd, buf, count / 2) : -1;
}

int fdatasync(int fd)
{
    return hits_fd(fd, KIND_ROOM) ? -1 : REAL(fdatasync)(fd);
}

int fsync(int fd)
{
    return hits_fd(fd, KIND_ROOM) ? -1 : REAL(fsync)(fd);
}

int ftruncate(int fd, off_t size)
{
    return hits_fd(fd, KIND_ROOM) ? -1 : REAL(ftruncate)(fd, size);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
    return hits_fd(fd, KIND_ROOM) ? -1 : REAL(fallocate)(fd, mode, off, len);
}

int rename(const char *from, const char *to)
{
    return hits(from, KIND_ROOM) ? -1 : REAL(rename)(from, to);
}

int unlink(const char *path)
{
    return hits(path, KIND_READ) ? -1 : REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode)
{
    return hits(path, KIND_ROOM) ? -1 : REAL(mkdir)(path, mode);
}

DIR *opendir(const char *path)
{
    return hits(path, KIND_READ) ? NULL : REAL(opendir)(path);
}
