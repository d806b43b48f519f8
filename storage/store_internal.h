/* What the files of the store share: store.c (streams), store_load.c, store_tail.c (append, remove,
 * read), flush.c and flush_run.c (the ladder), store_image.c. */
#ifndef STORAGE_STORE_INTERNAL_H
#define STORAGE_STORE_INTERNAL_H

#include "storage/base/hash.h"
#include "storage/base/list.h"
#include "storage/block.h"
#include "storage/checkpoint.h"
#include "storage/store.h"

#define STORE_PATH_BYTES 512u

/* Kinds of journal items, with their keys and values (little-endian):
 *   STREAM   ""              u64 sid, u64 applied index, u64 applied term, u64 last sequence
 *   BLOCK    u64 block id    u64 file, u64 offset, u32 bytes, u32 offset of the index,
 *                            u64 first seq, u64 last seq, i64 least time, i64 greatest time,
 *                            u32 records, u32 crc32c of the block
 *   DEAD     u64 block id    sequences of the block that are not live, as offsets from its first,
 *                            by bitset_encode()
 *   ITEM     the embedder's  the embedder's
 * of gid 0:
 *   FILE     u64 number      u64 bytes, u64 generation of its first commit, u64 generation in which
 *                            it died (0: lives), u64 pass in which it died
 *   COUNTERS ""              u64 next file number, u64 next block id */
enum store_kind {
    KIND_STREAM = 1,
    KIND_BLOCK = 2,
    KIND_DEAD = 3,
    KIND_ITEM = 4,
    KIND_FILE = 5,
    KIND_COUNTERS = 6
};
#define KIND_BIT(kind) (1u << (kind)) /* For checkpoint_read. */
#define STREAM_VALUE_BYTES 32u
#define BLOCK_VALUE_BYTES 64u
#define FILE_VALUE_BYTES 32u

struct data_file {
    UT_hash_handle hh;
    uint64_t number;
    /* Of the flush job while there is one, else of the loop. */
    uint64_t bytes; /* Durable and named. */
    uint64_t created_generation;
    uint64_t died_generation; /* 0: lives. */
    uint64_t dead_pass;
    uint32_t blocks_count; /* That the journal names in it. */
    bool is_touched;
    /* Of the loop. */
    uint64_t live_bytes; /* Of blocks in memory's tables, about. */
    struct list blocks;
    uint32_t pins; /* Images. */
};

/* TAIL --begin--> FROZEN --end--> DISK */
enum block_state { BLOCK_TAIL, BLOCK_FROZEN, BLOCK_DISK };

struct block {
    struct store_stream *s; /* NULL once the stream is gone and a job still holds the block. */
    uint64_t id;
    enum block_state state;
    uint64_t first_seq;
    uint64_t last_seq;
    int64_t time_min_ns;
    int64_t time_max_ns;
    struct bitset gone; /* From first_seq: not live, never there or removed. */
    uint32_t live_count;
    uint32_t index_off; /* DISK: where things lie. */
    uint32_t bytes;
    uint32_t crc;
    uint32_t records_count; /* DISK: written in it. */
    uint64_t live_bytes;    /* Of live records; of a DISK block without memory an estimate. */
    uint64_t off;
    struct data_file *file; /* NULL unless DISK. */
    struct list in_file;
    struct store_mem *mem; /* Always of TAIL and FROZEN; of DISK if cached. */
    struct list in_cache;
    uint32_t loads_count; /* Read requests under way. */
    bool is_dirty;        /* Removals since the last flush. */
    bool in_job;
    bool is_dead; /* Dropped from the table, kept for the job. */
    bool is_unreadable;
    bool is_reported;
    bool is_fixed; /* Not to be rewritten: it is damaged. */
    /* store_mend.c */
    bool is_mending;     /* What there is of it is in memory, and stays. */
    bool is_mended;      /* All of it is: the next pass writes it anew. */
    bool is_unknown;     /* Which of its sequences are live could not be read. */
    uint32_t live_known; /* Then: how many are, by the journal. */
};

/* A block that the journal names and the next flush of its stream takes out. */
struct gone_block {
    uint64_t id;
    struct data_file *file;
};
struct gone_list {
    struct gone_block *items;
    size_t count;
    size_t cap;
};

struct store_stream {
    UT_hash_handle hh;
    struct store *store;
    uint64_t gid;
    uint64_t sid;
    struct block **blocks; /* By sequence; those from head on are in use. */
    size_t head;
    size_t end;
    size_t cap;
    size_t hint; /* Where the last search ended. */
    uint64_t last_seq;
    uint64_t applied_index;
    uint64_t applied_term;
    struct gone_list gone;
    struct data_file *own_file;
    uint64_t messages;
    uint64_t bytes;
    uint64_t dirty_bytes; /* Live, in the tail or frozen. */
    uint64_t dirty_messages;
    bool is_loaded;
    bool in_job;
    bool is_deleted;
};

/* A deleted stream whose group the next pass drops. */
struct dropped {
    struct dropped *next;
    uint64_t gid;
    struct gone_list blocks;
};

struct dead_journal {
    struct dead_journal *next;
    uint64_t generation;
    uint64_t dead_pass;
};

/* Of a stage that was dropped, see stage_left.c. */
struct left_file {
    struct left_file *next;
    uint64_t gid;
    uint64_t number;
    uint64_t used_bytes; /* In the hands of the next stage: of blocks that it wants … */
    uint64_t bytes;      /* … and up to the end of the last of them. */
};

struct store {
    struct store_options options;
    const struct file_ops *ops;
    char *dir;
    struct checkpoint *checkpoint;
    struct store_stream *streams;
    struct data_file *files;
    struct data_file *shared_file;
    struct dropped *dropped;
    struct dead_journal *dead_journals;
    struct store_stage *stages;
    struct left_file *left;
    uint64_t previous_generation; /* Kept beside the newest. */
    bool is_journal_damaged;      /* In one copy: the next pass begins a new generation. */
    uint64_t next_file;
    uint64_t next_block;
    uint64_t base_pass;
    struct list cache; /* Least recently used first. */
    uint64_t cache_bytes;
    struct store_flush *job;
    struct store_totals totals; /* disk, dead, files, journal: as of the last pass. */
    uint32_t images_count;
    uint32_t loads_count; /* Under way. */
    uint32_t reads_count;
    char error_path[STORE_PATH_BYTES];
};

/* store.c */
void store_file_path(const struct store *st, uint64_t number, char *out);
struct data_file *file_find(struct store *st, uint64_t number);
struct data_file *file_new(struct store *st, uint64_t number);
void file_free(struct store *st, struct data_file *f);
void store_report(struct store *st, const struct store_damage *damage);
void store_report_copy(struct store *st, enum store_damage_type type, uint64_t generation,
                       unsigned copy);
void store_count_totals(struct store *st);
void store_fail(struct store *st, const char *path);
struct store_stream *store_stream_new(struct store *st, uint64_t gid, uint64_t sid);
/* Free the stream and its blocks; blocks in a job are left to it. */
void store_stream_free(struct store_stream *s);
void gone_push(struct gone_list *l, uint64_t id, struct data_file *f);
void block_encode(const struct block *b, uint64_t file_number, uint8_t *out);
/* False if the value makes no sense. */
bool block_decode(struct block *b, uint64_t *ret_file, struct slice value);
struct block_meta block_meta_of(const struct block *b);

/* Sequences that a block is for, live or not. */
static inline uint32_t block_span(const struct block *b)
{
    return (uint32_t)(b->last_seq - b->first_seq + 1);
}

/* stage_left.c */
#define STAGE_NAME_BYTES 44 /* data-<16>.<16>.stage */
/* At opening: true if @name is a left file. */
bool store_left_found(struct store *st, const char *name);
void store_left_close(struct store *st);

/* store_tail.c */
/* For qsort of pointers to blocks. */
int block_by_first_seq(const void *a, const void *b);
struct block *block_new(struct store_stream *s);
void block_free(struct block *b);
/* Put into / take out of the stream's table. */
void blocks_push(struct store_stream *s, struct block *b);
void blocks_sort(struct store_stream *s);
/* Where the block at @i ends in the table: before the next one begins. After a catch-up by delta
 * (stage_own.c) the last own block may reach, with sequences that are gone, into the first fetched
 * one. */
uint64_t blocks_end(const struct store_stream *s, size_t i);
/* Index in s->blocks of the first block that ends at or above @seq; s->end if none. */
size_t blocks_search(const struct store_stream *s, uint64_t seq);
void block_attach_file(struct block *b, struct data_file *f);
void block_detach_file(struct block *b);
void block_cache(struct block *b, struct store_mem *mem);
void block_uncache(struct block *b);
void store_cache_trim(struct store *st);
/* Its block, if it is still where @req has read it. 0, ERR_NOTFOUND, ERR_AGAIN: it has moved. The
 * request is over in any case. */
int read_request_end(struct store_read *req, struct block **ret_block);
/* Read a block's bytes and check them. Any thread. As block_load, or ERR_IO, ERR_NOTFOUND. */
int block_read(const struct store *st, const struct block_owner *owner, uint64_t file_number,
               uint64_t off, const struct block_meta *meta, struct store_mem **ret_mem,
               bool *ret_is_index_bad);
/* Tell once what is damaged; @mem has the records that could be read, for STORE_DAMAGE_RECORDS. */
void block_report(struct block *b, enum store_damage_type type, const struct store_mem *mem);
/* The block that has @seq, live or not; NULL if there is none. */
struct block *block_at(struct store_stream *s, uint64_t seq);
/* A request for the bytes of a block on disk. */
void read_request(struct store_stream *s, struct block *b, uint64_t seq, struct store_read *req);

/* store_mend.c */
/* Read the block past the page cache into @req. Any thread. False: not on this file system. */
bool check_read(struct store_read *req, const struct block_owner *owner,
                const struct block_meta *meta);
/* Of a block in memory: a sequence that is not known to be gone has no record. */
bool mend_has_missing(const struct block *b);
/* The block is not as it was written: report it. @mem: what could be read, or NULL. */
void mend_found(struct block *b, const struct store_mem *mem);

/* store_image.c */
void store_stage_path(const struct store *st, uint64_t gid, uint64_t number, char *out);
bool stage_is_switching(const struct store *st, uint64_t gid);
#endif
