/* What a consumer does with each change. Rules: jetstream-api.md 3.5 and 5. */
#include "broker/consumer.h"

#include <assert.h>
#include <stdlib.h>

#include "broker/api_error.h"

static int compare_seqs(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Index of the first of ascending @seqs at or above @seq. */
static size_t lower_bound(const uint64_t *seqs, size_t count, uint64_t seq)
{
    size_t low = 0;
    while (low < count) {
        size_t mid = low + (count - low) / 2;
        if (seqs[mid] < seq) {
            low = mid + 1;
        } else {
            count = mid;
        }
    }
    return low;
}

/* ---- Where it begins ---- */

static void collect_lasts(struct consumer *c, const struct msg_index *x, uint64_t last_seq)
{
    const struct subject_table *t = &x->subjects;
    c->lasts = xmalloc((t->live_count + 1) * sizeof *c->lasts);
    for (uint32_t id = 0; id < t->entries_count; id++) {
        if (t->entries[id].text != NULL && t->entries[id].count > 0 &&
            stream_filter_has_id(&c->filter, x, id)) {
            c->lasts[c->lasts_count++] = t->entries[id].last_seq;
        }
    }
    /* Ids are not the same on all replicas; sequences are. */
    qsort(c->lasts, c->lasts_count, sizeof *c->lasts, compare_seqs);
    c->lasts_upto = last_seq;
}

static void drop_lasts_if_done(struct consumer *c)
{
    if (c->lasts != NULL && c->delivered.stream_seq >= c->lasts_upto) {
        free(c->lasts);
        c->lasts = NULL;
        c->lasts_count = 0;
        c->lasts_upto = 0;
        c->has_rank = c->filter.is_all;
    }
}

static uint64_t start_seq(struct consumer *c, const struct msg_index *x, uint64_t last_seq)
{
    uint64_t first = msg_index_at_or_above(x, 1);
    uint64_t seq = 0;
    if (first == 0) {
        first = last_seq + 1;
    }
    switch (c->config.deliver_policy) {
    case DELIVER_ALL:
        return first;
    case DELIVER_LAST:
        seq = stream_filter_last(&c->filter, x);
        break;
    case DELIVER_NEW:
        break;
    case DELIVER_BY_START_SEQUENCE:
        return c->config.opt_start_seq > first ? c->config.opt_start_seq : first;
    case DELIVER_BY_START_TIME:
        seq = msg_index_at_time(x, c->config.opt_start_time_ns);
        break;
    case DELIVER_LAST_PER_SUBJECT:
        collect_lasts(c, x, last_seq);
        seq = c->lasts_count > 0 ? c->lasts[0] : 0;
        break;
    }
    return seq != 0 ? seq : last_seq + 1;
}

struct consumer *consumer_new(uint64_t id, struct consumer_config *config,
                              const struct msg_index *x, uint64_t last_seq, int64_t now_ns)
{
    struct consumer *c = xcalloc(1, sizeof *c);
    c->id = id;
    c->config = *config;
    c->name = xslicedup(slice_str(config->name));
    consumer_config_print(&c->config, &c->config_json);
    c->created_ns = now_ns;
    c->due_ns = INT64_MAX;
    stream_filter_init_strings(&c->filter, c->config.filter_subjects,
                               c->config.filter_subjects_count);
    c->delivered.stream_seq = start_seq(c, x, last_seq) - 1;
    c->floor = c->delivered;
    c->has_rank = c->filter.is_all && c->lasts == NULL;
    drop_lasts_if_done(c);
    if (!c->has_rank) {
        c->pending_count = consumer_count_above(c, x, c->delivered.stream_seq);
    }
    c->is_dirty = true;
    return c;
}

void consumer_free(struct consumer *c)
{
    if (c == NULL) {
        return;
    }
    consumer_config_close(&c->config);
    buf_close(&c->config_json);
    stream_filter_close(&c->filter);
    pending_close(&c->pending);
    free(c->queue.seqs);
    free(c->exhausted);
    free(c->lasts);
    free(c->name);
    free(c);
}

/* ---- What it may deliver ---- */

uint64_t consumer_seek(struct consumer *c, const struct msg_index *x, uint64_t after,
                       uint64_t *budget)
{
    if (after < c->lasts_upto) {
        struct msg_info info;
        for (size_t i = lower_bound(c->lasts, c->lasts_count, after + 1); i < c->lasts_count; i++) {
            if (msg_index_get(x, c->lasts[i], &info)) {
                return c->lasts[i];
            }
        }
        after = c->lasts_upto;
    }
    return stream_filter_seek(&c->filter, x, after + 1, budget);
}

uint64_t consumer_count_above(struct consumer *c, const struct msg_index *x, uint64_t after)
{
    uint64_t count = 0;
    if (after < c->lasts_upto) {
        struct msg_info info;
        for (size_t i = lower_bound(c->lasts, c->lasts_count, after + 1); i < c->lasts_count; i++) {
            count += msg_index_get(x, c->lasts[i], &info);
        }
        after = c->lasts_upto;
    }
    return count + stream_filter_count(&c->filter, x, after + 1);
}

uint64_t consumer_num_pending(struct consumer *c, const struct msg_index *x)
{
    return c->has_rank ? msg_index_count_from(x, c->delivered.stream_seq + 1) : c->pending_count;
}

struct pending_entry *consumer_pending(const struct consumer *c, uint64_t seq)
{
    return pending_find(&c->pending, seq);
}

void consumer_get_info(struct consumer *c, const struct msg_index *x,
                       struct consumer_info *ret_info)
{
    uint64_t redelivered = c->redelivered + c->exhausted_count;
    *ret_info = (struct consumer_info){
        .delivered = c->delivered,
        .floor = c->floor,
        .delivered_ns = c->delivered_ns,
        .acked_ns = c->acked_ns,
        .num_ack_pending = c->pending.live,
        .num_redelivered = c->config.max_deliver == 1 ? 0 : redelivered,
        .num_pending = consumer_num_pending(c, x),
    };
}

/* ---- Pending entries ---- */

static int64_t time_after(int64_t now_ns, int64_t ns)
{
    return ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + ns;
}

static int64_t wait_ns(const struct consumer *c, uint32_t count)
{
    if (c->config.backoff_count == 0) {
        return c->config.ack_wait_ns;
    }
    size_t k = count == 0 ? 0 : count - 1;
    return c->config.backoff_ns[k < c->config.backoff_count ? k : c->config.backoff_count - 1];
}

/* When a deadline ends, and whether that is known. */
struct deadline {
    int64_t ns;
    bool is_unsure;
};

static const struct deadline NO_DEADLINE = {0, false};

static struct deadline deadline_after(const struct stream_now *now, int64_t ns)
{
    return (struct deadline){time_after(time_after(now->ns, ns), now->shift_ns), now->is_unsure};
}

/* The one way to change an entry. */
static void set_entry(struct consumer *c, struct pending_entry *entry, uint32_t count,
                      enum pending_state state, struct deadline deadline)
{
    pending_begin(&c->pending, entry);
    c->redelivered -= entry->count > 1;
    c->redelivered += count > 1;
    c->unsure -= entry->is_unsure;
    c->unsure += deadline.is_unsure;
    entry->count = count & 0x3fffffffu;
    entry->state = state;
    entry->deadline_ns = deadline.ns;
    entry->is_unsure = deadline.is_unsure;
    pending_end(&c->pending, entry);
    if (state == PENDING_WAITING && deadline.ns < c->due_ns) {
        c->due_ns = deadline.ns;
    }
}

void consumer_time_sure(struct consumer *c, int64_t shift_ns)
{
    for (size_t i = c->pending.head; i < c->pending.tail && c->unsure > 0; i++) {
        struct pending_entry *entry = &c->pending.entries[i];
        if (entry->state == PENDING_WAITING && entry->is_unsure) {
            struct deadline d = {time_after(entry->deadline_ns, shift_ns), false};
            set_entry(c, entry, entry->count, PENDING_WAITING, d);
            c->is_dirty = true;
        }
    }
}

static void kill_entry(struct consumer *c, struct pending_entry *entry)
{
    if (entry->state == PENDING_QUEUED) {
        ring_remove(&c->queue, entry->seq);
    }
    c->redelivered -= entry->count > 1;
    c->unsure -= entry->is_unsure;
    pending_kill(&c->pending, entry);
}

/* After entries went, the lowest of them with consumer sequence @first_gone: nothing pending is
 * the delivered pair; else the floor moves only when the entry above it went. */
static void move_floor(struct consumer *c, uint64_t first_gone)
{
    pending_trim(&c->pending);
    const struct pending_entry *head = pending_head(&c->pending);
    if (head == NULL) {
        c->floor = c->delivered;
        c->due_ns = INT64_MAX;
    } else if (first_gone == c->floor.consumer_seq + 1) {
        c->floor = (struct sequence_pair){head->consumer_seq - 1, head->seq - 1};
    }
}

static void emit(struct stream_effects *e, enum advisory_type type, const struct consumer *c,
                 const struct pending_entry *entry, struct slice text)
{
    struct effect_advisory *a = effects_advisory(e);
    a->type = type;
    a->consumer = c->id;
    a->seq = entry->seq;
    a->consumer_seq = entry->consumer_seq;
    a->delivery_count = entry->count;
    a->text = text;
}

static bool exhausted_remove(struct consumer *c, uint64_t seq)
{
    size_t i = lower_bound(c->exhausted, c->exhausted_count, seq);
    if (i == c->exhausted_count || c->exhausted[i] != seq) {
        return false;
    }
    memmove(&c->exhausted[i], &c->exhausted[i + 1],
            (c->exhausted_count - i - 1) * sizeof *c->exhausted);
    c->exhausted_count--;
    return true;
}

static void exhausted_add(struct consumer *c, uint64_t seq)
{
    if (c->exhausted_count == c->exhausted_cap) {
        c->exhausted_cap = c->exhausted_cap == 0 ? 16 : c->exhausted_cap * 2;
        c->exhausted = xrealloc(c->exhausted, c->exhausted_cap * sizeof *c->exhausted);
    }
    size_t i = lower_bound(c->exhausted, c->exhausted_count, seq);
    memmove(&c->exhausted[i + 1], &c->exhausted[i],
            (c->exhausted_count - i) * sizeof *c->exhausted);
    c->exhausted[i] = seq;
    c->exhausted_count++;
}

/* Its time is over: deliver it again, or give up. True if it left. */
static bool requeue(struct consumer *c, struct pending_entry *entry, struct stream_effects *e)
{
    if (c->config.max_deliver > 0 && entry->count >= (uint64_t)c->config.max_deliver) {
        emit(e, ADVISORY_MAX_DELIVER, c, entry, SLICE_EMPTY);
        exhausted_add(c, entry->seq);
        kill_entry(c, entry);
        return true;
    }
    set_entry(c, entry, entry->count, PENDING_QUEUED, NO_DEADLINE);
    ring_push(&c->queue, entry->seq);
    return false;
}

int64_t consumer_next_due(const struct consumer *c)
{
    return c->due_ns;
}

void consumer_expire(struct consumer *c, int64_t now_ns, struct stream_effects *e)
{
    if (now_ns < c->due_ns) {
        return;
    }
    struct pending_map *p = &c->pending;
    uint64_t first_gone = 0;
    c->due_ns = INT64_MAX;
    for (size_t i = p->head; i < p->tail; i++) {
        struct pending_entry *entry = &p->entries[i];
        if (entry->state != PENDING_WAITING) {
            continue;
        }
        if (entry->deadline_ns > now_ns) {
            c->due_ns = entry->deadline_ns < c->due_ns ? entry->deadline_ns : c->due_ns;
            continue;
        }
        c->is_dirty = true;
        if (requeue(c, entry, e) && first_gone == 0) {
            first_gone = entry->consumer_seq;
        }
    }
    if (first_gone != 0) {
        move_floor(c, first_gone);
    }
}

/* ---- Items of CONSUMER_PROGRESS ---- */

static void emit_skipped(struct stream_effects *e, const struct consumer *c,
                         const struct progress_item *item, uint64_t seq, uint64_t count)
{
    struct effect_deliver *d = effects_deliver(e);
    d->consumer = c->id;
    d->node = item->node;
    d->destination = item->text;
    d->seq = seq;
    d->token = (uint64_t)item->delay_ns;
    d->is_skipped = true;
    d->pending_count = count;
}

static void deliver(struct consumer *c, const struct msg_index *x, const struct stream_now *now,
                    const struct progress_item *item, struct stream_effects *e)
{
    bool is_first = (item->delay_ns & 1) != 0;
    if (c->config.ack_policy == ACK_NONE ||
        (is_first && item->consumer_seq != c->delivered.stream_seq)) {
        emit_skipped(e, c, item, item->seq, item->count);
        return;
    }
    uint64_t pending_count = consumer_num_pending(c, x);
    for (uint64_t i = 0; i < item->count; i++) {
        uint64_t seq = item->seq + i;
        struct pending_entry *entry;
        struct msg_info info;
        bool is_live = msg_index_get(x, seq, &info);
        if (is_first) {
            if (seq <= c->delivered.stream_seq) {
                emit_skipped(e, c, item, seq, 1);
                continue;
            }
            c->delivered.stream_seq =
                seq; /* Also over one that is gone: the next run counts on it. */
            if (!is_live) {
                if (c->pending.live == 0) {
                    c->floor = c->delivered;
                }
                emit_skipped(e, c, item, seq, 1);
                continue;
            }
            entry = pending_add(
                &c->pending, &(struct pending_entry){.seq = seq,
                                                     .consumer_seq = c->delivered.consumer_seq + 1,
                                                     .state = PENDING_WAITING});
            pending_count -= pending_count > 0;
            c->pending_count -= c->pending_count > 0;
        } else {
            entry = pending_find(&c->pending, seq);
            if (entry == NULL || entry->state != PENDING_QUEUED || !is_live) {
                emit_skipped(e, c, item, seq, 1);
                continue;
            }
            ring_remove(&c->queue, seq);
        }
        entry->planned = 0;
        uint32_t count = entry->count + 1;
        set_entry(c, entry, count, PENDING_WAITING, deadline_after(now, wait_ns(c, count)));
        c->delivered.consumer_seq++;

        struct effect_deliver *d = effects_deliver(e);
        d->consumer = c->id;
        d->node = item->node;
        d->destination = item->text;
        d->seq = seq;
        d->time_ns = info.time_ns;
        d->consumer_seq = c->delivered.consumer_seq;
        d->delivery_count = count;
        d->pending_count = pending_count;
        d->token = (uint64_t)item->delay_ns;
    }
    c->delivered_ns = now->ns;
    drop_lasts_if_done(c);
}

static void ack_explicit(struct consumer *c, uint64_t seq)
{
    struct pending_entry *entry = pending_find(&c->pending, seq);
    if (entry == NULL) {
        exhausted_remove(c, seq);
        return;
    }
    uint64_t consumer_seq = entry->consumer_seq;
    kill_entry(c, entry);
    move_floor(c, consumer_seq);
}

static void ack_all(struct consumer *c, uint64_t seq)
{
    size_t gone = lower_bound(c->exhausted, c->exhausted_count, seq + 1);
    if (gone > 0) {
        memmove(c->exhausted, c->exhausted + gone,
                (c->exhausted_count - gone) * sizeof *c->exhausted);
        c->exhausted_count -= gone;
    }
    if (seq <= c->floor.stream_seq) {
        return;
    }
    c->floor.stream_seq = seq;
    struct pending_entry *head;
    while ((head = pending_head(&c->pending)) != NULL && head->seq <= seq) {
        c->floor.consumer_seq = head->consumer_seq;
        kill_entry(c, head);
        pending_trim(&c->pending);
    }
    if (head == NULL) {
        c->floor = c->delivered;
        c->due_ns = INT64_MAX;
    }
}

static void ack(struct consumer *c, uint64_t seq, uint64_t count, int64_t now_ns)
{
    if (c->config.ack_policy == ACK_NONE || seq > c->delivered.stream_seq) {
        return;
    }
    uint64_t upto =
        c->delivered.stream_seq - seq < count ? c->delivered.stream_seq : seq + count - 1;
    c->acked_ns = now_ns;
    if (c->config.ack_policy == ACK_ALL) {
        ack_all(c, upto);
        return;
    }
    for (; seq <= upto; seq++) {
        ack_explicit(c, seq);
    }
}

static void nak(struct consumer *c, struct pending_entry *entry, const struct stream_now *now,
                const struct progress_item *item, struct stream_effects *e)
{
    emit(e, ADVISORY_NAK, c, entry, SLICE_EMPTY);
    if (entry->state == PENDING_QUEUED) {
        return;
    }
    if (item->delay_ns > 0) {
        set_entry(c, entry, entry->count, PENDING_WAITING, deadline_after(now, item->delay_ns));
        return;
    }
    uint64_t consumer_seq = entry->consumer_seq;
    if (requeue(c, entry, e)) {
        move_floor(c, consumer_seq);
    }
}

static void set_position(struct consumer *c, const struct msg_index *x, int64_t now_ns,
                         const struct progress_item *item)
{
    if (c->config.ack_policy != ACK_NONE || item->seq < c->delivered.stream_seq) {
        return;
    }
    c->delivered = (struct sequence_pair){item->consumer_seq, item->seq};
    c->floor = c->delivered;
    c->delivered_ns = now_ns;
    drop_lasts_if_done(c);
    c->pending_count = c->has_rank ? 0 : consumer_count_above(c, x, item->seq);
}

void consumer_apply(struct consumer *c, const struct msg_index *x, const struct stream_now *now,
                    const struct progress_item *item, struct stream_effects *e)
{
    struct pending_entry *entry = pending_find(&c->pending, item->seq);
    c->is_dirty = true;
    switch ((enum progress_kind)item->kind) {
    case PROGRESS_DELIVER:
        deliver(c, x, now, item, e);
        break;
    case PROGRESS_ACK:
        ack(c, item->seq, item->count, now->ns);
        break;
    case PROGRESS_CONFIRM:
        if (item->seq <= c->delivered.stream_seq && c->config.ack_policy != ACK_NONE) {
            struct effect_advisory *a = effects_advisory(e);
            a->type = ADVISORY_ACK_CONFIRM;
            a->consumer = c->id;
            a->node = item->node;
            a->seq = item->seq;
            a->text = item->text;
        }
        break;
    case PROGRESS_NAK:
        if (entry != NULL) {
            nak(c, entry, now, item, e);
        }
        break;
    case PROGRESS_WPI:
        if (entry != NULL && entry->state == PENDING_WAITING) {
            set_entry(c, entry, entry->count, PENDING_WAITING,
                      deadline_after(now, wait_ns(c, entry->count)));
        }
        break;
    case PROGRESS_TERM:
        if (entry != NULL) {
            emit(e, ADVISORY_TERMINATED, c, entry, item->text);
        }
        ack(c, item->seq, 1, now->ns);
        break;
    case PROGRESS_RETURN:
        if (entry != NULL && entry->state == PENDING_WAITING && entry->count > 0) {
            set_entry(c, entry, entry->count - 1u, PENDING_QUEUED, NO_DEADLINE);
            ring_push(&c->queue, entry->seq);
        }
        break;
    case PROGRESS_POSITION:
        set_position(c, x, now->ns, item);
        break;
    }
}

/* ---- Messages come and go ---- */

void consumer_stored(struct consumer *c, const struct msg_index *x, uint64_t seq,
                     uint32_t subject_id)
{
    if (c->has_rank || !stream_filter_has_id(&c->filter, x, subject_id)) {
        return;
    }
    if (seq > c->delivered.stream_seq) {
        c->pending_count++;
        c->is_dirty = true;
    }
    if (c->lead_seq != 0 && seq >= c->lead_seq) {
        c->lead_count++;
    }
}

static bool is_wanted(struct consumer *c, const struct msg_index *x, uint64_t seq)
{
    if (seq <= c->lasts_upto) {
        size_t i = lower_bound(c->lasts, c->lasts_count, seq);
        return i < c->lasts_count && c->lasts[i] == seq;
    }
    struct msg_info info;
    return msg_index_get(x, seq, &info) && stream_filter_has_id(&c->filter, x, info.subject_id);
}

bool consumer_removing(struct consumer *c, const struct msg_index *x, uint64_t seq,
                       struct pending_entry *ret_entry)
{
    bool is_ahead = seq > c->delivered.stream_seq;
    bool is_lead_ahead = c->lead_seq != 0 && seq >= c->lead_seq;
    if (!c->has_rank && (is_ahead || is_lead_ahead) && is_wanted(c, x, seq)) {
        c->is_dirty = true;
        c->pending_count -= is_ahead && c->pending_count > 0;
        c->lead_count -= is_lead_ahead && c->lead_count > 0;
    }
    struct pending_entry *entry = pending_find(&c->pending, seq);
    if (entry == NULL) {
        if (c->exhausted_count > 0 && exhausted_remove(c, seq)) {
            c->is_dirty = true;
        }
        return false;
    }
    *ret_entry = *entry;
    kill_entry(c, entry);
    move_floor(c, ret_entry->consumer_seq);
    c->is_dirty = true;
    return true;
}

uint64_t *consumer_removing_all(struct consumer *c, size_t *ret_count)
{
    size_t count = 0;
    uint64_t *seqs = xmalloc((c->pending.live + 1) * sizeof *seqs);
    for (size_t i = c->pending.head; i < c->pending.tail; i++) {
        if (c->pending.entries[i].state != PENDING_GONE) {
            seqs[count++] = c->pending.entries[i].seq;
        }
    }
    c->is_dirty = c->is_dirty || c->exhausted_count > 0 || c->pending_count > 0;
    c->exhausted_count = 0;
    c->pending_count = 0;
    c->lead_count = 0;
    *ret_count = count;
    return seqs;
}

/* ---- Configuration ---- */

static const char *frozen_change(const struct consumer_config *a, const struct consumer_config *b)
{
    if (a->deliver_policy != b->deliver_policy) {
        return "deliver policy can not be updated";
    }
    if (a->opt_start_seq != b->opt_start_seq) {
        return "start sequence can not be updated";
    }
    if (a->opt_start_time_ns != b->opt_start_time_ns) {
        return "start time can not be updated";
    }
    if (a->ack_policy != b->ack_policy) {
        return "ack policy can not be updated";
    }
    if (a->replay_policy != b->replay_policy) {
        return "replay policy can not be updated";
    }
    if (a->idle_heartbeat_ns != b->idle_heartbeat_ns) {
        return "heart beats can not be updated";
    }
    if (a->flow_control != b->flow_control) {
        return "flow control can not be updated";
    }
    if (a->deliver_subject == NULL && b->deliver_subject != NULL) {
        return "can not update pull consumer to push based";
    }
    if (a->deliver_subject != NULL && b->deliver_subject == NULL) {
        return "can not update push consumer to pull based";
    }
    if (a->max_waiting != b->max_waiting) {
        return "max waiting can not be updated";
    }
    if (a->mem_storage != b->mem_storage) {
        return "storage type can not be updated";
    }
    return NULL;
}

int consumer_update(struct consumer *c, struct consumer_config *config, const struct msg_index *x,
                    const char **ret_text)
{
    const char *text = frozen_change(&c->config, config);
    if (text != NULL) {
        *ret_text = text;
        return API_ERROR_CONSUMER_CREATE;
    }
    consumer_config_close(&c->config);
    c->config = *config;
    buf_clear(&c->config_json);
    consumer_config_print(&c->config, &c->config_json);
    stream_filter_close(&c->filter);
    stream_filter_init_strings(&c->filter, c->config.filter_subjects,
                               c->config.filter_subjects_count);
    c->has_rank = c->filter.is_all && c->lasts == NULL;
    c->pending_count = c->has_rank ? 0 : consumer_count_above(c, x, c->delivered.stream_seq);
    if (c->lead_seq != 0) {
        c->lead_count = consumer_count_above(c, x, c->lead_seq - 1);
    }
    c->is_dirty = true;
    return 0;
}
