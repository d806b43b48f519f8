/* Reads as of now. A leader that slept, or that hears nobody, does not know yet that there is
 * another one, and what it has may be old. So it first proves by a round to the voters that it
 * still leads, and answers when it has applied what was committed then (raft-guide 5). */
#include <stdlib.h>

#include "cluster/js_internal.h"

struct js_read {
    struct list link;
    uint64_t token;
    uint64_t index; /* 0: not proven yet. */
    js_proven_cb cb;
    void *arg;
};

static void end(struct js_stream *st, struct js_read *r, bool is_proven)
{
    list_remove(&r->link);
    r->cb(st, r->arg, is_proven);
    free(r);
}

void js_read_now(struct js_stream *st, js_proven_cb cb, void *arg)
{
    struct js_read *r = xcalloc(1, sizeof *r);
    *r = (struct js_read){.token = js_next_id(st->js), .cb = cb, .arg = arg};
    list_push_back(&st->reads, &r->link);
    js_lock(st->js);
    int rv = group_read_index(st->group, r->token);
    js_unlock(st->js);
    if (rv != 0) {
        end(st, r, false);
    }
}

void js_read_proven(struct js_stream *st, uint64_t token, bool is_ok, uint64_t index)
{
    LIST_FOR_SAFE(it, tmp, &st->reads)
    {
        struct js_read *r = container_of(it, struct js_read, link);
        if (r->token != token) {
            continue;
        }
        if (is_ok) {
            r->index = index;
            js_read_applied(st);
        } else {
            end(st, r, false);
        }
        return;
    }
}

void js_read_applied(struct js_stream *st)
{
    /* Proofs come in the order of asking. */
    while (!list_is_empty(&st->reads)) {
        struct js_read *r = container_of(st->reads.next, struct js_read, link);
        if (r->index == 0 || r->index > st->applied_index) {
            return;
        }
        end(st, r, true);
    }
}

void js_read_close(struct js_stream *st)
{
    while (!list_is_empty(&st->reads)) {
        end(st, container_of(st->reads.next, struct js_read, link), false);
    }
}
