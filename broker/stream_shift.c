#include "broker/stream_shift.h"

#include "storage/base/err.h"

#define NEAR_NS 1000000000

/* Those whose messages are gone, and one more if there is no room. */
static void make_room(struct shifts *s, uint64_t first_live)
{
    size_t gone = 0;
    while (gone < s->count && !s->items[gone].is_unsure && s->items[gone].last_seq < first_live) {
        gone++;
    }
    gone += gone == 0 && s->count == SHIFTS_MAX;
    s->count -= gone;
    memmove(s->items, s->items + gone, s->count * sizeof s->items[0]);
}

/* The last stretch and the one before it, if it is only another leader's. */
static void join(struct shifts *s)
{
    const struct shift *last = &s->items[s->count - 1];
    const struct shift *before = s->count >= 2 ? last - 1 : NULL;
    if (before != NULL && before->is_unsure && before->ns != 0 && last->ns != 0 &&
        last->ns - before->ns <= NEAR_NS && before->ns - last->ns <= NEAR_NS) {
        s->count--;
    }
}

bool shifts_is_unsure(const struct shifts *s, int64_t *ret_lag_ns)
{
    const struct shift *last = s->count == 0 ? NULL : &s->items[s->count - 1];
    *ret_lag_ns = last == NULL ? 0 : last->ns;
    return last != NULL && last->is_unsure;
}

void shifts_unsure(struct shifts *s, uint64_t next_seq, uint64_t first_live, int64_t lag_ns)
{
    int64_t told_ns;
    bool is_unsure = shifts_is_unsure(s, &told_ns);
    s->is_dirty = true;
    s->open_until_ns = 0;
    if (is_unsure &&
        ((told_ns == 0 && lag_ns != 0) || s->items[s->count - 1].first_seq == next_seq)) {
        s->items[s->count - 1].ns = lag_ns;
        join(s);
        return;
    }
    if (is_unsure) {
        s->items[s->count - 1].last_seq = next_seq - 1;
    }
    make_room(s, first_live);
    s->items[s->count++] = (struct shift){next_seq, next_seq - 1, lag_ns, true};
}

size_t shifts_sure(struct shifts *s, uint64_t next_seq, int64_t time_ns, int64_t shift_ns)
{
    size_t count = 0;
    while (count < s->count && s->items[s->count - 1 - count].is_unsure) {
        struct shift *i = &s->items[s->count - 1 - count];
        bool is_last = count == 0;
        i->last_seq = is_last ? next_seq - 1 : i->last_seq;
        /* That of an earlier stretch is not more than that of all together. */
        i->ns = is_last || i->ns == 0 || i->ns > shift_ns ? shift_ns : i->ns;
        i->is_unsure = false;
        count++;
    }
    s->is_dirty = s->is_dirty || count > 0;
    if (shift_ns == 0) {
        s->count -= count;
        return 0;
    }
    if (count > 0) {
        s->open_until_ns = time_ns > INT64_MAX - shift_ns / 2 ? INT64_MAX : time_ns + shift_ns / 2;
    }
    return count;
}

void shifts_time(struct shifts *s, int64_t time_ns)
{
    if (s->open_until_ns != 0 && time_ns >= s->open_until_ns) {
        s->open_until_ns = 0;
        s->is_dirty = true;
    }
}

int64_t shifts_stored(struct shifts *s, uint64_t seq)
{
    if (s->open_until_ns == 0) {
        return 0;
    }
    s->items[s->count - 1].last_seq = seq;
    s->is_dirty = true;
    return s->items[s->count - 1].ns;
}

int64_t shifts_now(const struct shifts *s)
{
    return s->open_until_ns == 0 ? 0 : s->items[s->count - 1].ns;
}

int64_t shifts_of(const struct shifts *s, uint64_t seq)
{
    for (size_t i = s->count; i-- > 0;) {
        if (seq >= s->items[i].first_seq) {
            bool is_in = !s->items[i].is_unsure && seq <= s->items[i].last_seq;
            return is_in ? s->items[i].ns : 0;
        }
    }
    return 0;
}

void shifts_save(const struct shifts *s, struct buf *out)
{
    buf_append_u64(out, (uint64_t)s->open_until_ns);
    buf_append_u32(out, (uint32_t)s->count);
    for (size_t i = 0; i < s->count; i++) {
        buf_append_u64(out, s->items[i].first_seq);
        buf_append_u64(out, s->items[i].last_seq);
        buf_append_u64(out, (uint64_t)s->items[i].ns);
        buf_append_u8(out, s->items[i].is_unsure);
    }
}

int shifts_load(struct shifts *s, struct slice value)
{
    struct reader r = reader_of(value);
    struct shifts loaded = {.open_until_ns = (int64_t)reader_u64(&r)};
    uint32_t count = reader_u32(&r);
    if (r.failed || count > SHIFTS_MAX || loaded.open_until_ns < 0) {
        return ERR_INVALID;
    }
    uint64_t next_seq = 1;
    bool was_unsure = false;
    for (; loaded.count < count; loaded.count++) {
        struct shift *i = &loaded.items[loaded.count];
        i->first_seq = reader_u64(&r);
        i->last_seq = reader_u64(&r);
        i->ns = (int64_t)reader_u64(&r);
        i->is_unsure = reader_u8(&r) != 0;
        if (r.failed || i->first_seq < next_seq || i->last_seq < i->first_seq - 1 ||
            i->last_seq == UINT64_MAX || i->ns < (i->is_unsure ? 0 : 1) ||
            (was_unsure && !i->is_unsure)) {
            return ERR_INVALID;
        }
        next_seq = i->last_seq + 1;
        was_unsure = i->is_unsure;
    }
    if (r.len != 0 || (loaded.open_until_ns != 0 && (count == 0 || was_unsure))) {
        return ERR_INVALID;
    }
    *s = loaded;
    return 0;
}
