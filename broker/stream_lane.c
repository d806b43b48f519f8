#include "broker/stream_lane.h"

#include <assert.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "storage/base/err.h"

#define ERR_CODE_MAX 65535u

void lane_close(struct lane *lane)
{
    for (size_t i = lane->head; i < lane->count; i++) {
        free(lane->runs[i].text);
    }
    free(lane->runs);
}

void lanes_close(struct lanes *l)
{
    for (size_t i = 0; i < l->count; i++) {
        lane_close(&l->lanes[i]);
    }
    free(l->lanes);
    buf_close(&l->dropped);
    memset(l, 0, sizeof *l);
}

static int lane_cmp(const struct lane *lane, uint64_t node, uint64_t origin)
{
    if (lane->node != node) {
        return lane->node < node ? -1 : 1;
    }
    return (lane->origin > origin) - (lane->origin < origin);
}

static size_t find_pos(const struct lanes *l, uint64_t node, uint64_t origin)
{
    size_t low = 0;
    size_t high = l->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (lane_cmp(&l->lanes[mid], node, origin) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct lane *lanes_find(struct lanes *l, uint64_t node, uint64_t origin)
{
    size_t pos = find_pos(l, node, origin);
    return pos < l->count && lane_cmp(&l->lanes[pos], node, origin) == 0 ? &l->lanes[pos] : NULL;
}

static void drop(struct lanes *l, size_t pos)
{
    buf_append_u64(&l->dropped, l->lanes[pos].node);
    buf_append_u64(&l->dropped, l->lanes[pos].origin);
    lane_close(&l->lanes[pos]);
    memmove(&l->lanes[pos], &l->lanes[pos + 1], (l->count - pos - 1) * sizeof *l->lanes);
    l->count--;
}

static void drop_soonest(struct lanes *l)
{
    size_t soonest = 0;
    for (size_t i = 1; i < l->count; i++) {
        if (l->lanes[i].forget_ns < l->lanes[soonest].forget_ns) {
            soonest = i;
        }
    }
    drop(l, soonest);
}

struct lane *lanes_add(struct lanes *l, uint64_t node, uint64_t origin, int64_t forget_ns)
{
    struct lane *lane = lanes_find(l, node, origin);
    if (lane != NULL) {
        return lane;
    }
    if (l->count == LANES_MAX) {
        drop_soonest(l);
    }
    bool is_old = false;
    for (size_t i = 0; i < l->count; i++) {
        lane = &l->lanes[i];
        if (lane->node == node && lane->origin < origin && lane->forget_ns == INT64_MAX) {
            lane->forget_ns = forget_ns;
            lane->is_dirty = true;
        }
        is_old = is_old || (lane->node == node && lane->origin > origin);
    }
    if (l->count == l->cap) {
        l->cap = l->cap == 0 ? 4 : l->cap * 2;
        l->lanes = xrealloc(l->lanes, l->cap * sizeof *l->lanes);
    }
    size_t pos = find_pos(l, node, origin);
    memmove(&l->lanes[pos + 1], &l->lanes[pos], (l->count - pos) * sizeof *l->lanes);
    l->lanes[pos] = (struct lane){.node = node,
                                  .origin = origin,
                                  .forget_ns = is_old ? forget_ns : INT64_MAX,
                                  .is_dirty = true};
    l->count++;
    return &l->lanes[pos];
}

void lanes_forget(struct lanes *l, int64_t now_ns)
{
    for (size_t i = l->count; i-- > 0;) {
        if (l->lanes[i].forget_ns <= now_ns) {
            drop(l, i);
        }
    }
}

bool lane_find(const struct lane *lane, uint64_t n, struct lane_answer *ret_answer)
{
    size_t low = lane->head;
    size_t high = lane->count;
    while (low < high) { /* The last run that begins at or before n. */
        size_t mid = (low + high) / 2;
        if (lane->runs[mid].n <= n) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    if (low == lane->head) {
        return false;
    }
    const struct lane_run *run = &lane->runs[low - 1];
    if (n - run->n >= run->count) {
        return false;
    }
    bool is_counting = run->err_code == 0 && !run->is_duplicate;
    *ret_answer = (struct lane_answer){run->seq + (is_counting ? n - run->n : 0), run->err_code,
                                       run->is_duplicate, slice_of(run->text, run->text_len)};
    return true;
}

static bool joins(const struct lane_run *run, const struct lane_answer *a)
{
    if (run->err_code != a->err_code || run->is_duplicate || a->is_duplicate) {
        return false;
    }
    return a->err_code == 0 ? run->seq + run->count == a->seq
                            : slice_eq(slice_of(run->text, run->text_len), a->text);
}

static void make_room(struct lane *lane)
{
    if (lane->head * 2 > lane->count) {
        memmove(lane->runs, lane->runs + lane->head,
                (lane->count - lane->head) * sizeof *lane->runs);
        lane->count -= lane->head;
        lane->head = 0;
        return;
    }
    lane->cap = lane->cap == 0 ? 4 : lane->cap * 2;
    lane->runs = xrealloc(lane->runs, lane->cap * sizeof *lane->runs);
}

void lane_add(struct lane *lane, const struct lane_answer *a, uint64_t answers_max)
{
    lane->last_n++;
    lane->is_dirty = true;
    if (lane->count > lane->head && joins(&lane->runs[lane->count - 1], a)) {
        lane->runs[lane->count - 1].count++;
    } else {
        if (lane->count == lane->cap) {
            make_room(lane);
        }
        lane->runs[lane->count++] = (struct lane_run){lane->last_n,
                                                      1,
                                                      a->seq,
                                                      a->err_code,
                                                      a->is_duplicate,
                                                      a->text.len > 0 ? xslicedup(a->text) : NULL,
                                                      (uint32_t)a->text.len};
    }
    struct lane_run *first = &lane->runs[lane->head];
    if (lane->last_n - (first->n + first->count - 1) >= answers_max) {
        free(first->text);
        lane->head++;
    }
}

void lane_save(const struct lane *lane, struct buf *out)
{
    buf_append_u64(out, lane->last_n);
    buf_append_u64(out, (uint64_t)lane->forget_ns);
    buf_append_varint(out, lane->count - lane->head);
    for (size_t i = lane->head; i < lane->count; i++) {
        const struct lane_run *run = &lane->runs[i];
        buf_append_varint(out, run->n);
        buf_append_varint(out, run->count);
        buf_append_varint(out, run->seq);
        buf_append_varint(out, (uint64_t)run->err_code);
        buf_append_u8(out, run->is_duplicate);
        buf_append_varint(out, run->text_len);
        buf_append(out, run->text, run->text_len);
    }
}

int lane_load(struct lane *lane, struct slice value)
{
    struct reader r = reader_of(value);
    lane->last_n = reader_u64(&r);
    lane->forget_ns = (int64_t)reader_u64(&r);
    uint64_t count = reader_varint(&r);
    uint64_t next = 0;
    for (uint64_t i = 0; i < count && !r.failed; i++) {
        if (lane->count == lane->cap) {
            make_room(lane);
        }
        struct lane_run *run = &lane->runs[lane->count];
        memset(run, 0, sizeof *run);
        run->n = reader_varint(&r);
        run->count = reader_varint(&r);
        run->seq = reader_varint(&r);
        uint64_t err_code = reader_varint(&r);
        run->err_code = (int)err_code;
        run->is_duplicate = reader_u8(&r) != 0;
        struct slice text = reader_bytes(&r, reader_varint(&r));
        /* Each goes on where the one before ended. */
        if (r.failed || run->count == 0 || run->n == 0 || err_code > ERR_CODE_MAX ||
            run->count > UINT64_MAX - run->n || run->count > UINT64_MAX - run->seq ||
            (next != 0 && run->n != next)) {
            r.failed = true;
            break;
        }
        next = run->n + run->count;
        run->text = text.len > 0 ? xslicedup(text) : NULL;
        run->text_len = (uint32_t)text.len;
        lane->count++;
    }
    bool is_sound = next == 0 || next - 1 == lane->last_n;
    return r.failed || r.len != 0 || !is_sound ? ERR_INVALID : 0;
}

uint64_t lane_hash(const struct lane *lane)
{
    struct buf b = BUF_EMPTY;
    lane_save(lane, &b);
    uint64_t hash = XXH3_64bits(b.ptr, b.len) + lane->node * 3 + lane->origin * 7;
    buf_close(&b);
    return hash;
}
