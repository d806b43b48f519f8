/* How the process holds its memory. */
#ifndef CLUSTER_MEMORY_H
#define CLUSTER_MEMORY_H

struct loop;
struct memory_keeper;

/* Once, before anything large is allocated and libuv is called. What libuv cannot get ends the
 * process with a message, as for all others. And keep what was freed instead of giving it back to
 * the kernel at once. A node allocates and frees buffers of some 100 KiB all the time (entries,
 * blocks in memory, frames); by the allocator's defaults each comes fresh from the kernel, which
 * has to zero it page by page. */
void memory_tune(void);

/* Give freed memory back when the node has been quiet for a while after work. Of the loop; frees
 * with memory_keeper_free before it. */
struct memory_keeper *memory_keeper_new(struct loop *loop);
void memory_keeper_free(struct memory_keeper *k);
#endif
