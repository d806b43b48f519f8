/* The checkpoint journal: a durable map from (gid, kind, key) to value for all streams of the node,
 * changed by whole frames. One frame is one flush pass and one sync; it counts entirely or not.
 *
 * It grows by appending until garbage outgrows what lives, then the live items are written to a
 * file of the next generation (under another name, synced, renamed, directory synced). The file of
 * the generation before is kept.
 *
 * There are two copies of each generation, ckpt-<generation, 16 hex digits>.journal and .mirror,
 * written alike and synced both before a frame counts: whatever one of them loses, the other has.
 * ckpt-<…>.<copy>.tmp while the first frame is written.
 * Little-endian. Frames begin on 4 KiB boundaries, zeros between, so that pages with durable bytes
 * are never written again.
 *
 * File header, 4096 bytes:
 *    0  8 bytes "WEIRCKP1"            16  u64  generation
 *    8  u32  format version, 1        24  u32  crc32c of the 4096 bytes, this field taken as 0
 *   12  u32  machine version          28  u32  copies that are kept; 0: one, of earlier builds
 *                                     32  zeros
 *
 * Frame: header (48), then the body.
 *    0  u32  magic "WCKF"             24  u64  bytes of the body
 *    4  u32  crc32c of the header,    32  u32  crc32c of the body
 *            this field taken as 0    36  u32  crc32c of the header of the frame before; 0: first
 *    8  u64  generation               40  u32  items
 *   16  u64  pass, one more than in   44  u32  0
 *            the frame before
 *
 * Item: header (20), key, value.
 *    0  u8   operation: 1 put, 2 delete, 3 drop the whole gid, 4 drop a kind of the gid
 *    1  u8   kind
 *    2  u16  bytes of the key
 *    4  u32  bytes of the value
 *    8  u64  gid
 *   16  u32  crc32c of the item, this field taken as 0
 *
 * The first frame of a generation holds all that lives, then the changes of its pass.
 *
 * Threads: any, one at a time. */
#ifndef STORAGE_CHECKPOINT_H
#define STORAGE_CHECKPOINT_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/buf.h"
#include "storage/file_ops.h"

struct checkpoint;

#define CHECKPOINT_COPIES 2

struct checkpoint_options {
    const struct file_ops *ops;
    const char *dir;
    uint32_t machine_version;
    uint64_t garbage_bytes_min; /* A new generation is not begun for less. */
};

struct checkpoint_recovery {
    uint64_t generation; /* 0: there was none. */
    uint64_t pass;
    bool is_torn;        /* The last frame never completed. */
    bool is_rotten;      /* The last frame is damaged in all copies: it may have counted. */
    bool is_fallback;    /* The newest generation is unreadable in all copies: the one before. */
    bool must_rewrite;   /* A copy lacks something: commit, and there are two again. */
    uint64_t unreadable; /* With is_fallback: the newest generation. */
    bool is_copy_damaged[CHECKPOINT_COPIES]; /* Not by a commit that was cut off. */
};

/* Load the newest readable generation, and make sure that it is on the disk. ERR_IO, ERR_NOSPACE,
 * ERR_CORRUPT (files and none readable), ERR_VERSION. */
int checkpoint_open(const struct checkpoint_options *options,
                    struct checkpoint_recovery *ret_recovery, struct checkpoint **ret_c);
void checkpoint_close(struct checkpoint *c);

/* An item that lives. Where it lies is fixed until its key is put again. */
struct checkpoint_place {
    uint64_t generation; /* Whose file holds it. */
    uint64_t off;        /* Of the item. */
    uint32_t value_bytes;
    uint16_t key_bytes;
    uint8_t kind;
};
typedef void (*checkpoint_group_cb)(void *arg, uint64_t gid);
/* In ascending order of gid. */
void checkpoint_each_group(struct checkpoint *c, checkpoint_group_cb cb, void *arg);
typedef void (*checkpoint_place_cb)(void *arg, const struct checkpoint_place *place,
                                    struct slice key);
/* In the order in which the keys were first put. */
void checkpoint_each(struct checkpoint *c, uint64_t gid, checkpoint_place_cb cb, void *arg);
typedef void (*checkpoint_item_cb)(void *arg, uint8_t kind, struct slice key, struct slice value);
/* The same with the values, which are read and checked, for the kinds whose bits are set (1 <<
 * kind). ERR_IO, ERR_CORRUPT (rot since the opening). */
int checkpoint_read(struct checkpoint *c, uint64_t gid, uint32_t kinds, checkpoint_item_cb cb,
                    void *arg);

/* The open copies of a generation; NULL for one that is not there. */
struct checkpoint_files {
    struct file *copies[CHECKPOINT_COPIES];
};
/* ERR_NOTFOUND when none is there; ERR_IO. */
int checkpoint_files_open(const struct file_ops *ops, const char *dir, uint64_t generation,
                          struct checkpoint_files *ret_files);
void checkpoint_files_close(const struct file_ops *ops, struct checkpoint_files *files);
/* Read one item from the open files of its generation; appended to @out. ERR_IO, ERR_CORRUPT: in
 * all copies. */
int checkpoint_read_place(const struct file_ops *ops, const struct checkpoint_files *files,
                          uint64_t gid, const struct checkpoint_place *place, struct slice key,
                          struct buf *out);
/* Path of a copy of a generation. */
void checkpoint_path(const char *dir, uint64_t generation, unsigned copy, char *out,
                     size_t out_bytes);
/* Whether @name is that of a copy of a generation. */
bool checkpoint_name(const char *name, uint64_t *ret_generation);

/* Looking at what the disk has of all that is committed: begin while nothing is being committed,
 * run on any thread, also while commits go on. Returns 0 or ERR_IO; is_damaged says which copies.
 * What it says of a generation that has ended meanwhile means nothing. */
struct checkpoint_check {
    uint64_t generation;
    uint64_t end;
    bool is_damaged[CHECKPOINT_COPIES];
};
void checkpoint_check_begin(const struct checkpoint *c, struct checkpoint_check *ret_check);
int checkpoint_check_run(const struct file_ops *ops, const char *dir, struct checkpoint_check *k);

/* Gather changes for the next commit. */
void checkpoint_put(struct checkpoint *c, uint64_t gid, uint8_t kind, struct slice key,
                    struct slice value);
void checkpoint_del(struct checkpoint *c, uint64_t gid, uint8_t kind, struct slice key);
void checkpoint_drop_group(struct checkpoint *c, uint64_t gid);

/* Ask for a new generation with the next commit. */
void checkpoint_want_generation(struct checkpoint *c);
/* The generation that the next commit will belong to. */
uint64_t checkpoint_next_generation(struct checkpoint *c);
/* The one being written, 0 before the first commit. */
uint64_t checkpoint_generation(const struct checkpoint *c);
uint64_t checkpoint_pass(const struct checkpoint *c);
uint64_t checkpoint_bytes(const struct checkpoint *c);
/* Make what was gathered durable. ERR_IO, ERR_NOSPACE: final. @ret_path: the file of the error.
 * If the old generation cannot be copied for rot, the commit stays in it and *ret_is_rotten is set.
 */
int checkpoint_commit(struct checkpoint *c, const char **ret_path, bool *ret_is_rotten);

/* Apply a journal's copies to nothing, and name the items that live: for fuzzing. Returns as
 * checkpoint_open. */
typedef void (*checkpoint_key_cb)(void *arg, uint8_t kind, struct slice key, uint32_t value_bytes);
int checkpoint_parse(const struct slice *files, uint64_t generation, checkpoint_key_cb cb,
                     void *arg, struct checkpoint_recovery *ret_recovery);
#endif
