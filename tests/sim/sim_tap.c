/* What the code under test writes and sends, told to the oracles. The linker turns the host's calls
 * of wal_append and wal_trim over to here (--wrap), so production code knows nothing of it. */
#include <stdlib.h>

#include "raft/frames.h"
#include "raft/records.h"
#include "tests/sim/sim_internal.h"

/* The one run of this process: the wrapped calls bring no context. */
static struct sim_run *tapped;

void sim_tap_run(struct sim_run *run)
{
    tapped = run;
}

const struct sim_members *sim_tapped_members(unsigned group)
{
    return &tapped->members[group];
}

static struct sim_node *node_of(const struct wal *w)
{
    for (unsigned i = 0; tapped != NULL && i < tapped->plan->nodes_count; i++) {
        if (tapped->nodes[i].wal == w && w != NULL) {
            return &tapped->nodes[i];
        }
    }
    return NULL;
}

/* A configuration's bytes end in padding, which may differ: only its kind counts. */
static struct sim_entry entry_of(const struct record_entry *e)
{
    if (e->type != RECORD_ENTRY_COMMAND) {
        return (struct sim_entry){.term = e->term, .hash = 3, .type = 2};
    }
    return (struct sim_entry){.term = e->term, .hash = sim_hash(e->bytes), .type = 1};
}

static void tap_entries(struct sim_node *n, struct sim_record *to, struct record *rec)
{
    to->entries = xcalloc(rec->count, sizeof *to->entries);
    struct record_entry e;
    while (record_entry_next(rec, &e) == 0) {
        to->entries[to->entries_count++] = entry_of(&e);
    }
    sim_oracle_record(n->run->oracle, n->number, *to);
}

void sim_tap_record(struct sim_node *n, uint64_t lsn, uint8_t type, uint64_t gid,
                    struct slice payload)
{
    struct record rec;
    if (type < WAL_TYPE_HOST_MIN || sim_group_of(gid) >= n->run->plan->groups_count) {
        return;
    }
    if (record_decode(type, payload, &rec) != 0) {
        sim_fail(n->run, "RECORD", "node %u: a record of type %u does not decode", n->number, type);
        return;
    }
    struct sim_record to = {.group = sim_group_of(gid), .lsn = lsn};
    sim_note(
        &n->run->clock,
        "record node %u group %u lsn %llu type %u index %llu count %llu term %llu base %llu/%llu",
        n->number, to.group, (unsigned long long)lsn, type, (unsigned long long)rec.index,
        (unsigned long long)rec.count, (unsigned long long)rec.term,
        (unsigned long long)rec.base.index, (unsigned long long)rec.base.term);
    switch (rec.type) {
    case RECORD_APPEND:
        to.kind = SIM_RECORD_ENTRIES;
        to.index = rec.index;
        tap_entries(n, &to, &rec);
        return;
    case RECORD_CARRY:
    case RECORD_AGAIN:
        to.kind = SIM_RECORD_CARRY;
        to.index = rec.index;
        tap_entries(n, &to, &rec);
        return;
    case RECORD_TRUNCATE:
        to.kind = SIM_RECORD_TRUNCATE;
        to.index = rec.index;
        break;
    case RECORD_META:
    case RECORD_CHECKPOINT:
        to.kind = SIM_RECORD_VOTE;
        to.term = rec.term;
        to.vote = rec.voted_for;
        break;
    case RECORD_RESET:
        to.kind = SIM_RECORD_RESET;
        to.index = rec.base.index;
        to.term = rec.base.term;
        break;
    case RECORD_DELETE:
        to.kind = SIM_RECORD_DELETE;
        break;
    case RECORD_BASE:
    case RECORD_IMAGE:
    case RECORD_CREATE:
    case RECORD_SUSPECT:
    case RECORD_BROKEN:
        return;
    }
    sim_oracle_record(n->run->oracle, n->number, to);
}

uint64_t __real_wal_append(struct wal *w, uint8_t type, uint64_t gid, const struct slice *parts,
                           unsigned parts_count);
uint64_t __wrap_wal_append(struct wal *w, uint8_t type, uint64_t gid, const struct slice *parts,
                           unsigned parts_count);

static void told(struct sim_node *n, uint64_t lsn, uint8_t type, uint64_t gid,
                 const struct slice *parts, unsigned parts_count)
{
    struct buf b = BUF_EMPTY;
    for (unsigned i = 0; i < parts_count; i++) {
        buf_append_slice(&b, parts[i]);
    }
    sim_tap_record(n, lsn, type, gid, buf_slice(&b));
    buf_close(&b);
}

/* SIM_PLANTED_VOTE_NOT_KEPT: the oracles hear of the vote, the disk does not. */
static uint64_t append_without_vote(struct sim_node *n, uint8_t type, uint64_t gid,
                                    const struct slice *parts, unsigned parts_count)
{
    struct record rec;
    struct buf b = BUF_EMPTY;
    struct slice kept;
    if (parts_count == 1 && record_decode(type, parts[0], &rec) == 0) {
        if (type == RECORD_META) {
            record_put_meta(&b, rec.term, 0);
        } else if (type == RECORD_CHECKPOINT) {
            record_put_checkpoint(&b, rec.raft_id, rec.term, 0, rec.flags, &rec.base);
        }
    }
    kept = buf_slice(&b);
    uint64_t lsn = __real_wal_append(n->wal, type, gid, b.len > 0 ? &kept : parts, parts_count);
    told(n, lsn, type, gid, parts, parts_count);
    buf_close(&b);
    return lsn;
}

uint64_t __wrap_wal_append(struct wal *w, uint8_t type, uint64_t gid, const struct slice *parts,
                           unsigned parts_count)
{
    struct sim_node *n = node_of(w);
    if (n != NULL && n->run->options->planted == SIM_PLANTED_VOTE_NOT_KEPT) {
        return append_without_vote(n, type, gid, parts, parts_count);
    }
    uint64_t lsn = __real_wal_append(w, type, gid, parts, parts_count);
    if (n != NULL) {
        told(n, lsn, type, gid, parts, parts_count);
    }
    return lsn;
}

uint32_t __real_crc32c(uint32_t crc, const void *ptr, size_t len);
uint32_t __wrap_crc32c(uint32_t crc, const void *ptr, size_t len);
uint32_t __wrap_crc32c(uint32_t crc, const void *ptr, size_t len)
{
    bool is_skipped = tapped != NULL && tapped->options->planted == SIM_PLANTED_SKIP_CHECKSUM;
    return is_skipped ? 0 : __real_crc32c(crc, ptr, len);
}

void __real_wal_trim(struct wal *w, uint64_t lsn);
void __wrap_wal_trim(struct wal *w, uint64_t lsn);
void __wrap_wal_trim(struct wal *w, uint64_t lsn)
{
    struct sim_node *n = node_of(w);
    if (n != NULL) {
        __real_wal_trim(w, lsn);
        sim_oracle_trim(n->run->oracle, n->number, lsn);
        return;
    }
    __real_wal_trim(w, lsn);
}

/* The terms and indexes a frame tells must be durable. A pre-vote's term is a question. */
void sim_tap_frame(struct sim_node *n, struct slice frame)
{
    struct reader r;
    struct frame_item item;
    if (frame_open(frame, &r) != 0) {
        sim_fail(n->run, "FRAME", "node %u sends a malformed frame", n->number);
        return;
    }
    while (frame_next(&r, &item) == 0) {
        if (sim_group_of(item.gid) >= n->run->plan->groups_count) {
            continue;
        }
        unsigned group = sim_group_of(item.gid);
        bool is_term = item.kind == FRAME_ENTRIES || item.kind == FRAME_RESULT ||
                       item.kind == FRAME_TABLE || item.kind == FRAME_TIMEOUT_NOW ||
                       (item.kind == FRAME_VOTE && (item.flags & FRAME_VOTE_PRE) == 0) ||
                       (item.kind == FRAME_VOTE_RESULT && (item.flags & FRAME_RESULT_PRE) == 0);
        if (is_term) {
            sim_oracle_told(n->run->oracle, n->number, group, item.term);
        }
        if (item.kind == FRAME_RESULT && item.index == 0) {
            sim_oracle_told_index(n->run->oracle, n->number, group, item.last_index);
        }
    }
}
