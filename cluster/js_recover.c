/* `weir recover`. In this order, so that it can be cut off anywhere and run again:
 *
 *   lock the store, open log and store as a start does, show what is there
 *   a new cluster uuid, durable: from here on no node of the old cluster is let in
 *   each group, meta first: this replica alone, by an entry of its log; in meta's log also that the
 *   other nodes are removed, so that nodes to come get their replicas
 *
 * When the node starts, it leads all its groups, and everything else is membership as usual. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "broker/api_error.h"
#include "broker/meta.h"
#include "cluster/identity.h"
#include "cluster/js_birth.h"
#include "cluster/js_internal.h"
#include "cluster/js_meta.h"
#include "cluster/node.h"
#include "cluster/peers.h"
#include "cluster/recover.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"
#include "storage/file_ops.h"
#include "storage/store.h"
#include "storage/wal.h"

static const char usage[] =
    "Usage: weir recover --store_dir DIR [--confirm]\n"
    "\n"
    "A majority of the cluster's disks is lost for good, and this node is to go on alone with "
    "what\n"
    "it has. Without --confirm it only shows what that is. Read docs/recover.md first: messages\n"
    "that were acknowledged and are not on this disk are lost, and no other node of the old "
    "cluster\n"
    "can ever come back with its data.\n";

struct request {
    const char *store_dir;
    bool is_confirmed;
};

static bool is_word(const char *arg, const char *name)
{
    size_t dashes = strspn(arg, "-");
    return dashes >= 1 && dashes <= 2 && strcmp(arg + dashes, name) == 0;
}

static bool read_args(int count, char **args, struct request *r)
{
    for (int i = 0; i < count; i++) {
        if ((is_word(args[i], "store_dir") || is_word(args[i], "sd")) && i + 1 < count) {
            r->store_dir = args[++i];
        } else if (is_word(args[i], "confirm")) {
            r->is_confirmed = true;
        } else {
            return false;
        }
    }
    return r->store_dir != NULL;
}

/* ---- What meta knows ---- */

static void on_stream(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                      uint64_t index)
{
    (void)arg;
    (void)s;
    (void)asker;
    (void)index;
}

static void on_refused(void *arg, const char *type, const struct api_error *error,
                       const struct meta_asker *asker, uint64_t index)
{
    (void)arg;
    (void)type;
    (void)error;
    (void)asker;
    (void)index;
}

static void on_node(void *arg, const struct meta_node *n)
{
    (void)arg;
    (void)n;
}

static void on_removed(void *arg, const struct meta_node *n, const struct meta_asker *asker,
                       uint64_t index)
{
    (void)asker;
    (void)index;
    on_node(arg, n);
}

static void apply(void *arg, uint64_t index, struct slice bytes)
{
    struct js *js = arg;
    if (index > js->meta_index && !js->is_meta_failed) {
        js->is_meta_failed = meta_apply(js->meta, index, bytes) != 0;
        js->meta_index = index;
    }
}

/* The state that meta will have once all of its log here is committed. */
static int load_meta(struct js *js)
{
    struct meta_events events = {.created = on_stream,
                                 .repeated = on_stream,
                                 .updated = on_stream,
                                 .placed = on_stream,
                                 .deleted = on_stream,
                                 .refused = on_refused,
                                 .node_changed = on_node,
                                 .node_removed = on_removed,
                                 .arg = js};
    int rv = 0;
    js->meta_store = store_find(js->store, META_GID);
    if (js->meta_store == NULL) {
        js->meta = meta_new(&events);
    } else {
        rv = js_meta_load(js, &events);
    }
    if (rv == 0) {
        host_each_found_entry(js->host, META_GID, apply, js);
        rv = js->is_meta_failed ? ERR_CORRUPT : 0;
    }
    return rv;
}

/* ---- A group ---- */

enum verdict {
    VERDICT_FINE,    /* This node is its only member already. */
    VERDICT_RECOVER, /* It can lead alone. */
    VERDICT_ABSENT,  /* No replica here. */
    VERDICT_DAMAGED  /* There is one, which cannot be used. */
};

static enum verdict judge(struct js *js, uint64_t gid, struct group_found *found)
{
    struct group_member members[HOST_MEMBERS_MAX];
    unsigned count = 0;
    struct store_stream *s = store_find(js->store, gid);
    uint64_t applied = 0, term = 0;
    if (!host_find_group(js->host, gid, found)) {
        return VERDICT_ABSENT;
    }
    if (s != NULL) {
        store_stream_applied(s, &applied, &term);
    }
    if (host_found_members(js->host, gid, members, &count) != 0 || applied > found->last_index) {
        return VERDICT_DAMAGED;
    }
    bool is_in = false;
    for (unsigned i = 0; i < count; i++) {
        is_in = is_in || members[i].raft_id == found->raft_id;
    }
    return !is_in ? VERDICT_ABSENT : count == 1 ? VERDICT_FINE : VERDICT_RECOVER;
}

static enum verdict show(struct js *js, const char *name, uint64_t gid, size_t peers_count)
{
    struct group_found found = {0};
    enum verdict v = judge(js, gid, &found);
    printf("  %-24s of %zu  ", name, peers_count);
    switch (v) {
    case VERDICT_FINE:
        printf("index %llu, term %llu: has no other replica, and keeps everything\n",
               (unsigned long long)found.last_index, (unsigned long long)found.term);
        break;
    case VERDICT_RECOVER:
        printf("index %llu, term %llu: what was acknowledged above this index is lost%s\n",
               (unsigned long long)found.last_index, (unsigned long long)found.term,
               found.is_suspect ? "; the log here is DAMAGED and may lack more" : "");
        break;
    case VERDICT_ABSENT:
        printf("no replica here: ALL ITS MESSAGES ARE LOST. Delete it and create it again\n");
        break;
    case VERDICT_DAMAGED:
        printf("the replica here is damaged and cannot lead: ITS MESSAGES ARE LOST\n");
        break;
    }
    return v;
}

/* ---- Doing it ---- */

static int write_log(struct js *js)
{
    const char *path = NULL;
    int rv = 0;
    while (rv == 0 && wal_batch_take(js->wal)) {
        rv = wal_batch_write(js->wal, &path);
        wal_batch_done(js->wal);
    }
    if (rv != 0) {
        fprintf(stderr, "weir recover: writing %s: %s\n", path == NULL ? js->dir : path,
                strerror(errno));
    }
    return rv;
}

/* The other nodes are gone: nobody waits for them, and what they had is placed elsewhere. */
static int recover_meta(struct js *js)
{
    struct slice entries[PEERS_MAX];
    struct buf bytes[PEERS_MAX];
    struct timespec now;
    unsigned count = 0;
    clock_gettime(CLOCK_REALTIME, &now);
    for (const struct meta_node *n = meta_nodes(js->meta); n != NULL; n = n->hh.next) {
        if (n->node_id != js->ctx->node_id && !n->is_removed && count < PEERS_MAX) {
            bytes[count] = BUF_EMPTY;
            meta_encode_forget(&bytes[count], now.tv_sec * INT64_C(1000000000) + now.tv_nsec,
                               n->node_id, &(struct meta_asker){0});
            entries[count] = buf_slice(&bytes[count]);
            count++;
        }
    }
    int rv = host_recover_group(js->host, META_GID, entries, count);
    for (unsigned i = 0; i < count; i++) {
        buf_close(&bytes[i]);
    }
    return rv;
}

static int recover_all(struct js *js, const struct meta_stream *const *list, size_t count)
{
    struct group_found found;
    int rv = js_birth_renew(js);
    if (rv != 0) {
        fprintf(stderr, "weir recover: writing %s/birth: %s\n", js->dir, err_text(rv));
        return rv;
    }
    rv = judge(js, META_GID, &found) == VERDICT_RECOVER ? recover_meta(js) : 0;
    for (size_t i = 0; i < count && rv == 0; i++) {
        if (judge(js, list[i]->gid, &found) == VERDICT_RECOVER) {
            rv = host_recover_group(js->host, list[i]->gid, NULL, 0);
            rv = rv == 0 ? write_log(js) : rv; /* Each: a batch is bounded. */
        }
    }
    return rv == 0 ? write_log(js) : rv;
}

static void show_nodes(struct js *js)
{
    printf(
        "Nodes that will be removed from the cluster, and can come back only with empty stores:");
    unsigned count = 0;
    for (const struct meta_node *n = meta_nodes(js->meta); n != NULL; n = n->hh.next) {
        if (n->node_id != js->ctx->node_id && !n->is_removed) {
            printf("%s %s", count++ == 0 ? "" : ",", n->name);
        }
    }
    printf("%s\n", count == 0 ? " none" : "");
}

static int recover(struct js *js, const struct request *r)
{
    if (load_meta(js) != 0) {
        fprintf(stderr, "weir recover: the meta group's state in %s cannot be read\n", js->dir);
        return 1;
    }
    const struct meta_stream **list = meta_streams_sorted(js->meta);
    size_t count = meta_streams_count(js->meta);
    size_t nodes = 0;
    for (const struct meta_node *n = meta_nodes(js->meta); n != NULL; n = n->hh.next) {
        nodes += !n->is_removed;
    }
    printf("Groups in %s, and how far their logs go here:\n", js->dir);
    enum verdict meta = show(js, "(meta)", META_GID, nodes);
    for (size_t i = 0; i < count; i++) {
        (void)show(js, list[i]->config.name, list[i]->gid, list[i]->peers_count);
    }
    show_nodes(js);
    int status = 0;
    if (meta == VERDICT_ABSENT || meta == VERDICT_DAMAGED) {
        fprintf(stderr, "weir recover: the meta group is not usable here; try another node's disk. "
                        "Nothing was changed\n");
        status = 1;
    } else if (!r->is_confirmed) {
        printf("Nothing was changed. Compare this with every other disk that is left, choose the "
               "one with the highest\nterms and indexes, and run this there again with --confirm. "
               "On no other.\n");
    } else if (recover_all(js, list, count) != 0) {
        fprintf(stderr, "weir recover: not completed: run it again before the node is started\n");
        status = 1;
    } else {
        printf("Done: this node is a cluster of its own now. Start it; then start new nodes with "
               "empty stores and routes to it.\n");
    }
    free(list);
    return status;
}

static int refuse(const char *store_dir, const char *why)
{
    fprintf(stderr, "weir recover: %s: %s. Nothing was changed\n", store_dir, why);
    return 1;
}

int recover_main(int args_count, char **args)
{
    struct request r = {0};
    struct identity id;
    struct node_context ctx = {0};
    struct js js = {.ctx = &ctx};
    if (!read_args(args_count, args, &r)) {
        fputs(usage, stderr);
        return 1;
    }
    int rv = identity_lock(r.store_dir);
    if (rv == ERR_EXISTS) {
        return refuse(r.store_dir, "a node runs on it: stop it first");
    }
    rv = rv == 0 ? identity_look(file_ops_posix(), r.store_dir, &id) : rv;
    if (rv != 0) {
        return refuse(r.store_dir, rv == ERR_NOTFOUND ? "there is no store of weir" : err_text(rv));
    }
    memcpy(ctx.uuid, id.uuid, sizeof ctx.uuid);
    ctx.node_id = identity_node_id(&id);
    struct buf dir = BUF_EMPTY;
    buf_printf(&dir, "%s/weir", r.store_dir);
    js.dir = xslicedup(buf_slice(&dir));
    buf_close(&dir);
    int status = 1;
    rv = js_birth_look(&js);
    if (rv != 0) {
        status = refuse(r.store_dir, rv == ERR_NOTFOUND ? "it belongs to no cluster"
                                                        : "its birth record cannot be read");
    } else if (js_open_files(&js, 1) != 0) {
        status = refuse(r.store_dir, "its log or its store cannot be opened");
    } else {
        status = recover(&js, &r);
    }
    fflush(stdout);
    /* What is in memory goes with the process: nothing here is written at its end. */
    meta_free(js.meta);
    host_close(js.host);
    store_close(js.store);
    wal_close(js.wal);
    free(js.dir);
    return status;
}
