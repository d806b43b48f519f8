/* The node's store: message blocks, the checkpoint journal and the flush ladder (design 5,
 * raft-guide 7.4).
 *
 * A stream is known by its group id (gid). Its stream id (sid) is the same on every replica and is
 * bound, with the sequence, into the checksum of each message: a record that landed in the wrong
 * stream or place never passes for another. The store knows messages as subject, headers and
 * payload, and checkpoint items as opaque keys and values; what they mean is the embedder's.
 *
 *   append --> tail (memory) --> flush --> block in a data file --> dropped, merged or rewritten
 *                                  \--> frame in the checkpoint journal: items, block table,
 *                                       deleted sets, applied index and term; one sync
 *
 * Threads: everything belongs to the loop thread except what says "any thread". The three steps of
 * a flush are begin (loop), run (flusher), end (loop); the simulator calls them in a row. At most
 * one flush job exists at a time. Nothing here waits for the disk on the loop but store_open,
 * store_stream_load and store_stage_load.
 *
 * Errors: ERR_IO and ERR_NOSPACE from a writing call are final: the caller stops the process with
 * store_error_path() and errno, it never tries again. Damage found when reading costs a range of
 * sequences of one stream, reported through the damage callback; the rest is served.
 *
 * Formats: block_format.h (blocks), checkpoint.h (journal), byte by byte. */
#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/base/slice.h"
#include "storage/file_ops.h"

struct store;
struct store_stream;
struct store_mem;
struct store_flush;
struct store_image;
struct store_stage;

#define STORE_SUBJECT_BYTES_MAX 65535u
#define STORE_HEADER_BYTES_MAX ((1u << 24) - 1) /* What the index entry holds. */
#define STORE_MESSAGE_BYTES_MAX (72u * 1024 * 1024)
#define STORE_KEY_BYTES_MAX 1024u
#define STORE_VALUE_BYTES_MAX (64u * 1024 * 1024)

/* What is damaged. Reported at most once per block and open. */
enum store_damage_type {
    STORE_DAMAGE_RECORDS,    /* Messages in [first_seq, last_seq] cannot be read. */
    STORE_DAMAGE_BLOCK,      /* A whole block: its file is missing, short or unreadable. */
    STORE_DAMAGE_INDEX,      /* Index or footer; the messages were found by their records. */
    STORE_DAMAGE_CHECKPOINT, /* Journal; gid 0. Streams may be older than the WAL's BASE says. */
    STORE_DAMAGE_COPY,       /* A copy of the journal; gid 0. The other has all: written anew. */
    STORE_DAMAGE_QUARANTINE, /* A file that no checkpoint names was renamed aside; gid 0. */
};

struct store_damage {
    enum store_damage_type type;
    uint64_t gid;       /* 0: not of one stream. */
    uint64_t first_seq; /* 0 when not about messages. */
    uint64_t last_seq;
    const char *path; /* Borrowed. */
};
typedef void (*store_damage_cb)(void *arg, const struct store_damage *damage);

/* Zero means the default in parentheses. */
struct store_options {
    const struct file_ops *ops;
    const char *dir;          /* Exists; copied. All files are made in it. */
    uint32_t machine_version; /* Written into file headers. */
    size_t block_bytes;       /* Records in a block, about (1 MiB). */
    size_t file_bytes;        /* A data file takes no more blocks beyond it (8 MiB). */
    size_t small_bytes;       /* Streams with fewer dirty bytes share a file (256 KiB). */
    size_t cache_bytes;       /* Cap of cached blocks (64 MiB). */
    size_t rewrite_bytes;     /* Bytes read to merge and rewrite per flush (8 MiB). */
    size_t journal_bytes_min; /* No new generation below it (1 MiB). */
    size_t dead_bytes_max;    /* Dead files waiting that force a new generation (64 MiB). */
    store_damage_cb damage;   /* May be NULL. Called on the loop thread. */
    void *damage_arg;
};

struct store_recovery {
    uint64_t streams_count;
    uint64_t generation;        /* Of the checkpoint journal that was loaded; 0: empty store. */
    uint64_t pass;              /* Flush pass of the last valid commit. */
    bool is_torn;               /* The last frame never completed: discarded, nobody was told. */
    bool is_rotten;             /* The last frame is damaged in all copies: it may have counted. */
    bool is_fallback;           /* The newest generation is unreadable in all copies: the one
                                 * before was taken. */
    uint64_t quarantined_count; /* Files renamed to *.quarantine. */
    uint64_t cut_bytes;         /* Beyond the lengths the checkpoint names. */
};

/* Load the newest valid checkpoint generation and the block tables. No message is read.
 * A stream whose applied index is below what its BASE record in the WAL says has lost data to rot
 * (is_rotten, is_fallback): the embedder decides; store_stream_applied() tells.
 * Errors: ERR_IO, ERR_NOSPACE, ERR_CORRUPT (journals exist and none is readable), ERR_VERSION. */
int store_open(const struct store_options *options, struct store_recovery *ret_recovery,
               struct store **ret_store);
/* No job, image, stage, read or message view may be alive. What was not flushed is lost, as in a
 * crash. NULL is fine. */
void store_close(struct store *st);
/* File of the last ERR_IO, for the message to the operator; "" if none. Any thread. */
const char *store_error_path(const struct store *st);

/* ---- Streams ---- */

/* Called for each stream with data, in gid order. Streams the embedder does not know are left
 * alone. */
typedef void (*store_stream_cb)(void *arg, struct store_stream *s);
void store_each_stream(struct store *st, store_stream_cb cb, void *arg);
/* NULL if there is none. */
struct store_stream *store_find(struct store *st, uint64_t gid);
/* A new, empty stream; on disk with its first flush. @gid must be free and not 0. */
struct store_stream *store_stream_create(struct store *st, uint64_t gid, uint64_t sid);
/* Forget the stream: from the next flush on no checkpoint names it; its files go later still, by
 * the ladder. @s is gone; its message views stay valid. The gid must not be used again before
 * store_is_forgetting is over. */
void store_stream_delete(struct store_stream *s);
/* A flush must pass yet before a stream under @gid may begin anew. */
bool store_is_forgetting(const struct store *st, uint64_t gid);

uint64_t store_stream_gid(const struct store_stream *s);
/* Applied index and term of the last durable checkpoint; 0 and 0 before the first. */
void store_stream_applied(const struct store_stream *s, uint64_t *ret_index, uint64_t *ret_term);

struct store_stats {
    uint64_t messages;       /* Live. */
    uint64_t bytes;          /* Records of live messages; of partly deleted blocks an estimate. */
    uint64_t blocks;         /* On disk. */
    uint64_t disk_bytes;     /* Of these blocks. */
    uint64_t dirty_bytes;    /* In the tail, not yet on disk. */
    uint64_t dirty_messages; /* Same. */
    int64_t dirty_since_ns;  /* Time of the oldest message in the tail; 0: none. */
    uint64_t first_seq;      /* Live; 0 when empty. */
    uint64_t last_seq;
    uint64_t damaged_blocks; /* Reported, and not yet written anew. */
};
void store_stream_stats(const struct store_stream *s, struct store_stats *ret_stats);
struct store_totals {
    uint64_t dirty_bytes;
    uint64_t disk_bytes; /* Of all data files, the dead ones too. */
    uint64_t dead_bytes; /* Of files that wait to be unlinked. */
    uint64_t files;
    uint64_t cache_bytes;
    uint64_t journal_bytes;
};
void store_totals(const struct store *st, struct store_totals *ret_totals);

/* A live message as the block indexes know it. */
struct store_info {
    uint64_t seq;
    int64_t time_ns;
    uint32_t header_bytes;
    uint32_t payload_bytes;
    uint8_t flags;
    uint32_t subject_slot; /* 0, 1, 2 … in order of first use in this block: to look each subject
                            * up once a block. */
    uint64_t block;        /* Changes when the slots begin anew. */
    struct slice subject;  /* Borrowed until the callback returns. */
};
typedef void (*store_info_cb)(void *arg, const struct store_info *info);
typedef void (*store_item_cb)(void *arg, struct slice key, struct slice value);

/* After opening (or a stage switch): hand out the live messages in sequence order, then the
 * checkpoint items in the order in which their keys came. Either callback may be NULL. Reads
 * indexes and the journal; blocks that turn out damaged are reported and left out.
 * No flush job may exist. Must be called with an @info callback once before anything else is done
 * to a loaded stream: only this learns which sequences are in the blocks. Returns 0 or ERR_IO. */
int store_stream_load(struct store_stream *s, store_info_cb info, store_item_cb item, void *arg);

/* The same in three steps, for a stream of which no block is in memory, as after a stage switch:
 * the run, on any thread, is what takes time. From begin to end no flush may begin, and nobody uses
 * the stream; others may be used. The callbacks are called by the run. */
struct store_load;
struct store_load *store_load_begin(struct store_stream *s, store_info_cb info, store_item_cb item,
                                    void *arg);
void store_load_run(struct store_load *ld);
/* As store_stream_load; @ld is gone. */
int store_load_end(struct store_load *ld);

/* Subject, headers and payload are copied. */
struct store_message {
    uint64_t seq; /* Above all before; gaps are allowed. */
    int64_t time_ns;
    uint8_t flags; /* The embedder's; kept. */
    struct slice subject;
    struct slice header;
    struct slice payload;
};
/* Put a message at the end of the memory tail. Cannot fail. */
void store_append(struct store_stream *s, const struct store_message *m);

/* Returns how many live messages it removed; what is not there is ignored. Messages removed before
 * their flush never reach a block; blocks that die whole are dropped unread. */
uint64_t store_remove_range(struct store_stream *s, uint64_t first_seq, uint64_t last_seq);

/* ---- Reading ---- */

/* A message in memory. Valid until the next call into the store that may append, flush or read,
 * or, after store_view_ref(), until the last store_view_unref(). Loop thread. */
struct store_view {
    uint64_t seq;
    int64_t time_ns;
    uint8_t flags;
    struct slice subject;
    struct slice header;
    struct slice payload;
    struct store_mem *mem; /* What holds the bytes; counted. */
};
void store_view_ref(struct store_view *v);
void store_view_unref(struct store_view *v);

/* Read from the tail or the cache; no allocation. ERR_NOTFOUND: not live. ERR_AGAIN: on disk, use a
 * request. ERR_CORRUPT: damaged (reported once). */
int store_read(struct store_stream *s, uint64_t seq, struct store_view *ret_view);

/* Bring the block of a sequence into the cache:
 *   start (loop) -> run (any thread) -> done (loop) -> store_read() again.
 * The caller owns the request. Several requests for one block are harmless, but wasteful:
 * store_read_is_loading() tells. */
struct store_read {
    struct store *store; /* Private from here on. */
    uint64_t gid;
    uint64_t sid;
    uint64_t seq;
    uint64_t block_id;
    uint64_t file_number;
    uint64_t off;
    uint64_t len;
    uint64_t index_off;
    uint64_t first_seq;
    uint64_t last_seq;
    uint32_t records_count;
    uint32_t crc;
    struct store_mem *mem;
    int status;
    bool is_index_bad;
    bool is_check; /* Of the disk: not what the page cache has. */
};
/* 0, ERR_NOTFOUND (not live), ERR_EXISTS (in memory already: read it), ERR_CORRUPT. */
int store_read_start(struct store_stream *s, uint64_t seq, struct store_read *req);
void store_read_run(struct store_read *req);
/* 0: try store_read() again. ERR_AGAIN: the block has moved meanwhile, start again. ERR_NOTFOUND:
 * it is gone. ERR_IO, ERR_CORRUPT: as reported to the damage callback. */
int store_read_done(struct store_read *req);
bool store_read_is_loading(const struct store_stream *s, uint64_t seq);

/* What a record says, if it is one by its form; its checksum is not looked at. Slices are borrowed.
 */
bool store_record_read(struct slice record, struct store_message *ret_message);
/* The bytes of the message's record, for store_mend_put() elsewhere. Borrowed as the view is. */
struct slice store_view_record(const struct store_view *v);

/* ---- Damage: finding and mending it ---- */

/* Check the first block on disk at or above @seq that is not known to be damaged, cached or not:
 *   start (loop) -> run (any thread, store_read_run) -> done (loop)
 * Returns 0 with the last sequence of the block, ERR_NOTFOUND: no more blocks. */
int store_check_start(struct store_stream *s, uint64_t seq, struct store_read *req,
                      uint64_t *ret_last_seq);
/* 0, or ERR_CORRUPT as reported to the damage callback; others: it could not be checked. */
int store_check_done(struct store_read *req);

/* Check the copies of the journal as the disk has them:
 *   start (loop) -> run (any thread; flushes may go on) -> done (loop)
 * ERR_BUSY while a flush job exists, ERR_NOTFOUND before the first pass. */
struct store_check {
    struct store *store; /* Private. */
    uint64_t generation;
    uint64_t end;
    bool is_damaged[2];
    int status;
};
int store_check_journal_start(struct store *st, struct store_check *req, uint64_t *ret_bytes);
void store_check_journal_run(struct store_check *req);
/* 0, or ERR_CORRUPT as reported to the damage callback: a flush is due, which writes the journal
 * anew; ERR_IO: it could not be read. */
int store_check_journal_done(struct store_check *req);

/* A damaged block is mended in memory with records from other replicas, each proven by its own
 * checksum, which is bound to stream and sequence; then the next flush of the stream writes it
 * under a new id and lets the old one die. Nothing is renumbered, and nothing is left out.
 *
 *   store_mend_next -> store_mend_start [-> store_read_run -> store_mend_done]
 *   -> store_mend_missing, store_mend_put … -> store_mend_end */

/* The first damaged block at or above @seq that is not mended. */
bool store_mend_next(struct store_stream *s, uint64_t seq, uint64_t *ret_first_seq,
                     uint64_t *ret_last_seq);
/* Bring into memory what can be read of the damaged block with @seq, and keep it there. 0: run and
 * done must follow. ERR_EXISTS: it is there. ERR_BUSY: a flush has it. ERR_NOTFOUND: no damage. */
int store_mend_start(struct store_stream *s, uint64_t seq, struct store_read *req);
/* 0: mending may go on. ERR_AGAIN: it has moved, start again. ERR_NOTFOUND: it is gone. ERR_IO. */
int store_mend_done(struct store_read *req);
/* The first run of sequences at or above @seq in the block being mended that are missing; false if
 * there are none. */
bool store_mend_missing(struct store_stream *s, uint64_t seq, uint64_t *ret_first_seq,
                        uint64_t *ret_last_seq);
/* 0, ERR_INVALID: no valid record of this stream. ERR_NOTFOUND: it is not missing. */
int store_mend_put(struct store_stream *s, struct slice record);
/* 0: the block is whole: flush the stream. ERR_CORRUPT: something is missing still; what there is
 * goes to the cache. */
int store_mend_end(struct store_stream *s, uint64_t seq);
/* A block was mended, and no flush has written it. */
bool store_mend_is_due(const struct store_stream *s);
/* False: of a block that was damaged when the stream was loaded it is not known which sequences are
 * live. The embedder mends these, unloads the stream and loads it again; until then it must not
 * append, remove or flush. */
bool store_stream_is_whole(const struct store_stream *s);
void store_stream_unload(struct store_stream *s);
/* Of the last message that was ever appended, live or not. */
uint64_t store_stream_last_seq(const struct store_stream *s);

/* ---- Flush ---- */

/* Begin a pass. ERR_BUSY while a job exists. */
int store_flush_begin(struct store *st, struct store_flush **ret_job);
/* Include a stream: everything in its tail and all removals, as of applied @index and @term. Then
 * name the checkpoint items that changed since its last flush. Several streams in a row. */
void store_flush_stream(struct store_flush *job, struct store_stream *s, uint64_t index,
                        uint64_t term);
void store_flush_put(struct store_flush *job, struct store_stream *s, struct slice key,
                     struct slice value);
void store_flush_del(struct store_flush *job, struct store_stream *s, struct slice key);
/* Steps 1 to 3 of the ladder, after unlinking what step 5 of earlier passes released. Flusher
 * thread. Returns 0, ERR_IO or ERR_NOSPACE (final; see store_error_path). */
int store_flush_run(struct store_flush *job);

/* Stream and applied index that are durable in the store now: append BASE{gid, index, term}. */
typedef void (*store_durable_cb)(void *arg, uint64_t gid, uint64_t index, uint64_t term);
/* Publish a successful run; @cb (may be NULL) is called once per stream of the job. Returns the
 * number of the pass, for store_base_durable(). Frees the job. */
uint64_t store_flush_end(struct store_flush *job, store_durable_cb cb, void *arg);
/* After a failed run only: free the job. The process is about to stop. */
void store_flush_abort(struct store_flush *job);
/* The BASE records of all passes up to @pass are durable in the WAL: step 5 may release what these
 * passes let die. Without it nothing is ever unlinked. */
void store_base_durable(struct store *st, uint64_t pass);
/* Something waits for a flush pass: deleted streams, files to unlink, a damaged copy of the
 * journal. False while a job exists. */
bool store_flush_is_due(const struct store *st);

/* ---- Images, for catch-up (raft-guide 4.4) ---- */

struct store_part {
    uint64_t bytes;
    uint32_t crc; /* CRC32C of all its bytes. */
};
/* Pin the last durable checkpoint of the stream, with its blocks; flush it first if it should be
 * recent. ERR_BUSY while a flush job exists, ERR_NOTFOUND before the first flush. */
int store_image_open(struct store_stream *s, struct store_image **ret_image);
/* Read the items and count the parts. Any thread; flushes may go on meanwhile. ERR_IO, ERR_CORRUPT.
 */
int store_image_prepare(struct store_image *im);
void store_image_applied(const struct store_image *im, uint64_t *ret_index, uint64_t *ret_term);
/* Parts: 0 has the items and the block table, the others are blocks. Valid until close. */
const struct store_part *store_image_parts(const struct store_image *im, uint32_t *ret_count);
/* Exactly @len bytes at @off within the part. Any thread, one at a time. Returns 0, ERR_IO. */
int store_image_read(struct store_image *im, uint32_t part, uint64_t off, void *buf, size_t len);
void store_image_close(struct store_image *im); /* Unpin. */

/* The receiving side. Staged bytes lie in files of their own. One stage per gid. What was staged
 * stays when the stage is dropped, or the process ends, for the next stage of the gid. */
int store_stage_open(struct store *st, uint64_t gid, uint64_t sid, const struct store_part *parts,
                     uint32_t parts_count, struct store_stage **ret_stage);
/* The image is to be of this applied index and term: another one does not pass the check. */
void store_stage_expect(struct store_stage *sg, uint64_t index, uint64_t term);
/* Whether what is in @part need not be written: the store has it (the delta), or a stage that was
 * cut short has. Only once part 0 is written; the first call comes before any other part is. */
bool store_stage_has(struct store_stage *sg, uint32_t part);
uint32_t store_stage_own_count(const struct store_stage *sg);     /* Parts that the store has, */
uint32_t store_stage_fetched_count(const struct store_stage *sg); /* that an earlier stage has. */
/* Any thread, one at a time. ERR_INVALID beyond the part, ERR_IO, ERR_NOSPACE. */
int store_stage_write(struct store_stage *sg, uint32_t part, uint64_t off, struct slice bytes);
/* Check every part and sync the files. Any thread. ERR_CORRUPT with the first bad part in
 * *ret_part: write it again. ERR_IO and ERR_NOSPACE, here and above, are final: drop the stage. */
int store_stage_verify(struct store_stage *sg, uint32_t *ret_part);
/* After these: the file, and *ret_errno. */
const char *store_stage_error(const struct store_stage *sg, int *ret_errno);
/* Make the verified stage the stream's content with this pass: the old content of the gid, if any,
 * is let die. From the end of the pass on the stage is consumed, the former `struct store_stream`
 * of the gid is gone, and store_find() has the new one, to be loaded. The former stream may not be
 * in the same pass. */
void store_flush_stage(struct store_flush *job, struct store_stage *sg);
/* Whether what counted as had is still there; no flush job may exist. False only if damage was
 * found meanwhile: drop the stage. To be asked before store_flush_stage(). */
bool store_stage_is_whole(struct store_stage *sg);
/* Give up. Only before store_flush_stage(). What was staged stays for the next stage of the gid,
 * unless the last check of it failed or the store has no such stream. */
void store_stage_drop(struct store_stage *sg);
/* A gid of which there is something that a dropped stage left, 0: none. */
uint64_t store_left_gid(const struct store *st);
/* Delete it: the replica is level without, or is no more. */
void store_left_forget(struct store *st, uint64_t gid);
#endif
