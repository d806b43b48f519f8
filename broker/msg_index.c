#include "broker/msg_index.h"

#include <assert.h>
#include <stdlib.h>

#include "storage/base/buf.h"

/* Distance to a neighbour of the same subject; what does not fit is searched for. */
#define LINK_NONE 0u
#define LINK_FAR UINT32_MAX
#define GARBAGE_MIN 64u /* Segments; fewer are freed at once. */

struct msg_meta {
    uint32_t time_low, time_high; /* Not one of 64 bits: 4 bytes of padding for each message. */
    uint32_t size;
    uint32_t next;
    uint32_t prev;
};

struct msg_segment {
    uint32_t used; /* Slots, deleted ones included. */
    uint32_t cap;
    uint32_t live;
    uint16_t *offs; /* Ascending: sequence within the segment. */
    uint32_t *ids;  /* Of subjects; SUBJECT_NONE: deleted. Apart, since scans read nothing else. */
    struct msg_meta *metas;
};

struct msg_garbage {
    struct msg_garbage *next;
    struct msg_dir_slot *dir;
    uint32_t *tree;
    size_t head;
    size_t dir_count;
    struct subject_table subjects;
};

struct place {
    size_t pos;
    uint32_t slot;
    struct msg_segment *segment;
};

static uint64_t mix(uint64_t v)
{
    v ^= v >> 32;
    v *= 0xd6e8feb86659fd93ull;
    v ^= v >> 32;
    v *= 0xd6e8feb86659fd93ull;
    v ^= v >> 32;
    return v;
}

static int64_t meta_time(const struct msg_meta *m)
{
    return (int64_t)((uint64_t)m->time_high << 32 | m->time_low);
}

static bool is_live(const struct msg_segment *g, uint32_t slot)
{
    return g->ids[slot] != SUBJECT_NONE;
}

static uint64_t msg_hash(uint64_t seq, int64_t time_ns, uint64_t subject, uint32_t size)
{
    return mix(mix(mix(seq ^ 0x9e3779b97f4a7c15ull) + (uint64_t)time_ns) ^ (subject + size));
}

void msg_index_init(struct msg_index *x)
{
    memset(x, 0, sizeof *x);
    subject_table_init(&x->subjects);
}

static void segment_free(struct msg_segment *g)
{
    if (g != NULL) {
        free(g->offs);
        free(g->ids);
        free(g->metas);
        free(g);
    }
}

void msg_garbage_free(struct msg_garbage *garbage)
{
    while (garbage != NULL) {
        struct msg_garbage *next = garbage->next;
        for (size_t i = garbage->head; i < garbage->dir_count; i++) {
            segment_free(garbage->dir[i].segment);
        }
        free(garbage->dir);
        free(garbage->tree);
        subject_table_close(&garbage->subjects);
        free(garbage);
        garbage = next;
    }
}

struct msg_garbage *msg_index_take_garbage(struct msg_index *x)
{
    struct msg_garbage *garbage = x->garbage;
    x->garbage = NULL;
    return garbage;
}

/* Freeing millions of messages takes long: it is left to whoever has the time. */
void msg_index_clear(struct msg_index *x)
{
    struct msg_garbage *garbage = xmalloc(sizeof *garbage);
    *garbage = (struct msg_garbage){.next = x->garbage,
                                    .dir = x->dir,
                                    .tree = x->tree,
                                    .head = x->head,
                                    .dir_count = x->dir_count,
                                    .subjects = x->subjects};
    msg_index_init(x);
    /* What filters remember of the old ids must not fit new ones. */
    x->subjects.births = garbage->subjects.births;
    x->subjects.epoch = garbage->subjects.epoch;
    x->garbage = garbage;
    if (garbage->dir_count - garbage->head < GARBAGE_MIN) {
        msg_garbage_free(msg_index_take_garbage(x));
    }
}

void msg_index_close(struct msg_index *x)
{
    msg_index_clear(x);
    msg_garbage_free(msg_index_take_garbage(x));
}

/* ---- The directory and its tree ---- */

static void tree_add(struct msg_index *x, size_t pos, uint32_t delta)
{
    for (size_t i = pos + 1; i <= x->dir_cap; i += i & -i) {
        x->tree[i] += delta; /* Modulo 2^32: -1 is UINT32_MAX. */
    }
}

/* Live messages in dir[0 .. pos). */
static uint64_t tree_sum(const struct msg_index *x, size_t pos)
{
    uint64_t sum = 0;
    for (size_t i = pos; i > 0; i -= i & -i) {
        sum += x->tree[i];
    }
    return sum;
}

/* Squeeze out empty segments, or grow when there are few. */
static void dir_make_room(struct msg_index *x)
{
    size_t kept = x->dir_count - x->head - x->dir_empty;
    if (kept * 2 > x->dir_cap || x->dir_cap == 0) {
        x->dir_cap = x->dir_cap == 0 ? 4 : x->dir_cap * 2;
        x->dir = xrealloc(x->dir, x->dir_cap * sizeof *x->dir);
        x->tree = xrealloc(x->tree, (x->dir_cap + 1) * sizeof *x->tree);
    }
    size_t to = 0;
    for (size_t i = x->head; i < x->dir_count; i++) {
        if (x->dir[i].segment != NULL) {
            x->dir[to++] = x->dir[i];
        }
    }
    x->head = 0;
    x->dir_empty = 0;
    x->dir_count = to;
    memset(x->tree, 0, (x->dir_cap + 1) * sizeof *x->tree);
    for (size_t i = 0; i < to; i++) {
        tree_add(x, i, x->dir[i].segment->live);
    }
}

/* The first position whose segment number is at or above @number; dir_count if none. */
static size_t dir_find(const struct msg_index *x, uint64_t number)
{
    size_t low = x->head;
    size_t high = x->dir_count;
    if (high > low && x->dir[high - 1].number <= number) { /* Mostly the end is meant. */
        return x->dir[high - 1].number == number ? high - 1 : high;
    }
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (x->dir[mid].number < number) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* The first slot whose offset is at or above @off; used if none. */
static uint32_t slot_find(const struct msg_segment *g, uint32_t off)
{
    if (off < g->used && g->offs[off] == off) { /* Whole from its beginning. */
        return off;
    }
    uint32_t low = 0;
    uint32_t high = g->used;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (g->offs[mid] < off) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static bool find(const struct msg_index *x, uint64_t seq, struct place *ret)
{
    size_t pos = dir_find(x, seq / MSG_SEGMENT_SEQS);
    if (pos >= x->dir_count || x->dir[pos].number != seq / MSG_SEGMENT_SEQS ||
        x->dir[pos].segment == NULL) {
        return false;
    }
    struct msg_segment *g = x->dir[pos].segment;
    uint32_t off = (uint32_t)(seq % MSG_SEGMENT_SEQS);
    uint32_t slot = slot_find(g, off);
    if (slot >= g->used || g->offs[slot] != off || !is_live(g, slot)) {
        return false;
    }
    *ret = (struct place){pos, slot, g};
    return true;
}

static struct msg_meta *meta_of(const struct msg_index *x, uint64_t seq)
{
    struct place p;
    bool is_live = find(x, seq, &p);
    assert(is_live);
    return &p.segment->metas[p.slot];
}

/* ---- Adding and removing ---- */

static void segment_fit(struct msg_segment *g)
{
    g->offs = xrealloc(g->offs, g->cap * sizeof *g->offs);
    g->ids = xrealloc(g->ids, g->cap * sizeof *g->ids);
    g->metas = xrealloc(g->metas, g->cap * sizeof *g->metas);
}

static void segment_grow(struct msg_segment *g)
{
    g->cap = g->cap == 0 ? 8 : g->cap * 2;
    segment_fit(g);
}

static uint32_t link_of(uint64_t distance)
{
    return distance >= LINK_FAR ? LINK_FAR : (uint32_t)distance;
}

void msg_index_add(struct msg_index *x, uint64_t seq, int64_t time_ns, uint32_t subject_id,
                   uint32_t size)
{
    assert(size > 0);
    uint64_t number = seq / MSG_SEGMENT_SEQS;
    if (x->dir_count == x->head || x->dir[x->dir_count - 1].number != number) {
        assert(x->dir_count == x->head || x->dir[x->dir_count - 1].number < number);
        if (x->dir_count == x->dir_cap) {
            dir_make_room(x);
        }
        x->dir[x->dir_count++] =
            (struct msg_dir_slot){number, xcalloc(1, sizeof(struct msg_segment))};
    }
    size_t pos = x->dir_count - 1;
    struct msg_segment *g = x->dir[pos].segment;
    uint32_t off = (uint32_t)(seq % MSG_SEGMENT_SEQS);
    assert(g->used == 0 || g->offs[g->used - 1] < off);
    if (g->used == g->cap) {
        segment_grow(g);
    }
    struct subject_entry *subject = &x->subjects.entries[subject_id];
    uint32_t prev = LINK_NONE;
    if (subject->count > 0) {
        prev = link_of(seq - subject->last_seq);
        meta_of(x, subject->last_seq)->next = prev;
    } else {
        subject->first_seq = seq;
    }
    subject->last_seq = seq;
    subject->count++;
    g->offs[g->used] = (uint16_t)off;
    g->ids[g->used] = subject_id;
    g->metas[g->used] = (struct msg_meta){(uint32_t)time_ns, (uint32_t)((uint64_t)time_ns >> 32),
                                          size, LINK_NONE, prev};
    g->used++;
    g->live++;
    tree_add(x, pos, 1);
    x->count++;
    x->bytes += size;
    x->hash += msg_hash(seq, time_ns, subject->hash, size);
}

/* A neighbour too far for its link. */
static uint64_t search_same(const struct msg_index *x, uint64_t seq, uint32_t id, bool is_up)
{
    for (;;) {
        seq = is_up ? msg_index_at_or_above(x, seq + 1) : msg_index_at_or_below(x, seq - 1);
        assert(seq != 0);
        struct place p;
        bool is_found = find(x, seq, &p);
        assert(is_found);
        if (p.segment->ids[p.slot] == id) {
            return seq;
        }
    }
}

static uint64_t next_of(const struct msg_index *x, uint64_t seq, const struct place *p)
{
    uint32_t next = p->segment->metas[p->slot].next;
    if (next == LINK_NONE) {
        return 0;
    }
    return next != LINK_FAR ? seq + next : search_same(x, seq, p->segment->ids[p->slot], true);
}

static uint64_t prev_of(const struct msg_index *x, uint64_t seq, const struct place *p)
{
    uint32_t prev = p->segment->metas[p->slot].prev;
    if (prev == LINK_NONE) {
        return 0;
    }
    return prev != LINK_FAR ? seq - prev : search_same(x, seq, p->segment->ids[p->slot], false);
}

/* Take @seq out of the chain of its subject. */
static void unlink_same(struct msg_index *x, uint64_t seq, const struct place *p)
{
    struct subject_entry *subject = &x->subjects.entries[p->segment->ids[p->slot]];
    uint64_t next = next_of(x, seq, p);
    uint64_t prev = prev_of(x, seq, p);
    uint32_t link = next != 0 && prev != 0 ? link_of(next - prev) : LINK_NONE;
    if (next != 0) {
        meta_of(x, next)->prev = link;
    } else {
        subject->last_seq = prev;
    }
    if (prev != 0) {
        meta_of(x, prev)->next = link;
    } else {
        subject->first_seq = next;
    }
    subject->count--;
}

/* Drop deleted slots once they are the majority: each is moved over at most once per halving. */
static void segment_squeeze(struct msg_segment *g)
{
    uint32_t to = 0;
    for (uint32_t i = 0; i < g->used; i++) {
        if (is_live(g, i)) {
            g->offs[to] = g->offs[i];
            g->ids[to] = g->ids[i];
            g->metas[to++] = g->metas[i];
        }
    }
    g->used = to;
    g->cap = to + 2;
    segment_fit(g);
}

static void segment_shrink(struct msg_index *x, size_t pos)
{
    struct msg_segment *g = x->dir[pos].segment;
    if (g->live == 0) {
        segment_free(g);
        x->dir[pos].segment = NULL;
        x->dir_empty++;
        while (x->head < x->dir_count && x->dir[x->head].segment == NULL) {
            x->head++;
            x->dir_empty--;
        }
        if (x->head == x->dir_count) {
            x->head = x->dir_count = 0;
            memset(x->tree, 0, (x->dir_cap + 1) * sizeof *x->tree);
        }
        /* The last segment may be filled again: its number must not stand there twice. */
        while (x->dir_count > x->head && x->dir[x->dir_count - 1].segment == NULL) {
            x->dir_count--;
            x->dir_empty--;
        }
    } else if (g->used >= 16 && g->live * 2 < g->used) {
        /* Not the oldest segment while it is eaten from its front: it is about to go whole. */
        if (pos != x->head || g->live * 8 < g->used) {
            segment_squeeze(g);
        }
    }
}

bool msg_index_remove(struct msg_index *x, uint64_t seq)
{
    struct place p;
    if (!find(x, seq, &p)) {
        return false;
    }
    const struct msg_meta *m = &p.segment->metas[p.slot];
    uint32_t *id = &p.segment->ids[p.slot];
    struct subject_entry *subject = &x->subjects.entries[*id];
    x->hash -= msg_hash(seq, meta_time(m), subject->hash, m->size);
    x->bytes -= m->size;
    x->count--;
    unlink_same(x, seq, &p);
    if (subject->count == 0) {
        subject_table_remove(&x->subjects, *id);
    }
    *id = SUBJECT_NONE;
    p.segment->live--;
    tree_add(x, p.pos, UINT32_MAX);
    segment_shrink(x, p.pos);
    return true;
}

/* ---- Asking ---- */

bool msg_index_get(const struct msg_index *x, uint64_t seq, struct msg_info *ret_info)
{
    struct place p;
    if (!find(x, seq, &p)) {
        return false;
    }
    const struct msg_meta *m = &p.segment->metas[p.slot];
    uint32_t id = p.segment->ids[p.slot];
    *ret_info = (struct msg_info){seq, meta_time(m), subject_text(&x->subjects, id), id, m->size};
    return true;
}

uint64_t msg_index_at_or_above(const struct msg_index *x, uint64_t seq)
{
    struct msg_cursor c;
    msg_cursor_init(&c, x, seq);
    uint32_t id;
    uint64_t found;
    return msg_cursor_next(&c, &found, &id) ? found : 0;
}

uint64_t msg_index_at_or_below(const struct msg_index *x, uint64_t seq)
{
    uint64_t number = seq / MSG_SEGMENT_SEQS;
    for (size_t pos = dir_find(x, number) + 1; pos-- > x->head;) {
        if (pos == x->dir_count || x->dir[pos].number > number || x->dir[pos].segment == NULL) {
            continue;
        }
        const struct msg_segment *g = x->dir[pos].segment;
        uint32_t end = x->dir[pos].number < number
                           ? g->used
                           : slot_find(g, (uint32_t)(seq % MSG_SEGMENT_SEQS) + 1);
        for (uint32_t slot = end; slot-- > 0;) {
            if (is_live(g, slot)) {
                return x->dir[pos].number * MSG_SEGMENT_SEQS + g->offs[slot];
            }
        }
    }
    return 0;
}

uint64_t msg_index_count_from(const struct msg_index *x, uint64_t seq)
{
    if (x->count == 0) {
        return 0;
    }
    uint64_t number = seq / MSG_SEGMENT_SEQS;
    size_t pos = dir_find(x, number);
    uint64_t below = tree_sum(x, pos);
    if (pos < x->dir_count && x->dir[pos].number == number && x->dir[pos].segment != NULL) {
        const struct msg_segment *g = x->dir[pos].segment;
        uint32_t end = slot_find(g, (uint32_t)(seq % MSG_SEGMENT_SEQS));
        if (g->live == g->used) {
            below += end;
        } else {
            for (uint32_t slot = 0; slot < end; slot++) {
                below += is_live(g, slot);
            }
        }
    }
    return x->count - below;
}

uint64_t msg_index_select(const struct msg_index *x, uint64_t rank)
{
    if (rank >= x->count) {
        return 0;
    }
    /* dir_cap is a power of two: walk down the tree. */
    size_t pos = 0;
    for (size_t step = x->dir_cap; step > 0; step /= 2) {
        if (pos + step <= x->dir_cap && x->tree[pos + step] <= rank) {
            pos += step;
            rank -= x->tree[pos];
        }
    }
    const struct msg_segment *g = x->dir[pos].segment;
    for (uint32_t slot = 0; slot < g->used; slot++) {
        if (is_live(g, slot) && rank-- == 0) {
            return x->dir[pos].number * MSG_SEGMENT_SEQS + g->offs[slot];
        }
    }
    assert(!"the tree and the segments disagree");
    return 0;
}

uint64_t msg_index_at_time(const struct msg_index *x, int64_t time_ns)
{
    uint64_t low = 0; /* Log time never goes back, so times ascend with sequences. */
    uint64_t high = x->count;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (meta_time(meta_of(x, msg_index_select(x, mid))) < time_ns) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return msg_index_select(x, low);
}

uint64_t msg_index_next_same(const struct msg_index *x, uint64_t seq)
{
    struct place p;
    bool is_found = find(x, seq, &p);
    assert(is_found);
    return next_of(x, seq, &p);
}

uint64_t msg_index_prev_same(const struct msg_index *x, uint64_t seq)
{
    struct place p;
    bool is_found = find(x, seq, &p);
    assert(is_found);
    return prev_of(x, seq, &p);
}

void msg_cursor_init(struct msg_cursor *c, const struct msg_index *x, uint64_t seq)
{
    *c = (struct msg_cursor){x, dir_find(x, seq / MSG_SEGMENT_SEQS), 0};
    if (c->dir_pos < x->dir_count && x->dir[c->dir_pos].number == seq / MSG_SEGMENT_SEQS &&
        x->dir[c->dir_pos].segment != NULL) {
        c->slot = slot_find(x->dir[c->dir_pos].segment, (uint32_t)(seq % MSG_SEGMENT_SEQS));
    }
}

bool msg_cursor_next(struct msg_cursor *c, uint64_t *ret_seq, uint32_t *ret_subject_id)
{
    const struct msg_index *x = c->x;
    for (; c->dir_pos < x->dir_count; c->dir_pos++, c->slot = 0) {
        const struct msg_segment *g = x->dir[c->dir_pos].segment;
        if (g == NULL) {
            continue;
        }
        for (; c->slot < g->used; c->slot++) {
            if (is_live(g, c->slot)) {
                *ret_seq = x->dir[c->dir_pos].number * MSG_SEGMENT_SEQS + g->offs[c->slot];
                *ret_subject_id = g->ids[c->slot];
                c->slot++;
                return true;
            }
        }
    }
    return false;
}

uint32_t msg_cursor_next_ids(struct msg_cursor *c, uint64_t to, const uint32_t **ret_ids)
{
    const struct msg_index *x = c->x;
    for (; c->dir_pos < x->dir_count; c->dir_pos++, c->slot = 0) {
        const struct msg_dir_slot *d = &x->dir[c->dir_pos];
        if (d->number > to / MSG_SEGMENT_SEQS) {
            return 0;
        }
        if (d->segment == NULL) {
            continue;
        }
        uint32_t end = d->number < to / MSG_SEGMENT_SEQS
                           ? d->segment->used
                           : slot_find(d->segment, (uint32_t)(to % MSG_SEGMENT_SEQS));
        if (c->slot < end) {
            *ret_ids = d->segment->ids + c->slot;
            uint32_t count = end - c->slot;
            c->slot = end;
            return count;
        }
    }
    return 0;
}

static void check_subject(const struct msg_index *x, uint32_t id)
{
    const struct subject_entry *s = &x->subjects.entries[id];
    assert(s->count > 0);
    assert(subject_table_find(&x->subjects, subject_text(&x->subjects, id), s->hash) == id);
    uint64_t count = 0;
    uint64_t before = 0;
    for (uint64_t seq = s->first_seq; seq != 0; seq = msg_index_next_same(x, seq)) {
        assert(msg_index_prev_same(x, seq) == before);
        before = seq;
        count++;
    }
    assert(before == s->last_seq);
    assert(count == s->count);
}

void msg_index_check(const struct msg_index *x)
{
    uint64_t count = 0;
    uint64_t bytes = 0;
    uint64_t hash = 0;
    uint64_t before = 0;
    struct msg_cursor c;
    msg_cursor_init(&c, x, 0);
    uint64_t seq;
    uint32_t id;
    while (msg_cursor_next(&c, &seq, &id)) {
        assert(seq > before || count == 0);
        before = seq;
        const struct msg_meta *m = meta_of(x, seq);
        assert(id < x->subjects.entries_count);
        hash += msg_hash(seq, meta_time(m), x->subjects.entries[id].hash, m->size);
        bytes += m->size;
        count++;
    }
    assert(count == x->count);
    assert(bytes == x->bytes);
    assert(hash == x->hash);
    assert(tree_sum(x, x->dir_count) == count);
    uint32_t live = 0;
    for (uint32_t i = 0; i < x->subjects.entries_count; i++) {
        if (x->subjects.entries[i].text != NULL) {
            live++;
            check_subject(x, i);
        }
    }
    assert(live == x->subjects.live_count);
}
