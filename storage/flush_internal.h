/* The flush job: what begin plans on the loop, run does on the flusher, end publishes. */
#ifndef STORAGE_FLUSH_INTERNAL_H
#define STORAGE_FLUSH_INTERNAL_H
#include "storage/store_internal.h"

/* A block to be written:
 *   TAIL     from a frozen tail block
 *   COPY     an untouched block out of a file that is mostly dead; it keeps its id
 *   REBUILD  one block made of the live records of neighbours, or of one that was mended in memory
 */
enum out_type { OUT_TAIL, OUT_COPY, OUT_REBUILD };

struct flush_src {
    struct block *block; /* Of the loop. */
    struct data_file *file;
    uint64_t id;
    uint64_t off;
    struct block_meta meta;
    struct bitset skip; /* What was gone at begin, from meta.first_seq. */
};

struct flush_file {
    struct data_file *file;
    struct file *open;
    uint64_t end;     /* Where the next block goes. */
    uint64_t planned; /* Estimate, for choosing. */
    bool is_new;
    bool is_uncached; /* Its blocks go through the gather. */
};

/* Pages that are not written yet. */
struct flush_gather {
    struct flush_file *to; /* NULL: none. */
    uint8_t *pages;
    size_t len;
    uint64_t off; /* In the file. */
};

struct flush_out {
    enum out_type type;
    uint64_t id;
    struct block_owner owner;
    struct flush_file *to;
    struct flush_src *srcs; /* One for TAIL (no file) and COPY. */
    uint32_t srcs_count;
    struct store_mem *mem; /* TAIL, and a mended block: a reference. */
    /* Result. */
    int status; /* 0, or ERR_CORRUPT: the sources stay as they are. ERR_CANCELED: skip it. */
    struct block_meta meta;
    uint64_t off;
};

struct flush_stream {
    struct store_stream *s;
    uint64_t gid;
    uint64_t index;
    uint64_t term;
};

struct store_flush {
    struct store *st;
    struct flush_stream *streams;
    size_t streams_count;
    size_t streams_cap;
    struct flush_out **outs;
    size_t outs_count;
    size_t outs_cap;
    struct flush_file **files;
    size_t files_count;
    size_t files_cap;
    struct data_file **touched; /* Whose FILE item this pass writes. */
    size_t touched_count;
    size_t touched_cap;
    struct data_file **unlinks; /* Released by earlier passes. */
    size_t unlinks_count;
    struct dead_journal *journals; /* To be unlinked; the job's until the end. */
    struct store_stage *stages;
    uint64_t rewrite_left; /* Bytes. */
    uint64_t old_generation;
    uint64_t next_file; /* Counters as of begin. */
    uint64_t next_block;
    struct flush_gather gather;
    bool is_journal_rotten;
    bool has_run;
};

void job_touch(struct store_flush *job, struct data_file *f);

/* flush_write.c, on the flusher: put a block behind the end of @ff. *ret_off is its place; it is in
 * the file after flush_write_rest(). 0, ERR_NOSPACE or ERR_IO, which are told to the store. */
int flush_write(struct store_flush *job, struct flush_file *ff, struct slice bytes,
                uint64_t *ret_off);
int flush_write_rest(struct store_flush *job);
void flush_write_close(struct store_flush *job);

/* store_image.c: the stage's share in the three steps. */
int stage_run(struct store_flush *job, struct store_stage *sg);
void stage_end(struct store_flush *job, struct store_stage *sg);
void stage_abort(struct store_stage *sg);
struct store_stage *stage_next(struct store_stage *sg);
#endif
