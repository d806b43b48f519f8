/* Requests that are answered once the leader has proven that it leads (js_read.c). One that could
 * not be proven looks for the leader again. */
#include <stdlib.h>

#include "cluster/js_api_internal.h"
#include "cluster/js_internal.h"
#include "cluster/js_read.h"
#include "cluster/js_stream.h"
#include "storage/base/buf.h"

struct proof {
    struct js *js;
    struct js_stream *st; /* NULL: of meta. */
    js_api_proven_cb cb;
    struct js_api_call call; /* Its slices are those below. */
    struct buf subject;
    struct buf inbox;
    struct buf header;
    struct buf body;
};

static struct slice keep(struct buf *b, struct slice s)
{
    buf_append_slice(b, s);
    return buf_slice(b);
}

static void on_proven(void *arg, bool is_proven)
{
    struct proof *p = arg;
    if (is_proven) {
        p->cb(p->js, p->st, &p->call);
    } else if (!p->js->is_stopping) {
        js_api_later(p->js, &p->call);
    }
    buf_close(&p->subject);
    buf_close(&p->inbox);
    buf_close(&p->header);
    buf_close(&p->body);
    free(p);
}

void js_api_prove(struct js *js, struct js_stream *st, const struct js_api_call *call,
                  js_api_proven_cb cb)
{
    struct proof *p = xcalloc(1, sizeof *p);
    bool is_meta;
    p->js = js;
    p->st = st;
    p->cb = cb;
    p->call.asker = call->asker;
    p->call.hops = call->hops;
    p->call.inbox = keep(&p->inbox, call->inbox);
    p->call.header = keep(&p->header, call->header);
    p->call.body = keep(&p->body, call->body);
    p->call.subject = keep(&p->subject, call->subject);
    (void)js_api_parse(p->call.subject, &p->call, &is_meta); /* As it was parsed before. */
    js_read_now(js, st == NULL ? js->meta_group : st->group,
                st == NULL ? &js->meta_reads : &st->reads, on_proven, p);
}
