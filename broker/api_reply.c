#include "broker/api_reply.h"

#include "broker/json_fields.h"

#define U64(v) ((unsigned long long)(v))

static void print_time(struct buf *out, const char *name, int64_t time_ns)
{
    buf_printf(out, "\"%s\":\"", name);
    json_print_time(out, time_ns);
    buf_append_u8(out, '"');
}

static void print_text(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, "\"%s\":", name);
    json_print_string(out, slice_str(text));
}

void api_reply_open(struct buf *out, const char *type, const struct api_error *error)
{
    buf_printf(out, "{\"type\":\"io.nats.jetstream.api.v1.%s\"", type);
    if (error != NULL && error->err_code != 0) {
        buf_append_u8(out, ',');
        api_error_print(error, out);
    }
}

void api_reply_error(struct buf *out, const char *type, const struct api_error *error)
{
    /* Members that the reference does not omit when they are zero. */
    static const struct {
        const char *type;
        const char *members;
    } zeros[] = {
        {"stream_info_response", ",\"total\":0,\"offset\":0,\"limit\":0"},
        {"stream_names_response", ",\"total\":0,\"offset\":0,\"limit\":0,\"streams\":null"},
        {"stream_list_response", ",\"total\":0,\"offset\":0,\"limit\":0,\"streams\":[]"},
        {"consumer_names_response", ",\"total\":0,\"offset\":0,\"limit\":0,\"consumers\":[]"},
        {"consumer_list_response", ",\"total\":0,\"offset\":0,\"limit\":0,\"consumers\":[]"},
        {"stream_purge_response", ",\"purged\":0"},
    };
    api_reply_open(out, type, error);
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++) {
        if (strcmp(zeros[i].type, type) == 0) {
            buf_append_str(out, zeros[i].members);
        }
    }
    buf_append_u8(out, '}');
}

void api_reply_success(struct buf *out, const char *type)
{
    api_reply_open(out, type, NULL);
    buf_append_str(out, ",\"success\":true}");
}

void api_print_stream_state(struct buf *out, const struct api_stream_state *s)
{
    buf_printf(out, "{\"messages\":%llu,\"bytes\":%llu,\"first_seq\":%llu,", U64(s->messages),
               U64(s->bytes), U64(s->first_seq));
    print_time(out, "first_ts", s->first_time_ns);
    buf_printf(out, ",\"last_seq\":%llu,", U64(s->last_seq));
    print_time(out, "last_ts", s->last_time_ns);
    if (s->subjects_count > 0) {
        buf_printf(out, ",\"num_subjects\":%llu", U64(s->subjects_count));
    }
    if (s->subjects.len > 0) {
        buf_append_str(out, ",\"subjects\":");
        buf_append_slice(out, s->subjects);
    }
    if (s->deleted_count > 0) {
        buf_printf(out, ",\"num_deleted\":%llu", U64(s->deleted_count));
    }
    if (s->deleted.len > 0) {
        buf_append_str(out, ",\"deleted\":");
        buf_append_slice(out, s->deleted);
    }
    buf_printf(out, ",\"consumer_count\":%llu}", U64(s->consumers_count));
}

static void print_cluster(struct buf *out, const struct api_cluster *c)
{
    buf_append_str(out, "\"cluster\":{");
    print_text(out, "name", c->name);
    if (c->raft_group != NULL) {
        buf_append_u8(out, ',');
        print_text(out, "raft_group", c->raft_group);
    }
    if (c->leader[0] != 0) {
        buf_append_u8(out, ',');
        print_text(out, "leader", c->leader);
    }
    if (c->peers_count > 0) {
        buf_append_str(out, ",\"replicas\":");
        api_print_peers(out, c);
    }
    buf_append_u8(out, '}');
}

void api_print_peers(struct buf *out, const struct api_cluster *c)
{
    buf_append_u8(out, '[');
    for (size_t i = 0; i < c->peers_count; i++) {
        const struct api_peer *p = &c->peers[i];
        buf_append_str(out, i == 0 ? "{" : ",{");
        print_text(out, "name", p->name);
        buf_printf(out, ",\"current\":%s", p->is_current ? "true" : "false");
        if (p->is_offline) {
            buf_append_str(out, ",\"offline\":true");
        }
        buf_printf(out, ",\"active\":%lld", (long long)p->active_ns);
        if (p->lag > 0) {
            buf_printf(out, ",\"lag\":%llu", U64(p->lag));
        }
        buf_append_u8(out, ',');
        print_text(out, "peer", p->peer);
        buf_append_u8(out, '}');
    }
    buf_append_u8(out, ']');
}

void api_print_stream_info(struct buf *out, const struct api_stream_info *info)
{
    buf_append_str(out, "\"config\":");
    stream_config_print(info->config, out);
    buf_append_u8(out, ',');
    print_time(out, "created", info->created_ns);
    buf_append_str(out, ",\"state\":");
    api_print_stream_state(out, &info->state);
    if (info->cluster.name != NULL) {
        buf_append_u8(out, ',');
        print_cluster(out, &info->cluster);
    }
    buf_append_u8(out, ',');
    print_time(out, "ts", info->now_ns);
}

static void print_position(struct buf *out, const char *name, uint64_t consumer_seq,
                           uint64_t stream_seq, int64_t active_ns)
{
    buf_printf(out, "\"%s\":{\"consumer_seq\":%llu,\"stream_seq\":%llu", name, U64(consumer_seq),
               U64(stream_seq));
    if (active_ns != INT64_MIN) {
        buf_append_u8(out, ',');
        print_time(out, "last_active", active_ns);
    }
    buf_append_str(out, "},");
}

void api_print_consumer_info(struct buf *out, const struct api_consumer_info *info)
{
    print_text(out, "stream_name", info->stream_name);
    buf_append_u8(out, ',');
    print_text(out, "name", info->name);
    buf_append_u8(out, ',');
    print_time(out, "created", info->created_ns);
    buf_append_str(out, ",\"config\":");
    consumer_config_print(info->config, out);
    buf_append_u8(out, ',');
    print_position(out, "delivered", info->delivered_consumer_seq, info->delivered_stream_seq,
                   info->delivered_active_ns);
    print_position(out, "ack_floor", info->floor_consumer_seq, info->floor_stream_seq,
                   info->floor_active_ns);
    buf_printf(out,
               "\"num_ack_pending\":%llu,\"num_redelivered\":%llu,\"num_waiting\":%llu,"
               "\"num_pending\":%llu,",
               U64(info->ack_pending_count), U64(info->redelivered_count), U64(info->waiting_count),
               U64(info->pending_count));
    if (info->cluster.name != NULL) {
        print_cluster(out, &info->cluster);
        buf_append_u8(out, ',');
    }
    if (info->is_push_bound) {
        buf_append_str(out, "\"push_bound\":true,");
    }
    print_time(out, "ts", info->now_ns);
}

void api_print_page(struct buf *out, uint64_t total, uint64_t offset, uint64_t limit)
{
    buf_printf(out, "\"total\":%llu,\"offset\":%llu,\"limit\":%llu", U64(total), U64(offset),
               U64(limit));
}

void api_reply_account_info(struct buf *out, const struct api_account_info *i)
{
    api_reply_open(out, "account_info_response", NULL);
    buf_printf(out,
               ",\"memory\":%llu,\"storage\":%llu,\"reserved_memory\":0,\"reserved_storage\":0,"
               "\"streams\":%llu,\"consumers\":%llu,\"limits\":{\"max_memory\":%lld,"
               "\"max_storage\":%lld,\"max_streams\":-1,\"max_consumers\":-1,"
               "\"max_ack_pending\":-1,\"memory_max_stream_bytes\":-1,"
               "\"storage_max_stream_bytes\":-1,\"max_bytes_required\":false},"
               "\"api\":{\"level\":0,\"total\":%llu,\"errors\":%llu}}",
               U64(i->memory_bytes), U64(i->storage_bytes), U64(i->streams_count),
               U64(i->consumers_count), (long long)i->max_memory, (long long)i->max_storage,
               U64(i->api_total), U64(i->api_errors));
}

void api_reply_message(struct buf *out, struct slice subject, uint64_t seq, struct slice headers,
                       struct slice payload, int64_t time_ns)
{
    api_reply_open(out, "stream_msg_get_response", NULL);
    buf_append_str(out, ",\"message\":{\"subject\":");
    json_print_string(out, subject);
    buf_printf(out, ",\"seq\":%llu,", U64(seq));
    if (headers.len > 0) {
        buf_append_str(out, "\"hdrs\":\"");
        json_print_base64(out, headers);
        buf_append_str(out, "\",");
    }
    if (payload.len > 0) {
        buf_append_str(out, "\"data\":\"");
        json_print_base64(out, payload);
        buf_append_str(out, "\",");
    }
    print_time(out, "time", time_ns);
    buf_append_str(out, "}}");
}

void api_reply_purge(struct buf *out, uint64_t purged_count)
{
    api_reply_open(out, "stream_purge_response", NULL);
    buf_printf(out, ",\"success\":true,\"purged\":%llu}", U64(purged_count));
}

void api_puback_begin(struct buf *out, const char *stream)
{
    buf_append_str(out, "{\"stream\":");
    json_print_string(out, slice_str(stream));
    buf_append_str(out, ",\"seq\":");
}

/* The hottest reply of all: no printf. */
void api_puback_end(struct buf *out, uint64_t seq, bool is_duplicate)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + seq % 10);
        seq /= 10;
    } while (seq > 0);
    buf_append(out, digits + at, sizeof digits - at);
    buf_append_str(out, is_duplicate ? ",\"duplicate\":true}" : "}");
}

void api_puback(struct buf *out, const char *stream, uint64_t seq, bool is_duplicate)
{
    api_puback_begin(out, stream);
    api_puback_end(out, seq, is_duplicate);
}

void api_puback_error(struct buf *out, const char *stream, const struct api_error *error)
{
    buf_append_u8(out, '{');
    api_error_print(error, out);
    buf_append_u8(out, ',');
    print_text(out, "stream", stream);
    buf_append_str(out, ",\"seq\":0}");
}

void api_hash_text(const uint8_t digest[32], char ret_text[9])
{
    static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for (int i = 0; i < 8; i++) {
        ret_text[i] = alphabet[digest[i] % 62];
    }
    ret_text[8] = 0;
}
