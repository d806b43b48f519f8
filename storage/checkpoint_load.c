/* The journal as it lies on the disk: frames, the copies and what is right in which, opening, and
 * looking for damage.
 *
 * Both copies are written alike, so a frame lies at the same place in each. A frame counts if it is
 * right in one of them, or if each of its items is. A copy that lacks what the other one has is
 * left as it is, and the next commit begins a new generation, whole in both. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/block_format.h"
#include "storage/checkpoint_internal.h"
#include "storage/file_read.h"

#define SECTOR_BYTES 512u

/* ---- Frames ---- */

struct frame {
    uint64_t pass;
    uint64_t body_bytes;
    uint32_t body_crc;
    uint32_t prev_crc;
    uint32_t crc;
    uint32_t items_count;
};

/* How far a journal has been read. */
struct cursor {
    uint64_t generation;
    uint64_t off; /* Of the next frame. */
    uint64_t pass;
    uint32_t prev_crc; /* 0: none yet. */
    uint64_t frames;
};

static bool frame_header(const uint8_t *p, uint64_t generation, struct frame *ret)
{
    uint8_t h[FRAME_HEADER_BYTES];
    memcpy(h, p, sizeof h);
    uint32_t crc = get_u32(h + 4);
    put_u32(h + 4, 0);
    if (get_u32(h) != FRAME_MAGIC || crc32c(0, h, sizeof h) != crc ||
        get_u64(h + 8) != generation) {
        return false;
    }
    *ret = (struct frame){.pass = get_u64(h + 16),
                          .body_bytes = get_u64(h + 24),
                          .body_crc = get_u32(h + 32),
                          .prev_crc = get_u32(h + 36),
                          .crc = crc,
                          .items_count = get_u32(h + 40)};
    return true;
}

/* The header of the frame that comes next, as @file has it. */
static bool header_at(struct slice file, const struct cursor *at, struct frame *ret)
{
    return at->off < file.len && file.len - at->off >= FRAME_HEADER_BYTES &&
           frame_header(file.ptr + at->off, at->generation, ret) && ret->prev_crc == at->prev_crc &&
           (at->prev_crc == 0 || ret->pass == at->pass + 1);
}

/* What @file has of the body; shorter where it ends before. */
static struct slice body_at(struct slice file, const struct cursor *at, const struct frame *fr)
{
    uint64_t off = at->off + FRAME_HEADER_BYTES;
    uint64_t there = file.len > off ? file.len - off : 0;
    return there == 0 ? SLICE_EMPTY
                      : slice_of(file.ptr + off,
                                 (size_t)(there < fr->body_bytes ? there : fr->body_bytes));
}

static bool is_body(struct slice body, const struct frame *fr)
{
    return body.len == fr->body_bytes && crc32c(0, body.ptr, body.len) == fr->body_crc;
}

static void step(struct cursor *at, const struct frame *fr)
{
    at->pass = fr->pass;
    at->prev_crc = fr->crc;
    at->off = align_up(at->off + FRAME_HEADER_BYTES + fr->body_bytes);
    at->frames++;
}

static bool is_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

/* What stands at the cursor is no valid frame. A write that never completed leaves the end of the
 * file or a sector of zeros within it, and no frame follows. Anything else may have counted once.
 */
static bool tail_is_torn(struct slice file, const struct cursor *c)
{
    struct frame fr;
    for (uint64_t at = align_up(c->off + 1); at + FRAME_HEADER_BYTES <= file.len;
         at += BLOCK_ALIGN) {
        if (frame_header(file.ptr + at, c->generation, &fr) && fr.pass > c->pass + 1) {
            return false;
        }
    }
    uint64_t end = file.len;
    if (c->off + FRAME_HEADER_BYTES <= file.len &&
        frame_header(file.ptr + c->off, c->generation, &fr)) {
        if (fr.body_bytes > file.len - c->off - FRAME_HEADER_BYTES) {
            return true;
        }
        end = c->off + FRAME_HEADER_BYTES + fr.body_bytes;
    }
    for (uint64_t at = c->off; at < end; at += SECTOR_BYTES) {
        size_t len = (size_t)(end - at < SECTOR_BYTES ? end - at : SECTOR_BYTES);
        if (is_zero(file.ptr + at, len)) {
            return true;
        }
    }
    return false;
}

static int check_file_header(struct slice file, uint64_t generation)
{
    if (file.len < FILE_HEADER_BYTES || memcmp(file.ptr, FILE_MAGIC, 8) != 0) {
        return ERR_CORRUPT;
    }
    uint8_t zero[4] = {0};
    uint32_t crc = crc32c(crc32c(0, file.ptr, 24), zero, 4);
    crc = crc32c(crc, file.ptr + 28, FILE_HEADER_BYTES - 28);
    if (crc != get_u32(file.ptr + 24) || get_u64(file.ptr + 16) != generation) {
        return ERR_CORRUPT;
    }
    return get_u32(file.ptr + 8) == FORMAT_VERSION ? 0 : ERR_VERSION;
}

/* ---- Copies ---- */

struct copy {
    struct slice bytes;
    bool is_absent;
    bool is_header_bad;
    uint64_t bad_count;   /* Frames that it has not, or not right. */
    struct cursor bad_at; /* The last of them. */
};

/* Items of a body that is right in no copy, each from one in which it is. */
static bool body_merge(const struct slice *bodies, uint64_t bytes, struct buf *out)
{
    buf_clear(out);
    while (out->len < bytes) {
        size_t at = out->len;
        for (unsigned i = 0; i < CHECKPOINT_COPIES && out->len == at; i++) {
            if (bodies[i].len <= at) {
                continue;
            }
            struct reader r = reader_of(slice_from(bodies[i], at));
            struct item it;
            if (item_next(&r, &it)) {
                buf_append(out, bodies[i].ptr + at, bodies[i].len - at - r.len);
            }
        }
        if (out->len == at) {
            return false;
        }
    }
    return out->len == bytes;
}

/* Find the next frame in the copies, and note which of them have it not. @merged is for a body that
 * none has whole. */
static bool frame_next(struct copy *copies, const struct cursor *at, struct buf *merged,
                       struct frame *ret_frame, struct slice *ret_body)
{
    struct frame fr = {0};
    struct frame own[CHECKPOINT_COPIES];
    bool has_header[CHECKPOINT_COPIES];
    bool is_found = false;
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        has_header[i] = header_at(copies[i].bytes, at, &own[i]);
        fr = has_header[i] && !is_found ? own[i] : fr;
        is_found = is_found || has_header[i];
    }
    if (!is_found) {
        return false;
    }
    struct slice bodies[CHECKPOINT_COPIES];
    struct slice body = SLICE_EMPTY;
    bool has_body = false;
    bool is_right[CHECKPOINT_COPIES];
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        bodies[i] = body_at(copies[i].bytes, at, &fr);
        bool is_whole = is_body(bodies[i], &fr);
        body = is_whole && !has_body ? bodies[i] : body;
        has_body = has_body || is_whole;
        is_right[i] = is_whole && has_header[i] && own[i].crc == fr.crc;
    }
    if (!has_body && body_merge(bodies, fr.body_bytes, merged)) {
        body = buf_slice(merged);
        has_body = is_body(body, &fr);
    }
    if (!has_body || !body_is_valid(body, fr.items_count)) {
        return false;
    }
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        if (!is_right[i]) {
            copies[i].bad_count++;
            copies[i].bad_at = *at;
        }
    }
    *ret_frame = fr;
    *ret_body = body;
    return true;
}

/* More than a commit that was cut off leaves: that one can lack the last frame, or not have its
 * name yet. */
static bool is_damaged(const struct copy *cp, bool is_single, const struct cursor *end)
{
    if (cp->is_absent) {
        return end->frames > 1 && !is_single;
    }
    if (cp->is_header_bad) {
        return true;
    }
    bool is_last = cp->bad_count == 1 && cp->bad_at.frames + 1 == end->frames;
    return cp->bad_count > 0 &&
           !(is_last && end->frames > 1 &&
             (cp->bytes.len <= cp->bad_at.off || tail_is_torn(cp->bytes, &cp->bad_at)));
}

/* What stands behind the last frame in some copy. */
static void judge_tail(const struct copy *copies, const struct cursor *end,
                       struct checkpoint_recovery *rec)
{
    bool is_there = false;
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        if (copies[i].bytes.len > end->off) {
            is_there = true;
            rec->is_copy_damaged[i] = !tail_is_torn(copies[i].bytes, end);
            rec->is_rotten = rec->is_rotten || rec->is_copy_damaged[i];
        }
    }
    rec->is_torn = is_there && !rec->is_rotten;
}

/* Apply the frames of a journal to @c. ERR_CORRUPT when not even the first is right. */
static int replay(struct checkpoint *c, struct copy *copies, uint64_t generation,
                  struct checkpoint_recovery *rec)
{
    bool has_header = false;
    bool is_single = false; /* An earlier build wrote no other copy. */
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        int rv = check_file_header(copies[i].bytes, generation);
        if (rv == ERR_VERSION) {
            return rv;
        }
        copies[i].is_header_bad = rv != 0;
        has_header = has_header || rv == 0;
        is_single = is_single || (rv == 0 && get_u32(copies[i].bytes.ptr + 28) == 0);
    }
    if (!has_header) {
        return ERR_CORRUPT;
    }
    struct cursor at = {.generation = generation, .off = FILE_HEADER_BYTES};
    struct buf merged = BUF_EMPTY;
    struct frame fr;
    struct slice body;
    while (frame_next(copies, &at, &merged, &fr, &body)) {
        body_apply(c, body, at.off + FRAME_HEADER_BYTES);
        c->last_off = at.off;
        c->last_bytes = FRAME_HEADER_BYTES + fr.body_bytes;
        step(&at, &fr);
    }
    buf_close(&merged);
    if (at.frames == 0) {
        return ERR_CORRUPT;
    }
    judge_tail(copies, &at, rec);
    rec->must_rewrite = rec->is_torn || rec->is_rotten;
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        rec->is_copy_damaged[i] = rec->is_copy_damaged[i] || is_damaged(&copies[i], is_single, &at);
        rec->must_rewrite = rec->must_rewrite || copies[i].is_header_bad || copies[i].bad_count > 0;
    }
    /* Never append behind what was discarded, nor to a copy that lacks something. */
    c->must_rotate = rec->must_rewrite;
    c->generation = generation;
    c->pass = at.pass;
    c->end = at.off;
    c->prev_crc = at.prev_crc;
    rec->generation = generation;
    rec->pass = at.pass;
    return 0;
}

/* ---- Opening ---- */

void checkpoint_path(const char *dir, uint64_t generation, unsigned copy, char *out,
                     size_t out_bytes)
{
    assert(copy < CHECKPOINT_COPIES);
    snprintf(out, out_bytes, "%s/ckpt-%016" PRIx64 ".%s", dir, generation,
             copy == 0 ? "journal" : "mirror");
}

bool checkpoint_name(const char *name, uint64_t *ret_generation)
{
    uint64_t number;
    int end = 0;
    if (sscanf(name, "ckpt-%16" SCNx64 ".%n", &number, &end) != 1 || end == 0 || number == 0 ||
        (strcmp(name + end, "journal") != 0 && strcmp(name + end, "mirror") != 0)) {
        return false;
    }
    *ret_generation = number;
    return true;
}

int checkpoint_read_copy(struct checkpoint *c, uint64_t generation, unsigned copy, struct buf *out)
{
    checkpoint_path(c->dir, generation, copy, c->path, sizeof c->path);
    return file_read_all(c->ops, c->path, out);
}

struct generations {
    uint64_t *numbers;
    size_t count;
};

static void on_name(void *arg, const char *name)
{
    struct generations *g = arg;
    uint64_t number;
    if (!checkpoint_name(name, &number)) {
        return;
    }
    for (size_t i = 0; i < g->count; i++) {
        if (g->numbers[i] == number) {
            return; /* Its other copy. */
        }
    }
    g->numbers = xrealloc(g->numbers, (g->count + 1) * sizeof *g->numbers);
    g->numbers[g->count++] = number;
}

static int descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

static int write_again(struct checkpoint *c, struct slice bytes, uint64_t off)
{
    struct file *f;
    int rv = c->ops->open(c->ops->ctx, c->path, FILE_WRITE, &f);
    if (rv == 0) {
        rv = c->ops->pwrite(c->ops->ctx, f, bytes.ptr, bytes.len, off);
        rv = rv == 0 ? c->ops->sync(c->ops->ctx, f) : rv;
        c->ops->close(c->ops->ctx, f);
    }
    return rv;
}

/* The process that wrote the last frame may have ended before its sync returned, or because it
 * failed: what is read here then is on no disk yet, and after a failed sync no later one would
 * bring it there. But from now on the log is trimmed by it. So it is written again, the same bytes
 * in the same place, one copy after the other. The frames before it were synced before it was
 * begun, and the first one of a generation before its file got its name. */
static int vouch(struct checkpoint *c, const struct copy *copies)
{
    int rv = 0;
    for (unsigned i = 0; i < CHECKPOINT_COPIES && rv == 0; i++) {
        const struct copy *cp = &copies[i];
        bool is_bad = cp->bad_count > 0 && cp->bad_at.off == c->last_off;
        if (!cp->is_absent && !cp->is_header_bad && !is_bad && c->last_off > FILE_HEADER_BYTES) {
            checkpoint_path(c->dir, c->generation, i, c->path, sizeof c->path);
            struct slice frame = slice_of(cp->bytes.ptr + c->last_off, (size_t)c->last_bytes);
            rv = write_again(c, frame, c->last_off);
        }
    }
    return rv == 0 ? c->ops->sync_dir(c->ops->ctx, c->dir) : rv;
}

static int load(struct checkpoint *c, uint64_t generation, struct checkpoint_recovery *rec)
{
    struct buf bytes[CHECKPOINT_COPIES] = {BUF_EMPTY, BUF_EMPTY};
    struct copy copies[CHECKPOINT_COPIES] = {0};
    int rv = 0;
    for (unsigned i = 0; i < CHECKPOINT_COPIES && rv == 0; i++) {
        rv = checkpoint_read_copy(c, generation, i, &bytes[i]);
        copies[i].is_absent = rv == ERR_NOTFOUND;
        rv = rv == ERR_NOTFOUND ? 0 : rv;
        copies[i].bytes = buf_slice(&bytes[i]);
    }
    rv = rv == 0 ? replay(c, copies, generation, rec) : rv;
    rv = rv == 0 ? vouch(c, copies) : rv;
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        buf_close(&bytes[i]);
    }
    return rv;
}

static int load_newest(struct checkpoint *c, const struct generations *gens,
                       struct checkpoint_recovery *rec)
{
    int rv = 0;
    for (size_t i = 0; i < gens->count && i < 2; i++) {
        *rec = (struct checkpoint_recovery){.is_fallback = i > 0};
        rv = load(c, gens->numbers[i], rec);
        if (rv != ERR_CORRUPT) {
            break;
        }
        checkpoint_drop_all(c);
    }
    if (rv == 0 && rec->is_fallback) {
        /* The number of the unreadable one is taken. */
        c->must_rotate = true;
        rec->must_rewrite = true;
        rec->unreadable = gens->numbers[0];
    }
    return rv;
}

int checkpoint_open(const struct checkpoint_options *options,
                    struct checkpoint_recovery *ret_recovery, struct checkpoint **ret_c)
{
    struct checkpoint *c = xcalloc(1, sizeof *c);
    c->ops = options->ops;
    c->dir = xslicedup(slice_str(options->dir));
    c->machine_version = options->machine_version;
    c->garbage_bytes_min = options->garbage_bytes_min;
    struct checkpoint_recovery rec = {0};
    struct generations gens = {0};
    int rv = c->ops->list(c->ops->ctx, c->dir, on_name, &gens);
    if (rv == 0 && gens.count > 0) {
        qsort(gens.numbers, gens.count, sizeof *gens.numbers, descending);
        rv = load_newest(c, &gens, &rec);
        c->number_max = gens.numbers[0];
    }
    free(gens.numbers);
    if (rv != 0) {
        checkpoint_close(c);
        return rv;
    }
    *ret_recovery = rec;
    *ret_c = c;
    return 0;
}

int checkpoint_parse(const struct slice *files, uint64_t generation, checkpoint_key_cb cb,
                     void *arg, struct checkpoint_recovery *ret_recovery)
{
    struct checkpoint c = {0};
    struct checkpoint_recovery rec = {0};
    struct copy copies[CHECKPOINT_COPIES] = {0};
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        copies[i].bytes = files[i];
    }
    int rv = replay(&c, copies, generation, &rec);
    if (rv == 0) {
        struct checkpoint_group *g, *gtmp;
        HASH_ITER(hh, c.groups, g, gtmp)
        {
            struct checkpoint_entry *e, *etmp;
            HASH_ITER(hh, g->entries, e, etmp)
            {
                cb(arg, e->name[0], slice_of(e->name + 1, e->key_bytes), e->value_bytes);
            }
        }
        *ret_recovery = rec;
    }
    checkpoint_drop_all(&c);
    return rv;
}

/* ---- Looking for damage ---- */

void checkpoint_check_begin(const struct checkpoint *c, struct checkpoint_check *ret_check)
{
    *ret_check = (struct checkpoint_check){.generation = c->generation, .end = c->end};
}

static bool is_whole(struct slice file, const struct checkpoint_check *k)
{
    struct cursor at = {.generation = k->generation, .off = FILE_HEADER_BYTES};
    struct frame fr;
    bool is_right = check_file_header(file, k->generation) == 0;
    while (is_right && at.off < k->end) {
        is_right = header_at(file, &at, &fr) && is_body(body_at(file, &at, &fr), &fr);
        if (is_right) {
            step(&at, &fr);
        }
    }
    return is_right && at.off == k->end;
}

int checkpoint_check_run(const struct file_ops *ops, const char *dir, struct checkpoint_check *k)
{
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        char path[PATH_BYTES];
        struct buf file = BUF_EMPTY;
        checkpoint_path(dir, k->generation, i, path, sizeof path);
        buf_reserve(&file, (size_t)k->end);
        int rv = file_read_disk(ops, path, file.ptr, (size_t)k->end, 0);
        file.len = rv == 0 ? (size_t)k->end : 0;
        if (rv == ERR_UNSUPPORTED) {
            rv = file_read_all(ops, path, &file);
        }
        k->is_damaged[i] = rv == ERR_NOTFOUND || (rv == 0 && !is_whole(buf_slice(&file), k));
        buf_close(&file);
        if (rv != 0 && rv != ERR_NOTFOUND) {
            return rv;
        }
    }
    return 0;
}
