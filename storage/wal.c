#include "storage/wal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/wal_internal.h"

#define FILL_BYTES_DEFAULT (1u << 20)
#define PREPARE_PAUSE 64u /* Batches after which filling ahead is tried again on a full disk. */

int wal_open(const struct wal_options *options, const struct wal_replay *replay,
             struct wal_recovery *ret_recovery, struct wal **ret_wal)
{
    assert(options->segment_bytes_min >= 4 * WAL_BLOCK_BYTES);
    assert(options->segment_bytes_min <= options->segment_bytes_max);
    struct wal *w = xcalloc(1, sizeof *w);
    w->o = *options;
    w->dir = xslicedup(slice_str(options->dir));
    w->o.dir = w->dir;
    w->segment_bytes =
        (options->segment_bytes_min + WAL_BLOCK_BYTES - 1) / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
    w->salt_state = options->salt_seed;
    w->is_direct = options->try_direct;
    w->next_lsn = 1;
    w->trim_lsn = 1;
    w->seq_next = 1;
    w->generation_next = 1;
    struct wal_recovery recovery = {0};
    int rv = wal_recover(w, replay, &recovery);
    if (rv != 0) {
        *ret_recovery = (struct wal_recovery){0};
        (void)snprintf(ret_recovery->damaged_file, sizeof ret_recovery->damaged_file, "%.255s",
                       w->error_path);
        wal_close(w);
        return rv;
    }
    *ret_recovery = recovery;
    *ret_wal = w;
    return 0;
}

void wal_close(struct wal *w)
{
    if (w == NULL) {
        return;
    }
    while (w->first != NULL) {
        struct wal_frame *f = w->first;
        w->first = f->next;
        wal_frame_free(f);
    }
    wal_frame_free(w->spare);
    wal_frame_free(w->flight);
    wal_writer_close(w, &w->cur);
    wal_writer_close(w, &w->ahead);
    wal_fill_close(w);
    free(w->sealed.ptr);
    free(w->free.ptr);
    free(w->reuse.ptr);
    free(w->dir);
    free(w);
}

uint64_t wal_append(struct wal *w, uint8_t type, uint64_t gid, const struct slice *parts,
                    unsigned parts_count)
{
    size_t len = WAL_RECORD_HEADER_BYTES;
    for (unsigned i = 0; i < parts_count; i++) {
        len += parts[i].len;
    }
    struct wal_frame *f = w->last;
    if (f == NULL || f->len + len > w->o.frame_bytes_max) {
        f = w->spare != NULL ? w->spare : wal_frame_new();
        w->spare = NULL;
        wal_frame_reset(f, w->next_lsn);
        if (w->last == NULL) {
            w->first = f;
        } else {
            w->last->next = f;
        }
        w->last = f;
    }
    size_t before = f->len;
    wal_frame_add(f, type, gid, parts, parts_count);
    w->pending += f->len - before;
    if (type != WAL_TYPE_WATERMARK) {
        w->real_lsn = w->next_lsn;
    }
    return w->next_lsn++;
}

uint64_t wal_pending_bytes(const struct wal *w)
{
    return w->pending;
}

uint64_t wal_next_lsn(const struct wal *w)
{
    return w->next_lsn;
}

uint64_t wal_durable_lsn(const struct wal *w)
{
    return w->durable_lsn;
}

bool wal_batch_take(struct wal *w)
{
    if (w->flight != NULL || w->first == NULL) {
        return false;
    }
    struct wal_frame *f = w->first;
    w->first = f->next;
    w->last = w->first == NULL ? NULL : w->last;
    f->next = NULL;
    w->pending -= f->len - WAL_FRAME_HEADER_BYTES;
    w->flight = f;
    w->flight_trim = w->trim_lsn;
    w->flight_durable = w->durable_lsn;
    w->sealed_hint = (unsigned)w->sealed.n;
    while (w->free.n > 0) {
        wal_segments_push(&w->reuse, &w->free.ptr[0]);
        wal_segments_remove(&w->free, 0);
    }
    return true;
}

/* The size of the next segment: double while segments pile up, and as much as a frame needs. */
static uint64_t next_segment_bytes(struct wal *w, uint64_t frame_bytes, size_t gids)
{
    uint64_t need = WAL_BLOCK_BYTES + frame_bytes + wal_frame_bytes(8 * (uint64_t)gids);
    if ((w->sealed_hint >= 2 || need > w->segment_bytes / 8) &&
        2 * w->segment_bytes <= w->o.segment_bytes_max) {
        w->segment_bytes *= 2;
    }
    uint64_t size = w->segment_bytes;
    while (size < need) {
        size *= 2;
    }
    return size;
}

/* Unlink free files that are more than will be needed soon, or do not fit. Only when the next
 * segment has its name: the newest file of the directory is never without a successor (roll). */
static int drop_surplus(struct wal *w, uint64_t bytes)
{
    for (size_t i = 0; i < w->reuse.n;) {
        struct wal_segment s = w->reuse.ptr[i];
        if (w->reuse.n <= WAL_FREE_MAX && wal_segment_is_fit(&s, bytes)) {
            i++;
            continue;
        }
        wal_segments_remove(&w->reuse, i);
        int rv = w->o.ops->unlink(w->o.ops->ctx, s.path);
        if (rv != 0) {
            return wal_fail(w, rv, s.path);
        }
    }
    return 0;
}

static int create_next(struct wal *w, uint64_t bytes, struct wal_writer *ret)
{
    int rv = wal_segment_create(w, w->seq_next++, w->generation_next++, bytes, ret);
    if (rv == 0) {
        rv = wal_segment_name(w, ret);
    }
    if (rv == 0) {
        rv = drop_surplus(w, bytes);
    }
    return rv;
}

/* Go to the next segment, and seal the one before if there is one. The next is there by name before
 * the footer is written: so a footer tells recovery that a newer file must be there. */
static int roll(struct wal *w, uint64_t bytes, size_t gids)
{
    int rv = 0;
    if (w->ahead.file != NULL && !wal_writer_has_room(&w->ahead, bytes, gids)) {
        wal_segments_push(&w->reuse, &w->ahead.seg);
        wal_writer_close(w, &w->ahead);
    }
    if (w->ahead.file == NULL) {
        rv = create_next(w, next_segment_bytes(w, bytes, gids), &w->ahead);
    }
    if (rv == 0 && w->cur.file != NULL) {
        rv = wal_writer_footer(w, &w->cur, w->flight->lsn, w->flight_trim);
        if (rv == 0) {
            assert(!w->has_just_sealed);
            w->just_sealed = w->cur.seg;
            w->has_just_sealed = true;
            w->sealed_hint++;
            wal_writer_close(w, &w->cur);
        }
    }
    if (rv == 0) {
        w->cur = w->ahead;
        w->ahead = (struct wal_writer){.file = NULL};
    }
    return rv;
}

int wal_batch_write(struct wal *w, const char **ret_path)
{
    struct wal_frame *f = w->flight;
    assert(f != NULL);
    assert(!w->is_broken); /* A failed write is final. */
    uint64_t bytes = wal_frame_bytes(f->len - WAL_FRAME_HEADER_BYTES);
    int rv = 0;
    w->frame_bytes = bytes;
    if (w->cur.file == NULL || !wal_writer_has_room(&w->cur, bytes, f->gids.n)) {
        rv = roll(w, bytes, f->gids.n);
    }
    if (rv == 0) {
        struct wal_frame_head head = {.durable_lsn = w->flight_durable, .trim_lsn = w->flight_trim};
        rv = wal_writer_put(w, &w->cur, f, &head);
    }
    if (rv != 0 && ret_path != NULL) {
        *ret_path = w->error_path;
    }
    return rv;
}

void wal_free_trimmed(struct wal *w)
{
    while (w->sealed.n > 0 && w->sealed.ptr[0].last_lsn < w->durable_trim) {
        wal_segments_push(&w->free, &w->sealed.ptr[0]);
        wal_segments_remove(&w->sealed, 0);
    }
}

void wal_batch_done(struct wal *w)
{
    struct wal_frame *f = w->flight;
    assert(f != NULL);
    w->flight = NULL;
    if (w->is_broken) {
        wal_frame_free(f); /* Nobody is told of it. */
        return;
    }
    w->durable_lsn = f->lsn + f->records - 1;
    w->durable_trim = w->flight_trim;
    if (w->has_just_sealed) {
        wal_segments_push(&w->sealed, &w->just_sealed);
        w->has_just_sealed = false;
    }
    w->current = w->cur.seg;
    w->has_current = true;
    /* Only now: the frame that says they are trimmed is on the disk, and in another segment. */
    wal_free_trimmed(w);
    if (w->spare == NULL && f->cap <= 2 * (size_t)w->o.frame_bytes_max) {
        w->spare = f;
    } else {
        wal_frame_free(f);
    }
}

bool wal_idle(struct wal *w)
{
    assert(w->flight == NULL);
    bool is_vouched = w->real_lsn <= w->flight_durable;
    if (w->first != NULL || (is_vouched && w->trim_lsn <= w->durable_trim)) {
        return w->first != NULL;
    }
    (void)wal_append(w, WAL_TYPE_WATERMARK, 0, NULL, 0);
    return true;
}

static bool has_reusable(const struct wal *w, uint64_t bytes)
{
    for (size_t i = 0; i < w->reuse.n; i++) {
        if (wal_segment_is_fit(&w->reuse.ptr[i], bytes)) {
            return true;
        }
    }
    return false;
}

/* Four times what the last batch took: the second half of a segment is time enough to fill one of
 * twice its size. */
static uint64_t slice_bytes(const struct wal *w)
{
    uint64_t bytes = w->o.fill_bytes == 0 ? FILL_BYTES_DEFAULT : w->o.fill_bytes;
    bytes = 4 * w->frame_bytes > bytes ? 4 * w->frame_bytes : bytes;
    return (bytes + WAL_BLOCK_BYTES - 1) / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
}

int wal_prepare(struct wal *w, const char **ret_path)
{
    if (w->cur.file == NULL || w->ahead.file != NULL || w->cur.off < w->cur.seg.size / 2) {
        return 0;
    }
    if (w->prepare_pause > 0) {
        w->prepare_pause--;
        return 0;
    }
    int rv = 0;
    uint64_t bytes = w->fill.size;
    if (w->fill.file == NULL) {
        bytes = next_segment_bytes(w, 0, 0);
        rv = has_reusable(w, bytes) ? 0 : wal_fill_begin(w, bytes);
    }
    if (rv == 0 && w->fill.file != NULL) {
        rv = wal_fill_slice(w, slice_bytes(w));
    }
    if (rv == ERR_NOSPACE && !w->is_broken) {
        /* Of a file that nobody needs yet. Later there may be room; only then it becomes an error.
         */
        w->prepare_pause = PREPARE_PAUSE;
        rv = w->fill.file != NULL ? wal_fill_drop(w) : 0;
        return rv;
    }
    if (rv == 0) {
        rv = create_next(w, bytes, &w->ahead);
    }
    if (rv < 0 && ret_path != NULL) {
        *ret_path = w->error_path;
    }
    return rv;
}

unsigned wal_sealed_count(const struct wal *w)
{
    return (unsigned)w->sealed.n;
}

uint64_t wal_oldest_lsn(const struct wal *w)
{
    if (w->sealed.n > 0) {
        return w->sealed.ptr[0].first_lsn;
    }
    return w->has_current && w->current.first_lsn != 0 ? w->current.first_lsn : w->next_lsn;
}

uint64_t wal_segment_first_lsn(const struct wal *w, unsigned sealed_index)
{
    assert(sealed_index < w->sealed.n);
    return w->sealed.ptr[sealed_index].first_lsn;
}

uint64_t wal_bytes(const struct wal *w)
{
    uint64_t sum = w->has_current ? w->current.size : 0;
    for (size_t i = 0; i < w->sealed.n; i++) {
        sum += w->sealed.ptr[i].size;
    }
    return sum;
}

void wal_trim(struct wal *w, uint64_t lsn)
{
    assert(lsn <= w->durable_lsn + 1);
    w->trim_lsn = lsn > w->trim_lsn ? lsn : w->trim_lsn;
}

const struct file_ops *wal_file_ops(const struct wal *w)
{
    return w->o.ops;
}

const char *wal_mode_text(const struct wal *w)
{
    return w->is_direct ? "direct" : "buffered";
}
