/* Requests that the leader of the meta group answers: streams as such. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/api_error.h"
#include "broker/api_reply.h"
#include "broker/api_request.h"
#include "broker/json_fields.h"
#include "broker/meta.h"
#include "broker/stream.h"
#include "broker/stream_config.h"
#include "broker/subject.h"
#include "cluster/js_api.h"
#include "cluster/js_api_internal.h"
#include "cluster/js_api_place.h"
#include "cluster/js_clock.h"
#include "cluster/js_internal.h"
#include "cluster/js_limits.h"
#include "cluster/js_meta.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/router.h"
#include "storage/base/buf.h"
#include "storage/base/list.h"

#define NAMES_MAX 1024
#define LIST_MAX 256
#define LIST_WAIT_MS 4000
#define LISTS_MAX 128
#define LIST_PREFIX "$JSC.LIST."

/* A STREAM.LIST under way. */
struct js_list {
    struct list link;
    uint64_t id;
    uint64_t asker;
    char *inbox;
    uint64_t until_ms;
    size_t total;
    size_t offset;
    size_t count;
    size_t left;
    char **names;
    struct buf *infos; /* Members of one StreamInfo each; empty: not there yet. */
};

static void refuse(struct js *js, const struct js_api_call *call, enum api_error_code code,
                   const char *text)
{
    struct api_error e;
    api_error_set(&e, code, "%s", text == NULL ? "" : text);
    js_api_refuse(js, call, &e);
}

static void propose(struct js *js, const struct js_api_call *call, struct buf *entry)
{
    if (js_meta_propose(js, buf_slice(entry)) != 0) {
        refuse(js, call, API_ERROR_CLUSTER_NOT_AVAIL, NULL);
    }
    buf_close(entry);
}

/* ---- Create, update, delete ---- */

static struct api_limits limits_of(const struct js *js)
{
    return (struct api_limits){.is_clustered = js->ctx->peers != NULL};
}

static void create_stream(struct js *js, const struct js_api_call *call)
{
    struct stream_config c;
    struct api_error e;
    struct api_limits limits = limits_of(js);
    if (api_read_stream_config(call->body, call->stream, &limits, false, &c, &e) != 0) {
        js_api_refuse(js, call, &e);
        return;
    }
    uint64_t chosen[META_REPLICAS_MAX];
    const struct meta_stream *old = meta_stream_find(js->meta, call->stream);
    size_t count = (size_t)c.replicas_count;
    bool is_placed = js_api_knows_config(js, &c, &e);
    if (is_placed && old != NULL) {
        /* It is not placed again: the machine says whether it is the same. */
        count = old->peers_count;
        for (size_t i = 0; i < count; i++) {
            chosen[i] = old->peers[i].node_id;
        }
    } else if (is_placed) {
        is_placed = js_api_place_create(js, &c, chosen, &e) == 0;
    }
    if (!is_placed) {
        js_api_refuse(js, call, &e);
        stream_config_close(&c);
        return;
    }
    if (old == NULL && !js_limits_leave_room(js, &c)) {
        refuse(js, call,
               c.storage == STORAGE_MEMORY ? API_ERROR_MEMORY_RESOURCES_EXCEEDED
                                           : API_ERROR_STORAGE_RESOURCES_EXCEEDED,
               NULL);
        stream_config_close(&c);
        return;
    }
    struct buf entry = BUF_EMPTY;
    struct meta_asker asker = {call->asker, call->inbox};
    meta_encode_create(&entry, js_now_ns(js), &c, chosen, count, &asker);
    stream_config_close(&c);
    propose(js, call, &entry);
}

/* Consumers live in their stream's log, so whether they keep to new limits is its leader's to say.
 * The request itself goes there, and comes back as WEIR.LIMITS.CHECKED or is refused there. A
 * consumer made meanwhile keeps to the limits of its time. */
static bool is_for_its_leader(const struct js_api_call *call, const struct stream_config *old,
                              const struct stream_config *wanted)
{
    const struct consumer_limits *a = &old->consumer_limits;
    const struct consumer_limits *b = &wanted->consumer_limits;
    bool is_tighter =
        (b->max_ack_pending > 0 && b->max_ack_pending != a->max_ack_pending) ||
        (b->inactive_threshold_ns > 0 && b->inactive_threshold_ns != a->inactive_threshold_ns);
    return is_tighter && call->op != JS_API_LIMITS_CHECKED;
}

static void update_stream(struct js *js, const struct js_api_call *call)
{
    struct stream_config c;
    struct api_error e;
    struct api_limits limits = limits_of(js);
    if (api_read_stream_config(call->body, call->stream, &limits, true, &c, &e) != 0) {
        js_api_refuse(js, call, &e);
        return;
    }
    const struct meta_stream *old = meta_stream_find(js->meta, call->stream);
    uint64_t nodes[META_REPLICAS_MAX];
    size_t count = 0;
    if (old == NULL) {
        refuse(js, call, API_ERROR_STREAM_NOT_FOUND, NULL);
    } else if (api_check_stream_update(&old->config, &c, &e) != 0 ||
               !js_api_knows_config(js, &c, &e) ||
               js_api_place_update(js, old, &c, nodes, &count, &e) != 0) {
        js_api_refuse(js, call, &e);
    } else if (is_for_its_leader(call, &old->config, &c)) {
        js_api_pass_on(js, call, "$JS.API.WEIR.LIMITS.CHECK");
    } else {
        struct buf entry = BUF_EMPTY;
        struct meta_asker asker = {call->asker, call->inbox};
        api_seal_stream(&c);
        meta_encode_update(&entry, js_now_ns(js), &c, nodes, count, &asker);
        propose(js, call, &entry);
    }
    stream_config_close(&c);
}

static void delete_stream(struct js *js, const struct js_api_call *call)
{
    if (!api_is_empty_body(call->body)) {
        refuse(js, call, API_ERROR_NOT_EMPTY_REQUEST, NULL);
    } else if (meta_stream_find(js->meta, call->stream) == NULL) {
        refuse(js, call, API_ERROR_STREAM_NOT_FOUND, NULL);
    } else {
        struct buf entry = BUF_EMPTY;
        struct meta_asker asker = {call->asker, call->inbox};
        meta_encode_delete(&entry, js_now_ns(js), call->stream, &asker);
        propose(js, call, &entry);
    }
}

/* ---- Names and lists ---- */

static bool has_subject(const struct meta_stream *s, const char *filter)
{
    for (size_t i = 0; i < s->config.subjects_count; i++) {
        if (subject_overlaps(slice_str(s->config.subjects[i]), slice_str(filter))) {
            return true;
        }
    }
    return false;
}

/* The streams that match, sorted; the caller frees the list. */
static const struct meta_stream **select_streams(struct js *js, const char *filter,
                                                 size_t *ret_count)
{
    const struct meta_stream **list = meta_streams_sorted(js->meta);
    size_t count = 0;
    for (size_t i = 0; i < meta_streams_count(js->meta); i++) {
        if (filter == NULL || has_subject(list[i], filter)) {
            list[count++] = list[i];
        }
    }
    *ret_count = count;
    return list;
}

static void stream_names(struct js *js, const struct js_api_call *call,
                         const struct api_paging *page)
{
    size_t total;
    const struct meta_stream **list = select_streams(js, page->subject, &total);
    size_t from = (uint64_t)page->offset < total ? (size_t)page->offset : total;
    size_t to = total - from > NAMES_MAX ? from + NAMES_MAX : total;
    struct buf b = BUF_EMPTY;
    api_reply_open(&b, "stream_names_response", NULL);
    buf_append_u8(&b, ',');
    api_print_page(&b, total, from, NAMES_MAX);
    /* Of an empty page the reference says [] in a cluster that has streams, else null. */
    const char *nothing = js->ctx->peers != NULL && total > 0 ? "[]" : "null";
    buf_printf(&b, ",\"streams\":%s", from == to ? nothing : "[");
    for (size_t i = from; i < to; i++) {
        buf_append_str(&b, i == from ? "" : ",");
        json_print_string(&b, slice_str(list[i]->config.name));
    }
    buf_append_str(&b, from < to ? "]}" : "}");
    js_api_reply(js, call->asker, call->inbox, js->meta_index, SLICE_EMPTY, buf_slice(&b));
    buf_close(&b);
    free(list);
}

static void list_free(struct js_list *l)
{
    list_remove(&l->link);
    for (size_t i = 0; i < l->count; i++) {
        free(l->names[i]);
        buf_close(&l->infos[i]);
    }
    free(l->names);
    free(l->infos);
    free(l->inbox);
    free(l);
}

/* All have answered, or time is up: what is missing is named. */
static void list_end(struct js *js, struct js_list *l)
{
    struct buf b = BUF_EMPTY;
    struct buf missing = BUF_EMPTY;
    size_t printed = 0;
    api_reply_open(&b, "stream_list_response", NULL);
    buf_append_u8(&b, ',');
    api_print_page(&b, l->total, l->offset, LIST_MAX);
    buf_append_str(&b, ",\"streams\":[");
    for (size_t i = 0; i < l->count; i++) {
        if (l->infos[i].len > 0) {
            buf_append_str(&b, printed++ == 0 ? "{" : ",{");
            buf_append_slice(&b, buf_slice(&l->infos[i]));
            buf_append_u8(&b, '}');
        } else {
            buf_append_str(&missing, missing.len == 0 ? "" : ",");
            json_print_string(&missing, slice_str(l->names[i]));
        }
    }
    buf_append_u8(&b, ']');
    if (missing.len > 0) {
        buf_append_str(&b, ",\"missing\":[");
        buf_append_slice(&b, buf_slice(&missing));
        buf_append_u8(&b, ']');
    }
    buf_append_u8(&b, '}');
    js_api_reply(js, l->asker, slice_str(l->inbox), js->meta_index, SLICE_EMPTY, buf_slice(&b));
    buf_close(&b);
    buf_close(&missing);
    list_free(l);
}

static void stream_list(struct js *js, const struct js_api_call *call,
                        const struct api_paging *page)
{
    size_t total;
    size_t lists_count = 0;
    LIST_FOR(it, &js->lists)
    {
        lists_count++;
    }
    if (lists_count >= LISTS_MAX) {
        return; /* As the reference's full queue of requests: the client times out. */
    }
    const struct meta_stream **list = select_streams(js, page->subject, &total);
    struct js_list *l = xcalloc(1, sizeof *l);
    l->id = node_random(); /* No client names it as its inbox. */
    l->asker = call->asker;
    l->inbox = xslicedup(call->inbox);
    l->until_ms = loop_now_ms(js->loop) + LIST_WAIT_MS;
    l->total = total;
    l->offset = (uint64_t)page->offset < total ? (size_t)page->offset : total;
    l->count = total - l->offset > LIST_MAX ? LIST_MAX : total - l->offset;
    l->left = l->count;
    l->names = xcalloc(l->count, sizeof *l->names);
    l->infos = xcalloc(l->count, sizeof *l->infos);
    list_push_back(&js->lists, &l->link);
    for (size_t i = 0; i < l->count; i++) {
        char subject[300];
        char inbox[64];
        l->names[i] = xslicedup(slice_str(list[l->offset + i]->config.name));
        snprintf(subject, sizeof subject, "$JS.API.WEIR.INFO.%s", l->names[i]);
        snprintf(inbox, sizeof inbox, LIST_PREFIX "%llu.%zu", (unsigned long long)l->id, i);
        struct router_msg msg = {.subject = slice_str(subject), .reply = slice_str(inbox)};
        js_api_route(js, js->ctx->node_id, 0, &msg);
    }
    free(list);
    if (l->left == 0) {
        list_end(js, l);
    }
}

bool js_api_list_arrived(struct js *js, struct slice inbox, struct slice payload)
{
    if (!slice_has_prefix(inbox, SLICE_LIT(LIST_PREFIX))) {
        return false;
    }
    char text[64];
    snprintf(text, sizeof text, "%.*s", SLICE_ARG(inbox));
    char *end;
    uint64_t id = strtoull(text + sizeof LIST_PREFIX - 1, &end, 10);
    size_t at = *end == '.' ? strtoull(end + 1, NULL, 10) : SIZE_MAX;
    LIST_FOR(it, &js->lists)
    {
        struct js_list *l = container_of(it, struct js_list, link);
        if (l->id != id || at >= l->count) {
            continue;
        }
        /* An error leaves it missing. */
        if (payload.len > 0 && payload.ptr[0] != '{' && l->infos[at].len == 0) {
            buf_append_slice(&l->infos[at], payload);
        }
        if (--l->left == 0) {
            list_end(js, l);
        }
        break;
    }
    return true;
}

void js_api_list_tick(struct js *js)
{
    uint64_t now = loop_now_ms(js->loop);
    LIST_FOR_SAFE(it, tmp, &js->lists)
    {
        struct js_list *l = container_of(it, struct js_list, link);
        if (now >= l->until_ms) {
            list_end(js, l);
        }
    }
}

void js_api_list_close(struct js *js)
{
    LIST_FOR_SAFE(it, tmp, &js->lists)
    {
        list_free(container_of(it, struct js_list, link));
    }
}

/* ---- Account ---- */

static void account_info(struct js *js, const struct js_api_call *call)
{
    struct api_account_info info = {.streams_count = meta_streams_count(js->meta),
                                    .api_total = js->api_total,
                                    .api_errors = js->api_errors,
                                    .max_memory = -1,
                                    .max_storage = -1};
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        struct stream_info s;
        if (st->machine == NULL) {
            continue;
        }
        stream_get_info(st->machine, &s);
        const struct stream_config *c = stream_get_config(st->machine);
        uint64_t bytes = s.bytes * (uint64_t)c->replicas_count;
        info.consumers_count += s.consumer_count;
        if (c->storage == STORAGE_MEMORY) {
            info.memory_bytes += bytes;
        } else {
            info.storage_bytes += bytes;
        }
    }
    struct buf b = BUF_EMPTY;
    api_reply_account_info(&b, &info);
    js_api_reply(js, call->asker, call->inbox, 0, SLICE_EMPTY, buf_slice(&b));
    buf_close(&b);
}

static void list_streams(struct js *js, struct js_stream *none, const struct js_api_call *call)
{
    struct api_paging page;
    struct api_error e;
    (void)none;
    if (api_read_paging(call->body, API_PAGING_STREAMS, &page, &e) != 0) {
        js_api_refuse(js, call, &e);
        return;
    }
    if (call->op == JS_API_STREAM_NAMES) {
        stream_names(js, call, &page);
    } else {
        stream_list(js, call, &page);
    }
    api_paging_close(&page);
}

void js_api_meta(struct js *js, const struct js_api_call *call)
{
    switch (call->op) {
    case JS_API_INFO:
        account_info(js, call);
        break;
    case JS_API_STREAM_CREATE:
        create_stream(js, call);
        break;
    case JS_API_STREAM_UPDATE:
    case JS_API_LIMITS_CHECKED:
        update_stream(js, call);
        break;
    case JS_API_STREAM_DELETE:
        delete_stream(js, call);
        break;
    case JS_API_STREAM_NAMES:
    case JS_API_STREAM_LIST:
        js_api_prove(js, NULL, call, list_streams);
        break;
    case JS_API_PEER_REMOVE:
        js_api_peer_remove(js, call);
        break;
    case JS_API_SERVER_REMOVE:
        js_api_server_remove(js, call);
        break;
    case JS_API_META_STEPDOWN:
        js_api_stepdown(js, call, js->meta_group, "the meta group");
        break;
    default:
        assert(0 && "not a request of meta");
        break;
    }
}
