/* /connz and /subsz: snapshots of the connections, and the ring of those that ended. */
#include <stdlib.h>

#include "broker/subject.h"
#include "cluster/monitor.h"
#include "cluster/uv_client.h"

static char *dup_or_null(const char *s)
{
    return s == NULL ? NULL : xstrndup(s, strlen(s));
}

/* Strings are borrowed when @is_copy is false. */
static void record_fill(struct client_record *r, const struct client *c, bool is_copy)
{
    *r = (struct client_record){
        .cid = c->cid,
        .port = c->port,
        .start_ns = c->start_ns,
        .last_ns = c->last_ns,
        .rtt_ns = c->rtt_ns,
        .pending_bytes = c->pending_bytes,
        .in_msgs = c->in_msgs,
        .in_bytes = c->in_bytes,
        .out_msgs = c->out_msgs,
        .out_bytes = c->out_bytes,
        .stalls = c->stalls,
        .subs_count = c->subs_count,
        .client = is_copy ? NULL : c,
        .name = is_copy ? dup_or_null(c->connect.name) : c->connect.name,
        .lang = is_copy ? dup_or_null(c->connect.lang) : c->connect.lang,
        .version = is_copy ? dup_or_null(c->connect.version) : c->connect.version,
        .user = is_copy ? dup_or_null(c->connect.user) : c->connect.user,
    };
    memcpy(r->ip, c->ip, sizeof r->ip);
}

static void record_close(struct client_record *r)
{
    free(r->name);
    free(r->lang);
    free(r->version);
    free(r->user);
}

void client_record_closed(struct client *c)
{
    struct clients *cs = c->cs;
    int64_t max = cs->ctx->options->max_closed_clients;
    if (max <= 0) {
        return;
    }
    if (cs->closed_count < (uint64_t)max) {
        if (cs->closed_count == cs->closed_cap) {
            cs->closed_cap = cs->closed_cap == 0 ? 16 : cs->closed_cap * 2;
            cs->closed = xrealloc(cs->closed, cs->closed_cap * sizeof *cs->closed);
        }
        cs->closed_at = cs->closed_count++;
    } else {
        cs->closed_at = (cs->closed_at + 1) % cs->closed_count;
        record_close(&cs->closed[cs->closed_at]);
    }
    struct client_record *r = &cs->closed[cs->closed_at];
    record_fill(r, c, true);
    r->stop_ns = loop_clock_ns(cs->ctx->loop);
    r->reason = protocol_error_reason(c->doom);
}

void clients_free_records(struct clients *cs)
{
    for (uint32_t i = 0; i < cs->closed_count; i++) {
        record_close(&cs->closed[i]);
    }
    free(cs->closed);
}

static json_t *subs_list(const struct client *c, bool is_detail)
{
    json_t *list = json_array();
    for (const struct client_sub *s = c->subs; s != NULL; s = s->hh.next) {
        struct slice subject = interest_subject(&s->sub.interest);
        if (!is_detail) {
            json_array_append_new(list, monitor_text_json(subject));
            continue;
        }
        json_array_append_new(list, monitor_sub_json(subject, interest_queue(&s->sub.interest),
                                                     slice_of(s->sid, s->sid_len), s->delivered,
                                                     s->max, c->cid));
    }
    return list;
}

static json_t *record_json(const struct client_record *r, const struct clients_connz *q,
                           int64_t now_ns)
{
    json_t *j = json_object();
    json_object_set_new(j, "cid", json_integer((json_int_t)r->cid));
    json_object_set_new(j, "kind", json_string("Client"));
    json_object_set_new(j, "type", json_string("nats"));
    json_object_set_new(j, "ip", json_string(r->ip));
    json_object_set_new(j, "port", json_integer(r->port));
    json_object_set_new(j, "start", monitor_time_json(r->start_ns));
    json_object_set_new(j, "last_activity", monitor_time_json(r->last_ns));
    if (r->reason != NULL) {
        json_object_set_new(j, "stop", monitor_time_json(r->stop_ns));
        json_object_set_new(j, "reason", json_string(r->reason));
    }
    if (r->rtt_ns != 0) {
        json_object_set_new(j, "rtt", monitor_duration_json((int64_t)r->rtt_ns));
    }
    int64_t end_ns = r->reason != NULL ? r->stop_ns : now_ns;
    json_object_set_new(j, "uptime", monitor_uptime_json(end_ns - r->start_ns));
    json_object_set_new(j, "idle", monitor_uptime_json(end_ns - r->last_ns));
    json_object_set_new(j, "pending_bytes", json_integer((json_int_t)r->pending_bytes));
    json_object_set_new(j, "in_msgs", json_integer((json_int_t)r->in_msgs));
    json_object_set_new(j, "out_msgs", json_integer((json_int_t)r->out_msgs));
    json_object_set_new(j, "in_bytes", json_integer((json_int_t)r->in_bytes));
    json_object_set_new(j, "out_bytes", json_integer((json_int_t)r->out_bytes));
    if (r->stalls != 0) {
        json_object_set_new(j, "stalls", json_integer((json_int_t)r->stalls));
    }
    json_object_set_new(j, "subscriptions", json_integer((json_int_t)r->subs_count));
    if (r->name != NULL) {
        json_object_set_new(j, "name", json_string(r->name));
    }
    if (r->lang != NULL) {
        json_object_set_new(j, "lang", json_string(r->lang));
    }
    if (r->version != NULL) {
        json_object_set_new(j, "version", json_string(r->version));
    }
    if (q->is_auth) {
        if (r->client != NULL) {
            json_object_set_new(j, "name_tag", json_string("$G"));
        }
        if (r->user != NULL) {
            json_object_set_new(j, "authorized_user", json_string(r->user));
        }
    }
    if (r->client != NULL && q->has_subs_detail && r->subs_count > 0) {
        json_object_set_new(j, "subscriptions_list_detail", subs_list(r->client, true));
    } else if (r->client != NULL && q->has_subs && r->subs_count > 0) {
        json_object_set_new(j, "subscriptions_list", subs_list(r->client, false));
    }
    return j;
}

/* What a sort key compares, and whether the largest come first. */
struct sort_key {
    const char *name;
    size_t offset;
    bool is_descending;
};

#define KEY(name, field, descending)                                                               \
    {                                                                                              \
        name, offsetof(struct client_record, field), descending                                    \
    }

static const struct sort_key sort_keys[] = {
    KEY("cid", cid, false),           KEY("start", start_ns, false),
    KEY("subs", subs_count, true),    KEY("pending", pending_bytes, true),
    KEY("msgs_to", out_msgs, true),   KEY("msgs_from", in_msgs, true),
    KEY("bytes_to", out_bytes, true), KEY("bytes_from", in_bytes, true),
    KEY("last", last_ns, true),       KEY("idle", last_ns, false),
    KEY("uptime", start_ns, false),   KEY("stop", stop_ns, true),
    KEY("reason", reason, false),     KEY("rtt", rtt_ns, true),
};

static int compare(const void *a, const void *b, void *arg)
{
    const struct sort_key *key = arg;
    uint64_t va, vb;
    memcpy(&va, (const char *)a + key->offset, sizeof va);
    memcpy(&vb, (const char *)b + key->offset, sizeof vb);
    int order = (va > vb) - (va < vb);
    if (order == 0) {
        uint64_t ca = ((const struct client_record *)a)->cid;
        uint64_t cb = ((const struct client_record *)b)->cid;
        return (ca > cb) - (ca < cb);
    }
    return key->is_descending ? -order : order;
}

static bool is_wanted(const struct client_record *r, const struct clients_connz *q)
{
    return (q->cid == 0 || r->cid == q->cid) &&
           (q->user == NULL || (r->user != NULL && strcmp(q->user, r->user) == 0));
}

static uint32_t collect(struct clients *cs, const struct clients_connz *q,
                        struct client_record *records)
{
    uint32_t count = 0;
    struct client *c, *tmp;
    if (q->state != 1) {
        HASH_ITER(hh, cs->by_cid, c, tmp)
        {
            if (c->state == CLIENT_OPEN) {
                record_fill(&records[count], c, false);
                count += is_wanted(&records[count], q);
            }
        }
    }
    for (uint32_t i = 0; q->state != 0 && i < cs->closed_count; i++) {
        records[count] = cs->closed[i];
        count += is_wanted(&records[count], q);
    }
    return count;
}

json_t *clients_connz(struct clients *cs, const struct clients_connz *q)
{
    const struct sort_key *key = NULL;
    for (size_t i = 0; i < sizeof sort_keys / sizeof *sort_keys; i++) {
        if (strcmp(sort_keys[i].name, q->sort) == 0) {
            key = &sort_keys[i];
        }
    }
    if (key == NULL) {
        return NULL;
    }
    struct client_record *records =
        xcalloc(HASH_COUNT(cs->by_cid) + cs->closed_count + 1, sizeof *records);
    uint32_t count = collect(cs, q, records);
    qsort_r(records, count, sizeof *records, compare, (void *)key);
    int64_t now_ns = loop_clock_ns(cs->ctx->loop);
    json_t *list = json_array();
    for (uint64_t i = q->offset; i < count && i - q->offset < q->limit; i++) {
        json_array_append_new(list, record_json(&records[i], q, now_ns));
    }
    free(records);
    json_t *j = json_object();
    json_object_set_new(j, "server_id", json_string(cs->ctx->server_id));
    json_object_set_new(j, "now", monitor_time_json(now_ns));
    json_object_set_new(j, "num_connections", json_integer((json_int_t)json_array_size(list)));
    json_object_set_new(j, "total", json_integer(count));
    json_object_set_new(j, "offset", json_integer((json_int_t)q->offset));
    json_object_set_new(j, "limit", json_integer((json_int_t)q->limit));
    json_object_set_new(j, "connections", list);
    return j;
}

json_t *clients_subsz(struct clients *cs, const char *test, uint64_t offset, uint64_t limit,
                      uint64_t *ret_total)
{
    json_t *list = json_array();
    uint64_t total = 0;
    struct client *c, *tmp;
    HASH_ITER(hh, cs->by_cid, c, tmp)
    {
        for (const struct client_sub *s = c->subs; s != NULL; s = s->hh.next) {
            struct slice subject = interest_subject(&s->sub.interest);
            if (test != NULL && !subject_match(slice_str(test), subject)) {
                continue;
            }
            if (total >= offset && total - offset < limit) {
                json_t *j =
                    monitor_sub_json(subject, interest_queue(&s->sub.interest),
                                     slice_of(s->sid, s->sid_len), s->delivered, s->max, c->cid);
                json_object_set_new(j, "account", json_string("$G"));
                json_object_set_new(j, "account_tag", json_string("$G"));
                json_array_append_new(list, j);
            }
            total++;
        }
    }
    *ret_total = total;
    return list;
}
