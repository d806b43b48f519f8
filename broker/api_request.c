#include "broker/api_request.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/config_fields.h"
#include "broker/subject.h"
#include "broker/subject_transform.h"
#include "storage/base/err.h"

#define NS_PER_MS ((int64_t)1000000)

static int invalid_config(struct api_error *e, const char *text)
{
    return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG, "%s", text);
}

/* First byte that is no space. */
static int first_byte(struct slice body)
{
    for (size_t i = 0; i < body.len; i++) {
        if (body.ptr[i] != ' ' && body.ptr[i] != '\t' && body.ptr[i] != '\r' &&
            body.ptr[i] != '\n') {
            return body.ptr[i];
        }
    }
    return -1;
}

bool api_is_empty_body(struct slice body)
{
    if (body.len == 0) {
        return true;
    }
    struct field_error error;
    json_t *v = json_parse(body, &error);
    bool is_empty = v != NULL && json_is_object(v) && json_object_size(v) == 0;
    json_decref(v);
    return is_empty;
}

static bool looks_like_json(struct slice body)
{
    int c = first_byte(body);
    return c == '{' || c == '[';
}

/* The names a stream, consumer or durable may have (0.2). */
static bool has_path_separator(struct slice name)
{
    return memchr(name.ptr, '/', name.len) != NULL || memchr(name.ptr, '\\', name.len) != NULL;
}

/* ---- Streams ---- */

/* @ret_is_pedantic: NULL where that is no member of the request. */
static int read_json_fields(struct slice body, const struct field *table, size_t count,
                            const char *struct_name, void *ret, bool *ret_is_pedantic,
                            struct api_error *e)
{
    struct field_error error;
    json_t *v = json_parse(body, &error);
    if (v == NULL) {
        return api_error_set(e, API_ERROR_INVALID_JSON, "%s", error.text);
    }
    if (json_is_null(v)) { /* Go's decoder leaves all at its default. */
        json_decref(v);
        return 0;
    }
    if (ret_is_pedantic != NULL && json_is_object(v)) {
        *ret_is_pedantic = json_take_flag(v, "pedantic");
    }
    int rv = fields_read(table, count, v, struct_name, ret, &error);
    json_decref(v);
    if (rv != 0) {
        return api_error_set(e, API_ERROR_INVALID_JSON, "%s", error.text);
    }
    if (error.later != NULL) {
        return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG,
                             "%s is a feature this server does not have yet", error.later);
    }
    return 0;
}

static size_t metadata_bytes(const struct metadata_item *items, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        n += strlen(items[i].key) + strlen(items[i].value);
    }
    return n;
}

static int check_stream_names(struct stream_config *c, struct api_error *e)
{
    struct slice name = c->name == NULL ? SLICE_EMPTY : slice_str(c->name);
    if (name.len > API_NAME_BYTES_MAX) {
        return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG,
                             "stream name is too long, maximum allowed is %d", API_NAME_BYTES_MAX);
    }
    if (!subject_name_is_valid(name)) {
        return invalid_config(
            e, "stream name is required and can not contain '.', '*', '>', '\\', '/'");
    }
    if (c->description != NULL && strlen(c->description) > API_DESCRIPTION_BYTES_MAX) {
        return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG,
                             "stream description is too long, maximum allowed is %d",
                             API_DESCRIPTION_BYTES_MAX);
    }
    if (metadata_bytes(c->metadata, c->metadata_count) > API_METADATA_BYTES_MAX) {
        return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG,
                             "stream metadata exceeds maximum size of %d bytes",
                             API_METADATA_BYTES_MAX);
    }
    return 0;
}

void api_drop_reserved_metadata(struct metadata_item *items, size_t *count)
{
    static const char *const reserved[] = {"_nats.level", "_nats.req.level", "_nats.ver"};
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        bool is_reserved = false;
        for (size_t k = 0; k < sizeof reserved / sizeof reserved[0]; k++) {
            is_reserved = is_reserved || strcmp(items[i].key, reserved[k]) == 0;
        }
        if (is_reserved) {
            free(items[i].key);
            free(items[i].value);
        } else {
            items[kept++] = items[i];
        }
    }
    *count = kept;
}

static int64_t limit_or_unlimited(int64_t v)
{
    return v <= 0 ? -1 : v;
}

/* Pedantic clients are told where others are corrected (2.5). */
static int check_stream_pedantic(const struct stream_config *c, struct api_error *e)
{
    const struct {
        const char *name;
        int64_t value;
    } limits[] = {{"max_msgs", c->max_msgs},
                  {"max_msgs_per_subject", c->max_msgs_per_subject},
                  {"max_bytes", c->max_bytes},
                  {"max_msg_size", c->max_msg_size},
                  {"max_consumers", c->max_consumers}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (limits[i].value < -1) {
            return api_error_set(e, API_ERROR_PEDANTIC, "%s must be set to -1", limits[i].name);
        }
    }
    if (c->duplicate_window_ns == 0 && c->max_age_ns > 0 &&
        c->max_age_ns < DUPLICATE_WINDOW_DEFAULT_NS) {
        return api_error_set(e, API_ERROR_PEDANTIC,
                             "duplicate window cannot be bigger than max age");
    }
    return 0;
}

static int check_stream_limits(struct stream_config *c, const struct api_limits *limits,
                               bool is_window_given, struct api_error *e)
{
    if (c->replicas_count < 0) {
        return api_error_set(e, API_ERROR_REPLICAS_COUNT_CANNOT_BE_NEGATIVE, NULL);
    }
    if (c->replicas_count > API_REPLICAS_MAX) {
        return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG, "maximum replicas is %d",
                             API_REPLICAS_MAX);
    }
    c->replicas_count = c->replicas_count == 0 ? 1 : c->replicas_count;
    c->max_consumers = limit_or_unlimited(c->max_consumers);
    c->max_msgs = limit_or_unlimited(c->max_msgs);
    c->max_bytes = limit_or_unlimited(c->max_bytes);
    c->max_msgs_per_subject = limit_or_unlimited(c->max_msgs_per_subject);
    c->max_msg_size = c->max_msg_size <= 0 ? -1 : c->max_msg_size;
    if (c->max_age_ns < 0) {
        return invalid_config(e, "max age can not be negative");
    }
    if (c->max_age_ns != 0 && c->max_age_ns < 100 * NS_PER_MS) {
        return invalid_config(e, "max age needs to be >= 100ms");
    }
    if (c->duplicate_window_ns < 0) {
        return invalid_config(e, "duplicates window can not be negative");
    }
    if (!is_window_given || c->duplicate_window_ns == 0) {
        int64_t window = DUPLICATE_WINDOW_DEFAULT_NS;
        if (limits->duplicate_window_max_ns > 0 && window > limits->duplicate_window_max_ns) {
            window = limits->duplicate_window_max_ns;
        }
        if (c->max_age_ns != 0 && window > c->max_age_ns) {
            window = c->max_age_ns;
        }
        c->duplicate_window_ns = window;
    }
    if (c->max_age_ns != 0 && c->duplicate_window_ns > c->max_age_ns) {
        return invalid_config(e, "duplicates window can not be larger then max age");
    }
    if (limits->duplicate_window_max_ns > 0 &&
        c->duplicate_window_ns > limits->duplicate_window_max_ns) {
        return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG,
                             "duplicates window can not be larger then server limit of %llds",
                             (long long)(limits->duplicate_window_max_ns / 1000000000));
    }
    if (c->duplicate_window_ns < 100 * NS_PER_MS) {
        return invalid_config(e, "duplicates window needs to be >= 100ms");
    }
    return 0;
}

static int check_stream_flags(const struct stream_config *c, bool is_update, struct api_error *e)
{
    if (c->retention != RETENTION_LIMITS && !is_update) {
        return invalid_config(e,
                              "only the limits retention policy is supported by this server yet");
    }
    if (c->deny_purge && c->allow_rollup_hdrs) {
        return invalid_config(e, "roll-ups require the purge permission");
    }
    if (c->discard_new_per_subject && c->discard != DISCARD_NEW) {
        return invalid_config(e, "discard new per subject requires discard new policy to be set");
    }
    if (c->discard_new_per_subject && c->max_msgs_per_subject <= 0) {
        return invalid_config(e, "discard new per subject requires max msgs per subject > 0");
    }
    if (c->sealed && !is_update) {
        return invalid_config(e, "stream configuration for create can not be sealed");
    }
    if (c->mirror_direct) {
        return invalid_config(e, "stream has no mirror but does have mirror direct");
    }
    return 0;
}

/* Spaces that a stream may not capture, unless it never acknowledges (1.6). */
static int check_reserved(struct slice subject, bool no_ack, struct api_error *e)
{
    if (no_ack) {
        return 0;
    }
    if (slice_eq_str(subject, ">")) {
        return invalid_config(e, "capturing all subjects requires no-ack to be true");
    }
    bool is_js = subject_overlaps(subject, SLICE_LIT("$JS.>")) ||
                 subject_overlaps(subject, SLICE_LIT("$JSC.>")) ||
                 subject_overlaps(subject, SLICE_LIT("$NRG.>"));
    if (is_js && !subject_is_subset(subject, SLICE_LIT("$JS.EVENT.>"))) {
        return invalid_config(e,
                              "subjects that overlap with jetstream api require no-ack to be true");
    }
    if (subject_overlaps(subject, SLICE_LIT("$SYS.>")) &&
        !subject_is_subset(subject, SLICE_LIT("$SYS.ACCOUNT.>"))) {
        return invalid_config(e, "subjects that overlap with system api require no-ack to be true");
    }
    return 0;
}

static int check_stream_subjects(struct stream_config *c, struct api_error *e)
{
    if (c->subjects_count == 0) {
        c->subjects = xcalloc(1, sizeof *c->subjects);
        c->subjects[0] = xslicedup(slice_str(c->name));
        c->subjects_count = 1;
    }
    for (size_t i = 0; i < c->subjects_count; i++) {
        struct slice subject = slice_str(c->subjects[i]);
        if (!subject_is_valid(subject)) {
            return invalid_config(e, "invalid subject");
        }
        int rv = check_reserved(subject, c->no_ack, e);
        if (rv != 0) {
            return rv;
        }
        for (size_t k = 0; k < i; k++) {
            if (subject_overlaps(subject, slice_str(c->subjects[k]))) {
                return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG,
                                     "subject \"%.120s\" overlaps with \"%.120s\"", c->subjects[k],
                                     c->subjects[i]);
            }
        }
    }
    return 0;
}

static int check_transform(const struct transform_config *t, struct api_error *e)
{
    struct slice source = t->source == NULL ? SLICE_EMPTY : slice_str(t->source);
    struct slice destination = t->destination == NULL ? SLICE_EMPTY : slice_str(t->destination);
    if (source.len > 0 && !subject_is_valid(source)) {
        return api_error_set(e, API_ERROR_STREAM_TRANSFORM_INVALID_SOURCE, "invalid subject %s",
                             t->source);
    }
    struct buf text = BUF_EMPTY;
    int rv = subject_transform_check(source, destination, &text);
    if (rv != 0) {
        api_error_set(e, API_ERROR_STREAM_TRANSFORM_INVALID_DESTINATION, "%.*s",
                      SLICE_ARG(buf_slice(&text)));
    }
    buf_close(&text);
    return rv;
}

/* Subjects are checked before, so there are some. */
static int check_republish(struct stream_config *c, bool is_pedantic, struct api_error *e)
{
    struct republish_config *r = &c->republish;
    struct subject_transform *t;
    bool is_given = r->source != NULL || r->destination != NULL || r->headers_only;
    if (!is_given) {
        return 0;
    }
    if (r->source == NULL && is_pedantic) {
        return api_error_set(e, API_ERROR_PEDANTIC, "republish source can not be empty");
    }
    if (r->source == NULL) {
        r->source = xslicedup(SLICE_LIT(">"));
    }
    for (size_t i = 0; r->destination != NULL && i < c->subjects_count; i++) {
        if (subject_overlaps(slice_str(r->destination), slice_str(c->subjects[i]))) {
            return invalid_config(e,
                                  "stream configuration for republish destination forms a cycle");
        }
    }
    if (stream_config_republish(c, &t) != 0) {
        return api_error_set(e, API_ERROR_STREAM_INVALID_CONFIG,
                             "stream configuration for republish with transform from '%.120s' to "
                             "'%.120s' not valid",
                             r->source, r->destination);
    }
    subject_transform_free(t);
    return 0;
}

static int check_stream_config(struct stream_config *c, const struct api_limits *limits,
                               bool is_update, bool is_pedantic, struct api_error *e)
{
    bool is_window_given = c->duplicate_window_ns != 0;
    api_drop_reserved_metadata(c->metadata, &c->metadata_count);
    int rv = check_stream_names(c, e);
    if (rv == 0 && is_pedantic) {
        rv = check_stream_pedantic(c, e);
    }
    if (rv == 0) {
        rv = check_stream_limits(c, limits, is_window_given, e);
    }
    if (rv == 0) {
        rv = check_stream_flags(c, is_update, e);
    }
    if (rv == 0) {
        rv = check_stream_subjects(c, e);
    }
    if (rv == 0) {
        rv = check_transform(&c->transform, e);
    }
    if (rv == 0) {
        rv = check_republish(c, is_pedantic, e);
    }
    if (rv == 0 && c->placement.preferred != NULL) {
        rv = invalid_config(e, "preferred server not permitted in placement");
    }
    if (rv == 0 && c->replicas_count > 1 && !limits->is_clustered) {
        rv = api_error_set(e, API_ERROR_STREAM_REPLICAS_NOT_SUPPORTED, NULL);
    }
    return rv;
}

int api_read_stream_config(struct slice body, struct slice name, const struct api_limits *limits,
                           bool is_update, struct stream_config *ret_config,
                           struct api_error *ret_error)
{
    struct stream_config c;
    bool is_pedantic = false;
    stream_config_init(&c);
    c.duplicate_window_ns = 0;
    int rv = 0;
    /* An empty body decodes as one without a name, as in the reference. */
    if (body.len > 0) {
        rv = read_json_fields(body, stream_config_fields, stream_config_fields_count,
                              "StreamConfigRequest.StreamConfig", &c, &is_pedantic, ret_error);
    }
    /* An update is checked as such before it is compared with its subject. */
    if (rv == 0 && is_update) {
        rv = check_stream_config(&c, limits, is_update, is_pedantic, ret_error);
    }
    if (rv == 0 && (c.name == NULL || !slice_eq(slice_str(c.name), name))) {
        rv = api_error_set(ret_error, API_ERROR_STREAM_MISMATCH, NULL);
    }
    if (rv == 0 && has_path_separator(name)) {
        rv = api_error_set(ret_error, API_ERROR_STREAM_NAME_CONTAINS_PATH_SEPARATORS, NULL);
    }
    if (rv == 0 && !is_update) {
        rv = check_stream_config(&c, limits, is_update, is_pedantic, ret_error);
    }
    if (rv != 0) {
        stream_config_close(&c);
        return rv;
    }
    *ret_config = c;
    return 0;
}

int api_check_stream_update(const struct stream_config *old, const struct stream_config *wanted,
                            struct api_error *ret_error)
{
    if (strcmp(old->name, wanted->name) != 0) {
        return invalid_config(ret_error, "stream configuration name must match original");
    }
    if (old->storage != wanted->storage) {
        return invalid_config(ret_error, "stream configuration update can not change storage type");
    }
    if (old->retention != wanted->retention) {
        bool is_workqueue =
            old->retention == RETENTION_WORKQUEUE || wanted->retention == RETENTION_WORKQUEUE;
        return invalid_config(ret_error, is_workqueue
                                             ? "stream configuration update can not change "
                                               "retention policy to/from workqueue"
                                             : "only the limits retention policy is supported by "
                                               "this server yet");
    }
    if (old->sealed && !wanted->sealed) {
        return invalid_config(ret_error,
                              "stream configuration update can not unseal a sealed stream");
    }
    if (old->deny_delete && !wanted->deny_delete) {
        return invalid_config(ret_error,
                              "stream configuration update can not cancel deny message deletes");
    }
    if (old->deny_purge && !wanted->deny_purge) {
        return invalid_config(ret_error, "stream configuration update can not cancel deny purge");
    }
    return 0;
}

void api_seal_stream(struct stream_config *c)
{
    if (c->sealed) {
        c->max_age_ns = 0;
        c->discard = DISCARD_NEW;
        c->deny_delete = true;
        c->deny_purge = true;
        c->allow_rollup_hdrs = false;
    }
}

/* ---- Small requests ---- */

static const struct field stream_paging_fields[] = {
    {.name = "offset", .kind = FIELD_I64, .offset = offsetof(struct api_paging, offset)},
    {.name = "subject", .kind = FIELD_STRING, .offset = offsetof(struct api_paging, subject)},
};
static const struct field info_paging_fields[] = {
    {.name = "offset", .kind = FIELD_I64, .offset = offsetof(struct api_paging, offset)},
    {.name = "deleted_details",
     .kind = FIELD_BOOL,
     .offset = offsetof(struct api_paging, deleted_details)},
    {.name = "subjects_filter",
     .kind = FIELD_STRING,
     .offset = offsetof(struct api_paging, subjects_filter)},
};
static const struct field consumer_paging_fields[] = {
    {.name = "offset", .kind = FIELD_I64, .offset = offsetof(struct api_paging, offset)},
};

int api_read_paging(struct slice body, enum api_paging_kind kind, struct api_paging *ret_paging,
                    struct api_error *ret_error)
{
    static const struct {
        const struct field *fields;
        size_t count;
        const char *name;
    } kinds[] = {
        {stream_paging_fields, 2, "JSApiStreamNamesRequest"},
        {info_paging_fields, 3, "JSApiStreamInfoRequest"},
        {consumer_paging_fields, 1, "JSApiConsumersRequest"},
    };
    struct api_paging p = {0};
    int rv = !looks_like_json(body) ? 0
                                    : read_json_fields(body, kinds[kind].fields, kinds[kind].count,
                                                       kinds[kind].name, &p, NULL, ret_error);
    if (rv != 0) {
        api_paging_close(&p);
        return rv;
    }
    p.offset = p.offset < 0 ? 0 : p.offset;
    *ret_paging = p;
    return 0;
}

void api_paging_close(struct api_paging *p)
{
    free(p->subject);
    free(p->subjects_filter);
    *p = (struct api_paging){0};
}

static const struct field purge_fields[] = {
    {.name = "filter", .kind = FIELD_STRING, .offset = offsetof(struct api_purge, filter)},
    {.name = "seq", .kind = FIELD_U64, .offset = offsetof(struct api_purge, seq)},
    {.name = "keep", .kind = FIELD_U64, .offset = offsetof(struct api_purge, keep)},
};

int api_read_purge(struct slice body, struct api_purge *ret_purge, struct api_error *ret_error)
{
    struct api_purge p = {0};
    int rv = !looks_like_json(body)
                 ? 0
                 : read_json_fields(body, purge_fields, 3, "JSApiStreamPurgeRequest", &p, NULL,
                                    ret_error);
    if (rv == 0 && p.seq > 0 && p.keep > 0) {
        rv = api_error_set(ret_error, API_ERROR_BAD_REQUEST, NULL);
    }
    if (rv != 0) {
        api_purge_close(&p);
        return rv;
    }
    *ret_purge = p;
    return 0;
}

void api_purge_close(struct api_purge *p)
{
    free(p->filter);
    *p = (struct api_purge){0};
}

static const struct field msg_delete_fields[] = {
    {.name = "seq", .kind = FIELD_U64, .offset = offsetof(struct api_msg_delete, seq)},
    {.name = "no_erase", .kind = FIELD_BOOL, .offset = offsetof(struct api_msg_delete, no_erase)},
};

int api_read_msg_delete(struct slice body, struct api_msg_delete *ret_delete,
                        struct api_error *ret_error)
{
    struct api_msg_delete d = {0};
    if (api_is_empty_body(body)) {
        return api_error_set(ret_error, API_ERROR_BAD_REQUEST, NULL);
    }
    int rv =
        read_json_fields(body, msg_delete_fields, 2, "JSApiMsgDeleteRequest", &d, NULL, ret_error);
    if (rv == 0) {
        *ret_delete = d;
    }
    return rv;
}

static const struct field msg_get_fields[] = {
    {.name = "seq", .kind = FIELD_U64, .offset = offsetof(struct api_msg_get, seq)},
    {.name = "last_by_subj",
     .kind = FIELD_STRING,
     .offset = offsetof(struct api_msg_get, last_by_subj)},
    {.name = "next_by_subj",
     .kind = FIELD_STRING,
     .offset = offsetof(struct api_msg_get, next_by_subj)},
    {.name = "start_time",
     .kind = FIELD_TIME,
     .offset = offsetof(struct api_msg_get, start_time_ns)},
    {.name = "no_hdr", .kind = FIELD_BOOL, .offset = offsetof(struct api_msg_get, no_hdr)},
    {.name = "batch", .kind = FIELD_LATER, .json_type = "number"},
    {.name = "max_bytes", .kind = FIELD_LATER, .json_type = "number"},
    {.name = "multi_last", .kind = FIELD_LATER, .json_type = "array"},
    {.name = "up_to_seq", .kind = FIELD_LATER, .json_type = "number"},
    {.name = "up_to_time", .kind = FIELD_LATER, .json_type = "string"},
};

int api_read_msg_get(struct slice body, struct api_msg_get *ret_get, struct api_error *ret_error)
{
    struct api_msg_get g = {.start_time_ns = INT64_MIN};
    if (api_is_empty_body(body)) {
        return api_error_set(ret_error, API_ERROR_BAD_REQUEST, NULL);
    }
    int rv =
        read_json_fields(body, msg_get_fields, sizeof msg_get_fields / sizeof msg_get_fields[0],
                         "JSApiMsgGetRequest", &g, NULL, ret_error);
    bool has_time = g.start_time_ns != INT64_MIN;
    g.is_none = g.seq == 0 && (g.last_by_subj == NULL || g.last_by_subj[0] == 0) &&
                (g.next_by_subj == NULL || g.next_by_subj[0] == 0) && !has_time;
    bool is_conflict =
        (g.last_by_subj != NULL && (g.seq > 0 || g.next_by_subj != NULL || has_time)) ||
        (g.seq > 0 && has_time);
    if (rv == 0 && is_conflict && !g.is_none) {
        rv = api_error_set(ret_error, API_ERROR_BAD_REQUEST, NULL);
    } else if (rv != 0 && ret_error->err_code == API_ERROR_STREAM_INVALID_CONFIG) {
        /* Batches: known to the reference only on DIRECT.GET, and there from 2.11 on. */
        rv = api_error_set(ret_error, API_ERROR_BAD_REQUEST, NULL);
    }
    if (rv != 0) {
        api_msg_get_close(&g);
        return rv;
    }
    *ret_get = g;
    return 0;
}

void api_msg_get_close(struct api_msg_get *g)
{
    free(g->last_by_subj);
    free(g->next_by_subj);
    *g = (struct api_msg_get){.start_time_ns = INT64_MIN};
}

static const struct field peer_fields[] = {
    {.name = "peer", .kind = FIELD_STRING, .offset = offsetof(struct api_peer_request, peer)},
    {.name = "peer_id", .kind = FIELD_STRING, .offset = offsetof(struct api_peer_request, peer_id)},
};

int api_read_peer_request(struct slice body, struct api_peer_request *ret_request,
                          struct api_error *ret_error)
{
    struct api_peer_request p = {0};
    if (api_is_empty_body(body)) {
        return api_error_set(ret_error, API_ERROR_BAD_REQUEST, NULL);
    }
    int rv =
        read_json_fields(body, peer_fields, 2, "JSApiStreamRemovePeerRequest", &p, NULL, ret_error);
    if (rv == 0 && (p.peer == NULL || *p.peer == 0) && (p.peer_id == NULL || *p.peer_id == 0)) {
        rv = api_error_set(ret_error, API_ERROR_BAD_REQUEST, NULL);
    }
    if (rv != 0) {
        api_peer_request_close(&p);
        return rv;
    }
    *ret_request = p;
    return 0;
}

void api_peer_request_close(struct api_peer_request *p)
{
    fields_close(peer_fields, 2, p);
    *p = (struct api_peer_request){0};
}

int api_read_stepdown(struct slice body, struct placement *ret_placement,
                      struct api_error *ret_error)
{
    struct placement p = {0};
    struct field_error error;
    if (!looks_like_json(body)) {
        *ret_placement = p;
        return 0;
    }
    json_t *v = json_parse(body, &error);
    if (v == NULL) {
        return api_error_set(ret_error, API_ERROR_INVALID_JSON, "%s", error.text);
    }
    json_t *placement = json_take(v, "placement");
    int rv = fields_read(NULL, 0, v, "JSApiLeaderStepdownRequest", NULL, &error);
    if (rv == 0 && placement != NULL && !json_is_null(placement)) {
        rv = fields_read(placement_fields, PLACEMENT_FIELDS, placement, "Placement", &p, &error);
    }
    json_decref(placement);
    json_decref(v);
    if (rv != 0) {
        placement_close(&p);
        return api_error_set(ret_error, API_ERROR_INVALID_JSON, "%s", error.text);
    }
    *ret_placement = p;
    return 0;
}
