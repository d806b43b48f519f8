/* Shared by wal.c (appending), wal_segment.c (files and frames) and wal_recover.c (opening). */
#ifndef STORAGE_WAL_INTERNAL_H
#define STORAGE_WAL_INTERNAL_H
#include "storage/wal.h"
#include "storage/wal_format.h"

#define WAL_PATH_MAX 1024
#define WAL_FREE_MAX 4 /* Files kept for recycling; more are unlinked. */

/* Group ids, each once: open addressing. Gid 0 is kept apart. */
struct gid_set {
    uint64_t *slots;
    size_t cap, n;
    bool has_zero;
};
void gid_set_add(struct gid_set *s, uint64_t gid);
void gid_set_remove(struct gid_set *s, uint64_t gid);
void gid_set_merge(struct gid_set *to, const struct gid_set *from);
void gid_set_clear(struct gid_set *s);
void gid_set_close(struct gid_set *s);

/* A frame being gathered: its stream already lies between the places of the stamps. */
struct wal_frame {
    struct wal_frame *next;
    uint8_t *ptr; /* 4 KiB aligned; undefined beyond the stream until it is written. */
    size_t cap;
    size_t len; /* Of the stream, header included. */
    uint64_t lsn;
    uint32_t records;
    struct gid_set gids;
};
struct wal_frame *wal_frame_new(void);
void wal_frame_free(struct wal_frame *f);
void wal_frame_reset(struct wal_frame *f, uint64_t lsn);
void wal_frame_add(struct wal_frame *f, uint8_t type, uint64_t gid, const struct slice *parts,
                   unsigned parts_count);

/* What a frame header says. */
struct wal_frame_head {
    uint32_t crc, salt, flags, len, records, body_crc, prev_crc;
    uint64_t lsn, durable_lsn, trim_lsn, gap_from;
};
/* crc32c of the stream's bytes [from, from+len), by way of the stamps. */
uint32_t wal_stream_crc(const uint8_t *frame, size_t from, size_t len);
void wal_stream_read(const uint8_t *frame, size_t from, void *to, size_t len);
void wal_stream_write(uint8_t *frame, size_t to, const void *from, size_t len);

struct wal_segment {
    char path[WAL_PATH_MAX];
    uint64_t seq, generation, size;
    uint64_t first_lsn, last_lsn; /* 0 when there is no frame. */
    uint32_t salt, head_crc;
};
struct wal_segments {
    struct wal_segment *ptr;
    size_t n, cap;
};
void wal_segments_push(struct wal_segments *l, const struct wal_segment *s);
void wal_segments_remove(struct wal_segments *l, size_t i);

/* The file being written. Writer's. */
struct wal_writer {
    struct wal_segment seg;
    struct file *file; /* NULL: none. */
    bool is_direct;
    uint64_t off;
    uint32_t prev_crc;
    struct gid_set gids;
};

/* A new file on its way to be a segment (wal_fill.c). Writer's. */
struct wal_fill {
    struct file *file; /* NULL: none. */
    char path[WAL_PATH_MAX];
    uint64_t size, at; /* Zeros are written below at. */
    uint8_t *zeros;
};

struct wal {
    struct wal_options o;
    char *dir;
    /* Loop's, or under the driver's lock. */
    struct wal_frame *first, *last, *spare, *flight;
    uint64_t pending, next_lsn, durable_lsn, trim_lsn, durable_trim;
    uint64_t real_lsn; /* Last LSN that is no WATERMARK. */
    struct wal_segments sealed;
    struct wal_segments free;   /* The writer takes from it only between take and done. */
    struct wal_segment current; /* As the loop sees it. */
    bool has_current;
    uint32_t sealed_room; /* Segments the writer sealed in this batch, to be published by done. */
    /* Writer's. */
    struct wal_writer cur, ahead;
    struct wal_fill fill;
    unsigned prepare_pause; /* Writer's. */
    uint64_t frame_bytes;   /* Of the last frame. */
    struct wal_segment just_sealed;
    bool has_just_sealed;
    uint64_t seq_next, segment_bytes, flight_trim, flight_durable, generation_next;
    struct wal_segments reuse; /* Free files handed over by take. */
    uint32_t salt_state;
    unsigned sealed_hint;
    bool is_direct, is_broken;
    char error_path[WAL_PATH_MAX];
};

uint32_t wal_next_salt(struct wal *w);
uint8_t *wal_aligned_zeros(size_t size); /* 4 KiB aligned; free(). */
/* Begin a file of @bytes for the next seq, go on filling it by @bytes, which returns 1 while it is
 * not full and synced, give it up. The file filled is taken by wal_segment_create. */
int wal_fill_begin(struct wal *w, uint64_t bytes);
int wal_fill_slice(struct wal *w, uint64_t bytes);
int wal_fill_drop(struct wal *w);
void wal_fill_close(struct wal *w);
/* May this file be recycled where @bytes are needed? */
bool wal_segment_is_fit(const struct wal_segment *s, uint64_t bytes);
/* Make a file for segment @seq of at least @bytes, recycled or new, headed and durable but for its
 * name, which wal_segment_name gives. */
int wal_segment_create(struct wal *w, uint64_t seq, uint64_t generation, uint64_t bytes,
                       struct wal_writer *ret);
int wal_segment_name(struct wal *w, struct wal_writer *s);
/* Stamp, head, write and sync @f at the end of @s; there is room. @head gives flags, durable_lsn,
 * trim_lsn and gap_from. */
int wal_writer_put(struct wal *w, struct wal_writer *s, struct wal_frame *f,
                   struct wal_frame_head *head);
int wal_writer_footer(struct wal *w, struct wal_writer *s, uint64_t next_lsn, uint64_t trim_lsn);
void wal_writer_close(struct wal *w, struct wal_writer *s);
/* Does a frame of this many bytes fit, with the footer that then is due? */
bool wal_writer_has_room(const struct wal_writer *s, uint64_t bytes, size_t gids);
/* Whole segments below the durable trim LSN may be reused. */
void wal_free_trimmed(struct wal *w);
int wal_fail(struct wal *w, int rv, const char *path);
int wal_recover(struct wal *w, const struct wal_replay *replay, struct wal_recovery *ret);
#endif
