/* An allocator that fails once, in place of the C library's: linked into a program, or preloaded.
 *
 * malloc, calloc, realloc and the aligned ones are counted, whoever calls them: weir, libraft,
 * libuv, msgpack, the C library itself. When armed, one of them answers NULL with ENOMEM, once.
 * Not for builds with sanitizers, which have an allocator of their own.
 *
 * Preloaded, the file named by WEIR_ALLOC_FAULT is mapped as a struct alloc_fault, made by the
 * test: it sees the count grow, and arms by writing `fail_at`. Threads: any. */
#ifndef TESTS_LIB_ALLOC_FAULT_H
#define TESTS_LIB_ALLOC_FAULT_H
#include <stdatomic.h>
#include <stdint.h>

struct alloc_fault {
    _Atomic uint64_t calls;   /* So far, while not suspended. */
    _Atomic uint64_t fail_at; /* The call that fails; 0: none. */
    _Atomic uint64_t failed;  /* How many did: 0 or 1. */
};

/* The program's own, or the mapped one. */
extern struct alloc_fault *alloc_fault;

/* The @nth call from now on fails; 0: none does. Nothing has failed yet. */
void alloc_fault_arm(uint64_t nth);

/* The calling thread's calls are neither counted nor failed until it resumes. Nests. */
void alloc_fault_suspend(void);
void alloc_fault_resume(void);
#endif
