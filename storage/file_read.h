/* Whole reads of files, for what is read at once and checked afterwards. Any thread. */
#ifndef STORAGE_FILE_READ_H
#define STORAGE_FILE_READ_H
#include <stdint.h>

#include "storage/base/buf.h"
#include "storage/file_ops.h"

/* Append all bytes of the file to @out. ERR_NOTFOUND, ERR_IO. */
int file_read_all(const struct file_ops *ops, const char *path, struct buf *out);
/* Bytes [off, off + len) of the file as the disk has them, not as the page cache does; zeros where
 * the file has ended. ERR_UNSUPPORTED: not on this file system. ERR_NOTFOUND, ERR_NOMEM, ERR_IO. */
int file_read_disk(const struct file_ops *ops, const char *path, uint8_t *raw, size_t len,
                   uint64_t off);
#endif
