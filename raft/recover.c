/* A majority is lost for good: what is left leads alone (raft-guide-members, residual).
 *
 * Offline, on groups that were found and not opened. Behind the last entry a configuration is put
 * in which this replica is the only voter, in a new term with its vote. Whatever is in its log is
 * committed by that, also what never was before: nobody can say any more what was. What others had
 * and this one has not is lost. */
#include <raft.h>

#include "raft/host_internal.h"
#include "storage/base/err.h"

static struct raft_group *find(const struct raft_host *h, uint64_t gid)
{
    struct raft_group *g;
    HASH_FIND(hh, h->groups, &gid, sizeof gid, g);
    return g;
}

int host_found_members(const struct raft_host *h, uint64_t gid,
                       struct group_member ret_members[HOST_MEMBERS_MAX], unsigned *ret_count)
{
    const struct raft_group *g = find(h, gid);
    struct conf c;
    if (g == NULL) {
        return ERR_NOTFOUND;
    }
    struct slice bytes = buf_slice(&g->base.conf.bytes);
    for (size_t i = 0; i < g->suffix_count; i++) {
        const struct raft_entry *e = &g->suffix[i];
        if (e->type == RAFT_CHANGE && g->suffix_first + i > g->base.index) {
            bytes = slice_of(e->buf.base, e->buf.len);
        }
    }
    if (bytes.len == 0 || conf_decode(bytes, &c) != 0) {
        return ERR_CORRUPT;
    }
    memcpy(ret_members, c.members, c.count * sizeof *ret_members);
    *ret_count = c.count;
    return 0;
}

void host_each_found_entry(const struct raft_host *h, uint64_t gid, host_entry_cb cb, void *arg)
{
    const struct raft_group *g = find(h, gid);
    for (size_t i = 0; g != NULL && i < g->suffix_count; i++) {
        const struct raft_entry *e = &g->suffix[i];
        if (e->type == RAFT_COMMAND) {
            cb(arg, g->suffix_first + i, slice_of(e->buf.base, e->buf.len));
        }
    }
}

int host_recover_group(struct raft_host *h, uint64_t gid, const struct slice *entries,
                       unsigned count)
{
    struct raft_group *g = find(h, gid);
    struct group_member members[HOST_MEMBERS_MAX];
    unsigned members_count;
    int rv = g == NULL ? ERR_NOTFOUND : host_found_members(h, gid, members, &members_count);
    if (rv != 0) {
        return rv;
    }
    if (g->is_open || g->is_broken) {
        return ERR_INVALID;
    }
    struct conf alone = {.count = 1};
    alone.members[0] = (struct group_member){g->raft_id, h->opt.node_id, GROUP_VOTER};
    struct buf conf = BUF_EMPTY;
    conf_encode(&alone, &conf);

    uint64_t last_term = g->suffix_count > 0 ? g->suffix[g->suffix_count - 1].term : g->base.term;
    g->term = (g->term > last_term ? g->term : last_term) + 1;
    g->voted_for = g->raft_id;
    log_put_meta(g);
    struct raft_entry *list = xcalloc(count + 1, sizeof *list);
    list[0].type = RAFT_CHANGE;
    list[0].buf = (struct raft_buffer){conf.ptr, conf.len};
    for (unsigned i = 0; i < count; i++) {
        list[i + 1].type = RAFT_COMMAND;
        list[i + 1].buf = (struct raft_buffer){(void *)(uintptr_t)entries[i].ptr, entries[i].len};
    }
    for (unsigned i = 0; i <= count; i++) {
        list[i].term = g->term;
    }
    log_put_entries(g, RECORD_APPEND, g->last_index + 1, list, count + 1);
    g->is_suspect = g->is_newcomer = g->is_doubtful = false;
    log_put_suspect(g);
    free(list);
    buf_close(&conf);
    return 0;
}
