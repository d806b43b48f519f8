/* Catch-up that goes on where it was cut short (design 5).
 *
 * Blocks never change, so what was fetched of an image is good for the next one from the same
 * replica, however the fetch ended: the connection was lost, the leader died, this process did. The
 * files of a stage that was dropped stay, named after their group. The next stage of the group
 * looks through them once it knows which blocks it is to get, and takes those whose checksum is
 * right; files of which it takes less than half are deleted, the others become its own.
 *
 *   stage --drop, or the process ends--> left files --next stage of the gid--> looked through
 *                                            |                                     |     |
 *                                 store_left_forget()                        useless     its own
 *                                            v                                     v
 *                                          gone                                  gone
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/stage_internal.h"

#define LEFT_BLOCK_BYTES_MAX (64u << 20) /* Read into memory: of no block of ours. */

static void left_unlink(struct store *st, uint64_t gid, uint64_t number)
{
    char path[STORE_PATH_BYTES];
    store_stage_path(st, gid, number, path);
    /* What cannot be deleted now is found at the next opening. */
    st->ops->unlink(st->ops->ctx, path);
}

static void left_put(struct store *st, uint64_t gid, uint64_t number)
{
    struct left_file *l = xcalloc(1, sizeof *l);
    *l = (struct left_file){.next = st->left, .gid = gid, .number = number};
    st->left = l;
}

bool store_left_found(struct store *st, const char *name)
{
    uint64_t number, gid;
    int end = 0;
    if (sscanf(name, "data-%16" SCNx64 ".%16" SCNx64 ".stage%n", &number, &gid, &end) != 2 ||
        end != STAGE_NAME_BYTES || name[end] != '\0' || gid == 0 || number == UINT64_MAX) {
        return false;
    }
    if (number >= st->next_file) {
        st->next_file = number + 1;
    }
    left_put(st, gid, number);
    return true;
}

uint64_t store_left_gid(const struct store *st)
{
    return st->left == NULL ? 0 : st->left->gid;
}

static struct left_file *left_take(struct store *st, uint64_t gid)
{
    for (struct left_file **at = &st->left; *at != NULL; at = &(*at)->next) {
        struct left_file *l = *at;
        if (l->gid == gid) {
            *at = l->next;
            return l;
        }
    }
    return NULL;
}

void store_left_forget(struct store *st, uint64_t gid)
{
    struct left_file *l;
    while ((l = left_take(st, gid)) != NULL) {
        left_unlink(st, gid, l->number);
        free(l);
    }
}

void store_left_close(struct store *st)
{
    while (st->left != NULL) {
        struct left_file *l = st->left;
        st->left = l->next;
        free(l);
    }
}

/* ---- Taking over ---- */

void stage_left_open(struct store_stage *sg)
{
    struct left_file *l;
    while ((l = left_take(sg->st, sg->gid)) != NULL) {
        l->next = sg->left;
        sg->left = l;
    }
}

static int by_first_seq(const void *a, const void *b)
{
    return block_by_first_seq(&((const struct wanted_block *)a)->block,
                              &((const struct wanted_block *)b)->block);
}

/* Put the block that lies at @off of @f into @raw. Which one it can be its header says. Returns its
 * number, UINT32_MAX: none that is wanted, or not whole. */
static uint32_t look_at(struct store_stage *sg, const struct wanted_block *wanted, struct file *f,
                        uint64_t off, uint8_t *raw)
{
    const struct file_ops *ops = sg->st->ops;
    size_t n = 0;
    if (ops->pread(ops->ctx, f, raw, BLOCK_HEADER_BYTES, off, &n) != 0 || n != BLOCK_HEADER_BYTES ||
        get_u32(raw) != BLOCK_MAGIC || get_u64(raw + 16) != sg->gid ||
        get_u64(raw + 24) != sg->sid) {
        return UINT32_MAX;
    }
    struct block like = {.first_seq = get_u64(raw + 32)};
    struct wanted_block key = {&like, 0};
    const struct wanted_block *w =
        bsearch(&key, wanted, sg->blocks_count, sizeof *wanted, by_first_seq);
    if (w == NULL || w->block->bytes > LEFT_BLOCK_BYTES_MAX ||
        ops->pread(ops->ctx, f, raw, w->block->bytes, off, &n) != 0 || n != w->block->bytes ||
        crc32c(0, raw, n) != w->block->crc) {
        return UINT32_MAX;
    }
    return w->n;
}

static void look_through(struct store_stage *sg, const struct wanted_block *wanted,
                         struct left_file *l, uint8_t *raw)
{
    const struct file_ops *ops = sg->st->ops;
    char path[STORE_PATH_BYTES];
    struct file *f;
    uint64_t size = 0;
    store_stage_path(sg->st, sg->gid, l->number, path);
    if (ops->open(ops->ctx, path, FILE_READ, &f) != 0) {
        return;
    }
    if (ops->size(ops->ctx, f, &size) != 0) {
        size = 0;
    }
    for (uint64_t off = 0; off < size;) {
        uint32_t n = look_at(sg, wanted, f, off, raw);
        if (n == UINT32_MAX) {
            off = align_up(off + 1); /* Large blocks begin there. */
            continue;
        }
        struct stage_part *p = &sg->parts[n + 1];
        if (p->left == NULL) {
            p->left = l;
            p->left_off = off;
            l->used_bytes += p->want.bytes;
            l->bytes = off + p->want.bytes;
        }
        off += p->want.bytes;
    }
    ops->close(ops->ctx, f);
}

void stage_left_look(struct store_stage *sg)
{
    if (sg->left == NULL || stage_parse(sg) != 0) {
        return;
    }
    struct wanted_block *wanted = xcalloc(sg->blocks_count + 1u, sizeof *wanted);
    uint32_t bytes_max = BLOCK_HEADER_BYTES;
    for (uint32_t i = 0; i < sg->blocks_count; i++) {
        struct block *b = sg->blocks[i];
        wanted[i] = (struct wanted_block){b, i};
        if (b->bytes > bytes_max && b->bytes <= LEFT_BLOCK_BYTES_MAX) {
            bytes_max = b->bytes;
        }
    }
    qsort(wanted, sg->blocks_count, sizeof *wanted, by_first_seq);
    uint8_t *raw = xmalloc(bytes_max);
    for (struct left_file *l = sg->left; l != NULL; l = l->next) {
        look_through(sg, wanted, l, raw);
    }
    free(raw);
    free(wanted);
}

void stage_left_adopt(struct store_stage *sg)
{
    for (uint32_t i = 1; i < sg->parts_count; i++) {
        struct stage_part *p = &sg->parts[i];
        if (p->left != NULL && p->is_own) {
            p->left->used_bytes -= p->want.bytes;
            p->left = NULL;
        }
    }
    struct left_file *l;
    while ((l = sg->left) != NULL) {
        sg->left = l->next;
        bool is_useful = l->used_bytes > 0 && l->used_bytes >= l->bytes / 2;
        for (uint32_t i = 1; i < sg->parts_count; i++) {
            struct stage_part *p = &sg->parts[i];
            if (p->left == l && is_useful) {
                p->is_fetched = true;
                p->file = sg->files_count;
                p->off = p->left_off;
            }
            p->left = p->left == l ? NULL : p->left;
        }
        if (is_useful) {
            sg->files = xrealloc(sg->files, (sg->files_count + 1) * sizeof *sg->files);
            sg->files[sg->files_count++] =
                (struct stage_file){.number = l->number, .bytes = l->bytes, .is_there = true};
        } else {
            left_unlink(sg->st, sg->gid, l->number);
        }
        free(l);
    }
}

uint32_t store_stage_fetched_count(const struct store_stage *sg)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i < sg->parts_count; i++) {
        count += sg->parts[i].is_fetched;
    }
    return count;
}

void stage_left_drop(struct store_stage *sg, bool is_kept)
{
    struct store *st = sg->st;
    for (uint32_t i = 0; i < sg->files_count; i++) {
        if (sg->files[i].is_there && is_kept) {
            left_put(st, sg->gid, sg->files[i].number);
        } else if (sg->files[i].is_there) {
            left_unlink(st, sg->gid, sg->files[i].number);
        }
    }
    stage_left_close(sg, is_kept);
}

int stage_failed(struct store_stage *sg, const struct stage_file *sf, int rv, bool is_sync)
{
    if (sg->error_path[0] == '\0') {
        sg->error_errno = sg->st->ops->last_errno(sg->st->ops->ctx);
        store_stage_path(sg->st, sg->gid, sf->number, sg->error_path);
    }
    if (is_sync) {
        sg->is_bad = sg->is_spoiled = true;
        left_unlink(sg->st, sg->gid, sf->number);
    }
    return rv;
}

const char *store_stage_error(const struct store_stage *sg, int *ret_errno)
{
    *ret_errno = sg->error_errno;
    return sg->error_path;
}

void stage_left_close(struct store_stage *sg, bool is_kept)
{
    while (sg->left != NULL) {
        struct left_file *l = sg->left;
        sg->left = l->next;
        if (is_kept) {
            left_put(sg->st, sg->gid, l->number);
        } else {
            left_unlink(sg->st, sg->gid, l->number);
        }
        free(l);
    }
}
