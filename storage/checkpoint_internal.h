/* What the two files of the checkpoint journal share: checkpoint.c (the map, reading, committing)
 * and checkpoint_load.c (frames, copies, opening, checking). */
#ifndef STORAGE_CHECKPOINT_INTERNAL_H
#define STORAGE_CHECKPOINT_INTERNAL_H

#include "storage/base/hash.h"
#include "storage/checkpoint.h"

#define FILE_MAGIC "WEIRCKP1"
#define FILE_HEADER_BYTES 4096u
#define FORMAT_VERSION 1u
#define FRAME_MAGIC 0x464b4357u
#define FRAME_HEADER_BYTES 48u
#define ITEM_HEADER_BYTES 20u
#define PATH_BYTES 512u

enum item_op { OP_PUT = 1, OP_DEL = 2, OP_DROP_GROUP = 3, OP_DROP_KIND = 4 };

/* Where a live item lies. The hash key is the kind, then the key's bytes. */
struct checkpoint_entry {
    UT_hash_handle hh;
    uint64_t off;
    uint32_t value_bytes;
    uint16_t key_bytes;
    uint8_t name[]; /* kind | key */
};

struct checkpoint_group {
    UT_hash_handle hh;
    uint64_t gid;
    struct checkpoint_entry *entries;
};

struct checkpoint {
    const struct file_ops *ops;
    char *dir;
    uint32_t machine_version;
    uint64_t garbage_bytes_min;
    uint64_t generation; /* Whose file is loaded and appended to. */
    uint64_t number_max; /* Highest generation ever seen, the unreadable ones included. */
    uint64_t pass;
    uint64_t end;        /* Where the next frame goes. */
    uint64_t last_off;   /* At opening: where the last frame lies, */
    uint64_t last_bytes; /* and how long it is. */
    uint32_t prev_crc;
    bool must_rotate;
    uint64_t live_bytes;
    struct checkpoint_group *groups;
    struct buf pending;
    uint32_t pending_count;
    char path[PATH_BYTES];
};

/* checkpoint.c */

/* An item as it lies in a frame. Slices are borrowed from it. */
struct item {
    uint8_t op;
    uint8_t kind;
    uint64_t gid;
    struct slice key;
    struct slice value;
};
/* Take the next item of @r; false when it is not one. */
bool item_next(struct reader *r, struct item *ret);
/* Check a frame's items without applying any of them. */
bool body_is_valid(struct slice body, uint32_t items_count);
/* Apply a valid body that lies at @off of the file. */
void body_apply(struct checkpoint *c, struct slice body, uint64_t off);
void checkpoint_drop_all(struct checkpoint *c);

/* checkpoint_load.c */

/* Append all of a copy to @out. ERR_NOTFOUND, ERR_IO; c->path is the file. */
int checkpoint_read_copy(struct checkpoint *c, uint64_t generation, unsigned copy, struct buf *out);
#endif
