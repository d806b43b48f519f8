/* Small files, each replaced as a whole: a new file, its sync, its rename, the directory's sync. So
 * a crash leaves the old one or the new one. Any thread.
 *
 * What a node cannot do without is kept twice, as NAME and NAME.copy, so that what one of them
 * loses the other still says. The copy is written first: where both are right and differ, it is the
 * newer one, of a write that was cut off, and either will do. */
#ifndef STORAGE_SMALL_FILE_H
#define STORAGE_SMALL_FILE_H
#include <stddef.h>
#include <stdint.h>

#include "storage/base/slice.h"
#include "storage/file_ops.h"

#define SMALL_FILE_COPY ".copy"

/* ERR_IO, ERR_NOSPACE: the file is the old one or the new one. */
int small_file_write(const struct file_ops *ops, const char *dir, const char *name,
                     struct slice bytes);
/* The first @cap bytes. ERR_NOTFOUND, ERR_IO. */
int small_file_read(const struct file_ops *ops, const char *dir, const char *name, uint8_t *buf,
                    size_t cap, size_t *ret_len);
/* It is no error if it is not there. */
int small_file_remove(const struct file_ops *ops, const char *dir, const char *name);

int small_file_write_twice(const struct file_ops *ops, const char *dir, const char *name,
                           struct slice bytes);
#endif
