#include "tests/lib/alloc_fault.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* glibc's own, under the names it keeps for those that stand in front of it. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *ptr, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static struct alloc_fault own;
struct alloc_fault *alloc_fault = &own;

static _Thread_local unsigned suspended __attribute__((tls_model("initial-exec")));

void alloc_fault_arm(uint64_t nth)
{
    atomic_store(&alloc_fault->failed, 0);
    atomic_store(&alloc_fault->fail_at, nth == 0 ? 0 : atomic_load(&alloc_fault->calls) + nth);
}

void alloc_fault_suspend(void)
{
    suspended++;
}

void alloc_fault_resume(void)
{
    suspended--;
}

static bool is_to_fail(void)
{
    if (suspended > 0) {
        return false;
    }
    uint64_t call = atomic_fetch_add(&alloc_fault->calls, 1) + 1;
    if (call != atomic_load(&alloc_fault->fail_at)) {
        return false;
    }
    atomic_fetch_add(&alloc_fault->failed, 1);
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return is_to_fail() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return is_to_fail() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *ptr, size_t size)
{
    return is_to_fail() ? NULL : __libc_realloc(ptr, size);
}

void *memalign(size_t alignment, size_t size)
{
    return is_to_fail() ? NULL : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **ret_ptr, size_t alignment, size_t size)
{
    void *p = memalign(alignment, size);
    if (p == NULL) {
        return ENOMEM;
    }
    *ret_ptr = p;
    return 0;
}

/* Preloaded: what is counted before the file is mapped is counted in `own`, and never fails. */
__attribute__((constructor)) static void map_shared(void)
{
    const char *path = getenv("WEIR_ALLOC_FAULT");
    if (path == NULL) {
        return;
    }
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED
                     : mmap(NULL, sizeof *alloc_fault, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        abort(); /* A test that fails nothing would pass. */
    }
    close(fd);
    alloc_fault = p;
}
