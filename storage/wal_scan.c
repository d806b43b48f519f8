#include "storage/wal_scan.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"

struct reading {
    struct wal_scan *s;
    uint8_t *ptr; /* The file, as far as it goes, in whole blocks. */
    uint64_t len;
    wal_scan_cb cb;
    void *arg;
};

/* Read with O_DIRECT where it is taken: after a failed sync the page cache lies. */
static int read_file(struct wal *w, const char *path, uint64_t max, uint8_t **ret_ptr,
                     uint64_t *ret_size, uint64_t *ret_file_size)
{
    const struct file_ops *ops = w->o.ops;
    struct file *f = NULL;
    int rv = ERR_UNSUPPORTED;
    if (w->is_direct) {
        rv = ops->open(ops->ctx, path, FILE_READ | FILE_DIRECT, &f);
    }
    if (rv == ERR_UNSUPPORTED) {
        rv = ops->open(ops->ctx, path, FILE_READ, &f);
    }
    if (rv != 0) {
        return wal_fail(w, rv, path);
    }
    uint64_t size = 0;
    uint8_t *p = NULL;
    rv = ops->size(ops->ctx, f, &size);
    if (rv == 0) {
        *ret_file_size = size;
        size = size < max ? size : max;
        size_t room = (size_t)((size + WAL_BLOCK_BYTES) / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES);
        p = xaligned_alloc(WAL_BLOCK_BYTES, room);
        size_t n = 0;
        rv = ops->pread(ops->ctx, f, p, room, 0, &n);
        if (rv == 0) {
            size = n < size ? n : size;
            memset(p + size, 0, room - size);
        }
    }
    ops->close(ops->ctx, f);
    if (rv != 0) {
        free(p);
        return wal_fail(w, rv, path);
    }
    *ret_ptr = p;
    *ret_size = size;
    return 0;
}

static bool is_stamped(const struct reading *r, uint64_t sector_off, uint64_t lsn)
{
    return wal_get32(r->ptr + sector_off + WAL_SECTOR_DATA) == wal_stamp(r->s->seg.salt, lsn);
}

/* A right checksum does not make a number one to count with. */
static bool is_head_sound(const struct wal_frame_head *h)
{
    bool is_footer = (h->flags & WAL_FRAME_FOOTER) != 0;
    bool has_gap = (h->flags & WAL_FRAME_GAP) != 0;
    if ((h->flags & ~(WAL_FRAME_FOOTER | WAL_FRAME_GAP)) != 0 || h->lsn == 0 ||
        h->lsn > WAL_NUMBER_MAX || h->durable_lsn >= h->lsn || h->trim_lsn > h->durable_lsn + 1) {
        return false;
    }
    if (has_gap ? h->gap_from == 0 || h->gap_from >= h->lsn : h->gap_from != 0) {
        return false;
    }
    return is_footer
               ? !has_gap && h->records == 0 && h->len % 8 == 0 && h->durable_lsn == h->lsn - 1
               : h->records > 0;
}

/* Is there a header of this segment at @off whose checksum is right? */
static bool read_head(const struct reading *r, uint64_t off, struct wal_frame_head *ret)
{
    if (off + WAL_BLOCK_BYTES > r->len) {
        return false;
    }
    const uint8_t *h = r->ptr + off;
    ret->crc = wal_get32(h + 4);
    ret->salt = wal_get32(h + 8);
    if (wal_get32(h) != WAL_FRAME_MAGIC || ret->salt != r->s->seg.salt ||
        ret->crc != crc32c(0, h + 8, WAL_FRAME_HEADER_BYTES - 8)) {
        return false;
    }
    ret->flags = wal_get32(h + 12);
    ret->lsn = wal_get64(h + 16);
    ret->len = wal_get32(h + 24);
    ret->records = wal_get32(h + 28);
    ret->body_crc = wal_get32(h + 32);
    ret->prev_crc = wal_get32(h + 36);
    ret->durable_lsn = wal_get64(h + 40);
    ret->trim_lsn = wal_get64(h + 48);
    ret->gap_from = wal_get64(h + 56);
    return true;
}

/* And is it a good one? The frame may end beyond the file. */
static bool parse_head(const struct reading *r, uint64_t off, struct wal_frame_head *ret)
{
    if (!read_head(r, off, ret)) {
        return false;
    }
    bool is_sound = is_head_sound(ret);
    /* With its stamp it is no payload that looks like one. */
    r->s->is_foreign = r->s->is_foreign || (!is_sound && is_stamped(r, off, ret->lsn));
    return is_sound;
}

/* Walk the records; false if they are not exactly what the header says. */
static bool walk_records(const struct reading *r, const uint8_t *frame,
                         const struct wal_frame_head *h, struct buf *scratch, wal_scan_cb cb)
{
    size_t at = WAL_FRAME_HEADER_BYTES;
    size_t end = at + h->len;
    for (uint32_t i = 0; i < h->records; i++) {
        uint8_t head[WAL_RECORD_HEADER_BYTES];
        if (end - at < sizeof head) {
            return false;
        }
        wal_stream_read(frame, at, head, sizeof head);
        at += sizeof head;
        size_t len = wal_get32(head + 4);
        if (len > WAL_RECORD_BYTES_MAX || len > end - at || (len + 7) / 8 * 8 > end - at) {
            return false;
        }
        buf_clear(scratch);
        wal_stream_read(frame, at, buf_reserve(scratch, len + 1), len);
        if (wal_get32(head) != crc32c(crc32c(0, head + 4, sizeof head - 4), scratch->ptr, len)) {
            return false;
        }
        at += (len + 7) / 8 * 8;
        if (cb != NULL) {
            cb(r->arg, h->lsn + i, head[16], wal_get64(head + 8), slice_of(scratch->ptr, len));
        }
    }
    return at == end;
}

int wal_scan_header(struct wal *w, const char *path, struct wal_scan *ret)
{
    uint8_t *h;
    uint64_t n, size;
    int rv = read_file(w, path, 2 * WAL_BLOCK_BYTES, &h, &n, &size);
    if (rv != 0) {
        return rv;
    }
    struct wal_segment s = {.seq = wal_get64(h + 32)};
    s.generation = wal_get64(h + 40);
    s.size = wal_get64(h + 48);
    s.salt = wal_get32(h + 12);
    s.head_crc = wal_get32(h + 60);
    if (n < WAL_FILE_HEADER_BYTES || wal_get64(h) != WAL_FILE_MAGIC ||
        s.head_crc != crc32c(0, h, 60) || s.size % WAL_BLOCK_BYTES != 0 ||
        s.size < WAL_BLOCK_BYTES || s.size > WAL_FILE_BYTES_MAX || s.seq > WAL_NUMBER_MAX ||
        s.generation > WAL_NUMBER_MAX) {
        rv = ERR_CORRUPT;
    } else if (wal_get32(h + 8) != WAL_VERSION) {
        rv = ERR_VERSION;
    } else if (memcmp(h + 16, w->o.node_uuid, 16) != 0) {
        rv = ERR_EXISTS;
    }
    struct wal_scan found = {.seg = s};
    if (rv == 0) {
        struct reading r = {.s = &found, .ptr = h, .len = n};
        struct wal_frame_head first;
        if (parse_head(&r, WAL_BLOCK_BYTES, &first) && is_stamped(&r, WAL_BLOCK_BYTES, first.lsn) &&
            first.records > 0) {
            found.head_lsn = first.lsn;
            found.head_trim = first.trim_lsn;
        }
        (void)snprintf(found.seg.path, sizeof found.seg.path, "%s", path);
        *ret = (struct wal_scan){.seg = found.seg};
        ret->head_lsn = found.head_lsn;
        ret->head_trim = found.head_trim;
        ret->is_short = size < s.size;
    }
    free(h);
    return rv;
}

static bool parse_frame(const struct reading *r, uint64_t off, struct wal_frame_head *ret)
{
    if (!parse_head(r, off, ret) || off + wal_frame_bytes(ret->len) > r->len) {
        return false;
    }
    const uint8_t *frame = r->ptr + off;
    if (wal_stream_crc(frame, WAL_FRAME_HEADER_BYTES, ret->len) != ret->body_crc) {
        return false;
    }
    if ((ret->flags & WAL_FRAME_FOOTER) != 0) {
        return true;
    }
    struct buf scratch = BUF_EMPTY;
    bool ok = walk_records(r, frame, ret, &scratch, NULL);
    buf_close(&scratch);
    /* The body's checksum is right, so it was written like this. */
    r->s->is_foreign = r->s->is_foreign || !ok;
    return ok;
}

static bool has_stamp(const struct reading *r, uint64_t from, uint64_t lsn)
{
    for (uint64_t at = from; at < r->len; at += WAL_SECTOR_BYTES) {
        if (is_stamped(r, at, lsn)) {
            return true;
        }
    }
    return false;
}

/* What lies at @off, where no good frame is and none follows (raft-guide 7.3). A frame is begun
 * when the one before is synced: where a later one has left a stamp, this one was whole once. */
static enum wal_end classify_end(const struct reading *r, uint64_t off, uint64_t expected)
{
    struct wal_frame_head h;
    if (off >= r->len) {
        return WAL_END_CLEAN;
    }
    if (parse_head(r, off, &h)) {
        uint64_t end = off + wal_frame_bytes(h.len);
        for (uint64_t at = off; at < end && end <= r->len; at += WAL_SECTOR_BYTES) {
            if (!is_stamped(r, at, h.lsn)) {
                return h.records > 0 && has_stamp(r, end, h.lsn + h.records) ? WAL_END_ROTTEN
                                                                             : WAL_END_TORN;
            }
        }
        return WAL_END_ROTTEN;
    }
    if (is_stamped(r, off, expected) || (read_head(r, off, &h) && is_stamped(r, off, h.lsn))) {
        return WAL_END_ROTTEN; /* Its first sector was written, and is no good header. */
    }
    return has_stamp(r, off, expected) ? WAL_END_TORN : WAL_END_CLEAN;
}

/* The headers of frames that are not whole count for what they say was durable before them: that a
 * frame was torn says nothing about the one before, but that it was synced. */
static void hear_heads(const struct reading *r, uint64_t off)
{
    for (uint64_t at = off; at < r->len; at += WAL_BLOCK_BYTES) {
        struct wal_frame_head h;
        if (parse_head(r, at, &h) && is_stamped(r, at, h.lsn) &&
            h.durable_lsn > r->s->durable_lsn) {
            r->s->durable_lsn = h.durable_lsn;
        }
    }
}

static void take_footer(struct reading *r, uint64_t off, const struct wal_frame_head *h)
{
    r->s->has_footer = true;
    for (size_t at = 0; at < h->len; at += 8) {
        uint8_t b[8];
        wal_stream_read(r->ptr + off, WAL_FRAME_HEADER_BYTES + at, b, sizeof b);
        gid_set_add(&r->s->footer_gids, wal_get64(b));
    }
}

/* Note a good frame of records; a new run begins where LSNs do not follow. */
static void add_to_runs(struct wal_scan *s, const struct wal_frame_head *h)
{
    uint64_t last = h->lsn + h->records - 1;
    if (s->runs_count > 0 && s->runs[s->runs_count - 1].last + 1 == h->lsn) {
        s->runs[s->runs_count - 1].last = last;
    } else {
        s->runs = xrealloc(s->runs, (s->runs_count + 1) * sizeof *s->runs);
        s->runs[s->runs_count++] = (struct wal_run){
            h->lsn, last, (h->flags & WAL_FRAME_GAP) != 0 ? h->gap_from : UINT64_C(0)};
    }
    s->seg.first_lsn = s->seg.first_lsn == 0 ? h->lsn : s->seg.first_lsn;
    s->seg.last_lsn = last;
}

/* Frames in a row; returns where they end. */
static uint64_t scan_frames(struct reading *r)
{
    struct wal_scan *s = r->s;
    uint64_t off = WAL_BLOCK_BYTES;
    uint64_t expected = 0; /* LSN of the next frame; 0 before the first. */
    uint32_t prev_crc = s->seg.head_crc;
    bool is_chained = true;
    struct buf scratch = BUF_EMPTY;
    while (off < r->len && !s->has_footer) {
        struct wal_frame_head h;
        bool is_gap_allowed = false;
        bool ok = parse_frame(r, off, &h);
        if (ok) {
            is_gap_allowed = expected == 0 || !is_chained || (h.flags & WAL_FRAME_GAP) != 0;
            ok = (!is_chained || h.prev_crc == prev_crc) && h.lsn >= expected &&
                 (h.lsn == expected || is_gap_allowed);
        }
        if (!ok) {
            s->bad_off = s->bad_off == 0 ? off : s->bad_off;
            uint64_t next = off + WAL_BLOCK_BYTES;
            while (next < r->len && !(parse_frame(r, next, &h) && h.lsn >= expected)) {
                next += WAL_BLOCK_BYTES;
            }
            if (next >= r->len) {
                break;
            }
            is_chained = false;
            s->is_damaged = true;
            off = next;
            continue;
        }
        s->is_head_good = s->is_head_good || off == WAL_BLOCK_BYTES;
        s->durable_lsn = h.durable_lsn > s->durable_lsn ? h.durable_lsn : s->durable_lsn;
        s->trim_lsn = h.trim_lsn > s->trim_lsn ? h.trim_lsn : s->trim_lsn;
        if ((h.flags & WAL_FRAME_FOOTER) != 0) {
            take_footer(r, off, &h);
            expected = h.lsn;
        } else {
            add_to_runs(s, &h);
            if (r->cb != NULL) {
                (void)walk_records(r, r->ptr + off, &h, &scratch, r->cb);
            }
            expected = s->seg.last_lsn + 1;
        }
        prev_crc = h.crc;
        is_chained = true;
        off += wal_frame_bytes(h.len);
    }
    buf_close(&scratch);
    s->end_lsn = expected;
    return off;
}

int wal_scan_segment(struct wal *w, uint64_t expected, uint64_t relogged, struct wal_scan *s,
                     wal_scan_cb cb, void *arg)
{
    struct reading r = {.s = s, .cb = cb, .arg = arg};
    uint64_t file_size;
    int rv = s->raw != NULL
                 ? 0
                 : read_file(w, s->seg.path, s->seg.size, &s->raw, &s->raw_bytes, &file_size);
    if (rv != 0) {
        return rv;
    }
    struct wal_segment seg = s->seg;
    uint64_t size = s->raw_bytes;
    r.ptr = s->raw;
    s->raw = NULL;
    wal_scan_close(s);
    uint64_t head_lsn = s->head_lsn, head_trim = s->head_trim;
    *s = (struct wal_scan){.seg = seg, .raw = r.ptr, .raw_bytes = size};
    s->head_lsn = head_lsn;
    s->head_trim = head_trim;
    s->seg.first_lsn = s->seg.last_lsn = 0;
    r.len = size / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
    s->is_short = size < seg.size;
    uint64_t off = scan_frames(&r);
    if (!s->has_footer) {
        hear_heads(&r, off);
    }
    if (s->is_short) {
        s->end = WAL_END_ROTTEN;
    } else if (!s->has_footer && s->end_lsn != 0) {
        s->end = classify_end(&r, off, s->end_lsn);
    } else if (!s->has_footer) {
        s->end = classify_end(&r, off, expected == 0 ? 1 : expected);
        if (s->end == WAL_END_CLEAN) {
            s->end = classify_end(&r, off, relogged);
        }
        s->end_lsn = expected;
    }
    return 0;
}

void wal_scan_close(struct wal_scan *s)
{
    free(s->runs);
    free(s->raw);
    gid_set_close(&s->footer_gids);
    s->runs = NULL;
    s->runs_count = 0;
    s->raw = NULL;
}
