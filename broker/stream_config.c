#include "broker/stream_config.h"

#include "broker/config_fields.h"
#include "broker/subject_transform.h"
#include "storage/base/err.h"

static const char *const retention_names[] = {"limits", "interest", "workqueue", NULL};
static const char *const discard_names[] = {"old", "new", NULL};
static const char *const storage_names[] = {"file", "memory", NULL};
static const char *const compression_names[] = {"none", "s2", NULL};
static const char *const persist_names[] = {"default", "async", NULL};

#define AT(member) .offset = offsetof(struct stream_config, member)
#define OE .flags = FIELD_OMIT_EMPTY

#define LIMIT(member) .offset = offsetof(struct consumer_limits, member)
static const struct field limits_fields[] = {
    {.name = "inactive_threshold", .kind = FIELD_I64, OE, LIMIT(inactive_threshold_ns)},
    {.name = "max_ack_pending", .kind = FIELD_I64, OE, LIMIT(max_ack_pending)},
};
#define LIMITS_FIELDS (sizeof limits_fields / sizeof limits_fields[0])

#define TRANSFORM(member) .offset = offsetof(struct transform_config, member)
static const struct field transform_fields[] = {
    {.name = "src", .kind = FIELD_STRING, TRANSFORM(source)},
    {.name = "dest", .kind = FIELD_STRING, TRANSFORM(destination)},
};
#define TRANSFORM_FIELDS (sizeof transform_fields / sizeof transform_fields[0])

#define REPUBLISH(member) .offset = offsetof(struct republish_config, member)
static const struct field republish_fields[] = {
    {.name = "src", .kind = FIELD_STRING, REPUBLISH(source)},
    {.name = "dest", .kind = FIELD_STRING, REPUBLISH(destination)},
    {.name = "headers_only", .kind = FIELD_BOOL, OE, REPUBLISH(headers_only)},
};
#define REPUBLISH_FIELDS (sizeof republish_fields / sizeof republish_fields[0])

/* In the reference's order of output. */
const struct field stream_config_fields[] = {
    {.name = "name", .kind = FIELD_STRING, AT(name)},
    {.name = "description", .kind = FIELD_STRING, OE, AT(description)},
    {.name = "subjects",
     .kind = FIELD_STRINGS,
     OE,
     AT(subjects),
     .count_offset = offsetof(struct stream_config, subjects_count)},
    {.name = "retention", .kind = FIELD_ENUM, AT(retention), .names = retention_names},
    {.name = "max_consumers", .kind = FIELD_I64, AT(max_consumers)},
    {.name = "max_msgs", .kind = FIELD_I64, AT(max_msgs)},
    {.name = "max_bytes", .kind = FIELD_I64, AT(max_bytes)},
    {.name = "max_age", .kind = FIELD_I64, AT(max_age_ns)},
    {.name = "max_msgs_per_subject", .kind = FIELD_I64, AT(max_msgs_per_subject)},
    {.name = "max_msg_size", .kind = FIELD_I32, OE, AT(max_msg_size)},
    {.name = "discard", .kind = FIELD_ENUM, AT(discard), .names = discard_names},
    {.name = "storage", .kind = FIELD_ENUM, AT(storage), .names = storage_names},
    {.name = "num_replicas", .kind = FIELD_INT, AT(replicas_count)},
    {.name = "no_ack", .kind = FIELD_BOOL, OE, AT(no_ack)},
    {.name = "duplicate_window", .kind = FIELD_I64, OE, AT(duplicate_window_ns)},
    {.name = "placement",
     .kind = FIELD_OBJECT,
     OE,
     AT(placement),
     .table = placement_fields,
     .table_count = PLACEMENT_FIELDS,
     .struct_name = "Placement"},
    {.name = "mirror", .kind = FIELD_LATER, .json_type = "object"},
    {.name = "sources", .kind = FIELD_LATER, .json_type = "array"},
    {.name = "compression",
     .kind = FIELD_LATER,
     .json_type = "string",
     .literal = "\"none\"",
     .names = compression_names},
    {.name = "first_seq", .kind = FIELD_U64, OE, AT(first_seq)},
    {.name = "subject_transform",
     .kind = FIELD_OBJECT,
     OE,
     AT(transform),
     .table = transform_fields,
     .table_count = TRANSFORM_FIELDS,
     .struct_name = "SubjectTransformConfig"},
    {.name = "republish",
     .kind = FIELD_OBJECT,
     OE,
     AT(republish),
     .table = republish_fields,
     .table_count = REPUBLISH_FIELDS,
     .struct_name = "RePublish"},
    {.name = "sealed", .kind = FIELD_BOOL, AT(sealed)},
    {.name = "deny_delete", .kind = FIELD_BOOL, AT(deny_delete)},
    {.name = "deny_purge", .kind = FIELD_BOOL, AT(deny_purge)},
    {.name = "allow_rollup_hdrs", .kind = FIELD_BOOL, AT(allow_rollup_hdrs)},
    {.name = "allow_direct", .kind = FIELD_BOOL, AT(allow_direct)},
    {.name = "mirror_direct", .kind = FIELD_BOOL, AT(mirror_direct)},
    {.name = "discard_new_per_subject", .kind = FIELD_BOOL, OE, AT(discard_new_per_subject)},
    {.name = "consumer_limits",
     .kind = FIELD_OBJECT,
     AT(consumer_limits),
     .table = limits_fields,
     .table_count = LIMITS_FIELDS,
     .struct_name = "StreamConsumerLimits"},
    {.name = "metadata",
     .kind = FIELD_METADATA,
     OE,
     AT(metadata),
     .count_offset = offsetof(struct stream_config, metadata_count)},
    /* Features of 2.11 and later. */
    {.name = "allow_msg_ttl", .kind = FIELD_LATER, .json_type = "bool"},
    {.name = "subject_delete_marker_ttl", .kind = FIELD_LATER, .json_type = "number"},
    {.name = "allow_msg_counter", .kind = FIELD_LATER, .json_type = "bool"},
    {.name = "allow_atomic", .kind = FIELD_LATER, .json_type = "bool"},
    {.name = "allow_msg_schedules", .kind = FIELD_LATER, .json_type = "bool"},
    {.name = "persist_mode", .kind = FIELD_LATER, .json_type = "string", .names = persist_names},
    {.name = "allow_batched", .kind = FIELD_LATER, .json_type = "bool"},
};
const size_t stream_config_fields_count =
    sizeof stream_config_fields / sizeof stream_config_fields[0];

void stream_config_init(struct stream_config *c)
{
    *c = (struct stream_config){
        .max_consumers = -1,
        .max_msgs = -1,
        .max_bytes = -1,
        .max_msgs_per_subject = -1,
        .max_msg_size = -1,
        .replicas_count = 1,
        .duplicate_window_ns = DUPLICATE_WINDOW_DEFAULT_NS,
    };
}

void stream_config_close(struct stream_config *c)
{
    fields_close(stream_config_fields, stream_config_fields_count, c);
}

void stream_config_copy(struct stream_config *to, const struct stream_config *from)
{
    *to = *from;
    fields_dup(stream_config_fields, stream_config_fields_count, to);
}

bool stream_config_eq(const struct stream_config *a, const struct stream_config *b)
{
    return fields_eq(stream_config_fields, stream_config_fields_count, a, b);
}

unsigned stream_config_version(const struct stream_config *c, const char **ret_feature)
{
    /* The newest first. */
    if (!fields_are_empty(republish_fields, REPUBLISH_FIELDS, &c->republish)) {
        *ret_feature = "republish";
        return 5;
    }
    if (!fields_are_empty(transform_fields, TRANSFORM_FIELDS, &c->transform)) {
        *ret_feature = "subject_transform";
        return 4;
    }
    if (!fields_are_empty(limits_fields, LIMITS_FIELDS, &c->consumer_limits)) {
        *ret_feature = "consumer_limits";
        return 3;
    }
    if (!placement_is_empty(&c->placement)) {
        *ret_feature = "placement";
        return 2;
    }
    *ret_feature = NULL;
    return 1;
}

void stream_config_print(const struct stream_config *c, struct buf *out)
{
    buf_append_u8(out, '{');
    fields_print(stream_config_fields, stream_config_fields_count, c, out);
    buf_append_u8(out, '}');
}

static int compile(const char *source, const char *destination,
                   struct subject_transform **ret_transform)
{
    return subject_transform_new(source == NULL ? SLICE_EMPTY : slice_str(source),
                                 destination == NULL ? SLICE_EMPTY : slice_str(destination),
                                 ret_transform, NULL);
}

int stream_config_transform(const struct stream_config *c, struct subject_transform **ret_transform)
{
    return compile(c->transform.source, c->transform.destination, ret_transform);
}

int stream_config_republish(const struct stream_config *c, struct subject_transform **ret_transform)
{
    return compile(c->republish.source, c->republish.destination, ret_transform);
}

/* What a machine would have to make sense of. */
static bool is_sound(const struct stream_config *c)
{
    struct subject_transform *transform = NULL;
    struct subject_transform *republish = NULL;
    bool is_sound = c->name != NULL && stream_config_transform(c, &transform) == 0 &&
                    stream_config_republish(c, &republish) == 0;
    subject_transform_free(transform);
    subject_transform_free(republish);
    return is_sound;
}

int stream_config_parse(struct stream_config *ret_c, struct slice json)
{
    struct field_error error;
    json_t *object = json_parse(json, &error);
    if (object == NULL) {
        return ERR_INVALID;
    }
    struct stream_config c;
    stream_config_init(&c);
    c.duplicate_window_ns = 0; /* Omitted when it is off. */
    c.max_msg_size = 0;
    int rv = fields_read(stream_config_fields, stream_config_fields_count, object, "StreamConfig",
                         &c, &error);
    json_decref(object);
    if (rv != 0 || error.later != NULL || !is_sound(&c)) {
        stream_config_close(&c);
        return ERR_INVALID;
    }
    *ret_c = c;
    return 0;
}
