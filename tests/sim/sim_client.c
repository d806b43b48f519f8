/* Clients, and what stands between them and a stream: the origin lane of their node, which numbers
 * what they publish and sends it again until it is answered, and the leader's open batch (design
 * 3). The same rules as cluster/js_lane.c and js_leader.c, without sockets.
 *
 * Small groups have no lanes: clients propose where the leader is. */
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "tests/sim/sim_internal.h"
#include "tests/sim/sim_store.h"

#define RESEND_US (1000 * MS)
#define GAP_RESEND_US (50 * MS)
#define LANE_MAX 300u
#define BATCH_BYTES (64u * 1024)
#define SELF_ROUNDS_MAX 8
#define BYTES_MAX SIM_BYTES_MAX

enum { ITEM_PUBLISH = 1, ITEM_ANSWER = 2, ITEM_LEADER = 3, ITEM_CLOCK = 4, ITEM_STORE = 5 };

typedef unsigned long long ull;

static void *grow(void *p, uint64_t *cap, uint64_t need, size_t size)
{
    uint64_t was = *cap;
    if (need < was) {
        return p;
    }
    *cap = was == 0 ? 256 : was * 2;
    *cap = *cap <= need ? need + 1 : *cap;
    p = xrealloc(p, *cap * size);
    memset((char *)p + was * size, 0, (*cap - was) * size);
    return p;
}

void sim_history_close(struct sim_history *h)
{
    free(h->contents);
    free(h->stored);
    free(h->full_hashes);
}

static struct sim_history *history_of(const struct sim_replica *r)
{
    return &r->node->run->histories[r->group];
}

/* ---- Items between nodes ---- */

static struct buf *item_begin(struct sim_node *n, unsigned to, uint8_t type, unsigned group)
{
    struct buf *b = &n->outs[to];
    buf_append_u8(b, type);
    buf_append_u8(b, (uint8_t)group);
    return b;
}

static void send_message(struct sim_replica *r, const struct sim_message *m)
{
    struct buf *b = item_begin(r->node, r->lane.leader - 1, ITEM_PUBLISH, r->group);
    buf_append_u64(b, r->node->boot);
    buf_append_u64(b, m->n);
    buf_append_u64(b, m->uid);
    buf_append_u8(b, m->has_id);
    buf_append_u64(b, m->expect_plus1);
}

static void send_leader(struct sim_replica *r, unsigned to)
{
    struct buf *b = item_begin(r->node, to, ITEM_LEADER, r->group);
    buf_append_u64(b, r->lead.term);
}

/* ---- Lanes ---- */

void sim_lane_open(struct sim_replica *r)
{
    r->lane = (struct sim_lane){.next_n = 1};
    list_init(&r->lane.sent);
    list_init(&r->lane.waiting);
}

void sim_lane_close(struct sim_replica *r)
{
    struct list *lists[] = {&r->lane.sent, &r->lane.waiting};
    for (int i = 0; i < 2; i++) {
        struct list *it;
        while ((it = list_pop_front(lists[i])) != NULL) {
            free(container_of(it, struct sim_message, link));
        }
    }
    r->lane.count = 0;
}

static void send_waiting(struct sim_replica *r)
{
    struct sim_lane *l = &r->lane;
    struct list *it;
    while ((it = list_pop_front(&l->waiting)) != NULL) {
        struct sim_message *m = container_of(it, struct sim_message, link);
        m->n = l->next_n++;
        struct sim_content *c = &history_of(r)->contents[m->uid];
        if (c->n == 0) {
            c->n = m->n;
        }
        if (list_is_empty(&l->sent)) {
            l->progress_us = r->node->run->clock.now_us;
        }
        list_push_back(&l->sent, &m->link);
        send_message(r, m);
    }
}

static void resend(struct sim_replica *r, uint64_t from)
{
    r->lane.progress_us = r->node->run->clock.now_us;
    LIST_FOR(it, &r->lane.sent)
    {
        struct sim_message *m = container_of(it, struct sim_message, link);
        if (m->n >= from) {
            send_message(r, m);
        }
    }
}

static void lane_leader(struct sim_replica *r, unsigned node, uint64_t term)
{
    struct sim_lane *l = &r->lane;
    if (term < l->leader_term || (term == l->leader_term && l->leader == node + 1)) {
        return;
    }
    l->leader = node + 1;
    l->leader_term = term;
    resend(r, 0);
    send_waiting(r);
}

/* One message into the lane of @r's node: something new, or one of before under its id. */
static void publish(struct sim_replica *r)
{
    struct sim_run *run = r->node->run;
    struct sim_history *h = history_of(r);
    struct sim_lane *l = &r->lane;
    if (l->count >= LANE_MAX) {
        return;
    }
    struct sim_message *m = xcalloc(1, sizeof *m);
    uint64_t dice = sim_rng_below(&run->rng_client, 8);
    if (dice == 0 && l->recent_count > 0) {
        m->uid = l->recent[sim_rng_below(&run->rng_client, l->recent_count)];
        m->has_id = true;
    } else {
        m->uid = ++h->contents_count;
        m->has_id = dice < 3;
        h->contents = grow(h->contents, &h->contents_cap, m->uid, sizeof *h->contents);
        h->contents[m->uid] = (struct sim_content){
            .node = r->node->number, .origin = r->node->boot, .published_us = run->clock.now_us};
        if (dice == 3 && (sim_fold(run->plan->seed, 9) & 1) != 0) {
            /* Several may have seen the same, and only one of them is right. */
            m->expect_plus1 = h->last_seq + 1;
            h->contents[m->uid].expect_plus1 = m->expect_plus1;
        }
    }
    if (m->has_id) {
        l->recent[l->recent_count < 8 ? l->recent_count++ : m->uid % 8] = m->uid;
    }
    list_push_back(&l->waiting, &m->link);
    l->count++;
    if (l->leader != 0) {
        send_waiting(r);
    }
}

static void acked(struct sim_replica *r, struct sim_message *m, uint64_t seq)
{
    struct sim_run *run = r->node->run;
    struct sim_history *h = history_of(r);
    struct sim_content *c = &h->contents[m->uid];
    if (seq == 0 || seq > h->last_seq || h->stored[seq].uid != m->uid) {
        sim_fail(run, "ACKED", "group %u: message %llu is acked as %llu, where %llu stands",
                 r->group, (ull)m->uid, (ull)seq,
                 (ull)(seq <= h->last_seq && seq > 0 ? h->stored[seq].uid : 0));
        return;
    }
    c->is_acked = true;
    sim_trace(&run->clock, "acked node %llu group %llu seq %llu", r->node->number, r->group, seq);
    if (run->is_calm && c->published_us >= run->plan->faults_us && run->served_us[r->group] == 0) {
        run->served_us[r->group] = run->clock.now_us;
    }
}

/* flags: 1 gap, 2 forgotten, 4 refused. */
static void take_answer(struct sim_replica *r, struct reader *in)
{
    struct sim_lane *l = &r->lane;
    int64_t now_us = r->node->run->clock.now_us;
    uint64_t origin = reader_u64(in);
    uint64_t n = reader_u64(in);
    uint64_t seq = reader_u64(in);
    uint8_t flags = reader_u8(in);
    uint64_t last_n = reader_u64(in);
    if (origin != r->node->boot) {
        return;
    }
    if ((flags & 1) != 0) {
        if (l->leader != 0 && now_us - l->gap_us >= GAP_RESEND_US) {
            l->gap_us = now_us;
            resend(r, last_n + 1);
        }
        return;
    }
    LIST_FOR(it, &l->sent)
    {
        struct sim_message *m = container_of(it, struct sim_message, link);
        if (m->n > n) {
            return;
        }
        if (m->n == n) {
            l->progress_us = now_us;
            struct sim_content *c = &history_of(r)->contents[m->uid];
            if ((flags & 4) != 0 && m->expect_plus1 != 0) {
                c->is_refused = true;
                if (c->stored_seq != 0) {
                    sim_fail(r->node->run, "CAS", "group %u: message %llu is refused and stored",
                             r->group, (ull)m->uid);
                }
            } else if ((flags & 4) != 0) {
                sim_fail(r->node->run, "REFUSED", "group %u: message %llu is refused", r->group,
                         (ull)m->uid);
            } else if ((flags & 2) == 0) {
                acked(r, m, seq);
            }
            list_remove(&m->link);
            l->count--;
            free(m);
            return;
        }
    }
}

/* ---- The leader ---- */

void sim_client_open(struct sim_replica *r)
{
    r->lead = (struct sim_lead){.batch = ENTRY_BUILDER_EMPTY, .closed = ENTRY_BUILDER_EMPTY};
}

void sim_client_close(struct sim_replica *r)
{
    entry_close(&r->lead.batch);
    entry_close(&r->lead.closed);
    r->lead.is_leader = false;
    r->lead.is_led = false;
}

void sim_client_role(struct sim_replica *r, const struct group_role *role)
{
    struct sim_lead *l = &r->lead;
    sim_trace(&r->node->run->clock, "role node %llu group %llu leader %llu", r->node->number,
              r->group, role->is_leader);
    if (!r->is_stream) {
        return;
    }
    if (l->is_leader && (!role->is_leader || role->term != l->term)) {
        l->is_leader = false;
        l->is_led = false;
    }
    if (role->is_leader && !l->is_leader) {
        struct entry_builder batch = l->batch;
        struct entry_builder closed = l->closed;
        *l = (struct sim_lead){.is_leader = true, .term = role->term};
        l->batch = batch;
        l->closed = closed;
        entry_begin(&l->batch, ENTRY_MACHINE_VERSION);
        entry_lead(&l->batch, r->node->number + 1, ENTRY_MACHINE_VERSION);
        if (sim_time_is_on(r->node->run)) {
            sim_time_lead(r);
        }
    }
}

static int propose_closed(struct sim_replica *r)
{
    struct sim_lead *l = &r->lead;
    uint64_t token = ++r->node->run->next_token;
    bool is_timed = sim_time_is_on(r->node->run);
    struct slice entry =
        entry_end(&l->closed, is_timed ? sim_time_stamp(r) : sim_node_now_ns(r->node));
    int rv = group_propose(r->g, entry, token);
    if (rv == 0) {
        l->has_closed = false;
        l->proposals_count++;
        l->lead_token = l->lead_token == 0 ? token : l->lead_token;
    }
    return rv;
}

static void propose_batch(struct sim_replica *r)
{
    struct sim_lead *l = &r->lead;
    bool is_full = entry_size(&l->batch) >= BATCH_BYTES;
    if (l->has_closed && propose_closed(r) != 0) {
        return;
    }
    if (l->batch.ops_count == 0 || (l->proposals_count > 0 && !is_full)) {
        return;
    }
    struct entry_builder empty = l->closed;
    l->closed = l->batch;
    l->batch = empty;
    l->has_closed = true;
    entry_begin(&l->batch, ENTRY_MACHINE_VERSION);
    (void)propose_closed(r);
}

static void fill(uint8_t *to, size_t len, uint64_t uid)
{
    for (size_t i = 0; i < len; i += 8) {
        uint64_t v = i == 0 ? uid : sim_fold(uid, i);
        memcpy(to + i, &v, len - i < 8 ? len - i : 8);
    }
}

void sim_client_message(const struct sim_plan *plan, uint64_t uid, bool has_id,
                        struct sim_message_bytes *ret_message)
{
    struct sim_message_bytes *m = ret_message;
    m->payload_bytes = 8 + sim_mix(uid) % plan->entry_bytes_max;
    fill(m->payload, m->payload_bytes, uid);
    snprintf(m->subject, sizeof m->subject, "s.%llu", (ull)(sim_mix(uid) / 7 % 12));
    snprintf(m->id, sizeof m->id, "%llu", (ull)uid);
    m->header[0] = '\0';
    if (has_id) {
        snprintf(m->header, sizeof m->header, "NATS/1.0\r\nNats-Msg-Id: %s\r\n\r\n", m->id);
    }
}

/* SIM_PLANTED_CAS_AT_LEADER: what holds when it is proposed is not looked at again. */
static bool is_expected_here(const struct sim_replica *r, uint64_t last_seq)
{
    return r->node->run->options->planted == SIM_PLANTED_CAS_AT_LEADER &&
           stream_last_seq(r->stream) == last_seq;
}

static void take_publish(struct sim_replica *r, unsigned from, struct reader *in)
{
    uint64_t origin = reader_u64(in);
    uint64_t n = reader_u64(in);
    uint64_t uid = reader_u64(in);
    bool has_id = reader_u8(in) != 0;
    uint64_t expect_plus1 = reader_u64(in);
    struct sim_lead *l = &r->lead;
    if (!l->is_leader || in->failed) {
        return;
    }
    struct sim_message_bytes bytes;
    sim_client_message(r->node->run->plan, uid, has_id, &bytes);
    struct publish_message m = {.subject = slice_str(bytes.subject),
                                .payload = slice_of(bytes.payload, bytes.payload_bytes)};
    if (has_id) {
        m.header = slice_str(bytes.header);
        m.msg_id = slice_str(bytes.id);
        m.options = PUBLISH_HAS(PUBLISH_MSG_ID);
    }
    if (expect_plus1 != 0 && !is_expected_here(r, expect_plus1 - 1)) {
        m.options |= PUBLISH_HAS(PUBLISH_EXPECT_LAST_SEQ);
        m.expect_last_seq = expect_plus1 - 1;
    }
    entry_publish(&l->batch, from + 1, origin, n, &m);
    if (entry_size(&l->batch) >= BATCH_BYTES) {
        propose_batch(r);
    }
}

static void answer(struct sim_replica *r, uint64_t index, const struct effect_reply *e)
{
    struct sim_history *h = history_of(r);
    if (e->node == 0 || e->node > r->node->run->plan->nodes_count) {
        return;
    }
    if (!e->is_gap && !e->is_forgotten && e->err_code == 0) {
        uint64_t at = e->seq <= h->last_seq ? h->stored[e->seq].index : 0;
        sim_oracle_promise(r->node->run->oracle, r->node->number, r->group, at == 0 ? index : at);
    }
    struct buf *b = item_begin(r->node, (unsigned)e->node - 1, ITEM_ANSWER, r->group);
    buf_append_u64(b, e->origin);
    buf_append_u64(b, e->n);
    buf_append_u64(b, e->seq);
    buf_append_u8(b, (uint8_t)(e->is_gap | e->is_forgotten << 1 | (e->err_code != 0) << 2));
    buf_append_u64(b, e->last_n);
}

void sim_client_effects(struct sim_replica *r, uint64_t index, uint64_t token)
{
    struct sim_run *run = r->node->run;
    struct sim_lead *l = &r->lead;
    if (!r->is_stream) {
        if (run->is_calm && token > run->calm_token && run->served_us[r->group] == 0) {
            run->served_us[r->group] = run->clock.now_us;
        }
        return;
    }
    l->proposals_count -= l->proposals_count > 0;
    if (!l->is_leader) {
        return;
    }
    l->is_clock_proposed = false;
    l->is_job_proposed = false;
    sim_time_lead_applied(r);
    if (r->effects.is_leader_changed && token == l->lead_token && !l->is_led) {
        l->is_led = true;
        lane_leader(r, r->node->number, l->term);
        for (unsigned i = 0; i < run->plan->nodes_count; i++) {
            if (i != r->node->number) {
                send_leader(r, i);
            }
        }
    }
    for (size_t i = 0; i < r->effects.replies_count; i++) {
        answer(r, index, &r->effects.replies[i]);
    }
}

void sim_client_lost(struct sim_replica *r)
{
    r->lead.proposals_count -= r->lead.proposals_count > 0;
}

/* ---- What is stored ---- */

static void stored_first(struct sim_replica *r, const struct effect_store *e, uint64_t index,
                         uint64_t uid)
{
    struct sim_run *run = r->node->run;
    struct sim_history *h = history_of(r);
    struct sim_content *c = &h->contents[uid];
    h->stored = grow(h->stored, &h->stored_cap, e->seq, sizeof *h->stored);
    h->stored[e->seq] = (struct sim_stored){.uid = uid,
                                            .index = index,
                                            .time_ns = e->time_ns,
                                            .payload_bytes = (uint32_t)e->payload.len,
                                            .header_bytes = (uint32_t)e->header.len};
    if (e->seq != h->last_seq + 1) {
        sim_fail(run, "SEQUENCE", "group %u: sequence %llu after %llu", r->group, (ull)e->seq,
                 (ull)h->last_seq);
    }
    h->last_seq = e->seq;
    if (c->stored_seq != 0 && !h->stored[c->stored_seq].is_excused) {
        sim_fail(run, "TWICE", "group %u: message %llu is stored as %llu and %llu", r->group,
                 (ull)uid, (ull)c->stored_seq, (ull)e->seq);
    }
    c->stored_seq = e->seq;
    if (c->is_refused || (c->expect_plus1 != 0 && c->expect_plus1 != e->seq)) {
        sim_fail(run, "CAS", "group %u: message %llu, wanted behind %llu, is stored as %llu%s",
                 r->group, (ull)uid, (ull)c->expect_plus1 - 1, (ull)e->seq,
                 c->is_refused ? " and was refused" : "");
    }
    uint64_t *last_origin = &h->last_origin[c->node];
    uint64_t *last_n = &h->last_n[c->node];
    if (c->origin == *last_origin && c->n <= *last_n) {
        sim_fail(run, "ORDER", "group %u: number %llu of node %u is stored after %llu", r->group,
                 (ull)c->n, c->node, (ull)*last_n);
    }
    if (c->origin >= *last_origin) {
        *last_origin = c->origin;
        *last_n = c->n;
    }
}

void sim_client_stores(struct sim_replica *r, uint64_t index)
{
    struct sim_run *run = r->node->run;
    struct sim_history *h = history_of(r);
    for (size_t i = 0; i < r->effects.stores_count; i++) {
        const struct effect_store *e = &r->effects.stores[i];
        uint64_t uid = 0;
        if (e->payload.len >= 8) {
            memcpy(&uid, e->payload.ptr, 8);
        }
        if (uid == 0 || uid > h->contents_count) {
            sim_fail(run, "STORED", "group %u: sequence %llu was never published", r->group,
                     (ull)e->seq);
        } else if (e->seq > h->last_seq) {
            stored_first(r, e, index, uid);
            if (sim_time_is_on(run)) {
                sim_time_stored(r, e->seq);
            }
        } else if (h->stored[e->seq].uid != uid || h->stored[e->seq].index != index ||
                   h->stored[e->seq].time_ns != e->time_ns) {
            sim_fail(run, "STORED", "node %u group %u: sequence %llu is another message",
                     r->node->number, r->group, (ull)e->seq);
        }
    }
}

/* ---- Turns ---- */

static void take_items(struct sim_node *n, unsigned from, struct slice items)
{
    struct reader in = reader_of(items);
    while (in.len > 0 && !in.failed) {
        uint8_t type = reader_u8(&in);
        uint8_t group = reader_u8(&in);
        struct sim_replica *r = &n->replicas[group];
        if (type == ITEM_PUBLISH) {
            take_publish(r, from, &in);
        } else if (type == ITEM_ANSWER) {
            take_answer(r, &in);
        } else if (type == ITEM_CLOCK) {
            sim_time_heard(n, from, &in);
        } else if (type == ITEM_STORE) {
            struct reader item = reader_of(reader_bytes(&in, reader_u32(&in)));
            sim_store_take(n, from, &item);
        } else {
            lane_leader(r, from, reader_u64(&in));
        }
    }
}

void sim_client_send_store(struct sim_node *n, unsigned to, struct slice item)
{
    struct buf *b = item_begin(n, to, ITEM_STORE, 0);
    buf_append_u32(b, (uint32_t)item.len);
    buf_append_slice(b, item);
    sim_node_touch(n);
}

void sim_client_frame(struct sim_node *n, unsigned from, struct slice frame)
{
    take_items(n, from, frame);
}

void sim_client_peer(struct sim_node *n, unsigned peer, bool is_up)
{
    sim_time_peer(n, peer, is_up);
    for (unsigned g = 0; g < n->run->plan->groups_count; g++) {
        struct sim_replica *r = &n->replicas[g];
        if (!r->is_stream) {
            continue;
        }
        if (!is_up && r->lane.leader == peer + 1) {
            r->lane.leader = 0;
        } else if (is_up && r->lead.is_led) {
            send_leader(r, peer);
        }
    }
}

void sim_client_tick(struct sim_node *n)
{
    if (sim_time_is_on(n->run) && sim_time_tick(n)) {
        for (unsigned i = 0; i < n->run->plan->nodes_count; i++) {
            if (n->time.is_up[i] && i != n->number) {
                sim_time_say(n, item_begin(n, i, ITEM_CLOCK, 0));
            }
        }
    }
    for (unsigned g = 0; g < n->run->plan->groups_count; g++) {
        struct sim_replica *r = &n->replicas[g];
        struct sim_lane *l = &r->lane;
        if (r->is_stream && l->leader != 0 && !list_is_empty(&l->sent) &&
            n->run->clock.now_us - l->progress_us >= RESEND_US) {
            resend(r, 0);
        }
    }
}

static void lead_turn(struct sim_replica *r)
{
    struct sim_lead *l = &r->lead;
    int64_t now_ns = sim_time_is_on(r->node->run) ? sim_time_now(r) : sim_node_now_ns(r->node);
    if (l->is_led && sim_time_is_on(r->node->run)) {
        sim_time_leads(r);
    }
    if (l->is_led) {
        if (stream_wants_job_step(r->stream) && !l->is_job_proposed) {
            l->is_job_proposed = true;
            entry_job_step(&l->batch);
        }
        if (stream_next_due(r->stream) <= now_ns && !l->is_clock_proposed &&
            now_ns - l->clock_ns >= STREAM_DUE_SHARED_NS) {
            l->is_clock_proposed = true;
            l->clock_ns = now_ns;
            entry_clock(&l->batch);
        }
    }
    propose_batch(r);
}

void sim_client_turn(struct sim_node *n)
{
    struct sim_run *run = n->run;
    for (int round = 0; round < SELF_ROUNDS_MAX && n->outs[n->number].len > 0; round++) {
        struct buf items = n->outs[n->number];
        n->outs[n->number] = BUF_EMPTY;
        take_items(n, n->number, buf_slice(&items));
        buf_close(&items);
    }
    for (unsigned g = 0; g < run->plan->groups_count; g++) {
        struct sim_replica *r = &n->replicas[g];
        if (r->is_stream && r->lead.is_leader && r->g != NULL) {
            lead_turn(r);
        }
    }
    for (unsigned i = 0; i < run->plan->nodes_count; i++) {
        if (i != n->number && n->outs[i].len > 0) {
            sim_net_send(run->net, n->number, i, SIM_LANE_CLIENT, buf_slice(&n->outs[i]));
            buf_clear(&n->outs[i]);
        }
    }
}

bool sim_client_is_idle(const struct sim_node *n)
{
    for (unsigned g = 0; g < n->run->plan->groups_count; g++) {
        if (n->replicas[g].is_stream && n->replicas[g].lane.count > 0) {
            return false;
        }
    }
    return true;
}

/* ---- The load ---- */

static void propose_small(struct sim_run *run, unsigned group)
{
    int leader = sim_leader(run, group);
    if (leader < 0 || run->nodes[leader].paused_until_us > run->clock.now_us) {
        return;
    }
    struct sim_replica *r = &run->nodes[leader].replicas[group];
    uint8_t bytes[BYTES_MAX];
    uint64_t value = ++run->next_value;
    size_t len = 8 + sim_mix(value) % run->plan->entry_bytes_max;
    fill(bytes, len, value);
    (void)group_propose(r->g, slice_of(bytes, len), ++run->next_token);
    sim_node_touch(r->node);
}

static void burst(struct sim_run *run)
{
    const struct sim_plan *plan = run->plan;
    unsigned group = (unsigned)sim_rng_below(&run->rng_client, plan->groups_count);
    unsigned node = (unsigned)sim_rng_below(&run->rng_client, plan->nodes_count);
    uint64_t count = 1 + sim_rng_below(&run->rng_client, plan->burst_max);
    if (plan->is_bursty && sim_rng_one_in(&run->rng_client, 50)) {
        count *= 20;
    }
    struct sim_replica *r = &run->nodes[node].replicas[group];
    for (uint64_t i = 0; i < count; i++) {
        if (!r->is_stream) {
            propose_small(run, group);
        } else if (r->node->is_up && r->node->paused_until_us <= run->clock.now_us) {
            publish(r);
        }
    }
    if (r->is_stream && r->node->is_up) {
        sim_node_touch(r->node);
    }
}

static void client_event(void *arg, uint64_t a, uint64_t b)
{
    struct sim_run *run = arg;
    (void)a;
    (void)b;
    if (run->is_stopped) {
        return;
    }
    int64_t now_us = run->clock.now_us;
    if (now_us >= run->quiet_until_us && now_us >= run->rest_until_us) {
        burst(run);
    }
    int64_t from_us = now_us < run->rest_until_us ? run->rest_until_us : now_us;
    sim_clock_at(&run->clock,
                 from_us + sim_rng_range(&run->rng_client, 1, run->plan->client_max_us),
                 client_event, run, 0, 0);
}

void sim_client_start(struct sim_run *run)
{
    sim_clock_at(&run->clock, 1000 * MS, client_event, run, 0, 0);
}
