/* Consumer creation: reference/jetstream-api.md 3.1, 3.2, 3.6. See api_request.h. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "broker/ack.h"
#include "broker/api_request.h"
#include "broker/config_fields.h"
#include "broker/subject.h"
#include "storage/base/err.h"

#define NS_PER_MS ((int64_t)1000000)
#define NS_PER_S ((int64_t)1000000000)
#define ACK_WAIT_DEFAULT_NS (30 * NS_PER_S)
#define INACTIVE_DEFAULT_NS (5 * NS_PER_S)
#define MAX_WAITING_DEFAULT 512
#define MAX_ACK_PENDING_DEFAULT 1000
#define PUSH_HEARTBEAT_MIN_NS (100 * NS_PER_MS)

static int read_action(const json_t *v, enum consumer_action *ret_action, struct api_error *e)
{
    const char *text = json_is_string(v) ? json_string_value(v) : "?";
    if (text[0] == 0) {
        *ret_action = CONSUMER_ACTION_ANY;
    } else if (strcmp(text, "create") == 0) {
        *ret_action = CONSUMER_ACTION_CREATE;
    } else if (strcmp(text, "update") == 0) {
        *ret_action = CONSUMER_ACTION_UPDATE;
    } else {
        return api_error_set(e, API_ERROR_INVALID_JSON, "unknown consumer action: \"%.60s\"", text);
    }
    return 0;
}

static int wrong_type(struct api_error *e, const char *name, const char *type)
{
    return api_error_set(e, API_ERROR_INVALID_JSON,
                         "json: cannot unmarshal value into Go struct field "
                         "CreateConsumerRequest.%s of type %s",
                         name, type);
}

static int read_config(const json_t *v, struct consumer_config *c, struct api_error *e)
{
    struct field_error error;
    if (fields_read(consumer_config_fields, consumer_config_fields_count, v,
                    "CreateConsumerRequest.config", c, &error) != 0) {
        return api_error_set(e, API_ERROR_INVALID_JSON, "%s", error.text);
    }
    if (error.later != NULL) {
        return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG,
                             "%s is a feature this server does not have yet", error.later);
    }
    return 0;
}

static int read_members(json_t *object, struct consumer_config *c, char **stream_name,
                        enum consumer_action *ret_action, struct api_error *e)
{
    const char *key;
    json_t *v;
    json_object_foreach(object, key, v)
    {
        int rv = 0;
        if (strcasecmp(key, "stream_name") == 0) {
            if (json_is_string(v)) {
                free(*stream_name);
                *stream_name = xstrndup(json_string_value(v), json_string_length(v));
            } else if (!json_is_null(v)) {
                rv = wrong_type(e, "stream_name", "string");
            }
        } else if (strcasecmp(key, "config") == 0) {
            rv = json_is_null(v) ? 0 : read_config(v, c, e);
        } else if (strcasecmp(key, "action") == 0) {
            rv = json_is_null(v) ? 0 : read_action(v, ret_action, e);
        } else {
            rv = api_error_set(e, API_ERROR_INVALID_JSON, "json: unknown field \"%.100s\"", key);
        }
        if (rv != 0) {
            return rv;
        }
    }
    return 0;
}

static int check_subject_form(struct consumer_config *c, const struct api_consumer_subject *s,
                              struct api_error *e)
{
    struct slice durable = c->durable_name == NULL ? SLICE_EMPTY : slice_str(c->durable_name);
    if (s->is_durable_form) {
        if (durable.len == 0) {
            return api_error_set(e, API_ERROR_CONSUMER_DURABLE_NAME_NOT_SET, NULL);
        }
        if (!slice_eq(durable, s->name)) {
            return api_error_set(e, API_ERROR_CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT, NULL);
        }
    } else if (s->name.len == 0) {
        if (durable.len != 0) {
            return api_error_set(e, API_ERROR_CONSUMER_EPHEMERAL_WITH_DURABLE_NAME, NULL);
        }
    } else if (durable.len != 0 && !slice_eq(durable, s->name)) {
        return api_error_set(e, API_ERROR_CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT, NULL);
    }
    if (s->filter.len != 0) {
        if (c->filter_subjects_count > 0) {
            return api_error_set(e, API_ERROR_CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED, NULL);
        }
        if (c->filter_subject == NULL || !slice_eq(slice_str(c->filter_subject), s->filter)) {
            return api_error_set(e, API_ERROR_CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH, NULL);
        }
    }
    if (s->name.len != 0) {
        /* The subject wins over `name`. */
        free(c->name);
        c->name = xslicedup(s->name);
    }
    if (c->name != NULL) {
        struct slice name = slice_str(c->name);
        if (memchr(name.ptr, '/', name.len) != NULL || memchr(name.ptr, '\\', name.len) != NULL) {
            return api_error_set(e, API_ERROR_CONSUMER_NAME_CONTAINS_PATH_SEPARATORS, NULL);
        }
        if (name.len > API_NAME_BYTES_MAX) {
            return api_error_set(e, API_ERROR_CONSUMER_NAME_TOO_LONG, "%d", API_NAME_BYTES_MAX);
        }
        if (!subject_name_is_valid(name)) {
            return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG,
                                 "consumer name can not contain '.', '*', '>', '\\', '/'");
        }
    }
    return 0;
}

static int policy_error(struct api_error *e, const char *policy, const char *what)
{
    return api_error_set(e, API_ERROR_CONSUMER_INVALID_POLICY,
                         "consumer delivery policy is deliver %s, but optional %s", policy, what);
}

static int check_start(const struct consumer_config *c, struct api_error *e)
{
    static const char *const words[] = {
        "all", "last", "new", "by start sequence", "by start time", "last per subject"};
    const char *policy = words[c->deliver_policy];
    bool has_seq = c->opt_start_seq > 0;
    bool has_time = c->opt_start_time_ns != INT64_MIN;
    if (c->deliver_policy == DELIVER_BY_START_SEQUENCE) {
        if (!has_seq) {
            return policy_error(e, policy, "start sequence is not set");
        }
        return has_time ? policy_error(e, policy, "start time is also set") : 0;
    }
    if (c->deliver_policy == DELIVER_BY_START_TIME) {
        if (!has_time) {
            return policy_error(e, policy, "start time is not set");
        }
        return has_seq ? policy_error(e, policy, "start start sequence is also set") : 0;
    }
    if (has_seq) {
        return policy_error(e, policy, "start sequence is also set");
    }
    if (has_time) {
        return policy_error(e, policy, "start time is also set");
    }
    if (c->deliver_policy == DELIVER_LAST_PER_SUBJECT && c->filter_subject == NULL &&
        c->filter_subjects_count == 0) {
        return policy_error(e, policy, "filter subject is not set");
    }
    return 0;
}

static int check_filters(const struct consumer_config *c, struct api_error *e)
{
    if (c->filter_subject != NULL && c->filter_subjects_count > 0) {
        return api_error_set(e, API_ERROR_CONSUMER_DUPLICATE_FILTER_SUBJECTS, NULL);
    }
    if (c->filter_subject != NULL && !subject_is_valid(slice_str(c->filter_subject))) {
        return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG, "invalid subject");
    }
    for (size_t i = 0; i < c->filter_subjects_count; i++) {
        struct slice filter = slice_str(c->filter_subjects[i]);
        if (filter.len == 0) {
            return api_error_set(e, API_ERROR_CONSUMER_EMPTY_FILTER, NULL);
        }
        if (!subject_is_valid(filter)) {
            return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG, "invalid subject");
        }
        for (size_t k = 0; k < i; k++) {
            struct slice other = slice_str(c->filter_subjects[k]);
            if (subject_is_subset(filter, other) || subject_is_subset(other, filter)) {
                return api_error_set(e, API_ERROR_CONSUMER_OVERLAPPING_SUBJECT_FILTERS, NULL);
            }
        }
    }
    return 0;
}

static int check_pull(struct consumer_config *c, struct api_error *e)
{
    if (c->rate_limit_bps > 0) {
        return api_error_set(e, API_ERROR_CONSUMER_PULL_WITH_RATE_LIMIT, NULL);
    }
    if (c->flow_control) {
        return api_error_set(e, API_ERROR_CONSUMER_FC_REQUIRES_PUSH, NULL);
    }
    if (c->idle_heartbeat_ns > 0) {
        return api_error_set(e, API_ERROR_CONSUMER_HB_REQUIRES_PUSH, NULL);
    }
    if (c->max_expires_ns > 0 && c->max_expires_ns < NS_PER_MS) {
        return api_error_set(e, API_ERROR_CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL, NULL);
    }
    c->max_waiting = c->max_waiting <= 0 ? MAX_WAITING_DEFAULT : c->max_waiting;
    return 0;
}

static int check_push(struct consumer_config *c, const struct stream_config *stream,
                      struct api_error *e)
{
    c->max_waiting = c->max_waiting < 0 ? 0 : c->max_waiting;
    c->idle_heartbeat_ns = c->idle_heartbeat_ns < 0 ? 0 : c->idle_heartbeat_ns;
    struct slice subject = slice_str(c->deliver_subject);
    if (subject_has_wildcard(subject)) {
        return api_error_set(e, API_ERROR_CONSUMER_DELIVER_TO_WILDCARDS, NULL);
    }
    if (!subject_is_valid(subject)) {
        return api_error_set(e, API_ERROR_CONSUMER_INVALID_DELIVER_SUBJECT, NULL);
    }
    /* What is delivered would be stored again, and delivered again. */
    for (size_t i = 0; i < stream->subjects_count; i++) {
        if (subject_is_subset(subject, slice_str(stream->subjects[i]))) {
            return api_error_set(e, API_ERROR_CONSUMER_DELIVER_CYCLE, NULL);
        }
    }
    if (c->max_waiting != 0) {
        return api_error_set(e, API_ERROR_CONSUMER_PUSH_MAX_WAITING, NULL);
    }
    if (c->max_ack_pending > 0 && c->ack_policy == ACK_NONE) {
        return api_error_set(e, API_ERROR_CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED, NULL);
    }
    if (c->idle_heartbeat_ns > 0 && c->idle_heartbeat_ns < PUSH_HEARTBEAT_MIN_NS) {
        return api_error_set(e, API_ERROR_CONSUMER_SMALL_HEARTBEAT, NULL);
    }
    if (c->flow_control && c->idle_heartbeat_ns <= 0) {
        return api_error_set(e, API_ERROR_CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS, NULL);
    }
    return 0;
}

/* Go's strconv.Atoi on the text without its percent sign. */
static int check_sampling(const struct consumer_config *c, struct api_error *e)
{
    if (c->sample_freq == NULL) {
        return 0;
    }
    if (c->sample_freq[0] == '-' && c->sample_freq[1] >= '0' && c->sample_freq[1] <= '9') {
        return api_error_set(e, API_ERROR_CONSUMER_INVALID_SAMPLING, "<nil>");
    }
    size_t n = strlen(c->sample_freq);
    n -= n > 0 && c->sample_freq[n - 1] == '%';
    bool is_number = n > 0 && n <= 9;
    for (size_t i = 0; i < n && is_number; i++) {
        is_number = c->sample_freq[i] >= '0' && c->sample_freq[i] <= '9';
    }
    return is_number ? 0
                     : api_error_set(e, API_ERROR_CONSUMER_INVALID_SAMPLING,
                                     "strconv.Atoi: parsing \"%.*s\": invalid syntax",
                                     (int)(n > 60 ? 60 : n), c->sample_freq);
}

/* What the stream says for consumers that do not. */
static void take_stream_limits(struct consumer_config *c, const struct consumer_limits *limits)
{
    if (c->max_ack_pending == 0) {
        c->max_ack_pending = limits->max_ack_pending;
    }
    c->inactive_threshold_ns = c->inactive_threshold_ns < 0 ? 0 : c->inactive_threshold_ns;
    if (c->inactive_threshold_ns == 0 && limits->inactive_threshold_ns > 0) {
        c->inactive_threshold_ns = limits->inactive_threshold_ns;
    }
}

static int check_stream_limits(const struct consumer_config *c,
                               const struct consumer_limits *limits, struct api_error *e)
{
    if (limits->max_ack_pending > 0 && c->max_ack_pending > limits->max_ack_pending) {
        return api_error_set(e, API_ERROR_CONSUMER_MAX_PENDING_ACK_EXCESS, "%lld",
                             (long long)limits->max_ack_pending);
    }
    if (limits->inactive_threshold_ns > 0 &&
        c->inactive_threshold_ns > limits->inactive_threshold_ns) {
        struct buf text = BUF_EMPTY;
        duration_print(&text, limits->inactive_threshold_ns);
        int rv = api_error_set(e, API_ERROR_CONSUMER_INACTIVE_THRESHOLD_EXCESS, "%.*s",
                               SLICE_ARG(buf_slice(&text)));
        buf_close(&text);
        return rv;
    }
    return 0;
}

bool api_exceeds_limits(const struct consumer_config *c, const struct consumer_limits *limits)
{
    struct api_error e;
    return check_stream_limits(c, limits, &e) != 0;
}

static int check_acks(struct consumer_config *c, const struct api_limits *limits,
                      struct api_error *e)
{
    if (c->ack_wait_ns < 0) {
        return api_error_set(e, API_ERROR_CONSUMER_ACK_WAIT_NEGATIVE, NULL);
    }
    for (size_t i = 0; i < c->backoff_count; i++) {
        if (c->backoff_ns[i] < 0) {
            return api_error_set(e, API_ERROR_CONSUMER_BACK_OFF_NEGATIVE, NULL);
        }
    }
    c->max_deliver = c->max_deliver <= 0 ? -1 : c->max_deliver;
    if (c->max_deliver != -1 && (int64_t)c->backoff_count > c->max_deliver) {
        return api_error_set(e, API_ERROR_CONSUMER_MAX_DELIVER_BACKOFF, NULL);
    }
    if (c->ack_policy != ACK_NONE) {
        c->ack_wait_ns = c->backoff_count > 0 ? c->backoff_ns[0]
                         : c->ack_wait_ns > 0 ? c->ack_wait_ns
                                              : ACK_WAIT_DEFAULT_NS;
        if (c->max_ack_pending == 0) {
            c->max_ack_pending = MAX_ACK_PENDING_DEFAULT;
            if (limits->max_ack_pending > 0 && limits->max_ack_pending < c->max_ack_pending) {
                c->max_ack_pending = limits->max_ack_pending;
            }
        }
    }
    c->max_ack_pending = c->max_ack_pending < 0 ? -1 : c->max_ack_pending;
    if (limits->max_ack_pending > 0 && c->max_ack_pending > limits->max_ack_pending) {
        return api_error_set(e, API_ERROR_CONSUMER_MAX_PENDING_ACK_EXCESS, "%lld",
                             (long long)limits->max_ack_pending);
    }
    return 0;
}

static int check_replicas(const struct consumer_config *c, const struct api_limits *limits,
                          const struct stream_config *stream, struct api_error *e)
{
    if (c->replicas_count < 0) {
        return api_error_set(e, API_ERROR_REPLICAS_COUNT_CANNOT_BE_NEGATIVE, NULL);
    }
    if (c->replicas_count > 1 && !limits->is_clustered) {
        return api_error_set(e, API_ERROR_STREAM_REPLICAS_NOT_SUPPORTED, NULL);
    }
    if (c->replicas_count > stream->replicas_count) {
        return api_error_set(e, API_ERROR_CONSUMER_REPLICAS_EXCEEDS_STREAM, NULL);
    }
    return 0;
}

/* Pedantic clients are told where others are corrected (jetstream-api.md 2.5). */
static int check_pedantic(const struct consumer_config *c, const struct consumer_limits *stream,
                          struct api_error *e)
{
    const struct {
        const char *name;
        int64_t value;
        int64_t min;
    } limits[] = {{"max_deliver", c->max_deliver, -1},
                  {"max_waiting", c->max_waiting, 0},
                  {"max_ack_pending", c->max_ack_pending, -1},
                  {"max_batch", c->max_batch, 0},
                  {"max_expires", c->max_expires_ns, 0},
                  {"max_bytes", c->max_bytes, 0},
                  {"inactive_threshold", c->inactive_threshold_ns, 0}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (limits[i].value < limits[i].min) {
            return api_error_set(e, API_ERROR_PEDANTIC,
                                 limits[i].min < 0 ? "%s must be set to -1"
                                                   : "%s must not be negative",
                                 limits[i].name);
        }
    }
    if (c->backoff_count > 0 && c->ack_wait_ns != c->backoff_ns[0]) {
        return api_error_set(e, API_ERROR_PEDANTIC,
                             "first backoff value has to equal batch AckWait");
    }
    if (c->max_ack_pending == 0 && stream->max_ack_pending > 0) {
        return api_error_set(e, API_ERROR_PEDANTIC,
                             "max_ack_pending must be set if it's configured in stream limits");
    }
    if (c->inactive_threshold_ns == 0 && stream->inactive_threshold_ns > 0) {
        return api_error_set(e, API_ERROR_PEDANTIC,
                             "inactive_threshold must be set if it's configured in stream limits");
    }
    return 0;
}

static int check_consumer(struct consumer_config *c, const struct api_limits *limits,
                          const struct stream_config *stream, bool is_pedantic, struct api_error *e)
{
    api_drop_reserved_metadata(c->metadata, &c->metadata_count);
    if (c->description != NULL && strlen(c->description) > API_DESCRIPTION_BYTES_MAX) {
        return api_error_set(e, API_ERROR_CONSUMER_DESCRIPTION_TOO_LONG, "%d",
                             API_DESCRIPTION_BYTES_MAX);
    }
    size_t metadata = 0;
    for (size_t i = 0; i < c->metadata_count; i++) {
        metadata += strlen(c->metadata[i].key) + strlen(c->metadata[i].value);
    }
    if (metadata > API_METADATA_BYTES_MAX) {
        return api_error_set(e, API_ERROR_CONSUMER_METADATA_LENGTH, "%dKB",
                             API_METADATA_BYTES_MAX / 1024);
    }
    int rv = is_pedantic ? check_pedantic(c, &stream->consumer_limits, e) : 0;
    take_stream_limits(c, &stream->consumer_limits);
    rv = rv == 0 ? check_acks(c, limits, e) : rv;
    if (rv == 0) {
        rv = c->deliver_subject == NULL ? check_pull(c, e) : check_push(c, stream, e);
    }
    c->max_batch = c->max_batch < 0 ? 0 : c->max_batch;
    c->max_expires_ns = c->max_expires_ns < 0 ? 0 : c->max_expires_ns;
    c->max_bytes = c->max_bytes < 0 ? 0 : c->max_bytes;
    rv = rv == 0 ? check_stream_limits(c, &stream->consumer_limits, e) : rv;
    rv = rv == 0 ? check_filters(c, e) : rv;
    rv = rv == 0 ? check_start(c, e) : rv;
    rv = rv == 0 ? check_sampling(c, e) : rv;
    rv = rv == 0 ? check_replicas(c, limits, stream, e) : rv;
    return rv;
}

void api_default_inactive(struct consumer_config *c, const struct consumer_config *old)
{
    bool is_durable = c->durable_name != NULL || (old != NULL && old->durable_name != NULL);
    if (!is_durable && c->inactive_threshold_ns == 0) {
        c->inactive_threshold_ns = INACTIVE_DEFAULT_NS;
    }
}

int api_read_consumer_config(struct slice body, const struct api_consumer_subject *subject,
                             const struct api_limits *limits, const struct stream_config *stream,
                             struct consumer_config *ret_config, enum consumer_action *ret_action,
                             struct api_error *ret_error)
{
    struct consumer_config c;
    enum consumer_action action = CONSUMER_ACTION_ANY;
    char *stream_name = NULL;
    bool is_pedantic = false;
    int rv = 0;
    consumer_config_init(&c);
    if (body.len > 0) {
        struct field_error error;
        json_t *object = json_parse(body, &error);
        if (object != NULL && json_is_null(object)) {
            rv = 0; /* Go's decoder leaves all at its default. */
        } else if (object == NULL || !json_is_object(object)) {
            rv =
                api_error_set(ret_error, API_ERROR_INVALID_JSON, "%s",
                              object == NULL ? error.text
                                             : "json: cannot unmarshal value into Go value of type "
                                               "server.CreateConsumerRequest");
        } else {
            is_pedantic = json_take_flag(object, "pedantic");
            rv = read_members(object, &c, &stream_name, &action, ret_error);
        }
        json_decref(object);
    }
    if (rv == 0 && (stream_name == NULL || !slice_eq(slice_str(stream_name), subject->stream))) {
        rv = api_error_set(ret_error, API_ERROR_STREAM_MISMATCH, NULL);
    }
    free(stream_name);
    rv = rv == 0 ? check_subject_form(&c, subject, ret_error) : rv;
    if (rv == 0 && stream == NULL) {
        rv = api_error_set(ret_error, API_ERROR_STREAM_NOT_FOUND, NULL);
    }
    rv = rv == 0 ? check_consumer(&c, limits, stream, is_pedantic, ret_error) : rv;
    if (rv != 0) {
        consumer_config_close(&c);
        return rv;
    }
    consumer_config_unify_filters(&c);
    *ret_config = c;
    *ret_action = action;
    return 0;
}

int api_check_consumer_update(const struct consumer_config *old,
                              const struct consumer_config *wanted, struct api_error *ret_error)
{
    const char *what = NULL;
    if (old->deliver_policy != wanted->deliver_policy) {
        what = "deliver policy can not be updated";
    } else if (old->opt_start_seq != wanted->opt_start_seq) {
        what = "start sequence can not be updated";
    } else if (old->opt_start_time_ns != wanted->opt_start_time_ns) {
        what = "start time can not be updated";
    } else if (old->ack_policy != wanted->ack_policy) {
        what = "ack policy can not be updated";
    } else if (old->replay_policy != wanted->replay_policy) {
        what = "replay policy can not be updated";
    } else if (old->idle_heartbeat_ns != wanted->idle_heartbeat_ns) {
        what = "heart beats can not be updated";
    } else if (old->flow_control != wanted->flow_control) {
        what = "flow control can not be updated";
    } else if (old->deliver_subject == NULL && wanted->deliver_subject != NULL) {
        what = "can not update pull consumer to push based";
    } else if (old->deliver_subject != NULL && wanted->deliver_subject == NULL) {
        what = "can not update push consumer to pull based";
    } else if (old->max_waiting != wanted->max_waiting) {
        what = "max waiting can not be updated";
    } else if (old->mem_storage != wanted->mem_storage) {
        what = "storage type can not be updated";
    }
    return what == NULL ? 0 : api_error_set(ret_error, API_ERROR_CONSUMER_CREATE, "%s", what);
}
