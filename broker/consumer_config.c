#include "broker/consumer_config.h"

#include <stdlib.h>

#include "broker/config_fields.h"
#include "storage/base/err.h"

static const char *const deliver_names[] = {
    "all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject", NULL};
static const char *const ack_names[] = {"none", "all", "explicit", NULL};
static const char *const replay_names[] = {"instant", "original", NULL};

#define AT(member) .offset = offsetof(struct consumer_config, member)
#define OE .flags = FIELD_OMIT_EMPTY

/* In the reference's order of output. */
const struct field consumer_config_fields[] = {
    {.name = "durable_name", .kind = FIELD_STRING, OE, AT(durable_name)},
    {.name = "name", .kind = FIELD_STRING, OE, AT(name)},
    {.name = "description", .kind = FIELD_STRING, OE, AT(description)},
    {.name = "deliver_policy",
     .kind = FIELD_ENUM,
     AT(deliver_policy),
     .names = deliver_names,
     .alias = "undefined"},
    {.name = "opt_start_seq", .kind = FIELD_U64, OE, AT(opt_start_seq)},
    {.name = "opt_start_time", .kind = FIELD_TIME, OE, AT(opt_start_time_ns)},
    {.name = "ack_policy", .kind = FIELD_ENUM, AT(ack_policy), .names = ack_names},
    {.name = "ack_wait", .kind = FIELD_I64, OE, AT(ack_wait_ns)},
    {.name = "max_deliver", .kind = FIELD_I64, OE, AT(max_deliver)},
    {.name = "backoff",
     .kind = FIELD_I64S,
     OE,
     AT(backoff_ns),
     .count_offset = offsetof(struct consumer_config, backoff_count)},
    {.name = "filter_subject", .kind = FIELD_STRING, OE, AT(filter_subject)},
    {.name = "filter_subjects",
     .kind = FIELD_STRINGS,
     OE,
     AT(filter_subjects),
     .count_offset = offsetof(struct consumer_config, filter_subjects_count)},
    {.name = "replay_policy", .kind = FIELD_ENUM, AT(replay_policy), .names = replay_names},
    {.name = "rate_limit_bps", .kind = FIELD_U64, OE, AT(rate_limit_bps)},
    {.name = "sample_freq", .kind = FIELD_STRING, OE, AT(sample_freq)},
    {.name = "max_waiting", .kind = FIELD_I64, OE, AT(max_waiting)},
    {.name = "max_ack_pending", .kind = FIELD_I64, OE, AT(max_ack_pending)},
    {.name = "flow_control", .kind = FIELD_BOOL, OE, AT(flow_control)},
    {.name = "headers_only", .kind = FIELD_BOOL, OE, AT(headers_only)},
    {.name = "max_batch", .kind = FIELD_I64, OE, AT(max_batch)},
    {.name = "max_expires", .kind = FIELD_I64, OE, AT(max_expires_ns)},
    {.name = "max_bytes", .kind = FIELD_I64, OE, AT(max_bytes)},
    {.name = "deliver_subject", .kind = FIELD_STRING, OE, AT(deliver_subject)},
    {.name = "deliver_group", .kind = FIELD_STRING, OE, AT(deliver_group)},
    {.name = "idle_heartbeat", .kind = FIELD_I64, OE, AT(idle_heartbeat_ns)},
    {.name = "inactive_threshold", .kind = FIELD_I64, OE, AT(inactive_threshold_ns)},
    {.name = "num_replicas", .kind = FIELD_INT, AT(replicas_count)},
    {.name = "mem_storage", .kind = FIELD_BOOL, OE, AT(mem_storage)},
    {.name = "metadata",
     .kind = FIELD_METADATA,
     OE,
     AT(metadata),
     .count_offset = offsetof(struct consumer_config, metadata_count)},
    /* Internal to mirrors and sources, and features of 2.11 and later. */
    {.name = "direct", .kind = FIELD_LATER, .json_type = "bool"},
    {.name = "sourcing", .kind = FIELD_LATER, .json_type = "bool"},
    {.name = "pause_until", .kind = FIELD_LATER, .json_type = "string"},
    {.name = "priority_groups", .kind = FIELD_LATER, .json_type = "array"},
    {.name = "priority_policy", .kind = FIELD_LATER, .json_type = "string", .literal = NULL},
    {.name = "priority_timeout", .kind = FIELD_LATER, .json_type = "number"},
};
const size_t consumer_config_fields_count =
    sizeof consumer_config_fields / sizeof consumer_config_fields[0];

void consumer_config_init(struct consumer_config *c)
{
    *c = (struct consumer_config){.opt_start_time_ns = INT64_MIN, .max_deliver = -1};
}

void consumer_config_close(struct consumer_config *c)
{
    fields_close(consumer_config_fields, consumer_config_fields_count, c);
}

bool consumer_config_eq(const struct consumer_config *a, const struct consumer_config *b)
{
    return fields_eq(consumer_config_fields, consumer_config_fields_count, a, b);
}

void consumer_config_print(const struct consumer_config *c, struct buf *out)
{
    struct consumer_config view = *c;
    if (c->filter_subject != NULL) {
        view.filter_subjects_count = 0;
    }
    buf_append_u8(out, '{');
    fields_print(consumer_config_fields, consumer_config_fields_count, &view, out);
    buf_append_u8(out, '}');
}

void consumer_config_unify_filters(struct consumer_config *c)
{
    if (c->filter_subject != NULL && c->filter_subjects_count == 0) {
        c->filter_subjects = xcalloc(1, sizeof *c->filter_subjects);
        c->filter_subjects[0] = xslicedup(slice_str(c->filter_subject));
        c->filter_subjects_count = 1;
    }
}

int consumer_config_parse(struct consumer_config *ret_c, struct slice json)
{
    struct field_error error;
    json_t *object = json_parse(json, &error);
    if (object == NULL) {
        return ERR_INVALID;
    }
    struct consumer_config c;
    consumer_config_init(&c);
    c.max_deliver = 0;
    int rv = fields_read(consumer_config_fields, consumer_config_fields_count, object,
                         "ConsumerConfig", &c, &error);
    json_decref(object);
    if (rv != 0 || error.later != NULL || c.name == NULL) {
        consumer_config_close(&c);
        return ERR_INVALID;
    }
    consumer_config_unify_filters(&c);
    *ret_c = c;
    return 0;
}
