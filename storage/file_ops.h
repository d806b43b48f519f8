/* Every file operation of weir goes through this table.
 *
 * Production uses `file_ops_posix()`; tests and the simulator use `tests/lib/sim_disk.h`, which
 * keeps a durable and a volatile image, fails the n-th call and loses power. Errors are ERR_ codes;
 * `last_errno` tells the errno behind the last ERR_IO of the calling thread, for the message to the
 * operator.
 *
 * A failed write or sync is final: the caller stops the process, it never tries again (Linux marks
 * the pages clean after a failed fsync). Threads: any, but one file by one thread at a time. */
#ifndef STORAGE_FILE_OPS_H
#define STORAGE_FILE_OPS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FILE_READ = 1u << 0,
    FILE_WRITE = 1u << 1,
    FILE_CREATE = 1u << 2, /* Created if missing. */
    FILE_EXCL = 1u << 3,   /* With FILE_CREATE: ERR_EXISTS if it is there. */
    FILE_DIRECT =
        1u << 4, /* O_DIRECT|O_DSYNC: each write is durable when it returns; 4 KiB alignment
                  * of address, length and offset. ERR_UNSUPPORTED where the file system refuses. */
    FILE_UNCACHED =
        1u << 5, /* O_DIRECT alone: past the page cache, durable with sync. Same rules. */
};

struct file; /* An open file; made and closed by the table that opened it. */

/* Called once per name in a directory, "." and ".." left out. */
typedef void (*file_list_cb)(void *arg, const char *name);

struct file_ops {
    void *ctx;
    int (*open)(void *ctx, const char *path, unsigned flags, struct file **ret_file);
    void (*close)(void *ctx, struct file *f);
    /* Up to @len bytes; *ret_n is smaller only at the end of the file. */
    int (*pread)(void *ctx, struct file *f, void *buf, size_t len, uint64_t off, size_t *ret_n);
    /* All @len bytes, or an error. Extends the file. */
    int (*pwrite)(void *ctx, struct file *f, const void *buf, size_t len, uint64_t off);
    int (*sync)(void *ctx, struct file *f); /* fdatasync */
    int (*truncate)(void *ctx, struct file *f, uint64_t size);
    int (*size)(void *ctx, struct file *f, uint64_t *ret_size);
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*unlink)(void *ctx, const char *path);
    int (*mkdir)(void *ctx, const char *path); /* ERR_EXISTS if it is there. */
    int (*sync_dir)(void *ctx, const char *path);
    int (*list)(void *ctx, const char *path, file_list_cb cb, void *arg);
    int (*last_errno)(void *ctx);
};

/* The operating system's. Static; never freed. */
const struct file_ops *file_ops_posix(void);
#endif
