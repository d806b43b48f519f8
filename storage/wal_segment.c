#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/wal_internal.h"

/* ---- Sets of groups ---- */

static size_t gid_slot(const struct gid_set *s, uint64_t gid)
{
    size_t i = (size_t)((gid * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (s->cap - 1);
    while (s->slots[i] != 0 && s->slots[i] != gid) {
        i = (i + 1) & (s->cap - 1);
    }
    return i;
}

void gid_set_add(struct gid_set *s, uint64_t gid)
{
    if (gid == 0) {
        s->n += s->has_zero ? 0 : 1;
        s->has_zero = true;
        return;
    }
    if (2 * (s->n + 1) >= s->cap) {
        struct gid_set bigger = {xcalloc(s->cap == 0 ? 16 : 2 * s->cap, sizeof(uint64_t)),
                                 s->cap == 0 ? 16 : 2 * s->cap, s->n, s->has_zero};
        for (size_t i = 0; i < s->cap; i++) {
            if (s->slots[i] != 0) {
                bigger.slots[gid_slot(&bigger, s->slots[i])] = s->slots[i];
            }
        }
        free(s->slots);
        *s = bigger;
    }
    size_t i = gid_slot(s, gid);
    if (s->slots[i] == 0) {
        s->slots[i] = gid;
        s->n++;
    }
}

void gid_set_remove(struct gid_set *s, uint64_t gid)
{
    if (gid == 0) {
        s->n -= s->has_zero ? 1 : 0;
        s->has_zero = false;
        return;
    }
    struct gid_set rest = {NULL, 0, 0, false};
    if (s->has_zero) {
        gid_set_add(&rest, 0);
    }
    for (size_t i = 0; i < s->cap; i++) {
        if (s->slots[i] != 0 && s->slots[i] != gid) {
            gid_set_add(&rest, s->slots[i]);
        }
    }
    gid_set_close(s);
    *s = rest;
}

void gid_set_merge(struct gid_set *to, const struct gid_set *from)
{
    if (from->has_zero) {
        gid_set_add(to, 0);
    }
    for (size_t i = 0; i < from->cap; i++) {
        if (from->slots[i] != 0) {
            gid_set_add(to, from->slots[i]);
        }
    }
}

void gid_set_clear(struct gid_set *s)
{
    if (s->n > 0 && s->cap > 0) {
        memset(s->slots, 0, s->cap * sizeof *s->slots);
    }
    s->n = 0;
    s->has_zero = false;
}

void gid_set_close(struct gid_set *s)
{
    free(s->slots);
    *s = (struct gid_set){NULL, 0, 0, false};
}

/* ---- Streams through sectors ---- */

void wal_stream_write(uint8_t *frame, size_t to, const void *from, size_t len)
{
    const uint8_t *p = from;
    while (len > 0) {
        size_t n = WAL_SECTOR_DATA - to % WAL_SECTOR_DATA;
        n = n < len ? n : len;
        memcpy(frame + wal_physical(to), p, n);
        p += n;
        to += n;
        len -= n;
    }
}

void wal_stream_read(const uint8_t *frame, size_t from, void *to, size_t len)
{
    uint8_t *p = to;
    while (len > 0) {
        size_t n = WAL_SECTOR_DATA - from % WAL_SECTOR_DATA;
        n = n < len ? n : len;
        memcpy(p, frame + wal_physical(from), n);
        p += n;
        from += n;
        len -= n;
    }
}

uint32_t wal_stream_crc(const uint8_t *frame, size_t from, size_t len)
{
    uint32_t crc = 0;
    while (len > 0) {
        size_t n = WAL_SECTOR_DATA - from % WAL_SECTOR_DATA;
        n = n < len ? n : len;
        crc = crc32c(crc, frame + wal_physical(from), n);
        from += n;
        len -= n;
    }
    return crc;
}

/* ---- Frames ---- */

static uint8_t *aligned_bytes(size_t size)
{
    return xaligned_alloc(WAL_BLOCK_BYTES, size);
}

uint8_t *wal_aligned_zeros(size_t size)
{
    return memset(aligned_bytes(size), 0, size);
}

struct wal_frame *wal_frame_new(void)
{
    struct wal_frame *f = xcalloc(1, sizeof *f);
    f->len = WAL_FRAME_HEADER_BYTES;
    return f;
}

void wal_frame_free(struct wal_frame *f)
{
    if (f != NULL) {
        free(f->ptr);
        gid_set_close(&f->gids);
        free(f);
    }
}

void wal_frame_reset(struct wal_frame *f, uint64_t lsn)
{
    f->next = NULL;
    f->len = WAL_FRAME_HEADER_BYTES;
    f->lsn = lsn;
    f->records = 0;
    gid_set_clear(&f->gids);
}

static void frame_fit(struct wal_frame *f, size_t len)
{
    size_t need = (size_t)wal_frame_bytes(len - WAL_FRAME_HEADER_BYTES);
    if (need <= f->cap) {
        return;
    }
    size_t cap = f->cap == 0 ? 64 * 1024 : f->cap;
    while (cap < need) {
        cap *= 2;
    }
    uint8_t *p = aligned_bytes(cap);
    if (f->ptr != NULL) {
        memcpy(p, f->ptr, wal_physical(f->len));
        free(f->ptr);
    }
    f->ptr = p;
    f->cap = cap;
}

void wal_frame_add(struct wal_frame *f, uint8_t type, uint64_t gid, const struct slice *parts,
                   unsigned parts_count)
{
    size_t len = 0;
    for (unsigned i = 0; i < parts_count; i++) {
        len += parts[i].len;
    }
    assert(len <= WAL_RECORD_BYTES_MAX);
    size_t end = f->len + WAL_RECORD_HEADER_BYTES + (len + 7) / 8 * 8;
    frame_fit(f, end);
    uint8_t head[WAL_RECORD_HEADER_BYTES] = {0};
    wal_put32(head + 4, (uint32_t)len);
    wal_put64(head + 8, gid);
    head[16] = type;
    uint32_t crc = crc32c(0, head + 4, sizeof head - 4);
    size_t at = f->len + sizeof head;
    for (unsigned i = 0; i < parts_count; i++) {
        crc = crc32c(crc, parts[i].ptr, parts[i].len);
        wal_stream_write(f->ptr, at, parts[i].ptr, parts[i].len);
        at += parts[i].len;
    }
    wal_put32(head, crc);
    wal_stream_write(f->ptr, f->len, head, sizeof head);
    wal_stream_write(f->ptr, at, (const uint8_t[8]){0}, end - at);
    f->len = end;
    f->records++;
    if (type != WAL_TYPE_WATERMARK) {
        gid_set_add(&f->gids, gid); /* Nobody suffers from the loss of a watermark. */
    }
}

/* ---- Segments ---- */

void wal_segments_push(struct wal_segments *l, const struct wal_segment *s)
{
    if (l->n == l->cap) {
        l->cap = l->cap == 0 ? 8 : 2 * l->cap;
        l->ptr = xrealloc(l->ptr, l->cap * sizeof *l->ptr);
    }
    l->ptr[l->n++] = *s;
}

void wal_segments_remove(struct wal_segments *l, size_t i)
{
    assert(i < l->n);
    memmove(&l->ptr[i], &l->ptr[i + 1], (l->n - i - 1) * sizeof *l->ptr);
    l->n--;
}

int wal_fail(struct wal *w, int rv, const char *path)
{
    w->is_broken = true;
    (void)snprintf(w->error_path, sizeof w->error_path, "%s", path);
    return rv;
}

uint32_t wal_next_salt(struct wal *w)
{
    w->salt_state = w->salt_state * 1664525u + 1013904223u; /* Differs from the one before. */
    uint64_t z = w->salt_state * UINT64_C(0xbf58476d1ce4e5b9) ^ w->seq_next;
    return (uint32_t)(z >> 17);
}

static int write_synced(struct wal *w, struct wal_writer *s, const void *ptr, size_t len,
                        uint64_t off)
{
    const struct file_ops *ops = w->o.ops;
    int rv = ops->pwrite(ops->ctx, s->file, ptr, len, off);
    if (rv == 0 && !s->is_direct) {
        rv = ops->sync(ops->ctx, s->file);
    }
    return rv == 0 ? 0 : wal_fail(w, rv, s->seg.path);
}

static int open_for_writing(struct wal *w, struct wal_writer *s, unsigned flags)
{
    const struct file_ops *ops = w->o.ops;
    int rv = ERR_UNSUPPORTED;
    s->is_direct = false;
    if (w->is_direct) {
        rv = ops->open(ops->ctx, s->seg.path, flags | FILE_WRITE | FILE_DIRECT, &s->file);
        s->is_direct = rv == 0;
    }
    if (rv == ERR_UNSUPPORTED) {
        w->is_direct = false;
        rv = ops->open(ops->ctx, s->seg.path, flags | FILE_WRITE, &s->file);
    }
    return rv == 0 ? 0 : wal_fail(w, rv, s->seg.path);
}

static int write_header(struct wal *w, struct wal_writer *s)
{
    uint8_t *h = wal_aligned_zeros(WAL_BLOCK_BYTES);
    wal_put64(h, WAL_FILE_MAGIC);
    wal_put32(h + 8, WAL_VERSION);
    wal_put32(h + 12, s->seg.salt);
    memcpy(h + 16, w->o.node_uuid, 16);
    wal_put64(h + 32, s->seg.seq);
    wal_put64(h + 40, s->seg.generation);
    wal_put64(h + 48, s->seg.size);
    s->seg.head_crc = crc32c(0, h, 60);
    wal_put32(h + 60, s->seg.head_crc);
    int rv = write_synced(w, s, h, WAL_BLOCK_BYTES, 0);
    free(h);
    return rv;
}

/* The file filled so far goes on, if it is large enough. */
static int take_filled(struct wal *w, struct wal_writer *s, uint64_t bytes)
{
    int rv = 0;
    if (w->fill.file != NULL && w->fill.size < bytes) {
        rv = wal_fill_drop(w);
    }
    if (rv == 0 && w->fill.file == NULL) {
        rv = wal_fill_begin(w, bytes);
    }
    if (rv == 0) {
        rv = wal_fill_slice(w, UINT64_MAX);
    }
    if (rv == ERR_NOSPACE) {
        return wal_fail(w, rv, w->fill.path); /* It is needed now. */
    }
    if (rv == 0) {
        s->seg.size = w->fill.size;
        memcpy(s->seg.path, w->fill.path, sizeof s->seg.path);
        wal_fill_close(w);
    }
    return rv;
}

/* Give the file its name; it counts from the moment the directory is synced. */
int wal_segment_name(struct wal *w, struct wal_writer *s)
{
    const struct file_ops *ops = w->o.ops;
    char path[WAL_PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/wal-%016llx-%llx.log", w->dir,
                   (unsigned long long)s->seg.seq, (unsigned long long)s->seg.generation);
    int rv = ops->rename(ops->ctx, s->seg.path, path);
    if (rv == 0) {
        rv = ops->sync_dir(ops->ctx, w->dir);
    }
    memcpy(s->seg.path, path, sizeof path);
    return rv == 0 ? 0 : wal_fail(w, rv, path);
}

bool wal_segment_is_fit(const struct wal_segment *s, uint64_t bytes)
{
    return s->size >= bytes && s->size <= 4 * bytes;
}

int wal_segment_create(struct wal *w, uint64_t seq, uint64_t generation, uint64_t bytes,
                       struct wal_writer *ret)
{
    struct wal_writer s = {.off = WAL_BLOCK_BYTES};
    int rv = 0;
    bool is_recycled = false;
    for (size_t i = 0; i < w->reuse.n && !is_recycled; i++) {
        if (wal_segment_is_fit(&w->reuse.ptr[i], bytes)) {
            s.seg = w->reuse.ptr[i];
            wal_segments_remove(&w->reuse, i);
            is_recycled = true;
        }
    }
    if (!is_recycled) {
        rv = take_filled(w, &s, bytes);
    }
    s.seg.seq = seq;
    s.seg.generation = generation;
    s.seg.first_lsn = s.seg.last_lsn = 0;
    s.seg.salt = wal_next_salt(w);
    if (rv == 0) {
        rv = open_for_writing(w, &s, 0);
    }
    if (rv == 0) {
        rv = write_header(w, &s);
    }
    if (rv != 0) {
        wal_writer_close(w, &s);
        return rv;
    }
    s.prev_crc = s.seg.head_crc;
    *ret = s;
    return 0;
}

void wal_writer_close(struct wal *w, struct wal_writer *s)
{
    if (s->file != NULL) {
        w->o.ops->close(w->o.ops->ctx, s->file);
    }
    gid_set_close(&s->gids);
    *s = (struct wal_writer){.file = NULL};
}

bool wal_writer_has_room(const struct wal_writer *s, uint64_t bytes, size_t gids)
{
    return s->off + bytes + wal_frame_bytes(8 * (uint64_t)(s->gids.n + gids)) <= s->seg.size;
}

int wal_writer_put(struct wal *w, struct wal_writer *s, struct wal_frame *f,
                   struct wal_frame_head *head)
{
    size_t body = f->len - WAL_FRAME_HEADER_BYTES;
    size_t bytes = (size_t)wal_frame_bytes(body);
    frame_fit(f, f->len);
    assert(s->off + bytes <= s->seg.size);
    memset(f->ptr + wal_physical(f->len), 0, bytes - wal_physical(f->len));
    uint8_t *h = f->ptr; /* The header lies within the first sector. */
    wal_put32(h, WAL_FRAME_MAGIC);
    wal_put32(h + 8, s->seg.salt);
    wal_put32(h + 12, head->flags);
    wal_put64(h + 16, f->lsn);
    wal_put32(h + 24, (uint32_t)body);
    wal_put32(h + 28, f->records);
    wal_put32(h + 32, wal_stream_crc(f->ptr, WAL_FRAME_HEADER_BYTES, body));
    wal_put32(h + 36, s->prev_crc);
    wal_put64(h + 40, head->durable_lsn);
    wal_put64(h + 48, head->trim_lsn);
    wal_put64(h + 56, head->gap_from);
    uint32_t crc = crc32c(0, h + 8, WAL_FRAME_HEADER_BYTES - 8);
    wal_put32(h + 4, crc);
    uint32_t stamp = wal_stamp(s->seg.salt, f->lsn);
    for (size_t at = WAL_SECTOR_DATA; at < bytes; at += WAL_SECTOR_BYTES) {
        wal_put32(f->ptr + at, stamp);
    }
    int rv = write_synced(w, s, f->ptr, bytes, s->off);
    if (rv != 0) {
        return rv;
    }
    s->off += bytes;
    s->prev_crc = crc;
    gid_set_merge(&s->gids, &f->gids);
    if (f->records > 0) {
        s->seg.first_lsn = s->seg.first_lsn == 0 ? f->lsn : s->seg.first_lsn;
        s->seg.last_lsn = f->lsn + f->records - 1;
    }
    return 0;
}

int wal_writer_footer(struct wal *w, struct wal_writer *s, uint64_t next_lsn, uint64_t trim_lsn)
{
    struct wal_frame *f = wal_frame_new();
    wal_frame_reset(f, next_lsn);
    size_t at = f->len;
    f->len += 8 * s->gids.n;
    frame_fit(f, f->len);
    for (size_t i = 0; i <= s->gids.cap; i++) {
        /* One turn more than there are slots, for gid 0. */
        uint64_t gid = i < s->gids.cap ? s->gids.slots[i] : 0;
        if (gid != 0 || (i == s->gids.cap && s->gids.has_zero)) {
            uint8_t b[8];
            wal_put64(b, gid);
            wal_stream_write(f->ptr, at, b, sizeof b);
            at += sizeof b;
        }
    }
    assert(at == f->len);
    struct wal_frame_head head = {
        .flags = WAL_FRAME_FOOTER, .durable_lsn = next_lsn - 1, .trim_lsn = trim_lsn};
    int rv = wal_writer_put(w, s, f, &head);
    wal_frame_free(f);
    return rv;
}
