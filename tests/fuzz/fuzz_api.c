/* Any bytes as the body of each request of the JetStream API. What is accepted as a configuration
 * prints as JSON that says the same, is a machine's beginning, and is an update of itself. Input: a
 * byte that says which request, a byte of circumstances, the body. */
#include "broker/ack.h"
#include "broker/api_reply.h"
#include "broker/api_request.h"
#include "broker/consumer.h"
#include "broker/json_scan.h"
#include "broker/stream.h"
#include "storage/base/err.h"
#include "tests/fuzz/fuzz.h"

static const char old_json[] = "{\"name\":\"S\",\"subjects\":[\"a.>\",\"b\"],\"max_msgs\":10,"
                               "\"num_replicas\":3,\"metadata\":{\"k\":\"v\"}}";

/* A refusal says why, with a code that the reference has. */
static void require_error(int rv, const struct api_error *e)
{
    struct buf out = BUF_EMPTY;
    require(rv == ERR_INVALID);
    require(e->err_code != 0 && e->text[0] != 0);
    api_error_print(e, &out);
    buf_close(&out);
}

static void stream(struct slice body, uint8_t how)
{
    struct api_limits limits = {(how & 1) != 0, (how & 2) != 0 ? 1000 : 0,
                                (how & 4) != 0 ? 1000000000 : 0};
    struct api_error e = {0};
    struct stream_config c, again, old;
    bool is_update = (how & 8) != 0;
    int rv = api_read_stream_config(body, SLICE_LIT("S"), &limits, is_update, &c, &e);
    if (rv != 0) {
        require_error(rv, &e);
        return;
    }
    api_seal_stream(&c);
    struct buf json = BUF_EMPTY;
    stream_config_print(&c, &json);
    require(stream_config_parse(&again, buf_slice(&json)) == 0);
    require(stream_config_eq(&c, &again));
    struct stream *machine;
    require(stream_new(buf_slice(&json), 1, &consumer_ops, &machine) == 0);
    stream_check(machine);
    stream_free(machine);
    require(api_check_stream_update(&c, &again, &e) == 0 || c.sealed || e.err_code != 0);
    require(stream_config_parse(&old, slice_str(old_json)) == 0);
    rv = api_check_stream_update(&old, &c, &e);
    if (rv != 0) {
        require_error(rv, &e);
    }
    buf_close(&json);
    stream_config_close(&old);
    stream_config_close(&again);
    stream_config_close(&c);
}

static void consumer(struct slice body, uint8_t how)
{
    struct api_limits limits = {(how & 1) != 0, (how & 2) != 0 ? 1000 : 0, 0};
    struct api_consumer_subject subject = {.stream = SLICE_LIT("S"),
                                           .name = how & 4 ? SLICE_LIT("c") : SLICE_EMPTY,
                                           .filter = how & 8 ? SLICE_LIT("a.b") : SLICE_EMPTY,
                                           .is_durable_form = (how & 16) != 0};
    struct stream_config s;
    require(stream_config_parse(&s, slice_str(old_json)) == 0);
    s.retention = how & 32 ? RETENTION_WORKQUEUE : RETENTION_LIMITS;
    struct api_error e = {0};
    struct consumer_config c, again;
    enum consumer_action action;
    int rv =
        api_read_consumer_config(body, &subject, &limits, how & 64 ? NULL : &s, &c, &action, &e);
    stream_config_close(&s);
    if (rv != 0) {
        require_error(rv, &e);
        return;
    }
    api_default_inactive(&c, NULL);
    if (c.name == NULL) { /* The caller's. */
        c.name = xstrndup("generated", 9);
    }
    struct buf json = BUF_EMPTY;
    consumer_config_print(&c, &json);
    require(consumer_config_parse(&again, buf_slice(&json)) == 0);
    require(consumer_config_eq(&c, &again));
    rv = api_check_consumer_update(&c, &again, &e);
    require(rv == 0);
    buf_close(&json);
    consumer_config_close(&again);
    consumer_config_close(&c);
}

static void others(struct slice body, uint8_t which, uint8_t how)
{
    struct api_error e = {0};
    int rv = 0;
    switch (which) {
    case 2: {
        struct api_paging p;
        rv = api_read_paging(body, (enum api_paging_kind)(how % 3), &p, &e);
        if (rv == 0) {
            require(p.offset >= 0);
            api_paging_close(&p);
        }
        break;
    }
    case 3: {
        struct api_purge p;
        rv = api_read_purge(body, &p, &e);
        if (rv == 0) {
            api_purge_close(&p);
        }
        break;
    }
    case 4: {
        struct api_msg_delete d;
        rv = api_read_msg_delete(body, &d, &e);
        break;
    }
    case 5: {
        struct api_msg_get g;
        rv = api_read_msg_get(body, &g, &e);
        if (rv == 0) {
            api_msg_get_close(&g);
        }
        break;
    }
    default:
        (void)api_is_empty_body(body);
        break;
    }
    if (rv != 0) {
        require_error(rv, &e);
    }
}

static void on_member(void *arg, struct slice key, enum json_scan_type type, struct slice value)
{
    size_t *sum = arg;
    int64_t n;
    *sum += key.len + value.len;
    if (type == JSON_SCAN_NUMBER) {
        (void)json_scan_int(value, &n);
    }
}

/* Pulls, acks and their subjects. */
static void hot(struct slice body, uint8_t how)
{
    struct pull_request r;
    struct ack_payload a;
    struct ack_subject s;
    char error[JSON_SCAN_ERROR_BYTES];
    size_t sum = 0;
    int64_t ns;
    const char *why = pull_request_parse(body, &r);
    require(why != NULL || r.batch >= 1);
    require(why == NULL || strchr(why, '\n') == NULL);
    ack_payload_parse(body, &a);
    (void)json_scan_object(body, error, &sum, on_member);
    require(sum <= body.len);
    if (how % 2 == 0 && ack_subject_parse(body, &s)) {
        struct buf out = BUF_EMPTY;
        ack_subject_print(&out, &s);
        require(out.len == ack_subject_size(&s));
        buf_close(&out);
    }
    if (duration_parse(body, &ns)) {
        struct buf out = BUF_EMPTY;
        int64_t again;
        duration_print(&out, ns);
        require(duration_parse(buf_slice(&out), &again) && again == ns);
        buf_close(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct slice body = slice_of(data + 2, size - 2);
    switch (data[0] % 8) {
    case 0:
        stream(body, data[1]);
        break;
    case 1:
        consumer(body, data[1]);
        break;
    case 7:
        hot(body, data[1]);
        break;
    default:
        others(body, data[0] % 8, data[1]);
        break;
    }
    return 0;
}
