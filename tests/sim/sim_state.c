/* The state of a replica as bytes: what a flush makes durable and an image carries.
 *
 *   u64 index, term, hash, filler length; u64 body length, body; filler, derived from the hash
 *
 * The body is a small machine's state (sim_state_encode), or the stream's live messages and its
 * checkpoint items. */
#include <stdio.h>

#include "broker/consumer.h"
#include "broker/msg_index.h"
#include "broker/stream_state.h"
#include "storage/base/err.h"
#include "tests/sim/sim_internal.h"

static void print_config(const struct sim_plan *plan, unsigned group, char *to, size_t len)
{
    uint64_t dice = sim_fold(plan->seed, group);
    long long max_msgs = dice % 3 == 0 ? -1 : (long long)(20 + dice / 8 % 200);
    long long max_age_ns = dice / 4 % 3 == 0 ? (long long)(dice / 16 % 5 + 1) * 1000000000 : 0;
    long long per_subject = dice / 4096 % 4 == 0 ? 5 : -1;
    if (plan->scenario == SIM_CLOCKS) { /* What goes, goes by its age. */
        static const long long ages_s[] = {3, 8, 30, 600, 5400, 36000};
        max_msgs = per_subject = -1;
        max_age_ns = ages_s[dice % (sizeof ages_s / sizeof ages_s[0])] * 1000000000;
    }
    snprintf(to, len,
             "{\"name\":\"S\",\"subjects\":[\"s.>\"],\"retention\":\"limits\",\"max_consumers\":-1,"
             "\"max_msgs\":%lld,\"max_bytes\":-1,\"max_age\":%lld,\"max_msgs_per_subject\":%lld,"
             "\"max_msg_size\":-1,\"discard\":\"old\",\"storage\":\"file\",\"num_replicas\":%u,"
             "\"duplicate_window\":600000000000}",
             max_msgs, max_age_ns, per_subject, plan->nodes_count);
}

void sim_state_birth(struct sim_replica *r)
{
    sim_machine_init(&r->m);
    if (r->is_stream) {
        char config[600];
        print_config(r->node->run->plan, r->group, config, sizeof config);
        int rv = stream_new(slice_str(config), sim_time_birth_ns(r->node->run), &consumer_ops,
                            &r->stream);
        if (rv != 0) {
            sim_fail(r->node->run, "CONFIG", "the stream's configuration is refused");
        } else if (sim_time_is_on(r->node->run)) { /* It takes minutes to come there. */
            r->stream->machine_version = ENTRY_MACHINE_VERSION;
        }
    }
}

static void save_item(void *arg, struct slice key, struct slice value, bool is_deleted)
{
    struct buf *b = arg;
    if (!is_deleted) {
        buf_append_varint(b, key.len);
        buf_append_slice(b, key);
        buf_append_varint(b, value.len);
        buf_append_slice(b, value);
    }
}

static void save_stream(struct sim_replica *r, struct buf *b)
{
    const struct sim_history *h = &r->node->run->histories[r->group];
    const struct msg_index *x = stream_index(r->stream);
    struct msg_cursor c;
    uint64_t seq;
    uint32_t subject_id;
    buf_append_varint(b, x->count);
    msg_cursor_init(&c, x, 0);
    while (msg_cursor_next(&c, &seq, &subject_id)) {
        struct msg_info info;
        stream_get_message(r->stream, seq, &info);
        buf_append_varint(b, seq);
        buf_append_u64(b, (uint64_t)info.time_ns);
        buf_append_varint(b, info.subject.len);
        buf_append_slice(b, info.subject);
        buf_append_varint(b, h->stored[seq].header_bytes);
        buf_append_varint(b, h->stored[seq].payload_bytes);
    }
    stream_checkpoint(r->stream, true, save_item, b);
}

void sim_state_save(struct sim_replica *r, struct sim_state_image *ret_image)
{
    struct buf body = BUF_EMPTY;
    if (r->is_stream) {
        save_stream(r, &body);
    } else {
        sim_state_encode(&r->m.applied, 0, &body);
    }
    struct sim_state_image image = {
        .base = {r->m.applied.index, r->m.applied.term},
        .hash = sim_replica_hash(r),
    };
    unsigned max = r->node->run->plan->image_bytes_max;
    uint64_t filler = sim_mix(image.hash) % (max / 8 + 1);
    buf_append_u64(&image.bytes, image.base.index);
    buf_append_u64(&image.bytes, image.base.term);
    buf_append_u64(&image.bytes, image.hash);
    buf_append_u64(&image.bytes, filler);
    buf_append_u64(&image.bytes, body.len);
    buf_append_slice(&image.bytes, buf_slice(&body));
    for (uint64_t i = 0; i < filler; i++) {
        buf_append_u64(&image.bytes, sim_fold(image.hash, i));
    }
    buf_close(&body);
    buf_close(&ret_image->bytes);
    *ret_image = image;
}

static int load_stream(struct sim_replica *r, struct slice body)
{
    struct reader in = reader_of(body);
    struct stream_restore *s = stream_restore_begin(&consumer_ops);
    uint64_t count = reader_varint(&in);
    for (uint64_t i = 0; i < count && !in.failed; i++) {
        uint64_t seq = reader_varint(&in);
        int64_t time_ns = (int64_t)reader_u64(&in);
        uint64_t len = reader_varint(&in);
        struct slice subject = reader_bytes(&in, len);
        uint32_t header_bytes = (uint32_t)reader_varint(&in);
        uint32_t payload_bytes = (uint32_t)reader_varint(&in);
        if (!in.failed) {
            stream_restore_message(s, seq, time_ns, subject, header_bytes, payload_bytes);
        }
    }
    while (in.len > 0 && !in.failed) {
        uint64_t len = reader_varint(&in);
        struct slice key = reader_bytes(&in, len);
        len = reader_varint(&in);
        struct slice value = reader_bytes(&in, len);
        if (!in.failed) {
            stream_restore_item(s, key, value);
        }
    }
    int rv = stream_restore_end(s, &r->stream);
    return rv != 0 || in.failed ? ERR_CORRUPT : 0;
}

static int open_image(struct slice bytes, struct sim_state_image *image, struct slice *ret_body)
{
    struct reader in = reader_of(bytes);
    image->base.index = reader_u64(&in);
    image->base.term = reader_u64(&in);
    image->hash = reader_u64(&in);
    uint64_t filler = reader_u64(&in);
    uint64_t len = reader_u64(&in);
    *ret_body = reader_bytes(&in, len);
    for (uint64_t i = 0; i < filler && !in.failed; i++) {
        if (reader_u64(&in) != sim_fold(image->hash, i)) {
            return ERR_CORRUPT;
        }
    }
    return in.failed || in.len > 0 ? ERR_CORRUPT : 0;
}

int sim_state_peek(struct slice bytes, struct sim_state_image *ret_image)
{
    struct slice body;
    return open_image(bytes, ret_image, &body);
}

int sim_state_load(struct sim_replica *r, struct slice bytes)
{
    struct sim_state_image image;
    struct slice body;
    int rv = open_image(bytes, &image, &body);
    if (rv != 0) {
        return rv;
    }
    sim_machine_close(&r->m);
    sim_machine_init(&r->m);
    if (r->is_stream) {
        stream_free(r->stream);
        r->stream = NULL;
        rv = load_stream(r, body);
        r->m.applied.index = image.base.index;
        r->m.applied.term = image.base.term;
    } else {
        rv = sim_state_decode(body, &r->m.applied);
    }
    if (rv == 0 && sim_replica_hash(r) != image.hash) {
        rv = ERR_CORRUPT;
    }
    return rv;
}
