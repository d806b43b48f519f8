/* The thread that writes the WAL (raft-guide 7.3).
 *
 * It loops: take everything gathered, write and sync it as one frame, publish, tell the loop. While
 * it syncs, the loop appends to the next batch. There is no timer for batching: it comes from the
 * sync time. When nothing came for WAL_IDLE_MS it appends a WATERMARK, so that the durable LSN in
 * the log covers the last real frame, and prepares the next segment.
 *
 * Threads: the loop thread owns the `struct wal`, as ever, but while the thread runs it reaches it
 * by these functions alone, which hold the lock. */
#ifndef STORAGE_WAL_THREAD_H
#define STORAGE_WAL_THREAD_H
#include "storage/wal.h"

struct wal_thread;

struct wal_thread_options {
    struct wal *wal; /* Outlives the thread. */
    /* Called on the writer thread after the durable LSN moved; cheap, e.g. uv_async_send. */
    void (*durable)(void *arg);
    /* Called once on the writer thread when a write or sync failed; the thread has ended and the
     * process has to (raft-guide 7.7). */
    void (*failed)(void *arg, int err, int errno_value, const char *path);
    void *arg;
    uint32_t idle_ms; /* 0 = WAL_IDLE_MS. */
};

/* Returns 0 or ERR_NOMEM (no thread to be had). */
int wal_thread_start(const struct wal_thread_options *options, struct wal_thread **ret_thread);

/* Write what is gathered, end the thread and free it. NULL is fine. */
void wal_thread_stop(struct wal_thread *t);

/* wal_append under the lock. The writer is not woken: call wal_thread_kick at the end of the turn.
 */
uint64_t wal_thread_append(struct wal_thread *t, uint8_t type, uint64_t gid,
                           const struct slice *parts, unsigned parts_count);
/* For many calls of wal.h in a row (append, trim, the counts): hold the lock, then release it. */
struct wal *wal_thread_lock(struct wal_thread *t);
void wal_thread_unlock(struct wal_thread *t);
/* Wake the writer if something is gathered. */
void wal_thread_kick(struct wal_thread *t);

/* Everything up to this LSN is durable. Lock-free. */
uint64_t wal_thread_durable_lsn(const struct wal_thread *t);
/* Milliseconds since the write now under way began, 0 when there is none: the watchdog's measure
 * of a stuck disk. Lock-free. */
uint64_t wal_thread_stuck_ms(const struct wal_thread *t);
/* Batches written since the start, by how long each took with its sync: bucket b counts those of
 * less than 2^b microseconds that are in no lower one, the last all others. Lock-free. */
#define WAL_SYNC_BUCKETS 32
void wal_thread_syncs(const struct wal_thread *t, uint64_t ret_counts[WAL_SYNC_BUCKETS]);
#endif
