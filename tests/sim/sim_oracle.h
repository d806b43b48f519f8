/* What must be true after every event, whatever happened.
 *
 * The oracles see more than any node does: the entries that were ever committed, what each node has
 * queued for its disk and what is on it. They learn of it from outside the code under test: records
 * as they enter the WAL, LSNs as they become durable, what recovery reads again. The first
 * violation is kept; the run then ends.
 *
 * Indexes, terms and LSNs are the engine's. Replicas and nodes are the same here: each node has one
 * replica of each group. */
#ifndef TESTS_SIM_ORACLE_H
#define TESTS_SIM_ORACLE_H
#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_log.h"
#include "tests/sim/sim_run.h"

/* A record of the shared log, as far as it concerns one group. */
enum sim_record_kind {
    SIM_RECORD_ENTRIES,  /* index, entries, entries_count; what was above is replaced. */
    SIM_RECORD_CARRY,    /* The same entries, written again: nothing is replaced. */
    SIM_RECORD_TRUNCATE, /* index: it and all above go. */
    SIM_RECORD_VOTE,     /* term, vote. */
    SIM_RECORD_BASE,     /* index, term: the store holds all up to here. */
    SIM_RECORD_RESET,    /* index, term: an image replaced the log. */
    SIM_RECORD_DELETE,   /* The replica is destroyed; another may follow. */
};

struct sim_record {
    enum sim_record_kind kind;
    unsigned group;
    uint64_t lsn;
    uint64_t index;
    uint64_t term;
    uint64_t vote;
    struct sim_entry *entries; /* Owned by the oracle once it is given. */
    unsigned entries_count;
};

struct sim_oracle;

struct sim_oracle *sim_oracle_new(const struct sim_plan *plan, struct sim_clock *clock,
                                  struct sim_result *result);
void sim_oracle_free(struct sim_oracle *o);

/* The first violation wins; later ones are dropped. */
void sim_oracle_fail(struct sim_oracle *o, const char *oracle, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool sim_oracle_has_failed(const struct sim_oracle *o);

/* ---- The disk ---- */

/* @node queued a record; its entries now belong to the oracle. */
void sim_oracle_record(struct sim_oracle *o, unsigned node, struct sim_record record);
/* All records of @node up to @lsn are on its disk. */
void sim_oracle_durable(struct sim_oracle *o, unsigned node, uint64_t lsn);
/* The store of @node holds all of @group up to @index durably, its state there is @hash. */
void sim_oracle_base(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index,
                     uint64_t term, uint64_t hash);
/* @node gives up all records below @lsn. */
void sim_oracle_trim(struct sim_oracle *o, unsigned node, uint64_t lsn);
/* The disk of @node lost all of @group, and nobody expects it back. */
void sim_oracle_forget(struct sim_oracle *o, unsigned node, unsigned group);
/* The process ended; what was only queued may be gone. */
void sim_oracle_crash(struct sim_oracle *o, unsigned node);
/* Recovery reads: the records it gives are fed between begin and end. Unless damage was planted,
 * nothing that was durable may be missing. */
void sim_oracle_replay_begin(struct sim_oracle *o, unsigned node);
void sim_oracle_replay_end(struct sim_oracle *o, unsigned node, bool is_damaged);

/* ---- The replicas, as they look after an event ---- */

struct sim_view {
    bool is_leader;
    uint64_t term;
    uint64_t voted_for; /* 0: nobody. */
    uint64_t commit_index;
    /* Of the configuration its log ends with: the nodes where its voters still are, and how many
     * voters it has. 0 of them: all nodes. */
    uint32_t voters;
    uint32_t voters_lost; /* Were, until their disks were lost. */
    unsigned voters_count;
};

void sim_oracle_look(struct sim_oracle *o, unsigned node, unsigned group,
                     const struct sim_view *view);
/* The state machine of @node took this entry as @index; its state hash is then @state_hash. */
void sim_oracle_applied(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index,
                        struct sim_entry entry, uint64_t state_hash);
/* The state machine of @node was replaced by an image as of @index. */
void sim_oracle_image(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index,
                      uint64_t term, uint64_t state_hash);
/* @node told a client that its proposal @value is entry @index. */
void sim_oracle_ack(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index,
                    struct sim_entry entry);
/* @node told @peer a term or index over the network: its own must be durable. */
void sim_oracle_told(struct sim_oracle *o, unsigned node, unsigned group, uint64_t term);
/* @node told a leader that it has all up to @index: it must be durable. */
void sim_oracle_told_index(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index);
/* @node told a client that what entry @index holds is kept: it must be on a majority's disks. */
void sim_oracle_promise(struct sim_oracle *o, unsigned node, unsigned group, uint64_t index);

/* ---- The end ---- */

uint64_t sim_oracle_committed(const struct sim_oracle *o, unsigned group);
uint64_t sim_oracle_acked_max(const struct sim_oracle *o, unsigned group);
/* The state hash all replicas have at @index, 0 if nobody was there. */
uint64_t sim_oracle_state_hash(const struct sim_oracle *o, unsigned group, uint64_t index);
/* Every acked proposal is in the committed history, exactly once. @streams: bits of the groups
 * whose entries may be alike, because their messages are checked elsewhere. */
void sim_oracle_end(struct sim_oracle *o, unsigned streams);
/* How many distinct leaderships were seen since the last call with @is_reset. */
uint64_t sim_oracle_elections(const struct sim_oracle *o);
#endif
