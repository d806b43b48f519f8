/* Reading a segment and finding where it is damaged. Used by recovery only. */
#ifndef STORAGE_WAL_SCAN_H
#define STORAGE_WAL_SCAN_H
#include "storage/wal_internal.h"

enum wal_end {
    WAL_END_CLEAN,
    WAL_END_TORN,  /* A frame began here and was never written whole. */
    WAL_END_ROTTEN /* A frame was here whole, or bytes are gone from the file. */
};

/* Good frames whose LSNs follow one another. */
struct wal_run {
    uint64_t first, last;
    uint64_t gap_from; /* Its first frame says that what is missing from here on was reported. */
};

struct wal_scan {
    struct wal_segment seg; /* first_lsn and last_lsn of its good frames. */
    struct wal_run *runs;
    size_t runs_count;
    bool is_damaged;   /* There is no good frame where one should be, and good ones follow. */
    bool is_head_good; /* The first frame is. */
    bool has_footer;
    bool is_short;
    bool is_foreign;  /* A frame whose checksum is right says what no log of ours does. */
    uint64_t bad_off; /* Where the first frame that is not good would begin. */
    enum wal_end end;
    uint64_t end_lsn; /* Expected after it. */
    uint64_t durable_lsn, trim_lsn;
    struct gid_set footer_gids;
    uint64_t head_lsn, head_trim; /* What its first frame's header says; 0 if it is not good. */
    bool is_below;                /* It need not be read: all it holds is below the floor. */
    uint8_t *raw; /* What was read, for the next time; the caller may free it and set it to NULL. */
    uint64_t raw_bytes;
};

/* Read a file's header, and that of its first frame: fills @ret's seg, is_short, head_lsn and
 * head_trim only.
 * ERR_CORRUPT: not good; ERR_VERSION; ERR_IO; ERR_EXISTS: another node's. */
int wal_scan_header(struct wal *w, const char *path, struct wal_scan *ret);

/* Called for each record of each good frame. */
typedef void (*wal_scan_cb)(void *arg, uint64_t lsn, uint8_t type, uint64_t gid,
                            struct slice payload);

/* Read @s->seg whole, unless @s->raw is there, and fill the rest of @s, which wal_scan_close frees.
 * What was written into it
 * first had LSN @expected (0: not known), or @relogged if recovery began the segment. @cb may be
 * NULL. Returns 0 or ERR_IO. */
int wal_scan_segment(struct wal *w, uint64_t expected, uint64_t relogged, struct wal_scan *s,
                     wal_scan_cb cb, void *arg);
void wal_scan_close(struct wal_scan *s);
#endif
