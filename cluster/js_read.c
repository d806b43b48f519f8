/* Reads as of now. A leader that slept, or that hears nobody, does not know yet that there is
 * another one, and what it has may be old. So it first proves by a round to the voters that it
 * still leads, and answers when it has applied what was committed then (raft-guide 5). All reads of
 * a turn share one round. */
#include "cluster/js_read.h"

#include <stdlib.h>

#include "cluster/js_internal.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/list.h"

struct js_read {
    struct list link;
    uint64_t token;
    uint64_t index; /* 0: not proven yet. */
    js_proven_cb cb;
    void *arg;
};

static void end(struct js_read *r, bool is_proven)
{
    list_remove(&r->link);
    r->cb(r->arg, is_proven);
    free(r);
}

void js_read_now(struct js *js, struct raft_group *group, struct list *reads, js_proven_cb cb,
                 void *arg)
{
    struct js_read *r = xcalloc(1, sizeof *r);
    *r = (struct js_read){.token = js_next_id(js), .cb = cb, .arg = arg};
    list_push_back(reads, &r->link);
    js_lock(js);
    int rv = group_read_index(group, r->token);
    js_unlock(js);
    if (rv != 0) {
        end(r, false);
    }
}

void js_read_proven(struct list *reads, uint64_t token, bool is_ok, uint64_t index,
                    uint64_t applied)
{
    LIST_FOR_SAFE(it, tmp, reads)
    {
        struct js_read *r = container_of(it, struct js_read, link);
        if (r->token != token) {
            continue;
        }
        if (is_ok) {
            r->index = index;
            js_read_applied(reads, applied);
        } else {
            end(r, false);
        }
        return;
    }
}

void js_read_applied(struct list *reads, uint64_t applied)
{
    /* Proofs come in the order of asking. */
    while (!list_is_empty(reads)) {
        struct js_read *r = container_of(reads->next, struct js_read, link);
        if (r->index == 0 || r->index > applied) {
            return;
        }
        end(r, true);
    }
}

void js_read_close(struct list *reads)
{
    while (!list_is_empty(reads)) {
        end(container_of(reads->next, struct js_read, link), false);
    }
}
