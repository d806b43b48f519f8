/* What store_image.c, store_stage.c and stage_own.c share. The format of part 0 is at the top of
 * store_image.c. */
#ifndef STORAGE_STAGE_INTERNAL_H
#define STORAGE_STAGE_INTERNAL_H
#include "storage/flush_internal.h"

#define IMAGE_MAGIC 0x474d4957u
#define IMAGE_VERSION 1u
#define IMAGE_HEADER_BYTES 52u
#define IMAGE_ITEMS_BYTES_MAX (UINT64_C(1) << 30)
#define IMAGE_PARTS_MAX (1u << 22)
#define STAGE_ALIGNED_BYTES (64u * 1024) /* From this size on blocks begin on a boundary. */
#define STAGE_FILE_BYTES (64u * 1024 * 1024)
/* Synced as often: the log's syncs wait for what is on its way to the disk. */
#define STAGE_SYNC_BYTES (4u * 1024 * 1024)

struct stage_file {
    uint64_t number;
    uint64_t bytes;
    uint64_t unsynced_bytes;
    struct file *open;
    bool is_there;          /* On disk. */
    bool is_named;          /* Its name is durable. */
    struct data_file *file; /* From the switch on. */
};

struct stage_part {
    struct store_part want;
    uint32_t file; /* Of parts but the first. */
    uint64_t off;
    bool is_own;            /* The store has what is in it: not fetched. */
    bool is_fetched;        /* It is in its place: by a stage that was cut short. */
    bool is_checked;        /* Read again when it was whole, and right. */
    struct left_file *left; /* Where that is, until the parts are laid out. */
    uint64_t left_off;
};

struct stage_id {
    uint64_t id;
    uint32_t n;
};

struct wanted_block {
    const struct block *block;
    uint32_t n;
};

/* A block of the former stream that stays. */
struct stage_kept {
    struct block *block;
    struct data_file *file;
};

struct store_stage {
    struct store *st;
    struct store_stage *next; /* In the store's list. */
    struct store_stage *next_in_job;
    uint64_t gid;
    uint64_t sid;
    struct stage_part *parts;
    uint32_t parts_count;
    struct stage_file *files;
    uint32_t files_count;
    uint8_t *first;
    bool is_verified;
    bool is_bad;                       /* It did not pass the check: nothing of it is kept. */
    bool is_spoiled;                   /* A sync failed: it never becomes whole. */
    char error_path[STORE_PATH_BYTES]; /* Of the first call that failed. */
    int error_errno;
    struct left_file *left;
    bool is_switching;
    uint64_t index_wanted; /* 0: any. */
    uint64_t term_wanted;
    uint64_t index;
    uint64_t term;
    uint64_t last_seq;
    struct block **blocks; /* Decoded; the switch gives them places. */
    uint32_t blocks_count;
    struct bitset *deads; /* By block: what of it is known to be not live in the image. */
    struct stage_id *ids; /* The sender's ids of the blocks, sorted. */
    bool is_planned;      /* Which parts are own is decided. */
    struct stage_kept *kept;
    size_t kept_count;
};

/* store_stage.c */
/* Check and decode part 0 into sg->blocks. ERR_CORRUPT. */
int stage_parse(struct store_stage *sg);
/* The index of the block that has this id at the sender's; UINT32_MAX: none. */
uint32_t stage_block_of(const struct store_stage *sg, uint64_t id);
/* Give the parts that are to be fetched their places. */
void stage_layout(struct store_stage *sg);

/* stage_left.c */
/* Take the left files of the gid. */
void stage_left_open(struct store_stage *sg);
/* Once part 0 is there: find parts in them. Any thread. */
void stage_left_look(struct store_stage *sg);
/* Before the parts are laid out, when it is known which are own: place what was found. */
void stage_left_adopt(struct store_stage *sg);
/* The stage's files on disk become left files, or go. */
void stage_left_drop(struct store_stage *sg, bool is_kept);
/* The same with what it took and did not adopt only. */
void stage_left_close(struct store_stage *sg, bool is_kept);
/* A call on one of its files said @rv. What a sync that fails leaves reads well and may never be on
 * the disk: it goes at once, not when the stage is dropped, for whoever comes next, in this process
 * or in another, would take it. Returns @rv. */
int stage_failed(struct store_stage *sg, const struct stage_file *sf, int rv, bool is_sync);

/* stage_own.c */
/* Find what of @old stays, which may be NULL. False if something is not there any more that counted
 * as own. */
bool stage_keep(struct store_stage *sg, const struct store_stream *old);
/* Decide which parts are to be fetched, and where they go; once, when part 0 is there. */
void stage_plan(struct store_stage *sg);
void stage_own_close(struct store_stage *sg);
#endif
