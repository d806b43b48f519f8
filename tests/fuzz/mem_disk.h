/* Files in memory behind storage/file_ops.h, as cheap as can be: nothing is ever lost, and zeros
 * that are written behind the end cost nothing. Where power cuts matter use tests/lib/sim_disk.h.
 */
#ifndef TESTS_FUZZ_MEM_DISK_H
#define TESTS_FUZZ_MEM_DISK_H
#include "storage/file_ops.h"

/* One disk; emptied by mem_disk_clear, when no file is open. */
const struct file_ops *mem_disk_ops(void);
void mem_disk_clear(void);
#endif
