/* Any bytes on connections of the monitoring port, in pieces and pipelined: every request is
 * answered once, in the end every connection closes, and what was asked is told as it was. */
#include "tests/fuzz/fake_node.h"
#include "tests/fuzz/fake_uv.h"

#include "cluster/uv_http.c"

#define CONNS_MAX 4u

static struct http_request *held; /* A request that is answered later. */

static void on_now(void *arg, struct http_request *req)
{
    bool flag;
    uint64_t n = 3;
    (void)arg;
    const char *name = http_param(req, "name");
    require(name == NULL || strlen(name) < HTTP_REQUEST_BYTES_MAX);
    if (http_param_bool(req, "flag", &flag) != 0 || http_param_u64(req, "n", &n) != 0) {
        return;
    }
    require(n <= INT64_MAX);
    json_t *body = json_object();
    json_object_set_new(body, "n", json_integer((json_int_t)n));
    http_respond_json(req, 200, body);
}

static void on_later(void *arg, struct http_request *req)
{
    (void)arg;
    if (held != NULL) {
        http_respond_error(req, 503, "busy");
    } else {
        held = req;
    }
}

static bool on_drained(void *arg)
{
    (void)arg;
    return true;
}

static void on_stream(void *arg, struct http_request *req)
{
    (void)arg;
    http_stream_begin(req, "text/plain", on_drained, NULL);
    for (int i = 0; i < 3; i++) {
        if (http_stream_write(req, SLICE_LIT("a piece")) != 0) {
            break;
        }
    }
    http_stream_end(req);
}

static void answer(void)
{
    struct http_request *req = held;
    held = NULL;
    if (req != NULL) {
        http_respond(req, 200, "text/plain", SLICE_LIT("late"));
    }
}

static void step(struct http *h, struct reader *r)
{
    uint8_t op = reader_u8(r);
    struct http_conn *conns[CONNS_MAX];
    unsigned count = 0;
    LIST_FOR(it, &h->conns)
    {
        struct http_conn *c = container_of(it, struct http_conn, link);
        if (count < CONNS_MAX && !c->is_closing) {
            conns[count++] = c;
        }
    }
    struct http_conn *c = count == 0 ? NULL : conns[(op >> 4) % count];
    switch (op % 8) {
    case 0:
        if (count < CONNS_MAX) {
            on_connection((uv_stream_t *)&h->listener, 0);
        }
        break;
    case 1:
    case 2:
    case 3:
    case 4:
        if (c != NULL) {
            (void)fake_feed((uv_stream_t *)&c->tcp, script_bytes(r));
        }
        break;
    case 5:
        if (c != NULL && (op & 0x80) != 0) {
            fake_end((uv_stream_t *)&c->tcp, UV_EOF);
        }
        answer();
        break;
    case 6:
        if (fake.writes_count > 0) {
            fake_complete_write(0, (op & 0x80) != 0 ? UV_EPIPE : 0);
        }
        break;
    default:
        fake_turn(reader_u8(r) * 100u);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(slice_of(data, size));
    struct node_context ctx = {.loop = loop_new()};
    struct http *h = http_new(&ctx);
    memset(&fake, 0, sizeof fake);
    held = NULL;
    h->listener.data = h;
    http_handle(h, "/now", "now", on_now, NULL);
    http_handle(h, "/later", NULL, on_later, NULL);
    http_handle(h, "/stream", NULL, on_stream, NULL);
    on_connection((uv_stream_t *)&h->listener, 0);
    while (!script_is_over(&r)) {
        step(h, &r);
        if (fake.closes_count > FAKE_MAX / 2) {
            fake_turn(0);
        }
    }
    answer();
    while (fake.writes_count > 0) {
        fake_complete_write(0, 0);
    }
    http_stop(h);
    fake_turn(0);
    answer();
    fake_turn(0);
    require(list_is_empty(&h->conns) && h->conns_count == 0);
    http_free(h);
    loop_free(ctx.loop);
    return 0;
}
