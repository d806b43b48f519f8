/* The node's one write-ahead log, shared by all Raft groups (raft-guide 7.3).
 *
 * Records are opaque bytes tagged with a type and a group id (gid). Appending only copies into the
 * gathering batch; a writer takes the whole batch, lays it out as one frame, writes and syncs it,
 * and while it does the next batch gathers. So batch size adapts to the sync time, without a timer.
 *
 * Each record has a log sequence number (LSN), 1, 2, 3 … without gaps over the life of the
 * directory. `wal_durable_lsn` never goes back, and only ever covers records that are on stable
 * storage.
 *
 * Who drives it: production starts `wal_thread.h`; the simulator calls take, write and done itself,
 * with virtual time between them. Threads: `wal_batch_write` runs on the writer; everything else
 * belongs to the loop thread. `wal_batch_take` and `wal_batch_done` are called with the lock of the
 * driver held (wal_thread has one; the simulator needs none).
 *
 * The format stands at the top of wal_format.h, byte by byte. */
#ifndef STORAGE_WAL_H
#define STORAGE_WAL_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/slice.h"
#include "storage/file_ops.h"

struct wal;

/* Record types below this are the WAL's own (WATERMARK …); the host's begin here. */
#define WAL_TYPE_HOST_MIN 16
/* The host appends this with a gid (empty payload) when it no longer suspects the group: recovery
 * reports a suspicion again at each open until then, so a second crash does not hide it.
 * WAL_GID_ALL answers has_unknown_groups. */
#define WAL_TYPE_CLEARED 3
#define WAL_GID_ALL UINT64_MAX
/* A record may be larger than a frame usually is; the host bounds its entries far below this. */
#define WAL_RECORD_BYTES_MAX (72u * 1024 * 1024)

struct wal_options {
    const struct file_ops *ops;
    const char *dir;            /* Exists. Copied. */
    uint8_t node_uuid[16];      /* In each file header: a segment of another node is refused. */
    uint64_t segment_bytes_min; /* First size; doubles up to the max as the rate asks. 4 MiB. */
    uint64_t segment_bytes_max; /* 64 MiB. */
    uint32_t frame_bytes_max; /* Soft cap of one frame: 4 MiB. A frame takes at least one record. */
    uint32_t salt_seed;       /* Random in production, from the seed in the simulator. */
    uint32_t fill_bytes;      /* Of zeros written to the next segment between batches. 1 MiB. */
    bool try_direct;          /* O_DIRECT|O_DSYNC where the file system takes it. */
};

/* What opening found, besides the records. Text for the operator is logged by the caller. */
struct wal_recovery {
    uint64_t records_count;
    uint64_t last_lsn; /* Of what is kept; 0 when there is nothing. */
    bool is_torn;      /* The last frame never completed: discarded, nobody was told of it. */
    bool is_rotten;    /* The last frame may have been acknowledged, and is damaged (7.3). */
    bool is_corrupt;   /* Damage that is not the tail: files were renamed aside, never cut. */
    bool
        has_unknown_groups; /* Damage that no footer or index attributes: every group is suspect. */
    char damaged_file[256]; /* Path of the first damaged file, or "". */
    uint64_t damaged_off;   /* In it, where the first frame is that is not good; 0: its header. */
    bool is_foreign; /* A frame there has the right checksum and impossible values: not rot, but
                      * written by a fault, or by somebody else. */
};

/* A kept record, in LSN order. The payload is borrowed until the call returns. */
typedef void (*wal_replay_cb)(void *arg, uint64_t lsn, uint8_t type, uint64_t gid,
                              struct slice payload);
/* A group that may have lost records that were acknowledged; the host makes it SUSPECT or FAILED.
 * WAL_GID_ALL: every group. Comes after all records. */
typedef void (*wal_suspect_cb)(void *arg, uint64_t gid);

struct wal_replay {
    wal_replay_cb record;
    wal_suspect_cb suspect;
    void *arg;
    uint8_t
        record_type_max; /* A record of a higher type was written by a newer version. 0: none is. */
};

/* Recover the log of @options->dir and be ready for appending. A torn tail has been re-logged: what
 * was recovered is durable again when this returns.
 * Errors: ERR_IO, ERR_CORRUPT (a header of another node, an unreadable directory, frames that none
 * of ours could follow), ERR_NOSPACE, ERR_VERSION (a file or a record of a newer version; nothing
 * was written); then only damaged_file is set, to what it was about. */
int wal_open(const struct wal_options *options, const struct wal_replay *replay,
             struct wal_recovery *ret_recovery, struct wal **ret_wal);

/* What was not written is lost, as in a crash; so is a batch between take and done. NULL is fine.
 */
void wal_close(struct wal *w);

/* Queue one record made of @parts in a row, and return its LSN. The bytes are copied. */
uint64_t wal_append(struct wal *w, uint8_t type, uint64_t gid, const struct slice *parts,
                    unsigned parts_count);

/* Bytes gathered and not yet taken. */
uint64_t wal_pending_bytes(const struct wal *w);

/* The next LSN that wal_append would give. */
uint64_t wal_next_lsn(const struct wal *w);

/* Every record up to and including this LSN is on stable storage. */
uint64_t wal_durable_lsn(const struct wal *w);

/* Make what is gathered the batch in flight; false if nothing is gathered or one is in flight. */
bool wal_batch_take(struct wal *w);
/* Write and sync the batch in flight. On an error (ERR_IO, ERR_NOSPACE) the caller stops the
 * process: the batch is neither durable nor surely absent. Fills *ret_path for the message. */
int wal_batch_write(struct wal *w, const char **ret_path);
/* Publish the batch in flight as durable. Drops it if the write failed: nobody is told. */
void wal_batch_done(struct wal *w);

/* The writer has had nothing to do for this long: call wal_idle. */
#define WAL_IDLE_MS 50
/* Queue a WATERMARK if records were made durable that no later frame vouches for, so that losing
 * them is always noticed; true if the caller should take and write now. Nothing in flight. Under
 * the driver's lock. */
bool wal_idle(struct wal *w);
/* Go on with creating the next segment ahead of need, if the present one is past half: a slice,
 * after each batch. Returns 1 while there is more to do. A full disk is no error yet: it is tried
 * again some batches later, and by wal_batch_write when the segment is needed. Writer; no batch in
 * flight; not under the lock. Errors are those of wal_batch_write, and as final. */
int wal_prepare(struct wal *w, const char **ret_path);

/* How many sealed segments there are, and the LSN with which the newest segment begins. The host
 * writes a CHECKPOINT record each few segments and flushes groups that pin old ones. */
unsigned wal_sealed_count(const struct wal *w);
uint64_t wal_oldest_lsn(const struct wal *w); /* The first LSN still in a file. */
uint64_t wal_segment_first_lsn(const struct wal *w, unsigned sealed_index); /* 0 = the oldest. */
uint64_t wal_bytes(const struct wal *w); /* Of all segments in use. */

/* No record below @lsn, which is at most one beyond the durable LSN, is needed any more: recycle
 * whole segments below it. Files are reused by the writer with its next batches. */
void wal_trim(struct wal *w, uint64_t lsn);

/* The table it was opened with. */
const struct file_ops *wal_file_ops(const struct wal *w);

/* "direct" or "buffered", for the log. */
const char *wal_mode_text(const struct wal *w);
#endif
